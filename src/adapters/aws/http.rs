//! The HTTP client of every AWS call, the SDK's and our own: rustls with the machine's certificates, through the proxy
//! that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name.

use std::time::Duration;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpClient};

/// Connections that nobody uses are closed after this; services close them a little later.
const IDLE: Duration = Duration::from_secs(20);

fn with_tls(builder: ConnectorBuilder) -> Connector {
    builder.proxy_config(ProxyConfig::from_env()).tls_provider(Provider::Rustls(CryptoMode::Ring)).build()
}

/// The SDK's client.
pub(super) fn sdk_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut builder = Connector::builder();
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(|c| c.sleep_impl()));
        with_tls(builder)
    })
}

/// A client of our own, which gives up a connection that is not made in this time.
#[must_use]
pub fn connector(connect: Duration) -> Connector {
    let settings = HttpConnectorSettings::builder().connect_timeout(connect).build();
    with_tls(Connector::builder().connector_settings(settings).pool_idle_timeout(IDLE))
}
