//! Sparse rows times a dense matrix: the first layer of a net on images that are four fifths background.
//!
//! The dense matrix lies in [`Panels`]: 64 columns side by side, so that a row of a product is accumulated in registers
//! while the panel stays in cache; images four at once, so that their multiply-adds need not wait for each other. The same
//! product serves both directions of training: forward, the rows are images and the panels hold weights; backward, the
//! rows are pixels (the transposed batch) and the panels hold the gradient of the pre-activations. What becomes of
//! finished rows is up to a `Sink`.
//!
//! Measured on a Zen 4 core, in nanoseconds for 16 multiply-adds, of which its registers allow one in 0.27: 0.76 for one
//! row at a time over panels that begin anywhere (every other load then spans two cache lines), 0.58 over panels that
//! begin at a cache line, 0.39 for four rows at once. Backward one row at a time is best: the rows are short, and what is
//! done with one overlaps with the sums of the next.
//!
//! Left out, as no faster: rows padded and interleaved (SELL-C-sigma, 0.38, but it must be built), intrinsics (0.38),
//! panels of 16 columns that stay in the first cache (0.51) or of 32 (0.44), broadcasts by shuffle instead of by load.
//! Left out, as not worth the reading: the next batch on its way from memory while this one is summed (4 us of a step's 50
//! at h = 10 and of 120 at h = 50).
//!
//! This file does not know what a neuron, a label or an optimiser is.

use super::aligned::Aligned;
use super::compact::{SLACK, compact};
use super::{add, per_isa};
use std::ops::Range;

/// Columns of a full panel: four AVX-512 registers, eight of AVX2.
const PANEL: usize = 64;

/// Images that are projected side by side.
const IMAGES: usize = 4;
/// What the columns of a narrower panel are a multiple of.
const LANES: usize = 16;

/// Columns of the panel that holds what is left of a matrix: 16, 32, 48 or 64.
fn width(left: usize) -> usize {
    left.next_multiple_of(LANES).min(PANEL)
}

fn padded(columns: usize) -> usize {
    columns.next_multiple_of(LANES)
}

/// A sparse matrix of shades, row by row: for each row its non-zeros, ascending by column.
///
/// A non-zero takes four bytes: a batch's rows are drawn from all over memory, and it is the pages they lie on that
/// cost. Columns and values in two arrays of four bytes each made fetching a batch two fifths of a step at h = 10.
#[derive(Clone, Debug)]
pub struct Sparse {
    columns: usize,
    /// Row i holds the entries from `bounds[i].0` up to `bounds[i].1`; between rows there may be gaps.
    bounds: Vec<(u32, u32)>,
    entry: Vec<Entry>,
}

/// Of the same shape, with the same non-zeros.
impl PartialEq for Sparse {
    fn eq(&self, other: &Sparse) -> bool {
        let shape = |x: &Sparse| (x.rows(), x.columns);
        shape(self) == shape(other) && (0..self.rows()).all(|i| self.entries(i) == other.entries(i))
    }
}

/// A non-zero: 256 times its column, plus the pixel, of which its value is the 255th part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Entry(u32);

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

impl Entry {
    /// Columns there may be.
    const COLUMNS: usize = 1 << 24;

    fn new(column: u32, pixel: u8) -> Entry {
        Entry(column << 8 | u32::from(pixel))
    }

    #[inline(always)]
    fn column(self) -> usize {
        (self.0 >> 8) as usize
    }

    #[inline(always)]
    fn value(self) -> f32 {
        SHADES[(self.0 & 255) as usize]
    }
}

impl Sparse {
    /// No rows and no columns.
    pub fn empty() -> Sparse {
        Sparse { columns: 0, bounds: Vec::new(), entry: Vec::new() }
    }

