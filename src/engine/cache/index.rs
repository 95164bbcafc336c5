//! The index of entries: the content of all entries in one file, so that a run with nothing to do
//! does not open each entry.
//!
//! The index contains an entry with the metadata of its file (`fs::Stat`), if every later edit
//! would change the metadata ([`Witness`]). A lookup compares the metadata, and reads an entry
//! again if its file has changed. The index is written as a whole, after its BLAKE3. A damaged or
//! missing index counts as empty, and only costs time.
//!
//! Knows no stages and no objects.

use super::entry::Entry;
use crate::engine::key::{Digest, Key};
use crate::fs::{self, Stat, Witness};
use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::fs::Metadata;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The file of the index.
pub(super) const INDEX: &str = "entries.index";

/// The start of the file. The first line ends with the digest of the following lines.
const MAGIC: &str = "repro entries v2 ";

/// The index is rewritten if more than this percentage of its entries is new: writing takes about
/// as much time as an index saves.
const MIN_NEW_PERCENT: usize = 2;

/// Entries by key.
#[derive(Debug, Default)]
pub(crate) struct Index {
    known: HashMap<Key, Known>,
    /// The number of entries that are not in the file.
    new: usize,
    witness: Witness,
}

#[derive(Debug)]
struct Known {
    stat: Stat,
    entry: Arc<Entry>,
}

impl Index {
    /// Reads the index at `path`.
    pub(super) fn read(path: &Path) -> Index {
        let bytes = fs::read_if_exists(path).ok().flatten();
        let known = bytes.and_then(|bytes| parse(&bytes)).unwrap_or_default();
        Index { known, new: 0, witness: Witness::at(path.parent().unwrap_or(path)) }
    }

    /// The metadata by which the file of an entry is recognized.
    pub(super) fn stat(&self, path: &Path, meta: &Metadata) -> Option<Stat> {
        self.witness.stat(path, meta)
    }

    /// The entry of `key`, if its file still has this metadata.
    pub(super) fn entry(&self, key: Key, stat: Stat) -> Option<Arc<Entry>> {
        let known = self.known.get(&key).filter(|known| known.stat == stat);
        known.map(|known| Arc::clone(&known.entry))
    }

    /// Adds the entry in the file at `path`, which had this metadata before and after it was read.
    pub(super) fn insert(&mut self, key: Key, path: &Path, stat: Stat, entry: &Arc<Entry>) {
        if self.witness.trusts(path, &stat, SystemTime::now()) {
            self.known.insert(key, Known { stat, entry: Arc::clone(entry) });
            self.new += 1;
        }
    }

    /// Writes the index to `path`, if enough of it is new.
    pub(super) fn write(&self, path: &Path, scratch: &Path) -> Result<()> {
        if self.new * 100 <= self.known.len() * MIN_NEW_PERCENT {
            return Ok(());
        }
        let lines = self.known.iter().map(|(key, Known { stat, entry })| (key, stat, &**entry));
        let mut sorted: Vec<(&Key, &Stat, &Entry)> = lines.collect();
        sorted.sort_unstable_by_key(|(key, ..)| **key);
        let body = serde_json::to_string(&sorted).context("cannot write the index of entries")?;
        let text = format!("{MAGIC}{}\n{body}", Digest::of(body.as_bytes()));
        fs::write_atomic(path, scratch, text.as_bytes())
    }
}

/// Locks the index. A panic of another thread leaves it intact.
pub(super) fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(bytes: &[u8]) -> Option<HashMap<Key, Known>> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let first = std::str::from_utf8(&bytes[..end]).ok()?;
    let (digest, body): (Digest, _) = (first.strip_prefix(MAGIC)?.parse().ok()?, &bytes[end + 1..]);
    if Digest::of(body) != digest {
        return None;
    }
    let lines: Vec<(Key, Stat, Entry)> = serde_json::from_slice(body).ok()?;
    let known = |(key, stat, entry)| (key, Known { stat, entry: Arc::new(entry) });
    Some(lines.into_iter().map(known).collect())
}
