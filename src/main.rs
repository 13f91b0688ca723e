//! Parses arguments, runs the command, maps the result to an exit code.

use std::process::ExitCode;

/// Every row of a load is a handful of short texts, made on one thread and given back on another: with the system's
/// allocator these threads wait for each other for a third of the time (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cutover::cli::main()
}
