//! From stages as written to nodes: stages put in order, grids expanded, references joined.
//!
//! A list where a parameter is expected is a grid axis. A reference `nets` or `nets@end=a` in a slot that takes one
//! artifact stands for each matching instance; the axes it leaves open are inherited, and axes of the same name from
//! several slots must agree (a natural join), so that a net is matched with the net of its own width, prior and pair. A
//! slot that takes many gathers all matching instances and inherits nothing.

use super::error::Fault;
use super::grid::{alternatives, combinations, is_grid, render, repeated, width};
use super::node::{NodeId, PlanNode, Reference};
use super::pipeline::{Pipeline, StageDecl};
use super::stage::{Arity, Kind, Slot};
use super::value::{Entry, Misfit, Node, Place, Value, suggest};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// More nodes than this are taken for a mistake.
pub(super) const MAX_NODES: usize = 200_000;

/// The nodes of `pipeline`, whose profile has been applied, over `kinds`; inputs before those that use them.
pub(super) fn nodes(pipeline: &Pipeline, kinds: &[&'static dyn Kind]) -> Result<Vec<PlanNode>, Fault> {
    let mut builder = Builder { pipeline, kinds, nodes: Vec::new(), instances: HashMap::new() };
    let kinds = builder.kinds(kinds)?;
    for i in builder.order(&kinds)? {
        builder.expand(&pipeline.stages[i], kinds[i])?;
    }
    Ok(builder.nodes)
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
                if let Some(misfit) = reference.unknown(instances.iter().map(|id| &self.nodes[id.0])) {
                    let message = format!("stage `{}`: `{}: {text}`: {}", stage.name, slot.name, misfit.message);
                    return Err(self.fault(*place, message, misfit.hint));
                }
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
        let question = kind.resolve(&fields, &self.pipeline.invocation).map_err(|mut misfit| {
            let slots = kind.slots().iter().map(|s| s.name);
            if let Some(name) = misfit.message.strip_prefix("unknown field `").and_then(|rest| rest.strip_suffix('`'))
                && misfit.path.is_empty()
            {
                // Unquoted, `{ a: nets@end=a,pair=1 }` is two fields.
                let quotes = || name.contains('=').then(|| "write a reference with a comma in quotes".to_owned());
                let near = suggest(name, slots).filter(|hint| hint.starts_with("did you mean"));
                misfit.hint = quotes().or(near).or(misfit.hint);
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
