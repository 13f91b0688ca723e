//! Preflight: are stores, rights and switches as the plan says? Every problem at once, each with what to do. Changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::context::{Ports, WorkerContext};
use super::key_form;
use super::switch::{EXPOSED_ADVICE, TYPE_ADVICE, another_type, exposed, nearly_full};
use super::trouble::evidence;
use super::{
    attached, bookkeeping, column_types, definitions, index_keys, job_checks, movers, retained, sampled, schema,
    sequences, source_columns, surroundings,
};
use crate::domain::at::{At, brief};
use crate::domain::estimate::{Known, ReadUnits, estimate};
use crate::domain::gauge::Count;
use crate::domain::lint::{Severity, lint};
use crate::domain::mapping::inverse_gaps;
use crate::domain::plan::{MoverKind, Plan, StoreKind, Switch, Table, ValueRef};
use crate::domain::run::{ErrorClass, Evidence, StepError, another_account};
use crate::ports::{Bookkeeping, ErrorKind, Obstacle, Owning, PortError, ProbeOutcome, SourceTable};

/// One thing that was checked.
#[derive(Clone, Debug)]
pub struct CheckRow {
    /// What: `source books`.
    pub what: String,
    /// What was found, or what is wrong.
    pub result: Result<String, String>,
    /// What to do about it.
    pub advice: String,
    /// Whether credentials or permissions are the trouble.
    pub denied: bool,
    /// Path of what the config says about it: `tables[0].columns.added`. Empty when nothing does.
    pub path: String,
}

impl CheckRow {
    /// All is well.
    #[must_use]
    pub fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { what: what.into(), result: Ok(found.into()), advice: String::new(), denied: false, path: String::new() }
    }

    /// Something is wrong, with what to do about it.
    #[must_use]
    pub fn bad(what: impl Into<String>, wrong: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), result: Err(wrong.into()), advice: advice.into(), denied: false, path: String::new() }
    }

    /// Credentials or permissions are the trouble.
    pub fn denied(what: impl Into<String>, wrong: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { denied: true, ..Self::bad(what, wrong, advice) }
    }

    /// A store refused, or did not answer.
    #[must_use]
    pub fn port(what: impl Into<String>, e: &PortError) -> Self {
        let result = Err(one_line(&format!("{} {}: {}", e.tried, e.on, e.came_back)));
        let denied = e.kind == ErrorKind::Denied;
        Self { what: what.into(), result, advice: one_line(&e.advice), denied, path: String::new() }
    }

    /// The same, about what stands at this path of the config.
    pub(super) fn about(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }
}

/// What comes from outside may hold line breaks; a check is a line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) const NO_AWS: &str = "not checked: no AWS credentials";

/// What is known to be missing before anything is asked. What depends on it is named, and not asked for.
#[derive(Clone, Debug, Default)]
pub struct Missing {
    /// Why AWS cannot be asked.
    pub aws: Option<CheckRow>,
    /// Why the target cannot be asked.
    pub target: Option<CheckRow>,
    /// Why a store cannot be asked that tables come from, by its name.
    pub stores: BTreeMap<String, CheckRow>,
}

impl Missing {
    /// Why a store cannot be asked, in a line for `what`; the store's own line says more.
    pub(super) fn store(&self, plan: &Plan, store: &str, what: &str) -> Option<CheckRow> {
        if self.stores.contains_key(store) {
            return Some(CheckRow::denied(what, format!("not checked: the store {store} cannot be asked"), ""));
        }
        let asks_aws = plan.kind(store) == StoreKind::Dynamodb;
        (asks_aws && self.aws.is_some()).then(|| CheckRow::denied(what, NO_AWS, ""))
    }
}

/// Checks everything the plan names.
pub async fn check(plan: &Plan, ports: &Ports, missing: &Missing) -> Vec<CheckRow> {
    checked(plan, ports, missing, false).await
}

