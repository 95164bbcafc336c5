//! The status of all nodes before the first job: cached, stale, or downstream of a stale node.
//!
//! `plan`, `why` and `run` all start with a [`PlanStatus`]. The scheduler uses the same
//! [`StatusChecker`] when the inputs of a node are done, so that a run matches its plan. Reads the
//! store and does not change it.

use super::reason::{Past, PastKeys, Reason};
use crate::engine::cache::entry::Entry;
use crate::engine::cache::store::{Lookup, Store};
use crate::engine::key::{Artifact, Key, Recipe};
use crate::engine::spec::plan::{NodeId, Plan};
use anyhow::Result;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The number of similar earlier jobs whose mean duration is the estimate.
const SIMILAR: usize = 8;

/// The status of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Its result is in the cache.
    Cached(Arc<Entry>),
    /// The node will run.
    Stale(Vec<Reason>),
    /// A node upstream will run. This node will run too, unless the new outputs upstream are equal.
    MaybeStale(Vec<Reason>),
}

/// A node whose inputs are known.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its recipe, or that of its fallback; `None` for a cached node.
    pub recipe: Option<Recipe>,
    /// The recipe's key.
    pub key: Key,
    /// [`Status::Cached`] or [`Status::Stale`].
    pub status: Status,
    /// The cause, if its fallback is used.
    pub fell_back: Option<String>,
}

impl Checked {
    fn new(recipe: Recipe, key: Key, status: Status, fell_back: Option<String>) -> Checked {
        // There may be many cached nodes, and their recipes are not needed any more.
        let recipe = if matches!(status, Status::Cached(_)) { None } else { Some(recipe) };
        Checked { recipe, key, status, fell_back }
    }
}

/// The status of all requested nodes.
pub struct PlanStatus {
    /// By node.
    pub status: BTreeMap<NodeId, Status>,
    /// Keys, recipes and fallbacks of the nodes whose inputs are known.
    pub checked: BTreeMap<NodeId, Checked>,
    /// The outputs of cached nodes.
    pub artifacts: BTreeMap<NodeId, Arc<Artifact>>,
    /// The results of cached nodes that are only in the remote.
    pub remote: BTreeMap<Key, Arc<Entry>>,
}

impl PlanStatus {
    /// Whether a node uses its fallback.
    pub fn fell_back(&self, id: NodeId) -> bool {
        self.checked.get(&id).is_some_and(|checked| checked.fell_back.is_some())
    }
}

/// Reads the keys of earlier runs of a profile.
pub type ReadPastKeys = fn(&Store, Option<&str>) -> Result<PastKeys>;

/// Finds the status of nodes.
pub struct StatusChecker<'a> {
    plan: &'a Plan,
    store: &'a Store,
    forced: BTreeSet<NodeId>,
    refetch: bool,
    past_keys: ReadPastKeys,
    past: OnceCell<Past>,
    /// The nodes that use their fallbacks, so far.
    fell_back: RefCell<BTreeSet<NodeId>>,
    /// The results that were found in the remote only, so far.
    remote: RefCell<BTreeMap<Key, Arc<Entry>>>,
}

impl<'a> StatusChecker<'a> {
    /// Checks `plan` against `store`. Nodes in `forced` are stale even if they are cached. With
    /// `refetch`, recorded fallbacks are ignored.
    pub fn new(
        plan: &'a Plan,
        store: &'a Store,
        forced: BTreeSet<NodeId>,
        refetch: bool,
        past_keys: ReadPastKeys,
    ) -> Self {
        StatusChecker {
            plan,
            store,
            forced,
            refetch,
            past_keys,
            past: OnceCell::new(),
            fell_back: RefCell::default(),
            remote: RefCell::default(),
        }
    }

