//! The loop that brings nodes up to date; the only owner of a run's changing state.
//!
//! A node is `Waiting` until all it uses is settled, then `Ready`, which means that it may be *checked*, not that it must
//! run. A check finds its answer in the cache (`Done`) or hands a job to the executor (`Running`). When a job's process
//! ends well, the store is asked again: only an entry there settles the node. What hangs on a failed node is `Skipped`.
//!
//! Other runs may share the cache. A question that one of them is at work on is waited for; if its lease ends without an
//! answer, or if it was forced here, it is asked here.
//!
//! Knows no stage kind, prints nothing, and starts no process itself.

use super::event::{Ending, Event, Observer, Summary};
use super::executor::log::{self, Follower};
use super::executor::{Executor, Failure, Outcome};
use super::pool::{Ended, Pool};
use super::reason::Reason;
use super::status::{Checked, PlanStatus, Status, StatusChecker};
use crate::engine::cache::entry::Entry;
use crate::engine::cache::store::Store;
use crate::engine::error::Error;
use crate::engine::key::{Artifact, Key};
use crate::engine::record::lockfile::Expected;
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::stage::Resources;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// How many lines of a failed job's log are shown.
const LOG_LINES: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Some input is not settled.
    Waiting,
    /// All inputs are settled; not checked yet.
    Ready,
    /// Its job has been submitted, here or by another run.
    Running,
    /// Its artifact is known.
    Done,
    /// Its job failed.
    Failed,
    /// Something it needs failed.
    Skipped,
}

/// What a run needs to know besides the plan.
pub struct Settings<'a> {
    /// Go on with what does not depend on a failure.
    pub keep_going: bool,
    /// How often a failed job is tried again.
    pub retries: u32,
    /// Set when the user wants it to stop.
    pub interrupted: &'a AtomicBool,
    /// Show what the jobs write as they write it.
    pub stream: bool,
    /// What the nodes are held to: the first that differs ends the run; its answer is kept.
    pub expected: Option<&'a Expected<'a>>,
}

/// How many threads a job may use while `open` jobs run or might: twice its fair share of the slots, since jobs end at
/// different times and the system shares out its cores, but no more than there are slots; its fair share if its threads go
/// `synchronous_threads`, which others' threads on their cores would hold up.
fn threads(slots: usize, open: usize, synchronous_threads: bool) -> NonZero<usize> {
    let share = if synchronous_threads { slots } else { 2 * slots } / open.max(1);
    NonZero::new(share.min(slots)).unwrap_or(NonZero::<usize>::MIN)
}

/// Brings all nodes of `survey` up to date. Gives the run in numbers and, if all went well, the artifacts. How the run
/// ended is not in the numbers yet: the caller may have more to do in it, and says so ([`ending`]).
pub fn run(
    plan: &Plan,
    store: &Store,
    checker: &StatusChecker,
    plan_status: &PlanStatus,
    executor: &mut dyn Executor,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> (Summary, Result<BTreeMap<NodeId, Arc<Artifact>>>) {
    let mut run = Run::new(plan, store, checker, plan_status, executor, settings, observer);
    let outcome = run.until_done();
    let Summary { nodes, cached, ran, failed, .. } = run.summary;
    run.summary.skipped = nodes - cached - ran - failed;
    run.summary.seconds = run.began.elapsed().as_secs_f64();
    let outcome = outcome.and_then(|()| run.verdict());
    (run.summary, outcome.map(|()| run.artifacts))
}

/// In one word, how a run ended that came to this.
pub fn ending<T>(outcome: &Result<T>) -> Ending {
    let Err(error) = outcome else { return Ending::Done };
    match error.chain().find_map(|cause| cause.downcast_ref::<Error>()) {
        Some(Error::StageFailed { .. } | Error::FileChanged(_)) => Ending::Failed,
        Some(Error::Differs(_)) => Ending::Differs,
        Some(Error::Corrupt { .. }) => Ending::Corrupt,
        Some(Error::Interrupted) => Ending::Interrupted,
        _ => Ending::Unavailable,
    }
}

/// By node, the nodes of its kind and parameters, if their limits differ: with equal inputs they need
/// one result. Most kinds have the same limits everywhere, and their parameters are not looked at.
fn duplicates(
    plan: &Plan,
    ids: impl Iterator<Item = NodeId> + Clone,
) -> BTreeMap<NodeId, Arc<[NodeId]>> {
    let resources = |id: NodeId| plan.node(id).resolved.resources;
    let mut first: BTreeMap<&str, Resources> = BTreeMap::new();
    let mut mixed: BTreeSet<&str> = BTreeSet::new();
    for id in ids.clone() {
        let kind = plan.node(id).kind.name();
        if *first.entry(kind).or_insert(resources(id)) != resources(id) {
            mixed.insert(kind);
        }
    }
    let mut alike: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
    for id in ids.filter(|id| mixed.contains(plan.node(*id).kind.name())) {
        alike.entry(plan.recipe_without_inputs(id).canonical()).or_default().push(id);
    }
    let mut duplicates = BTreeMap::new();
    for nodes in alike.into_values() {
        if nodes.iter().any(|id| resources(*id) != resources(nodes[0])) {
            let nodes: Arc<[NodeId]> = nodes.into();
            duplicates.extend(nodes.iter().map(|id| (*id, Arc::clone(&nodes))));
        }
    }
    duplicates
}

struct Run<'a> {
    plan: &'a Plan,
    store: &'a Store,
    checker: &'a StatusChecker<'a>,
    plan_status: &'a PlanStatus,
    pool: Pool<'a>,
    settings: &'a Settings<'a>,
    observer: &'a mut dyn Observer,
    state: BTreeMap<NodeId, State>,
    /// How many of a node's inputs are not settled.
    incomplete_inputs: BTreeMap<NodeId, usize>,
    downstream: BTreeMap<NodeId, Vec<NodeId>>,
    /// See [`twins`].
    duplicates: BTreeMap<NodeId, Arc<[NodeId]>>,
    ready: BTreeSet<NodeId>,
    /// Two nodes may ask the same question; one job answers both.
    running: BTreeMap<Key, Vec<NodeId>>,
    /// Their logs, if they are shown.
    followers: BTreeMap<Key, Follower>,
    /// The same for questions that another run is at work on.
    already_running: BTreeMap<Key, Vec<NodeId>>,
    /// What is to be answered anew whatever the cache has.
    forced: BTreeSet<Key>,
    /// How often a question's job has failed.
    failures: BTreeMap<Key, u32>,
    /// What has been answered here, and need not be again even if it was forced.
    answered: BTreeSet<Key>,
    artifacts: BTreeMap<NodeId, Arc<Artifact>>,
    current_keys: BTreeSet<Key>,
    unavailable: Option<Error>,
    summary: Summary,
    began: Instant,
}

