//! Parameters with bounds, checked once, when they are parsed.

use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

/// The number as serde reports it.
fn unexpected(x: impl Into<f64>) -> Unexpected<'static> {
    let x = x.into();
    // All integers here are below 2^53.
    if x.fract() == 0.0 && x >= 0.0 { Unexpected::Unsigned(x as u64) } else { Unexpected::Float(x) }
}

macro_rules! bounded {
    (
        $(#[$meta:meta])*
        $name:ident, $inner:ty, $repr:literal, $rule:literal, $is_in_bounds:expr
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, JsonSchema)]
        #[serde(into = $repr)]
        #[schemars(description = $rule)]
        pub struct $name($inner);

        impl $name {
            /// The number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<$inner> for $name {
            type Error = String;
            fn try_from(x: $inner) -> Result<Self, String> {
                let is_in_bounds: fn($inner) -> bool = $is_in_bounds;
                is_in_bounds(x).then_some($name(x)).ok_or_else(|| format!("`{x}` is not {}", $rule))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let x = <$inner>::deserialize(deserializer)?;
                let refuse = |_| D::Error::invalid_value(unexpected(x), &$rule);
                $name::try_from(x).map_err(refuse)
            }
        }

        impl From<$name> for $inner {
            fn from(x: $name) -> $inner {
                x.0
            }
        }
    };
}

bounded! {
    /// A finite number above zero: a variance, a scale, a learning rate.
    Positive, f64, "f64", "a number above zero", |x| x.is_finite() && x > 0.0
}

bounded! {
    /// A number in [0, 1): a dropout probability, a momentum.
    Fraction, f64, "f64", "a number from 0 up to, but not including, 1", |x| (0.0..1.0).contains(&x)
}

bounded! {
    /// Neurons of a hidden layer; alignment and refit store matrices of this size squared.
    Width, u32, "u32", "a number of neurons from 1 to 8192", |x| (1..=8_192).contains(&x)
}

bounded! {
    /// Passes over the training images; 0 leaves a net as it was initialised.
    Epochs, u32, "u32", "a number of epochs from 0 to 100000", |x| x <= 100_000
}

bounded! {
    /// A number of images, at least one.
    ImageCount, u32, "u32", "a number of images from 1 to 1000000", |x| (1..=1_000_000).contains(&x)
}

bounded! {
    /// Points on a curve, both ends included.
    GridPoints, u32, "u32", "a number of points from 2 to 10001", |x| (2..=10_001).contains(&x)
}

bounded! {
    /// Nets of an ensemble along a curve, both ends included; all are in memory.
    Members, u32, "u32", "a number of nets from 2 to 100", |x| (2..=100).contains(&x)
}

bounded! {
    /// Points of a grid in each direction.
    PlanePoints, u32, "u32", "a number of points from 2 to 401", |x| (2..=401).contains(&x)
}

bounded! {
    /// A margin, as a share of an extent.
    Margin, f64, "f64", "a number from 0 to 10", |x| (0.0..=10.0).contains(&x)
}

bounded! {
    /// Rounds of refinement, each of which halves two intervals of a grid.
    Rounds, u32, "u32", "a number of rounds from 0 to 20", |x| x <= 20
}

bounded! {
    /// Ascents from other starts, the best of which is kept.
    Restarts, u32, "u32", "a number of restarts from 1 to 1000", |x| (1..=1_000).contains(&x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_bounds_are_refused_with_the_rule() {
        assert_eq!(Positive::try_from(-0.01), Err("`-0.01` is not a number above zero".to_owned()));
        assert!(Positive::try_from(f64::NAN).is_err());
        assert!(Positive::try_from(f64::INFINITY).is_err());
        assert!(Fraction::try_from(1.5).is_err());
        assert!(Fraction::try_from(1.0).is_err());
        assert!(Width::try_from(0).is_err());
        assert!(ImageCount::try_from(0).is_err());
    }

    #[test]
    fn numbers_in_bounds_are_unchanged() {
        assert_eq!(Positive::try_from(0.01).map(Positive::get), Ok(0.01));
        assert_eq!(Fraction::try_from(0.0).map(Fraction::get), Ok(0.0));
        assert_eq!(Width::try_from(2000).map(Width::get), Ok(2000));
        assert_eq!(Epochs::try_from(0).map(Epochs::get), Ok(0));
    }
}
