//! The only owner of mutable run state.
mod clock;
pub mod handle;
mod outcome;
pub mod socket;
pub use clock::{MachineClock, RunClock};
pub use outcome::{Ending, ending};
