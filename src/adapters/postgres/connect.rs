//! Making connections, and separating those that may be used from those that may not.
//!
//! Every connection has one server process of its own, on a server that takes writes. Its settings are sent with the
//! request to connect (`options`), so a pooler in between is noticed before the first statement: it refuses such
//! options, or ignores them. Only a session known to be ours has something set in it.
//!
//! A connection is asked again each time it is handed out. After a failover the first one that is found on the old
//! server ends all of its age: the next one asks the name service again and goes where the host name points now.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Manager, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::{ClientWrapper, Transaction};
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Connection, Error, NoTls, Row, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::native;
use super::password::{Password, Stale};
use super::trouble;
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, PortResult};

/// Connections to one server.
pub(super) type Pool = managed::Pool<Connector>;

/// A connection of the pool; dropping it gives it back.
pub(super) type Object = managed::Object<Connector>;

/// Longest wait for a connection's answer when it is taken from the pool.
const ASKED: Duration = Duration::from_secs(5);

/// What every connection is set to, beside the mark. Loads and scans lift the statement limit for their transaction.
/// A second statement must see what was committed while the first waited for a lock.
const OPTIONS: &str = "-c default_transaction_isolation=read\\ committed -c statement_timeout=60s -c lock_timeout=15s \
     -c idle_in_transaction_session_timeout=120s -c client_min_messages=warning";

/// Asked of a new connection. An empty mark means that the options never came through.
const WHO: &str = "SELECT coalesce(current_setting('cutover.session', true), ''), current_setting('synchronous_commit'), \
     coalesce(host(inet_server_addr()) || ':' || inet_server_port(), ''), current_user = 'cutover', \
     EXISTS (SELECT FROM pg_settings WHERE name IN ('transaction_timeout', 'idle_session_timeout') AND setting <> '0')";

/// Limits that a role or a database may set and that end a long read, an index build or a waiting connection whatever
/// the statement limit is. Not among the options: servers before 14 and 17 do not know them, and refuse a session then.
const UNLIMITED: &str = "SELECT set_config(name, '0', false) FROM pg_settings \
     WHERE name IN ('transaction_timeout', 'idle_session_timeout') AND setting <> '0'";

/// For a role with the same name as our schema: a table named without a schema is then not searched for in our schema,
/// and not created there.
const NOT_OURS: &str = r#"SELECT set_config('search_path', coalesce(nullif(regexp_replace(
     current_setting('search_path'), '"\$user"\s*(,\s*|$)', ''), ''), 'public'), false)"#;

/// Asked of a connection that has been used before.
const STILL: &str =
    "SELECT coalesce(current_setting('cutover.session', true), ''), current_setting('transaction_read_only')";

/// Who can be asked with a statement that is kept with the connection: the connection, or a transaction on it.
pub(super) trait Ask: Sync {
    /// The rows of a query.
    fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> impl Future<Output = Result<Vec<Row>, Error>> + Send;

    /// The first row of a query.
    fn ask_one(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Option<Row>, Error>> + Send {
        async { Ok(self.ask(sql, values).await?.into_iter().next()) }
    }
}

impl Ask for Object {
    async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let statement = self.prepare_cached(sql).await?;
        self.query(&statement, values).await
    }
}

impl Ask for Transaction<'_> {
    async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let statement = self.prepare_cached(sql).await?;
        self.query(&statement, values).await
    }
}

impl Ask for tokio_postgres::Client {
    async fn ask(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        self.query(sql, values).await
    }
}

/// What is asked of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Terms {
    /// Our settings, on a server that takes writes.
    Ours,
    /// Our settings, on whatever server there is.
    AnyServer,
    /// No settings: any server is accepted.
    NoSettings,
}

/// Makes connections to one server and keeps them usable.
pub(super) struct Connector {
    /// Without password and options.
    config: Config,
    tls: Option<MakeRustlsConnect>,
    /// What errors call the server.
    place: String,
    password: Password,
    /// A mark that only our own sessions have.
    mark: String,
    /// Connections made before this are not used any more: one of them was found on a server that takes no writes.
    ended: Mutex<Option<Instant>>,
}

impl Connector {
    /// Connects to nothing yet.
    pub(super) fn new(config: Config, tls: Option<MakeRustlsConnect>, place: String, password: Password) -> Self {
        let mark = format!("{:032x}", fastrand::u128(..));
        Self { config, tls, place, password, mark, ended: Mutex::default() }
    }

    async fn open(&self, password: Option<&Secret>, terms: Terms) -> Result<ClientWrapper, Error> {
        let mut config = self.config.clone();
        if terms != Terms::NoSettings {
            config.options(format!("{OPTIONS} {} -c cutover.session={}", native::SETTINGS, self.mark));
        }
        if terms == Terms::AnyServer {
            config.target_session_attrs(TargetSessionAttrs::Any);
        }
        if let Some(password) = password {
            config.password(password.reveal());
        }
        match &self.tls {
            // Boxed: they are large, and a part of everything that asks for a connection.
            None => Box::pin(config.connect(NoTls)).await.map(driven),
            Some(tls) => Box::pin(config.connect(tls.clone())).await.map(driven),
        }
    }

    /// Connects; a password that is refused is read again, once.
    async fn admitted(&self, terms: Terms) -> Result<ClientWrapper, Refusal> {
        let tried = self.password.now();
        match self.open(tried.password.as_ref(), terms).await {
            Err(e) if trouble::refuses_login(&e) => match self.password.again(&tried).await {
                Ok(Some(password)) => self.open(Some(&password), terms).await.map_err(Refusal::Server),
                Ok(None) => Err(Refusal::Server(e)),
                Err(why) => Err(self.stale(&e, &why)),
            },
            Err(e) => Err(Refusal::Server(e)),
            Ok(client) => Ok(client),
        }
    }

