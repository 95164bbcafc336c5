//! Products of tall matrices, summed over their rows: XᵀX and XᵀY.
//!
//! Two levels of precision: within a block of rows a sum runs in f32, row by row, one accumulator
//! per output; blocks are added up in f64, by adding to the same [`Products`] again. Blocks of at
//! most about a thousand rows keep the rounding of the inner level near 1e-6 of the sum.
//!
//! Both factors are stored in panels of 48 columns, so that one copy of a matrix serves on either
//! side, with rows aligned to cache lines. The sums are stored in squares of 48 x 48. The loop
//! depends on the registers:
//!
//! - **32 of 512 bits** (AVX-512): tiles of 8 x 48 sums in 24 registers. Intrinsics, since LLVM
//!   spills such a tile.
//! - **16 of 256 bits or less**: one column of X after the other, skipping its zeros. Features
//!   after ReLU are 20 to 60 % zeros, and adding zero changes no bit. 128 rows of Y's panel stay in
//!   L1 while all columns of X pass. The columns with the most zeros are best put first.
//!
//! `docs/performance.md` has the measurements and the rejected alternatives.

use super::entries::{ValueEntry, add_entries};
use super::per_isa;
use std::borrow::Borrow;

/// Columns of a panel.
pub(super) const PANEL: usize = 48;

/// A row of a panel, aligned to a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct PanelRow<T>(pub(super) [T; PANEL]);

impl<T> Borrow<[T; PANEL]> for PanelRow<T> {
    fn borrow(&self) -> &[T; PANEL] {
        &self.0
    }
}

/// A tall matrix [n, columns] in panels of 48 columns, each panel [n, 48] contiguous; the padding
/// of the last one is unspecified.
#[derive(Clone, Debug)]
pub struct TallMatrix {
    rows: usize,
    columns: usize,
    data: Vec<PanelRow<f32>>,
}

impl TallMatrix {
    /// A matrix without rows.
    pub fn new(columns: usize) -> TallMatrix {
        TallMatrix { rows: 0, columns, data: Vec::new() }
    }

    /// Packs `x` [n, `columns`].
    ///
    /// # Panics
    /// If `x` is not whole rows.
    pub fn pack(x: &[f32], columns: usize) -> TallMatrix {
        let mut tall = TallMatrix::new(columns);
        tall.set_rows(x.len() / columns.max(1));
        tall.put(0, columns, x);
        tall
    }

    /// Resizes to `rows` rows with unspecified content.
    pub fn set_rows(&mut self, rows: usize) {
        self.rows = rows;
        self.data.resize(rows * self.columns.div_ceil(PANEL), PanelRow([0.0; PANEL]));
    }

    /// Overwrites `count` columns starting at `first` with `x` [n, `count`].
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
    pub(super) fn data_mut(&mut self) -> &mut [PanelRow<f32>] {
        &mut self.data
    }

    fn panel(&self, index: usize) -> &[PanelRow<f32>] {
        &self.data[index * self.rows..][..self.rows]
    }
}

/// Sums over rows: XᵀX, of which only the upper triangle is stored, or the first rows of that, or
/// XᵀY.
#[derive(Clone, Debug)]
pub struct Products {
    rows: usize,
    columns: usize,
    symmetric: bool,
    /// Squares of 48 x 48, column of squares by column of squares; of XᵀX only down to the
    /// diagonal.
    sums: Vec<PanelRow<f64>>,
}

impl Products {
    /// XᵀX [columns, columns] = 0.
    pub fn gram(columns: usize) -> Products {
        Products::gram_rows(columns, columns)
    }

    /// The first `rows` rows of XᵀX = 0: products of a matrix with itself and with the matrix
    /// beside it, as in [F T]ᵀ[F T] without TᵀT.
    ///
    /// # Panics
    /// If there are more rows than columns.
    pub fn gram_rows(rows: usize, columns: usize) -> Products {
        assert!(rows <= columns, "{rows} of {columns} rows");
        let squares = squares_before(columns.div_ceil(PANEL), rows.div_ceil(PANEL));
        Products::zeros(rows, columns, true, squares)
    }

    /// XᵀY [rows, columns] = 0.
    pub fn cross(rows: usize, columns: usize) -> Products {
        Products::zeros(rows, columns, false, rows.div_ceil(PANEL) * columns.div_ceil(PANEL))
    }

    fn zeros(rows: usize, columns: usize, symmetric: bool, squares: usize) -> Products {
        Products { rows, columns, symmetric, sums: vec![PanelRow([0.0; PANEL]); squares * PANEL] }
    }

