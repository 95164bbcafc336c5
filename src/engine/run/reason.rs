//! The reasons why a node runs. Each kind of reason is a variant with the old and the new value.
//!
//! A new recipe is compared with the recipe of the same node in the last run that contained it. If
//! there is no such run, it is compared with the *nearest* earlier recipe of the stage, or else of
//! the kind: the one with the fewest differences, which was probably edited. If the nearest recipe
//! is still in the plan, it was not edited: the new recipe was added, and runs for the first time.
//! Knows recipes, keys and names; does not access the cache.

use crate::engine::key::{Artifact, Content, Digest, Key, Recipe, Seed};
use crate::engine::stage::{FILES, StageOutline, UPSTREAM, Upstream};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A reason why a node runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Reason {
    /// No earlier recipe is similar, except recipes that are still in the plan.
    FirstTime,
    /// The recipe was recorded earlier, but its job never finished.
    NeverFinished,
    /// A parameter differs from the earlier recipe.
    ParamChanged {
        /// The path of the parameter, such as `prior.normal.variance`.
        path: String,
        /// The old value; `None` for a default or missing value.
        old: Option<Json>,
        /// The new value.
        new: Option<Json>,
    },
    /// An input's bytes differ.
    InputChanged {
        /// `slot/file`.
        slot: String,
        /// The old value.
        old: Option<Content>,
        /// The new value.
        new: Option<Content>,
    },
    /// A declared file of the project differs.
    FileChanged {
        /// Its name.
        file: String,
        /// The old value.
        old: Option<Content>,
        /// The new value.
        new: Option<Content>,
    },
    /// The artifacts in a slot for many nodes differ.
    InputsChanged {
        /// The slot.
        slot: String,
        /// The number of added artifacts.
        added: usize,
        /// The number of removed artifacts.
        removed: usize,
    },
    /// The stages upstream differ, for a kind that embeds their description.
    UpstreamChanged {
        /// What differs, such as ``parameter epochs of `nets` ``.
        what: String,
        /// The old value; `None` for a missing one. The distinct values of a parameter are a list,
        /// unless there is only one.
        old: Option<Json>,
        /// The new value.
        new: Option<Json>,
    },
    /// The stage kind's version was raised.
    VersionBumped {
        /// The old value.
        old: u32,
        /// The new value.
        new: u32,
    },
    /// The pipeline's seed or the node's label differs.
    SeedChanged {
        /// The old value.
        old: String,
        /// The new value.
        new: String,
    },
    /// An output is missing from the cache.
    OutputMissing {
        /// The file.
        file: String,
    },
    /// An output was changed in the cache.
    OutputDamaged {
        /// The file.
        file: String,
    },
    /// `--force`.
    Forced,
    /// A node upstream will run. This node will run too, unless the new outputs upstream are equal.
    Upstream {
        /// The first such node.
        node: String,
        /// The number of such nodes.
        count: usize,
        /// The reasons of the first node.
        because: Vec<Reason>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Reason::FirstTime => write!(f, "first time"),
            Reason::NeverFinished => write!(f, "not finished yet"),
            Reason::ParamChanged { path, old, new } => {
                let show = |value: &Option<Json>| {
                    value.as_ref().map_or("(default)".to_owned(), show_value)
                };
                write!(f, "param {path} {} -> {}", show(old), show(new))
            }
            Reason::UpstreamChanged { what, old, new } => {
                let show =
                    |value: &Option<Json>| value.as_ref().map_or("nothing".to_owned(), show_value);
                write!(f, "upstream: {what} {} -> {}", show(old), show(new))
            }
            Reason::InputChanged { slot, old, new } => {
                write!(f, "input {slot} {} -> {}", show_content(*old), show_content(*new))
            }
            Reason::FileChanged { file, old, new } => {
                write!(f, "file {file} {} -> {}", show_content(*old), show_content(*new))
            }
            Reason::InputsChanged { slot, added: 0, removed: 0 } => {
                write!(f, "inputs {slot}: the same in another order")
            }
            Reason::InputsChanged { slot, added, removed } => {
                write!(f, "inputs {slot}: {added} new, {removed} gone")
            }
            Reason::VersionBumped { old, new } => write!(f, "stage version {old} -> {new}"),
            Reason::SeedChanged { old, new } => write!(f, "seed {old} -> {new}"),
            Reason::OutputMissing { file } => write!(f, "output `{file}` is missing"),
            Reason::OutputDamaged { file } => write!(f, "output `{file}` was changed on disk"),
            Reason::Forced => write!(f, "forced"),
            Reason::Upstream { node, count, because } => {
                let causes: Vec<String> = because.iter().map(Reason::to_string).collect();
                let more =
                    if *count > 1 { format!(" and {} more", count - 1) } else { String::new() };
                write!(f, "depends on {node}{more} ({})", causes.join("; "))
            }
        }
    }
}