impl<'a> Run<'a> {
    fn new(
        plan: &'a Plan,
        store: &'a Store,
        checker: &'a StatusChecker<'a>,
        plan_status: &'a PlanStatus,
        executor: &'a mut dyn Executor,
        settings: &'a Settings<'a>,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let mut incomplete_inputs = BTreeMap::new();
        let mut downstream: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for &id in plan_status.status.keys() {
            let upstream = plan.node(id).upstream();
            incomplete_inputs.insert(id, upstream.len());
            upstream.into_iter().for_each(|up| downstream.entry(up).or_default().push(id));
        }
        Run {
            plan,
            store,
            checker,
            plan_status,
            pool: Pool::new(executor, settings.interrupted),
            settings,
            observer,
            state: plan_status.status.keys().map(|&id| (id, State::Waiting)).collect(),
            ready: BTreeSet::new(),
            running: BTreeMap::new(),
            followers: BTreeMap::new(),
            already_running: BTreeMap::new(),
            forced: BTreeSet::new(),
            failures: BTreeMap::new(),
            answered: BTreeSet::new(),
            artifacts: BTreeMap::new(),
            current_keys: plan_status.checked.values().map(|c| c.key).collect(),
            unavailable: None,
            summary: Summary { nodes: plan_status.status.len(), ..Summary::default() },
            began: Instant::now(),
            incomplete_inputs,
            downstream,
            duplicates: duplicates(plan, plan_status.status.keys().copied()),
        }
    }

    /// Whatever needs nothing is ready. Then, until nothing is ready and nothing runs: check ready nodes while there are
    /// free slots, wait for a job to end, and see what other runs have done.
    fn until_done(&mut self) -> Result<()> {
        let roots: Vec<NodeId> =
            self.incomplete_inputs.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
        roots.into_iter().for_each(|id| self.set(id, State::Ready));
        loop {
            while !self.is_stopping()
                && let Some(id) = self.next_with_room()
            {
                self.check(id)?;
            }
            if self.running.is_empty() && (self.already_running.is_empty() || self.is_stopping()) {
                break;
            }
            let ended = self.pool.wait()?;
            self.show_output();
            match ended {
                Some(ended) => self.job_ended(&ended)?,
                None => self.observer.tick(),
            }
            self.poll_already_running()?;
        }
        Ok(())
    }

    /// Whether nothing may be started any more.
    fn is_stopping(&self) -> bool {
        self.summary.failed > 0 && !self.settings.keep_going
    }

    /// The first ready node that there is room for.
    fn next_with_room(&self) -> Option<NodeId> {
        // Most often this saves looking at all that is ready.
        if self.pool.is_full() {
            return None;
        }
        self.ready
            .iter()
            .copied()
            .find(|&id| self.pool.has_room_for(&self.plan.node(id).resolved.resources))
    }

    /// What the nodes that need the answer to `key`, `nodes` and those that are ready, ask of the machine: the loosest of
    /// their limits. Of nodes that still wait for inputs, nobody knows what they will need.
    fn resources(&self, key: Key, nodes: &[NodeId]) -> Resources {
        let of = |id: &NodeId| self.plan.node(*id).resolved.resources;
        let resources = nodes.iter().map(of).reduce(Resources::loosest).unwrap_or_default();
        let needs = |id: &&NodeId| {
            // Its key comes last, for it takes time.
            let recipe = || self.plan.recipe(**id, false, |up| &*self.artifacts[&up]);
            self.ready.contains(id)
                && of(id) != resources
                && recipe().is_ok_and(|recipe| recipe.key() == key)
        };
        let duplicates =
            self.duplicates.get(&nodes[0]).into_iter().flat_map(|duplicates| duplicates.iter());
        duplicates.filter(needs).map(of).fold(resources, Resources::loosest)
    }

    /// Settles what other runs have answered; asks here what they have given up, and what was forced.
    fn poll_already_running(&mut self) -> Result<()> {
        let keys: Vec<Key> = self.already_running.keys().copied().collect();
        for key in keys {
            if self.store.lease_holder(key)?.is_some() {
                continue;
            }
            let forced = self.forced.contains(&key);
            // In this order: a lease ends after its answer has been published.
            if !forced && let Some(entry) = self.store.lookup(key)?.usable() {
                for id in self.already_running.remove(&key).unwrap_or_default() {
                    self.found(id, key, &entry)?;
                }
            } else if !self.is_stopping()
                && self.pool.has_room_for(&self.resources(key, &self.already_running[&key]))
            {
                let nodes = self.already_running.remove(&key).unwrap_or_default();
                for &id in &nodes {
                    let (node, kind) = (self.name(id), self.plan.node(id).kind.name());
                    let reasons = vec![if forced { Reason::Forced } else { Reason::NeverFinished }];
                    self.observer.observe(&Event::Running {
                        node,
                        kind,
                        key: key.to_string(),
                        reasons,
                    });
                }
                self.running.insert(key, nodes);
                self.submit(key, forced)?;
            }
        }
        Ok(())
    }

    /// What a run that came to its end says of its failures.
    fn verdict(&mut self) -> Result<()> {
        if let Some(error) = self.unavailable.take() {
            return Err(error.into());
        }
        if self.summary.failed > 0 {
            return Err(Error::StageFailed {
                failed: self.summary.failed,
                skipped: self.summary.skipped,
            }
            .into());
        }
        Ok(())
    }

