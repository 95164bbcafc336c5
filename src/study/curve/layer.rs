//! Single layers of nets, and layers in the layout of forward passes.
//!
//! Every product with a dense matrix of activations is in [`Packed::apply`].

use crate::kernel::affine::affine;
use crate::kernel::dense::relu;
use crate::kernel::product::{Panels, project};
use crate::kernel::sparse::Sparse;
use crate::study::net::Net;
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

/// What a layer reads: some rows of images, or activations [n, fan-in].
#[derive(Clone)]
pub(super) enum Input<'a> {
    Images(&'a Sparse, Range<usize>),
    Activations(&'a [f32]),
}

/// A layer in the layout of forward passes.
pub(super) struct Packed {
    weights: Weights,
    biases: Vec<f32>,
    fan_out: usize,
}

enum Weights {
    /// Of a layer that reads images.
    First(Panels),
    /// Of a later one: the transpose, [fan-in, fan-out].
    Later(Vec<f32>),
}

impl Packed {
    /// `layer`, which reads images if it is the first one.
    pub(super) fn of(layer: &Layer, is_first: bool) -> Packed {
        let (fan_in, fan_out) = (layer.fan_in(), layer.fan_out);
        let weights = if is_first {
            Weights::First(Panels::pack(&layer.weights, fan_out, fan_in))
        } else {
            Weights::Later(transposed(&layer.weights, fan_out, fan_in))
        };
        Packed { weights, biases: layer.biases.to_vec(), fan_out }
    }

    pub(super) fn fan_out(&self) -> usize {
        self.fan_out
    }

    /// `out` [n, fan-out] = x Wᵀ + b.
    ///
    /// # Panics
    /// If the shapes do not fit together, or a first layer is given activations, or another one
    /// images.
    pub(super) fn apply(&self, input: Input, out: &mut [f32]) {
        match (&self.weights, input) {
            (Weights::First(w), Input::Images(images, rows)) => {
                project(images, rows, w, out);
                add_biases(&self.biases, out);
            }
            (Weights::Later(w), Input::Activations(x)) => {
                affine(x, w, &self.biases, self.fan_out, out);
            }
            _ => panic!("BUG: only the first layer reads images"),
        }
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

/// `w` [rows, columns] as [columns, rows], in tiles that fit into L1.
fn transposed(w: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; w.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for i in top..rows.min(top + TILE) {
                for j in left..columns.min(left + TILE) {
                    out[j * rows + i] = w[i * columns + j];
                }
            }
        }
    }
    out
}

/// The first layers of a net, each followed by ReLU.
pub(super) struct Stack {
    layers: Vec<Packed>,
}

/// Workspaces of a [`Stack`].
#[derive(Clone, Default)]
pub(super) struct Activations {
    /// The output of the last layer that was applied.
    pub(super) below: Vec<f32>,
    pub(super) above: Vec<f32>,
}

impl Stack {
    /// The first `layers` layers of `net`; none is allowed.
    pub(super) fn of(net: &Net, layers: usize) -> Stack {
        Stack { layers: (0..layers).map(|l| Packed::of(&Layer::of(net, l), l == 0)).collect() }
    }

    /// What the layer above reads, for the images `rows`.
    pub(super) fn apply<'w>(
        &self,
        images: &'w Sparse,
        rows: Range<usize>,
        work: &'w mut Activations,
    ) -> Input<'w> {
        for (l, layer) in self.layers.iter().enumerate() {
            work.above.resize(rows.len() * layer.fan_out, 0.0);
            let input = match l {
                0 => Input::Images(images, rows.clone()),
                _ => Input::Activations(&work.below),
            };
            layer.apply(input, &mut work.above);
            relu(&mut work.above);
            std::mem::swap(&mut work.below, &mut work.above);
        }
        match self.layers.is_empty() {
            true => Input::Images(images, rows),
            false => Input::Activations(&work.below),
        }
    }
}
