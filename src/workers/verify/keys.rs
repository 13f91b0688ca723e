//! Keys: from rows to digests, and from digests back to items.

use crate::domain::mapping::{Inverse, Kinds};
use crate::domain::plan::{StoreKind, Table};
use crate::domain::value::{Cell, OwnedRow, Record, Value};
use crate::domain::verify::{Digest, digest_cells};

/// Places of the key columns, and how a row's key leads back to the source's key.
#[derive(Debug)]
pub struct KeyColumns {
    places: Vec<usize>,
    inverse: Inverse,
    /// Per child table: places of the parent's key.
    children: Vec<Vec<usize>>,
}

impl KeyColumns {
    /// The key columns of a table that comes from a store of this kind, and those of its children.
    pub fn of(table: &Table, from: StoreKind) -> Self {
        let keyed = table.columns.iter().enumerate().filter(|(_, c)| c.key);
        let children = table
            .children
            .iter()
            .map(|child| {
                child.parent_key.iter().filter_map(|k| child.columns.iter().position(|c| c.name == *k)).collect()
            })
            .collect();
        Self {
            places: keyed.map(|(i, _)| i).collect(),
            // How items write their attributes need not be learned: a key has one way of being written.
            inverse: Inverse::new(table, if from.of_columns() { Kinds::of_columns() } else { Kinds::default() }),
            children,
        }
    }

    /// The digest of a main row's key.
    pub fn digest(&self, row: &[Cell<'_>]) -> Digest {
        pick(row, &self.places)
    }

    /// The key cells of a main row.
    pub fn cells(&self, row: &[Cell<'_>]) -> OwnedRow {
        self.places.iter().filter_map(|i| row.get(*i).cloned().map(Cell::into_owned)).collect()
    }

    /// The digest of a child row's parent key.
    pub fn parent(&self, child: usize, row: &[Cell<'_>]) -> Digest {
        pick(row, self.children.get(child).map_or(&[][..], Vec::as_slice))
    }

    /// The source's key, from the cells of a row's key. Every row of the target has an inverse: a key that would not be
    /// given back as it was written is never loaded.
    pub fn item(&self, key: &[Cell<'_>]) -> Option<Record<'static>> {
        self.inverse.key(key).ok()
    }
}

fn pick(row: &[Cell<'_>], places: &[usize]) -> Digest {
    digest_cells(places.iter().filter_map(|i| row.get(*i)))
}

/// A child row's weight in its parent's digest: order does not matter, which table does.
pub fn child_weight(child: usize, row: &[Cell<'_>]) -> Digest {
    digest_cells(row).wrapping_mul(2 * child as u128 + 3)
}

/// Key attributes from a key as it is shown: parts joined by `|`, with `\\`, `\|` and `\0` for what would be
/// mistaken. `schema` holds the attributes with their DynamoDB types.
pub fn parse(schema: &[(String, String)], text: &str) -> Option<Record<'static>> {
    let parts = split(text, schema.len() > 1);
    if parts.len() != schema.len() {
        return None;
    }
    let fields = schema
        .iter()
        .zip(parts)
        .map(|((name, ty), part)| {
            let attr = match ty.as_str() {
                "S" => Value::Text(part.into()),
                "N" => Value::Decimal(part.into()),
                "B" => {
                    use base64::Engine as _;
                    Value::Bytes(base64::engine::general_purpose::STANDARD.decode(part).ok()?.into())
                }
                _ => return None,
            };
            Some((name.clone().into(), attr))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Record { fields })
}

fn split(text: &str, composite: bool) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '|' if composite => {
                parts.push(String::new());
                continue;
            }
            '\\' => match chars.next() {
                Some('0') => '\0',
                Some(other) => other,
                None => '\\',
            },
            c => c,
        };
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mapping::TableMapping;
    use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback};

    #[test]
    fn a_shown_key_leads_back_to_its_attributes() {
        let schema = |types: &[&str]| -> Vec<(String, String)> {
            types.iter().enumerate().map(|(i, ty)| (format!("k{i}"), (*ty).to_owned())).collect()
        };
        let s = |text: &'static str| Value::Text(text.into());
        for (types, fields) in [
            (&["S"][..], vec![s("a|b")]),
            (&["S"], vec![s("a\\|\0b")]),
            (&["S", "S"], vec![s("x|"), s("\\y")]),
            (&["S", "N"], vec![s("ann"), Value::Decimal("7".into())]),
            (&["B", "S"], vec![Value::Bytes(vec![255u8, 0].into()), s("")]),
        ] {
            let schema = schema(types);
            let item = Record { fields: schema.iter().map(|(n, _)| n.clone().into()).zip(fields).collect() };
            let key = schema.iter().map(|(n, _)| n.clone()).collect();
            let table = Table { key, ..Table::watched("t", "T") };
            let (text, _) = TableMapping::new(&table).key(&item).unwrap();
            assert_eq!(parse(&schema, &text.0), Some(item), "{text}");
        }
        assert_eq!(parse(&schema(&["S", "S"]), "one"), None);
        assert_eq!(parse(&schema(&["S", "S"]), "one|two|three"), None);
    }

    #[test]
    fn a_row_s_key_leads_back_to_the_source_whatever_its_type() {
        let column = |ty: ColumnType| Column {
            name: "k".into(),
            ty,
            from: ColumnSource::Attribute(vec!["k".into()]),
            absent: Fallback::Required,
            key: true,
            declared: Declared::default(),
        };
        for (ty, cell) in [
            (ColumnType::Timestamptz, Cell::Timestamp(1_700_000_000_000_000)),
            (ColumnType::Date, Cell::Date(20_000)),
            (ColumnType::Boolean, Cell::Bool(true)),
            (ColumnType::Double, Cell::Float(1.5)),
            (ColumnType::Text, Cell::Text("a".into())),
            (ColumnType::Bigint, Cell::Int(7)),
            (ColumnType::Uuid, Cell::Uuid([7; 16])),
            (ColumnType::Bytea, Cell::Bytes(vec![1, 2].into())),
        ] {
            let table = Table { key: vec!["k".into()], columns: vec![column(ty)], ..Table::watched("t", "T") };
            for from in [StoreKind::Postgresql, StoreKind::Dynamodb] {
                let key = KeyColumns::of(&table, from).item(std::slice::from_ref(&cell));
                let back = key.and_then(|key| TableMapping::new(&table).row_key(&key).ok());
                assert_eq!(back, Some(vec![cell.clone()]), "{ty:?} {from:?}");
            }
        }
    }
}
