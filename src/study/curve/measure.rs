//! Error and loss along a curve, without a forward pass for each point.
//!
//! Hidden pre-activations are linear in W1, so two projections, X·W1_Aᵀ and X·W1_Bᵀ, and one number per image for the
//! center's row give those of every t by an elementwise combination; only relu and the small second layer are done for
//! each point. Images pass in blocks, so memory does not grow with their number. Threads share out a block's images
//! while they are projected, and the points while they are measured: each point's losses are added up image by image.
//!
//! This file does not know which curves there are, nor how the W2 of a point came about.

use super::{Path, Point};
use crate::kernel::blend::Images;
use crate::kernel::product::{Panels, project};
use crate::kernel::softmax::{Seen, cross_entropy};
use crate::kernel::sparse::Sparse;
use crate::kernel::threads::share;
use crate::study::net::{CLASSES, INPUTS, Mlp, Quality};
use std::num::NonZero;
use std::ops::Range;

/// Images at once: their pre-activations under both nets take 16 MB at h = 2000.
const BLOCK: usize = 1024;

/// Images that a thread projects at once, a multiple of 32: enough to be worth reading W1 for, and more if there are few threads
/// to share a block.
pub(super) fn piece(threads: NonZero<usize>) -> usize {
    (BLOCK / threads).clamp(128, 256).next_multiple_of(Images::MOST)
}

/// A net whose W1 lies on a path.
pub(super) struct Stop<'a> {
    /// Where it is on the curve it belongs to.
    pub t: f64,
    /// Where W1 is on the path.
    pub s: f64,
    /// [10, h].
    pub w2: &'a [f32],
}

impl Path<'_> {
    /// Error and loss at each of `ts`, on `images` [n, 784] with their `labels` `[n]`; the number of `threads` makes no
    /// difference to the bits.
    ///
    /// At t = 0 and t = 1 the numbers are exactly those of the ends; between them they differ from those of
    /// [`Path::point`] by the rounding of the pre-activations in f32.
    ///
    /// # Panics
    /// If there are not as many labels as images.
    pub fn measure(
        &self,
        ts: &[f64],
        images: &Sparse,
        labels: &[u8],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        let w2: Vec<_> = ts.iter().map(|&t| self.w2(t)).collect();
        let stops: Vec<_> = ts.iter().zip(&w2).map(|(&t, w2)| Stop { t, s: t, w2 }).collect();
        self.measure_stops(&stops, images, labels, threads)
    }

    /// Error and loss of each of `stops`; exactly those of the net where s is 0 or 1.
    ///
    /// # Panics
    /// If there are not as many labels as images.
    pub(super) fn measure_stops(
        &self,
        stops: &[Stop],
        images: &Sparse,
        labels: &[u8],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
        let h = self.a.hidden();
        let layer = HiddenLayer::of(self);
        let w2: Vec<_> = stops.iter().map(|stop| by_neuron(stop.w2)).collect();
        let points: Vec<_> = stops
            .iter()
            .zip(&w2)
            .map(|(stop, w2)| (layer.coefficients(stop.s), w2.as_slice()))
            .collect();
        let mut seen = vec![Seen::default(); points.len()];
        // A thread has all its points at once, for it reads the images for every lot of them: a 61-point curve at h = 2000
        // took a twelfth longer by eights.
        let together = points.len().div_ceil(threads.get()).max(1);
        let mut side_by_side =
            vec![Images::zeros(h); labels.len().min(BLOCK).div_ceil(Images::MOST)];
        let mut workspaces = vec![PreActivations::default(); threads.get()];
        let piece = piece(threads);
        for (block, labels) in labels.chunks(BLOCK).enumerate() {
            let side_by_side = &mut side_by_side[..labels.len().div_ceil(Images::MOST)];
            let shares =
                side_by_side.chunks_mut(piece / Images::MOST).zip(labels.chunks(piece)).enumerate();
            share(&mut workspaces, shares, |z, (k, (side_by_side, labels))| {
                let first = block * BLOCK + k * piece;
                z.set_rows(labels.len(), h);
                layer.project(images, first..first + labels.len(), z.each_mut());
                for (k, images) in side_by_side.iter_mut().enumerate() {
                    let rows = k * Images::MOST..labels.len().min((k + 1) * Images::MOST);
                    images.set(
                        &z.a[rows.start * h..rows.end * h],
                        &z.b[rows.start * h..rows.end * h],
                        &z.m[rows],
                    );
                }
            });
            let measured = points.chunks(together).zip(seen.chunks_mut(together));
            share(&mut workspaces, measured, |_, (points, seen)| {
                let mut outputs = vec![[[0.0; CLASSES]; Images::MOST]; points.len()];
                for (images, labels) in side_by_side.iter().zip(labels.chunks(Images::MOST)) {
                    images.logits(points, &mut outputs);
                    for (outputs, seen) in outputs.iter().zip(&mut *seen) {
                        cross_entropy(outputs[..labels.len()].as_flattened(), labels, seen);
                    }
                }
            });
        }
        let points = stops.iter().zip(seen).map(|(stop, Seen { loss, wrong })| {
            let Quality { error, loss } = Quality::of_sums(loss, wrong, labels.len());
            Point { t: stop.t, error, loss }
        });
        points.collect()
    }
}

