//! The net: z_l = W_l x_{l-1} + b_l, x_l = relu(z_l), and the last z are the logits (SCIENCE:
//! "Model").
//!
//! Parameters are one flat buffer with named views, so that an optimiser, a distance or a point on
//! a curve is one loop.

use super::widths::{Hidden, Widths};
use std::fmt;
use std::ops::Range;

/// The shape of a feed-forward net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Inputs: the pixels of an image, times its channels.
    pub inputs: usize,
    /// Neurons of each hidden layer.
    pub widths: Widths,
    /// Outputs.
    pub classes: usize,
    /// Whether every layer has biases, the output layer included.
    pub biases: bool,
}

impl Shape {
    /// The number of layers with weights: the hidden ones and the output layer.
    pub fn layers(&self) -> usize {
        self.widths.depth() + 1
    }

    /// The inputs of layer `l`, counted from 0.
    pub fn fan_in(&self, l: usize) -> usize {
        if l == 0 { self.inputs } else { self.widths.get(l - 1) }
    }

    /// The outputs of layer `l`, counted from 0.
    pub fn fan_out(&self, l: usize) -> usize {
        if l == self.widths.depth() { self.classes } else { self.widths.get(l) }
    }

    /// The number of parameters.
    pub fn params(&self) -> usize {
        self.weights(self.layers()).start
    }

    /// The hidden layers, as tables name them.
    pub fn hidden(&self) -> Hidden {
        Hidden { widths: self.widths, biases: self.biases }
    }

    /// Whether there is one hidden layer, no bias, and ten classes: nets of the talk's kind, for
    /// which there are faster kernels.
    pub fn is_plain(&self) -> bool {
        self.widths.depth() == 1 && !self.biases && self.classes == crate::kernel::CLASSES
    }

    /// The weights of layer `l` among the parameters; empty after the last layer.
    fn weights(&self, l: usize) -> Range<usize> {
        let bias = usize::from(self.biases);
        let start = (0..l).map(|k| self.fan_out(k) * (self.fan_in(k) + bias)).sum();
        let len = if l < self.layers() { self.fan_out(l) * self.fan_in(l) } else { 0 };
        start..start + len
    }

    /// The biases of layer `l` among the parameters.
    fn bias(&self, l: usize) -> Range<usize> {
        let end = self.weights(l).end;
        end..end + if self.biases { self.fan_out(l) } else { 0 }
    }
}

/// `784-512x256-10` or `784-50-10 with biases`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Shape { inputs, widths, classes, biases } = self;
        write!(f, "{inputs}-{widths}-{classes}{}", if *biases { " with biases" } else { "" })
    }
}

/// The parameters of a feed-forward net in one buffer: W_1, b_1, W_2, b_2, and so on; the biases
/// are missing in a net without them. `W_l` is [fan-out, fan-in], row-major.
///
/// Layers are counted from 0 in the code: `weights(0)` is W_1.
#[derive(Clone, Debug, PartialEq)]
pub struct Net {
    shape: Shape,
    params: Vec<f32>,
}

impl Net {
    /// All parameters zero.
    pub fn zeros(shape: Shape) -> Net {
        Net { shape, params: vec![0.0; shape.params()] }
    }

    /// A net of this shape from its parameters; `None` if their number differs.
    pub fn from_params(shape: Shape, params: Vec<f32>) -> Option<Net> {
        (params.len() == shape.params()).then_some(Net { shape, params })
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The number of layers with weights: the hidden ones and the output layer.
    pub fn layers(&self) -> usize {
        self.shape.layers()
    }

    /// Neurons of the hidden layer `l`, counted from 0.
    pub fn width(&self, l: usize) -> usize {
        self.shape.widths.get(l)
    }

    /// The weights of layer `l`, [fan-out, fan-in]: row j goes into neuron j of the layer, column i
    /// comes from neuron i of the layer below.
    pub fn weights(&self, l: usize) -> &[f32] {
        &self.params[self.shape.weights(l)]
    }

    /// The biases of layer `l`, `[fan-out]`; empty without biases.
    pub fn biases(&self, l: usize) -> &[f32] {
        &self.params[self.shape.bias(l)]
    }

    /// As [`Net::weights`], mutable.
    pub fn weights_mut(&mut self, l: usize) -> &mut [f32] {
        let range = self.shape.weights(l);
        &mut self.params[range]
    }

    /// As [`Net::biases`], mutable.
    pub fn biases_mut(&mut self, l: usize) -> &mut [f32] {
        let range = self.shape.bias(l);
        &mut self.params[range]
    }

    /// Every parameter, layer by layer.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Every parameter, mutable.
    pub fn params_mut(&mut self) -> &mut [f32] {
        &mut self.params
    }
}

#[cfg(test)]
impl Shape {
    /// The talk's net: 784 inputs, one layer of `width` neurons, ten classes, no biases.
    pub(crate) fn talk(width: usize) -> Shape {
        Shape::of(784, &[width], 10, false)
    }

    /// A shape for tests.
    pub(crate) fn of(inputs: usize, widths: &[usize], classes: usize, biases: bool) -> Shape {
        let widths = Widths::try_from(widths).expect("widths in bounds");
        Shape { inputs, widths, classes, biases }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_are_views_of_one_buffer() {
        let mut net = Net::zeros(Shape::of(4, &[3, 2], 5, true));
        net.weights_mut(0)[4] = 1.0; // neuron 1, input 0
        net.biases_mut(0)[2] = 2.0;
        net.weights_mut(1)[5] = 3.0; // neuron 1, input 2
        net.biases_mut(1)[0] = 4.0;
        net.weights_mut(2)[9] = 5.0; // class 4, neuron 1
        net.biases_mut(2)[4] = 6.0;
        let set: Vec<(usize, f32)> =
            net.params().iter().copied().enumerate().filter(|(_, w)| *w != 0.0).collect();
        // 12 + 3, 6 + 2, 10 + 5 parameters.
        assert_eq!(set, [(4, 1.0), (14, 2.0), (20, 3.0), (21, 4.0), (32, 5.0), (37, 6.0)]);
        assert_eq!((net.params().len(), net.layers()), (38, 3));
        assert_eq!(Net::from_params(net.shape(), net.params().to_vec()), Some(net));
    }

    #[test]
    fn a_net_without_biases_has_its_weights_only() {
        let net = Net::zeros(Shape::talk(3));
        assert_eq!(net.params().len(), 3 * 794);
        assert_eq!([net.biases(0).len(), net.biases(1).len()], [0, 0]);
        assert_eq!([net.weights(0).len(), net.weights(1).len()], [3 * 784, 30]);
        assert_eq!(Net::from_params(net.shape(), vec![0.0; 5]), None);
    }
}
