//! The pipeline as meant: its nodes, what each asks, and which of them a target means.
//!
//! Knows no cache: what is up to date is for the survey to find out.

use super::expand::nodes;
use super::pipeline::Pipeline;
pub use super::reference::{NodeId, PlanNode};
use super::reference::{Reference, is_pattern};
use super::sources::Files;
use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::{Artifact, Digest, Recipe, Seed, root};
use crate::engine::located::{Location, suggest};
use crate::engine::stage::{ALL, FILES, Kind, ROOT, ResolvedStage, belongs};
use anyhow::Result;
use glob::Pattern;
use std::collections::{BTreeMap, BTreeSet};

/// Every node that the pipeline asks for.
#[derive(Clone)]
pub struct Plan {
    /// Inputs before those that use them.
    pub nodes: Vec<PlanNode>,
    /// The project's files that they read.
    pub files: Files,
    /// The profile that has been applied.
    pub profile: Option<String>,
    seed: String,
    source: String,
    /// Where each stage stands.
    locations: BTreeMap<String, Option<Location>>,
}

impl Plan {
    /// Resolves `pipeline`, whose profile has been applied, over `kinds`.
    pub fn new(pipeline: &Pipeline, kinds: &[&'static dyn Kind]) -> Result<Plan, Diagnostic> {
        let locations =
            pipeline.stages.iter().map(|stage| (stage.name.clone(), stage.location)).collect();
        let (seed, source) = (pipeline.seed.clone(), pipeline.source.clone());
        let profile = pipeline.invocation.profile.clone();
        Ok(Plan {
            nodes: nodes(pipeline, kinds)?,
            files: Files::default(),
            profile,
            seed,
            source,
            locations,
        })
    }

    /// The node at `id`.
    pub fn node(&self, id: NodeId) -> &PlanNode {
        &self.nodes[id.0]
    }

    /// All ids, inputs first.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// The recipe of a node, given what the nodes that it hangs on have put out; with `fallen_back`, that of its fallback.
    pub fn recipe<'a>(
        &self,
        id: NodeId,
        fallen_back: bool,
        artifact: impl Fn(NodeId) -> &'a Artifact,
    ) -> Result<Recipe> {
        let node = self.node(id);
        let ResolvedStage { version, params, label, fallback, fallback_label, .. } =
            &*node.resolved;
        let (version, params, label) = match fallback {
            Some(fallback) if fallen_back => {
                (node.kind.version_of(fallback)?, fallback, fallback_label)
            }
            _ => (*version, params, label),
        };
        let mut inputs = BTreeMap::new();
        for (name, sources) in &node.inputs {
            let slot = node.kind.slots().iter().find(|slot| slot.name == name);
            let files = slot.map_or(ALL, |slot| slot.files);
            let mut artifacts = Vec::new();
            for source in sources {
                let wanted = |file: &str| files.iter().any(|declared| belongs(file, declared));
                let taken = artifact(*source).iter().filter(|(file, _)| wanted(file));
                artifacts.push(
                    taken.map(|(file, content)| (file.clone(), *content)).collect::<Artifact>(),
                );
            }
            artifacts.sort_unstable();
            inputs.insert(name.clone().into_owned(), artifacts);
        }
        if !node.resolved.files.is_empty() {
            inputs.insert(FILES.to_owned(), vec![self.look_at_files(id)?]);
        }
        let mut params = params.clone();
        if node.kind.embeds_root() {
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

    /// The root of all that a node hangs on.
    fn root_upstream<'a>(&self, id: NodeId, artifact: impl Fn(NodeId) -> &'a Artifact) -> Digest {
        let counts = |up: &NodeId| *up != id && !self.node(*up).kind.embeds_root();
        root(self.closure(&[id]).into_iter().filter(counts).map(artifact))
    }

    /// The declared files of a node, as they were when this was first asked.
    pub fn look_at_files(&self, id: NodeId) -> Result<Artifact> {
        let node = self.node(id);
        self.files.artifact(&node.resolved.files).map_err(|error| {
            let diagnostic =
                Diagnostic::of(&self.source, &format!("stage `{}`", node.stage), &error);
            let location = self.locations.get(&node.stage).copied().flatten();
            Error::from(Diagnostic { location: diagnostic.location.or(location), ..diagnostic })
                .into()
        })
    }

    /// Refuses a slot that takes what the files in it do not have: what a stage puts out that only brings files in is known
    /// once they are looked at.
    pub fn check_slots(&self, id: NodeId) -> Result<()> {
        let node = self.node(id);
        for slot in node.kind.slots().iter().filter(|slot| slot.files != ALL) {
            let filling = node.inputs.iter().filter(|(name, _)| name == slot.name);
            for &source in filling.flat_map(|(_, nodes)| nodes) {
                let ResolvedStage { params, files, .. } = &*self.node(source).resolved;
                if files.is_empty() || self.node(source).kind.outputs_for(params)?.is_some() {
                    continue;
                }
                let found = self.look_at_files(source)?;
                let lacks = |file: &&&str| !found.keys().any(|found| belongs(found, file));
                if let Some(missing) = slot.files.iter().find(lacks) {
                    let (name, location) =
                        (&node.stage, self.locations.get(&node.stage).copied().flatten());
                    let message = format!(
                        "stage `{name}`: `{}` takes `{missing}`, which `{}` does not have",
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

    /// The recipe of a node whose inputs are not known yet, without them: to be compared, not to be asked.
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

    /// The same of a node's fallback, if it has one.
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

    /// The nodes that `target` names: a stage, an instance by its whole name, a stage or a kind with some values
    /// (`nets@prior=none`, `s@text="a,b"`), or a pattern (`*curves`, `nets@prior=dropout*`, `nets@*prior=none*`).
    pub fn select(&self, target: &str) -> Result<Vec<NodeId>, Diagnostic> {
        let diagnostic = |message: String, hint| Diagnostic {
            source: "target".into(),
            location: None,
            message,
            hint,
        };
        // Any name that was printed can be typed, whatever its values hold.
        if let Some(id) = self.ids().find(|id| self.node(*id).name == target) {
            return Ok(vec![id]);
        }
        if is_pattern(target) {
            let whole = Pattern::new(target).map_err(|error| {
                diagnostic(format!("`{target}` is no pattern: {}", error.msg), None)
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
                    "a pattern stands for stages, values or whole names; stages: {}",
                    stages.join(", ")
                );
                return Err(diagnostic(format!("no node fits `{target}`"), Some(hint)));
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
                format!("nothing is called `{}`", wanted.stage),
                suggest(&wanted.stage, known),
            ));
        }
        let found: Vec<NodeId> =
            of_stage.iter().copied().filter(|id| wanted.matches(self.node(*id))).collect();
        if found.is_empty() {
            if let Some(error) = wanted.unknown(of_stage.iter().map(|id| self.node(*id))) {
                return Err(diagnostic(error.message, error.hint));
            }
            let names: Vec<&str> = of_stage.iter().map(|id| self.node(*id).name.as_str()).collect();
            return Err(diagnostic(format!("no node matches `{target}`"), suggest(target, names)));
        }
        Ok(found)
    }

    /// `targets` and everything they hang on; all nodes if there are no targets.
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
    use crate::engine::testing::{id, plan};

    fn names(yaml: &str) -> Vec<String> {
        plan(yaml).unwrap().nodes.into_iter().map(|node| node.name).collect()
    }

    fn refusal(yaml: &str) -> (String, Option<String>) {
        let diagnostic = plan(yaml).err().unwrap_or_else(|| panic!("taken: {yaml}"));
        (diagnostic.to_string(), diagnostic.hint)
    }

    /// By slot, the names of the nodes in it.
    fn inputs<'a>(plan: &'a Plan, name: &str) -> Vec<(&'a str, Vec<&'a str>)> {
        let slots = plan.node(id(plan, name)).inputs.iter();
        slots
            .map(|(slot, ids)| {
                (&**slot, ids.iter().map(|id| plan.node(*id).name.as_str()).collect())
            })
            .collect()
    }

    /// A stand-in for what each node would put out, different for each.
    fn artifacts(plan: &Plan) -> Vec<Artifact> {
        let of =
            |node: &PlanNode| [("text".to_owned(), Digest::of(node.name.as_bytes()).into())].into();
        plan.nodes.iter().map(of).collect()
    }

    fn recipe(plan: &Plan, name: &str) -> Recipe {
        let artifacts = artifacts(plan);
        plan.recipe(id(plan, name), false, |up| &artifacts[up.0]).unwrap()
    }

    #[test]
    fn lists_expand_in_written_order_the_last_fastest() {
        assert_eq!(
            names("stages: { s: { source: { width: [2, 1], text: [x, v] } } }"),
            ["s@width=2,text=x", "s@width=2,text=v", "s@width=1,text=x", "s@width=1,text=v"]
        );
    }

    #[test]
    fn a_list_inside_a_mapping_expands_and_a_value_is_named_without_its_only_field() {
        assert_eq!(
            names(
                "stages: { s: { source: { text: x, style: [plain, { framed: { by: [1, 2] } }] } } }"
            ),
            ["s@style=plain", "s@style=framed-1", "s@style=framed-2"]
        );
        assert_eq!(
            names(
                "stages: { s: { source: { text: x, style: { framed: { by: [1, 2], round: true } } } } }"
            ),
            ["s@style=framed-by-1-round-true", "s@style=framed-by-2-round-true"]
        );
    }

    #[test]
    fn a_single_value_is_no_axis_and_a_list_of_one_is() {
        assert_eq!(names("stages: { s: { source: { text: x } } }"), ["s"]);
        assert_eq!(names("stages: { s: { source: { text: [x] } } }"), ["s@text=x"]);
    }

    const ENDS: &str = "
stages:
  s: { source: { text: x, width: [1, 2], end: [a, b] } }
  p: { pair: { left: s@end=a, right: s@end=b } }
";

    #[test]
    fn axes_of_the_same_name_are_joined_and_one_that_is_fixed_is_not_inherited() {
        let plan = plan(ENDS).unwrap();
        let pairs: Vec<_> = plan.nodes[4..].iter().map(|node| node.name.as_str()).collect();
        assert_eq!(pairs, ["p@width=1", "p@width=2"]);
        assert_eq!(
            inputs(&plan, "p@width=2"),
            [("left", vec!["s@width=2,end=a"]), ("right", vec!["s@width=2,end=b"])]
        );
    }

    #[test]
    fn axes_that_are_not_shared_are_crossed() {
        let yaml = "
stages:
  s: { source: { text: [x, v] } }
  t: { source: { text: z, width: [1, 2] } }
  p: { pair: { left: s, right: t, note: [k, m] } }
";
        assert_eq!(
            names(yaml)[4..],
            [
                "p@text=x,width=1,note=k",
                "p@text=x,width=1,note=m",
                "p@text=x,width=2,note=k",
                "p@text=x,width=2,note=m",
                "p@text=v,width=1,note=k",
                "p@text=v,width=1,note=m",
                "p@text=v,width=2,note=k",
                "p@text=v,width=2,note=m",
            ]
        );
    }

    #[test]
    fn inputs_whose_shared_axes_have_no_value_in_common_are_refused() {
        let yaml = "
stages:
  s: { source: { text: x, width: [1, 2] } }
  t: { source: { text: x, width: [3, 4] } }
  p: { pair: { left: s, right: t } }
";
        let (message, hint) = refusal(yaml);
        assert_eq!(message, "toy.yaml:5:3: stage `p`: its inputs have no axis values in common");
        assert_eq!(hint.as_deref(), Some("compare the grids of the stages it uses"));
    }

    #[test]
    fn a_slot_that_takes_many_gathers_all_that_match_each_once_and_inherits_no_axis() {
        let plan =
            plan(&format!("{ENDS}  g: {{ gather: {{ all: [p, s@end=a, s@width=1] }} }}")).unwrap();
        let all =
            vec!["p@width=1", "p@width=2", "s@width=1,end=a", "s@width=2,end=a", "s@width=1,end=b"];
        assert_eq!(inputs(&plan, "g"), [("all", all)]);
    }

    #[test]
    fn a_slot_that_takes_many_gathers_what_has_the_value_of_a_nodes_own_axis() {
        let plan =
            plan(&format!("{ENDS}  g: {{ gather: {{ all: [p, s@width=1], width: [1, 2] }} }}"))
                .unwrap();
        let named = ["s@width=1,end=a", "s@width=1,end=b"];
        assert_eq!(inputs(&plan, "g@width=1"), [("all", vec!["p@width=1", named[0], named[1]])]);
        assert_eq!(inputs(&plan, "g@width=2"), [("all", vec!["p@width=2", named[0], named[1]])]);
        let (message, hint) =
            refusal(&format!("{ENDS}  g: {{ gather: {{ all: p, width: [1, 3] }} }}"));
        assert_eq!(message, "toy.yaml:5:23: stage `g`: no instance of `all: p` has `width=3`");
        assert!(hint.is_some_and(|hint| hint.ends_with("compare the grids, or name a value here")));
    }

    #[test]
    fn an_optional_input_may_be_absent_and_a_needed_one_may_not() {
        let with =
            plan("stages: { s: { source: { text: x } }, p: { pair: { left: s } } }").unwrap();
        assert_eq!(inputs(&with, "p"), [("left", vec!["s"])]);
        let (message, hint) =
            refusal("stages: { s: { source: { text: x } }, p: { pair: { right: s } } }");
        assert_eq!(message, "toy.yaml:1:44: stage `p`: the input `left` is missing");
        assert_eq!(hint.as_deref(), Some("write `left: s`"));
    }

    #[test]
    fn a_selector_may_name_any_parameter_by_value_defaults_included() {
        let plan = plan(ENDS).unwrap();
        let select = |target: &str| -> Vec<&str> {
            plan.select(target).unwrap().iter().map(|id| plan.node(*id).name.as_str()).collect()
        };
        assert_eq!(select("s@ratio=0,width=2"), ["s@width=2,end=a", "s@width=2,end=b"]);
        assert_eq!(select("s@style=plain,end=b,width=1"), ["s@width=1,end=b"]);
        assert_eq!(select("pair"), ["p@width=1", "p@width=2"], "a kind stands for all its stages");
        assert_eq!(select("p@width=1"), ["p@width=1"]);
    }

    #[test]
    fn a_pattern_stands_for_stages_for_values_and_for_whole_names() {
        let plan = plan(ENDS).unwrap();
        let select = |target: &str| -> Vec<&str> {
            plan.select(target).unwrap().iter().map(|id| plan.node(*id).name.as_str()).collect()
        };
        assert_eq!(select("s@*,end=b"), ["s@width=1,end=b", "s@width=2,end=b"]);
        assert_eq!(select("s@end=[a]"), ["s@width=1,end=a", "s@width=2,end=a"]);
        assert_eq!(select("*@width=2"), ["s@width=2,end=a", "s@width=2,end=b", "p@width=2"]);
        assert_eq!(select("pai?"), ["p@width=1", "p@width=2"], "kinds too");
        assert_eq!(select("*").len(), 6);
        let diagnostic = plan.select("x*").unwrap_err();
        assert_eq!(diagnostic.to_string(), "target: no node fits `x*`");
        assert!(diagnostic.hint.unwrap().ends_with("stages: `p`, `s`"));
        assert!(
            plan.select("s@[")
                .unwrap_err()
                .to_string()
                .starts_with("target: `s@[` is no pattern: ")
        );
    }

    #[test]
    fn a_value_may_hold_commas_and_signs_in_quotes_and_a_printed_name_is_always_a_target() {
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
    fn a_target_that_selects_nothing_says_what_there_is() {
        let plan = plan(ENDS).unwrap();
        let case = |target: &str, message: &str, hint: &str| {
            let diagnostic = plan.select(target).unwrap_err();
            assert_eq!(
                (diagnostic.to_string().as_str(), diagnostic.hint.as_deref()),
                (message, Some(hint))
            );
        };
        case("q", "target: nothing is called `q`", "known: `p`, `pair`, `s`, `source`");
        case("pare", "target: nothing is called `pare`", "did you mean `pair`?");
        case("p@width=3", "target: no node matches `p@width=3`", "did you mean `p@width=2`?");
        case(
            "p@width",
            "target: `width` in `p@width` is not `name=value`",
            "write `stage@name=value,name=value`",
        );
    }

    #[test]
    fn the_closure_of_a_target_is_what_it_hangs_on_and_that_of_nothing_is_everything() {
        let plan = plan(ENDS).unwrap();
        let closed: Vec<&str> = plan
            .closure(&[id(&plan, "p@width=2")])
            .iter()
            .map(|id| plan.node(*id).name.as_str())
            .collect();
        assert_eq!(closed, ["s@width=2,end=a", "s@width=2,end=b", "p@width=2"]);
        assert_eq!(plan.closure(&[]).len(), 6);
    }

    #[test]
    fn stages_may_stand_in_any_order_and_nodes_come_after_their_inputs() {
        let yaml = "
stages:
  g: { gather: { all: [p, s] } }
  p: { pair: { left: s } }
  s: { source: { text: x } }
";
        assert_eq!(names(yaml), ["s", "p", "g"]);
    }

    #[test]
    fn a_cycle_is_printed_from_stage_to_stage() {
        let yaml = "
stages:
  s: { source: { text: x } }
  a: { pair: { left: s, right: c } }
  b: { pair: { left: a } }
  c: { gather: { all: [s, b] } }
";
        let (message, hint) = refusal(yaml);
        assert_eq!(message, "toy.yaml:4:3: the stages go round in a circle: a -> c -> b -> a");
        assert_eq!(hint.as_deref(), Some("one of them must not use the next; `a` is the first"));
        let (message, _) = refusal("stages: { a: { pair: { left: a } } }");
        assert_eq!(message, "toy.yaml:1:11: the stages go round in a circle: a -> a");
    }

    #[test]
    fn what_cannot_be_resolved_is_refused_with_place_and_hint() {
        let case = |stages: &str, message: &str, hint: Option<&str>| {
            let (said, help) =
                refusal(&format!("stages:\n  s: {{ source: {{ text: x }} }}\n{stages}"));
            assert_eq!((said.as_str(), help.as_deref()), (message, hint));
        };
        case(
            "  p: { pear: { left: s } }",
            "toy.yaml:3:8: stage `p`: unknown stage kind `pear`",
            Some("did you mean `pair`?"),
        );
        case(
            "  p: { pair: { left: t } }",
            "toy.yaml:3:22: stage `p`: `left` names no stage: `t`",
            Some("known: `p`, `s`"),
        );
        case(
            "  p: { pair: { left: s@width=2 } }",
            "toy.yaml:3:22: stage `p`: no instance matches `left: s@width=2`",
            Some("known: `s`"),
        );
        case(
            "  p: { pair: { left: [s, s] } }",
            "toy.yaml:3:22: stage `p`: `left` must name a stage, not a list",
            Some("write `left: STAGE`, or `left: STAGE@axis=value` for some of its instances"),
        );
        case(
            "  g: { gather: { all: [] } }",
            "toy.yaml:3:23: stage `g`: `all` is an empty list",
            Some("name one stage at least"),
        );
        case(
            "  p: { pair: { left: s, rihgt: s } }",
            "toy.yaml:3:25: stage `p`: unknown field `rihgt`",
            Some("did you mean `right`?"),
        );
        case(
            "  t: { source: { text: x, width: 0 } }",
            "toy.yaml:3:3: stage `t`: `width` must not be zero",
            Some("write a number above zero"),
        );
        case(
            "  t: { source: { text: x, style: { framed: { by: [] } } } }",
            "toy.yaml:3:34: stage `t`: the grid `style` is empty",
            Some("list one value at least"),
        );
        case(
            "  t: { source: { text: x, width: [1, 2, 1] } }",
            "toy.yaml:3:41: stage `t`: `width` lists the value `1` twice",
            Some("remove one"),
        );
        case(
            "  t: { source: { text: x, width: [[50, 50]] } }",
            "toy.yaml:3:40: stage `t`: `width` lists the value `50` twice",
            Some(
                "remove one; a list in a list is more values of the same list, not a value of its own",
            ),
        );
        case(
            "  t: { source: { text: x, width: [1, 2] } }\n  p: { pair: { left: t, width: [1, 2] } }",
            "toy.yaml:4:25: stage `p`: the axis `width` comes from its inputs already",
            Some("give one value, not a list"),
        );
    }

    #[test]
    fn a_grid_of_a_thousand_million_nodes_is_refused_before_it_is_made() {
        let thousand = (1..=1000).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (message, hint) = refusal(&format!(
            "stages: {{ s: {{ source: {{ text: x, width: [{thousand}], ratio: [{thousand}], note: [{thousand}] }} }} }}"
        ));
        assert!(message.ends_with("stage `s` expands to more than 200000 nodes"), "{message}");
        assert_eq!(hint.as_deref(), Some("shorten its lists"));
    }

    #[test]
    fn the_nodes_of_all_stages_count_together() {
        let list = |n: u32| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (width, ratio) = (list(400), list(500));
        let (message, _) = refusal(&format!(
            "stages:\n  s: {{ source: {{ text: x }} }}\n  t: {{ source: {{ text: x, width: [{width}], ratio: [{ratio}] }} }}"
        ));
        assert!(
            message
                .contains("stage `t` expands to 200000 nodes; with those before it that is more"),
            "{message}"
        );
    }

    #[test]
    fn a_join_of_too_many_nodes_is_refused_before_it_is_made() {
        let many = (1..=1001).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (message, _) = refusal(&format!(
            "stages:\n  s: {{ source: {{ text: x, width: [{many}] }} }}\n  t: {{ source: {{ text: x, ratio: [{many}] }} }}
  p: {{ pair: {{ left: s, right: t }} }}"
        ));
        assert_eq!(message, "toy.yaml:4:3: stage `p` expands to more than 200000 nodes");
    }

    #[test]
    fn a_chain_of_ten_thousand_stages_does_not_overflow_the_stack() {
        let links =
            (1..10_000).rev().map(|i| format!("  s{i}: {{ pair: {{ left: s{} }} }}\n", i - 1));
        let yaml =
            format!("stages:\n{}  s0: {{ source: {{ text: x }} }}\n", links.collect::<String>());
        assert_eq!(plan(&yaml).unwrap().nodes.len(), 10_000);
    }

    #[test]
    fn the_order_in_a_slot_that_takes_many_is_not_in_the_key() {
        let key = |all: &str| {
            let yaml = format!(
                "stages:\n  s: {{ source: {{ text: [x, v] }} }}\n  g: {{ gather: {{ all: {all} }} }}"
            );
            recipe(&plan(&yaml).unwrap(), "g").key()
        };
        assert_eq!(key("[s@text=x, s@text=v]"), key("[s@text=v, s@text=x]"));
        assert_eq!(key("[s@text=x, s@text=v]"), key("s"));
        assert_ne!(key("s@text=x"), key("s"));
    }

    #[test]
    fn names_of_stages_and_values_at_their_defaults_are_not_in_the_key() {
        let key = |name: &str, fields: &str| {
            let yaml = format!("stages: {{ {name}: {{ source: {{ text: x{fields} }} }} }}");
            recipe(&plan(&yaml).unwrap(), name).key()
        };
        let plain = key("s", "");
        assert_eq!(key("other", ""), plain);
        assert_eq!(key("s", ", width: 1, end: a, style: plain, ratio: 0, note: null"), plain);
        assert_eq!(key("s", ", otherwise: v"), plain, "the fallback is another question");
        assert_ne!(key("s", ", width: 2"), plain);
    }

    #[test]
    fn the_seed_is_in_the_key_of_what_draws_and_in_no_other() {
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
    fn a_recipe_holds_only_the_files_its_slots_take() {
        let plan = plan(
            "stages: { s: { source: { text: x } }, g: { gather: { all: s } }, p: { pair: { left: g } } }",
        );
        let plan = plan.unwrap();
        let mut artifacts = artifacts(&plan);
        let count = |n: &[u8]| Some(("count".to_owned(), Digest::of(n).into()));
        let p = id(&plan, "p");
        artifacts[1].extend(count(b"1"));
        let before = plan.recipe(p, false, |up| &artifacts[up.0]).unwrap();
        artifacts[1].extend(count(b"2"));
        assert_eq!(plan.recipe(p, false, |up| &artifacts[up.0]).unwrap(), before);
        assert_eq!(before.inputs["left"][0].keys().collect::<Vec<_>>(), ["text"]);
    }
}
