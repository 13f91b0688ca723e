//! Rows of tables, signals and switches.

use super::build::Context;
use super::words::{age, human, length, minutes, rate};
use super::{DialRow, Health, OutboxRow, Proof, SignalRow, SwitchRow, TableRow, TrimRow};
use crate::domain::gauge::{Count, Course, Measured, Phase, Series, TableGauge, TrimClock, rows_kept_out};
use crate::domain::plan::{Dial, Plan, Serves, Side, Signal, SignalSource, Step, StepKind, Switch};
use crate::domain::run::{RunState, Stands, SwitchStatus, signal_value, trim_clock};

/// Slots and their length for a signal nobody keeps a history of.
const NO_HISTORY: Series = Series::new(5_000, 0);

/// Share of a limit from which a value is worth watching.
const WATCH_FROM: f64 = 0.8;

pub(super) fn table_rows(cx: &Context<'_>) -> Vec<TableRow> {
    let moving = cx.plan.tables.iter().map(|t| (t.id.as_str(), t.source.as_str(), t.target.as_str()));
    let staying = cx.plan.stays.iter().map(|t| (t.id.as_str(), t.source.as_str(), ""));
    moving.chain(staying).map(|(id, source, target)| table_row(cx, id, source, target)).collect()
}

fn table_row(cx: &Context<'_>, id: &str, source_name: &str, target_name: &str) -> TableRow {
    let stays = target_name.is_empty();
    let nothing = TableGauge { phase: if stays { Phase::Stays } else { Phase::Waiting }, ..TableGauge::default() };
    let gauge = cx.measured.tables.get(id).unwrap_or(&nothing);
    let journaled = cx.state.tables.get(id);
    let mut parked = gauge.parked.clone();
    if gauge.phase == Phase::Waiting && parked.is_empty() {
        parked = journaled.map(|t| t.load_parked.clone()).unwrap_or_default();
    }
    let difference = difference(gauge.source, gauge.target, rows_kept_out(&parked)).filter(|_| !stays);
    TableRow {
        id: id.to_owned(),
        source_name: source_name.to_owned(),
        target_name: target_name.to_owned(),
        phase: gauge.phase,
        source: gauge.source,
        target: gauge.target,
        difference,
        lag: gauge.lag,
        rate: gauge.rate,
        loaded: gauge.loaded.max(journaled.and_then(|t| t.loaded).unwrap_or(0)),
        segments: gauge.segments,
        reading: gauge.reading,
        applied: gauge.applied,
        parked,
        expired: gauge.expired,
        retries: gauge.retries,
        verified: journaled.and_then(|t| t.verified.clone()),
        proof: proof(cx, id),
        trouble: gauge.trouble.clone(),
        trim: trim_clock(cx.plan.keeps_ms(id), cx.state, cx.measured, id).filter(|_| !stays).map(trim_row),
    }
}

/// A table's retention clock in words.
fn trim_row(clock: TrimClock) -> TrimRow {
    let short = |ms: i64| if ms < 3_600_000 { minutes(ms.max(0)) } else { length(ms) };
    let trimmed = match clock.trimmed_in_ms {
        None => "records are trimmed in ?".to_owned(),
        Some(ms) if ms <= 0 => "records may be trimmed already".to_owned(),
        Some(ms) => format!("records are trimmed in {}", length(ms / 60_000 * 60_000)),
    };
    let read = match (clock.course, clock.read_in_ms) {
        (Course::Loading, Some(ms)) => format!("load done in {}", short(ms)),
        (Course::Loading, None) => "load done in ?".to_owned(),
        (Course::Waiting, _) => "not being read".to_owned(),
        (Course::CaughtUp, _) => "caught up".to_owned(),
        (Course::CatchingUp, Some(ms)) => format!("at this rate caught up in {}", short(ms)),
        (Course::FallingBehind, _) => "at this rate NEVER caught up".to_owned(),
        (Course::StandsStill, _) => "not catching up".to_owned(),
        (Course::Unknown | Course::CatchingUp, _) => "caught up in ?".to_owned(),
    };
    let health = match (clock.course, clock.used) {
        _ if clock.trim_first() => Health::Fail,
        (_, None) | (Course::Unknown, _) => Health::Unknown,
        (Course::StandsStill, _) => Health::Warn,
        (_, Some(used)) if used >= 95.0 => Health::Fail,
        (_, Some(used)) if used >= 50.0 => Health::Warn,
        (Course::CatchingUp | Course::Waiting, _) => Health::Watch,
        _ => Health::Ok,
    };
    let left = clock.trimmed_in_ms.map_or_else(|| "?".to_owned(), |ms| length((ms / 60_000 * 60_000).max(0)));
    let brief = read.trim_start_matches("at this rate ").replacen(" in ", " ", 1);
    TrimRow { clock, text: format!("{trimmed}; {read}"), brief: format!("trim {left}, {brief}"), health }
}

