//! `cutover bench postgresql`: one database into another, against what the servers can take and against other tools.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::back;
use super::error::{BenchError, BenchResult, Tried as _};
use super::measure::{Report, Sample};
use super::payments::{INDEXES, TABLE, fill, workers};
use super::server::{BenchServer, Brief, session};
use super::{Options, say};
use crate::domain::plan::StepKind;
use crate::ports::Partition;

/// Rows that are copied and compared.
const ROWS: u64 = 5_000_000;
/// Updates that are followed.
const UPDATES: u64 = 200_000;
/// Changes a second while latency is measured, and for how many seconds.
const CHANGES: u64 = 1_000;
const SECONDS: u64 = 8;
/// Sessions that make them.
const WRITERS: u64 = 8;
/// What is done on which servers.
const ON: &str = "payments";

/// Two servers, one with rows.
struct Pair {
    old: BenchServer,
    new: BenchServer,
    rows: u64,
    streams: u32,
}

impl Pair {
    async fn start(rows: u64, streams: u32) -> BenchResult<Self> {
        let (old, new) = tokio::try_join!(BenchServer::publishing(), BenchServer::start())?;
        say(&format!("writing {rows} rows"));
        for sql in [TABLE, &fill(rows), INDEXES, "VACUUM ANALYZE payments", "CHECKPOINT"] {
            old.run(sql).await?;
        }
        Ok(Self { old, new, rows, streams })
    }

    fn brief(&self, name: &str) -> Brief {
        Brief {
            name: name.to_owned(),
            source: self.old.url.clone(),
            target: self.new.url.clone(),
            rows: self.rows,
            streams: self.streams,
            extra: 50,
        }
    }

    /// An empty table with its indexes, no progress of anybody, and nothing left to write to disk.
    async fn fresh(&self) -> BenchResult<()> {
        self.new.run("DROP TABLE IF EXISTS payments; DROP SCHEMA IF EXISTS cutover CASCADE").await?;
        for sql in [TABLE, INDEXES, "CHECKPOINT"] {
            self.new.run(sql).await?;
        }
        self.old.run("CHECKPOINT").await
    }

    /// Removes what followers keep at the source.
    async fn forget(&self) -> BenchResult<()> {
        let slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active";
        self.old.sql.query(slots, &[]).await.tried("drop", "slots")?;
        let sql = "SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication";
        for row in self.old.sql.query(sql, &[]).await.tried("drop", "publications")? {
            self.old.run(row.get(0)).await?;
        }
        Ok(())
    }

    async fn expect(&self, name: &str) -> BenchResult<()> {
        let row = self.new.sql.query_one("SELECT count(*) FROM payments", &[]).await.tried("count", ON)?;
        let found: i64 = row.try_get(0).tried("count", ON)?;
        if u64::try_from(found).ok() == Some(self.rows) {
            return Ok(());
        }
        Err(BenchError::new("trust", name, format!("{found} rows of {}", self.rows)))
    }
}

/// Runs the bench.
pub(super) async fn run(options: &Options) -> BenchResult<Report> {
    let rows = options.rows.unwrap_or(ROWS);
    let pair = Pair::start(rows, options.streams.unwrap_or(2)).await?;
    let about = format!("{rows} payments of about 60 bytes, two indexes, {} stream(s)", pair.streams);
    let mut report = Report::new("postgresql", about);
    if options.only.as_deref() == Some("memory") {
        return memory(options, &pair, report).await;
    }
    let wanted = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    for run in 1..=options.runs {
        say(&format!("run {run} of {}", options.runs));
        if wanted("copy") {
            copies(&pair, &mut report).await?;
        }
        if wanted("verify") {
            comparisons(&pair, &mut report).await?;
        }
        if wanted("follow") {
            followers(&pair, &mut report).await?;
        }
        if wanted("back") {
            ways_back(&pair, &mut report).await?;
        }
    }
    for (other, goal) in [(PIPE, 0.9), (DUMP, 1.2), (PGCOPYDB, 1.4), (NATIVE, 2.0)] {
        report.compare("load", other, goal);
    }
    report.compare("compare", "both sides read alone", 0.8);
    report.compare("follow", "native, updates", 0.9);
    report.compare("way back", UPSERTS, 0.5);
    if let Some(ms) = report.median("latency", |s| s.more.get("p99").copied()) {
        report.answer(&format!("p99 at {CHANGES} changes a second"), "milliseconds", ms, -50.0, "ms");
    }
    Ok(report)
}

const PIPE: &str = "COPY piped by two psql";
const DUMP: &str = "pg_dump | psql";
const PGCOPYDB: &str = "pgcopydb";
const NATIVE: &str = "native subscription, initial copy";

