//! How long until records nobody has read are gone: the stream's retention as a clock, with a projection.

use super::RunState;
use crate::domain::at::At;
use crate::domain::gauge::{Course, Measured, Phase, TableGauge, TrimClock};

/// Younger than this the oldest unread record says nothing but that reading goes on, in milliseconds.
const CAUGHT_UP_MS: i64 = 60_000;
/// Slower changes of age than this are none.
const STANDS_STILL: f64 = 0.02;
/// Drawn for a projection without end, in percent.
const NEVER: f64 = 999.0;
/// How a start "at the oldest record" is written into positions, with the moment it was recorded.
const START: &str = "oldest@";

/// The oldest record of a table that may be unread: what following says, or the recorded start before it begins.
/// `None` when nobody knows, or nothing is captured.
#[must_use]
pub fn oldest_unread(state: &RunState, table: &str, gauge: Option<&TableGauge>) -> Option<(At, At)> {
    let captured = state.tables.get(table).filter(|t| t.stream.is_some())?;
    let lag = gauge.map(|g| g.lag.apply).filter(|lag| lag.at.0 > 0);
    if let Some(lag) = lag {
        let value = lag.value.filter(|v| v.is_finite())?;
        return Some((lag.at.plus(-(value as i64)), lag.at));
    }
    // Once loaded, changes are followed: the recorded start is no longer where reading stands.
    if captured.loaded.is_some() {
        return None;
    }
    let starts = captured.positions.values().map(|p| p.strip_prefix(START).and_then(|ms| ms.parse().ok()).map(At));
    let oldest = starts.collect::<Option<Vec<At>>>()?.into_iter().min()?;
    Some((oldest, At::default()))
}

/// One table's clock as of `measured.at`; `None` before its stream is captured, and where its source keeps changes for as
/// long as it takes. `kept_ms` is how long that is ([`crate::domain::plan::Plan::keeps_ms`]).
#[must_use]
pub fn trim_clock(kept_ms: Option<i64>, state: &RunState, measured: &Measured, table: &str) -> Option<TrimClock> {
    let kept = kept_ms?;
    state.tables.get(table).filter(|t| t.stream.is_some())?;
    let gauge = measured.tables.get(table);
    let unknown = TrimClock {
        age_ms: None,
        trimmed_in_ms: None,
        read_in_ms: None,
        course: Course::Unknown,
        used: None,
        at: At::default(),
    };
    let Some(unread) = gauge.and_then(|g| g.unread) else { return Some(unknown) };
    let age = measured.at.since(unread.oldest).max(0);
    let share = |ms: i64| ms as f64 * 100.0 / kept as f64;
    let clock = |course, read_in_ms, used| TrimClock {
        age_ms: Some(age),
        trimmed_in_ms: Some(kept - age),
        read_in_ms,
        course,
        used,
        at: unread.at,
    };
    let loaded = state.tables.get(table).is_some_and(|t| t.loaded.is_some());
    Some(match gauge.map(|g| g.phase) {
        Some(Phase::Loading | Phase::Retrying) if !loaded => {
            let left = gauge.and_then(load_left_ms);
            clock(Course::Loading, left, left.map(|ms| share(age.saturating_add(ms))))
        }
        Some(Phase::Waiting | Phase::Loaded | Phase::Paused) | None => clock(Course::Waiting, None, Some(share(age))),
        _ if age < CAUGHT_UP_MS => clock(Course::CaughtUp, Some(0), Some(share(age))),
        _ => match unread.closing {
            Some(closing) if closing > STANDS_STILL => {
                let left = (age as f64 / closing) as i64;
                clock(Course::CatchingUp, Some(left), Some(share(age)))
            }
            Some(closing) if closing < -STANDS_STILL => clock(Course::FallingBehind, None, Some(NEVER)),
            Some(_) => clock(Course::StandsStill, None, Some(share(age))),
            None => clock(Course::Unknown, None, Some(share(age))),
        },
    })
}

