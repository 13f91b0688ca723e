//! The compiled mapping of one table.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::convert::{convert, literal};
use super::json::push_json_text;
use super::key;
use super::numeric::{by_value, canonical};
use super::{Misfit, MisfitReason};
use crate::domain::plan::{Column, ColumnSource, ColumnType, Fallback, Table};
use crate::domain::value::{Attr, Cell, Item, Key};

/// One item, mapped: the main row and its child rows, borrowing from the page the item came in.
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
    children: Vec<Child>,
}

#[derive(Clone, Debug)]
struct Compiled {
    name: String,
    ty: ColumnType,
    from: From,
    absent: Absent,
    key: bool,
    /// Whether this column tells one key of the source from all others: then its values must come back as they are.
    tells_keys_apart: bool,
}

#[derive(Clone, Debug)]
enum From {
    Path { first: String, rest: Vec<String>, in_key: bool },
    Constant(Result<Cell<'static>, MisfitReason>),
    Parent(String),
    Ordinal,
    Element,
}

#[derive(Clone, Debug)]
enum Absent {
    Cell(Cell<'static>),
    Misfit(MisfitReason),
}

#[derive(Clone, Debug)]
struct Child {
    target: String,
    list: Vec<String>,
    columns: Vec<Compiled>,
}

/// What a column's value is taken from.
struct Scope<'s, 'p> {
    item: &'s Item<'p>,
    /// The list element and its place, in a child table.
    element: Option<(&'s Attr<'p>, usize)>,
}

impl TableMapping {
    /// Compiles the mapping of a linted table. A literal that does not convert becomes a misfit of the rows
    /// that need it; [`TableMapping::problems`] lists such literals beforehand.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        let compile = |columns: &[Column]| columns.iter().map(|c| Compiled::new(c, &table.key)).collect();
        let mut columns: Vec<Compiled> = compile(&table.columns);
        // The first one of each attribute, which is the one the way back reads.
        for attribute in &table.key {
            let whole =
                |from: &From| matches!(from, From::Path { first, rest, .. } if first == attribute && rest.is_empty());
            if let Some(column) = columns.iter_mut().find(|c| c.key && whole(&c.from)) {
                column.tells_keys_apart = true;
            }
        }
        Self {
            key: table.key.clone(),
            marker_prefix: table.marker_prefix.clone(),
            columns,
            children: table
                .children
                .iter()
                .map(|c| Child { target: c.target.clone(), list: c.list.clone(), columns: compile(&c.columns) })
                .collect(),
        }
    }

    /// Literals and constants that do not convert to their column's type, for the plan's lint.
    #[must_use]
    pub fn problems(&self) -> Vec<Misfit> {
        let children = self.children.iter().flat_map(|c| c.columns.iter().map(move |col| (Some(c), col)));
        self.columns
            .iter()
            .map(|col| (None, col))
            .chain(children)
            .filter_map(|(child, col)| {
                let reason = match (&col.from, &col.absent) {
                    (From::Constant(Err(reason)), _) => *reason,
                    (_, Absent::Misfit(reason)) if *reason != MisfitReason::Missing => *reason,
                    _ => return None,
                };
                Some(Misfit::new(column_name(child, &col.name), reason))
            })
            .collect()
    }

    /// Key columns of which some source values cannot come back as they are written.
    pub fn may_fold(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|c| c.tells_keys_apart && key::may_fold(c.ty)).map(|c| c.name.as_str())
    }

    /// Whether this is one of our own marker items; gives the nonce.
    #[must_use]
    pub fn marker<'i>(&self, item: &'i Item<'_>) -> Option<&'i str> {
        if self.marker_prefix.is_empty() {
            return None;
        }
        match item.get(self.key.first()?)? {
            Attr::Str(s) => s.strip_prefix(self.marker_prefix.as_str()),
            _ => None,
        }
    }

    /// The item's key as text and as JSON, for the ledger. Missing key attributes are a misfit.
    pub fn key(&self, item: &Item<'_>) -> Result<(Key, String), Misfit> {
        let (mut text, mut json) = (String::new(), String::new());
        self.write_key(item, &mut text, &mut json)?;
        Ok((Key(text), json))
    }

