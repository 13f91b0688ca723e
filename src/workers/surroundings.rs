//! What no table brings along: settings of the databases, event triggers, the encoding, and who is open for long.

mod beside;
mod extensions;
mod rights;
mod tables;

use std::collections::BTreeSet;

use super::context::Ports;
use super::preflight::CheckRow;
use crate::domain::plan::Plan;
use crate::ports::{Collation, SessionSetting, Surroundings};

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
            rows.extend(of_source(&old).into_iter().chain(beside::notes(&old)).map(note));
        }
        if !target {
            continue;
        }
        match ports.target.surroundings(table).await {
            Ok(Some(new)) => {
                let note = |text: String| CheckRow::ok(format!("note {}", table.to), text);
                let tables: Vec<(&str, &str)> = plan
                    .tables
                    .iter()
                    .filter(|other| (&other.from, &other.to) == (&table.from, &table.to))
                    .map(|table| (table.source.as_str(), table.target.as_str()))
                    .collect();
                rows.extend(extensions::rows(plan, (&table.from, &table.to), &old, &new));
                rows.push(tables::row(plan, (&table.from, &table.to), &old, &new));
                let notes = between(&old, &new).into_iter().chain(rights::missing(&tables, &old, &new));
                rows.extend(notes.chain(of_target(&new)).map(note));
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
    notes.extend(sorts_otherwise(old));
    if old.large_objects > 0 {
        notes.push(format!(
            "{} large objects of the database {} belong to no table and stay behind; export what still refers to them \
             (lo_export, or pg_dump --large-objects), and see who reads them by number",
            old.large_objects, old.database
        ));
    }
    notes
}

fn of_target(new: &Surroundings) -> Vec<String> {
    triggers(new, "a run makes the schema cutover, tables and triggers")
        .into_iter()
        .chain(sorts_otherwise(new))
        .collect()
}

fn triggers(of: &Surroundings, does: &str) -> Option<String> {
    let names = of.event_triggers.join(", ");
    let note = format!(
        "event triggers of the database {} see what is made there, and may refuse it ({does}): {names}",
        of.database
    );
    (!names.is_empty()).then_some(note)
}

/// That a database sorts in another way than its indexes were made with.
fn sorts_otherwise(of: &Surroundings) -> Option<String> {
    let collation = of.collation.as_ref()?;
    let (made, now) = (collation.version.as_ref()?, collation.sorts_now.as_ref()?);
    let note = format!(
        "the database {0} was made with version {made} of the order of its texts, and the system has version {now} now: an index \
         of texts may miss rows; REINDEX DATABASE {0}, then ALTER DATABASE {0} REFRESH COLLATION VERSION",
        of.database
    );
    (made != now).then_some(note)
}

/// That one database may not hold a text that the other one does. One that checks no text is named by itself.
fn encodings(old: &Surroundings, new: &Surroundings) -> Option<String> {
    let differs = old.encoding != new.encoding && old.encoding != "SQL_ASCII";
    differs.then(|| {
        format!(
            "the database {} is encoded in {old} and {} in {new}: a text that customers write on the new side may hold a character \
             that {old} does not have, and such a row cannot go back to the old side",
            old.database,
            new.database,
            old = old.encoding,
            new = new.encoding
        )
    })
}

/// That both databases sort texts differently, or tell letters in another way.
fn sorting(old: &Surroundings, new: &Surroundings) -> Option<String> {
    let (before, after) = (old.collation.as_ref()?, new.collation.as_ref()?);
    let differs = (&before.provider, &before.order, &before.letters, &before.locale)
        != (&after.provider, &after.order, &after.letters, &after.locale);
    if differs {
        return Some(format!(
            "the database {} sorts texts by {} where the old one does by {}: lists come in another order, ranges of texts hold \
             others, and lower() may know other letters; a database has its order from CREATE DATABASE on, so make it with \
             the old one's before anything is loaded, or give columns a COLLATE",
            new.database,
            order(after),
            order(before)
        ));
    }
    let (older, newer) = (before.sorts_now.as_ref()?, after.sorts_now.as_ref()?);
    let note = format!(
        "both databases sort texts by {}, {} in version {newer} of it and the old one in {older}: some texts may come in another \
         order",
        order(after),
        new.database
    );
    (older != newer).then_some(note)
}

/// `libc en_US.UTF-8`, with what tells letters where that is another.
fn order(of: &Collation) -> String {
    let mut words = format!("{} {}", of.provider, of.locale.as_ref().unwrap_or(&of.order));
    if of.letters != of.order {
        words.push_str(&format!(" (letters by {})", of.letters));
    }
    words
}

/// What sessions of the new database begin with in another way, each with the statement that makes it as in the old one.
fn between(old: &Surroundings, new: &Surroundings) -> Vec<String> {
    let same = |a: &SessionSetting, b: &SessionSetting| (&a.role, a.here, &a.name) == (&b.role, b.here, &b.name);
    let mut notes: Vec<String> = encodings(old, new).into_iter().chain(sorting(old, new)).collect();
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
        old.large_objects = 3;
        assert!(of_source(&old)[0].contains("3 large objects of the database shop"));
        old.large_objects = 0;
        old.encoding = "SQL_ASCII".into();
        old.event_triggers = vec!["no_ddl (ddl_command_start)".into()];
        let notes = of_source(&old);
        assert!(notes[0].contains("SQL_ASCII") && notes[0].contains("check --scan"), "{notes:?}");
        assert!(notes[1].contains("no_ddl (ddl_command_start)"), "{notes:?}");
    }

    #[test]
    fn another_encoding_is_named_before_a_text_is_written_that_cannot_go_back() {
        let (mut old, new) = (database("shop", vec![]), database("Shop", vec![]));
        assert_eq!(between(&old, &new), [""; 0]);
        old.encoding = "LATIN1".into();
        let notes = between(&old, &new);
        assert!(notes.len() == 1 && notes[0].contains("encoded in LATIN1 and Shop in UTF8"), "{notes:?}");
        // What checks no text takes any, and is named by itself.
        old.encoding = "SQL_ASCII".into();
        assert_eq!(between(&old, &new), [""; 0]);
    }

    #[test]
    fn another_order_of_texts_is_named_by_its_name_or_its_version() {
        let sorted = |order: &str, letters: &str, now: Option<&str>| {
            let mut one = database("shop", vec![]);
            one.collation = Some(Collation {
                provider: "libc".into(),
                order: order.into(),
                letters: letters.into(),
                sorts_now: now.map(str::to_owned),
                ..Collation::default()
            });
            one
        };
        let old = sorted("en_US.UTF-8", "en_US.UTF-8", Some("2.28"));
        assert_eq!(between(&old, &old), [""; 0]);
        let notes = between(&old, &sorted("C", "en_US.UTF-8", None));
        assert!(
            notes[0].contains("by libc C (letters by en_US.UTF-8) where the old one does by libc en_US.UTF-8"),
            "{notes:?}"
        );
        let notes = between(&old, &sorted("en_US.UTF-8", "en_US.UTF-8", Some("2.36")));
        assert!(notes[0].contains("version 2.36") && notes[0].contains("the old one in 2.28"), "{notes:?}");
        assert_eq!(
            between(&old, &sorted("en_US.UTF-8", "en_US.UTF-8", None)),
            [""; 0],
            "what is not known is no difference"
        );
        let mut stale = old.clone();
        stale.collation.as_mut().unwrap().version = Some("2.17".into());
        assert!(of_source(&stale)[0].contains("REINDEX DATABASE shop"), "{:?}", of_source(&stale));
    }
}
