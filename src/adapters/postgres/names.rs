//! Names as SQL: quoted, schema-qualified or not.

/// One identifier, quoted.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's name, each part quoted: `shop.books` is `"shop"."books"`. Parts that are quoted already stay.
pub(super) fn qualified(name: &str) -> String {
    parts(name).join(".")
}

/// The schema in a table's name, quoted; `None` for a name without one.
pub(super) fn schema_of(name: &str) -> Option<String> {
    let mut parts = parts(name);
    parts.pop();
    parts.pop()
}

fn parts(name: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let (mut part, mut quoted) = (String::new(), false);
    for c in name.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts
        .iter()
        .map(|p| if p.len() > 1 && p.starts_with('"') && p.ends_with('"') { p.clone() } else { ident(p) })
        .collect()
}

/// Identifiers, quoted, with commas between.
pub(super) fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_part_by_part() {
        assert_eq!(qualified("books"), r#""books""#);
        assert_eq!(qualified("shop.books"), r#""shop"."books""#);
        assert_eq!(qualified(r#"shop."odd.name""#), r#""shop"."odd.name""#);
        assert_eq!((schema_of(r#"shop."odd.name""#), schema_of("books")), (Some(r#""shop""#.to_owned()), None));
        assert_eq!(ident(r#"a"; DROP"#), r#""a""; DROP""#);
        assert_eq!(list(["a", "b"]), r#""a", "b""#);
    }
}