    /// Adds XᵀX; the previous content of `non_zeros`, the workspace, does not matter.
    ///
    /// If a column has a number that is not finite, neither is its sum of squares; which other sums
    /// are finite depends on the instruction set.
    ///
    /// # Panics
    /// If this is not a Gram matrix, or the number of columns differs.
    pub fn add_gram(&mut self, x: &TallMatrix, non_zeros: &mut SparseColumns) {
        assert!(self.symmetric, "not a Gram matrix");
        self.add(x, x, non_zeros);
    }

    /// Adds XᵀY of finite numbers; the previous content of `non_zeros`, the workspace, does not
    /// matter.
    ///
    /// # Panics
    /// If this is a Gram matrix, the numbers of columns differ, or `x` and `y` differ in height.
    pub fn add_cross(&mut self, x: &TallMatrix, y: &TallMatrix, non_zeros: &mut SparseColumns) {
        assert!(!self.symmetric && x.rows == y.rows, "not a product of columns of equal height");
        self.add(x, y, non_zeros);
    }

    fn add(&mut self, x: &TallMatrix, y: &TallMatrix, non_zeros: &mut SparseColumns) {
        let left = if self.symmetric { self.columns } else { self.rows };
        assert_eq!((x.columns, y.columns), (left, self.columns), "products of other columns");
        #[cfg(target_arch = "x86_64")]
        if super::isa() == super::Isa::Avx512 {
            // SAFETY: `isa()` returns only sets that the processor was found to have.
            return unsafe { avx512::add(self, x, y) };
        }
        non_zeros.find(x, self.rows);
        add_by_non_zeros(non_zeros, y, self);
    }

    /// The squares of each column of squares, from the left.
    fn squares_mut(&mut self) -> impl Iterator<Item = &mut [PanelRow<f64>]> {
        let (all, symmetric) = (self.rows.div_ceil(PANEL), self.symmetric);
        let mut rest = self.sums.as_mut_slice();
        (0..self.columns.div_ceil(PANEL)).map(move |j| {
            let squares = if symmetric { all.min(j + 1) } else { all };
            rest.split_off_mut(..squares * PANEL)
                .expect("BUG: fewer squares than the shape requires")
        })
    }

    /// Element (i, j); of a Gram matrix on either side of the diagonal.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        let (i, j) = if self.symmetric { (i.min(j), i.max(j)) } else { (i, j) };
        let (panel, all) = (j / PANEL, self.rows.div_ceil(PANEL));
        let before = if self.symmetric { squares_before(panel, all) } else { panel * all };
        self.sums[before * PANEL + i].0[j % PANEL]
    }
}

/// The squares of a Gram matrix in the columns of squares before `panel`: down to the diagonal, and
/// at most `all` in each.
fn squares_before(panel: usize, all: usize) -> usize {
    let triangle = panel.min(all);
    triangle * (triangle + 1) / 2 + (panel - triangle) * all
}

per_isa! {
    /// Adds to `sums` `[columns]` the sum of squares of each column of `x` [n, columns], summed in
    /// f32 row by row: the bits of the diagonal of a Gram matrix.
    ///
    /// # Panics
    /// If `x` is not whole rows.
    pub fn add_squares(x: &[f32], sums: &mut [f64]) {
        assert!(x.len().is_multiple_of(sums.len()), "not rows of {}", sums.len());
        let mut block = vec![0.0f32; sums.len()];
        for x in x.chunks_exact(sums.len()) {
            for (sum, &x) in block.iter_mut().zip(x) {
                *sum = x.mul_add(x, *sum);
            }
        }
        for (sum, &term) in sums.iter_mut().zip(&block) {
            *sum += f64::from(term);
        }
    }
}

/// Rows of a panel that are processed at once: 24 KB, which stay in L1.
const PIECE: usize = 128;

/// The non-zeros of a tall matrix, in pieces of 128 rows, column by column within a piece. A
/// workspace that is reused.
#[derive(Clone, Debug, Default)]
pub struct SparseColumns {
    rows: usize,
    columns: usize,
    entries: Vec<ValueEntry>,
    /// The end of each column of each piece among the entries.
    ends: Vec<usize>,
}

impl SparseColumns {
    /// Those of the first `columns` columns of `x`.
    fn find(&mut self, x: &TallMatrix, columns: usize) {
        // One extra entry: the slot after the last non-zero is written as well.
        self.entries.resize(self.entries.len().max(x.rows * columns + 1), ValueEntry::default());
        (self.rows, self.columns) = (x.rows, columns);
        self.ends.clear();
        let mut end = 0;
        for first in (0..x.rows).step_by(PIECE) {
            for column in 0..columns {
                let rows = &x.panel(column / PANEL)[first..x.rows.min(first + PIECE)];
                let found = &mut self.entries[end..][..=rows.len()];
                let mut count = 0;
                for (row, numbers) in (0..).zip(rows) {
                    let value = numbers.0[column % PANEL];
                    found[count] = ValueEntry { column: row, value };
                    count += usize::from(value != 0.0);
                }
                end += count;
                self.ends.push(end);
            }
        }
    }

