//! Sparse rows times a dense matrix: the first layer of a net on images that are four fifths background.
//!
//! The dense matrix lies in [`Panels`]: 64 columns side by side, so that one row of a product is accumulated in
//! registers while the panel stays in cache. The same product serves both directions of training: forward, the rows
//! are images and the panels hold weights; backward, the rows are pixels (the transposed batch) and the panels hold
//! the gradient of the pre-activations. What becomes of a finished row is up to a [`Sink`].
//!
//! This file does not know what a neuron, a label or an optimiser is.

use super::per_isa;
use std::ops::Range;

/// Columns of a full panel: eight AVX2 registers of accumulators, enough to hide the latency of a multiply-add.
const PANEL: usize = 64;

/// Columns of the panel that holds what is left of a matrix: 16, 32 or 64. Those between would be no faster, since
/// a multiply-add's latency bounds a narrow panel.
fn width(left: usize) -> usize {
    left.next_power_of_two().clamp(16, PANEL)
}

fn padded(columns: usize) -> usize {
    let whole = columns - columns % PANEL;
    if whole == columns { columns } else { whole + width(columns - whole) }
}

/// A sparse matrix, row by row: for each row its non-zeros, ascending by column (CSR).
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse {
    columns: usize,
    /// [rows + 1]: row i holds the entries start[i]..start[i + 1].
    start: Vec<u32>,
    column: Vec<u32>,
    value: Vec<f32>,
}

impl Sparse {
    /// The non-zeros of `pixels` [n, `columns`], each as pixel / 255.
    ///
    /// # Panics
    /// If `pixels` is not whole rows, `columns` is 0, or there are 2^32 non-zeros or more.
    pub fn from_pixels(pixels: &[u8], columns: usize) -> Sparse {
        assert!(pixels.len().is_multiple_of(columns), "{} pixels are not rows of {columns}", pixels.len());
        let entries = pixels.iter().filter(|&&pixel| pixel != 0).count();
        let mut sparse = Sparse::with_room(columns, pixels.len() / columns, entries);
        for row in pixels.chunks_exact(columns) {
            for (column, &pixel) in (0..).zip(row).filter(|&(_, &pixel)| pixel != 0) {
                sparse.column.push(column);
                sparse.value.push(f32::from(pixel) / 255.0);
            }
            sparse.end_row();
        }
        sparse
    }

    /// The rows at `indices`, in that order.
    pub fn gather(&self, indices: &[u32]) -> Sparse {
        let entries = indices.iter().map(|&i| self.row(i as usize).0.len()).sum();
        let mut chosen = Sparse::with_room(self.columns, indices.len(), entries);
        for &i in indices {
            let (column, value) = self.row(i as usize);
            chosen.column.extend_from_slice(column);
            chosen.value.extend_from_slice(value);
            chosen.end_row();
        }
        chosen
    }

    /// The transpose; its rows ascend by the rows of this matrix.
    pub fn transposed(&self) -> Sparse {
        let mut start = vec![0; self.columns + 1];
        for &c in &self.column {
            start[c as usize + 1] += 1;
        }
        for c in 0..self.columns {
            start[c + 1] += start[c];
        }
        let mut next = start.clone();
        let (mut column, mut value) = (vec![0; self.column.len()], vec![0.0; self.value.len()]);
        for i in 0..self.rows() {
            let (columns, values) = self.row(i);
            for (&c, &x) in columns.iter().zip(values) {
                let at = next[c as usize] as usize;
                next[c as usize] += 1;
                (column[at], value[at]) = (i as u32, x);
            }
        }
        Sparse { columns: self.rows(), start, column, value }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.start.len() - 1
    }

    /// Number of columns, zeros included.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The non-zeros of row `i`: their columns, ascending, and their values.
    #[inline(always)]
    pub fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let range = self.start[i] as usize..self.start[i + 1] as usize;
        (&self.column[range.clone()], &self.value[range])
    }

    /// No rows yet, but room for `rows` of them with `entries` non-zeros in all.
    fn with_room(columns: usize, rows: usize, entries: usize) -> Sparse {
        let mut start = Vec::with_capacity(rows + 1);
        start.push(0);
        Sparse { columns, start, column: Vec::with_capacity(entries), value: Vec::with_capacity(entries) }
    }

    /// Ends a row with the entries added last.
    fn end_row(&mut self) {
        self.start.push(u32::try_from(self.column.len()).expect("fewer than 2^32 non-zeros"));
    }
}

/// A dense matrix [depth, columns] in panels of 64 columns, each panel [depth, 64] in one piece; the last one is
/// 16, 32 or 64 wide, padded with columns of zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct Panels {
    columns: usize,
    depth: usize,
    data: Vec<f32>,
}

