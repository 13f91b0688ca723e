//! The adapter against servers: the embedded emulator, and any other one named by
//! `CUTOVER_TEST_DYNAMODB_ENDPOINT`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PutRequest, ScalarAttributeType,
    StreamSpecification, StreamViewType, WriteRequest,
};
use aws_smithy_http_client::{Builder, tls};
use aws_types::SdkConfig;
use aws_types::region::Region;
use tokio::sync::oneshot;

use super::*;
use crate::domain::gauge::CountKind;
use crate::domain::mapping::{TableMapping, marker_number};
use crate::domain::plan::{NEW, OLD, Table};
use crate::domain::value::{Record, Value};
use crate::ports::{ChangeKind, Changes as _, Cursor, ErrorKind, Partition, ReadFrom, Source as _};

mod attached;
mod contract;
mod items;
mod records;
mod wire;

pub(super) const REGION: &str = "eu-west-1";

pub(super) fn sdk_config() -> SdkConfig {
    let credentials = Credentials::new("AKIATEST", "secret", None, None, "test");
    let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https();
    SdkConfig::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(http)
        .build()
}

/// A server to test against; dropping it stops the embedded one and removes its file.
pub(super) struct Server {
    pub(super) endpoint: String,
    _stop: Option<oneshot::Sender<()>>,
    _dir: Option<tempfile::TempDir>,
}

