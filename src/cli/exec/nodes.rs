//! A task of `repro submit`: brings nodes up to date on the node of the cluster where it runs.

use crate::cli::args::Common;
use crate::cli::session::Session;
use crate::cli::session::jobs::Jobs;
use crate::engine::cache::process::ProcessId;
use crate::engine::error::Error;
use crate::engine::run::event::{Event, Observer as _, SCHEMA};
use crate::engine::run::executor::Choice;
use crate::engine::run::progress::Lines;
use crate::engine::run::schedule::{self, Settings};
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::spec::plan::NodeId;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Write as _, stderr};

/// Runs the nodes of these names whose inputs are cached. Their keys are computed from the entries
/// of the inputs; a node with an entry is done at once. A failed node is tried again `retries`
/// times, or more often if its stage says so. Fails if a node fails, or has an input without a
/// result.
pub(super) fn run(
    common: &Common,
    names: &[String],
    retries: u32,
    arguments: Vec<OsString>,
) -> Result<()> {
    let session = Session::open(common)?;
    let (plan, store) = (&session.plan, &session.store);
    let targets: Vec<NodeId> = session.select(names)?;
    let checker = session.checker(BTreeSet::new());
    let plan_status = checker.plan_status(&plan.closure(&targets))?;
    let mut ready = Vec::new();
    for id in targets.iter().copied() {
        match missing_input(&session, &plan_status, id) {
            None => ready.push(id),
            Some(input) => {
                let (node, input) = (&plan.node(id).name, &plan.node(input).name);
                // Standard error is the log of the task.
                let _ = writeln!(stderr(), "skipped {node}: its input `{input}` has no result");
            }
        }
    }
    let skipped = targets.len() - ready.len();
    if !ready.is_empty() {
        let plan_status = checker.plan_status(&plan.closure(&ready))?;
        let mut jobs = Jobs::new(common, arguments, Some(1), store.scratch()?, Choice::Local)?;
        let settings = Settings {
            keep_going: true,
            retries,
            interrupted: &jobs.interrupted,
            stream: false,
            expected: None,
        };
        let mut observer = Lines::new(stderr(), common.verbosity());
        observer.observe(&Event::Started {
            schema: SCHEMA,
            run: String::new(),
            profile: session.profile.clone(),
            pipeline: common.pipeline.display().to_string(),
            overrides: common.set.clone(),
            targets: names.to_vec(),
            nodes: plan_status.status.len(),
            process: ProcessId::this().tag(),
        });
        let (_, result) = schedule::run(
            plan,
            store,
            &checker,
            &plan_status,
            &mut *jobs.executor,
            &settings,
            &mut observer,
        );
        result?;
        jobs.executor.close()?;
    }
    if skipped > 0 {
        let error = anyhow::Error::from(Error::StageFailed { failed: 0, skipped });
        return Err(error).context("inputs have no results");
    }
    Ok(())
}

/// A node upstream that is not cached.
fn missing_input(session: &Session, plan_status: &PlanStatus, id: NodeId) -> Option<NodeId> {
    let is_missing =
        |up: &NodeId| *up != id && !matches!(plan_status.status.get(up), Some(Status::Cached(_)));
    session.plan.closure(&[id]).into_iter().find(is_missing)
}
