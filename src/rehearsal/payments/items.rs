//! Sessions and limits as DynamoDB items, and the tables that hold them.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue as Av, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    Projection, ProjectionType, ScalarAttributeType,
};
use aws_sdk_dynamodb::{Client, operation::create_table::builders::CreateTableFluentBuilder};

use crate::private::dynamo::EmbeddedDynamo;
use crate::private::{RehearsalError, RehearsalResult};
use crate::rehearsal::oracle::Side;
use crate::rehearsal::records::item::{decimal, map, moment, n, optional, s, text, whole};
use crate::rehearsal::records::{Kind, Limit, Moment, Record, RecordKey, Session};
use crate::rehearsal::seed::{Dataset, import_items, put_items, until_active};

/// An item as the SDK has it.
type Item = HashMap<String, Av>;

/// The table of a kind on a side. What the application keeps in PostgreSQL has none, and what it is given is no table.
pub(super) const fn table(kind: Kind, side: Side) -> &'static str {
    match (kind, side) {
        (Kind::Session, Side::Old) => "session-table-prod",
        (Kind::Session, Side::New) => "session-table-v2-prod",
        (Kind::Limit, Side::Old) => "limit-table-prod",
        (Kind::Limit, Side::New) => "limit-table-v2-prod",
        (Kind::Book | Kind::User | Kind::Order | Kind::Cart | Kind::Account | Kind::Payment, _) => "no-table",
    }
}

/// The index by which an account's sessions are found.
const BY_ACCOUNT: &str = "by-account";

/// The attributes of a key.
pub(super) fn key_of(key: &RecordKey) -> Option<Item> {
    match key.kind {
        Kind::Session => Some(map([("sessionId", s(&key.id))])),
        Kind::Limit => {
            let (account, day) = Limit::parts(&key.id)?;
            Some(map([("accountId", s(account)), ("day", Av::N(day.to_string()))]))
        }
        Kind::Book | Kind::User | Kind::Order | Kind::Cart | Kind::Account | Kind::Payment => None,
    }
}

/// The attribute of a kind's key that is text.
pub(super) const fn text_key(kind: Kind) -> &'static str {
    match kind {
        Kind::Session => "sessionId",
        Kind::Limit | Kind::Book | Kind::User | Kind::Order | Kind::Cart | Kind::Account | Kind::Payment => "accountId",
    }
}

/// A moment as a number of milliseconds.
pub(super) fn millis(at: Moment) -> Av {
    Av::N((at.0 / 1000).to_string())
}

/// The item of a record; nothing for what is not kept here.
pub(super) fn to_item(record: &Record) -> Option<Item> {
    match record {
        Record::Session(session) => {
            let mut item = map([
                ("sessionId", s(&session.id)),
                ("accountId", s(&session.account)),
                ("device", s(&session.device)),
                ("token", Av::B(Blob::new(session.token.clone()))),
                ("openedAt", Av::S(session.opened_at.iso())),
                ("seenAt", millis(session.seen_at)),
            ]);
            if !session.scopes.is_empty() {
                item.insert("scopes".to_owned(), Av::Ss(session.scopes.iter().cloned().collect()));
            }
            Some(item)
        }
        Record::Limit(limit) => {
            let mut item = map([
                ("accountId", s(&limit.account)),
                ("day", Av::N(limit.day.to_string())),
                ("most", n(&limit.most)),
                ("spent", n(&limit.spent)),
                ("changedAt", Av::S(limit.changed_at.iso())),
            ]);
            if let Some(reason) = &limit.reason {
                item.insert("reason".to_owned(), s(reason));
            }
            Some(item)
        }
        Record::Book(_)
        | Record::User(_)
        | Record::Order(_)
        | Record::Cart(_)
        | Record::Account(_)
        | Record::Payment(_) => None,
    }
}

