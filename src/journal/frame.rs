//! One line of a journal: `{"crc":"xxxxxxxx","h":"<32 hex>",<payload>}`.
//!
//! The two checks have a fixed place and length, so that what they cover is exactly the rest of the line:
//! no byte of a line is outside the checks, the checks themselves and fixed punctuation.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::boot::Boot;
use crate::domain::at::At;
use crate::domain::run::{Event, Fact, Level};

/// Readers refuse another major version.
pub const FORMAT_MAJOR: u32 = 1;
/// A newer minor version may be read, not continued. 1 added approvals, votes and kept hold times, 2 steps of
/// the wall clock, 3 amendments of the plan, 4 the end of capture, 5 tables made anew and expiry turned on, 6 orders to movers,
/// 7 positions of switches and steps taken back, 8 jobs, 9 baselines, 10 alerts.
pub const FORMAT_MINOR: u32 = 10;

const CRC_OPEN: &str = "{\"crc\":\"";
const HASH_OPEN: &str = "\",\"h\":\"";
const PAYLOAD_OPEN: &str = "\",";
/// Length of a line's CRC, in hex digits.
pub(super) const CRC_LEN: usize = 8;
/// Length of a line's hash, in hex digits.
pub(super) const HASH_LEN: usize = 32;
/// Where the CRC stands in a line.
pub(super) const CRC_AT: usize = CRC_OPEN.len();
/// Where the hash stands in a line.
pub(super) const HASH_AT: usize = CRC_AT + CRC_LEN + HASH_OPEN.len();
/// Where the payload begins.
pub(super) const PAYLOAD_AT: usize = HASH_AT + HASH_LEN + PAYLOAD_OPEN.len();
/// The fixed text before the payload, piece by piece with its place.
pub(super) const TEMPLATE: [(usize, &str); 3] =
    [(0, CRC_OPEN), (CRC_AT + CRC_LEN, HASH_OPEN), (HASH_AT + HASH_LEN, PAYLOAD_OPEN)];

/// Version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Format {
    /// Incompatible changes.
    pub major: u32,
    /// Additions: new optional fields, new event types that a fold may pass over.
    pub minor: u32,
}

impl Format {
    /// What this program writes.
    pub const OURS: Self = Self { major: FORMAT_MAJOR, minor: FORMAT_MINOR };
}

/// The first line of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub format: Format,
    /// Version of the program that made the file.
    pub tool: String,
    /// Run id, also the folder's name.
    pub run: String,
    /// Hash of the plan.
    pub plan_hash: String,
    /// Who made the file.
    pub operator: String,
    /// On which host.
    pub host: String,
    /// When, on the run's clock.
    pub created: At,
    /// In a side journal: who keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

impl Header {
    /// A header in this program's format and version.
    #[must_use]
    pub fn new(run: &str, plan_hash: &str, operator: &str, host: &str, created: At) -> Self {
        Self {
            format: Format::OURS,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            run: run.to_owned(),
            plan_hash: plan_hash.to_owned(),
            operator: operator.to_owned(),
            host: host.to_owned(),
            created,
            holder: None,
        }
    }
}

/// A fact as it stands in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The fact.
    pub fact: Fact,
    /// Set where this file goes on after facts that other files hold: their whole number so far.
    pub after: Option<u64>,
    /// Milliseconds since its process opened the file.
    pub mono: i64,
    /// In the first frame of a process: where `mono` counts from.
    pub boot: Option<Boot>,
}

/// What a frame says beside its fact.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// Facts of other files come before it: their whole number so far.
    pub after: Option<u64>,
    /// Milliseconds since this process opened the file, on a clock that never jumps.
    pub mono: u64,
    /// In the first frame of a process: where `mono` counts from.
    pub boot: Option<&'a Boot>,
}

#[derive(Serialize)]
struct FrameOut<'a> {
    n: u64,
    at: At,
    mono: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<&'a Boot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    e: &'a Event,
}

#[derive(Deserialize)]
struct FrameIn<'a> {
    n: u64,
    at: At,
    #[serde(default)]
    mono: i64,
    boot: Option<Boot>,
    after: Option<u64>,
    #[serde(borrow)]
    e: &'a RawValue,
}

/// Seals a JSON object into a line (newline included) and moves the chain on.
fn seal(object: &str, chain: &mut String) -> String {
    let payload = object.get(1..object.len().saturating_sub(1)).unwrap_or_default();
    let crc = crc32fast::hash(payload.as_bytes());
    *chain = link(chain, payload.as_bytes());
    format!("{CRC_OPEN}{crc:08x}{HASH_OPEN}{chain}{PAYLOAD_OPEN}{payload}}}\n")
}

/// The hash of a line with this payload after a line with that hash.
pub(super) fn link(previous: &str, payload: &[u8]) -> String {
    let digest = Sha256::new().chain_update(previous).chain_update(payload).finalize();
    digest.iter().take(HASH_LEN / 2).map(|b| format!("{b:02x}")).collect()
}

