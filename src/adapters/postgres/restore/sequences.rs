//! Sequences of restored tables. Rows come with their ids, so nothing of a restore moves a sequence, and the first row that
//! is inserted afterwards would be given an id that is taken.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use crate::adapters::postgres::names::{ident, qualified};
use crate::adapters::postgres::trouble;
use crate::ports::{HeldTable, PortResult};

/// Rising sequences that belong to columns of whole numbers of the table, with the column.
const OWNED: &str = "
SELECT format('%I.%I', n.nspname, s.relname), a.attname::text
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid AND q.seqincrement > 0
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass($1)
  AND d.deptype IN ('a', 'i') ORDER BY 1";

/// Moves each behind the highest value that its column holds, never back. Says which, and where they stand.
pub(super) async fn moved(client: &ClientWrapper, tables: &[HeldTable]) -> PortResult<Vec<String>> {
    let mut said = Vec::new();
    for table in tables {
        let error = |e: Error| trouble::error(&e, "move the sequences of", &table.name);
        let sql = qualified(&table.name);
        for row in client.query(OWNED, &[&sql]).await.map_err(error)? {
            let (sequence, column): (String, String) = (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
            let set = format!(
                "SELECT setval('{}', held.top) FROM (SELECT max({})::bigint AS top FROM {sql}) held, {sequence} stands
                 WHERE held.top >= stands.last_value",
                sequence.replace('\'', "''"),
                ident(&column)
            );
            if let Some(row) = client.query_opt(&set, &[]).await.map_err(error)? {
                let stands: i64 = row.try_get(0).map_err(error)?;
                said.push(format!(
                    "sequence {sequence} stands at {stands}, the highest {column} that was restored; what was given out \
                     beyond it where the export comes from is not in the export"
                ));
            }
        }
    }
    Ok(said)
}
