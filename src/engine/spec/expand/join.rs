//! Joins the inputs of a stage on their axes, and gathers the nodes in slots for many.

use super::conditions::Conditions;
use super::slots::Found;
use super::{Builder, MAX_CANDIDATES, MAX_NODES};
use crate::engine::error::Diagnostic;
use crate::engine::spec::pipeline::StageDecl;
use crate::engine::spec::reference::NodeId;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A partial join: its axis values, and the nodes in its slots.
#[derive(Clone, Default)]
pub(super) struct Joined {
    pub(super) axes: Vec<(String, String)>,
    pub(super) inputs: BTreeMap<Cow<'static, str>, Vec<NodeId>>,
}

/// A reference in a slot for many nodes, and the nodes it gathers.
pub(super) struct Gather<'p> {
    found: Found<'p>,
    /// The axes that the nodes of the stage share with the matches.
    shared: Vec<String>,
    /// The matches by their values on these axes.
    by_values: HashMap<Vec<String>, Vec<NodeId>>,
}

/// The values on the axes named in `of`.
fn values<'a>(axes: impl Iterator<Item = (&'a str, &'a str)>, of: &[String]) -> Vec<String> {
    let known: HashMap<&str, &str> = axes.collect();
    of.iter().filter_map(|axis| known.get(axis.as_str()).map(|value| (*value).into())).collect()
}

/// The axes and values of a node.
pub(super) fn pairs(axes: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    axes.iter().map(|(axis, value)| (axis.as_str(), value.as_str()))
}

impl<'p> Builder<'p> {
    /// Fills a slot for one node: combines each partial join with each match that agrees with it,
    /// except those that the conditions leave out.
    pub(super) fn join(
        &self,
        stage: &'p StageDecl,
        found: &Found,
        joined: Vec<Joined>,
        conditions: &Conditions,
    ) -> Result<Vec<Joined>, Diagnostic> {
        let open = |id: &NodeId| found.open(&self.nodes[id.0]);
        // Indexed by the shared axes: all matches have the same axes, and so do all partial joins.
        let known: HashSet<&str> = joined[0].axes.iter().map(|(axis, _)| axis.as_str()).collect();
        let shared: Vec<String> = open(&found.nodes[0])
            .filter(|(axis, _)| known.contains(axis))
            .map(|(axis, _)| axis.to_owned())
            .collect();
        let mut index: HashMap<Vec<String>, Vec<NodeId>> = HashMap::new();
        for id in &found.nodes {
            index.entry(values(open(id), &shared)).or_default().push(*id);
        }
        let partners = |partial: &Joined| {
            index.get(&values(pairs(&partial.axes), &shared)).map_or(&[][..], Vec::as_slice)
        };
        let candidates = joined.iter().map(|partial| partners(partial).len()).sum::<usize>();
        if candidates == 0 {
            return Err(self.nothing_in_common(stage));
        }
        if candidates > if conditions.is_empty() { MAX_NODES } else { MAX_CANDIDATES } {
            return Err(self.too_many(stage, stage.location));
        }
        let mut out = Vec::new();
        for partial in &joined {
            for id in partners(partial) {
                let new = || open(id).filter(|(axis, _)| !known.contains(axis));
                if !conditions.may_hold(|| pairs(&partial.axes).chain(new())) {
                    continue;
                }
                if out.len() == MAX_NODES {
                    return Err(self.too_many(stage, stage.location));
                }
                let mut next = partial.clone();
                next.axes.extend(new().map(|(axis, value)| (axis.to_owned(), value.to_owned())));
                next.inputs.insert(found.slot.clone(), vec![*id]);
                out.push(next);
            }
        }
        if out.is_empty() { Err(self.none_left(stage, conditions)) } else { Ok(out) }
    }

    fn nothing_in_common(&self, stage: &StageDecl) -> Diagnostic {
        let message = format!("stage `{}`: its inputs have no axis values in common", stage.name);
        let hint = format!("compare the grids of the stages it uses{}", self.also_where(stage));
        self.pipeline.diagnostic(stage.location, message, Some(hint))
    }

    /// Indexes the matches of a reference for the nodes of a stage with the axes `axes`.
    pub(super) fn gather<'a>(
        &self,
        found: Found<'p>,
        axes: impl Iterator<Item = &'a str>,
    ) -> Gather<'p> {
        let open = |id: &NodeId| found.open(&self.nodes[id.0]);
        let has_axis = |axis: &&str| open(&found.nodes[0]).any(|(name, _)| name == *axis);
        let shared: Vec<String> = axes.filter(has_axis).map(str::to_owned).collect();
        let mut by_values: HashMap<Vec<String>, Vec<NodeId>> = HashMap::new();
        for id in &found.nodes {
            by_values.entry(values(open(id), &shared)).or_default().push(*id);
        }
        Gather { found, shared, by_values }
    }

    /// The nodes in all slots of the node with these axis values.
    #[expect(clippy::type_complexity, reason = "the type of the field that it is for")]
    pub(super) fn inputs(
        &self,
        stage: &StageDecl,
        joined: &Joined,
        gathers: &[Gather],
        axes: &[(String, String)],
    ) -> Result<Box<[(Cow<'static, str>, Vec<NodeId>)]>, Diagnostic> {
        let mut inputs = joined.inputs.clone();
        // A set: references may overlap.
        let mut taken = HashSet::new();
        for Gather { found, shared, by_values } in gathers {
            let values = values(pairs(axes), shared);
            let Some(nodes) = by_values.get(&values) else {
                let pairs: Vec<String> = shared
                    .iter()
                    .zip(&values)
                    .map(|(axis, value)| format!("`{axis}={value}`"))
                    .collect();
                let (name, field, text) = (&stage.name, found.field, found.text);
                let message = format!(
                    "stage `{name}`: no instance of `{field}: {text}` has {}",
                    pairs.join(", ")
                );
                let hint = format!(
                    "the value comes from another input or a list of `{name}`; \
                     compare the grids{}, or name a value here",
                    self.also_where(stage)
                );
                return Err(self.pipeline.diagnostic(found.location, message, Some(hint)));
            };
            let new = nodes.iter().copied().filter(|id| taken.insert((&found.slot, *id)));
            inputs.entry(found.slot.clone()).or_default().extend(new);
        }
        Ok(inputs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::testing::{ENDS, inputs, names, plan, refusal};

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
    fn a_join_of_too_many_nodes_is_an_error_before_it_is_computed() {
        let many = (1..=1001).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let (message, _) = refusal(&format!(
            "stages:\n  s: {{ source: {{ text: x, width: [{many}] }} }}\n  \
                 t: {{ source: {{ text: x, ratio: [{many}] }} }}\n  \
                 p: {{ pair: {{ left: s, right: t }} }}"
        ));
        assert_eq!(message, "test.yaml:4:3: stage `p` expands to more than 200000 nodes");
    }
}
