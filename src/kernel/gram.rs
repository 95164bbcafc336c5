//! Products of tall matrices, summed over their rows: XᵀX and XᵀY.
//!
//! Two precisions, two levels: inside a block of rows a sum runs in f32, row by row, one accumulator per output; the
//! blocks are added up in f64 by adding to the same [`Products`] again. Blocks of at most about a thousand rows keep the
//! rounding of the inner level near 1e-6 of the sum.
//!
//! Both factors lie in panels of 48 columns, so that one copy of a matrix serves on either side. Rows of panels are aligned to
//! cache lines: where they straddled them, AVX2 lost a fifth. The sums lie in squares of 48 x 48. How they come about hangs
//! on the registers:
//!
//! - **32 of 512 bits** (AVX-512): by tiles of 8 x 48, 24 registers of sums, each added to one piece of memory. At 2010 columns
//!   a Zen 4 core whose peak is 58 G multiply-adds a second does 52.
//! - **16 of 256 bits or less**: one column of X after the other, and of it only what is not zero. Of features after relu two
//!   to six tenths are zeros, and a zero adds nothing, so the bits are the same. At 2010 columns, half of whose numbers are zeros, a Zen 1
//!   core whose peak is 23.5 does the work of 29.6 G multiply-adds a second, a tenth of the time to find the non-zeros; by tiles
//!   of 6 x 16 it did 20.5, whatever the zeros. 128 rows of Y's panel stay in the first cache while all columns of X pass:
//!   by 256 or all 1024, three fifths as fast. Of the factors' columns, those with the most zeros are best put first.
//!
//! Left out: the tile of 8 x 48 in plain Rust, which LLVM keeps in memory (1 G a second); intrinsics without AVX-512VL,
//! where half of the registers cannot be converted from, so that LLVM leaves them alone (31 G); a tile of 12 x 32, for
//! which each factor must be packed in a way of its own, a tenth slower. With AVX2: panels of 64 columns, 8 % faster, but of
//! no use to the tiles; of 96, slower. Skipping zeros with AVX-512 has not been tried.
//!
//! This file does not know that the columns are neurons.

use super::entries::{Entry, add_entries};
use super::per_isa;
use std::borrow::Borrow;

/// Columns of a panel.
pub(super) const PANEL: usize = 48;

/// A row of a panel, aligned to cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Row<T>(pub(super) [T; PANEL]);

impl<T> Borrow<[T; PANEL]> for Row<T> {
    fn borrow(&self) -> &[T; PANEL] {
        &self.0
    }
}

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

    /// Adds XᵀX, if the numbers are finite; what `non_zeros` held makes no difference.
    ///
    /// Of a column with a number that is not finite, the sum of squares is none either; what else then is, hangs on the
    /// instruction set.
    ///
    /// # Panics
    /// If this is not the Gram matrix of as many columns.
    pub fn add_gram(&mut self, x: &Tall, non_zeros: &mut NonZeros) {
        assert!(self.symmetric, "not a Gram matrix");
        self.add(x, x, non_zeros);
    }

    /// Adds XᵀY, if the numbers are finite; what `non_zeros` held makes no difference.
    ///
    /// # Panics
    /// If this is not the product of as many columns with as many, or `x` and `y` are not equally tall.
    pub fn add_cross(&mut self, x: &Tall, y: &Tall, non_zeros: &mut NonZeros) {
        assert!(!self.symmetric && x.rows == y.rows, "not a product of columns of equal height");
        self.add(x, y, non_zeros);
    }

    fn add(&mut self, x: &Tall, y: &Tall, non_zeros: &mut NonZeros) {
        assert_eq!((x.columns, y.columns), (self.rows, self.columns), "products of other columns");
        #[cfg(target_arch = "x86_64")]
        if super::isa() == super::Isa::Avx512 {
            // SAFETY: `isa()` answers only with sets that the processor was found to have.
            return unsafe { avx512::add(self, x, y) };
        }
        non_zeros.find(x);
        add_by_non_zeros(non_zeros, y, self);
    }

    /// The squares of each column of squares, one below the other, from the left.
    fn squares_mut(&mut self) -> impl Iterator<Item = &mut [Row<f64>]> {
        let (all, symmetric) = (self.rows.div_ceil(PANEL), self.symmetric);
        let mut rest = self.sums.as_mut_slice();
        (0..self.columns.div_ceil(PANEL)).map(move |j| {
            let squares = if symmetric { j + 1 } else { all };
            rest.split_off_mut(..squares * PANEL)
                .expect("as many squares as columns of squares take")
        })
    }

    /// Element (i, j); of a Gram matrix on either side of the diagonal.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        let (i, j) = if self.symmetric { (i.min(j), i.max(j)) } else { (i, j) };
        let panel = j / PANEL;
        let above = if self.symmetric {
            panel * (panel + 1) / 2
        } else {
            panel * self.rows.div_ceil(PANEL)
        };
        self.sums[above * PANEL + i].0[j % PANEL]
    }
}

/// Rows of a panel that stay in the first cache: 24 KB of them.
const PIECE: usize = 128;

/// A number that is not zero, or no number, in a column of a tall matrix.
#[derive(Clone, Copy, Debug, Default)]
struct NonZero {
    /// Its row, counted from the first of a piece.
    row: u32,
    value: f32,
}

impl Entry for NonZero {
    #[inline(always)]
    fn column(self) -> usize {
        self.row as usize
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self.value
    }
}

/// The non-zeros of a tall matrix, piece of 128 rows by piece and column by column; to be used again and again.
#[derive(Clone, Debug, Default)]
pub struct NonZeros {
    rows: usize,
    columns: usize,
    entries: Vec<NonZero>,
    /// Where each column of each piece ends among them.
    ends: Vec<usize>,
}

