//! The inverse mapping, from target rows to source items: what is to be written to one item so that it says what its
//! row says.
//!
//! Fields are compared one by one, in the form both sides share, and only those that the new side changed are
//! written. So an attribute that no column holds stays as it is, and so does what somebody else wrote into another
//! field meanwhile. Where both sides changed the same field to different values, [`Winner`] decides.

mod gaps;
mod whole;

use std::collections::BTreeMap;

pub use gaps::{InverseGaps, inverse_gaps};
use whole::Whole;

use super::back::{attribute, text_set};
use super::convert::{Format, convert, literal};
use super::elements::{Elements, number_set};
use super::kinds::{Kind, Kinds};
use super::{RowError, RowErrorReason};
use crate::domain::plan::{Column, ColumnSource, Fallback, Table, Unit, path_text, quoted};
use crate::domain::value::{Cell, OwnedRow, Record, Value};

/// A row with its child rows, by child table in the plan's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowTree {
    /// Cells in column order.
    pub row: OwnedRow,
    /// Child rows in list order.
    pub children: Vec<Vec<OwnedRow>>,
}

/// Whose value stays when both sides changed the same field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner {
    /// The new side: customers are there, and the old side should not be written at all.
    New,
    /// The old side: customers write there again after a rollback order, so its value is the newer one.
    Old,
}

/// What became of a key that both sides changed. Ordered by how much a person must know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// Only the new side changed it.
    None,
    /// Both did, in different fields: both are kept.
    Merged,
    /// Both changed a field: the new side's value was taken.
    NewWon,
    /// Both changed a field: the old side's value was left.
    OldWon,
}

/// What is to be done to an item.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemChange {
    /// It says already what it should.
    Nothing,
    /// Attributes are set and removed; others stay.
    Write(ItemWrite),
    /// The item goes.
    Delete {
        /// Its key.
        key: Record<'static>,
        /// What must still stand there.
        expect: Vec<(String, Option<Value<'static>>)>,
    },
}

/// A write of some attributes of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemWrite {
    /// The item's key.
    pub key: Record<'static>,
    /// Whether the item must be there; otherwise it must not.
    pub exists: bool,
    /// Attributes to set.
    pub set: Vec<(String, Value<'static>)>,
    /// Attributes to remove.
    pub remove: Vec<String>,
    /// What the attributes must still hold; `None` for absent.
    pub expect: Vec<(String, Option<Value<'static>>)>,
    /// The whole item once this is written.
    pub after: Record<'static>,
}

/// A change, and whether the other side had changed the key too.
#[derive(Clone, Debug, PartialEq)]
pub struct ReverseChange {
    /// What is to be done.
    pub change: ItemChange,
    /// What the other side had done.
    pub resolution: Resolution,
}

/// A table's inverse mapping, compiled once.
#[derive(Clone, Debug)]
pub struct Inverse {
    keys: Vec<KeyPart>,
    fields: Vec<Field>,
    kinds: Kinds,
    /// The column that holds the whole record: its attributes are the fields, known only with the item at hand.
    whole: Option<Whole>,
}

#[derive(Clone, Debug)]
struct KeyPart {
    attribute: String,
    /// Place among the key cells.
    place: usize,
    /// What a number counts that stands for a moment.
    unit: Option<Unit>,
}

#[derive(Clone, Debug)]
struct Field {
    path: Vec<String>,
    name: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Column {
        place: usize,
        format: Format,
        absent: Option<Cell<'static>>,
    },
    List {
        place: usize,
        elements: Elements,
    },
    /// An attribute of a row that holds a whole record, as it is now.
    Attribute {
        value: Option<Value<'static>>,
    },
}

/// One field in the form both sides share.
#[derive(Clone, Debug)]
pub(super) enum FieldValue {
    Cell(Cell<'static>),
    Rows(Vec<OwnedRow>),
    /// The attribute does not convert: nobody on the new side can have seen it so.
    Unfit,
}

impl FieldValue {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cell(a), Self::Cell(b)) => a == b,
            (Self::Rows(a), Self::Rows(b)) => a == b,
            _ => false,
        }
    }
}

fn alike(one: Option<&Vec<FieldValue>>, other: Option<&Vec<FieldValue>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| a.is(b)),
        _ => false,
    }
}

/// What stands in for an absent attribute; `None` when such a row would have been parked.
pub(super) fn absent(column: &Column) -> Option<Cell<'static>> {
    match &column.absent {
        Fallback::Null => Some(Cell::Null),
        Fallback::Literal(text) => literal(Format::of(column), text).ok(),
        Fallback::Required => None,
    }
}