    /// The server's refusal, with what came of reading the password again.
    fn stale(&self, e: &Error, why: &Stale) -> Refusal {
        let said = trouble::error(e, "connect to", &self.place);
        let came_back = format!("{}; {why}", said.came_back);
        Refusal::Said(PortError { came_back, advice: why.advice(), ..said })
    }

    /// What to say when the options were refused or swallowed: where the server itself is, if it can be asked.
    async fn between(&self, said: &str) -> PortError {
        let server = match self.admitted(Terms::NoSettings).await {
            Ok(client) => first_row(&client, WHO).await.ok().flatten().and_then(|row| text(&row, 2)),
            Err(_) => None,
        };
        between(&self.place, said, server.as_deref())
    }

    /// A connection to a server that takes no writes, to ask it why; closed when it is dropped.
    pub(super) async fn look(&self) -> PortResult<ClientWrapper> {
        self.connect(Terms::AnyServer).await
    }

    /// A new connection, if it may be used.
    async fn connect(&self, terms: Terms) -> PortResult<ClientWrapper> {
        let client = match self.admitted(terms).await {
            Ok(client) => client,
            Err(Refusal::Said(said)) => return Err(said),
            Err(Refusal::Server(e)) if trouble::refuses_options(&e) => {
                return Err(self.between(&format!("it refused our settings: {}", trouble::words(&e))).await);
            }
            Err(Refusal::Server(e)) => return Err(trouble::error(&e, "connect to", &self.place)),
        };
        let error = |e: Error| trouble::error(&e, "connect to", &self.place);
        let row = first_row(&client, WHO).await.map_err(error)?;
        let word = |n| row.as_ref().and_then(|row| text(row, n)).unwrap_or_default();
        if word(0) != self.mark {
            let server = Some(word(2)).filter(|place| !place.is_empty());
            return Err(between(&self.place, "our settings did not reach the server", server.as_deref()));
        }
        if word(1) == "off" {
            // Commits wait for the disk. The session is known to be ours by now, and ends with the connection.
            client.batch_execute("SET synchronous_commit = on").await.map_err(error)?;
        }
        if word(3) == "t" {
            client.batch_execute(NOT_OURS).await.map_err(error)?;
        }
        if word(4) == "t" {
            client.batch_execute(UNLIMITED).await.map_err(error)?;
        }
        Ok(client)
    }

    /// Why a connection that was used before may not be used again.
    async fn unfit(&self, client: &ClientWrapper) -> Option<&'static str> {
        if client.is_closed() {
            return Some("it is closed");
        }
        match tokio::time::timeout(ASKED, first_row(client, STILL)).await {
            Err(_) => Some("it does not answer"),
            Ok(Err(_)) => Some("it broke"),
            Ok(Ok(None)) => Some("it gave no answer"),
            Ok(Ok(Some(row))) if text(&row, 0).as_ref() != Some(&self.mark) => Some("another session answers"),
            Ok(Ok(Some(row))) => (text(&row, 1).as_deref() != Some("off")).then_some("its server is read-only now"),
        }
    }
}

impl Manager for Connector {
    type Type = ClientWrapper;
    type Error = PortError;

    async fn create(&self) -> PortResult<ClientWrapper> {
        self.connect(Terms::Ours).await
    }

    async fn recycle(&self, client: &mut ClientWrapper, metrics: &Metrics) -> RecycleResult<PortError> {
        let ended = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_some_and(|ended| metrics.created <= ended) {
            return Err(RecycleError::message("another one of its age was found unfit"));
        }
        let Some(why) = self.unfit(client).await else { return Ok(()) };
        tracing::warn!(server = %self.place, why, "connections are made anew");
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Err(RecycleError::message(why))
    }
}

/// Why there is no connection.
enum Refusal {
    /// What the server or the way there said.
    Server(Error),
    /// An answer already.
    Said(PortError),
}

fn driven<S, T>((client, connection): (tokio_postgres::Client, Connection<S, T>)) -> ClientWrapper
where
    Connection<S, T>: Future<Output = Result<(), Error>> + Send + 'static,
{
    let task = tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::warn!(error = %trouble::words(&e), "a connection ended");
        }
    });
    ClientWrapper::new(client, task)
}

/// Through the simple protocol: it needs no prepared statement, which a pooler could give to somebody else.
async fn first_row(client: &ClientWrapper, sql: &str) -> Result<Option<SimpleQueryRow>, Error> {
    let answers = client.simple_query(sql).await?;
    Ok(answers.into_iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }))
}

fn text(row: &SimpleQueryRow, column: usize) -> Option<String> {
    row.try_get(column).ok().flatten().map(str::to_owned)
}

/// Why a pooler is refused, and where to go instead.
pub(super) fn between(place: &str, said: &str, server: Option<&str>) -> PortError {
    let direct = match server {
        Some(server) => format!("the server says that it is {server} itself"),
        None => "see where it sends its connections (RDS Proxy: the cluster's writer endpoint)".to_owned(),
    };
    PortError::new(ErrorKind::Invalid, "connect to", place, format!("a connection pooler answers there: {said}"))
        .advise(format!(
            "name the server itself, host and port, in the database's section of the config, not the pooler in front of it; {direct}"
        ))
}
