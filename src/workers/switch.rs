//! Setting switches: intent, effect, read-back (FEATURES C1, C2).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::context::WorkerContext;
use super::trouble::{evidence, not_recorded, step_error, world};
use crate::domain::plan::{Moves, Plan, Step, StepKind, Switch, Switching, ValueRef};
use crate::domain::run::{Action, Attributes, Event, Evidence, OutcomeResult, RunState, Stands, StepError};
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, PortResult, SwitchValue};

/// Longest a change may be on the wire.
const ON_THE_WIRE: Duration = Duration::from_secs(8);
/// How often a value is read back before it counts as not set: the store may answer from an older copy.
pub(super) const READ_BACKS: u32 = 10;

/// One place that is to be set.
pub(super) struct Set<'s> {
    /// The place.
    pub switch: &'s Switch,
    /// What it goes to.
    pub value: Secret,
    /// What is recorded before and after it.
    pub action: Action,
    /// Whether the value may be recorded: one that came by reference never is.
    pub shown: bool,
    /// What it must hold unless it holds the new value already; nothing is asked where this is absent.
    pub from: Option<Secret>,
}

impl<'s> Set<'s> {
    /// Puts back what was captured.
    pub fn back(switch: &'s Switch, value: Secret, version: Option<i64>) -> Self {
        let action = Action::RestoreSwitch { switch: switch.id.clone(), version };
        Self { switch, value, action, shown: !switch.secret(), from: None }
    }
}

/// Sets every place of a step at the same time, once the value of each is known; one failure fails the step after all have
/// ended. In a freeze none is set unless it still stands: what customers wrote on the old side since would stay there.
pub async fn perform(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    state: &RunState,
) -> Result<Vec<Evidence>, StepError> {
    let mut found = if state.frozen(&ctx.plan) { super::freeze::still_frozen(ctx, state).await? } else { Vec::new() };
    let mut changes = ctx.plan.changes(&step.id);
    let back = state.step(&step.id).is_some_and(|s| s.back.is_some());
    if back {
        // What the attempt before has on the wire would land behind this.
        quiet(ctx).await;
        changes.iter_mut().for_each(turn_round);
    }
    for moves in changes.iter().filter_map(|change| change.moves) {
        stands_there(state, moves)?;
    }
    let sets = futures::future::try_join_all(changes.iter().flat_map(|change| {
        change.places.iter().map(move |(switch, value)| {
            let stood = if back { Stood::of(state, switch, value, change.moves) } else { Stood::Nothing };
            new_value_of(ctx, switch, value, change.moves, stood)
        })
    }));
    let done = set_all(ctx, (step, attempt), state, sets.await?).await;
    ctx.sides.send_modify(|n| *n += 1);
    found.extend(done?);
    let slowest = changes.iter().filter_map(|change| change.moves).max_by_key(|moves| moves.dial.effect_ms);
    if let Some(moves) = slowest.filter(|moves| moves.dial.effect_ms > 0) {
        // Nothing that is measured meanwhile says what readers of the new position are answered.
        let effect = Duration::from_millis(moves.dial.effect_ms);
        tokio::time::sleep(effect).await;
        ctx.sides.send_modify(|n| *n += 1);
        let value = format!("waited {} for readers that may go on with the value before; not proven", brief_ms(effect));
        found.push(evidence(format!("effect of {}", moves.dial.id), value, ctx.wall(), "the plan's `effect`"));
    }
    Ok(found)
}

/// The same change the other way.
fn turn_round(change: &mut Switching<'_>) {
    let Some(Moves { dial, from, to }) = change.moves else { return };
    change.moves = Some(Moves { dial, from: to, to: from });
    std::mem::swap(&mut change.from, &mut change.to);
    for (switch, value) in &mut change.places {
        if let Some(before) = dial.value(&switch.id, from) {
            *value = before;
        }
    }
}

