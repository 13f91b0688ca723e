//! What the terminal can show: colours and glyphs, decided once, each from several sources in a fixed order.

/// How many colours may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colours {
    /// None: bold, underline and reversed only.
    Mono,
    /// The terminal's own sixteen.
    Ansi16,
    /// The 256-colour cube.
    Ansi256,
    /// Any.
    Rgb,
}

/// What a flag or the config asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Read the environment.
    #[default]
    Auto,
    /// Exactly this.
    Fixed(Colours),
}

/// Reads one environment variable. Passed in, so that decisions can be tested.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Colours by flag, then config, then `NO_COLOR`, `CLICOLOR_FORCE`, `COLORTERM`, `TERM`.
///
/// A set but empty `NO_COLOR` counts as absent, as its convention says.
#[must_use]
pub fn colours(flag: Wish, config: Wish, env: Environment<'_>) -> Colours {
    for wish in [flag, config] {
        if let Wish::Fixed(c) = wish {
            return c;
        }
    }
    let set = |name: &str| env(name).filter(|v| !v.is_empty());
    if set("NO_COLOR").is_some() {
        return Colours::Mono;
    }
    let term = set("TERM").unwrap_or_default();
    let named = match set("COLORTERM").as_deref() {
        Some("truecolor" | "24bit") => Some(Colours::Rgb),
        _ if term.ends_with("-direct") => Some(Colours::Rgb),
        _ if term.contains("256color") => Some(Colours::Ansi256),
        Some(_) => Some(Colours::Ansi16),
        None => None,
    };
    let forced = set("CLICOLOR_FORCE").is_some_and(|v| v != "0");
    match named {
        Some(c) => c,
        None if forced => Colours::Ansi16,
        None if matches!(term.as_str(), "" | "dumb") || term.starts_with("vt1") => Colours::Mono,
        None => Colours::Ansi16,
    }
}

/// Whether box-drawing and block characters may be used: only in a UTF-8 locale, and not on the Linux console,
/// whose font lacks most of them.
#[must_use]
pub fn unicode(env: Environment<'_>) -> bool {
    let set = |name: &str| env(name).filter(|v| !v.is_empty());
    if set("TERM").is_some_and(|t| t == "linux" || t == "dumb") {
        return false;
    }
    // The first of these that is set decides, as in setlocale(3).
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
    }

    fn auto(pairs: &[(&str, &str)]) -> Colours {
        colours(Wish::Auto, Wish::Auto, &env(pairs))
    }

    #[test]
    fn the_order_holds() {
        let all = [("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1"), ("COLORTERM", "truecolor"), ("TERM", "xterm-256color")];
        let (rgb, two) = (Wish::Fixed(Colours::Rgb), Wish::Fixed(Colours::Ansi256));
        assert_eq!(colours(rgb, two, &env(&all)), Colours::Rgb);
        assert_eq!(colours(Wish::Auto, two, &env(&all)), Colours::Ansi256);
        assert_eq!(auto(&all), Colours::Mono);
        assert_eq!(auto(&all[1..]), Colours::Rgb);
        assert_eq!(auto(&all[3..]), Colours::Ansi256);
    }

    #[test]
    fn the_environment_alone() {
        assert_eq!(auto(&[]), Colours::Mono);
        assert_eq!(auto(&[("TERM", "dumb")]), Colours::Mono);
        assert_eq!(auto(&[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")]), Colours::Ansi16);
        assert_eq!(auto(&[("TERM", "dumb"), ("CLICOLOR_FORCE", "0")]), Colours::Mono);
        assert_eq!(auto(&[("TERM", "xterm"), ("NO_COLOR", "")]), Colours::Ansi16);
        assert_eq!(auto(&[("TERM", "vt100")]), Colours::Mono);
        assert_eq!(auto(&[("TERM", "xterm"), ("COLORTERM", "yes")]), Colours::Ansi16);
        assert_eq!(auto(&[("TERM", "xterm-direct")]), Colours::Rgb);
    }

    #[test]
    fn glyphs_follow_the_locale() {
        assert!(!unicode(&env(&[])));
        assert!(unicode(&env(&[("LANG", "en_US.UTF-8")])));
        assert!(unicode(&env(&[("LANG", "C"), ("LC_CTYPE", "C.utf8")])));
        assert!(!unicode(&env(&[("LANG", "en_US.UTF-8"), ("LC_ALL", "C")])));
        assert!(unicode(&env(&[("LANG", "en_US.UTF-8"), ("LC_ALL", "")])));
        assert!(!unicode(&env(&[("LANG", "en_US.UTF-8"), ("TERM", "linux")])));
    }
}
