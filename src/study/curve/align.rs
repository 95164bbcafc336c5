//! Alignment: matches the neurons of B to those of A (OT in the talk; with `cost: neurons`, the
//! weight matching of Git Re-Basin, arXiv 2209.04836).
//!
//! With uniform masses, optimal transport between the neurons of two nets is an assignment problem,
//! which is solved exactly. A curve then ends at pi(B): other parameters, the same function.

use super::Center;
use super::assignment::{assign, certify, total};
use super::path::{are_finite, same_shape};
use super::permutation::Permutation;
use crate::kernel::distance::squared_distances;
use crate::kernel::gram::{Products, SparseColumns, TallMatrix};
use crate::kernel::sparse::Sparse;
use crate::study::net::{CLASSES, Forward, INPUTS, Net};
use crate::study::registry::named_enum;

named_enum! {
    "cost"
    /// The cost of matching neuron i of A to neuron j of B.
    #[derive(Default)]
    pub enum Cost {
        /// |a_i - b_j|² over whole neurons: incoming row and outgoing column.
        #[default]
        Neurons = "neurons",
        /// |a_i - b_j|² over the incoming rows alone.
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

/// The matching of B's neurons to those of A, and its costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    /// Reorders B: neuron i of `permutation.apply(b)` is matched to neuron i of A.
    pub permutation: Permutation,
    /// The sum of the matched costs.
    pub total_cost: f64,
    /// The same sum without a permutation.
    pub identity_cost: f64,
    /// No permutation costs less by more than this: proved by the duals, see `certify`.
    pub certified_gap: f64,
    /// rho: the mean correlation of matched neurons, each less the mean of all 2h neurons of both
    /// nets.
    pub correlation: f64,
}

/// The cheapest matching of the neurons of `b` to those of `a`.
///
/// `images` [n, 784] are read by the cost `activations` only.
///
/// # Errors
/// If the nets differ in width, a parameter is not finite, or there are no images for
/// `activations`.
pub fn align(a: &Net, b: &Net, cost: Cost, images: Option<&Sparse>) -> Result<Alignment, String> {
    same_shape(a, b)?;
    are_finite(a, b).map_err(|e| format!("cannot match neurons: {e}"))?;
    let n = a.width(0);
    let costs = match (cost, images) {
        (Cost::Neurons, _) => distances(&neurons(a), &neurons(b), n),
        (Cost::Incoming, _) => distances(a.weights(0), b.weights(0), n),
        (Cost::Activations, Some(images)) if images.rows() > 0 => activation_costs(a, b, images),
        (Cost::Activations, _) => return Err("the cost `activations` needs images".to_owned()),
    };
    let assignment = assign(&costs, n).map_err(|e| format!("cannot match neurons: {e}"))?;
    let certified_gap = certify(&costs, n, &assignment)
        .map_err(|e| format!("BUG: a matching is not optimal: {e}"))?;
    let permutation = Permutation::try_from(assignment.columns)?;
    Ok(Alignment {
        total_cost: total(&costs, permutation.as_slice()),
        identity_cost: total(&costs, Permutation::identity(n).as_slice()),
        certified_gap,
        correlation: correlation(a, &permutation.apply(b)?),
        permutation,
    })
}

/// Whole neurons, [h, 794]: incoming row, then outgoing column.
fn neurons(net: &Net) -> Vec<f32> {
    let h = net.width(0);
    let neuron = |j: usize| {
        let outgoing = (0..CLASSES).map(move |class| net.weights(1)[class * h + j]);
        net.weights(0)[j * INPUTS..(j + 1) * INPUTS].iter().copied().chain(outgoing)
    };
    (0..h).flat_map(neuron).collect()
}

fn distances(a: &[f32], b: &[f32], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    squared_distances(a, b, a.len() / n.max(1), &mut out);
    out.into_iter().map(f64::from).collect()
}

/// 1 - correlation over images for each pair of neurons, [h, h]; sums in f32 within a block, in f64
/// over blocks.
fn activation_costs(a: &Net, b: &Net, images: &Sparse) -> Vec<f64> {
    const BLOCK: usize = 1024;
    let h = a.width(0);
    let nets = [a, b].map(Forward::of);
    let mut moments = [ActivationMoments::new(h), ActivationMoments::new(h)];
    let (mut products, mut non_zeros) = (Products::cross(h, h), SparseColumns::default());
    for first in (0..images.rows()).step_by(BLOCK) {
        let rows = first..images.rows().min(first + BLOCK);
        let [f, g] = nets.each_ref().map(|net| {
            let mut hidden = Vec::new();
            net.hidden(images, rows.clone(), &mut hidden);
            hidden.remove(0)
        });
        products.add_cross(&TallMatrix::pack(&f, h), &TallMatrix::pack(&g, h), &mut non_zeros);
        moments[0].add(&f);
        moments[1].add(&g);
    }
    let n = images.rows() as f64;
    let [f, g] = &moments;
    let cost = |k: usize| {
        let (i, j) = (k / h, k % h);
        let covariance = products.at(i, j) / n - f.sum[i] / n * (g.sum[j] / n);
        let variances = f.variance(i, n) * g.variance(j, n);
        if variances > 0.0 { 1.0 - covariance / variances.sqrt() } else { 1.0 }
    };
    (0..h * h).map(cost).collect()
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

/// rho of `a` and an aligned `b`: the mean over neurons of cos(a_i - mu, b_i - mu), 0 for a neuron
/// equal to mu.
fn correlation(a: &Net, b: &Net) -> f64 {
    let [a, b, mu] = [a, b, &Center::Neurons.of(a, b)].map(neurons);
    let width = INPUTS + CLASSES;
    let triples = a.chunks_exact(width).zip(b.chunks_exact(width)).zip(mu.chunks_exact(width));
    let mut sum = 0.0;
    for ((a, b), mu) in triples {
        let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
        for ((&a, &b), &mu) in a.iter().zip(b).zip(mu) {
            let (x, y) = (f64::from(a) - f64::from(mu), f64::from(b) - f64::from(mu));
            aa += x * x;
            bb += y * y;
            ab += x * y;
        }
        sum += if aa > 0.0 && bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 };
    }
    sum / (a.len() / width) as f64
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
            "a net of shape `784-2-10` cannot be joined to one of shape `784-3-10`"
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