/// Waits for what is on the wire; each call there ends by itself.
async fn quiet(ctx: &WorkerContext) {
    while ctx.in_flight.load(Ordering::Acquire) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn brief_ms(length: Duration) -> String {
    crate::domain::at::brief(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

/// That a dial stands where the step moves it from; after an attempt that failed its places may stand on either side.
fn stands_there(state: &RunState, moves: Moves<'_>) -> Result<(), StepError> {
    let Moves { dial, from, to } = moves;
    let name = |at: usize| dial.positions.get(at).map_or("?", |position| position.name.as_str());
    match state.stands(dial) {
        Stands::At(at) if at != from && at != to => Err(world(
            format!(
                "`{}` stands in position {}, the step moves it from {} to {}",
                dial.id,
                name(at),
                name(from),
                name(to)
            ),
            "see what moved it; roll back, or open another run with a plan that begins there",
        )),
        Stands::At(_) | Stands::Between(..) | Stands::Unknown => Ok(()),
    }
}

/// What is known of the value that a place goes back to.
#[derive(Clone, Copy)]
enum Stood {
    /// It goes forward, or what the plan says is the value itself.
    Nothing,
    /// The version that it had there.
    Version(i64),
    /// A reference gave it, which may give another one by now, and no version is on record.
    Lost,
}

impl Stood {
    fn of(state: &RunState, switch: &Switch, value: &ValueRef, moves: Option<Moves<'_>>) -> Self {
        let by_reference = match value {
            ValueRef::Literal(_) => false,
            ValueRef::Env(_) | ValueRef::File(_) | ValueRef::Parameter(_) => true,
        };
        let Some(moves) = moves.filter(|_| by_reference) else { return Self::Nothing };
        let name = moves.dial.positions.get(moves.to).map(|position| &position.name);
        let version = name.and_then(|name| state.switches.get(&switch.id)?.versions.get(name));
        version.map_or(Self::Lost, |version| Self::Version(*version))
    }
}

/// A place with the value it goes to.
async fn new_value_of<'s>(
    ctx: &WorkerContext,
    switch: &'s Switch,
    value: &ValueRef,
    moves: Option<Moves<'_>>,
    stood: Stood,
) -> Result<Set<'s>, StepError> {
    let position = moves.and_then(|m| m.dial.positions.get(m.to)).map(|position| position.name.clone());
    let action = Action::SetSwitch { switch: switch.id.clone(), to: switch.shown(value).to_owned(), position };
    // A value that is found by reference may be another one by now.
    let from = moves.and_then(|m| m.dial.value(&switch.id, m.from)).and_then(|from| match from {
        ValueRef::Literal(text) => Some(Secret::new(text.clone())),
        ValueRef::Env(_) | ValueRef::File(_) | ValueRef::Parameter(_) => None,
    });
    let shown = !switch.secret() && matches!(value, ValueRef::Literal(_));
    // In the first position stands what was captured, whatever a reference gives by now.
    let first = moves.is_some_and(|m| m.to == 0).then(|| ctx.captured.get(&switch.id)).flatten();
    let value = match (first, stood) {
        (Some(captured), _) => captured.value,
        (None, Stood::Nothing) => resolved(ctx, switch, value).await?,
        (None, Stood::Version(version)) => {
            let found = ctx.ports.switches.read_version(switch, version).await.map_err(|e| step_error(&e))?;
            match exposed(switch, &found) {
                Some(wrong) => return Err(world(wrong, EXPOSED_ADVICE)),
                None => found.value,
            }
        }
        (None, Stood::Lost) => {
            return Err(world(
                format!(
                    "which value stood at {} is not on record: a reference gave it, and may give another one by now",
                    switch.place()
                ),
                "roll back: a rollback knows the first value",
            ));
        }
    };
    Ok(Set { switch, value, action, shown, from })
}

/// What each switch without positions goes to, all asked for at the same time.
pub(super) async fn new_values<'s>(ctx: &WorkerContext, switches: Vec<&'s Switch>) -> Result<Vec<Set<'s>>, StepError> {
    futures::future::try_join_all(
        switches.into_iter().map(|switch| new_value_of(ctx, switch, &switch.to, None, Stood::Nothing)),
    )
    .await
}

/// Sets several places at the same time; one failure fails all, after all have ended.
pub(super) async fn set_all(
    ctx: &Arc<WorkerContext>,
    (step, attempt): (&Step, u32),
    state: &RunState,
    sets: Vec<Set<'_>>,
) -> Result<Vec<Evidence>, StepError> {
    let each = sets.into_iter().map(|one| async move {
        let known = known(state, one.switch);
        set(ctx, (step, attempt), known, one).await
    });
    futures::future::join_all(each).await.into_iter().collect()
}

