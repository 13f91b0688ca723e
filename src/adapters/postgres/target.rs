//! PostgreSQL as a target.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_postgres::Error;

use super::apply::{Reached, To};
use super::book;
use super::bulk::PgBulk;
use super::connect::{Object, Pool};
use super::names::qualified;
use super::retry;
use super::settings::PgSettings;
use super::shape::Shape;
use super::{
    ddl, describe, indexes, lanes, lease, ledger, orphans, read, references, sequences, server, source_count, trouble,
};
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::MisfitReason;
use crate::domain::plan::Table;
use crate::domain::value::{Key, OwnedRow};
use crate::ports::{
    Applied, Bulk, ChangeBatch, Checkpoint, Cursor, ErrorKind, FullRead, Lease, Orphans, ParkedRow, Partition,
    PortError, PortResult, Position, Sequence, SequenceLook, SetAside, SourceCount, Standing, Target, TargetServer,
    TargetTable, TargetVisitor, common,
};

/// A PostgreSQL database that takes rows and keeps our progress beside them.
pub struct PgTarget {
    pool: Pool,
    place: String,
    /// Statements by table id, made once; a table that changed is made anew.
    shapes: Mutex<HashMap<String, (Table, Arc<Shape>)>>,
    /// The lease's epoch when this process last had it; 0 while it never had.
    epoch: AtomicI64,
}

impl PgTarget {
    /// A target. Connects when it is first used.
    ///
    /// # Errors
    /// `Invalid` when TLS cannot be set up: an unreadable `ca_file`, no certificate authorities.
    pub fn new(settings: &PgSettings) -> PortResult<Self> {
        Ok(Self { pool: settings.pool()?, place: settings.place(), shapes: Mutex::default(), epoch: AtomicI64::new(0) })
    }

    /// Connects once and says which version the server is, for checks: `15.18`.
    ///
    /// # Errors
    /// `Denied` for a wrong password or user, `NotFound` for an unknown database, `Unreachable` when nobody answers.
    pub async fn version(&self) -> PortResult<String> {
        let client = self.client().await?;
        let row = client.query_one("SHOW server_version", &[]).await.map_err(self.error("ask", "the server"))?;
        row.try_get(0).map_err(self.error("ask", "the server"))
    }

    pub(super) async fn client(&self) -> PortResult<Object> {
        retry::client(&self.pool, &self.place).await
    }

    pub(super) const fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The lease's epoch when this process last had it; `None` while it never had.
    fn epoch(&self) -> Option<i64> {
        Some(self.epoch.load(Ordering::Acquire)).filter(|epoch| *epoch != 0)
    }

    pub(super) fn shape(&self, table: &Table) -> Arc<Shape> {
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        match shapes.get(&table.id) {
            Some((known, shape)) if known == table => Arc::clone(shape),
            _ => {
                let shape = Arc::new(Shape::new(table));
                shapes.insert(table.id.clone(), (table.clone(), Arc::clone(&shape)));
                shape
            }
        }
    }

    #[allow(clippy::unused_self)]
    pub(super) fn error<'e>(&self, tried: &'e str, on: &'e str) -> impl Fn(Error) -> PortError + use<'e> {
        move |e| trouble::error(&e, tried, on)
    }
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[async_trait]
impl Target for PgTarget {
    async fn inspect(&self) -> PortResult<TargetServer> {
        let error = self.error("inspect", "the server");
        match self.client().await {
            Ok(client) => server::inspect(&client).await.map_err(error),
            // Only the server itself can tell where that is set.
            Err(e) if trouble::takes_no_writes(&e) => {
                let client = self.pool.manager().look().await?;
                server::inspect(&client).await.map_err(error)
            }
            Err(e) => Err(e),
        }
    }

    async fn prepare(&self) -> PortResult<()> {
        let error = self.error("prepare", "schema cutover");
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        tx.batch_execute(book::TABLES).await.map_err(&error)?;
        tx.batch_execute(ledger::TABLES).await.map_err(&error)?;
        tx.batch_execute(references::REFUSE).await.map_err(&error)?;
        tx.batch_execute(source_count::TABLES).await.map_err(&error)?;
        tx.commit().await.map_err(&error)
    }

