//! Tables: counts with their provenance, difference, lag and rate; and the comparisons.

use super::canvas::{Line, pad, pad_left, wrap};
use super::signals::age_text;
use super::theme::{Theme, Tone};
use crate::domain::at::At;
use crate::domain::gauge::{Count, CountKind, Phase, Reading};
use crate::snapshot::{Health, Proof, Snapshot, TableRow, words};

/// How a count is written, with the mark of its provenance.
pub(super) fn count(count: Count, width: usize) -> String {
    let Some(rows) = count.rows else { return "?".to_owned() };
    let mark = words::provenance(&count);
    let long = format!("{}{mark}", words::grouped(rows));
    if long.len() <= width { long } else { format!("{}{mark}", words::human(rows)) }
}

/// The words of a phase.
pub(super) const fn phase_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Loading => "loading",
        Phase::Loaded => "loaded",
        Phase::Following => "following",
        Phase::Verifying => "comparing",
        Phase::Paused => "paused",
        Phase::Drained => "drained",
        Phase::Ended => "ended",
        Phase::Retrying => "RETRYING",
        Phase::Stays => "stays",
    }
}

const fn phase_tone(phase: Phase) -> Tone {
    match phase {
        Phase::Retrying => Tone::Warn,
        Phase::Waiting | Phase::Stays => Tone::Dim,
        Phase::Drained => Tone::Good,
        _ => Tone::Plain,
    }
}

fn reading(r: Reading) -> String {
    r.value.map_or_else(|| "?".to_owned(), |ms| words::with_unit(ms / 1000.0, "s"))
}

/// One column: heading, cells, and whether numbers stand at its right.
struct Column {
    head: &'static str,
    width: usize,
    right: bool,
}

const fn column(head: &'static str, width: usize, right: bool) -> Column {
    Column { head, width, right }
}

fn cell(text: &str, c: &Column) -> String {
    if c.right { pad_left(text, c.width) } else { pad(text, c.width) }
}

fn heading(columns: &[Column], width: usize) -> Line {
    let text: Vec<String> = columns.iter().map(|c| cell(c.head, c)).collect();
    Line::new(format!(" {}", text.join(" ")), Tone::Dim).cut(width)
}

fn row(columns: &[Column], cells: Vec<(String, Tone)>, width: usize) -> Line {
    let mut line = Line::default();
    for (c, (text, tone)) in columns.iter().zip(cells) {
        line = line.then(" ", Tone::Plain).then(cell(&text, c), tone);
    }
    line.cut(width)
}

fn difference(t: &TableRow, width: usize) -> (String, Tone) {
    match t.difference {
        _ if t.phase == Phase::Stays => ("-".to_owned(), Tone::Dim),
        None => ("?".to_owned(), Tone::Warn),
        Some(0) if sure(t) => ("0".to_owned(), Tone::Good),
        Some(n) => {
            // A difference of numbers that are near the truth is itself only near it.
            let mark = if sure(t) { "" } else { "~" };
            let long = format!("{}{mark}", words::signed(n));
            let sign = if n < 0 { "-" } else { "" };
            let short = format!("{sign}{}{mark}", words::human(n.unsigned_abs()));
            (if long.len() <= width { long } else { short }, Tone::Plain)
        }
    }
}

/// Whether both sides are known to the row.
const fn sure(t: &TableRow) -> bool {
    t.source.is_sure() && t.target.is_sure()
}

/// Both counts of a table in words: how each was come by, and how old it is.
fn provenances(t: &TableRow, wall: At) -> String {
    let side = |count: Count| {
        let Some(rows) = count.rows else { return "?".to_owned() };
        let (rows, mark) = (words::grouped(rows), words::provenance(&count));
        let age = if count.at == At::default() { "?".to_owned() } else { age_text(count.at, wall) };
        match (count.kind, count.read_at) {
            (CountKind::Unknown, _) => "?".to_owned(),
            (CountKind::Exact, _) => format!("{rows} counted {age} ago"),
            (CountKind::Estimated, _) => format!("{rows}{mark} the store's own, up to {age} old"),
            (CountKind::Derived, None) => format!("{rows}{mark} written, {age} ago"),
            (CountKind::Derived, Some(read)) => {
                let unsure =
                    if count.unsure > 0 { format!(" (+-{})", words::human(count.unsure)) } else { String::new() };
                format!("{rows}{mark}{unsure} as of {age} ago, all read {} ago", age_text(read, wall))
            }
        }
    };
    match t.phase {
        Phase::Stays => format!("{} source {}", pad(&t.id, 10), side(t.source)),
        _ => format!("{} source {}; target {}", pad(&t.id, 10), side(t.source), side(t.target)),
    }
}

