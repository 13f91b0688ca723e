//! The simulated application: a shop, or whatever the scenario has. It does what its parameters say.
//!
//! It serves customers over HTTP and makes traffic of its own. Every write goes through [`Shop::write`] and is entered in
//! the oracle. Of the shop, requests of the `blue` alias run the old code, which knows only DynamoDB; `green` runs the
//! new code, which reads and writes where the parameters say.

mod fleet;
mod gauges;
mod new_side;
pub(super) mod old_side;
pub(super) mod pool;
mod server;
mod settings;
mod store;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use super::fault::{Fault, Faults};
use super::oracle::{Claim, Oracle, Outcome, Side};
use super::payments;
use super::records::{Book, Decimal, Kind, Moment, Record, RecordKey, Write};
use super::scenario::Scenario;
use crate::private::clients;
use crate::private::{RehearsalError, RehearsalResult};

use fleet::Fleet;
pub use fleet::Region;
use gauges::Gauges;
pub(super) use new_side::NewSides;
pub(super) use old_side::OldSide;
use settings::Poller;
pub(super) use settings::Values;
pub use settings::{ALIAS_VARIABLE, Names, Places, Settings, read_settings};
pub use store::Store;
pub(super) use traffic::Customers;
pub use traffic::Rates;

/// Longest time a store may take for one request of the application.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How much longer the slow fault makes a request.
const SLOWNESS: Duration = Duration::from_millis(900);
/// Most requests of the shop's own traffic at the same time.
const IN_FLIGHT: u32 = 64;

/// How the shop is set up.
#[derive(Clone, Debug)]
pub struct ShopOptions {
    /// Which application it is.
    pub scenario: Scenario,
    /// The old side's store.
    pub old: Arc<dyn Store>,
    /// The new side's store.
    pub new: Arc<dyn Store>,
    /// The regions where it runs, one at least. What it publishes goes to the first.
    pub regions: Vec<Region>,
    /// What it reads to know what to do.
    pub places: Places,
    /// Pause between two readings of the parameters.
    pub poll: Duration,
    /// Traffic of its own.
    pub rates: Rates,
    /// Seed of the traffic.
    pub seed: u64,
    /// Faults to obey.
    pub faults: Faults,
}

/// What became of a write request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The store of this side confirmed it.
    Acknowledged(Side),
    /// Writes are frozen.
    ReadOnly,
    /// It did not happen, or nobody knows.
    Failed,
}

/// What became of a read request.
#[derive(Clone, Debug)]
pub enum StepSeen {
    /// The record, read from this side.
    Found(Box<Record>, Side),
    /// This side has no such record.
    Absent(Side),
    /// It could not be read.
    Failed,
}

/// The running shop. Dropping it stops everything it started.
#[derive(Debug)]
pub struct Shop {
    floor: Arc<Floor>,
    url: String,
    stop: CancellationToken,
}

/// What requests share.
#[derive(Debug)]
struct Floor {
    scenario: Scenario,
    settings: Fleet,
    old: Arc<dyn Store>,
    new: Arc<dyn Store>,
    oracle: Oracle,
    faults: Faults,
    gauges: Gauges,
    /// The largest share of the reads that was seen while the breach was there, and whether a smaller one was seen after it.
    breach: Mutex<(u8, bool)>,
    /// Closed for good: every write is refused.
    shut: AtomicBool,
    /// Free places for requests; a write holds one until its outcome is entered.
    places: Arc<Semaphore>,
    /// The number of the record that the write probe writes; one writer at a time.
    probe: Mutex<u32>,
    polls_failed: Arc<AtomicU64>,
}

