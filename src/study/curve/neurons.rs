//! The neurons of a hidden layer as vectors, and the distances between those of two nets.

use super::permutation::{Permutation, Permutations, gather};
use crate::kernel::distance::squared_distances;
use crate::kernel::parallel::parallel_for;
use crate::study::net::Net;
use std::num::NonZero;

/// The coordinates of a neuron.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Incoming row and bias.
    Incoming,
    /// Outgoing column.
    Outgoing,
    /// Incoming row, bias and outgoing column.
    Whole,
}

/// The neurons of a hidden layer, one per row.
pub(super) struct Neurons {
    rows: Vec<f32>,
    columns: usize,
}

impl Neurons {
    /// The neurons of the hidden layer `l`, in the order of `net`; the neurons of the layers above
    /// and below, which their weights belong to, in the order of `neighbours`, or else of `net`.
    pub(super) fn of(
        net: &Net,
        l: usize,
        part: Part,
        neighbours: Option<&Permutations>,
    ) -> Neurons {
        let (shape, h) = (net.shape(), net.width(l));
        let orders = neighbours.map(Permutations::as_slice).unwrap_or_default();
        let below = l.checked_sub(1).and_then(|below| orders.get(below));
        let above = orders.get(l + 1).map(Permutation::as_slice);
        let fan_in = if part == Part::Outgoing { 0 } else { shape.fan_in(l) };
        let biases = if part == Part::Outgoing { &[] } else { net.biases(l) };
        let fan_out = if part == Part::Incoming { 0 } else { shape.fan_out(l + 1) };
        let bias = usize::from(!biases.is_empty());
        let columns = fan_in + bias + fan_out;
        let mut rows = vec![0.0; h * columns];
        for (j, row) in rows.chunks_exact_mut(columns.max(1)).enumerate() {
            let (incoming, rest) = row.split_at_mut(fan_in);
            if fan_in > 0 {
                gather(&net.weights(l)[j * fan_in..][..fan_in], below, incoming);
            }
            let (own, outgoing) = rest.split_at_mut(bias);
            own.iter_mut().for_each(|own| *own = biases[j]);
            for (i, w) in outgoing.iter_mut().enumerate() {
                let to = above.map_or(i, |above| above[i]);
                *w = net.weights(l + 1)[to * h + j];
            }
        }
        Neurons { rows, columns }
    }

    /// The neurons, in order.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.rows.chunks_exact(self.columns.max(1))
    }

    /// The mean of the neurons of both, each coordinate summed in f64.
    pub(super) fn mean(&self, other: &Neurons) -> Vec<f32> {
        let mut sum = vec![0.0; self.columns];
        for neuron in self.iter().chain(other.iter()) {
            sum.iter_mut().zip(neuron).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let neurons = (self.iter().len() + other.iter().len()) as f64;
        sum.into_iter().map(|sum| (sum / neurons) as f32).collect()
    }

    /// The sum of |a_i - b_i|², the bits of the diagonal of [`distances`].
    pub(super) fn distance(&self, other: &Neurons) -> f64 {
        let distances = self.iter().zip(other.iter()).map(|(a, b)| {
            let mut out = [0.0];
            squared_distances(a, b, self.columns, &mut out);
            f64::from(out[0])
        });
        distances.sum()
    }
}

/// |a_i - b_j|² for each pair of neurons, [n, n], each summed in f32.
pub(super) fn distances(a: &Neurons, b: &Neurons, threads: NonZero<usize>) -> Vec<f64> {
    let n = b.iter().len();
    let mut out = vec![0.0; a.iter().len() * n];
    // Groups of rows of whole tiles.
    let rows = n.div_ceil(threads.get()).next_multiple_of(4);
    let groups = a.rows.chunks((rows * a.columns).max(1)).zip(out.chunks_mut(rows * n));
    parallel_for(&mut vec![(); threads.get()], groups, |(), (a, out)| {
        squared_distances(a, &b.rows, b.columns, out);
    });
    out.into_iter().map(f64::from).collect()
}

#[cfg(test)]
mod tests {
    use super::super::assignment::total;
    use super::*;
    use crate::study::net::{Init, Shape};

    const ONE: NonZero<usize> = NonZero::<usize>::MIN;

    fn nets(widths: &[usize]) -> [Net; 2] {
        ["a", "b"].map(|label| Init::Uniform.draw(Shape::of(9, widths, 4, true), "0", label))
    }

    #[test]
    fn a_neuron_is_its_incoming_row_its_bias_and_its_outgoing_column() {
        let shape = Shape::of(1, &[2, 2], 1, true);
        let params: Vec<f32> = (0..shape.params()).map(|i| i as f32).collect();
        let net = Net::from_params(shape, params).expect("as many parameters");
        let swap = Permutation::try_from(vec![1, 0]).expect("a permutation");
        let swapped = Permutations::from(vec![swap.clone(), swap]);
        let rows = |l, part, orders| Neurons::of(&net, l, part, orders).rows;
        assert_eq!(rows(0, Part::Whole, None), [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
        assert_eq!(rows(0, Part::Outgoing, Some(&swapped)), [6.0, 4.0, 7.0, 5.0]);
        assert_eq!(rows(1, Part::Incoming, Some(&swapped)), [5.0, 4.0, 8.0, 7.0, 6.0, 9.0]);
        assert_eq!(rows(1, Part::Outgoing, None), [10.0, 11.0]);
    }

    #[test]
    fn distances_have_the_same_bits_on_any_number_of_threads() {
        let [a, b] = nets(&[37, 5]).map(|net| Neurons::of(&net, 0, Part::Whole, None));
        let one = distances(&a, &b, ONE);
        for threads in [2, 3, 50] {
            let threads = NonZero::new(threads).expect("at least one");
            assert_eq!(distances(&a, &b, threads), one);
        }
        let diagonal: Vec<usize> = (0..37).collect();
        assert_eq!(a.distance(&b), total(&one, &diagonal));
        for (k, d) in one.into_iter().enumerate() {
            let rows = [(&a, k / 37), (&b, k % 37)].map(|(x, i)| x.iter().nth(i).expect("a row"));
            let squares = rows[0].iter().zip(rows[1]).map(|(a, b)| f64::from(a - b).powi(2));
            assert!((squares.sum::<f64>() - d).abs() < 1e-5);
        }
    }
}
