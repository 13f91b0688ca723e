//! One log for many tables: what was read of it, waiting for the tables it belongs to.
//!
//! The log is read once and in order. Each table takes its own changes in that order and says how far it has made them
//! durable. The source keeps what any table has not made durable, so a table that is given nothing also has to move on:
//! with its changes it is told how far the log was read for it. A transaction of which a part is durable comes again
//! whole after a restart, and each table skips what it has: a change's place is its transaction's and its number there,
//! both the same each time. So messages are numbered, whether a table of ours takes them or not.

use std::collections::{BTreeMap, VecDeque};

/// A place in the log: a change, or with number 0 everything that was committed before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where the transaction's commit stands in the log.
    pub commit: u64,
    /// Twice the number of its message in the transaction, from 1, and one more for the second change of a message.
    pub number: u32,
}

/// Changes that were read and are not durable in their tables yet.
#[derive(Debug)]
pub struct Hub<C> {
    tables: BTreeMap<String, Waiting<C>>,
    /// The transaction that is being read, with the number of its last message.
    reading: Option<Place>,
    /// Everything before this was read.
    read: u64,
    bytes: usize,
}

/// One table's changes, oldest first.
#[derive(Debug)]
struct Waiting<C> {
    changes: VecDeque<(Place, C, usize)>,
    durable: Place,
    /// It is not followed any further: nothing waits for it, and it holds nothing back.
    ended: bool,
}

/// Changes of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken<C> {
    /// With their places, in order.
    pub changes: Vec<(Place, C)>,
    /// How far the table has read with them: the last of them, or further when nothing more of it was read.
    pub reached: Place,
}

/// Messages in an order in which no server sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfOrder {
    /// A change or a commit outside of a transaction.
    #[error("a change came outside of a transaction")]
    NoTransaction,
    /// A transaction within another one.
    #[error("a transaction began before the one before had ended")]
    Nested,
    /// A transaction that was committed before one that was read already.
    #[error("a transaction came again, or in another order than they were committed in")]
    Back,
    /// A transaction of more changes than are counted.
    #[error("a transaction has more than two billion changes")]
    Endless,
}

/// A table whose changes from some place on were forgotten, because it had made them durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten;

impl<C: Clone> Hub<C> {
    /// Begins at a position of the log, with each table where it has made everything durable.
    pub fn new(from: u64, tables: impl IntoIterator<Item = (String, Place)>) -> Self {
        let waiting = |durable| Waiting { changes: VecDeque::new(), durable, ended: false };
        Self {
            tables: tables.into_iter().map(|(table, durable)| (table, waiting(durable))).collect(),
            reading: None,
            read: from,
            bytes: 0,
        }
    }

    /// A transaction begins; `commit` is where its commit stands.
    pub fn begin(&mut self, commit: u64) -> Result<(), OutOfOrder> {
        if self.reading.is_some() {
            return Err(OutOfOrder::Nested);
        }
        if commit < self.read {
            return Err(OutOfOrder::Back);
        }
        self.reading = Some(Place { commit, number: 0 });
        Ok(())
    }

    /// A message of the transaction came, whatever becomes of it.
    pub fn message(&mut self) -> Result<(), OutOfOrder> {
        let place = self.reading.as_mut().ok_or(OutOfOrder::NoTransaction)?;
        place.number = place.number.checked_add(2).filter(|number| *number < u32::MAX).ok_or(OutOfOrder::Endless)?;
        Ok(())
    }

    /// A change of these tables by the message that came last, its first or its second one; `bytes` is what it takes up.
    /// A table that nobody follows any more, or that has made the change durable already, does not wait for it.
    pub fn push(&mut self, second: bool, tables: &[&str], change: &C, bytes: usize) -> Result<(), OutOfOrder> {
        let message = self.reading.filter(|place| place.number > 0).ok_or(OutOfOrder::NoTransaction)?;
        let place = Place { number: message.number + u32::from(second), ..message };
        for table in tables {
            let followed = |waiting: &&mut Waiting<C>| !waiting.ended && waiting.durable < place;
            if let Some(waiting) = self.tables.get_mut(*table).filter(followed) {
                waiting.changes.push_back((place, change.clone(), bytes));
                self.bytes += bytes;
            }
        }
        Ok(())
    }

    /// The transaction is at its end; `end` is where the next record of the log stands.
    pub fn commit(&mut self, end: u64) -> Result<(), OutOfOrder> {
        self.reading.take().ok_or(OutOfOrder::NoTransaction)?;
        self.read = end;
        Ok(())
    }