impl Shop {
    /// Opens the shop: reads the parameters once, then listens on a free loopback port and makes traffic.
    /// The new side is not touched before the parameters name it.
    pub async fn start(options: ShopOptions, oracle: Oracle) -> RehearsalResult<Self> {
        let stop = CancellationToken::new();
        let polls_failed = Arc::new(AtomicU64::new(0));
        let mut fleet = Vec::new();
        for region in &options.regions {
            let poller = Poller::new(region, options.places.clone());
            let first = poller.first().await?;
            fleet.push(poller.run(first, options.poll, Arc::clone(&polls_failed), stop.clone()).await?);
        }
        let home =
            options.regions.first().ok_or_else(|| RehearsalError::new("open", "the shop", "it has no region"))?;
        let floor = Arc::new(Floor {
            scenario: options.scenario,
            settings: Fleet(fleet),
            old: options.old,
            new: options.new,
            oracle,
            faults: options.faults,
            gauges: Gauges::default(),
            breach: Mutex::new((0, false)),
            shut: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(IN_FLIGHT as usize)),
            probe: Mutex::new(0),
            polls_failed,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.map_err(|e| RehearsalError::new("open", "the shop", e))?;
        let address = listener.local_addr().map_err(|e| RehearsalError::new("open", "the shop", e))?;
        server::open(listener, Arc::clone(&floor), stop.clone());
        gauges::publish(Arc::clone(&floor), &clients::session(&home.endpoint, 2), stop.clone());
        traffic::start(&floor, options.rates, options.seed, &stop);
        Ok(Self { floor, url: format!("http://{address}"), stop })
    }

    /// Where customers come in: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The account of acknowledged writes.
    #[must_use]
    pub fn oracle(&self) -> &Oracle {
        &self.floor.oracle
    }

    /// What the first instance goes by.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.floor.settings.first()
    }

    /// What each instance goes by.
    #[must_use]
    pub fn instances(&self) -> Vec<Arc<Settings>> {
        self.floor.settings.all()
    }

    /// Requests so far: served and failed, by the alias that served them.
    #[must_use]
    pub fn served(&self, side: Side) -> (u64, u64) {
        self.floor.gauges.totals(side)
    }

    /// How often the parameters could not be read.
    #[must_use]
    pub fn polls_failed(&self) -> u64 {
        self.floor.polls_failed.load(Ordering::Relaxed)
    }

    /// Writes something, as a request would.
    pub async fn write(&self, claim: Claim, write: Write) -> Written {
        self.floor.write(claim, write, None).await
    }

