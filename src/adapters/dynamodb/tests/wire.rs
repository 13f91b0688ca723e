//! What goes over the wire: bodies that only a fuzzer writes, and answers that are rare and damaged.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;

/// One scripted answer: status, body, checksum header.
pub(super) type Answer = (u16, String, Option<u32>);

/// A server that gives prepared answers, the last one for ever, and keeps the requests.
#[derive(Clone, Default)]
pub(super) struct Script {
    pub(super) answers: Arc<Mutex<VecDeque<Answer>>>,
    pub(super) requests: Arc<Mutex<Vec<(HeaderMap, serde_json::Value)>>>,
}

impl Script {
    pub(super) async fn serve(answers: Vec<Answer>) -> (Self, Server) {
        let script = Self { answers: Arc::new(Mutex::new(answers.into())), ..Self::default() };
        let state = script.clone();
        let answer = move |headers: HeaderMap, body: Bytes| async move {
            state.requests.lock().unwrap().push((headers, serde_json::from_slice(&body).unwrap()));
            let mut answers = state.answers.lock().unwrap();
            let (status, body, sum) = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
            let mut headers = HeaderMap::new();
            headers.insert("content-type", "application/x-amz-json-1.0".parse().unwrap());
            if let Some(sum) = sum {
                headers.insert("x-amz-crc32", sum.into());
            }
            (StatusCode::from_u16(status).unwrap(), headers, body)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            axum::serve(listener, Router::new().fallback(answer))
                .with_graceful_shutdown(async {
                    let _ = stopped.await;
                })
                .await
        });
        (script, Server { endpoint, _stop: Some(stop), _dir: None })
    }
}

/// Text of the kinds that break parsers: quotes, escapes, controls, astral characters, nothing.
pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z]{1,12}", ".{0,12}", "[\\\\\"/\u{0}-\u{1f}é😀\u{2028}]{0,8}"]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof!["-?[1-9][0-9]{0,37}", "0\\.[0-9]{1,37}", "-?[1-9]\\.[0-9]{1,36}E[-+]?[0-9]{1,2}"]
}

pub(super) fn attribute() -> impl Strategy<Value = Value<'static>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..9);
    let texts = prop::collection::vec(text(), 1..4);
    let leaf = prop_oneof![
        text().prop_map(|s| Value::Text(s.into())),
        number().prop_map(|n| Value::Decimal(n.into())),
        bytes().prop_map(|b| Value::Bytes(b.into())),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        texts.prop_map(|v| Value::TextSet(v.into_iter().map(Into::into).collect())),
        prop::collection::vec(number(), 1..4).prop_map(|v| Value::DecimalSet(v.into_iter().map(Into::into).collect())),
        prop::collection::vec(bytes(), 1..4).prop_map(|v| Value::BytesSet(v.into_iter().map(Into::into).collect())),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let entries = prop::collection::btree_map(text(), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::List),
            entries.prop_map(|m| Value::Map(m.into_iter().map(|(k, v)| (k.into(), v)).collect())),
        ]
    })
}

