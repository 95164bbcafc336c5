//! The kernels' engine for plain nets, of one hidden layer, ten classes and no biases: explicit
//! gradients, with kernels of their own for ten classes.
//!
//! Shapes: d inputs, B images in the batch, h neurons, H = h padded by [`Panels`]. Weights stay
//! padded during training, and the padding stays zero. The gradient of W1 is consumed as it is
//! computed, and never stored.
//!
//! Threads divide images in the forward pass and panels of neurons in the backward pass, so that no
//! sum is split; the code in between runs on one thread. `docs/performance.md` has the
//! measurements.

use super::engine::{Batch, BatchStats, Engine, Run, Updates, Visit};
use super::{CLASSES, Net, Shape};
use crate::kernel::aligned::Aligned;
use crate::kernel::dense::{dropout, hidden_gradient, logits, outgoing_gradient};
use crate::kernel::panels::Panels;
use crate::kernel::parallel::parallel_for;
use crate::kernel::product::{activate, project_back};
use crate::kernel::softmax::cross_entropy_gradient;
use crate::kernel::sparse::Sparse;
use crate::kernel::update::{Moments, apply, descend};
use std::num::NonZero;

/// The least number of neurons for which threads repay their start.
const THREADED_FROM: usize = 200;

/// A plain net in training with our kernels.
pub(super) struct KernelEngine {
    shape: Shape,
    /// [d, h], as panels.
    w1: Panels,
    w1_moments: Moments,
    /// [10, H].
    w2: Vec<f32>,
    w2_moments: Moments,
    pass: Pass,
    /// The gradient of one panel for each thread.
    scratch: Vec<Aligned>,
    /// Threads per step.
    threads: usize,
}

/// The buffers of a forward and backward pass, reused by every step.
struct Pass {
    labels: Vec<u16>,
    /// Activations, [B, H].
    a: Aligned,
    /// Logits, then their gradient, [B, 10].
    outputs: Vec<f32>,
    /// The gradient of W2, [10, H].
    outgoing: Vec<f32>,
    /// The gradient of the pre-activations, [B, h], as panels.
    hidden: Panels,
    /// The transposed batch, [d, B].
    pixels: Sparse,
}

impl KernelEngine {
    /// An engine that trains `net`; the number of `threads` does not affect the bits.
    pub(super) fn new(net: &Net, threads: NonZero<usize>) -> Self {
        let threads = if net.width(0) < THREADED_FROM { 1 } else { threads.get() };
        let mut w1 = Panels::pack(net.weights(0), net.width(0), net.shape().inputs);
        let mut w2 = vec![0.0; CLASSES * w1.padded()];
        for (padded, row) in
            w2.chunks_exact_mut(w1.padded()).zip(net.weights(1).chunks_exact(net.width(0)))
        {
            padded[..row.len()].copy_from_slice(row);
        }
        let (w1_moments, w2_moments) =
            (Moments::zeros(w1.data_mut().len()), Moments::zeros(w2.len()));
        let pass = Pass {
            labels: Vec::new(),
            a: Aligned::default(),
            outputs: Vec::new(),
            outgoing: vec![0.0; w2.len()],
            hidden: Panels::zeros(net.width(0), 0),
            pixels: Sparse::empty(),
        };
        let scratch = vec![Aligned::default(); threads];
        KernelEngine { shape: net.shape(), w1, w1_moments, w2, w2_moments, pass, scratch, threads }
    }

    /// Fills `pass` with the batch's activations, the gradients of its logits and of W2, and the
    /// transposed batch.
    fn forward(&mut self, batch: &Batch) -> BatchStats {
        let KernelEngine { w1, w2, pass, threads, .. } = self;
        let Pass { labels, a, outputs, outgoing, hidden, pixels } = pass;
        let (images, padded) = (batch.chosen.len(), w1.padded());
        a.resize(images * padded);
        outputs.resize(images * CLASSES, 0.0);
        hidden.set_depth(images);

        let piece = images.div_ceil(*threads);
        let pieces = batch
            .chosen
            .chunks(piece)
            .zip(a.chunks_mut(piece * padded))
            .zip(outputs.chunks_mut(piece * CLASSES));
        parallel_for(
            &mut vec![(); *threads],
            pieces.enumerate(),
            |(), (k, ((chosen, a), outputs))| {
                activate(batch.images, chosen, w1, a);
                if let [mask] = batch.masks {
                    let flags =
                        &mask.flags[k * piece * w1.columns()..][..chosen.len() * w1.columns()];
                    dropout(a, flags, chosen.len(), mask.scale);
                }
                logits(a, w2, padded, outputs);
            },
        );
        labels.clear();
        labels.extend(batch.chosen_labels());
        let mut stats = BatchStats::default();
        cross_entropy_gradient(outputs, labels, 1.0 / images as f64, &mut stats);
        outgoing_gradient(outputs, a, padded, outgoing);
        batch.images.transpose(batch.chosen, pixels);
        stats
    }

