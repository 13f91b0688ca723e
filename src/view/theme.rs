//! Colours by meaning, and the characters things are drawn with.
//!
//! Colour is never the only sign: every state has a word or a mark. Foregrounds are the terminal's own, cyan,
//! green, red and dim; black on yellow is kept for banners. No fixed backgrounds otherwise, so light
//! terminals stay readable.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

use crate::snapshot::Health;

/// How many colours there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Palette {
    /// None: bold, dim and reversed only.
    Mono,
    /// The terminal's sixteen, so that the person's own theme decides.
    #[default]
    Ansi16,
    /// 256 colours; states differ in blue and orange, not in red and green.
    Ansi256,
    /// Direct colour; states differ in blue and orange.
    Rgb,
}

/// Which characters there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Glyphs {
    /// ASCII only.
    #[default]
    Ascii,
    /// Box drawing, blocks and a few marks; all one cell wide.
    Unicode,
}

/// Colours and characters of a screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Theme {
    /// Colours.
    pub palette: Palette,
    /// Characters.
    pub glyphs: Glyphs,
}

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Ordinary text.
    Plain,
    /// Less important.
    Dim,
    /// More important.
    Strong,
    /// Good, measured.
    Good,
    /// Needs attention.
    Warn,
    /// Bad.
    Bad,
    /// Where the eye should go: the current step, keys.
    Accent,
    /// Selected.
    Selected,
    /// The banner over everything.
    Banner,
    /// The production mark.
    Production,
}

impl Theme {
    /// A theme.
    #[must_use]
    pub const fn new(palette: Palette, glyphs: Glyphs) -> Self {
        Self { palette, glyphs }
    }

    /// The style of a tone.
    #[must_use]
    pub fn style(&self, tone: Tone) -> Style {
        let plain = Style::default();
        let colour = |ansi, c256: u8, rgb: (u8, u8, u8)| match self.palette {
            Palette::Mono => plain,
            Palette::Ansi16 => plain.fg(ansi),
            Palette::Ansi256 => plain.fg(Color::Indexed(c256)),
            Palette::Rgb => plain.fg(Color::Rgb(rgb.0, rgb.1, rgb.2)),
        };
        let bold = Modifier::BOLD;
        match tone {
            Tone::Plain => plain,
            Tone::Dim => plain.add_modifier(Modifier::DIM),
            Tone::Strong => plain.add_modifier(bold),
            Tone::Good => colour(Color::Green, 33, (0x1f, 0x8f, 0xff)),
            // No yellow text: unreadable on light terminals. Bold cyan reads on both.
            Tone::Warn => colour(Color::Cyan, 172, (0xd7, 0x87, 0x00)).add_modifier(bold),
            Tone::Bad => colour(Color::Red, 202, (0xff, 0x5f, 0x00)).add_modifier(bold | Modifier::REVERSED),
            Tone::Accent => colour(Color::Cyan, 37, (0x00, 0xaf, 0xaf)).add_modifier(bold),
            Tone::Selected => plain.add_modifier(Modifier::REVERSED),
            Tone::Banner => match self.palette {
                Palette::Mono => plain.add_modifier(bold | Modifier::REVERSED),
                Palette::Ansi16 => plain.fg(Color::Black).bg(Color::Yellow).add_modifier(bold),
                Palette::Ansi256 => plain.fg(Color::Indexed(16)).bg(Color::Indexed(220)).add_modifier(bold),
                Palette::Rgb => plain.fg(Color::Rgb(0, 0, 0)).bg(Color::Rgb(0xff, 0xd7, 0x00)).add_modifier(bold),
            },
            Tone::Production => colour(Color::Red, 202, (0xff, 0x5f, 0x00)).add_modifier(bold),
        }
    }

    /// The tone of a health.
    #[must_use]
    pub const fn tone(health: Health) -> Tone {
        match health {
            Health::Unknown | Health::Warn => Tone::Warn,
            Health::Ok => Tone::Good,
            Health::Watch => Tone::Strong,
            Health::Fail => Tone::Bad,
            Health::Idle => Tone::Dim,
        }
    }

