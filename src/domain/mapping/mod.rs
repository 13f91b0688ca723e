//! From source items to target rows: a mapping is compiled once per table and applied per item.
//!
//! FEATURES A1, A14. A value that does not fit is a [`RowError`], never a guess: the row is parked with the
//! reason and counted.

use serde::{Deserialize, Serialize};

mod back;
mod convert;
mod document;
mod duplicates;
mod elements;
mod image;
mod inverse;
mod json;
mod key;
mod key_cell;
mod kinds;
mod marker;
mod numeric;
mod profile;
mod sampled;
#[cfg(test)]
mod stored;
mod table;
mod takes;
#[cfg(test)]
mod tests;
mod time;
mod typed;
mod unread;

pub use back::document;
pub use convert::{cell_of, literal_fits};
pub use document::read_typed_record;
pub use duplicates::Duplicates;
pub use image::item_digest;
pub use inverse::{
    Inverse, InverseGaps, ItemChange, ItemWrite, Resolution, ReverseChange, RowTree, Winner, inverse_gaps,
};
pub use json::{canonical_json, canonical_json_text};
pub use key_cell::read_key;
pub use kinds::{Kind, Kinds};
pub use marker::{MARK, mark, marker_number};
pub use numeric::canonical_numeric;
pub use profile::{Alteration, ColumnProfile, Found, RowSize, Sizes, TableProfile, WouldPark};
pub use sampled::{Asked, Sampled, carried};
pub use table::{ChildRows, Mapped, TableMapping};
pub use takes::{Takes, takes};
pub use typed::{push_typed, typed_record};
pub use unread::{Unread, UnreadAttribute};

/// Why a row cannot be written. Holds the column and the kind of trouble, never the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{column}: {reason}{}", parenthesised(.detail))]
pub struct RowError {
    /// The target column (or `-` when the whole row is refused).
    pub column: String,
    /// What is wrong.
    pub reason: RowErrorReason,
    /// What the target named: `SQLSTATE 23514, constraint books_price_check`. Empty when the target was not asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl RowError {
    /// A row error of a column that the target has not been asked about.
    pub fn new(column: impl Into<String>, reason: RowErrorReason) -> Self {
        Self { column: column.into(), reason, detail: String::new() }
    }
}

fn parenthesised(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}

/// The kinds of row error, each with what a person can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum RowErrorReason {
    /// U+0000 cannot be stored in PostgreSQL text, nor in what is kept of keys.
    #[error("holds a NUL character, which neither PostgreSQL text nor what is kept of keys can store")]
    Nul,
    /// A number outside the column's range or precision.
    #[error("number does not fit the column's precision or range")]
    NumberRange,
    /// Text longer than the column allows.
    #[error("text is longer than the column allows")]
    TooLong,
    /// The attribute has another type than the column wants.
    #[error("attribute type does not convert to the column's type")]
    WrongType,
    /// A required attribute is absent or null.
    #[error("required attribute is missing")]
    Missing,
    /// A uuid, timestamp or date that does not parse.
    #[error("text does not parse as the column's type")]
    Unparsable,
    /// A number for a moment, and the column does not say what it counts.
    #[error("a number stands for the moment and the column does not say its unit; add unit = \"s\", \"ms\" or \"us\"")]
    NoUnit,
    /// A number that is no plausible moment in the column's unit.
    #[error("in the column's unit the number is no plausible moment; does it count another unit?")]
    Implausible,
    /// A time that may be anywhere on earth.
    #[error("the time does not say its offset from UTC, as `Z` or `+01:00`")]
    NoOffset,
    /// More digits than the type holds.
    #[error("the column's type would lose digits of the value; `lossy = true` in the column accepts that")]
    Lossy,
    /// The key is written in a way that another key may share in the target.
    #[error("the key would not come back from the target as it is written, and another key could become the same one")]
    KeyForm,
    /// Another row already holds a unique value. Found by the target.
    #[error("a unique column already holds this value in another row")]
    DuplicateUnique,
    /// Another row holds a value that excludes this row's, by an exclusion constraint. Found by the target.
    #[error("another row excludes it by an exclusion constraint")]
    Excluded,
    /// The row points at a parent that is not there (yet). Found by the target.
    #[error("refers to a parent row that is not in the target")]
    ForeignKey,
    /// The source has deleted the row, and rows of the target still refer to it. Found by the target.
    #[error("still refers to the row, which the source has deleted")]
    StillReferenced,
    /// The target refused the row for another reason, named in the detail.
    #[error("the target refused the row")]
    Refused,
}

impl RowErrorReason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 16] = [
        Self::Nul,
        Self::NumberRange,
        Self::TooLong,
        Self::WrongType,
        Self::Missing,
        Self::Unparsable,
        Self::NoUnit,
        Self::Implausible,
        Self::NoOffset,
        Self::Lossy,
        Self::KeyForm,
        Self::DuplicateUnique,
        Self::Excluded,
        Self::ForeignKey,
        Self::StillReferenced,
        Self::Refused,
    ];

    /// A stable name for counts and tables, as serialised.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nul => "nul",
            Self::NumberRange => "number_range",
            Self::TooLong => "too_long",
            Self::WrongType => "wrong_type",
            Self::Missing => "missing",
            Self::Unparsable => "unparsable",
            Self::NoUnit => "no_unit",
            Self::Implausible => "implausible",
            Self::NoOffset => "no_offset",
            Self::Lossy => "lossy",
            Self::KeyForm => "key_form",
            Self::DuplicateUnique => "duplicate_unique",
            Self::Excluded => "excluded",
            Self::ForeignKey => "foreign_key",
            Self::StillReferenced => "still_referenced",
            Self::Refused => "refused",
        }
    }
}
