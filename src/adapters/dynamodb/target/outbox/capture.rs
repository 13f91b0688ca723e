//! How the capture of one table stands: which stream it reads, how far it has come, and whether it was ever broken.
//!
//! One item of a table's bookkeeping holds it, with a version. Whatever a reader stores (records, how far its shard has
//! come) it stores in a transaction that holds only for the version it had read, so of two readers one stores it, and
//! a process that was suspended stores nothing any more.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::super::call::{Item, Stopped, Store, Tried, key_of, n, number, s, sk, text};
use super::super::names::{self, Of};
use super::super::write::Write;
use super::super::{batch, layout};
use crate::domain::at::At;
use crate::ports::{PortResult, Position, Stream, start_now};

/// Shards whose start is written in one transaction.
const AT_ONCE: usize = 80;

/// A capture as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Capture {
    /// The stream that is read.
    pub stream: String,
    /// Grows with everything that is stored of it.
    pub version: i64,
    /// The number of the next record.
    pub next: i64,
    /// Since when what comes is customers'; until then it is ours, and is not kept.
    pub opened: Option<At>,
    /// What was lost, in words.
    pub lost: Option<String>,
    /// When all of it was last read to the end.
    pub read: At,
}

impl Capture {
    fn of(item: &Item) -> Option<Self> {
        Some(Self {
            stream: text(item, "stream")?.to_owned(),
            version: number(item, "version")?,
            next: number(item, "next")?,
            opened: number(item, "opened").map(At),
            lost: text(item, "lost").map(str::to_owned),
            read: At(number(item, "read").unwrap_or_default()),
        })
    }

    /// The capture of a table; `None` when it is not captured.
    pub(super) async fn load(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<Option<Self>> {
        Ok(store.get(&of.captured(), at).await?.as_ref().and_then(Self::of))
    }

    /// The captures of several tables, in their order.
    pub(super) async fn load_all(store: &Store, of: &[Of], at: Tried<'_>) -> PortResult<Vec<Option<Self>>> {
        let places: Vec<_> = of.iter().map(Of::captured).collect();
        Ok(store.get_all(&places, at).await?.iter().map(|item| item.as_ref().and_then(Self::of)).collect())
    }

    /// The write that makes a transaction hold for this version only, and begins the next one. `more` is set besides:
    /// `, #next = :next`.
    pub(super) fn step(&self, of: &Of, more: &str) -> Write {
        Write::update(&of.captured(), format!("SET #version = :after{more}"))
            .when("#version = :before")
            .with("before", n(self.version))
            .with("after", n(self.version + 1))
    }
}

/// What a shard's item holds; `None` is a shard's end.
pub(super) fn put_shard(of: &Of, shard: &str, position: Option<&Position>) -> Write {
    let item = match position {
        Some(position) => json!({"position": s(&position.0)}),
        None => json!({"finished": {"BOOL": true}}),
    };
    Write::put(&of.captured_shard(shard), item)
}

/// Where every shard stands.
pub(super) async fn positions(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<BTreeMap<String, Option<Position>>> {
    let shards = store.query(&of.capture(), names::SHARDS, None, None, at).await?;
    let one = |item: &Item| {
        let shard = sk(item).strip_prefix(names::SHARDS).unwrap_or_default().to_owned();
        (shard, text(item, "position").map(|position| Position(position.to_owned())))
    };
    Ok(shards.iter().map(one).collect())
}

/// Begins to read a stream from its oldest records: the first one, or another than before. `lost` says what that
/// means once customers write there.
pub(super) async fn begin(
    store: &Store,
    of: &Of,
    before: Option<&Capture>,
    stream: &Stream,
    lost: Option<&str>,
    at: Tried<'_>,
) -> Result<(), Stopped> {
    let start = start_now(store.now());
    let known = positions(store, of, at).await?;
    let gone = known.keys().filter(|shard| !stream.shards.iter().any(|s| s.id == **shard));
    let gone: Vec<String> = gone.map(|shard| key_of(&of.captured_shard(shard)).to_string()).collect();
    batch::delete(store, names::BOOK, &gone, at).await?;
    // Nothing counts before the capture names the stream.
    for some in stream.shards.chunks(AT_ONCE) {
        let puts: Vec<Write> = some.iter().map(|shard| put_shard(of, &shard.id, Some(&start))).collect();
        store.transact(&puts.iter().collect::<Vec<_>>(), at).await?;
    }
    let write = match before {
        None => {
            let made = json!({"stream": s(&stream.id), "version": n(1), "next": n(1), "read": n(store.now().0)});
            Write::put(&of.captured(), made).when("attribute_not_exists(#pk)")
        }
        Some(capture) => {
            let more = ", #stream = :stream, #read = :now";
            let with_loss = format!("{more}, #lost = if_not_exists(#lost, :lost)");
            let step = capture.step(of, if lost.is_some() { &with_loss } else { more });
            let step = step.with("stream", s(&stream.id)).with("now", n(store.now().0));
            match lost {
                Some(lost) => step.with("lost", s(lost)),
                None => step,
            }
        }
    };
    store.write(&write, at).await.map(drop)
}

/// The stream that is on, as the table says, when its records hold both images.
pub(super) async fn stream_on(store: &Store, target: &str, at: Tried<'_>) -> PortResult<Option<String>> {
    let Some(described) = layout::described(store, target, at).await? else { return Ok(None) };
    let spec = described.get("StreamSpecification");
    let says = |name: &str| spec.and_then(|spec| spec.get(name));
    let on = says("StreamEnabled").and_then(Json::as_bool) == Some(true)
        && says("StreamViewType").and_then(Json::as_str) == Some("NEW_AND_OLD_IMAGES");
    let arn = described.get("LatestStreamArn").and_then(Json::as_str);
    Ok(arn.filter(|_| on).map(str::to_owned))
}

/// Deletes everything that is kept of a table's capture. The capture itself goes first: without it nothing is stored.
pub(in super::super) async fn forget(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<()> {
    store.write(&Write::delete(&of.captured()), at).await.map_err(|e| e.error(at))?;
    let of_lanes =
        (0..names::LANES).flat_map(|lane| [of.waits(lane), of.states(lane), of.images(lane), of.tally(lane).pk]);
    for part in [of.capture(), of.back_markers(), of.conflicts()].into_iter().chain(of_lanes) {
        let kept = store.query(&part, "", None, None, at).await?;
        let key = |item: &Item| {
            let place = names::Place { pk: part.clone(), sk: sk(item).to_owned() };
            key_of(&place).to_string()
        };
        batch::delete(store, names::BOOK, &kept.iter().map(key).collect::<Vec<_>>(), at).await?;
    }
    Ok(())
}
