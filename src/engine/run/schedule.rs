//! The scheduler: the loop that brings nodes up to date. It alone owns the mutable state of a run.
//!
//! A node is `Waiting` until all its inputs are done, and then `Ready`: it can be *checked*. The
//! check finds its result in the cache (`Done`) or starts a job (`Running`). When the job has
//! ended, the scheduler looks the key up again; only an entry in the store makes the node `Done`.
//! Nodes downstream of a `Failed` node are `Skipped`.
//!
//! Other runs may share the cache. If another process computes a key, the scheduler waits for the
//! end of its lease. It starts the job itself if there is no result then, or if the node is forced.
//!
//! Knows no stage kind, prints nothing, and starts no process itself.

mod phases;

use super::event::{Ending, Event, Observer, Summary};
use super::executor::log::{self, Follower};
use super::executor::{Executor, Failure, Job, Outcome, Phase};
use super::expected::ExpectedResults;
use super::pool::{Ended, Pool};
use super::reason::Reason;
use super::status::{Checked, PlanStatus, Status, StatusChecker};
use crate::engine::cache::entry::Entry;
use crate::engine::cache::lease::LeaseWatch;
use crate::engine::cache::store::{Lookup, Store};
use crate::engine::cache::transfer::{Notice, Transferred};
use crate::engine::error::Error;
use crate::engine::key::{Artifact, Key};
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::stage::Resources;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The number of lines of a failed job's log that are shown.
const LOG_LINES: usize = 12;

/// The shortest and the longest time between two looks at the leases of other processes. The cache
/// may be on a disk that many share.
const LEASE_INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// An input is not done.
    Waiting,
    /// All inputs are done; the node has not been checked yet.
    Ready,
    /// Its job was started, by this run or another one.
    Running,
    /// Its artifact is known.
    Done,
    /// Its job failed.
    Failed,
    /// A node upstream failed.
    Skipped,
}

/// The settings of a run.
pub struct Settings<'a> {
    /// Whether to run nodes that do not depend on a failed node.
    pub keep_going: bool,
    /// The number of retries of a failed job, unless its stage has more.
    pub retries: u32,
    /// Set when the user interrupts the run.
    pub interrupted: &'a AtomicBool,
    /// Whether to show the output of running jobs.
    pub stream: bool,
    /// The expected results, if any. The first result that differs ends the run, and stays in the
    /// cache.
    pub expected: Option<&'a dyn ExpectedResults>,
}

/// Brings all nodes of `plan_status` up to date. Returns the totals and, if the run succeeded, the
/// artifacts. The caller sets [`Summary::outcome`] after the last step of the run (see [`ending`]).
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
    let outcome = outcome.and_then(|()| run.check_failures());
    (run.summary, outcome.map(|()| run.artifacts))
}

/// The [`Ending`] of a run with this result.
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

/// By node, the nodes with the same kind and parameters, if their resources differ. Such nodes
/// share a job if their inputs are equal. Parameters are compared only for kinds whose nodes have
/// different resources, which is rare.
fn duplicates(
    plan: &Plan,
    ids: impl Iterator<Item = NodeId> + Clone,
) -> BTreeMap<NodeId, Arc<[NodeId]>> {
    let resources = |id: NodeId| &plan.node(id).resolved.resources;
    let mut first: BTreeMap<&str, &Resources> = BTreeMap::new();
    let mut mixed: BTreeSet<&str> = BTreeSet::new();
    for id in ids.clone() {
        let kind = plan.node(id).kind.name();
        if *first.entry(kind).or_insert(resources(id)) != resources(id) {
            mixed.insert(kind);
        }
    }
    let mut groups: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
    for id in ids.filter(|id| mixed.contains(plan.node(*id).kind.name())) {
        groups.entry(plan.recipe_without_inputs(id).canonical()).or_default().push(id);
    }
    let mut duplicates = BTreeMap::new();
    for nodes in groups.into_values() {
        if nodes.iter().any(|id| resources(*id) != resources(nodes[0])) {
            let nodes: Arc<[NodeId]> = nodes.into();
            duplicates.extend(nodes.iter().map(|id| (*id, Arc::clone(&nodes))));
        }
    }
    duplicates
}

/// The durations of jobs.
#[derive(Default)]
struct Durations {
    seconds: f64,
    jobs: f64,
}

impl Durations {
    fn add(&mut self, seconds: f64) {
        self.seconds += seconds;
        self.jobs += 1.0;
    }

