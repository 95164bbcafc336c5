//! `repro verify --recompute`: runs cached nodes again, aside, and compares.

use super::interrupt::{INTERRUPTED, end_jobs_on_request};
use super::run::{child_processes, slots};
use super::{Common, Session, VerifyArgs, print};
use crate::engine::cache::verify::VerifyReport;
use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::{Key, Recipe};
use crate::engine::record::lockfile::command;
use crate::engine::run::event::SCHEMA;
use crate::engine::run::progress::Verbosity;
use crate::engine::run::recompute::{Subject, Verdict, recompute as engine, sample};
use crate::engine::run::status::Status;
use crate::engine::stage::Resources;
use crate::engine::text::{count, seconds};
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

/// `verified` is what is said of the cache itself.
pub(super) fn recompute(common: &Common, args: &VerifyArgs, verified: &VerifyReport) -> Result<String> {
    let session = Session::open(common)?;
    let all = subjects(common, &session, &args.targets)?;
    let of = all.len();
    let subjects = match args.sample {
        Some(n) => sample(all, n, args.seed),
        None => all,
    };
    session.store.prepare()?;
    let _hold = session.store.lock_shared(true)?;
    // One may be gone: damaged, and taken out of the way.
    subjects.iter().try_for_each(|(_, recipe)| session.store.record_recipe(recipe).map(drop))?;
    let subjects: Vec<Subject> = subjects.into_iter().map(|(subject, _)| subject).collect();
    let scratch = session.store.workspace()?;
    let told = vec!["--aside".into(), scratch.path().into()];
    let mut executor = child_processes(common, told, slots(args.jobs), scratch.path().to_owned())?;
    end_jobs_on_request(&executor)?;
    if common.verbosity() > Verbosity::Quiet {
        let _ = writeln!(std::io::stderr(), "running {} of {of} again, aside", subjects.len());
    }
    let mut verdicts: Vec<(String, Verdict)> = Vec::new();
    let mut take = |subject: &Subject, verdict: &Verdict| {
        if !common.json {
            // A line as soon as it is known.
            print(&line(&subject.node, verdict), false);
        }
        verdicts.push((subject.node.clone(), verdict.clone()));
    };
    engine(&session.store, &subjects, &mut executor, scratch.path(), &INTERRUPTED, &mut take)?;
    let reproduced = verdicts
        .iter()
        .filter(|(_, verdict)| matches!(verdict, Verdict::Reproduced { .. }))
        .count();
    let sum = if common.json {
        let named = |(node, verdict): &(String, Verdict)| {
            let mut verdict = json!(verdict);
            verdict["node"] = json!(node);
            verdict
        };
        let nodes: Vec<_> = verdicts.iter().map(named).collect();
        format!(
            "{:#}\n",
            json!({ "schema": SCHEMA, "cache": verified, "of": of, "reproduced": reproduced, "nodes": nodes })
        )
    } else {
        format!("{verified}: all sound\n{reproduced} of {} reproduced\n", count(verdicts.len()))
    };
    let Some(error) = trouble(&verdicts) else { return Ok(sum) };
    print(&sum, common.json);
    Err(error.into())
}

/// The cached nodes that `targets` name, or all, with their questions; it is an error if one is not cached.
fn subjects(
    common: &Common,
    session: &Session,
    targets: &[String],
) -> Result<Vec<(Subject, Recipe)>> {
    let wanted = match session.select(targets)? {
        none if none.is_empty() => session.plan.ids().collect(),
        some => some,
    };
    let plan_status = session.plan_status(&wanted)?;
    let mut resources: BTreeMap<Key, Resources> = BTreeMap::new();
    for (id, checked) in &plan_status.checked {
        let own = session.plan.node(*id).resolved.resources;
        resources
            .entry(checked.key)
            .and_modify(|resources| *resources = resources.loosest(own))
            .or_insert(own);
    }
    let mut subjects = Vec::new();
    for id in &wanted {
        if let Status::Cached(entry) = &plan_status.status[id] {
            let node = session.plan.node(*id);
            let checked = &plan_status.checked[id];
            let recipe = session
                .plan
                .recipe(*id, checked.fell_back.is_some(), |up| &*plan_status.artifacts[&up])?;
            let (name, key) = (node.name.clone(), checked.key);
            let resources = resources[&key];
            subjects.push((
                Subject { node: name, kind: node.kind, key, entry: Arc::clone(entry), resources },
                recipe,
            ));
        }
    }
    let nodes = wanted.len() - subjects.len();
    if nodes > 0 {
        let set: String =
            common.set.iter().map(|assignment| format!(" -S '{assignment}'")).collect();
        let targets: String = targets.iter().map(|target| format!(" {target}")).collect();
        let run = command("run", session.profile.as_deref());
        let hint = format!(
            "`{run}{set}{targets}` brings them up to date; only what is cached can be compared"
        );
        return Err(Error::Pending { nodes, hint }.into());
    }
    Ok(subjects)
}

fn line(node: &str, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Reproduced { seconds: took } => {
            format!("{node}: reproduced, {}\n", seconds(*took))
        }
        Verdict::Different { differences, kept } => {
            let each = |d: &crate::engine::run::recompute::Difference| {
                format!("{node}: {}: {}\n", d.file, d.first)
            };
            let all: String = differences.iter().map(each).collect();
            format!("{all}{node}: both are kept in `{}`\n", kept.display())
        }
        Verdict::Failed { cause, log } => {
            format!("{node}: failed: {cause}; its log: {}\n", log.display())
        }
    }
}

/// A difference tells more than a failure does.
fn trouble(verdicts: &[(String, Verdict)]) -> Option<Error> {
    let different =
        verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Different { .. }));
    let failed =
        verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Failed { .. })).count();
    if let Some((first, _)) = different.clone().next() {
        let nodes = count(different.count());
        return Some(Error::Differs(Diagnostic {
            source: "cache".into(),
            location: None,
            message: format!("{nodes} came out otherwise than what is cached, `{first}` for one"),
            hint: Some(format!(
                "`repro run --force {first}` makes the cached answer anew, if that is the wrong one"
            )),
        }));
    }
    (failed > 0).then_some(Error::StageFailed { failed, skipped: 0 })
}
