//! Products of tall matrices, summed over their rows: XᵀX and XᵀY.
//!
//! Two precisions, two levels: inside a block of rows a sum runs in f32, row by row, one accumulator per output; the
//! blocks are added up in f64 by adding to the same [`Products`] again. Blocks of at most about a thousand rows keep the
//! rounding of the inner level near 1e-6 of the sum.
//!
//! Both factors lie in panels of 48 columns, so that one copy of a matrix serves on either side and for either tile:
//! 8 x 48 for AVX-512, 24 registers of sums, and 6 x 16 for AVX2. Rows of panels are aligned to cache lines: where they
//! straddled them, AVX2 lost a fifth. The sums lie in squares of 48 x 48, so that a tile adds to one piece of memory. At
//! 2010 columns a core whose peak is 58 G multiply-adds a second does 52 with AVX-512, 42 with AVX2.
//!
//! Left out: the tile of 8 x 48 in plain Rust, which LLVM keeps in memory (1 G a second); intrinsics without AVX-512VL,
//! where half of the registers cannot be converted from, so that LLVM leaves them alone (31 G); a tile of 12 x 32, for
//! which each factor must be packed in a way of its own, a tenth slower.
//!
//! This file does not know that the columns are neurons.

use super::per_isa;

/// Columns of a panel.
pub(super) const PANEL: usize = 48;

/// A row of a panel, aligned to cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Row<T>(pub(super) [T; PANEL]);

/// A tall matrix [n, columns] in panels of 48 columns, each panel [n, 48] in one piece; what the last one has beyond
/// the columns means nothing.
#[derive(Clone, Debug)]
pub struct Tall {
    rows: usize,
    columns: usize,
    data: Vec<Row<f32>>,
}

impl Tall {
    /// Without rows.
    pub fn new(columns: usize) -> Tall {
        Tall { rows: 0, columns, data: Vec::new() }
    }

    /// Packs `x` [n, `columns`].
    ///
    /// # Panics
    /// If `x` is not whole rows.
    pub fn pack(x: &[f32], columns: usize) -> Tall {
        let mut tall = Tall::new(columns);
        tall.set_rows(x.len() / columns.max(1));
        tall.put(0, columns, x);
        tall
    }

    /// Makes room for `rows` rows; what they hold then means nothing.
    pub fn set_rows(&mut self, rows: usize) {
        self.rows = rows;
        self.data.resize(rows * self.columns.div_ceil(PANEL), Row([0.0; PANEL]));
    }

