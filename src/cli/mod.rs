//! Arguments and subcommands: the one composition root.

mod alerts;
mod amend;
mod answers;
mod args;
mod asked;
mod audit;
#[cfg(feature = "rehearsal")]
mod bench;
mod drive;
mod dry_run;
mod exit;
mod export;
#[cfg(feature = "failpoints")]
mod failing;
mod failure;
mod force;
mod init;
mod lines;
mod listing;
mod logging;
mod metrics;
mod opened;
mod out;
mod own_keys;
mod parked;
mod people;
mod plan;
mod record;
mod recorded;
#[cfg(feature = "rehearsal")]
mod rehearse;
mod release;
mod restore;
mod rollback;
mod run;
mod select_run;
#[cfg(feature = "rehearsal")]
mod soak;
mod template;
mod verify;
mod world;

use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};

pub use exit::Exit;

use args::{Cli, Command};
use failure::Failure;

use crate::domain::run::Vote;

/// Parses the command line, runs the command and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let _ = color_eyre::config::HookBuilder::default().display_env_section(false).install();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mut e) => {
            suggest(&mut e);
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage } else { Exit::Finished }.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            out::say(&format!("error: no runtime: {e}"));
            return Exit::Unexpected.into();
        }
    };
    let result = runtime.block_on(dispatch(cli));
    // Blocking reads of a vanished terminal must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    let exit = ended(result);
    logging::end();
    exit.into()
}

/// The whole command line, as the parser knows it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Says why a command failed, and gives its exit code.
fn ended(result: Result<Exit, Failure>) -> Exit {
    match result {
        Ok(exit) => exit,
        Err(Failure { report, .. }) if out::reader_gone(&report) => Exit::Finished,
        Err(failure) => {
            let words = failure.words();
            out::say(&if failure.exit == Exit::Config { words } else { format!("error: {words}") });
            failure.exit
        }
    }
}

/// Adds the nearest subcommand where the parser names none, as for `help rollbak`.
fn suggest(e: &mut clap::Error) {
    if e.get(ContextKind::SuggestedSubcommand).is_some() {
        return;
    }
    let Some(ContextValue::String(asked)) = e.get(ContextKind::InvalidSubcommand) else { return };
    let command = command();
    let near = nearest(asked, command.get_subcommands().map(clap::Command::get_name));
    if let Some(near) = near.map(str::to_owned) {
        e.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![near]));
    }
}

/// The name that is most like what was asked for, if one is at all like it.
fn nearest<'n>(asked: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let scored = names.map(|name| (strsim::jaro(name, asked), name)).filter(|(score, _)| *score > 0.7);
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

async fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    logging::choose(cli.log)?;
    let state_dir = || world::state_dir(cli.state_dir.clone());
    match cli.command {
        Command::Check { config, scan, json } => Box::pin(run::check(&config, scan, json)).await,
        Command::Init(args) => init::init(&args).await,
        Command::Plan { config, iam_policy: true, .. } => run::iam_policy(&config).await,
        Command::Plan { config, json, iam_policy: false } => run::plan(&config, json).await,
        Command::Run { config, drive, dry_run: true, report, .. } => {
            Box::pin(dry_run::dry_run(&config, drive.json, report.as_deref())).await
        }
        Command::Run { config, drive, force, new, until, .. } => {
            Box::pin(run::run(&config, &drive, &force, new, until, &state_dir()?)).await
        }
        #[cfg(feature = "rehearsal")]
        Command::Rehearse {
            drive,
            speed,
            from_export: args::FromExportArgs { from_export: Some(folder), config, env },
            ..
        } => {
            let config = config.or_else(|| std::env::var_os("CUTOVER_CONFIG").map(Into::into));
            let config = config.unwrap_or_else(|| "config.toml".into());
            let asked = rehearse::FromExport { folder: &folder, config, env: env.as_deref(), speed };
            Box::pin(rehearse::from_export(&drive, &asked, &state_dir()?)).await
        }
        #[cfg(feature = "rehearsal")]
        Command::Rehearse { scenario, drive, speed, seed, fault, sizes, alerts, mover, .. } => {
            let asked = rehearse::Rehearsal {
                scenario: &scenario,
                speed,
                seed,
                faults: &fault,
                sizes: sizes.as_deref(),
                alerts: alerts.as_deref(),
                mover: mover.as_deref(),
            };
            Box::pin(rehearse::rehearse(&drive, &asked, &state_dir()?)).await
        }
        #[cfg(feature = "rehearsal")]
        Command::Soak { scenario, minutes, seed, writes, sizes } => {
            let scenario = rehearse::scenario(&scenario)?;
            let amounts = rehearse::amounts(scenario, sizes.as_deref())?;
            let amounts = amounts.unwrap_or_else(|| crate::rehearsal::Amounts::few(scenario));
            soak::soak(&soak::Soak { minutes, seed, writes, amounts }, &state_dir()?).await
        }
        #[cfg(feature = "rehearsal")]
        Command::Bench(args) => bench::bench(args).await,
        Command::Export(args) => Box::pin(export::export(&args)).await,
        Command::Restore(args) => Box::pin(restore::restore(&args)).await,
        Command::Release { plan, config } => release::release(&plan, &config).await,
        Command::Rollback(args) => Box::pin(rollback::rollback(args, &state_dir()?)).await,
        Command::Amend(args) => Box::pin(amend::amend(&args, &state_dir()?)).await,
        Command::StepBack { run, step, name } => people::step_back(&run, step, name, &state_dir()?).await,
        Command::Approve { run, step, name, note } => people::approve(&run, step, name, note, &state_dir()?).await,
        Command::Vote { run, step, vote, name, note } => {
            let vote = match vote {
                args::VoteArg::Go => Vote::Go,
                args::VoteArg::NoGo => Vote::NoGo,
            };
            people::vote(&run, step, vote, name, note, &state_dir()?).await
        }
        Command::Ack(args) => people::acknowledge(args, &state_dir()?).await,
        Command::Alerts(args) => Box::pin(alerts::alerts(&args)).await,
        Command::Audit { run, json, head } => audit::audit(run.as_deref(), json, head.as_deref(), &state_dir()?),
        Command::Verify(args) => Box::pin(verify::verify(&args, &state_dir()?)).await,
        Command::Parked(args) => Box::pin(parked::parked(&args, &state_dir()?)).await,
        Command::Status { run, json } => recorded::status(run.as_deref(), json, &state_dir()?).await,
        Command::Runs { json } => recorded::runs(json, &state_dir()?),
        Command::Replay { run, speed, screen } => recorded::replay(run.as_deref(), speed, &screen, &state_dir()?).await,
        Command::Completions { shell } => {
            // The generator panics where it cannot write.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command(), "cutover", &mut text);
            out::stdout().write_all(&text)?;
            Ok(Exit::Finished)
        }
        Command::Man => {
            clap_mangen::Man::new(command()).render(&mut out::stdout())?;
            Ok(Exit::Finished)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subcommand_that_was_misspelt_is_suggested_to_the_help_too() {
        for asked in [["cutover", "help", "rollbak"].as_slice(), &["cutover", "rollbak"]] {
            let mut e = Cli::try_parse_from(asked).unwrap_err();
            suggest(&mut e);
            let text = e.to_string();
            assert_eq!(text.matches("'rollback'").count(), 1, "{text}");
        }
        let mut e = Cli::try_parse_from(["cutover", "help", "xyz"]).unwrap_err();
        suggest(&mut e);
        assert!(!e.to_string().contains("similar"), "{e}");
    }

    #[test]
    fn a_name_is_near_or_none_is() {
        let names = || ["smoke-tests", "switch", "freeze"].into_iter();
        assert_eq!(nearest("swich", names()), Some("switch"));
        assert_eq!(nearest("qqq", names()), None);
    }
}
