//! Products of a sparse matrix and a dense one: the first layer of a net, forward and backward.
//!
//! The dense matrix is stored in [`Panels`] of 64 columns, so that a row of a product is
//! accumulated in registers. The same product serves both directions of training: forward, the rows
//! are images and the panels hold weights; backward, the rows are pixels (the transposed batch) and
//! the panels hold the gradient of the pre-activations. A `Sink` receives the finished rows.
//!
//! A panel of weights takes 200 KB and exceeds L1. The loop that hides its latency depends on the
//! registers:
//!
//! - **32 of 512 bits** (AVX-512) hold the sums of four images at once, so that their multiply-adds
//!   wait neither for each other nor for L2. Backward, rows are short, and one at a time is as
//!   fast.
//! - **16 of 256 bits or less** hold the sums of one row, or of two in a narrow panel; `entries`
//!   reads entries ahead of their use.
//!
//! `docs/performance.md` has the measurements and the rejected alternatives.

use super::aligned::Aligned;
use super::dense::rectified;
use super::entries::{SparseEntry, add_entries, term};
use super::sparse::{Matrix, Rows, Sparse, by_entry};
use super::{Isa, add, isa, per_isa};
use std::ops::Range;

/// Columns of a full panel: four AVX-512 registers, eight of AVX2.
const PANEL: usize = 64;
/// The width of a narrower panel is a multiple of this.
const LANES: usize = 8;
/// The widest panel for which 16 registers hold the sums of two rows.
const NARROW: usize = 32;

/// Width of the panel for the `left` last columns: a multiple of 8 up to 64.
fn width(left: usize) -> usize {
    padded(left).min(PANEL)
}

