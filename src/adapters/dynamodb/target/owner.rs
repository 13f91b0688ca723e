//! Which plan owns which tables. A table belongs to one plan at a time: its bookkeeping and the mark that it is open to
//! customers are that plan's, and no other plan touches them.

use serde_json::json;

use super::call::{Item, Stopped, Store, Tried, n, number, s, sk, text};
use super::names::{self, Of};
use super::write::Write;
use super::{lease, outbox, permits};
use crate::domain::at::At;
use crate::domain::plan::{Table, shell_word};
use crate::ports::{ErrorKind, OpenedTable, Owned, OwnedTable, PortError, PortResult};

/// What is tried.
const TAKE: &str = "take for this plan";
/// What is tried.
const OPEN: &str = "let customers in on";
/// What it is tried on.
const TABLES: &str = "the target tables";
/// Tables that one transaction takes or opens.
const AT_ONCE: usize = 40;

/// A table as the bookkeeping knows it.
#[derive(Clone, Debug)]
pub(super) struct Known(Item);

impl Known {
    /// The item of [`Of::table`].
    pub(super) const fn of(item: Item) -> Self {
        Self(item)
    }

    /// Whether customers may write there.
    pub(super) fn opened(&self) -> Option<At> {
        number(&self.0, "opened").map(At)
    }

    /// Whether it is being emptied, or was when a process died.
    pub(super) fn emptying(&self) -> bool {
        self.0.contains_key("emptying")
    }

    /// The stream that is followed.
    pub(super) fn stream(&self) -> Option<&str> {
        text(&self.0, "stream")
    }

    /// Who may follow.
    pub(super) fn token(&self) -> Option<i64> {
        number(&self.0, "token")
    }

    /// The most lanes it was ever followed in.
    pub(super) fn lanes(&self) -> u32 {
        number(&self.0, "lanes").and_then(|lanes| u32::try_from(lanes).ok()).unwrap_or(0)
    }

    fn run(&self) -> &str {
        text(&self.0, "run").unwrap_or_default()
    }

    fn target(&self) -> &str {
        text(&self.0, "target").unwrap_or_default()
    }

    fn since(&self) -> At {
        At(number(&self.0, "since").unwrap_or_default())
    }
}

/// That a plan does not have a table: nothing of it is written or emptied for the plan.
pub(super) fn not_ours((tried, on): Tried<'_>, plan: &str) -> PortError {
    let came_back = format!("it does not belong to plan {plan}: it was released, or no run of the plan has taken it");
    PortError::new(ErrorKind::Conflict, tried, on, came_back)
        .advise("nothing was written; open a new run, whose set_up or capture step takes the tables for its plan")
}

/// That customers write to a table.
pub(super) fn is_open((tried, on): Tried<'_>) -> PortError {
    PortError::new(ErrorKind::Conflict, tried, on, "the new side is open to customers")
        .advise("changes of the old side are only watched from now on")
}

/// The table as the plan has it; refused when it does not, and with `rows` when it is open or being emptied.
pub(super) fn judged(known: Option<Item>, rows: bool, plan: &str, at: Tried<'_>) -> PortResult<Known> {
    let known = Known(known.ok_or_else(|| not_ours(at, plan))?);
    if rows && known.opened().is_some() {
        return Err(is_open(at));
    }
    if rows && known.emptying() {
        return Err(PortError::new(ErrorKind::Conflict, at.0, at.1, "emptying it did not come to its end")
            .advise("reset the table, then load it again"));
    }
    Ok(known)
}

/// That a transaction holds only while the plan has the table, and with `rows` while rows may be written there.
pub(super) fn fence(of: &Of, rows: bool) -> Write {
    let condition = if rows {
        "attribute_exists(#pk) AND attribute_not_exists(#opened) AND attribute_not_exists(#emptying)"
    } else {
        "attribute_exists(#pk)"
    };
    Write::check(&of.table()).when(condition)
}

/// Which plan and which id have a target table, if they are not these.
async fn other(store: &Store, plan: &str, table: &Table) -> PortResult<Option<(String, String)>> {
    let found = store.get(&names::owner(&table.target), (TAKE, &table.target)).await?;
    let found = found.map(|item| {
        let part = |name| text(&item, name).unwrap_or_default().to_owned();
        (part("plan"), part("id"))
    });
    Ok(found.filter(|(theirs, id)| theirs != plan || *id != table.id))
}

