//! The engines there are, by name.

use super::Mlp;
use super::autodiff::Autodiff;
use super::engine::Engine;
use super::kernel_engine::KernelEngine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZero;

/// The engines there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// Our own kernels: the same bits on every machine.
    #[default]
    Kernel,
    /// dfdx, an independent check of our gradients. Slower, and its last bits depend on the machine.
    Autodiff,
}

impl EngineKind {
    /// An engine of this kind, about to train `net` on `threads`, which make no difference to the bits.
    pub fn start(self, net: &Mlp, threads: NonZero<usize>) -> Box<dyn Engine> {
        match self {
            EngineKind::Kernel => Box::new(KernelEngine::new(net, threads)),
            EngineKind::Autodiff => Box::new(Autodiff::new(net)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::examples;
    use super::super::{Batch, INPUTS, Init, Optimizer, Prior};
    use super::*;
    use crate::kernel::sparse::Sparse;
    use crate::study::rng::stream;

    #[test]
    fn the_engines_agree_on_the_gradient_and_on_fifty_steps_of_every_prior() {
        let data = examples(400, "engines");
        let images = Sparse::from_pixels(&data.pixels, INPUTS);
        let (hidden, batch_size) = (20, 32);
        let init = Init::Uniform.draw((hidden as u32).try_into().unwrap(), &mut stream("0", "net"));
        for prior in [
            Prior::None,
            Prior::Normal { variance: 0.02.try_into().unwrap() },
            Prior::Laplace { scale: 2.0.try_into().unwrap() },
            Prior::Dropout(0.5.try_into().unwrap()),
        ] {
            let mut engines = [EngineKind::Kernel, EngineKind::Autodiff]
                .map(|kind| kind.start(&init, NonZero::<usize>::MIN));
            let mut dropout = stream("0", "dropout");
            let mut losses = Vec::new();
            for step in 1..=50 {
                let chosen: Vec<u32> =
                    (0..batch_size).map(|i| (step as u32 * batch_size + i) * 7 % 400).collect();
                let keep = prior.keep(chosen.len(), hidden, &mut dropout);
                let batch = Batch {
                    images: &images,
                    labels: &data.labels,
                    chosen: &chosen,
                    keep: keep.as_ref(),
                };
                if step == 1 {
                    let [kernel, autodiff] =
                        engines.each_mut().map(|engine| engine.gradient(&batch).0);
                    assert_close(kernel.w1(), autodiff.w1(), prior);
                    assert_close(kernel.w2(), autodiff.w2(), prior);
                }
                let update = Optimizer::default().update(step, 0.05, prior, data.len());
                let [kernel, autodiff] =
                    engines.each_mut().map(|engine| engine.step(&batch, update));
                assert!(
                    (kernel.loss / autodiff.loss - 1.0).abs() < 1e-4,
                    "{prior}, step {step}: {kernel:?} {autodiff:?}"
                );
                assert_eq!(kernel.wrong, autodiff.wrong, "{prior}, step {step}");
                losses.push(kernel.loss);
            }
            assert!(
                losses[49] < 0.8 * losses[0],
                "{prior}: {losses:?} must fall, or there is little to agree on"
            );
        }
    }

    /// To 1e-5 of the norm, and of the largest entry.
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
    fn looking_at_a_gradient_moves_nothing() {
        let data = examples(3, "still");
        let images = Sparse::from_pixels(&data.pixels, INPUTS);
        let batch = Batch { images: &images, labels: &data.labels, chosen: &[0, 1, 2], keep: None };
        let init = Init::Uniform.draw(7.try_into().unwrap(), &mut stream("0", "net"));
        for kind in [EngineKind::Kernel, EngineKind::Autodiff] {
            let mut engine = kind.start(&init, NonZero::<usize>::MIN);
            assert_eq!(engine.gradient(&batch), engine.gradient(&batch));
            assert_eq!(engine.net(), init);
        }
    }
}
