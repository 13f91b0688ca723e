//! `cutover bench dynamodb`: one DynamoDB table into another, against reading alone, writing alone, and a script.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use tokio::task::JoinSet;

use super::books::{self, RawPage};
use super::error::{BenchError, BenchResult, Tried as _};
use super::measure::{Report, Sample};
use super::own_workers::{BENCH, OwnWorkers};
use super::pages::PageServer;
use super::records;
use super::server::{Brief, Peers};
use super::sink::{Sink, TARGET};
use super::{Options, say};
use crate::adapters::aws::AwsSwitches;
use crate::adapters::dynamodb::{self as adapter, DynamoSettings};
use crate::adapters::http::{HttpProbes, http_client};
use crate::config;
use crate::domain::plan::{OLD, StepKind};
use crate::engine::MachineClock;
use crate::ports::{Budget, ByStore, Partition, Source as _, Unavailable};
use crate::rehearsal::clients::{self, REGION};
use crate::workers::{Ports, WorkerContext};

/// Items that are loaded.
const ITEMS: u64 = 1_000_000;
/// Rendered items in memory; more items are the same pages with fresh keys.
const RENDERED: u64 = 200_000;
/// Items for the script, which does not get faster with more.
const SCRIPT_ITEMS: u64 = 60_000;
/// Bytes of an item on the wire, on average.
const ITEM: u64 = 556;
/// Items of one batch, and batches under way for each stream: what our load sends.
const BATCH: usize = 25;
const AT_ONCE: usize = 8;
/// What is loaded into.
const ON: &str = "the new table";

const READ: &str = "pages read and thrown away";
const WRITE: &str = "batches sent from memory";
const SCRIPT: &str = "boto3 batch_writer, 2 processes";

const CONFIG: &str = r#"
name = "bench"
production = false
[aws]
region = "us-east-1"
credentials = "emulator"
endpoint = "{source}"
[stores.old]
kind = "dynamodb"
endpoint = "{source}"
[stores.new]
kind = "dynamodb"
endpoint = "{target}"
[reverse]
enabled = false
[load]
segments = {segments}
workers = {segments}
[verify]
settle = "1s"
segments = {segments}
[[tables]]
id = "books"
from = "old.CloudShelf-Books"
to = "new.{table}"
key = ["bookId"]
like = "same"
"#;

/// Runs the bench.
pub(super) async fn run(options: &Options) -> BenchResult<Report> {
    let items = options.rows.unwrap_or(ITEMS);
    let streams = options.streams.unwrap_or(1);
    let rendered = items.min(RENDERED);
    let pages = books::pages(rendered, 7);
    let server = PageServer::start(pages.clone(), items.div_ceil(rendered.max(1))).await?;
    let brief = |name: &str| Brief {
        name: name.to_owned(),
        source: server.endpoint.clone(),
        target: server.endpoint.clone(),
        rows: server.items,
        streams,
        extra: 0,
    };
    let about = format!("{} books of about {ITEM} bytes, {streams} stream(s)", server.items);
    let mut report = Report::new("dynamodb", about);
    if options.only.as_deref() == Some("memory") {
        return memory(options, report, &brief("items-load"), pages).await;
    }
    let peers = Peers::find(&options.peers, &say).await;
    for run in 1..=options.runs {
        say(&format!("run {run} of {}", options.runs));
        report.add("load", into_a_sink(&brief("items-load")).await?);
        report.add(READ, brief("items-read").run().await?);
        report.add(WRITE, into_a_sink(&brief("items-write")).await?);
        if let Some(peers) = &peers {
            let few = PageServer::start(books::pages(SCRIPT_ITEMS.min(rendered), 7), 1).await?;
            let sink = Sink::start().await?;
            let brief = Brief {
                source: few.endpoint.clone(),
                target: sink.endpoint.clone(),
                rows: few.items,
                streams: 2,
                ..brief("boto3_items.py")
            };
            report.add(SCRIPT, peers.run("boto3_items.py", &brief).await?);
            trust(SCRIPT, sink.taken(), few.items)?;
        }
    }
    let rate = |name: &str| report.median(name, |s| Some(s.rows as f64 / s.seconds.max(1e-9)));
    let slower = match (rate(READ), rate(WRITE)) {
        (Some(read), Some(write)) if read < write => READ,
        _ => WRITE,
    };
    report.compare("load", slower, 0.85);
    report.compare("load", SCRIPT, 8.0);
    Ok(report)
}