fn padded(columns: usize) -> usize {
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
        let depth = self.columns;
        for (column, width, panel) in self.panels() {
            for first in (0..rows).step_by(LANES) {
                let from = &panel[first * width..];
                let lanes = (rows - first).min(LANES);
                let at = out.position(column, first);
                let to_width = self::width(rows - (first - first % PANEL));
                let to = &mut out.data[at..];
                for j in 0..width.min(depth - column) {
                    for i in 0..lanes {
                        to[j * to_width + i] = from[i * width + j];
                    }
                }
            }
        }
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
    fn panels(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
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

/// Evaluates `$body` with `$w` as a constant equal to `$width`.
macro_rules! by_width {
    ($width:expr, $w:ident => $body:expr) => {
        match $width {
            64 => by_width!(@$w = 64, $body),
            56 => by_width!(@$w = 56, $body),
            48 => by_width!(@$w = 48, $body),
            40 => by_width!(@$w = 40, $body),
            32 => by_width!(@$w = 32, $body),
            24 => by_width!(@$w = 24, $body),
            16 => by_width!(@$w = 16, $body),
            _ => by_width!(@$w = 8, $body),
        }
    };
    (@$w:ident = $columns:literal, $body:expr) => {{
        const $w: usize = $columns;
        $body
    }};
}

/// The position of a run of finished sums in the product [rows, columns].
#[derive(Clone, Copy)]
pub(super) struct Position {
    /// The row, counted from the first requested one.
    pub(super) row: usize,
    /// The first column.
    column: usize,
}

/// Receives the sums of a product, one row of one panel at a time.
pub(super) trait Sink {
    /// Receives the sums of `W` neighbouring columns, the padding's zeros included.
    fn take<const W: usize>(&mut self, position: Position, sums: [f32; W]);
}

/// A row of a product: the row of the sparse factor, and its index among the requested ones.
#[derive(Clone, Copy)]
struct RowMap {
    from: u32,
    to: u32,
}

/// Every row of `x`, in order.
#[inline(always)]
fn all<E: SparseEntry>(x: &Rows<E>) -> Vec<RowMap> {
    (0..x.len() as u32).map(|i| RowMap { from: i, to: i }).collect()
}

/// Prefetches `entries`.
#[inline(always)]
fn fetch<E>(entries: &[E]) {
    #[cfg(target_arch = "x86_64")]
    for line in entries.chunks(64 / size_of::<E>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint that every x86-64 has; it reads nothing that the program can
        // see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = entries;
}

/// The `rows` of x · w, each element summed over the non-zeros of its row of `x`, ascending by
/// column, by the loop for the registers of `isa`.
#[inline(always)]
fn forward<E: SparseEntry>(
    isa: Isa,
    x: &Rows<E>,
    mut rows: Vec<RowMap>,
    w: &Panels,
    sink: &mut impl Sink,
) {
    // The rows are drawn at random from all of memory.
    for row in &rows {
        fetch(x.entries(row.from as usize));
    }
    if isa == Isa::Avx512 {
        // Rows of similar length together, so that the rows of a group end at about the same time.
        rows.sort_unstable_by_key(|row| (x.entries(row.from as usize).len(), row.to));
        for (column, width, panel) in w.panels() {
            by_width!(width, W => side_by_side::<E, 4, W>(x, &rows, column, panel, sink));
        }
    } else {
        for (column, width, panel) in w.panels() {
            on_few_registers(x, &rows, column, width, panel, sink);
        }
    }
}

/// The `rows` of x and a panel [depth, width].
#[inline(always)]
fn on_few_registers<E: SparseEntry>(
    x: &Rows<E>,
    rows: &[RowMap],
    column: usize,
    width: usize,
    panel: &[f32],
    sink: &mut impl Sink,
) {
    by_width!(width, W => if W <= NARROW {
        side_by_side::<E, 2, W>(x, rows, column, panel, sink);
    } else {
        one_by_one::<E, W>(x, rows, column, panel, sink);
    });
}

/// All rows of x · z, with `z` [x's columns, width] one panel; the product has `elements`.
///
/// # Panics
/// If the shapes do not fit together, or no panel is of that width.
#[inline(always)]
pub(super) fn product<E: SparseEntry>(
    x: &Rows<E>,
    z: &[f32],
    elements: usize,
    sink: &mut impl Sink,
) {
    let width = elements / x.len().max(1);
    assert!(width == padded(width) && (LANES..=PANEL).contains(&width), "no panel is {width} wide");
    assert_eq!(
        (elements, z.len()),
        (x.len() * width, x.columns() * width),
        "the factors do not fit together"
    );
    on_few_registers(x, &all(x), 0, width, z, sink);
}

/// The `rows` of x and a panel [depth, W], one after the other.
#[inline(always)]
fn one_by_one<E: SparseEntry, const W: usize>(
    x: &Rows<E>,
    rows: &[RowMap],
    column: usize,
    panel: &[f32],
    sink: &mut impl Sink,
) {
    let (panel, _) = panel.as_chunks::<W>();
    assert!(x.columns() <= panel.len(), "the factors do not fit together");
    for row in rows {
        // SAFETY: an entry's column is below its matrix's columns, which the panel has as rows.
        let sums = unsafe { add_entries(x.entries(row.from as usize), panel, [0.0; W]) };
        sink.take(Position { row: row.to as usize, column }, sums);
    }
}

/// As [`one_by_one`], `N` rows at once.
#[inline(always)]
fn side_by_side<E: SparseEntry, const N: usize, const W: usize>(
    x: &Rows<E>,
    rows: &[RowMap],
    column: usize,
    panel: &[f32],
    sink: &mut impl Sink,
) {
    let (groups, rest) = rows.as_chunks::<N>();
    let (whole, _) = panel.as_chunks::<W>();
    assert!(x.columns() <= whole.len(), "the factors do not fit together");
    for group in groups {
        // Not `map`, which is compiled for the baseline instruction set.
        let mut entries = [x.entries(group[0].from as usize); N];
        for (entries, row) in entries.iter_mut().zip(group) {
            *entries = x.entries(row.from as usize);
        }
        // SAFETY: as in `one_by_one`.
        let sums = unsafe { sums_of(entries, whole) };
        for (row, sums) in group.iter().zip(sums) {
            sink.take(Position { row: row.to as usize, column }, sums);
        }
    }
    for row in rest {
        // SAFETY: as in `one_by_one`.
        let sums = unsafe { add_entries(x.entries(row.from as usize), whole, [0.0; W]) };
        sink.take(Position { row: row.to as usize, column }, sums);
    }
}

/// The products of `N` sparse rows and a panel [depth, W].
///
/// # Safety
/// Every entry's column must be below the panel's rows.
#[expect(
    clippy::needless_range_loop,
    reason = "the rows advance together, and by index they stay in registers"
)]
#[inline(always)]
unsafe fn sums_of<E: SparseEntry, const N: usize, const W: usize>(
    rows: [&[E]; N],
    panel: &[[f32; W]],
) -> [[f32; W]; N] {
    let mut sums = [[0.0f32; W]; N];
    let shortest = rows.iter().fold(usize::MAX, |shortest, row| shortest.min(row.len()));
    let mut heads = rows;
    for head in &mut heads {
        *head = &head[..shortest];
    }
    for k in 0..shortest {
        for r in 0..N {
            // SAFETY: guaranteed by the caller.
            let (x, w) = unsafe { term(heads[r][k], panel) };
            sums[r] = add(x, w, sums[r]);
        }
    }
    for r in 0..N {
        // SAFETY: as above.
        sums[r] = unsafe { add_entries(&rows[r][shortest..], panel, sums[r]) };
    }
    // Returned as a copy: if the sums themselves were returned, LLVM would store them at every
    // addition.
    let mut done = [[0.0f32; W]; N];
    for r in 0..N {
        for lane in 0..W {
            done[r][lane] = sums[r][lane];
        }
    }
    done
}

/// Writes sums row by row, `stride` apart, without the padding beyond the row. The choices are made
/// for each run of sums, not by types: they cost nothing beside a product, and types would double
/// the time of compiling it with each choice.
struct RowMajor<'a> {
    w: &'a Panels,
    /// Whether the last row of `w` is added first.
    has_biases: bool,
    /// Whether negative numbers become zero.
    is_rectified: bool,
    stride: usize,
    out: &'a mut [f32],
}

