//! Many changes of rows in one transaction, each only over what was read.
//!
//! Changes that set and expect the same columns are one statement, with an array for each value. Rows that somebody else
//! holds are left out: the transaction never waits for one, so no customer of the old side meets it in a circle, and it
//! is over soon. When one change is refused nothing of that transaction is written, and it is tried again in halves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::PgSource;
use super::items::{Spread, WRITE, referred, spreads};
use super::statement::{Among, Prepared, Sent, Statement, prepared, text};
use crate::adapters::postgres::shape::Shape;
use crate::adapters::postgres::{columns, trouble};
use crate::domain::mapping::ItemChange;
use crate::domain::plan::Table;
use crate::domain::value::Record;
use crate::ports::{ErrorKind, InBatch, PortError, PortResult};

/// Rows that are written in one transaction: enough that what each transaction costs does not count, and few enough that
/// customers of the old side wait a moment at most for one of them.
pub(super) const ROWS: usize = 250;
/// A batch that is refused is tried again in halves while they are larger than this: one row that cannot stand costs a few
/// transactions, and not one for each of the others.
const HALVED: usize = 8;
/// What limits the transaction. What waits for a value that somebody else is just about to take, or for a row that is
/// referred to, gives way before the server looks for a circle. A process that is suspended holds rows this long.
const LIMITS: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = '3s'; \
                      SET LOCAL lock_timeout = '200ms'; SET LOCAL idle_in_transaction_session_timeout = '5s'";
/// Longest time until the last of them is committed; what is under way then ends within the time of one statement.
const MOST: Duration = Duration::from_secs(5);

/// Why a batch was not written.
enum Failed {
    /// Nothing is written, for sure.
    Refused(PortError),
    /// Nobody knows, or there is no server.
    Lost(PortError),
}

/// What one statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Insert,
    Update,
    Delete,
}

