//! Canonical decimal text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use super::RowErrorReason;

/// Longest canonical form that is produced; PostgreSQL's own limit is a little above it.
const MAX_DIGITS: usize = 140_000;

/// Canonical decimal form of a number as DynamoDB or PostgreSQL writes it (`1.50`, `2e3`, `-0`): plain
/// digits, no exponent, no superfluous zeros. `None` when the text is not a number.
#[must_use]
pub fn canonical_numeric(text: &str) -> Option<String> {
    canonical(text).map(Cow::into_owned)
}

/// The same, borrowing text that is canonical already.
pub(super) fn canonical(text: &str) -> Option<Cow<'_, str>> {
    if is_canonical(text) { Some(Cow::Borrowed(text)) } else { rewrite(text).map(Cow::Owned) }
}

/// The same for text that may outlive the value it sits in.
pub(super) fn canonical_cow<'p>(text: &Cow<'p, str>) -> Option<Cow<'p, str>> {
    match text {
        Cow::Borrowed(s) => canonical(s),
        Cow::Owned(s) => canonical_numeric(s).map(Cow::Owned),
    }
}

fn is_canonical(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let int = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if int == 0 || (int > 1 && digits[0] == b'0') {
        return false;
    }
    match &digits[int..] {
        [] => !(negative && digits == b"0"),
        [b'.', frac @ ..] => frac.last().is_some_and(|b| *b != b'0') && frac.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn rewrite(text: &str) -> Option<String> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], exponent(&rest[at + 1..])?),
        None => (rest, 0),
    };
    let (int, frac) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if int.len() + frac.len() == 0 || !int.bytes().chain(frac.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut digits = String::with_capacity(int.len() + frac.len());
    digits.push_str(int);
    digits.push_str(frac);
    // Digits before the point, once leading and trailing zeros are gone.
    let leading = digits.bytes().take_while(|b| *b == b'0').count();
    let significant = digits[leading..].trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let point = i64::try_from(int.len()).ok()? + exponent - i64::try_from(leading).ok()?;
    let n = i64::try_from(significant.len()).ok()?;
    if point.unsigned_abs() > MAX_DIGITS as u64 || significant.len() > MAX_DIGITS {
        return None;
    }
    let mut out = String::with_capacity(significant.len() + usize::try_from(point.unsigned_abs()).ok()? + 3);
    if negative {
        out.push('-');
    }
    if point <= 0 {
        out.push_str("0.");
        (point..0).for_each(|_| out.push('0'));
        out.push_str(significant);
    } else if point >= n {
        out.push_str(significant);
        (n..point).for_each(|_| out.push('0'));
    } else {
        let (before, after) = significant.split_at(usize::try_from(point).ok()?);
        out.push_str(before);
        out.push('.');
        out.push_str(after);
    }
    Some(out)
}

fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Whether canonical text fits `numeric(precision, scale)` without rounding.
pub(super) fn fits(canonical: &str, precision: u16, scale: u16) -> bool {
    let digits = canonical.trim_start_matches('-');
    let (int, frac) = digits.split_once('.').unwrap_or((digits, ""));
    let int = if int == "0" { 0 } else { int.len() };
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    if frac.len() > scale {
        return false;
    }
    if precision >= scale {
        int <= precision - scale
    } else {
        // PostgreSQL allows a scale above the precision: that many zeros must follow the point.
        int == 0 && frac.bytes().take(scale - precision).all(|b| b == b'0')
    }
}

/// A canonical number rounded to so many decimals, halves away from zero, as PostgreSQL rounds `numeric`.
pub(super) fn rounded(canonical: &str, decimals: usize) -> Option<String> {
    let (sign, digits) = canonical.strip_prefix('-').map_or(("", canonical), |digits| ("-", digits));
    let (int, frac) = digits.split_once('.').unwrap_or((digits, ""));
    let Some(next) = frac.as_bytes().get(decimals) else { return Some(canonical.to_owned()) };
    let mut kept = format!("0{int}{}", &frac[..decimals]).into_bytes();
    if *next >= b'5' {
        for digit in kept.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                break;
            }
            *digit = b'0';
        }
    }
    let kept = String::from_utf8(kept).ok()?;
    let (int, frac) = kept.split_at(kept.len() - decimals);
    canonical_numeric(&format!("{sign}{int}.{frac}"))
}

