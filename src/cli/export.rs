//! `repro export`: copies outputs out of the cache.

mod ro_crate;

use super::args::{Common, ExportArgs};
use super::output::json;
use super::session::{Session, usage_error};
use crate::engine::record::export::folder_name;
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::spec::plan::NodeId;
use crate::fs;
use anyhow::{Result, bail};
use serde_json::json;
use std::path::Path;

pub(super) fn export(common: &Common, args: &ExportArgs) -> Result<String> {
    let ExportArgs { target, destination, ro_crate, all } = args;
    match (target, destination, ro_crate) {
        (target, _, Some(folder)) => ro_crate::export(common, target.as_deref(), folder, *all),
        (Some(target), Some(destination), None) => copy(common, target, destination),
        _ => bail!("BUG: an argument of `export` is missing"),
    }
}

/// Copies the outputs of `target` to `destination`.
fn copy(common: &Common, target: &str, destination: &Path) -> Result<String> {
    let session = Session::open(common)?;
    let targets = session.select(&[target.to_owned()])?;
    let plan_status = session.plan_status(&targets)?;
    refuse_stale(&session, &targets, &plan_status, Some(target))?;
    let mut written = Vec::new();
    for id in &targets {
        let Status::Cached(entry) = &plan_status.status[id] else { continue };
        let folder = match targets.len() {
            1 => destination.to_owned(),
            _ => destination.join(folder_name(&session.plan.node(*id).name)),
        };
        for (file, stored) in &entry.outputs {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            // This replaces a link. Writing through the link would change another file.
            fs::write_beside(&path, &session.store.read_object(stored.digest)?)?;
            fs::set_executable(&path, stored.executable)?;
            written.push(path.display().to_string());
        }
        for name in &entry.empty_folders {
            let path = folder.join(name);
            fs::create_dir_all(&path)?;
            written.push(path.display().to_string());
        }
    }
    Ok(match common.json {
        true => json(json!({ "files": written })),
        false => written.join("\n") + "\n",
    })
}

/// Refuses targets that are not cached. `target` is the argument that selects them.
fn refuse_stale(
    session: &Session,
    targets: &[NodeId],
    plan_status: &PlanStatus,
    target: Option<&str>,
) -> Result<()> {
    let stale: Vec<&str> = targets
        .iter()
        .filter(|id| !matches!(plan_status.status[id], Status::Cached(_)))
        .map(|id| session.plan.node(*id).name.as_str())
        .collect();
    let Some(first) = stale.first() else { return Ok(()) };
    let message = match stale.len() {
        1 => format!("`{first}` is not up to date"),
        n => format!("`{first}` and {} more are not up to date", n - 1),
    };
    let target = target.map(|target| format!(" {target}")).unwrap_or_default();
    Err(usage_error("export", message, format!("run `repro run{target}` first")).into())
}
