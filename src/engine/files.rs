//! The project's files that stages declare: found, hashed, taken into the cache, and looked at again at the end of a run.
//!
//! A path is looked at once in a process, so that a run speaks of one state of it. Hashing is saved by a memo, `(mount, inode,
//! size, mtime, ctime) -> digest`: a file is written down there only if every later edit must show in these ([`Witness`]).
//!
//! Kept of a file are its name, its bytes and whether its owner may run it; an empty folder is kept as such. Times, all other
//! permissions, hard links and extended attributes are not.
//!
//! Knows no stage and no key; where the memo lies is for the caller to say.

use super::envelope;
use super::error::Error;
use super::key::{Artifact, Content, Digest};
use super::stage::Declared;
use super::store::{FILES, Store};
use super::value::Misfit;
use crate::fs::{self, Stat, Witness};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read as _;
use std::ops::Bound;
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
    witness: Witness,
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

/// A declared path as it was: its files and empty folders, by their names below it. A single file has the empty name; a
/// slash ends that of a folder.
type Look = BTreeMap<String, Sight>;

#[derive(Clone, Copy)]
struct Sight {
    content: Content,
    /// What tells the file from what it was; `None` if nothing does.
    stat: Option<Stat>,
}

impl Files {
    /// Those of the project at `root`. A memo that cannot be read is an empty one: it only saves time.
    pub fn of(root: &Path, memo: &Path) -> Files {
        let cache = memo.parent().unwrap_or(memo).to_owned();
        let bytes = fs::read_if_there(memo).ok().flatten();
        let memo: Option<Memo> = bytes.and_then(|bytes| envelope::unwrap(FILES, &bytes));
        let files = memo.map(|memo| memo.files).unwrap_or_default();
        let (memo, witness) = (Arc::new(files), Witness::at(&cache));
        Files { root: root.to_owned(), cache, memo, witness, looks: Arc::default() }
    }

    fn looks(&self) -> MutexGuard<'_, BTreeMap<String, Look>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is declared, by name.
    pub fn artifact(&self, declared: &[Declared]) -> Result<Artifact, Misfit> {
        let refuse = |message: String| {
            let hint = "rename one, or bring it in by a stage of its own".to_owned();
            Err(Misfit::at(None, message, Some(hint)))
        };
        let mut artifact = Artifact::new();
        for declared in declared {
            for (name, (_, content)) in self.named(declared)? {
                let before = artifact.insert(name.clone(), content);
                if before.is_some_and(|before| before != Content::EmptyFolder) {
                    return refuse(format!("two of its files are called `{name}`"));
                }
            }
        }
        if declared.len() > 1 {
            if let Some(name) = artifact.keys().find(|name| has_below(&artifact, &format!("{name}/"))) {
                return refuse(format!("`{name}` is a file of one folder and a folder of another"));
            }
            // What is empty in one of the folders may not be in another.
            let filled = artifact.keys().filter(|name| name.ends_with('/') && has_below(&artifact, name));
            let filled: Vec<String> = filled.cloned().collect();
            artifact.retain(|name, _| !filled.contains(name));
        }
        Ok(artifact)
    }

    /// What there is at a declared path by the names it goes by, with where it lies.
    fn named(&self, declared: &Declared) -> Result<BTreeMap<String, (PathBuf, Content)>, Misfit> {
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
        let lies = |below: &str| self.root.join(joined(path, below));
        Ok(look.iter().map(|(below, sight)| (name(below), (lies(below), sight.content))).collect())
    }

    /// What `path` was when it was first looked at.
    fn look(&self, path: &str) -> Result<Look, Misfit> {
        if let Some(look) = self.looks().get(path) {
            return Ok(look.clone());
        }
        let mut look = Look::new();
        for (below, found) in self.find(path)? {
            let Found::File(meta) = found else {
                look.insert(below, Sight { content: Content::EmptyFolder, stat: None });
                continue;
            };
            let here = joined(path, &below);
            let lies = self.root.join(&here);
            let (stat, now) = (self.witness.stat(&lies, &meta), SystemTime::now());
            let known = self.memo.get(&here).filter(|seen| Some(seen.stat) == stat);
            let digest = match known {
                Some(seen) => seen.digest,
                None => digest(&lies).map_err(|e| Misfit::new(format!("{e:#}")))?,
            };
            let stat = stat.filter(|stat| known.is_some() || self.witness.trusts(&lies, stat, now));
            let content = Content::File { digest, executable: fs::is_executable(&meta) };
            look.insert(below, Sight { content, stat });
        }
        self.looks().insert(path.to_owned(), look.clone());
        Ok(look)
    }

