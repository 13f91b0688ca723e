//! ISO 8601 text to microseconds and days, exactly and without a time zone database.

use super::RowErrorReason;
use super::numeric::{rounded, scaled};
use crate::domain::plan::{Between, Unit};

const DAY_MICROS: i64 = 86_400_000_000;
/// PostgreSQL's earliest `timestamptz`, in Unix microseconds. Its latest is beyond what fits here.
const EARLIEST: i64 = -210_866_803_200_000_000;

/// `2026-11-22T14:47:16.220Z`, with `T`, `t` or a space, seconds and fraction optional, an offset required. Digits
/// beyond the microsecond are rounded where that is allowed.
pub(super) fn timestamp(text: &str, lossy: bool) -> Result<i64, RowErrorReason> {
    let bytes = text.as_bytes();
    let date = bytes.get(..10).ok_or(RowErrorReason::Unparsable)?;
    let days = days(date).ok_or(RowErrorReason::Unparsable)?;
    if !matches!(bytes.get(10), Some(b'T' | b't' | b' ')) {
        return Err(RowErrorReason::Unparsable);
    }
    let (of_day, rest) = time_of_day(&bytes[11..], lossy)?;
    if rest.is_empty() {
        return Err(RowErrorReason::NoOffset);
    }
    let offset = offset_seconds(rest).ok_or(RowErrorReason::Unparsable)?;
    Ok(i64::from(days) * DAY_MICROS + of_day - offset * 1_000_000)
}

/// `2026-11-22` as days since the Unix epoch.
pub(super) fn date(text: &str) -> Result<i32, RowErrorReason> {
    days(text.as_bytes()).ok_or(RowErrorReason::Unparsable)
}

/// So many units since 1970, as canonical decimal text. What is no plausible moment is refused: one value alone never
/// shows in which unit it was counted, but a moment in another century does.
pub(super) fn epoch(canonical: &str, unit: Unit, between: Option<Between>, lossy: bool) -> Result<i64, RowErrorReason> {
    let decimals = usize::from(unit.decimals());
    let micros = match scaled(canonical, decimals) {
        Err(RowErrorReason::Lossy) if lossy => {
            scaled(&rounded(canonical, decimals).ok_or(RowErrorReason::Unparsable)?, decimals)?
        }
        other => other?,
    };
    if micros < EARLIEST {
        return Err(RowErrorReason::NumberRange);
    }
    let plausible = match between {
        Some(between) => within(micros, between, 1),
        None => plausible(micros, unit),
    };
    if plausible { Ok(micros) } else { Err(RowErrorReason::Implausible) }
}

/// The one unit in which a number is a plausible moment; none for zero, which is the same moment in each.
pub(super) fn plausible_unit(canonical: &str) -> Option<Unit> {
    let moment = |unit: Unit| {
        let decimals = usize::from(unit.decimals());
        scaled(&rounded(canonical, decimals)?, decimals).ok()
    };
    let fits = |unit: &Unit| moment(*unit).is_some_and(|micros| micros != 0 && plausible(micros, *unit));
    Unit::ALL.into_iter().find(fits)
}

/// Whether a moment lies within the usual span, and the number that stands for it would not do so as well had it
/// counted the next coarser unit: seconds taken for milliseconds lie in the first months of 1970.
fn plausible(micros: i64, unit: Unit) -> bool {
    let coarser = match unit {
        Unit::Seconds => false,
        Unit::Millis | Unit::Micros => micros != 0 && within(micros, Between::USUAL, 1_000),
    };
    within(micros, Between::USUAL, 1) && !coarser
}

/// Whether a moment lies within a span of days whose ends are divided by so much.
const fn within(micros: i64, Between(first, last): Between, by: i64) -> bool {
    micros >= first as i64 * DAY_MICROS / by && micros < (last as i64 + 1) * DAY_MICROS / by
}

fn two(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', ..] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => None,
    }
}

