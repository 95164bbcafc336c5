//! Products with the part of a symmetric matrix above its diagonal: half of a quadratic form.

use super::per_isa;

/// Columns that are summed side by side: the ten outputs of most nets fit, with padding.
pub const LANES: usize = 16;

per_isa! {
    /// `out` [n, 16]: row i is the sum over j > i of `g[i, j] · w[j]`, ascending, with `w` [n, 16]
    /// and the upper triangle of `g` [n, n], row-major.
    ///
    /// The products are rounded before they are added, unlike those of the other kernels: cached
    /// artifacts have these bits.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn above_diagonal(g: &[f64], w: &[[f64; LANES]], out: &mut [[f64; LANES]]) {
        let n = w.len();
        assert_eq!((g.len(), out.len()), (n * n, n), "not [{n}, {n}] and [{n}, 16]");
        for (i, out) in out.iter_mut().enumerate() {
            *out = row(&g[i * n..][i + 1..n], &w[i + 1..]);
        }
    }
}

#[inline(always)]
fn row(g: &[f64], w: &[[f64; LANES]]) -> [f64; LANES] {
    let mut sums = [0.0; LANES];
    for (&g, w) in g.iter().zip(w) {
        for lane in 0..LANES {
            sums[lane] += g * w[lane];
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gram::tests::noise;
    use crate::kernel::test::on_every_isa;

    #[test]
    fn sums_above_the_diagonal_equal_the_reference_implementation_on_every_isa() {
        for n in [0, 1, 2, 7, 40] {
            let wide = |n, salt| noise(n, salt).into_iter().map(f64::from).collect::<Vec<_>>();
            let (mut g, w) = (wide(n * n, 1), wide(n * LANES, 2));
            (0..n).for_each(|i| g[i * n..][..=i].fill(f64::NAN));
            let (w, _) = w.as_chunks::<LANES>();
            on_every_isa(|isa| {
                let mut out = vec![[f64::NAN; LANES]; n];
                above_diagonal(&g, w, &mut out);
                for (i, out) in out.iter().enumerate() {
                    for (lane, &found) in out.iter().enumerate() {
                        let sum = (i + 1..n).fold(0.0, |sum, j| sum + g[i * n + j] * w[j][lane]);
                        assert_eq!(found.to_bits(), sum.to_bits(), "{isa:?} {n}");
                    }
                }
            });
        }
    }
}
