//! What no table brings along: settings of the databases, event triggers, the encoding, and who is open for long.

use std::collections::BTreeSet;

use super::context::Ports;
use super::preflight::CheckRow;
use crate::domain::plan::Plan;
use crate::ports::{SessionSetting, Surroundings};

/// Settings whose value is a list, which the catalogue keeps as it is written.
const LISTS: [&str; 5] = [
    "search_path",
    "temp_tablespaces",
    "session_preload_libraries",
    "local_preload_libraries",
    "shared_preload_libraries",
];

/// Notes on every pair of databases that tables move between. Stores of `asked` can be asked.
pub(super) async fn rows(plan: &Plan, ports: &Ports, asked: &BTreeSet<&str>, target: bool) -> Vec<CheckRow> {
    let (mut rows, mut pairs, mut sources) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for table in plan.tables.iter().filter(|table| asked.contains(table.from.as_str())) {
        if !pairs.insert((&table.from, &table.to)) {
            continue;
        }
        let old = match ports.source(table).surroundings().await {
            Ok(Some(old)) => old,
            Ok(None) => continue,
            Err(e) => {
                rows.push(CheckRow::port(format!("settings {}", table.from), &e));
                continue;
            }
        };
        let note = |text: String| CheckRow::ok(format!("note {}", table.from), text);
        if sources.insert(&table.from) {
            rows.extend(of_source(&old).into_iter().map(note));
        }
        if !target {
            continue;
        }
        match ports.target.surroundings(table).await {
            Ok(Some(new)) => {
                let note = |text: String| CheckRow::ok(format!("note {}", table.to), text);
                rows.extend(between(&old, &new).into_iter().chain(of_target(&new)).map(note));
            }
            Ok(None) => {}
            Err(e) => rows.push(CheckRow::port(format!("settings {}", table.to), &e)),
        }
    }
    rows
}

/// What stands in the way of reading, or may.
fn of_source(old: &Surroundings) -> Vec<String> {
    let mut notes = Vec::new();
    if old.encoding == "SQL_ASCII" {
        notes.push(format!(
            "the database {} is encoded in SQL_ASCII, which checks no text: a value that is no UTF-8 stops what reads or follows \
             its table; `cutover check --scan` finds those that are there, and the application has to write UTF-8",
            old.database
        ));
    }
    if let Some(open) = &old.oldest {
        notes.push(format!(
            "changes are captured once every transaction that is open on the server has ended: {}; end it, or the capture step \
             waits for it",
            open.words
        ));
    }
    notes.extend(triggers(old, "the capture step makes a publication"));
    notes
}

fn of_target(new: &Surroundings) -> Vec<String> {
    triggers(new, "a run makes the schema cutover, tables and triggers").into_iter().collect()
}

fn triggers(of: &Surroundings, does: &str) -> Option<String> {
    let names = of.event_triggers.join(", ");
    let note = format!(
        "event triggers of the database {} see what is made there, and may refuse it ({does}): {names}",
        of.database
    );
    (!names.is_empty()).then_some(note)
}

/// What sessions of the new database begin with in another way, each with the statement that makes it as in the old one.
fn between(old: &Surroundings, new: &Surroundings) -> Vec<String> {
    let same = |a: &SessionSetting, b: &SessionSetting| (&a.role, a.here, &a.name) == (&b.role, b.here, &b.name);
    let mut notes = Vec::new();
    for setting in &old.settings {
        let there = new.settings.iter().find(|other| same(setting, other));
        if there.is_some_and(|other| other.value == setting.value) {
            continue;
        }
        let now = match there {
            None => "nothing".to_owned(),
            Some(other) => shown(other),
        };
        let says = if setting.is_own() { "to the old one's value".to_owned() } else { format!("= {}", value(setting)) };
        notes.push(format!(
            "{} has {} where the old one has {}: {} SET {} {says};",
            whose(setting, &new.database),
            now,
            shown(setting),
            alter(setting, &new.database),
            setting.name
        ));
    }
    for setting in new.settings.iter().filter(|setting| setting.role.is_none()) {
        if !old.settings.iter().any(|other| same(setting, other)) {
            notes.push(format!(
                "{} has {}, which the old one has not: {} RESET {};",
                whose(setting, &new.database),
                shown(setting),
                alter(setting, &new.database),
                setting.name
            ));
        }
    }
    notes
}

