//! Where every node stands before anything runs: cached, due, or dependent on one that is due.
//!
//! `plan`, `why` and `run` all begin with a survey, and the scheduler asks the same [`Surveyor`] again about each node
//! that had to wait for its inputs: what is planned and what is run cannot differ. Reads the store, changes nothing.

use super::key::{Artifact, Key, Recipe};
use super::plan::{NodeId, Plan};
use super::reason::{Past, Reason};
use super::store::{Entry, Lookup, Store};
use anyhow::Result;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

/// Where a node stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Its answer is in the cache.
    Cached(Entry),
    /// It will run.
    Due(Vec<Reason>),
    /// Something upstream will run; this one will too, unless that gives equal bytes.
    Depends(Vec<Reason>),
}

/// A node whose inputs are known.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The question, or that of its fallback.
    pub recipe: Recipe,
    /// Its key.
    pub key: Key,
    /// [`Standing::Cached`] or [`Standing::Due`].
    pub standing: Standing,
    /// Why the fallback is asked instead, if it is.
    pub fell_back: Option<String>,
}

/// All nodes asked for.
pub struct Survey {
    /// By node.
    pub standing: BTreeMap<NodeId, Standing>,
    /// Keys, recipes and fallbacks of the nodes whose inputs are known.
    pub checked: BTreeMap<NodeId, Checked>,
}

/// Finds out where nodes stand.
pub struct Surveyor<'a> {
    plan: &'a Plan,
    store: &'a Store,
    forced: BTreeSet<NodeId>,
    refetch: bool,
    past: OnceCell<Past>,
}

impl<'a> Surveyor<'a> {
    /// Of `plan` against `store`. Nodes in `forced` are due whatever is cached; with `refetch`, remembered fallbacks do
    /// not count.
    pub fn new(plan: &'a Plan, store: &'a Store, forced: BTreeSet<NodeId>, refetch: bool) -> Self {
        Surveyor { plan, store, forced, refetch, past: OnceCell::new() }
    }

    /// Looks at all of `wanted`, which must hold the inputs of each of its nodes.
    pub fn survey(&self, wanted: &BTreeSet<NodeId>) -> Result<Survey> {
        let mut survey = Survey { standing: BTreeMap::new(), checked: BTreeMap::new() };
        let mut artifacts: BTreeMap<NodeId, Artifact> = BTreeMap::new();
        for &id in wanted {
            let upstream = self.plan.node(id).upstream();
            if upstream.iter().all(|up| artifacts.contains_key(up)) {
                let checked = self.check(id, |up| &artifacts[&up])?;
                if let Standing::Cached(entry) = &checked.standing {
                    artifacts.insert(id, entry.artifact());
                }
                survey.standing.insert(id, checked.standing.clone());
                survey.checked.insert(id, checked);
            } else if self.forced.contains(&id) {
                survey.standing.insert(id, Standing::Due(vec![Reason::Forced]));
            } else {
                survey.standing.insert(id, Standing::Depends(Vec::new()));
            }
        }
        // Reasons come second: what explains a question best is an earlier one that this plan no longer asks.
        let current: BTreeSet<Key> = survey.checked.values().map(|c| c.key).collect();
        for &id in wanted {
            let reasons = match &survey.standing[&id] {
                Standing::Cached(_) => continue,
                Standing::Due(known) if !known.is_empty() => continue,
                Standing::Due(_) => self.explain(&survey.checked[&id].recipe, &current)?,
                Standing::Depends(_) => self.upstream_reasons(id, &survey),
            };
            match survey.standing.get_mut(&id) {
                Some(Standing::Due(slot) | Standing::Depends(slot)) => *slot = reasons,
                _ => unreachable!("BUG: only due and dependent nodes get reasons"),
            }
        }
        Ok(survey)
    }

    /// Looks at one node whose inputs are known. A node never answered comes back `Due` without reasons.
    pub fn check<'b>(&self, id: NodeId, artifact: impl Fn(NodeId) -> &'b Artifact) -> Result<Checked> {
        let recipe = self.plan.recipe(id, false, &artifact);
        let key = recipe.key();
        let standing = self.standing(id, key)?;
        let has_fallback = self.plan.node(id).question.fallback.is_some();
        if has_fallback && !self.refetch && !matches!(standing, Standing::Cached(_)) {
            if let Some(cause) = self.store.choice(key)? {
                return self.check_fallback(id, cause, artifact);
            }
        }
        Ok(Checked { recipe, key, standing, fell_back: None })
    }

    /// Looks at a node's fallback, which is used because of `cause`.
    pub fn check_fallback<'b>(
        &self,
        id: NodeId,
        cause: String,
        artifact: impl Fn(NodeId) -> &'b Artifact,
    ) -> Result<Checked> {
        let recipe = self.plan.recipe(id, true, &artifact);
        let key = recipe.key();
        Ok(Checked { recipe, key, standing: self.standing(id, key)?, fell_back: Some(cause) })
    }

    /// Why `recipe`, which has no answer, must run; `current` are the keys the plan asks for anyway.
    pub fn explain(&self, recipe: &Recipe, current: &BTreeSet<Key>) -> Result<Vec<Reason>> {
        if self.past.get().is_none() {
            // Read at the first miss only: an unchanged run never pays for it.
            let _ = self.past.set(Past::new(self.store.recipes()?));
        }
        Ok(self.past.get().map_or_else(Vec::new, |past| past.explain(recipe, current)))
    }

    fn standing(&self, id: NodeId, key: Key) -> Result<Standing> {
        if self.forced.contains(&id) {
            return Ok(Standing::Due(vec![Reason::Forced]));
        }
        Ok(match self.store.lookup(key)? {
            Lookup::Hit(entry) => Standing::Cached(entry),
            Lookup::Absent => Standing::Due(Vec::new()),
            Lookup::Missing(file) => Standing::Due(vec![Reason::OutputMissing { file }]),
            Lookup::Damaged(file) => Standing::Due(vec![Reason::OutputDamaged { file }]),
        })
    }

    /// The changes that started it all, through whichever nodes lie between.
    fn upstream_reasons(&self, id: NodeId, survey: &Survey) -> Vec<Reason> {
        let mut roots: BTreeSet<NodeId> = BTreeSet::new();
        let mut open: Vec<NodeId> = vec![id];
        let mut seen: BTreeSet<NodeId> = BTreeSet::new();
        while let Some(next) = open.pop() {
            for up in self.plan.node(next).upstream() {
                match &survey.standing[&up] {
                    Standing::Cached(_) => {}
                    Standing::Due(_) => _ = roots.insert(up),
                    Standing::Depends(_) if seen.insert(up) => open.push(up),
                    Standing::Depends(_) => {}
                }
            }
        }
        let mut by_cause: BTreeMap<String, (NodeId, usize, Vec<Reason>)> = BTreeMap::new();
        for root in roots {
            let Standing::Due(because) = &survey.standing[&root] else { continue };
            let wording = because.iter().map(Reason::to_string).collect::<Vec<_>>().join("; ");
            by_cause.entry(wording).or_insert_with(|| (root, 0, because.clone())).1 += 1;
        }
        let upstream = |(node, count, because): (NodeId, usize, Vec<Reason>)| Reason::Upstream {
            node: self.plan.node(node).name.clone(),
            count,
            because,
        };
        by_cause.into_values().map(upstream).collect()
    }
}
