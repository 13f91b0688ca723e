//! `--json`: one fact per line, as described in `docs/events.md`.

use std::io::{self, Write};

use crate::domain::run::Fact;

/// Writes a fact as one line of JSON and flushes, so that a reader sees it at once.
///
/// # Errors
/// What the writer said.
pub fn event_line(fact: &Fact, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, fact)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::domain::at::At;
    use crate::journal::sample_events::{KINDS, event, of_kind};

    proptest! {
        #[test]
        fn one_fact_is_one_line_and_comes_back(event in event()) {
            let fact = Fact { seq: 4, at: At(7), event };
            let mut out = Vec::new();
            event_line(&fact, &mut out).unwrap();
            prop_assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
            prop_assert_eq!(serde_json::from_slice::<Fact>(&out).unwrap(), fact);
        }
    }

    /// `docs/events.md` lists every event type with exactly its fields.
    #[test]
    fn the_documented_list_is_the_real_one() {
        let mut real = BTreeMap::new();
        let mut runner = TestRunner::deterministic();
        for kind in 0..KINDS {
            let event = of_kind(kind).new_tree(&mut runner).unwrap().current();
            let serde_json::Value::Object(mut fields) = serde_json::to_value(&event).unwrap() else { panic!() };
            let name = fields.remove("type").unwrap();
            let mut fields: Vec<String> = fields.keys().cloned().collect();
            fields.sort();
            real.insert(name.as_str().unwrap().to_owned(), fields);
        }
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/events.md")).unwrap();
        let mut documented = BTreeMap::new();
        for row in text.lines().filter(|l| l.starts_with("| `")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
            let (name, mut fields) = (quoted(cells[1]), quoted(cells[2]));
            fields.sort();
            documented.insert(name[0].clone(), fields);
        }
        assert_eq!(documented, real);
    }
}
