//! `repro lock`, and what `run --locked` and `verify --locked` hold to: the lock beside the pipeline file.

use super::{Common, Session, print, verify, without_yaml};
use crate::engine::cache::verify::VerifyReport;
use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::{Artifact, Digest};
use crate::engine::record::lockfile::{Expected, Lockfile, Mismatch, command};
use crate::engine::run::event::SCHEMA;
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::spec::plan::NodeId;
use crate::engine::text::count;
use crate::fs;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// The lock's path from the project's folder: `pipeline.lock` beside `pipeline.yaml`.
fn file(common: &Common) -> PathBuf {
    let mut name = without_yaml(&common.pipeline).into_os_string();
    name.push(".lock");
    name.into()
}

/// The lock as it is; `None` if there is none.
fn read(common: &Common) -> Result<Option<Lockfile>> {
    let (file, path) = (file(common), common.directory.join(file(common)));
    let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(None) };
    let source = file.display().to_string();
    let text = String::from_utf8(bytes).map_err(|_| {
        let hint = Some("restore the file, or remove it and lock again".into());
        Error::from(Diagnostic {
            source: source.clone(),
            location: None,
            message: "it is not UTF-8".into(),
            hint,
        })
    })?;
    Ok(Some(Lockfile::parse(&source, &text).map_err(Error::from)?))
}

/// Refuses a lock whose lines are not as they were locked; that there is none is no error.
pub(super) fn check_lines(common: &Common) -> Result<()> {
    let Some(lock) = read(common)? else { return Ok(()) };
    lock.check_roots().map_err(Error::from)?;
    // The root stands for all answers, whichever node gave them: two that have changed places show beside the cache alone.
    // Without a pipeline that can be read, there is none to compare.
    let Ok(session) = Session::open(common) else { return Ok(()) };
    let Ok(expected) = expected(&lock, &session) else { return Ok(()) };
    let differences = differences(&session, &expected, &cached(&session.plan_status(&[])?).0);
    Ok(expected.refuse_swapped(&differences).map_err(Error::from)?)
}

/// The outputs in `found` that are not as `expected`.
fn differences(
    session: &Session,
    expected: &Expected,
    found: &[(NodeId, Artifact)],
) -> Vec<Mismatch> {
    let compare = |(id, artifact): &(NodeId, Artifact)| {
        expected.differences(&session.plan.node(*id).name, artifact)
    };
    found.iter().flat_map(compare).collect()
}

/// Every digest that the lock expects, of any profile.
pub(super) fn digests(common: &Common) -> Result<BTreeSet<Digest>> {
    Ok(read(common)?.map(|lock| lock.digests().collect()).unwrap_or_default())
}

/// Digests of what was set for once must not stand for the profile.
fn refuse_overrides(common: &Common) -> Result<()> {
    let Some(assignment) = common.set.first() else { return Ok(()) };
    let diagnostic = Diagnostic {
        source: format!("-S {assignment}"),
        location: None,
        message: format!(
            "`{}` holds for profiles as `{}` has them",
            file(common).display(),
            common.pipeline.display()
        ),
        hint: Some("leave it out, or make a profile of it".into()),
    };
    Err(Error::Usage(diagnostic).into())
}

/// The lock to hold `session` to, which gives up its fallbacks: what cannot be had has no digest to compare.
pub(super) fn hold(common: &Common, session: &mut Session) -> Result<Lockfile> {
    refuse_overrides(common)?;
    session
        .plan
        .nodes
        .iter_mut()
        .for_each(|node| Arc::make_mut(&mut node.resolved).fallback = None);
    let missing = || {
        let profile = session.profile.as_deref();
        let hint =
            format!("`{}`, then `{}` writes it", command("run", profile), command("lock", profile));
        let source = file(common).display().to_string();
        Error::Usage(Diagnostic {
            source,
            location: None,
            message: "there is no such file".into(),
            hint: Some(hint),
        })
    };
    Ok(read(common)?.ok_or_else(missing)?)
}

