//! What is different between two states of a pipeline: two runs of it, or two profiles.
//!
//! Nodes are compared by name: what they were asked and what they put out. How two contents of a file differ is for their
//! stage kind to say. Knows no file format, and prints nothing.

use super::history;
use crate::engine::cache::local::ObjectState;
use crate::engine::cache::store::Store;
use crate::engine::key::{Artifact, Content, Params};
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::spec::grid::render;
use crate::engine::spec::plan::Plan;
use crate::engine::stage::{Changes, Kind};
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One of the two states, its nodes in order.
pub struct State {
    /// What it is called.
    pub name: String,
    nodes: Vec<NodeState>,
}

struct NodeState {
    name: String,
    kind: &'static dyn Kind,
    version: u32,
    params: Params,
    seed: Option<String>,
    /// None if it is not in the cache.
    artifact: Option<Artifact>,
}

impl NodeState {
    fn stage(&self) -> &str {
        self.name.split('@').next().unwrap_or(&self.name)
    }
}

impl State {
    /// A run: what the cache still knows of the questions it asked.
    pub fn of_run(store: &Store, kinds: &[&'static dyn Kind], run: &history::Run) -> Result<State> {
        let mut nodes = Vec::new();
        for node in &run.nodes {
            let Some(key) = node.key else { continue };
            let Some(recipe) = store.recipe(key)? else { continue };
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

    /// A profile: what the pipeline asks for under it, and what of that is cached.
    pub fn of_plan(name: &str, plan: &Plan, plan_status: &PlanStatus) -> State {
        let node = |id| {
            let (node, asked) = (plan.node(id), plan.recipe_without_inputs(id));
            let fell_back =
                plan_status.checked.get(&id).is_some_and(|checked| checked.fell_back.is_some());
            let instead = node.resolved.fallback.clone().filter(|_| fell_back);
            NodeState {
                name: node.name.clone(),
                kind: node.kind,
                version: asked.version,
                params: instead.unwrap_or(asked.params),
                seed: asked.seed.map(|seed| seed.run),
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

/// What is different.
#[derive(Debug, PartialEq, Serialize)]
pub struct Diff {
    /// What the first is called.
    pub before: String,
    /// What the second is called.
    pub after: String,
    /// Stages whose nodes are not the same, or not all cached on both sides.
    pub stages: Vec<Stage>,
    /// By stage.
    pub parameters: Vec<Parameter>,
    /// Tables that have changed, by node, with what in them has.
    pub tables: Vec<Table>,
    /// All outputs of nodes that are cached on both sides.
    pub files: Vec<File>,
}

/// A stage's nodes.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// The stage.
    pub stage: String,
    /// Nodes of both.
    pub both: usize,
    /// Nodes of the first alone.
    pub removed: usize,
    /// Nodes of the second alone.
    pub added: usize,
    /// Nodes of both that are not cached in one of them, and are not compared.
    pub not_cached: usize,
}

/// A parameter that takes other values, over all nodes of its stage.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// The stage.
    pub stage: String,
    /// The parameter; also `seed` and `stage version`.
    pub parameter: String,
    /// The values it took; where it is at its default, `(default)`. None if the stage was not there.
    pub before: Vec<String>,
    /// The values it takes.
    pub after: Vec<String>,
}

/// A table that has changed.
#[derive(Debug, PartialEq, Serialize)]
pub struct Table {
    /// The node.
    pub node: String,
    /// The output.
    pub file: String,
    /// What in it has changed.
    pub changes: Changes,
}

/// An output.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// The stage.
    pub stage: String,
    /// The node.
    pub node: String,
    /// The output.
    pub file: String,
    /// What became of it.
    pub state: Change,
}

/// What became of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Equal bytes.
    Same,
    /// Other bytes.
    Changed,
    /// In the first alone.
    Removed,
    /// In the second alone.
    Added,
}

/// Compares two states, whose outputs are in `store`.
pub fn diff(store: &Store, before: &State, after: &State) -> Result<Diff> {
    let old: BTreeMap<&str, &NodeState> =
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
        let Some((was, is)) = old
            .get(node.name.as_str())
            .and_then(|was| was.artifact.as_ref())
            .zip(node.artifact.as_ref())
        else {
            continue;
        };
        let files: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        for file in files {
            let state = match (was.get(file), is.get(file)) {
                (Some(was), Some(is)) if was == is => Change::Same,
                (Some(was), Some(is)) => {
                    if let Some(changes) = changes(store, node.kind, file, *was, *is)? {
                        diff.tables.push(Table {
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
            diff.files.push(File { stage, node: node.name.clone(), file: file.clone(), state });
        }
    }
    Ok(diff)
}

/// None too if one of the two is no file, or gone from the cache: that they differ is known all the same.
fn changes(
    store: &Store,
    kind: &dyn Kind,
    file: &str,
    was: Content,
    is: Content,
) -> Result<Option<Changes>> {
    let (Some(was), Some(is)) = (was.digest(), is.digest()) else { return Ok(None) };
    let read = |digest| match store.fetch(digest)? {
        ObjectState::Intact => store.read_object(digest).map(Some),
        ObjectState::Missing | ObjectState::Damaged => Ok(None),
    };
    Ok(read(was)?.zip(read(is)?).and_then(|(was, is)| kind.changes(file, &was, &is)))
}

/// The stages of both, those of the first alone last.
fn pairs<'a>(
    before: &'a State,
    after: &'a State,
) -> Vec<(&'a str, Vec<&'a NodeState>, Vec<&'a NodeState>)> {
    let mut old: BTreeMap<&str, Vec<&NodeState>> = before.stages().into_iter().collect();
    let paired = |(stage, is)| (stage, old.remove(stage).unwrap_or_default(), is);
    let mut pairs: Vec<_> = after.stages().into_iter().map(paired).collect();
    pairs.extend(old.into_iter().map(|(stage, was)| (stage, was, Vec::new())));
    pairs
}

fn stages(before: &State, after: &State) -> Vec<Stage> {
    let compare = |(stage, was, is): (&str, Vec<&NodeState>, Vec<&NodeState>)| {
        let old: BTreeMap<&str, &NodeState> =
            was.iter().map(|node| (node.name.as_str(), *node)).collect();
        let both: Vec<_> =
            is.iter().filter_map(|is| Some((*old.get(is.name.as_str())?, *is))).collect();
        let cached =
            both.iter().filter(|(was, is)| was.artifact.is_some() && is.artifact.is_some()).count();
        Stage {
            stage: stage.to_owned(),
            both: both.len(),
            removed: was.len() - both.len(),
            added: is.len() - both.len(),
            not_cached: both.len() - cached,
        }
    };
    let all = pairs(before, after).into_iter().map(compare);
    all.filter(|stage| stage.removed + stage.added + stage.not_cached > 0).collect()
}

fn parameters(before: &State, after: &State) -> Vec<Parameter> {
    let mut changed = Vec::new();
    for (stage, was, is) in pairs(before, after) {
        let (old, new) = (values(&was), values(&is));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let of = |values: &BTreeMap<String, Vec<String>>, nodes: &[&NodeState]| match values
                .get(name)
            {
                Some(values) => values.clone(),
                None if nodes.is_empty() => Vec::new(),
                None => vec![DEFAULT.to_owned()],
            };
            let (before, after) = (of(&old, &was), of(&new, &is));
            if before.iter().collect::<BTreeSet<_>>() != after.iter().collect::<BTreeSet<_>>() {
                changed.push(Parameter {
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

/// What each parameter of a stage is, over its nodes, in their order.
fn values(nodes: &[&NodeState]) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeSet<&String> = BTreeSet::new();
    nodes.iter().for_each(|node| names.extend(node.params.keys()));
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut take = |name: &str, value: String| {
        let values = values.entry(name.to_owned()).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    };
    for node in nodes {
        take("stage version", node.version.to_string());
        if let Some(seed) = &node.seed {
            take("seed", seed.clone());
        }
        for name in &names {
            take(name, node.params.get(*name).map_or(DEFAULT.to_owned(), render));
        }
    }
    values
}
