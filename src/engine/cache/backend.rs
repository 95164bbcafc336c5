//! The interface of a store of results: lookup, fetch, publication.
//!
//! [`LocalFolder`](super::local::LocalFolder) is the first implementation, and
//! [`Remote`](super::remote::Remote) the second one.
//! [`Store::with_remote`](super::store::Store::with_remote) adds a remote to a
//! [`Store`](super::store::Store), which then looks keys up locally first. `transfer.rs` copies
//! results between the two.
//!
//! An implementation must be safe to call from several threads and processes at once, and must not
//! show an entry before all its objects.

use super::entry::Entry;
use crate::engine::key::{Digest, Key, Recipe};
use anyhow::Result;
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
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

/// An object to fetch.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its digest.
    pub digest: Digest,
    /// The number of its bytes, if known. No more bytes are written.
    pub bytes: Option<u64>,
    /// The new file to write.
    pub to: PathBuf,
}

/// The outcome of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The file was written. The caller checks its digest.
    Written,
    /// The backend does not have the object.
    Absent,
    /// The object cannot be used, and the reason, as a predicate: `is truncated`.
    Damaged(String),
}

/// A result to publish.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its key.
    pub key: Key,
    /// Its entry.
    pub entry: Arc<Entry>,
    /// Its recipe, if it is known.
    pub recipe: Option<Arc<Recipe>>,
    /// The file of each object.
    pub objects: Vec<(PathBuf, Digest)>,
    /// Whether to replace an entry and objects that exist, because they are damaged.
    pub replace: bool,
}

/// The outcome of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// The result was added. The number of bytes that were sent.
    Added(u64),
    /// The backend had the result.
    Unchanged,
    /// The backend has another result under the key, and keeps it.
    Differs,
    /// This object was changed on disk, so the result was not published.
    Changed(Digest),
}

/// A store of entries by key, and of objects by digest.
pub trait Backend: fmt::Debug + Send + Sync {
    /// Its address, for messages.
    fn name(&self) -> String;

    /// Problems with single entries since the last call, one sentence each.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// Looks a key up, without transferring an object.
    fn lookup(&self, key: Key) -> Result<Lookup>;

    /// Looks many keys up at once, so that the lookups that follow take no time.
    fn look_ahead(&self, _keys: &[Key]) -> Result<()> {
        Ok(())
    }

    /// The recipe of an entry that was looked up, if the backend has it.
    fn recipe(&self, _key: Key) -> Result<Option<Arc<Recipe>>> {
        Ok(None)
    }

    /// Fetches objects, in any order. Calls `received` for each in the calling thread, until it
    /// breaks.
    fn fetch(
        &self,
        wanted: &[Wanted],
        received: &mut dyn FnMut(&Wanted, Fetched) -> ControlFlow<()>,
    ) -> Result<()>;

