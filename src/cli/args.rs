//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::alerts::AlertsArgs;
use super::export::ExportArgs;
use super::force::ForceArg;
use super::init::InitArgs;
use super::people::AckArgs;
use super::restore::RestoreArgs;

/// The terminal console for migration day.
///
/// Moves the data, proves it arrived, flips the switches, watches the new side, and takes everything back on
/// one keypress.
#[derive(Debug, Parser)]
#[command(version, about, long_about, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Where run folders are kept.
    #[arg(long, global = true, env = "CUTOVER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// What goes into cutover.log: `info`, `debug`, `cutover::workers=trace`, ...
    #[arg(long, global = true, env = "CUTOVER_LOG", value_name = "FILTER", hide = true)]
    pub log: Option<String>,
}

const EXAMPLES: &str = "Examples:
  cutover rehearse                      a whole migration day on embedded stores, driven by keys
  cutover init --template cloudshelf    a whole plan to begin with, commented
  cutover check -c config.toml          configuration, connections, permissions, schema
  cutover run -c config.toml            the real thing
  cutover rollback                      take it back, from any terminal
Exit codes: 0 finished, 1 unexpected, 2 usage, 3 rolled back, 4 gate not met,
  5 verification failed, 6 stuck, 7 record damaged, 8 not taken, 9 fault never struck,
  70 a bug, 74 journal, 75 paused and resumable, 77 permissions, 78 config.";

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check config, connections, permissions, schema and switches; change nothing.
    Check {
        #[command(flatten)]
        config: ConfigArg,
        /// Read about N records of each table, spread over it, map them as the load would, and say what would fit, be
        /// changed, be parked or be left out, and how large it would become.
        #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1000",
            value_parser = clap::value_parser!(u64).range(1..))]
        scan: Option<u64>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read the stores that a config names, and write the rest of it as a proposal; or write a whole plan to begin with.
    ///
    /// Begin with a file that has a name and says where both stores are. Tables of DynamoDB are sampled: every attribute
    /// is listed with the types it was seen with, and gets a column; tables of the same kind of store move by rule. Lines
    /// that begin with `# decide:` are for a person. Changes nothing in any store. With --template no store and no config
    /// is read: the plan of a migration that ships with this program is written, for development, test and production.
    Init(InitArgs),
    /// Show the plan, linted, with its hash, planned times and undo.
    Plan {
        #[command(flatten)]
        config: ConfigArg,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Instead of the plan the least that it needs of AWS: a policy document for each account that calls are signed for.
        #[arg(long, conflicts_with = "json")]
        iam_policy: bool,
    },
    /// Run the migration, or resume the newest run of this config.
    Run {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        drive: DriveArgs,
        /// Open a new run even when one could be resumed.
        #[arg(long)]
        new: bool,
        #[command(flatten)]
        force: ForceArg,
        /// Pause once this step is done.
        #[arg(long, value_name = "STEP")]
        until: Option<String>,
        /// Read every record of every table, map it as the load would, and say what would be parked, how large it would
        /// become, how long the load would take and what it would cost. Writes nothing: no run is opened, and neither
        /// store is changed.
        #[arg(long, conflicts_with_all = ["new", "until", "yes", "answer", "headless"])]
        dry_run: bool,
        /// Write what the dry run found into this file as JSON, readable by its owner only. An existing file is not
        /// touched.
        #[arg(long, value_name = "FILE", requires = "dry_run")]
        report: Option<PathBuf>,
    },
    /// Copy source tables into local files, compressed, with counts and checksums; or check such a copy.
    ///
    /// One file of JSON lines for each table, and a manifest. Only a folder that is complete has its name. Tables of one
    /// PostgreSQL store are all of one moment; a DynamoDB table is read while customers go on writing, and the manifest
    /// says so.
    Export(ExportArgs),
    /// Write an export back into a store that the config names.
    ///
    /// Every byte of the export is verified first. A table that is not there is made as the export says; one that is there
    /// must be empty, or hold records of this export only. Everything is read back and compared. In PostgreSQL all of it
    /// is one transaction; in DynamoDB a restore that was cut off goes on when it is begun again. In production only with
    /// --env.
    Restore(RestoreArgs),
    /// Rehearse a whole migration day on stores of its own with a simulated application.
    #[cfg(feature = "rehearsal")]
    Rehearse {
        /// Which day: `cloudshelf`, a shop that moves from DynamoDB to PostgreSQL; `v1-to-v2`, payments that move
        /// from one PostgreSQL server to another and from DynamoDB tables to others, in one run; or `aurora-gradual`, the
        /// shop with reads that go over share by share before its writes do.
        #[arg(default_value = "cloudshelf", value_name = "SCENARIO")]
        scenario: String,
        #[command(flatten)]
        drive: DriveArgs,
        /// How much faster planned waits run; work is never compressed.
        #[arg(long, default_value_t = 60.0, value_name = "N")]
        speed: f64,
        /// Seed of data and traffic.
        #[arg(long, default_value_t = 7, value_name = "N")]
        seed: u64,
        /// Inject a fault when a step starts; may be given several times. `--fault list` names those of the scenario:
        /// `gateway-refuse` is one of cloudshelf only, all others hit both.
        #[arg(long, value_name = "NAME@STEP")]
        fault: Vec<String>,
        /// Records to begin with: books, users, orders and carts (cloudshelf, by default 5000,1000,2500,200), or
        /// accounts, payments, sessions and limits (v1-to-v2, by default 2000,8000,800,500).
        #[arg(long, value_name = "N,N,...")]
        sizes: Option<String>,
        /// A file with `[[alerts]]` and `[metrics]` as in a config: who is told while it is rehearsed. Messages say that it
        /// is a rehearsal.
        #[arg(long, value_name = "FILE")]
        alerts: Option<PathBuf>,
        /// What moves the tables of PostgreSQL in place of the console: `subscription`, the new server's own (v1-to-v2).
        #[arg(long, value_name = "MOVER")]
        mover: Option<String>,
        #[command(flatten)]
        from_export: FromExportArgs,
    },
    /// Live one migration day after the other under writes, kills and faults, and count what is lost.
    #[cfg(feature = "rehearsal")]
    Soak {
        /// Which day, as for `rehearse`: `cloudshelf` or `v1-to-v2`.
        #[arg(default_value = "cloudshelf", value_name = "SCENARIO")]
        scenario: String,
        /// No day begins after this many minutes.
        #[arg(long, default_value_t = 30.0, value_name = "N")]
        minutes: f64,
        /// Seed of data, traffic, kills and faults.
        #[arg(long, default_value_t = 7, value_name = "N")]
        seed: u64,
        /// Writes a second of the simulated application.
        #[arg(long, default_value_t = 100.0, value_name = "N")]
        writes: f64,
        /// Records each day begins with: books, users, orders and carts (cloudshelf, by default 1000,200,500,50), or
        /// accounts, payments, sessions and limits (v1-to-v2, by default 300,900,200,150).
        #[arg(long, value_name = "N,N,...")]
        sizes: Option<String>,
    },
    /// Measure this program against what the stores can do and against other tools.
    #[cfg(feature = "rehearsal")]
    Bench(super::bench::BenchArgs),
    /// Roll a run back, whether its console lives or not.
    Rollback(RollbackArgs),
    /// Give up the reverse flow of a plan, and its tables of the target.
    ///
    /// Its capture triggers, captured writes, marks, progress and lease in the target go; tables and rows stay, and so
    /// does everything of other plans. Shows what would be lost and asks for the plan's name. Refused while a run of
    /// the plan is driven.
    Release {
        /// The plan as messages name it: `cloudshelf/production`.
        plan: String,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Change the plan of a run that is under way to what the config says now, as far as that is safe at this moment.
    ///
    /// Shows every field that differs and whether it may change now. Refused while somebody drives the run, and as a
    /// whole when one field may not change. Nothing is written before it is confirmed.
    Amend(AmendArgs),
    /// Put what the last switch step moved where it stood before, while the run stays under way. `b` on the screen does the
    /// same. A person lets the step go forward again.
    StepBack {
        /// Run id or a beginning of it.
        run: String,
        /// The switch step, as `cutover status` names it.
        step: String,
        /// Who asks; absent means the user of this terminal.
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
    },
    /// Approve a step that needs a second person; from another terminal than the console's, under another name.
    Approve {
        /// Run id or a beginning of it.
        run: String,
        /// The step that waits.
        step: String,
        /// Who approves; absent means the user of this terminal.
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
        /// Words for the record.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Vote on a go/no-go step. The last vote of a voter counts; one no-go blocks.
    Vote {
        /// Run id or a beginning of it.
        run: String,
        /// The step that is voted on.
        step: String,
        /// The vote.
        #[arg(value_enum)]
        vote: VoteArg,
        /// Who votes; absent means the user of this terminal.
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
        /// Words for the record.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Acknowledge alerts that fired: they are quiet until what they fired for is over and comes to be so again.
    ///
    /// `A` on the screen lists them, and `a` there does the same.
    Ack(AckArgs),
    /// List the alerts of a config and where they go, or see whether they arrive.
    Alerts(AlertsArgs),
    /// Verify that the record of a run is as it was written, and show who did what when.
    Audit {
        /// Run id or a beginning of it; absent means the newest.
        run: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// A head printed by an earlier audit: it must still be part of the chain.
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
    /// Compare both sides, and write again what differs.
    ///
    /// Without --full a sample is compared, which finds what is wrong everywhere and proves nothing. Refused while a
    /// run is driven: its console compares by itself.
    Verify(VerifyArgs),
    /// List the parked rows, or try them again.
    Parked(ParkedArgs),
    /// Show where a run stands.
    Status {
        /// Run id or a beginning of it; absent means the only run that could be chosen, and asks when there are
        /// several.
        run: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// List runs.
    Runs {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Watch a recorded run on the same screen.
    Replay {
        /// Run id or a beginning of it; absent means the newest.
        run: Option<String>,
        /// How much faster than it happened.
        #[arg(long, default_value_t = 1.0, value_name = "N")]
        speed: f64,
        #[command(flatten)]
        screen: ScreenArgs,
    },
    /// Print shell completions.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// A backup to try instead of a day.
#[cfg(feature = "rehearsal")]
#[derive(Debug, Args)]
pub struct FromExportArgs {
    /// Restore this export into private stores, make, load and compare the config's tables there, and say how many rows
    /// arrived. None of the config's stores is asked. Exit 5 when a row differs or is parked.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["scenario", "fault", "sizes", "seed", "mover", "alerts"])]
    pub from_export: Option<PathBuf>,
    /// The config whose plan takes the export; absent means CUTOVER_CONFIG or config.toml.
    #[arg(short, long, value_name = "FILE", requires = "from_export")]
    pub config: Option<PathBuf>,
    /// Which environment of the config is meant, where it has several.
    #[arg(long, value_name = "NAME", requires = "from_export")]
    pub env: Option<String>,
}

/// What to roll back, and whether to ask first.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Run id or a beginning of it; absent means the only run that could be chosen, and asks when there are several.
    pub run: Option<String>,
    /// Show what it would do, and change nothing.
    #[arg(long)]
    pub what_if: bool,
    /// Roll back a run that is finished, too.
    #[arg(long)]
    pub finished: bool,
    /// Act at once. Without it somebody at a terminal is shown what it would do, and asked for one more key; where
    /// standard input or output is no terminal it acts at once anyway.
    #[arg(long)]
    pub yes: bool,
}

/// What to amend, and to what.
#[derive(Debug, Args)]
pub struct AmendArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Run id or a beginning of it; absent means the newest run of this config that is not at its end.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Amend without asking. Without it somebody at a terminal is asked for a key; where standard input or output is no
    /// terminal the difference is shown and nothing is changed.
    #[arg(long)]
    pub yes: bool,
}

/// What to compare.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub of: OfArg,
    /// Only this table; may be given several times.
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,
    /// Compare every row of both sides.
    #[arg(long, conflicts_with = "sample")]
    pub full: bool,
    /// Compare about this many keys of each table.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub sample: u64,
    /// Write this key again as the source has it now, or `all` that differ. `all` compares in full before and after.
    #[arg(long, value_name = "KEY|all")]
    pub repair: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which parked rows.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ParkedArgs {
    /// List when absent.
    #[command(subcommand)]
    pub action: Option<ParkedAction>,
    #[command(flatten)]
    pub list: ParkedList,
}

/// Which parked rows to list, and how.
#[derive(Debug, Args)]
pub struct ParkedList {
    #[command(flatten)]
    pub of: OfArg,
    /// Only this table; may be given several times.
    #[arg(long, value_name = "TABLE")]
    pub table: Vec<String>,
    /// One JSON object per line.
    #[arg(long)]
    pub json: bool,
    /// Write one JSON object per line into this file, readable by its owner only. An existing file is not touched.
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
}

/// What to do with parked rows.
#[derive(Debug, Subcommand)]
pub enum ParkedAction {
    /// Read parked rows again from the source and write those that fit now. Refused while a run is driven.
    Retry {
        #[command(flatten)]
        of: OfArg,
        /// Only this table; may be given several times.
        #[arg(long, value_name = "TABLE")]
        table: Vec<String>,
        /// Only rows parked for this reason, as listed: `too_long`, `foreign_key`, ...; may be given several times.
        #[arg(long, value_name = "REASON")]
        reason: Vec<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Which config.
#[derive(Debug, Args)]
pub struct ConfigArg {
    /// The config file.
    #[arg(short, long, env = "CUTOVER_CONFIG", default_value = "config.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Which environment of the config is meant, where it has several (`[environments.NAME]`).
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
}

/// Which plan and which stores: as a config says, or as a run was opened with.
#[derive(Debug, Args)]
pub struct OfArg {
    #[command(flatten)]
    pub config: ConfigArg,
    /// The plan and the stores this run was opened with, whatever the config file says by now.
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

/// How to drive.
#[derive(Debug, Args)]
pub struct DriveArgs {
    /// Lines instead of a screen; chosen by itself without a terminal.
    #[arg(long)]
    pub headless: bool,
    /// Headless, one JSON event per line.
    #[arg(long)]
    pub json: bool,
    /// Confirm what the console performs by itself, typed words too. Never a manual step, a go/no-go or a vote: those
    /// are answered by people. In a rehearsal stand-ins answer for them.
    #[arg(long)]
    pub yes: bool,
    /// Answer a step in somebody's name; may be given several times, also for each voter of a go/no-go. The record
    /// says that the answer was given beforehand.
    #[arg(long, value_name = "STEP=NAME")]
    pub answer: Vec<String>,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// How the screen is drawn.
#[derive(Debug, Args)]
pub struct ScreenArgs {
    /// Colours.
    #[arg(long, value_enum, default_value_t = ColorArg::Auto, value_name = "WHEN")]
    pub color: ColorArg,
    /// Only ASCII characters.
    #[arg(long)]
    pub ascii: bool,
    /// Most frames a second for data; keys draw at once.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub fps: u16,
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VoteArg {
    /// Go on.
    Go,
    /// Do not go on; blocks the step.
    NoGo,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// As the terminal and NO_COLOR say.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_documented_exit_code() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/exit-codes.md")).unwrap();
        let cells = text.lines().filter_map(|l| l.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok());
        let documented: Vec<u8> = cells.collect();
        assert!(documented.len() > 10, "{documented:?}");
        let (_, codes) = EXAMPLES.split_once("Exit codes: ").unwrap();
        let codes = codes.replace("\n ", "");
        let helped: Vec<u8> = codes.split(", ").map(|c| c.split(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(helped, documented);
    }

    /// What stands in backquotes or begins a line and is a command of ours, in source and documents, with where it
    /// stands.
    #[cfg(feature = "rehearsal")]
    fn commands_that_are_named() -> Vec<(String, String)> {
        use clap::CommandFactory as _;
        fn walk(path: &std::path::Path, out: &mut Vec<(String, String)>) {
            if path.is_dir() {
                let entries = std::fs::read_dir(path).unwrap();
                entries.for_each(|entry| walk(&entry.unwrap().path(), out));
                return;
            }
            // A picture of a screen cuts lines off.
            if path.extension().is_some_and(|e| e == "snap") {
                return;
            }
            let Ok(text) = std::fs::read_to_string(path) else { return };
            let document = path.extension().is_some_and(|e| e == "md");
            for (n, line) in text.lines().enumerate() {
                let place = format!("{}:{}", path.display(), n + 1);
                let quoted = line.split('`').skip(1).step_by(2).filter(|q| q.starts_with("cutover "));
                out.extend(quoted.map(|q| (place.clone(), q.to_owned())));
                // Advice that stands without them, if its first word is a command.
                let bare =
                    line.match_indices("cutover ").filter(|(at, _)| !document && !line[..*at].ends_with(['`', '-']));
                for (at, _) in bare {
                    let words = line[at..].split(['`', '"', ';', ')', '\\']).next().unwrap_or_default();
                    let first = words.split_whitespace().nth(1).unwrap_or_default();
                    if Cli::command().find_subcommand(first).is_some() {
                        out.push((place.clone(), words.to_owned()));
                    }
                }
                if document && line.starts_with("cutover ") && !line.contains('`') {
                    let code = line.split(" #").next().unwrap_or_default();
                    out.extend(code.split("; ").map(|c| (place.clone(), c.to_owned())));
                }
            }
        }
        let mut out = Vec::new();
        for path in ["src", "docs", "README.md", "config.toml.example"] {
            walk(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path), &mut out);
        }
        out
    }

    #[cfg(feature = "rehearsal")]
    #[test]
    fn every_command_that_is_advised_exists() {
        use clap::CommandFactory as _;
        let named = commands_that_are_named();
        assert!(named.len() > 60, "{named:?}");
        let mut wrong = Vec::new();
        for (place, line) in named {
            // A window's title is no command.
            if line.contains("[PROD]") {
                continue;
            }
            let mut at = Cli::command();
            at.build();
            for (n, word) in line.split_whitespace().skip(1).take_while(|w| !["|", "#"].contains(w)).enumerate() {
                let bare = word.trim_matches(['[', ']', '(', ')', ',']);
                if let Some(below) = at.find_subcommand(bare) {
                    at = below.clone();
                } else if let Some(flag) = bare.strip_prefix("--") {
                    let flag = flag.split('=').next().unwrap_or_default();
                    if !at.get_arguments().any(|a| a.get_long() == Some(flag)) {
                        wrong.push(format!("{place}: `{line}`: no option --{flag}"));
                    }
                } else if n == 0 && bare != "help" {
                    wrong.push(format!("{place}: `{line}`: no command {bare}"));
                }
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}
