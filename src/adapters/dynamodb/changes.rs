//! Following DynamoDB Streams.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType, TableStatus};
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::types::{OperationType, Record, ShardIteratorType, StreamStatus};

use super::source::{describe_table, stream_of};
use super::{attr, fault};
use crate::domain::at::At;
use crate::domain::plan::Table;
use crate::ports::{
    Batch, Change, ChangeKind, Changes, ErrorKind, PortError, PortResult, Position, ReadFrom, Shard, Stream,
};

/// How long turning a stream on may take, and how often to look.
const ENABLING: (Duration, Duration) = (Duration::from_secs(120), Duration::from_millis(250));

/// DynamoDB Streams as [`Changes`].
#[derive(Debug)]
pub struct DynamoChanges {
    tables: aws_sdk_dynamodb::Client,
    streams: Client,
}

impl DynamoChanges {
    pub(super) const fn new(tables: aws_sdk_dynamodb::Client, streams: Client) -> Self {
        Self { tables, streams }
    }

    /// A stream's shards and whether it takes records yet.
    async fn shards(&self, arn: &str, on: &str) -> PortResult<(Stream, bool)> {
        let mut shards = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let request = self.streams.describe_stream().stream_arn(arn).set_exclusive_start_shard_id(after.take());
            let answer = request.send().await.map_err(|e| fault::sdk(e, "describe stream", on))?;
            let Some(stream) = answer.stream_description else {
                return Err(PortError::new(ErrorKind::Internal, "describe stream", on, "an answer without a stream"));
            };
            let ready = stream.stream_status() == Some(&StreamStatus::Enabled);
            for shard in stream.shards.unwrap_or_default() {
                let closed = shard.sequence_number_range().and_then(|r| r.ending_sequence_number()).is_some();
                let Some(id) = shard.shard_id else { continue };
                shards.push(Shard { id, parent: shard.parent_shard_id.filter(|p| !p.is_empty()), closed });
            }
            after = stream.last_evaluated_shard_id.filter(|id| !id.is_empty());
            if after.is_none() {
                return Ok((Stream { id: arn.to_owned(), shards }, ready));
            }
        }
    }

    async fn turn_on(&self, table: &str) -> PortResult<()> {
        const TRIED: &str = "turn the stream on";
        let spec = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewAndOldImages)
            .build()
            .map_err(|e| PortError::new(ErrorKind::Invalid, TRIED, table, fault::chain(&e)))?;
        let request = self.tables.update_table().table_name(table).stream_specification(spec);
        request.send().await.map(drop).map_err(|e| fault::sdk(e, TRIED, table))
    }
}

#[async_trait]
impl Changes for DynamoChanges {
    async fn enable(&self, table: &Table) -> PortResult<Stream> {
        let on = &table.source;
        let mut refusal = None;
        let watch = async {
            let mut asked = false;
            loop {
                let described = describe_table(&self.tables, on).await?;
                if let Some((arn, view)) = stream_of(&described) {
                    if view != Some(StreamViewType::NewAndOldImages) {
                        return Err(wrong_view(on, view.as_ref()));
                    }
                    let (stream, ready) = self.shards(&arn, on).await?;
                    if ready && !stream.shards.is_empty() {
                        return Ok(stream);
                    }
                } else if !asked && described.table_status().is_none_or(|s| *s == TableStatus::Active) {
                    match self.turn_on(on).await {
                        Ok(()) => asked = true,
                        // Somebody else is changing the table, perhaps turning the same stream on: look again.
                        Err(e) if e.kind == ErrorKind::Conflict || e.kind.transient() => refusal = Some(e),
                        Err(e) => return Err(e),
                    }
                }
                tokio::time::sleep(ENABLING.1).await;
            }
        };
        match tokio::time::timeout(ENABLING.0, watch).await {
            Ok(result) => result,
            Err(_) => Err(refusal.unwrap_or_else(|| {
                let why = format!("not enabled after {} s", ENABLING.0.as_secs());
                fault::unanswered(ErrorKind::TimedOut, why, "turn the stream on", on)
            })),
        }
    }

    async fn stream(&self, table: &Table) -> PortResult<Option<Stream>> {
        let described = describe_table(&self.tables, &table.source).await?;
        match stream_of(&described) {
            Some((arn, _)) => self.shards(&arn, &table.source).await.map(|(stream, _)| Some(stream)),
            None => Ok(None),
        }
    }

    async fn iterator(&self, stream: &str, shard: &str, from: &ReadFrom) -> PortResult<String> {
        const TRIED: &str = "get an iterator";
        let (kind, position) = match from {
            ReadFrom::Oldest => (ShardIteratorType::TrimHorizon, None),
            ReadFrom::At(p) => (ShardIteratorType::AtSequenceNumber, Some(p.0.clone())),
            ReadFrom::After(p) => (ShardIteratorType::AfterSequenceNumber, Some(p.0.clone())),
            ReadFrom::Newest => (ShardIteratorType::Latest, None),
        };
        let request = self.streams.get_shard_iterator().stream_arn(stream).shard_id(shard);
        let request = request.shard_iterator_type(kind).set_sequence_number(position);
        let answer = request.send().await.map_err(|e| fault::sdk(e, TRIED, shard))?;
        answer
            .shard_iterator
            .ok_or_else(|| PortError::new(ErrorKind::Internal, TRIED, shard, "an answer without an iterator"))
    }

