//! The dropout-stable path: straight segments from A to B over nets in which half the neurons are
//! switched off (R. Kuditipudi, X. Wang, H. Lee, Y. Zhang, Z. Li, W. Hu, S. Arora, R. Ge,
//! Explaining landscape connectivity of low-cost solutions for multilayer nets, NeurIPS 2019, arXiv
//! 1906.06247, theorem 1 and its proof).
//!
//! A neuron is switched off if its outgoing weights are zero; the outgoing weights of the others
//! are doubled (multiplied by h/k with k of h neurons kept), as in training with dropout. The
//! source asks for any half. Here a layer of h neurons keeps the floor(h/2) with the largest
//! product |incoming row and bias| |outgoing column|, so that the choice depends on the weights
//! alone, and not on the order of the neurons.
//!
//! The path consists of 4 d + 3 segments for d hidden layers, each for the same share of t:
//!
//! 1. The last layer switches off half of the last hidden layer of A. For each hidden layer below,
//!    from the last to the first: the neurons that are switched off above it become a copy of those
//!    kept which reads half of this layer, and the last layer moves to the copy.
//! 2. The neurons that are switched off become those that B keeps, as far as possible in their own
//!    places; the last layer moves from A's half to B's. In three segments, those of B's half that
//!    are elsewhere move to their own places, and all others become B's.
//! 3. The first step of B, backwards. The path ends at B itself: no neurons are permuted.
//!
//! In each segment either the last layer alone moves, so that the loss is convex and largest at one
//! of the ends, or the function does not change. The largest loss is thus that of a control net: of
//! A, of B, or of one of them without half its neurons from some layer on. In the opposite
//! direction it is the same.

use super::controls::{Basis, Controls};
use super::grid;
use super::path::same_shape;
use crate::study::net::{Net, Shape};

/// The name in parameters and tables.
pub const NAME: &str = "dropout-path";

/// The name in figures and reports.
pub const TITLE: &str = "Dropout path";

/// What the path is, in one sentence of plain text. A and B are the two nets.
pub const DEFINITION: &str = "Straight segments from A to B over nets without half their neurons \
    (Kuditipudi et al., arXiv 1906.06247): layer by layer from the last, A loses the half with the \
    smallest product of the norms of incoming and outgoing weights while the outgoing weights of \
    the others are doubled, the neurons that are off become the half that B keeps, the last layer \
    moves to these, and the steps of A are taken backwards for B.";

/// The dropout-stable path from `a` to `b`.
///
/// # Errors
/// If the nets differ in shape, a parameter is not finite, or a hidden layer has one neuron.
pub fn dropout_path(a: &Net, b: &Net) -> Result<Controls, String> {
    same_shape(a, b)?;
    let [half_a, half_b] = [Half::of(a)?, Half::of(b)?];
    let (mut nets, of_a) = half_a.descend();
    let (back, of_b) = half_b.descend();
    let [from, to] = [&nets, &back].map(|nets| &nets[nets.len() - 1]);
    let between = half_b.replace(from, &of_a, to, &of_b);
    nets.extend(between);
    nets.extend(back.into_iter().rev());
    Controls::new(Basis::Chain, nets)
}

/// Equally spaced t from 0 to 1 for a chain: `points`, or as many more as it takes to include every
/// control net. The largest loss of a dropout-stable path is at one of these.
pub fn grid_with_controls(controls: &Controls, points: u32) -> Vec<f64> {
    let segments = controls.nets().len() as u32 - 1;
    grid(segments * (points.max(2) - 1).div_ceil(segments) + 1)
}

/// The places of some neurons, by hidden layer: a neuron's incoming row and outgoing column.
type Places = Vec<Vec<usize>>;

/// The half of a net's neurons that are kept.
struct Half<'a> {
    net: &'a Net,
    /// The kept neurons of each hidden layer, ascending.
    kept: Places,
}

