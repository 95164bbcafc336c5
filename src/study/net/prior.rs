//! Priors on the parameters, and their effect on training (SCIENCE: "Priors").
//!
//! The objective is the mean cross-entropy + (1/N)(-log p(Θ)), N the number of training images.
//! All layers have the same prior, unless it has a variance or a scale for each. Biases have that
//! of their layer, unless a training spares them.

use super::per_layer::PerLayer;
use super::widths::Widths;
use crate::study::bounded::Fraction;
use crate::study::registry::named_enum;
use rand_chacha::rand_core::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The prior distribution of the parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Prior {
    /// No prior.
    #[default]
    None,
    /// Independent normal weights with mean 0: adds w / (N variance) to the gradient.
    Normal {
        /// Variance of a weight: a number, or one for each layer, such as `0.01x0.1`.
        variance: PerLayer,
    },
    /// Independent Laplace weights with mean 0: a proximal step after the update, a soft threshold
    /// by rate / ((1 - momentum) N scale), since momentum applies a gradient 1 / (1 - momentum)
    /// times.
    Laplace {
        /// Mean of |w|: a number, or one for each layer, such as `0.07x0.2`; scale =
        /// sqrt(variance / 2) matches a normal prior's variance.
        scale: PerLayer,
    },
    /// Hidden units are dropped in training with this probability, the others scaled by
    /// 1 / (1 - p).
    Dropout(Fraction),
}

named_enum! {
    "prior"
    /// The kind of a prior.
    pub enum PriorKind {
        /// [`Prior::None`].
        None = "none",
        /// [`Prior::Normal`].
        Normal = "normal",
        /// [`Prior::Laplace`].
        Laplace = "laplace",
        /// [`Prior::Dropout`].
        Dropout = "dropout",
    }
}

impl PriorKind {
    /// The prior of this kind with the parameter `value`; only `none` has no parameter.
    pub fn with(self, value: Option<f64>) -> Result<Prior, String> {
        match (self, value) {
            (PriorKind::None, None) => Ok(Prior::None),
            (PriorKind::Normal, Some(x)) => Ok(Prior::Normal { variance: x.try_into()? }),
            (PriorKind::Laplace, Some(x)) => Ok(Prior::Laplace { scale: x.try_into()? }),
            (PriorKind::Dropout, Some(x)) => Ok(Prior::Dropout(x.try_into()?)),
            (_, None) => Err(format!("the prior `{self}` needs a number")),
            (_, Some(_)) => Err(format!("the prior `{self}` has no number")),
        }
    }

    /// What the prior is, in one sentence of plain text.
    pub fn definition(self) -> &'static str {
        match self {
            PriorKind::None => {
                "The parameters have no prior: training minimises the cross-entropy."
            }
            PriorKind::Normal => {
                "Independent normal weights with mean 0 and the variance in the name: adds w / (N \
                 variance) to the gradient, N the number of training images."
            }
            PriorKind::Laplace => {
                "Independent Laplace weights with mean 0 and the scale in the name: a soft \
                 threshold after each update."
            }
            PriorKind::Dropout => {
                "In training, each hidden neuron is dropped with the probability in the name, and \
                 the others are scaled by 1 / (1 - p)."
            }
        }
    }

    /// A prior of this kind for tests, strong enough to show in a short training.
    #[cfg(test)]
    pub(crate) fn example(self) -> Prior {
        let value = match self {
            PriorKind::None => None,
            PriorKind::Normal => Some(0.1),
            PriorKind::Laplace => Some(2.0),
            PriorKind::Dropout => Some(0.5),
        };
        self.with(value).expect("a prior in bounds")
    }
}

impl Prior {
    /// Its kind.
    pub fn kind(self) -> PriorKind {
        match self {
            Prior::None => PriorKind::None,
            Prior::Normal { .. } => PriorKind::Normal,
            Prior::Laplace { .. } => PriorKind::Laplace,
            Prior::Dropout(_) => PriorKind::Dropout,
        }
    }

