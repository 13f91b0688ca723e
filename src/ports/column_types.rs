//! What the types of columns are made of, where only the database knows them.

use std::collections::BTreeMap;

/// The types of a table's columns that only the database knows, as one side has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnTypes {
    /// By the column's name: the type with its limits, without its schema: `mood`, `character(2)`.
    pub columns: BTreeMap<String, String>,
    /// What each type that people made is made of, by its name without its schema; also those that others are made of.
    pub made: BTreeMap<String, MadeOf>,
}

/// What a type that people made is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeOf {
    /// An enum, by its labels in order.
    Enum(Vec<String>),
    /// A domain, by its base type.
    Domain(String),
    /// A composite type, by its fields in order, each with its type.
    Composite(Vec<String>),
    /// A range, by the type of its bounds.
    Range(String),
}

impl ColumnTypes {
    /// Why values of the source's column `from` cannot stand in the target's column `to`, each with what to do. Nothing
    /// where either side does not know the column.
    #[must_use]
    pub fn differences(&self, from: &str, target: &Self, to: &str) -> Vec<(String, String)> {
        let (Some(here), Some(there)) = (self.columns.get(from), target.columns.get(to)) else { return Vec::new() };
        if here != there {
            let wrong = format!("{to} is {there}, and {from} is {here} at the source");
            return vec![(wrong, "give both columns the same type, with the same limits".to_owned())];
        }
        // Both are of types by the same names; so all that either is made of is looked at.
        self.made.iter().filter_map(|(name, made)| made.lacks(name, target.made.get(name)?)).collect()
    }
}

impl ColumnTypes {
    /// Enums of the source's column `from` whose labels the target's column `to` has in another order, by name, each with
    /// the order of the source.
    #[must_use]
    pub fn other_orders(&self, from: &str, target: &Self, to: &str) -> Vec<(String, String)> {
        if !self.columns.contains_key(from) || self.columns.get(from) != target.columns.get(to) {
            return Vec::new();
        }
        let other = |(name, made): (&String, &MadeOf)| match (made, target.made.get(name)?) {
            (MadeOf::Enum(labels), MadeOf::Enum(known)) => {
                let shared: Vec<&String> = known.iter().filter(|label| labels.contains(label)).collect();
                let order: Vec<&String> = labels.iter().filter(|label| known.contains(label)).collect();
                (shared != order).then(|| (name.clone(), labels.join(", ")))
            }
            _ => None,
        };
        self.made.iter().filter_map(other).collect()
    }
}

impl MadeOf {
    /// What a type of the same name lacks that this one has.
    fn lacks(&self, name: &str, there: &Self) -> Option<(String, String)> {
        match (self, there) {
            (Self::Enum(labels), Self::Enum(known)) => {
                let quoted = |label: &String| format!("'{}'", label.replace('\'', "''"));
                let missing: Vec<String> = labels.iter().filter(|l| !known.contains(l)).map(quoted).collect();
                let add: Vec<String> = missing.iter().map(|l| format!("ALTER TYPE {name} ADD VALUE {l}")).collect();
                (!missing.is_empty()).then(|| {
                    (format!("the enum {name} lacks labels of the source: {}", missing.join(", ")), add.join("; "))
                })
            }
            (one, other) if one == other => None,
            (one, other) => Some((
                format!("the type {name} is {}, and {} at the source", other.words(), one.words()),
                "make both the same".to_owned(),
            )),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Enum(labels) => format!("an enum of {} labels", labels.len()),
            Self::Domain(base) => format!("a domain over {base}"),
            Self::Composite(fields) => format!("composed of ({})", fields.join(", ")),
            Self::Range(bounds) => format!("a range of {bounds}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(column: &str, ty: &str, made: &[(&str, MadeOf)]) -> ColumnTypes {
        ColumnTypes {
            columns: BTreeMap::from([(column.to_owned(), ty.to_owned())]),
            made: made.iter().map(|(name, made)| ((*name).to_owned(), made.clone())).collect(),
        }
    }

    fn labels(labels: &[&str]) -> MadeOf {
        MadeOf::Enum(labels.iter().map(|l| (*l).to_owned()).collect())
    }

    #[test]
    fn what_differs_is_told_with_what_to_do() {
        let source = types("how", "mood", &[("mood", labels(&["so so", "it's fine"]))]);
        let same = types("kind", "mood", &[("mood", labels(&["new", "it's fine", "so so"]))]);
        assert_eq!(source.differences("how", &same, "kind"), []);
        let order = source.other_orders("how", &same, "kind");
        assert_eq!(order, [("mood".to_owned(), "so so, it's fine".to_owned())]);
        let between = types("kind", "mood", &[("mood", labels(&["so so", "new", "it's fine"]))]);
        assert_eq!(source.other_orders("how", &between, "kind"), [], "a label between them changes no order");
        let lacks = types("kind", "mood", &[("mood", labels(&["so so"]))]);
        let found = source.differences("how", &lacks, "kind");
        assert_eq!(
            found,
            [(
                "the enum mood lacks labels of the source: 'it''s fine'".to_owned(),
                "ALTER TYPE mood ADD VALUE 'it''s fine'".to_owned()
            )]
        );
        let other = types("kind", "character(2)", &[]);
        assert!(source.differences("how", &other, "kind")[0].0.contains("character(2)"));
        let domain = types("kind", "mood", &[("mood", MadeOf::Domain("text".into()))]);
        assert!(source.differences("how", &domain, "kind")[0].0.contains("a domain over text"));
        assert_eq!(ColumnTypes::default().differences("how", &same, "kind"), []);
    }
}