/// Checks a line (without its newline) and moves the chain on. Gives back the JSON object inside.
pub fn open(line: &[u8], chain: &mut String) -> Result<String, String> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let cut = || "not a frame".to_owned();
    let rest = text.strip_prefix(CRC_OPEN).ok_or_else(cut)?;
    let (crc, rest) = rest.split_at_checked(CRC_LEN).ok_or_else(cut)?;
    let rest = rest.strip_prefix(HASH_OPEN).ok_or_else(cut)?;
    let (hash, rest) = rest.split_at_checked(HASH_LEN).ok_or_else(cut)?;
    let payload = rest.strip_prefix(PAYLOAD_OPEN).and_then(|r| r.strip_suffix('}')).ok_or_else(cut)?;
    let expected = format!("{:08x}", crc32fast::hash(payload.as_bytes()));
    if crc != expected {
        return Err(format!("checksum is {expected}, the line says {crc}"));
    }
    let next = link(chain, payload.as_bytes());
    if hash != next {
        return Err("the line does not follow the one before it (hash chain)".to_owned());
    }
    *chain = next;
    Ok(format!("{{{payload}}}"))
}

/// The header line.
pub fn seal_header(header: &Header, chain: &mut String) -> serde_json::Result<String> {
    Ok(seal(&serde_json::to_string(header)?, chain))
}

/// One fact's line.
pub fn seal_fact(fact: &Fact, beside: Beside<'_>, chain: &mut String) -> serde_json::Result<String> {
    let Beside { after, mono, boot } = beside;
    let frame = FrameOut { n: fact.seq, at: fact.at, mono, boot, after, e: &fact.event };
    Ok(seal(&serde_json::to_string(&frame)?, chain))
}

/// Reads one fact. `newer` is set when the file's minor version is newer than ours: an event type nobody here
/// knows then becomes a note, because minor versions only add events a fold may pass over.
pub fn parse_fact(object: &str, newer: bool) -> Result<Entry, String> {
    let frame: FrameIn<'_> = serde_json::from_str(object).map_err(|e| format!("not a frame: {e}"))?;
    let event = match serde_json::from_str::<Event>(frame.e.get()) {
        Ok(event) => event,
        Err(_) if newer => Event::Note {
            level: Level::Info,
            source: "journal".to_owned(),
            text: format!("an event this version does not know: {}", type_of(frame.e.get())),
        },
        Err(e) => return Err(format!("fact #{}: {e}", frame.n)),
    };
    let fact = Fact { seq: frame.n, at: frame.at, event };
    Ok(Entry { fact, after: frame.after, mono: frame.mono, boot: frame.boot })
}

/// The format named by a line, whether or not the rest of it is known.
pub fn format_of(line: &[u8]) -> Option<(Format, String)> {
    #[derive(Deserialize)]
    struct Versions {
        format: Format,
        #[serde(default)]
        tool: String,
    }
    serde_json::from_slice::<Versions>(line).ok().map(|v| (v.format, v.tool))
}

fn type_of(event: &str) -> String {
    #[derive(Deserialize)]
    struct Tag {
        r#type: String,
    }
    serde_json::from_str::<Tag>(event).map_or_else(|_| "?".to_owned(), |t| t.r#type)
}

/// The shortest a line can be.
pub const fn least_line() -> usize {
    PAYLOAD_AT + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_and_starts_with_its_checks() {
        let mut chain = String::new();
        let fact = Fact { seq: 1, at: At(5), event: Event::RunFinished };
        let line = seal_fact(&fact, Beside { mono: 7, ..Beside::default() }, &mut chain).unwrap();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["n"], 1);
        assert_eq!(json["mono"], 7);
        assert_eq!(json["e"]["type"], "run_finished");
        assert_eq!(json["h"], chain.as_str());
        assert!(line.len() > least_line());
        let object = open(line.trim_end().as_bytes(), &mut String::new()).unwrap();
        assert_eq!(parse_fact(&object, false).unwrap().fact, fact);
    }

    #[test]
    fn a_line_from_another_chain_does_not_fit() {
        let fact = Fact { seq: 1, at: At(5), event: Event::RunFinished };
        let line = seal_fact(&fact, Beside { mono: 7, ..Beside::default() }, &mut "aa".to_owned()).unwrap();
        let why = open(line.trim_end().as_bytes(), &mut "bb".to_owned()).unwrap_err();
        assert!(why.contains("chain"), "{why}");
    }

    #[test]
    fn an_unknown_event_is_a_note_only_in_a_newer_minor() {
        let object = r#"{"n":3,"at":1,"e":{"type":"moon_phase","x":1}}"#;
        assert!(parse_fact(object, false).unwrap_err().contains("#3"));
        let entry = parse_fact(object, true).unwrap();
        assert!(matches!(entry.fact.event, Event::Note { ref text, .. } if text.contains("moon_phase")));
    }
}