fn show_content(content: Option<Content>) -> String {
    content.map_or("nothing".to_owned(), |content| content.short())
}

fn show_value(value: &Json) -> String {
    let shown =
        |text: &str| text.parse().map_or_else(|_| text.to_owned(), |digest: Digest| digest.short());
    value.as_str().map_or_else(|| value.to_string(), shown)
}

/// The maximum number of earlier recipes that a new recipe is compared with. If there are more, the
/// others are left out, and the nearest of those compared may not be the nearest of all.
const COMPARED: usize = 5_000;

/// The keys that nodes had in earlier runs, by node name; the latest key first.
pub type PastKeys = BTreeMap<String, Vec<Key>>;

/// The recipes of earlier runs.
pub struct Past {
    recipes: BTreeMap<Key, Recipe>,
    by_kind: BTreeMap<String, Vec<Features>>,
    by_stage: BTreeMap<String, Vec<Features>>,
    keys: PastKeys,
}

/// The parts of a recipe that are compared, as hashes by name. The comparison must be cheap: every
/// stale node is compared with every earlier recipe.
struct Features {
    key: Key,
    all: Vec<(u64, u64)>,
}

impl Features {
    fn of(key: Key, recipe: &Recipe) -> Features {
        let hash = |text: &str| {
            let bytes = *blake3::hash(text.as_bytes()).as_bytes();
            bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
        };
        let mut features = vec![(hash("version"), u64::from(recipe.version))];
        let mut leaves = BTreeMap::new();
        recipe.params.iter().for_each(|(name, value)| flatten(name, value, &mut leaves));
        features.extend(
            leaves
                .iter()
                .map(|(path, value)| (hash(&format!("param {path}")), hash(&value.to_string()))),
        );
        features.extend(recipe.seed.iter().map(|seed| (hash("seed"), hash(&seed.run))));
        for (slot, artifacts) in &recipe.inputs {
            match &artifacts[..] {
                [one] => features.extend(one.iter().map(|(file, content)| {
                    (hash(&format!("input {slot}/{file}")), hash(&content.to_string()))
                })),
                many => {
                    features.push((hash(&format!("inputs {slot}")), hash(&format!("{many:?}"))))
                }
            }
        }
        features.sort_unstable();
        Features { key, all: features }
    }

    /// The number of names in which the two differ; at most `enough`.
    fn distance(&self, other: &Features, enough: usize) -> usize {
        let (mut a, mut b) = (&self.all[..], &other.all[..]);
        let mut distance = 0;
        while let ([first, rest_a @ ..], [second, rest_b @ ..]) = (a, b) {
            distance += usize::from(first != second);
            if distance >= enough {
                return enough;
            }
            (a, b) = match first.0.cmp(&second.0) {
                Ordering::Less => (rest_a, b),
                Ordering::Greater => (a, rest_b),
                Ordering::Equal => (rest_a, rest_b),
            };
        }
        distance + a.len() + b.len()
    }
}

