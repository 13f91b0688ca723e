//! A table's mapping, compiled once and applied per item.

use std::borrow::Cow;

use base64::Engine as _;

use super::convert::{convert, literal};
use super::numeric::canonical_numeric;
use super::{Misfit, MisfitReason};
use crate::domain::plan::{Column, ColumnSource, ColumnType, Fallback, Table};
use crate::domain::value::{Attr, Cell, Item, Key};

/// One item, mapped: the main row and its child rows, borrowing from the item.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapped<'a> {
    /// The row's key as text.
    pub key: String,
    /// The key attributes as compact JSON, DynamoDB form: `{"bookId":{"S":"…"}}`.
    pub key_json: String,
    /// Cells in the plan's column order.
    pub row: Vec<Cell<'a>>,
    /// Child rows, one entry per child table in the plan's order.
    pub children: Vec<ChildRows<'a>>,
}

/// Rows of one child table.
pub type ChildRows<'a> = Vec<Vec<Cell<'a>>>;

/// A table's mapping, compiled once.
#[derive(Clone, Debug)]
pub struct TableMapping {
    key: Vec<String>,
    marker_prefix: String,
    columns: Vec<Compiled>,
    children: Vec<CompiledChild>,
}

#[derive(Clone, Debug)]
struct CompiledChild {
    list: Vec<String>,
    columns: Vec<Compiled>,
}

#[derive(Clone, Debug)]
struct Compiled {
    name: String,
    ty: ColumnType,
    from: From,
    absent: Absent,
    key: bool,
}

#[derive(Clone, Debug)]
enum From {
    Path(Vec<String>),
    Fixed(Result<Cell<'static>, MisfitReason>),
    Parent(String),
    Ordinal,
    Element,
}

#[derive(Clone, Debug)]
enum Absent {
    Null,
    Cell(Result<Cell<'static>, MisfitReason>),
    Misfit,
}

impl Compiled {
    fn new(column: &Column) -> Self {
        let from = match &column.from {
            ColumnSource::Attribute(path) => From::Path(path.clone()),
            ColumnSource::Constant(text) => From::Fixed(literal(text, column.ty)),
            ColumnSource::Parent(name) => From::Parent(name.clone()),
            ColumnSource::Ordinal => From::Ordinal,
            ColumnSource::Element => From::Element,
        };
        let absent = match &column.absent {
            Fallback::Null => Absent::Null,
            Fallback::Literal(text) => Absent::Cell(literal(text, column.ty)),
            Fallback::Required => Absent::Misfit,
        };
        Self { name: column.name.clone(), ty: column.ty, from, absent, key: column.key }
    }

    fn misfit(&self, reason: MisfitReason) -> Misfit {
        Misfit { column: self.name.clone(), reason }
    }

    fn cell<'a>(&self, attr: Option<&'a Attr<'_>>) -> Result<Cell<'a>, Misfit> {
        match attr {
            None | Some(Attr::Null) => match &self.absent {
                Absent::Null => Ok(Cell::Null),
                Absent::Cell(cell) => cell.clone().map_err(|r| self.misfit(r)),
                Absent::Misfit => Err(self.misfit(MisfitReason::Missing)),
            },
            Some(attr) => convert(attr, self.ty).map_err(|r| self.misfit(r)),
        }
    }
}

impl TableMapping {
    /// Compiles the mapping of a linted table.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        Self {
            key: table.key.clone(),
            marker_prefix: table.marker_prefix.clone(),
            columns: table.columns.iter().map(Compiled::new).collect(),
            children: table
                .children
                .iter()
                .map(|c| CompiledChild { list: c.list.clone(), columns: c.columns.iter().map(Compiled::new).collect() })
                .collect(),
        }
    }

    /// Whether this is one of our own marker items; gives the nonce.
    #[must_use]
    pub fn marker<'i>(&self, item: &'i Item<'_>) -> Option<&'i str> {
        match item.get(self.key.first()?)? {
            Attr::Str(s) if !self.marker_prefix.is_empty() => s.strip_prefix(self.marker_prefix.as_str()),
            _ => None,
        }
    }