fn counted(t: &TableRow, wall: At) -> String {
    let oldest = [t.source, t.target].into_iter().filter(|c| c.rows.is_some()).map(|c| c.at).min();
    match oldest {
        None => "-".to_owned(),
        Some(at) if at == At::default() => "?".to_owned(),
        Some(at) => age_text(at, wall),
    }
}

fn rate(t: &TableRow) -> String {
    if matches!(t.phase, Phase::Waiting | Phase::Stays) { "-".to_owned() } else { words::rate(t.rate) }
}

/// What the last full comparison is worth, in a few characters: its age when it proves the table.
fn proof(t: &TableRow, wall: At) -> (String, Tone) {
    match t.proof {
        Proof::Verified { at } => (format!("{} ago", age_text(at, wall)), Tone::Good),
        Proof::Stale { at } => (format!("? {}", age_text(at, wall)), Tone::Warn),
        Proof::Open { rows } => (format!("{} open", words::human(rows)), Tone::Bad),
        Proof::Repaired => ("? mended".to_owned(), Tone::Warn),
        Proof::Never => ("?".to_owned(), Tone::Dim),
    }
}

/// `source = target + parked + expired` of each table as the last comparison counted it, with its age.
fn accounts(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for t in snapshot.tables.iter().filter(|t| t.phase != Phase::Stays) {
        let Some((_, v)) = &t.verified else {
            let text = format!(" {} source ? = target ? + parked ? + expired ?   never compared", pad(&t.id, 10));
            lines.push(Line::new(text, Tone::Dim).cut(width));
            continue;
        };
        let grouped = |c: Count| c.rows.map_or_else(|| "?".to_owned(), words::grouped);
        // Positive when the target dropped rows past their time, negative when the source did.
        let expired = i128::from(v.expired) - i128::from(v.expired_extra);
        let over = v.source.rows.zip(v.target.rows).map(|(s, t)| {
            let left = i128::from(s) - i128::from(t) - i128::from(v.parked) - expired;
            words::signed(i64::try_from(left).unwrap_or(i64::MAX))
        });
        let over = over.as_deref().unwrap_or("?");
        let tone = if v.unaccounted() > 0 { Tone::Bad } else { Tone::Plain };
        let (id, source, target) = (pad(&t.id, 10), grouped(v.source), grouped(v.target));
        let parked = words::grouped(v.parked);
        let (text, left) = if width >= 100 {
            let text = format!(" {id} source {source} = target {target} + parked {parked} + expired {expired}");
            (text, format!(" + unaccounted {over}"))
        } else {
            let text = format!(" {id} {source} = {target} + {parked} parked + {expired} expired");
            (text, format!(" + {over} left"))
        };
        let (age, age_tone) = proof(t, snapshot.wall);
        lines.push(Line::plain(text).then(left, tone).then(format!("  {age}"), age_tone).cut(width));
    }
    lines
}

