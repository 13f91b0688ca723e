//! Markers that are sent through again and again to measure the whole way (FEATURES B2).

use std::sync::Arc;
use std::time::Duration;

use super::crew::Crew;
use crate::domain::gauge::Reading;
use crate::domain::plan::Table;

/// Measures the way of a marker through the whole path, again and again.
pub async fn markers(crew: Arc<Crew>, table: Table) {
    let every = Duration::from_millis(crew.plan.follow.marker_every_ms.max(200));
    loop {
        tokio::time::sleep(every).await;
        if *crew.paused.borrow() {
            continue;
        }
        let nonce = uuid::Uuid::new_v4().to_string();
        let began = crew.mono();
        if let Err(e) = crew.ports.source.put_marker(&table, &nonce).await {
            tracing::warn!(table = %table.id, error = %e, "marker not written");
            continue;
        }
        let mut seen = false;
        while crew.mono() - began < 60_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if matches!(crew.ports.target.marker(&table, &nonce).await, Ok(Some(_))) {
                seen = true;
                break;
            }
        }
        let wall = crew.wall();
        let took = seen.then(|| (crew.mono() - began) as f64);
        crew.board.table(&table.id, |g| g.lag.marker = Reading { value: took, at: wall });
        if let Err(e) = crew.ports.source.delete_marker(&table, &nonce).await {
            tracing::warn!(table = %table.id, error = %e, "marker not removed");
        }
    }
}
