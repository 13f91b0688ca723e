//! Switches, the freeze, gates and steps.

use std::path::Path;

use crate::config::connections::resolve;
use crate::config::error::Sink;
use crate::config::keys;
use crate::config::section::Section;
use crate::config::words;
use crate::domain::plan::{
    CONTROL, Criterion, Freeze, Gate, OnFail, Op, Purpose, Start, Step, StepKind, Switch, SwitchKind, ValueRef,
    control_called,
};

/// A switch without positions.
pub(super) fn switch(s: &Section<'_>, base: &Path, sink: &mut Sink<'_>) -> Switch {
    let id = s.must("id");
    Switch {
        title: s.text("title").unwrap_or_else(|| id.clone()),
        kind: place_kind(s, &id, sink),
        control: s.text("control").map_or_else(|| CONTROL.to_owned(), |name| control_called(&name)),
        expect: s.text("expect"),
        to: resolve(s.value_ref("to"), base).unwrap_or_else(|| ValueRef::Literal(String::new())),
        exercise: s.flag_or("exercise", true),
        id,
    }
}

/// Where a switch's value is kept.
pub(super) fn place_kind(s: &Section<'_>, id: &str, sink: &mut Sink<'_>) -> SwitchKind {
    if s.has("stage_variable") {
        for other in ["parameter", "secure"] {
            if s.has(other) {
                let message = format!("`{other}` and `stage_variable` exclude each other");
                sink.error(s.offset_of(other), &s.path_of(other), message);
            }
        }
        let v = s.table("stage_variable", keys::STAGE_VARIABLE);
        return SwitchKind::StageVariable { api: v.must("api"), stage: v.must("stage"), variable: v.must("variable") };
    }
    if !s.has("parameter") {
        let message = format!("switch `{id}` is nowhere: give it `parameter` or `stage_variable`");
        sink.error(s.offset_of("parameter"), &s.path_of("parameter"), message);
    }
    SwitchKind::Parameter { name: s.must("parameter"), secure: s.flag("secure") }
}

pub(super) fn freeze(s: &Section<'_>) -> Freeze {
    Freeze {
        switches: s.one_or_more("switch"),
        probes: s.one_or_more("probe"),
        settle_ms: s.millis("settle", 3_000),
        timeout_ms: s.millis("timeout", 60_000),
    }
}

pub(super) fn gate(s: &Section<'_>, sink: &mut Sink<'_>) -> Gate {
    let id = s.must("id");
    let texts = s.texts("criteria");
    let criteria = texts.iter().enumerate().map(|(n, text)| {
        words::criterion(text).unwrap_or_else(|| {
            let path = format!("{}[{n}]", s.path_of("criteria"));
            if !sink.reported(&path) {
                let message = format!("`{text}` is not a comparison; write `lag < 2` with one of <, <=, =, >=, >, or `read-p95 <= baseline + 20%`");
                sink.error(s.offset_of_item("criteria", n), &path, message);
            }
            Criterion::with("", Op::Equals, 0.0)
        })
    });
    Gate {
        criteria: criteria.collect(),
        title: s.text("title").unwrap_or_else(|| id.clone()),
        hold_ms: s.duration("hold").unwrap_or(0),
        give_up_ms: s.duration("give_up"),
        on_fail: match s.text("on_fail").as_deref() {
            Some("roll_back") => OnFail::RollBack,
            Some("step_back") => OnFail::StepBack,
            _ => OnFail::Hold,
        },
        id,
    }
}

/// Keys that belong to one kind of step only, and whether that kind needs them.
const OF_KIND: [(&str, &str, bool); 12] = [
    ("max_lag", "catch_up", false),
    ("switches", "switch", false),
    ("to", "switch", false),
    ("signals", "baseline", true),
    ("samples", "baseline", false),
    ("warm_up", "baseline", false),
    ("probes", "smoke", true),
    ("gate", "gate", true),
    ("gates", "go-no-go", false),
    ("voters", "go-no-go", false),
    ("quorum", "go-no-go", false),
    ("what", "manual", true),
];

/// Kinds of steps that begin jobs.
const PURPOSES: [&str; 4] =
    [Purpose::Restart.word(), Purpose::Backup.word(), Purpose::Command.word(), Purpose::Cleanup.word()];

