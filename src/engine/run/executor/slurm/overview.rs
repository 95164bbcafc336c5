//! The jobs of a cache that Slurm holds, for `repro status` and `repro cancel`.

use super::client::{Client, Refused};
use super::state::{Row, State};
use super::submission::Folder;
use crate::engine::cache::store::Store;
use crate::engine::error::Error;
use anyhow::Result;
use std::collections::BTreeMap;

/// A job array that Slurm holds.
#[derive(Debug, PartialEq, Eq)]
pub struct JobArray {
    /// Its id.
    pub id: u64,
    /// The stage kind of its jobs.
    pub kind: String,
    /// The number of tasks that run.
    pub running: usize,
    /// The number of tasks that wait, by Slurm's reason.
    pub pending: BTreeMap<String, usize>,
    /// The number of tasks that have ended, with or without success.
    pub ended: usize,
    /// The number of tasks in states that are not known.
    pub unknown: usize,
}

/// The job arrays of this cache that have tasks that run or wait.
pub fn job_arrays(store: &Store) -> Result<Vec<JobArray>> {
    let mut kinds = BTreeMap::new();
    for folder in Folder::all(store)? {
        // A folder that is not complete belongs to a process that is writing it.
        if let Ok(submission) = folder.read() {
            kinds.insert(submission.name, submission.kind);
        }
    }
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = kinds.keys().cloned().collect();
    match Client::default().squeue(&names)? {
        Ok(rows) => Ok(summarize(&rows, &kinds)),
        Err(Refused::ForNow(cause) | Refused::ForEver(cause)) => {
            Err(Error::Infrastructure(format!("`squeue` failed: {cause}")).into())
        }
    }
}

/// The arrays of these rows that have not ended. `kinds` has the kind of each name.
fn summarize(rows: &[Row], kinds: &BTreeMap<String, String>) -> Vec<JobArray> {
    let mut arrays: BTreeMap<u64, JobArray> = BTreeMap::new();
    for row in rows {
        let Some(kind) = kinds.get(&row.name) else { continue };
        let array = arrays.entry(row.id.job).or_insert_with(|| JobArray {
            id: row.id.job,
            kind: kind.clone(),
            running: 0,
            pending: BTreeMap::new(),
            ended: 0,
            unknown: 0,
        });
        match &row.state {
            State::Running => array.running += 1,
            State::Pending(reason) | State::Held(reason) => {
                *array.pending.entry(reason.clone()).or_default() += 1;
            }
            State::Ended(_) => array.ended += 1,
            State::Unknown(_) => array.unknown += 1,
        }
    }
    let is_open = |array: &JobArray| array.running + array.unknown > 0 || !array.pending.is_empty();
    arrays.into_values().filter(is_open).collect()
}

/// Cancels the job arrays with these ids.
pub fn cancel(ids: &[u64]) -> Result<()> {
    Client::default().scancel(&ids.iter().map(u64::to_string).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::state::parse_squeue;
    use super::*;

    #[test]
    fn tasks_are_counted_by_state_and_reason_and_ended_arrays_are_left_out() {
        let rows = parse_squeue(
            "1_0|RUNNING|None|a\n1_1|PENDING|Resources|a\n1_2|PENDING|Resources|a\n\
             1_3|PENDING|Priority|a\n1_4|COMPLETED|None|a\n2_0|FAILED|NonZeroExitCode|a\n\
             3_0|RUNNING|None|other\n4_0|NEW|None|a\n",
        );
        let kinds = [("a".to_owned(), "train".to_owned())].into();
        let arrays = summarize(&rows, &kinds);
        let pending = [("Priority".to_owned(), 1), ("Resources".to_owned(), 2)].into();
        let kind = || "train".to_owned();
        let expected = [
            JobArray { id: 1, kind: kind(), running: 1, pending, ended: 1, unknown: 0 },
            JobArray {
                id: 4,
                kind: kind(),
                running: 0,
                pending: BTreeMap::new(),
                ended: 0,
                unknown: 1,
            },
        ];
        assert_eq!(arrays, expected);
    }
}
