//! The one place where jobs are started and awaited, for a run and for a recomputation.
//!
//! A pool runs as many jobs at once as there are threads and memory for, and cancels those that
//! still run when it is dropped, so that no error of a command leaves a job behind. An interrupt
//! ends the wait for jobs. Knows no node, no recipe and no store.

use super::executor::{Capacity, Executor, Job, Outcome};
use crate::engine::error::Error;
use crate::engine::key::Key;
use crate::engine::stage::Resources;
use anyhow::Result;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long to wait for a job at a time: then the progress bar moves and an interrupt is noticed.
const TICK: Duration = Duration::from_millis(100);

/// The jobs of a command.
pub struct Pool<'a> {
    executor: &'a mut dyn Executor,
    capacity: Capacity,
    interrupted: &'a AtomicBool,
    /// The jobs that were started and have not ended, by key.
    running: BTreeMap<Key, Resources>,
    /// Those among them that are not submitted yet: jobs that start together are one batch.
    queued: Vec<Job>,
    /// Ended jobs that [`Pool::wait`] has not returned yet.
    ended: VecDeque<(Key, Outcome)>,
}

/// A job that has ended.
pub struct Ended {
    /// Its key.
    pub key: Key,
    /// How it ended.
    pub outcome: Outcome,
    /// What it was given.
    pub resources: Resources,
}

