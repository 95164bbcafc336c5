//! A remote cache: results in a bucket, in a shared folder or on a web server, for many machines.
//!
//! ```text
//! <prefix>/v1/remote-cache.json           written first, so that an empty remote is recognized
//! <prefix>/v1/objects/ab/<digest>         an object, perhaps compressed (`body.rs`)
//! <prefix>/v1/entries/ab/<key>.json       an entry with its recipe, in an envelope
//! <prefix>/v1/probe/<process>-<time>      exists for a moment, see [`Inner::creates`]
//! ```
//!
//! An object is written at its digest, so that writing it twice has no effect. An entry is written
//! after its objects, and only if there is none, where the store can do that in one request. Where
//! it cannot, the entry is read before and after. An equal entry is left alone; another one is kept
//! and reported.
//!
//! Nothing that a remote returns is trusted: an object must have its digest, an entry its checksum
//! and the key of its recipe. Only the link from the key to the digests of the outputs cannot be
//! checked without computing it, so anyone with write access to a remote can change results.
//! `run --locked` compares them with the lock file.
//!
//! Transfers run on two threads of this module; the rest of the engine is not asynchronous.

mod address;
mod body;
mod failure;
mod inventory;
mod requests;
mod upload;

pub use address::Address;
pub use failure::Failure;
pub use inventory::{Stale, Verified};

use super::backend::{Backend, Fetched, Lookup, Publication, Published, Wanted};
use crate::engine::key::{Key, Recipe};
use anyhow::{Context as _, Result};
use object_store::ObjectStore;
use object_store::path::Path;
use requests::{Inner, Remembered};
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// The number of entries that are read at once.
const LOOKUPS: usize = 32;

/// The number of results, and of objects of each result, that are transferred at once.
const TRANSFERS: usize = 16;

/// How long a key without an entry is not looked up again: another machine may publish it.
const ABSENT: Duration = Duration::from_secs(60);

/// A remote cache.
pub struct Remote {
    runtime: Runtime,
    inner: Arc<Inner>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Remote({})", self.inner.address)
    }
}

