//! Weight adjustment (WA): one layer follows a curve from A's to B's, and the layer above is
//! refitted by least squares at every point.
//!
//! Anokhin and Yarotsky, arXiv 2008.00741; SCIENCE: "WA, weight adjustment". A net of L layers has
//! L segments. In segment l, layer l moves along the curve, from its values at the end of the
//! segment before (those of A in the first segment) to those of B; the layers below are B's, those
//! above A's. Layer l + 1 is refitted to A's pre-activations of that layer, on the training images.
//! In the last segment, the last layer goes straight to B's. With one hidden layer, W1 moves and W2
//! is refitted to A's logits, then W2 goes straight.
//!
//! From the third layer on, the first refit in a segment does not reproduce A's pre-activations,
//! since the layer below does not. Between the end of the segment before and the next point, that
//! layer goes straight from A's to its first refit, like every parameter between two points.
//!
//! The curve of segment l is that of the whole: the same correlation for the rho-arc, and the
//! center of the rows of that layer at the two ends of the segment.
//!
//! The error of a narrow net has a narrow peak, so the grid is refined, except in the last segment:
//! each round halves the two intervals beside the largest error, at the cost of two refits. The
//! errors are those on the training images, never those on the test images.
//!
//! This file has the curve, `segment` the refits of a segment, and `normal` the least squares. None
//! depends on the curve that the moving layer follows.

mod normal;
mod segment;

use self::segment::{Refitter, Segment};
use super::layer::{Layer, Stack};
use super::measure::Sweep;
use super::{Path, Point, grid};
use crate::kernel::sparse::Sparse;
use crate::study::net::Net;
use crate::study::registry::named_enum;
use std::borrow::Cow;
use std::num::NonZero;

named_enum! {
    "target"
    /// The outputs that a layer is fitted to.
    #[derive(Default)]
    pub enum Targets {
        /// The logits of A, while W1 moves to that of B. In a second segment, W2 then moves to
        /// that of B along a straight line, as in the talk. In a deeper net, the pre-activations
        /// of A, layer by layer.
        #[default]
        A = "a",
        /// (1 - t) times the logits of A plus t times those of B. A single segment, with both ends
        /// exact (ours). Only for one hidden layer.
        Blend = "blend",
    }
}

impl Targets {
    /// The logits, as the end of a sentence.
    pub fn definition(self) -> &'static str {
        match self {
            Targets::A => "those of A",
            Targets::Blend => "(1 - t) times those of A plus t times those of B",
        }
    }
}

/// The settings of a refit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefitSettings {
    /// The outputs that a layer is fitted to.
    pub targets: Targets,
    /// Points per segment, both ends included, before refinement.
    pub points: u32,
    /// Rounds of refinement, in all segments but the last.
    pub refine: u32,
}

/// A curve of nets with refitted layers.
#[derive(Clone, Debug)]
pub struct Refitted<'a> {
    path: Path<'a>,
    /// The layer that moves in each segment, at the segment's start.
    starts: Vec<Layer<'static>>,
    steps: Vec<Step>,
    first_segment: usize,
}

/// One point of a refitted curve.
#[derive(Clone, Debug)]
struct Step {
    t: f64,
    /// The index of the layer that moves; in the last segment, of the one below, which has arrived.
    segment: usize,
    /// The position of that layer on its curve.
    s: f64,
    /// The layer above.
    above: Layer<'static>,
    fit: Option<Fit>,
}

/// The quality of a refit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The position of the layer that moves: its index, counted from 0, plus its position between
    /// the start of its segment (0) and B's (1). With one hidden layer, W1's from A's to B's.
    pub s: f64,
    /// Estimated rank of the features, the constant of the biases included: pivots of the Cholesky
    /// factor above ten times the ridge.
    pub rank: usize,
    /// The ridge, relative to tr(G)/h: 1e-8, or the first larger power of ten that suffices.
    pub ridge: f64,
    /// |F Wᵀ - T| / |T| of the refit; from the normal equations, so a value below 1e-3 is
    /// rounding.
    pub residual: f64,
    /// The same for A's layer.
    pub residual_kept: f64,
}

