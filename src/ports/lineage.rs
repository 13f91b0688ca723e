//! Shards of a stream: lineage, and where to read on. Whoever reads a stream keeps to it, in either direction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Position, ReadFrom, Shard, Stream, is_behind};
use crate::domain::at::At;

/// How a start at the oldest record is stored, with the moment it was recorded.
const OLDEST: &str = "oldest@";

/// The position "oldest record, as of now".
#[must_use]
pub fn start_now(now: At) -> Position {
    Position(format!("{OLDEST}{}", now.0))
}

/// What stands in the way of reading.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// The start was recorded too long ago.
    #[error("the recorded start is older than the stream keeps records: changes may be missing")]
    TooOld,
}

/// How far a stream has been applied, as read from the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Position of each shard that was ever read; `None` when it is finished.
    applied: BTreeMap<String, Option<Position>>,
}

impl Lineage {
    /// Resumes from what the target says.
    #[must_use]
    pub const fn new(applied: BTreeMap<String, Option<Position>>) -> Self {
        Self { applied }
    }

    /// Shards that may be read now: not finished, and the parent finished or no longer kept. A parent that was never read and
    /// is not listed any more held nothing that is wanted ([`Lineage::lost`] says where that is not so).
    pub fn readable<'s>(&'s self, stream: &'s Stream) -> impl Iterator<Item = &'s Shard> {
        let listed: BTreeSet<&str> = stream.shards.iter().map(|s| s.id.as_str()).collect();
        stream.shards.iter().filter(move |s| !self.finished(&s.id)).filter(move |s| match &s.parent {
            Some(parent) if listed.contains(parent.as_str()) || self.begun(parent) => self.finished(parent),
            _ => true,
        })
    }

    /// Whether every shard but the readable ones is finished: no child waits for its parent, or to be listed.
    #[must_use]
    pub fn all_within_horizon(&self, stream: &Stream) -> bool {
        let readable = self.readable(stream).count();
        let open = stream.shards.iter().filter(|s| !self.finished(&s.id)).count();
        readable == open && self.childless(stream).next().is_none()
    }

    /// Shards that are read to their end, and whose children are not listed yet: a shard ends because others follow it,
    /// and a listing may be older than that.
    pub fn childless<'s>(&'s self, stream: &'s Stream) -> impl Iterator<Item = &'s Shard> {
        let parents: BTreeSet<&str> = stream.shards.iter().filter_map(|s| s.parent.as_deref()).collect();
        stream.shards.iter().filter(move |s| self.finished(&s.id) && !parents.contains(s.id.as_str()))
    }

    /// A shard that was trimmed before it was read to its end: begun and gone, or unknown parent of a shard that
    /// nobody has begun. Changes are missing then.
    ///
    /// A shard that was not begun and is gone while everything since its recorded start is kept held only what is older than
    /// that start: the load has read it.
    #[must_use]
    pub fn lost(&self, stream: &Stream, now: At, kept: Option<Duration>) -> Option<String> {
        let listed: BTreeSet<&str> = stream.shards.iter().map(|s| s.id.as_str()).collect();
        let gone = self.applied.keys().filter(|id| !listed.contains(id.as_str()) && !self.finished(id));
        let mut gone = gone.filter(|id| self.begun(id) || self.read_from(id, now, kept).is_err());
        if let Some(id) = gone.next() {
            return Some(id.clone());
        }
        // Shards listed at the start are known, so an unknown one was created later, and so was its parent.
        stream
            .shards
            .iter()
            .filter(|s| !self.applied.contains_key(&s.id))
            .filter_map(|s| s.parent.as_ref())
            .find(|p| !listed.contains(p.as_str()) && !self.applied.contains_key(*p))
            .cloned()
    }

    /// Shards that were never begun and are gone in time ([`Lineage::lost`]): nothing is left to be read of them.
    #[must_use]
    pub fn gone(&self, stream: &Stream) -> Vec<String> {
        let listed: BTreeSet<&str> = stream.shards.iter().map(|s| s.id.as_str()).collect();
        let gone = self.applied.keys().filter(|id| !listed.contains(id.as_str()) && !self.begun(id));
        gone.cloned().collect()
    }

