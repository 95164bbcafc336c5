//! `repro why`: explains why a node is stale, or which run computed it.

use super::args::Common;
use super::output::{self, nodes_json};
use super::session::Session;
use crate::engine::record::history;
use crate::engine::run::reason::Reason;
use crate::engine::run::status::{Checked, Status};
use crate::engine::text::utc;
use anyhow::Result;
use serde_json::json;
use std::fmt::Write as _;

pub(super) fn why(common: &Common, target: &str) -> Result<String> {
    let session = Session::open(common)?;
    let targets = session.select(&[target.to_owned()])?;
    let mut plan_status = session.plan_status(&targets)?;
    plan_status.status.retain(|id, _| targets.contains(id));
    if common.json {
        let mut whole = nodes_json(common, &session, &plan_status, None);
        let nodes = whole["nodes"].as_array_mut().into_iter().flatten();
        for (node, status) in nodes.zip(plan_status.status.values()) {
            if let Status::Cached(entry) = status {
                node["record"] = json!(entry.record());
            }
        }
        return Ok(output::json(whole));
    }
    let cached =
        plan_status.status.iter().filter(|(_, status)| matches!(status, Status::Cached(_)));
    let keys = cached.map(|(id, _)| plan_status.checked[id].key).collect();
    let runs = history::computed_by(&session.store, &keys)?;
    let mut text = String::new();
    for (id, status) in &plan_status.status {
        let name = &session.plan.node(*id).name;
        match status {
            Status::Cached(entry) => {
                let Checked { key, fell_back, .. } = &plan_status.checked[id];
                let run = runs.get(key).map(|run| format!(" by run {}", run.run));
                let (run, key) = (run.unwrap_or_default(), key.short());
                let (time, host) = (utc(entry.finished), &entry.host);
                let commit = entry.environment.as_ref().and_then(|known| known.commit.as_ref());
                let commit = commit
                    .map(|commit| format!(" at commit {}", commit.short()))
                    .unwrap_or_default();
                writeln!(
                    text,
                    "{name}: cached, computed at {time}{run} on {host}{commit}, key {key}"
                )?;
                if let Some(cause) = fell_back {
                    writeln!(text, "  uses its fallback: {cause}; `--refetch` tries again")?;
                }
            }
            Status::Stale(reasons) => write_reasons(&mut text, name, "stale", reasons)?,
            Status::MaybeStale(reasons) => {
                let state = "maybe-stale, runs if an upstream output changes";
                write_reasons(&mut text, name, state, reasons)?;
            }
        }
    }
    Ok(text)
}

fn write_reasons(text: &mut String, name: &str, state: &str, reasons: &[Reason]) -> Result<()> {
    writeln!(text, "{name}: {state}")?;
    for reason in reasons {
        writeln!(text, "  {reason}")?;
    }
    Ok(())
}
