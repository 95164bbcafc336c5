//! Snapshots of runs: if nothing has changed since the last run, the next run needs no plan.

use super::no_pipeline;
use crate::cli::args::Common;
use crate::engine::cache::store::Store;
use crate::engine::key::Artifact;
use crate::engine::run::snapshot::{Origin, Snapshot};
use crate::engine::spec::plan::{NodeId, Plan};
use crate::fs;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A run of a whole pipeline: the pipeline file, as written, and a profile.
pub(in crate::cli) struct Whole {
    project: PathBuf,
    pipeline: PathBuf,
    text: Vec<u8>,
    profile: Option<String>,
}

impl Whole {
    /// The run of the arguments `common`; `None` if fields are overridden.
    pub(in crate::cli) fn of(common: &Common) -> Result<Option<Whole>> {
        if !common.set.is_empty() {
            return Ok(None);
        }
        // A missing data folder is an error here too.
        common.data_folder()?;
        let path = common.directory.join(&common.pipeline);
        let text = fs::read_if_exists(&path)?.ok_or_else(|| no_pipeline(&path, "no such file"))?;
        Ok(Some(Whole {
            project: common.project()?,
            pipeline: common.pipeline_path()?,
            text,
            profile: common.profile.clone(),
        }))
    }

    fn origin(&self) -> Origin<'_> {
        let Whole { project, pipeline, text, profile } = self;
        Origin { project, pipeline, text, profile: profile.as_deref() }
    }

    /// Reads the snapshot of the last run, which may be out of date.
    pub(in crate::cli) fn snapshot(&self, store: &Store) -> Result<Option<Snapshot>> {
        Snapshot::read(&self.origin(), store)
    }

    /// Writes the snapshot of a run. If this fails, the next run is only slower.
    pub(in crate::cli) fn remember(
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

    /// Writes a snapshot for the next run. If this fails, that run is only slower.
    pub(in crate::cli) fn write(&self, snapshot: &Snapshot, store: &Store) {
        let _ = snapshot.write(&self.origin(), store);
    }
}
