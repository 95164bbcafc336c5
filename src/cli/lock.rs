//! `repro lock`: writes the lock file.

use super::args::Common;
use super::output::json;
use super::session::{Session, lockfile};
use crate::engine::error::Error;
use crate::engine::key::Artifact;
use crate::engine::record::lockfile::Lockfile;
use crate::engine::text::count;
use crate::fs;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::collections::BTreeMap;

pub(super) fn lock(common: &Common) -> Result<String> {
    lockfile::refuse_overrides(common)?;
    let session = Session::open(common)?;
    let (profile, path) = (session.profile.as_deref(), lockfile::path(common));
    let file = path.display().to_string();
    let plan_status = session.plan_status(&[])?;
    // Checked first, because another run would not help.
    let fallback = plan_status.checked.iter().find(|(_, checked)| checked.fell_back.is_some());
    if let Some((id, _)) = fallback {
        let node = session.plan.node(*id).name.clone();
        let hint = Some(format!("run `{} --refetch` to try again", session.command("run")));
        return Err(Error::Unavailable { node, hint })
            .with_context(|| format!("`{file}` cannot list the output of a fallback"));
    }
    let (found, others) = lockfile::cached(&plan_status);
    if others > 0 {
        return Err(session.not_up_to_date(others).into());
    }
    let nodes: BTreeMap<String, Artifact> = found
        .into_iter()
        .map(|(id, artifact)| (session.plan.node(id).name.clone(), artifact))
        .collect();
    // Read under the lock: another process may be writing the section of another profile.
    let _update = session.store.lock_update()?;
    let mut lock = lockfile::read(common)?.unwrap_or_else(|| Lockfile::new(&file));
    let total = nodes.len();
    let embeds_root = session.plan.nodes.iter().filter(|node| node.kind.embeds_root());
    let (root, changed) =
        lock.set(profile, nodes, embeds_root.map(|node| node.name.clone()).collect());
    lock.set_seed(profile, &session.pipeline.seed);
    fs::write_beside(&common.directory.join(&path), lock.to_string().as_bytes())?;
    Ok(match common.json {
        true => json(json!({
            "lock": file, "profile": profile, "root": root, "nodes": total, "changed": changed,
        })),
        false => format!("{file}: {} locked, {changed} changed; root {root}\n", count(total)),
    })
}
