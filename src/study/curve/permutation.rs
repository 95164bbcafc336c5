//! Permutations of the hidden neurons of a net, which do not change its function: each neuron moves
//! with its incoming row, its bias and its outgoing column.

use crate::study::net::{Net, Shape};
use crate::study::rng;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

/// A permutation of n neurons: position i holds the neuron that was at `self.as_slice()[i]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Permutation(Vec<usize>);

impl Permutation {
    /// The identity.
    pub fn identity(n: usize) -> Permutation {
        Permutation((0..n).collect())
    }

    /// The neuron at each position.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// The inverse permutation.
    pub fn inverse(&self) -> Permutation {
        let mut inverse = vec![0; self.0.len()];
        for (position, &neuron) in self.0.iter().enumerate() {
            inverse[neuron] = position;
        }
        Permutation(inverse)
    }
}

impl TryFrom<Vec<usize>> for Permutation {
    type Error = String;
    /// Checks that each of 0..n occurs once.
    fn try_from(order: Vec<usize>) -> Result<Permutation, String> {
        let mut seen = vec![false; order.len()];
        for &neuron in &order {
            match seen.get_mut(neuron) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return Err(format!("not a permutation: `{neuron}` occurs twice")),
                None => {
                    return Err(format!(
                        "not a permutation of {}: `{neuron}` is out of range",
                        order.len()
                    ));
                }
            }
        }
        Ok(Permutation(order))
    }
}

impl From<Permutation> for Vec<usize> {
    fn from(permutation: Permutation) -> Vec<usize> {
        permutation.0
    }
}

/// A permutation of each hidden layer of a net, from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Permutations(Vec<Permutation>);

impl Permutations {
    /// One identity for each hidden layer of a net of this shape.
    pub fn identity(shape: Shape) -> Permutations {
        Permutations(shape.widths.iter().map(Permutation::identity).collect())
    }

    /// The permutation of each hidden layer.
    pub fn as_slice(&self) -> &[Permutation] {
        &self.0
    }

    /// As [`Permutations::as_slice`], mutable.
    pub(super) fn as_mut_slice(&mut self) -> &mut [Permutation] {
        &mut self.0
    }

    /// Shuffles every layer.
    pub(super) fn shuffle(&mut self, rng: &mut impl Rng) {
        self.0.iter_mut().for_each(|layer| rng::shuffle(rng, &mut layer.0));
    }

    /// The inverse permutations.
    pub fn inverse(&self) -> Permutations {
        Permutations(self.0.iter().map(Permutation::inverse).collect())
    }

    /// `net` with its neurons in these orders: another point of parameter space, the same function
    /// up to the rounding of sums over neurons.
    ///
    /// # Errors
    /// If the net has other hidden layers.
    pub fn apply(&self, net: &Net) -> Result<Net, String> {
        let shape = net.shape();
        if !shape.widths.iter().eq(self.0.iter().map(|p| p.0.len())) {
            let widths: Vec<String> = self.0.iter().map(|p| p.0.len().to_string()).collect();
            return Err(format!(
                "permutations of {} neurons cannot reorder the hidden neurons of a net {shape}",
                widths.join("x")
            ));
        }
        let mut permuted = Net::zeros(shape);
        for l in 0..shape.layers() {
            let (fan_in, fan_out) = (shape.fan_in(l), shape.fan_out(l));
            let below = l.checked_sub(1).map(|below| &self.0[below]);
            let sources: Vec<usize> = match self.0.get(l) {
                Some(order) => order.0.clone(),
                None => (0..fan_out).collect(),
            };
            let rows = permuted.weights_mut(l).chunks_exact_mut(fan_in);
            for (row, &neuron) in rows.zip(&sources) {
                gather(&net.weights(l)[neuron * fan_in..][..fan_in], below, row);
            }
            let biases = net.biases(l);
            for (bias, &neuron) in permuted.biases_mut(l).iter_mut().zip(&sources) {
                *bias = biases[neuron];
            }
        }
        Ok(permuted)
    }
}

impl From<Vec<Permutation>> for Permutations {
    fn from(layers: Vec<Permutation>) -> Permutations {
        Permutations(layers)
    }
}

