//! What the subscription does, and how far it has come, by both servers' own words.
//!
//! *Applied* is what the slot at the source has confirmed: the subscription confirms what its own server has on disk, and
//! nothing before. Its changes are applied in the order of their commits, for all tables that are in step.

use std::collections::BTreeMap;

use tokio_postgres::Error;

use super::{PgSubscription, There, told};
use crate::adapters::postgres::connect::{Ask as _, Object};
use crate::adapters::postgres::names::qualified;
use crate::adapters::postgres::source::session;
use crate::adapters::postgres::source::slot;
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::ports::{MoverLook, MoverState, PortResult, Position, TableState};

/// What is tried.
const LOOK: &str = "look at the subscription";

/// Of the subscription `$1`: errors of applying and of copying, what its statistics say besides, its workers, and how far
/// the one that applies has received.
const STATISTICS: &str = "
SELECT coalesce(t.apply_error_count, 0) + coalesce(t.sync_error_count, 0), coalesce(to_jsonb(t), '{}')::text,
       (SELECT count(*) FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.pid IS NOT NULL),
       (SELECT max(w.received_lsn)::text FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.relid IS NULL)
FROM pg_subscription s LEFT JOIN pg_stat_subscription_stats t ON t.subid = s.oid WHERE s.oid = $1";

/// How each of these tables stands, in their order; how much of one that is copied is there.
const TABLES: &str = "
SELECT r.srsubstate::text, p.tuples_processed, p.bytes_processed
FROM unnest($2::text[]) WITH ORDINALITY t(name, n)
LEFT JOIN pg_subscription_rel r ON r.srsubid = $1 AND r.srrelid = to_regclass(t.name)
LEFT JOIN pg_stat_progress_copy p ON p.relid = r.srrelid AND p.datname = current_database() AND p.command = 'COPY FROM'
ORDER BY t.n";

/// Of the slot `$1` at the source: whether it is read, how far it is confirmed, and whether the server still keeps its log.
const SLOT: &str = "
SELECT active, confirmed_flush_lsn::text, coalesce(to_jsonb(s)->>'wal_status', '')
FROM pg_replication_slots s WHERE slot_name = $1";

/// How far the log of the source reaches, as far as it is on disk.
const HEAD: &str = "SELECT pg_current_wal_flush_lsn()::text";

fn position(at: u64) -> Position {
    Position(at.to_string())
}

impl PgSubscription {
    pub(super) async fn looked(&self, tables: &[Table]) -> PortResult<MoverLook> {
        let target = self.target.client().await?;
        let Some(there) = self.there(&target).await? else { return Ok(MoverLook::default()) };
        let mut look = MoverLook { state: state(&there), ..MoverLook::default() };
        self.at_target(&target, &there, tables, &mut look).await?;
        drop(target);
        self.at_source(&there, tables, &mut look).await?;
        Ok(look)
    }

    async fn at_target(
        &self,
        client: &Object,
        there: &There,
        tables: &[Table],
        look: &mut MoverLook,
    ) -> PortResult<()> {
        let name = self.called.subscription.as_str();
        let error = |e: Error| trouble::error(&e, LOOK, name);
        let Some(row) = client.ask_one(STATISTICS, &[&there.oid]).await.map_err(error)? else { return Ok(()) };
        look.errors = row.try_get::<_, i64>(0).map_err(error)?.unsigned_abs();
        let said: String = row.try_get(1).map_err(error)?;
        let workers: i64 = row.try_get(2).map_err(error)?;
        let received: Option<String> = row.try_get(3).map_err(error)?;
        look.received = received.as_deref().and_then(session::position).map(position);
        let names: Vec<String> = tables.iter().map(|table| qualified(&table.target)).collect();
        let rows = client.ask(TABLES, &[&there.oid, &names]).await.map_err(error)?;
        for (table, row) in tables.iter().zip(rows) {
            let state: Option<String> = row.try_get(0).map_err(error)?;
            let (copied, bytes): (Option<i64>, Option<i64>) =
                (row.try_get(1).map_err(error)?, row.try_get(2).map_err(error)?);
            let found = match state.as_deref() {
                Some("r") => TableState::Following,
                Some("f" | "s") => TableState::CatchingUp,
                Some("d") => {
                    TableState::Copying { rows: copied.map(i64::unsigned_abs), bytes: bytes.map(i64::unsigned_abs) }
                }
                Some("i") => TableState::Waiting,
                Some(other) => TableState::Unknown(format!("the server calls its state {other}")),
                None => {
                    let why = format!("{} is not part of the subscription {name} any more", table.target);
                    look.lost.get_or_insert_with(|| why.clone());
                    TableState::Unknown(why)
                }
            };
            look.tables.insert(table.id.clone(), found);
        }
        look.trouble = match look.state {
            MoverState::EndedElsewhere => Some(format!(
                "somebody disabled the subscription {name}, or its own server did; see the target's log, then ALTER SUBSCRIPTION \
                 {name} ENABLE"
            )),
            MoverState::Running if workers == 0 => Some(format!(
                "no worker of the subscription {name} is there: the target's server does not reach the source, its worker ends \
                 with an error each time, or max_logical_replication_workers is used up; the target's log says which, in lines \
                 that name {name}"
            )),
            MoverState::Absent
            | MoverState::Prepared
            | MoverState::Running
            | MoverState::Paused
            | MoverState::Stopped => None,
        };
        if let Some(conflicts) = conflicts(&said) {
            look.trouble.get_or_insert(format!("its server counts {conflicts}"));
        }
        Ok(())
    }

