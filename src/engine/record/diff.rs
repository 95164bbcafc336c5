//! The differences between two states of a pipeline: two runs, or two profiles.
//!
//! Nodes are compared by name, with their parameters and outputs. The stage kind compares two
//! versions of a file. This module knows no file formats and prints nothing.

use super::history;
use crate::engine::cache::local::ObjectState;
use crate::engine::cache::store::Store;
use crate::engine::key::{Artifact, Content, Params};
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::spec::grid::render;
use crate::engine::spec::plan::Plan;
use crate::engine::stage::{Changes, EMBEDDED, Kind};
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One of the two states.
pub struct State {
    /// Its name in messages.
    pub name: String,
    nodes: Vec<NodeState>,
}

struct NodeState {
    name: String,
    kind: &'static dyn Kind,
    version: u32,
    params: Params,
    seed: Option<String>,
    /// `None` if the result is not in the cache.
    artifact: Option<Artifact>,
}

impl NodeState {
    fn stage(&self) -> &str {
        self.name.split('@').next().unwrap_or(&self.name)
    }
}

impl State {
    /// The state of a run, as far as its recipes and entries are still in the cache.
    pub fn of_run(store: &Store, kinds: &[&'static dyn Kind], run: &history::Run) -> Result<State> {
        let mut nodes = Vec::new();
        for node in &run.nodes {
            let Some(key) = node.key else { continue };
            let Some(mut recipe) = store.recipe(key)? else { continue };
            // They follow from the inputs, which are compared as nodes of their own.
            recipe.params.retain(|name, _| !EMBEDDED.contains(&name.as_str()));
            let Some(kind) = kinds.iter().find(|kind| kind.name() == recipe.kind) else { continue };
            nodes.push(NodeState {
                name: node.node.clone(),
                kind: *kind,
                version: recipe.version,
                params: recipe.params,
                seed: recipe.seed.map(|seed| seed.run),
                artifact: store.entry(key)?.map(|entry| entry.artifact()),
            });
        }
        let profile = run
            .profile
            .as_ref()
            .map(|profile| format!(", profile `{profile}`"))
            .unwrap_or_default();
        let set: String =
            run.overrides.iter().map(|assignment| format!(", `-S {assignment}`")).collect();
        Ok(State { name: format!("run `{}`{profile}{set}", run.run), nodes })
    }

    /// The state of a profile: its plan, and the cached results.
    pub fn of_plan(name: &str, plan: &Plan, plan_status: &PlanStatus) -> State {
        let node = |id| {
            let (node, recipe) = (plan.node(id), plan.recipe_without_inputs(id));
            let fallback = node.resolved.fallback.clone().filter(|_| plan_status.fell_back(id));
            NodeState {
                name: node.name.clone(),
                kind: node.kind,
                version: recipe.version,
                params: fallback.unwrap_or(recipe.params),
                seed: recipe.seed.map(|seed| seed.run),
                artifact: match &plan_status.status[&id] {
                    Status::Cached(entry) => Some(entry.artifact()),
                    _ => None,
                },
            }
        };
        State { name: format!("profile `{name}`"), nodes: plan.ids().map(node).collect() }
    }

    fn stages(&self) -> Vec<(&str, Vec<&NodeState>)> {
        let mut stages: Vec<(&str, Vec<&NodeState>)> = Vec::new();
        for node in &self.nodes {
            match stages.iter_mut().find(|(stage, _)| *stage == node.stage()) {
                Some((_, nodes)) => nodes.push(node),
                None => stages.push((node.stage(), vec![node])),
            }
        }
        stages
    }
}

/// The differences between two states.
#[derive(Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The name of the first state.
    pub before: String,
    /// The name of the second state.
    pub after: String,
    /// Stages whose nodes differ, or are not all cached in both states.
    pub stages: Vec<StageDiff>,
    /// Changed parameters, by stage.
    pub parameters: Vec<ParameterDiff>,
    /// Changed tables, by node.
    pub tables: Vec<TableDiff>,
    /// All outputs of nodes that are cached in both states.
    pub files: Vec<FileDiff>,
}

/// The differences between the nodes of a stage.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct StageDiff {
    /// The stage.
    pub stage: String,
    /// Number of nodes in both states.
    pub both: usize,
    /// Number of nodes only in the first state.
    pub removed: usize,
    /// Number of nodes only in the second state.
    pub added: usize,
    /// Number of nodes in both states that are not cached in one of them. They are not compared.
    pub not_cached: usize,
}

/// A parameter whose values over all nodes of a stage differ.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ParameterDiff {
    /// The stage.
    pub stage: String,
    /// The parameter, `seed` or `stage version`.
    pub parameter: String,
    /// The values in the first state: `(default)` for a default, empty if there is no such stage.
    pub before: Vec<String>,
    /// The values in the second state.
    pub after: Vec<String>,
}

/// A changed table.
#[derive(Debug, PartialEq, Serialize)]
pub struct TableDiff {
    /// The node.
    pub node: String,
    /// The output.
    pub file: String,
    /// The changes.
    pub changes: Changes,
}

/// An output.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    /// The stage.
    pub stage: String,
    /// The node.
    pub node: String,
    /// The output.
    pub file: String,
    /// Whether it changed.
    pub state: Change,
}

