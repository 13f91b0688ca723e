//! The shards of one table's stream, listed while they are read.
//!
//! Listing has a rate of its own that all tables of an account share (ten `DescribeStream` a second), so with many tables
//! an answer takes a while. Reading does not wait for it: a listing that is old is only not fresh enough for a drain.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::context::WorkerContext;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult, Stream};

/// How long an answer is waited for before the shards that are known are read on.
const PATIENCE: Duration = Duration::from_millis(100);
/// Pause after a listing that failed.
const AGAIN_MS: i64 = 500;

/// What was listed last, and what is being listed.
#[derive(Debug)]
pub struct Listing {
    /// The shards of the last listing.
    pub stream: Stream,
    /// Monotonic time before that listing was asked for.
    pub mono: i64,
    /// Why the last attempt gave nothing.
    pub trouble: Option<String>,
    asked: Option<Asked>,
    failed_mono: i64,
}

/// A listing under way.
#[derive(Debug)]
struct Asked {
    mono: i64,
    answer: JoinHandle<PortResult<Option<Stream>>>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl Default for Listing {
    fn default() -> Self {
        let long_ago = i64::MIN / 2;
        let stream = Stream { id: String::new(), shards: Vec::new() };
        Self { stream, mono: long_ago, trouble: None, asked: None, failed_mono: long_ago }
    }
}

/// What asking for a listing gave.
#[derive(Debug, PartialEq)]
pub enum Listed {
    /// The stream as it is; `None` when it is off.
    Answered(Option<Stream>, i64),
    /// No answer yet, or none because of something that passes. What was listed before stands.
    NotYet,
}

impl Listing {
    /// Makes the next listing due at once. One that is under way was asked for before, and is not waited for.
    pub fn is_old(&mut self) {
        self.mono = i64::MIN / 2;
        self.asked = None;
    }

    /// Asks for a listing where the last one is older than `every` milliseconds. Waits for the first one as long as it
    /// takes.
    pub async fn renew(&mut self, ctx: &WorkerContext, table: &Table, every: i64) -> PortResult<Listed> {
        let now = ctx.mono();
        if self.asked.is_none() && (now - self.mono < every || now - self.failed_mono < AGAIN_MS) {
            return Ok(Listed::NotYet);
        }
        let asked = self.asked.get_or_insert_with(|| {
            let (changes, table) = (std::sync::Arc::clone(ctx.ports.changes(table)), table.clone());
            Asked { mono: now, answer: tokio::spawn(async move { changes.stream(&table).await }) }
        });
        let first = self.stream.id.is_empty();
        let answer = if first {
            (&mut asked.answer).await
        } else {
            match tokio::time::timeout(PATIENCE, &mut asked.answer).await {
                Ok(answer) => answer,
                Err(_) => return Ok(Listed::NotYet),
            }
        };
        let mono = asked.mono;
        self.asked = None;
        let answer = answer.unwrap_or_else(|e| {
            Err(PortError::new(ErrorKind::Internal, "list shards", table.source.clone(), e.to_string()))
        });
        match answer {
            Ok(stream) => {
                self.trouble = None;
                Ok(Listed::Answered(stream, mono))
            }
            Err(e) if e.kind.transient() && !first => {
                if self.trouble.is_none() {
                    tracing::warn!(table = %table.id, error = %e, "shards are not listed");
                }
                self.trouble = Some(e.to_string());
                self.failed_mono = ctx.mono();
                Ok(Listed::NotYet)
            }
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::ErrorKind;
    use crate::workers::tests::faults::{Fault, Latch, Op};
    use crate::workers::tests::world::{World, until};

    #[tokio::test]
    async fn a_listing_is_as_old_as_the_moment_it_was_asked_for() {
        let world = World::new();
        let ctx = world.ctx().await;
        world.well(&ctx, &["capture"]).await;
        let table = world.table("books").clone();
        let mut listing = Listing::default();
        let Ok(Listed::Answered(Some(stream), _)) = listing.renew(&ctx, &table, 100).await else {
            panic!("the first one")
        };
        (listing.stream, listing.mono) = (stream, ctx.mono());

        world.clock.advance(1_000);
        let (asked_at, latch) = (ctx.mono(), Latch::default());
        world.faults.put(Op::Stream, "books", 0, 1, Fault::Latch(latch.clone()));
        assert_eq!(listing.renew(&ctx, &table, 100).await, Ok(Listed::NotYet));
        latch.caught().await;
        // A marker goes through meanwhile: this listing may lack the shard it came in.
        world.clock.advance(1_000);
        latch.release();
        let mut mono = None;
        while mono.is_none() {
            if let Listed::Answered(_, at) = listing.renew(&ctx, &table, 100).await.unwrap() {
                mono = Some(at);
            }
        }
        // The hand clock moves a little at each look.
        assert!(mono.is_some_and(|at| (asked_at..asked_at + 500).contains(&at)), "{mono:?} for {asked_at}");

        // A shard has ended since a listing was asked for: that one is not waited for.
        let calls = world.faults.calls(Op::Stream);
        let latch = Latch::default();
        world.faults.put(Op::Stream, "books", 0, 1, Fault::Latch(latch.clone()));
        assert_eq!(listing.renew(&ctx, &table, 100).await, Ok(Listed::NotYet));
        listing.is_old();
        let fresh = listing.renew(&ctx, &table, 5_000).await.unwrap();
        assert!(matches!(fresh, Listed::Answered(Some(_), at) if at > ctx.mono() - 500), "{fresh:?}");
        until("both were asked for", || world.faults.calls(Op::Stream) == calls + 2).await;

        world.faults.put(Op::Stream, "books", 0, 1, Fault::Refuse(ErrorKind::Throttled));
        listing.is_old();
        assert_eq!(listing.renew(&ctx, &table, 100).await, Ok(Listed::NotYet));
        assert!(listing.trouble.is_some());
        ctx.stop().await;
    }
}
