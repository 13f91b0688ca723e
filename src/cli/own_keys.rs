//! A person's own keys: `keys.toml` in the folder of their configuration, an action and its keys on each line.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use etcetera::BaseStrategy as _;
use serde::Deserialize;

use super::exit::Exit;
use super::failure::Failure;
use crate::ui::session::Session;

/// One key, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Keys {
    One(String),
    Several(Vec<String>),
}

/// Own keys, by the name of their action. None where there is no such file.
///
/// # Errors
/// `Config` for a file that cannot be read, or that no screen can go by: each mistake is named.
pub(super) fn read() -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let Some(path) = place() else { return Ok(BTreeMap::new()) };
    let wrong = |why: String| Failure::new(Exit::Config, format!("{}: {why}", path.display()));
    match fs::read_to_string(&path) {
        Ok(text) => parse(&text).map_err(wrong),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(e) => Err(wrong(e.to_string())),
    }
}

/// `$XDG_CONFIG_HOME/cutover/keys.toml`, else `~/.config/cutover/keys.toml`.
fn place() -> Option<PathBuf> {
    let base = etcetera::base_strategy::Xdg::new().ok()?;
    Some(base.config_dir().join(Path::new("cutover/keys.toml")))
}

fn parse(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let written: BTreeMap<String, Keys> = toml::from_str(text).map_err(|e| e.to_string().trim().to_owned())?;
    let several = |keys| match keys {
        Keys::One(key) => vec![key],
        Keys::Several(keys) => keys,
    };
    let keys = written.into_iter().map(|(action, keys)| (action, several(keys))).collect();
    match Session::new(&keys, Instant::now()) {
        Ok(_) => Ok(keys),
        Err(faults) => Err(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_by_their_action_and_every_mistake_is_told() {
        let keys = parse("roll_back = [\"f9\", \"R\"]\npause = \"p\"\n").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(keys["roll_back"], ["f9", "R"]);
        assert_eq!(keys["pause"], ["p"]);
        assert_eq!(parse(""), Ok(BTreeMap::new()));
        let why = parse("rol_back = \"f9\"\nquit = []\npause = \"wat\"").unwrap_err();
        for part in ["did you mean `roll_back`", "`quit` must keep a key", "unknown key `wat`"] {
            assert!(why.contains(part), "{part}: {why}");
        }
        assert!(parse("pause = 7").is_err() && parse("pause").is_err());
    }
}
