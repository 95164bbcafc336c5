//! The resolved pipeline: its nodes, their recipes, and the nodes that a target selects.
//!
//! This module does not know the cache; `run::status` determines the status of nodes.

use super::expand::{Expanded, Selection, WHERE, expand};
use super::pipeline::Pipeline;
pub use super::reference::{NodeId, PlanNode};
use super::reference::{Reference, is_pattern};
use super::sources::Sources;
use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::{Artifact, Digest, Recipe, Seed, root};
use crate::engine::located::{Location, suggest};
use crate::engine::stage::{ALL, FILES, Kind, ROOT, ResolvedStage, UPSTREAM, belongs};
use anyhow::Result;
use glob::Pattern;
use std::collections::{BTreeMap, BTreeSet};

/// All nodes of a pipeline.
#[derive(Clone)]
pub struct Plan {
    /// The nodes; inputs come before their users.
    pub nodes: Vec<PlanNode>,
    /// The project's files that stages declare.
    pub files: Sources,
    /// The applied profile.
    pub profile: Option<String>,
    seed: String,
    source: String,
    /// The location of each stage.
    locations: BTreeMap<String, Option<Location>>,
    /// The renamed inputs and the conditions of stages that have some.
    pub(super) selections: BTreeMap<String, Selection>,
}

impl Plan {
    /// Resolves `pipeline`, whose profile has been applied, with the stage kinds `kinds`.
    pub fn new(pipeline: &Pipeline, kinds: &[&'static dyn Kind]) -> Result<Plan, Diagnostic> {
        let locations =
            pipeline.stages.iter().map(|stage| (stage.name.clone(), stage.location)).collect();
        let (seed, source) = (pipeline.seed.clone(), pipeline.source.clone());
        let profile = pipeline.invocation.profile.clone();
        let Expanded { nodes, selections } = expand(pipeline, kinds)?;
        Ok(Plan { nodes, files: Sources::default(), profile, seed, source, locations, selections })
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &PlanNode {
        &self.nodes[id.0]
    }

    /// All ids, inputs first.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// The recipe of a node. `fell_back` returns whether this node or an upstream node uses its
    /// fallback, and `artifact` returns the artifacts of upstream nodes.
    pub fn recipe<'a>(
        &self,
        id: NodeId,
        fell_back: impl Fn(NodeId) -> bool,
        artifact: impl Fn(NodeId) -> &'a Artifact,
    ) -> Result<Recipe> {
        let node = self.node(id);
        let ResolvedStage { version, params, label, fallback, fallback_label, .. } =
            &*node.resolved;
        let (version, params, label) = match fallback {
            Some(fallback) if fell_back(id) => {
                (node.kind.version_of(fallback)?, fallback, fallback_label)
            }
            _ => (*version, params, label),
        };
        let mut inputs = BTreeMap::new();
        for (name, sources) in &node.inputs {
            let mut artifacts: Vec<Artifact> =
                sources.iter().map(|source| node.in_slot(name, artifact(*source))).collect();
            artifacts.sort_unstable();
            inputs.insert(name.clone().into_owned(), artifacts);
        }
        if !node.resolved.files.is_empty() {
            inputs.insert(FILES.to_owned(), vec![self.source_files(id)?]);
        }
        let mut params = params.clone();
        if node.kind.embeds_root() {
            let upstream = self.upstream(id, fell_back, &artifact);
            params.insert(UPSTREAM.to_owned(), serde_json::to_value(upstream)?);
            params.insert(ROOT.to_owned(), self.root_upstream(id, artifact).to_string().into());
        }
        Ok(Recipe {
            kind: node.kind.name().to_owned(),
            version,
            params,
            inputs,
            seed: label.clone().map(|label| Seed { run: self.seed.clone(), label }),
        })
    }

    /// The root of everything upstream of a node.
    fn root_upstream<'a>(&self, id: NodeId, artifact: impl Fn(NodeId) -> &'a Artifact) -> Digest {
        let counts = |up: &NodeId| *up != id && !self.node(*up).kind.embeds_root();
        root(self.closure(&[id]).into_iter().filter(counts).map(artifact))
    }

    /// The declared files of a node, listed and hashed at the first call.
    pub fn source_files(&self, id: NodeId) -> Result<Artifact> {
        let node = self.node(id);
        self.files.artifact(&node.resolved.files).map_err(|error| {
            let diagnostic =
                Diagnostic::of(&self.source, &format!("stage `{}`", node.stage), &error);
            let location = self.locations.get(&node.stage).copied().flatten();
            Error::from(Diagnostic { location: diagnostic.location.or(location), ..diagnostic })
                .into()
        })
    }