/// Locks a mutex. A panic of another thread leaves its value intact.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Remote {
    /// The remote at `address`. Makes no connection yet. A request fails after `timeout` without
    /// any data. With `create`, a missing folder is created.
    pub fn open(address: &Address, timeout: Duration, create: bool) -> Result<Remote> {
        if let Some(folder) = address.folder() {
            if create {
                crate::fs::create_dir_all(folder)?;
            }
            if !folder.is_dir() {
                return Err(Failure::new(address, "does not exist").into());
            }
        }
        // Fails only if another provider was chosen, which then is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (store, prefix) =
            address.open(timeout).map_err(|error| Failure::of_settings(address, &error))?;
        Remote::with_store(address, store, prefix, timeout)
    }

    fn with_store(
        address: &Address,
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        timeout: Duration,
    ) -> Result<Remote> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("remote")
            .enable_all()
            .build()
            .context("cannot start the threads of the remote cache")?;
        let inner = Inner::new(address, store, prefix, timeout);
        Ok(Remote { runtime, inner: Arc::new(inner) })
    }

    /// Runs `task` for each item, at most `limit` at once. Calls `done` in this thread, until it
    /// breaks or a task fails.
    fn each<T, R, F>(
        &self,
        items: Vec<T>,
        limit: usize,
        task: impl Fn(Arc<Inner>, T) -> F + Send + 'static,
        mut done: impl FnMut(R) -> ControlFlow<()>,
    ) -> Result<()>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<R>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel();
        let inner = Arc::clone(&self.inner);
        self.runtime.spawn(async move {
            let mut items = items.into_iter();
            // Its tasks end when it is dropped.
            let mut tasks = JoinSet::new();
            loop {
                while tasks.len() < limit
                    && let Some(item) = items.next()
                {
                    tasks.spawn(task(Arc::clone(&inner), item));
                }
                let Some(joined) = tasks.join_next().await else { break };
                let result = joined.unwrap_or_else(|error| Err(error.into()));
                if sender.send(result).is_err() {
                    break;
                }
            }
        });
        for result in receiver {
            if done(result?).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Backend for Remote {
    fn name(&self) -> String {
        self.inner.address.to_string()
    }

    fn notices(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.inner.notices))
    }

    fn lookup(&self, key: Key) -> Result<Lookup> {
        self.look_ahead(&[key])?;
        Ok(match lock(&self.inner.known).get(&key) {
            Some(Remembered::Present(found)) => Lookup::Hit(Arc::clone(&found.entry)),
            _ => Lookup::Absent,
        })
    }

    fn look_ahead(&self, keys: &[Key]) -> Result<()> {
        let mut unknown = keys.to_vec();
        {
            let known = lock(&self.inner.known);
            unknown.retain(|key| match known.get(key) {
                Some(Remembered::Present(_)) => false,
                Some(Remembered::Absent(since)) => since.elapsed() >= ABSENT,
                None => true,
            });
        }
        if unknown.is_empty() {
            return Ok(());
        }
        // Asked first and alone, so that a remote that is down costs the time of one request.
        if !self.runtime.block_on(self.inner.exists())? {
            return Ok(());
        }
        let task = |inner: Arc<Inner>, key| async move { inner.find(key).await };
        self.each(unknown, LOOKUPS, task, |_| ControlFlow::Continue(()))
    }

    fn recipe(&self, key: Key) -> Result<Option<Arc<Recipe>>> {
        Ok(match lock(&self.inner.known).get(&key) {
            Some(Remembered::Present(found)) => found.recipe.clone(),
            _ => None,
        })
    }

    fn fetch(
        &self,
        wanted: &[Wanted],
        received: &mut dyn FnMut(&Wanted, Fetched) -> ControlFlow<()>,
    ) -> Result<()> {
        let task = |inner: Arc<Inner>, wanted: Wanted| async move {
            let fetched = inner.download(&wanted).await?;
            Ok((wanted, fetched))
        };
        self.each(wanted.to_vec(), TRANSFERS, task, |(wanted, fetched)| received(&wanted, fetched))
    }

    fn publish(
        &self,
        results: &[Publication],
        sent: &mut dyn FnMut(&Publication, Published),
    ) -> Result<()> {
        if results.is_empty() {
            return Ok(());
        }
        if self.inner.address.is_read_only() {
            return Err(Failure::new(&self.inner.address, "is read-only").into());
        }
        self.runtime.block_on(self.inner.mark())?;
        let task = |inner: Arc<Inner>, result: Publication| async move {
            let published = Inner::send(&inner, &result).await?;
            Ok((result, published))
        };
        self.each(results.to_vec(), TRANSFERS, task, |(result, published)| {
            sent(&result, published);
            ControlFlow::Continue(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cache::entry::Entry;
    use crate::engine::cache::store::Store;
    use crate::engine::key::Digest;
    use crate::engine::testing::{TestSpace, publish};
    use crate::fs;
    use body::PART;
    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;
    use std::collections::BTreeSet;
    use std::time::SystemTime;

    /// A remote in memory, and its store.
    fn memory() -> (Arc<Remote>, Arc<InMemory>) {
        let store = Arc::new(InMemory::new());
        let address = "s3://bucket".parse().unwrap();
        let (shared, prefix) = (Arc::clone(&store), Path::default());
        let remote = Remote::with_store(&address, shared, prefix, Duration::from_secs(5));
        (Arc::new(remote.unwrap()), store)
    }

    /// Another process that uses the same store.
    fn another(store: &Arc<InMemory>) -> Arc<Remote> {
        let address = "s3://bucket".parse().unwrap();
        let (store, prefix) = (Arc::clone(store), Path::default());
        Arc::new(Remote::with_store(&address, store, prefix, Duration::from_secs(5)).unwrap())
    }

    fn using(space: &TestSpace, remote: &Arc<Remote>) -> Store {
        space.store.clone().with_remote(remote.clone(), true)
    }

    /// Pushes a result with these bytes from a new space. Returns its key, its entry, and whether
    /// the remote kept it.
    fn push(remote: &Arc<Remote>, bytes: &[u8]) -> (Key, Entry, bool) {
        let space = TestSpace::new();
        let (key, entry) = publish(&space.store, "k", bytes);
        let pushed = using(&space, remote).push(&[key], &mut |_| {}).unwrap();
        (key, entry, pushed.refused.is_empty())
    }

    fn overwrite(remote: &Remote, path: &Path, bytes: &[u8]) {
        let store = Arc::clone(&remote.inner.store);
        let put = store.put(path, bytes.to_vec().into());
        remote.runtime.block_on(put).unwrap();
    }

    #[test]
    fn small_and_large_results_are_pulled_as_they_were_pushed() {
        let mut noise = vec![0; 2 * PART + 1];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for bytes in [b"bytes".to_vec(), Vec::new(), b"1.5,2.5\n".repeat(4 << 20), noise] {
            let (remote, store) = memory();
            let (key, entry, _) = push(&remote, &bytes);
            let space = TestSpace::new();
            let here = using(&space, &another(&store));
            let Lookup::Remote(found) = here.lookup(key).unwrap() else { panic!("not found") };
            assert_eq!(*found, entry);
            let pulled = here.pull(&[(key, found)], &mut |_| {}).unwrap();
            assert_eq!((pulled.results, pulled.bytes), (1, bytes.len() as u64));
            assert_eq!(here.read_object(Digest::of(&bytes)).unwrap(), bytes);
            assert!(matches!(here.lookup_local(key).unwrap(), Lookup::Hit(_)));
            assert!(here.recipe(key).unwrap().is_some(), "the recipe comes with the entry");
        }
    }

    #[test]
    fn an_equal_writer_changes_nothing_and_an_unequal_one_is_reported_with_and_without_conditions()
    {
        for creates in [None, Some(false)] {
            let (first, store) = memory();
            let (second, third) = (another(&store), another(&store));
            for remote in [&first, &second, &third] {
                creates.map(|creates| remote.inner.creates.set(creates));
            }
            let (key, entry, kept) = push(&first, b"one");
            assert!(kept);
            assert!(push(&second, b"one").2);
            assert!(!push(&third, b"two").2, "{creates:?}");
            let Lookup::Hit(found) = another(&store).lookup(key).unwrap() else { panic!() };
            assert_eq!(*found, entry);
        }
    }

    #[test]
    fn a_writer_that_looked_before_another_one_wrote_does_not_replace_its_entry() {
        let (first, store) = memory();
        let second = another(&store);
        first.runtime.block_on(first.inner.mark()).unwrap();
        let space = TestSpace::new();
        let (key, entry) = publish(&space.store, "k", b"two");
        assert_eq!(second.lookup(key).unwrap(), Lookup::Absent);
        push(&first, b"one");
        let result = Publication {
            key,
            entry: Arc::new(entry),
            recipe: None,
            objects: Vec::new(),
            replace: false,
        };
        let published = second.runtime.block_on(second.inner.send_entry(&result)).unwrap();
        assert_eq!(published, Published::Differs);
    }

    #[test]
    fn a_truncated_or_poisoned_object_is_refused_and_replaced_by_the_next_push() {
        for damage in [&b"by"[..], b"bytez", b"", b"bytes and more"] {
            let (remote, store) = memory();
            let (key, entry, _) = push(&remote, b"bytes");
            overwrite(&remote, &remote.inner.object(entry.outputs["out"].digest), damage);
            assert_eq!(remote.verify(&mut |_, _| {}).unwrap().problems.len(), 2);
            let space = TestSpace::new();
            let here = using(&space, &another(&store));
            let Lookup::Remote(found) = here.lookup(key).unwrap() else { panic!("not found") };
            assert_eq!(here.pull(&[(key, found)], &mut |_| {}).unwrap().refused, [key]);
            assert_eq!(here.notices().len(), 1);
            assert_eq!(here.lookup(key).unwrap(), Lookup::Absent);
            publish(&here, "k", b"bytes");
            assert_eq!(here.push(&[key], &mut |_| {}).unwrap().results, 1);
            assert_eq!(another(&store).verify(&mut |_, _| {}).unwrap().problems, [""; 0]);
        }
    }

    #[test]
    fn an_entry_of_another_key_is_refused() {
        let (remote, store) = memory();
        let (key, ..) = push(&remote, b"bytes");
        let other = crate::engine::testing::recipe("other").key();
        let entry = remote.inner.entry(key);
        let body = remote.runtime.block_on(remote.inner.read(&entry)).unwrap().unwrap();
        overwrite(&remote, &remote.inner.entry(other), &body);
        let reader = another(&store);
        assert_eq!(reader.lookup(other).unwrap(), Lookup::Absent);
        assert_eq!(
            reader.notices(),
            [format!(
                "the entry `{other}` of the remote cache `s3://bucket` is damaged or belongs to \
                 another key"
            )]
        );
    }

    #[test]
    fn garbage_collection_removes_what_no_key_needs_and_is_not_young() {
        let (remote, _) = memory();
        let (key, ..) = push(&remote, b"bytes");
        let none = BTreeSet::new();
        let young = remote.stale(&none, Duration::from_secs(3600)).unwrap();
        assert_eq!((young.kept, young.entries, young.objects), (1, 0, 0));
        let needed = remote.stale(&[key].into(), Duration::ZERO).unwrap();
        assert_eq!((needed.kept, needed.entries, needed.objects), (1, 0, 0));
        let stale = remote.stale(&none, Duration::ZERO).unwrap();
        assert_eq!((stale.kept, stale.entries, stale.objects), (0, 1, 1));
        remote.remove_stale(&stale).unwrap();
        let verified = remote.verify(&mut |_, _| {}).unwrap();
        assert_eq!((verified.entries, verified.objects), (0, 0));
    }

    #[test]
    fn garbage_collection_keeps_the_objects_of_results_published_meanwhile() {
        let (remote, store) = memory();
        push(&remote, b"bytes");
        let stale = remote.stale(&BTreeSet::new(), Duration::ZERO).unwrap();
        let space = TestSpace::new();
        let (key, _) = publish(&space.store, "another", b"bytes");
        using(&space, &another(&store)).push(&[key], &mut |_| {}).unwrap();
        remote.remove_stale(&stale).unwrap();
        let verified = remote.verify(&mut |_, _| {}).unwrap();
        assert_eq!((verified.entries, verified.objects), (1, 1));
        assert_eq!(verified.problems, Vec::<String>::new());
    }

    #[test]
    fn garbage_collection_keeps_files_from_the_future() {
        let dir = tempfile::tempdir().unwrap();
        let address: Address = format!("file://{}", dir.path().display()).parse().unwrap();
        let remote = Arc::new(Remote::open(&address, Duration::from_secs(5), true).unwrap());
        let (key, entry, _) = push(&remote, b"bytes");
        let digest = entry.outputs["out"].digest;
        for path in [remote.inner.object(digest), remote.inner.entry(key)] {
            let file = std::fs::File::options().write(true).open(dir.path().join(path.as_ref()));
            file.unwrap().set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
        }
        let stale = remote.stale(&BTreeSet::new(), Duration::from_secs(3600)).unwrap();
        assert_eq!((stale.kept, stale.entries, stale.objects), (1, 0, 0));
    }

    #[test]
    fn a_folder_is_a_remote_and_a_missing_one_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let address: Address = format!("file://{}/shared", dir.path().display()).parse().unwrap();
        let open = |create| Remote::open(&address, Duration::from_secs(5), create);
        let error = open(false).unwrap_err();
        assert!(error.downcast_ref::<Failure>().is_some(), "{error}");
        let remote = Arc::new(open(true).unwrap());
        let (key, entry, _) = push(&remote, b"bytes");
        let digest = entry.outputs["out"].digest.to_string();
        let object = dir.path().join("shared/v1/objects").join(&digest[..2]).join(&digest);
        assert_eq!(fs::read(&object).unwrap(), b"bytes");
        assert!(matches!(open(false).unwrap().lookup(key).unwrap(), Lookup::Hit(_)));
        assert!(!push(&Arc::new(open(false).unwrap()), b"other").2);
    }

    #[test]
    fn an_object_that_was_changed_on_disk_is_not_published() {
        let (remote, _) = memory();
        let space = TestSpace::new();
        let (key, entry) = publish(&space.store, "k", b"bytes");
        let object = (space.store.object(Digest::of(b"other")), entry.outputs["out"].digest);
        fs::write(&object.0, "other").unwrap();
        let result = Publication {
            key,
            entry: Arc::new(entry),
            recipe: None,
            objects: vec![object.clone()],
            replace: false,
        };
        let mut outcomes = Vec::new();
        remote.publish(&[result], &mut |_, published| outcomes.push(published)).unwrap();
        assert_eq!(outcomes, [Published::Changed(object.1)]);
        assert_eq!(remote.lookup(key).unwrap(), Lookup::Absent);
    }
}
