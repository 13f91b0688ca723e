//! Drawing tests: what stands on the screen, with its styles, at the sizes that matter.

mod boxes;
mod control;
mod home;
mod laws;
mod views;

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{Glyphs, Palette, Theme, ViewState, draw};
use crate::snapshot::Snapshot;

const ASCII: Theme = Theme::new(Palette::Mono, Glyphs::Ascii);
const COLOUR: Theme = Theme::new(Palette::Ansi16, Glyphs::Unicode);

fn buffer(snapshot: &Snapshot, state: &ViewState, theme: &Theme, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buf = Buffer::empty(area);
    draw(snapshot, state, theme, area, &mut buf);
    buf
}

/// The characters of the screen, one line per row.
fn text_of(buf: &Buffer) -> String {
    let width = usize::from(buf.area.width);
    let mut out = String::new();
    for row in buf.content().chunks(width) {
        let line: String = row.iter().map(|c| c.symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The characters, then every run of cells with a style of its own: `row:from-to colours modifiers`.
fn styled(buf: &Buffer) -> String {
    let mut out = text_of(buf);
    let width = usize::from(buf.area.width);
    for (y, row) in buf.content().chunks(width).enumerate() {
        let mut x = 0;
        while x < width {
            let style = row[x].style();
            let run = row[x..].iter().take_while(|c| c.style() == style).count();
            let (fg, bg) = (row[x].fg, row[x].bg);
            if fg != ratatui::style::Color::Reset || bg != ratatui::style::Color::Reset || !row[x].modifier.is_empty() {
                let _ = writeln!(out, "{y}:{x}-{} {fg}/{bg} {:?}", x + run - 1, row[x].modifier);
            }
            x += run;
        }
    }
    out
}

fn screen(snapshot: &Snapshot, state: &ViewState, width: u16, height: u16) -> String {
    text_of(&buffer(snapshot, state, &ASCII, width, height))
}
