//! The only owner of mutable run state: takes inputs one at a time, decides, journals, performs, publishes.

pub mod handle;
