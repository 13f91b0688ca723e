//! `cutover parked`: the parked rows. Keys and reasons, never values.

use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{ParkedAction, ParkedArgs, ParkedList};
use super::drive::print;
use super::exit::Exit;
use super::failure::Failure;
use super::opened::subject;
use super::out;
use super::record::{CommandSession, chosen};
use super::world;
use crate::domain::at::At;
use crate::domain::mapping::RowErrorReason;
use crate::domain::plan::{Plan, Table};
use crate::ports::{ParkedRow, Target};
use crate::workers::retry_parked;

/// Rows the ledger is asked for at a time.
const PAGE: u32 = 1_000;

/// `cutover parked`, with or without `retry`.
pub async fn parked(args: &ParkedArgs, state_dir: &Path) -> Result<Exit, Failure> {
    match &args.action {
        None => list(&args.list, state_dir).await,
        Some(ParkedAction::Retry { of, table, reason, json }) => {
            let config = subject(of, state_dir).await?;
            let tables = chosen(&config.plan, table)?;
            let reasons = reasons(reason)?;
            let session = CommandSession::open(&config, state_dir, "parked retry").await?;
            let done = retry(&session, &tables, reasons.as_deref(), *json).await;
            session.close().await;
            done
        }
    }
}

fn reasons(named: &[String]) -> Result<Option<Vec<RowErrorReason>>, Failure> {
    if named.is_empty() {
        return Ok(None);
    }
    let found = named.iter().map(|name| {
        RowErrorReason::ALL.into_iter().find(|r| r.name() == name).ok_or_else(|| {
            let known: Vec<&str> = RowErrorReason::ALL.iter().map(|r| r.name()).collect();
            Failure::new(Exit::Usage, format!("--reason {name}: no such reason; there are {}", known.join(", ")))
        })
    });
    found.collect::<Result<_, _>>().map(Some)
}

async fn retry(
    session: &CommandSession,
    tables: &[&Table],
    reasons: Option<&[RowErrorReason]>,
    as_json: bool,
) -> Result<Exit, Failure> {
    let mut rows = Vec::new();
    // Parents first: what waits for them may go in with the same command.
    for table in parents_first(tables) {
        let done = retry_parked(&session.ctx, table, reasons).await?;
        if as_json {
            rows.push(json!({
                "table": table.id, "tried": done.tried, "went_in": done.landed, "stayed": done.stayed,
            }));
        } else {
            print(&format!(
                "  {:<16} {} tried, {} went in, {} stayed\n",
                table.id, done.tried, done.landed, done.stayed
            ));
        }
    }
    if as_json {
        print(&format!("{}\n", json!({ "run": session.folder.id(), "tables": rows })));
    }
    Ok(Exit::Finished)
}

fn parents_first<'t>(tables: &[&'t Table]) -> Vec<&'t Table> {
    let mut left = tables.to_vec();
    let mut ordered: Vec<&Table> = Vec::new();
    while !left.is_empty() {
        let waits = |t: &Table| {
            t.foreign_keys.iter().any(|f| f.references != t.id && left.iter().any(|l| l.id == f.references))
        };
        let next = left.iter().position(|t| !waits(t)).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    ordered
}

async fn list(args: &ParkedList, state_dir: &Path) -> Result<Exit, Failure> {
    let config = subject(&args.of, state_dir).await?;
    let ports = world::ports(&config.plan, &config.connections).await?;
    let tables = chosen(&config.plan, &args.table)?;
    if let Some(path) = &args.export {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| {
            Failure::new(Exit::Unexpected, format!("export parked rows to {}: {e}; name another file", path.display()))
        })?;
        let mut out = BufWriter::new(file);
        let rows = lines(&*ports.target, &tables, |row| writeln!(out, "{}", object(row))).await?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        print(&format!("{rows} rows in {}\n", path.display()));
        return Ok(Exit::Finished);
    }
    let mut out = out::stdout();
    let rows = lines(&*ports.target, &tables, |row| {
        if args.json {
            writeln!(out, "{}", object(row))
        } else {
            let (parked, since) = row;
            let (table, key, why) = (&parked.table, &parked.key.0, &parked.row_error);
            writeln!(out, "  {table:<12} {key:<40} {}  {why}", since.date_clock())
        }
    })
    .await?;
    if !args.json {
        writeln!(out, "{}", summary(rows, &config.plan, &tables))?;
    }
    Ok(Exit::Finished)
}

fn summary(rows: u64, plan: &Plan, tables: &[&Table]) -> String {
    let of =
        if tables.len() == plan.tables.len() { "all tables".to_owned() } else { format!("{} tables", tables.len()) };
    format!("{rows} parked rows in {of}; `cutover parked retry` tries them again")
}

type Row = (ParkedRow, At);

fn object((row, since): &Row) -> Value {
    json!({
        "table": row.table,
        "key": row.key,
        "key_attributes": serde_json::from_str::<Value>(&row.key_json).unwrap_or_default(),
        "column": row.row_error.column,
        "reason": row.row_error.reason.name(),
        "detail": row.row_error.detail,
        "since": since,
    })
}

/// Every parked row, table by table in key order, page by page; gives how many.
async fn lines(
    target: &dyn Target,
    tables: &[&Table],
    mut each: impl FnMut(&Row) -> std::io::Result<()>,
) -> Result<u64, Failure> {
    let mut rows = 0;
    for table in tables {
        let mut after = None;
        loop {
            let page = target.parked(table, None, after.as_ref(), PAGE).await?;
            let keys: Vec<_> = page.iter().map(|r| r.key.clone()).collect();
            for row in target.parked_since(table, &keys).await?.into_iter().flatten() {
                each(&row)?;
                rows += 1;
            }
            after = keys.into_iter().next_back();
            if page.len() < PAGE as usize {
                break;
            }
        }
    }
    Ok(rows)
}
