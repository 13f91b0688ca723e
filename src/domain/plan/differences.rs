//! In what one DynamoDB table is not made as another one is.

use std::collections::BTreeMap;

use super::definition::{BillingMode, Definition, Index, OnDemandThroughput, Projection, ProvisionedThroughput};

/// One way in which a table is not as the source has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionDifference {
    /// What differs, beginning with what it is: `index by-email is not there`.
    pub words: String,
    /// What to do about it.
    pub advice: String,
    /// Whether customers would miss it: queries fail, or find less. Otherwise it is only said.
    pub blocks: bool,
}

impl Definition {
    /// In what `there` is not like this one. Keys of the tables are not looked at: the plan has them, and both sides are
    /// held against it. Indexes in `left_out` are not missed.
    #[must_use]
    pub fn differences(&self, there: &Self, left_out: &[String]) -> Vec<DefinitionDifference> {
        let mut found = Vec::new();
        for (index, local) in self.indexes().filter(|(index, _)| !left_out.contains(&index.index_name)) {
            self.of_an_index(there, index, local, &mut found);
        }
        for (index, _) in there.indexes() {
            if !self.indexes().any(|(ours, _)| ours.index_name == index.index_name) {
                let words = format!("index {} is not at the source: writes pay for it too", index.index_name);
                found.push(said(words, "drop it if nobody reads by it"));
            }
        }
        let capacity = |of: &Self| {
            let reserved = of.provisioned_throughput.map(reserved_words);
            let limits = of.on_demand_throughput.map(limit_words);
            match of.billing_mode {
                BillingMode::PayPerRequest => {
                    limits.map_or_else(|| "on demand".to_owned(), |l| format!("on demand, {l}"))
                }
                BillingMode::Provisioned => reserved.unwrap_or_else(|| "reserved".to_owned()),
            }
        };
        let class = |of: &Self| of.table_class.clone().unwrap_or_else(|| "STANDARD".to_owned());
        let encrypted = |of: &Self| match &of.encryption {
            Some(encryption) if encryption.enabled => "by KMS".to_owned(),
            _ => "by a key that AWS owns".to_owned(),
        };
        let yes_no = |yes: bool| if yes { "on" } else { "off" }.to_owned();
        let tags = |of: &Self| {
            let all: BTreeMap<&str, &str> = of.tags.iter().map(|t| (t.key.as_str(), t.value.as_str())).collect();
            let all: Vec<String> = all.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        for (what, source, here) in [
            ("capacity", capacity(self), capacity(there)),
            ("table class", class(self), class(there)),
            ("encryption", encrypted(self), encrypted(there)),
            (
                "deletion protection",
                yes_no(self.deletion_protection_enabled),
                yes_no(there.deletion_protection_enabled),
            ),
            ("point-in-time recovery", yes_no(self.is_recoverable()), yes_no(there.is_recoverable())),
            ("tags", tags(self), tags(there)),
        ] {
            if source != here {
                found.push(said(format!("{what}: {here}, at the source {source}"), "change it if it is not meant"));
            }
        }
        found.extend(self.of_expiry(there));
        found
    }

    fn of_an_index(&self, there: &Self, index: &Index, local: bool, found: &mut Vec<DefinitionDifference>) {
        let name = &index.index_name;
        let anew =
            if local { "a local index is made with its table only: make the table anew" } else { "make it there" };
        let accept = format!("or accept it: leave_out = [\"{name}\"] in the table's section under [[tables]]");
        let blocks = |words: String| DefinitionDifference { words, advice: format!("{anew}, {accept}"), blocks: true };
        let same = there.indexes().find(|(other, is_local)| other.index_name == *name && *is_local == local);
        let Some((other, _)) = same else {
            let kind = if local { "local index" } else { "index" };
            found.push(blocks(format!("{kind} {name} of the source is not there: queries by it would fail")));
            return;
        };
        let (key, its_key) = (self.typed(&index.key_schema), there.typed(&other.key_schema));
        if key != its_key {
            let words = |key: &[(&str, &str)]| {
                key.iter().map(|(name, ty)| format!("{name} {ty}")).collect::<Vec<_>>().join(", ")
            };
            found.push(blocks(format!(
                "index {name} has the key ({}), at the source ({})",
                words(&its_key),
                words(&key)
            )));
        }
        let (wanted, has) = (&index.projection, &other.projection);
        if !covers(has, wanted) {
            found.push(blocks(format!(
                "index {name} holds {}, at the source {}: queries by it would find less",
                projection_words(has),
                projection_words(wanted)
            )));
        } else if !covers(wanted, has) {
            let words =
                format!("index {name} holds {}, at the source {}", projection_words(has), projection_words(wanted));
            found.push(said(words, "that loses nothing and costs more"));
        }
        let capacity = |of: &Index| {
            let reserved = of.provisioned_throughput.map(reserved_words);
            reserved.or_else(|| of.on_demand_throughput.map(limit_words)).unwrap_or_else(|| "on demand".to_owned())
        };
        if !local && capacity(index) != capacity(other) {
            let words = format!("capacity of index {name}: {}, at the source {}", capacity(other), capacity(index));
            found.push(said(words, "change it if it is not meant"));
        }
    }

    fn of_expiry(&self, there: &Self) -> Option<DefinitionDifference> {
        let attribute = self.expires_by()?;
        // One that is on there stops the run until it is off.
        there.expires_by().is_none().then(|| {
            let words = format!(
                "items expire by {attribute} at the source and not here, so that none goes while sides are compared"
            );
            said(
                words,
                "it is turned on at the thaw where a run made the table; otherwise turn it on once the run has ended",
            )
        })
    }
}

fn said(words: String, advice: &str) -> DefinitionDifference {
    DefinitionDifference { words, advice: advice.to_owned(), blocks: false }
}

fn reserved_words(of: ProvisionedThroughput) -> String {
    format!("{} read and {} write units", of.read_capacity_units, of.write_capacity_units)
}

fn limit_words(of: OnDemandThroughput) -> String {
    let limit = |n: Option<i64>| n.filter(|n| *n >= 0).map_or_else(|| "any".to_owned(), |n| n.to_string());
    format!("at most {} read and {} write units", limit(of.max_read_request_units), limit(of.max_write_request_units))
}

/// Whether an index of the first kind holds everything that one of the second kind does.
fn covers(has: &Projection, wanted: &Projection) -> bool {
    match (has.projection_type.as_str(), wanted.projection_type.as_str()) {
        ("ALL", _) | (_, "KEYS_ONLY") => true,
        ("INCLUDE", "INCLUDE") => wanted.non_key_attributes.iter().all(|name| has.non_key_attributes.contains(name)),
        (_, _) => false,
    }
}

fn projection_words(of: &Projection) -> String {
    match of.projection_type.as_str() {
        "ALL" => "all attributes".to_owned(),
        "KEYS_ONLY" => "keys only".to_owned(),
        _ => format!("keys and {}", of.non_key_attributes.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::tests::DDL;
    use super::super::definition::{Encryption, PointInTimeRecovery, Tag};
    use super::*;

    #[test]
    fn what_customers_would_miss_blocks_and_the_rest_is_said() {
        let source = Definition::read(DDL).unwrap();
        let told = |there: &Definition, left_out: &[String]| {
            let all = source.differences(there, left_out);
            all.into_iter().map(|d| (d.blocks, d.words)).collect::<Vec<_>>()
        };
        assert_eq!(told(&source, &[]), []);
        let none = source.clone().without(&["by-email".to_owned()]);
        let missing = told(&none, &[]);
        assert!(missing.len() == 1 && missing[0].0 && missing[0].1.contains("by-email of the source is not there"));
        assert_eq!(told(&none, &["by-email".to_owned()]), []);

        let mut less = source.clone();
        less.global_secondary_indexes[0].projection =
            Projection { projection_type: "KEYS_ONLY".to_owned(), non_key_attributes: Vec::new() };
        assert!(matches!(&told(&less, &[])[..], [(true, words)] if words.contains("would find less")));
        less.global_secondary_indexes[0].projection.projection_type = "ALL".to_owned();
        assert!(matches!(&told(&less, &[])[..], [(false, words)] if words.contains("all attributes")));
        let mut other = source.clone();
        other.attribute_definitions[1].attribute_type = "N".to_owned();
        assert!(
            matches!(&told(&other, &[])[..], [(true, words)] if words.contains("(email N), at the source (email S)"))
        );

        let paid = Definition {
            billing_mode: BillingMode::Provisioned,
            provisioned_throughput: Some(ProvisionedThroughput { read_capacity_units: 5, write_capacity_units: 6 }),
            tags: vec![Tag { key: "team".to_owned(), value: "shop".to_owned() }],
            encryption: Some(Encryption::kms(None)),
            deletion_protection_enabled: true,
            time_to_live_specification: None,
            point_in_time_recovery_specification: Some(PointInTimeRecovery { point_in_time_recovery_enabled: true }),
            ..source.clone()
        };
        let all = told(&paid, &[]);
        assert!(all.iter().all(|(blocks, _)| !blocks), "{all:?}");
        for wanted in
            ["5 read and 6 write units", "by KMS", "team=shop", "protection: on", "recovery: on", "expire by until"]
        {
            assert!(all.iter().any(|(_, words)| words.contains(wanted)), "{wanted}: {all:?}");
        }
    }
}
