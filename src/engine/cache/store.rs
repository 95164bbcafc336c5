//! The cache on disk: questions, answers, and how an answer is published.
//!
//! ```text
//! cache/v2/
//!   recipes/<key>.json    the recipe, as requested
//!   entries/<key>.json    the result: digests and sizes of the outputs; seconds, memory, host, program as provenance
//!   objects/<digest>      an output's bytes: read-only, their modification time derived from the digest
//!   fallbacks/<key>       this recipe could not be computed; its fallback is used instead (holds the cause)
//!   logs/<key>            what the last attempt wrote to its standard streams, if anything
//!   recomputed/<key>/     outputs that differ when a node runs again (again/), and the cache's (cached/)
//!   pins/<key>            kept from removal; holds the names of the nodes it is kept for
//!   quarantine/<digest>   bytes that did not have the digest they stood under
//!   runs/<id>.jsonl       the history of runs
//!   entries.index          what entries said when they were last read, to save reading them again
//!   unchanged/<digest>    what a run left that had no more to do, so that the next one need make no plan
//!   leases/<key>          who is at work on it now
//!   tmp/<owner>/          workspaces and half-written files, on the same disk; swept when their owner is gone
//!   turn                  held for a moment by a command that reads, changes and writes back what others do too
//!   lock                  shared by all who work here, held alone by whoever removes or moves things
//!   pipelines/<digest>    a pipeline that has run here, under the digest of this note: what it requests is kept
//!   files.json            digests of the project's files, to save hashing them again
//!   delivered/<digest>    what was laid out in the folder of that name's digest, to take it away when it is no longer made
//! ```
//!
//! When a result reaches the disk is for `durable.rs` to say.
//!
//! An answer is published in three steps, each a rename: its objects, then its entry. The entry's rename is the commit
//! point; a crash before it leaves objects nobody names, and the node runs again. Publishing twice is escape_control.
//!
//! A lookup trusts an object whose size is the entry's and whose modification time is still the one
//! derived from its digest. An edit moves that time, and another object has another; then the bytes
//! are hashed again, and the object is sealed again or is damaged. No other
//! process has an object open, or mapped into its memory, when it is sealed: files of the project are
//! copied, and an output of a program is moved only when every process below the program has ended
//! and the file has one name and is this user's; else it is copied too. Afterwards it is read-only. A process that makes it writable again and writes through a memory map, on a file
//! system that does not keep times ([`fs::Witness`]), is noticed by `verify` alone, which hashes all.
//!
//! No file can pass for another one that it was swapped for:
//!
//! | file | what is checked when it is read |
//! |---|---|
//! | recipe | its key is the BLAKE3 of its content |
//! | entry, fallback, pin, `delivered/`, `files.json`, `unchanged/` | it holds its own path and a checksum (see `envelope.rs`) |
//! | object | size and time, else its digest; `verify` always hashes it |
//! | `pipelines/` | its name is the digest of its content |
//! | `entries.index` | a checksum; each entry in it counts only for the key, mount, inode, size and times it was read with |
//! | lease, workspace | nothing: a result is published whole whoever holds the lease; at worst it is computed twice |
//! | `logs/`, `recomputed/`, `quarantine/` | nothing: they are for people; of a log `gc` sees only that there is one |
//! | `runs/` | nothing: a history decides what `log` shows and what `gc` keeps beside the pipelines' own results |
//!
//! Knows keys and digests; not what a stage is.

use super::entry::{Entry, Stored, escapes_root, sealed_at};
use super::index::Index;
use crate::engine::envelope;
use crate::engine::error::Error;
use crate::engine::key::{Artifact, Digest, Key, Recipe};
use crate::fs::{self, Stat, Witness};
use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The version of the layout, and the folder it is in.
const FORMAT: &str = "v2";

/// The folders of earlier versions.
const EARLIER_FORMATS: [&str; 1] = ["v1"];

/// Where the index of entries lies.
const INDEX: &str = "entries.index";

/// Where the digests of the project's files are remembered.
pub(crate) const FILES: &str = "files.json";

/// Where the snapshots of runs are that had no more to do.
const UNCHANGED: &str = "unchanged";

/// Where what was laid out for people is remembered.
const DELIVERED: &str = "delivered";

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When a result is handed to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Before it is published.
    #[default]
    Now,
    /// By [`Store::sync`].
    Later,
}

impl Sync {
    /// For a job that took `seconds` in a process that runs many: one whose loss would be felt does not wait for others.
    pub fn of(seconds: f64) -> Sync {
        if seconds < 1.0 { Sync::Later } else { Sync::Now }
    }
}

/// What the cache knows of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// The answer, whole.
    Hit(Arc<Entry>),
    /// Never answered.
    Absent,
    /// Answered once, but this output's bytes are gone.
    Missing(String),
    /// Answered once, but this output's bytes have changed.
    Damaged(String),
}

