//! Where everything of our bookkeeping is kept: one table, keyed by what it is about and by place.

use sha2::{Digest as _, Sha256};

use crate::domain::plan::{Arn, BOOKKEEPING, Table};
use crate::domain::value::Key;
use crate::ports::Partition;

/// The table that holds our bookkeeping, shared by all plans of an account and region.
pub(super) const BOOK: &str = BOOKKEEPING;
/// The layout that this version keeps.
pub(super) const LAYOUT: i64 = 1;
/// Its key attributes.
pub(super) const KEY: (&str, &str) = ("pk", "sk");
/// Bytes of a key by which the ledger is ordered.
const HEAD: usize = 200;

/// Where one item stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    /// What it is about.
    pub pk: String,
    /// Which of these.
    pub sk: String,
}

fn place(pk: impl Into<String>, sk: impl Into<String>) -> Place {
    Place { pk: pk.into(), sk: sk.into() }
}

/// A part of a name, so that no two parts read as one.
fn part(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2F")
}

/// The layout of the bookkeeping.
pub(super) fn layout() -> Place {
    place("layout", "layout")
}

/// The tokens that were given out, by all plans.
pub(super) fn token() -> Place {
    place("token", "token")
}

/// What is kept of every plan.
pub(super) const PLANS: &str = "plans";

/// That a plan has tables here.
pub(super) fn plan_listed(plan: &str) -> Place {
    place(PLANS, plan)
}

/// A plan's lease.
pub(super) fn lease(plan: &str) -> Place {
    place(of_plan(plan), "lease")
}

/// That a plan is being released.
pub(super) fn released(plan: &str) -> Place {
    place(of_plan(plan), "released")
}

/// What is kept of a plan as a whole.
pub(super) fn of_plan(plan: &str) -> String {
    format!("plan/{}", part(plan))
}

/// The beginning of a plan's tables in [`of_plan`].
pub(super) const TABLES: &str = "table/";

/// Who has a table of the store. A table that is named by its ARN is the one of that name.
pub(super) fn owner(target: &str) -> Place {
    let name = Arn::of(target).map_or(target, |arn| arn.table);
    place(format!("target/{}", part(name)), "owner")
}

/// The beginning of shards in [`Of::follow`].
pub(super) const SHARDS: &str = "shard/";
/// The beginning of checkpoints in [`Of::load`].
pub(super) const PARTS: &str = "part/";
/// The beginning of permits in [`Of::load`].
pub(super) const PERMITS: &str = "permit/";
/// The beginning of counts of changes in [`Of::counts`].
pub(super) const CHANGES: &str = "change/";

/// The beginning of markers that came through, in [`Of::back_markers`].
pub(super) const CAME: &str = "came/";
/// The beginning of markers that were sent.
pub(super) const SENT: &str = "sent/";

/// Whose bookkeeping of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Of {
    plan: String,
    id: String,
}

impl Of {
    /// A table of a plan.
    pub(super) fn new(plan: &str, table: &Table) -> Self {
        Self::id(plan, &table.id)
    }

    /// The same by the table's id.
    pub(super) fn id(plan: &str, id: &str) -> Self {
        Self { plan: plan.to_owned(), id: id.to_owned() }
    }

    fn about(&self, what: &str) -> String {
        format!("{what}/{}/{}", part(&self.plan), part(&self.id))
    }

    /// The table as the plan's own: who has it, whether it is open, who follows it.
    pub(super) fn table(&self) -> Place {
        place(of_plan(&self.plan), format!("{TABLES}{}", self.id))
    }

    /// Everything of its load.
    pub(super) fn load(&self) -> String {
        self.about("load")
    }

    /// The checkpoint of a partition.
    pub(super) fn checkpoint(&self, at: Partition) -> Place {
        place(self.load(), format!("{PARTS}{:06}/{:06}", at.of, at.index))
    }

    /// A permit to send rows of a load.
    pub(super) fn permit(&self, id: &str) -> Place {
        place(self.load(), format!("{PERMITS}{id}"))
    }

    /// Everything of its following that the whole table has.
    pub(super) fn follow(&self) -> String {
        self.about("follow")
    }

    /// Where a shard stands.
    pub(super) fn shard(&self, shard: &str) -> Place {
        place(self.follow(), format!("{SHARDS}{shard}"))
    }

    /// How many rows expired.
    pub(super) fn expired(&self) -> Place {
        place(self.follow(), "expired")
    }

    /// How far a lane has come. Each lane is a partition of its own: they are written side by side.
    pub(super) fn lane(&self, lane: u32) -> Place {
        place(format!("{}/{lane}", self.about("lane")), "lane")
    }

    /// Everything of its markers.
    pub(super) fn markers(&self) -> String {
        self.about("marker")
    }

    /// A marker.
    pub(super) fn marker(&self, nonce: &str) -> Place {
        place(self.markers(), nonce)
    }

    /// The ledger.
    pub(super) fn ledger(&self) -> String {
        self.about("parked")
    }