/// A contestant that puts items into an empty table.
async fn into_a_sink(brief: &Brief) -> BenchResult<Sample> {
    let sink = Sink::start().await?;
    let sample = Brief { target: sink.endpoint.clone(), ..brief.clone() }.run().await?;
    trust(&brief.name, sink.taken(), brief.rows)?;
    Ok(sample)
}

/// That every item was put, and none twice.
fn trust(name: &str, taken: u64, items: u64) -> BenchResult<()> {
    if taken == items { Ok(()) } else { Err(BenchError::new("trust", name, format!("{taken} items of {items}"))) }
}

/// Resident memory at one size and at ten times that.
async fn memory(options: &Options, mut report: Report, brief: &Brief, pages: Vec<RawPage>) -> BenchResult<Report> {
    let rounds = brief.rows.div_ceil(pages.iter().map(|p| u64::from(p.items)).sum::<u64>().max(1));
    let server = PageServer::start(pages, rounds * 10).await?;
    let large = Brief { source: server.endpoint.clone(), rows: server.items, ..brief.clone() };
    for _ in 0..options.runs {
        for (name, brief) in [("load", brief), ("load, ten times the items", &large)] {
            report.add(name, into_a_sink(brief).await?);
        }
    }
    let rss = |name| report.median(name, |s| s.rss_mb);
    if let (Some(a), Some(b)) = (rss("load"), rss("load, ten times the items")) {
        report.answer("resident memory, ten times the items", "itself", b / a, -1.1, "x");
        report.answer("resident memory, ten times the items", "megabytes", b, -150.0, "MB");
    }
    Ok(report)
}

/// A contestant, in its own process.
pub(super) async fn contest(brief: &Brief) -> BenchResult<Option<Sample>> {
    Ok(Some(match brief.name.as_str() {
        "items-load" => load(brief).await?,
        "items-read" => read(brief).await?,
        "items-write" => write(brief).await?,
        _ => return Ok(None),
    }))
}

/// Workers between the two tables of a brief.
fn workers(brief: &Brief) -> BenchResult<OwnWorkers> {
    let text = [CONFIG, books::STEPS]
        .concat()
        .replace("{source}", &brief.source)
        .replace("{target}", &brief.target)
        .replace("{table}", TARGET)
        .replace("{segments}", &brief.streams.to_string());
    let plan =
        config::load_str("bench", &text, Path::new("."), &BTreeMap::new()).tried("read", "the bench's config")?;
    let plan = plan.plan;
    let (from, to) = (clients::session(&brief.source, 3), clients::session(&brief.target, 3));
    let (source, changes) =
        adapter::connect(&from, &DynamoSettings::new(REGION).at(&brief.source)).tried("connect to", "the old table")?;
    let settings = DynamoSettings::new(REGION).at(&brief.target);
    let target = adapter::target(&to, &settings, BENCH, Budget::new(None).into()).tried("connect to", ON)?;
    let ports = Ports {
        sources: ByStore::default().with(OLD, Arc::new(source)),
        changes: ByStore::default().with(OLD, Arc::new(changes)),
        movers: ByStore::default(),
        target: Arc::new(target),
        reverse: None,
        identity: None,
        switches: Arc::new(AwsSwitches::new(&to, None, None)),
        probes: Arc::new(HttpProbes::new(http_client().tried("make", "an HTTP client")?)),
        jobs: Arc::new(Unavailable("no jobs are begun here".to_owned())),
        metrics: None,
        clock: Arc::new(MachineClock::default()),
    };
    Ok(OwnWorkers { ctx: WorkerContext::new(Arc::clone(&plan), ports.clone(), OwnWorkers::unrecorded()), plan, ports })
}

