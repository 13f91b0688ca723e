//! How far following has come, shard by shard, on the monotonic clock. The lag is computed whenever it is read, so a
//! follower that is throttled, paused or cut off cannot leave an old, small lag behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use crate::domain::at::At;

/// Markers that are remembered; a drain needs those of its own few rounds.
const MARKERS: usize = 4096;

/// What is known of one shard; times on the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shard {
    /// Everything older was read.
    read: Option<i64>,
    /// Everything older is durable in the target.
    applied: Option<i64>,
}

/// Progress of one table. Shared between its follower, the measurements and the drain.
#[derive(Debug, Default)]
pub struct FollowProgress(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Open shards only: a finished one holds nothing back.
    open: BTreeMap<String, Shard>,
    /// Where the shards that are gone had come to: a child begins there.
    floor: Option<Shard>,
    /// The last markers, with the shard each came through.
    markers: VecDeque<(String, String)>,
    ended: bool,
}

/// Apply lag and capture lag in milliseconds; absent means not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lags {
    /// Age of the oldest change that may not be durable in the target yet.
    pub apply: Option<i64>,
    /// Age of the oldest change that may not be read yet.
    pub capture: Option<i64>,
}

/// One read of a shard.
#[derive(Clone, Debug)]
pub struct Read {
    /// Which shard.
    pub shard: String,
    /// Monotonic time before the read.
    pub began_mono: i64,
    /// How old the newest change was by then; absent when there was none.
    pub newest_age: Option<i64>,
}

impl Read {
    /// A read that began at these times; `newest` is the store's time of the newest change it gave.
    pub fn new(shard: &str, began_mono: i64, began_wall: At, newest: Option<At>) -> Self {
        let newest_age = newest.map(|at| began_wall.since(at).max(0));
        Self { shard: shard.to_owned(), began_mono, newest_age }
    }

    /// Everything older than this came with the read or before it.
    const fn covers_until(&self) -> i64 {
        match self.newest_age {
            Some(age) => self.began_mono.saturating_sub(age),
            None => self.began_mono,
        }
    }
}

