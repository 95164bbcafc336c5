//! Curves given by their control nets: Bezier curves and polygonal chains (Garipov et al., Loss
//! surfaces, mode connectivity, and fast ensembling of DNNs, NeurIPS 2018, arXiv 1802.10026,
//! section 3).
//!
//! psi(t) = sum_k c_k(t) P_k with control nets P_0 = A, ..., P_n = B. The control nets between the
//! ends are the bends. With [`Basis::Bezier`], c_k(t) = C(n, k) (1 - t)^(n - k) t^k; with n = 2
//! that is (1 - t)² A + 2 t (1 - t) P_1 + t² B. With [`Basis::Chain`], psi(t) goes straight from
//! P_k to P_(k+1) while t goes from k/n to (k+1)/n.
//!
//! This file does not depend on the origin of the bends.

use super::layer::{Activations, Layer, Packed};
use super::measure::piece;
use super::path::same_shape;
use super::{Center, Path, Point, linear};
use crate::kernel::combine::combine;
use crate::kernel::dense::relu;
use crate::kernel::parallel::parallel_for;
use crate::kernel::softmax::{BatchStats, cross_entropy};
use crate::kernel::sparse::Sparse;
use crate::study::net::{Net, Quality};
use std::num::NonZero;

/// The most images in a block.
const BLOCK: usize = 8192;
/// Bytes of the pre-activations of a block under all control nets, unless 1024 images take more.
const BLOCK_BYTES: usize = 64 << 20;

/// How the coefficients of the control nets depend on t.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// A Bezier curve, in the Bernstein polynomials of t.
    Bezier,
    /// A polygonal chain of segments with equal shares of t.
    Chain,
}

impl Basis {
    /// The coefficient of each of `controls` control nets, two or more, at `t` in [0, 1]. They add
    /// up to 1. At t = 0 exactly the first is 1 and all others are 0; at t = 1 the last.
    pub fn coefficients(self, controls: usize, t: f64) -> Vec<f64> {
        let degree = controls.saturating_sub(1).max(1);
        match self {
            Basis::Bezier => {
                // De Casteljau's recurrence: sums of positive numbers, exact at both ends.
                let mut c = vec![1.0];
                for _ in 0..degree {
                    c.push(0.0);
                    for k in (1..c.len()).rev() {
                        c[k] = (1.0 - t) * c[k] + t * c[k - 1];
                    }
                    c[0] *= 1.0 - t;
                }
                c
            }
            Basis::Chain => {
                let (segment, s) = segment(degree, t);
                let mut c = vec![0.0; degree + 1];
                (c[segment], c[segment + 1]) = (1.0 - s, s);
                c
            }
        }
    }
}

/// The segment at `t` of a chain of `segments`, and the position on it, in [0, 1].
fn segment(segments: usize, t: f64) -> (usize, f64) {
    let x = t * segments as f64;
    let segment = (x as usize).min(segments - 1);
    (segment, x - segment as f64)
}

/// A curve given by its control nets.
#[derive(Clone, Debug)]
pub struct Controls {
    basis: Basis,
    nets: Vec<Net>,
}

impl Controls {
    /// The curve with these control nets, the first and last of which are its ends.
    ///
    /// # Errors
    /// If there are fewer than two nets, they differ in shape, or a parameter is not finite.
    pub fn new(basis: Basis, nets: Vec<Net>) -> Result<Controls, String> {
        let [first, rest @ ..] = &nets[..] else { return Err("a curve has two ends".to_owned()) };
        if rest.is_empty() {
            return Err("a curve has two ends".to_owned());
        }
        rest.iter().try_for_each(|net| same_shape(first, net))?;
        let is_finite = |net: &Net| net.params().iter().all(|w| w.is_finite());
        if let Some(k) = nets.iter().position(|net| !is_finite(net)) {
            return Err(format!("control net {k} has parameters that are not finite numbers"));
        }
        Ok(Controls { basis, nets })
    }

    /// How the coefficients depend on t.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// The control nets, from A to B.
    pub fn nets(&self) -> &[Net] {
        &self.nets
    }

    /// The control nets between the ends.
    pub fn bends(&self) -> &[Net] {
        &self.nets[1..self.nets.len() - 1]
    }

    /// The coefficient of each control net at `t` (see [`Basis::coefficients`]).
    pub fn coefficients(&self, t: f64) -> Vec<f64> {
        self.basis.coefficients(self.nets.len(), t)
    }

