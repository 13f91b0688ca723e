//! Each template is a plan in each of its environments, and the day that is rehearsed under its name.

use std::collections::BTreeMap;
use std::path::Path;

use super::{ALL, Template};
use crate::config::{self, Config, load_listed};
use crate::domain::lint::lint;
use crate::domain::plan::{Confirm, StepKind};

/// The environments of every template, and which of them customers use.
const ENVIRONMENTS: [(&str, bool); 3] = [("development", false), ("test", false), ("production", true)];

/// The config of one environment; no variable is set.
fn config(template: &Template, environment: &str) -> Config {
    let read = load_listed(template.name, template.text, Path::new(""), &BTreeMap::new(), Some(environment), None);
    read.unwrap_or_else(|e| panic!("{} {environment}: {e}", template.name))
}

/// Everything that is said of where things are: the plan and the connections.
fn places(config: &Config) -> String {
    format!("{}{:?}", serde_json::to_string(&config.plan).unwrap(), config.connections)
}

#[test]
fn every_template_is_a_plan_in_each_of_its_environments() {
    for template in ALL {
        for (environment, production) in ENVIRONMENTS {
            let plan = config(template, environment).plan;
            let called = (plan.name.as_str(), plan.environment.as_str(), plan.production);
            assert_eq!(called, (template.name, environment, production));
            let findings = lint(&plan);
            assert!(findings.is_empty(), "{} {environment}: {findings:?}", template.name);
        }
    }
}

#[test]
fn no_environment_is_touched_that_is_not_named() {
    for template in ALL {
        let unnamed = config::load_str(template.name, template.text, Path::new(""), &BTreeMap::new());
        let said = unnamed.map(|_| ()).unwrap_err().to_string();
        assert!(said.contains("--env NAME: development, test, production"), "{}: {said}", template.name);
    }
}

#[test]
fn production_names_its_account_and_asks_for_typed_words() {
    for template in ALL {
        let config = config(template, "production");
        assert!(places(&config).contains("111122223333"), "{}: another account would do", template.name);
        for step in &config.plan.steps {
            if matches!(step.kind, StepKind::Freeze | StepKind::Switch { .. }) {
                assert!(matches!(step.confirm, Confirm::Word(_)), "{} {}", template.name, step.id);
            }
        }
    }
}

#[test]
fn what_an_environment_does_not_say_of_itself_names_nothing_of_production() {
    for template in ALL {
        let places = places(&config(template, "test"));
        let of_production = ["-prod", "/prod", "\"prod\"", "111122223333"];
        let found: Vec<_> = of_production.iter().filter(|name| places.contains(**name)).collect();
        assert!(found.is_empty(), "{} test names {found:?}: {places}", template.name);
        // There the names are production's, and all of AWS is one emulator on this machine.
        let places = self::places(&config(template, "development"));
        let elsewhere: Vec<_> = ["amazonaws.com", ".example"].into_iter().filter(|h| places.contains(h)).collect();
        assert!(elsewhere.is_empty(), "{} development reaches {elsewhere:?}: {places}", template.name);
        assert!(places.contains("http://127.0.0.1:4566"), "{}", template.name);
    }
}

/// The plan of a scenario, whatever its variables are.
#[cfg(feature = "rehearsal")]
fn rehearsed(scenario: crate::rehearsal::Scenario) -> std::sync::Arc<crate::domain::plan::Plan> {
    let text = scenario.plan();
    let names = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
    let value = |name: &str| match name.rsplit('_').next() {
        Some("PORT") => "5432".to_owned(),
        Some("ENDPOINT" | "URL") => "http://127.0.0.1:8000".to_owned(),
        Some(_) | None => name.to_lowercase(),
    };
    let vars = names.map(|name| (name.to_owned(), value(name))).collect();
    config::load_str(scenario.file(), &text, Path::new(""), &vars).unwrap_or_else(|e| panic!("{e}")).plan
}

/// What a step does, without the names that each plan has for its own switches, probes and jobs.
#[cfg(feature = "rehearsal")]
fn does(kind: &StepKind) -> String {
    let to = if let StepKind::Switch { to, .. } = kind { format!(" {to:?}") } else { String::new() };
    format!("{} {:?}{to}", kind.name(), kind.gates())
}

#[cfg(feature = "rehearsal")]
#[test]
fn a_template_has_every_step_and_gate_of_the_day_that_is_rehearsed_under_its_name() {
    for scenario in crate::rehearsal::Scenario::ALL {
        let template = super::named(scenario.name()).unwrap_or_else(|| panic!("no template {}", scenario.name()));
        let (plan, day) = (config(template, "production").plan, rehearsed(scenario));
        // The template may have more steps; those of the scenario come in its order, at their times.
        let mut steps = plan.steps.iter();
        for step in &day.steps {
            let found = steps
                .find(|s| s.id == step.id)
                .unwrap_or_else(|| panic!("{}: no step `{}` where the scenario has it", template.name, step.id));
            assert_eq!(does(&found.kind), does(&step.kind), "{} {}", template.name, step.id);
            assert_eq!(found.start, step.start, "{} {}", template.name, step.id);
        }
        for gate in &day.gates {
            assert!(plan.gate(&gate.id).is_some(), "{}: no gate `{}`", template.name, gate.id);
        }
        for table in &day.tables {
            let found = plan.tables.iter().find(|t| t.id == table.id);
            assert_eq!(found, Some(table), "{}: `{}` moves otherwise", template.name, table.id);
        }
        assert!(template.text.contains(&format!("`cutover rehearse {}`", scenario.name())), "{}", template.name);
    }
}
