//! The cache of one or more projects: the results and their metadata.
//!
//! A [`Store`] joins the local folder with an optional remote. The other modules of this folder add
//! to it by subject: locks, leases, pins, fallbacks, exports, run histories.

pub use super::backend::{Backend, Lookup};

use super::entry::{Entry, Stored};
use super::heartbeat::Heartbeats;
use super::index::{INDEX, Index, lock};
use super::local::{LocalFolder, ObjectState, SyncPolicy};
use super::transfer::Attached;
use crate::engine::envelope::SOURCES;
use crate::engine::key::{Digest, Key};
use crate::fs::{self, Stat, Witness};
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The folders of earlier versions of the layout.
const EARLIER_FORMATS: [&str; 1] = ["v1"];

/// The folder of snapshots of runs.
const SNAPSHOTS: &str = "snapshots";

/// The cache.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) local: LocalFolder,
    pub(super) remote: Option<Arc<Attached>>,
    /// Whether the disk has file locks.
    pub(super) locks: bool,
    pub(super) heartbeats: Arc<Heartbeats>,
}

impl Store {
    /// The cache in `folder`, which may not exist yet.
    pub fn at(folder: &Path) -> Store {
        let local = LocalFolder::at(folder);
        Store { local, remote: None, locks: true, heartbeats: Arc::default() }
    }

    /// Looks results up in `remote` too. [`Store::pull`] and [`Store::push`] copy results. Recipes,
    /// pins, histories and garbage collection stay local, and a new result is published to the
    /// local folder only.
    ///
    /// If the remote fails, the store uses it no more, and [`Store::notices`] says why; if it is
    /// `required`, the call fails.
    #[must_use]
    pub fn with_remote(self, remote: Arc<dyn Backend>, required: bool) -> Store {
        Store { remote: Some(Arc::new(Attached::new(remote, required))), ..self }
    }

    /// Uses no file locks. Leases still prevent two processes from computing the same recipe, but
    /// only heartbeats prevent `gc` and `verify` from removing a file that another process uses.
    #[must_use]
    pub fn without_locks(self) -> Store {
        Store { locks: false, ..self }
    }

    /// The same store with another policy for syncing results.
    #[must_use]
    pub fn with_sync(&self, sync: SyncPolicy) -> Store {
        let mut store = self.clone();
        store.local.sync = sync;
        store
    }

