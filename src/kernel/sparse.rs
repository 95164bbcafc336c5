//! Sparse matrices, row by row: images, which are four fifths background, activations, half of
//! which are zero, and the transpose of a batch.
//!
//! A transposition appends each non-zero to the row of its column. It reads four row ends before it
//! writes one, since a processor may otherwise predict that each read depends on the write before
//! it. Rows are padded, because 784 rows that start a power of two apart collide in a few sets of
//! L1.
//!
//! A matrix of numbers of which most are not zero is stored whole where the loops for that are
//! faster; see [`Sparse::set_values`].
//!
//! This file does not depend on the other factor of a product. `docs/performance.md` has the
//! measurements.

use super::aligned::Aligned;
use super::compact::{SLACK, compact, compact_values};
use super::entries::{SparseEntry, ValueEntry};
use super::{Isa, isa, per_isa};

/// A sparse matrix: for each row its non-zeros, ascending by column. Its entries are pixels in four
/// bytes, or numbers in eight. A matrix of numbers may be stored whole, see
/// [`Sparse::set_values`].
///
/// Equal are matrices of equal shape with equal non-zeros, stored alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse(pub(super) Matrix);

/// A sparse matrix, by the kind of its entries.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Matrix {
    Pixels(Rows<PixelEntry>),
    Values(Rows<ValueEntry>),
}

/// Evaluates `$body` with `$rows` bound to the [`Rows`] of `$sparse`, compiled for each kind of
/// entry.
macro_rules! by_entry {
    ($sparse:expr, $rows:ident => $body:expr) => {
        match $sparse {
            Sparse(Matrix::Pixels($rows)) => $body,
            Sparse(Matrix::Values($rows)) => $body,
        }
    };
}
pub(super) use by_entry;

/// The rows of a sparse matrix with one kind of entries.
#[derive(Clone, Debug)]
pub(super) struct Rows<E> {
    columns: usize,
    /// The extent of each row among the entries; there may be gaps between rows. Every column of an
    /// entry in a row is below `columns`, which the products rely on.
    spans: Vec<Span>,
    entries: Vec<E>,
    /// All numbers [rows, columns], zeros included, of a matrix that is stored whole; its spans are
    /// empty.
    dense: Aligned,
}

/// The extent of a row among the entries.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// Equal shape and equal numbers, stored alike.
impl<E: SparseEntry> PartialEq for Rows<E> {
    fn eq(&self, other: &Rows<E>) -> bool {
        let shape = |x: &Rows<E>| (x.len(), x.columns);
        shape(self) == shape(other)
            && self.dense == other.dense
            && (0..self.len()).all(|i| self.entries(i) == other.entries(i))
    }
}

/// A non-zero in four bytes: 256 times its column, plus the pixel, whose value is pixel / 255.
///
/// One array of small entries instead of two: the rows of a batch are drawn from all of memory, and
/// the number of pages that they touch dominates the cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PixelEntry(u32);

/// pixel / 255.
static PIXEL_VALUES: [f32; 256] = {
    let mut shades = [0.0; 256];
    let mut pixel = 0;
    while pixel < 256 {
        shades[pixel] = pixel as f32 / 255.0;
        pixel += 1;
    }
    shades
};

/// The largest number of columns.
const COLUMNS: usize = 1 << 24;

impl PixelEntry {
    #[inline(always)]
    fn pixel(self) -> u32 {
        self.0 & 255
    }
}

impl SparseEntry for PixelEntry {
    #[inline(always)]
    fn column(self) -> usize {
        (self.0 >> 8) as usize
    }

    #[inline(always)]
    fn value(self) -> f32 {
        PIXEL_VALUES[self.pixel() as usize]
    }

    #[inline(always)]
    fn in_column(self, column: u32) -> PixelEntry {
        PixelEntry(column << 8 | self.pixel())
    }
}

impl Sparse {
    /// A matrix without rows and columns.
    pub fn empty() -> Sparse {
        Sparse::with_columns(0)
    }

    /// A matrix without rows, of `columns` columns. What is appended first decides the kind of its
    /// entries.
    ///
    /// # Panics
    /// If there are more than 2^24 columns.
    pub fn with_columns(columns: usize) -> Sparse {
        Sparse(Matrix::Pixels(Rows::with_columns(columns)))
    }

