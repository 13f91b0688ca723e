//! What the target itself refuses because of subscriptions: that a table is taken while somebody else's writes to it, and
//! that customers are let in while ours could.

use tokio_postgres::Error;

use super::Called;
use crate::adapters::postgres::connect::Ask;
use crate::domain::plan::{MoverKind, Table, shell_word};

/// A subscription that writes to one of these tables, or to a partition of one, and is not called `$2`.
const STRANGERS: &str = "
SELECT s.subname::text, t.name
FROM unnest($1::text[]) t(name)
CROSS JOIN LATERAL (SELECT to_regclass(t.name)::oid AS relid UNION SELECT relid FROM pg_partition_tree(to_regclass(t.name))) tree
JOIN pg_subscription_rel r ON r.srrelid = tree.relid
JOIN pg_subscription s ON s.oid = r.srsubid
WHERE s.subname <> $2 ORDER BY 1, 2 LIMIT 1";

/// The subscription that moves a table of a plan; nothing where the console moves it itself.
fn own(plan: &str, table: &Table) -> Option<String> {
    table.mover.map(|MoverKind::Subscription| Called::of(plan, &table.from).subscription)
}

/// Why a table is not to be had, and what to do: a subscription writes to it that does not move it for this plan.
pub(in crate::adapters::postgres) async fn strangers(
    client: &impl Ask,
    plan: &str,
    table: &Table,
    targets: &[String],
) -> Result<Option<(String, String)>, Error> {
    let own = own(plan, table).unwrap_or_default();
    let Some(row) = client.ask_one(STRANGERS, &[&targets, &own]).await? else { return Ok(None) };
    let (name, on): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let wrong = format!("the subscription {name} writes to {on}");
    let advice = if name == Called::of(plan, &table.from).subscription {
        format!(
            "an earlier run of this plan made it: take that run back, or end it: cutover release {}",
            shell_word(plan)
        )
    } else {
        format!("take the table out of it, or drop it: DROP SUBSCRIPTION {name}")
    };
    Ok(Some((wrong, advice)))
}

/// Of these subscriptions one that could write: it is enabled, or something of it is at work.
const AT_WORK: &str = "
SELECT s.subname::text || CASE WHEN s.subenabled THEN ' is enabled' ELSE ' is disabled, and a worker of it is still there' END
FROM pg_subscription s
WHERE s.subname = ANY ($1) AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (s.subenabled OR EXISTS (SELECT FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.pid IS NOT NULL))
ORDER BY 1 LIMIT 1";

/// A subscription that moves one of these tables and could write now, in words; nothing where none could.
pub(in crate::adapters::postgres) async fn at_work(
    client: &impl Ask,
    plan: &str,
    tables: &[Table],
) -> Result<Option<String>, Error> {
    let mut names: Vec<String> = tables.iter().filter_map(|table| own(plan, table)).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(None);
    }
    client.ask_one(AT_WORK, &[&names]).await?.map(|row| row.try_get(0)).transpose()
}
