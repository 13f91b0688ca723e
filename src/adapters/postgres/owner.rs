//! Which plan owns which tables. A table of the target belongs to one plan at a time: its bookkeeping, its capture
//! triggers, the mark that it is open to customers, and the lease are that plan's, and no other plan touches them.

use std::collections::{BTreeMap, BTreeSet};

use deadpool_postgres::Transaction;
use sha2::{Digest as _, Sha256};
use tokio_postgres::{Error, Row};

use super::connect::Ask;
use super::leftovers::{self, Leftover};
use super::names::qualified;
use super::retry::{self, Failure};
use super::{book, ending, lease, subscription};
use crate::domain::at::At;
use crate::domain::plan::{Table, shell_word};
use crate::ports::{ErrorKind, OpenedTable, Owned, OwnedTable, PortError, PortResult};

/// Whose bookkeeping: a table of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    /// The plan, as [`Plan::key`](crate::domain::plan::Plan::key) writes it.
    pub plan: &'a str,
    /// The plan's id of the table.
    pub table: &'a str,
}

/// Which tables belong to which plan. `targets` are the table and its child tables as the server names them; `ended` is
/// set once everything was applied to the old side.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS cutover.plan_table (
    plan text NOT NULL, table_id text NOT NULL, targets text[] NOT NULL DEFAULT '{}', run text NOT NULL DEFAULT '',
    since timestamptz NOT NULL DEFAULT now(), opened timestamptz, rolled_back timestamptz, ended timestamptz,
    PRIMARY KEY (plan, table_id));
";

/// Everything that is kept by plan and table.
pub(super) const KEPT: [&str; 17] = [
    "load_checkpoint",
    "stream",
    "stream_position",
    "lane",
    "marker",
    "parked",
    "created",
    "set_aside",
    "expired",
    "source_read",
    "source_change",
    "outbox",
    "reverse_image",
    "reverse_tally",
    "reverse_conflict",
    "reverse_marker",
    "plan_table",
];

/// Whether a table is open to customers; no row when it is not the plan's.
pub(super) const OPENED: &str = "SELECT opened IS NOT NULL FROM cutover.plan_table WHERE plan = $1 AND table_id = $2";

/// Whether a table is marked as rolled back: customers write on its old side again.
pub(super) const ROLLED_BACK: &str =
    "SELECT EXISTS (SELECT FROM cutover.plan_table WHERE plan = $1 AND table_id = $2 AND rolled_back IS NOT NULL)";

/// The advisory lock of a plan: shared by its forward work, held alone by whoever opens the tables to customers, so
/// that no forward transaction of the plan is under way then.
pub(super) fn thaw(plan: &str) -> i64 {
    let digest = Sha256::digest(format!("cutover thaw {plan}"));
    digest.iter().take(8).fold(0_i64, |n, byte| (n << 8) | i64::from(*byte))
}

/// Takes that lock shared, until the transaction ends.
pub(super) fn shared(plan: &str) -> String {
    format!("SELECT pg_advisory_xact_lock_shared({})", thaw(plan))
}

/// The table that a reverse applier of the plan locks to have its turn.
pub(super) fn turn(plan: &str) -> String {
    format!("cutover.turn_{:016x}", thaw(plan))
}

/// Names of tables as the server has them, in their order; of one that is not there yet, as it will have it.
pub(super) async fn server_names(client: &impl Ask, table: &Table) -> Result<Vec<String>, Error> {
    let names: Vec<String> =
        table.children.iter().map(|c| &c.target).chain([&table.target]).map(|name| qualified(name)).collect();
    let sql = "SELECT coalesce(
                   (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
                    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(w.name)),
                   (SELECT format('%I.%I', CASE WHEN cardinality(p) > 1 THEN p[1] ELSE coalesce(current_schema(), 'public') END,
                                  p[cardinality(p)]) FROM parse_ident(w.name) p))
               FROM unnest($1::text[]) WITH ORDINALITY w(name, n) ORDER BY w.n";
    client.ask(sql, &[&names]).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Who has one of these tables, or what it is a partition of, or one of its partitions, under another plan or another
