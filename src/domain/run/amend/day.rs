//! The day: switches, the freeze, gates, steps.

use std::collections::BTreeMap;

use super::phase::Phase;
use super::show::{length, listed, on, option, planned, text, value};
use super::{AmendDecision, ChangeList, Member, allowed, as_long_as, refused};
use crate::domain::plan::{
    Confirm, Criterion, Dial, Freeze, Gate, Job, OnFail, Position, Start, Step, StepKind, Switch, SwitchKind, ValueRef,
    other_control,
};
use crate::domain::run::approval::same_person;

const PLACES: &str = "what is switched, and where, is what going back puts back: open another run with \
                      `cutover run --new`";
const DONE: &str = "the step is done";
const BEGUN: &str = "the step has begun";

pub(super) fn switches(found: &mut ChangeList<'_>, old: &[Switch], new: &[Switch]) {
    found.list(
        "switches",
        (old, new),
        |s| &s.id,
        |_, _| refused(PLACES),
        |found, what, old, new| {
            let Switch { id, title, kind, control, expect, to, exercise } = old;
            let captured = |phase: &Phase<'_>| {
                as_long_as(
                    !phase.captured(id),
                    "",
                    "the switch is captured: what it goes to was shown and proven with it",
                )
            };
            let secret = old.secret() || new.secret();
            let shown = |v: &Option<String>| option(v.as_ref(), |v| if secret { "***".to_owned() } else { text(v) });
            found.field(format!("{what}.title"), (title, &new.title), text, |_| allowed(""));
            let places = (&(kind, control), &(&new.kind, &new.control));
            found.field(what, places, |(kind, control)| place(kind, control), |_| refused(PLACES));
            found.field(format!("{what}.expect"), (expect, &new.expect), shown, captured);
            found.field(format!("{what}.to"), (to, &new.to), |to: &ValueRef| value(to, secret), captured);
            found.field(format!("{what}.exercise"), (exercise, &new.exercise), |b| on(*b), captured);
        },
    );
}

pub(super) fn dials(found: &mut ChangeList<'_>, old: &[Dial], new: &[Dial]) {
    found.list(
        "dials",
        (old, new),
        |d| &d.id,
        |_, _| refused(PLACES),
        |found, what, old, new| {
            let Dial { id: _, title, places, positions, effect_ms } = old;
            let captured = |phase: &Phase<'_>| {
                let open = !places.iter().any(|place| phase.captured(place));
                as_long_as(open, "", "the switch is captured: what it goes to was shown and proven with it")
            };
            let each = |all: &Vec<Position>| {
                listed(&all.iter().map(|p| format!("{}: {}", p.name, p.serves.words())).collect::<Vec<_>>())
            };
            // Values may be secrets: that they differ is all that is said.
            let named = positions.iter().zip(&new.positions).all(|(a, b)| (&a.name, a.serves) == (&b.name, b.serves));
            found.field(format!("{what}.title"), (title, &new.title), text, |_| allowed(""));
            found.field(format!("{what}.places"), (places, &new.places), |all| listed(all), |_| refused(PLACES));
            if named && positions != &new.positions && positions.len() == new.positions.len() {
                let values = ("as they were".to_owned(), "others".to_owned());
                found.push(format!("{what}.values"), values, captured);
            } else {
                found.field(format!("{what}.positions"), (positions, &new.positions), each, captured);
            }
            let millis = |ms: &u64| length(i64::try_from(*ms).unwrap_or(i64::MAX));
            found.field(format!("{what}.effect"), (effect_ms, &new.effect_ms), millis, |_| allowed(""));
        },
    );
}

pub(super) fn jobs(found: &mut ChangeList<'_>, old: &[Job], new: &[Job]) {
    const BEGUN: &str = "the job has begun: what a rollback does about it is what it was";
    found.list(
        "jobs",
        (old, new),
        |job| &job.id,
        |phase, member| match member {
            Member::Added(_) | Member::Order => allowed(""),
            Member::Gone(job) => as_long_as(!phase.job_begun(&job.id), "", BEGUN),
        },
        |found, what, old, new| {
            let Job { id, title, kind, control, timeout_ms } = old;
            let untouched = |phase: &Phase<'_>| as_long_as(!phase.job_begun(id), "", BEGUN);
            found.field(format!("{what}.title"), (title, &new.title), text, |_| allowed(""));
            if (kind, control) != (&new.kind, &new.control) {
                found.push(what.to_owned(), (old.words(), new.words()), untouched);
            }
            let millis = |ms: &u64| length(i64::try_from(*ms).unwrap_or(i64::MAX));
            found.field(format!("{what}.timeout"), (timeout_ms, &new.timeout_ms), millis, |_| allowed(""));
        },
    );
}

fn place(kind: &SwitchKind, control: &str) -> String {
    let place = match kind {
        SwitchKind::Parameter { name, secure: false } => format!("parameter {name}"),
        SwitchKind::Parameter { name, secure: true } => format!("secure parameter {name}"),
        SwitchKind::StageVariable { api, stage, variable } => format!("stage variable {api}/{stage}:{variable}"),
    };
    match other_control(control) {
        Some(name) => format!("{place} in {name}"),
        None => place,
    }
}

