//! The SDK's attribute values as ours, and back for keys.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
#[cfg(all(test, feature = "rehearsal"))]
use aws_sdk_dynamodbstreams::types::AttributeValue as StreamValue;

use crate::domain::value::{Attr, Item};

/// A type of attribute value that did not exist when this was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownType;

/// The two SDK crates generate the same type twice; streams are read through theirs in tests only.
macro_rules! reading {
    ($value:ident, $item:ident, $sdk:ident) => {
        /// An SDK value as ours. Map entries are sorted by name: the SDK keeps no order.
        pub(super) fn $value(value: $sdk) -> Result<Attr<'static>, UnknownType> {
            Ok(match value {
                $sdk::S(s) => Attr::Str(Cow::Owned(s)),
                $sdk::N(n) => Attr::Num(Cow::Owned(n)),
                $sdk::B(b) => Attr::Bin(Cow::Owned(b.into_inner())),
                $sdk::Bool(b) => Attr::Bool(b),
                $sdk::Null(_) => Attr::Null,
                $sdk::L(l) => Attr::List(l.into_iter().map($value).collect::<Result<_, _>>()?),
                $sdk::M(m) => Attr::Map($item(m)?.attrs),
                $sdk::Ss(v) => Attr::StrSet(v.into_iter().map(Cow::Owned).collect()),
                $sdk::Ns(v) => Attr::NumSet(v.into_iter().map(Cow::Owned).collect()),
                $sdk::Bs(v) => Attr::BinSet(v.into_iter().map(|b| Cow::Owned(b.into_inner())).collect()),
                _ => return Err(UnknownType),
            })
        }

        /// A whole item, attributes sorted by name.
        pub(super) fn $item(attrs: HashMap<String, $sdk>) -> Result<Item<'static>, UnknownType> {
            let mut attrs: Vec<(String, $sdk)> = attrs.into_iter().collect();
            attrs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let attrs =
                attrs.into_iter().map(|(k, v)| Ok((Cow::Owned(k), $value(v)?))).collect::<Result<_, UnknownType>>()?;
            Ok(Item { attrs })
        }
    };
}

reading!(from_sdk, item_from_sdk, AttributeValue);
#[cfg(all(test, feature = "rehearsal"))]
reading!(from_stream, item_from_stream, StreamValue);

/// One of our values as the SDK's.
pub(super) fn to_sdk(attr: &Attr<'_>) -> AttributeValue {
    let texts = |v: &[Cow<'_, str>]| v.iter().map(|s| s.to_string()).collect();
    match attr {
        Attr::Str(s) => AttributeValue::S(s.to_string()),
        Attr::Num(n) => AttributeValue::N(n.to_string()),
        Attr::Bin(b) => AttributeValue::B(Blob::new(b.to_vec())),
        Attr::Bool(b) => AttributeValue::Bool(*b),
        Attr::Null => AttributeValue::Null(true),
        Attr::List(l) => AttributeValue::L(l.iter().map(to_sdk).collect()),
        Attr::Map(m) => AttributeValue::M(m.iter().map(|(k, v)| (k.to_string(), to_sdk(v))).collect()),
        Attr::StrSet(v) => AttributeValue::Ss(texts(v)),
        Attr::NumSet(v) => AttributeValue::Ns(texts(v)),
        Attr::BinSet(v) => AttributeValue::Bs(v.iter().map(|b| Blob::new(b.to_vec())).collect()),
    }
}

/// One of our items as the SDK's.
pub(super) fn item_to_sdk(item: &Item<'_>) -> HashMap<String, AttributeValue> {
    item.attrs.iter().map(|(k, v)| (k.to_string(), to_sdk(v))).collect()
}