    /// The source says that nothing of ours stands before this. Not within a transaction.
    pub fn passed(&mut self, position: u64) {
        if self.reading.is_none() {
            self.read = self.read.max(position);
        }
    }

    /// Everything before this was read.
    pub const fn read(&self) -> u64 {
        self.read
    }

    /// What the waiting changes take up.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The table whose waiting changes take up most.
    pub fn fullest(&self) -> Option<&str> {
        let of = |waiting: &Waiting<C>| waiting.changes.iter().map(|(.., bytes)| bytes).sum::<usize>();
        self.tables.iter().max_by_key(|(_, waiting)| of(waiting)).map(|(table, _)| table.as_str())
    }

    /// The changes of a table behind a place, as many as take up so much, one at least. They wait on until they are
    /// durable.
    ///
    /// # Errors
    /// The table has made durable what stands there, and it is forgotten.
    pub fn take(&self, table: &str, after: Place, most: usize) -> Result<Taken<C>, Forgotten> {
        let everything = self.reading.map_or(Place { commit: self.read, number: 0 }, |r| Place { number: 0, ..r });
        let Some(waiting) = self.tables.get(table) else {
            return Ok(Taken { changes: Vec::new(), reached: after.max(everything) });
        };
        if after < waiting.durable {
            return Err(Forgotten);
        }
        let (mut changes, mut bytes) = (Vec::new(), 0);
        let begin = waiting.changes.partition_point(|(place, ..)| *place <= after);
        for (place, change, size) in waiting.changes.range(begin..) {
            if bytes + size > most && !changes.is_empty() {
                break;
            }
            bytes += size;
            changes.push((*place, change.clone()));
        }
        let last = changes.last().map_or(after, |(place, _)| *place);
        let all = begin + changes.len() == waiting.changes.len();
        Ok(Taken { changes, reached: if all { last.max(everything) } else { last } })
    }

    /// A table is not followed any further: what waits for it is dropped, and what it has not made durable is not kept
    /// for it.
    pub fn end(&mut self, table: &str) {
        let Some(waiting) = self.tables.get_mut(table) else { return };
        waiting.ended = true;
        self.bytes -= waiting.changes.drain(..).map(|(.., bytes)| bytes).sum::<usize>();
    }

    /// A table has made everything up to here durable.
    pub fn durable(&mut self, table: &str, place: Place) {
        let Some(waiting) = self.tables.get_mut(table) else { return };
        waiting.durable = waiting.durable.max(place);
        while let Some((.., bytes)) = waiting.changes.pop_front_if(|(first, ..)| *first <= waiting.durable) {
            self.bytes -= bytes;
        }
    }

