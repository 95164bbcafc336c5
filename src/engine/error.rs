//! Failures that someone branches on: each has an exit code, a cause and, where there is one, a hint.

use crate::engine::located::{Location, ValueError};
use crate::engine::text::count;
use std::fmt;

/// What ended a command. Anything else (a disk, a permission) is infrastructure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline file, an override or a target is wrong.
    #[error("{0}")]
    Usage(Diagnostic),
    /// Stages failed; each was told when it did.
    #[error("{} failed, {skipped} skipped because of that", count(*failed))]
    StageFailed {
        /// How many failed.
        failed: usize,
        /// How many depend on them.
        skipped: usize,
    },
    /// A declared file is no longer what it was when the run began.
    #[error("the file `{0}` changed while the run read it; what was made is of the file as it was")]
    FileChanged(String),
    /// Not everything is up to date, where that was asked for.
    #[error("{} not up to date", count(*nodes))]
    Pending {
        /// How many are not.
        nodes: usize,
        /// What brings them up to date.
        hint: String,
    },
    /// Outputs are not what pipeline.lock expects.
    #[error("{0}")]
    Differs(Diagnostic),
    /// Stored bytes are not what their names say.
    #[error("{message}")]
    Corrupt {
        /// What is wrong with which of them.
        message: String,
        /// What mends it.
        hint: String,
    },
    /// Another process holds the cache alone, or is at work where this one must be alone.
    #[error("{0}")]
    Locked(String),
    /// Disk, network or cluster.
    #[error("{0}")]
    Infrastructure(String),
    /// The answer to a question cannot be had now, and it has no fallback.
    #[error("`{node}` could not be had")]
    Unavailable {
        /// The node that asks.
        node: String,
        /// What would help, as its stage has it.
        hint: Option<String>,
    },
    /// Ctrl-C.
    #[error("interrupted; finished work is kept, run again to go on")]
    Interrupted,
}

impl Error {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::StageFailed { .. } | Error::FileChanged(_) => 1,
            Error::Usage(_) => 2,
            Error::Pending { .. } => 3,
            Error::Differs(_) => 4,
            Error::Corrupt { .. } => 5,
            Error::Locked(_) => 6,
            Error::Infrastructure(_) | Error::Unavailable { .. } => 7,
            Error::Interrupted => 130,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Usage(diagnostic) | Error::Differs(diagnostic) => diagnostic.hint.as_deref(),
            Error::Unavailable { hint, .. } => hint.as_deref(),
            Error::Locked(_) => {
                Some("wait until nobody else is at work there, or pass `--wait-for-lock`")
            }
            Error::Corrupt { hint, .. } | Error::Pending { hint, .. } => Some(hint),
            Error::FileChanged(_) => Some("`repro run` again goes by the file as it is now"),
            _ => None,
        }
    }
}

/// What is wrong with something the user wrote: place, cause, hint.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// The file, or what else was read (`-S`, a target).
    pub source: String,
    /// Where in it.
    pub location: Option<Location>,
    /// One sentence, lower case, literals in backticks.
    pub message: String,
    /// The nearest name, or the command to type.
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
    /// A fault of `source`, where a value there does not fit; `what` says which thing was being read.
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
