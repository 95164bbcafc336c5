//! What entries said when they were last read, in one file, so that an unchanged run need not open each of them again.
//!
//! Remembered is an entry together with what tells its file from what it was (`fs::Stat`), and only if an edit since would
//! show there ([`Witness`]). Who asks has looked at the file's metadata: an entry whose file has changed in any way is read again. The
//! index is written whole, with its BLAKE3 in front; one that is torn, foreign or missing is an empty one, and costs time only.
//!
//! Knows no stage, and nothing of objects.

use super::entry::Entry;
use crate::engine::key::{Digest, Key};
use crate::fs::{self, Stat, Witness};
use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::fs::Metadata;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// What begins the file; the digest of what follows its line ends it.
const MAGIC: &str = "repro entries v2 ";

/// A new index is written when it would hold so many per cent more than the last: writing costs as much as is saved.
const WORTH: usize = 2;

/// Entries by key.
#[derive(Debug, Default)]
pub(crate) struct Index {
    known: HashMap<Key, Known>,
    /// How many of them the file does not have.
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
    pub(crate) fn read(path: &Path) -> Index {
        let known = fs::read_if_exists(path)
            .ok()
            .flatten()
            .and_then(|bytes| parse(&bytes))
            .unwrap_or_default();
        Index { known, new: 0, witness: Witness::at(path.parent().unwrap_or(path)) }
    }

    /// What tells the file of an entry from what it was.
    pub(crate) fn stat(&self, path: &Path, meta: &Metadata) -> Option<Stat> {
        self.witness.stat(path, meta)
    }

    /// The entry of `key`, if its file is still what it was.
    pub(crate) fn entry(&self, key: Key, stat: Stat) -> Option<Arc<Entry>> {
        self.known
            .get(&key)
            .filter(|known| known.stat == stat)
            .map(|known| Arc::clone(&known.entry))
    }

    /// Remembers what was read from the file at `path`, which was `stat` before and after.
    pub(crate) fn learn(&mut self, key: Key, path: &Path, stat: Stat, entry: &Arc<Entry>) {
        if self.witness.trusts(path, &stat, SystemTime::now()) {
            self.known.insert(key, Known { stat, entry: Arc::clone(entry) });
            self.new += 1;
        }
    }

    /// Writes the index to `path`, if it has learnt enough.
    pub(crate) fn write(&self, path: &Path, scratch: &Path) -> Result<()> {
        if self.new * 100 <= self.known.len() * WORTH {
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

fn parse(bytes: &[u8]) -> Option<HashMap<Key, Known>> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let digest: Digest =
        std::str::from_utf8(&bytes[..end]).ok()?.strip_prefix(MAGIC)?.parse().ok()?;
    let body = &bytes[end + 1..];
    let lines: Vec<(Key, Stat, Entry)> =
        (Digest::of(body) == digest).then(|| serde_json::from_slice(body).ok())??;
    Some(
        lines
            .into_iter()
            .map(|(key, stat, entry)| (key, Known { stat, entry: Arc::new(entry) }))
            .collect(),
    )
}
