//! What a rollback would do now: its actions, its price, what it would apply and lose, and what stands in its way.

use serde::{Deserialize, Serialize};

use super::Health;
use super::build::Context;
use super::rollback::{REVERSE_LASTS_MS, seconds_to_carry};
use super::words::{age, human};
use crate::domain::at::At;
use crate::domain::gauge::Readiness;
use crate::domain::run::{RestoreAction, RollbackPlan, RunStatus, SwitchStatus};

/// The rollback as it is now. Working it out changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WhatIf {
    /// Waves, one after the other; the actions of a wave run together.
    pub waves: Vec<Vec<RestoreRow>>,
    /// Time to read every place once, measured, and when; absent until it was measured.
    pub read: Option<(i64, At)>,
    /// What it would take, in words.
    pub cost: String,
    /// What would be applied to the old side.
    pub carried: Vec<String>,
    /// What would stay behind or is not known.
    pub lost: Vec<String>,
    /// What stands in the way; empty means it can begin at once.
    pub blocks: Vec<String>,
    /// Its state on the whole.
    pub health: Health,
}

/// One action of the rollback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRow {
    /// Switch id.
    pub switch: String,
    /// Where it is.
    pub place: String,
    /// How it stands now.
    pub standing: SwitchStatus,
    /// What it is restored to: the captured value, stars, or what to do by hand.
    pub to: String,
    /// The captured version.
    pub version: Option<i64>,
    /// Whether this lets customers write on the old side again.
    pub thaw: bool,
}

impl WhatIf {
    /// The whole of it for people, line by line: a label, which may be empty, and what it says. `wall` is the time now.
    #[must_use]
    pub fn lines(&self, wall: At) -> Vec<(String, String)> {
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut say = |label: &str, text: String| lines.push((label.to_owned(), text));
        for (n, wave) in self.waves.iter().enumerate() {
            let what = if wave.iter().all(|u| u.thaw) { "allow writes on the old side again" } else { "put back" };
            let together = if wave.len() > 1 { ", all at once," } else { "" };
            say(&format!("{}.", n + 1), format!("{what}{together} and read back"));
            for undo in wave {
                let version = undo.version.map(|v| format!(" (version {v})")).unwrap_or_default();
                let now = if undo.standing == SwitchStatus::Unknown { ", stands on ? now" } else { "" };
                say("", format!("{}: {} -> {}{version}{now}", undo.switch, undo.place, undo.to));
            }
        }
        if self.waves.is_empty() {
            say("", "nothing to undo: no switch stands on the new value".to_owned());
        }
        let read = match self.read {
            Some((ms, at)) => format!("; every place read in {ms} ms, {} ago", age(wall.since(at))),
            None => "; the places were never read".to_owned(),
        };
        say("cost", format!("{}{read}", self.cost));
        let unhindered = ["by nothing: it waits for no disk, no lease and no second person".to_owned()];
        let blocks = if self.blocks.is_empty() { &unhindered[..] } else { &self.blocks };
        for (label, all) in [("carries", &self.carried[..]), ("loses", &self.lost), ("blocked", blocks)] {
            for (i, text) in all.iter().enumerate() {
                say(if i == 0 { label } else { "" }, text.clone());
            }
        }
        lines
    }
}

pub(super) fn what_if(
    cx: &Context<'_>,
    way: &RollbackPlan,
    at_risk: Option<u64>,
    estimate_ms: Option<i64>,
    health: Health,
) -> WhatIf {
    let waves = way.waves.iter().map(|w| w.iter().map(|a| undo(cx, a)).collect()).collect();
    let (read, mut blocks) = match &cx.measured.rollback {
        Readiness::Armed { read_ms, at } => (Some((*read_ms, *at)), Vec::new()),
        Readiness::NotReady { why } if !way.is_empty() => (None, vec![format!("not ready: {why}")]),
        Readiness::Unknown if !way.is_empty() => (None, vec!["nobody knows whether the places can be read".to_owned()]),
        _ => (None, Vec::new()),
    };
    for action in way.actions().filter(|a| !a.captured) {
        blocks.push(format!("{} was never captured: put it back by hand", action.switch));
    }
    blocks.extend(super::rollback::why_not_carried(cx));
    match cx.state.status {
        RunStatus::RollingBack => blocks.push("it is under way already".to_owned()),
        RunStatus::RolledBack => blocks.push("it is done already".to_owned()),
        RunStatus::Finished => {
            let run = &cx.state.run;
            blocks.push(format!("the run is finished: only `cutover rollback {run} --finished` takes it back"));
        }
        _ => {}
    }
    let cost = match (way.is_empty(), estimate_ms) {
        (true, _) if cx.state.status == RunStatus::RolledBack => "none: every switch is back".to_owned(),
        (true, _) if cx.state.open_to_customers(cx.plan) => {
            "?, until what waits is carried; no switch is left to put back".to_owned()
        }
        (true, _) => "no time: workers stop, and customers notice nothing".to_owned(),
        (false, Some(ms)) if carries(cx) && cx.measured.outbox.as_ref().is_some_and(|outbox| outbox.rows.is_none()) => {
            format!("{} until customers are back, then ?: nobody knows how much waits to be carried", seconds(ms))
        }
        (false, Some(ms)) if carries(cx) => {
            let reverse = &cx.measured.reverse;
            let carry = seconds_to_carry(reverse.waiting(), reverse.rate) + cx.plan.reverse.settle_ms.div_ceil(1_000);
            format!("{} until customers are back, then about {carry}s to carry what waits", seconds(ms))
        }
        (false, Some(ms)) => seconds(ms),
        (false, None) => "?".to_owned(),
    };
    let (carried, lost) =
        if cx.state.status == RunStatus::RolledBack { was_carried(cx) } else { carried_and_lost(cx, at_risk) };
    WhatIf { waves, read, cost, carried, lost, blocks, health }
}

