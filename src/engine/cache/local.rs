//! Results in a folder on disk: `entries/` and `objects/`.
//!
//! An object is *sealed* if it has the size in its entry and the modification time derived from its
//! digest. A lookup trusts sealed objects: an edit changes the time, and different objects have
//! different times. An object whose seal is broken is hashed, and then is either sealed again or
//! damaged.

use super::backend::{Backend, Fetched, Lookup, Publication, Published, Wanted};
use super::entry::{Entry, Stored, sealed_at};
use super::index::{Index, lock};
use super::process::ProcessId;
use crate::engine::envelope;
use crate::engine::key::{Digest, Key};
use crate::fs::{self, Stat, Witness};
use anyhow::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// The version of the layout, and the name of its folder.
const FORMAT: &str = "v2";

/// The state of the file of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// The bytes have the digest.
    Intact,
    /// There is no file.
    Missing,
    /// The bytes have another digest, or the file is not regular.
    Damaged,
}

impl ObjectState {
    /// Whether the object can be read.
    pub fn is_intact(self) -> bool {
        self == ObjectState::Intact
    }
}

/// The time at which a result is synced to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before it is published.
    Immediate,
    /// By a later call of [`Store::sync`](super::store::Store::sync).
    Deferred,
}

impl SyncPolicy {
    /// The policy for a job that took `seconds`, in a process that runs many jobs: losing a second
    /// of work is acceptable.
    pub fn for_job(seconds: f64) -> SyncPolicy {
        if seconds < 1.0 { SyncPolicy::Deferred } else { SyncPolicy::Immediate }
    }
}

/// A folder of entries and objects.
#[derive(Clone, Debug)]
pub struct LocalFolder {
    pub(super) root: PathBuf,
    /// Set for many lookups.
    pub(super) index: Option<Arc<Mutex<Index>>>,
    pub(super) sync: SyncPolicy,
}

impl Backend for LocalFolder {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn lookup(&self, key: Key) -> Result<Lookup> {
        LocalFolder::lookup(self, key)
    }

