//! `cutover run`, `check` and `plan`.

use std::path::Path;

use super::args::{ConfigArg, DriveArgs};
use super::drive::{Drive, drive, print};
use super::exit::Exit;
use super::failure::Failure;
use super::force::{self, ForceArg};
use super::listing::{self, Over};
use super::out;
use super::world::{self, Driver};
use crate::config::Config;
use crate::domain::plan::{Plan, StepName};
use crate::snapshot::Mode;

/// Reads the config; `${NAME}` is filled from the environment, and so is what AWS's own variables name.
pub async fn load(arg: &ConfigArg, over: Over<'_>) -> Result<(Config, String), Failure> {
    let (config, text) = listing::load(arg, over).await?;
    for warning in &config.warnings {
        super::drive::say(&format!("warning: {warning}"));
    }
    Ok((world::with_named_endpoints(config).await, text))
}

/// `cutover run`.
pub async fn run(
    arg: &ConfigArg,
    args: &DriveArgs,
    force: &ForceArg,
    new: bool,
    until: Option<String>,
    state_dir: &Path,
) -> Result<Exit, Failure> {
    let over = if new { Over::Now } else { Over::UnfinishedRun(state_dir) };
    let (config, text) = load(arg, over).await?;
    if let Some(step) = &until
        && config.plan.step(step).is_none()
    {
        let near = super::nearest(step, config.plan.steps.iter().map(|s| s.id.as_str()));
        let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        return Err(Failure::new(Exit::Usage, format!("--until {step}: the plan has no such step{near}")));
    }
    if let Some(why) = until.as_deref().and_then(|step| no_rest(&config.plan, step)) {
        return Err(Failure::new(Exit::Usage, why));
    }
    let make_anew = match &force.force {
        Some(word) => force::confirmed(word, arg.env.as_deref(), &config, state_dir, new).await?,
        None => false,
    };
    let driven = drive(Drive {
        config: &config,
        config_text: &text,
        state_dir,
        args,
        new,
        make_anew,
        until,
        mode: Mode::Live,
        pace: (1.0, None),
        step_began: None,
        driver: Driver::here(),
    })
    .await?;
    if !args.json {
        print(&driven.summary);
    }
    Ok(driven.ending.into())
}

/// Why a run cannot rest once this step is done: customers would be kept out for as long as it rests.
fn no_rest(plan: &Plan, step: &str) -> Option<String> {
    let place = |kind| plan.steps.iter().position(|s| s.kind.of() == kind);
    let (freeze, thaw) = (place(StepName::Freeze)?, place(StepName::Thaw)?);
    let at = plan.steps.iter().position(|s| s.id == step)?;
    (freeze..thaw).contains(&at).then(|| {
        let (freeze, thaw) = (&plan.steps[freeze].id, &plan.steps[thaw].id);
        format!(
            "--until {step}: customers cannot write from `{freeze}` on until `{thaw}` is done, so the run does not rest there; \
             name a step before `{freeze}`, or `{thaw}`"
        )
    })
}

/// `cutover plan`.
pub async fn plan(config: &ConfigArg, json: bool) -> Result<Exit, Failure> {
    let (config, _) = load(config, Over::Now).await?;
    let mut out = out::stdout();
    if json {
        let mut shown = crate::domain::plan::Plan::clone(&config.plan);
        // A query or a body may hold a token; the hash is of the plan as it is.
        for probe in &mut shown.probes {
            probe.url = probe.place();
            probe.body = probe.body.take().map(|_| "***".to_owned());
        }
        let text = serde_json::json!({ "hash": config.plan.hash(), "plan": shown });
        serde_json::to_writer_pretty(&mut out, &text).map_err(std::io::Error::from)?;
        std::io::Write::write_all(&mut out, b"\n")?;
    } else {
        super::plan::write(&config.plan, &mut out)?;
    }
    Ok(Exit::Finished)
}

/// Characters of a managed policy, white space left out (IAM user guide, *IAM and AWS STS quotas*).
const POLICY: usize = 6_144;

