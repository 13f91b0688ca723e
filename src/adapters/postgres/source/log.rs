//! PostgreSQL as the side whose changes are followed: one slot for all tables of a plan, one shard for each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_postgres::Error;
use tokio_util::task::AbortOnDropHandle;

use super::hub::{Forgotten, Hub, Place, Taken};
use super::pump::{Pump, READ, Reading, Shared, State, WAITING};
use super::rows::{Entry, Known, Of, Rows, by_number, place, position};
use super::session::Session;
use super::slot::{self, Names, Slot};
use super::{PgSource, catalogue, fit, obstacles, partitions, retained, whole};
use crate::adapters::postgres::connect::Object;
use crate::adapters::postgres::names::qualified;
use crate::adapters::postgres::native;
use crate::adapters::postgres::password::Password;
use crate::adapters::postgres::settings::PgSettings;
use crate::adapters::postgres::trouble;
use crate::domain::at::At;
use crate::domain::plan::Table;
use crate::ports::{
    Batch, Changes, ErrorKind, LogLook, Obstacle, PortError, PortResult, Position, ReadFrom, Shard, Stream,
};

/// Changes of one answer take up no more than this, but for a single larger one.
const ANSWER: usize = 1 << 20;
/// How long a read waits until the log was read to where it stood.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the server is asked how far it has sent, while that is waited for.
const ASK: Duration = Duration::from_millis(50);
/// Where changes were given so lately, more of them are waited for: for a moment, and for as long as many come each moment,
/// until there are enough or it has taken so long.
const LATELY: Duration = Duration::from_millis(50);
const MOMENT: Duration = Duration::from_millis(2);
const MANY: usize = 16;
const ENOUGH: usize = 2_000;
const LINGER: Duration = Duration::from_millis(20);
/// How often a table that is given nothing moves on.
const MOVE_ON: Duration = Duration::from_secs(3);

/// The changes of a plan's tables.
pub struct PgChanges {
    source: Arc<PgSource>,
    settings: PgSettings,
    password: Password,
    names: Names,
    tables: Vec<Table>,
    /// Held while publication and slot are made: many tables ask at once.
    making: tokio::sync::Mutex<()>,
    /// Held while reading begins.
    beginning: tokio::sync::Mutex<()>,
    shared: Arc<Shared>,
}

impl PgChanges {
    /// The changes of these tables, all that the plan moves from this database. Nothing is connected yet.
    #[must_use]
    pub fn new(source: Arc<PgSource>, settings: PgSettings, tables: Vec<Table>) -> Self {
        let password = Password::new(settings.password.clone(), settings.password_source.clone());
        let names = Names::of(&source.plan, &settings.database);
        let (making, beginning) = Default::default();
        Self { source, settings, password, names, tables, making, beginning, shared: Arc::default() }
    }

    fn stream_of(slot: &Slot, entry: &str, table: &Table) -> Stream {
        let shard = Shard { id: table.id.clone(), parent: None, closed: false };
        Stream { id: format!("{}/{}/{entry}", slot.system, slot.name), shards: vec![shard] }
    }

    /// Where the log ends now, as far as it is on disk.
    async fn end(&self) -> PortResult<u64> {
        let error = |e: Error| trouble::error(&e, READ, &self.source.place);
        let client = self.source.client().await?;
        let row = client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.map_err(error)?;
        let text: String = row.try_get(0).map_err(error)?;
        super::session::position(&text).ok_or_else(|| self.wrong(ErrorKind::Internal, format!("{text} is no position")))
    }

    fn wrong(&self, kind: ErrorKind, why: impl Into<String>) -> PortError {
        PortError::new(kind, READ, &self.source.place, why)
    }

    fn rewound(&self, table: &str) -> PortError {
        let why = format!("what {table} had made durable is not there any more, and the server was told to forget it");
        self.wrong(ErrorKind::Trimmed, why).advise("load the table anew")
    }

