//! One point of a curve, in the hidden layer: an elementwise combination of pre-activations, then relu.
//!
//! This file does not know which curve the coefficients come from.

use super::per_isa;

per_isa! {
    /// `out[i, j] = relu(c0 a[i, j] + c1 b[i, j] + c2 m[i])`; `a` and `b` are [n, `columns`], `m` is `[n]`.
    ///
    /// `out` has n rows of `columns` numbers or more; what lies beyond `columns` stays as it is.
    /// With `c` = [1, 0, 0] that is relu(a) to the bit, and with [0, 1, 0] relu(b), if all inputs are finite.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn blend(c: [f32; 3], a: &[f32], b: &[f32], m: &[f32], columns: usize, out: &mut [f32]) {
        assert_eq!((a.len(), b.len()), (m.len() * columns, m.len() * columns), "not rows of {columns}");
        let (width, stride) = (columns.max(1), out.len() / m.len().max(1));
        assert!(out.len() == m.len() * stride && (stride >= columns || m.is_empty()), "the output is not rows of {columns} or more");
        let rows = a.chunks_exact(width).zip(b.chunks_exact(width)).zip(out.chunks_exact_mut(stride.max(1)));
        for (((a, b), out), &m) in rows.zip(m) {
            let shift = c[2] * m;
            for ((&a, &b), out) in a.iter().zip(b).zip(out) {
                let z = c[0].mul_add(a, c[1].mul_add(b, shift));
                // As in the net's own relu, NaN stays NaN.
                *out = if z <= 0.0 { 0.0 } else { z };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gram::tests::noise;
    use crate::kernel::test::on_every_isa;

    #[test]
    fn every_isa_gives_the_bits_of_the_formula() {
        on_every_isa(|isa| {
            for (n, columns) in [(0, 0), (0, 3), (3, 0), (1, 1), (5, 7), (3, 64), (4, 129)] {
                let (a, b, m) = (noise(n * columns, 1), noise(n * columns, 2), noise(n, 3));
                let mut out = vec![f32::NAN; n * columns];
                blend([0.6, -0.3, 0.7], &a, &b, &m, columns, &mut out);
                for i in 0..n * columns {
                    let z = 0.6f32.mul_add(a[i], (-0.3f32).mul_add(b[i], 0.7 * m[i / columns]));
                    assert_eq!(out[i].to_bits(), (if z > 0.0 { z } else { 0.0 }).to_bits(), "{isa:?} {n} x {columns}");
                }
                let mut wider = vec![7.0; n * (columns + 3)];
                blend([0.6, -0.3, 0.7], &a, &b, &m, columns, &mut wider);
                for (row, wider) in wider.chunks_exact(columns + 3).enumerate() {
                    assert_eq!(wider[..columns], out[row * columns..][..columns], "{isa:?} {n} x {columns}");
                    assert_eq!(wider[columns..], [7.0; 3], "{isa:?} {n} x {columns}");
                }
            }
        });
    }

    #[test]
    fn unit_coefficients_give_an_end_to_the_bit() {
        let (a, b, m) = (noise(77, 1), noise(77, 2), noise(7, 3));
        let relu = |x: &[f32]| x.iter().map(|x| x.max(0.0)).collect::<Vec<f32>>();
        let mut out = vec![f32::NAN; 77];
        blend([1.0, 0.0, 0.0], &a, &b, &m, 11, &mut out);
        assert_eq!(out, relu(&a));
        blend([0.0, 1.0, 0.0], &a, &b, &m, 11, &mut out);
        assert_eq!(out, relu(&b));
    }
}
