//! Priors on the parameters, and what each does in training (SCIENCE: "Priors").
//!
//! The objective is the mean cross-entropy + (1/N)(-log p(Θ)), N the number of training images. Both layers alike.

use crate::study::bounded::{Fraction, Positive};
use rand_chacha::rand_core::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is known of the parameters before the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Prior {
    /// Nothing.
    #[default]
    None,
    /// Independent normal weights with mean 0: adds w / (N variance) to the gradient.
    Normal {
        /// Variance of a weight.
        variance: Positive,
    },
    /// Independent Laplace weights with mean 0: a proximal step after the update, a soft threshold by
    /// rate / ((1 - momentum) N scale), since momentum lets a gradient act 1 / (1 - momentum) times.
    Laplace {
        /// Mean of |w|; scale = sqrt(variance / 2) matches a normal prior's variance.
        scale: Positive,
    },
    /// Hidden units are dropped in training with this probability, those kept are scaled by 1 / (1 - p).
    Dropout(Fraction),
}

impl Prior {
    /// What multiplies w in the gradient, for `images` training images.
    pub fn decay(self, images: usize) -> f64 {
        match self {
            Prior::Normal { variance } => 1.0 / (images as f64 * variance.get()),
            _ => 0.0,
        }
    }

    /// The slope of the prior's part of the objective at a weight above zero, for `images` training images; its sign is the
    /// weight's.
    pub fn shrink(self, images: usize) -> f64 {
        match self {
            Prior::Laplace { scale } => 1.0 / (images as f64 * scale.get()),
            _ => 0.0,
        }
    }

    /// Which of `hidden` neurons are kept for each of `images` images; none if nothing is ever dropped.
    pub fn keep(self, images: usize, hidden: usize, rng: &mut impl Rng) -> Option<Keep> {
        match self {
            Prior::Dropout(p) => Some(Keep::draw(p, images * hidden, rng)),
            _ => None,
        }
    }
}

/// As in labels of nodes and tables: `none`, `normal 0.01`, `laplace 0.07`, `dropout 0.5`.
impl fmt::Display for Prior {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Prior::None => write!(f, "none"),
            Prior::Normal { variance } => write!(f, "normal {}", variance.get()),
            Prior::Laplace { scale } => write!(f, "laplace {}", scale.get()),
            Prior::Dropout(p) => write!(f, "dropout {}", p.get()),
        }
    }
}

/// Dropout's choice for one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Keep {
    /// [images, h]: whether the neuron is kept for the image.
    pub flags: Vec<bool>,
    /// What the kept ones are multiplied by: 1 / (1 - p).
    pub scale: f32,
}

impl Keep {
    /// Drops each of `count` with probability `p`, rounded to a multiple of 2^-16: one u16 decides one flag.
    fn draw(p: Fraction, count: usize, rng: &mut impl Rng) -> Keep {
        let threshold = libm::round(p.get() * 65536.0).min(65535.0);
        let mut bytes = vec![0; 2 * count];
        rng.fill_bytes(&mut bytes);
        let (draws, _) = bytes.as_chunks::<2>();
        let flags =
            draws.iter().map(|&draw| u16::from_le_bytes(draw) >= threshold as u16).collect();
        Keep { flags, scale: (1.0 / (1.0 - threshold / 65536.0)) as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::rng;

    fn read(json: &str) -> Result<Prior, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn a_prior_reads_as_it_is_written_and_labels_itself() {
        for (json, label) in [
            (r#""none""#, "none"),
            (r#"{"normal":{"variance":0.01}}"#, "normal 0.01"),
            (r#"{"laplace":{"scale":0.07}}"#, "laplace 0.07"),
            (r#"{"dropout":0.5}"#, "dropout 0.5"),
        ] {
            let prior = read(json).unwrap();
            assert_eq!(serde_json::to_string(&prior).unwrap(), json);
            assert_eq!(prior.to_string(), label);
        }
    }

    #[test]
    fn an_absurd_or_unknown_prior_is_refused() {
        assert!(
            read(r#"{"normal":{"variance":-1}}"#)
                .unwrap_err()
                .contains("`-1` is out of bounds; write a number above zero")
        );
        assert!(
            read(r#"{"normal":{"variance":1,"mean":0}}"#)
                .unwrap_err()
                .contains("unknown field `mean`")
        );
        assert!(read(r#"{"dropout":1}"#).is_err());
        assert!(read(r#""flat""#).is_err());
    }

    #[test]
    fn each_prior_acts_by_its_own_formula_alone() {
        let normal = read(r#"{"normal":{"variance":0.01}}"#).unwrap();
        let laplace = read(r#"{"laplace":{"scale":0.1}}"#).unwrap();
        assert!((normal.decay(50_000) - 0.002).abs() < 1e-15 && normal.shrink(50_000) == 0.0);
        assert!((laplace.shrink(50_000) - 0.0002).abs() < 1e-15 && laplace.decay(50_000) == 0.0);
        for prior in [Prior::None, read(r#"{"dropout":0.5}"#).unwrap()] {
            assert_eq!((prior.decay(7), prior.shrink(7)), (0.0, 0.0));
        }
    }

    #[test]
    fn dropout_drops_as_often_as_asked_and_keeps_the_mean() {
        for (p, scale) in [(0.0, 1.0), (0.25, 4.0 / 3.0), (0.5, 2.0), (0.999_999, 65536.0)] {
            let prior = Prior::Dropout(Fraction::try_from(p).unwrap());
            let keep = prior.keep(100, 1000, &mut rng::stream("0", "dropout")).unwrap();
            assert_eq!((keep.flags.len(), keep.scale), (100_000, scale as f32));
            let kept = keep.flags.iter().filter(|&&kept| kept).count() as f64 / 1e5;
            assert!((kept - (1.0 - p)).abs() < 0.005, "{kept} kept of {p}");
        }
    }
}