/// A JSON string; `escape` writes every character as `\u`.
pub(super) fn json_text(out: &mut String, text: &str, escape: bool) {
    if escape {
        out.push('"');
        text.encode_utf16().for_each(|unit| write!(out, "\\u{unit:04X}").unwrap());
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

fn wire_form(out: &mut String, attr: &Value<'_>, escape: bool) {
    let list = |out: &mut String, items: Vec<String>| {
        out.push('[');
        out.push_str(&items.join(" , "));
        out.push(']');
    };
    let string = |text: &str| {
        let mut one = String::new();
        json_text(&mut one, text, escape);
        one
    };
    write!(out, "{{\"{}\" :", attr.kind()).unwrap();
    match attr {
        Value::Text(s) | Value::Decimal(s) => json_text(out, s, escape),
        Value::Bytes(b) => json_text(out, &STANDARD.encode(b), false),
        Value::Bool(b) => write!(out, "{b}").unwrap(),
        Value::Null => out.push_str("true"),
        Value::List(items) => {
            let items = items.iter().map(|item| {
                let mut one = String::new();
                wire_form(&mut one, item, escape);
                one
            });
            list(out, items.collect());
        }
        Value::Map(entries) => entries_form(out, entries, escape),
        Value::TextSet(set) | Value::DecimalSet(set) => list(out, set.iter().map(|s| string(s)).collect()),
        // The SDK does not unescape base64 text; nobody escapes it.
        Value::BytesSet(set) => list(out, set.iter().map(|b| format!("\"{}\"", STANDARD.encode(b))).collect()),
        Value::Cell(_) => unreachable!("no item holds a value of a typed column"),
    }
    out.push('}');
}

pub(super) fn entries_form(out: &mut String, entries: &[(std::borrow::Cow<'_, str>, Value<'_>)], escape: bool) {
    out.push('{');
    for (i, (name, value)) in entries.iter().enumerate() {
        if i > 0 {
            out.push_str(",\n");
        }
        json_text(out, name, escape);
        out.push(':');
        wire_form(out, value, escape);
    }
    out.push('}');
}

pub(super) fn by_name(attr: Value<'static>) -> Value<'static> {
    match attr {
        Value::Map(mut m) => {
            m.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Map(m.into_iter().map(|(k, v)| (k, by_name(v))).collect())
        }
        Value::List(l) => Value::List(l.into_iter().map(by_name).collect()),
        other => other,
    }
}

#[tokio::test]
async fn our_parser_and_the_sdk_read_the_same_items() {
    const ITEMS: usize = 400;
    let mut runner = TestRunner::deterministic();
    let entries = prop::collection::btree_map(text(), attribute(), 1..7);
    let mut body = String::from("{\"Items\":[");
    let mut written = Vec::new();
    for i in 0..ITEMS {
        let tree = entries.new_tree(&mut runner).unwrap();
        let fields: Vec<_> = tree.current().into_iter().map(|(k, v)| (k.into(), v)).collect();
        if i > 0 {
            body.push(',');
        }
        entries_form(&mut body, &fields, i % 3 == 0);
        written.push(Record { fields });
    }
    let key = "{\"k\":{\"S\":\"a\\\"\\u00e9\"}}";
    write!(body, "],\"Count\":{ITEMS},\"ScannedCount\":9,\"LastEvaluatedKey\":{key}").unwrap();
    body.push_str(",\"ConsumedCapacity\":{\"TableName\":\"t\",\"CapacityUnits\":12.5}}");
    let sum = crc32fast::hash(body.as_bytes());
    let (script, server) = Script::serve(vec![(200, body, Some(sum))]).await;
    let (source, _) = connect(&sdk_config(), &settings(&server)).unwrap();

    let cursor = Cursor("{\"k\":{\"S\":\"last \\u00e9\"}}".into());
    let page = source.page(&table("t", &["k"]), Partition { index: 1, of: 3 }, Some(&cursor)).await.unwrap();
    let mut ours = Vec::new();
    let end = source.read(&page, &mut |item| ours.push(item.clone().into_owned())).unwrap();
    let theirs = raw(&server).scan().table_name("t").send().await.map_err(|e| fault::sdk(e, "scan", "t")).unwrap();

    assert_eq!(ours, written);
    let theirs: Vec<_> = theirs.items.unwrap().into_iter().map(|i| attr::item_from_sdk(i).unwrap()).collect();
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        // And back again: what we would send is what the SDK read.
        assert_eq!(attr::item_from_sdk(attr::item_to_sdk(&ours, "", "").unwrap()).unwrap(), theirs);
        assert_eq!(by_name(Value::Map(ours.fields)), Value::Map(theirs.fields));
    }
    assert_eq!((end.items, end.capacity), (ITEMS as u32, Some(12.5)));
    assert_eq!(end.next, Some(Cursor(key.into())));

    let requests = script.requests.lock().unwrap();
    let (headers, request) = &requests[0];
    assert_eq!(headers["x-amz-target"], "DynamoDB_20120810.Scan");
    assert!(headers["authorization"].to_str().unwrap().contains("/eu-west-1/dynamodb/aws4_request"));
    assert_eq!(request["ExclusiveStartKey"]["k"]["S"], "last é");
    assert_eq!((&request["Segment"], &request["TotalSegments"]), (&1.into(), &3.into()));
    assert_eq!((&request["ConsistentRead"], &request["Limit"]), (&true.into(), &300.into()));
}

fn refusal(code: &str) -> Answer {
    (400, format!("{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{code}\",\"message\":\"m\"}}"), None)
}

async fn scripted(answers: Vec<Answer>) -> (Result<u32, crate::ports::PortError>, usize) {
    let (script, server) = Script::serve(answers).await;
    let (source, _) = connect(&sdk_config(), &settings(&server)).unwrap();
    let page = source.page(&table("t", &["k"]), Partition { index: 0, of: 1 }, None).await;
    let result = page.and_then(|page| source.read(&page, &mut |_| {})).map(|end| end.items);
    let asked = script.requests.lock().unwrap().len();
    (result, asked)
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_does_not_is_said_at_once() {
    let good = || (200, "{\"Count\":0,\"Items\":[]}".to_owned(), None);
    let damaged = (200, "{\"Count\":0,\"Items\":[]}".to_owned(), Some(7));
    let internal = (500, "<html>".to_owned(), None);
    let throttled = refusal("ProvisionedThroughputExceededException");
    let (result, asked) = scripted(vec![throttled, internal, damaged, good()]).await;
    assert_eq!((result, asked), (Ok(0), 4));

    for (code, want) in [
        ("AccessDeniedException", ErrorKind::Denied),
        ("ResourceNotFoundException", ErrorKind::NotFound),
        ("ValidationException", ErrorKind::Invalid),
    ] {
        let (result, asked) = scripted(vec![refusal(code), good()]).await;
        let error = result.unwrap_err();
        assert_eq!((error.kind, asked), (want, 1), "{error}");
        assert!(error.came_back.starts_with(code) && !error.advice.is_empty(), "{error}");
    }
    // Credentials that ran out are fetched once more.
    let (result, asked) = scripted(vec![refusal("ExpiredTokenException"), good()]).await;
    assert_eq!((result, asked), (Ok(0), 2));
}

#[tokio::test]
async fn a_page_that_is_not_a_page_is_refused_without_its_data() {
    for body in [
        "",
        "[]",
        "{}",
        "{\"Items\":[",
        "{\"Items\":[]} x",
        "{\"Count\":2,\"Items\":[{\"k\":{\"S\":\"secret\"}}]}",
        "{\"Items\":[{\"k\":{\"S\":17}}]}",
        "{\"Items\":[{\"k\":\"secret\"}]}",
        "{\"Items\":[{\"k\":{\"secret\":1}}]}",
        "{\"Items\":[{\"k\":{\"S\":\"secret\",\"N\":\"1\"}}]}",
        "{\"Items\":[{\"k\":{}}]}",
        "{\"Items\":[{\"k\":{\"B\":\"secret!\"}}]}",
        "{\"Items\":[{\"k\":{\"BOOL\":\"secret\"}}]}",
    ] {
        let (result, _) = scripted(vec![(200, body.to_owned(), None)]).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{body}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_and_no_credentials_are_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = Server { endpoint: format!("http://{}", listener.local_addr().unwrap()), _stop: None, _dir: None };
    drop(listener);
    let (source, changes) = connect(&sdk_config(), &settings(&closed)).unwrap();
    let t = table("t", &["k"]);
    assert_eq!(source.describe(&t).await.unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(changes.stream(&t).await.unwrap_err().kind, ErrorKind::Unreachable);

    let mut nobody = sdk_config().to_builder();
    nobody.set_credentials_provider(None);
    let nobody = nobody.build();
    assert_eq!(connect(&nobody, &settings(&closed)).unwrap_err().kind, ErrorKind::Denied);
    let odd = DynamoSettings::new(REGION).at("ftp://x");
    assert_eq!(connect(&sdk_config(), &odd).unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn every_shard_is_listed_over_all_pages() {
    let table_body = "{\"Table\":{\"TableStatus\":\"ACTIVE\",\"LatestStreamArn\":\"arn:s\",\"StreamSpecification\":\
                      {\"StreamEnabled\":true,\"StreamViewType\":\"NEW_AND_OLD_IMAGES\"}}}";
    let page = |shards: &str, more: &str| {
        let body = format!(
            "{{\"StreamDescription\":{{\"StreamArn\":\"arn:s\",\"StreamStatus\":\"ENABLED\",\"Shards\":[{shards}]{more}}}}}"
        );
        (200, body, None)
    };
    let first = page(
        "{\"ShardId\":\"a\",\"SequenceNumberRange\":{\"StartingSequenceNumber\":\"1\",\"EndingSequenceNumber\":\"9\"}}",
        ",\"LastEvaluatedShardId\":\"a\"",
    );
    let second = page(
        "{\"ShardId\":\"b\",\"ParentShardId\":\"a\",\"SequenceNumberRange\":{\"StartingSequenceNumber\":\"10\"}}",
        "",
    );
    let (script, server) = Script::serve(vec![(200, table_body.to_owned(), None), first, second]).await;
    let (_, changes) = connect(&sdk_config(), &settings(&server)).unwrap();
    let stream = changes.stream(&table("t", &["k"])).await.unwrap().unwrap();
    let shards: Vec<_> = stream.shards.iter().map(|s| (s.id.as_str(), s.parent.as_deref(), s.closed)).collect();
    assert_eq!(shards, [("a", None, true), ("b", Some("a"), false)]);
    assert_eq!(script.requests.lock().unwrap()[2].1["ExclusiveStartShardId"], "a");
}

#[tokio::test]
async fn keys_left_unprocessed_are_asked_for_again() {
    let item = |k: &str| format!("{{\"k\":{{\"S\":\"{k}\"}}}}");
    let answer = |found: &str, left: &str| {
        (200, format!("{{\"Responses\":{{\"t\":[{found}]}},\"UnprocessedKeys\":{{{left}}}}}"), None)
    };
    let left = format!("\"t\":{{\"Keys\":[{}]}}", item("b"));
    let answers = vec![answer(&item("a"), &left), answer("", &left), answer(&item("b"), "")];
    let (script, server) = Script::serve(answers).await;
    let (source, _) = connect(&sdk_config(), &settings(&server)).unwrap();
    let key = |k: &'static str| Record { fields: vec![("k".into(), Value::Text(k.into()))] };
    let found = source.get(&table("t", &["k"]), &[key("b"), key("c"), key("a"), key("b")]).await.unwrap();
    assert_eq!(found, [Some(key("b")), None, Some(key("a")), Some(key("b"))]);
    let requests = script.requests.lock().unwrap();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0].1["RequestItems"]["t"]["Keys"].as_array().unwrap().len(), 3, "no key twice");
    assert_eq!(requests[1].1["RequestItems"]["t"]["ConsistentRead"], true);
}
