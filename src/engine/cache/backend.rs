//! The interface of a store of results: lookup, fetch, publication.
//!
//! [`LocalFolder`](super::local::LocalFolder) is the first implementation.
//! [`Store::with_remote`](super::store::Store::with_remote) adds a second one, such as a bucket or
//! an HTTP server, to a [`Store`](super::store::Store). The store then looks keys up locally first,
//! fetches a remote object when it is read, and publishes to both.
//!
//! An implementation must be safe to call from several threads and processes at once, and must not
//! show an entry before all its objects.

use super::entry::Entry;
use crate::engine::key::{Digest, Key};
use anyhow::Result;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The outcome of a lookup.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// The result and all its objects exist.
    Hit(Arc<Entry>),
    /// The result exists, but some of its objects are only in the remote, and are fetched when they
    /// are read. Only a store with a remote returns this.
    Remote(Arc<Entry>),
    /// There is no result.
    Absent,
    /// The object of this output of the result is missing.
    Missing(String),
    /// The object of this output of the result is damaged.
    Damaged(String),
}

impl Lookup {
    /// The entry, if the result can be used, locally or from the remote.
    pub fn usable(self) -> Option<Arc<Entry>> {
        match self {
            Lookup::Hit(entry) | Lookup::Remote(entry) => Some(entry),
            Lookup::Absent | Lookup::Missing(_) | Lookup::Damaged(_) => None,
        }
    }
}

/// A store of entries by key, and of objects by digest.
pub trait Backend: fmt::Debug + Send + Sync {
    /// Looks a key up, without transferring an object.
    fn lookup(&self, key: Key) -> Result<Lookup>;

    /// Writes an object to the new file `to`. Returns whether the backend has the object. The
    /// caller checks the digest.
    fn fetch(&self, digest: Digest, to: &Path) -> Result<bool>;

    /// Adds a copy of the file at `path` as the object `digest`, unless the backend has it. Returns
    /// whether the file has that digest.
    fn add_object(&self, path: &Path, digest: Digest) -> Result<bool>;

    /// Publishes an entry, after its objects have been added.
    fn publish(&self, key: Key, entry: &Entry) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::super::local::LocalFolder;
    use super::*;
    use crate::engine::key::Content;
    use crate::engine::testing::{TestSpace, overwrite, publish};
    use crate::fs;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::{Mutex, MutexGuard};

    /// A backend in memory that records which objects were fetched.
    #[derive(Debug, Default)]
    struct Memory {
        entries: Mutex<BTreeMap<Key, Entry>>,
        objects: Mutex<BTreeMap<Digest, Vec<u8>>>,
        fetched: Mutex<Vec<Digest>>,
    }

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    impl Memory {
        fn fetched(&self) -> Vec<Digest> {
            lock(&self.fetched).clone()
        }
    }

    impl Backend for Memory {
        fn lookup(&self, key: Key) -> Result<Lookup> {
            let Some(entry) = lock(&self.entries).get(&key).cloned() else {
                return Ok(Lookup::Absent);
            };
            let objects = lock(&self.objects);
            let missing =
                entry.outputs.iter().find(|(_, stored)| !objects.contains_key(&stored.digest));
            Ok(match missing {
                Some((name, _)) => Lookup::Missing(name.clone()),
                None => Lookup::Hit(Arc::new(entry)),
            })
        }

        fn fetch(&self, digest: Digest, to: &Path) -> Result<bool> {
            let Some(bytes) = lock(&self.objects).get(&digest).cloned() else { return Ok(false) };
            lock(&self.fetched).push(digest);
            fs::write(to, bytes).map(|()| true)
        }

        fn add_object(&self, path: &Path, digest: Digest) -> Result<bool> {
            let bytes = fs::read(path)?;
            let matches = Digest::of(&bytes) == digest;
            lock(&self.objects).insert(Digest::of(&bytes), bytes);
            Ok(matches)
        }

        fn publish(&self, key: Key, entry: &Entry) -> Result<()> {
            lock(&self.entries).insert(key, entry.clone());
            Ok(())
        }
    }

    /// A test space with an empty local folder and the remote `remote`.
    fn space_with(remote: Arc<dyn Backend>) -> TestSpace {
        let mut space = TestSpace::new();
        space.store = space.store.clone().with_remote(remote);
        space
    }

    const YAML: &str = "stages:\n  a: { source: { text: one } }\n  b: { pair: { left: a } }\n";

