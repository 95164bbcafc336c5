//! Error and loss along a curve, without a forward pass for each point.
//!
//! Hidden pre-activations are linear in W1. Two projections, X·W1_Aᵀ and X·W1_Bᵀ, and one number
//! per image for the center's row give the pre-activations at every t by an elementwise
//! combination; only ReLU and the small second layer are computed per point. Images are processed
//! in blocks, so that memory does not grow with their number. Threads divide the images of a block
//! for the projection and the points for the measurement: the losses of a point are always added
//! image by image.
//!
//! This file does not depend on the curve, or on the origin of a point's W2.

use super::{Path, Point};
use crate::kernel::blend::Images;
use crate::kernel::parallel::parallel_for;
use crate::kernel::product::{Panels, project};
use crate::kernel::softmax::{BatchStats, cross_entropy};
use crate::kernel::sparse::Sparse;
use crate::study::net::{CLASSES, INPUTS, Net, Quality};
use std::num::NonZero;
use std::ops::Range;

/// Images in a block: their pre-activations under both nets take 16 MB at h = 2000.
const BLOCK: usize = 1024;

/// Images that a thread projects at once, a multiple of 32: enough to repay reading W1, and more if
/// few threads divide a block.
pub(super) fn piece(threads: NonZero<usize>) -> usize {
    (BLOCK / threads).clamp(128, 256).next_multiple_of(Images::MOST)
}

/// One point of a curve as a net: W1 by its position on the path, and its own W2.
pub(super) struct CurvePoint<'a> {
    /// The position on the whole curve.
    pub t: f64,
    /// The position of W1 on the path.
    pub s: f64,
    /// [10, h].
    pub w2: &'a [f32],
}

impl Path<'_> {
    /// Error and loss at each of `ts`, on `images` [n, 784] with their `labels` `[n]`; the number
    /// of `threads` does not affect the bits.
    ///
    /// At t = 0 and t = 1 the numbers are exactly those of the ends; in between they differ from
    /// those of [`Path::point`] by the rounding of the pre-activations in f32.
    ///
    /// # Panics
    /// If the numbers of images and labels differ.
    pub fn measure(
        &self,
        ts: &[f64],
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        let w2: Vec<_> = ts.iter().map(|&t| self.w2(t)).collect();
        let points: Vec<_> =
            ts.iter().zip(&w2).map(|(&t, w2)| CurvePoint { t, s: t, w2 }).collect();
        self.measure_points(&points, images, labels, threads)
    }

    /// Error and loss of each of `curve`; exactly those of the net where s is 0 or 1.
    ///
    /// # Panics
    /// If the numbers of images and labels differ.
    pub(super) fn measure_points(
        &self,
        curve: &[CurvePoint],
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
        let h = self.a.width(0);
        let layer = HiddenLayer::of(self);
        let w2: Vec<_> = curve.iter().map(|point| by_neuron(point.w2)).collect();
        let coefficients = curve.iter().map(|point| layer.coefficients(point.s));
        let nets: Vec<_> = coefficients.zip(w2.iter().map(Vec::as_slice)).collect();
        let mut stats = vec![BatchStats::default(); nets.len()];
        // A thread measures all its points in one pass over the images of a block, which it would
        // otherwise read again for every group of points.
        let together = nets.len().div_ceil(threads.get()).max(1);
        let mut interleaved =
            vec![Images::zeros(h); labels.len().min(BLOCK).div_ceil(Images::MOST)];
        let mut workspaces = vec![PreActivations::default(); threads.get()];
        let piece = piece(threads);
        for (block, labels) in labels.chunks(BLOCK).enumerate() {
            let interleaved = &mut interleaved[..labels.len().div_ceil(Images::MOST)];
            let pieces = interleaved.chunks_mut(piece / Images::MOST).zip(labels.chunks(piece));
            parallel_for(&mut workspaces, pieces.enumerate(), |z, (k, (interleaved, labels))| {
                let first = block * BLOCK + k * piece;
                z.set_rows(labels.len(), h);
                layer.project(images, first..first + labels.len(), z.each_mut());
                for (k, images) in interleaved.iter_mut().enumerate() {
                    let rows = k * Images::MOST..labels.len().min((k + 1) * Images::MOST);
                    let neurons = rows.start * h..rows.end * h;
                    images.set(&z.a[neurons.clone()], &z.b[neurons], &z.m[rows]);
                }
            });
            let measured = nets.chunks(together).zip(stats.chunks_mut(together));
            parallel_for(&mut workspaces, measured, |_, (nets, stats)| {
                let mut outputs = vec![[[0.0; CLASSES]; Images::MOST]; nets.len()];
                for (images, labels) in interleaved.iter().zip(labels.chunks(Images::MOST)) {
                    images.logits(nets, &mut outputs);
                    for (outputs, stats) in outputs.iter().zip(&mut *stats) {
                        cross_entropy(outputs[..labels.len()].as_flattened(), labels, stats);
                    }
                }
            });
        }
        let point = |(point, stats): (&CurvePoint, BatchStats)| {
            let Quality { error, loss } = Quality::of_sums(stats.loss, stats.wrong, labels.len());
            Point { t: point.t, error, loss }
        };
        curve.iter().zip(stats).map(point).collect()
    }
}

