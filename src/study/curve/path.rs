//! A closed-form curve between two particular nets.

use super::layer::Layer;
use super::linear::Linear;
use super::{Center, Curve};
use crate::study::net::Net;
use std::borrow::Cow;

/// A closed-form curve between two particular nets.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    pub(super) a: &'a Net,
    pub(super) b: &'a Net,
    pub(super) kind: Center,
    center: Net,
    pub(super) motion: Motion,
}

/// How parameters move along a curve, whatever its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Motion {
    curve: &'static dyn Curve,
    correlation: f64,
}

impl Motion {
    pub(super) fn coefficients(self, t: f64) -> [f64; 3] {
        self.curve.coefficients(t, self.correlation)
    }
}

impl<'a> Path<'a> {
    /// The `curve` from `a` to `b`.
    ///
    /// # Errors
    /// If the nets differ in shape, or a parameter is not finite: ReLU turns a NaN into a zero, so
    /// that errors and losses would be those of another net.
    pub fn new(
        curve: &'static dyn Curve,
        center: Center,
        a: &'a Net,
        b: &'a Net,
    ) -> Result<Path<'a>, String> {
        same_shape(a, b)?;
        are_finite(a, b).map_err(|e| format!("cannot join two nets: {e}"))?;
        let kind = center;
        let center = kind.of(a, b);
        let turning = turning(kind, a);
        let ends = [a.params(), b.params(), center.params()].map(|params| &params[..turning]);
        let motion = Motion { curve, correlation: correlation(ends) };
        Ok(Path { a, b, kind, center, motion })
    }

    /// The straight line from `a` to `b`.
    ///
    /// # Errors
    /// As [`Path::new`].
    pub fn straight(a: &'a Net, b: &'a Net) -> Result<Path<'a>, String> {
        Path::new(&Linear, Center::default(), a, b)
    }

    /// rho = <A - M, B - M> / (|A - M| |B - M|), the cosine between the two nets as seen from the
    /// center: one number over all parameters, 0 if either net is the center itself. Output biases
    /// that go straight do not count (see [`Center`]).
    pub fn correlation(&self) -> f64 {
        self.motion.correlation
    }

    pub(super) fn coefficients(&self, t: f64) -> [f64; 3] {
        self.motion.coefficients(t)
    }

    /// psi(t), each parameter combined in f64 and rounded once: the reference implementation that
    /// every faster one is tested against.
    pub fn point(&self, t: f64) -> Net {
        let mut net = Net::zeros(self.a.shape());
        (0..net.layers()).for_each(|l| self.layer(l, t).write(&mut net, l));
        net
    }

    /// Layer `l` of psi(t), counted from 0.
    pub(super) fn layer(&self, l: usize, t: f64) -> Layer<'static> {
        let (c, straight) = (self.coefficients(t), Linear.coefficients(t, 0.0));
        let goes_straight = l + 1 == self.a.layers() && self.kind.leaves_output_biases();
        let c_biases = if goes_straight { straight } else { c };
        let (a, b, m) = (self.a, self.b, &self.center);
        Layer {
            weights: Cow::Owned(combine(c, a.weights(l), b.weights(l), m.weights(l))),
            biases: Cow::Owned(combine(c_biases, a.biases(l), b.biases(l), m.biases(l))),
            fan_out: a.shape().fan_out(l),
        }
    }

    /// The hidden layer at `s` of its own curve between two `ends`, like this one but about the
    /// center of its neurons at these ends.
    pub(super) fn between(&self, ends: &[Layer; 2], s: f64) -> Layer<'static> {
        let ([a, b], c) = (ends, self.coefficients(s));
        let center = self.kind.row(a, b);
        let turned = |a: &[f32], b: &[f32], m: &[f32]| {
            Cow::Owned(combine(c, a, b, &m.repeat(a.len() / m.len().max(1))))
        };
        Layer {
            weights: turned(&a.weights, &b.weights, &center.weights),
            biases: turned(&a.biases, &b.biases, &center.biases),
            fan_out: a.fan_out,
        }
    }
}

pub(super) fn same_shape(a: &Net, b: &Net) -> Result<(), String> {
    if a.shape() == b.shape() {
        return Ok(());
    }
    let [a, b] = [a, b].map(Net::shape);
    Err(format!("a net of shape `{a}` cannot be joined to one of shape `{b}`"))
}

