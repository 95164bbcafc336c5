//! What entries said when they were last read, in one file, so that an unchanged run need not open each of them again.
//!
//! Remembered is an entry together with what tells its file from what it was (`fs::Stat`), and only if an edit since would
//! show there. Who asks has looked at the file's metadata: an entry whose file has changed in any way is read again. The
//! memo is written whole, with its BLAKE3 in front; one that is torn, foreign or missing is an empty one, and costs time only.
//!
//! Knows no stage, and nothing of objects.

use super::entry::Entry;
use super::key::{Digest, Key};
use crate::fs::{self, Stat};
use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// What begins the file; the digest of what follows its line ends it.
const MAGIC: &str = "repro entries v2 ";

/// A new memo is written when it would hold so many per cent more than the last: writing costs as much as is saved.
const WORTH: usize = 2;

/// Entries by key.
#[derive(Debug, Default)]
pub(super) struct Memo {
    known: HashMap<Key, Known>,
    /// How many of them the file does not have.
    new: usize,
}

#[derive(Debug)]
struct Known {
    stat: Stat,
    entry: Arc<Entry>,
}

impl Memo {
    /// Reads the memo at `path`.
    pub(super) fn read(path: &Path) -> Memo {
        let known = fs::read_if_there(path).ok().flatten().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        Memo { known, new: 0 }
    }

    /// The entry of `key`, if its file is still what it was.
    pub(super) fn entry(&self, key: Key, stat: Stat) -> Option<Arc<Entry>> {
        self.known.get(&key).filter(|known| known.stat == stat).map(|known| Arc::clone(&known.entry))
    }

    /// Remembers what was read from a file, which was `stat` before and after.
    pub(super) fn learn(&mut self, key: Key, stat: Stat, entry: &Arc<Entry>) {
        if stat.is_settled(SystemTime::now()) {
            self.known.insert(key, Known { stat, entry: Arc::clone(entry) });
            self.new += 1;
        }
    }

    /// Writes the memo to `path`, if it has learnt enough.
    pub(super) fn write(&self, path: &Path, scratch: &Path) -> Result<()> {
        if self.new * 100 <= self.known.len() * WORTH {
            return Ok(());
        }
        let lines = self.known.iter().map(|(key, Known { stat, entry })| (key, stat, &**entry));
        let mut sorted: Vec<(&Key, &Stat, &Entry)> = lines.collect();
        sorted.sort_unstable_by_key(|(key, ..)| **key);
        let body = serde_json::to_string(&sorted).context("cannot write the memo of entries")?;
        let text = format!("{MAGIC}{}\n{body}", Digest::of(body.as_bytes()));
        fs::write_atomic(path, scratch, text.as_bytes())
    }
}

fn parse(bytes: &[u8]) -> Option<HashMap<Key, Known>> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let digest: Digest = std::str::from_utf8(&bytes[..end]).ok()?.strip_prefix(MAGIC)?.parse().ok()?;
    let body = &bytes[end + 1..];
    let lines: Vec<(Key, Stat, Entry)> = (Digest::of(body) == digest).then(|| serde_json::from_slice(body).ok())??;
    Some(lines.into_iter().map(|(key, stat, entry)| (key, Known { stat, entry: Arc::new(entry) })).collect())
}