/// `w2` [10, h] as [h, 10].
pub(super) fn by_neuron(w2: &[f32]) -> Vec<[f32; CLASSES]> {
    let h = w2.len() / CLASSES;
    (0..h).map(|j| std::array::from_fn(|class| w2[class * h + j])).collect()
}

/// The hidden layer at every point of a path.
pub(super) struct HiddenLayer<'a> {
    path: &'a Path<'a>,
    /// W1 of A, of B, and of the center, whose rows are all equal: only one of them.
    layers: [Panels; 3],
}

/// Pre-activations of some images under A and B, [n, h], and the center's row, `[n]`.
#[derive(Clone, Debug, Default)]
pub(super) struct PreActivations {
    pub a: Vec<f32>,
    pub b: Vec<f32>,
    pub m: Vec<f32>,
}

impl PreActivations {
    /// Resizes for `n` images and `h` neurons, with unspecified content.
    pub(super) fn set_rows(&mut self, n: usize, h: usize) {
        self.a.resize(n * h, 0.0);
        self.b.resize(n * h, 0.0);
        self.m.resize(n, 0.0);
    }

    pub(super) fn each_mut(&mut self) -> [&mut [f32]; 3] {
        [&mut self.a, &mut self.b, &mut self.m]
    }
}

impl<'a> HiddenLayer<'a> {
    pub(super) fn of(path: &'a Path) -> HiddenLayer<'a> {
        Self::in_order(path, &Vec::from_iter(0..path.a.width(0)))
    }

    /// With its neurons in this `order`.
    pub(super) fn in_order(path: &'a Path, order: &[usize]) -> HiddenLayer<'a> {
        let pack = |net: &Net| {
            let rows: Vec<f32> = order
                .iter()
                .flat_map(|&j| &net.weights(0)[j * INPUTS..][..INPUTS])
                .copied()
                .collect();
            Panels::pack(&rows, order.len(), INPUTS)
        };
        let center = Panels::pack(&path.center.weights(0)[..INPUTS], 1, INPUTS);
        HiddenLayer { path, layers: [pack(path.a), pack(path.b), center] }
    }

    /// The pre-activations of the images `rows`: under A, under B, and the center's.
    pub(super) fn project(&self, images: &Sparse, rows: Range<usize>, z: [&mut [f32]; 3]) {
        for (w1, z) in self.layers.iter().zip(z) {
            project(images, rows.clone(), w1, z);
        }
    }

    /// The factors of the pre-activations at `s`.
    pub(super) fn coefficients(&self, s: f64) -> [f32; 3] {
        self.path.coefficients(s).map(|c| c as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{images, net};
    use super::super::{CURVES, Center, Curve, curve, grid};
    use super::*;
    use crate::kernel::test::on_every_isa;
    use crate::study::net::evaluate;

    /// More than two blocks, the last one ragged.
    const IMAGES: usize = 2 * BLOCK + 133;
    const ONE: NonZero<usize> = NonZero::<usize>::MIN;

    fn curves_and_centers() -> impl Iterator<Item = (&'static dyn Curve, Center)> {
        CURVES.iter().flat_map(|&curve| Center::ALL.iter().map(move |&center| (curve, center)))
    }

    fn quality(point: &Point) -> Quality {
        Quality { error: point.error, loss: point.loss }
    }

    #[test]
    fn the_ends_of_every_curve_have_exactly_the_quality_of_their_nets() {
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(19, "a"), net(19, "b"));
        for (curve, center) in curves_and_centers() {
            let points = Path::new(curve, center, &a, &b).expect("equal widths").measure(
                &[0.0, 1.0],
                &x,
                &labels,
                ONE,
            );
            assert_eq!(quality(&points[0]), evaluate(&a, &x, &labels), "{curve:?}");
            assert_eq!(quality(&points[1]), evaluate(&b, &x, &labels), "{curve:?}");
        }
    }

    #[test]
    fn two_projections_give_the_quality_of_a_forward_pass_at_each_point() {
        // Pre-activations are rounded to f32 before they are combined, which may change the class
        // of an image whose two largest logits are nearly equal.
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(33, "a"), net(33, "b"));
        for (curve, center) in curves_and_centers() {
            let path = Path::new(curve, center, &a, &b).expect("equal widths");
            for point in path.measure(&grid(7), &x, &labels, ONE) {
                let reference = evaluate(&path.point(point.t), &x, &labels);
                assert!(
                    (point.loss / reference.loss - 1.0).abs() < 1e-6,
                    "{curve:?} {point:?} {reference:?}"
                );
                assert!(
                    (point.error - reference.error).abs() < 150.0 / IMAGES as f64,
                    "{curve:?} {point:?} {reference:?}"
                );
            }
        }
    }

    #[test]
    fn an_arc_around_the_origin_has_the_errors_of_the_line_on_the_same_rays() {
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(24, "a"), net(24, "b"));
        let path = |name: &str| {
            Path::new(curve(name).expect("known"), Center::Zero, &a, &b).expect("equal widths")
        };
        let (line, arc) = (path("linear"), path("arc"));
        let ts = grid(13);
        let crossings: Vec<f64> = ts
            .iter()
            .map(|&t| arc.coefficients(t))
            .map(|[alpha, beta, _]| beta / (alpha + beta))
            .collect();
        let (on_arc, on_line) =
            (arc.measure(&ts, &x, &labels, ONE), line.measure(&crossings, &x, &labels, ONE));
        for (on_arc, on_line) in on_arc.iter().zip(&on_line) {
            assert_eq!(on_arc.error, on_line.error, "at {} and {}", on_arc.t, on_line.t);
        }
        assert!(
            (on_arc[6].loss - on_line[6].loss).abs() > 1e-3,
            "the losses differ by a temperature"
        );
    }

    #[test]
    fn measurements_have_the_same_bits_on_every_isa() {
        let (x, labels) = images(50);
        let (a, b) = (net(21, "a"), net(21, "b"));
        let path = Path::new(CURVES[1], Center::Neurons, &a, &b).expect("equal widths");
        let expected = path.measure(&grid(4), &x, &labels, ONE);
        on_every_isa(|isa| {
            assert_eq!(path.measure(&grid(4), &x, &labels, ONE), expected, "{isa:?}")
        });
    }

    #[test]
    fn measurements_have_the_same_bits_on_any_number_of_threads() {
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(21, "a"), net(21, "b"));
        let path = Path::new(CURVES[1], Center::Neurons, &a, &b).expect("equal widths");
        let [one, two, three] =
            [1, 2, 3].map(|n| path.measure(&grid(9), &x, &labels, NonZero::new(n).expect("some")));
        assert_eq!(one, two);
        assert_eq!(one, three);
    }
}
