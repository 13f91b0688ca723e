//! Parses arguments, runs the command, maps the result to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    cutover::cli::main()
}
