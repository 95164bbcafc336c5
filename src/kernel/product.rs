//! Products of a sparse matrix and a dense one: the layers of a net, forward and backward.
//!
//! The dense matrix is stored in [`Panels`] of 64 columns, so that a row of a product is
//! accumulated in registers. The same product serves both directions of training: forward, the rows
//! are images and the panels hold weights; backward, the rows are pixels (the transposed batch) and
//! the panels hold the gradient of the pre-activations. A `Sink` receives the finished rows.
//!
//! A panel of weights takes 200 KB and exceeds L1, so the rows pass it in blocks, and their sums
//! wait in memory between them. How many rows are summed at once depends on the registers:
//!
//! - **32 of 512 bits** (AVX-512) hold the sums of four rows, so that their multiply-adds wait
//!   neither for each other nor for loads. Backward, rows are short, and it is two. A matrix with
//!   few zeros is stored whole; the four then share the loads of the panel.
//! - **16 of 256 bits or less** hold the sums of one row, or of two in a narrow panel; `entries`
//!   reads entries ahead of their use.
//!
//! `docs/performance.md` has the measurements and the rejected alternatives.

use super::aligned::Aligned;
use super::dense::rectified;
use super::entries::{SparseEntry, add_entries, term};
use super::panels::{LANES, PANEL, Panels, padded};
use super::sparse::{Matrix, Rows, Sparse, by_entry};
use super::{Isa, add, isa, per_isa};
use std::ops::Range;

/// The widest panel for which 16 registers hold the sums of two rows.
const NARROW: usize = 32;
/// Rows of a full panel that fit into L1 beside the sums.
const BLOCK: usize = 96;

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
    if x.is_dense() {
        for (column, width, panel) in w.panels() {
            by_width!(width, W => tiles::<E, W>(x, &rows, column, panel, sink));
        }
        return;
    }
    // The rows are drawn at random from all of memory.
    for row in &rows {
        fetch(x.entries(row.from as usize));
    }
    if isa == Isa::Avx512 {
        // Rows of similar length together, so that the rows of a group end at about the same time.
        rows.sort_unstable_by_key(|row| (x.entries(row.from as usize).len(), row.to));
        let blocks = Blocks::<4>::of(x, &rows);
        for (column, width, panel) in w.panels() {
            match &blocks {
                Some(blocks) if width == PANEL => blocks.product(x, &rows, column, panel, sink),
                _ => by_width!(
                    width, W => side_by_side::<E, 4, W>(x, &rows, column, panel, sink)
                ),
            }
        }
    } else {
        let blocks = Blocks::<1>::of(x, &rows);
        for (column, width, panel) in w.panels() {
            match &blocks {
                Some(blocks) if width == PANEL => blocks.product(x, &rows, column, panel, sink),
                _ => by_width!(width, W => if W <= NARROW {
                    side_by_side::<E, 2, W>(x, &rows, column, panel, sink);
                } else {
                    side_by_side::<E, 1, W>(x, &rows, column, panel, sink);
                }),
            }
        }
    }
}

/// A division of rows of a sparse matrix, in groups of `N`, into blocks of about the same columns,
/// so that a block of a panel stays in L1 while the groups pass.
///
/// The rows of a group advance together, entry by entry: one with more entries in a block than
/// another lags behind, and nothing is left to be added by itself before the last block.
struct Blocks<const N: usize> {
    /// For each block, the entry before which each group stops.
    ends: Vec<u32>,
}

impl<const N: usize> Blocks<N> {
    /// The blocks for the `rows` of x; none if a panel fits into L1.
    #[inline(always)]
    fn of<E: SparseEntry>(x: &Rows<E>, rows: &[RowMap]) -> Option<Blocks<N>> {
        let blocks = x.columns().div_ceil(BLOCK);
        let (groups, _) = rows.as_chunks::<N>();
        if blocks < 2 || groups.is_empty() {
            return None;
        }
        let size = x.columns().div_ceil(blocks);
        let mut ends = Vec::with_capacity(blocks * groups.len());
        for block in 1..=blocks {
            for group in groups {
                let end = |row: &RowMap| {
                    let entries = x.entries(row.from as usize);
                    entries.partition_point(|entry| entry.column() < block * size)
                };
                ends.push(group.iter().map(end).min().map_or(0, |end| end as u32));
            }
        }
        Some(Blocks { ends })
    }

