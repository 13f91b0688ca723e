//! Names of types that only the database knows.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// The name of a PostgreSQL type as the config writes it: `mood`, `char(2)`, `shop.address`, `integer[]`. With the word
/// `enum` or `domain` before it, it has to be one: `enum mood`.
///
/// Each name is kept once for as long as the process lives, so that a column's type stays as cheap to copy as a number.
/// A plan has a handful of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct TypeName(&'static str);

/// What a name says that its type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaidKind {
    /// `enum mood`.
    Enum,
    /// `domain isbn`.
    Domain,
}

static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl TypeName {
    /// The name, with single blanks only.
    #[must_use]
    pub fn new(written: &str) -> Self {
        let written = written.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(written.as_str()) {
            return Self(name);
        }
        let name: &'static str = Box::leak(written.into_boxed_str());
        known.insert(name);
        Self(name)
    }

    /// As the config writes it.
    #[must_use]
    pub const fn written(self) -> &'static str {
        self.0
    }

    /// The name by itself, as PostgreSQL reads it, and what was said of it.
    #[must_use]
    pub fn parts(self) -> (&'static str, Option<SaidKind>) {
        for (word, kind) in [("enum ", SaidKind::Enum), ("domain ", SaidKind::Domain)] {
            if let Some(rest) = self.0.get(..word.len()).filter(|head| head.eq_ignore_ascii_case(word)) {
                return (self.0.get(rest.len()..).unwrap_or_default(), Some(kind));
            }
        }
        (self.0, None)
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<'de> Deserialize<'de> for TypeName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|written| Self::new(&written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_comes_back_from_a_plan() {
        let name = TypeName::new(" enum  mood ");
        assert_eq!((name.written(), name.parts()), ("enum mood", ("mood", Some(SaidKind::Enum))));
        assert!(std::ptr::eq(name.written(), TypeName::new("enum mood").written()));
        assert_eq!(TypeName::new("Domain shop.isbn").parts(), ("shop.isbn", Some(SaidKind::Domain)));
        assert_eq!(TypeName::new("enumeration").parts(), ("enumeration", None));
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(serde_json::from_str::<TypeName>(&json).unwrap(), name);
    }
}
