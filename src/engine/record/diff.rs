//! The differences between two states of a pipeline: two runs, or two profiles.
//!
//! Nodes are compared by name, with their parameters and outputs. Where a value of a parameter was
//! replaced by another, the nodes of the old value are compared with those of the new one. The
//! stage kind compares two versions of a file. This module knows no file formats, and prints
//! nothing.

mod values;

use super::history;
use crate::engine::cache::local::ObjectState;
use crate::engine::cache::store::Store;
use crate::engine::key::{Artifact, Content, Digest, Params};
use crate::engine::run::status::{PlanStatus, Status};
use crate::engine::spec::plan::Plan;
use crate::engine::stage::pairing::{Move, Moves, Unpaired, pair};
use crate::engine::stage::{Changes, EMBEDDED, Kind};
use anyhow::Result;
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// One of the two states.
pub struct State {
    /// Its name in messages.
    pub name: String,
    nodes: Vec<NodeState>,
}

struct NodeState {
    name: String,
    /// `None` if the recipe is not in the cache.
    recipe: Option<Known>,
    /// `None` if the result is not in the cache.
    artifact: Option<Artifact>,
}

/// What is known of a node from its recipe.
struct Known {
    kind: &'static dyn Kind,
    version: u32,
    params: Params,
    seed: Option<String>,
}

impl NodeState {
    fn stage(&self) -> &str {
        self.name.split('@').next().unwrap_or(&self.name)
    }

    /// The values on the axes, as in the name.
    fn coordinates(&self) -> BTreeMap<&str, String> {
        let Some((_, instance)) = self.name.split_once('@') else { return BTreeMap::new() };
        let mut found: Vec<(&str, String)> = Vec::new();
        for part in instance.split(',') {
            match (part.split_once('='), found.last_mut()) {
                (Some((axis, value)), _) => found.push((axis, value.to_owned())),
                // A comma in a value.
                (None, Some((_, value))) => *value = format!("{value},{part}"),
                (None, None) => {}
            }
        }
        found.into_iter().collect()
    }
}