    /// Whether anything of a shard was read, or it is finished: not only its start recorded.
    fn begun(&self, shard: &str) -> bool {
        self.applied.get(shard).is_some_and(|p| p.as_ref().is_none_or(|p| !p.0.starts_with(OLDEST)))
    }

    /// Whether a shard is read to its end and applied.
    #[must_use]
    pub fn finished(&self, shard: &str) -> bool {
        matches!(self.applied.get(shard), Some(None))
    }

    /// Where to read a shard on. A shard nobody has seen is a child created after the start: all of it counts.
    /// `kept` is how long the store keeps a record at least.
    pub fn read_from(&self, shard: &str, now: At, kept: Option<Duration>) -> Result<ReadFrom, Gap> {
        match self.applied.get(shard) {
            None | Some(None) => Ok(ReadFrom::Oldest),
            Some(Some(Position(text))) => match text.strip_prefix(OLDEST) {
                None => Ok(ReadFrom::After(Position(text.clone()))),
                Some(since) => {
                    let since = At(since.parse().unwrap_or(0));
                    let age = Duration::from_millis(u64::try_from(now.since(since)).unwrap_or(0));
                    if kept.is_some_and(|kept| age > kept) { Err(Gap::TooOld) } else { Ok(ReadFrom::Oldest) }
                }
            },
        }
    }

    /// The last applied position of a shard; `None` where there is none that a change could have.
    #[must_use]
    pub fn position(&self, shard: &str) -> Option<&Position> {
        self.applied.get(shard)?.as_ref().filter(|p| !p.0.starts_with(OLDEST))
    }

    /// Where every shard stands.
    #[must_use]
    pub const fn stored(&self) -> &BTreeMap<String, Option<Position>> {
        &self.applied
    }

    /// Shards that stand earlier in another reading of the target, each with where: `shard-1 at 17`.
    #[must_use]
    pub fn behind(&self, now: &BTreeMap<String, Option<Position>>) -> Vec<String> {
        let behind = self.applied.iter().filter(|(shard, known)| is_behind(now.get(*shard), known));
        let at = |shard: &String| match now.get(shard).and_then(Option::as_ref) {
            Some(Position(text)) if !text.starts_with(OLDEST) => format!("{shard} after {text}"),
            _ => format!("{shard} from its beginning"),
        };
        behind.map(|(shard, _)| at(shard)).collect()
    }

