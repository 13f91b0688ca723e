//! The small languages inside text values: durations, offsets, column types, criteria.

use crate::domain::plan::{ColumnType, Criterion, FromBaseline, Op, TypeName};

/// `250ms`, `30s`, `10m`, `4h`, `2d`, and sums like `1h30m`, in milliseconds. `None` when it is not one.
pub(super) fn duration(text: &str) -> Option<i64> {
    let (mut rest, mut total) = (text.trim(), 0_i64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        let unit = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[unit_end..];
    }
    Some(total)
}

/// `T-02:00`, `T+00:15:30`, `T-0`, in milliseconds from T-0.
pub(super) fn offset(text: &str) -> Option<i64> {
    let rest = text.trim().strip_prefix('T')?;
    let (sign, rest) = match rest.split_at_checked(1)? {
        ("-", r) => (-1, r),
        ("+", r) => (1, r),
        _ => return None,
    };
    if !rest.bytes().all(|b| b.is_ascii_digit() || b == b':') {
        return None;
    }
    let parts: Vec<i64> = rest.split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    let seconds = match parts[..] {
        [0] => 0,
        [h, m] if m < 60 => h.checked_mul(3600)? + m * 60,
        [h, m, s] if m < 60 && s < 60 => h.checked_mul(3600)? + m * 60 + s,
        _ => return None,
    };
    seconds.checked_mul(1000)?.checked_mul(sign)
}

/// The type of a column: one of ours, or one that only the database knows. `None` for text that is no type's name.
pub(super) fn column_type(text: &str) -> Option<ColumnType> {
    known_type(text).or_else(|| native(text))
}

/// A type of PostgreSQL by its name, with its limits: `mood`, `char(2)`, `shop."Odd type"[]`, `enum mood`. What stands
/// there is looked up by the server, and nothing of it is put into a statement.
fn native(text: &str) -> Option<ColumnType> {
    let name = TypeName::new(text);
    let own = name.parts().0;
    let begins = own.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"');
    let limits = |c: char| c.is_alphanumeric() || " _\"().,[]$".contains(c);
    // Only a scale may be below zero.
    let signs = own.replace(",-", ",").replace(", -", ",");
    // A limit that one of our types cannot have is a slip, not a type of the database's own.
    let ours = own.split('(').next().is_some_and(|name| known_type(name).is_some());
    let slip = ours && own.contains('(') && !own.contains(' ') && !own.ends_with(']') && !rounds(own);
    (begins && signs.chars().all(limits) && !slip).then_some(ColumnType::Native(name))
}

/// `numeric(5,-2)`, `numeric(2,5)`: a scale that lies outside of the precision rounds, or leaves no digit before the point. The
/// database knows such a type (from PostgreSQL 15 on), and no type of ours is one.
fn rounds(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let limits = ["numeric(", "decimal("].iter().find_map(|name| text.strip_prefix(name)?.strip_suffix(')'));
    let Some((precision, scale)) = limits.and_then(|limits| limits.split_once(',')) else { return false };
    match (precision.trim().parse::<i32>(), scale.trim().parse::<i32>()) {
        (Ok(p), Ok(s)) => (1..=1000).contains(&p) && (-1000..=1000).contains(&s) && !(0..=p).contains(&s),
        _ => false,
    }
}

