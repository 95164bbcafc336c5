//! Garbage collection: finds and removes the results that are no longer needed.
//!
//! A key is a root if a profile requests it, one of the last runs used it, it is pinned, or its
//! outputs are those in the lock file. For each root, `gc` keeps the recipe, entry, log and
//! objects, and the objects of the inputs. It removes everything else, entries before objects, so
//! that a crash leaves no entry without its objects. It also removes the index of entries and the
//! snapshots of runs, which contain removed entries, and the files that were kept for inspection:
//! quarantined objects, and outputs that differed when they were recomputed.
//!
//! While a result upstream is lost (for example, damaged), the key of a node is unknown. The kind,
//! version, parameters and seed of its recipe are known, but not the inputs. Therefore `gc` keeps
//! the results of all recipes that differ only in their inputs; the result of the node is one of
//! them. If a node upstream was never computed, the node was not computed either.
//!
//! Knows keys and digests; the caller determines the roots.

use super::entry::Entry;
use super::store::Store;
use crate::engine::error::Error;
use crate::engine::key::{Content, Digest, Key, Recipe};
use crate::engine::stage::EMBEDDED;
use crate::fs;
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The results to keep.
#[derive(Debug, Default)]
pub struct Roots {
    /// Keys whose results are kept.
    pub keys: BTreeSet<Key>,
    /// Outputs: a key is kept if all its outputs are among them.
    pub digests: BTreeSet<Digest>,
    /// The [`shape`]s of the recipes of nodes whose inputs are lost.
    pub shapes: BTreeSet<Key>,
    /// The number of recent runs whose histories are kept.
    pub runs: usize,
}

/// A key that is equal for all recipes that differ only in their inputs, and in the parameters that
/// depend on the inputs.
pub fn shape(recipe: &Recipe) -> Key {
    let mut params = recipe.params.clone();
    params.retain(|name, _| !EMBEDDED.contains(&name.as_str()));
    Recipe { params, inputs: BTreeMap::new(), ..recipe.clone() }.key()
}

/// The files to remove.
#[derive(Debug, Default, Serialize)]
pub struct Garbage {
    /// Totals by stage kind. The kind of objects that no entry names is the empty string.
    pub kinds: BTreeMap<String, KindTotals>,
    #[serde(skip)]
    keys: Vec<Key>,
    #[serde(skip)]
    objects: Vec<Digest>,
    #[serde(skip)]
    runs: Vec<String>,
}

/// The totals of a stage kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindTotals {
    /// Entries that are kept.
    pub kept: usize,
    /// Entries that are removed.
    pub removed: usize,
    /// Bytes of the objects that are removed.
    pub bytes: u64,
}

impl Garbage {
    /// Finds the results that are not needed by `roots`.
    pub fn find(store: &Store, roots: &Roots) -> Result<Garbage> {
        let mut garbage = Garbage::default();
        let mut live: BTreeSet<Digest> = roots.digests.clone();
        let mut dead: Vec<(String, Arc<Entry>)> = Vec::new();
        for key in store.all_keys()? {
            let (entry, recipe) = (store.entry(key)?, store.recipe(key).ok().flatten());
            let kept = roots.keep(key, entry.as_deref(), recipe.as_ref());
            let kind = recipe.as_ref().map(|recipe| recipe.kind.clone()).unwrap_or_default();
            if kept {
                let outputs = entry.iter().flat_map(|entry| entry.outputs.values());
                live.extend(outputs.map(|stored| stored.digest));
                let inputs = recipe.iter().flat_map(|recipe| recipe.inputs.values().flatten());
                live.extend(inputs.flat_map(|input| input.values().filter_map(Content::digest)));
            } else {
                garbage.keys.push(key);
            }
            if let Some(entry) = entry {
                let totals = garbage.kinds.entry(kind.clone()).or_default();
                *(if kept { &mut totals.kept } else { &mut totals.removed }) += 1;
                if !kept {
                    dead.push((kind, entry));
                }
            }
        }
        let mut kinds: BTreeMap<Digest, String> = BTreeMap::new();
        for (kind, entry) in dead {
            kinds.extend(entry.outputs.values().map(|stored| (stored.digest, kind.clone())));
        }
        for digest in store.all_objects()?.into_iter().filter(|digest| !live.contains(digest)) {
            let kind = kinds.remove(&digest).unwrap_or_default();
            garbage.kinds.entry(kind).or_default().bytes += store.local.object_bytes(digest)?;
            garbage.objects.push(digest);
        }
        garbage.runs = store.runs()?;
        garbage.runs.truncate(garbage.runs.len().saturating_sub(roots.runs));
        Ok(garbage)
    }

    /// The total size in bytes.
    pub fn bytes(&self) -> u64 {
        self.kinds.values().map(|totals| totals.bytes).sum()
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.objects.is_empty() && self.runs.is_empty()
    }

    /// Removes the garbage, under the exclusive lock. Fails if another process still uses the
    /// cache, for example on a host that the lock does not reach.
    pub fn remove(&self, store: &Store) -> Result<()> {
        if let Some(process) = store.active_process()? {
            return Err(Error::Locked(format!("{process} is using the cache")).into());
        }
        self.keys.iter().try_for_each(|key| store.remove_result(*key))?;
        self.objects.iter().try_for_each(|digest| store.remove_object(*digest))?;
        self.runs.iter().try_for_each(|id| store.remove_run(id))?;
        store.remove_indexes()?;
        ["quarantine", "recomputed"]
            .iter()
            .try_for_each(|folder| fs::remove_folder_if_exists(&store.path(folder)))
    }
}

