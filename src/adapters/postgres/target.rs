//! PostgreSQL as a target.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tokio_postgres::Error;

use super::apply::{BatchEnd, To};
use super::book;
use super::bulk::PgBulk;
use super::connect::{Object, Pool};
use super::encoder::CopyEncoder;
use super::names::qualified;
use super::owner::Of;
use super::retry::{self, Failure, Tries};
use super::sequences::{Elsewhere, Within};
use super::settings::PgSettings;
use super::shape::Shape;
use super::{
    after_load, ddl, describe, indexes, lanes, layout, lease, ledger, leftovers, native, orphans, owner, read,
    references, rights, sequences, server, source_count, subscription, surroundings, trouble,
};
use crate::domain::at::At;
use crate::domain::gauge::Count;
use crate::domain::mapping::RowErrorReason;
use crate::domain::plan::Table;
use crate::domain::value::{Key, OwnedRow};
use crate::ports::{
    Applied, Beyond, Bulk, ChangeBatch, Checkpoint, Cursor, ErrorKind, FollowState, FullRead, Lease, Obstacle,
    OpenedTable, Orphans, Owned, Owning, ParkedRow, Partition, PortError, PortResult, Position, RowEncoder, Sequence,
    SequenceScan, SetAside, SourceCount, Surroundings, Target, TargetServer, TargetTable, TargetVisitor, common,
};

/// A PostgreSQL database that takes rows and keeps our progress beside them.
pub struct PgTarget {
    pool: Pool,
    place: String,
    /// Whose bookkeeping is kept here.
    plan: Arc<str>,
    /// Set once the bookkeeping is known to have no other layout than ours.
    pub(super) layout: OnceCell<()>,
    /// When old seconds of the source's count were last added up.
    folded: Mutex<Option<Instant>>,
    /// Prepared statements by table id, made once; those of a table that changed are made anew.
    shapes: Mutex<HashMap<String, (Table, Arc<Shape>)>>,
    /// The lease's epoch when this process last had it; 0 while it never had.
    epoch: AtomicI64,
    /// The same while it has the lease; 0 before, and once it gave it back.
    renews: AtomicI64,
}

impl PgTarget {
    /// A target of this plan ([`Plan::key`](crate::domain::plan::Plan::key)). Connects when it is first used.
    ///
    /// # Errors
    /// `Invalid` when TLS cannot be set up: an unreadable `ca_file`, no certificate authorities.
    pub fn new(settings: &PgSettings, plan: &str) -> PortResult<Self> {
        Ok(Self {
            pool: settings.pool()?,
            place: settings.place(),
            plan: plan.into(),
            layout: OnceCell::new(),
            folded: Mutex::default(),
            shapes: Mutex::default(),
            epoch: AtomicI64::new(0),
            renews: AtomicI64::new(0),
        })
    }

    /// Connects once and says which version the server is, for checks: `15.18`.
    ///
    /// # Errors
    /// `Denied` for a wrong password or user, `NotFound` for an unknown database, `Unreachable` when nobody answers.
    pub async fn version(&self) -> PortResult<String> {
        let client = retry::client(&self.pool, &self.place).await?;
        let row = client.query_one("SHOW server_version", &[]).await.map_err(self.error("ask", "the server"))?;
        row.try_get(0).map_err(self.error("ask", "the server"))
    }

    /// A connection, to bookkeeping of this version's layout.
    pub(super) async fn client(&self) -> PortResult<Object> {
        self.in_our_layout().await?;
        retry::client(&self.pool, &self.place).await
    }

    /// A connection that reads what is not our bookkeeping, or reports how our bookkeeping stands.
    async fn look(&self) -> PortResult<Object> {
        retry::client(&self.pool, &self.place).await
    }

    /// Whose bookkeeping of a table.
    pub(super) fn of<'t>(&'t self, table: &'t Table) -> Of<'t> {
        Of { plan: &self.plan, table: &table.id }
    }

    /// Whether old seconds of the source's count wait to be added up; not again for a while then.
    fn fold_is_due(&self) -> bool {
        let mut folded = self.folded.lock().unwrap_or_else(PoisonError::into_inner);
        let due = folded.is_none_or(|at| at.elapsed() >= FOLD_EVERY);
        if due {
            *folded = Some(Instant::now());
        }
        due
    }

    /// The plan whose bookkeeping is kept here.
    pub(super) fn plan(&self) -> &str {
        &self.plan
    }