/// What is left of a bulk load at its pace.
fn load_left_ms(gauge: &TableGauge) -> Option<i64> {
    let left = gauge.source.rows?.saturating_sub(gauge.loaded) as f64;
    let ms = left / gauge.rate * 1000.0;
    (gauge.rate > 0.0 && ms < 1e12).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::gauge::{Count, Lag, Reading, TableGauge, Unread};
    use crate::domain::run::TableState;

    const HOUR: i64 = 3_600_000;
    const NOW: At = At(100 * HOUR);
    const KEPT: Option<i64> = crate::domain::plan::StoreKind::Dynamodb.keeps_ms();

    fn state(loaded: Option<u64>, start: &str) -> RunState {
        let table = TableState {
            stream: Some("arn".into()),
            positions: [("s1".to_owned(), start.to_owned())].into(),
            loaded,
            ..TableState::default()
        };
        RunState { tables: [("books".to_owned(), table)].into(), ..RunState::default() }
    }

    fn clock(state: &RunState, mut gauge: TableGauge, closing: Option<f64>) -> TrimClock {
        if let Some((oldest, at)) = oldest_unread(state, "books", Some(&gauge)) {
            gauge.unread = Some(Unread { oldest, at, closing });
        }
        let measured = Measured { at: NOW, tables: [("books".to_owned(), gauge)].into(), ..Measured::default() };
        trim_clock(KEPT, state, &measured, "books").expect("captured")
    }

    fn following(age_ms: i64) -> TableGauge {
        let apply = Reading::new(age_ms as f64, NOW);
        TableGauge { phase: Phase::Following, lag: Lag { apply, ..Lag::default() }, ..TableGauge::default() }
    }

    #[test]
    fn a_follower_is_judged_by_its_pace() {
        let s = state(Some(9), "oldest@0");
        let table = [
            (30_000, Some(-1.0), Course::CaughtUp, Some(0), false),
            (3 * HOUR, Some(44.0), Course::CatchingUp, Some(3 * HOUR / 44), false),
            (3 * HOUR, Some(-0.5), Course::FallingBehind, None, true),
            (3 * HOUR, Some(0.0), Course::StandsStill, None, false),
            (3 * HOUR, None, Course::Unknown, None, false),
            (25 * HOUR, Some(44.0), Course::CatchingUp, Some(25 * HOUR / 44), true),
        ];
        for (age, closing, course, read_in, first) in table {
            let c = clock(&s, following(age), closing);
            assert_eq!((c.course, c.read_in_ms, c.trim_first()), (course, read_in, first), "{age} {closing:?}");
            assert_eq!(c.trimmed_in_ms, Some(24 * HOUR - age));
        }
    }

    #[test]
    fn a_load_that_outlasts_the_retention_is_seen_while_it_runs() {
        let s = state(None, &format!("oldest@{}", NOW.0 - HOUR));
        let loading = |rate| TableGauge {
            phase: Phase::Loading,
            source: Count::exact(36_000_000, NOW),
            rate,
            ..TableGauge::default()
        };
        let fast = clock(&s, loading(10_000.0), None);
        assert_eq!((fast.course, fast.read_in_ms, fast.trim_first()), (Course::Loading, Some(HOUR), false));
        let slow = clock(&s, loading(400.0), None);
        assert_eq!((slow.read_in_ms, slow.trim_first()), (Some(25 * HOUR), true), "25 h of load, 23 h left");
        assert_eq!(clock(&s, loading(0.0), None).used, None, "a load that stands still has no end");
    }

    #[test]
    fn what_nobody_knows_is_not_a_number() {
        let lost = TableGauge { phase: Phase::Retrying, ..following(0) };
        let lost = TableGauge { lag: Lag { apply: Reading { value: None, at: NOW }, ..Lag::default() }, ..lost };
        let c = clock(&state(Some(9), "oldest@0"), lost, None);
        assert_eq!((c.course, c.age_ms, c.used), (Course::Unknown, None, None));
        // Right after a restart the start is not where reading stands.
        assert_eq!(oldest_unread(&state(Some(9), "oldest@0"), "books", None), None);
        assert_eq!(oldest_unread(&state(None, "4711"), "books", None), None, "a start without its moment");
        assert_eq!(trim_clock(KEPT, &RunState::default(), &Measured::default(), "books"), None, "nothing is captured");
        let gauge = following(1_000);
        let measured = Measured { at: NOW, tables: [("books".to_owned(), gauge)].into(), ..Measured::default() };
        let state = state(Some(9), "oldest@0");
        assert_eq!(trim_clock(None, &state, &measured, "books"), None, "kept for as long as it takes");
    }
}
