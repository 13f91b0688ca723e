//! After the switches are restored: everything customers wrote on the new side is applied to the old side, and proven
//! to be.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{LISTED, ReverseApplier, conflict_facts, sequences};
use crate::domain::at::brief;
use crate::domain::mapping::{Resolution, Winner, inverse_gaps};
use crate::domain::plan::{Plan, Table};
use crate::domain::run::{Event, Evidence, Level, RunState};
use crate::domain::value::Key;
use crate::ports::{Clock, ErrorKind, OpenWrite, PortError, PortResult, ReversePorts, first_open};
use crate::workers::rollback::FactSink;
use crate::workers::trouble::evidence;

/// How often progress is reported.
const TELL: Duration = Duration::from_secs(5);
/// How often what waits is counted.
const POLL: Duration = Duration::from_millis(100);

/// How long counting what is left may take, once it has ended one way or the other.
const COUNTING: Duration = Duration::from_secs(5);

/// What a drain did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drained {
    /// What proves it, by table.
    pub evidence: Vec<Evidence>,
    /// What is left, by table, and how to go on. Empty when all is applied.
    pub left: Vec<String>,
}

/// Whether customers can have written on the new side in this run.
#[must_use]
pub fn possible(plan: &Plan, state: &RunState) -> bool {
    plan.reverse.enabled && !plan.tables.is_empty() && state.open_to_customers(plan)
}

/// Drains every target by itself, all at the same time: one that cannot be reached holds nothing of the others. See
/// [`drain_one`].
pub async fn drain(
    plan: &Plan,
    run: &str,
    ports: &ReversePorts,
    facts: &dyn FactSink,
    clock: &dyn Clock,
    switched: bool,
) -> Drained {
    let stores: BTreeSet<&str> = plan.tables.iter().map(|table| table.to.as_str()).collect();
    let parts: Vec<Plan> = stores.into_iter().map(|store| onto(plan, store)).collect();
    let all = parts.iter().map(|part| drain_one(part, run, ports, facts, clock, switched));
    let mut whole = Drained::default();
    for one in futures::future::join_all(all).await {
        whole.evidence.extend(one.evidence);
        whole.left.extend(one.left);
    }
    whole
}

/// The plan with the tables that go to this store alone.
fn onto(plan: &Plan, store: &str) -> Plan {
    let mut part = plan.clone();
    part.tables.retain(|table| table.to == store);
    part
}

/// Applies what waits until nothing has arrived for the plan's settle time, and proves by markers that nothing is on
/// its way. What the old side's customers changed meanwhile is newer and stays.
///
/// `run` is the one that is rolled back: tables that a later run of the plan has are not touched.
///
/// Gives up when what waits does not grow less for the plan's patience, and then says what is left; when it is called
/// again, it goes on there.
///
/// `switched` says whether every switch is restored: while the new side may still be open to customers, no later run
/// may take it for its own.
async fn drain_one(
    plan: &Plan,
    run: &str,
    ports: &ReversePorts,
    facts: &dyn FactSink,
    clock: &dyn Clock,
    switched: bool,
) -> Drained {
    let patience = Duration::from_millis(plan.reverse.patience_ms);
    let mut way = Draining {
        plan,
        run,
        ports,
        facts,
        applier: None,
        unfit: Vec::new(),
        conflicts: BTreeSet::new(),
        open: None,
        last: None,
        told: Instant::now(),
    };
    sequences::first(plan, ports).await;
    let carried = way.until_empty(patience).await;
    let why = match carried {
        Ok(Some(true)) => {
            let mut drained = way.report(clock, None).await;
            drained.left.extend(missed(plan, ports).await);
            drained.evidence.extend(sequences::end(plan, ports, facts, clock).await);
            if switched && drained.left.is_empty() {
                match tokio::time::timeout(COUNTING, ports.outbox.settle(run, &plan.tables)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => tracing::warn!(error = %e, "a later run will ask before it loads"),
                    Err(_) => tracing::warn!("the target does not answer; a later run will ask before it loads"),
                }
            }
            return drained;
        }
        // Capture was proven by the arm step and is gone, in part or whole: what was written since is unknown.
        Ok(Some(false)) if plan.tables.iter().all(|t| inverse_gaps(t, plan.kind(&t.from)).blocks.is_empty()) => {
            let left = "writes of the new side are not captured any more: what captures them is missing or switched off; \
                        compare the tables by hand (the outbox holds what was captured before)";
            return Drained { evidence: Vec::new(), left: vec![left.to_owned()] };
        }
        // There never was a reverse flow: what stays behind was counted and reported before.
        Ok(Some(false)) => {
            let text = "writes were not captured on the new side; what was written there stays there".to_owned();
            facts.send(Event::Note { level: Level::Error, source: "reverse".to_owned(), text });
            return Drained::default();
        }
        Err(e) => e.to_string(),
        Ok(None) => {
            let last = way.last.as_ref().map_or_else(|| "records keep arriving".to_owned(), ToString::to_string);
            let patience = brief(i64::try_from(plan.reverse.patience_ms).unwrap_or(i64::MAX));
            format!("what waits did not grow less for {patience}: {last}")
        }
    };
    way.report(clock, Some(why)).await
}

