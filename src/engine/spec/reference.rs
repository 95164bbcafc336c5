//! Nodes of the plan, and references to them by name and value.

use super::grid::render;
use crate::engine::key::Artifact;
use crate::engine::located::{ValueError, suggest};
use crate::engine::stage::{ALL, Kind, ResolvedStage, belongs};
use glob::Pattern;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Index of a node in the plan's nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// A node of the plan: a recipe without the digests of its inputs.
#[derive(Clone)]
pub struct PlanNode {
    /// `stage@axis=value,...`.
    pub name: String,
    /// The name of the stage.
    pub stage: String,
    /// The stage kind.
    pub kind: &'static dyn Kind,
    /// The parameters, and everything that follows from them.
    pub resolved: Arc<ResolvedStage>,
    /// The nodes in each slot, sorted by slot. A plan can have very many nodes, and a map would be
    /// ten times as large.
    pub inputs: Box<[(Cow<'static, str>, Vec<NodeId>)]>,
    /// The node's value on each grid axis, own and inherited, as text in its name.
    pub(crate) axes: Vec<(String, String)>,
}

impl PlanNode {
    /// The value on an axis, or of a parameter, as text in names.
    fn value(&self, name: &str) -> Option<String> {
        let axis = self.axes.iter().find(|(axis, _)| axis == name).map(|(_, value)| value.clone());
        axis.or_else(|| self.resolved.full.get(name).map(render))
    }

    /// The files of `artifact` that the node uses in a slot.
    pub fn in_slot(&self, slot: &str, artifact: &Artifact) -> Artifact {
        let declared = self.kind.slots().iter().find(|declared| declared.name == slot);
        let files = declared.map_or(ALL, |slot| slot.files);
        let is_used = |file: &str| files.iter().any(|declared| belongs(file, declared));
        let used = artifact.iter().filter(|(file, _)| is_used(file));
        used.map(|(file, content)| (file.clone(), *content)).collect()
    }

    /// The nodes in its slots.
    pub fn upstream(&self) -> BTreeSet<NodeId> {
        self.inputs.iter().flat_map(|(_, nodes)| nodes).copied().collect()
    }
}

/// A reference `stage` or `stage@name=value,...`. A value with a comma is in double quotes.
pub(crate) struct Reference {
    pub(crate) stage: String,
    values: Vec<(String, String)>,
}

/// Splits at commas outside double quotes.
fn split(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(|c: char| {
        inside ^= c == '"';
        c == ',' && !inside
    })
    .collect()
}

impl Reference {
    pub(crate) fn parse(text: &str) -> Result<Reference, ValueError> {
        let (stage, rest) = text.split_once('@').unwrap_or((text, ""));
        let mut values = Vec::new();
        for pair in split(rest).into_iter().filter(|pair| !pair.is_empty()) {
            let refuse = || {
                let hint = "write `stage@name=value,name=value`".to_owned();
                ValueError::at(
                    None,
                    format!("`{pair}` in `{text}` is not `name=value`"),
                    Some(hint),
                )
            };
            let (name, value) = pair.split_once('=').ok_or_else(refuse)?;
            let value =
                value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            values.push((name.to_owned(), value.to_owned()));
        }
        Ok(Reference { stage: stage.to_owned(), values })
    }

    /// Whether the reference names a value of `axis`.
    pub(crate) fn fixes(&self, axis: &str) -> bool {
        self.values.iter().any(|(name, _)| name == axis)
    }

    /// An error for the first name that is neither an axis nor a parameter of any of `nodes`.
    pub(crate) fn unknown<'n>(
        &self,
        nodes: impl Iterator<Item = &'n PlanNode> + Clone,
    ) -> Option<ValueError> {
        let has = |node: &PlanNode, name: &str| {
            node.axes.iter().any(|(axis, _)| axis == name) || node.resolved.full.contains_key(name)
        };
        let (name, _) =
            self.values.iter().find(|(name, _)| !nodes.clone().any(|node| has(node, name)))?;
        let known: BTreeSet<&str> = nodes
            .flat_map(|node| {
                node.axes
                    .iter()
                    .map(|(axis, _)| axis.as_str())
                    .chain(node.resolved.full.keys().map(String::as_str))
            })
            .collect();
        Some(ValueError::at(
            None,
            format!("`{}` has no `{name}`", self.stage),
            suggest(name, known),
        ))
    }

    /// Whether a node of the stage has the values.
    pub(crate) fn matches(&self, node: &PlanNode) -> bool {
        self.values.iter().all(|(name, value)| node.value(name).is_some_and(|v| v == *value))
    }

    /// Whether the node's stage or kind, and its values, match the reference as patterns.
    pub(crate) fn fits(&self, node: &PlanNode) -> bool {
        let fits = |pattern: &str, text: &str| {
            Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text))
        };
        (fits(&self.stage, &node.stage) || fits(&self.stage, node.kind.name()))
            && self
                .values
                .iter()
                .all(|(name, value)| node.value(name).is_some_and(|v| fits(value, &v)))
    }
}

/// Whether `target` is a pattern: `*` matches any text, `?` any character, `[ab]` one of the two.
pub(crate) fn is_pattern(target: &str) -> bool {
    target.contains(['*', '?', '['])
}