/// Refits along `path` on the training `images` [n, inputs] with their `labels` `[n]`; the number
/// of `threads` does not affect the bits.
///
/// # Errors
/// If there are no images, the square of a feature or a target is not finite, or the targets are a
/// blend and the nets have several hidden layers.
///
/// # Panics
/// As [`Path::measure`].
pub fn refit<'a>(
    path: Path<'a>,
    settings: RefitSettings,
    images: &Sparse,
    labels: &[u16],
    threads: NonZero<usize>,
) -> Result<Refitted<'a>, String> {
    refit_together(None, path, settings, images, labels, threads)
}

/// Refits `together` points in one pass over the images, or as many as fit into memory; the number
/// does not affect the bits.
fn refit_together<'a>(
    together: Option<NonZero<usize>>,
    path: Path<'a>,
    settings: RefitSettings,
    images: &Sparse,
    labels: &[u16],
    threads: NonZero<usize>,
) -> Result<Refitted<'a>, String> {
    let is_blend = settings.targets == Targets::Blend;
    let moving = path.a.shape().widths.depth();
    if is_blend && moving > 1 {
        return Err(format!(
            "the targets `blend` are for nets of one hidden layer, and these have {moving}"
        ));
    }
    if images.rows() == 0 {
        return Err("a refit needs images".to_owned());
    }
    let per_segment = settings.points.max(2);
    let segments = if is_blend { 1 } else { moving + 1 };
    let ts = grid(segments as u32 * (per_segment - 1) + 1);
    let inside = &grid(per_segment)[1..];
    // The first point is A itself. With `Blend`, the last point is B itself.
    let [start, above] = [0, 1].map(|l| Layer::of(path.a, l).into_owned());
    let first = Step { t: 0.0, segment: 0, s: 0.0, above, fit: None };
    let mut curve = Refitted { path, starts: vec![start], steps: vec![first], first_segment: 0 };
    let mut refitters = Vec::new();
    let refits = if is_blend { &inside[..inside.len() - 1] } else { inside };
    for (index, ts) in ts[1..].chunks(inside.len()).take(moving).enumerate() {
        if index > 0 {
            curve.starts.push(curve.last().above.clone());
        }
        let ends = [curve.starts[index].borrowed(), Layer::of(curve.path.b, index)];
        let segment = Segment { path: &curve.path, index, ends, targets: settings.targets };
        let refitter = Refitter::of(segment, together, images, threads);
        let points: Vec<_> = ts.iter().copied().zip(refits.iter().copied()).collect();
        curve.steps.extend(refitter.steps(&points)?);
        refitters.push(refitter);
    }
    if is_blend {
        let above = Layer::of(curve.path.b, 1).into_owned();
        curve.steps.push(Step { t: 1.0, segment: 0, s: 1.0, above, fit: None });
    }
    curve.refine(&refitters, settings.refine, images, labels, threads)?;
    curve.first_segment = curve.steps.iter().filter(|step| step.segment == 0).count();
    if !is_blend {
        curve.append_straight(&ts[1 + moving * inside.len()..]);
    }
    Ok(curve)
}

/// (1 - s) a + s b, exactly a at 0 and b at 1, down to the sign of a zero at 1.
fn straight(a: &[f32], b: &[f32], s: f64) -> Vec<f32> {
    if s == 1.0 {
        return b.to_vec();
    }
    a.iter().zip(b).map(|(&a, &b)| ((1.0 - s) * f64::from(a) + s * f64::from(b)) as f32).collect()
}

/// The intervals on either side of the worst of `points`, which are sorted by t: the index of the
/// right end of each.
fn beside_worst(points: &[Point]) -> Vec<usize> {
    let is_worse =
        |a: &Point, b: &Point| a.error.total_cmp(&b.error).then(a.loss.total_cmp(&b.loss)).is_gt();
    let worse = |worst, i| if is_worse(&points[i], &points[worst]) { i } else { worst };
    let worst = (1..points.len()).fold(0, worse);
    (worst.max(1)..points.len().min(worst + 2)).collect()
}

