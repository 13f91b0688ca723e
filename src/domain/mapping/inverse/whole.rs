//! The inverse of rows that hold a whole record as a document: every attribute of it is a field by itself, so what one
//! side wrote into one attribute and the other side into another are both kept.

use std::collections::BTreeSet;

use super::super::document::read_typed_record;
use super::super::kinds::Kinds;
use super::super::typed::push_typed;
use super::super::{RowError, RowErrorReason};
use super::{Field, FieldValue, Inverse, RowTree, What};
use crate::domain::value::{Cell, Record, Value};

/// The column that holds the record.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub place: usize,
    pub column: String,
    /// Names of the key's attributes: an item's key never changes.
    pub key: Vec<String>,
}

impl Whole {
    /// The record of a row.
    fn record(&self, row_tree: &RowTree) -> Result<Record<'static>, RowError> {
        let refuse = |reason| RowError::new(&self.column, reason);
        match row_tree.row.get(self.place) {
            Some(Cell::Json(text)) => read_typed_record(text).map_err(refuse),
            Some(_) | None => Err(refuse(RowErrorReason::Unparsable)),
        }
    }

    /// What the attributes of a row hold, field by field.
    pub(super) fn values(&self, fields: &[Field], row_tree: &RowTree) -> Vec<FieldValue> {
        match self.record(row_tree) {
            Ok(record) => fields.iter().map(|field| of_attribute(record.get(&field.name))).collect(),
            Err(_) => fields.iter().map(|_| FieldValue::Unfit).collect(),
        }
    }
}

/// An attribute in the form that is compared: with its type, and an absent one apart from one that is null.
pub(super) fn of_attribute(value: Option<&Value<'_>>) -> FieldValue {
    let Some(value) = value else { return FieldValue::Cell(Cell::Null) };
    let mut text = String::new();
    match push_typed(&mut text, value) {
        Ok(()) => FieldValue::Cell(Cell::Json(text.into())),
        Err(_) => FieldValue::Unfit,
    }
}

impl Inverse {
    /// The inverse with a field for each attribute that one of these states or the item has; `None` where rows hold no
    /// whole record.
    pub(super) fn of_attributes(
        &self,
        known: &[Option<RowTree>],
        item: Option<&Record<'static>>,
    ) -> Result<Option<Self>, RowError> {
        let Some(whole) = &self.whole else { return Ok(None) };
        let mut names = BTreeSet::new();
        names.extend(item.iter().flat_map(|item| &item.fields).map(|(name, _)| name.to_string()));
        let mut present = None;
        for (n, state) in known.iter().enumerate() {
            let Some(row_tree) = state else { continue };
            let record = whole.record(row_tree)?;
            names.extend(record.fields.iter().map(|(name, _)| name.to_string()));
            if n + 1 == known.len() {
                present = Some(record);
            }
        }
        names.retain(|name| !whole.key.contains(name));
        let field = |name: String| {
            let value = present.as_ref().and_then(|record| record.get(&name)).cloned();
            Field { path: vec![name.clone()], name, what: What::Attribute { value } }
        };
        let fields = names.into_iter().map(field).collect();
        Ok(Some(Self { keys: Vec::new(), fields, kinds: Kinds::default(), whole: Some(whole.clone()) }))
    }
}