pub(super) fn freeze(found: &mut ChangeList<'_>, old: Option<&Freeze>, new: Option<&Freeze>) {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (None, None) => return,
        (Some(_), None) | (None, Some(_)) => {
            let there = |f: Option<&Freeze>| if f.is_some() { "there" } else { "not there" }.to_owned();
            return found.push("freeze".to_owned(), (there(old), there(new)), |_| refused(PLACES));
        }
    };
    let Freeze { switches, probes, settle_ms, timeout_ms } = old;
    let names = |all: &Vec<String>| all.join(", ");
    let millis = |ms: &u64| length(i64::try_from(*ms).unwrap_or(i64::MAX));
    let done = |phase: &Phase<'_>| as_long_as(!phase.freeze_done(), "", "writes are frozen already");
    found.field("freeze.switch", (switches, &new.switches), names, |_| refused(PLACES));
    found.field("freeze.probe", (probes, &new.probes), names, |phase| {
        as_long_as(!phase.freeze_begun(), "", "the freeze has begun: what it is seen by does not change under it")
    });
    found.field("freeze.settle", (settle_ms, &new.settle_ms), millis, done);
    found.field("freeze.timeout", (timeout_ms, &new.timeout_ms), millis, done);
}

pub(super) fn gates(found: &mut ChangeList<'_>, old: &[Gate], new: &[Gate]) {
    // What no step names decides nothing; what one names cannot be taken away without that step.
    found.list(
        "gates",
        (old, new),
        |g| &g.id,
        |_, _| allowed(""),
        |found, what, old, new| {
            let Gate { id, title, criteria, hold_ms, give_up_ms, on_fail } = old;
            let open = |effect: &'static str| {
                move |phase: &Phase<'_>| as_long_as(!phase.gate_over(id), effect, "every step it decides is done")
            };
            let anew = "its hold begins anew";
            let each = |all: &Vec<Criterion>| listed(&all.iter().map(criterion).collect::<Vec<_>>());
            found.field(format!("{what}.title"), (title, &new.title), text, open(""));
            found.field(format!("{what}.criteria"), (criteria, &new.criteria), each, open(anew));
            found.field(format!("{what}.hold"), (hold_ms, &new.hold_ms), |ms| length(*ms), open(anew));
            let give_up = |ms: &Option<i64>| option(ms.as_ref(), |ms| length(*ms));
            found.field(format!("{what}.give_up"), (give_up_ms, &new.give_up_ms), give_up, open(""));
            found.field(format!("{what}.on_fail"), (on_fail, &new.on_fail), on_fail_words, open(""));
        },
    );
}

fn criterion(c: &Criterion) -> String {
    c.words(|value| value.to_string())
}

fn on_fail_words(on_fail: &OnFail) -> String {
    match on_fail {
        OnFail::Hold => "hold",
        OnFail::RollBack => "roll_back",
        OnFail::StepBack => "step_back",
    }
    .to_owned()
}

pub(super) fn steps(found: &mut ChangeList<'_>, old: &[Step], new: &[Step]) {
    let member = |_: &Phase<'_>, member: Member<'_, Step>| {
        let what = match member {
            Member::Added(_) => "a step is not added to",
            Member::Gone(_) => "a step is not taken out of",
            Member::Order => "steps are not put in another order in",
        };
        refused(format!("{what} a run that is under way: open another run with `cutover run --new`"))
    };
    found.list("steps", (old, new), |s| &s.id, member, step);
}

fn step(found: &mut ChangeList<'_>, what: &str, old: &Step, new: &Step) {
    let Step { id, title, at_ms, takes_ms, owner, kind: _, start, confirm, two_person, undo } = old;
    let done = |phase: &Phase<'_>| as_long_as(!phase.step_done(id), "", DONE);
    let begun = |phase: &Phase<'_>| as_long_as(!phase.step_begun(id), "", BEGUN);
    found.field(format!("{what}.title"), (title, &new.title), text, done);
    found.field(format!("{what}.at"), (at_ms, &new.at_ms), |ms| planned(*ms), begun);
    found.field(format!("{what}.takes"), (takes_ms, &new.takes_ms), |ms| length(*ms), done);
    found.field(format!("{what}.owner"), (owner, &new.owner), text, done);
    kind(found, what, id, (&old.kind, &new.kind));
    found.field(format!("{what}.start"), (start, &new.start), start_words, begun);
    found.field(format!("{what}.confirm"), (confirm, &new.confirm), confirm_words, |phase| {
        if asks(&new.confirm) < asks(confirm) {
            return refused("what a step asks for before it starts is not lessened under a run");
        }
        begun(phase)
    });
    found.field(
        format!("{what}.two_person"),
        (two_person, &new.two_person),
        |b| on(*b),
        |phase| {
            if *two_person {
                return refused("one person does not take the second one's say away");
            }
            done(phase)
        },
    );
    found.field(format!("{what}.undo"), (undo, &new.undo), text, done);
}

