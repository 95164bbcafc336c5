//! The project's files that stages declare: found, hashed, taken into the cache, and looked at again at the end of a run.
//!
//! A path is looked at once in a process, so that a run speaks of one state of it. Hashing is saved by a index, `(mount, inode,
//! size, mtime, ctime) -> digest`: a file is written down there only if every later edit must show in these ([`Witness`]).
//!
//! Kept of a file are its name, its bytes and whether its owner may run it; an empty folder is kept as such. Times, all other
//! permissions, hard links and extended attributes are not. What editors, systems and version control leave in a folder is
//! no part of it ([`IGNORED`]). A link to a file is that file; one to a folder is that folder, if that lies in what the
//! stage declares.
//!
//! Knows no stage and no key; where the index lies is for the caller to say.

use crate::engine::cache::store::{SOURCE_INDEX, Store, digest_of_file};
use crate::engine::envelope;
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

/// What is left out of declared folders, unless their stage says otherwise.
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

/// The files below a folder. Clones share what they have seen.
#[derive(Clone, Default)]
pub struct Files {
    root: PathBuf,
    /// The cache, which is nobody's data.
    cache: PathBuf,
    index: Arc<BTreeMap<String, Hashed>>,
    witness: Witness,
    looks: Arc<Mutex<BTreeMap<Listed, Listing>>>,
}

/// What decides on a [`Listing`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    path: String,
    ignore: Option<Vec<String>>,
    /// What else the stage declares, if a link leads out of the path.
    beside: Vec<String>,
}

/// A file as it was when it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hashed {
    stat: Stat,
    digest: Digest,
}

/// What is remembered of the project's files, by path.
#[derive(Serialize, Deserialize)]
struct Index {
    files: BTreeMap<String, Hashed>,
}

/// A declared path as it was: its files and empty folders, by their names below it. A single file has the empty name; a
/// slash ends that of a folder.
type Listing = BTreeMap<String, SourceFile>;

#[derive(Clone, Copy)]
struct SourceFile {
    content: Content,
    /// What tells the file from what it was; `None` if nothing does.
    stat: Option<Stat>,
}

impl Files {
    /// Those of the project at `root`. A index that cannot be read is an empty one: it only saves time.
    pub fn of(root: &Path, index: &Path) -> Files {
        let cache = index.parent().unwrap_or(index).to_owned();
        let bytes = fs::read_if_exists(index).ok().flatten();
        let index: Option<Index> = bytes.and_then(|bytes| envelope::unwrap(SOURCE_INDEX, &bytes));
        let files = index.map(|index| index.files).unwrap_or_default();
        let (index, witness) = (Arc::new(files), Witness::at(&cache));
        Files { root: root.to_owned(), cache, index, witness, looks: Arc::default() }
    }

    fn looks(&self) -> MutexGuard<'_, BTreeMap<Listed, Listing>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is declared, by name.
    pub fn artifact(&self, all: &[Declared]) -> Result<Artifact, ValueError> {
        let refuse = |message: String| {
            let hint = "rename one, or bring it in by a stage of its own".to_owned();
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
            // What is empty in one of the folders may not be in another.
            let filled =
                artifact.keys().filter(|name| name.ends_with('/') && has_below(&artifact, name));
            let filled: Vec<String> = filled.cloned().collect();
            artifact.retain(|name, _| !filled.contains(name));
        }
        Ok(artifact)
    }

