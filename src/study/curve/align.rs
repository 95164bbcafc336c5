//! Alignment: matches the hidden neurons of B to those of A (OT in the talk; with `cost: neurons`,
//! the weight matching of Git Re-Basin, arXiv 2209.04836).
//!
//! With uniform masses, optimal transport between the neurons of a layer of two nets is an
//! assignment problem, which is solved exactly. A curve then ends at pi(B): other parameters, the
//! same function. With several hidden layers, whole neurons are matched by coordinate ascent over
//! the layers (see [`ascent`]).

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
                "the squared distance of whole neurons, incoming row and outgoing column"
            }
            Cost::Incoming => "the squared distance of their incoming rows alone",
            Cost::Activations => "1 minus the correlation of their activations on training images",
        }
    }
}

named_enum! {
    "order"
    /// The order in which a sweep of the cost `neurons` visits the hidden layers of a deep net.
    #[derive(Default)]
    pub enum Order {
        /// Several ascents, the best of which is kept: one as `ascending`, the others in an order
        /// that is drawn for each sweep.
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
            let layers = kept.layers.iter().enumerate().map(|(l, layer)| LayerMatching {
                identity_cost: Neurons::of(a, l, Part::Whole, None).distance(&Neurons::of(
                    b,
                    l,
                    Part::Whole,
                    None,
                )),
                ..*layer
            });
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
    use super::super::fixture::{images, net};
    use super::*;
    use crate::kernel::dense::relu;
    use crate::kernel::product::{Panels, project};
    use crate::study::net::Shape;
    use crate::study::rng;

    fn shuffled(n: usize) -> Permutation {
        let mut order: Vec<usize> = (0..n).collect();
        rng::shuffle(&mut rng::stream("0", "shuffled"), &mut order);
        Permutation::try_from(order).expect("a permutation")
    }

    #[test]
    fn every_cost_restores_the_order_of_a_shuffled_net() {
        let (x, _) = images(200);
        let a = net(30, "a");
        let hidden = shuffled(30);
        let b = hidden.apply(&a).expect("equal widths");
        for &cost in Cost::ALL {
            let found = align(&a, &b, cost, Some(&x)).expect("an alignment");
            assert_eq!(found.permutation, hidden.inverse(), "{cost:?}");
            assert!(
                found.total_cost.abs() < 1e-4 && found.identity_cost > 1.0,
                "{cost:?}: {found:?}"
            );
            assert!((found.correlation - 1.0).abs() < 1e-6, "{cost:?}: {found:?}");
        }
    }

    #[test]
    fn an_alignment_costs_less_than_the_identity_and_brings_the_nets_closer() {
        let (a, b) = (net(40, "a"), net(40, "b"));
        let found = align(&a, &b, Cost::Neurons, None).expect("an alignment");
        let permuted = found.permutation.apply(&b).expect("equal widths");
        let squared = |b: &Net| {
            a.params().iter().zip(b.params()).map(|(&a, &b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        assert!(found.total_cost < found.identity_cost);
        assert!((squared(&permuted) / found.total_cost - 1.0).abs() < 1e-5);
        assert!((squared(&b) / found.identity_cost - 1.0).abs() < 1e-5);
        assert!(found.certified_gap < 1e-9 * found.total_cost);
        assert!(found.correlation > correlation(&a, &b));
    }

    #[test]
    fn activations_are_compared_by_correlation_and_dead_neurons_have_correlation_zero() {
        let (n, h) = (300, 7);
        let (x, _) = images(n);
        let (mut a, b) = (net(h, "a"), net(h, "b"));
        a.weights_mut(0)[..INPUTS].fill(-1.0); // neuron 0 never fires
        let hidden = |net: &Net| {
            let mut z = vec![0.0; n * h];
            project(&x, 0..n, &Panels::pack(net.weights(0), h, INPUTS), &mut z);
            relu(&mut z);
            z.into_iter().map(f64::from).collect::<Vec<f64>>()
        };
        let (f, g) = (hidden(&a), hidden(&b));
        let column = |z: &[f64], j: usize| {
            let mean = (0..n).map(|i| z[i * h + j]).sum::<f64>() / n as f64;
            (0..n).map(|i| z[i * h + j] - mean).collect::<Vec<f64>>()
        };
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        for (k, cost) in activation_costs(&a, &b, &x).into_iter().enumerate() {
            let (p, q) = (column(&f, k / h), column(&g, k % h));
            let reference =
                if k < h { 1.0 } else { 1.0 - dot(&p, &q) / (dot(&p, &p) * dot(&q, &q)).sqrt() };
            assert!((cost - reference).abs() < 1e-5, "{k}: {cost}, not {reference}");
        }
    }

    #[test]
    fn the_correlation_of_matched_neurons_is_computed() {
        // b = rho a + sqrt(1 - rho²) noise, neuron by neuron.
        let (a, noise) = (net(200, "a"), net(200, "noise"));
        let mut b = Net::zeros(Shape::talk(200));
        for ((b, &a), &noise) in b.params_mut().iter_mut().zip(a.params()).zip(noise.params()) {
            *b = 0.6 * a + 0.8 * noise;
        }
        let found = align(&a, &b, Cost::Neurons, None).expect("an alignment");
        assert_eq!(found.permutation, Permutation::identity(200));
        assert!((found.correlation - 0.6).abs() < 0.01, "{}", found.correlation);
    }

    #[test]
    fn nets_that_cannot_be_matched_are_refused() {
        let a = net(2, "a");
        let refused = |b: &Net, cost| align(&a, b, cost, None).expect_err("refused");
        assert_eq!(
            refused(&net(3, "b"), Cost::Neurons),
            "a net of 2 hidden neurons cannot be joined to one of 3"
        );
        assert_eq!(refused(&a, Cost::Activations), "the cost `activations` needs images");
        let (x, _) = images(5);
        for &cost in Cost::ALL {
            for (at, value) in [(0, f32::NAN), (2 * INPUTS, f32::INFINITY)] {
                let mut broken = a.clone();
                broken.params_mut()[at] = value;
                let error = align(&a, &broken, cost, Some(&x)).expect_err("refused");
                assert_eq!(
                    error, "cannot match neurons: B has parameters that are not finite numbers",
                    "{cost:?}"
                );
            }
        }
    }
}
