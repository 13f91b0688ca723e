//! An application's customers: reads and writes at steady rates, drawn from a seed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Floor;
use crate::rehearsal::oracle::{Claim, Oracle};
use crate::rehearsal::payments::Payers;
use crate::rehearsal::records::{Kind, Line, Moment, Record, RecordKey, Write};
use crate::rehearsal::{Scenario, seed};

/// Requests a second. 0 means none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Reads a second.
    pub reads: f64,
    /// Writes a second.
    pub writes: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { reads: 40.0, writes: 25.0 }
    }
}

/// Books stay in this number at least: deletes stop there.
const STOCK_MINIMUM: usize = 10;

/// What the customers of an application do.
pub(in crate::rehearsal) trait Customers: Send {
    /// What the next reader asks for.
    fn asks(&self, rng: &mut fastrand::Rng) -> Kind;

    /// What the next customer writes. `None` when there is nothing to do it with.
    fn next(&mut self, oracle: &Oracle) -> Option<(Claim, Write)>;
}

fn customers(scenario: Scenario, seed: u64) -> Box<dyn Customers> {
    let rng = fastrand::Rng::with_seed(seed ^ 0x3417);
    match scenario {
        Scenario::Cloudshelf | Scenario::AuroraGradual => Box::new(Readers { rng, number: 0, seed }),
        Scenario::V1ToV2 => Box::new(Payers::new(rng, seed)),
    }
}

pub(super) fn start(floor: &Arc<Floor>, rates: Rates, seed: u64, stop: &CancellationToken) {
    if let Some(every) = pause(rates.reads) {
        let (floor, stop) = (Arc::clone(floor), stop.clone());
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5EAD);
        let customers = customers(floor.scenario, seed);
        tokio::spawn(async move {
            let mut tick = ticker(every);
            while next(&mut tick, &stop).await {
                let kind = customers.asks(&mut rng);
                let Some(key) = floor.oracle.any(kind, &mut rng) else { continue };
                // Customers beyond what the shop can serve go away: reads never pile up.
                let Ok(place) = Arc::clone(&floor.places).try_acquire_owned() else { continue };
                let floor = Arc::clone(&floor);
                tokio::spawn(async move {
                    let _ = floor.read(&key, None).await;
                    drop(place);
                });
            }
        });
    }
    if let Some(every) = pause(rates.writes) {
        let (floor, stop) = (Arc::clone(floor), stop.clone());
        let mut customers = customers(floor.scenario, seed);
        tokio::spawn(async move {
            let mut tick = ticker(every);
            while next(&mut tick, &stop).await {
                if floor.shut.load(Ordering::SeqCst) {
                    return;
                }
                // Nobody orders books they cannot wait for.
                if floor.places.available_permits() == 0 {
                    continue;
                }
                let Some((claim, write)) = customers.next(&floor.oracle) else { continue };
                let floor = Arc::clone(&floor);
                tokio::spawn(async move { floor.write(claim, write, None).await });
            }
        });
    }
}

fn pause(rate: f64) -> Option<Duration> {
    (rate > 0.0 && rate.is_finite()).then(|| Duration::from_secs_f64(1.0 / rate))
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    tick
}

async fn next(tick: &mut tokio::time::Interval, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        _ = tick.tick() => true,
    }
}

/// The shop's customers.
struct Readers {
    rng: fastrand::Rng,
    /// Makes e-mail addresses and ISBNs of this run unique.
    number: u64,
    seed: u64,
}

impl Customers for Readers {
    fn asks(&self, rng: &mut fastrand::Rng) -> Kind {
        match rng.u8(..20) {
            0..14 => Kind::Book,
            14..17 => Kind::User,
            _ => Kind::Order,
        }
    }