/// The cache folder.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
    /// If many entries are going to be asked for.
    index: Option<Arc<Mutex<Index>>>,
    /// When what is published is handed to the disk.
    sync: Sync,
    /// Whether its disk has file locks.
    pub(crate) locks: bool,
}

impl Store {
    /// The cache under `folder`, which need not exist yet.
    pub fn at(folder: &Path) -> Store {
        Store { root: folder.join(FORMAT), index: None, sync: Sync::Now, locks: true }
    }

    /// The same, about to be asked for many entries: what was last read of them is read at once.
    pub fn with_index(self) -> Store {
        let index = Index::read(&self.root.join(INDEX));
        Store { index: Some(Arc::new(Mutex::new(index))), ..self }
    }

    /// The same, on a disk that has no file locks. Leases keep two jobs from one recipe as before; but nothing keeps `gc` and
    /// `verify` from removing what another command is about to use, except that they look for leases and heartbeats first.
    #[must_use]
    pub fn without_locks(self) -> Store {
        Store { locks: false, ..self }
    }

    /// The same, that hands what is published to the disk at that time.
    #[must_use]
    pub fn syncing(&self, sync: Sync) -> Store {
        Store { sync, ..self.clone() }
    }

    /// Writes down what entries have said, for the next time.
    pub fn remember(&self) -> Result<()> {
        let Some(index) = &self.index else { return Ok(()) };
        lock(index).write(&self.root.join(INDEX), &self.scratch()?)
    }

