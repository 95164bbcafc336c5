//! The project's files that stages declare. They are listed and hashed before a run, and checked
//! for changes at its end.
//!
//! A process lists each path once, so that a run uses one state of the files. An index `(mount,
//! inode, size, mtime, ctime) -> digest` saves hashing. The index contains a file only if every
//! later edit changes these values ([`Witness`]).
//!
//! An artifact keeps names, bytes and the executable bit of files, and empty folders. It does not
//! keep times, other permissions, hard links and extended attributes. Files of editors, systems and
//! version control are ignored ([`IGNORED`]). A link to a file is that file. A link to a folder is
//! that folder, if the stage declares the folder that contains it.
//!
//! This module does not know stages, keys or the cache: the caller passes the path of the index and
//! adds files to the cache.

use crate::engine::envelope::{self, SOURCES};
use crate::engine::error::Error;
use crate::engine::key::{Artifact, Content, Digest};
use crate::engine::located::ValueError;
use crate::engine::stage::Declared;
use crate::fs::{self, Stat, Witness};
use anyhow::Result;
use glob::Pattern;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use unicode_normalization::UnicodeNormalization as _;

/// The default patterns of files that are ignored in declared folders.
pub const IGNORED: [&str; 16] = [
    ".#*",
    "#*#",
    "*~",
    "*.pyc",
    "*.swo",
    "*.swp",
    ".DS_Store",
    ".git",
    ".hg",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
    ".svn",
    "Thumbs.db",
    "__pycache__",
    "desktop.ini",
];

/// The project's files. Clones share their listings.
#[derive(Clone, Default)]
pub struct Sources {
    root: PathBuf,
    /// The cache, which no stage can declare.
    cache: PathBuf,
    index: Arc<BTreeMap<String, Hashed>>,
    witness: Witness,
    listings: Arc<Mutex<BTreeMap<Request, Listing>>>,
}

/// The parameters of a [`Listing`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    path: String,
    ignore: Option<Vec<String>>,
    /// The other paths of the stage, if a link points out of this one.
    beside: Vec<String>,
}

/// The state of a file when it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hashed {
    stat: Stat,
    digest: Digest,
}

/// The index of the project's files, by path.
#[derive(Serialize, Deserialize)]
pub struct Index {
    files: BTreeMap<String, Hashed>,
}

/// The files and empty folders at a declared path, by their names below it. A single file has the
/// empty name; the name of a folder ends with a slash.
type Listing = BTreeMap<String, SourceFile>;

#[derive(Clone, Copy)]
struct SourceFile {
    content: Content,
    /// The metadata of the file; `None` if an edit may leave the metadata unchanged.
    stat: Option<Stat>,
}

impl Sources {
    /// The files of the project at `root`. An unreadable index counts as empty, because an index
    /// only saves time.
    pub fn of(root: &Path, index: &Path) -> Sources {
        let cache = index.parent().unwrap_or(index).to_owned();
        let bytes = fs::read_if_exists(index).ok().flatten();
        let index: Option<Index> = bytes.and_then(|bytes| envelope::unwrap(SOURCES, &bytes));
        let files = index.map(|index| index.files).unwrap_or_default();
        let (index, witness) = (Arc::new(files), Witness::at(&cache));
        Sources { root: root.to_owned(), cache, index, witness, listings: Arc::default() }
    }

    fn listings(&self) -> MutexGuard<'_, BTreeMap<Request, Listing>> {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The declared files of a stage, by name.
    pub fn artifact(&self, all: &[Declared]) -> Result<Artifact, ValueError> {
        let refuse = |message: String| {
            let hint = "rename one, or declare it in a separate stage".to_owned();
            Err(ValueError::at(None, message, Some(hint)))
        };
        let mut artifact = Artifact::new();
        for declared in all {
            for (name, (_, content)) in self.named(declared, all)? {
                let before = artifact.insert(name.clone(), content);
                if before.is_some_and(|before| before != Content::EmptyFolder) {
                    return refuse(format!("two of its files are called `{name}`"));
                }
            }
        }
        if all.len() > 1 {
            if let Some(name) =
                artifact.keys().find(|name| has_below(&artifact, &format!("{name}/")))
            {
                return refuse(format!("`{name}` is a file of one folder and a folder of another"));
            }
            // A folder that is empty in one declared path can contain files in another.
            let filled =
                artifact.keys().filter(|name| name.ends_with('/') && has_below(&artifact, name));
            let filled: Vec<String> = filled.cloned().collect();
            artifact.retain(|name, _| !filled.contains(name));
        }
        Ok(artifact)
    }

