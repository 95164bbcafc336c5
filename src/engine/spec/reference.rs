//! A node of the plan, and how nodes are referred to by name and value.

use super::grid::render;
use crate::engine::located::{ValueError, suggest};
use crate::engine::stage::{Kind, ResolvedStage};
use glob::Pattern;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Index of a node in the plan's nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

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
    pub resolved: Arc<ResolvedStage>,
    /// By slot, in their order: the nodes that fill it. A plan may have very many nodes, and a map is ten times as large.
    pub inputs: Box<[(Cow<'static, str>, Vec<NodeId>)]>,
    /// The grid axes it lies on, own and inherited, with its values as they read in its name.
    pub(crate) axes: Vec<(String, String)>,
}

impl PlanNode {
    /// What it is on an axis, or a parameter is, as that reads in names.
    fn value(&self, name: &str) -> Option<String> {
        let axis = self.axes.iter().find(|(axis, _)| axis == name).map(|(_, value)| value.clone());
        axis.or_else(|| self.resolved.full.get(name).map(render))
    }

    /// The nodes it uses, each once.
    pub fn upstream(&self) -> BTreeSet<NodeId> {
        self.inputs.iter().flat_map(|(_, nodes)| nodes).copied().collect()
    }
}

/// `stage` or `stage@name=value,...`. A value with a comma in it stands in double quotes.
pub(crate) struct Reference {
    pub(crate) stage: String,
    values: Vec<(String, String)>,
}

/// Splits at commas that stand outside double quotes.
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

    /// Whether it names a value of this axis.
    pub(crate) fn fixes(&self, axis: &str) -> bool {
        self.values.iter().any(|(name, _)| name == axis)
    }

    /// The first name among its values that none of `nodes` has, as axis or as parameter, and what they do have.
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

    /// Whether a node of the right stage has the values.
    pub(crate) fn matches(&self, node: &PlanNode) -> bool {
        self.values.iter().all(|(name, value)| node.value(name).is_some_and(|v| v == *value))
    }

    /// Whether stage or kind, and the values, are as the patterns in their places say.
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

/// Whether `target` is a pattern: `*` is any text, `?` any character, `[ab]` one of those.
pub(crate) fn is_pattern(target: &str) -> bool {
    target.contains(['*', '?', '['])
}