    /// psi(t), each parameter combined in f64 and rounded once: the reference implementation that
    /// every faster one is tested against. Where one coefficient is 1 and the others are 0, that
    /// control net bit for bit.
    pub fn point(&self, t: f64) -> Net {
        let c = self.coefficients(t);
        if let Some(k) = single(&c) {
            return self.nets[k].clone();
        }
        let mut sums = vec![0.0; self.nets[0].params().len()];
        for (net, c) in self.nets.iter().zip(c).filter(|(_, c)| *c != 0.0) {
            sums.iter_mut().zip(net.params()).for_each(|(sum, &w)| *sum += c * f64::from(w));
        }
        let mut net = Net::zeros(self.nets[0].shape());
        net.params_mut().iter_mut().zip(sums).for_each(|(w, sum)| *w = sum as f32);
        net
    }

    /// Error and loss at each of `ts`, on `images` [n, inputs] with their `labels` `[n]`; the
    /// number of `threads` does not affect the bits.
    ///
    /// Where psi(t) is a control net, the numbers are exactly those of that net; in between they
    /// differ from those of [`Controls::point`] by the rounding of the pre-activations in f32.
    ///
    /// # Panics
    /// If the numbers of images and labels differ, the images do not fit the nets, or a label is
    /// not one of the nets' classes.
    pub fn measure(
        &self,
        ts: &[f64],
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
        match self.basis {
            Basis::Chain => self.measure_segments(ts, images, labels, threads),
            Basis::Bezier => self.measure_together(ts, images, labels, threads),
        }
    }

    /// Measures each segment of a chain as a straight path.
    fn measure_segments(
        &self,
        ts: &[f64],
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        let segments = self.nets.len() - 1;
        let places: Vec<_> = ts.iter().map(|&t| (t, segment(segments, t))).collect();
        let on_one = places.chunk_by(|(_, (a, _)), (_, (b, _))| a == b);
        let measured = on_one.flat_map(|places| {
            let k = places[0].1.0;
            let path = Path::new(&linear::Linear, Center::Zero, &self.nets[k], &self.nets[k + 1]);
            let path = path.expect("BUG: control nets can be joined");
            let positions: Vec<f64> = places.iter().map(|&(_, (_, s))| s).collect();
            let points = path.measure(&positions, images, labels, threads);
            places.iter().zip(points).map(|(&(t, _), point)| Point { t, ..point })
        });
        measured.collect()
    }

    /// Measures points that depend on all control nets.
    fn measure_together(
        &self,
        ts: &[f64],
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        let (h, piece) = (self.nets[0].width(0), piece(threads));
        let first: Vec<Packed> =
            self.nets.iter().map(|net| Packed::of(&Layer::of(net, 0))).collect();
        let per_image = self.nets.len() * h * size_of::<f32>();
        let block = (BLOCK_BYTES / per_image).clamp(1024, BLOCK).next_multiple_of(piece);
        let mut stats = vec![BatchStats::default(); ts.len()];
        let mut workspaces = vec![Activations::default(); threads.get()];
        // The pre-activations of the first hidden layer under each control net, [n, h].
        let mut z = vec![Vec::new(); self.nets.len()];
        for (index, labels) in labels.chunks(block).enumerate() {
            let start = index * block;
            z.iter_mut().for_each(|z| z.resize(labels.len() * h, 0.0));
            let pieces = first.iter().zip(&mut z).flat_map(|(layer, z)| {
                z.chunks_mut(piece * h).enumerate().map(move |(k, z)| (layer, k, z))
            });
            parallel_for(&mut workspaces, pieces, |_, (layer, k, z)| {
                let first = start + k * piece;
                layer.apply((images, first..first + z.len() / h), z);
            });
            let points = ts.iter().zip(&mut stats);
            parallel_for(&mut workspaces, points, |work, (&t, stats)| {
                self.measure_block(t, &z, labels, piece, work, stats);
            });
        }
        let point = |(&t, stats): (&f64, BatchStats)| {
            let Quality { error, loss } = Quality::of_sums(stats.loss, stats.wrong, labels.len());
            Point { t, error, loss }
        };
        ts.iter().zip(stats).map(point).collect()
    }

    /// Adds a point's losses on the images with these pre-activations, in pieces.
    fn measure_block(
        &self,
        t: f64,
        z: &[Vec<f32>],
        labels: &[u16],
        piece: usize,
        work: &mut Activations,
        stats: &mut BatchStats,
    ) {
        let (c, net) = (self.coefficients(t), self.point(t));
        let h = net.width(0);
        let above: Vec<Packed> =
            (1..net.layers()).map(|l| Packed::of(&Layer::of(&net, l))).collect();
        for (k, labels) in labels.chunks(piece).enumerate() {
            let rows = k * piece * h..(k * piece + labels.len()) * h;
            let terms: Vec<(f32, &[f32])> =
                c.iter().zip(z).map(|(&c, z)| (c as f32, &z[rows.clone()])).collect();
            work.dense.resize(rows.len(), 0.0);
            combine(&terms, &mut work.dense);
            let mut width = h;
            for layer in &above {
                relu(&mut work.dense);
                work.apply(layer, width);
                width = layer.fan_out();
            }
            cross_entropy(&work.dense, labels, stats);
        }
    }
}

