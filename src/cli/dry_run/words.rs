//! What a dry run found, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::domain::at::{brief, t_offset};
use crate::domain::estimate::{dollars, target_seconds};
use crate::domain::mapping::{ColumnProfile, Found, TableProfile, UnreadAttribute};
use crate::domain::plan::{Plan, StoreKind, Table};
use crate::workers::{CheckRow, DryRun};

/// Unread attributes that are named; the JSON has all of them.
const NAMED: usize = 40;

/// Bytes for people: `1.6 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} bytes") } else { format!("{value:.1} {unit_name}") }
}

/// A share; all is said only of all.
fn percent(n: u64, of: u64) -> String {
    match (n, of) {
        (_, 0) => "?".to_owned(),
        (n, of) if n >= of => "100 %".to_owned(),
        (n, of) => format!("{:.1} %", (n as f64 * 100.0 / of as f64).clamp(0.1, 99.9)),
    }
}

fn example(found: &Found) -> String {
    let times = if found.times == 1 { "once".to_owned() } else { format!("{} times", found.times) };
    let keys = found.keys.join(", ");
    match found.keys.len() as u64 {
        0 => times,
        all if all == found.times => format!("{times} ({keys})"),
        _ => format!("{times}, for example {keys}"),
    }
}

fn shares(types: &BTreeMap<&'static str, u64>, of: u64, absent: Option<u64>) -> String {
    let each = types.iter().map(|(name, n)| format!("{name} {}", percent(*n, of)));
    let absent = absent.filter(|n| *n > 0).map(|n| format!("absent {}", percent(n, of)));
    each.chain(absent).collect::<Vec<_>>().join(", ")
}

/// Rows the source says there are, where not all of them were read.
fn rows_of(found: &DryRun) -> Option<u64> {
    if found.whole { Some(found.profile.records()) } else { found.source.count.rows }
}

/// What all rows would take up in the target; `None` where nothing went in or nobody knows how many there are.
fn estimated_bytes(found: &DryRun) -> Option<u64> {
    let (sizes, records) = (found.profile.sizes(), found.profile.records());
    if records == 0 {
        return None;
    }
    let all = rows_of(found)? as f64 / records as f64;
    Some((sizes.total.stored as f64 * all) as u64)
}

/// Everything that was found of a table, for people.
pub fn table(found: &DryRun, of: &Table) -> String {
    let (profile, mut out) = (&found.profile, String::new());
    let mut line = |what: &str, text: &str| {
        let _ = writeln!(out, "  {what:<12} {text}");
    };
    let records = profile.records();
    let looked = match (found.whole, found.source.count.rows) {
        (true, _) => format!("all {records} records read"),
        (false, Some(rows)) => format!("a sample: {records} of about {rows} records read"),
        (false, None) => format!("a sample: {records} records read"),
    };
    line("table", &format!("{}: {} -> {}; {looked}", of.id, of.source, of.target));
    line("rows", &format!("{} would go in, {} would be parked", profile.sizes().rows, profile.would_park()));
    for one in profile.parked() {
        let detail = if one.detail.is_empty() { String::new() } else { format!(" ({})", one.detail) };
        line("would park", &format!("{}: {}{detail}: {}", one.column, one.reason, example(&one.found)));
    }
    if profile.duplicates().found().times > 0 {
        line("same key", &same_key(profile));
    }
    for column in profile.columns() {
        line("column", &column_words(column));
    }
    let unread: Vec<UnreadAttribute> = profile.unread().attributes().collect();
    for attribute in unread.iter().take(NAMED) {
        let absent = attribute.records.map(|n| records.saturating_sub(n));
        let of = if attribute.records.is_some() { records } else { attribute.types.values().sum() };
        line("not read", &format!("{}: {}", attribute.path, shares(&attribute.types, of, absent)));
    }
    if unread.len() > NAMED {
        line("not read", &format!("and {} attributes more; --json names all", unread.len() - NAMED));
    }
    if profile.unread().more() {
        line("not read", "? there are more attributes than are looked at (4096)");
    }
    if let Some(never) = never_expire(found) {
        line("never expire", &never);
    }
    line("size", &size_words(found));
    line("read", &read_words(found));
    line("not judged", &not_judged(found, of));
    out.push('\n');
    out
}

/// Records that DynamoDB keeps for ever although their TTL is over; `None` where there are none.
fn never_expire(found: &DryRun) -> Option<String> {
    let never = found.never_expire.as_ref().filter(|never| never.found.times > 0)?;
    Some(format!(
        "of {} records, `{}` is over for more than five years {}: DynamoDB takes that for a mistake and never removes them, so \
         they move like all others",
        never.of,
        never.attribute,
        example(&never.found)
    ))
}

