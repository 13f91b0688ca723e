//! Where switches with positions stand, and who serves what: derived from what was read back of each place, never kept beside
//! it.

use super::state::{RunState, SwitchStatus};
use crate::domain::at::At;
use crate::domain::plan::{Dial, Plan, Serves, SignalSource, Step};

/// Where a dial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Every place was read back in this position, counted from 0.
    At(usize),
    /// Its places stand in several positions: the lowest and the highest.
    Between(usize, usize),
    /// Of some place nobody knows.
    Unknown,
}

impl RunState {
    /// Where a dial stands. One that this run has not touched stands in its first position, which the arm step proves.
    #[must_use]
    pub fn stands(&self, dial: &Dial) -> Stands {
        let mut all = Vec::with_capacity(dial.places.len());
        for place in &dial.places {
            let Some(switch) = self.switches.get(place) else {
                all.push(0);
                continue;
            };
            let at = match switch.standing {
                SwitchStatus::Unknown => None,
                SwitchStatus::Old | SwitchStatus::Restored => Some(0),
                SwitchStatus::New => switch.position.as_deref().and_then(|name| dial.position(name)),
            };
            let Some(at) = at else { return Stands::Unknown };
            all.push(at);
        }
        match (all.iter().min(), all.iter().max()) {
            (Some(least), Some(most)) if least == most => Stands::At(*least),
            (Some(least), Some(most)) => Stands::Between(*least, *most),
            _ => Stands::Unknown,
        }
    }

    /// Who serves what now by this dial; `None` while its places do not all stand in one position.
    #[must_use]
    pub fn serves(&self, dial: &Dial) -> Option<Serves> {
        match self.stands(dial) {
            Stands::At(at) => dial.positions.get(at).map(|position| position.serves),
            Stands::Between(..) | Stands::Unknown => None,
        }
    }

    /// From when on (wall clock) what customers are answered is of the positions that stand now: the last moment a step that
    /// moved a dial, or took one back, has evidence of. Absent while none has moved.
    #[must_use]
    pub fn settled_at(&self, plan: &Plan) -> Option<At> {
        let moves = |step: &&Step| plan.changes(&step.id).iter().any(|change| change.moves.is_some());
        let moved = plan.steps.iter().filter(moves).filter_map(|step| self.step(&step.id));
        moved.flat_map(|step| &step.evidence).map(|evidence| evidence.at).max()
    }
}

/// Over how long before its moment a signal of what customers are answered may have been measured, in milliseconds; `None` for
/// what is counted and compared, which a switch changes nothing of. Windows of probes begin anew with each switch.
#[must_use]
pub fn covers_ms(source: &SignalSource) -> Option<i64> {
    match source {
        SignalSource::ProbeP95(_) | SignalSource::ProbeErrors(_) => Some(0),
        SignalSource::CloudWatch(metric) => {
            let period = i64::from(metric.period_s) * 1_000;
            // Of what grows while a minute goes on, the most of some periods counts (`adapters::aws::metrics`).
            let grows = matches!(metric.statistic.as_str(), "Sum" | "Maximum" | "SampleCount");
            Some(if grows { 120_000 + 3 * period } else { period })
        }
        SignalSource::Lag
        | SignalSource::MarkerRoundTrip
        | SignalSource::Mismatches
        | SignalSource::MatchRate
        | SignalSource::Parked
        | SignalSource::Unaccounted
        | SignalSource::Trim
        | SignalSource::RetainedLog
        | SignalSource::Downtime
        | SignalSource::ReverseLag
        | SignalSource::Strays => None,
    }
}
