//! A database as its sessions find it: settings, event triggers, encoding, and who is open for long.

use std::time::Duration;

use tokio_postgres::Error;

use super::connect::{Ask as _, Object};
use super::open;
use crate::ports::{SessionSetting, Surroundings};

/// A transaction that has been open for so long may outlast what a capture waits: the lock limit of our sessions.
const LONG: Duration = Duration::from_secs(15);

const DATABASE: &str = "SELECT d.datname::text, pg_encoding_to_char(d.encoding)::text,
    coalesce((SELECT array_agg(e.evtname || ' (' || e.evtevent || ')' ORDER BY e.evtname) FROM pg_event_trigger e
              WHERE e.evtenabled <> 'D'), '{}')
FROM pg_database d WHERE d.datname = current_database()";

/// What the database sets, and what roles set that applications sign in as.
const SETTINGS: &str = "
SELECT r.rolname::text, s.setdatabase <> 0, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole CROSS JOIN unnest(s.setconfig) c
WHERE (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND (s.setrole = 0 OR r.rolcanlogin)
ORDER BY r.rolname NULLS FIRST, s.setdatabase <> 0, 3";

pub(super) async fn of(client: &Object) -> Result<Surroundings, Error> {
    let row = client.query_one(DATABASE, &[]).await?;
    let mut settings = Vec::new();
    for row in client.ask(SETTINGS, &[]).await? {
        let (role, here) = (row.try_get(0)?, row.try_get(1)?);
        settings.push(SessionSetting { role, here, name: row.try_get(2)?, value: row.try_get(3)? });
    }
    Ok(Surroundings {
        database: row.try_get(0)?,
        encoding: row.try_get(1)?,
        settings,
        event_triggers: row.try_get(2)?,
        oldest: open::oldest(client, LONG).await?,
    })
}
