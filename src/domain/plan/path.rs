//! Paths of attribute names, as people write them: names with dots between, `address.city`. A name that holds a dot,
//! a bracket or a quote stands in double quotes, `"geo.hash".lat`; a quote inside is doubled.

/// Characters that mean something in a path.
const MEANS: [char; 4] = ['.', '[', ']', '"'];

/// The names of a written path.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn path_of(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut rest = text;
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => inside_quotes(quoted).ok_or_else(|| format!("`{text}` has a quote without its end"))?,
            None => {
                let end = rest.find(MEANS).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if name.is_empty() {
            return Err(format!("`{text}` is no path of attribute names like `address.city`: a name is empty"));
        }
        names.push(name);
        if after.is_empty() {
            return Ok(names);
        }
        rest = after.strip_prefix('.').ok_or_else(|| {
            if after.starts_with('[') {
                format!(
                    "`{text}` asks for one element of a list, which no column can carry: make its elements rows with \
                     [[tables.children]], or carry the whole list as text[] or jsonb; an attribute that is really \
                     called so is written '{}'",
                    quoted(text)
                )
            } else {
                format!("`{text}`: a quoted name stands alone between dots, like '\"geo.hash\".lat'")
            }
        })?;
    }
}

/// The text up to the closing quote, and what follows it.
fn inside_quotes(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

/// A name as it stands in a path.
#[must_use]
pub fn quoted(name: &str) -> String {
    if name.is_empty() || name.contains(MEANS) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}

/// The written form of a path; [`path_of`] reads it back.
#[must_use]
pub fn path_text(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_written_path_reads_back(names in proptest::collection::vec("[a.\\[\\]\" é0]{1,6}", 1..4)) {
            prop_assert_eq!(path_of(&path_text(&names)), Ok(names));
        }

        #[test]
        fn any_text_is_a_path_or_refused(text in ".{0,12}") {
            if let Ok(names) = path_of(&text) {
                prop_assert!(names.iter().all(|n| !n.is_empty()));
            }
        }
    }
}
