//! After the switches are back: everything customers wrote on the new side is carried over, and proven to be.

use std::time::{Duration, Instant};

use super::{Carrier, LISTED, conflict_facts};
use crate::domain::at::brief;
use crate::domain::mapping::{Wins, survey};
use crate::domain::plan::Plan;
use crate::domain::run::{Event, Evidence, Level, RunState};
use crate::ports::{Clock, ErrorKind, PortError, PortResult, ReversePorts};
use crate::workers::trouble::evidence;
use crate::workers::undo::UndoTell;

/// How often progress is told.
const TELL: Duration = Duration::from_secs(5);
/// Records taken at a time. What was written and not yet cleared when a drain is killed cannot be told for certain from
/// what customers set back since, so one key is under way at any moment,
const AT_A_TIME: u32 = 1;
/// unless more than this many records wait: then the time that customers' writes stay behind is the greater harm.
const MANY: u64 = 2_000;
/// Rounds before progress is told.
const PASS: u32 = 100;
/// Records taken at a time when many wait.
const OF_MANY: u32 = 16;
/// How often what waits is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long counting what is left may take, once it has ended one way or the other.
const COUNTING: Duration = Duration::from_secs(5);

/// What a drain did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drained {
    /// What proves it, by table.
    pub evidence: Vec<Evidence>,
    /// What is left, by table, and how to go on. Empty when all is carried.
    pub left: Vec<String>,
}

/// Whether customers can have written on the new side in this run.
#[must_use]
pub fn possible(plan: &Plan, state: &RunState) -> bool {
    use crate::domain::plan::StepKind;
    let thaw = plan.steps.iter().find(|s| s.kind == StepKind::Thaw).and_then(|s| state.step(&s.id));
    let let_in = thaw.map_or(state.decided.is_some(), |s| s.attempts > 0);
    plan.reverse.enabled && let_in
}

/// Carries what waits until nothing has arrived for the plan's settle time, and proves by markers that nothing is on
/// its way. What the old side's customers changed meanwhile is newer and stays.
///
/// Gives up after the plan's patience and then says what is left; asked again, it goes on there.
pub async fn drain(plan: &Plan, ports: &ReversePorts, tell: &dyn UndoTell, clock: &dyn Clock) -> Drained {
    let began = Instant::now();
    let patience = Duration::from_millis(plan.reverse.patience_ms);
    let mut way = Draining { plan, ports, tell, carrier: None, unfit: Vec::new(), last: None, told: began };
    let carried = tokio::time::timeout(patience, way.until_empty()).await;
    let why = match carried {
        Ok(Ok(true)) => {
            let drained = way.report(clock, began, None).await;
            if drained.left.is_empty()
                && let Err(e) = ports.outbox.settle().await
            {
                tracing::warn!(error = %e, "a later run will ask before it loads");
            }
            return drained;
        }
        // Capture was proven by the arm step and is gone, in part or whole: what was written since is known to nobody.
        Ok(Ok(false)) if plan.tables.iter().all(|t| survey(t).blocks.is_empty()) => {
            let left = "writes of the new side are not captured any more: a trigger of ours is missing or switched off; \
                        compare the tables by hand (cutover.outbox holds what was captured before)";
            return Drained { evidence: Vec::new(), left: vec![left.to_owned()] };
        }
        // There never was a way back for data: what stays behind was counted and said before.
        Ok(Ok(false)) => {
            let text = "writes were not captured on the new side; what was written there stays there".to_owned();
            tell.tell(Event::Note { level: Level::Error, source: "reverse".to_owned(), text });
            return Drained::default();
        }
        Ok(Err(e)) => e.to_string(),
        Err(_) => {
            let last = way.last.as_ref().map_or_else(|| "records keep arriving".to_owned(), ToString::to_string);
            format!("not drained in {}: {last}", brief(i64::try_from(plan.reverse.patience_ms).unwrap_or(i64::MAX)))
        }
    };
    way.report(clock, began, Some(why)).await
}

/// The trouble, if it passes by itself: another carrier has its turn, or the line is down. Or the patience ends.
fn passing(e: PortError) -> PortResult<PortError> {
    if e.kind.transient() || e.kind == ErrorKind::Conflict { Ok(e) } else { Err(e) }
}

struct Draining<'d> {
    plan: &'d Plan,
    ports: &'d ReversePorts,
    tell: &'d dyn UndoTell,
    carrier: Option<Carrier>,
    /// Table, key and why the old side cannot take it.
    unfit: Vec<(String, String, String)>,
    /// The last trouble.
    last: Option<PortError>,
    told: Instant,
}