impl Roots {
    fn keep(&self, key: Key, entry: Option<&Entry>, recipe: Option<&Recipe>) -> bool {
        let is_locked = |entry: &Entry| {
            !entry.outputs.is_empty()
                && entry.outputs.values().all(|stored| self.digests.contains(&stored.digest))
        };
        // An unreadable recipe may have any shape.
        let has_shape = || recipe.is_none_or(|recipe| self.shapes.contains(&shape(recipe)));
        self.keys.contains(&key)
            || entry.is_some_and(is_locked)
            || (!self.shapes.is_empty() && has_shape())
    }
}

impl Store {
    /// Removes the entry of `key`, then its recipe, fallback and log.
    pub(crate) fn remove_result(&self, key: Key) -> Result<()> {
        fs::remove_if_exists(&self.entry_path(key))?;
        fs::remove_if_exists(&self.local.recipe_path(key))?;
        self.remove_fallback(key)?;
        fs::remove_if_exists(&self.log(key))
    }

    /// Removes an object.
    fn remove_object(&self, digest: Digest) -> Result<()> {
        fs::remove_if_exists(&self.object(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::super::verify::verify;
    use super::*;
    use crate::engine::testing::TestSpace;

    const A: &str = "stages:\n  a: { source: { text: one } }\n  b: { pair: { left: a } }\n";
    const B: &str = "stages:\n  a: { source: { text: two } }\n  b: { pair: { left: a } }\n";

    fn keys(space: &TestSpace, yaml: &str) -> BTreeSet<Key> {
        space.test_run(yaml).plan_status().checked.values().map(|checked| checked.key).collect()
    }

    fn removed(garbage: &Garbage) -> Vec<(&str, usize)> {
        garbage.kinds.iter().map(|(kind, totals)| (kind.as_str(), totals.removed)).collect()
    }

    #[test]
    fn the_roots_are_kept_with_their_inputs_and_the_rest_is_removed() {
        let space = TestSpace::new();
        space.run(A);
        space.run(B);
        let roots = Roots { keys: keys(&space, A), ..Roots::default() };
        let garbage = Garbage::find(&space.store, &roots).unwrap();
        assert_eq!(removed(&garbage), [("pair", 1), ("source", 1)]);
        assert_eq!(garbage.bytes(), "two".len() as u64 + "(two)".len() as u64);
        garbage.remove(&space.store).unwrap();
        assert_eq!(space.run(A).submitted, [], "what was kept is complete");
        assert_eq!(verify(&space.store, 1).unwrap().problems, []);
        assert_eq!(space.run(B).submitted.len(), 2);
    }

    #[test]
    fn a_result_with_locked_outputs_is_kept() {
        let space = TestSpace::new();
        let digests = space
            .run(A)
            .artifacts
            .values()
            .flat_map(|artifact| artifact.values().filter_map(Content::digest))
            .collect();
        let garbage = Garbage::find(&space.store, &Roots { digests, ..Roots::default() }).unwrap();
        assert!(garbage.is_empty(), "{garbage:?}");
    }

    #[test]
    fn an_object_shared_with_a_kept_result_is_kept() {
        let space = TestSpace::new();
        space.run(A);
        space.run("stages:\n  a: { source: { text: one, note: other } }\n");
        let roots = Roots { keys: keys(&space, A), ..Roots::default() };
        let garbage = Garbage::find(&space.store, &roots).unwrap();
        assert_eq!((removed(&garbage), garbage.bytes()), (vec![("pair", 0), ("source", 1)], 0));
        garbage.remove(&space.store).unwrap();
        assert_eq!(space.run(A).submitted, []);
    }

    #[test]
    fn while_the_inputs_of_a_node_are_unknown_every_result_of_its_shape_is_kept() {
        let space = TestSpace::new();
        let ran = space.run(A);
        space.run("stages:\n  a: { source: { text: x } }\n  g: { gather: { all: a } }\n");
        let [pair, source] = ["b", "a"].map(|node| ran.artifacts[node].clone());
        std::fs::remove_file(space.store.object(source["text"].digest().unwrap())).unwrap();
        let test_run = space.test_run(A);
        let plan_status = test_run.plan_status();
        let unknown = test_run.plan.ids().filter(|id| !plan_status.checked.contains_key(id));
        let shapes = unknown.map(|id| shape(&test_run.plan.recipe_without_inputs(id))).collect();
        let roots = Roots { keys: keys(&space, A), shapes, ..Roots::default() };
        let garbage = Garbage::find(&space.store, &roots).unwrap();
        assert_eq!(removed(&garbage), [("gather", 1), ("pair", 0), ("source", 1)]);
        garbage.remove(&space.store).unwrap();
        assert!(
            pair.values()
                .filter_map(Content::digest)
                .all(|digest| space.store.is_intact(digest).unwrap())
        );
        assert_eq!(space.run(A).finished(), ["a"], "the downstream result is still cached");
    }

    #[test]
    fn an_object_that_no_entry_names_is_removed() {
        let space = TestSpace::new();
        let ran = space.run(A);
        let key = ran.submitted[1];
        space.store.remove_result(key).unwrap();
        let roots = Roots { keys: keys(&space, A), ..Roots::default() };
        let garbage = Garbage::find(&space.store, &roots).unwrap();
        assert_eq!(garbage.kinds[""].bytes, "(one)".len() as u64);
        garbage.remove(&space.store).unwrap();
        assert_eq!(space.store.all_objects().unwrap().len(), 1);
    }

    #[test]
    fn the_index_of_entries_is_removed_too() {
        let space = TestSpace::new();
        let index = space.path().join("cache/v2/entries.index");
        std::fs::write(&index, "kept and removed entries").unwrap();
        Garbage::find(&space.store, &Roots::default()).unwrap().remove(&space.store).unwrap();
        assert!(!index.exists());
    }
}
