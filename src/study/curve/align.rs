//! Alignment: matches the hidden neurons of B to those of A (OT in the talk; with `cost: neurons`,
//! the weight matching of Git Re-Basin, arXiv 2209.04836).
//!
//! With uniform masses, optimal transport between the neurons of a layer of two nets is an
//! assignment problem, which is solved exactly. A curve then ends at pi(B): other parameters, the
//! same function. With several hidden layers, whole neurons are matched by coordinate ascent over
//! the layers (see `ascent.rs`).

use super::assignment::{assign, certify, total};
use super::neurons::{Neurons, Part, distances};
use super::path::{Path, are_finite, same_shape};
use super::permutation::{Permutation, Permutations};
use super::{Center, ascent, linear::Linear};
use crate::kernel::gram::{Products, SparseColumns, TallMatrix};
use crate::kernel::parallel::parallel_for;
use crate::kernel::sparse::Sparse;
use crate::study::bounded::Restarts;
use crate::study::net::{Forward, Net};
use crate::study::registry::named_enum;
use std::num::NonZero;

named_enum! {
    "cost"
    /// The cost of matching neuron i of A to neuron j of B.
    #[derive(Default)]
    pub enum Cost {
        /// |a_i - b_j|² over whole neurons: incoming row, bias and outgoing column.
        #[default]
        Neurons = "neurons",
        /// |a_i - b_j|² over the incoming rows and biases alone; in a deep net from the first layer
        /// upwards, each given the permutation of the layer below.
        Incoming = "incoming",
        /// 1 - correlation of their activations on images; a neuron whose activation is constant
        /// has correlation 0 with all others.
        Activations = "activations",
    }
}

impl Cost {
    /// What makes two neurons similar, as the end of a sentence.
    pub fn definition(self) -> &'static str {
        match self {
            Cost::Neurons => {
                "the squared distance of whole neurons, incoming row, bias if there is one, and \
                 outgoing column"
            }
            Cost::Incoming => "the squared distance of their incoming rows and biases alone",
            Cost::Activations => "1 minus the correlation of their activations on training images",
        }
    }
}

named_enum! {
    "order"
    /// The order in which a sweep of the cost `neurons` visits the hidden layers of a deep net.
    #[derive(Default)]
    pub enum Order {
        /// Several ascents, the best of which is kept: one as `ascending`, the others from random
        /// permutations, in an order that is drawn for each sweep.
        #[default]
        Random = "random",
        /// One ascent from the identity, with the layers from the first to the last.
        Ascending = "ascending",
    }
}

/// How neurons are matched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlignSettings {
    /// The cost of a match.
    pub cost: Cost,
    /// The order of the layers; of use with the cost `neurons` and several hidden layers only.
    pub order: Order,
    /// The number of ascents with the order `random`.
    pub restarts: Restarts,
}

/// The matching of one hidden layer, and its costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerMatching {
    /// The sum of the matched costs.
    pub total_cost: f64,
    /// The same sum without any permutation.
    pub identity_cost: f64,
    /// No permutation of this layer costs less by more than this, given those of the others: proved
    /// by the duals, see `certify`.
    pub certified_gap: f64,
}

/// The matching of B's neurons to those of A, and its costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    /// Reorders B: neuron i of `permutations.apply(b)` is matched to neuron i of A.
    pub permutations: Permutations,
    /// The costs of each hidden layer.
    pub layers: Vec<LayerMatching>,
    /// <A, B>, the sum of the products of all parameters, before and after.
    pub objective: [f64; 2],
    /// The ascents, if whole neurons of several hidden layers were matched: the objective after
    /// each sweep.
    pub restarts: Vec<Vec<f64>>,
    /// The number of the ascent that was kept, counted from 0.
    pub best: usize,
    /// rho. With one hidden layer, the mean correlation of matched neurons, each less the mean of
    /// all 2h neurons of both nets. With several, the correlation of [`Path::correlation`].
    pub correlation: f64,
}

