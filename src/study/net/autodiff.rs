//! The second engine: dfdx derives the gradients from the definition of the net.
//!
//! It shares only the update of a parameter with the kernels. dfdx has its own order of sums, so
//! the last bits of its results depend on the machine.

use super::Net;
use super::engine::{Batch, BatchStats, Engine, Run, Updates, Visit};
use crate::kernel::update::{Moments, apply};
use dfdx::prelude::*;

/// A net in training with dfdx.
pub(super) struct Autodiff {
    net: Net,
    /// The optimiser's state of each layer: of its weights, and of its biases.
    moments: Vec<[Moments; 2]>,
    device: Cpu,
}

impl Autodiff {
    /// An engine that trains `net`.
    pub(super) fn new(net: &Net) -> Self {
        let moments = |l| [net.weights(l), net.biases(l)].map(|part| Moments::zeros(part.len()));
        Autodiff {
            net: net.clone(),
            moments: (0..net.layers()).map(moments).collect(),
            device: Cpu::default(),
        }
    }
}

impl Engine for Autodiff {
    fn step(&mut self, batch: &Batch, updates: &[Updates]) -> BatchStats {
        let (gradient, stats) = self.gradient(batch);
        for (l, [weights, biases]) in self.moments.iter_mut().enumerate() {
            let of_layer = updates[l];
            apply(of_layer.weights, gradient.weights(l), self.net.weights_mut(l), weights);
            apply(of_layer.biases, gradient.biases(l), self.net.biases_mut(l), biases);
        }
        stats
    }

    fn visit_gradient(&mut self, batch: &Batch, work: &Visit) -> BatchStats {
        let (images, shape, device) = (batch.chosen.len(), self.net.shape(), &self.device);
        let mut pixels = vec![0.0; shape.inputs * images]; // [inputs, B]
        for (image, &i) in batch.chosen.iter().enumerate() {
            for (column, value) in batch.images.row(i as usize) {
                pixels[column * images + image] = value;
            }
        }
        let mut targets = vec![0.0; shape.classes * images]; // [classes, B]
        for (image, label) in batch.chosen_labels().enumerate() {
            targets[usize::from(label) * images + image] = 1.0;
        }

        // Images are the last axis and no tensor with a gradient is transposed: dfdx 0.13 computes
        // the gradient of a transposed tensor's log-softmax as if it were not transposed.
        let mut x = device.tensor_from_vec(pixels, (shape.inputs, images)).leaky_trace();
        let mut parameters = Vec::new();
        for l in 0..shape.layers() {
            let dims = (shape.fan_out(l), shape.fan_in(l));
            let w = device.tensor_from_vec(self.net.weights(l).to_vec(), dims);
            x = w.leaky_trace().matmul(x);
            let biases = (!self.net.biases(l).is_empty())
                .then(|| device.tensor_from_vec(self.net.biases(l).to_vec(), (shape.fan_out(l),)));
            if let Some(b) = &biases {
                let columns = b.leaky_trace().broadcast_like::<_, Axis<1>>(x.shape());
                x = columns + x;
            }
            parameters.push((w, biases));
            if l + 1 < shape.layers() {
                x = x.relu();
            }
            if let Some(mask) = batch.masks.get(l) {
                let factor = |&kept: &bool| if kept { mask.scale } else { 0.0 };
                let mask = mask.flags.iter().map(factor).collect();
                let mask = device.tensor_from_vec(mask, (images, shape.fan_out(l)));
                x = x * mask.permute::<_, Axes2<1, 0>>();
            }
        }
        let wrong = misclassified(&x.as_vec(), batch);
        let targets = device.tensor_from_vec(targets, (shape.classes, images));
        let loss = (x.log_softmax::<Axis<0>>() * targets).sum().negate() / images as f32;
        let stats = BatchStats { loss: f64::from(loss.array()) * images as f64, wrong };

        let gradients = loss.backward();
        let mut params = Vec::with_capacity(shape.params());
        for (w, biases) in &parameters {
            params.extend(gradients.get(w).as_vec());
            params.extend(biases.iter().flat_map(|b| gradients.get(b).as_vec()));
        }
        let mut rest = &params[..];
        for (run, w) in self.runs_mut().into_iter().enumerate() {
            let gradient = rest.split_off(..w.len()).expect("BUG: gradients are of other runs");
            work(run, w, gradient);
        }
        stats
    }

    fn runs(&self) -> Vec<Run<'_>> {
        let of_layer = |layer| {
            let parts = [(self.net.weights(layer), false), (self.net.biases(layer), true)];
            parts.map(|(data, are_biases)| Run { data, layer, are_biases })
        };
        let runs = (0..self.net.layers()).flat_map(of_layer);
        runs.filter(|run| !run.data.is_empty()).collect()
    }

    fn runs_mut(&mut self) -> Vec<&mut [f32]> {
        let lengths: Vec<usize> = self.runs().iter().map(|run| run.data.len()).collect();
        let mut rest = self.net.params_mut();
        let run = |length| rest.split_off_mut(..length).expect("BUG: runs are longer than the net");
        lengths.into_iter().map(run).collect()
    }

    fn unpack(&self, packed: &[f32]) -> Net {
        let net = Net::from_params(self.net.shape(), packed.to_vec());
        net.expect("a packed net of another length")
    }

    fn net(&self) -> Net {
        self.net.clone()
    }
}

/// The number of images whose largest logit, the first of equals, is not that of their label;
/// `logits` [classes, B].
fn misclassified(logits: &[f32], batch: &Batch) -> usize {
    let images = batch.chosen.len();
    let classes = logits.len() / images;
    let logit = |class: usize, image: usize| logits[class * images + image];
    let predicted = |i| {
        (1..classes)
            .fold(0, |best, class| if logit(class, i) > logit(best, i) { class } else { best })
    };
    batch
        .chosen_labels()
        .enumerate()
        .filter(|&(i, label)| predicted(i) != usize::from(label))
        .count()
}
