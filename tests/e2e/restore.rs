//! `cutover restore` and `cutover rehearse --from-export`: a backup that was tried.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::console::Console;
use super::stores::{Databases, NOTES_V2, Notes};

/// A value that no log, journal or report may hold.
const HUSH: &str = "hush-7f3a";

/// Both kinds of store, with an export of their tables in `backup`.
fn exported() -> (Notes, Databases) {
    let papers = Notes::new();
    let both = Databases::with(&format!("{}[reverse]\nenabled = false\n", papers.store()), NOTES_V2);
    for table in ["Notes", "Notes-v2"] {
        both.runtime.block_on(papers.create(table));
    }
    // Large enough that there are several pieces of it.
    let words = |n: u32| {
        let noise: String =
            (0..1_500).map(|i: u32| format!("{:08x}", (n * 7_919 + i).wrapping_mul(2_654_435_761))).collect();
        format!("{HUSH} {noise}")
    };
    (0..60).for_each(|n| both.runtime.block_on(papers.put(&format!("n{n}"), &words(n))));
    both.old(&format!("UPDATE people SET name = '{HUSH}' WHERE id = 7"));
    both.cutover(&["export", "--to", "backup"], 0);
    (papers, both)
}

fn manifest(both: &Databases) -> Value {
    serde_json::from_slice(&fs::read(both.dir.path().join("backup/manifest.json")).unwrap()).unwrap()
}

#[test]
fn an_export_is_restored_into_tables_that_are_made_or_empty_and_over_nobodys_rows() {
    let (papers, both) = exported();
    for table in manifest(&both)["tables"].as_array().unwrap() {
        assert!(table["structure"]["ddl"].is_string() && table["digest"].is_string(), "{table:#}");
    }
    // Tables of two kinds do not go into one store.
    both.cutover(&["restore", "backup", "--to", "new"], 2);
    both.cutover(&["restore", "backup", "--to", "nwe", "--from", "old"], 2);
    let said = both.cutover(&["restore", "backup", "--to", "new", "--from", "old"], 0);
    assert!(said.contains("2 tables of people/test restored into new, 3500 records"), "{said}");
    assert!(said.contains("made and restored") && !said.contains(HUSH), "{said}");
    assert_eq!(both.new_rows(), both.old_rows());
    assert_eq!(both.new_number("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated"), 1);
    // Begun again it says so, and doubles nothing.
    let said = both.cutover(&["restore", "backup", "--to", "new", "--from", "old"], 0);
    assert_eq!(said.matches("there already, all of it").count(), 2, "{said}");
    // What was emptied is filled, what somebody wrote is left alone, and then nothing is written at all.
    both.new_sql("DELETE FROM visits");
    both.cutover(&["restore", "backup", "--to", "new", "--table", "visits"], 0);
    assert_eq!(both.new_rows(), both.old_rows());
    both.new_sql("DELETE FROM visits; UPDATE people SET name = 'a customer' WHERE id = 1");
    let mut refused = both.start(&["restore", "backup", "--to", "new", "--from", "old"]);
    refused.expect_code(8);
    assert!(
        refused.err().contains("nothing was written") && refused.err().contains("public.people"),
        "{}",
        refused.words()
    );
    assert_eq!(both.new_number("SELECT count(*) FROM visits"), 0);

    // DynamoDB: under another name beside itself, and over itself.
    let restore = ["restore", "backup", "--from", "papers", "--to", "papers"];
    let said = both.cutover(&[&restore[..], &["--as", "notes=Notes-restored", "--json"]].concat(), 0);
    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&said["tables"][0]["made"], &said["records"]), (&Value::Bool(true), &60.into()), "{said:#}");
    let manifest = manifest(&both);
    let exported = manifest["tables"].as_array().unwrap().iter().find(|table| table["id"] == "notes").unwrap();
    assert_eq!(said["tables"][0]["digest"], exported["digest"], "{said:#}");
    let held = |table: &str| both.runtime.block_on(papers.held(table));
    assert_eq!(held("Notes-restored"), held("Notes"));
    let said = both.cutover(&restore, 0);
    assert!(said.contains("there already, all of it"), "{said}");
    both.runtime.block_on(papers.put("n3", "written since"));
    both.cutover(&restore, 8);
    assert!(held("Notes").iter().any(|note| note.contains("written since")));
    assert_eq!(both.kept(), Vec::<String>::new());
}