fn same_key(profile: &TableProfile) -> String {
    let (found, one_in) = (profile.duplicates().found(), profile.duplicates().one_in());
    let of = if one_in == 1 { String::new() } else { format!(" (one in {one_in} keys was compared)") };
    format!("records whose key in the target another record has: {}{of}", example(found))
}

fn column_words(column: &ColumnProfile) -> String {
    let from = if column.path.is_empty() { "the element".to_owned() } else { format!("`{}`", column.path) };
    if column.of == 0 {
        return format!("{} from {from}: ? there was none to look at", column.column);
    }
    let mut said = format!("{} from {from}: {} of {} fit", column.column, column.fit, column.of);
    let types = shares(&column.types, column.of, Some(column.of - column.present));
    if !types.is_empty() {
        let _ = write!(said, "; {types}");
    }
    for (how, found) in &column.altered {
        let _ = write!(said, "; {} {}", how.words(), example(found));
    }
    for (reason, found) in &column.refused {
        let _ = write!(said, "; would park {}: {}", reason.name(), example(found));
    }
    said
}

fn size_words(found: &DryRun) -> String {
    let sizes = found.profile.sizes();
    if sizes.rows == 0 {
        return "? no row would go in".to_owned();
    }
    let each = sizes.total.stored / sizes.rows;
    let largest = format!("{} at most ({})", size(sizes.largest), sizes.largest_key);
    let all = match (estimated_bytes(found), rows_of(found)) {
        (Some(bytes), Some(rows)) if found.whole => format!("{} for {rows} records", size(bytes)),
        (Some(bytes), Some(rows)) => format!("about {} for about {rows} records", size(bytes)),
        _ => "? in all: the source does not say how many records it has".to_owned(),
    };
    format!("{} a row in the target, {largest}; {all}, without indexes", size(each))
}

fn read_words(found: &DryRun) -> String {
    let units = found.units.map(|units| format!(", {units:.0} read units, ${:.2}", dollars(units)));
    format!("{} in {}{}", size(found.bytes), brief(found.took_ms), units.unwrap_or_default())
}

/// What only the target knows.
fn not_judged(found: &DryRun, of: &Table) -> String {
    match found.to {
        StoreKind::Dynamodb => {
            format!("keys of secondary indexes of {}, and how much one partition key may hold beside them", of.target)
        }
        StoreKind::Postgresql | StoreKind::Aws => {
            let natives = found.profile.unjudged();
            let natives = if natives.is_empty() {
                String::new()
            } else {
                format!("; values of {}, whose types only the database knows", natives.join(", "))
            };
            format!("unique, foreign key and check constraints and triggers of {}{natives}", of.target)
        }
    }
}

/// A row of the check about one table.
pub fn row(what: String, found: &DryRun) -> CheckRow {
    let (profile, records) = (&found.profile, found.profile.records());
    let looked = if found.whole { format!("all {records} records") } else { format!("{records} records") };
    if records == 0 {
        return CheckRow::ok(what, "?: there was no record to look at");
    }
    if !profile.has_findings() {
        let never = never_expire(found).map_or_else(String::new, |words| format!("; {words}"));
        return CheckRow::ok(what, format!("{looked} looked at, every one fits{never}"));
    }
    let mut wrong: Vec<String> = profile
        .parked()
        .iter()
        .take(3)
        .map(|one| format!("{} {} {}", one.column, one.reason.name(), example(&one.found)))
        .collect();
    if profile.duplicates().found().times > 0 {
        wrong.push(same_key(profile));
    }
    let why = format!("of {looked} looked at {} would be parked: {}", profile.would_park(), wrong.join("; "));
    CheckRow::bad(what, why, "mend the mapping or the data; what is left is parked and listed by `cutover parked`")
}

/// Everything that was found of a table, as JSON.
pub fn as_json(found: &DryRun, of: &Table) -> Value {
    let profile = &found.profile;
    json!({
        "table": found.table,
        "source": of.source,
        "target": of.target,
        "whole": found.whole,
        "records": profile.records(),
        "source_rows": found.source.count.rows,
        "would_go_in": profile.sizes().rows,
        "would_be_parked": profile.would_park(),
        "parked": profile.parked(),
        "same_key": {
            "found": profile.duplicates().found(),
            "one_key_compared_in": profile.duplicates().one_in(),
        },
        "columns": profile.columns().collect::<Vec<_>>(),
        "not_read": profile.unread().attributes().collect::<Vec<_>>(),
        "not_read_is_cut": profile.unread().more(),
        "never_expire": found.never_expire.as_ref().map(|never| &never.found),
        "sizes": profile.sizes(),
        "estimated_target_bytes": estimated_bytes(found),
        "not_judged": not_judged(found, of),
        "read_units": found.units,
        "source_bytes": found.bytes,
        "took_ms": found.took_ms,
    })
}

