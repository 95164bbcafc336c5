//! How a job gets a process. An executor starts jobs and says when they end; what they made is for the store to say.

pub mod local;
pub mod log;

use crate::engine::key::Key;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

/// One attempt at a question that has been recorded in the store.
#[derive(Clone, Debug)]
pub struct Job {
    /// The question.
    pub key: Key,
    /// The file that its output streams go to; there is none of a job that has written nothing.
    pub log: PathBuf,
    /// How many threads it may use.
    pub threads: NonZero<usize>,
    /// Whether the question has an answer already and is to be answered all the same.
    pub again: bool,
    /// It is ended, and has failed, when it takes longer.
    pub time_limit: Option<Duration>,
    /// Whether its process may run other such jobs before and after it.
    pub shares_process: bool,
}

/// What a process is asked for, in a line on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// As in [`Job`].
    pub key: Key,
    /// The same.
    pub threads: NonZero<usize>,
    /// The same.
    pub again: bool,
    /// The same.
    pub time_limit: Option<Duration>,
    /// Whether it shares its process.
    pub is_one_of_many: bool,
    /// The file to write its output streams to, at its end.
    pub log: PathBuf,
}

/// How a job's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It said it was done. Only an entry in the store proves it.
    Exited,
    /// It left the question to another process, which is at work on it or has answered it.
    AlreadyRunning,
    /// It said that the answer cannot be had now.
    Unavailable(Failure),
    /// It was asked to stop: by whoever rules the machine, or because the run was given up.
    Stopped(Failure),
    /// It failed, was killed, or could not be started.
    Failed(Failure),
}

/// Why a job has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One sentence.
    pub cause: String,
    /// What would help, if the job knew.
    pub hint: Option<String>,
}

/// Runs jobs. One is chosen for a whole run.
pub trait Executor {
    /// How many jobs it takes at once.
    fn slots(&self) -> usize;
    /// How much memory they have together, in bytes; no bound if it does not know.
    fn memory(&self) -> u64 {
        u64::MAX
    }
    /// Starts a job. Fails if the system has no room for a process or a thread more.
    fn submit(&mut self, job: Job) -> Result<()>;
    /// The next job to end, if one does within `patience`.
    fn wait(&mut self, patience: Duration) -> Option<(Key, Outcome)>;
    /// Ends all running jobs, with whatever they have started.
    fn kill(&mut self);
}
