//! `[stores.NAME]`: stores by name, and which of them tables come from and go to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::connections::{self, Aws, Connections, Postgres, StoreConnection};
use super::error::Sink;
use super::keys;
use super::section::Section;
use crate::domain::lint::nearest;
use crate::domain::plan::{CONTROL, NEW, OLD};

/// A store and the table in it: `old.public.books` is `public.books` in the store `old`.
pub(super) fn place(text: &str) -> Option<(&str, &str)> {
    text.split_once('.').filter(|(store, table)| !store.is_empty() && !table.is_empty())
}

/// The store that an end of a table names, or the one that is understood.
fn named(table: &Section<'_>, end: &str, understood: &str) -> String {
    table.text(end).as_deref().and_then(place).map_or_else(|| understood.to_owned(), |(store, _)| store.to_owned())
}

/// Reads the connections of a file with `[stores]`.
pub(super) fn read(root: &Section<'_>, aws: Option<Aws>, base: &Path, sink: &mut Sink<'_>) -> Connections {
    let stores: BTreeMap<String, Section<'_>> = root.map("stores", keys::STORE).into_iter().collect();
    let (tables, stays) = (root.list("tables", keys::TABLES), root.list("stays", keys::STAYS));
    let moves = root.list("moves", keys::MOVES);
    let of_rule =
        |rule: &Section<'_>, end: &str, understood: &str| rule.text(end).unwrap_or_else(|| understood.to_owned());
    let mut from: BTreeSet<String> = tables.iter().chain(&stays).map(|t| named(t, "from", OLD)).collect();
    from.extend(moves.iter().map(|rule| of_rule(rule, "from", OLD)));
    let mut to: BTreeSet<String> = tables.iter().map(|t| named(t, "to", NEW)).collect();
    to.extend(moves.iter().map(|rule| of_rule(rule, "to", NEW)));
    if from.is_empty() {
        from.insert(OLD.to_owned());
    }
    for (name, store) in &stores {
        judge(name, store, aws.is_some(), sink);
        if !from.contains(name) && !to.contains(name) {
            // Where a table names a store that is not there, that one may be meant.
            let unknown = from.iter().chain(&to).filter(|named| !stores.contains_key(*named)).map(String::as_str);
            let message = format!("no table comes from the store `{name}` or goes to it");
            sink.error_near(store.offset_of("kind"), &store.path, message, nearest(name, unknown));
        }
    }
    let mut named_stores = Vec::new();
    for (end, section) in tables.iter().flat_map(|t| [("from", t), ("to", t)]).chain(stays.iter().map(|s| ("from", s)))
    {
        let store = named(section, end, if end == "from" { OLD } else { NEW });
        named_stores.push((store, end, section));
    }
    for rule in &moves {
        named_stores.push((of_rule(rule, "from", OLD), "from", rule));
        named_stores.push((of_rule(rule, "to", NEW), "to", rule));
    }
    for (store, end, section) in named_stores {
        if !stores.contains_key(&store) {
            let near = nearest(&store, stores.keys().map(String::as_str));
            let message = format!("there is no store `{store}` under [stores]");
            sink.error_near(section.offset_of(end), &section.path_of(end), message, near);
        }
    }
    let of = |name: &str, sink: &mut Sink<'_>| {
        stores.get(name).and_then(|store| connection(store, aws.as_ref(), base, sink))
    };
    let sources: BTreeMap<String, StoreConnection> =
        from.iter().filter_map(|name| Some((name.clone(), of(name, sink)?))).collect();
    let mut targets = BTreeMap::new();
    for target in &to {
        let nowhere = || StoreConnection::Postgresql(Postgres::nowhere());
        targets.insert(target.clone(), of(target, sink).unwrap_or_else(nowhere));
    }
    // A database before others: its lease costs nothing.
    let databases = targets.iter().find(|(_, at)| matches!(at, StoreConnection::Postgresql(_)));
    let home = databases.map(|(name, _)| name.clone()).or_else(|| to.first().cloned());
    let home = home.unwrap_or_else(|| NEW.to_owned());
    targets.entry(home.clone()).or_insert_with(|| StoreConnection::Postgresql(Postgres::nowhere()));
    let one_database = |one: &StoreConnection, other: &StoreConnection| match (one, other) {
        (StoreConnection::Postgresql(one), StoreConnection::Postgresql(other)) => one.is_same_database(other),
        (StoreConnection::Dynamodb(_), _) | (_, StoreConnection::Dynamodb(_)) => false,
    };
    let mut twice = |name: &str, target: &str, why: &str| {
        let message = format!("`{name}` and `{target}` are one database: {why}");
        let at = stores.get(name).map_or(0, |s| s.offset_of("database"));
        sink.error(at, &format!("stores.{name}.database"), message);
    };
    for (target, at) in &targets {
        for (name, _) in sources.iter().filter(|(_, source)| one_database(source, at)) {
            twice(name, target, "what is ours in it would be customers' data too");
        }
        for (name, other) in targets.iter().filter(|(name, _)| *name > target) {
            if one_database(other, at) && stores.contains_key(name) {
                twice(name, target, "it has one lease; name one store and let tables go to it");
            }
        }
    }
    Connections { aws, targets, home, sources, controls: BTreeMap::new() }
}

