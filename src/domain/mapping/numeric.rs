//! Canonical decimal text.

use std::borrow::Cow;

/// Most digits an expanded exponent may add; beyond it the text is no sensible decimal.
const EXPANSION_LIMIT: i32 = 400;

/// Canonical decimal form of a number as DynamoDB or PostgreSQL writes it (`1.50`, `2e3`, `-0`): plain
/// digits, no exponent, no superfluous zeros. `None` when the text is not a number. Borrows when the text is
/// canonical already.
#[must_use]
pub fn canonical_numeric(text: &str) -> Option<Cow<'_, str>> {
    if is_canonical(text) {
        return Some(Cow::Borrowed(text));
    }
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(i) => (&rest[..i], rest[i + 1..].parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits_only = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits_only(whole) || !digits_only(fraction) {
        return None;
    }
    let digits: String = [whole, fraction].concat();
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return Some(Cow::Borrowed("0"));
    }
    if exponent.abs() > EXPANSION_LIMIT {
        return None;
    }
    // Place of the decimal point relative to the first significant digit.
    let point = i32::try_from(whole.len()).ok()? - i32::try_from(leading).ok()? + exponent;
    let length = i32::try_from(significant.len()).ok()?;
    let mut out = String::with_capacity(significant.len() + 4);
    if negative {
        out.push('-');
    }
    if point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', usize::try_from(-point).ok()?));
        out.push_str(significant);
    } else if point >= length {
        out.push_str(significant);
        out.extend(std::iter::repeat_n('0', usize::try_from(point - length).ok()?));
    } else {
        let at = usize::try_from(point).ok()?;
        out.push_str(&significant[..at]);
        out.push('.');
        out.push_str(&significant[at..]);
    }
    Some(Cow::Owned(out))
}

/// Whether the text is canonical already: the usual case, decided without allocating.
fn is_canonical(text: &str) -> bool {
    let body = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match body.split_once('.') {
        Some((w, f)) => (w, Some(f)),
        None => (body, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(|f| digits(f) && !f.ends_with('0'))
        && !(text.len() == 2 && text == "-0")
}

/// Digits before and after the point of a canonical number, leading zero not counted: `0.05` is (0, 2).
#[must_use]
pub fn digit_counts(canonical: &str) -> (usize, usize) {
    let body = canonical.strip_prefix('-').unwrap_or(canonical);
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    (if whole == "0" { 0 } else { whole.len() }, fraction.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_of_one_number_are_one_text() {
        for (text, wanted) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.00", "0"),
            ("-0.0", "0"),
            ("1", "1"),
            ("+1", "1"),
            ("007", "7"),
            ("1.50", "1.5"),
            ("-1.50", "-1.5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("2e3", "2000"),
            ("2E-3", "0.002"),
            ("12.34e1", "123.4"),
            ("1e0", "1"),
            ("100", "100"),
            ("0.000694", "0.000694"),
            ("99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
        ] {
            assert_eq!(canonical_numeric(text).as_deref(), Some(wanted), "{text}");
        }
        for text in ["", "-", ".", "1.2.3", "abc", "1e", "NaN", "Infinity", "1 ", "--1", "1e9999"] {
            assert_eq!(canonical_numeric(text), None, "{text}");
        }
    }

    #[test]
    fn digits_are_counted_as_a_column_counts_them() {
        assert_eq!(digit_counts("0.05"), (0, 2));
        assert_eq!(digit_counts("-123.4"), (3, 1));
        assert_eq!(digit_counts("0"), (0, 0));
    }

    proptest! {
        #[test]
        fn canonical_form_is_a_fixed_point_and_keeps_the_value(m in -999_999_999i64..999_999_999, e in -12i32..12) {
            let text = format!("{m}e{e}");
            let once = canonical_numeric(&text).expect("a number").into_owned();
            let twice = canonical_numeric(&once).expect("a number").into_owned();
            prop_assert_eq!(&once, &twice);
            let value: f64 = once.parse().expect("a float");
            let wanted = m as f64 * 10f64.powi(e);
            prop_assert!((value - wanted).abs() <= wanted.abs() * 1e-12);
        }
    }
}
