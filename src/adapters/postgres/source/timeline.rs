//! Which line of a server's history its log goes on as.
//!
//! A standby that is promoted, and a server that is set back to a backup, go on as a new timeline: up to where it parted from
//! the one before, both logs are the same; behind that, a position of the old one says nothing in the new one. What a table
//! has from behind it is lost at the source, however far the new log reaches by now.

use std::collections::BTreeMap;

use super::hub::Place;
use super::session::{position, shown};

/// The timeline of a log, and where those that it comes from ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timelines {
    now: u32,
    ended: BTreeMap<u32, u64>,
}

impl Timelines {
    /// Of the number of the timeline that is written to, and the server's history file of it.
    pub(super) fn new(now: u32, history: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, position(words.next()?)?))
        };
        Self { now, ended: history.lines().filter_map(line).collect() }
    }

    /// The one that is written to.
    pub(super) const fn now(&self) -> u32 {
        self.now
    }

    /// Why this log says nothing of what follows a place that was read on another timeline, in words; `None` where it goes
    /// on from there. Places from before timelines were noted have number 0, and are not judged.
    pub(super) fn lost(&self, table: &str, on: u32, place: Place) -> Option<String> {
        if on == 0 || on == self.now {
            return None;
        }
        let now = self.now;
        let Some(ended) = self.ended.get(&on) else {
            return Some(format!(
                "{table} was followed on timeline {on} of the source, whose log goes on as timeline {now} and does not say where \
                 the two parted: it was promoted, or set back to a backup"
            ));
        };
        let common = Place { commit: *ended, number: 0 };
        (place > common).then(|| {
            format!(
                "{table} has what was committed at {}, and at {} the log of the source went on as timeline {now}: a standby was \
                 promoted, or a backup restored, and what timeline {on} had behind that is lost there",
                shown(place.commit),
                shown(*ended)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_on_up_to_where_its_timeline_ended_and_not_behind() {
        let history = "1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-12-01\n";
        let log = Timelines::new(3, history);
        let lost = |on, commit, number| log.lost("books", on, Place { commit, number });
        assert_eq!(lost(3, 0x900_0000, 4), None);
        assert_eq!(lost(1, 0x300_0147, 4), None);
        assert_eq!(lost(1, 0x300_0148, 0), None, "everything before it");
        assert!(lost(1, 0x300_0148, 2).is_some_and(|why| why.contains("0/3000148")));
        assert!(lost(1, 0x300_0149, 0).is_some());
        assert_eq!(lost(2, 0x400_0000, 0), None);
        assert!(lost(4, 1, 0).is_some_and(|why| why.contains("timeline 4")), "of a future that is no more");
        assert_eq!(lost(0, u64::MAX, 9), None, "noted before timelines were");
        assert!(Timelines::new(2, "").lost("books", 1, Place { commit: 1, number: 0 }).is_some());
    }
}