/// The cheapest matching of the hidden neurons of `b` to those of `a`: with one hidden layer, or
/// another cost than `neurons`, exactly; otherwise the best local optimum of several ascents.
///
/// `images` [n, inputs] are read by the cost `activations` only. The number of `threads` does not
/// affect the bits.
///
/// # Errors
/// If the nets differ in shape, a parameter is not finite, or there are no images of their inputs
/// for `activations`.
pub fn align(
    a: &Net,
    b: &Net,
    settings: AlignSettings,
    images: Option<&Sparse>,
    threads: NonZero<usize>,
) -> Result<Alignment, String> {
    same_shape(a, b)?;
    are_finite(a, b).map_err(|e| format!("cannot match neurons: {e}"))?;
    let mut matched = match (settings.cost, images) {
        (Cost::Neurons, _) if a.layers() > 2 => {
            let (ascents, best) = ascent::best(a, b, settings.order, settings.restarts, threads)?;
            let kept = &ascents[best];
            let identity_cost = |l| {
                let [a, b] = [a, b].map(|net| Neurons::of(net, l, Part::Whole, None));
                a.distance(&b)
            };
            let layers = kept.layers.iter().enumerate();
            let layers = layers
                .map(|(l, layer)| LayerMatching { identity_cost: identity_cost(l), ..*layer });
            Alignment {
                layers: layers.collect(),
                best,
                restarts: ascents.iter().map(|ascent| ascent.objectives.clone()).collect(),
                ..Alignment::of(kept.permutations.clone(), Vec::new())
            }
        }
        (Cost::Neurons, _) => from_below(a, b, Part::Whole, threads)?,
        (Cost::Incoming, _) => from_below(a, b, Part::Incoming, threads)?,
        (Cost::Activations, Some(images)) if images.rows() > 0 => {
            if images.columns() != a.shape().inputs {
                return Err(format!(
                    "images of {} pixels do not fit nets of {} inputs",
                    images.columns(),
                    a.shape().inputs
                ));
            }
            by_activations(a, b, images, threads)?
        }
        (Cost::Activations, _) => return Err("the cost `activations` needs images".to_owned()),
    };
    let permuted = matched.permutations.apply(b)?;
    matched.objective = [inner_product(a, b), inner_product(a, &permuted)];
    matched.correlation = if a.layers() > 2 {
        Path::new(&Linear, Center::Neurons, a, &permuted)?.correlation()
    } else {
        let [a, b] = [a, &permuted].map(|net| Neurons::of(net, 0, Part::Whole, None));
        mean_correlation(&a, &b)
    };
    Ok(matched)
}

impl Alignment {
    /// With an objective and a correlation that remain to be computed.
    fn of(permutations: Permutations, layers: Vec<LayerMatching>) -> Alignment {
        let restarts = Vec::new();
        Alignment { permutations, layers, objective: [0.0; 2], restarts, best: 0, correlation: 0.0 }
    }
}

/// The sum of the products of all parameters, in f64.
pub(super) fn inner_product(a: &Net, b: &Net) -> f64 {
    let products = a.params().iter().zip(b.params()).map(|(&a, &b)| f64::from(a) * f64::from(b));
    products.sum()
}

/// The least total of `costs` [n, n], its permutation, and the gap that its duals certify.
pub(super) fn solve(costs: &[f64], n: usize) -> Result<(Permutation, f64, f64), String> {
    let assignment = assign(costs, n).map_err(|e| format!("cannot match neurons: {e}"))?;
    let certified_gap = certify(costs, n, &assignment)
        .map_err(|e| format!("BUG: a matching is not optimal: {e}"))?;
    let permutation = Permutation::try_from(assignment.columns)?;
    let least = total(costs, permutation.as_slice());
    Ok((permutation, least, certified_gap))
}