impl Past {
    /// The past of `recipes`. `keys` are the keys of each node in earlier runs.
    pub fn new(recipes: Vec<(Key, Recipe)>, keys: PastKeys) -> Past {
        let recipes: BTreeMap<Key, Recipe> = recipes.into_iter().collect();
        let mut by_kind: BTreeMap<String, Vec<Features>> = BTreeMap::new();
        for (key, recipe) in &recipes {
            let alike = by_kind.entry(recipe.kind.clone()).or_default();
            if alike.len() < COMPARED {
                alike.push(Features::of(*key, recipe));
            }
        }
        let mut by_stage: BTreeMap<String, Vec<Features>> = BTreeMap::new();
        for (name, keys) in &keys {
            let alike = by_stage.entry(stage(name).to_owned()).or_default();
            let room = COMPARED.saturating_sub(alike.len());
            let known = keys.iter().filter_map(|key| Some(Features::of(*key, recipes.get(key)?)));
            alike.extend(known.take(room));
        }
        Past { recipes, by_kind, by_stage, keys }
    }

    /// The reasons why the node must compute `recipe`, which has no result. The recipe is compared
    /// with the earlier one of the node; for a new node, with the nearest of its stage; for a new
    /// stage, with the nearest of its kind, if at least half of the parts of both are equal. A
    /// recipe in `current`, the keys of the plan, is not the earlier version of another node.
    pub fn explain(&self, node: &str, recipe: &Recipe, current: &BTreeSet<Key>) -> Vec<Reason> {
        let key = recipe.key();
        if self.recipes.contains_key(&key) {
            return vec![Reason::NeverFinished];
        }
        let own = self.keys.get(node).into_iter().flatten().find_map(|key| self.recipes.get(key));
        if let Some(own) = own.filter(|own| own.kind == recipe.kind) {
            return differences(own, recipe);
        }
        let found = match self.by_stage.get(stage(node)) {
            Some(stage) => self.changed_from(stage, recipe, current),
            None => {
                let kind = self.by_kind.get(&recipe.kind).map_or(&[][..], Vec::as_slice);
                let features = Features::of(key, recipe).all.len();
                self.changed_from(kind, recipe, current)
                    .filter(|reasons| 2 * reasons.len() <= features)
            }
        };
        found.unwrap_or_else(|| vec![Reason::FirstTime])
    }

    /// The differences between `recipe` and the nearest of `among`; `None` if the nearest is still
    /// in the plan, or if there is none.
    fn changed_from(
        &self,
        among: &[Features],
        recipe: &Recipe,
        current: &BTreeSet<Key>,
    ) -> Option<Vec<Reason>> {
        let earlier = nearest(among, recipe)
            .into_iter()
            .filter_map(|key| Some((key, self.recipes.get(&key)?)));
        let earlier = earlier.filter(|(_, earlier)| earlier.kind == recipe.kind);
        earlier
            .map(|(key, earlier)| (differences(earlier, recipe), current.contains(&key), key))
            .min_by_key(|(reasons, is_current, earlier)| {
                (reasons.len(), *is_current, one_sided(reasons), *earlier)
            })
            .filter(|(_, is_current, _)| !is_current)
            .map(|(reasons, ..)| reasons)
    }

    /// The keys of the earlier recipes of its kind that are nearest to `recipe`.
    pub fn nearest(&self, recipe: &Recipe) -> Vec<Key> {
        nearest(self.by_kind.get(&recipe.kind).map_or(&[][..], Vec::as_slice), recipe)
    }
}

/// The keys of the recipes that differ from `recipe` in the fewest names.
fn nearest(among: &[Features], recipe: &Recipe) -> Vec<Key> {
    let features = Features::of(recipe.key(), recipe);
    let (mut best, mut found) = (usize::MAX, Vec::new());
    for earlier in among {
        let distance = earlier.distance(&features, best.saturating_add(1));
        if distance < best {
            found.clear();
        }
        if distance <= best {
            found.push(earlier.key);
            best = distance;
        }
    }
    found
}

