//! The shell round the drawing: terminal, keys, frames.

pub mod arming;
pub mod capabilities;
pub mod decode;
pub mod dialog;
pub mod field;
pub mod frames;
pub mod input;
pub mod keys;
pub mod scroll;
pub mod session;
pub mod term;
