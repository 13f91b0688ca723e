//! Sequences that feed moved columns: found in the catalogue, moved past what was loaded, read back.
//!
//! Rows come with their ids, so nothing of a load or of following moves a sequence, and the first customer to insert a
//! row would be given an id that is taken. A transaction's rollback does not undo `setval`, and it never moves a
//! sequence back here: each move starts from where the sequence stands.

use std::collections::BTreeMap;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Error, GenericClient, Row};

use super::names::{ident, qualified};
use super::standalone::{self, Standalone};
use super::trouble;
use crate::domain::plan::Table;
use crate::ports::{Beyond, GivenFor, Reach, Sequence, SequenceScan, counterpart};

/// Values that are left free between the furthest value held and the next one given, where the range has room for them:
/// rows that are parked now may come in later with their ids.
const MARGIN: i128 = 1_000;

/// Sequences by column of the tables `$1` (quoted), which the plan calls `$2`: identity and `OWNED BY`; named by a
/// default or by the default of the column's domain; named as text within a default, which leaves no dependency.
const FEEDS: &str = r"
WITH moved AS (
    SELECT c.oid, n.name, n.sql FROM unnest($1::text[], $2::text[]) n(sql, name) JOIN pg_class c ON c.oid = to_regclass(n.sql)),
cols AS (
    SELECT m.oid AS rel, m.name, m.sql, a.attnum, a.attname, a.attidentity, d.oid AS def, t.oid AS typ,
           CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END AS base,
           coalesce(pg_get_expr(d.adbin, d.adrelid), pg_get_expr(t.typdefaultbin, 0)) AS expr
    FROM moved m JOIN pg_attribute a ON a.attrelid = m.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum),
feeds AS (
    SELECT p.objid AS seq, c.* FROM cols c JOIN pg_depend p ON p.classid = 'pg_class'::regclass
        AND p.refclassid = 'pg_class'::regclass AND p.refobjid = c.rel AND p.refobjsubid = c.attnum AND p.deptype IN ('a', 'i')
    UNION
    SELECT p.refobjid, c.* FROM cols c JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = c.def
        AND p.refclassid = 'pg_class'::regclass
    UNION
    SELECT p.refobjid, c.* FROM cols c JOIN pg_depend p ON p.classid = 'pg_type'::regclass AND p.objid = c.typ
        AND p.refclassid = 'pg_class'::regclass WHERE c.def IS NULL
    UNION
    SELECT to_regclass((regexp_match(c.expr, 'nextval\(\(?''([^'']+)''::text'))[1])::oid, c.* FROM cols c
    WHERE c.expr LIKE '%nextval(%::text%')
SELECT quote_ident(n.nspname) || '.' || quote_ident(s.relname), f.name, f.sql, f.attname::text, format_type(f.base, NULL),
       f.attidentity <> '', f.expr, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle, s.relpersistence = 'u',
       has_sequence_privilege(s.oid, 'SELECT') AND has_sequence_privilege(s.oid, 'UPDATE'),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = f.rel AND i.indkey[0] = f.attnum AND i.indisvalid
               AND i.indpred IS NULL),
       CASE WHEN has_sequence_privilege(s.oid, 'USAGE, SELECT') THEN pg_sequence_last_value(s.oid) END
FROM feeds f JOIN pg_class s ON s.oid = f.seq AND s.relkind = 'S'
JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_namespace n ON n.oid = s.relnamespace
ORDER BY 1, 2, 4";

/// Whose transaction sequences are looked at and moved in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// One of its own for each column.
    Own,
    /// The caller's, which must go on whatever the server refuses for one sequence. Its rows are all there are: nothing comes
    /// in later, so no values are left free, and one that a crash would reset is moved all the same.
    Callers,
}

impl Within {
    async fn begin(self, client: &ClientWrapper) -> Result<(), Error> {
        self.say(client, "SAVEPOINT cutover_sequence").await
    }

