//! What is stored while changes are applied: images that are signed before they are written, and what was applied. Each
//! for many keys in one statement.

use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use crate::adapters::postgres::book::storable;
use crate::adapters::postgres::connect::Pool;
use crate::adapters::postgres::owner::{self, Of};
use crate::adapters::postgres::{retry, trouble};
use crate::domain::mapping::Resolution;
use crate::domain::value::Key;
use crate::ports::{Cleared, OwnWrite, PortResult, ReverseCounts, Unfinished};

/// Signed images are remembered longer than a stream keeps its records.
const REMEMBERED: &str = "30 hours";

pub(super) fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}

/// Names of resolutions as they are stored.
const RESOLUTIONS: [(Resolution, &str); 4] = [
    (Resolution::None, "none"),
    (Resolution::Merged, "merged"),
    (Resolution::NewWon, "new"),
    (Resolution::OldWon, "old"),
];

fn named(resolution: Resolution) -> &'static str {
    RESOLUTIONS.iter().find(|(c, _)| *c == resolution).map_or("none", |(_, name)| name)
}

pub(super) fn resolution_of(name: &str) -> Resolution {
    RESOLUTIONS.iter().find(|(_, n)| *n == name).map_or(Resolution::None, |(resolution, _)| *resolution)
}

/// Stores images on a connection of its own: they stay whatever becomes of the transaction the records are in. Says
/// whether the tables are marked as rolled back, as read after the images were stored.
pub(super) async fn record_own_writes(pool: &Pool, place: &str, of: Of<'_>, images: &[OwnWrite]) -> PortResult<bool> {
    let error = |e: Error| trouble::error(&e, "remember images of", of.table);
    let client = retry::client(pool, place).await?;
    // One key may pass through the same image twice; the newer record says more. In order, so that nobody waits in a
    // circle.
    let sql = "INSERT INTO cutover.reverse_image (plan, table_id, key_digest, key, digest, record, resolution)
               SELECT DISTINCT ON (w.key_digest, w.digest)
                      $1::text, $2::text, w.key_digest, w.key, w.digest, w.record, w.resolution
               FROM (SELECT sha256(convert_to(key, 'UTF8')) AS key_digest, key, digest, record, resolution
                     FROM unnest($3::text[], $4::text[], $5::bigint[], $6::text[]) u(key, digest, record, resolution)) w
               ORDER BY w.key_digest, w.digest, w.record DESC
               ON CONFLICT (plan, table_id, key_digest, digest)
               DO UPDATE SET at = now(), record = EXCLUDED.record, resolution = EXCLUDED.resolution";
    let put = client.prepare_cached(sql).await.map_err(error)?;
    let back = client.prepare_cached(owner::ROLLED_BACK).await.map_err(error)?;
    let keys: Vec<_> = images.iter().map(|image| storable(&image.key.0)).collect();
    let digests: Vec<String> = images.iter().map(|image| hex(image.digest)).collect();
    let records: Vec<i64> = images.iter().map(|image| image.record).collect();
    let resolutions: Vec<&str> = images.iter().map(|image| named(image.resolution)).collect();
    // Sent together and done in this order.
    let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
    let values: [&(dyn ToSql + Sync); 6] = [&of.plan, &of.table, &keys, &digests, &records, &resolutions];
    let both = futures::try_join!(client.execute(&put, &values), client.query_one(&back, &values[..2]));
    let (_, back) = both.map_err(error)?;
    if fastrand::usize(..256) < images.len() {
        // What is not forgotten now is forgotten later: no key waits for it.
        let _ = forget(&client, of.plan).await.inspect_err(|e| tracing::debug!(error = %e, "old images stay"));
    }
    back.try_get(0).map_err(error)
}

/// Removes images too old for any stream to show again. What a reverse applier began and nobody has cleared is kept
/// however old it is.
pub(in crate::adapters::postgres) async fn forget(client: &tokio_postgres::Client, plan: &str) -> Result<(), Error> {
    let sql = format!(
        "DELETE FROM cutover.reverse_image WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM cutover.reverse_image i WHERE plan = $1 AND at < now() - interval '{REMEMBERED}'
                 AND NOT EXISTS (SELECT FROM cutover.outbox o WHERE o.id = i.record) LIMIT 1000))"
    );
    client.execute(&sql, &[&plan]).await.map(drop)
}