/// What a switch without positions goes to, as it is now.
pub(super) async fn new_value(ctx: &WorkerContext, switch: &Switch) -> Result<Secret, StepError> {
    resolved(ctx, switch, &switch.to).await
}

/// A value as it is now: it may have become a secret since the arm step read it.
async fn resolved(ctx: &WorkerContext, switch: &Switch, value: &ValueRef) -> Result<Secret, StepError> {
    let new = ctx.ports.switches.resolve(value, &switch.control).await.map_err(|e| step_error(&e))?;
    match exposed(switch, &new) {
        Some(wrong) => Err(world(wrong, EXPOSED_ADVICE)),
        None => Ok(new.value),
    }
}

/// The version of a switch that is on record: no answer of an older one says what stands there now.
fn known(state: &RunState, switch: &Switch) -> Option<i64> {
    state.switches.get(&switch.id).and_then(|s| s.version)
}

/// Whether an answer is of an older copy than what is on record.
fn is_older(answer: &SwitchValue, known: Option<i64>) -> bool {
    answer.version.zip(known).is_some_and(|(answer, known)| answer < known)
}

/// Sets one place, of which this version is on record. Reads it first: a value that stands there already is not written
/// again, so that a restart between effect and outcome does nothing twice.
async fn set(
    ctx: &Arc<WorkerContext>,
    (step, attempt): (&Step, u32),
    known: Option<i64>,
    Set { switch, value, action, shown, from }: Set<'_>,
) -> Result<Evidence, StepError> {
    let id = format!("{}/{}/{attempt}", step.id, switch.id);
    let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
    ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
    let done = write(ctx, switch, known, (&value, from.as_ref())).await;
    let (result, evidence) = match done {
        Ok(version) => {
            let read_back = match (shown, version) {
                (false, Some(version)) => format!("version {version}"),
                (false, None) => "***".to_owned(),
                (true, _) => value.reveal().to_owned(),
            };
            let found = evidence(format!("read-back {}", switch.id), &read_back, ctx.wall(), switch.place());
            (OutcomeResult::Done { read_back, version }, Ok(found))
        }
        Err(e) => (OutcomeResult::Unknown { error: e.message.clone() }, Err(e)),
    };
    ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    evidence
}

/// Sets a value even if its step is cancelled meanwhile: the rollback waits for what is on the wire, so that a late
/// write cannot be the last one.
pub(super) async fn shielded(
    ctx: &Arc<WorkerContext>,
    switch: &Switch,
    value: &Secret,
    with: &Attributes,
) -> PortResult<()> {
    let (ctx, switch, value, with) = (Arc::clone(ctx), switch.clone(), value.clone(), with.clone());
    let place = switch.place();
    ctx.in_flight.fetch_add(1, Ordering::AcqRel);
    let sent = tokio::spawn(async move {
        let sent = tokio::time::timeout(ON_THE_WIRE, ctx.ports.switches.set(&switch, &value, &with)).await;
        ctx.in_flight.fetch_sub(1, Ordering::AcqRel);
        sent
    });
    match sent.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(PortError::new(ErrorKind::TimedOut, "set", place, "no answer in time")),
        Err(e) => Err(PortError::new(ErrorKind::Internal, "set", place, e.to_string())),
    }
}

