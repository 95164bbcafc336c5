//! Permutations of the neurons of a net: rows of W1 and columns of W2 together, which does not
//! change its function.

use crate::study::net::{INPUTS, Net};
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

    /// `net` with its neurons in this order.
    ///
    /// # Errors
    /// If the net has another number of neurons.
    pub fn apply(&self, net: &Net) -> Result<Net, String> {
        let h = net.width(0);
        if self.0.len() != h {
            return Err(format!("a permutation of {} cannot reorder {h} neurons", self.0.len()));
        }
        let mut permuted = Net::zeros(net.shape());
        for (row, &neuron) in permuted.weights_mut(0).chunks_exact_mut(INPUTS).zip(&self.0) {
            row.copy_from_slice(&net.weights(0)[neuron * INPUTS..][..INPUTS]);
        }
        let rows = permuted.weights_mut(1).chunks_exact_mut(h);
        for (row, source) in rows.zip(net.weights(1).chunks_exact(h)) {
            row.iter_mut().zip(&self.0).for_each(|(w, &neuron)| *w = source[neuron]);
        }
        Ok(permuted)
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

#[cfg(test)]
mod tests {
    use super::super::fixture::{images, net};
    use super::*;
    use crate::study::net::evaluate;
    use proptest::prelude::*;

    fn orders() -> impl Strategy<Value = Permutation> {
        (1usize..40)
            .prop_flat_map(|n| Just((0..n).collect::<Vec<usize>>()).prop_shuffle())
            .prop_map(|order| Permutation::try_from(order).expect("a permutation"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn an_inverse_undoes_its_permutation(p in orders()) {
            let net = net(p.as_slice().len(), "net");
            let permuted = p.apply(&net).expect("equal widths");
            prop_assert_eq!(p.inverse().apply(&permuted), Ok(net));
            prop_assert_eq!(p.inverse().inverse(), p);
        }

        #[test]
        fn a_permuted_net_computes_the_same_function(p in orders()) {
            let (x, labels) = images(20);
            let net = net(p.as_slice().len(), "net");
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
    fn a_neuron_moves_with_all_its_weights() {
        let net = net(3, "net");
        let moved =
            Permutation::try_from(vec![2, 0, 1]).and_then(|p| p.apply(&net)).expect("equal widths");
        assert_eq!(moved.weights(0)[..INPUTS], net.weights(0)[2 * INPUTS..]);
        assert_eq!(
            moved.weights(1)[..3],
            [net.weights(1)[2], net.weights(1)[0], net.weights(1)[1]]
        );
        assert_eq!(Permutation::identity(3).apply(&net), Ok(net));
    }

    #[test]
    fn a_list_that_is_not_a_permutation_is_refused() {
        let error =
            |order: Vec<usize>| Permutation::try_from(order).expect_err("not a permutation");
        assert_eq!(error(vec![0, 1, 1]), "not a permutation: `1` occurs twice");
        assert_eq!(error(vec![0, 3, 1]), "not a permutation of 3: `3` is out of range");
        let wide = Permutation::identity(3).apply(&net(2, "net"));
        assert_eq!(wide, Err("a permutation of 3 cannot reorder 2 neurons".to_owned()));
    }
}
