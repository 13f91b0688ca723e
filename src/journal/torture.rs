//! What a crash or a bad disk may do to a journal: cut it anywhere, flip any bit, fill the disk.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::frame::{Beside, Format, seal_fact, seal_header};
use super::reader::recover;
use super::sample_events::{KINDS, facts, of_kind};
use super::*;
use crate::domain::at::At;
use crate::domain::run::{Action, Actor, Cause, Event, Fact, Level, RunStatus, SwitchStatus};

fn header() -> Header {
    Header::new("run-1", "abc123", "alice", "bastion-2", At(1))
}

fn note(seq: u64, at: i64) -> Fact {
    let event = Event::Note { level: Level::Info, source: "test".to_owned(), text: format!("note {seq}") };
    Fact { seq, at: At(at), event }
}

fn opened() -> Fact {
    let event = Event::RunOpened {
        run: "run-1".to_owned(),
        plan: "shop".to_owned(),
        plan_hash: "abc123".to_owned(),
        environment: "test".to_owned(),
        operator: "alice".to_owned(),
        host: "bastion-2".to_owned(),
        version: "0".to_owned(),
        t0: At(9),
        steps: vec!["load".to_owned()],
        callers: Default::default(),
    };
    Fact { seq: 1, at: At(1), event }
}

fn folder() -> (tempfile::TempDir, RunFolder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(dir.path(), "shop", At(0)).unwrap();
    (dir, folder)
}

/// A file's bytes without a disk.
fn bytes_of(facts: &[Fact]) -> Vec<u8> {
    let mut chain = String::new();
    let mut text = seal_header(&header(), &mut chain).unwrap();
    for fact in facts {
        text += &seal_fact(fact, Beside::default(), &mut chain).unwrap();
    }
    text.into_bytes()
}

fn strict(bytes: &[u8]) -> Result<Recovered, JournalError> {
    match recover(Path::new("j"), bytes)? {
        (found, None) => Ok(found),
        (_, Some(e)) => Err(e),
    }
}

fn file_with(header: &Header, facts: &[Fact]) -> (tempfile::TempDir, RunFolder) {
    let (dir, folder) = folder();
    let mut chain = String::new();
    let mut text = seal_header(header, &mut chain).unwrap();
    for fact in facts {
        text += &seal_fact(fact, Beside::default(), &mut chain).unwrap();
    }
    std::fs::write(folder.journal(), text).unwrap();
    (dir, folder)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_was_appended_is_read(facts in facts(12), split in 0..12_usize) {
        let (_dir, folder) = folder();
        let mut writer = JournalWriter::create(&folder, &header()).unwrap();
        let split = split.min(facts.len());
        writer.append(&facts[..split]).unwrap();
        drop(writer);
        let (mut writer, record) = JournalWriter::reopen(&folder).unwrap();
        prop_assert_eq!(&record.facts[..], &facts[..split]);
        writer.append(&facts[split..]).unwrap();
        let found = read(&folder.journal()).unwrap();
        prop_assert_eq!(found.facts, facts);
        prop_assert_eq!(found.header, header());
        prop_assert!(found.torn_tail.is_none());
    }

    #[test]
    fn a_cut_anywhere_keeps_a_prefix(facts in facts(6), cut in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&facts);
        let cut = cut.index(bytes.len() + 1);
        match strict(&bytes[..cut]) {
            Ok(found) => {
                prop_assert!(facts.starts_with(&found.facts));
                // Every fact whose line is whole is kept: at most the one that was cut is gone.
                let whole = bytes[..cut].iter().filter(|b| **b == b'\n').count().saturating_sub(1);
                prop_assert!(found.facts.len() >= whole);
            }
            Err(e) => prop_assert!(matches!(e, JournalError::NoHeader { .. }), "{}", e),
        }
    }

    #[test]
    fn a_flipped_bit_is_never_believed(facts in facts(6), place in any::<prop::sample::Index>(), bit in 0..8_u8) {
        // Without facts the last line is the header, which the test above covers.
        prop_assume!(!facts.is_empty());
        let good = bytes_of(&facts);
        let mut bytes = good.clone();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let last_line = good[..good.len() - 1].iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        match strict(&bytes) {
            // Only the very last line may be left out, and only as torn.
            Ok(found) => {
                prop_assert!(place >= last_line && found.torn_tail.is_some(), "byte {} bit {}", place, bit);
                prop_assert_eq!(&found.facts[..], &facts[..facts.len() - 1]);
            }
            Err(JournalError::Damaged { line, .. }) => {
                let broken = 1 + good[..place].iter().filter(|b| **b == b'\n').count();
                prop_assert_eq!(line, broken);
            }
            Err(e) => prop_assert_eq!(e.line(), Some(1)),
        }
    }

    #[test]
    fn bytes_from_nowhere_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(strict(&bytes).is_err());
    }
}

