//! What results are checked against while a run goes on.

use crate::engine::error::Error;
use crate::engine::key::Artifact;

/// The results that are expected of a run, as a lock file has them.
pub trait ExpectedResults {
    /// Fails with [`Error::Differs`] if an output of `node` is missing, unexpected or different.
    fn check(&self, node: &str, found: &Artifact) -> Result<(), Error>;
}