/// Matches each hidden layer, from the first upwards, given the permutation of the layer below.
fn from_below(a: &Net, b: &Net, part: Part, threads: NonZero<usize>) -> Result<Alignment, String> {
    let mut permutations = Permutations::identity(a.shape());
    let mut layers = Vec::new();
    for l in 0..a.shape().widths.depth() {
        let of_a = Neurons::of(a, l, part, None);
        let of_b = Neurons::of(b, l, part, Some(&permutations));
        let costs = distances(&of_a, &of_b, threads);
        let (permutation, total_cost, certified_gap) = solve(&costs, a.width(l))?;
        permutations.as_mut_slice()[l] = permutation;
        let identity_cost = of_a.distance(&Neurons::of(b, l, part, None));
        layers.push(LayerMatching { total_cost, identity_cost, certified_gap });
    }
    Ok(Alignment::of(permutations, layers))
}

/// Matches each hidden layer by its activations, independently of the others.
fn by_activations(
    a: &Net,
    b: &Net,
    images: &Sparse,
    threads: NonZero<usize>,
) -> Result<Alignment, String> {
    let mut permutations = Permutations::identity(a.shape());
    let mut layers = Vec::new();
    let costs = activation_costs(a, b, images, threads);
    for (permutation, costs) in permutations.as_mut_slice().iter_mut().zip(&costs) {
        let n = permutation.as_slice().len();
        let identity_cost = total(costs, permutation.as_slice());
        let (found, total_cost, certified_gap) = solve(costs, n)?;
        *permutation = found;
        layers.push(LayerMatching { total_cost, identity_cost, certified_gap });
    }
    Ok(Alignment::of(permutations, layers))
}

/// For each hidden layer, 1 - correlation over images for each pair of neurons, [h, h]; sums in f32
/// within a block, in f64 over blocks.
fn activation_costs(a: &Net, b: &Net, images: &Sparse, threads: NonZero<usize>) -> Vec<Vec<f64>> {
    const BLOCK: usize = 1024;
    let nets = [a, b].map(Forward::of);
    let mut hidden = [Vec::new(), Vec::new()];
    let mut layers: Vec<Activity> = a.shape().widths.iter().map(Activity::new).collect();
    let mut non_zeros = vec![SparseColumns::default(); threads.get().min(layers.len())];
    for first in (0..images.rows()).step_by(BLOCK) {
        let rows = first..images.rows().min(first + BLOCK);
        let passes = nets.iter().zip(&mut hidden);
        parallel_for(&mut vec![(); threads.get().min(2)], passes, |(), (net, hidden)| {
            net.hidden(images, rows.clone(), hidden);
        });
        let [f, g] = &hidden;
        let items = layers.iter_mut().zip(f.iter().zip(g));
        parallel_for(&mut non_zeros, items, |non_zeros, (layer, (f, g))| {
            layer.add(f, g, non_zeros);
        });
    }
    layers.iter().map(|layer| layer.costs(images.rows())).collect()
}

/// Sums over images of the activations of a hidden layer of two nets.
struct Activity {
    width: usize,
    /// Of each neuron of one net with each of the other.
    products: Products,
    moments: [ActivationMoments; 2],
}

impl Activity {
    fn new(width: usize) -> Activity {
        let moments = [(); 2].map(|()| ActivationMoments::new(width));
        Activity { width, products: Products::cross(width, width), moments }
    }

    /// Adds the activations `f` and `g` [images, width] of the two nets.
    fn add(&mut self, f: &[f32], g: &[f32], non_zeros: &mut SparseColumns) {
        let [x, y] = [f, g].map(|x| TallMatrix::pack(x, self.width));
        self.products.add_cross(&x, &y, non_zeros);
        self.moments[0].add(f);
        self.moments[1].add(g);
    }

    /// 1 - correlation of each pair, [width, width].
    fn costs(&self, images: usize) -> Vec<f64> {
        let (h, n, [f, g]) = (self.width, images as f64, &self.moments);
        let cost = |k: usize| {
            let (i, j) = (k / h, k % h);
            let covariance = self.products.at(i, j) / n - f.sum[i] / n * (g.sum[j] / n);
            let variances = f.variance(i, n) * g.variance(j, n);
            if variances > 0.0 { 1.0 - covariance / variances.sqrt() } else { 1.0 }
        };
        (0..h * h).map(cost).collect()
    }
}

