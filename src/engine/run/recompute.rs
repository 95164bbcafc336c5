//! Runs cached nodes again, aside, and compares bit by bit: whether an answer is what its question gives.
//!
//! A job writes into a scratch folder of its own; nothing is published, and the cache stays as it is. Outputs that come out
//! otherwise are kept beside those of the cache, for a look. Knows no file format: where two files first differ is for
//! their stage kind to say. Prints nothing.

use super::executor::{Executor, Outcome};
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
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// What is run again: the question behind `key` and the answer that the cache has.
pub struct Subject {
    /// The node that asks; another may ask the same.
    pub node: String,
    /// What computes it.
    pub kind: &'static dyn Kind,
    /// The question.
    pub key: Key,
    /// The answer.
    pub entry: Arc<Entry>,
    /// What all nodes that ask it ask of the machine.
    pub resources: Resources,
}

/// What came of running a node again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Verdict {
    /// The same bytes.
    Reproduced {
        /// What it took this time.
        seconds: f64,
    },
    /// Other bytes.
    Different {
        /// The outputs that differ.
        differences: Vec<Difference>,
        /// Where both are kept.
        kept: PathBuf,
    },
    /// It has no answer this time.
    Failed {
        /// One sentence.
        cause: String,
        /// Where its log is.
        log: PathBuf,
    },
}

/// An output that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The output.
    pub file: String,
    /// Where the two first differ, in words.
    pub first: String,
}

/// In a job's folder: what it wrote.
pub const AGAIN: &str = "again";

/// In a job's folder: what it has written to its standard streams.
const LOG: &str = "log";

/// In a kept job's folder: the cache's copies of what differs.
const CACHED: &str = "cached";

/// `n` of `all`, in their order; the same ones for the same `seed`: the first `n` of a shuffle (Fisher and Yates).
pub fn sample<T>(all: Vec<T>, n: usize, seed: u64) -> Vec<T> {
    let mut rng =
        ChaCha8Rng::from_seed(blake3::derive_key("repro verify sample v1", &seed.to_le_bytes()));
    let mut order: Vec<usize> = (0..all.len()).collect();
    for i in 0..n.min(all.len()) {
        let left = (all.len() - i) as u64;
        // Without bias: what lies above the last whole multiple of `left` is drawn again.
        let limit = u64::MAX - (u64::MAX % left + 1) % left;
        let drawn =
            std::iter::repeat_with(|| rng.next_u64()).find(|x| *x <= limit).unwrap_or_default();
        order.swap(i, i + (drawn % left) as usize);
    }
    let chosen: BTreeSet<usize> = order.into_iter().take(n).collect();
    all.into_iter().enumerate().filter(|(i, _)| chosen.contains(i)).map(|(_, item)| item).collect()
}

