//! Single requests to a remote: looking entries up, fetching objects, probing the store.

use super::address::Address;
use super::body::{Received, Sink, decode};
use super::failure::{Failure, is_cut};
use super::lock;
use crate::engine::cache::backend::{Fetched, Wanted};
use crate::engine::cache::entry::Entry;
use crate::engine::cache::process::ProcessId;
use crate::engine::envelope;
use crate::engine::key::{Digest, Key, Recipe};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{
    Error, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload,
};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::future::Future;
use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// The version of the layout, and the name of its folder.
const FORMAT: &str = "v1";

/// The content of `remote-cache.json`.
const MARKER: &str = "{\"format\":\"repro remote cache v1\"}\n";

/// The largest entry that is read.
const MAX_ENTRY: usize = 256 << 20;

/// The slowest transfer, in bytes per second.
const SLOWEST: u64 = 32 << 10;

/// The number of times that an object is fetched: a damaged transfer looks like a damaged object.
pub(super) const ATTEMPTS: usize = 2;

/// The bytes of all objects in memory, in MiB.
const MEMORY: usize = 96;

/// The file of an entry.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) entry: Entry,
    pub(super) recipe: Option<Recipe>,
}

/// An entry that was looked up.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) entry: Arc<Entry>,
    pub(super) recipe: Option<Arc<Recipe>>,
}

/// The state of an entry in the remote.
pub(super) enum Remembered {
    Present(Found),
    Absent(Instant),
}

/// A remote, as its tasks share it.
pub(super) struct Inner {
    pub(super) address: Address,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: Path,
    /// The longest time without any data.
    pub(super) timeout: Duration,
    pub(super) known: Mutex<HashMap<Key, Remembered>>,
    /// The objects that this process has sent.
    pub(super) sent: Mutex<HashSet<Digest>>,
    /// Problems with single entries, for the user.
    pub(super) notices: Mutex<Vec<String>>,
    /// Whether `remote-cache.json` exists.
    pub(super) exists: OnceCell<bool>,
    /// `remote-cache.json` was written by this process, or existed.
    pub(super) is_marked: OnceCell<()>,
    /// Whether the store can write a file only if there is none.
    pub(super) creates: OnceCell<bool>,
    pub(super) memory: Semaphore,
}

impl Inner {
    pub(super) fn new(
        address: &Address,
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        timeout: Duration,
    ) -> Inner {
        Inner {
            address: address.clone(),
            store,
            prefix,
            timeout,
            known: Mutex::default(),
            sent: Mutex::default(),
            notices: Mutex::default(),
            exists: OnceCell::new(),
            is_marked: OnceCell::new(),
            creates: OnceCell::new(),
            memory: Semaphore::new(MEMORY),
        }
    }

    /// The folder of all files.
    pub(super) fn root(&self) -> Path {
        self.prefix.clone().join(FORMAT)
    }

