//! The simulated shop: an application that reads its parameters as a real one would, serves reads and writes against
//! whichever side they name, obeys the freeze, and tells the oracle what it acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::fault::{Fault, Faults};
use super::metrics::now_s;
use super::model::{Kind, Record};
use super::oracle::Oracle;
use super::seed::Seeder;
use super::sides::{Dynamo, Failed, Postgres};

/// Traffic, in operations a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Reads.
    pub reads: f64,
    /// Writes.
    pub writes: f64,
    /// How often the parameters are read, in milliseconds.
    pub poll_ms: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { reads: 40.0, writes: 25.0, poll_ms: 500 }
    }
}

/// What the parameters say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// Reads go to the new side.
    pub reads_new: bool,
    /// Writes go to the new side.
    pub writes_new: bool,
    /// Writes are refused.
    pub frozen: bool,
    secret: String,
}

/// Where the shop finds its parameters.
#[derive(Clone)]
pub struct Control {
    /// Parameter store.
    pub ssm: aws_sdk_ssm::Client,
    /// Front door.
    pub gateway: aws_sdk_apigateway::Client,
    /// Metrics.
    pub cloudwatch: aws_sdk_cloudwatch::Client,
    /// Id of the REST API.
    pub api: String,
}

impl Control {
    async fn parameter(&self, name: &str) -> Option<String> {
        let name = format!("/cloudshelf/prod/{name}");
        let answer = self.ssm.get_parameter().name(name).with_decryption(true).send().await.ok()?;
        answer.parameter()?.value().map(str::to_owned)
    }

    /// Everything at once; `None` when any of it cannot be read, and the shop goes on with what it knew.
    pub async fn read(&self) -> Option<Params> {
        let stage = self.gateway.get_stage().rest_api_id(&self.api).stage_name("prod").send();
        let (reads, writes, mode, secret, stage) = tokio::join!(
            self.parameter("db/reads"),
            self.parameter("db/writes"),
            self.parameter("writes-mode"),
            self.parameter("db/secret"),
            stage
        );
        let green = stage.ok()?.variables()?.get("lambdaAlias")? == "green";
        // The blue code does not know the new side.
        Some(Params {
            reads_new: green && reads? == "postgresql",
            writes_new: green && writes? == "postgresql",
            frozen: mode? == "frozen",
            secret: secret?,
        })
    }
}

/// Latencies of the running second, by side.
#[derive(Default)]
struct Second {
    latencies: Vec<f64>,
    errors: u32,
}

/// Counters for people.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Writes acknowledged by the old side.
    pub old: AtomicU64,
    /// Writes acknowledged by the new side.
    pub new: AtomicU64,
    /// Writes refused while frozen.
    pub refused: AtomicU64,
    /// Operations that failed.
    pub failed: AtomicU64,
}

pub(super) struct Inner {
    control: Control,
    old: Dynamo,
    new: AsyncMutex<Option<(String, Postgres)>>,
    params: watch::Sender<Params>,
    oracle: Oracle,
    seeder: Mutex<Seeder>,
    keys: Mutex<BTreeMap<Kind, Vec<Uuid>>>,
    /// One lock per key slot: "last acknowledged" is then well defined.
    slots: Vec<AsyncMutex<()>>,
    faults: Faults,
    seconds: Mutex<[Second; 2]>,
    turn: AtomicUsize,
    /// Customers leave: no new operations.
    closed: AtomicBool,
    pub(super) traffic: Traffic,
    probe_book: Uuid,
}