    /// No rows yet, of `columns` columns.
    ///
    /// # Panics
    /// If there are more than 2^24 columns.
    pub fn with_columns(columns: usize) -> Sparse {
        assert!(columns <= Entry::COLUMNS, "more than 2^24 columns");
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
        assert!(pixels.len().is_multiple_of(self.columns), "{} pixels are not rows of {}", pixels.len(), self.columns);
        // A row is made where it stays in cache and then copied: what is behind the last entry is not touched before
        // it is needed, and memory costs most when it is first touched.
        let mut words = vec![0; self.columns + SLACK];
        for row in pixels.chunks_exact(self.columns) {
            let count = compact(row, &mut words);
            let start = self.entry.len() as u32;
            self.entry.extend(words[..count].iter().map(|&word| Entry(word)));
            let end = u32::try_from(self.entry.len()).expect("fewer than 2^32 non-zeros");
            self.bounds.push((start, end));
        }
    }

    /// A copy of the first `n` rows, or of all if there are fewer.
    pub fn head(&self, n: usize) -> Sparse {
        let bounds = self.bounds[..n.min(self.rows())].to_vec();
        let end = bounds.last().map_or(0, |&(_, end)| end as usize);
        Sparse { columns: self.columns, bounds, entry: self.entry[..end].to_vec() }
    }

    /// Makes `out` the transpose of the rows `chosen`; its rows ascend by their place among them.
    ///
    /// # Panics
    /// If more than 2^24 are chosen, or they could have 2^32 non-zeros or more.
    pub fn transpose(&self, chosen: &[u32], out: &mut Sparse) {
        assert!(chosen.len() <= Entry::COLUMNS, "more than 2^24 columns");
        assert!(u32::try_from(self.columns * chosen.len()).is_ok(), "2^32 non-zeros or more");
        let Sparse { columns, bounds, entry } = out;
        *columns = chosen.len();
        // Every row has room for all its columns, so that nothing need be counted first.
        entry.resize(self.columns * chosen.len(), Entry::default());
        bounds.clear();
        bounds.extend((0..self.columns).map(|c| ((c * chosen.len()) as u32, (c * chosen.len()) as u32)));
        for (place, &i) in chosen.iter().enumerate() {
            for from in self.entries(i as usize) {
                let (_, end) = &mut bounds[from.column()];
                entry[*end as usize] = Entry::new(place as u32, from.0 as u8);
                *end += 1;
            }
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.bounds.len()
    }

    /// Number of columns, zeros included.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The non-zeros of row `i`: their columns, ascending, and their values.
    pub fn row(&self, i: usize) -> impl Iterator<Item = (usize, f32)> {
        self.entries(i).iter().map(|entry| (entry.column(), entry.value()))
    }

    #[inline(always)]
    fn entries(&self, i: usize) -> &[Entry] {
        let (start, end) = self.bounds[i];
        &self.entry[start as usize..end as usize]
    }
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
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Columns with the padding, a multiple of 16.
    pub fn padded(&self) -> usize {
        padded(self.columns)
    }

    /// Rows.
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

/// Where a run of finished sums belongs in the product [rows, columns].
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The row, counted from the first one asked for.
    pub row: usize,
    /// The first of the columns.
    pub column: usize,
    /// Where they begin in [`Panels`] of the product's shape.
    pub offset: usize,
}

/// What becomes of the sums of a product, one row of one panel at a time.
pub(crate) trait Sink {
    /// Takes the sums of `W` neighbouring columns, the padding's zeros included.
    fn take<const W: usize>(&mut self, place: Place, sums: &[f32; W]);
}

/// A row of a product: which row of the sparse factor it comes from, and its place among those asked for.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    from: u32,
    to: u32,
}

/// Every row of `x`, in order.
#[inline(always)]
pub(crate) fn all(x: &Sparse) -> Vec<Row> {
    (0..x.rows() as u32).map(|i| Row { from: i, to: i }).collect()
}

/// The rows `from` of `x`, those of like length together, so that neighbours end at about the same time; and sees to it
/// that they are on their way from memory. Without the latter, a step at h = 50 took an eighth longer.
#[inline(always)]
fn by_length(x: &Sparse, from: impl Iterator<Item = u32>) -> Vec<Row> {
    let mut rows: Vec<Row> = from.zip(0..).map(|(from, to)| Row { from, to }).collect();
    rows.sort_unstable_by_key(|row| {
        let (start, end) = x.bounds[row.from as usize];
        (end - start, row.to)
    });
    for row in &rows {
        fetch(x.entries(row.from as usize));
    }
    rows
}

