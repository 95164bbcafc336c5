//! The pipeline as meant: grids expanded, references joined, nodes in an order in which inputs come first.
//!
//! A list where a parameter is expected is a grid axis. A reference `nets` or `nets@end=a` in a slot that takes one
//! artifact stands for each matching instance; the axes it leaves open are inherited, and axes of the same name from
//! several slots must agree (a natural join), so that a net is matched with the net of its own width, prior and pair. A
//! slot that takes many gathers all matching instances and inherits nothing.
//!
//! Knows no files and no cache: what is up to date is for the scheduler to find out.

use super::error::Fault;
use super::key::{Artifact, Recipe, Seed};
use super::pipeline::{Pipeline, StageDecl};
use super::stage::{Arity, Kind, Question, Slot, belongs};
use super::value::{Entry, Misfit, Node, Place, Value, suggest};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// More nodes than this are taken for a mistake.
pub const MAX_NODES: usize = 1_000_000;

/// Index of a node in [`Plan::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Every node that the pipeline asks for.
#[derive(Clone)]
pub struct Plan {
    /// Inputs before those that use them.
    pub nodes: Vec<PlanNode>,
    seed: String,
}

/// One question, still without its inputs' digests.
#[derive(Clone)]
pub struct PlanNode {
    /// `stage@axis=value,...`.
    pub name: String,
    /// The stage's name.
    pub stage: String,
    /// What computes it.
    pub kind: &'static dyn Kind,
    /// Parameters and what follows from them.
    pub question: Question,
    /// By slot: the nodes that fill it.
    pub inputs: BTreeMap<&'static str, Vec<NodeId>>,
    axes: Vec<(String, String)>,
}

impl PlanNode {
    /// The nodes it uses, each once.
    pub fn upstream(&self) -> BTreeSet<NodeId> {
        self.inputs.values().flatten().copied().collect()
    }
}

impl Plan {
    /// Resolves `pipeline`, whose profile has been applied, over `kinds`.
    pub fn new(pipeline: &Pipeline, kinds: &[&'static dyn Kind]) -> Result<Plan, Fault> {
        let mut builder = Builder { pipeline, kinds, nodes: Vec::new(), instances: HashMap::new() };
        let kinds = builder.kinds(kinds)?;
        for i in builder.order(&kinds)? {
            builder.expand(&pipeline.stages[i], kinds[i])?;
        }
        Ok(Plan { nodes: builder.nodes, seed: pipeline.seed.clone() })
    }

    /// The node at `id`.
    pub fn node(&self, id: NodeId) -> &PlanNode {
        &self.nodes[id.0]
    }

    /// All ids, inputs first.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// The recipe of a node, given what fills its slots; with `fallen_back`, that of its fallback.
    pub fn recipe<'a>(&self, id: NodeId, fallen_back: bool, artifact: impl Fn(NodeId) -> &'a Artifact) -> Recipe {
        let node = self.node(id);
        let Question { params, label, fallback, fallback_label, .. } = &node.question;
        let (params, label) = match fallback {
            Some(fallback) if fallen_back => (fallback, fallback_label),
            _ => (params, label),
        };
        let mut inputs = BTreeMap::new();
        for slot in node.kind.slots() {
            let Some(sources) = node.inputs.get(slot.name) else { continue };
            let taken = |id: &NodeId| {
                let all = artifact(*id);
                let wanted = |file: &str| slot.files.iter().any(|declared| belongs(file, declared));
                all.iter().filter(|(file, _)| wanted(file)).map(|(file, digest)| (file.clone(), *digest)).collect()
            };
            let mut artifacts: Vec<Artifact> = sources.iter().map(taken).collect();
            artifacts.sort_unstable();
            inputs.insert(slot.name.to_owned(), artifacts);
        }
        Recipe {
            kind: node.kind.name().to_owned(),
            version: node.kind.version(),
            params: params.clone(),
            inputs,
            seed: label.clone().map(|label| Seed { run: self.seed.clone(), label }),
        }
    }

