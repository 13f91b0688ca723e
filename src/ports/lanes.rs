//! Following in lanes: changes of one table applied side by side, split by key.
//!
//! A lane lands its rows in a transaction of its own and stores there how far it has come. A shard's common position is
//! where every lane has landed everything before it. So after a death some lanes may be *ahead* of the common position:
//! their changes come again and are not applied a second time.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::changes::Position;
use super::error::{ErrorKind, PortError};
use crate::domain::value::Key;

/// What a follower holds while it follows a table. A process that resumes the table later refuses what it still sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Fencing token: grows each time a table is resumed.
    pub token: i64,
    /// Lanes that changes are split into; 1 is all in one transaction.
    pub lanes: u32,
}

/// How far one lane has come in one shard, as it is stored with the lane's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStand {
    /// Which lane.
    pub lane: u32,
    /// Of how many.
    pub of: u32,
    /// The shard.
    pub shard: String,
    /// Everything up to here has landed; `None` is the shard's end.
    pub position: Option<Position>,
}

/// The common positions: the stored ones, moved on where every lane has come further.
#[must_use]
pub fn common(
    mut stored: BTreeMap<String, Option<Position>>,
    lanes: &[LaneStand],
) -> BTreeMap<String, Option<Position>> {
    let groups: BTreeSet<(&str, u32)> = lanes.iter().map(|l| (l.shard.as_str(), l.of)).collect();
    for (shard, of) in groups {
        let group = || lanes.iter().filter(move |l| l.shard == shard && l.of == of);
        if group().map(|l| l.lane).collect::<BTreeSet<_>>().len() != of as usize {
            continue;
        }
        // The end lies behind every position, so it is common when nothing else is left.
        let open = group().filter_map(|l| l.position.as_ref());
        let least = open.min_by(|a, b| a.order(b).unwrap_or(Ordering::Equal));
        let further = match (stored.get(shard), least) {
            (Some(None), _) => false,
            (_, None) => true,
            (Some(Some(old)), Some(new)) => {
                is_number(new) && (!is_number(old) || new.order(old) == Some(Ordering::Greater))
            }
            (None, Some(new)) => is_number(new),
        };
        if further && group().all(|l| l.position.as_ref().is_none_or(is_number)) {
            stored.insert(shard.to_owned(), least.cloned());
        }
    }
    stored
}

/// The first shard whose position is earlier than one it is known to have had; `None` when nothing went back.
#[must_use]
pub fn rewound<'k>(
    known: &'k BTreeMap<String, Option<Position>>,
    stored: &BTreeMap<String, Option<Position>>,
) -> Option<&'k str> {
    known.iter().find(|(shard, known)| is_behind(stored.get(*shard), known)).map(|(shard, _)| shard.as_str())
}

/// Whether a shard stands (`None`: nowhere) earlier than this.
#[must_use]
pub fn is_behind(stands: Option<&Option<Position>>, known: &Option<Position>) -> bool {
    match (stands, known) {
        (None, _) | (Some(Some(_)), None) => true,
        (Some(None), _) => false,
        (Some(Some(stands)), Some(known)) => match (is_number(stands), is_number(known)) {
            (true, true) => stands.order(known) == Some(Ordering::Less),
            // A start is no number, and before all of them.
            (true, false) => false,
            _ => stands != known,
        },
    }
}

/// The error of a store whose positions went back to an earlier moment.
#[must_use]
pub fn refuse_rewound(tried: &str, on: &str, what: &str) -> PortError {
    let came_back = format!("the target stands earlier than it had confirmed ({what}): a failover lost transactions");
    PortError::new(ErrorKind::Rewound, tried, on, came_back)
        .advise("nothing was written; read back how far the target is and go on from there")
}

fn is_number(position: &Position) -> bool {
    position.order(position).is_some()
}

/// Lanes that landed more than the common position says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ahead(BTreeMap<(u32, String), Option<Position>>);

impl Ahead {
    /// Lanes of so many that are past the common positions.
    #[must_use]
    pub fn of(lanes: u32, stands: &[LaneStand], common: &BTreeMap<String, Option<Position>>) -> Self {
        let past = |stand: &&LaneStand| match (common.get(&stand.shard), &stand.position) {
            (Some(None), _) => false,
            (Some(Some(common)), Some(at)) => at.order(common) != Some(Ordering::Less) && at != common,
            _ => true,
        };
        let ours = stands.iter().filter(|stand| stand.of == lanes).filter(past);
        Self(ours.map(|stand| ((stand.lane, stand.shard.clone()), stand.position.clone())).collect())
    }

    /// Whether every lane stands at the common position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key's change at this position of a shard has landed already. In doubt it has not: applied once more,
    /// it ends at the same value.
    #[must_use]
    pub fn landed(&self, key: &Key, lanes: u32, shard: &str, position: &Position) -> bool {
        match self.0.get(&(key.lane(lanes), shard.to_owned())) {
            None => false,
            Some(None) => true,
            Some(Some(at)) => matches!(position.order(at), Some(Ordering::Less | Ordering::Equal)),
        }
    }
}

