//! A DynamoDB that only knows Scan, GetItem, what a table is and one stream shard: pre-rendered answers from memory,
//! through the real protocol.
//!
//! Emulators take far longer to make a page than a client takes to read it, so they measure themselves. Here a page
//! costs the server a copy into the socket and a checksum over its last bytes.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt as _;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::books::RawPage;
use super::error::{BenchError, BenchResult};
use super::records::{self, ARN};

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(super) struct PageServer {
    /// Where it answers.
    pub endpoint: String,
    /// Items of a whole scan.
    pub items: u64,
    _stop: oneshot::Sender<()>,
}

struct Pages {
    /// Page and item by key, made when the first single item is asked for.
    keys: OnceLock<HashMap<String, (usize, usize)>>,
    /// Each page with the checksum of its head.
    pages: Vec<(RawPage, u32)>,
    /// How often the pages are given out, each time with fresh keys.
    rounds: u64,
    /// What the stream's one shard answers, each with its checksum; without any there is no stream.
    records: Vec<(Bytes, u32)>,
}

#[derive(Deserialize)]
struct Scan {
    #[serde(rename = "Segment", default)]
    segment: u64,
    #[serde(rename = "TotalSegments")]
    of: Option<u64>,
    #[serde(rename = "ExclusiveStartKey")]
    after: Option<serde_json::Value>,
    #[serde(rename = "Key")]
    key: Option<serde_json::Value>,
    #[serde(rename = "ShardIterator")]
    iterator: Option<String>,
}

impl PageServer {
    /// Serves the pages `rounds` times over.
    pub(super) async fn start(pages: Vec<RawPage>, rounds: u64) -> BenchResult<Self> {
        Self::serve(pages, rounds, Vec::new()).await
    }

    /// Serves the pages once, and a stream in which each of their items was changed once more.
    pub(super) async fn with_stream(pages: Vec<RawPage>) -> BenchResult<Self> {
        let summed = |(body, _): (Bytes, u64)| {
            let sum = crc32fast::hash(&body);
            (body, sum)
        };
        let records = records::answers(&pages).into_iter().map(summed).collect();
        Self::serve(pages, 1, records).await
    }

    async fn serve(pages: Vec<RawPage>, rounds: u64, records: Vec<(Bytes, u32)>) -> BenchResult<Self> {
        let failed = |e: std::io::Error| BenchError::new("start", "the page server", e);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let endpoint = format!("http://{}", listener.local_addr().map_err(failed)?);
        let items = pages.iter().map(|p| u64::from(p.items)).sum::<u64>() * rounds;
        let pages = pages
            .into_iter()
            .map(|p| {
                let sum = crc32fast::hash(&p.head);
                (p, sum)
            })
            .collect();
        let state = Pages { keys: OnceLock::new(), pages, rounds, records };
        let router = Router::new().fallback(answer).with_state(Arc::new(state));
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = listener.tap_io(|io| {
            let _ = io.set_nodelay(true);
        });
        tokio::spawn(async move {
            let end = async {
                let _ = stopped.await;
            };
            if let Err(e) = axum::serve(listener, router).with_graceful_shutdown(end).await {
                tracing::warn!("page server: {e}");
            }
        });
        Ok(Self { endpoint, items, _stop: stop })
    }
}

async fn answer(State(pages): State<Arc<Pages>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|v| v.to_str().ok()).unwrap_or_default();
    match (target, serde_json::from_slice::<Scan>(&body)) {
        ("DynamoDB_20120810.Scan", Ok(scan)) => pages.page(&scan),
        ("DynamoDB_20120810.GetItem", Ok(get)) => pages.item(&get),
        ("DynamoDB_20120810.DescribeTable", _) => pages.described(),
        ("DynamoDBStreams_20120810.DescribeStream", _) => {
            let stream = format!(
                "{{\"StreamDescription\":{{\"StreamArn\":\"{ARN}\",\"StreamStatus\":\"ENABLED\",\"Shards\":[{{\
                 \"ShardId\":\"shardId-bench\",\"SequenceNumberRange\":{{\"StartingSequenceNumber\":\"1\"}}}}]}}"
            );
            respond(Bytes::from(stream), 0, true, "}".to_owned())
        }
        ("DynamoDBStreams_20120810.GetShardIterator", _) => {
            respond(Bytes::from_static(b"{\"ShardIterator\":\"0\""), 0, true, "}".to_owned())
        }
        ("DynamoDBStreams_20120810.GetRecords", Ok(read)) => pages.changes(&read),
        ("DynamoDB_20120810.DescribeTimeToLive", _) => {
            let none = Bytes::from_static(br#"{"TimeToLiveDescription":{"TimeToLiveStatus":"DISABLED"}"#);
            respond(none, 0, true, "}".to_owned())
        }
        _ => {
            let refusal = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ValidationException","message":"this server knows no such call"}"#;
            (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], refusal).into_response()
        }
    }
}

/// The key's text in `{"bookId":{"S":"…"}}`.
fn key_text(key: Option<&serde_json::Value>) -> Option<&str> {
    key?["bookId"]["S"].as_str()
}