    /// The status of the nodes in `requested`, which must contain all their inputs.
    pub fn plan_status(&self, requested: &BTreeSet<NodeId>) -> Result<PlanStatus> {
        let mut plan_status = PlanStatus {
            status: BTreeMap::new(),
            checked: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            remote: BTreeMap::new(),
        };
        self.look_ahead(requested)?;
        self.remote.borrow_mut().clear();
        for &id in requested {
            // All declared files are read before the first job, so that a later edit is detected as
            // a change during the run.
            self.plan.source_files(id)?;
            self.plan.check_slots(id)?;
            let upstream = self.plan.node(id).upstream();
            if upstream.iter().all(|up| plan_status.artifacts.contains_key(up)) {
                let checked = self.check(id, |up| &*plan_status.artifacts[&up])?;
                if let Status::Cached(entry) = &checked.status {
                    plan_status.artifacts.insert(id, Arc::new(entry.artifact()));
                }
                plan_status.status.insert(id, checked.status.clone());
                plan_status.checked.insert(id, checked);
            } else if self.forced.contains(&id) {
                plan_status.status.insert(id, Status::Stale(vec![Reason::Forced]));
            } else {
                plan_status.status.insert(id, Status::MaybeStale(Vec::new()));
            }
        }
        // Computed after the keys of all nodes: a recipe is compared with one that is no longer in
        // the plan, if possible.
        let current: BTreeSet<Key> = plan_status.checked.values().map(|c| c.key).collect();
        let mut roots = BTreeMap::new();
        for &id in requested {
            let reasons = match &plan_status.status[&id] {
                Status::Cached(_) => continue,
                Status::Stale(known) if !known.is_empty() => continue,
                Status::Stale(_) => match &plan_status.checked[&id].recipe {
                    Some(recipe) => self.explain(id, recipe, &current)?,
                    None => Vec::new(),
                },
                Status::MaybeStale(_) => {
                    let from = self.stale_upstream(id, &plan_status, &roots);
                    let reasons = self.upstream_reasons(&from, &plan_status);
                    roots.insert(id, from);
                    reasons
                }
            };
            match plan_status.status.get_mut(&id) {
                Some(Status::Stale(slot) | Status::MaybeStale(slot)) => *slot = reasons,
                _ => unreachable!("BUG: a cached node has no reasons"),
            }
        }
        plan_status.remote = self.remote.take();
        Ok(plan_status)
    }

    /// Looks the nodes up in the remote, level by level, so that the lookups of
    /// [`StatusChecker::plan_status`] take no time.
    fn look_ahead(&self, requested: &BTreeSet<NodeId>) -> Result<()> {
        let mut known: BTreeMap<NodeId, Artifact> = BTreeMap::new();
        let mut open: Vec<NodeId> = requested.iter().copied().collect();
        while self.store.uses_remote() && !open.is_empty() {
            let is_ready = |id: &NodeId| {
                let upstream = self.plan.node(*id).upstream();
                upstream.iter().all(|up| known.contains_key(up))
            };
            let (ready, rest): (Vec<NodeId>, Vec<NodeId>) = open.into_iter().partition(is_ready);
            open = rest;
            let mut keys = Vec::new();
            for id in ready.into_iter().filter(|id| !self.forced.contains(id)) {
                self.plan.source_files(id)?;
                let recipe = self.plan.recipe(id, |_| false, |up| &known[&up])?;
                keys.push((id, recipe.key()));
            }
            if keys.is_empty() {
                break;
            }
            self.store.look_ahead(&keys.iter().map(|(_, key)| *key).collect::<Vec<_>>())?;
            for (id, key) in keys {
                let entry = self.store.lookup(key)?.usable();
                known.extend(entry.map(|entry| (id, entry.artifact())));
            }
        }
        Ok(())
    }