/// A type of ours.
fn known_type(text: &str) -> Option<ColumnType> {
    let text = text.trim().to_ascii_lowercase();
    let (name, arguments) = match text.split_once('(') {
        Some((name, rest)) => (name.trim_end(), Some(rest.strip_suffix(')')?)),
        None => (text.as_str(), None),
    };
    if let Some(arguments) = arguments {
        let mut numbers = arguments.split(',').map(|n| n.trim().parse::<u32>().ok());
        return match (name, numbers.next().flatten(), numbers.next(), numbers.next()) {
            ("varchar" | "character varying", Some(n), None, None) if n > 0 => Some(ColumnType::Varchar(n)),
            ("numeric" | "decimal", Some(p), scale, None) => {
                let (p, s) = (u16::try_from(p).ok()?, u16::try_from(scale.unwrap_or(Some(0))?).ok()?);
                (p > 0 && s <= p).then_some(ColumnType::Numeric(Some((p, s))))
            }
            _ => None,
        };
    }
    Some(match name {
        "text" | "varchar" | "character varying" => ColumnType::Text,
        "uuid" => ColumnType::Uuid,
        "numeric" | "decimal" => ColumnType::Numeric(None),
        "smallint" | "int2" => ColumnType::Smallint,
        "integer" | "int" | "int4" => ColumnType::Integer,
        "bigint" | "int8" => ColumnType::Bigint,
        "double precision" | "double" | "float8" => ColumnType::Double,
        "boolean" | "bool" => ColumnType::Boolean,
        "timestamptz" | "timestamp with time zone" => ColumnType::Timestamptz,
        "date" => ColumnType::Date,
        "jsonb" => ColumnType::Jsonb,
        "text[]" => ColumnType::TextArray,
        "bytea" => ColumnType::Bytea,
        _ => return None,
    })
}

/// `lag < 2`.
pub(super) fn criterion(text: &str) -> Option<Criterion> {
    let start = text.find(['<', '>', '='])?;
    let signal = text[..start].trim();
    let end = start + text[start..].find(|c| !matches!(c, '<' | '>' | '='))?;
    let op = match &text[start..end] {
        "<" => Op::Below,
        "<=" => Op::AtMost,
        "=" | "==" => Op::Equals,
        ">=" => Op::AtLeast,
        ">" => Op::Above,
        _ => return None,
    };
    if signal.is_empty() || signal.contains(char::is_whitespace) {
        return None;
    }
    let limit = text[end..].trim();
    let (value, baseline) = match limit.strip_prefix("baseline") {
        Some(from) => from_baseline(from)?,
        None => (limit.parse().ok()?, None),
    };
    value.is_finite().then(|| Criterion { signal: signal.to_owned(), op, value, baseline })
}

