//! Writing single rows of the source, each only over what was read: the way back into PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::statement::{Statement, prepared};
use super::{PgSource, batch, catalogue, record, together};
use crate::adapters::postgres::connect::Ask as _;
use crate::adapters::postgres::names::{ident, list};
use crate::adapters::postgres::sequences::{self, Elsewhere, Within};
use crate::adapters::postgres::shape::Shape;
use crate::adapters::postgres::trouble;
use crate::domain::mapping::ItemChange;
use crate::domain::plan::{ColumnSource, Table};
use crate::domain::value::Record;
use crate::ports::{
    Beyond, ErrorKind, InBatch, ItemOutcome, Items, PortError, PortResult, Sequence, SequenceScan, Source as _,
    Together,
};

/// What is tried.
pub(super) const WRITE: &str = "write a row of";
/// Longest wait of one write for its row. The server gives up before we do, so that a write that we gave up does not go
/// through later. (A commit that waits for a standby may.) Each statement sees what was committed before it began.
pub(super) const PATIENCE: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = '3s'; \
                                   SET LOCAL lock_timeout = '3s'";
/// Longest time until a write is committed.
pub(super) const MOST: Duration = Duration::from_secs(7);
/// Rows that are shown of a table.
const SOME: u32 = 200;

/// References to a table by which the removal of one of its rows would change or remove others: which, of what table,
/// and whether a row takes part, as SQL over `t`.
const SPREADS: &str = "
SELECT c.conname::text, c.conrelid::regclass::text,
       format('EXISTS (SELECT FROM %s x WHERE %s%s)', c.conrelid::regclass,
              (SELECT string_agg(format('x.%I = t.%I', r.attname, f.attname), ' AND ')
               FROM unnest(c.conkey, c.confkey) k(r, f)
               JOIN pg_attribute r ON r.attrelid = c.conrelid AND r.attnum = k.r
               JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = k.f),
              CASE WHEN c.conrelid = c.confrelid THEN ' AND (x.tableoid, x.ctid) <> (t.tableoid, t.ctid)' ELSE '' END)
FROM pg_constraint c
WHERE c.confrelid = to_regclass($1) AND c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd') AND c.conparentid = 0
ORDER BY 1";

/// A reference by which the removal of a row would spread.
pub(super) struct Spread {
    /// What it is called.
    pub name: String,
    /// The table that refers.
    pub child: String,
    /// Whether a row `t` is referred to, as SQL.
    pub exists: String,
}

/// The references to a table by which a removal would spread.
pub(super) async fn spreads(tx: &Transaction<'_>, shape: &Shape) -> Result<Vec<Spread>, Error> {
    let found = tx.ask(SPREADS, &[&shape.main.sql]).await?;
    let each =
        found.iter().map(|row| Ok(Spread { name: row.try_get(0)?, child: row.try_get(1)?, exists: row.try_get(2)? }));
    each.collect()
}

/// What is said of a row that may not be removed yet.
pub(super) fn referred(table: &Table, child: &str, name: &str) -> PortError {
    let why = format!("rows of {child} refer to it ({name}), and would be changed or removed with it");
    PortError::new(ErrorKind::Invalid, WRITE, &table.source, why).advise("it is removed once none does")
}

/// What still refers to a row in a way that its removal would spread to: the removal of rows that customers meanwhile
/// moved to another one, by our own doing. Keeps new ones away until the transaction ends.
pub(super) async fn refers(
    tx: &Transaction<'_>,
    table: &Table,
    shape: &Shape,
    key: &Record<'static>,
) -> PortResult<Option<PortError>> {
    let error = |e: Error| trouble::error(&e, WRITE, &table.source);
    let found = spreads(tx, shape).await.map_err(error)?;
    if found.is_empty() {
        return Ok(None);
    }
    // Locked first, and looked at by a statement of its own: one that is waited for may have brought a row that refers to it.
    let mut locking = Statement::new(table, shape);
    let sql = format!("SELECT FROM {} t WHERE {} FOR UPDATE", shape.main.sql, locking.condition(key, &[])?);
    locking.prepared(sql).execute(tx).await.map_err(error)?;
    for Spread { name, child, exists } in found {
        let mut statement = Statement::new(table, shape);
        let sql = format!("SELECT {exists} FROM {} t WHERE {}", shape.main.sql, statement.condition(key, &[])?);
        let row = statement.prepared(sql).first(tx).await.map_err(error)?;
        if row.map(|row| row.try_get(0)).transpose().map_err(error)?.unwrap_or(false) {
            return Ok(Some(referred(table, &child, &name)));
        }
    }
    Ok(None)
}

impl PgSource {
    pub(super) async fn known(&self, table: &Table) -> PortResult<Arc<Shape>> {
        let client = self.client().await?;
        self.shape(&client, table).await
    }
}

