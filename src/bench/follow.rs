//! `cutover bench follow`: how many changes a second are applied, and how long one takes to be visible.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use futures::StreamExt as _;

use super::books::{self, COLUMNS};
use super::error::{BenchError, BenchResult, Tried as _};
use super::load::settings;
use super::measure::{Report, Sample};
use super::own_workers::OwnWorkers;
use super::pages::PageServer;
use super::records::ARN;
use super::server::{BenchServer, Brief, session};
use super::{Options, say};
use crate::domain::mapping::{Mapped, TableMapping};
use crate::domain::plan::{Follow, StepKind};
use crate::domain::value::{Cell, Key};
use crate::ports::{ChangeBatch, Partition, Position, ReadFrom, RowChange};
use crate::private::clients;
use crate::private::dynamo::EmbeddedDynamo;

/// Rows that are there and change.
const ROWS: u64 = 100_000;
/// Changes in one transaction.
const BATCH: usize = 1_000;
/// The whole way: a stream full of changes, read, mapped and applied as a run does it.
const BACKLOG: &str = "follow a backlog";
/// Changes a second while latency is measured, and for how many seconds.
const CHANGES: u64 = 1_000;
const SECONDS: u64 = 8;
/// Pauses between reads that are tried.
const POLLS: [u64; 2] = [50, 200];

/// Runs the bench.
pub(super) async fn run(options: &Options) -> BenchResult<Report> {
    let rows = options.rows.unwrap_or(ROWS);
    let database = BenchServer::start().await?;
    let server = PageServer::with_stream(books::pages(rows, 7)).await?;
    let brief = |name: &str, streams: u32| Brief {
        name: name.to_owned(),
        source: server.endpoint.clone(),
        target: database.url.clone(),
        rows: server.items,
        streams,
        extra: 0,
    };
    let lanes = options.streams.unwrap_or(Follow::lanes()).max(2);
    let names = [1, lanes].map(|n| (n, format!("unnest, connections: {n}"), format!("apply, lanes: {n}")));
    let mut report =
        Report::new("follow", format!("{rows} updates in transactions of {BATCH}, then {CHANGES} changes a second"));
    for run in 1..=options.runs {
        say(&format!("run {run} of {}", options.runs));
        for (n, limit, ours) in &names {
            for (contestant, name) in [("unnest", limit), ("apply", ours)] {
                database.fresh().await?;
                brief("load-first", 1).run().await?;
                database.run("VACUUM ANALYZE books").await?;
                database.run("CHECKPOINT").await?;
                report.add(name, brief(contestant, *n).run().await?);
            }
        }
        database.fresh().await?;
        report.add(BACKLOG, brief("backlog", 1).run().await?);
        for name in ["records", "records, SDK"] {
            report.add(name, brief(name, 1).run().await?);
        }
        for poll in POLLS {
            latency(&database, &mut report, poll).await?;
        }
    }
    let [(_, limit, one), (_, limits, many)] = &names;
    report.compare(one, limit, 0.90);
    report.compare(many, limit, 0.90);
    report.compare(many, limits, 0.90);
    report.compare(BACKLOG, limit, 0.90);
    report.compare_cpu("records", "records, SDK", 5.0);
    for poll in POLLS {
        let name = format!("latency, poll {poll} ms");
        for (figure, goal) in [("p50", poll / 2 + 10), ("p99", poll + 20)] {
            if let Some(ms) = report.median(&name, |s| s.more.get(figure).copied()) {
                report.answer(
                    &format!("{figure} at {CHANGES} changes a second"),
                    &format!("poll {poll} ms"),
                    ms,
                    -(goal as f64),
                    "ms",
                );
            }
        }
    }
    Ok(report)
}

