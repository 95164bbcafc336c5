//! The plane through three nets in parameter space, with error and loss on a grid of its points.
//!
//! The coordinates are those of Garipov et al. (2018), section 3: the origin is A, the first axis
//! points to B, and the second is the rest of C - A after Gram-Schmidt, over all parameters. The
//! unit of both is |B - A|, so that A is (0, 0) and B is (1, 0).
//!
//! A point of the plane is an affine combination of the three nets. So are its pre-activations in
//! the first layer, which are linear in the weights: three projections of the images, under A, B
//! and C, serve the whole grid, as two serve a curve (see `measure`).

use super::layer::{Activations, Layer, Packed, Stack, add_biases};
use super::measure::{by_neuron, piece};
use super::path::{are_finite, combine, same_shape};
use crate::kernel::CLASSES;
use crate::kernel::blend::{Images as Interleaved, blend_rows};
use crate::kernel::dense::relu;
use crate::kernel::parallel::parallel_for;
use crate::kernel::softmax::{BatchStats, cross_entropy};
use crate::kernel::sparse::Sparse;
use crate::study::net::{Net, Quality};
use std::borrow::Cow;
use std::num::NonZero;

/// Images in a block: their pre-activations under three nets take 24 MB at h = 2000.
const BLOCK: usize = 1024;
/// The smallest distance of C from the line through A and B, in units of |B - A|.
const LEAST_HEIGHT: f64 = 1e-6;

/// The plane through three nets of one shape.
#[derive(Clone, Debug)]
pub struct Plane<'a> {
    a: &'a Net,
    b: &'a Net,
    c: &'a Net,
    /// |B - A|.
    unit: f64,
    /// The coordinates of C.
    third: (f64, f64),
}

/// Where a net is in relation to a plane, in units of |B - A|.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Projection {
    /// The coordinate along B - A.
    pub x: f64,
    /// The coordinate across it, positive on the side of C.
    pub y: f64,
    /// The distance from the plane.
    pub distance: f64,
}

