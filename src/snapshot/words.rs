//! How numbers and lengths of time are written for people. One place, so that every screen and report agrees.

use crate::domain::at::brief;
use crate::domain::gauge::{Count, CountKind};
use crate::domain::run::StepSeen;

/// `940`, `18.8k`, `27.7M`, `1.2G`: at most five characters.
#[must_use]
pub fn human(n: u64) -> String {
    scaled(n as f64)
}

/// A rate: `0/s`, `940/s`, `18.8k/s`; `?` when it is no number.
#[must_use]
pub fn rate(per_s: f64) -> String {
    if per_s.is_finite() { format!("{}/s", scaled(per_s)) } else { "?".to_owned() }
}

fn scaled(n: f64) -> String {
    let n = n.max(0.0);
    // The next unit begins where one decimal would round up to a fourth digit before the point.
    for (unit, suffix) in [(1e3, ""), (1e6, "k"), (1e9, "M"), (1e12, "G")] {
        let v = n / (unit / 1e3);
        if suffix.is_empty() && v.round() < 1e3 {
            return format!("{v:.0}");
        }
        if !suffix.is_empty() && v < 999.95 {
            return format!("{v:.1}{suffix}");
        }
    }
    format!("{:.1}T", n / 1e12)
}

/// What a step of the wall clock means, in words.
#[must_use]
pub fn step_words(by_ms: i64, seen: StepSeen) -> String {
    let step = stepped(by_ms);
    match seen {
        StepSeen::Live => format!(
            "the wall clock was stepped {step}: lengths are measured without it; whether a planned time has come is not \
             known, so such steps wait for a key"
        ),
        StepSeen::AtStart => {
            format!("the wall clock was stepped {step} since the last fact: what was being measured goes on without it")
        }
        StepSeen::AfterReboot => format!(
            "the wall clock stands {step} since before the machine was started anew: how long that took is not known"
        ),
    }
}

/// `forward by 1h00m`, `back by 5.0s`.
#[must_use]
pub fn stepped(by_ms: i64) -> String {
    let way = if by_ms < 0 { "back" } else { "forward" };
    format!("{way} by {}", brief(by_ms.saturating_abs()))
}

/// `44,012,334`.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `-3`, `0`, `12,004`.
#[must_use]
pub fn signed(n: i64) -> String {
    format!("{}{}", if n < 0 { "-" } else { "" }, grouped(n.unsigned_abs()))
}

/// A value with its unit: `0.8s`, `0.02%`, `41ms`, `214`, `18.8k`.
#[must_use]
pub fn with_unit(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return "?".to_owned();
    }
    match unit {
        "s" if value >= 60.0 => minutes((value * 1000.0) as i64),
        // Cut, as `brief` cuts: one length never stands as two in one report.
        "s" => format!("{:.1}s", ((value * 1000.0).round() / 100.0).trunc() / 10.0),
        "ms" => format!("{value:.0}ms"),
        "%" => format!("{}%", percent(value)),
        _ if value.fract() == 0.0 && (0.0..1e5).contains(&value) => format!("{}{unit}", grouped(value as u64)),
        _ if value.abs() < 1e3 => format!("{}{unit}", trimmed(value, 2)),
        _ => format!("{}{unit}", scaled(value)),
    }
}

/// A limit as written in a plan: `2s`, `0.1%`, `500ms`, no needless zeros.
#[must_use]
pub fn limit(value: f64, unit: &str) -> String {
    match unit {
        "s" if value >= 60.0 => minutes((value * 1000.0) as i64),
        "" => with_unit(value, ""),
        _ => format!("{}{unit}", trimmed(value, 3)),
    }
}

/// Percent with as many digits as it takes to distinguish it from 0 and from 100.
fn percent(value: f64) -> String {
    match value {
        v if v == 0.0 || v == 100.0 => format!("{v:.0}"),
        v if v > 99.0 && v < 100.0 => format!("{:.3}", (v * 1000.0).floor() / 1000.0),
        v if v < 0.01 => "<0.01".to_owned(),
        v => format!("{v:.2}"),
    }
}

