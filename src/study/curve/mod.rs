//! Curves between two nets in parameter space, and what makes them good (SCIENCE: "Curves between A and B").
//!
//! A new closed-form curve is one file and one line in [`CURVES`]; joining the list enrols it in the property tests.
//! This room does not know how nets are trained, nor where they or the images are stored.

pub mod align;
mod arc;
pub mod assignment;
mod linear;
mod measure;
pub mod metrics;
pub mod permutation;
pub mod refit;
mod rho_arc;

use super::net::{INPUTS, Mlp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// A closed-form curve: psi(t) = alpha(t) A + beta(t) B + gamma(t) M, with M the center of the two nets.
/// The coefficients may depend on the correlation of the two nets.
pub trait Curve: fmt::Debug + Sync {
    /// Its name in parameters and tables.
    fn name(&self) -> &'static str;

    /// [alpha, beta, gamma] at t in [0, 1] between nets of correlation `rho` (see [`Path::correlation`]):
    /// exactly [1, 0, 0] at t = 0 and [0, 1, 0] at t = 1.
    fn coefficients(&self, t: f64, rho: f64) -> [f64; 3];

    /// Whether the center has any part in it.
    fn uses_center(&self) -> bool {
        self.coefficients(0.5, 0.0)[2] != 0.0
    }
}

/// Every closed-form curve.
pub const CURVES: &[&dyn Curve] = &[&linear::Linear, &arc::Arc, &rho_arc::RhoArc];

/// What a curve is centered on, its M.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Center {
    /// The mean over the 2h neurons of both nets: one row for W1 and one column for W2, the same for every neuron.
    #[default]
    Neurons,
    /// As `neurons`, but for W2 the mean over the 20 output rows of both nets: one row of h.
    Outputs,
    /// The origin.
    Zero,
}

impl Center {
    /// M as a net: what is one row or one column is repeated. Sums in f64, over A's neurons, then B's.
    fn of(self, a: &Mlp, b: &Mlp) -> Mlp {
        let h = a.hidden();
        let mut center = Mlp::zeros(h);
        let (w1, w2) = center.layers_mut();
        if self != Center::Zero {
            repeat(&mean_row(a.w1(), b.w1(), INPUTS), w1);
        }
        match self {
            Center::Neurons => {
                for ((a, b), w2) in a.w2().chunks(h).zip(b.w2().chunks(h)).zip(w2.chunks_mut(h)) {
                    w2.fill(mean_row(a, b, 1)[0]);
                }
            }
            Center::Outputs => repeat(&mean_row(a.w2(), b.w2(), h), w2),
            Center::Zero => {}
        }
        center
    }
}

/// The mean over the rows of `a` and of `b`, both [n, `columns`].
fn mean_row(a: &[f32], b: &[f32], columns: usize) -> Vec<f32> {
    let mut sum = vec![0.0; columns];
    for row in a.chunks(columns).chain(b.chunks(columns)) {
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let rows = (2 * a.len() / columns) as f64;
    sum.into_iter().map(|sum| (sum / rows) as f32).collect()
}

fn repeat(row: &[f32], rows: &mut [f32]) {
    rows.chunks_mut(row.len()).for_each(|out| out.copy_from_slice(row));
}

/// A way to join two nets: a closed-form curve, and whether W2 is refitted along it (weight adjustment, WA).
///
/// Written "linear", "arc", "rho-arc", "linear+wa", "arc+wa", "rho-arc+wa".
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Method {
    /// The curve of the parameters; with WA, that of W1.
    pub curve: &'static dyn Curve,
    /// Whether W2 is refitted by [`refit::refit`].
    pub refitted: bool,
}

impl Method {
    /// Every method: each curve as it is, then each with WA.
    pub fn all() -> impl Iterator<Item = Method> {
        [false, true]
            .into_iter()
            .flat_map(|refitted| CURVES.iter().map(move |&curve| Method { curve, refitted }))
    }
}

impl JsonSchema for Method {
    fn schema_name() -> Cow<'static, str> {
        "Method".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<String> = Method::all().map(|method| method.to_string()).collect();
        json_schema!({ "enum": names })
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Method) -> bool {
        (self.curve.name(), self.refitted) == (other.curve.name(), other.refitted)
    }
}