impl Panels {
    /// All zeros.
    pub fn zeros(columns: usize, depth: usize) -> Panels {
        Panels { columns, depth, data: vec![0.0; padded(columns) * depth] }
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

/// x[rows] · w, each element summed over the non-zeros of its row of `x`, ascending by column.
#[inline(always)]
pub(crate) fn product(x: &Sparse, rows: Range<usize>, w: &Panels, sink: &mut impl Sink) {
    assert_eq!(x.columns, w.depth, "the factors do not fit together");
    for column in (0..w.columns).step_by(PANEL) {
        let width = width(w.columns - column);
        let panel = &w.data[column * w.depth..][..width * w.depth];
        match width {
            64 => panel_product::<64>(x, rows.clone(), column, panel, sink),
            32 => panel_product::<32>(x, rows.clone(), column, panel, sink),
            _ => panel_product::<16>(x, rows.clone(), column, panel, sink),
        }
    }
}

#[inline(always)]
fn panel_product<const W: usize>(x: &Sparse, rows: Range<usize>, column: usize, panel: &[f32], sink: &mut impl Sink) {
    let (panel, _) = panel.as_chunks::<W>();
    let (first, count) = (rows.start, rows.len());
    for i in rows {
        let mut sums = [0.0f32; W];
        let (columns, values) = x.row(i);
        for (&c, &value) in columns.iter().zip(values) {
            let w = &panel[c as usize];
            for lane in 0..W {
                sums[lane] = value.mul_add(w[lane], sums[lane]);
            }
        }
        let row = i - first;
        sink.take(Place { row, column, offset: column * count + row * W }, &sums);
    }
}

/// Lays sums out row by row, `stride` apart, and cuts off the padding that reaches beyond.
struct Rows<'a> {
    stride: usize,
    out: &'a mut [f32],
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

/// Keeps sums as panels.
struct Store<'a>(&'a mut [f32]);

impl Sink for Store<'_> {
    #[inline(always)]
    fn take<const W: usize>(&mut self, place: Place, sums: &[f32; W]) {
        self.0[place.offset..][..W].copy_from_slice(sums);
    }
}

per_isa! {
    /// Pre-activations of images `rows` of `x` under `w`: `out` [rows, h] = x[rows] · w, row-major.
    ///
    /// `out` may also be [rows, padded h]; then the padding's zeros are written too.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn project(x: &Sparse, rows: Range<usize>, w: &Panels, out: &mut [f32]) {
        let stride = if out.len() == rows.len() * w.padded() { w.padded() } else { w.columns };
        assert_eq!(out.len(), rows.len() * stride, "the output is not [rows, columns]");
        product(x, rows, w, &mut Rows { stride, out });
    }
}

per_isa! {
    /// The whole product `out` [x's rows, w's columns] = x · w, as panels.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn project_to_panels(x: &Sparse, w: &Panels, out: &mut Panels) {
        assert_eq!((out.depth, out.columns), (x.rows(), w.columns), "the output does not fit the product");
        product(x, 0..x.rows(), w, &mut Store(&mut out.data));
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
    fn a_product_kept_as_panels_equals_the_one_laid_out_in_rows() {
        for (n, d, h) in [(1, 1, 1), (6, 40, 10), (5, 100, 200)] {
            let x = Sparse::from_pixels(&pixels(n, d), d);
            let w = Panels::pack(&noise(h * d, 3), h, d);
            on_every_isa(|_| {
                let mut rows = vec![f32::NAN; n * h];
                project(&x, 0..n, &w, &mut rows);
                let mut panels = Panels::zeros(h, n);
                panels.data_mut().fill(f32::NAN);
                project_to_panels(&x, &w, &mut panels);
                let columns: Vec<f32> =
                    (0..h).flat_map(|j| (0..n).map(move |i| (i, j))).map(|(i, j)| rows[i * h + j]).collect();
                assert_eq!(panels.unpack(), columns);
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
        fn transposing_twice_changes_nothing(n in 0usize..20, d in 1usize..60) {
            let x = Sparse::from_pixels(&pixels(n, d), d);
            let back = x.transposed();
            prop_assert_eq!((back.rows(), back.columns()), (d, n));
            prop_assert_eq!(back.transposed(), x);
        }

        #[test]
        fn gathered_rows_are_the_rows_chosen(indices in prop::collection::vec(0u32..8, 0..20)) {
            let x = Sparse::from_pixels(&pixels(8, 30), 30);
            let chosen = x.gather(&indices);
            prop_assert_eq!(chosen.rows(), indices.len());
            for (row, &i) in indices.iter().enumerate() {
                prop_assert_eq!(chosen.row(row), x.row(i as usize));
            }
        }
    }

    #[test]
    fn only_the_non_zeros_are_kept_ascending() {
        let x = Sparse::from_pixels(&[0, 255, 0, 51, 0, 0, 0, 0], 4);
        assert_eq!(x.row(0), (&[1u32, 3][..], &[1.0f32, 0.2][..]));
        assert_eq!(x.row(1), (&[][..], &[][..]));
        assert_eq!((x.rows(), x.columns()), (2, 4));
    }
}
