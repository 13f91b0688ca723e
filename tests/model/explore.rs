//! Breadth first through every state, each once; the shortest way to anything that is wrong.

use std::collections::{HashMap, VecDeque};

use cutover::domain::run::RunStatus;

use super::rules::Broken;
use super::state::{Budget, Shape, State};
use super::turns::Model;

/// What an exploration found.
#[derive(Debug, Default)]
pub struct Exploration {
    /// Different states.
    pub states: usize,
    /// Turns between them.
    pub turns: usize,
    /// States nothing needs to follow.
    pub settled: usize,
    /// What is wrong, with the shortest way there.
    pub wrong: Option<(String, Vec<String>)>,
}

/// Explores everything within a budget of trouble. Stops at the first thing that is wrong.
pub fn explore(broken: Broken, budget: Budget) -> Exploration {
    let model = Model::new(broken);
    let first = model.first(budget);
    let mut numbers: HashMap<Shape, usize> = HashMap::from([(first.shape(), 0)]);
    let mut came: Vec<(usize, String)> = vec![(0, String::new())];
    let mut back: Vec<Vec<usize>> = vec![vec![]];
    let mut settled = Vec::new();
    let mut queue = VecDeque::from([(0, first)]);
    let mut turns = 0;
    let way = |came: &[(usize, String)], mut at: usize| {
        let mut way = Vec::new();
        while at != 0 {
            way.push(came[at].1.clone());
            at = came[at].0;
        }
        way.reverse();
        way
    };
    while let Some((n, state)) = queue.pop_front() {
        let wrong = state.wrong().or_else(|| dead_end(&model, &state));
        if let Some(wrong) = wrong {
            let way = way(&came, n);
            return Exploration { states: numbers.len(), turns, settled: settled.len(), wrong: Some((wrong, way)) };
        }
        if state.settled() {
            settled.push(n);
        }
        for (name, next) in model.next(&state) {
            turns += 1;
            let fresh = numbers.len();
            let to = *numbers.entry(next.shape()).or_insert(fresh);
            if to == fresh {
                came.push((n, name));
                back.push(vec![]);
                queue.push_back((to, next));
            }
            back[to].push(n);
        }
    }
    // From everywhere an end can be reached: walk the turns backwards from the ends.
    let mut reaches = vec![false; came.len()];
    let mut walk = settled.clone();
    while let Some(n) = walk.pop() {
        if !std::mem::replace(&mut reaches[n], true) {
            walk.extend(&back[n]);
        }
    }
    let stuck = reaches.iter().position(|r| !r);
    let wrong = stuck.map(|n| ("no end can be reached from here".to_owned(), way(&came, n)));
    Exploration { states: came.len(), turns, settled: settled.len(), wrong }
}

fn dead_end(model: &Model, state: &State) -> Option<String> {
    let rolling_back = state.run.status == RunStatus::RollingBack;
    (!rolling_back && !model.takes_rollback(state)).then(|| "rollback is refused".to_owned())
}
