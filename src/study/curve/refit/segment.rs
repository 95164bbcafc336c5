//! The refits of one segment of a curve.
//!
//! Pre-activations of the layer that moves are linear in its weights, so two projections of a block
//! of images serve all points whose sums fit into memory at once. Threads divide the images of a
//! block for the projection, and the points after it. Products of features skip the zeros of the
//! first factor, so its columns begin with the neurons that fire least often; the original order is
//! restored before the equations are solved.

use super::normal::{Normal, Sums};
use super::{Step, Targets, straight};
use crate::kernel::blend::blend;
use crate::kernel::gram::{SparseColumns, TallMatrix};
use crate::kernel::parallel::parallel_for;
use crate::kernel::sparse::Sparse;
use crate::study::curve::Path;
use crate::study::curve::layer::{Activations, Layer, Packed, Stack};
use crate::study::curve::measure::{Moving, PreActivations, piece};
use crate::study::net::Net;
use std::num::NonZero;
use std::ops::Range;

/// Images whose products are summed in f32 before these are added up in f64.
pub(super) const BLOCK: usize = 1024;
/// Bytes of all sums in memory: those of all points up to h = 1438, of ten at h = 2000.
const SUMS_BYTES: usize = 160 << 20;
/// Bytes of the targets that are kept in memory; more are computed anew in each pass.
const TARGETS_BYTES: usize = 64 << 20;

/// A layer that moves, and the layer above that is refitted.
pub(super) struct Segment<'p> {
    pub path: &'p Path<'p>,
    /// The index of the layer that moves.
    pub index: usize,
    /// That layer where the segment starts, and where it ends.
    pub ends: [Layer<'p>; 2],
    pub targets: Targets,
}

/// The data of the refits of a segment.
pub(super) struct Refitter<'x> {
    index: usize,
    /// The layers below, which are B's.
    below: Stack,
    moving: Moving,
    /// A's layer above.
    kept: Layer<'static>,
    targets: Vec<Outputs>,
    /// The order of the neurons, see [`rarest_first`].
    order: Vec<usize>,
    together: usize,
    images: &'x Sparse,
    threads: NonZero<usize>,
}

impl<'x> Refitter<'x> {
    /// That refits `together` points in one pass over the `images`, or as many as fit into memory.
    pub(super) fn of(
        segment: Segment,
        together: Option<NonZero<usize>>,
        images: &'x Sparse,
        threads: NonZero<usize>,
    ) -> Refitter<'x> {
        let order = rarest_first(&segment, images);
        Refitter::in_order(segment, order, together, images, threads)
    }

    /// With the neurons in this `order`.
    pub(super) fn in_order(
        segment: Segment,
        order: Vec<usize>,
        together: Option<NonZero<usize>>,
        images: &'x Sparse,
        threads: NonZero<usize>,
    ) -> Refitter<'x> {
        let Segment { path, index, ends, targets } = segment;
        let kept = Layer::of(path.a, index + 1).into_owned();
        let nets = if targets == Targets::Blend { &[path.a, path.b][..] } else { &[path.a] };
        let targets = nets.iter().map(|net| Outputs::of(net, index + 1, images, threads)).collect();
        let fits = sums_at_once(features(&kept), kept.fan_out);
        Refitter {
            index,
            below: Stack::of(path.b, index),
            moving: path.moving(index, ends, &order),
            kept,
            targets,
            order,
            together: together.map_or(fits, NonZero::get),
            images,
            threads,
        }
    }

    /// A refit at each of the `points`: t, and the position of the layer that moves.
    pub(super) fn steps(&self, points: &[(f64, f64)]) -> Result<Vec<Step>, String> {
        let mut steps = Vec::with_capacity(points.len());
        for points in points.chunks(self.together) {
            let mut fits: Vec<_> = points.iter().map(|_| None).collect();
            let items = self.sums(points).into_iter().zip(points).zip(&mut fits);
            parallel_for(&mut vec![(); self.threads.get()], items, |(), ((sums, &(_, s)), fit)| {
                let normal = Normal::of(sums, &self.order, !self.kept.biases.is_empty());
                *fit = Some(normal.fit(self.index as f64 + s, &self.kept));
            });
            for (&(t, s), fitted) in points.iter().zip(fits.into_iter().flatten()) {
                let (above, fit) = fitted.map_err(|cause| self.refusal(cause))?;
                steps.push(Step { t, segment: self.index, s, above, fit: Some(fit) });
            }
        }
        Ok(steps)
    }

    fn refusal(&self, cause: &str) -> String {
        format!("cannot refit layer {}: {cause}", self.index + 2)
    }

    /// The products of features and targets at each of the `points`, in one pass over the images.
    pub(super) fn sums(&self, points: &[(f64, f64)]) -> Vec<Sums> {
        let (h, piece, outputs) = (self.moving.width(), piece(self.threads), self.kept.fan_out);
        let features = features(&self.kept);
        let mut sums: Vec<Sums> = points.iter().map(|_| Sums::zeros(features, outputs)).collect();
        let mut z = PreActivations::default();
        let mut work = vec![Activations::default(); self.threads.get()];
        let mut targets = vec![Vec::new(); self.targets.len()];
        // The targets are more columns, so that one product contains FᵀF and FᵀT.
        let mut joined =
            vec![(TallMatrix::new(features + outputs), SparseColumns::default()); work.len()];
        for first in (0..self.images.rows()).step_by(BLOCK) {
            let n = BLOCK.min(self.images.rows() - first);
            z.set_rows(n, h);
            parallel_for(&mut work, z.pieces(piece, h), |work, (k, z)| {
                let first = first + k * piece;
                let input = self.below.apply(self.images, first..first + z[2].len(), work);
                self.moving.project(input, z);
            });
            for (outputs, block) in self.targets.iter().zip(&mut targets) {
                outputs.read(self.images, first..first + n, &mut work, block);
            }
            parallel_for(
                &mut joined,
                points.iter().zip(&mut sums),
                |(joined, non_zeros), (&(_, s), sums)| {
                    joined.set_rows(n);
                    blend(self.moving.coefficients(s), &z.a, &z.b, &z.m, h, joined);
                    if features > h {
                        joined.put(h, 1, &[1.0; BLOCK][..n]);
                    }
                    let between;
                    let targets = match &targets[..] {
                        [a, b] => {
                            between = straight(a, b, s);
                            &between
                        }
                        _ => &targets[0],
                    };
                    joined.put(features, outputs, targets);
                    sums.add(joined, targets, non_zeros);
                },
            );
        }
        sums
    }
}