impl Sink for RowMajor<'_> {
    #[inline(always)]
    fn take<const W: usize>(&mut self, position: Position, mut sums: [f32; W]) {
        if self.has_biases {
            let end = position.column * self.w.depth + self.w.depth * W;
            for (sum, b) in sums.iter_mut().zip(&self.w.data[end - W..end]) {
                *sum += b;
            }
        }
        if self.is_rectified {
            for sum in &mut sums {
                *sum = rectified(*sum);
            }
        }
        let out = &mut self.out[position.row * self.stride..][..self.stride][position.column..];
        match out.first_chunk_mut::<W>() {
            Some(whole) => *whole = sums,
            None => out.copy_from_slice(&sums[..out.len()]),
        }
    }
}

per_isa! {
    /// The `rows` of x · w and the biases of `w`, if it has a row more than x has columns.
    fn layer(x: &Sparse, rows: Vec<RowMap>, w: &Panels, is_rectified: bool, out: &mut [f32]) {
        let spare = w.depth.checked_sub(x.columns());
        assert!(matches!(spare, Some(0 | 1)), "the factors do not fit together");
        let count = rows.len();
        let stride = if out.len() == count * w.padded() { w.padded() } else { w.columns };
        assert_eq!(out.len(), count * stride, "the output is not [rows, columns]");
        let mut sink = RowMajor { w, has_biases: spare == Some(1), is_rectified, stride, out };
        by_entry!(x, x => forward(isa(), x, rows, w, &mut sink));
    }
}

