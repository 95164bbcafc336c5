//! The two nodes that a stage joins: different ones that agree in all axes but one.

use super::Builder;
use crate::engine::error::Diagnostic;
use crate::engine::spec::pipeline::StageDecl;
use crate::engine::spec::reference::{NodeId, PlanNode};

impl Builder<'_> {
    /// Refuses to join `ends`, a node to itself or two of a stage that differ in several axes.
    /// Nodes of different stages cannot be compared here.
    pub(super) fn check_ends(
        &self,
        stage: &StageDecl,
        node: &str,
        ends: [NodeId; 2],
    ) -> Result<(), Diagnostic> {
        let [a, b] = ends.map(|id| &self.nodes[id.0]);
        let refuse = |message, hint: &str| {
            Err(self.pipeline.diagnostic(stage.location, message, Some(hint.to_owned())))
        };
        if ends[0] == ends[1] {
            let message = format!("stage `{}`: `{node}` joins `{}` to itself", stage.name, a.name);
            let hint = "add `where: a < b`, or `where: a != b` for both directions, with the new \
                        names of the renamed axis";
            return refuse(message, hint);
        }
        let differing = differing(a, b);
        if differing.len() > 1 {
            let message = format!(
                "stage `{}`: `{node}` joins `{}` to `{}`, which differ in {}",
                stage.name,
                a.name,
                b.name,
                differing.join(" and ")
            );
            let hint = "rename one axis only, or use `where` to keep the nodes whose ends differ \
                        in one";
            return refuse(message, hint);
        }
        Ok(())
    }
}

/// The axes of a stage in which two of its nodes differ; none for nodes of two stages.
fn differing(a: &PlanNode, b: &PlanNode) -> Vec<String> {
    let axes = a.axes.iter().filter(|_| a.stage == b.stage);
    axes.filter(|axis| !b.axes.contains(axis)).map(|(axis, _)| format!("`{axis}`")).collect()
}