impl<'a> Plane<'a> {
    /// The plane through `a`, `b` and `c`.
    ///
    /// # Errors
    /// If the nets differ in shape, a parameter is not finite, or the nets are on one line.
    pub fn new(a: &'a Net, b: &'a Net, c: &'a Net) -> Result<Plane<'a>, String> {
        same_shape(a, b)?;
        same_shape(a, c)?;
        let not_finite = |e: String| format!("there is no plane through the nets: {e}");
        are_finite(a, b).map_err(not_finite)?;
        if !c.params().iter().all(|w| w.is_finite()) {
            return Err(not_finite("C has parameters that are not finite numbers".to_owned()));
        }
        let mut plane = Plane { a, b, c, unit: 1.0, third: (0.0, 1.0) };
        let (mut bb, mut bc) = (0.0, 0.0);
        for [b, c] in plane.differences() {
            bb += b * b;
            bc += b * c;
        }
        if bb == 0.0 {
            return Err("there is no plane through the nets: A and B are equal".to_owned());
        }
        plane.unit = bb.sqrt();
        let x = bc / bb;
        let rest = plane.differences().map(|[b, c]| c - x * b).fold(0.0, |sum, r| sum + r * r);
        plane.third = (x, rest.sqrt() / plane.unit);
        if plane.third.1 < LEAST_HEIGHT {
            return Err(
                "there is no plane through the nets: C is on the line through A and B".to_owned()
            );
        }
        Ok(plane)
    }

    /// The coordinates of C.
    pub fn third(&self) -> (f64, f64) {
        self.third
    }

    /// |B - A|, the unit of the coordinates.
    pub fn unit(&self) -> f64 {
        self.unit
    }

    /// B - A and C - A, parameter by parameter.
    fn differences(&self) -> impl Iterator<Item = [f64; 2]> {
        let params = self.a.params().iter().zip(self.b.params()).zip(self.c.params());
        params.map(|((&a, &b), &c)| [b, c].map(|end| f64::from(end) - f64::from(a)))
    }

    /// The point of the plane that is nearest to `net`, and its distance.
    ///
    /// # Errors
    /// If `net` is of another shape.
    pub fn project(&self, net: &Net) -> Result<Projection, String> {
        same_shape(self.a, net)?;
        let (x, y) = self.third;
        // The axes, each of the length of B - A.
        let axes = || self.differences().map(|[b, c]| [b, (c - x * b) / y]);
        let offset = || {
            let params = net.params().iter().zip(self.a.params());
            params.map(|(&p, &a)| f64::from(p) - f64::from(a))
        };
        let square = self.unit * self.unit;
        let (mut along, mut across) = (0.0, 0.0);
        for ([u, v], d) in axes().zip(offset()) {
            along += d * u;
            across += d * v;
        }
        let (x, y) = (along / square, across / square);
        let rest = axes().zip(offset()).map(|([u, v], d)| d - x * u - y * v);
        let rest = rest.fold(0.0, |sum, r| sum + r * r);
        Ok(Projection { x, y, distance: rest.sqrt() / self.unit })
    }

    /// The shares of A, B and C in the point (`x`, `y`).
    fn coefficients(&self, x: f64, y: f64) -> [f64; 3] {
        let gamma = y / self.third.1;
        let beta = x - self.third.0 * gamma;
        [1.0 - beta - gamma, beta, gamma]
    }

    /// The net at (`x`, `y`), each parameter combined in f64 and rounded once: the reference
    /// implementation of [`Plane::measure`].
    pub fn point(&self, x: f64, y: f64) -> Net {
        let params = [self.a, self.b, self.c].map(Net::params);
        let mut net = Net::zeros(self.a.shape());
        let combined = combine_three(self.coefficients(x, y), params);
        net.params_mut().copy_from_slice(&combined);
        net
    }

    /// Layer `l` of the net at (`x`, `y`), counted from 0.
    fn layer(&self, l: usize, (x, y): (f64, f64)) -> Layer<'static> {
        let (c, nets) = (self.coefficients(x, y), [self.a, self.b, self.c]);
        Layer {
            weights: Cow::Owned(combine_three(c, nets.map(|net| net.weights(l)))),
            biases: Cow::Owned(combine_three(c, nets.map(|net| net.biases(l)))),
            fan_out: self.a.shape().fan_out(l),
        }
    }