pub(super) async fn server() -> Server {
    if let Ok(endpoint) = std::env::var("CUTOVER_TEST_DYNAMODB_ENDPOINT") {
        return Server { endpoint, _stop: None, _dir: None };
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dynamo.db");
    let db = dynoxide::Database::new(path.to_str().unwrap()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(dynoxide::server::serve_with_shutdown(listener, db, async {
        let _ = stopped.await;
    }));
    Server { endpoint, _stop: Some(stop), _dir: Some(dir) }
}

pub(super) fn settings(server: &Server) -> DynamoSettings {
    DynamoSettings { limit: 300, ..DynamoSettings::new(REGION).at(&server.endpoint) }
}

pub(super) fn raw(server: &Server) -> Client {
    let config = aws_sdk_dynamodb::config::Builder::from(&sdk_config()).endpoint_url(&server.endpoint).build();
    Client::from_conf(config)
}

pub(super) fn table(name: &str, key: &[&str]) -> Table {
    Table {
        id: "t".into(),
        from: OLD.to_owned(),
        source: name.into(),
        to: NEW.to_owned(),
        target: "t".into(),
        key: key.iter().map(|s| (*s).to_owned()).collect(),
        columns: vec![],
        children: vec![],
        foreign_keys: vec![],
        ttl: None,
        marker_prefix: "~cutover~".into(),
        ddl: None,
        triggers: vec![],
        leave_out: vec![],
        after_load: vec![],
        mover: None,
    }
}

/// A name no other test of this or another run uses.
pub(super) fn fresh(name: &str) -> String {
    format!("cutover-{name}-{}", uuid::Uuid::new_v4().simple())
}

pub(super) async fn create(
    client: &Client,
    name: &str,
    key: &[(&str, ScalarAttributeType)],
    view: Option<StreamViewType>,
) {
    let mut request = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (i, (attr, ty)) in key.iter().enumerate() {
        let role = if i == 0 { KeyType::Hash } else { KeyType::Range };
        request = request
            .key_schema(KeySchemaElement::builder().attribute_name(*attr).key_type(role).build().unwrap())
            .attribute_definitions(
                AttributeDefinition::builder().attribute_name(*attr).attribute_type(ty.clone()).build().unwrap(),
            );
    }
    if let Some(view) = view {
        let spec = StreamSpecification::builder().stream_enabled(true).stream_view_type(view).build().unwrap();
        request = request.stream_specification(spec);
    }
    request.send().await.unwrap();
}

pub(super) async fn put_all(client: &Client, name: &str, items: Vec<HashMap<String, AttributeValue>>) {
    for batch in items.chunks(25) {
        let mut left: Vec<WriteRequest> = batch
            .iter()
            .map(|item| {
                let put = PutRequest::builder().set_item(Some(item.clone())).build().unwrap();
                WriteRequest::builder().put_request(put).build()
            })
            .collect();
        while !left.is_empty() {
            let answer = client.batch_write_item().request_items(name, left).send().await.unwrap();
            left = answer.unprocessed_items.unwrap_or_default().remove(name).unwrap_or_default();
        }
    }
}

pub(super) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn book(i: usize) -> HashMap<String, AttributeValue> {
    HashMap::from([
        ("bookId".into(), s(format!("book-{i:05}"))),
        ("title".into(), s(format!("Title \"{i}\" \\ é 😀\n"))),
        ("price".into(), AttributeValue::N(format!("{i}.99"))),
        ("big".into(), AttributeValue::N("12345678901234567890123456789012345678".into())),
        ("none".into(), AttributeValue::Null(true)),
        ("tags".into(), AttributeValue::Ss(vec!["a".into(), "b".into()])),
        ("raw".into(), AttributeValue::B(vec![0u8, 255, i as u8].into())),
        (
            "nested".into(),
            AttributeValue::M(HashMap::from([(
                "list".into(),
                AttributeValue::L(vec![AttributeValue::Bool(true), s(""), AttributeValue::M(HashMap::new())]),
            )])),
        ),
    ])
}

/// The item with attributes and sets in one order, to compare readings of servers that keep none.
fn sorted(attr: Value<'static>) -> Value<'static> {
    match attr {
        Value::Map(mut m) => {
            m.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Map(m.into_iter().map(|(k, v)| (k, sorted(v))).collect())
        }
        Value::List(l) => Value::List(l.into_iter().map(sorted).collect()),
        Value::TextSet(mut v) => {
            v.sort();
            Value::TextSet(v)
        }
        other => other,
    }
}

fn sorted_item(item: Record<'static>) -> Record<'static> {
    let Value::Map(fields) = sorted(Value::Map(item.fields)) else { unreachable!() };
    Record { fields }
}

fn text_of(item: &Record<'_>, name: &str) -> String {
    match item.get(name) {
        Some(Value::Text(s)) => s.to_string(),
        other => panic!("{name} is {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_read_counted_and_fetched() {
    const ROWS: usize = 5_000;
    let server = server().await;
    let client = raw(&server);
    let (source, _) = connect(&sdk_config(), &settings(&server)).unwrap();
    let books = table(&fresh("books"), &["bookId"]);
    create(&client, &books.source, &[("bookId", ScalarAttributeType::S)], None).await;
    put_all(&client, &books.source, (0..ROWS).map(book).collect()).await;

    let described = source.describe(&books).await.unwrap();
    assert_eq!(described.key, [("bookId".to_owned(), "S".to_owned())]);
    // The store's own count is up to six hours old, and is not shown as if it were of now.
    assert_eq!(described.count.kind, CountKind::Estimated);
    let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let age = age - described.count.at.0;
    assert!((21_600_000..21_700_000).contains(&age), "{age} ms");
    assert_eq!((described.stream, described.ttl), (None, None));

    let mut seen = BTreeMap::new();
    let mut pages = 0;
    for index in 0..4 {
        let part = Partition { index, of: 4 };
        let mut cursor: Option<Cursor> = None;
        loop {
            let page = source.page(&books, part, cursor.as_ref()).await.unwrap();
            let mut n = 0;
            let end = source
                .read(&page, &mut |item| {
                    n += 1;
                    let id = text_of(item, "bookId");
                    assert_eq!(seen.insert(id, item.clone().into_owned()), None, "read twice");
                })
                .unwrap();
            assert_eq!(end.items, n);
            pages += 1;
            cursor = end.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    assert_eq!(seen.len(), ROWS);
    assert!(pages >= ROWS / 300, "{pages} pages");
    // Our parser makes of an item what the SDK makes of the same item.
    for i in [0, 1, 4_999] {
        let ours = sorted_item(seen[&format!("book-{i:05}")].clone());
        assert_eq!(ours, sorted_item(attr::item_from_sdk(book(i)).unwrap()));
    }

    let count = source.count(&books).await.unwrap();
    assert_eq!((count.rows, count.kind), (Some(ROWS as u64), CountKind::Exact));

    let key = |id: String| Record { fields: vec![("bookId".into(), Value::Text(id.into()))] };
    let mut keys: Vec<_> = (0..250).map(|i| key(format!("book-{:05}", i * 7))).collect();
    keys.insert(3, key("nobody".into()));
    keys.push(key("book-00000".into()));
    let found = source.get(&books, &keys).await.unwrap();
    assert_eq!(found.len(), keys.len());
    for (key, item) in keys.iter().zip(&found) {
        let id = text_of(key, "bookId");
        match item {
            None => assert_eq!(id, "nobody"),
            Some(item) => assert_eq!(text_of(item, "bookId"), id),
        }
    }
    assert_eq!(found.iter().filter(|f| f.is_none()).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_followed_in_order() {
    let server = server().await;
    let client = raw(&server);
    let (source, changes) = connect(&sdk_config(), &settings(&server)).unwrap();
    let books = table(&fresh("stream"), &["bookId"]);
    create(&client, &books.source, &[("bookId", ScalarAttributeType::S)], None).await;
    assert_eq!(changes.stream(&books).await.unwrap(), None);

    let stream = changes.enable(&books).await.unwrap();
    assert!(!stream.shards.is_empty());
    assert_eq!(changes.enable(&books).await.unwrap().id, stream.id, "enabling twice is one stream");
    assert_eq!(changes.stream(&books).await.unwrap().unwrap().id, stream.id);
    assert_eq!(source.describe(&books).await.unwrap().stream, Some((stream.id.clone(), true)));

    let name = &books.source;
    for i in 0..40 {
        client.put_item().table_name(name).set_item(Some(book(i))).send().await.unwrap();
    }
    let mut changed = book(3);
    changed.insert("title".into(), s("other"));
    client.put_item().table_name(name).set_item(Some(changed)).send().await.unwrap();
    client.delete_item().table_name(name).key("bookId", s("book-00004")).send().await.unwrap();
    source.put_marker(&books, "n-1").await.unwrap();
    source.delete_marker(&books, "n-1").await.unwrap();

    let mut all = Vec::new();
    let known: HashSet<_> = stream.shards.iter().map(|s| s.id.clone()).collect();
    for shard in &stream.shards {
        assert!(shard.parent.as_ref().is_none_or(|p| !known.contains(p) || p != &shard.id));
        let mut next = Some(changes.iterator(&stream.id, &shard.id, &ReadFrom::Oldest).await.unwrap());
        let until = tokio::time::Instant::now() + Duration::from_secs(120);
        while let Some(iterator) = next {
            let batch = changes.read(&iterator).await.unwrap();
            all.extend(batch.changes);
            next = batch.next;
            if all.len() >= 44 || tokio::time::Instant::now() > until {
                break;
            }
        }
    }
    assert_eq!(all.len(), 44);
    let ids: Vec<_> = all.iter().map(|c| text_of(&c.key, "bookId")).collect();
    assert_eq!(ids[..40], (0..40).map(|i| format!("book-{i:05}")).collect::<Vec<_>>()[..]);
    assert!(all[..40].iter().all(|c| c.kind == ChangeKind::Insert && c.at.0 > 1_500_000_000_000));
    assert_eq!(sorted_item(all[7].image.clone().unwrap()), sorted_item(attr::item_from_sdk(book(7)).unwrap()));
    assert_eq!(all[40].kind, ChangeKind::Modify);
    assert_eq!(text_of(all[40].image.as_ref().unwrap(), "title"), "other");
    assert_eq!((all[41].kind, &all[41].image), (ChangeKind::Remove { expired: false }, &None));
    assert_eq!(ids[42..], ["~cutover~n-1", "~cutover~n-1"]);
    let positions: Vec<u128> = all.iter().map(|c| c.position.0.parse().unwrap()).collect();
    assert!(positions.is_sorted_by(|a, b| a < b));

    // Reading on from a position: at it, and after it.
    let shard = &stream.shards[0].id;
    for (from, first) in [(ReadFrom::At(all[10].position.clone()), 10), (ReadFrom::After(all[10].position.clone()), 11)]
    {
        let iterator = changes.iterator(&stream.id, shard, &from).await.unwrap();
        let batch = changes.read(&iterator).await.unwrap();
        assert_eq!(batch.changes[0].position, all[first].position, "{from:?}");
    }
    let newest = changes.iterator(&stream.id, shard, &ReadFrom::Newest).await.unwrap();
    assert_eq!(changes.read(&newest).await.unwrap().changes, vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markers_fit_any_key_and_are_told_from_everybodys_items() {
    use ScalarAttributeType::{B, N, S};
    let server = server().await;
    let client = raw(&server);
    let (source, changes) = connect(&sdk_config(), &settings(&server)).unwrap();
    for key in [vec![S], vec![N], vec![B], vec![S, N], vec![N, S], vec![N, N], vec![B, B], vec![S, B]] {
        let named: Vec<(&str, ScalarAttributeType)> = ["pk", "sk"].into_iter().zip(key.iter().cloned()).collect();
        let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
        let table = table(&fresh("marker"), &names);
        create(&client, &table.source, &named, None).await;
        let stream = changes.enable(&table).await.unwrap();
        let mapping = TableMapping::new(&table);
        source.put_marker(&table, "n-1").await.unwrap();
        // A customer's item with the number of a marker.
        let theirs = |ty: &ScalarAttributeType| match ty {
            N => AttributeValue::N(marker_number("n-2")),
            B => AttributeValue::B(Blob::new([7_u8])),
            _ => AttributeValue::S("ann".to_owned()),
        };
        let item = named.iter().map(|(name, ty)| ((*name).to_owned(), theirs(ty))).collect();
        client.put_item().table_name(&table.source).set_item(Some(item)).send().await.unwrap();
        let page = source.page(&table, Partition { index: 0, of: 1 }, None).await.unwrap();
        let mut seen = Vec::new();
        source.read(&page, &mut |item| seen.push(mapping.marker(item).map(str::to_owned))).unwrap();
        seen.sort();
        assert_eq!(seen, [None, Some("n-1".to_owned())], "{key:?}");
        source.delete_marker(&table, "n-1").await.unwrap();
        assert_eq!(source.count(&table).await.unwrap().rows, Some(1), "{key:?}");
        let item = named.iter().map(|(name, ty)| ((*name).to_owned(), theirs(ty))).collect();
        client.delete_item().table_name(&table.source).set_key(Some(item)).send().await.unwrap();
        // Both of its changes are the marker's, and neither of the customer's.
        let from = ReadFrom::Oldest;
        let iterator = changes.iterator(&stream.id, &stream.shards[0].id, &from).await.unwrap();
        let (mut iterator, mut read) = (Some(iterator), Vec::new());
        while let Some(it) = iterator.take().filter(|_| read.len() < 4) {
            let batch = changes.read(&it).await.unwrap();
            read.extend(batch.changes.iter().map(|c| (c.image.is_some(), c.marker(&mapping).map(str::to_owned))));
            iterator = batch.next;
        }
        let ours = Some("n-1".to_owned());
        assert_eq!(read, [(true, ours.clone()), (true, None), (false, ours), (false, None)], "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_named() {
    let server = server().await;
    let client = raw(&server);
    let (source, changes) = connect(&sdk_config(), &settings(&server)).unwrap();
    let nowhere = table(&fresh("nowhere"), &["pk"]);
    let part = Partition { index: 0, of: 1 };
    let error = source.page(&nowhere, part, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    assert_eq!((error.tried.as_str(), error.advice.is_empty()), ("scan", false));
    assert_eq!(source.describe(&nowhere).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(changes.enable(&nowhere).await.unwrap_err().kind, ErrorKind::NotFound);

    let half = table(&fresh("half"), &["pk"]);
    create(&client, &half.source, &[("pk", ScalarAttributeType::S)], Some(StreamViewType::KeysOnly)).await;
    let error = changes.enable(&half).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.to_string().contains("KEYS_ONLY"), "{error}");
    let broken = Cursor("{\"pk\":".into());
    assert_eq!(source.page(&half, part, Some(&broken)).await.unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_listed_with_their_keys_and_ours_is_left_out() {
    use crate::domain::plan::ColumnType;
    use crate::ports::Catalogue;

    let server = server().await;
    let client = raw(&server);
    let (source, _) = connect(&sdk_config(), &settings(&server)).unwrap();
    let (plain, typed) = (fresh("plain"), fresh("typed"));
    create(&client, &plain, &[("id", ScalarAttributeType::S)], None).await;
    create(&client, &typed, &[("day", ScalarAttributeType::N), ("mark", ScalarAttributeType::B)], None).await;
    // Another test may have made it on a server that is shared.
    let ours = client.describe_table().table_name("cutover-bookkeeping").send().await.is_ok();
    if !ours {
        create(&client, "cutover-bookkeeping", &[("id", ScalarAttributeType::S)], None).await;
    }
    let names = Catalogue::names(&source).await.unwrap();
    assert!(names.contains(&plain) && names.contains(&typed) && !names.iter().any(|n| n.contains("bookkeeping")));
    let gone = fresh("gone");
    let listed = source.listed(names.clone(), &[typed.clone(), gone.clone()], true).await.unwrap();
    assert_eq!((&listed.names, listed.tables[0].key.as_slice()), (&names, &["day".to_owned(), "mark".to_owned()][..]));
    let types: Vec<ColumnType> = listed.tables[0].columns.iter().map(|c| c.ty).collect();
    assert_eq!(types, [ColumnType::Numeric(None), ColumnType::Bytea]);
    assert_eq!((listed.tables[1].name.as_str(), listed.tables[1].unfit.len()), (gone.as_str(), 1));
}
