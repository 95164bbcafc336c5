//! The `repro` program. The library crate has its documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(repro::cli::main())
}