async fn copies(pair: &Pair, report: &mut Report) -> BenchResult<()> {
    pair.fresh().await?;
    report.add(PIPE, piped(pair).await?);
    pair.expect(PIPE).await?;
    pair.fresh().await?;
    report.add("load", pair.brief("pair-load").run().await?);
    pair.expect("load").await?;
    pair.new.run("DROP TABLE payments").await?;
    report.add(
        DUMP,
        shell(
            pair,
            "pg_dump --no-owner -t payments \"$OLD\" | psql -q \"$NEW\" && psql -qc 'ANALYZE payments' \"$NEW\"",
        )
        .await?,
    );
    pair.expect(DUMP).await?;
    if there("pgcopydb").await {
        pair.new.run("DROP TABLE payments").await?;
        let line = "d=$(mktemp -d) && pgcopydb copy-db --no-owner --no-acl --dir \"$d\" --table-jobs 2 --index-jobs 2 \
                    --source \"$OLD\" --target \"$NEW\"; e=$?; rm -rf \"$d\"; exit $e";
        report.add(PGCOPYDB, shell(pair, line).await?);
        pair.expect(PGCOPYDB).await?;
    } else {
        say("no pgcopydb here: it is left out");
    }
    pair.fresh().await?;
    report.add(NATIVE, subscribed(pair).await?);
    pair.expect(NATIVE).await?;
    unsubscribe(pair).await
}

const UPSERTS: &str = "upserts on one connection";

/// What customers wrote on the new side carried to the old one, and the same rows upserted there from memory.
async fn ways_back(pair: &Pair, report: &mut Report) -> BenchResult<()> {
    let keys = back::KEYS.min(pair.rows);
    pair.fresh().await?;
    pair.brief("pair-load").run().await?;
    pair.new.run("DROP SCHEMA cutover CASCADE; CHECKPOINT").await?;
    pair.new.run("VACUUM ANALYZE payments").await?;
    for (contestant, name) in [("pair-back", "way back"), ("pair-upsert", UPSERTS)] {
        pair.old.run("CHECKPOINT").await?;
        report.add(name, Brief { rows: keys, ..pair.brief(contestant) }.run().await?);
        pair.old.run(back::AS_BEFORE).await?;
        pair.old.run("VACUUM payments").await?;
    }
    Ok(())
}

async fn comparisons(pair: &Pair, report: &mut Report) -> BenchResult<()> {
    pair.fresh().await?;
    pair.brief("pair-load").run().await?;
    pair.new.run("VACUUM ANALYZE payments").await?;
    for (contestant, name) in [("pair-alone", "both sides read alone"), ("pair-compare", "compare")] {
        report.add(name, pair.brief(contestant).run().await?);
    }
    Ok(())
}

/// A backlog of updates, each in a transaction of its own, applied over one connection; then updates at a steady rate.
async fn followers(pair: &Pair, report: &mut Report) -> BenchResult<()> {
    let updates = UPDATES.min(pair.rows);
    pair.fresh().await?;
    subscribed(pair).await?;
    pair.new.run("ALTER SUBSCRIPTION bench DISABLE").await?;
    update_each(&pair.old.sql, updates).await?;
    let began = Instant::now();
    pair.new.run("ALTER SUBSCRIPTION bench ENABLE").await?;
    let last = "SELECT note LIKE 'updated%' FROM payments WHERE id = $1";
    until(pair, last, i64::try_from(updates).unwrap_or(0)).await?;
    report
        .add("native, updates", Sample { rows: updates, seconds: began.elapsed().as_secs_f64(), ..Sample::default() });
    unsubscribe(pair).await?;
    pair.old.run("UPDATE payments SET note = 'as before' WHERE note LIKE 'updated%'").await?;
    pair.old.run("VACUUM payments").await?;
    pair.fresh().await?;
    let brief = Brief { rows: updates, streams: 1, ..pair.brief("pair-follow") };
    report.add("follow", brief.run().await?);
    pair.forget().await?;
    pair.old.run("UPDATE payments SET note = 'as before' WHERE note LIKE 'updated%'").await?;
    pair.old.run("VACUUM payments").await?;
    latency(pair, report).await
}

/// The rows on their way from one `psql` to another, with nothing between; indexes and statistics after.
async fn piped(pair: &Pair) -> BenchResult<Sample> {
    let began = Instant::now();
    pair.new.run("DROP INDEX payments_account, payments_made").await?;
    let line = "psql -qc 'COPY payments TO STDOUT (FORMAT binary)' \"$OLD\" | psql -qc 'COPY payments FROM STDIN (FORMAT binary)' \"$NEW\"";
    shell(pair, line).await?;
    index(pair).await?;
    Ok(Sample { rows: pair.rows, seconds: began.elapsed().as_secs_f64(), ..Sample::default() })
}

