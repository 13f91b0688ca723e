//! `cutover bench load`: scan to table, against what the table can take and against other tools.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;

use super::books::{self, COLUMNS, INDEXES, Settings};
use super::error::{BenchError, BenchResult, Tried as _};
use super::measure::{Report, Sample};
use super::own_workers::{OwnWorkers, plan, target};
use super::pages::PageServer;
use super::server::{BenchServer, Brief, Peers, session};
use super::{Options, say};
use crate::adapters::dynamodb::{self, DynamoSettings};
use crate::domain::estimate::target_seconds;
use crate::domain::mapping::{Mapped, TableMapping};
use crate::domain::plan::StepKind;
use crate::ports::{Bulk, Checkpoint, Partition, Source as _, Target as _};
use crate::private::clients::{self, REGION};

/// Rows that are loaded: enough that start-up and end, which cost the same for any number, do not matter.
const ROWS: u64 = 1_000_000;
/// Rendered items in memory; more rows are the same pages with fresh keys.
const RENDERED: u64 = 200_000;
/// Rows for the slowest peer, which does not get faster with more.
const SCRIPT_ROWS: u64 = 4_000;
/// Bytes of an item on the wire, on average.
const ITEM: u64 = 556;
/// Bytes handed to the driver at once.
const PIECE: usize = 256 * 1024;
/// A buffer of the reference pipeline.
const FLUSH: usize = 8 * 1024 * 1024;

/// Runs the bench.
pub(super) async fn run(options: &Options) -> BenchResult<Report> {
    let rows = options.rows.unwrap_or(ROWS);
    let streams = options.streams.unwrap_or(1);
    let database = BenchServer::start().await?;
    let rendered = rows.min(RENDERED);
    let pages = books::pages(rendered, 7);
    let server = PageServer::start(pages.clone(), rows.div_ceil(rendered)).await?;
    let brief = |name: &str| Brief {
        name: name.to_owned(),
        source: server.endpoint.clone(),
        target: database.url.clone(),
        rows: server.items,
        streams,
        extra: 0,
    };
    let mut report = Report::new("load", format!("{} books of about {ITEM} bytes, {streams} stream(s)", server.items));
    if options.only.as_deref() == Some("memory") {
        return memory(options, &database, report, &brief("load-after"), pages).await;
    }
    let peers = Peers::find(&options.peers, &say).await;
    for run in 1..=options.runs {
        say(&format!("run {run} of {}", options.runs));
        if run == 1 {
            // The limit sends what a load of ours wrote: the same rows, rendered by the server itself.
            database.fresh().await?;
            brief("load-after").run().await?;
            database.run("DROP TABLE IF EXISTS sample; CREATE TABLE sample AS TABLE books").await?;
        }
        for name in ["limit-first", "load-first", "limit-after", "load-after", "sdk-after"] {
            database.fresh().await?;
            let sample = brief(name).run().await?;
            let found = database.rows().await?;
            if found != server.items {
                return Err(BenchError::new("trust", name, format!("{found} rows of {}", server.items)));
            }
            report.add(name, sample);
        }
        for name in ["decode", "sdk-decode"] {
            report.add(name, brief(name).run().await?);
        }
        if let Some(peers) = &peers {
            // The same rows into the same table: indexes cost more the longer they get.
            database.fresh().await?;
            let whole = Brief { streams: 2, ..brief("boto3_copy.py") };
            report.add("boto3 + COPY, 2 processes", peers.run("boto3_copy.py", &whole).await?);
            database.fresh().await?;
            let few = PageServer::start(books::pages(SCRIPT_ROWS.min(rendered), 7), 1).await?;
            let few = Brief { source: few.endpoint.clone(), rows: few.items, ..brief("boto3_insert.py") };
            report.add("a script, a row at a time", peers.run("boto3_insert.py", &few).await?);
        }
    }
    report.compare("load-first", "limit-first", 0.90);
    report.compare("load-after", "limit-after", 0.90);
    report.compare("load-after", "sdk-after", 1.7);
    report.compare("load-after", "boto3 + COPY, 2 processes", 8.0);
    report.compare("load-first", "boto3 + COPY, 2 processes", 8.0);
    report.compare("load-after", "a script, a row at a time", 60.0);
    report.compare_cpu("decode", "sdk-decode", 5.0);
    // An estimate that promises more than a machine keeps is worse than none.
    if let Some(seconds) = report.median("load-first", |s| Some(s.seconds)) {
        let estimated = target_seconds(server.items as f64, (server.items * ITEM) as f64);
        report.answer("load-first, seconds taken of those", "docs/scaling.md", seconds / estimated, -1.0, "x");
    }
    Ok(report)
}

