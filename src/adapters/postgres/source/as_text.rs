//! Values of the types that are known here, from the text the server writes them in: the log sends every value so where
//! it sends one of a type that only the database knows.
//!
//! Text is brought into the binary form and decoded as everything else is, so that there is one meaning of a value.

use std::borrow::Cow;

use bytes::{BufMut as _, BytesMut};

use crate::adapters::postgres::decode::{self, Unreadable};
use crate::domain::mapping::canonical_numeric;
use crate::domain::plan::ColumnType;
use crate::domain::value::Cell;

/// Days from 1970-01-01 to 2000-01-01, from where the server counts.
const EPOCH_DAYS: i64 = 10_957;
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// One value, as it is written under the settings of our sessions.
pub(super) fn cell(ty: ColumnType, text: &str) -> Result<Cell<'_>, Unreadable> {
    use ColumnType as T;
    Ok(match ty {
        T::Text | T::Varchar(_) | T::Native(_) => Cell::Text(Cow::Borrowed(text)),
        T::Uuid => Cell::Uuid(uuid::Uuid::try_parse(text).map_err(|_| Unreadable)?.into_bytes()),
        T::Numeric(_) => Cell::Numeric(Cow::Owned(match text {
            "NaN" | "Infinity" | "-Infinity" => text.to_owned(),
            number => canonical_numeric(number).ok_or(Unreadable)?,
        })),
        T::Smallint | T::Integer | T::Bigint => Cell::Int(text.parse().map_err(|_| Unreadable)?),
        T::Double => Cell::Float(text.parse().map_err(|_| Unreadable)?),
        T::Boolean => match text {
            "t" => Cell::Bool(true),
            "f" => Cell::Bool(false),
            _ => return Err(Unreadable),
        },
        T::Timestamptz => owned(ty, &moment(text)?.to_be_bytes())?,
        T::Date => owned(ty, &day(text)?.to_be_bytes())?,
        T::Jsonb => owned(ty, &[&[1], text.as_bytes()].concat())?,
        T::TextArray => owned(ty, &array(text)?)?,
        T::Bytea => Cell::Bytes(Cow::Owned(bytes(text)?)),
        // No column of a database has this type.
        T::Document => return Err(Unreadable),
    })
}

fn owned(ty: ColumnType, raw: &[u8]) -> Result<Cell<'static>, Unreadable> {
    decode::cell(ty, Some(raw)).map(Cell::into_owned)
}

/// `\x00ff`.
fn bytes(text: &str) -> Result<Vec<u8>, Unreadable> {
    let digits = text.strip_prefix("\\x").ok_or(Unreadable)?.as_bytes();
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(Unreadable);
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Unreadable);
    }
    pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// `2026-11-22`, with ` BC` behind it for years before the first: days since 2000-01-01.
fn day(text: &str) -> Result<i32, Unreadable> {
    match text {
        "infinity" => return Ok(i32::MAX),
        "-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let (date, before) = text.strip_suffix(" BC").map_or((text, false), |date| (date, true));
    i32::try_from(days(date, before)?).map_err(|_| Unreadable)
}

fn days(date: &str, before: bool) -> Result<i64, Unreadable> {
    let mut parts = date.split('-').map(str::parse::<i64>);
    let mut part = || parts.next().and_then(Result::ok).ok_or(Unreadable);
    let (year, month, day) = (part()?, part()?, part()?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(Unreadable);
    }
    // The year before the first is the year 0 here. Years begin in March, so that a leap day is the last one.
    let year = if before { 1 - year } else { year } - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let since = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Ok(since - EPOCH_DAYS)
}

/// `2026-11-22 14:47:16.22+00`, with ` BC` behind it for years before the first: microseconds since 2000-01-01 UTC.
fn moment(text: &str) -> Result<i64, Unreadable> {
    match text {
        "infinity" => return Ok(i64::MAX),
        "-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let (text, before) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    let (date, time) = text.strip_suffix("+00").and_then(|text| text.split_once(' ')).ok_or(Unreadable)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = time.split(':').map(str::parse::<i64>);
    let mut part = || parts.next().and_then(Result::ok).ok_or(Unreadable);
    let seconds = part()? * 3_600 + part()? * 60 + part()?;
    if parts.next().is_some() || fraction.len() > 6 || !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return Err(Unreadable);
    }
    let micros: i64 = format!("{fraction:0<6}").parse().map_err(|_| Unreadable)?;
    let midnight = days(date, before)?.checked_mul(DAY).ok_or(Unreadable)?;
    midnight.checked_add(seconds * 1_000_000 + micros).ok_or(Unreadable)
}

/// `{a,"b c",NULL}`, `[0:1]={a,b}`, `{{a,b},{c,d}}`: an array of text in its binary form.
fn array(text: &str) -> Result<Vec<u8>, Unreadable> {
    const TEXT: u32 = 25;
    let (bounds, body) = match text.strip_prefix('[') {
        Some(_) => text.split_once('=').ok_or(Unreadable)?,
        None => ("", text),
    };
    let lower: Vec<i32> = bounds
        .split_terminator(']')
        .map(|one| one.strip_prefix('[').and_then(|one| one.split_once(':')?.0.parse().ok()).ok_or(Unreadable))
        .collect::<Result<_, _>>()?;
    let mut reader = Elements { rest: body, found: BytesMut::new(), sizes: Vec::new(), null: false };
    reader.level(0)?;
    if !reader.rest.is_empty() {
        return Err(Unreadable);
    }
    let Elements { found, sizes, null, .. } = reader;
    // An empty one has no dimensions.
    let dimensions = if sizes.contains(&0) { &[][..] } else { &sizes[..] };
    let mut out = BytesMut::with_capacity(found.len() + 32);
    out.put_i32(i32::try_from(dimensions.len()).map_err(|_| Unreadable)?);
    out.put_i32(i32::from(null));
    out.put_u32(TEXT);
    for (n, size) in dimensions.iter().enumerate() {
        out.put_i32(*size);
        out.put_i32(lower.get(n).copied().unwrap_or(1));
    }
    out.extend_from_slice(&found);
    Ok(out.to_vec())
}

struct Elements<'t> {
    rest: &'t str,
    /// Elements behind their lengths.
    found: BytesMut,
    /// How many there are in each dimension.
    sizes: Vec<i32>,
    null: bool,
}