/// id, and how it stands.
const OTHERS: &str = "
SELECT p.plan, p.table_id, x.target, p.run, (extract(epoch FROM p.since) * 1000)::bigint,
       (extract(epoch FROM p.opened) * 1000)::bigint, p.ended IS NOT NULL OR p.plan = $1 AND p.opened IS NULL,
       (SELECT count(*) FROM (SELECT FROM cutover.outbox o WHERE o.plan = p.plan AND o.table_id = p.table_id
                              AND o.part >= 0 LIMIT $4) o),
       (SELECT l.run FROM cutover.lease l WHERE l.plan = p.plan AND p.plan <> $1 AND l.holder <> ''
                                            AND l.until > clock_timestamp())
FROM cutover.plan_table p JOIN (
    SELECT target FROM unnest($3::text[]) target UNION
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM unnest($3::text[]) target CROSS JOIN LATERAL (
             SELECT relid FROM pg_partition_tree(to_regclass(target)) UNION
             SELECT relid FROM pg_partition_ancestors(to_regclass(target)) relid) tree
    JOIN pg_class c ON c.oid = tree.relid JOIN pg_namespace n ON n.oid = c.relnamespace) x ON x.target = ANY (p.targets)
WHERE (p.plan, p.table_id) <> ($1, $2) ORDER BY p.since, p.plan, x.target";

/// How far waiting writes are counted: a few million would be counted for as long as a statement may take.
const COUNTED: i64 = OwnedTable::COUNTED.cast_signed();

/// What is tried.
pub(super) const TAKE: &str = "take for this plan";

/// What it is tried on.
pub(super) const TABLES_OF_TARGET: &str = "the target tables";

/// Under which plans and ids these targets stand that may be taken over; or who has one of them still.
async fn free(client: &impl Ask, of: Of<'_>, targets: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut free = Vec::new();
    for other in client.ask(OTHERS, &[&of.plan, &of.table, &targets, &COUNTED]).await? {
        if let Some(refusal) = refused(&other)? {
            return Err(refusal.into());
        }
        free.push((other.try_get(0)?, other.try_get(1)?));
    }
    Ok(free)
}

/// Whether the tables of all plans are known here: not before a run has begun.
const KNOWN: &str = "
SELECT count(*) = 5 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'cutover' AND c.relname IN ('plan_table', 'outbox', 'lease', 'set_aside', 'leftover')";

pub(super) async fn known(client: &impl Ask) -> Result<bool, Error> {
    client.ask_one(KNOWN, &[]).await?.map_or(Ok(false), |row| row.try_get(0))
}

/// Whether [`claim`] would be refused. Reads only.
pub(super) async fn claimable(client: &impl Ask, plan: &str, tables: &[Table]) -> PortResult<()> {
    let looked = async {
        let known = known(client).await?;
        for table in tables {
            let targets = server_names(client, table).await?;
            nobody_writes(client, plan, table, &targets).await?;
            if known {
                free(client, Of { plan, table: &table.id }, &targets).await?;
            }
        }
        Ok(())
    };
    looked.await.map_err(|failure| retry::answer(failure, TAKE, TABLES_OF_TARGET))
}

/// Refuses a table that a subscription writes to which does not move it for this plan: what it writes is fenced by
/// nothing of ours.
async fn nobody_writes(client: &impl Ask, plan: &str, table: &Table, targets: &[String]) -> Result<(), Failure> {
    match subscription::strangers(client, plan, table, targets).await? {
        None => Ok(()),
        Some((wrong, advice)) => {
            Err(PortError::new(ErrorKind::Conflict, TAKE, &table.target, wrong).advise(advice).into())
        }
    }
}