/// Changes are made at a steady rate on an emulator and followed by another process. The server's commit timestamps
/// say when a row became visible; the row itself says when its change was due.
async fn latency(database: &BenchServer, report: &mut Report, poll: u64) -> BenchResult<()> {
    database.fresh().await?;
    let dynamo = EmbeddedDynamo::start(&EmbeddedDynamo::place()).tried("start", "the embedded DynamoDB")?;
    let client = aws_sdk_dynamodb::Client::new(&clients::session(dynamo.endpoint(), 3));
    let key = KeySchemaElement::builder().attribute_name("bookId").key_type(KeyType::Hash).build();
    let attribute = AttributeDefinition::builder().attribute_name("bookId").attribute_type(ScalarAttributeType::S);
    client
        .create_table()
        .table_name(books::SOURCE)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key.tried("make", "a key")?)
        .attribute_definitions(attribute.build().tried("make", "a key")?)
        .send()
        .await
        .tried("create", books::SOURCE)?;
    dynamo.tune(&[books::SOURCE]).tried("tune", "the emulator")?;
    let brief = Brief {
        name: "follow".to_owned(),
        source: dynamo.endpoint().to_owned(),
        target: database.url.clone(),
        rows: SECONDS * CHANGES,
        streams: 1,
        extra: poll,
    };
    let follower = tokio::spawn(async move { brief.run().await });
    // The stream must be on before the first change.
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let told = client.describe_table().table_name(books::SOURCE).send().await.tried("describe", books::SOURCE)?;
        let ready = database.sql.query_one("SELECT to_regclass('cutover.load_checkpoint') IS NOT NULL", &[]).await;
        let ready = ready.and_then(|r| r.try_get::<_, bool>(0)).unwrap_or(false);
        let streaming = told.table().and_then(|t| t.latest_stream_arn()).is_some();
        let loaded = ready
            && database
                .sql
                .query_opt("SELECT FROM cutover.load_checkpoint WHERE done", &[])
                .await
                .is_ok_and(|r| r.is_some());
        if streaming && loaded {
            break;
        }
        if Instant::now() > until || follower.is_finished() {
            return follower.await.tried("follow", "the emulator")?.map(drop);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let due = Instant::now();
    futures::stream::iter(0..SECONDS * CHANGES)
        .map(|n| {
            let client = client.clone();
            async move {
                tokio::time::sleep_until((due + Duration::from_micros(n * 1_000_000 / CHANGES)).into()).await;
                let text = |s: String| AttributeValue::S(s);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let put = client.put_item().table_name(books::SOURCE);
                put.item("bookId", text(uuid::Uuid::from_u128(u128::from(n) << 64).to_string()))
                    .item("title", text(format!("Change {n}")))
                    .item("author", text("Nobody".to_owned()))
                    .item("price", AttributeValue::N("1.5".to_owned()))
                    .item("updatedAt", AttributeValue::N(now.as_millis().to_string()))
                    .send()
                    .await
                    .tried("write", books::SOURCE)
            }
        })
        .buffer_unordered(64)
        .fold(Ok(()), |all: BenchResult<()>, one| async move { all.and(one.map(drop)) })
        .await?;
    let mut sample = follower.await.tried("follow", "the emulator")??;
    let sql = "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY ms), count(*)
               FROM (SELECT (extract(epoch FROM pg_xact_commit_timestamp(xmin) - updated_at) * 1000)::float8 AS ms FROM books) t";
    let row = database.sql.query_one(sql, &[]).await.tried("read", "commit times")?;
    let arrived: i64 = row.try_get(2).tried("read", "commit times")?;
    if arrived != i64::try_from(SECONDS * CHANGES).unwrap_or(0) {
        return Err(BenchError::new(
            "trust",
            "following",
            format!("{arrived} changes arrived of {}", SECONDS * CHANGES),
        ));
    }
    for (place, figure) in ["p50", "p99"].into_iter().enumerate() {
        sample.more.insert(figure.to_owned(), row.try_get(place).tried("read", "commit times")?);
    }
    report.add(&format!("latency, poll {poll} ms"), sample);
    Ok(())
}

/// A contestant, in its own process.
pub(super) async fn contest(brief: &Brief) -> BenchResult<Option<Sample>> {
    Ok(Some(match brief.name.as_str() {
        "apply" => apply(brief).await?,
        "unnest" => unnest(brief).await?,
        "follow" => follow(brief).await?,
        "backlog" => backlog(brief).await?,
        "records" => records(brief).await?,
        "records, SDK" => records_by_sdk(brief).await?,
        _ => return Ok(None),
    }))
}

