//! The rollback and its price: whether it is possible, what it would do now, how long it takes and what it would lose.

use super::build::Context;
use super::what_if::what_if;
use super::words::{age, human, with_unit};
use super::{Deed, Health, Rollback};
use crate::domain::gauge::{Phase, Readiness, ReverseState};
use crate::domain::plan::StepKind;
use crate::domain::plan::Switch;
use crate::domain::run::{RollbackPlan, RunStatus, StepStatus, SwitchStatus, no_way_back, rollback_plan};

/// A proof of readiness older than this proves nothing, in milliseconds.
const PROOF_LASTS_MS: i64 = 120_000;

/// A reverse flow that was not seen to work for this long counts as down, in milliseconds.
pub(super) const REVERSE_LASTS_MS: i64 = 15_000;

pub(super) fn rollback(cx: &Context<'_>) -> Rollback {
    let way = rollback_plan(cx.plan, cx.state);
    let at_risk = at_risk(cx);
    let actions = actions(cx, &way);
    let estimate_ms = estimate(cx, &way);
    let found = cx.state.rollback.as_ref();
    let took_ms = found.map(|r| r.took_ms.unwrap_or_else(|| r.ended.unwrap_or(cx.now).since(r.ordered)));
    let took = took_ms.map_or_else(|| "?".to_owned(), |ms| with_unit(ms as f64 / 1000.0, "s"));
    let (health, text) = match cx.state.status {
        RunStatus::RollingBack => (Health::Watch, format!("RUNNING {took}")),
        RunStatus::RolledBack => (Health::Ok, format!("DONE {took}")),
        RunStatus::Stuck => (Health::Fail, "STUCK".to_owned()),
        RunStatus::Finished => (Health::Idle, "run ended".to_owned()),
        _ => ready(cx, &way, at_risk, estimate_ms),
    };
    let what_if = what_if(cx, &way, at_risk, estimate_ms, health);
    Rollback {
        what_if,
        health,
        text,
        actions,
        course: course(cx),
        estimate_ms,
        at_risk,
        carries: cx.measured.reverse.healthy(cx.measured.at, REVERSE_LASTS_MS),
        stuck: found.map(|r| r.stuck.clone()).unwrap_or_default(),
        took_ms,
        evidence: found.map(|r| r.evidence.clone()).unwrap_or_default(),
    }
}

/// Writes that would stay behind. Before anything was accepted on the new side that is none.
pub(super) fn at_risk(cx: &Context<'_>) -> Option<u64> {
    // No table of the plan is captured on the new side: how much customers wrote there is not known.
    if cx.plan.tables.is_empty() && cx.state.open_to_customers(cx.plan) {
        return None;
    }
    match cx.measured.at_risk {
        Some(n) => Some(n),
        None if cx.state.open_to_customers(cx.plan) => None,
        None => Some(0),
    }
}

/// Every switch is written and read back; waves run one after the other, actions within a wave together.
fn estimate(cx: &Context<'_>, way: &RollbackPlan) -> Option<i64> {
    match cx.measured.rollback {
        Readiness::Armed { read_ms, .. } => {
            let rounds = 2 * way.waves.iter().filter(|w| !w.is_empty()).count().max(1);
            Some(read_ms.saturating_mul(i64::try_from(rounds).unwrap_or(i64::MAX)))
        }
        _ => None,
    }
}

fn ready(cx: &Context<'_>, way: &RollbackPlan, at_risk: Option<u64>, estimate_ms: Option<i64>) -> (Health, String) {
    if no_way_back(cx.plan, cx.state).is_some() {
        return (Health::Idle, "NONE".to_owned());
    }
    let by_hand = way.actions().filter(|a| !a.captured).count();
    if by_hand > 0 {
        return (Health::Fail, format!("NOT READY: {by_hand} not captured"));
    }
    let armed_by_plan = cx.plan.steps.iter().find(|s| s.kind == StepKind::Arm);
    let arm_done = armed_by_plan.is_some_and(|s| cx.state.step(&s.id).is_some_and(|s| s.status == StepStatus::Done));
    match &cx.measured.rollback {
        Readiness::Armed { at, .. } => {
            let old = cx.measured.at.since(*at);
            if old > PROOF_LASTS_MS {
                return (Health::Unknown, format!("? last proven {} ago", age(old)));
            }
            let about = estimate_ms.map_or_else(|| "?".to_owned(), |ms| format!("~{}s", (ms + 999) / 1000));
            if cx.state.open_to_customers(cx.plan)
                && let Some((health, text)) = reverse(cx, at_risk)
            {
                return (health, text);
            }
            match at_risk {
                Some(0) => (Health::Ok, format!("READY {about} 0 at risk")),
                Some(n) => (Health::Warn, format!("READY {} writes stay behind", human(n))),
                None => (Health::Unknown, format!("READY {about} ? at risk")),
            }
        }
        // Nothing was changed: a rollback only stops the run, and needs no value.
        _ if way.is_empty() && !arm_done => (Health::Ok, "READY nothing to undo".to_owned()),
        Readiness::NotReady { why } => {
            (if way.is_empty() { Health::Warn } else { Health::Fail }, format!("NOT READY: {why}"))
        }
        Readiness::Unknown => (Health::Unknown, "?".to_owned()),
    }
}

