//! The slots of a stage, and the references in them.

use super::{Builder, INPUTS, WHERE};
use crate::engine::error::Diagnostic;
use crate::engine::located::{Location, Value, ValueError, YamlField, YamlNode, suggest};
use crate::engine::spec::pipeline::{INPUT_FIELDS, StageDecl};
use crate::engine::spec::reference::{NodeId, PlanNode, Reference};
use crate::engine::stage::{ALL, Arity, FILES, GATHERED, Kind, RenamedInput, belongs};
use std::borrow::Cow;

/// The names of [`INPUT_FIELDS`].
pub(in crate::engine::spec) const STAGE: &str = INPUT_FIELDS[0];
pub(in crate::engine::spec) const RENAME: &str = INPUT_FIELDS[1];

/// A slot of a stage, declared by its kind or under `inputs`.
pub(super) struct Port<'p> {
    /// Its name in the plan and in recipes.
    pub(super) name: Cow<'static, str>,
    /// Its field in pipeline.yaml.
    pub(super) field: &'p str,
    pub(super) arity: Arity,
    pub(super) files: &'static [&'static str],
    pub(super) written: Option<&'p YamlNode>,
}

/// An input as written: a reference, or `{ stage: REFERENCE, rename: { axis: name } }`.
pub(super) struct Written<'p> {
    pub(super) text: &'p str,
    pub(super) location: Option<Location>,
    /// The new name of each renamed axis, a text.
    pub(super) renames: &'p [YamlField],
}

impl<'p> Written<'p> {
    /// Reads an input in the slot `slot`.
    fn read(node: &'p YamlNode, slot: &str) -> Result<Written<'p>, ValueError> {
        if let Some(text) = node.as_text() {
            return Ok(Written { text, location: node.location, renames: &[] });
        }
        let Some(fields) = node.as_map() else {
            let message = format!("`{slot}` must name a stage, not {}", node.kind());
            let hint = format!(
                "write `{slot}: STAGE`, or `{slot}: STAGE@axis=value` for some of its instances"
            );
            return Err(ValueError::at(node.location, message, Some(hint)));
        };
        if let Some(field) = fields.iter().find(|field| !INPUT_FIELDS.contains(&field.key.as_str()))
        {
            let message = format!("unknown field `{}`", field.key);
            let error = ValueError::at(field.location, message, suggest(&field.key, INPUT_FIELDS));
            return Err(error.under(slot));
        }
        let field = |name: &str| fields.iter().find(|field| field.key == name);
        let Some(stage) = field(STAGE) else {
            let message = format!("the field `{STAGE}` is missing");
            let hint = format!("write `{slot}: {{ {STAGE}: NAME, {RENAME}: {{ axis: name }} }}`");
            return Err(ValueError::at(node.location, message, Some(hint)).under(slot));
        };
        let Some(text) = stage.value.as_text() else {
            let message = format!("`{STAGE}` must name a stage, not {}", stage.value.kind());
            let hint = format!("write `{STAGE}: NAME` or `{STAGE}: NAME@axis=value`");
            return Err(ValueError::at(stage.value.location, message, Some(hint)).under(slot));
        };
        let renames = match field(RENAME) {
            None => &[],
            Some(field) => {
                new_names(&field.value).map_err(|error| error.under(RENAME).under(slot))?
            }
        };
        Ok(Written { text, location: stage.value.location, renames })
    }
}

/// Reads the field `rename`.
fn new_names(node: &YamlNode) -> Result<&[YamlField], ValueError> {
    let hint = || Some(format!("write `{RENAME}: {{ axis: name }}`"));
    let Some(fields) = node.as_map() else {
        let message = format!("expected a mapping of axes to new names, found {}", node.kind());
        return Err(ValueError::at(node.location, message, hint()));
    };
    if fields.is_empty() {
        return Err(ValueError::at(node.location, "no axis is renamed", hint()));
    }
    for YamlField { key, value, .. } in fields {
        let Some(name) = value.as_text() else {
            let message = format!("expected a new name of `{key}`, found {}", value.kind());
            return Err(ValueError::at(value.location, message, hint()));
        };
        if !is_name(name) {
            let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
            let message = format!("`{shown}` cannot be the name of an axis");
            let hint = "a name is 1 to 64 letters, digits, `-` and `_`".to_owned();
            return Err(ValueError::at(value.location, message, Some(hint)));
        }
    }
    Ok(fields)
}

/// Whether `text` can be the name of an input or of an axis.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=64).contains(&text.len()) && text.chars().all(fits)
}

/// The nodes that match a reference in a slot. There is at least one.
pub(super) struct Found<'p> {
    /// The name of the slot in the plan and in recipes.
    pub(super) slot: Cow<'static, str>,
    /// The field of the slot in pipeline.yaml.
    pub(super) field: &'p str,
    pub(super) text: &'p str,
    pub(super) location: Option<Location>,
    pub(super) reference: Reference,
    renames: &'p [YamlField],
    pub(super) nodes: Vec<NodeId>,
}

