//! Reproducible benchmarks: the limit, ours and other tools, in turn, in one run, as medians and ratios.
//!
//! Absolute figures belong to a machine and an hour; ratios taken side by side stay true. So every bench makes its own
//! data, starts its own servers, runs each contestant in a process of its own, repeats, and answers in ratios. What
//! is measured of ours is the code that a run performs, on real stores.

mod back;
mod books;
mod dynamodb;
mod error;
mod follow;
mod load;
mod measure;
mod own_workers;
mod pages;
mod payments;
mod postgresql;
mod records;
mod rollback;
mod screen;
mod server;
mod sink;
mod verify;

use std::path::PathBuf;

pub use error::{BenchError, BenchResult};
pub use measure::{Ratio, Report, Sample};
pub use server::Brief;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Scan to table.
    Load,
    /// Changes to rows.
    Follow,
    /// One PostgreSQL database into another.
    Postgresql,
    /// One DynamoDB table into another.
    Dynamodb,
    /// Comparing both sides.
    Verify,
    /// Restoring three parameters.
    Rollback,
    /// Drawing the screen.
    Ui,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows, changes or frames; absent means the part's own default.
    pub rows: Option<u64>,
    /// Runs of every contestant.
    pub runs: u32,
    /// Streams side by side.
    pub streams: Option<u32>,
    /// One aspect alone.
    pub only: Option<String>,
    /// Folder of the peers' scripts.
    pub peers: PathBuf,
}

/// Runs a bench. Takes minutes.
///
/// # Errors
/// When a server does not start, a contestant fails, or one did not do all of its work.
pub async fn run(part: Part, options: &Options) -> BenchResult<Report> {
    match part {
        Part::Load => load::run(options).await,
        Part::Follow => follow::run(options).await,
        Part::Postgresql => postgresql::run(options).await,
        Part::Dynamodb => dynamodb::run(options).await,
        Part::Verify => verify::run(options).await,
        Part::Rollback => rollback::run(options).await,
        Part::Ui => screen::run(options).await,
    }
}

/// Runs one contestant in this process and says what it measured.
///
/// # Errors
/// When its work fails, or nobody has this name.
pub async fn contest(brief: &Brief) -> BenchResult<Sample> {
    if let Some(sample) = load::contest(brief).await? {
        return Ok(sample);
    }
    if let Some(sample) = follow::contest(brief).await? {
        return Ok(sample);
    }
    if let Some(sample) = postgresql::contest(brief).await? {
        return Ok(sample);
    }
    if let Some(sample) = back::contest(brief).await? {
        return Ok(sample);
    }
    if let Some(sample) = dynamodb::contest(brief).await? {
        return Ok(sample);
    }
    if let Some(sample) = verify::contest(brief).await? {
        return Ok(sample);
    }
    if let Some(sample) = rollback::contest(brief).await? {
        return Ok(sample);
    }
    if let Some(sample) = screen::contest(brief)? {
        return Ok(sample);
    }
    Err(BenchError::new("find", "a contestant", format!("nobody is called {}", brief.name)))
}

/// Shows a person the progress, beside the result on standard output.
#[allow(clippy::print_stderr)]
fn say(what: &str) {
    eprintln!("{what}");
}
