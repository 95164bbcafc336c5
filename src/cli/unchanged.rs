//! What a snapshot of the last run saves: a plan, where nothing has changed since.

use super::{Common, no_pipeline};
use crate::engine::cache::store::Store;
use crate::engine::key::Artifact;
use crate::engine::run::snapshot::{Origin, Snapshot};
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::spec::sources::Sources;
use crate::fs;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The pipeline file of a command that is about all of it, as it is written.
pub(super) struct Whole {
    project: PathBuf,
    pipeline: PathBuf,
    text: Vec<u8>,
    profile: Option<String>,
}

impl Whole {
    /// Of `common`, if nothing is set for this once.
    pub(super) fn of(common: &Common) -> Result<Option<Whole>> {
        if !common.set.is_empty() {
            return Ok(None);
        }
        // As where a plan is made, it must be there.
        common.data_folder()?;
        let path = common.directory.join(&common.pipeline);
        let text =
            fs::read_if_exists(&path)?.ok_or_else(|| no_pipeline(&path, "there is no such file"))?;
        let project = std::path::absolute(&common.directory).with_context(|| {
            format!("`{}` cannot be a project's folder", common.directory.display())
        })?;
        Ok(Some(Whole {
            project,
            pipeline: common.pipeline_path()?,
            text,
            profile: common.profile.clone(),
        }))
    }

    fn origin(&self) -> Origin<'_> {
        let Whole { project, pipeline, text, profile } = self;
        Origin { project, pipeline, text, profile: profile.as_deref() }
    }

    /// The snapshot of the last run of this file, as it is. It may not hold any more.
    pub(super) fn snapshot(&self, store: &Store) -> Result<Option<Snapshot>> {
        Snapshot::read(&self.origin(), store)
    }

    /// Writes down that all nodes are up to date. It saves time only: that it cannot be written fails no run.
    pub(super) fn remember(
        &self,
        plan: &Plan,
        profile: Option<&str>,
        store: &Store,
        artifacts: &BTreeMap<NodeId, Arc<Artifact>>,
    ) {
        let snapshot = Snapshot::of(&self.origin(), plan, profile, store, artifacts);
        if let Ok(Some(snapshot)) = snapshot {
            self.write(&snapshot, store);
        }
    }

    /// Writes a snapshot down for the next run.
    pub(super) fn write(&self, snapshot: &Snapshot, store: &Store) {
        let _ = snapshot.write(&self.origin(), store);
    }
}

/// The project's files.
pub(super) fn files(common: &Common, store: &Store) -> Sources {
    Sources::of(&common.directory, &store.source_index())
}