    /// The net of padded layers: `w1` [d, h] as panels, `w2` [10, H].
    fn unpadded(shape: Shape, w1: &Panels, w2: &[f32]) -> Net {
        let rows = w2.chunks_exact(w1.padded());
        let w2: Vec<f32> = rows.flat_map(|row| &row[..w1.columns()]).copied().collect();
        Net::from_params(shape, [w1.unpack(), w2].concat()).expect("the layers belong together")
    }
}

impl Engine for KernelEngine {
    fn step(&mut self, batch: &Batch, updates: &[Updates]) -> BatchStats {
        let [of_w1, of_w2] = [0, 1].map(|l| updates[l].weights);
        let stats = self.forward(batch);
        let KernelEngine { w1, w1_moments, w2, w2_moments, pass, threads, .. } = self;
        let Pass { a, outputs, outgoing, hidden, pixels, .. } = pass;
        let panels = hidden.panels_mut().zip(w1_moments.panels(w1));
        parallel_for(&mut vec![(); *threads], panels, |(), ((first, hidden), weights)| {
            hidden_gradient(outputs, w2, a, batch.scale(0), first, hidden);
            descend(of_w1, pixels, hidden, weights);
        });
        apply(of_w2, outgoing, w2, w2_moments);
        stats
    }

    fn visit_gradient(&mut self, batch: &Batch, work: &Visit) -> BatchStats {
        let stats = self.forward(batch);
        let KernelEngine { w1, w2, pass, scratch, .. } = self;
        let Pass { a, outputs, outgoing, hidden, pixels, .. } = pass;
        let last = w1.panels().count();
        let panels = hidden.panels_mut().zip(w1.panels_mut()).enumerate();
        parallel_for(scratch, panels, |gradient, (run, ((first, hidden), (_, w1)))| {
            gradient.resize(w1.len());
            hidden_gradient(outputs, w2, a, batch.scale(0), first, hidden);
            project_back(pixels, hidden, gradient);
            work(run, w1, gradient);
        });
        work(last, w2, outgoing);
        stats
    }

