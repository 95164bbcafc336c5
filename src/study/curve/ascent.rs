//! Weight matching of nets with several hidden layers: coordinate ascent over the permutations of
//! the layers (Git Re-Basin, arXiv 2209.04836, algorithm 1).
//!
//! The objective is <A, pi(B)>, the sum of the products of all parameters. Given the permutations
//! of the layers above and below, that of one layer is an assignment problem, which is solved
//! exactly: |A - pi(B)|² = |A|² + |B|² - 2 <A, pi(B)>, so that the largest objective has the least
//! distance between matched neurons. The ascent ends where no layer can gain: a local optimum,
//! which depends on the start and on the order of the layers.

use super::align::{LayerMatching, Order, inner_product, solve};
use super::assignment::total;
use super::neurons::{Neurons, Part, distances};
use super::permutation::Permutations;
use crate::study::bounded::Restarts;
use crate::study::net::Net;
use crate::study::rng;
use std::num::NonZero;

/// A local optimum.
pub(super) struct Ascent {
    pub(super) permutations: Permutations,
    /// The matching of each hidden layer, given the others; without `identity_cost`.
    pub(super) layers: Vec<LayerMatching>,
    /// The objective after each sweep over the layers.
    pub(super) objectives: Vec<f64>,
}

impl Ascent {
    fn objective(&self) -> f64 {
        self.objectives.last().copied().unwrap_or(f64::NEG_INFINITY)
    }
}

/// The ascents of the `order`, and the number of the first of the best ones. The first ascent
/// starts from the identity, with the layers in ascending order; random ones start from random
/// permutations.
///
/// Random orders and starts depend on the parameters of the two nets and on nothing else. Nets that
/// are trained depend on the seed of a run, and so do these; nets from elsewhere are matched in the
/// same way in every run.
pub(super) fn best(
    a: &Net,
    b: &Net,
    order: Order,
    restarts: Restarts,
    threads: NonZero<usize>,
) -> Result<(Vec<Ascent>, usize), String> {
    let problem = Problem::new(a, b, threads);
    let identity = Permutations::identity(a.shape());
    let mut ascents = vec![problem.ascend(identity.clone(), |_| ())?];
    if order == Order::Random {
        let seed = digest(a, b);
        for restart in 1..restarts.get() {
            let mut rng = rng::stream(&seed, &format!("align/restart={restart}"));
            let mut start = identity.clone();
            start.shuffle(&mut rng);
            ascents.push(problem.ascend(start, |layers| rng::shuffle(&mut rng, layers))?);
        }
    }
    let objectives = ascents.iter().map(Ascent::objective).enumerate();
    let (best, _) = objectives.fold((0, f64::NEG_INFINITY), |best, (i, objective)| {
        if objective > best.1 { (i, objective) } else { best }
    });
    Ok((ascents, best))
}

/// The digest of the parameters of two nets.
fn digest(a: &Net, b: &Net) -> String {
    let mut hash = blake3::Hasher::new();
    for parameter in a.params().iter().chain(b.params()) {
        hash.update(&parameter.to_le_bytes());
    }
    hash.finalize().to_hex().to_string()
}

/// Two nets, and the costs that depend on no permutation.
struct Problem<'a> {
    a: &'a Net,
    b: &'a Net,
    threads: NonZero<usize>,
    /// The distances of the incoming rows and biases of the first hidden layer.
    first: Vec<f64>,
    /// The distances of the outgoing columns of the last hidden layer.
    last: Vec<f64>,
    /// A smaller gain is within rounding.
    least_gain: f64,
}

impl<'a> Problem<'a> {
    fn new(a: &'a Net, b: &'a Net, threads: NonZero<usize>) -> Problem<'a> {
        let fixed = |l, part| {
            distances(&Neurons::of(a, l, part, None), &Neurons::of(b, l, part, None), threads)
        };
        Problem {
            a,
            b,
            threads,
            first: fixed(0, Part::Incoming),
            last: fixed(a.shape().widths.depth() - 1, Part::Outgoing),
            least_gain: 1e-10 * (inner_product(a, a) * inner_product(b, b)).sqrt(),
        }
    }

    /// The cost of matching neuron i of A to neuron j of B in the hidden layer `l`, given the
    /// permutations of the others.
    fn costs(&self, l: usize, given: &Permutations) -> Vec<f64> {
        let (part, fixed) = if l == 0 {
            (Part::Outgoing, Some(&self.first))
        } else if l + 1 == given.as_slice().len() {
            (Part::Incoming, Some(&self.last))
        } else {
            (Part::Whole, None)
        };
        let of_a = Neurons::of(self.a, l, part, None);
        let of_b = Neurons::of(self.b, l, part, Some(given));
        let mut costs = distances(&of_a, &of_b, self.threads);
        if let Some(fixed) = fixed {
            costs.iter_mut().zip(fixed).for_each(|(cost, fixed)| *cost += fixed);
        }
        costs
    }

    fn objective(&self, permutations: &Permutations) -> Result<f64, String> {
        Ok(inner_product(self.a, &permutations.apply(self.b)?))
    }

    /// Ascends from `permutations` until no layer gains. `reorder` gets the layers in ascending
    /// order before each sweep.
    fn ascend(
        &self,
        mut permutations: Permutations,
        mut reorder: impl FnMut(&mut [usize]),
    ) -> Result<Ascent, String> {
        let depth = permutations.as_slice().len();
        let none = LayerMatching { total_cost: 0.0, identity_cost: 0.0, certified_gap: 0.0 };
        let mut layers = vec![none; depth];
        let mut objectives = Vec::new();
        let mut objective = self.objective(&permutations)?;
        // Layers with a neighbour that has changed since they were matched.
        let mut stale = vec![true; depth];
        while stale.contains(&true) {
            let mut order: Vec<usize> = (0..depth).collect();
            reorder(&mut order);
            for l in order {
                if !std::mem::replace(&mut stale[l], false) {
                    continue;
                }
                let costs = self.costs(l, &permutations);
                let (found, least, gap) = solve(&costs, self.a.width(l))?;
                let before = std::mem::replace(&mut permutations.as_mut_slice()[l], found);
                let reached = self.objective(&permutations)?;
                if reached > objective + self.least_gain {
                    objective = reached;
                    let neighbours = [l.checked_sub(1), Some(l + 1)].into_iter().flatten();
                    neighbours.filter(|&l| l < depth).for_each(|l| stale[l] = true);
                } else {
                    permutations.as_mut_slice()[l] = before;
                }
                let total_cost = total(&costs, permutations.as_slice()[l].as_slice());
                // What is found may cost less by a gain within rounding.
                let certified_gap = (total_cost - least + gap).max(0.0);
                layers[l] = LayerMatching { total_cost, certified_gap, ..none };
            }
            objectives.push(objective);
        }
        Ok(Ascent { permutations, layers, objectives })
    }
}
