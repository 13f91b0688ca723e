//! What a contestant measured, medians over runs, and the ratios that are the answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One contestant's run, as its process prints it on its last line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Rows, changes or frames that were worked through.
    pub rows: u64,
    /// Wall time of the work itself.
    pub seconds: f64,
    /// Processor time of this process alone, start to end; absent where the system does not report it.
    pub cpu_seconds: Option<f64>,
    /// Most resident memory of this process in megabytes.
    pub rss_mb: Option<f64>,
    /// Further figures by name.
    #[serde(default)]
    pub more: BTreeMap<String, f64>,
}

impl Sample {
    /// Work done since `began`, with this process's own costs.
    pub(super) fn since(began: std::time::Instant, rows: u64) -> Self {
        let seconds = began.elapsed().as_secs_f64();
        Self { rows, seconds, cpu_seconds: cpu_seconds(), rss_mb: rss_mb(), more: BTreeMap::new() }
    }

    fn rate(&self) -> f64 {
        self.rows as f64 / self.seconds.max(1e-9)
    }

    fn per_cpu(&self) -> Option<f64> {
        Some(self.rows as f64 / self.cpu_seconds?.max(1e-9))
    }
}

/// Processor time this process has used, user and system.
pub(super) fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name may hold spaces; fields are counted after its closing parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

fn rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

/// All runs of one bench.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Which bench: `load`.
    pub bench: String,
    /// What was compared, in words.
    pub about: String,
    /// Contestants in the order they ran, each with all its runs.
    pub contestants: Vec<(String, Vec<Sample>)>,
    /// The answers.
    pub ratios: Vec<Ratio>,
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// What was measured.
    pub what: String,
    /// Against what.
    pub against: String,
    /// The measured ratio or figure.
    pub value: f64,
    /// The goal; negative numbers are upper bounds.
    pub goal: f64,
    /// Its unit: `x`, `ms`, `%`.
    pub unit: &'static str,
}

impl Ratio {
    /// Whether the goal is met.
    #[must_use]
    pub fn met(&self) -> bool {
        if self.goal < 0.0 { self.value <= -self.goal } else { self.value >= self.goal }
    }
}

/// The middle value; of an even number the lower middle one.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    values.get(middle).copied()
}

impl Report {
    /// An empty report.
    pub(super) fn new(bench: &str, about: impl Into<String>) -> Self {
        Self { bench: bench.to_owned(), about: about.into(), ..Self::default() }
    }

    /// Adds one run of a contestant.
    pub(super) fn add(&mut self, name: &str, sample: Sample) {
        match self.contestants.iter_mut().find(|(known, _)| known == name) {
            Some((_, runs)) => runs.push(sample),
            None => self.contestants.push((name.to_owned(), vec![sample])),
        }
    }

    /// The median of a figure over a contestant's runs.
    pub(super) fn median(&self, name: &str, figure: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let (_, runs) = self.contestants.iter().find(|(known, _)| known == name)?;
        median(runs.iter().filter_map(figure).collect())
    }

    /// Median rows a second of one contestant over those of another.
    pub(super) fn compare(&mut self, ours: &str, other: &str, goal: f64) {
        let rate = |name: &str| self.median(name, |s| Some(s.rate()));
        if let (Some(a), Some(b)) = (rate(ours), rate(other)) {
            self.answer(ours, other, a / b, goal, "x");
        }
    }

    /// The same per second of processor time.
    pub(super) fn compare_cpu(&mut self, ours: &str, other: &str, goal: f64) {
        let rate = |name: &str| self.median(name, Sample::per_cpu);
        if let (Some(a), Some(b)) = (rate(ours), rate(other)) {
            self.answer(&format!("{ours}, per CPU second"), other, a / b, goal, "x");
        }
    }

    /// A figure that is an answer by itself.
    pub(super) fn answer(&mut self, what: &str, against: &str, value: f64, goal: f64, unit: &'static str) {
        self.ratios.push(Ratio { what: what.to_owned(), against: against.to_owned(), value, goal, unit });
    }

    /// As a table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!("{}: {}\n\n", self.bench, self.about);
        let shown = |x: Option<f64>, digits: usize| x.map_or_else(|| "-".to_owned(), |x| format!("{x:.digits$}"));
        let _ = writeln!(
            out,
            "  {:<34} {:>5} {:>12} {:>10} {:>14} {:>9}",
            "contestant", "runs", "per second", "seconds", "per CPU second", "RSS MB"
        );
        for (name, runs) in &self.contestants {
            let _ = writeln!(
                out,
                "  {name:<34} {:>5} {:>12} {:>10} {:>14} {:>9}",
                runs.len(),
                shown(self.median(name, |s| Some(s.rate())), 0),
                shown(self.median(name, |s| Some(s.seconds)), 3),
                shown(self.median(name, Sample::per_cpu), 0),
                shown(self.median(name, |s| s.rss_mb), 0),
            );
        }
        let _ = writeln!(out, "\n  {:<44} {:<34} {:>10} {:>10}", "ratio", "against", "measured", "at least");
        for r in &self.ratios {
            let goal = if r.goal < 0.0 { format!("<= {:.2}", -r.goal) } else { format!("{:.2}", r.goal) };
            let mark = if r.met() { "met" } else { "MISSED" };
            let _ =
                writeln!(out, "  {:<44} {:<34} {:>8.2}{:<2} {goal:>10}  {mark}", r.what, r.against, r.value, r.unit);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians_and_bounds_work_both_ways() {
        let mut report = Report::new("load", "a test");
        for (name, rates) in [("ours", [90, 100, 1]), ("limit", [100, 1000, 100])] {
            for rows in rates {
                report.add(name, Sample { rows, seconds: 1.0, ..Sample::default() });
            }
        }
        report.compare("ours", "limit", 0.9);
        assert!((report.ratios[0].value - 0.9).abs() < 1e-9 && report.ratios[0].met());
        report.answer("p50", "poll", 12.0, -10.0, "ms");
        assert!(!report.ratios[1].met());
        assert!(report.table().contains("MISSED"));
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0]), Some(1.0));
    }
}
