//! The thread that submits jobs to Slurm and watches them until they have ended.
//!
//! Each cycle makes at most one call of Slurm's programs. The records of the tasks are looked at
//! more often than Slurm is asked; both intervals grow while nothing happens.

mod adopt;
mod ends;

use super::super::{Failure, Job, Options, Outcome, Phase};
use super::client::{Client, Refused};
use super::group;
use super::script::{Array, script};
use super::state::{Detail, End, Row, State, TaskId};
use super::submission::{Folder, Record, Submission, TaskJob, read_records};
use super::task::may_be_explained;
use crate::engine::cache::process::ProcessId;
use crate::engine::cache::store::Store;
use crate::engine::error::Error;
use crate::engine::key::Key;
use crate::engine::resources::SlurmSettings;
use crate::fs;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZero;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest and the longest time between two calls of `squeue`.
const SQUEUE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// The shortest and the longest time between two listings of the records.
const RECORDS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The time in which jobs are collected for one submission.
const LINGER: Duration = Duration::from_millis(150);
/// The time for which a shared disk may hide the files of another host, after success.
const LAG: Duration = Duration::from_secs(65);
/// The same after a failure: what is missed is computed again at worst.
const SHORT_LAG: Duration = Duration::from_secs(4);
/// The number of free attempts after preemptions, failures of nodes, and lost jobs.
const FREE_ATTEMPTS: u32 = 10;
/// The time for which Slurm may refuse submissions before a run fails.
const REFUSAL: Duration = Duration::from_secs(900);
/// The age at which the files of submissions of dead processes are removed.
const OLD: Duration = Duration::from_secs(7 * 24 * 3600);
/// The number of lines of Slurm's log that are copied to the log of a job.
const LOG_LINES: usize = 8;
/// The largest number of nodes that are avoided.
const EXCLUDED: usize = 16;

/// A request to the thread.
pub(super) enum Message {
    Submit(Vec<Job>),
    Adopt(Box<Job>, Sender<Result<bool>>),
    Cancel(Vec<Key>, Sender<()>),
    Close(Sender<()>),
}

/// A report of the thread.
pub(super) enum Update {
    Phase(Key, Phase),
    Ended(Key, Outcome),
}

/// A job array in Slurm.
struct Live {
    name: String,
    folder: Folder,
    /// Its id; `None` until it is known whether Slurm has accepted it.
    id: Option<u64>,
    /// Whether this process may cancel it. Another live process may have submitted it.
    is_own: bool,
    tasks: Vec<LiveTask>,
    /// Whether a task has failed, so that the logs are kept.
    has_failed: bool,
}

/// A task of a job array.
struct LiveTask {
    /// The keys that have not ended.
    open: Vec<Key>,
    started: BTreeSet<Key>,
    /// The bytes of the records that have been read.
    read: u64,
    /// The last outcome, if Slurm may explain it better than the task did.
    held: Option<(Key, Outcome)>,
    /// How the task ended, and since when this is known.
    end: Option<(Ended, Instant)>,
}

/// How a task ended.
#[derive(Clone, Debug)]
enum Ended {
    /// Slurm said so, but not on which node.
    State(End),
    /// With all that Slurm knows.
    Detail(End, Detail),
    /// Slurm no longer knows the task.
    Lost,
}

impl LiveTask {
    fn new(keys: Vec<Key>) -> LiveTask {
        LiveTask { open: keys, started: BTreeSet::new(), read: 0, held: None, end: None }
    }

    fn is_done(&self) -> bool {
        self.open.is_empty() && self.held.is_none()
    }
}

/// See the module.
pub(super) struct Watcher {
    options: Options,
    settings: SlurmSettings,
    store: Store,
    report: Sender<Result<Update>>,
    arrays: Arc<Mutex<Vec<u64>>>,
    client: Client,
    /// Jobs to submit.
    queue: VecDeque<Job>,
    /// All jobs of this process that have not ended, and the number of their free attempts.
    jobs: BTreeMap<Key, (Job, u32)>,
    live: Vec<Live>,
    excluded: Vec<String>,
    /// Tasks that Slurm holds and that are of no use.
    discarded: Vec<String>,
    /// Whether the submissions of earlier processes have been read.
    has_scanned: bool,
    next_submission: Instant,
    next_squeue: (Instant, Duration),
    next_records: (Instant, Duration),
    /// Since when Slurm has refused all submissions.
    refused: Option<(Instant, Duration)>,
}

impl Watcher {
    pub(super) fn new(
        options: Options,
        settings: SlurmSettings,
        store: Store,
        report: Sender<Result<Update>>,
        arrays: Arc<Mutex<Vec<u64>>>,
    ) -> Watcher {
        let now = Instant::now();
        Watcher {
            options,
            settings,
            store,
            report,
            arrays,
            client: Client::default(),
            queue: VecDeque::new(),
            jobs: BTreeMap::new(),
            live: Vec::new(),
            excluded: Vec::new(),
            discarded: Vec::new(),
            has_scanned: false,
            next_submission: now,
            next_squeue: (now, SQUEUE.0),
            next_records: (now, RECORDS.0),
            refused: None,
        }
    }

