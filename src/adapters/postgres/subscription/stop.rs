//! Ending the subscription's work, so that nothing of it writes any more.
//!
//! Disabling it keeps workers from being started. Those that are there are ended, which rolls back what they have under
//! way: the source sends it again, should the work go on. A worker that is started meanwhile reads, after it has shown
//! itself among the workers, whether the subscription is enabled, and ends. So once the disabling is committed and
//! no worker is there, none can write.

use std::time::{Duration, Instant};

use tokio_postgres::Error;

use super::PgSubscription;
use super::prepare::says;
use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::names::ident;
use crate::adapters::postgres::trouble;
use crate::ports::{ErrorKind, PortError, PortResult};

/// What is tried.
const STOP: &str = "stop the subscription";
/// How long its workers may take to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause between two looks: customers may be waiting.
const LOOK: Duration = Duration::from_millis(10);

/// Ends the workers of a subscription; gives how many there were.
const END: &str = "
SELECT count(pg_terminate_backend(w.pid)) FROM pg_stat_subscription w WHERE w.subid = $1 AND w.pid IS NOT NULL";

impl PgSubscription {
    /// Disables it and waits until no worker of it is left. One that is not there has none.
    pub(super) async fn end_work(&self, told: &str) -> PortResult<()> {
        let client = self.target.client().await?;
        self.end_work_over(&client, told).await
    }

    /// The same over a connection.
    pub(super) async fn end_work_over(&self, client: &Object, told: &str) -> PortResult<()> {
        let on = self.called.subscription.as_str();
        let error = |e: Error| trouble::error(&e, STOP, on);
        let Some(there) = self.there(client).await? else { return Ok(()) };
        if there.enabled || there.told != told {
            // Both or none, as statements that are sent together are.
            let sql = format!("ALTER SUBSCRIPTION {} DISABLE; {}", ident(on), says(on, told));
            client.batch_execute(&sql).await.map_err(error)?;
        }
        let began = Instant::now();
        loop {
            let workers: i64 =
                client.query_one(END, &[&there.oid]).await.and_then(|row| row.try_get(0)).map_err(error)?;
            if workers == 0 {
                break;
            }
            if began.elapsed() > PATIENCE {
                let why = format!("{workers} of its workers are still there after {} s", PATIENCE.as_secs());
                return Err(PortError::new(ErrorKind::TimedOut, STOP, on, why)
                    .advise("see pg_stat_subscription and pg_stat_activity at the target, and end them there"));
            }
            tokio::time::sleep(LOOK).await;
        }
        match self.there(client).await? {
            Some(there) if there.enabled => {
                Err(PortError::new(ErrorKind::Conflict, STOP, on, "somebody enabled it again").advise("see who does"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
