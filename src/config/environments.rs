//! One config for several environments: what `[environments.NAME]` says is laid over the rest of the file.

use super::error::Sink;
use super::node::{Entry, Node, Value};
use crate::domain::lint::nearest;

/// The section that holds them.
pub(super) const SECTION: &str = "environments";

/// Lays the environment called `chosen` over the document and removes the section. A file with environments wants one to
/// be named, so that none is touched because it happened to be the default; a file without says itself what it is for.
pub(super) fn lay_over(document: &mut Node, chosen: Option<&str>, sink: &mut Sink<'_>) {
    let Value::Table(entries) = &mut document.value else { return };
    let Some(at) = entries.iter().position(|e| e.key == SECTION) else { return };
    let section = entries.remove(at);
    let Value::Table(environments) = section.node.value else {
        let kind = section.node.value.kind();
        sink.error(
            section.node.span.start,
            SECTION,
            format!("this must be a table of environments by name, not {kind}"),
        );
        return;
    };
    let names = || environments.iter().map(|e| e.key.as_str());
    let list = names().collect::<Vec<_>>().join(", ");
    let Some(name) = chosen else {
        let message = format!("this config is for several environments: say which with --env NAME: {list}");
        sink.error(section.key_span.start, SECTION, message);
        return;
    };
    let Some(found) = environments.iter().find(|e| e.key == name) else {
        let message = format!("no environment `{name}` here; there are {list}");
        sink.error_near(section.key_span.start, SECTION, message, nearest(name, names()));
        return;
    };
    let named = Entry {
        key: "environment".to_owned(),
        key_span: found.key_span.clone(),
        node: Node { span: found.key_span.clone(), value: Value::Text { text: name.to_owned(), filled: false } },
    };
    // Whatever the file calls itself, this is what was chosen.
    merge_entry(entries, named);
    match found.node.value.clone() {
        Value::Table(over) => over.into_iter().for_each(|entry| merge_entry(entries, entry)),
        other => {
            let message = format!("this must be a table, not {}", other.kind());
            sink.error(found.node.span.start, &format!("{SECTION}.{name}"), message);
        }
    }
}

/// Tables are laid over tables key by key, lists of things with an `id` thing by thing; everything else is replaced.
fn merge_entry(entries: &mut Vec<Entry>, over: Entry) {
    match entries.iter_mut().find(|e| e.key == over.key) {
        Some(under) => merge(&mut under.node, over.node),
        None => entries.push(over),
    }
}

fn merge(under: &mut Node, over: Node) {
    match (&mut under.value, over) {
        (Value::Table(entries), Node { value: Value::Table(over), .. }) => {
            over.into_iter().for_each(|entry| merge_entry(entries, entry));
        }
        (Value::List(items), Node { value: Value::List(over), .. })
            if !over.is_empty() && over.iter().all(|o| id(o).is_some()) =>
        {
            for item in over {
                match items.iter_mut().find(|under| id(under) == id(&item)) {
                    Some(under) => merge(under, item),
                    None => items.push(item),
                }
            }
        }
        (_, over) => *under = over,
    }
}

/// The `[[moves]]` of a file in which everything moves from one store to another.
pub(super) fn rule(from: &str, to: &str) -> Node {
    let node = |value| Node { span: 0..0, value };
    let text = |text: &str| node(Value::Text { text: text.to_owned(), filled: false });
    let entry = |key: &str, node| Entry { key: key.to_owned(), key_span: 0..0, node };
    let include = node(Value::List(vec![text("*")]));
    let said =
        vec![entry("from", text(from)), entry("to", text(to)), entry("include", include), entry("like", text("same"))];
    node(Value::List(vec![node(Value::Table(said))]))
}

/// Takes out what belongs to tables that the file has already, and the stores that are neither of these two.
pub(super) fn only_between(document: &mut Node, from: &str, to: &str) {
    let Value::Table(entries) = &mut document.value else { return };
    entries.retain(|entry| !["tables", "stays"].contains(&entry.key.as_str()));
    let stores = entries.iter_mut().find(|entry| entry.key == "stores");
    if let Some(Entry { node: Node { value: Value::Table(stores), .. }, .. }) = stores {
        stores.retain(|store| store.key == from || store.key == to);
    }
}

/// What a thing of a list is called.
fn id(node: &Node) -> Option<&str> {
    match &node.entry("id")?.node.value {
        Value::Text { text, .. } => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::parse;
    use super::*;

    const FILE: &str = r#"
name = "shop"
environment = "nobody"
[postgres]
host = "db"
port = 5432
[[gates]]
id = "in-sync"
[[switches]]
id = "reads"
parameter = "/prod/reads"
to = "new"
[[switches]]
id = "writes"
parameter = "/prod/writes"
[environments.test]
production = false
gates = []
postgres.host = "${TEST_HOST}"
[[environments.test.switches]]
id = "reads"
parameter = "/test/reads"
[[environments.test.switches]]
id = "more"
[environments.production]
postgres.host = "${NOT_SET_HERE}"
"#;

    fn laid(env: Option<&str>) -> (Node, Vec<String>) {
        let vars = [("TEST_HOST".to_owned(), "test-db".to_owned())].into();
        let mut sink = Sink::new("c.toml", FILE);
        let node = parse(FILE, &vars, env, &mut sink);
        (node, sink.items.iter().map(ToString::to_string).collect())
    }

    fn text<'n>(node: &'n Node, path: &[&str]) -> Option<&'n str> {
        let (key, rest) = path.split_first()?;
        let inner = &node.entry(key)?.node;
        match (&inner.value, rest) {
            (Value::Text { text, .. }, []) => Some(text),
            (Value::List(items), [id_wanted, rest @ ..]) => {
                text(items.iter().find(|i| id(i) == Some(id_wanted))?, rest)
            }
            (_, rest) => text(inner, rest),
        }
    }

    #[test]
    fn what_an_environment_says_wins_and_the_rest_stays() {
        let (node, errors) = laid(Some("test"));
        // Variables of an environment that is not meant need not be set.
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(text(&node, &["environment"]), Some("test"));
        assert_eq!(text(&node, &["postgres", "host"]), Some("test-db"));
        assert!(matches!(node.entry("postgres").unwrap().node.entry("port").unwrap().node.value, Value::Int(5432)));
        assert_eq!(text(&node, &["switches", "reads", "parameter"]), Some("/test/reads"));
        assert_eq!(text(&node, &["switches", "reads", "to"]), Some("new"));
        assert_eq!(text(&node, &["switches", "writes", "parameter"]), Some("/prod/writes"));
        assert!(text(&node, &["switches", "more", "id"]).is_some());
        // A list that is said to be empty is.
        assert!(matches!(&node.entry("gates").unwrap().node.value, Value::List(items) if items.is_empty()));
        assert!(node.entry(SECTION).is_none());
        // A mistake in what was laid over is shown where it stands.
        let at = node.locate("switches[0].parameter");
        assert!(FILE[at..].starts_with("\"/test/reads\""));
    }

    #[test]
    fn an_environment_has_to_be_named() {
        let (_, errors) = laid(None);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("say which with --env NAME: test, production"), "{errors:?}");
        let (_, errors) = laid(Some("prodction"));
        assert!(
            errors[0].contains("no environment `prodction` here") && errors[0].contains("`production`"),
            "{errors:?}"
        );
    }

    #[test]
    fn a_file_without_environments_stays_as_it_is() {
        let text = "name = \"shop\"\n";
        let mut sink = Sink::new("c.toml", text);
        let node = parse(text, &[].into(), None, &mut sink);
        assert!(sink.items.is_empty() && node.entry("environment").is_none());
    }
}