    /// The variance of a weight; `None` where the prior is not a density of the weights, or has a
    /// variance for each layer.
    pub fn variance(self) -> Option<f64> {
        match self {
            Prior::Normal { variance } => variance.single(),
            Prior::Laplace { scale } => scale.single().map(|scale| 2.0 * scale * scale),
            Prior::None | Prior::Dropout(_) => None,
        }
    }

    /// The number of layers that the prior is for, the output layer included; `None` if it is for
    /// any number of them.
    pub fn layers(self) -> Option<usize> {
        match self {
            Prior::Normal { variance: numbers } | Prior::Laplace { scale: numbers } => {
                numbers.layers()
            }
            Prior::None | Prior::Dropout(_) => None,
        }
    }

    /// Refuses a net of `hidden` layers if the prior is for another number of layers.
    ///
    /// # Errors
    /// One sentence.
    pub fn check_layers(self, hidden: Widths) -> Result<(), String> {
        let layers = hidden.depth() + 1;
        match self.layers() {
            Some(count) if count != layers => Err(format!(
                "the prior `{self}` is for {count} layers, but a net with the hidden layers \
                 `{hidden}` has {layers}"
            )),
            _ => Ok(()),
        }
    }

    /// The prior of layer `l`, counted from 0, with a single variance or scale.
    ///
    /// # Panics
    /// If the prior is for fewer layers.
    pub fn of_layer(self, l: usize) -> Prior {
        match self {
            Prior::Normal { variance } => {
                Prior::Normal { variance: PerLayer::all(variance.get(l)) }
            }
            Prior::Laplace { scale } => Prior::Laplace { scale: PerLayer::all(scale.get(l)) },
            Prior::None | Prior::Dropout(_) => self,
        }
    }

    /// The coefficient of w in the gradient of the first layer, for `images` training images; for
    /// another layer, see [`Prior::of_layer`].
    pub fn decay(self, images: usize) -> f64 {
        match self {
            Prior::Normal { variance } => 1.0 / (images as f64 * variance.get(0).get()),
            _ => 0.0,
        }
    }

    /// The slope of the prior's part of the objective at a weight of the first layer above zero,
    /// for `images` training images. Below zero the slope has the opposite sign.
    pub fn shrink(self, images: usize) -> f64 {
        match self {
            Prior::Laplace { scale } => 1.0 / (images as f64 * scale.get(0).get()),
            _ => 0.0,
        }
    }

    /// Draws which neurons of each hidden layer are kept for each of `images` images, layer by
    /// layer; none without dropout.
    pub fn dropout_masks(
        self,
        images: usize,
        widths: Widths,
        rng: &mut impl Rng,
    ) -> Vec<DropoutMask> {
        let Prior::Dropout(p) = self else { return Vec::new() };
        widths.iter().map(|width| DropoutMask::draw(p, images * width, rng)).collect()
    }
}

impl Eq for Prior {}

impl PartialOrd for Prior {
    fn partial_cmp(&self, other: &Prior) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By kind and, within a kind, from the least informative to the most: the order of tables and
/// figures.
impl Ord for Prior {
    fn cmp(&self, other: &Prior) -> Ordering {
        let by_strength = match (self, other) {
            // A smaller variance is more informative.
            (Prior::Normal { variance: a }, Prior::Normal { variance: b })
            | (Prior::Laplace { scale: a }, Prior::Laplace { scale: b }) => b.cmp(a),
            (Prior::Dropout(a), Prior::Dropout(b)) => a.get().total_cmp(&b.get()),
            _ => Ordering::Equal,
        };
        self.kind().cmp(&other.kind()).then(by_strength)
    }
}

/// The label in nodes and tables: `none`, `normal 0.01`, `normal 0.01x0.1`, `laplace 0.07`,
/// `dropout 0.5`.
impl fmt::Display for Prior {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kind = self.kind();
        match self {
            Prior::None => write!(f, "{kind}"),
            Prior::Normal { variance: numbers } | Prior::Laplace { scale: numbers } => {
                write!(f, "{kind} {numbers}")
            }
            Prior::Dropout(p) => write!(f, "{kind} {}", p.get()),
        }
    }
}

