//! `[[moves]]`: rules, and the tables they give over what the stores said they have.

use std::collections::{BTreeMap, BTreeSet};

use super::table;
use crate::config::error::Sink;
use crate::config::keys;
use crate::config::section::Section;
use crate::domain::lint::nearest;
use crate::domain::plan::{
    ForeignKey, ListedTable, Listing, Move, NEW, OLD, StaysTable, StoreKind, Stores, Table, listed_name,
};

/// The rules of a file.
pub(super) fn rules(root: &Section<'_>) -> Vec<Move> {
    root.list("moves", keys::MOVES).iter().map(rule).collect()
}

fn rule(s: &Section<'_>) -> Move {
    Move {
        from: s.text("from").unwrap_or_else(|| OLD.to_owned()),
        to: s.text("to").unwrap_or_else(|| NEW.to_owned()),
        include: s.texts("include"),
        exclude: s.texts("exclude"),
    }
}

/// Whether the tables of this rule are made by the DDL their source has.
pub(in crate::config) fn made(s: &Section<'_>) -> bool {
    s.text("ddl").as_deref() != Some("none")
}

/// What is wrong with the rules by themselves.
pub(in crate::config) fn judge(root: &Section<'_>, stores: &Stores, sink: &mut Sink<'_>) {
    // By store, where its tables are made: what several of them need is made once, in one place.
    let mut makes: BTreeMap<String, String> = BTreeMap::new();
    for s in root.list("moves", keys::MOVES) {
        let Move { from, to, include, .. } = rule(&s);
        let of_database = stores.get(&from).is_some_and(|s| s.kind == StoreKind::Postgresql);
        if made(&s) && of_database {
            let first = makes.entry(from.clone()).or_insert_with(|| to.clone());
            if *first != to {
                let message = format!(
                    "tables of `{from}` are made in `{first}` already, with the types and functions they share: make those of \
                     this rule yourself and write ddl = \"none\""
                );
                sink.error(s.offset_of("to"), &s.path_of("to"), message);
            }
        }
        if s.has("include") && include.is_empty() {
            sink.error(s.offset_of("include"), &s.path_of("include"), "this list is empty: name tables, or [\"*\"]");
        }
        // A store that is not there has been named already.
        let (Some(source), Some(target)) = (stores.get(&from), stores.get(&to)) else { continue };
        if source.kind != target.kind {
            let message = format!(
                "`{from}` and `{to}` are stores of two kinds, and what becomes of a value between them is no rule: write each \
                 table by hand, under [[tables]]"
            );
            sink.error(s.offset_of("to"), &s.path_of("to"), message);
        }
        if s.text("ddl").as_deref() == Some("pg_dump") && source.kind != StoreKind::Postgresql {
            let message =
                "only PostgreSQL has pg_dump: with ddl = \"source\" tables are made as `DescribeTable` tells them";
            sink.error(s.offset_of("ddl"), &s.path_of("ddl"), message);
        }
        if s.has("kms_key") && target.kind != StoreKind::Dynamodb {
            let message = "only tables of DynamoDB are encrypted by a key of their own";
            sink.error(s.offset_of("kms_key"), &s.path_of("kms_key"), message);
        }
    }
}

/// Tables of a store that stand in the file by hand, moved or watched.
pub(in crate::config) fn by_hand(
    store: &str,
    stores: &Stores,
    tables: &[Table],
    stays: &[StaysTable],
) -> BTreeSet<String> {
    let Some(kind) = stores.get(store).map(|s| s.kind) else { return BTreeSet::new() };
    let moved = tables.iter().filter(|t| t.from == store).map(|t| &t.source);
    let watched = stays.iter().filter(|t| t.from == store).map(|t| &t.source);
    moved.chain(watched).map(|name| listed_name(kind, name)).collect()
}

/// A table that a rule gave, and which rule.
pub(in crate::config) struct Given {
    pub table: Table,
    pub rule: usize,
}

