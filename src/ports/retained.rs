//! What a server says of the log that it keeps for slots.

use crate::domain::gauge::WalStatus;

/// A server's log, and what it keeps of it for a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogLook {
    /// Bytes of log that were ever written; absent on a server that writes none of its own, a standby.
    pub end: Option<u64>,
    /// Most that the server keeps for a slot, as it writes it: `10GB`; absent where it has no limit.
    pub limit: Option<String>,
    /// The same in bytes.
    pub limit_bytes: Option<u64>,
    /// How much was written since its last checkpoint, where it was asked for and may be known.
    pub written: Option<LogWritten>,
    /// The plan's slots.
    pub slots: Vec<RetainingSlot>,
}

/// Log that was written in a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogWritten {
    /// Bytes.
    pub bytes: f64,
    /// In how many seconds; over 0.
    pub seconds: f64,
}

/// A slot of the plan's, with what is kept because of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetainingSlot {
    /// Its name.
    pub name: String,
    /// Bytes from the oldest place it may need to the end of the log; absent when the server does not say.
    pub bytes: Option<u64>,
    /// What the server says of the log it needs.
    pub status: WalStatus,
    /// Bytes that may still be written until it may be lost; absent where the server has no limit.
    pub left: Option<u64>,
    /// Why it is of no use any more, as the server says it: `invalidation_reason = wal_removed`.
    pub reason: Option<String>,
}
