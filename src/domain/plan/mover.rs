//! Who moves the rows of a table, where it is not the console itself.

use serde::{Deserialize, Serialize};

use super::Plan;
use super::table::Table;

/// What moves rows in place of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoverKind {
    /// The logical subscription of the target's own PostgreSQL server to the source.
    Subscription,
}

impl MoverKind {
    /// Every kind.
    pub const ALL: [Self; 1] = [Self::Subscription];

    /// The kind as the config writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
        }
    }

    /// What a mover of this kind between two stores is called, in facts, on the screen and among the ports.
    #[must_use]
    pub fn between(self, from: &str, to: &str) -> String {
        format!("{}-{from}-{to}", self.name())
    }
}

/// The tables that one mover moves: of one kind, from one store to another.
#[derive(Clone, Debug, PartialEq)]
pub struct MoverOf {
    /// What it is.
    pub kind: MoverKind,
    /// The store its tables come from, by name.
    pub from: String,
    /// The store they go to, by name.
    pub to: String,
    /// The tables, in the plan's order.
    pub tables: Vec<Table>,
}

impl MoverOf {
    /// What it is called: no other mover of the plan is called so.
    #[must_use]
    pub fn name(&self) -> String {
        self.kind.between(&self.from, &self.to)
    }
}

impl Plan {
    /// The movers of the plan, each with its tables. None where the console moves every table itself.
    #[must_use]
    pub fn movers(&self) -> Vec<MoverOf> {
        let mut movers: Vec<MoverOf> = Vec::new();
        for table in &self.tables {
            let Some(kind) = table.mover else { continue };
            let ends = |m: &&mut MoverOf| m.kind == kind && m.from == table.from && m.to == table.to;
            match movers.iter_mut().find(ends) {
                Some(mover) => mover.tables.push(table.clone()),
                None => movers.push(MoverOf {
                    kind,
                    from: table.from.clone(),
                    to: table.to.clone(),
                    tables: vec![table.clone()],
                }),
            }
        }
        movers
    }

    /// The tables that the console moves itself.
    pub fn own_tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(|table| table.mover.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_written_as_the_config_says_it() {
        for kind in MoverKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
    }
}
