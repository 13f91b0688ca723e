//! Signed requests over our own HTTP client: what the scan and the reading of streams go through.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_types::SdkConfig;
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::DynamoSettings;
use super::fault::{answered, chain, unanswered};
use crate::ports::{ErrorKind, PortError, PortResult};

/// One of the two services, which share credentials and signing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Service {
    /// Tables.
    Tables,
    /// Streams.
    Streams,
}

impl Service {
    /// What operations are named with.
    const fn version(self) -> &'static str {
        match self {
            Self::Tables => "DynamoDB_20120810",
            Self::Streams => "DynamoDBStreams_20120810",
        }
    }

    /// Attempts of one call, the first included. A follower has a patience of its own, and says what it waits for.
    const fn attempts(self) -> u32 {
        match self {
            Self::Tables => 10,
            Self::Streams => 4,
        }
    }

    fn endpoint(self, settings: &DynamoSettings) -> Option<&String> {
        match self {
            Self::Tables => settings.endpoint.as_ref(),
            Self::Streams => settings.streams_endpoint.as_ref().or(settings.endpoint.as_ref()),
        }
    }

    fn own_endpoint(self, region: &str) -> String {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        match self {
            Self::Tables => format!("https://dynamodb.{region}.{domain}"),
            Self::Streams => format!("https://streams.dynamodb.{region}.{domain}"),
        }
    }
}

/// First and longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Longest wait for one answer, body included.
const ANSWER: Duration = Duration::from_secs(20);
/// Credentials are renewed this long before they end, and without an end after the second time.
const RENEW: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(900));

/// A signing HTTP client for one endpoint.
#[derive(Debug)]
pub(super) struct Wire {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    service: Service,
    endpoint: Uri,
    region: String,
    provider: SharedCredentialsProvider,
    identity: Mutex<Option<(Identity, SystemTime)>>,
}

