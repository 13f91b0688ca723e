//! Signed requests over our own HTTP client: what the scan and the reading of streams go through.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::DynamoSettings;
use super::fault::{answered, chain, unanswered};
use crate::adapters::aws::{self, Clock, address};
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

    /// The same, for those who know where it is.
    const fn at(self) -> aws::Service {
        match self {
            Self::Tables => aws::Service::Dynamodb,
            Self::Streams => aws::Service::Streams,
        }
    }

    fn endpoint(self, settings: &DynamoSettings) -> Option<&String> {
        match self {
            Self::Tables => settings.endpoint.as_ref(),
            Self::Streams => settings.streams_endpoint.as_ref().or(settings.endpoint.as_ref()),
        }
    }
}

/// First and longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// The same for a request that must not land late.
pub(super) const BRIEF: Duration = Duration::from_secs(8);
/// Longest wait for one answer, body included.
const ANSWER: Duration = Duration::from_secs(20);
/// Credentials are renewed this long before they end, and without an end after the second time.
const RENEW: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(900));
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// A signature that is refused, with a clock that turns out to be further off than this, is refused for the clock.
const SKEW_MS: u64 = 4 * 60_000;

/// On what terms a request is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    /// Nothing is sent that could still be under way then: the clock is looked at last, and the answer is not waited for
    /// longer than [`BRIEF`].
    pub until: Option<Instant>,
    /// What becomes of throttles.
    pub throttles: Throttles,
}

/// What becomes of a throttle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Throttles {
    /// It is waited off here, as other errors that may pass.
    #[default]
    WaitedOff,
    /// It is told at once: who asks goes slower by himself.
    Told,
}

/// A signing HTTP client for one endpoint.
#[derive(Debug)]
pub(super) struct Wire {
    http: SharedHttpConnector,
    service: Service,
    endpoint: Uri,
    region: String,
    provider: SharedCredentialsProvider,
    identity: Mutex<Option<(Identity, SystemTime)>>,
    /// The service's clock: requests are signed with its time.
    clock: Clock,
}

