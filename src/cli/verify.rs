//! `cutover verify`: both sides compared, and what differs written again, when no console does it.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::args::VerifyArgs;
use super::drive::print;
use super::exit::Exit;
use super::failure::Failure;
use super::opened::subject;
use super::record::{CommandSession, chosen};
use crate::domain::plan::Table;
use crate::domain::verify::{Finding, FindingKind};
use crate::workers::{
    Compared, Repaired, WorkerContext, candidate, compare_keys, full_pass, repair, sample, verify_words,
};

/// What was found and done in one table.
struct Report {
    table: String,
    compared: Compared,
    repaired: Option<Repaired>,
    /// Whether every row was read.
    full: bool,
}

/// `cutover verify`.
pub async fn verify(args: &VerifyArgs, state_dir: &Path) -> Result<Exit, Failure> {
    let config = subject(&args.of, state_dir).await?;
    let tables: Vec<Table> = chosen(&config.plan, &args.table)?.into_iter().cloned().collect();
    if args.repair.as_deref().is_some_and(|key| key != "all") && tables.len() != 1 {
        return Err(Failure::new(Exit::Usage, "--repair KEY: say with --table whose key it is"));
    }
    let what = match &args.repair {
        Some(key) => format!("verify --repair {key}"),
        None if args.full => "verify --full".to_owned(),
        None => format!("verify --sample {}", args.sample),
    };
    let session = CommandSession::open(&config, state_dir, &what).await?;
    let mut reports = Vec::new();
    let mut failed = None;
    for table in &tables {
        match one(&session.ctx, table, args).await {
            Ok(report) => reports.push(report),
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
    }
    let floor = config.plan.verify.floor;
    let left = |r: &Report| r.repaired.is_some_and(|done| done.left > 0);
    let under = reports.iter().any(|r| r.compared.summary.is_under(floor) || left(r));
    let shown = show(&session, &reports, args.json);
    session.close().await;
    shown?;
    match failed {
        Some(e) => Err(e),
        None if under => Ok(Exit::VerificationFailed),
        None => Ok(Exit::Finished),
    }
}

async fn one(ctx: &Arc<WorkerContext>, table: &Table, args: &VerifyArgs) -> Result<Report, Failure> {
    let report = |compared, repaired, full| Report { table: table.id.clone(), compared, repaired, full };
    match args.repair.as_deref() {
        Some("all") => {
            let found = full_pass(ctx, table).await?;
            if found.wrong.is_empty() {
                return Ok(report(found, None, true));
            }
            let done = repair(ctx, table, &found.wrong).await?;
            // The repair itself proves nothing: the next pass does.
            Ok(report(full_pass(ctx, table).await?, Some(done), true))
        }
        Some(key) => {
            let key = candidate(ctx, table, key).await?;
            let done = repair(ctx, table, std::slice::from_ref(&key)).await?;
            Ok(report(compare_keys(ctx, table, vec![key]).await?, Some(done), false))
        }
        None if args.full => Ok(report(full_pass(ctx, table).await?, None, true)),
        None => Ok(report(sample(ctx, table, args.sample).await?, None, false)),
    }
}

fn show(session: &CommandSession, reports: &[Report], as_json: bool) -> Result<(), Failure> {
    let all: Vec<&Finding> = reports.iter().flat_map(|r| &r.compared.findings).collect();
    let file = if all.is_empty() {
        None
    } else {
        let text = serde_json::to_vec_pretty(&all).map_err(std::io::Error::from)?;
        Some(session.write("findings.json", &text)?)
    };
    if as_json {
        let tables: Vec<_> = reports
            .iter()
            .map(|r| {
                json!({
                    "table": r.table,
                    "full": r.full,
                    "verified": r.full && r.compared.summary.clean(),
                    "rate": r.compared.summary.rate(),
                    "summary": r.compared.summary,
                    "findings": r.compared.findings,
                    "repaired": r.repaired.map(|d| {
                        json!({ "asked": d.asked, "equal": d.equal, "parked": d.parked, "left": d.left })
                    }),
                })
            })
            .collect();
        print(&format!("{}\n", json!({ "run": session.folder.id(), "findings_file": file, "tables": tables })));
        return Ok(());
    }
    for r in reports {
        let s = &r.compared.summary;
        let proof = match (r.full, s.clean()) {
            (true, true) => "verified",
            (_, false) if s.compared_nothing() => "NOTHING ",
            (true, false) => "DIFFERS ",
            (false, _) if s.differing() > 0 => "DIFFERS ",
            (false, _) => "looked at",
        };
        print(&format!("  {proof}  {:<16} {}\n", r.table, verify_words(s)));
        if let Some(done) = r.repaired {
            print(&format!("            {:<16} written again: {done}\n", ""));
        }
        for (cause, n) in &s.causes {
            print(&format!("            {:<16} {n} x {cause}\n", ""));
        }
        for finding in r.compared.findings.iter().take(10) {
            let what = match finding.kind {
                FindingKind::Missing => "only at the source",
                FindingKind::Extra => "only in the target",
                FindingKind::Differs => "differs",
                FindingKind::Collision => "another item has its row",
                FindingKind::Orphan => "has no parent",
            };
            let fields = finding.fields.join(", ");
            print(&format!("            {:<16} {} {what} {fields}\n", "", finding.key).replace(" \n", "\n"));
        }
    }
    if let Some(file) = file {
        print(&format!("every listed key is in {}\n", file.display()));
    }
    Ok(())
}
