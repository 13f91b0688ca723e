//! Every integration test in one binary: each further file in `tests/` would link the SDKs once more.

mod architecture;