impl Pages {
    fn described(&self) -> Response {
        let items: u64 = self.pages.iter().map(|(p, _)| u64::from(p.items)).sum::<u64>() * self.rounds;
        let bytes: u64 = self.pages.iter().map(|(p, _)| p.head.len() as u64).sum::<u64>() * self.rounds;
        let stream = match self.records.is_empty() {
            true => String::new(),
            false => format!(
                r#","LatestStreamArn":"{ARN}","StreamSpecification":{{"StreamEnabled":true,"StreamViewType":"NEW_AND_OLD_IMAGES"}}"#
            ),
        };
        let table = format!(
            r#"{{"Table":{{"TableName":"{}","TableStatus":"ACTIVE","ItemCount":{items},"TableSizeBytes":{bytes},"KeySchema":[{{"AttributeName":"bookId","KeyType":"HASH"}}],"AttributeDefinitions":[{{"AttributeName":"bookId","AttributeType":"S"}}]{stream}}}"#,
            super::books::SOURCE
        );
        respond(Bytes::from(table), 0, true, "}".to_owned())
    }

    /// An iterator is the number of the answer it stands before; past the last one there is nothing yet.
    fn changes(&self, read: &Scan) -> Response {
        let at: usize = read.iterator.as_deref().and_then(|n| n.parse().ok()).unwrap_or(0);
        match self.records.get(at) {
            Some((body, sum)) => respond(body.clone(), *sum, false, format!(",\"NextShardIterator\":\"{}\"}}", at + 1)),
            None => {
                respond(Bytes::from_static(b"{\"Records\":[]"), 0, true, format!(",\"NextShardIterator\":\"{at}\"}}"))
            }
        }
    }

    /// One item of the first round.
    fn item(&self, get: &Scan) -> Response {
        let keys = self.keys.get_or_init(|| {
            let mut keys = HashMap::new();
            for (p, (page, _)) in self.pages.iter().enumerate() {
                for (n, item) in records::items(page).enumerate() {
                    keys.insert(String::from_utf8_lossy(records::key(item)).into_owned(), (p, n));
                }
            }
            keys
        });
        let found = key_text(get.key.as_ref()).and_then(|key| keys.get(key));
        match found.and_then(|(p, n)| records::items(&self.pages.get(*p)?.0).nth(*n)) {
            Some(item) => {
                let head = [b"{\"Item\":", item].concat();
                respond(Bytes::from(head), 0, true, "}".to_owned())
            }
            None => respond(Bytes::from_static(b"{"), 0, true, "}".to_owned()),
        }
    }

    /// Segment `s` of `n` holds every n-th page. A key names the page to read next.
    fn page(&self, scan: &Scan) -> Response {
        let known = self.pages.len() as u64;
        let total = known * self.rounds;
        let of = scan.of.unwrap_or(1).max(1);
        let after = key_text(scan.after.as_ref()).and_then(|key| key.strip_prefix("page-")?.parse().ok());
        let number: u64 = after.unwrap_or(scan.segment);
        let Some((page, sum)) = self.pages.get(usize::try_from(number % known.max(1)).unwrap_or(0)) else {
            return respond(Bytes::from_static(b"{\"Count\":0,\"ScannedCount\":0,\"Items\":[]"), 0, true, "}".into());
        };
        if number >= total {
            return respond(Bytes::from_static(b"{\"Count\":0,\"ScannedCount\":0,\"Items\":[]"), 0, true, "}".into());
        }
        let round = number / known;
        let (head, sum) = if round == 0 { (page.head.clone(), *sum) } else { renewed(page, round) };
        let next = number + of;
        let last = if next < total {
            format!(",\"LastEvaluatedKey\":{{\"bookId\":{{\"S\":\"page-{next}\"}}}}")
        } else {
            String::new()
        };
        let units = head.len() as f64 / 4096.0;
        let consumed = format!(
            ",\"ConsumedCapacity\":{{\"TableName\":\"{}\",\"CapacityUnits\":{units:.1}}}",
            super::books::SOURCE
        );
        respond(head, sum, false, format!("{last}{consumed}}}"))
    }
}

/// The page with keys that no other round has.
fn renewed(page: &RawPage, round: u64) -> (Bytes, u32) {
    let mut head = page.head.to_vec();
    let hex = format!("{:04x}", round & 0xffff);
    let decimal = format!("{:04}", round % 10_000);
    for (key, isbn) in &page.fresh {
        for (at, digits) in [(*key as usize, &hex), (*isbn as usize, &decimal)] {
            head[at..at + 4].copy_from_slice(digits.as_bytes());
        }
    }
    let sum = crc32fast::hash(&head);
    (Bytes::from(head), sum)
}

/// Head and tail as one body, without putting them together; `unsummed` heads are summed here.
fn respond(head: Bytes, sum: u32, unsummed: bool, tail: String) -> Response {
    let mut crc = if unsummed {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        crc
    } else {
        crc32fast::Hasher::new_with_initial_len(sum, head.len() as u64)
    };
    crc.update(tail.as_bytes());
    let length = head.len() + tail.len();
    let parts = [Ok::<_, std::convert::Infallible>(head), Ok(Bytes::from(tail))];
    let mut response = Body::from_stream(futures::stream::iter(parts)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert("x-amz-crc32", HeaderValue::from(crc.finalize()));
    response
}
