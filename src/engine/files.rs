//! The project's files that stages declare: found, hashed, taken into the cache, and looked at again at the end of a run.
//!
//! A path is looked at once in a process, so that a run speaks of one state of it. Hashing is saved by a memo, `(inode,
//! size, mtime, ctime) -> digest`: a file is written down there only if both its times lay [`fs::GRANULARITY`] or more before
//! it was hashed, since an edit within one tick of the clock would leave no trace in them.
//!
//! Knows no stage and no key; where the memo lies is for the caller to say.

use super::envelope;
use super::error::Error;
use super::key::{Artifact, Digest};
use super::stage::Declared;
use super::store::{FILES, Store};
use super::value::Misfit;
use crate::fs::{self, Stat};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// How many bytes are read at once: enough for all cores to hash.
const PIECE: u64 = 4 << 20;

/// The files below a folder. Clones share what they have seen.
#[derive(Clone, Default)]
pub struct Files {
    root: PathBuf,
    /// The cache, which is nobody's data.
    cache: PathBuf,
    memo: Arc<BTreeMap<String, Seen>>,
    looks: Arc<Mutex<BTreeMap<String, Look>>>,
}

/// A file as it was when it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    stat: Stat,
    digest: Digest,
}

/// What is remembered of the project's files, by path.
#[derive(Serialize, Deserialize)]
struct Memo {
    files: BTreeMap<String, Seen>,
}

/// A declared path as it was: its files, by their names below it; a single file has the empty name.
type Look = BTreeMap<String, Sight>;

#[derive(Clone, Copy)]
struct Sight {
    seen: Seen,
    /// Whether equal times mean equal bytes.
    settled: bool,
}

impl Files {
    /// Those of the project at `root`. A memo that cannot be read is an empty one: it only saves time.
    pub fn of(root: &Path, memo: &Path) -> Files {
        let cache = memo.parent().unwrap_or(memo).to_owned();
        let bytes = fs::read_if_there(memo).ok().flatten();
        let memo: Option<Memo> = bytes.and_then(|bytes| envelope::unwrap(FILES, &bytes));
        let files = memo.map(|memo| memo.files).unwrap_or_default();
        Files { root: root.to_owned(), cache, memo: Arc::new(files), looks: Arc::default() }
    }

    fn looks(&self) -> MutexGuard<'_, BTreeMap<String, Look>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names and digests of what is declared.
    pub fn artifact(&self, declared: &[Declared]) -> Result<Artifact, Misfit> {
        let mut artifact = Artifact::new();
        for declared in declared {
            for (name, (_, digest)) in self.named(declared)? {
                if artifact.insert(name.clone(), digest).is_some() {
                    let hint = "rename one, or bring it in by a stage of its own".to_owned();
                    return Err(Misfit::at(None, format!("two of its files are called `{name}`"), Some(hint)));
                }
            }
        }
        Ok(artifact)
    }

    /// The files of a declared path by the names they go by, with where they lie.
    fn named(&self, declared: &Declared) -> Result<BTreeMap<String, (PathBuf, Digest)>, Misfit> {
        let path = match declared.path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        let look = self.look(path)?;
        let name = |below: &str| match (below, declared.by_path) {
            ("", true) => path.to_owned(),
            ("", false) => path.rsplit('/').next().unwrap_or(path).to_owned(),
            (below, true) => format!("{path}/{below}"),
            (below, false) => below.to_owned(),
        };
        let place = |below: &str| self.root.join(path).join(below);
        let named = look.iter().map(|(below, sight)| {
            let lies = if below.is_empty() { self.root.join(path) } else { place(below) };
            (name(below), (lies, sight.seen.digest))
        });
        Ok(named.collect())
    }

    /// What `path` was when it was first looked at.
    fn look(&self, path: &str) -> Result<Look, Misfit> {
        if let Some(look) = self.looks().get(path) {
            return Ok(look.clone());
        }
        let mut look = Look::new();
        for (below, meta) in self.find(path)? {
            let (stat, now) = (Stat::of(&meta), SystemTime::now());
            let known = self.memo.get(&joined(path, &below)).filter(|seen| seen.stat == stat);
            let digest = match known {
                Some(seen) => seen.digest,
                None => digest(&self.root.join(joined(path, &below))).map_err(|e| Misfit::new(format!("{e:#}")))?,
            };
            let settled = known.is_some() || stat.is_settled(now);
            look.insert(below, Sight { seen: Seen { stat, digest }, settled });
        }
        self.looks().insert(path.to_owned(), look.clone());
        Ok(look)
    }

