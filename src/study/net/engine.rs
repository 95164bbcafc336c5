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

    /// The factor of a neuron that fired. A dropped neuron has no activation, and so no gradient.
    pub(super) fn scale(&self) -> f32 {
        self.masks.first().map_or(1.0, |mask| mask.scale)
    }
}

/// A net in training.
pub trait Engine {
    /// Moves the net by the gradient of the batch's mean cross-entropy. The statistics are those
    /// before the step.
    fn step(&mut self, batch: &Batch, update: Update) -> BatchStats;

    /// The gradient of the batch's mean cross-entropy, and its statistics. The net is unchanged.
    fn gradient(&mut self, batch: &Batch) -> (Net, BatchStats);

    /// The current net.
    fn net(&self) -> Net;
}