    fn fetch(
        &self,
        wanted: &[Wanted],
        received: &mut dyn FnMut(&Wanted, Fetched) -> ControlFlow<()>,
    ) -> Result<()> {
        for object in wanted {
            let path = self.object(object.digest);
            let fetched = match fs::metadata_if_exists(&path)? {
                None => Fetched::Absent,
                Some(_) => fs::copy(&path, &object.to).map(|()| Fetched::Written)?,
            };
            if received(object, fetched).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn publish(
        &self,
        results: &[Publication],
        sent: &mut dyn FnMut(&Publication, Published),
    ) -> Result<()> {
        for result in results {
            let mut published = match self.entry(result.key)? {
                Some(found) if found.artifact() != result.entry.artifact() => Published::Differs,
                Some(_) => Published::Unchanged,
                None => Published::Added(0),
            };
            if result.replace || published == Published::Added(0) {
                published = Published::Added(0);
                for (path, digest) in &result.objects {
                    if !self.add_object(path, *digest)? {
                        published = Published::Changed(*digest);
                    }
                }
                if published == Published::Added(0) {
                    LocalFolder::publish(self, result.key, &result.entry)?;
                }
            }
            sent(result, published);
        }
        Ok(())
    }
}

impl LocalFolder {
    /// The results under `folder`, which may not exist yet.
    pub fn at(folder: &Path) -> LocalFolder {
        LocalFolder { root: folder.join(FORMAT), index: None, sync: SyncPolicy::Immediate }
    }

    /// Looks a key up.
    pub(super) fn lookup(&self, key: Key) -> Result<Lookup> {
        let Some(entry) = self.entry(key)? else { return Ok(Lookup::Absent) };
        for (name, stored) in &entry.outputs {
            match self.check(*stored)? {
                ObjectState::Intact => {}
                ObjectState::Missing => return Ok(Lookup::Missing(name.clone())),
                ObjectState::Damaged => return Ok(Lookup::Damaged(name.clone())),
            }
        }
        Ok(Lookup::Hit(entry))
    }

    /// Adds a copy of the file at `path` as the object `digest`, unless the object exists. Returns
    /// whether the file has that digest.
    pub(super) fn add_object(&self, path: &Path, digest: Digest) -> Result<bool> {
        if self.state(digest)?.is_intact() {
            return Ok(true);
        }
        let workspace = fs::temporary_folder(&self.scratch()?)?;
        let copy = workspace.path().join("copy");
        fs::copy(path, &copy)?;
        // Hashes the bytes that are stored: if the file has changed, the result is an object that
        // no entry names.
        Ok(self.ingest(&copy)?.digest == digest)
    }

    /// Publishes an entry whose objects have been added.
    pub(super) fn publish(&self, key: Key, entry: &Entry) -> Result<()> {
        let path = self.entry_path(key);
        if self.sync == SyncPolicy::Immediate {
            // An entry from another backend may have no recipe.
            let _ = fs::sync(&self.recipe_path(key));
            return self.write_enveloped(&path, entry);
        }
        fs::replace(&path, &self.scratch()?, &envelope::wrap(&self.relative(&path), entry)?)
    }

    /// The path of an object.
    pub(super) fn object(&self, digest: Digest) -> PathBuf {
        self.root.join("objects").join(digest.to_string())
    }

    /// The path of an entry.
    pub(super) fn entry_path(&self, key: Key) -> PathBuf {
        self.root.join("entries").join(format!("{key}.json"))
    }

    /// The path of a recipe.
    pub(super) fn recipe_path(&self, key: Key) -> PathBuf {
        self.root.join("recipes").join(format!("{key}.json"))
    }

    /// The path of this process's scratch folder, which may not exist.
    pub(super) fn scratch_path(&self) -> PathBuf {
        self.root.join("tmp").join(ProcessId::this().tag())
    }

    /// This process's scratch folder, on the same disk.
    pub(super) fn scratch(&self) -> Result<PathBuf> {
        let folder = self.scratch_path();
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// The path of a file relative to the folder, as in its envelope.
    pub(super) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// Reads a file with an envelope; `None` if the file is missing, damaged or belongs to another
    /// path.
    pub(super) fn read_enveloped<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let bytes = fs::read_if_regular(path)?;
        Ok(bytes.and_then(|bytes| envelope::unwrap(&self.relative(path), &bytes)))
    }

    /// Replaces a file with an envelope, atomically and durably.
    pub(super) fn write_enveloped(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        fs::write_atomic(path, &self.scratch()?, &envelope::wrap(&self.relative(path), value)?)
    }

    /// The entry of `key`, whether or not its objects exist; `None` if it is damaged or belongs to
    /// another key, so that the recipe is computed again.
    pub(super) fn entry(&self, key: Key) -> Result<Option<Arc<Entry>>> {
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
                index.insert(key, &path, stat, &entry);
            }
        }
        Ok(Some(entry))
    }

    /// The entry of `key` with the digest of its file.
    pub(super) fn entry_with_digest(&self, key: Key) -> Result<Option<(Entry, Digest)>> {
        let path = self.entry_path(key);
        let Some(bytes) = fs::read_if_regular(&path)? else { return Ok(None) };
        let entry = envelope::unwrap(&self.relative(&path), &bytes);
        Ok(entry.map(|entry| (entry, Digest::of(&bytes))))
    }

