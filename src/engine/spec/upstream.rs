//! The description of everything upstream of a node, for kinds that embed it.

use super::expand::{PARAMS, Selection};
use super::plan::Plan;
use super::reference::{NodeId, PlanNode};
use crate::engine::key::{Artifact, Params, root};
use crate::engine::stage::{GATHERED, IN_NO_KEY, NamedInput, StageOutline, Upstream};
use serde_json::Value as Json;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

impl Plan {
    /// The description of everything upstream of a node. `fell_back` returns whether an upstream
    /// node uses its fallback, and `artifact` returns the artifacts of upstream nodes.
    pub(super) fn upstream<'a>(
        &self,
        id: NodeId,
        fell_back: impl Fn(NodeId) -> bool,
        artifact: impl Fn(NodeId) -> &'a Artifact,
    ) -> Upstream {
        let mut outlines: BTreeMap<&str, Outline> = BTreeMap::new();
        let mut depths: HashMap<NodeId, usize> = HashMap::new();
        for up in self.closure(&[id]).into_iter().filter(|up| *up != id) {
            let node = self.node(up);
            let inputs = node.inputs.iter().flat_map(|(_, nodes)| nodes);
            let depth = inputs.map(|input| depths[input] + 1).max().unwrap_or_default();
            depths.insert(up, depth);
            let outline = outlines.entry(&node.stage).or_insert_with(|| Outline::new(node));
            outline.depth = outline.depth.max(depth);
            outline.add(self, node, fell_back(up));
        }
        let mut outlines: Vec<Outline> = outlines.into_values().collect();
        // Stable, so that stages of equal depth stay sorted by name.
        outlines.sort_by_key(|outline| outline.depth);
        let node = self.node(id);
        let mut inputs = Vec::new();
        for (slot, sources) in &node.inputs {
            inputs.extend(sources.iter().map(|source| NamedInput {
                slot: plain(slot).to_owned(),
                node: self.node(*source).name.clone(),
                artifact: root([&node.in_slot(slot, artifact(*source))]),
            }));
        }
        inputs.sort_by(|a, b| (&a.slot, &a.node).cmp(&(&b.slot, &b.node)));
        let finish = |outline: Outline| {
            let selection = self.selections.get(&outline.node.stage).cloned();
            outline.finish(selection.unwrap_or_default())
        };
        Upstream { stages: outlines.into_iter().map(finish).collect(), inputs }
    }
}

/// The name of a slot in the pipeline file.
fn plain(slot: &str) -> &str {
    slot.strip_suffix(GATHERED).unwrap_or(slot)
}

/// The outline of a stage, so far.
struct Outline<'p> {
    node: &'p PlanNode,
    version: u32,
    nodes: usize,
    /// The longest path to a node of the stage, in nodes.
    depth: usize,
    params: BTreeMap<String, HashSet<&'p Json>>,
    inputs: BTreeMap<&'p str, BTreeSet<&'p str>>,
    /// The parameters that were added, by address. Nodes that differ only in their inputs share
    /// them.
    added: HashSet<*const Params>,
}