    /// A word for a health, readable without any colour.
    #[must_use]
    pub const fn word(health: Health) -> &'static str {
        match health {
            Health::Unknown => "?",
            Health::Ok => "ok",
            Health::Watch => "WATCH",
            Health::Warn => "WARN",
            Health::Fail => "FAIL",
            Health::Idle => "-",
        }
    }

    /// The border of a pane; double when it is focused.
    #[must_use]
    pub const fn border(&self, focused: bool) -> border::Set<'static> {
        match (self.glyphs, focused) {
            (Glyphs::Unicode, true) => border::DOUBLE,
            (Glyphs::Unicode, false) => border::PLAIN,
            (Glyphs::Ascii, true) => ascii_border("="),
            (Glyphs::Ascii, false) => ascii_border("-"),
        }
    }

    /// A line across the screen.
    #[must_use]
    pub const fn rule(&self) -> char {
        match self.glyphs {
            Glyphs::Ascii => '-',
            Glyphs::Unicode => '─',
        }
    }

    /// What stands between two lamps.
    #[must_use]
    pub const fn bar(&self) -> char {
        match self.glyphs {
            Glyphs::Ascii => '|',
            Glyphs::Unicode => '│',
        }
    }

    /// The characters of a history, low to high.
    #[must_use]
    pub const fn spark(&self) -> &'static [char] {
        match self.glyphs {
            Glyphs::Ascii => &['_', '.', '-', '`', '#'],
            Glyphs::Unicode => &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
        }
    }

    /// Text with its ASCII bars and arrows in this theme's characters. Keeps every width.
    #[must_use]
    pub fn text(&self, ascii: &str) -> String {
        if self.glyphs == Glyphs::Ascii {
            return ascii.to_owned();
        }
        let mut out = String::with_capacity(ascii.len());
        let mut rest = ascii;
        while let Some(open) = rest.find('[') {
            let (before, tail) = rest.split_at(open);
            out.push_str(before);
            let inner = tail[1..].split_once(']').map(|(i, _)| i);
            match inner.filter(|i| i.len() >= 4 && i.chars().all(|c| c == '#' || c == '.')) {
                Some(i) => {
                    out.push('▕');
                    out.extend(i.chars().map(|c| if c == '#' { '█' } else { '░' }));
                    out.push('▏');
                    rest = &tail[i.len() + 2..];
                }
                None => {
                    out.push('[');
                    rest = &tail[1..];
                }
            }
        }
        out.push_str(rest);
        out.replace("->", "─▸")
    }
}

const fn ascii_border(horizontal: &'static str) -> border::Set<'static> {
    border::Set {
        top_left: "+",
        top_right: "+",
        bottom_left: "+",
        bottom_right: "+",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: horizontal,
        horizontal_bottom: horizontal,
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn unicode_text_is_as_wide_as_ascii() {
        let theme = Theme::new(Palette::Mono, Glyphs::Unicode);
        for text in ["orders [####......] 74%", "old -> new", "[ Cancel ]", "[PROD]", "a [", "x[....]y"] {
            assert_eq!(theme.text(text).width(), text.width(), "{text}");
        }
        assert!(theme.text("[##..]").contains('█'));
    }

    #[test]
    fn mono_has_no_colour() {
        let theme = Theme::new(Palette::Mono, Glyphs::Ascii);
        for tone in [Tone::Plain, Tone::Dim, Tone::Good, Tone::Warn, Tone::Bad, Tone::Banner, Tone::Production] {
            let style = theme.style(tone);
            assert_eq!((style.fg, style.bg), (None, None), "{tone:?}");
        }
    }

    #[test]
    fn every_health_has_its_own_word() {
        use Health as H;
        let words = [H::Unknown, H::Ok, H::Watch, H::Warn, H::Fail, H::Idle].map(Theme::word);
        let unique: std::collections::BTreeSet<_> = words.iter().collect();
        assert_eq!(unique.len(), words.len());
    }
}
