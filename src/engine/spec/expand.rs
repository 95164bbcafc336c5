//! Expands stages into nodes: sorts stages, expands grids, joins references.
//!
//! A list as the value of a parameter is a grid axis. A reference such as `nets` or `nets@end=a` in
//! a slot for one node creates a node for each match. The node inherits the axes that the reference
//! does not fix. Axes of the same name from several slots must agree (a natural join), so that a
//! net is joined with the net of the same width, prior and pair. A slot for many nodes inherits no
//! axes and gathers all matches. If the node has one of their axes, from another input or its own
//! list, the slot gathers only the matches with the node's value on that axis, unless the reference
//! fixes it.
//!
//! A stage of an open kind declares slots under `inputs`, where a single reference is a slot for
//! one node and a list is a slot for many, and parameters under `params`, each of which can be an
//! axis.

mod order;
mod slots;

use self::slots::Port;
use super::grid::{alternatives, combinations, is_grid, render, repeated, width};
use super::pipeline::{OPEN_FIELDS, Pipeline, StageDecl};
use super::reference::{NodeId, PlanNode, Reference};
use crate::engine::error::Diagnostic;
use crate::engine::located::{
    Location, Value, ValueError, YamlField, YamlNode, nearest, read, suggest,
};
use crate::engine::resources::{RESOURCES, ResourceFields};
use crate::engine::stage::{Kind, ResolvedStage, belongs};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The largest number of nodes. A larger plan is considered a mistake.
pub(crate) const MAX_NODES: usize = 200_000;

/// The nodes of `pipeline`, whose profile has been applied; inputs come before their users.
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

/// A partial join: its axis values, and the nodes in its slots.
#[derive(Clone, Default)]
struct Joined {
    axes: Vec<(String, String)>,
    inputs: BTreeMap<Cow<'static, str>, Vec<NodeId>>,
}

/// The nodes that match a reference in a slot. There is at least one.
struct Found<'p> {
    text: &'p str,
    location: Option<Location>,
    reference: Reference,
    nodes: Vec<NodeId>,
}

impl Found<'_> {
    /// The axes that the reference does not fix, with the values of `node`, one of the matches.
    fn open<'n>(&self, node: &'n PlanNode) -> impl Iterator<Item = &'n (String, String)> {
        node.axes.iter().filter(|(axis, _)| !self.reference.fixes(axis))
    }
}

/// A reference in a slot for many nodes, and the nodes it gathers.
struct Gather<'p> {
    /// The name of the slot in the plan and in recipes.
    slot: Cow<'static, str>,
    /// The field of the slot in pipeline.yaml.
    field: &'p str,
    found: Found<'p>,
    /// The axes that the nodes of the stage share with the matches.
    shared: Vec<String>,
    /// The matches by their values on these axes.
    by_values: HashMap<Vec<String>, Vec<NodeId>>,
}

/// The values on the axes named in `of`.
fn values(axes: &[(String, String)], of: &[String]) -> Vec<String> {
    let value =
        |axis: &String| axes.iter().find(|(name, _)| name == axis).map(|(_, value)| value.clone());
    of.iter().filter_map(value).collect()
}

/// The field of an open kind that declares slots.
const INPUTS: &str = "inputs";

/// The field of an open kind that declares parameters.
pub(super) const PARAMS: &str = "params";

/// The parameters that a stage of an open kind declares.
fn own<'p>(stage: &'p StageDecl, kind: &dyn Kind) -> &'p [YamlField] {
    let field =
        if kind.is_open() { stage.fields.iter().find(|field| field.key == PARAMS) } else { None };
    field.and_then(|field| field.value.as_map()).unwrap_or_default()
}