    async fn undo(self, client: &ClientWrapper) -> Result<(), Error> {
        self.say(client, "ROLLBACK TO SAVEPOINT cutover_sequence").await
    }

    async fn end(self, client: &ClientWrapper) -> Result<(), Error> {
        self.say(client, "RELEASE SAVEPOINT cutover_sequence").await
    }

    async fn say(self, client: &ClientWrapper, sql: &str) -> Result<(), Error> {
        match self {
            Self::Own => Ok(()),
            Self::Callers => client.batch_execute(sql).await,
        }
    }
}

/// A column that a sequence feeds.
struct Fed {
    /// The table, quoted.
    table: String,
    column: String,
    /// The greatest and the least value its type holds.
    range: Option<(i64, i64)>,
    indexed: bool,
}

/// A sequence as the catalogue has it.
struct SequenceInfo {
    sequence: Sequence,
    increment: i64,
    min: i64,
    max: i64,
    cycles: bool,
    unlogged: bool,
    /// How many more values may be given elsewhere until the next look.
    ahead: i64,
    fed: Vec<Fed>,
}

impl From<Standalone> for SequenceInfo {
    fn from(found: Standalone) -> Self {
        let Standalone { sequence, increment, min, max, cycles } = found;
        Self { sequence, increment, min, max, cycles, unlogged: false, ahead: 0, fed: Vec::new() }
    }
}

impl SequenceInfo {
    /// Values that are left free. Of one that no column takes its values from nothing comes in later, and what it counts
    /// may have to be without gaps.
    const fn margin(&self, within: Within) -> i128 {
        match within {
            Within::Own if !self.fed.is_empty() => MARGIN,
            Within::Own | Within::Callers => 0,
        }
    }

    /// The least and the greatest value that it may give and that every column takes.
    fn range(&self) -> (i64, i64) {
        let ranges = self.fed.iter().filter_map(|fed| fed.range);
        ranges.fold((self.min, self.max), |(least, greatest), (low, high)| (least.max(low), greatest.min(high)))
    }

    /// The last value that it may give and that every column takes.
    fn end(&self) -> i64 {
        let (least, greatest) = self.range();
        if self.increment > 0 { greatest } else { least }
    }

    /// Once all its columns are known.
    fn complete(&mut self, within: Within) {
        self.sequence.reach = Some(Reach { step: self.increment, end: self.end(), cycles: self.cycles });
        if !self.unlogged {
            return;
        }
        let what = "it is unlogged and starts over after a crash".to_owned();
        match within {
            Within::Own => {
                let advice = format!("ALTER SEQUENCE {} SET LOGGED, or make its table logged", self.sequence.name);
                self.sequence.problem.get_or_insert((what, advice));
            }
            Within::Callers => self.sequence.notes.push(what),
        }
    }
}

/// A value that was given out elsewhere, and how many more may be given until the next look.
pub(super) enum Elsewhere {
    /// For a column: `public.orders.id`.
    Column(String, i64, i64),
    /// By a sequence that no column takes its values from, as the other side calls it.
    Standalone(String, i64, i64),
}

impl Elsewhere {
    /// What was given out, for what this store calls `column`.
    pub(super) fn of(beyond: &Beyond, column: impl FnOnce(&str, &str) -> Option<String>) -> Option<Self> {
        let Beyond { of, value, ahead } = beyond;
        Some(match of {
            GivenFor::Column { table, column: name } => Self::Column(column(table, name)?, *value, *ahead),
            GivenFor::Standalone(name) => Self::Standalone(name.clone(), *value, *ahead),
        })
    }
}

/// The tables of a plan and their child tables, as the target calls them.
pub(super) fn targets(tables: &[Table]) -> Vec<&str> {
    let each = tables.iter().flat_map(|t| std::iter::once(&t.target).chain(t.children.iter().map(|c| &c.target)));
    each.map(String::as_str).collect()
}

