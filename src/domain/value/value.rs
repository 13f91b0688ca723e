//! What a source says: one value, borrowed from the page it came in.

use std::borrow::Cow;

use super::Cell;

/// One value. Of a document store it is what the document says: numbers stay text, because DynamoDB numbers have 38
/// digits and no float holds them. Of a relational store it is a [`Cell`] in the form of its column, or where a document
/// would say the same, what the document says (see `From<Cell>`).
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// A number as the source wrote it.
    Decimal(Cow<'a, str>),
    /// Bytes, already decoded from base64.
    Bytes(Cow<'a, [u8]>),
    /// A truth value.
    Bool(bool),
    /// An explicit null.
    Null,
    /// An ordered list.
    List(Vec<Value<'a>>),
    /// Named attributes, in the source's order.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
    /// A set of text.
    TextSet(Vec<Cow<'a, str>>),
    /// A set of numbers, as text.
    DecimalSet(Vec<Cow<'a, str>>),
    /// A set of byte strings.
    BytesSet(Vec<Cow<'a, [u8]>>),
    /// A value of a typed column. Never NULL, text, bytes or a truth value.
    Cell(Cell<'a>),
}

/// A value as small as this costs no more to move than a cell.
const _: () = assert!(size_of::<Value<'_>>() <= 32);

impl<'a> From<Cell<'a>> for Value<'a> {
    fn from(cell: Cell<'a>) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Text(s) => Self::Text(s),
            Cell::Bytes(b) => Self::Bytes(b),
            Cell::Bool(b) => Self::Bool(b),
            Cell::Uuid(_)
            | Cell::Numeric(_)
            | Cell::Int(_)
            | Cell::Float(_)
            | Cell::Timestamp(_)
            | Cell::Date(_)
            | Cell::Json(_)
            | Cell::TextArray(_)
            | Cell::Other(_) => Self::Cell(cell),
        }
    }
}

impl Value<'_> {
    /// The value's type: as DynamoDB names it, `S N B BOOL NULL L M SS NS BS`, or as [`Cell::kind`] does.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "S",
            Self::Decimal(_) => "N",
            Self::Bytes(_) => "B",
            Self::Bool(_) => "BOOL",
            Self::Null => "NULL",
            Self::List(_) => "L",
            Self::Map(_) => "M",
            Self::TextSet(_) => "SS",
            Self::DecimalSet(_) => "NS",
            Self::BytesSet(_) => "BS",
            Self::Cell(cell) => cell.kind(),
        }
    }

    /// The same value, owning everything.
    #[must_use]
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Text(s) => Value::Text(Cow::Owned(s.into_owned())),
            Self::Decimal(s) => Value::Decimal(Cow::Owned(s.into_owned())),
            Self::Bytes(b) => Value::Bytes(Cow::Owned(b.into_owned())),
            Self::Bool(b) => Value::Bool(b),
            Self::Null => Value::Null,
            Self::List(l) => Value::List(l.into_iter().map(Value::into_owned).collect()),
            Self::Map(m) => {
                Value::Map(m.into_iter().map(|(k, v)| (Cow::Owned(k.into_owned()), v.into_owned())).collect())
            }
            Self::TextSet(s) => Value::TextSet(s.into_iter().map(|v| Cow::Owned(v.into_owned())).collect()),
            Self::DecimalSet(s) => Value::DecimalSet(s.into_iter().map(|v| Cow::Owned(v.into_owned())).collect()),
            Self::BytesSet(s) => Value::BytesSet(s.into_iter().map(|v| Cow::Owned(v.into_owned())).collect()),
            Self::Cell(cell) => Value::Cell(cell.into_owned()),
        }
    }
}
