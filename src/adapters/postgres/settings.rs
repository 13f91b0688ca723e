//! How to reach the server, and the pool of connections to it.

use std::path::PathBuf;
use std::time::Duration;

use deadpool::Runtime;
use tokio_postgres::config::{SslMode as DriverSslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connect::{Connector, Pool};
use super::password::{Password, PasswordSource};
use super::tls;
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, PortError, PortResult};

/// How connections are encrypted, as `libpq` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// When the server offers it; not verified.
    #[default]
    Prefer,
    /// Always; not verified.
    Require,
    /// Always, with the server's certificate and name verified.
    VerifyFull,
}

/// How to reach a PostgreSQL server.
#[derive(Clone, Debug)]
pub struct PgSettings {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database name.
    pub database: String,
    /// User name.
    pub user: String,
    /// Password, if the server asks for one.
    pub password: Option<Secret>,
    /// Where the password is read again when the server refuses it.
    pub password_source: Option<PasswordSource>,
    /// Encryption.
    pub sslmode: SslMode,
    /// PEM file of certificate authorities; absent means the system's.
    pub ca_file: Option<PathBuf>,
    /// Most connections at the same time.
    pub pool: usize,
}

/// Longest wait for one address to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for a connection to be made: several addresses, a password read again.
const CREATE: Duration = Duration::from_secs(30);
/// Longest wait for a connection of the pool to be free.
const WAIT: Duration = Duration::from_secs(30);
/// When data that was sent stays unacknowledged for so long, the connection is dead, not slow.
const SILENT: Duration = Duration::from_secs(30);

impl PgSettings {
    /// What errors call the server: `user@host:port/database`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }

    /// The pool. Connects to nothing yet.
    pub(super) fn pool(&self) -> PortResult<Pool> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .dbname(&self.database)
            .user(&self.user)
            .application_name("cutover")
            .connect_timeout(CONNECT)
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .tcp_user_timeout(SILENT)
            // A name may still lead to a server that was demoted, or to several of which one takes writes.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .ssl_mode(match self.sslmode {
                SslMode::Disable => DriverSslMode::Disable,
                SslMode::Prefer => DriverSslMode::Prefer,
                SslMode::Require | SslMode::VerifyFull => DriverSslMode::Require,
            });
        let tls = match self.sslmode {
            SslMode::Disable => None,
            SslMode::Prefer | SslMode::Require => Some(tls::unverified()),
            SslMode::VerifyFull => Some(tls::verified(self.ca_file.as_deref(), &self.host)),
        };
        let tls = tls.transpose().map_err(|e| PortError { on: self.place(), ..e })?.map(MakeRustlsConnect::new);
        let password = Password::new(self.password.clone(), self.password_source.clone());
        // A connection is checked by the pool's manager each time it is taken, with a time limit of its own.
        Pool::builder(Connector::new(config, tls, self.place(), password))
            .max_size(self.pool.max(2))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(CREATE))
            .build()
            .map_err(|e| PortError::new(ErrorKind::Internal, "open the pool of", self.place(), e.to_string()))
    }
}
