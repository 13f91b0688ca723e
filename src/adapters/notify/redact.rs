//! What other programs and servers said, fit for a journal: short, on one line, and without what is secret.

use crate::domain::secret::Secret;

/// Characters that are kept.
const MOST: usize = 200;

/// A text without these secrets, without what addresses in it hold beyond their server, on one line, and short.
pub(super) fn shown(text: &str, secrets: &[&Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        text = without(&text, secret);
    }
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<String> = one_line.split_whitespace().map(bare).collect();
    words.join(" ").chars().take(MOST).collect()
}

/// A text without an address, whole or in parts: servers quote paths.
pub(super) fn without(text: &str, url: &Secret) -> String {
    let whole = url.reveal();
    let path = whole.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let mut text = text.to_owned();
    for part in [Some(whole), path].into_iter().flatten().filter(|part| part.len() > 1) {
        text = text.replace(part, "***");
    }
    // A token is often the last part of the path, and quoted alone.
    for part in path.unwrap_or_default().split(['/', '?', '&', '=']).filter(|part| part.len() >= 8) {
        text = text.replace(part, "***");
    }
    text
}

/// A word; of an address only scheme and server.
fn bare(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let server = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let after_user = server.rsplit('@').next().unwrap_or_default();
    let tail = if rest.len() > server.len() || after_user.len() < server.len() { "/***" } else { "" };
    format!("{scheme}://{after_user}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_an_address_is_shown() {
        let url = Secret::new("https://hooks.example.org/services/T000/B000/s3cr3t-t0k3n?x=1");
        let said =
            "no_team for s3cr3t-t0k3n at https://hooks.example.org/services/T000/B000/s3cr3t-t0k3n?x=1\n\x1b[31m";
        let shown = shown(said, &[&url]);
        assert!(!shown.contains("s3cr3t") && !shown.contains('\x1b'), "{shown}");
        assert!(shown.starts_with("no_team for ***"), "{shown}");
    }

    #[test]
    fn of_other_addresses_the_server_is_shown() {
        let said = "posted to https://user:pass@pager.example.org/v2/abc?key=1 and postgres://bob:pw@db/x";
        assert_eq!(shown(said, &[]), "posted to https://pager.example.org/*** and postgres://db/***");
    }
}
