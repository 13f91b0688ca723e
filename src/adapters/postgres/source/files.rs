//! The files that a table's rows stand in while it is loaded.
//!
//! A load reads ranges of blocks, segment by segment. `VACUUM FULL`, `CLUSTER` and some forms of `ALTER TABLE` put every row
//! into another block of another file, and the log says nothing of it: a row that goes from a segment which is not read yet
//! to one that is over would be read by nobody. So the files are written down before the first row is read, beside the
//! publication, where a process that goes on with the load finds them; and they have to be the same once the last segment
//! is over.

use std::collections::BTreeMap;

use tokio_postgres::Error;

use super::partitions::{self, Began};
use crate::adapters::postgres::connect::{Ask as _, Object};
use crate::adapters::postgres::names::qualified;
use crate::adapters::postgres::trouble;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult};

/// The table's number; and of it and its partitions, where they hold rows: number, file and name.
const FILES: &str = "
SELECT to_regclass($1)::oid, c.oid, coalesce(pg_relation_filenode(c.oid), 0)::oid, c.oid::regclass::text
FROM (SELECT to_regclass($1)::oid AS relid UNION SELECT relid FROM pg_partition_tree(to_regclass($1))) tree
JOIN pg_class c ON c.oid = tree.relid AND c.relkind = 'r'";

/// A table's number, and by number the file and the name of what holds its rows.
type Files = (u32, BTreeMap<u32, (u32, String)>);

async fn now(client: &Object, table: &Table) -> Result<Option<Files>, Error> {
    let mut found: Option<Files> = None;
    for row in client.ask(FILES, &[&qualified(&table.source)]).await? {
        let (_, files) = found.get_or_insert((row.try_get(0)?, BTreeMap::new()));
        files.insert(row.try_get(1)?, (row.try_get(2)?, row.try_get(3)?));
    }
    Ok(found)
}

/// Writes down where the rows of a table stand, before the first of them is read. Nothing where no changes are captured.
///
/// # Errors
/// The server cannot be asked, or what was written down when capture began is not there any more.
pub(super) async fn begin_load(client: &Object, publication: &str, table: &Table) -> PortResult<()> {
    const TRIED: &str = "note the files of";
    let error = |e: Error| trouble::error(&e, TRIED, &table.source);
    let Some((oid, files)) = now(client, table).await.map_err(error)? else { return Ok(()) };
    let files = files.into_iter().map(|(leaf, (file, _))| (leaf, file)).collect();
    let begins = |began: &mut Began| drop(began.files.insert(oid, files));
    let noted = partitions::change(client, publication, begins).await.map_err(error)?;
    if noted.is_none() && partitions::is_captured(client, publication).await.map_err(error)? {
        return Err(comment_changed(publication, TRIED, table));
    }
    Ok(())
}

fn comment_changed(publication: &str, tried: &str, table: &Table) -> PortError {
    let why = format!("somebody changed the comment on the publication {publication}, where they are written down");
    let advice = "load the tables anew, and leave the comment as it is";
    PortError::new(ErrorKind::Invalid, tried, &table.source, why).advise(advice)
}

/// Sees that no row of a table was put elsewhere while it was loaded, once all of it was read; then the load is proven and
/// a rewrite does no harm any more. Nothing where no beginning is on record.
///
/// # Errors
/// `Expired` when the table, or a partition of it, stands in another file; `Invalid` when what was written down is not there
/// any more.
pub(super) async fn end_load(client: &Object, publication: &str, table: &Table) -> PortResult<()> {
    const TRIED: &str = "end the load of";
    let error = |e: Error| trouble::error(&e, TRIED, &table.source);
    let Some((oid, files)) = now(client, table).await.map_err(error)? else { return Ok(()) };
    let Some(mut began) = partitions::began(client, publication).await.map_err(error)? else {
        if partitions::is_captured(client, publication).await.map_err(error)? {
            return Err(comment_changed(publication, TRIED, table));
        }
        return Ok(());
    };
    let Some(before) = began.files.remove(&oid) else { return Ok(()) };
    // A partition that came or went is told by the list of partitions.
    let other = |leaf: &u32, file: &u32| files.get(leaf).filter(|(now, _)| now != file).map(|(_, name)| name.clone());
    let moved: Vec<String> = before.iter().filter_map(|(leaf, file)| other(leaf, file)).collect();
    if !moved.is_empty() {
        let why = format!(
            "{} was rewritten while the table was loaded (VACUUM FULL, CLUSTER, ALTER TABLE, TRUNCATE): rows may have gone to \
             blocks that were read already",
            moved.join(", ")
        );
        let advice = "load the table anew, and let nothing rewrite it meanwhile";
        return Err(PortError::new(ErrorKind::Expired, TRIED, &table.source, why).advise(advice));
    }
    let ends = |began: &mut Began| drop(began.files.remove(&oid));
    partitions::change(client, publication, ends).await.map(drop).map_err(error)
}
