//! Pure core: no clock, no I/O, no async, no terminal. Everything here is a function of its arguments.

pub mod alert;
pub mod at;
pub mod estimate;
pub mod gauge;
pub mod lint;
pub mod mapping;
pub mod plan;
pub mod propose;
pub mod run;
pub mod secret;
pub mod value;
pub mod verify;