    /// Checks that the stages upstream have the outputs that the slots need, if these outputs
    /// depend on declared files.
    pub fn check_slots(&self, id: NodeId) -> Result<()> {
        let node = self.node(id);
        for slot in node.kind.slots().iter().filter(|slot| slot.files != ALL) {
            let filling = node.inputs.iter().filter(|(name, _)| name == slot.name);
            for &source in filling.flat_map(|(_, nodes)| nodes) {
                let ResolvedStage { params, files, .. } = &*self.node(source).resolved;
                if files.is_empty() || self.node(source).kind.outputs_for(params)?.is_some() {
                    continue;
                }
                let found = self.source_files(source)?;
                let lacks = |file: &&&str| !found.keys().any(|found| belongs(found, file));
                if let Some(missing) = slot.files.iter().find(lacks) {
                    let (name, location) =
                        (&node.stage, self.locations.get(&node.stage).copied().flatten());
                    let message = format!(
                        "stage `{name}`: `{}` needs the output `{missing}`, \
                         which `{}` does not have",
                        slot.name,
                        self.node(source).name
                    );
                    return Err(Error::from(Diagnostic {
                        source: self.source.clone(),
                        location,
                        message,
                        hint: None,
                    })
                    .into());
                }
            }
        }
        Ok(())
    }

    /// The recipe of a node without its inputs, for comparisons only.
    pub fn recipe_without_inputs(&self, id: NodeId) -> Recipe {
        let node = self.node(id);
        let ResolvedStage { version, params, label, .. } = &*node.resolved;
        Recipe {
            kind: node.kind.name().to_owned(),
            version: *version,
            params: params.clone(),
            inputs: BTreeMap::new(),
            seed: label.clone().map(|label| Seed { run: self.seed.clone(), label }),
        }
    }

    /// The recipe of a node's fallback without its inputs, for comparisons only.
    pub fn fallback_without_inputs(&self, id: NodeId) -> Result<Option<Recipe>> {
        let node = self.node(id);
        let Some(params) = node.resolved.fallback.clone() else { return Ok(None) };
        let label = node.resolved.fallback_label.clone();
        Ok(Some(Recipe {
            version: node.kind.version_of(&params)?,
            params,
            seed: label.map(|label| Seed { run: self.seed.clone(), label }),
            ..self.recipe_without_inputs(id)
        }))
    }

    /// The nodes that `target` selects: a stage, a node by its full name, a stage or kind with
    /// values (`nets@prior=none`, `s@text="a,b"`), or a pattern (`*curves`, `nets@prior=dropout*`,
    /// `nets@*prior=none*`).
    pub fn select(&self, target: &str) -> Result<Vec<NodeId>, Diagnostic> {
        let diagnostic = |message: String, hint| Diagnostic {
            source: "target".into(),
            location: None,
            message,
            hint,
        };
        // Every printed name is a target, including names with special characters.
        if let Some(id) = self.ids().find(|id| self.node(*id).name == target) {
            return Ok(vec![id]);
        }
        if is_pattern(target) {
            let whole = Pattern::new(target).map_err(|error| {
                diagnostic(format!("`{target}` is not a valid pattern: {}", error.msg), None)
            })?;
            let parts = Reference::parse(target).ok();
            let fits = |node: &PlanNode| {
                whole.matches(&node.name) || parts.as_ref().is_some_and(|parts| parts.fits(node))
            };
            let found: Vec<NodeId> = self.ids().filter(|id| fits(self.node(*id))).collect();
            if found.is_empty() {
                let stages: BTreeSet<&str> =
                    self.nodes.iter().map(|node| node.stage.as_str()).collect();
                let stages: Vec<String> = stages.iter().map(|stage| format!("`{stage}`")).collect();
                let hint = format!(
                    "a pattern matches stages, values or full names; stages: {}",
                    stages.join(", ")
                );
                return Err(diagnostic(format!("no node matches `{target}`"), Some(hint)));
            }
            return Ok(found);
        }
        let wanted =
            Reference::parse(target).map_err(|error| diagnostic(error.message, error.hint))?;
        let is_stage = self.nodes.iter().any(|n| n.stage == wanted.stage);
        let of_stage: Vec<NodeId> = self
            .ids()
            .filter(|id| {
                let node = self.node(*id);
                if is_stage { node.stage == wanted.stage } else { node.kind.name() == wanted.stage }
            })
            .collect();
        if of_stage.is_empty() {
            let known: BTreeSet<&str> =
                self.nodes.iter().flat_map(|n| [n.stage.as_str(), n.kind.name()]).collect();
            return Err(diagnostic(
                format!("there is no stage or kind `{}`", wanted.stage),
                suggest(&wanted.stage, known),
            ));
        }
        let found: Vec<NodeId> =
            of_stage.iter().copied().filter(|id| wanted.matches(self.node(*id))).collect();
        if found.is_empty() {
            if let Some(error) = wanted.unknown(of_stage.iter().map(|id| self.node(*id))) {
                return Err(diagnostic(error.message, error.hint));
            }
            let names = of_stage.iter().map(|id| self.node(*id).name.as_str());
            let mut hint = suggest(target, names);
            let is_filtered = |of: &&Selection| !of.conditions.is_empty();
            let selection = self.selections.get(&wanted.stage).filter(is_filtered);
            if let Some(hint) = hint.as_mut().filter(|_| selection.is_some()) {
                *hint += &format!(" `{}` has the field `{WHERE}`", wanted.stage);
            }
            return Err(diagnostic(format!("no node matches `{target}`"), hint));
        }
        Ok(found)
    }

