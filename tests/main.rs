//! Every integration test in one binary: each further file in `tests/` would link the SDKs once more.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod architecture;
mod e2e;
mod guides;
mod model;
mod scenarios;
mod ui;
