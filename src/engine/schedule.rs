//! The loop that brings nodes up to date; the only owner of a run's changing state.
//!
//! A node is `Waiting` until all it uses is settled, then `Ready`, which means that it may be *checked*, not that it must
//! run. A check finds its answer in the cache (`Settled`) or hands a job to the executor (`Running`). When a job's process
//! ends well, the store is asked again: only an entry there settles the node. What hangs on a failed node is `Skipped`.
//!
//! Knows no stage kind, prints nothing, and starts no process itself.

use super::error::Error;
use super::event::{Event, Observer, Summary};
use super::executor::{Executor, Job, Outcome, local};
use super::key::{Artifact, Key};
use super::plan::{NodeId, Plan};
use super::store::{Entry, Lookup, Store};
use super::survey::{Checked, Standing, Survey, Surveyor};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long to wait for a job before looking around: the progress bar moves, an interrupt is noticed.
const TICK: Duration = Duration::from_millis(100);

/// How many lines of a failed job's log are shown.
const LOG_LINES: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Some input is not settled.
    Waiting,
    /// All inputs are settled; not checked yet.
    Ready,
    /// Its job has been submitted.
    Running,
    /// Its artifact is known.
    Settled,
    /// Its job failed.
    Failed,
    /// Something it needs failed.
    Skipped,
}

/// What a run needs to know besides the plan.
pub struct Settings<'a> {
    /// Go on with what does not depend on a failure.
    pub keep_going: bool,
    /// Set when the user wants it to stop.
    pub interrupted: &'a AtomicBool,
}

/// Brings all nodes of `survey` up to date. Gives the artifacts of those that are.
pub fn run(
    plan: &Plan,
    store: &Store,
    surveyor: &Surveyor,
    survey: &Survey,
    executor: &mut dyn Executor,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<(Summary, BTreeMap<NodeId, Artifact>)> {
    let mut run = Run::new(plan, store, surveyor, survey, executor, observer);
    let outcome = run.until_done(settings);
    if outcome.is_err() {
        run.executor.kill();
    }
    let Summary { nodes, cached, ran, failed, .. } = run.summary;
    run.summary.skipped = nodes - cached - ran - failed;
    run.summary.seconds = run.began.elapsed().as_secs_f64();
    run.observer.observe(&Event::Ended(run.summary.clone()));
    outcome.and_then(|()| run.verdict())?;
    Ok((run.summary, run.artifacts))
}

struct Run<'a> {
    plan: &'a Plan,
    store: &'a Store,
    surveyor: &'a Surveyor<'a>,
    survey: &'a Survey,
    executor: &'a mut dyn Executor,
    observer: &'a mut dyn Observer,
    state: BTreeMap<NodeId, State>,
    /// How many of a node's inputs are not settled.
    unsettled: BTreeMap<NodeId, usize>,
    downstream: BTreeMap<NodeId, Vec<NodeId>>,
    ready: BTreeSet<NodeId>,
    /// Two nodes may ask the same question; one job answers both.
    running: BTreeMap<Key, Vec<NodeId>>,
    artifacts: BTreeMap<NodeId, Artifact>,
    current_keys: BTreeSet<Key>,
    unavailable: Option<Error>,
    summary: Summary,
    began: Instant,
}

impl<'a> Run<'a> {
    fn new(
        plan: &'a Plan,
        store: &'a Store,
        surveyor: &'a Surveyor<'a>,
        survey: &'a Survey,
        executor: &'a mut dyn Executor,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let mut unsettled = BTreeMap::new();
        let mut downstream: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for &id in survey.standing.keys() {
            let upstream = plan.node(id).upstream();
            unsettled.insert(id, upstream.len());
            upstream.into_iter().for_each(|up| downstream.entry(up).or_default().push(id));
        }
        Run {
            plan,
            store,
            surveyor,
            survey,
            executor,
            observer,
            state: survey.standing.keys().map(|&id| (id, State::Waiting)).collect(),
            ready: BTreeSet::new(),
            running: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            current_keys: survey.checked.values().map(|c| c.key).collect(),
            unavailable: None,
            summary: Summary { nodes: survey.standing.len(), ..Summary::default() },
            began: Instant::now(),
            unsettled,
            downstream,
        }
    }