#[test]
fn nothing_is_restored_of_what_is_not_as_it_was_written_or_into_production_unnamed() {
    let (_papers, both) = exported();
    let at = |name: &str| both.dir.path().join(name);
    let whole = fs::read(at("backup/visits.ndjson.zst")).unwrap();
    let refused = |code: i32, words: &str| {
        let mut console = both.start(&["restore", "backup", "--to", "new", "--from", "old"]);
        console.expect_code(code);
        assert!(console.err().contains(words), "{}", console.words());
        assert_eq!(both.new_number("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), 0, "{words}");
    };
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(at("backup/visits.ndjson.zst"), &damaged).unwrap();
    refused(7, "nothing was restored of it");
    fs::write(at("backup/visits.ndjson.zst"), &whole[..whole.len() / 3]).unwrap();
    refused(7, "cannot be read to its end");
    fs::remove_file(at("backup/visits.ndjson.zst")).unwrap();
    refused(7, "cannot be opened");
    fs::write(at("backup/visits.ndjson.zst"), &whole).unwrap();
    let text = fs::read_to_string(at("backup/manifest.json")).unwrap();
    fs::write(at("backup/manifest.json"), text.replace("\"version\": 1", "\"version\": 2")).unwrap();
    refused(7, "of a later version of this program");
    fs::write(at("backup/manifest.json"), text.replace("\"records\": 3000", "\"records\": 2999")).unwrap();
    refused(7, "2999 were written");
    fs::write(at("backup/manifest.json"), &text).unwrap();

    let config = fs::read_to_string(at("config.toml")).unwrap();
    fs::write(at("config.toml"), config.replace("production = false", "production = true")).unwrap();
    refused(2, "say so with --env production");
    both.cutover(&["restore", "backup", "--to", "new", "--from", "old", "--env", "test"], 2);
    both.cutover(&["restore", "backup", "--to", "new", "--from", "old", "--env", "production"], 0);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_restore_that_is_killed_goes_on_or_begins_again_and_doubles_nothing() {
    let (papers, both) = exported();
    let kill = |name: &str, args: &[&str], at: &str| {
        let all = [&["--state-dir", "state", "restore", "backup"], args].concat();
        Console::start(both.dir.path(), name, &all, Some(at)).expect_killed();
    };
    let into_new = ["--to", "new", "--from", "old"];
    for (n, at) in ["after:restoring.make", "after:restoring.write#2", "before:restoring.keep"].iter().enumerate() {
        kill(&format!("killed-{n}"), &into_new, at);
        assert_eq!(both.new_number("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), 0, "{at}");
    }
    // Killed behind the commit: it is there, and asked for again it says so.
    kill("killed-late", &into_new, "after:restoring.keep");
    let said = both.cutover(&["restore", "backup", "--to", "new", "--from", "old"], 0);
    assert_eq!(said.matches("there already, all of it").count(), 2, "{said}");
    assert_eq!(both.new_rows(), both.old_rows());

    let copy = ["--from", "papers", "--to", "papers", "--as", "notes=Copy"];
    kill("killed-items", &copy, "after:restoring.write#2");
    let held = |table: &str| both.runtime.block_on(papers.held(table));
    let some = held("Copy").len();
    assert!(some > 0 && some < 60, "{some}");
    let said = both.cutover(&[&["restore", "backup"], &copy[..]].concat(), 0);
    assert!(said.contains(&format!("{some} records of it were there already")), "{said}");
    assert_eq!(held("Copy"), held("Notes"));
}

/// Everything in a folder, as text.
fn everything(folder: &Path, out: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            everything(&path, out);
        } else if path.file_name().is_none_or(|name| name != "control.sock") {
            out.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()));
        }
    }
}

#[test]
fn a_backup_is_tried_on_private_stores_and_the_mapping_with_it() {
    let (papers, both) = exported();
    let at = |name: &str| both.dir.path().join(name);
    let before = (both.old_rows(), both.runtime.block_on(papers.held("Notes")));
    let said = both.cutover(&["rehearse", "--from-export", "backup", "--headless"], 0);
    assert!(said.contains("RESULT      finished") && said.contains("VERIFIED    visits"), "{said}");
    let verdict = "3 tables, 3560 records; of them 3560 rows arrived as they should, 0 differ, 0 parked, 0 expired\n";
    assert!(said.contains(verdict), "{said}");
    // None of the config's own stores was touched, and no value is anywhere in what was kept.
    assert_eq!(both.new_number("SELECT count(*) FROM pg_namespace WHERE nspname = 'cutover'"), 0);
    assert_eq!((both.old_rows(), both.runtime.block_on(papers.held("Notes"))), before);
    assert_eq!(both.kept(), Vec::<String>::new());
    let mut kept = said.clone();
    everything(&at("state"), &mut kept);
    assert!(kept.contains("rehearsal") && !kept.contains(HUSH), "a value is in the run folder");

    // A mapping that does not take every row is found before the night.
    let config = fs::read_to_string(at("config.toml")).unwrap();
    fs::write(
        at("config.toml"),
        config.replacen("name = { type = \"text\" }", "name = { type = \"varchar(9)\" }", 1).replacen(
            "name text, born date",
            "name varchar(9), born date",
            1,
        ),
    )
    .unwrap();
    let said = both.cutover(&["rehearse", "--from-export", "backup", "--headless", "--json"], 5);
    let verdict: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    // `person 100` and those after it are too long; they refer to by visits.
    assert!(verdict["parked"].as_u64().unwrap() >= 401 && verdict["clean"] == false, "{verdict:#}");
    // A backup that lacks a table of the plan proves nothing of it.
    both.cutover(&["export", "--table", "people", "--to", "part"], 0);
    let mut lacks = both.start(&["rehearse", "--from-export", "part", "--headless"]);
    lacks.expect_code(2);
    assert!(lacks.err().contains("holds no rows for notes, visits"), "{}", lacks.words());
    let mut bytes = fs::read(at("backup/people.ndjson.zst")).unwrap();
    bytes[40] ^= 1;
    fs::write(at("backup/people.ndjson.zst"), bytes).unwrap();
    both.cutover(&["rehearse", "--from-export", "backup", "--headless"], 7);
}
