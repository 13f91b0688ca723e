//! Following DynamoDB Streams.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{StreamSpecification, StreamViewType, TableStatus};
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::types::{ShardIteratorType, StreamStatus};
use serde_json::Value;
use serde_json::value::RawValue;

use super::call_rate::CallRate;
use super::json::Malformed;
use super::source::{describe_table, stream_of};
use super::wire::Wire;
use super::{fault, records};
use crate::domain::plan::Table;
use crate::domain::value::Record;
use crate::ports::{Batch, Changes, ErrorKind, PortError, PortResult, ReadFrom, Shard, Stream};

/// How long turning a stream on may take.
const ENABLING: Duration = Duration::from_secs(120);

/// Streams keep 24 hours (DynamoDB developer guide). What is older than this may have been trimmed.
const KEPT: Duration = Duration::from_secs(23 * 3_600);

/// Pause between two reads of a stream that is being enabled: the first, and the longest. Many are enabled at once, and
/// all of them together may be read ten times a second.
const POLL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// `DescribeStream` calls a second, and at once after a pause. An account has ten a second in a region (Amazon DynamoDB
/// developer guide, quotas), and other readers of its streams need some of them.
const DESCRIBE: (f64, f64) = (8.0, 8.0);

/// What is tried when a shard is read.
const READ: &str = "read changes";
/// What it is tried on.
const STREAM: &str = "stream";

/// DynamoDB Streams as [`Changes`].
#[derive(Debug)]
pub struct DynamoChanges {
    tables: aws_sdk_dynamodb::Client,
    streams: Client,
    describes: CallRate,
    reads: Wire,
}

impl DynamoChanges {
    pub(super) fn new(tables: aws_sdk_dynamodb::Client, streams: Client, reads: Wire) -> Self {
        Self { tables, streams, describes: CallRate::new(DESCRIBE.0, DESCRIBE.1), reads }
    }

    /// A stream's shards and whether it takes records yet.
    async fn shards(&self, arn: &str, on: &str) -> PortResult<(Stream, bool)> {
        let mut shards = Vec::new();
        let mut after: Option<String> = None;
        loop {
            self.describes.turn().await;
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

    /// Reads on, with what each item was before its change.
    pub(super) async fn read_both(&self, iterator: &str) -> PortResult<(Batch, Vec<Option<Record<'static>>>)> {
        let answer = self.records(iterator).await?;
        records::decode_both(&answer).map_err(|e| unfollowable(&answer, &e))
    }

    async fn records(&self, iterator: &str) -> PortResult<bytes::Bytes> {
        let body = format!("{{\"ShardIterator\":{}}}", Value::from(iterator));
        self.reads.post("GetRecords", body, READ, STREAM).await
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
            let (mut asked, mut pause) = (false, POLL.0);
            loop {
                let described = match describe_table(&self.tables, on).await {
                    Ok(described) => described,
                    Err(e) => {
                        wait_out(e, &mut refusal, &mut pause).await?;
                        continue;
                    }
                };
                if let Some((arn, view)) = stream_of(&described) {
                    if view != Some(StreamViewType::NewAndOldImages) {
                        return Err(wrong_view(on, view.as_ref()));
                    }
                    match self.shards(&arn, on).await {
                        Ok((stream, true)) if !stream.shards.is_empty() => return Ok(stream),
                        Ok(_) => {}
                        Err(e) => {
                            wait_out(e, &mut refusal, &mut pause).await?;
                            continue;
                        }
                    }
                } else if !asked && described.table_status().is_none_or(|s| *s == TableStatus::Active) {
                    match self.turn_on(on).await {
                        Ok(()) => asked = true,
                        // Somebody else is changing the table, perhaps enabling the same stream: read again.
                        Err(e) if e.kind == ErrorKind::Conflict || e.kind.transient() => refusal = Some(e),
                        Err(e) => return Err(e),
                    }
                }
                longer(&mut pause).await;
            }
        };
        match tokio::time::timeout(ENABLING, watch).await {
            Ok(result) => result,
            Err(_) => Err(refusal.unwrap_or_else(|| {
                let why = format!("not enabled after {} s", ENABLING.as_secs());
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

    fn kept(&self) -> Option<Duration> {
        Some(KEPT)
    }

    async fn read(&self, iterator: &str) -> PortResult<Batch> {
        let answer = self.records(iterator).await?;
        records::decode(&answer).map_err(|e| unfollowable(&answer, &e))
    }
}

/// That an answer is not what a stream of ours says.
fn unfollowable(answer: &[u8], why: &Malformed) -> PortError {
    // Either a whole record that cannot be followed, or a torn answer: only the first will be the same when it is read
    // again.
    let whole = serde_json::from_slice::<&RawValue>(answer).is_ok();
    let kind = if whole { ErrorKind::Invalid } else { ErrorKind::Internal };
    PortError::new(kind, READ, STREAM, format!("an answer that cannot be followed: {why}"))
        .advise("the stream must carry new and old images; look at what stands between if it does")
}

/// Waits, longer at each turn, and at another time than others that wait.
async fn longer(pause: &mut Duration) {
    tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
    *pause = pause.mul_f64(1.5).min(POLL.1);
}

/// A refusal because of too many calls passes by waiting; any other refusal ends the attempt.
async fn wait_out(e: PortError, refusal: &mut Option<PortError>, pause: &mut Duration) -> PortResult<()> {
    if e.kind != ErrorKind::Throttled {
        return Err(e);
    }
    *refusal = Some(e);
    longer(pause).await;
    Ok(())
}

fn wrong_view(table: &str, view: Option<&StreamViewType>) -> PortError {
    let view = view.map_or("no", StreamViewType::as_str);
    PortError::new(ErrorKind::Invalid, "turn the stream on", table, format!("a stream with {view} view is on already"))
        .advise(
            "its view cannot be changed: see who reads it, turn it off, wait for its readers to finish, and let the \
             console turn it on again with NEW_AND_OLD_IMAGES",
        )
}