/// The stage of the node called `name`.
fn stage(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// The number of parameters that only one of the two recipes has. Of two recipes with equally many
/// differences, the one with the same parameters is nearer.
fn one_sided(reasons: &[Reason]) -> usize {
    let one_sided = |reason: &&Reason| {
        matches!(
            reason,
            Reason::ParamChanged { old: None, .. } | Reason::ParamChanged { new: None, .. }
        )
    };
    reasons.iter().filter(one_sided).count()
}

/// The changes from `old` to `new`, two recipes of one kind.
pub fn differences(old: &Recipe, new: &Recipe) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if old.version != new.version {
        reasons.push(Reason::VersionBumped { old: old.version, new: new.version });
    }
    let leaves = |recipe: &Recipe| {
        let mut leaves = BTreeMap::new();
        let params = recipe.params.iter().filter(|(name, _)| *name != UPSTREAM);
        params.for_each(|(name, value)| flatten(name, value, &mut leaves));
        leaves
    };
    let (before, after) = (leaves(old), leaves(new));
    for path in union(&before, &after) {
        let (old, new) = (before.get(&path), after.get(&path));
        // As text: `0.0` and `-0.0` are equal numbers, but not in a key.
        if old.map(Json::to_string) != new.map(Json::to_string) {
            reasons.push(Reason::ParamChanged { path, old: old.cloned(), new: new.cloned() });
        }
    }
    let [before, after] = [old, new].map(|recipe| recipe.params.get(UPSTREAM));
    reasons.extend(upstream_changes(before, after));
    let params_changed = reasons.iter().any(|reason| matches!(reason, Reason::ParamChanged { .. }));
    let seed = |recipe: &Recipe, of: fn(&Seed) -> &String| {
        recipe.seed.as_ref().map_or("none".into(), |s| of(s).clone())
    };
    let runs = (seed(old, |s| &s.run), seed(new, |s| &s.run));
    let labels = (seed(old, |s| &s.label), seed(new, |s| &s.label));
    // A label follows from the parameters: if these have changed, the label is not a separate
    // reason.
    let seeds =
        if runs.0 != runs.1 { Some(runs) } else { Some(labels).filter(|_| !params_changed) };
    if let Some((old, new)) = seeds.filter(|(old, new)| old != new) {
        reasons.push(Reason::SeedChanged { old, new });
    }
    for slot in union(&old.inputs, &new.inputs) {
        let none = Vec::new();
        let (before, after) =
            (old.inputs.get(&slot).unwrap_or(&none), new.inputs.get(&slot).unwrap_or(&none));
        if before == after {
            continue;
        }
        if before.len() <= 1 && after.len() <= 1 {
            let empty = Artifact::new();
            let (before, after) =
                (before.first().unwrap_or(&empty), after.first().unwrap_or(&empty));
            for file in union(before, after) {
                let (old, new) = (before.get(&file).copied(), after.get(&file).copied());
                if old != new && slot == FILES {
                    reasons.push(Reason::FileChanged { file, old, new });
                } else if old != new {
                    reasons.push(Reason::InputChanged { slot: format!("{slot}/{file}"), old, new });
                }
            }
        } else {
            // Two nodes may have equal outputs, so artifacts are counted with multiplicity.
            let mut counts: BTreeMap<&Artifact, isize> = BTreeMap::new();
            after.iter().for_each(|artifact| *counts.entry(artifact).or_default() += 1);
            before.iter().for_each(|artifact| *counts.entry(artifact).or_default() -= 1);
            let added = counts.values().filter(|n| **n > 0).map(|n| n.unsigned_abs()).sum();
            let removed = counts.values().filter(|n| **n < 0).map(|n| n.unsigned_abs()).sum();
            reasons.push(Reason::InputsChanged { slot, added, removed });
        }
    }
    reasons
}