/// Rows of the tables pane and of view 1. Only those within `height` lines from line `from` on are written out, so that
/// hundreds of tables cost no more than a screenful; the others are blank and are not read.
pub(super) fn lines(snapshot: &Snapshot, width: usize, from: usize, height: usize) -> Vec<Line> {
    let wide = width >= 118;
    let n = if wide { 15 } else { 10 };
    let mut columns = vec![
        column("table", if wide { 16 } else { 10 }, false),
        column("source", n, true),
        column("target", n, true),
        column("diff", if wide { 11 } else { 7 }, true),
        column("age", 4, true),
        column("lag", 6, true),
        column("rate", 7, true),
        column("parked", 6, true),
        column("state", 9, false),
    ];
    if wide {
        columns.extend([
            column("verified", 9, false),
            column("segments", 9, true),
            column("applied", 9, true),
            column("trouble", 60, false),
        ]);
    }
    let mut lines = vec![heading(&columns, width)];
    // Scrolled beyond the end, the last screenful is shown; heading and sum are lines too.
    let first = from.min((snapshot.tables.len() + 2).saturating_sub(height));
    let (mut source, mut target, mut parked, mut rough) = (Some(0_u64), Some(0_u64), 0_u64, "");
    for t in &snapshot.tables {
        let stays = t.phase == Phase::Stays;
        let parked_here: u64 = t.parked.values().sum();
        if !stays {
            source = source.zip(t.source.rows).map(|(a, b)| a + b);
            target = target.zip(t.target.rows).map(|(a, b)| a + b);
            parked += parked_here;
            if !sure(t) {
                rough = "~";
            }
        }
        if lines.len() < first || lines.len() >= from.saturating_add(height) {
            lines.push(Line::default());
            continue;
        }
        let dash = |text: String| if stays { "-".to_owned() } else { text };
        let unknown = |r: Option<u64>| if r.is_none() && !stays { Tone::Warn } else { Tone::Plain };
        let parked_tone = if parked_here > 0 { Tone::Warn } else { Tone::Dim };
        let mut cells = vec![
            (t.id.clone(), Tone::Plain),
            (count(t.source, n), unknown(t.source.rows)),
            (dash(count(t.target, n)), unknown(t.target.rows)),
            difference(t, if wide { 11 } else { 7 }),
            (counted(t, snapshot.wall), Tone::Dim),
            (dash(reading(t.lag.apply)), Tone::Plain),
            (rate(t), Tone::Plain),
            (dash(words::human(parked_here)), parked_tone),
            (phase_words(t.phase).to_owned(), phase_tone(t.phase)),
        ];
        if wide {
            let (proof, tone) = proof(t, snapshot.wall);
            cells.push((dash(proof), tone));
            let reading = if t.reading > 0 { format!(" +{}", t.reading) } else { String::new() };
            cells.push((dash(format!("{}/{}{reading}", t.segments.0, t.segments.1)), Tone::Dim));
            cells.push((dash(words::human(t.applied)), Tone::Dim));
            cells.push((t.trouble.clone().unwrap_or_default(), Tone::Warn));
        }
        lines.push(row(&columns, cells, width));
    }
    if snapshot.tables.is_empty() {
        lines.push(Line::new(" no tables yet", Tone::Dim));
        return lines;
    }
    let sum = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), words::grouped);
    let left = source
        .zip(target)
        .map(|(s, t)| i64::try_from(i128::from(s) - i128::from(t) - i128::from(parked)).unwrap_or(i64::MAX));
    let text = format!(
        " source {} = target {} + parked {} + difference {}",
        sum(source),
        sum(target),
        words::grouped(parked),
        left.map_or_else(|| "?".to_owned(), |n| format!("{}{rough}", words::signed(n)))
    );
    lines.push(Line::new(text, Tone::Strong).cut(width));
    lines
}

/// What stands under the rows of view 1: troubles, reasons of parked rows, where counts come from, and what the marks
/// mean.
pub(super) fn notes(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    lines.extend(accounts(snapshot, width));
    lines.push(Line::default());
    for t in &snapshot.tables {
        if let Some(trouble) = &t.trouble {
            for part in wrap(&format!("{}: {trouble}", t.id), width.saturating_sub(2)) {
                lines.push(Line::new(format!(" {part}"), Tone::Warn));
            }
        }
        if !t.parked.is_empty() {
            let reasons: Vec<String> = t.parked.iter().map(|(why, n)| format!("{why} {}", words::human(*n))).collect();
            for part in wrap(&format!("{} parked: {}", t.id, reasons.join(", ")), width.saturating_sub(2)) {
                lines.push(Line::plain(format!(" {part}")));
            }
        }
    }
    for t in &snapshot.tables {
        for part in wrap(&provenances(t, snapshot.wall), width.saturating_sub(2)) {
            lines.push(Line::new(format!(" {part}"), Tone::Dim));
        }
    }
    lines.push(
        Line::new(
            " no mark exact   ^ last full reading and changes since   ~ near it, not exact   ? unknown",
            Tone::Dim,
        )
        .cut(width),
    );
    lines
}