/// Tells the processor that `entries` will be read soon.
#[inline(always)]
fn fetch(entries: &[Entry]) {
    #[cfg(target_arch = "x86_64")]
    for line in entries.chunks(64 / size_of::<Entry>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint about an address; every x86-64 has it, and it changes nothing that can be read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = entries;
}

/// The `rows` of x · w, `N` side by side, each element summed over the non-zeros of its row of `x`, ascending by column.
#[inline(always)]
pub(crate) fn product<const N: usize>(x: &Sparse, rows: &[Row], w: &Panels, sink: &mut impl Sink) {
    assert_eq!(x.columns, w.depth, "the factors do not fit together");
    for column in (0..w.columns).step_by(PANEL) {
        let width = width(w.columns - column);
        let panel = &w.data[column * w.depth..][..width * w.depth];
        match width {
            64 => panel_product::<N, 64>(x, rows, column, panel, sink),
            48 => panel_product::<N, 48>(x, rows, column, panel, sink),
            32 => panel_product::<N, 32>(x, rows, column, panel, sink),
            _ => panel_product::<N, 16>(x, rows, column, panel, sink),
        }
    }
}

#[inline(always)]
fn panel_product<const N: usize, const W: usize>(
    x: &Sparse,
    rows: &[Row],
    column: usize,
    panel: &[f32],
    sink: &mut impl Sink,
) {
    let (panel, _) = panel.as_chunks::<W>();
    let (groups, rest) = rows.as_chunks::<N>();
    let place = |row: &Row| {
        let row = row.to as usize;
        Place { row, column, offset: column * rows.len() + row * W }
    };
    for group in groups {
        let entries = group.each_ref().map(|row| x.entries(row.from as usize));
        for (row, sums) in group.iter().zip(&sums(entries, panel)) {
            sink.take(place(row), sums);
        }
    }
    for row in rest {
        let [sums] = sums([x.entries(row.from as usize)], panel);
        sink.take(place(row), &sums);
    }
}

/// The products of `N` sparse rows and a panel [depth, W].
#[expect(clippy::needless_range_loop, reason = "the rows advance together, and by index they stay in registers")]
#[inline(always)]
fn sums<const N: usize, const W: usize>(rows: [&[Entry]; N], panel: &[[f32; W]]) -> [[f32; W]; N] {
    let mut sums = [[0.0f32; W]; N];
    let shortest = rows.iter().fold(usize::MAX, |shortest, row| shortest.min(row.len()));
    let mut heads = rows;
    for head in &mut heads {
        *head = &head[..shortest];
    }
    for k in 0..shortest {
        for r in 0..N {
            let entry = heads[r][k];
            sums[r] = add(entry.value(), &panel[entry.column()], sums[r]);
        }
    }
    for r in 0..N {
        for &entry in &rows[r][shortest..] {
            sums[r] = add(entry.value(), &panel[entry.column()], sums[r]);
        }
    }
    // Handed out as a copy: sums whose place in memory becomes known are stored there at every addition.
    let mut done = [[0.0f32; W]; N];
    for r in 0..N {
        for lane in 0..W {
            done[r][lane] = sums[r][lane];
        }
    }
    done
}

/// Lays sums out row by row, `stride` apart, and cuts off the padding that reaches beyond.
struct Rows<'a> {
    stride: usize,
    out: &'a mut [f32],
}

impl<'a> Rows<'a> {
    fn of(rows: usize, w: &Panels, out: &'a mut [f32]) -> Rows<'a> {
        let stride = if out.len() == rows * w.padded() { w.padded() } else { w.columns };
        assert_eq!(out.len(), rows * stride, "the output is not [rows, columns]");
        Rows { stride, out }
    }
}

impl Sink for Rows<'_> {
    #[inline(always)]
    fn take<const W: usize>(&mut self, place: Place, sums: &[f32; W]) {
        let out = &mut self.out[place.row * self.stride..][..self.stride][place.column..];
        match out.first_chunk_mut::<W>() {
            Some(whole) => *whole = *sums,
            None => out.copy_from_slice(&sums[..out.len()]),
        }
    }
}