    /// What there is at a declared path by the names it goes by, with where it lies; `all` are those of the stage.
    fn named(
        &self,
        declared: &Declared,
        all: &[Declared],
    ) -> Result<BTreeMap<String, (PathBuf, Content)>, ValueError> {
        let path = match declared.path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        let look = self.look(path, declared, all)?;
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
    fn look(
        &self,
        path: &str,
        declared: &Declared,
        all: &[Declared],
    ) -> Result<Listing, ValueError> {
        let mut asked =
            Listed { path: path.to_owned(), ignore: declared.ignore.clone(), beside: Vec::new() };
        if let Some(look) = self.looks().get(&asked) {
            return Ok(look.clone());
        }
        asked.beside =
            all.iter().filter(|other| *other != declared).map(|other| other.path.clone()).collect();
        if let Some(look) = self.looks().get(&asked) {
            return Ok(look.clone());
        }
        let Below { found, escapes_root } = self.find(&asked)?;
        if !escapes_root {
            asked.beside.clear();
        }
        let mut look = Listing::new();
        for (below, found) in found {
            let Found::File(meta) = found else {
                look.insert(below, SourceFile { content: Content::EmptyFolder, stat: None });
                continue;
            };
            let here = joined(path, &below);
            let lies = self.root.join(&here);
            let (stat, now) = (self.witness.stat(&lies, &meta), SystemTime::now());
            let known = self.index.get(&here).filter(|seen| Some(seen.stat) == stat);
            let digest = match known {
                Some(seen) => seen.digest,
                None => digest_of_file(&lies).map_err(|e| ValueError::new(format!("{e:#}")))?,
            };
            let stat = stat.filter(|stat| known.is_some() || self.witness.trusts(&lies, stat, now));
            let content = Content::File { digest, executable: fs::is_executable(&meta) };
            look.insert(below, SourceFile { content, stat });
        }
        self.looks().insert(asked, look.clone());
        Ok(look)
    }

    /// The files at and below a path, and the empty folders below it.
    fn find(&self, asked: &Listed) -> Result<Below, ValueError> {
        let path = asked.path.as_str();
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
        let ignored = Ignored::new(asked.ignore.as_deref())?;
        let location = |meta: &Metadata| (meta.dev(), meta.ino());
        let cache = std::fs::metadata(&self.cache).ok().map(|meta| location(&meta));
        // Each with the folders that it lies in: a link to one of them has no end.
        let mut open = vec![(String::new(), vec![location(&meta)])];
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
                    return Err(refuse(message, "rename it: names are part of what is hashed"));
                }
                let is_link = std::fs::symlink_metadata(at(&below))
                    .map_err(|e| cannot(&here, &e))?
                    .is_symlink();
                let meta = std::fs::metadata(at(&below)).map_err(|e| cannot(&here, &e))?;
                if is_link && !self.is_in(&at(&below), path) {
                    escapes_root = true;
                    self.check_link(&here, &meta, &asked.beside)?;
                }
                if !meta.is_dir() {
                    regular(&here, &meta)?;
                    found.insert(below, Found::File(meta));
                } else if cache == Some(location(&meta)) {
                    let message = format!("`{here}` is the cache itself");
                    return Err(refuse(message, "declare the folders beside it, one by one"));
                } else if above.contains(&location(&meta)) {
                    let message =
                        format!("`{here}` is a symbolic link to a folder that it lies in");
                    return Err(refuse(message, "remove it: what is in it has no end"));
                } else {
                    open.push((below, above.iter().copied().chain([location(&meta)]).collect()));
                }
            }
            if is_empty {
                found.insert(format!("{folder}/"), Found::EmptyFolder);
            }
        }
        // A data set that is not mounted, say.
        if !found.values().any(|found| matches!(found, Found::File(_))) {
            let hint =
                ignores.then(|| "what is in it is left out; `ignore` says what is".to_owned());
            return Err(ValueError::at(
                None,
                format!("there is no file in the folder `{path}`"),
                hint,
            ));
        }
        Ok(Below { found, escapes_root })
    }

    /// Whether what a link leads to is, or lies in, the folder at `path`.
    fn is_in(&self, link: &Path, path: &str) -> bool {
        let whole = |path: &Path| path.canonicalize().ok();
        whole(link)
            .zip(whole(&self.root.join(path)))
            .is_some_and(|(to, folder)| to.starts_with(folder))
    }

    /// Refuses a link that leads to a folder that the stage does not declare, and the Python of a virtual environment.
    fn check_link(&self, link: &str, meta: &Metadata, beside: &[String]) -> Result<(), ValueError> {
        let lies = self.root.join(link);
        let to = lies.canonicalize().unwrap_or_default();
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
                "`{link}` is a symbolic link to `{to}`, as of a virtual environment of Python"
            );
            let hint = format!(
                "leave `{environment}` out of `files`, and write \
                 `env: {{ PATH: \"$PROJECT/{environment}/bin:/usr/bin:/bin\" }}`"
            );
            return Err(ValueError::at(None, message, Some(hint)));
        }
        if !meta.is_dir() || beside.iter().any(|other| self.is_in(&lies, other)) {
            return Ok(());
        }
        let message = format!(
            "`{link}` is a symbolic link to the folder `{to}`, which the stage does not declare"
        );
        let hint = format!("declare `{to}` as well, or put a copy in the place of the link");
        Err(ValueError::at(None, message, Some(hint)))
    }

    /// That there is nothing at `path`, and what may have been meant.
    fn missing(&self, path: &str) -> ValueError {
        let form = |name: &str| name.nfc().collect::<String>();
        let unexpanded = path.split('/').next() == Some("~") || path.contains('$');
        let hint = match self.nearly(path) {
            Some(near) if form(&near) == form(path) => {
                format!(
                    "`{}` lies there, in another Unicode form; rename it",
                    near.escape_default()
                )
            }
            Some(near) => {
                format!("`{near}` lies there: names that differ in case alone are two names")
            }
            None if unexpanded => "no shell expands `~` or `$` here; write the path out".to_owned(),
            None => "paths begin at the folder of pipeline.yaml".to_owned(),
        };
        ValueError::at(None, format!("there is no file or folder `{path}`"), Some(hint))
    }

    /// What lies there under nearly this name: in another Unicode form, or in another case.
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

    /// Takes what is declared into the cache, as it was when it was looked at.
    pub fn add_file(&self, store: &Store, all: &[Declared]) -> Result<()> {
        for declared in all {
            for (path, content) in self.named(declared, all)?.into_values() {
                let Some(digest) = content.digest() else { continue };
                if !store.add_file(&path, digest)? {
                    let path = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
                    return Err(Error::FileChanged(path).into());
                }
            }
        }
        Ok(())
    }

    /// Fails if anything that was looked at is no longer what it was.
    pub fn check_unchanged(&self) -> Result<()> {
        for (asked, look) in &*self.looks() {
            let path = &asked.path;
            let changed = |file: &str| Error::FileChanged(joined(path, file));
            let now = self.find(asked).map_err(|_| changed(""))?.found;
            if let Some(other) = now.keys().find(|file| !look.contains_key(*file)) {
                return Err(changed(other).into());
            }
            for (name, sight) in look {
                let lies = self.root.join(joined(path, name));
                if !now
                    .get(name)
                    .map_or(Ok(false), |found| self.is_unchanged(&lies, sight, found))?
                {
                    return Err(changed(name).into());
                }
            }
        }
        Ok(())
    }

    /// Whether what is `found` at `path` now is what it was.
    fn is_unchanged(&self, path: &Path, was: &SourceFile, found: &Found) -> Result<bool> {
        Ok(match (was.content, found) {
            (Content::EmptyFolder, Found::EmptyFolder) => true,
            (Content::File { digest: before, executable }, Found::File(meta)) => {
                let known = was.stat.is_some() && self.witness.stat(path, meta) == was.stat;
                executable == fs::is_executable(meta) && (known || digest_of_file(path)? == before)
            }
            _ => false,
        })
    }

    /// Writes down what was hashed.
    pub fn remember(&self, store: &Store) -> Result<()> {
        let mut files = (*self.index).clone();
        for (Listed { path, .. }, look) in &*self.looks() {
            let seen = |sight: &SourceFile| {
                Some(Hashed { stat: sight.stat?, digest: sight.content.digest()? })
            };
            files.extend(
                look.iter().filter_map(|(file, sight)| Some((joined(path, file), seen(sight)?))),
            );
        }
        if files == *self.index {
            return Ok(());
        }
        files.retain(|path, _| self.root.join(path).exists());
        store.write_source_index(&Index { files })
    }
}

