//! The events of a run. The scheduler emits them; observers print, record or count them.

use super::reason::Reason;
use crate::engine::provenance::Commit;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An event of a run. [`SCHEMA`] is the version of its JSON form.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run starts. No node has been checked yet.
    Started {
        /// See [`SCHEMA`].
        schema: u32,
        /// The run's id.
        run: String,
        /// The profile, if there is one.
        profile: Option<String>,
        /// The pipeline file: relative to the folder with the cache, or absolute if it is
        /// elsewhere.
        pipeline: String,
        /// The assignments of `-S`.
        overrides: Vec<String>,
        /// The targets; none for the whole pipeline.
        targets: Vec<String>,
        /// The number of requested nodes.
        nodes: usize,
        /// The process of the run ([`crate::engine::cache::process::ProcessId::tag`]).
        process: String,
    },
    /// The project's commit, if a job may run and there is a repository.
    Commit(Commit),
    /// A node's result is in the cache.
    Cached {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// Its key.
        key: String,
        /// The duration of the job that computed it, in seconds.
        saved_seconds: f64,
    },
    /// A node's job waits in the queue of a cluster. It may be there again after it has run. Jobs
    /// on this machine do not wait.
    Queued {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// Its key.
        key: String,
        /// The reasons.
        reasons: Vec<Reason>,
    },
    /// A node's job starts.
    Running {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// Its key.
        key: String,
        /// The reasons.
        reasons: Vec<Reason>,
    },
    /// Another process computes a node's result. The run waits for it.
    AlreadyRunning {
        /// The node.
        node: String,
        /// The other process.
        process: String,
    },
    /// A node's job failed and is retried.
    Retrying {
        /// The node.
        node: String,
        /// The cause of the failure, in one sentence.
        cause: String,
        /// The number of the attempt that starts now. The first retry is attempt 2.
        attempt: u32,
        /// The largest number of attempts.
        of: u32,
    },
    /// A node's job finished, and its result is in the cache.
    Finished {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// Its key.
        key: String,
        /// The duration of the job, in seconds.
        seconds: f64,
    },
    /// A node's job failed.
    Failed {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// The cause, in one sentence.
        cause: String,
        /// A hint, if the job had one.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// The last lines of its log.
        log: Vec<String>,
        /// The file with the whole log.
        log_path: String,
    },
    /// A node is skipped, because a node upstream failed.
    Skipped {
        /// The node.
        node: String,
        /// The node that failed.
        because: String,
    },
    /// A node's data is unavailable, and its fallback is used.
    FallbackUsed {
        /// The node.
        node: String,
        /// The parameters of the fallback.
        fallback: String,
        /// The reason why the data is unavailable.
        cause: String,
    },
    /// All outputs match the lock file.
    LockMatched {
        /// The lock file.
        lock: String,
        /// The root of the profile, which includes nodes that were not requested.
        root: String,
        /// The number of nodes that were checked.
        nodes: usize,
    },
    /// Outputs were exported to a folder.
    Exported {
        /// The folder.
        folder: String,
        /// The number of files that were written.
        written: usize,
        /// The number of files in the artifact.
        files: usize,
        /// The number of files of earlier runs that were removed.
        #[serde(default)]
        removed: usize,
    },
    /// Something differs from the last run with the same report, and files beside the report say
    /// what.
    Changed {
        /// The id of that run.
        since: String,
        /// The changed parameters, such as `nets.prior.normal.variance 0.01 -> 0.005`.
        parameters: Vec<String>,
        /// What moved, as a sentence without a full stop.
        moved: String,
        /// The number of changed cells in the tables that summarise the run.
        cells: usize,
        /// The number of changed cells whose intervals do not overlap; `None` without intervals.
        beyond: Option<usize>,
        /// The number of changed figures.
        figures: usize,
        /// The number of nodes and outputs that the cache no longer has.
        lost: usize,
        /// The file that lists the changes. The page beside it shows the figures.
        path: String,
    },
    /// The remote cache has a problem that does not end the run.
    RemoteNotice {
        /// The problem, in one sentence.
        message: String,
        /// A hint, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// Results were copied from the remote cache.
    Pulled {
        /// The number of results.
        results: usize,
        /// The bytes of the objects that were fetched.
        bytes: u64,
    },
    /// Results were copied to the remote cache.
    Pushed {
        /// The number of results.
        results: usize,
        /// The number of results that were there already.
        unchanged: usize,
        /// The bytes that were sent.
        bytes: u64,
    },
    /// The run is over; always the last event.
    Ended(Summary),
}

/// Version of the JSON form of [`Event`], and of all JSON that commands print. Raised when a field
/// is removed or changes its meaning. Readers ignore unknown events and fields.
///
/// - 2: `elsewhere`, `fell-back`, `as-locked` and `delivered` are `already-running`,
///   `fallback-used`, `lock-matched` and `exported`; of `verify`, `bad` is `problems`.
pub const SCHEMA: u32 = 2;

/// The totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Requested nodes.
    pub nodes: usize,
    /// Found in the cache.
    pub cached: usize,
    /// Computed in this run.
    pub ran: usize,
    /// Failed.
    pub failed: usize,
    /// Not run, because a node upstream failed or the run was interrupted.
    pub skipped: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The total duration of the jobs that computed the cached results, in seconds.
    pub saved_seconds: f64,
    /// How the run ended.
    pub outcome: Ending,
}

/// How a run ended, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All requested nodes are up to date.
    #[default]
    Done,
    /// A stage failed, or a file changed during the run.
    Failed,
    /// Data, a disk or another resource is unavailable.
    Unavailable,
    /// An output differs from the lock file.
    Differs,
    /// The cache is damaged.
    Corrupt,
    /// The run was interrupted.
    Interrupted,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Ending::Done => "done",
            Ending::Failed => "failed",
            Ending::Unavailable => "unavailable",
            Ending::Differs => "differs",
            Ending::Corrupt => "corrupt",
            Ending::Interrupted => "interrupted",
        })
    }
}

/// Receives the events of a run.
pub trait Observer {
    /// Receives an event.
    fn observe(&mut self, event: &Event);
    /// Receives a line of output of a node's job.
    fn output(&mut self, _node: &str, _line: &str) {}
    /// Called a few times a second while nothing happens.
    fn tick(&mut self) {}
}
