//! The files of a submission: what its tasks run, and what they have done.
//!
//! ```text
//! cache/v2/slurm/
//!   id                               the name of this cache in the names of its jobs
//!   <submission>/submission.json     written before `sbatch` is called
//!   <submission>/job                 the id of the job array, written afterwards
//!   <submission>/script.sh           the script that `sbatch` received
//!   <submission>/logs/%A_%a.log      the output of each task, and Slurm's own messages
//!   records/<submission>.<task>      what the task has started and ended: a line of JSON each
//! ```
//!
//! The records of all submissions are in one folder, so that one listing shows which tasks have
//! started.
//! They are hints, as Slurm's states are: only an entry in the cache proves that a job succeeded.

use super::super::{Job, Outcome};
use crate::engine::cache::cluster::unique_name;
use crate::engine::cache::process::ProcessId;
use crate::engine::cache::store::Store;
use crate::engine::key::Key;
use crate::engine::stage::Resources;
use crate::fs;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a submission runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The name of the job array.
    pub name: String,
    /// The stage kind.
    pub kind: String,
    /// The process that submitted it.
    pub process: ProcessId,
    /// The number of threads of each job.
    pub threads: NonZero<usize>,
    /// See [`crate::engine::resources::SlurmSettings::batch_time`].
    pub batch_time: Duration,
    /// The jobs of each task, which run one after the other; none if the tasks are given by nodes.
    pub tasks: Vec<Vec<TaskJob>>,
    /// The names of the nodes of each task, if it computes their keys itself.
    #[serde(default)]
    pub nodes: Vec<Vec<String>>,
    /// The number of retries of a failed node, unless its stage has more. A task retries its nodes
    /// itself; the jobs of `tasks` are retried by their coordinator.
    #[serde(default)]
    pub retries: u32,
}

/// A job of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskJob {
    /// See [`Job::key`].
    pub key: Key,
    /// See [`Job::force`].
    pub force: bool,
    /// See [`Job::shares_process`].
    pub shares_process: bool,
    /// See [`Resources::time_limit`].
    pub time_limit: Option<Duration>,
}

impl TaskJob {
    pub(super) fn of(job: &Job, resources: &Resources) -> TaskJob {
        let &Job { key, force, shares_process, .. } = job;
        TaskJob { key, force, shares_process, time_limit: resources.time_limit }
    }
}

/// A line of a task's records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Record {
    /// A job starts.
    Started {
        /// Its key.
        key: Key,
    },
    /// A job has ended.
    Ended {
        /// Its key.
        key: Key,
        /// Its outcome.
        outcome: Outcome,
    },
    /// The task leaves these jobs to other tasks, because they would take too long.
    Released {
        /// Their keys.
        keys: Vec<Key>,
    },
}

/// The folder of a submission.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    records: PathBuf,
}

impl Folder {
    /// A new folder in the cache.
    pub(super) fn create(store: &Store) -> Result<Folder> {
        let cluster = store.cluster();
        fs::create_dir_all(&cluster.join("records"))?;
        let folder = Folder::of(&std::path::absolute(&cluster)?.join(unique_name()));
        fs::create_dir_all(&folder.logs())?;
        Ok(folder)
    }

    /// The folder at `path`.
    pub fn of(path: &Path) -> Folder {
        let records = path.parent().unwrap_or(path).join("records");
        Folder { path: path.to_owned(), records }
    }

    /// The folders of all submissions in the cache.
    pub(super) fn all(store: &Store) -> Result<Vec<Folder>> {
        let cluster = store.cluster();
        let names = fs::list(&cluster)?;
        let paths = names.iter().map(|name| cluster.join(name));
        Ok(paths
            .filter(|path| path.join("submission.json").exists())
            .map(|path| Folder::of(&path))
            .collect())
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of Slurm's logs.
    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Slurm's log of a task.
    pub(super) fn log(&self, job: u64, task: usize) -> PathBuf {
        self.logs().join(format!("{job}_{task}.log"))
    }

    /// The path of the records of a task.
    pub fn records(&self, task: usize) -> PathBuf {
        self.records.join(format!("{}.{task}", self.name()))
    }

    /// Writes what the submission runs, and its script.
    pub(super) fn write(&self, store: &Store, submission: &Submission, script: &str) -> Result<()> {
        let bytes = serde_json::to_vec(submission).context("cannot write a submission")?;
        fs::write(&self.path.join("script.sh"), script)?;
        fs::replace(&self.path.join("submission.json"), &store.scratch()?, &bytes)
    }

    /// Reads what the submission runs.
    pub fn read(&self) -> Result<Submission> {
        let path = self.path.join("submission.json");
        serde_json::from_slice(&fs::read(&path)?)
            .with_context(|| format!("`{}` is invalid", path.display()))
    }

    /// Writes the id of the job array.
    pub(super) fn write_job(&self, store: &Store, job: u64) -> Result<()> {
        fs::replace(&self.path.join("job"), &store.scratch()?, job.to_string().as_bytes())
    }

    /// The id of the job array, if it is known.
    pub(super) fn job(&self) -> Option<u64> {
        fs::read_text(&self.path.join("job")).ok()?.trim().parse().ok()
    }

    /// Removes the folder and the records of its tasks.
    pub(super) fn remove(&self, tasks: usize) {
        // What is left is removed by a later run.
        (0..tasks).for_each(|task| _ = fs::remove_if_exists(&self.records(task)));
        let _ = fs::remove_folder_if_exists(&self.path);
    }
}

/// Appends a record.
pub(super) fn append(path: &Path, record: &Record) -> Result<()> {
    let mut line = serde_json::to_vec(record).context("cannot write a record")?;
    line.push(b'\n');
    fs::append(path)?.write_all(&line).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Reads the records after the byte `at`, and moves `at` behind them. An incomplete line is left
/// for the next call, and a line of another form is ignored.
pub(super) fn read_records(path: &Path, at: &mut u64) -> Vec<Record> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(*at))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let Ok(bytes) = read() else { return Vec::new() };
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    *at += end as u64 + 1;
    bytes[..end]
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::recipe;

    #[test]
    fn records_are_read_once_and_in_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("records"), recipe("k").key());
        let mut at = 0;
        assert_eq!(read_records(&path, &mut at), []);
        let all = [
            Record::Started { key },
            Record::Ended { key, outcome: Outcome::Exited },
            Record::Released { keys: vec![key] },
        ];
        append(&path, &all[0]).unwrap();
        assert_eq!(read_records(&path, &mut at), all[..1]);
        append(&path, &all[1]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
        assert_eq!(read_records(&path, &mut at), []);
        std::fs::write(&path, &whole).unwrap();
        append(&path, &all[2]).unwrap();
        assert_eq!(read_records(&path, &mut at), all[1..]);
    }
}
