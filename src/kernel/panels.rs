//! A dense matrix in panels of 64 columns: the layout of weights and of gradients in training.
//!
//! A row of a panel is four AVX-512 registers, so that a row of a product is summed in registers.

use super::aligned::Aligned;
#[cfg(target_arch = "x86_64")]
use super::{Isa, isa};

/// Columns of a full panel: four AVX-512 registers, eight of AVX2.
pub(super) const PANEL: usize = 64;
/// The width of a narrower panel is a multiple of this.
pub(super) const LANES: usize = 8;

/// Width of the panel for the `left` last columns: a multiple of 8 up to 64.
fn width(left: usize) -> usize {
    padded(left).min(PANEL)
}

/// `columns` with the padding.
pub(super) fn padded(columns: usize) -> usize {
    columns.next_multiple_of(LANES)
}

/// A dense matrix [depth, columns] in panels of 64 columns, each panel [depth, 64] contiguous; the
/// last one is 8 to 64 wide, padded with columns of zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct Panels {
    columns: usize,
    depth: usize,
    data: Aligned,
}

impl Panels {
    /// All zeros.
    pub fn zeros(columns: usize, depth: usize) -> Panels {
        Panels { columns, depth, data: Aligned::zeros(padded(columns) * depth) }
    }

    /// Resizes to `depth` rows with unspecified content.
    pub fn set_depth(&mut self, depth: usize) {
        self.depth = depth;
        self.data.resize(self.padded() * depth);
    }

    /// Packs `w` [h, d]: each row becomes a column.
    ///
    /// # Panics
    /// If `w` is not [h, d].
    pub fn pack(w: &[f32], h: usize, d: usize) -> Panels {
        assert_eq!(w.len(), h * d, "the matrix is not [{h}, {d}]");
        let mut panels = Panels::zeros(h, d);
        for j in 0..h {
            for i in 0..d {
                let at = panels.position(i, j);
                panels.data[at] = w[j * d + i];
            }
        }
        panels
    }

    /// The inverse of [`Panels::pack`]: the matrix [h, d].
    pub fn unpack(&self) -> Vec<f32> {
        let rows = (0..self.columns).flat_map(|j| (0..self.depth).map(move |i| (i, j)));
        rows.map(|(i, j)| self.data[self.position(i, j)]).collect()
    }

    /// Sets the matrix to `rows` [n, stride] of at least its columns, or of as many as are padded.
    ///
    /// # Panics
    /// If a row is shorter than the matrix's.
    pub fn set_rows(&mut self, rows: &[f32], stride: usize) {
        assert!(stride >= self.columns && rows.len().is_multiple_of(stride), "not [n, {stride}]");
        self.set_depth(rows.len() / stride);
        let columns = self.columns;
        for (first, panel) in self.panels_mut() {
            let (kept, width) = ((columns - first).min(PANEL), width(columns - first));
            for (to, row) in panel.chunks_exact_mut(width).zip(rows.chunks_exact(stride)) {
                to[..kept].copy_from_slice(&row[first..][..kept]);
                to[kept..].fill(0.0);
            }
        }
    }

    /// Sets `out` to the transpose of the first `rows` rows.
    ///
    /// # Panics
    /// If `out` has not as many columns as there are rows.
    pub fn transpose(&self, rows: usize, out: &mut Panels) {
        assert_eq!(out.columns, rows, "not as many columns as rows");
        out.set_depth(self.columns);
        #[cfg(target_arch = "x86_64")]
        if isa() != Isa::Scalar {
            // SAFETY: `isa()` returns only sets that the processor was found to have, and both
            // others include AVX2.
            return unsafe { transpose_avx2(self, rows, out) };
        }
        transpose(self, rows, out, |square| {
            std::array::from_fn(|k| std::array::from_fn(|i| square[i][k]))
        });
    }

    /// Columns, without the padding.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Columns with the padding, a multiple of 8.
    pub fn padded(&self) -> usize {
        padded(self.columns)
    }

    /// Number of rows.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Every element, panel by panel, padding included; for elementwise work.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// As [`Panels::data`], for writing.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The panels from the left: first column, width, and the [depth, width] elements.
    #[inline(always)]
    pub fn panels(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        (0..self.columns).step_by(PANEL).map(|column| {
            let width = width(self.columns - column);
            (column, width, &self.data[column * self.depth..][..width * self.depth])
        })
    }

    /// The panels from the left, mutable: first column, and the [depth, width] elements.
    #[inline(always)]
    pub fn panels_mut(&mut self) -> impl Iterator<Item = (usize, &mut [f32])> {
        let (columns, depth, mut rest) = (self.columns, self.depth, &mut *self.data);
        (0..columns).step_by(PANEL).map(move |first| {
            let panel = rest.split_off_mut(..width(columns - first) * depth);
            (first, panel.expect("BUG: panels are longer than their data"))
        })
    }