/// What the reverse flow adds to the price; `None` while it has nothing to add.
fn reverse(cx: &Context<'_>, at_risk: Option<u64>) -> Option<(Health, String)> {
    let reverse = &cx.measured.reverse;
    let risk = at_risk.map_or_else(|| "?".to_owned(), human);
    match &reverse.state {
        ReverseState::Off => None,
        ReverseState::Running { at } if cx.measured.at.since(*at) <= REVERSE_LASTS_MS => {
            let unfit: u64 = reverse.tables.values().map(|t| t.unfit).sum();
            if unfit > 0 {
                return Some((Health::Warn, format!("READY {} cannot come back", human(unfit))));
            }
            // What waits is applied after the switches are restored; it costs time, and nothing is lost.
            let waits = reverse.waiting();
            let seconds = seconds_to_carry(waits, reverse.rate);
            (waits > 0).then(|| (Health::Ok, format!("READY ~{seconds}s {} to carry", human(waits))))
        }
        ReverseState::Running { at } | ReverseState::Down { since: at, .. } => {
            Some((Health::Fail, format!("REVERSE DOWN {}: {risk} at risk", age(cx.measured.at.since(*at)))))
        }
        ReverseState::Armed { .. } => Some((Health::Warn, format!("READY {risk} not carried yet"))),
        ReverseState::NotReady { .. } => Some((Health::Warn, format!("READY {risk} stay: no reverse"))),
    }
}

/// At the rate of the last seconds, never under one second.
pub(super) fn seconds_to_carry(waiting: u64, rate: f64) -> u64 {
    let rate = if rate >= 1.0 { rate } else { 50.0 };
    ((waiting as f64 / rate).ceil() as u64).max(1)
}

/// What an ordered rollback has done and is doing: switches by what was read back of them, then the writes.
fn course(cx: &Context<'_>) -> Vec<Deed> {
    let Some(ordered) = cx.state.rollback.as_ref().map(|r| r.ordered) else { return Vec::new() };
    let (thaw, traffic): (Vec<&Switch>, Vec<&Switch>) = cx.plan.switches.iter().partition(|s| cx.plan.freezes(&s.id));
    let mut deeds: Vec<Deed> = Vec::new();
    for switch in traffic.into_iter().chain(thaw) {
        let Some(found) = cx.state.switches.get(&switch.id) else { continue };
        let before = if cx.plan.freezes(&switch.id) { "allow writes: " } else { "" };
        let place = switch.place();
        let to = super::rows::switch_row(cx.plan, cx.state, switch).old;
        let deed = match (found.standing, found.read_at) {
            (SwitchStatus::Restored, Some(at)) if at >= ordered => Deed {
                text: format!("{before}{place} -> {to}, read back {}", at.clock_on(cx.now)),
                done: true,
                writes: false,
            },
            // Nothing had to be done: it stood there when the order came.
            (SwitchStatus::Old | SwitchStatus::Restored, _) => continue,
            (SwitchStatus::New | SwitchStatus::Unknown, _) if !found.captured => {
                Deed { text: format!("BY HAND: {place} was never captured"), ..Deed::default() }
            }
            (SwitchStatus::New | SwitchStatus::Unknown, _) => {
                Deed { text: format!("{before}{place} -> {to}, not read back yet"), ..Deed::default() }
            }
        };
        deeds.push(deed);
    }
    if deeds.is_empty() {
        deeds.push(Deed { text: "no switch was left to put back".to_owned(), done: true, writes: false });
    }
    deeds.extend(writes(cx));
    deeds
}