    /// The files at and below `path`, and the empty folders below it.
    fn find(&self, path: &str) -> Result<BTreeMap<String, Found>, Misfit> {
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
            return Ok([(String::new(), Found::File(meta))].into());
        }
        let place = |meta: &Metadata| (meta.dev(), meta.ino());
        let cache = std::fs::metadata(&self.cache).ok().map(|meta| place(&meta));
        let mut open = vec![String::new()];
        while let Some(folder) = open.pop() {
            let names = fs::entries(&self.root.join(joined(path, &folder)));
            let names = names.map_err(|e| Misfit::new(format!("{e:#}")))?;
            if names.is_empty() {
                found.insert(format!("{folder}/"), Found::EmptyFolder);
            }
            for name in names {
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
                    found.insert(below, Found::File(meta));
                }
            }
        }
        // A data set that is not mounted, say.
        if !found.values().any(|found| matches!(found, Found::File(_))) {
            return Err(Misfit::new(format!("there is no file in the folder `{path}`")));
        }
        Ok(found)
    }

    /// Takes what is declared into the cache, as it was when it was looked at.
    pub fn take_in(&self, store: &Store, declared: &[Declared]) -> Result<()> {
        for declared in declared {
            for (path, content) in self.named(declared)?.into_values() {
                let Some(digest) = content.digest() else { continue };
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
            for (name, sight) in look {
                let lies = self.root.join(joined(path, name));
                if !now.get(name).map_or(Ok(false), |found| self.is_unchanged(&lies, sight, found))? {
                    return Err(changed(name).into());
                }
            }
        }
        Ok(())
    }

    /// Whether what is `found` at `path` now is what it was.
    fn is_unchanged(&self, path: &Path, was: &Sight, found: &Found) -> Result<bool> {
        Ok(match (was.content, found) {
            (Content::EmptyFolder, Found::EmptyFolder) => true,
            (Content::File { digest: before, executable }, Found::File(meta)) => {
                let known = was.stat.is_some() && self.witness.stat(path, meta) == was.stat;
                executable == fs::is_executable(meta) && (known || digest(path)? == before)
            }
            _ => false,
        })
    }

    /// Writes down what was hashed.
    pub fn remember(&self, store: &Store) -> Result<()> {
        let mut files = (*self.memo).clone();
        for (path, look) in &*self.looks() {
            let seen = |sight: &Sight| Some(Seen { stat: sight.stat?, digest: sight.content.digest()? });
            files.extend(look.iter().filter_map(|(file, sight)| Some((joined(path, file), seen(sight)?))));
        }
        if files == *self.memo {
            return Ok(());
        }
        files.retain(|path, _| self.root.join(path).exists());
        store.write_memo(&Memo { files })
    }
}

/// What there is below a declared path.
enum Found {
    File(Metadata),
    EmptyFolder,
}

