//! One pooled HTTP/1.1 client over rustls with the machine's own certificates.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// A client for `http` and `https` that keeps connections open.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The machine's certificates could not be read.
#[derive(Debug, thiserror::Error)]
#[error("no HTTPS client: {0}; install ca-certificates or set SSL_CERT_FILE")]
pub struct HttpClientError(String);

/// Builds a client. Certificates are read once.
pub fn http_client() -> Result<HttpClient, HttpClientError> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    let tls = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|e| HttpClientError(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(std::time::Duration::from_secs(5)));
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(std::time::Duration::from_secs(30))
        .build(https))
}