    async fn read(&self, iterator: &str) -> PortResult<Batch> {
        const TRIED: &str = "read changes";
        let on = "stream";
        let request = self.streams.get_records().shard_iterator(iterator);
        let answer = request.send().await.map_err(|e| fault::sdk(e, TRIED, on))?;
        let changes = answer
            .records
            .unwrap_or_default()
            .into_iter()
            .map(|record| change(record).map_err(|why| unreadable(TRIED, on, why)))
            .collect::<PortResult<_>>()?;
        Ok(Batch { changes, next: answer.next_shard_iterator.filter(|next| !next.is_empty()) })
    }
}

/// A record that cannot be carried is never skipped: it stops the reader.
fn unreadable(tried: &str, on: &str, why: &str) -> PortError {
    PortError::new(ErrorKind::Invalid, tried, on, why)
        .advise("the stream must carry new and old images; a record was read that cannot be followed")
}

fn wrong_view(table: &str, view: Option<&StreamViewType>) -> PortError {
    let view = view.map_or("no", StreamViewType::as_str);
    PortError::new(ErrorKind::Invalid, "turn the stream on", table, format!("a stream with {view} view is on already"))
        .advise(
            "its view cannot be changed: see who reads it, turn it off, wait for its readers to finish, and let the \
             console turn it on again with NEW_AND_OLD_IMAGES",
        )
}

fn change(record: Record) -> Result<Change, &'static str> {
    let expired = record
        .user_identity()
        .is_some_and(|who| who.r#type() == Some("Service") && who.principal_id() == Some("dynamodb.amazonaws.com"));
    let kind = match record.event_name() {
        Some(OperationType::Insert) => ChangeKind::Insert,
        Some(OperationType::Modify) => ChangeKind::Modify,
        Some(OperationType::Remove) => ChangeKind::Remove { expired },
        _ => return Err("a record that is neither INSERT, MODIFY nor REMOVE"),
    };
    let data = record.dynamodb.ok_or("a record without data")?;
    let at = data.approximate_creation_date_time.ok_or("a record without a time")?;
    let at = At(at.to_millis().map_err(|_| "a record with an impossible time")?);
    let position = Position(data.sequence_number.ok_or("a record without a sequence number")?);
    let unknown = |_| "an attribute of unknown type";
    let key = attr::item_from_stream(data.keys.ok_or("a record without keys")?).map_err(unknown)?;
    let image = match kind {
        ChangeKind::Remove { .. } => None,
        _ => Some(attr::item_from_stream(data.new_image.ok_or("a record without a new image")?).map_err(unknown)?),
    };
    Ok(Change { kind, key, image, position, at })
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodbstreams::primitives::DateTime;
    use aws_sdk_dynamodbstreams::types::{AttributeValue, Identity, StreamRecord};

    use super::*;

    fn record(event: OperationType, image: bool) -> Record {
        let key = AttributeValue::S("b1".into());
        let mut data = StreamRecord::builder()
            .approximate_creation_date_time(DateTime::from_secs(1_795_358_836))
            .sequence_number("100")
            .keys("id", key.clone());
        if image {
            data = data.new_image("id", key);
        }
        Record::builder().event_name(event).dynamodb(data.build()).build()
    }

    fn removed_by(ty: &str, principal: &str) -> ChangeKind {
        let mut record = record(OperationType::Remove, false);
        record.user_identity = Some(Identity::builder().r#type(ty).principal_id(principal).build());
        change(record).unwrap().kind
    }

    #[test]
    fn only_the_time_to_live_service_makes_a_removal_expired() {
        let expired = |expired| ChangeKind::Remove { expired };
        assert_eq!(removed_by("Service", "dynamodb.amazonaws.com"), expired(true));
        assert_eq!(removed_by("Service", "replication.dynamodb.amazonaws.com"), expired(false));
        assert_eq!(removed_by("User", "dynamodb.amazonaws.com"), expired(false));
        assert_eq!(change(record(OperationType::Remove, false)).unwrap().kind, expired(false));
    }

    #[test]
    fn a_record_that_cannot_be_followed_is_refused() {
        let good = change(record(OperationType::Insert, true)).unwrap();
        assert_eq!((good.at, good.position), (At(1_795_358_836_000), Position("100".into())));
        assert!(change(record(OperationType::Modify, false)).is_err(), "keys-only stream");
        assert!(change(record(OperationType::from("REWIND"), true)).is_err());
        let mut empty = record(OperationType::Insert, true);
        empty.dynamodb = None;
        assert!(change(empty).is_err());
        let mut nowhere = record(OperationType::Insert, true);
        nowhere.dynamodb.as_mut().unwrap().sequence_number = None;
        assert!(change(nowhere).is_err());
    }
}
