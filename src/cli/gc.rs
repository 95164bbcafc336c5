//! `repro gc`, `pin` and `unpin`: what of the cache stays.

use super::{Common, Session, lock};
use crate::engine::cache::gc::{Garbage, KindTotals, Roots, shape};
use crate::engine::cache::store::Store;
use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::Key;
use crate::engine::record::history;
use crate::engine::run::event::SCHEMA;
use crate::engine::run::status::{Checked, PlanStatus, Status};
use crate::engine::spec::plan::NodeId;
use crate::engine::text::{bytes, count};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub(super) fn gc(common: &Common, delete: bool, runs: usize, wait: bool) -> Result<String> {
    let store = common.store();
    let _alone = match delete {
        true => {
            store.prepare()?;
            Some(store.lock_exclusive(wait)?)
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
        let said = json!({
            "schema": SCHEMA, "deleted": delete, "bytes": garbage.bytes(), "kinds": garbage.kinds,
            "older_formats": older,
        });
        return Ok(format!("{said:#}\n"));
    }
    let older = older.iter().map(|(folder, size)| {
        let (folder, size) = (folder.display(), bytes(*size));
        format!(
            "`{folder}` is of an earlier version of repro ({size}): `rm -rf {folder}` removes it\n"
        )
    });
    Ok(told(&garbage, delete) + &older.collect::<String>())
}

/// What this pipeline and the others that have run here ask for, what the last runs used, and what is pinned.
fn roots(common: &Common, store: &Store, runs: usize) -> Result<Roots> {
    let store = &store.clone().with_index();
    let mut roots = Roots { runs, ..Roots::default() };
    roots.keys.extend(store.pinned_keys()?);
    let histories = store.runs()?;
    for id in histories.iter().rev().take(runs) {
        roots.keys.extend(history::read(store, id)?.nodes.iter().filter_map(|node| node.key));
    }
    asked_for(common, store, &mut roots)?;
    let here = canonical(&common.directory)?;
    let mut seen = BTreeSet::from([(here.clone(), common.pipeline_path()?)]);
    for (note, requester) in store.pipelines()? {
        let Some(requester) = requester else {
            return Err(unknown(&note, "it is damaged", LOST_NOTE).into());
        };
        let Some(folder) = store.find_project(&requester) else {
            let why = format!(
                "the project `{}`, which has run here, is not found",
                requester.folder.display()
            );
            return Err(unknown(&note, &why, LOST_PROJECT).into());
        };
        if !seen.insert((folder.clone(), requester.pipeline.clone())) {
            continue;
        }
        // A pipeline of this project is shown as the user wrote this project's folder.
        let is_here = folder == here;
        let directory = if is_here { common.directory.clone() } else { folder };
        let pipeline = requester.pipeline;
        let shown = if is_here { pipeline.clone() } else { directory.join(&pipeline) }
            .display()
            .to_string();
        // Whether it is there must be known: what it asks for would go.
        let there = directory.join(&pipeline).try_exists();
        if there.with_context(|| format!("cannot look for the pipeline `{shown}`"))? {
            let other =
                Common { directory, pipeline, profile: None, set: Vec::new(), ..common.clone() };
            let asked = asked_for(&other, store, &mut roots);
            asked.with_context(|| {
                format!("what `{shown}`, which has run here, asks for is not known")
            })?;
        }
    }
    Ok(roots)
}

/// What helps where a note of a pipeline is damaged.
const LOST_NOTE: &str = "remove that file, then run each pipeline that uses this cache";

/// What helps where a project is not where it was.
const LOST_PROJECT: &str = "mount its disk, or call `gc` on the machine that has it; if it was moved, run it once; \
                            then, or if it is gone for good, remove that file";

/// That what must be kept cannot be known, because of the pipeline that `note` remembers.
fn unknown(note: &Path, why: &str, hint: &str) -> Error {
    let message = format!("what must be kept is not known: {why}");
    Error::Usage(Diagnostic {
        source: note.display().to_string(),
        location: None,
        message,
        hint: Some(hint.into()),
    })
}

fn canonical(folder: &Path) -> Result<PathBuf> {
    folder
        .canonicalize()
        .with_context(|| format!("cannot look at the folder `{}`", folder.display()))
}

/// What every profile of a pipeline asks for now, as far as that is known, and what its lock
/// expects.
fn asked_for(common: &Common, store: &Store, roots: &mut Roots) -> Result<()> {
    roots.digests.extend(lock::digests(common)?);
    let whole = Session::open(common)?;
    let mut profiles: Vec<Option<String>> =
        whole.pipeline.profiles.iter().map(|p| Some(p.name.clone())).collect();
    profiles.push(whole.profile);
    for profile in profiles {
        let mut session = Session::open(&Common { profile, ..common.clone() })?;
        session.store = store.clone();
        let plan_status = session.plan_status(&[])?;
        needed(&session, &plan_status, roots)?;
    }
    Ok(())
}

/// What the nodes of a profile need, as `survey` found them.
fn needed(session: &Session, plan_status: &PlanStatus, roots: &mut Roots) -> Result<()> {
    let plan = &session.plan;
    // Of the nodes that are not cached, whether they were computed once, as far as the cache shows.
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
        // If the recipe goes, so does the note that its fallback is used. And the next run may use the
        // fallback of a recipe that is not computed.
        if fell_back.is_some() || !is_cached {
            for fallen_back in [false, true] {
                keys.insert(plan.recipe(id, fallen_back, |up| &*plan_status.artifacts[&up])?.key());
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

/// The keys of `targets`, with their names. All must be up to date: what is not there cannot be kept.
fn keys(session: &Session, targets: &[String]) -> Result<Vec<(Key, String)>> {
    let targets = session.select(targets)?;
    let plan_status = session.plan_status(&targets)?;
    let cached = |id: &NodeId| match &plan_status.checked.get(id)?.status {
        Status::Cached(_) => {
            Some((plan_status.checked[id].key, session.plan.node(*id).name.clone()))
        }
        _ => None,
    };
    let found: Vec<(Key, String)> = targets.iter().filter_map(cached).collect();
    let nodes = targets.len() - found.len();
    if nodes > 0 {
        return Err(lock::pending(nodes, session).into());
    }
    Ok(found)
}

fn told(garbage: &Garbage, deleted: bool) -> String {
    if garbage.is_empty() {
        return "nothing to remove\n".into();
    }
    let mut text = String::new();
    let width = garbage
        .kinds
        .keys()
        .map(String::len)
        .chain(["no answer's".len()])
        .max()
        .unwrap_or_default();
    let _ = writeln!(text, "{:<width$} {:>8} {:>8} {:>10}", "kind", "kept", "removed", "bytes");
    for (kind, KindTotals { kept, removed, bytes: size }) in &garbage.kinds {
        let kind = if kind.is_empty() { "no answer's" } else { kind };
        let _ = writeln!(text, "{kind:<width$} {kept:>8} {removed:>8} {:>10}", bytes(*size));
    }
    let size = bytes(garbage.bytes());
    let _ = match deleted {
        true => writeln!(text, "\n{size} freed"),
        false => writeln!(
            text,
            "\n{size} can be freed: `repro gc --delete` removes what is counted as removed"
        ),
    };
    text
}

pub(super) fn pin(common: &Common, targets: &[String]) -> Result<String> {
    if targets.is_empty() {
        return pins(common);
    }
    let session = Session::open(common)?;
    let keys = keys(&session, targets)?;
    session.store.prepare()?;
    let _hold = session.store.lock_shared(true)?;
    for (key, node) in &keys {
        session.store.pin(*key, node)?;
    }
    Ok(said(common, "pinned", &keys, format!("{} pinned\n", count(keys.len()))))
}

/// What is pinned.
fn pins(common: &Common) -> Result<String> {
    let mut pins = common.store().pins()?;
    pins.sort_by(|(a, before), (b, after)| (before, a).cmp(&(after, b)));
    let width = pins.iter().map(|(_, node)| node.len()).max().unwrap_or_default();
    let lines: String =
        pins.iter().map(|(key, node)| format!("{node:<width$}  {}\n", key.short())).collect();
    let text = if pins.is_empty() { "nothing is pinned\n".to_owned() } else { lines };
    Ok(said(common, "pinned", &pins, text))
}

/// By name: what the pipeline asks for now may have another key than what was pinned, or be gone.
pub(super) fn unpin(common: &Common, targets: &[String]) -> Result<String> {
    let session = Session::open(common)?;
    let pins = session.store.pins()?;
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for target in targets {
        match session.plan.select(target) {
            Ok(nodes) => {
                names.extend(nodes.into_iter().map(|id| session.plan.node(id).name.as_str()))
            }
            Err(_) if pins.iter().any(|(_, node)| node == target) => {}
            Err(diagnostic) => return Err(Error::from(diagnostic).into()),
        }
        names.insert(target);
    }
    session.store.prepare()?;
    let _hold = session.store.lock_shared(true)?;
    let gone: Vec<(Key, String)> =
        pins.into_iter().filter(|(_, node)| names.contains(node.as_str())).collect();
    for (key, node) in &gone {
        session.store.unpin(*key, node)?;
    }
    let text = format!("{} pin{} removed\n", gone.len(), if gone.len() == 1 { "" } else { "s" });
    Ok(said(common, "unpinned", &gone, text))
}

/// `text`, or `pins` in JSON as what was `done`.
fn said(common: &Common, done: &str, pins: &[(Key, String)], text: String) -> String {
    if !common.json {
        return text;
    }
    let pins: Vec<_> = pins.iter().map(|(key, node)| json!({ "node": node, "key": key })).collect();
    format!("{:#}\n", json!({ "schema": SCHEMA, done: pins }))
}
