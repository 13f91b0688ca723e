//! `cutover bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::drive::print;
use super::exit::Exit;
use super::failure::Failure;
use crate::bench::{self, Brief, Options, Part};

/// What to measure.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Which part.
    #[arg(value_enum)]
    pub what: BenchWhat,
    /// Rows, changes or frames; each part has its own default.
    #[arg(long, value_name = "N")]
    pub rows: Option<u64>,
    /// Runs; medians are printed.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// As JSON, every run with its figures.
    #[arg(long)]
    pub json: bool,
    /// Streams side by side, for all contestants alike.
    #[arg(long, value_name = "N")]
    pub streams: Option<u32>,
    /// One aspect alone: `memory` of a load; `copy`, `verify`, `follow` or `back` between databases.
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Scripts of the tools compared with.
    #[arg(long, default_value = "tests/benches/peers", value_name = "DIR")]
    pub peers: PathBuf,
    /// A contestant's name: each runs in a process of its own.
    #[arg(long, hide = true)]
    pub contestant: Option<String>,
    /// A contestant's source.
    #[arg(long, hide = true, env = "CUTOVER_BENCH_SOURCE", default_value = "", hide_env_values = true)]
    pub source: String,
    /// A contestant's target.
    #[arg(long, hide = true, env = "CUTOVER_BENCH_TARGET", default_value = "", hide_env_values = true)]
    pub target: String,
    /// One more number for a contestant.
    #[arg(long, hide = true, default_value_t = 0)]
    pub extra: u64,
}

/// Parts that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchWhat {
    /// Scan to table.
    Load,
    /// Changes to rows: rate and latency.
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
    /// One contestant of a bench.
    #[value(hide = true)]
    Contestant,
}

/// Runs a bench and prints its table or its JSON.
pub async fn bench(args: BenchArgs) -> Result<Exit, Failure> {
    let part = match args.what {
        BenchWhat::Load => Part::Load,
        BenchWhat::Follow => Part::Follow,
        BenchWhat::Postgresql => Part::Postgresql,
        BenchWhat::Dynamodb => Part::Dynamodb,
        BenchWhat::Verify => Part::Verify,
        BenchWhat::Rollback => Part::Rollback,
        BenchWhat::Ui => Part::Ui,
        BenchWhat::Contestant => {
            let brief = Brief {
                name: args.contestant.unwrap_or_default(),
                source: args.source,
                target: args.target,
                rows: args.rows.unwrap_or(0),
                streams: args.streams.unwrap_or(1),
                extra: args.extra,
            };
            let sample = bench::contest(&brief).await.map_err(color_eyre::eyre::Report::from)?;
            print(&format!("{}\n", serde_json::to_string(&sample).map_err(std::io::Error::from)?));
            return Ok(Exit::Finished);
        }
    };
    let options =
        Options { rows: args.rows, runs: args.runs.max(1), streams: args.streams, only: args.only, peers: args.peers };
    let report = bench::run(part, &options).await.map_err(color_eyre::eyre::Report::from)?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?));
    } else {
        print(&report.table());
    }
    Ok(Exit::Finished)
}
