//! A check of some keys before anything is loaded: would the target give them back as they are written? The load checks
//! every key and parks those it would not; a table in which no key passes should not be loaded at all.

use super::preflight::CheckRow;
use crate::domain::mapping::{RowError, RowErrorReason, TableMapping};
use crate::domain::plan::Table;
use crate::domain::value::Key;
use crate::ports::{Partition, PortResult, Source};

/// The keys of one page.
#[derive(Default)]
struct Seen {
    keys: u64,
    parked: u64,
    /// The first that is not given back as it was written, with its column.
    first: Option<(Key, String)>,
}

/// What one page of the source says of the table's keys; nothing where the type of the key, or every key seen, is given
/// back as it was written.
pub(super) async fn row(source: &dyn Source, table: &Table) -> Option<CheckRow> {
    let mapping = TableMapping::new(table);
    mapping.has_spellings().next()?;
    let what = format!("keys {}", table.id);
    let seen = match look(source, table, &mapping).await {
        Ok(seen) => seen,
        Err(e) => return Some(CheckRow::port(what, &e)),
    };
    let (Key(key), column) = seen.first?;
    let (keys, parked) = (seen.keys, seen.parked);
    let ty = table.columns.iter().find(|c| c.name == column).map_or_else(String::new, |c| c.ty.sql());
    Some(if parked == keys {
        let wrong = format!(
            "none of {keys} keys looked at would come back from {}.{column} ({ty}) as it is written, so every row would be \
             parked; one of them: {key}",
            table.target
        );
        CheckRow::bad(what, wrong, format!("give the column {column} the type text, which keeps every spelling"))
    } else {
        CheckRow::ok(
            what,
            format!(
                "{parked} of {keys} keys looked at would not come back from {}.{column} ({ty}) as they are written and will \
                 be parked; one of them: {key}; type text keeps every spelling",
                table.target
            ),
        )
    })
}

async fn look(source: &dyn Source, table: &Table, mapping: &TableMapping) -> PortResult<Seen> {
    let page = source.page(table, Partition { index: 0, of: 1 }, None).await?;
    let mut seen = Seen::default();
    source.read(&page, &mut |item| {
        if mapping.marker(item).is_some() {
            return;
        }
        seen.keys += 1;
        if let Err(RowError { column, reason: RowErrorReason::KeyForm, .. }) = mapping.row_key(item) {
            seen.parked += 1;
            if seen.first.is_none() {
                seen.first = mapping.key(item).ok().map(|(key, _)| (key, column));
            }
        }
    })?;
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::ColumnType;
    use crate::workers::preflight::{Missing, check};
    use crate::workers::tests::world::World;

    const LOWER: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

    /// What the whole check says of the books' keys.
    async fn row_with(ty: ColumnType, ids: &[&str]) -> Option<CheckRow> {
        let mut plan = (*World::new().plan).clone();
        plan.tables[0].columns[0].ty = ty;
        let world = World::with(plan);
        ids.iter().for_each(|id| world.book(id, "1.00"));
        let rows = check(&world.plan, &world.ports(), &Missing::default()).await;
        rows.into_iter().find(|row| row.what == "keys books")
    }

    #[tokio::test]
    async fn keys_that_would_all_be_parked_stop_the_day_before_it_begins() {
        let upper = LOWER.to_uppercase();
        let row = row_with(ColumnType::Uuid, &[&upper]).await.unwrap();
        let wrong = row.result.unwrap_err();
        assert!(
            wrong.contains("none of 1 keys") && wrong.contains("books.id (uuid)") && wrong.contains(&upper),
            "{wrong}"
        );
        assert!(row.advice.contains("type text"), "{}", row.advice);
    }

    #[tokio::test]
    async fn some_keys_that_would_be_parked_are_told_and_good_ones_are_not() {
        let upper = LOWER.to_uppercase();
        let row = row_with(ColumnType::Uuid, &[LOWER, &upper]).await.unwrap();
        let told = row.result.unwrap();
        assert!(told.contains("1 of 2 keys") && told.contains(&upper), "{told}");
        assert!(row_with(ColumnType::Uuid, &[LOWER]).await.is_none());
        assert!(row_with(ColumnType::Text, &[LOWER, &upper]).await.is_none());
    }
}
