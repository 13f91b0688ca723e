//! PostgreSQL's binary `numeric`: groups of four decimal digits, most significant first.

use bytes::{BufMut, BytesMut};

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;
/// Most digits after the point that the wire format can say.
const MAX_SCALE: usize = 0x3FFF;

/// Appends the binary form of plain decimal text. `None`, with nothing appended, when the text is not
/// plain decimal or is outside what PostgreSQL stores.
pub(super) fn encode(out: &mut BytesMut, text: &str) -> Option<()> {
    let special = match text {
        "NaN" => Some(NAN),
        "Infinity" => Some(INFINITY),
        "-Infinity" => Some(MINUS_INFINITY),
        _ => None,
    };
    if let Some(sign) = special {
        header(out, 0, 0, sign, 0);
        return Some(());
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (int, frac) = digits.split_once('.').unwrap_or((digits, ""));
    if int.len() + frac.len() == 0 || !int.bytes().chain(frac.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let int = int.trim_start_matches('0').as_bytes();
    let frac = frac.as_bytes();
    if frac.len() > MAX_SCALE {
        return None;
    }
    let int_groups = int.len().div_ceil(4);
    let frac_groups = frac.len().div_ceil(4);
    let group = |g: usize| -> i16 {
        if g < int_groups {
            // The first group of the integer part may be short.
            let end = int.len() - 4 * (int_groups - 1 - g);
            value(&int[end.saturating_sub(4)..end])
        } else {
            let start = 4 * (g - int_groups);
            let end = (start + 4).min(frac.len());
            // The last group of the fraction is filled up with zeros on the right.
            value(&frac[start..end]) * [1000, 100, 10, 1][end - start - 1]
        }
    };
    let groups = int_groups + frac_groups;
    let first = (0..groups).find(|g| group(*g) != 0);
    let (first, last) = match first {
        Some(first) => (first, (first..groups).rev().find(|g| group(*g) != 0).unwrap_or(first)),
        None => {
            header(out, 0, 0, 0, u16::try_from(frac.len()).ok()?);
            return Some(());
        }
    };
    let count = i16::try_from(last + 1 - first).ok()?;
    let weight = i16::try_from(i64::try_from(int_groups).ok()? - 1 - i64::try_from(first).ok()?).ok()?;
    header(out, count, weight, if negative { NEGATIVE } else { 0 }, u16::try_from(frac.len()).ok()?);
    for g in first..=last {
        out.put_i16(group(g));
    }
    Some(())
}

/// Canonical decimal text of a binary `numeric`. `None` when the bytes are not one.
pub(super) fn decode(raw: &[u8]) -> Option<String> {
    let word = |at: usize| Some(u16::from_be_bytes(raw.get(at..at + 2)?.try_into().ok()?));
    let count = usize::from(word(0)?);
    let weight = i32::from(word(2)?.cast_signed());
    let sign = word(4)?;
    word(6)?;
    match sign {
        0 | NEGATIVE => {}
        NAN => return Some("NaN".to_owned()),
        INFINITY => return Some("Infinity".to_owned()),
        MINUS_INFINITY => return Some("-Infinity".to_owned()),
        _ => return None,
    }
    if raw.len() != 8 + 2 * count {
        return None;
    }
    let group = |g: i32| -> Option<u16> {
        match usize::try_from(g) {
            Ok(g) if g < count => word(8 + 2 * g).filter(|v| *v < 10_000),
            _ => Some(0),
        }
    };
    let mut out = String::new();
    let mut push = |v: u16| {
        for unit in [1000, 100, 10, 1] {
            out.push(char::from(b'0' + u8::try_from(v / unit % 10).unwrap_or(0)));
        }
    };
    for g in 0..=weight {
        push(group(g)?);
    }
    let mut fraction = weight + 1;
    let end = i32::try_from(count).ok()?;
    let point = 4 * usize::try_from(weight + 1).unwrap_or(0);
    // Groups between the point and the first stored one are zero.
    while fraction < end {
        push(group(fraction)?);
        fraction += 1;
    }
    let (int, frac) = out.split_at(point);
    let int = int.trim_start_matches('0');
    let frac = frac.trim_end_matches('0');
    if int.is_empty() && frac.is_empty() {
        return Some("0".to_owned());
    }
    let mut text = String::with_capacity(out.len() + 3);
    if sign == NEGATIVE {
        text.push('-');
    }
    text.push_str(if int.is_empty() { "0" } else { int });
    if !frac.is_empty() {
        text.push('.');
        text.push_str(frac);
    }
    Some(text)
}

fn header(out: &mut BytesMut, count: i16, weight: i16, sign: u16, scale: u16) {
    out.put_i16(count);
    out.put_i16(weight);
    out.put_u16(sign);
    out.put_u16(scale);
}

fn value(digits: &[u8]) -> i16 {
    digits.iter().fold(0, |v, d| v * 10 + i16::from(d - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(text: &str) -> Option<String> {
        let mut out = BytesMut::new();
        encode(&mut out, text)?;
        decode(&out)
    }

    #[test]
    fn known_encodings_match_the_server() {
        let bytes = |t: &str| {
            let mut out = BytesMut::new();
            encode(&mut out, t).unwrap();
            out.to_vec()
        };
        // As `numeric_send` gives them.
        assert_eq!(bytes("0"), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes("19.9"), [0, 2, 0, 0, 0, 0, 0, 1, 0, 19, 0x23, 0x28]);
        assert_eq!(bytes("-12345"), [0, 2, 0, 1, 0x40, 0, 0, 0, 0, 1, 0x09, 0x29]);
        assert_eq!(bytes("0.00001"), [0, 1, 0xFF, 0xFE, 0, 0, 0, 5, 0x03, 0xE8]);
        assert_eq!(bytes("10000"), [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn what_is_not_plain_decimal_is_refused() {
        for bad in ["", "-", ".", "1e3", "+1", "1.2.3", "abc", " 1", "--1"] {
            let mut out = BytesMut::new();
            assert_eq!(encode(&mut out, bad), None, "{bad}");
            assert!(out.is_empty());
        }
        assert_eq!(decode(&[0, 1, 0, 0]), None);
        assert_eq!(decode(&[0, 1, 0, 0, 0, 0, 0, 0, 0x7F, 0xFF]), None);
    }

    #[test]
    fn edges_round_trip() {
        for text in ["0", "0.5", "-0.5", "1", "9999", "10000", "0.0001", "0.00000001", "123456789.000000001", "NaN"] {
            assert_eq!(round(text).as_deref(), Some(text));
        }
        assert_eq!(round("-0").as_deref(), Some("0"));
        assert_eq!(round("007.50").as_deref(), Some("7.5"));
        let long = format!("{}.{}1", "9".repeat(400), "0".repeat(300));
        assert_eq!(round(&long), Some(long));
    }

    proptest! {
        #[test]
        fn any_canonical_number_round_trips(negative: bool, int in "0|[1-9][0-9]{0,60}", frac in "|[0-9]{0,60}[1-9]") {
            let mut text = int.clone();
            if !frac.is_empty() {
                text = format!("{int}.{frac}");
            }
            if negative && text != "0" {
                text.insert(0, '-');
            }
            prop_assert_eq!(round(&text), Some(text));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(raw: Vec<u8>) {
            // Weights up to 32767 make long text; what matters is that nothing panics.
            let _ = decode(&raw);
        }
    }
}