/// Removes the records of keys, and counts and names each key of which some were still there.
pub(super) async fn clear(pool: &Pool, place: &str, of: Of<'_>, applied: &[Cleared]) -> PortResult<()> {
    let error = |e: Error| trouble::error(&e, "clear carried records of", of.table);
    let client = retry::client(pool, place).await?;
    // Of two keys that are stored as one the last counts.
    let sql = "WITH keys AS (SELECT n, key, resolution, carried, merged, conflicts
                             FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
                                 WITH ORDINALITY k(key, resolution, carried, merged, conflicts, n)),
                    gone AS (DELETE FROM cutover.outbox WHERE id = ANY ($8) RETURNING id),
                    ended AS (SELECT * FROM keys WHERE n IN (
                                  SELECT r.n FROM unnest($8::bigint[], $9::bigint[]) r(id, n) JOIN gone USING (id))),
                    named AS (INSERT INTO cutover.reverse_conflict (plan, table_id, key_digest, key, resolution)
                              SELECT DISTINCT ON (sha256(convert_to(key, 'UTF8')))
                                     $1::text, $2::text, sha256(convert_to(key, 'UTF8')), key, resolution
                              FROM ended WHERE conflicts > 0 ORDER BY sha256(convert_to(key, 'UTF8')), n DESC
                              ON CONFLICT (plan, table_id, key_digest) DO UPDATE SET resolution = EXCLUDED.resolution)
               INSERT INTO cutover.reverse_tally AS t (plan, table_id, carried, merged, conflicts)
               SELECT $1::text, $2::text, sum(carried)::bigint, sum(merged)::bigint, sum(conflicts)::bigint
               FROM ended HAVING count(*) > 0
               ON CONFLICT (plan, table_id) DO UPDATE SET carried = t.carried + EXCLUDED.carried,
               merged = t.merged + EXCLUDED.merged, conflicts = t.conflicts + EXCLUDED.conflicts";
    let statement = client.prepare_cached(sql).await.map_err(error)?;
    let keys: Vec<String> = applied.iter().map(|one| storable(&one.key.0).into_owned()).collect();
    let resolutions: Vec<&str> = applied.iter().map(|one| named(one.resolution)).collect();
    let counts: Vec<ReverseCounts> = applied.iter().map(|one| ReverseCounts::of(one.resolution)).collect();
    let of_each = |count: fn(&ReverseCounts) -> u64| -> Vec<i64> {
        counts.iter().map(|counts| count(counts).cast_signed()).collect()
    };
    let (carried, merged, conflicts) = (of_each(|c| c.carried), of_each(|c| c.merged), of_each(|c| c.conflicts));
    let each = applied.iter().zip(1_i64..).flat_map(|(one, n)| one.records.iter().map(move |record| (*record, n)));
    let (records, places): (Vec<i64>, Vec<i64>) = each.unzip();
    let values: [&(dyn ToSql + Sync); 9] =
        [&of.plan, &of.table, &keys, &resolutions, &carried, &merged, &conflicts, &records, &places];
    client.execute(&statement, &values).await.map(drop).map_err(error)
}

/// Images of each of these keys that a reverse applier signed without clearing their records.
pub(super) async fn unfinished(pool: &Pool, place: &str, of: Of<'_>, keys: &[Key]) -> PortResult<Vec<Vec<Unfinished>>> {
    let error = |e: Error| trouble::error(&e, "look up images of", of.table);
    let client = retry::client(pool, place).await?;
    let sql = "SELECT w.n, i.record, i.resolution, i.digest
               FROM unnest($3::text[]) WITH ORDINALITY w(key, n) JOIN cutover.reverse_image i
                 ON i.plan = $1 AND i.table_id = $2 AND i.key_digest = sha256(convert_to(w.key, 'UTF8'))
               WHERE EXISTS (SELECT FROM cutover.outbox o WHERE o.id = i.record)
               ORDER BY w.n, i.record, i.at";
    let statement = client.prepare_cached(sql).await.map_err(error)?;
    let names: Vec<String> = keys.iter().map(|key| storable(&key.0).into_owned()).collect();
    let rows = client.query(&statement, &[&of.plan, &of.table, &names]).await.map_err(error)?;
    let one = |row: &tokio_postgres::Row| -> Result<(i64, Option<Unfinished>), Error> {
        let (record, resolution, digest) =
            (row.try_get(1)?, resolution_of(row.try_get(2)?), row.try_get::<_, &str>(3)?);
        // What is no digest was not signed by this program.
        let digest = u128::from_str_radix(digest, 16).ok();
        Ok((row.try_get(0)?, digest.map(|digest| Unfinished { digest, record, resolution })))
    };
    let mut found = vec![Vec::new(); keys.len()];
    for row in &rows {
        let (place, image) = one(row).map_err(error)?;
        let slot = usize::try_from(place - 1).ok().and_then(|place| found.get_mut(place));
        slot.into_iter().for_each(|slot: &mut Vec<Unfinished>| slot.extend(image));
    }
    Ok(found)
}
