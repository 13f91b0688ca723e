//! Reading shards: once, or on and on while what they gave is being applied (FEATURES A2).

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::context::WorkerContext;
use super::follow::Stopped;
use crate::domain::at::At;
use crate::ports::{Batch, ErrorKind, PortError, Position, ReadFrom};

/// Answers of a shard that may wait to be applied. Each holds a megabyte at most.
const WAITING: usize = 2;

/// Where a shard is.
#[derive(Clone, Debug)]
pub(super) struct ShardRef {
    /// The store.
    pub store: String,
    /// The table's name, for errors.
    pub source: String,
    /// The stream.
    pub stream: String,
    /// The shard.
    pub shard: String,
}

/// One read of a shard.
#[derive(Debug)]
pub(super) struct Answer {
    /// Monotonic time before it.
    pub mono: i64,
    /// Wall time before it.
    pub wall: At,
    /// What it gave.
    pub batch: Batch,
}

impl Answer {
    /// The position of its last change and the iterator behind it: where there was something and may be more.
    pub(super) fn goes_on(&self) -> Option<(&Position, &str)> {
        Some((&self.batch.changes.last()?.position, self.batch.next.as_deref()?))
    }
}

/// Reads a shard once: on where its iterator stands, or from `from`.
pub(super) async fn read(
    ctx: &WorkerContext,
    shard_ref: &ShardRef,
    iterator: Option<&str>,
    from: Result<ReadFrom, Stopped>,
) -> Result<Answer, Stopped> {
    let gap = |e: PortError| match e.kind {
        ErrorKind::Trimmed => Stopped::Gap(format!("{}: {e}", shard_ref.source)),
        _ => Stopped::Read(e),
    };
    let changes = ctx.ports.changes.named(&shard_ref.store);
    let (mono, wall) = (ctx.mono(), ctx.wall());
    if let Some(iterator) = iterator {
        match changes.read(iterator).await {
            Ok(batch) => return Ok(Answer { mono, wall, batch }),
            // An iterator is valid for a quarter of an hour; positions are stored in the target.
            Err(e) if e.kind == ErrorKind::Expired => {}
            Err(e) => return Err(gap(e)),
        }
    }
    let (mono, wall) = (ctx.mono(), ctx.wall());
    let from = from?;
    let fresh = changes.iterator(&shard_ref.stream, &shard_ref.shard, &from).await.map_err(gap)?;
    let batch = changes.read(&fresh).await.map_err(|e| match (e.kind, &from) {
        // The oldest record went between the two calls: it was older than what is kept, and is not wanted.
        (ErrorKind::Trimmed, ReadFrom::Oldest) => Stopped::Read(PortError { kind: ErrorKind::Unreachable, ..e }),
        _ => gap(e),
    })?;
    Ok(Answer { mono, wall, batch })
}

/// A shard that is being read on as long as it gives something. Dropping it ends that; what was not taken is read
/// again.
#[derive(Debug)]
pub(super) struct Reader {
    answers: mpsc::Receiver<Result<Answer, Stopped>>,
    _task: AbortOnDropHandle<()>,
}

impl Reader {
    /// Reads on behind an answer that gave something.
    pub(super) fn start(ctx: &Arc<WorkerContext>, shard_ref: ShardRef, last: &Position, next: &str) -> Self {
        let (tell, answers) = mpsc::channel(WAITING);
        let ctx = Arc::clone(ctx);
        let (mut last, mut next) = (last.clone(), next.to_owned());
        let task = tokio::spawn(async move {
            // A place in the channel first: no read is older than it must be.
            while let Ok(free) = tell.reserve().await {
                let answer = read(&ctx, &shard_ref, Some(&next), Ok(ReadFrom::After(last.clone()))).await;
                let goes_on = answer.as_ref().ok().and_then(Answer::goes_on);
                let goes_on = goes_on.map(|(position, next)| (position.clone(), next.to_owned()));
                free.send(answer);
                match goes_on {
                    Some(on) => (last, next) = on,
                    None => return,
                }
            }
        });
        Self { answers, _task: AbortOnDropHandle::new(task) }
    }

    /// Waits for the next answers and takes all there are: with `since`, until one began no earlier. `false` when no
    /// such one will come, because the reading has ended.
    pub(super) async fn take(&mut self, since: Option<i64>, into: &mut Vec<Answer>) -> Result<bool, Stopped> {
        loop {
            let Some(answer) = self.answers.recv().await else { return Ok(false) };
            let answer = answer?;
            let fresh = since.is_none_or(|since| answer.mono >= since);
            into.push(answer);
            if fresh {
                break;
            }
        }
        while let Ok(answer) = self.answers.try_recv() {
            into.push(answer?);
        }
        Ok(true)
    }
}
