//! Optimisers and the schedule of the learning rate (SCIENCE: "Model, data, training").
//!
//! This file turns settings into the [`Update`] of a step; the kernels apply it to the weights.

use super::prior::Prior;
use crate::kernel::update::Update;
use crate::study::bounded::{Fraction, Positive};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
    /// Adam (Kingma and Ba, 2015).
    Adam(Adam),
}

/// v <- momentum v + g; w <- w - rate v.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate, before the schedule.
    pub rate: Positive,
    /// The fraction of the last velocity that is kept.
    pub momentum: Fraction,
}

/// m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g²; at step t = 1, 2, ...
/// w <- w - rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Learning rate, before the schedule.
    pub rate: Positive,
    /// The fraction of the mean gradient that is kept.
    pub beta1: Fraction,
    /// The fraction of the mean squared gradient that is kept.
    pub beta2: Fraction,
    /// Keeps the quotient finite.
    pub epsilon: Positive,
}

const ABOVE_ZERO: &str = "a default above zero";
const FRACTION: &str = "a default from 0 up to 1";

impl Default for Sgd {
    fn default() -> Self {
        Sgd {
            rate: Positive::try_from(0.01).expect(ABOVE_ZERO),
            momentum: Fraction::try_from(0.9).expect(FRACTION),
        }
    }
}

impl Default for Adam {
    fn default() -> Self {
        Adam {
            rate: Positive::try_from(0.001).expect(ABOVE_ZERO),
            beta1: Fraction::try_from(0.9).expect(FRACTION),
            beta2: Fraction::try_from(0.999).expect(FRACTION),
            epsilon: Positive::try_from(1e-8).expect(ABOVE_ZERO),
        }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer::Sgd(Sgd::default())
    }
}

impl Optimizer {
    /// Learning rate, before the schedule.
    pub fn rate(self) -> f64 {
        match self {
            Optimizer::Sgd(sgd) => sgd.rate.get(),
            Optimizer::Adam(adam) => adam.rate.get(),
        }
    }

    /// The update of every weight in step `step` (from 1), at the learning rate `rate`, under
    /// `prior` with `images` training images.
    ///
    /// A threshold acts once per step. A gradient acts 1 / (1 - momentum) times under momentum, and
    /// over sqrt(v) under Adam. The threshold is scaled in the same way, so that both balance at
    /// the minimum of the objective.
    pub fn update(self, step: u64, rate: f64, prior: Prior, images: usize) -> Update {
        let decay = prior.decay(images) as f32;
        let shrink = rate * prior.shrink(images);
        match self {
            Optimizer::Sgd(sgd) => {
                let momentum = sgd.momentum.get();
                let shrink = (shrink / (1.0 - momentum)) as f32;
                Update::Momentum { rate: rate as f32, momentum: momentum as f32, decay, shrink }
            }
            Optimizer::Adam(adam) => {
                let (beta1, beta2) = (adam.beta1.get(), adam.beta2.get());
                let unbiased = |beta: f64| 1.0 - libm::pow(beta, step as f64);
                Update::Adam {
                    rate: (rate / unbiased(beta1)) as f32,
                    scale: (1.0 / unbiased(beta2).sqrt()) as f32,
                    mean: (beta1 as f32, (1.0 - beta1) as f32),
                    square: (beta2 as f32, (1.0 - beta2) as f32),
                    epsilon: adam.epsilon.get() as f32,
                    decay,
                    shrink: shrink as f32,
                }
            }
        }
    }
}

/// The factor of the learning rate in `epoch` (from 1) of `epochs`: 1 for the first half, then
/// linear to 0.01 at nine tenths, then 0.01 (the ICML authors' code).
pub fn lr_factor(epoch: u32, epochs: u32) -> f64 {
    let alpha = f64::from(epoch) / f64::from(epochs);
    if alpha <= 0.5 {
        1.0
    } else if alpha <= 0.9 {
        1.0 - 0.99 * (alpha - 0.5) / 0.4
    } else {
        0.01
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_has_its_values_by_hand() {
        for (epoch, expected) in
            [(1, 1.0), (15, 1.0), (16, 0.9175), (21, 0.505), (27, 0.01), (28, 0.01), (30, 0.01)]
        {
            assert!(
                (lr_factor(epoch, 30) - expected).abs() < 1e-12,
                "epoch {epoch}: {}",
                lr_factor(epoch, 30)
            );
        }
        assert_eq!(lr_factor(1, 1), 0.01, "a single epoch is the last one");
    }

    #[test]
    fn an_optimizer_parses_back_with_defaults_filled_in() {
        let read = |json: &str| serde_json::from_str::<Optimizer>(json).map_err(|e| e.to_string());
        assert_eq!(read(r#"{"sgd":{}}"#), Ok(Optimizer::default()));
        assert_eq!(read(r#"{"adam":{}}"#), Ok(Optimizer::Adam(Adam::default())));
        assert_eq!(read(r#"{"adam":{"beta1":0.5}}"#).unwrap().rate(), 0.001);
        assert!(
            read(r#"{"sgd":{"nesterov":true}}"#).unwrap_err().contains("unknown field `nesterov`")
        );
        assert!(read(r#"{"sgd":{"momentum":1}}"#).is_err());
        let json = serde_json::to_string(&Optimizer::default()).unwrap();
        assert_eq!(json, r#"{"sgd":{"rate":0.01,"momentum":0.9}}"#);
    }

    #[test]
    fn the_update_scales_a_prior_by_images_and_rate() {
        let normal = Prior::Normal { variance: 0.01.try_into().unwrap() };
        let laplace = Prior::Laplace { scale: 0.1.try_into().unwrap() };
        let sgd = Optimizer::default();
        let expected = Update::Momentum { rate: 0.005, momentum: 0.9, decay: 0.002, shrink: 0.0 };
        assert_eq!(sgd.update(1, 0.005, normal, 50_000), expected);
        let expected = Update::Momentum { rate: 0.005, momentum: 0.9, decay: 0.0, shrink: 1e-5 };
        assert_eq!(sgd.update(1, 0.005, laplace, 50_000), expected);
    }

    #[test]
    fn without_momentum_the_threshold_is_rate_times_slope() {
        let laplace = Prior::Laplace { scale: 0.1.try_into().unwrap() };
        let plain =
            Optimizer::Sgd(Sgd { momentum: Fraction::try_from(0.0).unwrap(), ..Sgd::default() });
        let expected = Update::Momentum { rate: 0.005, momentum: 0.0, decay: 0.0, shrink: 1e-6 };
        assert_eq!(plain.update(1, 0.005, laplace, 50_000), expected);
        let Update::Adam { shrink, .. } =
            Optimizer::Adam(Adam::default()).update(2, 0.005, laplace, 50_000)
        else {
            panic!("not adam");
        };
        assert_eq!(shrink, 1e-6, "not yet scaled by the weight");
    }

    #[test]
    fn adam_has_its_bias_corrections_by_hand() {
        let Update::Adam { rate, scale, .. } =
            Optimizer::Adam(Adam::default()).update(2, 0.001, Prior::None, 1)
        else {
            panic!("not adam");
        };
        assert!((rate - 0.001 / 0.19).abs() < 1e-9);
        assert!((scale - 1.0 / 0.001_999f32.sqrt()).abs() < 1e-5);
    }
}
