//! Approvals and votes: named, given from a known terminal, and valid only for what was shown.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::event::{Actor, Evidence};
use super::state::{RunState, StepState, StepStatus};
use crate::domain::at::At;
use crate::domain::plan::{Confirm, Plan, Step, StepKind};

/// Where an approval or a vote came from. The name of who gave it is their own word; this is the kernel's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The OS user of the process that asked.
    pub user: String,
    /// The host.
    pub host: String,
    /// Its terminal: `pts/3`, or `session 4711` for a process without one.
    pub terminal: String,
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vote {
    /// Go on.
    Go,
    /// Do not go on.
    NoGo,
}

/// A second person's approval of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: At,
    /// From where.
    pub origin: Origin,
    /// What they saw, as [`basis`] sums it up. When that changes the approval is void.
    pub basis: String,
    /// Their words.
    pub note: Option<String>,
}

/// A vote as it was cast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ballot {
    /// Who.
    pub by: Actor,
    /// How.
    pub vote: Vote,
    /// When.
    pub at: At,
    /// Position of the fact.
    pub seq: u64,
    /// From where.
    pub origin: Origin,
    /// What they saw.
    pub basis: String,
    /// Their words.
    pub note: Option<String>,
}

/// How a vote stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VoteCount<'s> {
    /// Votes for going on that count.
    pub go: Vec<&'s Ballot>,
    /// Votes against. They count until the same voter votes again, whatever changes.
    pub no_go: Vec<&'s Ballot>,
    /// Votes for going on that were given on other evidence than stands now.
    pub lapsed: Vec<&'s Ballot>,
    /// Voters who have not voted, or whose vote lapsed.
    pub missing: Vec<&'s str>,
    /// Votes for going on that are needed.
    pub quorum: usize,
}

impl VoteCount<'_> {
    /// Whether it is a go.
    #[must_use]
    pub fn is_go(&self) -> bool {
        self.no_go.is_empty() && self.go.len() >= self.quorum
    }
}

impl Vote {
    /// `go` or `no-go`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::NoGo => "no-go",
        }
    }
}

impl Origin {
    /// `alice@bastion-2 pts/3`
    #[must_use]
    pub fn words(&self) -> String {
        format!("{}@{} {}", self.user, self.host, self.terminal)
    }
}

/// Whether two names mean the same person: case, blanks and a host after `@` are ignored.
#[must_use]
pub fn same_person(a: &str, b: &str) -> bool {
    let bare = |name: &str| name.split('@').next().unwrap_or_default().trim().to_lowercase();
    bare(a) == bare(b)
}

/// What somebody who decides on a step now decides on: the plan, the attempt, what every earlier step proved, what
/// the last comparisons found and where the switches stand. 16 hex digits; any change gives another one.
#[must_use]
pub fn basis(state: &RunState, step: &str) -> String {
    let mut sum = Sha256::new();
    let mut add = |part: &str| {
        sum.update((part.len() as u64).to_be_bytes());
        sum.update(part);
    };
    add(&state.plan_hash);
    add(step);
    add(&state.step(step).map_or(0, |s| s.attempts).to_string());
    for s in state.steps.iter().take_while(|s| s.id != step) {
        add(&format!("{} {:?} {}", s.id, s.status, s.attempts));
        for Evidence { name, value, good, .. } in &s.evidence {
            add(&format!("{name}\n{value}\n{good}"));
        }
    }
    for (id, table) in &state.tables {
        add(&format!("{id} {:?}", table.verified.as_ref().map(|(_, v)| v.differing())));
    }
    for (id, switch) in &state.switches {
        add(&format!("{id} {:?} {:?}", switch.standing, switch.captured_version));
    }
    sum.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// The approval that stands for a step as things are now: of somebody who does not drive, on what can be seen now.
#[must_use]
pub fn approval<'s>(state: &'s RunState, step: &str) -> Option<&'s Approval> {
    let now = basis(state, step);
    let all = &state.step(step)?.approvals;
    all.iter().rev().find(|a| a.basis == now && !same_person(a.by.name(), &state.operator))
}