impl Inverse {
    /// Compiles the inverse of a linted table. `kinds` says how the source writes its attributes.
    #[must_use]
    pub fn new(table: &Table, kinds: Kinds) -> Self {
        let key_columns: Vec<&Column> = table.columns.iter().filter(|c| c.key).collect();
        let comes_from = |c: &Column, name: &str| matches!(&c.from, ColumnSource::Attribute(path) if path.len() == 1 && path[0] == name);
        let keys = table
            .key
            .iter()
            .filter_map(|name| {
                let place = key_columns.iter().position(|c| comes_from(c, name))?;
                Some(KeyPart { attribute: name.clone(), place, unit: key_columns[place].declared.unit })
            })
            .collect();
        let mut fields: Vec<Field> = Vec::new();
        for (place, column) in table.columns.iter().enumerate() {
            let ColumnSource::Attribute(path) = &column.from else { continue };
            let what = What::Column { place, format: Format::of(column), absent: absent(column) };
            fields.push(Field { path: path.clone(), name: column.name.clone(), what });
        }
        for (place, child) in table.children.iter().enumerate() {
            let what = What::List { place, elements: Elements::new(child) };
            fields.push(Field { path: child.list.clone(), name: child.target.clone(), what });
        }
        // An item's key never changes.
        fields.retain(|f| f.path.first().is_some_and(|first| !table.key.contains(first)));
        // The whole of something before its parts.
        fields.sort_by_key(|f| f.path.len());
        let whole = table.columns.iter().position(|c| c.from == ColumnSource::Whole);
        let whole =
            whole.map(|place| Whole { place, column: table.columns[place].name.clone(), key: table.key.clone() });
        Self { keys, fields, kinds, whole }
    }

