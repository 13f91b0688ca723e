//! Key columns that hold different values equal: two keys of the source would become one row there, and what is done to
//! one of them would be done to the other.
//!
//! Every key that lands is proven to be its cell's only spelling (`domain::mapping`). That leaves equality that is
//! looser than the cell. Types with one of their own (`citext`, `character(n)`, domains) are not those of the plan and
//! refused as such; a collation does not show in the type.

use tokio_postgres::Error;

use super::connect::Object;
use super::names::qualified;
use crate::domain::plan::Table;

/// Columns of `$1` among `$2` whose collation holds different texts equal, with its name. Read as JSON, because servers
/// before 12 know no such collations.
const LOOSE: &str = "
SELECT a.attname::text, format('%I.%I', n.nspname, c.collname)
FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE a.attrelid = to_regclass($1) AND a.attname = ANY ($2::text[]) AND NOT a.attisdropped
  AND (to_jsonb(c) ->> 'collisdeterministic')::boolean IS FALSE ORDER BY a.attnum";

/// Names key columns of the table, and columns of its children that hold its key, in which keys would become one.
pub(super) async fn describe(client: &Object, table: &Table, problems: &mut Vec<String>) -> Result<(), Error> {
    let own: Vec<String> = table.key_columns().map(str::to_owned).collect();
    let children = table.children.iter().map(|c| (&c.target, &c.parent_key));
    for (name, columns) in std::iter::once((&table.target, &own)).chain(children) {
        let statement = client.prepare_cached(LOOSE).await?;
        for row in client.query(&statement, &[&qualified(name), columns]).await? {
            let (column, collation): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            problems.push(format!(
                "{name}.{column}: its collation {collation} holds different texts equal, so two keys of the source would \
                 become one row; give the column a deterministic one (COLLATE \"C\")"
            ));
        }
    }
    Ok(())
}