per_isa! {
    /// Pre-activations of images `rows` of `x` under `w`: `out` `[rows, h]` = `x[rows]` · w, row-major.
    ///
    /// `out` may also be `[rows, padded h]`; then the padding's zeros are written too.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn project(x: &Sparse, rows: Range<usize>, w: &Panels, out: &mut [f32]) {
        let sink = &mut Rows::of(rows.len(), w, out);
        product::<IMAGES>(x, &by_length(x, rows.start as u32..rows.end as u32), w, sink);
    }
}

per_isa! {
    /// As [`project`], of the images `chosen`.
    pub fn project_chosen(x: &Sparse, chosen: &[u32], w: &Panels, out: &mut [f32]) {
        let sink = &mut Rows::of(chosen.len(), w, out);
        product::<IMAGES>(x, &by_length(x, chosen.iter().copied()), w, sink);
    }
}

per_isa! {
    /// The transposed product `out` [x's columns, w's columns] = `x[chosen]`ᵀ · w, each element ascending over `chosen`.
    ///
    /// Sums are kept in `out`, not in registers; for a narrow `w` that costs less than transposing `x` and multiplying.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn project_back(x: &Sparse, chosen: &[u32], w: &Panels, out: &mut Panels) {
        let shape = (chosen.len(), x.columns, w.columns);
        assert_eq!(shape, (w.depth, out.depth, out.columns), "the shapes do not fit together");
        out.data.fill(0.0);
        for (column, out) in out.panels_mut() {
            let width = width(w.columns - column);
            let panel = &w.data[column * w.depth..][..width * w.depth];
            match width {
                64 => panel_product_back::<64>(x, chosen, panel, out),
                48 => panel_product_back::<48>(x, chosen, panel, out),
                32 => panel_product_back::<32>(x, chosen, panel, out),
                _ => panel_product_back::<16>(x, chosen, panel, out),
            }
        }
    }
}

