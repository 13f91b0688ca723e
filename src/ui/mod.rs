//! The shell round the drawing: terminal, keys, frames.

mod answers;
mod app;
pub mod arming;
pub mod capabilities;
pub mod decode;
mod desktop;
pub mod dialog;
pub mod field;
pub mod frames;
pub mod input;
pub mod keys;
mod options;
mod paint;
pub mod scroll;
pub mod session;
pub mod term;
mod title;

pub use app::{Drawing, UiError, UiExit, run, run_drawn_by};
pub use options::UiOptions;
