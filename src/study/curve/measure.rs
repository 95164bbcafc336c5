//! Error and loss along a curve, without a pass through the first layer for each point.
//!
//! Pre-activations of the layer that moves are linear in its weights. Two projections, with the
//! weights of A and of B, and one number per image for the center's row give the pre-activations
//! at every t by an elementwise combination; only ReLU and the layers above are computed per point.
//! Above a single layer of ten classes there is a faster kernel, [`Interleaved`].
//!
//! Images are processed in blocks, so that memory does not grow with their number. Threads divide
//! the images of a block for the projection and the points for the measurement: the losses of a
//! point are always added image by image.
//!
//! This file does not depend on the curve, or on the origin of the layers above.

use super::layer::{Activations, Input, Layer, Packed, Stack, add_biases};
use super::path::Motion;
use super::{Path, Point};
use crate::kernel::CLASSES;
use crate::kernel::blend::{Images as Interleaved, blend_rows};
use crate::kernel::dense::relu;
use crate::kernel::parallel::parallel_for;
use crate::kernel::softmax::{BatchStats, cross_entropy};
use crate::kernel::sparse::Sparse;
use crate::study::net::Quality;
use std::num::NonZero;
use std::ops::Range;

/// Images in a block: their pre-activations under both nets take 16 MB at h = 2000.
const BLOCK: usize = 1024;
/// The most images in a block where every point of a curve packs its layers for each block.
const LARGE_BLOCK: usize = 8192;
/// Bytes of the pre-activations of a large block, unless 1024 images take more.
const LARGE_BYTES: usize = 64 << 20;

/// Images that a thread projects at once, a multiple of 32: enough to repay reading the weights,
/// and more if few threads divide a block.
pub(super) fn piece(threads: NonZero<usize>) -> usize {
    (BLOCK / threads).clamp(128, 256).next_multiple_of(Interleaved::MOST)
}

impl Path<'_> {
    /// Error and loss at each of `ts`, on `images` [n, inputs] with their `labels` `[n]`; the
    /// number of `threads` does not affect the bits.
    ///
    /// At t = 0 and t = 1 the numbers are exactly those of the ends; in between they differ from
    /// those of [`Path::point`] by the rounding of the pre-activations in f32.
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
        let ends = [self.a, self.b].map(|net| Layer::of(net, 0));
        let points: Vec<_> = ts.iter().map(|&t| (t, t)).collect();
        let sweep = Sweep {
            below: Stack::of(self.a, 0),
            moving: self.moving(0, ends, &Vec::from_iter(0..self.a.width(0))),
            points: &points,
            layers: self.a.layers(),
            above: &|point: usize, l: usize| self.layer(l, ts[point]),
            classes: self.a.shape().classes,
        };
        sweep.measure(images, labels, threads)
    }

    /// The hidden layer `l`, which moves between two `ends` along this curve, its neurons in this
    /// `order`.
    pub(super) fn moving(&self, l: usize, ends: [Layer; 2], order: &[usize]) -> Moving {
        let center = self.kind.row(&ends[0], &ends[1]);
        let [a, b] = ends.map(|end| Packed::of(&end.in_order(order)));
        Moving {
            index: l,
            width: order.len(),
            layers: [a, b, Packed::of(&center)],
            motion: self.motion,
        }
    }
}

/// A hidden layer at every point of a curve.
pub(super) struct Moving {
    index: usize,
    width: usize,
    /// That of A, that of B, and the center, whose rows are all equal: only one of them.
    layers: [Packed; 3],
    motion: Motion,
}

/// Pre-activations of some images under A and B, [n, h], and under the center's row, `[n]`.
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

    /// Pieces of `n` of the images, with their indices.
    pub(super) fn pieces(
        &mut self,
        n: usize,
        h: usize,
    ) -> impl Iterator<Item = (usize, [&mut [f32]; 3])> {
        let sides = self.a.chunks_mut(n * h).zip(self.b.chunks_mut(n * h));
        sides.zip(self.m.chunks_mut(n)).map(|((a, b), m)| [a, b, m]).enumerate()
    }
}

impl Moving {
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The pre-activations of the images in `input`: under A, under B, and the center's.
    pub(super) fn project(&self, input: Input, z: [&mut [f32]; 3]) {
        for (layer, z) in self.layers.iter().zip(z) {
            layer.apply(input.clone(), z);
        }
    }

    /// The factors of the pre-activations at `s`.
    pub(super) fn coefficients(&self, s: f64) -> [f32; 3] {
        self.motion.coefficients(s).map(|c| c as f32)
    }
}

