//! Products of tall matrices, summed over their rows: XᵀX and XᵀY.
//!
//! Two precisions, two levels: inside a block of rows a sum runs in f32, row by row, one accumulator per output; the
//! blocks are added up in f64 by calling again with the same `sum`. Blocks of at most about a thousand rows keep the
//! rounding of the inner level near 1e-6 of the sum. This file does not know that the columns are neurons.

use super::per_isa;

/// Outputs of a register tile: 6 x 16 accumulators fill twelve AVX2 registers, or six of AVX-512.
const ROWS: usize = 6;
const LANES: usize = 16;

/// Adds XᵀX to `sum` [p, p], upper triangle only; `x` is [n, p].
///
/// What lies strictly below the diagonal of `sum` is neither read nor meaningful afterwards.
///
/// # Panics
/// If the lengths of `x` and `sum` do not belong to `columns`.
pub fn gram(x: &[f32], columns: usize, sum: &mut [f64]) {
    check(x, columns, x, columns, sum);
    tiles(&pack::<f32, ROWS>(x, columns), &pack::<f32, LANES>(x, columns), [columns, columns], true, sum);
}

/// Adds XᵀY to `sum` [p, q]; `x` is [n, p] and `y` [n, q].
///
/// # Panics
/// If the lengths of `x`, `y` and `sum` do not belong together.
pub fn cross(x: &[f32], p: usize, y: &[f32], q: usize, sum: &mut [f64]) {
    check(x, p, y, q, sum);
    tiles(&pack::<f32, ROWS>(x, p), &pack::<f32, LANES>(y, q), [p, q], false, sum);
}

fn check(x: &[f32], p: usize, y: &[f32], q: usize, sum: &[f64]) {
    let n = x.len() / p.max(1);
    assert!(x.len() == n * p && y.len() == n * q, "columns of different heights");
    assert_eq!(sum.len(), p * q, "the sum is not [{p}, {q}]");
}

/// Columns `W` by `W`, each group as [n, `W`] in one piece, the last one padded with zeros.
pub(super) fn pack<T: Copy + Default, const W: usize>(x: &[T], columns: usize) -> Vec<[T; W]> {
    let n = x.len() / columns.max(1);
    let mut packed = vec![[T::default(); W]; n * columns.div_ceil(W)];
    for (group, from) in packed.chunks_exact_mut(n.max(1)).zip((0..columns).step_by(W)) {
        let width = W.min(columns - from);
        for (k, lanes) in group.iter_mut().enumerate() {
            let row = &x[k * columns + from..][..width];
            match row.first_chunk() {
                Some(whole) => *lanes = *whole,
                None => lanes[..width].copy_from_slice(row),
            }
        }
    }
    packed
}

per_isa! {
    /// One tile per pair of groups. The right group, read most, stays in L2 while the left ones pass through L1.
    fn tiles(left: &[[f32; ROWS]], right: &[[f32; LANES]], shape: [usize; 2], upper: bool, sum: &mut [f64]) {
        let [p, q] = shape;
        let n = left.len() / p.div_ceil(ROWS).max(1);
        for j in (0..q).step_by(LANES) {
            let right = &right[j / LANES * n..][..n];
            let end = if upper { p.min(j + LANES) } else { p };
            for i in (0..end).step_by(ROWS) {
                let left = &left[i / ROWS * n..][..n];
                let mut tile = [[0.0f32; LANES]; ROWS];
                for (l, r) in left.iter().zip(right) {
                    for (row, &l) in tile.iter_mut().zip(l) {
                        for (out, &r) in row.iter_mut().zip(r) {
                            *out = l.mul_add(r, *out);
                        }
                    }
                }
                for (row, i) in tile.iter().zip(i..p) {
                    for (&term, sum) in row.iter().zip(&mut sum[i * q..][j..q]) {
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

    #[test]
    fn a_gram_matrix_equals_its_naive_twin_on_every_isa() {
        on_every_isa(|isa| {
            for (n, p) in [(0, 0), (0, 3), (1, 1), (2, 6), (3, 16), (7, 17), (31, 40), (129, 101)] {
                let x = noise(n * p, 1);
                let mut sum = vec![0.25; p * p];
                gram(&x, p, &mut sum);
                for i in 0..p {
                    for j in i..p {
                        let expected = 0.25 + naive(&x, p, &x, p, i, j);
                        assert_eq!(sum[i * p + j].to_bits(), expected.to_bits(), "{isa:?} {n} x {p} at {i}, {j}");
                    }
                }
            }
        });
    }

    #[test]
    fn a_cross_product_equals_its_naive_twin_on_every_isa() {
        on_every_isa(|isa| {
            for (n, p, q) in [(0, 2, 3), (1, 1, 1), (5, 6, 16), (9, 7, 33), (40, 50, 10), (3, 0, 2)] {
                let (x, y) = (noise(n * p, 1), noise(n * q, 2));
                let (x, y) = if p == 0 { (Vec::new(), Vec::new()) } else { (x, y) };
                let mut sum = vec![-1.5; p * q];
                cross(&x, p, &y, q, &mut sum);
                for i in 0..p {
                    for j in 0..q {
                        let expected = -1.5 + naive(&x, p, &y, q, i, j);
                        assert_eq!(sum[i * q + j].to_bits(), expected.to_bits(), "{isa:?} {n}: {p} x {q}");
                    }
                }
            }
        });
    }
}