/// The features that `layer` is refitted to: its inputs, and a constant for its biases.
fn features(layer: &Layer) -> usize {
    layer.fan_in() + usize::from(!layer.biases.is_empty())
}

/// The number of points whose sums fit into memory: half a matrix of features each, and the
/// products of features and targets.
pub(super) fn sums_at_once(features: usize, outputs: usize) -> usize {
    (SUMS_BYTES / (size_of::<f64>() * features * (features + 2 * outputs) / 2)).max(1)
}

/// The pre-activations of a layer of a net, by which the layer is refitted.
struct Outputs {
    below: Stack,
    layer: Packed,
    /// Those of all images [n, outputs], if they fit into memory.
    kept: Option<Vec<f32>>,
}

impl Outputs {
    fn of(net: &Net, index: usize, images: &Sparse, threads: NonZero<usize>) -> Outputs {
        let layer = Packed::of(&Layer::of(net, index));
        let bytes = images.rows() * layer.fan_out() * size_of::<f32>();
        let mut outputs = Outputs { below: Stack::of(net, index), layer, kept: None };
        if bytes <= TARGETS_BYTES {
            let mut all = Vec::new();
            let mut work = vec![Activations::default(); threads.get()];
            outputs.compute(images, 0..images.rows(), &mut work, &mut all);
            outputs.kept = Some(all);
        }
        outputs
    }

    /// Makes `out` the pre-activations of the images `rows`.
    fn read(
        &self,
        images: &Sparse,
        rows: Range<usize>,
        work: &mut [Activations],
        out: &mut Vec<f32>,
    ) {
        let outputs = self.layer.fan_out();
        match &self.kept {
            Some(kept) => {
                out.clear();
                out.extend_from_slice(&kept[rows.start * outputs..rows.end * outputs]);
            }
            None => self.compute(images, rows, work, out),
        }
    }

    fn compute(
        &self,
        images: &Sparse,
        rows: Range<usize>,
        work: &mut [Activations],
        out: &mut Vec<f32>,
    ) {
        let outputs = self.layer.fan_out();
        let piece = piece(NonZero::new(work.len()).unwrap_or(NonZero::<usize>::MIN));
        out.resize(rows.len() * outputs, 0.0);
        let pieces = out.chunks_mut(piece * outputs).enumerate();
        parallel_for(work, pieces, |work, (k, out)| {
            let first = rows.start + k * piece;
            let input = self.below.apply(images, first..first + out.len() / outputs, work);
            self.layer.apply(input, out);
        });
    }
}

/// The neurons of the layer that moves, by the number of the first images on which they fire at
/// both ends.
pub(super) fn rarest_first(segment: &Segment, images: &Sparse) -> Vec<usize> {
    let &Segment { path, index, ref ends, .. } = segment;
    let (h, n) = (ends[0].fan_out, images.rows().min(BLOCK));
    let mut neurons: Vec<usize> = (0..h).collect();
    let (mut z, mut work) = (PreActivations::default(), Activations::default());
    z.set_rows(n, h);
    let moving = path.moving(index, ends.each_ref().map(Layer::borrowed), &neurons);
    moving.project(Stack::of(path.b, index).apply(images, 0..n, &mut work), z.each_mut());
    let mut fires = vec![0; h];
    for z in z.a.chunks_exact(h).chain(z.b.chunks_exact(h)) {
        fires.iter_mut().zip(z).for_each(|(fires, &z)| *fires += u32::from(z > 0.0));
    }
    neurons.sort_by_key(|&j| fires[j]);
    neurons
}
