//! Weight adjustment (WA): W1 follows a curve from A to B, and W2 is refitted by least squares at
//! every point.
//!
//! Anokhin and Yarotsky, arXiv 2008.00741; SCIENCE: "WA, weight adjustment". Normal equations: XᵀX
//! in f32 over blocks of images, the blocks added up in f64, solved in f64 by Cholesky with a
//! ridge, which replaces the solution of minimum norm if neurons are dead or duplicated.
//!
//! Pre-activations are linear in W1, so two projections of a block of images serve all points of
//! the curve whose sums fit into memory at once. Threads divide the images of a block for the
//! projection, and the points after it. Products of features skip the zeros of the first factor, so
//! its columns begin with the neurons that fire least often; the original order is restored before
//! the equations are solved.
//!
//! The error of a narrow net has a narrow peak, so the grid of the first segment is refined: each
//! round halves the two intervals beside the largest error, at the cost of two refits. The errors
//! are those on the training images, never those on the test images.
//!
//! This file does not depend on the curve that W1 follows.

use super::measure::{CurvePoint, HiddenLayer, PreActivations, by_neuron, piece};
use super::{Path, Point, grid};
use crate::kernel::blend::blend;
use crate::kernel::cholesky::Cholesky;
use crate::kernel::gram::{Products, SparseColumns, TallMatrix};
use crate::kernel::parallel::parallel_for;
use crate::kernel::sparse::Sparse;
use crate::study::net::{CLASSES, Forward, Net};
use crate::study::registry::named_enum;
use std::num::NonZero;

/// Images whose products are summed in f32 before these are added up in f64.
const BLOCK: usize = 1024;
/// Bytes of all sums in memory: those of all points up to h = 1438, of ten at h = 2000.
const SUMS_BYTES: usize = 160 << 20;
/// The least ridge, relative to the mean of the Gram matrix's diagonal.
const RIDGE: f64 = 1e-8;
/// A pivot counts towards the rank if it exceeds the ridge by this factor: the pivot of a
/// duplicated neuron is about twice the ridge, that of one among a dozen linearly dependent neurons
/// hardly more.
const RANK_FACTOR: f64 = 10.0;

named_enum! {
    "target"
    /// The logits that W2 is fitted to.
    #[derive(Default)]
    pub enum Targets {
        /// The logits of A, while W1 moves to that of B. In a second segment, W2 then moves to
        /// that of B along a straight line, as in the talk.
        #[default]
        A = "a",
        /// (1 - t) times the logits of A plus t times those of B. A single segment, with both ends
        /// exact (ours).
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
    /// The logits that W2 is fitted to.
    pub targets: Targets,
    /// Points per segment, both ends included, before the first is refined.
    pub points: u32,
    /// Rounds of refinement of the first segment.
    pub refine: u32,
}

/// A curve of nets with refitted W2.
#[derive(Clone, Debug)]
pub struct Refitted<'a> {
    path: Path<'a>,
    steps: Vec<Step>,
    first_segment: usize,
}

/// One point of a refitted curve.
#[derive(Clone, Debug)]
struct Step {
    t: f64,
    /// The position of W1 on its path.
    s: f64,
    /// [10, h].
    w2: Vec<f32>,
    fit: Option<Fit>,
}

/// The quality of a refit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The position of W1 between A's (0) and B's (1).
    pub s: f64,
    /// Estimated rank of the hidden features: pivots of the Cholesky factor above ten times the
    /// ridge.
    pub rank: usize,
    /// The ridge, relative to tr(G)/h: 1e-8, or the first larger power of ten that suffices.
    pub ridge: f64,
    /// |F W2ᵀ - T| / |T| of the refit; from the normal equations, so a value below 1e-3 is
    /// rounding.
    pub residual: f64,
    /// The same for A's W2.
    pub residual_kept: f64,
}

/// Refits W2 along `path` on the training `images` [n, 784] with their `labels` `[n]`; the number
/// of `threads` does not affect the bits.
///
/// # Errors
/// If there are no images, or the square of a feature or a logit is not finite.
///
/// # Panics
/// If the numbers of images and labels differ.
pub fn refit<'a>(
    path: Path<'a>,
    settings: RefitSettings,
    images: &Sparse,
    labels: &[u16],
    threads: NonZero<usize>,
) -> Result<Refitted<'a>, String> {
    refit_together(sums_at_once(path.a.width(0)), path, settings, images, labels, threads)
}