/// Resident memory at one size and at ten times that.
async fn memory(
    options: &Options,
    database: &BenchServer,
    mut report: Report,
    brief: &Brief,
    pages: Vec<books::RawPage>,
) -> BenchResult<Report> {
    let small = brief.rows;
    let rounds = small.div_ceil(pages.iter().map(|p| u64::from(p.items)).sum::<u64>().max(1));
    let server = PageServer::start(pages, rounds * 10).await?;
    let large = Brief { source: server.endpoint.clone(), rows: server.items, ..brief.clone() };
    for _ in 0..options.runs {
        for (name, brief) in [("load", brief), ("load, ten times the items", &large)] {
            database.fresh().await?;
            report.add(name, brief.run().await?);
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
        "limit-first" => limit(brief, false).await?,
        "limit-after" => limit(brief, true).await?,
        "load-first" => ours(brief, false).await?,
        "load-after" => ours(brief, true).await?,
        "sdk-after" => sdk(brief).await?,
        "decode" => decode(brief).await?,
        "sdk-decode" => sdk_decode(brief).await?,
        _ => return Ok(None),
    }))
}

pub(super) fn settings(brief: &Brief, defer: bool) -> BenchResult<Settings> {
    let target = brief.target.parse().tried("read", "the target's URL")?;
    Ok(Settings { source: brief.source.clone(), target, segments: brief.streams, defer, poll_ms: 50 })
}

/// COPY of rows that the server itself rendered, and what a load does after.
async fn limit(brief: &Brief, after: bool) -> BenchResult<Sample> {
    let sql = session(&brief.target).await?;
    let mut parts = Vec::new();
    for part in 0..brief.streams {
        // Row order is the source's order, as for everybody else.
        let read = format!(
            "COPY (SELECT {COLUMNS} FROM sample WHERE get_byte(uuid_send(id), 0) % {} = {part}) TO STDOUT (FORMAT binary)",
            brief.streams
        );
        let out = sql.copy_out(&read).await.tried("copy into", "books")?;
        let body: BytesMut = out
            .try_fold(BytesMut::new(), |mut all, piece| async move {
                all.extend_from_slice(&piece);
                Ok(all)
            })
            .await
            .tried("copy into", "books")?;
        parts.push((session(&brief.target).await?, body.freeze()));
    }
    let began = Instant::now();
    if after {
        sql.batch_execute("DROP INDEX idx_books_category, idx_books_author").await.tried("copy into", "books")?;
    }
    let mut copies = JoinSet::new();
    for (sql, body) in parts {
        copies.spawn(async move { copy(&sql, body).await });
    }
    let mut rows = 0;
    while let Some(done) = copies.join_next().await {
        rows += done.tried("copy into", "books")?.tried("copy into", "books")?;
    }
    if after {
        // Side by side, as a load builds them.
        let mut builds = JoinSet::new();
        for statement in INDEXES.split_inclusive(';') {
            let sql = session(&brief.target).await?;
            builds.spawn(async move { sql.batch_execute(statement).await });
        }
        while let Some(built) = builds.join_next().await {
            built.tried("copy into", "books")?.tried("copy into", "books")?;
        }
    }
    sql.batch_execute("ANALYZE books").await.tried("copy into", "books")?;
    Ok(Sample::since(began, rows))
}

async fn copy(sql: &tokio_postgres::Client, mut body: Bytes) -> Result<u64, tokio_postgres::Error> {
    let sink = sql.copy_in(&format!("COPY books ({COLUMNS}) FROM STDIN (FORMAT binary)")).await?;
    let mut sink = std::pin::pin!(sink);
    while !body.is_empty() {
        sink.send(body.split_to(body.len().min(PIECE))).await?;
    }
    sink.as_mut().finish().await
}

/// The load step as a run performs it.
async fn ours(brief: &Brief, defer: bool) -> BenchResult<Sample> {
    let own = OwnWorkers::new(&settings(brief, defer)?)?;
    own.prepare().await?;
    let began = Instant::now();
    own.perform(|kind| matches!(kind, StepKind::Load)).await?;
    Ok(Sample::since(began, brief.rows))
}

/// The same mapping, encoder, transactions and index handling, but pages are read by the official SDK.
async fn sdk(brief: &Brief) -> BenchResult<Sample> {
    let settings = settings(brief, true)?;
    let own = OwnWorkers::new(&settings)?;
    own.prepare().await?;
    let table = own.table()?.clone();
    let began = Instant::now();
    own.ports.target.begin_load(&table, Some(true), false).await.tried("load through", "the SDK")?;
    let mut segments = JoinSet::new();
    for index in 0..brief.streams {
        let part = Partition { index, of: brief.streams };
        let (target, table, source) = (own.ports.target.clone(), table.clone(), brief.source.clone());
        segments.spawn(async move {
            let mapping = TableMapping::new(&table);
            let mut bulk = target.bulk(&table, part).await.tried("load through", "the SDK")?;
            let mut spare = Some(target.bulk(&table, part).await.tried("load through", "the SDK")?);
            let mut landing: Option<tokio::task::JoinHandle<BenchResult<Box<dyn Bulk>>>> = None;
            let mut rows = 0;
            let mut pages = scan(&source, part);
            while let Some(page) = pages.next().await {
                let page = page.tried("load through", "the SDK")?;
                let done = page.last_evaluated_key().is_none_or(std::collections::HashMap::is_empty);
                rows += push(&mapping, page.items.unwrap_or_default(), bulk.as_mut())?;
                if done || bulk.buffered() >= FLUSH {
                    if let Some(before) = landing.take() {
                        spare = Some(before.await.tried("load through", "the SDK")??);
                    }
                    let Some(empty) = spare.take() else { break };
                    let mut full = std::mem::replace(&mut bulk, empty);
                    let at = Checkpoint { part, cursor: None, rows, parked: 0, done };
                    landing = Some(tokio::spawn(async move {
                        full.flush(Vec::new(), &at).await.tried("load through", "the SDK")?;
                        Ok(full)
                    }));
                }
            }
            if let Some(last) = landing {
                last.await.tried("load through", "the SDK")??;
            }
            Ok::<u64, BenchError>(rows)
        });
    }
    let mut rows = 0;
    while let Some(done) = segments.join_next().await {
        rows += done.tried("load through", "the SDK")??;
    }
    own.ports.target.finish_load(&table).await.tried("load through", "the SDK")?;
    Ok(Sample::since(began, rows))
}