    /// Every change of state passes here.
    fn set(&mut self, id: NodeId, state: State) {
        let before = self.state.insert(id, state);
        let legal = match state {
            State::Waiting => false,
            State::Ready => before == Some(State::Waiting),
            State::Running => before == Some(State::Ready),
            State::Done => matches!(before, Some(State::Ready | State::Running)),
            State::Failed => before == Some(State::Running),
            State::Skipped => before == Some(State::Waiting),
        };
        assert!(legal, "BUG: node `{}` went from {before:?} to {state:?}", self.plan.node(id).name);
        self.ready.remove(&id);
        match state {
            State::Ready => _ = self.ready.insert(id),
            State::Done => {
                for down in self.downstream.get(&id).cloned().unwrap_or_default() {
                    let left = self
                        .incomplete_inputs
                        .get_mut(&down)
                        .expect("BUG: a node downstream is not in the run");
                    *left -= 1;
                    if *left == 0 && self.state[&down] == State::Waiting {
                        self.set(down, State::Ready);
                    }
                }
            }
            State::Failed => self.skip_what_hangs_on(id),
            State::Waiting | State::Running | State::Skipped => {}
        }
    }

    /// Nearest first, and without recursion: a chain may be long.
    fn skip_what_hangs_on(&mut self, failed: NodeId) {
        let mut open = VecDeque::from([failed]);
        while let Some(id) = open.pop_front() {
            for down in self.downstream.get(&id).cloned().unwrap_or_default() {
                if self.state[&down] == State::Waiting {
                    self.set(down, State::Skipped);
                    let (node, because) = (self.name(down), self.name(failed));
                    self.observer.observe(&Event::Skipped { node, because });
                    open.push_back(down);
                }
            }
        }
    }

    fn name(&self, id: NodeId) -> String {
        self.plan.node(id).name.clone()
    }

    fn check(&mut self, id: NodeId) -> Result<()> {
        // One that was due is looked up again: another node may have asked the same question meanwhile.
        let mut checked = match self.plan_status.checked.get(&id) {
            Some(checked) if matches!(checked.status, Status::Cached(_)) => checked.clone(),
            _ => self.checker.check(id, |up| &*self.artifacts[&up])?,
        };
        if self.answered.contains(&checked.key)
            && let Some(entry) = self.store.lookup(checked.key)?.usable()
        {
            checked.status = Status::Cached(entry);
        }
        self.act_on(id, checked)
    }

