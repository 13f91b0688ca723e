//! Values on their way from a source to a target.
//!
//! A source page is parsed once into [`Record`]s that borrow from it; a compiled mapping turns a record
//! into a row of [`Cell`]s that borrow from the record; a target encodes cells straight into its wire
//! format. Nothing in between owns a map per record.

mod cell;
mod record;
#[allow(clippy::module_inception)]
mod value;

pub use cell::{Cell, Key, OwnedRow};
pub use record::Record;
pub use value::Value;