impl NonZeros {
    fn find(&mut self, x: &Tall) {
        // One more, for what follows the last one is written to as well.
        self.entries.resize(self.entries.len().max(x.rows * x.columns + 1), NonZero::default());
        (self.rows, self.columns) = (x.rows, x.columns);
        self.ends.clear();
        let mut end = 0;
        for first in (0..x.rows).step_by(PIECE) {
            for column in 0..x.columns {
                let rows = &x.panel(column / PANEL)[first..x.rows.min(first + PIECE)];
                let found = &mut self.entries[end..][..=rows.len()];
                let mut count = 0;
                for (row, numbers) in (0..).zip(rows) {
                    let value = numbers.0[column % PANEL];
                    found[count] = NonZero { row, value };
                    count += usize::from(value != 0.0);
                }
                end += count;
                self.ends.push(end);
            }
        }
    }

    #[inline(always)]
    fn of(&self, piece: usize, column: usize) -> &[NonZero] {
        let at = piece * self.columns + column;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.entries[start..self.ends[at]]
    }
}

per_isa! {
    /// Adds XᵀY, of whose X these are the non-zeros.
    fn add_by_non_zeros(x: &NonZeros, y: &Tall, out: &mut Products) {
        assert_eq!(x.rows, y.rows, "factors of different heights");
        let mut sums = vec![Row([0.0f32; PANEL]); x.columns];
        for (j, squares) in out.squares_mut().enumerate() {
            let sums = &mut sums[..x.columns.min(squares.len())];
            sums.fill(Row([0.0; PANEL]));
            for (piece, rows) in y.panel(j).chunks(PIECE).enumerate() {
                for (i, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: X has as many rows as Y, and so has each piece, below whose rows its entries' are.
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
    use super::{PANEL, Products, Row, Tall};
    use std::arch::x86_64::*;
    use std::array::from_fn;

    const ROWS: usize = 8;
    const LANES: usize = 16;
    /// How many rows ahead lines are asked for: without, a tenth of the time went by waiting for L2; 8 and 64 gain less.
    const AHEAD: usize = 24;

    /// Adds XᵀY.
    #[target_feature(enable = "avx512f,avx512vl")]
    pub(super) fn add(out: &mut Products, x: &Tall, y: &Tall) {
        let (rows, columns) = (out.rows, out.columns);
        for (j, squares) in out.squares_mut().enumerate() {
            // The right panel, read again and again, stays in L2 while the left ones pass by.
            for (i, square) in squares.chunks_exact_mut(PANEL).enumerate() {
                // Of the last panels, what is beyond the columns is left out as far as tiles go.
                let [height, width] =
                    [rows - i * PANEL, columns - j * PANEL].map(|left| left.min(PANEL));
                let square = &mut square[..height.next_multiple_of(ROWS)];
                add_square(x.panel(i), y.panel(j), width, square);
            }
        }
    }

    /// Adds the products of as many of 48 columns as there are `sums`, a multiple of 8, with the first `width` of 48 to `sums`.
    #[target_feature(enable = "avx512f,avx512vl")]
    fn add_square(left: &[Row<f32>], right: &[Row<f32>], width: usize, sums: &mut [Row<f64>]) {
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
                let ahead =
                    |row: &Row<f32>, lane| row.0.as_ptr().wrapping_add(AHEAD * PANEL + lane).cast();
                _mm_prefetch::<_MM_HINT_T0>(ahead(left, i));
                for lane in (0..V * LANES).step_by(LANES) {
                    _mm_prefetch::<_MM_HINT_T0>(ahead(right, lane));
                }
                // SAFETY: a row is aligned to 64 bytes, and V times sixteen are no more than its 48 numbers.
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
            let small =
                [(0, 0), (0, 3), (1, 1), (2, 6), (3, 48), (7, 49), (31, 40), (5, 72), (4, 73)];
            for (n, p) in small.into_iter().chain([(129, 101), (PIECE, 5), (2 * PIECE + 3, 60)]) {
                let x = with_zeros(noise(n * p, 1));
                let mut sums = begun(Products::gram(p));
                sums.add_gram(&tall(&x, n, p), &mut used());
                for i in 0..p {
                    for j in i..p {
                        let sum = sums.at(i, j);
                        let expected = 0.25 + naive(&x, p, &x, p, i, j);
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
    fn a_cross_product_equals_its_naive_twin_on_every_isa() {
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
                let mut sums = begun(Products::cross(p, q));
                sums.add_cross(&tall(&x, n, p), &tall(&y, n, q), &mut used());
                for i in 0..p {
                    for j in 0..q {
                        let sum = sums.at(i, j);
                        let expected = 0.25 + naive(&x, p, &y, q, i, j);
                        assert_eq!(sum.to_bits(), expected.to_bits(), "{isa:?} {n}: {p} x {q}");
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

    /// Room that held other non-zeros before.
    fn used() -> NonZeros {
        let mut non_zeros = NonZeros::default();
        non_zeros.find(&tall(&noise(PIECE * 70, 9), PIECE, 70));
        non_zeros
    }

    #[test]
    fn of_a_column_that_is_not_finite_the_sum_of_squares_is_none_on_every_isa() {
        on_every_isa(|isa| {
            for odd in [f32::NAN, f32::INFINITY] {
                let mut sums = Products::gram(3);
                sums.add_gram(&tall(&[0.0, 1.0, 0.0, 2.0, odd, 0.0], 2, 3), &mut used());
                assert!(!sums.at(1, 1).is_finite() && sums.at(0, 0) == 4.0, "{isa:?} {odd}");
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