    /// Runs until the executor is dropped.
    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            match inbox.recv_timeout(self.idle()) {
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Err(error) = self.cycle() {
                // The run ends, and cancels its jobs.
                let _ = self.report.send(Err(error));
            }
        }
    }

    /// The time until there may be something to do.
    fn idle(&self) -> Duration {
        if self.jobs.is_empty() {
            return Duration::from_secs(3600);
        }
        Duration::from_millis(50)
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Submit(jobs) => {
                if self.queue.is_empty() {
                    self.next_submission = Instant::now() + LINGER;
                }
                for job in jobs {
                    self.jobs.insert(job.key, (job.clone(), 0));
                    self.queue.push_back(job);
                }
            }
            Message::Adopt(job, reply) => _ = reply.send(self.adopt(*job)),
            Message::Cancel(keys, reply) => {
                self.cancel(&keys);
                let _ = reply.send(());
            }
            Message::Close(reply) => {
                self.remove_done();
                let _ = reply.send(());
            }
        }
    }

    /// One step: at most one call of Slurm's programs.
    fn cycle(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.jobs.is_empty() {
            return Ok(());
        }
        if now >= self.next_records.0 {
            self.read_records();
            self.next_records.1 = (self.next_records.1 * 4 / 3).min(RECORDS.1);
            self.next_records.0 = now + self.next_records.1;
            self.end_tasks()?;
        }
        if !self.client.is_rested() {
            return Ok(());
        }
        if !self.discarded.is_empty() {
            let ids = std::mem::take(&mut self.discarded);
            return self.client.scancel(&ids);
        }
        if !self.queue.is_empty() && now >= self.next_submission && self.room() > 0 {
            return match self.queue.len() > 1 && !self.client.knows_limits() {
                true => self.client.max_array().map(drop),
                false => self.submit(),
            };
        }
        if let Some(id) = self.without_detail() {
            return self.ask_details(id);
        }
        if now >= self.next_squeue.0 && !self.live.is_empty() {
            return self.ask_states();
        }
        Ok(())
    }

    /// Something has happened: look again soon.
    fn wake(&mut self) {
        self.next_squeue.1 = SQUEUE.0;
        self.next_squeue.0 = self.next_squeue.0.min(Instant::now() + SQUEUE.0);
        self.next_records.1 = RECORDS.0;
    }

    /// The number of tasks that may be submitted now.
    fn room(&self) -> usize {
        let open = |live: &Live| live.tasks.iter().filter(|task| !task.is_done()).count();
        let held: usize = self.live.iter().map(open).sum();
        self.settings.max_tasks.saturating_sub(held)
    }

    // Submissions.

    /// Submits jobs of the queue that are alike, as one array.
    fn submit(&mut self) -> Result<()> {
        let Some(first) = self.queue.front().cloned() else { return Ok(()) };
        // A single task needs no limit, and the limit is known before there are more.
        let limit = if self.queue.len() > 1 { self.client.max_array()? } else { 1 };
        let most = limit.min(self.room()).max(1);
        let of = |job: &Job| job.resources.clone().or(&self.settings.resources);
        let resources = of(&first);
        let (alike, others): (Vec<Job>, Vec<Job>) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|job| group::is_alike((&first, &resources), (job, &of(job))));
        let expected = alike.iter().filter_map(|job| job.expected).max();
        let size = group::size(alike.len(), expected, self.settings.batch_time);
        let mut tasks: Vec<Vec<TaskJob>> = Vec::new();
        let mut left = Vec::new();
        for jobs in alike.chunks(size) {
            if tasks.len() < most {
                tasks.push(jobs.iter().map(|job| TaskJob::of(job, &of(job))).collect());
            } else {
                left.extend_from_slice(jobs);
            }
        }
        self.queue = left.into_iter().chain(others).collect();
        let folder = Folder::create(&self.store)?;
        let name = format!("repro-{}-{}", self.store.cluster_name()?, folder.name());
        let batch_time = self.settings.batch_time;
        let limits = |task: &Vec<TaskJob>| {
            let limits: Vec<_> = task.iter().map(|job| job.time_limit).collect();
            group::time(limits.iter(), batch_time)
        };
        let array = Array {
            name: name.clone(),
            comment: format!(
                "repro {} ({} jobs)",
                first.kind,
                tasks.iter().map(Vec::len).sum::<usize>()
            ),
            tasks: tasks.len(),
            // The limit of a group: all or none of its tasks have one.
            time: tasks.iter().map(limits).max().flatten(),
            logs: folder.logs(),
            exclude: self.excluded.clone(),
            after: Vec::new(),
            requeue: false,
            resources,
        };
        let threads = array.resources.threads.unwrap_or(NonZero::<usize>::MIN);
        let submission = Submission {
            name: name.clone(),
            kind: first.kind.to_owned(),
            process: ProcessId::this().clone(),
            threads,
            batch_time,
            tasks,
            nodes: Vec::new(),
            retries: 0,
        };
        let text = self.script(&folder, threads.get());
        folder.write(&self.store, &submission, &text)?;
        let answer = self.client.sbatch(&array.arguments(), &text)?;
        let mut live = Live {
            name,
            folder,
            id: None,
            is_own: true,
            tasks: submission
                .tasks
                .iter()
                .map(|jobs| LiveTask::new(jobs.iter().map(|job| job.key).collect()))
                .collect(),
            has_failed: false,
        };
        match answer {
            Ok(id) => {
                live.folder.write_job(&self.store, id)?;
                live.id = Some(id);
                self.arrays.lock().unwrap_or_else(PoisonError::into_inner).push(id);
                self.live.push(live);
                self.refused = None;
                self.next_submission = Instant::now();
                self.wake();
                Ok(())
            }
            // The controller may have accepted the job: `squeue` shows it by its name.
            Err(Refused::ForNow(cause)) => {
                self.live.push(live);
                self.next_squeue.0 = Instant::now();
                self.refuse(&cause)
            }
            Err(Refused::ForEver(cause)) => {
                let tasks = live.tasks.len();
                live.folder.remove(tasks);
                self.refuse_for_ever(&live, &cause);
                Ok(())
            }
        }
    }

    /// Waits before the next submission; fails after a long time.
    fn refuse(&mut self, cause: &str) -> Result<()> {
        let now = Instant::now();
        let (since, pause) = self.refused.unwrap_or((now, SQUEUE.0));
        if since.elapsed() > REFUSAL {
            let message = format!("Slurm accepts no jobs: {cause}");
            return Err(Error::Infrastructure(message).into());
        }
        self.refused = Some((since, (pause * 2).min(SQUEUE.1)));
        self.next_submission = now + pause;
        Ok(())
    }

    /// Fails the jobs of a submission that Slurm will never accept.
    fn refuse_for_ever(&mut self, live: &Live, cause: &str) {
        let keys: Vec<Key> = live.tasks.iter().flat_map(|task| task.open.clone()).collect();
        if !self.excluded.is_empty() {
            // Perhaps no other node has the resources.
            self.excluded.clear();
            keys.into_iter().for_each(|key| self.submit_again(key));
            return;
        }
        let failure = Failure {
            cause: format!("Slurm did not accept the job: {cause}"),
            hint: Some("check the stage's `resources` and the section `executors`".into()),
        };
        keys.into_iter().for_each(|key| self.end(key, Outcome::Failed(failure.clone())));
    }

    fn script(&self, folder: &Folder, threads: usize) -> String {
        let Options { name, arguments, environment, .. } = &self.options;
        let mut all: Vec<String> =
            arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        all.extend(["--submission".into(), folder.path().display().to_string(), "--task".into()]);
        script(environment, threads, name, &all, true)
    }

    /// Puts a job back into the queue.
    fn submit_again(&mut self, key: Key) {
        if let Some((job, _)) = self.jobs.get(&key) {
            self.queue.push_back(job.clone());
            let _ = self.report.send(Ok(Update::Phase(key, Phase::Queued)));
        }
    }

    // Records.

    /// Reads the records that have grown: one listing, then the files of unfinished tasks.
    fn read_records(&mut self) {
        let folder = self.store.cluster().join("records");
        let present: BTreeSet<String> = fs::list(&folder).unwrap_or_default().into_iter().collect();
        for live in 0..self.live.len() {
            for task in 0..self.live[live].tasks.len() {
                let path = self.live[live].folder.records(task);
                let is_present =
                    path.file_name().is_some_and(|name| present.contains(&*name.to_string_lossy()));
                if is_present && !self.live[live].tasks[task].is_done() {
                    self.read_task(live, task, &path);
                }
            }
        }
    }

    fn read_task(&mut self, live: usize, task: usize, path: &Path) {
        for record in read_records(path, &mut self.live[live].tasks[task].read) {
            let held = self.live[live].tasks[task].held.take();
            if let Some((key, outcome)) = held {
                self.end(key, outcome);
            }
            let known = &mut self.live[live].tasks[task];
            match record {
                // Slurm starts a task before its first job, and a task runs its jobs one by one.
                Record::Started { key } => {
                    known.started.insert(key);
                    if self.jobs.contains_key(&key) {
                        let _ = self.report.send(Ok(Update::Phase(key, Phase::Running)));
                    }
                }
                Record::Ended { key, outcome } => {
                    known.open.retain(|open| *open != key);
                    if may_be_explained(&outcome) {
                        known.held = Some((key, outcome));
                        self.live[live].has_failed = true;
                        self.wake();
                    } else {
                        self.end(key, outcome);
                    }
                }
                Record::Released { keys } => {
                    known.open.retain(|open| !keys.contains(open));
                    keys.into_iter().for_each(|key| self.submit_again(key));
                }
            }
        }
    }

    /// Reports the end of a job.
    fn end(&mut self, key: Key, outcome: Outcome) {
        if self.jobs.remove(&key).is_some() {
            let _ = self.report.send(Ok(Update::Ended(key, outcome)));
            self.wake();
        }
    }

    // States.

    /// Asks Slurm for the states of all tasks that are not done.
    fn ask_states(&mut self) -> Result<()> {
        let open: Vec<String> = self
            .live
            .iter()
            .filter(|live| live.tasks.iter().any(|task| !task.is_done()))
            .map(|live| live.name.clone())
            .collect();
        self.next_squeue.1 = (self.next_squeue.1 * 3 / 2).min(SQUEUE.1);
        self.next_squeue.0 = Instant::now() + self.next_squeue.1;
        if open.is_empty() {
            return Ok(());
        }
        match self.client.squeue(&open)? {
            Ok(rows) => {
                self.update(&rows, &open);
                self.next_records.0 = Instant::now();
            }
            // The jobs continue without the controller.
            Err(Refused::ForNow(_)) => {}
            Err(Refused::ForEver(cause)) => {
                return Err(Error::Infrastructure(format!("`squeue` failed: {cause}")).into());
            }
        }
        Ok(())
    }

    fn update(&mut self, rows: &[Row], asked: &[String]) {
        let mut again = Vec::new();
        for live in &mut self.live {
            if !asked.contains(&live.name) {
                continue;
            }
            let own: BTreeMap<usize, &Row> = rows
                .iter()
                .filter(|row| row.name == live.name)
                .map(|row| (row.id.task, row))
                .collect();
            if let (None, Some(row)) = (live.id, own.values().next()) {
                live.id = Some(row.id.job);
                let _ = live.folder.write_job(&self.store, row.id.job);
                self.arrays.lock().unwrap_or_else(PoisonError::into_inner).push(row.id.job);
            }
            if live.id.is_none() {
                // Slurm has not accepted it.
                again.extend(live.tasks.drain(..).flat_map(|task| task.open));
                continue;
            }
            for (number, task) in live.tasks.iter_mut().enumerate() {
                if task.is_done() {
                    continue;
                }
                let end = match own.get(&number).map(|row| &row.state) {
                    Some(State::Ended(end)) => Some(Ended::State(*end)),
                    // Slurm waits for an administrator. The task may have ended before.
                    Some(State::Held(_)) => {
                        let id = live.id.unwrap_or_default();
                        self.discarded.push(TaskId { job: id, task: number }.to_string());
                        Some(Ended::State(End::NodeFailure))
                    }
                    Some(_) => None,
                    None => Some(Ended::Lost),
                };
                match (end, &task.end) {
                    (None, _) => task.end = None,
                    (Some(end), None) => task.end = Some((end, Instant::now())),
                    (Some(_), Some(_)) => {}
                }
            }
        }
        again.into_iter().for_each(|key| self.submit_again(key));
        self.live.retain(|live| !live.tasks.is_empty());
    }

    /// The id of an array with a task whose end needs to be explained.
    fn without_detail(&self) -> Option<u64> {
        let needs = |task: &LiveTask| {
            let end = task.end.as_ref().map(|(end, _)| end);
            !task.is_done() && matches!(end, Some(Ended::State(end)) if *end != End::Completed)
        };
        self.live.iter().find(|live| live.tasks.iter().any(needs))?.id
    }

    /// Asks Slurm how the tasks of an array have ended, and where.
    fn ask_details(&mut self, id: u64) -> Result<()> {
        let details = self.client.details(id)?;
        self.next_records.0 = Instant::now();
        for live in self.live.iter_mut().filter(|live| live.id == Some(id)) {
            for (number, task) in live.tasks.iter_mut().enumerate() {
                let Some((Ended::State(end), since)) = task.end.clone() else { continue };
                let id = TaskId { job: id, task: number };
                let found = details.iter().find(|detail| detail.id == id).cloned();
                let detail = found.unwrap_or_else(|| Detail {
                    id,
                    state: State::Ended(end),
                    exit: (0, 0),
                    node: String::new(),
                });
                // The later of the two answers.
                let end = if let State::Ended(end) = detail.state { end } else { end };
                task.end = Some((Ended::Detail(end, detail), since));
            }
        }
        Ok(())
    }
}
