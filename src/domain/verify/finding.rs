//! One difference between both sides, for people to examine.

use serde::{Deserialize, Serialize};

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Only the source has it.
    Missing,
    /// Only the target has it.
    Extra,
    /// Both have it, with different fields.
    Differs,
    /// Two items of the source become one row.
    Collision,
    /// Its parent is not in the target.
    Orphan,
}

/// A key that differs and why. Names columns, never values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Table id; for an orphan, the table's name in the target.
    pub table: String,
    /// The key, its parts joined by `|`.
    pub key: String,
    /// What is wrong.
    pub kind: FindingKind,
    /// For differing fields: `column: cause`.
    pub fields: Vec<String>,
}
