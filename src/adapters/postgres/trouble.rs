//! What the server or the driver says, as port errors.

use deadpool::managed::{PoolError, TimeoutType};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::{connect, refusal, tls};
use crate::ports::{ErrorKind, PortError};

/// Whether the same transaction may well succeed when it is run again.
pub(super) fn is_collision(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| matches!(db.code().code(), "40001" | "40P01"))
}

/// Whether a statement was refused because one before it had failed: the answer that says why came earlier.
pub(super) fn is_behind(error: &Error) -> bool {
    error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
}

/// Whether a commit that failed this way may have happened all the same.
pub(super) fn is_unknown(error: &Error) -> bool {
    error.as_db_error().is_none_or(|db| db.code().code().starts_with("57P") || db.code().code().starts_with("08"))
}

/// Whether the server refused to let us sign in, as it does with a password that was changed. A service that keeps
/// accounts elsewhere (LDAP, IAM) says it in another code.
pub(super) fn refuses_login(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| matches!(db.code().code(), "28P01" | "28000"))
}

/// Whether what answers does not take settings with the request to connect, as only poolers do: PgBouncer calls it a
/// breach of the protocol, RDS Proxy a feature that is missing.
pub(super) fn refuses_options(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        let of_options = db.message().contains("startup parameter") || db.message().contains("command-line options");
        matches!(db.code().code(), "08P01" | "0A000") && of_options
    })
}

/// An error of a statement.
pub(super) fn error(e: &Error, tried: &str, on: &str) -> PortError {
    let Some(db) = e.as_db_error() else {
        return connection(e, tried, on);
    };
    let code = db.code().code();
    let (kind, advice) = of_code(code);
    let came_back = format!("{} ({})", refusal::words(db), refusal::facts(db, true));
    if matches!(code, "26000" | "42P05") {
        // Prepared statements are known to one connection and have names of their own there: another session's are in
        // the way.
        let said = format!("prepared statements do not stay with their connection: {came_back}");
        return PortError { tried: tried.to_owned(), ..connect::between(on, &said, None) };
    }
    PortError::new(kind, tried, on, came_back).advise(advice)
}

/// What an SQLSTATE means for whoever asked, and what to do about it.
pub(super) fn of_code(code: &str) -> (ErrorKind, &'static str) {
    let kind = match code {
        "28P01" | "28000" | "42501" => ErrorKind::Denied,
        "3D000" | "42P01" | "3F000" | "42703" => ErrorKind::NotFound,
        "57014" => ErrorKind::TimedOut,
        "53300" | "53400" | "55P03" | "55006" => ErrorKind::Throttled,
        "40001" | "40P01" => ErrorKind::Internal,
        // The error of a statement sent behind one that failed: the failure itself may pass.
        "25P02" => ErrorKind::Internal,
        // Demoted during the session, or a time limit ended the session: another connection may succeed.
        "25006" => ErrorKind::ReadOnly,
        "25P03" | "25P04" => ErrorKind::Unreachable,
        _ if code.starts_with("08") || code.starts_with("57P") => ErrorKind::Unreachable,
        _ if code.starts_with("53") || code.starts_with("58") || code.starts_with("XX") => ErrorKind::Internal,
        _ => ErrorKind::Invalid,
    };
    let advice = match code {
        "28P01" => "check `user` and `password` in the database's section of the config",
        "28000" => "check pg_hba.conf at the server, and `user` and `sslmode` in the database's section of the config",
        "42501" => "grant the user what it needs; `cutover check` lists it",
        "3D000" => "create the database, or correct `database` in the database's section of the config",
        "42P01" | "3F000" | "42703" => "create the table first, or correct the name in the mapping",
        "57014" => "the statement ran into its time limit; look for locks in pg_stat_activity",
        "53300" => "raise max_connections or lower the pool",
        "55P03" => "another session holds a lock, perhaps autovacuum; see pg_locks and pg_stat_activity",
        "55006" => "another session uses it; see pg_stat_activity",
        "25006" => READ_ONLY,
        "P0001" => {
            "see what the server's log says it raised, and what calls it: a trigger of the table, or an event trigger \
             (pg_event_trigger), which may forbid DDL"
        }
        "22P05" => {
            "the database's encoding has no such character (or a jsonb holds \\u0000, which no text there can): change the value \
             where it is written; `cutover check` names databases whose encodings differ"
        }
        "22021" => {
            "a text there is not valid in its encoding: in a database encoded in SQL_ASCII nothing checks texts, and one that is \
             no UTF-8 cannot be carried; find it with convert_from(textsend(COLUMN), 'UTF8') under client_encoding = SQL_ASCII, \
             and mend it there"
        }
        "42P10" => {
            "the table lacks its key: while it is loaded, or after a load that never ended, the key is set aside; let the load end \
             first (`cutover run`)"
        }
        "428C9" => {
            "the column is GENERATED ALWAYS: ALTER TABLE ... ALTER COLUMN ... SET GENERATED BY DEFAULT lets it be written"
        }
        _ => "",
    };
    (kind, advice)
}

/// What to do about a server that takes no writes.
const READ_ONLY: &str = "the server is read-only: a replica, a primary that was demoted, one whose disk is full, or one \
     whose sessions are read-only by default. Each attempt connects anew, so a failover passes by itself; if it stays, name the writer as \
     `host` in the database's section of the config, or see who set default_transaction_read_only: where it keeps customers out, except the \
     console's role (ALTER ROLE ... IN DATABASE ... SET default_transaction_read_only = off)";

/// The driver's words, with what is behind them.
pub(super) fn words(e: &Error) -> String {
    let mut words = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(inner) = cause {
        let inner_words = inner.to_string();
        if !words.contains(&inner_words) {
            words = format!("{words}: {inner_words}");
        }
        cause = inner.source();
    }
    words
}

fn connection(e: &Error, tried: &str, on: &str) -> PortError {
    if let Some(why) = tls::not_believed(e) {
        return PortError::new(ErrorKind::Denied, tried, on, &why.came_back).advise(&why.advice);
    }
    let words = words(e);
    if words.contains("password missing") {
        return PortError::new(ErrorKind::Denied, tried, on, words)
            .advise("set `password` in the database's section of the config");
    }
    // The driver's word for `transaction_read_only`, see `target_session_attrs`.
    if words.contains("does not allow writes") {
        return PortError::new(ErrorKind::ReadOnly, tried, on, "it is a read-only server").advise(READ_ONLY);
    }
    if words.contains("server does not support TLS") {
        return PortError::new(ErrorKind::Denied, tried, on, "the server does not speak TLS").advise(
            "turn `ssl` on at the server; sslmode = \"disable\" sends everything in plain text, which only a private \
             line allows",
        );
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
    // Name resolution and connect time-outs have no error source that says so.
    let words = e.to_string();
    words.contains("connect") || words.contains("timeout") || words.contains("communicating")
}

/// An error of the pool: usually of the connection it tried to make.
pub(super) fn pool(e: PoolError<PortError>, place: &str) -> PortError {
    let late =
        |what: &str, advice: &str| PortError::new(ErrorKind::Unreachable, "connect to", place, what).advise(advice);
    match e {
        PoolError::Backend(e) => e,
        PoolError::Timeout(TimeoutType::Wait) => late(
            "every connection is busy",
            "raise `pool` in the database's section of the config, or look for locks in pg_stat_activity",
        ),
        PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => late(
            "no connection in time",
            "check `host` and `port` in the database's section of the config, and the network",
        ),
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            PortError::new(ErrorKind::Internal, "connect to", place, e.to_string())
        }
    }
}
