//! A task of a job array: runs its jobs one after the other, and records what it does.

use super::super::{Executor, Job, Outcome};
use super::submission::{Folder, Record, Submission, append};
use crate::engine::cache::store::Store;
use crate::engine::run::pool::Pool;
use crate::engine::stage::Resources;
use anyhow::{Context as _, Result};
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The part of the batch time after which a first job counts as long.
const LONG: u32 = 10;

/// Runs the task `number` of a submission on `executor`. A job that fails does not stop the others.
///
/// If the jobs turn out to take longer than the batch time, the remaining ones are released. The
/// coordinator submits them again in smaller groups.
pub fn run(
    store: &Store,
    folder: &Folder,
    number: usize,
    executor: &mut dyn Executor,
    interrupted: &AtomicBool,
) -> Result<()> {
    let submission = folder.read()?;
    let Submission { threads, batch_time, tasks, .. } = &submission;
    let jobs = tasks.get(number).with_context(|| format!("there is no task {number}"))?;
    let mut left: VecDeque<Job> = jobs
        .iter()
        .map(|job| Job {
            key: job.key,
            kind: "",
            expected: None,
            log: store.log(job.key),
            resources: Resources { time_limit: job.time_limit, ..Resources::default() },
            threads: *threads,
            force: job.force,
            shares_process: job.shares_process,
        })
        .collect();
    let records = folder.records(number);
    let mut pool = Pool::new(executor, interrupted);
    let (began, mut ended) = (Instant::now(), 0);
    while let Some(job) = left.pop_front() {
        append(&records, &Record::Started { key: job.key })?;
        pool.start(job);
        let outcome = loop {
            if let Some(end) = pool.wait()? {
                break (end.key, end.outcome);
            }
            if is_long(began.elapsed(), ended, *batch_time) && !left.is_empty() {
                let keys = left.drain(..).map(|job| job.key).collect();
                append(&records, &Record::Released { keys })?;
            }
        };
        ended += 1;
        let (key, outcome) = outcome;
        append(&records, &Record::Ended { key, outcome })?;
    }
    Ok(())
}

/// Whether a task should release its remaining jobs.
fn is_long(elapsed: Duration, ended: usize, batch_time: Duration) -> bool {
    elapsed > batch_time || ended == 0 && elapsed > batch_time / LONG
}

/// Whether the outcome is a failure that Slurm may explain better, such as a job that was killed.
pub(super) fn may_be_explained(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(_) | Outcome::Interrupted(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_releases_jobs_once_it_is_long() {
        let seconds = Duration::from_secs;
        let case = |elapsed, ended| is_long(seconds(elapsed), ended, seconds(300));
        assert_eq!([case(20, 0), case(31, 0)], [false, true]);
        assert_eq!([case(31, 1), case(299, 5), case(301, 5)], [false, false, true]);
    }
}