    async fn describe(&self, table: &Table) -> PortResult<TargetTable> {
        let client = self.client().await?;
        let found = describe::describe(&client, table).await.map_err(self.error("describe", &table.target))?;
        match table.ddl.as_deref().map(ddl::sql) {
            Some(Err(not_sql)) if !found.exists => Err(ddl::refused(&not_sql, &table.target)),
            _ => Ok(found),
        }
    }

    async fn create(&self, table: &Table) -> PortResult<bool> {
        let error = self.error("create", &table.target);
        let client = self.client().await?;
        if describe::exists(&client, &table.target).await.map_err(&error)? {
            return Ok(false);
        }
        let Some(ddl) = &table.ddl else {
            return Err(PortError::new(ErrorKind::NotFound, "create", &table.target, "the plan has no DDL for it")
                .advise("create the table, or give its DDL in the table's section"));
        };
        let ddl = ddl::sql(ddl).map_err(|e| ddl::refused(&e, &table.target))?;
        // What a dump sets for its session must not come to anybody else: the connection leaves the pool and is closed.
        let mut own = Object::take(self.client().await?);
        let tx = own.transaction().await.map_err(&error)?;
        tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&error)?;
        tx.batch_execute(&ddl).await.map_err(|e| ddl::failed(&e, &ddl, &table.target))?;
        let sql = "INSERT INTO cutover.created (table_id) VALUES ($1) ON CONFLICT DO NOTHING";
        tx.execute(sql, &[&table.id]).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        drop(own);
        if describe::exists(&client, &table.target).await.map_err(&error)? {
            return Ok(true);
        }
        Err(PortError::new(ErrorKind::Invalid, "create", &table.target, "its DDL ran but created another table")
            .advise("names are case-sensitive here; make the DDL and the plan agree"))
    }

    async fn bulk(&self, table: &Table, _part: Partition) -> PortResult<Box<dyn Bulk>> {
        let error = self.error("open a way into", &table.target);
        let client = self.client().await?;
        let statement = client.prepare_cached(lease::EPOCH).await.map_err(&error)?;
        let driver = client.query_opt(&statement, &[]).await.map_err(&error)?;
        let epoch = driver.map(|row| row.try_get(0)).transpose().map_err(&error)?;
        Ok(Box::new(PgBulk::new(self.pool.clone(), self.place.clone(), self.shape(table), epoch)))
    }

    async fn checkpoints(&self, table: &Table) -> PortResult<Vec<Checkpoint>> {
        let error = self.error("read checkpoints of", &table.id);
        let client = self.client().await?;
        let sql = r#"SELECT part, "of", cursor, rows, parked, done FROM cutover.load_checkpoint
                     WHERE table_id = $1 ORDER BY "of", part"#;
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let rows = client.query(&statement, &[&table.id]).await.map_err(&error)?;
        rows.iter()
            .map(|row| {
                let (index, of): (i32, i32) = (row.try_get(0)?, row.try_get(1)?);
                Ok(Checkpoint {
                    part: Partition { index: index.cast_unsigned(), of: of.cast_unsigned() },
                    cursor: row.try_get::<_, Option<String>>(2)?.map(Cursor),
                    rows: unsigned(row.try_get(3)?),
                    parked: unsigned(row.try_get(4)?),
                    done: row.try_get(5)?,
                })
            })
            .collect::<Result<_, Error>>()
            .map_err(error)
    }