    /// What a table has, the source has lost.
    fn parted(&self, why: String) -> PortError {
        self.wrong(ErrorKind::Trimmed, why).advise("load the table anew: it has rows that are gone")
    }

    /// A session of its own that is logged in; a password that is refused is read again, once.
    async fn session(&self) -> PortResult<Session> {
        let tried = self.password.now();
        match Session::open(&self.settings, tried.password.as_ref()).await {
            Err(e) if e.kind == ErrorKind::Denied => match self.password.again(&tried).await {
                Ok(Some(password)) => Session::open(&self.settings, Some(&password)).await,
                Ok(None) => Err(e),
                Err(stale) => {
                    Err(PortError { came_back: format!("{}; {stale}", e.came_back), advice: stale.advice(), ..e })
                }
            },
            opened => opened,
        }
    }

    /// Until when more changes are waited for, and how many there must be to wait; nothing where none were given lately.
    fn lingers(&self, table: &str) -> Option<(Instant, usize)> {
        let lately = self.shared.locked().gave.get(table).is_some_and(|at| at.elapsed() < LATELY);
        lately.then(|| (Instant::now() + LINGER, 1))
    }

    /// Sees that the slot is being read.
    async fn begin(&self, slot: &str) -> PortResult<()> {
        let _beginning = self.beginning.lock().await;
        {
            let mut state = self.shared.locked();
            match &mut state.reading {
                Some(reading) if reading.slot == slot && reading.ended.is_none() => return Ok(()),
                // What ended it is told once; then it begins anew.
                reading => {
                    if let Some(e) = reading.take().and_then(|r| r.ended) {
                        return Err(e);
                    }
                }
            }
        }
        let client = self.source.client().await?;
        let found = slot::find(&client, &self.names).await?.filter(|found| found.name == slot);
        let Some(found) = found else {
            let why = slot::why_gone(&client, slot).await?;
            let why = why.unwrap_or_else(|| format!("the slot {slot} is not the plan's newest any more"));
            return Err(self.wrong(ErrorKind::Trimmed, why));
        };
        let (known, refused) = self.known(&client).await?;
        slot::free(&client, slot).await?;
        drop(client);
        // The binary form of a type that only the database knows says nothing here, its text does.
        let as_text = known.values().flatten().any(|table| !table.natives.is_empty());
        let mut session = self.session().await?;
        let timelines = session.timelines().await?;
        let log = session.start(slot, &self.names.publication, found.confirmed, as_text).await?;
        {
            let mut state = self.shared.locked();
            state.ended.extend(refused);
            // A table whose place this log does not have confirms nothing in it.
            let stands = |table: &Table| {
                let (on, at) = state.durable.get(&table.id).copied().unwrap_or_default();
                (table.id.clone(), if timelines.lost(&table.id, on, at).is_none() { at } else { Place::default() })
            };
            let mut hub = Hub::new(found.confirmed, self.tables.iter().map(stands));
            state.ended.keys().for_each(|table| hub.end(table));
            state.reading =
                Some(Reading { slot: slot.to_owned(), from: found.confirmed, timelines, hub, ended: None, task: None });
        }
        let pump = Pump {
            shared: Arc::clone(&self.shared),
            rows: Rows::new(known),
            source: Arc::clone(&self.source),
            publication: self.names.publication.clone(),
            tx: Of { xid: 0, at: At(0) },
        };
        let (shared, place, of) = (Arc::clone(&self.shared), self.source.place.clone(), slot.to_owned());
        let task = tokio::spawn(async move {
            let e = pump.run(log, &place).await;
            tracing::warn!(error = %e, slot = of, "reading the log ended");
            if let Some(reading) = shared.locked().reading.as_mut().filter(|reading| reading.slot == of) {
                reading.ended = Some(e);
            }
            shared.news.notify_waiters();
        });
        if let Some(reading) = self.shared.locked().reading.as_mut() {
            reading.task = Some(AbortOnDropHandle::new(task));
        }
        Ok(())
    }

