//! What happens in a run, as data. The scheduler emits events; observers print, record or count
//! them.

use super::reason::Reason;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Something that happened in a run. [`SCHEMA`] is the version of its JSON form.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run starts; nothing has been checked yet.
    Started {
        /// See [`SCHEMA`].
        schema: u32,
        /// The run's id.
        run: String,
        /// The profile, if there is one.
        profile: Option<String>,
        /// The assignments of `-S`.
        overrides: Vec<String>,
        /// How many nodes are to be brought up to date.
        nodes: usize,
        /// The process of the run ([`crate::engine::cache::process::ProcessId::tag`]).
        process: String,
    },
    /// A node's result is in the cache.
    Cached {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// Its key.
        key: String,
        /// How long its job took when it ran.
        saved_seconds: f64,
    },
    /// A node's job starts.
    Running {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// Its key.
        key: String,
        /// Why it runs.
        reasons: Vec<Reason>,
    },
    /// A node's result is computed by another process, and is awaited.
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
        /// Why it failed, in one sentence.
        cause: String,
        /// The attempt that starts now, from 2.
        attempt: u32,
        /// How many attempts there are at most.
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
        /// How long it took.
        seconds: f64,
    },
    /// A node's job failed.
    Failed {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// Why, in one sentence.
        cause: String,
        /// What would help, if the job knew.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// The last lines of its log.
        log: Vec<String>,
        /// The file with the whole log.
        log_path: String,
    },
    /// A node does not run because a node upstream failed.
    Skipped {
        /// The node.
        node: String,
        /// The node that failed.
        because: String,
    },
    /// A node is unavailable, and its fallback is used.
    FallbackUsed {
        /// The node.
        node: String,
        /// The parameters of the fallback.
        fallback: String,
        /// Why the node is unavailable.
        cause: String,
    },
    /// Every output has the digest that the lock file expects.
    LockMatched {
        /// The lock file.
        lock: String,
        /// The hash of all digests of the profile, including those of nodes that were not
        /// requested.
        root: String,
        /// How many nodes were checked.
        nodes: usize,
    },
    /// Outputs were exported to a folder.
    Exported {
        /// The folder.
        folder: String,
        /// How many files were written.
        written: usize,
        /// How many files there are.
        files: usize,
        /// How many files of earlier runs were removed.
        #[serde(default)]
        removed: usize,
    },
    /// The run is over; always the last event.
    Ended(Summary),
}

/// Version of the JSON form of [`Event`], and of all JSON that commands print. Raised when a field
/// goes or changes its meaning; readers ignore events and fields that they do not know.
///
/// - 2: `elsewhere`, `fell-back`, `as-locked` and `delivered` are `already-running`,
///   `fallback-used`, `lock-matched` and `exported`; of `verify`, `bad` is `problems`.
pub const SCHEMA: u32 = 2;

/// A run in numbers.
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
    /// Seconds that the jobs of the cached nodes took when they ran.
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
    /// It was interrupted.
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
    /// Receives a line that a node's job has written.
    fn output(&mut self, _node: &str, _line: &str) {}
    /// Called a few times a second while nothing happens.
    fn tick(&mut self) {}
}
