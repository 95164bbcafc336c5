//! The one place where jobs are started and awaited: by a run, and by a recomputation.
//!
//! A pool runs jobs side by side as far as there are threads and memory for them. Jobs that still run
//! when it is dropped are ended, so that no error of a command leaves any behind. Knows no node, no
//! recipe and no store.

use super::executor::{Executor, Job, Outcome};
use crate::engine::error::Error;
use crate::engine::key::Key;
use crate::engine::stage::Resources;
use anyhow::Result;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long to wait for a job before looking around: the progress bar moves, an interrupt is noticed.
const TICK: Duration = Duration::from_millis(100);

/// The jobs of a command.
pub struct Pool<'a> {
    executor: &'a mut dyn Executor,
    interrupted: &'a AtomicBool,
    running: BTreeMap<Key, Resources>,
}

/// A job that has ended.
pub struct Ended {
    /// What it was to compute.
    pub key: Key,
    /// How its process ended.
    pub outcome: Outcome,
    /// What it was given.
    pub resources: Resources,
}

impl<'a> Pool<'a> {
    /// Jobs run by `executor`, until `interrupted` is set.
    pub fn new(executor: &'a mut dyn Executor, interrupted: &'a AtomicBool) -> Pool<'a> {
        Pool { executor, interrupted, running: BTreeMap::new() }
    }

    /// How many jobs run at once at most.
    pub fn slots(&self) -> usize {
        self.executor.slots()
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether every slot is taken, so that there is no room for any job.
    pub fn is_full(&self) -> bool {
        self.running.len() >= self.slots()
    }

    /// Whether there is room for a job with these resources beside those that run. A job that asks for
    /// more than there is at all runs alone.
    pub fn has_room_for(&self, resources: &Resources) -> bool {
        let taken = self.running.values().chain([resources]);
        let (threads, memory) = taken.fold((0_usize, 0_u64), |(threads, memory), resources| {
            let claim = resources.threads.map_or(1, NonZero::get);
            (threads.saturating_add(claim), memory.saturating_add(resources.memory))
        });
        self.is_empty() || (threads <= self.slots() && memory <= self.executor.memory())
    }

    /// Starts a job with these resources; on `share` threads, if they name no number.
    pub fn start(
        &mut self,
        key: Key,
        log: PathBuf,
        share: NonZero<usize>,
        again: bool,
        resources: Resources,
        shares_process: bool,
    ) -> Result<()> {
        let Resources { threads, time_limit, .. } = resources;
        self.running.insert(key, resources);
        self.executor.submit(Job {
            key,
            log,
            threads: threads.unwrap_or(share),
            again,
            time_limit,
            shares_process,
        })
    }

    /// The next job to end, if one does within a moment; an error if the command was interrupted.
    pub fn wait(&mut self) -> Result<Option<Ended>> {
        let ended = self.executor.wait(TICK);
        if matches!(ended, Some((_, Outcome::Stopped(_)))) {
            self.await_interrupt();
        }
        // First, for the jobs may have been told too: what they die of then is no failure of theirs.
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Error::Interrupted.into());
        }
        Ok(ended.map(|(key, outcome)| {
            let resources = self.running.remove(&key).unwrap_or_default();
            Ended { key, outcome, resources }
        }))
    }

    /// A machine that shuts down signals this process and its jobs at once, but each takes note in its
    /// own time: a job may be seen to die of it before the flag is set. One that was stopped for
    /// another reason costs this second.
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
            self.executor.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::key::Recipe;

    /// Eight slots and 100 bytes; its jobs never end.
    #[derive(Default)]
    struct Endless {
        killed: bool,
    }

    impl Executor for Endless {
        fn slots(&self) -> usize {
            8
        }

        fn memory(&self) -> u64 {
            100
        }

        fn submit(&mut self, _: Job) -> Result<()> {
            Ok(())
        }

        fn wait(&mut self, _: Duration) -> Option<(Key, Outcome)> {
            None
        }

        fn kill(&mut self) {
            self.killed = true;
        }
    }

    fn key() -> Key {
        let (params, inputs) = (BTreeMap::new(), BTreeMap::new());
        Recipe { kind: "k".into(), version: 1, params, inputs, seed: None }.key()
    }

    fn resources(threads: usize, memory: u64) -> Resources {
        Resources { threads: NonZero::new(threads), memory, ..Resources::default() }
    }

    fn start(pool: &mut Pool, resources: Resources) {
        pool.start(key(), PathBuf::new(), NonZero::<usize>::MIN, false, resources, false).unwrap();
    }

    #[test]
    fn there_is_room_as_far_as_threads_and_memory_go_and_for_anything_alone() {
        let (mut executor, interrupted) = (Endless::default(), AtomicBool::new(false));
        let mut pool = Pool::new(&mut executor, &interrupted);
        assert!(pool.has_room_for(&resources(64, 1000)));
        start(&mut pool, resources(6, 40));
        assert!(pool.has_room_for(&resources(2, 60)));
        assert!(!pool.has_room_for(&resources(3, 0)) && !pool.has_room_for(&resources(0, 61)));
    }

    #[test]
    fn whatever_ends_a_command_ends_its_jobs_and_an_interrupt_ends_it() {
        for (jobs, killed) in [(0, false), (1, true)] {
            let (mut executor, interrupted) = (Endless::default(), AtomicBool::new(false));
            let mut pool = Pool::new(&mut executor, &interrupted);
            (0..jobs).for_each(|_| start(&mut pool, resources(1, 0)));
            assert!(pool.wait().unwrap().is_none());
            interrupted.store(true, Ordering::Relaxed);
            assert!(pool.wait().is_err());
            drop(pool);
            assert_eq!(executor.killed, killed);
        }
    }
}