    /// The plan's tables by their number in the catalogue, and those that cannot be followed.
    async fn known(&self, client: &Object) -> PortResult<(HashMap<u32, Vec<Known>>, Vec<(String, PortError)>)> {
        let (mut all, mut refused) = (Vec::with_capacity(self.tables.len()), Vec::new());
        for table in &self.tables {
            let error = |e: Error| trouble::error(&e, READ, &table.source);
            let fits = fit::table(client, table).await;
            let as_is = match fits.and(catalogue::table(client, table).await) {
                Ok(as_is) => as_is,
                Err(e) if matches!(e.kind, ErrorKind::Invalid | ErrorKind::NotFound) => {
                    refused.push((table.id.clone(), e));
                    continue;
                }
                Err(e) => return Err(e),
            };
            let natives = native::of(client, &as_is.target, &as_is.columns).await.map_err(error)?;
            let sql = "SELECT oid, relkind = 'p' FROM pg_class WHERE oid = to_regclass($1)";
            let row = client.query_one(sql, &[&qualified(&table.source)]).await.map_err(error)?;
            let (oid, partitioned): (u32, bool) = (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
            let mut columns = catalogue::read_of(table);
            columns.extend(as_is.key.iter().cloned());
            let known = Known { table: table.clone(), partitioned, key: as_is.key, columns, natives };
            let (publication, sql) = (&self.names.publication, qualified(&table.source));
            let numbers = partitions::numbers(client, publication, oid, &sql).await.map_err(error)?;
            all.extend(numbers.into_iter().map(|number| (number, known.clone())));
        }
        Ok((by_number(all), refused))
    }

    fn table(&self, id: &str) -> PortResult<&Table> {
        let unknown = || self.wrong(ErrorKind::NotFound, format!("the plan has no table {id}"));
        self.tables.iter().find(|table| table.id == id).ok_or_else(unknown)
    }
}

/// What an iterator says: the slot, the table, and behind which place of which timeline it reads on.
fn iterator(slot: &str, table: &str, on: u32, after: Place) -> String {
    format!("{slot} {} {table}", position(on, after).0)
}

fn parse(iterator: &str) -> Option<(&str, (u32, Place), &str)> {
    let mut parts = iterator.splitn(3, ' ');
    let (slot, after, table) = (parts.next()?, parts.next()?, parts.next()?);
    Some((slot, place(&Position(after.to_owned()))?, table))
}

#[async_trait]
impl Changes for PgChanges {
    async fn obstacles(&self, tables: &[Table]) -> PortResult<Vec<Obstacle>> {
        let client = self.source.client().await?;
        obstacles::of(&client, &self.names, tables).await
    }

