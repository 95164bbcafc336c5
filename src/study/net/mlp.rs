//! The net: f(x) = W2 · relu(W1 · x), without biases (SCIENCE: "Model").
//!
//! Parameters are one flat buffer with named views, so that an optimiser, a distance or a point on
//! a curve is one loop.

/// Inputs of the net: the pixels of a 28 x 28 image.
pub const INPUTS: usize = 784;
/// Outputs of the net: the ten digits.
pub const CLASSES: usize = 10;

/// A two-layer perceptron's parameters: `w1` [h, 784] then `w2` [10, h], both row-major, in one
/// buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    hidden: usize,
    params: Vec<f32>,
}

impl Mlp {
    /// All parameters zero, for `hidden` neurons.
    pub fn zeros(hidden: usize) -> Self {
        Mlp { hidden, params: vec![0.0; hidden * (INPUTS + CLASSES)] }
    }

    /// A net from its layers, `w1` [h, 784] and `w2` [10, h]; `None` if their lengths do not match.
    pub fn from_layers(w1: &[f32], w2: &[f32]) -> Option<Self> {
        let hidden = w1.len() / INPUTS;
        (w1.len() == hidden * INPUTS && w2.len() == hidden * CLASSES)
            .then(|| Mlp { hidden, params: [w1, w2].concat() })
    }

    /// Number of hidden neurons, h.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Incoming weights, [h, 784]: row j belongs to neuron j.
    pub fn w1(&self) -> &[f32] {
        &self.params[..self.hidden * INPUTS]
    }

    /// Outgoing weights, [10, h]: column j belongs to neuron j.
    pub fn w2(&self) -> &[f32] {
        &self.params[self.hidden * INPUTS..]
    }

    /// Both layers, mutable: (`w1` [h, 784], `w2` [10, h]).
    pub fn layers_mut(&mut self) -> (&mut [f32], &mut [f32]) {
        self.params.split_at_mut(self.hidden * INPUTS)
    }

    /// Every parameter, `w1` then `w2`.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Every parameter, mutable.
    pub fn params_mut(&mut self) -> &mut [f32] {
        &mut self.params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_are_views_of_one_buffer() {
        let mut net = Mlp::zeros(3);
        let (w1, w2) = net.layers_mut();
        w1[INPUTS] = 1.0; // neuron 1, pixel 0
        w2[2 * 3 + 1] = 2.0; // class 2, neuron 1
        assert_eq!(net.params()[INPUTS], 1.0);
        assert_eq!(net.params()[3 * INPUTS + 7], 2.0);
        assert_eq!(Mlp::from_layers(net.w1(), net.w2()), Some(net));
    }

    #[test]
    fn layers_of_different_widths_make_no_net() {
        assert_eq!(Mlp::from_layers(&[0.0; 2 * INPUTS], &[0.0; 3 * CLASSES]), None);
        assert_eq!(Mlp::from_layers(&[0.0; INPUTS + 1], &[0.0; CLASSES]), None);
    }
}