    /// The item's key as text and as JSON, for the ledger. Missing key attributes are a misfit.
    pub fn key(&self, item: &Item<'_>) -> Result<(Key, String), Misfit> {
        let mut text = String::new();
        let mut json = String::new();
        self.write_key(item, &mut text, &mut json)?;
        Ok((Key(text), json))
    }

    fn write_key(&self, item: &Item<'_>, text: &mut String, json: &mut String) -> Result<(), Misfit> {
        let misfit = |name: &str, reason| Misfit { column: name.to_owned(), reason };
        json.push('{');
        for (i, name) in self.key.iter().enumerate() {
            if i > 0 {
                text.push('|');
                json.push(',');
            }
            let attr = item.get(name).ok_or_else(|| misfit(name, MisfitReason::Missing))?;
            let part: Cow<'_, str> = match attr {
                Attr::Str(s) => Cow::Borrowed(s),
                Attr::Num(n) => canonical_numeric(n).ok_or_else(|| misfit(name, MisfitReason::Unparsable))?,
                Attr::Bin(b) => Cow::Owned(base64::engine::general_purpose::STANDARD.encode(b)),
                _ => return Err(misfit(name, MisfitReason::WrongType)),
            };
            text.push_str(&part);
            let quoted = |s: &str| serde_json::to_string(s).unwrap_or_default();
            json.push_str(&quoted(name));
            json.push_str(":{\"");
            json.push_str(attr.kind());
            json.push_str("\":");
            json.push_str(&quoted(&part));
            json.push('}');
        }
        json.push('}');
        Ok(())
    }

    /// Cells of the target's primary key columns, in column order, from an item that holds at least the key.
    pub fn row_key(&self, key: &Item<'_>) -> Result<Vec<Cell<'static>>, Misfit> {
        self.columns
            .iter()
            .filter(|c| c.key)
            .map(|c| match &c.from {
                From::Path(path) => c.cell(follow(key, path)).map(Cell::into_owned),
                From::Fixed(cell) => cell.clone().map_err(|r| c.misfit(r)),
                _ => Err(c.misfit(MisfitReason::WrongType)),
            })
            .collect()
    }

    /// Maps one item. `out` is reused from item to item: cleared first, capacity kept.
    pub fn map<'a>(&self, item: &'a Item<'_>, out: &mut Mapped<'a>) -> Result<(), Misfit> {
        out.key.clear();
        out.key_json.clear();
        out.row.clear();
        for rows in &mut out.children {
            rows.clear();
        }
        out.children.resize_with(self.children.len(), Vec::new);
        self.write_key(item, &mut out.key, &mut out.key_json)?;
        for column in &self.columns {
            let cell = match &column.from {
                From::Path(path) => column.cell(follow(item, path))?,
                From::Fixed(cell) => cell.clone().map_err(|r| column.misfit(r))?,
                From::Parent(_) | From::Ordinal | From::Element => {
                    return Err(column.misfit(MisfitReason::WrongType));
                }
            };
            out.row.push(cell);
        }
        for (child, rows) in self.children.iter().zip(&mut out.children) {
            child.rows(item, rows)?;
        }
        Ok(())
    }
}

impl CompiledChild {
    fn rows<'a>(&self, item: &'a Item<'_>, rows: &mut ChildRows<'a>) -> Result<(), Misfit> {
        let list = match follow(item, &self.list) {
            None | Some(Attr::Null) => return Ok(()),
            Some(Attr::List(list)) => list,
            Some(_) => {
                return Err(Misfit { column: self.list.join("."), reason: MisfitReason::WrongType });
            }
        };
        for (ordinal, element) in list.iter().enumerate() {
            let cells = self.columns.iter().map(|column| match &column.from {
                From::Path(path) => match element {
                    Attr::Map(entries) => column.cell(descend(entries, path)),
                    _ => Err(column.misfit(MisfitReason::WrongType)),
                },
                From::Fixed(cell) => cell.clone().map_err(|r| column.misfit(r)),
                From::Parent(name) => column.cell(item.get(name)),
                From::Ordinal => Ok(Cell::Int(i64::try_from(ordinal).unwrap_or(i64::MAX))),
                From::Element => column.cell(Some(element)),
            });
            rows.push(cells.collect::<Result<_, _>>()?);
        }
        Ok(())
    }
}

