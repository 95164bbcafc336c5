//! The job arrays of a whole plan: which nodes each has, and which arrays it follows.
//!
//! Nodes of one kind, with the same resources and the same depth, are in one array. An array starts
//! after all arrays with nodes upstream have ended, whether or not all their tasks succeeded: a
//! node whose inputs have results can run although another one has failed. Knows no Slurm.

use super::status::{PlanStatus, Status};
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::stage::Resources;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Nodes that can run at the same time, alike enough for one job array.
#[derive(Debug, PartialEq)]
pub struct NodeArray {
    /// The stage kind.
    pub kind: &'static str,
    /// The resources of each node.
    pub resources: Resources,
    /// The nodes.
    pub nodes: Vec<NodeId>,
    /// The average duration of nodes of their stages, if some are cached.
    pub expected: Option<Duration>,
    /// The arrays with nodes upstream, by their index.
    pub after: BTreeSet<usize>,
}

/// The arrays of the nodes that are not cached, inputs first.
pub fn arrays(plan: &Plan, plan_status: &PlanStatus) -> Vec<NodeArray> {
    let is_cached = |id: &NodeId| matches!(plan_status.status.get(id), Some(Status::Cached(_)));
    let mut depths: BTreeMap<NodeId, usize> = BTreeMap::new();
    for &id in plan_status.status.keys().filter(|id| !is_cached(id)) {
        // Ids are in the order of the plan, inputs first.
        let above = plan.node(id).upstream();
        let depth = above.iter().filter_map(|up| depths.get(up)).max().map_or(0, |depth| depth + 1);
        depths.insert(id, depth);
    }
    let mut order: Vec<NodeId> = depths.keys().copied().collect();
    order.sort_by_key(|id| depths[id]);
    let (mut arrays, mut levels): (Vec<NodeArray>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut array_of: BTreeMap<NodeId, usize> = BTreeMap::new();
    for id in order {
        let (kind, resources) = (plan.node(id).kind.name(), &plan.node(id).resolved.resources);
        let is_alike = |at: &usize| {
            let array = &arrays[*at];
            levels[*at] == depths[&id] && array.kind == kind && array.resources == *resources
        };
        let at = (0..arrays.len()).find(is_alike).unwrap_or_else(|| {
            let resources = resources.clone();
            let (nodes, after) = (Vec::new(), BTreeSet::new());
            arrays.push(NodeArray { kind, resources, nodes, expected: None, after });
            levels.push(depths[&id]);
            arrays.len() - 1
        });
        arrays[at].nodes.push(id);
        let above = plan.node(id).upstream();
        arrays[at].after.extend(above.iter().filter_map(|up| array_of.get(up)));
        array_of.insert(id, at);
    }
    for array in &mut arrays {
        array.expected = expected(plan, plan_status, &array.nodes);
    }
    arrays
}

/// The average duration of the cached nodes of the same stages.
fn expected(plan: &Plan, plan_status: &PlanStatus, nodes: &[NodeId]) -> Option<Duration> {
    let stages: BTreeSet<&str> = nodes.iter().map(|id| plan.node(*id).stage.as_str()).collect();
    let seconds: Vec<f64> = plan_status
        .status
        .iter()
        .filter(|(id, _)| stages.contains(plan.node(**id).stage.as_str()))
        .filter_map(|(_, status)| match status {
            Status::Cached(entry) => Some(entry.seconds),
            _ => None,
        })
        .collect();
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    // Not a number without cached nodes.
    Duration::try_from_secs_f64(mean).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::TestSpace;

    const PIPELINE: &str = "
stages:
  s: { source: { text: x } }
  t: { source: { text: v, resources: { threads: 2 } } }
  u: { source: { text: w } }
  p: { pair: { left: s, right: t } }
  q: { pair: { left: u, right: u } }
  g: { gather: { all: [p, s] } }
";

    fn shown(space: &TestSpace, yaml: &str) -> Vec<String> {
        let test_run = space.test_run(yaml);
        let (plan, plan_status) = (test_run.plan.clone(), test_run.plan_status());
        let show = |array: &NodeArray| {
            let names: Vec<&str> =
                array.nodes.iter().map(|id| plan.node(*id).name.as_str()).collect();
            format!("{} after {:?}", names.join(" "), array.after)
        };
        arrays(&plan, &plan_status).iter().map(show).collect()
    }

    #[test]
    fn nodes_of_one_kind_and_depth_with_equal_resources_share_an_array() {
        let expected = ["s u after {}", "t after {}", "p q after {0, 1}", "g after {0, 2}"];
        assert_eq!(shown(&TestSpace::new(), PIPELINE), expected);
    }

    #[test]
    fn cached_nodes_are_in_no_array() {
        let space = TestSpace::new();
        space.run(PIPELINE);
        assert_eq!(shown(&space, PIPELINE), [""; 0]);
        let changed = PIPELINE.replace("text: v", "text: y");
        assert_eq!(shown(&space, &changed), ["t after {}", "p after {0}", "g after {1}"]);
    }
}
