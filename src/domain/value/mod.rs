//! Values on their way from a source to a target.
//!
//! A source page is parsed once into [`Item`]s that borrow from it; a compiled mapping turns an item
//! into a row of [`Cell`]s that borrow from the item; a target encodes cells straight into its wire
//! format. Nothing in between owns a map per item.

mod cell;
mod item;

pub use cell::{Cell, Key, OwnedRow};
pub use item::{Attr, Item};