/// What is left out of a folder.
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

    /// Whether what has this name, at this path below the folder, is left out.
    fn has(&self, name: &str, below: &str) -> bool {
        self.0.iter().any(|pattern| {
            pattern.matches(if pattern.as_str().contains('/') { below } else { name })
        })
    }
}

/// What there is at a declared path.
struct Below {
    found: BTreeMap<String, Found>,
    /// Whether a link leads out of it.
    escapes_root: bool,
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

    /// The project of `bench` as a process finds it, whose file systems tell of every edit at once.
    fn files(bench: &TestSpace) -> Files {
        let witness = Witness::trusting(bench.path());
        Files { witness, ..Files::of(bench.path(), &bench.store.source_index()) }
    }

    fn declared(path: &str) -> Declared {
        Declared { path: path.to_owned(), by_path: false, ignore: None }
    }

    /// What another process says of `paths`.
    fn look(bench: &TestSpace, paths: &[&str]) -> Result<Artifact, String> {
        let declared: Vec<Declared> = paths.iter().map(|path| declared(path)).collect();
        files(bench).artifact(&declared).map_err(|error| error.message)
    }

    fn write(bench: &TestSpace, path: &str, bytes: &str) {
        let path = bench.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }

    #[test]
    fn a_file_whose_times_tell_of_edits_is_not_hashed_again() {
        let bench = TestSpace::new();
        write(&bench, "a", "one");
        let first = files(&bench);
        first.artifact(&[declared("a")]).unwrap();
        first.remember(&bench.store).unwrap();
        let mut lies = (*files(&bench).index).clone();
        lies.get_mut("a").unwrap().digest = Digest::of(b"lie");
        let lie = Index { files: lies };
        bench.store.write_source_index(&lie).unwrap();
        let known: Content = Digest::of(b"lie").into();
        assert_eq!(look(&bench, &["a"]).unwrap()["a"], known, "the index is believed");
        assert!(
            files(&bench).add_file(&bench.store, &[declared("a")]).is_err(),
            "what is stored is hashed"
        );
        let hashed: Content = Digest::of(b"one").into();
        fs::write(&bench.store.source_index(), "{").unwrap();
        assert_eq!(
            look(&bench, &["a"]).unwrap()["a"],
            hashed,
            "an index that cannot be read is an empty one"
        );
        bench.store.write_source_index(&lie).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        write(&bench, "a", "two");
        let edited: Content = Digest::of(b"two").into();
        assert_eq!(look(&bench, &["a"]).unwrap()["a"], edited);
    }

