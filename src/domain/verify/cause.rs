//! Why two rows differ (FEATURES B5).

use crate::domain::value::Cell;

/// One differing column. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Place of the column in the plan's order.
    pub column: usize,
    /// The cause in words: `number precision`, `null vs empty`, `timestamp precision`, `truncated`,
    /// `id transform`, `json`, `type` or `value`.
    pub cause: &'static str,
}

/// Columns in which two rows differ, each with its cause.
#[must_use]
pub fn compare(source: &[Cell<'_>], target: &[Cell<'_>]) -> Vec<Difference> {
    let none = Cell::Null;
    (0..source.len().max(target.len()))
        .filter_map(|column| {
            let (a, b) = (source.get(column).unwrap_or(&none), target.get(column).unwrap_or(&none));
            (a != b).then(|| Difference { column, cause: cause(a, b) })
        })
        .collect()
}

fn cause(a: &Cell<'_>, b: &Cell<'_>) -> &'static str {
    match (a, b) {
        (Cell::Null, other) | (other, Cell::Null) => {
            let empty = match other {
                Cell::Text(s) => s.is_empty(),
                Cell::TextArray(v) => v.is_empty(),
                Cell::Bytes(v) => v.is_empty(),
                _ => false,
            };
            if empty { "null vs empty" } else { "null vs value" }
        }
        (Cell::Numeric(a), Cell::Numeric(b)) => {
            let whole = |n: &str| n.split('.').next().map(str::to_owned);
            // Rounding may carry into the whole part, so a difference under one counts as precision.
            let near = matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(x), Ok(y)) if (x - y).abs() < 1.0);
            if whole(a) == whole(b) || (near && (a.contains('.') || b.contains('.'))) {
                "number precision"
            } else {
                "value"
            }
        }
        (Cell::Float(_), Cell::Float(_)) => "number precision",
        (Cell::Timestamp(a), Cell::Timestamp(b)) if a.abs_diff(*b) < 1_000_000 => "timestamp precision",
        (Cell::Timestamp(a), Cell::Timestamp(b)) if a.abs_diff(*b) % 900_000_000 == 0 => "time zone",
        (Cell::Text(a), Cell::Text(b)) => {
            if a.eq_ignore_ascii_case(b) || strip(a) == strip(b) {
                "id transform"
            } else if !b.is_empty() && a.starts_with(b.as_ref()) {
                "truncated"
            } else if a.trim() == b.trim() {
                "white space"
            } else {
                "value"
            }
        }
        (Cell::Json(_), Cell::Json(_)) => "json",
        (a, b) if std::mem::discriminant(a) != std::mem::discriminant(b) => "type",
        _ => "value",
    }
}

fn strip(s: &str) -> String {
    s.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_named() {
        let t = |s: &'static str| Cell::Text(s.into());
        let n = |s: &'static str| Cell::Numeric(s.into());
        for (a, b, wanted) in [
            (n("1.005"), n("1.01"), "number precision"),
            (n("1.999"), n("2"), "number precision"),
            (n("1"), n("2"), "value"),
            (Cell::Null, t(""), "null vs empty"),
            (t("x"), Cell::Null, "null vs value"),
            (Cell::Timestamp(1_500_000), Cell::Timestamp(1_000_000), "timestamp precision"),
            (Cell::Timestamp(0), Cell::Timestamp(3_600_000_000), "time zone"),
            (t("abcdef"), t("abc"), "truncated"),
            (t("A-1"), t("a1"), "id transform"),
            (t("a"), t("b"), "value"),
            (Cell::Int(1), t("1"), "type"),
        ] {
            let found = compare(&[Cell::Bool(true), a.clone()], &[Cell::Bool(true), b.clone()]);
            assert_eq!(found, vec![Difference { column: 1, cause: wanted }], "{a:?} {b:?}");
        }
        assert!(compare(&[t("a")], &[t("a")]).is_empty());
    }
}