    /// Settles a node from the cache, or starts its job.
    fn act_on(&mut self, id: NodeId, checked: Checked) -> Result<()> {
        let kind = self.plan.node(id).kind.name();
        if let Some(cause) = &checked.fell_back {
            let params = self.plan.node(id).resolved.fallback.iter().flatten();
            let instead = params
                .map(|(name, value)| format!("`{name}: {value}`"))
                .collect::<Vec<_>>()
                .join(", ");
            self.observer.observe(&Event::FellBack {
                node: self.name(id),
                instead,
                cause: cause.clone(),
            });
        }
        match checked.status {
            Status::Cached(entry) => self.found(id, checked.key, &entry)?,
            Status::Stale(known) | Status::MaybeStale(known) => {
                let forced = known.contains(&Reason::Forced);
                let recipe =
                    checked.recipe.as_ref().expect("BUG: a node that is due has its recipe");
                let reasons = match self.plan_status.status.get(&id) {
                    Some(Status::Stale(reasons)) if checked.fell_back.is_none() => reasons.clone(),
                    _ if known.is_empty() => {
                        self.checker.explain(id, recipe, &self.current_keys)?
                    }
                    _ => known,
                };
                let add = |path: &Path, digest| self.store.add_file(path, digest);
                self.plan.files.add_files(&self.plan.node(id).resolved.files, add)?;
                self.store.record_recipe(recipe)?;
                if self.state[&id] == State::Ready {
                    self.set(id, State::Running);
                }
                let key = checked.key;
                if forced {
                    self.forced.insert(key);
                }
                if let Some(nodes) = self.already_running.get_mut(&key) {
                    nodes.push(id);
                } else if !self.running.contains_key(&key)
                    && let Some(process) = self.store.lease_holder(key)?
                {
                    self.observer.observe(&Event::Elsewhere {
                        node: self.name(id),
                        process: process.to_string(),
                    });
                    self.already_running.insert(key, vec![id]);
                } else {
                    self.observer.observe(&Event::Running {
                        node: self.name(id),
                        kind,
                        key: key.to_string(),
                        reasons,
                    });
                    let waiting = self.running.entry(key).or_default();
                    waiting.push(id);
                    if waiting.len() == 1 {
                        self.submit(key, forced)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn submit(&mut self, key: Key, again: bool) -> Result<()> {
        let nodes = &self.running[&key];
        let kind = self.plan.node(nodes[0]).kind;
        let share = threads(
            self.pool.slots(),
            self.running.len() + self.ready.len(),
            kind.synchronous_threads(),
        );
        let resources = self.resources(key, nodes);
        let log = self.store.log(key);
        self.pool.start(key, log.clone(), share, again, resources, kind.spawns())?;
        if self.settings.stream {
            self.followers.insert(key, Follower::new(log));
        }
        Ok(())
    }

    /// Shows what the running jobs have written since the last time.
    fn show_output(&mut self) {
        for (key, follower) in &mut self.followers {
            let node = &self.plan.node(self.running[key][0]).name;
            follower.read().iter().for_each(|line| self.observer.output(node, line));
        }
    }

    /// Shows what a job that came to this end has written since, without what the run says itself.
    fn show_last_output(&mut self, key: Key, outcome: &Outcome) {
        let Some(mut follower) = self.followers.remove(&key) else { return };
        let node = &self.plan.node(self.running[&key][0]).name;
        let mut lines = follower.finish();
        if let Outcome::Failed(failure)
        | Outcome::Stopped(failure)
        | Outcome::Unavailable(failure) = outcome
        {
            log::drop_reason(&mut lines, &failure.cause);
        }
        lines.iter().for_each(|line| self.observer.output(node, line));
    }

    /// Settles a node whose answer is in the cache.
    fn found(&mut self, id: NodeId, key: Key, entry: &Entry) -> Result<()> {
        self.summary.cached += 1;
        self.summary.saved_seconds += entry.seconds;
        let kind = self.plan.node(id).kind.name();
        self.observer.observe(&Event::Cached {
            node: self.name(id),
            kind,
            key: key.to_string(),
            saved_seconds: entry.seconds,
        });
        self.complete(id, entry)
    }

    fn complete(&mut self, id: NodeId, entry: &Entry) -> Result<()> {
        let artifact = match self.plan_status.artifacts.get(&id) {
            Some(known) if matches!(self.plan_status.status[&id], Status::Cached(_)) => {
                Arc::clone(known)
            }
            _ => Arc::new(entry.artifact()),
        };
        if let Some(expected) = self.settings.expected {
            expected.refuse(&expected.differences(&self.plan.node(id).name, &artifact))?;
        }
        self.artifacts.insert(id, artifact);
        self.set(id, State::Done);
        Ok(())
    }

    /// That the process ended well is not enough: only an answer in the store settles its nodes.
    fn job_ended(&mut self, ended: &Ended) -> Result<()> {
        let Ended { key, outcome, resources: given } = ended;
        let key = *key;
        self.show_last_output(key, outcome);
        let nodes = self.running.remove(&key).unwrap_or_default();
        if *outcome == Outcome::AlreadyRunning {
            self.already_running.entry(key).or_default().extend(nodes);
            return Ok(());
        }
        if let (Outcome::Exited, Some(entry)) = (outcome, self.store.lookup(key)?.usable()) {
            self.answered.insert(key);
            log::trim(&self.store.log(key));
            for id in nodes {
                self.summary.ran += 1;
                let (node, kind) = (self.name(id), self.plan.node(id).kind.name());
                let (key, seconds) = (key.to_string(), entry.seconds);
                self.observer.observe(&Event::Finished { node, kind, key, seconds });
                self.complete(id, &entry)?;
            }
            return Ok(());
        }
        if let Outcome::Failed(failure) = outcome {
            let resources = self.resources(key, &nodes);
            // A node that has come to need it since may leave it more time: that is no failure yet.
            let longer = resources.time_limit != given.time_limit;
            let retries = self.settings.retries.max(resources.retries);
            let failures = self.failures.entry(key).or_default();
            *failures += u32::from(!longer);
            if longer || *failures <= retries {
                let (attempt, of) = (*failures + 1, retries.saturating_add(1));
                for &id in &nodes {
                    let (node, cause) = (self.name(id), failure.cause.clone());
                    self.observer.observe(&Event::Retrying { node, cause, attempt, of });
                }
                self.running.insert(key, nodes);
                return self.submit(key, true);
            }
        }
        for id in nodes {
            match outcome {
                Outcome::Unavailable(failure) if self.plan.node(id).resolved.fallback.is_some() => {
                    self.store.record_fallback(key, &failure.cause)?;
                    let checked = self
                        .checker
                        .check_fallback(id, failure.cause.clone(), |up| &*self.artifacts[&up])?;
                    self.act_on(id, checked)?;
                }
                Outcome::Unavailable(failure) => {
                    self.unavailable = Some(Error::Unavailable {
                        node: self.name(id),
                        hint: failure.hint.clone(),
                    });
                    self.fail(id, key, failure);
                }
                Outcome::Stopped(failure) | Outcome::Failed(failure) => self.fail(id, key, failure),
                Outcome::AlreadyRunning => {
                    unreachable!("BUG: a job that was left to another run did not fail")
                }
                Outcome::Exited => {
                    let cause = "it ended well but left no answer in the cache".to_owned();
                    self.fail(id, key, &Failure { cause, hint: None });
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, id: NodeId, key: Key, failure: &Failure) {
        let path = self.store.log(key);
        let mut lines = log::tail(&path, LOG_LINES);
        let Failure { cause, hint } = failure;
        log::drop_reason(&mut lines, cause);
        self.summary.failed += 1;
        let event = Event::Failed {
            node: self.name(id),
            kind: self.plan.node(id).kind.name(),
            cause: cause.clone(),
            hint: hint.clone(),
            log: lines,
            log_path: path.display().to_string(),
        };
        self.observer.observe(&event);
        self.set(id, State::Failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cache::store::Lookup;
    use crate::engine::key::{Digest, Recipe};
    use crate::engine::record::lockfile::Lockfile;
    use crate::engine::testing::{Ran, Script, TestSpace, Trial, id};
    use proptest::prelude::*;
    use std::time::Duration;

    const PIPELINE: &str = "
stages:
  s: { source: { text: x } }
  t: { source: { text: v } }
  p: { pair: { left: s, right: t } }
  g: { gather: { all: [p, s] } }
";

    fn error(ran: &Ran) -> String {
        ran.outcome.as_ref().expect_err("the run should not have gone well").to_string()
    }

    fn resolved(trial: &Trial, name: &str) -> Key {
        trial.plan.recipe(id(&trial.plan, name), false, |_| panic!("it has inputs")).unwrap().key()
    }

    #[test]
    fn a_first_run_runs_everything_after_its_inputs() {
        let bench = TestSpace::new();
        let ran = bench.run(PIPELINE);
        assert_eq!(
            ran.events,
            [
                "running s: first time",
                "running t: first time",
                "finished s",
                "finished t",
                "running p: first time",
                "finished p",
                "running g: first time",
                "finished g",
                "ended: 4 nodes, 0 cached, 4 ran, 0 failed, 0 skipped"
            ]
        );
        assert_eq!(ran.text("g"), "[(x v) x]");
    }

    #[test]
    fn an_unchanged_pipeline_submits_nothing() {
        let bench = TestSpace::new();
        let first = bench.run(PIPELINE);
        let second = bench.run(PIPELINE);
        assert_eq!(
            second.events,
            [
                "cached s",
                "cached t",
                "cached p",
                "cached g",
                "ended: 4 nodes, 4 cached, 0 ran, 0 failed, 0 skipped"
            ]
        );
        assert_eq!(second.submitted, []);
        assert_eq!(second.artifacts, first.artifacts);
    }

    #[test]
    fn only_what_changed_runs_and_says_why() {
        let bench = TestSpace::new();
        bench.run(PIPELINE);
        let ran = bench.run(&PIPELINE.replace("text: v", "text: w"));
        assert_eq!(ran.messages("cached"), ["s"]);
        assert_eq!(ran.finished(), ["t", "p", "g"]);
        assert_eq!(ran.messages("running")[0], "t: param text v -> w");
        assert!(ran.messages("running")[1].starts_with("p: input right/text "), "{:?}", ran.events);
        assert_eq!(ran.text("g"), "[(x w) x]");
    }

    #[test]
    fn an_upstream_run_that_gives_equal_bytes_stops_there() {
        let bench = TestSpace::new();
        bench.run(PIPELINE);
        let ran = bench.run(&PIPELINE.replace("text: v", "text: v, note: reworded"));
        assert_eq!(ran.finished(), ["t"]);
        assert_eq!(ran.messages("cached"), ["s", "p", "g"]);
    }

    #[test]
    fn one_question_asked_by_two_nodes_runs_once() {
        let duplicates = "stages: { a: { source: { text: x } }, b: { source: { text: x } } }";
        for slots in [1, 2] {
            let bench = TestSpace::new();
            let ran = Trial { slots, ..bench.trial(duplicates) }.run();
            assert_eq!(ran.submitted.len(), 1);
            assert_eq!((ran.text("a"), ran.text("b")), ("x".into(), "x".into()));
        }
    }

    #[test]
    fn one_question_asked_by_two_forced_nodes_runs_once() {
        let duplicates = "stages: { a: { source: { text: x } }, b: { source: { text: x } } }";
        for slots in [1, 2] {
            let bench = TestSpace::new();
            let first = bench.run(duplicates);
            let ran = Trial { slots, forced: vec!["a", "b"], ..bench.trial(duplicates) }.run();
            assert_eq!(ran.submitted, first.submitted, "{:?}", ran.events);
        }
    }

    /// A question whose lease another host holds, as far as anyone can tell from here.
    fn held_elsewhere(bench: &TestSpace, name: &str) -> (Key, std::path::PathBuf) {
        let trial = bench.trial(PIPELINE);
        let key = resolved(&trial, name);
        let process = crate::engine::cache::process::ProcessId {
            host: "far".into(),
            ..crate::engine::cache::process::ProcessId::this().clone()
        };
        let lease = bench.path().join(format!("cache/v2/leases/{key}"));
        std::fs::write(&lease, serde_json::to_vec(&process).unwrap()).unwrap();
        (key, lease)
    }

    #[test]
    fn what_another_run_is_at_work_on_is_waited_for_and_not_run_here() {
        let bench = TestSpace::new();
        let already_running = TestSpace::new();
        let answer = already_running.run(PIPELINE).artifacts["t"].clone();
        let (key, lease) = held_elsewhere(&bench, "t");
        let ran = std::thread::scope(|scope| {
            let run = scope.spawn(|| bench.run(PIPELINE));
            // The other run publishes its answer, and then gives its lease back.
            let workspace = bench.store.workspace().unwrap();
            let path = workspace.path().join("text");
            std::fs::copy(already_running.store.object(answer["text"].digest().unwrap()), &path)
                .unwrap();
            let outputs = [("text".to_owned(), bench.store.ingest(&path).unwrap())].into();
            let Some(entry) = already_running.store.lookup(key).unwrap().usable() else {
                panic!("it has run there")
            };
            bench.store.publish(key, &Entry { outputs, ..Entry::clone(&entry) }).unwrap();
            std::fs::remove_file(lease).unwrap();
            run.join().unwrap()
        });
        assert!(!ran.submitted.contains(&key), "{:?}", ran.events);
        assert_eq!(ran.messages("cached"), ["t"]);
        assert_eq!(ran.text("g"), "[(x v) x]");
    }

    #[test]
    fn what_another_run_gave_up_is_run_here() {
        let bench = TestSpace::new();
        let (key, lease) = held_elsewhere(&bench, "t");
        let ran = std::thread::scope(|scope| {
            let run = scope.spawn(|| bench.run(PIPELINE));
            std::thread::sleep(Duration::from_millis(50));
            std::fs::remove_file(lease).unwrap();
            run.join().unwrap()
        });
        assert_eq!((ran.messages("elsewhere"), ran.submitted.contains(&key)), (vec!["t"], true));
        assert_eq!(ran.text("g"), "[(x v) x]");
    }

    #[test]
    fn what_was_forced_while_another_run_is_at_work_on_it_is_run_here_when_that_has_ended() {
        let bench = TestSpace::new();
        bench.run(PIPELINE);
        let (key, lease) = held_elsewhere(&bench, "t");
        // The mock picks a job at each `wait`, be there any or none.
        let mut waits = 0;
        let pick = |_: usize| {
            waits += 1;
            if waits == 3 {
                std::fs::remove_file(&lease).unwrap();
            }
            0
        };
        let ran = Trial { forced: vec!["t"], pick: Box::new(pick), ..bench.trial(PIPELINE) }.run();
        assert_eq!(
            (ran.messages("elsewhere"), ran.messages("running")),
            (vec!["t"], vec!["t: forced"])
        );
        assert_eq!((ran.finished(), &ran.submitted), (vec!["t"], &vec![key]));
        assert!(waits > 3, "the old answer was not taken before the lease ended");
    }

    #[test]
    fn what_was_forced_and_came_too_late_for_the_lease_is_run_when_that_has_ended() {
        let bench = TestSpace::new();
        bench.run(PIPELINE);
        // Another run takes the lease when the job has been submitted, and gives it back later.
        let lease = std::cell::OnceCell::new();
        let fate = |_: &Recipe| {
            lease.get_or_init(|| held_elsewhere(&bench, "t").1);
            Script::Runs
        };
        let mut waits = 0;
        let pick = |_: usize| {
            waits += 1;
            if waits == 3 {
                std::fs::remove_file(lease.get().unwrap()).unwrap();
            }
            0
        };
        let (fate, pick) = (Box::new(fate), Box::new(pick));
        let ran = Trial { forced: vec!["t"], fate, pick, ..bench.trial(PIPELINE) }.run();
        assert_eq!(ran.messages("running"), ["t: forced", "t: forced"]);
        assert_eq!((ran.finished(), ran.submitted.len()), (vec!["t"], 2));
    }

    #[test]
    fn what_another_run_gave_up_is_not_begun_after_a_failure_unless_told_to_keep_going() {
        for keep_going in [false, true] {
            let bench = TestSpace::new();
            let (key, lease) = held_elsewhere(&bench, "t");
            let pick = |_: usize| {
                let _ = std::fs::remove_file(&lease);
                0
            };
            let ran = Trial { keep_going, pick: Box::new(pick), ..bench.trial(BROKEN) }.run();
            assert_eq!((ran.messages("elsewhere"), ran.messages("failed").len()), (vec!["t"], 1));
            assert_eq!(ran.submitted.contains(&key), keep_going, "{:?}", ran.events);
        }
    }

    #[test]
    fn a_failed_job_is_tried_again_as_often_as_asked_and_no_more() {
        let pipeline = "stages: { s: { source: { text: x } } }";
        for (retries, failures, runs) in [(0, 1, false), (2, 2, true), (2, 3, false)] {
            let bench = TestSpace::new();
            let left = std::cell::Cell::new(failures);
            let fate = |_: &Recipe| {
                left.set(left.get() - 1);
                if left.get() < 0 { Script::Runs } else { Script::Lost }
            };
            // The mock asks for a job's fate twice: whether it hangs, and what it is.
            let asked = std::cell::Cell::new(false);
            let fate = |recipe: &Recipe| match asked.replace(!asked.get()) {
                false => Script::Runs,
                true => fate(recipe),
            };
            let ran = Trial { retries, fate: Box::new(fate), ..bench.trial(pipeline) }.run();
            assert_eq!(ran.outcome.is_ok(), runs, "{:?}", ran.events);
            assert_eq!(ran.messages("retrying").len(), retries as usize);
        }
    }

    #[test]
    fn as_many_jobs_run_at_once_as_there_are_slots() {
        let six = "stages: { s: { source: { text: x, width: [1, 2, 3, 4, 5, 6] } } }";
        for slots in [1, 3, 10] {
            let bench = TestSpace::new();
            assert_eq!(Trial { slots, ..bench.trial(six) }.run().most_at_once, slots.min(6));
        }
    }

    #[test]
    fn a_job_may_use_twice_its_share_of_the_slots_and_all_of_them_when_few_are_left() {
        let case = |slots, open| threads(slots, open, false).get();
        assert_eq!([1, 2, 3, 100].map(|open| case(2, open)), [2, 2, 1, 1]);
        assert_eq!([1, 3, 4, 9].map(|open| case(8, open)), [8, 5, 4, 1]);
        assert_eq!([case(0, 0), case(1, 1)], [1, 1]);
        assert_eq!(
            [1, 2, 3].map(|open| threads(2, open, true).get()),
            [2, 1, 1],
            "in step, its share alone"
        );
        let five = "stages: { s: { source: { text: x, width: [1, 2, 3, 4, 5] } }, g: { gather: { all: s } } }";
        let bench = TestSpace::new();
        assert_eq!(
            bench.run(five).threads,
            [1, 1, 1, 1, 2, 2],
            "two slots; the fifth leaves none waiting"
        );
    }

    const BROKEN: &str = "
stages:
  bad: { source: { text: fail } }
  hit: { pair: { left: bad } }
  t: { source: { text: v } }
  u: { pair: { left: t } }
  g: { gather: { all: [hit, u] } }
";

    #[test]
    fn a_failure_skips_what_hangs_on_it_and_starts_nothing_else() {
        let bench = TestSpace::new();
        let ran = Trial { slots: 1, ..bench.trial(BROKEN) }.run();
        assert_eq!(
            ran.events,
            [
                "running bad: first time",
                "failed bad: it was told to fail",
                "skipped hit: bad",
                "skipped g: bad",
                "ended: 5 nodes, 0 cached, 0 ran, 1 failed, 4 skipped"
            ]
        );
        let failed = ran.outcome.unwrap_err();
        assert!(
            matches!(failed.downcast_ref(), Some(Error::StageFailed { failed: 1, skipped: 4 })),
            "{failed}"
        );
    }

    #[test]
    fn what_was_running_at_a_failure_may_finish_and_is_kept() {
        let bench = TestSpace::new();
        let ran = bench.run(BROKEN);
        assert_eq!(ran.finished(), ["t"], "t ran beside bad, u had not begun");
        assert!(error(&ran).contains("1 node failed"), "{}", error(&ran));
        let mended = bench.run(&BROKEN.replace("fail", "x"));
        assert_eq!(mended.messages("cached"), ["t"]);
        assert_eq!(mended.text("g"), "[(v) (x)]");
    }

    #[test]
    fn keep_going_runs_what_does_not_hang_on_the_failure() {
        let bench = TestSpace::new();
        let ran = Trial { keep_going: true, slots: 1, ..bench.trial(BROKEN) }.run();
        assert_eq!(ran.finished(), ["t", "u"]);
        assert_eq!(ran.messages("skipped"), ["hit: bad", "g: bad"]);
        assert_eq!(ran.messages("ended:"), ["5 nodes, 0 cached, 2 ran, 1 failed, 2 skipped"]);
        assert!(ran.outcome.is_err());
    }

    #[test]
    fn a_failure_at_the_head_of_a_chain_of_ten_thousand_does_not_overflow_the_stack() {
        let links = (1..10_000).map(|i| format!("  s{i}: {{ pair: {{ left: s{} }} }}\n", i - 1));
        let yaml =
            format!("stages:\n  s0: {{ source: {{ text: fail }} }}\n{}", links.collect::<String>());
        let ran = TestSpace::new().run(&yaml);
        assert_eq!(ran.messages("skipped").len(), 9_999);
        assert_eq!(ran.messages("skipped")[9_998], "s9999: s0");
    }

    #[test]
    fn a_job_that_ends_well_without_an_answer_has_failed() {
        let bench = TestSpace::new();
        let ran = Trial { fate: Box::new(|_| Script::Pretends), ..bench.trial(PIPELINE) }.run();
        assert_eq!(ran.messages("failed")[0], "s: it ended well but left no answer in the cache");
        assert_eq!(ran.finished(), [""; 0]);
    }

    #[test]
    fn a_lost_job_has_failed_and_the_next_run_makes_up_for_it() {
        let bench = TestSpace::new();
        let lose_p =
            |recipe: &Recipe| if recipe.kind == "pair" { Script::Lost } else { Script::Runs };
        let ran = Trial { fate: Box::new(lose_p), ..bench.trial(PIPELINE) }.run();
        assert_eq!(ran.messages("failed"), ["p: the process was lost"]);
        let again = bench.run(PIPELINE);
        assert_eq!(again.messages("running")[0], "p: not finished yet");
        assert_eq!(again.finished(), ["p", "g"]);
    }

    #[test]
    fn an_interrupt_ends_the_run_kills_its_jobs_and_counts_the_rest_as_skipped() {
        let bench = TestSpace::new();
        let ran =
            Trial { interrupted: true, fate: Box::new(|_| Script::Hangs), ..bench.trial(PIPELINE) }
                .run();
        assert!(ran.killed);
        assert_eq!(ran.messages("ended:"), ["4 nodes, 0 cached, 0 ran, 0 failed, 4 skipped"]);
        assert!(matches!(ran.outcome.unwrap_err().downcast_ref(), Some(Error::Interrupted)));
    }

    #[test]
    fn a_job_that_dies_of_an_interrupt_has_not_failed() {
        let bench = TestSpace::new();
        let ran =
            Trial { interrupted: true, fate: Box::new(|_| Script::Lost), ..bench.trial(PIPELINE) }
                .run();
        assert_eq!(ran.messages("failed"), [""; 0]);
        assert_eq!(error(&ran), Error::Interrupted.to_string());
    }

    #[test]
    fn a_forced_node_runs_though_it_is_cached_and_what_hangs_on_equal_bytes_does_not() {
        let bench = TestSpace::new();
        bench.run(PIPELINE);
        let ran = Trial { forced: vec!["s", "p"], ..bench.trial(PIPELINE) }.run();
        assert_eq!(ran.messages("running"), ["s: forced", "p: forced"]);
        assert_eq!(ran.messages("cached"), ["t", "g"]);
    }

    #[test]
    fn a_target_runs_with_what_it_needs_and_nothing_else() {
        let bench = TestSpace::new();
        let ran = Trial { targets: vec!["t"], ..bench.trial(PIPELINE) }.run();
        assert_eq!(ran.finished(), ["t"]);
        assert_eq!(
            Trial { targets: vec!["p"], ..bench.trial(PIPELINE) }.run().finished(),
            ["s", "p"]
        );
    }

    const HARD_TO_GET: &str = "
stages:
  s: { source: { text: rare, otherwise: common } }
  p: { pair: { left: s } }
";

    /// A run while `rare` cannot be had.
    fn without_rare<'a>(bench: &'a TestSpace, yaml: &str) -> Trial<'a> {
        let rare = |recipe: &Recipe| recipe.params.get("text").is_some_and(|text| text == "rare");
        Trial {
            fate: Box::new(move |r| if rare(r) { Script::Unavailable } else { Script::Runs }),
            ..bench.trial(yaml)
        }
    }

    #[test]
    fn what_cannot_be_had_is_replaced_by_its_fallback_and_that_is_said() {
        let bench = TestSpace::new();
        let ran = without_rare(&bench, HARD_TO_GET).run();
        assert_eq!(ran.messages("fell back"), ["s: `text: \"common\"`, nobody answered"]);
        assert_eq!(ran.finished(), ["s", "p"]);
        assert_eq!(ran.text("p"), "(common)");
    }

    #[test]
    fn a_fallback_is_never_the_answer_to_the_question() {
        let bench = TestSpace::new();
        without_rare(&bench, HARD_TO_GET).run();
        let resolved = resolved(&bench.trial(HARD_TO_GET), "s");
        assert_eq!(bench.store.lookup(resolved).unwrap(), Lookup::Absent);
        assert_eq!(bench.store.fallback(resolved).unwrap().as_deref(), Some("nobody answered"));
        let direct = bench.run(&HARD_TO_GET.replace(", otherwise: common", ""));
        assert_eq!(direct.text("p"), "(rare)", "the question itself is still open");
    }

    #[test]
    fn a_fallback_is_remembered_and_said_again_on_every_run() {
        let bench = TestSpace::new();
        without_rare(&bench, HARD_TO_GET).run();
        let again = bench.run(HARD_TO_GET);
        assert_eq!(again.submitted, []);
        assert_eq!(again.messages("fell back"), ["s: `text: \"common\"`, nobody answered"]);
        assert_eq!(again.text("p"), "(common)");
    }

    #[test]
    fn a_refetch_asks_the_question_again() {
        let bench = TestSpace::new();
        without_rare(&bench, HARD_TO_GET).run();
        let still = Trial { refetch: true, ..without_rare(&bench, HARD_TO_GET) }.run();
        assert_eq!(still.messages("fell back").len(), 1);
        assert_eq!(still.submitted.len(), 1, "the question was asked, its fallback was cached");
        let had = Trial { refetch: true, ..bench.trial(HARD_TO_GET) }.run();
        assert_eq!(had.messages("fell back"), [""; 0]);
        assert_eq!(had.text("p"), "(rare)");
        assert_eq!(
            bench.run(HARD_TO_GET).text("p"),
            "(rare)",
            "an answer counts for more than the choice before it"
        );
    }

    #[test]
    fn without_a_fallback_what_cannot_be_had_ends_the_run_with_its_hint() {
        let bench = TestSpace::new();
        let ran = without_rare(&bench, &HARD_TO_GET.replace(", otherwise: common", "")).run();
        assert_eq!(
            ran.events[1..],
            [
                "failed s: nobody answered",
                "skipped p: s",
                "ended: 2 nodes, 0 cached, 0 ran, 1 failed, 1 skipped"
            ]
        );
        let error = ran.outcome.unwrap_err().downcast::<Error>().unwrap();
        assert_eq!(
            (error.to_string().as_str(), error.hint()),
            ("`s` is unavailable", Some("try later"))
        );
    }

    #[test]
    fn nodes_that_ask_the_same_may_fall_back_on_different_things() {
        let yaml = "
stages:
  a: { source: { text: rare, otherwise: one } }
  b: { source: { text: rare, otherwise: two } }
  c: { source: { text: rare } }
  g: { gather: { all: [a, b] } }
";
        let bench = TestSpace::new();
        let ran = Trial { keep_going: true, ..without_rare(&bench, yaml) }.run();
        assert_eq!(ran.messages("failed"), ["c: nobody answered"]);
        let ran = Trial { targets: vec!["g"], ..bench.trial(yaml) }.run();
        assert_eq!(ran.text("g"), "[one two]");
    }

    /// The lock of a run that went well.
    fn locked(ran: &Ran) -> Lockfile {
        let mut lock = Lockfile::new("pipeline.lock");
        lock.set(None, ran.artifacts.clone(), BTreeSet::new());
        lock
    }

    #[test]
    fn a_run_that_gives_what_is_expected_goes_on_to_its_end() {
        let lock = locked(&TestSpace::new().run(PIPELINE));
        let bench = TestSpace::new();
        for submitted in [4, 0] {
            let expected = lock.expected(None, &["g", "p", "s", "t"].into()).unwrap();
            let ran = Trial { expected: Some(expected), ..bench.trial(PIPELINE) }.run();
            assert_eq!((ran.outcome.is_ok(), ran.submitted.len()), (true, submitted));
        }
    }

    #[test]
    fn the_first_node_that_is_not_as_expected_ends_the_run_whether_it_ran_or_was_cached_and_its_answer_is_kept()
     {
        let lock = locked(&TestSpace::new().run(&PIPELINE.replace("text: v", "text: w")));
        let bench = TestSpace::new();
        for (submitted, events) in [
            (2, ["running s: first time", "running t: first time", "finished s", "finished t"]),
            (0, ["cached s", "cached t", "", ""]),
        ] {
            let expected = lock.expected(None, &["g", "p", "s", "t"].into()).unwrap();
            let ran = Trial { expected: Some(expected), ..bench.trial(PIPELINE) }.run();
            let failure: Vec<&str> =
                ran.events.iter().map(String::as_str).filter(|e| !e.starts_with("ended")).collect();
            assert_eq!(
                failure,
                events.into_iter().filter(|event| !event.is_empty()).collect::<Vec<_>>()
            );
            assert_eq!(ran.submitted.len(), submitted);
            let (v, w) = (Digest::of(b"v"), Digest::of(b"w"));
            let message = format!(
                "pipeline.lock: 1 output of [no profile] differs:\n  `t`, `text`: expected {w}, found {v}"
            );
            assert_eq!(error(&ran), message);
        }
        assert_eq!(bench.run(PIPELINE).messages("cached"), ["s", "t"]);
    }

    /// A pipeline of `stages.len()` stages: each a source of one of two texts, or a gathering of some of those before it.
    fn dag(stages: &[(bool, usize, u8)], note: usize) -> String {
        let mut yaml = "stages:\n".to_owned();
        for (i, (leaf, text, used)) in stages.iter().enumerate() {
            let before: Vec<String> =
                (0..i).filter(|j| used >> j & 1 == 1).map(|j| format!("s{j}")).collect();
            let text = ["x", "v"][text % 2];
            yaml += &if *leaf || before.is_empty() {
                format!("  s{i}: {{ source: {{ text: {text}, note: n{note} }} }}\n")
            } else {
                format!("  s{i}: {{ gather: {{ all: [{}], note: {text} }} }}\n", before.join(", "))
            };
        }
        yaml
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_order_of_endings_gives_the_same_artifacts(
            stages in prop::collection::vec((any::<bool>(), 0usize..2, any::<u8>()), 1..8),
            slots in 1usize..5,
            picks in prop::collection::vec(any::<usize>(), 8),
        ) {
            let yaml = dag(&stages, 0);
            let (plain, other) = (TestSpace::new(), TestSpace::new());
            let mut picks = picks.into_iter().cycle();
            let pick = Box::new(move |_| picks.next().unwrap());
            let other = Trial { slots, pick, ..other.trial(&yaml) }.run();
            prop_assert_eq!(plain.run(&yaml).artifacts, other.artifacts);
        }

        #[test]
        fn what_runs_is_what_the_plan_said_but_for_early_cutoffs(
            before in prop::collection::vec((any::<bool>(), 0usize..2, any::<u8>()), 1..8),
            changed in any::<prop::sample::Index>(),
            to in (any::<bool>(), 0usize..2, any::<u8>()),
            note in 0usize..2,
        ) {
            let mut after = before.clone();
            *changed.get_mut(&mut after) = to;
            let bench = TestSpace::new();
            let old = bench.run(&dag(&before, 0)).artifacts;
            let trial = bench.trial(&dag(&after, note));
            let (plan_status, plan) = (trial.plan_status(), trial.plan.clone());
            let ran = trial.run();
            let started: Vec<&str> = ran.messages("running").iter().map(|line| line.split(':').next().unwrap()).collect();
            for (node, status) in &plan_status.status {
                let name = plan.node(*node).name.as_str();
                let did_run = started.contains(&name);
                match status {
                    Status::Cached(_) => prop_assert!(!did_run, "{name} was cached and ran"),
                    // Nodes that ask the same question share one job.
                    Status::Stale(_) => {
                        let key = plan_status.checked[node].key;
                        prop_assert!(ran.submitted.contains(&key), "{name} was due and its question was not asked");
                    }
                    Status::MaybeStale(_) => {
                        let recipe = plan.recipe(*node, false, |up| &ran.artifacts[&plan.node(up).name]).unwrap();
                        prop_assert!(did_run || bench.store.lookup(recipe.key()).unwrap() != Lookup::Absent);
                    }
                }
            }
            prop_assert_eq!(bench.trial(&dag(&after, note)).run().submitted.len(), 0);
            prop_assert_eq!(bench.run(&dag(&before, 0)).artifacts, old, "what was cached before still is");
        }
    }
}
