//! What an audit must find, and what it must not call tampering.

use std::path::Path;

use proptest::prelude::*;

use super::super::frame::{Beside, Format, seal_fact, seal_header};
use super::super::sample_events::facts;
use super::super::*;
use super::{Damage, audit, inspect};
use crate::domain::at::At;
use crate::domain::gauge::Measured;
use crate::domain::plan::Plan;
use crate::domain::run::{Actor, Amended, Cause, Event, Fact, Level};

fn header() -> Header {
    Header::new("run-1", &plan().hash(), "alice", "bastion-2", At(1))
}

fn plan() -> Plan {
    let text = r#"{"name":"shop","environment":"test","production":false,"t0":null,"downtime_budget_ms":1,"tables":[],
        "stays":[],"switches":[],"freeze":null,"probes":[],"signals":[],"gates":[],"steps":[
        {"id":"load","title":"load","at_ms":0,"takes_ms":0,"owner":"","kind":"load","start":"when_ready",
         "confirm":"none","undo":""}],"load":{"segments":1,"workers":1,"read_budget_rcu":null},
        "follow":{"poll_ms":1,"batch":1,"marker_every_ms":1},
        "verify":{"floor":1.0,"settle_ms":1,"segments":1,"list_limit":1}}"#;
    serde_json::from_str(text).unwrap()
}

fn note(seq: u64) -> Fact {
    let event = Event::Note { level: Level::Info, source: "test".to_owned(), text: format!("note {seq}") };
    Fact { seq, at: At(seq as i64), event }
}

fn bytes_of(facts: &[Fact]) -> Vec<u8> {
    let mut chain = String::new();
    let mut text = seal_header(&header(), &mut chain).unwrap();
    for fact in facts {
        text += &seal_fact(fact, Beside::default(), &mut chain).unwrap();
    }
    text.into_bytes()
}

fn found(bytes: &[u8]) -> Vec<Damage> {
    inspect::file(Path::new("j"), bytes).map(|(_, found)| found).unwrap()
}

fn lines_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_byte_is_found_where_it_is(
        facts in facts(6), place in any::<prop::sample::Index>(), by in 1..=255_u8,
    ) {
        let good = bytes_of(&facts);
        let mut bytes = good.clone();
        let place = place.index(bytes.len());
        bytes[place] ^= by;
        let found = found(&bytes);
        prop_assert_eq!(found.len(), 1, "{:?}", found);
        prop_assert_eq!(found[0].byte, Some(place as u64), "{:?}", found);
        let line = good[..place].iter().filter(|b| **b == b'\n').count();
        prop_assert_eq!(found[0].fact, Some(line as u64), "the header is fact 0");
    }

    #[test]
    fn untouched_files_are_clean_and_a_cut_is_never_called_a_change(
        facts in facts(6), cut in any::<prop::sample::Index>(),
    ) {
        let bytes = bytes_of(&facts);
        prop_assert_eq!(found(&bytes), vec![]);
        let cut = cut.index(bytes.len() + 1);
        match inspect::file(Path::new("j"), &bytes[..cut]) {
            Ok((file, found)) => {
                prop_assert_eq!(found, vec![]);
                let whole = bytes[..cut].split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n")).count();
                prop_assert!(file.facts as usize + 1 >= whole);
                let torn = !bytes[..cut].ends_with(b"\n") && bytes.get(cut) != Some(&b'\n');
                prop_assert_eq!(file.torn.is_some(), torn);
            }
            Err(e) => prop_assert!(matches!(e, JournalError::NoHeader { .. }), "{}", e),
        }
    }

    #[test]
    fn lines_taken_out_moved_or_doubled_are_found(
        facts in facts(8), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(), how in 0..3_u8,
    ) {
        prop_assume!(facts.len() >= 3);
        let mut lines = lines_of(&bytes_of(&facts));
        // Removing the last line is a cut at the end, which cannot be distinguished from a crash before it.
        let (a, b) = (1 + a.index(facts.len() - 1), 1 + b.index(facts.len()));
        match how {
            0 => drop(lines.remove(a)),
            1 => {
                prop_assume!(a != b);
                lines.swap(a, b);
            }
            _ => lines.insert(b, lines[a].clone()),
        }
        let found = found(&lines.concat());
        prop_assert!(!found.is_empty());
        let first = found[0].from as usize;
        prop_assert!(first >= lines[0].len(), "the header is whole");
    }

    #[test]
    fn bytes_taken_out_or_put_in_are_found(
        facts in facts(6), a in any::<prop::sample::Index>(), length in 1..200_usize, put in any::<Vec<u8>>(),
    ) {
        prop_assume!(facts.len() >= 2);
        let good = bytes_of(&facts);
        let first = lines_of(&good)[0].len();
        let last = good.len() - lines_of(&good).last().unwrap().len();
        // Somewhere in the middle: after the header, before the last line.
        let from = first + a.index(last - first);
        let to = (from + length).min(last);
        let changed = [&good[..from], &put, &good[to..]].concat();
        prop_assume!(changed != good);
        prop_assert!(!found(&changed).is_empty());
    }

    #[test]
    fn bytes_from_nowhere_are_refused_or_found(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok((_, found)) = inspect::file(Path::new("j"), &bytes) {
            prop_assert!(!found.is_empty());
        }
    }
}