impl FromStr for Prior {
    type Err = String;

    fn from_str(label: &str) -> Result<Prior, String> {
        let (kind, value) = match label.split_once(' ') {
            Some((kind, value)) => (kind, Some(value)),
            None => (label, None),
        };
        let not_a_number = |value: &str| format!("`{value}` in `{label}` is not a number");
        let number = |value: &str| value.parse::<f64>().map_err(|_| not_a_number(value));
        let kind: PriorKind = kind.parse()?;
        let layers = value.filter(|value| value.contains('x'));
        match (kind, layers.map(str::parse)) {
            (PriorKind::Normal, Some(Ok(variance))) => Ok(Prior::Normal { variance }),
            (PriorKind::Laplace, Some(Ok(scale))) => Ok(Prior::Laplace { scale }),
            _ => kind.with(value.map(number).transpose()?),
        }
    }
}

/// The neurons that dropout keeps in one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct DropoutMask {
    /// [images, width]: whether the neuron is kept for the image.
    pub flags: Vec<bool>,
    /// The factor of the neurons that are kept: 1 / (1 - p).
    pub scale: f32,
}

impl DropoutMask {
    /// Drops each of `count` with probability `p`, rounded to a multiple of 2^-16: one u16 decides
    /// one flag.
    fn draw(p: Fraction, count: usize, rng: &mut impl Rng) -> DropoutMask {
        let threshold = libm::round(p.get() * 65536.0).min(65535.0);
        let mut bytes = vec![0; 2 * count];
        rng.fill_bytes(&mut bytes);
        let (draws, _) = bytes.as_chunks::<2>();
        let is_kept = |&draw: &[u8; 2]| u16::from_le_bytes(draw) >= threshold as u16;
        let flags = draws.iter().map(is_kept).collect();
        DropoutMask { flags, scale: (1.0 / (1.0 - threshold / 65536.0)) as f32 }
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
    fn a_prior_parses_back_from_json_and_from_its_label() {
        for (json, label) in [
            (r#""none""#, "none"),
            (r#"{"normal":{"variance":0.01}}"#, "normal 0.01"),
            (r#"{"normal":{"variance":"0.01x0.1"}}"#, "normal 0.01x0.1"),
            (r#"{"laplace":{"scale":0.07}}"#, "laplace 0.07"),
            (r#"{"laplace":{"scale":"0.07x0.2x1"}}"#, "laplace 0.07x0.2x1"),
            (r#"{"dropout":0.5}"#, "dropout 0.5"),
        ] {
            let prior = read(json).unwrap();
            assert_eq!(serde_json::to_string(&prior).unwrap(), json);
            assert_eq!((prior.to_string().as_str(), label.parse()), (label, Ok(prior)));
        }
    }

    #[test]
    fn every_kind_of_prior_parses_back_from_its_labels() {
        for &kind in PriorKind::ALL {
            let prior = kind.example();
            assert_eq!(prior.kind(), kind);
            assert_eq!(prior.to_string().parse(), Ok(prior));
            assert_eq!(read(&serde_json::to_string(&prior).unwrap()), Ok(prior));
            if kind == PriorKind::None {
                assert!(kind.with(Some(0.5)).is_err());
                continue;
            }
            assert!(kind.with(None).is_err());
            let smaller = kind.with(Some(0.037)).unwrap();
            assert_eq!(smaller.to_string().parse(), Ok(smaller));
            assert_ne!(smaller.cmp(&prior), Ordering::Equal);
        }
    }

    #[test]
    fn priors_are_ordered_from_the_least_informative_to_the_most() {
        let labels = [
            "none",
            "normal 1",
            "normal 0.01x1",
            "normal 0.01x0.1",
            "normal 0.01",
            "normal 0.001",
            "laplace 0.7",
            "laplace 0.07",
            "dropout 0.1",
            "dropout 0.5",
        ];
        let priors = labels.map(|label| label.parse::<Prior>().unwrap());
        assert!(priors.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn an_out_of_bounds_or_unknown_prior_is_refused() {
        let negative = read(r#"{"normal":{"variance":-1}}"#).unwrap_err();
        assert!(negative.contains("expected a number above zero"));
        let mean = read(r#"{"normal":{"variance":1,"mean":0}}"#).unwrap_err();
        assert!(mean.contains("unknown field `mean`"));
        assert!(read(r#"{"dropout":1}"#).is_err());
        assert!(read(r#""flat""#).is_err());
        let refusal = |label: &str| label.parse::<Prior>().unwrap_err();
        assert_eq!(refusal("normal"), "the prior `normal` needs a number");
        assert_eq!(refusal("none 1"), "the prior `none` has no number");
        assert_eq!(refusal("normal x"), "`x` in `normal x` is not a number");
        assert_eq!(refusal("normal 0"), "`0` is not a number above zero");
        assert_eq!(refusal("normal 1x"), "`1x` in `normal 1x` is not a number");
        assert_eq!(refusal("dropout 0.1x0.2"), "`0.1x0.2` in `dropout 0.1x0.2` is not a number");
    }

    #[test]
    fn a_laplace_prior_has_the_variance_of_the_normal_prior_that_it_matches() {
        let laplace = read(r#"{"laplace":{"scale":0.07}}"#).unwrap();
        let variance = laplace.variance().unwrap();
        assert!((libm::sqrt(variance / 2.0) - 0.07).abs() < 1e-15);
        assert_eq!(PriorKind::Normal.with(Some(0.01)).unwrap().variance(), Some(0.01));
        assert_eq!(
            [PriorKind::None, PriorKind::Dropout].map(|k| k.example().variance()),
            [None; 2]
        );
    }

    #[test]
    fn a_prior_with_a_number_for_each_layer_has_no_single_variance() {
        for (label, of_layers) in [
            ("normal 0.01x0.1", ["normal 0.01", "normal 0.1"]),
            ("laplace 0.07x2", ["laplace 0.07", "laplace 2"]),
        ] {
            let prior: Prior = label.parse().unwrap();
            assert_eq!((prior.variance(), prior.layers()), (None, Some(2)));
            assert_eq!([0, 1].map(|l| prior.of_layer(l).to_string()), of_layers);
        }
        for prior in PriorKind::ALL.iter().map(|kind| kind.example()) {
            assert_eq!((prior.layers(), prior.of_layer(9)), (None, prior));
        }
    }

    #[test]
    fn each_density_enters_the_objective_by_its_own_formula() {
        let normal = read(r#"{"normal":{"variance":0.01}}"#).unwrap();
        let laplace = read(r#"{"laplace":{"scale":0.1}}"#).unwrap();
        assert!((normal.decay(50_000) - 0.002).abs() < 1e-15 && normal.shrink(50_000) == 0.0);
        assert!((laplace.shrink(50_000) - 0.0002).abs() < 1e-15 && laplace.decay(50_000) == 0.0);
        for prior in PriorKind::ALL.iter().map(|kind| kind.example()) {
            let acts = prior.decay(7) > 0.0 || prior.shrink(7) > 0.0;
            assert_eq!(acts, prior.variance().is_some(), "{prior}");
        }
    }

    #[test]
    fn dropout_drops_with_its_probability_and_keeps_the_mean() {
        for (p, scale) in [(0.0, 1.0), (0.25, 4.0 / 3.0), (0.5, 2.0), (0.999_999, 65536.0)] {
            let prior = Prior::Dropout(Fraction::try_from(p).unwrap());
            let widths = Widths::try_from(&[1000, 700][..]).unwrap();
            let masks = prior.dropout_masks(100, widths, &mut rng::stream("0", "dropout"));
            assert_eq!(masks.len(), 2);
            for (mask, width) in masks.iter().zip(widths.iter()) {
                assert_eq!((mask.flags.len(), mask.scale), (100 * width, scale as f32));
                let kept = mask.flags.iter().filter(|&&kept| kept).count();
                let kept = kept as f64 / (100 * width) as f64;
                assert!((kept - (1.0 - p)).abs() < 0.005, "{kept} kept of {p}");
            }
        }
    }
}
