//! What a migration of each guide asks for, item by item, and the words of the guide that answer it.

use std::collections::BTreeMap;
use std::fs;

use super::{flat, guides, root};

/// How an item may be answered, as the head of a guide says it.
const ANSWERS: [(&str, &str); 3] =
    [("cutover", "answered by cutover"), ("person", "done by a person"), ("not yet", "not yet")];

/// Guides that answer no list of one migration: what they hold is for all of them.
const SHARED: [&str; 1] = ["operations"];

/// One item: how it is answered, what it is, and words that stand in the guide.
struct Item {
    answer: String,
    item: String,
    words: String,
}

/// The items of a guide: lines of three fields with tabs between.
fn items(guide: &str) -> Vec<Item> {
    let path = root().join(format!("tests/guides/{guide}.tsv"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let item = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
        [answer, item, words] => Item { answer: answer.into(), item: item.into(), words: words.into() },
        _ => panic!("{}: {line:?} has not three fields", path.display()),
    };
    text.lines().map(item).collect()
}

#[test]
fn every_item_is_answered_where_the_list_says() {
    for (guide, text) in guides().iter().filter(|(name, _)| !SHARED.contains(&name.as_str())) {
        let text = flat(text);
        for Item { item, words, .. } in items(guide) {
            assert!(
                text.contains(&flat(&words)),
                "{guide}: `{item}` is to be answered by {words:?}, which is not there"
            );
        }
    }
}

#[test]
fn the_head_of_each_guide_counts_its_items() {
    for (guide, text) in guides().iter().filter(|(name, _)| !SHARED.contains(&name.as_str())) {
        let items = items(guide);
        let mut counts: BTreeMap<&str, usize> = ANSWERS.iter().map(|(answer, _)| (*answer, 0)).collect();
        for Item { answer, item, .. } in &items {
            let count = counts.get_mut(answer.as_str());
            *count.unwrap_or_else(|| panic!("{guide}: `{item}` is answered by {answer:?}, which is no answer")) += 1;
        }
        let rows = ANSWERS.iter().map(|(answer, words)| format!("| {words} | {} |\n", counts[answer]));
        let whole = items.len();
        let head = format!("| Of the {whole} items that such a migration asks for | |\n|---|---|\n");
        let head: String = std::iter::once(head).chain(rows).collect();
        let (before, _) = text.split_once("\n## ").unwrap();
        assert!(before.contains(head.trim_end()), "{guide}: its head is to say\n{head}");
    }
}

#[test]
fn what_is_not_done_yet_is_said_to_be() {
    for (guide, text) in guides().iter().filter(|(name, _)| !SHARED.contains(&name.as_str())) {
        let open = items(guide).into_iter().filter(|item| item.answer == "not yet");
        for Item { item, words, .. } in open {
            // In a row of its own, or in the section at the end.
            let text = flat(text);
            let at = text.find(&flat(&words)).unwrap_or_else(|| panic!("{guide}: {words:?} is not there"));
            let row = text[at..].split(" | ").take(2).collect::<Vec<_>>().join(" ").to_lowercase();
            let last = text.find("## Not done by cutover yet").is_some_and(|section| at > section);
            let said = ["not yet", "not done", "no signal", "nothing is", "are not part of"];
            assert!(
                last || said.iter().any(|no| row.contains(no)),
                "{guide}: `{item}` reads as if it were done: {row}"
            );
        }
    }
}
