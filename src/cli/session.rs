//! The session of a command: the resolved pipeline, its cache, its lock file, and its jobs.

pub(super) mod jobs;
pub(super) mod lockfile;
pub(super) mod remote;
pub(super) mod unchanged;

use super::args::Common;
use crate::engine::cache::store::Store;
use crate::engine::error::{Diagnostic, Error};
use crate::engine::provenance::Provenance;
use crate::engine::record::history;
use crate::engine::record::lockfile::command;
use crate::engine::record::provenance::provenance;
use crate::engine::run::progress::Verbosity;
use crate::engine::run::status::{PlanStatus, StatusChecker};
use crate::engine::spec::pipeline::Pipeline;
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::spec::sources::Sources;
use crate::stage::DATA_VARIABLE;
use crate::{fs, stage};
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

impl Common {
    pub(super) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }

    /// The data folder as an absolute path. An empty name means no folder.
    pub(super) fn data_folder(&self) -> Result<Option<PathBuf>> {
        let Some(folder) = self.data.as_deref().filter(|folder| !folder.as_os_str().is_empty())
        else {
            return Ok(None);
        };
        if !folder.is_dir() {
            let source = format!("--data {}", folder.display());
            let hint = format!(
                "set `--data` or `{DATA_VARIABLE}` to a folder that contains the dataset's files"
            );
            return Err(usage_error(source, "no such folder", hint).into());
        }
        absolute(folder).map(Some)
    }

    /// The project folder as an absolute path.
    pub(super) fn project(&self) -> Result<PathBuf> {
        absolute(&self.directory)
    }

    /// The path of the pipeline file relative to the project folder, normalized; absolute if the
    /// file is outside of the project folder.
    pub(super) fn pipeline_path(&self) -> Result<PathBuf> {
        let file = absolute(&self.directory.join(&self.pipeline))?;
        Ok(file.strip_prefix(self.project()?).map(Path::to_owned).unwrap_or(file))
    }

    /// The cache folder.
    fn cache_folder(&self) -> PathBuf {
        let given = self.cache.as_deref().filter(|folder| !folder.as_os_str().is_empty());
        self.directory.join(given.unwrap_or(Path::new("cache")))
    }

    pub(super) fn store(&self) -> Store {
        let store = Store::at(&self.cache_folder());
        if self.no_lock { store.without_locks() } else { store }
    }

    /// The files of the project.
    pub(super) fn files(&self, store: &Store) -> Sources {
        Sources::of(&self.directory, &store.source_index())
    }
}

/// A resolved pipeline and its cache.
pub(super) struct Session {
    pub pipeline: Pipeline,
    pub profile: Option<String>,
    pub plan: Plan,
    pub store: Store,
    /// Whether to ignore recorded fallbacks: with `--refetch` or a data folder.
    pub refetch: bool,
}

impl Session {
    pub(super) fn open(common: &Common) -> Result<Session> {
        let path = common.directory.join(&common.pipeline);
        let text = match fs::read_if_exists(&path)? {
            Some(bytes) => {
                String::from_utf8(bytes).map_err(|_| no_pipeline(&path, "invalid UTF-8"))?
            }
            None => return Err(no_pipeline(&path, "no such file").into()),
        };
        let source = common.pipeline.display().to_string();
        let mut pipeline = Pipeline::parse(&source, &text).map_err(Error::from)?;
        let profile = pipeline.apply_profile(common.profile.as_deref()).map_err(Error::from)?;
        for assignment in &common.set {
            pipeline.apply_override(assignment).map_err(Error::from)?;
        }
        common.store().recover()?;
        let mut plan = Plan::new(&pipeline, stage::KINDS)
            .map_err(|diagnostic| Error::from(with_overrides(diagnostic, &common.set)))?;
        let store = common.store().with_index();
        let refetch = common.refetch || common.data_folder()?.is_some();
        plan.files = common.files(&store);
        Ok(Session { pipeline, profile, plan, store, refetch })
    }

