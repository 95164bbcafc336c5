//! Whether the cache is as it was written: every object hashed again, every recipe and entry read.
//!
//! Looking takes no lock and holds nobody up: what a run publishes or `gc` removes meanwhile is no damage. Only what is bad
//! is moved out of the way, and only by whoever has the cache alone, after a second look: a run may have mended it.

use super::store::{FILES, Store};
use crate::engine::error::Error;
use crate::engine::key::{Digest, Key, Recipe};
use crate::fs;
use anyhow::{Result, anyhow};
use serde::de::IgnoredAny;
use serde::{Serialize, Serializer};
use std::fmt;

/// What [`verify`] saw.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Objects hashed.
    pub objects: usize,
    /// Entries checked.
    pub entries: usize,
    /// Recipes checked.
    pub recipes: usize,
    /// What was wrong; in JSON, a sentence each.
    pub bad: Vec<Bad>,
}

/// How much there is, in words.
impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Verified { objects, entries, recipes, .. } = self;
        write!(f, "{objects} objects, {entries} entries, {recipes} recipes")
    }
}

/// Something in the cache that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// A file among the objects that is none.
    Stray(String),
    /// An object whose bytes are not those of its name.
    Object(Digest),
    /// A recipe that cannot be read, or has another key, and why.
    Recipe(Key, String),
    /// An entry that cannot be read, or is that of another key.
    Entry(Key),
    /// A note, by its path in the cache, that does not say what it was written to say; nothing
    /// hangs on it.
    Note(String),
    /// The same of one by which `gc` goes.
    Keeper(String),
    /// An entry one of whose outputs is not there in its full size.
    Lacks(Key, String, Digest),
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Bad::Stray(name) => write!(
                f,
                "object `{name}` is not named by a digest, and not ours: it can be removed"
            ),
            Bad::Object(digest) => {
                write!(f, "object `{digest}` does not have the bytes of its name")
            }
            Bad::Recipe(key, why) => write!(f, "recipe `{key}`: {why}"),
            Bad::Entry(key) => write!(f, "entry `{key}` is damaged, or is another key's"),
            Bad::Note(path) => write!(f, "`{path}` is damaged"),
            Bad::Keeper(path) => write!(f, "`{path}` is damaged, and `gc` goes by it"),
            Bad::Lacks(key, name, digest) => {
                write!(f, "entry `{key}` lacks its output `{name}` ({digest})")
            }
        }
    }
}