impl State {
    /// The state of a run. Of nodes whose recipes or entries are no longer in the cache, only the
    /// names are known.
    pub fn of_run(store: &Store, kinds: &[&'static dyn Kind], run: &history::Run) -> Result<State> {
        let mut nodes = Vec::new();
        for node in &run.nodes {
            let Some(key) = node.key else { continue };
            let known = store.recipe(key)?.and_then(|recipe| {
                let kind = kinds.iter().find(|kind| kind.name() == recipe.kind)?;
                let seed = recipe.seed.map(|seed| seed.run);
                Some(Known { kind: *kind, version: recipe.version, params: recipe.params, seed })
            });
            nodes.push(NodeState {
                name: node.node.clone(),
                recipe: known,
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
            let fell_back =
                plan_status.checked.get(&id).is_some_and(|checked| checked.fell_back.is_some());
            let fallback = node.resolved.fallback.clone().filter(|_| fell_back);
            NodeState {
                name: node.name.clone(),
                recipe: Some(Known {
                    kind: node.kind,
                    version: recipe.version,
                    params: fallback.unwrap_or(recipe.params),
                    seed: recipe.seed.map(|seed| seed.run),
                }),
                artifact: match &plan_status.status[&id] {
                    Status::Cached(entry) => Some(entry.artifact()),
                    _ => None,
                },
            }
        };
        State { name: format!("profile `{name}`"), nodes: plan.ids().map(node).collect() }
    }

    /// Removes the stages that `other` does not have.
    pub fn keep_stages_of(&mut self, other: &State) {
        let stages: BTreeSet<&str> = other.nodes.iter().map(NodeState::stage).collect();
        self.nodes.retain(|node| stages.contains(node.stage()));
    }

    fn stages(&self) -> Vec<(&str, Vec<&NodeState>)> {
        let mut stages: Vec<(&str, Vec<&NodeState>)> = Vec::new();
        let mut positions = BTreeMap::new();
        for node in &self.nodes {
            let position = *positions.entry(node.stage()).or_insert(stages.len());
            match stages.get_mut(position) {
                Some((_, nodes)) => nodes.push(node),
                None => stages.push((node.stage(), vec![node])),
            }
        }
        stages
    }

    /// The text of each parameter that has the same value in all nodes that have it.
    fn scalars(&self) -> BTreeMap<String, String> {
        let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
        for params in self.nodes.iter().filter_map(|node| node.recipe.as_ref()) {
            for (name, value) in parameters_of(&params.params) {
                let text = values::text(value);
                let known = found.entry(axis_of(&name).to_owned());
                let known = known.or_insert_with(|| Some(text.clone()));
                if known.as_ref() != Some(&text) {
                    *known = None;
                }
            }
        }
        found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The differences between two states.
#[derive(Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The name of the first state.
    pub before: String,
    /// The name of the second state.
    pub after: String,
    /// Stages whose nodes differ, are paired across a replaced value, or are not all cached in both
    /// states.
    pub stages: Vec<StageDiff>,
    /// Changed parameters, by stage.
    pub parameters: Vec<ParameterDiff>,
    /// The values across which nodes or rows of tables are paired, and those without a counterpart.
    pub moves: Moves,
    /// Changed tables, by node.
    pub tables: Vec<TableDiff>,
    /// Changed tables that were not compared ([`Tables::Summaries`]).
    pub omitted: Vec<Omitted>,
    /// All outputs of nodes that are cached in both states.
    pub files: Vec<FileDiff>,
}

impl Diff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
            && self.parameters.is_empty()
            && self.files.iter().all(|file| file.state == Change::Same)
    }
}

/// The differences between the nodes of a stage.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct StageDiff {
    /// The stage.
    pub stage: String,
    /// Number of nodes in both states.
    pub both: usize,
    /// Number of those that are paired across a replaced value.
    pub paired: usize,
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
    /// The fields that changed, without the values that stayed.
    pub fields: Vec<FieldDiff>,
}

/// A changed field of a parameter.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FieldDiff {
    /// The path of the field, such as `nets.prior.normal.variance`.
    pub field: String,
    /// The values that are only in the first state: one if it was replaced.
    pub before: Vec<String>,
    /// The values that are only in the second state.
    pub after: Vec<String>,
}

/// A changed table.
#[derive(Debug, PartialEq, Serialize)]
pub struct TableDiff {
    /// The stage.
    pub stage: String,
    /// The node in the second state.
    pub node: String,
    /// The node in the first state, if it has another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_before: Option<String>,
    /// The output.
    pub file: String,
    /// The changes.
    pub changes: Changes,
}

/// The tables of an output of a stage.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Omitted {
    /// The stage.
    pub stage: String,
    /// The output.
    pub file: String,
    /// The number of nodes with a changed table.
    pub nodes: usize,
}

/// An output.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    /// The stage.
    pub stage: String,
    /// The node in the second state.
    pub node: String,
    /// The node in the first state, if it has another name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_before: Option<String>,
    /// The output.
    pub file: String,
    /// Whether it changed.
    pub state: Change,
    /// The digest in the first state.
    pub before: Option<Digest>,
    /// The digest in the second state.
    pub after: Option<Digest>,
    /// Whether one of two different versions is no longer in the cache.
    pub is_lost: bool,
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

/// The tables to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// Those of all nodes.
    All,
    /// If stages with one node have changed tables, only these: they summarise the others.
    Summaries,
}

