//! Sequences that no column takes its values from: an application asks them itself. They belong to no table, so those that
//! stand beside a plan's tables are looked at; a value that was given out on one side must not be given again on the other.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Error, Row};

use crate::ports::Sequence;

/// Sequences in the schemas of the tables `$1` (quoted) that are no identity, belong to no column of numbers and stand in
/// no default, by a dependency or as text.
const STANDALONE: &str = r"
SELECT quote_ident(n.nspname) || '.' || quote_ident(s.relname), q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle,
       s.relpersistence = 'u', has_sequence_privilege(s.oid, 'SELECT') AND has_sequence_privilege(s.oid, 'UPDATE'),
       CASE WHEN has_sequence_privilege(s.oid, 'USAGE, SELECT') THEN pg_sequence_last_value(s.oid) END, q.seqstart
FROM pg_class s JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_namespace n ON n.oid = s.relnamespace
WHERE s.relkind = 'S' AND s.relpersistence <> 't'
  AND s.relnamespace IN (SELECT c.relnamespace FROM unnest($1::text[]) t(sql) JOIN pg_class c ON c.oid = to_regclass(t.sql))
  AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
    AND d.classid IN ('pg_attrdef'::regclass, 'pg_type'::regclass))
  AND NOT EXISTS (
    SELECT FROM pg_depend d LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid AND (d.deptype IN ('i', 'e')
      OR d.deptype = 'a' AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)))
  AND NOT EXISTS (
    SELECT FROM pg_attrdef f WHERE pg_get_expr(f.adbin, f.adrelid) LIKE '%nextval(%' || s.relname || '%::text%')
ORDER BY 1";

/// One of them, as the catalogue has it.
pub(super) struct Standalone {
    pub sequence: Sequence,
    pub increment: i64,
    pub min: i64,
    pub max: i64,
    pub cycles: bool,
}

/// All of them beside the tables of these quoted names.
pub(super) async fn find(client: &ClientWrapper, quoted: &[String]) -> Result<Vec<Standalone>, Error> {
    let statement = client.prepare_cached(STANDALONE).await?;
    let mut all = Vec::new();
    for row in client.query(&statement, &[&quoted]).await? {
        let mut found = taken(&row)?;
        if found.sequence.given.is_none() && found.sequence.problem.is_none() {
            found.sequence.given = restarted(client, &found, row.try_get(9)?).await?;
        }
        all.push(found);
    }
    Ok(all)
}

/// What a sequence has given that was told where to go on (`RESTART WITH`, `setval(…, false)`) and was not asked since:
/// everything before that, though the catalogue knows no last value. `None` for one that stands at its beginning.
async fn restarted(client: &ClientWrapper, found: &Standalone, start: i64) -> Result<Option<i64>, Error> {
    let row = client.query_one(&format!("SELECT last_value, is_called FROM {}", found.sequence.name), &[]).await?;
    let (next, called): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    let before = next.saturating_sub(found.increment);
    Ok((!called && next != start && (found.min..=found.max).contains(&before)).then_some(before))
}

fn taken(row: &Row) -> Result<Standalone, Error> {
    let (name, cache): (String, i64) = (row.try_get(0)?, row.try_get(4)?);
    let (unlogged, may): (bool, bool) = (row.try_get(6)?, row.try_get(7)?);
    let mut sequence = Sequence { name: name.clone(), given: row.try_get(8)?, ..Sequence::default() };
    if cache > 1 {
        sequence.notes.push(format!("each session keeps {cache} values of its own, so some are never given"));
    }
    if unlogged {
        sequence.problem = Some((
            "it is unlogged and starts over after a crash".to_owned(),
            format!("ALTER SEQUENCE {name} SET LOGGED"),
        ));
    }
    if !may {
        sequence.problem = Some((
            "the role may not read or move it".to_owned(),
            format!("GRANT SELECT, UPDATE ON SEQUENCE {name} to the role of this store"),
        ));
    }
    Ok(Standalone {
        sequence,
        increment: row.try_get(1)?,
        min: row.try_get(2)?,
        max: row.try_get(3)?,
        cycles: row.try_get(5)?,
    })
}