/// Whether `artifact` has anything below `folder`, whose name ends with a slash.
fn has_below(artifact: &Artifact, folder: &str) -> bool {
    let after = (Bound::Excluded(folder), Bound::Unbounded);
    artifact.range::<str, _>(after).next().is_some_and(|(name, _)| name.starts_with(folder))
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
        if fs::has_thread_pool() {
            hash.update_rayon(&piece)
        } else {
            hash.update(&piece)
        };
        piece.clear();
    }
    hash.finalize().to_hex().parse().map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::super::toy::Bench;
    use super::*;
    use std::time::Duration;

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

    /// The project of `bench` as a process finds it, whose file systems tell of every edit at once.
    fn files(bench: &Bench) -> Files {
        let witness = Witness::trusting(bench.path());
        Files { witness, ..Files::of(bench.path(), &bench.store.memo()) }
    }

    fn declared(path: &str) -> Declared {
        Declared { path: path.to_owned(), by_path: false }
    }

    /// What another process says of `paths`.
    fn look(bench: &Bench, paths: &[&str]) -> Result<Artifact, String> {
        let declared: Vec<Declared> = paths.iter().map(|path| declared(path)).collect();
        files(bench).artifact(&declared).map_err(|misfit| misfit.message)
    }

    fn write(bench: &Bench, path: &str, bytes: &str) {
        let path = bench.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }

    #[test]
    fn a_file_whose_times_tell_of_edits_is_not_hashed_again() {
        let bench = Bench::new();
        write(&bench, "a", "one");
        let first = files(&bench);
        first.artifact(&[declared("a")]).unwrap();
        first.remember(&bench.store).unwrap();
        let mut lies = (*files(&bench).memo).clone();
        lies.get_mut("a").unwrap().digest = Digest::of(b"lie");
        let lie = Memo { files: lies };
        bench.store.write_memo(&lie).unwrap();
        let known: Content = Digest::of(b"lie").into();
        assert_eq!(look(&bench, &["a"]).unwrap()["a"], known, "the index is believed");
        assert!(files(&bench).take_in(&bench.store, &[declared("a")]).is_err(), "what is stored is hashed");
        let hashed: Content = Digest::of(b"one").into();
        fs::write(&bench.store.memo(), "{").unwrap();
        assert_eq!(look(&bench, &["a"]).unwrap()["a"], hashed, "an index that cannot be read is an empty one");
        bench.store.write_memo(&lie).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        write(&bench, "a", "two");
        let edited: Content = Digest::of(b"two").into();
        assert_eq!(look(&bench, &["a"]).unwrap()["a"], edited);
    }

    #[test]
    fn a_file_whose_times_do_not_tell_of_edits_is_hashed_by_every_process_and_at_the_end_of_a_run() {
        let bench = Bench::new();
        write(&bench, "a", "one");
        for witness in [Witness::default(), Witness::at(bench.path())] {
            let files = Files { witness, ..files(&bench) };
            files.artifact(&[declared("a")]).unwrap();
            files.remember(&bench.store).unwrap();
            assert!(!bench.store.memo().exists());
            files.check_unchanged().unwrap();
            // The times that it had, as after an edit through a memory map.
            let modified = std::fs::metadata(bench.path().join("a")).unwrap().modified().unwrap();
            write(&bench, "a", "two");
            std::fs::File::open(bench.path().join("a")).unwrap().set_modified(modified).unwrap();
            let error = files.check_unchanged().unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(Error::FileChanged(file)) if file == "a"), "{error}");
            write(&bench, "a", "one");
        }
    }

    #[test]
    fn the_executable_bit_and_empty_folders_are_part_of_what_is_declared() {
        let bench = Bench::new();
        write(&bench, "raw/tool", "one");
        fs::create_dir_all(&bench.path().join("raw/a/empty")).unwrap();
        let plain = look(&bench, &["raw"]).unwrap();
        assert_eq!(plain["tool"], Digest::of(b"one").into());
        assert_eq!(plain["a/empty/"], Content::EmptyFolder);
        let run = files(&bench);
        run.artifact(&[declared("raw")]).unwrap();
        fs::set_executable(&bench.path().join("raw/tool"), true).unwrap();
        let executable = Content::File { digest: Digest::of(b"one"), executable: true };
        assert_eq!(look(&bench, &["raw"]).unwrap()["tool"], executable);
        assert!(run.check_unchanged().is_err(), "a run notices the bit");
        let run = files(&bench);
        run.artifact(&[declared("raw")]).unwrap();
        std::fs::remove_dir(bench.path().join("raw/a/empty")).unwrap();
        assert!(run.check_unchanged().is_err(), "and the folder");
        assert!(look(&bench, &["raw"]).unwrap().contains_key("a/"));
    }

    #[test]
    fn folders_that_are_joined_keep_every_file_or_are_refused() {
        let bench = Bench::new();
        write(&bench, "x/file", "");
        write(&bench, "y/sub/file", "");
        write(&bench, "z/file/below", "");
        fs::create_dir_all(&bench.path().join("x/sub")).unwrap();
        let names = |paths: &[&str]| look(&bench, paths).map(|found| found.into_keys().collect::<Vec<_>>());
        assert_eq!(names(&["x", "y"]).unwrap(), ["file", "sub/file"], "`sub` is empty in one of them alone");
        assert_eq!(names(&["x", "z"]).unwrap_err(), "`file` is a file of one folder and a folder of another");
        for twice in [["x", "x/"], ["x", "./x"], ["x", "y/../x"], ["x/file", "x"]] {
            assert_eq!(names(&twice).unwrap_err(), "two of its files are called `file`", "{twice:?}");
        }
    }
}
