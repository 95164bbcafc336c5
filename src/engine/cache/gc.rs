//! What of the cache nobody needs any more, and its removal.
//!
//! Kept is what hangs on a root: a key that a current profile asks for, that one of the last runs used, that is pinned, or
//! whose outputs are those of the lock. With a key stay its question, its answer, its logs, its outputs, and the inputs it
//! was made of. Everything else goes: answers first and objects last, so that a crash in between leaves no answer without
//! its bytes. With it go the index of entries and the snapshots of runs, which would remember them for ever, and what was
//! only kept for a look: damaged bytes, and what came out otherwise when it was run again.
//!
//! A node has no key while a result upstream is lost: one that was there once, and is damaged, say.
//! Whatever bytes come there in the end, the node's recipe will have the kind, version, parameters
//! and seed that it has now. So every result of such a recipe is kept, whatever its inputs: the
//! node's own is among them. Where something upstream was never computed, the node was not either.
//!
//! Knows keys and digests; which are roots is for the caller to say.

use super::entry::Entry;
use super::store::Store;
use crate::engine::error::Error;
use crate::engine::key::{Content, Digest, Key, Recipe};
use crate::engine::stage::ROOT;
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is to be kept.
#[derive(Debug, Default)]
pub struct Roots {
    /// Questions, with all that belongs to them.
    pub keys: BTreeSet<Key>,
    /// Outputs: so is every question whose outputs are all among them.
    pub digests: BTreeSet<Digest>,
    /// The [`shape`]s of recipes that nodes may request whose inputs are lost.
    pub shapes: BTreeSet<Key>,
    /// How many of the last runs' histories.
    pub runs: usize,
}

/// What recipes share that differ in their inputs alone; the root that some embed follows from those.
pub fn shape(recipe: &Recipe) -> Key {
    let mut params = recipe.params.clone();
    params.remove(ROOT);
    Recipe { params, inputs: BTreeMap::new(), ..recipe.clone() }.key()
}

/// What is nobody's.
#[derive(Debug, Default, Serialize)]
pub struct Garbage {
    /// By stage kind. Objects that no answer names are under the empty name.
    pub kinds: BTreeMap<String, Share>,
    #[serde(skip)]
    keys: Vec<Key>,
    #[serde(skip)]
    objects: Vec<Digest>,
    #[serde(skip)]
    runs: Vec<String>,
}

/// What a stage kind has in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Answers that stay.
    pub kept: usize,
    /// Answers that go.
    pub removed: usize,
    /// Bytes of the objects that go.
    pub bytes: u64,
}

impl Garbage {
    /// Finds what is not kept by `roots`.
    pub fn of(store: &Store, roots: &Roots) -> Result<Garbage> {
        let mut garbage = Garbage::default();
        let mut live: BTreeSet<Digest> = roots.digests.clone();
        let mut dead: Vec<(String, Arc<Entry>)> = Vec::new();
        for key in store.all_keys()? {
            let (entry, recipe) = (store.entry(key)?, store.recipe(key).ok().flatten());
            let locked = |entry: &Arc<Entry>| {
                entry.outputs.values().all(|stored| roots.digests.contains(&stored.digest))
            };
            // A recipe that cannot be read may have any shape.
            let fits =
                || recipe.as_ref().is_none_or(|recipe| roots.shapes.contains(&shape(recipe)));
            let may_be_needed = || !roots.shapes.is_empty() && fits();
            let kept =
                roots.keys.contains(&key) || entry.as_ref().is_some_and(locked) || may_be_needed();
            let kind = recipe.as_ref().map(|recipe| recipe.kind.clone()).unwrap_or_default();
            if kept {
                live.extend(
                    entry
                        .iter()
                        .flat_map(|entry| entry.outputs.values().map(|stored| stored.digest)),
                );
                let inputs = recipe.iter().flat_map(|recipe| recipe.inputs.values().flatten());
                live.extend(
                    inputs.flat_map(|artifact| artifact.values().filter_map(Content::digest)),
                );
            } else {
                garbage.keys.push(key);
            }
            if let Some(entry) = entry {
                let share = garbage.kinds.entry(kind.clone()).or_default();
                *(if kept { &mut share.kept } else { &mut share.removed }) += 1;
                if !kept {
                    dead.push((kind, entry));
                }
            }
        }
        let mut process: BTreeMap<Digest, String> = BTreeMap::new();
        for (kind, entry) in dead {
            entry
                .outputs
                .values()
                .for_each(|stored| _ = process.insert(stored.digest, kind.clone()));
        }
        for digest in store.all_objects()?.into_iter().filter(|digest| !live.contains(digest)) {
            let kind = process.remove(&digest).unwrap_or_default();
            garbage.kinds.entry(kind).or_default().bytes += store.object_bytes(digest)?;
            garbage.objects.push(digest);
        }
        let mut runs = store.runs()?;
        runs.truncate(runs.len().saturating_sub(roots.runs));
        garbage.runs = runs;
        Ok(garbage)
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.kinds.values().map(|share| share.bytes).sum()
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.objects.is_empty() && self.runs.is_empty()
    }