/// Changes with the same text.
struct Group {
    what: What,
    sql: String,
    elements: Vec<(&'static str, u32)>,
    /// Places of the changes, each with its values.
    rows: Vec<(usize, Vec<Sent>)>,
}

impl Group {
    /// Adds a change to a group that asks after rows. One of another text is left out.
    fn add(group: &mut Option<Self>, sql: String, elements: Vec<(&'static str, u32)>, row: (usize, Vec<Sent>)) {
        let group =
            group.get_or_insert_with(|| Self { what: What::Update, sql: sql.clone(), elements, rows: Vec::new() });
        if group.sql == sql {
            group.rows.push(row);
        }
    }

    /// Runs it for those of its changes that `stays` leaves in. Gives the answer's rows, how many were met, and the places
    /// of those that were asked for.
    async fn run(
        &self,
        tx: &Transaction<'_>,
        stays: impl Fn(usize) -> bool,
    ) -> Result<(Vec<Row>, u64, Vec<usize>), Error> {
        let rows: Vec<&(usize, Vec<Sent>)> = self.rows.iter().filter(|(place, _)| stays(*place)).collect();
        let places: Vec<usize> = rows.iter().map(|(place, _)| *place).collect();
        if rows.is_empty() {
            return Ok((Vec::new(), 0, places));
        }
        let array = |(n, (_, oid)): (usize, &(&str, u32))| {
            columns::array(*oid, rows.iter().map(|(_, values)| values.get(n).and_then(Sent::bytes)))
        };
        let arrays: Vec<columns::Column> = self.elements.iter().enumerate().map(array).collect();
        let values: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
        let statement = tx.prepare_cached(&self.sql).await?;
        if self.what == What::Insert {
            let met = tx.execute(&statement, &values).await?;
            return Ok((Vec::new(), met, places));
        }
        let met = tx.query(&statement, &values).await?;
        let number = met.len() as u64;
        Ok((met, number, places))
    }
}

/// A batch as statements.
struct Batch<'b> {
    table: &'b Table,
    shape: &'b Shape,
    /// In the order their first change was made.
    groups: Vec<Group>,
    /// Changes with a value that can be no element of an array, each by itself.
    single: Vec<(usize, What, Prepared)>,
    /// Keys of rows that must be there, and whether they go.
    rows: Vec<(usize, bool, &'b Record<'static>)>,
}

/// See [`crate::ports::Items::write_batch`].
pub(super) async fn write(source: &PgSource, table: &Table, changes: &[ItemChange]) -> PortResult<Vec<InBatch>> {
    let shape = source.known(table).await?;
    let mut client = source.client().await?;
    let began = Instant::now();
    // The first of them last, so that they are written in their order.
    let (mut outcomes, mut waiting) = (Vec::with_capacity(changes.len()), vec![changes]);
    while let Some(some) = waiting.pop() {
        let apart = || vec![InBatch::Apart; some.len()];
        if began.elapsed() > MOST {
            outcomes.extend(apart());
            continue;
        }
        let mut decided = apart();
        let batch = Batch::new(table, &shape, some, &mut decided);
        let tx = client.transaction().await.map_err(|e| trouble::error(&e, WRITE, &table.source))?;
        match batch.write(tx, decided, began).await {
            Ok(written) => outcomes.extend(written),
            Err(Failed::Refused(why)) => {
                tracing::debug!(table = %table.source, error = %why, rows = some.len(), "a batch was taken back");
                if some.len() <= HALVED {
                    outcomes.extend(apart());
                } else {
                    let (first, rest) = some.split_at(some.len() / 2);
                    waiting.extend([rest, first]);
                }
            }
            Err(Failed::Lost(e)) => return Err(e),
        }
    }
    Ok(outcomes)
}

impl<'b> Batch<'b> {
    /// Puts the statements together. A change that no statement says is left apart: by itself it is known why.
    fn new(table: &'b Table, shape: &'b Shape, changes: &'b [ItemChange], outcomes: &mut [InBatch]) -> Self {
        let mut batch = Self { table, shape, groups: Vec::new(), single: Vec::new(), rows: Vec::new() };
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        for ((place, change), outcome) in changes.iter().enumerate().zip(outcomes) {
            let what = match change {
                ItemChange::Nothing => {
                    *outcome = InBatch::Written;
                    continue;
                }
                ItemChange::Delete { .. } => What::Delete,
                ItemChange::Write(write) if write.exists => What::Update,
                ItemChange::Write(_) => What::Insert,
            };
            let mut statement = Statement::of_many(table, shape);
            let among = match text(&mut statement, change) {
                Ok(None) => {
                    *outcome = InBatch::Written;
                    continue;
                }
                Ok(Some(sql)) => statement.among(sql),
                Err(_) => continue,
            };
            match among {
                Some(Among { sql, values, elements }) => {
                    let group = *known.entry(sql).or_insert_with_key(|sql| {
                        batch.groups.push(Group { what, sql: sql.clone(), elements, rows: Vec::new() });
                        batch.groups.len() - 1
                    });
                    if let Some(group) = batch.groups.get_mut(group) {
                        group.rows.push((place, values));
                    }
                }
                None => match prepared(table, shape, change) {
                    Ok(Some(one)) => batch.single.push((place, what, one)),
                    Ok(None) | Err(_) => continue,
                },
            }
            match change {
                ItemChange::Delete { key, .. } => batch.rows.push((place, true, key)),
                ItemChange::Write(write) if write.exists => batch.rows.push((place, false, &write.key)),
                ItemChange::Write(_) | ItemChange::Nothing => {}
            }
        }
        batch
    }

    fn refused(&self, why: impl Into<String>) -> Failed {
        Failed::Refused(PortError::new(ErrorKind::Invalid, WRITE, &self.table.source, why.into()))
    }

    /// What an error before the commit says: nothing is written. Without a server, or on one that takes no writes, no
    /// change by itself gets any further.
    fn before(&self, e: &Error) -> Failed {
        let error = trouble::error(e, WRITE, &self.table.source);
        if trouble::is_unknown(e) || error.kind == ErrorKind::ReadOnly {
            Failed::Lost(error)
        } else {
            Failed::Refused(error)
        }
    }

