//! How a screen is drawn and behaves.

use std::collections::BTreeMap;

use super::capabilities::{self, Colours, Environment, Wish};
use crate::view::theme::{Glyphs, Palette, Theme};

/// How a screen is drawn and behaves.
#[derive(Clone, Debug)]
pub struct UiOptions {
    /// Colours and characters.
    pub theme: Theme,
    /// Most frames a second for data; keys draw at once.
    pub fps: u16,
    /// A person's own keys, by the name of the action: they stand in for those it has otherwise.
    pub keys: BTreeMap<String, Vec<String>>,
}

impl UiOptions {
    /// Colours and glyphs as this process's environment says; `color` overrides it, `ascii` narrows it.
    #[must_use]
    pub fn from_terminal(color: Option<bool>, ascii: bool, fps: u16) -> Self {
        Self::from_environment(color, ascii, fps, &|name| std::env::var(name).ok())
    }

    /// The same from any environment.
    #[must_use]
    pub fn from_environment(color: Option<bool>, ascii: bool, fps: u16, env: Environment<'_>) -> Self {
        let colours = match color {
            Some(false) => Colours::Mono,
            Some(true) => {
                // Colour was asked for by name: what forbids it in the environment does not count.
                let open = |name: &str| env(name).filter(|_| name != "NO_COLOR");
                capabilities::colours(Wish::Auto, Wish::Auto, &open).max(Colours::Ansi16)
            }
            None => capabilities::colours(Wish::Auto, Wish::Auto, env),
        };
        let palette = match colours {
            Colours::Mono => Palette::Mono,
            Colours::Ansi16 => Palette::Ansi16,
            Colours::Ansi256 => Palette::Ansi256,
            Colours::Rgb => Palette::Rgb,
        };
        let glyphs = if ascii || !capabilities::unicode(env) { Glyphs::Ascii } else { Glyphs::Unicode };
        Self { theme: Theme::new(palette, glyphs), fps, keys: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theme(color: Option<bool>, ascii: bool, pairs: &[(&str, &str)]) -> Theme {
        let env = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        UiOptions::from_environment(color, ascii, 10, &env).theme
    }

    #[test]
    fn the_flag_stands_over_the_environment() {
        let env = [("NO_COLOR", "1"), ("TERM", "xterm-256color"), ("LANG", "C.UTF-8")];
        assert_eq!(theme(None, false, &env), Theme::new(Palette::Mono, Glyphs::Unicode));
        assert_eq!(theme(Some(true), true, &env), Theme::new(Palette::Ansi256, Glyphs::Ascii));
        assert_eq!(theme(Some(false), false, &env[1..]), Theme::new(Palette::Mono, Glyphs::Unicode));
        assert_eq!(theme(Some(true), false, &[]), Theme::new(Palette::Ansi16, Glyphs::Ascii));
        assert_eq!(theme(None, false, &env[1..]), Theme::new(Palette::Ansi256, Glyphs::Unicode));
    }
}