    pub(super) const fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The lease's epoch when this process last had it; `None` while it never had.
    pub(super) fn epoch(&self) -> Option<i64> {
        Some(self.epoch.load(Ordering::Acquire)).filter(|epoch| *epoch != 0)
    }

    async fn take_lease(&self, run: &str, holder: &str, ttl_ms: i64, seize: bool) -> PortResult<Lease> {
        self.in_our_layout().await?;
        let renews = self.renews.load(Ordering::Acquire);
        let lease = lease::take(&self.pool, &self.place, &self.plan, run, holder, ttl_ms, seize, renews).await?;
        self.epoch.store(lease.epoch, Ordering::Release);
        self.renews.store(lease.epoch, Ordering::Release);
        Ok(lease)
    }

    /// The table's statements. Of columns whose type only the database knows, the types are looked up first.
    ///
    /// # Errors
    /// `NotFound` when such a column is not there (yet); nothing is kept then.
    pub(super) async fn shape(&self, table: &Table) -> PortResult<Arc<Shape>> {
        if let Some((known, shape)) = self.shapes.lock().unwrap_or_else(PoisonError::into_inner).get(&table.id)
            && known == table
        {
            return Ok(Arc::clone(shape));
        }
        let natives = if table.columns.iter().any(|c| c.ty.is_native()) {
            let (tried, on) = ("look up the column types of", table.target.as_str());
            let found = native::of(&self.look().await?, on, &table.columns).await.map_err(self.error(tried, on))?;
            if let Some(column) = table.columns.iter().find(|c| c.ty.is_native() && !found.contains_key(&c.name)) {
                let missing =
                    PortError::new(ErrorKind::NotFound, tried, on, format!("there is no column {}", column.name));
                return Err(missing.advise("`cutover check` compares the table with the plan"));
            }
            found
        } else {
            native::Natives::new()
        };
        let shape = Arc::new(Shape::new(&self.plan, table, natives));
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.insert(table.id.clone(), (table.clone(), Arc::clone(&shape)));
        Ok(shape)
    }

    #[allow(clippy::unused_self)]
    pub(super) fn error<'e>(&self, tried: &'e str, on: &'e str) -> impl Fn(Error) -> PortError + use<'e> {
        move |e| trouble::error(&e, tried, on)
    }
}

/// How long old seconds of the source's count are left as they are.
const FOLD_EVERY: Duration = Duration::from_secs(600);

/// Makes the tables that every bookkeeping of this version has.
pub(super) const MADE: [&str; 7] = [
    book::TABLES,
    layout::TABLES,
    ledger::TABLES,
    owner::TABLES,
    leftovers::TABLES,
    source_count::TABLES,
    super::outbox::TABLES,
];

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

#[async_trait]
impl Target for PgTarget {
    async fn inspect(&self) -> PortResult<TargetServer> {
        let error = self.error("inspect", "the server");
        match self.look().await {
            Ok(client) => server::inspect(&client).await.map_err(error),
            // Only the server itself knows where that is set.
            Err(e) if e.kind == ErrorKind::ReadOnly => {
                let client = self.pool.manager().look().await?;
                server::inspect(&client).await.map_err(error)
            }
            Err(e) => Err(e),
        }
    }

    async fn prepare(&self) -> PortResult<()> {
        let error = self.error("prepare", "schema cutover");
        let mut client = self.look().await?;
        let tx = client.transaction().await.map_err(&error)?;
        tx.batch_execute(book::ALONE).await.map_err(&error)?;
        layout::ours(&tx, "prepare").await?;
        for made in MADE.into_iter().chain([references::REFUSE, native::REWRITTEN]) {
            tx.batch_execute(made).await.map_err(&error)?;
        }
        tx.commit().await.map_err(&error)
    }

    async fn claim(&self, run: &str, tables: &[Table]) -> PortResult<()> {
        let mut client = self.client().await?;
        let error = self.error(owner::TAKE, owner::TABLES_OF_TARGET);
        let left = leftovers::in_the_way(&client, &self.plan, tables).await.map_err(error)?;
        self.delete_leftovers(&mut client, &left).await?;
        let mut tries = Tries::patient();
        loop {
            let attempt = async {
                let tx = client.transaction().await?;
                let left = owner::claim(&tx, &self.plan, run, tables).await?;
                after_load::quiet(&tx, &self.plan, tables).await?;
                tx.commit().await.map_err(Failure::Commit)?;
                Ok(left)
            };
            match attempt.await {
                Ok(left) => {
                    // The tables are the plan's whatever becomes of this.
                    if let Err(e) = self.delete_leftovers(&mut client, &left).await {
                        tracing::warn!(error = %e, "what the plan before kept of its tables is not all deleted");
                    }
                    return Ok(());
                }
                Err(failure) => tries.after(failure, owner::TAKE, owner::TABLES_OF_TARGET).await?,
            }
        }
    }

