//! The training engines, by name.

use super::Net;
use super::autodiff::Autodiff;
use super::deep_engine::DeepEngine;
use super::engine::Engine;
use super::kernel_engine::KernelEngine;
use crate::study::registry::named_enum;
use std::num::NonZero;

named_enum! {
    "engine"
    /// The engine that computes the gradients.
    #[derive(Default)]
    pub enum EngineKind {
        /// Our own kernels: the same bits on every machine.
        #[default]
        Kernel = "kernel",
        /// dfdx, an independent check of our gradients. Slower, and its last bits depend on the
        /// machine.
        Autodiff = "autodiff",
    }
}

impl EngineKind {
    /// An engine of this kind that trains `net`; the number of `threads` does not affect the bits.
    pub fn start(self, net: &Net, threads: NonZero<usize>) -> Box<dyn Engine> {
        match self {
            EngineKind::Kernel if net.shape().is_plain() => {
                Box::new(KernelEngine::new(net, threads))
            }
            EngineKind::Kernel => Box::new(DeepEngine::new(net, threads)),
            EngineKind::Autodiff => Box::new(Autodiff::new(net)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::examples;
    use super::super::{Batch, INPUTS, Init, Optimizer, Prior, PriorKind, Shape, Updates};
    use super::*;
    use crate::kernel::sparse::Sparse;
    use crate::study::rng::stream;

    /// Nets with one to three hidden layers, with and without biases, one of them with classes that
    /// no example has.
    fn shapes() -> Vec<Shape> {
        let of = |widths: &[usize], classes| {
            [false, true].map(|biases| Shape::of(INPUTS, widths, classes, biases))
        };
        [of(&[20], 10), of(&[18, 14], 13), of(&[17, 9, 12], 10)].concat()
    }

    /// A net whose activations are of the order of 1 in every layer.
    fn init(shape: Shape) -> Net {
        let mut net = Init::Uniform.draw(shape, "0", "net");
        for l in 1..net.layers() {
            net.weights_mut(l).iter_mut().for_each(|w| *w *= 2.0);
        }
        net
    }

    #[test]
    fn the_engines_agree_on_the_gradient_and_on_fifty_steps_of_every_prior_at_every_depth() {
        let data = examples(400, "engines");
        let images = Sparse::from_pixels(&data.pixels, INPUTS);
        let batch_size = 32;
        let priors = PriorKind::ALL.iter().map(|kind| kind.example());
        let cases = priors.flat_map(|prior| shapes().into_iter().map(move |shape| (prior, shape)));
        // With the prior on the biases, which is the default, and without.
        let cases = cases.flat_map(|(prior, shape)| {
            let spared = (shape.biases && prior != Prior::None).then_some(Prior::None);
            [Some(prior), spared].into_iter().flatten().map(move |biases| (prior, biases, shape))
        });
        for (prior, of_biases, shape) in cases {
            let init = init(shape);
            let start = |kind: &EngineKind| (*kind, kind.start(&init, NonZero::<usize>::MIN));
            let mut engines: Vec<_> = EngineKind::ALL.iter().map(start).collect();
            let mut dropout = stream("0", "dropout");
            let mut losses = Vec::new();
            for step in 1..=50 {
                let chosen = (0..batch_size).map(|i| (step as u32 * batch_size + i) * 7 % 400);
                let chosen: Vec<u32> = chosen.collect();
                let masks = prior.dropout_masks(chosen.len(), shape.widths, &mut dropout);
                let batch =
                    Batch { images: &images, labels: &data.labels, chosen: &chosen, masks: &masks };
                if step == 1 {
                    let gradient = |engine: &mut Box<dyn Engine>| engine.gradient(&batch).0;
                    let [(_, first), others @ ..] = &mut engines[..] else { panic!("no engine") };
                    let expected = gradient(first);
                    for (_, engine) in others {
                        let found = gradient(engine);
                        for l in 0..expected.layers() {
                            let case = format!("{prior}, {shape}, layer {l}");
                            assert_close(expected.weights(l), found.weights(l), &case);
                            if shape.biases {
                                assert_close(expected.biases(l), found.biases(l), &case);
                            }
                        }
                    }
                }
                let update = |prior| Optimizer::default().update(step, 0.05, prior, data.len());
                let updates = Updates { weights: update(prior), biases: update(of_biases) };
                let updates = vec![updates; shape.layers()];
                let stats =
                    engines.iter_mut().map(|(kind, engine)| (kind, engine.step(&batch, &updates)));
                let stats: Vec<_> = stats.collect();
                let (_, expected) = stats[0];
                for (kind, found) in stats {
                    let case = format!(
                        "{prior}, {of_biases} on biases, {shape}, {kind}, {step}: {found:?} \
                         {expected:?}"
                    );
                    assert!((expected.loss / found.loss - 1.0).abs() < 1e-4, "{case}");
                    assert_eq!(expected.wrong, found.wrong, "{case}");
                }
                losses.push(expected.loss);
            }
            let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
            let (before, after) = (mean(&losses[..10]), mean(&losses[40..]));
            let case = format!("{prior}, {of_biases} on biases, {shape}");
            assert!(after < 0.97 * before, "{case}: the loss must fall, {losses:?}");
        }
    }

    /// Compares within 1e-5 of the norm, and of the largest entry.
    fn assert_close(a: &[f32], b: &[f32], case: &str) {
        let wide = |x: f32| f64::from(x);
        let norm = b.iter().map(|&b| wide(b).powi(2)).sum::<f64>().sqrt();
        let largest = b.iter().fold(0.0, |largest, &b| wide(b).abs().max(largest));
        let difference = || a.iter().zip(b).map(|(&a, &b)| (wide(a) - wide(b)).abs());
        assert!(largest > 0.0);
        assert!(difference().map(|d| d * d).sum::<f64>().sqrt() < 1e-5 * norm, "{case}");
        assert!(difference().all(|d| d < 1e-5 * largest), "{case}");
    }

    #[test]
    fn a_packed_net_has_all_parameters_and_their_sums_are_those_of_the_nets() {
        for shape in shapes() {
            let [a, b] = ["a", "b"].map(|net| Init::Uniform.draw(shape, "0", net));
            for &kind in EngineKind::ALL {
                let [mut first, second] =
                    [&a, &b].map(|net| kind.start(net, NonZero::<usize>::MIN));
                let (x, y) = (first.packed(), second.packed());
                assert_eq!(first.unpack(&y), b, "{kind}, {shape}");
                let sums: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
                let mut rest = &sums[..];
                for run in first.runs_mut() {
                    run.copy_from_slice(rest.split_off(..run.len()).expect("as many numbers"));
                }
                assert!(rest.is_empty());
                let sum = first.net();
                let expected = a.params().iter().zip(b.params()).map(|(a, b)| a + b);
                assert!(sum.params().iter().copied().eq(expected), "{kind}, {shape}");
                let biases = first.runs().iter().filter(|run| run.are_biases).count();
                assert_eq!(biases > 0, shape.biases, "{kind}, {shape}");
                for l in 0..shape.layers() {
                    let weights =
                        first.runs().into_iter().filter(|r| r.layer == l && !r.are_biases);
                    let numbers = weights.flat_map(|run| run.data).filter(|w| **w != 0.0).count();
                    assert_eq!(numbers, shape.fan_in(l) * shape.fan_out(l), "{kind}, {shape}");
                }
            }
        }
    }

    #[test]
    fn a_gradient_does_not_change_the_net() {
        let data = examples(3, "still");
        let images = Sparse::from_pixels(&data.pixels, INPUTS);
        let batch = Batch { images: &images, labels: &data.labels, chosen: &[0, 1, 2], masks: &[] };
        for shape in shapes() {
            let init = Init::Uniform.draw(shape, "0", "net");
            for &kind in EngineKind::ALL {
                let mut engine = kind.start(&init, NonZero::<usize>::MIN);
                assert_eq!(engine.gradient(&batch), engine.gradient(&batch));
                assert_eq!(engine.net(), init);
            }
        }
    }
}