/// Pre-activations of images `rows` of `x` under `w`: `out` `[rows, h]` = `x[rows]` · w,
/// row-major.
///
/// If `w` has one row more than `x` has columns, it holds biases, which are added last. `out` may
/// also be `[rows, padded h]`; then the padding's zeros are written too.
///
/// # Panics
/// If the shapes do not fit together.
pub fn project(x: &Sparse, rows: Range<usize>, w: &Panels, out: &mut [f32]) {
    let rows = (rows.start as u32..rows.end as u32).zip(0..);
    layer(x, rows.map(|(from, to)| RowMap { from, to }).collect(), w, false, out);
}

/// Activations of the images `chosen` of `x` under `w`: the ReLU of [`project`].
///
/// # Panics
/// As [`project`].
pub fn activate(x: &Sparse, chosen: &[u32], w: &Panels, out: &mut [f32]) {
    let rows = chosen.iter().copied().zip(0..);
    layer(x, rows.map(|(from, to)| RowMap { from, to }).collect(), w, true, out);
}

/// Stores sums in a panel of the product's shape.
struct PanelSink<'a>(&'a mut [f32]);

impl Sink for PanelSink<'_> {
    #[inline(always)]
    fn take<const W: usize>(&mut self, position: Position, sums: [f32; W]) {
        self.0[position.row * W..][..W].copy_from_slice(&sums);
    }
}

per_isa! {
    /// `out` [d, width] = x · z, with `x` [d, images] a transposed batch and `z` [images, width]
    /// one panel.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn project_back(x: &Sparse, z: &[f32], out: &mut [f32]) {
        let elements = out.len();
        by_entry!(x, x => product(x, z, elements, &mut PanelSink(out)));
    }
}

per_isa! {
    /// `out` `[width]` = the sum of the rows of `z` [images, width], ascending: the gradient of
    /// biases.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn sum_rows(z: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        add_rows(z, out);
    }
}