    /// The non-zeros of `pixels` [n, `columns`], each as pixel / 255.
    ///
    /// # Panics
    /// If `pixels` is not whole rows, `columns` is 0 or above 2^24, or there are 2^32 non-zeros or
    /// more.
    pub fn from_pixels(pixels: &[u8], columns: usize) -> Sparse {
        let mut sparse = Sparse::with_columns(columns);
        sparse.append(pixels);
        sparse
    }

    /// The non-zeros of `values` [n, `columns`]. -0 is a zero, NaN is not.
    ///
    /// # Panics
    /// As [`Sparse::from_pixels`].
    pub fn from_values(values: &[f32], columns: usize) -> Sparse {
        let mut sparse = Sparse::with_columns(columns);
        sparse.append_values(values);
        sparse
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        by_entry!(self, rows => rows.len())
    }

    /// Number of columns, zeros included.
    pub fn columns(&self) -> usize {
        by_entry!(self, rows => rows.columns())
    }

    /// The non-zeros of row `i`: their columns, ascending, and their values.
    pub fn row(&self, i: usize) -> impl Iterator<Item = (usize, f32)> {
        let (pixels, values, numbers): (&[PixelEntry], &[ValueEntry], &[f32]) = match &self.0 {
            Matrix::Pixels(rows) => (rows.entries(i), &[], &[]),
            Matrix::Values(rows) if rows.is_dense() => (&[], &[], rows.dense_row(i)),
            Matrix::Values(rows) => (&[], rows.entries(i), &[]),
        };
        let pixels = pixels.iter().map(|entry| (entry.column(), entry.value()));
        let values = values.iter().map(|entry| (entry.column(), entry.value()));
        let numbers = numbers.iter().copied().enumerate().filter(|&(_, x)| x != 0.0);
        pixels.chain(values).chain(numbers)
    }

    /// Appends the non-zeros of `pixels` [n, columns], each as pixel / 255.
    ///
    /// # Panics
    /// If `pixels` is not whole rows, there are no columns, the matrix would have 2^32 non-zeros or
    /// more, or its entries are numbers.
    pub fn append(&mut self, pixels: &[u8]) {
        let Sparse(Matrix::Pixels(rows)) = self else { panic!("pixels in a matrix of numbers") };
        rows.append(pixels, |row, words: &mut Vec<u32>, entries| {
            words.resize(row.len() + SLACK, 0);
            let count = compact(row, words);
            entries.extend(words[..count].iter().map(|&word| PixelEntry(word)));
        });
    }

    /// Appends the non-zeros of `values` [n, columns]. -0 is a zero, NaN is not.
    ///
    /// # Panics
    /// If `values` is not whole rows, there are no columns, the matrix would have 2^32 non-zeros or
    /// more, or it has rows of pixels or is stored whole.
    pub fn append_values(&mut self, values: &[f32]) {
        if self.rows() == 0 {
            self.values_mut(self.columns());
        }
        let Sparse(Matrix::Values(rows)) = self else { panic!("numbers in a matrix of pixels") };
        assert!(!rows.is_dense(), "the matrix is stored whole");
        rows.append(values, |row, found: &mut Vec<ValueEntry>, entries| {
            found.resize(row.len() + SLACK, ValueEntry::default());
            let count = compact_values(row, found);
            entries.extend_from_slice(&found[..count]);
        });
    }

    /// Sets the matrix to the first `columns` columns of `values` [n, stride]. As
    /// [`Sparse::from_values`], without new memory. If most numbers are not zero, and products that
    /// do not skip the others are faster on this processor, it is stored whole; products have the
    /// same bits as long as the other factor is finite.
    ///
    /// # Panics
    /// As [`Sparse::from_values`], and if `columns` exceeds `stride`.
    pub fn set_values(&mut self, values: &[f32], stride: usize, columns: usize) {
        assert!(columns <= stride && values.len().is_multiple_of(stride), "not [n, {stride}]");
        let rows = self.values_mut(columns);
        let n = values.len() / stride;
        if is_mostly_non_zero(values, n * columns) {
            rows.spans.resize(n, Span { start: 0, end: 0 });
            rows.dense.resize(n * columns);
            let dense = rows.dense.chunks_exact_mut(columns);
            for (dense, row) in dense.zip(values.chunks_exact(stride)) {
                dense.copy_from_slice(&row[..columns]);
            }
            return;
        }
        let most = n * columns + SLACK;
        assert!(u32::try_from(most).is_ok(), "not fewer than 2^32 non-zeros");
        if rows.entries.len() < most {
            rows.entries.resize(most, ValueEntry::default());
        }
        for (row, start) in values.chunks_exact(stride).zip((0..).step_by(columns)) {
            let count = compact_values(&row[..columns], &mut rows.entries[start..]);
            rows.spans.push(Span { start: start as u32, end: (start + count) as u32 });
        }
    }