/// The same; with `anew` target tables that are there are no obstacle where the plan can make them again.
async fn checked(plan: &Plan, ports: &Ports, missing: &Missing, anew: bool) -> Vec<CheckRow> {
    let mut rows = Vec::new();
    let no_aws = |what: String| CheckRow::denied(what, NO_AWS, "");
    let errors: Vec<_> = lint(plan).into_iter().filter(|f| f.severity == Severity::Error).collect();
    match errors.first() {
        Some(f) => rows.push(CheckRow::bad("plan", format!("{}: {}", f.path, f.message), "mend the config")),
        None => rows.push(CheckRow::ok("plan", format!("{} steps, hash {}", plan.steps.len(), &plan.hash()[..12]))),
    }
    rows.extend(missing.aws.clone());
    if missing.aws.is_none() {
        rows.extend(accounts(plan, ports).await);
    }
    rows.extend(missing.stores.values().cloned());
    rows.extend(appeared(plan, ports, missing).await);
    // How long loads may take in all, in seconds, by the store they read.
    let mut loads: BTreeMap<&str, f64> = BTreeMap::new();
    for table in &plan.tables {
        if let Some(row) = missing.store(plan, &table.from, &format!("source {}", table.id)) {
            rows.push(row);
            continue;
        }
        rows.extend(source(plan, ports, table, loads.entry(&table.from).or_default()).await);
    }
    rows.extend(attached::not_looked_at(plan));
    rows.extend(capture(plan, ports, missing).await);
    rows.extend(retained::rows(plan, ports, missing, &loads).await);
    rows.extend(movers::check_rows(plan, ports, missing).await);
    for stays in &plan.stays {
        let as_table = stays.watched();
        let what = format!("source {} (stays)", stays.id);
        if let Some(row) = missing.store(plan, &stays.from, &what) {
            rows.push(row);
            continue;
        }
        rows.push(match ports.source(&as_table).describe(&as_table).await {
            Ok(found) => CheckRow::ok(what, format!("{}, watched", shown(&found.count, ports.clock.wall()))),
            Err(e) => CheckRow::port(what, &e),
        });
    }
    match &missing.target {
        Some(row) => rows.push(row.clone()),
        None => rows.extend(target(plan, ports, missing, anew).await),
    }
    let asked = plan.stores_of_tables().into_iter().filter(|store| missing.store(plan, store, "").is_none()).collect();
    rows.extend(surroundings::rows(plan, ports, &asked, missing.target.is_none()).await);
    if plan.reverse.enabled {
        rows.extend(plan.tables.iter().map(|table| inverse_row(plan, table)));
    }
    for switch in &plan.switches {
        let what = format!("switch {}", switch.id);
        if missing.aws.is_some() {
            rows.push(no_aws(what));
        } else {
            rows.push(read(plan, ports, switch, what).await);
        }
        let asks_aws = plan.values_of(switch).iter().any(|value| matches!(value, ValueRef::Parameter(_)));
        if asks_aws && missing.aws.is_some() {
            rows.push(no_aws(format!("new value of {}", switch.id)));
        } else {
            for value in plan.values_of(switch) {
                rows.extend(new_value(ports, switch, value).await);
            }
        }
    }
    rows.extend(job_checks::rows(plan, ports, missing).await);
    for probe in &plan.probes {
        let what = format!("probe {}", probe.id);
        let result = ports.probes.probe(probe).await;
        rows.push(match result.outcome {
            ProbeOutcome::Served => CheckRow::ok(what, format!("served in {}ms", result.latency_ms)),
            ProbeOutcome::Refused => CheckRow::bad(what, "writes are refused already", "is a freeze still set?"),
            ProbeOutcome::Failed(why) => CheckRow::bad(what, why, format!("see {}", probe.place())),
        });
    }
    rows
}

/// What to do about calls that are signed for another account than the plan's.
pub const OTHER_ACCOUNT_ADVICE: &str =
    "name the right `profile` under [aws] or sign in there; if the plan is for another account, change `account`";

