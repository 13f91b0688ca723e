//! `cutover bench`.

use super::args::{BenchArgs, BenchWhat};
use super::drive::print;
use super::exit::Exit;
use super::failure::Failure;
use crate::bench::{self, Brief, Options, Part};

/// Runs a bench and prints its table or its JSON.
pub async fn bench(args: BenchArgs) -> Result<Exit, Failure> {
    let part = match args.what {
        BenchWhat::Load => Part::Load,
        BenchWhat::Follow => Part::Follow,
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