    /// Elements of a full panel; 1 if it has no rows.
    pub(super) fn panel_len(&self) -> usize {
        (PANEL * self.depth).max(1)
    }

    /// The place of row `i` of column `j`.
    fn position(&self, i: usize, j: usize) -> usize {
        let first = j - j % PANEL;
        let width = width(self.columns - first);
        first * self.depth + i * width + j % PANEL
    }
}

/// [`LANES`] rows of as many columns.
type Square = [[f32; LANES]; LANES];

/// Sets `out` to the transpose of the first `rows` rows of `from`. `transposed` transposes a
/// square.
#[inline(always)]
fn transpose(from: &Panels, rows: usize, out: &mut Panels, transposed: impl Fn(Square) -> Square) {
    for (column, panel_width, panel) in from.panels() {
        for first in (0..rows).step_by(LANES) {
            let lanes = (rows - first).min(LANES);
            let (at, out_width) =
                (out.position(column, first), width(rows - first / PANEL * PANEL));
            for j in (0..panel_width).step_by(LANES) {
                let mut square = [[0.0; LANES]; LANES];
                for (i, row) in square.iter_mut().enumerate().take(lanes) {
                    row.copy_from_slice(&panel[(first + i) * panel_width + j..][..LANES]);
                }
                let kept = (from.columns - column - j).min(LANES);
                for (k, row) in transposed(square).iter().enumerate().take(kept) {
                    out.data[at + (j + k) * out_width..][..LANES].copy_from_slice(row);
                }
            }
        }
    }
}

/// [`transpose`] with shuffles, which LLVM does not find.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn transpose_avx2(from: &Panels, rows: usize, out: &mut Panels) {
    use std::arch::x86_64::{
        __m256, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    transpose(from, rows, out, |square| {
        // SAFETY: both are 64 numbers, and any bits are a number.
        let rows: [__m256; LANES] = unsafe { std::mem::transmute::<Square, _>(square) };
        let (mut pairs, mut fours, mut columns) = (rows, rows, rows);
        for i in 0..LANES / 2 {
            pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        // In each half of a vector, four rows of one column.
        for i in [0, LANES / 2] {
            for side in 0..2 {
                let (a, b) = (pairs[i + side], pairs[i + 2 + side]);
                fours[i + 2 * side] = _mm256_shuffle_ps::<0x44>(a, b);
                fours[i + 2 * side + 1] = _mm256_shuffle_ps::<0xee>(a, b);
            }
        }
        for k in 0..LANES / 2 {
            let (a, b) = (fours[k], fours[LANES / 2 + k]);
            columns[k] = _mm256_permute2f128_ps::<0x20>(a, b);
            columns[LANES / 2 + k] = _mm256_permute2f128_ps::<0x31>(a, b);
        }
        // SAFETY: as above.
        unsafe { std::mem::transmute::<[__m256; LANES], _>(columns) }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gram::tests::noise;
    use crate::kernel::test::on_every_isa;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_transpose_has_the_rows_as_columns(
            h in 1usize..150, d in 1usize..150, spare in 0usize..2,
        ) {
            let w = noise(h * (d + spare), 5); // [h, d + spare]
            let expected: Vec<f32> =
                (0..d * h).map(|at| w[at % h * (d + spare) + at / h]).collect();
            on_every_isa(|isa| {
                let mut transposed = Panels::zeros(d, 7);
                transposed.data_mut().fill(0.5);
                Panels::pack(&w, h, d + spare).transpose(d, &mut transposed);
                assert_eq!(transposed.unpack(), expected, "{isa:?}");
            });
        }

        #[test]
        fn rows_set_with_any_stride_are_those_packed(
            h in 1usize..150, n in 0usize..20, spare in 0usize..9,
        ) {
            let rows = noise(n * (h + spare), 5);
            let mut panels = Panels::zeros(h, 3);
            panels.data_mut().fill(0.5);
            panels.set_rows(&rows, h + spare);
            let columns: Vec<f32> =
                (0..h * n).map(|at| rows[at % n * (h + spare) + at / n]).collect();
            prop_assert_eq!(panels, Panels::pack(&columns, h, n));
        }

        #[test]
        fn packing_loses_nothing(h in 0usize..200, d in 0usize..20) {
            let w = noise(h * d, 5);
            prop_assert_eq!(Panels::pack(&w, h, d).unpack(), w);
        }
    }
}