    async fn claimable(&self, tables: &[Table]) -> PortResult<()> {
        owner::claimable(&self.client().await?, &self.plan, tables).await
    }

    async fn owned(&self) -> PortResult<Owned> {
        owner::owned(&self.client().await?, &self.plan).await.map_err(self.error("look what belongs to", &self.plan))
    }

    async fn disown(&self) -> PortResult<()> {
        self.release_tables().await
    }

    async fn open_to_customers(&self, tables: &[Table]) -> PortResult<()> {
        let answer = |failure| retry::answer(failure, owner::OPEN_TO_CUSTOMERS, owner::TABLES_OF_TARGET);
        let mut client = self.client().await?;
        let marked = async {
            let tx = client.transaction().await?;
            owner::open_to_customers(&tx, &self.plan, tables).await?;
            after_load::wake(&tx, &self.plan, tables).await?;
            tx.commit().await.map_err(Failure::Commit)
        };
        marked.await.map_err(answer)
    }

    async fn opened_to_customers(&self, tables: &[Table]) -> PortResult<Option<OpenedTable>> {
        let found = owner::opened_of(&self.client().await?, &self.plan, tables).await;
        found.map_err(self.error("ask whether customers write on", "the target tables"))
    }

    async fn surroundings(&self, _: &Table) -> PortResult<Option<Surroundings>> {
        let error = self.error("look at the settings of", self.place());
        surroundings::of(&self.look().await?).await.map(Some).map_err(error)
    }

    async fn describe(&self, table: &Table) -> PortResult<TargetTable> {
        let client = self.look().await?;
        let found =
            describe::describe(&client, &self.plan, table).await.map_err(self.error("describe", &table.target))?;
        match table.ddl.as_deref().map(ddl::sql) {
            Some(Err(not_sql)) if !found.exists => Err(ddl::refused(&not_sql, &table.target)),
            _ => Ok(found),
        }
    }

    async fn rights(&self, tables: &[Table], owning: Owning) -> PortResult<Vec<Obstacle>> {
        let error = self.error("ask for rights on", "the target tables");
        rights::missing(&self.look().await?, tables, owning).await.map_err(error)
    }

    async fn create(&self, table: &Table) -> PortResult<bool> {
        self.create_table(table).await
    }

    async fn make_anew(&self, tables: &[Table]) -> PortResult<()> {
        self.make_tables_anew(tables).await
    }

    async fn bulk(&self, table: &Table, _part: Partition) -> PortResult<Box<dyn Bulk>> {
        let error = self.error("open a way into", &table.target);
        self.in_our_layout().await?;
        // A process that is no longer the driver keeps the epoch it had: whatever it opens is refused.
        let epoch = match self.epoch() {
            Some(epoch) => Some(epoch),
            None => lease::driver(&self.client().await?, &self.plan).await.map_err(&error)?,
        };
        let shape = self.shape(table).await?;
        let only_added = indexes::key_is_aside(&self.client().await?, self.of(table)).await.map_err(&error)?;
        Ok(Box::new(PgBulk::new(self.pool.clone(), self.place.clone(), table, shape, (epoch, only_added))))
    }

    fn encoder(&self, table: &Table) -> PortResult<Box<dyn RowEncoder>> {
        // Types that only the database knows are encoded as their text, whatever they are.
        Ok(Box::new(CopyEncoder::new(Shape::new(&self.plan, table, native::Natives::new()))))
    }

    async fn checkpoints(&self, table: &Table) -> PortResult<Vec<Checkpoint>> {
        let error = self.error("read checkpoints of", &table.id);
        let client = self.client().await?;
        let sql = r#"SELECT part, "of", cursor, rows, parked, done FROM cutover.load_checkpoint
                     WHERE plan = $1 AND table_id = $2 ORDER BY "of", part"#;
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let rows = client.query(&statement, &[&self.plan(), &table.id]).await.map_err(&error)?;
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
        self.empty_table(table).await
    }

    async fn begin_load(
        &self,
        table: &Table,
        defer_indexes: Option<bool>,
        keys_are_unique: bool,
    ) -> PortResult<Vec<SetAside>> {
        let mut client = self.client().await?;
        indexes::set_aside(&mut client, &self.plan, table, defer_indexes, keys_are_unique)
            .await
            .map_err(|e| indexes::refused(&e, table))
    }

