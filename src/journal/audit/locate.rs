//! Finding the one byte of a line that was changed.
//!
//! A line holds two checks of its payload. The CRC is linear, so the difference between what it says and what it
//! should be names, for each place, the one change that could explain it; the hash then proves which one it was.

use super::super::frame::{CRC_AT, CRC_LEN, HASH_AT, HASH_LEN, PAYLOAD_AT, TEMPLATE, link, open};

/// A changed byte: where in the line, and what stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// Offset in the line.
    pub at: usize,
    /// What was written.
    pub was: u8,
}

/// The one byte whose change explains why `line` does not follow `chain`, if one does. The line without its newline.
pub(super) fn one_byte(line: &[u8], chain: &str) -> Option<Changed> {
    let end = line.len().checked_sub(1).filter(|end| *end >= PAYLOAD_AT)?;
    let wrong = |from: usize, wanted: &[u8]| -> Vec<Changed> {
        let all = wanted.iter().zip(&line[from..]).enumerate();
        all.filter(|(_, (was, is))| was != is).map(|(i, (was, _))| Changed { at: from + i, was: *was }).collect()
    };
    let mut punctuation: Vec<Changed> =
        TEMPLATE.iter().flat_map(|(from, text)| wrong(*from, text.as_bytes())).collect();
    punctuation.extend(wrong(end, b"}"));
    let payload = &line[PAYLOAD_AT..end];
    let crc = format!("{:08x}", crc32fast::hash(payload));
    let hash = link(chain, payload);
    let (crc_wrong, hash_wrong) = (wrong(CRC_AT, crc.as_bytes()), wrong(HASH_AT, hash.as_bytes()));
    match (punctuation.as_slice(), crc_wrong.as_slice(), hash_wrong.as_slice()) {
        ([one], [], []) | ([], [one], []) | ([], [], [one]) => Some(*one),
        ([], [_, ..], [_, ..]) => in_payload(line, payload, chain),
        _ => None,
    }
}

fn in_payload(line: &[u8], payload: &[u8], chain: &str) -> Option<Changed> {
    let claimed = std::str::from_utf8(line.get(CRC_AT..CRC_AT + CRC_LEN)?).ok()?;
    let claimed_hash = line.get(HASH_AT..HASH_AT + HASH_LEN)?;
    let difference = u32::from_str_radix(claimed, 16).ok()? ^ crc32fast::hash(payload);
    // What changing these bits of the current byte does to the checksum; the last byte first.
    let mut effects: Vec<u32> = (1..=255_u32).map(step).collect();
    for at in (0..payload.len()).rev() {
        for (bits, effect) in (1..=255_u8).zip(&mut effects) {
            if *effect == difference {
                let mut mended = payload.to_vec();
                mended[at] ^= bits;
                if link(chain, &mended).as_bytes() == claimed_hash {
                    return Some(Changed { at: PAYLOAD_AT + at, was: mended[at] });
                }
            }
            *effect = step(*effect);
        }
    }
    None
}

/// CRC-32 (IEEE, reflected) of one zero byte that follows a remainder.
const fn step(mut remainder: u32) -> u32 {
    let mut bit = 0;
    while bit < 8 {
        remainder = if remainder & 1 == 1 { (remainder >> 1) ^ 0xEDB8_8320 } else { remainder >> 1 };
        bit += 1;
    }
    remainder
}

/// Where a newline inside `line` was turned into something else: what stands before that place follows `chain`.
pub(super) fn lost_newline(line: &[u8], chain: &str) -> Option<usize> {
    let opening = TEMPLATE[0].1.as_bytes();
    let starts = line.windows(opening.len()).enumerate().filter(|(at, w)| *at > 0 && *w == opening).map(|(at, _)| at);
    // The last line of a file has nothing behind its newline.
    starts.chain([line.len()]).map(|start| start.saturating_sub(1)).find(|at| {
        let mut chain = chain.to_owned();
        line.get(..*at).is_some_and(|frame| open(frame, &mut chain).is_ok())
    })
}