#[test]
fn every_event_survives_the_round_trip() {
    for kind in 0..KINDS {
        proptest!(ProptestConfig { cases: 16, ..ProptestConfig::default() }, |(event in of_kind(kind))| {
            let fact = Fact { seq: 1, at: At(3), event };
            prop_assert_eq!(strict(&bytes_of(std::slice::from_ref(&fact))).unwrap().facts, vec![fact]);
        });
    }
}

#[test]
fn a_cut_at_every_byte_can_be_taken_up_again() {
    let facts = [note(1, 1), note(2, 2), note(3, 3)];
    let bytes = bytes_of(&facts);
    let (_dir, folder) = folder();
    let header_end = bytes.iter().position(|b| *b == b'\n').unwrap();
    for cut in 0..=bytes.len() {
        std::fs::write(folder.journal(), &bytes[..cut]).unwrap();
        match JournalWriter::reopen(&folder) {
            Ok((mut writer, record)) => {
                let next = writer.next_seq();
                assert_eq!(record.facts.len() as u64 + 1, next);
                writer.append(&[note(next, 9)]).unwrap();
                let after = read(&folder.journal()).unwrap();
                assert_eq!(after.facts.last(), Some(&note(next, 9)), "cut at {cut}");
                assert_eq!(&after.facts[..after.facts.len() - 1], &facts[..after.facts.len() - 1]);
                assert!(after.torn_tail.is_none());
            }
            Err(JournalError::NoHeader { .. }) => assert!(cut < header_end, "cut at {cut}"),
            Err(e) => panic!("cut at {cut}: {e}"),
        }
    }
}

#[test]
fn a_lost_line_in_the_middle_is_named() {
    let bytes = bytes_of(&[note(1, 1), note(2, 2), note(3, 3)]);
    let text = String::from_utf8(bytes).unwrap();
    let without: String = text.lines().enumerate().filter(|(i, _)| *i != 2).map(|(_, l)| format!("{l}\n")).collect();
    let error = strict(without.as_bytes()).unwrap_err();
    assert_eq!(error.line(), Some(3), "{error}");
    let swapped: Vec<&str> = text.lines().collect();
    let swapped = [swapped[0], swapped[2], swapped[1], swapped[3], ""].join("\n");
    assert_eq!(strict(swapped.as_bytes()).unwrap_err().line(), Some(2));
}

#[test]
fn a_resealed_lie_is_a_gap() {
    // The checks fit, the numbers do not.
    let error = strict(&bytes_of(&[note(1, 1), note(3, 3)])).unwrap_err();
    assert!(error.to_string().contains("#3 follows #1"), "{error}");
}

#[test]
fn salvage_keeps_what_comes_before_the_damage() {
    let (_dir, folder) = folder();
    let mut bytes = bytes_of(&[note(1, 1), note(2, 2), note(3, 3)]);
    let middle = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).unwrap().0 + 60;
    bytes[middle] ^= 1;
    std::fs::write(folder.journal(), &bytes).unwrap();
    assert_eq!(read_run(&folder).unwrap_err().line(), Some(3));
    let (record, wrong) = salvage_run(&folder).unwrap();
    assert_eq!(record.facts, [note(1, 1)]);
    assert_eq!(wrong.len(), 1);
    assert!(JournalWriter::reopen(&folder).is_err());
}

#[test]
fn newer_minor_is_read_only_and_another_major_is_refused() {
    let with = |major, minor| Header { format: Format { major, minor }, tool: "9.9".to_owned(), ..header() };
    let (_a, newer) = file_with(&with(FORMAT_MAJOR, FORMAT_MINOR + 1), &[note(1, 1)]);
    assert_eq!(read(&newer.journal()).unwrap().facts, [note(1, 1)]);
    let before = std::fs::read(newer.journal()).unwrap();
    let refused = JournalWriter::reopen(&newer).unwrap_err();
    assert!(matches!(&refused, JournalError::NewerFormat { tool, .. } if tool == "9.9"), "{refused}");
    assert_eq!(std::fs::read(newer.journal()).unwrap(), before);

    let (_b, other) = file_with(&with(FORMAT_MAJOR + 1, 0), &[note(1, 1)]);
    let refused = read(&other.journal()).unwrap_err();
    assert!(matches!(refused, JournalError::UnknownFormat { .. }), "{refused}");
    // Sealed in a way nobody here knows.
    std::fs::write(
        other.journal(),
        "{\"format\":{\"major\":7,\"minor\":2},\"tool\":\"7.1\",\"seal\":\"blake3:00000000000000\"}\n",
    )
    .unwrap();
    let refused = read(&other.journal()).unwrap_err();
    assert!(matches!(refused, JournalError::UnknownFormat { major: 7, minor: 2, .. }), "{refused}");
}