    async fn set_aside(&self, table: &Table) -> PortResult<Vec<SetAside>> {
        let client = self.client().await?;
        indexes::missing(&client, self.of(table)).await.map_err(self.error("read set-aside indexes of", &table.target))
    }

    async fn finish_load(&self, table: &Table) -> PortResult<()> {
        indexes::restore(&self.pool, &self.place, self.of(table)).await?;
        self.make_after_load(table).await?;
        self.analyse(table).await
    }

    async fn prove_references(&self, table: &Table, drained: bool) -> PortResult<Option<String>> {
        self.prove_foreign_keys(table, drained).await
    }

    async fn fill_views(&self, table: &Table) -> PortResult<Vec<String>> {
        self.refresh_views(table).await
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        let client = self.look().await?;
        sequences::list(&client, &sequences::targets(tables)).await.map_err(self.error("look for", "sequences"))
    }

    async fn advance_sequences(
        &self,
        tables: &[Table],
        look: SequenceScan,
        by_hand: &[String],
        beyond: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        let mut client = self.client().await?;
        let (names, called) = (sequences::targets(tables), |id: &str| tables.iter().find(|t| t.id == id));
        let place = |table: &str, column: &str| Some(format!("{}.{column}", called(table)?.target));
        let beyond: Vec<Elsewhere> = beyond.iter().filter_map(|given| Elsewhere::of(given, place)).collect();
        sequences::advance(&mut client, &names, (look, Within::Own), by_hand, &beyond)
            .await
            .map_err(self.error("advance", "sequences"))
    }

    async fn start_positions(
        &self,
        table: &Table,
        stream: &str,
        positions: &BTreeMap<String, Position>,
    ) -> PortResult<()> {
        let tried = "store the start of following";
        let error = self.error(tried, &table.id);
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(&error)?;
        tx.batch_execute(&owner::shared(&self.plan)).await.map_err(&error)?;
        let stands = owner::stands(&tx, self.of(table), false, (tried, &table.id)).await;
        stands.map_err(|failure| retry::answer(failure, tried, &table.id))?;
        tx.execute(
            "INSERT INTO cutover.stream (plan, table_id, stream) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            &[&self.plan(), &table.id, &stream],
        )
        .await
        .map_err(&error)?;
        let sql = "SELECT stream FROM cutover.stream WHERE plan = $1 AND table_id = $2 FOR UPDATE";
        let known: String =
            tx.query_one(sql, &[&self.plan(), &table.id]).await.and_then(|r| r.try_get(0)).map_err(&error)?;
        if known != stream {
            let came_back = format!("another stream is being followed: {known}");
            return Err(PortError::new(ErrorKind::Conflict, "store the start of following", &table.id, came_back)
                .advise("the stream was recreated and changes between are lost; reset the table and load it again"));
        }
        let shards: Vec<&str> = positions.keys().map(String::as_str).collect();
        let values: Vec<&str> = positions.values().map(|p| p.0.as_str()).collect();
        tx.execute(
            "INSERT INTO cutover.stream_position (plan, table_id, shard, position)
             SELECT $1, $2, * FROM unnest($3::text[], $4::text[]) ON CONFLICT DO NOTHING",
            &[&self.plan(), &table.id, &shards, &values],
        )
        .await
        .map_err(&error)?;
        tx.commit().await.map_err(&error)
    }

    async fn positions(&self, table: &Table) -> PortResult<Option<(String, BTreeMap<String, Option<Position>>)>> {
        let client = self.client().await?;
        let stored =
            book::standing(&client, self.of(table)).await.map_err(self.error("read positions of", &table.id))?;
        Ok(stored.map(|(stream, positions, lanes)| (stream, common(positions, &lanes))))
    }

    async fn resume_follow(&self, table: &Table, lanes: u32) -> PortResult<Option<FollowState>> {
        self.in_our_layout().await?;
        lanes::resume_follow(&self.pool, &self.place, self.of(table), lanes, self.epoch()).await
    }

    async fn apply(&self, table: &Table, batch: ChangeBatch) -> PortResult<Applied> {
        self.in_our_layout().await?;
        let to = To { pool: &self.pool, place: &self.place, table, shape: &*self.shape(table).await? };
        let (end, rows) = BatchEnd::of(batch, self.epoch());
        lanes::apply(to, rows, &end).await
    }

