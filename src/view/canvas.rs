//! The few strokes everything is drawn with. Nothing is ever drawn outside the buffer.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::theme::{Theme, Tone};

/// A piece of text with a meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// One line of a pane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) spans: Vec<Span>,
    pub(super) selected: bool,
}

impl Line {
    pub(super) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self::default().then(text, tone)
    }

    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Tone::Plain)
    }

    pub(super) fn then(mut self, text: impl Into<String>, tone: Tone) -> Self {
        self.spans.push(Span { text: text.into(), tone });
        self
    }

    pub(super) fn width(&self) -> usize {
        self.spans.iter().map(|s| s.text.width()).sum()
    }

    /// Spaces up to this column; at least one when there is text already.
    pub(super) fn at_column(self, column: usize) -> Self {
        let have = self.width();
        let gap = column.saturating_sub(have).max(usize::from(have > 0));
        self.then(" ".repeat(gap), Tone::Plain)
    }

    /// Puts `text` so that it ends at column `end`, cutting what is in its way.
    pub(super) fn ending_at(self, end: usize, text: &str, tone: Tone) -> Self {
        let start = end.saturating_sub(text.width());
        let cut = self.cut(start.saturating_sub(1));
        let gap = start.saturating_sub(cut.width());
        cut.then(" ".repeat(gap), Tone::Plain).then(text, tone)
    }

    /// The line cut to `width` cells.
    pub(super) fn cut(mut self, width: usize) -> Self {
        let mut left = width;
        let mut cut_at = self.spans.len();
        for (i, span) in self.spans.iter_mut().enumerate() {
            let w = span.text.width();
            if w > left {
                span.text = fit(&span.text, left);
                cut_at = i + 1;
                break;
            }
            left -= w;
        }
        self.spans.truncate(cut_at);
        self
    }
}

/// Text in at most `width` cells; what is cut ends in `..`.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (keep, tail) = if width >= 4 { (width - 2, "..") } else { (width, "") };
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > keep {
            break;
        }
        out.push(c);
        used += w;
    }
    out.push_str(tail);
    out
}

/// Text in at most `width` cells; what is cut begins with `..`: of a path the end says which one it is.
pub(super) fn fit_end(text: &str, width: usize) -> String {
    if text.width() <= width || width < 4 {
        return fit(text, width);
    }
    let mut from = text.len();
    let mut used = 0;
    for (i, c) in text.char_indices().rev() {
        used += c.width().unwrap_or(0);
        if used > width - 2 {
            break;
        }
        from = i;
    }
    format!("..{}", &text[from..])
}

/// Text in exactly `width` cells, left aligned.
pub(super) fn pad(text: &str, width: usize) -> String {
    let text = fit(text, width);
    let gap = width.saturating_sub(text.width());
    text + &" ".repeat(gap)
}

/// Text in exactly `width` cells, right aligned.
pub(super) fn pad_left(text: &str, width: usize) -> String {
    let text = fit(text, width);
    " ".repeat(width.saturating_sub(text.width())) + &text
}