/// The plan's steps with their planned times.
pub fn steps(plan: &Plan) -> Vec<Value> {
    let each = plan.steps.iter().map(|step| {
        json!({
            "id": step.id, "title": step.title, "kind": step.kind.name(),
            "at": t_offset(step.at_ms), "takes_ms": step.takes_ms,
        })
    });
    each.collect()
}

struct Totals {
    records: u64,
    parked: u64,
    same_key: u64,
    target_bytes: u64,
    source_bytes: u64,
    took_ms: i64,
    load_ms: i64,
    units: Option<f64>,
}

fn sum(all: &[(DryRun, &Table)]) -> Totals {
    let mut totals = Totals {
        records: 0,
        parked: 0,
        same_key: 0,
        target_bytes: 0,
        source_bytes: 0,
        took_ms: 0,
        load_ms: 0,
        units: None,
    };
    for (found, _) in all {
        let sizes = found.profile.sizes();
        totals.records += found.profile.records();
        totals.parked += found.profile.would_park();
        totals.same_key += found.profile.duplicates().found().times;
        totals.target_bytes += sizes.total.stored;
        totals.source_bytes += found.bytes;
        totals.took_ms += found.took_ms;
        let target_ms = match found.to {
            StoreKind::Postgresql => (target_seconds(sizes.rows as f64, sizes.total.sent as f64) * 1000.0) as i64,
            StoreKind::Dynamodb | StoreKind::Aws => 0,
        };
        // Tables are loaded one after the other; the slower end of each decides.
        totals.load_ms += found.took_ms.max(target_ms);
        totals.units = found.units.map(|units| totals.units.unwrap_or(0.0) + units).or(totals.units);
    }
    totals
}

/// Everything together, as JSON.
pub fn totals(all: &[(DryRun, &Table)]) -> Value {
    let t = sum(all);
    json!({
        "records": t.records,
        "would_be_parked": t.parked,
        "same_key": t.same_key,
        "target_bytes": t.target_bytes,
        "source_bytes": t.source_bytes,
        "took_ms": t.took_ms,
        "load_about_ms": t.load_ms,
        "read_units": t.units,
        "dollars": t.units.map(dollars),
    })
}

/// The end of a dry run, for people.
pub fn closing(all: &[(DryRun, &Table)]) -> String {
    let (t, mut out) = (sum(all), String::new());
    let seconds = (t.took_ms.max(1) as f64) / 1000.0;
    let _ = writeln!(
        out,
        "DRY RUN     {} records of {} tables, {} in the target without indexes",
        t.records,
        all.len(),
        size(t.target_bytes)
    );
    let _ = writeln!(
        out,
        "LOAD        about {}, at the rate of this reading: {:.0} records/s, {}/s",
        brief(t.load_ms),
        t.records as f64 / seconds,
        size((t.source_bytes as f64 / seconds) as u64)
    );
    if let Some(units) = t.units {
        let _ = writeln!(out, "COST        {units:.0} read units, ${:.2} on demand", dollars(units));
    }
    let parked: Vec<String> = all
        .iter()
        .filter(|(found, _)| found.profile.would_park() > 0)
        .map(|(found, _)| format!("{} {}", found.table, found.profile.would_park()))
        .collect();
    let parked = if all.iter().all(|(found, _)| found.profile.records() == 0) {
        "?: there was no record to read".to_owned()
    } else if parked.is_empty() {
        "nothing would be, as far as it can be judged without the target".to_owned()
    } else {
        format!("{} records would be: {}", t.parked, parked.join(", "))
    };
    let _ = writeln!(out, "PARKED      {parked}");
    if t.same_key > 0 {
        let _ = writeln!(out, "SAME KEY    {} records have the key of another one in the target", t.same_key);
    }
    let _ = writeln!(out, "WRITTEN     nothing");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_all_or_none_only_when_it_is() {
        assert_eq!(percent(1, 1_000_000), "0.1 %");
        assert_eq!(percent(999_999, 1_000_000), "99.9 %");
        assert_eq!((percent(3, 3), percent(0, 0)), ("100 %".to_owned(), "?".to_owned()));
        assert_eq!(percent(14, 100), "14.0 %");
    }

    #[test]
    fn sizes_are_said_in_the_unit_that_fits() {
        assert_eq!((size(312), size(1_600_000)), ("312 bytes".to_owned(), "1.6 MB".to_owned()));
    }
}
