//! An answer, as the cache writes it down.

use crate::engine::key::{Artifact, Content, Digest};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// The answer to a question. Only `outputs` matters to those downstream; the rest is provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The outputs by name: a path below whatever folder they are put into.
    #[serde(deserialize_with = "outputs")]
    pub outputs: BTreeMap<String, Stored>,
    /// The folders that the outputs leave empty; a slash ends each name.
    #[serde(
        default,
        deserialize_with = "empty_folders",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub empty_folders: BTreeSet<String>,
    /// Wall-clock seconds the stage took.
    pub seconds: f64,
    /// Peak resident memory in bytes, where the system tells: of the largest of its processes, not their sum.
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
    match outputs.keys().find(|name| escapes_root(name)) {
        Some(name) => Err(serde::de::Error::custom(format!(
            "`{}` is no output's name",
            name.escape_default()
        ))),
        None => Ok(outputs),
    }
}

fn empty_folders<'de, D: Deserializer<'de>>(json: D) -> Result<BTreeSet<String>, D::Error> {
    let folders = BTreeSet::<String>::deserialize(json)?;
    match folders.iter().find(|name| name.strip_suffix('/').is_none_or(escapes_root)) {
        Some(name) => Err(serde::de::Error::custom(format!(
            "`{}` is no folder's name",
            name.escape_default()
        ))),
        None => Ok(folders),
    }
}

/// Whether a file of this name would not lie below the folder that it is put into.
pub(crate) fn escapes_root(name: &str) -> bool {
    name.contains('\0') || name.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// An object as an entry remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Names its bytes.
    pub digest: Digest,
    /// Their number.
    pub bytes: u64,
    /// Whether it is laid out as a file that its owner may run. The object itself is not one: it has many names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// The earliest modification time of a sealed object: 2001-09-09 01:46:40 UTC.
const SEALED: Duration = Duration::from_secs(1_000_000_000);

/// The modification time of a sealed object, between 2001 and 2018: an even second, which every
/// file system can keep. Two objects of one size that were swapped have each other's time.
pub(crate) fn sealed_at(digest: Digest) -> SystemTime {
    let begins = digest
        .to_string()
        .chars()
        .take(7)
        .filter_map(|hex| hex.to_digit(16))
        .fold(0, |n, hex| n * 16 + hex);
    SystemTime::UNIX_EPOCH + SEALED + Duration::from_secs(u64::from(begins) * 2)
}

impl Entry {
    /// What those downstream see of it.
    pub fn artifact(&self) -> Artifact {
        let file = |Stored { digest, executable, .. }: &Stored| Content::File {
            digest: *digest,
            executable: *executable,
        };
        let files = self.outputs.iter().map(|(name, stored)| (name.clone(), file(stored)));
        files
            .chain(self.empty_folders.iter().map(|name| (name.clone(), Content::EmptyFolder)))
            .collect()
    }
}
