//! `repro gc`: lists or removes results that are no longer needed.

use super::args::Common;
use super::output::json;
use super::session::{Session, lockfile, usage_error};
use crate::engine::cache::gc::{Garbage, KindTotals, Roots, shape};
use crate::engine::cache::store::Store;
use crate::engine::error::Error;
use crate::engine::record::history;
use crate::engine::run::executor::slurm::job_arrays;
use crate::engine::run::status::{Checked, PlanStatus, Status};
use crate::engine::spec::plan::NodeId;
use crate::engine::text::bytes;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub(super) fn gc(common: &Common, delete: bool, runs: usize, wait: bool) -> Result<String> {
    let store = common.store();
    let _lock = match delete {
        true => {
            store.prepare()?;
            let lock = store.lock_exclusive(wait)?;
            // Asked under the lock, because a submission locks the cache, too.
            check_queue(&store)?;
            Some(lock)
        }
        false => None,
    };
    let roots = roots(common, &store, runs)?;
    let garbage = Garbage::find(&store, &roots)?;
    if delete {
        garbage.remove(&store)?;
        store.sweep_all();
    }
    let older = store.older_formats()?;
    if common.json {
        let older: Vec<_> = older
            .iter()
            .map(|(folder, bytes)| json!({ "folder": folder, "bytes": bytes }))
            .collect();
        return Ok(json(json!({
            "deleted": delete, "bytes": garbage.bytes(), "kinds": garbage.kinds,
            "older_formats": older,
        })));
    }
    let mut text = describe(&garbage, delete);
    for (folder, size) in &older {
        let (folder, size) = (folder.display(), bytes(*size));
        let _ = writeln!(
            text,
            "`{folder}` is from an older version of repro ({size}); \
             run `rm -rf {folder}` to remove it"
        );
    }
    Ok(text)
}

/// Fails if Slurm holds jobs of this cache, or if this is unknown. Jobs that wait hold no lock, and
/// compute from results that this pipeline may no longer need. Calls Slurm only if there are
/// submissions.
fn check_queue(store: &Store) -> Result<()> {
    let arrays = job_arrays(store).map_err(|error| {
        let folder = store.cluster();
        let folder = folder.display();
        let message = format!("cannot tell whether jobs of this cache wait in Slurm: {error:#}");
        let hint = format!(
            "run this on a host where Slurm answers; if none of the jobs in `{folder}` is left, \
             remove that folder"
        );
        anyhow::Error::from(Error::NoCluster { message, hint })
    })?;
    let ids: Vec<String> = arrays.iter().map(|array| array.id.to_string()).collect();
    match ids.as_slice() {
        [] => Ok(()),
        [id] => Err(Error::Queued(format!("Slurm holds the job {id} of this cache")).into()),
        _ => {
            let message = format!("Slurm holds jobs of this cache: {}", ids.join(", "));
            Err(Error::Queued(message).into())
        }
    }
}

/// The results to keep: those that a pipeline of this cache requests, that recent runs used, or
/// that are pinned.
fn roots(common: &Common, store: &Store, runs: usize) -> Result<Roots> {
    let store = &store.clone().with_index();
    let mut roots = Roots { runs, ..Roots::default() };
    roots.keys.extend(store.pinned_keys()?);
    let histories = store.runs()?;
    for id in histories.iter().rev().take(runs) {
        roots.keys.extend(history::read(store, id)?.nodes.iter().filter_map(|node| node.key));
    }
    add_pipeline(common, store, &mut roots)?;
    let here = canonical(&common.directory)?;
    let mut seen = BTreeSet::from([(here.clone(), common.pipeline_path()?)]);
    for (note, record) in store.pipelines()? {
        let Some(record) = record else {
            return Err(unknown_roots(&note, "the file is corrupt", CORRUPT_NOTE));
        };
        let Some(folder) = store.find_project(&record) else {
            let message = format!("project `{}` not found", record.folder.display());
            return Err(unknown_roots(&note, &message, LOST_PROJECT));
        };
        if !seen.insert((folder.clone(), record.pipeline.clone())) {
            continue;
        }
        // Messages name a pipeline of this project as the user named the project folder.
        let is_here = folder == here;
        let directory = if is_here { common.directory.clone() } else { folder };
        let pipeline = record.pipeline;
        let path = if is_here { pipeline.clone() } else { directory.join(&pipeline) };
        let path = path.display().to_string();
        // An error must not count as absence, or `gc` would delete the outputs of the pipeline.
        let exists = directory.join(&pipeline).try_exists();
        if exists.with_context(|| format!("cannot access the pipeline `{path}`"))? {
            let other =
                Common { directory, pipeline, profile: None, set: Vec::new(), ..common.clone() };
            add_pipeline(&other, store, &mut roots).with_context(|| {
                format!("cannot tell what to keep for `{path}`, which uses this cache")
            })?;
        }
    }
    Ok(roots)
}