async fn write(
    ctx: &Arc<WorkerContext>,
    switch: &Switch,
    known: Option<i64>,
    (value, from): (&Secret, Option<&Secret>),
) -> Result<Option<i64>, StepError> {
    let ports = &ctx.ports.switches;
    let before = ports.read(switch).await.map_err(|e| step_error(&e))?;
    if let Some(wrong) = another_type(switch, &before) {
        return Err(world(wrong, TYPE_ADVICE));
    }
    // What was captured goes with every value; a place that was never captured keeps what it has now.
    let with = match ctx.captured.get(&switch.id) {
        Some(kept) if !kept.attributes.is_empty() => kept.attributes,
        _ => ports.attributes(switch, before.version).await.map_err(|e| step_error(&e))?,
    };
    if before.value == *value && !is_older(&before, known) {
        return beside(ctx, switch, before.version, &with).await;
    }
    if from.is_some_and(|from| before.value != *from) && !is_older(&before, known) {
        let stands = if switch.secret() || before.secret { "another value" } else { before.value.reveal() };
        return Err(world(
            format!("{} holds {stands}, which is neither the position before nor the new one", switch.place()),
            "see who changed it; nothing was written there",
        ));
    }
    // An error here says nothing about the effect: only the read-back does.
    let put = shielded(ctx, switch, value, &with).await;
    let mut unread = None;
    for _ in 0..READ_BACKS {
        match ports.read(switch).await {
            Ok(now) if is_older(&now, known) => unread = None,
            Ok(now) if now.value == *value => return beside(ctx, switch, now.version, &with).await,
            Ok(_) if put.is_err() => break,
            Ok(_) => unread = None,
            Err(e) => unread = Some(e),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    match put.err().or(unread) {
        Some(e) => Err(step_error(&e)),
        None => Err(world(
            format!("{} was set but does not read back as set", switch.place()),
            "see whether somebody else writes it, then try again or roll back",
        )),
    }
}

/// What the place keeps beside the value it holds now: it must be what was captured.
async fn beside(
    ctx: &Arc<WorkerContext>,
    switch: &Switch,
    version: Option<i64>,
    wanted: &Attributes,
) -> Result<Option<i64>, StepError> {
    if wanted.is_empty() {
        return Ok(version);
    }
    let mut found = ctx.ports.switches.attributes(switch, version).await;
    for _ in 1..READ_BACKS {
        // The history may be of an older copy than the value was.
        let Err(e) = &found else { break };
        if e.kind != ErrorKind::NotFound && !e.kind.transient() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        found = ctx.ports.switches.attributes(switch, version).await;
    }
    let now = found.map_err(|e| step_error(&e))?;
    let wrong = wanted.differences(&now);
    if wrong.is_empty() {
        return Ok(version);
    }
    Err(world(
        format!("{} holds the value, but {}", switch.place(), wrong.join(", ")),
        "see who writes it; a rollback puts back what was captured",
    ))
}

/// What to do about a place whose type is not the plan's.
pub(super) const TYPE_ADVICE: &str = "make `secure` of the switch in the config say what the store says";

/// What to do about a secret that would be written where everybody reads it.
pub(super) const EXPOSED_ADVICE: &str =
    "make the switch's parameter a SecureString, or take the new value from elsewhere";

/// Says that the new value is a secret and its place shows what it holds.
pub(super) fn exposed(switch: &Switch, new: &SwitchValue) -> Option<String> {
    (new.secret && !switch.secret()).then(|| {
        format!("the new value of {} is a SecureString, {} would hold it in plain text", switch.id, switch.place())
    })
}

/// Writes of a place that a run there and back may need: its rights are exercised, it is switched (through each position it
/// has), restored, and all that once more.
fn writes_of_a_run(plan: &Plan, switch: &Switch) -> usize {
    let steps = plan.dial_of(&switch.id).map_or(1, |dial| {
        let sets = |step: &&Step| matches!(&step.kind, StepKind::Switch { to, .. } if to.contains_key(&dial.id));
        plan.steps.iter().filter(sets).count()
    });
    4 + 4 * steps.max(1)
}

/// Says that a place will take too few writes.
pub(super) fn nearly_full(plan: &Plan, switch: &Switch, writes_left: Option<usize>) -> Option<String> {
    let left = writes_left.filter(|left| *left < writes_of_a_run(plan, switch))?;
    let times = match left {
        0 => "no further value".to_owned(),
        1 => "one more value".to_owned(),
        n => format!("{n} more values"),
    };
    Some(format!(
        "{} takes {times}: it keeps 100 versions, and a label keeps an old one from making room (move or remove the label)",
        switch.place()
    ))
}

/// Says that the store holds another type of value than the plan names.
pub(super) fn another_type(switch: &Switch, now: &SwitchValue) -> Option<String> {
    let (store, plan) = match (now.secret, switch.secret()) {
        (true, false) => ("a SecureString", "has no `secure = true`"),
        (false, true) => ("no SecureString", "has `secure = true`"),
        (true, true) | (false, false) => return None,
    };
    Some(format!("{} is {store}, but the switch {} {plan}", switch.place(), switch.id))
}