impl Refitted<'_> {
    /// Refines the grid: each of the `rounds` halves the intervals on either side of the largest
    /// error on the images. Of equal errors the larger loss counts, of equal losses the first.
    fn refine(
        &mut self,
        refitters: &[Refitter],
        rounds: u32,
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Result<(), String> {
        if rounds == 0 {
            return Ok(());
        }
        let mut points = self.measure(images, labels, threads);
        for _ in 0..rounds {
            let middles: Vec<_> =
                beside_worst(&points).into_iter().map(|right| self.middle(right)).collect();
            let mut added = Vec::new();
            for middles in middles.chunk_by(|(a, _), (b, _)| a == b) {
                let places: Vec<_> = middles.iter().map(|&(_, place)| place).collect();
                added.extend(refitters[middles[0].0].steps(&places)?);
            }
            points.extend(self.measure_steps(&added, images, labels, threads));
            points.sort_by(|a, b| a.t.total_cmp(&b.t));
            self.steps.extend(added);
            self.steps.sort_by(|a, b| a.t.total_cmp(&b.t));
        }
        Ok(())
    }

    /// The middle of the interval that ends at point `right`: its segment, t and s.
    fn middle(&self, right: usize) -> (usize, (f64, f64)) {
        let (left, right) = (&self.steps[right - 1], &self.steps[right]);
        // The end of a segment is where the next one starts.
        let from = if left.segment == right.segment { left.s } else { 0.0 };
        (right.segment, ((left.t + right.t) / 2.0, (from + right.s) / 2.0))
    }

    fn last(&self) -> &Step {
        self.steps.last().expect("BUG: a curve has a first point")
    }

    /// Appends the last segment at `ts`: the last layer goes straight to B's.
    fn append_straight(&mut self, ts: &[f64]) {
        let (b, last) = (self.path.b, self.last().clone());
        let segments = b.layers() as f64;
        let end = Layer::of(b, b.layers() - 1);
        for &t in ts {
            let s = segments * t - (segments - 1.0);
            let above = Layer {
                weights: Cow::Owned(straight(&last.above.weights, &end.weights, s)),
                biases: Cow::Owned(straight(&last.above.biases, &end.biases, s)),
                fan_out: end.fan_out,
            };
            self.steps.push(Step { t, s: 1.0, above, fit: None, ..last });
        }
    }

    /// The nets along the curve, one per point; the first is A and the last is B, bit for bit.
    pub fn nets(&self) -> impl Iterator<Item = Net> + '_ {
        let (a, b) = (self.path.a, self.path.b);
        self.steps.iter().map(move |step| {
            let mut net = Net::zeros(a.shape());
            for l in 0..a.layers() {
                match l {
                    l if l < step.segment => Layer::of(b, l).write(&mut net, l),
                    l if l == step.segment => self.moved(step).write(&mut net, l),
                    l if l == step.segment + 1 => step.above.write(&mut net, l),
                    _ => Layer::of(a, l).write(&mut net, l),
                }
            }
            net
        })
    }

    /// The layer that moves, at a point.
    fn moved(&self, step: &Step) -> Layer<'static> {
        let ends = [self.starts[step.segment].borrowed(), Layer::of(self.path.b, step.segment)];
        self.path.between(&ends, step.s)
    }

    /// The number of points of the first segment, in which W1 moves from that of A to that of B,
    /// both ends included.
    pub fn first_segment(&self) -> usize {
        self.first_segment
    }

    /// The quality of each refit, in the order of the curve.
    pub fn fits(&self) -> impl Iterator<Item = Fit> + '_ {
        self.steps.iter().filter_map(|step| step.fit)
    }

    /// Error and loss of each net, on `images` [n, inputs] with their `labels` `[n]`; the number of
    /// `threads` does not affect the bits.
    ///
    /// # Panics
    /// As [`Path::measure`].
    pub fn measure(&self, images: &Sparse, labels: &[u16], threads: NonZero<usize>) -> Vec<Point> {
        self.measure_steps(&self.steps, images, labels, threads)
    }

    fn measure_steps(
        &self,
        steps: &[Step],
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        let of_segment = |steps: &[Step]| {
            let (index, a, b) = (steps[0].segment, self.path.a, self.path.b);
            let points: Vec<_> = steps.iter().map(|step| (step.t, step.s)).collect();
            let above = |point: usize, l: usize| match l {
                l if l == index + 1 => steps[point].above.borrowed(),
                _ => Layer::of(a, l),
            };
            let ends = [self.starts[index].borrowed(), Layer::of(b, index)];
            let sweep = Sweep {
                below: Stack::of(b, index),
                moving: self.path.moving(index, ends, &Vec::from_iter(0..a.width(index))),
                points: &points,
                layers: a.layers(),
                above: &above,
                classes: a.shape().classes,
            };
            sweep.measure(images, labels, threads)
        };
        steps.chunk_by(|a, b| a.segment == b.segment).flat_map(of_segment).collect()
    }
}

#[cfg(test)]
mod tests;
