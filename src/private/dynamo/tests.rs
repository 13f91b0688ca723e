//! The embedded store by itself.

use std::fs::FileTimes;
use std::time::SystemTime;

use super::*;
use crate::private::clients;
use crate::rehearsal::records::{Kind, table_name};
use crate::rehearsal::seed::create_tables;
use aws_sdk_dynamodb::types::{AttributeValue, StreamSpecification, StreamViewType};

#[tokio::test]
async fn tuned_queries_use_the_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let dynamo = EmbeddedDynamo::start(dir.path()).unwrap();
    let client = aws_sdk_dynamodb::Client::new(&clients::session(dynamo.endpoint(), 1));
    create_tables(&client).await.unwrap();
    let table = table_name(Kind::Book);
    dynamo.tune(&[table]).unwrap();
    dynamo.tune(&[table]).unwrap();

    let connection = rusqlite::Connection::open(&dynamo.file).unwrap();
    let explain = |sql: &str| -> String {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    // The queries that the emulator's own source runs for every stream write, stream read and scan page.
    let newest = explain("SELECT MAX(CAST(sequence_number AS INTEGER)) FROM _stream_records WHERE table_name = 't'");
    assert!(newest.contains("ix_newest_record"), "{newest}");
    let shard = explain(
        "SELECT * FROM _stream_records WHERE table_name = 't' AND shard_id = 's' \
         AND CAST(sequence_number AS INTEGER) >= 5 ORDER BY CAST(sequence_number AS INTEGER) LIMIT 10",
    );
    assert!(shard.contains("ix_shard_record") && !shard.contains("TEMP B-TREE"), "{shard}");
    let page = explain(&format!("SELECT pk FROM \"{table}\" ORDER BY hash_prefix, pk, sk LIMIT 10"));
    assert!(page.contains(&format!("ix_scan_{table}")) && !page.contains("TEMP B-TREE"), "{page}");
}

#[tokio::test]
async fn stream_writes_are_served_after_tuning() {
    let dir = tempfile::tempdir().unwrap();
    let dynamo = EmbeddedDynamo::start(dir.path()).unwrap();
    let session = clients::session(dynamo.endpoint(), 1);
    let client = aws_sdk_dynamodb::Client::new(&session);
    create_tables(&client).await.unwrap();
    let table = table_name(Kind::Cart);
    dynamo.tune(&[table]).unwrap();
    let view = StreamSpecification::builder().stream_enabled(true).stream_view_type(StreamViewType::NewAndOldImages);
    client.update_table().table_name(table).stream_specification(view.build().unwrap()).send().await.unwrap();
    for i in 0..40 {
        let put = client.put_item().table_name(table).item("cartId", AttributeValue::S(format!("c{i}")));
        put.send().await.unwrap();
    }
    let streams = aws_sdk_dynamodbstreams::Client::new(&session);
    let stream = streams.list_streams().table_name(table).send().await.unwrap();
    let arn = stream.streams()[0].stream_arn().unwrap().to_owned();
    let told = streams.describe_stream().stream_arn(&arn).send().await.unwrap();
    let shard = told.stream_description().unwrap().shards()[0].shard_id().unwrap().to_owned();
    let iterator = streams
        .get_shard_iterator()
        .stream_arn(&arn)
        .shard_id(shard)
        .shard_iterator_type(aws_sdk_dynamodbstreams::types::ShardIteratorType::TrimHorizon)
        .send()
        .await
        .unwrap();
    let records = streams.get_records().shard_iterator(iterator.shard_iterator().unwrap()).send().await.unwrap();
    assert_eq!(records.records().len(), 40);
}

#[test]
fn its_files_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let dynamo = EmbeddedDynamo::start(dir.path()).unwrap();
    assert!(dynamo.folder().join("dynamo.db").exists());
    drop(dynamo);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_a_killed_process_left_is_swept_and_what_lives_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let living = EmbeddedDynamo::start(dir.path()).unwrap();
    let dead = dir.path().join(format!("{PREFIX}4194303-dead"));
    let foreign = dir.path().join("somebody-elses");
    fs::create_dir(&dead).unwrap();
    fs::create_dir(&foreign).unwrap();
    fs::write(dead.join(LOCK), "").unwrap();
    fs::write(dead.join("dynamo.db"), "rows").unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    for path in [&dead, &living.folder().to_owned()] {
        File::open(path).unwrap().set_times(FileTimes::new().set_modified(old)).unwrap();
    }
    let second = EmbeddedDynamo::start(dir.path()).unwrap();
    assert!(!dead.exists());
    assert!(foreign.exists());
    assert!(living.folder().exists() && second.folder().exists());
}