/// Reports what a store's kind does not have, or lacks.
fn judge(name: &str, store: &Section<'_>, aws: bool, sink: &mut Sink<'_>) {
    let id = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name == CONTROL || name.is_empty() || !name.chars().all(id) {
        let message = format!("a store is called by lower letters, digits, `-` and `_`, and not `{CONTROL}`");
        sink.error(store.offset_of("kind"), &store.path, message);
    }
    let (own, others, what) = match store.text("kind").as_deref() {
        Some("dynamodb") => (keys::AWS, keys::POSTGRES, "a DynamoDB store"),
        Some("postgresql") => (keys::POSTGRES, keys::AWS, "a PostgreSQL store"),
        // Reported already.
        _ => return,
    };
    for key in others.iter().filter(|key| store.has(key.name) && own.iter().all(|o| o.name != key.name)) {
        sink.error(store.offset_of(key.name), &store.path_of(key.name), format!("{what} has no `{}`", key.name));
    }
    // What [aws] says holds for a store of AWS that does not say it.
    let needed = own.iter().filter(|key| key.required && !(aws && key.name == "region"));
    for key in needed.filter(|key| !store.has(key.name)) {
        sink.error(store.offset_of("kind"), &store.path_of(key.name), format!("missing `{}`: {}", key.name, key.doc));
    }
}

