//! What one read of a stream shard answers, parsed once: the hot path of catching up.

use super::json::{Json, Malformed};
use super::page;
use crate::domain::at::At;
use crate::domain::mapping::{MARK, mark};
use crate::domain::value::Record;
use crate::ports::{Batch, Change, ChangeKind, Position};

/// Parses the answer of `GetRecords`. A record that cannot be followed is refused, never skipped.
pub(super) fn decode(body: &[u8]) -> Result<Batch, Malformed> {
    decoded(body, None)
}

/// The same with what each item was before its change, one for each change.
pub(super) fn decode_both(body: &[u8]) -> Result<(Batch, Vec<Option<Record<'static>>>), Malformed> {
    let mut before = Vec::new();
    let batch = decoded(body, Some(&mut before))?;
    Ok((batch, before))
}

fn decoded(body: &[u8], mut before: Option<&mut Vec<Option<Record<'static>>>>) -> Result<Batch, Malformed> {
    let mut json = Json::new(body)?;
    let (mut batch, mut there) = (Batch::default(), false);
    json.object(|json, name| {
        match name.as_ref() {
            "Records" => {
                there = true;
                json.list(|json| {
                    batch.changes.push(record(json, before.as_deref_mut())?);
                    Ok(())
                })?;
            }
            "NextShardIterator" if json.null()? => {}
            "NextShardIterator" => batch.next = Some(json.string()?.into_owned()).filter(|next| !next.is_empty()),
            _ => drop(json.raw()?),
        }
        Ok(())
    })?;
    json.end()?;
    // Without an iterator the shard has ended and is not read again, so a malformed answer must not count as the end.
    if there { Ok(batch) } else { Err(json.wrong("no Records")) }
}

/// The parts of a record, as they come.
#[derive(Default)]
struct Parts {
    event: Option<ChangeKind>,
    expired: bool,
    at: Option<At>,
    position: Option<Position>,
    key: Option<Record<'static>>,
    image: Option<Record<'static>>,
    /// Whether each old image is read; following forward has use only for those of markers.
    both: bool,
    before: Option<Record<'static>>,
}

fn record(json: &mut Json<'_>, before: Option<&mut Vec<Option<Record<'static>>>>) -> Result<Change, Malformed> {
    let mut parts = Parts { both: before.is_some(), ..Parts::default() };
    json.object(|json, name| {
        match name.as_ref() {
            "eventName" => {
                parts.event = Some(match json.string()?.as_ref() {
                    "INSERT" => ChangeKind::Insert,
                    "MODIFY" => ChangeKind::Modify,
                    "REMOVE" => ChangeKind::Remove { expired: false },
                    _ => return Err(json.wrong("a record that is neither INSERT, MODIFY nor REMOVE")),
                });
            }
            "dynamodb" => data(json, &mut parts)?,
            "userIdentity" if !json.null()? => parts.expired = by_time_to_live(json)?,
            "userIdentity" => {}
            _ => drop(json.raw()?),
        }
        Ok(())
    })?;
    let kind = match parts.event.ok_or_else(|| json.wrong("a record without an event"))? {
        ChangeKind::Remove { .. } => ChangeKind::Remove { expired: parts.expired },
        kind => kind,
    };
    let image = match kind {
        ChangeKind::Remove { .. } => None,
        _ => Some(parts.image.ok_or_else(|| json.wrong("a record without a new image"))?),
    };
    let marked = parts.before.as_ref().filter(|_| image.is_none()).and_then(mark).map(str::to_owned);
    if let Some(all) = before {
        all.push(match kind {
            ChangeKind::Insert => None,
            ChangeKind::Modify | ChangeKind::Remove { .. } => {
                Some(parts.before.ok_or_else(|| json.wrong("a record without an old image"))?)
            }
        });
    }
    Ok(Change {
        kind,
        key: parts.key.ok_or_else(|| json.wrong("a record without keys"))?,
        image,
        mark: marked,
        position: parts.position.ok_or_else(|| json.wrong("a record without a sequence number"))?,
        at: parts.at.ok_or_else(|| json.wrong("a record without a time"))?,
    })
}

fn data(json: &mut Json<'_>, parts: &mut Parts) -> Result<(), Malformed> {
    json.object(|json, name| {
        match name.as_ref() {
            "ApproximateCreationDateTime" => {
                let seconds: f64 = json.number()?.parse().map_err(|_| json.wrong("an impossible time"))?;
                let ms = (seconds * 1000.0).round();
                // Years 1970 to 9999; whatever is past that is no time of a record.
                if !(0.0..=253_402_300_799_999.0).contains(&ms) {
                    return Err(json.wrong("an impossible time"));
                }
                parts.at = Some(At(ms as i64));
            }
            "SequenceNumber" => parts.position = Some(Position(json.string()?.into_owned())),
            "Keys" => parts.key = item(json)?,
            "NewImage" => parts.image = item(json)?,
            "OldImage" if parts.both => parts.before = item(json)?,
            // Of an item that was, only whether it was a marker of ours.
            "OldImage" => {
                let old = json.raw()?;
                if old.contains(MARK) {
                    parts.before = item(&mut Json::new(old.as_bytes())?)?;
                }
            }
            // What only describes the record.
            _ => drop(json.raw()?),
        }
        Ok(())
    })
}

fn item(json: &mut Json<'_>) -> Result<Option<Record<'static>>, Malformed> {
    if json.null()? {
        return Ok(None);
    }
    let mut fields = Vec::with_capacity(16);
    page::entries(json, &mut fields)?;
    Ok(Some(Record { fields }.into_owned()))
}

/// Only the time-to-live service makes a removal an expiry.
fn by_time_to_live(json: &mut Json<'_>) -> Result<bool, Malformed> {
    let (mut service, mut dynamodb) = (false, false);
    json.object(|json, name| {
        match name.as_ref() {
            "Type" | "type" if !json.null()? => service = json.string()? == "Service",
            "PrincipalId" | "principalId" if !json.null()? => dynamodb = json.string()? == "dynamodb.amazonaws.com",
            "Type" | "type" | "PrincipalId" | "principalId" => {}
            _ => drop(json.raw()?),
        }
        Ok(())
    })?;
    Ok(service && dynamodb)
}