/// What follows on the word `baseline`: ` + 20% + 5`, `(old-p95) - 10%`. Gives the number and the baseline.
fn from_baseline(text: &str) -> Option<(f64, Option<FromBaseline>)> {
    let (of, mut rest) = match text.strip_prefix('(') {
        Some(named) => named.split_once(')').map(|(of, rest)| (Some(of.trim().to_owned()), rest))?,
        None => (None, text),
    };
    if of.as_ref().is_some_and(|of| of.is_empty() || of.contains(char::is_whitespace)) {
        return None;
    }
    let (mut percent, mut value) = (None, None);
    loop {
        rest = rest.trim();
        let sign = match rest.chars().next() {
            None => break,
            Some('+') => 1.0,
            Some('-') => -1.0,
            Some(_) => return None,
        };
        rest = rest[1..].trim_start();
        let end = rest.find(['+', '-']).unwrap_or(rest.len());
        let (term, after) = rest.split_at(end);
        rest = after;
        let (place, digits) = match term.trim().strip_suffix('%') {
            Some(digits) => (&mut percent, digits),
            None => (&mut value, term),
        };
        let number: f64 = digits.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
        if place.replace(sign * number).is_some() {
            return None;
        }
    }
    Some((value.unwrap_or(0.0), Some(FromBaseline { of, percent: percent.unwrap_or(0.0) })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, ms) in [("250ms", 250), ("30s", 30_000), ("10m", 600_000), ("4h", 14_400_000), ("1h30m", 5_400_000)]
        {
            assert_eq!(duration(text), Some(ms), "{text}");
        }
        for text in ["", "5", "5 m", "-5s", "m", "1w", "99999999999999999999s", "9223372036854775807d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn offsets() {
        for (text, s) in [("T-02:00", -7200), ("T+00:15", 900), ("T+24:00", 86_400), ("T+00:00:05", 5), ("T-0", 0)] {
            assert_eq!(offset(text), Some(s * 1000), "{text}");
        }
        for text in ["", "T", "T02:00", "t-02:00", "T-2", "T+00:60", "T+1:2:3:4", "T++1:00", "T+:00", "T+é"] {
            assert_eq!(offset(text), None, "{text}");
        }
    }

    #[test]
    fn types_read_back_as_written() {
        for name in ColumnType::NAMES {
            assert_eq!(column_type(name).map(ColumnType::sql).as_deref(), Some(name));
        }
        let none = [
            "varchar(0)",
            "numeric(0,3)",
            "numeric(1001,-3)",
            "numeric(5,-1001)",
            "numeric(5,-)",
            "numeric(5,--2)",
            "varchar(-2)",
            "numeric(",
            "text(3)",
            "numeric(1,2,3)",
            "",
            "9",
            "a;b",
            "a'b",
            "a-b",
            "a--b",
        ];
        for name in none {
            assert_eq!(column_type(name), None, "{name}");
        }
        for name in [
            "int4range",
            "char(2)",
            "mood",
            "enum mood",
            "domain shop.isbn",
            "integer[]",
            "\"Odd type\"",
            "interval day to second(3)",
            "timestamp(3) with time zone",
            "numeric(5,-2)",
            "numeric(5, -2)",
            "decimal(2,3)",
            "numeric(5,-2)[]",
        ] {
            assert_eq!(column_type(name), Some(ColumnType::Native(TypeName::new(name))), "{name}");
        }
    }

    #[test]
    fn criteria() {
        let c = criterion("lag <= 2.5").map(|c| (c.signal, c.op, c.value));
        assert_eq!(c, Some(("lag".to_owned(), Op::AtMost, 2.5)));
        assert_eq!(criterion("mismatches=0").map(|c| c.op), Some(Op::Equals));
        for text in ["lag", "lag <", "< 2", "lag < two", "lag << 2", "a b < 2", "lag < inf"] {
            assert_eq!(criterion(text), None, "{text}");
        }
    }

    #[test]
    fn criteria_of_baselines() {
        let read = |text: &str| {
            criterion(text).map(|c| {
                let from = c.baseline.as_ref().map(|b| (b.of.clone(), b.percent));
                (c.words(|v| v.to_string()), from, c.limit(Some(100.0)), c.limit(None))
            })
        };
        let own = |percent| Some((None, percent));
        for (text, words, from, limit) in [
            ("p95<=baseline", "p95 <= baseline", own(0.0), 100.0),
            ("p95 <= baseline + 20%", "p95 <= baseline + 20%", own(20.0), 120.0),
            ("rate >= baseline - 10 %", "rate >= baseline - 10%", own(-10.0), 90.0),
            ("p95 <= baseline+5", "p95 <= baseline + 5", own(0.0), 105.0),
            ("p95 <= baseline + 5 + 20%", "p95 <= baseline + 20% + 5", own(20.0), 125.0),
        ] {
            assert_eq!(read(text), Some((words.to_owned(), from, Some(limit), None)), "{text}");
        }
        let other = read("new-p95 <= baseline(old-p95) + 1.5");
        let words = "new-p95 <= baseline(old-p95) + 1.5".to_owned();
        assert_eq!(other, Some((words, Some((Some("old-p95".to_owned()), 0.0)), Some(101.5), None)));
        for text in [
            "p95 <= baseline 20%",
            "p95 <= baseline + 20% + 10%",
            "p95 <= baseline + 1 + 2",
            "p95 <= baseline(",
            "p95 <= baseline()",
            "p95 <= baseline(a b)",
            "p95 <= baselines",
            "p95 <= baseline +",
            "p95 <= baseline + inf",
            "p95 <= 20%",
        ] {
            assert_eq!(criterion(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,20}") {
            let _ = (duration(&text), offset(&text), column_type(&text), criterion(&text));
        }

        #[test]
        fn written_offsets_read_back(minutes in -100_000_i64..100_000) {
            let ms = minutes * 60_000;
            prop_assert_eq!(offset(&crate::domain::at::t_offset(ms)), Some(ms));
        }
    }
}
