//! What happens in a run, as data. The scheduler tells; observers show, write down or count.

use super::reason::Reason;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Something that happened. Its JSON form is stated by [`SCHEMA`].
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run begins; everything is still to be checked.
    Started {
        /// See [`SCHEMA`].
        schema: u32,
        /// The run's id.
        run: String,
        /// The profile, if there is one.
        profile: Option<String>,
        /// What was set by `-S`.
        overrides: Vec<String>,
        /// Nodes to bring up to date.
        nodes: usize,
        /// The process that runs it ([`crate::engine::cache::process::ProcessId::tag`]).
        process: String,
    },
    /// A node's answer was in the cache.
    Cached {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// Its key.
        key: String,
        /// What it took when it ran.
        saved_seconds: f64,
    },
    /// A node begins.
    Running {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// Its key.
        key: String,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// Another run is at work on a node's question; its answer is waited for.
    Elsewhere {
        /// The node.
        node: String,
        /// Who is at work.
        process: String,
    },
    /// A node's job failed and is tried again.
    Retrying {
        /// The node.
        node: String,
        /// What happened, one sentence.
        cause: String,
        /// The attempt that begins now, from 2.
        attempt: u32,
        /// How many attempts there are at most.
        of: u32,
    },
    /// A node is done.
    Finished {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// Its key.
        key: String,
        /// What it took.
        seconds: f64,
    },
    /// A node failed.
    Failed {
        /// The node.
        node: String,
        /// Its stage kind.
        kind: &'static str,
        /// What happened, one sentence.
        cause: String,
        /// What would help, if the job knew.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// The last lines of its log.
        log: Vec<String>,
        /// Where the whole log is.
        log_path: String,
    },
    /// A node does not run since one it needs failed.
    Skipped {
        /// The node.
        node: String,
        /// The one that failed.
        because: String,
    },
    /// The answer could not be had; the fallback is used.
    FellBack {
        /// The node.
        node: String,
        /// What is used instead.
        instead: String,
        /// Why.
        cause: String,
    },
    /// Every output has the digest that the lock expects.
    AsLocked {
        /// The lock.
        lock: String,
        /// The one hash that stands for all digests of the profile, those of nodes that were not asked for included.
        root: String,
        /// How many nodes were compared.
        nodes: usize,
    },
    /// Outputs laid out for people.
    Delivered {
        /// The folder.
        folder: String,
        /// How many files had to be written.
        written: usize,
        /// How many files there are.
        files: usize,
        /// How many that are no longer made were taken away.
        #[serde(default)]
        removed: usize,
    },
    /// The run is over, and all that belongs to it is done: always the last.
    Ended(Summary),
}

/// Version of the JSON form of [`Event`] and of all that commands say in JSON. Raised when a field goes or changes its
/// meaning; a reader passes over events and fields that it does not know.
pub const SCHEMA: u32 = 2;

/// A run in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Nodes asked for.
    pub nodes: usize,
    /// Found in the cache.
    pub cached: usize,
    /// Run.
    pub ran: usize,
    /// Failed.
    pub failed: usize,
    /// Not run since what they need failed, or the run was interrupted.
    pub skipped: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Seconds that the cached nodes took when they ran.
    pub saved_seconds: f64,
    /// How it ended.
    pub outcome: Ending,
}

/// How a run ended, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Everything asked for is up to date.
    #[default]
    Done,
    /// A stage failed, or a file changed while the run read it.
    Failed,
    /// Something could not be had: data, a disk.
    Unavailable,
    /// An output differs from the lock.
    Differs,
    /// The cache is damaged.
    Corrupt,
    /// Ctrl-C.
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

/// Someone who is told.
pub trait Observer {
    /// Takes note of what happened.
    fn observe(&mut self, event: &Event);
    /// Takes note of a line that a node's job has written.
    fn output(&mut self, _node: &str, _line: &str) {}
    /// Called a few times a second while nothing happens.
    fn tick(&mut self) {}
}