/// Every row once more, with another title: what the source sends, mapped.
async fn updates(own: &OwnWorkers) -> BenchResult<Vec<RowChange>> {
    let table = own.table()?;
    let mapping = TableMapping::new(table);
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let part = Partition { index: 0, of: 1 };
        let page = own.ports.source(table).page(table, part, cursor.as_ref()).await.tried("read", "the source")?;
        let mut mapped = Mapped::default();
        let end = own.ports.source(table).read(&page, &mut |item| {
            if mapping.map(item, &mut mapped).is_ok() {
                let mut row: Vec<Cell<'static>> = mapped.row.iter().cloned().map(Cell::into_owned).collect();
                if let Some(title) = row.get_mut(1) {
                    *title = Cell::Text("Another title".to_owned().into());
                }
                let (key, key_json) = (Key(mapped.key.clone()), mapped.key_json.clone());
                all.push(RowChange::Upsert { key, key_json, row, children: Vec::new() });
            }
        });
        cursor = end.tried("read", "the source")?.next;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

/// As the follower applies them: with positions, in as many lanes as there are streams.
async fn apply(brief: &Brief) -> BenchResult<Sample> {
    let own = OwnWorkers::new(&settings(brief, true)?)?;
    own.prepare().await?;
    let table = own.table()?;
    let state = own.ports.target.resume_follow(table, brief.streams).await.tried("take up", "the table")?;
    let fence = state.map(|s| s.fence);
    let mut changes = updates(&own).await?.into_iter();
    let mut batches = Vec::new();
    loop {
        let rows: Vec<RowChange> = changes.by_ref().take(BATCH * brief.streams as usize).collect();
        if rows.is_empty() {
            break;
        }
        let position = Position(format!("{:021}", batches.len() + 1));
        let positions = BTreeMap::from([("shard".to_owned(), position)]);
        batches.push(ChangeBatch { rows, positions, fence, ..ChangeBatch::default() });
    }
    let (began, mut rows) = (Instant::now(), 0);
    for batch in batches {
        rows += own.ports.target.apply(table, batch).await.tried("apply", "changes")?.upserted;
    }
    if rows != brief.rows {
        return Err(BenchError::new("trust", "apply", format!("{rows} changes of {}", brief.rows)));
    }
    Ok(Sample::since(began, rows))
}

/// One column of a batch, ready to be sent.
enum Column {
    Ids(Vec<uuid::Uuid>),
    Texts(Vec<Option<String>>),
    Ints(Vec<Option<i32>>),
    Times(Vec<Option<i64>>),
}

/// The plainest fast way: arrays made beforehand, one statement a batch, no bookkeeping. Connections share the batches.
async fn unnest(brief: &Brief) -> BenchResult<Sample> {
    let own = OwnWorkers::new(&settings(brief, true)?)?;
    let changes = updates(&own).await?;
    let batches: Vec<Vec<Column>> = changes.chunks(BATCH).map(columns).collect();
    let set: Vec<String> = COLUMNS.split(", ").filter(|c| *c != "id").map(|c| format!("{c} = EXCLUDED.{c}")).collect();
    let time = |n: u32| format!("'epoch'::timestamptz + c{n} * interval '1 microsecond'");
    let statement = format!(
        "INSERT INTO books ({COLUMNS}) SELECT c0, c1, c2, c3, c4::numeric, c5, c6, c7, {}, {}
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int4[],
                     $9::int8[], $10::int8[]) AS t(c0, c1, c2, c3, c4, c5, c6, c7, c8, c9)
         ON CONFLICT (id) DO UPDATE SET {}",
        time(8),
        time(9),
        set.join(", ")
    );
    let mut sessions = Vec::new();
    for _ in 0..brief.streams {
        let sql = session(&brief.target).await?;
        let statement = sql.prepare(&statement).await.tried("prepare", "the upsert")?;
        sessions.push((sql, statement));
    }
    let left = Mutex::new(batches.iter());
    let began = Instant::now();
    let each = sessions.iter().map(|(sql, statement)| async {
        let mut rows = 0;
        loop {
            let Some(batch) = left.lock().unwrap_or_else(PoisonError::into_inner).next() else { return Ok(rows) };
            let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = batch
                .iter()
                .map(|column| match column {
                    Column::Ids(v) => v as _,
                    Column::Texts(v) => v as _,
                    Column::Ints(v) => v as _,
                    Column::Times(v) => v as _,
                })
                .collect();
            rows += sql.execute(statement, &params).await.tried("upsert", "a batch")?;
        }
    });
    let rows = futures::future::try_join_all(each).await?.into_iter().sum();
    Ok(Sample::since(began, rows))
}