    /// The files at and below `path`.
    fn find(&self, path: &str) -> Result<BTreeMap<String, Metadata>, Misfit> {
        let mut found = BTreeMap::new();
        let cannot = |path: &str, e: &std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => {
                let hint = "paths begin at the folder of pipeline.yaml".to_owned();
                Misfit::at(None, format!("there is no file or folder `{path}`"), Some(hint))
            }
            _ => Misfit::new(format!("cannot read `{path}`: {e}")),
        };
        let meta = std::fs::metadata(self.root.join(path)).map_err(|e| cannot(path, &e))?;
        if !meta.is_dir() {
            regular(path, &meta)?;
            return Ok([(String::new(), meta)].into());
        }
        let place = |meta: &Metadata| (meta.dev(), meta.ino());
        let cache = std::fs::metadata(&self.cache).ok().map(|meta| place(&meta));
        let mut open = vec![String::new()];
        while let Some(folder) = open.pop() {
            let names = fs::entries(&self.root.join(joined(path, &folder)));
            for name in names.map_err(|e| Misfit::new(format!("{e:#}")))? {
                let shown = name.to_string_lossy().into_owned();
                let below = if folder.is_empty() { shown } else { format!("{folder}/{shown}") };
                let here = joined(path, &below);
                if name.to_str().is_none() {
                    let hint = Some("rename it: names are part of what is hashed".to_owned());
                    return Err(Misfit::at(None, format!("the name of `{here}` is not UTF-8"), hint));
                }
                let link = std::fs::symlink_metadata(self.root.join(&here)).map_err(|e| cannot(&here, &e))?;
                let meta = std::fs::metadata(self.root.join(&here)).map_err(|e| cannot(&here, &e))?;
                if meta.is_dir() && link.is_symlink() {
                    let hint = Some("declare the folder that it leads to".to_owned());
                    return Err(Misfit::at(None, format!("`{here}` is a symbolic link to a folder"), hint));
                } else if meta.is_dir() && cache == Some(place(&meta)) {
                    let hint = Some("declare the folders beside it, one by one".to_owned());
                    return Err(Misfit::at(None, format!("`{here}` is the cache itself"), hint));
                } else if meta.is_dir() {
                    open.push(below);
                } else {
                    regular(&here, &meta)?;
                    found.insert(below, meta);
                }
            }
        }
        if found.is_empty() {
            return Err(Misfit::new(format!("there is no file in the folder `{path}`")));
        }
        Ok(found)
    }

    /// Takes what is declared into the cache, as it was when it was looked at.
    pub fn take_in(&self, store: &Store, declared: &[Declared]) -> Result<()> {
        for declared in declared {
            for (path, digest) in self.named(declared)?.into_values() {
                if !store.take_in(&path, digest)? {
                    let path = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
                    return Err(Error::FileChanged(path).into());
                }
            }
        }
        Ok(())
    }

    /// Fails if anything that was looked at is no longer what it was.
    pub fn check_unchanged(&self) -> Result<()> {
        for (path, look) in &*self.looks() {
            let changed = |file: &str| Error::FileChanged(joined(path, file));
            let now = self.find(path).map_err(|_| changed(""))?;
            if let Some(other) = now.keys().find(|file| !look.contains_key(*file)) {
                return Err(changed(other).into());
            }
            for (file, sight) in look {
                let Some(meta) = now.get(file) else { return Err(changed(file).into()) };
                let equal = sight.settled && Stat::of(meta) == sight.seen.stat;
                if !equal && digest(&self.root.join(joined(path, file)))? != sight.seen.digest {
                    return Err(changed(file).into());
                }
            }
        }
        Ok(())
    }

    /// Writes down what was hashed.
    pub fn remember(&self, store: &Store) -> Result<()> {
        let mut files = (*self.memo).clone();
        for (path, look) in &*self.looks() {
            let settled = look.iter().filter(|(_, sight)| sight.settled);
            files.extend(settled.map(|(file, sight)| (joined(path, file), sight.seen)));
        }
        if files == *self.memo {
            return Ok(());
        }
        files.retain(|path, _| self.root.join(path).exists());
        store.write_memo(&Memo { files })
    }
}

fn joined(path: &str, below: &str) -> String {
    if below.is_empty() { path.to_owned() } else { format!("{path}/{below}") }
}

fn regular(path: &str, meta: &Metadata) -> Result<(), Misfit> {
    if meta.is_file() { Ok(()) } else { Err(Misfit::new(format!("`{path}` is neither a file nor a folder"))) }
}

/// Hashes a file that others may be writing to: never by memory map, where a file cut short is a signal.
fn digest(path: &Path) -> Result<Digest> {
    let cannot = || format!("cannot read `{}`", path.display());
    let mut file = fs::open(path)?;
    let mut hash = blake3::Hasher::new();
    let mut piece = Vec::new();
    while file.by_ref().take(PIECE).read_to_end(&mut piece).with_context(cannot)? > 0 {
        hash.update_rayon(&piece);
        piece.clear();
    }
    hash.finalize().to_hex().parse().map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_hashed_as_the_cache_hashes_it_whatever_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, PIECE as usize, PIECE as usize + 1, 3 * PIECE as usize] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            fs::write(&path, &bytes).unwrap();
            assert_eq!(digest(&path).unwrap(), Digest::of(&bytes), "{size}");
        }
    }
}
