//! Sparse matrices of pixels, row by row: images, which are four fifths background, and the
//! transpose of a batch.
//!
//! A transposition appends each non-zero to the row of its column. It reads four row ends before it
//! writes one, since a processor may otherwise predict that each read depends on the write before
//! it. Rows are padded, because 784 rows that start a power of two apart collide in a few sets of
//! L1.
//!
//! This file does not depend on the other factor of a product. `docs/performance.md` has the
//! measurements.

use super::compact::{SLACK, compact};
use super::entries::SparseEntry;

/// A sparse matrix: for each row its non-zeros, ascending by column.
#[derive(Clone, Debug)]
pub struct Sparse {
    columns: usize,
    /// The extent of each row among the entries; there may be gaps between rows. Every column of an
    /// entry in a row is below `columns`, which the products rely on.
    spans: Vec<Span>,
    entries: Vec<PixelEntry>,
}

/// The extent of a row among the entries.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// Equal shape and equal non-zeros.
impl PartialEq for Sparse {
    fn eq(&self, other: &Sparse) -> bool {
        let shape = |x: &Sparse| (x.rows(), x.columns);
        shape(self) == shape(other) && (0..self.rows()).all(|i| self.entries(i) == other.entries(i))
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

impl PixelEntry {
    /// The largest number of columns.
    const COLUMNS: usize = 1 << 24;

    #[inline(always)]
    fn pixel(self) -> u32 {
        self.0 & 255
    }

    /// The same value in another column.
    #[inline(always)]
    fn in_column(self, column: u32) -> PixelEntry {
        PixelEntry(column << 8 | self.pixel())
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
}

impl Sparse {
    /// A matrix without rows and columns.
    pub fn empty() -> Sparse {
        Sparse { columns: 0, spans: Vec::new(), entries: Vec::new() }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.spans.len()
    }

    /// Number of columns, zeros included.
    pub fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    pub(super) fn entries(&self, i: usize) -> &[PixelEntry] {
        let Span { start, end } = self.spans[i];
        &self.entries[start as usize..end as usize]
    }

    /// The non-zeros of row `i`: their columns, ascending, and their values.
    pub fn row(&self, i: usize) -> impl Iterator<Item = (usize, f32)> {
        self.entries(i).iter().map(|entry| (entry.column(), entry.value()))
    }

    /// A matrix without rows, of `columns` columns.
    ///
    /// # Panics
    /// If there are more than 2^24 columns.
    pub fn with_columns(columns: usize) -> Sparse {
        assert!(columns <= PixelEntry::COLUMNS, "more than 2^24 columns");
        Sparse { columns, ..Sparse::empty() }
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

    /// Appends the non-zeros of `pixels` [n, columns], each as pixel / 255.
    ///
    /// # Panics
    /// If `pixels` is not whole rows, there are no columns, or the matrix would have 2^32 non-zeros
    /// or more.
    pub fn append(&mut self, pixels: &[u8]) {
        assert!(
            pixels.len().is_multiple_of(self.columns),
            "{} pixels are not rows of {}",
            pixels.len(),
            self.columns
        );
        // Each row is built in cache and then copied, so that memory behind the last entry is not
        // touched before it is needed.
        let mut words = vec![0; self.columns + SLACK];
        for row in pixels.chunks_exact(self.columns) {
            let count = compact(row, &mut words);
            let start = self.entries.len();
            let end = u32::try_from(start + count).expect("fewer than 2^32 non-zeros");
            self.spans.push(Span { start: start as u32, end });
            self.entries.extend(words[..count].iter().map(|&word| PixelEntry(word)));
        }
    }

    /// A copy of the first `n` rows, or of all if there are fewer.
    pub fn head(&self, n: usize) -> Sparse {
        let spans = self.spans[..n.min(self.rows())].to_vec();
        let end = spans.last().map_or(0, |span| span.end as usize);
        Sparse { spans, entries: self.entries[..end].to_vec(), ..*self }
    }

    /// Makes `out` the transpose of the rows `chosen`, in their order.
    ///
    /// # Panics
    /// If there are more than 2^24 of them, or they could have 2^32 non-zeros or more.
    pub fn transpose(&self, chosen: &[u32], out: &mut Sparse) {
        /// Entries of a row beyond the largest possible number; see above.
        const SPREAD: usize = 4;
        assert!(chosen.len() <= PixelEntry::COLUMNS, "more than 2^24 rows would become columns");
        let capacity = chosen.len() + SPREAD;
        let entries =
            self.columns.checked_mul(capacity).filter(|&entries| u32::try_from(entries).is_ok());
        let entries = entries.expect("fewer than 2^32 non-zeros");
        out.columns = chosen.len();
        out.entries.resize(entries, PixelEntry::default());
        out.spans.clear();
        let starts = (0..self.columns).map(|c| (c * capacity) as u32);
        out.spans.extend(starts.map(|start| Span { start, end: start }));
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
}

/// Appends neighbouring entries of a row, as the column `column`, to the rows in `out` that their
/// columns name; `spans` locates these.
///
/// # Safety
/// The entries' columns must be different ones that have spans, whose ends are within `out`.
#[inline(always)]
unsafe fn scatter<const N: usize>(
    entries: &[PixelEntry; N],
    column: u32,
    spans: &mut [Span],
    out: &mut [PixelEntry],
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
            let x = Sparse::from_pixels(&pixels(n, d), d);
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
        let whole = Sparse::from_pixels(&pixels, d);
        for n in [0, 1, 4, 9] {
            let mut pieces = Sparse::from_pixels(&pixels[..n * d], d);
            assert_eq!(whole.head(n), pieces);
            pieces.append(&pixels[n * d..]);
            assert_eq!(pieces, whole);
        }
        assert_eq!(whole.head(10), whole);
    }

    #[test]
    fn only_the_non_zeros_are_kept_ascending() {
        let x = Sparse::from_pixels(&[0, 255, 0, 51, 0, 0, 0, 0], 4);
        assert!(x.row(0).eq([(1, 1.0), (3, 0.2)]));
        assert_eq!(x.row(1).next(), None);
        assert_eq!((x.rows(), x.columns()), (2, 4));
    }
}