/// View 2: the lags, each with its age.
pub(super) fn lag_lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let w = if width >= 100 { 18 } else { 13 };
    let columns = [
        column("table", if width >= 100 { 16 } else { 11 }, false),
        column("capture (age)", w, false),
        column("apply (age)", w, false),
        column("marker (age)", w, false),
        column("clean compare", w, false),
        column("state", 9, false),
    ];
    let mut lines = vec![heading(&columns, width)];
    let aged = |r: Reading| match r.value {
        None => ("?".to_owned(), Tone::Warn),
        Some(_) => (format!("{} ({})", reading(r), age_text(r.at, snapshot.wall)), Tone::Plain),
    };
    for t in snapshot.tables.iter().filter(|t| t.phase != Phase::Stays) {
        let clean = match t.proof {
            Proof::Never => ("never".to_owned(), Tone::Dim),
            _ => proof(t, snapshot.wall),
        };
        let cells = vec![
            (t.id.clone(), Tone::Plain),
            aged(t.lag.capture),
            aged(t.lag.apply),
            aged(t.lag.marker),
            clean,
            (phase_words(t.phase).to_owned(), phase_tone(t.phase)),
        ];
        lines.push(row(&columns, cells, width));
    }
    let clocks = super::signals::clock_lines(snapshot, width);
    if !clocks.is_empty() {
        lines.push(Line::default());
        lines.extend(clocks);
    }
    lines.push(Line::default());
    for text in [
        "capture  age of the newest change read, or time since the last read that found the end",
        "apply    age of the oldest change read and not yet durable in the target",
        "marker   time from writing a marker at the source to reading it back from the target",
    ] {
        let (label, rest) = text.split_at(9);
        for (i, part) in wrap(rest, width.saturating_sub(11)).into_iter().enumerate() {
            let head = if i == 0 { label } else { "         " };
            lines.push(Line::new(format!(" {head}{part}"), Tone::Dim));
        }
    }
    lines
}

/// View 4: what the last full comparison of every table found.
pub(super) fn verify_lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let n = if width >= 110 { 13 } else { 8 };
    let columns = [
        column("table", if width >= 110 { 16 } else { 10 }, false),
        column("equal", n, true),
        column("missing", 7, true),
        column("extra", 6, true),
        column("differ", 6, true),
        column("parked", 6, true),
        column("expired", 7, true),
        column("match", 8, true),
        column("ended", 8, false),
    ];
    let mut lines = vec![heading(&columns, width)];
    for t in snapshot.tables.iter().filter(|t| t.phase != Phase::Stays) {
        let Some((at, v)) = &t.verified else {
            let text = if t.phase == Phase::Verifying { "being compared" } else { "? never compared" };
            lines.push(Line::plain(format!(" {} ", pad(&t.id, columns[0].width))).then(text, Tone::Warn).cut(width));
            continue;
        };
        let bad = |n: u64| (words::human(n), if n > 0 { Tone::Bad } else { Tone::Dim });
        let equal = if n > 8 { words::grouped(v.equal) } else { words::human(v.equal) };
        let cells = vec![
            (t.id.clone(), Tone::Plain),
            (equal, Tone::Plain),
            bad(v.missing),
            bad(v.extra),
            bad(v.mismatched),
            (words::human(v.parked), if v.parked > 0 { Tone::Warn } else { Tone::Dim }),
            (words::human(v.expired + v.expired_extra), Tone::Dim),
            match v.rate() {
                None => ("?".to_owned(), Tone::Warn),
                Some(rate) => {
                    (words::with_unit(rate * 100.0, "%"), if v.differing() == 0 { Tone::Good } else { Tone::Warn })
                }
            },
            (at.clock_on(snapshot.now), Tone::Dim),
        ];
        lines.push(row(&columns, cells, width));
    }
    for t in &snapshot.tables {
        let Some((_, v)) = t.verified.as_ref().filter(|(_, v)| v.differing() + v.orphans > 0) else { continue };
        lines.push(Line::default());
        let causes: Vec<String> = v.causes.iter().map(|(cause, n)| format!("{cause} {}", words::human(*n))).collect();
        let causes = if causes.is_empty() { "cause not looked at".to_owned() } else { causes.join(", ") };
        for part in wrap(&format!("{}: {causes}", t.id), width.saturating_sub(2)) {
            lines.push(Line::new(format!(" {part}"), Tone::Warn));
        }
        for key in v.keys.iter().take(12) {
            lines.push(Line::plain(format!("   {key}")).cut(width));
        }
        if v.keys.len() > 12 {
            lines.push(Line::new(format!("   .. {} more keys in the run folder", v.keys.len() - 12), Tone::Dim));
        }
    }
    lines
}

