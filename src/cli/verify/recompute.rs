//! `repro verify --recompute`: runs cached nodes again and compares the outputs.

use super::summary;
use crate::cli::args::{Common, VerifyArgs};
use crate::cli::output::{Output, json};
use crate::cli::session::Session;
use crate::cli::session::jobs::Jobs;
use crate::engine::cache::verify::VerifyReport;
use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::{Key, Recipe};
use crate::engine::run::executor::Choice;
use crate::engine::run::progress::Verbosity;
use crate::engine::run::recompute::{Comparison, Subject, recompute as recompute_all, sample};
use crate::engine::run::status::Status;
use crate::engine::stage::Resources;
use crate::engine::text::{count, seconds};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

/// Recomputes nodes. `verified` is the report of a verification that found no damage.
pub(super) fn recompute(
    common: &Common,
    output: &Output,
    args: &VerifyArgs,
    verified: &VerifyReport,
) -> Result<String> {
    let session = Session::open(common)?;
    let all = subjects(common, &session, &args.targets)?;
    let total = all.len();
    let subjects = match args.sample {
        Some(n) => sample(all, n, args.seed),
        None => all,
    };
    session.store.prepare()?;
    let _lock = session.store.lock_shared(true)?;
    // Damaged recipes were moved to quarantine; this records them again.
    subjects.iter().try_for_each(|(_, recipe)| session.store.record_recipe(recipe).map(drop))?;
    let subjects: Vec<Subject> = subjects.into_iter().map(|(subject, _)| subject).collect();
    let scratch = session.store.workspace()?;
    let arguments = vec!["--recompute".into(), scratch.path().into()];
    let mut jobs =
        Jobs::new(common, arguments, args.jobs, scratch.path().to_owned(), Choice::Local)?;
    if common.verbosity() > Verbosity::Quiet {
        let _ = writeln!(std::io::stderr(), "recomputing {} of {}", subjects.len(), count(total));
    }
    let mut comparisons: Vec<(String, Comparison)> = Vec::new();
    let mut observe = |subject: &Subject, comparison: &Comparison| {
        if !common.json {
            output.print(&line(&subject.node, comparison));
        }
        comparisons.push((subject.node.clone(), comparison.clone()));
    };
    recompute_all(
        &session.store,
        &subjects,
        &mut *jobs.executor,
        scratch.path(),
        &jobs.interrupted,
        &mut observe,
    )?;
    let is_reproduced =
        |comparison: &Comparison| matches!(comparison, Comparison::Reproduced { .. });
    let reproduced = comparisons.iter().filter(|(_, comparison)| is_reproduced(comparison)).count();
    let text = if common.json {
        let named = |(node, comparison): &(String, Comparison)| {
            let mut comparison = json!(comparison);
            comparison["node"] = json!(node);
            comparison
        };
        let nodes: Vec<_> = comparisons.iter().map(named).collect();
        json(json!({
            "cache": verified, "total": total, "reproduced": reproduced, "nodes": nodes,
        }))
    } else {
        format!("{}{reproduced} of {} reproduced\n", summary(verified), count(comparisons.len()))
    };
    let Some(error) = failure(&comparisons) else { return Ok(text) };
    output.print(&text);
    Err(error.into())
}

/// The nodes that `targets` select, with their recipes. Fails if one is not cached.
fn subjects(
    common: &Common,
    session: &Session,
    targets: &[String],
) -> Result<Vec<(Subject, Recipe)>> {
    let requested = match session.select(targets)? {
        none if none.is_empty() => session.plan.ids().collect(),
        some => some,
    };
    let plan_status = session.plan_status(&requested)?;
    let mut resources: BTreeMap<Key, Resources> = BTreeMap::new();
    for (id, checked) in &plan_status.checked {
        let own = &session.plan.node(*id).resolved.resources;
        resources
            .entry(checked.key)
            .and_modify(|resources| *resources = std::mem::take(resources).loosest(own.clone()))
            .or_insert_with(|| own.clone());
    }
    let mut subjects = Vec::new();
    for id in &requested {
        let Status::Cached(entry) = &plan_status.status[id] else { continue };
        let (node, checked) = (session.plan.node(*id), &plan_status.checked[id]);
        let recipe = session.plan.recipe(
            *id,
            |node| plan_status.fell_back(node),
            |up| &*plan_status.artifacts[&up],
        )?;
        let subject = Subject {
            node: node.name.clone(),
            kind: node.kind,
            key: checked.key,
            entry: Arc::clone(entry),
            resources: resources[&checked.key].clone(),
        };
        subjects.push((subject, recipe));
    }
    let nodes = requested.len() - subjects.len();
    if nodes > 0 {
        let set: String =
            common.set.iter().map(|assignment| format!(" -S '{assignment}'")).collect();
        let targets: String = targets.iter().map(|target| format!(" {target}")).collect();
        let run = session.command("run");
        let hint = format!("run `{run}{set}{targets}` first: only cached nodes can be compared");
        return Err(Error::Pending { nodes, hint }.into());
    }
    Ok(subjects)
}

fn line(node: &str, comparison: &Comparison) -> String {
    match comparison {
        Comparison::Reproduced { seconds: took } => {
            format!("{node}: reproduced in {}\n", seconds(*took))
        }
        Comparison::Differs { differences, kept } => {
            let lines = differences.iter().map(|d| format!("{node}: {}: {}\n", d.file, d.first));
            format!(
                "{}{node}: both versions are in `{}`\n",
                lines.collect::<String>(),
                kept.display()
            )
        }
        Comparison::Failed { cause, log } => {
            format!("{node}: failed: {cause} (log: `{}`)\n", log.display())
        }
    }
}

/// The error of the command. A difference takes precedence over a failed job.
fn failure(comparisons: &[(String, Comparison)]) -> Option<Error> {
    let different: Vec<&str> = comparisons
        .iter()
        .filter(|(_, comparison)| matches!(comparison, Comparison::Differs { .. }))
        .map(|(node, _)| node.as_str())
        .collect();
    if let Some(first) = different.first() {
        let message = match different.len() {
            1 => format!("`{first}` differs from its cached outputs"),
            n => format!("`{first}` and {} more differ from their cached outputs", n - 1),
        };
        return Some(Error::Differs(Diagnostic {
            source: "cache".into(),
            location: None,
            message,
            hint: Some(format!(
                "if the cached outputs are wrong, run `repro run --force {first}` to replace them"
            )),
        }));
    }
    let failed = comparisons
        .iter()
        .filter(|(_, comparison)| matches!(comparison, Comparison::Failed { .. }))
        .count();
    (failed > 0).then_some(Error::StageFailed { failed, skipped: 0 })
}
