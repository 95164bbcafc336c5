//! The center M that arcs rotate about.

use crate::study::net::{INPUTS, Net};
use crate::study::registry::named_enum;

named_enum! {
    "center"
    /// The center of a curve, M.
    #[derive(Default)]
    pub enum Center {
        /// The mean over the 2h neurons of both nets: one row for W1 and one column for W2, the
        /// same for every neuron.
        #[default]
        Neurons = "neurons",
        /// As `neurons`, but for W2 the mean over the 20 output rows of both nets: one row of h.
        Outputs = "outputs",
        /// The origin.
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

    /// M as a net, with a single row or column repeated. Sums in f64, over A's neurons, then B's.
    pub(super) fn of(self, a: &Net, b: &Net) -> Net {
        let h = a.width(0);
        let mut center = Net::zeros(a.shape());
        if self != Center::Zero {
            repeat(&mean_row(a.weights(0), b.weights(0), INPUTS), center.weights_mut(0));
        }
        match self {
            Center::Neurons => {
                for ((a, b), w2) in a
                    .weights(1)
                    .chunks(h)
                    .zip(b.weights(1).chunks(h))
                    .zip(center.weights_mut(1).chunks_mut(h))
                {
                    w2.fill(mean_row(a, b, 1)[0]);
                }
            }
            Center::Outputs => {
                repeat(&mean_row(a.weights(1), b.weights(1), h), center.weights_mut(1))
            }
            Center::Zero => {}
        }
        center
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
    rows.chunks_mut(row.len()).for_each(|out| out.copy_from_slice(row));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::net::Shape;

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
}