/// Sums over images of each neuron's activation and its square.
struct ActivationMoments {
    sum: Vec<f64>,
    squares: Vec<f64>,
}

impl ActivationMoments {
    fn new(h: usize) -> ActivationMoments {
        ActivationMoments { sum: vec![0.0; h], squares: vec![0.0; h] }
    }

    fn add(&mut self, hidden: &[f32]) {
        for row in hidden.chunks_exact(self.sum.len()) {
            for ((&x, sum), squares) in row.iter().zip(&mut self.sum).zip(&mut self.squares) {
                let x = f64::from(x);
                *sum += x;
                *squares += x * x;
            }
        }
    }

    /// 0 where it is within rounding, for a constant activation.
    fn variance(&self, j: usize, n: f64) -> f64 {
        let mean_square = self.squares[j] / n;
        let variance = mean_square - self.sum[j] / n * (self.sum[j] / n);
        if variance > 1e-12 * mean_square { variance } else { 0.0 }
    }
}

/// rho of the neurons of A and the matched ones of B: the mean of cos(a_i - mu, b_i - mu), 0 for a
/// neuron equal to mu, the mean of all of them.
fn mean_correlation(a: &Neurons, b: &Neurons) -> f64 {
    let mu = a.mean(b);
    let mut sum = 0.0;
    for (a, b) in a.iter().zip(b.iter()) {
        let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
        for ((&a, &b), &mu) in a.iter().zip(b).zip(&mu) {
            let (x, y) = (f64::from(a) - f64::from(mu), f64::from(b) - f64::from(mu));
            aa += x * x;
            bb += y * y;
            ab += x * y;
        }
        sum += if aa > 0.0 && bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 };
    }
    sum / a.iter().len() as f64
}

#[cfg(test)]
mod tests {
    use super::super::fixture::images;
    use super::*;
    use crate::kernel::dense::relu;
    use crate::kernel::panels::Panels;
    use crate::kernel::product::project;
    use crate::study::net::{Init, Shape, evaluate, examine};
    use crate::study::rng;
    use proptest::prelude::*;

    const ONE: NonZero<usize> = NonZero::<usize>::MIN;

    fn restarts(n: u32) -> Restarts {
        Restarts::try_from(n).expect("in bounds")
    }

    fn settings(cost: Cost) -> AlignSettings {
        AlignSettings { cost, order: Order::Random, restarts: restarts(3) }
    }

    /// Normal parameters of standard deviation 0.1.
    fn net(shape: Shape, label: &str) -> Net {
        Init::Normal { std: 0.1.try_into().expect("above 0") }.draw(shape, "align", label)
    }

    fn talk(hidden: usize, label: &str) -> Net {
        net(Shape::talk(hidden), label)
    }

    fn shuffled(shape: Shape, label: &str) -> Permutations {
        let mut permutations = Permutations::identity(shape);
        permutations.shuffle(&mut rng::stream("0", label));
        permutations
    }

    fn plus(net: &Net, noise: &Net, scale: f32) -> Net {
        let params = net.params().iter().zip(noise.params()).map(|(w, noise)| w + scale * noise);
        Net::from_params(net.shape(), params.collect()).expect("as many parameters")
    }

    fn found(a: &Net, b: &Net, cost: Cost) -> Alignment {
        align(a, b, settings(cost), Some(&images(200).0), ONE).expect("an alignment")
    }