/// The database, or the role there.
fn whose(setting: &SessionSetting, database: &str) -> String {
    match &setting.role {
        None => format!("the database {database}"),
        Some(role) if setting.here => format!("the role {role} in the database {database}"),
        Some(role) => format!("the role {role} of the new side"),
    }
}

/// `search_path = app, util`, or the name alone where the value may be a secret.
fn shown(setting: &SessionSetting) -> String {
    if setting.is_own() { format!("{} = ***", setting.name) } else { format!("{} = {}", setting.name, setting.value) }
}

fn alter(setting: &SessionSetting, database: &str) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    match &setting.role {
        None => format!("ALTER DATABASE {}", quoted(database)),
        Some(role) if setting.here => format!("ALTER ROLE {} IN DATABASE {}", quoted(role), quoted(database)),
        Some(role) => format!("ALTER ROLE {}", quoted(role)),
    }
}

/// The value as a statement takes it.
fn value(setting: &SessionSetting) -> String {
    if LISTS.contains(&setting.name.as_str()) && !setting.value.is_empty() {
        setting.value.clone()
    } else {
        format!("'{}'", setting.value.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(role: Option<&str>, here: bool, name: &str, value: &str) -> SessionSetting {
        SessionSetting { role: role.map(str::to_owned), here, name: name.into(), value: value.into() }
    }

    fn database(name: &str, settings: Vec<SessionSetting>) -> Surroundings {
        Surroundings { database: name.into(), encoding: "UTF8".into(), settings, ..Surroundings::default() }
    }

    #[test]
    fn each_setting_that_differs_is_named_with_what_makes_it_the_same() {
        let old = database(
            "shop",
            vec![
                set(None, true, "search_path", "app, util"),
                set(None, true, "datestyle", "German"),
                set(None, true, "app.key", "hunter2"),
                set(Some("it's"), true, "timezone", "Asia/Kolkata"),
                set(Some("reader"), false, "statement_timeout", "5s"),
                set(Some("same"), false, "work_mem", "64MB"),
            ],
        );
        let new = database(
            "Shop",
            vec![
                set(None, true, "datestyle", "ISO"),
                set(None, true, "jit", "off"),
                set(Some("same"), false, "work_mem", "64MB"),
            ],
        );
        assert_eq!(
            between(&old, &new),
            [
                "the database Shop has nothing where the old one has search_path = app, util: ALTER DATABASE \"Shop\" SET \
                 search_path = app, util;",
                "the database Shop has datestyle = ISO where the old one has datestyle = German: ALTER DATABASE \"Shop\" SET \
                 datestyle = 'German';",
                "the database Shop has nothing where the old one has app.key = ***: ALTER DATABASE \"Shop\" SET app.key to the \
                 old one's value;",
                "the role it's in the database Shop has nothing where the old one has timezone = Asia/Kolkata: ALTER ROLE \
                 \"it's\" IN DATABASE \"Shop\" SET timezone = 'Asia/Kolkata';",
                "the role reader of the new side has nothing where the old one has statement_timeout = 5s: ALTER ROLE \"reader\" \
                 SET statement_timeout = '5s';",
                "the database Shop has jit = off, which the old one has not: ALTER DATABASE \"Shop\" RESET jit;",
            ]
        );
        assert_eq!(between(&old, &Surroundings { database: "other".into(), ..old.clone() }), [""; 0]);
    }

    #[test]
    fn a_database_that_checks_no_text_and_event_triggers_are_named() {
        let mut old = database("shop", vec![]);
        assert_eq!(of_source(&old), [""; 0]);
        old.encoding = "SQL_ASCII".into();
        old.event_triggers = vec!["no_ddl (ddl_command_start)".into()];
        let notes = of_source(&old);
        assert!(notes[0].contains("SQL_ASCII") && notes[0].contains("check --scan"), "{notes:?}");
        assert!(notes[1].contains("no_ddl (ddl_command_start)"), "{notes:?}");
    }
}
