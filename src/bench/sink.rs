//! A DynamoDB that items are put into: batches for the table of the data are counted and forgotten, everything else (our
//! bookkeeping, what a table is) is passed on to the embedded emulator.
//!
//! An emulator takes far longer to keep an item than a client takes to send it. Here an item costs the server its way
//! through the socket and a look at what the batch holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt as _;
use http_body_util::{BodyExt as _, Full};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::error::{BenchError, BenchResult, Tried as _};
use crate::adapters::http::{HttpClient, http_client};
use crate::rehearsal::clients;
use crate::rehearsal::dynamo::EmbeddedDynamo;

/// The table that items are put into.
pub(super) const TARGET: &str = "Books";
/// Bytes of a batch at most; DynamoDB allows 16 MB.
const BODY: usize = 16 << 20;
/// What is answered to a batch that was taken whole.
const TAKEN: &str = r#"{"UnprocessedItems":{}}"#;

/// A running server. Dropping it stops it.
pub(super) struct Sink {
    /// Where it answers.
    pub endpoint: String,
    taken: Arc<AtomicU64>,
    _emulator: EmbeddedDynamo,
    _stop: oneshot::Sender<()>,
}

struct Taking {
    taken: Arc<AtomicU64>,
    emulator: String,
    client: HttpClient,
}

impl Sink {
    /// A server with an empty table, and no bookkeeping of anybody.
    pub(super) async fn start() -> BenchResult<Self> {
        let place = EmbeddedDynamo::place();
        let emulator = tokio::task::spawn_blocking(move || EmbeddedDynamo::start(&place)).await;
        let emulator = emulator.tried("start", "the emulator")?.tried("start", "the emulator")?;
        make_table(emulator.endpoint()).await?;
        let failed = |e: std::io::Error| BenchError::new("start", "the sink", e);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let endpoint = format!("http://{}", listener.local_addr().map_err(failed)?);
        let taken = Arc::new(AtomicU64::new(0));
        let state = Taking {
            taken: Arc::clone(&taken),
            emulator: emulator.endpoint().to_owned(),
            client: http_client().tried("make", "an HTTP client")?,
        };
        let router = Router::new().fallback(answer).layer(DefaultBodyLimit::max(BODY)).with_state(Arc::new(state));
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = listener.tap_io(|io| {
            let _ = io.set_nodelay(true);
        });
        tokio::spawn(async move {
            let end = async {
                let _ = stopped.await;
            };
            if let Err(e) = axum::serve(listener, router).with_graceful_shutdown(end).await {
                tracing::warn!("sink: {e}");
            }
        });
        Ok(Self { endpoint, taken, _emulator: emulator, _stop: stop })
    }

    /// Items that were put so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }
}

/// Makes the table at the emulator, for whoever asks what it is.
async fn make_table(endpoint: &str) -> BenchResult<()> {
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType as Type,
    };
    let client = aws_sdk_dynamodb::Client::new(&clients::session(endpoint, 3));
    let key = KeySchemaElement::builder().attribute_name("bookId").key_type(KeyType::Hash).build();
    let attribute = AttributeDefinition::builder().attribute_name("bookId").attribute_type(Type::S).build();
    let made = client
        .create_table()
        .table_name(TARGET)
        .key_schema(key.tried("make", TARGET)?)
        .attribute_definitions(attribute.tried("make", TARGET)?)
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await;
    made.map(drop).map_err(|e| BenchError::new("make", TARGET, aws_sdk_dynamodb::error::DisplayErrorContext(e)))
}

async fn answer(State(taking): State<Arc<Taking>>, headers: HeaderMap, body: Bytes) -> Response {
    let operation = headers.get("x-amz-target").and_then(|v| v.to_str().ok()).unwrap_or_default();
    if operation == "DynamoDB_20120810.BatchWriteItem"
        && let Some(puts) = puts(&body)
    {
        taking.taken.fetch_add(puts, Ordering::AcqRel);
        let sum = HeaderValue::from(crc32fast::hash(TAKEN.as_bytes()));
        let kind = HeaderValue::from_static("application/x-amz-json-1.0");
        let named = [(header::CONTENT_TYPE, kind), (header::HeaderName::from_static("x-amz-crc32"), sum)];
        return (named, TAKEN).into_response();
    }
    match taking.pass_on(&headers, body).await {
        Ok(response) => response,
        Err(why) => (StatusCode::BAD_GATEWAY, why).into_response(),
    }
}

/// Items that a batch puts into the table of the data; `None` when it is for another one.
fn puts(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let table = text.trim_start_matches(['{', ' ']).strip_prefix("\"RequestItems\":")?.trim_start_matches(['{', ' ']);
    table.strip_prefix('"')?.strip_prefix(TARGET)?.strip_prefix('"')?;
    // In a value a quote would have a backslash before it.
    Some(text.matches("\"PutRequest\":").count() as u64)
}

impl Taking {
    /// The same request to the emulator, and its answer as it is.
    async fn pass_on(&self, headers: &HeaderMap, body: Bytes) -> Result<Response, String> {
        let mut request = Request::post(&self.emulator);
        for name in ["x-amz-target", "content-type", "authorization", "x-amz-date"] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        let answer = self.client.request(request).await.map_err(|e| e.to_string())?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = head.status;
        for name in ["content-type", "x-amz-crc32", "x-amzn-requestid", "date"] {
            if let Some(value) = head.headers.get(name)
                && let Ok(name) = header::HeaderName::try_from(name)
            {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::puts;

    #[test]
    fn the_puts_of_a_batch_are_counted_whoever_wrote_it_and_whatever_it_holds() {
        let ours = r#"{"RequestItems":{"Books":[{"PutRequest":{"Item":{"a":{"S":"\"PutRequest\":"}}}},{"PutRequest":{"Item":{}}}]}}"#;
        assert_eq!(puts(ours.as_bytes()), Some(2));
        let theirs = r#"{"RequestItems": {"Books": [{"PutRequest": {"Item": {}}}]}}"#;
        assert_eq!(puts(theirs.as_bytes()), Some(1));
        let book = r#"{"RequestItems":{"cutover-bookkeeping":[{"PutRequest":{"Item":{}}}]}}"#;
        assert_eq!(puts(book.as_bytes()), None);
    }
}