    /// The item's key from the cells of the key columns.
    pub fn key(&self, cells: &[Cell<'_>]) -> Result<Record<'static>, RowError> {
        let fields = self
            .keys
            .iter()
            .map(|part| {
                let refuse = |reason| RowError::new(&part.attribute, reason);
                let cell = cells.get(part.place).ok_or_else(|| refuse(RowErrorReason::Missing))?;
                let path = quoted(&part.attribute);
                let attr = attribute(cell, self.kinds.usual(&path), part.unit, &path, &self.kinds).map_err(refuse)?;
                Ok((part.attribute.clone().into(), attr.ok_or_else(|| refuse(RowErrorReason::Missing))?))
            })
            .collect::<Result<_, RowError>>()?;
        Ok(Record { fields })
    }

    /// Whether an item says what this state of its row says, in everything that columns hold.
    #[must_use]
    pub fn says(&self, state: Option<&RowTree>, item: Option<&Record<'static>>) -> bool {
        let state = state.cloned();
        let Ok(attributes) = self.of_attributes(std::slice::from_ref(&state), item) else { return false };
        let fields = attributes.as_ref().unwrap_or(self);
        alike(state.map(|f| fields.of_row_tree(&f, item)).as_ref(), item.map(|i| fields.of_item(i)).as_ref())
    }

    /// Whether an item shows that one of its row's states was written to it, though others wrote to it since: of the
    /// fields that this state changed, some stand as it says and none as it was before.
    #[must_use]
    pub fn shows(&self, states: &[Option<RowTree>], state: usize, item: Option<&Record<'static>>) -> bool {
        let (Some(written), Some(item)) = (states.get(state).and_then(Option::as_ref), item) else { return false };
        let Ok(attributes) = self.of_attributes(states, Some(item)) else { return false };
        let fields = attributes.as_ref().unwrap_or(self);
        let (written, have) = (fields.of_row_tree(written, Some(item)), fields.of_item(item));
        let before = states.first().and_then(Option::as_ref).map(|b| fields.of_row_tree(b, Some(item)));
        let before = |field: usize, value: &FieldValue| before.as_ref().is_some_and(|b| b[field].is(value));
        let changed = (0..written.len()).filter(|&field| !before(field, &written[field]));
        let mut stands = false;
        for field in changed {
            if before(field, &have[field]) {
                return false;
            }
            stands |= written[field].is(&have[field]);
        }
        stands
    }

    /// Works out what is to be done to the item of a key.
    ///
    /// `known` are the states the row has had since it was last applied, oldest first, the present one last. `item` is
    /// what stands there now: nobody else wrote it when it is as it was last applied, or as it should be. Of the states
    /// in between only the one that was `begun` counts: a reverse applier wrote it to this very item and died before
    /// its records were cleared. Without that, an item that a customer deleted would be taken for a row that was
    /// deleted and made anew.
    ///
    /// # Errors
    /// The column whose value no attribute can hold.
    pub fn carry(
        &self,
        key: &[Cell<'_>],
        known: &[Option<RowTree>],
        item: Option<&Record<'static>>,
        begun: Option<usize>,
        winner: Winner,
    ) -> Result<ReverseChange, RowError> {
        let key = self.key(key)?;
        let attributes = self.of_attributes(known, item)?;
        attributes.as_ref().unwrap_or(self).carry_fields(key, known, item, begun, winner)
    }

    fn carry_fields(
        &self,
        key: Record<'static>,
        known: &[Option<RowTree>],
        item: Option<&Record<'static>>,
        begun: Option<usize>,
        winner: Winner,
    ) -> Result<ReverseChange, RowError> {
        let now = known.last().and_then(Option::as_ref);
        let states: Vec<Option<Vec<FieldValue>>> =
            known.iter().map(|s| s.as_ref().map(|f| self.of_row_tree(f, item))).collect();
        let have = item.map(|item| self.of_item(item));
        let same = |state: &Option<Vec<FieldValue>>| alike(state.as_ref(), have.as_ref());
        let ends = |n: usize| Some(n) == begun || n == 0 || n + 1 == states.len();
        let untouched = (0..states.len()).rev().find(|n| ends(*n) && same(&states[*n]));
        let old_stays = untouched.is_none() && winner == Winner::Old;
        let lost = if winner == Winner::New { Resolution::NewWon } else { Resolution::OldWon };
        let whole = |change: ItemChange| {
            let change = if old_stays { ItemChange::Nothing } else { change };
            Ok(ReverseChange { change, resolution: if untouched.is_some() { Resolution::None } else { lost } })
        };
        match (item, now) {
            (None, None) => Ok(ReverseChange { change: ItemChange::Nothing, resolution: Resolution::None }),
            (Some(item), None) => whole(ItemChange::Delete { key, expect: self.mapped(item) }),
            (None, Some(row_tree)) => whole(ItemChange::Write(self.insert(key, row_tree)?)),
            (Some(item), Some(row_tree)) => {
                let base = states.get(untouched.unwrap_or(0)).and_then(Option::as_ref);
                let (Some(have), Some(Some(present))) = (&have, states.last()) else {
                    return Ok(ReverseChange { change: ItemChange::Nothing, resolution: Resolution::None });
                };
                let ours = begun.and_then(|n| states.get(n)).and_then(Option::as_ref);
                self.merge(key, item, row_tree, base, (have, present), ours, (untouched.is_some(), winner))
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn merge(
        &self,
        key: Record<'static>,
        item: &Record<'static>,
        row_tree: &RowTree,
        base: Option<&Vec<FieldValue>>,
        (have, now): (&[FieldValue], &[FieldValue]),
        ours: Option<&Vec<FieldValue>>,
        (untouched, winner): (bool, Winner),
    ) -> Result<ReverseChange, RowError> {
        let mut resolution = if untouched { Resolution::None } else { Resolution::Merged };
        let mut changed = Vec::new();
        let mut stays: Vec<&[String]> = Vec::new();
        for (i, field) in self.fields.iter().enumerate() {
            let (have, now) = (&have[i], &now[i]);
            let before = base.map(|b| &b[i]);
            // A value that stays, stays whole: the other side's city within this side's address would be a wrong
            // address.
            if stays.iter().any(|path| field.path.starts_with(path)) {
                continue;
            }
            if now.is(have) {
                continue;
            }
            // What the reverse applier that died left here is not a customer's.
            let left = ours.is_some_and(|state| state[i].is(have));
            if !left && before.is_some_and(|b| b.is(now)) {
                continue;
            }
            if !left && !before.is_some_and(|b| b.is(have)) {
                resolution = if winner == Winner::New { Resolution::NewWon } else { Resolution::OldWon };
                if winner == Winner::Old {
                    stays.push(&field.path);
                    continue;
                }
            }
            changed.push(field);
        }
        let mut tops: BTreeMap<String, Option<Value<'static>>> = BTreeMap::new();
        let mut done: Vec<&[String]> = Vec::new();
        for field in changed {
            // What is part of something that was just written is written with it.
            if done.iter().any(|path| field.path.starts_with(path)) {
                continue;
            }
            let Some((first, rest)) = field.path.split_first() else { continue };
            let value = self.build(field, row_tree, item.get(first).and_then(|a| inside(a, rest)))?;
            let top = tops.entry(first.clone()).or_insert_with(|| item.get(first).cloned());
            put(top, rest, value);
            done.push(&field.path);
        }
        tops.retain(|name, value| value.as_ref() != item.get(name));
        if tops.is_empty() {
            return Ok(ReverseChange { change: ItemChange::Nothing, resolution });
        }
        let expect = tops.keys().map(|name| (name.clone(), item.get(name).cloned())).collect();
        let write = assemble(key, true, tops, expect, item.clone());
        Ok(ReverseChange { change: ItemChange::Write(write), resolution })
    }

    /// A whole new item from a row.
    fn insert(&self, key: Record<'static>, row_tree: &RowTree) -> Result<ItemWrite, RowError> {
        let mut tops: BTreeMap<String, Option<Value<'static>>> = BTreeMap::new();
        let mut done: Vec<&[String]> = Vec::new();
        for field in &self.fields {
            if done.iter().any(|path| field.path.starts_with(path)) {
                continue;
            }
            let Some((first, rest)) = field.path.split_first() else { continue };
            if let Some(value) = self.build(field, row_tree, None)? {
                put(tops.entry(first.clone()).or_default(), rest, Some(value));
                done.push(&field.path);
            }
        }
        let item = key.clone();
        Ok(assemble(key, false, tops, Vec::new(), item))
    }

    /// The attribute of a field; `None` when it is absent. `old` is what stands at its place.
    fn build(
        &self,
        field: &Field,
        row_tree: &RowTree,
        old: Option<&Value<'static>>,
    ) -> Result<Option<Value<'static>>, RowError> {
        let path = path_text(&field.path);
        let kind = old.and_then(Kind::of).or_else(|| self.kinds.usual(&path));
        let refuse = |reason| RowError::new(&field.name, reason);
        match &field.what {
            What::Column { place, format, .. } => {
                let cell = row_tree.row.get(*place).ok_or_else(|| refuse(RowErrorReason::Missing))?;
                attribute(cell, kind, format.declared.unit, &path, &self.kinds).map_err(refuse)
            }
            What::Attribute { value } => Ok(value.clone()),
            What::List { place, elements } => {
                let rows = row_tree.children.get(*place).map_or(&[][..], Vec::as_slice);
                elements.build(rows, kind, old, &path, &self.kinds).map_err(refuse)
            }
        }
    }

    fn of_item(&self, item: &Record<'_>) -> Vec<FieldValue> {
        let each = |field: &Field| {
            let Some((first, rest)) = field.path.split_first() else { return FieldValue::Unfit };
            let found = match item.get(first) {
                Some(attr) => match at_path(attr, rest) {
                    Ok(found) => found,
                    Err(()) => return FieldValue::Unfit,
                },
                None => None,
            };
            match &field.what {
                What::Column { format, absent, .. } => match found.filter(|a| **a != Value::Null) {
                    None => absent.clone().map_or(FieldValue::Unfit, FieldValue::Cell),
                    Some(attr) => {
                        convert(*format, attr).map_or(FieldValue::Unfit, |c| FieldValue::Cell(c.into_owned()))
                    }
                },
                What::Attribute { .. } => whole::of_attribute(found),
                What::List { elements, .. } => elements.of_attr(found).map_or(FieldValue::Unfit, FieldValue::Rows),
            }
        };
        self.fields.iter().map(each).collect()
    }

    /// A row's fields as they would be read from this item: a list that it has stays one, empty or with repeats, whatever
    /// most items have there.
    fn of_row_tree(&self, row_tree: &RowTree, item: Option<&Record<'_>>) -> Vec<FieldValue> {
        if let Some(whole) = &self.whole {
            return whole.values(&self.fields, row_tree);
        }
        let each = |field: &Field| match &field.what {
            What::Column { place, absent, .. } => {
                let cell = row_tree.row.get(*place).cloned().unwrap_or(Cell::Null);
                let own = field.path.split_first().and_then(|(first, rest)| at_path(item?.get(first)?, rest).ok()?);
                let kind = own.and_then(Kind::of).or_else(|| self.kinds.usual(&path_text(&field.path)));
                let set = kind == Some(Kind::TextSet);
                FieldValue::Cell(settled(cell, set, absent.as_ref()))
            }
            // Only rows that hold a whole record have such fields.
            What::Attribute { .. } => FieldValue::Unfit,
            What::List { place, elements } => {
                FieldValue::Rows(elements.of_rows(row_tree.children.get(*place).map_or(&[][..], Vec::as_slice)))
            }
        };
        self.fields.iter().map(each).collect()
    }

    /// The attributes of an item that columns hold.
    fn mapped(&self, item: &Record<'static>) -> Vec<(String, Option<Value<'static>>)> {
        let firsts: std::collections::BTreeSet<&String> = self.fields.iter().filter_map(|f| f.path.first()).collect();
        firsts.into_iter().map(|name| (name.clone(), item.get(name).cloned())).collect()
    }
}

/// A cell as it would be read after it went there and back: NULL reads as the column's default, and a set is sorted
/// and never empty.
pub(super) fn settled(cell: Cell<'static>, set: bool, absent: Option<&Cell<'static>>) -> Cell<'static> {
    let none = || absent.cloned().unwrap_or(Cell::Null);
    match cell {
        Cell::Null => none(),
        Cell::TextArray(items) if set => match text_set(items.iter().map(AsRef::as_ref)) {
            Some(Value::TextSet(sorted)) => Cell::TextArray(sorted),
            _ => none(),
        },
        other => other,
    }
}

/// What stands at a path inside an attribute; `Err` when a step of it is no map.
fn at_path<'s, 'p>(attr: &'s Value<'p>, rest: &[String]) -> Result<Option<&'s Value<'p>>, ()> {
    let mut here = attr;
    for name in rest {
        match here {
            Value::Map(entries) => match entries.iter().find(|(n, _)| n == name) {
                Some((_, inner)) => here = inner,
                None => return Ok(None),
            },
            Value::Null => return Ok(None),
            _ => return Err(()),
        }
    }
    Ok(Some(here))
}

fn inside<'s>(attr: &'s Value<'static>, rest: &[String]) -> Option<&'s Value<'static>> {
    at_path(attr, rest).ok().flatten()
}

/// Puts a value at a path inside an attribute, making the maps on the way; `None` takes it away.
pub(super) fn put(top: &mut Option<Value<'static>>, rest: &[String], value: Option<Value<'static>>) {
    let Some((name, deeper)) = rest.split_first() else {
        *top = value;
        return;
    };
    if !matches!(top, Some(Value::Map(_))) {
        if value.is_none() {
            return;
        }
        *top = Some(Value::Map(Vec::new()));
    }
    let Some(Value::Map(entries)) = top else { return };
    let place = entries.iter().position(|(n, _)| n == name);
    let mut inner = place.map(|i| entries[i].1.clone());
    put(&mut inner, deeper, value);
    match (place, inner) {
        (Some(i), Some(inner)) => entries[i].1 = inner,
        (Some(i), None) => drop(entries.remove(i)),
        (None, Some(inner)) => entries.push((name.clone().into(), inner)),
        (None, None) => {}
    }
}

/// Splits the wanted attributes into set and removed, and works out the item they make.
fn assemble(
    key: Record<'static>,
    exists: bool,
    tops: BTreeMap<String, Option<Value<'static>>>,
    expect: Vec<(String, Option<Value<'static>>)>,
    item: Record<'static>,
) -> ItemWrite {
    let mut after = item;
    let (mut set, mut remove) = (Vec::new(), Vec::new());
    for (name, value) in tops {
        after.fields.retain(|(n, _)| *n != name);
        match value {
            Some(value) => {
                after.fields.push((name.clone().into(), value.clone()));
                set.push((name, value));
            }
            None => remove.push(name),
        }
    }
    ItemWrite { key, exists, set, remove, expect, after }
}

/// A set of numbers or text from cells, for lists of plain values.
pub(super) fn set_of(cells: &[&Cell<'static>], kind: Kind) -> Option<Result<Value<'static>, RowErrorReason>> {
    let texts = cells.iter().filter_map(|c| match c {
        Cell::Text(s) | Cell::Numeric(s) => Some(s.to_string()),
        Cell::Uuid(u) => Some(uuid::Uuid::from_bytes(*u).hyphenated().to_string()),
        Cell::Int(i) => Some(i.to_string()),
        _ => None,
    });
    let texts: Vec<String> = texts.collect();
    if kind == Kind::NumberSet { number_set(&texts) } else { text_set(texts.iter().map(String::as_str)).map(Ok) }
}

#[cfg(test)]
mod tests;