/// Compares two states with outputs in `store`.
pub fn diff(store: &Store, before: &State, after: &State, tables: Tables) -> Result<Diff> {
    let (parameters, known) = parameters(before, after);
    let scalars = [before.scalars(), after.scalars()];
    let (mut stages, mut all, mut of_nodes) = (Vec::new(), Vec::new(), Moves::default());
    for (stage, old, new) in pairs(before, after) {
        let (pairs, across) = pair_nodes(&old, &new, &scalars, &known);
        of_nodes.add(&across);
        let is_cached = |(old, new): &&(&NodeState, &NodeState)| {
            old.artifact.is_some() && new.artifact.is_some()
        };
        let found = StageDiff {
            stage: stage.to_owned(),
            both: pairs.len(),
            paired: pairs.iter().filter(|(old, new)| old.name != new.name).count(),
            removed: old.len() - pairs.len(),
            added: new.len() - pairs.len(),
            not_cached: pairs.len() - pairs.iter().filter(is_cached).count(),
        };
        if found.paired + found.removed + found.added + found.not_cached > 0 {
            stages.push(found);
        }
        all.push(pairs);
    }
    let (mut files, mut changed) = (Vec::new(), Vec::new());
    for (old, new, is_single) in
        all.iter().flat_map(|pairs| pairs.iter().map(|(old, new)| (old, new, pairs.len() == 1)))
    {
        let Some((was, is)) = old.artifact.as_ref().zip(new.artifact.as_ref()) else { continue };
        let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        for file in names {
            let state = match (was.get(file), is.get(file)) {
                (Some(was), Some(is)) if was == is => Change::Same,
                (Some(_), Some(_)) => Change::Changed,
                (Some(_), None) => Change::Removed,
                (None, _) => Change::Added,
            };
            let [before, after] = [was, is].map(|a| a.get(file).and_then(Content::digest));
            if state == Change::Changed {
                changed.push((files.len(), new.recipe.as_ref(), is_single));
            }
            files.push(FileDiff {
                stage: new.stage().to_owned(),
                node: new.name.clone(),
                node_before: (old.name != new.name).then(|| old.name.clone()),
                file: file.clone(),
                state,
                before,
                after,
                is_lost: false,
            });
        }
    }
    let (mut found, mut omitted): (Vec<_>, Vec<Omitted>) = (Vec::new(), Vec::new());
    let (single, others): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(_, _, one)| *one);
    for (position, recipe, _) in single {
        let table = table(store, recipe, &mut files[position], &known)?;
        found.extend(table.map(|table| (position, table)));
    }
    let is_enough = tables == Tables::Summaries && !found.is_empty();
    // One file of each stage and name tells whether the others are tables.
    let mut probed: BTreeMap<(String, String), Option<usize>> = BTreeMap::new();
    for (position, recipe, _) in others {
        let place = (files[position].stage.clone(), files[position].file.clone());
        let known_place = probed.get(&place).copied().filter(|_| is_enough);
        if let Some(omission) = known_place {
            if let Some(at) = omission {
                omitted[at].nodes += 1;
            }
            continue;
        }
        let table = table(store, recipe, &mut files[position], &known)?;
        let mut omission = None;
        if !is_enough {
            found.extend(table.map(|table| (position, table)));
        } else if table.is_some() {
            omission = Some(omitted.len());
            let (stage, file) = place.clone();
            omitted.push(Omitted { stage, file, nodes: 1 });
        }
        probed.insert(place, omission);
    }
    // In the order of the files.
    found.sort_by_key(|(position, _)| *position);
    let (before, after) = (before.name.clone(), after.name.clone());
    let tables: Vec<TableDiff> = found.into_iter().map(|(_, table)| table).collect();
    // Tables first: they have the values as the study writes them.
    let mut moves = Moves::default();
    tables.iter().for_each(|table| moves.add(&table.changes.moves));
    moves.add(&of_nodes);
    Ok(Diff { before, after, stages, parameters, moves, tables, omitted, files })
}

