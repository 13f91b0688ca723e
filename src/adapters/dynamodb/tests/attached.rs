//! What is attached to a source's table: on emulators, and from services that refuse the question.

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value as Json, json};

use super::*;
use crate::ports::Source;

async fn asked(endpoint: &str, name: &str) -> Vec<String> {
    let source = connect(&sdk_config(), &DynamoSettings::new(REGION).at(endpoint)).unwrap().0;
    source.attached(&table(name, &["id"])).await.unwrap().expect("DynamoDB has such things")
}

#[tokio::test]
async fn what_an_emulator_that_others_wrote_has_attached_is_named() {
    let Ok(endpoint) = std::env::var("CUTOVER_TEST_AWS_ENDPOINT") else {
        let required = std::env::var_os("CUTOVER_TEST_NEIGHBOURS_REQUIRED").is_some_and(|v| !v.is_empty());
        assert!(!required, "CUTOVER_TEST_AWS_ENDPOINT names no emulator; tests/run.sh starts one");
        return;
    };
    let config = aws_sdk_dynamodb::config::Builder::from(&sdk_config()).endpoint_url(&endpoint).build();
    let (client, name) = (Client::from_conf(config), fresh("attached"));
    create(&client, &name, &[("id", ScalarAttributeType::S)], None).await;
    assert_eq!(asked(&endpoint, &name).await, [""; 0], "nothing is attached to a new table");
    let described = client.describe_table().table_name(&name).send().await.unwrap().table.unwrap();
    let policy = r#"{"Version":"2012-10-17","Statement":[]}"#;
    let arn = described.table_arn.unwrap();
    client.put_resource_policy().resource_arn(&arn).policy(policy).send().await.unwrap();
    let stream = "arn:aws:kinesis:eu-west-1:000000000000:stream/orders";
    client.enable_kinesis_streaming_destination().table_name(&name).stream_arn(stream).send().await.unwrap();
    let enable = aws_sdk_dynamodb::types::ContributorInsightsAction::Enable;
    let insights = client.update_contributor_insights().table_name(&name).contributor_insights_action(enable);
    insights.send().await.unwrap();
    let found = asked(&endpoint, &name).await;
    assert_eq!(found.len(), 3, "{found:?}");
    for words in ["a resource policy: ", stream, "contributor insights: turn them on"] {
        assert!(found.iter().any(|one| one.contains(words)), "{words}: {found:?}");
    }
    client.disable_kinesis_streaming_destination().table_name(&name).stream_arn(stream).send().await.unwrap();
    let found = asked(&endpoint, &name).await;
    assert!(!found.iter().any(|one| one.contains(stream)), "it was turned off: {found:?}");
    client.delete_table().table_name(&name).send().await.unwrap();
}

#[tokio::test]
async fn what_may_not_be_asked_or_is_not_known_is_never_none() {
    let answer = |headers: HeaderMap| async move {
        let refused = |code: &str| (StatusCode::BAD_REQUEST, json!({"__type": format!("x#{code}")}).to_string());
        let operation = headers["x-amz-target"].to_str().unwrap().rsplit('.').next().unwrap().to_owned();
        match operation.as_str() {
            "DescribeTable" => {
                let warm = json!({"ReadUnitsPerSecond": 12_000, "WriteUnitsPerSecond": 20_000, "Status": "ACTIVE"});
                let table = json!({"TableArn": "arn:aws:dynamodb:eu-west-1:1:table/t", "WarmThroughput": warm});
                (StatusCode::OK, json!({"Table": table}).to_string())
            }
            "GetResourcePolicy" => refused("AccessDeniedException"),
            "DescribeKinesisStreamingDestination" => refused("UnknownOperationException"),
            _ => (StatusCode::OK, Json::Object(Default::default()).to_string()),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    let found = asked(&endpoint, "t").await;
    let expected = [
        "a resource policy: not known, for dynamodb:GetResourcePolicy is denied (AccessDeniedException)",
        "Kinesis streams: not known, for DescribeKinesisStreamingDestination was refused (UnknownOperationException)",
    ];
    assert_eq!(found[..2], expected);
    assert!(found[2].starts_with("warm throughput of 12000 reads and 20000 writes a second"), "{found:?}");
    assert_eq!(found.len(), 3);
}

#[tokio::test]
async fn the_embedded_one_says_of_nothing_that_there_is_none_where_it_does_not_know() {
    let (server, name) = (server().await, fresh("attached"));
    create(&raw(&server), &name, &[("id", ScalarAttributeType::S)], None).await;
    let found = asked(&server.endpoint, &name).await;
    assert!(found.iter().all(|words| words.contains(": not known, for ")), "{found:?}");
}