    /// The rows of a matrix of numbers, with `columns` and none of its rows.
    fn values_mut(&mut self, columns: usize) -> &mut Rows<ValueEntry> {
        if matches!(self.0, Matrix::Pixels(_)) {
            self.0 = Matrix::Values(Rows::with_columns(columns));
        }
        let Matrix::Values(rows) = &mut self.0 else { unreachable!("BUG: set above") };
        assert!(columns <= COLUMNS, "more than 2^24 columns");
        rows.columns = columns;
        rows.spans.clear();
        rows.dense.resize(0);
        rows
    }

    /// A copy of the first `n` rows, or of all if there are fewer.
    pub fn head(&self, n: usize) -> Sparse {
        Sparse(match &self.0 {
            Matrix::Pixels(rows) => Matrix::Pixels(rows.head(n)),
            Matrix::Values(rows) => Matrix::Values(rows.head(n)),
        })
    }

    /// Makes `out` the transpose of the rows `chosen`, in their order.
    ///
    /// # Panics
    /// If there are more than 2^24 of them, or they could have 2^32 non-zeros or more.
    pub fn transpose(&self, chosen: &[u32], out: &mut Sparse) {
        match (&self.0, &mut out.0) {
            (Matrix::Pixels(rows), Matrix::Pixels(out)) => rows.transpose(chosen, out),
            (Matrix::Values(rows), Matrix::Values(out)) => rows.transpose(chosen, out),
            (Matrix::Pixels(_), _) => {
                *out = Sparse::empty();
                self.transpose(chosen, out);
            }
            (Matrix::Values(_), _) => {
                out.values_mut(0);
                self.transpose(chosen, out);
            }
        }
    }
}

