//! The kernels' engine for nets of any depth, with or without biases, and any number of classes.
//!
//! Every product skips zeros. The inputs of a layer are the sparse images, or the activations of
//! the layer below: half of what ReLU returns is zero, and more with dropout. The gradient of a
//! layer's pre-activations is zero where its neuron did not fire. Shapes: B images in the batch;
//! outputs are padded by [`Panels`], and the padding stays zero.
//!
//! Threads divide images where rows are computed and panels of neurons where weights are, so that
//! no sum is split. `docs/performance.md` has the measurements.

use super::Net;
use super::engine::{Batch, BatchStats, Engine, Updates};
use crate::kernel::aligned::Aligned;
use crate::kernel::dense::{dropout, rectify_gradient};
use crate::kernel::parallel::parallel_for;
use crate::kernel::product::{Panels, activate, project, project_back, sum_rows};
use crate::kernel::softmax::cross_entropy_gradient;
use crate::kernel::sparse::Sparse;
use crate::kernel::update::{Moments, descend, descend_biases};
use std::num::NonZero;

/// The least number of weights of the largest layer for which threads repay their start.
const THREADED_FROM: usize = 150_000;

/// A net in training with our kernels.
pub(super) struct DeepEngine {
    net: Net,
    layers: Vec<Layer>,
    labels: Vec<u16>,
    /// 0, 1, ..., B - 1: every row of a batch.
    all: Vec<u32>,
    /// Threads per step.
    threads: usize,
}

/// A layer's weights, and the buffers of its passes.
struct Layer {
    fan_in: usize,
    /// [fan-in, fan-out] as panels; the last row of a layer with biases holds them.
    w: Panels,
    moments: Moments,
    /// The weights as they were before the step, [fan-out, fan-in]; unused in the first layer.
    transposed: Panels,
    /// The inputs [B, fan-in]; unused in the first layer, whose inputs are the images.
    inputs: Sparse,
    /// The inputs [fan-in, B].
    columns: Sparse,
    /// Activations, [B, padded fan-out]; of the last layer, logits, and then their gradient, [B,
    /// classes].
    outputs: Aligned,
    /// The gradient of the pre-activations, as `outputs`; unused in the last layer.
    gradient: Aligned,
    /// The same as panels.
    panels: Panels,
    /// Its non-zeros.
    non_zeros: Sparse,
}

impl Layer {
    fn new(net: &Net, l: usize) -> Layer {
        let (fan_in, fan_out) = (net.shape().fan_in(l), net.shape().fan_out(l));
        let biases = net.biases(l);
        let mut rows = Vec::with_capacity(net.weights(l).len() + biases.len());
        for (j, row) in net.weights(l).chunks_exact(fan_in).enumerate() {
            rows.extend_from_slice(row);
            rows.extend(biases.get(j));
        }
        let w = Panels::pack(&rows, fan_out, fan_in + usize::from(!biases.is_empty()));
        Layer {
            fan_in,
            moments: Moments::zeros(w.data().len()),
            w,
            transposed: Panels::zeros(fan_in, 0),
            inputs: Sparse::empty(),
            columns: Sparse::empty(),
            outputs: Aligned::default(),
            gradient: Aligned::default(),
            panels: Panels::zeros(fan_out, 0),
            non_zeros: Sparse::empty(),
        }
    }

    /// The distance of two rows of `outputs` [B, stride].
    fn stride(&self, images: usize) -> usize {
        self.outputs.len() / images
    }

    /// Writes `w`, in this layer's layout, into the parameters of layer `l` of `net`.
    fn unpack(&self, w: &Panels, l: usize, net: &mut Net) {
        let rows = w.unpack();
        for (j, row) in rows.chunks_exact(w.depth()).enumerate() {
            let (weights, bias) = row.split_at(self.fan_in);
            net.weights_mut(l)[j * self.fan_in..][..self.fan_in].copy_from_slice(weights);
            net.biases_mut(l)[j * bias.len()..][..bias.len()].copy_from_slice(bias);
        }
    }
}

impl DeepEngine {
    /// An engine that trains `net`; the number of `threads` does not affect the bits.
    pub(super) fn new(net: &Net, threads: NonZero<usize>) -> Self {
        let largest = (0..net.layers()).map(|l| net.weights(l).len()).max();
        DeepEngine {
            layers: (0..net.layers()).map(|l| Layer::new(net, l)).collect(),
            net: Net::zeros(net.shape()),
            labels: Vec::new(),
            all: Vec::new(),
            threads: if largest < Some(THREADED_FROM) { 1 } else { threads.get() },
        }
    }

