//! The least squares of a refit.
//!
//! Normal equations: FᵀF and FᵀT in f32 over blocks of images, the blocks added up in f64, solved
//! in f64 by Cholesky with a ridge, which replaces the solution of minimum norm if neurons are dead
//! or duplicated. Biases are the weights of one more feature, the last one, that is always 1.

use super::Fit;
use crate::kernel::cholesky::Cholesky;
use crate::kernel::gram::{Products, SparseColumns, TallMatrix, add_squares};
use crate::kernel::quadratic::{LANES, above_diagonal};
use crate::study::curve::layer::Layer;
use std::borrow::Cow;

/// The least ridge, relative to the mean of the Gram matrix's diagonal.
pub(super) const RIDGE: f64 = 1e-8;
/// A pivot counts towards the rank if it exceeds the ridge by this factor: the pivot of a
/// duplicated neuron is about twice the ridge, that of one among a dozen linearly dependent neurons
/// hardly more.
const RANK_FACTOR: f64 = 10.0;

/// Sums over images of the products of features F and targets T.
pub(super) struct Sums {
    /// Fᵀ[F T].
    products: Products,
    /// The sum of squares of each target.
    squares: Vec<f64>,
}

impl Sums {
    pub(super) fn zeros(features: usize, targets: usize) -> Sums {
        let products = Products::gram_rows(features, features + targets);
        Sums { products, squares: vec![0.0; targets] }
    }

    /// Adds the images of a block: `joined` is [F T], `targets` [n, targets].
    pub(super) fn add(
        &mut self,
        joined: &TallMatrix,
        targets: &[f32],
        non_zeros: &mut SparseColumns,
    ) {
        self.products.add_gram(joined, non_zeros);
        add_squares(targets, &mut self.squares);
    }
}

/// Some outputs side by side, [features, 16]; unused lanes are zero.
type Group = Vec<[f64; LANES]>;

/// The normal equations, with the neurons in their original order.
pub(super) struct Normal {
    /// Features, the constant included.
    h: usize,
    biases: bool,
    /// The upper triangle of FᵀF [h, h].
    pub(super) g: Vec<f64>,
    /// FᵀT, 16 outputs at a time.
    pub(super) right: Vec<Group>,
    /// The sum of squares of each target.
    squares: Vec<f64>,
}

impl Normal {
    /// From the `sums` of neurons in this `order`, followed by the constant if there are `biases`.
    pub(super) fn of(sums: Sums, order: &[usize], biases: bool) -> Normal {
        let Sums { products, squares } = sums;
        let h = order.len() + usize::from(biases);
        let mut column_of: Vec<usize> = (0..h).collect();
        order.iter().enumerate().for_each(|(column, &neuron)| column_of[neuron] = column);
        let mut g = vec![0.0; h * h];
        for (i, row) in g.chunks_exact_mut(h).enumerate() {
            row[i..]
                .iter_mut()
                .zip(&column_of[i..])
                .for_each(|(g, &column)| *g = products.at(column_of[i], column));
        }
        let group = |first: usize| {
            let outputs = first..squares.len().min(first + LANES);
            let row = |&column: &usize| {
                let mut row = [0.0; LANES];
                for (right, output) in row.iter_mut().zip(outputs.clone()) {
                    *right = products.at(column, h + output);
                }
                row
            };
            column_of.iter().map(row).collect()
        };
        let right = (0..squares.len()).step_by(LANES).map(group).collect();
        Normal { h, biases, g, right, squares }
    }