impl Serialize for Bad {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Looks at the whole cache, on `threads` threads.
pub fn verify(store: &Store, threads: usize) -> Result<Verified> {
    let mut verified = Verified::default();
    let mut digests: Vec<Digest> = Vec::new();
    for name in store.object_names()? {
        match name.parse() {
            Ok(digest) => digests.push(digest),
            Err(_) => verified.bad.push(Bad::Stray(name)),
        }
    }
    verified.objects = digests.len();
    verified.bad.extend(damaged(store, &digests, threads)?.into_iter().map(Bad::Object));
    for key in store.keys("recipes")? {
        verified.recipes += 1;
        if let Err(error) = store.recipe(key) {
            verified.bad.push(Bad::Recipe(key, format!("{error:#}")));
        }
    }
    for key in store.keys("entries")? {
        verified.entries += 1;
        verified.bad.extend(check_entry(store, key)?);
    }
    verified.bad.extend(damaged_notes(store)?);
    Ok(verified)
}

/// The small files that are damaged, or that were swapped for others.
fn damaged_notes(store: &Store) -> Result<Vec<Bad>> {
    let mut bad = Vec::new();
    for (folder, is_keeper) in [("fallbacks", false), ("delivered", false), ("pins", true)] {
        for name in fs::list(&store.root.join(folder))?
            .into_iter()
            .filter(|name| name.parse::<Key>().is_ok())
        {
            let note = format!("{folder}/{name}");
            if is_damaged(store, &note)? {
                bad.push(if is_keeper { Bad::Keeper(note) } else { Bad::Note(note) });
            }
        }
    }
    if is_damaged(store, FILES)? {
        bad.push(Bad::Note(FILES.to_owned()));
    }
    let damaged = store.pipelines()?.into_iter().filter(|(_, requester)| requester.is_none());
    bad.extend(damaged.map(|(path, _)| Bad::Keeper(store.relative(&path))));
    Ok(bad)
}

/// Whether a note is there and does not hold its own path and checksum.
fn is_damaged(store: &Store, note: &str) -> Result<bool> {
    let path = store.root.join(note);
    Ok(store.read_enveloped::<IgnoredAny>(&path)?.is_none()
        && fs::metadata_if_exists(&path)?.is_some())
}

/// Those of `digests` whose objects are there, but not sound.
fn damaged(store: &Store, digests: &[Digest], threads: usize) -> Result<Vec<Digest>> {
    let is_damaged = |digest: &Digest| match store.is_sound(*digest) {
        Ok(sound) => Ok(!sound && is_there(store, *digest)?),
        // It may have gone while it was being read.
        Err(error) => {
            if is_there(store, *digest)? {
                Err(error)
            } else {
                Ok(false)
            }
        }
    };
    let check = |part: &[Digest]| -> Result<Vec<Digest>> {
        let mut damaged = Vec::new();
        for digest in part {
            if is_damaged(digest)? {
                damaged.push(*digest);
            }
        }
        Ok(damaged)
    };
    let chunk = digests.len().div_ceil(threads.max(1)).max(1);
    let parts: Vec<Result<Vec<Digest>>> = std::thread::scope(|scope| {
        let start =
            |part| (part, std::thread::Builder::new().spawn_scoped(scope, move || check(part)));
        let workers: Vec<_> = digests.chunks(chunk).map(start).collect();
        let join =
            |(part, worker): (&[Digest], std::io::Result<std::thread::ScopedJoinHandle<_>>)| {
                match worker {
                    Ok(worker) => {
                        worker.join().unwrap_or_else(|_| Err(anyhow!("BUG: a hashing thread died")))
                    }
                    // The system has no thread for it.
                    Err(_) => check(part),
                }
            };
        workers.into_iter().map(join).collect()
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

fn is_there(store: &Store, digest: Digest) -> Result<bool> {
    Ok(fs::metadata_if_exists(&store.object(digest))?.is_some())
}

/// What is wrong with the entry of `key`, unless it goes meanwhile.
fn check_entry(store: &Store, key: Key) -> Result<Vec<Bad>> {
    let mut bad = Vec::new();
    match store.entry(key)? {
        None => bad.push(Bad::Entry(key)),
        Some(entry) => {
            for (name, stored) in &entry.outputs {
                let meta = fs::metadata_if_exists(&store.object(stored.digest))?;
                if meta.is_none_or(|meta| meta.len() != stored.bytes) {
                    bad.push(Bad::Lacks(key, name.clone(), stored.digest));
                }
            }
        }
    }
    let gone = !bad.is_empty() && fs::metadata_if_exists(&store.entry_path(key))?.is_none();
    Ok(if gone { Vec::new() } else { bad })
}

/// Moves what is still bad out of the way: the next run makes it again. Gives whether it could, which is when nobody else
/// is at work in the cache.
pub fn quarantine(store: &Store, bad: &[Bad]) -> Result<bool> {
    let _alone = match store.lock_exclusive(false) {
        Ok(hold) => hold,
        Err(error) if matches!(error.downcast_ref(), Some(Error::Locked(_))) => return Ok(false),
        Err(error) => return Err(error),
    };
    for bad in bad {
        match bad {
            Bad::Object(digest) if is_there(store, *digest)? && !store.is_sound(*digest)? => {
                store.move_to_quarantine(*digest)?
            }
            Bad::Recipe(key, _) if is_corrupt(&store.recipe(*key)) => {
                fs::remove_if_exists(&store.recipe_path(*key))?;
            }
            Bad::Note(note) if is_damaged(store, note)? => {
                fs::remove_if_exists(&store.root.join(note))?
            }
            Bad::Entry(key) if store.entry(*key)?.is_none() => {
                fs::remove_if_exists(&store.entry_path(*key))?
            }
            Bad::Stray(_) | Bad::Object(_) | Bad::Recipe(..) | Bad::Entry(_) | Bad::Lacks(..) => {}
            // Without it, something that is needed could be removed.
            Bad::Keeper(_) | Bad::Note(_) => {}
        }
    }
    Ok(true)
}

/// Whether a recipe was read and is not what it should be. One that cannot be read at all may be
/// sound.
fn is_corrupt(recipe: &Result<Option<Recipe>>) -> bool {
    recipe.as_ref().is_err_and(|error| matches!(error.downcast_ref(), Some(Error::Corrupt { .. })))
}

#[cfg(test)]
mod tests {
    use super::super::entry::sealed_at;
    use super::super::store::Lookup;
    use super::*;
    use crate::engine::key::Artifact;
    use crate::engine::testing::{TestSpace, overwrite, publish, recipe};
    use std::path::Path;

    fn sentences(verified: &Verified) -> Vec<String> {
        let mut said: Vec<String> = verified.bad.iter().map(Bad::to_string).collect();
        said.sort();
        said
    }

    #[test]
    fn what_is_sound_is_counted() {
        let TestSpace { store, .. } = &TestSpace::new();
        assert_eq!(verify(store, 4).unwrap(), Verified::default());
        publish(store, "k", b"bytes");
        publish(store, "l", b"other");
        store.record_recipe(&recipe("unanswered")).unwrap();
        for threads in [0, 1, 7] {
            let sound = Verified { objects: 2, entries: 2, recipes: 3, bad: Vec::new() };
            assert_eq!(verify(store, threads).unwrap(), sound);
        }
    }

    #[test]
    fn a_sealed_object_that_a_lookup_trusts_is_hashed() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        let digest = entry.outputs["out"].digest;
        overwrite(&store.object(digest), b"bytez");
        fs::seal(&store.object(digest), sealed_at(digest)).unwrap();
        assert!(
            matches!(store.lookup(key).unwrap(), Lookup::Hit(_)),
            "size and time are all a lookup looks at"
        );
        assert_eq!(verify(store, 2).unwrap().bad, [Bad::Object(digest)]);
        assert!(quarantine(store, &[Bad::Object(digest)]).unwrap());
        assert_eq!(store.lookup(key).unwrap(), Lookup::Missing("out".into()));
    }

    #[test]
    fn everything_that_is_bad_is_named_and_set_aside() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (damaged, entry) = publish(store, "damaged", b"damaged");
        let (gone, lost) = publish(store, "gone", b"gone");
        let (unread, _) = publish(store, "unread", b"unread");
        let (renamed, _) = publish(store, "renamed", b"renamed");
        let (bad, missing) = (entry.outputs["out"].digest, lost.outputs["out"].digest);
        overwrite(&store.object(bad), b"Damaged!");
        std::fs::remove_file(store.object(missing)).unwrap();
        fs::write(&store.entry_path(unread), "{").unwrap();
        fs::write(&store.recipe_path(renamed), recipe("x").canonical()).unwrap();
        fs::write(&store.object(missing).with_file_name("notes.txt"), "mine").unwrap();
        let verified = verify(store, 2).unwrap();
        let mut expected = vec![
            "object `notes.txt` is not named by a digest, and not ours: it can be removed"
                .to_owned(),
            format!("object `{bad}` does not have the bytes of its name"),
            format!("entry `{damaged}` lacks its output `out` ({bad})"),
            format!("entry `{gone}` lacks its output `out` ({missing})"),
            format!("entry `{unread}` is damaged, or is another key's"),
            format!(
                "recipe `{renamed}`: the recipe `{}` has another key",
                store.recipe_path(renamed).display()
            ),
        ];
        expected.sort();
        assert_eq!(sentences(&verified), expected);
        assert_eq!((verified.objects, verified.entries, verified.recipes), (3, 4, 4));
        assert!(quarantine(store, &verified.bad).unwrap());
        assert!(!is_there(store, bad).unwrap());
        assert_eq!(store.lookup(unread).unwrap(), Lookup::Absent);
        assert_eq!(store.recipe(renamed).unwrap(), None::<Recipe>);
    }

    #[test]
    fn a_note_that_is_damaged_or_swapped_is_named_and_set_aside_unless_gc_goes_by_it() {
        let TestSpace { store, .. } = &TestSpace::new();
        let [one, two] = ["one", "two"].map(|kind| recipe(kind).key());
        store.record_fallback(one, "no mirror answered").unwrap();
        store.pin(one, "a").unwrap();
        store.remember_delivered("reports/a", &Artifact::new()).unwrap();
        store.remember_pipeline(Path::new("/"), Path::new("p.yaml")).unwrap();
        assert_eq!(verify(store, 1).unwrap().bad, []);
        let at = |note: &str| store.root.join(note);
        let (pipeline, _) = store.pipelines().unwrap().pop().unwrap();
        std::fs::copy(at(&format!("fallbacks/{one}")), at(&format!("fallbacks/{two}"))).unwrap();
        std::fs::rename(at(&format!("pins/{one}")), at(&format!("pins/{two}"))).unwrap();
        std::fs::write(&pipeline, "").unwrap();
        let delivered = format!("delivered/{}", Digest::of(b"reports/a"));
        for note in [&delivered, FILES] {
            std::fs::write(at(note), "{}").unwrap();
        }
        let keepers = [format!("pins/{two}"), store.relative(&pipeline)].map(Bad::Keeper);
        let notes = [format!("fallbacks/{two}"), delivered, FILES.to_owned()].map(Bad::Note);
        let bad = verify(store, 1).unwrap().bad;
        assert_eq!(bad.len(), notes.len() + keepers.len());
        assert!(notes.iter().chain(&keepers).all(|note| bad.contains(note)), "{bad:?}");
        assert!(quarantine(store, &bad).unwrap());
        assert_eq!(verify(store, 1).unwrap().bad, keepers);
        assert_eq!(store.fallback(one).unwrap().as_deref(), Some("no mirror answered"));
    }

    #[test]
    fn what_was_mended_meanwhile_is_left_where_it_is() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (key, entry) = publish(store, "k", b"bytes");
        let digest = entry.outputs["out"].digest;
        overwrite(&store.object(digest), b"bytez");
        let verified = verify(store, 1).unwrap();
        publish(store, "k", b"bytes");
        assert!(quarantine(store, &verified.bad).unwrap());
        assert!(matches!(store.lookup(key).unwrap(), Lookup::Hit(_)));
    }

    #[test]
    fn beside_others_it_looks_and_moves_nothing() {
        let TestSpace { store, .. } = &TestSpace::new();
        let (_, entry) = publish(store, "k", b"bytes");
        let digest = entry.outputs["out"].digest;
        overwrite(&store.object(digest), b"bytez");
        let others = [store.lock_shared(false).unwrap(), store.lock_shared(false).unwrap()];
        let verified = verify(store, 1).unwrap();
        assert_eq!(verified.bad, [Bad::Object(digest)]);
        assert!(!quarantine(store, &verified.bad).unwrap());
        drop(others);
        assert_eq!(verify(store, 1).unwrap(), verified);
        assert!(store.lock_shared(false).is_ok(), "and lets go of the cache");
    }
}