fn undo(cx: &Context<'_>, action: &RestoreAction) -> RestoreRow {
    let to = match (&action.value, action.captured) {
        (Some(value), _) => value.clone(),
        (None, true) => "***".to_owned(),
        (None, false) => "? by hand".to_owned(),
    };
    RestoreRow {
        switch: action.switch.clone(),
        place: cx.plan.switch(&action.switch).map_or_else(|| "?".to_owned(), crate::domain::plan::Switch::place),
        standing: cx.state.switches.get(&action.switch).map_or(SwitchStatus::Old, |s| s.standing),
        to,
        version: action.version,
        thaw: action.thaw,
    }
}

/// Whether writes of the new side are being applied to the old side.
fn carries(cx: &Context<'_>) -> bool {
    cx.state.open_to_customers(cx.plan) && cx.measured.reverse.healthy(cx.measured.at, REVERSE_LASTS_MS)
}

/// In whole seconds, as the rest of the screen prices it: `under 1s`, `about 3s`.
fn seconds(ms: i64) -> String {
    if ms < 1_000 { "under 1s".to_owned() } else { format!("about {}s", (ms + 999) / 1000) }
}

/// What was written on the new side: what the rollback applies to the old side, and what it does not.
fn carried_and_lost(cx: &Context<'_>, at_risk: Option<u64>) -> (Vec<String>, Vec<String>) {
    let mut carried = Vec::new();
    if let Some(outbox) = &cx.measured.outbox {
        let old =
            outbox.oldest.map(|at| format!(", the oldest {} old", age(cx.measured.at.since(at)))).unwrap_or_default();
        carried.push(match outbox.rows {
            Some(0) => "nothing waits to be carried back".to_owned(),
            Some(rows) => format!("{} changes wait to be carried back{old}", human(rows)),
            None => "? changes wait to be carried back".to_owned(),
        });
    } else if cx.state.open_to_customers(cx.plan) && cx.plan.reverse.enabled {
        carried.push("? changes of the new side: nobody has counted what waits".to_owned());
    } else {
        carried.push("nothing: no changes of the new side are captured".to_owned());
    }
    let lost = match at_risk {
        Some(0) => "no write".to_owned(),
        Some(_) if carries(cx) => "no write".to_owned(),
        Some(n) => format!("{} writes made on the new side would stay behind", human(n)),
        None => "? writes made on the new side: nobody knows how many would stay behind".to_owned(),
    };
    (carried, vec![lost])
}

/// After a rollback: what it had applied by its own count. What reached the new side later, nobody counts.
fn was_carried(cx: &Context<'_>) -> (Vec<String>, Vec<String>) {
    if !cx.state.open_to_customers(cx.plan) {
        return (vec!["nothing: customers never were on the new side".to_owned()], vec!["no write".to_owned()]);
    }
    let counted = || cx.plan.tables.iter().map(|t| cx.state.reverse.get(&t.id));
    if counted().flatten().all(|t| t.carried.is_none()) {
        return carried_and_lost(cx, None);
    }
    let keys: u64 = counted().flatten().filter_map(|t| t.carried).sum();
    let left = counted().map(|t| t.and_then(|t| t.left)).sum::<Option<u64>>();
    let carried = vec![format!("{} keys were carried back", human(keys))];
    let lost = match left {
        Some(0) => "no write up to then".to_owned(),
        Some(n) => format!("{} writes of the new side stayed behind", human(n)),
        None => "? writes of the new side: nobody could count them".to_owned(),
    };
    let run = &cx.state.run;
    let later = format!("? writes that reached the new side since; `cutover rollback {run}` carries them too");
    (carried, vec![lost, later])
}
