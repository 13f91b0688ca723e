//! An export written back as the documents they were: by batches, what was not processed again, and what is there once.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde_json::json;
use tokio::sync::mpsc;

use super::Account;
use super::load::{serve, takes_some};
use crate::adapters::dynamodb::tests::{REGION, sdk_config};
use crate::adapters::dynamodb::{self, DynamoSettings};
use crate::domain::plan::Definition;
use crate::ports::{HeldTable, Restore};
use crate::workers::{Before, RestoreEnd, RestoreError, restore};

fn held(name: &str) -> HeldTable {
    let key = vec![("id".to_owned(), "S".to_owned()), ("n".to_owned(), "N".to_owned())];
    HeldTable { id: "t".into(), name: name.into(), key, ..HeldTable::default() }
}

/// Documents of every type, as an export holds them.
fn lines(count: u32) -> Vec<u8> {
    let one = |n: u32| {
        format!(
            r#"{{"all":{{"L":[{{"B":"AP8="}},{{"BOOL":false}},{{"NULL":true}},{{"M":{{"x":{{"SS":["a","b"]}}}}}}]}},"id":{{"S":"k{n}é\n"}},"n":{{"N":"{n}"}},"ns":{{"NS":["0.5","12345678901234567890"]}}}}"#
        )
    };
    (0..count).map(|n| one(n).replace('\n', "\\n") + "\n").collect::<String>().into_bytes()
}

async fn restored(into: &dyn Restore, table: &HeldTable, lines: &[u8]) -> Result<RestoreEnd, RestoreError> {
    let source = |_: &HeldTable| {
        let (sink, out) = mpsc::channel(1);
        sink.try_send(Ok(lines.to_vec())).unwrap();
        out
    };
    restore(into, std::slice::from_ref(table), &source, &AtomicU64::new(0)).await
}

#[tokio::test]
async fn documents_of_every_type_are_written_back_and_a_restore_that_was_cut_off_goes_on() {
    for account in Account::both().await {
        let into = dynamodb::restore(&account.sdk, &DynamoSettings::new(REGION).at(&account.endpoint)).unwrap();
        let table = held("Restored");
        let all = lines(300);
        let end = restored(&into, &table, &all).await.unwrap();
        assert_eq!((end.tables[0].digest.records, end.tables[0].before), (300, Before::Nothing), "{end:?}");
        let again = restored(&into, &table, &all).await.unwrap();
        assert_eq!((again.tables[0].before, again.tables[0].digest), (Before::All, end.tables[0].digest));

        // Cut off: some of it is there. Begun again it goes on, and nothing is there twice.
        let table = held("Cut-off");
        let mut begun = into.open(std::slice::from_ref(&table)).await.unwrap();
        begun.make(&table).await.unwrap();
        begun.write(&table, &lines(120)).await.unwrap();
        drop(begun);
        let end = restored(&into, &table, &all).await.unwrap();
        assert_eq!((end.tables[0].before, end.tables[0].digest), (Before::Some(120), again.tables[0].digest));

        // A document that is not of the export is somebody's; so is a table with another key.
        let mut theirs = into.open(std::slice::from_ref(&table)).await.unwrap();
        let document = r#"{"id":{"S":"theirs"},"n":{"N":"1"},"secret":{"S":"hush"}}"#;
        theirs.write(&table, format!("{document}\n").as_bytes()).await.unwrap();
        let error = restored(&into, &table, &all).await.unwrap_err();
        assert!(matches!(error, RestoreError::Refused(_)) && !error.to_string().contains("hush"), "{error}");
        let other = HeldTable { key: vec![("id".into(), "S".into())], ..table };
        let error = restored(&into, &other, &all).await.unwrap_err().to_string();
        assert!(error.contains("its key is (id S, n N), and that of the export is (id S)"), "{error}");
    }
}

#[tokio::test]
async fn a_table_is_made_as_the_export_says_and_expires_nothing() {
    let account = Account::embedded().await;
    let into = dynamodb::restore(&account.sdk, &DynamoSettings::new(REGION).at(&account.endpoint)).unwrap();
    let mut definition = json!({
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "n", "AttributeType": "N"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "n", "KeyType": "RANGE"}],
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [{"IndexName": "by-n", "KeySchema": [{"AttributeName": "n", "KeyType": "HASH"}],
                                    "Projection": {"ProjectionType": "ALL"}}],
        "TimeToLiveSpecification": {"AttributeName": "until", "Enabled": true}});
    let table = HeldTable { ddl: Some(Definition::read(&definition.to_string()).unwrap().ddl()), ..held("Made") };
    let end = restored(&into, &table, &lines(30)).await.unwrap();
    assert!(end.notices.iter().any(|notice| notice.contains("expiry by until is left off")), "{end:?}");
    let described = account.raw().describe_table().table_name("Made").send().await.unwrap().table.unwrap();
    assert_eq!(described.global_secondary_indexes()[0].index_name(), Some("by-n"));
    definition["KeySchema"] = json!([]);
    let table = HeldTable { ddl: Some(definition.to_string()), ..held("Unmade") };
    let error = restored(&into, &table, &lines(1)).await.unwrap_err().to_string();
    assert!(error.contains("the export's definition of it"), "{error}");
}

#[tokio::test]
async fn documents_that_were_not_processed_are_sent_again_and_no_others() {
    let taken = Arc::new(std::sync::Mutex::new((0, Vec::new())));
    let app = axum::Router::new().fallback(takes_some).with_state(Arc::clone(&taken));
    let at = DynamoSettings::new(REGION).at(serve(app).await);
    let into = dynamodb::restore(&sdk_config(), &at).unwrap();
    let mut restoring = into.open(&[]).await.unwrap();
    restoring.write(&held("t"), &lines(60)).await.unwrap();
    let taken = &taken.lock().unwrap().1;
    let once: std::collections::BTreeSet<String> = taken.iter().map(ToString::to_string).collect();
    assert_eq!((taken.len(), once.len()), (60, 60), "each once");
}
