//! Extensions: which are there, which could be, and which ones tables rest on by the server's own dependencies.

use tokio_postgres::{Error, Row};

use super::connect::{Ask as _, Object};
use crate::ports::{Extension, ExtensionUse};

const INSTALLED: &str = "
SELECT e.extname::text, e.extversion, n.nspname::text
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY 1";

const AVAILABLE: &str = "SELECT name::text FROM pg_available_extensions ORDER BY 1";

/// From each table that people made, and from its defaults, indexes and constraints, along what each rests on, to what
/// belongs to an extension. A type of arrays is its element's, a domain its base type's, a composite one its fields'. Other tables are not gone through,
/// and what is in the text of a function the server does not know.
const USES: &str = "
WITH RECURSIVE t AS (
    SELECT c.oid, n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'cutover') AND n.nspname !~ '^pg_'),
rests(name, classid, objid, by) AS (
    SELECT name, 'pg_class'::regclass::oid, oid, 'a column' FROM t
    UNION SELECT t.name, 'pg_attrdef'::regclass::oid, d.oid, 'a default' FROM t JOIN pg_attrdef d ON d.adrelid = t.oid
    UNION SELECT t.name, 'pg_class'::regclass::oid, i.indexrelid, 'an index' FROM t JOIN pg_index i ON i.indrelid = t.oid
    UNION SELECT t.name, 'pg_constraint'::regclass::oid, c.oid, 'a constraint' FROM t JOIN pg_constraint c ON c.conrelid = t.oid
    UNION SELECT r.name, x.classid, x.objid, r.by FROM rests r CROSS JOIN LATERAL (
        SELECT d.refclassid, d.refobjid FROM pg_depend d
        WHERE d.classid = r.classid AND d.objid = r.objid AND d.deptype IN ('n', 'a', 'i')
          AND d.refclassid NOT IN ('pg_class'::regclass, 'pg_namespace'::regclass, 'pg_extension'::regclass)
        UNION SELECT 'pg_type'::regclass::oid, y.typelem FROM pg_type y
        WHERE r.classid = 'pg_type'::regclass AND y.oid = r.objid AND y.typelem <> 0
        UNION SELECT 'pg_type'::regclass::oid, y.typbasetype FROM pg_type y
        WHERE r.classid = 'pg_type'::regclass AND y.oid = r.objid AND y.typbasetype <> 0
        UNION SELECT 'pg_class'::regclass::oid, y.typrelid FROM pg_type y JOIN pg_class k ON k.oid = y.typrelid AND k.relkind = 'c'
        WHERE r.classid = 'pg_type'::regclass AND y.oid = r.objid) x(classid, objid))
SELECT e.extname::text, r.name, min(r.by COLLATE \"C\") FROM rests r
JOIN pg_depend d ON d.classid = r.classid AND d.objid = r.objid AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
JOIN pg_extension e ON e.oid = d.refobjid
WHERE NOT EXISTS (SELECT FROM pg_depend o JOIN t ON t.oid = o.objid WHERE t.name = r.name AND o.classid = 'pg_class'::regclass
                  AND o.deptype = 'e')
GROUP BY 1, 2 ORDER BY 1, 2";

/// Those that are installed.
pub(super) async fn installed(client: &Object) -> Result<Vec<Extension>, Error> {
    let one = |row: &Row| Ok(Extension { name: row.try_get(0)?, version: row.try_get(1)?, schema: row.try_get(2)? });
    client.ask(INSTALLED, &[]).await?.iter().map(one).collect()
}

/// Those that the server could install.
pub(super) async fn available(client: &Object) -> Result<Vec<String>, Error> {
    client.ask(AVAILABLE, &[]).await?.iter().map(|row| row.try_get(0)).collect()
}

/// What tables rest on.
pub(super) async fn uses(client: &Object) -> Result<Vec<ExtensionUse>, Error> {
    let one = |row: &Row| Ok(ExtensionUse { extension: row.try_get(0)?, table: row.try_get(1)?, by: row.try_get(2)? });
    client.ask(USES, &[]).await?.iter().map(one).collect()
}