impl Wire {
    /// A client for the settings' endpoint, or the configuration's, or the region's own.
    pub(super) fn new(sdk: &SdkConfig, settings: &DynamoSettings, service: Service) -> PortResult<Self> {
        let region = settings.region.clone();
        let text = service
            .endpoint(settings)
            .cloned()
            .or_else(|| sdk.endpoint_url().map(ToOwned::to_owned))
            .unwrap_or_else(|| service.own_endpoint(&region));
        let refuse = |why: String| PortError::new(ErrorKind::Invalid, "connect to DynamoDB", &text, why);
        let endpoint: Uri = text.parse().map_err(|e| refuse(format!("not a URL: {e}")))?;
        if endpoint.host().is_none() || !matches!(endpoint.scheme_str(), Some("http" | "https")) {
            return Err(
                refuse("not an http or https URL".into()).advise("write it as https://host or http://host:port")
            );
        }
        let provider = sdk.credentials_provider().ok_or_else(|| {
            PortError::new(ErrorKind::Denied, "connect to DynamoDB", &text, "no credentials are configured")
                .advise("set a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        })?;
        let tls = tls().map_err(|e| refuse(format!("TLS: {e}")))?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(5)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let http = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_timer(TokioTimer::new())
            .build(connector.wrap_connector(tcp));
        Ok(Self { http, service, endpoint, region, provider, identity: Mutex::new(None) })
    }

    /// Posts one operation, `Scan`, and gives the body of its answer. Throttles, torn connections, slow
    /// and damaged answers are tried again with growing, jittered pauses.
    pub(super) async fn post(&self, operation: &str, body: String, tried: &str, on: &str) -> PortResult<Bytes> {
        let body = Bytes::from(body);
        let mut attempt = 1;
        loop {
            let error = match self.once(operation, body.clone(), tried, on).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.kind == ErrorKind::Denied && error.came_back.starts_with("ExpiredToken") && attempt == 1 {
                *self.identity.lock().await = None;
            } else if !error.kind.transient() || attempt >= self.service.attempts() {
                return Err(error);
            }
            tokio::time::sleep(pause(attempt, fastrand::f64())).await;
            attempt += 1;
        }
    }

    async fn once(&self, operation: &str, body: Bytes, tried: &str, on: &str) -> PortResult<Bytes> {
        let request = self.signed(operation, body, tried, on).await?;
        let fetch = async {
            let answer = self
                .http
                .request(request)
                .await
                .map_err(|e| unanswered(ErrorKind::Unreachable, chain(&e), tried, on))?;
            let (head, body) = answer.into_parts();
            let body =
                body.collect().await.map_err(|e| unanswered(ErrorKind::Unreachable, chain(&e), tried, on))?.to_bytes();
            Ok((head, body))
        };
        let (head, body) = tokio::time::timeout(ANSWER, fetch).await.map_err(|_| {
            unanswered(ErrorKind::TimedOut, format!("no answer in {} s", ANSWER.as_secs()), tried, on)
        })??;
        let sum = head.headers.get("x-amz-crc32").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u32>().ok());
        if sum.is_some_and(|sum| sum != crc32fast::hash(&body)) {
            return Err(unanswered(ErrorKind::Unreachable, "the answer was damaged on its way (CRC32)", tried, on));
        }
        let status = head.status.as_u16();
        if status == 200 {
            return Ok(body);
        }
        let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
        let code = refusal.code.rsplit('#').next().unwrap_or_default();
        Err(answered(code, &refusal.message, status, tried, on))
    }

    async fn signed(&self, operation: &str, body: Bytes, tried: &str, on: &str) -> PortResult<Request<Full<Bytes>>> {
        let broken = |why: String| unanswered(ErrorKind::Invalid, why, tried, on);
        let identity = self.identity(tried, on).await?;
        let target = format!("{}.{operation}", self.service.version());
        let host = self.endpoint.authority().map(|a| a.as_str()).unwrap_or_default();
        let headers =
            [("host", host), ("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target.as_str())];
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("dynamodb")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| broken(e.to_string()))?
            .into();
        let uri = self.endpoint.to_string();
        let signable = SignableRequest::new("POST", uri, headers.into_iter(), SignableBody::Bytes(&body))
            .map_err(|e| broken(e.to_string()))?;
        let (instructions, _) = sign(signable, &params).map_err(|e| broken(e.to_string()))?.into_parts();
        let mut request = Request::post(self.endpoint.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Full::new(body))
            .map_err(|e| broken(e.to_string()))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    /// The credentials, asked for once and kept until shortly before they end. Providers do not cache.
    async fn identity(&self, tried: &str, on: &str) -> PortResult<Identity> {
        let mut kept = self.identity.lock().await;
        let now = SystemTime::now();
        if let Some((identity, until)) = kept.as_ref()
            && now < *until
        {
            return Ok(identity.clone());
        }
        let credentials: Credentials = self
            .provider
            .provide_credentials()
            .await
            .map_err(|e| unanswered(ErrorKind::Denied, chain(&e), tried, on))?;
        let until = credentials.expiry().map_or(now + RENEW.1, |end| end - RENEW.0);
        let identity = Identity::from(credentials);
        *kept = Some((identity.clone(), until));
        Ok(identity)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    #[serde(rename = "__type")]
    code: String,
    #[serde(alias = "Message")]
    message: String,
}

/// The pause after the given attempt; `random` in 0..1 spreads it over its upper half.
fn pause(attempt: u32, random: f64) -> Duration {
    let full = PAUSE.0.saturating_mul(1 << (attempt - 1).min(16)).min(PAUSE.1);
    full.mul_f64(0.5 + random / 2.0)
}

fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    // A machine without certificates can still talk plain http; https then fails with its own reason.
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!(pause(1, 0.0), Duration::from_millis(25));
        assert_eq!(pause(3, 0.0), Duration::from_millis(100));
        assert_eq!(pause(Service::Tables.attempts(), 1.0), PAUSE.1);
        assert_eq!(pause(u32::MAX, 1.0), PAUSE.1);
    }

    #[test]
    fn regions_have_their_own_endpoints() {
        let own = |service: Service, region| service.own_endpoint(region);
        assert_eq!(own(Service::Tables, "eu-west-1"), "https://dynamodb.eu-west-1.amazonaws.com");
        assert_eq!(own(Service::Tables, "cn-north-1"), "https://dynamodb.cn-north-1.amazonaws.com.cn");
        assert_eq!(own(Service::Streams, "eu-west-1"), "https://streams.dynamodb.eu-west-1.amazonaws.com");
    }
}
