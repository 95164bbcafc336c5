//! The slots of a stage, and the references in them.

use super::{Builder, INPUTS};
use crate::engine::error::Diagnostic;
use crate::engine::located::{Location, Value, YamlField, YamlNode};
use crate::engine::spec::pipeline::StageDecl;
use crate::engine::stage::{ALL, Arity, FILES, GATHERED, Kind};
use std::borrow::Cow;

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
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if key == FILES || key.is_empty() || key.len() > 64 || !key.chars().all(fits) {
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

    /// The references in a slot, with their locations.
    pub(super) fn references(
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
            return Err(self.pipeline.diagnostic(
                stage.kind_location,
                message,
                Some(self.suggest_inputs(stage, port)),
            ));
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
                self.pipeline.diagnostic(node.location, message, Some(hint))
            })
        };
        match &written.value {
            Value::List(items) if port.arity.gathers() && !items.is_empty() => {
                items.iter().map(text).collect()
            }
            Value::List(items) if items.is_empty() => {
                let message = format!("stage `{}`: `{name}` is an empty list", stage.name);
                Err(self.pipeline.diagnostic(
                    written.location,
                    message,
                    Some("name at least one stage".into()),
                ))
            }
            _ => Ok(vec![text(written)?]),
        }
    }
}