impl Found<'_> {
    /// The name of an axis of the nodes in the stage that uses them.
    pub(super) fn renamed<'n>(&'n self, axis: &'n str) -> &'n str {
        let field = self.renames.iter().find(|field| field.key == axis);
        field.and_then(|field| field.value.as_text()).unwrap_or(axis)
    }

    /// The axes that the reference does not fix, by their new names, with the values of `node`, one
    /// of the matches.
    pub(super) fn open<'n>(
        &'n self,
        node: &'n PlanNode,
    ) -> impl Iterator<Item = (&'n str, &'n str)> {
        let open = node.axes.iter().filter(|(axis, _)| !self.reference.fixes(axis));
        open.map(|(axis, value)| (self.renamed(axis), value.as_str()))
    }

    /// The renamed input, if an axis is renamed.
    pub(super) fn renamed_input(&self) -> Option<RenamedInput> {
        let rename = self
            .renames
            .iter()
            .map(|field| (field.key.clone(), field.value.as_text().unwrap_or_default().to_owned()));
        let renamed = RenamedInput { stage: self.text.to_owned(), rename: rename.collect() };
        (!self.renames.is_empty()).then_some(renamed)
    }
}

impl<'p> Builder<'p> {
    /// The slots of a stage, with their values in pipeline.yaml.
    pub(super) fn ports(
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
            return Err(self.pipeline.diagnostic(
                inputs.location,
                message,
                Some(format!("write `{INPUTS}: {{ name: STAGE }}`")),
            ));
        };
        for YamlField { key, location, value } in entries {
            if key == FILES || !is_name(key) {
                let shown: String = key.chars().take(40).flat_map(char::escape_default).collect();
                let message =
                    format!("stage `{}`: `{shown}` cannot be the name of an input", stage.name);
                let hint =
                    format!("a name is 1 to 64 letters, digits, `-` and `_`, and not `{FILES}`");
                return Err(self.pipeline.diagnostic(*location, message, Some(hint)));
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

    /// The hint for a missing input: the stages that can fill the slot `port` of `user`.
    pub(super) fn suggest_inputs(&self, user: &StageDecl, port: &Port) -> String {
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
        format!("add a stage of kind {}", kinds.join(" or "))
    }

    /// The inputs in a slot.
    pub(super) fn written(
        &self,
        stage: &'p StageDecl,
        port: &Port<'p>,
    ) -> Result<Vec<Written<'p>>, Diagnostic> {
        let name = port.field;
        let Some(written) = port.written else {
            if port.arity.may_be_empty() {
                return Ok(Vec::new());
            }
            let message = format!("stage `{}`: the input `{name}` is missing", stage.name);
            return Err(self.pipeline.diagnostic(
                stage.kind_location,
                message,
                Some(self.suggest_inputs(stage, port)),
            ));
        };
        let read = |node| Written::read(node, name).map_err(|error| self.error(stage, &error));
        match &written.value {
            Value::List(items) if port.arity.gathers() && !items.is_empty() => {
                items.iter().map(read).collect()
            }
            Value::List(items) if items.is_empty() => {
                let message = format!("stage `{}`: `{name}` is an empty list", stage.name);
                Err(self.pipeline.diagnostic(
                    written.location,
                    message,
                    Some("name at least one stage".into()),
                ))
            }
            _ => Ok(vec![read(written)?]),
        }
    }

    /// The nodes that match each reference in a slot.
    pub(super) fn find(
        &self,
        stage: &'p StageDecl,
        port: &Port<'p>,
    ) -> Result<Vec<Found<'p>>, Diagnostic> {
        let mut all = Vec::new();
        for Written { text, location, renames } in self.written(stage, port)? {
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
                let mut hint = suggest(text, names);
                if let Some(hint) = hint.as_mut().filter(|_| self.is_filtered(&reference.stage)) {
                    *hint += &format!(" `{}` has the field `{WHERE}`", reference.stage);
                }
                return Err(self.pipeline.diagnostic(location, message, hint));
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
            let found = Found {
                slot: port.name.clone(),
                field: port.field,
                text,
                location,
                reference,
                renames,
                nodes,
            };
            self.check_renames(&found)
                .map_err(|error| self.error(stage, &error.under(RENAME).under(port.field)))?;
            all.push(found);
        }
        Ok(all)
    }