/// The attribute a path leads to.
fn follow<'i, 'a>(item: &'i Item<'a>, path: &[String]) -> Option<&'i Attr<'a>> {
    descend(&item.attrs, path)
}

fn descend<'i, 'a>(entries: &'i [(Cow<'a, str>, Attr<'a>)], path: &[String]) -> Option<&'i Attr<'a>> {
    let (first, rest) = path.split_first()?;
    let attr = entries.iter().find(|(name, _)| name == first).map(|(_, v)| v)?;
    match (rest.is_empty(), attr) {
        (true, attr) => Some(attr),
        (false, Attr::Map(inner)) => descend(inner, rest),
        (false, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::ChildTable;

    fn column(name: &str, ty: ColumnType, from: ColumnSource, absent: Fallback) -> Column {
        Column { name: name.into(), ty, key: name == "id", from, absent }
    }
    fn path(p: &str) -> ColumnSource {
        ColumnSource::Attribute(p.split('.').map(str::to_owned).collect())
    }

    fn orders() -> Table {
        Table {
            id: "orders".into(),
            source: "Orders".into(),
            target: "orders".into(),
            key: vec!["orderId".into()],
            columns: vec![
                column("id", ColumnType::Text, path("orderId"), Fallback::Required),
                column("city", ColumnType::Text, path("shipping.city"), Fallback::Null),
                column("status", ColumnType::Text, path("status"), Fallback::Literal("new".into())),
                column("origin", ColumnType::Text, ColumnSource::Constant("v1".into()), Fallback::Null),
            ],
            children: vec![ChildTable {
                target: "order_items".into(),
                list: vec!["items".into()],
                parent_key: vec!["order_id".into()],
                columns: vec![
                    column("order_id", ColumnType::Text, ColumnSource::Parent("orderId".into()), Fallback::Required),
                    column("position", ColumnType::Integer, ColumnSource::Ordinal, Fallback::Required),
                    column("quantity", ColumnType::Integer, path("quantity"), Fallback::Required),
                ],
            }],
            foreign_keys: vec![],
            ttl: None,
            marker_prefix: "cutover#".into(),
            ddl: None,
        }
    }

    fn order(id: &str, quantity: &str) -> Item<'static> {
        let item = Attr::Map(vec![("quantity".into(), Attr::Num(quantity.to_owned().into()))]);
        Item {
            attrs: vec![
                ("orderId".into(), Attr::Str(id.to_owned().into())),
                ("shipping".into(), Attr::Map(vec![("city".into(), Attr::Str("Oslo".into()))])),
                ("items".into(), Attr::List(vec![item.clone(), item])),
            ],
        }
    }

    #[test]
    fn an_item_becomes_a_row_and_its_children() {
        let mapping = TableMapping::new(&orders());
        let (good, bad) = (order("o-1", "2"), order("o-2", "2.5"));
        let mut out = Mapped::default();
        mapping.map(&good, &mut out).unwrap();
        assert_eq!((out.key.as_str(), out.key_json.as_str()), ("o-1", r#"{"orderId":{"S":"o-1"}}"#));
        let t = |s: &'static str| Cell::Text(s.into());
        assert_eq!(out.row, vec![t("o-1"), t("Oslo"), t("new"), t("v1")]);
        assert_eq!(out.children[0][1], vec![t("o-1"), Cell::Int(1), Cell::Int(2)]);
        let misfit = mapping.map(&bad, &mut out).unwrap_err();
        assert_eq!(misfit, Misfit { column: "quantity".into(), reason: MisfitReason::NumberRange });
        assert_eq!(out.key, "o-2", "the key is known even when the row does not fit");
    }

    #[test]
    fn missing_keys_and_markers_are_seen() {
        let mapping = TableMapping::new(&orders());
        let marker = Item { attrs: vec![("orderId".into(), Attr::Str("cutover#abc".into()))] };
        assert_eq!(mapping.marker(&marker), Some("abc"));
        assert_eq!(mapping.marker(&order("o-1", "1")), None);
        let misfit = mapping.map(&Item::default(), &mut Mapped::default()).unwrap_err();
        assert_eq!(misfit.reason, MisfitReason::Missing);
        assert_eq!(mapping.row_key(&order("o-1", "1")).unwrap(), vec![Cell::Text("o-1".into())]);
    }
}