fn connection(store: &Section<'_>, aws: Option<&Aws>, base: &Path, sink: &mut Sink<'_>) -> Option<StoreConnection> {
    match store.text("kind").as_deref() {
        Some("postgresql") => {
            let postgres = connections::postgres(store, base);
            if postgres.port == 0 && !sink.reported(&store.path_of("port")) {
                sink.error(store.offset_of("port"), &store.path_of("port"), "a port is from 1 to 65535");
            }
            Some(StoreConnection::Postgresql(postgres))
        }
        Some("dynamodb") => Some(StoreConnection::Dynamodb(connections::tables(store, aws))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigErrors, load_str};
    use crate::domain::plan::{SignalSource, StoreKind, Table};

    const STORES: &str = r#"
[stores.old]
kind = "postgresql"
host = "db-1"
database = "shop"
user = "cutover"
[stores.new]
kind = "postgresql"
host = "db-2"
port = 5433
database = "shop"
user = "cutover"
"#;

    /// Connections, what is replaced in the example, and the beginning of what is said.
    type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], &'c str);

    const SOURCE: &str = "source = \"CloudShelf-Books\"";
    const TARGET: &str = "target = \"books\"";

    /// The example with these connections, and with each of these texts replaced.
    fn with(connections: &str, replaced: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        let text = include_str!("../../config.toml.example");
        let (before, rest) = text.split_once("[postgres]\n").unwrap();
        let (_, after) = rest.split_once("# ── How the work is done").unwrap();
        let mut text = format!("{before}{connections}\n# ── How the work is done{after}");
        for (from, to) in replaced {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        load_str("c.toml", &text, Path::new(""), &BTreeMap::from([("PGPASSWORD".to_owned(), "x".to_owned())]))
    }

    fn wrong(connections: &str, replaced: &[(&str, &str)]) -> Vec<String> {
        let errors = with(connections, replaced).expect_err("a mistake");
        errors.items.iter().map(|e| format!("{} {}", e.path, e.message)).collect()
    }

    #[test]
    fn tables_come_from_and_go_to_the_stores_they_name() {
        let one = [(SOURCE, "from = \"v1.public.books\""), (TARGET, "to = \"new.public.books\"")];
        let stores = format!("{STORES}[stores.v1]\nkind = \"dynamodb\"\n");
        let config = with(&stores, &one).unwrap();
        let table = |id: &str| config.plan.tables.iter().find(|t| t.id == id).unwrap();
        let ends = |t: &Table| [&t.from, &t.source, &t.to, &t.target].map(String::clone);
        assert_eq!(ends(table("books")), ["v1", "public.books", "new", "public.books"]);
        assert_eq!(ends(table("users")), ["old", "CloudShelf-Users", "new", "users"]);
        assert_eq!(config.plan.kind("old"), StoreKind::Postgresql);
        assert_eq!((config.plan.kind("v1"), config.plan.keeps_ms("books").is_some()), (StoreKind::Dynamodb, true));
        assert_eq!(config.plan.keeps_ms("users"), None);
        assert_eq!(config.plan.stores.keys().collect::<Vec<_>>(), ["control", "new", "old", "v1"]);
        // What [aws] says holds for a store of AWS that does not say it.
        let Some(StoreConnection::Dynamodb(aws)) = config.connections.sources.get("v1") else { panic!() };
        assert_eq!(aws.region, "us-east-1");
        let port = config.connections.databases().next().map(|postgres| postgres.port);
        assert_eq!((port, config.connections.home.as_str()), (Some(5433), "new"));
    }

    #[test]
    fn the_two_ways_of_saying_the_same_are_the_same_plan() {
        let old = "[postgres]\nhost = \"db-2\"\ndatabase = \"shop\"\nuser = \"cutover\"\n";
        let new = "[stores.old]\nkind = \"dynamodb\"\n[stores.new]\nkind = \"postgresql\"\nhost = \"db-2\"\ndatabase = \"shop\"\nuser = \"cutover\"\n";
        let (old, new) = (with(old, &[]).unwrap(), with(new, &[]).unwrap());
        assert_eq!(old.plan.hash(), new.plan.hash());
        assert_eq!(old.connections.sources(), new.connections.sources());
    }

    #[test]
    fn what_a_source_keeps_of_its_log_is_a_signal_where_a_gate_asks_for_it() {
        let asks = [("criteria = [\"mismatches = 0\", \"unaccounted = 0\"]", "criteria = [\"retained_log < 5000\"]")];
        let signal = |config: &Config| config.plan.signals.iter().find(|s| s.id == "retained_log").cloned();
        let (silent, asked) = (with(STORES, &[]).unwrap(), with(STORES, &asks).unwrap());
        assert_eq!(signal(&silent), None, "plans that do not speak of it keep their hash");
        let found = signal(&asked).unwrap();
        assert_eq!((found.source, found.unit.as_str(), found.limit), (SignalSource::RetainedLog, "MB", None));
        let lints = |config: &Config| {
            let found = crate::domain::lint::lint(&config.plan);
            found.iter().filter(|f| f.message.contains("keeps a log until it is read")).count()
        };
        assert_eq!(lints(&asked), 0);
        let tables = STORES.replacen(
            "kind = \"postgresql\"\nhost = \"db-1\"\ndatabase = \"shop\"\nuser = \"cutover\"",
            "kind = \"dynamodb\"",
            1,
        );
        let never = with(&tables, &asks).map_or_else(|e| e.to_string(), |config| format!("{} lints", lints(&config)));
        assert!(never == "1 lints" || never.contains("keeps a log until it is read"), "{never}");
    }

    #[test]
    fn a_table_is_not_moved_onto_itself_under_another_name_of_its_store() {
        let onto_itself = |second: &str| {
            let stores =
                format!("{STORES}[stores.v1]\nkind = \"dynamodb\"\n[stores.v2]\nkind = \"dynamodb\"\n{second}");
            let ends = [(SOURCE, "from = \"v1.Books\""), (TARGET, "to = \"v2.Books\"")];
            let said = with(&stores, &ends).err().map(|e| e.to_string()).unwrap_or_default();
            said.contains("would go onto itself: `v1` and `v2` are one store")
        };
        assert!(onto_itself(""));
        assert!(onto_itself("profile = \"another\"\n"), "it may sign for the same account");
        assert!(!onto_itself("region = \"eu-west-1\"\n"));
        // An ARN is another name of a table, in its own region.
        let by_arn = |region: &str| {
            let stores = format!("{STORES}[stores.v1]\nkind = \"dynamodb\"\n");
            let arn = format!("to = \"v1.arn:aws:dynamodb:{region}:111122223333:table/Books\"");
            let said = with(&stores, &[(SOURCE, "from = \"v1.Books\""), (TARGET, &arn)]).err();
            said.is_some_and(|e| e.to_string().contains("would go onto itself"))
        };
        assert!(by_arn("us-east-1") && !by_arn("eu-west-1"));
    }

    #[test]
    fn a_proposal_for_two_stores_leaves_the_others_of_the_file_alone() {
        let others = "[stores.items]\nkind = \"dynamodb\"\nregion = \"us-east-1\"\n";
        let table = "[[tables]]\nid = \"a\"\nfrom = \"items.A\"\nto = \"items.B\"\nkey = [\"id\"]\nlike = \"same\"\n";
        let text = format!("name = \"shop\"\n{STORES}{others}{table}");
        let vars = BTreeMap::new();
        let names = crate::config::store_names("c.toml", &text, &vars, None).unwrap();
        assert_eq!(names, ["old", "new", "items"]);
        let between = |from: &str, to: &str| {
            let started = crate::config::started("c.toml", &text, Path::new(""), &vars, None, (from, to));
            let stores = started.unwrap_or_else(|e| panic!("{from} to {to}: {e}")).connections.stores();
            stores.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(between("old", "new"), ["new", "old"]);
        assert_eq!(between("items", "new"), ["items", "new"]);
        assert_eq!(between("items", "items"), ["items"]);
    }

    #[test]
    fn each_mistake_is_named_where_it_stands() {
        let misspelt = with(STORES, &[(SOURCE, "from = \"odl.books\"")]).expect_err("a mistake");
        assert_eq!(misspelt.items[0].nearest.as_deref(), Some("old"), "{misspelt}");
        let cases: [Case<'_>; 9] = [
            ("", &[], "postgres missing `postgres`"),
            (
                &format!("[postgres]\nhost = \"a\"\ndatabase = \"b\"\nuser = \"c\"\n{STORES}"),
                &[],
                "postgres `postgres` and `stores` exclude",
            ),
            (
                &STORES.replace("host = \"db-1\"", "region = \"eu-west-1\""),
                &[],
                "stores.old.region a PostgreSQL store has no `region`",
            ),
            (&STORES.replace("host = \"db-1\"\n", ""), &[], "stores.old.host missing `host`"),
            (
                &STORES.replace("[stores.old]", "[stores.first]"),
                &[],
                "stores.first no table comes from the store `first`",
            ),
            (STORES, &[(SOURCE, "from = \"older.books\"")], "tables[0].from there is no store `older`"),
            (STORES, &[(SOURCE, "from = \"books\"")], "tables[0].from `books` names no table: write store and table"),
            (STORES, &[(SOURCE, "source = \"a\"\nfrom = \"old.a\"")], "tables[0].from `from` and `source` exclude"),
            (
                &STORES.replace("db-2", "db-1").replace("5433", "5432"),
                &[],
                "stores.old.database `old` and `new` are one database",
            ),
        ];
        for (connections, replaced, wanted) in cases {
            let found = wrong(connections, replaced);
            assert!(found.iter().any(|e| e.starts_with(wanted)), "{wanted}: {found:#?}");
        }
        let two =
            format!("{STORES}[stores.third]\nkind = \"postgresql\"\nhost = \"db-3\"\ndatabase = \"b\"\nuser = \"c\"\n");
        let third = [(TARGET, "to = \"third.books\"")];
        let config = with(&two, &third).unwrap().connections;
        assert_eq!(
            (config.targets.keys().map(String::as_str).collect::<Vec<_>>(), config.home.as_str()),
            (vec!["new", "third"], "new")
        );
        let one = two.replace("host = \"db-3\"\ndatabase = \"b\"", "host = \"db-2\"\nport = 5433\ndatabase = \"shop\"");
        let found = wrong(&one, &third);
        assert!(
            found.iter().any(|e| e.starts_with("stores.third.database `third` and `new` are one database")),
            "{found:#?}"
        );
    }

    #[test]
    fn between_two_databases_any_type_goes_and_from_items_those_whose_text_is_their_value() {
        use crate::domain::plan::{ColumnType, TypeName};

        const OF_ITEMS: &str = "[postgres]\nhost = \"a\"\ndatabase = \"b\"\nuser = \"c\"\n";
        const CATEGORY: &str = "category = { from = \"category\", type = \"varchar(100)\", default = \"General\" }";
        const ID: &str = "id = { from = \"bookId\", type = \"uuid\", key = true }";
        let category = |ty: &str| format!("category = {{ from = \"category\", type = \"{ty}\" }}");
        let id = |ty: &str| format!("id = {{ from = \"bookId\", type = \"{ty}\", key = true }}");
        for ty in ["mood", "shop.mood[]", "timestamp(3)", "enum mood", "int4range", "interval day to second(3)"] {
            let config = with(STORES, &[(CATEGORY, &category(ty))]).unwrap_or_else(|e| panic!("{e}"));
            let column = config.plan.tables[0].columns.iter().find(|c| c.name == "category").unwrap();
            assert_eq!(column.ty, ColumnType::Native(TypeName::new(ty)));
        }
        for ty in ["enum mood", "domain isbn", "char(2)", "time(3)", "interval", "json"] {
            assert!(with(OF_ITEMS, &[(CATEGORY, &category(ty))]).is_ok(), "{ty}");
        }
        for (ty, words, near) in [
            ("mood", "an enum is written `enum NAME`", None),
            ("timestamp", "it does not say which zone its moments are of", Some("timestamptz")),
            ("interger", "`interger` is not a column type that can be written", Some("integer")),
        ] {
            let found = with(OF_ITEMS, &[(CATEGORY, &category(ty))]).expect_err(ty);
            let hit = found.items.iter().find(|e| e.path == "tables[0].columns.category.type");
            let hit = hit.unwrap_or_else(|| panic!("{ty}: {found}"));
            assert!(hit.message.contains(words) && hit.nearest.as_deref() == near, "{hit:?}");
        }
        for (ty, fits) in [("enum mood", true), ("char(9)", true), ("domain isbn", false), ("time", false)] {
            let found = with(OF_ITEMS, &[(ID, &id(ty))]);
            assert_eq!(found.is_ok(), fits, "{ty}");
        }
    }
}
