//! Cholesky factorisation G = UᵀU of a symmetric positive definite matrix in f64, and solving with
//! it.
//!
//! The upper triangle is stored row-major, so that every inner loop runs along a row. Blocked
//! right-looking elimination (Golub and Van Loan, *Matrix Computations*, 4.2); each element still
//! loses its terms one by one in ascending order, so the bits are those of the textbook loop.

use super::per_isa;

/// Rows that are eliminated before the rest of the matrix is updated.
const BLOCK: usize = 64;
/// Outputs of a register tile: 6 x 8 accumulators fill twelve AVX2 registers, or six of AVX-512.
const ROWS: usize = 6;
const LANES: usize = 8;

/// An upper triangular factor U with G = UᵀU.
#[derive(Clone, Debug)]
pub struct Cholesky {
    n: usize,
    /// [n, n]; unspecified below the diagonal.
    u: Vec<f64>,
}

impl Cholesky {
    /// Factors `g` [n, n], of which only the upper triangle is read; `None` if a pivot is not
    /// positive.
    ///
    /// # Panics
    /// If `g` is not [n, n].
    pub fn factor(mut g: Vec<f64>, n: usize) -> Option<Cholesky> {
        assert_eq!(g.len(), n * n, "not a matrix [{n}, {n}]");
        for from in (0..n).step_by(BLOCK) {
            let to = n.min(from + BLOCK);
            let mut definite = false;
            eliminate(&mut g, n, from, to, &mut definite);
            if !definite {
                return None;
            }
            let rest: Vec<f64> =
                (from..to).flat_map(|k| &g[k * n + to..(k + 1) * n]).copied().collect();
            update(&mut g, n, to, &pack::<ROWS>(&rest, n - to), &pack::<LANES>(&rest, n - to));
        }
        Some(Cholesky { n, u: g })
    }

    /// The pivots u_kk², `[n]`: the part of g_kk that the columns before it do not explain.
    pub fn pivots(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.n).map(|k| self.u[k * self.n + k]).map(|u| u * u)
    }

    /// Overwrites the right-hand sides `b` [n, m] with the solution of G x = b.
    ///
    /// # Panics
    /// If `b` is not [n, m].
    pub fn solve(&self, b: &mut [f64], m: usize) {
        assert_eq!(b.len(), self.n * m, "right-hand sides are not [{}, {m}]", self.n);
        substitute(&self.u, self.n, b, m);
    }
}

/// Groups of `W` columns, each group [depth, `W`] contiguous, the last one padded with zeros.
fn pack<const W: usize>(x: &[f64], columns: usize) -> Vec<[f64; W]> {
    let n = x.len() / columns.max(1);
    let mut packed = vec![[0.0; W]; n * columns.div_ceil(W)];
    for (group, from) in packed.chunks_exact_mut(n.max(1)).zip((0..columns).step_by(W)) {
        let width = W.min(columns - from);
        for (k, lanes) in group.iter_mut().enumerate() {
            lanes[..width].copy_from_slice(&x[k * columns + from..][..width]);
        }
    }
    packed
}

/// y -= a x.
#[inline(always)]
fn subtract(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (-a).mul_add(x, *y);
    }
}

per_isa! {
    /// Overwrites `b` [n, m] with the x of UᵀU x = b.
    fn substitute(u: &[f64], n: usize, b: &mut [f64], m: usize) {
        for (k, row) in u.chunks_exact(n.max(1)).enumerate() {
            let (done, rest) = b.split_at_mut((k + 1) * m);
            let y = &mut done[k * m..];
            y.iter_mut().for_each(|y| *y /= row[k]);
            for (b, &u) in rest.chunks_exact_mut(m.max(1)).zip(&row[k + 1..]) {
                subtract(b, u, y);
            }
        }
        for (k, row) in u.chunks_exact(n.max(1)).enumerate().rev() {
            let (rest, done) = b.split_at_mut((k + 1) * m);
            let x = &mut rest[k * m..];
            for (known, &u) in done.chunks_exact(m.max(1)).zip(&row[k + 1..]) {
                subtract(x, u, known);
            }
            x.iter_mut().for_each(|x| *x /= row[k]);
        }
    }
}

per_isa! {
    /// Turns the partly eliminated rows `from`..`to` of G into rows of U.
    fn eliminate(g: &mut [f64], n: usize, from: usize, to: usize, definite: &mut bool) {
        *definite = true;
        for k in from..to {
            let (above, row) = g.split_at_mut(k * n);
            let row = &mut row[k..n];
            for above in above[from * n..].chunks_exact(n) {
                subtract(row, above[k], &above[k..]);
            }
            // `<=` would accept NaN.
            *definite &= row[0] > 0.0 && row[0].is_finite();
            let u = row[0].sqrt();
            for x in row {
                *x /= u;
            }
        }
    }
}