/// What `lock` expects of the nodes of `session`.
pub(super) fn expected<'a>(lock: &'a Lockfile, session: &'a Session) -> Result<Expected<'a>> {
    lock.check_seed(session.profile.as_deref(), &session.pipeline.seed).map_err(Error::from)?;
    let names: BTreeSet<&str> = session.plan.nodes.iter().map(|node| node.name.as_str()).collect();
    Ok(lock.expected(session.profile.as_deref(), &names).map_err(Error::from)?)
}

/// The nodes that are up to date, inputs first, and the number of those that are not.
fn cached(plan_status: &PlanStatus) -> (Vec<(NodeId, Artifact)>, usize) {
    let artifact = |(id, status): (&NodeId, &Status)| match status {
        Status::Cached(entry) => Some((*id, entry.artifact())),
        _ => None,
    };
    let found: Vec<(NodeId, Artifact)> = plan_status.status.iter().filter_map(artifact).collect();
    let pending = plan_status.status.len() - found.len();
    (found, pending)
}

/// That `nodes` nodes are not up to date, with the command that mends it.
pub(super) fn pending(nodes: usize, session: &Session) -> Error {
    let hint = format!("`{}` brings them up to date", command("run", session.profile.as_deref()));
    Error::Pending { nodes, hint }
}

pub(super) fn lock(common: &Common) -> Result<String> {
    refuse_overrides(common)?;
    let session = Session::open(common)?;
    let (profile, file) = (session.profile.as_deref(), file(common));
    let plan_status = session.plan_status(&[])?;
    // First: running once more would not help.
    if let Some((id, _)) =
        plan_status.checked.iter().find(|(_, checked)| checked.fell_back.is_some())
    {
        let node = session.plan.node(*id).name.clone();
        let hint = format!(
            "`{} --refetch` asks again; what came instead cannot stand for it",
            command("run", profile)
        );
        return Err(Error::Unavailable { node, hint: Some(hint) })
            .with_context(|| format!("`{}` holds no answers of fallbacks", file.display()));
    }
    let (found, missing) = cached(&plan_status);
    if missing > 0 {
        return Err(pending(missing, &session).into());
    }
    let nodes: BTreeMap<String, Artifact> = found
        .into_iter()
        .map(|(id, artifact)| (session.plan.node(id).name.clone(), artifact))
        .collect();
    // Another profile may be locked at this moment: its part must be there when this one is written.
    let _turn = session.store.lock_update()?;
    let mut lock = read(common)?.unwrap_or_else(|| Lockfile::new(&file.display().to_string()));
    let all = nodes.len();
    let tell = session.plan.nodes.iter().filter(|node| node.kind.embeds_root());
    let (root, changed) = lock.set(profile, nodes, tell.map(|node| node.name.clone()).collect());
    lock.set_seed(profile, &session.pipeline.seed);
    fs::write_beside(&common.directory.join(&file), lock.to_string().as_bytes())?;
    let file = file.display().to_string();
    Ok(match common.json {
        true => {
            let said = json!({
                "schema": SCHEMA, "lock": file, "profile": profile, "root": root, "nodes": all, "changed": changed,
            });
            format!("{said:#}\n")
        }
        false => format!("{file}: {}, {changed} new, changed or gone; root {root}\n", count(all)),
    })
}

/// Compares what is cached with the lock; `verified` is what is said of the cache itself.
pub(super) fn verify(common: &Common, verified: &VerifyReport) -> Result<String> {
    let mut session = Session::open(common)?;
    let lock = hold(common, &mut session)?;
    let expected = expected(&lock, &session)?;
    let (found, missing) = cached(&session.plan_status(&[])?);
    let differences = differences(&session, &expected, &found);
    let text = if common.json {
        let held = json!({
            "lock": expected.source(), "root": expected.root(), "compared": found.len(), "not_cached": missing,
            "differences": differences,
        });
        let mut whole = verify::told(verified);
        whole["locked"] = held;
        format!("{whole:#}\n")
    } else {
        let as_expected = if differences.is_empty() { " as expected" } else { "" };
        let compared = format!(
            "{}: {} compared{as_expected}, {missing} not cached",
            expected.source(),
            found.len()
        );
        format!("{verified}: all sound\n{compared}; root {}\n", expected.root())
    };
    if differences.is_empty() && missing == 0 {
        return Ok(text);
    }
    print(&text, common.json);
    expected.refuse(&differences)?;
    Err(pending(missing, &session).into())
}