    pub(super) fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.root(), Path::join)
    }

    pub(super) fn object(&self, digest: Digest) -> Path {
        let digest = digest.to_string();
        self.path(&format!("objects/{}/{digest}", &digest[..2]))
    }

    pub(super) fn entry(&self, key: Key) -> Path {
        let key = key.to_string();
        self.path(&format!("entries/{}/{key}.json", &key[..2]))
    }

    pub(super) fn failed(&self, error: &Error) -> anyhow::Error {
        Failure::of(&self.address, error).into()
    }

    /// Waits for a request that transfers `bytes` bytes.
    pub(super) async fn within<T>(
        &self,
        bytes: u64,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>> {
        let limit = self.timeout + Duration::from_secs(bytes / SLOWEST);
        match timeout(limit, request).await {
            Ok(result) => Ok(result),
            Err(_) => Err(Failure::timeout(&self.address, limit).into()),
        }
    }

    /// The start of the response for a file; `None` if there is none.
    pub(super) async fn get(&self, path: &Path) -> Result<Option<GetResult>> {
        match self.within(0, self.store.get(path)).await? {
            Ok(response) => Ok(Some(response)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Passes a response to `sink`, chunk by chunk. Returns `false` if the connection was cut.
    pub(super) async fn receive(
        &self,
        response: GetResult,
        mut sink: Sink,
    ) -> Result<Option<Received>> {
        let local = "cannot write a fetched object";
        match response.payload {
            GetResultPayload::File(mut file, path) => {
                let read = move || -> Result<Received> {
                    let mut chunk = vec![0; 1 << 20];
                    loop {
                        let context = || format!("cannot read `{}`", path.display());
                        let count = file.read(&mut chunk).with_context(context)?;
                        if count == 0 || !sink.add(&chunk[..count]).context(local)? {
                            return sink.finish().context(local);
                        }
                    }
                };
                spawn_blocking(read).await?.map(Some)
            }
            GetResultPayload::Stream(mut chunks) => loop {
                let next = timeout(self.timeout, chunks.next()).await;
                match next.map_err(|_| Failure::timeout(&self.address, self.timeout))? {
                    Some(Ok(chunk)) if sink.add(&chunk).context(local)? => {}
                    Some(Ok(_)) | None => return sink.finish().context(local).map(Some),
                    Some(Err(error)) if is_cut(&error) => return Ok(None),
                    Some(Err(error)) => return Err(self.failed(&error)),
                }
            },
        }
    }

    /// A whole small file; `None` if there is none.
    pub(super) async fn read(&self, path: &Path) -> Result<Option<Bytes>> {
        for _ in 0..ATTEMPTS {
            let Some(response) = self.get(path).await? else { return Ok(None) };
            if response.meta.size > MAX_ENTRY as u64 {
                return Ok(Some(Bytes::new()));
            }
            let size = response.meta.size;
            match self.within(size, response.bytes()).await? {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if is_cut(&error) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Err(Failure::new(&self.address, "cuts connections").into())
    }

    pub(super) async fn put(
        &self,
        path: &Path,
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<Result<(), Error>> {
        let size = bytes.len() as u64;
        let put = self.store.put_opts(path, PutPayload::from_bytes(bytes), mode.into());
        Ok(self.within(size, put).await?.map(drop))
    }

    /// Whether something was published here.
    pub(super) async fn exists(&self) -> Result<bool> {
        let marker = || async {
            let Some(bytes) = self.read(&self.path("remote-cache.json")).await? else {
                let name = &self.address;
                lock(&self.notices).push(format!("the remote cache `{name}` has no results yet"));
                return Ok(false);
            };
            if bytes != MARKER {
                let reason = "has another format; is this version of `repro` older than the one \
                              that wrote it?";
                return Err(anyhow::Error::from(Failure::new(&self.address, reason)));
            }
            Ok(true)
        };
        Ok(*self.exists.get_or_try_init(marker).await?)
    }

    /// Writes `remote-cache.json` if it is missing.
    pub(super) async fn mark(&self) -> Result<()> {
        let mark = || async {
            let path = self.path("remote-cache.json");
            if self.read(&path).await?.is_some() {
                return self.exists().await.map(drop);
            }
            let put = self.put(&path, Bytes::from_static(MARKER.as_bytes()), PutMode::Overwrite);
            put.await?.map_err(|error| self.failed(&error))
        };
        self.is_marked.get_or_try_init(mark).await.copied()
    }

    /// Whether the store refuses to create a file that exists. Some servers ignore the condition,
    /// so this process tries it once, with a file of its own.
    pub(super) async fn creates(&self) -> Result<bool> {
        let probe = || async {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.map_or(0, |now| now.as_nanos());
            let path = self.path(&format!("probe/{}-{now}", ProcessId::this().tag()));
            let probe = Bytes::from_static(b"probe");
            match self.put(&path, probe.clone(), PutMode::Create).await? {
                Ok(()) => {}
                Err(error @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. })) => {
                    return Err(self.failed(&error));
                }
                // Some servers do not know the condition.
                Err(_) => return Ok(false),
            }
            let again = self.put(&path, probe, PutMode::Create).await?;
            // A key that may not delete leaves the file there.
            let _ = self.within(0, self.store.delete(&path)).await?;
            Ok(matches!(again, Err(Error::AlreadyExists { .. } | Error::Precondition { .. })))
        };
        Ok(*self.creates.get_or_try_init(probe).await?)
    }

    /// Looks an entry up. A damaged one is reported and counts as absent.
    pub(super) async fn find(&self, key: Key) -> Result<Option<Found>> {
        let path = self.entry(key);
        let found = match self.read(&path).await? {
            None => None,
            Some(body) => match parse(key, &body) {
                Ok(found) => Some(found),
                Err(reason) => {
                    let name = &self.address;
                    lock(&self.notices)
                        .push(format!("the entry `{key}` of the remote cache `{name}` {reason}"));
                    None
                }
            },
        };
        self.remember(key, found.as_ref());
        Ok(found)
    }

    pub(super) fn remember(&self, key: Key, found: Option<&Found>) {
        let state = match found {
            Some(found) => Remembered::Present(found.clone()),
            None => Remembered::Absent(Instant::now()),
        };
        lock(&self.known).insert(key, state);
    }

    pub(super) async fn download(&self, wanted: &Wanted) -> Result<Fetched> {
        let mut fault = String::new();
        for _ in 0..ATTEMPTS {
            let Some(response) = self.get(&self.object(wanted.digest)).await? else {
                return Ok(Fetched::Absent);
            };
            let to = &wanted.to;
            let file =
                File::create(to).with_context(|| format!("cannot create `{}`", to.display()))?;
            let sink = Sink::new(Some(file), wanted.bytes);
            match self.receive(response, sink).await? {
                Some(Received::Whole(digest)) if digest == wanted.digest => {
                    return Ok(Fetched::Written);
                }
                Some(Received::Whole(_)) => fault = "has bytes with another digest".to_owned(),
                Some(Received::Damaged(reason)) => fault = reason,
                None => fault = String::new(),
            }
        }
        if fault.is_empty() {
            return Err(Failure::new(&self.address, "cuts connections").into());
        }
        Ok(Fetched::Damaged(fault))
    }
}

/// The path of an entry in its envelope.
pub(super) fn name(key: Key) -> String {
    format!("entries/{key}.json")
}

/// The entry in a body; or why it cannot be used, as a predicate.
pub(super) fn parse(key: Key, body: &[u8]) -> Result<Found, String> {
    let text = decode(body, MAX_ENTRY)?;
    let record: Option<Record> = envelope::unwrap(&name(key), &text);
    let Record { entry, recipe } = record.ok_or("is damaged or belongs to another key")?;
    if recipe.as_ref().is_some_and(|recipe| recipe.key() != key) {
        return Err("has the recipe of another key".to_owned());
    }
    Ok(Found { entry: Arc::new(entry), recipe: recipe.map(Arc::new) })
}