/// View 3: probes first, then what went wrong by table.
pub(super) fn error_lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let columns = [
        column("probe", 12, false),
        column("failed/all", 11, true),
        column("share", 7, true),
        column("p95", 7, true),
        column("age", 5, true),
        column("last answer", width.saturating_sub(50).max(12), false),
    ];
    let mut lines = vec![heading(&columns, width)];
    for (id, p) in &snapshot.probes {
        let share = if p.count == 0 {
            "?".to_owned()
        } else {
            words::with_unit(f64::from(p.failed) * 100.0 / f64::from(p.count), "%")
        };
        let tone = if p.count == 0 || p.failed > 0 { Tone::Warn } else { Tone::Good };
        let cells = vec![
            (id.clone(), Tone::Plain),
            (format!("{}/{}", p.failed, p.count), Tone::Plain),
            (share, tone),
            (p.p95_ms.map_or_else(|| "?".to_owned(), |ms| words::with_unit(ms, "ms")), Tone::Plain),
            (age_text(p.at, snapshot.wall), Tone::Dim),
            (p.last.clone(), if p.last_ok { Tone::Plain } else { Tone::Warn }),
        ];
        lines.push(row(&columns, cells, width));
    }
    if snapshot.probes.is_empty() {
        lines.push(Line::new(" no probe has answered yet: ?", Tone::Warn));
    }
    lines.push(Line::default());
    let columns = [
        column("table", 12, false),
        column("retries", 8, true),
        column("parked", 8, true),
        column("state", 9, false),
        column("last trouble", width.saturating_sub(44).max(12), false),
    ];
    lines.push(heading(&columns, width));
    for t in snapshot.tables.iter().filter(|t| t.phase != Phase::Stays) {
        let parked: u64 = t.parked.values().sum();
        let cells = vec![
            (t.id.clone(), Tone::Plain),
            (words::human(t.retries), if t.retries > 0 { Tone::Strong } else { Tone::Dim }),
            (words::human(parked), if parked > 0 { Tone::Warn } else { Tone::Dim }),
            (phase_words(t.phase).to_owned(), phase_tone(t.phase)),
            (
                t.trouble.clone().unwrap_or_else(|| "none".to_owned()),
                if t.trouble.is_some() { Tone::Warn } else { Tone::Dim },
            ),
        ];
        lines.push(row(&columns, cells, width));
    }
    let failed: Vec<_> = snapshot.steps.iter().filter(|s| s.reason.is_some()).collect();
    if !failed.is_empty() {
        lines.push(Line::default());
    }
    for s in failed {
        let text = format!("{:02} {}: {}", s.number, s.title, s.reason.as_deref().unwrap_or(""));
        lines
            .extend(wrap(&text, width.saturating_sub(2)).into_iter().map(|l| Line::new(format!(" {l}"), Tone::Strong)));
        if let Some(advice) = &s.advice {
            lines.extend(wrap(advice, width.saturating_sub(4)).into_iter().map(|l| Line::plain(format!("   {l}"))));
        }
    }
    lines
}

/// The health of success criteria, one line each.
pub(super) fn criteria_lines(snapshot: &Snapshot, width: usize) -> Vec<Line> {
    snapshot
        .criteria
        .iter()
        .map(|k| {
            Line::plain(" ")
                .then(pad(&k.name, 16), Tone::Plain)
                .then(pad(&format!("wanted {}", k.wanted), 22), Tone::Dim)
                .then(pad(&k.measured, 12), Theme::tone(k.health))
                .then(met(k.health), Theme::tone(k.health))
                .cut(width)
        })
        .collect()
}

/// A criterion is met, is not, or nobody knows: in the words of the closing summary.
fn met(health: Health) -> &'static str {
    match health {
        Health::Ok => "ok",
        Health::Fail | Health::Warn => "NOT MET",
        Health::Unknown | Health::Watch | Health::Idle => Theme::word(health),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_carry_their_provenance() {
        assert_eq!(count(Count::exact(1_234, At(1)), 10), "1,234");
        assert_eq!(count(Count::estimated(44_012_334, At(1)), 11), "44,012,334~");
        assert_eq!(count(Count::estimated(44_012_334, At(1)), 10), "44.0M~");
        assert_eq!(count(Count::derived(7, At(1)), 10), "7^");
        assert_eq!(count(Count::default(), 10), "?");
    }
}