fn columns(changes: &[RowChange]) -> Vec<Column> {
    let rows: Vec<&Vec<Cell<'static>>> = changes
        .iter()
        .filter_map(|c| match c {
            RowChange::Upsert { row, .. } => Some(row),
            _ => None,
        })
        .collect();
    let width = rows.first().map_or(0, |r| r.len());
    (0..width)
        .map(|n| {
            let cells = || rows.iter().filter_map(move |r| r.get(n));
            let one = cells().find(|c| !matches!(c, Cell::Null));
            match one {
                Some(Cell::Uuid(_)) => Column::Ids(
                    cells()
                        .map(|c| if let Cell::Uuid(u) = c { uuid::Uuid::from_bytes(*u) } else { uuid::Uuid::nil() })
                        .collect(),
                ),
                Some(Cell::Int(_)) => Column::Ints(
                    cells().map(|c| if let Cell::Int(i) = c { i32::try_from(*i).ok() } else { None }).collect(),
                ),
                Some(Cell::Timestamp(_)) => {
                    Column::Times(cells().map(|c| if let Cell::Timestamp(t) = c { Some(*t) } else { None }).collect())
                }
                _ => Column::Texts(
                    cells()
                        .map(|c| match c {
                            Cell::Text(s) | Cell::Numeric(s) => Some(s.to_string()),
                            _ => None,
                        })
                        .collect(),
                ),
            }
        })
        .collect()
}

/// Captures, loads what is there (nothing), and follows until every change has arrived.
async fn follow(brief: &Brief) -> BenchResult<Sample> {
    let mut settings = settings(brief, true)?;
    settings.poll_ms = brief.extra;
    let own = OwnWorkers::new(&settings)?;
    own.ports.target.prepare().await.tried("prepare", "the target")?;
    own.perform(|kind| matches!(kind, StepKind::Capture)).await?;
    own.perform(|kind| matches!(kind, StepKind::Load)).await?;
    let began = Instant::now();
    own.ctx.ensure_following();
    let until = began + Duration::from_secs(SECONDS * 8 + 30);
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let counted = own.ports.target.count(own.table()?, true).await.tried("count", "books")?;
        let rows = counted.rows.unwrap_or(0);
        if rows >= brief.rows {
            own.ctx.stop().await;
            return Ok(Sample::since(began, rows));
        }
        if Instant::now() > until {
            return Err(BenchError::new("follow", "the emulator", format!("{rows} changes of {} arrived", brief.rows)));
        }
    }
}

/// Captures and loads, then follows until every change of the stream has been applied.
async fn backlog(brief: &Brief) -> BenchResult<Sample> {
    let own = OwnWorkers::new(&settings(brief, true)?)?;
    own.ports.target.prepare().await.tried("prepare", "the target")?;
    own.perform(|kind| matches!(kind, StepKind::Capture)).await?;
    own.perform(|kind| matches!(kind, StepKind::Load)).await?;
    let table = own.table()?.id.clone();
    let began = Instant::now();
    own.ctx.ensure_following();
    let until = began + Duration::from_secs(300);
    loop {
        let applied = own.ctx.measured().tables.get(&table).map_or(0, |gauge| gauge.applied);
        if applied >= brief.rows {
            let sample = Sample::since(began, applied);
            own.ctx.stop().await;
            return Ok(sample);
        }
        if Instant::now() > until {
            return Err(BenchError::new("follow", "a backlog", format!("{applied} changes of {}", brief.rows)));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads every record of the stream, as the follower does.
async fn records(brief: &Brief) -> BenchResult<Sample> {
    let own = OwnWorkers::new(&settings(brief, true)?)?;
    let changes = own.ports.changes(own.table()?);
    let mut iterator = changes.iterator(ARN, "shard", &ReadFrom::Oldest).await.tried("read", "the stream")?;
    let (began, mut rows) = (Instant::now(), 0);
    while rows < brief.rows {
        let batch = changes.read(&iterator).await.tried("read", "the stream")?;
        rows += batch.changes.iter().filter(|c| c.image.is_some()).count() as u64;
        iterator = batch.next.ok_or_else(|| BenchError::new("read", "the stream", "it ended"))?;
    }
    Ok(Sample::since(began, rows))
}

/// The same through the official SDK.
async fn records_by_sdk(brief: &Brief) -> BenchResult<Sample> {
    let config = aws_sdk_dynamodbstreams::config::Builder::from(&clients::session(&brief.source, 3));
    let client = aws_sdk_dynamodbstreams::Client::from_conf(config.endpoint_url(&brief.source).build());
    let (began, mut rows, mut iterator) = (Instant::now(), 0, Some("0".to_owned()));
    while rows < brief.rows {
        let read = client.get_records().set_shard_iterator(iterator).send().await.tried("read", "the stream")?;
        let images = read.records().iter().filter(|r| r.dynamodb().is_some_and(|data| data.new_image().is_some()));
        rows += images.count() as u64;
        iterator = read.next_shard_iterator;
    }
    Ok(Sample::since(began, rows))
}