    fn diagonal(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.h).map(|j| self.g[j * self.h + j])
    }

    /// The layer for which F Wᵀ is closest to T, and its quality at `s` compared with `kept`.
    ///
    /// # Errors
    /// The cause, if there is no solution.
    pub(super) fn fit(&self, s: f64, kept: &Layer) -> Result<(Layer<'static>, Fit), &'static str> {
        // By Cauchy-Schwarz, all products are finite if the squares are.
        if !self.diagonal().all(f64::is_finite) {
            return Err("the squares of the hidden features are not finite");
        }
        if !self.squares.iter().all(|square| square.is_finite()) {
            return Err("the squares of the targets are not finite");
        }
        let (factor, ridge) =
            self.factor().ok_or("the hidden features are too small to be distinguished")?;
        let mut solution = self.right.clone();
        let rank = match &factor {
            Some(factor) => {
                for group in &mut solution {
                    factor.solve(group.as_flattened_mut(), LANES);
                }
                let least = RANK_FACTOR * ridge * self.scale();
                factor.pivots().filter(|&pivot| pivot > least).count()
            }
            // Every feature is zero, and so are FᵀT and the solution of minimum norm.
            None => 0,
        };
        let layer = self.layer(&solution);
        let residual = self.residual(&self.groups(&layer));
        let residual_kept = self.residual(&self.groups(kept));
        Ok((layer, Fit { s, rank, ridge, residual, residual_kept }))
    }

    /// The layer with these weights, 16 outputs at a time, rounded to f32.
    fn layer(&self, groups: &[Group]) -> Layer<'static> {
        let outputs = self.squares.len();
        let at = |i: usize, output: usize| groups[output / LANES][i][output % LANES] as f32;
        let inputs = self.h - usize::from(self.biases);
        let weights = (0..outputs).flat_map(|output| (0..inputs).map(move |i| (i, output)));
        let biases = (0..if self.biases { outputs } else { 0 }).map(|output| at(inputs, output));
        Layer {
            weights: Cow::Owned(weights.map(|(i, output)| at(i, output)).collect()),
            biases: Cow::Owned(biases.collect()),
            fan_out: outputs,
        }
    }

    /// The inverse of [`Normal::layer`].
    fn groups(&self, layer: &Layer) -> Vec<Group> {
        let inputs = layer.fan_in();
        let mut groups = vec![vec![[0.0; LANES]; self.h]; self.right.len()];
        for output in 0..layer.fan_out {
            let weights = &layer.weights[output * inputs..][..inputs];
            let column = weights.iter().chain(layer.biases.get(output));
            for (row, &w) in groups[output / LANES].iter_mut().zip(column) {
                row[output % LANES] = f64::from(w);
            }
        }
        groups
    }

    /// tr(G)/h, the unit of the ridge.
    fn scale(&self) -> f64 {
        self.diagonal().sum::<f64>() / self.h as f64
    }

    /// The factor of G = FᵀF plus the least ridge that makes it positive definite, and that ridge
    /// relative to the scale; no factor if G is zero; `None` if no ridge suffices.
    fn factor(&self) -> Option<(Option<Cholesky>, f64)> {
        let scale = self.scale();
        if scale == 0.0 {
            return Some((None, 0.0));
        }
        let ridges = std::iter::successors(Some(RIDGE), |ridge| Some(ridge * 10.0));
        // A ridge of the whole trace exceeds any rounding, so a larger one would not help.
        ridges.take_while(|&ridge| ridge <= self.h as f64).find_map(|ridge| {
            let mut g = self.g.clone();
            (0..self.h).for_each(|j| g[j * self.h + j] += ridge * scale);
            Cholesky::factor(g, self.h).map(|factor| (Some(factor), ridge))
        })
    }

    /// |F Wᵀ - T| / |T|, from tr(W G Wᵀ) - 2 tr(W FᵀT) + tr(TᵀT); 0 if the targets are all zero.
    /// `weights` are W, 16 outputs at a time.
    fn residual(&self, weights: &[Group]) -> f64 {
        let (mut squared, mut targets) = (0.0, 0.0);
        let mut off_diagonal = vec![[0.0; LANES]; self.h];
        let groups = weights.iter().zip(&self.right).zip(self.squares.chunks(LANES));
        for ((weights, right), squares) in groups {
            above_diagonal(&self.g, weights, &mut off_diagonal);
            for (lane, &square) in squares.iter().enumerate() {
                targets += square;
                squared += square;
                let rows = weights.iter().zip(right).zip(&off_diagonal).zip(self.diagonal());
                for (((w, right), off), diagonal) in rows {
                    let w = w[lane];
                    squared += w * (diagonal * w + 2.0 * (off[lane] - right[lane]));
                }
            }
        }
        if targets > 0.0 { (squared.max(0.0) / targets).sqrt() } else { 0.0 }
    }
}