    /// Computes the activations of every layer and the gradient of the logits.
    fn forward(&mut self, batch: &Batch) -> BatchStats {
        let images = batch.chosen.len();
        self.all.clear();
        self.all.extend(0..images as u32);
        let piece = images.div_ceil(self.threads);
        let (threads, last) = (self.threads, self.layers.len() - 1);
        for l in 0..=last {
            let (below, layers) = self.layers.split_at_mut(l);
            let Layer { fan_in, w, inputs, columns, outputs, .. } = &mut layers[0];
            let (images_or_inputs, rows) = match below.last() {
                None => (batch.images, batch.chosen),
                Some(below) => {
                    inputs.set_values(&below.outputs, below.stride(images), *fan_in);
                    (&*inputs, &self.all[..])
                }
            };
            images_or_inputs.transpose(rows, columns);
            let stride = if l == last { w.columns() } else { w.padded() };
            outputs.resize(images * stride);
            let pieces = rows.chunks(piece).zip(outputs.chunks_mut(piece * stride)).enumerate();
            parallel_for(&mut vec![(); threads], pieces, |(), (k, (rows, out))| {
                if l == last {
                    let first = k * piece;
                    project(images_or_inputs, first..first + rows.len(), w, out);
                    return;
                }
                activate(images_or_inputs, rows, w, out);
                if let Some(mask) = batch.masks.get(l) {
                    let flags = &mask.flags[k * piece * w.columns()..];
                    dropout(out, &flags[..rows.len() * w.columns()], rows.len(), mask.scale);
                }
            });
        }
        self.labels.clear();
        self.labels.extend(batch.chosen_labels());
        let mut stats = BatchStats::default();
        let logits = &mut self.layers[last].outputs;
        cross_entropy_gradient(logits, &self.labels, 1.0 / images as f64, &mut stats);
        stats
    }

    /// Computes the gradient of the pre-activations of layer `l` as panels, and from it the one of
    /// the layer below, whose weights must not have moved yet.
    fn backward(&mut self, batch: &Batch, l: usize) {
        let images = batch.chosen.len();
        let is_last = l + 1 == self.layers.len();
        let (below, layers) = self.layers.split_at_mut(l);
        let layer = &mut layers[0];
        let stride = layer.stride(images);
        let rows = if is_last { &layer.outputs } else { &layer.gradient };
        layer.panels.set_rows(rows, stride);
        let Some(below) = below.last_mut() else { return };
        layer.non_zeros.set_values(rows, stride, layer.w.columns());
        layer.w.transpose(layer.fan_in, &mut layer.transposed);

        below.gradient.resize(below.outputs.len());
        let (stride, piece) = (below.stride(images), images.div_ceil(self.threads));
        let scale = batch.scale(l - 1);
        let (non_zeros, transposed) = (&layer.non_zeros, &layer.transposed);
        let pieces =
            below.gradient.chunks_mut(piece * stride).zip(below.outputs.chunks(piece * stride));
        parallel_for(&mut vec![(); self.threads], pieces.enumerate(), |(), (k, (out, a))| {
            let first = k * piece;
            project(non_zeros, first..first + out.len() / stride, transposed, out);
            rectify_gradient(out, a, scale);
        });
    }
}

impl Engine for DeepEngine {
    fn step(&mut self, batch: &Batch, updates: Updates) -> BatchStats {
        let stats = self.forward(batch);
        for l in (0..self.layers.len()).rev() {
            self.backward(batch, l);
            let Layer { fan_in, w, moments, columns, panels, .. } = &mut self.layers[l];
            let depth = w.depth();
            let weights = panels.panels_mut().zip(moments.panels(w));
            parallel_for(&mut vec![(); self.threads], weights, |(), ((_, z), weights)| {
                let width = weights.len() / depth;
                let (weights, biases) = weights.split_at(*fan_in * width);
                descend(updates.weights, columns, z, weights);
                if !biases.is_empty() {
                    descend_biases(updates.biases, z, biases);
                }
            });
        }
        stats
    }

    fn gradient(&mut self, batch: &Batch) -> (Net, BatchStats) {
        let stats = self.forward(batch);
        let mut gradient = Net::zeros(self.net.shape());
        for l in (0..self.layers.len()).rev() {
            self.backward(batch, l);
            let layer = &mut self.layers[l];
            let mut sums = Panels::zeros(layer.w.columns(), layer.w.depth());
            for ((_, z), (_, sums)) in layer.panels.panels_mut().zip(sums.panels_mut()) {
                let width = sums.len() / layer.w.depth();
                let (weights, biases) = sums.split_at_mut(layer.fan_in * width);
                project_back(&layer.columns, z, weights);
                if !biases.is_empty() {
                    sum_rows(z, biases);
                }
            }
            self.layers[l].unpack(&sums, l, &mut gradient);
        }
        (gradient, stats)
    }

    fn net(&self) -> Net {
        let mut net = self.net.clone();
        for (l, layer) in self.layers.iter().enumerate() {
            layer.unpack(&layer.w, l, &mut net);
        }
        net
    }
}
