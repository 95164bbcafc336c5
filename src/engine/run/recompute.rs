//! Recomputes cached results and compares them bit by bit.
//!
//! Each job writes to its own folder and publishes nothing, so that the cached results do not
//! change. If an output differs, both versions are kept under `recomputed/`. Knows no file format:
//! the stage kind describes the first difference between two files. Prints nothing.

use super::executor::{Executor, Job, Outcome, log};
use super::pool::{Ended, Pool};
use crate::engine::cache::entry::Entry;
use crate::engine::cache::store::Store;
use crate::engine::key::{Digest, Key};
use crate::engine::stage::{Kind, Resources};
use crate::fs;
use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// A cached node to recompute.
pub struct Subject {
    /// Its name. Several nodes may have one key.
    pub node: String,
    /// Its stage kind.
    pub kind: &'static dyn Kind,
    /// Its key.
    pub key: Key,
    /// Its cached result.
    pub entry: Arc<Entry>,
    /// The combined resources of all nodes with this key.
    pub resources: Resources,
}

/// The comparison of a recomputed result with the cached one.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Comparison {
    /// Equal bytes.
    Reproduced {
        /// The duration of the job, in seconds.
        seconds: f64,
    },
    /// Different bytes.
    Differs {
        /// The outputs that differ.
        differences: Vec<Difference>,
        /// The folder with both versions.
        kept: PathBuf,
    },
    /// The job failed.
    Failed {
        /// The cause, in one sentence.
        cause: String,
        /// The file with its log.
        log: PathBuf,
    },
}

/// An output that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The output.
    pub file: String,
    /// A description of the first difference.
    pub first: String,
}

/// The folder for recomputed outputs, within the folder of a job.
pub const RECOMPUTED: &str = "recomputed";

/// The log file, within the folder of a job.
const LOG: &str = "log";

/// The folder for the cached versions of outputs that differ, within the folder of a job.
const CACHED: &str = "cached";

/// A random sample of `n` items, in the order of `all`. The sample depends only on `seed`: it is
/// the first `n` items of a Fisher-Yates shuffle.
pub fn sample<T>(all: Vec<T>, n: usize, seed: u64) -> Vec<T> {
    let mut rng =
        ChaCha8Rng::from_seed(blake3::derive_key("repro verify sample v1", &seed.to_le_bytes()));
    let mut order: Vec<usize> = (0..all.len()).collect();
    for i in 0..n.min(all.len()) {
        let left = (all.len() - i) as u64;
        // Rejection sampling avoids a bias: numbers above the last multiple of `left` are drawn
        // again.
        let limit = u64::MAX - (u64::MAX % left + 1) % left;
        let drawn =
            std::iter::repeat_with(|| rng.next_u64()).find(|x| *x <= limit).unwrap_or_default();
        order.swap(i, i + (drawn % left) as usize);
    }
    let chosen: BTreeSet<usize> = order.into_iter().take(n).collect();
    all.into_iter().enumerate().filter(|(i, _)| chosen.contains(i)).map(|(_, item)| item).collect()
}

/// Runs the jobs of `subjects` on `executor`, whose workers write the outputs of a key to
/// `scratch/<key>/recomputed`. Calls `report` for each subject as soon as its job has ended.
pub fn recompute(
    store: &Store,
    subjects: &[Subject],
    executor: &mut dyn Executor,
    scratch: &Path,
    interrupted: &AtomicBool,
    report: &mut dyn FnMut(&Subject, &Comparison),
) -> Result<()> {
    let mut by_key: BTreeMap<Key, Vec<&Subject>> = BTreeMap::new();
    let mut open: Vec<Key> = Vec::new();
    for subject in subjects {
        let nodes = by_key.entry(subject.key).or_default();
        if nodes.is_empty() {
            open.push(subject.key);
        }
        nodes.push(subject);
    }
    let mut pool = Pool::new(executor, interrupted);
    let mut began: BTreeMap<Key, Instant> = BTreeMap::new();
    let mut failures: BTreeMap<Key, u32> = BTreeMap::new();
    loop {
        while let Some(next) =
            open.iter().position(|key| pool.has_room_for(&by_key[key][0].resources))
        {
            let jobs = pool.len() + open.len();
            let key = open.remove(next);
            began.insert(key, Instant::now());
            let (folder, subject) = (scratch.join(key.to_string()), by_key[&key][0]);
            fs::create_dir_all(&folder)?;
            let (resources, kind) = (subject.resources.clone(), subject.kind);
            let threads = pool.threads(&resources, jobs, kind.synchronous_threads());
            pool.start(Job {
                key,
                kind: kind.name(),
                expected: None,
                log: folder.join(LOG),
                resources,
                threads,
                force: false,
                shares_process: kind.spawns(),
            });
        }
        if pool.is_empty() {
            return Ok(());
        }
        let Some(Ended { key, outcome, resources }) = pool.wait()? else { continue };
        let folder = scratch.join(key.to_string());
        if let Outcome::Failed(_) = outcome {
            let failures = failures.entry(key).or_default();
            *failures += 1;
            if *failures <= resources.retries {
                fs::remove_folder_if_exists(&folder)?;
                open.insert(0, key);
                continue;
            }
        }
        let seconds = began.get(&key).map_or(0.0, |since| since.elapsed().as_secs_f64());
        let nodes = &by_key[&key];
        let comparison = compare_job(store, nodes[0], &folder, &outcome, seconds)?;
        nodes.iter().for_each(|subject| report(subject, &comparison));
    }
}