impl Eq for Method {}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.curve.name(), if self.refitted { "+wa" } else { "" })
    }
}

impl From<Method> for String {
    fn from(method: Method) -> String {
        method.to_string()
    }
}

impl TryFrom<String> for Method {
    type Error = String;
    fn try_from(name: String) -> Result<Method, String> {
        Method::all().find(|method| method.to_string() == name).ok_or_else(|| {
            let known: Vec<String> = Method::all().map(|method| format!("`{method}`")).collect();
            format!("unknown curve `{name}`; known are {}", known.join(", "))
        })
    }
}

/// How good the net at one point of a curve is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where on the curve, in [0, 1].
    pub t: f64,
    /// Images it is wrong about, in %.
    pub error: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
}

/// Equally spaced t from 0 to 1, both included exactly; two at least.
pub fn grid(points: u32) -> Vec<f64> {
    let last = points.max(2) - 1;
    (0..=last).map(|i| f64::from(i) / f64::from(last)).collect()
}

/// A closed-form curve between two particular nets.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    curve: &'static dyn Curve,
    a: &'a Mlp,
    b: &'a Mlp,
    center: Mlp,
    correlation: f64,
}

impl<'a> Path<'a> {
    /// The `curve` from `a` to `b`.
    ///
    /// Refused: nets of different widths, and parameters that are not finite numbers. Relu takes a NaN
    /// for a zero, so that errors and losses would be those of another net.
    pub fn new(
        curve: &'static dyn Curve,
        center: Center,
        a: &'a Mlp,
        b: &'a Mlp,
    ) -> Result<Path<'a>, String> {
        same_width(a, b)?;
        are_finite(a, b).map_err(|e| format!("cannot join two nets: {e}"))?;
        let center = center.of(a, b);
        let correlation = correlation(a, b, &center);
        Ok(Path { curve, a, b, center, correlation })
    }

    /// rho = <A - M, B - M> / (|A - M| |B - M|), the cosine between the two nets as seen from the center.
    /// It is one number over all hidden neurons, incoming rows and outgoing columns; 0 if either net is
    /// the center itself.
    pub fn correlation(&self) -> f64 {
        self.correlation
    }

    fn coefficients(&self, t: f64) -> [f64; 3] {
        self.curve.coefficients(t, self.correlation)
    }

    /// psi(t), each parameter combined in f64 and rounded once: the definition that every faster way is tested against.
    pub fn point(&self, t: f64) -> Mlp {
        let mut net = Mlp::zeros(self.a.hidden());
        let (w1, w2) = net.layers_mut();
        w1.copy_from_slice(&self.w1(t));
        w2.copy_from_slice(&self.w2(t));
        net
    }

    /// W1 of psi(t), [h, 784].
    fn w1(&self, t: f64) -> Vec<f32> {
        combine(self.coefficients(t), self.a.w1(), self.b.w1(), self.center.w1())
    }

    /// W2 of psi(t), [10, h].
    fn w2(&self, t: f64) -> Vec<f32> {
        combine(self.coefficients(t), self.a.w2(), self.b.w2(), self.center.w2())
    }
}

fn same_width(a: &Mlp, b: &Mlp) -> Result<(), String> {
    if a.hidden() == b.hidden() {
        return Ok(());
    }
    Err(format!("a net of {} hidden neurons cannot be joined to one of {}", a.hidden(), b.hidden()))
}

fn are_finite(a: &Mlp, b: &Mlp) -> Result<(), String> {
    match [("A", a), ("B", b)].iter().find(|(_, net)| !net.params().iter().all(|w| w.is_finite())) {
        Some((name, _)) => Err(format!("{name} has parameters that are not finite numbers")),
        None => Ok(()),
    }
}