/// The tables that the rules give. What does not fit is reported where the rule stands.
pub(in crate::config) fn expand(
    root: &Section<'_>,
    listing: &Listing,
    (stores, tables, stays): (&Stores, &[Table], &[StaysTable]),
    sink: &mut Sink<'_>,
) -> Vec<Given> {
    let mut given: Vec<Given> = Vec::new();
    // By store and name, the rule that took it.
    let mut taken: BTreeMap<(String, String), usize> = BTreeMap::new();
    let sections = root.list("moves", keys::MOVES);
    for (n, s) in sections.iter().enumerate() {
        let rule = rule(s);
        let Some(listed) = listing.stores.get(&rule.from) else { continue };
        let by_hand = by_hand(&rule.from, stores, tables, stays);
        empty(s, &rule, &listed.names, sink);
        for name in listed.names.iter().filter(|name| rule.takes(name) && !by_hand.contains(*name)) {
            let key = (rule.from.clone(), name.clone());
            if let Some(first) = taken.get(&key) {
                let message = format!(
                    "`{name}` moves by moves[{first}] already: exclude it in one of them, or write it by hand under [[tables]]"
                );
                sink.error(s.offset_of("include"), &s.path_of("include"), message);
                continue;
            }
            taken.insert(key, n);
            let Some(found) = listed.tables.iter().find(|t| t.name == *name) else {
                let message = format!("`{name}` was not looked at when the stores were listed: list them anew");
                sink.error(s.offset_of("include"), &s.path_of("include"), message);
                continue;
            };
            for part in found.partitions.iter().filter(|part| rule.excludes(part)) {
                let message = format!(
                    "`exclude` takes {part}, a partition of {name}, and a table moves with all its partitions: detach it at the \
                     source, or exclude {name} too"
                );
                sink.error(s.offset_of("exclude"), &s.path_of("exclude"), message);
            }
            for (why, advice) in &found.unfit {
                let message = format!(
                    "{name} cannot move by rule: {why}; {advice}, or exclude it, or write it by hand under [[tables]]"
                );
                sink.error(s.offset_of("include"), &s.path_of("include"), message);
            }
        }
        // In the order of the list: parents before the tables that refer to them.
        for found in &listed.tables {
            if taken.get(&(rule.from.clone(), found.name.clone())) == Some(&n) {
                given.push(Given { table: as_table(&rule, found, stores, s), rule: n });
            }
        }
    }
    references(&mut given, tables, listing, stores);
    given
}

/// Gives tables that stand in the file by hand the definition that their source has, where the file asks for it.
pub(in crate::config) fn define(
    root: &Section<'_>,
    listing: Option<&Listing>,
    (stores, tables): (&Stores, &mut [Table]),
    sink: &mut Sink<'_>,
) {
    for (s, table) in root.list("tables", keys::TABLES).iter().zip(tables) {
        if !table::made_as_source(s) {
            continue;
        }
        let kind = |store: &String| stores.get(store).map(|s| s.kind);
        let of_items = [&table.from, &table.to].into_iter().all(|store| kind(store) == Some(StoreKind::Dynamodb));
        if !of_items || !table.is_whole() {
            let message =
                "only a table that goes from DynamoDB to DynamoDB with like = \"same\" is made as its source is";
            sink.error(s.offset_of("ddl"), &s.path_of("ddl"), message);
            continue;
        }
        let listed = listing.and_then(|listing| listing.stores.get(&table.from));
        let found = listed.and_then(|listed| listed.tables.iter().find(|t| t.name == table.source));
        match found {
            Some(ListedTable { ddl: Some(ddl), .. }) => table.ddl = Some(table::as_source(ddl, &table.leave_out, s)),
            Some(ListedTable { unfit, .. }) if !unfit.is_empty() => {
                let (why, advice) = &unfit[0];
                sink.error(s.offset_of("ddl"), &s.path_of("ddl"), format!("{}: {why}; {advice}", table.source));
            }
            Some(_) | None => {
                let message = "what the source's table is made of only its store can say: it was not asked here";
                sink.error(s.offset_of("ddl"), &s.path_of("ddl"), message);
            }
        }
    }
}

