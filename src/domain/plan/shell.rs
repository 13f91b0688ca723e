//! Names as words of a command that somebody may copy into a shell.

use std::borrow::Cow;

/// A word as a shell takes it: quoted where it holds anything that a shell would read as its own.
#[must_use]
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '%' | '+' | ',');
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_something_a_shell_reads_is_quoted() {
        for plain in ["shop/production", "shop-2/eu_1.b"] {
            assert_eq!(shell_word(plain), plain);
        }
        for (word, quoted) in [
            ("shop/?", "'shop/?'"),
            ("the shop/$HOME", "'the shop/$HOME'"),
            ("kim's/test", r"'kim'\''s/test'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(word), quoted);
        }
    }
}