    /// Cells of the target's primary key columns, in column order, from an item that holds at least the key.
    ///
    /// A key that does not come back as it is written has no row: the one its cells would find is another key's.
    ///
    /// A key column that is not made of source key attributes cannot be told from a key alone: when its
    /// attribute is absent that is a misfit even if the plan has a fallback, because the fallback may be
    /// another row's key.
    pub fn row_key(&self, key: &Item<'_>) -> Result<Vec<Cell<'static>>, Misfit> {
        let scope = Scope { item: key, element: None };
        let mut cells = Vec::with_capacity(2);
        for column in self.columns.iter().filter(|c| c.key) {
            if let From::Path { first, in_key: false, .. } = &column.from
                && key.get(first).is_none()
            {
                return Err(misfit(None, &column.name, MisfitReason::Missing));
            }
            let cell = column.cell(&scope).map_err(|reason| misfit(None, &column.name, reason))?;
            cells.push(cell.into_owned());
        }
        Ok(cells)
    }

    /// Maps one item. `out` is reused from item to item: cleared first, capacity kept. When a column does
    /// not fit, `out.key` and `out.key_json` still hold the item's key.
    ///
    /// Cells borrow from the page, not from the item, so the item may be reused at once.
    pub fn map<'p>(&'p self, item: &Item<'p>, out: &mut Mapped<'p>) -> Result<(), Misfit> {
        out.key.clear();
        out.key_json.clear();
        out.row.clear();
        out.children.iter_mut().for_each(Vec::clear);
        self.write_key(item, &mut out.key, &mut out.key_json)?;
        let scope = Scope { item, element: None };
        for column in &self.columns {
            out.row.push(column.cell(&scope).map_err(|reason| misfit(None, &column.name, reason))?);
        }
        out.children.resize_with(self.children.len(), Vec::new);
        for (child, rows) in self.children.iter().zip(&mut out.children) {
            child.rows(item, rows)?;
        }
        Ok(())
    }

    fn write_key(&self, item: &Item<'_>, text: &mut String, json: &mut String) -> Result<(), Misfit> {
        let composite = self.key.len() > 1;
        json.push('{');
        for (i, name) in self.key.iter().enumerate() {
            if i > 0 {
                text.push('|');
                json.push(',');
            }
            push_json_text(json, name);
            json.push_str(":{\"");
            let attr = item.get(name).ok_or_else(|| misfit(None, name, MisfitReason::Missing))?;
            json.push_str(attr.kind());
            json.push_str("\":");
            match attr {
                Attr::Str(s) => {
                    push_key_part(text, s, composite);
                    push_json_text(json, s);
                }
                Attr::Num(n) => {
                    let number = canonical(n).ok_or_else(|| misfit(None, name, MisfitReason::Unparsable))?;
                    text.push_str(&number);
                    push_json_text(json, n);
                }
                Attr::Bin(b) => {
                    let encoded = STANDARD.encode(b);
                    text.push_str(&encoded);
                    push_json_text(json, &encoded);
                }
                Attr::Null => return Err(misfit(None, name, MisfitReason::Missing)),
                _ => return Err(misfit(None, name, MisfitReason::WrongType)),
            }
            json.push('}');
        }
        json.push('}');
        Ok(())
    }
}

/// Appends a text part of a key so that two different keys never read the same: the separator inside a part
/// and a NUL, which the ledger could not store, are escaped by a backslash.
fn push_key_part(out: &mut String, part: &str, composite: bool) {
    if !part.bytes().any(|b| matches!(b, b'\\' | 0 | b'|')) {
        out.push_str(part);
        return;
    }
    for c in part.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '|' if composite => out.push_str("\\|"),
            c => out.push(c),
        }
    }
}

