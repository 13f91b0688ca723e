//! Documents read back from the text that keeps the type of every value (`typed.rs`).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json};

use super::RowErrorReason;
use crate::domain::value::{Record, Value};

/// A whole record: `{"id":{"S":"b1"},"price":{"N":"19.9"}}`.
///
/// # Errors
/// `Unparsable` for text that no record is written as.
pub fn read_typed_record(text: &str) -> Result<Record<'static>, RowErrorReason> {
    let fields = serde_json::from_str(text).ok().and_then(entries);
    Ok(Record { fields: fields.ok_or(RowErrorReason::Unparsable)? })
}

fn entries(all: Map<String, Json>) -> Option<Vec<(Cow<'static, str>, Value<'static>)>> {
    all.into_iter().map(|(name, typed)| Some((Cow::Owned(name), value(typed)?))).collect()
}

/// One value with its type: `{"S":"b1"}`. Numbers are text there, so none loses a digit.
fn value(typed: Json) -> Option<Value<'static>> {
    let Json::Object(typed) = typed else { return None };
    let mut all = typed.into_iter();
    let (Some((kind, said)), None) = (all.next(), all.next()) else { return None };
    Some(match (kind.as_str(), said) {
        ("S", Json::String(text)) => Value::Text(text.into()),
        ("N", Json::String(number)) => Value::Decimal(number.into()),
        ("B", Json::String(text)) => Value::Bytes(STANDARD.decode(text).ok()?.into()),
        ("BOOL", Json::Bool(yes)) => Value::Bool(yes),
        ("NULL", Json::Bool(true)) => Value::Null,
        ("L", Json::Array(items)) => Value::List(items.into_iter().map(value).collect::<Option<_>>()?),
        ("M", Json::Object(all)) => Value::Map(entries(all)?),
        ("SS", Json::Array(set)) => Value::TextSet(texts(set)?.into_iter().map(Cow::Owned).collect()),
        ("NS", Json::Array(set)) => Value::DecimalSet(texts(set)?.into_iter().map(Cow::Owned).collect()),
        ("BS", Json::Array(set)) => {
            let each = |text: String| STANDARD.decode(text).ok().map(Cow::Owned);
            Value::BytesSet(texts(set)?.into_iter().map(each).collect::<Option<_>>()?)
        }
        (_, Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) | Json::Object(_)) => {
            return None;
        }
    })
}

fn texts(set: Vec<Json>) -> Option<Vec<String>> {
    let text = |one| match one {
        Json::String(text) => Some(text),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => None,
    };
    set.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mapping::typed_record;

    #[test]
    fn every_value_comes_back_from_its_text() {
        let text = r#"{"b":{"B":"AP8="},"bs":{"BS":["AQ==","Ag=="]},"d":{"L":[{"NULL":true},{"BOOL":false},{"M":{}}]},"e":{"S":""},"m":{"M":{"k\"":{"S":"ü\u0000"}}},"n":{"N":"12345678901234567890.123456789"},"ns":{"NS":["1","20"]},"ss":{"SS":["a","b"]}}"#;
        let record = read_typed_record(text).unwrap();
        assert_eq!(typed_record(&record).unwrap(), text);
        for broken in ["", "[]", r#"{"a":{"S":1}}"#, r#"{"a":{"S":"x","N":"1"}}"#, r#"{"a":{"X":"x"}}"#, r#"{"a":{}}"#]
        {
            assert_eq!(read_typed_record(broken), Err(RowErrorReason::Unparsable), "{broken}");
        }
    }
}
