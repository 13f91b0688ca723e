//! One write, by itself or as an action of a transaction.

use serde_json::{Map, Value as Json, json};

use super::call::key_of;
use super::names::{BOOK, Place};

/// What is done to an item.
#[derive(Clone, Debug)]
enum What {
    /// It is replaced by this one, as JSON.
    Put(String),
    /// It is changed by this expression, or made.
    Update(String),
    /// It goes.
    Delete,
    /// It is only looked at.
    Check,
}

/// A write of one item. Expressions name every attribute as `#name`, which stands for `name`.
#[derive(Clone, Debug)]
pub(super) struct Write {
    table: String,
    /// The key, as JSON; empty for a put, whose item holds it.
    key: String,
    what: What,
    condition: Option<String>,
    /// What a `#name` stands for that is not an attribute called `name`.
    named: Option<(String, String)>,
    values: Map<String, Json>,
}

impl Write {
    fn of(table: &str, key: String, what: What) -> Self {
        Self { table: table.to_owned(), key, what, condition: None, named: None, values: Map::new() }
    }

    /// Puts an item of our bookkeeping.
    pub(super) fn put(place: &Place, attributes: Json) -> Self {
        let mut item = key_of(place);
        if let (Some(item), Json::Object(attributes)) = (item.as_object_mut(), attributes) {
            item.extend(attributes);
        }
        Self::of(BOOK, String::new(), What::Put(item.to_string()))
    }

    /// Changes an item of our bookkeeping: `SET #run = :run`.
    pub(super) fn update(place: &Place, expression: impl Into<String>) -> Self {
        Self::of(BOOK, key_of(place).to_string(), What::Update(expression.into()))
    }

    /// Deletes an item of our bookkeeping.
    pub(super) fn delete(place: &Place) -> Self {
        Self::of(BOOK, key_of(place).to_string(), What::Delete)
    }

    /// Looks at an item of our bookkeeping; give it a condition.
    pub(super) fn check(place: &Place) -> Self {
        Self::of(BOOK, key_of(place).to_string(), What::Check)
    }

    /// Puts a row, as JSON.
    pub(super) fn put_row(table: &str, item: &str) -> Self {
        Self::of(table, String::new(), What::Put(item.to_owned()))
    }

    /// Deletes a row by its key, as JSON.
    pub(super) fn delete_row(table: &str, key: &str) -> Self {
        Self::of(table, key.to_owned(), What::Delete)
    }

    /// Only if this holds: `#epoch = :epoch`.
    pub(super) fn when(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    /// Only if this holds, where `#short` stands for an attribute of any name.
    pub(super) fn when_named(self, condition: &str, short: &str, name: &str) -> Self {
        Self { named: Some((format!("#{short}"), name.to_owned())), ..self.when(condition) }
    }

    /// Only if this holds too.
    pub(super) fn and(mut self, condition: &str) -> Self {
        self.condition =
            Some(self.condition.map_or_else(|| condition.to_owned(), |c| format!("({c}) AND {condition}")));
        self
    }

    /// What `:name` stands for.
    pub(super) fn with(mut self, name: &str, value: Json) -> Self {
        self.values.insert(format!(":{name}"), value);
        self
    }

    /// The members of its request, without braces.
    fn push(&self, out: &mut String) {
        out.push_str(&format!("\"TableName\":{}", Json::from(self.table.as_str())));
        if !self.key.is_empty() {
            out.push_str(",\"Key\":");
            out.push_str(&self.key);
        }
        let mut names = Map::new();
        let mut expression = |member: &str, text: &str, out: &mut String| {
            names_of(text, &mut names);
            out.push_str(&format!(",\"{member}\":{}", Json::from(text)));
        };
        match &self.what {
            What::Put(item) => {
                out.push_str(",\"Item\":");
                out.push_str(item);
            }
            What::Update(text) => expression("UpdateExpression", text, out),
            What::Delete | What::Check => {}
        }
        if let Some(condition) = &self.condition {
            expression("ConditionExpression", condition, out);
        }
        if let Some((short, name)) = &self.named {
            names.insert(short.clone(), Json::from(name.as_str()));
        }
        if !names.is_empty() {
            out.push_str(&format!(",\"ExpressionAttributeNames\":{}", Json::Object(names)));
        }
        if !self.values.is_empty() {
            out.push_str(&format!(",\"ExpressionAttributeValues\":{}", json!(self.values)));
        }
    }

    /// As an action of a transaction.
    pub(super) fn push_action(&self, out: &mut String) {
        out.push_str(match self.what {
            What::Put(_) => "{\"Put\":{",
            What::Update(_) => "{\"Update\":{",
            What::Delete => "{\"Delete\":{",
            What::Check => "{\"ConditionCheck\":{",
        });
        self.push(out);
        out.push_str("}}");
    }

    /// As a request of its own: its operation and its body. A check alone is an update that changes nothing.
    pub(super) fn alone(&self) -> (&'static str, String) {
        let (operation, back) = match self.what {
            What::Put(_) => ("PutItem", "ALL_OLD"),
            What::Delete => ("DeleteItem", "ALL_OLD"),
            What::Update(_) | What::Check => ("UpdateItem", "ALL_NEW"),
        };
        let mut body = String::from("{");
        self.push(&mut body);
        body.push_str(&format!(",\"ReturnValues\":\"{back}\"}}"));
        (operation, body)
    }
}

/// Every `#name` of an expression.
fn names_of(expression: &str, names: &mut Map<String, Json>) {
    for part in expression.split('#').skip(1) {
        let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        names.insert(format!("#{name}"), Json::from(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::dynamodb::target::call::n;

    #[test]
    fn expressions_name_their_attributes() {
        let place = Place { pk: "a".into(), sk: "b".into() };
        let write = Write::update(&place, "SET #run = :run REMOVE #until").when("#epoch < :e").with("e", n(7));
        let (operation, body) = write.alone();
        let body: Json = serde_json::from_str(&body).unwrap();
        assert_eq!(operation, "UpdateItem");
        assert_eq!(body["ExpressionAttributeNames"], json!({"#run": "run", "#until": "until", "#epoch": "epoch"}));
        assert_eq!(body["Key"], json!({"pk": {"S": "a"}, "sk": {"S": "b"}}));
        let mut action = String::new();
        Write::put_row("t", r#"{"id":{"S":"x"}}"#).push_action(&mut action);
        let action: Json = serde_json::from_str(&action).unwrap();
        assert_eq!(action, json!({"Put": {"TableName": "t", "Item": {"id": {"S": "x"}}}}));
    }
}