impl Draining<'_> {
    /// `true` once empty and proven; `false` when nothing is captured at all.
    async fn until_empty(&mut self) -> PortResult<bool> {
        let settle = Duration::from_millis(self.plan.reverse.settle_ms);
        let mut quiet = Instant::now();
        loop {
            match self.pass().await {
                Ok(None) => return Ok(false),
                Ok(Some(0)) if quiet.elapsed() < settle => self.last = None,
                Ok(Some(0)) => match self.proven().await {
                    Ok(true) => return Ok(true),
                    Ok(false) => (self.last, quiet) = (None, Instant::now()),
                    Err(e) => (self.last, quiet) = (Some(passing(e)?), Instant::now()),
                },
                Ok(Some(_)) => (self.last, quiet) = (None, Instant::now()),
                Err(e) => (self.last, quiet) = (Some(passing(e)?), Instant::now()),
            }
            self.progress().await;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// One round over all tables; how many keys were carried.
    async fn pass(&mut self) -> PortResult<Option<u64>> {
        let carrier = match &mut self.carrier {
            Some(carrier) => carrier,
            none => {
                if !self.ports.outbox.armed(&self.plan.tables).await? {
                    return Ok(None);
                }
                self.ports.outbox.go_back().await?;
                none.insert(Carrier::open(self.plan, self.ports).await?)
            }
        };
        let (mut carried, mut rounds) = (0, 0);
        for table in &self.plan.tables {
            loop {
                let waiting = self.ports.outbox.waiting(std::slice::from_ref(table)).await?;
                let many = waiting.get(&table.id).is_some_and(|w| w.records > MANY);
                let batch = self.plan.reverse.batch.min(if many { OF_MANY } else { AT_A_TIME });
                let Some(round) = carrier.round(table, batch, &|| Wins::Old).await? else { break };
                conflict_facts(table, &round.conflicts).into_iter().for_each(|event| self.tell.tell(event));
                self.unfit.retain(|(id, ..)| *id != table.id);
                self.unfit.extend(round.unfit.into_iter().map(|(key, why)| (table.id.clone(), key.0, why)));
                carried += round.tally.carried;
                if let Some(e) = round.trouble {
                    return Err(e);
                }
                if round.tally.carried == 0 {
                    break;
                }
                rounds += 1;
                if rounds >= PASS {
                    // Whoever ordered this wants to hear of it now and then.
                    return Ok(Some(carried));
                }
            }
        }
        Ok(Some(carried))
    }

    /// Sends a marker after everything that was captured and sees it through, then finds nothing left but what the old
    /// side cannot take.
    async fn proven(&mut self) -> PortResult<bool> {
        let Some(carrier) = &mut self.carrier else { return Ok(false) };
        for table in self.plan.tables.iter().filter(|t| !t.marker_prefix.is_empty()) {
            let nonce = uuid::Uuid::new_v4().to_string();
            self.ports.outbox.put_marker(table, &nonce).await?;
            let round =
                carrier.round(table, self.plan.reverse.batch.min(AT_A_TIME), &|| Wins::Old).await?.unwrap_or_default();
            conflict_facts(table, &round.conflicts).into_iter().for_each(|event| self.tell.tell(event));
            if let Some(e) = round.trouble {
                return Err(e);
            }
            if round.tally.carried > 0 || !round.markers.contains(&nonce) {
                return Ok(false);
            }
        }
        let waiting = self.ports.outbox.waiting(&self.plan.tables).await?;
        Ok(waiting.iter().all(|(id, w)| w.records == 0 || self.unfit.iter().any(|(table, ..)| table == id)))
    }

    async fn progress(&mut self) {
        if self.told.elapsed() < TELL {
            return;
        }
        self.told = Instant::now();
        let Ok(waiting) = self.ports.outbox.waiting(&self.plan.tables).await else { return };
        let waiting: u64 = waiting.values().map(|w| w.records).sum();
        let trouble = self.last.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
        let text = format!("carrying back, {waiting} writes wait{trouble}");
        self.tell.tell(Event::Note { level: Level::Info, source: "reverse".to_owned(), text });
    }

    /// Facts and evidence by table, and what is left.
    async fn report(&self, clock: &dyn Clock, began: Instant, why: Option<String>) -> Drained {
        let took = brief(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX));
        let tables = &self.plan.tables;
        let counted = async {
            loop {
                let both = futures::try_join!(self.ports.outbox.waiting(tables), self.ports.outbox.tally(tables));
                match both {
                    Ok(both) => return Some(both),
                    // One answer that was lost must not make a rollback that carried everything look stuck.
                    Err(e) if e.kind.transient() => tokio::time::sleep(LOOK).await,
                    Err(_) => return None,
                }
            }
        };
        let counted = tokio::time::timeout(COUNTING, counted).await.ok().flatten();
        let mut drained = Drained::default();
        for table in tables {
            let left = counted.as_ref().and_then(|(w, _)| w.get(&table.id)).map(|w| w.records);
            let tally = counted.as_ref().and_then(|(_, t)| t.get(&table.id)).copied().unwrap_or_default();
            let unfit: Vec<&(String, String, String)> = self.unfit.iter().filter(|(id, ..)| *id == table.id).collect();
            self.tell.tell(Event::CarriedBack {
                table: table.id.clone(),
                carried: tally.carried,
                merged: tally.merged,
                conflicts: tally.conflicts,
                left,
                keys: unfit.iter().take(LISTED).map(|(_, key, _)| key.clone()).collect(),
            });
            if left == Some(0) && why.is_none() {
                let value = format!("{} keys, {} changed by both sides, none left", tally.carried, tally.conflicts);
                let name = format!("carried back {}", table.id);
                drained.evidence.push(evidence(name, value, clock.wall(), "cutover.outbox, marker read back"));
                continue;
            }
            if left == Some(0) {
                continue;
            }
            let left = left.map_or_else(|| "nobody knows how many".to_owned(), |n| n.to_string());
            let because = match (&why, unfit.first()) {
                (_, Some((_, key, reason))) => {
                    format!("{} keys cannot be held there, first {key}: {reason}", unfit.len())
                }
                (Some(why), None) => why.clone(),
                (None, None) => "they arrived at the last moment".to_owned(),
            };
            drained.left.push(format!(
                "{}: {left} writes of the new side are not carried back ({because}); \
                 run `cutover rollback` again to go on carrying",
                table.id
            ));
        }
        if let Some(why) = why.filter(|_| drained.left.is_empty()) {
            drained.left.push(format!(
                "carrying back was not proven to be complete after {took}: {why}; run `cutover rollback` again"
            ));
        }
        drained
    }
}
