//! Following in lanes, and what a death leaves.

use std::collections::BTreeMap;

use super::*;
use crate::domain::at::At;
use crate::domain::value::Key;
use crate::ports::tests::tables::{book, books, keys, prepared, price, upsert};
use crate::ports::{ChangeBatch, CountChange, Fence, FullRead, Position, RowChange};

fn reached(n: u64) -> BTreeMap<String, Position> {
    BTreeMap::from([("s1".to_owned(), Position(n.to_string()))])
}

fn many(price: &str) -> Vec<RowChange> {
    (0..300).map(|n| upsert(&books(), &book(&format!("b{n:03}"), price))).collect()
}

fn batch(fence: Fence, n: u64, price: &str) -> ChangeBatch {
    let counts =
        (0..fence.lanes).map(|lane| CountChange { lane, second: 1_000 + i64::from(lane), inserted: 10, deleted: 1 });
    ChangeBatch {
        rows: many(price),
        positions: reached(n),
        counts: counts.collect(),
        fence: Some(fence),
        ..ChangeBatch::default()
    }
}

#[tokio::test]
async fn a_lane_that_landed_before_a_death_is_ahead_and_its_counts_are_kept() {
    let account = Account::embedded().await;
    let (target, table) = (&account.target, books());
    prepared(&**target).await;
    target.load_reads(&table, At(100_000)).await.unwrap();
    target.full_read(&table, FullRead { items: 5, began: None, ended: At(200_000) }).await.unwrap();
    target.start_positions(&table, "stream-1", &reached(1)).await.unwrap();
    let fence = target.resume_follow(&table, 3).await.unwrap().unwrap().fence;
    target.apply(&table, batch(fence, 10, "1")).await.unwrap();
    assert_eq!(target.source_count(&table).await.unwrap().unwrap().items, Some(32));
    // A follower that died when only its lane 1 had landed: the lane says so, the positions do not.
    let of = target.of(&table);
    let stands = BTreeMap::from([("s1".to_owned(), Some(Position("20".into())))]);
    let lands = super::super::standing::lane_lands(&of, 1, fence, &stands);
    target.store.transact(&[&lands], ("test", "t")).await.unwrap();
    let state = account.elsewhere().resume_follow(&table, 3).await.unwrap().unwrap();
    assert_eq!(state.positions["s1"], Some(Position("10".into())));
    let key = |lane| (0..).map(|n| Key(format!("k{n}"))).find(|key| key.lane(3) == lane).unwrap();
    let landed = |lane, at: &str| state.ahead.landed(&key(lane), 3, "s1", &Position(at.into()));
    assert!(landed(1, "20") && !landed(1, "21") && !landed(0, "20"));
    // It goes on saying so while the other shards move on, whatever lands in between.
    let fence = state.fence;
    let elsewhere = account.elsewhere();
    let fence = Fence { token: elsewhere.resume_follow(&table, 3).await.unwrap().unwrap().fence.token, ..fence };
    let other = BTreeMap::from([("s2".to_owned(), Position("7".into()))]);
    elsewhere.apply(&table, ChangeBatch { positions: other, counts: vec![], ..batch(fence, 0, "2") }).await.unwrap();
    let state = account.elsewhere().resume_follow(&table, 3).await.unwrap().unwrap();
    assert!(state.ahead.landed(&key(1), 3, "s1", &Position("20".into())), "{state:?}");
    assert_eq!(
        (&state.positions["s1"], &state.positions["s2"]),
        (&Some(Position("10".into())), &Some(Position("7".into())))
    );
    // When all of them have, it is where the table stands, though nobody came to write it.
    let fence = state.fence;
    for lane in 0..3 {
        let lands = super::super::standing::lane_lands(&of, lane, fence, &stands);
        target.store.transact(&[&lands], ("test", "t")).await.unwrap();
    }
    let (_, positions) = target.positions(&table).await.unwrap().unwrap();
    assert_eq!(positions["s1"], Some(Position("20".into())));
    assert_eq!(target.source_count(&table).await.unwrap().unwrap().items, Some(32));
    // In another number of lanes nothing is left out, and what was counted will come again.
    let state = target.resume_follow(&table, 2).await.unwrap().unwrap();
    assert!(state.ahead.is_empty() && state.positions["s1"] == Some(Position("20".into())));
    assert_eq!(target.source_count(&table).await.unwrap(), None);
}