    async fn at_source(&self, there: &There, tables: &[Table], look: &mut MoverLook) -> PortResult<()> {
        let name = self.called.subscription.as_str();
        let error = |e: Error| trouble::error(&e, LOOK, name);
        let client = self.source.client().await?;
        let head = async || -> PortResult<Option<u64>> {
            let row = client.ask_one(HEAD, &[]).await.map_err(error)?;
            let text = row.map(|row| row.try_get::<_, String>(0)).transpose().map_err(error)?;
            Ok(text.as_deref().and_then(session::position))
        };
        // Before the slot: what it has confirmed by then may be more, never less.
        let began = head().await?;
        look.head = began.map(position);
        let Some(row) = client.ask_one(SLOT, &[&there.slot]).await.map_err(error)? else {
            look.lost = slot::why_gone(&client, &there.slot).await?;
            return Ok(());
        };
        let read: bool = row.try_get(0).map_err(error)?;
        let confirmed: Option<String> = row.try_get(1).map_err(error)?;
        let kept: String = row.try_get(2).map_err(error)?;
        let confirmed = confirmed.as_deref().and_then(session::position);
        look.applied = confirmed.map(position);
        match kept.as_str() {
            "lost" => look.lost = slot::why_gone(&client, &there.slot).await?,
            "unreserved" => {
                look.trouble.get_or_insert(format!(
                    "the source is about to give up the slot {} (wal_status = unreserved): raise max_slot_wal_keep_size there",
                    there.slot
                ));
            }
            _ => {}
        }
        if !read && look.state == MoverState::Running {
            look.trouble.get_or_insert(format!(
                "nobody reads the slot {} of the source: the subscription {name} is between two tries, or does not reach it",
                there.slot
            ));
        }
        if let Some(confirmed) = confirmed.filter(|confirmed| began.is_some_and(|head| *confirmed > head))
            && let Some(now) = head().await?
            && confirmed > now
        {
            look.lost = Some(format!(
                "what was committed at {} is applied, and the log of the source ends at {}: the source lost its last transactions",
                session::shown(confirmed),
                session::shown(now)
            ));
        }
        let published = slot::published(&client, &self.names, &self.published(tables)).await?;
        if look.lost.is_none() && published.iter().any(Option::is_none) {
            look.lost =
                Some(format!("a table was taken out of the publication {}, or it was altered", self.names.publication));
        }
        Ok(())
    }
}

/// What it does, by the catalogue and by what we last told it.
fn state(there: &There) -> MoverState {
    match (there.enabled, there.told.as_str()) {
        (true, _) => MoverState::Running,
        (false, told::PREPARED) => MoverState::Prepared,
        (false, told::PAUSED) => MoverState::Paused,
        (false, told::STOPPED) => MoverState::Stopped,
        (false, _) => MoverState::EndedElsewhere,
    }
}

/// Conflicts that a server from version 18 on counts, in words; none where it counts none.
fn conflicts(statistics: &str) -> Option<String> {
    let found: BTreeMap<String, serde_json::Value> = serde_json::from_str(statistics).ok()?;
    let counted = found.iter().filter_map(|(name, value)| {
        let number = value.as_u64().filter(|number| *number > 0)?;
        Some(format!("{number} {}", name.strip_prefix("confl_")?.replace('_', " ")))
    });
    let counted: Vec<String> = counted.collect();
    (!counted.is_empty()).then(|| format!("conflicts of changes with rows of the target: {}", counted.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflicts_are_named_where_the_server_counts_them() {
        assert_eq!(conflicts("{}"), None);
        assert_eq!(conflicts(r#"{"subid": 7, "confl_insert_exists": 0, "apply_error_count": 3}"#), None);
        let said = conflicts(r#"{"confl_update_missing": 2, "confl_insert_exists": 1, "stats_reset": null}"#).unwrap();
        assert!(said.ends_with("1 insert exists, 2 update missing"), "{said}");
    }

    #[test]
    fn a_subscription_that_somebody_else_disabled_is_not_one_that_we_paused() {
        let of =
            |enabled: bool, told: &str| state(&There { oid: 1, enabled, slot: String::new(), told: told.to_owned() });
        assert_eq!(of(false, told::RUNS), MoverState::EndedElsewhere);
        assert_eq!(of(false, told::PAUSED), MoverState::Paused);
        assert_eq!(of(false, told::PREPARED), MoverState::Prepared);
        assert_eq!(of(true, told::STOPPED), MoverState::Running);
        assert_eq!(of(false, "somebody's own words"), MoverState::EndedElsewhere);
    }
}