impl<E: SparseEntry> Rows<E> {
    fn with_columns(columns: usize) -> Rows<E> {
        assert!(columns <= COLUMNS, "more than 2^24 columns");
        Rows { columns, spans: Vec::new(), entries: Vec::new(), dense: Aligned::default() }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Number of columns, zeros included.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    pub(super) fn entries(&self, i: usize) -> &[E] {
        let Span { start, end } = self.spans[i];
        &self.entries[start as usize..end as usize]
    }

    /// Whether the matrix is stored whole.
    #[inline(always)]
    pub(super) fn is_dense(&self) -> bool {
        !self.dense.is_empty()
    }

    /// All numbers of row `i` of a matrix that is stored whole.
    #[inline(always)]
    pub(super) fn dense_row(&self, i: usize) -> &[f32] {
        &self.dense[i * self.columns..][..self.columns]
    }

    /// Appends rows of `numbers` [n, columns]; `compacted` appends the non-zeros of one row, which
    /// it builds in its second argument.
    fn append<T, W: Default>(
        &mut self,
        numbers: &[T],
        compacted: impl Fn(&[T], &mut W, &mut Vec<E>),
    ) {
        assert!(
            numbers.len().is_multiple_of(self.columns),
            "{} numbers are not rows of {}",
            numbers.len(),
            self.columns
        );
        // Each row is built in cache and then copied, so that memory behind the last entry is not
        // touched before it is needed.
        let mut row_in_cache = W::default();
        for row in numbers.chunks_exact(self.columns) {
            let start = self.entries.len() as u32;
            compacted(row, &mut row_in_cache, &mut self.entries);
            let end = u32::try_from(self.entries.len()).expect("fewer than 2^32 non-zeros");
            self.spans.push(Span { start, end });
        }
    }

    fn head(&self, n: usize) -> Rows<E> {
        let spans = self.spans[..n.min(self.len())].to_vec();
        let end = spans.last().map_or(0, |span| span.end as usize);
        let mut dense = self.dense.clone();
        dense.resize(if self.is_dense() { spans.len() * self.columns } else { 0 });
        Rows { columns: self.columns, spans, entries: self.entries[..end].to_vec(), dense }
    }

    /// See [`Sparse::transpose`].
    fn transpose(&self, chosen: &[u32], out: &mut Rows<E>) {
        /// Entries of a row beyond the largest possible number; see above.
        const SPREAD: usize = 4;
        assert!(chosen.len() <= COLUMNS, "more than 2^24 rows would become columns");
        let capacity = chosen.len() + SPREAD;
        let entries =
            self.columns.checked_mul(capacity).filter(|&entries| u32::try_from(entries).is_ok());
        let entries = entries.expect("fewer than 2^32 non-zeros");
        out.columns = chosen.len();
        out.entries.resize(entries, E::default());
        out.spans.clear();
        let starts = (0..self.columns).map(|c| (c * capacity) as u32);
        out.spans.extend(starts.map(|start| Span { start, end: start }));
        out.dense.resize(0);
        if self.is_dense() {
            return self.transpose_dense(chosen, &mut out.dense);
        }
        let (spans, entries) = (out.spans.as_mut_slice(), out.entries.as_mut_slice());
        for (column, &i) in (0..).zip(chosen) {
            let (fours, rest) = self.entries(i as usize).as_chunks::<4>();
            for four in fours {
                // SAFETY: a row's columns are below the matrix's columns; each of these has a span
                // with room for an entry of every chosen row.
                unsafe { scatter(four, column, spans, entries) };
            }
            for one in rest {
                // SAFETY: as above.
                unsafe { scatter(std::array::from_ref(one), column, spans, entries) };
            }
        }
    }

    /// Makes `out` the transpose of the dense rows `chosen`.
    fn transpose_dense(&self, chosen: &[u32], out: &mut Aligned) {
        /// Rows that are read together, so that what is written is neighbouring.
        const RUN: usize = 8;
        out.resize(self.columns * chosen.len());
        for (run, first) in chosen.chunks(RUN).zip((0..).step_by(RUN)) {
            let mut rows = [&self.dense[..0]; RUN];
            for (row, &i) in rows.iter_mut().zip(run) {
                *row = self.dense_row(i as usize);
            }
            for (c, out) in out.chunks_exact_mut(chosen.len()).enumerate() {
                for (out, row) in out[first..].iter_mut().zip(&rows[..run.len()]) {
                    *out = row[c];
                }
            }
        }
    }
}

/// Whether more than half of `size` numbers are not zero, and the registers of AVX-512 hold the
/// tiles of a product that does not skip them.
fn is_mostly_non_zero(values: &[f32], size: usize) -> bool {
    let mut non_zeros = 0;
    if isa() == Isa::Avx512 {
        count_non_zeros(values, &mut non_zeros);
    }
    2 * non_zeros > size
}

per_isa! {
    fn count_non_zeros(values: &[f32], count: &mut usize) {
        *count = values.iter().map(|&x| u32::from(x != 0.0)).sum::<u32>() as usize;
    }
}

/// Appends neighbouring entries of a row, as the column `column`, to the rows in `out` that their
/// columns name; `spans` locates these.
///
/// # Safety
/// The entries' columns must be different ones that have spans, whose ends are within `out`.
#[inline(always)]
unsafe fn scatter<E: SparseEntry, const N: usize>(
    entries: &[E; N],
    column: u32,
    spans: &mut [Span],
    out: &mut [E],
) {
    // SAFETY: guaranteed by the caller.
    let ends = entries.map(|entry| unsafe {
        debug_assert!(entry.column() < spans.len());
        spans.get_unchecked(entry.column()).end
    });
    for k in 0..N {
        debug_assert!((ends[k] as usize) < out.len());
        // SAFETY: as above.
        unsafe { *out.get_unchecked_mut(ends[k] as usize) = entries[k].in_column(column) };
    }
    for k in 0..N {
        // SAFETY: as above.
        unsafe { spans.get_unchecked_mut(entries[k].column()).end = ends[k] + 1 };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pixels, a bit more than half of them zero.
    pub(in crate::kernel) fn pixels(n: usize, columns: usize) -> Vec<u8> {
        let noise = crate::kernel::gram::tests::noise(n * columns, 7);
        noise.iter().map(|&x| if x < 0.1 { 0 } else { (x * 255.0) as u8 }).collect()
    }

    proptest! {
        #[test]
        fn the_columns_of_the_transpose_are_the_chosen_rows(
            n in 1usize..20,
            d in 1usize..60,
            chosen in prop::collection::vec(0u32..1000, 0..40),
        ) {
            let (bytes, x) = (pixels(n, d), Sparse::from_pixels(&pixels(n, d), d));
            let values: Vec<f32> = bytes.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
            let floats = Sparse::from_values(&values, d);
            let chosen: Vec<u32> = chosen.into_iter().map(|i| i % n as u32).collect();
            let mut transposed = Sparse::empty();
            // Previous content.
            Sparse::from_pixels(&pixels(3, 50), 50).transpose(&[2, 1], &mut transposed);
            x.transpose(&chosen, &mut transposed);
            prop_assert_eq!((transposed.rows(), transposed.columns()), (d, chosen.len()));
            for column in 0..d {
                let places = chosen.iter().enumerate();
                let of_this = places.filter_map(|(place, &i)| {
                    let entry = x.row(i as usize).find(|&(c, _)| c == column);
                    entry.map(|(_, value)| (place, value))
                });
                prop_assert!(transposed.row(column).eq(of_this));
            }
            let mut transposed_floats = transposed.clone();
            for _ in 0..2 {
                floats.transpose(&chosen, &mut transposed_floats);
                let rows = |x: &Sparse| (0..d).map(|i| x.row(i).collect()).collect::<Vec<Vec<_>>>();
                prop_assert_eq!(rows(&transposed_floats), rows(&transposed));
            }
        }
    }

    #[test]
    fn the_non_zeros_are_the_pixels_over_255() {
        for (n, d) in [(0, 1), (1, 1), (3, 7), (2, 8), (5, 9), (2, 161), (4, 784)] {
            for pixels in [pixels(n, d), vec![0; n * d], vec![255; n * d]] {
                let x = Sparse::from_pixels(&pixels, d);
                assert_eq!((x.rows(), x.columns()), (n, d));
                for (i, row) in pixels.chunks(d).enumerate() {
                    let kept = (0..).zip(row).filter(|&(_, &pixel)| pixel != 0);
                    assert!(
                        x.row(i).eq(kept.map(|(c, &p)| (c, f32::from(p) / 255.0))),
                        "row {i} of {n} x {d}"
                    );
                }
            }
        }
    }

    #[test]
    fn appending_and_head_agree_with_the_whole_matrix() {
        let (pixels, d) = (pixels(9, 330), 330);
        let values: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel) / 7.0).collect();
        let wholes = [Sparse::from_pixels(&pixels, d), Sparse::from_values(&values, d)];
        for n in [0, 1, 4, 9] {
            let mut pieces =
                [&pixels[..n * d]].map(|pixels| Sparse::from_pixels(pixels, d)).to_vec();
            pieces.push(Sparse::from_values(&values[..n * d], d));
            assert_eq!(wholes.each_ref().map(|whole| whole.head(n)), pieces[..]);
            pieces[0].append(&pixels[n * d..]);
            pieces[1].append_values(&values[n * d..]);
            assert_eq!(pieces, wholes);
        }
        assert_eq!(wholes.each_ref().map(|whole| whole.head(10)), wholes);
    }