/// What waits to be applied to the old side, in words; `None` while nothing captures it.
pub(super) fn outbox_row(measured: &Measured) -> Option<OutboxRow> {
    let outbox = measured.outbox.as_ref()?;
    let old = outbox.oldest.map_or_else(|| "?".to_owned(), |at| age(measured.at.since(at).max(0)));
    let grows = match outbox.growth {
        None => "growth ?".to_owned(),
        Some(g) if g > 0.0 => format!("grows {}", rate(g)),
        Some(g) if g < 0.0 => format!("shrinks {}", rate(-g)),
        Some(_) => "steady".to_owned(),
    };
    let (text, health) = match outbox.rows {
        None => ("? changes wait to be carried back".to_owned(), Health::Unknown),
        Some(0) => ("nothing waits to be carried back".to_owned(), Health::Ok),
        Some(rows) => {
            let health = if outbox.growth.is_none_or(|g| g <= 0.0) { Health::Ok } else { Health::Watch };
            (format!("{} changes wait to be carried back, oldest {old}, {grows}", human(rows)), health)
        }
    };
    let brief = format!("{} wait, oldest {old}", outbox.rows.map_or_else(|| "?".to_owned(), human));
    Some(OutboxRow { outbox: *outbox, text, brief, health })
}

/// What the last full comparison is worth: nothing once it is older than the plan allows.
pub(super) fn proof(cx: &Context<'_>, id: &str) -> Proof {
    let Some((ended, v)) = cx.state.tables.get(id).and_then(|t| t.verified.as_ref()) else { return Proof::Never };
    // Counts have the wall clock; the fact's own time is the run's, which runs ahead on a rehearsal.
    let at = [v.source.at, v.target.at].into_iter().filter(|at| at.0 > 0).min().unwrap_or(*ended);
    if v.differing() > 0 {
        Proof::Open { rows: v.differing() }
    } else if cx.measured.at.since(at) > cx.plan.verify.stale_ms {
        Proof::Stale { at }
    } else if v.repairs > 0 {
        Proof::Repaired
    } else {
        Proof::Verified { at }
    }
}

/// What both counts differ by beyond what parked rows explain, when both are known.
fn difference(source: Count, target: Count, kept_out: i128) -> Option<i64> {
    let (source, target) = (i128::from(source.rows?), i128::from(target.rows?));
    i64::try_from(source - target - kept_out).ok()
}

pub(super) fn signal_row(cx: &Context<'_>, signal: &Signal) -> SignalRow {
    let reading = signal_value(cx.plan, cx.state, cx.measured, signal);
    let limit = match signal.source {
        // For a rate of equal rows the limit is the least that will do.
        SignalSource::MatchRate => Some(signal.limit.unwrap_or(cx.plan.verify.floor * 100.0)),
        SignalSource::Lag
        | SignalSource::MarkerRoundTrip
        | SignalSource::Mismatches
        | SignalSource::Parked
        | SignalSource::Unaccounted
        | SignalSource::Trim
        | SignalSource::RetainedLog
        | SignalSource::ProbeP95(_)
        | SignalSource::ProbeErrors(_)
        | SignalSource::Downtime
        | SignalSource::ReverseLag
        | SignalSource::Strays
        | SignalSource::CloudWatch(_) => signal.limit,
    };
    let health = match reading.fresh(cx.measured.at, signal.stale_ms) {
        // An interruption that has not begun is not unknown.
        None if signal.source == SignalSource::Downtime && cx.state.downtime.refused.is_none() => Health::Idle,
        // Nobody is on the new side yet: there is nothing to apply to the old side.
        None if signal.source == SignalSource::ReverseLag && cx.state.downtime.accepted.is_none() => Health::Idle,
        None => Health::Unknown,
        Some(value) => judge(&signal.source, value, limit),
    };
    SignalRow {
        id: signal.id.clone(),
        unit: signal.unit.clone(),
        value: reading.value,
        at: reading.at,
        limit,
        health,
        series: cx.series.get(&signal.id).cloned().unwrap_or(NO_HISTORY),
    }
}