    /// Checks a node whose inputs are known. If it has no entry, it is stale without reasons;
    /// [`StatusChecker::explain`] finds them.
    pub fn check<'b>(
        &self,
        id: NodeId,
        artifact: impl Fn(NodeId) -> &'b Artifact,
    ) -> Result<Checked> {
        self.fell_back.borrow_mut().remove(&id);
        let recipe = self.recipe(id, &artifact)?;
        let key = recipe.key();
        let status = self.status(id, key)?;
        let has_fallback = self.plan.node(id).resolved.fallback.is_some();
        let is_stale = !matches!(status, Status::Cached(_));
        if has_fallback
            && is_stale
            && !self.refetch
            && let Some(cause) = self.store.fallback(key)?
        {
            return self.check_fallback(id, cause, artifact);
        }
        Ok(Checked::new(recipe, key, status, None))
    }

    /// The recipe of a node whose inputs are known, or of its fallback, if that was checked last.
    pub fn recipe<'b>(
        &self,
        id: NodeId,
        artifact: impl Fn(NodeId) -> &'b Artifact,
    ) -> Result<Recipe> {
        self.plan.recipe(id, |node| self.fell_back.borrow().contains(&node), artifact)
    }

    /// Checks the fallback of a node. `cause` is the reason why it is used.
    pub fn check_fallback<'b>(
        &self,
        id: NodeId,
        cause: String,
        artifact: impl Fn(NodeId) -> &'b Artifact,
    ) -> Result<Checked> {
        self.fell_back.borrow_mut().insert(id);
        let recipe = self.recipe(id, &artifact)?;
        let key = recipe.key();
        Ok(Checked::new(recipe, key, self.status(id, key)?, Some(cause)))
    }

    /// The reasons why a stale node with this recipe must run. `current` are the keys of the plan.
    pub fn explain(
        &self,
        id: NodeId,
        recipe: &Recipe,
        current: &BTreeSet<Key>,
    ) -> Result<Vec<Reason>> {
        Ok(self.past()?.explain(&self.plan.node(id).name, recipe, current))
    }

    /// The estimated total duration of the jobs of all nodes that are not cached, in seconds, from
    /// the durations of similar earlier jobs; and the number of nodes without a similar job.
    /// Assumes that all nodes that may be stale will run.
    pub fn estimate(&self, plan_status: &PlanStatus) -> Result<(f64, usize)> {
        let (mut seconds, mut unknown) = (0.0, 0);
        for (id, status) in &plan_status.status {
            if matches!(status, Status::Cached(_)) {
                continue;
            }
            let checked = plan_status.checked.get(id).and_then(|checked| checked.recipe.clone());
            let recipe = match checked {
                Some(recipe) => recipe,
                None => self.plan.recipe_without_inputs(*id),
            };
            let mut times = Vec::new();
            for key in self.past()?.nearest(&recipe).into_iter().take(SIMILAR) {
                times.extend(self.store.entry(key)?.map(|entry| entry.seconds));
            }
            match times.len() {
                0 => unknown += 1,
                n => seconds += times.iter().sum::<f64>() / n as f64,
            }
        }
        Ok((seconds, unknown))
    }

    fn past(&self) -> Result<&Past> {
        if self.past.get().is_none() {
            // Read at the first miss only, since it is expensive.
            let keys = (self.past_keys)(self.store, self.plan.profile.as_deref())?;
            let _ = self.past.set(Past::new(self.store.recipes()?, keys));
        }
        Ok(self.past.get_or_init(|| Past::new(Vec::new(), PastKeys::new())))
    }

    fn status(&self, id: NodeId, key: Key) -> Result<Status> {
        if self.forced.contains(&id) {
            return Ok(Status::Stale(vec![Reason::Forced]));
        }
        Ok(match self.store.lookup(key)? {
            Lookup::Hit(entry) => Status::Cached(entry),
            Lookup::Remote(entry) => {
                self.remote.borrow_mut().insert(key, Arc::clone(&entry));
                Status::Cached(entry)
            }
            Lookup::Absent => Status::Stale(Vec::new()),
            Lookup::Missing(file) => Status::Stale(vec![Reason::OutputMissing { file }]),
            Lookup::Damaged(file) => Status::Stale(vec![Reason::OutputDamaged { file }]),
        })
    }

    /// The stale nodes upstream of `id`, direct and indirect. `roots` contains those of earlier
    /// nodes.
    fn stale_upstream(
        &self,
        id: NodeId,
        plan_status: &PlanStatus,
        roots: &BTreeMap<NodeId, BTreeSet<NodeId>>,
    ) -> BTreeSet<NodeId> {
        let mut stale = BTreeSet::new();
        for up in self.plan.node(id).upstream() {
            match &plan_status.status[&up] {
                Status::Cached(_) => {}
                Status::Stale(_) => _ = stale.insert(up),
                Status::MaybeStale(_) => stale.extend(&roots[&up]),
            }
        }
        stale
    }

    /// One reason for each distinct cause of the stale nodes `roots`.
    fn upstream_reasons(&self, roots: &BTreeSet<NodeId>, plan_status: &PlanStatus) -> Vec<Reason> {
        let mut by_cause: BTreeMap<String, (NodeId, usize, Vec<Reason>)> = BTreeMap::new();
        for &root in roots {
            let Status::Stale(because) = &plan_status.status[&root] else { continue };
            let text = because.iter().map(Reason::to_string).collect::<Vec<_>>().join("; ");
            by_cause.entry(text).or_insert_with(|| (root, 0, because.clone())).1 += 1;
        }
        let upstream = |(node, count, because): (NodeId, usize, Vec<Reason>)| Reason::Upstream {
            node: self.plan.node(node).name.clone(),
            count,
            because,
        };
        by_cause.into_values().map(upstream).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{TestRun, TestSpace, id};

    const PIPELINE: &str = "
stages:
  s: { source: { text: x } }
  nets: { source: { text: v, end: b, width: [1, 2, 3] } }
  p: { pair: { left: s, right: nets } }
  g: { gather: { all: p } }
";

    /// The status of each node, one per line.
    fn lines(test_run: &TestRun) -> Vec<String> {
        let line = |(id, status): (&NodeId, &Status)| {
            let (state, reasons) = match status {
                Status::Cached(_) => ("cached", &Vec::new()),
                Status::Stale(reasons) => ("stale", reasons),
                Status::MaybeStale(reasons) => ("maybe stale:", reasons),
            };
            let reasons: Vec<String> = reasons.iter().map(Reason::to_string).collect();
            format!("{} {state} {}", test_run.plan.node(*id).name, reasons.join("; "))
                .trim_end()
                .to_owned()
        };
        test_run.plan_status().status.iter().map(line).collect()
    }

    /// The nodes of `yaml` that are not cached.
    fn pending(space: &TestSpace, yaml: &str) -> Vec<String> {
        let mut lines = lines(&space.test_run(yaml));
        lines.retain(|line| !line.ends_with("cached"));
        lines
    }

    #[test]
    fn everything_is_cached_after_a_run() {
        let space = TestSpace::new();
        space.run(PIPELINE);
        assert_eq!(pending(&space, PIPELINE), [""; 0]);
    }

    #[test]
    fn in_an_empty_cache_nodes_without_inputs_are_stale_and_the_others_may_be() {
        assert_eq!(
            lines(&TestSpace::new().test_run(PIPELINE)),
            [
                "s stale first time",
                "nets@width=1 stale first time",
                "nets@width=2 stale first time",
                "nets@width=3 stale first time",
                "p@width=1 maybe stale: depends on s and 1 more (first time)",
                "p@width=2 maybe stale: depends on s and 1 more (first time)",
                "p@width=3 maybe stale: depends on s and 1 more (first time)",
                "g maybe stale: depends on s and 3 more (first time)",
            ]
        );
    }

    #[test]
    fn a_changed_parameter_is_the_reason_of_all_nodes_downstream() {
        let space = TestSpace::new();
        space.run(PIPELINE);
        assert_eq!(
            pending(&space, &PIPELINE.replace("[1, 2, 3]", "[1, 2, 4]")),
            [
                "nets@width=4 stale param width 3 -> 4",
                "p@width=4 maybe stale: depends on nets@width=4 (param width 3 -> 4)",
                "g maybe stale: depends on nets@width=4 (param width 3 -> 4)",
            ]
        );
    }

    #[test]
    fn different_causes_are_listed_and_equal_ones_are_counted() {
        let space = TestSpace::new();
        space.run(PIPELINE);
        let lines =
            pending(&space, &PIPELINE.replace("text: x", "text: z").replace("text: v", "text: w"));
        assert_eq!(
            lines.last().unwrap(),
            "g maybe stale: depends on nets@width=1 and 2 more (param text v -> w); \
             depends on s (param text x -> z)"
        );
    }

    #[test]
    fn a_lost_or_damaged_output_is_a_reason() {
        let space = TestSpace::new();
        let ran = space.run(PIPELINE);
        let object = |name: &str| space.store.object(ran.artifacts[name]["text"].digest().unwrap());
        std::fs::remove_file(object("g")).unwrap();
        std::fs::remove_file(object("s")).unwrap();
        std::fs::write(object("s"), "edited").unwrap();
        let lines = pending(&space, PIPELINE);
        assert_eq!(lines[0], "s stale output `text` was changed on disk");
        assert_eq!(
            lines.last().unwrap(),
            "g maybe stale: depends on s (output `text` was changed on disk)"
        );
        let remade = space.run(PIPELINE);
        assert_eq!(
            remade.finished(),
            ["s", "g"],
            "s produced equal bytes, so no node between them ran"
        );
    }

    #[test]
    fn a_forced_node_is_stale_even_if_it_depends_on_another() {
        let space = TestSpace::new();
        space.run(PIPELINE);
        let test_run = TestRun { forced: vec!["s", "g"], ..space.test_run(PIPELINE) };
        let lines = lines(&test_run);
        assert_eq!(lines[0], "s stale forced");
        assert_eq!(lines[4], "p@width=1 maybe stale: depends on s (forced)");
        assert_eq!(lines[7], "g stale forced");
        assert_eq!(test_run.run().messages("running"), ["s: forced", "g: forced"]);
    }

    #[test]
    fn a_recipe_that_was_recorded_but_never_finished_is_a_reason() {
        let space = TestSpace::new();
        let test_run = space.test_run(PIPELINE);
        let plan_status = test_run.plan_status();
        space
            .store
            .record_recipe(plan_status.checked[&id(&test_run.plan, "s")].recipe.as_ref().unwrap())
            .unwrap();
        assert_eq!(lines(&test_run)[0], "s stale not finished yet");
    }

    #[test]
    fn checking_against_a_missing_cache_does_not_create_it() {
        let space = TestSpace::new();
        let store = Store::at(&space.path().join("missing"));
        let test_run = TestRun { store: &store, ..space.test_run(PIPELINE) };
        assert_eq!(lines(&test_run)[0], "s stale first time");
        assert!(!space.path().join("missing").exists());
    }

    #[test]
    fn reasons_in_a_chain_of_ten_thousand_nodes_are_found_in_linear_time() {
        let links = (1..10_000).map(|i| format!("  s{i}: {{ pair: {{ left: s{} }} }}\n", i - 1));
        let yaml =
            format!("stages:\n  s0: {{ source: {{ text: x }} }}\n{}", links.collect::<String>());
        let last = lines(&TestSpace::new().test_run(&yaml)).pop();
        assert_eq!(last.as_deref(), Some("s9999 maybe stale: depends on s0 (first time)"));
    }
}
