//! The straight line (1 - t) A + t B.

use super::Curve;

/// (1 - t) A + t B.
#[derive(Debug)]
pub(super) struct Linear;

impl Curve for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn title(&self) -> &'static str {
        "Linear"
    }

    fn definition(&self) -> &'static str {
        "The straight line from A to B in parameter space, (1 - t) A + t B."
    }

    fn coefficients(&self, t: f64, _: f64) -> [f64; 3] {
        [1.0 - t, t, 0.0]
    }
}
