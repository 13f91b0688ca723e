//! Files of an export: one of compressed lines for each table, and a manifest that says what they hold.
//!
//! Everything is written into a folder beside the one that was asked for, `NAME.partial`, and synced; then the manifest;
//! then the folder gets its name. So a folder by that name is complete, and what was cut off never looks like it.

mod error;
mod folder;
mod lines;
mod manifest;
mod read;
mod verify;

pub use error::ExportError;
pub use folder::ExportFolder;
pub use lines::{LinesFile, Written};
pub use manifest::{Manifest, RecordForm, Structure, TableEntry};
pub use read::read;
pub use verify::{Checked, verify};