    fn runs(&self) -> Vec<Run<'_>> {
        let run = |layer, data| Run { data, layer, are_biases: false };
        let panels = self.w1.panels().map(|(_, _, panel)| run(0, panel));
        panels.chain([run(1, &self.w2[..])]).collect()
    }

    fn runs_mut(&mut self) -> Vec<&mut [f32]> {
        let panels = self.w1.panels_mut().map(|(_, panel)| panel);
        panels.chain([&mut self.w2[..]]).collect()
    }

    fn unpack(&self, packed: &[f32]) -> Net {
        let (first, w2) = packed.split_at(self.w1.data().len());
        assert_eq!(w2.len(), self.w2.len(), "a packed net of another length");
        let mut w1 = Panels::zeros(self.w1.columns(), self.w1.depth());
        w1.data_mut().copy_from_slice(first);
        Self::unpadded(self.shape, &w1, w2)
    }

    fn net(&self) -> Net {
        Self::unpadded(self.shape, &self.w1, &self.w2)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::examples;
    use super::super::{DropoutMask, INPUTS, Init, Optimizer, Prior, Sgd};
    use super::*;
    use crate::study::data::Examples;
    use crate::study::rng::stream;

    const IMAGES: usize = 6;
    const HIDDEN: usize = 8;
    const CHOSEN: [u32; IMAGES] = [3, 0, 7, 2, 2, 5];

    /// The differentiable part of the objective, in f64: mean cross-entropy + decay / 2 · |w|².
    fn objective(w: &[f64], data: &Examples, mask: Option<&DropoutMask>, decay: f64) -> f64 {
        let (w1, w2) = w.split_at(HIDDEN * INPUTS);
        let mut loss = 0.0;
        for (row, &i) in CHOSEN.iter().enumerate() {
            let pixels = &data.pixels[i as usize * INPUTS..][..INPUTS];
            let neuron = |j: usize| {
                let z: f64 = w1[j * INPUTS..][..INPUTS]
                    .iter()
                    .zip(pixels)
                    .map(|(w, &x)| w * f64::from(x) / 255.0)
                    .sum();
                let factor = mask.map_or(1.0, |k| {
                    if k.flags[row * HIDDEN + j] { f64::from(k.scale) } else { 0.0 }
                });
                z.max(0.0) * factor
            };
            let a: Vec<f64> = (0..HIDDEN).map(neuron).collect();
            let f: Vec<f64> =
                w2.chunks(HIDDEN).map(|row| row.iter().zip(&a).map(|(w, a)| w * a).sum()).collect();
            loss += f.iter().map(|f| f.exp()).sum::<f64>().ln()
                - f[usize::from(data.labels[i as usize])];
        }
        loss / IMAGES as f64 + 0.5 * decay * w.iter().map(|w| w * w).sum::<f64>()
    }

    /// One step of plain gradient descent at rate 0.5 under `prior`: the weights before and after,
    /// and the objective's slope for every weight by central differences.
    fn step(prior: Prior) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let data = examples(8, "gradients");
        let images = Sparse::from_pixels(&data.pixels, INPUTS);
        let net =
            Init::Normal { std: 0.3.try_into().unwrap() }.draw(Shape::talk(HIDDEN), "0", "net");
        let widths = net.shape().widths;
        let masks = prior.dropout_masks(IMAGES, widths, &mut stream("0", "dropout"));
        let batch = Batch { images: &images, labels: &data.labels, chosen: &CHOSEN, masks: &masks };
        let sgd = Optimizer::Sgd(Sgd { momentum: 0.0.try_into().unwrap(), ..Sgd::default() });
        let mut engine = KernelEngine::new(&net, NonZero::<usize>::MIN);
        engine.step(&batch, &[sgd.update(1, 0.5, prior, data.len()).into(); 2]);

        let wide = |net: &Net| net.params().iter().map(|&w| f64::from(w)).collect::<Vec<_>>();
        let mut w = wide(&net);
        let slopes = (0..w.len()).map(|at| {
            let here = w[at];
            let mut shifted = |by: f64| {
                w[at] = here + by;
                let value = objective(&w, &data, masks.first(), prior.decay(data.len()));
                w[at] = here;
                value
            };
            (shifted(1e-5) - shifted(-1e-5)) / 2e-5
        });
        let slopes = slopes.collect();
        (wide(&net), wide(&engine.net()), slopes)
    }

    #[test]
    fn a_step_follows_the_gradient_of_the_objective_under_every_smooth_prior() {
        let normal = Prior::Normal { variance: 0.5.try_into().unwrap() };
        for prior in [Prior::None, normal, Prior::Dropout(0.4.try_into().unwrap())] {
            let (before, after, slopes) = step(prior);
            let alive = slopes.iter().filter(|slope| slope.abs() > 1e-4).count();
            assert!(alive > 500, "{prior}: only {alive} slopes to compare");
            for ((before, after), slope) in before.iter().zip(&after).zip(&slopes) {
                assert!(
                    ((before - after) / 0.5 - slope).abs() < 2e-6,
                    "{prior}: {} {slope}",
                    (before - after) / 0.5
                );
            }
        }
    }

    #[test]
    fn a_step_with_the_laplace_prior_minimises_its_proximal_objective() {
        // At the minimum of (u - (w - rate g))² / (2 rate) + |u| / (N b), zero is a subgradient.
        let (before, after, slopes) = step(Prior::Laplace { scale: 2.0.try_into().unwrap() });
        let weight = 1.0 / (8.0 * 2.0);
        let zeros = after.iter().filter(|&&u| u == 0.0).count();
        assert!(zeros > 100 && zeros < after.len() / 2, "{zeros} zeros");
        for ((w, u), slope) in before.iter().zip(&after).zip(&slopes) {
            let smooth = (u - w) / 0.5 + slope;
            if *u == 0.0 {
                assert!(smooth.abs() <= weight + 2e-6);
            } else {
                assert!((smooth + weight * u.signum()).abs() < 2e-6);
            }
        }
    }

    #[test]
    fn the_gradient_is_the_mean_over_the_images_of_the_batch() {
        let data = examples(4, "mean");
        let images = Sparse::from_pixels(&data.pixels, INPUTS);
        let net = Init::Uniform.draw(Shape::talk(40), "0", "net");
        let gradient = |chosen: &[u32]| {
            let batch = Batch { images: &images, labels: &data.labels, chosen, masks: &[] };
            KernelEngine::new(&net, NonZero::<usize>::MIN).gradient(&batch).0
        };
        let (once, thrice) = (gradient(&[2]), gradient(&[2, 2, 2]));
        for (once, thrice) in once.params().iter().zip(thrice.params()) {
            assert!((once - thrice).abs() <= 1e-6);
        }
    }

    #[test]
    fn a_net_is_unchanged_by_the_layout_of_the_engine() {
        for hidden in [1, 16, 63, 64, 100] {
            let net = Init::Uniform.draw(Shape::talk(hidden), "0", "net");
            assert_eq!(KernelEngine::new(&net, NonZero::<usize>::MIN).net(), net);
        }
    }
}