/// All sequences of the tables of these names. Nothing is changed and no row is read.
pub(super) async fn list(client: &ClientWrapper, names: &[&str]) -> Result<Vec<Sequence>, Error> {
    Ok(find(client, names, Within::Own).await?.into_iter().map(|found| found.sequence).collect())
}

/// The same, each with what its columns hold. Nothing is changed. What the server does not show of one is its problem.
pub(super) async fn held(
    client: &mut ClientWrapper,
    names: &[&str],
    look: SequenceScan,
) -> Result<Vec<Sequence>, Error> {
    let mut all = find(client, names, Within::Own).await?;
    for found in all.iter_mut().filter(|found| found.sequence.problem.is_none()) {
        match scan(client, found, look, Within::Own).await {
            Err(e) if e.as_db_error().is_some() => found.sequence.problem = Some(said(&e, &found.sequence.name)),
            ended => ended?,
        }
    }
    Ok(all.into_iter().map(|found| found.sequence).collect())
}

async fn find(client: &ClientWrapper, names: &[&str], within: Within) -> Result<Vec<SequenceInfo>, Error> {
    let quoted: Vec<String> = names.iter().map(|n| qualified(n)).collect();
    let statement = client.prepare_cached(FEEDS).await?;
    let mut all: BTreeMap<String, SequenceInfo> = BTreeMap::new();
    for row in client.query(&statement, &[&quoted, &names]).await? {
        take(&row, &mut all)?;
    }
    all.values_mut().for_each(|found| found.complete(within));
    let standalone = standalone::find(client, &quoted).await?.into_iter().map(SequenceInfo::from);
    Ok(all.into_values().chain(standalone).collect())
}

/// What the server says of a sequence, and what to do.
fn said(e: &Error, name: &str) -> (String, String) {
    let said = trouble::error(e, "advance", name);
    let advice = if said.advice.is_empty() { "see what the server says of it, then try again" } else { &said.advice };
    (said.came_back.clone(), advice.to_owned())
}

/// Takes one column of one sequence in.
fn take(row: &Row, all: &mut BTreeMap<String, SequenceInfo>) -> Result<(), Error> {
    let (name, table, sql): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (column, ty): (String, String) = (row.try_get(3)?, row.try_get(4)?);
    let (identity, default): (bool, Option<String>) = (row.try_get(5)?, row.try_get(6)?);
    let range = match ty.as_str() {
        "smallint" => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
        "integer" => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        "bigint" | "numeric" => Some((i64::MIN, i64::MAX)),
        // What has no default and cannot hold a number is only owned, not fed.
        _ if default.is_none() => return Ok(()),
        _ => None,
    };
    let place = format!("{table}.{column}");
    let found = match all.get_mut(&name) {
        Some(found) => found,
        None => all.entry(name.clone()).or_insert(SequenceInfo {
            sequence: Sequence { name: name.clone(), ..Sequence::default() },
            increment: row.try_get(7)?,
            min: row.try_get(8)?,
            max: row.try_get(9)?,
            cycles: row.try_get(11)?,
            unlogged: row.try_get(12)?,
            ahead: 0,
            fed: Vec::new(),
        }),
    };
    let cache: i64 = row.try_get(10)?;
    let may: bool = row.try_get(13)?;
    let sequence = &mut found.sequence;
    sequence.given = row.try_get(15)?;
    let first = sequence.columns.is_empty();
    sequence.columns.push(place.clone());
    if first && cache > 1 {
        sequence.notes.push(format!(
            "each session keeps {cache} values of its own: restart what has used it in the target before the switch"
        ));
    }
    if let Some(default) = default.filter(|d| !identity && !plain(d) || range.is_none()) {
        sequence.problem.get_or_insert((
            format!("{place} takes {default} from it, so what it must stand past cannot be told from the rows"),
            format!("advance it yourself and name \"{name}\" in `sequences_by_hand` under [load]"),
        ));
    }
    if !may {
        sequence.problem.get_or_insert((
            "the role may not read or move it".to_owned(),
            format!("GRANT SELECT, UPDATE ON SEQUENCE {name} to the role of this store"),
        ));
    }
    found.fed.push(Fed { table: sql, column, range, indexed: row.try_get(14)? });
    Ok(())
}

