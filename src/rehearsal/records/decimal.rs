//! Exact decimal numbers as canonical text.

use std::fmt;

/// A decimal number: no exponent, no superfluous zeros; `0`, `19.9`, `-0.05`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal(String);

impl Decimal {
    /// From hundredths.
    #[must_use]
    pub fn cents(cents: i64) -> Self {
        let sign = if cents < 0 { "-" } else { "" };
        let abs = cents.unsigned_abs();
        Self::canonical(&format!("{sign}{}.{:02}", abs / 100, abs % 100))
    }

    /// From text as DynamoDB, PostgreSQL or JSON write it. `None` if it is not a number, or an absurd one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((m, e)) => (m, e.parse::<i32>().ok()?),
            None => (text, 0),
        };
        if exponent.unsigned_abs() > 130 {
            return None;
        }
        let (sign, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => ("-", rest),
            None => ("", mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all: String = [whole, fraction].concat();
        if all.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let point = i32::try_from(whole.len()).ok()? + exponent;
        let text = if point <= 0 {
            format!("{sign}0.{}{all}", "0".repeat(point.unsigned_abs() as usize))
        } else {
            let point = point as usize;
            let padded = format!("{all:0<point$}");
            format!("{sign}{}.{}", &padded[..point], &padded[point..])
        };
        Some(Self::canonical(&text))
    }

    /// `text` has a point and only digits round it.
    fn canonical(text: &str) -> Self {
        let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let whole = if whole.is_empty() { "0" } else { whole };
        match (whole, fraction) {
            ("0", "") => Self("0".to_owned()),
            (w, "") => Self(format!("{sign}{w}")),
            (w, f) => Self(format!("{sign}{w}.{f}")),
        }
    }

    /// The canonical text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_have_one_form() {
        for (text, want) in [
            ("19.90", "19.9"),
            ("0019", "19"),
            ("-0.00", "0"),
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("+7", "7"),
            (".5", "0.5"),
            ("123456789012345678901234567890.12345678", "123456789012345678901234567890.12345678"),
        ] {
            assert_eq!(Decimal::parse(text).map(|d| d.to_string()).as_deref(), Some(want), "{text}");
        }
        for text in ["", "-", ".", "1.2.3", "NaN", "1e999", "0x1"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn cents_survive(cents in -1_000_000_000i64..1_000_000_000) {
            let decimal = Decimal::cents(cents);
            prop_assert_eq!(Decimal::parse(decimal.text()), Some(decimal.clone()));
            prop_assert_eq!((decimal.text().parse::<f64>().unwrap() * 100.0).round() as i64, cents);
        }
    }
}
