//! Tables that move by rule, and what a store said it has when the rule was expanded.
//!
//! The rules stand in the plan beside the tables they gave, so that a table which appears later can be told from one that
//! was never meant to move. What was listed is kept with a run: the same config over the same list is the same plan.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Plan;
use super::store::StoreKind;
use super::table::Column;

/// One rule: every table of a store whose name fits goes to another store, under the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The store tables come from, by name.
    pub from: String,
    /// The store they go to, by name.
    pub to: String,
    /// Patterns of names that move: `public.*`.
    pub include: Vec<String>,
    /// Patterns of names that do not, though they are included.
    pub exclude: Vec<String>,
}

impl Move {
    /// Whether a table of this name moves by this rule.
    #[must_use]
    pub fn takes(&self, name: &str) -> bool {
        self.include.iter().any(|pattern| fits(pattern, name)) && !self.excludes(name)
    }

    /// Whether a pattern says that what has this name does not move.
    #[must_use]
    pub fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|pattern| fits(pattern, name))
    }
}

/// Whether a name fits a pattern: `*` stands for any text, also none, and `?` for one character.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stood, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, taken)) => {
                    (p, n) = (at + 1, taken + 1);
                    star = Some((at, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The name of a table as its store lists it: PostgreSQL knows no table without a schema.
#[must_use]
pub fn listed_name(kind: StoreKind, name: &str) -> String {
    match kind {
        StoreKind::Postgresql if !name.contains('.') => format!("public.{name}"),
        StoreKind::Postgresql | StoreKind::Dynamodb | StoreKind::Aws => name.to_owned(),
    }
}

impl Plan {
    /// The stores that tables come from by rule.
    #[must_use]
    pub fn stores_of_rules(&self) -> BTreeSet<&str> {
        self.moves.iter().map(|rule| rule.from.as_str()).collect()
    }

    /// Of the tables that a store has, those that a rule would take and that neither move nor stay by this plan.
    #[must_use]
    pub fn unplanned(&self, store: &str, names: &[String]) -> Vec<String> {
        let moved = self.tables.iter().filter(|t| t.from == store).map(|t| &t.source);
        let watched = self.stays.iter().filter(|t| t.from == store).map(|t| &t.source);
        let kind = self.kind(store);
        let known: BTreeSet<String> = moved.chain(watched).map(|name| listed_name(kind, name)).collect();
        let takes = |name: &&String| self.moves.iter().any(|rule| rule.from == store && rule.takes(name));
        names.iter().filter(takes).filter(|name| !known.contains(*name)).cloned().collect()
    }
}

/// What the stores said that tables come from by rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// By the name of the store.
    pub stores: BTreeMap<String, Listed>,
}

/// What one store said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// The names of all its tables.
    pub names: Vec<String>,
    /// Those that move by rule, parents before the tables that refer to them.
    pub tables: Vec<ListedTable>,
    /// What belongs to the tables and is not made on the new side, in words: `view public.totals`.
    pub left_out: Vec<String>,
}

/// One table as its store has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListedTable {
    /// Its name: `public.orders`.
    pub name: String,
    /// Its partitions, which move with it: `public.orders_2024`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<String>,
    /// The columns of its key, in order.
    pub key: Vec<String>,
    /// All columns that rows have of their own. A document store names those of the key only.
    pub columns: Vec<Column>,
    /// The attribute by which items expire, where they do.
    pub ttl: Option<String>,
    /// Foreign keys: columns here, and the table they refer to.
    pub references: Vec<(Vec<String>, String)>,
    /// What makes it on the new side, before its rows.
    pub ddl: Option<String>,
    /// What is made once its rows are there.
    pub after_load: Vec<AfterLoad>,
    /// Why it cannot move by rule, each with what to do about it.
    pub unfit: Vec<(String, String)>,
}

/// Something that a table gets once its rows are in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterLoad {
    /// A foreign key. It holds for new rows from the end of the load on, and is proven for all of them when the way back
    /// is armed.
    ForeignKey {
        /// Its name.
        name: String,
        /// The statement that makes it.
        sql: String,
        /// The partition that has it, where it is not the table's: `public.orders_2024`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<String>,
    },
    /// A trigger. It is made disabled, and fires for customers from the moment they are let in.
    Trigger {
        /// Its name.
        name: String,
        /// The statement that makes it.
        sql: String,
        /// When it fires, as the source has it.
        fires: Fires,
        /// The partition that has it, where it is not the table's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<String>,
    },
    /// A materialized view, which is made empty with the last table. It is filled once the rows of all of them are there.
    MaterializedView {
        /// Its name: `public.totals`.
        name: String,
    },
}

/// When a trigger fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fires {
    /// For whoever writes as usual.
    Usually,
    /// For replication too.
    Always,
    /// For replication only.
    Replica,
    /// Never: it is disabled.
    Never,
}

impl Fires {
    /// As `ALTER TABLE` says it.
    #[must_use]
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Usually => "ENABLE",
            Self::Always => "ENABLE ALWAYS",
            Self::Replica => "ENABLE REPLICA",
            Self::Never => "DISABLE",
        }
    }
}

impl AfterLoad {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::ForeignKey { name, .. } | Self::Trigger { name, .. } | Self::MaterializedView { name } => name,
        }
    }

    /// The partition of the table that has it, where the table itself has not.
    #[must_use]
    pub fn on(&self) -> Option<&str> {
        match self {
            Self::ForeignKey { on, .. } | Self::Trigger { on, .. } => on.as_deref(),
            Self::MaterializedView { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, does) in [
            ("public.*", "public.orders", true),
            ("public.*", "publico.orders", false),
            ("*", "anything.at all", true),
            ("*.orders", "shop.orders", true),
            ("*_log_*", "a_log_b_log_c", true),
            ("*_log", "a_log_b", false),
            ("public.order?", "public.orders", true),
            ("public.order?", "public.order", false),
            ("Public.orders", "public.orders", false),
            ("", "", true),
            ("**", "", true),
            ("a*b*c", "aXbYbZc", true),
        ] {
            assert_eq!(fits(pattern, name), does, "{pattern} {name}");
        }
        let rule = Move {
            from: "old".into(),
            to: "new".into(),
            include: vec!["public.*".into()],
            exclude: vec!["public.audit_*".into()],
        };
        assert!(rule.takes("public.orders") && !rule.takes("public.audit_2024") && !rule.takes("shop.orders"));
    }
}