    /// The `rows` of x and a full panel.
    #[inline(always)]
    fn product<E: SparseEntry>(
        &self,
        x: &Rows<E>,
        rows: &[RowMap],
        column: usize,
        panel: &[f32],
        sink: &mut impl Sink,
    ) {
        let (panel_rows, _) = panel.as_chunks::<PANEL>();
        assert!(x.columns() <= panel_rows.len(), "the factors do not fit together");
        let (groups, rest) = rows.as_chunks::<N>();
        let mut sums = Aligned::zeros(PANEL * N * groups.len());
        let (sums, _) = sums.as_chunks_mut::<PANEL>();
        let (sums, _) = sums.as_chunks_mut::<N>();
        let mut starts = &vec![0; groups.len()][..];
        for ends in self.ends.chunks_exact(groups.len()) {
            for (g, (group, sums)) in groups.iter().zip(&mut *sums).enumerate() {
                let mut entries = entries_of(x, group);
                for entries in &mut entries {
                    *entries = &entries[starts[g] as usize..ends[g] as usize];
                }
                // SAFETY: as in `side_by_side`.
                *sums = unsafe { add_together(entries, panel_rows, *sums) };
            }
            starts = ends;
        }
        for ((group, sums), start) in groups.iter().zip(sums).zip(starts) {
            for (row, sums) in group.iter().zip(sums) {
                let entries = &x.entries(row.from as usize)[*start as usize..];
                // SAFETY: as in `side_by_side`.
                let sums = unsafe { add_entries(entries, panel_rows, *sums) };
                sink.take(Position { row: row.to as usize, column }, sums);
            }
        }
        side_by_side::<E, 1, PANEL>(x, rest, column, panel, sink);
    }
}

/// All rows of x · z, with `z` [x's columns, width] one panel, by the loop for the registers of
/// `isa`; the product has `elements`.
///
/// # Panics
/// If the shapes do not fit together, or no panel is of that width.
#[inline(always)]
pub(super) fn product<E: SparseEntry>(
    isa: Isa,
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
    let rows = all(x);
    if x.is_dense() {
        return by_width!(width, W => tiles::<E, W>(x, &rows, 0, z, sink));
    }
    by_width!(width, W => if W <= NARROW || isa == Isa::Avx512 {
        side_by_side::<E, 2, W>(x, &rows, 0, z, sink);
    } else {
        side_by_side::<E, 1, W>(x, &rows, 0, z, sink);
    });
}