impl<'p> Builder<'p> {
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
                self.pipeline.diagnostic(
                    stage.kind_location,
                    message,
                    suggest(&stage.kind, kinds.iter().map(|k| k.name())),
                )
            })
        };
        self.pipeline.stages.iter().map(find).collect()
    }

    /// Adds the nodes of one stage.
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
                "stage `{}` expands to {count} nodes; with it, the plan has more than {MAX_NODES}",
                stage.name
            );
            return Err(self.pipeline.diagnostic(
                stage.location,
                message,
                Some("shorten its lists".into()),
            ));
        }
        let first = self.nodes.len();
        let mut names = HashSet::new();
        let combinations = combinations(&axes);
        // Nodes that differ only in their inputs share the result.
        let resources = self.resources(stage)?;
        let resolve = |combination: &Vec<_>| self.resolve(stage, kind, combination, &resources);
        let resolved: Vec<Arc<ResolvedStage>> =
            combinations.iter().map(resolve).collect::<Result<_, _>>()?;
        // All nodes of a stage have the same axes.
        let axes_of_all = match (joined.first(), combinations.first(), resolved.first()) {
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
            for (combination, resolved) in combinations.iter().zip(&resolved) {
                let axis_values = self.axes_of(stage, kind, joined, combination, resolved)?;
                let values: Vec<String> =
                    axis_values.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
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
                    inputs: self.inputs(stage, joined, &gathers, &axis_values)?,
                    axes: axis_values,
                };
                if !names.insert(node.name.clone()) {
                    return Err(self.repeated_name(stage, &axes, &node.name));
                }
                self.nodes.push(node);
            }
        }
        self.instances.insert(&stage.name, (first..self.nodes.len()).map(NodeId).collect());
        Ok(())
    }

    /// The error for two nodes of a stage with the same `name`.
    fn repeated_name(
        &self,
        stage: &StageDecl,
        axes: &[(&YamlField, Vec<YamlNode>)],
        name: &str,
    ) -> Diagnostic {
        let Some((field, [first, second])) = repeated(axes) else {
            let message = format!("stage `{}`: two nodes have the name `{name}`", stage.name);
            let hint = "change one of two values that have the same text in names";
            return self.pipeline.diagnostic(stage.location, message, Some(hint.into()));
        };
        let shown =
            |value: &YamlNode| -> String { value.to_json().to_string().chars().take(60).collect() };
        let (stage_name, field_name) = (&stage.name, &field.key);
        let what = if first.to_json() == second.to_json() {
            format!("lists the value `{}` twice", shown(first))
        } else {
            let (first, second) = (shown(first), shown(second));
            format!("lists `{first}` and `{second}`, which have the same text in names")
        };
        let is_list = |item: &YamlNode| matches!(item.value, Value::List(_));
        let hint = match &field.value.value {
            Value::List(items) if items.iter().any(is_list) => {
                "remove one; nested lists are flattened"
            }
            _ => "remove one",
        };
        let message = format!("stage `{stage_name}`: `{field_name}` {what}");
        self.pipeline.diagnostic(second.location.or(stage.location), message, Some(hint.into()))
    }

    /// The nodes that match each reference in a slot.
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
                    return Err(self.pipeline.diagnostic(location, message, error.hint));
                }
                let message =
                    format!("stage `{}`: no instance matches `{}: {text}`", stage.name, port.field);
                let names = instances.iter().map(|id| self.nodes[id.0].name.as_str());
                return Err(self.pipeline.diagnostic(location, message, suggest(text, names)));
            }
            let maker = &self.nodes[nodes[0].0];
            let made = maker
                .kind
                .outputs_for(&maker.resolved.params)
                .map_err(|e| ValueError::new(format!("{e:#}")));
            // `None` for kinds whose outputs are the declared files, which are not listed yet.
            let made = made.map_err(|error| self.error(stage, &error))?;
            let lacks = |file: &&&str| {
                made.as_ref().is_some_and(|made| !made.iter().any(|made| belongs(made, file)))
            };
            if let Some(missing) = port.files.iter().find(lacks) {
                let message = format!(
                    "stage `{}`: `{}` needs the output `{missing}`, which `{}` does not have",
                    stage.name, port.field, reference.stage
                );
                return Err(self.pipeline.diagnostic(
                    location,
                    message,
                    Some(self.suggest_inputs(stage, port)),
                ));
            }
            all.push(Found { text, location, reference, nodes });
        }
        Ok(all)
    }

    /// Indexes the matches of a reference for the nodes of a stage with the axes `axes`.
    fn gather(
        &self,
        slot: Cow<'static, str>,
        field: &'p str,
        found: Found<'p>,
        axes: &[(String, String)],
    ) -> Gather<'p> {
        let has_axis =
            |axis: &String| found.open(&self.nodes[found.nodes[0].0]).any(|(name, _)| name == axis);
        let shared: Vec<String> =
            axes.iter().map(|(axis, _)| axis).filter(|axis| has_axis(axis)).cloned().collect();
        let mut by_values: HashMap<Vec<String>, Vec<NodeId>> = HashMap::new();
        for id in &found.nodes {
            by_values.entry(values(&self.nodes[id.0].axes, &shared)).or_default().push(*id);
        }
        Gather { slot, field, found, shared, by_values }
    }

    /// The nodes in all slots of the node with these axis values.
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
                    "the value comes from another input or a list of `{name}`; \
                     compare the grids, or name a value here"
                );
                return Err(self.pipeline.diagnostic(found.location, message, Some(hint)));
            };
            let new = nodes.iter().copied().filter(|id| taken.insert((slot, *id)));
            inputs.entry(slot.clone()).or_default().extend(new);
        }
        Ok(inputs.into_iter().collect())
    }

    /// Fills a slot for one node: combines each partial join with each match that agrees with it.
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
        // Indexed by the shared axes: all matches have the same axes, and so do all partial joins.
        let known: HashSet<String> = joined[0].axes.iter().map(|(axis, _)| axis.clone()).collect();
        let shared =
            |axes: &[(String, String)], other: &HashSet<String>| -> BTreeMap<String, String> {
                axes.iter().filter(|(axis, _)| other.contains(axis)).cloned().collect()
            };
        let open_axes: HashSet<String> =
            open(&found.nodes[0]).into_iter().map(|(axis, _)| axis).collect();
        let mut index: HashMap<BTreeMap<String, String>, Vec<NodeId>> = HashMap::new();
        for id in &found.nodes {
            index.entry(shared(&open(id), &known)).or_default().push(*id);
        }
        let partners = |partial: &Joined| {
            index.get(&shared(&partial.axes, &open_axes)).map_or(&[][..], Vec::as_slice)
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
            return Err(self.pipeline.diagnostic(
                stage.location,
                message,
                Some("compare the grids of the stages it uses".into()),
            ));
        }
        Ok(out)
    }

    fn too_many(&self, stage: &StageDecl, location: Option<Location>) -> Diagnostic {
        let message = format!("stage `{}` expands to more than {MAX_NODES} nodes", stage.name);
        self.pipeline.diagnostic(location, message, Some("shorten its lists".into()))
    }

    /// The values of each parameter field, and the number of nodes of the stage.
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
                || field.key == RESOURCES
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
                return Err(self.pipeline.diagnostic(
                    field.value.location,
                    message,
                    Some("list at least one value".into()),
                ));
            }
            axes.push((field, alternatives(&field.value)));
        }
        Ok((axes, count))
    }

    /// The axes and values of a node; those of its inputs come first.
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
                    "stage `{}`: its inputs already have the axis `{}`",
                    stage.name, field.key
                );
                return Err(self.pipeline.diagnostic(
                    field.location,
                    message,
                    Some("give one value, not a list".into()),
                ));
            }
            let (is_own, given) = (is_own(own, field), resolved.full.get(&field.key));
            let text = match (value.as_text(), given) {
                // In names, a value that is passed to a program keeps its text.
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

    /// The field `resources` of a stage.
    fn resources(&self, stage: &StageDecl) -> Result<ResourceFields, Diagnostic> {
        let Some(field) = stage.fields.iter().find(|field| field.key == RESOURCES) else {
            return Ok(ResourceFields::default());
        };
        read(&field.value).map_err(|error: ValueError| self.error(stage, &error.under(RESOURCES)))
    }

    /// Resolves the parameters of a node.
    fn resolve(
        &self,
        stage: &StageDecl,
        kind: &'static dyn Kind,
        combination: &[(&YamlField, &YamlNode)],
        resources: &ResourceFields,
    ) -> Result<Arc<ResolvedStage>, Diagnostic> {
        let own = own(stage, kind);
        let (mut fields, mut params) = (Vec::new(), Vec::new());
        for (field, value) in combination {
            let to = if is_own(own, field) { &mut params } else { &mut fields };
            // Copies single values, since the list that contains them can be long.
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
            let value = YamlNode { location: stage.kind_location, value: Value::Map(params) };
            fields.push(YamlField { key: PARAMS.to_owned(), location: stage.kind_location, value });
        }
        let fields = YamlNode { location: stage.kind_location, value: Value::Map(fields) };
        let mut resolved =
            kind.resolve(&fields, &self.pipeline.invocation).map_err(|mut error| {
                if let Some(name) = error.unknown_field.as_deref().filter(|_| error.path.is_empty())
                {
                    // Unquoted, `{ a: nets@end=a,pair=1 }` is two fields.
                    let quotes = || {
                        name.contains('=')
                            .then(|| "write a reference with a comma in quotes".to_owned())
                    };
                    let slot = nearest(name, kind.slots().iter().map(|slot| slot.name));
                    let near = slot.map(|slot| format!("did you mean `{slot}`?"));
                    error.hint = quotes().or(near).or(error.hint);
                }
                self.error(stage, &error)
            })?;
        full.into_iter().for_each(|(name, value)| _ = resolved.full.entry(name).or_insert(value));
        resolved.resources = resources.apply(resolved.resources);
        Ok(Arc::new(resolved))
    }
}