/// Whose account the calls to each store are signed for, and where they go.
async fn accounts(plan: &Plan, ports: &Ports) -> Vec<CheckRow> {
    let Some(identity) = &ports.identity else { return Vec::new() };
    let callers = identity.callers().await;
    let rows = callers.iter().map(|(name, caller)| {
        let what = format!("store {name}");
        let addresses = identity.addresses(name);
        let pinned = plan.stores.get(name).and_then(|s| s.account.as_deref());
        if let Some(wrong) = another_account(pinned, caller) {
            return CheckRow::denied(what, one_line(&wrong), OTHER_ACCOUNT_ADVICE);
        }
        if let Some((service, Err(why))) = addresses.iter().find(|(_, at)| at.is_err()) {
            let advice = "see `region` and `endpoints` under [aws], and AWS_USE_FIPS_ENDPOINT and \
                          AWS_USE_DUALSTACK_ENDPOINT in the environment";
            return CheckRow::bad(what, format!("no endpoint of {service}: {}", one_line(why)), advice);
        }
        let at: String = addresses
            .iter()
            .filter_map(|(service, at)| Some(format!(", {service} at {}", at.as_ref().ok()?)))
            .collect();
        CheckRow::ok(what, format!("{}{at}", one_line(&caller.to_string())))
    });
    let mut rows: Vec<CheckRow> = rows.collect();
    rows.extend(identity.clock_ahead_ms().and_then(clock));
    rows
}

/// A clock that is so far off is said: signatures are corrected for it, but times on screens and in reports are not.
fn clock(ahead_ms: i64) -> Option<CheckRow> {
    const WORTH_SAYING: u64 = 5_000;
    if ahead_ms.unsigned_abs() < WORTH_SAYING {
        return None;
    }
    let (seconds, way) = (ahead_ms.unsigned_abs() / 1000, if ahead_ms > 0 { "behind" } else { "ahead of" });
    let found = format!("your clock is {seconds} s {way} AWS's; requests are signed with the time AWS has");
    Some(CheckRow::ok("clock", found))
}

/// Reads a switch and compares it with what the plan expects.
async fn read(plan: &Plan, ports: &Ports, switch: &Switch, what: String) -> CheckRow {
    match ports.switches.read(switch).await {
        Err(e) => CheckRow::port(what, &e),
        Ok(now) if another_type(switch, &now).is_some() => {
            CheckRow::bad(what, another_type(switch, &now).unwrap_or_default(), TYPE_ADVICE)
        }
        Ok(now) if switch.expect.as_deref().is_some_and(|wanted| wanted != now.value.reveal()) => {
            let wanted = switch.expect.as_deref().unwrap_or_default();
            CheckRow::bad(what, format!("{} does not hold {wanted}", switch.place()), "see who changed it")
        }
        Ok(now) => {
            let value = if switch.secret() || now.secret { "***" } else { now.value.reveal() };
            let kept = match ports.switches.attributes(switch, now.version).await {
                Err(e) => return CheckRow::port(what, &e),
                Ok(kept) => kept.words(),
            };
            match ports.switches.writes_left(switch).await.map(|left| nearly_full(plan, switch, left)) {
                Err(e) => return CheckRow::port(what, &e),
                Ok(Some(wrong)) => return CheckRow::bad(what, wrong, "see `aws ssm label-parameter-version`"),
                Ok(None) => {}
            }
            let kept = if kept.is_empty() { kept } else { format!(" ({kept})") };
            CheckRow::ok(what, format!("{} = {value}{kept}", switch.place()))
        }
    }
}

/// Finds the new value, and says what is wrong with it.
async fn new_value(ports: &Ports, switch: &Switch, value: &ValueRef) -> Option<CheckRow> {
    let what = format!("new value of {}", switch.id);
    match ports.switches.resolve(value, &switch.control).await {
        Err(e) => Some(CheckRow::port(what, &e)),
        Ok(value) => exposed(switch, &value).map(|wrong| CheckRow::bad(what, wrong, EXPOSED_ADVICE)),
    }
}