    async fn enable(&self, table: &Table) -> PortResult<Stream> {
        let _making = self.making.lock().await;
        let client = self.source.client().await?;
        fit::table(&client, table).await?;
        // One that does not fit says so when it is its turn, and stops no other.
        let mut fitting = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            match fit::table(&client, table).await {
                Ok(()) => fitting.push(table.clone()),
                Err(e) if matches!(e.kind, ErrorKind::Invalid | ErrorKind::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        slot::enable(&client, &self.names, &fitting).await?;
        let made = self.stream(table).await?;
        made.ok_or_else(|| self.wrong(ErrorKind::NotFound, "what was just made is not there"))
    }

    async fn stream(&self, table: &Table) -> PortResult<Option<Stream>> {
        let client = self.source.client().await?;
        let Some(slot) = slot::find(&client, &self.names).await? else { return Ok(None) };
        let entries = slot::published(&client, &self.names, std::slice::from_ref(table)).await?;
        let entry = entries.first().cloned().flatten();
        Ok(entry.map(|entry| Self::stream_of(&slot, &entry, table)))
    }

    async fn why_gone(&self, stream: &str) -> PortResult<Option<String>> {
        let Some(slot) = stream.split('/').nth(1) else { return Ok(None) };
        let client = self.source.client().await?;
        if let Some(why) = slot::why_gone(&client, slot).await? {
            return Ok(Some(why));
        }
        // Each table's entry of the publication is part of what its stream is called.
        let mut published = false;
        for entry in slot::published(&client, &self.names, &self.tables).await?.into_iter().flatten() {
            published |= stream.split('/').nth(2) == Some(entry.as_str());
        }
        let publication = &self.names.publication;
        let why =
            || format!("its table was taken out of the publication {publication}, or the publication was altered");
        Ok((!published).then(why))
    }

    async fn iterator(&self, stream: &str, shard: &str, from: &ReadFrom) -> PortResult<String> {
        let slot =
            stream.split('/').nth(1).ok_or_else(|| self.wrong(ErrorKind::Invalid, format!("{stream} is no stream")))?;
        self.table(shard)?;
        let invalid = |p: &Position| self.wrong(ErrorKind::Invalid, format!("{} is no position of the log", p.0));
        let (on, after) = match from {
            ReadFrom::Oldest => {
                let begin = slot::begin(slot).ok_or_else(|| self.wrong(ErrorKind::Invalid, "no slot of ours"))?;
                (0, Place { commit: begin, number: 0 })
            }
            ReadFrom::After(p) => place(p).ok_or_else(|| invalid(p))?,
            ReadFrom::At(p) => {
                let (on, at) = place(p).ok_or_else(|| invalid(p))?;
                (on, at.number.checked_sub(1).map_or(at, |number| Place { number, ..at }))
            }
            ReadFrom::Newest => (0, Place { commit: self.end().await?, number: 0 }),
        };
        let end = self.end().await?;
        if after.commit > end {
            let why = format!(
                "{shard} has what was committed at {}, and the log ends at {}: the source lost its last transactions",
                super::session::shown(after.commit),
                super::session::shown(end)
            );
            return Err(self.parted(why));
        }
        {
            let mut state = self.shared.locked();
            if state.slot != slot {
                *state = State { slot: slot.to_owned(), ..State::default() };
            }
            // What was not kept for it is read anew.
            if state.ended.remove(shard).is_some() {
                state.durable.remove(shard);
                state.reading = None;
            }
            if state.durable.get(shard).is_some_and(|(_, durable)| after < *durable) {
                return Err(self.rewound(shard));
            }
            state.durable.insert(shard.to_owned(), (on, after));
        }
        self.begin(slot).await?;
        // A table never stands before what it has confirmed itself.
        let before = |reading: &Reading| after.commit < reading.from;
        if self.shared.locked().reading.as_ref().is_some_and(before) {
            return Err(self.rewound(shard));
        }
        let stands = self.shared.reading(|reading| (reading.timelines.now(), reading.timelines.lost(shard, on, after)));
        let now = match stands {
            Some((_, Some(why))) => return Err(self.parted(why)),
            Some((now, None)) => now,
            // It has ended already; who reads next is judged by where this table stands.
            None => on,
        };
        self.shared.hub(|hub| hub.durable(shard, after));
        Ok(iterator(slot, shard, now, after))
    }

    async fn read(&self, text: &str) -> PortResult<Batch> {
        let expired = || self.wrong(ErrorKind::Expired, format!("{text} is no iterator of ours"));
        let (slot, (on, after), id) = parse(text).ok_or_else(expired)?;
        let table = self.table(id)?;
        let (mut end, began, mut waits_for) = (None, Instant::now(), self.lingers(id));
        loop {
            self.begin(slot).await?;
            let news = self.shared.news.notified();
            let taken = self.shared.reading(|Reading { hub, timelines, .. }| {
                let full = (hub.bytes() >= WAITING).then(|| hub.fullest().unwrap_or_default().to_owned());
                let stands = (timelines.now(), timelines.lost(id, on, after));
                (hub.take(id, after, ANSWER), hub.read(), full, stands)
            });
            let Some((taken, read, full, (now, lost))) = taken else { continue };
            // The server may have been another one since this place was read.
            if let Some(why) = lost {
                return Err(self.parted(why));
            }
            if let Some(e) = self.shared.locked().ended.get(id) {
                return Err(e.clone());
            }
            let Taken { changes, reached } = taken.map_err(|Forgotten| self.rewound(id))?;
            if let Some((_, entry)) = changes.first()
                && let Entry::End(why) = &**entry
            {
                let ended = PortError::new(ErrorKind::Invalid, READ, &table.source, why.clone())
                    .advise("changes behind it are not followed; load the table anew");
                self.shared.locked().ended.insert(id.to_owned(), ended.clone());
                self.shared.hub(|hub| hub.end(id));
                self.shared.room.notify_one();
                return Err(ended);
            }
            if !changes.is_empty() {
                // While changes keep coming, one at a time would cost each of them a wake-up, and soon a transaction.
                if let Some((until, least)) = waits_for
                    && changes.len() >= least
                    && changes.len() < ENOUGH
                    && Instant::now() < until
                {
                    waits_for = Some((until, changes.len() + MANY));
                    tokio::time::sleep(MOMENT).await;
                    continue;
                }
                self.shared.locked().gave.insert(id.to_owned(), Instant::now());
                let changes = whole::changes(&self.source, table, now, &changes).await?;
                let last = changes.last().and_then(|change| place(&change.position)).map_or(after, |(_, at)| at);
                return Ok(Batch { changes, next: Some(iterator(slot, id, now, last)), reached: None });
            }
            let end = match end {
                Some(end) => end,
                None => *end.insert(self.end().await?),
            };
            if read >= end {
                let mut state = self.shared.locked();
                let moves = state.moved.get(id).is_none_or(|at| at.elapsed() >= MOVE_ON) && reached > after;
                if moves {
                    state.moved.insert(id.to_owned(), Instant::now());
                }
                let at = if moves { reached } else { after };
                return Ok(Batch {
                    changes: Vec::new(),
                    next: Some(iterator(slot, id, now, at)),
                    reached: moves.then(|| position(now, at)),
                });
            }
            if began.elapsed() >= PATIENCE {
                let why = match full.filter(|full| full != id) {
                    Some(full) => format!("it waits for {full}, whose changes are not applied"),
                    None => format!("it was read to {} of {}", super::session::shown(read), super::session::shown(end)),
                };
                return Err(self.wrong(ErrorKind::TimedOut, why));
            }
            self.shared.ask.notify_one();
            let _ = tokio::time::timeout(ASK, news).await;
        }
    }

    fn durable(&self, _stream: &str, shard: &str, position: &Position) {
        let Some((on, at)) = place(position) else { return };
        self.shared.locked().durable.insert(shard.to_owned(), (on, at));
        self.shared.hub(|hub| hub.durable(shard, at));
        self.shared.room.notify_one();
    }

    /// Nothing reads the log any more, and slot and publication are removed.
    async fn close(&self) -> PortResult<()> {
        let _beginning = self.beginning.lock().await;
        *self.shared.locked() = State::default();
        let client = self.source.client().await?;
        if let Some(slot) = slot::find(&client, &self.names).await? {
            slot::free(&client, &slot.name).await?;
        }
        slot::drop_all(&client, &self.names).await
    }

    async fn retained_log(&self, written: bool) -> PortResult<Option<LogLook>> {
        let client = self.source.client().await?;
        let look = retained::look(&client, &self.names, written).await;
        look.map(Some).map_err(|e| trouble::error(&e, "ask for the log that is kept at", &self.source.place))
    }

    fn kept(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iterator_says_where_it_stands_whatever_the_table_is_called() {
        let at = Place { commit: 0x152_eab0, number: 3 };
        let text = iterator("cutover_shop_01", "books of 2025", 2, at);
        assert_eq!(parse(&text), Some(("cutover_shop_01", (2, at), "books of 2025")));
        assert_eq!(parse("cutover_shop_01 oldest books"), None);
    }
}
