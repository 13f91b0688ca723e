//! Gates and go/no-go steps as they stand now, with value, age and query of every criterion.

use super::StepRow;
use super::build::Context;
use super::words::{bar, limit, minutes, with_unit};
use crate::domain::at::At;
use crate::domain::gauge::source_words;
use crate::domain::plan::{Gate, Signal, Step, StepKind};
use crate::domain::run::compare;
use crate::domain::run::{Evidence, StepStatus, tally, vote_evidence};

/// Cells of the bar of a gate that holds.
const HOLD_BAR: usize = 10;

/// The criteria of one gate.
struct Criteria {
    evidence: Vec<Evidence>,
    holding: usize,
    /// The first criterion that does not hold, in short.
    first_bad: Option<String>,
}

impl Criteria {
    fn met(&self) -> bool {
        !self.evidence.is_empty() && self.holding == self.evidence.len()
    }
}

fn signal<'a>(cx: &'a Context<'_>, id: &str) -> Option<&'a Signal> {
    cx.plan.signals.iter().find(|s| s.id == id)
}

/// Judges every criterion of a gate now.
fn criteria(cx: &Context<'_>, gate: &Gate) -> Criteria {
    let mut found = Criteria { evidence: Vec::new(), holding: 0, first_bad: None };
    for c in &gate.criteria {
        let Some(s) = signal(cx, &c.signal) else {
            found.first_bad.get_or_insert_with(|| format!("{} ?", c.signal));
            found.evidence.push(Evidence {
                name: c.signal.clone(),
                value: "?".to_owned(),
                at: At::default(),
                source: "no such signal in the plan".to_owned(),
                good: false,
            });
            continue;
        };
        let compared = compare(cx.plan, cx.state, cx.measured, s, c);
        if compared.good {
            found.holding += 1;
        } else {
            let short = compared.fresh.map_or_else(|| "?".to_owned(), |v| with_unit(v, &s.unit));
            found.first_bad.get_or_insert_with(|| format!("{} {short}", c.signal));
        }
        found.evidence.push(Evidence {
            name: c.words(|v| limit(v, &s.unit)),
            value: compared.words(c, |v| with_unit(v, &s.unit)),
            at: compared.reading.at,
            source: source_words(cx.plan, s),
            good: compared.good,
        });
    }
    found
}

/// How long a gate has held, if it does and has to.
fn held(cx: &Context<'_>, gate: &Gate) -> Option<i64> {
    let state = cx.state.gates.get(&gate.id).filter(|g| g.met_since.is_some() && gate.hold_ms > 0)?;
    Some(state.held(cx.now).clamp(0, gate.hold_ms))
}

/// Time a gate keeps from before a restart, and time nobody watched.
fn kept(cx: &Context<'_>, gate: &Gate) -> Option<Evidence> {
    let state = cx.state.gates.get(&gate.id)?;
    let waits = state.met_since.is_none() && state.held_ms > 0;
    let value = match (waits, state.unwatched_ms) {
        (true, _) => format!("{} kept; waits for fresh evidence", minutes(state.held_ms)),
        (false, 0) => return None,
        (false, ms) => format!("{} do not count: nobody watched", minutes(ms)),
    };
    Some(Evidence {
        name: "hold".to_owned(),
        value,
        at: cx.measured.at,
        source: "facts gate_held and gate_met".to_owned(),
        good: !waits,
    })
}

/// Fills the row of a gate. While a switch that comes before it is not set, what is measured is the old side: the row
/// says nothing yet.
pub(super) fn gate_live(cx: &Context<'_>, gate: &Gate, current: bool, ahead: bool, row: &mut StepRow) {
    let found = criteria(cx, gate);
    let all = gate.criteria.len();
    let now = match (all, found.evidence.first()) {
        (1, Some(only)) => format!("now {}", only.value.split(' ').next().unwrap_or("?")),
        _ => match &found.first_bad {
            None => format!("{} of {all}", found.holding),
            Some(bad) => format!("{} of {all}, {bad}", found.holding),
        },
    };
    let met = found.met();
    row.detail = match held(cx, gate).filter(|_| current && met) {
        Some(held) => {
            let (done, hold) = (held.unsigned_abs(), gate.hold_ms.unsigned_abs());
            row.progress = Some((done, hold));
            row.eta = Some(cx.now.plus(gate.hold_ms - held));
            format!("{now:<10} held {}   {}", minutes(held), bar(done, hold, HOLD_BAR))
        }
        _ if met && ahead => format!("{now:<10} before the switch"),
        _ if met => format!("{now:<10} holds"),
        _ => format!("{now:<10} BLOCKING"),
    };
    row.evidence = found.evidence;
    row.evidence.extend(kept(cx, gate).filter(|_| current));
}

/// Fills the row of a go/no-go step.
pub(super) fn go_no_go_live(cx: &Context<'_>, step: &Step, current: bool, row: &mut StepRow) {
    let StepKind::GoNoGo { gates, voters, .. } = &step.kind else { return };
    let mut blocks = None;
    for id in gates {
        let Some(gate) = cx.plan.gate(id) else {
            blocks.get_or_insert_with(|| format!("no gate {id}"));
            continue;
        };
        let found = criteria(cx, gate);
        let held = held(cx, gate);
        // What is not running yet has nothing to hold.
        let held_enough = gate.hold_ms == 0 || row.status != StepStatus::Running || held == Some(gate.hold_ms);
        let done = found.met() && held_enough;
        let text = match (&found.first_bad, held) {
            (Some(bad), _) => bad.clone(),
            (None, Some(held)) => format!("held {} of {}", minutes(held), minutes(gate.hold_ms)),
            (None, None) => "holds".to_owned(),
        };
        if !done {
            blocks.get_or_insert_with(|| format!("{id}: {text}"));
        }
        if current {
            row.lines.push(format!("{} {id:<14} {text}", if done { "v" } else { "!" }));
        }
        row.evidence.extend(found.evidence);
        row.evidence.extend(kept(cx, gate).filter(|_| current));
    }
    let tally = tally(cx.plan, cx.state, &step.id);
    row.evidence.extend(vote_evidence(&tally, cx.measured.at));
    let votes = format!("{} of {} votes", tally.go.len(), tally.quorum);
    row.detail = match (tally.no_go.first(), &blocks) {
        (Some(no), _) => format!("NO-GO by {}  BLOCKING", no.by.name()),
        (None, Some(what)) => format!("{what}  BLOCKING"),
        (None, None) if !tally.is_go() && row.status == StepStatus::Running => format!("{votes}  BLOCKING"),
        (None, None) if voters.is_empty() => "criteria hold".to_owned(),
        (None, None) => votes,
    };
    if !current || row.status != StepStatus::Running {
        return;
    }
    for b in tally.no_go.iter().chain(&tally.go) {
        let note = b.note.as_ref().map(|n| format!(": {n}")).unwrap_or_default();
        row.lines.push(format!("{:<16} {}{note}", b.by.name(), b.vote.name().to_uppercase()));
    }
    for voter in &tally.missing {
        let lapsed = tally.lapsed.iter().any(|b| crate::domain::run::same_person(b.by.name(), voter));
        let why = if lapsed { "again, the evidence changed: " } else { "" };
        row.lines.push(format!("{voter:<16} {why}cutover vote {} {} go --as {voter}", cx.state.run, step.id));
    }
}