    async fn reset(&self, table: &Table) -> PortResult<()> {
        let error = self.error("reset", &table.target);
        let mut client = self.client().await?;
        let mut there = Vec::new();
        for name in table.children.iter().map(|c| &c.target).chain([&table.target]) {
            if describe::exists(&client, name).await.map_err(&error)? {
                there.push(qualified(name));
            }
        }
        let tx = client.transaction().await.map_err(&error)?;
        tx.batch_execute(super::outbox::OURS).await.map_err(&error)?;
        tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&error)?;
        if !there.is_empty() {
            tx.batch_execute("SAVEPOINT quick").await.map_err(&error)?;
            match tx.batch_execute(&format!("TRUNCATE {}", there.join(", "))).await {
                Ok(()) => {}
                // Tables outside this one refer to it. CASCADE would empty them, so row by row it is.
                Err(e) if e.code().is_some_and(|c| c.code() == "0A000") => {
                    tx.batch_execute("ROLLBACK TO SAVEPOINT quick").await.map_err(&error)?;
                    let acting = references::in_the_way(&tx, &there).await.map_err(&error)?;
                    if !acting.is_empty() {
                        let came_back = format!("rows of {} refer to it and would go or change too", acting.join(", "));
                        return Err(PortError::new(ErrorKind::Conflict, "reset", &table.target, came_back)
                            .advise("empty or detach them yourself first, if they may go, then try again"));
                    }
                    let deletes: Vec<String> = there.iter().map(|t| format!("DELETE FROM {t}")).collect();
                    tx.batch_execute(&deletes.join("; ")).await.map_err(&error)?;
                }
                Err(e) => return Err(error(e)),
            }
        }
        for kept in ["load_checkpoint", "stream_position", "lane", "stream", "marker", "parked", "expired"] {
            let sql = format!("DELETE FROM cutover.{kept} WHERE table_id = $1");
            tx.execute(&sql, &[&table.id]).await.map_err(&error)?;
        }
        source_count::forget(&tx, &table.id).await.map_err(&error)?;
        tx.commit().await.map_err(&error)?;
        drop(client);
        // A load that was given up may have left indexes aside; on an empty table they cost nothing.
        indexes::restore(&self.pool, &self.place, &table.id).await
    }

    async fn begin_load(&self, table: &Table, defer_indexes: Option<bool>) -> PortResult<Vec<SetAside>> {
        let mut client = self.client().await?;
        indexes::set_aside(&mut client, table, defer_indexes).await.map_err(|e| indexes::refused(&e, table))
    }

    async fn set_aside(&self, table: &Table) -> PortResult<Vec<SetAside>> {
        let client = self.client().await?;
        indexes::missing(&client, &table.id).await.map_err(self.error("read set-aside indexes of", &table.target))
    }

    async fn finish_load(&self, table: &Table) -> PortResult<()> {
        indexes::restore(&self.pool, &self.place, &table.id).await?;
        let error = self.error("analyse", &table.target);
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&error)?;
        for name in table.children.iter().map(|c| &c.target).chain([&table.target]) {
            tx.batch_execute(&format!("ANALYZE {}", qualified(name))).await.map_err(&error)?;
        }
        tx.commit().await.map_err(&error)
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        sequences::list(&self.client().await?, tables).await.map_err(self.error("look for", "sequences"))
    }

    async fn advance_sequences(
        &self,
        tables: &[Table],
        look: SequenceLook,
        by_hand: &[String],
    ) -> PortResult<Vec<Sequence>> {
        let mut client = self.client().await?;
        sequences::advance(&mut client, tables, look, by_hand).await.map_err(self.error("advance", "sequences"))
    }

    async fn start_positions(
        &self,
        table: &Table,
        stream: &str,
        positions: &BTreeMap<String, Position>,
    ) -> PortResult<()> {
        let error = self.error("store the start of following", &table.id);
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        // Also how customers are let in, which must wait for forward work that is under way.
        let alone = format!("SELECT pg_advisory_xact_lock({})", super::outbox::THAW);
        tx.batch_execute(&alone).await.map_err(&error)?;
        tx.execute(
            "INSERT INTO cutover.stream (table_id, stream) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &[&table.id, &stream],
        )
        .await
        .map_err(&error)?;
        let sql = "SELECT stream FROM cutover.stream WHERE table_id = $1 FOR UPDATE";
        let known: String = tx.query_one(sql, &[&table.id]).await.and_then(|r| r.try_get(0)).map_err(&error)?;
        if known != stream {
            let came_back = format!("another stream is being followed: {known}");
            return Err(PortError::new(ErrorKind::Conflict, "store the start of following", &table.id, came_back)
                .advise("the stream was recreated and changes between are lost; reset the table and load it again"));
        }
        let shards: Vec<&str> = positions.keys().map(String::as_str).collect();
        let values: Vec<&str> = positions.values().map(|p| p.0.as_str()).collect();
        tx.execute(
            "INSERT INTO cutover.stream_position (table_id, shard, position)
             SELECT $1, * FROM unnest($2::text[], $3::text[]) ON CONFLICT DO NOTHING",
            &[&table.id, &shards, &values],
        )
        .await
        .map_err(&error)?;
        tx.commit().await.map_err(&error)
    }

    async fn positions(&self, table: &Table) -> PortResult<Option<(String, BTreeMap<String, Option<Position>>)>> {
        let client = self.client().await?;
        let stored = book::standing(&client, &table.id).await.map_err(self.error("read positions of", &table.id))?;
        Ok(stored.map(|(stream, positions, lanes)| (stream, common(positions, &lanes))))
    }

    async fn take_up(&self, table: &Table, lanes: u32) -> PortResult<Option<Standing>> {
        lanes::take_up(&self.pool, &self.place, table, lanes, self.epoch()).await
    }

    async fn apply(&self, table: &Table, batch: ChangeBatch) -> PortResult<Applied> {
        let to = To { pool: &self.pool, place: &self.place, table, shape: &self.shape(table) };
        let (reached, rows) = Reached::of(batch, self.epoch());
        lanes::apply(to, rows, &reached).await
    }

    async fn marker(&self, table: &Table, nonce: &str) -> PortResult<Option<At>> {
        let error = self.error("read markers of", &table.id);
        let client = self.client().await?;
        let sql = "SELECT applied_at FROM cutover.marker WHERE table_id = $1 AND nonce = $2";
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let row = client.query_opt(&statement, &[&table.id, &nonce]).await.map_err(&error)?;
        row.map(|r| r.try_get(0).map(At)).transpose().map_err(error)
    }

    async fn count(&self, table: &Table, exact: bool) -> PortResult<Count> {
        let error = self.error("count", &table.target);
        let name = qualified(&table.target);
        let mut client = self.client().await?;
        if exact {
            let tx = client.build_transaction().read_only(true).start().await.map_err(&error)?;
            tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&error)?;
            let row = tx.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await.map_err(&error)?;
            return Ok(Count::exact(unsigned(row.try_get(0).map_err(&error)?), book::wall()));
        }
        // The server's estimate is as old as whatever looked at the whole table last.
        let sql = "SELECT c.reltuples::bigint, (extract(epoch FROM greatest(
                       s.last_analyze, s.last_autoanalyze, s.last_vacuum, s.last_autovacuum)) * 1000)::bigint
                   FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid WHERE c.oid = to_regclass($1)";
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let row = client.query_opt(&statement, &[&name]).await.map_err(&error)?;
        let Some(row) = row else {
            return Err(PortError::new(ErrorKind::NotFound, "count", &table.target, "no such table"));
        };
        let rows: i64 = row.try_get(0).map_err(&error)?;
        let looked: Option<i64> = row.try_get(1).map_err(&error)?;
        match rows {
            // The server has not looked yet: nobody knows.
            n if n < 0 => Ok(Count { at: book::wall(), ..Count::default() }),
            n => Ok(Count::estimated(unsigned(n), looked.map_or_else(At::default, At))),
        }
    }

    async fn load_reads(&self, table: &Table, at: At) -> PortResult<()> {
        let noted = source_count::load_reads(&self.client().await?, &table.id, at).await;
        noted.map_err(self.error("note the reading of", &table.id))
    }

    async fn full_read(&self, table: &Table, read: FullRead) -> PortResult<()> {
        let noted = source_count::full_read(&mut self.client().await?, &table.id, read).await;
        noted.map_err(self.error("note the reading of", &table.id))
    }

    async fn source_count(&self, table: &Table) -> PortResult<Option<SourceCount>> {
        let counted = source_count::source_count(&self.client().await?, &table.id).await;
        counted.map_err(self.error("read the source's count of", &table.id))
    }

    async fn ledger(&self, table: &Table) -> PortResult<(BTreeMap<MisfitReason, u64>, u64)> {
        ledger::totals(&self.client().await?, table).await.map_err(self.error("read the ledger of", &table.id))
    }

    async fn parked(
        &self,
        table: &Table,
        reasons: Option<&[MisfitReason]>,
        after: Option<&Key>,
        limit: u32,
    ) -> PortResult<Vec<ParkedRow>> {
        let client = self.client().await?;
        let page = ledger::page(&client, table, reasons, after, limit).await;
        page.map_err(self.error("read the ledger of", &table.id))
    }

    async fn parked_since(&self, table: &Table, keys: &[Key]) -> PortResult<Vec<Option<(ParkedRow, At)>>> {
        let client = self.client().await?;
        ledger::by_key(&client, table, keys).await.map_err(self.error("read the ledger of", &table.id))
    }

    async fn scan(&self, table: &Table, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        let shape = self.shape(table);
        read::scan(&self.pool, &self.place, &shape.main, each).await
    }

    async fn scan_child(&self, table: &Table, child: usize, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        let shape = self.shape(table);
        let Some(part) = shape.children.get(child) else {
            let came_back = format!("the plan has no child table {child}");
            return Err(PortError::new(ErrorKind::Invalid, "scan", &table.id, came_back));
        };
        read::scan(&self.pool, &self.place, part, each).await
    }

    async fn scan_part(
        &self,
        table: &Table,
        child: Option<usize>,
        part: Partition,
        each: &mut TargetVisitor<'_>,
    ) -> PortResult<()> {
        let shape = self.shape(table);
        let Some(of) = child.map_or(Some(&shape.main), |child| shape.children.get(child)) else {
            let came_back = format!("the plan has no child table {}", child.unwrap_or_default());
            return Err(PortError::new(ErrorKind::Invalid, "scan", &table.id, came_back));
        };
        read::scan_part(&self.pool, &self.place, of, part, each).await
    }

    async fn orphans(&self, table: &Table, tables: &[Table], limit: u32) -> PortResult<Vec<Orphans>> {
        let client = self.client().await?;
        orphans::look(client, table, tables, limit)
            .await
            .map_err(self.error("look for rows without parent in", &table.target))
    }

    async fn fetch(&self, table: &Table, keys: &[OwnedRow]) -> PortResult<Vec<Option<(OwnedRow, Vec<Vec<OwnedRow>>)>>> {
        read::fetch(&self.pool, &self.place, &self.shape(table), keys).await
    }

    async fn writes(&self, tables: &[Table]) -> PortResult<u64> {
        let error = self.error("read write counters of", "pg_stat_user_tables");
        let names: Vec<String> = tables
            .iter()
            .flat_map(|t| t.children.iter().map(|c| &c.target).chain([&t.target]))
            .map(|n| qualified(n))
            .collect();
        let client = self.client().await?;
        // Rows of a partitioned table are counted where they are.
        let sql = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables
                   WHERE relid IN (SELECT to_regclass(n)::oid FROM unnest($1::text[]) n UNION
                                   SELECT p.relid FROM unnest($1::text[]) n, pg_partition_tree(to_regclass(n)) p)";
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let row = client.query_one(&statement, &[&names]).await.map_err(&error)?;
        row.try_get(0).map(unsigned).map_err(error)
    }

    async fn lease(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        let lease = lease::take(&self.pool, &self.place, run, holder, ttl_ms, false).await?;
        self.epoch.store(lease.epoch, Ordering::Release);
        Ok(lease)
    }

    async fn seize(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        let lease = lease::take(&self.pool, &self.place, run, holder, ttl_ms, true).await?;
        self.epoch.store(lease.epoch, Ordering::Release);
        Ok(lease)
    }

    async fn release(&self, holder: &str) -> PortResult<()> {
        lease::release(&self.pool, &self.place, holder).await
    }
}