    #[inline(always)]
    fn of(&self, piece: usize, column: usize) -> &[ValueEntry] {
        let at = piece * self.columns + column;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.entries[start..self.ends[at]]
    }
}

per_isa! {
    /// Adds XᵀY, given the non-zeros of X.
    fn add_by_non_zeros(x: &SparseColumns, y: &TallMatrix, out: &mut Products) {
        assert_eq!(x.rows, y.rows, "factors of different heights");
        let mut sums = vec![PanelRow([0.0f32; PANEL]); x.columns];
        for (j, squares) in out.squares_mut().enumerate() {
            let sums = &mut sums[..x.columns.min(squares.len())];
            sums.fill(PanelRow([0.0; PANEL]));
            for (piece, rows) in y.panel(j).chunks(PIECE).enumerate() {
                for (i, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: X has as many rows as Y, and so has each piece; its entries' rows are
                    // below them.
                    sums.0 = unsafe { add_entries(x.of(piece, i), rows, sums.0) };
                }
            }
            for (squares, sums) in squares.iter_mut().zip(sums) {
                for (sum, &term) in squares.0.iter_mut().zip(&sums.0) {
                    *sum += f64::from(term);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{PANEL, PanelRow, Products, TallMatrix};
    use std::arch::x86_64::*;
    use std::array::from_fn;

    const ROWS: usize = 8;
    const LANES: usize = 16;
    /// How many rows ahead cache lines are prefetched.
    const AHEAD: usize = 24;

    /// Adds XᵀY.
    #[target_feature(enable = "avx512f,avx512vl")]
    pub(super) fn add(out: &mut Products, x: &TallMatrix, y: &TallMatrix) {
        let (rows, columns) = (out.rows, out.columns);
        for (j, squares) in out.squares_mut().enumerate() {
            // The right panel is read once per left panel and stays in L2.
            for (i, square) in squares.chunks_exact_mut(PANEL).enumerate() {
                // Beyond the columns of the last panels, only whole tiles are computed.
                let [height, width] =
                    [rows - i * PANEL, columns - j * PANEL].map(|left| left.min(PANEL));
                let square = &mut square[..height.next_multiple_of(ROWS)];
                add_square(x.panel(i), y.panel(j), width, square);
            }
        }
    }

    /// Adds the products of the first columns of `left`, one per row of `sums` and a multiple of 8,
    /// with the first `width` columns of `right`.
    #[target_feature(enable = "avx512f,avx512vl")]
    fn add_square(
        left: &[PanelRow<f32>],
        right: &[PanelRow<f32>],
        width: usize,
        sums: &mut [PanelRow<f64>],
    ) {
        match width.div_ceil(LANES) {
            1 => add_columns::<1>(left, right, sums),
            2 => add_columns::<2>(left, right, sums),
            _ => add_columns::<3>(left, right, sums),
        }
    }

    /// `V` times 16 columns.
    #[target_feature(enable = "avx512f,avx512vl")]
    fn add_columns<const V: usize>(
        left: &[PanelRow<f32>],
        right: &[PanelRow<f32>],
        sums: &mut [PanelRow<f64>],
    ) {
        const { assert!(V * LANES <= PANEL) };
        for (sums, i) in sums.chunks_exact_mut(ROWS).zip((0..PANEL).step_by(ROWS)) {
            // Prefetched for the addition at the end of the tile.
            for line in sums.iter().flat_map(|row| row.0[..V * LANES].chunks_exact(8)) {
                _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
            }
            let mut tile = [[_mm512_setzero_ps(); V]; ROWS];
            for (left, right) in left.iter().zip(right) {
                let ahead = |row: &PanelRow<f32>, lane| {
                    row.0.as_ptr().wrapping_add(AHEAD * PANEL + lane).cast()
                };
                _mm_prefetch::<_MM_HINT_T0>(ahead(left, i));
                for lane in (0..V * LANES).step_by(LANES) {
                    _mm_prefetch::<_MM_HINT_T0>(ahead(right, lane));
                }
                // SAFETY: a row is aligned to 64 bytes, and V times 16 is at most its 48 numbers.
                let right: [__m512; V] =
                    from_fn(|v| unsafe { _mm512_load_ps(right.0.as_ptr().add(v * LANES)) });
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
                    // SAFETY: a register holds 16 numbers.
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

    /// Reproducible pseudo-random numbers in [-1, 1).
    pub(in crate::kernel) fn noise(n: usize, salt: u32) -> Vec<f32> {
        let mut state = salt;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn reference(x: &[f32], p: usize, y: &[f32], q: usize, i: usize, j: usize) -> f64 {
        let rows = x.chunks_exact(p).zip(y.chunks_exact(q));
        f64::from(rows.fold(0.0f32, |sum, (x, y)| x[i].mul_add(y[j], sum)))
    }

    /// Products that are not zero before the test adds to them.
    fn preset(mut sums: Products) -> Products {
        sums.sums.iter_mut().flat_map(|row| &mut row.0).for_each(|sum| *sum = 0.25);
        sums
    }

    #[test]
    fn a_gram_matrix_equals_its_reference_implementation_on_every_isa() {
        on_every_isa(|isa| {
            let small =
                [(0, 0), (0, 3), (1, 1), (2, 6), (3, 48), (7, 49), (31, 40), (5, 72), (4, 73)];
            for (n, p) in small.into_iter().chain([(129, 101), (PIECE, 5), (2 * PIECE + 3, 60)]) {
                let x = with_zeros(noise(n * p, 1));
                let mut sums = preset(Products::gram(p));
                sums.add_gram(&tall(&x, n, p), &mut used());
                for i in 0..p {
                    for j in i..p {
                        let sum = sums.at(i, j);
                        let expected = 0.25 + reference(&x, p, &x, p, i, j);
                        assert_eq!(
                            sum.to_bits(),
                            expected.to_bits(),
                            "{isa:?} {n} x {p} at {i}, {j}"
                        );
                        assert_eq!(sums.at(j, i), sum);
                    }
                }
            }
        });
    }

    #[test]
    fn a_cross_product_equals_its_reference_implementation_on_every_isa() {
        on_every_isa(|isa| {
            let small = [
                (0, 2, 3),
                (1, 1, 1),
                (5, 6, 16),
                (9, 7, 97),
                (40, 50, 10),
                (3, 0, 2),
                (8, 100, 96),
            ];
            for (n, p, q) in small.into_iter().chain([(PIECE, 3, 2), (2 * PIECE + 1, 10, 50)]) {
                let (x, y) = (with_zeros(noise(n * p, 1)), noise(n * q, 2));
                let mut sums = preset(Products::cross(p, q));
                sums.add_cross(&tall(&x, n, p), &tall(&y, n, q), &mut used());
                for i in 0..p {
                    for j in 0..q {
                        let sum = sums.at(i, j);
                        let expected = 0.25 + reference(&x, p, &y, q, i, j);
                        assert_eq!(sum.to_bits(), expected.to_bits(), "{isa:?} {n}: {p} x {q}");
                    }
                }
            }
        });
    }

    #[test]
    fn the_first_rows_of_a_gram_matrix_have_the_bits_of_the_whole_on_every_isa() {
        on_every_isa(|isa| {
            for (n, rows, p) in
                [(3, 1, 1), (7, 48, 58), (40, 50, 60), (PIECE + 9, 11, 170), (5, 100, 101)]
            {
                let x = with_zeros(noise(n * p, 1));
                let (mut some, mut all) = (Products::gram_rows(rows, p), Products::gram(p));
                let mut squares = vec![0.0; p];
                for _ in 0..2 {
                    some.add_gram(&tall(&x, n, p), &mut used());
                    all.add_gram(&tall(&x, n, p), &mut used());
                    add_squares(&x, &mut squares);
                }
                for (i, square) in squares.iter().enumerate() {
                    assert_eq!(square.to_bits(), all.at(i, i).to_bits(), "{isa:?} {n} x {p}");
                    for j in 0..rows {
                        assert_eq!(some.at(j, i).to_bits(), all.at(j, i).to_bits(), "{isa:?}");
                    }
                }
            }
        });
    }

    /// A third of them zero, of either sign.
    fn with_zeros(mut x: Vec<f32>) -> Vec<f32> {
        x.iter_mut().filter(|x| x.abs() < 0.33).for_each(|x| *x = 0.0f32.copysign(*x));
        x
    }

    /// A workspace with other non-zeros in it.
    fn used() -> SparseColumns {
        let mut non_zeros = SparseColumns::default();
        non_zeros.find(&tall(&noise(PIECE * 70, 9), PIECE, 70), 70);
        non_zeros
    }

    #[test]
    fn a_column_that_is_not_finite_has_no_finite_sum_of_squares_on_every_isa() {
        on_every_isa(|isa| {
            for odd in [f32::NAN, f32::INFINITY] {
                let mut sums = Products::gram(3);
                sums.add_gram(&tall(&[0.0, 1.0, 0.0, 2.0, odd, 0.0], 2, 3), &mut used());
                assert!(!sums.at(1, 1).is_finite() && sums.at(0, 0) == 4.0, "{isa:?} {odd}");
            }
        });
    }

    /// `x` [n, p], with the padding full of NaN.
    fn tall(x: &[f32], n: usize, p: usize) -> TallMatrix {
        let mut tall = TallMatrix::new(p);
        tall.set_rows(n);
        tall.data.iter_mut().for_each(|row| row.0.fill(f32::NAN));
        tall.put(0, p, x);
        tall
    }
}