/// The changes from `old` to `new`, two values of the parameter [`UPSTREAM`]. Changed artifacts are
/// not among them, since they are changes of the node's own inputs.
fn upstream_changes(old: Option<&Json>, new: Option<&Json>) -> Vec<Reason> {
    if old == new {
        return Vec::new();
    }
    let changed = |what: String, old: Option<Json>, new: Option<Json>| Reason::UpstreamChanged {
        what,
        old,
        new,
    };
    let read = |value: Option<&Json>| value.and_then(|value| Upstream::deserialize(value).ok());
    // Recipes of other versions of this program may lack the description, or have another one.
    let (Some(before), Some(after)) = (read(old), read(new)) else {
        let digest = |value: &Json| Digest::of(value.to_string().as_bytes()).to_string().into();
        return vec![changed("description".into(), old.map(digest), new.map(digest))];
    };
    let stages = |upstream: Upstream| -> BTreeMap<String, StageOutline> {
        upstream.stages.into_iter().map(|stage| (stage.name.clone(), stage)).collect()
    };
    let names = |upstream: &Upstream| -> BTreeSet<String> {
        upstream.inputs.iter().map(|input| input.node.clone()).collect()
    };
    let (old_names, new_names) = (names(&before), names(&after));
    let (before, after) = (stages(before), stages(after));
    let mut reasons = Vec::new();
    let mut counts = Vec::new();
    for name in union(&before, &after) {
        let (old, new) = match (before.get(&name), after.get(&name)) {
            (Some(old), Some(new)) => (old, new),
            (old, new) => {
                let kind = |stage: &StageOutline| stage.kind.clone().into();
                reasons.push(changed(format!("stage `{name}`"), old.map(kind), new.map(kind)));
                continue;
            }
        };
        let mut compare = |what: &str, old: Json, new: Json| {
            if old != new {
                reasons.push(changed(format!("{what} `{name}`"), Some(old), Some(new)));
            }
        };
        compare("kind of", old.kind.clone().into(), new.kind.clone().into());
        compare("version of", old.version.into(), new.version.into());
        for param in union(&old.params, &new.params) {
            let values = |stage: &StageOutline| match stage.params.get(&param).map(Vec::as_slice) {
                Some([one]) => Some(one.clone()),
                several => several.map(|several| several.to_vec().into()),
            };
            let (old, new) = (values(old), values(new));
            if old != new {
                reasons.push(changed(format!("parameter {param} of `{name}`"), old, new));
            }
        }
        for slot in union(&old.inputs, &new.inputs) {
            let stages = |stage: &StageOutline| {
                stage.inputs.get(&slot).map(|stages| stages.join(", ").into())
            };
            let (old, new) = (stages(old), stages(new));
            if old != new {
                reasons.push(changed(format!("input {slot} of `{name}`"), old, new));
            }
        }
        for slot in union(&old.renamed, &new.renamed) {
            let renamed = |stage: &StageOutline| {
                stage.renamed.get(&slot).and_then(|renamed| serde_json::to_value(renamed).ok())
            };
            let (old, new) = (renamed(old), renamed(new));
            if old != new {
                reasons.push(changed(
                    format!("renamed axes of input {slot} of `{name}`"),
                    old,
                    new,
                ));
            }
        }
        if old.conditions != new.conditions {
            let conditions = |stage: &StageOutline| match &stage.conditions[..] {
                [] => None,
                [one] => Some(one.clone()),
                several => Some(several.to_vec().into()),
            };
            let (old, new) = (conditions(old), conditions(new));
            reasons.push(changed(format!("`where` of `{name}`"), old, new));
        }
        if old.nodes != new.nodes {
            let (old, new) = (old.nodes.into(), new.nodes.into());
            counts.push(changed(format!("nodes of `{name}`"), Some(old), Some(new)));
        }
    }
    // Other changes explain the numbers of nodes, and the names of nodes that have other axes.
    if reasons.is_empty() {
        reasons = counts;
    }
    if reasons.is_empty() && old_names != new_names {
        let first = |names: &BTreeSet<String>, others| -> Option<Json> {
            names.difference(others).next().map(|name| name.clone().into())
        };
        let (old, new) = (first(&old_names, &new_names), first(&new_names, &old_names));
        reasons.push(changed("input".into(), old, new));
    }
    reasons
}

fn union<V>(a: &BTreeMap<String, V>, b: &BTreeMap<String, V>) -> BTreeSet<String> {
    a.keys().chain(b.keys()).cloned().collect()
}

