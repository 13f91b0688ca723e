//! The JSON schema for editors, made from the key table the reader uses.

use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, REFERENCE, ROOT, WORD};

/// The JSON schema of the config file.
#[must_use]
pub fn schema() -> Value {
    let mut root = object(ROOT);
    if let Value::Object(map) = &mut root {
        map.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        map.insert("title".into(), json!("cutover config.toml"));
    }
    root
}

fn object(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|k| {
            let mut value = kind(k.kind);
            if let Value::Object(map) = &mut value {
                map.insert("description".into(), json!(k.doc));
            }
            (k.name.to_owned(), value)
        })
        .collect();
    let required: Vec<&str> = keys.iter().filter(|k| k.required).map(|k| k.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn kind(kind_: Kind) -> Value {
    // Numbers may come from variables: `port = "${PG_PORT}"`.
    let variable = json!({ "type": "string", "pattern": "\\$\\{[^}]+\\}" });
    match kind_ {
        Kind::Text | Kind::ColumnType => json!({ "type": "string", "minLength": 1 }),
        Kind::Url => json!({ "type": "string", "pattern": "^(https?://|\\$\\{)" }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string", "minLength": 1 } }),
        Kind::Path | Kind::TextOrTexts => json!({ "anyOf": [{ "type": "string", "minLength": 1 }, kind(Kind::Texts)] }),
        Kind::OneOf(words) => json!({ "enum": words }),
        Kind::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int => json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, variable] }),
        Kind::Count => json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, variable] }),
        Kind::Number => json!({ "anyOf": [{ "type": "number", "minimum": 0 }, variable] }),
        Kind::Statuses => json!({ "type": "array", "items": { "type": "integer", "minimum": 100, "maximum": 599 } }),
        Kind::Percents => json!({ "type": "array", "items": { "type": "integer", "minimum": 1, "maximum": 100 } }),
        Kind::ValueRefs => json!({ "type": "array", "items": kind(Kind::ValueRef) }),
        Kind::Duration => json!({ "type": "string", "pattern": "^(([0-9]+(ms|s|m|h|d))+|.*\\$\\{.*)$" }),
        Kind::Offset => {
            json!({ "type": "string", "pattern": "^(T[-+](0+|[0-9]+:[0-5]?[0-9](:[0-5]?[0-9])?)|.*\\$\\{.*)$" })
        }
        Kind::Moment | Kind::Free => json!({ "type": "string" }),
        Kind::Secret => reference(),
        Kind::ValueRef => json!({ "anyOf": [{ "type": "string", "minLength": 1 }, reference()] }),
        Kind::Confirm => json!({ "anyOf": [{ "enum": ["none", "key", "word"] }, object(WORD)] }),
        Kind::Table(keys) => object(keys),
        Kind::List(keys) => json!({ "type": "array", "items": object(keys) }),
        Kind::Part => json!({ "type": "object" }),
        Kind::Map(of) => json!({ "type": "object", "additionalProperties": kind(*of) }),
    }
}

/// Exactly one of the places a secret may be found in.
fn reference() -> Value {
    let mut reference = object(REFERENCE);
    if let Value::Object(map) = &mut reference {
        map.insert("minProperties".into(), json!(1));
        map.insert("maxProperties".into(), json!(1));
    }
    reference
}
