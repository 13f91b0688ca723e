//! Names for columns and tables of PostgreSQL, from names that know no rules.

/// Words that PostgreSQL takes as a column's or table's name in quotes only ("SQL Key Words" in its documentation,
/// those called reserved, for functions and types too).
const RESERVED: [&str; 100] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "system_user",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "authorization",
    "binary",
    "collation",
    "concurrently",
    "cross",
    "current_schema",
    "freeze",
    "full",
    "ilike",
    "inner",
    "is",
    "isnull",
    "join",
    "left",
    "like",
    "natural",
    "notnull",
    "outer",
    "overlaps",
    "right",
    "similar",
    "tablesample",
    "verbose",
];

/// Longest name PostgreSQL keeps, in bytes.
const LONGEST: usize = 63;

/// `createdAt` becomes `created_at`, `CloudShelf-Books` `cloud_shelf_books`; `taken` says whether a name is in use.
#[must_use]
pub fn column_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut plain = String::new();
    let mut before = '_';
    for c in name.chars() {
        let word_begins = c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if (word_begins || !c.is_ascii_alphanumeric()) && !plain.ends_with('_') {
            plain.push('_');
        }
        if c.is_ascii_alphanumeric() {
            plain.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    let mut plain = plain.trim_matches('_').to_owned();
    if plain.is_empty() {
        plain.push_str("value");
    }
    if plain.starts_with(|c: char| c.is_ascii_digit()) {
        plain.insert(0, '_');
    }
    plain.truncate(LONGEST - 4);
    let numbered = (2..).map(|n| format!("{plain}_{n}"));
    std::iter::once(plain.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(plain)
}

/// A name as SQL takes it.
pub(super) fn in_sql(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !RESERVED.contains(&name) && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_columns() {
        let free = |name: &str| column_name(name, |_| false);
        assert_eq!(free("createdAt"), "created_at");
        assert_eq!(free("CloudShelf-Books"), "cloud_shelf_books");
        assert_eq!(free("ISBN"), "isbn");
        assert_eq!(free("geo.hash#2"), "geo_hash_2");
        assert_eq!(free("1st"), "_1st");
        assert_eq!(free("größe"), "gr_e");
        assert_eq!(free("--"), "value");
        assert_eq!(column_name("Id", |name| name == "id"), "id_2");
        assert!(free(&"x".repeat(100)).len() <= LONGEST);
    }

    #[test]
    fn words_of_the_language_stand_in_quotes() {
        assert_eq!(in_sql("order"), "\"order\"");
        assert_eq!(in_sql("left"), "\"left\"");
        assert_eq!(in_sql("orders"), "orders");
    }
}
