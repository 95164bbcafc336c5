//! Publication of results in a remote: objects, then the entry.

use super::body::{PART, Parts, encode};
use super::requests::{Found, Inner, Record, Remembered, name};
use super::{TRANSFERS, lock};
use crate::engine::cache::backend::{Publication, Published};
use crate::engine::cache::entry::Entry;
use crate::engine::envelope;
use crate::engine::key::Digest;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _, PutMode, PutPayload};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

/// The number of parts of an object that are sent at once.
const PARTS: usize = 3;

/// The unit of [`Inner::memory`]: a MiB.
const UNIT: u64 = 1 << 20;

/// Objects of up to this size are sent without looking for them first.
const SMALL: u64 = 64 << 10;

impl Inner {
    pub(super) async fn send(inner: &Arc<Inner>, result: &Publication) -> Result<Published> {
        if !result.replace {
            let found = match lock(&inner.known).get(&result.key) {
                Some(Remembered::Present(found)) => Some(found.clone()),
                _ => None,
            };
            let found = match found {
                Some(found) => Some(found),
                None => inner.find(result.key).await?,
            };
            if let Some(found) = found {
                return Ok(compare(&found.entry, &result.entry));
            }
        }
        let send = |(path, digest): &(PathBuf, Digest)| {
            let (inner, path, digest) = (Arc::clone(inner), path.clone(), *digest);
            let replace = result.replace;
            async move {
                let sent = inner.send_object(path, digest, replace).await?;
                Ok::<_, anyhow::Error>((digest, sent))
            }
        };
        let mut bytes = 0;
        let mut objects = stream::iter(&result.objects).map(send).buffer_unordered(TRANSFERS);
        while let Some((digest, sent)) = objects.try_next().await? {
            match sent {
                Some(sent) => bytes += sent,
                None => return Ok(Published::Changed(digest)),
            }
        }
        let published = inner.send_entry(result).await?;
        Ok(if published == Published::Added(0) { Published::Added(bytes) } else { published })
    }

    pub(super) async fn send_entry(&self, result: &Publication) -> Result<Published> {
        let Publication { key, entry, recipe, replace, .. } = result;
        let record = Record { entry: Entry::clone(entry), recipe: recipe.as_deref().cloned() };
        let body = encode(envelope::wrap(&name(*key), &record)?);
        let path = self.entry(*key);
        let creates = !replace && self.creates().await?;
        let mode = if creates { PutMode::Create } else { PutMode::Overwrite };
        let found = Found { entry: Arc::clone(entry), recipe: recipe.clone() };
        match self.put(&path, body.clone(), mode).await? {
            Ok(()) => {}
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                if let Some(other) = self.find(*key).await? {
                    return Ok(compare(&other.entry, entry));
                }
                // The entry is damaged.
                let put = self.put(&path, body, PutMode::Overwrite).await?;
                put.map_err(|error| self.failed(&error))?;
            }
            Err(error) => return Err(self.failed(&error)),
        }
        if !creates && !replace {
            // Another process may have written the entry at the same time.
            if let Some(other) = self.find(*key).await?
                && compare(&other.entry, entry) == Published::Differs
            {
                return Ok(Published::Differs);
            }
        }
        self.remember(*key, Some(&found));
        Ok(Published::Added(0))
    }

    /// Sends an object, unless the remote has it. Returns the number of bytes that were sent;
    /// `None` if the file does not have the digest.
    async fn send_object(
        &self,
        file: PathBuf,
        digest: Digest,
        replace: bool,
    ) -> Result<Option<u64>> {
        if !replace && lock(&self.sent).contains(&digest) {
            return Ok(Some(0));
        }
        let path = self.object(digest);
        let bytes = crate::fs::metadata_if_exists(&file)?.map_or(0, |meta| meta.len());
        if !replace && bytes > SMALL {
            match self.within(0, self.store.head(&path)).await? {
                Ok(_) => {
                    lock(&self.sent).insert(digest);
                    return Ok(Some(0));
                }
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        let in_memory = bytes.min((PART * (PARTS + 1)) as u64).div_ceil(UNIT).max(1);
        let units = u32::try_from(in_memory).unwrap_or(1);
        let _memory = self.memory.acquire_many(units).await?;
        let sent = if bytes > PART as u64 {
            self.send_parts(&path, file, digest).await?
        } else {
            let read = move || -> Result<Option<Bytes>> {
                let bytes = crate::fs::read(&file)?;
                Ok((Digest::of(&bytes) == digest).then(|| encode(bytes)))
            };
            let Some(body) = spawn_blocking(read).await?? else { return Ok(None) };
            let size = body.len() as u64;
            let put = self.put(&path, body, PutMode::Overwrite).await?;
            put.map_err(|error| self.failed(&error))?;
            Some(size)
        };
        if sent.is_some() {
            lock(&self.sent).insert(digest);
        }
        Ok(sent)
    }

    /// Sends a large object in parts.
    async fn send_parts(&self, path: &Path, file: PathBuf, digest: Digest) -> Result<Option<u64>> {
        let cannot_read = format!("cannot read `{}`", file.display());
        let mut parts = spawn_blocking(move || Parts::open(&file)).await??;
        let upload = self.within(0, self.store.put_multipart(path)).await?;
        let mut upload = upload.map_err(|error| self.failed(&error))?;
        let mut size = 0;
        let mut requests: JoinSet<Result<(), Error>> = JoinSet::new();
        let sent = async {
            loop {
                let (same, part) = spawn_blocking(move || {
                    let part = parts.next();
                    (parts, part)
                })
                .await?;
                parts = same;
                let part = part.with_context(|| cannot_read.clone())?;
                while !requests.is_empty() && (part.is_none() || requests.len() >= PARTS) {
                    let limit = PART as u64 * PARTS as u64;
                    let joined = async { Ok(requests.join_next().await) };
                    if let Ok(Some(done)) = self.within(limit, joined).await? {
                        done?.map_err(|error| self.failed(&error))?;
                    }
                }
                let Some(part) = part else { return Ok(parts.digest()) };
                size += part.len() as u64;
                requests.spawn(upload.put_part(PutPayload::from_bytes(part)));
            }
        };
        let sent: Result<Digest> = sent.await;
        if !matches!(sent, Ok(found) if found == digest) {
            requests.shutdown().await;
            // What is left costs space until the bucket's rules remove it.
            let _ = timeout(self.timeout, upload.abort()).await;
            return sent.map(|_| None);
        }
        let done = self.within(0, upload.complete()).await?;
        done.map_err(|error| self.failed(&error))?;
        Ok(Some(size))
    }
}

/// The outcome of publishing `entry` where there is `other`.
fn compare(other: &Entry, entry: &Entry) -> Published {
    if other.artifact() == entry.artifact() { Published::Unchanged } else { Published::Differs }
}