/// The comparison for a job that has ended.
fn compare_job(
    store: &Store,
    subject: &Subject,
    folder: &Path,
    outcome: &Outcome,
    seconds: f64,
) -> Result<Comparison> {
    if let Some(failure) = outcome.failure() {
        log::append_failure(&folder.join(LOG), failure);
        let log = keep(store, subject.key, folder)?.join(LOG);
        return Ok(Comparison::Failed { cause: failure.short(), log });
    }
    let differences = differences(store, subject, folder)?;
    if differences.is_empty() {
        // An error is ignored: the scratch folder is removed at the end.
        let _ = fs::remove_folder_if_exists(folder);
        return Ok(Comparison::Reproduced { seconds });
    }
    Ok(Comparison::Differs { differences, kept: keep(store, subject.key, folder)? })
}

/// The outputs in `folder`, a job's folder, that differ from the cached ones. Copies the cached
/// versions into the same folder.
fn differences(store: &Store, subject: &Subject, folder: &Path) -> Result<Vec<Difference>> {
    let outputs = folder.join(RECOMPUTED);
    let mut differences = Vec::new();
    let mut differs =
        |file: &str, first: String| differences.push(Difference { file: file.to_owned(), first });
    for (file, stored) in &subject.entry.outputs {
        let path = outputs.join(file);
        if path.is_file() && Digest::of_file(&path)? == stored.digest {
            let executable = std::fs::metadata(&path).is_ok_and(|meta| fs::is_executable(&meta));
            if executable != stored.executable {
                let [cached, written] =
                    [stored.executable, executable].map(|it| if it { "is" } else { "is not" });
                differs(
                    file,
                    format!("the cached file {cached} executable, the recomputed one {written}"),
                );
            }
            continue;
        }
        let cached = store.read_object(stored.digest)?;
        match fs::read_if_exists(&path)? {
            Some(bytes) => differs(file, subject.kind.difference(file, &cached, &bytes)),
            None => differs(file, "it is cached, and was not written again".into()),
        }
        let copy = folder.join(CACHED).join(file);
        fs::create_dir_all(copy.parent().unwrap_or(folder))?;
        fs::write(&copy, cached)?;
    }
    // The job has failed if an output is neither a file nor a folder.
    let found = fs::tree(&outputs, &[])?;
    let entry = &subject.entry;
    for folder in entry.empty_folders.iter().filter(|name| !found.empty_folders.contains(name)) {
        differs(folder, "it is cached as an empty folder, and was not written again as one".into());
    }
    let is_cached =
        |name: &String| entry.outputs.contains_key(name) || entry.empty_folders.contains(name);
    for name in found.files.iter().chain(&found.empty_folders).filter(|name| !is_cached(name)) {
        differs(name, "it was written, and is not cached".into());
    }
    Ok(differences)
}

/// Moves a job's folder to `recomputed/`.
fn keep(store: &Store, key: Key, folder: &Path) -> Result<PathBuf> {
    let kept = store.recomputed(key);
    fs::create_dir_all(kept.parent().unwrap_or(&kept))?;
    fs::remove_folder_if_exists(&kept)?;
    fs::rename(folder, &kept)?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_seed_draws_the_same_sample() {
        let draw = |seed| sample((0..100).collect::<Vec<_>>(), 5, seed);
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
    }

    #[test]
    fn every_item_is_drawn_equally_often() {
        let mut drawn = [0u32; 7];
        (0..7_000).for_each(|seed| {
            sample((0..7).collect(), 2, seed).into_iter().for_each(|i: usize| drawn[i] += 1)
        });
        // Binomial with mean 2000 and standard deviation 38: five of those.
        assert!(drawn.iter().all(|n| n.abs_diff(2_000) < 190), "{drawn:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn a_sample_has_the_requested_size_and_keeps_the_order(
            all in 0usize..50, n in 0usize..60, seed: u64,
        ) {
            let drawn = sample((0..all).collect(), n, seed);
            prop_assert_eq!(drawn.len(), n.min(all));
            prop_assert!(drawn.is_sorted_by(|a: &usize, b| a < b));
        }
    }
}
