//! `cutover rehearse`: a whole migration day on embedded stores with a simulated shop.

use std::path::Path;
use std::sync::Arc;

use super::args::DriveArgs;
use super::drive::{Drive, drive, print, say};
use super::exit::Exit;
use super::failure::Failure;
use super::world::Seat;
use crate::config;
use crate::rehearsal::postgres::{PostgresOptions, PrivatePostgres};
use crate::rehearsal::{Fault, Faults, PgAddress, Rates, World, WorldOptions};
use crate::snapshot::Mode;

/// The rehearsal's config.
const CONFIG: &str = include_str!("../../assets/rehearsal.toml");
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
        for (name, what) in Fault::all() {
            print(&format!("{name:<16} {what}\n"));
        }
        return Ok(Exit::Finished);
    }
    let usage = |e: String| Failure::new(Exit::Usage, e);
    let sizes = sizes.parse().map_err(usage)?;
    let faults = Faults::new(faults).map_err(|e| usage(e.to_string()))?;
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
    let world = World::start(WorldOptions {
        seed,
        sizes,
        postgres: PgAddress {
            host: postgres.host.clone(),
            port: postgres.port,
            user: postgres.user.clone(),
            database: postgres.database.clone(),
        },
        rates: Rates::default(),
        faults: faults.clone(),
        dynamodb: None,
        control: None,
    })
    .await
    .map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
    let config = config::load_str("rehearsal.toml", CONFIG, Path::new(""), world.vars())?;
    if let Some(step) = faults.steps().find(|s| config.plan.step(s).is_none()) {
        let steps: Vec<&str> = config.plan.steps.iter().map(|s| s.id.as_str()).collect();
        return Err(usage(format!("no step {step}; steps are {}", steps.join(", "))));
    }
    let driven = drive(Drive {
        config: &config,
        config_text: &filled(world.vars()),
        state_dir,
        args,
        new: true,
        until: None,
        mode: Mode::Rehearsal { speed },
        pace: (speed, Some(LONGEST_WAIT_MS)),
        step_started: Some(Arc::new(move |step: &str| faults.step_started(step))),
        seat: Seat::here(),
    })
    .await?;
    let verdict = world.verdict().await.map_err(|e| Failure::new(Exit::Unexpected, e.to_string()))?;
    if args.json {
        print(&format!(
            "{}\n",
            serde_json::json!({ "type": "verdict", "side": verdict.side, "lost": verdict.comparison.lost,
                "extra": verdict.comparison.extra, "checked": verdict.comparison.checked })
        ));
    } else {
        print(&driven.summary);
        print(&format!("{verdict}\n"));
    }
    drop(world);
    tokio::task::spawn_blocking(move || drop(postgres)).await.ok();
    if !verdict.clean() && driven.ending == crate::engine::Ending::Finished {
        return Ok(Exit::VerificationFailed);
    }
    Ok(driven.ending.into())
}

/// The config with its variables filled in, so that a rollback from another terminal finds the same world.
fn filled(vars: &std::collections::BTreeMap<String, String>) -> String {
    vars.iter().fold(CONFIG.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
}