/// The number of points whose sums fit into memory, half a matrix each.
fn sums_at_once(h: usize) -> usize {
    (SUMS_BYTES / (size_of::<f64>() * (h + CLASSES) * (h + CLASSES) / 2)).max(1)
}

/// Refits `together` points in one pass over the images; the number does not affect the bits.
fn refit_together<'a>(
    together: usize,
    path: Path<'a>,
    settings: RefitSettings,
    images: &Sparse,
    labels: &[u16],
    threads: NonZero<usize>,
) -> Result<Refitted<'a>, String> {
    if images.rows() == 0 {
        return Err("a refit needs images".to_owned());
    }
    let points = settings.points.max(2);
    let is_blend = settings.targets == Targets::Blend;
    let (ts, first_segment) =
        if is_blend { (grid(points), 1.0) } else { (grid(2 * points - 1), 0.5) };
    let (first, second) = ts.split_at(points as usize);
    let ends = if is_blend { &[path.a, path.b][..] } else { &[path.a] };
    let targets = ends.iter().map(|net| outputs(net, images, threads)).collect();
    let order = rarest_first(&path, images);
    let refitter =
        Refitter { path: &path, first_segment, targets, order, together, images, threads };
    // The first point is A itself. With `Blend`, the last point is B itself.
    let moving = if is_blend { &first[1..first.len() - 1] } else { &first[1..] };
    let mut steps = vec![Step { t: 0.0, s: 0.0, w2: path.a.weights(1).to_vec(), fit: None }];
    steps.extend(refitter.steps(moving)?);
    if is_blend {
        steps.push(Step { t: 1.0, s: 1.0, w2: path.b.weights(1).to_vec(), fit: None });
    }
    let mut steps = refitter.refined(steps, settings.refine, labels)?;
    let first_segment = steps.len();
    let last = steps[first_segment - 1].w2.clone();
    for &t in second {
        steps.push(Step {
            t,
            s: 1.0,
            w2: straight(&last, path.b.weights(1), 2.0 * t - 1.0),
            fit: None,
        });
    }
    Ok(Refitted { path, steps, first_segment })
}

/// The data of the refits of a curve's first segment.
struct Refitter<'p> {
    path: &'p Path<'p>,
    /// The t at which W1 becomes that of B.
    first_segment: f64,
    /// The logits of A, and with [`Targets::Blend`] those of B.
    targets: Vec<Vec<f32>>,
    /// The order of the neurons, see [`rarest_first`].
    order: Vec<usize>,
    together: usize,
    images: &'p Sparse,
    threads: NonZero<usize>,
}

impl Refitter<'_> {
    /// A refit at each of `ts`.
    fn steps(&self, ts: &[f64]) -> Result<Vec<Step>, String> {
        let mut steps = Vec::with_capacity(ts.len());
        for ts in ts.chunks(self.together) {
            let ss: Vec<f64> = ts.iter().map(|&t| (t / self.first_segment).min(1.0)).collect();
            let products =
                products(self.path, &self.order, &self.targets, &ss, self.images, self.threads);
            let mut fits: Vec<_> = ss.iter().map(|_| None).collect();
            let items = products.into_iter().zip(&ss).zip(&mut fits);
            parallel_for(&mut vec![(); self.threads.get()], items, |(), ((products, &s), fit)| {
                let normal = Normal::of(&products, &self.order);
                drop(products);
                *fit = Some(normal.fit(s, self.path.a.weights(1)));
            });
            for ((&t, &s), fitted) in ts.iter().zip(&ss).zip(fits.into_iter().flatten()) {
                let (w2, fit) = fitted?;
                steps.push(Step { t, s, w2, fit: Some(fit) });
            }
        }
        Ok(steps)
    }

    /// Refines the `steps`: each of the `rounds` halves the intervals on either side of the largest
    /// error on the images. Of equal errors the larger loss counts, of equal losses the first.
    fn refined(&self, steps: Vec<Step>, rounds: u32, labels: &[u16]) -> Result<Vec<Step>, String> {
        if rounds == 0 {
            return Ok(steps);
        }
        let measured = |steps: Vec<Step>| -> Vec<(Point, Step)> {
            let points = measure(self.path, &steps, self.images, labels, self.threads);
            points.into_iter().zip(steps).collect()
        };
        let mut steps = measured(steps);
        for _ in 0..rounds {
            let points: Vec<Point> = steps.iter().map(|(point, _)| *point).collect();
            steps.extend(measured(self.steps(&beside_worst(&points))?));
            steps.sort_by(|(a, _), (b, _)| a.t.total_cmp(&b.t));
        }
        Ok(steps.into_iter().map(|(_, step)| step).collect())
    }
}