/// Both indexes side by side, as a load builds them, and statistics.
async fn index(pair: &Pair) -> BenchResult<()> {
    let mut builds = JoinSet::new();
    for statement in INDEXES.split_inclusive(';') {
        let sql = session(&pair.new.url).await?;
        builds.spawn(async move { sql.batch_execute(statement).await });
    }
    while let Some(built) = builds.join_next().await {
        built.tried("index", ON)?.tried("index", ON)?;
    }
    pair.new.run("ANALYZE payments").await
}

/// A line for the shell, with the addresses of both databases, timed.
async fn shell(pair: &Pair, line: &str) -> BenchResult<Sample> {
    let began = Instant::now();
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", line]).env("OLD", &pair.old.url).env("NEW", &pair.new.url);
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).output().await;
    let ended = ended.tried("start", "a shell")?;
    if !ended.status.success() {
        let errors = String::from_utf8_lossy(&ended.stderr);
        return Err(BenchError::new("run", line, errors.lines().last().unwrap_or("nothing said")));
    }
    Ok(Sample { rows: pair.rows, seconds: began.elapsed().as_secs_f64(), ..Sample::default() })
}

async fn there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

/// The server's own replication, until the table is in step; its indexes after.
async fn subscribed(pair: &Pair) -> BenchResult<Sample> {
    pair.old.run("CREATE PUBLICATION bench FOR TABLE payments").await?;
    pair.new.run("DROP INDEX payments_account, payments_made").await?;
    let began = Instant::now();
    let address = pair.old.url.replace('\'', "''");
    pair.new.run(&format!("CREATE SUBSCRIPTION bench CONNECTION '{address}' PUBLICATION bench")).await?;
    until(pair, "SELECT count(*) = $1 FROM pg_subscription_rel WHERE srsubstate = 'r'", 1).await?;
    index(pair).await?;
    Ok(Sample { rows: pair.rows, seconds: began.elapsed().as_secs_f64(), ..Sample::default() })
}

async fn unsubscribe(pair: &Pair) -> BenchResult<()> {
    pair.new.run("DROP SUBSCRIPTION bench").await?;
    pair.old.run("DROP PUBLICATION bench").await
}

