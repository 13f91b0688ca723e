//! Which kinds of store this build has: one cargo feature each.

use super::super::exit::Exit;
use super::super::failure::Failure;
use crate::config::{Connections, StoreConnection};
use crate::domain::plan::StoreKind;
use crate::ports::{ErrorKind, PortError};

/// The feature that brings a kind of store, and whether this build has it. The control plane is in every build.
const fn built(kind: StoreKind) -> (&'static str, bool) {
    match kind {
        StoreKind::Dynamodb => ("dynamodb", cfg!(feature = "dynamodb")),
        StoreKind::Postgresql => ("postgresql", cfg!(feature = "postgresql")),
        StoreKind::Aws => ("", true),
    }
}

/// That this build lacks a kind of store, with what to do.
pub(super) fn not_built(kind: StoreKind) -> PortError {
    let (feature, _) = built(kind);
    PortError::new(ErrorKind::Invalid, "reach", format!("a store of kind {feature}"), "this build has no such stores")
        .advise(format!(
            "use a build with them: cargo build --features {feature} (without other flags every kind is in)"
        ))
}

/// Refuses a config that names stores which this build lacks.
///
/// # Errors
/// In words, each of them by name.
pub fn all_built(connections: &Connections) -> Result<(), Failure> {
    let mut lacks: Vec<String> = Vec::new();
    let mut stores = connections.sources();
    stores.extend(connections.targets.clone());
    for (name, at) in stores {
        let kind = match at {
            StoreConnection::Dynamodb(_) => StoreKind::Dynamodb,
            StoreConnection::Postgresql(_) => StoreKind::Postgresql,
        };
        if !built(kind).1 {
            lacks.push(format!("the store {name}: {}", not_built(kind)));
        }
    }
    if lacks.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Config, lacks.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_a_build_is_refused_with_the_feature_that_brings_it() {
        let said = not_built(StoreKind::Postgresql).to_string();
        assert!(said.contains("--features postgresql") && said.contains("a store of kind postgresql"), "{said}");
        let text = "name = \"a\"\nproduction = false\n\
             [stores.old]\nkind = \"dynamodb\"\nregion = \"us-east-1\"\n\
             [stores.new]\nkind = \"postgresql\"\nhost = \"h\"\ndatabase = \"d\"\nuser = \"u\"\n";
        let started = crate::config::started(
            "c.toml",
            text,
            std::path::Path::new(""),
            &std::collections::BTreeMap::new(),
            None,
            ("old", "new"),
        );
        let connections = started.unwrap().connections;
        match all_built(&connections) {
            Ok(()) => assert!(built(StoreKind::Dynamodb).1 && built(StoreKind::Postgresql).1),
            Err(failure) => {
                assert_eq!(failure.exit, Exit::Config);
                let words = failure.words();
                for (store, kind) in [("old", StoreKind::Dynamodb), ("new", StoreKind::Postgresql)] {
                    assert_eq!(words.contains(&format!("the store {store}: ")), !built(kind).1, "{words}");
                }
            }
        }
    }
}