    /// Overwrites `count` columns from the `first` on with `x` [n, `count`].
    ///
    /// # Panics
    /// If there are no such columns, or `x` is not of that shape.
    pub fn put(&mut self, first: usize, count: usize, x: &[f32]) {
        assert!(first + count <= self.columns, "no columns {first}..{}", first + count);
        assert_eq!(x.len(), self.rows * count, "not [n, {count}]");
        for (i, x) in x.chunks_exact(count.max(1)).enumerate() {
            for (j, &x) in (first..).zip(x) {
                self.data[j / PANEL * self.rows + i].0[j % PANEL] = x;
            }
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The panels, one after the other.
    pub(super) fn data_mut(&mut self) -> &mut [Row<f32>] {
        &mut self.data
    }

    fn panel(&self, index: usize) -> &[Row<f32>] {
        &self.data[index * self.rows..][..self.rows]
    }
}

/// Sums over rows: XᵀX, of which only the upper triangle is kept, or XᵀY.
#[derive(Clone, Debug)]
pub struct Products {
    rows: usize,
    columns: usize,
    symmetric: bool,
    /// Squares of 48 x 48, those of a column of squares one below the other; of XᵀX those down to the diagonal.
    sums: Vec<Row<f64>>,
}

impl Products {
    /// XᵀX [columns, columns] = 0.
    pub fn gram(columns: usize) -> Products {
        let panels = columns.div_ceil(PANEL);
        Products::zeros(columns, columns, true, panels * (panels + 1) / 2)
    }

    /// XᵀY [rows, columns] = 0.
    pub fn cross(rows: usize, columns: usize) -> Products {
        Products::zeros(rows, columns, false, rows.div_ceil(PANEL) * columns.div_ceil(PANEL))
    }

    fn zeros(rows: usize, columns: usize, symmetric: bool, squares: usize) -> Products {
        Products { rows, columns, symmetric, sums: vec![Row([0.0; PANEL]); squares * PANEL] }
    }

    /// Adds XᵀX.
    ///
    /// # Panics
    /// If this is not the Gram matrix of as many columns.
    pub fn add_gram(&mut self, x: &Tall) {
        assert!(self.symmetric, "not a Gram matrix");
        self.add(x, x);
    }

    /// Adds XᵀY.
    ///
    /// # Panics
    /// If this is not the product of as many columns with as many, or `x` and `y` are not equally tall.
    pub fn add_cross(&mut self, x: &Tall, y: &Tall) {
        assert!(!self.symmetric && x.rows == y.rows, "not a product of columns of equal height");
        self.add(x, y);
    }

    fn add(&mut self, x: &Tall, y: &Tall) {
        assert_eq!((x.columns, y.columns), (self.rows, self.columns), "products of other columns");
        let mut squares = self.sums.chunks_exact_mut(PANEL);
        for j in 0..self.columns.div_ceil(PANEL) {
            let end = if self.symmetric { j + 1 } else { self.rows.div_ceil(PANEL) };
            // The right panel, read again and again, stays in L2 while the left ones pass by.
            for (i, square) in (0..end).zip(&mut squares) {
                // Of the last panels, what is beyond the columns is left out as far as tiles go.
                let [height, width] = [self.rows - i * PANEL, self.columns - j * PANEL].map(|left| left.min(PANEL));
                let square = &mut square[..height.next_multiple_of(WHOLE_TILES)];
                add_square(x.panel(i), y.panel(j), width, square);
            }
        }
    }

    /// Element (i, j); of a Gram matrix on either side of the diagonal.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        let (i, j) = if self.symmetric { (i.min(j), i.max(j)) } else { (i, j) };
        self.square_row(i, j / PANEL)[j % PANEL]
    }

    /// Elements (i, j), (i, j + 1) and so on to the end of the row; of a Gram matrix j must not be below i.
    pub fn row_from(&self, i: usize, j: usize) -> impl Iterator<Item = f64> {
        let pieces = (j / PANEL..self.columns.div_ceil(PANEL)).map(move |panel| self.square_row(i, panel));
        pieces.flatten().copied().skip(j % PANEL).take(self.columns - j)
    }

    fn square_row(&self, i: usize, panel: usize) -> &[f64; PANEL] {
        let above = if self.symmetric { panel * (panel + 1) / 2 } else { panel * self.rows.div_ceil(PANEL) };
        &self.sums[above * PANEL + i].0
    }
}

/// Rows of sums that are whole tiles of either kind.
const WHOLE_TILES: usize = 24;

/// Adds the products of 24 or 48 columns with the first `width` of 48 to `sums` [24 or 48, 48].
fn add_square(left: &[Row<f32>], right: &[Row<f32>], width: usize, sums: &mut [Row<f64>]) {
    #[cfg(target_arch = "x86_64")]
    if super::isa() == super::Isa::Avx512 {
        // SAFETY: `isa()` answers only with sets that the processor was found to have.
        return unsafe { avx512::add_square(left, right, width, sums) };
    }
    add_square_by_small_tiles(left, right, width, sums);
}

per_isa! {
    fn add_square_by_small_tiles(left: &[Row<f32>], right: &[Row<f32>], width: usize, sums: &mut [Row<f64>]) {
        const ROWS: usize = 6;
        const LANES: usize = 16;
        for (sums, i) in sums.chunks_exact_mut(ROWS).zip((0..).step_by(ROWS)) {
            for j in (0..width).step_by(LANES) {
                let mut tile = [[0.0f32; LANES]; ROWS];
                for (left, right) in left.iter().zip(right) {
                    let (left, right) = (&left.0[i..i + ROWS], &right.0[j..j + LANES]);
                    for (row, &l) in tile.iter_mut().zip(left) {
                        for (out, &r) in row.iter_mut().zip(right) {
                            *out = l.mul_add(r, *out);
                        }
                    }
                }
                for (sums, row) in sums.iter_mut().zip(&tile) {
                    for (sum, &term) in sums.0[j..].iter_mut().zip(row) {
                        *sum += f64::from(term);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{PANEL, Row};
    use std::arch::x86_64::*;
    use std::array::from_fn;

    const ROWS: usize = 8;
    const LANES: usize = 16;
    /// How many rows ahead lines are asked for: without, a tenth of the time went by waiting for L2; 8 and 64 gain less.
    const AHEAD: usize = 24;

    /// As [`super::add_square`], eight rows of sums at once.
    #[target_feature(enable = "avx512f,avx512vl")]
    pub(super) fn add_square(left: &[Row<f32>], right: &[Row<f32>], width: usize, sums: &mut [Row<f64>]) {
        match width.div_ceil(LANES) {
            1 => add_columns::<1>(left, right, sums),
            2 => add_columns::<2>(left, right, sums),
            _ => add_columns::<3>(left, right, sums),
        }
    }

    /// `V` times 16 columns.
    #[target_feature(enable = "avx512f,avx512vl")]
    fn add_columns<const V: usize>(left: &[Row<f32>], right: &[Row<f32>], sums: &mut [Row<f64>]) {
        const { assert!(V * LANES <= PANEL) };
        for (sums, i) in sums.chunks_exact_mut(ROWS).zip((0..PANEL).step_by(ROWS)) {
            // They are asked for while the tile is summed up.
            for line in sums.iter().flat_map(|row| row.0[..V * LANES].chunks_exact(8)) {
                _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
            }
            let mut tile = [[_mm512_setzero_ps(); V]; ROWS];
            for (left, right) in left.iter().zip(right) {
                let ahead = |row: &Row<f32>, lane| row.0.as_ptr().wrapping_add(AHEAD * PANEL + lane).cast();
                _mm_prefetch::<_MM_HINT_T0>(ahead(left, i));
                for lane in (0..V * LANES).step_by(LANES) {
                    _mm_prefetch::<_MM_HINT_T0>(ahead(right, lane));
                }
                // SAFETY: a row is aligned to 64 bytes, and V times sixteen are no more than its 48 numbers.
                let right: [__m512; V] = from_fn(|v| unsafe { _mm512_load_ps(right.0.as_ptr().add(v * LANES)) });
                for (tile, &l) in tile.iter_mut().zip(&left.0[i..i + ROWS]) {
                    let l = _mm512_set1_ps(l);
                    for (sum, r) in tile.iter_mut().zip(right) {
                        *sum = _mm512_fmadd_ps(l, r, *sum);
                    }
                }
            }
            for (sums, tile) in sums.iter_mut().zip(&tile) {
                for (sums, tile) in sums.0.chunks_exact_mut(LANES).zip(tile) {
                    let mut terms = [0.0f32; LANES];
                    // SAFETY: sixteen numbers are a register's.
                    unsafe { _mm512_storeu_ps(terms.as_mut_ptr(), *tile) };
                    for (sum, term) in sums.iter_mut().zip(terms) {
                        *sum += f64::from(term);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kernel::test::on_every_isa;

    /// Numbers without pattern in [-1, 1).
    pub(in crate::kernel) fn noise(n: usize, salt: u32) -> Vec<f32> {
        let mut state = salt;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn naive(x: &[f32], p: usize, y: &[f32], q: usize, i: usize, j: usize) -> f64 {
        let rows = x.chunks_exact(p).zip(y.chunks_exact(q));
        f64::from(rows.fold(0.0f32, |sum, (x, y)| x[i].mul_add(y[j], sum)))
    }

    /// Sums of noise that went in before.
    fn begun(mut sums: Products) -> Products {
        sums.sums.iter_mut().flat_map(|row| &mut row.0).for_each(|sum| *sum = 0.25);
        sums
    }

    #[test]
    fn a_gram_matrix_equals_its_naive_twin_on_every_isa() {
        on_every_isa(|isa| {
            for (n, p) in [(0, 0), (0, 3), (1, 1), (2, 6), (3, 48), (7, 49), (31, 40), (5, 72), (4, 73), (129, 101)] {
                let x = noise(n * p, 1);
                let mut sums = begun(Products::gram(p));
                sums.add_gram(&tall(&x, n, p));
                for i in 0..p {
                    assert_eq!(sums.row_from(i, i).count(), p - i);
                    for (j, sum) in (i..).zip(sums.row_from(i, i)) {
                        let expected = 0.25 + naive(&x, p, &x, p, i, j);
                        assert_eq!(sum.to_bits(), expected.to_bits(), "{isa:?} {n} x {p} at {i}, {j}");
                        assert_eq!([sums.at(i, j), sums.at(j, i)], [sum; 2]);
                    }
                }
            }
        });
    }

    #[test]
    fn a_cross_product_equals_its_naive_twin_on_every_isa() {
        on_every_isa(|isa| {
            for (n, p, q) in [(0, 2, 3), (1, 1, 1), (5, 6, 16), (9, 7, 97), (40, 50, 10), (3, 0, 2), (8, 100, 96)] {
                let (x, y) = (noise(n * p, 1), noise(n * q, 2));
                let mut sums = begun(Products::cross(p, q));
                sums.add_cross(&tall(&x, n, p), &tall(&y, n, q));
                for i in 0..p {
                    for (j, sum) in sums.row_from(i, 0).enumerate() {
                        let expected = 0.25 + naive(&x, p, &y, q, i, j);
                        assert_eq!(sum.to_bits(), expected.to_bits(), "{isa:?} {n}: {p} x {q}");
                        assert_eq!(sums.at(i, j), sum);
                    }
                }
            }
        });
    }

    /// `x` [n, p], with the lanes beyond its columns full of NaN.
    fn tall(x: &[f32], n: usize, p: usize) -> Tall {
        let mut tall = Tall::new(p);
        tall.set_rows(n);
        tall.data.iter_mut().for_each(|row| row.0.fill(f32::NAN));
        tall.put(0, p, x);
        tall
    }
}
