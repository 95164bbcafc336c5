//! Executors: they start the processes of jobs.
//!
//! An executor starts jobs and reports when they end. It does not read results: after a job has
//! ended, the scheduler looks its key up in the store, and only an entry there counts as done.
//!
//! To add an executor, write a file here that implements [`Executor`], and choose it in [`open`].

mod local;
pub mod log;
mod outcome;
pub mod slurm;

pub use outcome::{Failure, Outcome, write_outcome};

use crate::engine::cache::store::Store;
use crate::engine::key::Key;
use crate::engine::resources::SlurmSettings;
use crate::engine::stage::Resources;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

/// The time between SIGTERM and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);

/// One attempt to compute a recipe that is recorded in the store.
#[derive(Clone, Debug)]
pub struct Job {
    /// The recipe's key.
    pub key: Key,
    /// The stage kind.
    pub kind: &'static str,
    /// The duration that jobs of this stage have had.
    pub expected: Option<Duration>,
    /// The file for the job's standard output and standard error. If the job writes nothing, the
    /// file is not created.
    pub log: PathBuf,
    /// Reserved threads and memory, and the time limit.
    pub resources: Resources,
    /// The number of threads to use: the number in `resources`, or else a share of this machine. An
    /// executor for other machines chooses its own number if `resources` has none.
    pub threads: NonZero<usize>,
    /// Compute the result even if it is cached.
    pub force: bool,
    /// Whether one process may run this job and others, one after the other.
    pub shares_process: bool,
}

/// A request to a worker process (`repro exec`) to run a job. The executor writes it to the
/// worker's standard input, as a line of JSON.
///
/// After each job the worker writes a byte to its standard output. A newline means that the job
/// succeeded; the worker then reads the next request, and ends if there is none. A `!` means that
/// the job failed; the worker then ends with an exit status other than zero. If the byte cannot be
/// written, the worker assumes that its coordinator is dead, writes the error to the log, and ends.
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
    /// The file to which the job's output is appended, absolute.
    pub log: PathBuf,
    /// The file for the outcome of a job that fails ([`write_outcome`]), absolute.
    pub outcome: PathBuf,
}

/// The limits of the jobs that an executor runs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The number of jobs, and of their threads; `usize::MAX` if there is no limit.
    pub slots: usize,
    /// Memory in bytes; `u64::MAX` if unknown.
    pub memory: u64,
}

/// Where a submitted job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for a place to run.
    Queued,
    /// It runs.
    Running,
}

/// Kills all jobs of an executor at once. A second Ctrl-C calls it, from any thread.
pub type KillHandle = Box<dyn Fn() + Send + Sync>;

/// Runs jobs, on this machine or on a cluster. A command uses one executor for all its jobs.
///
/// The caller submits a key again only after its job has ended. A job may outlive the process that
/// submitted it: the job still publishes its result, and a later run finds the entry or adopts the
/// job.
pub trait Executor {
    /// The limits within which the pool submits jobs. A job that exceeds them runs alone.
    fn capacity(&self) -> Capacity;

    /// Takes over a job that an earlier coordinator submitted under the same key before it died. If
    /// it returns `true`, the job is queued or running, [`Executor::poll`] reports its end, and the
    /// caller must not submit it. If it returns `false`, no such job is queued or running, and the
    /// caller submits it. An ended job is never adopted. An error means that the executor cannot
    /// determine this; the command then fails, because submitting the job could run it twice.
    fn adopt(&mut self, job: &Job) -> Result<bool>;

    /// Starts jobs, as one batch if the executor has batches. If only one job cannot be started (a
    /// missing program, resources that no machine has), that is not an error: [`Executor::poll`]
    /// reports the job as failed. An error means that no job can be started (no process, no queue);
    /// the caller cancels all jobs, including those of this batch that have started.
    fn submit(&mut self, jobs: Vec<Job>) -> Result<()>;

    /// The jobs that have ended since the last call, each reported once. Waits up to `timeout` for
    /// the first. If the state of a job is temporarily unknown, the job has not ended, and the
    /// executor queries it again. An error means that the executor can no longer observe its jobs.
    fn poll(&mut self, timeout: Duration) -> Result<Vec<(Key, Outcome)>>;

    /// Whether a submitted job may wait before it runs.
    fn has_queue(&self) -> bool {
        false
    }

    /// The phases that jobs have entered since the last call, in order. A job is queued when it is
    /// submitted, and it may be queued again after it has run. Without a queue there are none.
    fn phases(&mut self) -> Vec<(Key, Phase)> {
        Vec::new()
    }

    /// Ends the jobs with these keys and all processes that they have started. Returns once these
    /// have ended or were killed, at the latest a little after [`GRACE`]. Ignores unknown keys.
    /// [`Executor::poll`] may or may not report the ends of cancelled jobs.
    fn cancel(&mut self, keys: &[Key]);

    /// Waits until the results of ended jobs are on disk. Called after the last job. An error fails
    /// the run.
    fn close(&mut self) -> Result<()>;

    /// A handle to end all jobs at once, for signal handlers.
    fn kill_handle(&self) -> KillHandle;
}

/// The options of an executor: how to start worker processes.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program's file.
    pub program: PathBuf,
    /// The name of its processes in the system's list of processes.
    pub name: PathBuf,
    /// The arguments that make it a worker.
    pub arguments: Vec<OsString>,
    /// Environment variables, in addition to those of this process.
    pub environment: Vec<(String, PathBuf)>,
    /// The maximum number of concurrent jobs.
    pub slots: usize,
    /// A folder for files of running workers, on the same disk as the jobs' logs.
    pub scratch: PathBuf,
}

/// The choice of an executor.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Processes on this machine.
    Local,
    /// Slurm, with these settings, for results in this cache.
    Slurm(SlurmSettings, Store),
}

/// The executor for a command.
pub fn open(options: Options, choice: Choice) -> Result<Box<dyn Executor>> {
    Ok(match choice {
        Choice::Local => Box::new(local::Local::new(options)),
        Choice::Slurm(settings, store) => Box::new(slurm::Slurm::new(options, settings, store)?),
    })
}