/// What a step does. Exhaustive over the kinds of the plan that stands.
fn kind(found: &mut ChangeList<'_>, what: &str, id: &str, (old, new): (&StepKind, &StepKind)) {
    let done = |phase: &Phase<'_>| as_long_as(!phase.step_done(id), "", DONE);
    match (old, new) {
        (StepKind::CatchUp { max_lag_ms: old }, StepKind::CatchUp { max_lag_ms: new }) => {
            found.field(format!("{what}.max_lag"), (old, new), |ms| length(*ms), done);
        }
        (StepKind::Switch { switches, to }, StepKind::Switch { switches: new, to: new_to }) => {
            found.field(format!("{what}.switches"), (switches, new), |all| listed(all), |_| refused(PLACES));
            let each = |to: &BTreeMap<String, String>| {
                listed(&to.iter().map(|(dial, position)| format!("{dial} {position}")).collect::<Vec<_>>())
            };
            found.field(format!("{what}.to"), (to, new_to), each, |_| refused(PLACES));
        }
        (
            StepKind::Baseline { signals, samples, warm_up },
            StepKind::Baseline { signals: new_signals, samples: new_samples, warm_up: new_warm_up },
        ) => {
            found.field(format!("{what}.signals"), (signals, new_signals), |all| listed(all), done);
            found.field(format!("{what}.samples"), (samples, new_samples), ToString::to_string, done);
            found.field(format!("{what}.warm_up"), (warm_up, new_warm_up), ToString::to_string, done);
        }
        (StepKind::Smoke { probes: old }, StepKind::Smoke { probes: new }) => {
            found.field(format!("{what}.probes"), (old, new), |all| listed(all), done);
        }
        (StepKind::Gate { gate: old }, StepKind::Gate { gate: new }) => {
            found.field(format!("{what}.gate"), (old, new), Clone::clone, done);
        }
        (
            StepKind::GoNoGo { gates, voters, quorum },
            StepKind::GoNoGo { gates: new_gates, voters: new_voters, quorum: new_quorum },
        ) => {
            found.field(format!("{what}.gates"), (gates, new_gates), |all| listed(all), |phase| {
                if gates.iter().all(|gate| new_gates.contains(gate)) {
                    return done(phase);
                }
                refused("a gate is not taken out of a decision under a run: its limits may change, and everybody votes anew")
            });
            found.field(
                format!("{what}.voters"),
                (voters, new_voters),
                |all| listed(all),
                |phase| {
                    let stays = |voter: &String| new_voters.iter().any(|other| same_person(voter, other));
                    if voters.iter().all(stays) {
                        return done(phase);
                    }
                    refused("nobody's vote is taken away under a run: add whoever stands in for them")
                },
            );
            found.field(format!("{what}.quorum"), (quorum, new_quorum), ToString::to_string, |phase| {
                if new_quorum > quorum { done(phase) } else { refused("fewer votes are not made enough under a run") }
            });
        }
        (StepKind::Jobs { purpose, jobs }, StepKind::Jobs { purpose: same, jobs: new }) if purpose == same => {
            found.field(
                format!("{what}.jobs"),
                (jobs, new),
                |all| listed(all),
                |phase| as_long_as(!phase.step_begun(id), "", BEGUN),
            );
        }
        (StepKind::Manual { what: old }, StepKind::Manual { what: new }) => {
            found.field(format!("{what}.what"), (old, new), text, done);
        }
        (
            StepKind::Preflight
            | StepKind::SetUp
            | StepKind::Capture
            | StepKind::Load
            | StepKind::CatchUp { .. }
            | StepKind::Baseline { .. }
            | StepKind::Verify
            | StepKind::Arm
            | StepKind::Freeze
            | StepKind::Drain
            | StepKind::Switch { .. }
            | StepKind::Smoke { .. }
            | StepKind::Thaw
            | StepKind::Gate { .. }
            | StepKind::GoNoGo { .. }
            | StepKind::Jobs { .. }
            | StepKind::Manual { .. },
            new,
        ) => {
            let names = (old.name().to_owned(), new.name().to_owned());
            let why = "what a step does is not changed under a run: open another run with `cutover run --new`";
            found.field(format!("{what}.kind"), (&names.0, &names.1), Clone::clone, |_| -> AmendDecision {
                refused(why)
            });
        }
    }
}

fn start_words(start: &Start) -> String {
    match start {
        Start::WhenReady => "when_ready",
        Start::AtPlanned => "at_planned",
    }
    .to_owned()
}

/// How much a step asks of the person who drives.
const fn asks(confirm: &Confirm) -> u8 {
    match confirm {
        Confirm::None => 0,
        Confirm::Key => 1,
        Confirm::Word(_) => 2,
    }
}

fn confirm_words(confirm: &Confirm) -> String {
    match confirm {
        Confirm::None => "nothing".to_owned(),
        Confirm::Key => "a key".to_owned(),
        Confirm::Word(word) => format!("the word {word}"),
    }
}
