//! From stages as written to nodes: stages put in order, grids expanded, references joined.
//!
//! A list where a parameter is expected is a grid axis. A reference `nets` or `nets@end=a` in a
//! slot that takes one artifact stands for each matching instance; the axes it leaves open are
//! inherited, and axes of the same name from several slots must agree (a natural join), so that a
//! net is matched with the net of its own width, prior and pair. A slot that takes many inherits
//! nothing and gathers all matching instances; but on an axis that the node has itself, by another
//! input or a list of its own, only those of its own value, unless the reference names a value of
//! that axis.
//!
//! A kind may be open: then its stage names slots of its own under `inputs`, where a single reference takes one artifact and
//! a list gathers many, and parameters of its own under `params`, each of which may be a grid axis.

use super::grid::{alternatives, combinations, is_grid, render, repeated, width};
use super::pipeline::{OPEN_FIELDS, Pipeline, StageDecl};
use super::reference::{NodeId, PlanNode, Reference};
use crate::engine::error::Diagnostic;
use crate::engine::located::{Location, Value, ValueError, YamlField, YamlNode, suggest};
use crate::engine::stage::{ALL, Arity, FILES, GATHERED, Kind, ResolvedStage, belongs};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// More nodes than this are taken for a mistake.
pub(crate) const MAX_NODES: usize = 200_000;

/// The nodes of `pipeline`, whose profile has been applied, over `kinds`; inputs before those that use them.
pub(crate) fn nodes(
    pipeline: &Pipeline,
    kinds: &[&'static dyn Kind],
) -> Result<Vec<PlanNode>, Diagnostic> {
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
    inputs: BTreeMap<Cow<'static, str>, Vec<NodeId>>,
}

/// A slot of a stage: one of its kind, or an open one.
struct Port<'p> {
    /// In the plan and in recipes.
    name: Cow<'static, str>,
    /// In pipeline.yaml.
    field: &'p str,
    arity: Arity,
    files: &'static [&'static str],
    written: Option<&'p YamlNode>,
}

/// The instances that one reference in a slot stands for; one at least.
struct Found<'p> {
    text: &'p str,
    location: Option<Location>,
    reference: Reference,
    nodes: Vec<NodeId>,
}

impl Found<'_> {
    /// The axes that the reference leaves open, with the values that `node`, one of its instances,
    /// has there.
    fn open<'n>(&self, node: &'n PlanNode) -> impl Iterator<Item = &'n (String, String)> {
        node.axes.iter().filter(|(axis, _)| !self.reference.fixes(axis))
    }
}

/// What one reference in a slot that takes many gathers for each node of a stage.
struct Gather<'p> {
    /// The slot, in the plan and in recipes.
    slot: Cow<'static, str>,
    /// The slot's field in pipeline.yaml.
    field: &'p str,
    found: Found<'p>,
    /// The axes that the nodes of the stage share with the instances.
    shared: Vec<String>,
    /// The instances by their values on those.
    by_values: HashMap<Vec<String>, Vec<NodeId>>,
}

/// The values on the axes `of`, of a node that has these.
fn values(axes: &[(String, String)], of: &[String]) -> Vec<String> {
    let value =
        |axis: &String| axes.iter().find(|(name, _)| name == axis).map(|(_, value)| value.clone());
    of.iter().filter_map(value).collect()
}

/// The field of an open kind that names its slots.
const INPUTS: &str = "inputs";

/// The field of an open kind that holds parameters of the stage's own.
const PARAMS: &str = "params";

/// The parameters of a stage's own.
fn own<'p>(stage: &'p StageDecl, kind: &dyn Kind) -> &'p [YamlField] {
    let field =
        if kind.is_open() { stage.fields.iter().find(|field| field.key == PARAMS) } else { None };
    field.and_then(|field| field.value.as_map()).unwrap_or_default()
}