    /// Creates the folders that a run writes to.
    pub fn prepare(&self) -> Result<()> {
        ["recipes", "entries", "objects", "fallbacks", "logs", "leases", "runs", "tmp"]
            .into_iter()
            .try_for_each(|folder| fs::create_dir_all(&self.path(folder)))?;
        // Makes version control and backups skip the cache.
        let markers = [
            (".gitignore", "*\n"),
            ("CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ];
        for (name, text) in markers {
            let path = self.path(name);
            if let Some(mut file) = fs::create_new(&path)? {
                file.write_all(text.as_bytes())
                    .with_context(|| format!("cannot write `{}`", path.display()))?;
            }
        }
        Ok(())
    }

    /// The path of a file or a folder of the cache.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.local.root.join(name)
    }

    /// The path of an object of the local folder, which may not exist.
    pub fn object(&self, digest: Digest) -> PathBuf {
        self.local.object(digest)
    }

    /// The path of the log of the last attempt to compute `key`.
    pub fn log(&self, key: Key) -> PathBuf {
        self.path("logs").join(key.to_string())
    }

    /// The path of the outputs that differed when `key` was recomputed.
    pub fn recomputed(&self, key: Key) -> PathBuf {
        self.path("recomputed").join(key.to_string())
    }

    /// The path of an entry.
    pub(crate) fn entry_path(&self, key: Key) -> PathBuf {
        self.local.entry_path(key)
    }

    /// Looks a key up, in the local folder and then in the remote. Nothing is fetched.
    pub fn lookup(&self, key: Key) -> Result<Lookup> {
        let found = self.local.lookup(key)?;
        if let Some(remote) = &self.remote
            && !matches!(found, Lookup::Hit(_))
            && let Some(entry) = remote.lookup(key)?
        {
            return Ok(Lookup::Remote(entry));
        }
        Ok(found)
    }

    /// Looks a key up in the local folder.
    pub fn lookup_local(&self, key: Key) -> Result<Lookup> {
        self.local.lookup(key)
    }

    /// Checks an object of the local folder as a lookup does.
    pub fn check_object(&self, digest: Digest) -> Result<ObjectState> {
        self.local.state(digest)
    }

    /// Reads an object of the local folder, without checking its digest.
    pub fn read_object(&self, digest: Digest) -> Result<Vec<u8>> {
        fs::read(&self.object(digest))
    }

    /// Adds the file at `path` to the objects; the file is moved. No other process may have it open
    /// or mapped into its memory.
    pub fn ingest(&self, path: &Path) -> Result<Stored> {
        self.local.ingest(path)
    }

    /// Adds a copy of the file at `path` to the objects, unless the object exists. Returns whether
    /// the file has the digest.
    pub fn add_file(&self, path: &Path, digest: Digest) -> Result<bool> {
        self.local.add_object(path, digest)
    }

    /// Publishes a result whose objects have been added, in the local folder.
    pub fn publish(&self, key: Key, entry: &Entry) -> Result<()> {
        self.local.publish(key, entry)
    }

    /// The entry of `key` in the local folder, whether or not its objects exist; `None` if it is
    /// damaged or belongs to another key.
    pub fn entry(&self, key: Key) -> Result<Option<Arc<Entry>>> {
        self.local.entry(key)
    }

    /// The entry of `key` in the local folder, with the digest of its file.
    pub(crate) fn entry_with_digest(&self, key: Key) -> Result<Option<(Entry, Digest)>> {
        self.local.entry_with_digest(key)
    }

    /// Whether the file of the entry of `key` has the digest `entry`, and its `objects` are intact.
    /// A file with the metadata `known` is not read; `known` is set for the next call otherwise.
    pub(crate) fn has(
        &self,
        entry: (Key, Digest),
        known: &mut Option<Stat>,
        witness: &Witness,
        objects: &[Stored],
    ) -> Result<bool> {
        self.local.has(entry, known, witness, objects)
    }

    /// Recognizes unchanged files of the cache.
    pub(crate) fn witness(&self) -> Witness {
        Witness::at(&self.local.root)
    }

    /// Hashes an object of the local folder. Returns whether it has the right digest.
    pub fn is_intact(&self, digest: Digest) -> Result<bool> {
        self.local.is_intact(digest)
    }

    /// Reads a snapshot of a run; `None` if it is missing, damaged or swapped for another.
    pub(crate) fn read_snapshot<T: DeserializeOwned>(&self, name: Digest) -> Result<Option<T>> {
        self.local.read_enveloped(&self.snapshot(name))
    }

    /// Writes a snapshot of a run.
    pub(crate) fn write_snapshot(&self, name: Digest, snapshot: &impl Serialize) -> Result<()> {
        fs::create_dir_all(&self.path(SNAPSHOTS))?;
        self.local.write_enveloped(&self.snapshot(name), snapshot)
    }

    /// The path of a snapshot.
    pub(crate) fn snapshot(&self, name: Digest) -> PathBuf {
        self.path(SNAPSHOTS).join(name.to_string())
    }

    /// Reads the index, before many lookups.
    pub fn with_index(mut self) -> Store {
        let index = Index::read(&self.path(INDEX));
        self.local.index = Some(Arc::new(Mutex::new(index)));
        self
    }

    /// Writes the index for the next command.
    pub fn write_index(&self) -> Result<()> {
        let Some(index) = &self.local.index else { return Ok(()) };
        lock(index).write(&self.path(INDEX), &self.scratch()?)
    }

    /// Removes the index and the snapshots of runs, which also contain removed entries. The next
    /// run writes new ones.
    pub(super) fn remove_indexes(&self) -> Result<()> {
        fs::remove_if_exists(&self.path(INDEX))?;
        fs::remove_folder_if_exists(&self.path(SNAPSHOTS))
    }

    /// The path of the digests of the project's files.
    pub fn source_index(&self) -> PathBuf {
        self.path(SOURCES)
    }

    /// Writes the digests of the project's files.
    pub(crate) fn write_source_index(&self, index: &impl Serialize) -> Result<()> {
        self.local.write_enveloped(&self.source_index(), index)
    }

    /// The keys that name files of a folder; other files are ignored.
    pub(super) fn keys(&self, folder: &str) -> Result<Vec<Key>> {
        let names = fs::list(&self.path(folder))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// The keys of all recipes and entries.
    pub fn all_keys(&self) -> Result<BTreeSet<Key>> {
        Ok(self.keys("recipes")?.into_iter().chain(self.keys("entries")?).collect())
    }

    /// The digests of all objects.
    pub fn all_objects(&self) -> Result<Vec<Digest>> {
        Ok(self.object_names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The names of all files among the objects.
    pub(super) fn object_names(&self) -> Result<Vec<String>> {
        fs::list(&self.path("objects"))
    }

    /// Whether an entry, a recipe or a log shows that `key` was requested earlier.
    pub fn was_requested(&self, key: Key) -> Result<bool> {
        for path in [self.entry_path(key), self.local.recipe_path(key), self.log(key)] {
            if fs::metadata_if_exists(&path)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The folders of earlier formats beside this one, with the bytes in each. They are neither
    /// read nor changed.
    pub fn older_formats(&self) -> Result<Vec<(PathBuf, u64)>> {
        let parent = self.local.root.parent().unwrap_or(&self.local.root);
        let mut names = fs::list(parent)?;
        names.retain(|name| EARLIER_FORMATS.contains(&name.as_str()));
        let paths = names.into_iter().map(|name| parent.join(name));
        paths.map(|path| fs::size_of_tree(&path).map(|bytes| (path, bytes))).collect()
    }
}