    /// Error and loss at (x, y) for each y of `ys` and, within it, each x of `xs`, on `images`
    /// [n, inputs] with their `labels` `[n]`; the number of `threads` does not affect the bits.
    ///
    /// At A and B the numbers are exactly those of the nets, and at C if its coordinates are those
    /// of [`Plane::third`]; elsewhere they differ from those of [`Plane::point`] by the rounding of
    /// the pre-activations in f32.
    ///
    /// # Panics
    /// If the numbers of images and labels differ, the images do not fit the nets, or a label is
    /// not one of the nets' classes.
    pub fn measure(
        &self,
        [xs, ys]: [&[f64]; 2],
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<Quality> {
        assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
        if xs.is_empty() {
            return Vec::new();
        }
        let h = self.a.width(0);
        let first = [self.a, self.b, self.c].map(|net| Packed::of(&Layer::of(net, 0)));
        let below = Stack::of(self.a, 0);
        let is_plain = self.a.layers() == 2 && self.a.shape().classes == CLASSES;
        let mut stats = vec![BatchStats::default(); xs.len() * ys.len()];
        let mut workspaces = vec![Workspace::default(); threads.get()];
        let mut z: [Vec<f32>; 3] = Default::default();
        let piece = piece(threads);
        for (block, labels) in labels.chunks(BLOCK).enumerate() {
            z.iter_mut().for_each(|z| z.resize(labels.len() * h, 0.0));
            let [za, zb, zc] = z.each_mut().map(|z| z.chunks_mut(piece * h).enumerate());
            let pieces = za.zip(zb).zip(zc).map(|(((k, a), (_, b)), (_, c))| (k, [a, b, c]));
            parallel_for(&mut workspaces, pieces, |work, (k, z)| {
                let start = block * BLOCK + k * piece;
                let rows = start..start + z[0].len() / h;
                let input = below.apply(images, rows, &mut work.activations);
                first.iter().zip(z).for_each(|(layer, z)| layer.apply(input.clone(), z));
            });
            let block = Block { z: z.each_ref().map(Vec::as_slice), labels, h };
            let rows = ys.iter().zip(stats.chunks_mut(xs.len()));
            parallel_for(&mut workspaces, rows, |work, (&y, stats)| {
                let gamma = y / self.third.1;
                let at = |&x: &f64| (self.coefficients(x, y)[1], (x, y));
                let row = Row { gamma: gamma as f32, points: xs.iter().map(at).collect() };
                if is_plain {
                    self.interleaved(&block, &row, work, stats);
                } else {
                    self.layer_by_layer(&block, &row, piece, work, stats);
                }
            });
        }
        let quality = |stats: BatchStats| Quality::of_sums(stats.loss, stats.wrong, labels.len());
        stats.into_iter().map(quality).collect()
    }

    /// Adds the losses of a row of the grid, below one layer of ten classes.
    fn interleaved(
        &self,
        block: &Block,
        row: &Row,
        work: &mut Workspace,
        stats: &mut [BatchStats],
    ) {
        const MOST: usize = Interleaved::MOST;
        let h = block.h;
        let last: Vec<Layer> = row.points.iter().map(|&(_, at)| self.layer(1, at)).collect();
        let weights: Vec<_> = last.iter().map(|layer| by_neuron(&layer.weights)).collect();
        let shares = row.points.iter().map(|&(beta, _)| shares(beta));
        let nets: Vec<_> = shares.zip(weights.iter().map(Vec::as_slice)).collect();
        let mut interleaved = Interleaved::zeros(h);
        let mut outputs = vec![[[0.0; CLASSES]; MOST]; nets.len()];
        for (k, labels) in block.labels.chunks(MOST).enumerate() {
            let start = k * MOST;
            row.ends(block, start, labels.len(), work);
            interleaved.set(&work.p, &work.q, &[0.0; MOST][..labels.len()]);
            interleaved.logits(&nets, &mut outputs);
            for ((outputs, layer), stats) in outputs.iter_mut().zip(&last).zip(&mut *stats) {
                let outputs = outputs[..labels.len()].as_flattened_mut();
                add_biases(&layer.biases, outputs);
                cross_entropy(outputs, labels, stats);
            }
        }
    }

    /// Adds the losses of a row of the grid, below any layers.
    fn layer_by_layer(
        &self,
        block: &Block,
        row: &Row,
        piece: usize,
        work: &mut Workspace,
        stats: &mut [BatchStats],
    ) {
        let h = block.h;
        let zeros = vec![0.0; piece];
        row.ends(block, 0, block.labels.len(), work);
        let Workspace { activations, p, q } = work;
        for (&(beta, at), stats) in row.points.iter().zip(stats) {
            let above = (1..self.a.layers()).map(|l| Packed::of(&self.layer(l, at)));
            let above: Vec<Packed> = above.collect();
            let ends = p.chunks(piece * h).zip(q.chunks(piece * h));
            for ((p, q), labels) in ends.zip(block.labels.chunks(piece)) {
                activations.dense.resize(p.len(), 0.0);
                let m = &zeros[..labels.len()];
                blend_rows(shares(beta), p, q, m, h, &mut activations.dense);
                let mut width = h;
                for (k, layer) in above.iter().enumerate() {
                    activations.apply(layer, width);
                    width = layer.fan_out();
                    if k + 1 < above.len() {
                        relu(&mut activations.dense);
                    }
                }
                cross_entropy(&activations.dense, labels, stats);
            }
        }
    }
}

/// What a thread needs for a row of the grid.
#[derive(Clone, Default)]
struct Workspace {
    activations: Activations,
    /// Pre-activations [n, h] at the two points of [`Row::ends`].
    p: Vec<f32>,
    q: Vec<f32>,
}

/// Pre-activations [n, h] of a block of images under A, B and C.
struct Block<'a> {
    z: [&'a [f32]; 3],
    labels: &'a [u16],
    h: usize,
}

/// A row of the grid: the share of C, which all its points have in common, and for each point the
/// share of B and its coordinates.
struct Row {
    gamma: f32,
    points: Vec<(f64, (f64, f64))>,
}

impl Row {
    /// The pre-activations of `n` images from `start` where the share of B is 0, and where it is 1.
    fn ends(&self, block: &Block, start: usize, n: usize, work: &mut Workspace) {
        let range = start * block.h..(start + n) * block.h;
        let [a, b, c] = block.z.map(|z| &z[range.clone()]);
        let (gamma, rest) = (self.gamma, 1.0 - self.gamma);
        work.p.clear();
        work.p.extend(a.iter().zip(c).map(|(a, c)| rest * a + gamma * c));
        work.q.clear();
        work.q.extend(a.iter().zip(b).zip(c).map(|((a, b), c)| b + gamma * (c - a)));
    }
}

/// The shares of the two ends of a row at the share `beta` of B.
fn shares(beta: f64) -> [f32; 3] {
    [1.0 - beta, beta, 0.0].map(|share| share as f32)
}

/// The combination of three nets; at a net exactly that net.
fn combine_three(shares: [f64; 3], [a, b, c]: [&[f32]; 3]) -> Vec<f32> {
    if shares == [0.0, 0.0, 1.0] { c.to_vec() } else { combine(shares, a, b, c) }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{images, images_of, net, shaped};
    use super::super::grid;
    use super::*;
    use crate::kernel::test::on_every_isa;
    use crate::study::net::{Shape, evaluate};

    const ONE: NonZero<usize> = NonZero::<usize>::MIN;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-5
    }