/// Says which tables have no inverse. That does not stop the run: the price of a rollback says what it would leave
/// behind.
fn inverse_row(plan: &Plan, table: &Table) -> CheckRow {
    let what = format!("inverse {}", table.id);
    let inverse_gaps = inverse_gaps(table, plan.kind(&table.from));
    match (inverse_gaps.blocks.is_empty(), inverse_gaps.notes.is_empty()) {
        (false, _) => {
            CheckRow::ok(what, format!("NONE, a rollback leaves writes behind: {}", inverse_gaps.blocks.join("; ")))
        }
        (true, true) => CheckRow::ok(what, "every column has an inverse"),
        (true, false) => CheckRow::ok(what, format!("without: {}", inverse_gaps.notes.join("; "))),
    }
}

/// Tables that rules would take and that are not in the plan: only a plan that was made before can lack any.
async fn appeared(plan: &Plan, ports: &Ports, missing: &Missing) -> Option<CheckRow> {
    if plan.stores_of_rules().into_iter().any(|store| missing.store(plan, store, "moves").is_some()) {
        return None;
    }
    match super::appeared::tables(plan, ports).await {
        Err(e) => Some(CheckRow::port("moves", &e)),
        Ok(found) if found.is_empty() && plan.moves.is_empty() => None,
        Ok(found) if found.is_empty() => Some(CheckRow::ok("moves", "every table that the rules take is in the plan")),
        Ok(found) => Some(CheckRow::bad("moves", super::appeared::words(&found), super::appeared::ADVICE)),
    }
}

/// Everything that would keep changes from being captured, store by store; nothing where all is well.
async fn capture(plan: &Plan, ports: &Ports, missing: &Missing) -> Vec<CheckRow> {
    let mut rows = Vec::new();
    for store in plan.stores_of_tables() {
        let what = format!("capture {store}");
        // Its tables have said so.
        if missing.store(plan, store, &what).is_some() {
            continue;
        }
        let theirs: Vec<Table> = plan.own_tables().filter(|table| table.from == store).cloned().collect();
        if theirs.is_empty() {
            continue;
        }
        match ports.changes.named(store).obstacles(&theirs).await {
            Err(e) => rows.push(CheckRow::port(what, &e)),
            Ok(found) => rows.extend(
                found.into_iter().map(|o| CheckRow { denied: o.rights, ..CheckRow::bad(&what, o.wrong, o.advice) }),
            ),
        }
    }
    rows
}

