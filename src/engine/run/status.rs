//! Where every node stands before anything runs: cached, due, or dependent on one that is due.
//!
//! `plan`, `why` and `run` all begin with a survey, and the scheduler asks the same [`StatusChecker`] again about each node
//! that had to wait for its inputs: what is planned and what is run cannot differ. Reads the store and changes nothing
//! there.

use super::reason::{Names, Past, Reason};
use crate::engine::cache::entry::Entry;
use crate::engine::cache::store::{Lookup, Store};
use crate::engine::key::{Artifact, Key, Recipe};
use crate::engine::record::history;
use crate::engine::spec::plan::{NodeId, Plan};
use anyhow::Result;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many of those most alike an estimate is the mean of.
const ALIKE: usize = 8;

/// Where a node stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Its answer is in the cache.
    Cached(Arc<Entry>),
    /// It will run.
    Stale(Vec<Reason>),
    /// Something upstream will run; this one will too, unless that gives equal bytes.
    MaybeStale(Vec<Reason>),
}

/// A node whose inputs are known.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The question, or that of its fallback; none once its answer is known.
    pub recipe: Option<Recipe>,
    /// Its key.
    pub key: Key,
    /// [`Status::Cached`] or [`Status::Stale`].
    pub status: Status,
    /// Why the fallback is asked instead, if it is.
    pub fell_back: Option<String>,
}

impl Checked {
    fn new(recipe: Recipe, key: Key, status: Status, fell_back: Option<String>) -> Checked {
        // Many nodes are cached, and nobody asks for their recipes any more.
        let recipe = if matches!(status, Status::Cached(_)) { None } else { Some(recipe) };
        Checked { recipe, key, status, fell_back }
    }
}

/// All nodes asked for.
pub struct PlanStatus {
    /// By node.
    pub status: BTreeMap<NodeId, Status>,
    /// Keys, recipes and fallbacks of the nodes whose inputs are known.
    pub checked: BTreeMap<NodeId, Checked>,
    /// The outputs of those that are cached.
    pub artifacts: BTreeMap<NodeId, Arc<Artifact>>,
}

/// Finds out where nodes stand.
pub struct StatusChecker<'a> {
    plan: &'a Plan,
    store: &'a Store,
    forced: BTreeSet<NodeId>,
    refetch: bool,
    past: OnceCell<Past>,
}

impl<'a> StatusChecker<'a> {
    /// Of `plan` against `store`. Nodes in `forced` are due whatever is cached; with `refetch`, remembered fallbacks do
    /// not count.
    pub fn new(plan: &'a Plan, store: &'a Store, forced: BTreeSet<NodeId>, refetch: bool) -> Self {
        StatusChecker { plan, store, forced, refetch, past: OnceCell::new() }
    }

    /// Looks at all of `wanted`, which must hold the inputs of each of its nodes.
    pub fn plan_status(&self, wanted: &BTreeSet<NodeId>) -> Result<PlanStatus> {
        let mut plan_status = PlanStatus {
            status: BTreeMap::new(),
            checked: BTreeMap::new(),
            artifacts: BTreeMap::new(),
        };
        for &id in wanted {
            // All at once, before anything runs: what is edited later is a change during the run.
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
        // Reasons come second: what explains a question best is an earlier one that this plan no longer asks.
        let current: BTreeSet<Key> = plan_status.checked.values().map(|c| c.key).collect();
        let mut roots = BTreeMap::new();
        for &id in wanted {
            let reasons = match &plan_status.status[&id] {
                Status::Cached(_) => continue,
                Status::Stale(known) if !known.is_empty() => continue,
                Status::Stale(_) => match &plan_status.checked[&id].recipe {
                    Some(recipe) => self.explain(id, recipe, &current)?,
                    None => Vec::new(),
                },
                Status::MaybeStale(_) => {
                    let from = self.due_upstream(id, &plan_status, &roots);
                    let reasons = self.upstream_reasons(&from, &plan_status);
                    roots.insert(id, from);
                    reasons
                }
            };
            match plan_status.status.get_mut(&id) {
                Some(Status::Stale(slot) | Status::MaybeStale(slot)) => *slot = reasons,
                _ => unreachable!("BUG: only due and dependent nodes get reasons"),
            }
        }
        Ok(plan_status)
    }

    /// Looks at one node whose inputs are known. A node never answered comes back `Due` without reasons.
    pub fn check<'b>(
        &self,
        id: NodeId,
        artifact: impl Fn(NodeId) -> &'b Artifact,
    ) -> Result<Checked> {
        let recipe = self.plan.recipe(id, false, &artifact)?;
        let key = recipe.key();
        let status = self.status(id, key)?;
        let has_fallback = self.plan.node(id).resolved.fallback.is_some();
        let open = !matches!(status, Status::Cached(_));
        if has_fallback
            && open
            && !self.refetch
            && let Some(cause) = self.store.fallback(key)?
        {
            return self.check_fallback(id, cause, artifact);
        }
        Ok(Checked::new(recipe, key, status, None))
    }

