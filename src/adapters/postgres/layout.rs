//! Which layout the bookkeeping in schema `cutover` has. What another version of this program keeps there in another
//! layout is never read, changed or added to: its run has to be ended with that version.

use tokio_postgres::Error;

use super::connect::{Ask, Object};
use super::target::PgTarget;
use super::{retry, trouble};
use crate::ports::{ErrorKind, PortError, PortResult};

/// The layout of this version. A version that changes what is kept raises it.
pub(super) const LAYOUT: i32 = 1;

/// Makes the table that names the layout, first of all.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS cutover.layout (one boolean PRIMARY KEY DEFAULT true CHECK (one), number integer NOT NULL);
INSERT INTO cutover.layout (number) VALUES (1) ON CONFLICT DO NOTHING;
";

/// Whether the layout is named, whether tables are there that know no plan, and whether the lease names a run. Reads
/// the catalogue only.
const QUERY: &str = "
WITH kept AS (
    SELECT c.oid, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'cutover' AND c.relkind = 'r'),
has AS (
    SELECT k.relname, a.attname FROM kept k JOIN pg_attribute a ON a.attrelid = k.oid AND NOT a.attisdropped)
SELECT EXISTS (SELECT FROM kept WHERE relname = 'layout'),
       EXISTS (SELECT FROM kept k WHERE k.relname IN ('lease', 'stream')
               AND NOT EXISTS (SELECT FROM has h WHERE h.relname = k.relname AND h.attname = 'plan')),
       EXISTS (SELECT FROM has WHERE relname = 'lease' AND attname = 'run')";

/// What keeps bookkeeping there in another layout.
pub(super) struct Other {
    /// The version, as far as it is known, and what it keeps.
    pub wrong: String,
    /// What ends that.
    pub advice: String,
}

impl Other {
    fn refused(self, tried: &str) -> PortError {
        PortError::new(ErrorKind::Conflict, tried, "schema cutover", self.wrong).advise(self.advice)
    }
}

/// What is kept there in another layout, if anything is. Reads only.
pub(super) async fn other(client: &impl Ask) -> Result<Option<Other>, Error> {
    let Some(row) = client.ask_one(QUERY, &[]).await? else { return Ok(None) };
    let (named, no_plan, runs): (bool, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let number = match named {
        true => client.ask_one("SELECT number FROM cutover.layout", &[]).await?,
        false => None,
    };
    let number: Option<i32> = number.map(|row| row.try_get(0)).transpose()?;
    let version = match number {
        Some(number) if number > LAYOUT => "a later version",
        Some(number) if number < LAYOUT => "an earlier version",
        _ if no_plan => "an earlier version",
        _ => return Ok(None),
    };
    let run = match runs {
        true => client.ask_one("SELECT string_agg(DISTINCT run, ', ') FROM cutover.lease WHERE run <> ''", &[]).await?,
        false => None,
    };
    let run: Option<String> = run.map(|row| row.try_get(0)).transpose()?.flatten();
    let whose = run.as_ref().map_or_else(|| "of a run that it does not name".to_owned(), |run| format!("of run {run}"));
    let back = run.map_or_else(|| "cutover rollback".to_owned(), |run| format!("cutover rollback {run}"));
    Ok(Some(Other {
        wrong: format!("{version} of this program keeps the bookkeeping {whose} there"),
        advice: format!(
            "finish that run with that version, or take it back with it ({back}). That version has no command that ends its \
             plans: once every run of it is over and nobody wants to go back any more, its schema is removed by hand, with \
             what it keeps and captures of all of them: DROP SCHEMA cutover CASCADE"
        ),
    }))
}

/// Refuses what is kept there in another layout.
pub(super) async fn ours(client: &impl Ask, tried: &str) -> PortResult<()> {
    match other(client).await.map_err(|e| trouble::error(&e, "read the layout of", "schema cutover"))? {
        None => Ok(()),
        Some(other) => Err(other.refused(tried)),
    }
}

impl PgTarget {
    /// Whether bookkeeping that is there is of this version's layout. Asked once.
    ///
    /// # Errors
    /// `Conflict` when another version keeps a run's bookkeeping there: which run, and how that ends.
    pub async fn in_our_layout(&self) -> PortResult<()> {
        let look = async || {
            let client: Object = retry::client(self.pool(), self.place()).await?;
            ours(&client, "use").await
        };
        self.layout.get_or_try_init(look).await.map(drop)
    }
}