/// `load_s` grows by the seconds its load may take.
async fn source(plan: &Plan, ports: &Ports, table: &Table, load_s: &mut f64) -> Vec<CheckRow> {
    let (what, kind) = (format!("source {}", table.id), plan.kind(&table.from));
    let found = match ports.source(table).describe(table).await {
        Ok(found) => found,
        Err(e) => {
            let advice = if e.kind == ErrorKind::NotFound && !kind.of_columns() {
                format!("check the name {} and the region", table.source)
            } else {
                e.advice.clone()
            };
            return vec![CheckRow { advice, ..CheckRow::port(what, &e) }];
        }
    };
    let names: Vec<&str> = found.key.iter().map(|(name, _)| name.as_str()).collect();
    let mut rows = Vec::new();
    let columns = source_columns::compare(plan, table, &found);
    let place = |key: &str| {
        plan.tables.iter().position(|t| t.id == table.id).map_or_else(String::new, |n| format!("tables[{n}].{key}"))
    };
    for (wrong, advice) in schema::problems(table, &found) {
        rows.push(CheckRow::bad(&what, wrong, advice));
    }
    for (wrong, advice) in columns.problems {
        rows.push(CheckRow::bad(&what, wrong, advice).about(place("columns")));
    }
    if rows.is_empty() {
        let ttl = found.ttl.as_ref().map_or_else(String::new, |ttl| format!(", expires by {ttl}"));
        rows.push(CheckRow::ok(
            what,
            format!("{}, key {}{ttl}", shown(&found.count, ports.clock.wall()), names.join(", ")),
        ));
    }
    let (estimated, seconds) = estimated(plan, table, &found);
    *load_s += seconds;
    rows.push(CheckRow::ok(format!("estimate {}", table.id), estimated));
    let what = format!("stream {}", table.id);
    rows.push(match found.stream {
        _ if table.mover.is_some() => {
            let by = table.mover.map_or("", MoverKind::name);
            CheckRow::ok(format!("changes {}", table.id), format!("applied by a {by}, see its own line"))
        }
        // All tables of a database share one log.
        _ if kind.of_columns() => CheckRow::ok(
            format!("changes {}", table.id),
            "followed in the log; the capture step publishes the table and makes a slot",
        ),
        Some((_, true)) => CheckRow::ok(what, "on, with new and old images"),
        Some((_, false)) => CheckRow::bad(
            what,
            format!("the stream of {} does not carry new and old images", table.source),
            "what a stream carries cannot be changed: ask whoever reads it now (a Lambda function loses its event source), turn it \
             off, and let the capture step turn it on again with NEW_AND_OLD_IMAGES",
        ),
        None => CheckRow::ok(what, "off; the capture step turns it on"),
    });
    rows.extend(columns.notes.into_iter().map(|note| CheckRow::ok(format!("note {}", table.id), note)));
    rows.extend(sampled::rows(plan, &**ports.source(table), table).await);
    rows.extend(key_form::row(&**ports.source(table), table).await);
    rows.extend(attached::rows(ports, table).await);
    rows
}

async fn target(plan: &Plan, ports: &Ports, missing: &Missing, anew: bool) -> Vec<CheckRow> {
    let server = match ports.target.inspect().await {
        Ok(server) => server,
        Err(e) => return vec![CheckRow::port("target", &e)],
    };
    let kept = server.bookkeeping;
    let wrong = |o: Obstacle| CheckRow { denied: o.rights, ..CheckRow::bad("target", o.wrong, o.advice) };
    let mut rows: Vec<CheckRow> = server.obstacles.into_iter().map(wrong).collect();
    if rows.is_empty() {
        rows.push(CheckRow::ok("target", bookkeeping::found(plan, kept)));
        rows.push(match ports.target.claimable(&plan.tables).await {
            Ok(()) => CheckRow::ok("target tables", format!("free for plan {}", plan.key())),
            Err(e) => CheckRow::port("target tables", &e),
        });
        // Asked for all tables at once, so that one grant after the other is not found by one check after the other.
        let owning = Owning { capture: plan.reverse.enabled, indexes: plan.load.defer_indexes == Some(true) };
        match ports.target.rights(&plan.tables, owning).await {
            Ok(missing) => {
                rows.extend(missing.into_iter().map(|o| CheckRow::denied("target rights", o.wrong, o.advice)));
            }
            Err(e) => rows.push(CheckRow::port("target rights", &e)),
        }
    }
    for table in &plan.tables {
        let what = format!("target {}", table.target);
        let (mut notices, mut types) = (Vec::new(), Vec::new());
        let row = match ports.target.describe(table).await {
            Err(e) => CheckRow::port(what, &e),
            Ok(found) if found.exists && anew && table.ddl.is_some() => {
                CheckRow::ok(what, "there; the set_up step drops it with all it holds, and makes it again")
            }
            Ok(found) if !found.exists && table.ddl.is_some() && !definitions::cannot_be_made(plan, table, &found) => {
                types.extend(index_keys::rows(ports, table, &found).await);
                notices = found.notices;
                CheckRow::ok(what, "not there; the set_up step creates it")
            }
            Ok(found) if !found.exists && table.ddl.is_some() => {
                CheckRow::bad(what, found.problems.join("; "), "mend its DDL or the mapping")
            }
            Ok(found) if !found.exists => {
                CheckRow::bad(what, "does not exist and the plan has no DDL for it", "create it, or add `ddl`")
            }
            Ok(found) if found.problems.is_empty() => {
                types = column_types::rows(ports, table, &found).await;
                types.extend(index_keys::rows(ports, table, &found).await);
                types.extend(definitions::rows(ports, table).await);
                notices = found.notices;
                match bookkeeping::foreign_rows(ports, table, kept).await {
                    Err(e) => CheckRow::port(what, &e),
                    Ok(n) if n > 0 && anew => CheckRow::ok(what, format!("{n} rows; the set_up step empties it")),
                    Ok(0) => CheckRow::ok(what, format!("{} columns fit", found.columns.len())),
                    Ok(n) => CheckRow::bad(
                        what,
                        format!("{} holds {n} rows that no load of ours wrote", table.target),
                        format!("empty it yourself if they may go (TRUNCATE {})", table.target),
                    ),
                }
            }
            Ok(found) => CheckRow::bad(what, found.problems.join("; "), "mend the table or the mapping"),
        };
        rows.push(row);
        rows.extend(types);
        rows.extend(notices.into_iter().map(|notice| CheckRow::ok(format!("note {}", table.id), notice)));
        if kept == Bookkeeping::Ready {
            rows.extend(indexes(ports, table).await);
        }
    }
    let asked: BTreeSet<&str> =
        plan.stores_of_tables().into_iter().filter(|store| missing.store(plan, store, "").is_none()).collect();
    rows.extend(sequences::rows(plan, ports, &asked).await);
    rows
}