/// Where a table's following stands, as read from the target, with the right to go on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowState {
    /// The stream's identity.
    pub stream: String,
    /// Each shard's common position; finished shards are listed with `None`.
    pub positions: BTreeMap<String, Option<Position>>,
    /// Lanes that are further on.
    pub ahead: Ahead,
    /// The right to go on.
    pub fence: Fence,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(p: &str) -> Position {
        Position(p.into())
    }

    fn stand(lane: u32, shard: &str, position: Option<&str>) -> LaneStand {
        LaneStand { lane, of: 2, shard: shard.into(), position: position.map(at) }
    }

    #[test]
    fn only_what_a_lane_has_landed_counts_as_landed() {
        let key = Key("b1".into());
        let lane = key.lane(2);
        assert!(!Ahead::default().landed(&key, 2, "s1", &at("1")));
        let stands = [stand(lane, "s1", Some("100")), stand(lane, "s3", None), stand(lane, "s4", Some("7"))];
        let known = BTreeMap::from([("s1".into(), Some(at("5"))), ("s4".into(), Some(at("7")))]);
        let ahead = Ahead::of(2, &stands, &known);
        assert!(ahead.landed(&key, 2, "s1", &at("100")) && ahead.landed(&key, 2, "s1", &at("9")));
        assert!(!ahead.landed(&key, 2, "s1", &at("101")), "past it");
        assert!(!ahead.landed(&key, 2, "s2", &at("9")), "another shard");
        assert!(!ahead.landed(&key, 2, "s1", &at("oldest@3")), "not a number");
        assert!(ahead.landed(&key, 2, "s3", &at("5")), "the shard's end");
        assert!(!ahead.landed(&key, 2, "s4", &at("7")), "no further than all");
        let other = (0..99).map(|n| Key(format!("k{n}"))).find(|k| k.lane(2) != lane).unwrap();
        assert!(!ahead.landed(&other, 2, "s1", &at("9")), "another lane");
        assert!(Ahead::of(3, &stands, &known).is_empty(), "another number of lanes");
    }

    #[test]
    fn common_is_where_every_lane_has_come() {
        let one = |stored: Option<Option<&str>>, lanes: &[LaneStand]| {
            let stored = stored.map(|p| ("s".to_owned(), p.map(at))).into_iter().collect();
            common(stored, lanes).remove("s").map(|p| p.map(|p| p.0))
        };
        let some = |p: &str| Some(Some(p.to_owned()));
        let both = |a, b| [stand(0, "s", a), stand(1, "s", b)];
        assert_eq!(one(Some(Some("9")), &both(Some("100"), Some("99"))), some("99"));
        assert_eq!(one(Some(Some("9")), &both(Some("100"), None)), some("100"), "one is at the end");
        assert_eq!(one(Some(Some("9")), &both(None, None)), Some(None), "all are");
        assert_eq!(one(Some(Some("9")), &both(Some("8"), Some("20"))), some("9"), "never back");
        assert_eq!(one(Some(None), &both(Some("8"), Some("20"))), Some(None), "finished is finished");
        assert_eq!(one(Some(Some("oldest@17")), &both(Some("8"), Some("20"))), some("8"));
        assert_eq!(one(None, &both(Some("8"), Some("20"))), some("8"), "a shard that only lanes have seen");
        assert_eq!(one(Some(Some("9")), &both(Some("odd"), Some("20"))), some("9"), "not a number");
        assert_eq!(one(Some(Some("9")), &[stand(0, "s", Some("100"))]), some("9"), "the other has landed nothing");
        assert_eq!(one(None, &[stand(0, "s", None)]), None);
        let mixed = [stand(0, "s", Some("100")), LaneStand { of: 3, ..stand(1, "s", Some("100")) }];
        assert_eq!(one(Some(Some("9")), &mixed), some("9"), "lanes of different numbers are no whole");
    }

    #[test]
    fn a_shard_went_back_when_it_stands_before_where_it_stood() {
        let one = |stands: Option<Option<&str>>, known: Option<&str>| {
            let map = |p: Option<&str>| BTreeMap::from([("s".to_owned(), p.map(at))]);
            rewound(&map(known), &stands.map(map).unwrap_or_default()).is_some()
        };
        for (stands, known) in [
            (None, Some("oldest@7")),
            (None, None),
            (Some(Some("9")), Some("10")),
            (Some(Some("oldest@7")), Some("10")),
            (Some(Some("oldest@6")), Some("oldest@7")),
            (Some(Some("10")), None),
        ] {
            assert!(one(stands, known), "{stands:?} {known:?}");
        }
        for (stands, known) in [
            (Some(Some("10")), Some("10")),
            (Some(Some("10")), Some("9")),
            (Some(Some("1")), Some("oldest@7")),
            (Some(Some("oldest@7")), Some("oldest@7")),
            (Some(None), Some("9")),
            (Some(None), None),
        ] {
            assert!(!one(stands, known), "{stands:?} {known:?}");
        }
        assert_eq!(rewound(&BTreeMap::new(), &BTreeMap::new()), None);
    }

    #[test]
    fn keys_keep_their_lanes_for_good_and_spread_over_all() {
        // Stored by number, so these may never change.
        let lanes: Vec<u32> = ["a", "b", "book|7", ""].iter().map(|k| Key((*k).into()).lane(4)).collect();
        assert_eq!(lanes, [3, 3, 1, 3]);
        let mut counts = [0; 4];
        for n in 0..4000 {
            counts[Key(format!("key-{n}")).lane(4) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (850..1150).contains(c)), "{counts:?}");
    }
}