    #[test]
    fn the_nets_have_the_coordinates_of_the_definition() {
        let [a, b, c] = ["a", "b", "c"].map(|label| net(5, label));
        let plane = Plane::new(&a, &b, &c).unwrap();
        assert_eq!(plane.project(&a), Ok(Projection { x: 0.0, y: 0.0, distance: 0.0 }));
        let found = plane.project(&b).unwrap();
        assert!(near(found.x, 1.0) && near(found.y, 0.0) && near(found.distance, 0.0), "{found:?}");
        let found = plane.project(&c).unwrap();
        let (x, y) = plane.third();
        assert!(near(found.x, x) && near(found.y, y) && near(found.distance, 0.0), "{found:?}");
        // Independent nets are at right angles as seen from the origin: a regular triangle.
        assert!((x - 0.5).abs() < 0.05 && (y - 0.75f64.sqrt()).abs() < 0.05, "{x} {y}");
    }

    #[test]
    fn a_point_of_the_plane_has_its_own_coordinates() {
        let shape = Shape::of(30, &[7, 5], 4, true);
        let [a, b, c] = ["a", "b", "c"].map(|label| shaped(shape, label));
        let plane = Plane::new(&a, &b, &c).unwrap();
        for (x, y) in [(0.3, 0.7), (-0.4, 1.2), (1.3, -0.2)] {
            let found = plane.project(&plane.point(x, y)).unwrap();
            assert!(near(found.x, x) && near(found.y, y), "{found:?}");
            assert!(found.distance < 1e-6, "{found:?}");
        }
        let (x, y) = plane.third();
        assert_eq!([plane.point(0.0, 0.0), plane.point(1.0, 0.0), plane.point(x, y)], [a, b, c]);
    }

