//! The outcome of a job, and the file in which a worker process reports a failure.
//!
//! The worker writes the file atomically; the executor reads and removes it. If a job fails without
//! a file, its process died, and the outcome follows from the exit status.

use crate::engine::text::shorten;
use crate::fs;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

/// The maximum number of characters of a cause that are shown.
const SCREEN: usize = 1000;

/// The outcome of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// The process reported success. Only an entry in the store proves that the job succeeded.
    Exited,
    /// The job computed nothing: another process computes the same key, or has just computed it.
    AlreadyRunning,
    /// The data that the job needs, such as a download, is unavailable now.
    Unavailable(Failure),
    /// The job received a signal to end, from the system or because the run was interrupted.
    Interrupted(Failure),
    /// The job failed, was killed, or could not be started.
    Failed(Failure),
}

/// The reason why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The cause, in one sentence.
    pub cause: String,
    /// A hint, if the job had one.
    pub hint: Option<String>,
}

impl Failure {
    /// The cause, shortened for display.
    pub fn short(&self) -> String {
        shorten(&self.cause, SCREEN).into_owned()
    }

    /// A failure without a hint.
    pub(super) fn new(cause: impl Into<String>) -> Failure {
        Failure { cause: cause.into(), hint: None }
    }
}

impl Outcome {
    /// The failure, if the outcome has one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Outcome::Exited | Outcome::AlreadyRunning => None,
            Outcome::Unavailable(failure)
            | Outcome::Interrupted(failure)
            | Outcome::Failed(failure) => Some(failure),
        }
    }
}

/// Writes the outcome of a job that failed to `path`, for its executor.
pub fn write_outcome(path: &Path, outcome: &Outcome) -> Result<()> {
    let bytes = serde_json::to_vec(outcome).context("cannot write the outcome of a job")?;
    let scratch = path.parent().context("BUG: the file of an outcome is in a folder")?;
    // Not synced: the file is not read after a reboot.
    fs::replace(path, scratch, &bytes)
}

/// Reads what [`write_outcome`] wrote to `path`, and removes it.
pub(super) fn take_outcome(path: &Path) -> Option<Outcome> {
    let bytes = fs::read_if_exists(path).ok()??;
    let _ = fs::remove_if_exists(path);
    serde_json::from_slice(&bytes).ok()
}

/// The outcome of a process that has not written one.
pub(super) fn of_exit(status: &std::io::Result<ExitStatus>) -> Outcome {
    let status = match status {
        Ok(status) if status.success() => return Outcome::Exited,
        Ok(status) => *status,
        Err(error) => return Outcome::Failed(cannot_wait(error)),
    };
    let failure = Failure::new(describe(status));
    // SIGHUP, SIGINT or SIGTERM.
    if matches!(status.signal(), Some(1 | 2 | 15)) {
        return Outcome::Interrupted(failure);
    }
    Outcome::Failed(failure)
}

pub(super) fn cannot_wait(error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot wait for the process: {error}"))
}

pub(super) fn describe(status: ExitStatus) -> String {
    if let Some(signal) = status.signal() {
        let guess = if signal == 9 { " (killed; out of memory?)" } else { "" };
        return format!("the process died of signal {signal}{guess}");
    }
    status.code().map_or_else(
        || "the process ended without an exit code".into(),
        |code| format!("exit code {code}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_outcome_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outcome.json");
        let failure = Failure { cause: "a \"b\"\n".into(), hint: Some("c".into()) };
        for outcome in [
            Outcome::AlreadyRunning,
            Outcome::Unavailable(failure.clone()),
            Outcome::Interrupted(failure.clone()),
            Outcome::Failed(failure),
        ] {
            write_outcome(&path, &outcome).unwrap();
            assert_eq!(take_outcome(&path), Some(outcome));
            assert_eq!(take_outcome(&path), None);
        }
    }

    #[test]
    fn an_outcome_is_a_small_object_with_kind_cause_and_hint() {
        let failure = Failure { cause: "the disk is full".into(), hint: None };
        let json = serde_json::to_string(&Outcome::Failed(failure)).unwrap();
        assert_eq!(json, r#"{"kind":"failed","cause":"the disk is full","hint":null}"#);
    }

    #[test]
    fn a_process_without_an_outcome_is_described_by_its_exit_status() {
        let of = |raw: i32| of_exit(&Ok(ExitStatus::from_raw(raw)));
        assert_eq!(of(0), Outcome::Exited);
        assert_eq!(of(3 << 8), Outcome::Failed(Failure::new("exit code 3")));
        let killed = "the process died of signal 9 (killed; out of memory?)";
        assert_eq!(of(9), Outcome::Failed(Failure::new(killed)));
        let ended = Failure::new("the process died of signal 15");
        assert_eq!(of(15), Outcome::Interrupted(ended));
    }
}
