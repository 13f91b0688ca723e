//! The reverse flow while customers are on the new side, and what is shown of it.
//!
//! Pausing the run does not pause this: the price of a rollback would grow with every second.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{ReverseApplier, Round, conflict_facts, sequences};
use crate::domain::gauge::{Outbox, ReverseState};
use crate::domain::mapping::{Resolution, Winner, inverse_gaps};
use crate::domain::plan::Table;
use crate::domain::run::{Event, Level};
use crate::domain::value::Key;
use crate::ports::{ErrorKind, PortError, ReversePorts};
use crate::workers::context::WorkerContext;
use crate::workers::pace::pause;

/// Sequences of the old side are kept past what the new side gives this often, in milliseconds.
const ADVANCE_MS: i64 = 2_000;
/// What waits is counted this often.
const COUNT: Duration = Duration::from_secs(1);
/// Whether every table is still captured is asked this often, in counts.
const CHECK_EVERY: u64 = 5;

/// Applies changes until the workers stop or a rollback is ordered. Failures are retried for ever: there is nothing
/// better to do, and the outbox keeps what waits.
pub async fn apply_reverse(ctx: Arc<WorkerContext>) {
    let Some(ports) = ctx.reverse_ports() else { return };
    let mut attempt = 0;
    while !ctx.standing().rolling_back {
        let stopped = carry(&ctx, &mut ReverseApplier::new(&ports), &mut attempt).await;
        if ctx.standing().rolling_back {
            return;
        }
        // That another process applies the changes is not a failure.
        if stopped.kind != ErrorKind::Throttled {
            tracing::warn!(error = %stopped, "carrying back stopped");
        }
        attempt += 1;
        let since = ctx.wall();
        ctx.latest.put(|m| {
            let since = if let ReverseState::Down { since, .. } = m.reverse.state { since } else { since };
            m.reverse.state = ReverseState::Down { since, why: stopped.to_string() };
        });
        tokio::time::sleep(pause(attempt)).await;
    }
}

/// A key that the store refused counts as one that is left behind once it has stood for so long: a child that only waits for its
/// parent goes with one of the next rounds.
const LEFT_MS: i64 = 5_000;

/// Since when keys could not be carried, by table.
#[derive(Default)]
struct LeftBehind(BTreeMap<String, HashMap<Key, i64>>);

impl LeftBehind {
    /// How many keys of a table are left behind, after a round that ended at `now` of the monotonic clock.
    fn of(&mut self, table: &str, round: &Round, now: i64) -> u64 {
        let before = self.0.remove(table).unwrap_or_default();
        let since: HashMap<Key, i64> =
            round.unfit.iter().map(|(key, _)| (key.clone(), before.get(key).copied().unwrap_or(now))).collect();
        let is_left = |(key, since): &(&Key, &i64)| now - **since >= LEFT_MS || !round.refused.contains(*key);
        let behind = since.iter().filter(is_left).count() as u64;
        self.0.insert(table.to_owned(), since);
        behind
    }
}

