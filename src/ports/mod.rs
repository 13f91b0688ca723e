//! What the workers need from outside, as object-safe traits, and the error kinds they all share.
//!
//! Adapters implement these; nothing here names a driver. All methods are cancel-safe unless they say
//! otherwise: dropping a future may leave the effect done or not done, never half done.

mod budget;
mod catalogue;
mod changes;
mod clock;
mod column_types;
mod copied;
mod encoder;
mod error;
mod facts;
mod identity;
mod job;
mod lanes;
mod lineage;
mod metrics;
mod mover;
mod notices;
mod owned;
mod point_in_time;
mod probe;
mod restore;
mod retained;
mod reverse;
mod sequence;
mod several;
mod source;
mod stores;
mod surroundings;
mod switch;
mod target;
#[cfg(test)]
pub(crate) mod tests;
mod unavailable;

pub use budget::Budget;
pub use catalogue::Catalogue;
pub use changes::{Batch, Change, ChangeKind, Changes, Position, ReadFrom, Shard, Stream};
pub use clock::Clock;
pub use column_types::{ColumnTypes, MadeOf};
pub use copied::CopiedRows;
pub use encoder::RowEncoder;
pub use error::{ErrorKind, LeaseHolder, PortError, PortResult};
pub use facts::{Facts, NotRecorded};
pub use identity::{Address, Identity};
pub use job::{Begin, JobProgress, JobState, Jobs};
pub use lanes::{Ahead, Fence, FollowState, LaneStand, common, is_behind, refuse_rewound, rewound};
pub use lineage::{Gap, Lineage, start_now};
pub use metrics::Metrics;
pub use mover::{Mover, MoverLook, MoverState, TableState};
pub use notices::{NotTold, Notices};
pub use owned::{Lease, OpenedTable, Owned, OwnedTable};
pub use point_in_time::{PointInTime, TextPage};
pub use probe::{ProbeOutcome, ProbeResult, Probes};
pub use restore::{FoundTable, HeldTable, Restore, Restoring};
pub use retained::{LogLook, LogWritten, RetainingSlot};
pub use reverse::{
    CaptureGap, CaptureState, Cleared, InBatch, ItemOutcome, Items, Outbox, OutboxChange, OwnWrite, ReverseCounts,
    ReversePorts, Taken, Together, Unfinished, Waiting,
};
pub use sequence::{Beyond, GivenFor, Reach, Sequence, SequenceScan, counterpart};
pub use several::{SeveralJobs, SeveralOutboxes, SeveralSwitches, SeveralTargets};
pub use source::{Cursor, OpenWrite, Page, PageEnd, Partition, Source, SourceColumn, SourceTable, first_open};
pub use stores::ByStore;
pub use surroundings::{Beside, Collation, Extension, ExtensionUse, Grant, Role, SessionSetting, Surroundings};
pub use switch::{SwitchValue, Switches};
pub use target::{
    Applied, Bookkeeping, Bulk, ChangeBatch, Checkpoint, CountChange, Expiry, FullRead, IndexKey, Obstacle, Orphans,
    Owning, ParkedRow, RowChange, SetAside, SourceCount, Target, TargetServer, TargetTable, TargetVisitor,
};
pub use unavailable::Unavailable;
