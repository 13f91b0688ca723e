//! Connections of an application to PostgreSQL.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, Error, NoTls};

use crate::domain::secret::Secret;
use crate::rehearsal::oracle::Outcome;

/// Most connections of an application to one database.
const CONNECTIONS: usize = 12;
/// Longest wait for one of them.
const WAIT: Duration = Duration::from_secs(4);

/// A pool that connects when it is first asked.
///
/// # Errors
/// The connection text cannot be read; the error does not quote it.
pub(in crate::rehearsal) fn pool(connection: &Secret) -> Result<Pool, String> {
    // The parser's own error may quote the secret.
    let config: Config =
        connection.reveal().parse().map_err(|_| "the secret names no PostgreSQL database".to_owned())?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_config(config, NoTls, recycling))
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT))
        .create_timeout(Some(WAIT))
        .build()
        .map_err(|e| e.to_string())
}

/// A connection out of the pool.
///
/// # Errors
/// Nobody answers, or all are in use for too long.
pub(in crate::rehearsal) async fn connection(pool: &Pool) -> Result<Object, String> {
    pool.get().await.map_err(|_| "no connection".to_owned())
}

/// An error without values: the SQL state, or that there was none.
pub(in crate::rehearsal) fn said(error: &Error) -> String {
    error.code().map_or("no connection".to_owned(), |state| format!("SQL state {}", state.code()))
}

/// What the answer to a commit means for its write.
pub(in crate::rehearsal) fn committed(answer: Result<(), Error>) -> Outcome {
    match answer {
        Ok(()) => Outcome::Acknowledged,
        Err(e) => match e.code() {
            // The server says that it did not commit, except when it cannot know.
            Some(state) if *state != SqlState::TRANSACTION_RESOLUTION_UNKNOWN => Outcome::Refused,
            Some(_) | None => Outcome::Unknown,
        },
    }
}