/// The load step as a run performs it.
async fn load(brief: &Brief) -> BenchResult<Sample> {
    let own = workers(brief)?;
    own.prepare().await?;
    let began = Instant::now();
    own.perform(|kind| matches!(kind, StepKind::Load)).await?;
    Ok(Sample::since(began, brief.rows))
}

/// Every page read as our load reads it, and nothing done with it.
async fn read(brief: &Brief) -> BenchResult<Sample> {
    let settings = DynamoSettings::new(REGION).at(&brief.source);
    let (source, _) = adapter::connect(&clients::session(&brief.source, 3), &settings).tried("read", "pages")?;
    let (source, own) = (Arc::new(source), workers(brief)?);
    let table = own.table()?.clone();
    let began = Instant::now();
    let mut parts = JoinSet::new();
    for index in 0..brief.streams {
        let (source, table) = (Arc::clone(&source), table.clone());
        let part = Partition { index, of: brief.streams };
        parts.spawn(async move {
            let (mut cursor, mut items) = (None, 0);
            loop {
                let page = source.page(&table, part, cursor.as_ref()).await.tried("read", "pages")?;
                let end = source.read(&page, &mut |_| {}).tried("read", "pages")?;
                items += u64::from(end.items);
                cursor = end.next;
                if cursor.is_none() {
                    return BenchResult::Ok(items);
                }
            }
        });
    }
    let mut items = 0;
    while let Some(part) = parts.join_next().await {
        items += part.tried("read", "pages")??;
    }
    let sample = Sample::since(began, items);
    trust(READ, items, brief.rows)?;
    Ok(sample)
}

/// Batches as our load sends them, made beforehand and unsigned, over as many connections.
async fn write(brief: &Brief) -> BenchResult<Sample> {
    let rendered = brief.rows.min(RENDERED);
    let mut bodies: Vec<(Bytes, u64)> = Vec::new();
    let mut batch: Vec<String> = Vec::new();
    let full = |batch: &mut Vec<String>| {
        let puts = batch.len() as u64;
        let body = format!("{{\"RequestItems\":{{\"{TARGET}\":[{}]}}}}", batch.join(","));
        batch.clear();
        (Bytes::from(body), puts)
    };
    for page in &books::pages(rendered, 7) {
        for item in records::items(page) {
            batch.push(format!("{{\"PutRequest\":{{\"Item\":{}}}}}", String::from_utf8_lossy(item)));
            if batch.len() == BATCH {
                bodies.push(full(&mut batch));
            }
        }
    }
    if !batch.is_empty() {
        bodies.push(full(&mut batch));
    }
    let client = http_client().tried("make", "an HTTP client")?;
    let rounds = brief.rows.div_ceil(rendered.max(1));
    let began = Instant::now();
    let sent = (0..rounds).flat_map(|_| bodies.iter()).map(|(body, puts)| {
        let (client, body) = (client.clone(), body.clone());
        async move {
            let request = hyper::Request::post(&brief.target)
                .header("x-amz-target", "DynamoDB_20120810.BatchWriteItem")
                .header("content-type", "application/x-amz-json-1.0")
                .body(Full::new(body))
                .tried("send", "a batch")?;
            let answer = client.request(request).await.tried("send", "a batch")?;
            let taken = answer.status().is_success();
            answer.into_body().collect().await.tried("send", "a batch")?;
            if taken { Ok(*puts) } else { Err(BenchError::new("send", "a batch", "it was refused")) }
        }
    });
    let mut sent = futures::stream::iter(sent).buffer_unordered(AT_ONCE * brief.streams as usize);
    let mut items = 0;
    while let Some(puts) = sent.next().await {
        items += puts?;
    }
    Ok(Sample::since(began, items))
}