/// Which commands end what a plan has.
fn ends(plan: &str, run: &str) -> String {
    let back = if run.is_empty() { "cutover rollback".to_owned() } else { format!("cutover rollback {run}") };
    format!(
        "take that run back: {back}; or, once it is at its end and nobody wants to go back any more: \
         cutover release {}",
        shell_word(plan)
    )
}

/// Makes these tables the plan's own, or says who has one of them. A table whose plan has ended it and applied its
/// writes is taken over.
/// Returns what the plans that had them have left.
pub(super) async fn claim(
    tx: &Transaction<'_>,
    plan: &str,
    run: &str,
    tables: &[Table],
) -> Result<Vec<Leftover>, Failure> {
    tx.batch_execute(ending::PATIENT).await?;
    tx.batch_execute(book::ALONE).await?;
    let (mut wanted, mut over) = (Vec::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for table in tables {
        let targets = server_names(tx, table).await?;
        nobody_writes(tx, plan, table, &targets).await?;
        for (plan, id) in free(tx, Of { plan, table: &table.id }, &targets).await? {
            over.entry(plan).or_default().insert(id);
        }
        wanted.push((&table.id, targets));
    }
    if !leftovers::in_the_way(tx, plan, tables).await?.is_empty() {
        let conflict = PortError::new(ErrorKind::Conflict, TAKE, TABLES_OF_TARGET, "a plan was released just now");
        return Err(conflict.advise("try again").into());
    }
    ending::stand_aside(tx, &over).await?;
    let mut left = Vec::new();
    for (id, targets) in wanted {
        // Asked again: a customer may have written until the triggers were gone.
        for (theirs, their_id) in free(tx, Of { plan, table: id }, &targets).await? {
            // Indexes that were dropped for its load go to the new owner, who builds them again.
            let sql = "UPDATE cutover.set_aside SET plan = $3, table_id = $4 WHERE plan = $1 AND table_id = $2";
            tx.execute(sql, &[&theirs, &their_id, &plan, id]).await?;
            if theirs == plan {
                // Another id of the same plan, which may be given again at once.
                leftovers::delete_now(tx, plan, &their_id).await?;
            } else {
                left.push(leftovers::leave(tx, &theirs, &their_id).await?);
            }
        }
        // A table that is open to customers stays with the run that opened it.
        let sql = "INSERT INTO cutover.plan_table AS p (plan, table_id, targets, run) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (plan, table_id) DO UPDATE SET targets = EXCLUDED.targets, run = EXCLUDED.run,
                       since = CASE WHEN p.run = EXCLUDED.run THEN p.since ELSE now() END, ended = NULL
                   WHERE p.opened IS NULL";
        tx.execute(sql, &[&plan, id, &targets, &run]).await?;
    }
    Ok(left)
}

/// Why a table cannot be taken over; nothing when its plan has ended and nothing of it waits.
fn refused(row: &Row) -> Result<Option<PortError>, Error> {
    let (plan, target, run): (String, String, String) = (row.try_get(0)?, row.try_get(2)?, row.try_get(3)?);
    let since = At(row.try_get(4)?);
    let open_to_customers: Option<i64> = row.try_get(5)?;
    let (over, waits): (bool, i64) = (row.try_get(6)?, row.try_get(7)?);
    let driven: Option<String> = row.try_get(8)?;
    if over && waits == 0 && driven.is_none() {
        return Ok(None);
    }
    let mut why = format!("it belongs to plan {plan}");
    if !run.is_empty() {
        why.push_str(&format!(" (run {run}, since {})", since.date_clock()));
    }
    if let Some(at) = open_to_customers {
        why.push_str(&format!("; it was opened to customers there at {}", At(at).date_clock()));
    }
    if waits > 0 {
        let waits = OwnedTable::in_words(waits.unsigned_abs());
        why.push_str(&format!("; {waits} of their writes wait to be carried back"));
    }
    if driven.is_some() {
        why.push_str("; that run is driven now");
    }
    Ok(Some(PortError::new(ErrorKind::Conflict, TAKE, target, why).advise(ends(&plan, &run))))
}

/// What is tried.
pub(super) const OPEN_TO_CUSTOMERS: &str = "let customers in on";

/// Marks every table: customers may write there from now on. Waits for the plan's forward work that is under way, and is
/// refused while a subscription of the plan could write.
/// Refused when a table is not the plan's any more: what customers write there would not be captured for it.
pub(super) async fn open_to_customers(tx: &Transaction<'_>, plan: &str, tables: &[Table]) -> Result<(), Failure> {
    tx.batch_execute(&format!("SELECT pg_advisory_xact_lock({})", thaw(plan))).await?;
    // Whoever lets a subscription work holds the same lock while that is written down.
    if let Some(at_work) = subscription::at_work(tx, plan, tables).await? {
        let why = format!("the subscription {at_work}: it would write over what customers write");
        return Err(PortError::new(ErrorKind::Conflict, OPEN_TO_CUSTOMERS, TABLES_OF_TARGET, why)
            .advise("see who enabled it since it was stopped, then try again, which stops it")
            .into());
    }
    let ids: Vec<&str> = tables.iter().map(|t| t.id.as_str()).collect();
    let sql = "UPDATE cutover.plan_table SET opened = coalesce(opened, clock_timestamp())
               WHERE plan = $1 AND table_id = ANY ($2)";
    tx.execute(sql, &[&plan, &ids]).await?;
    let sql = "SELECT string_agg(id, ', ') FROM unnest($2::text[]) id
               WHERE NOT EXISTS (SELECT FROM cutover.plan_table WHERE plan = $1 AND table_id = id)";
    match tx.query_one(sql, &[&plan, &ids]).await?.try_get::<_, Option<String>>(0)? {
        None => Ok(()),
        Some(lost) => Err(not_ours(OPEN_TO_CUSTOMERS, &lost, plan).into()),
    }
}

/// Marks every table that the run has and that is not marked yet as rolled back.
pub(super) async fn mark_rolled_back(client: &impl Ask, plan: &str, run: &str, tables: &[Table]) -> Result<(), Error> {
    let ids: Vec<&str> = tables.iter().map(|t| t.id.as_str()).collect();
    let sql = "UPDATE cutover.plan_table SET rolled_back = coalesce(rolled_back, clock_timestamp())
               WHERE plan = $1 AND table_id = ANY ($2) AND run IN ($3, '')";
    client.ask(sql, &[&plan, &ids, &run]).await.map(drop)
}

/// The first of these tables that a later run of the plan has, and that run.
pub(super) async fn of_another_run(
    client: &impl Ask,
    plan: &str,
    run: &str,
    tables: &[Table],
) -> Result<Option<(String, String)>, Error> {
    let ids: Vec<&str> = tables.iter().map(|t| t.id.as_str()).collect();
    let sql = "SELECT table_id, run FROM cutover.plan_table
               WHERE plan = $1 AND table_id = ANY ($2) AND run NOT IN ($3, '') ORDER BY table_id LIMIT 1";
    let row = client.ask_one(sql, &[&plan, &ids, &run]).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// That a plan does not have a table: nothing of it is written, emptied or captured for the plan.
pub(super) fn not_ours(tried: &str, on: &str, plan: &str) -> PortError {
    let came_back = format!("it does not belong to plan {plan}: it was released, or no run of the plan has taken it");
    PortError::new(ErrorKind::Conflict, tried, on, came_back)
        .advise("nothing was written; open a new run, whose set_up or capture step takes the tables for its plan")
}

/// Refuses a table that the plan does not have, or with `rows` one that is open to customers. The answer holds until
/// the transaction ends for whoever has the lock of [`thaw`], shared or alone.
pub(super) async fn stands(
    client: &impl Ask,
    of: Of<'_>,
    rows: bool,
    (tried, on): (&str, &str),
) -> Result<(), Failure> {
    let row = client.ask_one(OPENED, &[&of.plan, &of.table]).await?;
    judged(row.as_ref(), of, rows, (tried, on))
}

/// The same of a row of [`OPENED`].
pub(super) fn judged(row: Option<&Row>, of: Of<'_>, rows: bool, (tried, on): (&str, &str)) -> Result<(), Failure> {
    let Some(row) = row else { return Err(not_ours(tried, on, of.plan).into()) };
    if rows && row.try_get(0)? {
        let came_back = "the new side is open to customers";
        return Err(PortError::new(ErrorKind::Conflict, tried, on, came_back)
            .advise("changes of the old side are only watched from now on")
            .into());
    }
    Ok(())
}

/// Everything of these tables is applied to the old side: the target holds nothing of the run that is not also
/// elsewhere. A later run's tables stay as they are.
pub(super) async fn settle(client: &impl Ask, plan: &str, run: &str, tables: &[Table]) -> Result<(), Error> {
    let ids: Vec<&str> = tables.iter().map(|t| t.id.as_str()).collect();
    let sql = "UPDATE cutover.plan_table SET opened = NULL, ended = clock_timestamp()
               WHERE plan = $1 AND table_id = ANY ($2) AND run IN ($3, '')";
    client.ask(sql, &[&plan, &ids, &run]).await.map(drop)
}

/// The first of these tables that is open to customers.
pub(super) async fn opened_of(client: &impl Ask, plan: &str, tables: &[Table]) -> Result<Option<OpenedTable>, Error> {
    let ids: Vec<&str> = tables.iter().map(|t| t.id.as_str()).collect();
    let sql = "SELECT table_id, run, (extract(epoch FROM opened) * 1000)::bigint FROM cutover.plan_table
               WHERE plan = $1 AND table_id = ANY ($2) AND opened IS NOT NULL ORDER BY opened, table_id LIMIT 1";
    let row = client.ask_one(sql, &[&plan, &ids]).await?;
    row.map(|row| Ok(OpenedTable { table: row.try_get(0)?, run: row.try_get(1)?, at: At(row.try_get(2)?) })).transpose()
}

/// What a plan has. Reads only.
pub(super) async fn owned(client: &impl Ask, plan: &str) -> Result<Owned, Error> {
    if !known(client).await? {
        return Ok(Owned::default());
    }
    let sql = "SELECT p.table_id, p.targets, p.run, (extract(epoch FROM p.since) * 1000)::bigint,
                   (extract(epoch FROM p.opened) * 1000)::bigint,
                   (SELECT count(*) FROM (SELECT FROM cutover.outbox o WHERE o.plan = p.plan
                                          AND o.table_id = p.table_id AND o.part >= 0 LIMIT $2) o),
                   (SELECT count(*) FROM cutover.set_aside a WHERE a.plan = p.plan AND a.table_id = p.table_id)
               FROM cutover.plan_table p WHERE p.plan = $1 ORDER BY p.table_id";
    let tables = client.ask(sql, &[&plan, &COUNTED]).await?.iter().map(owned_table).collect::<Result<_, Error>>()?;
    let driven = lease::holder(client, plan).await?;
    let sql = "SELECT DISTINCT plan FROM cutover.plan_table WHERE plan <> $1 ORDER BY plan";
    let others = client.ask(sql, &[&plan]).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let interrupted = !leftovers::of(client, plan).await?.is_empty();
    Ok(Owned { tables, driven, others, interrupted })
}

fn owned_table(row: &Row) -> Result<OwnedTable, Error> {
    Ok(OwnedTable {
        id: row.try_get(0)?,
        targets: row.try_get(1)?,
        run: row.try_get(2)?,
        since: At(row.try_get(3)?),
        open_to_customers: row.try_get::<_, Option<i64>>(4)?.map(At),
        waits: row.try_get::<_, i64>(5)?.unsigned_abs(),
        aside: row.try_get::<_, i64>(6)?.unsigned_abs(),
    })
}
