//! Readings that write nothing, over trouble that passes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::faults::{Fault, Op};
use super::world::World;
use crate::domain::value::Value;
use crate::ports::{ErrorKind, PortResult, Source as _};
use crate::workers::{DryRun, DryRunProgress, ExportLines, ExportPace, Extent, ReadBudget, dry_run, export_pages};

fn stocked() -> World {
    let world = World::new();
    for n in 0..40 {
        world.book_of(&format!("b{n:02}"), &format!("{n}.50"), Some(&format!("isbn-{n}")), None);
    }
    world
}

async fn run(world: &World, extent: Extent) -> PortResult<DryRun> {
    let (budget, progress) = (Arc::new(ReadBudget::new(None)), Arc::new(DryRunProgress::default()));
    let found = dry_run(&world.plan, &world.ports(), world.table("books"), extent, &budget, &progress).await?;
    assert_eq!(progress.records.load(Ordering::Relaxed), found.profile.records());
    Ok(found)
}

#[tokio::test]
async fn a_dry_run_counts_each_record_once_over_trouble_that_passes_and_writes_nothing() {
    let world = stocked();
    world.old.put_marker(world.table("books"), "nonce").await.unwrap();
    world.faults.put(Op::Page, "books", 3, 2, Fault::Refuse(ErrorKind::Throttled));
    let found = run(&world, Extent::Whole).await.unwrap();
    assert_eq!((found.profile.records(), found.profile.sizes().rows, found.whole), (40, 40, true));
    assert_eq!(world.faults.struck(), 2);

    // Pages of the test's store hold three items: what is wanted is read on for, spread over the parts.
    let few = run(&world, Extent::Sample(10)).await.unwrap();
    assert_eq!((few.profile.records(), few.whole), (10, false));
    let all = run(&world, Extent::Sample(1_000)).await.unwrap();
    assert_eq!((all.profile.records(), all.whole), (40, true));
    let stored = world.new.table(world.table("books"));
    assert!(stored.rows.is_empty() && stored.checkpoints.is_empty(), "something was written");

    world.faults.put(Op::Page, "books", 0, u32::MAX, Fault::Refuse(ErrorKind::Denied));
    assert_eq!(run(&world, Extent::Whole).await.unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn items_whose_ttl_never_removes_them_are_counted_and_named() {
    let world = stocked();
    let now = world.ports().clock.wall().0.div_euclid(1000);
    let five_years = now - 5 * 365 * 86_400;
    // Past its time, long past it, longer, and what is no time at all.
    for (id, at) in [("b01", now - 60), ("b02", five_years - 60), ("b03", 0), ("b04", now + 60)] {
        let mut item = super::world::book_item(id, "1.00", Some(id), None);
        item.fields.push(("expires".into(), Value::Decimal(at.to_string().into())));
        world.old.put(world.table("books"), item);
    }
    let never = run(&world, Extent::Whole).await.unwrap().never_expire.expect("the table has a TTL");
    let mut keys = never.found.keys.clone();
    keys.sort();
    assert_eq!((never.attribute.as_str(), never.of, never.found.times), ("expires", 40, 2));
    assert!(keys.len() == 2 && keys[0].contains("b02") && keys[1].contains("b03"), "{keys:?}");
}

#[tokio::test]
async fn an_export_has_each_record_once_and_none_of_our_markers() {
    let world = stocked();
    let books = world.table("books");
    world.old.put_marker(books, "nonce").await.unwrap();
    world.faults.put(Op::Page, "books", 2, 2, Fault::FailAfter(ErrorKind::TimedOut));
    let (sink, mut lines) = mpsc::channel::<ExportLines>(1);
    let (source, budget) = (Arc::clone(world.ports().source(books)), Arc::new(ReadBudget::new(None)));
    let table = books.clone();
    let pace = ExportPace { segments: 3, workers: 2 };
    let reading = tokio::spawn(async move { export_pages(&source, &table, pace, &budget, &sink).await });
    let (mut all, mut records) = (Vec::new(), 0);
    while let Some(piece) = lines.recv().await {
        records += piece.records;
        all.extend(piece.lines);
    }
    assert_eq!(reading.await.unwrap().unwrap(), None, "a store that sells no reads");
    let text = String::from_utf8(all).unwrap();
    let each: BTreeSet<&str> = text.lines().collect();
    assert_eq!((each.len(), records, text.contains("nonce")), (40, 40, false));
    assert!(text.contains(r#""id":{"S":"b07"}"#), "{text}");
}
