//! What tables that something else moves need of the stores: how the target's server reaches the source.

use std::collections::BTreeSet;

use super::connections::{Connections, StoreConnection};
use super::error::Sink;
use super::keys;
use super::section::Section;
use crate::domain::plan::{MoverKind, Plan};

/// Reports a store that tables are subscribed from without saying how it is reached, and one that says so in vain.
pub(super) fn judge(root: &Section<'_>, plan: &Plan, connections: &Connections, sink: &mut Sink<'_>) {
    let subscribed: BTreeSet<&str> = plan
        .tables
        .iter()
        .filter(|table| match table.mover {
            Some(MoverKind::Subscription) => true,
            None => false,
        })
        .map(|table| table.from.as_str())
        .collect();
    let mut stores = root.map("stores", keys::STORE);
    if root.has("postgres") {
        stores.push((String::new(), root.table("postgres", keys::POSTGRES)));
    }
    for (name, store) in &stores {
        let at = connections.sources.get(name).or_else(|| connections.targets.get(name));
        let said = match at {
            Some(StoreConnection::Postgresql(postgres)) => postgres.subscriber.as_ref(),
            Some(StoreConnection::Dynamodb(_)) => continue,
            // [postgres], which tables only go to.
            None => None,
        };
        let path = store.path_of("subscriber");
        match (said, subscribed.contains(name.as_str())) {
            (None, true) => {
                let message = "missing `subscriber`: tables of this store move by subscription, so say how the target's \
                               server reaches it: subscriber = { host = \"...\" }";
                sink.error(store.offset_of("kind"), &path, message);
            }
            (Some(_), false) => {
                let message = "no table that comes from this store has mover = \"subscription\"";
                sink.error(store.offset_of("subscriber"), &path, message);
            }
            (Some(subscriber), true) if subscriber.port == 0 => {
                sink.error(store.offset_of("subscriber"), &format!("{path}.port"), "a port is from 1 to 65535");
            }
            (Some(_), true) | (None, false) => {
                if store.has("subscriber") && at.is_none() {
                    let message = "tables go to this database, and nobody subscribes to it";
                    sink.error(store.offset_of("subscriber"), &path, message);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use crate::config::{Config, ConfigErrors, SavedConnections, StoreConnection, load_str};
    use crate::domain::plan::{MoverKind, ValueRef};

    /// A plan of one table, with these lines in its source's section and in its own.
    fn read(store: &str, table: &str) -> Result<Config, ConfigErrors> {
        let text = format!(
            r#"name = "shop"
production = false
[stores.old]
kind = "postgresql"
host = "db-1"
port = 5433
database = "shop"
user = "cutover"
{store}
[stores.new]
kind = "postgresql"
host = "db-2"
database = "shop"
user = "cutover"
[[tables]]
id = "books"
from = "old.public.books"
to = "new.public.books"
key = ["id"]
{table}
[tables.columns]
id = {{ type = "uuid", key = true }}
"#
        );
        let step = |kind: &str| format!("[[steps]]\nid = \"{kind}\"\nat = \"T-01:00\"\nkind = \"{kind}\"\n");
        let steps: String = ["preflight", "set_up", "capture", "load"].into_iter().map(step).collect();
        load_str("c.toml", &format!("{text}{steps}"), Path::new("/etc"), &BTreeMap::new())
    }

    const MOVER: &str = "mover = \"subscription\"";

    #[test]
    fn a_store_that_is_subscribed_to_says_how_its_subscriber_reaches_it() {
        let said = |store: &str, table: &str| read(store, table).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said("", MOVER).contains("missing `subscriber`"), "{}", said("", MOVER));
        let lonely = said("subscriber = { host = \"10.0.0.1\" }", "");
        assert!(lonely.contains("no table that comes from this store"), "{lonely}");
        assert!(said("", "mover = \"subscriptions\"").contains("did you mean"), "the nearest word is offered");
        let secret = said("subscriber = { host = \"10.0.0.1\", password = \"x\" }", MOVER);
        assert!(secret.contains("must not stand in this file"), "{secret}");

        let config = read("subscriber = { host = \"10.0.0.1\", password = { file = \"pw\" } }", MOVER).unwrap();
        assert_eq!(config.plan.tables[0].mover, Some(MoverKind::Subscription));
        let Some(StoreConnection::Postgresql(old)) = config.connections.sources.get("old") else { panic!() };
        let subscriber = old.subscriber.as_ref().unwrap();
        assert_eq!(
            (subscriber.host.as_str(), subscriber.port, subscriber.user.as_str()),
            ("10.0.0.1", 5433, "cutover")
        );
        assert_eq!(subscriber.password, Some(ValueRef::File("/etc/pw".to_owned())));
        let parameter = "subscriber = { host = \"10.0.0.1\", password = { parameter = \"/replicator\" } }";
        let of_parameter = read(parameter, MOVER).unwrap().connections;
        assert_eq!(of_parameter.password_parameters(), ["/replicator"]);
        // A run keeps it with its connections.
        let saved = SavedConnections::read(&SavedConnections::text(&config.connections).unwrap());
        assert_eq!(saved.whole().unwrap(), config.connections);
    }

    #[test]
    fn a_plan_without_a_mover_keeps_the_hash_it_had() {
        let (own, delegated) =
            (read("", "").unwrap().plan, read("subscriber = { host = \"10.0.0.1\" }", MOVER).unwrap().plan);
        assert_ne!(own.hash(), delegated.hash());
        let text = serde_json::to_string(&*own).unwrap();
        assert!(!text.contains("mover"), "{text}");
        // How the subscriber reaches the source may change under a run, like a user or a password.
        let elsewhere = read("subscriber = { host = \"10.0.0.2\" }", MOVER).unwrap().plan;
        assert_eq!(elsewhere.hash(), delegated.hash());
    }
}
