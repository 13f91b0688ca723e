//! Data loss: the criterion that every acknowledged write is on the new side.

use super::build::Context;
use super::{Criterion, Health, SignalRow};
use super::{rows, words};
use crate::domain::plan::{SignalSource, Table};
use crate::domain::run::VerifySummary;

/// Whether every row of the source is on the new side as the source has it.
pub(super) fn data_loss(cx: &Context<'_>, signals: &[SignalRow]) -> Criterion {
    let by_source = |wanted: &SignalSource| {
        let at = cx.plan.signals.iter().position(|s| s.source == *wanted);
        // A plan need not watch the number; it is worked out all the same.
        at.map_or_else(|| rows::signal_row(cx, &rows::own_signal(wanted.clone())), |i| signals[i].clone())
    };
    let gap = by_source(&SignalSource::Unaccounted);
    let compared = |t: &Table| cx.state.tables.get(&t.id).and_then(|t| t.verified.as_ref());
    let sum = |of: fn(&VerifySummary) -> u64| -> Option<u64> {
        cx.plan.tables.iter().map(|t| compared(t).map(|(_, v)| of(v))).sum()
    };
    // A row that differs lacks what was written to it last. Counts say nothing of it, so it is added to what they leave.
    let (missing, differ) = (sum(|v| v.missing), sum(|v| v.mismatched));
    let rows = match (gap.value.filter(|_| gap.health != Health::Unknown), missing, differ) {
        (Some(gap), Some(missing), Some(differ)) => Some(gap.max(missing as f64) + differ as f64),
        _ => None,
    };
    // What the source is given after following has ended does not arrive, and a comparison says nothing of what comes
    // after it.
    let unseen = cx.state.decided.is_none()
        && cx.plan.tables.iter().any(|t| cx.measured.tables.get(&t.id).is_some_and(|g| g.unfollowed.is_some()));
    let rows = rows.filter(|lost| *lost > 0.0 || !unseen);
    // A row that is parked is kept and counted, and all the same no customer finds it on the new side.
    let parked = by_source(&SignalSource::Parked).value.map_or(0, |n| n as u64);
    let health = match rows {
        None => Health::Unknown,
        Some(n) if n > 0.0 => Health::Fail,
        Some(_) if parked > 0 => Health::Warn,
        Some(_) => Health::Ok,
    };
    let measured = rows.map_or_else(|| "?".to_owned(), |n| words::with_unit(n, ""));
    let measured = if parked > 0 { format!("{measured}, {} parked", words::grouped(parked)) } else { measured };
    Criterion { name: "data loss".to_owned(), wanted: "0 rows".to_owned(), measured, health }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{T0, plan};
    use super::super::tests::built;
    use super::*;
    use crate::domain::gauge::{Count, Measured};
    use crate::domain::plan::Plan;
    use crate::domain::run::RunState;

    /// Every table as compared at `T0`: ten rows on each side, of which so many differ.
    fn compared(plan: &Plan, mismatched: u64) -> RunState {
        let (source, target) = (Count::exact(10, T0), Count::exact(10, T0));
        let v = VerifySummary { source, target, equal: 10 - mismatched, mismatched, ..VerifySummary::default() };
        let mut state = RunState::default();
        for t in &plan.tables {
            state.tables.entry(t.id.clone()).or_default().verified = Some((T0, v.clone()));
        }
        state
    }

    fn loss(plan: &Plan, state: &RunState, measured: &Measured) -> (String, Health) {
        let s = built(plan, state, measured, &[]);
        (s.criteria[0].measured.clone(), s.criteria[0].health)
    }

    #[test]
    fn a_row_that_differs_is_a_lost_write_even_when_the_counts_agree() {
        let plan = plan();
        let measured = Measured { at: T0, ..Measured::default() };
        assert_eq!(loss(&plan, &compared(&plan, 0), &measured), ("0".to_owned(), Health::Ok));
        assert_eq!(loss(&plan, &compared(&plan, 3), &measured), ("12".to_owned(), Health::Fail), "four tables");
    }

    #[test]
    fn nothing_is_known_of_what_comes_after_following_has_ended() {
        let plan = plan();
        let mut measured = Measured { at: T0.plus(9_000), ..Measured::default() };
        let table = measured.tables.entry(plan.tables[0].id.clone()).or_default();
        table.unfollowed = Some(T0.plus(5_000));
        assert_eq!(loss(&plan, &compared(&plan, 0), &measured), ("?".to_owned(), Health::Unknown));
        assert_eq!(loss(&plan, &compared(&plan, 1), &measured), ("4".to_owned(), Health::Fail), "these are known");
        let mut later = compared(&plan, 0);
        for (_, v) in later.tables.values_mut().filter_map(|t| t.verified.as_mut()) {
            (v.source.at, v.target.at) = (T0.plus(6_000), T0.plus(6_000));
        }
        assert_eq!(loss(&plan, &later, &measured), ("?".to_owned(), Health::Unknown), "customers go on writing");
        // From the decision on, customers write on the new side: what is followed then are stray writes.
        let decided = RunState { decided: Some(T0), ..compared(&plan, 0) };
        assert_eq!(loss(&plan, &decided, &measured), ("0".to_owned(), Health::Ok));
    }
}
