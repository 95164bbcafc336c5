//! `repro`: see the library's documentation for the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(repro::cli::main())
}