/// Whether [`claim`] would be refused. Reads only.
pub(super) async fn claimable(store: &Store, plan: &str, tables: &[Table]) -> PortResult<()> {
    for table in tables {
        let Some((theirs, id)) = other(store, plan, table).await? else { continue };
        let at = (TAKE, table.target.as_str());
        let Some(known) = store.get(&Of::id(&theirs, &id).table(), at).await?.map(Known) else { continue };
        if theirs == plan && known.opened().is_none() {
            continue;
        }
        let mut why = format!("it belongs to plan {theirs}");
        if !known.run().is_empty() {
            why.push_str(&format!(" (run {}, since {})", known.run(), known.since().date_clock()));
        }
        if let Some(at) = known.opened() {
            why.push_str(&format!("; it was opened to customers there at {}", at.date_clock()));
        }
        if lease::holder(store, &theirs, at).await?.is_some() {
            why.push_str("; that run is driven now");
        }
        let advice = format!(
            "take that run back: cutover rollback {}; or, once it is at its end and nobody wants to go back any more: \
             cutover release {}",
            known.run(),
            shell_word(&theirs)
        );
        return Err(PortError::new(ErrorKind::Conflict, TAKE, &table.target, why).advise(advice));
    }
    Ok(())
}

/// Makes these tables the plan's own, or says who has one of them.
pub(super) async fn claim(store: &Store, plan: &str, run: &str, tables: &[Table]) -> PortResult<()> {
    let at = (TAKE, TABLES);
    claimable(store, plan, tables).await?;
    store.write(&Write::put(&names::plan_listed(plan), json!({})), at).await.map_err(|e| e.error(at))?;
    let now = n(store.now().0);
    for some in tables.chunks(AT_ONCE) {
        let mut writes = Vec::new();
        for table in some {
            let of = Of::new(plan, table);
            let known = store.get(&of.table(), at).await?.map(Known);
            // A table that is open to customers stays with the run that opened it.
            if known.as_ref().is_some_and(|known| known.opened().is_some()) {
                continue;
            }
            // Another id of the same plan gives it up; what was kept of it goes.
            if let Some((theirs, id)) = other(store, plan, table).await? {
                forget(store, &Of::id(&theirs, &id), at).await?;
                outbox::forget(store, &Of::id(&theirs, &id), at).await?;
                let freed = [Write::delete(&Of::id(&theirs, &id).table()), owned_by(&table.target, &theirs, &id)];
                store.transact(&freed.iter().collect::<Vec<_>>(), at).await.map_err(|e| e.error(at))?;
            }
            let same = known.is_some_and(|known| known.run() == run);
            let since = if same { "#since = if_not_exists(#since, :now)" } else { "#since = :now" };
            let ours = Write::update(&of.table(), format!("SET #run = :run, #target = :target, {since}"));
            writes.push(
                ours.when("attribute_not_exists(#opened)")
                    .with("run", s(run))
                    .with("target", s(&table.target))
                    .with("now", now.clone()),
            );
            let owner = Write::put(&names::owner(&table.target), json!({"plan": s(plan), "id": s(&table.id)}));
            writes.push(
                owner
                    .when("attribute_not_exists(#pk) OR (#plan = :plan AND #id = :id)")
                    .with("plan", s(plan))
                    .with("id", s(&table.id)),
            );
        }
        if !writes.is_empty() {
            store.transact(&writes.iter().collect::<Vec<_>>(), at).await.map_err(|e| e.error(at))?;
        }
    }
    let write = Write::delete(&names::released(plan));
    store.write(&write, at).await.map_err(|e| e.error(at)).map(drop)
}

/// Gives a target up, if it is still theirs.
fn owned_by(target: &str, plan: &str, id: &str) -> Write {
    let condition = "attribute_not_exists(#pk) OR (#plan = :plan AND #id = :id)";
    Write::delete(&names::owner(target)).when(condition).with("plan", s(plan)).with("id", s(id))
}

/// A plan's tables with their ids.
async fn tables_of(store: &Store, plan: &str, at: Tried<'_>) -> PortResult<Vec<(String, Known)>> {
    let items = store.query(&names::of_plan(plan), names::TABLES, None, None, at).await?;
    let id = |item: &Item| sk(item).strip_prefix(names::TABLES).unwrap_or_default().to_owned();
    Ok(items.into_iter().map(|item| (id(&item), Known(item))).collect())
}

/// See [`crate::ports::Target::owned`].
pub(super) async fn owned(store: &Store, plan: &str) -> PortResult<Owned> {
    let at = ("look what belongs to", plan);
    let tables = tables_of(store, plan, at).await?;
    let tables = tables.into_iter().map(|(id, known)| async move {
        let waits = outbox::waits(store, &Of::id(plan, &id), at).await?;
        PortResult::Ok(OwnedTable {
            id,
            targets: vec![known.target().to_owned()],
            run: known.run().to_owned(),
            since: known.since(),
            open_to_customers: known.opened(),
            waits,
            aside: 0,
        })
    });
    let tables = futures::future::try_join_all(tables).await?;
    let others = store.query(names::PLANS, "", None, None, at).await?;
    Ok(Owned {
        tables,
        driven: lease::holder(store, plan, at).await?,
        others: others.iter().map(|item| sk(item).to_owned()).filter(|other| other != plan).collect(),
        interrupted: store.get(&names::released(plan), at).await?.is_some(),
    })
}