impl Wire {
    /// A client for where the SDK's own client goes with these settings.
    pub(super) fn new(sdk: &SdkConfig, settings: &DynamoSettings, service: Service) -> PortResult<Self> {
        let region = settings.region.clone();
        let given = service.endpoint(settings).map(String::as_str);
        let on = given.map_or_else(|| format!("region {region}"), str::to_owned);
        let refuse = |why: String| PortError::new(ErrorKind::Invalid, "connect to DynamoDB", &on, why);
        let text = address(sdk, service.at(), given).map_err(refuse)?;
        let endpoint: Uri = text.parse().map_err(|e| refuse(format!("{text} is not a URL: {e}")))?;
        if endpoint.host().is_none() || !matches!(endpoint.scheme_str(), Some("http" | "https")) {
            return Err(refuse(format!("{text} is not an http or https URL"))
                .advise("write it as https://host or http://host:port"));
        }
        let provider = sdk.credentials_provider().ok_or_else(|| {
            PortError::new(ErrorKind::Denied, "connect to DynamoDB", &text, "no credentials are configured")
                .advise("set a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        })?;
        let (http, clock) = (aws::connector(CONNECT), Clock::default());
        Ok(Self { http, service, endpoint, region, provider, identity: Mutex::new(None), clock })
    }

    /// The region that requests are signed for.
    pub(super) fn region(&self) -> &str {
        &self.region
    }

    /// Posts one operation, `Scan`, and gives the body of its answer. Throttles, torn connections, slow
    /// and damaged answers are tried again with growing, jittered pauses.
    pub(super) async fn post(&self, operation: &str, body: String, tried: &str, on: &str) -> PortResult<Bytes> {
        self.ask(operation, body, tried, on, Terms::default()).await.map_err(|refused| refused.error)
    }

    /// The same on terms, with what a refusal says besides.
    pub(super) async fn ask(
        &self,
        operation: &str,
        body: String,
        tried: &str,
        on: &str,
        Terms { until, throttles }: Terms,
    ) -> Result<Bytes, Refused> {
        let body = Bytes::from(body);
        let mut attempt = 1;
        loop {
            let signed_at = self.clock.ahead_ms().unwrap_or(0);
            let refused = match self.once(operation, body.clone(), tried, on, until).await {
                Ok(answer) => return Ok(answer),
                Err(refused) if until.is_some_and(|until| Instant::now() + BRIEF > until) => return Err(refused),
                Err(refused) if throttles == Throttles::Told && refused.error.kind == ErrorKind::Throttled => {
                    return Err(refused);
                }
                Err(refused) => refused,
            };
            let error = &refused.error;
            let off = self.clock.ahead_ms().unwrap_or(0).abs_diff(signed_at);
            if error.kind == ErrorKind::Denied && error.came_back.starts_with("ExpiredToken") && attempt == 1 {
                *self.identity.lock().await = None;
            } else if refused_for_clock(error) && off > SKEW_MS && attempt < self.service.attempts() {
                tracing::warn!(
                    ms = self.clock.ahead_ms(),
                    "this machine's clock is off; signing with the service's time"
                );
            } else if !error.kind.transient() || attempt >= self.service.attempts() {
                return Err(refused);
            }
            tokio::time::sleep(pause(attempt, fastrand::f64())).await;
            attempt += 1;
        }
    }

    async fn once(
        &self,
        operation: &str,
        body: Bytes,
        tried: &str,
        on: &str,
        until: Option<Instant>,
    ) -> Result<Bytes, Refused> {
        let request = self.signed(operation, body, tried, on).await?;
        let answer = if until.is_some() { BRIEF } else { ANSWER };
        if until.is_some_and(|until| Instant::now() + answer > until) {
            let why = "the time in which it could be sent is over";
            return Err(unanswered(ErrorKind::TimedOut, why, tried, on).into());
        }
        let torn = |why: String| unanswered(ErrorKind::Unreachable, why, tried, on);
        let sent = SystemTime::now();
        let fetch = async {
            let answer = self.http.call(request).await.map_err(|e| torn(chain(&e)))?;
            let answer = answer.try_into_http1x().map_err(|e| torn(chain(&e)))?;
            let (head, body) = answer.into_parts();
            let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok());
            self.clock.saw(header("date"), header("age").is_some(), sent, SystemTime::now());
            let body = body.collect().await.map_err(|e| torn(chain(&*e)))?.to_bytes();
            Ok::<_, PortError>((head, body))
        };
        let (head, body) = tokio::time::timeout(answer, fetch).await.map_err(|_| {
            unanswered(ErrorKind::TimedOut, format!("no answer in {} s", answer.as_secs()), tried, on)
        })??;
        let sum = head.headers.get("x-amz-crc32").and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u32>().ok());
        if sum.is_some_and(|sum| sum != crc32fast::hash(&body)) {
            let why = "the answer was damaged on its way (CRC32)";
            return Err(unanswered(ErrorKind::Unreachable, why, tried, on).into());
        }
        let status = head.status.as_u16();
        if status == 200 {
            return Ok(body);
        }
        let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
        let code = refusal.code.rsplit('#').next().unwrap_or_default();
        let error = answered(code, &refusal.message, status, tried, on);
        Err(Refused { error, said: body })
    }

    /// The service's time, in milliseconds since 1970; this machine's while nothing was answered yet.
    pub(super) fn now_ms(&self) -> i64 {
        let since = self.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    async fn signed(&self, operation: &str, body: Bytes, tried: &str, on: &str) -> PortResult<HttpRequest> {
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
            .time(self.clock.now())
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
            .body(SdkBody::from(body))
            .map_err(|e| broken(e.to_string()))?;
        instructions.apply_to_request_http1x(&mut request);
        HttpRequest::try_from(request).map_err(|e| broken(chain(&e)))
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

/// A refusal: the error, and the body that came with it.
#[derive(Debug)]
pub(super) struct Refused {
    /// What is told.
    pub error: PortError,
    /// What the service said, empty when it said nothing. It may quote values: nothing of it is shown as it is.
    pub said: Bytes,
}

impl From<PortError> for Refused {
    fn from(error: PortError) -> Self {
        Self { error, said: Bytes::new() }
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

/// Whether a wrong time may be why: these are what services say of a signature that is too old or too new.
fn refused_for_clock(error: &PortError) -> bool {
    ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestExpired"]
        .iter()
        .any(|code| error.came_back.starts_with(code))
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

    #[derive(Clone, Debug, Default)]
    struct Noted(std::sync::Arc<std::sync::Mutex<Option<String>>>);

    impl aws_smithy_runtime_api::client::http::HttpConnector for Noted {
        fn call(&self, request: HttpRequest) -> aws_smithy_runtime_api::client::http::HttpConnectorFuture {
            *self.0.lock().unwrap() = Some(request.uri().to_owned());
            let nowhere = aws_smithy_runtime_api::client::result::ConnectorError::user("noted".into());
            aws_smithy_runtime_api::client::http::HttpConnectorFuture::ready(Err(nowhere))
        }
    }

    impl aws_smithy_runtime_api::client::http::HttpClient for Noted {
        fn http_connector(
            &self,
            _: &aws_smithy_runtime_api::client::http::HttpConnectorSettings,
            _: &aws_smithy_runtime_api::client::runtime_components::RuntimeComponents,
        ) -> aws_smithy_runtime_api::client::http::SharedHttpConnector {
            aws_smithy_runtime_api::client::http::SharedHttpConnector::new(self.clone())
        }
    }

    #[tokio::test]
    async fn our_client_goes_where_the_sdks_goes() {
        // An account in the credentials, as roles have it: the SDK knows endpoints of an account's own.
        let account = Credentials::builder().access_key_id("a").secret_access_key("s").account_id("111122223333");
        let provider = SharedCredentialsProvider::new(account.provider_name("t").build());
        let settings = DynamoSettings::new("us-west-2");
        for (fips, dual, all, given) in [
            (false, false, None, None),
            (true, false, None, None),
            (false, true, None, None),
            (false, false, Some("http://all:8000"), None),
            (false, false, Some("http://all:8000"), Some("http://given:8000")),
        ] {
            let noted = Noted::default();
            let mut session = SdkConfig::builder()
                .behavior_version(aws_config::BehaviorVersion::latest())
                .region(aws_types::region::Region::new("eu-west-1"))
                .credentials_provider(provider.clone())
                .http_client(noted.clone())
                .use_fips(fips)
                .use_dual_stack(dual);
            session.set_endpoint_url(all.map(str::to_owned));
            let settings = given.map_or_else(|| settings.clone(), |given| settings.clone().at(given));
            let sdk = super::super::of_the_region(&session.build(), &settings);
            let mut theirs = aws_sdk_dynamodb::config::Builder::from(&sdk);
            if let Some(given) = given {
                theirs = theirs.endpoint_url(given);
            }
            let theirs = aws_sdk_dynamodb::Client::from_conf(theirs.build());
            let _ = theirs.describe_table().table_name("t").send().await;
            let theirs: Uri = noted.0.lock().unwrap().take().expect("a call").parse().unwrap();
            let ours = Wire::new(&sdk, &settings, Service::Tables).unwrap().endpoint;
            assert_eq!(ours.authority(), theirs.authority(), "{fips} {dual} {all:?} {given:?}");
        }
    }

    #[cfg(feature = "embedded-dynamodb")]
    #[tokio::test]
    async fn a_clock_that_is_off_is_found_out_and_made_up_for() {
        use axum::http::{HeaderMap, StatusCode};
        // A service that is ten minutes ahead, and takes only what was signed within five.
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = std::sync::Arc::clone(&asked);
        let answer = move |headers: HeaderMap| async move {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let now = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(10);
            let signed = headers["x-amz-date"].to_str().unwrap().to_owned();
            let signed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &signed).unwrap();
            let signed = signed.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
            let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let stale = now.duration_since(signed).abs() > jiff::SignedDuration::from_mins(5);
            let (status, body) = match stale {
                true => (
                    StatusCode::BAD_REQUEST,
                    "{\"__type\":\"x#InvalidSignatureException\",\"message\":\"Signature expired\"}",
                ),
                false => (StatusCode::OK, "{}"),
            };
            (status, [("date", date)], body)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        let session = crate::private::clients::session(&at, 1);
        let wire = Wire::new(&session, &DynamoSettings::new("us-east-1"), Service::Tables).unwrap();
        let asked = || asked.load(std::sync::atomic::Ordering::SeqCst);
        wire.post("Scan", "{}".into(), "scan", "t").await.unwrap();
        assert_eq!(asked(), 2, "once with this machine's time, once with the service's");
        wire.post("Scan", "{}".into(), "scan", "t").await.unwrap();
        assert_eq!(asked(), 3, "what was learned is kept");
    }
}
