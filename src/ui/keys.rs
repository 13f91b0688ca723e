//! Names of keys, and which key does what.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// One key as it is bound: shift is part of the letter, not a modifier (`R`, not `shift-r`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    code: KeyCode,
    ctrl: bool,
    alt: bool,
    shift: bool,
}

/// Why a key map cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No such key.
    #[error("unknown key `{0}`: write a character, or a name such as space, enter, esc, pgup, f1, ctrl-r, alt-x")]
    Unknown(String),
    /// No such action.
    #[error("unknown action `{name}`{}", near.as_ref().map(|n| format!(": did you mean `{n}`?")).unwrap_or_default())]
    UnknownAction {
        /// What was written.
        name: String,
        /// The nearest name there is.
        near: Option<String>,
    },
    /// Two actions on one key.
    #[error("key `{key}` is bound to both `{first}` and `{second}`: give one of them another key")]
    Twice {
        /// The key.
        key: String,
        /// One action.
        first: String,
        /// The other.
        second: String,
    },
    /// Rollback or quit without a key.
    #[error("`{0}` must keep a key: it can be moved, not removed")]
    MustStay(String),
}

/// Names of keys that are no character, the usual one first.
const NAMES: [(&str, KeyCode); 23] = [
    ("space", KeyCode::Char(' ')),
    ("enter", KeyCode::Enter),
    ("return", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("escape", KeyCode::Esc),
    ("tab", KeyCode::Tab),
    ("backtab", KeyCode::BackTab),
    ("backspace", KeyCode::Backspace),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("pgup", KeyCode::PageUp),
    ("pageup", KeyCode::PageUp),
    ("pgdn", KeyCode::PageDown),
    ("pagedown", KeyCode::PageDown),
    ("ins", KeyCode::Insert),
    ("insert", KeyCode::Insert),
    ("del", KeyCode::Delete),
    ("delete", KeyCode::Delete),
    ("plus", KeyCode::Char('+')),
];

impl From<KeyEvent> for Key {
    fn from(e: KeyEvent) -> Self {
        let has = |m| e.modifiers.contains(m);
        let is_char = matches!(e.code, KeyCode::Char(_) | KeyCode::BackTab);
        Self {
            code: e.code,
            ctrl: has(KeyModifiers::CONTROL),
            alt: has(KeyModifiers::ALT),
            shift: has(KeyModifiers::SHIFT) && !is_char,
        }
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(written: &str) -> Result<Self, KeyError> {
        let unknown = || KeyError::Unknown(written.to_owned());
        let (mut rest, mut ctrl, mut alt, mut shift) = (written, false, false, false);
        while let Some((prefix, tail)) = rest.split_once('-').filter(|(p, t)| !p.is_empty() && !t.is_empty()) {
            let flag = match prefix.to_ascii_lowercase().as_str() {
                "ctrl" | "c" => &mut ctrl,
                "alt" | "meta" => &mut alt,
                "shift" => &mut shift,
                _ => return Err(unknown()),
            };
            if std::mem::replace(flag, true) {
                return Err(unknown());
            }
            rest = tail;
        }
        let mut chars = rest.chars();
        let lower = rest.to_ascii_lowercase();
        let mut code = match (chars.next(), chars.next()) {
            (Some(c), None) if !c.is_control() => KeyCode::Char(c),
            _ => match NAMES.iter().find(|(n, _)| *n == lower) {
                Some((_, code)) => *code,
                None => match lower.strip_prefix('f').and_then(|n| n.parse::<u8>().ok()) {
                    Some(n @ 1..=12) => KeyCode::F(n),
                    _ => return Err(unknown()),
                },
            },
        };
        // A terminal sends the same byte for ctrl-r and ctrl-R.
        if let (true, KeyCode::Char(c)) = (ctrl, code) {
            code = KeyCode::Char(c.to_ascii_lowercase());
        } else if let (true, KeyCode::Char(c)) = (shift, code) {
            code = KeyCode::Char(c.to_uppercase().next().unwrap_or(c));
        }
        if shift && code == KeyCode::Tab {
            code = KeyCode::BackTab;
        }
        let shift = shift && !matches!(code, KeyCode::Char(_) | KeyCode::BackTab);
        Ok(Self { code, ctrl, alt, shift })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (on, name) in [(self.ctrl, "ctrl-"), (self.alt, "alt-"), (self.shift, "shift-")] {
            if on {
                f.write_str(name)?;
            }
        }
        match self.code {
            KeyCode::Char(c) if c != ' ' => write!(f, "{c}"),
            KeyCode::F(n) => write!(f, "f{n}"),
            code => f.write_str(NAMES.iter().find(|(_, c)| *c == code).map_or("?", |(n, _)| n)),
        }
    }
}

/// One action as the key map needs it.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// Its name in the config.
    pub name: &'a str,
    /// Its keys unless the config says otherwise.
    pub keys: &'a [&'a str],
    /// Whether it must keep a key.
    pub must_stay: bool,
    /// Where it works: two actions may share a key when they work in different places.
    pub place: &'a str,
}

