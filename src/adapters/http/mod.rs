//! HTTP probes.