/// `w2` [10, h] as [h, 10].
pub(super) fn by_neuron(w2: &[f32]) -> Vec<[f32; CLASSES]> {
    let h = w2.len() / CLASSES;
    (0..h).map(|j| std::array::from_fn(|class| w2[class * h + j])).collect()
}

/// The hidden layer all along a path.
pub(super) struct HiddenLayer<'a> {
    path: &'a Path<'a>,
    /// W1 of A, of B, and the center's: its rows are all the same, so one stands for them.
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
    /// Makes room for `n` images and `h` neurons; what is there then means nothing.
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
        Self::in_order(path, &Vec::from_iter(0..path.a.hidden()))
    }

    /// With its neurons in this `order`.
    pub(super) fn in_order(path: &'a Path, order: &[usize]) -> HiddenLayer<'a> {
        let pack = |net: &Mlp| {
            let rows: Vec<f32> =
                order.iter().flat_map(|&j| &net.w1()[j * INPUTS..][..INPUTS]).copied().collect();
            Panels::pack(&rows, order.len(), INPUTS)
        };
        let center = Panels::pack(&path.center.w1()[..INPUTS], 1, INPUTS);
        HiddenLayer { path, layers: [pack(path.a), pack(path.b), center] }
    }

    /// The pre-activations of the images `rows`: under A, under B, and the center's.
    pub(super) fn project(&self, images: &Sparse, rows: Range<usize>, z: [&mut [f32]; 3]) {
        for (w1, z) in self.layers.iter().zip(z) {
            project(images, rows.clone(), w1, z);
        }
    }

    /// What the pre-activations are to be multiplied by at `s`.
    pub(super) fn coefficients(&self, s: f64) -> [f32; 3] {
        self.path.coefficients(s).map(|c| c as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{images, net};
    use super::super::{CURVES, Center, Method, grid};
    use super::*;
    use crate::kernel::test::on_every_isa;
    use crate::study::net::evaluate;

    /// More than two blocks, the last one ragged.
    const IMAGES: usize = 2 * BLOCK + 133;
    const ONE: NonZero<usize> = NonZero::<usize>::MIN;

    fn quality(point: &Point) -> Quality {
        Quality { error: point.error, loss: point.loss }
    }

    #[test]
    fn the_ends_measure_exactly_as_the_nets_themselves() {
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(19, "a"), net(19, "b"));
        for (&curve, center) in
            CURVES.iter().flat_map(|c| [Center::Neurons, Center::Outputs].map(|center| (c, center)))
        {
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
    fn two_projections_measure_what_a_forward_pass_at_each_point_does() {
        // Pre-activations are combined after rounding instead of before: f32 rounding, so one near tie may fall over.
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(33, "a"), net(33, "b"));
        for (&curve, center) in
            CURVES.iter().flat_map(|c| [Center::Neurons, Center::Outputs].map(|center| (c, center)))
        {
            let path = Path::new(curve, center, &a, &b).expect("equal widths");
            for point in path.measure(&grid(7), &x, &labels, ONE) {
                let naive = evaluate(&path.point(point.t), &x, &labels);
                assert!(
                    (point.loss / naive.loss - 1.0).abs() < 1e-6,
                    "{curve:?} {point:?} {naive:?}"
                );
                assert!(
                    (point.error - naive.error).abs() < 150.0 / IMAGES as f64,
                    "{curve:?} {point:?} {naive:?}"
                );
            }
        }
    }

    #[test]
    fn an_arc_about_the_origin_has_the_errors_of_the_line_where_they_cross_its_rays() {
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(24, "a"), net(24, "b"));
        let path = |name: &str| {
            let curve = Method::try_from(name.to_owned()).expect("known").curve;
            Path::new(curve, Center::Zero, &a, &b).expect("equal widths")
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
        assert!((on_arc[6].loss - on_line[6].loss).abs() > 1e-3, "a temperature apart");
    }

    #[test]
    fn every_isa_measures_the_same_bits() {
        let (x, labels) = images(50);
        let (a, b) = (net(21, "a"), net(21, "b"));
        let path = Path::new(CURVES[1], Center::Neurons, &a, &b).expect("equal widths");
        let expected = path.measure(&grid(4), &x, &labels, ONE);
        on_every_isa(|isa| {
            assert_eq!(path.measure(&grid(4), &x, &labels, ONE), expected, "{isa:?}")
        });
    }

    #[test]
    fn the_number_of_threads_makes_no_difference_to_the_bits() {
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(21, "a"), net(21, "b"));
        let path = Path::new(CURVES[1], Center::Neurons, &a, &b).expect("equal widths");
        let [one, two, three] =
            [1, 2, 3].map(|n| path.measure(&grid(9), &x, &labels, NonZero::new(n).expect("some")));
        assert_eq!(one, two);
        assert_eq!(one, three);
    }
}