#[inline(always)]
fn panel_product_back<const W: usize>(x: &Sparse, chosen: &[u32], panel: &[f32], out: &mut [f32]) {
    let (out, _) = out.as_chunks_mut::<W>();
    for (&i, &w) in chosen.iter().zip(panel.as_chunks::<W>().0) {
        for entry in x.entries(i as usize) {
            let (out, value) = (&mut out[entry.column()], entry.value());
            // Copied out and back in, or LLVM works lane by lane, six times slower.
            let mut sums = *out;
            for lane in 0..W {
                sums[lane] = value.mul_add(w[lane], sums[lane]);
            }
            *out = sums;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::test::on_every_isa;
    use proptest::prelude::*;

    /// Numbers without pattern in [-1, 1], some of them zero.
    fn noise(n: usize, salt: u32) -> Vec<f32> {
        let mut state = salt.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn pixels(n: usize, columns: usize) -> Vec<u8> {
        noise(n * columns, 7).iter().map(|&x| if x < 0.6 { 0 } else { (x * 255.0) as u8 }).collect()
    }

    fn naive(pixels: &[u8], d: usize, rows: Range<usize>, w: &[f32], h: usize) -> Vec<f32> {
        let mut out = Vec::new();
        for i in rows {
            for j in 0..h {
                let mut sum = 0.0f32;
                for c in (0..d).filter(|c| pixels[i * d + c] != 0) {
                    sum = (f32::from(pixels[i * d + c]) / 255.0).mul_add(w[j * d + c], sum);
                }
                out.push(sum);
            }
        }
        out
    }

    #[test]
    fn a_projection_equals_its_naive_twin_bit_for_bit() {
        for (n, d, h) in [(0, 5, 3), (1, 1, 1), (3, 784, 10), (9, 100, 50), (4, 33, 65), (5, 20, 112), (7, 784, 500)] {
            let (pixels, w) = (pixels(n, d), noise(h * d, 3));
            let (x, panels) = (Sparse::from_pixels(&pixels, d), Panels::pack(&w, h, d));
            let rows = n / 3..n;
            let expected = naive(&pixels, d, rows.clone(), &w, h);
            on_every_isa(|isa| {
                let mut out = vec![f32::NAN; rows.len() * h];
                project(&x, rows.clone(), &panels, &mut out);
                assert_eq!(out, expected, "{isa:?}, {n} x {d} x {h}");
                let chosen: Vec<u32> = rows.clone().map(|i| i as u32).rev().collect();
                out.fill(f32::NAN);
                project_chosen(&x, &chosen, &panels, &mut out);
                assert!(out.chunks(h).eq(expected.chunks(h).rev()), "{isa:?}, {n} x {d} x {h}, chosen");
                let mut padded = vec![f32::NAN; rows.len() * panels.padded()];
                project(&x, rows.clone(), &panels, &mut padded);
                for (row, padded) in expected.chunks(h).zip(padded.chunks(panels.padded())) {
                    assert_eq!(row, &padded[..h]);
                    assert!(padded[h..].iter().all(|&x| x == 0.0));
                }
            });
        }
    }

    #[test]
    fn a_product_with_the_transpose_equals_its_naive_twin_bit_for_bit() {
        for (n, d, h) in [(0, 3, 2), (1, 1, 1), (6, 40, 10), (5, 100, 200), (130, 30, 25), (9, 50, 110)] {
            let (pixels, w) = (pixels(n, d), noise(n * h, 3)); // w is [n, h]
            let (x, columns) = (Sparse::from_pixels(&pixels, d), (0..h * n).map(|at| w[at % n * h + at / n]));
            let panels = Panels::pack(&columns.collect::<Vec<f32>>(), h, n);
            let twin = |j: usize, c: usize| {
                let inked = (0..n).filter(|i| pixels[i * d + c] != 0);
                inked.fold(0.0f32, |sum, i| (f32::from(pixels[i * d + c]) / 255.0).mul_add(w[i * h + j], sum))
            };
            let expected: Vec<f32> = (0..h * d).map(|at| twin(at / d, at % d)).collect();
            let all: Vec<u32> = (0..n as u32).collect();
            on_every_isa(|isa| {
                let mut out = Panels::zeros(h, d);
                out.data.fill(f32::NAN);
                project_back(&x, &all, &panels, &mut out);
                assert_eq!(out.unpack(), expected, "{isa:?}, {n} x {d} x {h}");
            });
        }
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(h in 0usize..200, d in 0usize..20) {
            let w = noise(h * d, 5);
            prop_assert_eq!(Panels::pack(&w, h, d).unpack(), w);
        }

        #[test]
        fn the_transpose_holds_the_rows_chosen_and_transposed_again_they_are_back(
            n in 1usize..20,
            d in 1usize..60,
            chosen in prop::collection::vec(0u32..1000, 0..40),
        ) {
            let x = Sparse::from_pixels(&pixels(n, d), d);
            let chosen: Vec<u32> = chosen.into_iter().map(|i| i % n as u32).collect();
            let mut turned = Sparse::from_pixels(&pixels(3, 50), 50); // overwritten
            x.transpose(&chosen, &mut turned);
            prop_assert_eq!((turned.rows(), turned.columns()), (d, chosen.len()));
            let mut again = Sparse::empty();
            turned.transpose(&(0..d as u32).collect::<Vec<_>>(), &mut again);
            prop_assert_eq!((again.rows(), again.columns()), (chosen.len(), d));
            for (row, &i) in chosen.iter().enumerate() {
                prop_assert!(again.row(row).eq(x.row(i as usize)));
            }
        }
    }

    #[test]
    fn pixels_become_what_they_are_by_definition() {
        for (n, d) in [(0, 1), (1, 1), (3, 7), (2, 8), (5, 9), (4, 784)] {
            for pixels in [pixels(n, d), vec![0; n * d], vec![255; n * d]] {
                let x = Sparse::from_pixels(&pixels, d);
                assert_eq!((x.rows(), x.columns()), (n, d));
                for (i, row) in pixels.chunks(d).enumerate() {
                    let kept = (0..).zip(row).filter(|&(_, &pixel)| pixel != 0);
                    assert!(x.row(i).eq(kept.map(|(c, &p)| (c, f32::from(p) / 255.0))), "row {i} of {n} x {d}");
                }
            }
        }
    }

    #[test]
    fn rows_appended_and_the_first_rows_are_those_of_the_whole() {
        let (pixels, d) = (pixels(9, 30), 30);
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
