//! The application's latency and errors, published to CloudWatch once a second: `Latency` in milliseconds (95th
//! percentile of the second) and `Errors` in per cent, each with the dimension `Side` = `old` or `new`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};
use aws_smithy_types::DateTime;
use aws_types::SdkConfig;
use tokio_util::sync::CancellationToken;

use super::Floor;
use crate::rehearsal::held;
use crate::rehearsal::oracle::Side;

#[derive(Debug, Default)]
struct Second {
    latencies: Vec<f64>,
    failed: u64,
}

#[derive(Debug, Default)]
struct Path {
    second: Second,
    served: u64,
    failed: u64,
}

/// What is measured, by code path.
#[derive(Debug, Default)]
pub(super) struct Gauges([Mutex<Path>; 2]);

impl Gauges {
    fn of(&self, side: Side) -> &Mutex<Path> {
        &self.0[usize::from(side == Side::New)]
    }

    pub(super) fn note(&self, side: Side, took: Duration, good: bool) {
        let mut path = held(self.of(side));
        if good {
            // How long a failure took is no latency.
            path.second.latencies.push(took.as_secs_f64() * 1000.0);
        }
        path.served += u64::from(good);
        path.failed += u64::from(!good);
        path.second.failed += u64::from(!good);
    }

    pub(super) fn totals(&self, side: Side) -> (u64, u64) {
        let path = held(self.of(side));
        (path.served, path.failed)
    }

    /// The second that ended: 95th percentile of what was served, if anything was, and errors in per cent. `None` when
    /// nothing was asked.
    fn take(&self, side: Side) -> Option<(Option<f64>, f64)> {
        let second = std::mem::take(&mut held(self.of(side)).second);
        summary(second)
    }
}

fn summary(mut second: Second) -> Option<(Option<f64>, f64)> {
    let served = second.latencies.len();
    let asked = served as u64 + second.failed;
    if asked == 0 {
        return None;
    }
    second.latencies.sort_by(f64::total_cmp);
    let rank = (served * 95).div_ceil(100).max(1);
    Some((second.latencies.get(rank - 1).copied(), 100.0 * second.failed as f64 / asked as f64))
}

fn datum(name: &str, side: Side, unit: StandardUnit, at: DateTime, value: f64) -> MetricDatum {
    MetricDatum::builder()
        .metric_name(name)
        .dimensions(Dimension::builder().name("Side").value(side.name()).build())
        .timestamp(at)
        .unit(unit)
        .value(value)
        .storage_resolution(1)
        .build()
}

pub(super) fn publish(floor: Arc<Floor>, session: &SdkConfig, stop: CancellationToken) {
    let client = aws_sdk_cloudwatch::Client::new(session);
    tokio::spawn(async move {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = second.tick() => {}
            }
            let at = DateTime::from_millis(jiff::Timestamp::now().as_millisecond());
            let mut data = Vec::new();
            for side in [Side::Old, Side::New] {
                if let Some((latency, errors)) = floor.gauges.take(side) {
                    data.extend(latency.map(|ms| datum("Latency", side, StandardUnit::Milliseconds, at, ms)));
                    data.push(datum("Errors", side, StandardUnit::Percent, at, errors));
                }
            }
            if data.is_empty() {
                continue;
            }
            let put = client.put_metric_data().namespace(floor.scenario.namespace()).set_metric_data(Some(data));
            if put.send().await.is_err() {
                tracing::debug!("shop: a second of metrics was not taken");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_summed_up() {
        let second = Second { latencies: (1..=100).rev().map(f64::from).collect(), failed: 25 };
        assert_eq!(summary(second), Some((Some(95.0), 20.0)));
        assert_eq!(summary(Second { latencies: vec![4.0], failed: 0 }), Some((Some(4.0), 0.0)));
        assert_eq!(summary(Second { latencies: vec![], failed: 2 }), Some((None, 100.0)));
        assert_eq!(summary(Second::default()), None);
    }

    #[test]
    fn paths_are_kept_apart() {
        let gauges = Gauges::default();
        gauges.note(Side::Old, Duration::from_millis(5), true);
        gauges.note(Side::New, Duration::from_millis(7), false);
        assert_eq!((gauges.totals(Side::Old), gauges.totals(Side::New)), ((1, 0), (0, 1)));
        assert_eq!(gauges.take(Side::New), Some((None, 100.0)));
        assert_eq!(gauges.take(Side::New), None);
    }
}