    /// The contents of a declared path by name, with their paths on disk. `all` are the declared
    /// paths of the stage.
    fn named(
        &self,
        declared: &Declared,
        all: &[Declared],
    ) -> Result<BTreeMap<String, (PathBuf, Content)>, ValueError> {
        let path = match declared.path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        let listing = self.list(path, declared, all)?;
        let name = |below: &str| match (below, declared.by_path) {
            ("", true) => path.to_owned(),
            ("", false) => path.rsplit('/').next().unwrap_or(path).to_owned(),
            (below, true) => format!("{path}/{below}"),
            (below, false) => below.to_owned(),
        };
        let on_disk = |below: &str| self.root.join(joined(path, below));
        let files = listing.iter();
        Ok(files.map(|(below, file)| (name(below), (on_disk(below), file.content))).collect())
    }

    /// The listing of `path` in this process.
    fn list(
        &self,
        path: &str,
        declared: &Declared,
        all: &[Declared],
    ) -> Result<Listing, ValueError> {
        let mut request =
            Request { path: path.to_owned(), ignore: declared.ignore.clone(), beside: Vec::new() };
        if let Some(listing) = self.listings().get(&request) {
            return Ok(listing.clone());
        }
        request.beside =
            all.iter().filter(|other| *other != declared).map(|other| other.path.clone()).collect();
        if let Some(listing) = self.listings().get(&request) {
            return Ok(listing.clone());
        }
        let Below { found, escapes_root } = self.find(&request)?;
        if !escapes_root {
            request.beside.clear();
        }
        let mut listing = Listing::new();
        for (below, found) in found {
            let Found::File(meta) = found else {
                listing.insert(below, SourceFile { content: Content::EmptyFolder, stat: None });
                continue;
            };
            let here = joined(path, &below);
            let file = self.root.join(&here);
            let (stat, now) = (self.witness.stat(&file, &meta), SystemTime::now());
            let indexed = self.index.get(&here).filter(|hashed| Some(hashed.stat) == stat);
            let digest = match indexed {
                Some(hashed) => hashed.digest,
                None => Digest::of_file(&file).map_err(|e| ValueError::new(format!("{e:#}")))?,
            };
            let is_trusted =
                |stat: &Stat| indexed.is_some() || self.witness.trusts(&file, stat, now);
            let stat = stat.filter(is_trusted);
            let content = Content::File { digest, executable: fs::is_executable(&meta) };
            listing.insert(below, SourceFile { content, stat });
        }
        self.listings().insert(request, listing.clone());
        Ok(listing)
    }

