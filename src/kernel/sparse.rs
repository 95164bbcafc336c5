//! Sparse matrices of shades, row by row: images that are four fifths background, and a batch of them turned over.
//!
//! Turning a batch over writes each of its 19,000 non-zeros where its column's row ends by then. Four ends are read before
//! one is written: a processor that takes the reading of an end for something that hangs on the writes before it waits for
//! each, and keeps to that once it was wrong: 105 us a batch on a Zen 1 core in that mood and 28 in the other, always 38 by
//! fours, and 28 to 36 with entries of four bytes instead of eight. Rows have more room than they can need, because 784
//! rows that begin a power of two apart meet in a few sets of the first cache. Counting first, to leave no gaps, costs 24 us;
//! going by parts of the rows, so that what is written to stays in the first cache, 8.
//!
//! Left out: non-zeros not turned over at all, but each added to its pixel's gradient in memory, which at h = 10 takes as long
//! as both (64 us a batch, and 34 + 35 by way of the transpose), and longer for wider rows.
//!
//! This file does not know what is multiplied.

use super::compact::{SLACK, compact};
use super::entries::Entry;

/// A sparse matrix, row by row: for each row its non-zeros, ascending by column.
#[derive(Clone, Debug)]
pub struct Sparse {
    columns: usize,
    /// Where each row begins and ends among the entries; between rows there may be gaps. Below `columns` is every column of
    /// an entry that lies in a row; products rely on it.
    spans: Vec<Span>,
    entries: Vec<NonZero>,
}

/// A row's place among the entries.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// Of the same shape, with the same non-zeros.
impl PartialEq for Sparse {
    fn eq(&self, other: &Sparse) -> bool {
        let shape = |x: &Sparse| (x.rows(), x.columns);
        shape(self) == shape(other) && (0..self.rows()).all(|i| self.entries(i) == other.entries(i))
    }
}

/// A non-zero in four bytes: 256 times its column, plus the pixel, of which its value is the 255th part.
///
/// A batch's rows are drawn from all over memory, and it is the pages they lie on that cost. Columns and values in two
/// arrays of four bytes each made fetching a batch two fifths of a step at h = 10.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NonZero(u32);

/// pixel / 255.
static SHADES: [f32; 256] = {
    let mut shades = [0.0; 256];
    let mut pixel = 0;
    while pixel < 256 {
        shades[pixel] = pixel as f32 / 255.0;
        pixel += 1;
    }
    shades
};

impl NonZero {
    /// Columns there may be.
    const COLUMNS: usize = 1 << 24;

    #[inline(always)]
    fn pixel(self) -> u32 {
        self.0 & 255
    }

    /// Of the same value, in another column.
    #[inline(always)]
    fn moved(self, column: u32) -> NonZero {
        NonZero(column << 8 | self.pixel())
    }
}

impl Entry for NonZero {
    #[inline(always)]
    fn column(self) -> usize {
        (self.0 >> 8) as usize
    }

    #[inline(always)]
    fn value(self) -> f32 {
        SHADES[self.pixel() as usize]
    }
}

impl Sparse {
    /// No rows and no columns.
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
    pub(super) fn entries(&self, i: usize) -> &[NonZero] {
        let Span { start, end } = self.spans[i];
        &self.entries[start as usize..end as usize]
    }

    /// The non-zeros of row `i`: their columns, ascending, and their values.
    pub fn row(&self, i: usize) -> impl Iterator<Item = (usize, f32)> {
        self.entries(i).iter().map(|entry| (entry.column(), entry.value()))
    }

    /// No rows yet, of `columns` columns.
    ///
    /// # Panics
    /// If there are more than 2^24 columns.
    pub fn with_columns(columns: usize) -> Sparse {
        assert!(columns <= NonZero::COLUMNS, "more than 2^24 columns");
        Sparse { columns, ..Sparse::empty() }
    }

    /// The non-zeros of `pixels` [n, `columns`], each as pixel / 255.
    ///
    /// # Panics
    /// If `pixels` is not whole rows, `columns` is 0 or above 2^24, or there are 2^32 non-zeros or more.
    pub fn from_pixels(pixels: &[u8], columns: usize) -> Sparse {
        let mut sparse = Sparse::with_columns(columns);
        sparse.append(pixels);
        sparse
    }

