//! `cutover bench ui`: what drawing costs at 200×60, and what share of a core that is.

use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Instant;

use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::Options;
use super::error::{BenchResult, Tried as _};
use super::measure::{Report, Sample, cpu_seconds};
use super::server::Brief;
use crate::snapshot::Snapshot;
use crate::snapshot::fixture::{Moment, snapshot};
use crate::view::{Glyphs, Palette, Theme, ViewState, draw};

/// Frames of one run.
const FRAMES: u64 = 2_000;
/// Most frames a second that data causes.
const RUNNING_FPS: f64 = 10.0;
/// With nothing to do only the clock changes.
const IDLE_FPS: f64 = 1.0;
const SIZE: (u16, u16) = (200, 60);

/// Runs the bench.
pub(super) async fn run(options: &Options) -> BenchResult<Report> {
    let mut report = Report::new("ui", format!("frames of {}×{}, drawn, compared and encoded", SIZE.0, SIZE.1));
    for _ in 0..options.runs {
        for name in ["frame, everything changed", "frame, only the clock", "frame, 500 tables"] {
            let brief = Brief { name: name.to_owned(), rows: options.rows.unwrap_or(FRAMES), ..Brief::default() };
            report.add(name, brief.run().await?);
        }
    }
    let each = |name: &str| report.median(name, |s| Some(s.cpu_seconds? / s.rows as f64));
    let shares = [
        ("console while work goes on, share of a core", "frame, everything changed", RUNNING_FPS, -3.0),
        ("console at rest, share of a core", "frame, only the clock", IDLE_FPS, -1.0),
    ];
    let shares: Vec<_> = shares
        .into_iter()
        .filter_map(|(what, name, fps, goal)| Some((what, each(name)? * fps * 100.0, fps, goal)))
        .collect();
    let (many, few) = (each("frame, 500 tables"), each("frame, everything changed"));
    for (what, value, fps, goal) in shares {
        report.answer(what, &format!("{fps} frames a second"), value, goal, "%");
    }
    if let (Some(many), Some(few)) = (many, few) {
        report.answer("frame, 500 tables", "frame, everything changed", many / few, -1.25, "x");
    }
    Ok(report)
}

/// Counts what would go to a terminal.
struct Sink(Rc<Cell<u64>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set(self.0.get() + bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A contestant, in its own process.
pub(super) fn contest(brief: &Brief) -> BenchResult<Option<Sample>> {
    let (first, second) = match brief.name.as_str() {
        "frame, everything changed" => (snapshot(Moment::Loading), snapshot(Moment::Switched)),
        "frame, only the clock" => (snapshot(Moment::Loading), later(snapshot(Moment::Loading))),
        "frame, 500 tables" => (many(snapshot(Moment::Loading)), many(snapshot(Moment::Switched))),
        _ => return Ok(None),
    };
    let area = Rect::new(0, 0, SIZE.0, SIZE.1);
    let options = TerminalOptions { viewport: Viewport::Fixed(area) };
    let written = Rc::new(Cell::new(0));
    let backend = CrosstermBackend::new(Sink(Rc::clone(&written)));
    let mut terminal = Terminal::with_options(backend, options).tried("open", "a terminal in memory")?;
    let theme = Theme::new(Palette::Ansi16, Glyphs::Unicode);
    let state = ViewState::default();
    let (began, before) = (Instant::now(), cpu_seconds());
    for n in 0..brief.rows {
        let shown = if n % 2 == 0 { &first } else { &second };
        terminal.draw(|frame| draw(shown, &state, &theme, area, frame.buffer_mut())).tried("draw", "a frame")?;
    }
    let mut sample = Sample::since(began, brief.rows);
    sample.cpu_seconds = sample.cpu_seconds.zip(before).map(|(after, before)| after - before);
    sample.more.insert("bytes a frame".to_owned(), written.get() as f64 / brief.rows.max(1) as f64);
    Ok(Some(sample))
}

/// A second later, with nothing else changed.
fn later(mut shown: Snapshot) -> Snapshot {
    shown.now = shown.now.plus(1_000);
    shown.wall = shown.wall.plus(1_000);
    shown
}

/// As many tables as a large migration has.
fn many(mut shown: Snapshot) -> Snapshot {
    let some = shown.tables.clone();
    shown.tables = some.iter().cycle().take(500).cloned().collect();
    shown
}
