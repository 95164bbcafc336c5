//! The second engine: dfdx derives the gradients from the definition of the net.
//!
//! It shares only the update of a weight with the kernels. dfdx has its own order of sums, so the
//! last bits of its results depend on the machine.

use super::engine::{Batch, BatchStats, Engine};
use super::{CLASSES, INPUTS, Net};
use crate::kernel::update::{Moments, Update, apply};
use dfdx::prelude::*;

/// A net in training with dfdx.
pub(super) struct Autodiff {
    net: Net,
    moments: Moments,
    device: Cpu,
}

impl Autodiff {
    /// An engine that trains `net`.
    pub(super) fn new(net: &Net) -> Self {
        Autodiff {
            net: net.clone(),
            moments: Moments::zeros(net.params().len()),
            device: Cpu::default(),
        }
    }
}

impl Engine for Autodiff {
    fn step(&mut self, batch: &Batch, update: Update) -> BatchStats {
        let (gradient, stats) = self.gradient(batch);
        apply(update, gradient.params(), self.net.params_mut(), &mut self.moments);
        stats
    }

    fn gradient(&mut self, batch: &Batch) -> (Net, BatchStats) {
        let (images, h, device) = (batch.chosen.len(), self.net.width(0), &self.device);
        let mut pixels = vec![0.0; INPUTS * images]; // [784, B]
        for (image, &i) in batch.chosen.iter().enumerate() {
            for (column, value) in batch.images.row(i as usize) {
                pixels[column * images + image] = value;
            }
        }
        let mut targets = vec![0.0; CLASSES * images]; // [10, B]
        for (image, label) in batch.chosen_labels().enumerate() {
            targets[usize::from(label) * images + image] = 1.0;
        }

        // Images are the last axis and no tensor with a gradient is transposed: dfdx 0.13 computes
        // the gradient of a transposed tensor's log-softmax as if it were not transposed.
        let x = device.tensor_from_vec(pixels, (Const::<INPUTS>, images));
        let w1 = device.tensor_from_vec(self.net.weights(0).to_vec(), (h, Const::<INPUTS>));
        let w2 = device.tensor_from_vec(self.net.weights(1).to_vec(), (Const::<CLASSES>, h));
        let mut hidden = w1.leaky_trace().matmul(x).relu();
        if let [mask] = batch.masks {
            let mask = mask.flags.iter().map(|&kept| if kept { mask.scale } else { 0.0 }).collect();
            hidden = hidden * device.tensor_from_vec(mask, (images, h)).permute::<_, Axes2<1, 0>>();
        }
        let logits = w2.leaky_trace().matmul(hidden);
        let wrong = misclassified(&logits.as_vec(), batch);
        let targets = device.tensor_from_vec(targets, (Const::<CLASSES>, images));
        let loss = (logits.log_softmax::<Axis<0>>() * targets).sum().negate() / images as f32;
        let stats = BatchStats { loss: f64::from(loss.array()) * images as f64, wrong };

        let gradients = loss.backward();
        let params = [gradients.get(&w1).as_vec(), gradients.get(&w2).as_vec()].concat();
        let gradient = Net::from_params(self.net.shape(), params);
        (gradient.expect("gradients have the shapes of their weights"), stats)
    }

    fn net(&self) -> Net {
        self.net.clone()
    }
}

/// The number of images whose largest logit, the first of equals, is not that of their label;
/// `logits` [10, B].
fn misclassified(logits: &[f32], batch: &Batch) -> usize {
    let images = batch.chosen.len();
    let logit = |class: usize, image: usize| logits[class * images + image];
    let predicted = |i| {
        (1..CLASSES)
            .fold(0, |best, class| if logit(class, i) > logit(best, i) { class } else { best })
    };
    batch
        .chosen_labels()
        .enumerate()
        .filter(|&(i, label)| predicted(i) != usize::from(label))
        .count()
}