/// Copies `row` to `out`, with its columns in the order of the layer below, if that is a hidden
/// layer.
pub(super) fn gather(row: &[f32], below: Option<&Permutation>, out: &mut [f32]) {
    match below {
        Some(order) => out.iter_mut().zip(&order.0).for_each(|(w, &neuron)| *w = row[neuron]),
        None => out.copy_from_slice(row),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{images, net};
    use super::*;
    use crate::study::net::{Init, evaluate};
    use proptest::prelude::*;

    fn orders() -> impl Strategy<Value = Permutation> {
        (1usize..40)
            .prop_flat_map(|n| Just((0..n).collect::<Vec<usize>>()).prop_shuffle())
            .prop_map(|order| Permutation::try_from(order).expect("a permutation"))
    }

    /// A net of 784 inputs and its hidden layers in other orders.
    fn shuffled() -> impl Strategy<Value = (Net, Permutations)> {
        let widths = prop::collection::vec(1usize..30, 1..5);
        (widths, any::<bool>(), any::<u32>()).prop_map(|(widths, biases, seed)| {
            let shape = Shape::of(784, &widths, 10, biases);
            let net = Init::Uniform.draw(shape, "0", &seed.to_string());
            let mut rng = rng::stream("0", &format!("{seed} orders"));
            let mut permutations = Permutations::identity(shape);
            permutations.shuffle(&mut rng);
            (net, permutations)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn an_inverse_undoes_its_permutations((net, p) in shuffled()) {
            let permuted = p.apply(&net).expect("equal widths");
            prop_assert_eq!(p.inverse().apply(&permuted), Ok(net));
            prop_assert_eq!(p.inverse().inverse(), p);
        }

        #[test]
        fn a_permuted_net_of_any_depth_computes_the_same_function((net, p) in shuffled()) {
            let (x, labels) = images(20);
            let permuted = p.apply(&net).expect("equal widths");
            // The sums over neurons have another order: equal up to rounding.
            let (before, after) = (evaluate(&net, &x, &labels), evaluate(&permuted, &x, &labels));
            prop_assert!((after.loss / before.loss - 1.0).abs() < 1e-5);
            prop_assert_eq!(after.error, before.error);
        }

        #[test]
        fn a_permutation_is_read_back_as_it_was_written(p in orders()) {
            let written = serde_json::to_string(&p).expect("numbers");
            let read: Permutation = serde_json::from_str(&written).expect("a permutation");
            prop_assert_eq!(read, p);
        }
    }

    #[test]
    fn a_neuron_moves_with_its_row_its_bias_and_its_column() {
        let shape = Shape::of(2, &[3, 2], 1, true);
        let params: Vec<f32> = (0..shape.params()).map(|i| i as f32).collect();
        let net = Net::from_params(shape, params).expect("as many parameters");
        let orders = [vec![2, 0, 1], vec![1, 0]].map(Permutation::try_from);
        let orders = Permutations(orders.into_iter().collect::<Result<_, _>>().expect("orders"));
        let moved = orders.apply(&net).expect("equal widths");
        assert_eq!(moved.weights(0), [4.0, 5.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(moved.biases(0), [8.0, 6.0, 7.0]);
        assert_eq!(moved.weights(1), [14.0, 12.0, 13.0, 11.0, 9.0, 10.0]);
        assert_eq!(moved.biases(1), [16.0, 15.0]);
        assert_eq!((moved.weights(2), moved.biases(2)), (&[18.0, 17.0][..], &[19.0][..]));
        assert_eq!(Permutations::identity(shape).apply(&net), Ok(net));
    }

    #[test]
    fn a_list_that_is_not_a_permutation_is_refused() {
        let error =
            |order: Vec<usize>| Permutation::try_from(order).expect_err("not a permutation");
        assert_eq!(error(vec![0, 1, 1]), "not a permutation: `1` occurs twice");
        assert_eq!(error(vec![0, 3, 1]), "not a permutation of 3: `3` is out of range");
        let wide = Permutations::identity(Shape::talk(3)).apply(&net(2, "net"));
        let message =
            "permutations of 3 neurons cannot reorder the hidden neurons of a net 784-2-10";
        assert_eq!(wide, Err(message.to_owned()));
    }
}