/// Adds the rows of `z` [n, width] to `sums`, in order.
#[inline(always)]
pub(super) fn add_rows(z: &[f32], sums: &mut [f32]) {
    let width = sums.len().max(1);
    assert!(z.len().is_multiple_of(width), "the shapes do not fit together");
    for row in z.chunks_exact(width) {
        for (sum, z) in sums.iter_mut().zip(row) {
            *sum += z;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gram::tests::noise;
    use crate::kernel::sparse::tests::pixels;
    use crate::kernel::test::{bits, on_every_isa};
    use proptest::prelude::*;

    /// Pixels with some rows and columns almost empty, and some almost full.
    fn uneven(n: usize, d: usize) -> Vec<u8> {
        let kept = |at: usize| at * at % 97 < 14 * (at / d % 8).max(at % d % 6);
        pixels(n, d)
            .into_iter()
            .enumerate()
            .map(|(at, pixel)| if kept(at) { pixel | 1 } else { 0 })
            .collect()
    }

    fn reference(pixels: &[u8], d: usize, rows: Range<usize>, w: &[f32], h: usize) -> Vec<f32> {
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
    fn a_projection_equals_its_reference_implementation_bit_for_bit() {
        for (n, d, h) in [
            (0, 5, 3),
            (1, 1, 1),
            (3, 784, 10),
            (9, 100, 50),
            (4, 33, 65),
            (5, 20, 112),
            (7, 784, 500),
            (130, 200, 300),
            (13, 190, 24),
            (11, 400, 32),
            (9, 170, 40),
            (10, 500, 48),
            (14, 784, 56),
        ] {
            let (pixels, w) = (uneven(n, d), noise(h * d, 3));
            let (x, panels) = (Sparse::from_pixels(&pixels, d), Panels::pack(&w, h, d));
            let rows = n / 3..n;
            let expected = reference(&pixels, d, rows.clone(), &w, h);
            on_every_isa(|isa| {
                let mut out = vec![f32::NAN; rows.len() * h];
                project(&x, rows.clone(), &panels, &mut out);
                assert_eq!(bits(&out), bits(&expected), "{isa:?}, {n} x {d} x {h}");
                let chosen: Vec<u32> = rows.clone().map(|i| i as u32).rev().collect();
                out.fill(f32::NAN);
                activate(&x, &chosen, &panels, &mut out);
                let activations: Vec<f32> = expected.iter().map(|z| z.max(0.0)).collect();
                assert!(
                    out.chunks(h).eq(activations.chunks(h).rev()),
                    "{isa:?}, {n} x {d} x {h}, chosen"
                );
                let mut padded = vec![f32::NAN; rows.len() * panels.padded()];
                project(&x, rows.clone(), &panels, &mut padded);
                for (row, padded) in expected.chunks(h).zip(padded.chunks(panels.padded())) {
                    assert_eq!(row, &padded[..h]);
                    assert!(padded[h..].iter().all(|&x| x == 0.0));
                }
            });
        }
    }

    /// The loops of all instruction sets, including those that this machine lacks.
    #[test]
    fn the_loops_of_all_instruction_sets_have_the_same_bits() {
        for (n, d, h) in
            [(0, 5, 3), (11, 200, 9), (6, 784, 100), (5, 400, 24), (9, 330, 300), (8, 784, 56)]
        {
            let (x, w) =
                (Sparse::from_pixels(&uneven(n, d), d), Panels::pack(&noise(h * d, 3), h, d));
            let by = |isa| {
                let mut out = vec![f32::NAN; n * h];
                let sink = &mut RowMajor {
                    w: &w,
                    has_biases: false,
                    is_rectified: false,
                    stride: w.columns,
                    out: &mut out,
                };
                by_entry!(&x, x => forward(isa, x, all(x), &w, sink));
                out
            };
            let expected = reference(&uneven(n, d), d, 0..n, &noise(h * d, 3), h);
            for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512] {
                assert_eq!(bits(&by(isa)), bits(&expected), "{isa:?}, {n} x {d} x {h}");
            }
        }
    }

    #[test]
    fn a_product_with_the_transpose_equals_its_reference_implementation_bit_for_bit() {
        let widths = [8, 16, 24, 32, 40, 48, 56, 64].map(|h| (21, 40, h));
        let sizes = [(0, 3, 2), (1, 1, 1), (6, 40, 10), (5, 100, 200), (130, 30, 25), (9, 50, 110)];
        for (n, d, h) in sizes.into_iter().chain(widths) {
            let (pixels, w) = (uneven(n, d), noise(n * h, 3)); // w is [n, h]
            let (x, columns) =
                (Sparse::from_pixels(&pixels, d), (0..h * n).map(|at| w[at % n * h + at / n]));
            let panels = Panels::pack(&columns.collect::<Vec<f32>>(), h, n);
            let reference = |j: usize, c: usize| {
                let inked = (0..n).filter(|i| pixels[i * d + c] != 0);
                inked.fold(0.0f32, |sum, i| {
                    (f32::from(pixels[i * d + c]) / 255.0).mul_add(w[i * h + j], sum)
                })
            };
            let expected: Vec<f32> = (0..h * d).map(|at| reference(at / d, at % d)).collect();
            let mut transposed = Sparse::empty();
            x.transpose(&(0..n as u32).collect::<Vec<_>>(), &mut transposed);
            on_every_isa(|isa| {
                let mut out = Panels::zeros(h, d);
                out.data.fill(f32::NAN);
                for ((_, z), (_, out)) in panels.clone().panels_mut().zip(out.panels_mut()) {
                    project_back(&transposed, z, out);
                }
                assert_eq!(bits(&out.unpack()), bits(&expected), "{isa:?}, {n} x {d} x {h}");
            });
        }
    }

    /// A matrix of numbers, half of them zero, with some rows and columns almost empty.
    fn patchy(n: usize, d: usize) -> Vec<f32> {
        let noise = noise(n * d, 11);
        uneven(n, d).iter().zip(noise).map(|(&p, x)| if p == 0 { 0.0 } else { x }).collect()
    }

    #[test]
    fn a_layer_of_floats_with_biases_equals_its_reference_implementation_bit_for_bit() {
        for (n, d, h) in [(0, 5, 3), (1, 1, 1), (9, 100, 50), (130, 70, 300), (6, 784, 10)] {
            let (values, w) = (patchy(n, d), noise(h * (d + 1), 3)); // w is [h, d + 1]
            let (x, panels) = (Sparse::from_values(&values, d), Panels::pack(&w, h, d + 1));
            let weights: Vec<f32> = w.chunks(d + 1).flat_map(|row| &row[..d]).copied().collect();
            let spare = Panels::pack(&weights, h, d);
            let reference = |i: usize, j: usize, bias: bool| {
                let row = &w[j * (d + 1)..][..d + 1];
                let sum = (0..d)
                    .filter(|c| values[i * d + c] != 0.0)
                    .fold(0.0f32, |sum, c| values[i * d + c].mul_add(row[c], sum));
                if bias { sum + row[d] } else { sum }
            };
            for bias in [true, false] {
                let expected: Vec<f32> =
                    (0..n * h).map(|at| reference(at / h, at % h, bias)).collect();
                on_every_isa(|isa| {
                    let mut out = vec![f32::NAN; n * h];
                    project(&x, 0..n, if bias { &panels } else { &spare }, &mut out);
                    assert_eq!(bits(&out), bits(&expected), "{isa:?}, {n} x {d} x {h}, {bias}");
                    let all: Vec<u32> = (0..n as u32).collect();
                    activate(&x, &all, if bias { &panels } else { &spare }, &mut out);
                    assert!(out.iter().zip(&expected).all(|(a, z)| *a == z.max(0.0)));
                });
            }
        }
    }

    #[test]
    fn a_product_with_transposed_floats_equals_its_reference_implementation_bit_for_bit() {
        for (n, d, h) in [(1, 1, 1), (6, 40, 10), (130, 30, 25), (9, 50, 110), (21, 40, 64)] {
            let (values, z) = (patchy(n, d), noise(n * h, 3)); // z is [n, h]
            let reference = |c: usize, j: usize| {
                let kept = (0..n).filter(|i| values[i * d + c] != 0.0);
                kept.fold(0.0f32, |sum, i| values[i * d + c].mul_add(z[i * h + j], sum))
            };
            let expected: Vec<f32> = (0..h * d).map(|at| reference(at % d, at / d)).collect();
            let sums: Vec<f32> =
                (0..h).map(|j| z[j..].iter().step_by(h).fold(0.0, |sum, z| sum + z)).collect();
            let mut transposed = Sparse::empty();
            let all: Vec<u32> = (0..n as u32).collect();
            Sparse::from_values(&values, d).transpose(&all, &mut transposed);
            let mut panels = Panels::zeros(h, 0);
            panels.set_rows(&z, h);
            on_every_isa(|isa| {
                let (mut out, mut biases) = (Panels::zeros(h, d), Panels::zeros(h, 1));
                for ((_, z), ((_, out), (_, biases))) in
                    panels.clone().panels_mut().zip(out.panels_mut().zip(biases.panels_mut()))
                {
                    project_back(&transposed, z, out);
                    sum_rows(z, biases);
                }
                assert_eq!(bits(&out.unpack()), bits(&expected), "{isa:?}, {n} x {d} x {h}");
                assert_eq!(bits(&biases.unpack()), bits(&sums), "{isa:?}, {n} x {d} x {h}");
            });
        }
    }

    proptest! {
        #[test]
        fn the_transpose_has_the_rows_as_columns(
            h in 1usize..150, d in 1usize..150, spare in 0usize..2,
        ) {
            let w = noise(h * (d + spare), 5); // [h, d + spare]
            let mut transposed = Panels::zeros(d, 7);
            transposed.data_mut().fill(0.5);
            Panels::pack(&w, h, d + spare).transpose(d, &mut transposed);
            let expected: Vec<f32> =
                (0..d * h).map(|at| w[at % h * (d + spare) + at / h]).collect();
            prop_assert_eq!(transposed.unpack(), expected);
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