/// Indexes that a load has dropped: expected while it is unfinished, wrong after it.
async fn indexes(ports: &Ports, table: &Table) -> Option<CheckRow> {
    let what = format!("indexes {}", table.target);
    let found = async {
        let aside = ports.target.set_aside(table).await?;
        Ok::<_, PortError>((aside, ports.target.checkpoints(table).await?))
    };
    let (aside, checkpoints) = match found.await {
        Ok(found) => found,
        Err(e) => return Some(CheckRow::port(what, &e)),
    };
    if aside.is_empty() {
        return None;
    }
    let names: Vec<&str> = aside.iter().map(|i| i.name.as_str()).collect();
    let by_hand: Vec<&str> = aside.iter().map(|i| i.definition.as_str()).collect();
    let by_hand = format!("by hand: {}; then ANALYZE {}", by_hand.join("; "), table.target);
    Some(if !checkpoints.is_empty() && checkpoints.iter().all(|c| c.done) {
        let wrong = format!("{} not there since a load: {}", aside.len(), names.join(", "));
        CheckRow::bad(what, wrong, format!("resume the run, its load step builds them; {by_hand}"))
    } else {
        CheckRow::ok(what, format!("{} until the load ends; {by_hand}", names.join(", ")))
    })
}

/// How long the load may take, what holds it back, and what it costs, in words; and the time alone, in seconds.
fn estimated(plan: &Plan, table: &Table, found: &SourceTable) -> (String, f64) {
    let kind = plan.kind(&table.from);
    let known = Known {
        items: found.count.rows.unwrap_or(0),
        bytes: found.bytes.unwrap_or(0),
        workers: plan.load.workers.min(plan.load.segments_of(found.bytes)),
        units: kind.sells_units().then_some(ReadUnits { budget: plan.load.read_budget_rcu, consistent: true }),
        write_budget: plan.load.write_budget_wcu.filter(|_| plan.kind(&table.to).sells_units()),
    };
    let Some(e) = estimate(&known) else {
        return ("no size is known yet; the store counts now and then".to_owned(), 0.0);
    };
    let took = brief((e.seconds * 1000.0) as i64);
    let size = known.bytes as f64 / 1e6;
    let mut said = format!("load about {took}, held back by {}; {size:.1} MB", e.bound.words());
    if known.units.is_some() {
        said.push_str(&format!(", {:.0} read units, ${:.2}", e.units, e.dollars));
    }
    if kind.keeps_ms().is_some() && e.outlasts_stream() {
        said.push_str("; longer than the stream is sure to keep changes (24h): load from an export instead");
    }
    (said, e.seconds)
}

