//! Convergence under seeds: a workload, random faults at every call, splits, crashes; and at the end both sides equal.

use super::faults::Op;
use super::world::{World, until};

/// Seeds tried each time; `CUTOVER_TRIAL_SEEDS=200` for more, `CUTOVER_TRIAL_SEED=17` for one.
pub fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|s| s.parse::<u64>().expect("a number"));
    number("CUTOVER_TRIAL_SEED")
        .map_or_else(|| (0..number("CUTOVER_TRIAL_SEEDS").unwrap_or(16)).collect(), |one| vec![one])
}

/// One write of the workload.
fn write(world: &World, rng: &mut fastrand::Rng) {
    let key = format!("b{}", if rng.bool() { rng.u8(0..3) } else { rng.u8(0..24) });
    let books = world.table("books");
    match rng.u8(0..10) {
        0..=1 => drop(world.old.delete(books, &key, rng.u8(0..4) == 0)),
        2 => {
            world.old.delete(books, &key, false);
            world.book(&key, "0.01");
        }
        3 => world.book(&key, "123456789.00"),
        4 => {
            let author = format!("a{}", rng.u8(0..6));
            world.book_of(&key, "5.00", None, Some(&author));
            if rng.bool() {
                world.author(&author);
            }
        }
        5 => world.book_of(&key, "6.00", Some(&format!("isbn-{}", rng.u8(0..4))), None),
        _ => world.book(&key, &format!("{}.{:02}", rng.u16(0..900), rng.u8(0..100))),
    }
    if rng.u8(0..40) == 0 {
        world.old.split(books, rng.u16(1..3));
    }
}

async fn trial(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::new();
    world.clock.query_takes(40);
    for _ in 0..30 {
        write(&world, &mut rng);
    }
    let mut ctx = world.ctx().await;
    world.faults.at_random(seed, 12, 40);
    for step in ["capture", "load", "catch-up"] {
        loop {
            let before = world.faults.calls(Op::Page) + world.faults.calls(Op::Read);
            let work = world.perform(&ctx, step);
            let dies = rng.u8(0..3) == 0;
            let meanwhile = async {
                // The workload goes on while the step is at work; sometimes the process dies in the middle of it.
                for _ in 0..rng.u8(2..12) {
                    write(&world, &mut rng);
                    tokio::task::yield_now().await;
                }
                if !dies {
                    std::future::pending::<()>().await;
                }
                until("the step to get somewhere", || {
                    world.faults.calls(Op::Page) + world.faults.calls(Op::Read) >= before
                })
                .await;
            };
            let ended = tokio::select! {
                result = work => Some(result),
                () = meanwhile => None,
            };
            match ended {
                Some(Ok(_)) => break,
                // A step may fail under faults; it is tried again.
                Some(Err(_)) => {}
                None => ctx = world.restart(ctx).await,
            }
        }
    }
    for _ in 0..60 {
        write(&world, &mut rng);
        tokio::task::yield_now().await;
        if rng.u8(0..30) == 0 {
            ctx = world.restart(ctx).await;
            ctx.ensure_following();
        }
    }
    world.faults.calm();
    // What is parked stands for its row; everything else is equal, row by row.
    let settled = || {
        world.clock.advance(200);
        ["books", "authors"].iter().all(|t| world.differing(t).is_empty()) && accounted(&world).is_empty()
    };
    until(&format!("seed {seed} to converge"), settled).await;
    assert!(world.faults.struck() > 0, "seed {seed}: no fault ever struck");
    assert_eq!(world.journal.effects_without_intent(), [""; 0], "seed {seed}");
    ctx.stop().await;
}

/// Source keys that are neither in the table nor in the ledger, or in both.
fn accounted(world: &World) -> Vec<String> {
    let books = world.table("books");
    let stored = world.new.table(books);
    let items = world.old.items(books);
    let keys = items.keys().filter(|k| !k.starts_with("marker#"));
    keys.filter(|k| stored.rows.contains_key(*k) == stored.parked.contains_key(*k)).cloned().collect()
}

#[tokio::test]
async fn load_follow_crash_and_resume_converge_under_any_seed() {
    for seed in seeds() {
        trial(seed).await;
    }
}