/// Asks the new server until it says yes.
async fn until(pair: &Pair, sql: &str, number: i64) -> BenchResult<()> {
    let patience = Instant::now() + Duration::from_secs(600);
    loop {
        let row = pair.new.sql.query_one(sql, &[&number]).await.tried("ask", "the new server")?;
        if row.try_get::<_, bool>(0).unwrap_or(false) {
            return Ok(());
        }
        if Instant::now() > patience {
            return Err(BenchError::new("wait for", "the new server", format!("ten minutes were not enough: {sql}")));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Updates the first rows, one by one, each in a transaction of its own.
async fn update_each(old: &Client, updates: u64) -> BenchResult<()> {
    let block = format!(
        "DO $$ BEGIN FOR n IN 1..{updates} LOOP UPDATE payments SET note = 'updated ' || n WHERE id = n; COMMIT; END LOOP; END $$"
    );
    // A block that commits must be a statement by itself.
    for sql in ["SET synchronous_commit = off", &block, "SET synchronous_commit = on"] {
        old.batch_execute(sql).await.tried("update", ON)?;
    }
    Ok(())
}

/// Changes at a steady rate, followed by another process: the new server's commit times say when a row became visible,
/// the row itself when its change was due.
async fn latency(pair: &Pair, report: &mut Report) -> BenchResult<()> {
    pair.fresh().await?;
    let total = SECONDS * CHANGES;
    let brief = Brief { rows: total + 1, streams: 1, ..pair.brief("pair-latency") };
    let follower = tokio::spawn(async move { brief.run().await });
    let loaded = "SELECT to_regclass('cutover.load_checkpoint') IS NOT NULL AND $1::bigint > 0";
    until(pair, loaded, 1).await?;
    until(pair, "SELECT coalesce(bool_and(done), false) AND $1::bigint > 0 FROM cutover.load_checkpoint", 1).await?;
    // Its indexes are built after the rows, and following begins behind that.
    pair.old.run("UPDATE payments SET note = 'begins' WHERE id = 1").await?;
    until(pair, "SELECT note = 'begins' FROM payments WHERE id = $1", 1).await?;
    // Each waits for its commit, as an application does: what is not on disk yet is not sent to anybody.
    let due = Instant::now();
    let mut writers = JoinSet::new();
    for first in 0..WRITERS {
        let sql = session(&pair.old.url).await?;
        writers.spawn(async move {
            let update =
                sql.prepare("UPDATE payments SET note = 'late', made = clock_timestamp() WHERE id = $1").await?;
            for n in (first..total).step_by(WRITERS as usize) {
                tokio::time::sleep_until((due + Duration::from_micros(n * 1_000_000 / CHANGES)).into()).await;
                sql.execute(&update, &[&i64::try_from(n + 1).unwrap_or(0)]).await?;
            }
            Ok::<(), tokio_postgres::Error>(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written.tried("update", ON)?.tried("update", ON)?;
    }
    let mut sample = follower.await.tried("follow", ON)??;
    let figures =
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)
                   FROM (SELECT (extract(epoch FROM pg_xact_commit_timestamp(xmin) - made) * 1000)::float8 AS ms
                         FROM payments WHERE note = 'late') t";
    let row = pair.new.sql.query_one(figures, &[]).await.tried("read", "commit times")?;
    for (place, figure) in ["p50", "p99"].into_iter().enumerate() {
        sample.more.insert(figure.to_owned(), row.try_get(place).tried("read", "commit times")?);
    }
    report.add("latency", sample);
    pair.forget().await
}

/// Resident memory at one size and at ten times that.
async fn memory(options: &Options, pair: &Pair, mut report: Report) -> BenchResult<Report> {
    for run in 0..options.runs {
        pair.fresh().await?;
        report.add("load", pair.brief("pair-load").run().await?);
        if run + 1 < options.runs {
            continue;
        }
        let large = Pair::start(pair.rows * 10, pair.streams).await?;
        for _ in 0..options.runs {
            large.fresh().await?;
            report.add("load, ten times the rows", large.brief("pair-load").run().await?);
        }
    }
    let rss = |name| report.median(name, |s| s.rss_mb);
    if let (Some(a), Some(b)) = (rss("load"), rss("load, ten times the rows")) {
        report.answer("resident memory, ten times the rows", "itself", b / a, -1.1, "x");
        report.answer("resident memory, ten times the rows", "megabytes", b, -150.0, "MB");
    }
    Ok(report)
}

/// A contestant, in its own process.
pub(super) async fn contest(brief: &Brief) -> BenchResult<Option<Sample>> {
    Ok(Some(match brief.name.as_str() {
        "pair-load" => load(brief).await?,
        "pair-compare" => compare(brief).await?,
        "pair-alone" => alone(brief).await?,
        "pair-follow" => follow(brief, true).await?,
        "pair-latency" => follow(brief, false).await?,
        _ => return Ok(None),
    }))
}

/// The load step as a run performs it.
async fn load(brief: &Brief) -> BenchResult<Sample> {
    let own = workers(brief)?;
    own.prepare().await?;
    let began = Instant::now();
    own.perform(|kind| matches!(kind, StepKind::Load)).await?;
    Ok(Sample::since(began, brief.rows))
}

/// The comparison as a run performs it.
async fn compare(brief: &Brief) -> BenchResult<Sample> {
    let own = workers(brief)?;
    let began = Instant::now();
    own.perform(|kind| matches!(kind, StepKind::Verify)).await?;
    Ok(Sample::since(began, brief.rows))
}

/// Both sides read at the same time, and nothing else.
async fn alone(brief: &Brief) -> BenchResult<Sample> {
    let own = workers(brief)?;
    let table = own.table()?;
    let began = Instant::now();
    let source = async {
        let parts = (0..brief.streams).map(|index| {
            let (source, table) = (own.ports.source(table).clone(), table.clone());
            let part = Partition { index, of: brief.streams };
            tokio::spawn(async move {
                let (mut cursor, mut rows) = (None, 0);
                loop {
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
        Ok::<u64, BenchError>(rows)
    };
    let target = async {
        let mut rows = 0;
        own.ports.target.scan(table, &mut |_| rows += 1).await.tried("read", "the target")?;
        Ok(rows)
    };
    let (source, target) = tokio::try_join!(source, target)?;
    let rows = source.min(target);
    if rows != brief.rows {
        return Err(BenchError::new("trust", "both sides", format!("{rows} rows of {}", brief.rows)));
    }
    Ok(Sample::since(began, rows))
}

/// Captures and loads, then follows until so many changes were applied: a backlog that it makes itself, or what somebody
/// else writes meanwhile.
async fn follow(brief: &Brief, backlog: bool) -> BenchResult<Sample> {
    let own = workers(brief)?;
    own.ports.target.prepare().await.tried("prepare", "the target")?;
    own.perform(|kind| matches!(kind, StepKind::Capture)).await?;
    own.perform(|kind| matches!(kind, StepKind::Load)).await?;
    if backlog {
        update_each(&session(&brief.source).await?, brief.rows).await?;
    }
    let table = own.table()?.id.clone();
    let began = Instant::now();
    own.ctx.ensure_following();
    let patience = began + Duration::from_secs(600);
    loop {
        let applied = own.ctx.measured().tables.get(&table).map_or(0, |gauge| gauge.applied);
        if applied >= brief.rows {
            let sample = Sample::since(began, applied);
            own.ctx.stop().await;
            return Ok(sample);
        }
        if Instant::now() > patience {
            return Err(BenchError::new("follow", ON, format!("{applied} changes of {}", brief.rows)));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
