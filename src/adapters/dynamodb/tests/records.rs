//! Stream records: our parser against the SDK's over bodies that only a fuzzer writes, and what is refused.

use std::fmt::Write as _;

use aws_sdk_dynamodbstreams::types::{OperationType, Record as StreamRecord};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::super::records::decode;
use super::wire::{Script, attribute, by_name, entries_form, json_text, text};
use super::*;
use crate::domain::at::At;
use crate::ports::{Batch, Change, Position};

/// What the SDK read, as a change.
fn theirs(record: StreamRecord) -> Change {
    let who = record.user_identity();
    let expired =
        who.is_some_and(|who| who.r#type() == Some("Service") && who.principal_id() == Some("dynamodb.amazonaws.com"));
    let kind = match record.event_name() {
        Some(OperationType::Insert) => ChangeKind::Insert,
        Some(OperationType::Modify) => ChangeKind::Modify,
        _ => ChangeKind::Remove { expired },
    };
    let data = record.dynamodb.unwrap();
    let image = data.new_image.map(|image| attr::item_from_stream(image).unwrap());
    Change {
        kind,
        key: attr::item_from_stream(data.keys.unwrap()).unwrap(),
        image: image.filter(|_| !matches!(kind, ChangeKind::Remove { .. })),
        mark: None,
        position: Position(data.sequence_number.unwrap()),
        at: At(data.approximate_creation_date_time.unwrap().to_millis().unwrap()),
    }
}

fn sorted(item: Record<'static>) -> Value<'static> {
    by_name(Value::Map(item.fields))
}

#[tokio::test]
async fn our_parser_and_the_sdk_read_the_same_records() {
    const RECORDS: usize = 300;
    let mut runner = TestRunner::deterministic();
    let entries = prop::collection::btree_map(text(), attribute(), 1..7);
    let mut body = String::from("{\"Records\" : [");
    for i in 0..RECORDS {
        let mut image = || {
            let fields: Vec<_> = entries.new_tree(&mut runner).unwrap().current().into_iter().collect();
            let fields: Vec<_> = fields.into_iter().map(|(k, v)| (k.into(), v)).collect();
            let mut form = String::new();
            entries_form(&mut form, &fields, i % 3 == 0);
            form
        };
        let (keys, new, old) = (image(), image(), image());
        let (event, images) = match i % 4 {
            0 => ("INSERT", format!("\"NewImage\":{new}")),
            1 => ("REMOVE", format!("\"OldImage\":{old}")),
            // An image that a removal should not have is none of ours.
            2 => ("REMOVE", format!("\"OldImage\":{old},\"NewImage\":{new}")),
            _ => ("MODIFY", format!("\"OldImage\":{old},\"NewImage\":{new}")),
        };
        let time = ["1795358836", "1.795358836E9", "1795358836.25", "0"][i % 4];
        let who = match i % 6 {
            1 => ",\"userIdentity\":{\"PrincipalId\":\"dynamodb.amazonaws.com\",\"Type\":\"Service\"}",
            3 => ",\"userIdentity\":null",
            5 => ",\"userIdentity\":{\"Type\":\"Service\",\"PrincipalId\":\"replication.dynamodb.amazonaws.com\"}",
            _ => "",
        };
        if i > 0 {
            body.push(',');
        }
        body.push_str("{\"eventID\":");
        json_text(&mut body, "id\"é", i % 2 == 0);
        write!(
            body,
            ",\"awsRegion\":\"eu-west-1\",\"dynamodb\":{{\"ApproximateCreationDateTime\":{time},\"Keys\":{keys},{images},\
             \"SequenceNumber\":\"{:021}\",\"SizeBytes\":{i},\"StreamViewType\":\"NEW_AND_OLD_IMAGES\"}},\
             \"eventName\":\"{event}\",\"eventSource\":\"aws:dynamodb\",\"eventVersion\":\"1.1\"{who}}}",
            i + 1
        )
        .unwrap();
    }
    body.push_str("],\"NextShardIterator\":\"arn|\\\"next\\u00e9\"}");
    let sum = crc32fast::hash(body.as_bytes());
    let (script, server) = Script::serve(vec![(200, body, Some(sum))]).await;
    let (_, changes) = connect(&sdk_config(), &settings(&server)).unwrap();
    let ours = changes.read("arn|\"it\"").await.unwrap();

    let config = aws_sdk_dynamodbstreams::config::Builder::from(&sdk_config()).endpoint_url(&server.endpoint).build();
    let sdk = aws_sdk_dynamodbstreams::Client::from_conf(config);
    let answer = sdk.get_records().shard_iterator("it").send().await.map_err(|e| fault::sdk(e, "read", "t")).unwrap();
    assert_eq!(ours.next, answer.next_shard_iterator);
    assert_eq!(ours.changes.len(), RECORDS);
    let mut expired = 0;
    for (ours, theirs) in ours.changes.into_iter().zip(answer.records.unwrap().into_iter().map(theirs)) {
        assert_eq!((ours.kind, &ours.position, ours.at), (theirs.kind, &theirs.position, theirs.at));
        expired += u32::from(ours.kind == ChangeKind::Remove { expired: true });
        assert_eq!(sorted(ours.key), sorted(theirs.key));
        assert_eq!(ours.image.map(sorted), theirs.image.map(sorted));
    }
    assert!(expired > 0);
    let requests = script.requests.lock().unwrap();
    let (headers, request) = &requests[0];
    assert_eq!(headers["x-amz-target"], "DynamoDBStreams_20120810.GetRecords");
    assert!(headers["authorization"].to_str().unwrap().contains("/eu-west-1/dynamodb/aws4_request"));
    assert_eq!(request["ShardIterator"], "arn|\"it\"");
}

/// A record, with parts of it replaced.
fn record(event: &str, data: &str, more: &str) -> String {
    format!("{{\"Records\":[{{\"eventName\":\"{event}\",\"dynamodb\":{{{data}}}{more}}}]}}")
}

const WHOLE: &str = "\"ApproximateCreationDateTime\":17,\"Keys\":{\"id\":{\"S\":\"b1\"}},\"SequenceNumber\":\"100\"";
const IMAGE: &str = ",\"NewImage\":{\"id\":{\"S\":\"b1\"}}";

#[test]
fn only_the_time_to_live_service_makes_a_removal_expired() {
    let removed_by = |who: &str| {
        let who = format!(",\"userIdentity\":{{{who}}}");
        decode(record("REMOVE", WHOLE, &who).as_bytes()).unwrap().changes[0].kind
    };
    let expired = |expired| ChangeKind::Remove { expired };
    assert_eq!(removed_by("\"Type\":\"Service\",\"PrincipalId\":\"dynamodb.amazonaws.com\""), expired(true));
    assert_eq!(
        removed_by("\"Type\":\"Service\",\"PrincipalId\":\"replication.dynamodb.amazonaws.com\""),
        expired(false)
    );
    assert_eq!(removed_by("\"Type\":\"User\",\"PrincipalId\":\"dynamodb.amazonaws.com\""), expired(false));
    assert_eq!(removed_by("\"PrincipalId\":null,\"Type\":null,\"Other\":[1]"), expired(false));
}

#[tokio::test]
async fn a_record_that_cannot_be_followed_is_refused_and_a_torn_answer_is_read_again() {
    let good = decode(record("INSERT", &format!("{WHOLE}{IMAGE}"), "").as_bytes()).unwrap();
    assert_eq!((good.changes[0].at, &good.changes[0].position), (At(17_000), &Position("100".into())));
    for empty in [
        "{\"Records\":[]}",
        "{\"Records\":[],\"NextShardIterator\":null}",
        "{\"NextShardIterator\":\"\",\"Records\":[]}",
    ] {
        assert_eq!(decode(empty.as_bytes()), Ok(Batch::default()), "{empty}");
    }
    let keys = "\"Keys\":{\"id\":{\"S\":\"secret\"}}";
    for refused in [
        record("MODIFY", WHOLE, ""),
        record("REWIND", &format!("{WHOLE}{IMAGE}"), ""),
        record("REMOVE", &format!("\"SequenceNumber\":\"1\",{keys}"), ""),
        record("REMOVE", &format!("\"ApproximateCreationDateTime\":17,{keys}"), ""),
        record("REMOVE", "\"ApproximateCreationDateTime\":17,\"SequenceNumber\":\"1\"", ""),
        record("REMOVE", &format!("\"ApproximateCreationDateTime\":1e300,\"SequenceNumber\":\"1\",{keys}"), ""),
        record("INSERT", &format!("{WHOLE},\"NewImage\":{{\"id\":{{\"X\":\"secret\"}}}}"), ""),
        "{\"Records\":[{\"eventName\":\"REMOVE\"}]}".to_owned(),
        "{\"Records\":[{}]}".to_owned(),
        "[]".to_owned(),
        // Somebody else's answer must not end a shard.
        "{}".to_owned(),
        "{\"Records\":null}".to_owned(),
        "{\"NextShardIterator\":\"next\"}".to_owned(),
    ] {
        let (_, server) = Script::serve(vec![(200, refused.clone(), None)]).await;
        let (_, changes) = connect(&sdk_config(), &settings(&server)).unwrap();
        let error = changes.read("it").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{refused}");
        assert!(!error.to_string().contains("secret"), "{error}");
        // The same, torn: nothing is known of what was in it.
        let torn = refused[..refused.len() - 1].to_owned();
        let (_, server) = Script::serve(vec![(200, torn, None)]).await;
        let (_, changes) = connect(&sdk_config(), &settings(&server)).unwrap();
        assert_eq!(changes.read("it").await.unwrap_err().kind, ErrorKind::Internal);
    }
    let code = |code: &str| (400, format!("{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{code}\"}}"), None);
    for (name, kind) in
        [("ExpiredIteratorException", ErrorKind::Expired), ("TrimmedDataAccessException", ErrorKind::Trimmed)]
    {
        let (script, server) = Script::serve(vec![code(name)]).await;
        let (_, changes) = connect(&sdk_config(), &settings(&server)).unwrap();
        assert_eq!(changes.read("it").await.unwrap_err().kind, kind);
        assert_eq!(script.requests.lock().unwrap().len(), 1, "{name} is no passing trouble");
    }
}
