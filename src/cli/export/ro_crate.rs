//! `repro export --ro-crate`: writes an RO-Crate.

use super::refuse_stale;
use crate::cli::args::Common;
use crate::cli::output::json;
use crate::cli::session::jobs::program;
use crate::cli::session::{Session, lockfile, usage_error};
use crate::engine::key::{Digest, Key};
use crate::engine::record::export::folder_name;
use crate::engine::record::ro_crate::{Contents, JobRecord, METADATA, ProjectFile, declared_files};
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::spec::plan::NodeId;
use crate::fs;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// The folder of outputs in the crate: each node has a folder there.
const OUTPUTS: &str = "outputs";

/// The folder of declared files in the crate: each file is in a folder named by its digest.
const FILES: &str = "files";

/// The number of hex digits of such a name.
const DIGITS: usize = 16;

/// Writes the outputs of `target`, by default of all reports, with everything that describes how
/// they were computed, to `destination`. With `all`, also the outputs of upstream nodes.
pub(super) fn export(
    common: &Common,
    target: Option<&str>,
    destination: &Path,
    all: bool,
) -> Result<String> {
    let is_used = destination.is_dir() && !fs::list(destination)?.is_empty();
    if is_used {
        let message = format!("`{}` is not empty", destination.display());
        let hint = "name a folder that does not exist, or remove its files";
        return Err(usage_error("export", message, hint).into());
    }
    let session = Session::open(common)?;
    let targets = match target {
        Some(target) => session.select(&[target.to_owned()])?,
        None => session.plan.ids().filter(|id| session.plan.node(*id).kind.exports()).collect(),
    };
    if targets.is_empty() {
        let hint = "name a stage, stage kind or node: `repro export --ro-crate DIR TARGET`";
        return Err(usage_error("export", "the pipeline has no report", hint).into());
    }
    let plan_status = session.plan_status(&targets)?;
    refuse_stale(&session, &targets, &plan_status, target)?;
    let jobs = jobs(&session, &plan_status, &targets, all)?;
    let names: Vec<String> =
        targets.iter().map(|id| format!("`{}`", session.plan.node(*id).name)).collect();
    let profile = session.profile.as_ref().map(|profile| format!(" of profile `{profile}`"));
    let declared = declared_files(jobs.iter().map(|job| &job.recipe));
    let declared = declared.into_iter().map(|(digest, name)| {
        let path = format!("{FILES}/{}/{name}", &digest.to_string()[..DIGITS]);
        let size =
            fs::metadata_if_exists(&session.store.object(digest))?.map_or(0, |meta| meta.len());
        Ok((digest, (path, size)))
    });
    let contents = Contents {
        name: format!("Outputs of {}{}", names.join(", "), profile.unwrap_or_default()),
        description: "Outputs of a research pipeline that `repro` ran, and a description of every \
                      job that they depend on. The pipeline file describes the computation; the \
                      lock file has the digest of every output."
            .into(),
        declared: declared.collect::<Result<BTreeMap<_, _>>>()?,
        files: project_files(common)?,
        program: Digest::of_file(&program()?)?,
        version: env!("CARGO_PKG_VERSION"),
        jobs,
    };
    let mut written = Vec::new();
    let mut write = |path: &str, bytes: &[u8], executable: bool| -> Result<()> {
        let path = destination.join(path);
        fs::create_dir_all(path.parent().unwrap_or(destination))?;
        fs::write_beside(&path, bytes)?;
        fs::set_executable(&path, executable)?;
        written.push(path.display().to_string());
        Ok(())
    };
    for ProjectFile { path, bytes, .. } in &contents.files {
        write(path, bytes, false)?;
    }
    for (path, digest, executable) in contents.objects() {
        write(&path, &session.store.read_object(digest)?, executable)?;
    }
    // Last, so that an interrupted export is not taken for a crate.
    write(METADATA, contents.metadata().as_bytes(), false)?;
    Ok(match common.json {
        true => json(json!({ "files": written })),
        false => written.join("\n") + "\n",
    })
}

/// The jobs of `targets` and of everything upstream, inputs first. Nodes with one key share a job.
fn jobs<'s>(
    session: &'s Session,
    plan_status: &PlanStatus,
    targets: &[NodeId],
    all: bool,
) -> Result<Vec<JobRecord<'s>>> {
    let mut jobs: Vec<JobRecord> = Vec::new();
    let mut positions: BTreeMap<Key, usize> = BTreeMap::new();
    let targets: BTreeSet<&NodeId> = targets.iter().collect();
    for (id, status) in &plan_status.status {
        let (node, Status::Cached(entry)) = (session.plan.node(*id), status) else { continue };
        let key = plan_status.checked[id].key;
        let folder =
            (all || targets.contains(id)).then(|| format!("{OUTPUTS}/{}", folder_name(&node.name)));
        if let Some(position) = positions.get(&key) {
            let job = &mut jobs[*position];
            job.nodes.push(node);
            job.folder = job.folder.take().or(folder);
            continue;
        }
        let recipe = session.store.recipe(key)?;
        let missing = || format!("the recipe of `{}` is no longer in the cache", node.name);
        positions.insert(key, jobs.len());
        jobs.push(JobRecord {
            nodes: vec![node],
            key,
            recipe: recipe.with_context(missing)?,
            entry: Arc::clone(entry),
            folder,
        });
    }
    Ok(jobs)
}

/// The pipeline file, the lock file, and the files that state licenses and how to cite.
fn project_files(common: &Common) -> Result<Vec<ProjectFile>> {
    let mut files = Vec::new();
    let mut add = |path: &Path, description, is_license| -> Result<()> {
        let Some(bytes) = fs::read_if_exists(&common.directory.join(path))? else { return Ok(()) };
        let name = if path.is_absolute() { path.file_name().map(Path::new) } else { Some(path) };
        let path = name.unwrap_or(path).to_string_lossy().into_owned();
        files.push(ProjectFile { path, bytes, description, is_license });
        Ok(())
    };
    let pipeline = common.pipeline_path()?;
    add(&pipeline, "The pipeline file.", false)?;
    let lock = lockfile::path(common);
    let lock =
        pipeline.parent().unwrap_or(Path::new("")).join(lock.file_name().unwrap_or_default());
    add(&lock, "The lock file: the digest of every output.", false)?;
    add(Path::new("CITATION.cff"), "How to cite the work.", false)?;
    for name in fs::list(&common.directory)? {
        let is_license = ["LICENSE", "LICENCE", "COPYING"].iter().any(|start| {
            let rest = name.strip_prefix(start);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
        });
        if is_license && common.directory.join(&name).is_file() {
            add(Path::new(&name), "A license.", true)?;
        }
    }
    Ok(files)
}