    /// The files at and below the path of `request`, and the empty folders below it.
    fn find(&self, request: &Request) -> Result<Below, ValueError> {
        let path = request.path.as_str();
        let at = |below: &str| self.root.join(joined(path, below));
        let cannot = |path: &str, e: &std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => self.missing(path),
            _ => ValueError::new(format!("cannot read `{path}`: {e}")),
        };
        let refuse =
            |message: String, hint: &str| ValueError::at(None, message, Some(hint.to_owned()));
        let mut found = BTreeMap::new();
        let meta = std::fs::metadata(at("")).map_err(|e| cannot(path, &e))?;
        if !meta.is_dir() {
            regular(path, &meta)?;
            return Ok(Below {
                found: [(String::new(), Found::File(meta))].into(),
                escapes_root: false,
            });
        }
        let (mut escapes_root, mut ignores) = (false, false);
        let ignored = Ignored::new(request.ignore.as_deref())?;
        let inode = |meta: &Metadata| (meta.dev(), meta.ino());
        let cache = std::fs::metadata(&self.cache).ok().map(|meta| inode(&meta));
        // Each folder with its parents, to detect cycles of links.
        let mut open = vec![(String::new(), vec![inode(&meta)])];
        while let Some((folder, above)) = open.pop() {
            let names = fs::entries(&at(&folder)).map_err(|e| ValueError::new(format!("{e:#}")))?;
            let mut is_empty = true;
            for name in names {
                let shown = name.to_string_lossy().into_owned();
                let below =
                    if folder.is_empty() { shown.clone() } else { format!("{folder}/{shown}") };
                if ignored.has(&shown, &below) {
                    ignores = true;
                    continue;
                }
                is_empty = false;
                let here = joined(path, &below);
                if name.to_str().is_none() {
                    let message = format!("the name of `{here}` is not UTF-8");
                    return Err(refuse(message, "rename it: names are part of the key"));
                }
                let is_link = std::fs::symlink_metadata(at(&below))
                    .map_err(|e| cannot(&here, &e))?
                    .is_symlink();
                let meta = std::fs::metadata(at(&below)).map_err(|e| cannot(&here, &e))?;
                if is_link && !self.is_in(&at(&below), path) {
                    escapes_root = true;
                    self.check_link(&here, &meta, &request.beside)?;
                }
                if !meta.is_dir() {
                    regular(&here, &meta)?;
                    found.insert(below, Found::File(meta));
                } else if cache == Some(inode(&meta)) {
                    let message = format!("`{here}` is the cache itself");
                    return Err(refuse(message, "declare the folders beside it, one by one"));
                } else if above.contains(&inode(&meta)) {
                    let message =
                        format!("`{here}` is a symbolic link to a folder that contains it");
                    return Err(refuse(message, "remove the link: it makes a cycle"));
                } else {
                    open.push((below, above.iter().copied().chain([inode(&meta)]).collect()));
                }
            }
            if is_empty {
                found.insert(format!("{folder}/"), Found::EmptyFolder);
            }
        }
        // For example, a disk that is not mounted.
        if !found.values().any(|found| matches!(found, Found::File(_))) {
            let hint =
                ignores.then(|| "all its files are ignored; see the field `ignore`".to_owned());
            return Err(ValueError::at(
                None,
                format!("there is no file in the folder `{path}`"),
                hint,
            ));
        }
        Ok(Below { found, escapes_root })
    }

    /// Whether the target of a link is the folder at `path` or is in it.
    fn is_in(&self, link: &Path, path: &str) -> bool {
        let whole = |path: &Path| path.canonicalize().ok();
        whole(link)
            .zip(whole(&self.root.join(path)))
            .is_some_and(|(to, folder)| to.starts_with(folder))
    }

    /// Refuses a link to a folder that the stage does not declare, and the Python of a virtual
    /// environment.
    fn check_link(&self, link: &str, meta: &Metadata, beside: &[String]) -> Result<(), ValueError> {
        let file = self.root.join(link);
        let to = file.canonicalize().unwrap_or_default();
        let to = self
            .root
            .canonicalize()
            .ok()
            .and_then(|root| to.strip_prefix(root).ok())
            .unwrap_or(&to)
            .display();
        let environment = Path::new(link).ancestors().nth(2).filter(|folder| {
            let is_there = |name| self.root.join(folder).join(name).is_file();
            is_there("pyvenv.cfg")
        });
        if let Some(environment) = environment {
            let environment = environment.display();
            let message = format!(
                "`{link}` is a symbolic link to `{to}`, part of a Python virtual environment"
            );
            let hint = format!(
                "remove `{environment}` from `files`, and write \
                 `env: {{ PATH: \"$PROJECT/{environment}/bin:/usr/bin:/bin\" }}`"
            );
            return Err(ValueError::at(None, message, Some(hint)));
        }
        if !meta.is_dir() || beside.iter().any(|other| self.is_in(&file, other)) {
            return Ok(());
        }
        let message = format!(
            "`{link}` is a symbolic link to the folder `{to}`, which the stage does not declare"
        );
        let hint = format!("declare `{to}` as well, or replace the link by a copy");
        Err(ValueError::at(None, message, Some(hint)))
    }

    /// The error for a path that does not exist, with the nearest name as its hint.
    fn missing(&self, path: &str) -> ValueError {
        let form = |name: &str| name.nfc().collect::<String>();
        let unexpanded = path.split('/').next() == Some("~") || path.contains('$');
        let hint = match self.nearly(path) {
            Some(near) if form(&near) == form(path) => {
                format!("`{}` exists, in another Unicode form; rename it", near.escape_default())
            }
            Some(near) => {
                format!("did you mean `{near}`? names are case-sensitive")
            }
            None if unexpanded => {
                "`~` and `$` are not expanded here; write the path out".to_owned()
            }
            None => "paths are relative to the folder of pipeline.yaml".to_owned(),
        };
        ValueError::at(None, format!("there is no file or folder `{path}`"), Some(hint))
    }

    /// An existing path that differs from `path` only in Unicode form or case.
    fn nearly(&self, path: &str) -> Option<String> {
        let fold = |name: &str| name.nfc().collect::<String>().to_lowercase();
        let form = |name: &str| name.nfc().collect::<String>();
        let mut near = if path.starts_with('/') { "/".to_owned() } else { String::new() };
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let names = fs::list(&self.root.join(&near)).ok()?;
            let same = |fits: &dyn Fn(&str) -> bool| {
                names.iter().find(|name| fits(name)).map(String::as_str)
            };
            let name = match part {
                "." | ".." => Some(part),
                _ => same(&|name| name == part)
                    .or_else(|| same(&|name| form(name) == form(part)))
                    .or_else(|| same(&|name| fold(name) == fold(part))),
            };
            if !near.is_empty() && !near.ends_with('/') {
                near.push('/');
            }
            near.push_str(name?);
        }
        Some(near).filter(|near| near != path)
    }

    /// Passes the path and digest of each declared file to `add`, which stores the file and returns
    /// whether it still has that digest.
    pub fn add_files(
        &self,
        all: &[Declared],
        add: impl Fn(&Path, Digest) -> Result<bool>,
    ) -> Result<()> {
        for declared in all {
            for (path, content) in self.named(declared, all)?.into_values() {
                let Some(digest) = content.digest() else { continue };
                if !add(&path, digest)? {
                    let path = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
                    return Err(Error::FileChanged(path).into());
                }
            }
        }
        Ok(())
    }

    /// Fails if a listed file has changed.
    pub fn check_unchanged(&self) -> Result<()> {
        for (request, listing) in &*self.listings() {
            let path = &request.path;
            let changed = |file: &str| Error::FileChanged(joined(path, file));
            let now = self.find(request).map_err(|_| changed(""))?.found;
            if let Some(other) = now.keys().find(|file| !listing.contains_key(*file)) {
                return Err(changed(other).into());
            }
            for (name, before) in listing {
                let file = self.root.join(joined(path, name));
                let is_same = match now.get(name) {
                    Some(found) => self.is_unchanged(&file, before, found)?,
                    None => false,
                };
                if !is_same {
                    return Err(changed(name).into());
                }
            }
        }
        Ok(())
    }

    /// Whether the file or folder `found` at `path` has the content of the listing.
    fn is_unchanged(&self, path: &Path, earlier: &SourceFile, found: &Found) -> Result<bool> {
        Ok(match (earlier.content, found) {
            (Content::EmptyFolder, Found::EmptyFolder) => true,
            (Content::File { digest: before, executable }, Found::File(meta)) => {
                let known = earlier.stat.is_some() && self.witness.stat(path, meta) == earlier.stat;
                executable == fs::is_executable(meta) && (known || Digest::of_file(path)? == before)
            }
            _ => false,
        })
    }

    /// The index with the files that were hashed; `None` if it has not changed.
    pub fn updated_index(&self) -> Option<Index> {
        let mut files = (*self.index).clone();
        for (Request { path, .. }, listing) in &*self.listings() {
            let hashed = |file: &SourceFile| {
                Some(Hashed { stat: file.stat?, digest: file.content.digest()? })
            };
            let listed = listing.iter();
            files.extend(
                listed.filter_map(|(name, file)| Some((joined(path, name), hashed(file)?))),
            );
        }
        if files == *self.index {
            return None;
        }
        files.retain(|path, _| self.root.join(path).exists());
        Some(Index { files })
    }
}