/// Whether anything waits; nothing does where there is no outbox.
async fn waits(plan: &Plan, ports: &ReversePorts) -> PortResult<bool> {
    match ports.outbox.waiting(&plan.tables).await {
        Ok(waits) => Ok(waits.values().any(|w| w.records > 0)),
        Err(e) if e.kind == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// What was never captured, and so not applied; nothing where it can no longer be known.
async fn missed(plan: &Plan, ports: &ReversePorts) -> Vec<String> {
    let asked = async {
        loop {
            let both = futures::try_join!(ports.outbox.gaps(&plan.tables), ports.outbox.armed(&plan.tables));
            match both {
                // One lost answer must not make a rollback that applied everything count as stuck.
                Err(e) if e.kind.transient() => tokio::time::sleep(POLL).await,
                both => return both,
            }
        }
    };
    let left = |why: &str| format!("not everything that was written was captured: {why}; compare the tables by hand");
    match tokio::time::timeout(COUNTING, asked).await {
        Ok(Ok((gaps, armed))) => {
            // What waits was applied, or is counted as left; what failed was never written.
            let lost: Vec<String> = gaps.iter().filter(|gap| gap.lost).map(|gap| left(&gap.what)).collect();
            let off = !armed && lost.is_empty();
            if off { vec![left("what captures them is missing or switched off")] } else { lost }
        }
        Ok(Err(e)) => vec![left(&format!("nobody knows ({e})"))],
        Err(_) => vec![left("nobody knows, the target does not answer")],
    }
}

/// The trouble, if it passes by itself: another reverse applier has its turn, or the line is down. Or the patience
/// ends.
fn passing(e: PortError) -> PortResult<PortError> {
    if e.kind.transient() || e.kind == ErrorKind::Conflict { Ok(e) } else { Err(e) }
}

struct Draining<'d> {
    plan: &'d Plan,
    run: &'d str,
    ports: &'d ReversePorts,
    facts: &'d dyn FactSink,
    applier: Option<ReverseApplier>,
    /// Table, key and why the old side cannot take it.
    unfit: Vec<(String, String, String)>,
    /// Tables and keys of conflicts that were recorded.
    conflicts: BTreeSet<(String, Key)>,
    /// Transactions that were open when it was first looked for them.
    open: Option<Vec<OpenWrite>>,
    /// The last trouble.
    last: Option<PortError>,
    told: Instant,
}

/// Records conflicts, each key once.
fn tell_conflicts(
    facts: &dyn FactSink,
    told: &mut BTreeSet<(String, Key)>,
    table: &Table,
    mut met: Vec<(Key, Resolution)>,
) {
    met.retain(|(key, _)| told.insert((table.id.clone(), key.clone())));
    conflict_facts(table, &met).into_iter().for_each(|event| facts.send(event));
}

/// What one round did.
enum Step {
    /// It is over: proven, or nothing is captured.
    Ends(bool),
    /// Nothing waits that could be applied.
    Quiet,
    /// Something was applied, or it arrived since.
    Moved,
}

impl Draining<'_> {
    /// `true` once empty and proven; `false` when nothing is captured at all; `None` when patience has ended.
    async fn until_empty(&mut self, patience: Duration) -> PortResult<Option<bool>> {
        let settle = Duration::from_millis(self.plan.reverse.settle_ms);
        let mut quiet = Instant::now();
        // The least that ever waited, and since when.
        let (mut least, mut since) = (u64::MAX, Instant::now());
        while let Some(time) = patience.checked_sub(since.elapsed()) {
            let step = async {
                match self.pass().await? {
                    Some(0) if quiet.elapsed() >= settle => match self.proven().await? {
                        true => Ok(Step::Ends(true)),
                        false => Ok(Step::Moved),
                    },
                    Some(0) => Ok(Step::Quiet),
                    Some(_) => Ok(Step::Moved),
                    None => Ok(Step::Ends(false)),
                }
            };
            match tokio::time::timeout(time, step).await {
                Ok(Ok(Step::Ends(proven))) => return Ok(Some(proven)),
                Ok(Ok(Step::Quiet)) => self.last = None,
                Ok(Ok(Step::Moved)) => (self.last, quiet) = (None, Instant::now()),
                Ok(Err(e)) => (self.last, quiet) = (Some(passing(e)?), Instant::now()),
                Err(_) => return Ok(None),
            }
            let waits = tokio::time::timeout(COUNTING, self.ports.outbox.waiting(&self.plan.tables)).await;
            match waits {
                Ok(Ok(waits)) => {
                    let waits = waits.values().map(|w| w.records).sum();
                    if waits < least {
                        (least, since) = (waits, Instant::now());
                    }
                    self.progress(waits);
                }
                // So many wait that they are not counted in time: what was applied just now is less of them.
                _ if quiet.elapsed() < POLL && self.last.is_none() => since = Instant::now(),
                _ => {}
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(None)
    }

    /// Rounds over all tables until nothing moves, or it is time to report; how many keys were applied.
    async fn pass(&mut self) -> PortResult<Option<u64>> {
        let applier = match &mut self.applier {
            Some(applier) => applier,
            none => {
                // What was captured before a trigger was lost is applied all the same; the end says what was not
                // captured.
                if !self.ports.outbox.armed(&self.plan.tables).await? && !waits(self.plan, self.ports).await? {
                    return Ok(None);
                }
                self.ports.outbox.mark_rolled_back(self.run, &self.plan.tables).await?;
                none.insert(ReverseApplier::new(self.ports))
            }
        };
        let (mut carried, began) = (0, Instant::now());
        let mut failed = None;
        for table in &self.plan.tables {
            loop {
                let before = applier.stuck(&table.id);
                let round = match applier.round(table, self.plan.reverse.batch, &|| Winner::Old).await {
                    Ok(Some(round)) => round,
                    Ok(None) => {
                        self.unfit.retain(|(id, ..)| *id != table.id);
                        break;
                    }
                    // The other tables go on: their store may well answer.
                    Err(e) => {
                        failed = failed.or(Some(e));
                        break;
                    }
                };
                tell_conflicts(self.facts, &mut self.conflicts, table, round.conflicts);
                self.unfit.retain(|(id, ..)| *id != table.id);
                self.unfit.extend(round.unfit.into_iter().map(|(key, why)| (table.id.clone(), key.0, why)));
                carried += round.tally.carried;
                if let Some(e) = round.trouble {
                    failed = failed.or(Some(e));
                    break;
                }
                // What the old side cannot take is left out, as far as it goes.
                if round.tally.carried == 0 && applier.stuck(&table.id) <= before {
                    break;
                }
                if began.elapsed() >= TELL {
                    return Ok(Some(carried.max(1)));
                }
            }
        }
        match failed {
            Some(e) => Err(e),
            None => Ok(Some(carried)),
        }
    }

    /// Sends a marker after everything that was captured and sees it through, then finds nothing left but what the old
    /// side cannot take.
    async fn proven(&mut self) -> PortResult<bool> {
        let Some(applier) = &mut self.applier else { return Ok(false) };
        // What is written and not committed is in no record yet. Those that begin later write after the switch.
        let now = self.ports.outbox.open_writes(&self.plan.tables).await?;
        let open = self.open.get_or_insert_with(|| now.clone());
        if let Some(first) = first_open(open, &now) {
            let why = format!("a transaction is open that may have written there: {}", first.words);
            return Err(PortError::new(ErrorKind::Conflict, "carry back", "the new side", why)
                .advise("end it, or wait for it: what it wrote is carried once it commits"));
        }
        for table in self.plan.tables.iter().filter(|t| !t.marker_prefix.is_empty()) {
            let nonce = uuid::Uuid::new_v4().to_string();
            self.ports.outbox.put_marker(table, &nonce).await?;
            let round = applier.round(table, self.plan.reverse.batch, &|| Winner::Old).await?.unwrap_or_default();
            tell_conflicts(self.facts, &mut self.conflicts, table, round.conflicts);
            if let Some(e) = round.trouble {
                return Err(e);
            }
            if round.tally.carried > 0 || !round.markers.contains(&nonce) {
                return Ok(false);
            }
        }
        let waiting = self.ports.outbox.waiting(&self.plan.tables).await?;
        Ok(waiting.iter().all(|(id, w)| w.records <= applier.stuck(id)))
    }

    fn progress(&mut self, waiting: u64) {
        if self.told.elapsed() < TELL {
            return;
        }
        self.told = Instant::now();
        let trouble = self.last.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
        let text = format!("carrying back, {waiting} writes wait{trouble}");
        self.facts.send(Event::Note { level: Level::Info, source: "reverse".to_owned(), text });
    }

    /// Facts and evidence by table, and what is left.
    async fn report(&mut self, clock: &dyn Clock, why: Option<String>) -> Drained {
        let tables = &self.plan.tables;
        for table in tables {
            // Those of a reverse applier that died before it recorded them.
            if let Ok(Ok(all)) = tokio::time::timeout(COUNTING, self.ports.outbox.conflicts(table)).await {
                tell_conflicts(self.facts, &mut self.conflicts, table, all);
            }
        }
        let counted = async {
            loop {
                let both = futures::try_join!(self.ports.outbox.waiting(tables), self.ports.outbox.tally(tables));
                match both {
                    Ok(both) => return Some(both),
                    // One lost answer must not make a rollback that applied everything count as stuck.
                    Err(e) if e.kind.transient() => tokio::time::sleep(POLL).await,
                    Err(_) => return None,
                }
            }
        };
        let counted = tokio::time::timeout(COUNTING, counted).await.ok().flatten();
        let mut drained = Drained::default();
        for table in tables {
            let left = counted.as_ref().and_then(|(w, _)| w.get(&table.id)).map(|w| w.records);
            // Counted and not proven is not none: something may be on its way.
            let left = left.filter(|n| *n > 0 || why.is_none());
            let tally = counted.as_ref().and_then(|(_, t)| t.get(&table.id)).copied().unwrap_or_default();
            let unfit: Vec<&(String, String, String)> = self.unfit.iter().filter(|(id, ..)| *id == table.id).collect();
            self.facts.send(Event::CarriedBack {
                table: table.id.clone(),
                carried: tally.carried,
                merged: tally.merged,
                conflicts: tally.conflicts,
                left,
                keys: unfit.iter().take(LISTED).map(|(_, key, _)| key.clone()).collect(),
            });
            if left == Some(0) {
                let value = format!("{} keys, {} changed by both sides, none left", tally.carried, tally.conflicts);
                let name = format!("carried back {}", table.id);
                drained.evidence.push(evidence(name, value, clock.wall(), "outbox, marker read back"));
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
        drained
    }
}