/// Whether a default is the sequence's next value and nothing else: `nextval('s'::regclass)`, cast or not.
fn plain(default: &str) -> bool {
    let mut inner = default.trim();
    while let Some((before, ty)) = inner.rsplit_once("::") {
        let cast = matches!(ty, "integer" | "bigint" | "smallint" | "numeric");
        match cast.then(|| before.strip_prefix('(').and_then(|b| b.strip_suffix(')')).unwrap_or(before)) {
            Some(before) => inner = before,
            None => break,
        }
    }
    let Some(argument) = inner.strip_prefix("nextval(").and_then(|i| i.strip_suffix(')')) else { return false };
    // The name is one literal, in which a quote is doubled; nothing stands beside it.
    argument.starts_with(['\'', '(']) && argument.replace("''", "").matches('\'').count() == 2
}

/// Moves every sequence but those in `by_hand` past what its columns hold, and past what is said to be given out for one of
/// them elsewhere, and reads it back. One that no column takes its values from is left alone, and not named, where nothing
/// is said of it; in the caller's transaction it is named.
pub(super) async fn advance(
    client: &mut ClientWrapper,
    names: &[&str],
    (look, within): (SequenceScan, Within),
    by_hand: &[String],
    beyond: &[Elsewhere],
) -> Result<Vec<Sequence>, Error> {
    let mut done = Vec::new();
    let all = find(client, names, within).await?;
    let called: Vec<String> = all.iter().map(|found| found.sequence.name.clone()).collect();
    let stands_for = |name: &str| counterpart(name, called.iter().map(String::as_str));
    for mut found in all {
        let sequence = &found.sequence;
        let of_it: Vec<(i64, i64)> = beyond
            .iter()
            .filter_map(|given| match given {
                Elsewhere::Column(place, value, ahead) => sequence.columns.contains(place).then_some((*value, *ahead)),
                Elsewhere::Standalone(name, value, ahead) => {
                    (stands_for(name) == Some(sequence.name.as_str())).then_some((*value, *ahead))
                }
            })
            .collect();
        if found.fed.is_empty() && of_it.is_empty() && !by_hand.contains(&sequence.name) {
            match within {
                Within::Own => {}
                Within::Callers => done.push(found.sequence),
            }
            continue;
        }
        if by_hand.contains(&found.sequence.name) {
            found.sequence.problem = None;
            found.sequence.notes.push("advanced by hand, as the plan says; not looked at".to_owned());
        } else if found.sequence.problem.is_none() {
            let of_it = of_it.into_iter();
            let told = if found.increment > 0 { of_it.max() } else { of_it.min() };
            found.sequence.beyond = told.map(|(value, _)| value);
            found.ahead = told.map_or(0, |(_, ahead)| ahead);
            within.begin(client).await?;
            match one(client, &mut found, look, within).await {
                // The others are moved all the same.
                Err(e) if e.as_db_error().is_some() => {
                    within.undo(client).await?;
                    found.sequence.problem = Some(said(&e, &found.sequence.name));
                }
                ended => ended?,
            }
            within.end(client).await?;
        }
        // Read before it was moved.
        found.sequence.given = None;
        done.push(found.sequence);
    }
    Ok(done)
}

