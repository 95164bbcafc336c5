//! `repro log`: past runs.

use super::args::Common;
use super::output::{join, json};
use crate::engine::record::history::{self, NodeRecord, Run, State};
use crate::engine::text::{count, seconds, utc};
use anyhow::Result;
use serde_json::json;
use std::fmt::Write as _;

/// The last `limit` runs, newest first.
pub(super) fn runs(common: &Common, limit: usize) -> Result<String> {
    let store = common.store();
    let ids = store.runs()?;
    let runs = ids
        .iter()
        .rev()
        .take(limit)
        .map(|id| history::read(&store, id))
        .collect::<Result<Vec<Run>>>()?;
    if common.json {
        let without_nodes = |run: &Run| {
            let mut run = json!(run);
            run.as_object_mut().map(|run| run.remove("nodes"));
            run
        };
        let runs: Vec<_> = runs.iter().map(without_nodes).collect();
        return Ok(json(json!({ "total": ids.len(), "runs": runs })));
    }
    if runs.is_empty() {
        return Ok("no runs yet\n".into());
    }
    let width = |of: fn(&Run) -> usize, title: &str| {
        runs.iter().map(of).chain([title.len()]).max().unwrap_or_default()
    };
    let (id, profile) =
        (width(|run| run.run.len(), "run"), width(|run| name(run).len(), "profile"));
    let mut text = format!(
        "{:<id$}  {:<20}  {:<profile$}  {:>6}  {:>5}  {:>6}  {:>7}  outcome\n",
        "run", "when (UTC)", "profile", "cached", "ran", "failed", "seconds"
    );
    for run in &runs {
        let duration = run.seconds.map_or("?".to_owned(), |duration| format!("{duration:.1}"));
        let set: String =
            run.overrides.iter().map(|assignment| format!("  -S {assignment}")).collect();
        writeln!(
            text,
            "{:<id$}  {:<20}  {:<profile$}  {:>6}  {:>5}  {:>6}  {duration:>7}  {}{set}",
            run.run,
            when(run),
            name(run),
            run.cached,
            run.ran,
            run.failed,
            outcome(run)
        )?;
    }
    if ids.len() > runs.len() {
        writeln!(text, "{} more; run `repro log --limit {}`", ids.len() - runs.len(), ids.len())?;
    }
    Ok(text)
}

/// One run, node by node.
pub(super) fn run(common: &Common, id: &str) -> Result<String> {
    let store = common.store();
    let run = history::read(&store, &history::find(&store, id)?)?;
    if common.json {
        return Ok(json(json!(run)));
    }
    let mut text = String::new();
    let duration =
        run.seconds.map(|duration| format!(" in {}", seconds(duration))).unwrap_or_default();
    writeln!(
        text,
        "run {}, {}: profile `{}`, {}",
        run.run,
        when(&run),
        name(&run),
        count(run.wanted)
    )?;
    for assignment in &run.overrides {
        writeln!(text, "override: {assignment}")?;
    }
    if let Some(commit) = &run.commit {
        writeln!(text, "commit: {}", commit.short())?;
    }
    writeln!(
        text,
        "{}{duration}: {} cached, {} ran, {} failed\n",
        outcome(&run),
        run.cached,
        run.ran,
        run.failed
    )?;
    for node in &run.nodes {
        writeln!(text, "  {}", line(node))?;
    }
    Ok(text)
}

fn line(node: &NodeRecord) -> String {
    let reasons = join(&node.reasons);
    let duration = node.seconds.map(seconds).unwrap_or_default();
    let cause = node.cause.as_deref().unwrap_or_default();
    match node.state {
        State::Cached => format!("cached   {}", node.node),
        State::Ran => format!("ran      {}: {duration} ({reasons})", node.node),
        State::Began => format!("started  {} ({reasons})", node.node),
        State::Failed => format!("failed   {}: {cause}", node.node),
        State::Skipped => format!("skipped  {}: {cause}", node.node),
    }
}

fn name(run: &Run) -> &str {
    run.profile.as_deref().unwrap_or("-")
}

/// The start time of a run.
fn when(run: &Run) -> String {
    run.began.map_or("?".to_owned(), utc)
}

fn outcome(run: &Run) -> String {
    match (run.outcome, run.running, &run.process) {
        (Some(outcome), ..) => outcome.to_string(),
        (None, true, _) => "running".into(),
        // The process has ended without recording an end.
        (None, false, Some(_)) => "killed".into(),
        (None, false, None) => "unfinished".into(),
    }
}
