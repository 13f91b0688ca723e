//! How much of its log a source keeps for us is measured by the server's own words, from the slot's making to its loss.

use std::sync::Arc;

use super::TestDatabase;
use super::day::{Day, plan};
use super::log::settings_of;
use super::neighbours::{connect_once_up, own_server, until};
use super::{column, key};
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::domain::gauge::WalStatus;
use crate::domain::plan::{ColumnType, OLD, Side, Signal, SignalSource, Table};
use crate::domain::run::{Event, Level, signal_value};
use crate::ports::{Changes as _, LogLook};
use crate::workers::tests::world::{Entry, World};

fn books() -> Table {
    Table {
        key: vec!["id".into()],
        columns: vec![key("id", ColumnType::Bigint), column("v", ColumnType::Text)],
        ..Table::watched("books", "public.books")
    }
}

#[tokio::test]
async fn what_a_slot_keeps_grows_with_the_log_and_says_when_it_is_lost() {
    let server = own_server().await;
    let sql = connect_once_up(&server.url()).await;
    sql.batch_execute("CREATE TABLE books (id bigint PRIMARY KEY, v text)").await.unwrap();
    let settings = settings_of(&server);
    let source = Arc::new(PgSource::new(&settings, super::PLAN).unwrap());
    let changes = PgChanges::new(source, settings, vec![books()]);
    let look = async || -> LogLook { changes.retained_log(true).await.unwrap().unwrap() };

    let before = look().await;
    assert!(before.slots.is_empty(), "nothing is kept, which is not 0 bytes of a slot");
    assert_eq!((before.limit.as_deref(), before.limit_bytes), (None, None), "no limit is set");
    let written = before.written.expect("the checkpoint of its start is known");
    assert!(before.end.is_some() && written.bytes >= 0.0 && written.seconds > 0.0, "{before:?}");

    changes.enable(&books()).await.unwrap();
    // Somebody else's slot is nobody's business here.
    sql.batch_execute("SELECT pg_create_logical_replication_slot('others', 'pgoutput')").await.unwrap();
    let made = look().await;
    let [slot] = made.slots.as_slice() else { panic!("{made:?}") };
    assert_eq!((slot.status, slot.left, slot.reason.as_deref()), (WalStatus::Reserved, None, None));
    let first = slot.bytes.expect("the server says it");

    // Nobody reads: what is written meanwhile is kept to the byte.
    // In a transaction, whose end waits until the log is on disk.
    let more = "SELECT pg_logical_emit_message(true, 'other', repeat('x', 1000000))";
    for _ in 0..3 {
        sql.batch_execute(more).await.unwrap();
    }
    let grown = look().await;
    let kept = grown.slots[0].bytes.unwrap();
    assert!(kept >= first + 3_000_000, "{first} then {kept}");
    assert!(grown.end.unwrap() >= made.end.unwrap() + 3_000_000);

    sql.batch_execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let reader = connect_once_up(&server.url()).await;
    until(&reader, "current_setting('max_slot_wal_keep_size') = '1MB'").await;
    for _ in 0..4 {
        sql.batch_execute("SELECT pg_logical_emit_message(false, 'other', repeat('x', 1000000)), pg_switch_wal()")
            .await
            .unwrap();
    }
    // The session that asks may not have heard of the new limit yet.
    let asked = loop {
        let asked = look().await;
        if asked.limit.is_some() && asked.slots[0].status == WalStatus::Unreserved {
            break asked;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((asked.limit.as_deref(), asked.limit_bytes), (Some("1MB"), Some(1 << 20)));
    assert!(asked.slots[0].bytes.unwrap() > 4 << 20, "still there, and counted: {asked:?}");

    sql.batch_execute("CHECKPOINT").await.unwrap();
    until(&reader, "SELECT bool_and(wal_status = 'lost') FROM pg_replication_slots").await;
    let lost = look().await;
    assert_eq!((lost.slots[0].status, lost.slots[0].bytes), (WalStatus::Lost, None), "not known is not 0");
}

/// Waits until it is so.
async fn when(what: &str, is: impl Fn() -> bool) {
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(180);
    while !is() {
        assert!(tokio::time::Instant::now() < limit, "never so: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn noted(world: &World, level: Level, part: &str) -> usize {
    let is = |entry: &Entry| {
        matches!(entry, Entry::Fact(Event::Note { level: l, source, text })
        if *l == level && source == "capture" && text.contains(part))
    };
    world.journal.entries().iter().filter(|entry| is(entry)).count()
}

#[tokio::test]
async fn what_the_source_keeps_is_watched_while_nothing_is_read_and_its_loss_is_told_once() {
    let server = own_server().await;
    connect_once_up(&server.url()).await;
    let old = TestDatabase::bare_on(&server).await;
    let day = Day::begun_between(plan(), old, TestDatabase::new().await).await;
    let ctx = day.process().await;
    ctx.watch();
    let signal = Signal {
        id: "retained_log".into(),
        unit: "MB".into(),
        source: SignalSource::RetainedLog,
        side: Side::Both,
        limit: None,
        stale_ms: 15_000,
    };
    let value = || signal_value(&day.world.plan, &day.world.journal.state(), &ctx.measured(), &signal).value;
    assert_eq!(value(), None, "nothing is captured: not known, and not 0");

    // Captured and not read: as in a load, or while a run is paused.
    day.world.well(&ctx, &["capture"]).await;
    when("it is measured", || value().is_some()).await;
    let before = value().unwrap();
    for _ in 0..3 {
        let more = "SELECT pg_logical_emit_message(false, 'other', repeat('x', 1048576))";
        day.old.sql.batch_execute(more).await.unwrap();
    }
    when("it grows with the log, in MB", || value().is_some_and(|now| now >= before + 3.0 && now < before + 64.0))
        .await;

    day.old.sql.batch_execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await.unwrap();
    day.old.sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    for _ in 0..4 {
        let more = "SELECT pg_logical_emit_message(false, 'other', repeat('x', 1000000)), pg_switch_wal()";
        day.old.sql.batch_execute(more).await.unwrap();
    }
    when("it is told before", || noted(&day.world, Level::Warn, "wal_status = unreserved") == 1).await;
    day.old.sql.batch_execute("CHECKPOINT").await.unwrap();
    when("its loss is told", || noted(&day.world, Level::Error, "wal_status = lost") == 1).await;
    when("nobody knows any more", || value().is_none()).await;
    assert_eq!(ctx.measured().retained[OLD].status, WalStatus::Lost);
    ctx.stop().await;
    assert_eq!(noted(&day.world, Level::Error, "wal_status = lost"), 1, "once");
}
