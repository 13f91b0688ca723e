//! What a sample of items shows of a mapping: attributes that no item has, attributes that no column holds, values that
//! would be parked, and what the numbers in columns of moments seem to count. Nothing of it holds a value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::RowErrorReason;
use super::convert::{Format, convert};
use super::kinds::Kinds;
use super::numeric::canonical;
use super::table::walk;
use super::time::plausible_unit;
use crate::domain::plan::{ChildTable, Column, ColumnSource, ColumnType, Table, Unit, path_text};
use crate::domain::value::{Record, Value};

/// What was seen of a table's items so far.
#[derive(Clone, Debug)]
pub struct Sampled {
    table: Table,
    items: u64,
    columns: Vec<Asked>,
    lists: Vec<List>,
    kinds: Kinds,
}

/// A list whose elements are rows, and what their columns take from an element.
#[derive(Clone, Debug)]
struct List {
    whole: Asked,
    columns: Vec<Asked>,
}

/// One attribute that the mapping asks for, and what was found.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The column that asks: `isbn`, `order_items.title`; the child table itself for its list.
    pub column: String,
    /// Where the table's section of the config says so: `columns.isbn`, `children[0].columns.title`, `children[0]`.
    pub place: String,
    /// The path as written in the config; inside an element for a child's column.
    pub path: String,
    /// Items, or elements of a list, that were read.
    pub of: u64,
    /// Those that have the attribute; a null is none.
    pub present: u64,
    /// Values that would park their row, by reason.
    pub refused: BTreeMap<RowErrorReason, u64>,
    /// Numbers that stand for moments.
    pub numbers: u64,
    /// Those that are a plausible moment in one unit, by that unit.
    pub units: BTreeMap<Unit, u64>,
    /// Whether the config says that a sample may show none.
    pub sparse: bool,
    names: Vec<String>,
    format: Option<Format>,
}

impl Asked {
    fn new(column: String, place: String, names: &[String], format: Option<Format>, sparse: bool) -> Self {
        let (refused, units, path) = (BTreeMap::new(), BTreeMap::new(), path_text(names));
        let names = names.to_vec();
        Self { column, place, path, of: 0, present: 0, refused, numbers: 0, units, sparse, names, format }
    }

    /// What a column takes from items or elements; `None` when it takes nothing from them.
    fn of_column(column: &Column, child: Option<(usize, &str)>) -> Option<Self> {
        let names = match &column.from {
            ColumnSource::Attribute(names) => names.as_slice(),
            ColumnSource::Element => &[],
            ColumnSource::Constant(_) | ColumnSource::Parent(_) | ColumnSource::Ordinal | ColumnSource::Whole => {
                return None;
            }
        };
        let (name, within) = match child {
            None => (column.name.clone(), String::new()),
            Some((n, child)) => (format!("{child}.{}", column.name), format!("children[{n}].")),
        };
        let place = format!("{within}columns.{}", column.name);
        Some(Self::new(name, place, names, Some(Format::of(column)), column.declared.sparse))
    }

    /// Whether it stands in the record itself, and not within one of its attributes or elements.
    #[must_use]
    pub fn is_top(&self) -> bool {
        self.names.len() == 1 && !self.column.contains('.')
    }

    /// Whether something was read and none of it has the attribute.
    #[must_use]
    pub const fn never(&self) -> bool {
        self.of > 0 && self.present == 0
    }

    fn look(&mut self, found: Result<Option<&Value<'_>>, RowErrorReason>) {
        self.of += 1;
        let converted = match found {
            Ok(None | Some(Value::Null)) => return,
            Ok(Some(attr)) => self.value(attr),
            // Something else stands in the way.
            Err(reason) => Err(reason),
        };
        self.present += 1;
        if let Err(reason) = converted {
            *self.refused.entry(reason).or_default() += 1;
        }
    }

    fn value(&mut self, attr: &Value<'_>) -> Result<(), RowErrorReason> {
        let Some(format) = self.format else { return Ok(()) };
        if let (ColumnType::Timestamptz, Value::Decimal(n)) = (format.ty, attr) {
            self.numbers += 1;
            if let Some(unit) = canonical(n).and_then(|n| plausible_unit(&n)) {
                *self.units.entry(unit).or_default() += 1;
            }
        }
        convert(format, attr).map(|_| ())
    }
}

