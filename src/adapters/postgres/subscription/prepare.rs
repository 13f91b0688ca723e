//! Making the subscription, and letting it work.

use deadpool_postgres::Transaction;
use tokio_postgres::Error;

use super::{PgSubscription, SubscriberSettings, There, marks, told};
use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::owner::{self, Of};
use crate::adapters::postgres::retry::{self, Failure};
use crate::adapters::postgres::source::slot::{self, Slot};
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult};

/// What is tried.
const MAKE: &str = "make the subscription";
const START: &str = "start the subscription";

/// The statement that makes or changes the subscription has the password in it: where this role may say so, the server
/// writes it into no log and no statistics, for this transaction.
pub(super) const QUIET: &str = "
SELECT set_config(v.name, v.value, true)
FROM (VALUES ('log_statement', 'none'), ('log_min_duration_statement', '-1'), ('log_min_duration_sample', '-1'),
             ('log_duration', 'off'), ('log_min_error_statement', 'panic'), ('pg_stat_statements.track_utility', 'off'),
             ('auto_explain.log_min_duration', '-1')) v(name, value)
WHERE current_setting('is_superuser') = 'on' AND current_setting(v.name, true) IS NOT NULL";

/// Tables of the publication that the subscription `$1` does not have, as the target calls them.
const LACKS: &str = "
SELECT string_agg(t.name, ', ') FROM unnest($2::text[]) t(name)
WHERE NOT EXISTS (SELECT FROM pg_subscription_rel r WHERE r.srsubid = $1 AND r.srrelid = to_regclass(t.name))";

/// The statement that writes down what the subscription is meant to do.
pub(super) fn says(subscription: &str, told: &str) -> String {
    format!("COMMENT ON SUBSCRIPTION {} IS '{told}'", ident(subscription))
}

/// Sees that every table is the plan's and not open to customers, until the transaction ends.
async fn ours(tx: &Transaction<'_>, plan: &str, tables: &[Table], tried: &str) -> Result<(), Failure> {
    tx.batch_execute(&owner::shared(plan)).await?;
    for table in tables {
        owner::stands(tx, Of { plan, table: &table.id }, true, (tried, &table.target)).await?;
    }
    Ok(())
}

impl PgSubscription {
    fn wrong(&self, kind: ErrorKind, why: impl Into<String>) -> PortError {
        PortError::new(kind, MAKE, &self.called.subscription, why)
    }

    fn subscriber(&self) -> PortResult<&SubscriberSettings> {
        let why = "nothing says how the target's server reaches the source";
        self.subscriber
            .as_ref()
            .ok_or_else(|| self.wrong(ErrorKind::Invalid, why).advise("add `subscriber` to the source's section"))
    }

    /// The tables that are published: the plan's, and ours with the markers.
    pub(super) fn published(&self, tables: &[Table]) -> Vec<Table> {
        let marks = Table { target: self.called.marks.clone(), ..Table::watched("marks", &self.called.marks) };
        tables.iter().cloned().chain([marks]).collect()
    }

    /// Publication, slot and subscription, in this order; what is there and fits is taken as it is. Gives its name, which
    /// says where its slot begins.
    pub(super) async fn make(&self, tables: &[Table]) -> PortResult<String> {
        let subscriber = self.subscriber()?;
        let on = self.called.subscription.as_str();
        let (source, mut target) = (self.source.client().await?, self.target.client().await?);
        let mut there = self.there(&target).await?;
        let published = self.published(tables);
        if let Some(begun) = there.as_ref().filter(|there| there.told != told::PREPARED) {
            // It was started: what changed since stands behind its own slot, or nowhere.
            self.still_whole(&source, begun, &published).await?;
        }
        let error = |e: Error| trouble::error(&e, "make the table of markers for", on);
        marks::at_source(&source, &self.called.marks, &subscriber.user).await.map_err(error)?;
        let slot = slot::enable(&source, &self.names, &published).await?;
        if let Some(older) = there.take_if(|there| there.slot != slot.name) {
            // It never began, and its slot was made anew since.
            self.remove_from_target(&target, &older).await?;
        }
        let oid = match there {
            Some(there) => {
                self.reach_anew(&mut target, subscriber).await?;
                there.oid
            }
            None => self.create(&mut target, subscriber, &slot, (tables, &published)).await?,
        };
        // Sessions keep their last statement for whoever may look.
        let error = |e: Error| trouble::error(&e, MAKE, on);
        target.batch_execute("SELECT").await.map_err(error)?;
        self.note_at_source(&source, &target, oid).await?;
        Ok(format!("subscription/{}/{}/{oid}", slot.system, slot.name))
    }

    /// Sees that a subscription that was started has its publication and its slot still.
    async fn still_whole(&self, source: &Object, there: &There, published: &[Table]) -> PortResult<()> {
        let slot = slot::find(source, &self.names).await?.filter(|slot| slot.name == there.slot);
        let entries = slot::published(source, &self.names, published).await?;
        let why = match slot {
            Some(_) if entries.iter().all(Option::is_some) => return Ok(()),
            Some(_) => format!("its publication {} has not all tables any more", self.names.publication),
            None => {
                let why = slot::why_gone(source, &there.slot).await?;
                why.unwrap_or_else(|| format!("it reads from the slot {}, which is not the plan's newest", there.slot))
            }
        };
        let advice = "changes may be missing; open a new run, which loads again";
        Err(self.wrong(ErrorKind::Trimmed, why).advise(advice))
    }

