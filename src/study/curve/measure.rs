//! Error and loss along a curve, without a forward pass for each point.
//!
//! Hidden pre-activations are linear in W1, so two projections, X·W1_Aᵀ and X·W1_Bᵀ, and one number per image for the
//! center's row give those of every t by an elementwise combination; only relu and the small second layer are done for
//! each point. Images pass in blocks that stay in cache, so memory does not grow with their number.
//!
//! This file does not know which curves there are.

use super::{Path, Point};
use crate::kernel::blend::blend;
use crate::kernel::dense::{logits, relu};
use crate::kernel::sparse::{Panels, Sparse, project};
use crate::study::net::{CLASSES, INPUTS, Quality, cross_entropy};

/// Images at once: their pre-activations under both nets take 2 MB at h = 2000.
const BLOCK: usize = 128;

impl Path<'_> {
    /// Error and loss at each of `ts`, on `images` [n, 784] with their `labels` `[n]`.
    ///
    /// At t = 0 and t = 1 the numbers are exactly those of the ends; between them they differ from those of
    /// [`Path::point`] by the rounding of the pre-activations in f32.
    ///
    /// # Panics
    /// If there are not as many labels as images.
    pub fn measure(&self, ts: &[f64], images: &Sparse, labels: &[u8]) -> Vec<Point> {
        assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
        let h = self.a.hidden();
        // The center's rows of W1 are all the same: one stands for them.
        let layers = [(self.a.w1(), h), (self.b.w1(), h), (&self.center.w1()[..INPUTS], 1)]
            .map(|(w1, rows)| (Panels::pack(w1, rows, INPUTS), rows));
        let coefficients = ts.iter().map(|&t| self.curve.coefficients(t).map(|c| c as f32));
        let steps: Vec<_> = coefficients.zip(ts.iter().map(|&t| self.w2(t))).collect();
        let mut tallies = vec![Tally::default(); ts.len()];
        let mut hidden = vec![0.0; BLOCK * h];
        for (block, labels) in labels.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            let [a, b, m] = layers.each_ref().map(|(w1, rows)| {
                let mut z = vec![0.0; labels.len() * rows];
                project(images, first..first + labels.len(), w1, &mut z);
                z
            });
            let hidden = &mut hidden[..labels.len() * h];
            for ((c, w2), tally) in steps.iter().zip(&mut tallies) {
                blend(*c, &a, &b, &m, h, hidden);
                tally.add(hidden, w2, h, labels);
            }
        }
        ts.iter().zip(tallies).map(|(&t, tally)| tally.point(t, labels.len())).collect()
    }
}

/// As [`Path::measure`], for nets that share `w1` [h, 784] and differ in W2: `heads` are (t, W2 [10, h]).
/// One forward pass serves them all, with the bits of [`evaluate`](crate::study::net::evaluate).
pub(super) fn measure_heads(w1: &[f32], heads: &[(f64, &[f32])], images: &Sparse, labels: &[u8]) -> Vec<Point> {
    assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
    let h = w1.len() / INPUTS;
    let w1 = Panels::pack(w1, h, INPUTS);
    let mut tallies = vec![Tally::default(); heads.len()];
    for (block, labels) in labels.chunks(BLOCK).enumerate() {
        let first = block * BLOCK;
        let mut hidden = vec![0.0; labels.len() * h];
        project(images, first..first + labels.len(), &w1, &mut hidden);
        relu(&mut hidden);
        for ((_, w2), tally) in heads.iter().zip(&mut tallies) {
            tally.add(&hidden, w2, h, labels);
        }
    }
    heads.iter().zip(tallies).map(|(&(t, _), tally)| tally.point(t, labels.len())).collect()
}

/// What has been counted at one point so far, image by image.
#[derive(Clone, Default)]
struct Tally {
    loss: f64,
    wrong: usize,
}

impl Tally {
    fn add(&mut self, hidden: &[f32], w2: &[f32], h: usize, labels: &[u8]) {
        let mut outputs = vec![0.0; labels.len() * CLASSES];
        logits(hidden, w2, h, &mut outputs);
        for (outputs, &label) in outputs.chunks_exact(CLASSES).zip(labels) {
            let (nats, wrong) = cross_entropy(outputs, label);
            self.loss += nats;
            self.wrong += usize::from(wrong);
        }
    }

    fn point(&self, t: f64, images: usize) -> Point {
        let Quality { error, loss } = Quality::of_sums(self.loss, self.wrong, images);
        Point { t, error, loss }
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
