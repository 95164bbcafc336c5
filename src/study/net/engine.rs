//! The interface of an engine, which computes gradients. It does not depend on schedule, prior or
//! optimiser: it receives batches and updates.

use super::Net;
use super::prior::DropoutMask;
pub use crate::kernel::softmax::BatchStats;
use crate::kernel::sparse::Sparse;
use crate::kernel::update::Update;
use std::sync::{Mutex, PoisonError};

/// The images of one step. The caller makes all random choices, so that every engine receives the
/// same batches.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// All training images, [N, inputs].
    pub images: &'a Sparse,
    /// All labels, `[N]`.
    pub labels: &'a [u16],
    /// The images of the batch, `[B]`.
    pub chosen: &'a [u32],
    /// The neurons that dropout keeps in each hidden layer, [B, width]; empty without dropout.
    pub masks: &'a [DropoutMask],
}

impl Batch<'_> {
    /// The labels of the chosen images, `[B]`.
    pub fn chosen_labels(&self) -> impl Iterator<Item = u16> {
        self.chosen.iter().map(|&i| self.labels[i as usize])
    }

    /// The factor of a neuron of the hidden layer `l` that fired. A dropped neuron has no
    /// activation, and so no gradient.
    pub(super) fn scale(&self, l: usize) -> f32 {
        self.masks.get(l).map_or(1.0, |mask| mask.scale)
    }
}

/// How a step moves the parameters of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Updates {
    /// The rule of the weights.
    pub weights: Update,
    /// The rule of the biases.
    pub biases: Update,
}

/// The same rule for weights and biases.
impl From<Update> for Updates {
    fn from(update: Update) -> Updates {
        Updates { weights: update, biases: update }
    }
}

/// Parameters that are neighbours in the layout of an engine: all weights or all biases of one
/// layer, or some of them.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The parameters, and padding that is zero.
    pub data: &'a [f32],
    /// The layer, counted from 0.
    pub layer: usize,
    /// Whether they are biases.
    pub are_biases: bool,
}

/// Receives the index of a run, its parameters, and their gradient.
pub type Visit<'a> = dyn Fn(usize, &mut [f32], &[f32]) + Sync + 'a;

/// A net in training.
///
/// An engine keeps its parameters in a layout of its own, as [`Run`]s in an order of its own. A
/// packed net is one buffer with all of them in that order. Elementwise work, such as a weighted
/// sum of nets, is the same in every layout.
pub trait Engine {
    /// Moves the net by the gradient of the batch's mean cross-entropy. The statistics are those
    /// before the step.
    ///
    /// # Panics
    /// Unless there is one of `updates` for each layer, the output layer included.
    fn step(&mut self, batch: &Batch, updates: &[Updates]) -> BatchStats;

    /// Calls `work` once for each run, on several threads and in unspecified order, with its index
    /// in [`Engine::runs`], its parameters, and the gradient of the batch's mean cross-entropy;
    /// returns the statistics. `work` may move these parameters: the gradient of other runs no
    /// longer depends on them.
    fn visit_gradient(&mut self, batch: &Batch, work: &Visit) -> BatchStats;

    /// The current parameters.
    fn runs(&self) -> Vec<Run<'_>>;

    /// As [`Engine::runs`], mutable. Padding must stay zero.
    fn runs_mut(&mut self) -> Vec<&mut [f32]>;

    /// A packed net as a net.
    ///
    /// # Panics
    /// If `packed` has another length than [`Engine::packed`].
    fn unpack(&self, packed: &[f32]) -> Net;

    /// The current net, packed.
    fn packed(&self) -> Vec<f32> {
        self.runs().iter().flat_map(|run| run.data).copied().collect()
    }

    /// The gradient of the batch's mean cross-entropy, and its statistics. The net is unchanged.
    fn gradient(&mut self, batch: &Batch) -> (Net, BatchStats) {
        let runs: Vec<Mutex<Vec<f32>>> = self.runs().iter().map(|_| Mutex::default()).collect();
        let stats = self.visit_gradient(batch, &|run, _, gradient| {
            *runs[run].lock().unwrap_or_else(PoisonError::into_inner) = gradient.to_vec();
        });
        let run = |run: Mutex<Vec<f32>>| run.into_inner().unwrap_or_else(PoisonError::into_inner);
        let packed: Vec<f32> = runs.into_iter().flat_map(run).collect();
        (self.unpack(&packed), stats)
    }

    /// The current net.
    fn net(&self) -> Net {
        self.unpack(&self.packed())
    }
}
