//! Every kind of event with arbitrary contents, for property tests.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::domain::alert::{About, Told};
use crate::domain::at::At;
use crate::domain::gauge::{Count, CountKind};
use crate::domain::run::{
    Action, Actor, Amended, Attributes, Baseline, Caller, Callers, Cause, ErrorClass, Event, Evidence, Fact, Level,
    MoverOrder, Origin, OutcomeResult, PlanChange, StepError, StepSeen, VerifySummary, Vote,
};

/// Number of event types.
pub const KINDS: usize = 41;

/// The place of an event's type in [`of_kind`]. No wildcard: a new event does not compile until it is covered.
pub const fn kind(event: &Event) -> usize {
    match event {
        Event::RunOpened { .. } => 0,
        Event::RunResumed { .. } => 1,
        Event::RunPaused { .. } => 2,
        Event::RunContinued { .. } => 3,
        Event::StepHeld { .. } => 4,
        Event::Confirmed { .. } => 5,
        Event::StepStarted { .. } => 6,
        Event::StepDone { .. } => 7,
        Event::StepFailed { .. } => 8,
        Event::StepSkipped { .. } => 9,
        Event::Captured { .. } => 10,
        Event::Intent { .. } => 11,
        Event::Outcome { .. } => 12,
        Event::Decided { .. } => 13,
        Event::CaptureStarted { .. } => 14,
        Event::TableLoaded { .. } => 15,
        Event::Verified { .. } => 16,
        Event::GateMet { .. } => 17,
        Event::GateBroken { .. } => 18,
        Event::WritesRefused { .. } => 19,
        Event::WritesAccepted { .. } => 20,
        Event::RollbackOrdered { .. } => 21,
        Event::RolledBack { .. } => 22,
        Event::RollbackStuck { .. } => 23,
        Event::RunFinished => 24,
        Event::Note { .. } => 25,
        Event::Approved { .. } => 26,
        Event::Voted { .. } => 27,
        Event::GateHeld { .. } => 28,
        Event::CarriedBack { .. } => 29,
        Event::ReverseConflicts { .. } => 30,
        Event::StrayWrites { .. } => 31,
        Event::ClockStepped { .. } => 32,
        Event::PlanAmended(_) => 33,
        Event::StepBackOrdered { .. } => 34,
        Event::SteppedBack { .. } => 35,
        Event::BaselineTaken { .. } => 36,
        Event::AlertFired { .. } => 37,
        Event::AlertTold { .. } => 38,
        Event::AlertCleared { .. } => 39,
        Event::AlertAcknowledged { .. } => 40,
    }
}

/// Any event.
pub fn event() -> impl Strategy<Value = Event> {
    (0..KINDS).prop_flat_map(of_kind)
}

/// Facts with positions from 1.
pub fn facts(most: usize) -> impl Strategy<Value = Vec<Fact>> {
    vec((event(), -9_000_i64..9_000_000_000_000), 0..most).prop_map(|all| {
        let number = |(i, (event, at))| Fact { seq: i as u64 + 1, at: At(at), event };
        all.into_iter().enumerate().map(number).collect()
    })
}