    #[test]
    fn the_non_zeros_of_floats_are_kept_to_the_bit() {
        let values = [0.0, 0.1, -0.0, 1e-40, f32::NAN, 1.0, 0.0, -2.5];
        let mut x = Sparse::from_pixels(&pixels(3, 5), 5);
        for (stride, columns) in [(8, 8), (4, 4), (4, 3), (8, 5)] {
            x.set_values(&values, stride, columns);
            assert_eq!((x.rows(), x.columns()), (8 / stride, columns));
            for (i, row) in values.chunks(stride).enumerate() {
                let kept = row[..columns].iter().enumerate().filter(|(_, x)| **x != 0.0);
                let kept: Vec<_> = kept.map(|(c, x)| (c, x.to_bits())).collect();
                let found: Vec<_> = x.row(i).map(|(c, x)| (c, x.to_bits())).collect();
                assert_eq!(found, kept);
            }
        }
    }

    #[test]
    #[should_panic(expected = "numbers in a matrix of pixels")]
    fn numbers_are_not_appended_to_pixels() {
        Sparse::from_pixels(&[1], 1).append_values(&[0.5]);
    }

    #[test]
    fn only_the_non_zeros_are_kept_ascending() {
        let x = Sparse::from_pixels(&[0, 255, 0, 51, 0, 0, 0, 0], 4);
        assert!(x.row(0).eq([(1, 1.0), (3, 0.2)]));
        assert_eq!(x.row(1).next(), None);
        assert_eq!((x.rows(), x.columns()), (2, 4));
    }
}
