//! What a source says of one row or item: named values, borrowed from the page they came in.

use std::borrow::Cow;

use super::Value;

/// One row or item: its values in the order the source sent them. Reused from record to record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record<'a> {
    /// Names and values.
    pub fields: Vec<(Cow<'a, str>, Value<'a>)>,
}

impl<'a> Record<'a> {
    /// The value called `name`, if the record has one. Linear: records have a dozen fields.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// The same record, owning everything.
    #[must_use]
    pub fn into_owned(self) -> Record<'static> {
        Record { fields: self.fields.into_iter().map(|(k, v)| (Cow::Owned(k.into_owned()), v.into_owned())).collect() }
    }
}