/// See [`crate::ports::Target::disown`]. What dies on the way is ended by the next release or claim.
pub(super) async fn disown(store: &Store, plan: &str) -> PortResult<()> {
    let at = ("release", plan);
    lease::end(store, plan, at).await?;
    let begun = Write::put(&names::released(plan), json!({"at": n(store.now().0)}));
    store.write(&begun, at).await.map_err(|e| e.error(at))?;
    for (id, known) in tables_of(store, plan, at).await? {
        let of = Of::id(plan, &id);
        permits::quiet(store, &of, at).await?;
        // Without its lanes nothing of a follower lands any more; the table itself goes last, so that a release that
        // died here is found again.
        forget(store, &of, at).await?;
        outbox::forget(store, &of, at).await?;
        let freed = [Write::delete(&of.table()), owned_by(known.target(), plan, &id)];
        store.transact(&freed.iter().collect::<Vec<_>>(), at).await.map_err(|e| e.error(at))?;
    }
    for write in [Write::delete(&names::plan_listed(plan)), Write::delete(&names::released(plan))] {
        store.write(&write, at).await.map_err(|e| e.error(at))?;
    }
    Ok(())
}

/// Deletes everything that is kept of a table besides whose it is. First what a follower or a loader shows.
pub(super) async fn forget(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<()> {
    let known = store.get(&of.table(), at).await?.map(Known);
    for lane in 0..known.map_or(0, |known| known.lanes()) {
        store.write(&Write::delete(&of.lane(lane)), at).await.map_err(|e| e.error(at))?;
    }
    for part in [of.load(), of.follow(), of.markers(), of.ledger(), of.counts()] {
        let kept = store.query(&part, "", None, None, at).await?;
        let keys: Vec<String> = kept
            .iter()
            .map(|item| super::call::key_of(&names::Place { pk: part.clone(), sk: sk(item).to_owned() }).to_string())
            .collect();
        super::batch::delete(store, names::BOOK, &keys, at).await?;
    }
    Ok(())
}

/// See [`crate::ports::Target::open_to_customers`].
pub(super) async fn open_to_customers(store: &Store, plan: &str, tables: &[Table]) -> PortResult<()> {
    let at = (OPEN, TABLES);
    for some in tables.chunks(AT_ONCE) {
        let now = n(store.now().0);
        let marks: Vec<Write> = some
            .iter()
            .map(|table| {
                let mark = Write::update(&Of::new(plan, table).table(), "SET #opened = if_not_exists(#opened, :now)");
                mark.when("attribute_exists(#pk)").with("now", now.clone())
            })
            .collect();
        match store.transact(&marks.iter().collect::<Vec<_>>(), at).await {
            Ok(()) => {}
            Err(Stopped::Condition(which)) => {
                let lost = some.get(which).map_or(TABLES, |table| table.id.as_str());
                return Err(not_ours((OPEN, lost), plan));
            }
            Err(stopped) => return Err(stopped.error(at)),
        }
    }
    // From here on no transaction that looks at the table begins to write rows. A lane looks at its own item: it is
    // marked, which waits for what the lane has under way.
    for table in tables {
        let of = Of::new(plan, table);
        let known = judged(store.get(&of.table(), at).await?, false, plan, at)?;
        for lane in 0..known.lanes() {
            let mark = Write::update(&of.lane(lane), "SET #opened = :now").with("now", n(store.now().0));
            store.write(&mark, at).await.map_err(|e| e.error(at))?;
        }
        permits::quiet(store, &of, at).await?;
    }
    Ok(())
}

/// See [`crate::ports::Target::opened_to_customers`].
pub(super) async fn opened(store: &Store, plan: &str, tables: &[Table]) -> PortResult<Option<OpenedTable>> {
    let places: Vec<_> = tables.iter().map(|table| Of::new(plan, table).table()).collect();
    let found = store.get_all(&places, ("ask whether customers write on", TABLES)).await?;
    let open = tables.iter().zip(found).find_map(|(table, item)| {
        let known = Known(item?);
        let (run, at) = (known.run().to_owned(), known.opened()?);
        Some(OpenedTable { table: table.id.clone(), run, at })
    });
    Ok(open)
}
