//! What the source held at the last full reading, and what came and went since: kept in the transactions that move
//! positions, so that a change that comes again is not counted again.

use serde_json::json;

use super::batch;
use super::call::{Item, Stopped, Store, Tried, key_of, n, number, s, sk, text};
use super::names::{self, Of, Place};
use super::write::Write;
use crate::domain::at::At;
use crate::ports::{CountChange, FullRead, PortResult, SourceCount};

/// How far the clock of the change log may be from ours. Changes so near to the reading are unsure.
const CLOCKS_MS: i64 = 2_000;
/// Items of counts from which on the oldest are added up into one, and how many at a time.
const FOLD: (usize, usize) = (200, 90);
/// Most seconds in one item.
const LONGEST: usize = 4_000;
/// From which age on, in seconds, the seconds of a minute are added up.
const OLD: i64 = 600;

/// Seconds with what came and went in them: `1795358836 3 1;…`.
fn written(counts: &[(i64, u64, u64)]) -> String {
    counts.iter().map(|(second, came, went)| format!("{second} {came} {went}")).collect::<Vec<_>>().join(";")
}

fn read(item: &Item) -> Vec<(i64, u64, u64)> {
    let one = |part: &str| {
        let mut numbers = part.split(' ');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    text(item, "counts").unwrap_or_default().split(';').filter_map(one).collect()
}

/// Seconds in order, each once.
fn summed(mut counts: Vec<(i64, u64, u64)>) -> Vec<(i64, u64, u64)> {
    counts.sort_unstable();
    let mut sums: Vec<(i64, u64, u64)> = Vec::new();
    for (second, came, went) in counts {
        match sums.last_mut() {
            Some(last) if last.0 == second => *last = (second, last.1 + came, last.2 + went),
            _ => sums.push((second, came, went)),
        }
    }
    sums
}

/// The same by the minute, where a second is old.
fn by_minute(counts: Vec<(i64, u64, u64)>, old: impl Fn(i64) -> Option<Side>) -> Vec<(i64, u64, u64)> {
    let mut sums: Vec<(i64, u64, u64)> = Vec::new();
    for (second, came, went) in counts {
        let one = |last: i64| last / 60 == second / 60 && old(last).is_some() && old(last) == old(second);
        match sums.last_mut() {
            Some(last) if one(last.0) => *last = (second, last.1 + came, last.2 + went),
            _ => sums.push((second, came, went)),
        }
    }
    sums
}

/// Adds what a part of a batch counted; nothing when it counted nothing.
pub(super) fn note(of: &Of, counts: &[CountChange]) -> Option<Write> {
    let counts = summed(counts.iter().map(|c| (c.second, c.inserted, c.deleted)).collect());
    let first = counts.first()?.0;
    let id = uuid::Uuid::new_v4().simple().to_string();
    Some(Write::put(&of.change(first, &id), json!({"counts": s(&written(&counts))})))
}

fn place(of: &Of, item: &Item) -> Place {
    Place { pk: of.counts(), sk: sk(item).to_owned() }
}

/// Deletes the counts: what was counted can no longer be separated from what will be counted again.
pub(super) async fn forget(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<()> {
    let all = store.query(&of.counts(), "", None, None, at).await?;
    let keys: Vec<String> = all.iter().map(|item| key_of(&place(of, item)).to_string()).collect();
    batch::delete(store, names::BOOK, &keys, at).await
}

/// See [`crate::ports::Target::load_reads`].
pub(super) async fn load_reads(store: &Store, of: &Of, began: At, at: Tried<'_>) -> PortResult<()> {
    let note = Write::update(&of.reading(), "SET #began = if_not_exists(#began, :began)").with("began", n(began.0));
    store.write(&note, at).await.map_err(|e| e.error(at)).map(drop)
}

/// See [`crate::ports::Target::full_read`].
pub(super) async fn full_read(store: &Store, of: &Of, reading: FullRead, at: Tried<'_>) -> PortResult<()> {
    // Of a load whose beginning nobody noted nothing is known: what came since the stream began is unsure.
    let began = if reading.began.is_some() { "#began = :began" } else { "#began = if_not_exists(#began, :began)" };
    let note = Write::update(&of.reading(), format!("SET #items = :items, #ended = :ended, {began}"))
        .with("items", json!({"N": reading.items.to_string()}))
        .with("ended", n(reading.ended.0))
        .with("began", n(reading.began.map_or(0, |at| at.0)));
    let stands = store.write(&note, at).await.map_err(|e| e.error(at))?;
    let began = stands.as_ref().and_then(|item| number(item, "began")).unwrap_or(0);
    // What lies before the reading is in it. Items that reach into it are left, and cut when they are read.
    let before = (began - CLOCKS_MS).div_euclid(1_000);
    let all = store.query(&of.counts(), names::CHANGES, None, None, at).await?;
    let over = |item: &&Item| read(item).last().is_none_or(|(second, ..)| *second < before);
    let keys: Vec<String> = all.iter().filter(over).map(|item| key_of(&place(of, item)).to_string()).collect();
    batch::delete(store, names::BOOK, &keys, at).await
}

/// See [`crate::ports::Target::source_count`].
pub(super) async fn source_count(store: &Store, of: &Of, at: Tried<'_>) -> PortResult<Option<SourceCount>> {
    let Some(reading) = store.get(&of.reading(), at).await? else { return Ok(None) };
    let (Some(items), Some(ended)) = (number(&reading, "items"), number(&reading, "ended")) else { return Ok(None) };
    let began = number(&reading, "began").unwrap_or(0);
    let all = store.query(&of.counts(), names::CHANGES, None, None, at).await?;
    let (mut since, mut came, mut went) = (0_i64, 0, 0);
    for (second, inserted, deleted) in all.iter().flat_map(read) {
        match side(second, began, ended) {
            Side::Before => {}
            Side::Within => {
                came += inserted;
                went += deleted;
            }
            Side::After => since += inserted.cast_signed() - deleted.cast_signed(),
        }
    }
    if all.len() > FOLD.0 {
        let old = store.now().0 / 1_000 - OLD;
        fold(store, of, &all, |second| (second < old).then(|| side(second, began, ended)), at).await?;
    }
    Ok(Some(SourceCount { items: u64::try_from(items + since).ok(), read_at: At(ended), unsure: came.max(went) }))
}

/// Where a second lies to a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// What happened then was read.
    Before,
    /// It may have been read or not.
    Within,
    /// It was not read.
    After,
}

/// A second is of the reading when any part of it may be.
const fn side(second: i64, began: i64, ended: i64) -> Side {
    if second < (began - CLOCKS_MS) / 1_000 {
        Side::Before
    } else if second > (ended + CLOCKS_MS) / 1_000 {
        Side::After
    } else {
        Side::Within
    }
}

/// Adds up old items, so that what is read stays small. Of seconds that are old enough to have a side, one a minute and
/// side is left, the last of them: what is derived stays the same. Two processes may do it at once: each removes items
/// only as long as they are there.
async fn fold(
    store: &Store,
    of: &Of,
    all: &[Item],
    old: impl Fn(i64) -> Option<Side>,
    at: Tried<'_>,
) -> PortResult<()> {
    let mut taken = Vec::new();
    let mut counts = Vec::new();
    for item in all {
        let more = read(item);
        if taken.len() < FOLD.1 && counts.len() + more.len() <= LONGEST {
            counts.extend(more);
            taken.push(item);
        }
    }
    let counts = by_minute(summed(counts), old);
    let (Some((first, ..)), true) = (counts.first(), taken.len() > 1) else { return Ok(()) };
    let id = uuid::Uuid::new_v4().simple().to_string();
    let sum = Write::put(&of.change(*first, &id), json!({"counts": s(&written(&counts))}));
    let gone: Vec<Write> =
        taken.iter().map(|item| Write::delete(&place(of, item)).when("attribute_exists(#pk)")).collect();
    match store.transact(&gone.iter().chain([&sum]).collect::<Vec<_>>(), at).await {
        Ok(()) | Err(Stopped::Condition(_)) => Ok(()),
        Err(stopped) => Err(stopped.error(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_added_up_and_read_as_they_were_written() {
        let counts = summed(vec![(9, 1, 0), (7, 2, 1), (9, 0, 4)]);
        assert_eq!(counts, [(7, 2, 1), (9, 1, 4)]);
        let mut item = Item::new();
        item.insert("counts".to_owned(), s(&written(&counts)));
        assert_eq!(read(&item), counts);
        assert_eq!(read(&Item::new()), []);
    }

    #[test]
    fn old_seconds_of_a_minute_become_one_on_each_side_of_a_reading() {
        let counts = vec![(60, 1, 0), (61, 1, 1), (90, 2, 0), (119, 1, 0), (121, 5, 0), (125, 1, 0)];
        let old = |second| (second < 125).then(|| side(second, 64_000, 88_000));
        // Within are the seconds from 62 to 90.
        assert_eq!(by_minute(counts, old), [(61, 2, 1), (90, 2, 0), (119, 1, 0), (121, 5, 0), (125, 1, 0)]);
    }
}