impl<'p> Builder<'p> {
    fn diagnostic(
        &self,
        location: Option<Location>,
        message: String,
        hint: Option<String>,
    ) -> Diagnostic {
        Diagnostic { source: self.pipeline.source.clone(), location, message, hint }
    }

    fn error(&self, stage: &StageDecl, error: &ValueError) -> Diagnostic {
        let diagnostic =
            Diagnostic::of(&self.pipeline.source, &format!("stage `{}`", stage.name), error);
        Diagnostic { location: diagnostic.location.or(stage.location), ..diagnostic }
    }

    fn kinds(&self, kinds: &[&'static dyn Kind]) -> Result<Vec<&'static dyn Kind>, Diagnostic> {
        let find = |stage: &StageDecl| {
            kinds.iter().copied().find(|k| k.name() == stage.kind).ok_or_else(|| {
                let message =
                    format!("stage `{}`: unknown stage kind `{}`", stage.name, stage.kind);
                self.diagnostic(
                    stage.kind_place,
                    message,
                    suggest(&stage.kind, kinds.iter().map(|k| k.name())),
                )
            })
        };
        self.pipeline.stages.iter().map(find).collect()
    }

    /// Stages in an order in which those referred to come first; refuses cycles and unknown names.
    fn order(&self, kinds: &[&'static dyn Kind]) -> Result<Vec<usize>, Diagnostic> {
        let stages = &self.pipeline.stages;
        let index: HashMap<&str, usize> =
            stages.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
        let mut uses: Vec<Vec<usize>> = Vec::new();
        for (stage, kind) in stages.iter().zip(kinds) {
            let mut used = Vec::new();
            for port in self.ports(stage, *kind)? {
                for (text, location) in self.references(stage, &port)? {
                    let name = Reference::parse(text).map_err(|m| self.error(stage, &m))?.stage;
                    let Some(&target) = index.get(name.as_str()) else {
                        let message = format!(
                            "stage `{}`: `{}` names no stage: `{name}`",
                            stage.name, port.field
                        );
                        return Err(self.diagnostic(
                            location,
                            message,
                            suggest(&name, index.keys().copied().collect::<BTreeSet<_>>()),
                        ));
                    };
                    used.push(target);
                }
            }
            uses.push(used);
        }
        let mut walk = Walk {
            uses: &uses,
            state: vec![Visit::Unseen; stages.len()],
            order: Vec::new(),
            path: Vec::new(),
        };
        for i in 0..stages.len() {
            if let Err(cycle) = walk.visit(i) {
                let names: Vec<&str> = cycle.iter().map(|&i| stages[i].name.as_str()).collect();
                let message = format!("the stages go round in a circle: {}", names.join(" -> "));
                let hint =
                    Some(format!("one of them must not use the next; `{}` is the first", names[0]));
                return Err(self.diagnostic(stages[cycle[0]].location, message, hint));
            }
        }
        Ok(walk.order)
    }

    /// The slots of a stage, with what is written in them.
    fn ports(
        &self,
        stage: &'p StageDecl,
        kind: &'static dyn Kind,
    ) -> Result<Vec<Port<'p>>, Diagnostic> {
        let field = |name: &str| {
            stage.fields.iter().find(|field| field.key == name).map(|field| &field.value)
        };
        let own = kind.slots().iter().map(|slot| Port {
            name: Cow::Borrowed(slot.name),
            field: slot.name,
            arity: slot.arity,
            files: slot.files,
            written: field(slot.name),
        });
        let mut ports: Vec<Port> = own.collect();
        let Some(inputs) = field(INPUTS).filter(|_| kind.is_open()) else { return Ok(ports) };
        let Some(entries) = inputs.as_map() else {
            let message = format!(
                "stage `{}`: `{INPUTS}` must be a mapping, not {}",
                stage.name,
                inputs.kind()
            );
            return Err(self.diagnostic(
                inputs.location,
                message,
                Some(format!("write `{INPUTS}: {{ name: STAGE }}`")),
            ));
        };
        for YamlField { key, location, value } in entries {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if key == FILES || key.is_empty() || key.len() > 64 || !key.chars().all(fits) {
                let shown: String = key.chars().take(40).flat_map(char::escape_default).collect();
                let message =
                    format!("stage `{}`: `{shown}` cannot be the name of an input", stage.name);
                let hint =
                    format!("a name is 1 to 64 letters, digits, `-` and `_`, and not `{FILES}`");
                return Err(self.diagnostic(*location, message, Some(hint)));
            }
            let gathers = matches!(value.value, Value::List(_));
            ports.push(Port {
                name: Cow::Owned(if gathers { format!("{key}{GATHERED}") } else { key.clone() }),
                field: key,
                arity: if gathers { Arity::Many } else { Arity::One },
                files: ALL,
                written: Some(value),
            });
        }
        Ok(ports)
    }

    /// For a hint: the other stages whose outputs fit into `slot` of `user`.
    fn makers(&self, user: &StageDecl, port: &Port) -> String {
        let fits = |kind: &&dyn Kind| {
            port.files == ALL || port.files.iter().all(|file| kind.outputs().contains(file))
        };
        let kind_of =
            |stage: &StageDecl| self.kinds.iter().copied().find(|kind| kind.name() == stage.kind);
        let others = self.pipeline.stages.iter().filter(|stage| stage.name != user.name);
        let fitting = others.filter(|stage| kind_of(stage).is_some_and(|kind| fits(&kind)));
        let names: Vec<String> = fitting.map(|stage| format!("`{}`", stage.name)).collect();
        if let [only] = &names[..] {
            return format!("write `{}: {}`", port.field, only.trim_matches('`'));
        }
        if !names.is_empty() {
            return format!("write `{}: STAGE`, with one of {}", port.field, names.join(", "));
        }
        let kinds: Vec<String> = self
            .kinds
            .iter()
            .filter(|kind| fits(kind))
            .map(|k| format!("`{}`", k.name()))
            .collect();
        format!("it takes a stage of kind {}, and there is none", kinds.join(" or "))
    }

    /// The references written in a slot, with their places.
    fn references(
        &self,
        stage: &'p StageDecl,
        port: &Port<'p>,
    ) -> Result<Vec<(&'p str, Option<Location>)>, Diagnostic> {
        let name = port.field;
        let Some(written) = port.written else {
            if port.arity.may_be_empty() {
                return Ok(Vec::new());
            }
            let message = format!("stage `{}`: the input `{name}` is missing", stage.name);
            return Err(self.diagnostic(stage.kind_place, message, Some(self.makers(stage, port))));
        };
        let text = |node: &'p YamlNode| {
            node.as_text().map(|text| (text, node.location)).ok_or_else(|| {
                let message = format!(
                    "stage `{}`: `{name}` must name a stage, not {}",
                    stage.name,
                    node.kind()
                );
                let hint = format!(
                    "write `{name}: STAGE`, or `{name}: STAGE@axis=value` for some of its instances"
                );
                self.diagnostic(node.location, message, Some(hint))
            })
        };
        match &written.value {
            Value::List(items) if port.arity.gathers() && !items.is_empty() => {
                items.iter().map(text).collect()
            }
            Value::List(items) if items.is_empty() => {
                let message = format!("stage `{}`: `{name}` is an empty list", stage.name);
                Err(self.diagnostic(
                    written.location,
                    message,
                    Some("name one stage at least".into()),
                ))
            }
            _ => Ok(vec![text(written)?]),
        }
    }

    /// Makes the instances of one stage.
    fn expand(&mut self, stage: &'p StageDecl, kind: &'static dyn Kind) -> Result<(), Diagnostic> {
        let (mut joined, mut gathering) = (vec![Joined::default()], Vec::new());
        for port in self.ports(stage, kind)? {
            let found = self.find(stage, &port)?;
            if port.arity.gathers() {
                gathering
                    .extend(found.into_iter().map(|found| (port.name.clone(), port.field, found)));
            } else if let Some(found) = found.first() {
                joined = self.join(stage, &port, found, joined)?;
            }
        }
        let (axes, count) = self.axes(stage, kind, joined.len())?;
        if self.nodes.len() + count > MAX_NODES {
            let message = format!(
                "stage `{}` expands to {count} nodes; with those before it that is more than {MAX_NODES}",
                stage.name
            );
            return Err(self.diagnostic(stage.location, message, Some("shorten its lists".into())));
        }
        let first = self.nodes.len();
        let mut names = HashSet::new();
        let combinations = combinations(&axes);
        // Once for all nodes that ask the same of different inputs.
        let questions =
            combinations.iter().map(|combination| self.resolved(stage, kind, combination));
        let questions: Vec<Arc<ResolvedStage>> = questions.collect::<Result<_, _>>()?;
        // All nodes of a stage have the same axes.
        let axes_of_all = match (joined.first(), combinations.first(), questions.first()) {
            (Some(joined), Some(combination), Some(resolved)) => {
                self.axes_of(stage, kind, joined, combination, resolved)?
            }
            _ => Vec::new(),
        };
        let gathers = gathering
            .into_iter()
            .map(|(slot, field, found)| self.gather(slot, field, found, &axes_of_all));
        let gathers: Vec<Gather> = gathers.collect();
        for joined in &joined {
            for (combination, resolved) in combinations.iter().zip(&questions) {
                let lies = self.axes_of(stage, kind, joined, combination, resolved)?;
                let values: Vec<String> =
                    lies.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
                let name = if values.is_empty() {
                    stage.name.clone()
                } else {
                    format!("{}@{}", stage.name, values.join(","))
                };
                let node = PlanNode {
                    name,
                    stage: stage.name.clone(),
                    kind,
                    resolved: Arc::clone(resolved),
                    inputs: self.inputs(stage, joined, &gathers, &lies)?,
                    axes: lies,
                };
                if !names.insert(node.name.clone()) {
                    return Err(self.repeats(stage, &axes, &node.name));
                }
                self.nodes.push(node);
            }
        }
        self.instances.insert(&stage.name, (first..self.nodes.len()).map(NodeId).collect());
        Ok(())
    }

    /// Why two nodes of a stage would be called `name`: a list repeats a value, or two values read alike in a name.
    fn repeats(
        &self,
        stage: &StageDecl,
        axes: &[(&YamlField, Vec<YamlNode>)],
        name: &str,
    ) -> Diagnostic {
        let Some((field, value)) = repeated(axes) else {
            let message = format!("stage `{}`: two nodes are called `{name}`", stage.name);
            let hint = "two values of a list, or two inputs, read alike in a name; change one";
            return self.diagnostic(stage.location, message, Some(hint.into()));
        };
        let shown: String = value.to_json().to_string().chars().take(60).collect();
        let message =
            format!("stage `{}`: `{}` lists the value `{shown}` twice", stage.name, field.key);
        let hint = match &field.value.value {
            Value::List(items) if items.iter().any(|item| matches!(item.value, Value::List(_))) => {
                "remove one; a list in a list is more values of the same list, not a value of its own"
            }
            _ => "remove one",
        };
        self.diagnostic(value.location.or(stage.location), message, Some(hint.into()))
    }

    /// The instances that each reference in a slot stands for.
    fn find(&self, stage: &'p StageDecl, port: &Port<'p>) -> Result<Vec<Found<'p>>, Diagnostic> {
        let mut all = Vec::new();
        for (text, location) in self.references(stage, port)? {
            let reference = Reference::parse(text).map_err(|m| self.error(stage, &m))?;
            let instances = &self.instances[reference.stage.as_str()];
            let nodes: Vec<NodeId> = instances
                .iter()
                .copied()
                .filter(|id| reference.matches(&self.nodes[id.0]))
                .collect();
            if nodes.is_empty() {
                if let Some(error) = reference.unknown(instances.iter().map(|id| &self.nodes[id.0]))
                {
                    let message = format!(
                        "stage `{}`: `{}: {text}`: {}",
                        stage.name, port.field, error.message
                    );
                    return Err(self.diagnostic(location, message, error.hint));
                }
                let message =
                    format!("stage `{}`: no instance matches `{}: {text}`", stage.name, port.field);
                let names = instances.iter().map(|id| self.nodes[id.0].name.as_str());
                return Err(self.diagnostic(location, message, suggest(text, names)));
            }
            let maker = &self.nodes[nodes[0].0];
            let made = maker
                .kind
                .outputs_for(&maker.resolved.params)
                .map_err(|e| ValueError::new(format!("{e:#}")));
            // What is in files is known when they are looked at.
            let made = made.map_err(|error| self.error(stage, &error))?;
            let lacks = |file: &&&str| {
                made.as_ref().is_some_and(|made| !made.iter().any(|made| belongs(made, file)))
            };
            if let Some(missing) = port.files.iter().find(lacks) {
                let message = format!(
                    "stage `{}`: `{}` takes `{missing}`, which `{}` does not make",
                    stage.name, port.field, reference.stage
                );
                return Err(self.diagnostic(location, message, Some(self.makers(stage, port))));
            }
            all.push(Found { text, location, reference, nodes });
        }
        Ok(all)
    }

