//! Curves between two nets in parameter space, and their metrics (SCIENCE: "Curves between A and
//! B").
//!
//! A new closed-form curve is one file and one line in [`CURVES`]. From this list it gets its names
//! in parameters and tables, and the property tests and the figures include it. This module does
//! not depend on how nets are trained, or on where nets and images are stored.

pub mod align;
mod arc;
mod ascent;
/// Public for `benches/speed`; the study uses it through [`align`].
pub mod assignment;
mod center;
mod controls;
pub mod dropout_path;
pub mod ensemble;
mod joined;
mod layer;
pub mod learn;
mod linear;
mod measure;
mod method;
pub mod metrics;
mod neurons;
mod path;
pub mod permutation;
mod plane;
pub mod refit;
pub mod repair;
mod rho_arc;

pub use center::Center;
pub use controls::{Basis, Controls};
pub use joined::Joined;
pub use method::{CurveKind, CurveSpec, Method, curve};
pub use path::Path;
pub use plane::{Plane, Projection};

use std::fmt;

/// A closed-form curve: psi(t) = alpha(t) A + beta(t) B + gamma(t) M, with M the center of the two
/// nets. The coefficients may depend on the correlation of the two nets.
pub trait Curve: fmt::Debug + Sync {
    /// The name in parameters and tables.
    fn name(&self) -> &'static str;

    /// The name in figures and reports.
    fn title(&self) -> &'static str;

    /// What the curve is, in one sentence of plain text. A and B are the two nets, M is the center.
    fn definition(&self) -> &'static str;

    /// [alpha, beta, gamma] at t in [0, 1] between nets of correlation `rho` (see
    /// [`Path::correlation`]): exactly [1, 0, 0] at t = 0 and [0, 1, 0] at t = 1.
    fn coefficients(&self, t: f64, rho: f64) -> [f64; 3];

    /// Whether the curve depends on its center.
    fn uses_center(&self) -> bool {
        self.coefficients(0.5, 0.0)[2] != 0.0
    }
}

/// Every closed-form curve.
pub const CURVES: &[&dyn Curve] = &[&linear::Linear, &arc::Arc, &rho_arc::RhoArc];

/// The quality of the net at one point of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Position on the curve, in [0, 1].
    pub t: f64,
    /// Misclassified images, in %.
    pub error: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
}

/// Equally spaced t from 0 to 1, both included exactly; two at least.
pub fn grid(points: u32) -> Vec<f64> {
    let last = points.max(2) - 1;
    (0..=last).map(|i| f64::from(i) / f64::from(last)).collect()
}

#[cfg(test)]
mod fixture {
    //! Small random nets and images, by seed.

    use crate::kernel::sparse::Sparse;
    use crate::study::net::{Net, Shape};
    use crate::study::rng;

    /// A plain net of `hidden` neurons with normal parameters.
    pub(super) fn net(hidden: usize, label: &str) -> Net {
        shaped(Shape::talk(hidden), label)
    }

    /// A net with normal parameters.
    pub(super) fn shaped(shape: Shape, label: &str) -> Net {
        let mut rng = rng::stream("fixture", label);
        let mut net = Net::zeros(shape);
        net.params_mut().iter_mut().for_each(|w| *w = 0.1 * rng::normal(&mut rng) as f32);
        net
    }

    /// `n` images of MNIST's shape with labels of ten classes.
    pub(super) fn images(n: usize) -> (Sparse, Vec<u16>) {
        images_of(n, 784, 10)
    }

    /// `n` images, one input in five inked, with labels drawn at random.
    pub(super) fn images_of(n: usize, inputs: usize, classes: u32) -> (Sparse, Vec<u16>) {
        let mut rng = rng::stream("fixture", "images");
        let mut below = |limit| rng::below(&mut rng, limit);
        let pixels: Vec<u8> =
            (0..n * inputs).map(|_| if below(5) == 0 { below(256) as u8 } else { 0 }).collect();
        let labels = (0..n).map(|_| below(classes) as u16).collect();
        (Sparse::from_pixels(&pixels, inputs), labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_holds_both_ends_exactly() {
        assert_eq!(grid(5), [0.0, 0.25, 0.5, 0.75, 1.0]);
        for points in 0..200 {
            let ts = grid(points);
            assert_eq!((ts.len(), ts[0], ts[ts.len() - 1]), (points.max(2) as usize, 0.0, 1.0));
        }
    }
}