/// The midpoints of the intervals on either side of the worst of `points`, which are sorted by t.
fn beside_worst(points: &[Point]) -> Vec<f64> {
    let is_worse =
        |a: &Point, b: &Point| a.error.total_cmp(&b.error).then(a.loss.total_cmp(&b.loss)).is_gt();
    let worse = |worst, i| if is_worse(&points[i], &points[worst]) { i } else { worst };
    let worst = (1..points.len()).fold(0, worse);
    let around = &points[worst.saturating_sub(1)..points.len().min(worst + 2)];
    around.windows(2).map(|ends| (ends[0].t + ends[1].t) / 2.0).collect()
}

/// (1 - s) a + s b, exactly a at 0 and b at 1.
fn straight(a: &[f32], b: &[f32], s: f64) -> Vec<f32> {
    a.iter().zip(b).map(|(&a, &b)| ((1.0 - s) * f64::from(a) + s * f64::from(b)) as f32).collect()
}

impl Refitted<'_> {
    /// The nets along the curve, one per point; the first is A and the last is B, bit for bit.
    pub fn nets(&self) -> impl Iterator<Item = Net> + '_ {
        self.steps.iter().map(|step| {
            let mut net = Net::zeros(self.path.a.shape());
            net.weights_mut(0).copy_from_slice(&self.path.w1(step.s));
            net.weights_mut(1).copy_from_slice(&step.w2);
            net
        })
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

    /// Error and loss of each net, on `images` [n, 784] with their `labels` `[n]`; the number of
    /// `threads` does not affect the bits.
    ///
    /// # Panics
    /// If the numbers of images and labels differ.
    pub fn measure(&self, images: &Sparse, labels: &[u16], threads: NonZero<usize>) -> Vec<Point> {
        measure(&self.path, &self.steps, images, labels, threads)
    }
}

fn measure(
    path: &Path,
    steps: &[Step],
    images: &Sparse,
    labels: &[u16],
    threads: NonZero<usize>,
) -> Vec<Point> {
    let curve: Vec<_> =
        steps.iter().map(|&Step { t, s, ref w2, .. }| CurvePoint { t, s, w2 }).collect();
    path.measure_points(&curve, images, labels, threads)
}

/// The logits of `net` on `images`, [n, 10].
fn outputs(net: &Net, images: &Sparse, threads: NonZero<usize>) -> Vec<f32> {
    let (forward, piece, mut outputs) =
        (Forward::of(net), piece(threads), vec![0.0; images.rows() * CLASSES]);
    parallel_for(
        &mut vec![Vec::new(); threads.get()],
        outputs.chunks_mut(piece * CLASSES).enumerate(),
        |hidden, (k, out)| {
            forward.outputs(images, k * piece..k * piece + out.len() / CLASSES, hidden, out);
        },
    );
    outputs
}

/// The neurons, by the number of the first images on which they fire at both ends.
fn rarest_first(path: &Path, images: &Sparse) -> Vec<usize> {
    let (h, n) = (path.a.width(0), images.rows().min(BLOCK));
    let (mut fires, mut hidden) = (vec![0; h], Vec::new());
    for net in [path.a, path.b] {
        Forward::of(net).hidden(images, 0..n, &mut hidden);
        for hidden in hidden[0].chunks_exact(h) {
            fires.iter_mut().zip(hidden).for_each(|(fires, &a)| *fires += u32::from(a > 0.0));
        }
    }
    let mut neurons: Vec<usize> = (0..h).collect();
    neurons.sort_by_key(|&j| fires[j]);
    neurons
}

