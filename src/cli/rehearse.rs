//! `cutover rehearse`: a whole migration day on embedded stores with a simulated shop.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::args::DriveArgs;
use super::drive::{Drive, drive, print, say, shows_screen};
use super::exit::Exit;
use super::failure::Failure;
use super::world::Driver;
use crate::config;
use crate::engine::Ending;
use crate::rehearsal::fault::{BadFault, Fault, FaultAt, Faults, names};
use crate::rehearsal::postgres::{PostgresOptions, PrivatePostgres};
use crate::rehearsal::seed::Sizes;
use crate::rehearsal::short_plan::PLAN as CONFIG;
use crate::rehearsal::{PgAddress, World, WorldOptions};
use crate::snapshot::Mode;

/// No planned wait of the day lasts longer than this, whatever the speed: night watches are not rehearsed.
const LONGEST_WAIT_MS: i64 = 5_000;

/// `cutover rehearse`.
pub async fn rehearse(
    args: &DriveArgs,
    speed: f64,
    seed: u64,
    faults: &[String],
    sizes: &str,
    state_dir: &Path,
) -> Result<Exit, Failure> {
    if faults.iter().any(|f| f == "list") {
        for fault in Fault::ALL {
            print(&format!("{:<16} {}\n", fault.name(), fault.words()));
        }
        return Ok(Exit::Finished);
    }
    let usage = |e: String| Failure::new(Exit::Usage, e);
    // A mistake in them is told before a server is started.
    if shows_screen(args) {
        super::own_keys::read()?;
    }
    let sizes: Sizes = sizes.parse().map_err(|e| usage(format!("--sizes {sizes}: {e}")))?;
    let ids = steps()?;
    let planned = faults.iter().map(|f| planned(f, &ids).map_err(|e| usage(format!("--fault {f}: {e}"))));
    let faults = Faults::new(planned.collect::<Result<_, _>>()?);
    if !(speed.is_finite() && speed >= 1.0) {
        return Err(usage(format!("--speed {speed}: a number from 1")));
    }
    if !args.json {
        say("starting a private PostgreSQL, an embedded DynamoDB, a control plane and a shop ...");
    }
    let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(&PostgresOptions::default(), say))
        .await
        .map_err(|e| Failure::new(Exit::Bug, e.to_string()))?
        .map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
    let pg = PgAddress {
        host: postgres.host.clone(),
        port: postgres.port,
        user: postgres.user.clone(),
        database: postgres.database.clone(),
        password: Some(postgres.password.clone()),
    };
    let world = World::start(WorldOptions { seed, sizes, faults: faults.clone(), ..WorldOptions::new(pg) })
        .await
        .map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
    let mut vars = world.vars();
    vars.insert("PG_PASSWORD_FILE".to_owned(), password_file(&postgres)?);
    let config = config::load_str("rehearsal.toml", CONFIG, Path::new(""), &vars)?;
    let driven = drive(Drive {
        config: &config,
        config_text: &filled(CONFIG, &vars),
        state_dir,
        args,
        new: true,
        until: None,
        mode: Mode::Rehearsal { speed },
        pace: (speed, Some(LONGEST_WAIT_MS)),
        step_began: Some(Arc::new({
            let faults = faults.clone();
            move |step: &str| faults.step_began(step)
        })),
        driver: Driver::here(),
    })
    .await?;
    let verdict = world.verdict().await.map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
    let unstruck = faults.unstruck();
    if args.json {
        for missed in &unstruck {
            let (fault, step) = (missed.at.fault.name(), &missed.at.step);
            let said = serde_json::json!({ "type": "fault_never_struck", "fault": fault, "step": step,
                "began": missed.began, "words": missed.to_string() });
            print(&format!("{said}\n"));
        }
        print(&format!(
            "{}\n",
            serde_json::json!({ "type": "verdict", "side": verdict.in_charge.name(), "clean": verdict.clean(),
                "checked": verdict.comparison.checked, "words": verdict.to_string() })
        ));
    } else {
        print(&driven.summary);
        for missed in &unstruck {
            print(&format!("FAULT       {missed}\n"));
        }
        print(&format!("{verdict}\n"));
    }
    world.stop().await;
    tokio::task::spawn_blocking(move || drop(postgres)).await.ok();
    Ok(exit(driven.ending, verdict.clean(), unstruck.is_empty()))
}

/// What a rehearsal ends with: what it proved counts only where it came to its end.
fn exit(ending: Ending, clean: bool, struck: bool) -> Exit {
    match (ending, clean, struck) {
        (Ending::Finished | Ending::RolledBack, false, _) => Exit::VerificationFailed,
        (Ending::Finished | Ending::RolledBack, true, false) => Exit::FaultNeverStruck,
        _ => ending.into(),
    }
}

