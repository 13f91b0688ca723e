//! The only place that names a driver or an SDK. Each kind of store is a folder and a cargo feature.

pub mod aws;
pub mod command;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod http;
pub mod notify;
#[cfg(feature = "postgresql")]
pub mod postgres;