fn trimmed(value: f64, places: usize) -> String {
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Minutes and seconds, hours when there are any: `04:10`, `1:04:10`.
#[must_use]
pub fn minutes(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match s / 3600 {
        0 => format!("{:02}:{:02}", s / 60, s % 60),
        h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// A planned length: `30s`, `10m`, `1h30m`, `24h`.
#[must_use]
pub fn length(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

/// An age: `0.2s`, `41s`, `3m`, `2h`, `5d`.
#[must_use]
pub fn age(ms: i64) -> String {
    let ms = ms.max(0);
    match ms {
        0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        10_000..120_000 => format!("{}s", ms / 1000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

/// `reads`, `reads and writes`, `reads, writes and 2 more`.
#[must_use]
pub fn brief_list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        [a] => a.clone(),
        [a, b] => format!("{a} and {b}"),
        [a, b, c] => format!("{a}, {b} and {c}"),
        [a, b, rest @ ..] => format!("{a}, {b} and {} more", rest.len()),
    }
}

/// A bar of `width` cells in ASCII: `[####......]`. Full only when everything is done.
#[must_use]
pub fn bar(done: u64, all: u64, width: usize) -> String {
    let done = done.min(all);
    let full =
        if all == 0 { 0 } else { usize::try_from(u128::from(done) * width as u128 / u128::from(all)).unwrap_or(width) };
    format!("[{}{}]", "#".repeat(full), ".".repeat(width - full))
}

/// Whole percent, rounded down so that 100 means all.
#[must_use]
pub fn whole_percent(done: u64, all: u64) -> u64 {
    if all == 0 { 0 } else { u64::try_from(u128::from(done.min(all)) * 100 / u128::from(all)).unwrap_or(100) }
}

/// The mark behind a count that says how it was come by: none for exact, `^` derived, `~` near it: estimated, or
/// derived from a reading during which rows came and went.
#[must_use]
pub const fn provenance(count: &Count) -> &'static str {
    match count.kind {
        CountKind::Derived if count.unsure > 0 => "~",
        CountKind::Exact => "",
        CountKind::Derived => "^",
        CountKind::Estimated => "~",
        CountKind::Unknown => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1.0k"), (18_849, "18.8k"), (999_949, "999.9k")];
        for (n, text) in cases {
            assert_eq!(human(n), text);
        }
        assert_eq!(human(999_950), "1.0M");
        assert_eq!(human(44_012_334), "44.0M");
        assert_eq!(rate(7_800.0), "7.8k/s");
        assert_eq!(rate(f64::NAN), "?");
        assert_eq!(grouped(44_012_334), "44,012,334");
        assert_eq!(grouped(999), "999");
        assert_eq!(signed(-1_200), "-1,200");
    }

    #[test]
    fn units_are_written_as_people_say_them() {
        assert_eq!(with_unit(0.8, "s"), "0.8s");
        assert_eq!(with_unit(11.58, "s"), crate::domain::at::brief(11_580), "one length, one text");
        assert_eq!(with_unit(59.97, "s"), "59.9s");
        assert_eq!(with_unit(4.1, "s"), "4.1s");
        assert_eq!(with_unit(150.0, "s"), "02:30");
        assert_eq!(with_unit(0.02, "%"), "0.02%");
        assert_eq!(with_unit(0.001, "%"), "<0.01%", "never rounds down to nothing");
        assert_eq!(with_unit(99.9999, "%"), "99.999%", "never rounds up to all");
        assert_eq!(with_unit(100.0, "%"), "100%");
        assert_eq!(with_unit(41.2, "ms"), "41ms");
        assert_eq!(with_unit(5_000.0, ""), "5,000");
        assert_eq!(with_unit(1.25, ""), "1.25");
        assert_eq!(with_unit(18_800.4, ""), "18.8k");
        assert_eq!(limit(2.0, "s"), "2s");
        assert_eq!(limit(0.1, "%"), "0.1%");
        assert_eq!(limit(300.0, "s"), "05:00");
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(minutes(250_000), "04:10");
        assert_eq!(minutes(3_850_000), "1:04:10");
        assert_eq!(length(600_000), "10m");
        assert_eq!(length(86_400_000), "24h");
        assert_eq!(length(90_000), "1m30s");
        assert_eq!(age(200), "0.2s");
        assert_eq!(age(41_000), "41s");
        assert_eq!(age(200_000), "3m");
    }

    #[test]
    fn bars_are_full_only_when_all_is_done() {
        assert_eq!(bar(99, 100, 10), "[#########.]");
        assert_eq!(bar(100, 100, 10), "[##########]");
        assert_eq!(bar(7, 0, 4), "[....]");
        assert_eq!(whole_percent(999, 1000), 99);
        assert_eq!(whole_percent(u64::MAX, u64::MAX), 100);
    }
}
