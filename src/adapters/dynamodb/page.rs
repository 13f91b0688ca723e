//! A scan page, parsed once. Strings borrow from the body unless they were escaped.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::json::{Json, Malformed};
use crate::domain::value::{Record, Value};
use crate::ports::{Cursor, PageEnd};

/// Named attributes in the source's order.
type Entries<'p> = Vec<(Cow<'p, str>, Value<'p>)>;

/// Parses a page and hands each item to `each`. The item is one and the same, filled anew.
pub(super) fn decode<'p>(body: &'p [u8], each: &mut dyn FnMut(&Record<'p>)) -> Result<PageEnd, Malformed> {
    let mut json = Json::new(body)?;
    let mut end = PageEnd::default();
    let (mut seen, mut count) = (None, None);
    let mut item = Record { fields: Vec::with_capacity(16) };
    json.object(|json, name| {
        match name.as_ref() {
            "Items" => {
                let mut n = 0;
                json.list(|json| {
                    item.fields.clear();
                    entries(json, &mut item.fields)?;
                    each(&item);
                    n += 1;
                    Ok(())
                })?;
                seen = Some(n);
            }
            "Count" => {
                let number = json.number()?;
                count = Some(number.parse::<u32>().map_err(|_| json.wrong("a count that is none"))?);
            }
            "LastEvaluatedKey" => {
                let raw = json.raw()?;
                let mut empty = true;
                if raw != "null" {
                    Json::new(raw.as_bytes())?.object(|json, _| {
                        empty = false;
                        json.raw().map(drop)
                    })?;
                }
                end.next = (!empty).then(|| Cursor(raw.to_owned()));
            }
            "ConsumedCapacity" => {
                if !json.null()? {
                    json.object(|json, name| {
                        if name == "CapacityUnits" && !json.null()? {
                            end.capacity = json.number()?.parse().ok();
                            Ok(())
                        } else if name == "CapacityUnits" {
                            Ok(())
                        } else {
                            json.raw().map(drop)
                        }
                    })?;
                }
            }
            _ => drop(json.raw()?),
        }
        Ok(())
    })?;
    json.end()?;
    end.items = match (seen, count) {
        (Some(seen), Some(count)) if seen != count => return Err(json.wrong("Count differs from Items")),
        (Some(n), _) | (None, Some(n)) => n,
        (None, None) => return Err(json.wrong("no Items")),
    };
    Ok(end)
}

/// Named attributes, appended.
pub(super) fn entries<'p>(json: &mut Json<'p>, out: &mut Entries<'p>) -> Result<(), Malformed> {
    json.object(|json, name| {
        out.push((name, attribute(json)?));
        Ok(())
    })
}

/// One attribute value: an object of exactly one entry, the type.
fn attribute<'p>(json: &mut Json<'p>) -> Result<Value<'p>, Malformed> {
    let mut attr = None;
    json.object(|json, kind| {
        if attr.is_some() {
            return Err(json.wrong("two types"));
        }
        attr = Some(match kind.as_ref() {
            "S" => Value::Text(json.string()?),
            "N" => Value::Decimal(json.string()?),
            "B" => Value::Bytes(binary(json)?),
            "BOOL" => Value::Bool(json.boolean()?),
            "NULL" => {
                json.raw()?;
                Value::Null
            }
            "L" => {
                let mut items = Vec::new();
                json.list(|json| {
                    items.push(attribute(json)?);
                    Ok(())
                })?;
                Value::List(items)
            }
            "M" => {
                let mut members = Vec::new();
                entries(json, &mut members)?;
                Value::Map(members)
            }
            "SS" => Value::TextSet(set(json, Json::string)?),
            "NS" => Value::DecimalSet(set(json, Json::string)?),
            "BS" => Value::BytesSet(set(json, binary)?),
            _ => return Err(json.wrong("a type this program does not know")),
        });
        Ok(())
    })?;
    attr.ok_or_else(|| json.wrong("no type"))
}

fn set<'p, T>(
    json: &mut Json<'p>,
    mut one: impl FnMut(&mut Json<'p>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut all = Vec::new();
    json.list(|json| {
        all.push(one(json)?);
        Ok(())
    })?;
    Ok(all)
}

fn binary<'p>(json: &mut Json<'p>) -> Result<Cow<'p, [u8]>, Malformed> {
    let text = json.string()?;
    STANDARD.decode(text.as_bytes()).map(Cow::Owned).map_err(|_| json.wrong("not base64"))
}