    fn mean(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds / self.jobs).unwrap_or_default()
    }
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
    /// The number of inputs of a node that are not done.
    incomplete_inputs: BTreeMap<NodeId, usize>,
    downstream: BTreeMap<NodeId, Vec<NodeId>>,
    /// See [`duplicates`].
    duplicates: BTreeMap<NodeId, Arc<[NodeId]>>,
    ready: BTreeSet<NodeId>,
    /// The nodes of each job. Nodes with one key share a job.
    running: BTreeMap<Key, Vec<NodeId>>,
    /// The phases of jobs, if the executor has a queue. A job is queued until it is known to run.
    phases: BTreeMap<Key, Phase>,
    /// The reasons why nodes run whose jobs were submitted.
    reasons: BTreeMap<NodeId, Vec<Reason>>,
    /// Readers of the logs of running jobs, if the run shows them.
    followers: BTreeMap<Key, Follower>,
    /// The nodes of each key that another process computes.
    already_running: BTreeMap<Key, Vec<NodeId>>,
    leases: LeaseWatch,
    /// The time of the next look at their leases, and the time between two looks.
    next_lease_poll: Instant,
    lease_interval: Duration,
    /// Keys to compute even if they are cached.
    forced: BTreeSet<Key>,
    /// The number of failed attempts, by key.
    failures: BTreeMap<Key, u32>,
    /// The nodes that were looked up in the remote when they became ready.
    looked_up: BTreeSet<NodeId>,
    /// Keys that this run has computed. They are not computed again, even if they are forced.
    computed: BTreeSet<Key>,
    artifacts: BTreeMap<NodeId, Arc<Artifact>>,
    /// The durations of the jobs of each stage that are done.
    durations: BTreeMap<&'a str, Durations>,
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
            phases: BTreeMap::new(),
            reasons: BTreeMap::new(),
            followers: BTreeMap::new(),
            already_running: BTreeMap::new(),
            leases: store.watch_leases(),
            next_lease_poll: Instant::now(),
            lease_interval: LEASE_INTERVALS.0,
            forced: BTreeSet::new(),
            failures: BTreeMap::new(),
            looked_up: BTreeSet::new(),
            computed: BTreeSet::new(),
            artifacts: BTreeMap::new(),
            durations: BTreeMap::new(),
            current_keys: plan_status.checked.values().map(|c| c.key).collect(),
            unavailable: None,
            summary: Summary { nodes: plan_status.status.len(), ..Summary::default() },
            began: Instant::now(),
            incomplete_inputs,
            downstream,
            duplicates: duplicates(plan, plan_status.status.keys().copied()),
        }
    }

    /// The main loop. It checks ready nodes while there is room, waits for the end of a job, and
    /// polls the keys that other processes compute, until nothing is ready or running.
    fn until_done(&mut self) -> Result<()> {
        let roots: Vec<NodeId> =
            self.incomplete_inputs.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
        roots.into_iter().for_each(|id| self.set(id, State::Ready));
        loop {
            self.pull_ready()?;
            while !self.is_stopping()
                && let Some(id) = self.next_with_room()
            {
                self.check(id)?;
            }
            self.report_notices();
            if self.running.is_empty() && (self.already_running.is_empty() || self.is_stopping()) {
                break;
            }
            let ended = self.pool.wait()?;
            self.show_phases();
            self.show_output();
            match ended {
                Some(ended) => self.job_ended(&ended)?,
                None => self.observer.tick(),
            }
            self.poll_already_running()?;
        }
        Ok(())
    }

    /// Pulls the results of the ready nodes that the remote has, all at once.
    fn pull_ready(&mut self) -> Result<()> {
        if !self.store.uses_remote() || self.is_stopping() {
            return Ok(());
        }
        let mut keys = Vec::new();
        for &id in &self.ready {
            let status = &self.plan_status.status[&id];
            let is_forced =
                matches!(status, Status::Stale(reasons) if reasons.contains(&Reason::Forced));
            if !matches!(status, Status::Cached(_)) && !is_forced && self.looked_up.insert(id) {
                keys.push(self.checker.recipe(id, |up| &*self.artifacts[&up])?.key());
            }
        }
        self.store.look_ahead(&keys)?;
        let mut results = Vec::new();
        for key in keys {
            if let Lookup::Remote(entry) = self.store.lookup(key)? {
                results.push((key, entry));
            }
        }
        self.pull(&results).map(drop)
    }

    /// Pulls results that are only in the remote. Returns whether all can be used.
    fn pull(&mut self, results: &[(Key, Arc<Entry>)]) -> Result<bool> {
        let observer = &mut *self.observer;
        let pulled = self.store.pull(results, &mut |_| observer.tick())?;
        if pulled.results > 0 {
            let Transferred { results, bytes, .. } = pulled;
            self.observer.observe(&Event::Pulled { results, bytes });
        }
        Ok(pulled.refused.is_empty())
    }

    /// Reports the problems with the remote.
    fn report_notices(&mut self) {
        for Notice { message, hint } in self.store.notices() {
            self.observer.observe(&Event::RemoteNotice { message, hint });
        }
    }

    /// Whether the run starts no more jobs.
    fn is_stopping(&self) -> bool {
        self.summary.failed > 0 && !self.settings.keep_going
    }

    /// The first ready node that there is room for.
    fn next_with_room(&self) -> Option<NodeId> {
        // Avoids a search through all ready nodes.
        if self.pool.is_full() {
            return None;
        }
        self.ready
            .iter()
            .copied()
            .find(|&id| self.pool.has_room_for(&self.plan.node(id).resolved.resources))
    }

    /// The combined resources of the nodes that need `key`: of `nodes`, and of ready nodes with the
    /// same key. The keys of waiting nodes are not known yet.
    fn resources(&self, key: Key, nodes: &[NodeId]) -> Resources {
        let of = |id: &NodeId| self.plan.node(*id).resolved.resources.clone();
        let resources = nodes.iter().map(of).reduce(Resources::loosest).unwrap_or_default();
        let needs = |id: &&NodeId| {
            // Compared last, because computing a key is expensive.
            let recipe = || self.checker.recipe(**id, |up| &*self.artifacts[&up]);
            self.ready.contains(id)
                && self.plan.node(**id).resolved.resources != resources
                && recipe().is_ok_and(|recipe| recipe.key() == key)
        };
        let duplicates =
            self.duplicates.get(&nodes[0]).into_iter().flat_map(|duplicates| duplicates.iter());
        let others: Vec<Resources> = duplicates.filter(needs).map(of).collect();
        others.into_iter().fold(resources, Resources::loosest)
    }

    /// Completes the nodes whose keys other processes have computed. Starts forced jobs, and the
    /// jobs that other processes have abandoned.
    fn poll_already_running(&mut self) -> Result<()> {
        if self.already_running.is_empty() || self.next_lease_poll > Instant::now() {
            return Ok(());
        }
        self.next_lease_poll = Instant::now() + self.lease_interval;
        self.lease_interval = (self.lease_interval * 3 / 2).min(LEASE_INTERVALS.1);
        let keys: Vec<Key> = self.already_running.keys().copied().collect();
        let held = self.leases.held(keys.iter().copied())?;
        for key in keys.into_iter().filter(|key| !held.contains(key)) {
            let forced = self.forced.contains(&key);
            // Looked up after the leases were read, because a lease ends after its result is
            // published.
            if !forced && let Some(entry) = self.store.lookup_local(key)?.usable() {
                self.lease_interval = LEASE_INTERVALS.0;
                for id in self.already_running.remove(&key).unwrap_or_default() {
                    self.complete_cached(id, key, &entry)?;
                }
            } else if !self.is_stopping()
                && self.pool.has_room_for(&self.resources(key, &self.already_running[&key]))
            {
                let nodes = self.already_running.remove(&key).unwrap_or_default();
                for &id in &nodes {
                    let reasons = vec![if forced { Reason::Forced } else { Reason::NeverFinished }];
                    self.show_submitted(id, key, reasons);
                }
                self.running.insert(key, nodes);
                self.submit(key, forced)?;
            }
        }
        Ok(())
    }

    /// The error of a run that had failures.
    fn check_failures(&mut self) -> Result<()> {
        if let Some(error) = self.unavailable.take() {
            return Err(error.into());
        }
        let Summary { failed, skipped, .. } = self.summary;
        if failed > 0 { Err(Error::StageFailed { failed, skipped }.into()) } else { Ok(()) }
    }

    /// The only place that changes the state of a node.
    fn set(&mut self, id: NodeId, state: State) {
        let before = self.state.insert(id, state);
        let is_valid = match state {
            State::Waiting => false,
            State::Ready => before == Some(State::Waiting),
            State::Running => before == Some(State::Ready),
            State::Done => matches!(before, Some(State::Ready | State::Running)),
            State::Failed => before == Some(State::Running),
            State::Skipped => before == Some(State::Waiting),
        };
        assert!(is_valid, "BUG: {before:?} to {state:?}: node `{}`", self.plan.node(id).name);
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
            State::Failed => self.skip_downstream(id),
            State::Waiting | State::Running | State::Skipped => {}
        }
    }

    /// Skips the nodes downstream, nearest first. Not recursive, since a long chain would overflow
    /// the stack.
    fn skip_downstream(&mut self, failed: NodeId) {
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

    /// Checks a ready node, and completes it or starts its job.
    fn check(&mut self, id: NodeId) -> Result<()> {
        // A stale node is looked up again: another node with the same key may be done by now.
        let mut checked = match self.plan_status.checked.get(&id) {
            // If a result of the remote was refused, the keys downstream may be others.
            Some(checked)
                if matches!(checked.status, Status::Cached(_)) && !self.store.has_remote() =>
            {
                checked.clone()
            }
            _ => self.checker.check(id, |up| &*self.artifacts[&up])?,
        };
        if self.computed.contains(&checked.key)
            && let Some(entry) = self.store.lookup_local(checked.key)?.usable()
        {
            checked.status = Status::Cached(entry);
        }
        self.act_on(id, checked)
    }

    /// Completes a cached node; starts the job of a stale one, or waits for the process that
    /// already computes it.
    fn act_on(&mut self, id: NodeId, mut checked: Checked) -> Result<()> {
        if let Status::Cached(entry) = &checked.status
            && self.store.has_remote()
            && !self.pull(&[(checked.key, Arc::clone(entry))])?
        {
            checked = match checked.fell_back {
                Some(cause) => {
                    self.checker.check_fallback(id, cause, |up| &*self.artifacts[&up])?
                }
                None => self.checker.check(id, |up| &*self.artifacts[&up])?,
            };
        }
        if let Some(cause) = &checked.fell_back {
            let params = self.plan.node(id).resolved.fallback.iter().flatten();
            let fallback = params
                .map(|(name, value)| format!("`{name}: {value}`"))
                .collect::<Vec<_>>()
                .join(", ");
            let (node, cause) = (self.name(id), cause.clone());
            self.observer.observe(&Event::FallbackUsed { node, fallback, cause });
        }
        let known = match checked.status {
            Status::Cached(entry) => return self.complete_cached(id, checked.key, &entry),
            Status::Stale(known) | Status::MaybeStale(known) => known,
        };
        let (key, forced) = (checked.key, known.contains(&Reason::Forced));
        let recipe = checked.recipe.as_ref().expect("BUG: a stale node has a recipe");
        let reasons = match self.plan_status.status.get(&id) {
            Some(Status::Stale(reasons)) if checked.fell_back.is_none() => reasons.clone(),
            _ if known.is_empty() => self.checker.explain(id, recipe, &self.current_keys)?,
            _ => known,
        };
        let add = |path: &Path, digest| self.store.add_file(path, digest);
        self.plan.files.add_files(&self.plan.node(id).resolved.files, add)?;
        self.store.record_recipe(recipe)?;
        if self.state[&id] == State::Ready {
            self.set(id, State::Running);
        }
        if forced {
            self.forced.insert(key);
        }
        if let Some(nodes) = self.already_running.get_mut(&key) {
            nodes.push(id);
        } else if !self.running.contains_key(&key)
            && let Some(process) = self.store.lease_holder(key)?
        {
            let (node, process) = (self.name(id), process.to_string());
            self.observer.observe(&Event::AlreadyRunning { node, process });
            self.already_running.insert(key, vec![id]);
        } else {
            self.show_submitted(id, key, reasons);
            let nodes = self.running.entry(key).or_default();
            nodes.push(id);
            if nodes.len() == 1 {
                self.submit(key, forced)?;
            }
        }
        Ok(())
    }

    /// Starts the job of `key`, whose nodes are in `running`.
    fn submit(&mut self, key: Key, force: bool) -> Result<()> {
        let nodes = &self.running[&key];
        let kind = self.plan.node(nodes[0]).kind;
        let resources = self.resources(key, nodes);
        let open = self.running.len() + self.ready.len();
        let threads = self.pool.threads(&resources, open, kind.synchronous_threads());
        let log = self.store.log(key);
        if self.settings.stream {
            self.followers.insert(key, Follower::new(log.clone()));
        }
        let expected = self.durations.get(self.plan.node(self.running[&key][0]).stage.as_str());
        self.pool.start(Job {
            key,
            kind: kind.name(),
            expected: expected.map(|durations| durations.mean()),
            log,
            resources,
            threads,
            force,
            shares_process: kind.spawns(),
        });
        Ok(())
    }

    /// Shows the new output of running jobs.
    fn show_output(&mut self) {
        for (key, follower) in &mut self.followers {
            let node = &self.plan.node(self.running[key][0]).name;
            follower.read().iter().for_each(|line| self.observer.output(node, line));
        }
    }

    /// Shows the remaining output of an ended job.
    fn show_last_output(&mut self, key: Key) {
        let Some(mut follower) = self.followers.remove(&key) else { return };
        let node = &self.plan.node(self.running[&key][0]).name;
        follower.finish().iter().for_each(|line| self.observer.output(node, line));
    }

    /// Completes a node whose result is in the cache.
    fn complete_cached(&mut self, id: NodeId, key: Key, entry: &Entry) -> Result<()> {
        self.summary.cached += 1;
        self.summary.saved_seconds += entry.seconds;
        self.observer.observe(&Event::Cached {
            node: self.name(id),
            kind: self.plan.node(id).kind.name(),
            key: key.to_string(),
            saved_seconds: entry.seconds,
        });
        self.complete(id, entry)
    }

    fn complete(&mut self, id: NodeId, entry: &Entry) -> Result<()> {
        let artifact = match self.plan_status.artifacts.get(&id) {
            Some(known)
                if matches!(self.plan_status.status[&id], Status::Cached(_))
                    && !self.store.has_remote() =>
            {
                Arc::clone(known)
            }
            _ => Arc::new(entry.artifact()),
        };
        if let Some(expected) = self.settings.expected {
            expected.check(&self.plan.node(id).name, &artifact)?;
        }
        self.durations.entry(&self.plan.node(id).stage).or_default().add(entry.seconds);
        self.artifacts.insert(id, artifact);
        self.set(id, State::Done);
        Ok(())
    }

    /// Completes the nodes of a job that has published its result; retries or fails any other job.
    /// An exit status of zero does not prove that there is a result.
    fn job_ended(&mut self, ended: &Ended) -> Result<()> {
        let Ended { key, outcome, resources: reserved } = ended;
        let key = *key;
        self.show_last_output(key);
        let nodes = self.running.remove(&key).unwrap_or_default();
        let phase = self.phases.remove(&key);
        if *outcome == Outcome::AlreadyRunning {
            self.already_running.entry(key).or_default().extend(nodes);
            return Ok(());
        }
        if let (Outcome::Exited, Some(entry)) = (outcome, self.store.lookup_local(key)?.usable()) {
            self.computed.insert(key);
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
            // A node that became ready meanwhile may allow more time; the job is then repeated, and
            // this attempt does not count as a failure.
            let has_longer = resources.time_limit != reserved.time_limit;
            let retries = self.settings.retries.max(resources.retries);
            let failures = self.failures.entry(key).or_default();
            *failures += u32::from(!has_longer);
            if has_longer || *failures <= retries {
                let (attempt, of) = (*failures + 1, retries.saturating_add(1));
                for &id in &nodes {
                    let (node, cause) = (self.name(id), failure.short());
                    self.observer.observe(&Event::Retrying { node, cause, attempt, of });
                }
                if phase == Some(Phase::Running) {
                    nodes.iter().for_each(|id| self.show_phase(*id, key, Phase::Queued));
                }
                self.running.insert(key, nodes);
                return self.submit(key, true);
            }
        }
        self.job_failed(key, &nodes, outcome)
    }

    /// Fails the nodes of a job without a result, or uses their fallbacks.
    fn job_failed(&mut self, key: Key, nodes: &[NodeId], outcome: &Outcome) -> Result<()> {
        let no_result = || Failure {
            cause: "the process succeeded but published no result".into(),
            hint: None,
        };
        let failure = outcome.failure().cloned().unwrap_or_else(no_result);
        let path = self.store.log(key);
        let lines = log::tail(&path, LOG_LINES);
        let is_unavailable = matches!(outcome, Outcome::Unavailable(_));
        let mut is_logged = false;
        for &id in nodes {
            if is_unavailable && self.plan.node(id).resolved.fallback.is_some() {
                let cause = failure.short();
                self.store.record_fallback(key, &cause)?;
                let checked = self.checker.check_fallback(id, cause, |up| &*self.artifacts[&up])?;
                self.act_on(id, checked)?;
                continue;
            }
            if is_unavailable {
                let (node, hint) = (self.name(id), failure.hint.clone());
                self.unavailable = Some(Error::Unavailable { node, hint });
            }
            self.summary.failed += 1;
            self.observer.observe(&Event::Failed {
                node: self.name(id),
                kind: self.plan.node(id).kind.name(),
                cause: failure.short(),
                hint: failure.hint.clone(),
                log: lines.clone(),
                log_path: path.display().to_string(),
            });
            if !is_logged {
                log::append_failure(&path, &failure);
                is_logged = true;
            }
            self.set(id, State::Failed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::error::Diagnostic;
    use crate::engine::key::Recipe;
    use crate::engine::testing::{Ran, Script, TestRun, TestSpace, id};
    use proptest::prelude::*;

    const PIPELINE: &str = "
stages:
  s: { source: { text: x } }
  t: { source: { text: v } }
  p: { pair: { left: s, right: t } }
  g: { gather: { all: [p, s] } }
";

    fn error(ran: &Ran) -> String {
        ran.outcome.as_ref().expect_err("the run should have failed").to_string()
    }

    fn resolved(test_run: &TestRun, name: &str) -> Key {
        test_run
            .plan
            .recipe(id(&test_run.plan, name), |_| false, |_| panic!("it has inputs"))
            .unwrap()
            .key()
    }

    #[test]
    fn a_first_run_runs_everything_after_its_inputs() {
        let space = TestSpace::new();
        let ran = space.run(PIPELINE);
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
        let space = TestSpace::new();
        let first = space.run(PIPELINE);
        let second = space.run(PIPELINE);
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
    fn only_changed_nodes_run_and_their_reasons_are_reported() {
        let space = TestSpace::new();
        space.run(PIPELINE);
        let ran = space.run(&PIPELINE.replace("text: v", "text: w"));
        assert_eq!(ran.messages("cached"), ["s"]);
        assert_eq!(ran.finished(), ["t", "p", "g"]);
        assert_eq!(ran.messages("running")[0], "t: param text v -> w");
        assert!(ran.messages("running")[1].starts_with("p: input right/text "), "{:?}", ran.events);
        assert_eq!(ran.text("g"), "[(x w) x]");
    }

    #[test]
    fn nodes_downstream_of_equal_bytes_do_not_run() {
        let space = TestSpace::new();
        space.run(PIPELINE);
        let ran = space.run(&PIPELINE.replace("text: v", "text: v, note: reworded"));
        assert_eq!(ran.finished(), ["t"]);
        assert_eq!(ran.messages("cached"), ["s", "p", "g"]);
    }

    #[test]
    fn two_nodes_with_one_key_share_a_job() {
        let duplicates = "stages: { a: { source: { text: x } }, b: { source: { text: x } } }";
        for slots in [1, 2] {
            let space = TestSpace::new();
            let ran = TestRun { slots, ..space.test_run(duplicates) }.run();
            assert_eq!(ran.submitted.len(), 1);
            assert_eq!((ran.text("a"), ran.text("b")), ("x".into(), "x".into()));
        }
    }

    #[test]
    fn two_forced_nodes_with_one_key_share_a_job() {
        let duplicates = "stages: { a: { source: { text: x } }, b: { source: { text: x } } }";
        for slots in [1, 2] {
            let space = TestSpace::new();
            let first = space.run(duplicates);
            let ran = TestRun { slots, forced: vec!["a", "b"], ..space.test_run(duplicates) }.run();
            assert_eq!(ran.submitted, first.submitted, "{:?}", ran.events);
        }
    }

    /// A key of [`PIPELINE`], and its lease, which a process on another host holds.
    fn leased(space: &TestSpace, name: &str) -> (Key, std::path::PathBuf) {
        let test_run = space.test_run(PIPELINE);
        let key = resolved(&test_run, name);
        let process = crate::engine::cache::process::ProcessId {
            host: "other".into(),
            ..crate::engine::cache::process::ProcessId::this().clone()
        };
        let lease = space.path().join(format!("cache/v2/leases/{key}"));
        std::fs::write(&lease, serde_json::to_vec(&process).unwrap()).unwrap();
        (key, lease)
    }

    #[test]
    fn a_key_that_another_process_computes_is_awaited_and_not_run_here() {
        let space = TestSpace::new();
        let other = TestSpace::new();
        let artifact = other.run(PIPELINE).artifacts["t"].clone();
        let (key, lease) = leased(&space, "t");
        let ran = std::thread::scope(|scope| {
            let run = scope.spawn(|| space.run(PIPELINE));
            // The other process publishes its result, and then removes its lease.
            let workspace = space.store.workspace().unwrap();
            let path = workspace.path().join("text");
            std::fs::copy(other.store.object(artifact["text"].digest().unwrap()), &path).unwrap();
            let outputs = [("text".to_owned(), space.store.ingest(&path).unwrap())].into();
            let Some(entry) = other.store.lookup(key).unwrap().usable() else {
                panic!("this run should not have started the job")
            };
            space.store.publish(key, &Entry { outputs, ..Entry::clone(&entry) }).unwrap();
            std::fs::remove_file(lease).unwrap();
            run.join().unwrap()
        });
        assert!(!ran.submitted.contains(&key), "{:?}", ran.events);
        assert_eq!(ran.messages("cached"), ["t"]);
        assert_eq!(ran.text("g"), "[(x v) x]");
    }

    #[test]
    fn a_key_that_another_process_gave_up_is_computed_here() {
        let space = TestSpace::new();
        let (key, lease) = leased(&space, "t");
        let ran = std::thread::scope(|scope| {
            let run = scope.spawn(|| space.run(PIPELINE));
            std::thread::sleep(Duration::from_millis(50));
            std::fs::remove_file(lease).unwrap();
            run.join().unwrap()
        });
        assert_eq!(
            (ran.messages("already running"), ran.submitted.contains(&key)),
            (vec!["t"], true)
        );
        assert_eq!(ran.text("g"), "[(x v) x]");
    }

    #[test]
    fn a_forced_key_that_another_process_computes_runs_here_after_its_lease_ends() {
        let space = TestSpace::new();
        space.run(PIPELINE);
        let (key, lease) = leased(&space, "t");
        // The fake executor picks a job at each poll, even if there is none.
        let mut polls = 0;
        let pick = |_: usize| {
            polls += 1;
            if polls == 3 {
                std::fs::remove_file(&lease).unwrap();
            }
            0
        };
        let ran =
            TestRun { forced: vec!["t"], pick: Box::new(pick), ..space.test_run(PIPELINE) }.run();
        assert_eq!(
            (ran.messages("already running"), ran.messages("running")),
            (vec!["t"], vec!["t: forced"])
        );
        assert_eq!((ran.finished(), &ran.submitted), (vec!["t"], &vec![key]));
        assert!(polls > 3, "the cached result was not used before the lease ended");
    }

    #[test]
    fn a_forced_job_that_finds_its_lease_taken_runs_after_the_lease_ends() {
        let space = TestSpace::new();
        space.run(PIPELINE);
        // Another process takes the lease when the job has been submitted, and removes it later.
        let lease = std::cell::OnceCell::new();
        let script = |_: &Recipe| {
            lease.get_or_init(|| leased(&space, "t").1);
            Script::Runs
        };
        let mut polls = 0;
        let pick = |_: usize| {
            polls += 1;
            if polls == 3 {
                std::fs::remove_file(lease.get().unwrap()).unwrap();
            }
            0
        };
        let (script, pick) = (Box::new(script), Box::new(pick));
        let ran = TestRun { forced: vec!["t"], script, pick, ..space.test_run(PIPELINE) }.run();
        assert_eq!(ran.messages("running"), ["t: forced", "t: forced"]);
        assert_eq!((ran.finished(), ran.submitted.len()), (vec!["t"], 2));
    }

    #[test]
    fn a_key_that_another_process_gave_up_is_not_started_after_a_failure_without_keep_going() {
        for keep_going in [false, true] {
            let space = TestSpace::new();
            let (key, lease) = leased(&space, "t");
            let pick = |_: usize| {
                let _ = std::fs::remove_file(&lease);
                0
            };
            let ran = TestRun { keep_going, pick: Box::new(pick), ..space.test_run(BROKEN) }.run();
            assert_eq!(
                (ran.messages("already running"), ran.messages("failed").len()),
                (vec!["t"], 1)
            );
            assert_eq!(ran.submitted.contains(&key), keep_going, "{:?}", ran.events);
        }
    }

    #[test]
    fn a_failed_job_is_retried_as_often_as_requested() {
        let pipeline = "stages: { s: { source: { text: x } } }";
        for (retries, failures, runs) in [(0, 1, false), (2, 2, true), (2, 3, false)] {
            let space = TestSpace::new();
            let left = std::cell::Cell::new(failures);
            let script = |_: &Recipe| {
                left.set(left.get() - 1);
                if left.get() < 0 { Script::Runs } else { Script::Lost }
            };
            let ran =
                TestRun { retries, script: Box::new(script), ..space.test_run(pipeline) }.run();
            assert_eq!(ran.outcome.is_ok(), runs, "{:?}", ran.events);
            assert_eq!(ran.messages("retrying").len(), retries as usize);
        }
    }

    #[test]
    fn with_a_queue_a_node_is_queued_until_its_job_has_started() {
        let space = TestSpace::new();
        let left = std::cell::Cell::new(1);
        let script = |_: &Recipe| {
            if left.replace(0) > 0 { Script::Lost } else { Script::Runs }
        };
        let pipeline = "stages: { s: { source: { text: x } }, t: { source: { text: x } } }";
        let test_run = space.test_run(pipeline);
        let ran =
            TestRun { has_queue: true, retries: 1, script: Box::new(script), ..test_run }.run();
        let expected = [
            "queued s",
            "queued t",
            "running s: first time",
            "running t: first time",
            "retrying s: 2",
            "retrying t: 2",
            "queued s",
            "queued t",
            "running s: first time",
            "running t: first time",
            "finished s",
            "finished t",
        ];
        assert_eq!(ran.events[..expected.len()], expected);
    }

    #[test]
    fn as_many_jobs_run_at_once_as_there_are_slots() {
        let six = "stages: { s: { source: { text: x, width: [1, 2, 3, 4, 5, 6] } } }";
        for slots in [1, 3, 10] {
            let space = TestSpace::new();
            assert_eq!(TestRun { slots, ..space.test_run(six) }.run().most_at_once, slots.min(6));
        }
    }

    #[test]
    fn each_job_gets_the_threads_that_the_pool_allots() {
        let five = "stages: { s: { source: { text: x, width: [1, 2, 3, 4, 5] } }, \
                    g: { gather: { all: s } } }";
        let space = TestSpace::new();
        // There are two slots. When the fifth job starts, no other node is ready.
        assert_eq!(space.run(five).threads, [1, 1, 1, 1, 2, 2]);
    }

    #[test]
    fn a_job_that_an_earlier_run_left_on_the_cluster_is_adopted_and_not_submitted() {
        let space = TestSpace::new();
        let key = resolved(&space.test_run(PIPELINE), "t");
        let ran = TestRun { left: vec![key], ..space.test_run(PIPELINE) }.run();
        assert_eq!((ran.finished().len(), ran.submitted.len()), (4, 3));
        assert!(!ran.submitted.contains(&key));
        assert_eq!(ran.text("g"), "[(x v) x]");
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
    fn a_failure_skips_the_nodes_downstream_and_starts_no_other_job() {
        let space = TestSpace::new();
        let ran = TestRun { slots: 1, ..space.test_run(BROKEN) }.run();
        assert_eq!(
            ran.events,
            [
                "running bad: first time",
                "failed bad: the text is `fail`",
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
    fn a_job_that_runs_during_a_failure_finishes_and_its_result_is_kept() {
        let space = TestSpace::new();
        let ran = space.run(BROKEN);
        assert_eq!(ran.finished(), ["t"], "t ran beside bad, u had not started");
        assert!(error(&ran).contains("1 node failed"), "{}", error(&ran));
        let fixed = space.run(&BROKEN.replace("fail", "x"));
        assert_eq!(fixed.messages("cached"), ["t"]);
        assert_eq!(fixed.text("g"), "[(v) (x)]");
    }

    #[test]
    fn keep_going_runs_nodes_that_do_not_depend_on_the_failure() {
        let space = TestSpace::new();
        let ran = TestRun { keep_going: true, slots: 1, ..space.test_run(BROKEN) }.run();
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
    fn a_job_that_succeeds_without_a_result_has_failed() {
        let space = TestSpace::new();
        let ran =
            TestRun { script: Box::new(|_| Script::NoResult), ..space.test_run(PIPELINE) }.run();
        assert_eq!(ran.messages("failed")[0], "s: the process succeeded but published no result");
        assert_eq!(ran.finished(), [""; 0]);
    }

    #[test]
    fn a_lost_job_has_failed_and_the_next_run_repeats_it() {
        let space = TestSpace::new();
        let lose_p =
            |recipe: &Recipe| if recipe.kind == "pair" { Script::Lost } else { Script::Runs };
        let ran = TestRun { script: Box::new(lose_p), ..space.test_run(PIPELINE) }.run();
        assert_eq!(ran.messages("failed"), ["p: the process was lost"]);
        let again = space.run(PIPELINE);
        assert_eq!(again.messages("running")[0], "p: not finished yet");
        assert_eq!(again.finished(), ["p", "g"]);
    }

    #[test]
    fn an_interrupt_ends_the_run_cancels_its_jobs_and_counts_the_rest_as_skipped() {
        let space = TestSpace::new();
        let ran = TestRun {
            interrupted: true,
            script: Box::new(|_| Script::Hangs),
            ..space.test_run(PIPELINE)
        }
        .run();
        assert_eq!(ran.cancelled.len(), 2);
        assert_eq!(ran.messages("ended:"), ["4 nodes, 0 cached, 0 ran, 0 failed, 4 skipped"]);
        assert!(matches!(ran.outcome.unwrap_err().downcast_ref(), Some(Error::Interrupted)));
    }

    #[test]
    fn a_job_that_ends_by_an_interrupt_has_not_failed() {
        let space = TestSpace::new();
        let ran = TestRun {
            interrupted: true,
            script: Box::new(|_| Script::Lost),
            ..space.test_run(PIPELINE)
        }
        .run();
        assert_eq!(ran.messages("failed"), [""; 0]);
        assert_eq!(error(&ran), Error::Interrupted.to_string());
    }

    #[test]
    fn a_forced_node_runs_though_it_is_cached_and_nodes_downstream_of_equal_bytes_do_not() {
        let space = TestSpace::new();
        space.run(PIPELINE);
        let ran = TestRun { forced: vec!["s", "p"], ..space.test_run(PIPELINE) }.run();
        assert_eq!(ran.messages("running"), ["s: forced", "p: forced"]);
        assert_eq!(ran.messages("cached"), ["t", "g"]);
    }

    #[test]
    fn a_target_runs_with_its_inputs_and_no_other_node() {
        let space = TestSpace::new();
        let ran = TestRun { targets: vec!["t"], ..space.test_run(PIPELINE) }.run();
        assert_eq!(ran.finished(), ["t"]);
        assert_eq!(
            TestRun { targets: vec!["p"], ..space.test_run(PIPELINE) }.run().finished(),
            ["s", "p"]
        );
    }

    const WITH_FALLBACK: &str = "
stages:
  s: { source: { text: rare, otherwise: common } }
  p: { pair: { left: s } }
";

    /// A run in which the text `rare` is unavailable.
    fn without_rare<'a>(space: &'a TestSpace, yaml: &str) -> TestRun<'a> {
        let rare = |recipe: &Recipe| recipe.params.get("text").is_some_and(|text| text == "rare");
        TestRun {
            script: Box::new(move |r| if rare(r) { Script::Unavailable } else { Script::Runs }),
            ..space.test_run(yaml)
        }
    }

    #[test]
    fn an_unavailable_node_uses_its_fallback_and_reports_it() {
        let space = TestSpace::new();
        let ran = without_rare(&space, WITH_FALLBACK).run();
        assert_eq!(ran.messages("fallback"), ["s: `text: \"common\"`, no mirror responds"]);
        assert_eq!(ran.finished(), ["s", "p"]);
        assert_eq!(ran.text("p"), "(common)");
    }

    #[test]
    fn the_result_of_a_fallback_is_not_that_of_the_node() {
        let space = TestSpace::new();
        without_rare(&space, WITH_FALLBACK).run();
        let resolved = resolved(&space.test_run(WITH_FALLBACK), "s");
        assert_eq!(space.store.lookup(resolved).unwrap(), Lookup::Absent);
        assert_eq!(space.store.fallback(resolved).unwrap().as_deref(), Some("no mirror responds"));
        let direct = space.run(&WITH_FALLBACK.replace(", otherwise: common", ""));
        assert_eq!(direct.text("p"), "(rare)", "the node itself was not cached");
    }

    #[test]
    fn a_fallback_is_recorded_and_reported_by_every_run() {
        let space = TestSpace::new();
        without_rare(&space, WITH_FALLBACK).run();
        let again = space.run(WITH_FALLBACK);
        assert_eq!(again.submitted, []);
        assert_eq!(again.messages("fallback"), ["s: `text: \"common\"`, no mirror responds"]);
        assert_eq!(again.text("p"), "(common)");
    }

    #[test]
    fn a_refetch_runs_the_node_again() {
        let space = TestSpace::new();
        without_rare(&space, WITH_FALLBACK).run();
        let still = TestRun { refetch: true, ..without_rare(&space, WITH_FALLBACK) }.run();
        assert_eq!(still.messages("fallback").len(), 1);
        assert_eq!(still.submitted.len(), 1, "the node ran, its fallback was cached");
        let available = TestRun { refetch: true, ..space.test_run(WITH_FALLBACK) }.run();
        assert_eq!(available.messages("fallback"), [""; 0]);
        assert_eq!(available.text("p"), "(rare)");
        assert_eq!(
            space.run(WITH_FALLBACK).text("p"),
            "(rare)",
            "a result takes precedence over a recorded fallback"
        );
    }

    #[test]
    fn an_unavailable_node_without_a_fallback_fails_the_run_with_its_hint() {
        let space = TestSpace::new();
        let ran = without_rare(&space, &WITH_FALLBACK.replace(", otherwise: common", "")).run();
        assert_eq!(
            ran.events[1..],
            [
                "failed s: no mirror responds",
                "skipped p: s",
                "ended: 2 nodes, 0 cached, 0 ran, 1 failed, 1 skipped"
            ]
        );
        let error = ran.outcome.unwrap_err().downcast::<Error>().unwrap();
        assert!(matches!(&error, Error::Unavailable { node, .. } if node == "s"), "{error}");
        assert_eq!(error.hint(), Some("try later"));
    }

    #[test]
    fn nodes_with_one_key_may_have_different_fallbacks() {
        let yaml = "
stages:
  a: { source: { text: rare, otherwise: one } }
  b: { source: { text: rare, otherwise: two } }
  c: { source: { text: rare } }
  g: { gather: { all: [a, b] } }
";
        let space = TestSpace::new();
        let ran = TestRun { keep_going: true, ..without_rare(&space, yaml) }.run();
        assert_eq!(ran.messages("failed"), ["c: no mirror responds"]);
        let ran = TestRun { targets: vec!["g"], ..space.test_run(yaml) }.run();
        assert_eq!(ran.text("g"), "[one two]");
    }

    /// The results of another run, by node.
    struct Results(BTreeMap<String, Artifact>);

    impl ExpectedResults for Results {
        fn check(&self, node: &str, found: &Artifact) -> Result<(), Error> {
            if self.0.get(node) == Some(found) {
                return Ok(());
            }
            Err(Error::Differs(Diagnostic {
                source: "lock".into(),
                location: None,
                message: format!("`{node}` differs"),
                hint: None,
            }))
        }
    }

    #[test]
    fn a_run_with_the_expected_results_succeeds() {
        let expected = Results(TestSpace::new().run(PIPELINE).artifacts);
        let space = TestSpace::new();
        for submitted in [4, 0] {
            let ran = TestRun { expected: Some(&expected), ..space.test_run(PIPELINE) }.run();
            assert_eq!((ran.outcome.is_ok(), ran.submitted.len()), (true, submitted));
        }
    }

    #[test]
    fn the_first_result_that_differs_ends_the_run_whether_it_was_cached_or_not_and_is_kept() {
        let other = PIPELINE.replace("text: v", "text: w");
        let expected = Results(TestSpace::new().run(&other).artifacts);
        let space = TestSpace::new();
        for (submitted, events) in [
            (
                2,
                &["running s: first time", "running t: first time", "finished s", "finished t"][..],
            ),
            (0, &["cached s", "cached t"]),
        ] {
            let ran = TestRun { expected: Some(&expected), ..space.test_run(PIPELINE) }.run();
            assert_eq!(ran.events[..ran.events.len() - 1], *events);
            assert_eq!(ran.submitted.len(), submitted);
            assert_eq!(error(&ran), "lock: `t` differs");
        }
        assert_eq!(space.run(PIPELINE).messages("cached"), ["s", "t"]);
    }

    /// A pipeline of `stages.len()` stages. Each is a source with one of two texts, or gathers some
    /// of the earlier stages.
    fn dag(stages: &[(bool, usize, u8)], note: usize) -> String {
        let mut yaml = "stages:\n".to_owned();
        for (i, (leaf, text, used)) in stages.iter().enumerate() {
            let before: Vec<String> =
                (0..i).filter(|j| used >> j & 1 == 1).map(|j| format!("s{j}")).collect();
            let text = ["x", "v"][text % 2];
            yaml += &if *leaf || before.is_empty() {
                format!("  s{i}: {{ source: {{ text: {text}, note: n{note} }} }}\n")
            } else {
                let inputs = before.join(", ");
                format!("  s{i}: {{ gather: {{ all: [{inputs}], note: {text} }} }}\n")
            };
        }
        yaml
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 48, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn the_order_in_which_jobs_end_does_not_change_the_artifacts(
            stages in prop::collection::vec((any::<bool>(), 0usize..2, any::<u8>()), 1..8),
            slots in 1usize..5,
            picks in prop::collection::vec(any::<usize>(), 8),
        ) {
            let yaml = dag(&stages, 0);
            let (plain, other) = (TestSpace::new(), TestSpace::new());
            let mut picks = picks.into_iter().cycle();
            let pick = Box::new(move |_| picks.next().unwrap());
            let other = TestRun { slots, pick, ..other.test_run(&yaml) }.run();
            prop_assert_eq!(plain.run(&yaml).artifacts, other.artifacts);
        }

        #[test]
        fn a_run_matches_its_plan_except_for_early_cutoff(
            before in prop::collection::vec((any::<bool>(), 0usize..2, any::<u8>()), 1..8),
            changed in any::<prop::sample::Index>(),
            to in (any::<bool>(), 0usize..2, any::<u8>()),
            note in 0usize..2,
        ) {
            let mut after = before.clone();
            *changed.get_mut(&mut after) = to;
            let space = TestSpace::new();
            let old = space.run(&dag(&before, 0)).artifacts;
            let test_run = space.test_run(&dag(&after, note));
            let (plan_status, plan) = (test_run.plan_status(), test_run.plan.clone());
            let ran = test_run.run();
            let started: Vec<&str> = ran
                .messages("running")
                .iter()
                .map(|line| line.split(':').next().unwrap())
                .collect();
            for (node, status) in &plan_status.status {
                let name = plan.node(*node).name.as_str();
                let did_run = started.contains(&name);
                match status {
                    Status::Cached(_) => prop_assert!(!did_run, "{name} was cached and ran"),
                    // Nodes with one key share a job.
                    Status::Stale(_) => {
                        let key = plan_status.checked[node].key;
                        let is_submitted = ran.submitted.contains(&key);
                        prop_assert!(is_submitted, "{name} was stale and did not run");
                    }
                    Status::MaybeStale(_) => {
                        let artifact = |up| &ran.artifacts[&plan.node(up).name];
                        let key = plan.recipe(*node, |_| false, artifact).unwrap().key();
                        let lookup = space.store.lookup(key).unwrap();
                        prop_assert!(did_run || lookup != Lookup::Absent);
                    }
                }
            }
            prop_assert_eq!(space.test_run(&dag(&after, note)).run().submitted.len(), 0);
            let again = space.run(&dag(&before, 0)).artifacts;
            prop_assert_eq!(again, old, "results that were cached before still are");
        }
    }
}