    /// Adds the objects of each result and then publishes its entry, in any order. Calls `sent` for
    /// each in the calling thread.
    fn publish(
        &self,
        results: &[Publication],
        sent: &mut dyn FnMut(&Publication, Published),
    ) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::super::local::LocalFolder;
    use super::super::remote::Failure;
    use super::*;
    use crate::engine::testing::{Ran, TestSpace, overwrite, publish};
    use crate::fs;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, MutexGuard};

    /// A backend in memory that records which objects were fetched.
    #[derive(Debug, Default)]
    struct Memory {
        entries: Mutex<BTreeMap<Key, Entry>>,
        objects: Mutex<BTreeMap<Digest, Vec<u8>>>,
        fetched: Mutex<Vec<Digest>>,
        is_down: AtomicBool,
    }

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    impl Memory {
        fn fetched(&self) -> Vec<Digest> {
            lock(&self.fetched).clone()
        }

        fn check(&self) -> Result<()> {
            match self.is_down.load(Ordering::Relaxed) {
                true => Err(Failure { message: "it is down".into(), hint: "wait".into() }.into()),
                false => Ok(()),
            }
        }
    }

    impl Backend for Memory {
        fn name(&self) -> String {
            "memory".to_owned()
        }

        fn lookup(&self, key: Key) -> Result<Lookup> {
            self.check()?;
            let entry = lock(&self.entries).get(&key).cloned();
            Ok(entry.map_or(Lookup::Absent, |entry| Lookup::Hit(entry.into())))
        }

        fn fetch(
            &self,
            wanted: &[Wanted],
            received: &mut dyn FnMut(&Wanted, Fetched) -> ControlFlow<()>,
        ) -> Result<()> {
            self.check()?;
            for object in wanted {
                let bytes = lock(&self.objects).get(&object.digest).cloned();
                let fetched = match bytes {
                    Some(bytes) => {
                        lock(&self.fetched).push(object.digest);
                        fs::write(&object.to, bytes).map(|()| Fetched::Written)?
                    }
                    None => Fetched::Absent,
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
            self.check()?;
            for result in results {
                for (path, digest) in &result.objects {
                    lock(&self.objects).insert(*digest, fs::read(path)?);
                }
                lock(&self.entries).insert(result.key, Entry::clone(&result.entry));
                sent(result, Published::Added(1));
            }
            Ok(())
        }
    }

    /// A test space with an empty local folder and the remote `remote`.
    fn space_with(remote: Arc<dyn Backend>) -> TestSpace {
        let mut space = TestSpace::new();
        space.store = space.store.clone().with_remote(remote, false);
        space
    }

    /// Pushes everything that a run has computed.
    fn push(space: &TestSpace, ran: &Ran) {
        space.store.push(&ran.submitted, &mut |_| {}).unwrap();
    }

    const YAML: &str = "stages:\n  a: { source: { text: one } }\n  b: { pair: { left: a } }\n";

    #[test]
    fn a_result_is_published_locally_and_is_in_the_remote_after_a_push() {
        let remote = Arc::new(Memory::default());
        let space = space_with(remote.clone());
        let (key, entry) = publish(&space.store, "k", b"bytes");
        assert_eq!(remote.lookup(key).unwrap(), Lookup::Absent);
        let pushed = space.store.push(&[key], &mut |_| {}).unwrap();
        assert_eq!((pushed.results, pushed.bytes), (1, 1));
        assert_eq!(remote.lookup(key).unwrap(), Lookup::Hit(entry.into()));
    }

    #[test]
    fn a_plan_fetches_nothing_and_a_run_pulls_every_result_once() {
        let remote = Arc::new(Memory::default());
        let first = space_with(remote.clone());
        let ran = first.run(YAML);
        push(&first, &ran);
        let second = space_with(remote.clone());
        let test_run = second.test_run(YAML);
        assert_eq!(test_run.plan_status().remote.len(), 2);
        assert_eq!(remote.fetched(), []);
        assert_eq!(second.run(YAML).submitted, [], "every result is in the remote");
        assert_eq!(remote.fetched().len(), 2);
        for key in &ran.submitted {
            assert!(matches!(second.store.lookup_local(*key).unwrap(), Lookup::Hit(_)));
        }
        assert_eq!(second.run(YAML).submitted, []);
        assert_eq!(remote.fetched().len(), 2, "an object is fetched once");
    }

    #[test]
    fn a_node_whose_new_inputs_are_in_the_remote_is_pulled_during_the_run() {
        let remote = Arc::new(Memory::default());
        let first = space_with(remote.clone());
        let ran = first.run(YAML);
        push(&first, &ran);
        lock(&remote.entries).remove(&ran.submitted[0]);
        let second = space_with(remote.clone());
        assert_eq!(second.run(YAML).finished(), ["a"], "b is in the remote");
        assert_eq!(remote.fetched().len(), 1);
    }

    #[test]
    fn a_result_with_a_missing_or_poisoned_object_is_refused_named_and_computed() {
        for (how, fault) in
            [("missing", "is missing"), ("poisoned", "has bytes with another digest")]
        {
            let remote = Arc::new(Memory::default());
            let first = space_with(remote.clone());
            let ran = first.run(YAML);
            push(&first, &ran);
            let digest = ran.artifacts["a"]["text"].digest().unwrap();
            match how {
                "missing" => _ = lock(&remote.objects).remove(&digest),
                _ => _ = lock(&remote.objects).insert(digest, b"poison".to_vec()),
            }
            let second = space_with(remote.clone());
            let again = second.run(YAML);
            assert_eq!(again.finished(), ["a"], "{how}");
            assert_eq!(again.artifacts, ran.artifacts);
            let notice = format!(
                "the object `{digest}` of the remote cache `memory` {fault}; refused `{}`",
                ran.submitted[0]
            );
            assert_eq!(again.messages("remote:"), [notice.as_str()]);
            push(&second, &again);
            let third = space_with(remote.clone());
            assert_eq!(third.run(YAML).submitted, [], "{how}: the push has replaced it");
        }
    }

    #[test]
    fn a_run_continues_without_a_remote_that_is_down_and_says_so_once() {
        let remote = Arc::new(Memory::default());
        let space = space_with(remote.clone());
        remote.is_down.store(true, Ordering::Relaxed);
        let ran = space.run(YAML);
        assert_eq!(ran.finished(), ["a", "b"]);
        assert_eq!(ran.messages("remote:"), ["it is down; continuing without it"]);
        let store = TestSpace::new().store.with_remote(remote, true);
        let error = store.lookup(ran.submitted[0]).unwrap_err();
        assert_eq!(format!("{error:#}"), "the remote cache is required: it is down");
    }

    #[test]
    fn a_result_that_is_missing_or_damaged_locally_is_pulled() {
        let remote = Arc::new(Memory::default());
        let space = space_with(remote.clone());
        let (key, entry) = publish(&space.store, "k", b"bytes");
        space.store.push(&[key], &mut |_| {}).unwrap();
        let digest = entry.outputs["out"].digest;
        for (how, damage) in [
            ("missing", (|path| std::fs::remove_file(path).unwrap()) as fn(&Path)),
            ("damaged", |path| overwrite(path, b"bytez")),
        ] {
            damage(&space.store.object(digest));
            let Lookup::Remote(entry) = space.store.lookup(key).unwrap() else { panic!("{how}") };
            let pulled = space.store.pull(&[(key, entry)], &mut |_| {}).unwrap();
            assert_eq!((pulled.results, pulled.bytes), (1, 5), "{how}");
            assert_eq!(space.store.read_object(digest).unwrap(), b"bytes", "{how}");
            assert!(matches!(space.store.lookup(key).unwrap(), Lookup::Hit(_)), "{how}");
        }
    }

    #[test]
    fn a_second_folder_can_be_the_remote() {
        let shared = TestSpace::new();
        let folder = || Arc::new(LocalFolder::at(&shared.path().join("cache")));
        let (one, two) = (space_with(folder()), space_with(folder()));
        let ran = one.run(YAML);
        push(&one, &ran);
        assert_eq!(two.run(YAML).submitted, []);
        let objects: BTreeSet<Digest> = shared.store.all_objects().unwrap().into_iter().collect();
        assert_eq!(two.store.all_objects().unwrap().into_iter().collect::<BTreeSet<_>>(), objects);
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