/// Words broken into lines of at most `width` cells. Never empty.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let gap = usize::from(!line.is_empty());
        if line.width() + gap + word.width() <= width {
            line.push_str(&" ".repeat(gap));
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        // A word longer than the line (a URL, an ARN) is broken, not lost.
        let mut rest = word;
        while rest.width() > width {
            let mut used = 0;
            let mut end = 0;
            for (i, c) in rest.char_indices() {
                let w = c.width().unwrap_or(0);
                if used + w > width && end > 0 {
                    break;
                }
                used += w;
                end = i + c.len_utf8();
            }
            lines.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        line.push_str(rest);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

pub(super) struct Canvas<'a> {
    pub(super) buf: &'a mut Buffer,
    pub(super) theme: &'a Theme,
}

impl Canvas<'_> {
    /// Writes text into at most `width` cells of one row.
    pub(super) fn put(&mut self, x: u16, y: u16, width: u16, text: &str, tone: Tone) {
        let area = self.buf.area;
        if x < area.left() || x >= area.right() || y < area.top() || y >= area.bottom() || width == 0 {
            return;
        }
        // A server's answer may hold anything; a control character must not move the cursor.
        let clean: String;
        let text = if text.chars().any(char::is_control) {
            clean = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            clean.as_str()
        } else {
            text
        };
        let style = self.theme.style(tone);
        self.buf.set_stringn(x, y, text, usize::from(width), style);
    }

    /// One line; the rest of the row is blanked.
    pub(super) fn line(&mut self, area: Rect, line: &Line) {
        if area.is_empty() {
            return;
        }
        self.put(area.x, area.y, area.width, &" ".repeat(usize::from(area.width)), Tone::Plain);
        let mut x = area.x;
        for span in &line.spans {
            let left = area.right().saturating_sub(x);
            let text = self.theme.text(&span.text);
            let text = fit(&text, usize::from(left));
            self.put(x, area.y, left, &text, span.tone);
            x = x.saturating_add(u16::try_from(text.width()).unwrap_or(u16::MAX)).min(area.right());
        }
        if line.selected {
            let row = Rect { height: 1, ..area }.intersection(self.buf.area);
            self.buf.set_style(row, self.theme.style(Tone::Selected));
        }
    }

    /// Lines from the top of an area; what does not fit is left out. Blanks the whole area.
    pub(super) fn lines(&mut self, area: Rect, lines: &[Line]) {
        let blank = Line::default();
        for i in 0..area.height {
            let row = Rect { y: area.y.saturating_add(i), height: 1, ..area };
            self.line(row, lines.get(usize::from(i)).unwrap_or(&blank));
        }
    }

    /// Lines from line `from` on, with a last line that says how much is below.
    pub(super) fn scrolled(&mut self, area: Rect, lines: &[Line], from: usize) {
        let height = usize::from(area.height);
        if height == 0 {
            return;
        }
        let from = from.min(lines.len().saturating_sub(height));
        let below = lines.len().saturating_sub(from + height);
        let mut shown: Vec<Line> = lines.iter().skip(from).take(height).cloned().collect();
        if below > 0 && height > 1 {
            shown.pop();
            shown.push(Line::new(format!("    .. {} more below", below + 1), Tone::Dim));
        }
        self.lines(area, &shown);
    }

    /// A rule across a row.
    pub(super) fn rule(&mut self, area: Rect) {
        let rule: String = std::iter::repeat_n(self.theme.rule(), usize::from(area.width)).collect();
        self.put(area.x, area.y, area.width, &rule, Tone::Dim);
    }

    /// A box with a title on the left and a word on the right of its upper border; returns its inside.
    pub(super) fn pane(&mut self, area: Rect, title: &str, right: &str, focused: bool) -> Rect {
        if area.width < 2 || area.height < 2 {
            return Rect { width: 0, height: 0, ..area };
        }
        let set = self.theme.border(focused);
        let tone = if focused { Tone::Strong } else { Tone::Dim };
        let (w, h) = (area.width, area.height);
        let across = |left: &str, mid: &str, right: &str| {
            let mut s = String::from(left);
            s.push_str(&mid.repeat(usize::from(w - 2)));
            s.push_str(right);
            s
        };
        self.put(area.x, area.y, w, &across(set.top_left, set.horizontal_top, set.top_right), tone);
        let last = area.y + h - 1;
        self.put(area.x, last, w, &across(set.bottom_left, set.horizontal_bottom, set.bottom_right), tone);
        for y in area.y + 1..last {
            self.put(area.x, y, 1, set.vertical_left, tone);
            self.put(area.x + w - 1, y, 1, set.vertical_right, tone);
        }
        let room = usize::from(w).saturating_sub(4);
        let title = fit(title, room.saturating_sub(2));
        let used = title.width() + 2;
        if room >= 3 && !title.is_empty() {
            self.put(
                area.x + 2,
                area.y,
                w - 2,
                &format!(" {title} "),
                if focused { Tone::Strong } else { Tone::Plain },
            );
        }
        let right_width = right.width() + 2;
        if !right.is_empty() && used + right_width <= room {
            let x = area.right() - 1 - u16::try_from(right_width).unwrap_or(0);
            self.put(x, area.y, w, &format!(" {right} "), Tone::Plain);
            self.put(area.right() - 1, area.y, 1, set.top_right, tone);
        }
        Rect { x: area.x + 1, y: area.y + 1, width: w - 2, height: h - 2 }
    }

    /// Blanks an area with default style.
    pub(super) fn clear(&mut self, area: Rect) {
        let area = area.intersection(self.buf.area);
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                self.buf[(x, y)].reset();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_its_cells() {
        assert_eq!(fit("orders", 6), "orders");
        assert_eq!(fit("orders", 5), "ord..");
        assert_eq!(fit("orders", 2), "or");
        assert_eq!(pad("ab", 4), "ab  ");
        assert_eq!(pad_left("abcdef", 4), "ab..");
        for width in 0..9 {
            assert!(fit("日本語テキスト", width).width() <= width);
            assert_eq!(pad("日本語テキスト", width).width(), width);
        }
    }

    #[test]
    fn wrapping_loses_nothing() {
        let text = "arn:aws:dynamodb:eu-central-1:1234:table/x/stream/2026 was refused twice";
        for width in 1..40 {
            let lines = wrap(text, width);
            assert!(lines.iter().all(|l| l.width() <= width));
            let strip = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(strip(&lines.concat()), strip(text));
        }
        assert_eq!(wrap("", 5), [""]);
    }

    #[test]
    fn control_characters_do_not_reach_the_buffer() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 8, 1));
        let theme = Theme::default();
        Canvas { buf: &mut buf, theme: &theme }.put(0, 0, 8, "a\x1b[2J\nb", Tone::Plain);
        let text: String = buf.content().iter().map(|c| c.symbol()).collect();
        assert_eq!(text, "a [2J b ");
    }

    #[test]
    fn columns_end_where_they_should() {
        let line = Line::plain("a long title that is in the way").ending_at(20, "00:00:41", Tone::Plain);
        assert_eq!(line.width(), 20);
        let line = Line::plain("x").at_column(5).then("y", Tone::Plain);
        assert_eq!(line.width(), 6);
    }
}
