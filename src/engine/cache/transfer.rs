//! Copies results between the local folder and a remote.
//!
//! A result that is pulled is entered like any other: first its objects, each under the digest of
//! its bytes, then its recipe, then its entry. Until the entry exists, its objects are results of
//! no key; if the process is killed, the next one does not fetch them again.

use super::backend::{Backend, Fetched, Lookup, Publication, Published, Wanted};
use super::entry::Entry;
use super::local::SyncPolicy;
use super::remote::Failure;
use super::store::Store;
use crate::engine::key::{Digest, Key};
use crate::engine::stage::Unavailable;
use anyhow::{Context as _, Error, Result, anyhow};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Fetched objects are added to the cache after this number, or after [`BATCH_BYTES`].
const BATCH: usize = 256;

/// See [`BATCH`].
const BATCH_BYTES: u64 = 256 << 20;

/// The number of results that are prepared at once.
const RESULTS: usize = 256;

/// A remote, and what went wrong with it.
#[derive(Debug)]
pub(super) struct Attached {
    backend: Arc<dyn Backend>,
    /// Whether a failure of the remote ends the run.
    required: bool,
    /// Set by the first failure of a remote that is not required.
    is_off: AtomicBool,
    notices: Mutex<Vec<Notice>>,
    /// Results of the remote that cannot be used.
    refused: Mutex<BTreeSet<Key>>,
}

/// A problem with the remote that does not end the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// One sentence.
    pub message: String,
    /// What to check, if it is known.
    pub hint: Option<String>,
}

/// The results that were copied from or to a remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// The number of results that were copied.
    pub results: usize,
    /// The number of objects that were copied; of a push, not counted.
    pub objects: usize,
    /// The bytes that were copied: of the objects of a pull, and as they were sent by a push.
    pub bytes: u64,
    /// The results that were there already.
    pub unchanged: usize,
    /// The results that were not copied: the remote's result is missing or damaged, or differs.
    pub refused: Vec<Key>,
}

/// The progress of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of objects of a pull, or results of a push, that are done.
    pub done: usize,
    /// The number of all of them.
    pub all: usize,
    /// The bytes so far.
    pub bytes: u64,
}

