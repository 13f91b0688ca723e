//! Where a table's following stands, read inside the transaction that is about to move it on.
//!
//! Progress is stored with the rows, so a failover that loses transactions takes both back. A follower that goes on
//! from memory would leave those changes out for good, so what it knows to be stored is compared with what is stored.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use tokio_postgres::{Error, Statement};

use super::apply::BatchEnd;
use super::owner::Of;
use crate::ports::{LaneStand, Position, common, is_behind, rewound};

/// For [`read`]. Of all lanes, or of one.
pub(super) const STANDS: &str = r#"
SELECT shard, CASE WHEN finished THEN NULL ELSE position END, NULL::integer, NULL::integer
FROM cutover.stream_position WHERE plan = $1 AND table_id = $2
UNION ALL
SELECT shard, CASE WHEN finished THEN NULL ELSE position END, lane, "of"
FROM cutover.lane WHERE plan = $1 AND table_id = $2 AND ($3::integer IS NULL OR lane = $3)"#;

/// What is stored.
#[derive(Default)]
pub(super) struct Stands {
    /// Positions by shard; `None` for one that is finished or has none.
    pub positions: BTreeMap<String, Option<Position>>,
    lanes: Vec<LaneStand>,
}

/// Reads it; `lane` for what matters to that lane only.
pub(super) async fn read(
    tx: &Transaction<'_>,
    statement: &Statement,
    of: Of<'_>,
    lane: Option<u32>,
) -> Result<Stands, Error> {
    let mut found = Stands::default();
    let lane = lane.map(u32::cast_signed);
    for row in tx.query(statement, &[&of.plan, &of.table, &lane]).await? {
        let (shard, position) = (row.try_get(0)?, row.try_get::<_, Option<String>>(1)?.map(Position));
        match (row.try_get::<_, Option<i32>>(2)?, row.try_get::<_, Option<i32>>(3)?) {
            (Some(lane), Some(of)) => {
                found.lanes.push(LaneStand { lane: lane.cast_unsigned(), of: of.cast_unsigned(), shard, position });
            }
            _ => drop(found.positions.insert(shard, position)),
        }
    }
    Ok(found)
}

impl Stands {
    /// A shard that stands earlier than this batch knows it to have stood.
    pub(super) fn lost<'r>(&self, end: &'r BatchEnd) -> Option<&'r str> {
        let lanes = end.fence.map_or(1, |fence| fence.lanes);
        if let Some(lane) = end.lane {
            return rewound(&end.from, &self.of_lane(lane, lanes));
        }
        let common = common(self.positions.clone(), &self.lanes);
        if let Some(shard) = rewound(&end.from, &common) {
            return Some(shard);
        }
        // What lanes of this very batch have landed must still be there, or the position that follows would be wrong.
        end.landed.iter().find_map(|lane| {
            let stands = self.of_lane(*lane, lanes);
            let open = end.positions.iter().map(|(shard, position)| (shard, Some(position.clone())));
            let mut all = open.chain(end.finished.iter().map(|shard| (shard, None)));
            all.find(|(shard, end)| is_behind(stands.get(*shard), end)).map(|(shard, _)| shard.as_str())
        })
    }

    /// Where a lane stands: at its own position if it has one, else at the common position.
    fn of_lane(&self, lane: u32, of: u32) -> BTreeMap<String, Option<Position>> {
        let mut stands = self.positions.clone();
        for own in self.lanes.iter().filter(|own| own.lane == lane && own.of == of) {
            if !is_behind(Some(&own.position), stands.get(&own.shard).unwrap_or(&own.position)) {
                stands.insert(own.shard.clone(), own.position.clone());
            }
        }
        stands
    }
}
