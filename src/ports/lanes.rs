//! Following in lanes: changes of one table applied side by side, split by key.
//!
//! A lane lands its rows in a transaction of its own and stores there how far it has come. A shard's common position moves
//! only when every lane has landed everything before it. So after a death some lanes may be *ahead* of the common
//! position: their changes come again and are not applied a second time.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::changes::Position;
use crate::domain::value::Key;

/// What a follower holds while it follows a table. Whoever takes the table up after it refuses what it still sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Fencing token: grows each time a table is taken up.
    pub token: i64,
    /// Lanes that changes are split into; 1 is all in one transaction.
    pub lanes: u32,
}

/// Lanes that landed more than the common position tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ahead(BTreeMap<(u32, String), Option<Position>>);

impl Ahead {
    /// Notes how far a lane has come in a shard; `None` is the shard's end.
    pub fn note(&mut self, lane: u32, shard: &str, position: Option<Position>) {
        self.0.insert((lane, shard.to_owned()), position);
    }

    /// Whether every lane stands at the common position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key's change at this position of a shard has landed already. In doubt it has not: applied once more, it
    /// ends at the same value.
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
pub struct Standing {
    /// The stream's identity.
    pub stream: String,
    /// Each shard's common position; finished shards are listed with `None`.
    pub positions: BTreeMap<String, Option<Position>>,
    /// Lanes that are further on.
    pub ahead: Ahead,
    /// The right to go on.
    pub hold: Hold,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_lane_has_landed_counts_as_landed() {
        let key = Key("b1".into());
        let (lane, at) = (key.lane(4), |p: &str| Position(p.into()));
        let mut ahead = Ahead::default();
        assert!(!ahead.landed(&key, 4, "s1", &at("1")));
        ahead.note(lane, "s1", Some(at("100")));
        ahead.note(lane, "s3", None);
        assert!(ahead.landed(&key, 4, "s1", &at("100")) && ahead.landed(&key, 4, "s1", &at("9")));
        assert!(!ahead.landed(&key, 4, "s1", &at("101")), "past it");
        assert!(!ahead.landed(&key, 4, "s2", &at("9")), "another shard");
        assert!(!ahead.landed(&key, 4, "s1", &at("oldest@3")), "not a number");
        assert!(ahead.landed(&key, 4, "s3", &at("5")), "the shard's end");
        let other = (0..99).map(|n| Key(format!("k{n}"))).find(|k| k.lane(4) != lane).unwrap();
        assert!(!ahead.landed(&other, 4, "s1", &at("9")), "another lane");
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
