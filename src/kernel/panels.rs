//! A dense matrix laid out to be multiplied by: its columns in panels of 64.
//!
//! A row of a panel is four registers of AVX-512, begins at a cache line, and lies next to the row below it: a product sums
//! one row of its own in registers, while the panel stays in cache.
//!
//! This file does not know what is multiplied by it.

use super::aligned::Aligned;

/// Columns of a full panel: four AVX-512 registers, eight of AVX2.
pub(super) const PANEL: usize = 64;

/// What the columns of a narrower panel are a multiple of.
const LANES: usize = 16;

/// Columns of the panel that holds what is left of a matrix: 16, 32, 48 or 64.
#[inline(always)]
pub(super) fn width(left: usize) -> usize {
    left.next_multiple_of(LANES).min(PANEL)
}

#[inline(always)]
fn padded(columns: usize) -> usize {
    columns.next_multiple_of(LANES)
}

/// A dense matrix [depth, columns] in panels of 64 columns, each panel [depth, 64] in one piece; the last one is
/// 16, 32, 48 or 64 wide, padded with columns of zeros.
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

    /// Makes room for `depth` rows; what they hold then means nothing.
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

    /// The matrix [h, d] that was packed.
    pub fn unpack(&self) -> Vec<f32> {
        let rows = (0..self.columns).flat_map(|j| (0..self.depth).map(move |i| (i, j)));
        rows.map(|(i, j)| self.data[self.position(i, j)]).collect()
    }

    /// Columns, without the padding.
    #[inline(always)]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Columns with the padding, a multiple of 16.
    #[inline(always)]
    pub fn padded(&self) -> usize {
        padded(self.columns)
    }

    /// Rows.
    #[inline(always)]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Every element, panel by panel, padding included; for elementwise work.
    #[inline(always)]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// As [`Panels::data`], for writing.
    #[inline(always)]
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The panels from the left: where each begins among the columns, and its [depth, width] in one piece.
    #[inline(always)]
    pub(crate) fn panels_mut(&mut self) -> impl Iterator<Item = (usize, &mut [f32])> {
        let pieces = self.data.chunks_mut((PANEL * self.depth).max(1));
        pieces.zip((0..self.columns).step_by(PANEL)).map(|(piece, first)| (first, piece))
    }

    fn position(&self, i: usize, j: usize) -> usize {
        let first = j - j % PANEL;
        let width = width(self.columns - first);
        first * self.depth + i * width + j % PANEL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packing_loses_nothing(h in 0usize..200, d in 0usize..20) {
            let w: Vec<f32> = (0..h * d).map(|i| i as f32).collect();
            prop_assert_eq!(Panels::pack(&w, h, d).unpack(), w);
        }
    }
}
