//! The expected results of a run.

use crate::engine::error::Error;
use crate::engine::key::Artifact;

/// The expected results of a run, for example those in a lock file.
pub trait ExpectedResults {
    /// Fails with [`Error::Differs`] if an output of `node` is missing, unexpected or different.
    fn check(&self, node: &str, found: &Artifact) -> Result<(), Error>;
}
