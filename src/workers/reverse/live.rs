//! Carrying while customers are on the new side, and what is shown of it.
//!
//! Pausing the run does not pause this: the price of a rollback would grow with every second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Carrier, conflict_facts};
use crate::domain::gauge::{Outbox, ReverseState};
use crate::domain::mapping::{Clash, Wins, survey};
use crate::domain::plan::Table;
use crate::domain::value::Key;
use crate::ports::{ErrorKind, PortError, ReversePorts};
use crate::workers::crew::Crew;
use crate::workers::pace::pause;

/// What waits is counted this often.
const COUNT: Duration = Duration::from_secs(1);
/// Whether every table is still captured is asked this often, in counts.
const LOOK_AGAIN: u64 = 5;

/// Carries until the crew stops or a rollback is ordered. Trouble is retried for ever: there is nothing better to do,
/// and the outbox keeps what waits.
pub async fn carry_back(crew: Arc<Crew>) {
    let Some(ports) = crew.reverse_ports() else { return };
    let mut attempt = 0;
    while !crew.going_back.load(Ordering::Acquire) {
        let stopped = match Carrier::open(&crew.plan, &ports).await {
            Ok(mut carrier) => carry(&crew, &mut carrier, &mut attempt).await,
            Err(e) => e,
        };
        if crew.going_back.load(Ordering::Acquire) {
            return;
        }
        // Somebody else carrying is no trouble of the way.
        if stopped.kind != ErrorKind::Throttled {
            tracing::warn!(error = %stopped, "carrying back stopped");
        }
        attempt += 1;
        let since = crew.wall();
        crew.board.put(|m| {
            let since = if let ReverseState::Down { since, .. } = m.reverse.state { since } else { since };
            m.reverse.state = ReverseState::Down { since, why: stopped.to_string() };
        });
        tokio::time::sleep(pause(attempt)).await;
    }
}

/// Rounds over all tables until one fails; gives why.
async fn carry(crew: &Arc<Crew>, carrier: &mut Carrier, attempt: &mut u32) -> PortError {
    let poll = Duration::from_millis(crew.plan.reverse.poll_ms.max(10));
    // Once a rollback is ordered, customers may write on the old side, and what they write there is newer.
    let rule = || if crew.going_back.load(Ordering::Acquire) { Wins::Old } else { Wins::New };
    let mut speed = (crew.mono(), 0);
    for table in &crew.plan.tables {
        match carrier.conflicts(table).await {
            Ok(before) => conflicts(crew, table, &before).await,
            Err(e) => return e,
        }
    }
    loop {
        let mut busy = false;
        for table in &crew.plan.tables {
            if crew.going_back.load(Ordering::Acquire) {
                return PortError::new(ErrorKind::Conflict, "carry back", &table.id, "a rollback was ordered");
            }
            let round = match carrier.round(table, crew.plan.reverse.batch, &rule).await {
                Ok(None) => continue,
                Ok(Some(round)) => round,
                Err(e) => return e,
            };
            busy |= round.tally.carried > 0;
            speed.1 += round.tally.carried;
            conflicts(crew, table, &round.conflicts).await;
            if let Some((key, why)) = round.unfit.first() {
                tracing::warn!(table = %table.id, key = %key.0, why, keys = round.unfit.len(), "cannot be carried back");
            }
            crew.board.put(|m| m.reverse.tables.entry(table.id.clone()).or_default().unfit = round.unfit.len() as u64);
            if let Some(e) = round.trouble {
                return e;
            }
        }
        *attempt = 0;
        let (at, mono) = (crew.wall(), crew.mono());
        let rate = (mono - speed.0 >= 2_000).then(|| speed.1 as f64 * 1_000.0 / (mono - speed.0) as f64);
        if rate.is_some() {
            speed = (mono, 0);
        }
        crew.board.put(|m| {
            m.reverse.state = ReverseState::Running { at };
            if let Some(rate) = rate {
                m.reverse.rate = rate;
            }
        });
        if !busy {
            tokio::time::sleep(poll).await;
        }
    }
}

async fn conflicts(crew: &Arc<Crew>, table: &Table, met: &[(Key, Clash)]) {
    for event in conflict_facts(table, met) {
        if let Err(e) = crew.facts.state(event).await {
            tracing::warn!(table = %table.id, error = %e, "a conflict was not recorded");
        }
    }
}

/// Counts what waits and says whether the way back for data is open. Numbers only.
pub async fn watch(crew: Arc<Crew>) {
    let Some(ports) = crew.reverse_ports() else { return };
    let blocks: Vec<String> = crew
        .plan
        .tables
        .iter()
        .flat_map(|t| survey(t).blocks.into_iter().map(|why| format!("{}: {why}", t.id)))
        .collect();
    let mut looks = 0_u64;
    let mut armed = Err("not armed yet".to_owned());
    loop {
        if looks.is_multiple_of(LOOK_AGAIN) || armed.is_err() {
            armed = match ports.outbox.armed(&crew.plan.tables).await {
                Ok(true) => Ok(()),
                Ok(false) if blocks.is_empty() => Err("not armed yet".to_owned()),
                Ok(false) => Err(blocks.join("; ")),
                Err(e) => Err(e.to_string()),
            };
        }
        looks += 1;
        let at = crew.wall();
        if let Err(why) = &armed {
            crew.board.put(|m| m.reverse.state = ReverseState::NotReady { why: why.clone() });
        } else {
            count(&crew, &ports).await;
            let carrying = crew.let_in.load(Ordering::Acquire) && !crew.priced.load(Ordering::Acquire);
            crew.board.put(|m| {
                if !carrying || matches!(m.reverse.state, ReverseState::NotReady { .. } | ReverseState::Off) {
                    m.reverse.state = ReverseState::Armed { at };
                }
            });
        }
        tokio::time::sleep(COUNT).await;
    }
}

async fn count(crew: &Arc<Crew>, ports: &ReversePorts) {
    let both = futures::try_join!(ports.outbox.waiting(&crew.plan.tables), ports.outbox.tally(&crew.plan.tables));
    let at = crew.wall();
    let open = crew.let_in.load(Ordering::Acquire);
    match both {
        Ok((waiting, tally)) => crew.board.put(|m| {
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
            // Growth over the last look; looks are about a second apart.
            let growth = before.and_then(|o| {
                let ms = at.since(o.at);
                (ms > 0).then(|| o.rows.map(|r| (rows as f64 - r as f64) * 1_000.0 / ms as f64)).flatten()
            });
            let oldest = (rows > 0).then(|| at.plus(-m.reverse.oldest_ms()));
            m.outbox = Some(Outbox { rows: Some(rows), oldest, growth, at });
            m.at_risk = Some(if open { m.reverse.waiting() } else { 0 });
        }),
        // An old number is not shown as a new one.
        Err(_) => crew.board.put(|m| {
            m.at_risk = if open { None } else { Some(0) };
            m.outbox = m.outbox.map(|o| Outbox { rows: None, growth: None, at, ..o });
        }),
    }
}
