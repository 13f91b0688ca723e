//! What a store says of a row before it is asked.

use crate::domain::mapping::{Mapped, RowError, RowSize};

/// Encodes rows as a load does, and sends and keeps none. Asks nothing of the world.
pub trait RowEncoder: Send {
    /// How large the row would be with its child rows, or why no such row can be written.
    fn encode(&mut self, mapped: &Mapped<'_>) -> Result<RowSize, RowError>;
}
