//! rehearsal.

pub mod postgres;