    /// Writes it in one transaction, which `began` so long ago, or others before it. Gives what became of each change.
    async fn write(
        &self,
        tx: Transaction<'_>,
        mut outcomes: Vec<InBatch>,
        began: Instant,
    ) -> Result<Vec<InBatch>, Failed> {
        let before = |e: Error| self.before(&e);
        tx.batch_execute(LIMITS).await.map_err(before)?;
        let goes = self.rows.iter().any(|(_, goes, _)| *goes);
        let spreads = if goes { spreads(&tx, self.shape).await.map_err(before)? } else { Vec::new() };
        let mut held = BTreeSet::new();
        for goes in [false, true] {
            held.extend(self.lock(&tx, goes).await?);
        }
        for group in &self.groups {
            if began.elapsed() > MOST {
                break;
            }
            if group.what == What::Delete {
                for (place, by) in self.referred(&tx, group, &spreads, &held).await? {
                    held.remove(&place);
                    if let Some(outcome) = outcomes.get_mut(place) {
                        *outcome = InBatch::Refused(by);
                    }
                }
            }
            let stays = |place: usize| group.what == What::Insert || held.contains(&place);
            let (rows, met, places) = group.run(&tx, stays).await.map_err(before)?;
            let written: Vec<usize> = match group.what {
                // A row that was kept out does not say which it was.
                What::Insert if met != places.len() as u64 => {
                    return Err(self.refused("a new row is there already, or a trigger keeps it out"));
                }
                What::Insert => places,
                What::Update | What::Delete => self.places(&rows, &places)?,
            };
            for place in written {
                outcomes[place] = InBatch::Written;
            }
        }
        for (place, what, one) in &self.single {
            if began.elapsed() > MOST {
                break;
            }
            let stays = match what {
                What::Insert => true,
                What::Update => held.contains(place),
                // Looked at one by one where a removal would spread.
                What::Delete => held.contains(place) && spreads.is_empty(),
            };
            if stays && one.execute(&tx).await.map_err(before)? > 0 {
                outcomes[*place] = InBatch::Written;
            }
        }
        // What is deferred is done here, within the limit, and not while it commits.
        tx.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await.map_err(before)?;
        if began.elapsed() > MOST {
            tx.rollback().await.map_err(before)?;
            return Err(self.refused(format!("it took more than {} s and was taken back", MOST.as_secs())));
        }
        match tx.commit().await {
            Ok(()) => Ok(outcomes),
            Err(e) => Err(before(e)),
        }
    }

    /// Locks the rows that must be there and that nobody else holds; gives their places.
    async fn lock(&self, tx: &Transaction<'_>, goes: bool) -> Result<Vec<usize>, Failed> {
        let mut group: Option<Group> = None;
        for (place, _, key) in self.rows.iter().filter(|(_, of, _)| *of == goes) {
            let mut statement = Statement::of_many(self.table, self.shape);
            let Ok(condition) = statement.condition(key, &[]) else { continue };
            let strength = if goes { "UPDATE" } else { "NO KEY UPDATE" };
            let sql = format!(
                "SELECT v.n FROM {} JOIN {} t ON {condition} FOR {strength} OF t SKIP LOCKED",
                statement.rows(),
                self.shape.main.sql
            );
            let Some(Among { sql, values, elements }) = statement.among(sql) else { continue };
            Group::add(&mut group, sql, elements, (*place, values));
        }
        self.met(tx, group).await
    }

    /// Places of the changes that a group meets.
    async fn met(&self, tx: &Transaction<'_>, group: Option<Group>) -> Result<Vec<usize>, Failed> {
        let Some(group) = group else { return Ok(Vec::new()) };
        let (rows, _, places) = group.run(tx, |_| true).await.map_err(|e| self.before(&e))?;
        self.places(&rows, &places)
    }

    /// Places of the changes whose numbers stand in the answer.
    fn places(&self, rows: &[Row], places: &[usize]) -> Result<Vec<usize>, Failed> {
        let number = |row: &Row| row.try_get::<_, i64>(0).map(|n| usize::try_from(n - 1).ok());
        let numbers: Vec<Option<usize>> =
            rows.iter().map(number).collect::<Result<_, _>>().map_err(|e| self.before(&e))?;
        Ok(numbers.into_iter().filter_map(|n| places.get(n?).copied()).collect())
    }

    /// Places of the rows of a group whose removal would spread, with what refers to them. They are locked, so nothing
    /// comes to refer to one of the others until the transaction ends.
    async fn referred(
        &self,
        tx: &Transaction<'_>,
        group: &Group,
        spreads: &[Spread],
        held: &BTreeSet<usize>,
    ) -> Result<Vec<(usize, PortError)>, Failed> {
        let mut found = Vec::new();
        for Spread { name, child, exists } in spreads {
            let mut asked: Option<Group> = None;
            let ours = |place: &usize| held.contains(place) && group.rows.iter().any(|(of, _)| of == place);
            for (place, _, key) in self.rows.iter().filter(|(place, ..)| ours(place)) {
                let mut statement = Statement::of_many(self.table, self.shape);
                let Ok(condition) = statement.condition(key, &[]) else { continue };
                let (rows, on) = (statement.rows(), &self.shape.main.sql);
                let sql = format!("SELECT v.n FROM {rows} JOIN {on} t ON {condition} WHERE {exists}");
                let Some(Among { sql, values, elements }) = statement.among(sql) else { continue };
                Group::add(&mut asked, sql, elements, (*place, values));
            }
            let places = self.met(tx, asked).await?;
            found.extend(places.into_iter().map(|place| (place, referred(self.table, child, name))));
        }
        Ok(found)
    }
}
