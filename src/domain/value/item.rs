//! What a document store holds: items of named attributes, borrowed from the page they came in.

use std::borrow::Cow;

/// One attribute value. Numbers stay text: DynamoDB numbers have 38 digits and no float holds them.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr<'a> {
    /// Text.
    Str(Cow<'a, str>),
    /// A number as the source wrote it.
    Num(Cow<'a, str>),
    /// Bytes, already decoded from base64.
    Bin(Cow<'a, [u8]>),
    /// A truth value.
    Bool(bool),
    /// An explicit null.
    Null,
    /// An ordered list.
    List(Vec<Attr<'a>>),
    /// Named attributes, in the source's order.
    Map(Vec<(Cow<'a, str>, Attr<'a>)>),
    /// A set of text.
    StrSet(Vec<Cow<'a, str>>),
    /// A set of numbers, as text.
    NumSet(Vec<Cow<'a, str>>),
    /// A set of byte strings.
    BinSet(Vec<Cow<'a, [u8]>>),
}

impl Attr<'_> {
    /// The attribute's type as DynamoDB names it: `S N B BOOL NULL L M SS NS BS`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Str(_) => "S",
            Self::Num(_) => "N",
            Self::Bin(_) => "B",
            Self::Bool(_) => "BOOL",
            Self::Null => "NULL",
            Self::List(_) => "L",
            Self::Map(_) => "M",
            Self::StrSet(_) => "SS",
            Self::NumSet(_) => "NS",
            Self::BinSet(_) => "BS",
        }
    }

    /// The same value, owning everything.
    #[must_use]
    pub fn into_owned(self) -> Attr<'static> {
        match self {
            Self::Str(s) => Attr::Str(Cow::Owned(s.into_owned())),
            Self::Num(s) => Attr::Num(Cow::Owned(s.into_owned())),
            Self::Bin(b) => Attr::Bin(Cow::Owned(b.into_owned())),
            Self::Bool(b) => Attr::Bool(b),
            Self::Null => Attr::Null,
            Self::List(l) => Attr::List(l.into_iter().map(Attr::into_owned).collect()),
            Self::Map(m) => {
                Attr::Map(m.into_iter().map(|(k, v)| (Cow::Owned(k.into_owned()), v.into_owned())).collect())
            }
            Self::StrSet(s) => Attr::StrSet(s.into_iter().map(|v| Cow::Owned(v.into_owned())).collect()),
            Self::NumSet(s) => Attr::NumSet(s.into_iter().map(|v| Cow::Owned(v.into_owned())).collect()),
            Self::BinSet(s) => Attr::BinSet(s.into_iter().map(|v| Cow::Owned(v.into_owned())).collect()),
        }
    }
}

/// One item: its attributes in the order the source sent them. Reused from item to item.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item<'a> {
    /// Attribute names and values.
    pub attrs: Vec<(Cow<'a, str>, Attr<'a>)>,
}

impl<'a> Item<'a> {
    /// The attribute called `name`, if the item has one. Linear: items have a dozen attributes.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Attr<'a>> {
        self.attrs.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// The same item, owning everything.
    #[must_use]
    pub fn into_owned(self) -> Item<'static> {
        Item { attrs: self.attrs.into_iter().map(|(k, v)| (Cow::Owned(k.into_owned()), v.into_owned())).collect() }
    }
}