/// Reads what the columns hold. Only held values that the sequence could give count; a note says where there are others.
async fn scan(
    client: &mut ClientWrapper,
    found: &mut SequenceInfo,
    look: SequenceScan,
    within: Within,
) -> Result<(), Error> {
    let (ascending, end) = (found.increment > 0, found.end());
    let (least, greatest) = found.range();
    let mut furthest: Option<i64> = None;
    for fed in &found.fed {
        if look == SequenceScan::Indexed && !fed.indexed {
            let note = format!("{} was not read again: no index begins with it", fed.column);
            found.sequence.notes.push(note);
            continue;
        }
        let (column, table) = (ident(&fed.column), &fed.table);
        // As numeric: the nearest whole number of a bigint would be one that a floating-point number holds.
        let last =
            if ascending { format!("ceil(max({column})::numeric)") } else { format!("floor(min({column})::numeric)") };
        let sql = format!(
            "SELECT ({last})::bigint FROM {table} WHERE {column} BETWEEN '{least}'::bigint AND '{greatest}'::bigint"
        );
        // A table that no index helps with is not read whole a second time.
        let wider = fed.range.is_some_and(|(low, high)| if ascending { high > end } else { low < end });
        let sign = if ascending { '>' } else { '<' };
        let past = (wider && (fed.indexed || within == Within::Callers))
            .then(|| format!("SELECT EXISTS (SELECT FROM {table} WHERE {column} {sign} '{end}'::bigint)"));
        let (held, past) = match within {
            Within::Own => {
                let tx = client.transaction().await?;
                if look == SequenceScan::Whole {
                    tx.batch_execute("SET LOCAL statement_timeout = 0").await?;
                }
                let asked = ask(&*tx, &sql, past.as_deref()).await?;
                tx.commit().await?;
                asked
            }
            Within::Callers => ask(&**client, &sql, past.as_deref()).await?,
        };
        found.sequence.looked = true;
        furthest = further(furthest, held, ascending);
        if past {
            let (name, limit) = (&found.sequence.name, if ascending { "MAXVALUE" } else { "MINVALUE" });
            found.sequence.notes.push(format!(
                "{} holds values past {end}, the last that it gives; if it is to go on past them, widen it: ALTER SEQUENCE \
                 {name} AS bigint {limit} …",
                fed.column
            ));
        }
    }
    found.sequence.held = furthest;
    Ok(())
}

/// What a column holds, and whether it holds anything past that.
async fn ask<C: GenericClient + Sync>(
    client: &C,
    held: &str,
    past: Option<&str>,
) -> Result<(Option<i64>, bool), Error> {
    let held = client.query_one(held, &[]).await?.try_get(0)?;
    let past = match past {
        Some(sql) => client.query_one(sql, &[]).await?.try_get(0)?,
        None => false,
    };
    Ok((held, past))
}

/// The one of two values that lies further.
fn further(one: Option<i64>, other: Option<i64>, ascending: bool) -> Option<i64> {
    let both = one.into_iter().chain(other);
    if ascending { both.max() } else { both.min() }
}

async fn one(
    client: &mut ClientWrapper,
    found: &mut SequenceInfo,
    look: SequenceScan,
    within: Within,
) -> Result<(), Error> {
    scan(client, found, look, within).await?;
    let (name, end) = (found.sequence.name.clone(), found.end());
    let furthest = further(found.sequence.held, found.sequence.beyond, found.increment > 0);
    if let Some(held) = furthest {
        let stands = stands(client, &name, found.increment).await?;
        // What may be given later is only wished for.
        let goal = |held| goal(stands, found.increment, held, end, found.margin(within));
        let wished = goal(held.saturating_add(found.ahead));
        match if wished == Goal::Over { goal(held) } else { wished } {
            Goal::Stands => {}
            Goal::Move(to) => {
                client.execute(&format!("SELECT setval('{}', $1)", name.replace('\'', "''")), &[&to]).await?;
            }
            Goal::Over => found.sequence.problem = Some(found.sequence.used_up(held)),
        }
        if found.cycles {
            found.sequence.notes.push(format!("it starts over after {end} and then meets rows that are there"));
        }
    }
    // What counts is what stands there now, not what was sent.
    let stands = stands(client, &name, found.increment).await?;
    let next = stands + i128::from(found.increment);
    found.sequence.next = i64::try_from(next).ok();
    let sign = i128::from(found.increment.signum());
    if let Some(held) = furthest.filter(|held| next * sign <= i128::from(*held) * sign) {
        let what = format!("it was moved past {held} and gives {next} next all the same");
        let advice = "see who moves it back, then try again".to_owned();
        found.sequence.problem.get_or_insert((what, advice));
    }
    Ok(())
}

