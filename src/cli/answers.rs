//! `--answer STEP=NAME`: who is responsible for a step that a person does or decides.

use std::collections::BTreeMap;

use super::exit::Exit;
use super::failure::Failure;
use crate::domain::plan::{Plan, Step, StepKind};
use crate::domain::run::same_person;

/// The names given for each step, in the order they were given.
///
/// # Errors
/// [`Exit::Usage`] when an answer has no `=`, names no step of the plan, names nobody, or names somebody who has no
/// vote on the step.
pub fn parse(given: &[String], plan: &Plan) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in given {
        let (step, name) =
            answer(text, plan).map_err(|e| Failure::new(Exit::Usage, format!("--answer {text}: {e}")))?;
        answers.entry(step.id.clone()).or_default().push(name.to_owned());
    }
    Ok(answers)
}

fn answer<'t, 'p>(text: &'t str, plan: &'p Plan) -> Result<(&'p Step, &'t str), String> {
    let (id, name) = text.split_once('=').ok_or("write STEP=NAME: the step's id, and who answers for it")?;
    let name = name.trim();
    let step = plan.step(id).ok_or_else(|| {
        let near = super::nearest(id, plan.steps.iter().map(|s| s.id.as_str()));
        format!("the plan has no such step{}", near.map_or_else(String::new, |near| format!("; did you mean {near}?")))
    })?;
    if same_person(name, "") || name.chars().any(char::is_control) {
        return Err("it needs the name of a person".to_owned());
    }
    if let StepKind::GoNoGo { voters, .. } = &step.kind
        && !voters.is_empty()
        && !voters.iter().any(|v| same_person(v, name))
    {
        return Err(format!("{name} has no vote on {id}; voters: {}", voters.join(", ")));
    }
    Ok((step, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let text = include_str!("../../assets/rehearsal.toml")
            .replacen("gates = [\"go\"]\n", "gates = [\"go\"]\nvoters = [\"bob\", \"carol\"]\n", 1)
            .replace("\"${PG_PORT}\"", "5432");
        let names = text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.to_owned());
        let vars = names.map(|name| (name, "http://127.0.0.1:1".to_owned())).collect();
        let config = crate::config::load_str("c.toml", &text, std::path::Path::new(""), &vars).unwrap();
        Plan::clone(&config.plan)
    }

    #[test]
    fn an_answer_names_a_step_and_somebody_who_may_give_it() {
        let given = |all: &[&str]| parse(&all.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>(), &plan());
        let answers = given(&["review=dora", "go-no-go=bob", "go-no-go=Carol"]).unwrap();
        assert_eq!(answers["review"], ["dora"]);
        assert_eq!(answers["go-no-go"], ["bob", "Carol"]);
        for (wrong, wanted) in [
            ("review", "write STEP=NAME"),
            ("reviews=dora", "did you mean review?"),
            ("review=", "needs the name of a person"),
            ("review=a\u{1b}[2J", "needs the name of a person"),
            ("go-no-go=eve", "eve has no vote on go-no-go; voters: bob, carol"),
        ] {
            let failure = given(&[wrong]).expect_err(wrong);
            assert!(failure.exit == Exit::Usage && failure.words().contains(wanted), "{}", failure.words());
        }
    }
}
