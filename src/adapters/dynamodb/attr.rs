//! The SDK's attribute values as ours, and back for keys.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
#[cfg(all(test, feature = "embedded-dynamodb"))]
use aws_sdk_dynamodbstreams::types::AttributeValue as StreamValue;

use crate::domain::mapping::{RowErrorReason, document};
use crate::domain::value::{Record, Value};
use crate::ports::{ErrorKind, PortError, PortResult};

/// A type of attribute value that did not exist when this was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownType;

/// The two SDK crates generate the same type twice; streams are read through theirs in tests only.
macro_rules! reading {
    ($value:ident, $item:ident, $sdk:ident) => {
        /// An SDK value as ours. Map entries are sorted by name: the SDK keeps no order.
        pub(super) fn $value(value: $sdk) -> Result<Value<'static>, UnknownType> {
            Ok(match value {
                $sdk::S(s) => Value::Text(Cow::Owned(s)),
                $sdk::N(n) => Value::Decimal(Cow::Owned(n)),
                $sdk::B(b) => Value::Bytes(Cow::Owned(b.into_inner())),
                $sdk::Bool(b) => Value::Bool(b),
                $sdk::Null(_) => Value::Null,
                $sdk::L(l) => Value::List(l.into_iter().map($value).collect::<Result<_, _>>()?),
                $sdk::M(m) => Value::Map($item(m)?.fields),
                $sdk::Ss(v) => Value::TextSet(v.into_iter().map(Cow::Owned).collect()),
                $sdk::Ns(v) => Value::DecimalSet(v.into_iter().map(Cow::Owned).collect()),
                $sdk::Bs(v) => Value::BytesSet(v.into_iter().map(|b| Cow::Owned(b.into_inner())).collect()),
                _ => return Err(UnknownType),
            })
        }

        /// A whole item, attributes sorted by name.
        pub(super) fn $item(fields: HashMap<String, $sdk>) -> Result<Record<'static>, UnknownType> {
            let mut fields: Vec<(String, $sdk)> = fields.into_iter().collect();
            fields.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let fields =
                fields.into_iter().map(|(k, v)| Ok((Cow::Owned(k), $value(v)?))).collect::<Result<_, UnknownType>>()?;
            Ok(Record { fields })
        }
    };
}

reading!(from_sdk, item_from_sdk, AttributeValue);
#[cfg(all(test, feature = "embedded-dynamodb"))]
reading!(from_stream, item_from_stream, StreamValue);

/// One of our values as the SDK's; an error for one of a typed column that no item can hold.
pub(super) fn to_sdk(attr: &Value<'_>) -> Result<AttributeValue, RowErrorReason> {
    let texts = |v: &[Cow<'_, str>]| v.iter().map(|s| s.to_string()).collect();
    Ok(match attr {
        Value::Text(s) => AttributeValue::S(s.to_string()),
        Value::Decimal(n) => AttributeValue::N(n.to_string()),
        Value::Bytes(b) => AttributeValue::B(Blob::new(b.to_vec())),
        Value::Bool(b) => AttributeValue::Bool(*b),
        Value::Null => AttributeValue::Null(true),
        Value::List(l) => AttributeValue::L(l.iter().map(to_sdk).collect::<Result<_, _>>()?),
        Value::Map(m) => {
            AttributeValue::M(m.iter().map(|(k, v)| Ok((k.to_string(), to_sdk(v)?))).collect::<Result<_, _>>()?)
        }
        Value::TextSet(v) => AttributeValue::Ss(texts(v)),
        Value::DecimalSet(v) => AttributeValue::Ns(texts(v)),
        Value::BytesSet(v) => AttributeValue::Bs(v.iter().map(|b| Blob::new(b.to_vec())).collect()),
        Value::Cell(cell) => to_sdk(&document(cell)?)?,
    })
}

/// One of our items as the SDK's; an error that names the attribute no item can hold.
pub(super) fn item_to_sdk(item: &Record<'_>, tried: &str, on: &str) -> PortResult<HashMap<String, AttributeValue>> {
    let held = |(k, v): &(Cow<'_, str>, Value<'_>)| {
        Ok((k.to_string(), to_sdk(v).map_err(|reason| unheld(tried, on, k, reason))?))
    };
    item.fields.iter().map(held).collect()
}

/// That no item can hold a value.
pub(super) fn unheld(tried: &str, on: &str, name: &str, reason: RowErrorReason) -> PortError {
    PortError::new(ErrorKind::Invalid, tried, on, format!("no item can hold {name}: {reason}"))
}