impl<'a> Half<'a> {
    fn of(net: &'a Net) -> Result<Half<'a>, String> {
        let depth = net.layers() - 1;
        let kept = (0..depth).map(|l| strongest_half(net, l)).collect::<Places>();
        match kept.iter().position(Vec::is_empty) {
            Some(l) => Err(format!(
                "a dropout-stable path switches off half of every hidden layer, and layer {} has \
                 one neuron",
                l + 1
            )),
            None => Ok(Half { net, kept }),
        }
    }

    fn depth(&self) -> usize {
        self.kept.len()
    }

    fn shape(&self) -> Shape {
        self.net.shape()
    }

    /// The nets in which more and more hidden layers, from the last to the first, are without half
    /// their neurons, from the whole net on; and the places of the neurons that are kept in the
    /// last of them.
    fn descend(&self) -> (Vec<Net>, Places) {
        let mut net = self.net.clone();
        let mut places = self.kept.clone();
        let mut nets = vec![net.clone()];
        self.put_outputs(&mut net, &places);
        nets.push(net.clone());
        for lowest in (0..self.depth() - 1).rev() {
            for l in lowest + 1..self.depth() {
                places[l] = unused(self.shape().fan_out(l), &places[l]).collect();
                places[l].truncate(self.kept[l].len());
                self.put_rows(&mut net, l, Some(&places[l - 1]), &places[l]);
            }
            nets.push(net.clone());
            self.put_outputs(&mut net, &places);
            nets.push(net.clone());
        }
        (nets, places)
    }

    /// The four nets between `from`, a half of another net at the `taken` places, and `to`, this
    /// half at its places `home`.
    fn replace(&self, from: &Net, taken: &Places, to: &Net, home: &Places) -> [Net; 4] {
        let layers = 0..self.depth();
        let first: Places = layers.map(|l| self.beside(l, &taken[l], &home[l])).collect();
        let mut installed = from.clone();
        self.put_all_rows(&mut installed, &first, &first);
        let mut swapped = installed.clone();
        self.put_outputs(&mut swapped, &first);
        // The neurons at home and those elsewhere are the same, so that others can read either.
        let mut doubled = swapped.clone();
        for l in 0..self.depth() {
            doubled.weights_mut(l).copy_from_slice(to.weights(l));
            doubled.biases_mut(l).copy_from_slice(to.biases(l));
        }
        self.put_all_rows(&mut doubled, &first, &first);
        self.put_all_rows(&mut doubled, &first, home);
        let mut moved = doubled.clone();
        self.put_all_rows(&mut moved, home, &first);
        self.put_all_rows(&mut moved, home, home);
        self.put_outputs(&mut moved, home);
        [installed, swapped, doubled, moved]
    }

    /// Places beside those `taken` for the kept neurons of layer `l`: `home` where possible.
    fn beside(&self, l: usize, taken: &[usize], home: &[usize]) -> Vec<usize> {
        let mut is_taken = vec![false; self.shape().fan_out(l)];
        taken.iter().for_each(|&place| is_taken[place] = true);
        let mut others = unused(is_taken.len(), &[taken, home].concat());
        // At least as many are neither taken nor home as are both, since no half is more than half.
        let place = |&home: &usize| match is_taken[home] {
            true => others.next().expect("BUG: too few places"),
            false => home,
        };
        home.iter().map(place).collect()
    }

    /// Writes the incoming rows and biases of all kept neurons to `places`, such that they read
    /// those of the layer below at the places `below`.
    fn put_all_rows(&self, net: &mut Net, below: &Places, places: &Places) {
        for (l, places) in places.iter().enumerate() {
            let below = l.checked_sub(1).map(|l| &below[l][..]);
            self.put_rows(net, l, below, places);
        }
    }

    /// Writes the incoming rows and biases of the kept neurons of layer `l` to `places`, such that
    /// they read the kept neurons of the layer below at the places `below`, or all inputs.
    fn put_rows(&self, net: &mut Net, l: usize, below: Option<&[usize]>, places: &[usize]) {
        let fan_in = self.shape().fan_in(l);
        for (&neuron, &place) in self.kept[l].iter().zip(places) {
            let row = &self.net.weights(l)[neuron * fan_in..][..fan_in];
            let out = &mut net.weights_mut(l)[place * fan_in..][..fan_in];
            match below {
                Some(below) => self.halve(l - 1, row, below, out),
                None => out.copy_from_slice(row),
            }
            if let Some(&bias) = self.net.biases(l).get(neuron) {
                net.biases_mut(l)[place] = bias;
            }
        }
    }

    /// Writes the last layer, such that it reads the kept neurons of the last hidden layer at their
    /// `places`.
    fn put_outputs(&self, net: &mut Net, places: &Places) {
        let last = self.depth();
        let fan_in = self.shape().fan_in(last);
        let rows = self.net.weights(last).chunks_exact(fan_in);
        for (row, out) in rows.zip(net.weights_mut(last).chunks_exact_mut(fan_in)) {
            self.halve(last - 1, row, &places[last - 1], out);
        }
        net.biases_mut(last).copy_from_slice(self.net.biases(last));
    }

    /// `out` = the weights of `row` from the kept neurons of the hidden layer `l`, doubled, at
    /// their `places`, and zero from all others.
    fn halve(&self, l: usize, row: &[f32], places: &[usize], out: &mut [f32]) {
        let factor = row.len() as f64 / self.kept[l].len() as f64;
        out.fill(0.0);
        for (&neuron, &place) in self.kept[l].iter().zip(places) {
            out[place] = (factor * f64::from(row[neuron])) as f32;
        }
    }
}

/// The floor(h/2) neurons of the hidden layer `l` with the largest product of the norms of incoming
/// row (with bias) and outgoing column, ascending. Of equal ones, the first.
fn strongest_half(net: &Net, l: usize) -> Vec<usize> {
    let (h, fan_in) = (net.width(l), net.shape().fan_in(l));
    let square = |w: f32| f64::from(w) * f64::from(w);
    let mut outgoing = vec![0.0; h];
    for row in net.weights(l + 1).chunks_exact(h) {
        outgoing.iter_mut().zip(row).for_each(|(sum, &w)| *sum += square(w));
    }
    let rows = net.weights(l).chunks_exact(fan_in).enumerate();
    let strength: Vec<f64> = rows
        .map(|(j, row)| {
            let incoming: f64 = row.iter().chain(net.biases(l).get(j)).map(|&w| square(w)).sum();
            incoming * outgoing[j]
        })
        .collect();
    let mut order: Vec<usize> = (0..h).collect();
    order.sort_by(|&i, &j| strength[j].total_cmp(&strength[i]));
    order.truncate(h / 2);
    order.sort_unstable();
    order
}

/// The places below `width` that are not among those `taken`, ascending.
fn unused(width: usize, taken: &[usize]) -> impl Iterator<Item = usize> + use<> {
    let mut is_free = vec![true; width];
    taken.iter().for_each(|&place| is_free[place] = false);
    is_free.into_iter().enumerate().filter_map(|(place, is_free)| is_free.then_some(place))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{images_of, shaped};
    use super::super::permutation::Permutations;
    use super::*;
    use crate::kernel::sparse::Sparse;
    use crate::kernel::test::bits;
    use crate::study::net::{Quality, evaluate};
    use crate::study::rng;
    use std::num::NonZero;

    /// Nets of one to three layers of neurons, with and without biases, of even and odd widths.
    fn shapes() -> Vec<Shape> {
        vec![
            Shape::of(30, &[12], 10, false),
            Shape::of(30, &[13], 3, true),
            Shape::of(20, &[2], 3, false),
            Shape::of(20, &[9, 6], 10, true),
            Shape::of(20, &[6, 3, 8], 4, false),
            Shape::of(20, &[7, 9, 10], 4, true),
        ]
    }

    /// Nets whose hidden layers are as active as trained ones.
    fn ends(shape: Shape) -> [Net; 2] {
        ["a", "b"].map(|end| {
            let mut net = shaped(shape, end);
            net.params_mut().iter_mut().for_each(|w| *w *= 5.0);
            net
        })
    }

    fn paths() -> impl Iterator<Item = (Shape, [Net; 2], Controls)> {
        shapes().into_iter().map(|shape| {
            let [a, b] = ends(shape);
            let path = dropout_path(&a, &b).expect("equal shapes");
            (shape, [a, b], path)
        })
    }

    fn images(shape: Shape) -> (Sparse, Vec<u16>) {
        images_of(200, shape.inputs, shape.classes as u32)
    }

    /// Whether two nets differ in nothing but their last layer.
    fn only_last_differs(one: &Net, other: &Net) -> bool {
        let mut hidden = 0..one.layers() - 1;
        hidden.all(|l| (one.weights(l), one.biases(l)) == (other.weights(l), other.biases(l)))
    }

    #[test]
    fn the_path_starts_at_a_and_ends_at_b_bit_for_bit() {
        for (shape, [a, b], path) in paths() {
            assert_eq!(bits(path.point(0.0).params()), bits(a.params()), "{shape}");
            assert_eq!(bits(path.point(1.0).params()), bits(b.params()), "{shape}");
            assert_eq!(path.nets().len(), 4 * shape.widths.depth() + 4, "{shape}");
        }
    }

    #[test]
    fn in_each_segment_the_loss_is_convex_or_the_function_constant() {
        for (shape, _, path) in paths() {
            let (x, labels) = images(shape);
            let segments = path.nets().len() - 1;
            let mut convex = 0;
            for (k, ends) in path.nets().windows(2).enumerate() {
                let loss = |s: f64| {
                    let net = path.point((k as f64 + s) / segments as f64);
                    evaluate(&net, &x, &labels).loss
                };
                let [first, last] = [0, 1].map(|end| evaluate(&ends[end], &x, &labels).loss);
                for s in [0.125, 0.5, 0.75] {
                    let (found, straight) = (loss(s), (1.0 - s) * first + s * last);
                    let case = format!("{shape} {k} {s}: {first} {found} {last}");
                    if only_last_differs(&ends[0], &ends[1]) {
                        assert!(found <= straight + 1e-5, "{case}");
                    } else {
                        let change = (found - first).abs().max((found - last).abs());
                        assert!(change < 1e-5 * first.max(1.0), "{case}");
                    }
                }
                convex += usize::from(only_last_differs(&ends[0], &ends[1]));
            }
            assert!(convex > 2 * shape.widths.depth(), "{shape}");
        }
    }

    #[test]
    fn the_nets_between_are_those_without_half_their_neurons() {
        for (shape, [a, b], path) in paths() {
            let (x, labels) = images(shape);
            let depth = shape.widths.depth();
            for (end, is_a) in [(&a, true), (&b, false)] {
                let mut dropped = end.clone();
                for lowest in (0..depth).rev() {
                    let (h, kept) = (shape.fan_out(lowest), strongest_half(end, lowest));
                    let factor = h as f64 / kept.len() as f64;
                    for row in dropped.weights_mut(lowest + 1).chunks_exact_mut(h) {
                        for (j, w) in row.iter_mut().enumerate() {
                            let scale = if kept.contains(&j) { factor } else { 0.0 };
                            *w = (scale * f64::from(*w)) as f32;
                        }
                    }
                    let steps = 1 + 2 * (depth - 1 - lowest);
                    let index = if is_a { steps } else { path.nets().len() - 1 - steps };
                    let [found, expected] =
                        [&path.nets()[index], &dropped].map(|net| evaluate(net, &x, &labels));
                    let difference = (found.loss - expected.loss).abs();
                    assert!(difference < 1e-5 * expected.loss.max(1.0), "{shape} {lowest} {is_a}");
                }
            }
        }
    }

    #[test]
    fn the_largest_loss_is_that_of_a_control_net_in_both_directions() {
        for (shape, [a, b], path) in paths() {
            let (x, labels) = images(shape);
            let largest = |path: &Controls| {
                let ts = grid_with_controls(path, 40);
                let points = path.measure(&ts, &x, &labels, NonZero::<usize>::MIN);
                points.iter().map(|point| point.loss).fold(0.0, f64::max)
            };
            let of_controls =
                path.nets().iter().map(|net| evaluate(net, &x, &labels).loss).fold(0.0, f64::max);
            let back = dropout_path(&b, &a).expect("equal shapes");
            for found in [largest(&path), largest(&back)] {
                let difference = (found - of_controls).abs();
                assert!(difference < 1e-5 * of_controls.max(1.0), "{shape}: {found} {of_controls}");
            }
        }
    }

    #[test]
    fn a_permutation_of_either_net_does_not_change_the_losses() {
        for (shape, [a, b], path) in paths() {
            let (x, labels) = images(shape);
            let mut order = Permutations::identity(shape);
            order.shuffle(&mut rng::stream("0", "order"));
            let [c, d] = [&a, &b].map(|net| order.apply(net).expect("the same shape"));
            let ts = grid_with_controls(&path, 20);
            let measured = |path: &Controls| {
                let points = path.measure(&ts, &x, &labels, NonZero::<usize>::MIN);
                points.into_iter().map(|point| point.loss).collect::<Vec<_>>()
            };
            let expected = measured(&path);
            for (a, b) in [(&c, &d), (&c, &b), (&a, &d)] {
                let permuted = measured(&dropout_path(a, b).expect("equal shapes"));
                for (found, expected) in permuted.iter().zip(&expected) {
                    let case = format!("{shape}: {found} {expected}");
                    assert!((found - expected).abs() < 1e-4 * expected.max(1.0), "{case}");
                }
            }
        }
    }

    #[test]
    fn the_grid_holds_every_control_net() {
        for (shape, _, path) in paths() {
            let segments = path.nets().len() - 1;
            let (x, labels) = images(shape);
            for points in [2, 7, 61] {
                let ts = grid_with_controls(&path, points);
                assert!(ts.len() >= points as usize && ts.len() < points as usize + segments);
                let per_segment = (ts.len() - 1) / segments;
                let measured = path.measure(&ts, &x, &labels, NonZero::<usize>::MIN);
                for (net, point) in path.nets().iter().zip(measured.iter().step_by(per_segment)) {
                    let Quality { loss, .. } = evaluate(net, &x, &labels);
                    assert!((point.loss - loss).abs() < 1e-5 * loss.max(1.0), "{shape} {point:?}");
                }
            }
        }
    }

    #[test]
    fn the_neurons_with_the_largest_products_of_norms_are_kept() {
        let mut net = Net::zeros(Shape::of(1, &[5], 2, true));
        net.weights_mut(0).copy_from_slice(&[1.0, 0.0, -3.0, 2.0, 9.0]);
        net.biases_mut(0).copy_from_slice(&[0.0, 4.0, 0.0, 0.0, 0.0]);
        // Products 2, 4, 3, 6, 0.
        net.weights_mut(1).copy_from_slice(&[2.0, 1.0, 0.0, 3.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0]);
        assert_eq!(strongest_half(&net, 0), [1, 3]);
    }

    #[test]
    fn a_layer_of_one_neuron_is_refused() {
        let [a, b] = ends(Shape::of(5, &[4, 1], 3, false));
        let error = dropout_path(&a, &b).expect_err("refused");
        let expected = "a dropout-stable path switches off half of every hidden layer, and layer 2 \
                        has one neuron";
        assert_eq!(error, expected);
    }
}