/// Runs `subjects` again by `executor`, whose jobs write what `key` gives into `scratch/<key>/again`; tells the verdict on
/// each as it comes.
pub fn recompute(
    store: &Store,
    subjects: &[Subject],
    executor: &mut dyn Executor,
    scratch: &Path,
    interrupted: &AtomicBool,
    told: &mut dyn FnMut(&Subject, &Verdict),
) -> Result<()> {
    let mut asking: BTreeMap<Key, Vec<&Subject>> = BTreeMap::new();
    let mut open: Vec<Key> = Vec::new();
    for subject in subjects {
        let nodes = asking.entry(subject.key).or_default();
        if nodes.is_empty() {
            open.push(subject.key);
        }
        nodes.push(subject);
    }
    let mut pool = Pool::new(executor, interrupted);
    let share = NonZero::new(pool.slots() / open.len().max(1)).unwrap_or(NonZero::<usize>::MIN);
    let mut began: BTreeMap<Key, Instant> = BTreeMap::new();
    let mut failures: BTreeMap<Key, u32> = BTreeMap::new();
    loop {
        while let Some(next) =
            open.iter().position(|key| pool.has_room_for(&asking[key][0].resources))
        {
            let key = open.remove(next);
            began.insert(key, Instant::now());
            let (folder, subject) = (scratch.join(key.to_string()), asking[&key][0]);
            fs::create_dir_all(&folder)?;
            pool.start(
                key,
                folder.join(LOG),
                share,
                false,
                subject.resources,
                subject.kind.spawns(),
            )?;
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
        let nodes = &asking[&key];
        let verdict = judge(store, nodes[0], &folder, &outcome, seconds)?;
        nodes.iter().for_each(|subject| told(subject, &verdict));
    }
}

fn judge(
    store: &Store,
    subject: &Subject,
    folder: &Path,
    outcome: &Outcome,
    seconds: f64,
) -> Result<Verdict> {
    let cause = match outcome {
        Outcome::Exited | Outcome::AlreadyRunning => None,
        Outcome::Unavailable(told) | Outcome::Stopped(told) | Outcome::Failed(told) => {
            Some(told.cause.clone())
        }
    };
    if let Some(cause) = cause {
        return Ok(Verdict::Failed { cause, log: keep(store, subject.key, folder)?.join(LOG) });
    }
    let differences = compare(store, subject, folder)?;
    if differences.is_empty() {
        // What is left of a job that gave the same is of no use, and the scratch folder goes in the end.
        let _ = fs::remove_folder_if_exists(folder);
        return Ok(Verdict::Reproduced { seconds });
    }
    Ok(Verdict::Different { differences, kept: keep(store, subject.key, folder)? })
}

fn compare(store: &Store, subject: &Subject, folder: &Path) -> Result<Vec<Difference>> {
    let again = folder.join(AGAIN);
    let mut differences = Vec::new();
    let mut differs =
        |file: &str, first: String| differences.push(Difference { file: file.to_owned(), first });
    for (file, stored) in &subject.entry.outputs {
        let path = again.join(file);
        if path.is_file() && Digest::of_file(&path)? == stored.digest {
            let executable = std::fs::metadata(&path).is_ok_and(|meta| fs::is_executable(&meta));
            if executable != stored.executable {
                let [cached, written] =
                    [stored.executable, executable].map(|it| if it { "is" } else { "is not" });
                differs(
                    file,
                    format!("the cached file {cached} executable, the one written again {written}"),
                );
            }
            continue;
        }
        let cached = store.read_object(stored.digest)?;
        match fs::read_if_exists(&path)? {
            Some(bytes) => differs(file, subject.kind.difference(file, &cached, &bytes)),
            None => differs(file, "it is in the cache, and was not written again".into()),
        }
        let copy = folder.join(CACHED).join(file);
        fs::create_dir_all(copy.parent().unwrap_or(folder))?;
        fs::write(&copy, cached)?;
    }
    // Of what is neither a file nor a folder the job has complained itself.
    let found = fs::tree(&again, &[])?;
    for folder in
        subject.entry.empty_folders.iter().filter(|folder| !found.empty_folders.contains(folder))
    {
        differs(
            folder,
            "it is an empty folder in the cache, and was not written again as one".into(),
        );
    }
    let is_cached = |name: &String| {
        subject.entry.outputs.contains_key(name) || subject.entry.empty_folders.contains(name)
    };
    for name in found.files.iter().chain(&found.empty_folders).filter(|name| !is_cached(name)) {
        differs(name, "it was written, and is not in the cache".into());
    }
    Ok(differences)
}

/// Moves a job's folder to where it can be looked at.
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
    fn a_sample_is_known_by_its_seed() {
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
        // Binomial with mean 2000 and deviation 38: five of those.
        assert!(drawn.iter().all(|n| n.abs_diff(2_000) < 190), "{drawn:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_sample_has_as_many_items_as_asked_for_in_their_order(all in 0usize..50, n in 0usize..60, seed: u64) {
            let drawn = sample((0..all).collect(), n, seed);
            prop_assert_eq!(drawn.len(), n.min(all));
            prop_assert!(drawn.is_sorted_by(|a: &usize, b| a < b));
        }
    }
}