    /// What the source may forget: transactions committed before this are durable in every table that is followed. 0
    /// while a table has made nothing durable, and where none is followed.
    pub fn confirmed(&self) -> u64 {
        let followed = self.tables.values().filter(|waiting| !waiting.ended);
        followed.map(|waiting| waiting.durable.commit).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One transaction of a log: tables of its changes, each change with a number of its own.
    type Transaction = Vec<(usize, u32)>;

    const TABLES: [&str; 3] = ["authors", "books", "orders"];

    fn log() -> impl Strategy<Value = Vec<Transaction>> {
        let changes = prop::collection::vec(0..TABLES.len(), 0..6);
        prop::collection::vec(changes, 1..12).prop_map(|all| {
            let mut number = 0;
            let mut numbered = |table| {
                number += 1;
                (table, number)
            };
            all.into_iter().map(|tables| tables.into_iter().map(&mut numbered).collect()).collect()
        })
    }

    /// Where the commit of a transaction stands, and where it ends.
    fn stands(n: usize) -> (u64, u64) {
        (100 * n as u64 + 50, 100 * n as u64 + 100)
    }

    /// What a table has made durable, and where it stands.
    #[derive(Clone, Debug, Default)]
    struct Target {
        rows: Vec<u32>,
        at: Place,
    }

    /// What happens while a log is read.
    #[derive(Clone, Debug)]
    enum Turn {
        /// A message more is read.
        Read,
        /// A table takes some changes, and makes some of them durable, or not.
        Apply { table: usize, most: usize, keep: usize },
        /// A table that has taken all there is makes durable how far it has read.
        Reach(usize),
        /// The reader dies and begins where the source was told last.
        Restart,
        /// A table's follower fails and begins anew.
        Resume(usize),
    }

    fn turn() -> impl Strategy<Value = Turn> {
        prop_oneof![
            6 => Just(Turn::Read),
            4 => (0..TABLES.len(), 1..5_usize, 0..5_usize).prop_map(|(table, most, keep)| Turn::Apply { table, most, keep }),
            2 => (0..TABLES.len()).prop_map(Turn::Reach),
            1 => Just(Turn::Restart),
            1 => (0..TABLES.len()).prop_map(Turn::Resume),
        ]
    }

    /// The messages that a source sends from a position on: those of transactions whose commit is not before it.
    fn messages(log: &[Transaction], from: u64) -> VecDeque<Message> {
        let mut all = VecDeque::new();
        for (n, transaction) in log.iter().enumerate().filter(|(n, _)| stands(*n).0 >= from) {
            all.push_back(Message::Begin(stands(n).0));
            all.extend(transaction.iter().map(|(table, number)| Message::Change(*table, *number)));
            all.push_back(Message::Commit(stands(n).1));
        }
        all
    }

    enum Message {
        Begin(u64),
        Change(usize, u32),
        Commit(u64),
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_applied_twice_whatever_dies(log in log(), turns in prop::collection::vec(turn(), 0..300)) {
            let mut targets: Vec<Target> = vec![Target::default(); TABLES.len()];
            let mut told = 0;
            let hub = |told, targets: &[Target]| {
                Hub::new(told, TABLES.iter().zip(targets).map(|(table, target)| ((*table).to_owned(), target.at)))
            };
            let (mut reader, mut left) = (hub(told, &targets), messages(&log, told));
            let mut taken: Vec<Vec<(Place, u32)>> = vec![Vec::new(); TABLES.len()];
            // In the end everything is read and applied.
            let end = (0..TABLES.len()).flat_map(|table| [Turn::Apply { table, most: 1_000, keep: 1_000 }, Turn::Reach(table)]);
            let rest = std::iter::repeat_n(Turn::Read, 1_000).chain((0..TABLES.len()).map(Turn::Resume)).chain(end);
            for turn in turns.into_iter().chain(rest) {
                match turn {
                    Turn::Read => match left.pop_front() {
                        Some(Message::Begin(commit)) => reader.begin(commit).unwrap(),
                        Some(Message::Change(table, number)) => {
                            reader.message().unwrap();
                            reader.push(false, &[TABLES[table]], &number, 1).unwrap();
                        }
                        Some(Message::Commit(end)) => reader.commit(end).unwrap(),
                        None => {}
                    },
                    Turn::Apply { table, most, keep } => {
                        let after = taken[table].last().map_or(targets[table].at, |(place, _)| *place);
                        taken[table].extend(reader.take(TABLES[table], after, most).unwrap().changes);
                        let keep = keep.min(taken[table].len());
                        for (place, number) in taken[table].drain(..keep) {
                            targets[table].rows.push(number);
                            targets[table].at = place;
                        }
                        reader.durable(TABLES[table], targets[table].at);
                    }
                    Turn::Reach(table) => {
                        let got = reader.take(TABLES[table], targets[table].at, 1).unwrap();
                        if got.changes.is_empty() && taken[table].is_empty() {
                            targets[table].at = got.reached;
                            reader.durable(TABLES[table], got.reached);
                        }
                    }
                    Turn::Resume(table) => taken[table].clear(),
                    Turn::Restart => {
                        taken.iter_mut().for_each(Vec::clear);
                        (reader, left) = (hub(told, &targets), messages(&log, told));
                    }
                }
                let now = reader.confirmed();
                prop_assert!(now >= told, "it goes back");
                // A table that stands before what was confirmed has lost what it had made durable.
                prop_assert!(targets.iter().all(|target| target.at.commit >= now));
                told = now;
                // What is forgotten is durable.
                for (n, transaction) in log.iter().enumerate().filter(|(n, _)| stands(*n).0 < told) {
                    for (table, number) in transaction {
                        prop_assert!(targets[*table].rows.contains(number), "{number} of transaction {n} is forgotten");
                    }
                }
            }
            for (table, target) in targets.iter().enumerate() {
                let of: Vec<u32> = log.iter().flatten().filter(|(t, _)| *t == table).map(|(_, number)| *number).collect();
                prop_assert_eq!(&target.rows, &of);
            }
            prop_assert_eq!((reader.bytes(), told), (0, stands(log.len() - 1).1));
        }
    }

    fn at(commit: u64, number: u32) -> Place {
        Place { commit, number }
    }

    fn both() -> Hub<char> {
        Hub::new(7, [("a".to_owned(), Place::default()), ("b".to_owned(), Place::default())])
    }

    #[test]
    fn a_transaction_is_kept_until_all_its_tables_have_it() {
        let mut hub = both();
        hub.begin(10).unwrap();
        hub.message().unwrap();
        hub.push(false, &["a"], &'x', 3).unwrap();
        let taken = hub.take("a", at(0, 0), 9).unwrap();
        assert_eq!(
            taken,
            Taken { changes: vec![(at(10, 2), 'x')], reached: at(10, 2) },
            "before its transaction's end"
        );
        assert_eq!(hub.take("b", at(0, 0), 9).unwrap().reached, at(10, 0), "nothing of it was committed before");
        // One that is nobody's counts all the same.
        hub.message().unwrap();
        hub.message().unwrap();
        hub.push(true, &["b"], &'y', 4).unwrap();
        hub.durable("a", at(10, 2));
        assert_eq!((hub.confirmed(), hub.bytes()), (0, 4));
        hub.commit(12).unwrap();
        assert_eq!(hub.take("a", at(10, 2), 9).unwrap().reached, at(12, 0));
        let taken = hub.take("b", at(0, 0), 9).unwrap();
        assert_eq!(taken, Taken { changes: vec![(at(10, 7), 'y')], reached: at(12, 0) });
        hub.durable("b", at(10, 7));
        assert_eq!((hub.confirmed(), hub.bytes()), (10, 0), "it comes again whole");
        hub.durable("a", at(12, 0));
        hub.durable("b", at(12, 0));
        hub.passed(40);
        assert_eq!((hub.read(), hub.confirmed()), (40, 12));
        assert_eq!(hub.take("a", at(10, 2), 9), Err(Forgotten));
        assert_eq!(hub.take("elsewhere", at(0, 0), 9).unwrap().reached, at(40, 0));
    }

    #[test]
    fn a_batch_takes_up_no_more_than_it_may_but_for_one_change() {
        let mut hub = both();
        hub.begin(10).unwrap();
        for (change, bytes) in [('x', 3), ('y', 3), ('z', 99)] {
            hub.message().unwrap();
            hub.push(false, &["a", "b"], &change, bytes).unwrap();
        }
        hub.commit(12).unwrap();
        let took = |after, most| {
            let taken = hub.take("a", after, most).unwrap();
            (taken.changes.into_iter().map(|(_, c)| c).collect::<String>(), taken.reached)
        };
        assert_eq!(took(at(0, 0), 6), ("xy".to_owned(), at(10, 4)));
        assert_eq!(took(at(10, 4), 6), ("z".to_owned(), at(12, 0)));
        assert_eq!((hub.bytes(), hub.fullest()), (210, Some("b")));
    }

    #[test]
    fn a_table_that_has_ended_holds_back_neither_the_others_nor_the_source() {
        let mut hub = both();
        hub.begin(10).unwrap();
        hub.message().unwrap();
        hub.push(false, &["a", "b"], &'x', 3).unwrap();
        hub.end("a");
        hub.message().unwrap();
        hub.push(false, &["a"], &'y', 3).unwrap();
        hub.commit(12).unwrap();
        assert_eq!((hub.bytes(), hub.confirmed()), (3, 0));
        hub.durable("b", at(12, 0));
        assert_eq!((hub.bytes(), hub.confirmed()), (0, 12));
        hub.end("b");
        assert_eq!(hub.confirmed(), 0, "nobody has confirmed more");
    }

    #[test]
    fn messages_in_an_impossible_order_are_refused() {
        let mut hub = Hub::<char>::new(5, [("a".to_owned(), Place::default())]);
        assert_eq!(hub.message(), Err(OutOfOrder::NoTransaction));
        assert_eq!(hub.push(false, &["a"], &'x', 1), Err(OutOfOrder::NoTransaction));
        assert_eq!(hub.commit(6), Err(OutOfOrder::NoTransaction));
        assert_eq!(hub.begin(4), Err(OutOfOrder::Back));
        hub.begin(8).unwrap();
        assert_eq!(hub.push(false, &["a"], &'x', 1), Err(OutOfOrder::NoTransaction), "of no message");
        assert_eq!(hub.begin(9), Err(OutOfOrder::Nested));
        hub.passed(99);
        hub.commit(10).unwrap();
        assert_eq!(hub.read(), 10, "within a transaction it means nothing");
    }
}
