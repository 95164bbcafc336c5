//! The files of the histories of runs.

use super::store::Store;
use crate::fs;
use anyhow::Result;
use std::fs::File;
use std::path::PathBuf;
use std::time::SystemTime;

impl Store {
    /// The path of the history of run `id`.
    pub fn history(&self, id: &str) -> PathBuf {
        self.path("runs").join(format!("{id}.jsonl"))
    }

    /// The ids of the runs that have a history, oldest first.
    pub fn runs(&self) -> Result<Vec<String>> {
        let names = fs::list(&self.path("runs"))?;
        let ids = names.iter().filter_map(|name| name.strip_suffix(".jsonl"));
        let mut ids: Vec<String> = ids.map(str::to_owned).collect();
        ids.sort_by_key(|id| order(id));
        Ok(ids)
    }

    /// Creates the history of a new run and returns the run's id, `<seconds since 1970>-<number>`.
    /// The id sorts after all others, even if the clock was set back.
    pub fn begin_history(&self) -> Result<(String, File)> {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let by_clock = (now, u64::from(std::process::id()));
        let last = self.runs()?.last().and_then(|id| order(id));
        let after = last.and_then(|(seconds, number)| Some((seconds, number.checked_add(1)?)));
        let (seconds, mut number) = after.map_or(by_clock, |after| by_clock.max(after));
        loop {
            let id = format!("{seconds}-{number}");
            if let Some(history) = fs::create_new(&self.history(&id))? {
                return Ok((id, history));
            }
            // Another run has taken the id at the same moment.
            number = number.wrapping_add(1);
        }
    }

    /// Removes the history of run `id`.
    pub fn remove_run(&self, id: &str) -> Result<()> {
        fs::remove_if_exists(&self.history(id))
    }
}

/// The seconds and the number in a run's id.
fn order(id: &str) -> Option<(u64, u64)> {
    let (seconds, number) = id.split_once('-')?;
    Some((seconds.parse().ok()?, number.parse().ok()?))
}
