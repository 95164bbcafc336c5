//! Single layers of nets, and layers in the layout of forward passes.
//!
//! Every product with a dense matrix of activations is in [`Packed::apply`].

use crate::kernel::dense::relu;
use crate::kernel::panels::Panels;
use crate::kernel::product::project;
use crate::kernel::sparse::Sparse;
use crate::study::net::{Net, pack};
use std::borrow::Cow;
use std::ops::Range;

/// The parameters of one layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer<'a> {
    /// [fan-out, fan-in].
    pub weights: Cow<'a, [f32]>,
    /// `[fan-out]`; empty without biases.
    pub biases: Cow<'a, [f32]>,
    pub fan_out: usize,
}

impl<'a> Layer<'a> {
    /// Layer `l` of `net`, counted from 0.
    pub(super) fn of(net: &'a Net, l: usize) -> Layer<'a> {
        Layer {
            weights: Cow::Borrowed(net.weights(l)),
            biases: Cow::Borrowed(net.biases(l)),
            fan_out: net.shape().fan_out(l),
        }
    }

    pub(super) fn fan_in(&self) -> usize {
        self.weights.len() / self.fan_out
    }

    /// The same layer, borrowed.
    pub(super) fn borrowed(&self) -> Layer<'_> {
        Layer {
            weights: Cow::Borrowed(&self.weights),
            biases: Cow::Borrowed(&self.biases),
            fan_out: self.fan_out,
        }
    }

    pub(super) fn into_owned(self) -> Layer<'static> {
        Layer {
            weights: Cow::Owned(self.weights.into_owned()),
            biases: Cow::Owned(self.biases.into_owned()),
            fan_out: self.fan_out,
        }
    }

    /// With its neurons in this `order`.
    pub(super) fn in_order(&self, order: &[usize]) -> Layer<'static> {
        let fan_in = self.fan_in();
        let row = |&j: &usize| &self.weights[j * fan_in..][..fan_in];
        let biases = if self.biases.is_empty() {
            Vec::new()
        } else {
            order.iter().map(|&j| self.biases[j]).collect()
        };
        Layer {
            weights: Cow::Owned(order.iter().flat_map(row).copied().collect()),
            biases: Cow::Owned(biases),
            fan_out: order.len(),
        }
    }

    /// Overwrites layer `l` of `net`.
    pub(super) fn write(&self, net: &mut Net, l: usize) {
        net.weights_mut(l).copy_from_slice(&self.weights);
        net.biases_mut(l).copy_from_slice(&self.biases);
    }
}

/// What a layer reads: these rows of a matrix [n, fan-in] of images, or of activations.
pub(super) type Input<'a> = (&'a Sparse, Range<usize>);

/// A layer in the layout of forward passes.
pub(super) struct Packed {
    /// The weights, and the biases as one more row, which the kernel adds last.
    panels: Panels,
}

impl Packed {
    pub(super) fn of(layer: &Layer) -> Packed {
        Packed { panels: pack(&layer.weights, &layer.biases, layer.fan_in()) }
    }

    pub(super) fn fan_out(&self) -> usize {
        self.panels.columns()
    }

    /// `out` [n, fan-out] = x Wᵀ + b.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub(super) fn apply(&self, (x, rows): Input, out: &mut [f32]) {
        project(x, rows, &self.panels, out);
    }
}

/// Adds `biases`, if there are any, to each row.
pub(super) fn add_biases(biases: &[f32], rows: &mut [f32]) {
    if !biases.is_empty() {
        for row in rows.chunks_exact_mut(biases.len()) {
            row.iter_mut().zip(biases).for_each(|(z, b)| *z += b);
        }
    }
}

/// The first layers of a net, each followed by ReLU.
pub(super) struct Stack {
    layers: Vec<Packed>,
}

/// The activations of some images in one layer: a workspace.
#[derive(Clone)]
pub(super) struct Activations {
    /// Row by row.
    pub(super) dense: Vec<f32>,
    /// The same without the zeros, which are about half.
    pub(super) sparse: Sparse,
}

impl Default for Activations {
    fn default() -> Activations {
        Activations { dense: Vec::new(), sparse: Sparse::empty() }
    }
}

impl Activations {
    /// Makes the dense numbers [n, `width`] the input of the next layer.
    pub(super) fn as_input(&mut self, width: usize) -> Input<'_> {
        self.sparse.set_values(&self.dense, width, width);
        (&self.sparse, 0..self.sparse.rows())
    }

    /// Replaces the numbers, [n, `width`], by the pre-activations of `layer`, which reads them.
    pub(super) fn apply(&mut self, layer: &Packed, width: usize) {
        self.sparse.set_values(&self.dense, width, width);
        let rows = self.sparse.rows();
        self.dense.resize(rows * layer.fan_out(), 0.0);
        layer.apply((&self.sparse, 0..rows), &mut self.dense);
    }
}

impl Stack {
    /// The first `layers` layers of `net`; none is allowed.
    pub(super) fn of(net: &Net, layers: usize) -> Stack {
        Stack { layers: (0..layers).map(|l| Packed::of(&Layer::of(net, l))).collect() }
    }

    /// What the layer above reads, for the images `rows`.
    pub(super) fn apply<'w>(
        &self,
        images: &'w Sparse,
        rows: Range<usize>,
        work: &'w mut Activations,
    ) -> Input<'w> {
        let Some((first, rest)) = self.layers.split_first() else { return (images, rows) };
        work.dense.resize(rows.len() * first.fan_out(), 0.0);
        first.apply((images, rows), &mut work.dense);
        let mut width = first.fan_out();
        for layer in rest {
            relu(&mut work.dense);
            work.apply(layer, width);
            width = layer.fan_out();
        }
        relu(&mut work.dense);
        work.as_input(width)
    }
}
