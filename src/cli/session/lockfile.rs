//! The lock file of a pipeline: its path, and its comparison with the cache.

use super::{Session, pipeline_name, usage_error};
use crate::cli::args::Common;
use crate::engine::error::Error;
use crate::engine::key::{Artifact, Digest};
use crate::engine::record::lockfile::{Expected, Lockfile, Mismatch};
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::spec::plan::NodeId;
use crate::fs;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// The path of the lock file relative to the project folder: `pipeline.lock` beside
/// `pipeline.yaml`.
pub(in crate::cli) fn path(common: &Common) -> PathBuf {
    let mut name = pipeline_name(&common.pipeline).into_os_string();
    name.push(".lock");
    name.into()
}

/// Reads the lock file, if there is one.
pub(in crate::cli) fn read(common: &Common) -> Result<Option<Lockfile>> {
    let (file, path) = (path(common), common.directory.join(path(common)));
    let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(None) };
    let source = file.display().to_string();
    let text = String::from_utf8(bytes).map_err(|_| {
        let hint = "restore the file, or remove it and run `repro lock`";
        usage_error(source.clone(), "invalid UTF-8", hint)
    })?;
    Ok(Some(Lockfile::parse(&source, &text).map_err(Error::from)?))
}

/// The digests in the lock file, for all profiles.
pub(in crate::cli) fn digests(common: &Common) -> Result<BTreeSet<Digest>> {
    Ok(read(common)?.map(|lock| lock.digests().collect()).unwrap_or_default())
}

/// Refuses overrides: the lock file is for profiles as the pipeline file defines them.
pub(in crate::cli) fn refuse_overrides(common: &Common) -> Result<()> {
    let Some(assignment) = common.set.first() else { return Ok(()) };
    let file = path(common);
    let message = format!("`{}` does not apply to a pipeline with overrides", file.display());
    let hint = "remove the override, or add a profile that sets the field";
    Err(usage_error(format!("-S {assignment}"), message, hint).into())
}

/// The lock file to check `session` against. Fallbacks are disabled, since the lock file has no
/// digests of them.
pub(in crate::cli) fn open(common: &Common, session: &mut Session) -> Result<Lockfile> {
    refuse_overrides(common)?;
    for node in &mut session.plan.nodes {
        Arc::make_mut(&mut node.resolved).fallback = None;
    }
    let missing = || {
        let (run, lock) = (session.command("run"), session.command("lock"));
        let hint = format!("run `{run}`, then `{lock}` to create it");
        usage_error(path(common).display().to_string(), "no such file", hint)
    };
    Ok(read(common)?.ok_or_else(missing)?)
}

/// The expected outputs of the nodes of `session`.
pub(in crate::cli) fn expected<'a>(
    lock: &'a Lockfile,
    session: &'a Session,
) -> Result<Expected<'a>> {
    let profile = session.profile.as_deref();
    lock.check_seed(profile, &session.pipeline.seed).map_err(Error::from)?;
    let names: BTreeSet<&str> = session.plan.nodes.iter().map(|node| node.name.as_str()).collect();
    Ok(lock.expected(profile, &names).map_err(Error::from)?)
}

/// The outputs in `found` that differ from `expected`.
pub(in crate::cli) fn differences(
    session: &Session,
    expected: &Expected,
    found: &[(NodeId, Artifact)],
) -> Vec<Mismatch> {
    let compare = |(id, artifact): &(NodeId, Artifact)| {
        expected.differences(&session.plan.node(*id).name, artifact)
    };
    found.iter().flat_map(compare).collect()
}

/// The cached nodes, inputs first, and the number of other nodes.
pub(in crate::cli) fn cached(plan_status: &PlanStatus) -> (Vec<(NodeId, Artifact)>, usize) {
    let artifact = |(id, status): (&NodeId, &Status)| match status {
        Status::Cached(entry) => Some((*id, entry.artifact())),
        _ => None,
    };
    let found: Vec<(NodeId, Artifact)> = plan_status.status.iter().filter_map(artifact).collect();
    let others = plan_status.status.len() - found.len();
    (found, others)
}