/// The scalars of a parameter by path. For a bare name such as `none`, the path is the name of the
/// parameter.
fn flatten(path: &str, value: &Json, leaves: &mut BTreeMap<String, Json>) {
    match value {
        Json::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(name, value)| flatten(&format!("{path}.{name}"), value, leaves));
        }
        _ => {
            leaves.insert(path.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::json as json_value;
    use proptest::prelude::*;
    use serde_json::json;

    fn train(prior: Json, pair: u32) -> Recipe {
        Recipe {
            kind: "train".into(),
            version: 1,
            params: [("prior".into(), prior), ("pair".into(), json!(pair))].into(),
            inputs: [("data".into(), vec![[("images".into(), Digest::of(b"x").into())].into()])]
                .into(),
            seed: Some(Seed { run: "0".into(), label: format!("pair={pair}") }),
        }
    }

    fn explain(past: &[Recipe], current: &[Recipe], new: &Recipe) -> Vec<String> {
        let current = current.iter().map(Recipe::key).collect();
        let past = Past::new(past.iter().map(|r| (r.key(), r.clone())).collect(), PastKeys::new());
        past.explain("nets", new, &current).iter().map(Reason::to_string).collect()
    }

    /// A command stage with this command line.
    fn command(run: &str, output: &str) -> Recipe {
        Recipe {
            kind: "command".into(),
            version: 1,
            params: [("run".into(), json!(run)), ("outputs".into(), json!([output]))].into(),
            inputs: BTreeMap::new(),
            seed: None,
        }
    }

    /// The reasons why `node` must compute `new`, after runs with these nodes and recipes, latest
    /// first.
    fn explain_named(past: &[(&str, &Recipe)], node: &str, new: &Recipe) -> Vec<String> {
        let mut keys = PastKeys::new();
        past.iter()
            .for_each(|(name, recipe)| keys.entry((*name).into()).or_default().push(recipe.key()));
        let recipes = past.iter().map(|(_, recipe)| (recipe.key(), (*recipe).clone())).collect();
        Past::new(recipes, keys)
            .explain(node, new, &BTreeSet::new())
            .iter()
            .map(Reason::to_string)
            .collect()
    }

    #[test]
    fn a_node_is_compared_with_its_own_earlier_recipe_even_if_another_is_nearer() {
        let (one, two) = (command("python one.py", "a"), command("python two.py", "b"));
        let edited = command("python two.py", "a");
        let past = [("one", &one), ("two", &two)];
        assert_eq!(
            explain_named(&past, "one", &edited),
            ["param run python one.py -> python two.py"]
        );
        let edited = command("python two.py --fast", "b");
        assert_eq!(
            explain_named(&past, "two", &edited),
            ["param run python two.py -> python two.py --fast"]
        );
    }

    #[test]
    fn a_node_is_compared_with_its_last_recipe_even_if_an_earlier_one_is_nearer() {
        let [first, last] = [(0.1, 1), (0.2, 2)]
            .map(|(variance, pair)| train(json!({"normal": {"variance": variance}}), pair));
        let new = train(json!({"normal": {"variance": 0.1}}), 2);
        let past = [("nets", &last), ("nets", &first)];
        assert_eq!(explain_named(&past, "nets", &new), ["param prior.normal.variance 0.2 -> 0.1"]);
    }

    #[test]
    fn a_new_stage_that_has_little_in_common_with_its_kind_runs_for_the_first_time() {
        let (one, two) = (command("python one.py", "a"), command("Rscript two.R", "b"));
        assert_eq!(explain_named(&[("one", &one)], "two", &two), ["first time"]);
    }

    #[test]
    fn a_new_node_is_compared_with_the_nearest_of_its_stage() {
        let [mine, other] =
            [("none", 1), ("none", 2)].map(|(prior, pair)| train(json!(prior), pair));
        let new = train(json!({"dropout": 0.5}), 1);
        let past = [("nets@prior=none,pair=1", &mine), ("other@pair=2", &other)];
        let reasons = explain_named(&past, "nets@prior=dropout-0.5,pair=1", &new);
        assert_eq!(
            reasons,
            ["param prior none -> (default)", "param prior.dropout (default) -> 0.5"]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn a_reason_is_read_from_the_history_as_it_was_written(
            path in any::<String>(), old in json_value(), new in json_value(),
        ) {
            let changed = Reason::ParamChanged { path, old: Some(old), new: Some(new) };
            let reason = Reason::Upstream { node: "n".into(), count: 1, because: vec![changed] };
            let line = serde_json::to_string(&reason).unwrap();
            let back: Reason = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(serde_json::to_string(&back).unwrap(), line);
        }
    }

    #[test]
    fn a_changed_parameter_has_its_path_and_both_values() {
        let old = train(json!({"normal": {"variance": 0.01}}), 1);
        let new = train(json!({"normal": {"variance": 0.005}}), 1);
        assert_eq!(explain(&[old], &[], &new), ["param prior.normal.variance 0.01 -> 0.005"]);
    }

    #[test]
    fn a_recipe_beside_a_nearer_one_that_is_still_in_the_plan_is_new() {
        let current = train(json!({"normal": {"variance": 0.01}}), 1);
        let added = train(json!({"normal": {"variance": 0.005}}), 1);
        assert_eq!(
            explain(std::slice::from_ref(&current), std::slice::from_ref(&current), &added),
            ["first time"]
        );
    }

    #[test]
    fn of_equally_near_recipes_one_that_left_the_plan_is_compared() {
        let none = train(json!("none"), 1);
        let normal = train(json!({"normal": {"variance": 0.01}}), 1);
        let other_pair = train(json!({"normal": {"variance": 0.005}}), 2);
        let new = train(json!({"normal": {"variance": 0.005}}), 1);
        assert_eq!(
            explain(&[none.clone(), normal.clone(), other_pair.clone()], &[none, other_pair], &new),
            ["param prior.normal.variance 0.01 -> 0.005"]
        );
        let is_current = train(json!({"normal": {"variance": 1.0}}), 1);
        assert_eq!(
            explain(&[is_current.clone(), normal], &[is_current], &new),
            ["param prior.normal.variance 0.01 -> 0.005"]
        );
    }

    #[test]
    fn every_kind_of_reason_has_a_sentence() {
        let old = train(json!("none"), 1);
        let mut new = old.clone();
        new.version = 2;
        new.params.insert("epochs".into(), json!(5));
        new.seed = Some(Seed { run: "1".into(), label: "pair=1".into() });
        new.inputs.get_mut("data").unwrap()[0].insert("images".into(), Digest::of(b"y").into());
        let a: Artifact = [("c.csv".to_owned(), Digest::of(b"a").into())].into();
        let b: Artifact = [("c.csv".to_owned(), Digest::of(b"b").into())].into();
        let mut before = old.clone();
        before.inputs.insert("curves".into(), vec![a.clone(), b.clone()]);
        new.inputs.insert("curves".into(), vec![a]);
        let mut reasons = differences(&before, &new);
        reasons.push(Reason::OutputMissing { file: "net".into() });
        reasons.push(Reason::OutputDamaged { file: "net".into() });
        reasons.push(Reason::Forced);
        reasons.push(Reason::Upstream {
            node: "nets@pair=1".into(),
            count: 2,
            because: vec![Reason::FirstTime],
        });
        let text: Vec<String> = reasons.iter().map(Reason::to_string).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn a_change_upstream_is_one_sentence_for_each_parameter_stage_or_input() {
        let upstream = json!({
            "stages": [
                {"name": "nets", "kind": "train", "version": 1, "nodes": 12, "inputs": {},
                 "params": {"epochs": [20], "hidden": [10, 50]}},
                {"name": "tables", "kind": "aggregate", "version": 2, "nodes": 1, "params": {},
                 "inputs": {"nets": ["nets"]}},
            ],
            "inputs": [{"slot": "tables", "node": "tables", "artifact": Digest::of(b"x")}],
        });
        let differ = |changes: &[(&str, Json)]| -> Vec<String> {
            let mut other = upstream.clone();
            for (path, value) in changes {
                *other.pointer_mut(path).unwrap() = value.clone();
            }
            let [old, new] = [&upstream, &other].map(|upstream| {
                let mut recipe = train(json!("none"), 1);
                recipe.params.insert(UPSTREAM.into(), upstream.clone());
                recipe
            });
            differences(&old, &new).iter().map(Reason::to_string).collect()
        };
        let epochs = ("/stages/0/params/epochs", json!([30]));
        assert_eq!(differ(&[epochs]), ["upstream: parameter epochs of `nets` 20 -> 30"]);
        let (hidden, nodes) =
            (("/stages/0/params/hidden", json!([10])), ("/stages/0/nodes", json!(6)));
        assert_eq!(
            differ(&[hidden, nodes.clone()]),
            ["upstream: parameter hidden of `nets` [10,50] -> 10"],
            "the number of nodes follows from the parameter"
        );
        assert_eq!(differ(&[nodes]), ["upstream: nodes of `nets` 12 -> 6"]);
        let (stage, input) = (
            ("/stages/0/name", json!("networks")),
            ("/stages/1/inputs", json!({"nets": ["networks"]})),
        );
        assert_eq!(
            differ(&[stage, input]),
            [
                "upstream: stage `nets` train -> nothing",
                "upstream: stage `networks` nothing -> train",
                "upstream: input nets of `tables` nets -> networks",
            ]
        );
        let digest = ("/inputs/0/artifact", json!(Digest::of(b"y")));
        assert_eq!(differ(&[digest]), [""; 0], "the changed input is a reason of its own");
        let node = ("/inputs/0/node", json!("tables@x=1"));
        assert_eq!(differ(&[node]), ["upstream: input tables -> tables@x=1"]);
        let foreign = ("/stages", json!({}));
        let digest = |json: &Json| Digest::of(json.to_string().as_bytes()).short();
        let mut other = upstream.clone();
        other["stages"] = json!({});
        let (old, new) = (digest(&upstream), digest(&other));
        assert_eq!(differ(&[foreign]), [format!("upstream: description {old} -> {new}")]);
    }

    #[test]
    fn zeros_of_both_signs_differ() {
        let at = |x: f64| train(json!({"normal": {"mean": x}, "grid": [1.0, x]}), 1);
        let (plus, mut minus) = (at(0.0), at(-0.0));
        minus.seed = Some(Seed { run: "0".into(), label: "pair=1,mean=-0.0".into() });
        assert_ne!(plus.key(), minus.key());
        assert_eq!(
            explain(&[plus], &[], &minus),
            ["param prior.grid [1.0,0.0] -> [1.0,-0.0]", "param prior.normal.mean 0.0 -> -0.0"]
        );
    }

    #[test]
    fn gathered_inputs_are_counted_with_copies_and_another_order_is_a_reason() {
        let artifact = |text: &str| -> Artifact {
            [("t".to_owned(), Digest::of(text.as_bytes()).into())].into()
        };
        let gathered = |texts: &[&str]| {
            let mut recipe = train(json!("none"), 1);
            recipe.inputs.insert("all".into(), texts.iter().map(|text| artifact(text)).collect());
            recipe
        };
        let reasons =
            |before: &[&str], after: &[&str]| explain(&[gathered(before)], &[], &gathered(after));
        assert_eq!(reasons(&["a", "b"], &["b", "a"]), ["inputs all: the same in another order"]);
        assert_eq!(reasons(&["a", "b"], &["a", "b", "b"]), ["inputs all: 1 new, 0 gone"]);
        assert_eq!(reasons(&["a", "a", "a"], &["a", "c"]), ["inputs all: 1 new, 2 gone"]);
    }

    #[test]
    fn a_first_recipe_and_an_unfinished_one_have_distinct_reasons() {
        let recipe = train(json!("none"), 1);
        assert_eq!(explain(&[], &[], &recipe), ["first time"]);
        assert_eq!(explain(std::slice::from_ref(&recipe), &[], &recipe), ["not finished yet"]);
    }
}