    /// Makes the folders a run writes to.
    pub fn prepare(&self) -> Result<()> {
        ["recipes", "entries", "objects", "fallbacks", "logs", "leases", "runs", "tmp"]
            .into_iter()
            .try_for_each(|folder| fs::create_dir_all(&self.root.join(folder)))?;
        // Where the cache lies in a repository, it is none of its files, nor of a backup.
        let notes = [
            (".gitignore", "*\n"),
            ("CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ];
        for (name, text) in notes {
            let path = self.root.join(name);
            if let Some(mut file) = fs::create_new(&path)? {
                file.write_all(text.as_bytes())
                    .with_context(|| format!("cannot write `{}`", path.display()))?;
            }
        }
        Ok(())
    }

    /// Where an object lies.
    pub fn object(&self, digest: Digest) -> PathBuf {
        self.root.join("objects").join(digest.to_string())
    }

    /// Where a job's output streams go.
    pub fn log(&self, key: Key) -> PathBuf {
        self.root.join("logs").join(key.to_string())
    }

    /// Where a node's outputs are kept that came out otherwise when it ran again.
    pub fn aside(&self, key: Key) -> PathBuf {
        self.root.join("recomputed").join(key.to_string())
    }

    /// Where run `id` writes its history.
    pub fn history(&self, id: &str) -> PathBuf {
        self.root.join("runs").join(format!("{id}.jsonl"))
    }

    pub(crate) fn entry_path(&self, key: Key) -> PathBuf {
        self.root.join("entries").join(format!("{key}.json"))
    }

    pub(crate) fn recipe_path(&self, key: Key) -> PathBuf {
        self.root.join("recipes").join(format!("{key}.json"))
    }

    fn fallback_path(&self, key: Key) -> PathBuf {
        self.root.join("fallbacks").join(key.to_string())
    }

    /// Reads a file of the cache that says which one it is; one that is damaged, or is another,
    /// counts as none.
    pub(crate) fn read_enveloped<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let bytes = fs::read_if_regular(path)?;
        Ok(bytes.and_then(|bytes| envelope::unwrap(&self.relative(path), &bytes)))
    }

    pub(crate) fn write_enveloped(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        fs::write_atomic(path, &self.scratch()?, &envelope::wrap(&self.relative(path), value)?)
    }

    /// The path of a file from the cache's folder on, by which it names itself.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// Whether the question is answered.
    pub fn lookup(&self, key: Key) -> Result<Lookup> {
        let Some(entry) = self.entry(key)? else { return Ok(Lookup::Absent) };
        for (name, stored) in &entry.outputs {
            match self.check(*stored)? {
                Check::Sound => {}
                Check::Gone => return Ok(Lookup::Missing(name.clone())),
                Check::Bad => return Ok(Lookup::Damaged(name.clone())),
            }
        }
        Ok(Lookup::Hit(entry))
    }

    /// The entry of `key`, whether or not its objects are there. One that is damaged, or is another
    /// key's, counts as none: its recipe is computed again.
    pub fn entry(&self, key: Key) -> Result<Option<Arc<Entry>>> {
        let path = self.entry_path(key);
        let Some(index) = &self.index else { return Ok(self.read_enveloped(&path)?.map(Arc::new)) };
        let Some(meta) = fs::metadata_if_exists(&path)? else { return Ok(None) };
        let stat = lock(index).stat(&path, &meta);
        if let Some(entry) = stat.and_then(|stat| lock(index).entry(key, stat)) {
            return Ok(Some(entry));
        }
        let Some(entry) = self.read_enveloped(&path)?.map(Arc::new) else { return Ok(None) };
        let after = fs::metadata_if_exists(&path)?;
        if let (Some(stat), Some(after)) = (stat, after) {
            let mut index = lock(index);
            if index.stat(&path, &after) == Some(stat) {
                index.learn(key, &path, stat, &entry);
            }
        }
        Ok(Some(entry))
    }

    /// The file of the entry of `key`, as it is.
    pub(crate) fn entry_bytes(&self, key: Key) -> Result<Option<Vec<u8>>> {
        fs::read_if_regular(&self.entry_path(key))
    }

    /// Whether the file of the entry of `key` has the digest `entry`, and its outputs, which are `objects`, are there. The
    /// file is not read if it is `known` by what tells it from what it was, which is learnt otherwise.
    pub(crate) fn has(
        &self,
        (key, entry): (Key, Digest),
        known: &mut Option<Stat>,
        witness: &Witness,
        objects: &[Stored],
    ) -> Result<bool> {
        let path = self.entry_path(key);
        let now = SystemTime::now();
        let stat = || -> Result<Option<Stat>> {
            Ok(fs::metadata_if_exists(&path)?.and_then(|meta| witness.stat(&path, &meta)))
        };
        let before = stat()?;
        if known.is_none() || before != *known {
            if self.entry_bytes(key)?.is_none_or(|bytes| Digest::of(&bytes) != entry) {
                return Ok(false);
            }
            *known = match before.filter(|stat| witness.trusts(&path, stat, now)) {
                Some(before) => stat()?.filter(|after| *after == before),
                None => None,
            };
        }
        for stored in objects {
            if !matches!(self.check(*stored)?, Check::Sound) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks at an object's metadata; reads it only if they are not as they were sealed.
    fn check(&self, stored: Stored) -> Result<Check> {
        let path = self.object(stored.digest);
        let Some(meta) = fs::metadata_if_exists(&path)? else { return Ok(Check::Gone) };
        let sealed = meta.modified().is_ok_and(|at| at == sealed_at(stored.digest));
        if meta.is_file() && sealed && meta.len() == stored.bytes {
            return Ok(Check::Sound);
        }
        // Before its bytes are read: a page that the disk has cannot be written through a memory map unseen (`fs::Witness`).
        let synced = fs::sync(&path).is_ok();
        if !self.is_sound(stored.digest)? {
            return Ok(Check::Bad);
        }
        let modified = |meta: &std::fs::Metadata| meta.modified().ok();
        let untouched =
            fs::metadata_if_exists(&path)?.is_some_and(|now| modified(&now) == modified(&meta));
        if synced && untouched {
            // Somebody touched or copied it, but its bytes are right. Sealing is a shortcut for next time; if this
            // user may not seal it, the shortcut is lost and nothing else.
            let _ = fs::seal(&path, sealed_at(stored.digest));
        }
        Ok(Check::Sound)
    }

    /// Whether an object is there as it was written, as far as a lookup can tell.
    pub(crate) fn is_unchanged(&self, digest: Digest) -> Result<bool> {
        Ok(matches!(
            self.check(Stored { digest, bytes: self.object_bytes(digest)?, executable: false })?,
            Check::Sound
        ))
    }

    /// Hashes an object: whether it is a file with the bytes of its name.
    pub fn is_sound(&self, digest: Digest) -> Result<bool> {
        let path = self.object(digest);
        let is_file = fs::metadata_if_exists(&path)?.is_some_and(|meta| meta.is_file());
        Ok(is_file && digest_of_file(&path)? == digest)
    }

    /// Moves an object that is not sound out of the way, for a look at what happened to it.
    pub(crate) fn move_to_quarantine(&self, digest: Digest) -> Result<()> {
        fs::rename(&self.object(digest), &self.quarantine(digest)?)
    }

    /// Where damaged bytes are kept; the last damage is the one to look at, so nothing is there now.
    fn quarantine(&self, digest: Digest) -> Result<PathBuf> {
        let quarantine = self.root.join("quarantine");
        fs::create_dir_all(&quarantine)?;
        let aside = quarantine.join(digest.to_string());
        // A file cannot be moved onto a folder, nor the other way round.
        let gone = if aside.is_dir() {
            fs::remove_folder_if_exists(&aside)
        } else {
            fs::remove_if_exists(&aside)
        };
        gone.map(|()| aside)
    }

    /// Writes the question down, so that a child process can be told its key alone.
    pub fn record_recipe(&self, recipe: &Recipe) -> Result<Key> {
        let key = recipe.key();
        let path = self.recipe_path(key);
        let text = recipe.canonical();
        // Not only where there is none: a damaged one would fail the child process again and again.
        if fs::read_if_regular(&path)?.is_none_or(|bytes| bytes != text.as_bytes()) {
            // It is synced with the result.
            fs::replace(&path, &self.scratch()?, text.as_bytes())?;
        }
        Ok(key)
    }

    /// The question behind `key`.
    pub fn recipe(&self, key: Key) -> Result<Option<Recipe>> {
        let path = self.recipe_path(key);
        let bytes = fs::read_if_regular(&path)?;
        // An empty one is what a loss of power may leave of it.
        let is_none = match &bytes {
            Some(bytes) => bytes.is_empty(),
            None => fs::metadata_if_exists(&path)?.is_none(),
        };
        if is_none {
            return Ok(None);
        }
        let corrupt = |why: &str| Error::Corrupt {
            message: format!("the recipe `{}` {why}", path.display()),
            hint: "`repro verify` takes it out of the way; its answer stays".into(),
        };
        let bytes = bytes.ok_or_else(|| corrupt("is not a regular file"))?;
        let recipe: Recipe = serde_json::from_slice(&bytes)
            .map_err(|error| corrupt(&format!("cannot be read: {error}")))?;
        if recipe.key() != key {
            return Err(corrupt("has another key").into());
        }
        Ok(Some(recipe))
    }

    /// All readable recipes, by key.
    pub fn recipes(&self) -> Result<Vec<(Key, Recipe)>> {
        let keys = self.keys("recipes")?;
        Ok(keys.into_iter().filter_map(|key| Some((key, self.recipe(key).ok()??))).collect())
    }

    /// The keys that name the files of a folder; other files there are not ours.
    pub(crate) fn keys(&self, folder: &str) -> Result<Vec<Key>> {
        let names = fs::list(&self.root.join(folder))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// Takes the file at `path` into the store; the file is moved.
    pub fn ingest(&self, path: &Path) -> Result<Stored> {
        let digest = digest_of_file(path)?;
        let meta = fs::metadata_if_exists(path)?;
        let bytes = meta.as_ref().map_or(0, std::fs::Metadata::len);
        let stored =
            Stored { digest, bytes, executable: meta.as_ref().is_some_and(fs::is_executable) };
        let object = self.object(digest);
        match self.check(stored)? {
            Check::Sound => return Ok(stored),
            Check::Bad if object.is_dir() => self.move_to_quarantine(digest)?,
            // It stays until the sound one replaces it: by now it may be one that another process has mended.
            Check::Bad => _ = fs::link(&object, &self.quarantine(digest)?),
            Check::Gone => {}
        }
        if self.sync == Sync::Now {
            fs::sync(path)?;
        }
        fs::seal(path, sealed_at(digest))?;
        fs::rename(path, &object)?;
        Ok(stored)
    }

    /// Takes a copy of the file at `path`, which stays, into the store, unless it is there; gives whether its bytes were
    /// those of `digest`.
    pub fn add_file(&self, path: &Path, digest: Digest) -> Result<bool> {
        if self.is_unchanged(digest)? {
            return Ok(true);
        }
        let workspace = self.workspace()?;
        let copy = workspace.path().join("copy");
        fs::copy(path, &copy)?;
        // What was hashed is what is stored: other bytes are an object that nobody names.
        Ok(self.ingest(&copy)?.digest == digest)
    }

    /// What was last laid out for people in `folder`; nothing if that is not known.
    pub fn delivered(&self, folder: &str) -> Result<Artifact> {
        let delivered: Option<Delivered> = self.read_enveloped(&self.delivered_path(folder))?;
        let mut files = delivered.map(|delivered| delivered.files).unwrap_or_default();
        files.retain(|name, _| !escapes_root(name.strip_suffix('/').unwrap_or(name)));
        Ok(files)
    }

    /// Writes that down.
    pub fn remember_delivered(&self, folder: &str, artifact: &Artifact) -> Result<()> {
        fs::create_dir_all(&self.root.join(DELIVERED))?;
        let delivered = Delivered { folder: folder.to_owned(), files: artifact.clone() };
        self.write_enveloped(&self.delivered_path(folder), &delivered)
    }

    fn delivered_path(&self, folder: &str) -> PathBuf {
        self.root.join(DELIVERED).join(Digest::of(folder.as_bytes()).to_string())
    }

    /// The folders of earlier formats beside this cache's, with the bytes in each. They are neither
    /// read nor changed.
    pub fn older_formats(&self) -> Result<Vec<(PathBuf, u64)>> {
        let parent = self.root.parent().unwrap_or(&self.root);
        let older =
            fs::list(parent)?.into_iter().filter(|name| EARLIER_FORMATS.contains(&name.as_str()));
        older
            .map(|name| parent.join(name))
            .map(|path| fs::size_of_tree(&path).map(|bytes| (path, bytes)))
            .collect()
    }

    /// Where the digests of the project's files are remembered.
    pub fn index(&self) -> PathBuf {
        self.root.join(FILES)
    }

    /// Where the snapshot called `name` is.
    pub(crate) fn snapshot(&self, name: Digest) -> PathBuf {
        self.root.join(UNCHANGED).join(name.to_string())
    }

    /// Writes them down.
    pub(crate) fn write_source_index(&self, index: &impl Serialize) -> Result<()> {
        self.write_enveloped(&self.index(), index)
    }

    /// Publishes an answer. Its objects must be in the store.
    pub fn publish(&self, key: Key, entry: &Entry) -> Result<()> {
        let path = self.entry_path(key);
        if self.sync == Sync::Now {
            // Not there, if nobody asked: a test's, say.
            let _ = fs::sync(&self.recipe_path(key));
            return self.write_enveloped(&path, entry);
        }
        fs::replace(&path, &self.scratch()?, &envelope::wrap(&self.relative(&path), entry)?)
    }

    /// Why the fallback of this question is used, if it is.
    pub fn fallback(&self, key: Key) -> Result<Option<String>> {
        let fallback: Option<Fallback> = self.read_enveloped(&self.fallback_path(key))?;
        Ok(fallback.map(|fallback| fallback.cause))
    }

    /// Remembers that `question` could not be answered, and why.
    pub fn record_fallback(&self, key: Key, cause: &str) -> Result<()> {
        self.write_enveloped(&self.fallback_path(key), &Fallback { cause: cause.to_owned() })
    }

    /// Forgets that.
    pub fn forget_fallback(&self, key: Key) -> Result<()> {
        fs::remove_if_exists(&self.fallback_path(key))
    }

    /// Every key there is a question or an answer for.
    pub fn all_keys(&self) -> Result<BTreeSet<Key>> {
        Ok(self.keys("recipes")?.into_iter().chain(self.keys("entries")?).collect())
    }

    /// The names of all objects.
    pub fn all_objects(&self) -> Result<Vec<Digest>> {
        Ok(self.object_names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The same, and what else lies there.
    pub(crate) fn object_names(&self) -> Result<Vec<String>> {
        fs::list(&self.root.join("objects"))
    }

    /// An object's size; 0 if it is not there.
    pub fn object_bytes(&self, digest: Digest) -> Result<u64> {
        Ok(fs::metadata_if_exists(&self.object(digest))?.map_or(0, |meta| meta.len()))
    }

    /// Removes an object. Whoever calls holds the cache alone.
    pub fn remove_object(&self, digest: Digest) -> Result<()> {
        fs::remove_if_exists(&self.object(digest))
    }

    /// Whether anything here shows that `key` was requested once.
    pub fn was_requested(&self, key: Key) -> Result<bool> {
        for path in [self.entry_path(key), self.recipe_path(key), self.log(key)] {
            if fs::metadata_if_exists(&path)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes a question with its answer, its logs and what was remembered of it: the answer first.
    pub fn forget(&self, key: Key) -> Result<()> {
        fs::remove_if_exists(&self.entry_path(key))?;
        fs::remove_if_exists(&self.recipe_path(key))?;
        self.forget_fallback(key)?;
        fs::remove_if_exists(&self.log(key))
    }

    /// Removes what was kept for a look only.
    pub fn forget_curiosities(&self) -> Result<()> {
        ["quarantine", "recomputed"]
            .into_iter()
            .try_for_each(|folder| fs::remove_folder_if_exists(&self.root.join(folder)))
    }

    /// Removes the index of entries and the snapshots of runs, which know those too that are gone; a run makes new ones.
    pub fn forget_memo(&self) -> Result<()> {
        fs::remove_if_exists(&self.root.join(INDEX))?;
        fs::remove_folder_if_exists(&self.root.join(UNCHANGED))
    }

    /// The ids of the runs whose history there is, oldest first.
    pub fn runs(&self) -> Result<Vec<String>> {
        let names = fs::list(&self.root.join("runs"))?;
        let mut ids: Vec<String> = names
            .iter()
            .filter_map(|name| name.strip_suffix(".jsonl").map(str::to_owned))
            .collect();
        ids.sort_by_key(|id| age(id));
        Ok(ids)
    }

    /// Begins the history of a run; gives its id too, `<seconds since 1970>-<number>`. It comes after all there are, even
    /// where the clock has been set back: the last run is the one that began last.
    pub fn begin_history(&self) -> Result<(String, File)> {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let by_clock = (now, u64::from(std::process::id()));
        let last = self.runs()?.last().and_then(|id| age(id));
        let after = last.and_then(|(seconds, number)| Some((seconds, number.checked_add(1)?)));
        let (seconds, mut number) = after.map_or(by_clock, |after| by_clock.max(after));
        loop {
            let id = format!("{seconds}-{number}");
            if let Some(history) = fs::create_new(&self.history(&id))? {
                return Ok((id, history));
            }
            // Another run began at the same moment.
            number = number.wrapping_add(1);
        }
    }

    /// Removes the history of run `id`.
    pub fn forget_run(&self, id: &str) -> Result<()> {
        fs::remove_if_exists(&self.history(id))
    }
}

/// What runs are ordered by, from their ids.
fn age(id: &str) -> Option<(u64, u64)> {
    let (seconds, number) = id.split_once('-')?;
    Some((seconds.parse().ok()?, number.parse().ok()?))
}

/// In `fallbacks/`.
#[derive(Serialize, Deserialize)]
struct Fallback {
    cause: String,
}

/// In `delivered/`.
#[derive(Serialize, Deserialize)]
struct Delivered {
    folder: String,
    files: Artifact,
}

enum Check {
    Sound,
    Gone,
    Bad,
}

/// Hashes a file of any size, on all cores where it is large.
pub fn digest_of_file(path: &Path) -> Result<Digest> {
    fs::hash(path)?.to_hex().parse().map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{TestSpace, overwrite, publish, recipe};

    fn swap(one: &Path, two: &Path) {
        let aside = one.with_extension("aside");
        for (from, to) in [(one, &*aside), (two, one), (&*aside, two)] {
            std::fs::rename(from, to).unwrap();
        }
    }

    fn modified(path: &Path) -> SystemTime {
        std::fs::metadata(path).unwrap().modified().unwrap()
    }

    #[test]
    fn what_was_published_is_found() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        assert_eq!(store.lookup(key).unwrap(), Lookup::Hit(entry.clone().into()));
        assert_eq!(fs::read(&store.object(entry.outputs["out"].digest)).unwrap(), b"bytes");
        let stored = Stored { digest: Digest::of(b"bytes"), bytes: 5, executable: false };
        assert_eq!(entry.outputs["out"], stored);
    }

    #[test]
    fn what_was_never_published_is_absent() {
        let TestSpace { store, .. } = &TestSpace::new();
        let key = store.record_recipe(&recipe("k")).unwrap();
        assert_eq!(store.lookup(key).unwrap(), Lookup::Absent);
        let nowhere = Store::at(Path::new("/nowhere/at/all"));
        assert_eq!(
            nowhere.lookup(key).unwrap(),
            Lookup::Absent,
            "a cache that is not there is an empty one"
        );
    }

    #[test]
    fn an_object_that_is_gone_is_missing() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        std::fs::remove_file(store.object(entry.outputs["out"].digest)).unwrap();
        assert_eq!(store.lookup(key).unwrap(), Lookup::Missing("out".into()));
    }

    #[test]
    fn a_damaged_object_stays_in_its_place_until_a_sound_one_replaces_it_even_by_two_at_once() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        let digest = entry.outputs["out"].digest;
        let made = [(); 2].map(|()| store.workspace().unwrap());
        for _ in 0..20 {
            overwrite(&store.object(digest), b"bytez");
            let left = std::sync::atomic::AtomicUsize::new(made.len());
            std::thread::scope(|scope| {
                for workspace in &made {
                    let (path, left) = (workspace.path().join("out"), &left);
                    fs::write(&path, b"bytes").unwrap();
                    scope.spawn(move || {
                        store.ingest(&path).unwrap();
                        left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                    });
                }
                while left.load(std::sync::atomic::Ordering::Relaxed) > 0 {
                    assert!(store.object(digest).exists(), "an entry implies its objects");
                }
            });
            assert!(matches!(store.lookup(key).unwrap(), Lookup::Hit(_)));
        }
    }

    #[test]
    fn an_object_that_was_changed_is_set_aside_and_can_be_made_again() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 5] = [
            ("edited", |path| overwrite(path, b"bytez")),
            ("truncated", |path| overwrite(path, b"byt")),
            ("emptied", |path| overwrite(path, b"")),
            ("truncated with its time kept", |path| {
                overwrite(path, b"byt");
                fs::seal(path, sealed_at(Digest::of(b"bytes"))).unwrap();
            }),
            ("replaced by a symbolic link to equal bytes", |path| {
                let elsewhere = path.with_extension("elsewhere");
                fs::rename(path, &elsewhere).unwrap();
                std::os::unix::fs::symlink(&elsewhere, path).unwrap();
            }),
        ];
        for (how, change) in changes {
            let TestSpace { store, .. } = &TestSpace::new();
            let (key, entry) = publish(store, "k", b"bytes");
            let digest = entry.outputs["out"].digest;
            change(&store.object(digest));
            assert_eq!(store.lookup(key).unwrap(), Lookup::Damaged("out".into()), "{how}");
            assert_eq!(
                store.lookup(key).unwrap(),
                Lookup::Damaged("out".into()),
                "{how}: looking changes nothing"
            );
            publish(store, "k", b"bytes");
            let aside = store.root.join("quarantine").join(digest.to_string());
            assert!(std::fs::symlink_metadata(aside).is_ok(), "{how}: it is kept for a look");
            assert!(matches!(store.lookup(key).unwrap(), Lookup::Hit(_)), "{how}");
        }
    }

    #[test]
    fn an_object_that_was_touched_is_sound_and_is_sealed_again() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        let path = store.object(entry.outputs["out"].digest);
        File::open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
        assert!(matches!(store.lookup(key).unwrap(), Lookup::Hit(_)));
        assert_eq!(modified(&path), sealed_at(Digest::of(b"bytes")));
    }

    #[test]
    fn objects_are_sealed_read_only() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (_, entry) = publish(store, "k", b"bytes");
        let path = store.object(entry.outputs["out"].digest);
        assert!(std::fs::metadata(&path).unwrap().permissions().readonly());
        assert_eq!(modified(&path), sealed_at(Digest::of(b"bytes")));
    }

    #[test]
    fn two_entries_that_are_swapped_count_as_absent_and_so_does_one_that_is_edited() {
        let bench = &TestSpace::new();
        for store in [bench.store.clone(), bench.store.clone().with_index()] {
            let ((one, _), (two, entry)) =
                (publish(&store, "one", b"1"), publish(&store, "two", b"2"));
            assert!(
                [one, two].iter().all(|key| matches!(store.lookup(*key).unwrap(), Lookup::Hit(_)))
            );
            swap(&store.entry_path(one), &store.entry_path(two));
            assert_eq!(
                [one, two].map(|key| store.lookup(key).unwrap()),
                [Lookup::Absent, Lookup::Absent]
            );
            let (_, other) = publish(&store, "one", b"1");
            let [from, to] = [other, entry].map(|entry| entry.outputs["out"].digest.to_string());
            let text = fs::read_text(&store.entry_path(one)).unwrap();
            fs::write(&store.entry_path(one), text.replace(&from, &to)).unwrap();
            assert_eq!(store.lookup(one).unwrap(), Lookup::Absent, "another valid digest");
        }
    }

    #[test]
    fn two_objects_of_one_size_that_are_swapped_are_noticed_by_a_lookup() {
        let TestSpace { store, .. } = &TestSpace::new();
        let ((one, a), (two, b)) = (publish(store, "one", b"1"), publish(store, "two", b"2"));
        let [a, b] = [a, b].map(|entry| store.object(entry.outputs["out"].digest));
        swap(&a, &b);
        assert_eq!(
            [one, two].map(|key| store.lookup(key).unwrap()),
            [0; 2].map(|_| Lookup::Damaged("out".into()))
        );
    }

    #[test]
    fn a_fallback_counts_for_its_own_recipe_alone() {
        let TestSpace { store, .. } = &TestSpace::new();
        let [one, two] = ["one", "two"].map(|kind| recipe(kind).key());
        store.record_fallback(one, "no mirror answered").unwrap();
        std::fs::copy(store.fallback_path(one), store.fallback_path(two)).unwrap();
        assert_eq!(store.fallback(two).unwrap(), None);
        assert_eq!(store.fallback(one).unwrap().as_deref(), Some("no mirror answered"));
    }

    #[test]
    fn what_was_laid_out_in_one_folder_is_not_taken_for_that_of_another() {
        let TestSpace { store, .. } = &TestSpace::new();
        let files: Artifact = [("report.md".to_owned(), Digest::of(b"text").into())].into();
        store.remember_delivered("reports/a", &files).unwrap();
        std::fs::copy(store.delivered_path("reports/a"), store.delivered_path("reports/b"))
            .unwrap();
        assert_eq!(
            (store.delivered("reports/a").unwrap(), store.delivered("reports/b").unwrap()),
            (files, Artifact::new())
        );
    }

    #[test]
    fn an_entry_that_cannot_be_read_counts_as_absent_and_can_be_made_again() {
        for garbage in [
            "",
            "{\"outputs\": {",
            "[]",
            "{\"outputs\": {\"out\": {\"digest\": \"../../x\", \"bytes\": 1}}}",
        ] {
            let TestSpace { store, .. } = &TestSpace::new();
            let (key, _) = publish(store, "k", b"bytes");
            fs::write(&store.entry_path(key), garbage).unwrap();
            assert_eq!(store.lookup(key).unwrap(), Lookup::Absent, "{garbage}");
            publish(store, "k", b"bytes");
            assert!(matches!(store.lookup(key).unwrap(), Lookup::Hit(_)), "{garbage}");
        }
    }

    #[test]
    fn an_entry_whose_outputs_lead_out_of_their_folder_counts_as_absent() {
        for name in ["", "/x", "..", "../x", "a/../../x", "./x", "a//x", "a/", "a\0"] {
            let TestSpace { store, .. } = &TestSpace::new();
            let (key, mut entry) = publish(store, "k", b"bytes");
            let stored = entry.outputs.remove("out").unwrap();
            entry.outputs.insert(name.to_owned(), stored);
            store.publish(key, &entry).unwrap();
            assert_eq!(store.lookup(key).unwrap(), Lookup::Absent, "{name}");
        }
        for folder in ["", "/", "x", "/x/", "../", "a/../../x/", "./x/", "a//", "a\0/"] {
            let TestSpace { store, .. } = &TestSpace::new();
            let (key, mut entry) = publish(store, "k", b"bytes");
            entry.empty_folders.insert(folder.to_owned());
            store.publish(key, &entry).unwrap();
            assert_eq!(store.lookup(key).unwrap(), Lookup::Absent, "{folder}");
        }
    }

    #[test]
    fn an_executable_file_and_one_that_is_not_share_their_object_which_is_not_executable() {
        let TestSpace { store, .. } = &TestSpace::new();
        let workspace = store.workspace().unwrap();
        for executable in [true, false, true] {
            let path = workspace.path().join("file");
            fs::write(&path, "bytes").unwrap();
            fs::set_executable(&path, executable).unwrap();
            let stored = store.ingest(&path).unwrap();
            assert_eq!(stored.executable, executable);
            let object = std::fs::metadata(store.object(stored.digest)).unwrap();
            assert!(!fs::is_executable(&object) && object.permissions().readonly());
        }
        assert_eq!(fs::list(&store.root.join("objects")).unwrap().len(), 1);
    }

    #[test]
    fn equal_bytes_are_stored_once_and_publishing_twice_is_harmless() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        let (other, again) = publish(store, "l", b"bytes");
        publish(store, "k", b"bytes");
        assert_eq!(entry.outputs, again.outputs);
        assert_eq!(fs::list(&store.root.join("objects")).unwrap().len(), 1);
        assert_eq!(store.lookup(key).unwrap(), Lookup::Hit(entry.into()));
        assert_eq!(store.lookup(other).unwrap(), Lookup::Hit(again.into()));
    }