#[test]
fn facts_that_do_not_follow_are_not_written() {
    let (_dir, folder) = folder();
    let mut writer = JournalWriter::create(&folder, &header()).unwrap();
    assert!(writer.append(&[note(1, 1), note(3, 3)]).is_err());
    assert!(writer.append(&[note(2, 2)]).is_err());
    writer.append(&[note(1, 1)]).unwrap();
    assert_eq!(read(&folder.journal()).unwrap().facts, [note(1, 1)]);
    assert!(JournalWriter::create(&folder, &header()).is_err(), "a journal is never overwritten");
}

#[test]
fn a_full_disk_is_an_error_and_not_a_panic() {
    let (_dir, folder) = folder();
    std::fs::write(folder.journal(), bytes_of(&[note(1, 1)])).unwrap();
    let (mut writer, _) = JournalWriter::reopen(&folder).unwrap();
    writer.redirect(Path::new("/dev/full")).unwrap();
    let error = writer.append(&[note(2, 2)]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(writer.next_seq(), 2, "nothing was acknowledged");
}

#[test]
fn a_full_disk_has_room_for_the_way_back() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, folder) = folder();
    let mut writer = JournalWriter::create(&folder, &header()).unwrap();
    writer.append(&[opened()]).unwrap();
    writer.make_room().unwrap();
    let on_disk = std::fs::metadata(folder.journal()).unwrap();
    assert!(on_disk.len() < 4096, "nothing is written that a reader would find");
    assert!(on_disk.blocks() * 512 > 1 << 20, "this file system sets no space aside");
    // What comes from now on fits into it, and no more is to be had.
    let disk = writer.disk();
    disk.full.store(true, std::sync::atomic::Ordering::Release);
    assert_eq!(writer.make_room().unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    for seq in 2..200 {
        writer.append(&[note(seq, 1)]).unwrap();
    }
    drop(writer);
    // Another process, and the space is still there.
    let (_, record) = JournalWriter::reopen(&folder).unwrap();
    assert_eq!(record.facts.len(), 199);
    assert!(std::fs::metadata(folder.journal()).unwrap().blocks() * 512 > 1 << 20);
}

#[test]
fn the_last_fact_is_placed_in_the_time_since_the_machine_started() {
    let (_dir, folder) = folder();
    let Some(boot) = crate::journal::boot_id() else { return };
    let before = crate::journal::since_boot_ms();
    let mut writer = JournalWriter::create(&folder, &header()).unwrap();
    writer.append(&[opened()]).unwrap();
    writer.append(&[note(2, 77)]).unwrap();
    drop(writer);
    let placed = |at: i64| {
        let last = read_run(&folder).unwrap().last_time.expect("it is known");
        assert_eq!((last.at, last.boot.as_str()), (At(at), boot.as_str()));
        assert!((before..=crate::journal::since_boot_ms()).contains(&last.since_boot_ms), "{last:?}");
    };
    placed(77);
    // Another process says anew where it counts from.
    let (mut writer, _) = JournalWriter::reopen(&folder).unwrap();
    writer.append(&[note(3, 99)]).unwrap();
    placed(99);
}

#[test]
fn a_process_that_did_not_say_where_it_counts_from_leaves_that_unknown() {
    let mut chain = String::new();
    let boot = super::boot::Boot { id: "b".to_owned(), ms: 1_000 };
    let mut text = seal_header(&header(), &mut chain).unwrap();
    let frames = [(opened(), 5, Some(&boot)), (note(2, 2), 9, None), (note(3, 3), 0, None)];
    let mut known = Vec::new();
    for (fact, mono, boot) in frames {
        text += &seal_fact(&fact, Beside { mono, boot, ..Beside::default() }, &mut chain).unwrap();
        let (found, _) = super::reader::recover(Path::new("x"), text.as_bytes()).unwrap();
        known.push(found.last_time.map(|t| t.since_boot_ms));
    }
    assert_eq!(known, [Some(1_005), Some(1_009), None]);
}

