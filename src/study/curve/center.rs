//! The center M that arcs rotate about.
//!
//! With several hidden layers and biases (SCIENCE: "Curves between A and B"), each layer of neurons
//! has its own mean row and mean bias, and only the last layer of weights has a center that depends
//! on the choice.

use super::layer::Layer;
use crate::study::net::Net;
use crate::study::registry::named_enum;
use std::borrow::Cow;

named_enum! {
    "center"
    /// The center of a curve, M.
    #[derive(Default)]
    pub enum Center {
        /// The mean over the 2h neurons of both nets: one row for W1 and one column for W2, the
        /// same for every neuron. In a deeper net, one row and one bias for each hidden layer, and
        /// one column for the last weights; the output biases go straight from A's to B's.
        #[default]
        Neurons = "neurons",
        /// As `neurons`, but for the last weights and biases the mean over the output rows of both
        /// nets, 20 for ten classes: one row and one bias.
        Outputs = "outputs",
        /// The origin, for all weights and biases.
        Zero = "zero",
    }
}

impl Center {
    /// What M is, as the end of a sentence.
    pub fn definition(self) -> &'static str {
        match self {
            Center::Neurons => {
                "the mean of all 2h neurons of both nets, one mean row for W1 and one mean column \
                 for W2"
            }
            Center::Outputs => {
                "the mean of all 2h neurons for W1, and the mean over the 20 output rows of both \
                 nets for W2"
            }
            Center::Zero => "the origin",
        }
    }

    /// Whether the output biases go straight: they belong to no hidden neuron.
    pub(super) fn leaves_output_biases(self) -> bool {
        self == Center::Neurons
    }

    /// M as a net, with a single row or column repeated. Sums in f64, over A's neurons, then B's.
    /// Output biases that go straight have no center, and are zero here.
    pub(super) fn of(self, a: &Net, b: &Net) -> Net {
        let (shape, last) = (a.shape(), a.layers() - 1);
        let mut center = Net::zeros(shape);
        for l in 0..last {
            let row = self.row(&Layer::of(a, l), &Layer::of(b, l));
            repeat(&row.weights, center.weights_mut(l));
            repeat(&row.biases, center.biases_mut(l));
        }
        match self {
            Center::Neurons => {
                let h = shape.fan_in(last);
                let rows = a.weights(last).chunks(h).zip(b.weights(last).chunks(h));
                for ((a, b), out) in rows.zip(center.weights_mut(last).chunks_mut(h)) {
                    out.fill(mean_row(a, b, 1)[0]);
                }
            }
            Center::Outputs => {
                let row = self.row(&Layer::of(a, last), &Layer::of(b, last));
                repeat(&row.weights, center.weights_mut(last));
                repeat(&row.biases, center.biases_mut(last));
            }
            Center::Zero => {}
        }
        center
    }

    /// The center of the neurons of a hidden layer, as a layer of one neuron: the mean over the
    /// neurons of `a`, then `b`, or zero.
    pub(super) fn row(self, a: &Layer, b: &Layer) -> Layer<'static> {
        let mean = |a: &[f32], b: &[f32], columns| match (self, columns) {
            (_, 0) => Cow::Owned(Vec::new()),
            (Center::Zero, _) => Cow::Owned(vec![0.0; columns]),
            _ => Cow::Owned(mean_row(a, b, columns)),
        };
        Layer {
            weights: mean(&a.weights, &b.weights, a.fan_in()),
            biases: mean(&a.biases, &b.biases, usize::from(!a.biases.is_empty())),
            fan_out: 1,
        }
    }
}

/// The mean over the rows of `a` and of `b`, both [n, `columns`].
fn mean_row(a: &[f32], b: &[f32], columns: usize) -> Vec<f32> {
    let mut sum = vec![0.0; columns];
    for row in a.chunks(columns).chain(b.chunks(columns)) {
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let rows = (2 * a.len() / columns) as f64;
    sum.into_iter().map(|sum| (sum / rows) as f32).collect()
}

fn repeat(row: &[f32], rows: &mut [f32]) {
    rows.chunks_mut(row.len().max(1)).for_each(|out| out.copy_from_slice(row));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::net::Shape;

    const INPUTS: usize = 784;

    #[test]
    fn centers_are_the_means_they_are_named_after() {
        let (mut a, mut b) = (Net::zeros(Shape::talk(2)), Net::zeros(Shape::talk(2)));
        a.weights_mut(0)[INPUTS] = 4.0; // neuron 1, pixel 0
        a.weights_mut(1)[..2].copy_from_slice(&[1.0, 2.0]); // class 0
        b.weights_mut(1)[..4].copy_from_slice(&[3.0, 6.0, 8.0, 0.0]); // classes 0 and 1
        let neurons = Center::Neurons.of(&a, &b);
        assert_eq!(
            [neurons.weights(0)[0], neurons.weights(0)[INPUTS], neurons.weights(0)[1]],
            [1.0, 1.0, 0.0]
        );
        assert_eq!(neurons.weights(1)[..6], [3.0, 3.0, 2.0, 2.0, 0.0, 0.0]);
        let outputs = Center::Outputs.of(&a, &b);
        assert_eq!(outputs.weights(0), neurons.weights(0));
        assert_eq!(outputs.weights(1), [12.0f32 / 20.0, 8.0 / 20.0].repeat(10));
        assert_eq!(Center::Zero.of(&a, &b), Net::zeros(Shape::talk(2)));
    }

    #[test]
    fn each_hidden_layer_has_its_own_mean_row_and_bias_and_the_last_weights_a_column_or_a_row() {
        let shape = Shape::of(3, &[2, 4], 2, true);
        let (mut a, mut b) = (Net::zeros(shape), Net::zeros(shape));
        a.weights_mut(0)[4] = 8.0; // neuron 1, input 1
        b.biases_mut(0)[1] = 2.0;
        a.weights_mut(1)[7] = 16.0; // neuron 3, input 1
        a.biases_mut(1).copy_from_slice(&[1.0, 2.0, 3.0, 2.0]);
        b.weights_mut(2)[..4].copy_from_slice(&[1.0, 2.0, 3.0, 2.0]); // class 0
        b.biases_mut(2).copy_from_slice(&[4.0, 8.0]);
        let neurons = Center::Neurons.of(&a, &b);
        assert_eq!(neurons.weights(0), [0.0, 2.0, 0.0].repeat(2));
        assert_eq!(neurons.biases(0), [0.5; 2]);
        assert_eq!(neurons.weights(1), [0.0, 2.0].repeat(4));
        assert_eq!(neurons.biases(1), [1.0; 4]);
        assert_eq!(neurons.weights(2), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let outputs = Center::Outputs.of(&a, &b);
        let hidden = shape.params() - 10;
        assert_eq!(outputs.params()[..hidden], neurons.params()[..hidden]);
        assert_eq!(outputs.weights(2), [0.25, 0.5, 0.75, 0.5].repeat(2));
        assert_eq!(outputs.biases(2), [3.0; 2]);
        assert_eq!(Center::Zero.of(&a, &b), Net::zeros(shape));
    }
}