    /// Adds what was just made durable.
    pub fn applied(&mut self, positions: &BTreeMap<String, Position>, finished: &[String]) {
        for (shard, position) in positions {
            self.applied.insert(shard.clone(), Some(position.clone()));
        }
        for shard in finished {
            self.applied.insert(shard.clone(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Option<Duration> = Some(Duration::from_secs(23 * 3_600));

    fn stream(shards: &[(&str, Option<&str>)]) -> Stream {
        let shards = shards
            .iter()
            .map(|(id, parent)| Shard { id: (*id).into(), parent: parent.map(Into::into), closed: false })
            .collect();
        Stream { id: "s".into(), shards }
    }
    fn readable(lineage: &Lineage, stream: &Stream) -> Vec<String> {
        lineage.readable(stream).map(|s| s.id.clone()).collect()
    }

    #[test]
    fn a_child_waits_for_its_parent_and_not_for_a_trimmed_one() {
        let s = stream(&[("a", Some("gone")), ("b", Some("a")), ("c", Some("a")), ("d", Some("b"))]);
        let mut lineage = Lineage::default();
        assert_eq!(readable(&lineage, &s), ["a"]);
        assert!(!lineage.all_within_horizon(&s));
        lineage.applied(&BTreeMap::new(), &["a".into()]);
        assert_eq!(readable(&lineage, &s), ["b", "c"]);
        lineage.applied(&BTreeMap::from([("b".into(), Position("7".into()))]), &[]);
        assert_eq!(readable(&lineage, &s), ["b", "c"], "begun is not finished");
        lineage.applied(&BTreeMap::new(), &["b".into(), "c".into()]);
        assert_eq!(readable(&lineage, &s), ["d"]);
        assert!(!lineage.all_within_horizon(&s), "the child of c is not listed yet");
        let s = stream(&[("b", Some("a")), ("c", Some("a")), ("d", Some("b")), ("e", Some("c"))]);
        assert_eq!(readable(&lineage, &s), ["d", "e"]);
        assert!(lineage.all_within_horizon(&s));
    }

    #[test]
    fn a_shard_trimmed_unread_is_lost_and_said_so() {
        let s = stream(&[("c", Some("b"))]);
        let begun = Lineage::new(BTreeMap::from([("a".into(), Some(Position("1".into())))]));
        assert_eq!(begun.lost(&s, At(0), KEPT), Some("a".into()), "begun, and gone");
        let ended = Lineage::new(BTreeMap::from([("a".into(), None)]));
        assert_eq!(ended.lost(&s, At(0), KEPT), Some("b".into()), "its parent was never seen");
        let known = Lineage::new(BTreeMap::from([("b".into(), None)]));
        assert_eq!(known.lost(&s, At(0), KEPT), None);
        let start = Lineage::new(BTreeMap::from([("c".into(), Some(start_now(At(0))))]));
        assert_eq!(start.lost(&s, At(0), KEPT), None, "a parent trimmed before the start does not matter");
    }

    #[test]
    fn a_shard_that_goes_before_it_is_read_is_no_loss_while_everything_since_its_start_is_kept() {
        let hour = 3_600_000;
        let start = BTreeMap::from([("a".into(), Some(start_now(At(0)))), ("b".into(), Some(start_now(At(0))))]);
        let lineage = Lineage::new(start);
        let s = stream(&[("b", Some("a"))]);
        assert_eq!(lineage.lost(&s, At(20 * hour), KEPT), None, "what it held is older than the load");
        assert_eq!(readable(&lineage, &s), ["b"], "and keeps no child waiting");
        // It is kept as finished, so that it is no loss later either.
        assert_eq!(lineage.gone(&s), ["a"]);
        let mut kept = lineage.clone();
        kept.applied(&BTreeMap::new(), &lineage.gone(&s));
        assert_eq!((kept.lost(&s, At(30 * hour), KEPT), kept.gone(&s)), (None, vec![]));
        assert_eq!(lineage.lost(&s, At(24 * hour), KEPT), Some("a".into()), "by now it may have held more");
        // Once it was read in part, what is left of it is missing.
        let mut lineage = lineage;
        lineage.applied(&BTreeMap::from([("a".into(), Position("7".into()))]), &[]);
        assert_eq!(lineage.lost(&s, At(20 * hour), KEPT), Some("a".into()));
        assert!(readable(&lineage, &s).is_empty());
    }

    #[test]
    fn an_old_start_is_a_gap_not_a_guess() {
        let start = start_now(At(0));
        let lineage = Lineage::new(BTreeMap::from([("a".into(), Some(start))]));
        let kept = Some(Duration::from_secs(23 * 3_600));
        assert_eq!(lineage.read_from("a", At(1000), kept), Ok(ReadFrom::Oldest));
        assert_eq!(lineage.read_from("a", At(24 * 3_600_000), kept), Err(Gap::TooOld));
        assert_eq!(
            lineage.read_from("a", At(24 * 3_600_000), None),
            Ok(ReadFrom::Oldest),
            "kept until it is confirmed"
        );
        let lineage = Lineage::new(BTreeMap::from([("a".into(), Some(Position("12".into())))]));
        assert_eq!(lineage.read_from("a", At(i64::MAX), kept), Ok(ReadFrom::After(Position("12".into()))));
        assert_eq!(lineage.read_from("new", At(0), kept), Ok(ReadFrom::Oldest));
    }
}