#[test]
fn a_fact_that_was_sealed_again_is_found_by_the_chain() {
    let good = bytes_of(&[note(1), note(2), note(3)]);
    let mut lines = lines_of(&good);
    let lie = Fact { event: Event::Decided { by: Actor::Auto }, ..note(2) };
    let mut wrong_chain = "0".repeat(32);
    lines[2] = seal_fact(&lie, Beside::default(), &mut wrong_chain).unwrap().into_bytes();
    let found = found(&lines.concat());
    assert!(found[0].what.contains("checksum made again"), "{found:?}");
    assert_eq!((found[0].fact, found[0].line), (Some(2), Some(3)));
    assert_eq!(found[0].from as usize, lines[0].len() + lines[1].len());
}

#[test]
fn a_lost_line_and_a_swap_are_told_apart() {
    let lines = lines_of(&bytes_of(&[note(1), note(2), note(3), note(4)]));
    let without = [&lines[0][..], &lines[1], &lines[3], &lines[4]].concat();
    let lost = found(&without);
    assert_eq!(lost.len(), 1, "what follows the gap is whole: {lost:?}");
    assert!(lost[0].what.contains("fact #2 was taken out"), "{lost:?}");
    let swapped = found(&[&lines[0][..], &lines[1], &lines[3], &lines[2], &lines[4]].concat());
    assert_eq!(swapped.len(), 2, "{swapped:?}");
    assert!(swapped[1].what.contains("fact #2 stands after #3"), "{swapped:?}");
}

fn folder() -> (tempfile::TempDir, RunFolder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(dir.path(), "shop", At(0)).unwrap();
    folder.write("plan.json", &serde_json::to_vec(&plan()).unwrap()).unwrap();
    (dir, folder)
}

fn opened() -> Fact {
    let steps = plan().steps.iter().map(|s| s.id.clone()).collect();
    let event = Event::RunOpened {
        run: "run-1".to_owned(),
        plan: "shop".to_owned(),
        plan_hash: plan().hash(),
        environment: "test".to_owned(),
        operator: "alice".to_owned(),
        host: "bastion-2".to_owned(),
        version: "0".to_owned(),
        t0: At(9),
        steps,
        callers: Default::default(),
    };
    Fact { seq: 1, at: At(1), event }
}

#[test]
fn every_file_of_a_run_is_audited() {
    let (_dir, folder) = folder();
    let mut main = JournalWriter::create(&folder, &header()).unwrap();
    main.append(&[opened(), note(2)]).unwrap();
    let (mut side, _) = JournalWriter::create_side(&folder, &header(), "bastion-1.4711").unwrap();
    let ordered = Event::RollbackOrdered { by: Actor::Terminal("bob".to_owned()), cause: Cause::Asked };
    side.append(&[Fact { event: ordered, ..note(3) }]).unwrap();
    side.append(&[Fact { event: Event::RolledBack { took_ms: 1, evidence: vec![] }, ..note(4) }]).unwrap();
    let whole = audit(&folder).unwrap();
    assert_eq!(whole.findings, vec![]);
    assert_eq!((whole.files.len(), whole.record.facts.len(), whole.ended), (2, 4, true));
    assert!(whole.holds(&whole.files[1].head) && whole.holds(&whole.files[0].head));
    assert!(!whole.holds("deadbeef"));

    let path = folder.side_journal("bastion-1.4711");
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    let place = bad.len() - 20;
    bad[place] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let damaged = audit(&folder).unwrap();
    assert_eq!(damaged.findings[0].path, path);
    assert_eq!(damaged.findings[0].byte, Some(place as u64));

    std::fs::write(&path, &good).unwrap();
    std::fs::write(folder.plan(), b"{}").unwrap();
    assert_eq!(audit(&folder).unwrap().findings[0].path, folder.plan());
}

#[test]
fn a_journal_cut_at_a_line_is_betrayed_by_the_samples() {
    let (_dir, folder) = folder();
    JournalWriter::create(&folder, &header()).unwrap().append(&[opened(), note(2), note(3)]).unwrap();
    let measured = Measured { journal_seq: Some(3), ..Measured::default() };
    let kept = SampleWriter::open(&folder.samples()).unwrap().offer(At(3), &measured);
    assert_eq!(kept, Offered::Kept);
    assert_eq!(audit(&folder).unwrap().findings, vec![]);
    let lines = lines_of(&std::fs::read(folder.journal()).unwrap());
    std::fs::write(folder.journal(), lines[..3].concat()).unwrap();
    let cut = audit(&folder).unwrap();
    assert!(cut.findings[0].what.contains("saw fact #3"), "{:?}", cut.findings);
    assert!(!cut.ended);
}