fn days(bytes: &[u8]) -> Option<i32> {
    let &[_, _, _, _, b'-', _, _, b'-', _, _] = bytes else { return None };
    let year = two(bytes)? * 100 + two(&bytes[2..])?;
    let (month, day) = (two(&bytes[5..])?, two(&bytes[8..])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if year == 0 || day == 0 || day > last {
        return None;
    }
    // Years that begin in March put the leap day at the end; 400 of them are 146,097 days.
    let y = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    i32::try_from(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468).ok()
}

/// Microseconds of the day, and what follows.
fn time_of_day(bytes: &[u8], lossy: bool) -> Result<(i64, &[u8]), RowErrorReason> {
    const BAD: RowErrorReason = RowErrorReason::Unparsable;
    let hour = two(bytes).ok_or(BAD)?;
    let minute = match bytes.get(2) {
        Some(b':') => two(&bytes[3..]).ok_or(BAD)?,
        _ => return Err(BAD),
    };
    let mut rest = &bytes[5..];
    let (mut second, mut micros) = (0, 0);
    if let [b':', after @ ..] = rest {
        second = two(after).ok_or(BAD)?;
        rest = &after[2..];
        if let [b'.' | b',', after @ ..] = rest {
            let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return Err(BAD);
            }
            let (kept, beyond) = after[..digits].split_at(digits.min(6));
            if !lossy && beyond.iter().any(|b| *b != b'0') {
                return Err(RowErrorReason::Lossy);
            }
            micros = kept.iter().fold(0, |sum, b| sum * 10 + i64::from(b - b'0'));
            (kept.len()..6).for_each(|_| micros *= 10);
            micros += i64::from(beyond.first().is_some_and(|b| *b >= b'5'));
            rest = &after[digits..];
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(BAD);
    }
    Ok((((hour * 60 + minute) * 60 + second) * 1_000_000 + micros, rest))
}

fn offset_seconds(bytes: &[u8]) -> Option<i64> {
    let (sign, rest) = match bytes {
        [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let hours = two(rest)?;
    let minutes = match &rest[2..] {
        [] => 0,
        [b':', m @ ..] | m if m.len() == 2 => two(m)?,
        _ => return None,
    };
    (hours <= 15 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn iso_text_becomes_microseconds() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00Z", 0),
            ("1970-01-01 00:00:01.5+00", 1_500_000),
            ("1970-01-01t01:00:00+01:00", 0),
            ("1969-12-31T23:59:59.999999z", -1),
            ("2026-11-22T14:47:16.220Z", 1_795_358_836_220_000),
            ("2026-11-22T14:47:16,220000000Z", 1_795_358_836_220_000),
            ("2026-11-22T09:47:16.22-0500", 1_795_358_836_220_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
        ] {
            assert_eq!(timestamp(text, false), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        use RowErrorReason::{Lossy, NoOffset, Unparsable};
        for (text, want) in [
            ("", Unparsable),
            ("2026-11-22", Unparsable),
            ("2026-11-22T14:47:16", NoOffset),
            ("2026-11-22T14:47:16.Z", Unparsable),
            ("2026-02-29T00:00:00Z", Unparsable),
            ("2026-13-01T00:00:00Z", Unparsable),
            ("2026-11-22T24:00:00Z", Unparsable),
            ("2026-11-22T14:60:00Z", Unparsable),
            ("2026-11-22T14:47:60Z", Unparsable),
            ("2026-11-22T1:47:00Z", Unparsable),
            ("2026-11-22T14:47:16Zx", Unparsable),
            ("2026-11-22T14:47:16+1", Unparsable),
            ("2026-11-22T14:47:16+01:0", Unparsable),
            ("yesterday at noon", Unparsable),
            ("２０２６-11-22T14:47:16Z", Unparsable),
            ("2026-11-22T14:47:16.1234567Z", Lossy),
        ] {
            assert_eq!(timestamp(text, false), Err(want), "{text:?}");
        }
    }

    #[test]
    fn numbers_count_the_declared_unit() {
        use RowErrorReason::{Implausible, Lossy, NumberRange};
        use Unit::{Micros, Millis, Seconds};
        for (number, unit, want) in [
            ("1795358836", Seconds, Ok(1_795_358_836_000_000)),
            ("1795358836.22", Seconds, Ok(1_795_358_836_220_000)),
            ("1795358836220.5", Millis, Ok(1_795_358_836_220_500)),
            ("-1", Seconds, Ok(-1_000_000)),
            ("-1", Millis, Err(Implausible)),
            ("0", Micros, Ok(0)),
            ("1795358836.0000001", Seconds, Err(Lossy)),
            ("1795358836220000.5", Micros, Err(Lossy)),
            ("253402300799", Seconds, Err(Implausible)),
            ("99999999999999999999", Seconds, Err(NumberRange)),
            ("-999999999999999999", Micros, Err(NumberRange)),
        ] {
            assert_eq!(epoch(number, unit, None, false), want, "{number} {unit:?}");
        }
        let whenever = Some(Between(0, 2_932_896));
        assert_eq!(epoch("253402300799", Seconds, whenever, false), Ok(253_402_300_799_000_000), "31 December 9999");
        assert_eq!(epoch("1", Millis, whenever, false), Ok(1_000), "the declared span alone counts");
        assert_eq!(epoch("-1", Seconds, whenever, false), Err(Implausible));
        assert_eq!(epoch("1795358836.0000009", Seconds, None, true), Ok(1_795_358_836_000_001));
    }

    #[test]
    fn the_usual_span_is_from_1900_to_2199() {
        let Between(first, last) = Between::USUAL;
        assert_eq!((date("1900-01-01"), date("2199-12-31")), (Ok(first), Ok(last)));
    }

    #[test]
    fn dates_are_days() {
        assert_eq!(date("1970-01-01"), Ok(0));
        assert_eq!(date("1969-12-31"), Ok(-1));
        assert_eq!(date("2026-11-22"), Ok(20_779));
        for bad in ["2026-11-22T00:00:00Z", "2026-1-2", "22.11.2026", "2026/11/22", "0000-01-01", "1900-02-29"] {
            assert_eq!(date(bad), Err(RowErrorReason::Unparsable), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_number_is_plausible_in_two_units(number in -9_000_000_000_000_000i64..9_000_000_000_000_000) {
            let text = number.to_string();
            let fits = |unit: &Unit| epoch(&text, *unit, None, false).is_ok();
            let units: Vec<Unit> = Unit::ALL.into_iter().filter(fits).collect();
            prop_assert!(units.len() <= 1 || number == 0, "{:?}", units);
            prop_assert_eq!(plausible_unit(&text), units.first().copied().filter(|_| number != 0));
        }

        #[test]
        fn agrees_with_a_calendar_library(micros in -62_135_596_800_000_000i64..253_402_207_200_000_000) {
            let there = jiff::Timestamp::from_microsecond(micros).unwrap();
            prop_assert_eq!(timestamp(&there.to_string(), false), Ok(micros));
            let day = there.strftime("%Y-%m-%d").to_string();
            prop_assert_eq!(date(&day), Ok(micros.div_euclid(DAY_MICROS) as i32));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,40}") {
            let _ = (timestamp(&text, false), timestamp(&text, true), date(&text));
        }
    }
}
