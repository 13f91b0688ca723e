//! `cutover bench verify`: a full comparison, against reading the slower side alone and against a script.

use std::time::Instant;

use super::books;
use super::error::{BenchError, BenchResult, Tried as _};
use super::load::settings;
use super::measure::{Report, Sample};
use super::own_workers::OwnWorkers;
use super::pages::PageServer;
use super::server::{BenchServer, Brief, Peers};
use super::{Options, say};
use crate::domain::plan::StepKind;
use crate::ports::Partition;

/// Rows that are compared.
const ROWS: u64 = 1_000_000;
/// Rows for the script, which asks for each.
const SCRIPT_ROWS: u64 = 2_000;

/// Runs the bench.
pub(super) async fn run(options: &Options) -> BenchResult<Report> {
    let rows = options.rows.unwrap_or(ROWS);
    let database = BenchServer::start().await?;
    let rendered = rows.min(200_000);
    let server = PageServer::start(books::pages(rendered, 7), rows.div_ceil(rendered)).await?;
    let brief = |name: &str| Brief {
        name: name.to_owned(),
        source: server.endpoint.clone(),
        target: database.url.clone(),
        rows: server.items,
        streams: options.streams.unwrap_or(2),
        extra: 0,
    };
    let mut report = Report::new("verify", format!("{} books on both sides, no difference", server.items));
    let peers = Peers::find(&options.peers, &say).await;
    database.fresh().await?;
    say("loading both sides");
    brief("load-after").run().await?;
    database.run("VACUUM ANALYZE books").await?;
    for run in 1..=options.runs {
        say(&format!("run {run} of {}", options.runs));
        for name in ["source-alone", "target-alone", "both-alone", "verify"] {
            report.add(name, brief(name).run().await?);
        }
        if let Some(peers) = &peers {
            let brief = Brief { rows: SCRIPT_ROWS, ..brief("item by item") };
            report.add("item by item", peers.run("item_by_item.py", &brief).await?);
        }
    }
    let rate = |name: &str| report.median(name, |s| Some(s.rows as f64 / s.seconds));
    let slower = match (rate("source-alone"), rate("target-alone")) {
        (Some(source), Some(target)) if source < target => "source-alone",
        _ => "target-alone",
    };
    report.compare("verify", slower, 0.75);
    // Where both servers and this program share the cores, reading both sides at once is all that can be reached.
    report.compare("verify", "both-alone", 0.75);
    report.compare("verify", "item by item", 400.0);
    Ok(report)
}

/// A contestant, in its own process.
pub(super) async fn contest(brief: &Brief) -> BenchResult<Option<Sample>> {
    if !["verify", "source-alone", "target-alone", "both-alone"].contains(&brief.name.as_str()) {
        return Ok(None);
    }
    let own = OwnWorkers::new(&settings(brief, true)?)?;
    let began = Instant::now();
    let rows = match brief.name.as_str() {
        "verify" => {
            own.perform(|kind| matches!(kind, StepKind::Verify)).await?;
            brief.rows
        }
        "source-alone" => source(&own, brief.streams).await?,
        "both-alone" => {
            let (source, target) = tokio::try_join!(source(&own, brief.streams), target(&own))?;
            source.min(target)
        }
        _ => target(&own).await?,
    };
    if rows != brief.rows {
        return Err(BenchError::new("trust", &brief.name, format!("{rows} rows of {}", brief.rows)));
    }
    Ok(Some(Sample::since(began, rows)))
}

/// Every page fetched and parsed, nothing else.
async fn source(own: &OwnWorkers, segments: u32) -> BenchResult<u64> {
    let table = own.table()?;
    let parts = (0..segments).map(|index| {
        let (source, table) = (own.ports.source(table).clone(), table.clone());
        tokio::spawn(async move {
            let (mut cursor, mut rows) = (None, 0);
            loop {
                let part = Partition { index, of: segments };
                let page = source.page(&table, part, cursor.as_ref()).await.tried("read", "the source")?;
                let end = source.read(&page, &mut |_| {}).tried("read", "the source")?;
                rows += u64::from(end.items);
                cursor = end.next;
                if cursor.is_none() {
                    return Ok::<u64, BenchError>(rows);
                }
            }
        })
    });
    let mut rows = 0;
    for part in futures::future::join_all(parts).await {
        rows += part.tried("read", "the source")??;
    }
    Ok(rows)
}

/// Every row read and decoded, nothing else.
async fn target(own: &OwnWorkers) -> BenchResult<u64> {
    let mut rows = 0;
    own.ports.target.scan(own.table()?, &mut |_| rows += 1).await.tried("read", "the target")?;
    Ok(rows)
}
