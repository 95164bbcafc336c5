//! A task of `repro submit`: brings nodes up to date on the node of the cluster where it runs.

use crate::cli::args::Common;
use crate::cli::session::Session;
use crate::cli::session::jobs::Jobs;
use crate::cli::session::remote::{Pusher, Use, print_notices};
use crate::engine::cache::process::ProcessId;
use crate::engine::cache::transfer::Transferred;
use crate::engine::error::Error;
use crate::engine::run::event::{Event, Observer, SCHEMA};
use crate::engine::run::executor::Choice;
use crate::engine::run::progress::{All, Lines};
use crate::engine::run::schedule::{self, Settings};
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::spec::plan::NodeId;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Write as _, stderr};
use std::sync::atomic::Ordering;

/// Runs the nodes of these names whose inputs are cached. Their keys are computed from the entries
/// of the inputs; a node with an entry, here or in the remote cache, is done at once. A failed node
/// is tried again `retries` times, or more often if its stage says so. If `how` writes, results are
/// copied to the remote cache as they finish. Fails if a node fails, or has an input without a
/// result.
pub(super) fn run(
    common: &Common,
    names: &[String],
    retries: u32,
    how: Use,
    arguments: Vec<OsString>,
) -> Result<()> {
    let mut session = Session::open(common)?;
    // Standard error is the log of the task.
    print_notices(session.attach(common, how)?);
    let (plan, store) = (&session.plan, &session.store);
    let targets: Vec<NodeId> = session.select(names)?;
    let checker = session.checker(BTreeSet::new());
    let pulled = session.pull(common, &checker, &plan.closure(&targets), &|_| Ok(()));
    print_notices(store.notices());
    let (plan_status, _) = pulled?;
    let mut ready = Vec::new();
    for id in targets.iter().copied() {
        match missing_input(&session, &plan_status, id) {
            None => ready.push(id),
            Some(input) => {
                let (node, input) = (&plan.node(id).name, &plan.node(input).name);
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
        let lines = Lines::new(stderr(), common.verbosity());
        let mut observer = All(vec![Box::new(lines)]);
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
        let pusher = match how.writes && store.has_remote() {
            true => {
                let (pusher, pushing) = Pusher::start(store)?;
                observer.0.push(Box::new(OfThisTask(pushing)));
                Some(pusher)
            }
            false => None,
        };
        let (_, result) = schedule::run(
            plan,
            store,
            &checker,
            &plan_status,
            &mut *jobs.executor,
            &settings,
            &mut observer,
        );
        let result = result.and_then(|_| jobs.executor.close());
        let pushed = match pusher {
            // After a signal, there is no time to wait for the network.
            Some(pusher) if !jobs.interrupted.load(Ordering::Relaxed) => {
                pusher.finish(common).map(|Transferred { results, unchanged, bytes, .. }| {
                    observer.observe(&Event::Pushed { results, unchanged, bytes });
                })
            }
            _ => Ok(()),
        };
        print_notices(store.notices());
        result.and(pushed)?;
    }
    if skipped > 0 {
        let error = anyhow::Error::from(Error::StageFailed { failed: 0, skipped });
        return Err(error).context("inputs have no results");
    }
    Ok(())
}

/// Passes on the nodes that this task has computed: those upstream are pushed by other tasks, and
/// what was cached before is pushed by the last job.
struct OfThisTask(Box<dyn Observer>);

impl Observer for OfThisTask {
    fn observe(&mut self, event: &Event) {
        if matches!(event, Event::Finished { .. }) {
            self.0.observe(event);
        }
    }
}

/// A node upstream that is not cached.
fn missing_input(session: &Session, plan_status: &PlanStatus, id: NodeId) -> Option<NodeId> {
    let is_missing =
        |up: &NodeId| *up != id && !matches!(plan_status.status.get(up), Some(Status::Cached(_)));
    session.plan.closure(&[id]).into_iter().find(is_missing)
}
