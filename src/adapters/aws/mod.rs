//! SSM parameters, API Gateway stage variables and CloudWatch metrics.

mod error;
mod metrics;
mod session;
mod switches;
#[cfg(all(test, feature = "rehearsal"))]
mod tests;

pub use error::port_error;
pub use metrics::CloudWatchMetrics;
pub use session::{AwsSettings, credentials, session};
pub use switches::AwsSwitches;