    /// `targets` and everything upstream of them; all nodes if there are no targets.
    pub fn closure(&self, targets: &[NodeId]) -> BTreeSet<NodeId> {
        if targets.is_empty() {
            return self.ids().collect();
        }
        let mut wanted: BTreeSet<NodeId> = targets.iter().copied().collect();
        for id in self.ids().rev() {
            if wanted.contains(&id) {
                wanted.extend(self.node(id).upstream());
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::key::Digest;
    use crate::engine::testing::{ENDS, id, plan};

    /// A distinct artifact for each node.
    fn artifacts(plan: &Plan) -> Vec<Artifact> {
        let of =
            |node: &PlanNode| [("text".to_owned(), Digest::of(node.name.as_bytes()).into())].into();
        plan.nodes.iter().map(of).collect()
    }

    fn recipe(plan: &Plan, name: &str) -> Recipe {
        let artifacts = artifacts(plan);
        plan.recipe(id(plan, name), |_| false, |up| &artifacts[up.0]).unwrap()
    }

    #[test]
    fn a_target_selects_by_any_parameter_including_defaults() {
        let plan = plan(ENDS).unwrap();
        let select = |target: &str| -> Vec<&str> {
            plan.select(target).unwrap().iter().map(|id| plan.node(*id).name.as_str()).collect()
        };
        assert_eq!(select("s@ratio=0,width=2"), ["s@width=2,end=a", "s@width=2,end=b"]);
        assert_eq!(select("s@style=plain,end=b,width=1"), ["s@width=1,end=b"]);
        assert_eq!(select("pair"), ["p@width=1", "p@width=2"], "a kind selects all its stages");
        assert_eq!(select("p@width=1"), ["p@width=1"]);
    }

    #[test]
    fn a_pattern_matches_stages_values_and_full_names() {
        let plan = plan(ENDS).unwrap();
        let select = |target: &str| -> Vec<&str> {
            plan.select(target).unwrap().iter().map(|id| plan.node(*id).name.as_str()).collect()
        };
        assert_eq!(select("s@*,end=b"), ["s@width=1,end=b", "s@width=2,end=b"]);
        assert_eq!(select("s@end=[a]"), ["s@width=1,end=a", "s@width=2,end=a"]);
        assert_eq!(select("*@width=2"), ["s@width=2,end=a", "s@width=2,end=b", "p@width=2"]);
        assert_eq!(select("pai?"), ["p@width=1", "p@width=2"], "kinds match, too");
        assert_eq!(select("*").len(), 6);
        let diagnostic = plan.select("x*").unwrap_err();
        assert_eq!(diagnostic.to_string(), "target: no node matches `x*`");
        assert!(diagnostic.hint.unwrap().ends_with("stages: `p`, `s`"));
        assert!(
            plan.select("s@[")
                .unwrap_err()
                .to_string()
                .starts_with("target: `s@[` is not a valid pattern: ")
        );
    }

    #[test]
    fn a_quoted_value_may_contain_commas_and_every_printed_name_is_a_target() {
        let plan =
            plan("stages: { s: { source: { text: ['a,b=c', 'd=e', 'f*'], width: [1, 2] } } }")
                .unwrap();
        let select = |target: &str| -> Vec<&str> {
            plan.select(target).unwrap().iter().map(|id| plan.node(*id).name.as_str()).collect()
        };
        for id in plan.ids() {
            assert_eq!(plan.select(&plan.node(id).name).unwrap(), [id]);
        }
        assert_eq!(select("s@text=\"a,b=c\",width=2"), ["s@text=a,b=c,width=2"]);
        assert_eq!(select("s@text=d=e"), ["s@text=d=e,width=1", "s@text=d=e,width=2"]);
        assert_eq!(select("s@text=f[*],width=1"), ["s@text=f*,width=1"]);
    }

    #[test]
    fn a_target_without_a_match_suggests_known_names() {
        let plan = plan(ENDS).unwrap();
        let case = |target: &str, message: &str, hint: &str| {
            let diagnostic = plan.select(target).unwrap_err();
            assert_eq!(
                (diagnostic.to_string().as_str(), diagnostic.hint.as_deref()),
                (message, Some(hint))
            );
        };
        case("q", "target: there is no stage or kind `q`", "known: `p`, `pair`, `s`, `source`");
        case("pare", "target: there is no stage or kind `pare`", "did you mean `pair`?");
        case("p@width=3", "target: no node matches `p@width=3`", "did you mean `p@width=2`?");
        case(
            "p@width",
            "target: `width` in `p@width` is not `name=value`",
            "write `stage@name=value,name=value`",
        );
    }

    #[test]
    fn the_closure_of_a_target_is_its_upstream_and_that_of_no_target_is_everything() {
        let plan = plan(ENDS).unwrap();
        let closure: Vec<&str> = plan
            .closure(&[id(&plan, "p@width=2")])
            .iter()
            .map(|id| plan.node(*id).name.as_str())
            .collect();
        assert_eq!(closure, ["s@width=2,end=a", "s@width=2,end=b", "p@width=2"]);
        assert_eq!(plan.closure(&[]).len(), 6);
    }

    #[test]
    fn the_order_of_nodes_in_a_slot_is_not_part_of_the_key() {
        let key = |all: &str| {
            let yaml = format!(
                "stages:\n  s: {{ source: {{ text: [x, v] }} }}\n  \
                 g: {{ gather: {{ all: {all} }} }}"
            );
            recipe(&plan(&yaml).unwrap(), "g").key()
        };
        assert_eq!(key("[s@text=x, s@text=v]"), key("[s@text=v, s@text=x]"));
        assert_eq!(key("[s@text=x, s@text=v]"), key("s"));
        assert_ne!(key("s@text=x"), key("s"));
    }

    #[test]
    fn stage_names_and_default_values_are_not_part_of_the_key() {
        let key = |name: &str, fields: &str| {
            let yaml = format!("stages: {{ {name}: {{ source: {{ text: x{fields} }} }} }}");
            recipe(&plan(&yaml).unwrap(), name).key()
        };
        let plain = key("s", "");
        assert_eq!(key("other", ""), plain);
        assert_eq!(key("s", ", width: 1, end: a, style: plain, ratio: 0, note: null"), plain);
        assert_eq!(key("s", ", otherwise: v"), plain, "a fallback has a recipe of its own");
        assert_ne!(key("s", ", width: 2"), plain);
    }

    #[test]
    fn the_seed_is_part_of_the_key_only_if_the_kind_draws_random_numbers() {
        let key = |seed: u8, text: &str| {
            recipe(
                &plan(&format!("seed: {seed}\nstages: {{ s: {{ source: {{ text: {text} }} }} }}"))
                    .unwrap(),
                "s",
            )
            .key()
        };
        assert_eq!(key(1, "x"), key(2, "x"));
        assert_ne!(key(1, "drawn"), key(2, "drawn"));
    }

    #[test]
    fn a_recipe_contains_only_the_files_that_its_slots_use() {
        let plan = plan(
            "stages: { s: { source: { text: x } }, g: { gather: { all: s } }, \
             p: { pair: { left: g } } }",
        );
        let plan = plan.unwrap();
        let mut artifacts = artifacts(&plan);
        let count = |n: &[u8]| Some(("count".to_owned(), Digest::of(n).into()));
        let p = id(&plan, "p");
        artifacts[1].extend(count(b"1"));
        let before = plan.recipe(p, |_| false, |up| &artifacts[up.0]).unwrap();
        artifacts[1].extend(count(b"2"));
        assert_eq!(plan.recipe(p, |_| false, |up| &artifacts[up.0]).unwrap(), before);
        assert_eq!(before.inputs["left"][0].keys().collect::<Vec<_>>(), ["text"]);
    }
}
