//! What a job and its executor agree on: where a job's log lies, and how it says why it has no answer.

use crate::fs;
use std::io::{Read as _, Result, Seek as _, SeekFrom};
use std::path::Path;

/// The exit code by which `repro exec` says that the answer cannot be had now (sysexits' `EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;

/// The exit code by which it says that another process is at work on the question, or has answered it (`EX_TEMPFAIL`).
pub const TAKEN: u8 = 75;

/// The exit code by which it says that it was asked to end, and did.
pub const STOPPED: u8 = 130;

/// What the line begins with by which `repro` says why it failed.
pub const ERROR: &str = "error: ";
/// What the line begins with by which it says what would help.
pub const HINT: &str = "hint: ";

/// How much of a log's end is read at most, in bytes: it may have grown to more than there is memory.
const END: u64 = 64 << 10;

/// The last lines of a job's log, as far as they lie at its end.
pub fn tail(log: &Path, lines: usize) -> Vec<String> {
    let text = end(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

fn end(path: &Path) -> Result<Vec<u8>> {
    let mut file = fs::open(path).map_err(std::io::Error::other)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut bytes = Vec::new();
    file.take(END).read_to_end(&mut bytes)?;
    Ok(bytes)
}
