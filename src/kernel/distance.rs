//! Squared distances between the rows of two matrices.

use super::per_isa;

/// Rows of `b` that are compared at once.
const LANES: usize = 16;
/// Rows of `a` that share one pass over the lanes.
const ROWS: usize = 4;

/// |a_i - b_j|² for every pair of rows, [n, m]; `a` is [n, `columns`] and `b` [m, `columns`].
///
/// # Panics
/// If `out` is not [n, m].
pub fn squared_distances(a: &[f32], b: &[f32], columns: usize, out: &mut [f32]) {
    let width = columns.max(1);
    let (n, m) = (a.len() / width, b.len() / width);
    assert_eq!(out.len(), n * m, "distances are not [{n}, {m}]");
    for (group, j) in b.chunks(LANES * width).zip((0..m).step_by(LANES)) {
        let mut lanes = vec![[0.0; LANES]; columns];
        for (lane, row) in group.chunks_exact(width).enumerate() {
            lanes.iter_mut().zip(row).for_each(|(lanes, &x)| lanes[lane] = x);
        }
        compare(a, &lanes, j, m, out);
    }
}

per_isa! {
    /// Fills columns `j`.. of `out` [n, m] for the rows of b in `lanes`.
    fn compare(a: &[f32], lanes: &[[f32; LANES]], j: usize, m: usize, out: &mut [f32]) {
        let width = lanes.len().max(1);
        for (rows, out) in a.chunks(ROWS * width).zip(out.chunks_mut(ROWS * m)) {
            if rows.len() == ROWS * width {
                compare_rows::<ROWS>(rows, lanes, j, m, out);
            } else {
                for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(m)) {
                    compare_rows::<1>(row, lanes, j, m, out);
                }
            }
        }
    }
}

#[inline(always)]
fn compare_rows<const N: usize>(
    rows: &[f32],
    lanes: &[[f32; LANES]],
    j: usize,
    m: usize,
    out: &mut [f32],
) {
    let rows: [&[f32]; N] = std::array::from_fn(|r| &rows[r * lanes.len()..][..lanes.len()]);
    let mut sums = [[0.0f32; LANES]; N];
    // By value: through a reference LLVM's code was twice as slow.
    for (k, &lanes) in lanes.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = row[k];
            for lane in 0..LANES {
                let difference = x - lanes[lane];
                sums[lane] = difference.mul_add(difference, sums[lane]);
            }
        }
    }
    let filled = LANES.min(m - j);
    for (out, sums) in out.chunks_exact_mut(m).zip(&sums) {
        out[j..j + filled].copy_from_slice(&sums[..filled]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gram::tests::noise;
    use crate::kernel::test::on_every_isa;

    #[test]
    fn distances_equal_their_reference_implementation_on_every_isa() {
        on_every_isa(|isa| {
            for (n, m, d) in
                [(0, 3, 2), (3, 0, 2), (1, 1, 1), (4, 16, 5), (7, 17, 33), (13, 40, 101)]
            {
                let (a, b) = (noise(n * d, 1), noise(m * d, 2));
                let mut out = vec![f32::NAN; n * m];
                squared_distances(&a, &b, d, &mut out);
                for (at, out) in out.iter().enumerate() {
                    let (a, b) = (&a[at / m * d..][..d], &b[at % m * d..][..d]);
                    let reference =
                        a.iter().zip(b).fold(0.0f32, |sum, (a, b)| (a - b).mul_add(a - b, sum));
                    assert_eq!(out.to_bits(), reference.to_bits(), "{isa:?} {n} x {m} x {d}");
                }
            }
        });
    }
}