/// The running shop.
pub struct Shop {
    inner: Arc<Inner>,
    url: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Shop {
    /// Opens on a loopback port and lets customers in.
    pub async fn open(
        control: Control,
        old: Dynamo,
        oracle: Oracle,
        seeder: Seeder,
        keys: BTreeMap<Kind, Vec<Uuid>>,
        rates: Rates,
        faults: Faults,
    ) -> std::io::Result<Self> {
        let first = control.read().await.unwrap_or_default();
        let probe_book = keys.get(&Kind::Book).and_then(|b| b.first()).copied().unwrap_or_default();
        let inner = Arc::new(Inner {
            control,
            old,
            new: AsyncMutex::new(None),
            params: watch::channel(first).0,
            oracle,
            seeder: Mutex::new(seeder),
            keys: Mutex::new(keys),
            slots: (0..256).map(|_| AsyncMutex::new(())).collect(),
            faults,
            seconds: Mutex::default(),
            turn: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            traffic: Traffic::default(),
            probe_book,
        });
        let app = Router::new()
            .route("/health", get(|| async { "ok" }))
            .route("/books/probe", get(probe_read))
            .route("/probe", post(probe_write))
            .with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let served = stop.clone().cancelled_owned();
        tasks.spawn(async move { drop(axum::serve(listener, app).with_graceful_shutdown(served).await) });
        let shop = Self { inner, url, stop, tasks };
        shop.background(rates);
        Ok(shop)
    }

    fn background(&self, rates: Rates) {
        let every = |per_second: f64| Duration::from_secs_f64(1.0 / per_second.clamp(0.01, 10_000.0));
        self.each(Duration::from_millis(rates.poll_ms), |shop| async move { shop.poll().await });
        self.each(Duration::from_secs(1), |shop| async move { shop.publish().await });
        // Four customers of each kind, so that a slow side slows the shop and does not queue without end.
        for _ in 0..4 {
            if rates.reads > 0.0 {
                self.each(every(rates.reads / 4.0), |shop| async move { drop(shop.read().await) });
            }
            if rates.writes > 0.0 {
                self.each(every(rates.writes / 4.0), |shop| async move { drop(shop.write().await) });
            }
        }
    }

    fn each<F>(&self, every: Duration, work: impl Fn(Arc<Inner>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        let (inner, stop) = (Arc::clone(&self.inner), self.stop.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(every);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => work(Arc::clone(&inner)).await,
                }
            }
        });
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it did.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.inner.traffic
    }

    /// Lets nobody in any more and waits for operations under way.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(20), self.tasks.wait()).await;
    }
}

async fn probe_read(State(shop): State<Arc<Inner>>) -> (StatusCode, &'static str) {
    match shop.read_book(shop.probe_book).await {
        Ok(true) => (StatusCode::OK, "ok"),
        Ok(false) => (StatusCode::NOT_FOUND, "no such book"),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
    }
}

async fn probe_write(State(shop): State<Arc<Inner>>) -> (StatusCode, &'static str) {
    match shop.change(Kind::Book, shop.probe_book, false).await {
        Ok(true) => (StatusCode::OK, "ok"),
        Ok(false) => (StatusCode::SERVICE_UNAVAILABLE, "read-only"),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
    }
}

fn guard<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> i64 {
    (now_s() * 1000.0) as i64
}

impl Inner {
    async fn poll(&self) {
        if let Some(params) = self.control.read().await {
            self.params.send_if_modified(|now| *now != params && {
                *now = params;
                true
            });
        }
        if self.faults.on(Fault::CorruptNew)
            && self.turn.fetch_or(1 << 40, Ordering::AcqRel) & (1 << 40) == 0
            && let Ok(new) = self.corrupt_target().await
        {
            let _ = new.corrupt().await;
        }
    }

    /// The new side before the shop itself uses it: for the fault that writes behind everybody's back.
    async fn corrupt_target(&self) -> Result<Postgres, Failed> {
        let url = self.control.parameter("db/secret-v2").await.ok_or_else(|| Failed::No("no secret".into()))?;
        Postgres::connect(&url).map_err(Failed::No)
    }

    /// The new side, through a pool made from the secret that is read now.
    async fn new_side(&self, secret: &str) -> Result<Postgres, Failed> {
        let mut held = self.new.lock().await;
        match &*held {
            Some((of, side)) if of == secret => Ok(side.clone()),
            _ => {
                let side = Postgres::connect(secret).map_err(Failed::No)?;
                *held = Some((secret.to_owned(), side.clone()));
                Ok(side)
            }
        }
    }

