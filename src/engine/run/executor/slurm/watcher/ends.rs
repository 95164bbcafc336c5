//! The ends of tasks: which results they have left, and why others are missing.

use super::super::super::{Failure, Outcome, log};
use super::super::state::{Detail, End, exceeded_memory};
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
            if self.store.lookup_local(key)?.usable().is_some() && !self.is_forced(key) {
                self.live[live].tasks[task].open.retain(|open| *open != key);
                self.end(key, Outcome::Exited);
            }
        }
        let known = &self.live[live].tasks[task];
        if known.is_done() || (!known.open.is_empty() && since.elapsed() < lag) {
            return Ok(());
        }
        self.live[live].has_failed = true;
        let log = self.live[live].folder.log(self.live[live].id.unwrap_or_default(), task);
        self.explain(live, task, &with_memory(end, &log::tail(&log, LOG_LINES)));
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
        let is_new = |key: &Key| self.jobs.get(key).is_none_or(|(_, attempts)| *attempts == 0);
        let (fail, again): (Vec<Key>, Vec<Key>) =
            match fate(end, !started.is_empty(), open.iter().all(is_new)) {
                Fate::Again => return self.again(open.into_iter(), end, &log),
                Fate::Fail => (open, Vec::new()),
                Fate::FailStarted => open.into_iter().partition(|key| started.contains(key)),
            };
        let failure = match end {
            Ended::Detail(class, detail) => failure(*class, detail, &log),
            Ended::State(_) | Ended::Lost => Failure {
                cause: format!(
                    "the Slurm job {id}_{task} ended with exit code 0, but published no result"
                ),
                hint: Some(format!("its log is `{}`", log.display())),
            },
        };
        for key in fail {
            self.copy_log(key, &log);
            let failure = failure.clone();
            self.end(
                key,
                match end {
                    // Not retried: a person has decided it.
                    Ended::Detail(End::Cancelled, _) => Outcome::Interrupted(failure),
                    _ => Outcome::Failed(failure),
                },
            );
        }
        // The task did not reach them.
        again.into_iter().for_each(|key| self.submit_again(key));
    }

    /// Submits jobs again that are not the cause of their failure; fails those that were submitted
    /// too often. Avoids the node if it is the cause.
    fn again(&mut self, keys: impl Iterator<Item = Key>, end: &Ended, log: &Path) {
        if let Some(node) = bad_node(end)
            && !self.excluded.iter().any(|excluded| excluded == node)
        {
            self.excluded.push(node.to_owned());
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

/// What becomes of the jobs that a task has left open.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// All are submitted again. This is no retry.
    Again,
    /// All fail.
    Fail,
    /// Those that have started fail, and the others are submitted again.
    FailStarted,
}

/// The fate of the open jobs of a task that ended in this way: whether one `has_started`, and
/// whether they `are_new`, not submitted again before.
fn fate(end: &Ended, has_started: bool, are_new: bool) -> Fate {
    match end {
        Ended::Lost => Fate::Again,
        // Slurm says that it has succeeded.
        Ended::State(_) => Fate::Fail,
        Ended::Detail(class, _) if class.is_free() => Fate::Again,
        // Another node may be able to start it.
        Ended::Detail(End::LaunchFailure, _) if bad_node(end).is_some() && are_new => Fate::Again,
        Ended::Detail(End::Cancelled, _) => Fate::Fail,
        Ended::Detail(..) if has_started => Fate::FailStarted,
        Ended::Detail(..) => Fate::Fail,
    }
}

/// The node that is the cause of this end.
fn bad_node(end: &Ended) -> Option<&str> {
    match end {
        Ended::Detail(End::NodeFailure | End::LaunchFailure, detail) => {
            Some(detail.node.as_str()).filter(|node| !node.is_empty())
        }
        _ => None,
    }
}

/// The end of a task with this log: a task that was killed may have exceeded its memory.
fn with_memory(end: Ended, log: &[String]) -> Ended {
    match end {
        Ended::Detail(End::Failed, detail) if detail.exit == (0, 9) && exceeded_memory(log) => {
            Ended::Detail(End::OutOfMemory, detail)
        }
        end => end,
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

#[cfg(test)]
mod tests {
    use super::super::super::state::{State, parse_sacct, parse_scontrol};
    use super::*;

    /// `scontrol -o show job` of Slurm 22.05, 23.11 and 24.05, shortened to the fields that are
    /// read: an exit code, a kill, a time limit, memory, preemptions, failed nodes, an unwritable
    /// log, `scancel` and a deadline.
    const SCONTROL: &str = "\
ArrayJobId=1 ArrayTaskId=0 JobState=FAILED Reason=NonZeroExitCode ExitCode=7:0 NodeList=n1
ArrayJobId=1 ArrayTaskId=1 JobState=FAILED Reason=JobLaunchFailure ExitCode=0:9 NodeList=n1
ArrayJobId=1 ArrayTaskId=2 JobState=TIMEOUT Reason=TimeLimit ExitCode=0:15 NodeList=n2
ArrayJobId=1 ArrayTaskId=3 JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125 NodeList=n2
ArrayJobId=1 ArrayTaskId=4 JobState=PREEMPTED Reason=None ExitCode=143:0 NodeList=n1
ArrayJobId=1 ArrayTaskId=5 JobState=PREEMPTED Reason=None ExitCode=0:15 NodeList=n1
ArrayJobId=1 ArrayTaskId=6 JobState=NODE_FAIL Reason=NodeDown ExitCode=1:0 NodeList=n3
ArrayJobId=1 ArrayTaskId=7 JobState=BOOT_FAIL Reason=None ExitCode=1:0 NodeList=n4
ArrayJobId=1 ArrayTaskId=8 JobState=FAILED Reason=JobLaunchFailure ExitCode=0:53 NodeList=n5
ArrayJobId=1 ArrayTaskId=9 JobState=CANCELLED Reason=None ExitCode=0:15 NodeList=n1
ArrayJobId=1 ArrayTaskId=10 JobState=DEADLINE Reason=Deadline ExitCode=0:0 NodeList=(null)
";

    /// The same from `sacct`, whose lines have no reason.
    const SACCT: &str = "\
1_0|FAILED|7:0|n1|x
1_1|FAILED|0:9|n1|x
1_2|TIMEOUT|0:0|n2|x
1_3|OUT_OF_MEMORY|0:125|n2|x
1_4|PREEMPTED|0:0|n1|x
1_5|PREEMPTED|0:15|n1|x
1_6|NODE_FAIL|0:0|n3|x
1_7|BOOT_FAIL|1:0|n4|x
1_8|FAILED|0:53|n5|x
1_9|CANCELLED by 1001|0:15|n1|x
1_10|DEADLINE|0:0|None assigned|x
";

    fn ends(details: Vec<Detail>) -> Vec<Ended> {
        let end = |detail: Detail| match detail.state {
            State::Ended(class) => Ended::Detail(class, detail),
            _ => panic!("{detail:?}"),
        };
        details.into_iter().map(end).collect()
    }

    #[test]
    fn the_class_of_an_end_decides_whether_a_job_fails_and_which_node_is_avoided() {
        use Fate::{Again, Fail, FailStarted};
        let expected = [
            // The fate after a start, and before; the bad node.
            (FailStarted, Fail, None),
            (FailStarted, Fail, None),
            (FailStarted, Fail, None),
            (FailStarted, Fail, None),
            (Again, Again, None),
            (Again, Again, None),
            (Again, Again, Some("n3")),
            (Again, Again, Some("n4")),
            (Again, Again, Some("n5")),
            (Fail, Fail, None),
            (FailStarted, Fail, None),
        ];
        for ends in [ends(parse_scontrol(SCONTROL)), ends(parse_sacct(SACCT))] {
            assert_eq!(ends.len(), expected.len());
            for (end, expected) in ends.iter().zip(&expected) {
                let found = (fate(end, true, true), fate(end, false, true), bad_node(end));
                assert_eq!(found, *expected, "{end:?}");
            }
            // A second node that cannot start a job shows that the job is the cause.
            assert_eq!(fate(&ends[8], false, false), Fail);
            assert_eq!(fate(&ends[6], false, false), Again);
        }
        assert_eq!(fate(&Ended::Lost, true, false), Again);
        assert_eq!(fate(&Ended::State(End::Completed), true, true), Fail);
    }

    #[test]
    fn each_end_has_its_sentence() {
        let sentences = [
            "failed with exit code 7 on `n1`",
            "failed with signal 9 on `n1`",
            "timed out on `n2`",
            "ran out of memory on `n2`",
            "was preempted on `n1`",
            "was preempted on `n1`",
            "was lost because its node failed on `n3`",
            "was lost because its node failed on `n4`",
            "could not be started on `n5`",
            "was cancelled on `n1`",
            "timed out",
        ];
        for ends in [ends(parse_scontrol(SCONTROL)), ends(parse_sacct(SACCT))] {
            for (end, (task, sentence)) in ends.iter().zip(sentences.iter().enumerate()) {
                let Ended::Detail(class, detail) = end else { panic!("{end:?}") };
                let failure = failure(*class, detail, Path::new("log"));
                assert_eq!(failure.cause, format!("the Slurm job 1_{task} {sentence}"));
            }
        }
    }

    #[test]
    fn a_killed_task_ran_out_of_memory_if_slurm_wrote_so() {
        let log = ["slurmstepd-n1: error: Exceeded job memory limit".to_owned()];
        let class = |end: &Ended, log: &[String]| match with_memory(end.clone(), log) {
            Ended::Detail(class, _) => class,
            end => panic!("{end:?}"),
        };
        let ends = ends(parse_scontrol(SCONTROL));
        assert_eq!(class(&ends[1], &log), End::OutOfMemory);
        assert_eq!(class(&ends[1], &[]), End::Failed);
        assert_eq!(class(&ends[0], &log), End::Failed, "it ended by itself");
        assert_eq!(class(&ends[9], &log), End::Cancelled);
    }
}
