//! Taking over the jobs of earlier processes, and cancelling jobs.

use super::super::super::Phase;
use super::super::client::Refused;
use super::super::state::{Row, State, TaskId};
use super::super::submission::{Folder, Submission};
use super::{Job, Live, LiveTask, OLD, SQUEUE, Update, Watcher};
use crate::engine::error::Error;
use crate::engine::key::Key;
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

impl Watcher {
    /// Takes over the job of an earlier process, if it is queued or runs.
    pub(super) fn adopt(&mut self, job: Job) -> Result<bool> {
        if !self.has_scanned {
            self.scan()?;
            self.has_scanned = true;
        }
        let key = job.key;
        let mut tasks = self.live.iter().flat_map(|live| &live.tasks);
        let task = tasks.find(|task| task.open.contains(&key));
        let Some(task) = task.filter(|_| !job.force && !self.jobs.contains_key(&key)) else {
            return Ok(false);
        };
        if task.started.contains(&key) {
            let _ = self.report.send(Ok(Update::Phase(key, Phase::Running)));
        }
        self.jobs.insert(key, (job, 0));
        self.wake();
        Ok(true)
    }

    /// Reads the submissions of other processes, and asks Slurm which of them are queued or run.
    fn scan(&mut self) -> Result<()> {
        let mut found = Vec::new();
        for folder in Folder::all(&self.store)? {
            // A folder that is not complete belongs to a process that is writing it.
            if let Ok(submission) = folder.read() {
                found.push((folder, submission));
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = found.iter().map(|(_, found)| found.name.clone()).collect();
        let until = Instant::now() + Duration::from_secs(120);
        let rows = loop {
            match self.client.squeue(&names)? {
                Ok(rows) => break rows,
                Err(Refused::ForNow(_)) if Instant::now() < until => {
                    std::thread::sleep(SQUEUE.0);
                }
                Err(Refused::ForNow(cause) | Refused::ForEver(cause)) => {
                    let message = format!("cannot find the jobs of earlier runs: {cause}");
                    return Err(Error::Infrastructure(message).into());
                }
            }
        };
        for (folder, submission) in found {
            let Submission { name, process, tasks, nodes, .. } = submission;
            let count = tasks.len().max(nodes.len());
            let states: BTreeMap<usize, &Row> =
                rows.iter().filter(|row| row.name == name).map(|row| (row.id.task, row)).collect();
            let is_live = |task: &usize| {
                let state = states.get(task).map(|row| &row.state);
                matches!(state, Some(State::Pending(_) | State::Running | State::Unknown(_)))
            };
            let is_alive = self.store.is_alive(&process);
            if !(0..count).any(|task| is_live(&task)) {
                let age = std::fs::metadata(folder.path()).and_then(|meta| meta.modified());
                let age = age.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
                if !is_alive && age.is_some_and(|age| age > OLD) {
                    folder.remove(count);
                }
                continue;
            }
            // The keys of nodes are not known yet.
            if tasks.is_empty() {
                continue;
            }
            let id = states.values().next().map(|row| row.id.job).or(folder.job());
            let tasks = tasks.iter().enumerate().map(|(number, jobs)| {
                let keys = jobs.iter().map(|job| job.key);
                LiveTask::new(if is_live(&number) { keys.collect() } else { Vec::new() })
            });
            let tasks = tasks.collect();
            self.live.push(Live { name, folder, id, is_own: !is_alive, tasks, has_failed: false });
        }
        // What has ended already is not adopted.
        self.read_records();
        Ok(())
    }

    /// Cancels the tasks of these jobs.
    pub(super) fn cancel(&mut self, keys: &[Key]) {
        keys.iter().for_each(|key| _ = self.jobs.remove(key));
        self.queue.retain(|job| !keys.contains(&job.key));
        let (mut ids, mut names) = (Vec::new(), Vec::new());
        for live in self.live.iter().filter(|live| live.is_own) {
            let is_affected = |task: &LiveTask| task.open.iter().any(|key| keys.contains(key));
            match live.id {
                Some(id) if live.tasks.iter().all(|task| task.is_done() || is_affected(task)) => {
                    ids.push(id.to_string());
                }
                Some(id) => {
                    let affected =
                        live.tasks.iter().enumerate().filter(|(_, task)| is_affected(task));
                    ids.extend(affected.map(|(task, _)| TaskId { job: id, task }.to_string()));
                }
                None => names.push(format!("--name={}", live.name)),
            }
        }
        // The command fails already; `repro cancel` and `scancel` remain.
        let _ = self.client.scancel(&ids);
        names.into_iter().for_each(|name| _ = self.client.scancel(&[name]));
    }
}