#[tokio::test]
async fn a_transaction_of_an_overtaken_lane_lands_nothing_however_late() {
    let account = Account::embedded().await;
    let (target, table) = (&account.target, books());
    prepared(&**target).await;
    target.start_positions(&table, "stream-1", &reached(1)).await.unwrap();
    let old = target.resume_follow(&table, 4).await.unwrap().unwrap().fence;
    let new = account.elsewhere().resume_follow(&table, 2).await.unwrap().unwrap().fence;
    // What the earlier follower has on the wire: past every look at the table.
    let of = target.of(&table);
    for lane in 0..4 {
        let row = super::super::write::Write::put_row("books", r#"{"id":{"S":"late"}}"#);
        let lands = super::super::standing::lane_lands(&of, lane, old, &BTreeMap::new());
        target.store.transact(&[&lands, &row], ("test", "t")).await.unwrap_err();
    }
    account.elsewhere().apply(&table, batch(new, 10, "1")).await.unwrap();
    assert!(!keys(&**target, &table).await.contains(&"late".to_owned()));
    // Nor does one of the follower that has the table, once customers do.
    target.open_to_customers(std::slice::from_ref(&table)).await.unwrap();
    for lane in 0..2 {
        let row = super::super::write::Write::put_row("books", r#"{"id":{"S":"late"}}"#);
        let lands = super::super::standing::lane_lands(&of, lane, new, &BTreeMap::new());
        target.store.transact(&[&lands, &row], ("test", "t")).await.unwrap_err();
    }
    assert!(!keys(&**target, &table).await.contains(&"late".to_owned()));
}

#[tokio::test]
async fn rows_of_a_large_batch_that_are_refused_are_parked_in_their_lanes() {
    for account in Account::both().await {
        some_refused(&account).await;
    }
}

async fn some_refused(account: &Account) {
    let (target, table) = (&account.target, books());
    prepared(&**target).await;
    target.start_positions(&table, "stream-1", &reached(1)).await.unwrap();
    let fence = target.resume_follow(&table, 4).await.unwrap().unwrap().fence;
    target.apply(&table, batch(fence, 10, "1")).await.unwrap();
    let mut changes = batch(fence, 20, "2");
    for n in [3, 150, 151] {
        let mut item = book(&format!("b{n:03}"), "2");
        item.fields[1].1 = crate::domain::value::Value::Text("x".repeat(410 * 1024).into());
        changes.rows[n] = upsert(&table, &item);
    }
    let applied = target.apply(&table, changes).await.unwrap();
    assert_eq!((applied.upserted, applied.parked.len()), (297, 3));
    assert_eq!(keys(&**target, &table).await.len(), 297);
    assert_eq!(price(&**target, "b150").await, None);
    // They come back when they fit.
    let applied = target.apply(&table, batch(fence, 30, "3")).await.unwrap();
    assert_eq!((applied.upserted, keys(&**target, &table).await.len()), (300, 300));
    assert!(target.ledger(&table).await.unwrap().0.is_empty());
}

/// One change of the source's log: a key, and its price or its deletion.
#[derive(Clone)]
struct Logged {
    id: String,
    price: Option<u64>,
    came: bool,
}

fn log_of(rng: &mut fastrand::Rng, many: usize) -> (Vec<Logged>, BTreeMap<String, u64>) {
    let (mut log, mut stands) = (Vec::new(), BTreeMap::new());
    for n in 0..many {
        let id = format!("b{:03}", rng.u32(0..350));
        let there = stands.contains_key(&id);
        let price = (!there || rng.u32(0..4) > 0).then_some(n as u64);
        match price {
            Some(price) => drop(stands.insert(id.clone(), price)),
            None => drop(stands.remove(&id)),
        }
        log.push(Logged { id, price, came: !there });
    }
    (log, stands)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_followers_die_the_table_ends_as_the_source() {
    const LANES: u32 = 3;
    let account = Account::embedded().await;
    let table = books();
    prepared(&*account.target).await;
    account.target.full_read(&table, FullRead { items: 0, began: Some(At(0)), ended: At(1_000) }).await.unwrap();
    account.target.start_positions(&table, "stream-1", &reached(0)).await.unwrap();
    let mut rng = fastrand::Rng::with_seed(4_711);
    let (log, stands) = log_of(&mut rng, 20_000);
    let (mut deaths, mut torn) = (0, 0);
    'lives: loop {
        let target = account.elsewhere();
        let state = target.resume_follow(&table, LANES).await.unwrap().unwrap();
        torn += u32::from(!state.ahead.is_empty());
        let mut at: usize = state.positions["s1"].as_ref().unwrap().0.parse().unwrap();
        while at < log.len() {
            let end = (at + rng.usize(20..900)).min(log.len());
            let (mut rows, mut counts) = (BTreeMap::new(), Vec::new());
            for (n, change) in log.iter().enumerate().take(end).skip(at) {
                let key = Key(change.id.clone());
                if state.ahead.landed(&key, LANES, "s1", &Position((n + 1).to_string())) {
                    continue;
                }
                let (inserted, deleted) = (u64::from(change.came), u64::from(change.price.is_none()));
                let second = 1_000_000 + n as i64 / 50;
                counts.push(CountChange { lane: key.lane(LANES), second, inserted, deleted });
                let row = match change.price {
                    Some(price) => upsert(&table, &book(&change.id, &price.to_string())),
                    None => crate::ports::tests::tables::delete(&change.id),
                };
                rows.insert(change.id.clone(), row);
            }
            let from = BTreeMap::from([("s1".to_owned(), Some(Position(at.to_string())))]);
            let rows = rows.into_values().collect();
            let fence = Some(state.fence);
            let batch =
                ChangeBatch { rows, from, positions: reached(end as u64), counts, fence, ..ChangeBatch::default() };
            // Early in the life of this test nearly every call dies, so that every place is met.
            let patience = if deaths < 60 { rng.u64(200..18_000) } else { 60_000_000 };
            match tokio::time::timeout(std::time::Duration::from_micros(patience), target.apply(&table, batch)).await {
                Ok(applied) => {
                    applied.unwrap();
                    at = end;
                }
                Err(_) => {
                    deaths += 1;
                    continue 'lives;
                }
            }
        }
        break;
    }
    assert!(deaths > 40 && torn > 3, "{deaths} deaths, {torn} of them between lanes");
    let mut found = BTreeMap::new();
    let mut each = |row: &[crate::domain::value::Cell<'_>]| {
        use crate::domain::value::Cell;
        match (&row[0], &row[2]) {
            (Cell::Text(id), Cell::Numeric(price)) => found.insert(id.to_string(), price.parse::<u64>().unwrap()),
            other => panic!("{other:?}"),
        };
    };
    account.target.scan_part(&table, None, crate::ports::tests::tables::WHOLE, &mut each).await.unwrap();
    assert_eq!(found, stands);
    let counted = account.target.source_count(&table).await.unwrap().unwrap();
    assert_eq!(
        (counted.items, counted.unsure),
        (Some(stands.len() as u64), 0),
        "nothing is counted twice or not at all"
    );
}