impl Compiled {
    fn new(column: &Column, key: &[String]) -> Self {
        let from = match &column.from {
            ColumnSource::Attribute(path) => {
                let (first, rest) = path.split_first().map_or((String::new(), &[][..]), |(f, r)| (f.clone(), r));
                let in_key = key.contains(&first);
                From::Path { first, rest: rest.to_vec(), in_key }
            }
            ColumnSource::Constant(text) => From::Constant(literal(column.ty, text)),
            ColumnSource::Parent(name) => From::Parent(name.clone()),
            ColumnSource::Ordinal => From::Ordinal,
            ColumnSource::Element => From::Element,
        };
        let absent = match &column.absent {
            Fallback::Null => Absent::Cell(Cell::Null),
            Fallback::Literal(text) => literal(column.ty, text).map_or_else(Absent::Misfit, Absent::Cell),
            Fallback::Required => Absent::Misfit(MisfitReason::Missing),
        };
        Self { name: column.name.clone(), ty: column.ty, from, absent, key: column.key, tells_keys_apart: false }
    }

    fn cell<'p>(&'p self, scope: &Scope<'_, 'p>) -> Result<Cell<'p>, MisfitReason> {
        let attr = match &self.from {
            From::Path { first, rest, .. } => match scope.element {
                None => walk(scope.item.get(first), rest)?,
                Some((element, _)) => walk(field(element, first)?, rest)?,
            },
            From::Constant(cell) => return cell.as_ref().map(borrow).map_err(|reason| *reason),
            From::Parent(name) => scope.item.get(name),
            From::Ordinal => {
                let place = scope.element.map_or(0, |(_, place)| place).to_string();
                return convert(self.ty, &Attr::Num(Cow::Owned(place)));
            }
            From::Element => scope.element.map(|(element, _)| element),
        };
        match attr {
            None | Some(Attr::Null) => match &self.absent {
                Absent::Cell(cell) => Ok(borrow(cell)),
                Absent::Misfit(reason) => Err(*reason),
            },
            Some(attr) => {
                let cell = convert(self.ty, attr)?;
                // Every way a key takes goes through here: load, follow, comparison, repair and what is tried again.
                if self.tells_keys_apart && !key::comes_back(self.ty, attr, &cell) {
                    return Err(MisfitReason::KeyForm);
                }
                Ok(cell)
            }
        }
    }
}

impl Child {
    fn rows<'p>(&'p self, item: &Item<'p>, rows: &mut ChildRows<'p>) -> Result<(), Misfit> {
        let whole = |reason| misfit(Some(self), "-", reason);
        let list = match self.list.split_first() {
            Some((first, rest)) => walk(item.get(first), rest).map_err(whole)?,
            None => None,
        };
        match list {
            None | Some(Attr::Null) => Ok(()),
            Some(Attr::List(items)) => {
                items.iter().enumerate().try_for_each(|(place, element)| self.row(item, element, place, rows))
            }
            // A set has no order of its own; sorted, its ordinals are the same on every reading.
            Some(Attr::StrSet(set)) => {
                let mut sorted = set.clone();
                sorted.sort_unstable();
                self.set(item, sorted, Attr::Str, rows)
            }
            Some(Attr::NumSet(set)) => {
                let mut sorted = set.clone();
                sorted.sort_unstable_by(|a, b| match (canonical(a), canonical(b)) {
                    (Some(a), Some(b)) => by_value(&a, &b),
                    (a, b) => a.cmp(&b),
                });
                self.set(item, sorted, Attr::Num, rows)
            }
            Some(_) => Err(whole(MisfitReason::WrongType)),
        }
    }

    fn set<'p>(
        &'p self,
        item: &Item<'p>,
        values: Vec<Cow<'p, str>>,
        attr: fn(Cow<'p, str>) -> Attr<'p>,
        rows: &mut ChildRows<'p>,
    ) -> Result<(), Misfit> {
        values.into_iter().enumerate().try_for_each(|(place, value)| self.row(item, &attr(value), place, rows))
    }

    fn row<'p>(
        &'p self,
        item: &Item<'p>,
        element: &Attr<'p>,
        place: usize,
        rows: &mut ChildRows<'p>,
    ) -> Result<(), Misfit> {
        let scope = Scope { item, element: Some((element, place)) };
        let cells = self
            .columns
            .iter()
            .map(|column| column.cell(&scope).map_err(|reason| misfit(Some(self), &column.name, reason)))
            .collect::<Result<_, _>>()?;
        rows.push(cells);
        Ok(())
    }
}