/// How far the writes of the new side are applied to the old side; `None` where nobody may have written there or
/// nothing applies them.
fn writes(cx: &Context<'_>) -> Option<Deed> {
    let reverse = &cx.measured.reverse;
    let counted = |id: &str| cx.state.reverse.get(id).filter(|t| t.carried.is_some());
    let any = cx.plan.tables.iter().any(|t| counted(&t.id).is_some());
    let carries = !matches!(reverse.state, ReverseState::Off | ReverseState::NotReady { .. });
    if !cx.state.open_to_customers(cx.plan) || !(any || carries) {
        return None;
    }
    let fresh = cx.measured.at.since(reverse.at) <= REVERSE_LASTS_MS;
    let (mut carried, mut left, mut all) = (0, Some(0), true);
    for table in &cx.plan.tables {
        if let Some(t) = counted(&table.id) {
            carried += t.carried.unwrap_or(0);
            left = left.zip(t.left).map(|(a, b)| a + b);
        } else {
            // Until the rollback has counted, what was last measured says how far it is, and only while it is fresh.
            let gauge = reverse.tables.get(&table.id);
            carried += gauge.map_or(0, |g| g.carried);
            left = left.zip(gauge.filter(|_| fresh).map(|g| g.waiting)).map(|(a, b)| a + b);
            all = false;
        }
    }
    let rest = left.map_or_else(|| "?".to_owned(), human);
    let (text, done) = match (all, left) {
        (true, Some(0)) => (format!("writes of the new side: {} keys carried back, none left", human(carried)), true),
        (true, _) => (format!("writes of the new side: {} keys carried back, {rest} LEFT", human(carried)), false),
        (false, _) => (format!("writes of the new side: {} keys carried back, {rest} wait", human(carried)), false),
    };
    Some(Deed { text, done, writes: true })
}

/// Why nothing applies the writes of the new side to the old side, once customers may write there.
pub(super) fn why_not_carried(cx: &Context<'_>) -> Option<String> {
    match &cx.measured.reverse.state {
        ReverseState::Down { why, .. } if cx.state.open_to_customers(cx.plan) => {
            Some(format!("the reverse flow is down: {why}"))
        }
        _ => None,
    }
}

fn actions(cx: &Context<'_>, way: &RollbackPlan) -> Vec<String> {
    let mut list = Vec::new();
    let busy = cx.plan.tables.iter().filter_map(|t| cx.measured.tables.get(&t.id)).any(|g| {
        matches!(g.phase, Phase::Loading | Phase::Following | Phase::Verifying | Phase::Retrying | Phase::Paused)
    });
    if busy {
        list.push("stop the workers that copy and follow".to_owned());
    }
    for place in way.freeze.iter().filter_map(|id| cx.plan.switch(id)) {
        let to = place.to_label();
        list.push(format!("refuse writes until applications are restarted: {} -> {to}", place.place()));
    }
    for action in way.actions() {
        let place = cx.plan.switch(&action.switch).map_or_else(|| action.switch.clone(), |s| s.place());
        let version = action.version.map(|v| format!(" (version {v})")).unwrap_or_default();
        let value = action.value.as_deref().unwrap_or("***");
        list.push(match (action.captured, action.thaw) {
            (false, _) => format!("BY HAND: {place} was never captured"),
            (true, true) => format!("then allow writes: {place} -> {value}{version}"),
            (true, false) => format!("{place} -> {value}{version}"),
        });
    }
    list.extend(super::jobs::on_the_way_back(cx.plan, &way.jobs));
    if way.is_empty() {
        list.push("nothing to undo: no switch has moved".to_owned());
    } else {
        list.push("read every switch back".to_owned());
        if cx.state.open_to_customers(cx.plan)
            && !matches!(cx.measured.reverse.state, ReverseState::Off | ReverseState::NotReady { .. })
        {
            list.push(format!("carry {} writes of the new side back", human(cx.measured.reverse.waiting())));
        }
    }
    list.extend(why_not_carried(cx));
    list
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{T0, plan};
    use super::super::tests::built;
    use crate::domain::gauge::{Measured, Readiness, Reverse, ReverseState};
    use crate::domain::run::{RunState, SwitchState, SwitchStatus};

    #[test]
    fn why_the_reverse_flow_is_down_stands_beside_what_a_rollback_would_do() {
        let plan = plan();
        let mut state = RunState { t0: T0, ..RunState::default() };
        let new = SwitchState { captured: true, standing: SwitchStatus::New, ..SwitchState::default() };
        state.switches.insert("writes".into(), new);
        let why = "read changes from orders: permission denied".to_owned();
        let down = Reverse { state: ReverseState::Down { since: T0, why }, at: T0, ..Reverse::default() };
        let armed = Readiness::Armed { read_ms: 100, at: T0 };
        let m = Measured { at: T0, rollback: armed, reverse: down, ..Measured::default() };
        let said = |state: &RunState| {
            let back = built(&plan, state, &m, &[]).rollback;
            let named = |lines: &[String]| lines.iter().any(|l| l.contains("permission denied"));
            (named(&back.actions), named(&back.what_if.blocks))
        };
        assert_eq!(said(&state), (false, false), "no customer has written on the new side yet");
        state.decided = Some(T0);
        (state.downtime.refused, state.downtime.accepted) = (Some(T0), Some(T0));
        assert_eq!(said(&state), (true, true));
    }
}