    /// The nodes that `target` names: a stage, an instance, a stage or a kind with some values (`nets@prior=none`).
    pub fn select(&self, target: &str) -> Result<Vec<NodeId>, Fault> {
        let fault = |message: String, hint| Fault { source: "target".into(), place: None, message, hint };
        let wanted = Reference::parse(target).map_err(|misfit| fault(misfit.message, misfit.hint))?;
        let is_stage = self.nodes.iter().any(|n| n.stage == wanted.stage);
        let of_stage: Vec<NodeId> = self
            .ids()
            .filter(|id| {
                let node = self.node(*id);
                if is_stage { node.stage == wanted.stage } else { node.kind.name() == wanted.stage }
            })
            .collect();
        if of_stage.is_empty() {
            let known: BTreeSet<&str> = self.nodes.iter().flat_map(|n| [n.stage.as_str(), n.kind.name()]).collect();
            return Err(fault(format!("nothing is called `{}`", wanted.stage), suggest(&wanted.stage, known)));
        }
        let found: Vec<NodeId> = of_stage.iter().copied().filter(|id| wanted.matches(self.node(*id))).collect();
        if found.is_empty() {
            let names: Vec<&str> = of_stage.iter().map(|id| self.node(*id).name.as_str()).collect();
            return Err(fault(format!("no node matches `{target}`"), suggest(target, names)));
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

/// `stage` or `stage@name=value,...`.
struct Reference {
    stage: String,
    values: Vec<(String, String)>,
}

impl Reference {
    fn parse(text: &str) -> Result<Reference, Misfit> {
        let (stage, rest) = text.split_once('@').unwrap_or((text, ""));
        let mut values = Vec::new();
        for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
            let refuse = || {
                let hint = "write `stage@name=value,name=value`".to_owned();
                Misfit::at(None, format!("`{pair}` in `{text}` is not `name=value`"), Some(hint))
            };
            let (name, value) = pair.split_once('=').ok_or_else(refuse)?;
            values.push((name.to_owned(), value.to_owned()));
        }
        Ok(Reference { stage: stage.to_owned(), values })
    }

    fn fixes(&self, axis: &str) -> bool {
        self.values.iter().any(|(name, _)| name == axis)
    }

    /// Whether a node of the right stage has the values.
    fn matches(&self, node: &PlanNode) -> bool {
        self.values.iter().all(|(name, value)| {
            let axis = node.axes.iter().find(|(axis, _)| axis == name).map(|(_, v)| v.clone());
            axis.or_else(|| node.question.full.get(name).map(render)).is_some_and(|v| v == *value)
        })
    }
}

struct Builder<'p> {
    pipeline: &'p Pipeline,
    kinds: &'p [&'static dyn Kind],
    nodes: Vec<PlanNode>,
    instances: HashMap<&'p str, Vec<NodeId>>,
}

/// A partly joined instance: axis values so far, and the nodes in its slots.
#[derive(Clone, Default)]
struct Joined {
    axes: Vec<(String, String)>,
    inputs: BTreeMap<&'static str, Vec<NodeId>>,
}

impl<'p> Builder<'p> {
    fn fault(&self, place: Option<Place>, message: String, hint: Option<String>) -> Fault {
        Fault { source: self.pipeline.source.clone(), place, message, hint }
    }

    fn misfit(&self, stage: &StageDecl, misfit: &Misfit) -> Fault {
        let fault = Fault::of(&self.pipeline.source, &format!("stage `{}`", stage.name), misfit);
        Fault { place: fault.place.or(stage.place), ..fault }
    }