impl FollowProgress {
    /// The open shards are these now, waiting children included.
    pub fn listed<'s>(&self, open: impl Iterator<Item = &'s str>) {
        let mut state = self.lock();
        let listed: BTreeSet<&str> = open.collect();
        // A new shard is a child: nothing in it is older than what its parent had reached.
        let begins = state.open.values().copied().reduce(least).or(state.floor).unwrap_or_default();
        let gone: Vec<Shard> =
            state.open.iter().filter(|(id, _)| !listed.contains(id.as_str())).map(|(_, s)| *s).collect();
        if let Some(gone) = gone.into_iter().reduce(least) {
            state.floor = Some(gone);
        }
        state.open.retain(|id, _| listed.contains(id.as_str()));
        for id in listed {
            state.open.entry(id.to_owned()).or_insert(begins);
        }
    }

    /// A read was answered.
    pub fn read(&self, read: &Read) {
        if let Some(shard) = self.lock().open.get_mut(&read.shard) {
            shard.read = shard.read.max(Some(read.covers_until()));
        }
    }

    /// What these reads gave is durable in the target.
    pub fn applied(&self, reads: &[Read]) {
        let mut state = self.lock();
        for read in reads {
            if let Some(shard) = state.open.get_mut(&read.shard) {
                shard.applied = shard.applied.max(Some(read.covers_until()));
            }
        }
    }

    /// These markers (nonce, and the shard it came through) are durable in the target.
    pub fn marked(&self, markers: Vec<(String, String)>) {
        let mut state = self.lock();
        state.markers.extend(markers);
        let over = state.markers.len().saturating_sub(MARKERS);
        state.markers.drain(..over);
    }

    /// Open shards, and how many of them have received none of these markers.
    pub fn unproven(&self, nonces: &BTreeSet<String>) -> (usize, usize) {
        let state = self.lock();
        let through: BTreeSet<&str> =
            state.markers.iter().filter(|(n, _)| nonces.contains(n)).map(|(_, shard)| shard.as_str()).collect();
        let unproven = state.open.keys().filter(|id| !through.contains(id.as_str())).count();
        (state.open.len(), unproven)
    }

    /// The target lost what was durable: nothing is known until it is read and applied anew.
    pub fn lost(&self) {
        let mut state = self.lock();
        state.open.values_mut().for_each(|shard| *shard = Shard::default());
        state.floor = None;
        state.markers.clear();
    }

    /// Following ended for good: nothing is known from now on.
    pub fn end(&self) {
        self.lock().ended = true;
    }

    /// The lags as of this moment.
    pub fn lags(&self, mono: i64) -> Lags {
        let state = self.lock();
        if state.ended {
            return Lags::default();
        }
        // A stream whose shards are all finished waits for children that are not listed yet.
        let slowest = state.open.values().copied().reduce(least).or(state.floor).unwrap_or_default();
        let age = |then: Option<i64>| then.map(|then| mono.saturating_sub(then).max(0));
        Lags { apply: age(slowest.applied), capture: age(slowest.read) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The less advanced of two in both respects; unknown is less than anything.
fn least(a: Shard, b: Shard) -> Shard {
    Shard { read: a.read.min(b.read), applied: a.applied.min(b.applied) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(shard: &str, at: i64) -> Read {
        Read::new(shard, at, At(at), None)
    }

    fn lags(apply: Option<i64>, capture: Option<i64>) -> Lags {
        Lags { apply, capture }
    }

    #[test]
    fn nothing_read_is_unknown_and_one_unread_shard_makes_the_whole_unknown() {
        let progress = FollowProgress::default();
        assert_eq!(progress.lags(5), lags(None, None));
        progress.listed(["a", "b"].into_iter());
        progress.read(&empty("a", 10));
        progress.applied(&[empty("a", 10)]);
        assert_eq!(progress.lags(20), lags(None, None));
        progress.read(&empty("b", 15));
        assert_eq!(progress.lags(20), lags(None, Some(10)));
        progress.applied(&[empty("b", 15)]);
        assert_eq!(progress.lags(20), lags(Some(10), Some(10)));
    }

    #[test]
    fn lag_grows_by_itself_when_nothing_is_read_any_more() {
        let progress = FollowProgress::default();
        progress.listed(["a"].into_iter());
        progress.read(&empty("a", 100));
        progress.applied(&[empty("a", 100)]);
        assert_eq!(progress.lags(100).apply, Some(0));
        assert_eq!(progress.lags(60_100).apply, Some(60_000), "throttled for a minute is a minute behind");
    }

    #[test]
    fn changes_count_by_the_stores_time_until_they_are_applied() {
        let progress = FollowProgress::default();
        progress.listed(["a"].into_iter());
        let read = Read::new("a", 1_000, At(50_000), Some(At(47_000)));
        progress.read(&read);
        assert_eq!(progress.lags(1_000), lags(None, Some(3_000)));
        progress.applied(&[read]);
        assert_eq!(progress.lags(1_500), lags(Some(3_500), Some(3_500)));
        // A store whose clock runs ahead does not make the lag negative.
        progress.applied(&[Read::new("a", 2_000, At(50_000), Some(At(59_000)))]);
        assert_eq!(progress.lags(2_000).apply, Some(0));
    }

    #[test]
    fn a_child_begins_where_its_parent_ended_and_an_ended_stream_is_unknown() {
        let progress = FollowProgress::default();
        progress.listed(["parent"].into_iter());
        progress.read(&empty("parent", 10));
        progress.applied(&[empty("parent", 10)]);
        progress.listed([].into_iter());
        assert_eq!(progress.lags(30).apply, Some(20), "between parent and children the parent speaks");
        progress.listed(["child", "other"].into_iter());
        assert_eq!(progress.lags(40).apply, Some(30));
        progress.applied(&[empty("child", 38)]);
        assert_eq!(progress.lags(40).apply, Some(30), "its sibling has not been read");
        progress.applied(&[empty("other", 39)]);
        assert_eq!(progress.lags(40).apply, Some(2));
        progress.end();
        assert_eq!(progress.lags(40), lags(None, None));
    }

    #[test]
    fn only_the_markers_asked_for_prove_a_shard() {
        let progress = FollowProgress::default();
        progress.listed(["a", "b"].into_iter());
        progress.marked(vec![("old".into(), "b".into()), ("new".into(), "a".into())]);
        let asked = BTreeSet::from(["new".to_owned(), "newer".to_owned()]);
        assert_eq!(progress.unproven(&asked), (2, 1), "an older marker says nothing about the fence");
        progress.marked(vec![("newer".into(), "b".into())]);
        assert_eq!(progress.unproven(&asked), (2, 0));
        progress.marked((0..MARKERS).map(|n| (n.to_string(), "a".into())).collect());
        assert_eq!(progress.unproven(&asked), (2, 2), "what is forgotten proves nothing");
    }
}