    #[test]
    fn every_cost_finds_a_planted_permutation_at_any_depth_under_noise() {
        for depth in 1..=4 {
            for biases in [false, true] {
                let shape = Shape::of(784, &[30, 20, 25, 30][..depth], 10, biases);
                let [a, noise] = ["a", "noise"].map(|label| net(shape, label));
                let planted = shuffled(shape, &depth.to_string());
                let (x, labels) = images(200);
                let health = examine(&a, &x, &labels).1;
                for (&cost, scale) in Cost::ALL.iter().zip([0.3, 0.3, 0.1]) {
                    let b = planted.apply(&plus(&a, &noise, scale)).expect("equal shapes");
                    let found = found(&a, &b, cost);
                    let case = format!("{cost} {shape} {:?}", found.layers);
                    let planted = planted.inverse();
                    let pairs = found.permutations.as_slice().iter().zip(planted.as_slice());
                    for (l, (found, planted)) in pairs.enumerate() {
                        // Neurons that never fire have no activations to tell them apart.
                        let dead = shape.widths.get(l) - health.active_neurons[l];
                        let allowed = if cost == Cost::Activations { dead } else { 0 };
                        let places = found.as_slice().iter().zip(planted.as_slice());
                        let others = places.filter(|(found, planted)| found != planted).count();
                        assert!(
                            others <= allowed && 2 * dead <= shape.widths.get(l),
                            "{l}: {case}"
                        );
                    }
                    assert_eq!(found.layers.len(), depth, "{case}");
                    for (l, layer) in found.layers.iter().enumerate() {
                        // A pair of neurons that never fire costs 1, whatever the permutation.
                        let dead = match cost {
                            Cost::Activations => shape.widths.get(l) - health.active_neurons[l],
                            _ => 0,
                        };
                        let least = layer.total_cost - dead as f64;
                        assert!(least < 0.3 * layer.identity_cost, "{case}");
                        assert!(layer.certified_gap <= 1e-9 * layer.identity_cost, "{case}");
                    }
                    assert!(found.objective[0] < 0.2 * found.objective[1], "{case}");
                    let rho = 1.0 / f64::from(1.0 + scale * scale).sqrt();
                    // Neurons that never fire are matched arbitrarily by their activations.
                    let near = if cost == Cost::Activations { 0.2 } else { 0.01 };
                    assert!((found.correlation - rho).abs() < near, "{case} {rho}");
                }
            }
        }
    }

    #[test]
    fn an_aligned_net_computes_the_same_function() {
        let (x, labels) = images(100);
        for (widths, biases) in [(&[9][..], true), (&[9, 8, 7], true), (&[6, 9], false)] {
            let shape = Shape::of(784, widths, 10, biases);
            let [a, b] = ["a", "b"].map(|label| net(shape, label));
            let before = evaluate(&b, &x, &labels);
            for &cost in Cost::ALL {
                let permuted = found(&a, &b, cost).permutations.apply(&b).expect("equal shapes");
                let after = evaluate(&permuted, &x, &labels);
                assert!((after.loss / before.loss - 1.0).abs() < 1e-5, "{cost} {shape}");
                assert_eq!(after.error, before.error, "{cost} {shape}");
            }
        }
    }