/// The entries of each row of a group.
#[inline(always)]
fn entries_of<'x, E, const N: usize>(x: &'x Rows<E>, group: &[RowMap; N]) -> [&'x [E]; N]
where
    E: SparseEntry,
{
    // Not `map`, which is compiled for the baseline instruction set.
    let mut entries = [x.entries(group[0].from as usize); N];
    for (entries, row) in entries.iter_mut().zip(group) {
        *entries = x.entries(row.from as usize);
    }
    entries
}

/// The `rows` of x and a panel [depth, W], `N` rows at once.
#[inline(always)]
fn side_by_side<E: SparseEntry, const N: usize, const W: usize>(
    x: &Rows<E>,
    rows: &[RowMap],
    column: usize,
    panel: &[f32],
    sink: &mut impl Sink,
) {
    let (groups, rest) = rows.as_chunks::<N>();
    let (panel, _) = panel.as_chunks::<W>();
    assert!(x.columns() <= panel.len(), "the factors do not fit together");
    for group in groups {
        let entries = entries_of(x, group);
        let shortest = shortest(&entries);
        // SAFETY: an entry's column is below its matrix's columns, which the panel has as rows.
        let sums = unsafe { add_together(entries, panel, [[0.0; W]; N]) };
        for ((row, sums), entries) in group.iter().zip(sums).zip(entries) {
            // SAFETY: as above.
            let sums = unsafe { add_entries(&entries[shortest..], panel, sums) };
            sink.take(Position { row: row.to as usize, column }, sums);
        }
    }
    for row in rest {
        // SAFETY: as above.
        let sums = unsafe { add_entries(x.entries(row.from as usize), panel, [0.0; W]) };
        sink.take(Position { row: row.to as usize, column }, sums);
    }
}

/// The `rows` of x, which is stored whole, and a panel [depth, W], four rows at once, which share
/// the loads of the panel.
#[inline(always)]
fn tiles<E: SparseEntry, const W: usize>(
    x: &Rows<E>,
    rows: &[RowMap],
    column: usize,
    panel: &[f32],
    sink: &mut impl Sink,
) {
    let (panel, _) = panel.as_chunks::<W>();
    let panel = &panel[..x.columns()];
    let (groups, rest) = rows.as_chunks::<4>();
    for group in groups {
        let mut numbers = [x.dense_row(group[0].from as usize); 4];
        for (numbers, row) in numbers.iter_mut().zip(group) {
            *numbers = x.dense_row(row.from as usize);
        }
        for (row, sums) in group.iter().zip(tile(numbers, panel)) {
            sink.take(Position { row: row.to as usize, column }, sums);
        }
    }
    for row in rest {
        let [sums] = tile([x.dense_row(row.from as usize)], panel);
        sink.take(Position { row: row.to as usize, column }, sums);
    }
}

/// The products of `N` rows without gaps and a panel [depth, W].
#[inline(always)]
fn tile<const N: usize, const W: usize>(
    mut rows: [&[f32]; N],
    panel: &[[f32; W]],
) -> [[f32; W]; N] {
    for row in &mut rows {
        *row = &row[..panel.len()];
    }
    let mut sums = [[0.0f32; W]; N];
    for k in 0..panel.len() {
        for r in 0..N {
            sums[r] = add(rows[r][k], &panel[k], sums[r]);
        }
    }
    copied(sums)
}

/// The sums as they are returned: if they themselves were, LLVM would store them at every addition.
#[inline(always)]
fn copied<const N: usize, const W: usize>(sums: [[f32; W]; N]) -> [[f32; W]; N] {
    let mut copies = [[0.0f32; W]; N];
    for r in 0..N {
        for lane in 0..W {
            copies[r][lane] = sums[r][lane];
        }
    }
    copies
}

/// The length of the shortest row.
#[inline(always)]
fn shortest<E, const N: usize>(rows: &[&[E]; N]) -> usize {
    rows.iter().fold(usize::MAX, |shortest, row| shortest.min(row.len()))
}

/// sums + the products of `N` sparse rows and a panel [depth, W], as far as the shortest row.
///
/// # Safety
/// Every entry's column must be below the panel's rows.
#[expect(
    clippy::needless_range_loop,
    reason = "the rows advance together, and by index they stay in registers"
)]
#[inline(always)]
unsafe fn add_together<E: SparseEntry, const N: usize, const W: usize>(
    mut rows: [&[E]; N],
    panel: &[[f32; W]],
    mut sums: [[f32; W]; N],
) -> [[f32; W]; N] {
    if N == 1 {
        // SAFETY: guaranteed by the caller.
        sums[0] = unsafe { add_entries(rows[0], panel, sums[0]) };
        return sums;
    }
    let shortest = shortest(&rows);
    for row in &mut rows {
        *row = &row[..shortest];
    }
    for k in 0..shortest {
        for r in 0..N {
            // SAFETY: guaranteed by the caller.
            let (x, w) = unsafe { term(rows[r][k], panel) };
            sums[r] = add(x, w, sums[r]);
        }
    }
    copied(sums)
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
            let end = position.column * self.w.depth() + self.w.depth() * W;
            for (sum, b) in sums.iter_mut().zip(&self.w.data()[end - W..end]) {
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
        let spare = w.depth().checked_sub(x.columns());
        assert!(matches!(spare, Some(0 | 1)), "the factors do not fit together");
        let count = rows.len();
        let stride = if out.len() == count * w.padded() { w.padded() } else { w.columns() };
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
        by_entry!(x, x => product(isa(), x, z, elements, &mut PanelSink(out)));
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
                    stride: w.columns(),
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
                out.data_mut().fill(f32::NAN);
                for ((_, z), (_, out)) in panels.clone().panels_mut().zip(out.panels_mut()) {
                    project_back(&transposed, z, out);
                }
                assert_eq!(bits(&out.unpack()), bits(&expected), "{isa:?}, {n} x {d} x {h}");
            });
        }
    }

    /// A matrix of numbers, half of them zero, with some rows and columns almost empty; if n is
    /// even, hardly any are zero.
    fn patchy(n: usize, d: usize) -> Vec<f32> {
        let noise = noise(n * d, 11);
        let is_kept = |at: usize, p: u8| if n.is_multiple_of(2) { at % 9 != 4 } else { p != 0 };
        let kept = uneven(n, d).into_iter().enumerate().zip(noise);
        kept.map(|((at, p), x)| if is_kept(at, p) { x } else { 0.0 }).collect()
    }

    /// `values` [n, d] as activations are stored.
    fn matrix(values: &[f32], d: usize) -> Sparse {
        let mut matrix = Sparse::empty();
        matrix.set_values(values, d, d);
        matrix
    }

    #[test]
    fn a_layer_of_floats_with_biases_equals_its_reference_implementation_bit_for_bit() {
        for (n, d, h) in [(0, 5, 3), (1, 1, 1), (9, 100, 50), (130, 70, 300), (6, 784, 10)] {
            let (values, w) = (patchy(n, d), noise(h * (d + 1), 3)); // w is [h, d + 1]
            let panels = Panels::pack(&w, h, d + 1);
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
                    let x = matrix(&values, d);
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
            let all: Vec<u32> = (0..n as u32).collect();
            let mut panels = Panels::zeros(h, 0);
            panels.set_rows(&z, h);
            on_every_isa(|isa| {
                let mut transposed = Sparse::empty();
                matrix(&values, d).transpose(&all, &mut transposed);
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
}