    /// The nodes that `targets` select.
    pub(super) fn select(&self, targets: &[String]) -> Result<Vec<NodeId>> {
        let mut found = BTreeSet::new();
        for target in targets {
            found.extend(self.plan.select(target).map_err(Error::from)?);
        }
        Ok(found.into_iter().collect())
    }

    /// The nodes that `--force` makes stale: the targets, or all if there are none.
    pub(super) fn forced(&self, force: bool, targets: &[NodeId]) -> BTreeSet<NodeId> {
        match (force, targets.is_empty()) {
            (false, _) => BTreeSet::new(),
            (true, true) => self.plan.ids().collect(),
            (true, false) => targets.iter().copied().collect(),
        }
    }

    pub(super) fn checker(&self, forced: BTreeSet<NodeId>) -> StatusChecker<'_> {
        StatusChecker::new(&self.plan, &self.store, forced, self.refetch, history::names)
    }

    /// The status of `targets` and of the nodes upstream of them; of all nodes if there are none.
    pub(super) fn plan_status(&self, targets: &[NodeId]) -> Result<PlanStatus> {
        self.checker(BTreeSet::new()).plan_status(&self.plan.closure(targets))
    }

    /// The provenance of `id` and of everything upstream, all of which is cached according to
    /// `plan_status`.
    pub(super) fn provenance(&self, id: NodeId, plan_status: &PlanStatus) -> Result<Provenance> {
        provenance(&self.plan, &self.store, id, |node| {
            let checked = plan_status.checked.get(&node);
            checked.map(|checked| checked.key).with_context(|| {
                format!("`{}` is no longer in the cache", self.plan.node(node).name)
            })
        })
    }

    /// `repro VERB`, with the profile of this session.
    pub(super) fn command(&self, verb: &str) -> String {
        command(verb, self.profile.as_deref())
    }

    /// The error for a command that requires nodes to be up to date, if `nodes` are not.
    pub(super) fn not_up_to_date(&self, nodes: usize) -> Error {
        let hint = format!("run `{}` to bring them up to date", self.command("run"));
        Error::Pending { nodes, hint }
    }
}

/// A usage error, without a location in `source`.
pub(super) fn usage_error(
    source: impl Into<String>,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Error {
    Error::Usage(Diagnostic {
        source: source.into(),
        location: None,
        message: message.into(),
        hint: Some(hint.into()),
    })
}

/// The name of a pipeline, from which the names of its lock file and its reports are derived: its
/// path without `.yaml`. Any other extension is kept, so that `small.yaml` and `small.yml` have
/// different names.
pub(super) fn pipeline_name(pipeline: &Path) -> PathBuf {
    let is_yaml = pipeline.extension().is_some_and(|extension| extension == "yaml");
    if is_yaml { pipeline.with_extension("") } else { pipeline.to_owned() }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot resolve `{}`", path.display()))
}

/// Adds the overrides to a diagnostic: they may be the cause, and the location alone would mislead.
fn with_overrides(diagnostic: Diagnostic, set: &[String]) -> Diagnostic {
    if set.is_empty() {
        return diagnostic;
    }
    let set: Vec<String> = set.iter().map(|assignment| format!("`-S {assignment}`")).collect();
    let message = format!("{} (with {})", diagnostic.message, set.join(", "));
    Diagnostic { message, ..diagnostic }
}

fn no_pipeline(path: &Path, message: &str) -> Error {
    let is_yml = path.extension().is_some_and(|extension| extension == "yml");
    let other = path.with_extension(if is_yml { "yaml" } else { "yml" });
    let hint = match other.file_name().filter(|_| !path.exists() && other.is_file()) {
        Some(name) => format!("there is a `{0}`: pass `--pipeline {0}`", name.display()),
        None => "pass the project folder with `-C DIR` or the file with `--pipeline FILE`; `repro \
                 init` starts a project"
            .into(),
    };
    usage_error(path.display().to_string(), message, hint)
}
