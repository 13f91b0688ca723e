//! How to reach the server, and the pool of connections to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode as DriverSslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

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
    /// Encryption.
    pub sslmode: SslMode,
    /// PEM file of certificate authorities; absent means the system's.
    pub ca_file: Option<PathBuf>,
    /// Most connections at the same time.
    pub pool: usize,
}

/// Longest wait for a connection, new or from the pool.
const CONNECT: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(30);

/// What every connection is set to. Loads and scans lift the statement limit for their transaction.
/// Durable means durable: a server that acknowledges before the disk is told not to.
/// A second statement must see what was committed while the first waited for a lock.
const SESSION: &str = "SET default_transaction_isolation = 'read committed'; SET statement_timeout = '60s'; SET lock_timeout = '15s'; \
     SET idle_in_transaction_session_timeout = '120s'; SET timezone = 'UTC'; SET client_min_messages = 'warning'; \
     SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

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
            .ssl_mode(match self.sslmode {
                SslMode::Disable => DriverSslMode::Disable,
                SslMode::Prefer => DriverSslMode::Prefer,
                SslMode::Require | SslMode::VerifyFull => DriverSslMode::Require,
            });
        if let Some(password) = &self.password {
            config.password(password.reveal());
        }
        // One round trip more each time, and no connection that died while it was idle.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Verified };
        let manager = match self.sslmode {
            SslMode::Disable => Manager::from_config(config, NoTls, recycling),
            _ => Manager::from_config(config, MakeRustlsConnect::new(self.tls()?), recycling),
        };
        Pool::builder(manager)
            .max_size(self.pool.max(2))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move { client.batch_execute(SESSION).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(|e| PortError::new(ErrorKind::Internal, "open the pool of", self.place(), e.to_string()))
    }

    fn tls(&self) -> PortResult<ClientConfig> {
        let wrong = |what: String| PortError::new(ErrorKind::Invalid, "set up TLS for", self.place(), what);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(e.to_string()))?;
        if self.sslmode != SslMode::VerifyFull {
            let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)));
            return Ok(config.with_no_client_auth());
        }
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.ca_file {
            let advice = "point ca_file at a PEM file of certificate authorities";
            let found = CertificateDer::pem_file_iter(file)
                .map_err(|e| wrong(format!("{}: {e}", file.display())).advise(advice))?;
            for cert in found {
                let cert = cert.map_err(|e| wrong(format!("{}: {e}", file.display())).advise(advice))?;
                roots.add(cert).map_err(|e| wrong(format!("{}: {e}", file.display())).advise(advice))?;
            }
        } else {
            for cert in rustls_native_certs::load_native_certs().certs {
                // A system store may hold certificates that rustls does not take; the others count.
                let _ = roots.add(cert);
            }
        }
        if roots.is_empty() {
            return Err(wrong("no certificate authorities".into()).advise("set ca_file"));
        }
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Accepts any certificate, as `sslmode=require` does: encrypted, not verified. Signatures are checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
