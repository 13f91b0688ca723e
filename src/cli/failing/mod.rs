//! Ports that kill the process at a named call: around every place where work may be left half done.
//!
//! `CUTOVER_FAILPOINT=before:target.apply` kills the process before the first call of that name, `after:target.apply`
//! once it has returned, and `after:target.apply#3` once its third call in this process has. The process ends as at a
//! fact ([`crate::engine::failpoint`]). `CUTOVER_FAILPOINT_TRACE=/path` appends the name of each call that was made,
//! as `target.apply#4`, at its 1st, 2nd, 4th, 8th, … time, so that a file of any run stays small. A name is the
//! port's and the method's. Without either variable no port is wrapped.

mod ports;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::engine::failpoint;

/// A port that can be put behind failpoints.
pub trait Failable: Sized {
    /// The same port, wrapped.
    fn wrapped(self) -> Self;
}

/// The port behind failpoints if the environment asks for any around calls, else the port itself.
pub fn failing<P: Failable>(port: P) -> P {
    if calls().is_some() { port.wrapped() } else { port }
}

/// A wrapped port.
struct Failing<P: ?Sized>(Arc<P>);

/// Makes a call, and dies before or after it if that is the place.
async fn around<T>(name: &'static str, call: impl Future<Output = T>) -> T {
    let Some(calls) = calls() else { return call.await };
    let nth = calls.begun(name);
    let answer = call.await;
    calls.die_at(Moment::After, name, nth);
    answer
}

fn calls() -> Option<&'static Calls> {
    static CALLS: OnceLock<Option<Calls>> = OnceLock::new();
    CALLS.get_or_init(Calls::from_environment).as_ref()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

/// A call of this process, before or after which it dies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CallSite {
    moment: Moment,
    name: String,
    /// From 1.
    nth: u64,
}

impl CallSite {
    /// `None` for a place of another kind: a fact.
    fn parse(text: &str) -> Option<Self> {
        let (moment, call) = match text.split_once(':')? {
            ("before", call) => (Moment::Before, call),
            ("after", call) => (Moment::After, call),
            _ => return None,
        };
        let (name, nth) = match call.split_once('#') {
            Some((name, nth)) => (name, nth.parse().ok()?),
            None => (call, 1),
        };
        Some(Self { moment, name: name.to_owned(), nth })
    }
}

/// The calls of this process.
struct Calls {
    wanted: Option<CallSite>,
    trace: Option<File>,
    made: Mutex<BTreeMap<&'static str, u64>>,
}

impl Calls {
    fn from_environment() -> Option<Self> {
        let wanted = std::env::var("CUTOVER_FAILPOINT").ok().and_then(|text| CallSite::parse(&text));
        let trace = std::env::var_os("CUTOVER_FAILPOINT_TRACE")
            .and_then(|path| File::options().create(true).append(true).open(path).ok());
        (wanted.is_some() || trace.is_some()).then(|| Self { wanted, trace, made: Mutex::default() })
    }

    /// Counts and traces a call, and dies before it if that is the place. Gives its number, from 1.
    fn begun(&self, name: &'static str) -> u64 {
        let nth = {
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            let nth = made.entry(name).or_insert(0);
            *nth += 1;
            *nth
        };
        if let Some(mut trace) = self.trace.as_ref().filter(|_| nth.is_power_of_two()) {
            // One write, so that lines of a process that is killed are whole.
            let _ = trace.write_all(format!("{name}#{nth}\n").as_bytes());
        }
        self.die_at(Moment::Before, name, nth);
        nth
    }

    fn die_at(&self, moment: Moment, name: &str, nth: u64) {
        if self.wanted.as_ref().is_some_and(|w| w.moment == moment && w.name == name && w.nth == nth) {
            failpoint::die();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_says_which_call_and_when() {
        let call_site = |moment, name: &str, nth| Some(CallSite { moment, name: name.to_owned(), nth });
        assert_eq!(CallSite::parse("before:target.apply"), call_site(Moment::Before, "target.apply", 1));
        assert_eq!(CallSite::parse("after:items.write#12"), call_site(Moment::After, "items.write", 12));
        for fact in ["intent:switch/reads/1", "decided", "outcome:undo/*", "after:target.apply#x", ""] {
            assert_eq!(CallSite::parse(fact), None, "{fact}");
        }
    }

    #[test]
    fn calls_are_counted_by_name_and_traced_more_and_more_seldom() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let trace = File::options().create(true).append(true).open(&path).unwrap();
        let calls = Calls { wanted: None, trace: Some(trace), made: Mutex::default() };
        let numbers: Vec<u64> = (0..5).map(|_| calls.begun("target.apply")).collect();
        assert_eq!((numbers, calls.begun("source.get")), (vec![1, 2, 3, 4, 5], 1));
        let traced = std::fs::read_to_string(&path).unwrap();
        assert_eq!(traced, "target.apply#1\ntarget.apply#2\ntarget.apply#4\nsource.get#1\n");
    }

    /// A method with a body of its own would be inherited, not passed on: the wrapper would be another port.
    #[test]
    fn every_call_of_every_port_is_passed_on_under_its_name() {
        let traits = [
            include_str!("../../ports/changes.rs"),
            include_str!("../../ports/metrics.rs"),
            include_str!("../../ports/mover.rs"),
            include_str!("../../ports/probe.rs"),
            include_str!("../../ports/restore.rs"),
            include_str!("../../ports/reverse.rs"),
            include_str!("../../ports/source.rs"),
            include_str!("../../ports/switch.rs"),
            include_str!("../../ports/target.rs"),
        ];
        let methods = |text: &str| -> Vec<String> {
            let name = |line: &str| {
                let rest = line.trim().strip_prefix("async ").unwrap_or(line.trim()).strip_prefix("fn ")?;
                Some(rest.split(['(', '<']).next()?.to_owned())
            };
            text.lines().filter_map(name).collect()
        };
        let ours = include_str!("ports.rs");
        let blocks: Vec<&str> = ours.split("\n}\n").collect();
        let mut seen = 0;
        for text in traits {
            for port in text.split("pub trait ").skip(1) {
                let body = port.split("\n}\n").next().unwrap();
                let name = body.split(':').next().unwrap();
                let wrapped =
                    |b: &&&str| b.contains(&format!("\n    {name} as \"")) || b.contains(&format!("impl {name} for "));
                let block = blocks.iter().find(wrapped).unwrap_or_else(|| panic!("{name} is not wrapped"));
                let passed = methods(block);
                for method in methods(body) {
                    assert!(passed.contains(&method), "{name}::{method} is not passed on");
                    seen += 1;
                }
            }
        }
        assert!(seen > 60, "only {seen} methods were found");
    }
}