    #[test]
    fn the_matching_of_one_layer_is_optimal_transport_whatever_the_order() {
        for biases in [false, true] {
            let h = 25;
            let shape = Shape::of(784, &[h], 10, biases);
            let [a, b] = ["a", "b"].map(|label| net(shape, label));
            let neuron = |net: &Net, j: usize| {
                let mut neuron = net.weights(0)[j * 784..][..784].to_vec();
                neuron.extend(net.biases(0).get(j));
                neuron.extend(net.weights(1)[j..].iter().step_by(h));
                neuron
            };
            let squared = |k: usize| {
                let (a, b) = (neuron(&a, k / h), neuron(&b, k % h));
                a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
            };
            let costs: Vec<f64> = (0..h * h).map(squared).collect();
            let (transport, least, _) = solve(&costs, h).expect("finite costs");
            for (order, count) in [(Order::Random, 1), (Order::Random, 9), (Order::Ascending, 4)] {
                let restarts = restarts(count);
                let settings = AlignSettings { cost: Cost::Neurons, order, restarts };
                let found = align(&a, &b, settings, None, ONE).expect("an alignment");
                assert_eq!(found.permutations.as_slice(), std::slice::from_ref(&transport));
                assert!((found.layers[0].total_cost / least - 1.0).abs() < 1e-5);
                assert_eq!((found.restarts, found.best), (vec![], 0), "one exact assignment");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_objective_never_falls_and_ends_where_no_layer_gains(
            widths in prop::collection::vec(1usize..8, 2..5),
            biases in any::<bool>(),
            seed in any::<u32>(),
        ) {
            let shape = Shape::of(6, &widths, 3, biases);
            let [a, b] = ["a", "b"].map(|end| net(shape, &format!("{seed} {end}")));
            let found = align(&a, &b, settings(Cost::Neurons), None, ONE).expect("an alignment");
            let [before, after] = found.objective;
            prop_assert_eq!(found.restarts.len(), 3);
            for objectives in &found.restarts {
                prop_assert!(objectives.is_sorted(), "{:?}", objectives);
                prop_assert!(objectives.last() <= Some(&after));
            }
            prop_assert!(found.restarts[0][0] >= before);
            prop_assert_eq!(found.restarts[found.best].last(), Some(&after));
            // No swap of two neurons of a layer gains.
            for (l, width) in widths.into_iter().enumerate() {
                for (i, j) in (0..width).flat_map(|i| (0..i).map(move |j| (i, j))) {
                    let mut swapped = found.permutations.clone();
                    let mut order: Vec<usize> = swapped.as_slice()[l].as_slice().to_vec();
                    order.swap(i, j);
                    swapped.as_mut_slice()[l] = order.try_into().expect("a permutation");
                    let reached = inner_product(&a, &swapped.apply(&b).expect("equal shapes"));
                    prop_assert!(reached <= after + 1e-6, "layer {}: {} {}", l, i, j);
                }
            }
            // The first ascent is that in ascending order.
            let ascending = AlignSettings { order: Order::Ascending, ..settings(Cost::Neurons) };
            let ascended = align(&a, &b, ascending, None, ONE).expect("an alignment");
            prop_assert_eq!(&ascended.restarts[..], &found.restarts[..1]);
            prop_assert!(ascended.objective[1] <= after);
        }
    }

    #[test]
    fn an_alignment_has_the_same_bits_on_any_number_of_threads() {
        let shape = Shape::of(784, &[50, 33, 21], 10, true);
        let [a, b] = ["a", "b"].map(|label| net(shape, label));
        let (x, _) = images(50);
        for &cost in Cost::ALL {
            let [one, many] = [1, 3].map(|threads| {
                let threads = NonZero::new(threads).expect("at least one");
                align(&a, &b, settings(cost), Some(&x), threads).expect("an alignment")
            });
            assert_eq!(one, many);
        }
    }

    #[test]
    fn an_alignment_costs_less_than_the_identity_and_brings_the_nets_closer() {
        let (a, b) = (talk(40, "a"), talk(40, "b"));
        let found = found(&a, &b, Cost::Neurons);
        let permuted = found.permutations.apply(&b).expect("equal widths");
        let squared = |b: &Net| {
            a.params().iter().zip(b.params()).map(|(&a, &b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        let LayerMatching { total_cost, identity_cost, certified_gap } = found.layers[0];
        assert!(total_cost < identity_cost);
        assert!((squared(&permuted) / total_cost - 1.0).abs() < 1e-5);
        assert!((squared(&b) / identity_cost - 1.0).abs() < 1e-5);
        assert!(certified_gap < 1e-9 * total_cost);
        let gain = found.objective[1] - found.objective[0];
        assert!((2.0 * gain / (identity_cost - total_cost) - 1.0).abs() < 1e-3);
        let [of_a, of_b] = [&a, &b].map(|net| Neurons::of(net, 0, Part::Whole, None));
        assert!(found.correlation > mean_correlation(&of_a, &of_b));
    }

    #[test]
    fn activations_are_compared_by_correlation_and_dead_neurons_have_correlation_zero() {
        let (n, h) = (300, 7);
        let (x, _) = images(n);
        let shape = Shape::of(784, &[h, h], 10, true);
        let (mut a, b) = (net(shape, "a"), net(shape, "b"));
        a.weights_mut(0)[..784].fill(-1.0); // neuron 0 never fires
        a.biases_mut(0)[0] = 0.0;
        let layer = |net: &Net, l: usize, z: &mut [f32]| {
            for z in z.chunks_exact_mut(h) {
                z.iter_mut().zip(net.biases(l)).for_each(|(z, b)| *z += b);
            }
            relu(z);
        };
        let hidden = |net: &Net| {
            let mut first = vec![0.0; n * h];
            project(&x, 0..n, &Panels::pack(net.weights(0), h, 784), &mut first);
            layer(net, 0, &mut first);
            let product = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
            let rows = first.chunks_exact(h);
            let mut second: Vec<f32> =
                rows.flat_map(|x| net.weights(1).chunks_exact(h).map(|w| product(x, w))).collect();
            layer(net, 1, &mut second);
            [first, second].map(|z| z.into_iter().map(f64::from).collect::<Vec<f64>>())
        };
        let (f, g) = (hidden(&a), hidden(&b));
        let column = |z: &[f64], j: usize| {
            let mean = (0..n).map(|i| z[i * h + j]).sum::<f64>() / n as f64;
            (0..n).map(|i| z[i * h + j] - mean).collect::<Vec<f64>>()
        };
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let layers = activation_costs(&a, &b, &x, ONE);
        for ((l, costs), (f, g)) in layers.into_iter().enumerate().zip(f.iter().zip(&g)) {
            for (k, cost) in costs.into_iter().enumerate() {
                let (p, q) = (column(f, k / h), column(g, k % h));
                let variances = dot(&p, &p) * dot(&q, &q);
                assert!(variances > 0.0 || (l, k / h) == (0, 0), "only one neuron is dead");
                let reference =
                    if variances == 0.0 { 1.0 } else { 1.0 - dot(&p, &q) / variances.sqrt() };
                assert!((cost - reference).abs() < 1e-5, "{l} {k}: {cost}, not {reference}");
            }
        }
    }

    #[test]
    fn the_correlation_of_matched_neurons_is_computed() {
        // b = rho a + sqrt(1 - rho²) noise, neuron by neuron.
        for widths in [&[200][..], &[100, 100]] {
            let shape = Shape::of(784, widths, 10, false);
            let (a, noise) = (net(shape, "a"), net(shape, "noise"));
            let b = plus(&plus(&Net::zeros(shape), &a, 0.6), &noise, 0.8);
            let found = found(&a, &b, Cost::Neurons);
            assert_eq!(found.permutations, Permutations::identity(shape));
            assert!((found.correlation - 0.6).abs() < 0.01, "{}", found.correlation);
        }
    }

    #[test]
    fn nets_that_cannot_be_matched_are_refused() {
        let shape = Shape::of(784, &[2, 2], 10, true);
        let a = net(shape, "a");
        let (x, _) = images(5);
        let refused =
            |b: &Net, cost, images| align(&a, b, settings(cost), images, ONE).expect_err("refused");
        assert!(refused(&talk(2, "b"), Cost::Neurons, None).contains("cannot be joined"));
        let none = refused(&a, Cost::Activations, None);
        assert_eq!(none, "the cost `activations` needs images");
        let small = Sparse::from_pixels(&[1; 64], 64);
        let error = refused(&a, Cost::Activations, Some(&small));
        assert_eq!(error, "images of 64 pixels do not fit nets of 784 inputs");
        for &cost in Cost::ALL {
            for (at, value) in [(0, f32::NAN), (2 * 784, f32::INFINITY)] {
                let mut broken = a.clone();
                broken.params_mut()[at] = value;
                assert_eq!(
                    refused(&broken, cost, Some(&x)),
                    "cannot match neurons: B has parameters that are not finite numbers",
                    "{cost:?}"
                );
            }
        }
        // Finite parameters whose distances overflow.
        let mut large = a.clone();
        large.params_mut().fill(3e38);
        for cost in [Cost::Neurons, Cost::Incoming] {
            let error = refused(&large, cost, None);
            assert!(error.starts_with("cannot match neurons: the cost of row 0"), "{error}");
        }
    }
}