/// The cosine between `a` and `b` as seen from `m`; sums in f64, in the order of the parameters.
fn correlation(a: &Mlp, b: &Mlp, m: &Mlp) -> f64 {
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for ((&a, &b), &m) in a.params().iter().zip(b.params()).zip(m.params()) {
        let (x, y) = (f64::from(a) - f64::from(m), f64::from(b) - f64::from(m));
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    if aa == 0.0 || bb == 0.0 { 0.0 } else { ab / (aa.sqrt() * bb.sqrt()) }
}

/// alpha a + beta b + gamma m; an end is what it is, down to the sign of a zero.
fn combine([alpha, beta, gamma]: [f64; 3], a: &[f32], b: &[f32], m: &[f32]) -> Vec<f32> {
    for (end, coefficients) in [(a, [1.0, 0.0, 0.0]), (b, [0.0, 1.0, 0.0])] {
        if [alpha, beta, gamma] == coefficients {
            return end.to_vec();
        }
    }
    let terms = a.iter().zip(b).zip(m).map(|((&a, &b), &m)| [a, b, m].map(f64::from));
    terms.map(|[a, b, m]| (alpha * a + beta * b + gamma * m) as f32).collect()
}

#[cfg(test)]
mod fixture {
    //! Small nets and images without meaning, by seed.

    use crate::kernel::sparse::Sparse;
    use crate::study::net::{INPUTS, Mlp};
    use crate::study::rng;

    /// A net of `hidden` neurons with normal parameters.
    pub(super) fn net(hidden: usize, label: &str) -> Mlp {
        let mut rng = rng::stream("fixture", label);
        let mut net = Mlp::zeros(hidden);
        net.params_mut().iter_mut().for_each(|w| *w = 0.1 * rng::normal(&mut rng) as f32);
        net
    }

    /// `n` images, one pixel in five inked, with labels drawn at random.
    pub(super) fn images(n: usize) -> (Sparse, Vec<u8>) {
        let mut rng = rng::stream("fixture", "images");
        let mut below = |limit| rng::below(&mut rng, limit) as u8;
        let pixels: Vec<u8> =
            (0..n * INPUTS).map(|_| if below(5) == 0 { below(256) } else { 0 }).collect();
        let labels = (0..n).map(|_| below(10)).collect();
        (Sparse::from_pixels(&pixels, INPUTS), labels)
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::net;
    use super::*;
    use crate::kernel::test::bits;
    use crate::study::rng;
    use proptest::prelude::*;

    const CENTERS: [Center; 3] = [Center::Neurons, Center::Outputs, Center::Zero];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_curve_ends_at_its_nets_bit_for_bit(h in 1usize..9, seed in 0u32..1000) {
            let (mut a, mut b) = (net(h, &format!("a{seed}")), net(h, &format!("b{seed}")));
            // Down to the sign of a zero.
            a.params_mut()[..2].copy_from_slice(&[-0.0, 0.0]);
            b.params_mut()[1..3].copy_from_slice(&[-0.0, 0.0]);
            for (&curve, center) in CURVES.iter().flat_map(|curve| CENTERS.map(|center| (curve, center))) {
                let path = Path::new(curve, center, &a, &b).expect("equal widths");
                for (t, end) in [(0.0, &a), (1.0, &b)] {
                    prop_assert_eq!(bits(path.point(t).params()), bits(end.params()), "{:?} {:?}", curve, center);
                }
            }
        }

        #[test]
        fn every_curve_moves_with_its_nets_and_runs_backwards_when_they_are_swapped(
            t in 0.0f64..1.0,
            rho in -0.9f64..1.0,
        ) {
            for curve in CURVES {
                let [alpha, beta, gamma] = curve.coefficients(t, rho);
                // Coefficients grow as rho falls, and their rounding with them.
                let rounding = if rho < 0.0 { 1e-14 } else { 2e-15 };
                prop_assert!((alpha + beta + gamma - 1.0).abs() < rounding, "{:?}", curve);
                let [beta_back, alpha_back, _] = curve.coefficients(1.0 - t, rho);
                prop_assert!((alpha - alpha_back).abs() + (beta - beta_back).abs() < rounding, "{:?}", curve);
            }
        }
    }

    #[test]
    fn the_arcs_keep_the_mean_and_covariance_of_independent_neurons_and_linear_halves_the_covariance()
     {
        // Incoming weights 0 and 1 have mean (1, -2), variances 1 and 0.25 and covariance 0.3.
        let h = 20_000;
        let draw = |label| {
            let mut rng = rng::stream("0", label);
            let mut net = Mlp::zeros(h);
            for row in net.layers_mut().0.chunks_mut(INPUTS) {
                let (x, y) = (rng::normal(&mut rng), rng::normal(&mut rng));
                row[0] = (1.0 + x) as f32;
                row[1] = (-2.0 + 0.3 * x + 0.4 * y) as f32;
            }
            net
        };
        let (a, b) = (draw("a"), draw("b"));
        let moments = |net: &Mlp| {
            let mean_of = |f: &dyn Fn(f64, f64) -> f64| {
                net.w1()
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
            let curve = Method::try_from(curve.to_owned()).expect("known").curve;
            let found =
                moments(&Path::new(curve, Center::Neurons, &a, &b).expect("equal widths").point(t));
            let expected = [1.0, -2.0, shrunk, 0.25 * shrunk, 0.3 * shrunk];
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 0.03,
                    "{curve:?} at {t}: {found} for {expected}"
                );
            }
        }
    }

    #[test]
    fn centers_are_the_means_they_are_named_after() {
        let (mut a, mut b) = (Mlp::zeros(2), Mlp::zeros(2));
        a.layers_mut().0[INPUTS] = 4.0; // neuron 1, pixel 0
        a.layers_mut().1[..2].copy_from_slice(&[1.0, 2.0]); // class 0
        b.layers_mut().1[..4].copy_from_slice(&[3.0, 6.0, 8.0, 0.0]); // classes 0 and 1
        let neurons = Center::Neurons.of(&a, &b);
        assert_eq!([neurons.w1()[0], neurons.w1()[INPUTS], neurons.w1()[1]], [1.0, 1.0, 0.0]);
        assert_eq!(neurons.w2()[..6], [3.0, 3.0, 2.0, 2.0, 0.0, 0.0]);
        let outputs = Center::Outputs.of(&a, &b);
        assert_eq!(outputs.w1(), neurons.w1());
        assert_eq!(outputs.w2(), [12.0f32 / 20.0, 8.0 / 20.0].repeat(10));
        assert_eq!(Center::Zero.of(&a, &b), Mlp::zeros(2));
    }

    #[test]
    fn methods_are_written_as_they_are_read() {
        let written: Vec<String> = Method::all().map(String::from).collect();
        assert_eq!(written, ["linear", "arc", "rho-arc", "linear+wa", "arc+wa", "rho-arc+wa"]);
        for name in written {
            let method: Method = serde_json::from_value(name.clone().into()).expect("known");
            assert_eq!(serde_json::to_value(method).expect("a string"), name);
        }
    }

    #[test]
    fn an_unknown_curve_is_answered_with_those_there_are() {
        let error = Method::try_from("wa".to_owned()).expect_err("unknown");
        let known = "`linear`, `arc`, `rho-arc`, `linear+wa`, `arc+wa`, `rho-arc+wa`";
        assert_eq!(error, format!("unknown curve `wa`; known are {known}"));
    }

    #[test]
    fn a_grid_holds_both_ends_exactly() {
        assert_eq!(grid(5), [0.0, 0.25, 0.5, 0.75, 1.0]);
        for points in 0..200 {
            let ts = grid(points);
            assert_eq!((ts.len(), ts[0], ts[ts.len() - 1]), (points.max(2) as usize, 0.0, 1.0));
        }
    }

    #[test]
    fn nets_of_different_widths_are_not_joined() {
        let error = Path::new(CURVES[0], Center::Zero, &net(2, "a"), &net(3, "b")).map(drop);
        assert_eq!(error, Err("a net of 2 hidden neurons cannot be joined to one of 3".to_owned()));
    }

    #[test]
    fn nets_of_numbers_that_are_not_finite_are_not_joined() {
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