/// Points of a curve with the same layers `below` the one that moves.
pub(super) struct Sweep<'a> {
    pub below: Stack,
    pub moving: Moving,
    /// t, the position on the whole curve, and s, that of the moving layer between its ends.
    pub points: &'a [(f64, f64)],
    /// The number of layers in all.
    pub layers: usize,
    /// A layer above the moving one, by the index of its point and its own.
    pub above: &'a (dyn Fn(usize, usize) -> Layer<'a> + Sync),
    pub classes: usize,
}

/// What a thread needs for the images of a piece.
#[derive(Clone, Default)]
struct Workspace {
    activations: Activations,
    z: PreActivations,
}

impl Sweep<'_> {
    /// Error and loss of each point; exactly those of the net where s is 0 or 1.
    ///
    /// # Panics
    /// If the numbers of images and labels differ.
    pub(super) fn measure(
        &self,
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
        let stats = if self.moving.index + 2 == self.layers && self.classes == CLASSES {
            self.interleaved(images, labels, threads)
        } else {
            self.layer_by_layer(images, labels, threads)
        };
        let point = |(&(t, _), stats): (&(f64, f64), BatchStats)| {
            let Quality { error, loss } = Quality::of_sums(stats.loss, stats.wrong, labels.len());
            Point { t, error, loss }
        };
        self.points.iter().zip(stats).map(point).collect()
    }

    /// Below one layer of ten classes.
    fn interleaved(
        &self,
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<BatchStats> {
        const MOST: usize = Interleaved::MOST;
        let h = self.moving.width;
        let last = |point| (self.above)(point, self.layers - 1);
        let last: Vec<Layer> = (0..self.points.len()).map(last).collect();
        let weights: Vec<_> = last.iter().map(|layer| by_neuron(&layer.weights)).collect();
        let coefficients = self.points.iter().map(|&(_, s)| self.moving.coefficients(s));
        let nets: Vec<_> = coefficients.zip(weights.iter().map(Vec::as_slice)).collect();
        let mut stats = vec![BatchStats::default(); nets.len()];
        // A thread measures all its points in one pass over the images of a block, which it would
        // otherwise read again for every group of points.
        let together = nets.len().div_ceil(threads.get()).max(1);
        let mut interleaved = vec![Interleaved::zeros(h); labels.len().min(BLOCK).div_ceil(MOST)];
        let mut workspaces = vec![Workspace::default(); threads.get()];
        let piece = piece(threads);
        for (block, labels) in labels.chunks(BLOCK).enumerate() {
            let interleaved = &mut interleaved[..labels.len().div_ceil(MOST)];
            let pieces = interleaved.chunks_mut(piece / MOST).zip(labels.chunks(piece));
            parallel_for(
                &mut workspaces,
                pieces.enumerate(),
                |work, (k, (interleaved, labels))| {
                    let first = block * BLOCK + k * piece;
                    let z = &mut work.z;
                    z.set_rows(labels.len(), h);
                    self.project(
                        images,
                        first..first + labels.len(),
                        &mut work.activations,
                        z.each_mut(),
                    );
                    for (k, images) in interleaved.iter_mut().enumerate() {
                        let rows = k * MOST..labels.len().min((k + 1) * MOST);
                        let neurons = rows.start * h..rows.end * h;
                        images.set(&z.a[neurons.clone()], &z.b[neurons], &z.m[rows]);
                    }
                },
            );
            let measured = nets.chunks(together).zip(last.chunks(together));
            let measured = measured.zip(stats.chunks_mut(together));
            parallel_for(&mut workspaces, measured, |_, ((nets, last), stats)| {
                let mut outputs = vec![[[0.0; CLASSES]; MOST]; nets.len()];
                for (images, labels) in interleaved.iter().zip(labels.chunks(MOST)) {
                    images.logits(nets, &mut outputs);
                    for ((outputs, layer), stats) in outputs.iter_mut().zip(last).zip(&mut *stats) {
                        let outputs = outputs[..labels.len()].as_flattened_mut();
                        add_biases(&layer.biases, outputs);
                        cross_entropy(outputs, labels, stats);
                    }
                }
            });
        }
        stats
    }

    /// Below any layers.
    fn layer_by_layer(
        &self,
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<BatchStats> {
        let (h, piece) = (self.moving.width, piece(threads));
        let block = (LARGE_BYTES / (2 * size_of::<f32>() * h)).clamp(BLOCK, LARGE_BLOCK);
        let block = block.next_multiple_of(piece);
        let mut stats = vec![BatchStats::default(); self.points.len()];
        let mut workspaces = vec![Activations::default(); threads.get()];
        let mut z = PreActivations::default();
        for (k, labels) in labels.chunks(block).enumerate() {
            let start = k * block;
            z.set_rows(labels.len(), h);
            parallel_for(&mut workspaces, z.pieces(piece, h), |work, (k, z)| {
                let first = start + k * piece;
                self.project(images, first..first + z[2].len(), work, z);
            });
            let items = stats.iter_mut().enumerate();
            parallel_for(&mut workspaces, items, |work, (point, stats)| {
                self.measure_block(point, &z, labels, piece, work, stats);
            });
        }
        stats
    }

    /// Adds a point's losses on the images with these pre-activations, in pieces.
    fn measure_block(
        &self,
        point: usize,
        z: &PreActivations,
        labels: &[u16],
        piece: usize,
        work: &mut Activations,
        stats: &mut BatchStats,
    ) {
        let h = self.moving.width;
        let above = (self.moving.index + 1..self.layers).map(|l| (self.above)(point, l));
        let above: Vec<Packed> = above.map(|layer| Packed::of(&layer)).collect();
        let c = self.moving.coefficients(self.points[point].1);
        let sides = z.a.chunks(piece * h).zip(z.b.chunks(piece * h));
        for (((a, b), m), labels) in sides.zip(z.m.chunks(piece)).zip(labels.chunks(piece)) {
            work.dense.resize(a.len(), 0.0);
            blend_rows(c, a, b, m, h, &mut work.dense);
            let mut width = h;
            for (k, layer) in above.iter().enumerate() {
                work.apply(layer, width);
                width = layer.fan_out();
                if k + 1 < above.len() {
                    relu(&mut work.dense);
                }
            }
            cross_entropy(&work.dense, labels, stats);
        }
    }

    /// The pre-activations of the images `rows`.
    fn project(
        &self,
        images: &Sparse,
        rows: Range<usize>,
        work: &mut Activations,
        z: [&mut [f32]; 3],
    ) {
        self.moving.project(self.below.apply(images, rows, work), z);
    }
}

/// The weights [10, h] of a layer as [h, 10].
pub(super) fn by_neuron(weights: &[f32]) -> Vec<[f32; CLASSES]> {
    let h = weights.len() / CLASSES;
    (0..h).map(|j| std::array::from_fn(|class| weights[class * h + j])).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{images, images_of, net, shaped};
    use super::super::{CURVES, Center, Curve, curve, grid};
    use super::*;
    use crate::kernel::test::on_every_isa;
    use crate::study::net::{Shape, evaluate};

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

    /// Nets of one to four layers of neurons, with and without biases.
    fn shapes() -> Vec<Shape> {
        vec![
            Shape::of(784, &[19], 10, true),
            Shape::of(50, &[19], 3, false),
            Shape::of(784, &[21, 18], 10, false),
            Shape::of(64, &[12, 33, 14], 100, true),
            Shape::of(33, &[9, 17, 11, 8], 10, true),
        ]
    }

    #[test]
    fn nets_of_any_shape_have_the_quality_of_a_forward_pass_exactly_at_the_ends() {
        for shape in shapes() {
            let (x, labels) = images_of(IMAGES, shape.inputs, shape.classes as u32);
            let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
            for (curve, center) in curves_and_centers() {
                let path = Path::new(curve, center, &a, &b).expect("equal shapes");
                let points = path.measure(&grid(5), &x, &labels, ONE);
                for (point, end) in [(&points[0], &a), (&points[4], &b)] {
                    assert_eq!(quality(point), evaluate(end, &x, &labels), "{shape} {curve:?}");
                }
                for point in &points[1..4] {
                    let reference = evaluate(&path.point(point.t), &x, &labels);
                    let case = format!("{shape} {curve:?} {center:?} {point:?} {reference:?}");
                    assert!((point.loss / reference.loss - 1.0).abs() < 1e-6, "{case}");
                    let difference = (point.error - reference.error).abs();
                    assert!(difference < 150.0 / IMAGES as f64, "{case}");
                }
            }
        }
    }

    #[test]
    fn nets_of_any_shape_have_the_same_bits_on_any_number_of_threads_and_every_isa() {
        for shape in shapes() {
            let (x, labels) = images_of(300, shape.inputs, shape.classes as u32);
            let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
            let path = Path::new(CURVES[1], Center::Neurons, &a, &b).expect("equal shapes");
            let on =
                |threads| path.measure(&grid(4), &x, &labels, NonZero::new(threads).expect("some"));
            let expected = on(1);
            assert_eq!((on(2), on(5)), (expected.clone(), expected.clone()), "{shape}");
            on_every_isa(|isa| assert_eq!(on(1), expected, "{shape} {isa:?}"));
        }
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