/// The patterns of ignored files.
struct Ignored(Vec<Pattern>);

impl Ignored {
    fn new(patterns: Option<&[String]>) -> Result<Ignored, ValueError> {
        let read = |pattern: &str| {
            Pattern::new(pattern).map_err(|e| ValueError::new(format!("`{pattern}`: {e}")))
        };
        let read: Result<Vec<Pattern>, ValueError> = match patterns {
            Some(patterns) => patterns.iter().map(|pattern| read(pattern)).collect(),
            None => IGNORED.iter().map(|pattern| read(pattern)).collect(),
        };
        Ok(Ignored(read?))
    }

    /// Whether the file with this name, at this path below the folder, is ignored.
    fn has(&self, name: &str, below: &str) -> bool {
        self.0.iter().any(|pattern| {
            pattern.matches(if pattern.as_str().contains('/') { below } else { name })
        })
    }
}

/// The contents of a declared path.
struct Below {
    found: BTreeMap<String, Found>,
    /// Whether a link points out of the path.
    escapes_root: bool,
}

/// A file or empty folder below a declared path.
enum Found {
    File(Metadata),
    EmptyFolder,
}

/// Whether `artifact` has a file or folder below `folder`. The name of `folder` ends with a slash.
fn has_below(artifact: &Artifact, folder: &str) -> bool {
    let after = (Bound::Excluded(folder), Bound::Unbounded);
    artifact.range::<str, _>(after).next().is_some_and(|(name, _)| name.starts_with(folder))
}

