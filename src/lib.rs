//! cutover: the terminal console for migration day.
//!
//! Folders are layers; `tests/architecture.rs` enforces who may import whom (see `docs/architecture.md`).
//!
//! - [`domain`]: pure core. Plan, run state, `decide`/`apply`, mapping, gauges, verdicts.
//! - [`snapshot`]: what a screen or a report may know. Immutable and serialisable.
//! - [`view`]: draws a snapshot into a buffer. Pure.
//! - [`journal`]: facts on disk.
//! - [`engine`]: the only owner of mutable run state.
//! - [`workers`]: load, follow, drain, verify, switch, watch and rollback, written against ports.
//! - [`ports`]: the traits workers are written against.
//! - [`export`]: files of an export, its manifest, and reading both again.
//! - [`adapters`]: the only place that names a driver or an SDK.
//! - `private`: stores of our own, for rehearsals and the tests of the adapters.
//! - `rehearsal`: the control-plane stand-in, the simulated applications and their oracle.
//! - [`ui`]: terminal, keys, frames.
//! - [`report`]: lines, JSON and Markdown over the same facts.
//! - [`replay`]: a journal on a virtual clock.
//! - [`config`]: `config.toml`, typed and located.
//! - `bench`: reproducible benchmarks: limit, ours and peers in one run.
//! - [`cli`]: the one composition root.
//! - [`telemetry`]: log files.

pub mod adapters;
#[cfg(feature = "rehearsal")]
pub mod bench;
pub mod cli;
pub mod config;
pub mod domain;
pub mod engine;
pub mod export;
pub mod journal;
pub mod ports;
#[cfg(any(test, feature = "embedded-dynamodb"))]
pub mod private;
#[cfg(feature = "rehearsal")]
pub mod rehearsal;
pub mod replay;
pub mod report;
pub mod snapshot;
pub mod telemetry;
pub mod ui;
pub mod view;
pub mod workers;
