//! `repro plan` and `repro why`: what would run, and why. Both ask the survey that `run` begins with.

use super::{Common, Session, print};
use crate::engine::error::Error;
use crate::engine::record::history;
use crate::engine::run::event::SCHEMA;
use crate::engine::run::reason::Reason;
use crate::engine::run::status::{Checked, PlanStatus, Status, StatusChecker};
use crate::engine::spec::plan::NodeId;
use crate::engine::text::{count, seconds, utc};
use anyhow::Result;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

pub(super) fn plan(
    common: &Common,
    targets: &[String],
    check: bool,
    force: bool,
) -> Result<String> {
    let session = Session::open(common)?;
    let targets = session.select(targets)?;
    let forced = forced(&session, force, &targets);
    let checker = StatusChecker::new(&session.plan, &session.store, forced, session.refetch);
    let plan_status = checker.plan_status(&session.plan.closure(&targets))?;
    let estimate = checker.estimate(&plan_status)?;
    let text = match common.json {
        true => as_json(&session, common, &plan_status, Some(estimate)),
        false => as_text(&session, common, &plan_status, estimate)?,
    };
    let pending = plan_status.status.values().filter(|s| !matches!(s, Status::Cached(_))).count();
    if check && pending > 0 {
        print(&text, common.json);
        return Err(Error::Pending {
            nodes: pending,
            hint: "`repro run` brings them up to date".into(),
        }
        .into());
    }
    Ok(text)
}

/// `--force` alone forces everything; with targets, those.
pub(super) fn forced(session: &Session, force: bool, targets: &[NodeId]) -> BTreeSet<NodeId> {
    match (force, targets.is_empty()) {
        (false, _) => BTreeSet::new(),
        (true, true) => session.plan.ids().collect(),
        (true, false) => targets.iter().copied().collect(),
    }
}

/// Fails at the first node that is not up to date, and says why it is not.
pub(super) fn require_cached(session: &Session, plan_status: &PlanStatus) -> Result<()> {
    let mut pending =
        plan_status.status.iter().filter(|(_, status)| !matches!(status, Status::Cached(_)));
    let Some((first, status)) = pending.next() else { return Ok(()) };
    let node = &session.plan.node(*first).name;
    let because = state(status).1.iter().map(Reason::to_string).collect::<Vec<_>>().join("; ");
    let hint = format!("`repro run {node}` makes it; it runs because of: {because}");
    let nodes = 1 + pending.count();
    Err(anyhow::Error::from(Error::Pending { nodes, hint })
        .context(format!("`{node}` is not cached")))
}

pub(super) fn why(common: &Common, target: &str) -> Result<String> {
    let session = Session::open(common)?;
    let targets = session.select(&[target.to_owned()])?;
    let checker =
        StatusChecker::new(&session.plan, &session.store, BTreeSet::new(), session.refetch);
    let mut plan_status = checker.plan_status(&session.plan.closure(&targets))?;
    plan_status.status.retain(|id, _| targets.contains(id));
    if common.json {
        return Ok(as_json(&session, common, &plan_status, None));
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
                let by = runs.get(key).map_or("a run that `log` no longer has".to_owned(), |run| {
                    format!("run {}", run.run)
                });
                let (since, host) = (utc(entry.finished), &entry.host);
                let key = key.short();
                writeln!(
                    text,
                    "{name}: up to date since {since}: {by} computed {key} on {host} (`repro show {name}`)"
                )?;
                if let Some(cause) = fell_back {
                    writeln!(text, "  its fallback is used: {cause} (`--refetch` tries again)")?;
                }
            }
            Status::Stale(reasons) => told(&mut text, name, "will run", reasons)?,
            Status::MaybeStale(reasons) => {
                told(&mut text, name, "will run, unless what is upstream comes out equal", reasons)?
            }
        }
    }
    Ok(text)
}

fn told(text: &mut String, name: &str, state: &str, reasons: &[Reason]) -> std::fmt::Result {
    writeln!(text, "{name}: {state}")?;
    reasons.iter().try_for_each(|reason| writeln!(text, "  {reason}"))
}

