//! Watching a mover while it follows: how old the oldest change is that is not applied, and why.
//!
//! Each look notes how far the source's log reached and when. Once the mover has applied that much, everything that was
//! committed before that moment is in the target. So the lag grows by itself while the mover is silent, is stuck or cannot be
//! asked, and a poll cycle says the same as one of a follower of ours: nothing from before it is missing.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{failed, not_at_work, port, tell};
use crate::domain::gauge::Phase;
use crate::domain::plan::MoverOf;
use crate::domain::run::{Event, Level, MoverOrder};
use crate::ports::{MoverLook, MoverState, Position, TableState};
use crate::workers::context::WorkerContext;
use crate::workers::follow::PollCycle;
use crate::workers::progress::Read;

/// Pause between two looks: at least, and while customers are kept out.
const LOOK: Duration = Duration::from_millis(200);
const CLOSELY: Duration = Duration::from_millis(25);
/// Moments that wait to be applied at most; of more than that every other one is enough.
const MOMENTS: usize = 512;
/// An order that failed is given again after this, in milliseconds.
const TOLD_AGAIN_MS: i64 = 10_000;

/// Watches one mover until customers are let in on the new side, or the workers stop.
pub async fn follow(ctx: Arc<WorkerContext>, of: MoverOf) {
    let mut watch = Watch::new(&ctx, &of);
    let every = Duration::from_millis(ctx.plan.follow.poll_ms).max(LOOK);
    loop {
        // The step that lets customers in stops it first; what it does from here on is that step's to see.
        if ctx.standing().open_to_customers {
            watch.ended();
            return;
        }
        if *ctx.limits.paused.borrow() {
            watch.rests().await;
        } else if let Some(lost) = watch.look().await {
            watch.lost(&lost).await;
            return;
        }
        let frozen = ctx.standing().locked_out;
        tokio::time::sleep(if frozen { CLOSELY } else { every }).await;
    }
}

/// How far a source's log reached, and when.
struct Moment {
    head: Position,
    mono: i64,
    wall: crate::domain::at::At,
}

struct Watch<'c> {
    ctx: &'c Arc<WorkerContext>,
    of: &'c MoverOf,
    /// Not applied yet, oldest first.
    open: VecDeque<Moment>,
    /// The newest moment that was received, by its place on the monotonic clock.
    received: Option<i64>,
    cycles: u64,
    /// Failed attempts that are known and past.
    errors: Option<u64>,
    /// Since when attempts fail, on the monotonic clock.
    erred: Option<i64>,
    /// Whether we told it to rest.
    paused: bool,
    /// When it may be told again, on the monotonic clock: each order is two facts on disk.
    told_again: i64,
}

impl<'c> Watch<'c> {
    fn new(ctx: &'c Arc<WorkerContext>, of: &'c MoverOf) -> Self {
        for table in &of.tables {
            ctx.progress(&table.id).listed(std::iter::once(table.id.as_str()));
        }
        let (open, received, errors, erred) = Default::default();
        Self { ctx, of, open, received, cycles: 0, errors, erred, paused: false, told_again: i64::MIN }
    }

    /// Lets it rest while the run does.
    async fn rests(&mut self) {
        if !self.paused && self.may_tell() {
            match tell(self.ctx, self.of, None, MoverOrder::Pause).await {
                Ok(_) => self.paused = true,
                Err(e) => {
                    self.told_again = self.ctx.mono() + TOLD_AGAIN_MS;
                    tracing::warn!(mover = %self.of.name(), error = %e.message, "it was not paused");
                }
            }
        }
        for table in &self.of.tables {
            self.ctx.latest.table(&table.id, |g| g.phase = Phase::Paused);
        }
    }

    /// Whether it may be told something now: not soon after an order that failed.
    fn may_tell(&self) -> bool {
        self.ctx.mono() >= self.told_again
    }

    /// Looks once; says why it can never go on, if that is so.
    async fn look(&mut self) -> Option<String> {
        let (mono, wall) = (self.ctx.mono(), self.ctx.wall());
        let look = match port(self.ctx, self.of).look(&self.of.tables).await {
            Ok(look) => look,
            Err(e) => {
                self.show(Some(&e.to_string()), None);
                return None;
            }
        };
        if let Some(lost) = look.lost.clone() {
            return Some(lost);
        }
        match look.state {
            MoverState::Absent => return not_at_work(self.of, look.state),
            // We paused it, or a process before us did, and the run goes on.
            MoverState::Paused if !self.may_tell() => return None,
            MoverState::Paused => {
                match tell(self.ctx, self.of, None, MoverOrder::Start).await {
                    Ok(_) => self.paused = false,
                    Err(e) => {
                        self.told_again = self.ctx.mono() + TOLD_AGAIN_MS;
                        self.show(Some(&e.message), Some(&look));
                    }
                }
                return None;
            }
            MoverState::Running => self.paused = false,
            MoverState::Prepared | MoverState::Stopped | MoverState::EndedElsewhere => {}
        }
        self.applied(&look, mono, wall);
        let news = self.count_errors(&look, mono);
        let said = self.erred.map(|_| failed(self.of, look.errors.saturating_sub(self.errors.unwrap_or(0))));
        let said = said.or_else(|| look.trouble.clone()).or_else(|| not_at_work(self.of, look.state));
        if news && let Some(text) = &said {
            self.note(Level::Error, text.clone()).await;
        }
        self.show(said.as_deref(), Some(&look));
        None
    }