/// Whether a number that was stored as this float reads back as it was written: its shortest decimal form is the
/// number. Without an allocation.
pub(super) fn reads_back(x: f64, canonical: &str) -> bool {
    // So many digits always survive.
    if canonical.len() <= f64::DIGITS as usize {
        return true;
    }
    let mut rest = Rest(canonical);
    write!(rest, "{x}").is_ok() && rest.0.is_empty()
}

/// What is left of a text while another one is written over it.
struct Rest<'t>(&'t str);

impl fmt::Write for Rest<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(piece).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// A canonical whole number as `i64`; a fraction or an overflow does not fit.
pub(super) fn whole(canonical: &str) -> Result<i64, RowErrorReason> {
    canonical.parse().map_err(|_| RowErrorReason::NumberRange)
}

/// A canonical number times ten to the `shift`, which must come out whole.
pub(super) fn scaled(canonical: &str, shift: usize) -> Result<i64, RowErrorReason> {
    let (int, frac) = canonical.split_once('.').unwrap_or((canonical, ""));
    if frac.len() > shift {
        return Err(RowErrorReason::Lossy);
    }
    whole(&format!("{int}{frac:0<shift$}"))
}

/// Order of two canonical numbers by value.
pub(super) fn by_value(a: &str, b: &str) -> Ordering {
    match (a.strip_prefix('-'), b.strip_prefix('-')) {
        (Some(a), Some(b)) => magnitude(b, a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => magnitude(a, b),
    }
}

fn magnitude(a: &str, b: &str) -> Ordering {
    let (ai, af) = a.split_once('.').unwrap_or((a, ""));
    let (bi, bf) = b.split_once('.').unwrap_or((b, ""));
    ai.len().cmp(&bi.len()).then_with(|| ai.cmp(bi)).then_with(|| af.cmp(bf))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_come_out_plain() {
        for (text, want) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.000", "0"),
            ("-0.0e5", "0"),
            ("00012", "12"),
            ("1.50", "1.5"),
            ("+7", "7"),
            ("2e3", "2000"),
            ("2E+3", "2000"),
            ("1.25e1", "12.5"),
            ("1.25e2", "125"),
            ("12500e-2", "125"),
            ("12500e-4", "1.25"),
            ("5e-3", "0.005"),
            ("-5.10e-3", "-0.0051"),
            (".5", "0.5"),
            ("5.", "5"),
            ("100", "100"),
            ("0.10", "0.1"),
            ("99999999999999999999999999999999999999", "99999999999999999999999999999999999999"),
            ("9.9999999999999999999999999999999999999E-5", "0.000099999999999999999999999999999999999999"),
        ] {
            assert_eq!(canonical_numeric(text).as_deref(), Some(want), "{text}");
        }
        assert_eq!(canonical_numeric("1E-130").map(|s| s.len()), Some(132));
        assert_eq!(canonical_numeric("9.9E+125").map(|s| s.len()), Some(126));
    }

    #[test]
    fn what_is_not_a_number_is_refused() {
        for text in [
            "",
            "-",
            "+",
            ".",
            "e5",
            "1e",
            "1e+",
            "1.2.3",
            "NaN",
            "Infinity",
            "0x1",
            " 1",
            "1 ",
            "1e9999999999",
            "1e200000",
            "--1",
            "１",
        ] {
            assert_eq!(canonical_numeric(text), None, "{text:?}");
        }
    }

    #[test]
    fn canonical_text_is_borrowed() {
        for text in ["0", "-1", "19.9", "0.5", "123456789012345678901234567890.12345678"] {
            assert!(matches!(canonical(text), Some(Cow::Borrowed(_))), "{text}");
        }
    }

    #[test]
    fn precision_and_scale_are_never_exceeded() {
        for (text, p, s, want) in [
            ("19.99", 10, 2, true),
            ("19.999", 10, 2, false),
            ("99999999.99", 10, 2, true),
            ("100000000", 10, 2, false),
            ("-99999999.99", 10, 2, true),
            ("0.99", 2, 2, true),
            ("1", 2, 2, false),
            ("0.00123", 3, 5, true),
            ("0.0123", 3, 5, false),
            ("0", 1, 0, true),
            ("0.1", 1, 0, false),
            ("12345678901234567890123456789012345678", 38, 0, true),
        ] {
            assert_eq!(fits(text, p, s), want, "{text} into numeric({p},{s})");
        }
    }

    #[test]
    fn shifting_is_exact() {
        assert_eq!(scaled("1.5", 6), Ok(1_500_000));
        assert_eq!(scaled("-0.000001", 6), Ok(-1));
        assert_eq!(scaled("0.0000001", 6), Err(RowErrorReason::Lossy));
        assert_eq!(scaled("99999999999999999999", 6), Err(RowErrorReason::NumberRange));
    }

    #[test]
    fn halves_are_rounded_away_from_zero() {
        for (text, decimals, want) in [
            ("19.999", 2, "20"),
            ("19.994", 2, "19.99"),
            ("0.005", 2, "0.01"),
            ("-0.005", 2, "-0.01"),
            ("-0.004", 2, "0"),
            ("999.5", 0, "1000"),
            ("1.5", 0, "2"),
            ("2.5", 0, "3"),
            ("7", 2, "7"),
            ("1.25", 2, "1.25"),
        ] {
            assert_eq!(rounded(text, decimals).as_deref(), Some(want), "{text} to {decimals}");
        }
    }

    /// Digits and the place of the last one: the value of a decimal, whatever its spelling.
    fn value(text: &str) -> (bool, String, i64) {
        let lower = text.to_ascii_lowercase();
        let (mantissa, exp) = lower.split_once('e').unwrap_or((&lower, "0"));
        let negative = mantissa.starts_with('-');
        let mantissa = mantissa.trim_start_matches(['-', '+']);
        let (int, frac) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{int}{frac}").trim_start_matches('0').to_owned();
        let mut place = exp.parse::<i64>().unwrap() - frac.len() as i64;
        while digits.ends_with('0') {
            digits.pop();
            place += 1;
        }
        if digits.is_empty() { (false, digits, 0) } else { (negative, digits, place) }
    }

    proptest! {
        #[test]
        fn canonical_form_keeps_the_value_and_settles(
            text in "[-+]?[0-9]{1,20}(\\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?"
        ) {
            let once = canonical_numeric(&text).unwrap();
            prop_assert_eq!(value(&once), value(&text));
            prop_assert!(is_canonical(&once), "{}", once);
            let twice = canonical_numeric(&once).unwrap();
            prop_assert_eq!(twice, once);
        }

        #[test]
        fn a_float_reads_back_exactly_when_its_shortest_form_is_the_number(text in "-?[0-9]{1,20}(\\.[0-9]{1,18})?") {
            let number = canonical_numeric(&text).unwrap();
            let x: f64 = number.parse().unwrap();
            prop_assert_eq!(reads_back(x, &number), canonical_numeric(&format!("{x}")).unwrap() == number);
        }

        #[test]
        fn any_text_is_handled(text in ".{0,40}") {
            if let Some(once) = canonical_numeric(&text) {
                prop_assert!(is_canonical(&once));
            }
        }

        #[test]
        fn order_is_by_value(a in -1_000_000i64..1_000_000, b in -1_000_000i64..1_000_000) {
            let text = |n: i64| canonical_numeric(&format!("{n}e-3")).unwrap();
            prop_assert_eq!(by_value(&text(a), &text(b)), a.cmp(&b));
        }
    }
}