/// `cutover plan --iam-policy`.
pub async fn iam_policy(config: &ConfigArg) -> Result<Exit, Failure> {
    let (config, _) = load(config, Over::Now).await?;
    let mut parameters = config.connections.password_parameters();
    parameters.extend(config.telling.parameters());
    let all: Vec<serde_json::Value> = crate::domain::plan::iam_policies(&config.plan, &parameters)
        .iter()
        .map(|policy| {
            let document = policy.document();
            let whose = policy.account.as_deref().or(policy.profile.as_deref()).unwrap_or("the usual credentials");
            let long = document.to_string().len();
            if long > POLICY {
                super::out::say(&format!(
                    "the document for {whose} has {long} characters, more than the {POLICY} that IAM takes in a managed policy: \
                     spread its statements over several"
                ));
            }
            serde_json::json!({
                "account": policy.account, "profile": policy.profile, "stores": policy.stores, "policy": document,
            })
        })
        .collect();
    let mut out = out::stdout();
    serde_json::to_writer_pretty(&mut out, &all).map_err(std::io::Error::from)?;
    std::io::Write::write_all(&mut out, b"\n")?;
    Ok(Exit::Finished)
}

/// `cutover check`.
pub async fn check(config: &ConfigArg, scan: Option<u64>, json: bool) -> Result<Exit, Failure> {
    let (config, _) = load(config, Over::Now).await?;
    let (ports, missing) = world::ports_to_check(&config.plan, &config.connections).await?;
    let mut rows = crate::workers::check(&config.plan, &ports, &missing).await;
    rows.extend(super::alerts::check(&config).await?);
    let scanned = match scan {
        Some(records) => Some(super::dry_run::scan(&config, &ports, &missing, records).await),
        None => None,
    };
    rows.extend(scanned.iter().flat_map(|scanned| scanned.rows.clone()));
    let bad = rows.iter().filter(|r| r.result.is_err()).count();
    if json {
        let all: Vec<_> = rows
            .iter()
            .map(|r| {
                serde_json::json!({
                    "what": r.what,
                    "ok": r.result.is_ok(),
                    "found": match &r.result { Ok(found) | Err(found) => found },
                    "advice": r.advice,
                    "place": config.place(&r.path),
                })
            })
            .collect();
        let checks = serde_json::Value::Array(all);
        print(&match &scanned {
            None => format!("{checks}\n"),
            Some(scanned) => format!("{}\n", serde_json::json!({ "checks": checks, "scan": scanned.json })),
        });
    } else {
        for row in &rows {
            match &row.result {
                Ok(found) => print(&format!("  ok    {:<34} {found}\n", row.what)),
                Err(found) => print(&format!("  FAIL  {:<34} {found}\n", row.what)),
            }
            if row.result.is_err() && !row.advice.is_empty() {
                let place = config.place(&row.path).map_or_else(String::new, |place| format!("{place}: "));
                print(&format!("        {:<34} {place}{}\n", "", row.advice));
            }
        }
        if let Some(scanned) = &scanned {
            print(&format!("\n{}", scanned.text));
        }
        print(&format!("{} checks, {bad} failed\n", rows.len()));
    }
    let denied = rows.iter().any(|r| r.denied);
    Ok(match (bad, denied) {
        (0, _) => Exit::Finished,
        (_, true) => Exit::Denied,
        _ => Exit::Unexpected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::fixture::plan;

    #[test]
    fn a_run_rests_nowhere_between_the_freeze_and_the_thaw() {
        let plan = plan();
        let kinds: Vec<StepName> = plan.steps.iter().map(|s| s.kind.of()).collect();
        let of = |kind| kinds.iter().position(|k| *k == kind).unwrap();
        let (freeze, thaw) = (of(StepName::Freeze), of(StepName::Thaw));
        for (n, step) in plan.steps.iter().enumerate() {
            let said = no_rest(&plan, &step.id);
            assert_eq!(said.is_some(), (freeze..thaw).contains(&n), "{}: {said:?}", step.id);
        }
        let said = no_rest(&plan, &plan.steps[freeze].id).unwrap();
        assert!(said.contains(&format!("until `{}` is done", plan.steps[thaw].id)), "{said}");
    }
}