/// [F T]ᵀ[F T] at each of `ss`, with the columns of F in this `order` and T interpolated between
/// the `targets`, one or two; summed in one pass over the images.
fn products(
    path: &Path,
    order: &[usize],
    targets: &[Vec<f32>],
    ss: &[f64],
    images: &Sparse,
    threads: NonZero<usize>,
) -> Vec<Products> {
    let (h, piece) = (path.a.width(0), piece(threads));
    let mut products = vec![Products::gram(h + CLASSES); ss.len()];
    let layer = HiddenLayer::in_order(path, order);
    let mut z = PreActivations::default();
    // The targets are ten more columns, so that one product contains FᵀF, FᵀT and TᵀT.
    let mut joined = vec![(TallMatrix::new(h + CLASSES), SparseColumns::default()); threads.get()];
    for first in (0..images.rows()).step_by(BLOCK) {
        let n = BLOCK.min(images.rows() - first);
        z.set_rows(n, h);
        let pieces =
            z.a.chunks_mut(piece * h)
                .zip(z.b.chunks_mut(piece * h))
                .zip(z.m.chunks_mut(piece))
                .enumerate();
        parallel_for(&mut vec![(); threads.get()], pieces, |(), (k, ((a, b), m))| {
            let first = first + k * piece;
            layer.project(images, first..first + m.len(), [a, b, m]);
        });
        parallel_for(
            &mut joined,
            ss.iter().zip(&mut products),
            |(joined, non_zeros), (&s, products)| {
                joined.set_rows(n);
                blend(layer.coefficients(s), &z.a, &z.b, &z.m, h, joined);
                let rows = first * CLASSES..(first + n) * CLASSES;
                match targets {
                    [a, b] => joined.put(h, CLASSES, &straight(&a[rows.clone()], &b[rows], s)),
                    _ => joined.put(h, CLASSES, &targets[0][rows]),
                }
                products.add_gram(joined, non_zeros);
            },
        );
    }
    products
}

/// The normal equations: the upper triangle of [F T]ᵀ[F T], [h + 10, h + 10], in the original order
/// of the neurons.
struct Normal {
    h: usize,
    g: Vec<f64>,
}

impl Normal {
    /// From the `products` of neurons in this `order`.
    fn of(products: &Products, order: &[usize]) -> Normal {
        let h = order.len();
        let mut column_of: Vec<usize> = (0..h + CLASSES).collect();
        order.iter().enumerate().for_each(|(column, &neuron)| column_of[neuron] = column);
        let mut g = vec![0.0; column_of.len() * column_of.len()];
        for (i, row) in g.chunks_exact_mut(column_of.len()).enumerate() {
            row[i..]
                .iter_mut()
                .zip(&column_of[i..])
                .for_each(|(g, &column)| *g = products.at(column_of[i], column));
        }
        Normal { h, g }
    }

    /// Elements (i, j), (i, j + 1), ... to the end of the row; j >= i.
    fn row_from(&self, i: usize, j: usize) -> &[f64] {
        let columns = self.h + CLASSES;
        &self.g[i * columns..][..columns][j..]
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.row_from(i, j)[0]
    }

    /// The W2 [10, h] for which the features of W1(s) are closest to the targets, and its quality
    /// compared with `kept`.
    fn fit(&self, s: f64, kept: &[f32]) -> Result<(Vec<f32>, Fit), String> {
        let h = self.h;
        // By Cauchy-Schwarz, all products are finite if the squares are.
        let are_finite =
            |mut columns: std::ops::Range<usize>| columns.all(|j| self.at(j, j).is_finite());
        if !are_finite(0..h) {
            return Err("cannot refit: the squares of the hidden features are not finite".into());
        }
        if !are_finite(h..h + CLASSES) {
            return Err("cannot refit: the squares of the target logits are not finite".into());
        }
        let (factor, ridge) = self
            .factor()
            .ok_or("cannot refit: the hidden features are too small to be distinguished")?;
        let mut w = self.right_hand_side();
        let rank = match &factor {
            Some(factor) => {
                factor.solve(&mut w, CLASSES);
                let least = RANK_FACTOR * ridge * self.scale();
                factor.pivots().filter(|&pivot| pivot > least).count()
            }
            // Every neuron is dead, and the solution of minimum norm is zero.
            None => 0,
        };
        let w2: Vec<f32> = (0..CLASSES * h).map(|k| w[k % h * CLASSES + k / h] as f32).collect();
        let fit = Fit {
            s,
            rank,
            ridge,
            residual: self.residual(&w2),
            residual_kept: self.residual(kept),
        };
        Ok((w2, fit))
    }

    /// tr(G)/h, the unit of the ridge.
    fn scale(&self) -> f64 {
        (0..self.h).map(|j| self.at(j, j)).sum::<f64>() / self.h as f64
    }

