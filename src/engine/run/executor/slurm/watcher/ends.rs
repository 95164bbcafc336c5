//! The ends of tasks: which results they have left, and why others are missing.

use super::super::super::{Failure, Outcome, log};
use super::super::state::{Detail, End};
use super::Watcher;
use super::{EXCLUDED, Ended, FREE_ATTEMPTS, LAG, LINGER, LOG_LINES, Live, LiveTask, SHORT_LAG};
use crate::engine::key::Key;
use crate::fs;
use anyhow::{Context as _, Result};
use std::io::Write as _;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

impl Watcher {
    /// Ends the tasks that Slurm has ended, once a shared disk must show what they have written.
    pub(super) fn end_tasks(&mut self) -> Result<()> {
        for live in 0..self.live.len() {
            for task in 0..self.live[live].tasks.len() {
                self.end_task(live, task)?;
            }
        }
        self.remove_done();
        Ok(())
    }

    /// Removes the files of submissions that are done, unless a job has failed.
    pub(super) fn remove_done(&mut self) {
        let is_done = |live: &Live| live.tasks.iter().all(LiveTask::is_done);
        for live in self.live.iter().filter(|live| is_done(live) && live.is_own && !live.has_failed)
        {
            live.folder.remove(live.tasks.len());
        }
        let arrays = &self.arrays;
        self.live.retain(|live| {
            if is_done(live) {
                let mut arrays = arrays.lock().unwrap_or_else(PoisonError::into_inner);
                arrays.retain(|id| Some(*id) != live.id);
            }
            !is_done(live)
        });
    }

    fn end_task(&mut self, live: usize, task: usize) -> Result<()> {
        let known = &self.live[live].tasks[task];
        let Some((end, since)) = known.end.clone() else { return Ok(()) };
        let lag = match &end {
            _ if known.is_done() => return Ok(()),
            Ended::State(End::Completed) | Ended::Lost => LAG,
            // Details first.
            Ended::State(_) => return Ok(()),
            Ended::Detail(..) => SHORT_LAG,
        };
        // Read again: the last records may be newer than the last look.
        let path = self.live[live].folder.records(task);
        self.read_task(live, task, &path);
        // A result proves that its job has succeeded, no matter what Slurm says.
        for key in self.live[live].tasks[task].open.clone() {
            if self.store.lookup(key)?.usable().is_some() && !self.is_forced(key) {
                self.live[live].tasks[task].open.retain(|open| *open != key);
                self.end(key, Outcome::Exited);
            }
        }
        let known = &self.live[live].tasks[task];
        if known.is_done() || (!known.open.is_empty() && since.elapsed() < lag) {
            return Ok(());
        }
        self.live[live].has_failed = true;
        self.explain(live, task, &end);
        Ok(())
    }

    fn is_forced(&self, key: Key) -> bool {
        self.jobs.get(&key).is_some_and(|(job, _)| job.force)
    }