    /// A row of the ledger: ordered by the beginning of its key, told apart by the digest of all of it, because keys
    /// may be longer than a sort key.
    pub(super) fn parked(&self, key: &Key) -> Place {
        let end = (0..=HEAD.min(key.0.len())).rev().find(|n| key.0.is_char_boundary(*n)).unwrap_or(0);
        place(self.ledger(), format!("{}\u{1}{}", &key.0[..end], digest(&key.0).0))
    }

    /// Everything of the source's count.
    pub(super) fn counts(&self) -> String {
        self.about("count")
    }

    /// The last full reading of the source.
    pub(super) fn reading(&self) -> Place {
        place(self.counts(), "reading")
    }

    /// What one transaction counted.
    pub(super) fn change(&self, first: i64, id: &str) -> Place {
        place(self.counts(), format!("{CHANGES}{first:012}/{id}"))
    }
}

impl Of {
    /// Everything of the capture of what customers write: the capture itself and its shards.
    pub(super) fn capture(&self) -> String {
        self.about("capture")
    }

    /// How the capture stands.
    pub(super) fn captured(&self) -> Place {
        place(self.capture(), "capture")
    }

    /// Where a shard of the new table's stream stands.
    pub(super) fn captured_shard(&self, shard: &str) -> Place {
        place(self.capture(), format!("{SHARDS}{shard}"))
    }

    /// Everything of the markers that go through that stream.
    pub(super) fn back_markers(&self) -> String {
        self.about("back-marker")
    }

    /// That a marker came through.
    pub(super) fn came(&self, nonce: &str) -> Place {
        place(self.back_markers(), format!("{CAME}{nonce}"))
    }

    /// That a marker is being put, and may be left in the table.
    pub(super) fn sent(&self, nonce: &str) -> Place {
        place(self.back_markers(), format!("{SENT}{nonce}"))
    }

    /// Everything of the keys that both sides had changed.
    pub(super) fn conflicts(&self) -> String {
        self.about("conflict")
    }

    /// One of them, by the digest of its key.
    pub(super) fn conflict(&self, digest: &str) -> Place {
        place(self.conflicts(), digest)
    }

    /// What waits in a lane, in the order it was captured.
    pub(super) fn waits(&self, lane: u8) -> String {
        format!("{}/{lane:02}", self.about("waits"))
    }

    /// That a record waits.
    pub(super) fn wait(&self, lane: u8, record: i64) -> Place {
        place(self.waits(lane), format!("{record:019}"))
    }

    /// Captured changes of a lane by key.
    pub(super) fn states(&self, lane: u8) -> String {
        format!("{}/{lane:02}", self.about("states"))
    }

    /// A piece of a record of a key.
    pub(super) fn state(&self, lane: u8, digest: &str, record: i64, piece: usize) -> Place {
        place(self.states(lane), format!("{digest}/{record:019}/{piece:02}"))
    }

    /// Signed images of a lane by key.
    pub(super) fn images(&self, lane: u8) -> String {
        format!("{}/{lane:02}", self.about("image"))
    }

    /// One of them.
    pub(super) fn image(&self, lane: u8, digest: &str, image: u128) -> Place {
        place(self.images(lane), format!("{digest}/{image:032x}"))
    }

    /// How many wait in a lane, and how many were applied.
    pub(super) fn tally(&self, lane: u8) -> Place {
        place(format!("{}/{lane:02}", self.about("tally")), "tally")
    }
}

/// Whose turn it is to apply what customers of a plan wrote.
pub(super) fn turn(plan: &str) -> Place {
    place(of_plan(plan), "turn")
}

/// Lanes that captured changes are kept in, so that no one partition takes all of them. Part of the layout.
pub(super) const LANES: u8 = 16;

/// The digest of a key, and the lane it falls into.
pub(super) fn digest(key: &str) -> (String, u8) {
    let digest = Sha256::digest(key.as_bytes());
    let lane = digest.first().map_or(0, |byte| byte % LANES);
    (digest.iter().map(|byte| format!("{byte:02x}")).collect(), lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tables_share_a_place() {
        assert_ne!(Of::id("a/b", "c").load(), Of::id("a", "b/c").load());
        assert_ne!(Of::id("a%2Fb", "c").load(), Of::id("a/b", "c").load());
        assert_ne!(of_plan("a"), of_plan("A"));
    }

    #[test]
    fn long_keys_are_ordered_by_their_beginning_and_told_apart() {
        let of = Of::id("p", "t");
        let long = |end: &str| of.parked(&Key(format!("{}{end}", "é".repeat(1_500))));
        assert_ne!(long("a"), long("b"));
        assert!(long("a").sk.len() <= 1_024, "{}", long("a").sk.len());
        assert!(of.parked(&Key("a".into())).sk < of.parked(&Key("b".into())).sk);
        assert!(of.parked(&Key("a".into())).sk < of.parked(&Key("ab".into())).sk);
    }
}