impl<'a> Pool<'a> {
    /// Jobs run by `executor`, until `interrupted` is set.
    pub fn new(executor: &'a mut dyn Executor, interrupted: &'a AtomicBool) -> Pool<'a> {
        Pool {
            capacity: executor.capacity(),
            executor,
            interrupted,
            running: BTreeMap::new(),
            queued: Vec::new(),
            ended: VecDeque::new(),
        }
    }

    /// How many jobs run.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether no job runs.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether every slot is taken, so that no job can start.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity.slots
    }

    /// Whether a job with these resources can start beside those that run. A job that requests more
    /// than the capacity runs alone.
    pub fn has_room_for(&self, resources: &Resources) -> bool {
        let all = self.running.values().chain([resources]);
        let (threads, memory) = all.fold((0_usize, 0_u64), |(threads, memory), resources| {
            let requested = resources.threads.map_or(1, NonZero::get);
            (threads.saturating_add(requested), memory.saturating_add(resources.memory))
        });
        self.is_empty() || (threads <= self.capacity.slots && memory <= self.capacity.memory)
    }

    /// How many threads a job may use while `open` jobs run or may start: the number that it
    /// requests, or else a share of the slots. The share is twice the fair one, since jobs end at
    /// different times and the system divides its cores, but not more than there are slots. It is
    /// the fair one if the job's threads are `synchronous`, for they wait for each other.
    pub fn threads(&self, resources: &Resources, open: usize, synchronous: bool) -> NonZero<usize> {
        let slots = self.capacity.slots;
        let share = slots.saturating_mul(if synchronous { 1 } else { 2 }) / open.max(1);
        let share = NonZero::new(share.min(slots)).unwrap_or(NonZero::<usize>::MIN);
        resources.threads.unwrap_or(share)
    }

    /// Starts a job, at the latest with the next [`Pool::wait`].
    pub fn start(&mut self, job: Job) {
        self.running.insert(job.key, job.resources);
        self.queued.push(job);
    }

    /// The next job to end, if one does within a fraction of a second; an error if the command was
    /// interrupted.
    pub fn wait(&mut self) -> Result<Option<Ended>> {
        self.submit()?;
        if self.ended.is_empty() {
            self.ended.extend(self.executor.poll(TICK)?);
        }
        let ended = self.ended.pop_front();
        if matches!(ended, Some((_, Outcome::Interrupted(_)))) {
            self.await_interrupt();
        }
        // Checked first: the jobs may have been interrupted too, and then they have not failed.
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Error::Interrupted.into());
        }
        Ok(ended.map(|(key, outcome)| {
            let resources = self.running.remove(&key).unwrap_or_default();
            Ended { key, outcome, resources }
        }))
    }

    /// Submits the jobs that were started, but for those that an earlier coordinator left running.
    fn submit(&mut self) -> Result<()> {
        let mut jobs = Vec::new();
        for job in std::mem::take(&mut self.queued) {
            if !self.executor.adopt(&job)? {
                jobs.push(job);
            }
        }
        if jobs.is_empty() { Ok(()) } else { self.executor.submit(jobs) }
    }

    /// A machine that shuts down signals this process and its jobs at once, but a job may be seen
    /// to have ended before the flag is set here. A job that was interrupted for another reason
    /// costs this second.
    fn await_interrupt(&self) {
        let until = Instant::now() + Duration::from_secs(1);
        while !self.interrupted.load(Ordering::Relaxed) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        if !self.is_empty() {
            self.executor.cancel(&self.running.keys().copied().collect::<Vec<_>>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::executor::Failure;
    use super::*;
    use crate::engine::testing::{FakeExecutor, job};

    /// Eight slots and 100 bytes of memory.
    fn executor(end: impl FnMut(&Job) -> Option<Outcome> + 'static) -> FakeExecutor<'static> {
        FakeExecutor::new(Capacity { slots: 8, memory: 100 }, end)
    }

    fn endless() -> FakeExecutor<'static> {
        executor(|_| None)
    }

    fn resources(threads: usize, memory: u64) -> Resources {
        Resources { threads: NonZero::new(threads), memory, ..Resources::default() }
    }

    #[test]
    fn jobs_run_together_within_threads_and_memory_and_a_larger_job_runs_alone() {
        let (mut executor, interrupted) = (endless(), AtomicBool::new(false));
        let mut pool = Pool::new(&mut executor, &interrupted);
        assert!(pool.has_room_for(&resources(64, 1000)));
        pool.start(Job { resources: resources(6, 40), ..job("k") });
        assert!(pool.has_room_for(&resources(2, 60)));
        assert!(!pool.has_room_for(&resources(3, 0)) && !pool.has_room_for(&resources(0, 61)));
    }

    #[test]
    fn a_job_may_use_twice_its_share_of_the_slots_and_all_of_them_when_few_jobs_are_left() {
        let case = |slots, open, synchronous| {
            let mut executor = FakeExecutor::new(Capacity { slots, memory: 0 }, |_| None);
            let interrupted = AtomicBool::new(false);
            let pool = Pool::new(&mut executor, &interrupted);
            pool.threads(&Resources::default(), open, synchronous).get()
        };
        assert_eq!([1, 2, 3, 100].map(|open| case(2, open, false)), [2, 2, 1, 1]);
        assert_eq!([1, 3, 4, 9].map(|open| case(8, open, false)), [8, 5, 4, 1]);
        assert_eq!([case(0, 0, false), case(1, 1, false)], [1, 1]);
        let synchronous = [1, 2, 3].map(|open| case(2, open, true));
        assert_eq!(synchronous, [2, 1, 1], "synchronous threads get the fair share");
    }

    #[test]
    fn jobs_that_start_together_are_submitted_as_one_batch() {
        let (mut executor, interrupted) = (endless(), AtomicBool::new(false));
        let mut pool = Pool::new(&mut executor, &interrupted);
        ["one", "two"].into_iter().for_each(|kind| pool.start(job(kind)));
        assert!(pool.wait().unwrap().is_none());
        pool.start(job("three"));
        assert!(pool.wait().unwrap().is_none());
        drop(pool);
        let batches = [vec![job("one").key, job("two").key], vec![job("three").key]];
        assert_eq!(executor.batches, batches);
    }

    #[test]
    fn a_job_of_a_dead_coordinator_is_adopted_and_not_submitted() {
        let mut executor = executor(|_| Some(Outcome::Exited));
        executor.left.push(job("one").key);
        let interrupted = AtomicBool::new(false);
        let mut pool = Pool::new(&mut executor, &interrupted);
        ["one", "two"].into_iter().for_each(|kind| pool.start(job(kind)));
        let mut ended = [(); 2].map(|()| pool.wait().unwrap().unwrap().key);
        assert!(pool.is_empty());
        drop(pool);
        let mut keys = [job("one").key, job("two").key];
        keys.sort_unstable();
        ended.sort_unstable();
        assert_eq!(ended, keys);
        assert_eq!(executor.batches, [vec![job("two").key]]);
    }

    #[test]
    fn an_ended_job_comes_back_with_its_resources_and_leaves_room() {
        let failed = || Outcome::Failed(Failure { cause: "no".into(), hint: None });
        let mut executor = executor(move |_| Some(failed()));
        let interrupted = AtomicBool::new(false);
        let mut pool = Pool::new(&mut executor, &interrupted);
        pool.start(Job { resources: resources(8, 100), ..job("k") });
        let Ended { key, outcome, resources: given } = pool.wait().unwrap().unwrap();
        assert_eq!((key, given), (job("k").key, resources(8, 100)));
        assert_eq!(outcome.failure().unwrap().cause, "no");
        assert!(pool.is_empty() && !pool.is_full());
    }

    #[test]
    fn an_executor_that_fails_fails_the_wait_and_its_jobs_are_cancelled() {
        let (mut executor, interrupted) = (endless(), AtomicBool::new(false));
        executor.error = Some("no process can be started".into());
        let mut pool = Pool::new(&mut executor, &interrupted);
        pool.start(job("k"));
        let error = pool.wait().err().unwrap();
        assert_eq!(error.to_string(), "no process can be started");
        drop(pool);
        assert_eq!(executor.cancelled, [job("k").key]);
    }

    #[test]
    fn an_interrupt_ends_the_wait_and_jobs_that_still_run_are_cancelled() {
        for jobs in [&[][..], &["k"]] {
            let (mut executor, interrupted) = (endless(), AtomicBool::new(false));
            let mut pool = Pool::new(&mut executor, &interrupted);
            jobs.iter().for_each(|kind| pool.start(job(kind)));
            assert!(pool.wait().unwrap().is_none());
            interrupted.store(true, Ordering::Relaxed);
            assert!(pool.wait().is_err());
            drop(pool);
            assert_eq!(executor.cancelled, jobs.iter().map(|k| job(k).key).collect::<Vec<_>>());
        }
    }
}
