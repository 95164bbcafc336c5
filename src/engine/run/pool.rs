//! Starts jobs and waits for them, for `run` and for `recompute`.
//!
//! A pool runs as many concurrent jobs as threads and memory allow. Dropping the pool cancels its
//! running jobs, so that a command that fails leaves no job behind. An interrupt ends the wait for
//! jobs. Knows no node, no recipe and no store.

use super::executor::{Capacity, Executor, Job, Outcome, Phase};
use crate::engine::error::Error;
use crate::engine::key::Key;
use crate::engine::stage::Resources;
use anyhow::Result;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest wait for a job, between updates of the progress bar and checks for an interrupt.
const TICK: Duration = Duration::from_millis(100);

/// The jobs of a command.
pub struct Pool<'a> {
    executor: &'a mut dyn Executor,
    capacity: Capacity,
    interrupted: &'a AtomicBool,
    /// The resources of jobs that were started and have not ended.
    running: BTreeMap<Key, Resources>,
    /// The jobs in `running` that have not been submitted yet. They form one batch.
    queued: Vec<Job>,
    /// Ended jobs that [`Pool::wait`] has not returned yet.
    ended: VecDeque<(Key, Outcome)>,
}

/// A job that has ended.
pub struct Ended {
    /// Its key.
    pub key: Key,
    /// Its outcome.
    pub outcome: Outcome,
    /// The resources that it had.
    pub resources: Resources,
}

impl<'a> Pool<'a> {
    /// An empty pool. Its jobs run on `executor`; setting `interrupted` ends the wait for them.
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

    /// The number of running jobs.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether no job runs.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether all slots are in use.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity.slots
    }

    /// Whether a job with these resources can start now. A job that requests more than the capacity
    /// runs alone.
    pub fn has_room_for(&self, resources: &Resources) -> bool {
        let all = self.running.values().chain([resources]);
        let (threads, memory) = all.fold((0_usize, 0_u64), |(threads, memory), resources| {
            let requested = resources.threads.map_or(1, NonZero::get);
            (threads.saturating_add(requested), memory.saturating_add(resources.memory))
        });
        self.is_empty() || (threads <= self.capacity.slots && memory <= self.capacity.memory)
    }

    /// The number of threads of a job while `open` jobs run or may start: the number that it
    /// requests, or else twice its equal share of the slots, because jobs end at different times.
    /// If its threads are `synchronous`, it gets the equal share, because they wait for each other.
    pub fn threads(&self, resources: &Resources, open: usize, synchronous: bool) -> NonZero<usize> {
        let slots = self.capacity.slots;
        let share = slots.saturating_mul(if synchronous { 1 } else { 2 }) / open.max(1);
        let share = NonZero::new(share.min(slots)).unwrap_or(NonZero::<usize>::MIN);
        resources.threads.unwrap_or(share)
    }

    /// Starts a job; [`Pool::wait`] submits it.
    pub fn start(&mut self, job: Job) {
        self.running.insert(job.key, job.resources.clone());
        self.queued.push(job);
    }

    /// The next job that ends, if one ends within a short time. Fails if the command was
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
        // Checked first: jobs that the interrupt ended have not failed.
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Error::Interrupted.into());
        }
        Ok(ended.map(|(key, outcome)| {
            let resources = self.running.remove(&key).unwrap_or_default();
            Ended { key, outcome, resources }
        }))
    }

    /// See [`Executor::has_queue`].
    pub fn has_queue(&self) -> bool {
        self.executor.has_queue()
    }

    /// See [`Executor::phases`].
    pub fn phases(&mut self) -> Vec<(Key, Phase)> {
        self.executor.phases()
    }

    /// Submits the queued jobs. Adopts those that an earlier coordinator left running.
    fn submit(&mut self) -> Result<()> {
        let mut jobs = Vec::new();
        for job in std::mem::take(&mut self.queued) {
            if !self.executor.adopt(&job)? {
                jobs.push(job);
            }
        }
        if jobs.is_empty() { Ok(()) } else { self.executor.submit(jobs) }
    }

    /// Waits up to a second for the flag: when a machine shuts down, the jobs of this process may
    /// end before this process handles its own signal.
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
    fn an_ended_job_is_returned_with_its_resources_and_frees_them() {
        let failed = || Outcome::Failed(Failure { cause: "no".into(), hint: None });
        let mut executor = executor(move |_| Some(failed()));
        let interrupted = AtomicBool::new(false);
        let mut pool = Pool::new(&mut executor, &interrupted);
        pool.start(Job { resources: resources(8, 100), ..job("k") });
        let Ended { key, outcome, resources: returned } = pool.wait().unwrap().unwrap();
        assert_eq!((key, returned), (job("k").key, resources(8, 100)));
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