/// The attribute at the end of a path; a step through something that is not a map does not convert.
fn walk<'s, 'p>(start: Option<&'s Attr<'p>>, rest: &[String]) -> Result<Option<&'s Attr<'p>>, MisfitReason> {
    let mut here = start;
    for name in rest {
        match here {
            None => return Ok(None),
            Some(attr) => here = field(attr, name)?,
        }
    }
    Ok(here)
}

fn field<'s, 'p>(attr: &'s Attr<'p>, name: &str) -> Result<Option<&'s Attr<'p>>, MisfitReason> {
    match attr {
        Attr::Map(entries) => Ok(entries.iter().find(|(n, _)| n == name).map(|(_, v)| v)),
        Attr::Null => Ok(None),
        _ => Err(MisfitReason::WrongType),
    }
}

/// A cell of the mapping's own, lent to a row.
fn borrow<'m>(cell: &'m Cell<'static>) -> Cell<'m> {
    match cell {
        Cell::Text(s) => Cell::Text(Cow::Borrowed(s)),
        Cell::Numeric(s) => Cell::Numeric(Cow::Borrowed(s)),
        Cell::Json(s) => Cell::Json(Cow::Borrowed(s)),
        Cell::Bytes(b) => Cell::Bytes(Cow::Borrowed(b)),
        other => other.clone(),
    }
}

fn column_name(child: Option<&Child>, column: &str) -> String {
    child.map_or_else(|| column.to_owned(), |c| format!("{}.{column}", c.target))
}