    /// Checks the new names of axes.
    fn check_renames(&self, found: &Found) -> Result<(), ValueError> {
        let text = found.text;
        let axes = &self.nodes[found.nodes[0].0].axes;
        let has = |name: &str| axes.iter().any(|(axis, _)| axis == name);
        for (i, YamlField { key: axis, location, value }) in found.renames.iter().enumerate() {
            if !has(axis) {
                let known = axes.iter().map(|(axis, _)| axis.as_str());
                let none =
                    || Some(format!("`{text}` has no axes; only a list of values is an axis"));
                let hint = suggest(axis, known).or_else(none);
                let message = format!("`{text}` has no axis `{axis}`");
                return Err(ValueError::at(*location, message, hint));
            }
            if found.reference.fixes(axis) {
                let message = format!("`{text}` has one value of `{axis}`, so it is no axis here");
                let hint = format!("remove `{axis}` from the reference or from `{RENAME}`");
                return Err(ValueError::at(*location, message, Some(hint)));
            }
            let name = found.renamed(axis);
            if name == axis {
                let message = format!("`{axis}` is renamed to its own name");
                let hint = "remove it, or write another name".to_owned();
                return Err(ValueError::at(value.location, message, Some(hint)));
            }
            if found.renames[..i].iter().any(|other| found.renamed(&other.key) == name) {
                let message = format!("two axes are renamed to `{name}`");
                let hint = "write another name for one of them".to_owned();
                return Err(ValueError::at(value.location, message, Some(hint)));
            }
            if has(name) && !found.renames.iter().any(|other| other.key == name) {
                let message = format!("`{text}` already has the axis `{name}`");
                let hint = format!("write another name, or rename `{name}` as well");
                return Err(ValueError::at(value.location, message, Some(hint)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::key::{Artifact, Digest, Key};
    use crate::engine::spec::plan::NodeId;
    use crate::engine::testing::{inputs, plan, refusal};

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

    /// Two axes; `p` has all pairs of the values of one, which it renames.
    const CROSSED: &str = "
stages:
  s: { source: { text: [x, v], width: [1, 2] } }
  p:
    pair:
      left: { stage: s, rename: { width: a } }
      right: { stage: s, rename: { width: b } }
";

    #[test]
    fn inputs_from_one_stage_are_crossed_on_a_renamed_axis_and_joined_on_the_others() {
        let plan = plan(CROSSED).unwrap();
        let names: Vec<&str> = plan.nodes[4..].iter().map(|node| node.name.as_str()).collect();
        let of = |text: &str| {
            [[1, 1], [1, 2], [2, 1], [2, 2]].map(|[a, b]| format!("p@text={text},a={a},b={b}"))
        };
        assert_eq!(names, [of("x"), of("v")].concat());
        assert_eq!(
            inputs(&plan, "p@text=v,a=2,b=1"),
            [("left", vec!["s@text=v,width=2"]), ("right", vec!["s@text=v,width=1"])]
        );
    }

    #[test]
    fn references_and_targets_use_the_new_name_of_an_axis() {
        let yaml = format!("{CROSSED}  q: {{ pair: {{ left: 'p@a=1,b=2' }} }}\n");
        let plan = plan(&yaml).unwrap();
        assert_eq!(inputs(&plan, "q@text=x"), [("left", vec!["p@text=x,a=1,b=2"])]);
        let select = |target: &str| plan.select(target).unwrap().len();
        assert_eq!([select("p@a=1,b=2"), select("p@b=1"), select("p@*a=?,b=2")], [2, 4, 4]);
        let (message, hint) =
            refusal(&format!("{CROSSED}  q: {{ pair: {{ left: p@width=1 }} }}\n"));
        assert!(message.ends_with("no instance matches `left: p@width=1`"), "{message}");
        assert!(hint.is_some());
    }

    #[test]
    fn a_gathering_slot_gathers_the_nodes_with_the_values_of_the_renamed_axis() {
        let yaml = "
stages:
  s: { source: { text: x, ratio: [1, 2], end: [a, b] } }
  t: { source: { text: y } }
  g: { gather: { all: [t, { stage: s, rename: { ratio: width } }], width: [1, 2] } }
";
        let plan = plan(yaml).unwrap();
        let with =
            |n: u8| vec!["t".into(), format!("s@ratio={n},end=a"), format!("s@ratio={n},end=b")];
        for n in [1, 2] {
            let name = format!("g@width={n}");
            assert_eq!(inputs(&plan, &name)[0].1, with(n));
        }
    }

    #[test]
    fn an_optional_input_can_be_renamed_and_a_chain_of_renames_keeps_the_last_name() {
        let yaml = "
stages:
  s: { source: { text: x, width: [1, 2] } }
  p: { pair: { left: { stage: s }, right: { stage: s, rename: { width: a } } } }
  q: { pair: { left: { stage: p, rename: { a: width, width: a } } } }
  r: { pair: { left: q@width=1, right: { stage: s, rename: { width: a } } } }
";
        let plan = plan(yaml).unwrap();
        let right = |name| inputs(&plan, name).last().unwrap().1[0].to_owned();
        assert_eq!(right("p@width=1,a=2"), "s@width=2");
        // The axes of `p`, exchanged.
        assert_eq!(right("q@a=1,width=2"), "p@width=1,a=2");
        assert_eq!(right("r@a=2"), "s@width=2");
    }

    #[test]
    fn new_names_of_axes_change_no_key() {
        let keys = |names: [&str; 2]| {
            let yaml = CROSSED.replace("width: a", &format!("width: {}", names[0]));
            let yaml = yaml.replace("width: b", &format!("width: {}", names[1]));
            let plan = plan(&yaml).unwrap();
            let artifact = |id: NodeId| {
                Artifact::from([("text".to_owned(), Digest::of(&id.0.to_le_bytes()).into())])
            };
            let artifacts: Vec<Artifact> = plan.ids().map(artifact).collect();
            let key = |id| plan.recipe(id, |_| false, |up| &artifacts[up.0]).unwrap().key();
            plan.ids().map(key).collect::<Vec<Key>>()
        };
        assert_eq!(keys(["a", "b"]), keys(["one", "2"]));
    }

    #[test]
    fn an_invalid_rename_is_an_error_with_location_and_hint() {
        let case = |left: &str, message: &str, hint: &str| {
            let (actual, help) = refusal(&format!(
                "stages:\n  s: {{ source: {{ text: x, width: [1, 2], end: [a, b] }} }}\n  \
                 one: {{ source: {{ text: x }} }}\n  p: {{ pair: {{ left: {left} }} }}"
            ));
            let expected = (format!("test.yaml:4:{message}"), Some(hint));
            assert_eq!((actual, help.as_deref()), expected, "{left}");
        };
        let form = "write `rename: { axis: name }`";
        let name = "a name is 1 to 64 letters, digits, `-` and `_`";
        case(
            "{ stage: s, rename: { widht: a } }",
            "44: stage `p`: `left.rename`: `s` has no axis `widht`",
            "did you mean `width`?",
        );
        case(
            "{ stage: one, rename: { width: a } }",
            "46: stage `p`: `left.rename`: `one` has no axis `width`",
            "`one` has no axes; only a list of values is an axis",
        );
        case(
            "{ stage: s@width=1, rename: { width: a } }",
            "52: stage `p`: `left.rename`: `s@width=1` has one value of `width`, so it is no axis \
             here",
            "remove `width` from the reference or from `rename`",
        );
        case(
            "{ stage: s, rename: { width: end } }",
            "51: stage `p`: `left.rename`: `s` already has the axis `end`",
            "write another name, or rename `end` as well",
        );
        case(
            "{ stage: s@end=a, rename: { width: end } }",
            "57: stage `p`: `left.rename`: `s@end=a` already has the axis `end`",
            "write another name, or rename `end` as well",
        );
        case(
            "{ stage: s, rename: { width: width } }",
            "51: stage `p`: `left.rename`: `width` is renamed to its own name",
            "remove it, or write another name",
        );
        case(
            "{ stage: s, rename: { width: a, end: a } }",
            "59: stage `p`: `left.rename`: two axes are renamed to `a`",
            "write another name for one of them",
        );
        case(
            "{ stage: s, rename: { width: 'a<b' } }",
            "51: stage `p`: `left.rename`: `a<b` cannot be the name of an axis",
            name,
        );
        case(
            "{ stage: s, rename: { width: '' } }",
            "51: stage `p`: `left.rename`: `` cannot be the name of an axis",
            name,
        );
        case(
            "{ stage: s, rename: { width: [a, b] } }",
            "51: stage `p`: `left.rename`: expected a new name of `width`, found a list",
            form,
        );
        case("{ stage: s, rename: {} }", "42: stage `p`: `left.rename`: no axis is renamed", form);
        case(
            "{ stage: s, rename: width }",
            "42: stage `p`: `left.rename`: expected a mapping of axes to new names, found `width`",
            form,
        );
        case(
            "{ rename: { width: a } }",
            "22: stage `p`: `left`: the field `stage` is missing",
            "write `left: { stage: NAME, rename: { axis: name } }`",
        );
        case(
            "{ stage: s, renane: { width: a } }",
            "34: stage `p`: `left`: unknown field `renane`",
            "did you mean `rename`?",
        );
        case(
            "{ stage: [s], rename: { width: a } }",
            "31: stage `p`: `left`: `stage` must name a stage, not a list",
            "write `stage: NAME` or `stage: NAME@axis=value`",
        );
        case(
            "{ stage: t, rename: { width: a } }",
            "31: stage `p`: `left` names no stage: `t`",
            "known: `one`, `p`, `s`",
        );
    }
}