type SdkPage = aws_sdk_dynamodb::operation::scan::ScanOutput;

fn scan(
    source: &str,
    part: Partition,
) -> impl futures::Stream<Item = Result<SdkPage, aws_sdk_dynamodb::error::BoxError>> + Unpin + use<> {
    let client = aws_sdk_dynamodb::Client::new(&clients::session(source, 3));
    let (segment, total) = (i32::try_from(part.index).unwrap_or(0), i32::try_from(part.of).unwrap_or(1));
    let pages = client.scan().table_name(books::SOURCE).segment(segment).total_segments(total).into_paginator().send();
    Box::pin(futures::stream::unfold(pages, |mut pages| async move {
        let page = pages.next().await?;
        Some((page.map_err(|e| Box::new(e) as aws_sdk_dynamodb::error::BoxError), pages))
    }))
}

fn push(
    mapping: &TableMapping,
    items: Vec<std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue>>,
    bulk: &mut dyn Bulk,
) -> BenchResult<u64> {
    let mut rows = 0;
    for item in items {
        let item = dynamodb::item(item).ok_or_else(|| BenchError::new("read", "an item", "an unknown type"))?;
        let mut mapped = Mapped::default();
        mapping.map(&item, &mut mapped).tried("map", "an item")?;
        bulk.push(&mapped).tried("encode", "an item")?;
        rows += 1;
    }
    Ok(rows)
}

/// Pages into COPY buffers that go nowhere.
async fn decode(brief: &Brief) -> BenchResult<Sample> {
    let settings = settings(brief, true)?;
    let plan = plan(&settings)?;
    let table = plan.tables.first().ok_or_else(|| BenchError::new("find", "the table", "none"))?;
    let mapping = TableMapping::new(table);
    let at = DynamoSettings::new(REGION).at(&brief.source);
    let (source, _) = dynamodb::connect(&clients::session(&brief.source, 3), &at).tried("decode", "pages")?;
    let target = target(&settings.target, 2)?;
    let part = Partition { index: 0, of: 1 };
    let mut bulk = target.bulk(table, part).await.tried("decode", "pages")?;
    let (mut cursor, mut rows, mut bad) = (None, 0, 0u64);
    let began = Instant::now();
    loop {
        let page = source.page(table, part, cursor.as_ref()).await.tried("decode", "pages")?;
        let end = {
            let mut mapped = Mapped::default();
            source
                .read(&page, &mut |item| match mapping.map(item, &mut mapped) {
                    Ok(()) => bad += u64::from(bulk.push(&mapped).is_err()),
                    Err(_) => bad += 1,
                })
                .tried("decode", "pages")?
        };
        rows += u64::from(end.items);
        if bulk.buffered() >= FLUSH {
            bulk = target.bulk(table, part).await.tried("decode", "pages")?;
        }
        cursor = end.next;
        if cursor.is_none() {
            break;
        }
    }
    if bad > 0 {
        return Err(BenchError::new("decode", "pages", format!("{bad} items do not fit")));
    }
    Ok(Sample::since(began, rows))
}

async fn sdk_decode(brief: &Brief) -> BenchResult<Sample> {
    let settings = settings(brief, true)?;
    let plan = plan(&settings)?;
    let table = plan.tables.first().ok_or_else(|| BenchError::new("find", "the table", "none"))?;
    let mapping = TableMapping::new(table);
    let target = target(&settings.target, 2)?;
    let part = Partition { index: 0, of: 1 };
    let mut bulk = target.bulk(table, part).await.tried("decode through", "the SDK")?;
    let mut rows = 0;
    let began = Instant::now();
    let mut pages = scan(&brief.source, part);
    while let Some(page) = pages.next().await {
        rows += push(&mapping, page.tried("decode through", "the SDK")?.items.unwrap_or_default(), bulk.as_mut())?;
        if bulk.buffered() >= FLUSH {
            bulk = target.bulk(table, part).await.tried("decode through", "the SDK")?;
        }
    }
    Ok(Sample::since(began, rows))
}