/// Whether `field` is a parameter that the stage declares.
fn is_own(own: &[YamlField], field: &YamlField) -> bool {
    own.iter().any(|entry| std::ptr::eq(entry, field))
}

/// Whether `field` is a grid axis.
fn is_axis(kind: &dyn Kind, own: &[YamlField], field: &YamlField) -> bool {
    is_grid(&field.value) && (is_own(own, field) || !kind.lists().contains(&field.key.as_str()))
}

#[cfg(test)]
mod tests {
    use crate::engine::spec::plan::Plan;
    use crate::engine::testing::{ENDS, id, plan};

    fn names(yaml: &str) -> Vec<String> {
        plan(yaml).unwrap().nodes.into_iter().map(|node| node.name).collect()
    }

    fn refusal(yaml: &str) -> (String, Option<String>) {
        let diagnostic = plan(yaml).err().unwrap_or_else(|| panic!("accepted: {yaml}"));
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

    #[test]
    fn lists_expand_in_file_order_and_the_last_varies_fastest() {
        assert_eq!(
            names("stages: { s: { source: { width: [2, 1], text: [x, v] } } }"),
            ["s@width=2,text=x", "s@width=2,text=v", "s@width=1,text=x", "s@width=1,text=v"]
        );
    }

    #[test]
    fn a_list_inside_a_mapping_is_a_grid_and_a_single_field_is_not_named() {
        assert_eq!(
            names(
                "stages: { s: { source: { text: x, style: [plain, { framed: { by: [1, 2] } }] } } }"
            ),
            ["s@style=plain", "s@style=framed-1", "s@style=framed-2"]
        );
        assert_eq!(
            names(
                "stages: { s: { source: { \
                 text: x, style: { framed: { by: [1, 2], round: true } } } } }"
            ),
            ["s@style=framed-by-1-round-true", "s@style=framed-by-2-round-true"]
        );
    }

    #[test]
    fn a_list_of_one_value_is_an_axis_and_a_single_value_is_not() {
        assert_eq!(names("stages: { s: { source: { text: x } } }"), ["s"]);
        assert_eq!(names("stages: { s: { source: { text: [x] } } }"), ["s@text=x"]);
    }

    #[test]
    fn axes_of_the_same_name_are_joined_and_fixed_axes_are_not_inherited() {
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
    fn inputs_without_a_common_axis_value_are_an_error() {
        let yaml = "
stages:
  s: { source: { text: x, width: [1, 2] } }
  t: { source: { text: x, width: [3, 4] } }
  p: { pair: { left: s, right: t } }
";
        let (message, hint) = refusal(yaml);
        assert_eq!(message, "test.yaml:5:3: stage `p`: its inputs have no axis values in common");
        assert_eq!(hint.as_deref(), Some("compare the grids of the stages it uses"));
    }

    #[test]
    fn a_slot_for_many_nodes_gathers_each_match_once_and_inherits_no_axis() {
        let plan =
            plan(&format!("{ENDS}  g: {{ gather: {{ all: [p, s@end=a, s@width=1] }} }}")).unwrap();
        let all =
            vec!["p@width=1", "p@width=2", "s@width=1,end=a", "s@width=2,end=a", "s@width=1,end=b"];
        assert_eq!(inputs(&plan, "g"), [("all", all)]);
    }

    #[test]
    fn a_slot_for_many_nodes_gathers_the_nodes_with_the_values_of_its_own_axes() {
        let plan =
            plan(&format!("{ENDS}  g: {{ gather: {{ all: [p, s@width=1], width: [1, 2] }} }}"))
                .unwrap();
        let named = ["s@width=1,end=a", "s@width=1,end=b"];
        assert_eq!(inputs(&plan, "g@width=1"), [("all", vec!["p@width=1", named[0], named[1]])]);
        assert_eq!(inputs(&plan, "g@width=2"), [("all", vec!["p@width=2", named[0], named[1]])]);
        let (message, hint) =
            refusal(&format!("{ENDS}  g: {{ gather: {{ all: p, width: [1, 3] }} }}"));
        assert_eq!(message, "test.yaml:5:23: stage `g`: no instance of `all: p` has `width=3`");
        assert!(hint.is_some_and(|hint| hint.ends_with("compare the grids, or name a value here")));
    }

    #[test]
    fn an_optional_input_may_be_missing_and_a_required_one_may_not() {
        let with =
            plan("stages: { s: { source: { text: x } }, p: { pair: { left: s } } }").unwrap();
        assert_eq!(inputs(&with, "p"), [("left", vec!["s"])]);
        let (message, hint) =
            refusal("stages: { s: { source: { text: x } }, p: { pair: { right: s } } }");
        assert_eq!(message, "test.yaml:1:44: stage `p`: the input `left` is missing");
        assert_eq!(hint.as_deref(), Some("write `left: s`"));
    }

    #[test]
    fn stages_may_be_in_any_order_and_nodes_come_after_their_inputs() {
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
        assert_eq!(message, "test.yaml:4:3: cyclic dependency: a -> c -> b -> a");
        assert_eq!(hint.as_deref(), Some("remove one of these inputs"));
        let (message, _) = refusal("stages: { a: { pair: { left: a } } }");
        assert_eq!(message, "test.yaml:1:11: cyclic dependency: a -> a");
    }

    #[test]
    fn an_unresolvable_stage_is_an_error_with_location_and_hint() {
        let case = |stages: &str, message: &str, hint: Option<&str>| {
            let (actual, help) =
                refusal(&format!("stages:\n  s: {{ source: {{ text: x }} }}\n{stages}"));
            assert_eq!((actual.as_str(), help.as_deref()), (message, hint));
        };
        case(
            "  p: { pear: { left: s } }",
            "test.yaml:3:8: stage `p`: unknown stage kind `pear`",
            Some("did you mean `pair`?"),
        );
        case(
            "  p: { pair: { left: t } }",
            "test.yaml:3:22: stage `p`: `left` names no stage: `t`",
            Some("known: `p`, `s`"),
        );
        case(
            "  p: { pair: { left: s@width=2 } }",
            "test.yaml:3:22: stage `p`: no instance matches `left: s@width=2`",
            Some("known: `s`"),
        );
        case(
            "  p: { pair: { left: [s, s] } }",
            "test.yaml:3:22: stage `p`: `left` must name a stage, not a list",
            Some("write `left: STAGE`, or `left: STAGE@axis=value` for some of its instances"),
        );
        case(
            "  g: { gather: { all: [] } }",
            "test.yaml:3:23: stage `g`: `all` is an empty list",
            Some("name at least one stage"),
        );
        case(
            "  p: { pair: { left: s, rihgt: s } }",
            "test.yaml:3:25: stage `p`: unknown field `rihgt`",
            Some("did you mean `right`?"),
        );
        case(
            "  t: { source: { text: x, width: 0 } }",
            "test.yaml:3:3: stage `t`: `width` must not be zero",
            Some("write a number above zero"),
        );
        case(
            "  t: { source: { text: x, style: { framed: { by: [] } } } }",
            "test.yaml:3:34: stage `t`: the grid `style` is empty",
            Some("list at least one value"),
        );
        case(
            "  t: { source: { text: x, width: [1, 2, 1] } }",
            "test.yaml:3:41: stage `t`: `width` lists the value `1` twice",
            Some("remove one"),
        );
        case(
            "  t: { source: { text: [50, '50'] } }",
            "test.yaml:3:29: stage `t`: `text` lists `50` and `\"50\"`, \
             which have the same text in names",
            Some("remove one"),
        );
        case(
            "  t: { source: { text: x, width: [[50, 50]] } }",
            "test.yaml:3:40: stage `t`: `width` lists the value `50` twice",
            Some("remove one; nested lists are flattened"),
        );
        case(
            "  t: { source: { text: x, width: [1, 2] } }\n  \
             p: { pair: { left: t, width: [1, 2] } }",
            "test.yaml:4:25: stage `p`: its inputs already have the axis `width`",
            Some("give one value, not a list"),
        );
    }

    #[test]
    fn a_grid_of_a_billion_nodes_is_an_error_before_it_is_expanded() {
        let thousand = (1..=1000).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (message, hint) = refusal(&format!(
            "stages: {{ s: {{ source: {{ \
             text: x, width: [{thousand}], ratio: [{thousand}], note: [{thousand}] }} }} }}"
        ));
        assert!(message.ends_with("stage `s` expands to more than 200000 nodes"), "{message}");
        assert_eq!(hint.as_deref(), Some("shorten its lists"));
    }

    #[test]
    fn the_limit_applies_to_the_nodes_of_all_stages_together() {
        let list = |n: u32| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (width, ratio) = (list(400), list(500));
        let (message, _) = refusal(&format!(
            "stages:\n  s: {{ source: {{ text: x }} }}\n  \
             t: {{ source: {{ text: x, width: [{width}], ratio: [{ratio}] }} }}"
        ));
        assert!(
            message.contains("stage `t` expands to 200000 nodes; with it, the plan has more"),
            "{message}"
        );
    }

    #[test]
    fn a_join_of_too_many_nodes_is_an_error_before_it_is_computed() {
        let many = (1..=1001).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (message, _) = refusal(&format!(
            "stages:\n  s: {{ source: {{ text: x, width: [{many}] }} }}\n  \
             t: {{ source: {{ text: x, ratio: [{many}] }} }}\n  \
             p: {{ pair: {{ left: s, right: t }} }}"
        ));
        assert_eq!(message, "test.yaml:4:3: stage `p` expands to more than 200000 nodes");
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
    fn every_kind_can_be_given_resources_and_they_are_not_part_of_the_key() {
        let node = |fields: &str| {
            let yaml = format!("stages: {{ s: {{ source: {{ text: x{fields} }} }} }}");
            plan(&yaml).unwrap().nodes.remove(0)
        };
        let (plain, given) = (node(""), node(", resources: { threads: 2, memory: 1KiB }"));
        assert_eq!(given.name, plain.name);
        assert_eq!(given.resolved.params, plain.resolved.params);
        assert_eq!(given.resolved.resources.threads.map(|n| n.get()), Some(2));
        assert_eq!(given.resolved.resources.memory, 1024);
        let (message, hint) =
            refusal("stages: { s: { source: { text: x, resources: { thread: 2 } } } }");
        assert_eq!(message, "test.yaml:1:48: stage `s`: `resources`: unknown field `thread`");
        assert_eq!(hint.as_deref(), Some("did you mean `threads`?"));
    }
}