/// Patterns that no table has. One that excludes nothing is no mistake: what it is there for may come.
fn empty(s: &Section<'_>, rule: &Move, names: &[String], sink: &mut Sink<'_>) {
    let mut found = false;
    for (n, pattern) in rule.include.iter().enumerate() {
        if names.iter().any(|name| crate::domain::plan::fits(pattern, name)) {
            found = true;
            continue;
        }
        let near = nearest(pattern, names.iter().map(String::as_str));
        let message =
            format!("no table of `{}` is called `{pattern}`; it has {}", rule.from, counted(names.len(), "table"));
        sink.error_near(s.offset_of_item("include", n), &s.path_of(&format!("include[{n}]")), message, near);
    }
    if found && !names.iter().any(|name| rule.takes(name)) {
        let message = "`exclude` takes every table that `include` gives: nothing would move";
        sink.error(s.offset_of("exclude"), &s.path_of("exclude"), message);
    }
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// `public.orders` is `orders`, `shop.orders` is `shop-orders`: the same whatever other tables there are.
fn id(name: &str, kind: Option<StoreKind>) -> String {
    let name = match kind {
        Some(StoreKind::Postgresql) => name.strip_prefix("public.").unwrap_or(name),
        Some(StoreKind::Dynamodb | StoreKind::Aws) | None => name,
    };
    let plain = |c: char| match c {
        '.' => '-',
        c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => c,
        _ => '_',
    };
    name.chars().map(plain).collect()
}

fn as_table(rule: &Move, found: &ListedTable, stores: &Stores, s: &Section<'_>) -> Table {
    let made = made(s);
    let kind = stores.get(&rule.from).map(|s| s.kind);
    let id = id(&found.name, kind);
    let columns = match kind {
        Some(StoreKind::Dynamodb) => table::whole_item(&found.key, &found.columns),
        Some(StoreKind::Postgresql | StoreKind::Aws) | None => found.columns.clone(),
    };
    Table {
        from: rule.from.clone(),
        to: rule.to.clone(),
        target: found.name.clone(),
        key: found.key.clone(),
        columns,
        ttl: found.ttl.clone(),
        marker_prefix: table::MARKER_PREFIX.to_owned(),
        ddl: found.ddl.as_deref().filter(|_| made).map(|ddl| table::as_source(ddl, &[], s)),
        after_load: if made { found.after_load.clone() } else { Vec::new() },
        mover: table::mover(s),
        ..Table::watched(&id, &found.name)
    }
}

/// References between tables of the plan, as far as they go up the list only: a table that refers to itself or to one
/// after it has no place after its parents.
fn references(given: &mut [Given], tables: &[Table], listing: &Listing, stores: &Stores) {
    let mut known: BTreeMap<(String, String, String), String> = BTreeMap::new();
    for table in tables {
        let Some(kind) = stores.get(&table.from).map(|s| s.kind) else { continue };
        let name = listed_name(kind, &table.source);
        known.insert((table.from.clone(), table.to.clone(), name), table.id.clone());
    }
    for Given { table, .. } in given {
        let found = listing.stores.get(&table.from);
        let found = found.and_then(|listed| listed.tables.iter().find(|t| t.name == table.source));
        for (columns, name) in found.map_or(&[][..], |found| &found.references) {
            let Some(parent) = known.get(&(table.from.clone(), table.to.clone(), name.clone())) else { continue };
            let key = ForeignKey { columns: columns.clone(), references: parent.clone() };
            if !table.foreign_keys.contains(&key) {
                table.foreign_keys.push(key);
            }
        }
        known.insert((table.from.clone(), table.to.clone(), table.source.clone()), table.id.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, ConfigErrors, draft, load_listed};
    use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback, Listed};

    /// Two databases and two document stores; rules and tables come after them.
    const STORES: &str = r#"name = "shop"
production = false
[stores.old]
kind = "postgresql"
host = "db-1"
database = "shop"
user = "cutover"
[stores.new]
kind = "postgresql"
host = "db-2"
database = "shop"
user = "cutover"
"#;
    const DOCUMENTS: &str = r#"
[stores.v1]
kind = "dynamodb"
region = "us-east-1"
[stores.v2]
kind = "dynamodb"
region = "eu-west-1"
"#;
    /// What a plan with tables needs at least.
    fn steps() -> String {
        let step = |kind: &&str| {
            format!(
                "[[steps]]\nid = \"{kind}\"\ntitle = \"{kind}\"\nat = \"T-01:00\"\ntakes = \"1m\"\nkind = \"{kind}\"\n"
            )
        };
        ["preflight", "set_up", "capture", "load"].iter().map(step).collect()
    }

    fn rule(keys: &str) -> String {
        format!("[[moves]]\n{keys}\nlike = \"same\"\n")
    }

    fn table(name: &str, parents: &[&str]) -> ListedTable {
        let id = Column {
            name: "id".into(),
            ty: ColumnType::Bigint,
            from: ColumnSource::Attribute(vec!["id".into()]),
            absent: Fallback::Required,
            key: true,
            declared: Declared::default(),
        };
        ListedTable {
            name: name.into(),
            key: vec!["id".into()],
            columns: vec![id],
            references: parents.iter().map(|p| (vec!["id".to_owned()], (*p).to_owned())).collect(),
            ddl: Some(format!("CREATE TABLE {name}")),
            ..ListedTable::default()
        }
    }

    fn listing() -> Listing {
        let tables = vec![
            table("public.customers", &[]),
            table("public.orders", &["public.customers", "public.orders"]),
            table("shop.odd name", &[]),
        ];
        let old = Listed { names: tables.iter().map(|t| t.name.clone()).collect(), tables, left_out: vec![] };
        let carts = ListedTable { ttl: Some("expires".into()), ddl: None, ..table("Carts", &[]) };
        let v1 = Listed { names: vec!["Carts".into()], tables: vec![carts], left_out: vec!["view x".into()] };
        Listing { stores: BTreeMap::from([("old".to_owned(), old), ("v1".to_owned(), v1)]) }
    }

    fn read(rules: &str) -> Result<Config, ConfigErrors> {
        let stores = if rules.contains("v1") { format!("{STORES}{DOCUMENTS}") } else { STORES.to_owned() };
        let text = format!("{stores}{rules}{}", steps());
        load_listed("c.toml", &text, Path::new(""), &BTreeMap::new(), None, Some(&listing()))
    }

    fn said(rules: &str) -> String {
        read(rules).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_rule_gives_tables_whose_names_do_not_depend_on_what_else_there_is() {
        let all = read(&format!(
            "{}{}",
            rule("include = [\"*\"]"),
            rule("from = \"v1\"\nto = \"v2\"\ninclude = [\"Carts\"]")
        ));
        let all = all.unwrap_or_else(|e| panic!("{e}"));
        let ids: Vec<&str> = all.plan.tables.iter().map(|t| t.id.as_str()).collect();
        assert_eq!(ids, ["customers", "orders", "shop-odd_name", "Carts"]);
        let orders = &all.plan.tables[1];
        assert_eq!((orders.source.as_str(), orders.target.as_str()), ("public.orders", "public.orders"));
        assert_eq!(orders.ddl.as_deref(), Some("CREATE TABLE public.orders"));
        let parents: Vec<&str> = orders.foreign_keys.iter().map(|k| k.references.as_str()).collect();
        assert_eq!(parents, ["customers"], "a table that refers to itself has no place after itself");
        let carts = &all.plan.tables[3];
        assert_eq!((carts.ttl.as_deref(), carts.columns.len(), carts.from.as_str()), (Some("expires"), 2, "v1"));
        assert_eq!(carts.columns[1].from, ColumnSource::Whole);
        assert!(all.warnings.iter().any(|w| w.message == "not made on the new side: view x"));
        // The place of a table is that of its rule.
        assert_eq!(all.place("tables[1].columns.id"), all.place("tables[0]"));
        assert_ne!(all.place("tables[3]"), all.place("tables[0]"));

        let one = read(&rule("include = [\"public.o*\"]\nddl = \"none\"")).unwrap();
        assert_eq!((one.plan.tables[0].id.as_str(), one.plan.tables[0].ddl.as_deref()), ("orders", None));
        assert_eq!(one.plan.unplanned("old", &["public.others".into(), "public.orders".into()]), ["public.others"]);
    }

    #[test]
    fn a_table_by_hand_or_that_stays_goes_by_what_stands_there() {
        let by_hand = "[[tables]]\nid = \"people\"\nsource = \"customers\"\ntarget = \"people\"\nkey = [\"id\"]\n\
                       [tables.columns]\nid = { type = \"bigint\", key = true }\n\
                       [[stays]]\nid = \"odd\"\nfrom = \"old.shop.odd name\"\n";
        let config = read(&format!("{}{by_hand}", rule("include = [\"*\"]"))).unwrap_or_else(|e| panic!("{e}"));
        let ids: Vec<&str> = config.plan.tables.iter().map(|t| t.id.as_str()).collect();
        assert_eq!(ids, ["people", "orders"]);
        assert_eq!(config.plan.tables[1].foreign_keys[0].references, "people");
        assert_eq!(config.plan.unplanned("old", &listing().stores["old"].names), [""; 0]);
    }

    #[test]
    fn a_table_of_items_is_made_as_its_source_is_by_rule_or_by_hand() {
        let mut listing = listing();
        let ddl = r#"{"AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "mail", "AttributeType": "S"}], "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "GlobalSecondaryIndexes": [{"IndexName": "by-mail", "KeySchema": [{"AttributeName": "mail", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "ALL"}}], "BillingMode": "PAY_PER_REQUEST"}"#;
        listing.stores.get_mut("v1").unwrap().tables[0].ddl = Some(ddl.to_owned());
        let read = |tables: &str, listing: Option<&Listing>| {
            let text = format!("name = \"shop\"\nproduction = false\n{DOCUMENTS}{tables}{}", steps());
            load_listed("c.toml", &text, Path::new(""), &BTreeMap::new(), None, listing)
        };
        let rule = rule("from = \"v1\"\nto = \"v2\"\ninclude = [\"Carts\"]\nkms_key = \"alias/shop\"");
        let by_rule = read(&rule, Some(&listing)).unwrap_or_else(|e| panic!("{e}"));
        let made = by_rule.plan.tables[0].definition().unwrap();
        assert_eq!(made.indexes().count(), 1);
        assert_eq!(made.encryption.and_then(|e| e.kms_master_key_id).as_deref(), Some("alias/shop"));
        let none = read(&rule.replace("kms_key = \"alias/shop\"", "ddl = \"none\""), Some(&listing)).unwrap();
        assert_eq!(none.plan.tables[0].ddl, None);

        let by_hand = "[[tables]]\nid = \"carts\"\nfrom = \"v1.Carts\"\nto = \"v2.New\"\nkey = [\"id\"]\nlike = \"same\"\n\
                       ddl = \"source\"\nleave_out = [\"by-mail\"]\n";
        let config = read(by_hand, Some(&listing)).unwrap_or_else(|e| panic!("{e}"));
        let made = config.plan.tables[0].definition().unwrap();
        assert_eq!((made.indexes().count(), made.attribute_definitions.len()), (0, 1));
        assert!(config.listing.is_some(), "it is kept with the run");
        let text = format!("name = \"shop\"\nproduction = false\n{DOCUMENTS}{by_hand}{}", steps());
        let drafted = draft("c.toml", &text, Path::new(""), &BTreeMap::new(), None).unwrap();
        assert_eq!((drafted.stores().into_iter().collect::<Vec<_>>(), drafted.makes("v1")), (vec!["v1"], true));
        assert_eq!(drafted.wanted("v1", &["Carts".into(), "Others".into()]), ["Carts"]);
        let said = |tables: &str, listing: Option<&Listing>| read(tables, listing).unwrap_err().to_string();
        assert!(said(by_hand, None).contains("only its store can say"), "{}", said(by_hand, None));
        let mapped = by_hand.replace("like = \"same\"\n", "").replace("leave_out = [\"by-mail\"]\n", "");
        let mapped = format!("{mapped}[tables.columns]\nid = {{ type = \"text\", key = true }}\n");
        assert!(said(&mapped, Some(&listing)).contains("with like = \"same\" is made as its source is"));
        let sql = by_hand.replace("ddl = \"source\"", "ddl_sql = \"CREATE TABLE x\"");
        assert!(said(&sql, Some(&listing)).contains("the JSON that CreateTable takes"));
    }

    #[test]
    fn what_a_rule_cannot_give_is_named_where_it_stands() {
        let unfit = |n: usize| {
            let mut listing = listing();
            listing.stores.get_mut("old").unwrap().tables[n].unfit.push(("it has no key".into(), "add one".into()));
            let text = format!("{STORES}{}{}", rule("include = [\"public.*\"]"), steps());
            load_listed("c.toml", &text, Path::new(""), &BTreeMap::new(), None, Some(&listing))
                .err()
                .map(|e| e.to_string())
        };
        let cases = [
            (
                said(&rule("include = [\"publik.*\"]")),
                "c.toml:14:12: no table of `old` is called `publik.*`; it has 3 tables",
            ),
            (said(&rule("include = [\"public.order\"]")), "(did you mean `public.orders`?)"),
            (
                said(&rule("include = [\"public.*\"]\nexclude = [\"*\"]")),
                "c.toml:15:11: `exclude` takes every table that `include` gives",
            ),
            (
                said(&format!("{}{}", rule("include = [\"public.*\"]"), rule("include = [\"public.orders\"]"))),
                "c.toml:17:11: `public.orders` moves by moves[0] already",
            ),
            (said(&rule("from = \"v1\"\ninclude = [\"*\"]")), "stores of two kinds"),
            (
                said(&rule("from = \"olt\"\ninclude = [\"*\"]")),
                "there is no store `olt` under [stores] (did you mean `old`?)",
            ),
            (said(&rule("include = []")), "this list is empty"),
            (
                said(&format!(
                    "{}{}[stores.third]\nkind = \"postgresql\"\nhost = \"db-3\"\ndatabase = \"x\"\nuser = \"y\"\n",
                    rule("include = [\"public.c*\"]"),
                    rule("to = \"third\"\ninclude = [\"public.o*\"]")
                )),
                "tables of `old` are made in `new` already",
            ),
            (
                said(&rule("from = \"v1\"\nto = \"v2\"\ninclude = [\"*\"]\nddl = \"pg_dump\"")),
                "only PostgreSQL has pg_dump",
            ),
            (said(&rule("include = [\"*\"]\nkms_key = \"alias/shop\"")), "only tables of DynamoDB are encrypted"),
            (unfit(1).unwrap_or_default(), "public.orders cannot move by rule: it has no key; add one, or exclude it"),
        ];
        for (said, wanted) in cases {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
        // Without its stores a file with rules is no plan.
        let text = format!("{STORES}{}{}", rule("include = [\"*\"]"), steps());
        let alone = crate::config::load_str("c.toml", &text, Path::new(""), &BTreeMap::new()).unwrap_err().to_string();
        assert!(alone.contains("what they are only their store can say"), "{alone}");
        let drafted = draft("c.toml", &text, Path::new(""), &BTreeMap::new(), None).unwrap();
        assert_eq!((drafted.stores().len(), drafted.makes("old")), (1, true));
    }
}
