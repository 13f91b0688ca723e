//! A dump, taken apart by table.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::Entry;
use super::{Catalogue, Chosen, Later, Part, Parts};
use crate::domain::plan::AfterLoad;

/// What stands before everything a table is made by: names are whole, and bodies of functions may speak of what comes later.
const BEGINS: &str = "SET check_function_bodies = false;\nSET xmloption = content;\n\
                      SELECT pg_catalog.set_config('search_path', '', false);\n";

/// What a table has of its own before its rows. Unique keys are among them: what they refuse is found row by row.
const OWN: [&str; 7] = ["DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT", "INDEX", "SEQUENCE", "STATISTICS", "POLICY"];

/// What has no number in the catalogue and goes with what it needs: which column a sequence belongs to, comments, that a
/// table is under row level security, and which partition or index is part of which.
const SMALL: [&str; 5] = ["SEQUENCE OWNED BY", "COMMENT", "ROW SECURITY", "TABLE ATTACH", "INDEX ATTACH"];

/// What a table has after its rows.
const LATER: [&str; 2] = ["FK CONSTRAINT", "TRIGGER"];

/// What tables and views need.
const MAKEABLE: [&str; 25] = [
    "SCHEMA",
    "EXTENSION",
    "TYPE",
    "SHELL TYPE",
    "DOMAIN",
    "COLLATION",
    "CONVERSION",
    "FUNCTION",
    "PROCEDURE",
    "AGGREGATE",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "CAST",
    "SEQUENCE",
    "VIEW",
    "MATERIALIZED VIEW",
    "RULE",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH TEMPLATE",
    "TEXT SEARCH CONFIGURATION",
    "PROCEDURAL LANGUAGE",
    "ACCESS METHOD",
    "CHECK CONSTRAINT",
];

/// Of these, what is made where it stands in a schema of the tables though none of them says that it needs it: an
/// application may ask for it by name. What only a superuser makes is not among them.
const WITH_THEM: [&str; 12] = [
    "TYPE",
    "DOMAIN",
    "COLLATION",
    "FUNCTION",
    "PROCEDURE",
    "AGGREGATE",
    "OPERATOR",
    "SEQUENCE",
    "VIEW",
    "MATERIALIZED VIEW",
    "TEXT SEARCH DICTIONARY",
    "TEXT SEARCH CONFIGURATION",
];

const VIEWS: [&str; 2] = ["VIEW", "MATERIALIZED VIEW"];

/// What a view has of its own.
const OF_VIEWS: [&str; 5] = ["DEFAULT", "INDEX", "RULE", "STATISTICS", "TRIGGER"];

/// A dump while it is taken apart.
struct Dump<'e> {
    entries: &'e [Entry],
    /// Where an entry stands, by its number.
    places: BTreeMap<u32, usize>,
    /// The number of the entry of something, by its class and number in the catalogue.
    objects: BTreeMap<(u32, u32), u32>,
    catalogue: &'e Catalogue,
    /// Tables that move, and their partitions, by their number in the catalogue.
    chosen: BTreeSet<u32>,
    /// What a table before has already.
    made: BTreeSet<usize>,
}

/// Each table's part, in the order of the tables.
pub(super) fn by_table(entries: &[Entry], chosen: &[&Chosen], catalogue: &Catalogue) -> Parts {
    let mut dump = Dump {
        entries,
        places: entries.iter().enumerate().map(|(place, entry)| (entry.id, place)).collect(),
        objects: entries.iter().map(|entry| (entry.object, entry.id)).collect(),
        catalogue,
        chosen: chosen.iter().flat_map(|t| t.partitions.iter().chain([&t.oid])).copied().collect(),
        made: BTreeSet::new(),
    };
    let mut parts = Parts::default();
    let last = chosen.len().saturating_sub(1);
    let schemas: BTreeSet<&str> = chosen.iter().map(|t| t.schema.as_str()).collect();
    for (n, table) in chosen.iter().enumerate() {
        let mut part = Part::default();
        let mut wanted = dump.of_table(table, &mut part);
        if n == last {
            dump.with_them(&schemas, &mut wanted, &mut parts.left_out);
            part.after_load.extend(dump.filled(&wanted));
        }
        dump.casts(&mut wanted);
        wanted.retain(|place| !dump.made.contains(place));
        dump.made.extend(&wanted);
        dump.small_ones(&mut wanted);
        part.ddl = BEGINS.to_owned();
        for place in wanted {
            part.ddl.push('\n');
            part.ddl.push_str(&entries[place].sql);
            part.ddl.push('\n');
        }
        parts.tables.push(part);
    }
    parts
}

