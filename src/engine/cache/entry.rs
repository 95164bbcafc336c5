//! An entry: the record of a result.

use crate::engine::key::{Artifact, Content, Digest, root};
use crate::engine::provenance::{Environment, Record};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// The result of a recipe. Downstream recipes depend on `outputs` and `empty_folders` only; the
/// other fields are provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The outputs by name: a path relative to the folder that they are placed in.
    #[serde(deserialize_with = "outputs")]
    pub outputs: BTreeMap<String, Stored>,
    /// The output folders without content; each name ends with a slash.
    #[serde(
        default,
        deserialize_with = "empty_folders",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub empty_folders: BTreeSet<String>,
    /// Wall-clock seconds of the stage.
    pub seconds: f64,
    /// Peak resident memory in bytes of the largest process of the stage, where the system reports
    /// it.
    pub peak_memory: Option<u64>,
    /// When the stage finished, in seconds since 1970 UTC.
    pub finished: u64,
    /// The host that ran the stage.
    pub host: String,
    /// BLAKE3 of the program that ran the stage, if known.
    pub program: Option<Digest>,
    /// The environment of the job. Older entries do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
}

/// Refuses outputs outside of their folder: a cache may come from an untrusted source.
fn outputs<'de, D: Deserializer<'de>>(json: D) -> Result<BTreeMap<String, Stored>, D::Error> {
    let outputs = BTreeMap::<String, Stored>::deserialize(json)?;
    match outputs.keys().find(|name| escapes_root(name)) {
        Some(name) => {
            Err(D::Error::custom(format!("`{}` is not an output's name", name.escape_default())))
        }
        None => Ok(outputs),
    }
}

fn empty_folders<'de, D: Deserializer<'de>>(json: D) -> Result<BTreeSet<String>, D::Error> {
    let folders = BTreeSet::<String>::deserialize(json)?;
    match folders.iter().find(|name| name.strip_suffix('/').is_none_or(escapes_root)) {
        Some(name) => {
            Err(D::Error::custom(format!("`{}` is not a folder's name", name.escape_default())))
        }
        None => Ok(folders),
    }
}

/// Whether a relative path is empty, not normalized, or escapes the folder to which it is joined.
pub(crate) fn escapes_root(name: &str) -> bool {
    name.contains('\0') || name.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// An object, as an entry names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The digest of its bytes.
    pub digest: Digest,
    /// The number of its bytes.
    pub bytes: u64,
    /// Whether the output's file is executable. The object itself is not: files that are and files
    /// that are not may share it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// The earliest modification time of a sealed object: 2001-09-09 01:46:40 UTC.
const SEALED: Duration = Duration::from_secs(1_000_000_000);

/// The modification time of a sealed object: an even second between 2001 and 2018, which every file
/// system can store. Two objects of one size that were swapped have each other's time.
pub(crate) fn sealed_at(digest: Digest) -> SystemTime {
    let digits = digest.to_string();
    let prefix = digits.chars().take(7).filter_map(|hex| hex.to_digit(16));
    let number = prefix.fold(0, |n, digit| n * 16 + digit);
    SystemTime::UNIX_EPOCH + SEALED + Duration::from_secs(u64::from(number) * 2)
}

impl Entry {
    /// The outputs, as downstream recipes see them.
    pub fn artifact(&self) -> Artifact {
        let file = |Stored { digest, executable, .. }: &Stored| Content::File {
            digest: *digest,
            executable: *executable,
        };
        let files = self.outputs.iter().map(|(name, stored)| (name.clone(), file(stored)));
        let folders = self.empty_folders.iter().map(|name| (name.clone(), Content::EmptyFolder));
        files.chain(folders).collect()
    }

    /// The part that differs from run to run.
    pub fn record(&self) -> Record {
        Record {
            outputs: root([&self.artifact()]),
            finished: self.finished,
            seconds: self.seconds,
            host: self.host.clone(),
            program: self.program,
            environment: self.environment.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_environment_is_read_and_unknown_fields_are_ignored() {
        let old = r#"{"outputs":{},"seconds":1.5,"peak_memory":null,"finished":7,
            "host":"here","program":null}"#;
        let entry: Entry = serde_json::from_str(old).unwrap();
        assert_eq!(entry.environment, None);
        let written = serde_json::to_string(&entry).unwrap();
        assert!(!written.contains("environment"), "{written}");
        let newer = old.replacen(
            '{',
            r#"{"colour":1,"environment":{"threads":1,"cores":2,
            "system":"Linux","gpu":"none"},"#,
            1,
        );
        let environment = serde_json::from_str::<Entry>(&newer).unwrap().environment.unwrap();
        assert_eq!((environment.cores, environment.commit), (2, None));
    }
}
