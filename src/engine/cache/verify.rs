//! Verification: hashes every object, and reads every recipe, entry and small file.
//!
//! Verification takes no lock, and does not delay other processes: it tolerates files that a run
//! adds or `gc` removes meanwhile. It moves damaged files away only under the exclusive lock, after
//! a second check, because a run may have replaced them.

use super::exports::EXPORTS;
use super::pin::PINS;
use super::store::Store;
use crate::engine::envelope::SOURCES;
use crate::engine::error::Error;
use crate::engine::key::{Digest, Key, Recipe};
use crate::fs;
use anyhow::{Result, anyhow};
use serde::de::IgnoredAny;
use serde::{Serialize, Serializer};
use std::fmt;
use std::thread::{Builder, ScopedJoinHandle};

/// The outcome of [`verify`].
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The number of objects that were hashed.
    pub objects: usize,
    /// The number of entries that were read.
    pub entries: usize,
    /// The number of recipes that were read.
    pub recipes: usize,
    /// The damaged files; in JSON, a sentence each.
    pub problems: Vec<Problem>,
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let VerifyReport { objects, entries, recipes, .. } = self;
        write!(f, "{objects} objects, {entries} entries, {recipes} recipes")
    }
}

/// A damaged, missing or foreign file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A file among the objects whose name is not a digest.
    ForeignFile(String),
    /// An object whose bytes have another digest.
    Object(Digest),
    /// A recipe that cannot be read or has another key, and the reason.
    Recipe(Key, String),
    /// An entry that is damaged or belongs to another key.
    Entry(Key),
    /// A small file that can be removed, by its path in the cache.
    SmallFile(String),
    /// A small file that `gc` needs.
    Root(String),
    /// An output of an entry whose object is missing or has another size.
    MissingOutput(Key, String, Digest),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Problem::ForeignFile(name) => {
                write!(f, "`objects/{name}` does not belong to the cache; remove it")
            }
            Problem::Object(digest) => {
                write!(f, "object `{digest}` is damaged: its bytes have another digest")
            }
            Problem::Recipe(key, reason) => write!(f, "recipe `{key}`: {reason}"),
            Problem::Entry(key) => write!(f, "entry `{key}` is damaged or belongs to another key"),
            Problem::SmallFile(path) => write!(f, "`{path}` is damaged"),
            Problem::Root(path) => write!(f, "`{path}` is damaged, and `gc` needs it"),
            Problem::MissingOutput(key, name, digest) => {
                write!(f, "entry `{key}` lacks its output `{name}` ({digest})")
            }
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Verifies the whole cache, on `threads` threads.
pub fn verify(store: &Store, threads: usize) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let mut digests: Vec<Digest> = Vec::new();
    for name in store.object_names()? {
        match name.parse() {
            Ok(digest) => digests.push(digest),
            Err(_) => report.problems.push(Problem::ForeignFile(name)),
        }
    }
    report.objects = digests.len();
    let damaged = damaged_objects(store, &digests, threads)?;
    report.problems.extend(damaged.into_iter().map(Problem::Object));
    for key in store.keys("recipes")? {
        report.recipes += 1;
        if let Err(error) = store.recipe(key) {
            report.problems.push(Problem::Recipe(key, format!("{error:#}")));
        }
    }
    for key in store.keys("entries")? {
        report.entries += 1;
        report.problems.extend(check_entry(store, key)?);
    }
    report.problems.extend(damaged_small_files(store)?);
    Ok(report)
}

/// The small files that are damaged or swapped for others.
fn damaged_small_files(store: &Store) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for (folder, is_root) in [("fallbacks", false), (EXPORTS, false), (PINS, true)] {
        let mut names = fs::list(&store.path(folder))?;
        names.retain(|name| name.parse::<Key>().is_ok());
        for path in names.into_iter().map(|name| format!("{folder}/{name}")) {
            if is_damaged(store, &path)? {
                problems.push(if is_root { Problem::Root(path) } else { Problem::SmallFile(path) });
            }
        }
    }
    if is_damaged(store, SOURCES)? {
        problems.push(Problem::SmallFile(SOURCES.to_owned()));
    }
    let damaged = store.pipelines()?.into_iter().filter(|(_, record)| record.is_none());
    problems.extend(damaged.map(|(path, _)| Problem::Root(store.local.relative(&path))));
    Ok(problems)
}

/// Whether a file exists without a valid envelope.
fn is_damaged(store: &Store, name: &str) -> Result<bool> {
    let path = store.path(name);
    Ok(store.local.read_enveloped::<IgnoredAny>(&path)?.is_none()
        && fs::metadata_if_exists(&path)?.is_some())
}

