//! The only owner of mutable run state: takes inputs one at a time, decides, journals, performs, publishes.
//!
//! - `alerts`: which alerts fire, and the tasks that tell places of them.
//! - `clock`: the run's clock, and this machine's.
//! - `open`: a run is opened or resumed.
//! - `dispatch`: the loop. One input at a time, in one place.
//! - `journal_thread`: the journal's thread; facts are durable before their effects.
//! - `facts`: how workers send facts to the loop.
//! - `publish`: snapshots for screens.
//! - `best_effort`: the thread that writes samples and findings, which may be lost.
//! - `failpoint`: where tests kill the process (feature `failpoints`).
//! - `rollback`: rollback on a thread and runtime of its own.
//! - `lease`: one driver.
//! - `elsewhere`: a rollback by another process, past this one.
//! - `socket`: orders from other terminals.
//! - `outcome`: how a process ends.

mod alerts;
mod best_effort;
mod clock;
mod dispatch;
mod elsewhere;
mod facts;
#[cfg(feature = "failpoints")]
pub mod failpoint;
pub mod handle;
mod journal_thread;
mod lease;
mod open;
mod orders;
mod outcome;
mod peer;
mod publish;
mod retention;
pub mod rollback;
pub mod socket;
#[cfg(test)]
mod tests;

pub use alerts::AlertSetup;
pub use clock::{MachineClock, RunClock, stepped_since};
pub use lease::{DriverLease, holder};
pub use open::{Closed, DiskPatience, Engine, EngineError, Opening, Setup, StepBegan};
pub use outcome::{Ending, ending};