/// The record in an item. `None` when an attribute is missing, of another type, or there besides: the item is damaged.
pub(super) fn from_item(kind: Kind, item: &Item) -> Option<Record> {
    let record = match kind {
        Kind::Session => Record::Session(Session {
            id: text(item, "sessionId")?,
            account: text(item, "accountId")?,
            device: text(item, "device")?,
            token: item.get("token")?.as_b().ok()?.clone().into_inner(),
            scopes: match item.get("scopes") {
                None => Default::default(),
                Some(v) => v.as_ss().ok()?.iter().cloned().collect(),
            },
            opened_at: moment(item, "openedAt")?,
            seen_at: Moment(whole(item, "seenAt")? * 1000),
        }),
        Kind::Limit => Record::Limit(Limit {
            account: text(item, "accountId")?,
            day: whole(item, "day")?,
            most: decimal(item, "most")?,
            spent: decimal(item, "spent")?,
            reason: optional(item, "reason")?,
            changed_at: moment(item, "changedAt")?,
        }),
        Kind::Book | Kind::User | Kind::Order | Kind::Cart | Kind::Account | Kind::Payment => return None,
    };
    // Nothing is written there that the application does not know.
    to_item(&record).is_some_and(|known| known.len() == item.len()).then_some(record)
}

/// Creates the tables of both sides, without streams: turning those on is the console's job. Those of the new side are
/// deployed before the day, with their keys and their index.
pub(super) async fn create(client: &Client) -> RehearsalResult<()> {
    for kind in Kind::PAYMENT_ITEMS {
        for side in [Side::Old, Side::New] {
            let table = table(kind, side);
            let failed = |e: &(dyn std::error::Error + 'static)| RehearsalError::caused("create table", table, e);
            let shaped = shaped(client.create_table().table_name(table), kind).map_err(|e| failed(&e))?;
            shaped.billing_mode(BillingMode::PayPerRequest).send().await.map_err(|e| failed(&e))?;
            until_active(client, table).await?;
        }
    }
    Ok(())
}

/// With the key of a kind, and the index of sessions.
fn shaped(
    create: CreateTableFluentBuilder,
    kind: Kind,
) -> Result<CreateTableFluentBuilder, aws_sdk_dynamodb::error::BuildError> {
    let key = |name: &str, role| KeySchemaElement::builder().attribute_name(name).key_type(role).build();
    let of = |name: &str, ty| AttributeDefinition::builder().attribute_name(name).attribute_type(ty).build();
    let create = create.attribute_definitions(of(text_key(kind), ScalarAttributeType::S)?);
    if kind == Kind::Limit {
        // A day's limits are read together.
        let create = create.key_schema(key("day", KeyType::Hash)?).key_schema(key(text_key(kind), KeyType::Range)?);
        return Ok(create.attribute_definitions(of("day", ScalarAttributeType::N)?));
    }
    let create = create.key_schema(key(text_key(kind), KeyType::Hash)?);
    let index = GlobalSecondaryIndex::builder()
        .index_name(BY_ACCOUNT)
        .key_schema(key("accountId", KeyType::Hash)?)
        .projection(Projection::builder().projection_type(ProjectionType::All).build());
    let create = create.attribute_definitions(of("accountId", ScalarAttributeType::S)?);
    Ok(create.global_secondary_indexes(index.build()?))
}

/// Fills the tables of the old side; straight into the embedded store where there is one.
pub(super) async fn fill(client: &Client, dynamo: Option<&EmbeddedDynamo>, data: &Dataset) -> RehearsalResult<()> {
    let of = |kind: Kind| data.records.iter().filter(move |r| r.key().kind == kind).filter_map(to_item);
    if let Some(embedded) = dynamo {
        let tables = [Side::Old, Side::New].map(|side| Kind::PAYMENT_ITEMS.map(|kind| table(kind, side)));
        embedded.tune(&tables.concat())?;
        let tables = Kind::PAYMENT_ITEMS.map(|kind| (table(kind, Side::Old), of(kind).collect()));
        return import_items(embedded, tables.into()).await;
    }
    for kind in Kind::PAYMENT_ITEMS {
        put_items(client, table(kind, Side::Old), of(kind).collect()).await?;
    }
    Ok(())
}