impl Elements<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn level(&mut self, depth: usize) -> Result<(), Unreadable> {
        // The server has no more dimensions than six.
        if depth > 6 || self.next() != Some('{') {
            return Err(Unreadable);
        }
        let mut count = 0;
        if let Some(rest) = self.rest.strip_prefix('}') {
            self.rest = rest;
        } else {
            loop {
                if self.rest.starts_with('{') {
                    self.level(depth + 1)?
                } else {
                    self.element()?
                }
                count += 1;
                match self.next() {
                    Some(',') => {}
                    Some('}') => break,
                    _ => return Err(Unreadable),
                }
            }
        }
        if self.sizes.len() <= depth {
            self.sizes.resize(depth + 1, count);
        }
        if let Some(size) = self.sizes.get_mut(depth) {
            *size = count;
        }
        Ok(())
    }

    fn element(&mut self) -> Result<(), Unreadable> {
        let mut value = String::new();
        let quoted = self.rest.starts_with('"');
        if quoted {
            self.next();
            loop {
                match self.next().ok_or(Unreadable)? {
                    '"' => break,
                    '\\' => value.push(self.next().ok_or(Unreadable)?),
                    c => value.push(c),
                }
            }
        } else {
            let end = self.rest.find([',', '}']).ok_or(Unreadable)?;
            let (bare, rest) = self.rest.split_at(end);
            value.push_str(bare);
            self.rest = rest;
        }
        if !quoted && value == "NULL" {
            self.null = true;
            self.found.put_i32(-1);
            return Ok(());
        }
        self.found.put_i32(i32::try_from(value.len()).map_err(|_| Unreadable)?);
        self.found.put_slice(value.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColumnType as T;

    #[test]
    fn text_becomes_the_cell_that_the_binary_form_becomes() {
        for (ty, text, cell_) in [
            (T::Numeric(None), "1.50", Cell::Numeric("1.5".into())),
            (T::Numeric(None), "NaN", Cell::Numeric("NaN".into())),
            (T::Bigint, "-9223372036854775808", Cell::Int(i64::MIN)),
            (T::Double, "-Infinity", Cell::Float(f64::NEG_INFINITY)),
            (T::Double, "1e+300", Cell::Float(1e300)),
            (T::Boolean, "t", Cell::Bool(true)),
            (T::Timestamptz, "2026-11-22 14:47:16.220001+00", Cell::Timestamp(1_795_358_836_220_001)),
            (T::Timestamptz, "1969-12-31 23:59:59.999999+00", Cell::Timestamp(-1)),
            (T::Timestamptz, "0001-01-01 00:00:00+00 BC", Cell::Timestamp(-62_167_219_200_000_000)),
            (T::Timestamptz, "infinity", Cell::Timestamp(i64::MAX)),
            (T::Date, "1969-12-31", Cell::Date(-1)),
            (T::Date, "2000-02-29", Cell::Date(11_016)),
            (T::Date, "4714-11-24 BC", Cell::Date(-2_440_588)),
            (T::Date, "-infinity", Cell::Date(i32::MIN)),
            (T::Jsonb, r#"{"b": 1.0, "a": []}"#, Cell::Json(r#"{"a":[],"b":1}"#.into())),
            (T::Bytea, "\\x00ff", Cell::Bytes(vec![0, 255].into())),
            (T::Bytea, "\\x", Cell::Bytes(vec![].into())),
            (T::TextArray, "{}", Cell::TextArray(vec![])),
            (
                T::TextArray,
                r#"{a,"b,c","NULL","","q\"\\"}"#,
                Cell::TextArray(vec!["a".into(), "b,c".into(), "NULL".into(), "".into(), "q\"\\".into()]),
            ),
        ] {
            assert_eq!(cell(ty, text), Ok(cell_), "{text}");
        }
        for text in ["{NULL}", "{{a,b},{c,d}}", "[0:1]={a,b}"] {
            assert!(matches!(cell(T::TextArray, text), Ok(Cell::Other(_))), "{text}");
        }
        for (ty, text) in [
            (T::Boolean, "true"),
            (T::Timestamptz, "2026-11-22 14:47:16"),
            (T::Timestamptz, "2026-11-22 14:47:16+01"),
            (T::Bytea, "abc"),
            (T::TextArray, "{a"),
            (T::TextArray, "{a}b"),
        ] {
            assert_eq!(cell(ty, text), Err(Unreadable), "{text}");
        }
    }
}