    async fn marker(&self, table: &Table, nonce: &str) -> PortResult<Option<At>> {
        let error = self.error("read markers of", &table.id);
        let client = self.client().await?;
        if table.mover.is_some() {
            return Ok(subscription::mark_stands(&client, &self.plan, table, nonce).await?.then(book::wall));
        }
        let sql = "SELECT applied_at FROM cutover.marker WHERE plan = $1 AND table_id = $2 AND nonce = $3";
        let statement = client.prepare_cached(sql).await.map_err(&error)?;
        let row = client.query_opt(&statement, &[&self.plan(), &table.id, &nonce]).await.map_err(&error)?;
        row.map(|r| r.try_get(0).map(At)).transpose().map_err(error)
    }

    async fn count(&self, table: &Table, exact: bool) -> PortResult<Count> {
        let error = self.error("count", &table.target);
        let name = qualified(&table.target);
        let mut client = self.look().await?;
        if exact {
            let tx = client.build_transaction().read_only(true).start().await.map_err(&error)?;
            tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(&error)?;
            let row = tx.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await.map_err(&error)?;
            return Ok(Count::exact(unsigned(row.try_get(0).map_err(&error)?), book::wall()));
        }
        // The server's estimate is as old as its last analysis of the whole table.
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
            // The server has not analysed the table yet: the count is unknown.
            n if n < 0 => Ok(Count { at: book::wall(), ..Count::default() }),
            n => Ok(Count::estimated(unsigned(n), looked.map_or_else(At::default, At))),
        }
    }

    async fn load_reads(&self, table: &Table, at: At) -> PortResult<()> {
        let noted = source_count::load_reads(&self.client().await?, self.of(table), at).await;
        noted.map_err(self.error("note the reading of", &table.id))
    }

    async fn full_read(&self, table: &Table, read: FullRead) -> PortResult<()> {
        let noted = source_count::full_read(&mut self.client().await?, self.of(table), read).await;
        noted.map_err(self.error("note the reading of", &table.id))
    }

    async fn source_count(&self, table: &Table) -> PortResult<Option<SourceCount>> {
        let mut client = self.client().await?;
        if self.fold_is_due() {
            let folded = source_count::fold(&mut client, &self.plan, book::wall()).await;
            folded.map_err(self.error("add up the source's count of", &self.plan))?;
        }
        let counted = source_count::source_count(&client, self.of(table)).await;
        counted.map_err(self.error("read the source's count of", &table.id))
    }

    async fn ledger(&self, table: &Table) -> PortResult<(BTreeMap<RowErrorReason, u64>, u64)> {
        ledger::totals(&self.client().await?, &self.plan, table)
            .await
            .map_err(self.error("read the ledger of", &table.id))
    }

    async fn parked(
        &self,
        table: &Table,
        reasons: Option<&[RowErrorReason]>,
        after: Option<&Key>,
        limit: u32,
    ) -> PortResult<Vec<ParkedRow>> {
        let client = self.client().await?;
        let page = ledger::page(&client, &self.plan, table, reasons, after, limit).await;
        page.map_err(self.error("read the ledger of", &table.id))
    }

    async fn parked_since(&self, table: &Table, keys: &[Key]) -> PortResult<Vec<Option<(ParkedRow, At)>>> {
        let client = self.client().await?;
        ledger::by_key(&client, &self.plan, table, keys).await.map_err(self.error("read the ledger of", &table.id))
    }

    async fn scan(&self, table: &Table, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        let shape = self.shape(table).await?;
        read::scan(&self.pool, &self.place, &shape.main, each).await
    }

    async fn scan_child(&self, table: &Table, child: usize, each: &mut TargetVisitor<'_>) -> PortResult<()> {
        let shape = self.shape(table).await?;
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
        let shape = self.shape(table).await?;
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
        read::fetch(&self.pool, &self.place, &*self.shape(table).await?, keys).await
    }

    async fn writes(&self, tables: &[Table]) -> PortResult<u64> {
        let error = self.error("read write counters of", "pg_stat_user_tables");
        server::writes(&self.look().await?, tables).await.map_err(error)
    }

    async fn lease(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        self.take_lease(run, holder, ttl_ms, false).await
    }

    async fn seize(&self, run: &str, holder: &str, ttl_ms: i64) -> PortResult<Lease> {
        self.take_lease(run, holder, ttl_ms, true).await
    }

    async fn release(&self, holder: &str) -> PortResult<()> {
        self.in_our_layout().await?;
        if lease::release(&self.pool, &self.place, &self.plan, holder).await? {
            self.renews.store(0, Ordering::Release);
        }
        Ok(())
    }
}
