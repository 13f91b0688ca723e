//! SSM parameters, API Gateway stage variables, CloudWatch metrics and jobs.

mod address;
mod clock;
mod error;
mod http;
mod identity;
mod jobs;
mod metrics;
mod session;
mod switches;
#[cfg(all(test, feature = "rehearsal"))]
mod tests;

pub use address::{Service, address, configured};
pub use clock::Clock;
use error::is_unsigned;
pub use error::port_error;
pub use http::connector;
pub use identity::AwsIdentity;
pub use jobs::{AwsJobs, JobEndpoints};
pub use metrics::CloudWatchMetrics;
pub use session::{AwsSettings, credentials, named_endpoints, session};
pub use switches::AwsSwitches;