fn misfit(child: Option<&Child>, column: &str, reason: MisfitReason) -> Misfit {
    Misfit::new(column_name(child, column), reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::ChildTable;

    fn column(name: &str, ty: ColumnType, path: &[&str], absent: Fallback, key: bool) -> Column {
        let path = path.iter().map(|s| (*s).to_owned()).collect();
        Column { name: name.into(), ty, from: ColumnSource::Attribute(path), absent, key }
    }

    fn child(name: &str, ty: ColumnType, from: ColumnSource) -> Column {
        Column { name: name.into(), ty, from, absent: Fallback::Required, key: false }
    }

    fn orders() -> Table {
        use ColumnType::*;
        Table {
            id: "orders".into(),
            source: "CloudShelf-Orders".into(),
            target: "orders".into(),
            key: vec!["userId".into(), "orderNo".into()],
            columns: vec![
                column("user_id", Text, &["userId"], Fallback::Required, true),
                column("order_no", Bigint, &["orderNo"], Fallback::Required, true),
                column("city", Varchar(10), &["address", "city"], Fallback::Null, false),
                column("status", Varchar(10), &["status"], Fallback::Literal("new".into()), false),
                Column {
                    name: "origin".into(),
                    ty: Text,
                    from: ColumnSource::Constant("v1".into()),
                    absent: Fallback::Null,
                    key: false,
                },
            ],
            children: vec![
                ChildTable {
                    target: "order_items".into(),
                    list: vec!["items".into()],
                    columns: vec![
                        child("user_id", Text, ColumnSource::Parent("userId".into())),
                        child("place", Integer, ColumnSource::Ordinal),
                        child("book", Text, ColumnSource::Attribute(vec!["book".into(), "id".into()])),
                    ],
                    parent_key: vec!["user_id".into()],
                },
                ChildTable {
                    target: "order_tags".into(),
                    list: vec!["meta".into(), "tags".into()],
                    columns: vec![
                        child("place", Text, ColumnSource::Ordinal),
                        child("tag", Varchar(4), ColumnSource::Element),
                    ],
                    parent_key: vec![],
                },
            ],
            foreign_keys: vec![],
            ttl: None,
            marker_prefix: "~cutover~".into(),
            ddl: None,
            triggers: vec![],
        }
    }

    fn map(entries: &[(&'static str, Attr<'static>)]) -> Attr<'static> {
        Attr::Map(entries.iter().map(|(k, v)| (Cow::Borrowed(*k), v.clone())).collect())
    }

    fn s(text: &'static str) -> Attr<'static> {
        Attr::Str(text.into())
    }

    fn item(extra: &[(&'static str, Attr<'static>)]) -> Item<'static> {
        let mut attrs = vec![("userId".into(), s("ann")), ("orderNo".into(), Attr::Num("7.0".into()))];
        attrs.extend(extra.iter().map(|(k, v)| (Cow::Borrowed(*k), v.clone())));
        Item { attrs }
    }

    fn refused(item: &Item<'static>) -> (String, MisfitReason) {
        let mapping = TableMapping::new(&orders());
        let misfit = mapping.map(item, &mut Mapped::default()).unwrap_err();
        (misfit.column, misfit.reason)
    }

    #[test]
    fn a_row_and_its_children_come_out_in_plan_order() {
        let mapping = TableMapping::new(&orders());
        let mut out = Mapped::default();
        let full = item(&[
            ("address", map(&[("city", s("Köln"))])),
            ("status", s("paid")),
            (
                "items",
                Attr::List(vec![map(&[("book", map(&[("id", s("b1"))]))]), map(&[("book", map(&[("id", s("b2"))]))])]),
            ),
            ("meta", map(&[("tags", Attr::StrSet(vec!["z".into(), "a".into()]))])),
        ]);
        mapping.map(&full, &mut out).unwrap();
        assert_eq!(out.key, "ann|7");
        assert_eq!(out.key_json, r#"{"userId":{"S":"ann"},"orderNo":{"N":"7.0"}}"#);
        let t = |text: &'static str| Cell::Text(text.into());
        assert_eq!(out.row, vec![t("ann"), Cell::Int(7), t("Köln"), t("paid"), t("v1")]);
        assert_eq!(
            out.children,
            vec![
                vec![vec![t("ann"), Cell::Int(0), t("b1")], vec![t("ann"), Cell::Int(1), t("b2")]],
                vec![vec![t("0"), t("a")], vec![t("1"), t("z")]],
            ]
        );
        // The same buffer takes the next item and keeps nothing of the last one.
        mapping.map(&item(&[("status", Attr::Null)]), &mut out).unwrap();
        assert_eq!(out.row[2..4], [Cell::Null, t("new")]);
        assert_eq!(out.children, vec![Vec::<Vec<Cell<'_>>>::new(), vec![]]);
        assert_eq!(out.key, "ann|7");
    }

    #[test]
    fn rows_that_do_not_fit_name_the_column() {
        use MisfitReason::*;
        let tags = |attr| item(&[("meta", map(&[("tags", attr)]))]);
        for (item, column, reason) in [
            (Item { attrs: vec![("userId".into(), s("ann"))] }, "orderNo", Missing),
            (Item { attrs: vec![("userId".into(), Attr::Bool(true))] }, "userId", WrongType),
            (Item { attrs: vec![("userId".into(), Attr::Null)] }, "userId", Missing),
            (item(&[("address", s("Köln"))]), "city", WrongType),
            (item(&[("status", s("a\0"))]), "status", Nul),
            (item(&[("status", s("far too long"))]), "status", TooLong),
            (item(&[("items", s("x"))]), "order_items.-", WrongType),
            (item(&[("items", Attr::List(vec![s("x")]))]), "order_items.book", WrongType),
            (item(&[("items", Attr::List(vec![map(&[])]))]), "order_items.book", Missing),
            (item(&[("items", Attr::List(vec![Attr::Null]))]), "order_items.book", Missing),
            (tags(Attr::List(vec![s("abcde")])), "order_tags.tag", TooLong),
            (tags(Attr::List(vec![Attr::Null])), "order_tags.tag", Missing),
            (item(&[("meta", s("x"))]), "order_tags.-", WrongType),
        ] {
            assert_eq!(refused(&item), (column.to_owned(), reason), "{item:?}");
        }
    }

    #[test]
    fn a_misfit_leaves_the_key_to_park_it_by() {
        let mapping = TableMapping::new(&orders());
        let mut out = Mapped::default();
        mapping.map(&item(&[("status", s("a\0"))]), &mut out).unwrap_err();
        assert_eq!(out.key, "ann|7");
        assert_eq!(out.key_json, r#"{"userId":{"S":"ann"},"orderNo":{"N":"7.0"}}"#);
    }

    #[test]
    fn different_keys_never_read_the_same() {
        let mapping = TableMapping::new(&Table { key: vec!["a".into(), "b".into()], ..orders() });
        let key = |a: &'static str, b: &'static str| {
            mapping.key(&Item { attrs: vec![("b".into(), s(b)), ("a".into(), s(a))] }).unwrap().0.0
        };
        assert_eq!(key("x", "y"), "x|y");
        assert_eq!(key("x|", "y"), "x\\||y");
        assert_ne!(key("x|", "y"), key("x", "|y"));
        assert_ne!(key("x\\|", "y"), key("x\\", "|y"));
        assert_eq!(key("x\0", "y"), "x\\0|y");
        let single = TableMapping::new(&Table { key: vec!["a".into()], ..orders() });
        let item = Item { attrs: vec![("a".into(), s("x|y"))] };
        assert_eq!(single.key(&item).unwrap().0.0, "x|y");
        let item = Item { attrs: vec![("a".into(), Attr::Bin(vec![255u8, 0].into()))] };
        assert_eq!(single.key(&item).unwrap(), (Key("/wA=".into()), r#"{"a":{"B":"/wA="}}"#.into()));
    }

    #[test]
    fn a_delete_finds_its_row_by_key_alone() {
        let mapping = TableMapping::new(&orders());
        assert_eq!(mapping.row_key(&item(&[])).unwrap(), vec![Cell::Text("ann".into()), Cell::Int(7)]);
        let mut table = orders();
        table.columns[3].key = true;
        let mapping = TableMapping::new(&table);
        assert_eq!(mapping.row_key(&item(&[])).unwrap_err().reason, MisfitReason::Missing);
        assert_eq!(mapping.row_key(&item(&[("status", s("paid"))])).unwrap().len(), 3);
    }

    #[test]
    fn markers_are_told_by_their_prefix() {
        let mapping = TableMapping::new(&orders());
        let with = |key: &'static str| Item { attrs: vec![("userId".into(), s(key))] };
        assert_eq!(mapping.marker(&with("~cutover~n-1")), Some("n-1"));
        assert_eq!(mapping.marker(&with("ann")), None);
        assert_eq!(mapping.marker(&Item::default()), None);
        let none = TableMapping::new(&Table { marker_prefix: String::new(), ..orders() });
        assert_eq!(none.marker(&with("ann")), None);
    }

    #[test]
    fn literals_that_do_not_convert_are_listed() {
        let mut table = orders();
        assert_eq!(TableMapping::new(&table).problems(), vec![]);
        table.columns[3].absent = Fallback::Literal("longer than ten".into());
        table.children[1].columns[1].from = ColumnSource::Constant("a\0".into());
        let found: Vec<_> = TableMapping::new(&table).problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "status: text is longer than the column allows",
                "order_tags.tag: holds a NUL character, which PostgreSQL text cannot store"
            ]
        );
    }

    #[test]
    fn rows_borrow_from_the_page_not_from_the_item() {
        let page = String::from("ann");
        let mapping = TableMapping::new(&orders());
        let mut out = Mapped::default();
        let mut item = Item::default();
        for _ in 0..2 {
            item.attrs.clear();
            item.attrs.push(("userId".into(), Attr::Str(Cow::Borrowed(&page))));
            item.attrs.push(("orderNo".into(), Attr::Num(Cow::Borrowed("1"))));
            mapping.map(&item, &mut out).unwrap();
        }
        assert!(matches!(&out.row[0], Cell::Text(Cow::Borrowed("ann"))));
    }
}
