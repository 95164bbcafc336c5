//! Initialisation of nets (SCIENCE: "Model, data, training").

use super::{Net, Shape};
use crate::study::bounded::Positive;
use crate::study::rng;
use rand_chacha::rand_core::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The distribution of the initial parameters, which are independent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Init {
    /// Uniform within ± 1 / sqrt(fan-in), biases too.
    #[default]
    Uniform,
    /// Normal with mean 0, all layers alike, biases too.
    Normal {
        /// Standard deviation of a parameter.
        std: Positive,
    },
}

impl Init {
    /// A net of this shape. The weights are drawn from the stream `label` of `seed`, layer by layer
    /// and row by row; the biases from a stream of their own, so that a net with biases has the
    /// weights of one without.
    pub fn draw(self, shape: Shape, seed: &str, label: &str) -> Net {
        let mut net = Net::zeros(shape);
        let mut rng = rng::stream(seed, label);
        let mut of_biases = rng::stream(seed, &format!("{label}/biases"));
        for l in 0..net.layers() {
            let bound = 1.0 / (shape.fan_in(l) as f64).sqrt();
            self.fill(net.weights_mut(l), bound, &mut rng);
            self.fill(net.biases_mut(l), bound, &mut of_biases);
        }
        net
    }

    fn fill(self, parameters: &mut [f32], bound: f64, rng: &mut impl Rng) {
        for w in parameters {
            *w = match self {
                Init::Uniform => bound * (2.0 * rng::uniform(rng) - 1.0),
                Init::Normal { std } => std.get() * rng::normal(rng),
            } as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_mean_square(weights: &[f32]) -> f64 {
        (weights.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / weights.len() as f64).sqrt()
    }

    fn draw(init: Init) -> Net {
        init.draw(Shape::talk(400), "0", "init")
    }

    #[test]
    fn uniform_weights_fill_their_layers_bounds() {
        let net = draw(Init::Uniform);
        for (layer, bound) in [(net.weights(0), 1.0 / 28.0), (net.weights(1), 0.05)] {
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
        assert!((root_mean_square(net.weights(0)) - 0.1).abs() < 0.001);
        assert!((root_mean_square(net.weights(1)) - 0.1).abs() < 0.005);
    }

    #[test]
    fn an_init_parses_back() {
        for json in [r#""uniform""#, r#"{"normal":{"std":0.1}}"#] {
            let init: Init = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&init).unwrap(), json);
        }
    }
}