const CORRUPT_NOTE: &str = "remove the file, then run each pipeline that uses this cache";

const LOST_PROJECT: &str = "mount its disk, or run `gc` on its host; if the project was moved, run \
                            it once and remove this file; if it was deleted, remove this file";

/// The error if the pipeline in the record `note` cannot be read or found.
fn unknown_roots(note: &Path, why: &str, hint: &str) -> anyhow::Error {
    let message = format!("cannot tell what to keep: {why}");
    usage_error(note.display().to_string(), message, hint).into()
}

fn canonical(folder: &Path) -> Result<PathBuf> {
    let context = || format!("cannot access the folder `{}`", folder.display());
    folder.canonicalize().with_context(context)
}

/// Adds the results that the profiles of a pipeline request, as far as their keys are known, and
/// the digests in its lock file.
fn add_pipeline(common: &Common, store: &Store, roots: &mut Roots) -> Result<()> {
    roots.digests.extend(lockfile::digests(common)?);
    let default = Session::open(common)?;
    let mut profiles: Vec<Option<String>> =
        default.pipeline.profiles.iter().map(|profile| Some(profile.name.clone())).collect();
    profiles.push(default.profile);
    for profile in profiles {
        let mut session = Session::open(&Common { profile, ..common.clone() })?;
        session.store = store.clone();
        let plan_status = session.plan_status(&[])?;
        add_nodes(&session, &plan_status, roots)?;
    }
    Ok(())
}

/// Adds the results that the nodes of a profile request.
fn add_nodes(session: &Session, plan_status: &PlanStatus, roots: &mut Roots) -> Result<()> {
    let plan = &session.plan;
    // For each node that is not cached: whether the cache shows that it was computed earlier.
    let mut lost: BTreeMap<NodeId, bool> = BTreeMap::new();
    for id in plan.ids() {
        let Some(Checked { key, status, fell_back, .. }) = plan_status.checked.get(&id) else {
            let was_computed =
                plan.node(id).upstream().iter().all(|up| lost.get(up) != Some(&false));
            if was_computed {
                roots.shapes.insert(shape(&plan.recipe_without_inputs(id)));
                roots.shapes.extend(plan.fallback_without_inputs(id)?.as_ref().map(shape));
            }
            lost.insert(id, was_computed);
            continue;
        };
        let is_cached = matches!(status, Status::Cached(_));
        let mut keys = BTreeSet::from([*key]);
        // Keeping the node's own key keeps the record of its fallback. A node that is not cached
        // may use its fallback in the next run.
        if fell_back.is_some() || !is_cached {
            for fallback in [false, true] {
                let fell_back =
                    |node| if node == id { fallback } else { plan_status.fell_back(node) };
                let artifact = |up| &*plan_status.artifacts[&up];
                keys.insert(plan.recipe(id, fell_back, artifact)?.key());
            }
        }
        if !is_cached {
            let mut was_computed = false;
            for key in &keys {
                was_computed |= session.store.was_requested(*key)?;
            }
            lost.insert(id, was_computed);
        }
        roots.keys.append(&mut keys);
    }
    Ok(())
}

/// The name of the row for objects without a stage kind.
const OTHER: &str = "(other)";

fn describe(garbage: &Garbage, deleted: bool) -> String {
    if garbage.is_empty() {
        return "nothing to remove\n".into();
    }
    let mut text = String::new();
    let widths = garbage.kinds.keys().map(String::len).chain([OTHER.len()]);
    let width = widths.max().unwrap_or_default();
    let _ = writeln!(text, "{:<width$} {:>8} {:>8} {:>10}", "kind", "kept", "removed", "size");
    for (kind, KindTotals { kept, removed, bytes: size }) in &garbage.kinds {
        let kind = if kind.is_empty() { OTHER } else { kind };
        let _ = writeln!(text, "{kind:<width$} {kept:>8} {removed:>8} {:>10}", bytes(*size));
    }
    let size = bytes(garbage.bytes());
    let _ = match deleted {
        true => writeln!(text, "\n{size} freed"),
        false => writeln!(text, "\n{size} can be freed; run `repro gc --delete` to free it"),
    };
    text
}
