//! Error and loss along a curve, without a forward pass for each point.
//!
//! Hidden pre-activations are linear in W1, so two projections, X·W1_Aᵀ and X·W1_Bᵀ, and one number per image for the
//! center's row give those of every t by an elementwise combination; only relu and the small second layer are done for
//! each point. Images pass in blocks that stay in cache, so memory does not grow with their number.
//!
//! This file does not know which curves there are, nor how the W2 of a point came about.

use super::{Path, Point};
use crate::kernel::blend::blend;
use crate::kernel::dense::logits;
use crate::kernel::softmax::{Seen, cross_entropy};
use crate::kernel::sparse::{Panels, Sparse, project};
use crate::study::net::{CLASSES, INPUTS, Quality};
use std::ops::Range;

/// Images at once: their pre-activations under both nets take 2 MB at h = 2000.
const BLOCK: usize = 128;

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
    /// Error and loss at each of `ts`, on `images` [n, 784] with their `labels` `[n]`.
    ///
    /// At t = 0 and t = 1 the numbers are exactly those of the ends; between them they differ from those of
    /// [`Path::point`] by the rounding of the pre-activations in f32.
    ///
    /// # Panics
    /// If there are not as many labels as images.
    pub fn measure(&self, ts: &[f64], images: &Sparse, labels: &[u8]) -> Vec<Point> {
        let w2: Vec<_> = ts.iter().map(|&t| self.w2(t)).collect();
        let stops: Vec<_> = ts.iter().zip(&w2).map(|(&t, w2)| Stop { t, s: t, w2 }).collect();
        self.measure_stops(&stops, images, labels)
    }

    /// Error and loss of each of `stops`; exactly those of the net where s is 0 or 1. Neighbours with the same s share
    /// their hidden layer.
    ///
    /// # Panics
    /// If there are not as many labels as images.
    pub(super) fn measure_stops(&self, stops: &[Stop], images: &Sparse, labels: &[u8]) -> Vec<Point> {
        assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
        let h = self.a.hidden();
        let mut hidden_layer = HiddenLayer::of(self);
        let mut seen = vec![Seen::default(); stops.len()];
        let (mut hidden, mut outputs) = (vec![0.0; BLOCK * h], vec![0.0; BLOCK * CLASSES]);
        for (block, labels) in labels.chunks(BLOCK).enumerate() {
            let (hidden, outputs) = (&mut hidden[..labels.len() * h], &mut outputs[..labels.len() * CLASSES]);
            hidden_layer.project(images, block * BLOCK..block * BLOCK + labels.len());
            let mut last = None;
            for (stop, seen) in stops.iter().zip(&mut seen) {
                if last.replace(stop.s) != Some(stop.s) {
                    hidden_layer.at(stop.s, hidden);
                }
                logits(hidden, stop.w2, h, outputs);
                cross_entropy(outputs, labels, seen);
            }
        }
        let points = stops.iter().zip(seen).map(|(stop, Seen { loss, wrong })| {
            let Quality { error, loss } = Quality::of_sums(loss, wrong, labels.len());
            Point { t: stop.t, error, loss }
        });
        points.collect()
    }
}

/// The hidden layer all along a path, for some images at a time.
pub(super) struct HiddenLayer<'a> {
    path: &'a Path<'a>,
    /// W1 of A, of B, and the center's: its rows are all the same, so one stands for them.
    layers: [Panels; 3],
    /// Pre-activations of the images under each: [n, h], [n, h], `[n]`.
    z: [Vec<f32>; 3],
}

impl<'a> HiddenLayer<'a> {
    pub(super) fn of(path: &'a Path) -> HiddenLayer<'a> {
        let h = path.a.hidden();
        let layers = [(path.a.w1(), h), (path.b.w1(), h), (&path.center.w1()[..INPUTS], 1)];
        HiddenLayer { path, layers: layers.map(|(w1, rows)| Panels::pack(w1, rows, INPUTS)), z: Default::default() }
    }

    /// Turns to the images `rows`.
    pub(super) fn project(&mut self, images: &Sparse, rows: Range<usize>) {
        for (w1, z) in self.layers.iter().zip(&mut self.z) {
            z.resize(rows.len() * w1.columns(), 0.0);
            project(images, rows.clone(), w1, z);
        }
    }

    /// relu(X W1(s)ᵀ) of the images turned to, [n, h]; rows of `out` may be longer, and what is beyond h stays.
    pub(super) fn at(&self, s: f64, out: &mut [f32]) {
        let [a, b, m] = &self.z;
        blend(self.path.curve.coefficients(s).map(|c| c as f32), a, b, m, self.path.a.hidden(), out);
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
    const IMAGES: usize = 2 * BLOCK + 37;

    fn quality(point: &Point) -> Quality {
        Quality { error: point.error, loss: point.loss }
    }

    #[test]
    fn the_ends_measure_exactly_as_the_nets_themselves() {
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(19, "a"), net(19, "b"));
        for (&curve, center) in CURVES.iter().zip([Center::Outputs, Center::Neurons]) {
            let points = Path::new(curve, center, &a, &b).expect("equal widths").measure(&[0.0, 1.0], &x, &labels);
            assert_eq!(quality(&points[0]), evaluate(&a, &x, &labels), "{curve:?}");
            assert_eq!(quality(&points[1]), evaluate(&b, &x, &labels), "{curve:?}");
        }
    }

    #[test]
    fn two_projections_measure_what_a_forward_pass_at_each_point_does() {
        // Pre-activations are combined after rounding instead of before: f32 rounding, so one near tie may fall over.
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(33, "a"), net(33, "b"));
        for (&curve, center) in CURVES.iter().flat_map(|c| [Center::Neurons, Center::Outputs].map(|center| (c, center)))
        {
            let path = Path::new(curve, center, &a, &b).expect("equal widths");
            for point in path.measure(&grid(7), &x, &labels) {
                let naive = evaluate(&path.point(point.t), &x, &labels);
                assert!((point.loss / naive.loss - 1.0).abs() < 1e-6, "{curve:?} {point:?} {naive:?}");
                assert!((point.error - naive.error).abs() < 150.0 / IMAGES as f64, "{curve:?} {point:?} {naive:?}");
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
        let crossings: Vec<f64> =
            ts.iter().map(|&t| arc.curve.coefficients(t)).map(|[alpha, beta, _]| beta / (alpha + beta)).collect();
        let (on_arc, on_line) = (arc.measure(&ts, &x, &labels), line.measure(&crossings, &x, &labels));
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
        let expected = path.measure(&grid(4), &x, &labels);
        on_every_isa(|isa| assert_eq!(path.measure(&grid(4), &x, &labels), expected, "{isa:?}"));
    }
}