/// Rounds over all tables until one fails; gives why.
async fn carry(ctx: &Arc<WorkerContext>, applier: &mut ReverseApplier, attempt: &mut u32) -> PortError {
    let poll = Duration::from_millis(ctx.plan.reverse.poll_ms.max(10));
    // Once a rollback is ordered, customers may write on the old side, and what they write there is newer.
    let rule = || if ctx.standing().rolling_back { Winner::Old } else { Winner::New };
    let mut speed = (ctx.mono(), 0);
    let Some(ports) = ctx.reverse_ports() else {
        return PortError::new(ErrorKind::Invalid, "carry back", "the plan", "it wants no reverse flow");
    };
    let (mut advanced, mut given, mut told) = (i64::MIN / 2, sequences::Given::new(), Vec::<String>::new());
    let mut left = LeftBehind::default();
    // One store that does not answer keeps no other waiting: it is said at the end of each round.
    let mut failed = None;
    for table in &ctx.plan.tables {
        match applier.conflicts(table).await {
            Ok(before) => conflicts(ctx, table, &before).await,
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    loop {
        let mut busy = false;
        for table in &ctx.plan.tables {
            if ctx.standing().rolling_back {
                return PortError::new(ErrorKind::Conflict, "carry back", &table.id, "a rollback was ordered");
            }
            let round = match applier.round(table, ctx.plan.reverse.batch, &rule).await {
                // Nothing waits, so nothing stays behind either.
                Ok(None) => Round::default(),
                Ok(Some(round)) => round,
                Err(e) => {
                    failed = failed.or(Some(e));
                    continue;
                }
            };
            busy |= round.tally.carried > 0;
            speed.1 += round.tally.carried;
            conflicts(ctx, table, &round.conflicts).await;
            if let Some((key, why)) = round.unfit.first() {
                tracing::warn!(table = %table.id, key = %key.0, why, keys = round.unfit.len(), "cannot be carried back");
            }
            let behind = left.of(&table.id, &round, ctx.mono());
            ctx.latest.put(|m| m.reverse.tables.entry(table.id.clone()).or_default().unfit = behind);
            failed = failed.or(round.trouble);
        }
        if let Some(failed) = failed {
            return failed;
        }
        *attempt = 0;
        if ctx.mono() - advanced >= ADVANCE_MS {
            let wrong = sequences::keep_past(&ctx.plan, &ports, &mut given).await;
            if wrong != told {
                for text in wrong.iter().filter(|text| !told.contains(text)) {
                    let text = format!("a rollback may give values on the old side that rows have: {text}");
                    let note = Event::Note { level: Level::Error, source: "reverse".to_owned(), text };
                    if let Err(e) = ctx.facts.state(note).await {
                        tracing::warn!(error = %e, "a sequence that stands behind was not recorded");
                    }
                }
                told = wrong;
            }
            advanced = ctx.mono();
        }
        let (at, mono) = (ctx.wall(), ctx.mono());
        let rate = (mono - speed.0 >= 2_000).then(|| speed.1 as f64 * 1_000.0 / (mono - speed.0) as f64);
        if rate.is_some() {
            speed = (mono, 0);
        }
        ctx.latest.put(|m| {
            // What is not captured is reported as long as the rest is applied.
            if !matches!(m.reverse.state, ReverseState::NotReady { .. }) {
                m.reverse.state = ReverseState::Running { at };
            }
            if let Some(rate) = rate {
                m.reverse.rate = rate;
            }
        });
        if !busy {
            tokio::time::sleep(poll).await;
        }
    }
}

async fn conflicts(ctx: &Arc<WorkerContext>, table: &Table, met: &[(Key, Resolution)]) {
    for event in conflict_facts(table, met) {
        if let Err(e) = ctx.facts.state(event).await {
            tracing::warn!(table = %table.id, error = %e, "a conflict was not recorded");
        }
    }
}

/// Counts what waits and says whether the reverse flow is ready. Numbers only.
pub async fn watch(ctx: Arc<WorkerContext>) {
    let Some(ports) = ctx.reverse_ports() else { return };
    let blocks: Vec<String> = ctx
        .plan
        .tables
        .iter()
        .flat_map(|t| inverse_gaps(t, ctx.plan.kind(&t.from)).blocks.into_iter().map(|why| format!("{}: {why}", t.id)))
        .collect();
    let mut looks = 0_u64;
    let mut armed = Err("not armed yet".to_owned());
    // Whether it was armed and misses something now, and what was recorded of that.
    let (mut gaps, mut told) = (false, None);
    loop {
        if looks.is_multiple_of(CHECK_EVERY) || armed.is_err() {
            let both = futures::try_join!(ports.outbox.armed(&ctx.plan.tables), ports.outbox.gaps(&ctx.plan.tables));
            gaps = false;
            armed = match both {
                Ok((_, missed)) if !missed.is_empty() => {
                    gaps = true;
                    Err(missed.iter().map(|gap| gap.what.as_str()).collect::<Vec<_>>().join("; "))
                }
                Ok((true, _)) => Ok(()),
                Ok((false, _)) if blocks.is_empty() => Err("not armed yet".to_owned()),
                Ok((false, _)) => Err(blocks.join("; ")),
                Err(e) => Err(e.to_string()),
            };
            let missed = armed.as_ref().err().filter(|_| gaps).cloned();
            if let Some(why) = missed.as_ref().filter(|_| missed != told) {
                tell_gaps(&ctx, why).await;
            }
            told = missed;
        }
        looks += 1;
        let at = ctx.wall();
        if let Err(why) = &armed {
            ctx.latest.put(|m| {
                // The price of before was one of everything.
                let was_all = !matches!(m.reverse.state, ReverseState::NotReady { .. } | ReverseState::Off);
                if gaps && was_all && ctx.standing().open_to_customers {
                    m.at_risk = None;
                }
                m.reverse.state = ReverseState::NotReady { why: why.clone() };
            });
            if gaps {
                count(&ctx, &ports, false).await;
            }
        } else {
            count(&ctx, &ports, true).await;
            let standing = ctx.standing();
            let carrying = standing.open_to_customers && !standing.rolled_back;
            ctx.latest.put(|m| {
                if !carrying || matches!(m.reverse.state, ReverseState::NotReady { .. } | ReverseState::Off) {
                    m.reverse.state = ReverseState::Armed { at };
                }
            });
        }
        tokio::time::sleep(COUNT).await;
    }
}

/// Says what is not captured: a rollback would leave it behind.
async fn tell_gaps(ctx: &Arc<WorkerContext>, why: &str) {
    let text = format!("writes of the new side may not be carried back: {why}");
    let note = Event::Note { level: Level::Error, source: "reverse".to_owned(), text };
    if let Err(e) = ctx.facts.state(note).await {
        tracing::error!(error = %e, why, "what is not captured was not recorded");
    }
}

/// Counts what waits. Unless `all` is captured it is no price of a rollback: what was not captured waits nowhere.
async fn count(ctx: &Arc<WorkerContext>, ports: &ReversePorts, all: bool) {
    let both = futures::try_join!(ports.outbox.waiting(&ctx.plan.tables), ports.outbox.tally(&ctx.plan.tables));
    let at = ctx.wall();
    let open = ctx.standing().open_to_customers;
    match both {
        Ok((waiting, tally)) => ctx.latest.put(|m| {
            for (id, waiting) in waiting {
                let gauge = m.reverse.tables.entry(id).or_default();
                (gauge.waiting, gauge.oldest_ms) = (waiting.records, waiting.oldest_ms);
            }
            for (id, tally) in tally {
                let gauge = m.reverse.tables.entry(id).or_default();
                (gauge.carried, gauge.merged, gauge.conflicts) = (tally.carried, tally.merged, tally.conflicts);
            }
            m.reverse.at = at;
            let (rows, before) = (m.reverse.waiting(), m.outbox);
            // Growth since the last read; reads are about a second apart.
            let growth = before.and_then(|o| {
                let ms = at.since(o.at);
                (ms > 0).then(|| o.rows.map(|r| (rows as f64 - r as f64) * 1_000.0 / ms as f64)).flatten()
            });
            let oldest = (rows > 0).then(|| at.plus(-m.reverse.oldest_ms()));
            m.outbox = Some(Outbox { rows: Some(rows), oldest, growth, at });
            if all {
                m.at_risk = Some(if open { m.reverse.waiting() } else { 0 });
            }
        }),
        // An old number is not shown as a new one.
        Err(_) => ctx.latest.put(|m| {
            if all {
                m.at_risk = if open { None } else { Some(0) };
            }
            m.outbox = m.outbox.map(|o| Outbox { rows: None, growth: None, at, ..o });
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_is_left_behind_once_it_has_stood_and_not_while_it_waits_for_another() {
        let refused = |keys: &[&str]| {
            let keys = keys.iter().map(|k| Key((*k).to_owned()));
            let unfit = keys.clone().map(|k| (k, "no parent".to_owned())).collect();
            Round { unfit, refused: keys.collect(), ..Round::default() }
        };
        let mut left = LeftBehind::default();
        assert_eq!(left.of("lines", &refused(&["a", "b"]), 0), 0);
        assert_eq!(left.of("lines", &refused(&["b", "c"]), LEFT_MS - 1), 0, "another one each time");
        assert_eq!(left.of("lines", &refused(&["b", "c"]), LEFT_MS), 1, "b");
        assert_eq!(left.of("orders", &refused(&["b"]), LEFT_MS), 0, "of another table");
        assert_eq!(left.of("lines", &Round::default(), LEFT_MS + 1), 0);
        assert_eq!(left.of("lines", &refused(&["b"]), LEFT_MS + 2), 0, "it went, and came again");
        let unfit = Round { refused: BTreeSet::new(), ..refused(&["d"]) };
        assert_eq!(left.of("lines", &unfit, LEFT_MS + 3), 1, "what does not fit waits for nothing");
    }
}