    #[test]
    fn a_file_whose_times_do_not_tell_of_edits_is_hashed_by_every_process_and_at_the_end_of_a_run()
    {
        let bench = TestSpace::new();
        write(&bench, "a", "one");
        for witness in [Witness::default(), Witness::at(bench.path())] {
            let files = Files { witness, ..files(&bench) };
            files.artifact(&[declared("a")]).unwrap();
            files.remember(&bench.store).unwrap();
            assert!(!bench.store.source_index().exists());
            files.check_unchanged().unwrap();
            // The times that it had, as after an edit through a memory map.
            let modified = std::fs::metadata(bench.path().join("a")).unwrap().modified().unwrap();
            write(&bench, "a", "two");
            std::fs::File::open(bench.path().join("a")).unwrap().set_modified(modified).unwrap();
            let error = files.check_unchanged().unwrap_err();
            assert!(
                matches!(error.downcast_ref(), Some(Error::FileChanged(file)) if file == "a"),
                "{error}"
            );
            write(&bench, "a", "one");
        }
    }

    #[test]
    fn the_executable_bit_and_empty_folders_are_part_of_what_is_declared() {
        let bench = TestSpace::new();
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
        let bench = TestSpace::new();
        write(&bench, "x/file", "");
        write(&bench, "y/sub/file", "");
        write(&bench, "z/file/below", "");
        fs::create_dir_all(&bench.path().join("x/sub")).unwrap();
        let names =
            |paths: &[&str]| look(&bench, paths).map(|found| found.into_keys().collect::<Vec<_>>());
        assert_eq!(
            names(&["x", "y"]).unwrap(),
            ["file", "sub/file"],
            "`sub` is empty in one of them alone"
        );
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