#[test]
fn side_facts_follow_what_their_writer_saw() {
    let (_dir, folder) = folder();
    let mut main = JournalWriter::create(&folder, &header()).unwrap();
    main.append(&[opened(), note(2, 20)]).unwrap();
    // The driver hangs; another terminal rolls back.
    let (mut side, seen) = JournalWriter::create_side(&folder, &header(), "bastion-1.4711").unwrap();
    assert_eq!(seen.facts.len(), 2);
    side.append(&[note(3, 30)]).unwrap();
    side.append(&[note(4, 40)]).unwrap();
    let record = read_run(&folder).unwrap();
    assert_eq!(record.facts, [opened(), note(2, 20), note(3, 30), note(4, 40)]);
    assert_eq!((record.sides.len(), record.sides[0].facts), (1, 2));
    assert_eq!(record.sides[0].holder, "bastion-1.4711");
    assert_eq!(fold(&record.facts).unwrap().last_seq, 4);

    // The run is resumed: it goes on after the side's facts, and stays readable.
    drop(main);
    let (mut main, _) = JournalWriter::reopen(&folder).unwrap();
    assert_eq!(main.next_seq(), 5);
    main.append(&[note(5, 35), note(6, 50)]).unwrap();
    drop(main);
    let (main, record) = JournalWriter::reopen(&folder).unwrap();
    assert_eq!(main.next_seq(), 7);
    let order: Vec<i64> = record.facts.iter().map(|f| f.at.0).collect();
    assert_eq!(order, [1, 20, 30, 40, 35, 50]);

    // Without the side journal the main one is refused, because it is not whole.
    std::fs::remove_file(&record.sides[0].path).unwrap();
    let error = read_run(&folder).unwrap_err();
    assert!(matches!(error, JournalError::Missing { after: 4, have: 2, .. }), "{error}");
}

#[test]
fn a_driver_that_woke_up_is_merged_by_time() {
    let (_dir, folder) = folder();
    let mut main = JournalWriter::create(&folder, &header()).unwrap();
    main.append(&[opened()]).unwrap();
    let (mut side, _) = JournalWriter::create_side(&folder, &header(), "b").unwrap();
    side.append(&[Fact { event: Event::Decided { by: Actor::Auto }, ..note(2, 20) }]).unwrap();
    main.append(&[note(2, 10), note(3, 30)]).unwrap();
    side.append(&[note(3, 40)]).unwrap();
    let record = read_run(&folder).unwrap();
    let order: Vec<(u64, i64)> = record.facts.iter().map(|f| (f.seq, f.at.0)).collect();
    assert_eq!(order, [(1, 1), (2, 10), (3, 20), (4, 30), (5, 40)]);
    assert!(JournalWriter::create_side(&folder, &header(), "b").is_err(), "one holder, one file");
}

#[test]
fn what_an_overtaken_driver_still_recorded_is_a_note() {
    let (_dir, folder) = folder();
    let mut main = JournalWriter::create(&folder, &header()).unwrap();
    main.append(&[opened()]).unwrap();
    let (mut side, seen) = JournalWriter::create_side(&folder, &header(), "b").unwrap();
    assert_eq!(seen.facts.len(), 1);
    let asked = Event::RollbackOrdered { by: Actor::Operator("bob".into()), cause: Cause::Asked };
    side.append(&[Fact { event: asked, ..note(2, 20) }]).unwrap();
    // The driver was slow and starts a step all the same.
    let started = Event::StepStarted { step: "load".into(), attempt: 1 };
    main.append(&[note(2, 10), Fact { event: started, ..note(3, 30) }]).unwrap();
    side.append(&[Fact { event: Event::RolledBack { evidence: vec![], took_ms: 5 }, ..note(3, 40) }]).unwrap();
    let record = read_run(&folder).unwrap();
    let state = fold(&record.facts).unwrap();
    assert_eq!(state.status, RunStatus::RolledBack);
    assert!(matches!(&record.facts[3].event, Event::Note { text, .. } if text.contains("step_started")), "{record:?}");
    // A switch it was about to set may have moved.
    let action = Action::SetSwitch { switch: "reads".into(), to: "x".into(), position: None };
    let set = Event::Intent { id: "reads/1".into(), step: Some("load".into()), action };
    main.append(&[Fact { event: set, ..note(4, 45) }]).unwrap();
    let state = fold(&read_run(&folder).unwrap().facts).unwrap();
    assert_eq!((state.status, state.switches["reads"].standing), (RunStatus::RolledBack, SwitchStatus::Unknown));
    // Without an overtaking there is no such excuse.
    std::fs::remove_file(&record.sides[0].path).unwrap();
    main.append(&[Fact { event: Event::RolledBack { evidence: vec![], took_ms: 5 }, ..note(5, 50) }]).unwrap();
    assert!(fold(&read_run(&folder).unwrap().facts).is_err());
}

#[test]
fn an_empty_side_journal_says_nothing() {
    let (_dir, folder) = folder();
    let mut main = JournalWriter::create(&folder, &header()).unwrap();
    main.append(&[opened()]).unwrap();
    let path: PathBuf = folder.side_journal("dead");
    std::fs::write(path, "").unwrap();
    assert_eq!(read_run(&folder).unwrap().facts.len(), 1);
}