/// The index of the only coefficient that is not 0, if that is 1.
fn single(c: &[f64]) -> Option<usize> {
    let k = c.iter().position(|&c| c != 0.0)?;
    (c[k] == 1.0 && c[k + 1..].iter().all(|&c| c == 0.0)).then_some(k)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{images_of, net, shaped};
    use super::super::grid;
    use super::super::metrics::Lengths;
    use super::super::permutation::Permutations;
    use super::*;
    use crate::kernel::test::{bits, on_every_isa};
    use crate::study::net::{Shape, evaluate};
    use crate::study::rng;
    use proptest::prelude::*;

    const BASES: [Basis; 2] = [Basis::Bezier, Basis::Chain];
    const ONE: NonZero<usize> = NonZero::<usize>::MIN;
    /// More than one piece, the last one ragged.
    const IMAGES: usize = 700;

    fn controls(basis: Basis, shape: Shape, count: usize) -> Controls {
        let nets = (0..count).map(|k| shaped(shape, &format!("control {k}"))).collect();
        Controls::new(basis, nets).expect("equal shapes")
    }

    fn quality(point: &Point) -> Quality {
        Quality { error: point.error, loss: point.loss }
    }

    /// Nets of one to three layers of neurons, with and without biases.
    fn shapes() -> Vec<Shape> {
        vec![Shape::talk(21), Shape::of(50, &[19], 3, true), Shape::of(64, &[12, 33, 14], 20, true)]
    }

    proptest! {
        #[test]
        fn coefficients_are_weights_that_reverse_with_the_curve(
            count in 2usize..12, t in 0.0f64..=1.0,
        ) {
            for basis in BASES {
                let (c, back) = (basis.coefficients(count, t), basis.coefficients(count, 1.0 - t));
                prop_assert_eq!(c.len(), count);
                prop_assert!(c.iter().all(|c| (0.0..=1.0).contains(c)), "{:?}", basis);
                prop_assert!((c.iter().sum::<f64>() - 1.0).abs() < 1e-14, "{:?}", basis);
                for (c, back) in c.iter().zip(back.iter().rev()) {
                    prop_assert!((c - back).abs() < 1e-13, "{:?}: {} {}", basis, c, back);
                }
            }
        }

        #[test]
        fn coefficients_are_continuous(count in 2usize..12, t in 0.0f64..1.0) {
            // The derivative of each coefficient is at most the number of segments.
            let step = 1e-6;
            for basis in BASES {
                let at = |t: f64| basis.coefficients(count, t.min(1.0));
                for (c, next) in at(t).iter().zip(at(t + step)) {
                    let most = 1.001 * step * (count - 1) as f64 + 1e-12;
                    prop_assert!((c - next).abs() <= most, "{:?}", basis);
                }
            }
        }

        #[test]
        fn every_curve_starts_at_its_first_net_and_ends_at_its_last_bit_for_bit(
            count in 2usize..7, seed in 0u32..100,
        ) {
            let shape = Shape::of(7, &[5, 4], 3, true);
            for basis in BASES {
                let mut nets: Vec<Net> =
                    (0..count).map(|k| shaped(shape, &format!("{seed} {k}"))).collect();
                // Includes the sign of a zero.
                nets.iter_mut().for_each(|net| net.params_mut()[0] = -0.0);
                let curve = Controls::new(basis, nets).expect("equal shapes");
                let [first, last] = [0, count - 1].map(|k| bits(curve.nets()[k].params()));
                prop_assert_eq!(bits(curve.point(0.0).params()), first);
                prop_assert_eq!(bits(curve.point(1.0).params()), last);
            }
        }
    }

    #[test]
    fn the_coefficients_by_hand() {
        assert_eq!(Basis::Bezier.coefficients(3, 0.25), [0.5625, 0.375, 0.0625]);
        assert_eq!(Basis::Chain.coefficients(3, 0.25), [0.5, 0.5, 0.0]);
        assert_eq!(Basis::Chain.coefficients(5, 0.5), [0.0, 0.0, 1.0, 0.0, 0.0]);
        for basis in BASES {
            assert_eq!(basis.coefficients(2, 0.25), [0.75, 0.25]);
            for count in 2..12 {
                let ends = [0.0, 1.0].map(|t| single(&basis.coefficients(count, t)));
                assert_eq!(ends, [Some(0), Some(count - 1)], "{basis:?}");
            }
        }
    }

    #[test]
    fn with_all_control_nets_on_the_chord_a_curve_is_the_chord() {
        let (a, b) = (net(9, "a"), net(9, "b"));
        let line = Path::new(&linear::Linear, Center::Zero, &a, &b).expect("equal shapes");
        for (basis, segments) in BASES.into_iter().flat_map(|basis| [(basis, 1), (basis, 4)]) {
            let nets = grid(segments + 1).iter().map(|&s| line.point(s)).collect();
            let curve = Controls::new(basis, nets).expect("equal shapes");
            for t in grid(14) {
                let (found, expected) = (curve.point(t), line.point(t));
                for (found, expected) in found.params().iter().zip(expected.params()) {
                    assert!((found - expected).abs() < 1e-7, "{basis:?} at {t}");
                }
            }
        }
    }

    #[test]
    fn combined_pre_activations_give_the_quality_of_a_forward_pass_at_each_point() {
        for (shape, basis) in shapes().into_iter().flat_map(|s| BASES.map(|basis| (s, basis))) {
            let (x, labels) = images_of(IMAGES, shape.inputs, shape.classes as u32);
            let curve = controls(basis, shape, 4);
            let points = curve.measure(&grid(10), &x, &labels, ONE);
            assert_eq!(points.iter().map(|point| point.t).collect::<Vec<_>>(), grid(10));
            for point in &points {
                let reference = evaluate(&curve.point(point.t), &x, &labels);
                let case = format!("{shape} {basis:?} {point:?} {reference:?}");
                if single(&curve.coefficients(point.t)).is_some() {
                    assert_eq!(quality(point), reference, "{case}");
                }
                assert!((point.loss / reference.loss - 1.0).abs() < 1e-6, "{case}");
                let difference = (point.error - reference.error).abs();
                assert!(difference < 150.0 / IMAGES as f64, "{case}");
            }
        }
    }

    #[test]
    fn measurements_have_the_same_bits_on_any_number_of_threads_and_every_isa() {
        for (shape, basis) in shapes().into_iter().flat_map(|s| BASES.map(|basis| (s, basis))) {
            let (x, labels) = images_of(IMAGES, shape.inputs, shape.classes as u32);
            let curve = controls(basis, shape, 3);
            let on = |threads| {
                curve.measure(&grid(6), &x, &labels, NonZero::new(threads).expect("some"))
            };
            let expected = on(1);
            assert_eq!((on(2), on(5)), (expected.clone(), expected.clone()), "{shape} {basis:?}");
            on_every_isa(|isa| assert_eq!(on(1), expected, "{shape} {basis:?} {isa:?}"));
        }
    }

    #[test]
    fn a_permutation_of_all_control_nets_does_not_change_the_curve() {
        for (shape, basis) in shapes().into_iter().flat_map(|s| BASES.map(|basis| (s, basis))) {
            let (x, labels) = images_of(300, shape.inputs, shape.classes as u32);
            let curve = controls(basis, shape, 4);
            let mut order = Permutations::identity(shape);
            order.shuffle(&mut rng::stream("0", "order"));
            let permuted = curve.nets().iter().map(|net| order.apply(net).expect("fits")).collect();
            let permuted = Controls::new(basis, permuted).expect("equal shapes");
            let [plain, other] = [&curve, &permuted].map(|c| c.measure(&grid(7), &x, &labels, ONE));
            for (plain, other) in plain.iter().zip(&other) {
                assert!((plain.loss / other.loss - 1.0).abs() < 1e-5, "{shape} {basis:?}");
            }
        }
    }

    #[test]
    fn lengths_are_those_of_the_points() {
        let curve = controls(Basis::Chain, Shape::talk(4), 3);
        let through = |ts: &[f64]| Lengths::of(ts.iter().map(|&t| curve.point(t)));
        let lengths = through(&grid(5));
        let chain = through(&[0.0, 0.5, 1.0]);
        let [full, bent] = [&lengths, &chain].map(|l| l.cumulative[l.cumulative.len() - 1]);
        assert!((full / bent - 1.0).abs() < 1e-6);
        assert!(full > lengths.chord && lengths.chord == chain.chord);
    }

    #[test]
    fn nets_that_make_no_curve_are_refused() {
        let refusal = |nets: Vec<Net>| Controls::new(Basis::Bezier, nets).expect_err("refused");
        assert_eq!(refusal(Vec::new()), "a curve has two ends");
        assert_eq!(refusal(vec![net(3, "a")]), "a curve has two ends");
        assert_eq!(
            refusal(vec![net(3, "a"), net(3, "b"), net(4, "c")]),
            "a net of shape `784-3-10` cannot be joined to one of shape `784-4-10`"
        );
        let mut infinite = net(3, "b");
        infinite.params_mut()[0] = f32::INFINITY;
        assert_eq!(
            refusal(vec![net(3, "a"), infinite]),
            "control net 1 has parameters that are not finite numbers"
        );
    }
}
