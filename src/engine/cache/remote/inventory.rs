//! The files of a remote cache: verification and garbage collection.

use super::body::{Received, Sink};
use super::failure::Failure;
use super::requests::{ATTEMPTS, Found, Inner, parse};
use super::{LOOKUPS, Remote, TRANSFERS, lock};
use crate::engine::cache::entry::Stored;
use crate::engine::key::{Digest, Key};
use anyhow::Result;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStoreExt as _};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

/// A file of a remote.
#[derive(Clone, Copy, Debug)]
struct Listed {
    bytes: u64,
    modified: SystemTime,
}

/// The files of a remote.
#[derive(Debug, Default)]
struct Inventory {
    entries: BTreeMap<Key, Listed>,
    objects: BTreeMap<Digest, Listed>,
    /// Files that do not belong to a remote cache.
    foreign: Vec<String>,
}

/// What is wrong with a remote.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// The number of objects that were hashed.
    pub objects: usize,
    /// The number of entries that were read.
    pub entries: usize,
    /// The bytes of the objects, as they are stored.
    pub bytes: u64,
    /// The problems, a sentence each.
    pub problems: Vec<String>,
    /// The files to remove, so that the results can be published again: entries before objects.
    #[serde(skip)]
    remove: Vec<Path>,
}

/// The files that no target needs.
#[derive(Debug, Default, Serialize)]
pub struct Stale {
    /// The number of entries that are kept.
    pub kept: usize,
    /// The number of entries to remove.
    pub entries: usize,
    /// The number of objects to remove.
    pub objects: usize,
    /// The bytes of all files to remove.
    pub bytes: u64,
    /// Every entry that was listed.
    #[serde(skip)]
    listed: BTreeSet<Key>,
    #[serde(skip)]
    keys: Vec<Key>,
    #[serde(skip)]
    digests: Vec<Digest>,
}

impl Remote {
    /// Lists all files.
    fn inventory(&self) -> Result<Inventory> {
        self.runtime.block_on(self.inner.inventory())
    }

