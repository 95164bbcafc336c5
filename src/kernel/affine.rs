//! Products of dense matrices, for the layers after the first.

use super::per_isa;

per_isa! {
    /// `out` [n, h] = a [n, d] · w + b, with `w` [d, h], the transpose of a layer's weights, and
    /// `biases` `[h]`, or none. Each element is summed ascending over d; the bias comes last.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn affine(a: &[f32], w: &[f32], biases: &[f32], h: usize, out: &mut [f32]) {
        let d = w.len() / h;
        assert_eq!(w.len(), d * h, "w is not [d, {h}]");
        assert!(biases.is_empty() || biases.len() == h, "not as many biases as outputs");
        assert_eq!(a.len() / d * h, out.len(), "images differ in number");
        for (a, out) in a.chunks_exact(d).zip(out.chunks_exact_mut(h)) {
            out.fill(0.0);
            for (&x, w) in a.iter().zip(w.chunks_exact(h)) {
                // A product with zero does not change a sum.
                if x != 0.0 {
                    for (out, &w) in out.iter_mut().zip(w) {
                        *out = x.mul_add(w, *out);
                    }
                }
            }
            for (out, &b) in out.iter_mut().zip(biases) {
                *out += b;
            }
        }
    }
}
