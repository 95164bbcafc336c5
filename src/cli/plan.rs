//! `repro plan`: shows what a run would do, and why.

use super::args::Common;
use super::output::{self, Output, join, nodes_json, state};
use super::session::Session;
use super::session::remote::{Use, print_notices};
use crate::engine::error::Error;
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::spec::plan::NodeId;
use crate::engine::text::{count, seconds};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub(super) fn plan(
    common: &Common,
    output: &Output,
    targets: &[String],
    check: bool,
    force: bool,
) -> Result<String> {
    let mut session = Session::open(common)?;
    print_notices(session.attach(common, Use { required: false, writes: false })?);
    let targets = session.select(targets)?;
    let checker = session.checker(session.forced(force, &targets));
    let plan_status = checker.plan_status(&session.plan.closure(&targets))?;
    print_notices(session.store.notices());
    let estimate = checker.estimate(&plan_status)?;
    let text = match common.json {
        true => {
            let (seconds, unknown) = estimate;
            let estimate = json!({ "seconds": seconds, "nodes_without_estimate": unknown });
            output::json(nodes_json(common, &session, &plan_status, Some(estimate)))
        }
        false => as_text(common, &session, &plan_status, estimate)?,
    };
    let pending = pending(&plan_status);
    if check && pending > 0 {
        output.print(&text);
        let hint = "run `repro run` to bring them up to date".into();
        return Err(Error::Pending { nodes: pending, hint }.into());
    }
    Ok(text)
}

fn pending(plan_status: &PlanStatus) -> usize {
    plan_status.status.values().filter(|status| !matches!(status, Status::Cached(_))).count()
}

fn as_text(
    common: &Common,
    session: &Session,
    plan_status: &PlanStatus,
    estimate: (f64, usize),
) -> Result<String> {
    let mut text = String::new();
    let profile = session.profile.as_ref().map(|p| format!("profile `{p}`: ")).unwrap_or_default();
    writeln!(text, "{profile}{}", count(plan_status.status.len()))?;
    for assignment in &common.set {
        writeln!(text, "override: {assignment}")?;
    }
    let stages = plan_status.status.keys().map(|id| session.plan.node(*id).stage.len());
    let width = stages.chain(["stage".len()]).max().unwrap_or_default();
    let line = |stage: &str, cached: &str, stale: &str, maybe: &str| {
        format!("{stage:<width$} {cached:>8} {stale:>8} {maybe:>12}\n")
    };
    write!(text, "\n{}", line("stage", "cached", "stale", "maybe-stale"))?;
    let mut counts: BTreeMap<NodeId, (&str, [usize; 3])> = BTreeMap::new();
    let mut first: BTreeMap<&str, NodeId> = BTreeMap::new();
    let mut causes: BTreeMap<String, usize> = BTreeMap::new();
    let mut nodes = String::new();
    for (id, status) in &plan_status.status {
        let node = session.plan.node(*id);
        let leader = *first.entry(&node.stage).or_insert(*id);
        let column = match status {
            Status::Cached(_) => 0,
            Status::Stale(_) => 1,
            Status::MaybeStale(_) => 2,
        };
        counts.entry(leader).or_insert((&node.stage, [0; 3])).1[column] += 1;
        let (state, reasons) = state(status);
        if column > 0 {
            writeln!(nodes, "  {state:<11}  {}: {}", node.name, join(reasons))?;
        }
        if let Status::Stale(reasons) = status {
            reasons.iter().for_each(|reason| *causes.entry(reason.to_string()).or_default() += 1);
        }
        if let Some(cause) = plan_status.checked.get(id).and_then(|c| c.fell_back.as_ref()) {
            writeln!(nodes, "  {:<11}  {}: uses its fallback: {cause}", "note", node.name)?;
        }
    }
    for (stage, counts) in counts.values() {
        let [cached, stale, maybe] = counts.map(|n| n.to_string());
        text += &line(stage, &cached, &stale, &maybe);
    }
    if !plan_status.remote.is_empty() {
        writeln!(text, "\n{} results are in the remote cache only", plan_status.remote.len())?;
    }
    if causes.is_empty() {
        writeln!(text, "\neverything is up to date\n{nodes}")?;
        return Ok(text.trim_end().to_owned() + "\n");
    }
    writeln!(text, "\n{nodes}\nreasons:")?;
    for (cause, nodes) in causes {
        writeln!(text, "  {nodes} x {cause}")?;
    }
    let (work, unknown) = estimate;
    if unknown < pending(plan_status) {
        let others = if unknown > 0 {
            format!(" (no estimate for {})", count(unknown))
        } else {
            String::new()
        };
        writeln!(text, "\nestimated total job time: {}{others}", seconds(work))?;
    }
    Ok(text)
}