    #[test]
    fn a_published_result_is_in_the_local_folder_and_in_the_remote() {
        let remote = Arc::new(Memory::default());
        let space = space_with(remote.clone());
        let (key, entry) = publish(&space.store, "k", b"bytes");
        assert_eq!(space.store.lookup(key).unwrap(), Lookup::Hit(entry.clone().into()));
        assert_eq!(remote.lookup(key).unwrap(), Lookup::Hit(entry.into()));
        assert_eq!(remote.fetched(), []);
    }

    #[test]
    fn a_plan_fetches_nothing_and_a_run_fetches_the_inputs_that_it_places() {
        let remote = Arc::new(Memory::default());
        let first = space_with(remote.clone());
        let ran = first.run(YAML);
        let second = space_with(remote.clone());
        let test_run = second.test_run(YAML);
        assert!(
            ran.submitted
                .iter()
                .all(|key| { matches!(test_run.store.lookup(*key).unwrap(), Lookup::Remote(_)) })
        );
        test_run.plan_status();
        assert_eq!(second.run(YAML).submitted, [], "every result is in the remote");
        assert_eq!(remote.fetched(), [], "a result that no job reads stays there");
        let extended = format!("{YAML}  c: {{ pair: {{ left: b }} }}\n");
        assert_eq!(second.run(&extended).finished(), ["c"]);
        let input: Vec<Digest> = ran.artifacts["b"].values().filter_map(Content::digest).collect();
        assert_eq!(remote.fetched(), input);
        assert_eq!(second.run(&extended).submitted, [], "the new result is local");
        assert_eq!(remote.fetched(), input, "an object is fetched once");
    }

    #[test]
    fn an_object_that_is_missing_or_damaged_locally_is_fetched_from_the_remote() {
        let remote = Arc::new(Memory::default());
        let space = space_with(remote.clone());
        let (key, entry) = publish(&space.store, "k", b"bytes");
        let digest = entry.outputs["out"].digest;
        for (how, damage) in [
            ("missing", (|path| std::fs::remove_file(path).unwrap()) as fn(&Path)),
            ("damaged", |path| overwrite(path, b"bytez")),
        ] {
            damage(&space.store.object(digest));
            assert!(matches!(space.store.lookup(key).unwrap(), Lookup::Remote(_)), "{how}");
            assert!(space.store.fetch(digest).unwrap().is_intact(), "{how}");
            assert_eq!(space.store.read_object(digest).unwrap(), b"bytes", "{how}");
            assert!(matches!(space.store.lookup(key).unwrap(), Lookup::Hit(_)), "{how}");
        }
    }

    #[test]
    fn bytes_of_the_remote_that_do_not_have_the_digest_are_an_error() {
        let remote = Arc::new(Memory::default());
        let space = space_with(remote.clone());
        let digest = Digest::of(b"bytes");
        lock(&remote.objects).insert(digest, b"bytez".to_vec());
        let error = space.store.fetch(digest).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("the remote cache returned other bytes for the object `{digest}`")
        );
        assert!(!space.store.object(digest).exists());
    }

    #[test]
    fn a_second_folder_can_be_the_remote() {
        let shared = TestSpace::new();
        let folder = || Arc::new(LocalFolder::at(&shared.path().join("cache")));
        let (one, two) = (space_with(folder()), space_with(folder()));
        let ran = one.run(YAML);
        assert_eq!(two.run(YAML).submitted, []);
        let objects: BTreeSet<Digest> = shared.store.all_objects().unwrap().into_iter().collect();
        let published = ran
            .artifacts
            .values()
            .flat_map(|artifact| artifact.values().filter_map(Content::digest));
        assert_eq!(objects, published.collect());
        assert_eq!(two.store.all_objects().unwrap(), []);
        let digest = *objects.first().unwrap();
        assert!(two.store.fetch(digest).unwrap().is_intact());
        assert_eq!(two.store.all_objects().unwrap(), [digest]);
    }

    #[test]
    fn without_a_remote_no_lookup_returns_remote() {
        let space = TestSpace::new();
        let (key, entry) = publish(&space.store, "k", b"bytes");
        let object = space.store.object(entry.outputs["out"].digest);
        std::fs::remove_file(&object).unwrap();
        assert_eq!(space.store.lookup(key).unwrap(), Lookup::Missing("out".into()));
        fs::write(&object, "bytez").unwrap();
        assert_eq!(space.store.lookup(key).unwrap(), Lookup::Damaged("out".into()));
    }
}