/// The value given last: the next one lies one step further.
async fn stands(client: &ClientWrapper, name: &str, increment: i64) -> Result<i128, Error> {
    let row = client.query_one(&format!("SELECT last_value, is_called FROM {name}"), &[]).await?;
    let (last, called): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    Ok(i128::from(last) - if called { 0 } else { i128::from(increment) })
}

#[derive(Debug, PartialEq, Eq)]
enum Goal {
    /// Far enough already.
    Stands,
    /// Where to.
    Move(i64),
    /// No value would be left.
    Over,
}

/// Whole steps from where a sequence stands, so that one that counts in fives goes on counting in the same fives.
fn goal(stands: i128, increment: i64, held: i64, end: i64, margin: i128) -> Goal {
    let (sign, step) = (i128::from(increment.signum()), i128::from(increment).abs());
    let (stands, held, end) = (stands * sign, i128::from(held) * sign, i128::from(end) * sign);
    let steps = |to: i128| if to > stands { (to - stands + step - 1) / step } else { 0 };
    let (least, most) = (steps(held), (end - stands) / step);
    if least >= most {
        return Goal::Over;
    }
    // Of a range that is nearly used up the margin takes at most half of what is left.
    let wanted = steps(held + margin * step).min(least + (most - least) / 2);
    if wanted == 0 {
        return Goal::Stands;
    }
    i64::try_from((stands + wanted * step) * sign).map_or(Goal::Over, Goal::Move)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(stands: i128, increment: i64, held: i64, end: i64) -> Goal {
        super::goal(stands, increment, held, end, MARGIN)
    }

    #[test]
    fn a_sequence_is_moved_by_whole_steps_and_never_back() {
        assert_eq!(goal(0, 1, 5, i64::MAX), Goal::Move(1005));
        assert_eq!(goal(1005, 1, 5, i64::MAX), Goal::Stands);
        assert_eq!(goal(9_000, 1, 5, i64::MAX), Goal::Stands);
        // 3, 8, 13, … goes on as 3, 8, 13, …
        assert_eq!(goal(3, 5, 21, i64::MAX), Goal::Move(3 + 5 * 1004));
        assert_eq!(goal(0, -1, -7, i64::MIN), Goal::Move(-1007));
        assert_eq!(goal(-1007, -1, -7, i64::MIN), Goal::Stands);
        assert_eq!(goal(0, 1, 32_700, 32_767), Goal::Move(32_700 + 33));
        assert_eq!(goal(0, 1, 32_767, 32_767), Goal::Over);
        assert_eq!(goal(0, 1, i64::MAX - 1, i64::MAX), Goal::Move(i64::MAX - 1));
        assert_eq!(super::goal(0, 1, 41, i64::MAX, 0), Goal::Move(41), "without a gap");
        assert_eq!(super::goal(41, 1, 41, i64::MAX, 0), Goal::Stands);
    }

    #[test]
    fn only_a_default_that_is_the_next_value_is_understood() {
        for plainly in [
            "nextval('orders_id_seq'::regclass)",
            "(nextval('s'::regclass))::integer",
            "nextval(('s'::text)::regclass)",
        ] {
            assert!(plain(plainly), "{plainly}");
        }
        for not in ["('ORD-'::text || nextval('s'::regclass))", "(nextval('s'::regclass) * 10)", "next_id('s')", "5"] {
            assert!(!plain(not), "{not}");
        }
    }
}