impl List {
    fn look(&mut self, item: &Record<'_>) {
        let found = inside(item, &self.whole.names);
        self.whole.look(found);
        match found {
            Ok(Some(Value::List(elements))) => elements.iter().for_each(|e| self.element(e)),
            Ok(Some(Value::TextSet(set))) => {
                set.iter().for_each(|s| self.element(&Value::Text(Cow::Borrowed(s.as_ref()))))
            }
            Ok(Some(Value::DecimalSet(set))) => {
                set.iter().for_each(|n| self.element(&Value::Decimal(Cow::Borrowed(n.as_ref()))))
            }
            Ok(None | Some(Value::Null)) | Err(_) => {}
            Ok(Some(
                Value::Text(_)
                | Value::Decimal(_)
                | Value::Bytes(_)
                | Value::Bool(_)
                | Value::Map(_)
                | Value::BytesSet(_)
                | Value::Cell(_),
            )) => {
                *self.whole.refused.entry(RowErrorReason::WrongType).or_default() += 1;
            }
        }
    }

    fn element(&mut self, element: &Value<'_>) {
        self.columns.iter_mut().for_each(|column| column.look(walk(Some(element), &column.names)));
    }
}

impl Sampled {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        let list = |(n, child): (usize, &ChildTable)| {
            let of_child = |c| Asked::of_column(c, Some((n, &child.target)));
            List {
                whole: Asked::new(child.target.clone(), format!("children[{n}]"), &child.list, None, child.sparse),
                columns: child.columns.iter().filter_map(of_child).collect(),
            }
        };
        Self {
            items: 0,
            columns: table.columns.iter().filter_map(|c| Asked::of_column(c, None)).collect(),
            lists: table.children.iter().enumerate().map(list).collect(),
            kinds: Kinds::default(),
            table: table.clone(),
        }
    }

    /// Reads an item that is no marker.
    pub fn look(&mut self, item: &Record<'_>) {
        self.items += 1;
        self.kinds.learn(item);
        self.columns.iter_mut().for_each(|column| column.look(inside(item, &column.names)));
        self.lists.iter_mut().for_each(|list| list.look(item));
    }

    /// Items read.
    #[must_use]
    pub const fn items(&self) -> u64 {
        self.items
    }

    /// Everything the mapping asks for, columns of the table first.
    pub fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.columns.iter().chain(self.lists.iter().flat_map(|l| std::iter::once(&l.whole).chain(&l.columns)))
    }

    /// Attributes that were seen beside the one asked for, written as in the config: one of them may be the right one.
    #[must_use]
    pub fn beside(&self, asked: &Asked) -> Vec<&str> {
        let list = self.lists.iter().find(|l| l.columns.iter().any(|c| c.column == asked.column));
        let within = list.map_or_else(String::new, |l| format!("{}[].", l.whole.path));
        let there = self.kinds.paths().filter_map(|path| path.strip_prefix(&within));
        there.filter(|path| !path.contains("[]") && *path != asked.path).collect()
    }

    /// Attributes that no column holds, each with the number of items or elements that have it.
    #[must_use]
    pub fn uncarried(&self) -> Vec<(&str, u64)> {
        let left_out = |path: &str| self.table.leave_out.iter().any(|name| name == path || below(path, name));
        let paths = self.kinds.paths().filter(|path| !carried(&self.table, path) && !left_out(path));
        paths.map(|path| (path, self.kinds.times(path))).collect()
    }
}

/// What stands at a path of an item.
fn inside<'s, 'p>(item: &'s Record<'p>, names: &[String]) -> Result<Option<&'s Value<'p>>, RowErrorReason> {
    names.split_first().map_or(Ok(None), |(first, rest)| walk(item.get(first), rest))
}

/// Whether a path leads into what stands at another one.
fn below(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("[]"))
}

/// Whether some column holds the attribute at this path, alone or within its whole. Elements of a list stand at the
/// list's path followed by `[]`.
#[must_use]
pub fn carried(table: &Table, path: &str) -> bool {
    if table.columns.iter().any(|c| c.from == ColumnSource::Whole) {
        return true;
    }
    // A map that leads to an attribute which a column holds counts as held itself.
    let fits = |name: &str| path == name || below(path, name) || below(name, path);
    let columns = table.columns.iter().filter_map(|c| match &c.from {
        ColumnSource::Attribute(names) => Some(path_text(names)),
        _ => None,
    });
    let children = table.children.iter().flat_map(|child| {
        let list = path_text(&child.list);
        child.columns.iter().filter_map(move |c| match &c.from {
            ColumnSource::Attribute(names) => Some(format!("{list}[].{}", path_text(names))),
            ColumnSource::Element => Some(list.clone()),
            _ => None,
        })
    });
    let mut lists = table.children.iter().map(|c| path_text(&c.list));
    columns.chain(children).any(|name| fits(&name)) || lists.any(|l| path == l || path == format!("{l}[]"))
}