fn state(status: &Status) -> (&'static str, &[Reason]) {
    match status {
        Status::Cached(_) => ("cached", &[]),
        Status::Stale(reasons) => ("run", reasons),
        Status::MaybeStale(reasons) => ("depends", reasons),
    }
}

/// `estimate` as of [`StatusChecker::estimate`], where it was asked for.
fn as_json(
    session: &Session,
    common: &Common,
    plan_status: &PlanStatus,
    estimate: Option<(f64, usize)>,
) -> String {
    let node = |(id, status): (&NodeId, &Status)| {
        let node = session.plan.node(*id);
        let (state, reasons) = state(status);
        let checked = plan_status.checked.get(id);
        json!({
            "node": node.name, "stage": node.stage, "kind": node.kind.name(), "state": state, "reasons": reasons,
            "key": checked.map(|c| c.key), "fell_back": checked.and_then(|c| c.fell_back.as_ref()),
        })
    };
    let nodes: Vec<_> = plan_status.status.iter().map(node).collect();
    let mut whole = json!({ "schema": SCHEMA, "profile": session.profile, "overrides": common.set, "nodes": nodes });
    if let Some((seconds, unknown)) = estimate {
        whole["estimate"] = json!({ "seconds": seconds, "nodes_unlike_any_before": unknown });
    }
    format!("{whole:#}\n")
}

fn as_text(
    session: &Session,
    common: &Common,
    plan_status: &PlanStatus,
    estimate: (f64, usize),
) -> Result<String> {
    let mut text = String::new();
    let profile = session.profile.as_ref().map(|p| format!("profile `{p}`: ")).unwrap_or_default();
    writeln!(text, "{profile}{}", count(plan_status.status.len()))?;
    for assignment in &common.set {
        writeln!(text, "set for this once: {assignment}")?;
    }
    let stages = plan_status.status.keys().map(|id| session.plan.node(*id).stage.len());
    let width = stages.chain(["stage".len()]).max().unwrap_or_default();
    writeln!(text, "\n{:<width$} {:>7} {:>7} {:>8}", "stage", "cached", "run", "depends")?;
    let mut counts: BTreeMap<NodeId, (&str, [usize; 3])> = BTreeMap::new();
    let mut first: BTreeMap<&str, NodeId> = BTreeMap::new();
    let mut causes: BTreeMap<String, usize> = BTreeMap::new();
    let mut pending = String::new();
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
            let wording = reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join("; ");
            writeln!(pending, "  {state:<8} {}: {wording}", node.name)?;
        }
        if let Status::Stale(reasons) = status {
            reasons.iter().for_each(|reason| *causes.entry(reason.to_string()).or_default() += 1);
        }
        if let Some(cause) = plan_status.checked.get(id).and_then(|c| c.fell_back.as_ref()) {
            writeln!(pending, "  note     {}: its fallback is used, since {cause}", node.name)?;
        }
    }
    for (stage, [cached, run, depends]) in counts.values() {
        writeln!(text, "{stage:<width$} {cached:>7} {run:>7} {depends:>8}")?;
    }
    if causes.is_empty() {
        writeln!(text, "\neverything is up to date\n{pending}")?;
        return Ok(text.trim_end().to_owned() + "\n");
    }
    writeln!(text, "\n{pending}\nreasons:")?;
    for (cause, nodes) in causes {
        writeln!(text, "  {nodes} x {cause}")?;
    }
    let pending =
        plan_status.status.values().filter(|status| !matches!(status, Status::Cached(_))).count();
    match estimate {
        (_, unknown) if unknown == pending => {}
        (work, 0) => writeln!(
            text,
            "\nabout {} of jobs one after the other, told from what was most like them",
            seconds(work)
        )?,
        (work, unknown) => {
            let known = seconds(work);
            writeln!(
                text,
                "\nabout {known} of jobs one after the other, besides {} unlike any before",
                count(unknown)
            )?;
        }
    }
    Ok(text)
}