fn joined(path: &str, below: &str) -> String {
    if below.is_empty() { path.to_owned() } else { format!("{path}/{below}") }
}

fn regular(path: &str, meta: &Metadata) -> Result<(), ValueError> {
    if meta.is_file() {
        Ok(())
    } else {
        Err(ValueError::new(format!("`{path}` is neither a file nor a folder")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::TestSpace;
    use std::time::Duration;

    /// The files of `space` on a file system whose times change with every edit.
    fn sources(space: &TestSpace) -> Sources {
        let witness = Witness::trusting(space.path());
        Sources { witness, ..Sources::of(space.path(), &space.store.source_index()) }
    }

    fn write_index(space: &TestSpace, sources: &Sources) {
        space.store.write_source_index(&sources.updated_index().unwrap()).unwrap();
    }

    fn declared(path: &str) -> Declared {
        Declared { path: path.to_owned(), by_path: false, ignore: None }
    }

    /// The artifact of `paths`, as computed by another process.
    fn artifact_of(space: &TestSpace, paths: &[&str]) -> Result<Artifact, String> {
        let declared: Vec<Declared> = paths.iter().map(|path| declared(path)).collect();
        sources(space).artifact(&declared).map_err(|error| error.message)
    }

    fn write(space: &TestSpace, path: &str, bytes: &str) {
        let path = space.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }

    #[test]
    fn a_file_with_unchanged_times_is_not_hashed_again() {
        let space = TestSpace::new();
        write(&space, "a", "one");
        let first = sources(&space);
        first.artifact(&[declared("a")]).unwrap();
        write_index(&space, &first);
        let mut wrong = (*sources(&space).index).clone();
        wrong.get_mut("a").unwrap().digest = Digest::of(b"wrong");
        let wrong = Index { files: wrong };
        space.store.write_source_index(&wrong).unwrap();
        let known: Content = Digest::of(b"wrong").into();
        assert_eq!(artifact_of(&space, &["a"]).unwrap()["a"], known, "the index is used");
        assert!(
            sources(&space)
                .add_files(&[declared("a")], |path, digest| space.store.add_file(path, digest))
                .is_err(),
            "a stored file is hashed"
        );
        let hashed: Content = Digest::of(b"one").into();
        fs::write(&space.store.source_index(), "{").unwrap();
        assert_eq!(
            artifact_of(&space, &["a"]).unwrap()["a"],
            hashed,
            "an unreadable index counts as empty"
        );
        space.store.write_source_index(&wrong).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        write(&space, "a", "two");
        let edited: Content = Digest::of(b"two").into();
        assert_eq!(artifact_of(&space, &["a"]).unwrap()["a"], edited);
    }

    #[test]
    fn a_file_with_untrusted_times_is_hashed_by_every_process() {
        let space = TestSpace::new();
        write(&space, "a", "one");
        for witness in [Witness::default(), Witness::at(space.path())] {
            let sources = Sources { witness, ..sources(&space) };
            sources.artifact(&[declared("a")]).unwrap();
            assert!(sources.updated_index().is_none());
            sources.check_unchanged().unwrap();
            // The old times, as after an edit through a memory map.
            let modified = std::fs::metadata(space.path().join("a")).unwrap().modified().unwrap();
            write(&space, "a", "two");
            std::fs::File::open(space.path().join("a")).unwrap().set_modified(modified).unwrap();
            let error = sources.check_unchanged().unwrap_err();
            assert!(
                matches!(error.downcast_ref(), Some(Error::FileChanged(file)) if file == "a"),
                "{error}"
            );
            write(&space, "a", "one");
        }
    }

    #[test]
    fn executable_bits_and_empty_folders_are_part_of_an_artifact() {
        let space = TestSpace::new();
        write(&space, "raw/tool", "one");
        fs::create_dir_all(&space.path().join("raw/a/empty")).unwrap();
        let plain = artifact_of(&space, &["raw"]).unwrap();
        assert_eq!(plain["tool"], Digest::of(b"one").into());
        assert_eq!(plain["a/empty/"], Content::EmptyFolder);
        let run = sources(&space);
        run.artifact(&[declared("raw")]).unwrap();
        fs::set_executable(&space.path().join("raw/tool"), true).unwrap();
        let executable = Content::File { digest: Digest::of(b"one"), executable: true };
        assert_eq!(artifact_of(&space, &["raw"]).unwrap()["tool"], executable);
        assert!(run.check_unchanged().is_err(), "a changed bit is a change");
        let run = sources(&space);
        run.artifact(&[declared("raw")]).unwrap();
        std::fs::remove_dir(space.path().join("raw/a/empty")).unwrap();
        assert!(run.check_unchanged().is_err(), "a removed folder is a change");
        assert!(artifact_of(&space, &["raw"]).unwrap().contains_key("a/"));
    }

    #[test]
    fn joined_folders_keep_every_file_or_are_refused() {
        let space = TestSpace::new();
        write(&space, "x/file", "");
        write(&space, "y/sub/file", "");
        write(&space, "z/file/below", "");
        fs::create_dir_all(&space.path().join("x/sub")).unwrap();
        let names = |paths: &[&str]| {
            artifact_of(&space, paths).map(|found| found.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(names(&["x", "y"]).unwrap(), ["file", "sub/file"], "`sub` is empty in `x` only");
        assert_eq!(
            names(&["x", "z"]).unwrap_err(),
            "`file` is a file of one folder and a folder of another"
        );
        for twice in [["x", "x/"], ["x", "./x"], ["x", "y/../x"], ["x/file", "x"]] {
            assert_eq!(
                names(&twice).unwrap_err(),
                "two of its files are called `file`",
                "{twice:?}"
            );
        }
    }
}