    /// The factor of G = FᵀF plus the least ridge that makes it positive definite, and that ridge
    /// relative to the scale; no factor if G is zero; `None` if no ridge suffices.
    fn factor(&self) -> Option<(Option<Cholesky>, f64)> {
        let scale = self.scale();
        if scale == 0.0 {
            return Some((None, 0.0));
        }
        let ridges = std::iter::successors(Some(RIDGE), |ridge| Some(ridge * 10.0));
        // A ridge of the whole trace exceeds any rounding, so a larger one would not help.
        ridges.take_while(|&ridge| ridge <= self.h as f64).find_map(|ridge| {
            let mut g = vec![0.0; self.h * self.h];
            for (j, row) in g.chunks_exact_mut(self.h).enumerate() {
                row[j..].copy_from_slice(&self.row_from(j, j)[..self.h - j]);
                row[j] += ridge * scale;
            }
            Cholesky::factor(g, self.h).map(|factor| (Some(factor), ridge))
        })
    }

    /// FᵀT, [h, 10].
    fn right_hand_side(&self) -> Vec<f64> {
        (0..self.h * CLASSES).map(|k| self.at(k / CLASSES, self.h + k % CLASSES)).collect()
    }

    /// |F W2ᵀ - T| / |T|, from tr(W2 G W2ᵀ) - 2 tr(W2 FᵀT) + tr(TᵀT); 0 if the targets are all
    /// zero.
    fn residual(&self, w2: &[f32]) -> f64 {
        let by_neuron = by_neuron(w2);
        // All classes at once, since the additions of a single sum would wait for each other.
        let off_diagonal = |i: usize| {
            let mut sums = [0.0; CLASSES];
            for (&g, w) in self.row_from(i, i + 1).iter().zip(&by_neuron[i + 1..]) {
                for (sum, &w) in sums.iter_mut().zip(w) {
                    *sum += g * f64::from(w);
                }
            }
            sums
        };
        let off_diagonal: Vec<_> = (0..self.h).map(off_diagonal).collect();
        let (mut squared, mut targets) = (0.0, 0.0);
        for class in 0..CLASSES {
            let target = self.at(self.h + class, self.h + class);
            targets += target;
            squared += target;
            for (i, (w, off)) in by_neuron.iter().zip(&off_diagonal).enumerate() {
                let (w, off) = (f64::from(w[class]), off[class]);
                squared += w * (self.at(i, i) * w + 2.0 * (off - self.at(i, self.h + class)));
            }
        }
        if targets > 0.0 { (squared.max(0.0) / targets).sqrt() } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{images, net};
    use super::super::{CURVES, Center};
    use super::*;
    use crate::kernel::dense::{logits, relu};
    use crate::kernel::product::{Panels, project};
    use crate::kernel::test::{bits, on_every_isa};
    use crate::study::net::{INPUTS, Quality, evaluate};
    use std::collections::BTreeMap;

    const IMAGES: usize = BLOCK + 200;
    const ONE: NonZero<usize> = NonZero::<usize>::MIN;

    fn joined<'a>(curve: usize, a: &'a Net, b: &'a Net) -> Path<'a> {
        Path::new(CURVES[curve], Center::Neurons, a, b).expect("equal widths")
    }

    /// Settings without refinement.
    fn settings(targets: Targets, points: u32) -> RefitSettings {
        RefitSettings { targets, points, refine: 0 }
    }

    fn refining(targets: Targets, points: u32) -> RefitSettings {
        RefitSettings { targets, points, refine: 2 }
    }

    /// Hidden features [n, h] and logits [n, 10] of `net`, by a separate forward pass.
    fn forward(net: &Net, images: &Sparse) -> (Vec<f32>, Vec<f32>) {
        let (h, n) = (net.width(0), images.rows());
        let (mut hidden, mut outputs) = (vec![0.0; n * h], vec![0.0; n * CLASSES]);
        project(images, 0..n, &Panels::pack(net.weights(0), h, INPUTS), &mut hidden);
        relu(&mut hidden);
        logits(&hidden, net.weights(1), h, &mut outputs);
        (hidden, outputs)
    }

    #[test]
    fn a_refitted_curve_starts_at_a_and_ends_at_b_bit_for_bit() {
        let (x, labels) = images(300);
        let (a, b) = (net(12, "a"), net(12, "b"));
        for (targets, points) in [(Targets::A, 7), (Targets::Blend, 4)] {
            for curve in 0..CURVES.len() {
                let refitted = refit(joined(curve, &a, &b), settings(targets, 4), &x, &labels, ONE)
                    .expect("a refit");
                let nets: Vec<Net> = refitted.nets().collect();
                assert_eq!(
                    (nets.len(), &nets[0], &nets[points - 1]),
                    (points, &a, &b),
                    "{targets:?}"
                );
                let ts: Vec<f64> = refitted.steps.iter().map(|step| step.t).collect();
                assert_eq!(ts, grid(points as u32));
            }
        }
    }

    #[test]
    fn refinement_adds_points_beside_the_largest_error_and_keeps_the_others() {
        let (x, labels) = images(300);
        let (a, b) = (net(12, "a"), net(12, "b"));
        let bits_by_t = |refitted: &Refitted| -> BTreeMap<u64, Vec<u32>> {
            refitted.steps.iter().map(|step| (step.t.to_bits(), bits(&step.w2))).collect()
        };
        for (targets, first_ends) in [(Targets::A, 0.5), (Targets::Blend, 1.0)] {
            let at = |refine| {
                let settings = RefitSettings { refine, ..settings(targets, 5) };
                refit(joined(1, &a, &b), settings, &x, &labels, ONE).expect("a refit")
            };
            let coarse = at(0);
            for rounds in 1..5 {
                let fine = at(rounds);
                let added = fine.steps.len() - coarse.steps.len();
                assert!(
                    (rounds as usize..=2 * rounds as usize).contains(&added),
                    "{added} in {rounds} rounds"
                );
                assert_eq!(fine.first_segment(), coarse.first_segment() + added);
                assert_eq!(fine.steps[fine.first_segment() - 1].t, first_ends);
                let (kept, all) = (bits_by_t(&coarse), bits_by_t(&fine));
                assert!(kept.iter().all(|(t, w2)| all.get(t) == Some(w2)), "{targets:?}");

                let first = &fine.measure(&x, &labels, ONE)[..fine.first_segment()];
                let worst = first.iter().map(|point| point.error).fold(0.0, f64::max);
                let spacing = first_ends / 4.0 / f64::from(1 << rounds);
                let is_near = |i: usize| (first[i].t - first[i - 1].t - spacing).abs() < 1e-12;
                let is_refined =
                    |i: usize| (i == 0 || is_near(i)) && (i + 1 == first.len() || is_near(i + 1));
                assert!(
                    (0..first.len()).any(|i| first[i].error == worst && is_refined(i)),
                    "{first:?}"
                );
            }
        }
    }

    #[test]
    fn the_intervals_beside_the_worst_point_are_halved_and_ties_are_broken_by_loss() {
        let case = |errors: &[(f64, f64)], expected: &[f64]| {
            let points: Vec<Point> = (0..)
                .zip(errors)
                .map(|(i, &(error, loss))| Point { t: f64::from(i), error, loss })
                .collect();
            assert_eq!(beside_worst(&points), expected, "{errors:?}");
        };
        case(&[(1.0, 0.0), (3.0, 0.0), (2.0, 0.0), (1.0, 0.0)], &[0.5, 1.5]);
        case(&[(1.0, 0.0), (3.0, 0.1), (3.0, 0.2), (1.0, 0.0)], &[1.5, 2.5]);
        case(&[(1.0, 0.0), (3.0, 0.1), (3.0, 0.1), (1.0, 0.0)], &[0.5, 1.5]);
        case(&[(4.0, 0.0), (3.0, 0.0), (3.0, 0.0)], &[0.5]);
        case(&[(1.0, 0.0), (1.0, 0.0), (3.0, 0.0)], &[1.5]);
    }

    #[test]
    fn measurements_have_the_bits_of_an_evaluation_where_w1_is_that_of_an_end() {
        let (x, labels) = images(300);
        let (a, b) = (net(12, "a"), net(12, "b"));
        for targets in [Targets::A, Targets::Blend] {
            let refitted =
                refit(joined(1, &a, &b), settings(targets, 4), &x, &labels, ONE).expect("a refit");
            let points = refitted.measure(&x, &labels, ONE);
            for ((net, step), Point { error, loss, .. }) in
                refitted.nets().zip(&refitted.steps).zip(points)
            {
                let evaluated = evaluate(&net, &x, &labels);
                if step.s == 0.0 || step.s == 1.0 {
                    assert_eq!(Quality { error, loss }, evaluated, "{targets:?} {step:?}");
                } else {
                    // Pre-activations are rounded before they are combined.
                    assert!((loss / evaluated.loss - 1.0).abs() < 1e-6, "{targets:?} {step:?}");
                    assert!(
                        (error - evaluated.error).abs() < 150.0 / 300.0,
                        "{targets:?} {step:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn refits_have_the_same_bits_for_any_number_of_points_at_once() {
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(12, "a"), net(12, "b"));
        for targets in [Targets::A, Targets::Blend] {
            let refitted = |together| {
                let refitted = refit_together(
                    together,
                    joined(1, &a, &b),
                    refining(targets, 5),
                    &x,
                    &labels,
                    ONE,
                )
                .expect("a refit");
                (refitted.nets().collect::<Vec<_>>(), refitted.fits().collect::<Vec<_>>())
            };
            let expected = refitted(1);
            for together in [2, 3, 20] {
                assert_eq!(refitted(together), expected, "{targets:?}, {together} together");
            }
        }
    }

    #[test]
    fn refits_have_the_same_bits_on_any_number_of_threads() {
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(50, "a"), net(50, "b"));
        for targets in [Targets::A, Targets::Blend] {
            let refitted = |threads| {
                let threads = NonZero::new(threads).expect("some");
                let refitted = refit(joined(1, &a, &b), refining(targets, 5), &x, &labels, threads)
                    .expect("a refit");
                (refitted.nets().collect::<Vec<_>>(), refitted.fits().collect::<Vec<_>>())
            };
            let expected = refitted(1);
            for threads in [2, 3] {
                assert_eq!(refitted(threads), expected, "{targets:?}, {threads} threads");
            }
        }
    }

    #[test]
    fn the_sums_of_at_least_one_point_fit_at_every_width() {
        assert_eq!([10, 1350, 2000, 100_000].map(|h| sums_at_once(h).min(20)), [20, 20, 10, 1]);
    }

    #[test]
    fn a_refit_is_the_least_squares_solution() {
        let (x, labels) = images(IMAGES);
        let (a, b) = (net(20, "a"), net(20, "b"));
        let refitted =
            refit(joined(0, &a, &b), settings(Targets::A, 5), &x, &labels, ONE).expect("a refit");
        let targets = forward(&a, &x).1;
        for (net, fit) in refitted.nets().skip(1).zip(refitted.fits()) {
            let (hidden, found) = forward(&net, &x);
            let miss: Vec<f64> =
                found.iter().zip(&targets).map(|(y, t)| f64::from(y - t)).collect();
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let relative =
                norm(&mut miss.iter().copied()) / norm(&mut targets.iter().map(|&t| f64::from(t)));
            assert!((fit.residual - relative).abs() < 1e-3 * relative, "{fit:?} {relative}");
            assert!(fit.residual <= fit.residual_kept + 1e-6, "{fit:?}");
            assert_eq!((fit.rank, fit.ridge), (20, RIDGE));
            // The residual is orthogonal to every feature.
            for (j, class) in (0..20).flat_map(|j| (0..CLASSES).map(move |class| (j, class))) {
                let feature = || hidden[j..].iter().step_by(20).map(|&f| f64::from(f));
                let miss = || miss[class..].iter().step_by(CLASSES).copied();
                let dot: f64 = feature().zip(miss()).map(|(f, m)| f * m).sum();
                let cosine = dot / (norm(&mut feature()) * norm(&mut miss()));
                assert!(cosine.abs() < 1e-4, "neuron {j}, class {class}: {cosine}");
            }
        }
    }

    #[test]
    fn the_loss_on_the_straight_segment_never_exceeds_its_ends() {
        let (x, labels) = images(300);
        let (a, b) = (net(12, "a"), net(12, "b"));
        let points = refit(joined(1, &a, &b), settings(Targets::A, 9), &x, &labels, ONE)
            .expect("a refit")
            .measure(&x, &labels, ONE);
        let tail = &points[8..];
        let worst_end = tail[0].loss.max(tail[tail.len() - 1].loss);
        assert!(tail.iter().all(|point| point.loss <= worst_end + 1e-9), "{tail:?}");
    }

    #[test]
    fn halfway_only_the_center_distinguishes_the_arc_from_the_line() {
        // Without a center the arc's W1 is a multiple of the line's, which the refit compensates.
        let (x, labels) = images(300);
        let (a, b) = (net(12, "a"), net(12, "b"));
        let middle = |curve: usize, center| {
            let path = Path::new(CURVES[curve], center, &a, &b).expect("equal widths");
            let refitted =
                refit(path, settings(Targets::Blend, 3), &x, &labels, ONE).expect("a refit");
            refitted.fits().next().expect("one refit").residual
        };
        assert!((middle(0, Center::Zero) - middle(1, Center::Zero)).abs() < 1e-5);
        assert!((middle(0, Center::Neurons) - middle(1, Center::Neurons)).abs() > 1e-4);
    }

    #[test]
    fn dead_and_duplicated_neurons_lower_the_rank() {
        let (x, labels) = images(300);
        let (mut a, mut b) = (net(12, "a"), net(12, "b"));
        for net in [&mut a, &mut b] {
            let w1 = net.weights_mut(0);
            w1[..INPUTS].fill(-1.0); // neuron 0 is dead
            w1.copy_within(INPUTS..2 * INPUTS, 2 * INPUTS); // neuron 2 duplicates 1
            w1.copy_within(INPUTS..2 * INPUTS, 3 * INPUTS); // and so does 3
        }
        let refitted =
            refit(joined(0, &a, &b), settings(Targets::A, 3), &x, &labels, ONE).expect("a refit");
        for (fit, net) in refitted.fits().zip(refitted.nets().skip(1)) {
            assert_eq!(fit.rank, 9, "{fit:?}");
            assert!(fit.residual <= fit.residual_kept + 1e-6 && fit.residual < 1.0, "{fit:?}");
            let w2 = net.weights(1);
            assert_eq!(w2[0], 0.0, "a dead neuron gets no weight");
            assert!(
                (w2[1] - w2[2]).abs() < 1e-3 * w2[1].abs(),
                "duplicated neurons share the weight: {} {}",
                w2[1],
                w2[2]
            );
        }
    }

    #[test]
    fn a_refit_of_dead_neurons_is_zero() {
        let (x, labels) = images(20);
        let (a, mut b) = (net(3, "a"), net(3, "b"));
        b.weights_mut(0).fill(-1.0);
        let refitted =
            refit(joined(0, &a, &b), settings(Targets::A, 2), &x, &labels, ONE).expect("a refit");
        let fit = refitted.fits().next().expect("one refit");
        assert_eq!((fit.rank, fit.ridge, fit.residual), (0, 0.0, 1.0));
        assert!(refitted.steps[1].w2.iter().all(|&w| w == 0.0));
    }

    #[test]
    fn fewer_images_than_neurons_are_fitted_exactly() {
        let (x, labels) = images(10);
        let (a, b) = (net(40, "a"), net(40, "b"));
        let refitted =
            refit(joined(0, &a, &b), settings(Targets::A, 3), &x, &labels, ONE).expect("a refit");
        for fit in refitted.fits() {
            assert!(fit.residual < 1e-3, "{fit:?}");
            assert!((10..20).contains(&fit.rank), "ten, but for rounding: {fit:?}");
        }
    }

    #[test]
    fn the_sums_do_not_depend_on_the_order_of_the_neurons_on_any_isa() {
        let (x, _) = images(IMAGES);
        let (a, b) = (net(17, "a"), net(17, "b"));
        let targets = [outputs(&a, &x, ONE)];
        let sums = |order: &[usize]| {
            let products = products(&joined(0, &a, &b), order, &targets, &[0.3], &x, ONE);
            Normal::of(&products[0], order).g.iter().map(|g| g.to_bits()).collect::<Vec<_>>()
        };
        let (own, rarest) = (Vec::from_iter(0..17), rarest_first(&joined(0, &a, &b), &x));
        assert_ne!(own, rarest, "the orders must differ");
        on_every_isa(|isa| assert_eq!(sums(&rarest), sums(&own), "{isa:?}"));
    }

    #[test]
    fn refits_have_the_same_bits_on_every_isa() {
        let (x, labels) = images(100);
        let (a, b) = (net(17, "a"), net(17, "b"));
        let nets = || -> Vec<Net> {
            refit(joined(1, &a, &b), settings(Targets::Blend, 4), &x, &labels, ONE)
                .expect("a refit")
                .nets()
                .collect()
        };
        let expected = nets();
        on_every_isa(|isa| assert_eq!(nets(), expected, "{isa:?}"));
    }

    #[test]
    fn infinite_features_and_logits_are_refused() {
        let (a, mut b) = (net(3, "a"), net(3, "b"));
        let refused = |a: &Net, b: &Net, n| {
            let (x, labels) = images(n);
            refit(joined(0, a, b), settings(Targets::A, 3), &x, &labels, ONE).map(drop)
        };
        assert_eq!(refused(&a, &b, 0), Err("a refit needs images".to_owned()));
        // Numbers whose squares overflow.
        b.params_mut()[..INPUTS].fill(1e30);
        assert!(refused(&a, &b, 20).unwrap_err().contains("of the hidden features are not finite"));
        let (mut a, b) = (a, net(3, "b"));
        a.weights_mut(1).fill(1e30);
        assert!(refused(&a, &b, 20).unwrap_err().contains("of the target logits are not finite"));
    }
}