/// The error of a command that needs a remote which has failed.
pub fn required(Failure { message, hint }: &Failure) -> Error {
    let cause = Unavailable { cause: message.clone(), hint: hint.clone() };
    Error::new(cause).context("the remote cache is required")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Attached {
    pub(super) fn new(backend: Arc<dyn Backend>, required: bool) -> Attached {
        Attached {
            backend,
            required,
            is_off: AtomicBool::new(false),
            notices: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// Calls the remote. Returns `None` if it fails or has failed; fails with the remote if it is
    /// required.
    fn call<T>(&self, call: impl FnOnce(&dyn Backend) -> Result<T>) -> Result<Option<T>> {
        if self.is_off.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let error = match call(&*self.backend) {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let Some(failure) = error.downcast_ref::<Failure>() else { return Err(error) };
        if self.required {
            return Err(required(failure));
        }
        let Failure { message, hint } = failure.clone();
        if !self.is_off.swap(true, Ordering::Relaxed) {
            let message = format!("{message}; continuing without it");
            self.note(message, Some(hint));
        }
        Ok(None)
    }

    fn note(&self, message: String, hint: Option<String>) {
        lock(&self.notices).push(Notice { message, hint });
    }

    pub(super) fn lookup(&self, key: Key) -> Result<Option<Arc<Entry>>> {
        if lock(&self.refused).contains(&key) {
            return Ok(None);
        }
        let found = self.call(|backend| backend.lookup(key))?;
        Ok(match found {
            Some(Lookup::Hit(entry)) => Some(entry),
            _ => None,
        })
    }

    /// Refuses a result of the remote, which is then computed.
    fn refuse(&self, key: Key, object: Digest, fault: &str) {
        lock(&self.refused).insert(key);
        let name = self.backend.name();
        self.note(
            format!("the object `{object}` of the remote cache `{name}` {fault}; refused `{key}`"),
            Some("run `repro remote verify --delete` and push the result again".into()),
        );
    }
}

impl Store {
    /// Whether the store has a remote, which may have failed.
    pub fn has_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Whether the store has a remote that has not failed.
    pub fn uses_remote(&self) -> bool {
        self.remote.as_ref().is_some_and(|remote| !remote.is_off.load(Ordering::Relaxed))
    }

    /// The problems with the remote since the last call.
    pub fn notices(&self) -> Vec<Notice> {
        let Some(remote) = &self.remote else { return Vec::new() };
        let notices = remote.backend.notices().into_iter();
        let mut notices: Vec<Notice> =
            notices.map(|message| Notice { message, hint: None }).collect();
        notices.append(&mut lock(&remote.notices));
        notices
    }

    /// Looks the keys that are not in the local folder up in the remote at once. The lookups that
    /// follow take no time.
    pub fn look_ahead(&self, keys: &[Key]) -> Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let mut missing = Vec::new();
        for key in keys {
            if !matches!(self.local.lookup(*key)?, Lookup::Hit(_)) {
                missing.push(*key);
            }
        }
        remote.call(|backend| backend.look_ahead(&missing)).map(drop)
    }

    /// Copies results of the remote to the local folder, if they are not there. A result whose
    /// objects are missing or damaged is refused: later lookups do not find it in the remote.
    pub fn pull(
        &self,
        results: &[(Key, Arc<Entry>)],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Transferred> {
        let mut pulled = Transferred::default();
        let Some(remote) = &self.remote else { return Ok(pulled) };
        let store = &self.with_sync(SyncPolicy::Deferred);
        let mut open: Vec<&(Key, Arc<Entry>)> = Vec::new();
        let mut missing: BTreeMap<Digest, u64> = BTreeMap::new();
        for result in results {
            match store.local.lookup(result.0)? {
                Lookup::Hit(_) => pulled.unchanged += 1,
                _ => {
                    open.push(result);
                    for stored in result.1.outputs.values() {
                        if !store.local.state(stored.digest)?.is_intact() {
                            missing.insert(stored.digest, stored.bytes);
                        }
                    }
                }
            }
        }
        if open.is_empty() {
            return Ok(pulled);
        }
        let workspace = store.workspace()?;
        let wanted = |(digest, bytes): (&Digest, &u64)| Wanted {
            digest: *digest,
            bytes: Some(*bytes),
            to: workspace.path().join(digest.to_string()),
        };
        let wanted: Vec<Wanted> = missing.iter().map(wanted).collect();
        let mut counts = Progress { all: wanted.len(), ..Progress::default() };
        let mut faults: BTreeMap<Digest, String> = BTreeMap::new();
        let mut batch = Batch::default();
        let mut local = Ok(());
        remote.call(|backend| {
            backend.fetch(&wanted, &mut |object, fetched| {
                let size = missing.get(&object.digest).copied().unwrap_or_default();
                counts.done += 1;
                match fetched {
                    Fetched::Absent => {
                        _ = faults.insert(object.digest, "is missing".to_owned());
                    }
                    Fetched::Damaged(fault) => _ = faults.insert(object.digest, fault),
                    Fetched::Written => {
                        counts.bytes += size;
                        batch.files.push((object.to.clone(), object.digest));
                        batch.bytes += size;
                    }
                }
                progress(counts);
                if batch.is_full() {
                    local = batch.add(store, &mut faults);
                }
                if local.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        })?;
        local?;
        batch.add(store, &mut faults)?;
        (pulled.objects, pulled.bytes) = (counts.done - faults.len(), counts.bytes);
        for (key, entry) in open {
            let digests = || entry.outputs.values().map(|stored| stored.digest);
            if let Some((digest, fault)) =
                digests().find_map(|digest| faults.get_key_value(&digest))
            {
                remote.refuse(*key, *digest, fault);
                pulled.refused.push(*key);
                continue;
            }
            let mut is_whole = true;
            for digest in digests() {
                is_whole &= store.local.state(digest)?.is_intact();
            }
            if !is_whole {
                // The remote has failed, which was reported.
                lock(&remote.refused).insert(*key);
                pulled.refused.push(*key);
                continue;
            }
            let recipe = remote.call(|backend| backend.recipe(*key))?.flatten();
            if let Some(recipe) = recipe.filter(|recipe| recipe.key() == *key) {
                store.record_recipe(&recipe)?;
            }
            store.local.publish(*key, entry)?;
            pulled.results += 1;
        }
        if pulled.results > 0 {
            store.sync()?;
        }
        Ok(pulled)
    }

    /// Copies results of the local folder to the remote. Keys without a result are ignored.
    pub fn push(&self, keys: &[Key], progress: &mut dyn FnMut(Progress)) -> Result<Transferred> {
        let mut pushed = Transferred::default();
        let Some(remote) = &self.remote else { return Ok(pushed) };
        let mut counts = Progress { all: keys.len(), ..Progress::default() };
        for keys in keys.chunks(RESULTS) {
            let mut results = Vec::new();
            for key in keys {
                let Lookup::Hit(entry) = self.local.lookup(*key)? else {
                    counts.done += 1;
                    continue;
                };
                let objects: BTreeSet<Digest> =
                    entry.outputs.values().map(|stored| stored.digest).collect();
                let objects = objects.into_iter().map(|digest| (self.object(digest), digest));
                results.push(Publication {
                    key: *key,
                    objects: objects.collect(),
                    recipe: self.recipe(*key).ok().flatten().map(Arc::new),
                    replace: lock(&remote.refused).contains(key),
                    entry,
                });
            }
            let mut changed = None;
            remote.call(|backend| {
                backend.publish(&results, &mut |result, published| {
                    counts.done += 1;
                    match published {
                        Published::Added(bytes) => {
                            pushed.results += 1;
                            pushed.bytes += bytes;
                            counts.bytes += bytes;
                            lock(&remote.refused).remove(&result.key);
                        }
                        Published::Unchanged => pushed.unchanged += 1,
                        Published::Differs => {
                            let (key, name) = (result.key, backend.name());
                            remote.note(
                                format!(
                                    "the remote cache `{name}` has another result for `{key}`, \
                                     and keeps it"
                                ),
                                Some(
                                    "run `repro verify --recompute` where each was computed; a \
                                     stage may not be deterministic"
                                        .into(),
                                ),
                            );
                            pushed.refused.push(key);
                        }
                        Published::Changed(digest) => changed = Some(digest),
                    }
                    progress(counts);
                })
            })?;
            if let Some(digest) = changed {
                return Err(anyhow!("the object `{digest}` was changed on disk"));
            }
        }
        Ok(pushed)
    }
}

/// Fetched objects that are not in the cache yet.
#[derive(Default)]
struct Batch {
    files: Vec<(PathBuf, Digest)>,
    bytes: u64,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.files.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    /// Adds the objects to the cache, after they are on disk: a loss of power must leave no sealed
    /// object without its bytes.
    fn add(&mut self, store: &Store, faults: &mut BTreeMap<Digest, String>) -> Result<()> {
        let Batch { files, .. } = std::mem::take(self);
        if !files.is_empty() {
            store.sync()?;
        }
        for (path, digest) in files {
            let stored = store.ingest(&path).context("cannot add a fetched object")?;
            if stored.digest != digest {
                faults.insert(digest, "has bytes with another digest".to_owned());
            }
        }
        Ok(())
    }
}