    /// 1. Whatever needs nothing is ready. 2. Check ready nodes while there are free slots. 3. Wait for a job to end.
    /// 4. Done when nothing is ready and nothing runs.
    fn until_done(&mut self, settings: &Settings) -> Result<()> {
        let roots: Vec<NodeId> = self.unsettled.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
        roots.into_iter().for_each(|id| self.set(id, State::Ready));
        loop {
            let stopping = self.summary.failed > 0 && !settings.keep_going;
            while !stopping && self.running.len() < self.executor.slots() {
                let Some(&id) = self.ready.first() else { break };
                self.check(id)?;
            }
            if self.running.is_empty() {
                break;
            }
            let ended = self.executor.wait(TICK);
            // First, for Ctrl-C also reaches the jobs: what they die of then is no failure of theirs.
            if settings.interrupted.load(Ordering::Relaxed) {
                return Err(Error::Interrupted.into());
            }
            match ended {
                Some((key, outcome)) => self.job_ended(key, &outcome)?,
                None => self.observer.tick(),
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
            return Err(Error::StageFailed { failed: self.summary.failed, skipped: self.summary.skipped }.into());
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
            State::Settled => matches!(before, Some(State::Ready | State::Running)),
            State::Failed => before == Some(State::Running),
            State::Skipped => before == Some(State::Waiting),
        };
        assert!(legal, "BUG: node `{}` went from {before:?} to {state:?}", self.plan.node(id).name);
        self.ready.remove(&id);
        match state {
            State::Ready => _ = self.ready.insert(id),
            State::Settled => {
                for down in self.downstream.get(&id).cloned().unwrap_or_default() {
                    let left = self.unsettled.get_mut(&down).expect("BUG: a node downstream is not in the run");
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
        let checked = match self.survey.checked.get(&id) {
            Some(checked) if matches!(checked.standing, Standing::Cached(_)) => checked.clone(),
            _ => self.surveyor.check(id, |up| &self.artifacts[&up])?,
        };
        self.act_on(id, checked)
    }

    /// Settles a node from the cache, or starts its job.
    fn act_on(&mut self, id: NodeId, checked: Checked) -> Result<()> {
        let kind = self.plan.node(id).kind.name();
        if let Some(cause) = &checked.fell_back {
            let params = checked.recipe.params.iter();
            let instead = params.map(|(name, value)| format!("`{name}: {value}`")).collect::<Vec<_>>().join(", ");
            self.observer.observe(&Event::FellBack { node: self.name(id), instead, cause: cause.clone() });
        }
        match checked.standing {
            Standing::Cached(entry) => {
                self.summary.cached += 1;
                self.summary.saved_seconds += entry.seconds;
                self.observer.observe(&Event::Cached { node: self.name(id), kind, saved_seconds: entry.seconds });
                self.settle(id, &entry);
            }
            Standing::Due(known) | Standing::Depends(known) => {
                let reasons = match self.survey.standing.get(&id) {
                    Some(Standing::Due(reasons)) if checked.fell_back.is_none() => reasons.clone(),
                    _ if known.is_empty() => self.surveyor.explain(&checked.recipe, &self.current_keys)?,
                    _ => known,
                };
                self.store.record_recipe(&checked.recipe)?;
                let key = checked.key;
                self.observer.observe(&Event::Running { node: self.name(id), kind, key: key.to_string(), reasons });
                if self.state[&id] == State::Ready {
                    self.set(id, State::Running);
                }
                let waiting = self.running.entry(key).or_default();
                waiting.push(id);
                if waiting.len() == 1 {
                    self.executor.submit(Job { key, logs: self.store.job_folder(key) });
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, id: NodeId, entry: &Entry) {
        self.artifacts.insert(id, entry.artifact());
        self.set(id, State::Settled);
    }

    /// That the process ended well is not enough: only an answer in the store settles its nodes.
    fn job_ended(&mut self, key: Key, outcome: &Outcome) -> Result<()> {
        let nodes = self.running.remove(&key).unwrap_or_default();
        if let (Outcome::Exited, Lookup::Hit(entry)) = (outcome, self.store.lookup(key)?) {
            for id in nodes {
                self.summary.ran += 1;
                let (node, kind) = (self.name(id), self.plan.node(id).kind.name());
                let (key, seconds) = (key.to_string(), entry.seconds);
                self.observer.observe(&Event::Finished { node, kind, key, seconds });
                self.settle(id, &entry);
            }
            return Ok(());
        }
        for id in nodes {
            match outcome {
                Outcome::Unavailable(told) if self.plan.node(id).question.fallback.is_some() => {
                    self.store.choose_fallback(key, &told.cause)?;
                    let checked = self.surveyor.check_fallback(id, told.cause.clone(), |up| &self.artifacts[&up])?;
                    self.act_on(id, checked)?;
                }
                Outcome::Unavailable(told) => {
                    self.unavailable = Some(Error::Unavailable { node: self.name(id), hint: told.hint.clone() });
                    self.fail(id, key, &told.cause);
                }
                Outcome::Failed(told) => self.fail(id, key, &told.cause),
                Outcome::Exited => self.fail(id, key, "it ended well but left no answer in the cache"),
            }
        }
        Ok(())
    }

    fn fail(&mut self, id: NodeId, key: Key, cause: &str) {
        let logs = self.store.job_folder(key);
        let mut log = local::tail(&logs, LOG_LINES);
        log.retain(|line| line.strip_prefix(local::ERROR) != Some(cause));
        self.summary.failed += 1;
        let event = Event::Failed {
            node: self.name(id),
            kind: self.plan.node(id).kind.name(),
            cause: cause.to_owned(),
            log,
            log_path: logs.join(local::STDERR).display().to_string(),
        };
        self.observer.observe(&event);
        self.set(id, State::Failed);
    }
}