    /// Notes this moment, and which earlier ones are applied by now.
    fn applied(&mut self, look: &MoverLook, mono: i64, wall: crate::domain::at::At) {
        if let Some(head) = look.head.clone() {
            self.open.push_back(Moment { head, mono, wall });
        }
        if self.open.len() > MOMENTS {
            let mut nth = 0;
            self.open.retain(|_| {
                nth += 1;
                nth % 2 == 0
            });
        }
        let reached = |moment: &Moment, at: Option<&Position>| {
            at.and_then(|at| at.order(&moment.head)).is_some_and(|order| order != Ordering::Less)
        };
        let received = self.open.iter().rev().find(|moment| reached(moment, look.received.as_ref()));
        self.received = received.map(|moment| moment.mono).or(self.received);
        let mut newest = None;
        while self.open.front().is_some_and(|moment| reached(moment, look.applied.as_ref())) {
            newest = self.open.pop_front();
        }
        let running = look.state == MoverState::Running;
        for table in &self.of.tables {
            let progress = self.ctx.progress(&table.id);
            if let Some(mono) = self.received {
                progress.read(&Read::new(&table.id, mono, wall, None));
            }
            // What is applied of the others says nothing of a table that is still copied.
            if look.tables.get(&table.id) != Some(&TableState::Following) || !running {
                continue;
            }
            if let Some(moment) = &newest {
                let read = Read::new(&table.id, moment.mono, moment.wall, None);
                progress.read(&read);
                progress.applied(&[read]);
            }
        }
        let Some(moment) = newest.filter(|_| look.follows_all()) else { return };
        if self.erred.is_some_and(|since| moment.mono > since) {
            (self.erred, self.errors) = (None, Some(look.errors));
        }
        self.cycles += 1;
        let cycle = PollCycle { number: self.cycles, listed_mono: moment.mono, began_mono: moment.mono, empty: true };
        for table in self.of.tables.iter().filter_map(|table| self.ctx.table(&table.id)) {
            table.cycles.send_replace(cycle);
        }
    }

    /// Whether attempts have begun to fail.
    fn count_errors(&mut self, look: &MoverLook, mono: i64) -> bool {
        let known = *self.errors.get_or_insert(look.errors);
        let news = look.errors > known && self.erred.is_none();
        if news {
            self.erred = Some(mono);
        }
        news
    }

    fn show(&self, trouble: Option<&str>, look: Option<&MoverLook>) {
        for table in &self.of.tables {
            let state = look.and_then(|look| look.tables.get(&table.id));
            let said = match state {
                Some(TableState::Unknown(why)) => Some(why.as_str()),
                _ => trouble,
            };
            self.ctx.latest.table(&table.id, |g| {
                let was = std::mem::replace(&mut g.trouble, said.map(str::to_owned));
                g.retries += u64::from(said.is_some() && was.is_none());
                g.phase = if said.is_some() { Phase::Retrying } else { Phase::Following };
            });
        }
    }

    async fn note(&self, level: Level, text: String) {
        let note = Event::Note { level, source: "mover".to_owned(), text };
        if let Err(e) = self.ctx.facts.state(note).await {
            tracing::error!(mover = %self.of.name(), error = %e, "what it met was not recorded");
        }
    }

    /// Customers are on the new side: nothing of the old one comes any more.
    fn ended(&self) {
        for table in &self.of.tables {
            self.ctx.progress(&table.id).end();
            self.ctx.latest.table(&table.id, |g| {
                g.phase = Phase::Drained;
                g.trouble = None;
            });
        }
    }

    /// It can never go on: the lag is unknown from here on.
    async fn lost(&self, why: &str) {
        let text = format!("{why}; only a new load closes the gap");
        tracing::warn!(mover = %self.of.name(), text, "following ended for good");
        for table in &self.of.tables {
            self.ctx.progress(&table.id).end();
            if let Some(work) = self.ctx.table(&table.id) {
                work.end(text.clone());
            }
            self.ctx.latest.table(&table.id, |g| {
                g.phase = Phase::Retrying;
                g.trouble = Some(text.clone());
                g.unfollowed = Some(self.ctx.wall());
            });
        }
        self.note(Level::Error, format!("{} has ended for good: {text}", self.of.name())).await;
    }
}
