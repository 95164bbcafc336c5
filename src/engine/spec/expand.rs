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
//! An input `{ stage: REFERENCE, rename: { axis: name } }` gives axes new names, which are the only
//! ones that the stage sees: two inputs from one stage are crossed instead of joined on a renamed
//! axis. The field `where` of a stage keeps some of its nodes.
//!
//! A stage of an open kind declares slots under `inputs`, where a single reference is a slot for
//! one node and a list is a slot for many, and parameters under `params`, each of which can be an
//! axis.

mod axes;
mod conditions;
mod ends;
mod join;
mod order;
mod slots;
use self::axes::{Axis, Grid, OwnAxes, is_declared};
use self::conditions::Conditions;
pub(super) use self::conditions::{KEEP, LEAVE_OUT, WHERE};
use self::join::{Gather, Joined, pairs};
pub(super) use self::slots::{RENAME, STAGE};
use super::grid::repeated;
use super::pipeline::{Pipeline, StageDecl};
use super::reference::{NodeId, PlanNode};
use crate::engine::error::Diagnostic;
use crate::engine::located::{
    Location, Value, ValueError, YamlField, YamlNode, nearest, read, suggest,
};
use crate::engine::resources::{RESOURCES, ResourceFields};
use crate::engine::stage::{Kind, RenamedInput, ResolvedStage};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The largest number of nodes. A larger plan is considered a mistake.
pub(crate) const MAX_NODES: usize = 200_000;

/// The largest number of combinations of values from which `where` keeps some.
const MAX_CANDIDATES: usize = 10 * MAX_NODES;

/// The field of an open kind that declares slots.
const INPUTS: &str = "inputs";

/// The field of an open kind that declares parameters.
pub(super) const PARAMS: &str = "params";

/// The nodes of a pipeline.
pub(super) struct Expanded {
    /// The nodes; inputs come before their users.
    pub(super) nodes: Vec<PlanNode>,
    /// What the nodes of a stage are selected by, for each stage that says so.
    pub(super) selections: BTreeMap<String, Selection>,
}

/// The renamed inputs and the conditions of a stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selection {
    /// By slot, as in pipeline.yaml.
    pub(super) renamed: BTreeMap<String, Vec<RenamedInput>>,
    /// The conditions in the form of pipeline.yaml, sorted.
    pub(super) conditions: Vec<Json>,
}

/// The nodes of `pipeline`, whose profile has been applied.
pub(super) fn expand(
    pipeline: &Pipeline,
    kinds: &[&'static dyn Kind],
) -> Result<Expanded, Diagnostic> {
    let mut builder = Builder {
        pipeline,
        kinds,
        nodes: Vec::new(),
        instances: HashMap::new(),
        axes: HashMap::new(),
        uses: HashMap::new(),
        selections: BTreeMap::new(),
    };
    let kinds = builder.kinds(kinds)?;
    for i in builder.order(&kinds)? {
        builder.expand(&pipeline.stages[i], kinds[i])?;
    }
    Ok(Expanded { nodes: builder.nodes, selections: builder.selections })
}

struct Builder<'p> {
    pipeline: &'p Pipeline,
    kinds: &'p [&'static dyn Kind],
    nodes: Vec<PlanNode>,
    instances: HashMap<&'p str, Vec<NodeId>>,
    /// The axes of each stage.
    axes: HashMap<&'p str, Vec<Axis>>,
    /// The stages in the slots of each stage.
    uses: HashMap<&'p str, Vec<String>>,
    selections: BTreeMap<String, Selection>,
}