    /// Reads every entry and hashes every object. Calls `progress` with the number of files that
    /// were read and their total number.
    pub fn verify(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<Verified> {
        let inventory = self.inventory()?;
        let mut verified = Verified {
            objects: inventory.objects.len(),
            entries: inventory.entries.len(),
            bytes: inventory.objects.values().map(|object| object.bytes).sum(),
            ..Verified::default()
        };
        let address = &self.inner.address;
        for name in &inventory.foreign {
            verified.problems.push(format!("`{name}` does not belong to a remote cache"));
        }
        let (all, mut done) = (verified.entries + verified.objects, 0);
        let mut tick = || {
            done += 1;
            progress(done, all);
        };
        let mut damaged: Vec<(Digest, String)> = Vec::new();
        let task = |inner: Arc<Inner>, digest: Digest| async move {
            Ok((digest, inner.check(digest).await?))
        };
        let objects = inventory.objects.keys().copied().collect();
        self.each(objects, TRANSFERS, task, |(digest, fault)| {
            damaged.extend(fault.map(|fault| (digest, fault)));
            tick();
            ControlFlow::Continue(())
        })?;
        damaged.sort();
        let mut objects = Vec::new();
        for (digest, fault) in &damaged {
            verified.problems.push(format!("the object `{digest}` of `{address}` {fault}"));
            objects.push(self.inner.object(*digest));
        }
        let damaged: BTreeSet<Digest> = damaged.into_iter().map(|(digest, _)| digest).collect();
        let task =
            |inner: Arc<Inner>, key: Key| async move { Ok((key, inner.outputs(key).await?)) };
        let mut problems: Vec<(Key, String)> = Vec::new();
        let keys = inventory.entries.keys().copied().collect();
        self.each(keys, LOOKUPS, task, |(key, outputs)| {
            match outputs {
                None => {}
                Some(Err(fault)) => problems.push((key, fault)),
                Some(Ok(outputs)) => {
                    let lost = outputs.iter().find(|(_, stored)| {
                        !inventory.objects.contains_key(&stored.digest)
                            || damaged.contains(&stored.digest)
                    });
                    problems.extend(lost.map(|(name, Stored { digest, .. })| {
                        (key, format!("lacks its output `{name}` ({digest})"))
                    }));
                }
            }
            tick();
            ControlFlow::Continue(())
        })?;
        problems.sort();
        for (key, fault) in problems {
            verified.problems.push(format!("the entry `{key}` of `{address}` {fault}"));
            verified.remove.push(self.inner.entry(key));
        }
        verified.remove.extend(objects);
        Ok(verified)
    }

    /// Removes damaged objects, and the entries that cannot be used.
    pub fn remove_damaged(&self, verified: &Verified) -> Result<()> {
        self.delete(verified.remove.clone())
    }

    /// The entries that are not among `keys`, and the objects that no other entry names. Files that
    /// are younger than `age` are kept: another process may be publishing their result.
    pub fn stale(&self, keys: &BTreeSet<Key>, age: Duration) -> Result<Stale> {
        let inventory = self.inventory()?;
        let now = SystemTime::now();
        // The clock of the server may be ahead.
        let is_young = |listed: &Listed| {
            now.duration_since(listed.modified).map_or(!age.is_zero(), |since| since < age)
        };
        let listed = inventory.entries.keys().copied().collect();
        let mut stale = Stale { listed, ..Stale::default() };
        let mut kept = Vec::new();
        for (key, listed) in &inventory.entries {
            if keys.contains(key) || is_young(listed) {
                kept.push(*key);
            } else {
                stale.keys.push(*key);
                stale.bytes += listed.bytes;
            }
        }
        (stale.kept, stale.entries) = (kept.len(), stale.keys.len());
        let live = self.objects_of(kept)?;
        for (digest, listed) in &inventory.objects {
            if !live.contains(digest) && !is_young(listed) {
                stale.digests.push(*digest);
                stale.bytes += listed.bytes;
            }
        }
        stale.objects = stale.digests.len();
        Ok(stale)
    }

    /// The objects that these entries name.
    fn objects_of(&self, entries: Vec<Key>) -> Result<BTreeSet<Digest>> {
        let mut objects = BTreeSet::new();
        let task = |inner: Arc<Inner>, key: Key| async move { inner.outputs(key).await };
        self.each(entries, LOOKUPS, task, |outputs| {
            // A damaged entry is of no use, and its objects are sent again with it.
            if let Some(Ok(outputs)) = outputs {
                objects.extend(outputs.iter().map(|(_, stored)| stored.digest));
            }
            ControlFlow::Continue(())
        })?;
        Ok(objects)
    }

    /// Removes entries, then objects, so that no entry is without its objects.
    pub fn remove_stale(&self, stale: &Stale) -> Result<()> {
        self.delete(stale.keys.iter().map(|key| self.inner.entry(*key)).collect())?;
        // A result that another process has published since may have the same objects.
        let entries = self.inventory()?.entries.into_keys();
        let live = self.objects_of(entries.filter(|key| !stale.listed.contains(key)).collect())?;
        let digests = stale.digests.iter().filter(|digest| !live.contains(digest));
        self.delete(digests.map(|digest| self.inner.object(*digest)).collect())
    }

    fn delete(&self, paths: Vec<Path>) -> Result<()> {
        let address = &self.inner.address;
        if address.is_read_only() {
            return Err(Failure::new(address, "is read-only").into());
        }
        lock(&self.inner.known).clear();
        lock(&self.inner.sent).clear();
        let task = |inner: Arc<Inner>, path: Path| async move {
            match inner.within(0, inner.store.delete(&path)).await? {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(inner.failed(&error)),
            }
        };
        self.each(paths, LOOKUPS, task, |()| ControlFlow::Continue(()))
    }
}

impl Inner {
    async fn inventory(&self) -> Result<Inventory> {
        let mut inventory = Inventory::default();
        let root = self.root();
        let mut files = self.store.list(Some(&root));
        loop {
            let next = timeout(self.timeout, files.try_next()).await;
            let next = next.map_err(|_| Failure::timeout(&self.address, self.timeout))?;
            let ObjectMeta { location, last_modified, size, .. } = match next {
                Ok(Some(meta)) => meta,
                Ok(None) => return Ok(inventory),
                Err(Error::NotFound { .. }) => return Ok(inventory),
                Err(error) => return Err(self.failed(&error)),
            };
            let listed = Listed { bytes: size, modified: last_modified.into() };
            let name = location.filename().unwrap_or_default();
            let key = name.strip_suffix(".json").and_then(|key| key.parse().ok());
            let digest = name.parse().ok();
            if let Some(key) = key.filter(|key| self.entry(*key) == location) {
                inventory.entries.insert(key, listed);
            } else if let Some(digest) = digest.filter(|digest| self.object(*digest) == location) {
                inventory.objects.insert(digest, listed);
            } else if location != self.path("remote-cache.json")
                && !location.prefix_matches(&self.path("probe"))
            {
                inventory.foreign.push(location.to_string());
            }
        }
    }

    /// Hashes an object. Returns what is wrong with it, as a predicate.
    async fn check(&self, digest: Digest) -> Result<Option<String>> {
        let mut fault = None;
        for _ in 0..ATTEMPTS {
            let Some(response) = self.get(&self.object(digest)).await? else {
                return Ok(Some("was removed meanwhile".to_owned()));
            };
            fault = match self.receive(response, Sink::new(None, None)).await? {
                Some(Received::Whole(found)) if found == digest => return Ok(None),
                Some(Received::Whole(_)) => Some("has bytes with another digest".to_owned()),
                Some(Received::Damaged(fault)) => Some(fault),
                None => None,
            };
        }
        match fault {
            Some(fault) => Ok(Some(fault)),
            None => Err(Failure::new(&self.address, "cuts connections").into()),
        }
    }

    /// The outputs that an entry names, or why it cannot be used; `None` if it was removed.
    async fn outputs(&self, key: Key) -> Result<Option<Result<Vec<(String, Stored)>, String>>> {
        let Some(body) = self.read(&self.entry(key)).await? else { return Ok(None) };
        let outputs = |found: Found| {
            let outputs = found.entry.outputs.iter();
            outputs.map(|(name, stored)| (name.clone(), *stored)).collect()
        };
        Ok(Some(parse(key, &body).map(outputs)))
    }
}