per_isa! {
    /// Subtracts the finished rows' outer products from the square that starts at row and column
    /// `to`.
    fn update(g: &mut [f64], n: usize, to: usize, left: &[[f64; ROWS]], right: &[[f64; LANES]]) {
        let depth = left.len() / (n - to).div_ceil(ROWS).max(1);
        for (right, j) in right.chunks_exact(depth.max(1)).zip((to..n).step_by(LANES)) {
            let width = LANES.min(n - j);
            let lefts = left.chunks_exact(depth.max(1)).zip((to..n.min(j + LANES)).step_by(ROWS));
            for (left, i) in lefts {
                let mut tile = [[0.0f64; LANES]; ROWS];
                for (tile, i) in tile.iter_mut().zip(i..n) {
                    tile[..width].copy_from_slice(&g[i * n + j..][..width]);
                }
                for (l, r) in left.iter().zip(right) {
                    for (row, &l) in tile.iter_mut().zip(l) {
                        for (out, &r) in row.iter_mut().zip(r) {
                            *out = (-l).mul_add(r, *out);
                        }
                    }
                }
                for (tile, i) in tile.iter().zip(i..n) {
                    g[i * n + j..][..width].copy_from_slice(&tile[..width]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gram::tests::noise;
    use crate::kernel::test::on_every_isa;

    /// XᵀX + I with more rows than columns: positive definite.
    fn definite(n: usize) -> Vec<f64> {
        let x: Vec<f64> = noise((n + 3) * n, 1).into_iter().map(f64::from).collect();
        let entry =
            |i: usize, j: usize| (0..n + 3).map(|k| x[k * n + i] * x[k * n + j]).sum::<f64>();
        (0..n * n).map(|at| entry(at / n, at % n) + f64::from(at / n == at % n)).collect()
    }

    fn textbook(g: &[f64], n: usize) -> Vec<f64> {
        let mut u = g.to_vec();
        for k in 0..n {
            for j in k..n {
                for p in 0..k {
                    u[k * n + j] = (-u[p * n + k]).mul_add(u[p * n + j], u[k * n + j]);
                }
            }
            let pivot = u[k * n + k].sqrt();
            u[k * n + k..(k + 1) * n].iter_mut().for_each(|x| *x /= pivot);
        }
        u
    }

    #[test]
    fn blocks_and_lanes_give_the_bits_of_the_textbook_loop() {
        for n in [0, 1, 2, 7, 63, 64, 65, 150, 201] {
            let g = definite(n);
            let expected = textbook(&g, n);
            on_every_isa(|isa| {
                let mut upper = g.clone();
                (0..n).for_each(|i| upper[i * n..i * n + i].fill(f64::NAN));
                let u = Cholesky::factor(upper, n).expect("positive definite").u;
                for i in 0..n {
                    for j in i..n {
                        assert_eq!(
                            u[i * n + j].to_bits(),
                            expected[i * n + j].to_bits(),
                            "{isa:?} {n} at {i}, {j}"
                        );
                    }
                }
            });
        }
    }

    #[test]
    fn solving_undoes_multiplying_with_the_same_bits_on_every_isa() {
        for (n, m) in [(0, 2), (1, 1), (5, 0), (70, 10), (130, 3), (40, 67)] {
            let g = definite(n);
            let x: Vec<f64> = noise(n * m, 5).into_iter().map(f64::from).collect();
            let mut b = vec![0.0; n * m];
            for i in 0..n {
                for c in 0..m {
                    b[i * m + c] = (0..n).map(|j| g[i * n + j] * x[j * m + c]).sum();
                }
            }
            let factor = Cholesky::factor(g, n).expect("positive definite");
            let expected = solved(&factor.u, n, &b, m);
            on_every_isa(|isa| {
                let mut b = b.clone();
                factor.solve(&mut b, m);
                assert_eq!(b, expected, "{isa:?}, {n} x {m}");
                assert!(b.iter().zip(&x).all(|(b, x)| (b - x).abs() < 1e-9), "{isa:?}, {n} x {m}");
            });
        }
    }

    /// Forward substitution by Uᵀ and back substitution by U, one right-hand side at a time.
    fn solved(u: &[f64], n: usize, b: &[f64], m: usize) -> Vec<f64> {
        let mut x = b.to_vec();
        for c in 0..m {
            for i in 0..n {
                for k in 0..i {
                    x[i * m + c] = (-u[k * n + i]).mul_add(x[k * m + c], x[i * m + c]);
                }
                x[i * m + c] /= u[i * n + i];
            }
            for i in (0..n).rev() {
                for k in i + 1..n {
                    x[i * m + c] = (-u[i * n + k]).mul_add(x[k * m + c], x[i * m + c]);
                }
                x[i * m + c] /= u[i * n + i];
            }
        }
        x
    }

    #[test]
    fn an_indefinite_matrix_is_refused() {
        assert!(Cholesky::factor(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(Cholesky::factor(vec![0.0], 1).is_none());
        assert!(Cholesky::factor(vec![f64::NAN], 1).is_none());
        assert!(Cholesky::factor(vec![f64::INFINITY], 1).is_none());
    }

    #[test]
    fn pivots_multiply_to_the_determinant() {
        let factor = Cholesky::factor(vec![4.0, 2.0, 2.0, 5.0], 2).expect("positive definite");
        assert_eq!(factor.pivots().collect::<Vec<_>>(), [4.0, 4.0]);
    }
}