/// The change of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Equal bytes.
    Same,
    /// Different bytes.
    Changed,
    /// Only in the first state.
    Removed,
    /// Only in the second state.
    Added,
}

/// Compares two states with outputs in `store`.
pub fn diff(store: &Store, before: &State, after: &State) -> Result<Diff> {
    let earlier: BTreeMap<&str, &NodeState> =
        before.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut diff = Diff {
        before: before.name.clone(),
        after: after.name.clone(),
        stages: stages(before, after),
        parameters: parameters(before, after),
        tables: Vec::new(),
        files: Vec::new(),
    };
    for node in &after.nodes {
        let Some((old, new)) = earlier
            .get(node.name.as_str())
            .and_then(|old| old.artifact.as_ref())
            .zip(node.artifact.as_ref())
        else {
            continue;
        };
        let files: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for file in files {
            let state = match (old.get(file), new.get(file)) {
                (Some(old), Some(new)) if old == new => Change::Same,
                (Some(old), Some(new)) => {
                    if let Some(changes) = changes(store, node.kind, file, *old, *new)? {
                        diff.tables.push(TableDiff {
                            node: node.name.clone(),
                            file: file.clone(),
                            changes,
                        });
                    }
                    Change::Changed
                }
                (Some(_), None) => Change::Removed,
                (None, _) => Change::Added,
            };
            let stage = node.stage().to_owned();
            diff.files.push(FileDiff { stage, node: node.name.clone(), file: file.clone(), state });
        }
    }
    Ok(diff)
}

/// The changes in a table; `None` for other files, and if one of the two is not in the cache.
fn changes(
    store: &Store,
    kind: &dyn Kind,
    file: &str,
    old: Content,
    new: Content,
) -> Result<Option<Changes>> {
    let (Some(old), Some(new)) = (old.digest(), new.digest()) else { return Ok(None) };
    let read = |digest| match store.fetch(digest)? {
        ObjectState::Intact => store.read_object(digest).map(Some),
        ObjectState::Missing | ObjectState::Damaged => Ok(None),
    };
    Ok(read(old)?.zip(read(new)?).and_then(|(old, new)| kind.changes(file, &old, &new)))
}

/// The stages of both states. Stages that are only in the first come last.
fn pairs<'a>(
    before: &'a State,
    after: &'a State,
) -> Vec<(&'a str, Vec<&'a NodeState>, Vec<&'a NodeState>)> {
    let mut earlier: BTreeMap<&str, Vec<&NodeState>> = before.stages().into_iter().collect();
    let pair = |(stage, new)| (stage, earlier.remove(stage).unwrap_or_default(), new);
    let mut pairs: Vec<_> = after.stages().into_iter().map(pair).collect();
    pairs.extend(earlier.into_iter().map(|(stage, old)| (stage, old, Vec::new())));
    pairs
}

fn stages(before: &State, after: &State) -> Vec<StageDiff> {
    let compare = |(stage, old, new): (&str, Vec<&NodeState>, Vec<&NodeState>)| {
        let by_name: BTreeMap<&str, &NodeState> =
            old.iter().map(|node| (node.name.as_str(), *node)).collect();
        let both: Vec<_> =
            new.iter().filter_map(|new| Some((*by_name.get(new.name.as_str())?, *new))).collect();
        let cached = both
            .iter()
            .filter(|(old, new)| old.artifact.is_some() && new.artifact.is_some())
            .count();
        StageDiff {
            stage: stage.to_owned(),
            both: both.len(),
            removed: old.len() - both.len(),
            added: new.len() - both.len(),
            not_cached: both.len() - cached,
        }
    };
    let all = pairs(before, after).into_iter().map(compare);
    all.filter(|stage| stage.removed + stage.added + stage.not_cached > 0).collect()
}

fn parameters(before: &State, after: &State) -> Vec<ParameterDiff> {
    let mut changed = Vec::new();
    for (stage, old, new) in pairs(before, after) {
        let (old_values, new_values) = (values(&old), values(&new));
        let names: BTreeSet<&String> = old_values.keys().chain(new_values.keys()).collect();
        for name in names {
            let of = |values: &BTreeMap<String, Vec<String>>, nodes: &[&NodeState]| match values
                .get(name)
            {
                Some(values) => values.clone(),
                None if nodes.is_empty() => Vec::new(),
                None => vec![DEFAULT.to_owned()],
            };
            let (before, after) = (of(&old_values, &old), of(&new_values, &new));
            if before.iter().collect::<BTreeSet<_>>() != after.iter().collect::<BTreeSet<_>>() {
                changed.push(ParameterDiff {
                    stage: stage.to_owned(),
                    parameter: name.clone(),
                    before,
                    after,
                });
            }
        }
    }
    changed
}

const DEFAULT: &str = "(default)";

/// The distinct values of each parameter over the nodes of a stage, in their order.
fn values(nodes: &[&NodeState]) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeSet<&String> = BTreeSet::new();
    nodes.iter().for_each(|node| names.extend(node.params.keys()));
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: &str, value: String| {
        let values = values.entry(name.to_owned()).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    };
    for node in nodes {
        add("stage version", node.version.to_string());
        if let Some(seed) = &node.seed {
            add("seed", seed.clone());
        }
        for name in &names {
            add(name, node.params.get(*name).map_or(DEFAULT.to_owned(), render));
        }
    }
    values
}