    /// What a slot that takes many gathers for nodes that lie on `axes`.
    fn gather(
        &self,
        slot: Cow<'static, str>,
        field: &'p str,
        found: Found<'p>,
        axes: &[(String, String)],
    ) -> Gather<'p> {
        let theirs =
            |axis: &String| found.open(&self.nodes[found.nodes[0].0]).any(|(name, _)| name == axis);
        let shared: Vec<String> =
            axes.iter().map(|(axis, _)| axis).filter(|axis| theirs(axis)).cloned().collect();
        let mut by_values: HashMap<Vec<String>, Vec<NodeId>> = HashMap::new();
        for id in &found.nodes {
            by_values.entry(values(&self.nodes[id.0].axes, &shared)).or_default().push(*id);
        }
        Gather { slot, field, found, shared, by_values }
    }

    /// What fills the slots of the node that lies on `axes`.
    #[expect(clippy::type_complexity, reason = "the type of the field that it is for")]
    fn inputs(
        &self,
        stage: &StageDecl,
        joined: &Joined,
        gathers: &[Gather],
        axes: &[(String, String)],
    ) -> Result<Box<[(Cow<'static, str>, Vec<NodeId>)]>, Diagnostic> {
        let mut inputs = joined.inputs.clone();
        // A set: references may overlap.
        let mut taken = HashSet::new();
        for Gather { slot, field, found, shared, by_values } in gathers {
            let values = values(axes, shared);
            let Some(nodes) = by_values.get(&values) else {
                let pairs: Vec<String> = shared
                    .iter()
                    .zip(&values)
                    .map(|(axis, value)| format!("`{axis}={value}`"))
                    .collect();
                let (name, text) = (&stage.name, found.text);
                let message = format!(
                    "stage `{name}`: no instance of `{field}: {text}` has {}",
                    pairs.join(", ")
                );
                let hint = format!(
                    "`{name}` has that by another input or a list; compare the grids, or name a value here"
                );
                return Err(self.diagnostic(found.location, message, Some(hint)));
            };
            let new = nodes.iter().copied().filter(|id| taken.insert((slot, *id)));
            inputs.entry(slot.clone()).or_default().extend(new);
        }
        Ok(inputs.into_iter().collect())
    }

    /// Fills a slot that takes one: each partial join goes on with each instance that has its
    /// values.
    fn join(
        &self,
        stage: &'p StageDecl,
        port: &Port<'p>,
        found: &Found,
        joined: Vec<Joined>,
    ) -> Result<Vec<Joined>, Diagnostic> {
        let open = |id: &NodeId| -> Vec<(String, String)> {
            found.open(&self.nodes[id.0]).cloned().collect()
        };
        // All candidates of a slot have the same axes, and so have all partial joins: index by the axes they share.
        let known: HashSet<String> = joined[0].axes.iter().map(|(axis, _)| axis.clone()).collect();
        let shared =
            |axes: &[(String, String)], other: &HashSet<String>| -> BTreeMap<String, String> {
                axes.iter().filter(|(axis, _)| other.contains(axis)).cloned().collect()
            };
        let theirs: HashSet<String> =
            open(&found.nodes[0]).into_iter().map(|(axis, _)| axis).collect();
        let mut index: HashMap<BTreeMap<String, String>, Vec<NodeId>> = HashMap::new();
        for id in &found.nodes {
            index.entry(shared(&open(id), &known)).or_default().push(*id);
        }
        let partners = |partial: &Joined| {
            index.get(&shared(&partial.axes, &theirs)).map_or(&[][..], Vec::as_slice)
        };
        if joined.iter().map(|partial| partners(partial).len()).sum::<usize>() > MAX_NODES {
            return Err(self.too_many(stage, stage.location));
        }
        let mut out = Vec::new();
        for partial in &joined {
            for id in partners(partial) {
                let mut next = partial.clone();
                next.axes.extend(open(id).into_iter().filter(|(axis, _)| !known.contains(axis)));
                next.inputs.insert(port.name.clone(), vec![*id]);
                out.push(next);
            }
        }
        if out.is_empty() {
            let message =
                format!("stage `{}`: its inputs have no axis values in common", stage.name);
            return Err(self.diagnostic(
                stage.location,
                message,
                Some("compare the grids of the stages it uses".into()),
            ));
        }
        Ok(out)
    }

    fn too_many(&self, stage: &StageDecl, location: Option<Location>) -> Diagnostic {
        let message = format!("stage `{}` expands to more than {MAX_NODES} nodes", stage.name);
        self.diagnostic(location, message, Some("shorten its lists".into()))
    }

    /// The parameter fields with the values each can take, and the number of nodes that makes.
    #[expect(clippy::type_complexity, reason = "fields and their values, used once, just below")]
    fn axes(
        &self,
        stage: &'p StageDecl,
        kind: &'static dyn Kind,
        joined: usize,
    ) -> Result<(Vec<(&'p YamlField, Vec<YamlNode>)>, usize), Diagnostic> {
        let own = own(stage, kind);
        let is_slot = |field: &YamlField| {
            kind.slots().iter().any(|slot| slot.name == field.key)
                || (kind.is_open() && field.key == INPUTS)
        };
        let is_spread = |field: &YamlField| !own.is_empty() && field.key == PARAMS;
        let mut axes = Vec::new();
        let mut count = joined;
        for field in stage.fields.iter().filter(|f| !is_slot(f) && !is_spread(f)).chain(own) {
            if !is_axis(kind, own, field) {
                axes.push((field, vec![field.value.clone()]));
                continue;
            }
            count = width(&field.value)
                .and_then(|n| count.checked_mul(n))
                .filter(|&n| n <= MAX_NODES)
                .ok_or_else(|| self.too_many(stage, field.location))?;
            if count == 0 {
                let message = format!("stage `{}`: the grid `{}` is empty", stage.name, field.key);
                return Err(self.diagnostic(
                    field.value.location,
                    message,
                    Some("list one value at least".into()),
                ));
            }
            axes.push((field, alternatives(&field.value)));
        }
        Ok((axes, count))
    }

    /// The axes of an instance, those of its inputs first, with its values.
    fn axes_of(
        &self,
        stage: &StageDecl,
        kind: &'static dyn Kind,
        joined: &Joined,
        combination: &[(&YamlField, &YamlNode)],
        resolved: &ResolvedStage,
    ) -> Result<Vec<(String, String)>, Diagnostic> {
        let mut axes = joined.axes.clone();
        let own = own(stage, kind);
        for (field, value) in combination.iter().filter(|(field, _)| is_axis(kind, own, field)) {
            if axes.iter().any(|(axis, _)| *axis == field.key) {
                let message = format!(
                    "stage `{}`: the axis `{}` comes from its inputs already",
                    stage.name, field.key
                );
                return Err(self.diagnostic(
                    field.location,
                    message,
                    Some("give one value, not a list".into()),
                ));
            }
            let (is_own, given) = (is_own(own, field), resolved.full.get(&field.key));
            let text = match (value.as_text(), given) {
                // What is given to a program as it is written is called so.
                (Some(text), _) if is_own || given.and_then(Json::as_str) == Some(text) => {
                    text.to_owned()
                }
                (None, Some(given)) if !is_own && OPEN_FIELDS.contains(&&*field.key) => {
                    render(given)
                }
                _ => render(&value.to_json()),
            };
            axes.push((field.key.clone(), text));
        }
        Ok(axes)
    }

    /// What an instance asks, but for its inputs.
    fn resolved(
        &self,
        stage: &StageDecl,
        kind: &'static dyn Kind,
        combination: &[(&YamlField, &YamlNode)],
    ) -> Result<Arc<ResolvedStage>, Diagnostic> {
        let own = own(stage, kind);
        let (mut fields, mut params) = (Vec::new(), Vec::new());
        for (field, value) in combination {
            let to = if is_own(own, field) { &mut params } else { &mut fields };
            // Field by field: the list that the value is from may be long.
            to.push(YamlField {
                key: field.key.clone(),
                location: field.location,
                value: (*value).clone(),
            });
        }
        let text = |value: &YamlNode| value.as_text().map_or_else(|| value.to_json(), Json::from);
        let full: Vec<_> = params
            .iter()
            .map(|param: &YamlField| (param.key.clone(), text(&param.value)))
            .collect();
        if !params.is_empty() {
            let value = YamlNode { location: stage.kind_place, value: Value::Map(params) };
            fields.push(YamlField { key: PARAMS.to_owned(), location: stage.kind_place, value });
        }
        let fields = YamlNode { location: stage.kind_place, value: Value::Map(fields) };
        let mut resolved =
            kind.resolve(&fields, &self.pipeline.invocation).map_err(|mut error| {
                let slots = kind.slots().iter().map(|s| s.name);
                if let Some(name) = error
                    .message
                    .strip_prefix("unknown field `")
                    .and_then(|rest| rest.strip_suffix('`'))
                    && error.path.is_empty()
                {
                    // Unquoted, `{ a: nets@end=a,pair=1 }` is two fields.
                    let quotes = || {
                        name.contains('=')
                            .then(|| "write a reference with a comma in quotes".to_owned())
                    };
                    let near = suggest(name, slots).filter(|hint| hint.starts_with("did you mean"));
                    error.hint = quotes().or(near).or(error.hint);
                }
                self.error(stage, &error)
            })?;
        full.into_iter().for_each(|(name, value)| _ = resolved.full.entry(name).or_insert(value));
        Ok(Arc::new(resolved))
    }
}

/// Whether `field` is one of the stage's own parameters.
fn is_own(own: &[YamlField], field: &YamlField) -> bool {
    own.iter().any(|entry| std::ptr::eq(entry, field))
}

/// Whether the values of `field` are those of a grid axis.
fn is_axis(kind: &dyn Kind, own: &[YamlField], field: &YamlField) -> bool {
    is_grid(&field.value) && (is_own(own, field) || !kind.lists().contains(&field.key.as_str()))
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
