//! The arc M + cos(pi t/2) (A - M) + sin(pi t/2) (B - M) (Anokhin and Yarotsky, arXiv 2008.00741).
//!
//! For neurons drawn independently with mean M, the arc keeps their mean and covariance at every t.

use super::Curve;
use std::f64::consts::FRAC_PI_2;

/// M + cos(pi t/2) (A - M) + sin(pi t/2) (B - M).
#[derive(Debug)]
pub(super) struct Arc;

impl Curve for Arc {
    fn name(&self) -> &'static str {
        "arc"
    }

    fn title(&self) -> &'static str {
        "Arc"
    }

    fn definition(&self) -> &'static str {
        "The arc from A to B about the center M, M + cos(pi t/2) (A - M) + sin(pi t/2) (B - M)."
    }

    fn coefficients(&self, t: f64, _: f64) -> [f64; 3] {
        // sin of the complement instead of cos, so that the factor is exactly zero at t = 1.
        let [alpha, beta] = [1.0 - t, t].map(|t| libm::sin(FRAC_PI_2 * t));
        [alpha, beta, 1.0 - alpha - beta]
    }
}
