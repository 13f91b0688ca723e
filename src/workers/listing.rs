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
    /// Makes the next listing due at once.
    pub const fn is_old(&mut self) {
        self.mono = i64::MIN / 2;
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
