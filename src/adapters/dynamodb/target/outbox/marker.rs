//! Markers on the new side: items of ours that are put into a table and taken away again at once, to prove that what
//! was written before them has come through the table's stream.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::super::call::{Store, Tried};
use super::super::rows::key_type;
use super::spool::said;
use crate::domain::mapping::{MARK, mark, marker_number};
use crate::domain::plan::Table;
use crate::domain::value::{Record, Value};
use crate::ports::{ErrorKind, PortError, PortResult};

/// How the markers of a table are written.
#[derive(Clone, Debug)]
pub(in super::super) struct Markers {
    prefix: String,
    /// Names and types of the key's attributes.
    key: Vec<(String, &'static str)>,
}

impl Markers {
    /// Those of a linted table.
    pub(super) fn new(table: &Table) -> Self {
        let key = table.columns.iter().filter(|c| c.key);
        let key = key.map(|c| (c.name.clone(), key_type(c.ty).unwrap_or("S"))).collect();
        let prefix = if table.marker_prefix.is_empty() { "cutover-" } else { &table.marker_prefix };
        Self { prefix: prefix.to_owned(), key }
    }

    /// The key attributes of a marker, as JSON.
    fn key(&self, nonce: &str) -> serde_json::Map<String, serde_json::Value> {
        let text = format!("{}{nonce}", self.prefix);
        let each = |(name, ty): &(String, &'static str)| {
            let value = match *ty {
                "N" => json!({"N": marker_number(nonce)}),
                "B" => json!({"B": STANDARD.encode(&text)}),
                _ => json!({"S": text}),
            };
            (name.clone(), value)
        };
        self.key.iter().map(each).collect()
    }

    /// Whose marker a change is about, if it is about one.
    pub(super) fn nonce(&self, key: &Record<'_>, image: Option<&Record<'_>>) -> Option<String> {
        let nonce = mark(image?)?;
        let wanted = self.key(nonce);
        // A customer's item may have an attribute of that name; it does not have the key.
        let same = |(name, value): &(std::borrow::Cow<'_, str>, Value<'_>)| {
            wanted.get(name.as_ref()).map(ToString::to_string) == said(value)
        };
        (key.fields.len() == wanted.len() && key.fields.iter().all(same)).then(|| nonce.to_owned())
    }

    /// Puts a marker and takes it away again.
    pub(in super::super) async fn send(
        &self,
        store: &Store,
        target: &str,
        nonce: &str,
        at: Tried<'_>,
    ) -> PortResult<()> {
        let key = self.key(nonce);
        let mut item = key.clone();
        item.insert(MARK.to_owned(), json!({"S": nonce}));
        // Nobody else's item is ever overwritten.
        let body = json!({
            "TableName": target, "Item": item,
            "ConditionExpression": "attribute_not_exists(#k) OR #m = :n",
            "ExpressionAttributeNames": {"#k": self.first(at)?, "#m": MARK},
            "ExpressionAttributeValues": {":n": {"S": nonce}},
        });
        store.call("PutItem", &body, at).await?;
        self.remove(store, target, nonce, at).await
    }

    /// Takes a marker away, if it is there.
    pub(super) async fn remove(&self, store: &Store, target: &str, nonce: &str, at: Tried<'_>) -> PortResult<()> {
        let key = self.key(nonce);
        let body = json!({
            "TableName": target, "Key": key,
            "ConditionExpression": "#m = :n",
            "ExpressionAttributeNames": {"#m": MARK},
            "ExpressionAttributeValues": {":n": {"S": nonce}},
        });
        match store.call("DeleteItem", &body, at).await {
            Ok(_) => Ok(()),
            // An attempt whose answer was lost has removed it.
            Err(e) if e.came_back.starts_with("ConditionalCheckFailed") => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn first(&self, (tried, on): Tried<'_>) -> PortResult<&str> {
        let none = || PortError::new(ErrorKind::Invalid, tried, on, "the plan gives the table no key");
        self.key.first().map(|(name, _)| name.as_str()).ok_or_else(none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback};

    #[test]
    fn a_marker_is_known_by_its_key_and_by_its_mark() {
        let column = |name: &str, ty| Column {
            name: name.to_owned(),
            ty,
            from: ColumnSource::Attribute(vec![name.to_owned()]),
            absent: Fallback::Null,
            key: true,
            declared: Declared::default(),
        };
        let columns = vec![column("id", ColumnType::Text), column("no", ColumnType::Bigint)];
        let markers = Markers::new(&Table { columns, marker_prefix: "m#".into(), ..Table::watched("t", "T") });
        let text = |t: &str| Value::Text(t.to_owned().into());
        let key = Record {
            fields: vec![("no".into(), Value::Decimal(marker_number("1").into())), ("id".into(), text("m#1"))],
        };
        let with = |nonce: &str| Record { fields: vec![(MARK.into(), text(nonce))] };
        assert_eq!(markers.nonce(&key, Some(&with("1"))).as_deref(), Some("1"));
        assert_eq!(markers.nonce(&key, Some(&with("2"))), None, "another key");
        assert_eq!(markers.nonce(&key, Some(&Record { fields: vec![] })), None, "a customer's item");
        assert_eq!(markers.nonce(&key, None), None);
    }
}