    /// Ends all writing, for good, and waits until every write that had begun has its outcome.
    pub async fn quiesce(&self) -> RehearsalResult<()> {
        self.floor.shut.store(true, Ordering::SeqCst);
        // All places free means nobody is writing; a bit more than the longest request may take.
        let all = tokio::time::timeout(PATIENCE * 3, self.floor.places.acquire_many(IN_FLIGHT)).await;
        match all {
            Ok(_) => Ok(()),
            Err(_) => Err(RehearsalError::new("quiesce", "the shop", "a request did not end in 15 s")),
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Floor {
    /// A side's store.
    fn of(&self, side: Side) -> &dyn Store {
        match side {
            Side::Old => &*self.old,
            Side::New => &*self.new,
        }
    }

    /// One write request from its arrival in a region, or in any, to its acknowledgement. The side is settled when it begins.
    async fn write(&self, claim: Claim, write: Write, region: Option<usize>) -> Written {
        let Ok(_place) = self.places.acquire().await else { return Written::Failed };
        // The parameters are read after the wait for a place: what counts is the moment it begins.
        let settings = self.settings.any(region);
        if settings.frozen || self.shut.load(Ordering::SeqCst) {
            self.oracle.count_frozen();
            return Written::ReadOnly;
        }
        let began = Instant::now();
        let side = settings.writes_to_of(write.key().kind);
        let path = settings.path_of(write.key().kind);
        let outcome = self.store(claim, write, side, &settings).await;
        let good = outcome == Outcome::Acknowledged;
        self.gauges.note(path, began.elapsed(), good);
        if good { Written::Acknowledged(side) } else { Written::Failed }
    }

    async fn store(&self, mut claim: Claim, write: Write, side: Side, settings: &Settings) -> Outcome {
        claim.begin(write.clone(), side);
        if !self.path_works(settings.path_of(write.key().kind)).await {
            claim.settle(Outcome::Refused);
            return Outcome::Refused;
        }
        let (outcome, stood) = self.of(side).write(&settings.secret, &write).await;
        if let Some(stood) = stood {
            claim.over(stood);
        }
        claim.settle(outcome);
        outcome
    }

    /// One read request.
    async fn read(&self, key: &RecordKey, region: Option<usize>) -> StepSeen {
        let settings = self.settings.any(region);
        let began = Instant::now();
        let side = settings.reads_from_of(key.kind);
        let path = if settings.share.is_some() { side } else { settings.path_of(key.kind) };
        let seen = if self.path_works(path).await && !self.breached(path, settings.share).await {
            match self.of(side).read(&settings.secret, key).await {
                Ok(Some(record)) => StepSeen::Found(Box::new(record), side),
                Ok(None) => StepSeen::Absent(side),
                Err(why) => {
                    tracing::debug!(%key, side = side.name(), why, "read failed");
                    StepSeen::Failed
                }
            }
        } else {
            StepSeen::Failed
        };
        self.gauges.note(path, began.elapsed(), !matches!(seen, StepSeen::Failed));
        seen
    }

    /// Applies the faults of the new code path: `false` when the request fails in it, before any store is asked.
    async fn path_works(&self, path: Side) -> bool {
        if path == Side::Old {
            return true;
        }
        if self.faults.active(Fault::SlowNew) {
            self.faults.struck(Fault::SlowNew);
            tokio::time::sleep(SLOWNESS).await;
        }
        // Drawn, not counted off: with a count shared by all requests, a regular probe could always hit the gaps.
        if self.faults.active(Fault::ErrorsNew) && fastrand::u8(..5) < 2 {
            self.faults.struck(Fault::ErrorsNew);
            return false;
        }
        true
    }

    /// Whether the breach of this rehearsal fails a request. It passes once a share of the reads was taken back.
    async fn breached(&self, path: Side, share: Option<u8>) -> bool {
        let Some(share) = share.filter(|_| self.faults.active(Fault::Breach)) else { return false };
        let mut seen = self.breach.lock().await;
        seen.1 |= share < seen.0;
        seen.0 = seen.0.max(share);
        let fails = !seen.1 && path == Side::New && fastrand::u8(..5) < 2;
        if fails {
            self.faults.struck(Fault::Breach);
        }
        fails
    }

    /// The write of the probe: a record of its own, written whole, through the path of any other write.
    async fn probe(&self, nonce: &str, region: usize) -> Written {
        let kind = match self.scenario {
            Scenario::Cloudshelf | Scenario::AuroraGradual => Kind::Book,
            Scenario::V1ToV2 => Kind::Account,
        };
        let nonce: String = nonce.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        let mut number = self.probe.lock().await;
        for _ in 0..1_000 {
            let key = RecordKey::probe(kind, *number);
            let Some(claim) = self.oracle.claim(&key) else {
                // Closed by an unknown outcome: the next request takes the next record.
                *number += 1;
                continue;
            };
            let record = match self.scenario {
                Scenario::Cloudshelf | Scenario::AuroraGradual => Record::Book(probe_book(&key, nonce)),
                Scenario::V1ToV2 => payments::probe(&key, nonce),
            };
            return self.write(claim, Write::Put(record), Some(region)).await;
        }
        Written::Failed
    }
}

/// The book that the write probe writes, with its nonce.
fn probe_book(key: &RecordKey, nonce: String) -> Book {
    let now = Moment::now();
    Book {
        id: key.id.clone(),
        title: "Write probe".to_owned(),
        author: "cutover".to_owned(),
        description: nonce,
        price: Decimal::cents(100),
        category: None,
        isbn: None,
        stock: 1,
        created_at: now,
        updated_at: now,
    }
}

#[cfg(test)]
mod tests;
