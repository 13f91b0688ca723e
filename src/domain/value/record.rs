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

    /// The same, looked for at this place first: a row of columns has each where its table has it, and may have hundreds.
    #[must_use]
    pub fn get_at(&self, place: usize, name: &str) -> Option<&Value<'a>> {
        match self.fields.get(place) {
            Some((there, value)) if there == name => Some(value),
            _ => self.get(name),
        }
    }

    /// The same record, owning everything.
    #[must_use]
    pub fn into_owned(self) -> Record<'static> {
        Record { fields: self.fields.into_iter().map(|(k, v)| (Cow::Owned(k.into_owned()), v.into_owned())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_wherever_it_stands() {
        let field = |name: &'static str| (Cow::Borrowed(name), Value::Text(name.into()));
        let record = Record { fields: ["a", "b", "c"].map(field).into() };
        for place in 0..5 {
            for name in ["a", "b", "c", "d"] {
                assert_eq!(record.get_at(place, name), record.get(name), "{name} at {place}");
            }
        }
    }
}
