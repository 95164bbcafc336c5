//! The kernels' engine for nets of any depth, with or without biases, and any number of classes.
//!
//! Every product skips zeros. The inputs of a layer are the sparse images, or the activations of
//! the layer below: half of what ReLU returns is zero, and more with dropout. The gradient of a
//! layer's pre-activations is zero where its neuron did not fire. Shapes: B images in the batch;
//! outputs are padded by [`Panels`], and the padding stays zero.
//!
//! Threads divide images where rows are computed and panels of neurons where weights are, so that
//! no sum is split. `docs/performance.md` has the measurements.

use super::engine::{Batch, BatchStats, Engine, Run, Updates, Visit};
use super::{Net, packed};
use crate::kernel::aligned::Aligned;
use crate::kernel::dense::{dropout, rectify_gradient};
use crate::kernel::panels::Panels;
use crate::kernel::parallel::parallel_for;
use crate::kernel::product::{activate, project, project_back, sum_rows};
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
    /// The gradient of one panel for each thread.
    scratch: Vec<Aligned>,
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
        let w = packed(net, l);
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
        let threads = if largest < Some(THREADED_FROM) { 1 } else { threads.get() };
        DeepEngine {
            layers: (0..net.layers()).map(|l| Layer::new(net, l)).collect(),
            net: Net::zeros(net.shape()),
            labels: Vec::new(),
            all: Vec::new(),
            scratch: vec![Aligned::default(); threads],
            threads,
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
    fn step(&mut self, batch: &Batch, updates: &[Updates]) -> BatchStats {
        let stats = self.forward(batch);
        for l in (0..self.layers.len()).rev() {
            self.backward(batch, l);
            let Layer { fan_in, w, moments, columns, panels, .. } = &mut self.layers[l];
            let (depth, of_layer) = (w.depth(), updates[l]);
            let weights = panels.panels_mut().zip(moments.panels(w));
            parallel_for(&mut vec![(); self.threads], weights, |(), ((_, z), weights)| {
                let width = weights.len() / depth;
                let (weights, biases) = weights.split_at(*fan_in * width);
                descend(of_layer.weights, columns, z, weights);
                if !biases.is_empty() {
                    descend_biases(of_layer.biases, z, biases);
                }
            });
        }
        stats
    }

    fn visit_gradient(&mut self, batch: &Batch, work: &Visit) -> BatchStats {
        let stats = self.forward(batch);
        let per_panel = 1 + usize::from(self.net.shape().biases);
        let mut end = self.runs().len();
        for l in (0..self.layers.len()).rev() {
            self.backward(batch, l);
            let Layer { fan_in, w, columns, panels, .. } = &mut self.layers[l];
            let depth = w.depth();
            end -= per_panel * w.panels().count();
            let both = panels.panels_mut().zip(w.panels_mut()).enumerate();
            parallel_for(&mut self.scratch, both, |sums, (k, ((_, z), (_, w)))| {
                let width = w.len() / depth;
                sums.resize(w.len());
                let (weights, biases) = w.split_at_mut(*fan_in * width);
                let (of_weights, of_biases) = sums.split_at_mut(*fan_in * width);
                project_back(columns, z, of_weights);
                work(end + per_panel * k, weights, of_weights);
                if !biases.is_empty() {
                    sum_rows(z, of_biases);
                    work(end + per_panel * k + 1, biases, of_biases);
                }
            });
        }
        stats
    }

    fn runs(&self) -> Vec<Run<'_>> {
        let mut runs = Vec::new();
        for (l, layer) in self.layers.iter().enumerate() {
            for (_, width, panel) in layer.w.panels() {
                let (weights, biases) = panel.split_at(layer.fan_in * width);
                let parts = [(weights, false), (biases, true)].into_iter();
                let run = |(data, are_biases)| Run { data, layer: l, are_biases };
                runs.extend(parts.filter(|(data, _)| !data.is_empty()).map(run));
            }
        }
        runs
    }

    fn runs_mut(&mut self) -> Vec<&mut [f32]> {
        let mut runs = Vec::new();
        for Layer { fan_in, w, .. } in &mut self.layers {
            let depth = w.depth();
            for (_, panel) in w.panels_mut() {
                let width = panel.len() / depth;
                let (weights, biases) = panel.split_at_mut(*fan_in * width);
                runs.extend([weights, biases].into_iter().filter(|run| !run.is_empty()));
            }
        }
        runs
    }

    fn unpack(&self, packed: &[f32]) -> Net {
        let mut net = self.net.clone();
        let mut rest = packed;
        for (l, layer) in self.layers.iter().enumerate() {
            let mut w = Panels::zeros(layer.w.columns(), layer.w.depth());
            let part = rest.split_off(..w.data().len()).expect("a packed net of another length");
            w.data_mut().copy_from_slice(part);
            layer.unpack(&w, l, &mut net);
        }
        assert!(rest.is_empty(), "a packed net of another length");
        net
    }

    fn net(&self) -> Net {
        let mut net = self.net.clone();
        for (l, layer) in self.layers.iter().enumerate() {
            layer.unpack(&layer.w, l, &mut net);
        }
        net
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::examples;
    use super::super::{INPUTS, Init, Optimizer, Prior, Sgd, Shape};
    use super::*;
    use crate::kernel::test::{bits, on_every_isa};
    use crate::study::rng::stream;

    const CHOSEN: [u32; 6] = [3, 0, 7, 2, 2, 5];
    const ONE: NonZero<usize> = NonZero::<usize>::MIN;

    /// Mean cross-entropy of the chosen images at the parameters `w`, in f64.
    fn loss(shape: Shape, w: &[f64], batch: &Batch) -> f64 {
        let mut loss = 0.0;
        for (row, &i) in batch.chosen.iter().enumerate() {
            let mut x = vec![0.0; shape.inputs];
            batch.images.row(i as usize).for_each(|(c, value)| x[c] = f64::from(value));
            let mut rest = w;
            for l in 0..shape.layers() {
                let (fan_in, fan_out) = (shape.fan_in(l), shape.fan_out(l));
                let (weights, after) = rest.split_at(fan_in * fan_out);
                let (biases, after) = after.split_at(if shape.biases { fan_out } else { 0 });
                rest = after;
                let z = weights.chunks(fan_in).enumerate().map(|(j, weights)| {
                    let sum: f64 = weights.iter().zip(&x).map(|(w, x)| w * x).sum();
                    sum + biases.get(j).unwrap_or(&0.0)
                });
                x = z.collect();
                if l + 1 == shape.layers() {
                    break;
                }
                for (j, x) in x.iter_mut().enumerate() {
                    let factor = batch.masks.get(l).map_or(1.0, |mask| {
                        if mask.flags[row * fan_out + j] { f64::from(mask.scale) } else { 0.0 }
                    });
                    *x = x.max(0.0) * factor;
                }
            }
            let label = usize::from(batch.labels[i as usize]);
            loss += x.iter().map(|f| f.exp()).sum::<f64>().ln() - x[label];
        }
        loss / batch.chosen.len() as f64
    }

    #[test]
    fn a_gradient_at_depth_three_with_biases_agrees_with_central_differences() {
        let data = examples(8, "gradients");
        let images = Sparse::from_pixels(&data.pixels, INPUTS);
        let shape = Shape::of(INPUTS, &[9, 8, 7], 12, true);
        let net = Init::Normal { std: 0.4.try_into().unwrap() }.draw(shape, "0", "net");
        for prior in [Prior::None, Prior::Dropout(0.3.try_into().unwrap())] {
            let masks = prior.dropout_masks(6, shape.widths, &mut stream("0", "dropout"));
            let batch =
                Batch { images: &images, labels: &data.labels, chosen: &CHOSEN, masks: &masks };
            let (gradient, stats) = DeepEngine::new(&net, ONE).gradient(&batch);
            let mut w: Vec<f64> = net.params().iter().map(|&w| f64::from(w)).collect();
            assert!((stats.loss / 6.0 - loss(shape, &w, &batch)).abs() < 1e-5);
            let largest = gradient.params().iter().fold(0.0f32, |most, g| most.max(g.abs()));
            let mut slopes = 0;
            for (at, &found) in gradient.params().iter().enumerate() {
                let here = w[at];
                let mut shifted = |by: f64| {
                    w[at] = here + by;
                    let value = loss(shape, &w, &batch);
                    w[at] = here;
                    value
                };
                let slope = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                let difference = (slope - f64::from(found)).abs();
                assert!(difference < 1e-5 * f64::from(largest), "{at}: {slope} {found}");
                slopes += usize::from(slope.abs() > 1e-3);
            }
            assert!(slopes > 300, "{prior}: only {slopes} slopes to compare");
        }
    }

    /// A step on dense matrices, sum by sum: ascending, with fused multiply-adds.
    fn reference(net: &mut Net, batch: &Batch, rate: f32) {
        let (shape, n, last) = (net.shape(), batch.chosen.len(), net.layers() - 1);
        let mut x = vec![vec![0.0f32; n * shape.inputs]];
        for (row, &i) in batch.chosen.iter().enumerate() {
            let row = &mut x[0][row * shape.inputs..][..shape.inputs];
            batch.images.row(i as usize).for_each(|(c, value)| row[c] = value);
        }
        for l in 0..=last {
            let (fan_in, fan_out) = (shape.fan_in(l), shape.fan_out(l));
            let unit = |at: usize| {
                let (i, j) = (at / fan_out, at % fan_out);
                let (x, w) = (&x[l][i * fan_in..], &net.weights(l)[j * fan_in..]);
                let sum = (0..fan_in).fold(0.0f32, |sum, k| x[k].mul_add(w[k], sum));
                let z = net.biases(l).get(j).map_or(sum, |b| sum + b);
                if l < last { z.max(0.0) } else { z }
            };
            let outputs = (0..n * fan_out).map(unit).collect();
            x.push(outputs);
        }
        let labels: Vec<u16> = batch.chosen_labels().collect();
        let mut z = x.pop().unwrap();
        cross_entropy_gradient(&mut z, &labels, 1.0 / n as f64, &mut BatchStats::default());
        for l in (0..=last).rev() {
            let (fan_in, fan_out) = (shape.fan_in(l), shape.fan_out(l));
            let back = |at: usize| {
                let (i, k) = (at / fan_in, at % fan_in);
                let sum = (0..fan_out).fold(0.0f32, |sum, j| {
                    z[i * fan_out + j].mul_add(net.weights(l)[j * fan_in + k], sum)
                });
                if x[l][at] > 0.0 { sum } else { 0.0 }
            };
            let below: Vec<f32> = (0..n * fan_in).map(back).collect();
            let slope = |j: usize, x: &dyn Fn(usize) -> f32| {
                (0..n).fold(0.0f32, |sum, i| x(i).mul_add(z[i * fan_out + j], sum))
            };
            for at in 0..fan_in * fan_out {
                let g = slope(at / fan_in, &|i| x[l][i * fan_in + at % fan_in]);
                let w = &mut net.weights_mut(l)[at];
                *w = rate.mul_add(-g, *w);
            }
            for (j, b) in net.biases_mut(l).iter_mut().enumerate() {
                *b = rate.mul_add(-slope(j, &|_| 1.0), *b);
            }
            z = below;
        }
    }

    #[test]
    fn steps_equal_their_reference_implementation_bit_for_bit_on_every_isa_and_any_threads() {
        let data = examples(40, "steps");
        let images = Sparse::from_pixels(&data.pixels, INPUTS);
        let sgd = Optimizer::Sgd(Sgd { momentum: 0.0.try_into().unwrap(), ..Sgd::default() });
        let update = sgd.update(1, 0.3, Prior::None, 40);
        for (widths, classes, biases) in
            [(&[20][..], 10, true), (&[70, 33], 10, false), (&[9, 130, 8], 11, true)]
        {
            let net = Init::Uniform.draw(Shape::of(INPUTS, widths, classes, biases), "0", "net");
            let chosen = |step: u32| (0..17).map(|i| (17 * step + i) % 40).collect::<Vec<_>>();
            let batches = [0, 1, 2].map(chosen);
            let batch =
                |chosen| Batch { images: &images, labels: &data.labels, chosen, masks: &[] };
            let updates = vec![update.into(); net.layers()];
            let mut expected = net.clone();
            batches.iter().for_each(|chosen| reference(&mut expected, &batch(chosen), 0.3));
            assert_ne!(net, expected);
            on_every_isa(|isa| {
                for threads in [1, 3] {
                    let mut engine = DeepEngine::new(&net, ONE);
                    engine.threads = threads;
                    for chosen in &batches {
                        engine.step(&batch(chosen), &updates);
                    }
                    let case = format!("{isa:?}, {threads} threads, {}", net.shape());
                    assert!(bits(engine.net().params()) == bits(expected.params()), "{case}");
                }
            });
        }
    }

    #[test]
    fn float_images_train_a_net_as_the_pixels_that_they_equal() {
        let data = examples(30, "floats");
        let pixels = Sparse::from_pixels(&data.pixels, INPUTS);
        let values: Vec<f32> = data.pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
        let floats = Sparse::from_values(&values, INPUTS);
        let update = Optimizer::default().update(1, 0.1, Prior::None, 30);
        for shape in [Shape::talk(20), Shape::of(INPUTS, &[20, 9], 10, true)] {
            let net = Init::Uniform.draw(shape, "0", "net");
            let [of_pixels, of_floats] = [&pixels, &floats].map(|images| {
                let mut engine = super::super::EngineKind::Kernel.start(&net, ONE);
                let batch = Batch { images, labels: &data.labels, chosen: &CHOSEN, masks: &[] };
                let updates = vec![update.into(); net.layers()];
                engine.step(&batch, &updates);
                engine.step(&batch, &updates);
                engine.net()
            });
            assert_eq!(bits(of_pixels.params()), bits(of_floats.params()));
        }
    }
}