pub(super) fn are_finite(a: &Net, b: &Net) -> Result<(), String> {
    match [("A", a), ("B", b)].iter().find(|(_, net)| !net.params().iter().all(|w| w.is_finite())) {
        Some((name, _)) => Err(format!("{name} has parameters that are not finite numbers")),
        None => Ok(()),
    }
}

/// The number of the first parameters that turn about the center: all, or all but the output
/// biases, which come last.
fn turning(center: Center, net: &Net) -> usize {
    let straight =
        if center.leaves_output_biases() { net.biases(net.layers() - 1).len() } else { 0 };
    net.params().len() - straight
}

/// The cosine between A and B as seen from M; sums in f64, in the order of the parameters.
fn correlation([a, b, m]: [&[f32]; 3]) -> f64 {
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for ((&a, &b), &m) in a.iter().zip(b).zip(m) {
        let (x, y) = (f64::from(a) - f64::from(m), f64::from(b) - f64::from(m));
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    if aa == 0.0 || bb == 0.0 { 0.0 } else { ab / (aa.sqrt() * bb.sqrt()) }
}

/// alpha a + beta b + gamma m; at an end exactly that end, down to the sign of a zero.
pub(super) fn combine([alpha, beta, gamma]: [f64; 3], a: &[f32], b: &[f32], m: &[f32]) -> Vec<f32> {
    for (end, coefficients) in [(a, [1.0, 0.0, 0.0]), (b, [0.0, 1.0, 0.0])] {
        if [alpha, beta, gamma] == coefficients {
            return end.to_vec();
        }
    }
    let terms = a.iter().zip(b).zip(m).map(|((&a, &b), &m)| [a, b, m].map(f64::from));
    terms.map(|[a, b, m]| (alpha * a + beta * b + gamma * m) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{net, shaped};
    use super::super::{CURVES, method};
    use super::*;
    use crate::kernel::test::bits;
    use crate::study::net::Shape;
    use crate::study::rng;
    use proptest::prelude::*;

    const INPUTS: usize = 784;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_curve_starts_at_a_and_ends_at_b_bit_for_bit(
            inputs in 1usize..20,
            widths in prop::collection::vec(1usize..9, 1..5),
            classes in 2usize..12,
            biases: bool,
            seed in 0u32..1000,
        ) {
            let shape = Shape::of(inputs, &widths, classes, biases);
            let [mut a, mut b] = ["a", "b"].map(|end| shaped(shape, &format!("{end}{seed}")));
            // Includes the sign of a zero.
            a.params_mut()[..2].copy_from_slice(&[-0.0, 0.0]);
            b.params_mut()[1..3].copy_from_slice(&[-0.0, 0.0]);
            let with_centers = |&curve| Center::ALL.iter().map(move |&center| (curve, center));
            for (curve, center) in CURVES.iter().flat_map(with_centers) {
                let path = Path::new(curve, center, &a, &b).expect("equal widths");
                for (t, end) in [(0.0, &a), (1.0, &b)] {
                    let found = path.point(t);
                    let case = format!("{curve:?} {center:?}");
                    prop_assert_eq!(bits(found.params()), bits(end.params()), "{}", case);
                }
            }
        }

        #[test]
        fn every_curve_is_equivariant_under_shifts_and_reverses_when_its_nets_are_swapped(
            t in 0.0f64..1.0,
            rho in -0.9f64..1.0,
        ) {
            for curve in CURVES {
                let [alpha, beta, gamma] = curve.coefficients(t, rho);
                // The coefficients grow as rho falls, and their rounding errors with them.
                let rounding = if rho < 0.0 { 1e-14 } else { 2e-15 };
                prop_assert!((alpha + beta + gamma - 1.0).abs() < rounding, "{:?}", curve);
                let [beta_back, alpha_back, _] = curve.coefficients(1.0 - t, rho);
                let difference = (alpha - alpha_back).abs() + (beta - beta_back).abs();
                prop_assert!(difference < rounding, "{:?}", curve);
            }
        }
    }

    #[test]
    fn the_arcs_keep_mean_and_covariance_of_independent_neurons_and_the_line_halves_the_covariance()
    {
        // Incoming weights 0 and 1 have mean (1, -2), variances 1 and 0.25 and covariance 0.3.
        let h = 8192;
        let draw = |label| {
            let mut rng = rng::stream("0", label);
            let mut net = Net::zeros(Shape::talk(h));
            for row in net.weights_mut(0).chunks_mut(INPUTS) {
                let (x, y) = (rng::normal(&mut rng), rng::normal(&mut rng));
                row[0] = (1.0 + x) as f32;
                row[1] = (-2.0 + 0.3 * x + 0.4 * y) as f32;
            }
            net
        };
        let (a, b) = (draw("a"), draw("b"));
        let moments = |net: &Net| {
            let mean_of = |f: &dyn Fn(f64, f64) -> f64| {
                net.weights(0)
                    .chunks(INPUTS)
                    .map(|row| f(f64::from(row[0]), f64::from(row[1])))
                    .sum::<f64>()
                    / h as f64
            };
            let (x, y) = (mean_of(&|x, _| x), mean_of(&|_, y| y));
            let second = |f: &dyn Fn(f64, f64) -> f64| mean_of(&|p, q| f(p - x, q - y));
            [x, y, second(&|x, _| x * x), second(&|_, y| y * y), second(&|x, y| x * y)]
        };
        let cases = [
            ("arc", 0.5, 1.0),
            ("arc", 0.2, 1.0),
            ("rho-arc", 0.5, 1.0),
            ("linear", 0.5, 0.5),
            ("linear", 0.2, 0.68),
        ];
        for (curve, t, shrunk) in cases {
            let curve = method::curve(curve).expect("known");
            let found =
                moments(&Path::new(curve, Center::Neurons, &a, &b).expect("equal widths").point(t));
            let expected = [1.0, -2.0, shrunk, 0.25 * shrunk, 0.3 * shrunk];
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 0.06,
                    "{curve:?} at {t}: {found} for {expected}"
                );
            }
        }
    }

    #[test]
    fn nets_of_different_shapes_are_refused_with_both_shapes() {
        let refusal = |a: Shape, b: Shape| {
            let (a, b) = (Net::zeros(a), Net::zeros(b));
            Path::new(CURVES[0], Center::Zero, &a, &b).expect_err("refused")
        };
        let a = Shape::of(784, &[2, 3], 10, false);
        let cases = [
            (Shape::talk(2), "784-2-10"),
            (Shape::of(784, &[2, 4], 10, false), "784-2x4-10"),
            (Shape::of(64, &[2, 3], 10, false), "64-2x3-10"),
            (Shape::of(784, &[2, 3], 7, false), "784-2x3-7"),
            (Shape::of(784, &[2, 3], 10, true), "784-2x3-10 with biases"),
        ];
        for (b, text) in cases {
            let expected =
                format!("a net of shape `784-2x3-10` cannot be joined to one of shape `{text}`");
            assert_eq!(refusal(a, b), expected);
        }
    }

    #[test]
    fn output_biases_go_straight_unless_their_center_is_that_of_the_outputs_or_the_origin() {
        let shape = Shape::of(3, &[2, 4], 2, true);
        let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
        let arc = method::curve("arc").expect("known");
        for &center in Center::ALL {
            let path = Path::new(arc, center, &a, &b).expect("equal shapes");
            let (point, m) = (path.point(0.3), center.of(&a, &b));
            let expected = |c: [f64; 3], k: usize| {
                let ends = [a.biases(2)[k], b.biases(2)[k], m.biases(2)[k]].map(f64::from);
                (c[0] * ends[0] + c[1] * ends[1] + c[2] * ends[2]) as f32
            };
            let c = match center {
                Center::Neurons => [0.7, 0.3, 0.0],
                Center::Outputs | Center::Zero => path.coefficients(0.3),
            };
            assert_eq!(point.biases(2), [expected(c, 0), expected(c, 1)], "{center:?}");
            // All other parameters turn.
            let c = path.coefficients(0.3);
            let turned = combine(c, a.params(), b.params(), m.params());
            let hidden = shape.params() - 2;
            assert_eq!(point.params()[..hidden], turned[..hidden], "{center:?}");
        }
    }

    #[test]
    fn nets_with_parameters_that_are_not_finite_are_refused() {
        let whole = net(2, "a");
        for (at, value) in [(0, f32::NAN), (INPUTS, f32::INFINITY), (2 * INPUTS, f32::NEG_INFINITY)]
        {
            let mut broken = whole.clone();
            broken.params_mut()[at] = value;
            for (name, a, b) in [("A", &broken, &whole), ("B", &whole, &broken)] {
                let error = Path::new(CURVES[0], Center::Zero, a, b).expect_err("refused");
                let expected = format!(
                    "cannot join two nets: {name} has parameters that are not finite numbers"
                );
                assert_eq!(error, expected, "{value}");
            }
        }
    }
}
