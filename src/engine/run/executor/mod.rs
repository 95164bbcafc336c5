//! How a job gets a process.
//!
//! An executor starts jobs and reports when they end. It does not read results: after a job has
//! ended, the scheduler looks its key up in the store, and only an entry there counts as done.
//!
//! To add an executor, write a file here that implements [`Executor`], and choose it in [`open`].

mod local;
pub mod log;
mod outcome;

pub use outcome::{Failure, Outcome, write_outcome};

use crate::engine::key::Key;
use crate::engine::stage::Resources;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

/// How long a process may take to end after SIGTERM, before it is killed.
pub const GRACE: Duration = Duration::from_secs(2);

/// One attempt to compute a recipe that is recorded in the store.
#[derive(Clone, Debug)]
pub struct Job {
    /// The recipe's key.
    pub key: Key,
    /// The file for the job's output streams. A job that writes nothing leaves none.
    pub log: PathBuf,
    /// What it is given: threads and memory, and the time after which it is ended and has failed.
    pub resources: Resources,
    /// How many threads it may use: those in `resources`, or else its share of this machine. An
    /// executor for other machines uses a number of its own where `resources` has none.
    pub threads: NonZero<usize>,
    /// Compute the result even if there is one.
    pub force: bool,
    /// Whether its process may run other such jobs before and after it.
    pub shares_process: bool,
}

/// What an executor sends to a worker process (`repro exec`) to run a job: a line of JSON on its
/// standard input.
///
/// After each job the worker writes a byte to its standard output. A newline means that the job
/// succeeded; the worker then reads the next request, and ends if there is none. A `!` means that
/// the job failed; the worker then ends with an exit status other than zero. If the byte cannot be
/// written, the worker takes its coordinator for dead, ends, and writes the error to the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// See [`Job::key`].
    pub key: Key,
    /// See [`Job::threads`].
    pub threads: NonZero<usize>,
    /// See [`Job::force`].
    pub force: bool,
    /// See [`Resources::time_limit`].
    pub time_limit: Option<Duration>,
    /// See [`Job::shares_process`].
    pub shares_process: bool,
    /// The file that the job's output streams are appended to, absolute.
    pub log: PathBuf,
    /// The file that says why the job failed ([`write_outcome`]), absolute.
    pub outcome: PathBuf,
}

/// What an executor can run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// How many jobs, and how many threads of theirs; `usize::MAX` if there is no limit.
    pub slots: usize,
    /// How many bytes of memory; `u64::MAX` if unknown.
    pub memory: u64,
}

/// Ends all jobs of an executor at once. For a second Ctrl-C: it may be called from any thread.
pub type KillHandle = Box<dyn Fn() + Send + Sync>;

/// Runs jobs, on this machine or on a cluster. A command uses one executor for all its jobs.
///
/// Every key is submitted at most once at a time. A job may outlive the process that submitted it:
/// it publishes its result all the same, and a later run finds the entry, or adopts the job.
pub trait Executor {
    /// What runs at once. The pool keeps the jobs that it submits within these limits, but for a
    /// single job that requests more.
    fn capacity(&self) -> Capacity;

    /// Takes over a job that an earlier coordinator submitted under the same key before it died. On
    /// `true` the job is queued or running, [`Executor::poll`] reports its end, and the caller must
    /// not submit it. On `false` there is no such job, and the caller submits it. An ended job is
    /// never adopted. An error means that the executor cannot tell; the command fails, since to
    /// submit the job might run it twice.
    fn adopt(&mut self, job: &Job) -> Result<bool>;

    /// Starts jobs, as one batch if the executor has batches. A job that cannot be started because
    /// of what it is (a program that is missing, resources that no machine has) is not an error: it
    /// is reported by [`Executor::poll`] as failed. An error means that nothing more can be started
    /// (no process, no queue); the caller cancels all jobs, including those of this batch that were
    /// started.
    fn submit(&mut self, jobs: Vec<Job>) -> Result<()>;

    /// The jobs that have ended since the last call, each reported once. Waits up to `timeout` for
    /// the first. A state that is unknown, or a query that fails for a while, is not an end: the
    /// job is looked at again. An error means that the ends of jobs can no longer be learned.
    fn poll(&mut self, timeout: Duration) -> Result<Vec<(Key, Outcome)>>;

    /// Ends those of these jobs that have not ended, with all processes that they started. Returns
    /// once they have ended or been killed, at the latest a little after [`GRACE`]. Unknown keys
    /// are ignored. The ends of cancelled jobs may or may not be reported.
    fn cancel(&mut self, keys: &[Key]);

    /// Waits until the results of ended jobs are on disk. Called when no job runs; an error fails
    /// the run.
    fn close(&mut self) -> Result<()>;

    /// A handle to end all jobs at once, for signal handlers.
    fn kill_handle(&self) -> KillHandle;
}

/// How to start this program again to run jobs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program's file.
    pub program: PathBuf,
    /// What its processes are called in the system's list of processes.
    pub name: PathBuf,
    /// The arguments that make it a worker.
    pub arguments: Vec<OsString>,
    /// Environment variables besides those of this process.
    pub environment: Vec<(String, PathBuf)>,
    /// How many jobs at once.
    pub slots: usize,
    /// A folder for files of running workers, on the same disk as the jobs' logs.
    pub scratch: PathBuf,
}

/// The executor for a command.
pub fn open(options: Options) -> Box<dyn Executor> {
    Box::new(local::Local::new(options))
}