/// Events of one type.
pub fn of_kind(kind: usize) -> BoxedStrategy<Event> {
    let id = || "[a-z/_-]{0,8}";
    match kind {
        0 => (text(), text(), text(), text(), (text(), text(), text(), at(), vec(id(), 0..4)))
            .prop_map(|(run, plan, plan_hash, environment, (operator, host, version, t0, steps))| {
                let caller = Caller { account: Some(host.clone()), ..Caller::default() };
                let callers = Callers::from([(plan.clone(), caller)]);
                Event::RunOpened { run, plan, plan_hash, environment, operator, host, version, t0, steps, callers }
            })
            .boxed(),
        1 => (text(), text()).prop_map(|(operator, host)| Event::RunResumed { operator, host }).boxed(),
        2 => (actor(), text()).prop_map(|(by, reason)| Event::RunPaused { by, reason }).boxed(),
        3 => actor().prop_map(|by| Event::RunContinued { by }).boxed(),
        4 => (id(), text()).prop_map(|(step, reason)| Event::StepHeld { step, reason }).boxed(),
        5 => (id(), actor()).prop_map(|(step, by)| Event::Confirmed { step, by }).boxed(),
        6 => (id(), any::<u32>()).prop_map(|(step, attempt)| Event::StepStarted { step, attempt }).boxed(),
        7 => (id(), evidence()).prop_map(|(step, evidence)| Event::StepDone { step, evidence }).boxed(),
        8 => (id(), class(), text(), text())
            .prop_map(|(step, class, message, advice)| Event::StepFailed {
                step,
                error: StepError { class, message, advice },
            })
            .boxed(),
        9 => (id(), actor()).prop_map(|(step, by)| Event::StepSkipped { step, by }).boxed(),
        10 => (id(), option::of(any::<i64>()), option::of(text()), option::of(text()))
            .prop_map(|(switch, version, value, key)| {
                let attributes = Attributes { key, ..Attributes::default() };
                Event::Captured { switch, version, value, attributes }
            })
            .boxed(),
        11 => {
            (id(), option::of(id()), action()).prop_map(|(id, step, action)| Event::Intent { id, step, action }).boxed()
        }
        12 => (id(), outcome()).prop_map(|(id, result)| Event::Outcome { id, result }).boxed(),
        13 => actor().prop_map(|by| Event::Decided { by }).boxed(),
        14 => (id(), text(), btree_map(id(), text(), 0..3))
            .prop_map(|(table, stream, positions)| Event::CaptureStarted { table, stream, positions })
            .boxed(),
        15 => (id(), any::<u64>(), reasons(), any::<i64>())
            .prop_map(|(table, rows, parked, took_ms)| Event::TableLoaded { table, rows, parked, took_ms })
            .boxed(),
        16 => (id(), summary()).prop_map(|(table, summary)| Event::Verified { table, summary }).boxed(),
        36 => (id(), any::<i32>(), any::<u32>(), at())
            .prop_map(|(signal, value, samples, at)| {
                let value = f64::from(value) / 1000.0;
                let baseline = Baseline { value, median: value, p95: value, samples, from: at, to: at };
                Event::BaselineTaken { signal, baseline }
            })
            .boxed(),
        17 => (id(), evidence()).prop_map(|(gate, evidence)| Event::GateMet { gate, evidence }).boxed(),
        18 => (id(), evidence()).prop_map(|(gate, evidence)| Event::GateBroken { gate, evidence }).boxed(),
        19 => at().prop_map(|at| Event::WritesRefused { at }).boxed(),
        20 => (at(), option::of(any::<i64>()))
            .prop_map(|(at, downtime_ms)| Event::WritesAccepted { at, downtime_ms })
            .boxed(),
        21 => (actor(), cause()).prop_map(|(by, cause)| Event::RollbackOrdered { by, cause }).boxed(),
        22 => {
            (any::<i64>(), evidence()).prop_map(|(took_ms, evidence)| Event::RolledBack { took_ms, evidence }).boxed()
        }
        23 => vec(text(), 0..3).prop_map(|what| Event::RollbackStuck { what }).boxed(),
        24 => Just(Event::RunFinished).boxed(),
        26 => (id(), actor(), origin(), text(), option::of(text()))
            .prop_map(|(step, by, origin, basis, note)| Event::Approved { step, by, origin, basis, note })
            .boxed(),
        27 => (id(), actor(), any::<bool>(), origin(), text(), option::of(text()))
            .prop_map(|(step, by, go, origin, basis, note)| {
                let vote = if go { Vote::Go } else { Vote::NoGo };
                Event::Voted { step, by, vote, origin, basis, note }
            })
            .boxed(),
        28 => (id(), any::<i64>()).prop_map(|(gate, held_ms)| Event::GateHeld { gate, held_ms }).boxed(),
        29 => (id(), proptest::array::uniform3(rows()), option::of(rows()), vec(text(), 0..3))
            .prop_map(|(table, [carried, merged, conflicts], left, keys)| Event::CarriedBack {
                table,
                carried,
                merged,
                conflicts,
                left,
                keys,
            })
            .boxed(),
        30 => (id(), rows(), vec(text(), 0..3), text())
            .prop_map(|(table, count, keys, kept)| Event::ReverseConflicts { table, count, keys, kept })
            .boxed(),
        31 => (id(), rows(), vec(text(), 0..3))
            .prop_map(|(table, count, keys)| Event::StrayWrites { table, count, keys })
            .boxed(),
        32 => (any::<i64>(), 0..3)
            .prop_map(|(by_ms, seen)| {
                let seen = [StepSeen::Live, StepSeen::AtStart, StepSeen::AfterReboot]
                    [usize::try_from(seen).unwrap_or_default()];
                Event::ClockStepped { by_ms, seen }
            })
            .boxed(),
        33 => (text(), text(), actor(), text(), (at(), vec(id(), 0..3), vec((text(), text(), text()), 0..3)))
            .prop_map(|(from, to, by, host, (t0, gates, changes))| {
                let changes = changes.into_iter().map(|(what, old, new)| PlanChange { what, old, new }).collect();
                Event::PlanAmended(Amended { from, to, by, host, t0, gates, changes })
            })
            .boxed(),
        34 => (id(), actor()).prop_map(|(step, by)| Event::StepBackOrdered { step, by }).boxed(),
        35 => (id(), vec(id(), 0..3), evidence())
            .prop_map(|(step, again, evidence)| Event::SteppedBack { step, again, evidence })
            .boxed(),
        37 => (id(), about(), text(), vec(text(), 0..3))
            .prop_map(|(alert, about, text, places)| Event::AlertFired { alert, about, text, places })
            .boxed(),
        38 => (id(), about(), text(), text(), any::<bool>())
            .prop_map(|(alert, about, place, said, told)| {
                let result = if told { Told::Delivered { answer: said } } else { Told::Failed { error: said } };
                Event::AlertTold { alert, about, place, result }
            })
            .boxed(),
        39 => (id(), about()).prop_map(|(alert, about)| Event::AlertCleared { alert, about }).boxed(),
        40 => (id(), about(), actor(), option::of(origin()), option::of(text()))
            .prop_map(|(alert, about, by, origin, note)| Event::AlertAcknowledged { alert, about, by, origin, note })
            .boxed(),
        _ => (level(), text(), text()).prop_map(|(level, source, text)| Event::Note { level, source, text }).boxed(),
    }
}