/// The ids of the rehearsal's steps. No world is needed for them: its variables stand for addresses only.
fn steps() -> Result<Vec<String>, Failure> {
    let names = CONFIG.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.to_owned());
    let mut vars: BTreeMap<String, String> = names.map(|name| (name, "http://127.0.0.1:1".to_owned())).collect();
    vars.insert("PG_PORT".to_owned(), "5432".to_owned());
    let config = config::load_str("rehearsal.toml", CONFIG, Path::new(""), &vars)?;
    Ok(config.plan.steps.iter().map(|s| s.id.clone()).collect())
}

/// A fault as it was asked for; the error names what is most like it.
fn planned(text: &str, steps: &[String]) -> Result<FaultAt, String> {
    let near = |asked: &str, names: &[&str]| {
        super::nearest(asked, names.iter().copied()).map_or_else(String::new, |near| format!("did you mean {near}? "))
    };
    let at: FaultAt = text.parse().map_err(|e: BadFault| match &e {
        BadFault::Name { name } => format!("{}{e}", near(name, &names())),
        BadFault::Step { .. } => e.to_string(),
    })?;
    match &at.step {
        Some(step) if !steps.contains(step) => {
            let ids: Vec<&str> = steps.iter().map(String::as_str).collect();
            Err(format!("{}no step is called `{step}`; there are {}", near(step, &ids), ids.join(", ")))
        }
        _ => Ok(at),
    }
}

/// The server's password, where a rollback from another terminal finds it too; gone with the server.
fn password_file(postgres: &PrivatePostgres) -> Result<String, Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = postgres.directory().join("console-password");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(postgres.password.reveal().as_bytes())?;
    Ok(path.to_string_lossy().into_owned())
}

/// The config with its variables filled in, so that a rollback from another terminal finds the same world.
pub(super) fn filled(text: &str, vars: &BTreeMap<String, String>) -> String {
    // A port is a number: once it is no variable any more, it stands without quotes.
    let port = vars.get("PG_PORT").map_or("", String::as_str);
    let text = text.replace("\"${PG_PORT}\"", port);
    vars.iter().fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_held_against_the_plan_before_anything_starts() {
        let ids = steps().unwrap();
        let at = planned("errors-new@smoke-tests", &ids).unwrap();
        assert_eq!(at, FaultAt { fault: Fault::ErrorsNew, step: Some("smoke-tests".to_owned()) });
        let wrong = |text: &str| planned(text, &ids).unwrap_err();
        let said = wrong("errors-new@smoke-test");
        assert!(said.starts_with("did you mean smoke-tests? no step is called `smoke-test`; there are "), "{said}");
        let said = wrong("error-new@smoke-tests");
        assert!(said.starts_with("did you mean errors-new? no fault is called `error-new`"), "{said}");
        assert!(wrong("errors-new@").contains("names no step"));
        assert!(!wrong("zzz").contains("did you mean"));
    }

    #[test]
    fn the_saved_config_can_be_read_without_its_variables() {
        let names = ["AWS_ENDPOINT", "CONTROL_ENDPOINT", "PG_HOST", "PG_DATABASE", "PG_USER", "REST_API", "SHOP_URL"];
        let mut vars: std::collections::BTreeMap<String, String> =
            names.iter().map(|n| ((*n).to_owned(), "http://127.0.0.1:1".to_owned())).collect();
        vars.insert("PG_PORT".into(), "5432".into());
        vars.insert("PG_PASSWORD_FILE".into(), "/nowhere/password".into());
        let read =
            config::load_str("c.toml", &filled(CONFIG, &vars), Path::new(""), &std::collections::BTreeMap::new());
        let asked = config::load_str("c.toml", CONFIG, Path::new(""), &vars);
        assert_eq!(read.unwrap().plan.hash(), asked.unwrap().plan.hash());
    }

    #[test]
    fn a_fault_that_never_struck_and_a_lost_row_have_codes_of_their_own() {
        for (ending, clean, struck, code) in [
            (Ending::Finished, true, true, 0),
            (Ending::Finished, true, false, 9),
            (Ending::Finished, false, false, 5),
            (Ending::RolledBack, true, true, 3),
            (Ending::RolledBack, true, false, 9),
            (Ending::RolledBack, false, true, 5),
            (Ending::GateNotMet, false, false, 4),
            (Ending::Paused, true, false, 75),
        ] {
            assert_eq!(exit(ending, clean, struck) as u8, code, "{ending:?} {clean} {struck}");
        }
    }
}
