//! `cutover export`: files that hold everything, or no files.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

#[cfg(feature = "failpoints")]
use super::console::Console;
use super::store_pair::StorePair;
use super::stores::{Databases, NOTES_V2, Notes};

fn stores() -> (Notes, Databases) {
    let papers = Notes::new();
    let both = Databases::with(&format!("{}[reverse]\nenabled = false\n", papers.store()), NOTES_V2);
    for table in ["Notes", "Notes-v2"] {
        both.runtime.block_on(papers.create(table));
    }
    (0..40).for_each(|n| both.runtime.block_on(papers.put(&format!("n{n}"), "before")));
    (papers, both)
}

fn lines(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    zstd::Decoder::new(fs::File::open(path).unwrap()).unwrap().read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_export_holds_every_record_says_of_which_moment_and_notices_a_changed_byte() {
    let (_papers, both) = stores();
    let said = both.cutover(&["export", "--to", "backup"], 0);
    assert!(said.contains("500 records of public.people") && said.contains("NOT of one moment"), "{said}");
    let backup = both.dir.path().join("backup");
    let manifest: Value = serde_json::from_slice(&fs::read(backup.join("manifest.json")).unwrap()).unwrap();
    let of = |id: &str| manifest["tables"].as_array().unwrap().iter().find(|t| t["id"] == id).unwrap().clone();
    assert_eq!(
        (&of("people")["records"], &of("visits")["records"], &of("notes")["records"]),
        (&500.into(), &3_000.into(), &40.into())
    );
    assert_eq!(of("people")["moment"], of("visits")["moment"], "one moment for all tables of a store");
    assert!(of("people")["moment"].is_string() && of("notes")["moment"].is_null(), "{manifest:#}");
    assert_eq!(of("people")["columns"][2], serde_json::json!(["born", "date"]));
    for file in fs::read_dir(&backup).unwrap() {
        StorePair::expect_private(file.unwrap().path().to_str().unwrap());
    }
    let password = fs::read_to_string(both.dir.path().join("password")).unwrap();
    assert!(!manifest.to_string().contains(password.trim()), "a secret is in the manifest");
    let people = lines(&backup.join("people.ndjson.zst"));
    let seventh = people.iter().find(|row| row["id"] == "7").unwrap();
    assert_eq!(seventh, &serde_json::json!({ "id": "7", "name": "person 7", "born": "1970-01-08" }));
    let notes = lines(&backup.join("notes.ndjson.zst"));
    assert!(notes.contains(&serde_json::json!({ "noteId": { "S": "n7" }, "words": { "S": "before" } })), "{notes:?}");

    let said = both.cutover(&["export", "--verify", "backup"], 0);
    assert!(said.contains("3 tables of people/test, 0 not as they were written"), "{said}");
    both.cutover(&["export", "--to", "backup"], 2);
    let path = backup.join("visits.ndjson.zst");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let said = both.cutover(&["export", "--verify", "backup"], 7);
    assert!(said.contains("FAIL  visits") && said.contains("SHA-256") && said.contains("ok    people"), "{said}");
    fs::write(&path, &bytes[..middle]).unwrap();
    let said = both.cutover(&["export", "--verify", "backup"], 7);
    assert!(said.contains("cannot be read to its end"), "{said}");
    // Nothing stays behind at the source, and one table alone can be had.
    assert_eq!(both.kept(), Vec::<String>::new());
    both.cutover(&["export", "--table", "people", "--to", "people"], 0);
    assert!(!both.dir.path().join("people/visits.ndjson.zst").exists());
    both.cutover(&["export", "--table", "poeple", "--to", "nothing"], 2);
    both.cutover(&["export", "--to", "nowhere/backup"], 1);
    assert!(!both.dir.path().join("nothing").exists() && !both.dir.path().join("nothing.partial").exists());
}

#[cfg(feature = "failpoints")]
#[test]
fn an_export_that_is_killed_leaves_nothing_that_looks_complete() {
    let (_papers, both) = stores();
    let args = ["--state-dir", "state", "export", "--to", "backup"];
    let mut killed = Console::start(both.dir.path(), "killed-export", &args, Some("after:source.page#2"));
    killed.expect_killed();
    let at = |name: &str| both.dir.path().join(name);
    // The tables of the other store were whole by then.
    assert!(at("backup.partial/visits.ndjson.zst").exists() && !at("backup").exists());
    both.cutover(&["export", "--verify", "backup"], 1);
    both.cutover(&["export", "--verify", "backup.partial"], 7);
    both.cutover(&["export", "--to", "backup"], 2);
    fs::remove_dir_all(at("backup.partial")).unwrap();
    both.cutover(&["export", "--to", "backup"], 0);
    both.cutover(&["export", "--verify", "backup"], 0);
}