#[async_trait]
impl Items for PgSource {
    async fn write(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome> {
        let shape = self.known(table).await?;
        let Some(statement) = prepared(table, &shape, change)? else { return Ok(ItemOutcome::Written) };
        // What the server says of a value may quote it.
        let error = |e: Error| {
            let refused = trouble::error(&e, WRITE, &table.source);
            // Rows that are written at the same time want each other's values: they have to be written together.
            let kind =
                if e.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) { ErrorKind::Invalid } else { refused.kind };
            PortError { kind, ..refused }
        };
        let mut client = self.client().await?;
        let began = tokio::time::Instant::now();
        let tx = client.transaction().await.map_err(error)?;
        tx.batch_execute(PATIENCE).await.map_err(error)?;
        if let ItemChange::Delete { key, .. } = change
            && let Some(by) = refers(&tx, table, &shape, key).await?
        {
            return Err(by);
        }
        let met = match statement.execute(&tx).await {
            Ok(met) => met,
            Err(e) => {
                tx.rollback().await.map_err(error)?;
                return Err(statement.named(&client, &shape, error(e)).await);
            }
        };
        // What is deferred is done here, within the limit, and not while it commits.
        tx.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await.map_err(error)?;
        if began.elapsed() > MOST {
            tx.rollback().await.map_err(error)?;
            let why = format!("it took more than {} s and was taken back", MOST.as_secs());
            return Err(PortError::new(ErrorKind::TimedOut, WRITE, &table.source, why).advise("it is tried again"));
        }
        tx.commit().await.map_err(error)?;
        Ok(if met > 0 { ItemOutcome::Written } else { ItemOutcome::Moved })
    }

    async fn write_batch(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Vec<InBatch>> {
        batch::write(self, table, changes).await
    }

    fn batch(&self) -> usize {
        batch::ROWS
    }

    async fn write_together(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Together> {
        together::write(self, table, changes).await
    }

    async fn read(&self, table: &Table, key: &Record<'static>) -> PortResult<Option<Record<'static>>> {
        Ok(self.get(table, std::slice::from_ref(key)).await?.pop().flatten())
    }

    async fn read_batch(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        self.get(table, keys).await
    }

    fn of_columns(&self) -> bool {
        true
    }

    async fn sample(&self, table: &Table) -> PortResult<Vec<Record<'static>>> {
        let error = |e: Error| trouble::error(&e, "read rows of", &table.source);
        let shape = self.known(table).await?;
        let client = self.client().await?;
        let sql = format!("SELECT 1::bigint, {} FROM {} t LIMIT {SOME}", shape.main.select, shape.main.sql);
        let rows = client.query(&sql, &[]).await.map_err(error)?;
        let numbered = rows.iter().filter_map(|row| crate::adapters::postgres::read::numbered(row, &shape.main.types));
        Ok(numbered.map(|(_, row)| record(shape.main.names(), row)).collect())
    }

    async fn exercise(&self, table: &Table, _: &str) -> PortResult<()> {
        let shape = self.known(table).await?;
        let error = |e: Error| trouble::error(&e, "exercise the way back into", &table.source);
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(error)?;
        let (on, names) = (&shape.main.sql, list(shape.main.names().iter().map(String::as_str)));
        // A key is never changed on the way back.
        let keys: Vec<&str> = shape.key_names().collect();
        // Nor is a value that the server alone gives: a new row brings it, one that is there keeps it.
        let all = catalogue::columns(&tx, &table.source).await.map_err(error)?;
        let kept = |name: &str| keys.contains(&name) || all.iter().any(|c| c.always && c.name == name);
        let others: Vec<&String> = shape.main.names().iter().filter(|n| !kept(n)).collect();
        let set: Vec<String> = others.iter().map(|n| format!("{0} = t.{0}", ident(n))).collect();
        // Rights are asked for whether a row is met or not; no customer waits for a lock on one.
        let each = [
            format!("INSERT INTO {on} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {on} WHERE false"),
            format!("DELETE FROM {on} WHERE false"),
        ];
        let update = (!set.is_empty()).then(|| format!("UPDATE {on} t SET {} WHERE false", set.join(", ")));
        let each: Vec<String> = each.into_iter().chain(update).collect();
        tx.batch_execute(&each.join(";")).await.map_err(error)?;
        tx.rollback().await.map_err(error)
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        let error = |e: Error| trouble::error(&e, "look for", "sequences");
        let client = self.client().await?;
        sequences::list(&client, &sources(tables)).await.map_err(error)
    }

    async fn advance_sequences(
        &self,
        tables: &[Table],
        look: SequenceScan,
        by_hand: &[String],
        beyond: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        let error = |e: Error| trouble::error(&e, "advance", "sequences");
        let (mut client, names) = (self.client().await?, sources(tables));
        let place = |table: &str, column: &str| place(tables, table, column);
        let beyond: Vec<Elsewhere> = beyond.iter().filter_map(|given| Elsewhere::of(given, place)).collect();
        sequences::advance(&mut client, &names, (look, Within::Own), by_hand, &beyond).await.map_err(error)
    }
}

/// The column of this store that a column of the target is read from: `public.books.number`.
fn place(tables: &[Table], table: &str, column: &str) -> Option<String> {
    let table = tables.iter().find(|one| one.id == table)?;
    match &table.columns.iter().find(|one| one.name == column)?.from {
        ColumnSource::Attribute(path) => Some(format!("{}.{}", table.source, path.first()?)),
        ColumnSource::Constant(_)
        | ColumnSource::Parent(_)
        | ColumnSource::Ordinal
        | ColumnSource::Element
        | ColumnSource::Whole => None,
    }
}

/// The tables as this store calls them.
fn sources(tables: &[Table]) -> Vec<&str> {
    tables.iter().map(|table| table.source.as_str()).collect()
}