/// Whether a step still lacks its second person.
#[must_use]
pub fn lacks_second(state: &RunState, step: &Step) -> bool {
    step.two_person && approval(state, &step.id).is_none()
}

/// Whether the run waits for nothing but a second person, whom only another terminal can bring.
#[must_use]
pub fn waits_for_second(plan: &Plan, state: &RunState) -> bool {
    let Some(s) = state.current().and_then(|i| state.steps.get(i)) else { return false };
    let Some(step) = plan.step(&s.id) else { return false };
    s.status == StepStatus::Held && confirmed(step, s) && lacks_second(state, step)
}

/// Whether a step has what it asks of the person who drives.
pub(super) fn confirmed(step: &Step, s: &StepState) -> bool {
    s.confirmed.is_some() || (step.confirm == Confirm::None && !matches!(step.kind, StepKind::Manual { .. }))
}

/// What a step that lacks its second person says.
#[must_use]
pub fn second_person_words(state: &RunState, step: &str) -> String {
    let void = state.step(step).and_then(|s| s.approvals.last());
    let void = void.map(|a| match same_person(a.by.name(), &state.operator) {
        true => format!("; {} drives now and does not count", a.by.name()),
        false => format!("; the approval of {} is void, what it rested on has changed", a.by.name()),
    });
    format!("waits for a second person: cutover approve {} {step}{}", state.run, void.unwrap_or_default())
}

/// Counts the votes on a go/no-go step. A vote to go on lapses when the attempt or what earlier steps proved changes,
/// and when one of the step's gates was broken after it.
#[must_use]
pub fn tally<'s>(plan: &'s Plan, state: &'s RunState, step: &str) -> VoteCount<'s> {
    let mut tally = VoteCount::default();
    let Some(StepKind::GoNoGo { gates, voters, quorum }) = plan.step(step).map(|s| &s.kind) else { return tally };
    tally.quorum = *quorum as usize;
    let now = basis(state, step);
    let broken = gates.iter().filter_map(|g| state.gates.get(g)).map(|g| g.broken_seq).max().unwrap_or(0);
    let ballots = state.step(step).map_or(&[][..], |s| s.votes.as_slice());
    for voter in voters {
        match ballots.iter().rev().find(|b| same_person(b.by.name(), voter)) {
            Some(b) if b.vote == Vote::NoGo => tally.no_go.push(b),
            Some(b) if b.basis == now && b.seq > broken => tally.go.push(b),
            Some(b) => {
                tally.lapsed.push(b);
                tally.missing.push(voter);
            }
            None => tally.missing.push(voter),
        }
    }
    tally
}

/// Each vote that counts or lapsed, and how many are needed, as evidence. `now` is the wall clock.
#[must_use]
pub fn vote_evidence(tally: &VoteCount<'_>, now: At) -> Vec<Evidence> {
    if tally.quorum == 0 && tally.missing.is_empty() && tally.no_go.is_empty() {
        return Vec::new();
    }
    let of = |b: &Ballot, good: bool, lapsed: bool| Evidence {
        name: format!("vote of {}", b.by.name()),
        value: match (lapsed, &b.note) {
            (true, _) => "go, lapsed: the evidence changed after it".to_owned(),
            (false, Some(note)) => format!("{}: {note}", b.vote.name().to_uppercase()),
            (false, None) => b.vote.name().to_uppercase(),
        },
        at: b.at,
        source: format!("from {}", b.origin.words()),
        good,
    };
    let mut all: Vec<Evidence> = tally.no_go.iter().map(|b| of(b, false, false)).collect();
    all.extend(tally.go.iter().map(|b| of(b, true, false)));
    all.extend(tally.lapsed.iter().map(|b| of(b, false, true)));
    let lacks = if tally.missing.is_empty() { String::new() } else { format!(", not: {}", tally.missing.join(", ")) };
    all.push(Evidence {
        name: "votes to go".to_owned(),
        value: format!("{} of {} needed{lacks}", tally.go.len(), tally.quorum),
        at: now,
        source: "facts `voted` of this attempt".to_owned(),
        good: tally.is_go(),
    });
    all
}
