//! An answer, as the cache writes it down.

use super::key::{Artifact, Digest};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// The answer to a question. Only `outputs` matters to those downstream; the rest is provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The outputs by name: a path below whatever folder they are put into.
    #[serde(deserialize_with = "outputs")]
    pub outputs: BTreeMap<String, Stored>,
    /// Wall-clock seconds the stage took.
    pub seconds: f64,
    /// Peak resident memory of its process in bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// When it was finished, seconds since 1970 UTC.
    pub finished: u64,
    /// The host it ran on.
    pub host: String,
    /// BLAKE3 of the program that ran it, if that was known.
    pub program: Option<Digest>,
}

/// A cache may come from elsewhere: an entry whose outputs would be put outside of their folder is none.
fn outputs<'de, D: Deserializer<'de>>(json: D) -> Result<BTreeMap<String, Stored>, D::Error> {
    let outputs = BTreeMap::<String, Stored>::deserialize(json)?;
    match outputs.keys().find(|name| leads_out(name)) {
        Some(name) => Err(serde::de::Error::custom(format!("`{}` is no output's name", name.escape_default()))),
        None => Ok(outputs),
    }
}

/// Whether a file of this name would not lie below the folder that it is put into.
pub(super) fn leads_out(name: &str) -> bool {
    name.contains('\0') || name.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// An object as an entry remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Names its bytes.
    pub digest: Digest,
    /// Their number.
    pub bytes: u64,
}

/// The earliest modification time of a sealed object: 2001-09-09 01:46:40 UTC.
const SEALED: Duration = Duration::from_secs(1_000_000_000);

/// The modification time of a sealed object, between 2001 and 2018: an even second, which every
/// file system can keep, so that two objects of one size are told apart.
pub(super) fn sealed_at(digest: Digest) -> SystemTime {
    let begins = digest.to_string().chars().take(7).filter_map(|hex| hex.to_digit(16)).fold(0, |n, hex| n * 16 + hex);
    SystemTime::UNIX_EPOCH + SEALED + Duration::from_secs(u64::from(begins) * 2)
}

impl Entry {
    /// The digests alone.
    pub fn artifact(&self) -> Artifact {
        self.outputs.iter().map(|(name, stored)| (name.clone(), stored.digest)).collect()
    }
}
