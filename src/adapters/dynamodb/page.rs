//! A scan page, parsed once. Strings borrow from the body unless they were escaped.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use crate::domain::value::{Attr, Item};
use crate::ports::{Cursor, PageEnd};

/// Parses a page and hands each item to `each`.
pub(super) fn decode<'p>(body: &'p [u8], each: &mut dyn FnMut(&Item<'p>)) -> Result<PageEnd, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let end = PageSeed { each }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(end)
}

struct PageSeed<'e, 'p> {
    each: &'e mut dyn FnMut(&Item<'p>),
}

impl<'p> DeserializeSeed<'p> for PageSeed<'_, 'p> {
    type Value = PageEnd;

    fn deserialize<D: Deserializer<'p>>(self, d: D) -> Result<PageEnd, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'p> Visitor<'p> for PageSeed<'_, 'p> {
    type Value = PageEnd;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scan page")
    }

    fn visit_map<A: MapAccess<'p>>(self, mut map: A) -> Result<PageEnd, A::Error> {
        let mut end = PageEnd::default();
        let (mut seen, mut count) = (None, None);
        while let Some(Text(name)) = map.next_key()? {
            match name.as_ref() {
                "Items" => seen = Some(map.next_value_seed(Items { each: &mut *self.each })?),
                "Count" => count = Some(map.next_value::<u32>()?),
                "LastEvaluatedKey" => {
                    let raw = map.next_value::<Option<&RawValue>>()?;
                    end.next = raw.map(RawValue::get).filter(|key| *key != "{}").map(|key| Cursor(key.to_owned()));
                }
                "ConsumedCapacity" => end.capacity = map.next_value::<Option<Consumed>>()?.and_then(|c| c.units),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        end.items = match (seen, count) {
            (Some(seen), Some(count)) if seen != count => return Err(A::Error::custom("Count differs from Items")),
            (Some(n), _) | (None, Some(n)) => n,
            (None, None) => return Err(A::Error::missing_field("Items")),
        };
        Ok(end)
    }
}

#[derive(Deserialize)]
struct Consumed {
    #[serde(rename = "CapacityUnits")]
    units: Option<f64>,
}

struct Items<'e, 'p> {
    each: &'e mut dyn FnMut(&Item<'p>),
}

impl<'p> DeserializeSeed<'p> for Items<'_, 'p> {
    type Value = u32;

    fn deserialize<D: Deserializer<'p>>(self, d: D) -> Result<u32, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'p> Visitor<'p> for Items<'_, 'p> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'p>>(self, mut seq: A) -> Result<u32, A::Error> {
        let mut item = Item { attrs: Vec::with_capacity(16) };
        let mut n = 0;
        while seq.next_element_seed(Entries(&mut item.attrs))?.is_some() {
            (self.each)(&item);
            n += 1;
        }
        Ok(n)
    }
}

/// Named attributes into a vector that is cleared first.
struct Entries<'v, 'p>(&'v mut Vec<(Cow<'p, str>, Attr<'p>)>);

impl<'p> DeserializeSeed<'p> for Entries<'_, 'p> {
    type Value = ();

    fn deserialize<D: Deserializer<'p>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'p> Visitor<'p> for Entries<'_, 'p> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("named attributes")
    }

    fn visit_map<A: MapAccess<'p>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.clear();
        while let Some(Text(name)) = map.next_key()? {
            let Value(attr) = map.next_value()?;
            self.0.push((name, attr));
        }
        Ok(())
    }
}

/// One attribute value: an object of exactly one entry, the type.
struct Value<'p>(Attr<'p>);

impl<'p> Deserialize<'p> for Value<'p> {
    fn deserialize<D: Deserializer<'p>>(d: D) -> Result<Self, D::Error> {
        struct One;
        impl<'p> Visitor<'p> for One {
            type Value = Value<'p>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an attribute value")
            }

            fn visit_map<A: MapAccess<'p>>(self, mut map: A) -> Result<Value<'p>, A::Error> {
                let Some(Text(kind)) = map.next_key()? else { return Err(A::Error::custom("no type")) };
                let attr = match kind.as_ref() {
                    "S" => Attr::Str(map.next_value::<Text<'p>>()?.0),
                    "N" => Attr::Num(map.next_value::<Text<'p>>()?.0),
                    "B" => Attr::Bin(Cow::Owned(map.next_value::<Binary>()?.0)),
                    "BOOL" => Attr::Bool(map.next_value()?),
                    "NULL" => {
                        map.next_value::<IgnoredAny>()?;
                        Attr::Null
                    }
                    "L" => Attr::List(map.next_value::<Vec<Value<'p>>>()?.into_iter().map(|v| v.0).collect()),
                    "M" => {
                        let mut entries = Vec::new();
                        map.next_value_seed(Entries(&mut entries))?;
                        Attr::Map(entries)
                    }
                    "SS" => Attr::StrSet(map.next_value::<Vec<Text<'p>>>()?.into_iter().map(|t| t.0).collect()),
                    "NS" => Attr::NumSet(map.next_value::<Vec<Text<'p>>>()?.into_iter().map(|t| t.0).collect()),
                    "BS" => {
                        let set = map.next_value::<Vec<Binary>>()?;
                        Attr::BinSet(set.into_iter().map(|b| Cow::Owned(b.0)).collect())
                    }
                    _ => return Err(A::Error::custom("a type this program does not know")),
                };
                match map.next_key::<IgnoredAny>()? {
                    None => Ok(Value(attr)),
                    Some(_) => Err(A::Error::custom("two types")),
                }
            }
        }
        d.deserialize_map(One)
    }
}

/// Text, borrowed when it was not escaped. (`Cow` on its own always owns.)
struct Text<'p>(Cow<'p, str>);

impl<'p> Deserialize<'p> for Text<'p> {
    fn deserialize<D: Deserializer<'p>>(d: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'p> Visitor<'p> for Borrowing {
            type Value = Text<'p>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'p str) -> Result<Text<'p>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'p>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Text<'p>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        d.deserialize_str(Borrowing)
    }
}

struct Binary(Vec<u8>);

impl<'p> Deserialize<'p> for Binary {
    fn deserialize<D: Deserializer<'p>>(d: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(d)?;
        STANDARD.decode(text.as_bytes()).map(Binary).map_err(|_| D::Error::custom("not base64"))
    }
}
