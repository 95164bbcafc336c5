//! The order of stages: each comes after the stages it refers to.

use super::Builder;
use super::slots::Written;
use crate::engine::error::Diagnostic;
use crate::engine::located::suggest;
use crate::engine::spec::reference::Reference;
use crate::engine::stage::Kind;
use std::collections::{BTreeSet, HashMap};

impl Builder<'_> {
    /// Sorts stages so that each comes after the stages it refers to. Fails on cycles and unknown
    /// names.
    pub(super) fn order(&self, kinds: &[&'static dyn Kind]) -> Result<Vec<usize>, Diagnostic> {
        let stages = &self.pipeline.stages;
        let index: HashMap<&str, usize> =
            stages.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
        let mut uses: Vec<Vec<usize>> = Vec::new();
        for (stage, kind) in stages.iter().zip(kinds) {
            let mut used = Vec::new();
            for port in self.ports(stage, *kind)? {
                for Written { text, location, .. } in self.written(stage, &port)? {
                    let name = Reference::parse(text).map_err(|m| self.error(stage, &m))?.stage;
                    let Some(&target) = index.get(name.as_str()) else {
                        let message = format!(
                            "stage `{}`: `{}` names no stage: `{name}`",
                            stage.name, port.field
                        );
                        return Err(self.pipeline.diagnostic(
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
                let message = format!("cyclic dependency: {}", names.join(" -> "));
                let hint = Some("remove one of these inputs".to_owned());
                return Err(self.pipeline.diagnostic(stages[cycle[0]].location, message, hint));
            }
        }
        Ok(walk.order)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Visit {
    Unseen,
    Open,
    Closed,
}

/// Depth-first search over stages, with an explicit stack, so that a long chain of stages does not
/// overflow the call stack.
struct Walk<'a> {
    uses: &'a [Vec<usize>],
    state: Vec<Visit>,
    order: Vec<usize>,
    path: Vec<(usize, usize)>,
}

impl Walk<'_> {
    /// Appends `start` and its upstream to `order`. Fails with a cycle, whose first stage is
    /// repeated at the end.
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

#[cfg(test)]
mod tests {
    use crate::engine::testing::{names, plan, refusal};

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
    fn a_chain_of_ten_thousand_stages_does_not_overflow_the_stack() {
        let links =
            (1..10_000).rev().map(|i| format!("  s{i}: {{ pair: {{ left: s{} }} }}\n", i - 1));
        let yaml =
            format!("stages:\n{}  s0: {{ source: {{ text: x }} }}\n", links.collect::<String>());
        assert_eq!(plan(&yaml).unwrap().nodes.len(), 10_000);
    }
}