/// The parameters of combinations of values, by index.
type ResolvedStages = HashMap<usize, Result<Arc<ResolvedStage>, Diagnostic>>;

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
        let (mut single, mut gathering) = (Vec::new(), Vec::new());
        for port in self.ports(stage, kind)? {
            let found = self.find(stage, &port)?;
            if port.arity.gathers() { &mut gathering } else { &mut single }.extend(found);
        }
        let used = single.iter().chain(&gathering);
        self.uses.insert(&stage.name, used.map(|found| found.reference.stage.clone()).collect());
        let resources = self.resources(stage)?;
        let grid = self.grid(stage, kind)?;
        let mut resolved = ResolvedStages::new();
        let mut resolve = |builder: &Self, index| {
            let new = || builder.resolve(stage, kind, &grid, index, &resources);
            resolved.entry(index).or_insert_with(new).clone()
        };
        let own = OwnAxes::new(&grid, |index| resolve(self, index).ok());
        let axes = self.axes_of(stage, &single, &grid, &own)?;
        let conditions = self.conditions(stage, &axes)?;
        let mut selection = Selection { conditions: conditions.to_json(), ..Selection::default() };
        for found in single.iter().chain(&gathering) {
            if let Some(renamed) = found.renamed_input() {
                selection.renamed.entry(found.field.to_owned()).or_default().push(renamed);
            }
        }
        selection.renamed.values_mut().for_each(|renamed| renamed.sort());
        let is_renamed = !selection.renamed.is_empty();
        if selection != Selection::default() {
            self.selections.insert(stage.name.clone(), selection);
        }
        let mut joined = vec![Joined::default()];
        for found in &single {
            joined = self.join(stage, found, joined, &conditions)?;
        }
        let chosen = self.choose(stage, &grid, &own, &joined, &conditions)?;
        // Nodes that differ only in their inputs share the result.
        let mut used: Vec<usize> = chosen.iter().map(|(_, index)| *index).collect();
        used.sort_unstable();
        used.dedup();
        used.into_iter().try_for_each(|index| resolve(self, index).map(drop))?;
        let names = axes.iter().map(|axis| axis.name.as_str());
        let gathers: Vec<Gather> =
            gathering.into_iter().map(|found| self.gather(found, names.clone())).collect();
        let first = self.nodes.len();
        let mut names = HashSet::new();
        for (joined, index) in chosen {
            let resolved = resolve(self, index)?;
            let mut values = joined.axes.clone();
            let own = own.values(index).into_iter();
            values.extend(own.map(|(axis, value)| (axis.to_owned(), value.to_owned())));
            let texts: Vec<String> =
                values.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
            let name = if texts.is_empty() {
                stage.name.clone()
            } else {
                format!("{}@{}", stage.name, texts.join(","))
            };
            if !names.insert(name.clone()) {
                return Err(self.repeated_name(stage, &grid.fields, &name));
            }
            let end = |slot: &str| joined.inputs.get(slot).and_then(|nodes| nodes.first().copied());
            if let Some([a, b]) = kind.ends().filter(|_| is_renamed)
                && let (Some(a), Some(b)) = (end(a), end(b))
            {
                self.check_ends(stage, &name, [a, b])?;
            }
            self.nodes.push(PlanNode {
                name,
                stage: stage.name.clone(),
                kind,
                resolved,
                inputs: self.inputs(stage, joined, &gathers, &values)?,
                axes: values,
            });
        }
        self.instances.insert(&stage.name, (first..self.nodes.len()).map(NodeId).collect());
        self.axes.insert(&stage.name, axes);
        Ok(())
    }

    /// The nodes that the conditions keep: a join of inputs, and the index of a combination of
    /// values of the grid.
    fn choose<'j>(
        &self,
        stage: &StageDecl,
        grid: &Grid,
        own: &OwnAxes,
        joined: &'j [Joined],
        conditions: &Conditions,
    ) -> Result<Vec<(&'j Joined, usize)>, Diagnostic> {
        let most = if conditions.is_empty() { MAX_NODES } else { MAX_CANDIDATES };
        if joined.len().checked_mul(grid.len()).is_none_or(|count| count > most) {
            return Err(self.too_many(stage, stage.location));
        }
        let may_hold = |joined: &Joined, index| {
            let values = if conditions.is_empty() { Vec::new() } else { own.values(index) };
            conditions.may_hold(|| pairs(&joined.axes).chain(values.iter().copied()))
        };
        let nothing = Joined::default();
        let possible: Vec<usize> =
            (0..grid.len()).filter(|index| may_hold(&nothing, *index)).collect();
        let mut chosen = Vec::new();
        for joined in joined {
            for &index in &possible {
                if !may_hold(joined, index) {
                    continue;
                }
                if chosen.len() == MAX_NODES {
                    return Err(self.too_many(stage, stage.location));
                }
                chosen.push((joined, index));
            }
        }
        if chosen.is_empty() {
            return Err(self.none_left(stage, conditions));
        }
        if self.nodes.len() + chosen.len() > MAX_NODES {
            let message = format!(
                "stage `{}` expands to {} nodes; with it, the plan has more than {MAX_NODES}",
                stage.name,
                chosen.len()
            );
            let hint = Some("shorten its lists".into());
            return Err(self.pipeline.diagnostic(stage.location, message, hint));
        }
        Ok(chosen)
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

    fn too_many(&self, stage: &StageDecl, location: Option<Location>) -> Diagnostic {
        let message = format!("stage `{}` expands to more than {MAX_NODES} nodes", stage.name);
        self.pipeline.diagnostic(location, message, Some("shorten its lists".into()))
    }

    /// The field `resources` of a stage.
    fn resources(&self, stage: &StageDecl) -> Result<ResourceFields, Diagnostic> {
        let Some(field) = stage.fields.iter().find(|field| field.key == RESOURCES) else {
            return Ok(ResourceFields::default());
        };
        read(&field.value).map_err(|error: ValueError| self.error(stage, &error.under(RESOURCES)))
    }

    /// Resolves the parameters of the nodes with a combination of values.
    fn resolve(
        &self,
        stage: &StageDecl,
        kind: &'static dyn Kind,
        grid: &Grid,
        index: usize,
        resources: &ResourceFields,
    ) -> Result<Arc<ResolvedStage>, Diagnostic> {
        let (mut fields, mut params) = (Vec::new(), Vec::new());
        for (field, value) in grid.combination(index) {
            let to = if is_declared(grid.declared, field) { &mut params } else { &mut fields };
            // Copies single values, since the list that contains them can be long.
            to.push(YamlField {
                key: field.key.clone(),
                location: field.location,
                value: value.clone(),
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
        let is_filled = |name: &&str| stage.fields.iter().any(|field| field.key == *name);
        let filled: Vec<&str> =
            kind.slots().iter().map(|slot| slot.name).filter(is_filled).collect();
        kind.check_slots(&fields, &filled).map_err(|error| self.error(stage, &error))?;
        full.into_iter().for_each(|(name, value)| _ = resolved.full.entry(name).or_insert(value));
        resolved.resources = resources.apply(resolved.resources);
        Ok(Arc::new(resolved))
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::{plan, refusal};

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