    /// Ends the open jobs of a task that has ended without their results.
    fn explain(&mut self, live: usize, task: usize, end: &Ended) {
        let (folder, id) = (self.live[live].folder.clone(), self.live[live].id.unwrap_or_default());
        let known = &mut self.live[live].tasks[task];
        let (open, started) = (std::mem::take(&mut known.open), known.started.clone());
        let held = known.held.take();
        let log = folder.log(id, task);
        if let Some((key, outcome)) = held {
            let explained = match end {
                Ended::Detail(class @ (End::TimedOut | End::OutOfMemory), detail) => {
                    self.copy_log(key, &log);
                    Outcome::Failed(failure(*class, detail, &log))
                }
                Ended::Detail(class, _) if class.is_free() => {
                    return self.again(open.into_iter().chain([key]), end, &log);
                }
                _ => outcome,
            };
            self.end(key, explained);
        }
        let (victims, rest): (Vec<Key>, Vec<Key>) =
            open.into_iter().partition(|key| started.contains(key));
        let nothing_started = started.is_empty();
        match end {
            Ended::Lost => self.again(victims.into_iter().chain(rest), end, &log),
            Ended::Detail(class, _) if class.is_free() => {
                self.again(victims.into_iter().chain(rest), end, &log);
            }
            // Another node may be able to start it.
            Ended::Detail(End::LaunchFailure, detail)
                if !detail.node.is_empty()
                    && rest.iter().all(|key| self.jobs.get(key).is_none_or(|(_, n)| *n == 0)) =>
            {
                self.again(victims.into_iter().chain(rest), end, &log);
            }
            Ended::Detail(class, detail) => {
                let all = nothing_started || *class == End::Cancelled;
                let (failed, again) = match all {
                    true => (victims.into_iter().chain(rest).collect(), Vec::new()),
                    false => (victims, rest),
                };
                let failure = failure(*class, detail, &log);
                for key in failed {
                    self.copy_log(key, &log);
                    let failure = failure.clone();
                    self.end(
                        key,
                        match class {
                            // Not retried: a person has decided it.
                            End::Cancelled => Outcome::Interrupted(failure),
                            _ => Outcome::Failed(failure),
                        },
                    );
                }
                // The task did not reach them.
                again.into_iter().for_each(|key| self.submit_again(key));
            }
            Ended::State(_) => {
                let failure = Failure {
                    cause: format!(
                        "the Slurm job {id}_{task} ended with exit code 0, but published no result"
                    ),
                    hint: Some(format!("its log is `{}`", log.display())),
                };
                for key in victims.into_iter().chain(rest) {
                    self.copy_log(key, &log);
                    self.end(key, Outcome::Failed(failure.clone()));
                }
            }
        }
    }

    /// Submits jobs again that are not the cause of their failure; fails those that were submitted
    /// too often. Avoids the node if it is the cause.
    fn again(&mut self, keys: impl Iterator<Item = Key>, end: &Ended, log: &Path) {
        if let Ended::Detail(End::NodeFailure | End::LaunchFailure, detail) = end
            && !detail.node.is_empty()
            && !self.excluded.contains(&detail.node)
        {
            self.excluded.push(detail.node.clone());
            let more = self.excluded.len().saturating_sub(EXCLUDED);
            self.excluded.drain(..more);
        }
        for key in keys {
            let Some((_, attempts)) = self.jobs.get_mut(&key) else { continue };
            *attempts += 1;
            if *attempts <= FREE_ATTEMPTS {
                self.submit_again(key);
                continue;
            }
            let failure = match end {
                Ended::Detail(class, detail) => failure(*class, detail, log),
                _ => Failure {
                    cause: "Slurm has lost the job".into(),
                    hint: Some(format!("its log is `{}`", log.display())),
                },
            };
            self.end(key, Outcome::Failed(failure));
        }
        self.next_submission = Instant::now() + LINGER;
    }

    /// Appends the end of Slurm's log to the log of a job.
    fn copy_log(&self, key: Key, log: &Path) {
        let lines = log::tail(log, LOG_LINES);
        if lines.is_empty() {
            return;
        }
        let mut text = lines.join("\n");
        text.push('\n');
        // The log is for people; the failure has a path to the other one.
        let _ = fs::append(&self.store.log(key)).and_then(|mut file| {
            file.write_all(text.as_bytes()).context("cannot write to the log of a job")
        });
    }
}

/// The failure of a job whose task ended in this way.
fn failure(class: End, detail: &Detail, log: &Path) -> Failure {
    let Detail { id, exit: (code, signal), node, .. } = detail;
    let on = if node.is_empty() { String::new() } else { format!(" on `{node}`") };
    let exit = match (class, *code, *signal) {
        (End::Failed, 0, signal) if signal > 0 => format!(" with signal {signal}"),
        (End::Failed, code, _) => format!(" with exit code {code}"),
        _ => String::new(),
    };
    let hint = match class {
        End::TimedOut => "raise `resources: { time-limit: ... }` of the stage".to_owned(),
        End::OutOfMemory => "raise `resources: { memory: ... }` of the stage".to_owned(),
        End::LaunchFailure => format!(
            "check that the node can write `{}`, and that it has the program",
            log.display()
        ),
        _ => format!("the log of Slurm is `{}`", log.display()),
    };
    Failure {
        cause: format!("the Slurm job {id} {}{exit}{on}", class.describe()),
        hint: Some(hint),
    }
}