    /// Looks at a node's fallback, which is used because of `cause`.
    pub fn check_fallback<'b>(
        &self,
        id: NodeId,
        cause: String,
        artifact: impl Fn(NodeId) -> &'b Artifact,
    ) -> Result<Checked> {
        let recipe = self.plan.recipe(id, true, &artifact)?;
        let key = recipe.key();
        Ok(Checked::new(recipe, key, self.status(id, key)?, Some(cause)))
    }

    /// Why `recipe`, the node's, which has no answer, must run; `current` are the keys the plan asks for anyway.
    pub fn explain(
        &self,
        id: NodeId,
        recipe: &Recipe,
        current: &BTreeSet<Key>,
    ) -> Result<Vec<Reason>> {
        Ok(self.past()?.explain(&self.plan.node(id).name, recipe, current))
    }

    /// How long the jobs of all nodes that are not cached would take one after the other, in seconds, told from what those
    /// most like them took; and for how many of them there is nothing like. A node that depends counts in full.
    pub fn estimate(&self, plan_status: &PlanStatus) -> Result<(f64, usize)> {
        let (mut seconds, mut unknown) = (0.0, 0);
        for (id, status) in &plan_status.status {
            if matches!(status, Status::Cached(_)) {
                continue;
            }
            let asked = plan_status.checked.get(id).and_then(|checked| checked.recipe.clone());
            let recipe = match asked {
                Some(recipe) => recipe,
                None => self.plan.recipe_without_inputs(*id),
            };
            let mut took = Vec::new();
            for key in self.past()?.alike(&recipe).into_iter().take(ALIKE) {
                took.extend(self.store.entry(key)?.map(|entry| entry.seconds));
            }
            match took.len() {
                0 => unknown += 1,
                n => seconds += took.iter().sum::<f64>() / n as f64,
            }
        }
        Ok((seconds, unknown))
    }

    fn past(&self) -> Result<&Past> {
        if self.past.get().is_none() {
            // Read at the first miss only: an unchanged run never pays for it.
            let names = history::names(self.store, self.plan.profile.as_deref())?;
            let _ = self.past.set(Past::new(self.store.recipes()?, names));
        }
        Ok(self.past.get_or_init(|| Past::new(Vec::new(), Names::new())))
    }

    fn status(&self, id: NodeId, key: Key) -> Result<Status> {
        if self.forced.contains(&id) {
            return Ok(Status::Stale(vec![Reason::Forced]));
        }
        Ok(match self.store.lookup(key)? {
            Lookup::Hit(entry) | Lookup::Remote(entry) => Status::Cached(entry),
            Lookup::Absent => Status::Stale(Vec::new()),
            Lookup::Missing(file) => Status::Stale(vec![Reason::OutputMissing { file }]),
            Lookup::Damaged(file) => Status::Stale(vec![Reason::OutputDamaged { file }]),
        })
    }

    /// The due nodes that `id` hangs on, through whichever lie between; `roots` has those of the nodes before it.
    fn due_upstream(
        &self,
        id: NodeId,
        plan_status: &PlanStatus,
        roots: &BTreeMap<NodeId, BTreeSet<NodeId>>,
    ) -> BTreeSet<NodeId> {
        let mut due = BTreeSet::new();
        for up in self.plan.node(id).upstream() {
            match &plan_status.status[&up] {
                Status::Cached(_) => {}
                Status::Stale(_) => _ = due.insert(up),
                Status::MaybeStale(_) => due.extend(&roots[&up]),
            }
        }
        due
    }

    /// The changes that started it all: those of the nodes in `roots`, which are due.
    fn upstream_reasons(&self, roots: &BTreeSet<NodeId>, plan_status: &PlanStatus) -> Vec<Reason> {
        let mut by_cause: BTreeMap<String, (NodeId, usize, Vec<Reason>)> = BTreeMap::new();
        for &root in roots {
            let Status::Stale(because) = &plan_status.status[&root] else { continue };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{TestSpace, Trial, id};

    const PIPELINE: &str = "
stages:
  s: { source: { text: x } }
  nets: { source: { text: v, end: b, width: [1, 2, 3] } }
  p: { pair: { left: s, right: nets } }
  g: { gather: { all: p } }
";

    /// Each node's standing in a line.
    fn standings(trial: &Trial) -> Vec<String> {
        let line = |(id, status): (&NodeId, &Status)| {
            let (state, reasons) = match status {
                Status::Cached(_) => ("cached", &Vec::new()),
                Status::Stale(reasons) => ("due", reasons),
                Status::MaybeStale(reasons) => ("depends", reasons),
            };
            let reasons: Vec<String> = reasons.iter().map(Reason::to_string).collect();
            format!("{} {state} {}", trial.plan.node(*id).name, reasons.join("; "))
                .trim_end()
                .to_owned()
        };
        trial.plan_status().status.iter().map(line).collect()
    }

    /// What is pending when `yaml` is asked after [`PIPELINE`] has run.
    fn pending(bench: &TestSpace, yaml: &str) -> Vec<String> {
        let mut lines = standings(&bench.trial(yaml));
        lines.retain(|line| !line.ends_with("cached"));
        lines
    }

    #[test]
    fn everything_is_cached_after_a_run() {
        let bench = TestSpace::new();
        bench.run(PIPELINE);
        assert_eq!(pending(&bench, PIPELINE), [""; 0]);
    }

    #[test]
    fn in_an_empty_cache_what_needs_nothing_is_due_and_the_rest_depends_on_it() {
        assert_eq!(
            standings(&TestSpace::new().trial(PIPELINE)),
            [
                "s due first time",
                "nets@width=1 due first time",
                "nets@width=2 due first time",
                "nets@width=3 due first time",
                "p@width=1 depends depends on s and 1 more (first time)",
                "p@width=2 depends depends on s and 1 more (first time)",
                "p@width=3 depends depends on s and 1 more (first time)",
                "g depends depends on s and 3 more (first time)",
            ]
        );
    }

    #[test]
    fn a_changed_parameter_leads_through_all_that_hangs_on_it_to_the_root() {
        let bench = TestSpace::new();
        bench.run(PIPELINE);
        assert_eq!(
            pending(&bench, &PIPELINE.replace("[1, 2, 3]", "[1, 2, 4]")),
            [
                "nets@width=4 due param width 3 -> 4",
                "p@width=4 depends depends on nets@width=4 (param width 3 -> 4)",
                "g depends depends on nets@width=4 (param width 3 -> 4)",
            ]
        );
    }

    #[test]
    fn different_causes_are_told_apart_and_equal_ones_are_counted() {
        let bench = TestSpace::new();
        bench.run(PIPELINE);
        let lines =
            pending(&bench, &PIPELINE.replace("text: x", "text: z").replace("text: v", "text: w"));
        assert_eq!(
            lines.last().unwrap(),
            "g depends depends on nets@width=1 and 2 more (param text v -> w); depends on s (param text x -> z)"
        );
    }

    #[test]
    fn a_lost_or_damaged_output_is_a_reason_of_its_own() {
        let bench = TestSpace::new();
        let ran = bench.run(PIPELINE);
        let object = |name: &str| bench.store.object(ran.artifacts[name]["text"].digest().unwrap());
        std::fs::remove_file(object("g")).unwrap();
        std::fs::remove_file(object("s")).unwrap();
        std::fs::write(object("s"), "edited").unwrap();
        let lines = pending(&bench, PIPELINE);
        assert_eq!(lines[0], "s due output `text` was changed on disk");
        assert_eq!(
            lines.last().unwrap(),
            "g depends depends on s (output `text` was changed on disk)"
        );
        let remade = bench.run(PIPELINE);
        assert_eq!(
            remade.finished(),
            ["s", "g"],
            "s gave equal bytes, so nothing between them ran"
        );
    }

    #[test]
    fn a_forced_node_is_due_even_where_it_hangs_on_another() {
        let bench = TestSpace::new();
        bench.run(PIPELINE);
        let trial = Trial { forced: vec!["s", "g"], ..bench.trial(PIPELINE) };
        let lines = standings(&trial);
        assert_eq!(lines[0], "s due forced");
        assert_eq!(lines[4], "p@width=1 depends depends on s (forced)");
        assert_eq!(lines[7], "g due forced");
        assert_eq!(trial.run().messages("running"), ["s: forced", "g: forced"]);
    }

    #[test]
    fn a_question_once_asked_and_never_answered_says_so() {
        let bench = TestSpace::new();
        let trial = bench.trial(PIPELINE);
        let plan_status = trial.plan_status();
        bench
            .store
            .record_recipe(plan_status.checked[&id(&trial.plan, "s")].recipe.as_ref().unwrap())
            .unwrap();
        assert_eq!(standings(&trial)[0], "s due not finished yet");
    }

    #[test]
    fn a_survey_of_a_cache_that_is_not_there_does_not_make_it() {
        let bench = TestSpace::new();
        let store = Store::at(&bench.path().join("elsewhere"));
        let trial = Trial { store: &store, ..bench.trial(PIPELINE) };
        assert_eq!(standings(&trial)[0], "s due first time");
        assert!(!bench.path().join("elsewhere").exists());
    }

    #[test]
    fn the_reasons_in_a_chain_of_ten_thousand_are_found_at_once() {
        let links = (1..10_000).map(|i| format!("  s{i}: {{ pair: {{ left: s{} }} }}\n", i - 1));
        let yaml =
            format!("stages:\n  s0: {{ source: {{ text: x }} }}\n{}", links.collect::<String>());
        let last = standings(&TestSpace::new().trial(&yaml)).pop();
        assert_eq!(last.as_deref(), Some("s9999 depends depends on s0 (first time)"));
    }
}