/// The changes of a file, if it is a table and both versions are in the cache.
fn table(
    store: &Store,
    known: Option<&Known>,
    file: &mut FileDiff,
    moves: &Moves,
) -> Result<Option<TableDiff>> {
    let (Some(known), Some(old), Some(new)) = (known, file.before, file.after) else {
        return Ok(None);
    };
    let read = |digest| match store.check_object(digest)? {
        ObjectState::Intact => store.read_object(digest).map(Some),
        ObjectState::Missing | ObjectState::Damaged => Ok(None),
    };
    let Some((old, new)) = read(old)?.zip(read(new)?) else {
        file.is_lost = true;
        return Ok(None);
    };
    let table = |changes| TableDiff {
        stage: file.stage.clone(),
        node: file.node.clone(),
        node_before: file.node_before.clone(),
        file: file.file.clone(),
        changes,
    };
    Ok(known.kind.changes(&file.file, &old, &new, moves).map(table))
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

/// Pairs the nodes of a stage by their values on the axes. On an axis that only the other state
/// has, a node has the value of the parameter of that name, if there is one.
fn pair_nodes<'a>(
    old: &[&'a NodeState],
    new: &[&'a NodeState],
    scalars: &[BTreeMap<String, String>; 2],
    known: &Moves,
) -> (Vec<(&'a NodeState, &'a NodeState)>, Moves) {
    let coordinates =
        [old, new].map(|nodes| -> Vec<_> { nodes.iter().map(|node| node.coordinates()).collect() });
    let axes: BTreeSet<&str> =
        coordinates.iter().flatten().flat_map(|values| values.keys().copied()).collect();
    let axes: Vec<&str> = axes.into_iter().collect();
    let keys = |side: usize| -> Vec<Vec<&str>> {
        let mut keys = Vec::new();
        for values in &coordinates[side] {
            let mut key = Vec::new();
            for axis in &axes {
                let value = values.get(axis).or_else(|| scalars[side].get(*axis));
                key.push(value.map_or("", String::as_str));
            }
            keys.push(key);
        }
        keys
    };
    let (before, after) = (keys(0), keys(1));
    let are_distinct =
        |keys: &[Vec<&str>]| keys.iter().collect::<BTreeSet<_>>().len() == keys.len();
    if are_distinct(&before) && are_distinct(&after) {
        let found = pair(&axes, &before, &after, known);
        let both = found.counterparts.iter().zip(new);
        let both = both.filter_map(|(i, new)| Some((old[(*i)?], *new)));
        return (both.collect(), found.moves);
    }
    // A value contains a comma and an equals sign.
    let by_name: BTreeMap<&str, &NodeState> =
        old.iter().map(|node| (node.name.as_str(), *node)).collect();
    let both = new.iter().filter_map(|new| Some((*by_name.get(new.name.as_str())?, *new)));
    (both.collect(), Moves::default())
}

/// The parameters of a stage. Each of those that a stage declares under `params` counts as one.
fn parameters_of(params: &Params) -> Vec<(String, &Json)> {
    let mut found = Vec::new();
    for (name, value) in params.iter().filter(|(name, _)| !EMBEDDED.contains(&name.as_str())) {
        match value {
            Json::Object(declared) if name == DECLARED => {
                let each = declared.iter();
                found.extend(each.map(|(inner, value)| (format!("{DECLARED}.{inner}"), value)));
            }
            value => found.push((name.clone(), value)),
        }
    }
    found
}

/// The field with the parameters that a stage declares.
const DECLARED: &str = "params";

/// The axis of a parameter.
fn axis_of(parameter: &str) -> &str {
    parameter.strip_prefix(DECLARED).and_then(|name| name.strip_prefix('.')).unwrap_or(parameter)
}

const VERSION: &str = "stage version";
const SEED: &str = "seed";

/// The changed parameters, and which of their values replaced which.
fn parameters(before: &State, after: &State) -> (Vec<ParameterDiff>, Moves) {
    let (mut changed, mut moves) = (Vec::new(), Moves::default());
    let mut known = [ValuesByName::new(), ValuesByName::new()];
    for (stage, old, new) in pairs(before, after) {
        // Without a recipe, nothing is known of the parameters.
        let is_unknown = |nodes: &[&NodeState]| {
            !nodes.is_empty() && nodes.iter().all(|node| node.recipe.is_none())
        };
        if is_unknown(&old) || is_unknown(&new) {
            continue;
        }
        let (old_values, new_values) = (distinct(&old), distinct(&new));
        for (known, found) in known.iter_mut().zip([&old_values, &new_values]) {
            for (name, values) in found {
                known
                    .entry(axis_of(name).to_owned())
                    .or_default()
                    .extend(values.iter().map(values::text));
            }
        }
        let names: BTreeSet<&String> = old_values.keys().chain(new_values.keys()).collect();
        for name in names {
            let of = |values: &BTreeMap<String, Vec<Json>>, nodes: &[&NodeState]| {
                let missing = || if nodes.is_empty() { Vec::new() } else { vec![Json::Null] };
                values.get(name).cloned().unwrap_or_else(missing)
            };
            let (before, after) = (of(&old_values, &old), of(&new_values, &new));
            let replaced = values::compare(&before, &after);
            if replaced == values::Replaced::default() {
                continue;
            }
            if name != VERSION && name != SEED {
                add_moves(axis_of(name), &replaced, &mut moves);
            }
            let texts = |values: &[Json]| values.iter().map(values::text).collect();
            changed.push(ParameterDiff {
                stage: stage.to_owned(),
                parameter: name.clone(),
                before: texts(&before),
                after: texts(&after),
                fields: fields(&format!("{stage}.{name}"), &replaced),
            });
        }
    }
    add_renamed([before, after], &known, &mut moves);
    drop_conflicts(&mut moves);
    (changed, moves)
}

/// The values of parameters or axes, as texts in names.
type ValuesByName = BTreeMap<String, BTreeSet<String>>;

/// Adds the moves on renamed axes. An axis that is not a parameter of any stage was renamed from
/// one that has all its values.
fn add_renamed(states: [&State; 2], known: &[ValuesByName; 2], moves: &mut Moves) {
    let axes = states.map(|state| {
        let mut found = ValuesByName::new();
        for (axis, value) in state.nodes.iter().flat_map(NodeState::coordinates) {
            if !known.iter().any(|known| known.contains_key(axis)) {
                found.entry(axis.to_owned()).or_default().insert(value);
            }
        }
        found
    });
    let mut added = Moves::default();
    for (axis, before) in &axes[0] {
        let Some(after) = axes[1].get(axis) else { continue };
        let is_from = |column: &str| {
            let has = |known: &ValuesByName, values| {
                known.get(column).is_some_and(|all: &BTreeSet<String>| all.is_superset(values))
            };
            has(&known[0], before) && has(&known[1], after)
        };
        let paired = moves.paired.iter().filter(|known| is_from(&known.column));
        added.paired.extend(paired.map(|known| Move { column: axis.clone(), ..known.clone() }));
        let unpaired = moves.unpaired.iter().filter(|known| is_from(&known.column));
        added.unpaired.extend(unpaired.map(|u| Unpaired { column: axis.clone(), ..u.clone() }));
    }
    moves.paired.extend(added.paired);
    moves.unpaired.extend(added.unpaired);
}

fn add_moves(axis: &str, replaced: &values::Replaced, moves: &mut Moves) {
    let column = axis.to_owned();
    for (was, is) in &replaced.pairs {
        // The text of a default is not known.
        if !was.is_null() && !is.is_null() {
            let (before, after) = (values::text(was), values::text(is));
            let found = Move { column: column.clone(), before, after };
            if !moves.paired.contains(&found) {
                moves.paired.push(found);
            }
        }
    }
    let texts = |values: &[&Json]| values.iter().map(|value| values::text(value)).collect();
    let (before, after): (Vec<_>, Vec<_>) = (texts(&replaced.removed), texts(&replaced.added));
    let found = Unpaired { column, before, after };
    let is_empty = found.before.is_empty() && found.after.is_empty();
    if !is_empty && !moves.unpaired.contains(&found) {
        moves.unpaired.push(found);
    }
}

/// Removes the moves of a value that was replaced by different values in different stages.
fn drop_conflicts(moves: &mut Moves) {
    let all = moves.paired.clone();
    let agrees = |one: &Move, other: &Move| {
        one.column != other.column || (one.before == other.before) == (one.after == other.after)
    };
    moves.paired.retain(|one| all.iter().all(|other| agrees(one, other)));
}

fn fields(path: &str, replaced: &values::Replaced) -> Vec<FieldDiff> {
    let mut fields: Vec<FieldDiff> = Vec::new();
    for (was, is) in &replaced.pairs {
        for [field, before, after] in values::fields(path, was, is) {
            let found = FieldDiff { field, before: vec![before], after: vec![after] };
            if !fields.contains(&found) {
                fields.push(found);
            }
        }
    }
    let texts = |values: &[&Json]| values.iter().map(|value| values::text(value)).collect();
    let (before, after): (Vec<_>, Vec<_>) = (texts(&replaced.removed), texts(&replaced.added));
    if !before.is_empty() || !after.is_empty() {
        fields.push(FieldDiff { field: path.to_owned(), before, after });
    }
    fields
}

/// The distinct values of each parameter over the nodes of a stage, in their order. A default is
/// the value in the name of the node or, if it has none, null.
fn distinct(nodes: &[&NodeState]) -> BTreeMap<String, Vec<Json>> {
    let known: Vec<(&Known, &NodeState)> =
        nodes.iter().filter_map(|node| Some((node.recipe.as_ref()?, *node))).collect();
    let names: BTreeSet<String> = known
        .iter()
        .flat_map(|(recipe, _)| parameters_of(&recipe.params))
        .map(|(name, _)| name)
        .collect();
    let mut values: BTreeMap<String, Vec<Json>> = BTreeMap::new();
    let mut add = |name: &str, value: Json| {
        let values = values.entry(name.to_owned()).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    };
    for (recipe, node) in known {
        add(VERSION, recipe.version.into());
        if let Some(seed) = &recipe.seed {
            add(SEED, seed.clone().into());
        }
        let (given, coordinates) = (parameters_of(&recipe.params), node.coordinates());
        for name in &names {
            let of_name = || {
                let text = coordinates.get(axis_of(name))?;
                Some(serde_json::from_str(text).unwrap_or_else(|_| Json::from(text.as_str())))
            };
            let value = given.iter().find(|(known, _)| known == name);
            let value = value.map(|(_, value)| (*value).clone());
            add(name, value.or_else(of_name).unwrap_or_default());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::KINDS;
    use serde_json::json;

    /// A node with parameters, or one whose recipe is not in the cache (`None`).
    fn node(name: &str, params: Option<Json>) -> NodeState {
        let known = |params| Known {
            kind: KINDS[0],
            version: 1,
            params: serde_json::from_value(params).unwrap(),
            seed: Some("0".into()),
        };
        NodeState { name: name.into(), recipe: params.map(known), artifact: None }
    }

    fn state(nodes: Vec<NodeState>) -> State {
        State { name: "state".into(), nodes }
    }

    /// The pairs of nodes, and the changed fields.
    fn compared(before: Vec<NodeState>, after: Vec<NodeState>) -> (Vec<String>, Vec<String>) {
        let (before, after) = (state(before), state(after));
        let (parameters, known) = parameters(&before, &after);
        let scalars = [before.scalars(), after.scalars()];
        let mut found = Vec::new();
        for (_, old, new) in pairs(&before, &after) {
            let (both, _) = pair_nodes(&old, &new, &scalars, &known);
            found.extend(both.iter().map(|(old, new)| format!("{} > {}", old.name, new.name)));
        }
        let text = |field: &FieldDiff| {
            format!("{} {} > {}", field.field, field.before.join(" "), field.after.join(" "))
        };
        let fields = parameters.iter().flat_map(|parameter| &parameter.fields).map(text);
        (found, fields.collect())
    }

    fn normal(variance: f64) -> Json {
        json!({ "prior": { "normal": { "variance": variance } } })
    }

    #[test]
    fn nodes_are_paired_across_the_replaced_value_also_where_they_inherit_the_axis() {
        let nodes = |variance: f64| {
            let prior = format!("normal-{variance}");
            vec![
                node("nets@prior=none,end=a", Some(json!({ "end": "a" }))),
                node(&format!("nets@prior={prior},end=a"), Some(normal(variance))),
                node("curves@prior=none,curve=arc", Some(json!({ "curve": "arc" }))),
                node(&format!("curves@prior={prior},curve=arc"), Some(json!({ "curve": "arc" }))),
            ]
        };
        let (pairs, fields) = compared(nodes(0.01), nodes(0.005));
        assert_eq!(
            pairs,
            [
                "nets@prior=none,end=a > nets@prior=none,end=a",
                "nets@prior=normal-0.01,end=a > nets@prior=normal-0.005,end=a",
                "curves@prior=none,curve=arc > curves@prior=none,curve=arc",
                "curves@prior=normal-0.01,curve=arc > curves@prior=normal-0.005,curve=arc",
            ]
        );
        assert_eq!(fields, ["nets.prior.normal.variance 0.01 > 0.005"]);
    }

    #[test]
    fn nodes_are_paired_across_the_replaced_value_also_on_renamed_axes() {
        let nodes = |middle: u8| {
            let net = |net: u8| node(&format!("nets@net={net}"), Some(json!({ "net": net })));
            let curve = |a: u8, b: u8| node(&format!("curves@a={a},b={b}"), Some(json!({})));
            vec![net(1), net(middle), net(3), curve(1, middle), curve(1, 3), curve(middle, 3)]
        };
        let (pairs, fields) = compared(nodes(2), nodes(5));
        assert_eq!(
            pairs[3..],
            [
                "curves@a=1,b=2 > curves@a=1,b=5",
                "curves@a=1,b=3 > curves@a=1,b=3",
                "curves@a=2,b=3 > curves@a=5,b=3",
            ]
        );
        assert_eq!(fields, ["nets.net 2 > 5"]);
    }

    #[test]
    fn a_value_that_became_an_axis_keeps_its_node() {
        let (pairs, fields) = compared(
            vec![node("s@end=a", Some(json!({ "width": 3 })))],
            vec![
                node("s@width=3,end=a", Some(json!({ "width": 3 }))),
                node("s@width=4,end=a", Some(json!({ "width": 4 }))),
            ],
        );
        assert_eq!(pairs, ["s@end=a > s@width=3,end=a"]);
        assert_eq!(fields, ["s.width  > 4"]);
    }

    #[test]
    fn unequal_numbers_of_values_are_not_paired() {
        let at = |width: u8| node(&format!("s@width={width}"), Some(json!({ "width": width })));
        let (pairs, fields) = compared(vec![at(1), at(9)], vec![at(2), at(3), at(9)]);
        assert_eq!(pairs, ["s@width=9 > s@width=9"]);
        assert_eq!(fields, ["s.width 1 > 2 3"]);
        let (pairs, _) = compared(vec![at(1), at(2)], vec![at(4), at(3)]);
        assert_eq!(pairs, ["s@width=2 > s@width=4", "s@width=1 > s@width=3"], "by size");
    }

    #[test]
    fn nothing_is_said_of_the_parameters_of_nodes_that_are_not_in_the_cache() {
        let known = || node("s@width=1", Some(json!({ "width": 1 })));
        let (pairs, fields) = compared(vec![node("s@width=1", None)], vec![known()]);
        assert_eq!((pairs, fields), (vec!["s@width=1 > s@width=1".to_owned()], vec![]));
    }

    #[test]
    fn a_default_is_known_from_the_name_of_the_node() {
        let (pairs, fields) = compared(
            vec![node("s@text=x", Some(json!({}))), node("s@text=y", Some(json!({ "text": "y" })))],
            vec![node("s@text=x", Some(json!({}))), node("s@text=z", Some(json!({ "text": "z" })))],
        );
        assert_eq!(pairs, ["s@text=x > s@text=x", "s@text=y > s@text=z"]);
        assert_eq!(fields, ["s.text y > z"]);
    }

    #[test]
    fn a_value_that_was_replaced_by_different_ones_in_two_stages_is_no_move() {
        let stage = |name: &str, width: u8| node(name, Some(json!({ "width": width })));
        let (before, after) =
            (state(vec![stage("a", 1), stage("b", 1)]), state(vec![stage("a", 2), stage("b", 3)]));
        assert_eq!(parameters(&before, &after).1, Moves::default());
    }

    #[test]
    fn values_with_commas_and_equals_signs_are_paired_by_name() {
        let name = "s@text=a,b=c,text=d";
        let (pairs, _) = compared(
            vec![node(name, Some(json!({}))), node("s@text=a", Some(json!({})))],
            vec![node(name, Some(json!({})))],
        );
        assert_eq!(pairs, [format!("{name} > {name}")]);
    }
}
