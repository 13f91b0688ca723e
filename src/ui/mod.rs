//! The shell round the drawing: terminal, keys, frames.

pub mod arming;
pub mod decode;
pub mod frames;