    /// Removes it. Whoever calls holds the cache alone; a lease that lives on another host is a refusal.
    pub fn remove(&self, store: &Store) -> Result<()> {
        if let Some(process) = store.active_process()? {
            return Err(Error::Locked(format!("{process} is at work in the cache")).into());
        }
        self.keys.iter().try_for_each(|key| store.forget(*key))?;
        self.objects.iter().try_for_each(|digest| store.remove_object(*digest))?;
        self.runs.iter().try_for_each(|id| store.forget_run(id))?;
        store.forget_memo()?;
        store.forget_curiosities()
    }
}

#[cfg(test)]
mod tests {
    use super::super::verify::verify;
    use super::*;
    use crate::engine::testing::TestSpace;

    const A: &str = "stages:\n  a: { source: { text: one } }\n  b: { pair: { left: a } }\n";
    const B: &str = "stages:\n  a: { source: { text: two } }\n  b: { pair: { left: a } }\n";

    fn keys(bench: &TestSpace, yaml: &str) -> BTreeSet<Key> {
        bench.trial(yaml).plan_status().checked.values().map(|checked| checked.key).collect()
    }

    fn removed(garbage: &Garbage) -> Vec<(&str, usize)> {
        garbage.kinds.iter().map(|(kind, share)| (kind.as_str(), share.removed)).collect()
    }

    #[test]
    fn what_hangs_on_a_root_stays_and_the_rest_goes() {
        let bench = TestSpace::new();
        bench.run(A);
        bench.run(B);
        let roots = Roots { keys: keys(&bench, A), ..Roots::default() };
        let garbage = Garbage::of(&bench.store, &roots).unwrap();
        assert_eq!(removed(&garbage), [("pair", 1), ("source", 1)]);
        assert_eq!(garbage.bytes(), "two".len() as u64 + "(two)".len() as u64);
        garbage.remove(&bench.store).unwrap();
        assert_eq!(bench.run(A).submitted, [], "what was kept is whole");
        assert_eq!(verify(&bench.store, 1).unwrap().bad, []);
        assert_eq!(bench.run(B).submitted.len(), 2);
    }

    #[test]
    fn outputs_of_the_lock_keep_their_questions() {
        let bench = TestSpace::new();
        let digests = bench
            .run(A)
            .artifacts
            .values()
            .flat_map(|artifact| artifact.values().filter_map(Content::digest))
            .collect();
        let garbage = Garbage::of(&bench.store, &Roots { digests, ..Roots::default() }).unwrap();
        assert!(garbage.is_empty(), "{garbage:?}");
    }

    #[test]
    fn bytes_that_a_kept_answer_shares_stay() {
        let bench = TestSpace::new();
        bench.run(A);
        bench.run("stages:\n  a: { source: { text: one, note: other } }\n");
        let roots = Roots { keys: keys(&bench, A), ..Roots::default() };
        let garbage = Garbage::of(&bench.store, &roots).unwrap();
        assert_eq!((removed(&garbage), garbage.bytes()), (vec![("pair", 0), ("source", 1)], 0));
        garbage.remove(&bench.store).unwrap();
        assert_eq!(bench.run(A).submitted, []);
    }

    #[test]
    fn while_a_nodes_inputs_are_not_known_every_result_stays_that_may_be_its_own() {
        let bench = TestSpace::new();
        let ran = bench.run(A);
        bench.run("stages:\n  a: { source: { text: x } }\n  g: { gather: { all: a } }\n");
        let [pair, source] = ["b", "a"].map(|node| ran.artifacts[node].clone());
        std::fs::remove_file(bench.store.object(source["text"].digest().unwrap())).unwrap();
        let trial = bench.trial(A);
        let plan_status = trial.plan_status();
        let unknown = trial.plan.ids().filter(|id| !plan_status.checked.contains_key(id));
        let shapes = unknown.map(|id| shape(&trial.plan.recipe_without_inputs(id))).collect();
        let roots = Roots { keys: keys(&bench, A), shapes, ..Roots::default() };
        let garbage = Garbage::of(&bench.store, &roots).unwrap();
        assert_eq!(removed(&garbage), [("gather", 1), ("pair", 0), ("source", 1)]);
        garbage.remove(&bench.store).unwrap();
        assert!(
            pair.values()
                .filter_map(Content::digest)
                .all(|digest| bench.store.is_sound(digest).unwrap())
        );
        assert_eq!(bench.run(A).finished(), ["a"], "what depends on it is still cached");
    }

    #[test]
    fn an_object_that_no_answer_names_goes() {
        let bench = TestSpace::new();
        let ran = bench.run(A);
        let key = ran.submitted[1];
        bench.store.forget(key).unwrap();
        let roots = Roots { keys: keys(&bench, A), ..Roots::default() };
        let garbage = Garbage::of(&bench.store, &roots).unwrap();
        assert_eq!(garbage.kinds[""].bytes, "(one)".len() as u64);
        garbage.remove(&bench.store).unwrap();
        assert_eq!(bench.store.all_objects().unwrap().len(), 1);
    }

    #[test]
    fn the_memo_of_entries_goes_too() {
        let bench = TestSpace::new();
        let index = bench.path().join("cache/v2/entries.index");
        std::fs::write(&index, "of the living and the dead").unwrap();
        Garbage::of(&bench.store, &Roots::default()).unwrap().remove(&bench.store).unwrap();
        assert!(!index.exists());
    }
}
