//! The HTTP client of every AWS call, the SDK's and our own: rustls with the machine's certificates, through the proxy
//! that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name.
//!
//! Addresses that only this machine can reach (credentials of an instance or a container) are never asked for through a
//! proxy: it would ask its own, or hand out somebody else's credentials.

use std::net::IpAddr;
use std::time::Duration;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// Connections that nobody uses are closed after this; services close them a little later.
const IDLE: Duration = Duration::from_secs(20);

fn with_tls(builder: ConnectorBuilder, proxy: ProxyConfig) -> Connector {
    builder.proxy_config(proxy).tls_provider(Provider::Rustls(CryptoMode::Ring)).build()
}

/// Two ways out, and which one an address takes.
#[derive(Clone, Debug)]
struct Ways<T> {
    direct: T,
    proxied: T,
}

impl<T> Ways<T> {
    fn to(&self, address: &str) -> &T {
        let uri = address.parse::<http::Uri>();
        let near = uri.is_ok_and(|uri| uri.host().is_some_and(is_near));
        if near { &self.direct } else { &self.proxied }
    }
}

/// Whether a host is this machine, or answers this machine only.
fn is_near(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        // EC2 and EKS give credentials out in this network of theirs.
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unicast_link_local() || ip.segments()[..2] == [0xfd00, 0x0ec2],
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// The SDK's client.
pub(super) fn sdk_client() -> SharedHttpClient {
    let client = |proxy: ProxyConfig| {
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut builder = Connector::builder();
            builder.set_connector_settings(settings.cloned());
            builder.set_sleep_impl(components.and_then(|c| c.sleep_impl()));
            with_tls(builder, proxy.clone())
        })
    };
    let ways = Ways { direct: client(ProxyConfig::disabled()), proxied: client(ProxyConfig::from_env()) };
    SharedHttpClient::new(ways)
}

impl HttpClient for Ways<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Ways {
            direct: self.direct.http_connector(settings, components),
            proxied: self.proxied.http_connector(settings, components),
        })
    }
}

impl HttpConnector for Ways<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.to(request.uri()).call(request)
    }
}

/// A client of our own, which gives up a connection that is not made in this time.
#[must_use]
pub fn connector(connect: Duration) -> SharedHttpConnector {
    through(connect, ProxyConfig::from_env())
}

fn through(connect: Duration, proxy: ProxyConfig) -> SharedHttpConnector {
    let way = |proxy| {
        let settings = HttpConnectorSettings::builder().connect_timeout(connect).build();
        SharedHttpConnector::new(with_tls(
            Connector::builder().connector_settings(settings).pool_idle_timeout(IDLE),
            proxy,
        ))
    };
    SharedHttpConnector::new(Ways { direct: way(ProxyConfig::disabled()), proxied: way(proxy) })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every request with its own name.
    async fn answers(name: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                let said =
                    format!("HTTP/1.1 200 OK\r\nx-who: {name}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(said.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn what_only_this_machine_reaches_is_never_asked_for_through_a_proxy() {
        let (proxy, here) = (answers("proxy").await, answers("here").await);
        let proxy = ProxyConfig::http(format!("http://127.0.0.1:{proxy}")).unwrap();
        let client = through(Duration::from_secs(5), proxy);
        for (host, who) in [("127.0.0.1", "here"), ("localhost", "here"), ("dynamodb.invalid", "proxy")] {
            let mut request = HttpRequest::empty();
            request.set_uri(format!("http://{host}:{here}/v2/credentials")).unwrap();
            let answer = client.call(request).await.unwrap();
            assert_eq!(answer.headers().get("x-who"), Some(who), "{host}");
        }
    }

    #[test]
    fn places_that_give_out_credentials_are_near() {
        for near in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "127.9.9.9",
            "[::1]",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
            "[fe80::1]",
            "LOCALHOST",
            "aws.localhost.",
        ] {
            assert!(is_near(near), "{near}");
        }
        for far in ["sts.amazonaws.com", "10.0.0.1", "169.253.1.1", "[fd00:ec3::1]", "localhost.example.com"] {
            assert!(!is_near(far), "{far}");
        }
    }
}
