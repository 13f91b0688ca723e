//! Draws a snapshot into a buffer. Pure: no clock, no terminal, no input.

pub mod action;
pub mod state;
pub mod theme;