    /// Whether the file of the entry of `key` has the digest `entry`, and its `objects` are intact.
    /// A file with the metadata `known` is not read; `known` is set for the next call otherwise.
    pub(super) fn has(
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
            let bytes = fs::read_if_regular(&path)?;
            if bytes.is_none_or(|bytes| Digest::of(&bytes) != entry) {
                return Ok(false);
            }
            *known = match before.filter(|stat| witness.trusts(&path, stat, now)) {
                Some(before) => stat()?.filter(|after| *after == before),
                None => None,
            };
        }
        for stored in objects {
            if !self.check(*stored)?.is_intact() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks at an object's metadata, and hashes the object only if its seal is broken.
    fn check(&self, stored: Stored) -> Result<ObjectState> {
        let path = self.object(stored.digest);
        let Some(meta) = fs::metadata_if_exists(&path)? else { return Ok(ObjectState::Missing) };
        let sealed = meta.modified().is_ok_and(|at| at == sealed_at(stored.digest));
        if meta.is_file() && sealed && meta.len() == stored.bytes {
            return Ok(ObjectState::Intact);
        }
        // Synced before the bytes are read: once a page is on disk, a write through a memory map
        // changes the time (`fs::Witness`).
        let synced = fs::sync(&path).is_ok();
        if !self.is_intact(stored.digest)? {
            return Ok(ObjectState::Damaged);
        }
        let modified = |meta: &std::fs::Metadata| meta.modified().ok();
        let unchanged =
            fs::metadata_if_exists(&path)?.is_some_and(|now| modified(&now) == modified(&meta));
        if synced && unchanged {
            // The bytes are intact, as after a copy or `touch`. Sealing the object saves hashing it
            // at the next lookup; without the permission to seal, it is hashed each time.
            let _ = fs::seal(&path, sealed_at(stored.digest));
        }
        Ok(ObjectState::Intact)
    }

    /// The state of an object whose size is not known, as a lookup would see it.
    pub(super) fn state(&self, digest: Digest) -> Result<ObjectState> {
        self.check(Stored { digest, bytes: self.object_bytes(digest)?, executable: false })
    }

    /// Hashes an object. Returns whether it is a regular file with the right digest.
    pub(super) fn is_intact(&self, digest: Digest) -> Result<bool> {
        let path = self.object(digest);
        let is_file = fs::metadata_if_exists(&path)?.is_some_and(|meta| meta.is_file());
        Ok(is_file && Digest::of_file(&path)? == digest)
    }

    /// The size of an object; 0 if it does not exist.
    pub(super) fn object_bytes(&self, digest: Digest) -> Result<u64> {
        Ok(fs::metadata_if_exists(&self.object(digest))?.map_or(0, |meta| meta.len()))
    }

    /// Moves the file at `path` to the objects. No other process may have it open or mapped.
    pub(super) fn ingest(&self, path: &Path) -> Result<Stored> {
        let digest = Digest::of_file(path)?;
        let meta = fs::metadata_if_exists(path)?;
        let bytes = meta.as_ref().map_or(0, std::fs::Metadata::len);
        let executable = meta.as_ref().is_some_and(fs::is_executable);
        let stored = Stored { digest, bytes, executable };
        let object = self.object(digest);
        match self.check(stored)? {
            ObjectState::Intact => return Ok(stored),
            ObjectState::Damaged if object.is_dir() => self.move_to_quarantine(digest)?,
            // The damaged object is linked, not moved, and the rename below replaces it: another
            // process may have replaced it meanwhile, and no entry may be without its object.
            ObjectState::Damaged => _ = fs::link(&object, &self.quarantine_path(digest)?),
            ObjectState::Missing => {}
        }
        if self.sync == SyncPolicy::Immediate {
            fs::sync(path)?;
        }
        fs::seal(path, sealed_at(digest))?;
        fs::rename(path, &object)?;
        Ok(stored)
    }

    /// Moves a damaged object to the quarantine, for inspection.
    pub(super) fn move_to_quarantine(&self, digest: Digest) -> Result<()> {
        fs::rename(&self.object(digest), &self.quarantine_path(digest)?)
    }

    /// The path of an object in the quarantine. Removes an earlier file at this path.
    fn quarantine_path(&self, digest: Digest) -> Result<PathBuf> {
        let folder = self.root.join("quarantine");
        fs::create_dir_all(&folder)?;
        let path = folder.join(digest.to_string());
        // A rename can replace neither a folder with a file nor a file with a folder.
        match path.is_dir() {
            true => fs::remove_folder_if_exists(&path)?,
            false => fs::remove_if_exists(&path)?,
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;
    use crate::engine::testing::{TestSpace, overwrite, publish, recipe};
    use std::fs::File;

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
    fn a_published_result_is_a_hit() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        assert_eq!(store.lookup(key).unwrap(), Lookup::Hit(entry.clone().into()));
        assert_eq!(fs::read(&store.object(entry.outputs["out"].digest)).unwrap(), b"bytes");
        let stored = Stored { digest: Digest::of(b"bytes"), bytes: 5, executable: false };
        assert_eq!(entry.outputs["out"], stored);
    }

    #[test]
    fn a_recorded_recipe_without_a_result_is_absent() {
        let TestSpace { store, .. } = &TestSpace::new();
        let key = store.record_recipe(&recipe("k")).unwrap();
        assert_eq!(store.lookup(key).unwrap(), Lookup::Absent);
        let nowhere = Store::at(Path::new("/nowhere/at/all"));
        assert_eq!(
            nowhere.lookup(key).unwrap(),
            Lookup::Absent,
            "a cache that does not exist is empty"
        );
    }

    #[test]
    fn a_removed_object_is_missing() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        std::fs::remove_file(store.object(entry.outputs["out"].digest)).unwrap();
        assert_eq!(store.lookup(key).unwrap(), Lookup::Missing("out".into()));
    }

    #[test]
    fn an_entry_keeps_its_damaged_object_until_a_rename_replaces_it() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        let digest = entry.outputs["out"].digest;
        let workspaces = [(); 2].map(|()| store.workspace().unwrap());
        for _ in 0..20 {
            overwrite(&store.object(digest), b"bytez");
            let left = std::sync::atomic::AtomicUsize::new(workspaces.len());
            std::thread::scope(|scope| {
                for workspace in &workspaces {
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
    fn a_changed_object_is_quarantined_when_it_is_published_again() {
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
                "{how}: a lookup changes nothing"
            );
            publish(store, "k", b"bytes");
            let quarantined = store.path("quarantine").join(digest.to_string());
            assert!(std::fs::symlink_metadata(quarantined).is_ok(), "{how}");
            assert!(matches!(store.lookup(key).unwrap(), Lookup::Hit(_)), "{how}");
        }
    }

    #[test]
    fn a_touched_object_is_intact_and_is_sealed_again() {
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
    fn swapped_and_edited_entries_are_absent() {
        let space = &TestSpace::new();
        for store in [space.store.clone(), space.store.clone().with_index()] {
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
    fn swapped_objects_of_one_size_are_damaged() {
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
    fn a_damaged_entry_is_absent_and_can_be_published_again() {
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
    fn an_entry_with_outputs_outside_of_their_folder_is_absent() {
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
    fn an_executable_output_shares_its_object_with_one_that_is_not() {
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
        assert_eq!(fs::list(&store.path("objects")).unwrap().len(), 1);
    }

    #[test]
    fn equal_bytes_are_stored_once_and_publishing_twice_is_harmless() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        let (other, again) = publish(store, "l", b"bytes");
        publish(store, "k", b"bytes");
        assert_eq!(entry.outputs, again.outputs);
        assert_eq!(fs::list(&store.path("objects")).unwrap().len(), 1);
        assert_eq!(store.lookup(key).unwrap(), Lookup::Hit(entry.into()));
        assert_eq!(store.lookup(other).unwrap(), Lookup::Hit(again.into()));
    }

    #[test]
    fn ingesting_a_file_replaces_a_damaged_object() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (_, entry) = publish(store, "k", b"bytes");
        let path = store.object(entry.outputs["out"].digest);
        overwrite(&path, b"bytez");
        publish(store, "l", b"bytes");
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
    }
}