impl<'p> Outline<'p> {
    fn new(node: &'p PlanNode) -> Outline<'p> {
        Outline {
            node,
            version: 0,
            nodes: 0,
            depth: 0,
            params: BTreeMap::new(),
            inputs: BTreeMap::new(),
            added: HashSet::new(),
        }
    }

    fn add(&mut self, plan: &'p Plan, node: &'p PlanNode, fell_back: bool) {
        self.nodes += 1;
        for (slot, sources) in &node.inputs {
            let stages = self.inputs.entry(plain(slot)).or_default();
            stages.extend(sources.iter().map(|source| plan.node(*source).stage.as_str()));
        }
        let resolved = &node.resolved;
        let fallback = resolved.fallback.as_ref().filter(|_| fell_back);
        let params = fallback.unwrap_or(&resolved.full);
        if !self.added.insert(params) {
            return;
        }
        // A fallback of another version has the same kind and stage; the later version is shown.
        let version = fallback.and_then(|params| node.kind.version_of(params).ok());
        self.version = self.version.max(version.unwrap_or(resolved.version));
        for (name, value) in params.iter().filter(|(name, _)| !IN_NO_KEY.contains(&&***name)) {
            match value {
                Json::Object(own) if node.kind.is_open() && name == PARAMS => {
                    own.iter().for_each(|(own, value)| self.value(format!("{name}.{own}"), value));
                }
                value => self.value(name.clone(), value),
            }
        }
    }

    fn value(&mut self, name: String, value: &'p Json) {
        let is_empty = match value {
            Json::Null => true,
            Json::String(text) => text.is_empty(),
            Json::Array(items) => items.is_empty(),
            Json::Object(map) => map.is_empty(),
            _ => false,
        };
        if !is_empty {
            self.params.entry(name).or_default().insert(value);
        }
    }

    fn finish(self, selection: Selection) -> StageOutline {
        let sorted = |values: HashSet<&Json>| {
            let mut values: Vec<Json> = values.into_iter().cloned().collect();
            values.sort_by(order);
            values
        };
        let names = |stages: BTreeSet<&str>| stages.into_iter().map(str::to_owned).collect();
        StageOutline {
            name: self.node.stage.clone(),
            kind: self.node.kind.name().to_owned(),
            version: self.version,
            nodes: self.nodes,
            params: self.params.into_iter().map(|(name, all)| (name, sorted(all))).collect(),
            inputs: self
                .inputs
                .into_iter()
                .map(|(slot, stages)| (slot.to_owned(), names(stages)))
                .collect(),
            renamed: selection.renamed,
            conditions: selection.conditions,
        }
    }
}

/// Numbers by value, then all other values by their text.
fn order(a: &Json, b: &Json) -> Ordering {
    let key = |value: &Json| value.as_f64().unwrap_or(f64::INFINITY);
    key(a).total_cmp(&key(b)).then_with(|| a.to_string().cmp(&b.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::key::{Digest, Recipe};
    use crate::engine::spec::pipeline::Pipeline;
    use crate::engine::stage::{Arity, Context, Kind, KindOf, Slot, Stage, UPSTREAM};
    use crate::engine::testing::{self, id};
    use anyhow::Result;
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;
    use std::time::{Duration, Instant};

    struct Summary;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct NoParams {}

    impl Stage for Summary {
        const NAME: &'static str = "summary";
        const VERSION: u32 = 1;
        const SLOTS: &'static [Slot] =
            &[Slot { name: "all", arity: Arity::Many, files: &["text"] }];
        const OUTPUTS: &'static [&'static str] = &["text"];
        const EMBEDS_ROOT: bool = true;
        type Params = NoParams;

        fn run(_: NoParams, _: &Context) -> Result<()> {
            Ok(())
        }
    }

    const PIPELINE: &str = "
stages:
  s: { source: { text: x, width: [10, 9], style: { framed: { by: [2, 1] } } } }
  t: { source: { text: x, otherwise: v } }
  p: { pair: { left: s, right: t } }
  g: { gather: { all: [p, t] } }
  r: { summary: { all: [t, g] } }
  other: { source: { text: unrelated } }
";

    fn plan(yaml: &str) -> Plan {
        let kinds: Vec<&'static dyn Kind> =
            testing::KINDS.iter().copied().chain([&KindOf::<Summary>::KIND as _]).collect();
        Plan::new(&Pipeline::parse("test.yaml", yaml).unwrap(), &kinds).unwrap()
    }

    fn recipe(plan: &Plan, fell_back: impl Fn(NodeId) -> bool) -> Recipe {
        let of = |node: &PlanNode| {
            ["text", "count"].map(|file| {
                let digest = Digest::of(format!("{file} of {}", node.name).as_bytes());
                (file.to_owned(), digest.into())
            })
        };
        let artifacts: Vec<Artifact> = plan.nodes.iter().map(|node| of(node).into()).collect();
        plan.recipe(id(plan, "r"), fell_back, |up| &artifacts[up.0]).unwrap()
    }

    fn upstream(recipe: &Recipe) -> Upstream {
        Upstream::deserialize(&recipe.params[UPSTREAM]).unwrap()
    }

    #[test]
    fn the_description_lists_stages_with_their_values_and_the_inputs_with_their_roots() {
        let recipe = recipe(&plan(PIPELINE), |_| false);
        let Upstream { stages, inputs } = upstream(&recipe);
        let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["s", "t", "p", "g"], "neither unrelated stages nor the node itself");
        let s = json!({
            "name": "s",
            "kind": "source",
            "version": 1,
            "nodes": 4,
            "params": {
                "end": ["a"],
                "ratio": [0.0],
                "style": [
                    {"framed": {"by": 1, "round": false}},
                    {"framed": {"by": 2, "round": false}},
                ],
                "text": ["x"],
                "width": [9, 10],
            },
            "inputs": {},
        });
        assert_eq!(json!(stages[0]), s);
        assert_eq!(json!(stages[2].inputs), json!({"left": ["s"], "right": ["t"]}));
        assert_eq!(json!(stages[3].inputs), json!({"all": ["p", "t"]}));
        let named: Vec<[&str; 2]> =
            inputs.iter().map(|input| [&*input.slot, &*input.node]).collect();
        assert_eq!(named, [["all", "g"], ["all", "t"]]);
        let roots = recipe.inputs["all"].iter().map(|artifact| root([artifact]));
        let roots: BTreeSet<Digest> = roots.collect();
        assert_eq!(roots, inputs.iter().map(|input| input.artifact).collect());
    }

    #[test]
    fn the_order_in_the_pipeline_file_does_not_matter() {
        let other = PIPELINE.replace("[10, 9]", "[9, 10]").replace("[t, g]", "[g, t]");
        let mut lines: Vec<&str> = other.trim().lines().collect();
        lines[1..].reverse();
        let keys = [PIPELINE, &lines.join("\n")].map(|yaml| recipe(&plan(yaml), |_| false).key());
        assert_eq!(keys[0], keys[1]);
        let renamed = PIPELINE.replace("  g:", "  h:").replace("[t, g]", "[t, h]");
        let renamed = recipe(&plan(&renamed), |_| false);
        assert_ne!(renamed.key(), keys[0], "the description contains names");
    }

    const PAIRS: &str = "
stages:
  s: { source: { text: x, width: [1, 2, 3] } }
  p: { pair: { left: { stage: s, rename: { width: a } },
      right: { stage: s, rename: { width: b } },
      where: [a < b, { leave-out: [{ b: 3, a: [2, 1] }, { a: 3 }] }] } }
  r: { summary: { all: p } }
";

    #[test]
    fn the_description_has_the_renamed_inputs_and_the_conditions() {
        let Upstream { stages, inputs } = upstream(&recipe(&plan(PAIRS), |_| false));
        let renamed = json!({
            "left": [{ "stage": "s", "rename": { "width": "a" } }],
            "right": [{ "stage": "s", "rename": { "width": "b" } }],
        });
        assert_eq!(json!(stages[1].renamed), renamed);
        let conditions =
            json!(["a < b", { "leave-out": [{ "a": ["1", "2"], "b": ["3"] }, { "a": ["3"] }] }]);
        assert_eq!(json!(stages[1])["where"], conditions);
        assert_eq!([stages[0].nodes, stages[1].nodes], [2, 1]);
        let nodes: Vec<&str> = inputs.iter().map(|input| &*input.node).collect();
        assert_eq!(nodes, ["p@a=1,b=2"]);
    }

    #[test]
    fn the_order_of_conditions_and_combinations_does_not_matter() {
        let other = PAIRS.replace(
            "[a < b, { leave-out: [{ b: 3, a: [2, 1] }, { a: 3 }] }]",
            "[{ leave-out: [{ a: [3] }, { a: [1, 2], b: 3 }] }, 'a<b']",
        );
        assert_ne!(other, PAIRS);
        let keys = [PAIRS, &other].map(|yaml| recipe(&plan(yaml), |_| false).key());
        assert_eq!(keys[0], keys[1]);
    }

    #[test]
    fn a_fallback_is_described_by_its_own_parameters() {
        let plan = plan(PIPELINE);
        let t = id(&plan, "t");
        let of = |fell_back: bool| upstream(&recipe(&plan, |id| fell_back && id == t));
        assert_eq!(of(false).stages[1].params["text"], [json!("x")]);
        assert_eq!(json!(of(true).stages[1].params), json!({"text": ["v"]}));
        assert_eq!(of(true).stages[0], of(false).stages[0]);
    }

    #[test]
    fn ten_thousand_nodes_have_a_description_of_a_few_kilobytes() {
        let widths: Vec<String> = (1..=5000).map(|width| width.to_string()).collect();
        let yaml = format!(
            "stages:\n  s: {{ source: {{ text: x, width: [{}] }} }}\n  \
             p: {{ pair: {{ left: s }} }}\n  r: {{ summary: {{ all: p }} }}\n",
            widths.join(", ")
        );
        let plan = plan(&yaml);
        let artifact = Artifact::from([("text".to_owned(), Digest::of(b"x").into())]);
        let began = Instant::now();
        let found = plan.upstream(id(&plan, "r"), |_| false, |_| &artifact);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let bytes = json!(found.stages).to_string().len();
        assert!(bytes < 30_000, "{bytes} bytes, of which the values are 24 kB");
    }
}
