//! What a job and its executor agree on: where a job's log lies, and how it says why it has no answer.

use std::path::Path;

/// The exit code by which `repro exec` says that the answer cannot be had now (sysexits' `EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;

/// The exit code by which it says that another process is at work on the question, or has answered it (`EX_TEMPFAIL`).
pub const TAKEN: u8 = 75;

/// What the line begins with by which `repro` says why it failed.
pub const ERROR: &str = "error: ";
/// What the line begins with by which it says what would help.
pub const HINT: &str = "hint: ";

/// The name of the log that a job writes its standard error to.
pub const STDERR: &str = "stderr";

/// The last lines of a job's standard error.
pub fn tail(logs: &Path, lines: usize) -> Vec<String> {
    let text = std::fs::read(logs.join(STDERR)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}
