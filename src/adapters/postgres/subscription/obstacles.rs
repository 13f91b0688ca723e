//! Everything that keeps a subscription from moving the plan's tables, found before anything is made.

use std::collections::BTreeMap;

use tokio_postgres::Error;

use super::{PgSubscription, SubscriberSettings, strangers};
use crate::adapters::postgres::connect::{Ask as _, Object};
use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::owner;
use crate::adapters::postgres::source::{catalogue, fit, obstacles};
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, Obstacle, PortError, PortResult};

/// What is tried.
const ASK: &str = "look for what keeps a subscription from moving rows at";

/// The target's server: its version, whether this role may make a subscription, the workers that are free and those that one
/// subscription copies with, origins that are free, and the role and the database.
const TARGET: &str = "
SELECT current_setting('server_version_num')::int,
       r.rolsuper
       OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname IN ('rds_superuser', 'pg_create_subscription') AND pg_has_role(g.oid, 'USAGE')
                  AND has_database_privilege(current_database(), 'CREATE')),
       current_setting('max_logical_replication_workers')::bigint
           - (SELECT count(*) FROM pg_stat_subscription w JOIN pg_subscription s ON s.oid = w.subid
              WHERE w.pid IS NOT NULL AND s.subname <> $1),
       current_setting('max_sync_workers_per_subscription')::bigint,
       coalesce(current_setting('max_active_replication_origins', true), current_setting('max_replication_slots'))::bigint
           - (SELECT count(*) FROM pg_replication_origin o
              WHERE o.roname NOT IN (SELECT 'pg_' || s.oid FROM pg_subscription s WHERE s.subname = $1)),
       r.rolname::text, current_database()::text
FROM pg_roles r WHERE r.rolname = current_user";