/// Which key does what.
#[derive(Clone, Debug, Default)]
pub struct Keymap {
    bound: Vec<(String, Key, usize)>,
}

impl Keymap {
    /// The table with the person's own keys on top; every fault is reported, not only the first.
    pub fn build(table: &[Binding<'_>], own: &BTreeMap<String, Vec<String>>) -> Result<Self, Vec<KeyError>> {
        let mut faults = Vec::new();
        for name in own.keys().filter(|n| !table.iter().any(|b| b.name == n.as_str())) {
            let near = table
                .iter()
                .map(|b| (strsim::jaro_winkler(b.name, name), b.name))
                .filter(|(likeness, _)| *likeness > 0.75)
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, n)| n.to_owned());
            faults.push(KeyError::UnknownAction { name: name.clone(), near });
        }
        let mut bound: Vec<(String, Key, usize)> = Vec::new();
        for (index, binding) in table.iter().enumerate() {
            // What a person has bound is theirs: a key of ours that they use for something else gives way, unless the
            // action would be left without one that it must have.
            let theirs = |key: &&&str| {
                let taken = own.iter().filter(|(name, _)| name.as_str() != binding.name);
                taken.flat_map(|(_, keys)| keys).any(|own| own.parse::<Key>() == key.parse::<Key>())
            };
            let keys: Vec<&str> = match own.get(binding.name) {
                Some(keys) => keys.iter().map(String::as_str).collect(),
                None if binding.must_stay => binding.keys.to_vec(),
                None => binding.keys.iter().filter(|key| !theirs(key)).copied().collect(),
            };
            if keys.is_empty() && binding.must_stay {
                faults.push(KeyError::MustStay(binding.name.to_owned()));
            }
            for written in keys {
                let key = match written.parse::<Key>() {
                    Ok(key) => key,
                    Err(e) => {
                        faults.push(e);
                        continue;
                    }
                };
                match bound.iter().find(|(place, k, _)| *k == key && place == binding.place) {
                    Some((_, _, first)) => faults.push(KeyError::Twice {
                        key: key.to_string(),
                        first: table[*first].name.to_owned(),
                        second: binding.name.to_owned(),
                    }),
                    None => bound.push((binding.place.to_owned(), key, index)),
                }
            }
        }
        if faults.is_empty() { Ok(Self { bound }) } else { Err(faults) }
    }

    /// Position in the table of what this key does in the first of these places that binds it.
    #[must_use]
    pub fn action(&self, key: Key, places: &[&str]) -> Option<usize> {
        places.iter().find_map(|p| self.bound.iter().find(|(place, k, _)| place == p && *k == key).map(|b| b.2))
    }

    /// Keys of the action at this position of the table, in words.
    #[cfg(test)]
    #[must_use]
    pub fn keys_of(&self, index: usize) -> Vec<String> {
        self.bound.iter().filter(|b| b.2 == index).map(|b| b.1.to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: [Binding<'static>; 4] = [
        Binding { name: "roll_back", keys: &["R", "ctrl-r"], must_stay: true, place: "run" },
        Binding { name: "quit", keys: &["q"], must_stay: true, place: "run" },
        Binding { name: "pause", keys: &["space"], must_stay: false, place: "run" },
        Binding { name: "playback", keys: &["space"], must_stay: false, place: "replay" },
    ];

    fn own(pairs: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        pairs.iter().map(|(n, k)| ((*n).to_owned(), k.iter().map(|k| (*k).to_owned()).collect())).collect()
    }

    fn parsed(s: &str) -> Key {
        s.parse().unwrap_or_else(|e| panic!("{s}: {e}"))
    }

    #[test]
    fn a_key_pressed_is_the_key_written() {
        for (written, code, modifiers) in [
            ("R", KeyCode::Char('R'), KeyModifiers::SHIFT),
            ("R", KeyCode::Char('R'), KeyModifiers::NONE),
            ("shift-r", KeyCode::Char('R'), KeyModifiers::SHIFT),
            ("ctrl-r", KeyCode::Char('r'), KeyModifiers::CONTROL),
            ("Ctrl-R", KeyCode::Char('r'), KeyModifiers::CONTROL),
            ("?", KeyCode::Char('?'), KeyModifiers::SHIFT),
            ("space", KeyCode::Char(' '), KeyModifiers::NONE),
            ("-", KeyCode::Char('-'), KeyModifiers::NONE),
            ("alt--", KeyCode::Char('-'), KeyModifiers::ALT),
            ("shift-tab", KeyCode::BackTab, KeyModifiers::SHIFT),
            ("f12", KeyCode::F(12), KeyModifiers::NONE),
            ("PgUp", KeyCode::PageUp, KeyModifiers::NONE),
            ("shift-up", KeyCode::Up, KeyModifiers::SHIFT),
        ] {
            assert_eq!(parsed(written), Key::from(KeyEvent::new(code, modifiers)), "{written}");
        }
        assert_ne!(parsed("R"), parsed("r"));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for bad in ["", "ctrl-", "hyper-x", "f13", "f0", "ctrl-ctrl-x", "spacebar", "ab"] {
            assert_eq!(bad.parse::<Key>(), Err(KeyError::Unknown(bad.to_owned())));
        }
    }

    #[test]
    fn own_keys_replace_the_usual_ones() {
        let map = Keymap::build(&TABLE, &own(&[("roll_back", &["f9"])])).unwrap_or_default();
        assert_eq!(map.action(parsed("f9"), &["run"]), Some(0));
        assert_eq!(map.action(parsed("R"), &["run"]), None);
        assert_eq!(map.keys_of(0), ["f9"]);
    }

    #[test]
    fn one_key_may_serve_two_places() {
        let map = Keymap::build(&TABLE, &BTreeMap::new()).unwrap_or_default();
        assert_eq!(map.action(parsed("space"), &["run"]), Some(2));
        assert_eq!(map.action(parsed("space"), &["replay", "run"]), Some(3));
        assert_eq!(map.action(parsed("q"), &["replay", "run"]), Some(1));
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let faults = Keymap::build(
            &TABLE,
            &own(&[("roll_back", &[]), ("quit", &["x"]), ("pause", &["x"]), ("puase", &["p"]), ("playback", &["wat"])]),
        )
        .err()
        .unwrap_or_default();
        assert!(faults.contains(&KeyError::MustStay("roll_back".to_owned())), "{faults:?}");
        assert!(faults.contains(&KeyError::Unknown("wat".to_owned())));
        let near = Some("pause".to_owned());
        assert!(faults.contains(&KeyError::UnknownAction { name: "puase".to_owned(), near }));
        assert!(faults.iter().any(|f| matches!(f, KeyError::Twice { key, first, second }
            if key == "x" && first == "quit" && second == "pause")));
        assert_eq!(faults.len(), 4);
    }

    #[test]
    fn a_usual_key_gives_way_to_a_persons_own() {
        let map = Keymap::build(&TABLE, &own(&[("quit", &["space"])])).unwrap_or_default();
        assert_eq!(map.action(parsed("space"), &["run"]), Some(1));
        assert_eq!(map.keys_of(2), [""; 0], "pause is reached by its name");
        // What must have a key keeps its own, and says who else wants it.
        let faults = Keymap::build(&TABLE, &own(&[("pause", &["R"])])).err().unwrap_or_default();
        assert!(matches!(faults.as_slice(), [KeyError::Twice { key, .. }] if key == "R"), "{faults:?}");
    }

    proptest! {
        #[test]
        fn printed_keys_parse_back(c in any::<char>().prop_filter("printable", |c| !c.is_control()),
                                   ctrl in any::<bool>(), alt in any::<bool>()) {
            let mut m = KeyModifiers::NONE;
            m.set(KeyModifiers::CONTROL, ctrl);
            m.set(KeyModifiers::ALT, alt);
            let c = if ctrl { c.to_ascii_lowercase() } else { c };
            let key = Key::from(KeyEvent::new(KeyCode::Char(c), m));
            prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        }
    }
}
