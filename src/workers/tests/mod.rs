//! The workers against stores in memory: every port wrapped in faults, the clock driven by hand.
//!
//! The stores in [`world`] keep the contracts of the real ones (lineage, retention, expiring iterators, one
//! transaction for rows and their progress); [`faults`] says what goes wrong at which call, or at random under a seed.

mod attributes;
mod batches;
mod capture;
mod compare;
mod contract;
mod converge;
mod cutover;
mod drain;
mod dry_run;
mod exercise;
pub mod faults;
mod faulty;
mod faulty_back;
mod follow;
mod jobs;
mod keys;
mod ledger;
mod load;
mod marker;
mod movers;
mod new_side;
pub mod plan;
mod positions;
mod reader;
mod reverse;
mod sampled;
mod trades;
mod two_regions;
pub mod world;
