//! What the server or the driver says, as port errors.

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::refusal;
use crate::ports::{ErrorKind, PortError};

/// Whether the same transaction may well succeed when it is run again.
pub(super) fn is_collision(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| matches!(db.code().code(), "40001" | "40P01"))
}

/// Whether a statement was refused because one before it had failed: the answer that says why was overtaken.
pub(super) fn is_behind(error: &Error) -> bool {
    error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
}

/// Whether a commit that failed this way may have happened all the same.
pub(super) fn is_unknown(error: &Error) -> bool {
    error.as_db_error().is_none_or(|db| db.code().code().starts_with("57P") || db.code().code().starts_with("08"))
}

/// An error of a statement.
pub(super) fn error(e: &Error, tried: &str, on: &str) -> PortError {
    let Some(db) = e.as_db_error() else {
        return connection(e, tried, on);
    };
    let code = db.code().code();
    let kind = match code {
        "28P01" | "28000" | "42501" => ErrorKind::Denied,
        "3D000" | "42P01" | "3F000" | "42703" => ErrorKind::NotFound,
        "57014" => ErrorKind::TimedOut,
        "53300" | "53400" | "55P03" => ErrorKind::Throttled,
        "40001" | "40P01" => ErrorKind::Internal,
        // The word of a statement sent behind one that failed: the failure itself may pass.
        "25P02" => ErrorKind::Internal,
        "25006" => ErrorKind::Denied,
        _ if code.starts_with("08") || code.starts_with("57P") => ErrorKind::Unreachable,
        _ if code.starts_with("53") || code.starts_with("58") || code.starts_with("XX") => ErrorKind::Internal,
        _ => ErrorKind::Invalid,
    };
    let advice = match code {
        "28P01" => "check the user and the password in [target]",
        "28000" => "check pg_hba.conf, the user and the sslmode",
        "42501" => "grant the user what it needs; `cutover check` lists it",
        "3D000" => "create the database or correct its name in [target]",
        "42P01" | "3F000" | "42703" => "create the table first, or correct the name in the mapping",
        "57014" => "the statement ran into its time limit; look for locks in pg_stat_activity",
        "53300" => "raise max_connections or lower the pool",
        "55P03" => "another session holds a lock; see pg_locks",
        "25006" => "this is a read-only server (a replica?); use the writer's address",
        _ => "",
    };
    let came_back = format!("{} ({})", refusal::words(db), refusal::facts(db, true));
    PortError::new(kind, tried, on, came_back).advise(advice)
}

fn connection(e: &Error, tried: &str, on: &str) -> PortError {
    let mut words = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(inner) = cause {
        let inner_words = inner.to_string();
        if !words.contains(&inner_words) {
            words = format!("{words}: {inner_words}");
        }
        cause = inner.source();
    }
    if words.contains("password missing") {
        return PortError::new(ErrorKind::Denied, tried, on, words).advise("set the password in [target]");
    }
    if words.contains("certificate") || words.contains("TLS") || words.contains("tls") {
        return PortError::new(ErrorKind::Denied, tried, on, words)
            .advise("check sslmode and ca_file, and that the server's certificate names this host");
    }
    if e.is_closed() || cause_is_io(e) {
        return PortError::new(ErrorKind::Unreachable, tried, on, words)
            .advise("check host, port and network, and that the server is up");
    }
    PortError::new(ErrorKind::Internal, tried, on, words)
}

fn cause_is_io(e: &Error) -> bool {
    let mut cause = std::error::Error::source(e);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    // Name resolution and connect time-outs carry no source that says so.
    let words = e.to_string();
    words.contains("connect") || words.contains("timeout") || words.contains("communicating")
}

/// An error of the pool: usually of the connection it tried to make.
pub(super) fn pool(e: &PoolError, place: &str) -> PortError {
    match e {
        PoolError::Backend(inner) => error(inner, "connect to", place),
        PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(inner)) => error(inner, "connect to", place),
        PoolError::Timeout(kind) => {
            PortError::new(ErrorKind::Unreachable, "connect to", place, format!("no connection in time ({kind:?})"))
                .advise("check host and port; or raise the pool when all connections are busy")
        }
        other => PortError::new(ErrorKind::Internal, "connect to", place, other.to_string()),
    }
}
