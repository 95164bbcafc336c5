//! The interface of an engine, which computes gradients. It does not depend on schedule, prior or
//! optimiser: it receives batches and updates.

use super::Net;
use super::prior::DropoutMask;
pub use crate::kernel::softmax::BatchStats;
use crate::kernel::sparse::Sparse;
use crate::kernel::update::Update;

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

/// How a step moves the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Updates {
    /// The rule of the weights.
    pub weights: Update,
    /// The rule of the biases.
    pub biases: Update,
}

/// The same rule for all parameters.
impl From<Update> for Updates {
    fn from(update: Update) -> Updates {
        Updates { weights: update, biases: update }
    }
}

/// A net in training.
pub trait Engine {
    /// Moves the net by the gradient of the batch's mean cross-entropy. The statistics are those
    /// before the step.
    fn step(&mut self, batch: &Batch, updates: Updates) -> BatchStats;

    /// The gradient of the batch's mean cross-entropy, and its statistics. The net is unchanged.
    fn gradient(&mut self, batch: &Batch) -> (Net, BatchStats);

    /// The current net.
    fn net(&self) -> Net;
}
