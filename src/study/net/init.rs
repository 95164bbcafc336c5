//! Initialisation of nets (SCIENCE: "Model, data, training").

use super::Mlp;
use crate::study::bounded::{Positive, Width};
use crate::study::rng;
use rand_chacha::rand_core::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The distribution of the initial weights, which are independent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Init {
    /// Uniform within ± 1 / sqrt(fan-in): 784 for the first layer, h for the second.
    #[default]
    Uniform,
    /// Normal with mean 0, both layers alike.
    Normal {
        /// Standard deviation of a weight.
        std: Positive,
    },
}

impl Init {
    /// A net of `hidden` neurons; w1 is drawn first, then w2, row by row.
    pub fn draw(self, hidden: Width, rng: &mut impl Rng) -> Mlp {
        let mut net = Mlp::zeros(hidden.get() as usize);
        let (w1, w2) = net.layers_mut();
        for (layer, fan_in) in [(w1, super::INPUTS as f64), (w2, f64::from(hidden.get()))] {
            let bound = 1.0 / fan_in.sqrt();
            for w in layer {
                *w = match self {
                    Init::Uniform => bound * (2.0 * rng::uniform(rng) - 1.0),
                    Init::Normal { std } => std.get() * rng::normal(rng),
                } as f32;
            }
        }
        net
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_mean_square(weights: &[f32]) -> f64 {
        (weights.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / weights.len() as f64).sqrt()
    }

    fn draw(init: Init) -> Mlp {
        init.draw(Width::try_from(400).unwrap(), &mut rng::stream("0", "init"))
    }

    #[test]
    fn uniform_weights_fill_their_layers_bounds() {
        let net = draw(Init::Uniform);
        for (layer, bound) in [(net.w1(), 1.0 / 28.0), (net.w2(), 0.05)] {
            let largest = layer.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
            assert!(largest <= bound && largest > 0.99 * bound);
            assert!(
                (root_mean_square(layer) / f64::from(bound) - 1.0 / 3.0f64.sqrt()).abs() < 0.01
            );
        }
    }

    #[test]
    fn normal_weights_have_the_requested_deviation() {
        let net = draw(Init::Normal { std: Positive::try_from(0.1).unwrap() });
        assert!((root_mean_square(net.w1()) - 0.1).abs() < 0.001);
        assert!((root_mean_square(net.w2()) - 0.1).abs() < 0.005);
    }

    #[test]
    fn an_init_parses_back() {
        for json in [r#""uniform""#, r#"{"normal":{"std":0.1}}"#] {
            let init: Init = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&init).unwrap(), json);
        }
    }
}
