//! What a run shows of jobs that may wait in a queue before they run.

use super::super::event::Event;
use super::super::executor::Phase;
use super::super::reason::Reason;
use super::Run;
use crate::engine::key::Key;
use crate::engine::spec::plan::NodeId;

impl Run<'_> {
    /// Shows that the job of a node was submitted.
    pub(super) fn show_submitted(&mut self, id: NodeId, key: Key, reasons: Vec<Reason>) {
        let phase = match self.pool.has_queue() {
            true => self.phases.get(&key).copied().unwrap_or(Phase::Queued),
            false => Phase::Running,
        };
        self.reasons.insert(id, reasons);
        self.show_phase(id, key, phase);
    }

    /// Shows the phase of the job of a node.
    pub(super) fn show_phase(&mut self, id: NodeId, key: Key, phase: Phase) {
        let reasons = self.reasons.get(&id).cloned().unwrap_or_default();
        let (node, kind, key) = (self.name(id), self.plan.node(id).kind.name(), key.to_string());
        self.observer.observe(&match phase {
            Phase::Queued => Event::Queued { node, kind, key, reasons },
            Phase::Running => Event::Running { node, kind, key, reasons },
        });
    }

    /// Shows which jobs have started, and which are queued again.
    pub(super) fn show_phases(&mut self) {
        for (key, phase) in self.pool.phases() {
            let Some(nodes) = self.running.get(&key).cloned() else { continue };
            if self.phases.insert(key, phase).unwrap_or(Phase::Queued) != phase {
                nodes.into_iter().for_each(|id| self.show_phase(id, key, phase));
            }
        }
    }
}