    fn next(&mut self, oracle: &Oracle) -> Option<(Claim, Write)> {
        let at = Moment::now();
        match self.rng.u8(..100) {
            0..28 => {
                let (claim, record) = oracle.claim_any(Kind::Book, &mut self.rng)?;
                let Record::Book(book) = record else { return None };
                let stock = (book.stock + self.rng.i64(-3..=3)).max(0);
                Some((claim, Write::Stock { id: book.id, stock, at }))
            }
            28..42 => {
                let (claim, record) = oracle.claim_any(Kind::Book, &mut self.rng)?;
                let price = seed::price(&mut self.rng);
                Some((claim, Write::Price { id: record.key().id, price, at }))
            }
            42..62 => self.order(oracle, at),
            62..75 => {
                let (claim, record) = oracle.claim_any(Kind::Order, &mut self.rng)?;
                let status = seed::STATUSES[self.rng.usize(..seed::STATUSES.len())].to_owned();
                Some((claim, Write::Status { id: record.key().id, status, at }))
            }
            75..83 => self.profile(oracle),
            83..89 => {
                self.number += 1;
                let books = self.book_ids(oracle);
                let email = format!("new{}-{}@example.com", self.seed, self.number);
                let user = seed::new_user(&mut self.rng, &email, &books, Some(at));
                put(oracle, Record::User(user))
            }
            89..93 => {
                let (claim, _) = oracle.claim_any(Kind::Order, &mut self.rng)?;
                let write = Write::Delete(claim.key().clone());
                Some((claim, write))
            }
            93..96 => {
                if oracle.live(Kind::Book) <= STOCK_MINIMUM {
                    return None;
                }
                let (claim, _) = oracle.claim_any(Kind::Book, &mut self.rng)?;
                let write = Write::Delete(claim.key().clone());
                Some((claim, write))
            }
            _ => self.shelve(oracle, at),
        }
    }
}

impl Readers {
    fn book_ids(&mut self, oracle: &Oracle) -> Vec<String> {
        (0..5).filter_map(|_| oracle.any(Kind::Book, &mut self.rng)).map(|k| k.id).collect()
    }

    fn order(&mut self, oracle: &Oracle, at: Moment) -> Option<(Claim, Write)> {
        let key = oracle.any(Kind::User, &mut self.rng)?;
        let Some(Record::User(user)) = oracle.certain(&key) else { return None };
        let mut lines = Vec::new();
        for _ in 0..self.rng.usize(1..5) {
            let key = oracle.any(Kind::Book, &mut self.rng)?;
            if let Some(Record::Book(b)) = oracle.certain(&key) {
                let quantity = self.rng.i64(1..4);
                lines.push(Line { book: b.id, title: b.title, quantity, unit_price: b.price });
            }
        }
        if lines.is_empty() {
            return None;
        }
        put(oracle, Record::Order(seed::new_order(&mut self.rng, &user, lines, at)))
    }

    fn profile(&mut self, oracle: &Oracle) -> Option<(Claim, Write)> {
        let books = self.book_ids(oracle);
        let (claim, record) = oracle.claim_any(Kind::User, &mut self.rng)?;
        let write = Write::Profile {
            id: record.key().id,
            name: seed::name(&mut self.rng),
            address: seed::address(&mut self.rng),
            favorites: seed::favorites(&mut self.rng, &books),
        };
        Some((claim, write))
    }

    /// A deleted book is created again under its old id and ISBN; without one, a new book.
    fn shelve(&mut self, oracle: &Oracle, at: Moment) -> Option<(Claim, Write)> {
        if let Some((claim, Record::Book(mut book))) = oracle.claim_deleted() {
            book.stock = self.rng.i64(1..50);
            book.updated_at = at;
            return Some((claim, Write::Put(Record::Book(book))));
        }
        self.number += 1;
        let mut book = seed::book(&mut self.rng, 0);
        book.isbn = Some(format!("979{:04}{:06}", self.seed % 10_000, self.number % 1_000_000));
        (book.created_at, book.updated_at) = (at, at);
        put(oracle, Record::Book(book))
    }
}

fn put(oracle: &Oracle, record: Record) -> Option<(Claim, Write)> {
    let key: RecordKey = record.key();
    Some((oracle.claim(&key)?, Write::Put(record)))
}
