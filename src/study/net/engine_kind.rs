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
    use super::super::{Batch, INPUTS, Init, Optimizer, Prior, PriorKind, Shape};
    use super::*;
    use crate::kernel::sparse::Sparse;
    use crate::study::rng::stream;

    #[test]
    fn the_engines_agree_on_the_gradient_and_on_fifty_steps_of_every_prior() {
        let data = examples(400, "engines");
        let images = Sparse::from_pixels(&data.pixels, INPUTS);
        let (hidden, batch_size) = (20, 32);
        let init = Init::Uniform.draw(Shape::talk(hidden), "0", "net");
        for prior in PriorKind::ALL.iter().map(|kind| kind.example()) {
            let start = |kind: &EngineKind| (*kind, kind.start(&init, NonZero::<usize>::MIN));
            let mut engines: Vec<_> = EngineKind::ALL.iter().map(start).collect();
            let mut dropout = stream("0", "dropout");
            let mut losses = Vec::new();
            for step in 1..=50 {
                let chosen = (0..batch_size).map(|i| (step as u32 * batch_size + i) * 7 % 400);
                let chosen: Vec<u32> = chosen.collect();
                let mask = prior.dropout_mask(chosen.len(), hidden, &mut dropout);
                let batch = Batch {
                    images: &images,
                    labels: &data.labels,
                    chosen: &chosen,
                    masks: mask.as_slice(),
                };
                if step == 1 {
                    let gradient = |engine: &mut Box<dyn Engine>| engine.gradient(&batch).0;
                    let [(_, first), others @ ..] = &mut engines[..] else { panic!("no engine") };
                    let expected = gradient(first);
                    for (_, engine) in others {
                        let found = gradient(engine);
                        assert_close(expected.weights(0), found.weights(0), prior);
                        assert_close(expected.weights(1), found.weights(1), prior);
                    }
                }
                let update = Optimizer::default().update(step, 0.05, prior, data.len());
                let stats =
                    engines.iter_mut().map(|(kind, engine)| (kind, engine.step(&batch, update)));
                let stats: Vec<_> = stats.collect();
                let (_, expected) = stats[0];
                for (kind, found) in stats {
                    let case = format!("{prior}, {kind}, step {step}: {found:?} {expected:?}");
                    assert!((expected.loss / found.loss - 1.0).abs() < 1e-4, "{case}");
                    assert_eq!(expected.wrong, found.wrong, "{case}");
                }
                losses.push(expected.loss);
            }
            assert!(losses[49] < 0.8 * losses[0], "{prior}: the loss must fall, {losses:?}");
        }
    }

    /// Compares within 1e-5 of the norm, and of the largest entry.
    fn assert_close(a: &[f32], b: &[f32], prior: Prior) {
        let wide = |x: f32| f64::from(x);
        let norm = b.iter().map(|&b| wide(b).powi(2)).sum::<f64>().sqrt();
        let largest = b.iter().fold(0.0, |largest, &b| wide(b).abs().max(largest));
        let difference = || a.iter().zip(b).map(|(&a, &b)| (wide(a) - wide(b)).abs());
        assert!(largest > 0.0);
        assert!(difference().map(|d| d * d).sum::<f64>().sqrt() < 1e-5 * norm, "{prior}");
        assert!(difference().all(|d| d < 1e-5 * largest), "{prior}");
    }

    #[test]
    fn a_gradient_does_not_change_the_net() {
        let data = examples(3, "still");
        let images = Sparse::from_pixels(&data.pixels, INPUTS);
        let batch = Batch { images: &images, labels: &data.labels, chosen: &[0, 1, 2], masks: &[] };
        let init = Init::Uniform.draw(Shape::talk(7), "0", "net");
        for &kind in EngineKind::ALL {
            let mut engine = kind.start(&init, NonZero::<usize>::MIN);
            assert_eq!(engine.gradient(&batch), engine.gradient(&batch));
            assert_eq!(engine.net(), init);
        }
    }
}
