//! The rules the product keeps, each of which can be broken to see that the model would notice.

/// One rule, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// None: the product.
    Nothing,
    /// The drain is believed without being proven.
    Drain,
    /// Changes are applied while the load still goes on.
    LoadBeforeFollow,
    /// The load's checkpoint is durable before its rows.
    RowsWithCheckpoint,
    /// The stream's position is durable before its rows.
    RowsWithPosition,
    /// The stream is turned on after the load.
    StreamBeforeLoad,
    /// The freeze counts before a write was seen refused.
    FreezeIsProbed,
    /// A switch is set before its intent is on disk.
    IntentBeforeEffect,
    /// A set that is on the wire when a rollback comes is not waited for.
    SecondPass,
    /// The old side is opened to customers while a set is still on the wire.
    ThawAfterTheWire,
    /// Customers' writes on the new side are recorded only after it is opened to them.
    TriggerBeforeThaw,
    /// What the reverse flow wrote appears in the stream again.
    OriginIsTagged,
    /// A row of the outbox is removed before it is written on the old side.
    OutboxUntilWritten,
    /// A row of the outbox replaces a newer write on the old side.
    NewerOldWriteWins,
    /// Rollback leaves the outbox behind.
    OutboxIsCarried,
}

impl Broken {
    /// Every rule that can be broken.
    pub const ALL: [Self; 14] = [
        Self::Drain,
        Self::LoadBeforeFollow,
        Self::RowsWithCheckpoint,
        Self::RowsWithPosition,
        Self::StreamBeforeLoad,
        Self::FreezeIsProbed,
        Self::IntentBeforeEffect,
        Self::SecondPass,
        Self::ThawAfterTheWire,
        Self::TriggerBeforeThaw,
        Self::OriginIsTagged,
        Self::OutboxUntilWritten,
        Self::NewerOldWriteWins,
        Self::OutboxIsCarried,
    ];
}