#[test]
fn other_versions_are_read_or_refused_by_name() {
    let with = |major, minor| {
        let (dir, folder) = folder();
        let header = Header { format: Format { major, minor }, tool: "9.9".to_owned(), ..header() };
        let mut chain = String::new();
        let mut text = seal_header(&header, &mut chain).unwrap();
        text += &seal_fact(&opened(), Beside::default(), &mut chain).unwrap();
        std::fs::write(folder.journal(), text).unwrap();
        (dir, audit(&folder))
    };
    for minor in [0, FORMAT_MINOR, FORMAT_MINOR + 1] {
        assert_eq!(with(FORMAT_MAJOR, minor).1.unwrap().findings, vec![], "minor {minor}");
    }
    assert!(matches!(with(FORMAT_MAJOR + 1, 0).1, Err(JournalError::UnknownFormat { .. })));
}

#[test]
fn facts_that_fit_and_cannot_have_happened_are_found() {
    let (_dir, folder) = folder();
    let impossible = Fact { event: Event::RunFinished, ..note(2) };
    JournalWriter::create(&folder, &header()).unwrap().append(&[opened(), impossible]).unwrap();
    let found = audit(&folder).unwrap().findings;
    assert_eq!(found[0].fact, Some(2), "{found:?}");
}

fn amended(seq: u64, from: &Plan, to: &Plan) -> Fact {
    let event = Event::PlanAmended(Amended {
        from: from.hash(),
        to: to.hash(),
        by: Actor::Terminal("bob".to_owned()),
        host: "bastion-1".to_owned(),
        t0: At(9),
        gates: vec![],
        changes: vec![],
    });
    Fact { event, ..note(seq) }
}

#[test]
fn every_plan_a_run_went_by_is_part_of_its_record() {
    let (_dir, folder) = folder();
    let (old, new) = (plan(), Plan { downtime_budget_ms: 2, ..plan() });
    let keep = |plan: &Plan| folder.write(&RunFolder::plan_name(&plan.hash()), &serde_json::to_vec(plan).unwrap());
    // Begun by a program that did not know amendments, and resumed by this one.
    let begun = Header { format: Format { major: FORMAT_MAJOR, minor: 2 }, ..header() };
    JournalWriter::create(&folder, &begun).unwrap().append(&[opened(), note(2)]).unwrap();
    keep(&old).unwrap();
    keep(&new).unwrap();
    assert_eq!(audit(&folder).unwrap().findings, vec![], "cut off before the fact");
    let (mut main, _) = JournalWriter::reopen(&folder).unwrap();
    main.append(&[amended(3, &old, &new)]).unwrap();
    assert_eq!(audit(&folder).unwrap().findings, vec![], "cut off after the fact");
    folder.write("plan.json", &serde_json::to_vec(&new).unwrap()).unwrap();
    let header = Header { plan_hash: new.hash(), ..header() };
    let (mut side, _) = JournalWriter::create_side(&folder, &header, "bastion-1.4711").unwrap();
    let ordered = Event::RollbackOrdered { by: Actor::Terminal("bob".to_owned()), cause: Cause::Asked };
    side.append(&[Fact { event: ordered, ..note(4) }]).unwrap();
    let whole = audit(&folder).unwrap();
    assert_eq!(whole.findings, vec![]);
    assert_eq!(fold(&whole.record.facts).unwrap().plan_hash, new.hash());

    // The plan before is gone, then another one than it was, then plan.json is none of them.
    std::fs::remove_file(folder.plan_of(&old.hash())).unwrap();
    let gone = audit(&folder).unwrap().findings;
    assert_eq!((gone.len(), &gone[0].path), (1, &folder.plan_of(&old.hash())), "{gone:?}");
    folder.write(&RunFolder::plan_name(&old.hash()), &serde_json::to_vec(&new).unwrap()).unwrap();
    assert!(audit(&folder).unwrap().findings[0].what.contains("is another plan"));
    keep(&old).unwrap();
    let other = Plan { downtime_budget_ms: 3, ..plan() };
    folder.write("plan.json", &serde_json::to_vec(&other).unwrap()).unwrap();
    assert_eq!(audit(&folder).unwrap().findings[0].path, folder.plan());
    folder.write("plan.json", &serde_json::to_vec(&new).unwrap()).unwrap();
    // Damage before the amendment hides it, and is the only finding.
    let mut bytes = std::fs::read(folder.journal()).unwrap();
    let place = String::from_utf8(bytes.clone()).unwrap().find("note 2").unwrap();
    bytes[place] ^= 1;
    std::fs::write(folder.journal(), bytes).unwrap();
    let damaged = audit(&folder).unwrap().findings;
    assert!(damaged.len() == 1 && damaged[0].path == folder.journal(), "{damaged:?}");
}