    /// Makes the subscription, disabled, with the table of markers; gives its number.
    async fn create(
        &self,
        target: &mut Object,
        subscriber: &SubscriberSettings,
        slot: &Slot,
        (tables, published): (&[Table], &[Table]),
    ) -> PortResult<u32> {
        let on = self.called.subscription.as_str();
        let conninfo = subscriber.conninfo(&self.database);
        let names: Vec<String> = published.iter().map(|table| qualified(&table.target)).collect();
        let made = async {
            let tx = target.transaction().await?;
            ours(&tx, &self.plan, tables, MAKE).await?;
            let marks = qualified(&self.called.marks);
            tx.batch_execute(&format!("DROP TABLE IF EXISTS {marks}; {}", marks::create(&self.called.marks))).await?;
            tx.execute(QUIET, &[]).await?;
            // No worker beside the one that applies, but for those that copy: what is at work is plain to see.
            let sql = format!(
                "CREATE SUBSCRIPTION {} CONNECTION '{}' PUBLICATION {}
                 WITH (connect = true, enabled = false, create_slot = false, slot_name = '{}', copy_data = true, streaming = off)",
                ident(on),
                conninfo.reveal().replace('\'', "''"),
                ident(&self.names.publication),
                slot.name,
            );
            tx.batch_execute(&sql).await?;
            tx.batch_execute(&says(on, told::PREPARED)).await?;
            let Some(there) = self.there(&tx).await? else {
                return Err(self.wrong(ErrorKind::NotFound, "what was just made is not there").into());
            };
            let lacks: Option<String> = tx.query_one(LACKS, &[&there.oid, &names]).await?.try_get(0)?;
            if let Some(lacks) = lacks {
                let why = format!(
                    "the database that the target's server reaches as {} does not publish {lacks}: it is another one",
                    subscriber.place()
                );
                let advice = "name the source itself as `subscriber`, as the target's server reaches it";
                return Err(self.wrong(ErrorKind::Invalid, why).advise(advice).into());
            }
            tx.commit().await.map_err(Failure::Commit)?;
            Ok(there.oid)
        };
        made.await.map_err(|failure| self.unreached(retry::answer(failure, MAKE, on), subscriber))
    }

    /// The statement that says how the source is reached: with the password in it.
    fn reached_as(&self, subscriber: &SubscriberSettings) -> String {
        let conninfo = subscriber.conninfo(&self.database);
        let on = ident(&self.called.subscription);
        format!("ALTER SUBSCRIPTION {on} CONNECTION '{}'", conninfo.reveal().replace('\'', "''"))
    }

    /// Tells a subscription that is there how the source is reached now: a password may have been rotated.
    async fn reach_anew(&self, target: &mut Object, subscriber: &SubscriberSettings) -> PortResult<()> {
        let on = self.called.subscription.as_str();
        let told = async {
            let tx = target.transaction().await?;
            tx.execute(QUIET, &[]).await?;
            tx.batch_execute(&self.reached_as(subscriber)).await?;
            tx.commit().await.map_err(Failure::Commit)
        };
        told.await.map_err(|failure| self.unreached(retry::answer(failure, MAKE, on), subscriber))
    }

    /// An error of a statement that connects to the source from the target: never with the password, and with what to do.
    pub(super) fn unreached(&self, e: PortError, subscriber: &SubscriberSettings) -> PortError {
        let e = match &subscriber.password {
            Some(password) => e.without(password),
            None => e,
        };
        if e.came_back.contains("could not connect to the publisher") {
            let advice = format!(
                "see that the target's server reaches the source as {}: address, pg_hba.conf there, password, sslmode; they are \
                 `subscriber` in the source's section",
                subscriber.place()
            );
            return PortError { kind: ErrorKind::Unreachable, ..e }.advise(advice);
        }
        e
    }

    /// Writes down at the source whose slots belong to the subscription: those of its copying are called by its number and
    /// its server's, and may have to be found when the target is gone.
    async fn note_at_source(&self, source: &Object, target: &Object, oid: u32) -> PortResult<()> {
        let on = self.called.subscription.as_str();
        let error = |e: Error| trouble::error(&e, MAKE, on);
        let sql = "SELECT system_identifier::text FROM pg_control_system()";
        let system: String = target.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(error)?;
        let note = format!("COMMENT ON TABLE {} IS '{oid} {system}'", qualified(&self.called.marks));
        source.batch_execute(&note).await.map_err(error)
    }

    /// Lets it work, while every table is the plan's and none is open to customers.
    pub(super) async fn enable(&self, tables: &[Table]) -> PortResult<()> {
        let on = self.called.subscription.as_str();
        let mut target = self.target.client().await?;
        let enabled = async {
            let tx = target.transaction().await?;
            ours(&tx, &self.plan, tables, START).await?;
            let Some(there) = self.there(&tx).await? else {
                let gone = PortError::new(ErrorKind::NotFound, START, on, "it is not there");
                return Err(gone.advise("run the capture step, which makes it").into());
            };
            // As it is reached now: a password may have been rotated since it was made.
            if let Some(subscriber) = &self.subscriber {
                tx.execute(QUIET, &[]).await?;
                tx.batch_execute(&self.reached_as(subscriber)).await?;
            }
            if !there.enabled {
                tx.batch_execute(&format!("ALTER SUBSCRIPTION {} ENABLE", ident(on))).await?;
            }
            if there.told != told::RUNS {
                tx.batch_execute(&says(on, told::RUNS)).await?;
            }
            tx.commit().await.map_err(Failure::Commit)
        };
        enabled.await.map_err(|failure: Failure| {
            let e = retry::answer(failure, START, on);
            self.subscriber.as_ref().map_or_else(|| e.clone(), |subscriber| self.unreached(e.clone(), subscriber))
        })?;
        match self.there(&target).await? {
            Some(there) if there.enabled => Ok(()),
            Some(_) | None => Err(PortError::new(ErrorKind::Conflict, START, on, "it reads back as not enabled")
                .advise("see who disables it")),
        }
    }
}