    /// Appends the non-zeros of `pixels` [n, columns], each as pixel / 255.
    ///
    /// # Panics
    /// If `pixels` is not whole rows, there are no columns, or there are 2^32 non-zeros or more then.
    pub fn append(&mut self, pixels: &[u8]) {
        assert!(
            pixels.len().is_multiple_of(self.columns),
            "{} pixels are not rows of {}",
            pixels.len(),
            self.columns
        );
        // A row is made where it stays in cache and then copied: what is behind the last entry is not touched before
        // it is needed, and memory costs most when it is first touched.
        let mut words = vec![0; self.columns + SLACK];
        for row in pixels.chunks_exact(self.columns) {
            let count = compact(row, &mut words);
            let start = self.entries.len();
            let end = u32::try_from(start + count).expect("fewer than 2^32 non-zeros");
            self.spans.push(Span { start: start as u32, end });
            self.entries.extend(words[..count].iter().map(|&word| NonZero(word)));
        }
    }

    /// A copy of the first `n` rows, or of all if there are fewer.
    pub fn head(&self, n: usize) -> Sparse {
        let spans = self.spans[..n.min(self.rows())].to_vec();
        let end = spans.last().map_or(0, |span| span.end as usize);
        Sparse { spans, entries: self.entries[..end].to_vec(), ..*self }
    }

    /// Makes `out` the transpose of the rows `chosen`; its rows ascend by their place among them.
    ///
    /// # Panics
    /// If they are more than 2^24 or could have 2^32 non-zeros or more.
    pub fn transpose(&self, chosen: &[u32], out: &mut Sparse) {
        /// Entries of a row beyond those it can need; see above.
        const SPREAD: usize = 4;
        assert!(chosen.len() <= NonZero::COLUMNS, "more than 2^24 rows are to be columns");
        let room = chosen.len() + SPREAD;
        let entries =
            self.columns.checked_mul(room).filter(|&entries| u32::try_from(entries).is_ok());
        let entries = entries.expect("fewer than 2^32 non-zeros");
        out.columns = chosen.len();
        out.entries.resize(entries, NonZero::default());
        out.spans.clear();
        let starts = (0..self.columns).map(|c| (c * room) as u32);
        out.spans.extend(starts.map(|start| Span { start, end: start }));
        let (spans, entries) = (out.spans.as_mut_slice(), out.entries.as_mut_slice());
        for (place, &i) in (0..).zip(chosen) {
            let (fours, rest) = self.entries(i as usize).as_chunks::<4>();
            for four in fours {
                // SAFETY: a row's columns are below the matrix's columns, of which each has its span with room for an entry
                // of every row chosen.
                unsafe { turn(four, place, spans, entries) };
            }
            for one in rest {
                // SAFETY: as above.
                unsafe { turn(std::array::from_ref(one), place, spans, entries) };
            }
        }
    }
}

/// Appends neighbouring entries of a row, as the column `place`, to the rows that their columns are, which lie in `out` where
/// `spans` says.
///
/// # Safety
/// The entries' columns must be different ones that have spans, whose ends lie in `out`.
#[inline(always)]
unsafe fn turn<const N: usize>(
    entries: &[NonZero; N],
    place: u32,
    spans: &mut [Span],
    out: &mut [NonZero],
) {
    // SAFETY: the caller has seen to it.
    let ends = entries.map(|entry| unsafe {
        debug_assert!(entry.column() < spans.len());
        spans.get_unchecked(entry.column()).end
    });
    for k in 0..N {
        debug_assert!((ends[k] as usize) < out.len());
        // SAFETY: as above.
        unsafe { *out.get_unchecked_mut(ends[k] as usize) = entries[k].moved(place) };
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

    /// A bit more than half of them zero.
    pub(in crate::kernel) fn pixels(n: usize, columns: usize) -> Vec<u8> {
        let noise = crate::kernel::gram::tests::noise(n * columns, 7);
        noise.iter().map(|&x| if x < 0.1 { 0 } else { (x * 255.0) as u8 }).collect()
    }

    proptest! {
        #[test]
        fn the_transpose_holds_the_rows_chosen_by_its_columns(
            n in 1usize..20,
            d in 1usize..60,
            chosen in prop::collection::vec(0u32..1000, 0..40),
        ) {
            let x = Sparse::from_pixels(&pixels(n, d), d);
            let chosen: Vec<u32> = chosen.into_iter().map(|i| i % n as u32).collect();
            let mut turned = Sparse::empty();
            Sparse::from_pixels(&pixels(3, 50), 50).transpose(&[2, 1], &mut turned); // overwritten
            x.transpose(&chosen, &mut turned);
            prop_assert_eq!((turned.rows(), turned.columns()), (d, chosen.len()));
            for column in 0..d {
                let places = chosen.iter().enumerate();
                let of_this = places.filter_map(|(place, &i)| {
                    let entry = x.row(i as usize).find(|&(c, _)| c == column);
                    entry.map(|(_, value)| (place, value))
                });
                prop_assert!(turned.row(column).eq(of_this));
            }
        }
    }

    #[test]
    fn pixels_become_what_they_are_by_definition() {
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
    fn rows_appended_and_the_first_rows_are_those_of_the_whole() {
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