fn judge(source: &SignalSource, value: f64, limit: Option<f64>) -> Health {
    let Some(limit) = limit else { return Health::Idle };
    if !value.is_finite() {
        return Health::Unknown;
    }
    match source {
        SignalSource::MatchRate if value < limit => Health::Fail,
        SignalSource::MatchRate if value < 100.0 => Health::Warn,
        SignalSource::MatchRate => Health::Ok,
        SignalSource::Mismatches | SignalSource::Parked | SignalSource::Unaccounted => {
            // Rows that need an explanation are never simply fine.
            if value <= limit && value > 0.0 { Health::Warn } else { below(value, limit) }
        }
        SignalSource::Lag
        | SignalSource::MarkerRoundTrip
        | SignalSource::Trim
        | SignalSource::RetainedLog
        | SignalSource::ProbeP95(_)
        | SignalSource::ProbeErrors(_)
        | SignalSource::Downtime
        | SignalSource::ReverseLag
        | SignalSource::Strays
        | SignalSource::CloudWatch(_) => below(value, limit),
    }
}

/// A value that has to stay under its limit.
fn below(value: f64, limit: f64) -> Health {
    if value > limit {
        Health::Fail
    } else if limit > 0.0 && value >= limit * WATCH_FROM {
        Health::Watch
    } else {
        Health::Ok
    }
}

/// A signal the screen needs although the plan does not name it; limits as the guides set them.
pub(super) fn own_signal(source: SignalSource) -> Signal {
    let (unit, limit, stale_ms) = match source {
        SignalSource::Lag | SignalSource::MarkerRoundTrip => ("s", Some(30.0), 15_000),
        SignalSource::Trim => ("%", Some(95.0), 15_000),
        SignalSource::RetainedLog => ("MB", None, 15_000),
        SignalSource::ProbeP95(_) => ("ms", None, 15_000),
        SignalSource::ProbeErrors(_) => ("%", Some(1.0), 15_000),
        SignalSource::Mismatches | SignalSource::Unaccounted => ("", Some(0.0), 4 * 3_600_000),
        SignalSource::MatchRate
        | SignalSource::Parked
        | SignalSource::Downtime
        | SignalSource::ReverseLag
        | SignalSource::Strays
        | SignalSource::CloudWatch(_) => ("", None, 60_000),
    };
    Signal { id: String::new(), unit: unit.to_owned(), source, side: Side::Both, limit, stale_ms }
}

pub(super) fn switch_row(plan: &Plan, state: &RunState, switch: &Switch) -> SwitchRow {
    let found = state.switches.get(&switch.id);
    let old = match found {
        Some(s) if s.captured && switch.secret() => "***".to_owned(),
        Some(s) if s.captured => s.captured_value.clone().unwrap_or_else(|| "***".to_owned()),
        _ => "?".to_owned(),
    };
    let standing = found.map_or(SwitchStatus::Old, |s| s.standing);
    let position = found.and_then(|s| s.position.clone());
    SwitchRow {
        id: switch.id.clone(),
        title: switch.title.clone(),
        place: switch.place(),
        old,
        new: new_value(plan, switch, position.as_deref()).to_owned(),
        standing,
        position: position.filter(|_| standing == SwitchStatus::New),
        read_at: found.and_then(|s| s.read_at),
        captured: found.is_some_and(|s| s.captured),
        version: found.and_then(|s| s.captured_version),
    }
}

/// What a switch is set to: of a place of a dial what it was last set to, or goes to first.
fn new_value<'p>(plan: &'p Plan, switch: &'p Switch, position: Option<&str>) -> &'p str {
    let Some(dial) = plan.dial_of(&switch.id) else { return switch.shown(&switch.to) };
    let first = || {
        let to = |step: &'p Step| {
            let StepKind::Switch { to, .. } = &step.kind else { return None };
            to.get(&dial.id)
        };
        plan.steps.iter().find_map(to).map(String::as_str)
    };
    let at = position.or_else(first).and_then(|name| dial.position(name));
    at.and_then(|at| dial.value(&switch.id, at)).map_or("?", |value| switch.shown(value))
}

/// Where a switch with several positions stands.
pub(super) fn dial_row(state: &RunState, dial: &Dial) -> DialRow {
    let name = |at: usize| dial.positions.get(at).map_or("?", |position| position.name.as_str());
    let (stands, at) = match state.stands(dial) {
        Stands::At(at) => (name(at).to_owned(), Some(at)),
        Stands::Between(least, most) => (format!("between {} and {}", name(least), name(most)), None),
        Stands::Unknown => ("?".to_owned(), None),
    };
    DialRow {
        id: dial.id.clone(),
        title: dial.title.clone(),
        stands,
        serves: state.serves(dial).map_or_else(|| "?".to_owned(), Serves::words),
        positions: dial.positions.iter().map(|position| position.name.clone()).collect(),
        at,
    }
}