/// What the store says of its own, which may be hours old.
fn shown(count: &Count, wall: At) -> String {
    let hours = wall.since(count.at) / 3_600_000;
    match count.rows {
        None => "? rows".to_owned(),
        Some(rows) if count.is_sure() => format!("{rows} rows"),
        Some(rows) => format!("~{rows} rows (the store's own count, up to {hours}h old)"),
    }
}

/// The preflight step.
pub async fn perform(ctx: &Arc<WorkerContext>) -> Result<Vec<Evidence>, StepError> {
    let anew = ctx.make_anew.load(std::sync::atomic::Ordering::Acquire);
    let rows = checked(&ctx.plan, &ctx.ports, &Missing::default(), anew).await;
    let bad: Vec<&CheckRow> = rows.iter().filter(|r| r.result.is_err()).collect();
    if bad.is_empty() {
        let at = ctx.wall();
        return Ok(rows
            .iter()
            .filter_map(|r| r.result.as_ref().ok().map(|found| evidence(&r.what, found, at, "preflight")))
            .collect());
    }
    let words: Vec<String> =
        bad.iter().map(|r| format!("{}: {}", r.what, r.result.as_ref().err().map_or("", String::as_str))).collect();
    let advice: Vec<&str> = bad.iter().map(|r| r.advice.as_str()).filter(|a| !a.is_empty()).collect();
    let class = if bad.iter().any(|r| r.denied) { ErrorClass::Permission } else { ErrorClass::World };
    Err(StepError { class, message: words.join("; "), advice: advice.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::tests::world::World;

    #[tokio::test]
    async fn what_cannot_be_asked_is_named_and_the_rest_is_checked() {
        let world = World::new();
        let (plan, ports) = (&world.plan, world.ports());
        let whole = check(plan, &ports, &Missing::default()).await;
        let named = |rows: &[CheckRow], what: &str| rows.iter().filter(|r| r.what.starts_with(what)).count();
        assert!(named(&whole, "target ") > 0 && named(&whole, "stream ") > 0, "{whole:?}");

        let target = Some(CheckRow::denied("target", "no password", "set it"));
        let rows = check(plan, &ports, &Missing { target, ..Missing::default() }).await;
        assert_eq!(named(&rows, "target"), 1);
        assert_eq!(named(&rows, "stream "), named(&whole, "stream "), "the source is checked all the same");
        assert_eq!(named(&rows, "switch "), named(&whole, "switch "));
        assert!(rows.iter().any(|r| r.denied));

        let aws = Some(CheckRow::denied("AWS credentials", "none", "set them"));
        let rows = check(plan, &ports, &Missing { aws, ..Missing::default() }).await;
        assert_eq!(named(&rows, "AWS credentials"), 1);
        assert_eq!(named(&rows, "target"), named(&whole, "target"), "the target is checked all the same");
        for row in rows.iter().filter(|r| r.what.starts_with("source ") || r.what.starts_with("switch ")) {
            assert!(row.result == Err("not checked: no AWS credentials".to_owned()) && row.denied, "{row:?}");
        }
        assert_eq!(named(&rows, "source "), named(&whole, "source "));
        assert_eq!(named(&rows, "switch "), named(&whole, "switch "));
    }

    #[test]
    fn a_row_is_one_line_whatever_came_back() {
        let row = CheckRow::port("switch reads", &PortError::new(ErrorKind::Internal, "read", "/a", "1:\n   2"));
        assert_eq!(row.result.unwrap_err(), "read /a: 1: 2");
    }
}