/// Of the source: whether the role `$1` is there, may sign in and read the log, and senders that are free.
const SOURCE: &str = "
SELECT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1 AND r.rolcanlogin),
       EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1 AND (r.rolsuper OR r.rolreplication OR EXISTS (
                   SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication' AND pg_has_role(r.oid, g.oid, 'USAGE')))),
       current_setting('max_wal_senders')::bigint - (SELECT count(*) FROM pg_stat_replication),
       current_setting('synchronous_standby_names')";

/// Of a table of the source: whether the role `$2`, if it is there, may read it, and whether it is partitioned.
const READS: &str = "
SELECT CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = $2)
            THEN has_schema_privilege($2, c.relnamespace, 'USAGE') AND has_table_privilege($2, c.oid, 'SELECT') END, c.relkind = 'p'
FROM pg_class c WHERE c.oid = to_regclass($1)";

/// What is wrong, what to do about it, and whether it is a right that is missing.
fn obstacle(wrong: impl Into<String>, advice: impl Into<String>, rights: bool) -> Obstacle {
    Obstacle { wrong: wrong.into(), advice: advice.into(), rights }
}

impl PgSubscription {
    pub(super) async fn all_obstacles(&self, tables: &[Table]) -> PortResult<Vec<Obstacle>> {
        let Some(subscriber) = &self.subscriber else {
            let wrong = "nothing says how the target's server reaches the source";
            return Ok(vec![obstacle(wrong, "add `subscriber` to the source's section", false)]);
        };
        let (source, mut target) = (self.source.client().await?, self.target.client().await?);
        let mut found = obstacles::of(&source, &self.names, tables).await?;
        self.of_target(&target, &mut found).await?;
        self.of_source(&source, subscriber, &mut found).await?;
        for table in tables {
            self.of_table((&source, &target), subscriber, table, &mut found).await?;
        }
        // Only what could be made is asked of a server that could make it.
        if found.is_empty() && self.there(&target).await?.is_none() {
            found.extend(self.reached(&mut target, subscriber).await?);
        }
        Ok(found)
    }

    async fn of_target(&self, client: &Object, found: &mut Vec<Obstacle>) -> PortResult<()> {
        let error = |e: Error| trouble::error(&e, ASK, &self.target.place);
        let row = client.ask_one(TARGET, &[&self.called.subscription]).await.map_err(error)?;
        let Some(row) = row else { return Ok(()) };
        let number = |n: usize| row.try_get::<_, i64>(n).map_err(error);
        let version: i32 = row.try_get(0).map_err(error)?;
        let may: bool = row.try_get(1).map_err(error)?;
        let (role, database): (String, String) = (row.try_get(5).map_err(error)?, row.try_get(6).map_err(error)?);
        if version < 150_000 {
            let wrong = format!("the target's server is version {}", version / 10_000);
            found.push(obstacle(
                wrong,
                "only from version 15 on a server counts the errors of its subscriptions",
                false,
            ));
        }
        if !may {
            let advice = if version < 160_000 {
                format!(
                    "before version 16 only a superuser may: ALTER ROLE {role} SUPERUSER (on RDS: GRANT rds_superuser TO {role})"
                )
            } else {
                format!("GRANT pg_create_subscription TO {role}; GRANT CREATE ON DATABASE {database} TO {role}")
            };
            found.push(obstacle(format!("{role} has no right to make a subscription in {database}"), advice, true));
        }
        let (workers, sync, origins) = (number(2)?, number(3)?, number(4)?);
        if workers < 2 {
            let wrong = format!(
                "{workers} of the target's workers for replication are free, and one applies while others copy"
            );
            let advice =
                "raise max_logical_replication_workers, and max_worker_processes with it, and restart the server";
            found.push(obstacle(wrong, advice, false));
        }
        if sync < 1 {
            let wrong = "max_sync_workers_per_subscription is 0 at the target: nothing would be copied";
            found.push(obstacle(wrong, "set it to 1 or more and reload the server", false));
        }
        if origins < 2 {
            let wrong = format!(
                "{origins} replication origins are free at the target, and 2 are needed while a table is copied"
            );
            let advice = "raise max_replication_slots (from version 18 on max_active_replication_origins) and restart the server";
            found.push(obstacle(wrong, advice, false));
        }
        Ok(())
    }

    async fn of_source(
        &self,
        client: &Object,
        subscriber: &SubscriberSettings,
        found: &mut Vec<Obstacle>,
    ) -> PortResult<()> {
        let error = |e: Error| trouble::error(&e, ASK, &self.source.place);
        let user = subscriber.user.as_str();
        let Some(row) = client.ask_one(SOURCE, &[&user]).await.map_err(error)? else { return Ok(()) };
        let (there, reads): (bool, bool) = (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
        let senders: i64 = row.try_get(2).map_err(error)?;
        let standbys: String = row.try_get(3).map_err(error)?;
        if !there {
            let wrong = format!("the source has no role {user} that may sign in, and the subscriber signs in as it");
            found.push(obstacle(wrong, format!("CREATE ROLE {user} LOGIN REPLICATION, or name another `user`"), true));
        } else if !reads {
            let advice = format!("ALTER ROLE {user} REPLICATION (on RDS and Aurora: GRANT rds_replication TO {user})");
            found.push(obstacle(
                format!("{user}, as whom the subscriber signs in, may not read the log"),
                advice,
                true,
            ));
        }
        if senders < 2 && self.there_reads(client).await? == 0 {
            let wrong = format!("{senders} of the source's WAL senders are free, and one applies while others copy");
            found.push(obstacle(wrong, "raise max_wal_senders and restart the server", false));
        }
        if fit::waits_for(&standbys, &self.called.subscription) {
            let wrong = format!(
                "synchronous_standby_names is {standbys} at the source: commits of customers would wait until the subscription has \
                 applied them"
            );
            let advice =
                format!("name the standbys there one by one; the subscription is called {}", self.called.subscription);
            found.push(obstacle(wrong, advice, false));
        }
        Ok(())
    }

    /// Senders at the source that read for this subscription already.
    async fn there_reads(&self, client: &Object) -> PortResult<i64> {
        let error = |e: Error| trouble::error(&e, ASK, &self.source.place);
        let sql = "SELECT count(*) FROM pg_replication_slots WHERE starts_with(slot_name::text, $1)";
        let row = client.ask_one(sql, &[&self.names.prefix]).await.map_err(error)?;
        row.map_or(Ok(0), |row| row.try_get(0)).map_err(error)
    }

    async fn of_table(
        &self,
        (source, target): (&Object, &Object),
        subscriber: &SubscriberSettings,
        table: &Table,
        found: &mut Vec<Obstacle>,
    ) -> PortResult<()> {
        let error = |e: Error| trouble::error(&e, ASK, &table.source);
        let user = subscriber.user.as_str();
        // One that is not there has been named.
        let Some(row) = source.ask_one(READS, &[&qualified(&table.source), &user]).await.map_err(error)? else {
            return Ok(());
        };
        let (reads, partitioned): (Option<bool>, bool) =
            (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
        if reads == Some(false) {
            let wrong = format!("{user}, as whom the subscriber signs in, may not read {}", table.source);
            found.push(obstacle(wrong, format!("GRANT SELECT ON {} TO {user}", table.source), true));
        }
        if partitioned {
            let wrong =
                format!("{} is partitioned, and this program moves no partitions by subscription", table.source);
            found.push(obstacle(wrong, "leave `mover` out for it: the console moves it itself", false));
            return Ok(());
        }
        let of_source = catalogue::columns(source, &table.source).await.map_err(error)?;
        let of_target = catalogue::columns(target, &table.target).await.map_err(error)?;
        let targets = owner::server_names(target, table).await.map_err(error)?;
        if let Some((wrong, advice)) = strangers(target, &self.plan, table, &targets).await.map_err(error)? {
            found.push(obstacle(wrong, advice, false));
        }
        // One that is not there is made by the set_up step, and looked at again before anything is copied.
        if of_target.is_empty() {
            return Ok(());
        }
        let mut there: BTreeMap<&str, _> = of_target.iter().map(|column| (column.name.as_str(), column)).collect();
        for column in &of_source {
            let (name, wanted) = (column.name.as_str(), column.written.as_str());
            match there.remove(name) {
                _ if column.generated => {}
                None => found.push(obstacle(
                    format!(
                        "{} has no column {name}, which {} has: a subscription takes every column",
                        table.target, table.source
                    ),
                    format!("ALTER TABLE {} ADD COLUMN {} {wanted}", table.target, ident(name)),
                    false,
                )),
                Some(here) if here.generated => found.push(obstacle(
                    format!("{}.{name} is generated, and a subscription would write to it", table.target),
                    "drop its expression, or let the console move this table itself",
                    false,
                )),
                // The server reads what it is sent as the type of its own column, and rounds without a word.
                Some(here) if here.written != wanted => found.push(obstacle(
                    format!("{}.{name} is {}, and at the source it is {wanted}", table.target, here.written),
                    format!("give both the same type, or let the console move {} itself", table.id),
                    false,
                )),
                Some(_) => {}
            }
        }
        for column in there.into_values().filter(|column| column.required && !column.generated) {
            let wrong = format!("{}.{} needs a value, and the source has no such column", table.target, column.name);
            found.push(obstacle(wrong, "give it a default", false));
        }
        Ok(())
    }

    /// Whether the target's server reaches the source as it is told to: asked by making a subscription that is taken back in
    /// the same transaction.
    async fn reached(&self, target: &mut Object, subscriber: &SubscriberSettings) -> PortResult<Option<Obstacle>> {
        let asked = async {
            let tx = target.transaction().await?;
            tx.execute(super::prepare::QUIET, &[]).await?;
            // It publishes nothing yet, so nothing is looked for.
            let sql = format!(
                "SET LOCAL client_min_messages = error; CREATE SUBSCRIPTION {} CONNECTION '{}' PUBLICATION {}
                 WITH (connect = true, enabled = false, create_slot = false, slot_name = NONE, copy_data = false)",
                ident(&format!("{}_asked", self.called.subscription)),
                subscriber.conninfo(&self.database).reveal().replace('\'', "''"),
                ident(&format!("{}_asked", self.names.publication)),
            );
            tx.batch_execute(&sql).await?;
            tx.rollback().await
        };
        let Err(e) = asked.await else { return Ok(None) };
        let e = self.unreached(trouble::error(&e, ASK, &self.target.place), subscriber);
        match e.kind {
            ErrorKind::Unreachable if e.came_back.contains("publisher") => {
                let PortError { came_back, advice, .. } = e;
                Ok(Some(obstacle(format!("the target's server does not reach the source: {came_back}"), advice, false)))
            }
            ErrorKind::Denied | ErrorKind::Invalid => {
                let PortError { came_back, advice, .. } = e;
                Ok(Some(obstacle(format!("the target's server makes no subscription: {came_back}"), advice, true)))
            }
            ErrorKind::Throttled
            | ErrorKind::Unreachable
            | ErrorKind::ReadOnly
            | ErrorKind::TimedOut
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Expired
            | ErrorKind::Rewound
            | ErrorKind::Trimmed
            | ErrorKind::Internal => Err(e),
        }
    }
}
