//! What the workers need of the world, as object-safe traits, and the error kinds they all share.
//!
//! Adapters implement these; nothing here names a driver. All methods are cancel-safe unless they say
//! otherwise: dropping a future may leave the effect done or not done, never half done.

mod changes;
mod clock;
mod error;
mod facts;
mod identity;
mod lanes;
mod metrics;
mod probe;
mod reverse;
mod sequence;
mod source;
mod switch;
mod target;

pub use changes::{Batch, Change, ChangeKind, Changes, Position, ReadFrom, Shard, Stream};
pub use clock::Clock;
pub use error::{ErrorKind, LeaseHolder, PortError, PortResult};
pub use facts::{Facts, NotRecorded};
pub use identity::{Address, Identity};
pub use lanes::{Ahead, Hold, LaneStand, Standing, common};
pub use metrics::Metrics;
pub use probe::{ProbeResult, Probes, Verdict};
pub use reverse::{
    Capture, Captured, Image, ItemOutcome, Items, Outbox, ReversePorts, Taken, Tally, Unfinished, Waiting,
};
pub use sequence::{Sequence, SequenceLook};
pub use source::{Cursor, Page, PageEnd, Partition, Source, SourceTable};
pub use switch::{Reading, Switches};
pub use target::{
    Applied, Bookkeeping, Bulk, ChangeBatch, Checkpoint, CountChange, FullRead, Lease, Obstacle, Orphans, ParkedRow,
    RowChange, SetAside, SourceCount, Target, TargetServer, TargetTable, TargetVisitor,
};