    #[test]
    fn a_net_beside_the_plane_has_its_distance() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|label| net(5, label));
        let plane = Plane::new(&a, &b, &c).unwrap();
        let found = plane.project(&d).unwrap();
        let foot = plane.point(found.x, found.y);
        let square = d.params().iter().zip(foot.params()).map(|(&d, &f)| f64::from(d - f).powi(2));
        assert!(near(found.distance, square.sum::<f64>().sqrt() / plane.unit()), "{found:?}");
    }

    #[test]
    fn the_grid_has_exactly_the_quality_of_the_three_nets_at_their_places() {
        let (x, labels) = images(BLOCK + 77);
        let [a, b, c] = ["a", "b", "c"].map(|label| net(19, label));
        let plane = Plane::new(&a, &b, &c).unwrap();
        let (cx, cy) = plane.third();
        let measured = plane.measure([&[0.0, 1.0, cx], &[0.0, cy]], &x, &labels, ONE);
        let found = [measured[0], measured[1], measured[5]];
        assert_eq!(found, [a, b, c].map(|net| evaluate(&net, &x, &labels)));
    }

    #[test]
    fn three_projections_give_the_quality_of_a_forward_pass_at_each_point() {
        let shapes = [
            (Shape::talk(19), images(300)),
            (Shape::of(40, &[9], 10, true), images_of(300, 40, 10)),
            (Shape::of(40, &[9, 6], 4, true), images_of(300, 40, 4)),
        ];
        let (xs, ys) = (grid(4), [-0.3, 0.4, 1.1]);
        for (shape, (x, labels)) in shapes {
            let [a, b, c] = ["a", "b", "c"].map(|label| shaped(shape, label));
            let plane = Plane::new(&a, &b, &c).unwrap();
            let measured = plane.measure([&xs, &ys], &x, &labels, ONE);
            let points = ys.iter().flat_map(|&y| xs.iter().map(move |&x| (x, y)));
            for ((px, py), found) in points.zip(measured) {
                let expected = evaluate(&plane.point(px, py), &x, &labels);
                // The class of an image whose two largest logits are nearly equal may change.
                let images = (found.error - expected.error).abs() * 3.0;
                assert!(images < 1.5, "{shape} at {px}, {py}: {found:?} {expected:?}");
                assert!(near(found.loss, expected.loss), "{shape}: {found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_threads_and_instruction_set() {
        let (xs, ys) = (grid(5), grid(4));
        for (shape, (x, labels)) in [
            (Shape::talk(11), images(BLOCK + 130)),
            (Shape::of(40, &[9, 6], 4, true), images_of(BLOCK + 130, 40, 4)),
        ] {
            let [a, b, c] = ["a", "b", "c"].map(|label| shaped(shape, label));
            let plane = Plane::new(&a, &b, &c).unwrap();
            let measure = |threads: usize| {
                let threads = NonZero::new(threads).unwrap();
                plane.measure([&xs, &ys], &x, &labels, threads)
            };
            let expected = measure(1);
            on_every_isa(|_| assert!([1, 2, 3, 7].map(measure).iter().all(|m| *m == expected)));
        }
    }

    #[test]
    fn nets_without_a_plane_are_refused() {
        let [a, b, c] = ["a", "b", "c"].map(|label| net(5, label));
        let refusal = |a: &Net, b: &Net, c: &Net| Plane::new(a, b, c).unwrap_err();
        let on_line = "there is no plane through the nets: C is on the line through A and B";
        assert_eq!(refusal(&a, &b, &b), on_line);
        let plane = Plane::new(&a, &b, &c).unwrap();
        assert_eq!(refusal(&a, &b, &plane.point(0.3, 0.0)), on_line);
        let equal = "there is no plane through the nets: A and B are equal";
        assert_eq!(refusal(&a, &a, &c), equal);
        assert!(refusal(&a, &b, &net(6, "c")).contains("cannot be joined"));
        let mut infinite = c.clone();
        infinite.params_mut()[3] = f32::INFINITY;
        assert!(
            refusal(&a, &b, &infinite).ends_with("C has parameters that are not finite numbers")
        );
        assert!(plane.project(&net(6, "d")).is_err());
    }
}
