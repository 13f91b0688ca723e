//! Whose tables they are, and who drives.

use super::*;
use crate::ports::tests::tables::{all, books, prepared};
use crate::ports::{Checkpoint, ErrorKind};

#[tokio::test]
async fn a_table_belongs_to_one_plan_until_it_is_released() {
    let account = Account::embedded().await;
    let target = &account.target;
    prepared(&**target).await;
    let other = account.of_plan("other");
    let refused = other.claimable(&[books()]).await.unwrap_err();
    assert!(refused.kind == ErrorKind::Conflict && refused.came_back.contains(PLAN), "{refused}");
    assert!(refused.advice.contains("cutover release") && refused.advice.contains("run-1"), "{refused}");
    assert_eq!(other.claim("run-2", &all()).await.unwrap_err().kind, ErrorKind::Conflict);
    target.open_to_customers(&[books()]).await.unwrap();
    let owned = target.owned().await.unwrap();
    let told: Vec<_> =
        owned.tables.iter().map(|t| (t.id.as_str(), t.targets.len(), t.open_to_customers.is_some())).collect();
    assert_eq!(told, [("authors", 1, false), ("books", 1, true)]);
    assert_eq!((owned.driven, owned.interrupted), (None, false));
    target.lease("run-1", "one", 60_000).await.unwrap();
    let refused = target.disown().await.unwrap_err();
    assert_eq!(refused.held_by.map(|held| held.holder).as_deref(), Some("one"));
    // The driver sleeps while its plan is released.
    let sleeper = account.elsewhere();
    sleeper.lease("run-1", "one", 60_000).await.unwrap();
    target.release("one").await.unwrap();
    target.disown().await.unwrap();
    assert_eq!(target.owned().await.unwrap().tables, []);
    assert_eq!(sleeper.lease("run-1", "one", 60_000).await.unwrap_err().kind, ErrorKind::Conflict);
    let mut bulk = sleeper.bulk(&books(), crate::ports::tests::tables::WHOLE).await.unwrap();
    let done = Checkpoint { part: crate::ports::tests::tables::WHOLE, cursor: None, rows: 0, parked: 0, done: true };
    assert_eq!(bulk.flush(Vec::new(), &done).await.unwrap_err().kind, ErrorKind::Conflict);
    other.claim("run-2", &all()).await.unwrap();
    assert_eq!(other.owned().await.unwrap().tables.len(), 2);
    assert_eq!(target.open_to_customers(&[books()]).await.unwrap_err().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn a_lease_ends_by_the_services_clock_and_its_epoch_tells_holders_apart() {
    let account = Account::embedded().await;
    let (target, other) = (&account.target, account.elsewhere());
    prepared(&**target).await;
    let first = target.lease("run-1", "one", 60_000).await.unwrap();
    assert_eq!(target.lease("run-1", "one", 60_000).await.unwrap().epoch, first.epoch, "renewed");
    let held = other.lease("run-1", "two", 60_000).await.unwrap_err();
    assert_eq!(held.held_by.map(|held| held.holder).as_deref(), Some("one"));
    assert_eq!(other.seize("run-9", "two", 60_000).await.unwrap_err().kind, ErrorKind::Conflict, "another run");
    let seized = other.seize("run-1", "two", 60_000).await.unwrap();
    assert!(seized.epoch > first.epoch);
    assert_eq!(target.lease("run-1", "one", 60_000).await.unwrap_err().kind, ErrorKind::Conflict);
    other.release("two").await.unwrap();
    // It sleeps through the other's time and does not get it again by itself.
    assert_eq!(target.lease("run-1", "one", 60_000).await.unwrap_err().kind, ErrorKind::Conflict);
    let third = account.elsewhere().lease("run-2", "three", 1).await.unwrap();
    assert!(third.epoch > seized.epoch);
    tokio::time::sleep(std::time::Duration::from_millis(3_200)).await;
    let fourth = account.elsewhere().lease("run-3", "four", 60_000).await.unwrap();
    assert!(fourth.epoch > third.epoch, "its time was over");
}
