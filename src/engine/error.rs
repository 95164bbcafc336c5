//! Errors that callers distinguish. Each has an exit code, a cause and sometimes a hint.

use crate::engine::located::{Location, ValueError};
use crate::engine::text::count;
use std::fmt;

/// The reason why a command failed. All other errors (a disk, a permission) are infrastructure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline file, an override or a target is invalid.
    #[error("{0}")]
    Usage(Diagnostic),
    /// Nodes failed. Their errors have been printed already.
    #[error("{} failed, {skipped} skipped because of that", count(*failed))]
    StageFailed {
        /// Number of failed nodes.
        failed: usize,
        /// Number of nodes that depend on them.
        skipped: usize,
    },
    /// A declared file changed during the run.
    #[error("the file `{0}` changed during the run; the results are those of the earlier content")]
    FileChanged(String),
    /// Nodes are not up to date, and the command requires that they are.
    #[error("{} not up to date", count(*nodes))]
    Pending {
        /// Number of nodes.
        nodes: usize,
        /// The hint, with the command that brings them up to date.
        hint: String,
    },
    /// Outputs differ from pipeline.lock.
    #[error("{0}")]
    Differs(Diagnostic),
    /// Stored bytes do not have the digest in their name.
    #[error("{message}")]
    Corrupt {
        /// The cause.
        message: String,
        /// How to repair the cache.
        hint: String,
    },
    /// Another process has locked the cache, or runs a job while this one needs an exclusive lock.
    #[error("{0}")]
    Locked(String),
    /// Jobs in the queue of a cluster need the cache.
    #[error("{0}")]
    Queued(String),
    /// It is unknown whether jobs on a cluster need the cache.
    #[error("{message}")]
    NoCluster {
        /// The cause.
        message: String,
        /// What to do without the cluster.
        hint: String,
    },
    /// Disk, network or cluster.
    #[error("{0}")]
    Infrastructure(String),
    /// The data of a node is unavailable, and the node has no fallback.
    #[error("the data of `{node}` is unavailable")]
    Unavailable {
        /// The node.
        node: String,
        /// The hint of its stage.
        hint: Option<String>,
    },
    /// A signal interrupted the command.
    #[error("interrupted; finished results are kept, and the next run continues from them")]
    Interrupted,
}

impl Error {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::StageFailed { .. } | Error::FileChanged(_) => 1,
            Error::Usage(_) => 2,
            Error::Pending { .. } => 3,
            Error::Differs(_) => 4,
            Error::Corrupt { .. } => 5,
            Error::Locked(_) | Error::Queued(_) => 6,
            Error::Infrastructure(_) | Error::NoCluster { .. } | Error::Unavailable { .. } => 7,
            Error::Interrupted => 130,
        }
    }

    /// The hint.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Usage(diagnostic) | Error::Differs(diagnostic) => diagnostic.hint.as_deref(),
            Error::Unavailable { hint, .. } => hint.as_deref(),
            Error::Locked(_) => {
                Some("wait until the other process has finished, or pass `--wait-for-lock`")
            }
            Error::Queued(_) => {
                Some("wait until `repro status` lists no jobs, or cancel them with `repro cancel`")
            }
            Error::Corrupt { hint, .. }
            | Error::Pending { hint, .. }
            | Error::NoCluster { hint, .. } => Some(hint),
            Error::FileChanged(_) => Some("run `repro run` again to use the current content"),
            _ => None,
        }
    }
}

/// An error in a file or an argument of the user: location, cause, hint.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// The file, or another source (`-S`, a target).
    pub source: String,
    /// The location in the file.
    pub location: Option<Location>,
    /// The cause: one sentence, lower case, literals in backticks.
    pub message: String,
    /// The nearest known name, or the command to type.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.location {
            Some(location) => write!(f, "{}:{location}: {}", self.source, self.message),
            None => write!(f, "{}: {}", self.source, self.message),
        }
    }
}

impl Diagnostic {
    /// The diagnostic for an `error` in `source`, while reading `what`.
    pub fn of(source: &str, what: &str, error: &ValueError) -> Diagnostic {
        let lead = if what.is_empty() { String::new() } else { format!("{what}: ") };
        Diagnostic {
            source: source.to_owned(),
            location: error.location,
            message: format!("{lead}{error}"),
            hint: error.hint.clone(),
        }
    }
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Error {
        Error::Usage(diagnostic)
    }
}
