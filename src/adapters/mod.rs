//! The only place that names a driver or an SDK.

pub mod aws;
pub mod dynamodb;
pub mod http;
pub mod postgres;
