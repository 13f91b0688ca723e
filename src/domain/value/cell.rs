//! What a relational row holds: typed cells in column order, the canonical form both sides are compared in.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One column's value in canonical form.
///
/// Canonical means: two cells are equal exactly when a reader of the target sees no difference between them.
/// Constructors in `domain::mapping` and the target's reader both produce this form.
#[derive(Clone, Debug)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// `text`, `varchar`. Never holds U+0000.
    Text(Cow<'a, str>),
    /// `uuid`, big endian.
    Uuid([u8; 16]),
    /// `numeric`: plain decimal, no exponent, no leading `+`, no leading or trailing zeros beyond
    /// one before the point (`0.5`, `-12`, `19.9`); zero is `0`.
    Numeric(Cow<'a, str>),
    /// `smallint`, `integer`, `bigint`.
    Int(i64),
    /// `double precision`, `real`.
    Float(f64),
    /// `boolean`.
    Bool(bool),
    /// `timestamptz`: microseconds since the Unix epoch; the least and the greatest number are its two infinite values.
    Timestamp(i64),
    /// `date`: days since the Unix epoch; the least and the greatest number are its two infinite values.
    Date(i32),
    /// `jsonb`: compact JSON text with object keys sorted and numbers canonical as in `Numeric`.
    Json(Cow<'a, str>),
    /// `text[]`; sets arrive sorted.
    TextArray(Vec<Cow<'a, str>>),
    /// `bytea`.
    Bytes(Cow<'a, [u8]>),
    /// A value of the column's type that none of these says, in the binary form of PostgreSQL: a `text[]` with NULL in
    /// it, of several dimensions or counted from elsewhere than 1; `jsonb` that is nested too deeply; a `timestamptz` of
    /// the last days that there are.
    Other(Cow<'a, [u8]>),
}

/// As a column compares: NaN is itself, and both zeros are one.
impl PartialEq for Cell<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Text(a), Self::Text(b)) | (Self::Numeric(a), Self::Numeric(b)) | (Self::Json(a), Self::Json(b)) => {
                a == b
            }
            (Self::Uuid(a), Self::Uuid(b)) => a == b,
            (Self::Int(a), Self::Int(b)) | (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Date(a), Self::Date(b)) => a == b,
            (Self::TextArray(a), Self::TextArray(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) | (Self::Other(a), Self::Other(b)) => a == b,
            (
                Self::Null
                | Self::Text(_)
                | Self::Uuid(_)
                | Self::Numeric(_)
                | Self::Int(_)
                | Self::Float(_)
                | Self::Bool(_)
                | Self::Timestamp(_)
                | Self::Date(_)
                | Self::Json(_)
                | Self::TextArray(_)
                | Self::Bytes(_)
                | Self::Other(_),
                _,
            ) => false,
        }
    }
}

/// A row that owns its cells, for the paths that are not hot (follow, fetch by key, repair).
pub type OwnedRow = Vec<Cell<'static>>;

impl Cell<'_> {
    /// The cell's type in a word: `INT`, `UUID`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Text(_) => "TEXT",
            Self::Uuid(_) => "UUID",
            Self::Numeric(_) => "NUMERIC",
            Self::Int(_) => "INT",
            Self::Float(_) => "FLOAT",
            Self::Bool(_) => "BOOL",
            Self::Timestamp(_) => "TIMESTAMP",
            Self::Date(_) => "DATE",
            Self::Json(_) => "JSON",
            Self::TextArray(_) => "TEXTS",
            Self::Bytes(_) => "BYTES",
            Self::Other(_) => "OTHER",
        }
    }

    /// Appends the cell in a form that no other cell has, and in which no row of cells is the beginning of another: a
    /// type byte followed by a fixed width or by its length and bytes. So neither boundaries nor NULL and empty text can
    /// be mistaken.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Null => bytes.push(0),
            Self::Text(s) => sized(bytes, 1, s.as_bytes()),
            Self::Uuid(u) => sized(bytes, 2, u),
            Self::Numeric(s) => sized(bytes, 3, s.as_bytes()),
            Self::Int(i) => fixed(bytes, 4, i.to_le_bytes()),
            Self::Float(x) => {
                // Both zeros and all NaNs are one value to a reader of the target.
                let x = if *x == 0.0 { 0.0 } else { *x };
                let bits = if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
                fixed(bytes, 5, bits.to_le_bytes());
            }
            Self::Bool(b) => bytes.extend([6, u8::from(*b)]),
            Self::Timestamp(t) => fixed(bytes, 7, t.to_le_bytes()),
            Self::Date(d) => fixed(bytes, 8, i64::from(*d).to_le_bytes()),
            Self::Json(s) => sized(bytes, 9, s.as_bytes()),
            Self::TextArray(v) => {
                fixed(bytes, 10, (v.len() as u64).to_le_bytes());
                v.iter().for_each(|s| sized(bytes, 1, s.as_bytes()));
            }
            Self::Bytes(b) => sized(bytes, 11, b),
            Self::Other(raw) => sized(bytes, 12, raw),
        }
    }

    /// The same cell, owning everything.
    #[must_use]
    pub fn into_owned(self) -> Cell<'static> {
        match self {
            Self::Null => Cell::Null,
            Self::Text(s) => Cell::Text(Cow::Owned(s.into_owned())),
            Self::Uuid(u) => Cell::Uuid(u),
            Self::Numeric(s) => Cell::Numeric(Cow::Owned(s.into_owned())),
            Self::Int(i) => Cell::Int(i),
            Self::Float(x) => Cell::Float(x),
            Self::Bool(b) => Cell::Bool(b),
            Self::Timestamp(t) => Cell::Timestamp(t),
            Self::Date(d) => Cell::Date(d),
            Self::Json(s) => Cell::Json(Cow::Owned(s.into_owned())),
            Self::TextArray(v) => Cell::TextArray(v.into_iter().map(|s| Cow::Owned(s.into_owned())).collect()),
            Self::Bytes(b) => Cell::Bytes(Cow::Owned(b.into_owned())),
            Self::Other(raw) => Cell::Other(Cow::Owned(raw.into_owned())),
        }
    }
}

fn fixed(bytes: &mut Vec<u8>, tag: u8, value: [u8; 8]) {
    bytes.push(tag);
    bytes.extend(value);
}

fn sized(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    fixed(bytes, tag, (value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
}

/// A row's primary key as text, its parts joined by `|` in key order. Keys may be shown; values may not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub String);

impl Key {
    /// The lane of this key among so many: the same key, the same lane, today and in every later version, because how
    /// far a lane has come is stored by its number.
    #[must_use]
    pub fn lane(&self, of: u32) -> u32 {
        let lane = twox_hash::XxHash3_128::oneshot(self.0.as_bytes()) % u128::from(of.max(1));
        u32::try_from(lane).unwrap_or(0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