    fn kinds(&self, kinds: &[&'static dyn Kind]) -> Result<Vec<&'static dyn Kind>, Fault> {
        let find = |stage: &StageDecl| {
            kinds.iter().copied().find(|k| k.name() == stage.kind).ok_or_else(|| {
                let message = format!("stage `{}`: unknown stage kind `{}`", stage.name, stage.kind);
                self.fault(stage.kind_place, message, suggest(&stage.kind, kinds.iter().map(|k| k.name())))
            })
        };
        self.pipeline.stages.iter().map(find).collect()
    }

    /// Stages in an order in which those referred to come first; refuses cycles and unknown names.
    fn order(&self, kinds: &[&'static dyn Kind]) -> Result<Vec<usize>, Fault> {
        let stages = &self.pipeline.stages;
        let index: HashMap<&str, usize> = stages.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
        let mut uses: Vec<Vec<usize>> = Vec::new();
        for (stage, kind) in stages.iter().zip(kinds) {
            let mut used = Vec::new();
            for slot in kind.slots() {
                for (text, place) in self.references(stage, slot)? {
                    let name = Reference::parse(text).map_err(|m| self.misfit(stage, &m))?.stage;
                    let Some(&target) = index.get(name.as_str()) else {
                        let message = format!("stage `{}`: `{}` names no stage: `{name}`", stage.name, slot.name);
                        return Err(self.fault(
                            place,
                            message,
                            suggest(&name, index.keys().copied().collect::<BTreeSet<_>>()),
                        ));
                    };
                    used.push(target);
                }
            }
            uses.push(used);
        }
        let mut walk =
            Walk { uses: &uses, state: vec![Visit::Unseen; stages.len()], order: Vec::new(), path: Vec::new() };
        for i in 0..stages.len() {
            if let Err(cycle) = walk.visit(i) {
                let names: Vec<&str> = cycle.iter().map(|&i| stages[i].name.as_str()).collect();
                let message = format!("the stages go round in a circle: {}", names.join(" -> "));
                let hint = Some(format!("one of them must not use the next; `{}` is the first", names[0]));
                return Err(self.fault(stages[cycle[0]].place, message, hint));
            }
        }
        Ok(walk.order)
    }

    /// For a hint: the other stages whose outputs fit into `slot` of `user`.
    fn makers(&self, user: &StageDecl, slot: &Slot) -> String {
        let fits = |kind: &&dyn Kind| slot.files.iter().all(|file| kind.outputs().contains(file));
        let kind_of = |stage: &StageDecl| self.kinds.iter().copied().find(|kind| kind.name() == stage.kind);
        let others = self.pipeline.stages.iter().filter(|stage| stage.name != user.name);
        let fitting = others.filter(|stage| kind_of(stage).is_some_and(|kind| fits(&kind)));
        let names: Vec<String> = fitting.map(|stage| format!("`{}`", stage.name)).collect();
        if let [only] = &names[..] {
            return format!("write `{}: {}`", slot.name, only.trim_matches('`'));
        }
        if !names.is_empty() {
            return format!("write `{}: STAGE`, with one of {}", slot.name, names.join(", "));
        }
        let kinds: Vec<String> =
            self.kinds.iter().filter(|kind| fits(kind)).map(|k| format!("`{}`", k.name())).collect();
        format!("it takes a stage of kind {}, and there is none", kinds.join(" or "))
    }

    /// The references written in a slot, with their places.
    fn references(&self, stage: &'p StageDecl, slot: &Slot) -> Result<Vec<(&'p str, Option<Place>)>, Fault> {
        let name = slot.name;
        let Some(field) = stage.fields.iter().find(|f| f.key == name) else {
            if slot.arity == Arity::Optional {
                return Ok(Vec::new());
            }
            let message = format!("stage `{}`: the input `{name}` is missing", stage.name);
            return Err(self.fault(stage.kind_place, message, Some(self.makers(stage, slot))));
        };
        let text = |node: &'p Node| {
            node.as_text().map(|text| (text, node.place)).ok_or_else(|| {
                let message = format!("stage `{}`: `{name}` must name a stage, not {}", stage.name, node.kind());
                let hint = format!("write `{name}: STAGE`, or `{name}: STAGE@axis=value` for some of its instances");
                self.fault(node.place, message, Some(hint))
            })
        };
        match &field.value.value {
            Value::List(items) if slot.arity == Arity::Many && !items.is_empty() => items.iter().map(text).collect(),
            Value::List(items) if items.is_empty() => {
                let message = format!("stage `{}`: `{name}` is an empty list", stage.name);
                Err(self.fault(field.value.place, message, Some("name one stage at least".into())))
            }
            _ => Ok(vec![text(&field.value)?]),
        }
    }

    /// Makes the instances of one stage.
    fn expand(&mut self, stage: &'p StageDecl, kind: &'static dyn Kind) -> Result<(), Fault> {
        let mut joined = vec![Joined::default()];
        for slot in kind.slots() {
            joined = self.join(stage, slot, joined)?;
        }
        let (axes, count) = self.axes(stage, kind, joined.len())?;
        if self.nodes.len() + count > MAX_NODES {
            let message = format!(
                "stage `{}` expands to {count} nodes; with those before it that is more than {MAX_NODES}",
                stage.name
            );
            return Err(self.fault(stage.place, message, Some("shorten its lists".into())));
        }
        let first = self.nodes.len();
        let mut names = HashSet::new();
        for joined in &joined {
            for combination in combinations(&axes) {
                let node = self.instance(stage, kind, joined, &combination)?;
                if !names.insert(node.name.clone()) {
                    let message = format!("stage `{}`: two nodes are called `{}`", stage.name, node.name);
                    let hint = "a list has this value twice; remove one";
                    return Err(self.fault(repeated(&axes).or(stage.place), message, Some(hint.into())));
                }
                self.nodes.push(node);
            }
        }
        self.instances.insert(&stage.name, (first..self.nodes.len()).map(NodeId).collect());
        Ok(())
    }

    fn join(&self, stage: &'p StageDecl, slot: &Slot, joined: Vec<Joined>) -> Result<Vec<Joined>, Fault> {
        let references = self.references(stage, slot)?;
        let (mut candidates, mut taken) = (Vec::new(), HashSet::new());
        let mut fixed = Vec::new();
        for (text, place) in &references {
            let reference = Reference::parse(text).map_err(|m| self.misfit(stage, &m))?;
            let instances = &self.instances[reference.stage.as_str()];
            let found: Vec<NodeId> =
                instances.iter().copied().filter(|id| reference.matches(&self.nodes[id.0])).collect();
            if found.is_empty() {
                let message = format!("stage `{}`: no instance matches `{}: {text}`", stage.name, slot.name);
                let names = instances.iter().map(|id| self.nodes[id.0].name.as_str());
                return Err(self.fault(*place, message, suggest(text, names)));
            }
            let made = self.nodes[found[0].0].kind.outputs();
            if let Some(missing) = slot.files.iter().find(|file| !made.contains(file)) {
                let message = format!(
                    "stage `{}`: `{}` takes `{missing}`, which `{}` does not make",
                    stage.name, slot.name, reference.stage
                );
                return Err(self.fault(*place, message, Some(self.makers(stage, slot))));
            }
            // A set: references may overlap.
            candidates.extend(found.into_iter().filter(|id| taken.insert(*id)));
            fixed.push(reference);
        }
        if candidates.is_empty() {
            return Ok(joined);
        }
        if slot.arity == Arity::Many {
            let fill = |mut j: Joined| {
                j.inputs.insert(slot.name, candidates.clone());
                j
            };
            return Ok(joined.into_iter().map(fill).collect());
        }
        let open = |id: &NodeId| -> Vec<(String, String)> {
            self.nodes[id.0].axes.iter().filter(|(axis, _)| !fixed[0].fixes(axis)).cloned().collect()
        };
        // All candidates of a slot have the same axes, and so have all partial joins: index by the axes they share.
        let known: HashSet<String> = joined[0].axes.iter().map(|(axis, _)| axis.clone()).collect();
        let shared = |axes: &[(String, String)], other: &HashSet<String>| -> BTreeMap<String, String> {
            axes.iter().filter(|(axis, _)| other.contains(axis)).cloned().collect()
        };
        let theirs: HashSet<String> = open(&candidates[0]).into_iter().map(|(axis, _)| axis).collect();
        let mut index: HashMap<BTreeMap<String, String>, Vec<NodeId>> = HashMap::new();
        for id in &candidates {
            index.entry(shared(&open(id), &known)).or_default().push(*id);
        }
        let partners = |partial: &Joined| index.get(&shared(&partial.axes, &theirs)).map_or(&[][..], Vec::as_slice);
        if joined.iter().map(|partial| partners(partial).len()).sum::<usize>() > MAX_NODES {
            return Err(self.too_many(stage, stage.place));
        }
        let mut out = Vec::new();
        for partial in &joined {
            for id in partners(partial) {
                let mut next = partial.clone();
                next.axes.extend(open(id).into_iter().filter(|(axis, _)| !known.contains(axis)));
                next.inputs.insert(slot.name, vec![*id]);
                out.push(next);
            }
        }
        if out.is_empty() {
            let message = format!("stage `{}`: its inputs have no axis values in common", stage.name);
            return Err(self.fault(stage.place, message, Some("compare the grids of the stages it uses".into())));
        }
        Ok(out)
    }

    fn too_many(&self, stage: &StageDecl, place: Option<Place>) -> Fault {
        let message = format!("stage `{}` expands to more than {MAX_NODES} nodes", stage.name);
        self.fault(place, message, Some("shorten its lists".into()))
    }

    /// The parameter fields with the values each can take, and the number of nodes that makes.
    #[expect(clippy::type_complexity, reason = "fields and their values, used once, just below")]
    fn axes(
        &self,
        stage: &'p StageDecl,
        kind: &'static dyn Kind,
        joined: usize,
    ) -> Result<(Vec<(&'p Entry, Vec<Node>)>, usize), Fault> {
        let is_slot = |field: &&Entry| kind.slots().iter().any(|slot| slot.name == field.key);
        let mut axes = Vec::new();
        let mut count = joined;
        for field in stage.fields.iter().filter(|f| !is_slot(f)) {
            count = width(&field.value)
                .and_then(|n| count.checked_mul(n))
                .filter(|&n| n <= MAX_NODES)
                .ok_or_else(|| self.too_many(stage, field.place))?;
            if count == 0 {
                let message = format!("stage `{}`: the grid `{}` is empty", stage.name, field.key);
                return Err(self.fault(field.value.place, message, Some("list one value at least".into())));
            }
            axes.push((field, alternatives(&field.value)));
        }
        Ok((axes, count))
    }

    fn instance(
        &self,
        stage: &StageDecl,
        kind: &'static dyn Kind,
        joined: &Joined,
        combination: &[(&Entry, &Node)],
    ) -> Result<PlanNode, Fault> {
        let mut axes = joined.axes.clone();
        let mut fields = Vec::new();
        for (field, value) in combination {
            fields.push(Entry { value: (*value).clone(), ..(*field).clone() });
            if is_grid(&field.value) {
                if axes.iter().any(|(axis, _)| *axis == field.key) {
                    let message =
                        format!("stage `{}`: the axis `{}` comes from its inputs already", stage.name, field.key);
                    return Err(self.fault(field.place, message, Some("give one value, not a list".into())));
                }
                axes.push((field.key.clone(), render(&value.to_json())));
            }
        }
        let fields = Node { place: stage.kind_place, value: Value::Map(fields) };
        let question = kind.resolve(&fields).map_err(|mut misfit| {
            let slots = kind.slots().iter().map(|s| s.name);
            if let Some(name) = misfit.message.strip_prefix("unknown field `").and_then(|rest| rest.strip_suffix('`'))
                && misfit.path.is_empty()
                && let near @ Some(_) = suggest(name, slots).filter(|hint| hint.starts_with("did you mean"))
            {
                misfit.hint = near;
            }
            self.misfit(stage, &misfit)
        })?;
        let values: Vec<String> = axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
        let name = if values.is_empty() { stage.name.clone() } else { format!("{}@{}", stage.name, values.join(",")) };
        Ok(PlanNode { name, stage: stage.name.clone(), kind, question, inputs: joined.inputs.clone(), axes })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Visit {
    Unseen,
    Open,
    Closed,
}

/// Depth-first walk over stages; an explicit stack, so that a long chain of stages cannot overflow it.
struct Walk<'a> {
    uses: &'a [Vec<usize>],
    state: Vec<Visit>,
    order: Vec<usize>,
    path: Vec<(usize, usize)>,
}

impl Walk<'_> {
    /// Puts `start` and all it uses into `order`; on a circle gives it, its first stage repeated at the end.
    fn visit(&mut self, start: usize) -> Result<(), Vec<usize>> {
        if self.state[start] != Visit::Unseen {
            return Ok(());
        }
        self.state[start] = Visit::Open;
        self.path.push((start, 0));
        while let Some((stage, next)) = self.path.last_mut() {
            let Some(&used) = self.uses[*stage].get(*next) else {
                self.state[*stage] = Visit::Closed;
                self.order.push(*stage);
                self.path.pop();
                continue;
            };
            *next += 1;
            match self.state[used] {
                Visit::Closed => {}
                Visit::Unseen => {
                    self.state[used] = Visit::Open;
                    self.path.push((used, 0));
                }
                Visit::Open => {
                    let stages = self.path.iter().map(|(stage, _)| *stage);
                    return Err(stages.skip_while(|s| *s != used).chain([used]).collect());
                }
            }
        }
        Ok(())
    }
}

/// Whether a list stands anywhere in a parameter.
fn is_grid(node: &Node) -> bool {
    match &node.value {
        Value::List(_) => true,
        Value::Map(entries) => entries.iter().any(|entry| is_grid(&entry.value)),
        _ => false,
    }
}

/// Where a grid lists a value for the second time.
fn repeated(axes: &[(&Entry, Vec<Node>)]) -> Option<Place> {
    let again = |values: &[Node]| {
        let mut seen = HashSet::new();
        values.iter().find(|value| !seen.insert(render(&value.to_json()))).and_then(|value| value.place)
    };
    axes.iter().find_map(|(_, values)| again(values))
}

/// How many values a parameter takes; `None` if that overflows.
fn width(node: &Node) -> Option<usize> {
    match &node.value {
        Value::List(items) => items.iter().try_fold(0usize, |sum, item| sum.checked_add(width(item)?)),
        Value::Map(entries) => entries.iter().try_fold(1usize, |product, e| product.checked_mul(width(&e.value)?)),
        _ => Some(1),
    }
}

/// The values a parameter takes: a list is any of its items, a mapping any combination of its entries' values.
fn alternatives(node: &Node) -> Vec<Node> {
    match &node.value {
        Value::List(items) => items.iter().flat_map(alternatives).collect(),
        Value::Map(entries) => {
            let mut maps: Vec<Vec<Entry>> = vec![Vec::new()];
            for entry in entries {
                let values = alternatives(&entry.value);
                let extend = |map: &Vec<Entry>, value: &Node| {
                    let entry = Entry { value: value.clone(), ..entry.clone() };
                    map.iter().cloned().chain([entry]).collect::<Vec<_>>()
                };
                maps = maps.iter().flat_map(|map| values.iter().map(move |value| extend(map, value))).collect();
            }
            maps.into_iter().map(|map| Node { place: node.place, value: Value::Map(map) }).collect()
        }
        _ => vec![node.clone()],
    }
}

fn combinations<'a>(axes: &'a [(&'a Entry, Vec<Node>)]) -> Vec<Vec<(&'a Entry, &'a Node)>> {
    let mut out = vec![Vec::new()];
    for (field, values) in axes {
        let extend = |partial: &Vec<_>, value| partial.iter().copied().chain([(*field, value)]).collect();
        out = out.iter().flat_map(|partial| values.iter().map(move |value| extend(partial, value))).collect();
    }
    out
}

/// A value as it appears in an instance's name: `50`, `none`, `dropout-0.5`, `normal-0.01` (the only field of a variant
/// needs no name), `sgd-momentum-0.9-rate-0.1`.
fn render(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Number(n) if n.is_f64() => n.as_f64().unwrap_or(f64::NAN).to_string(),
        Json::Array(items) => items.iter().map(render).collect::<Vec<_>>().join("-"),
        Json::Object(map) => {
            let entry = |(key, value): (&String, &Json)| match value {
                Json::Object(inner) if map.len() == 1 && inner.len() == 1 => {
                    format!("{key}-{}", inner.values().map(render).collect::<String>())
                }
                _ => format!("{key}-{}", render(value)),
            };
            map.iter().map(entry).collect::<Vec<_>>().join("-")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Digest;
    use super::super::toy::{id, plan};
    use super::*;

    fn names(yaml: &str) -> Vec<String> {
        plan(yaml).unwrap().nodes.into_iter().map(|node| node.name).collect()
    }

    fn refusal(yaml: &str) -> (String, Option<String>) {
        let fault = plan(yaml).err().unwrap_or_else(|| panic!("taken: {yaml}"));
        (fault.to_string(), fault.hint)
    }

    /// By slot, the names of the nodes in it.
    fn inputs<'a>(plan: &'a Plan, name: &str) -> Vec<(&'a str, Vec<&'a str>)> {
        let slots = plan.node(id(plan, name)).inputs.iter();
        slots.map(|(slot, ids)| (*slot, ids.iter().map(|id| plan.node(*id).name.as_str()).collect())).collect()
    }

    /// A stand-in for what each node would put out, different for each.
    fn artifacts(plan: &Plan) -> Vec<Artifact> {
        let of = |node: &PlanNode| [("text".to_owned(), Digest::of(node.name.as_bytes()))].into();
        plan.nodes.iter().map(of).collect()
    }

    fn recipe(plan: &Plan, name: &str) -> Recipe {
        let artifacts = artifacts(plan);
        plan.recipe(id(plan, name), false, |up| &artifacts[up.0])
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
            names("stages: { s: { source: { text: x, style: [plain, { framed: { by: [1, 2] } }] } } }"),
            ["s@style=plain", "s@style=framed-1", "s@style=framed-2"]
        );
        assert_eq!(
            names("stages: { s: { source: { text: x, style: { framed: { by: [1, 2], round: true } } } } }"),
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
        assert_eq!(inputs(&plan, "p@width=2"), [("left", vec!["s@width=2,end=a"]), ("right", vec!["s@width=2,end=b"])]);
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
        let plan = plan(&format!("{ENDS}  g: {{ gather: {{ all: [p, s@end=a, s@width=1] }} }}")).unwrap();
        let all = vec!["p@width=1", "p@width=2", "s@width=1,end=a", "s@width=2,end=a", "s@width=1,end=b"];
        assert_eq!(inputs(&plan, "g"), [("all", all)]);
    }

    #[test]
    fn an_optional_input_may_be_absent_and_a_needed_one_may_not() {
        let with = plan("stages: { s: { source: { text: x } }, p: { pair: { left: s } } }").unwrap();
        assert_eq!(inputs(&with, "p"), [("left", vec!["s"])]);
        let (message, hint) = refusal("stages: { s: { source: { text: x } }, p: { pair: { right: s } } }");
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
    fn a_target_that_selects_nothing_says_what_there_is() {
        let plan = plan(ENDS).unwrap();
        let case = |target: &str, message: &str, hint: &str| {
            let fault = plan.select(target).unwrap_err();
            assert_eq!((fault.to_string().as_str(), fault.hint.as_deref()), (message, Some(hint)));
        };
        case("q", "target: nothing is called `q`", "known: `p`, `pair`, `s`, `source`");
        case("pare", "target: nothing is called `pare`", "did you mean `pair`?");
        case("p@width=3", "target: no node matches `p@width=3`", "did you mean `p@width=2`?");
        case("p@width", "target: `width` in `p@width` is not `name=value`", "write `stage@name=value,name=value`");
    }

    #[test]
    fn the_closure_of_a_target_is_what_it_hangs_on_and_that_of_nothing_is_everything() {
        let plan = plan(ENDS).unwrap();
        let closed: Vec<&str> =
            plan.closure(&[id(&plan, "p@width=2")]).iter().map(|id| plan.node(*id).name.as_str()).collect();
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
            let (said, help) = refusal(&format!("stages:\n  s: {{ source: {{ text: x }} }}\n{stages}"));
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
        case("  t: { source: { text: x, width: 0 } }", "toy.yaml:3:3: stage `t`: `width` must not be zero", None);
        case(
            "  t: { source: { text: x, style: { framed: { by: [] } } } }",
            "toy.yaml:3:34: stage `t`: the grid `style` is empty",
            Some("list one value at least"),
        );
        case(
            "  t: { source: { text: x, width: [1, 2, 1] } }",
            "toy.yaml:3:41: stage `t`: two nodes are called `t@width=1`",
            Some("a list has this value twice; remove one"),
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
        assert!(message.ends_with("stage `s` expands to more than 1000000 nodes"), "{message}");
        assert_eq!(hint.as_deref(), Some("shorten its lists"));
    }

    #[test]
    fn the_nodes_of_all_stages_count_together() {
        let thousand = (1..=1000).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (message, _) = refusal(&format!(
            "stages:\n  s: {{ source: {{ text: x }} }}\n  t: {{ source: {{ text: x, width: [{thousand}], ratio: [{thousand}] }} }}"
        ));
        assert!(message.contains("stage `t` expands to 1000000 nodes; with those before it that is more"), "{message}");
    }

    #[test]
    fn a_join_of_too_many_nodes_is_refused_before_it_is_made() {
        let many = (1..=1001).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (message, _) = refusal(&format!(
            "stages:\n  s: {{ source: {{ text: x, width: [{many}] }} }}\n  t: {{ source: {{ text: x, ratio: [{many}] }} }}
  p: {{ pair: {{ left: s, right: t }} }}"
        ));
        assert_eq!(message, "toy.yaml:4:3: stage `p` expands to more than 1000000 nodes");
    }

    #[test]
    fn a_chain_of_ten_thousand_stages_does_not_overflow_the_stack() {
        let links = (1..10_000).rev().map(|i| format!("  s{i}: {{ pair: {{ left: s{} }} }}\n", i - 1));
        let yaml = format!("stages:\n{}  s0: {{ source: {{ text: x }} }}\n", links.collect::<String>());
        assert_eq!(plan(&yaml).unwrap().nodes.len(), 10_000);
    }

    #[test]
    fn the_order_in_a_slot_that_takes_many_is_not_in_the_key() {
        let key = |all: &str| {
            let yaml = format!("stages:\n  s: {{ source: {{ text: [x, v] }} }}\n  g: {{ gather: {{ all: {all} }} }}");
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
            recipe(&plan(&format!("seed: {seed}\nstages: {{ s: {{ source: {{ text: {text} }} }} }}")).unwrap(), "s")
                .key()
        };
        assert_eq!(key(1, "x"), key(2, "x"));
        assert_ne!(key(1, "drawn"), key(2, "drawn"));
    }

    #[test]
    fn a_recipe_holds_only_the_files_its_slots_take() {
        let plan = plan("stages: { s: { source: { text: x } }, g: { gather: { all: s } }, p: { pair: { left: g } } }");
        let plan = plan.unwrap();
        let mut artifacts = artifacts(&plan);
        let count = |n: &[u8]| Some(("count".to_owned(), Digest::of(n)));
        let p = id(&plan, "p");
        artifacts[1].extend(count(b"1"));
        let before = plan.recipe(p, false, |up| &artifacts[up.0]);
        artifacts[1].extend(count(b"2"));
        assert_eq!(plan.recipe(p, false, |up| &artifacts[up.0]), before);
        assert_eq!(before.inputs["left"][0].keys().collect::<Vec<_>>(), ["text"]);
    }
}