/// Short text with the characters that break line formats.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9 :/.-]{0,12}".boxed(),
        "\\PC{0,6}".boxed(),
        Just("line\nbreak \"quoted\" \\ } \u{2028} \u{0} ключ".to_owned()).boxed(),
    ]
}

fn at() -> impl Strategy<Value = At> {
    any::<i64>().prop_map(At)
}

fn actor() -> impl Strategy<Value = Actor> {
    prop_oneof![
        Just(Actor::Auto),
        text().prop_map(Actor::Operator),
        text().prop_map(Actor::Terminal),
        text().prop_map(Actor::Answered),
        text().prop_map(Actor::StandIn),
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    (text(), text(), text()).prop_map(|(user, host, terminal)| Origin { user, host, terminal })
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Info), Just(Level::Warn), Just(Level::Error)]
}

fn class() -> impl Strategy<Value = ErrorClass> {
    proptest::sample::select(vec![
        ErrorClass::Transient,
        ErrorClass::Permission,
        ErrorClass::World,
        ErrorClass::Gate,
        ErrorClass::Verification,
        ErrorClass::Lease,
        ErrorClass::Cancelled,
        ErrorClass::Bug,
    ])
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![
        Just(Cause::Asked),
        text().prop_map(|step| Cause::Cancel { step }),
        text().prop_map(|step| Cause::Automatic { step }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (text(), text(), proptest::option::of(text())).prop_map(|(switch, to, position)| Action::SetSwitch {
            switch,
            to,
            position
        }),
        (text(), option::of(any::<i64>())).prop_map(|(switch, version)| Action::RestoreSwitch { switch, version }),
        (text(), option::of(any::<i64>())).prop_map(|(switch, version)| Action::ExerciseSwitch { switch, version }),
        text().prop_map(|table| Action::CreateTable { table }),
        vec(text(), 0..3).prop_map(|tables| Action::MakeAnew { tables }),
        text().prop_map(|table| Action::TurnOnExpiry { table }),
        text().prop_map(|table| Action::EnableStream { table }),
        text().prop_map(|store| Action::EndCapture { store }),
        (text(), proptest::sample::select(MoverOrder::ALL.to_vec()))
            .prop_map(|(mover, order)| Action::TellMover { mover, order }),
        (text(), any::<u64>(), vec(text(), 0..3)).prop_map(|(table, rows, keys)| Action::Repair { table, rows, keys }),
        (text(), text(), any::<i64>(), any::<bool>()).prop_map(|(job, token, at, undo)| Action::BeginJob {
            job,
            token,
            since: At(at),
            undo
        }),
        text().prop_map(|job| Action::CancelJob { job }),
        Just(Action::AdvanceSequences),
        (text(), text()).prop_map(|(table, nonce)| Action::WriteMarker { table, nonce }),
    ]
}

fn outcome() -> impl Strategy<Value = OutcomeResult> {
    prop_oneof![
        (text(), option::of(any::<i64>())).prop_map(|(read_back, version)| OutcomeResult::Done { read_back, version }),
        text().prop_map(|error| OutcomeResult::Failed { error }),
        text().prop_map(|error| OutcomeResult::Unknown { error }),
    ]
}

fn evidence() -> impl Strategy<Value = Vec<Evidence>> {
    let one = (text(), text(), at(), text(), any::<bool>()).prop_map(|(name, value, at, source, good)| Evidence {
        name,
        value,
        at,
        source,
        good,
    });
    vec(one, 0..3)
}

fn about() -> impl Strategy<Value = About> {
    (0..9, text()).prop_map(|(kind, what)| match kind {
        0 => About::Waiting { step: what },
        1 => About::Failed { step: what },
        2 => About::Stuck,
        3 => About::LeftBehind { what },
        4 => About::RolledBack,
        5 => About::Finished,
        6 => About::Gate { gate: what },
        7 => About::Threshold { criterion: what },
        _ => About::Unmeasured { criterion: what },
    })
}

fn reasons() -> impl Strategy<Value = BTreeMap<String, u64>> {
    btree_map("[a-z ]{0,6}", rows(), 0..3)
}

fn count() -> impl Strategy<Value = Count> {
    let kind =
        proptest::sample::select(vec![CountKind::Unknown, CountKind::Exact, CountKind::Derived, CountKind::Estimated]);
    (option::of(rows()), kind, at(), option::of(at()), rows()).prop_map(|(rows, kind, at, read_at, unsure)| Count {
        rows,
        kind,
        at,
        read_at,
        unsure,
    })
}

/// Row counts whose sums still fit: sums are taken of them.
fn rows() -> impl Strategy<Value = u64> {
    0..1_u64 << 60
}

fn summary() -> impl Strategy<Value = VerifySummary> {
    let numbers = proptest::array::uniform9(rows());
    (count(), count(), numbers, reasons(), vec(text(), 0..3), any::<i64>()).prop_map(
        |(
            source,
            target,
            [equal, missing, extra, mismatched, parked, expired, expired_extra, orphans, repairs],
            causes,
            keys,
            took_ms,
        )| VerifySummary {
            source,
            target,
            equal,
            missing,
            extra,
            mismatched,
            parked,
            expired,
            expired_extra,
            orphans,
            repairs,
            causes,
            keys,
            took_ms,
        },
    )
}

#[cfg(test)]
mod tests {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;

    #[test]
    fn every_kind_of_event_is_made() {
        let mut runner = TestRunner::deterministic();
        for wanted in 0..KINDS {
            let event = of_kind(wanted).new_tree(&mut runner).unwrap().current();
            assert_eq!(kind(&event), wanted, "{event:?}");
        }
    }
}
