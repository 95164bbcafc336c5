//! Runs jobs on a cluster with Slurm.
//!
//! ```text
//! script        the arguments and the script of `sbatch`
//! state         the states that Slurm's programs print
//! client        calls of these programs
//! submission    the files of a submission
//! task          the process of a task: it runs the jobs of a group
//! group         which jobs share a task
//! watcher       the thread that submits jobs and watches them
//! nodes         submits arrays of nodes, for `submit`
//! overview      the jobs that Slurm holds, for `status` and `cancel`
//! ```
//!
//! Slurm schedules. This executor submits job arrays and watches them; it decides nothing about
//! when and where a task runs. A state of Slurm is a hint, and so is an exit code of zero: a job is
//! done when its entry is in the cache. Two live copies of one job compute nothing twice: each
//! claims the lease of its key and looks the key up before it computes.

mod client;
mod group;
mod nodes;
mod overview;
mod script;
mod state;
mod submission;
pub mod task;
mod watcher;

pub use nodes::{NodeJobs, Submitter, Work};
pub use overview::{JobArray, cancel, job_arrays};
pub use submission::Folder;

use super::{Capacity, Executor, GRACE, Job, KillHandle, Options, Outcome, Phase};
use crate::engine::cache::store::Store;
use crate::engine::key::Key;
use crate::engine::resources::SlurmSettings;
use crate::process;
use anyhow::{Result, anyhow};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use watcher::{Message, Update, Watcher};

/// Submits jobs to Slurm. A thread calls Slurm's programs, which may block for long.
pub(super) struct Slurm {
    messages: Sender<Message>,
    updates: Receiver<Result<Update>>,
    /// The phases that [`Executor::phases`] has not returned yet.
    phases: Vec<(Key, Phase)>,
    /// The ids of the job arrays of this process.
    arrays: Arc<Mutex<Vec<u64>>>,
}

impl Slurm {
    pub(super) fn new(options: Options, settings: SlurmSettings, store: Store) -> Result<Slurm> {
        let (messages, inbox) = channel();
        let (report, updates) = channel();
        let arrays = Arc::new(Mutex::new(Vec::new()));
        let watcher = Watcher::new(options, settings, store, report, Arc::clone(&arrays));
        process::start_thread(move || watcher.run(&inbox))?;
        Ok(Slurm { messages, updates, phases: Vec::new(), arrays })
    }

    fn send(&self, message: Message) -> Result<()> {
        self.messages.send(message).map_err(|_| anyhow!("the thread that watches Slurm has ended"))
    }
}

impl Executor for Slurm {
    /// Slurm has its own limits.
    fn capacity(&self) -> Capacity {
        Capacity { slots: usize::MAX, memory: u64::MAX }
    }

    fn adopt(&mut self, job: &Job) -> Result<bool> {
        let (reply, answer) = channel();
        self.send(Message::Adopt(Box::new(job.clone()), reply))?;
        answer.recv().map_err(|_| anyhow!("the thread that watches Slurm has ended"))?
    }

    fn submit(&mut self, jobs: Vec<Job>) -> Result<()> {
        self.send(Message::Submit(jobs))
    }

    fn poll(&mut self, timeout: Duration) -> Result<Vec<(Key, Outcome)>> {
        let first = match self.updates.recv_timeout(timeout) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return Ok(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("the thread that watches Slurm has ended"));
            }
        };
        let mut ended = Vec::new();
        for update in std::iter::once(first).chain(self.updates.try_iter()) {
            match update? {
                Update::Phase(key, phase) => self.phases.push((key, phase)),
                Update::Ended(key, outcome) => ended.push((key, outcome)),
            }
        }
        Ok(ended)
    }

    fn has_queue(&self) -> bool {
        true
    }

    fn phases(&mut self) -> Vec<(Key, Phase)> {
        std::mem::take(&mut self.phases)
    }

    fn cancel(&mut self, keys: &[Key]) {
        let (reply, answer) = channel();
        if self.send(Message::Cancel(keys.to_vec(), reply)).is_ok() {
            let _ = answer.recv_timeout(GRACE);
        }
    }

    /// Tasks sync their results themselves.
    fn close(&mut self) -> Result<()> {
        let (reply, answer) = channel();
        self.send(Message::Close(reply))?;
        let _ = answer.recv_timeout(GRACE);
        Ok(())
    }

    fn kill_handle(&self) -> KillHandle {
        let arrays = Arc::clone(&self.arrays);
        Box::new(move || {
            client::scancel_at_once(&arrays.lock().unwrap_or_else(PoisonError::into_inner));
        })
    }
}