    #[test]
    fn taking_a_file_in_mends_a_damaged_object_of_its_name() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (_, entry) = publish(store, "k", b"bytes");
        let path = store.object(entry.outputs["out"].digest);
        overwrite(&path, b"bytez");
        publish(store, "l", b"bytes");
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
    }

    #[test]
    fn a_recipe_comes_back_as_asked_and_a_changed_one_is_corruption() {
        let TestSpace { store, .. } = &TestSpace::new();
        let key = store.record_recipe(&recipe("k")).unwrap();
        assert_eq!(store.recipe(key).unwrap(), Some(recipe("k")));
        assert_eq!(store.recipe(recipe("other").key()).unwrap(), None);
        for damaged in [recipe("other").canonical().as_str(), "{", " ", "[]"] {
            fs::write(&store.recipe_path(key), damaged).unwrap();
            let error = store.recipe(key).unwrap_err();
            assert!(
                matches!(error.downcast_ref(), Some(Error::Corrupt { .. })),
                "{damaged}: {error}"
            );
            assert_eq!(store.recipes().unwrap(), [], "the others do not suffer from it");
        }
        store.record_recipe(&recipe("k")).unwrap();
        assert_eq!(store.recipe(key).unwrap(), Some(recipe("k")), "asking again mends it");
    }

    #[test]
    fn a_choice_is_remembered_until_it_is_forgotten() {
        let TestSpace { store, .. } = &TestSpace::new();
        let key = recipe("k").key();
        assert_eq!(store.fallback(key).unwrap(), None);
        store.record_fallback(key, "no mirror answered").unwrap();
        assert_eq!(store.fallback(key).unwrap().as_deref(), Some("no mirror answered"));
        assert_eq!(store.lookup(key).unwrap(), Lookup::Absent, "it answers nothing");
        store.forget_fallback(key).unwrap();
        store.forget_fallback(key).unwrap();
        assert_eq!(store.fallback(key).unwrap(), None);
    }
}