/// The digests among `digests` whose objects are damaged.
fn damaged_objects(store: &Store, digests: &[Digest], threads: usize) -> Result<Vec<Digest>> {
    let check = |part: &[Digest]| -> Result<Vec<Digest>> {
        let mut damaged = Vec::new();
        for &digest in part {
            // An object may be removed while it is read.
            let is_damaged = match store.is_intact(digest) {
                Ok(is_intact) => !is_intact && exists(store, digest)?,
                Err(error) if exists(store, digest)? => return Err(error),
                Err(_) => false,
            };
            damaged.extend(is_damaged.then_some(digest));
        }
        Ok(damaged)
    };
    let chunk = digests.len().div_ceil(threads.max(1)).max(1);
    let parts: Vec<Result<Vec<Digest>>> = std::thread::scope(|scope| {
        let start = |part| (part, Builder::new().spawn_scoped(scope, move || check(part)));
        let workers: Vec<_> = digests.chunks(chunk).map(start).collect();
        let join = |(part, worker): (&[Digest], std::io::Result<ScopedJoinHandle<_>>)| match worker
        {
            Ok(worker) => {
                worker.join().unwrap_or_else(|_| Err(anyhow!("BUG: a hashing thread panicked")))
            }
            // The system has refused a thread.
            Err(_) => check(part),
        };
        workers.into_iter().map(join).collect()
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

fn exists(store: &Store, digest: Digest) -> Result<bool> {
    Ok(fs::metadata_if_exists(&store.object(digest))?.is_some())
}

/// The problems of the entry of `key`; empty if the entry was removed meanwhile.
fn check_entry(store: &Store, key: Key) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    match store.entry(key)? {
        None => problems.push(Problem::Entry(key)),
        Some(entry) => {
            for (name, stored) in &entry.outputs {
                let meta = fs::metadata_if_exists(&store.object(stored.digest))?;
                if meta.is_none_or(|meta| meta.len() != stored.bytes) {
                    problems.push(Problem::MissingOutput(key, name.clone(), stored.digest));
                }
            }
        }
    }
    if !problems.is_empty() && fs::metadata_if_exists(&store.entry_path(key))?.is_none() {
        problems.clear();
    }
    Ok(problems)
}

/// Moves damaged objects to the quarantine and removes other damaged files, so that the next run
/// writes them again. Returns whether it could lock the cache. Keeps files that `gc` needs: without
/// them, `gc` could remove a result that is needed.
pub fn quarantine(store: &Store, problems: &[Problem]) -> Result<bool> {
    let _lock = match store.lock_exclusive(false) {
        Ok(lock) => lock,
        Err(error) if matches!(error.downcast_ref(), Some(Error::Locked(_))) => return Ok(false),
        Err(error) => return Err(error),
    };
    for problem in problems {
        match problem {
            Problem::Object(digest) => {
                if exists(store, *digest)? && !store.is_intact(*digest)? {
                    store.local.move_to_quarantine(*digest)?;
                }
            }
            Problem::Recipe(key, _) => {
                if is_corrupt(&store.recipe(*key)) {
                    fs::remove_if_exists(&store.local.recipe_path(*key))?;
                }
            }
            Problem::Entry(key) => {
                if store.entry(*key)?.is_none() {
                    fs::remove_if_exists(&store.entry_path(*key))?;
                }
            }
            Problem::SmallFile(path) => {
                if is_damaged(store, path)? {
                    fs::remove_if_exists(&store.path(path))?;
                }
            }
            Problem::ForeignFile(_) | Problem::Root(_) | Problem::MissingOutput(..) => {}
        }
    }
    Ok(true)
}

/// Whether a recipe is damaged. A recipe that cannot be read may be intact.
fn is_corrupt(recipe: &Result<Option<Recipe>>) -> bool {
    recipe.as_ref().is_err_and(|error| matches!(error.downcast_ref(), Some(Error::Corrupt { .. })))
}

#[cfg(test)]
mod tests {
    use super::super::entry::sealed_at;
    use super::super::store::Lookup;
    use super::*;
    use crate::engine::cache::exports::ExportedFiles;
    use crate::engine::testing::{TestSpace, overwrite, publish, recipe};
    use std::path::Path;

    fn sentences(report: &VerifyReport) -> Vec<String> {
        let mut sentences: Vec<String> = report.problems.iter().map(Problem::to_string).collect();
        sentences.sort();
        sentences
    }

    #[test]
    fn intact_files_are_counted() {
        let TestSpace { store, .. } = &TestSpace::new();
        assert_eq!(verify(store, 4).unwrap(), VerifyReport::default());
        publish(store, "k", b"bytes");
        publish(store, "l", b"other");
        store.record_recipe(&recipe("never computed")).unwrap();
        for threads in [0, 1, 7] {
            let intact = VerifyReport { objects: 2, entries: 2, recipes: 3, problems: Vec::new() };
            assert_eq!(verify(store, threads).unwrap(), intact);
        }
    }

    #[test]
    fn a_sealed_object_is_hashed_although_a_lookup_trusts_it() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        let digest = entry.outputs["out"].digest;
        overwrite(&store.object(digest), b"bytez");
        fs::seal(&store.object(digest), sealed_at(digest)).unwrap();
        assert!(
            matches!(store.lookup(key).unwrap(), Lookup::Hit(_)),
            "a lookup reads size and time only"
        );
        assert_eq!(verify(store, 2).unwrap().problems, [Problem::Object(digest)]);
        assert!(quarantine(store, &[Problem::Object(digest)]).unwrap());
        assert_eq!(store.lookup(key).unwrap(), Lookup::Missing("out".into()));
    }

    #[test]
    fn damaged_files_are_reported_and_moved_away() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (damaged, entry) = publish(store, "damaged", b"damaged");
        let (gone, lost) = publish(store, "gone", b"gone");
        let (unread, _) = publish(store, "unread", b"unread");
        let (renamed, _) = publish(store, "renamed", b"renamed");
        let (bad, missing) = (entry.outputs["out"].digest, lost.outputs["out"].digest);
        overwrite(&store.object(bad), b"Damaged!");
        std::fs::remove_file(store.object(missing)).unwrap();
        fs::write(&store.entry_path(unread), "{").unwrap();
        fs::write(&store.local.recipe_path(renamed), recipe("x").canonical()).unwrap();
        fs::write(&store.object(missing).with_file_name("notes.txt"), "mine").unwrap();
        let report = verify(store, 2).unwrap();
        let mut expected = vec![
            "`objects/notes.txt` does not belong to the cache; remove it".to_owned(),
            format!("object `{bad}` is damaged: its bytes have another digest"),
            format!("entry `{damaged}` lacks its output `out` ({bad})"),
            format!("entry `{gone}` lacks its output `out` ({missing})"),
            format!("entry `{unread}` is damaged or belongs to another key"),
            format!(
                "recipe `{renamed}`: the recipe `{}` has another key",
                store.local.recipe_path(renamed).display()
            ),
        ];
        expected.sort();
        assert_eq!(sentences(&report), expected);
        assert_eq!((report.objects, report.entries, report.recipes), (3, 4, 4));
        assert!(quarantine(store, &report.problems).unwrap());
        assert!(!exists(store, bad).unwrap());
        assert_eq!(store.lookup(unread).unwrap(), Lookup::Absent);
        assert_eq!(store.recipe(renamed).unwrap(), None::<Recipe>);
    }

    #[test]
    fn a_damaged_or_swapped_small_file_is_reported_and_removed_unless_gc_needs_it() {
        let TestSpace { store, .. } = &TestSpace::new();
        let [one, two] = ["one", "two"].map(|kind| recipe(kind).key());
        store.record_fallback(one, "no mirror responded").unwrap();
        store.pin(one, "a").unwrap();
        store.record_export("reports/a", &ExportedFiles::default()).unwrap();
        store.record_pipeline(Path::new("/"), Path::new("p.yaml")).unwrap();
        assert_eq!(verify(store, 1).unwrap().problems, []);
        let at = |name: &str| store.path(name);
        let (pipeline, _) = store.pipelines().unwrap().pop().unwrap();
        std::fs::copy(at(&format!("fallbacks/{one}")), at(&format!("fallbacks/{two}"))).unwrap();
        std::fs::rename(at(&format!("pins/{one}")), at(&format!("pins/{two}"))).unwrap();
        std::fs::write(&pipeline, "").unwrap();
        let export = format!("exports/{}", Digest::of(b"reports/a"));
        for name in [&export, SOURCES] {
            std::fs::write(at(name), "{}").unwrap();
        }
        let roots = [format!("pins/{two}"), store.local.relative(&pipeline)].map(Problem::Root);
        let others = [format!("fallbacks/{two}"), export, SOURCES.to_owned()];
        let others = others.map(Problem::SmallFile);
        let problems = verify(store, 1).unwrap().problems;
        assert_eq!(problems.len(), others.len() + roots.len());
        assert!(others.iter().chain(&roots).all(|one| problems.contains(one)), "{problems:?}");
        assert!(quarantine(store, &problems).unwrap());
        assert_eq!(verify(store, 1).unwrap().problems, roots);
        assert_eq!(store.fallback(one).unwrap().as_deref(), Some("no mirror responded"));
    }

    #[test]
    fn an_object_that_was_replaced_meanwhile_stays() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        let digest = entry.outputs["out"].digest;
        overwrite(&store.object(digest), b"bytez");
        let report = verify(store, 1).unwrap();
        publish(store, "k", b"bytes");
        assert!(quarantine(store, &report.problems).unwrap());
        assert!(matches!(store.lookup(key).unwrap(), Lookup::Hit(_)));
    }

    #[test]
    fn while_other_processes_use_the_cache_nothing_is_moved() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (_, entry) = publish(store, "k", b"bytes");
        let digest = entry.outputs["out"].digest;
        overwrite(&store.object(digest), b"bytez");
        let others = [store.lock_shared(false).unwrap(), store.lock_shared(false).unwrap()];
        let report = verify(store, 1).unwrap();
        assert_eq!(report.problems, [Problem::Object(digest)]);
        assert!(!quarantine(store, &report.problems).unwrap());
        drop(others);
        assert_eq!(verify(store, 1).unwrap(), report);
        assert!(store.lock_shared(false).is_ok(), "the lock was released");
    }
}