    /// Injected trouble of the new side.
    async fn trouble(&self, new: bool) -> Result<(), Failed> {
        if new && self.faults.on(Fault::SlowNew) {
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        if new && self.faults.on(Fault::ErrorsNew) && self.turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
            return Err(Failed::No("injected".to_owned()));
        }
        Ok(())
    }

    fn measured(&self, new: bool, began: Instant, ok: bool) {
        let mut seconds = guard(&self.seconds);
        let second = &mut seconds[usize::from(new)];
        second.latencies.push(began.elapsed().as_secs_f64() * 1000.0);
        second.errors += u32::from(!ok);
        if !ok {
            self.traffic.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn read(&self) -> Result<bool, Failed> {
        let id = {
            let books = guard(&self.keys);
            let books = books.get(&Kind::Book).map_or(&[][..], Vec::as_slice);
            let Some(id) = guard(&self.seeder).rng().choice(books).copied() else { return Ok(false) };
            id
        };
        self.read_book(id).await
    }

    async fn read_book(&self, id: Uuid) -> Result<bool, Failed> {
        let params = self.params.borrow().clone();
        let began = Instant::now();
        let result = async {
            self.trouble(params.reads_new).await?;
            if params.reads_new {
                self.new_side(&params.secret).await?.has(Kind::Book, id).await
            } else {
                self.old.has(Kind::Book, id).await
            }
        };
        let result = result.await;
        self.measured(params.reads_new, began, result.is_ok());
        result
    }

    /// One random write.
    async fn write(&self) -> Result<bool, Failed> {
        let (kind, fresh, id, delete) = {
            let mut seeder = guard(&self.seeder);
            let keys = guard(&self.keys);
            let rng = seeder.rng();
            let dice = rng.u8(0..100);
            let kind = match dice {
                0..45 => Kind::Order,
                45..80 => Kind::Book,
                _ => Kind::User,
            };
            let fresh = matches!(dice, 0..25 | 45..50 | 80..85);
            let delete = matches!(dice, 25..30 | 50..53);
            let id = keys.get(&kind).and_then(|k| rng.choice(k).copied());
            (kind, fresh, id, delete)
        };
        match (fresh, id) {
            (false, Some(id)) => self.change(kind, id, delete).await,
            _ => self.create(kind).await,
        }
    }

    async fn create(&self, kind: Kind) -> Result<bool, Failed> {
        let record = {
            let mut seeder = guard(&self.seeder);
            let keys = guard(&self.keys);
            let books = keys.get(&Kind::Book).map_or(&[][..], Vec::as_slice);
            let users = keys.get(&Kind::User).map_or(&[][..], Vec::as_slice);
            match kind {
                Kind::Book => Record::Book(seeder.book(Some(now_ms()))),
                Kind::User => Record::User(seeder.user(Some(now_ms()), books)),
                Kind::Order => {
                    let Some(user) = seeder.rng().choice(users).copied() else { return Ok(false) };
                    Record::Order(seeder.order(Some(now_ms()), user, books))
                }
            }
        };
        let id = record.id();
        let done = self.store(kind, id, Some(record)).await?;
        if done {
            guard(&self.keys).entry(kind).or_default().push(id);
        }
        Ok(done)
    }

    /// Changes a record, deletes it, or creates it again after a delete.
    async fn change(&self, kind: Kind, id: Uuid, delete: bool) -> Result<bool, Failed> {
        let slot = self.slots.get(id.as_u128() as usize % self.slots.len());
        let _held = match slot {
            Some(slot) => Some(slot.lock().await),
            None => None,
        };
        let Some(known) = self.oracle.known(kind, id) else { return Ok(false) };
        // A key whose last outcome nobody knows is left alone.
        if !known.maybe.is_empty() {
            return Ok(true);
        }
        let probe = kind == Kind::Book && id == self.probe_book;
        let next = match (known.acked, delete && !probe) {
            (Some(_), true) => None,
            (Some(record), false) => Some(self.touched(record)),
            (None, _) => {
                let mut seeder = guard(&self.seeder);
                match kind {
                    Kind::Book => Some(Record::Book(super::model::Book { id, ..seeder.book(Some(now_ms())) })),
                    _ => return Ok(true),
                }
            }
        };
        self.store(kind, id, next).await
    }

    fn touched(&self, mut record: Record) -> Record {
        let mut seeder = guard(&self.seeder);
        let now = now_ms();
        match &mut record {
            Record::Book(b) => {
                b.stock = seeder.rng().i64(0..500);
                if seeder.rng().bool() {
                    b.price = super::model::money(seeder.rng().i64(199..9_999));
                }
                b.updated = now;
            }
            Record::User(u) => {
                u.name = format!("{} {}", u.name.split(' ').next().unwrap_or("Ada"), seeder.rng().u16(..));
                u.updated = now;
            }
            Record::Order(o) => {
                o.status = ["paid", "shipped", "delivered", "returned"][seeder.rng().usize(0..4)].to_owned();
                if seeder.rng().u8(..) < 40 && o.items.len() > 1 {
                    o.items.pop();
                }
                o.updated = now;
            }
        }
        record
    }

    /// Writes to whichever side the parameters name now; tells the oracle what was acknowledged. `false` is a refusal.
    async fn store(&self, kind: Kind, id: Uuid, state: Option<Record>) -> Result<bool, Failed> {
        let params = self.params.borrow().clone();
        if self.closed.load(Ordering::Acquire) || (params.frozen && !self.faults.on(Fault::FreezeIgnored)) {
            self.traffic.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        }
        let began = Instant::now();
        let result = async {
            self.trouble(params.writes_new).await?;
            match (&state, params.writes_new) {
                (Some(record), true) => self.new_side(&params.secret).await?.put(record).await,
                (None, true) => self.new_side(&params.secret).await?.delete(kind, id).await,
                (Some(record), false) => self.old.put(record).await,
                (None, false) => self.old.delete(kind, id).await,
            }
        };
        let result: Result<(), Failed> = result.await;
        self.measured(params.writes_new, began, result.is_ok());
        match result {
            Ok(()) => {
                match state {
                    Some(record) => self.oracle.acked(record),
                    None => self.oracle.deleted(kind, id),
                }
                let side = if params.writes_new { &self.traffic.new } else { &self.traffic.old };
                side.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
            Err(Failed::Unknown(why)) => {
                self.oracle.unknown(kind, id, state);
                Err(Failed::Unknown(why))
            }
            Err(no) => Err(no),
        }
    }

    async fn publish(&self) {
        use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};
        let seconds = std::mem::take(&mut *guard(&self.seconds));
        let mut data = Vec::new();
        for (side, second) in ["old", "new"].into_iter().zip(seconds) {
            if second.latencies.is_empty() {
                continue;
            }
            let errors = f64::from(second.errors) * 100.0 / second.latencies.len() as f64;
            let dimension = Dimension::builder().name("Side").value(side).build();
            let at = aws_sdk_cloudwatch::primitives::DateTime::from_millis(now_ms());
            let datum = |name: &str| MetricDatum::builder().metric_name(name).dimensions(dimension.clone()).timestamp(at);
            let mut latencies = second.latencies;
            // A call takes at most 150 values; a busier second is thinned evenly.
            let step = latencies.len().div_ceil(150).max(1);
            latencies = latencies.into_iter().step_by(step).collect();
            data.push(datum("Latency").set_values(Some(latencies)).build());
            data.push(datum("Errors").value(errors).build());
        }
        if !data.is_empty() {
            let put = self.control.cloudwatch.put_metric_data().namespace("CloudShelf").set_metric_data(Some(data));
            let _ = put.send().await;
        }
    }
}