impl Dump<'_> {
    /// The table that an entry belongs to.
    fn owner(&self, entry: &Entry) -> Option<u32> {
        self.catalogue.owners.get(&entry.object).copied()
    }

    /// What makes a table, with everything it needs.
    fn of_table(&self, table: &Chosen, part: &mut Part) -> BTreeSet<usize> {
        let mut wanted = BTreeSet::new();
        let whole = format!("{}.{}", table.schema, table.name);
        for (place, entry) in self.entries.iter().enumerate() {
            let is_part = table.oid == entry.object.1 || table.partitions.contains(&entry.object.1);
            let itself = entry.kind == "TABLE" && is_part;
            if !itself && self.owner(entry) != Some(table.oid) {
                continue;
            }
            let later = LATER.contains(&entry.kind.as_str());
            if !(itself || later || OWN.contains(&entry.kind.as_str())) {
                let why = format!("it has a {}, which is not made", entry.kind.to_ascii_lowercase());
                part.unfit.push((why, "make the table on the new side by hand".to_owned()));
                continue;
            }
            match self.needed(place) {
                Ok(needed) => wanted.extend(needed),
                Err(other) => {
                    let advice = "make both on the new side by hand and write ddl = \"none\"".to_owned();
                    part.unfit
                        .push((format!("{} needs {}, which does not move", entry.words(), other.words()), advice));
                }
            }
            if later {
                part.after_load.extend(self.later(entry));
            } else {
                wanted.insert(place);
            }
        }
        if !self.entries.iter().any(|e| e.kind == "TABLE" && e.object.1 == table.oid) {
            let advice = "see whether it was dropped meanwhile, and whether this role may read it".to_owned();
            part.unfit.push((format!("pg_dump does not have {whole}"), advice));
        }
        wanted
    }

    fn later(&self, entry: &Entry) -> Option<AfterLoad> {
        let Later { name, fires, on } = self.catalogue.later.get(&entry.object.1)?.clone();
        let sql = entry.sql.clone();
        // Of the two kinds that come later only triggers fire.
        Some(match fires {
            Some(fires) => AfterLoad::Trigger { name, sql, fires, on },
            None => AfterLoad::ForeignKey { name, sql, on },
        })
    }

    /// Materialized views that are made and hold something at the source, each after those that it reads.
    fn filled(&self, wanted: &BTreeSet<usize>) -> Vec<AfterLoad> {
        let made: BTreeSet<&usize> = self.made.iter().chain(wanted).collect();
        let views = made
            .into_iter()
            .map(|place| &self.entries[*place])
            .filter(|entry| entry.kind == "MATERIALIZED VIEW" && !self.catalogue.empty.contains(&entry.object.1));
        views.map(|entry| AfterLoad::MaterializedView { name: super::whole(&entry.schema, &entry.name) }).collect()
    }

    /// Whether it is of a kind that is made, and no view or function of tables that do not move.
    fn can_be_made(&self, entry: &Entry) -> bool {
        MAKEABLE.contains(&entry.kind.as_str()) && !self.catalogue.beyond.contains(&entry.object)
    }

    /// Everything that an entry needs and no table that moves has of its own. The first thing that cannot be made is the
    /// error.
    fn needed(&self, place: usize) -> Result<BTreeSet<usize>, &Entry> {
        let mut needed = BTreeSet::new();
        let mut to_do = self.entries[place].needs.clone();
        let also = self.catalogue.also.get(&self.entries[place].object);
        to_do.extend(also.into_iter().flatten().filter_map(|object| self.objects.get(object)));
        while let Some(id) = to_do.pop() {
            // What is not in the dump is there already, or was left out of it on purpose.
            let Some(&at) = self.places.get(&id) else { continue };
            let entry = &self.entries[at];
            let is_a_table = entry.kind == "TABLE" && self.chosen.contains(&entry.object.1);
            // That a partition, or its index, is part of a table is said with the partition.
            let attaches = ["TABLE ATTACH", "INDEX ATTACH"].contains(&entry.kind.as_str());
            if is_a_table || attaches || self.owner(entry).is_some() || needed.contains(&at) {
                continue;
            }
            if !self.can_be_made(entry) {
                return Err(entry);
            }
            needed.insert(at);
            to_do.extend(&entry.needs);
        }
        Ok(needed)
    }

    /// Adds what stands in the schemas of the tables beside them, as far as it can be made, and names everything that is not
    /// made.
    fn with_them(&self, schemas: &BTreeSet<&str>, wanted: &mut BTreeSet<usize>, left_out: &mut Vec<String>) {
        // A schema that has no table at all, but views of those that move, goes with them as far as these views need it.
        let is_here = |entry: &Entry| {
            let is_view = VIEWS.contains(&entry.kind.as_str()) && !self.catalogue.left.contains(&entry.schema);
            entry.schema == "-" || schemas.contains(entry.schema.as_str()) || is_view
        };
        let is_known = |place: usize, entry: &Entry, wanted: &BTreeSet<usize>| {
            self.made.contains(&place) || wanted.contains(&place) || self.owner(entry).is_some()
        };
        for (place, entry) in self.entries.iter().enumerate() {
            if is_known(place, entry, wanted) {
                continue;
            }
            match entry.kind.as_str() {
                // They go with what they need or belong to, which is named if it is not made. Of a schema its objects are.
                "SCHEMA" => {}
                kind if SMALL.contains(&kind) || self.catalogue.of_views.contains_key(&entry.object) => {}
                // Known only when all is: bodies of functions may call what no catalogue says they need.
                "EXTENSION" => {}
                _ if !is_here(entry) => {}
                kind if WITH_THEM.contains(&kind) || kind == "CAST" && self.of_a_type_here(entry) => {
                    if !self.can_be_made(entry) {
                        left_out.push(format!("{}, which is of tables that do not move", entry.words()));
                        continue;
                    }
                    match self.needed(place) {
                        Ok(needed) => {
                            wanted.extend(needed);
                            wanted.insert(place);
                        }
                        Err(other) => left_out.push(format!("{}, which needs {}", entry.words(), other.words())),
                    }
                }
                _ => left_out.push(entry.words()),
            }
        }
        self.parts_of_views(wanted, left_out);
        let mut elsewhere: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
        for (place, entry) in self.entries.iter().enumerate() {
            let goes_along =
                SMALL.contains(&entry.kind.as_str()) || self.catalogue.of_views.contains_key(&entry.object);
            if is_known(place, entry, wanted) || goes_along {
                continue;
            }
            if entry.kind == "EXTENSION" {
                left_out.push(format!("{}, which none of the tables needs", entry.words()));
            } else if entry.kind != "SCHEMA" && !is_here(entry) {
                let kinds = elsewhere.entry(entry.schema.as_str()).or_default();
                *kinds.entry(entry.kind.to_ascii_lowercase()).or_default() += 1;
            }
        }
        for (schema, kinds) in elsewhere {
            let kinds: Vec<String> = kinds.into_iter().map(|(kind, n)| format!("{n} {kind}")).collect();
            left_out.push(format!("what stands in schema {schema}, of which no table moves: {}", kinds.join(", ")));
        }
    }

    /// Adds the casts from and to types that are wanted: how text becomes a value of one is looked up as soon as its table is
    /// there.
    fn casts(&self, wanted: &mut BTreeSet<usize>) {
        for (place, entry) in self.entries.iter().enumerate() {
            let of = |id: &u32| self.places.get(id).is_some_and(|at| wanted.contains(at) && self.is_type(*at));
            if entry.kind == "CAST"
                && entry.needs.iter().any(of)
                && let Ok(needed) = self.needed(place)
            {
                wanted.extend(needed);
                wanted.insert(place);
            }
        }
    }

    fn is_type(&self, place: usize) -> bool {
        ["TYPE", "DOMAIN"].contains(&self.entries[place].kind.as_str())
    }

    /// Adds what views that are made have of their own: triggers, rules, defaults, indexes.
    fn parts_of_views(&self, wanted: &mut BTreeSet<usize>, left_out: &mut Vec<String>) {
        let views: BTreeMap<u32, usize> = self
            .entries
            .iter()
            .enumerate()
            .filter_map(|(place, entry)| {
                let is_view = VIEWS.contains(&entry.kind.as_str());
                is_view.then_some((entry.object.1, place))
            })
            .collect();
        for (place, entry) in self.entries.iter().enumerate() {
            let of = self.catalogue.of_views.get(&entry.object).and_then(|view| views.get(view));
            let is_made = of.is_some_and(|view| wanted.contains(view) || self.made.contains(view));
            if !is_made || wanted.contains(&place) || self.made.contains(&place) {
                continue;
            }
            if !OF_VIEWS.contains(&entry.kind.as_str()) {
                left_out.push(entry.words());
                continue;
            }
            match self.needed(place) {
                Ok(needed) => {
                    wanted.extend(needed);
                    wanted.insert(place);
                }
                Err(other) => left_out.push(format!("{}, which needs {}", entry.words(), other.words())),
            }
        }
    }

    /// Whether a cast is from or to a type of the database's own: one between two of the server's only a superuser makes.
    fn of_a_type_here(&self, entry: &Entry) -> bool {
        let needs = entry.needs.iter().filter_map(|id| self.places.get(id)).map(|at| self.entries[*at].kind.as_str());
        needs.into_iter().any(|kind| ["TYPE", "DOMAIN", "TABLE", "VIEW"].contains(&kind))
    }

    /// Adds what has no number of its own.
    fn small_ones(&self, wanted: &mut BTreeSet<usize>) {
        for (place, entry) in self.entries.iter().enumerate() {
            if !SMALL.contains(&entry.kind.as_str()) || entry.needs.is_empty() {
                continue;
            }
            // What is there already belongs to somebody else, and only its owner comments on it.
            if ["EXTENSION ", "SCHEMA "].iter().any(|of| entry.name.starts_with(of)) {
                continue;
            }
            let of = |id: &u32| self.places.get(id).is_some_and(|at| wanted.contains(at));
            if entry.needs.iter().all(of) {
                wanted.insert(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Fires;

    fn entry(id: u32, kind: &str, name: &str, needs: &[u32]) -> Entry {
        let (class, oid) = if kind == "COMMENT" { (0, 0) } else { (1, id) };
        let (schema, sql) = ("public".to_owned(), format!("-> {name};"));
        Entry { id, object: (class, oid), needs: needs.to_vec(), name: name.into(), kind: kind.into(), schema, sql }
    }

    #[test]
    fn what_two_tables_need_is_made_once_and_what_cannot_be_made_is_named() {
        let entries = [
            entry(1, "TYPE", "mood", &[]),
            entry(2, "FUNCTION", "touch()", &[]),
            entry(3, "TABLE", "a", &[1]),
            entry(4, "TABLE", "b", &[1]),
            entry(5, "VIEW", "v", &[3]),
            entry(6, "FUNCTION", "of_v()", &[5]),
            entry(7, "COMMENT", "on b", &[4]),
            entry(8, "CONSTRAINT", "a a_pkey", &[3]),
            entry(9, "TRIGGER", "b t", &[2, 4]),
            entry(13, "VIEW", "w", &[3]),
            entry(14, "EXTENSION", "pgcrypto", &[]),
            entry(15, "EXTENSION", "citext", &[]),
            entry(10, "FK CONSTRAINT", "b b_fk", &[4, 3, 8]),
            entry(11, "FUNCTION", "loose()", &[15]),
            entry(12, "DEFAULT", "b d", &[4, 6]),
        ];
        let owners = [(8, 3), (9, 4), (10, 4), (12, 4)].map(|(of, table)| ((1, of), table));
        let later = [
            (9, Later { name: "t".to_owned(), fires: Some(Fires::Always), on: None }),
            (10, Later { name: "b_fk".to_owned(), ..Later::default() }),
        ];
        let (owners, later, beyond) = (owners.into(), later.into(), [(1, 5)].into());
        let catalogue = Catalogue { owners, later, beyond, ..Catalogue::default() };
        let [a, b] = [(3, "a"), (4, "b")].map(|(oid, name)| Chosen {
            oid,
            schema: "public".into(),
            name: name.into(),
            partitions: vec![],
        });
        let parts = by_table(&entries, &[&a, &b], &catalogue);
        let made = |n: usize| parts.tables[n].ddl.strip_prefix(BEGINS).unwrap().replace("\n\n", " ").trim().to_owned();
        assert_eq!(made(0), "-> mood; -> a; -> a a_pkey;");
        assert_eq!(made(1), "-> touch(); -> b; -> on b; -> w; -> citext; -> loose(); -> b d;");
        let names: Vec<&str> = parts.tables[1].after_load.iter().map(AfterLoad::name).collect();
        assert_eq!(names, ["t", "b_fk"]);
        assert!(matches!(parts.tables[1].after_load[0], AfterLoad::Trigger { fires: Fires::Always, .. }));
        assert_eq!(parts.tables[0].unfit, []);
        assert_eq!(parts.tables[1].unfit[0].0, "default public.b d needs view public.v, which does not move");
        let left = [
            "view public.v, which is of tables that do not move",
            "function public.of_v(), which needs view public.v",
            "extension public.pgcrypto, which none of the tables needs",
        ];
        assert_eq!(parts.left_out, left);
    }

    #[test]
    fn views_come_with_what_they_have_partitions_with_their_table_and_whatever_is_not_made_is_named() {
        let of = |schema: &str, mut entry: Entry| {
            entry.schema = schema.to_owned();
            entry
        };
        let entries = [
            entry(1, "TABLE", "a", &[]),
            entry(2, "TABLE", "a_1", &[]),
            Entry { object: (0, 0), ..entry(3, "TABLE ATTACH", "a_1 of a", &[1, 2]) },
            entry(4, "CONSTRAINT", "a a_pkey", &[1]),
            Entry { object: (0, 0), ..entry(5, "INDEX ATTACH", "a_1_pkey", &[1, 2, 4]) },
            entry(6, "FUNCTION", "f()", &[]),
            entry(7, "VIEW", "v", &[1, 4]),
            entry(8, "TRIGGER", "v t", &[7, 6]),
            entry(9, "RULE", "v r", &[7, 20]),
            entry(10, "MATERIALIZED VIEW", "sums", &[7]),
            entry(11, "INDEX", "sums_i", &[10]),
            entry(12, "MATERIALIZED VIEW", "never", &[10]),
            of("-", entry(13, "CAST", "int as x", &[14])),
            entry(14, "TYPE", "x", &[]),
            of("-", entry(15, "CAST", "int as text", &[])),
            entry(16, "OPERATOR CLASS", "ops", &[]),
            of("api", entry(17, "VIEW", "of_a", &[1])),
            of("other", entry(18, "FUNCTION", "g()", &[])),
            of("left", entry(19, "VIEW", "w", &[])),
            entry(20, "SERVER", "far", &[]),
            entry(21, "EXTENSION", "btree_gist", &[]),
            entry(22, "VIEW", "of_b", &[]),
            entry(23, "TRIGGER", "of_b t", &[22]),
        ];
        let catalogue = Catalogue {
            owners: [((1, 4), 1)].into(),
            of_views: [(8, 7), (9, 7), (11, 10), (23, 22)].map(|(part, view)| ((1, part), view)).into(),
            also: [((1, 4), vec![(1, 21)])].into(),
            empty: [12].into(),
            beyond: [(1, 22)].into(),
            left: ["left".to_owned()].into(),
            ..Catalogue::default()
        };
        let a = Chosen { oid: 1, schema: "public".into(), name: "a".into(), partitions: vec![2] };
        let parts = by_table(&entries, &[&a], &catalogue);
        let ddl = parts.tables[0].ddl.strip_prefix(BEGINS).unwrap().replace("\n\n", " ");
        assert_eq!(
            ddl.trim(),
            "-> a; -> a_1; -> a_1 of a; -> a a_pkey; -> a_1_pkey; -> f(); -> v; -> v t; -> sums; -> sums_i; -> never; \
             -> int as x; -> x; -> of_a; -> btree_gist;"
        );
        assert_eq!(parts.tables[0].after_load, [AfterLoad::MaterializedView { name: "public.sums".into() }]);
        let left = [
            "cast int as text",
            "operator class public.ops",
            "server public.far",
            "view public.of_b, which is of tables that do not move",
            "rule public.v r, which needs server public.far",
            "what stands in schema left, of which no table moves: 1 view",
            "what stands in schema other, of which no table moves: 1 function",
        ];
        assert_eq!(parts.left_out, left);
        assert_eq!(parts.tables[0].unfit, []);
    }
}
