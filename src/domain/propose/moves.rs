//! The section of a config that moves whole tables by rule, between two stores of one kind.

use std::fmt::Write as _;

use super::table::quoted;
use crate::domain::plan::Listed;

/// One `[[moves]]` section for the tables of `listed`, with what keeps single ones from moving. `patterns` are what was
/// asked for; none means everything.
#[must_use]
pub fn moved(listed: &Listed, (from, to): (&str, &str), patterns: &[String]) -> String {
    let everything = ["*".to_owned()];
    let patterns = if patterns.is_empty() { &everything } else { patterns };
    let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let unfit: Vec<String> = listed.tables.iter().filter(|t| !t.unfit.is_empty()).map(|t| t.name.clone()).collect();
    let mut out = String::new();
    for table in &listed.tables {
        let key = if table.key.is_empty() { "no key".to_owned() } else { format!("key {}", table.key.join(", ")) };
        let _ = writeln!(out, "# {} ({key})", table.name);
        for (why, what) in &table.unfit {
            let _ = writeln!(out, "# decide: {}: {why}; {what}", table.name);
        }
    }
    for thing in &listed.left_out {
        let _ = writeln!(out, "# decide: {thing} is not made on the new side: make it by hand, or leave it behind");
    }
    let _ = write!(out, "[[moves]]\nfrom = {}\nto = {}\ninclude = [{}]\n", quoted(from), quoted(to), list(patterns));
    if !unfit.is_empty() {
        let _ = writeln!(out, "exclude = [{}]", list(&unfit));
    }
    out.push_str("like = \"same\"\n\n");
    out
}