/// Compiles the runbook. A step whose time does not read stands where the step before it does, so that one
/// mistake is not reported again as a wrong order.
pub(super) fn steps(sections: &[Section<'_>], plan_name: &str, sink: &mut Sink<'_>) -> Vec<Step> {
    let mut at_ms = None;
    let mut steps: Vec<Step> = Vec::with_capacity(sections.len());
    for s in sections {
        let step = step(s, plan_name, at_ms, sink);
        at_ms = Some(step.at_ms);
        steps.push(step);
    }
    // Steps before the first time that reads.
    if let Some(first) = sections.iter().position(|s| s.offset("at").is_some()) {
        let at_ms = steps[first].at_ms;
        steps[..first].iter_mut().for_each(|s| s.at_ms = at_ms);
    }
    steps
}

fn step(s: &Section<'_>, plan_name: &str, before_ms: Option<i64>, sink: &mut Sink<'_>) -> Step {
    let id = s.must("id");
    let name = s.must("kind");
    if StepKind::NAMES.contains(&name.as_str()) {
        for (key, kind, needed) in OF_KIND {
            if s.has(key) && name != kind {
                let message = format!("`{key}` is for steps of kind `{kind}`; this one is `{name}`");
                sink.error(s.offset_of(key), &s.path_of(key), message);
            } else if needed && name == kind && !s.has(key) {
                let message = format!("missing `{key}`: a step of kind `{kind}` needs it");
                sink.error(s.offset_of(key), &s.path_of(key), message);
            }
        }
        let of_jobs = PURPOSES.contains(&name.as_str());
        if s.has("jobs") && !of_jobs {
            let message = format!("`jobs` is for steps of kind {}; this one is `{name}`", PURPOSES.join(", "));
            sink.error(s.offset_of("jobs"), &s.path_of("jobs"), message);
        } else if of_jobs && !s.has("jobs") {
            let message = format!("missing `jobs`: a step of kind `{name}` needs it");
            sink.error(s.offset_of("jobs"), &s.path_of("jobs"), message);
        }
        if name == "switch" && !s.has("switches") && !s.has("to") {
            let message = "missing `switches`: a step of kind `switch` needs it, or `to`";
            sink.error(s.offset_of("switches"), &s.path_of("switches"), message);
        }
    }
    let kind = match name.as_str() {
        "preflight" => StepKind::Preflight,
        "set_up" => StepKind::SetUp,
        "capture" => StepKind::Capture,
        "load" => StepKind::Load,
        "catch_up" => StepKind::CatchUp { max_lag_ms: s.duration("max_lag").unwrap_or(2_000) },
        "baseline" => StepKind::Baseline {
            signals: s.texts("signals"),
            samples: s.count("samples", 100),
            warm_up: s.count("warm_up", 10),
        },
        "verify" => StepKind::Verify,
        "arm" => StepKind::Arm,
        "freeze" => StepKind::Freeze,
        "drain" => StepKind::Drain,
        "switch" => StepKind::Switch { switches: s.texts("switches"), to: s.pairs("to").into_iter().collect() },
        "smoke" => StepKind::Smoke { probes: s.texts("probes") },
        "thaw" => StepKind::Thaw,
        "go-no-go" => {
            let voters = s.texts("voters");
            let all = u32::try_from(voters.len()).unwrap_or(u32::MAX);
            StepKind::GoNoGo { gates: s.texts("gates"), voters, quorum: s.count("quorum", all) }
        }
        "gate" => StepKind::Gate { gate: s.must("gate") },
        "restart" => StepKind::Jobs { purpose: Purpose::Restart, jobs: s.texts("jobs") },
        "backup" => StepKind::Jobs { purpose: Purpose::Backup, jobs: s.texts("jobs") },
        "command" => StepKind::Jobs { purpose: Purpose::Command, jobs: s.texts("jobs") },
        "cleanup" => StepKind::Jobs { purpose: Purpose::Cleanup, jobs: s.texts("jobs") },
        _ => StepKind::Manual { what: s.must("what") },
    };
    Step {
        title: s.text("title").unwrap_or_else(|| id.clone()),
        at_ms: s.offset("at").or(before_ms).unwrap_or(0),
        takes_ms: s.duration("takes").unwrap_or(0),
        owner: s.must("owner"),
        undo: s.text("undo").unwrap_or_else(|| undo(&kind).to_owned()),
        start: match s.text("start").as_deref() {
            Some("at_planned") => Start::AtPlanned,
            _ => Start::WhenReady,
        },
        confirm: s.confirm("confirm", plan_name),
        two_person: s.flag("two_person"),
        kind,
        id,
    }
}

/// What rollback does for a kind of step, when the file does not say it in its own words.
const fn undo(kind: &StepKind) -> &'static str {
    match kind {
        StepKind::Freeze => "set the freeze switch back to its captured value",
        StepKind::Switch { .. } => "set every switch back to its captured value and read it back",
        StepKind::Thaw => "switches back, then writes on the old side again",
        StepKind::Jobs { purpose: Purpose::Restart, .. } => "restarted again, once the switches are back",
        StepKind::Jobs { purpose: Purpose::Backup, .. } => "kept: delete it by hand when nobody needs it",
        StepKind::Jobs { purpose: Purpose::Command, .. } => "each job's `undo` is run, if it has one",
        StepKind::Jobs { purpose: Purpose::Cleanup, .. } => "not at all: nothing leads back from here",
        StepKind::Preflight
        | StepKind::SetUp
        | StepKind::Capture
        | StepKind::Load
        | StepKind::CatchUp { .. }
        | StepKind::Baseline { .. }
        | StepKind::Verify
        | StepKind::Arm
        | StepKind::Drain
        | StepKind::Smoke { .. }
        | StepKind::Gate { .. }
        | StepKind::GoNoGo { .. }
        | StepKind::Manual { .. } => "",
    }
}
