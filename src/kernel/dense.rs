//! The second layer and the elementwise operations between the layers, on small dense matrices.
//!
//! Activations are row-major [n, h], a row per image. Each loop keeps a few outputs in registers
//! and runs over the summed index in ascending order. `docs/performance.md` has the measurements
//! and the rejected alternatives.

use super::{add, per_isa};

/// Number of classes.
pub(crate) const CLASSES: usize = 10;
/// Lanes of a run of neurons, and of the padded classes.
const LANES: usize = 16;
/// Lanes of a short run of neurons.
const EIGHT: usize = LANES / 2;
/// Images whose logits are summed at once, so that they share the loads of the weights.
const IMAGES: usize = 4;

/// ReLU of one number. NaN stays NaN, so that a diverged net does not look like a dead one.
#[inline(always)]
pub(super) fn rectified(z: f32) -> f32 {
    if z <= 0.0 { 0.0 } else { z }
}

per_isa! {
    /// ReLU: negative numbers become zero, and NaN stays NaN.
    pub fn relu(z: &mut [f32]) {
        for z in z {
            *z = rectified(*z);
        }
    }
}

per_isa! {
    /// Dropout: numbers of `a` [images, padded h] whose flag in `mask` [images, h] is not set
    /// become zero, the others are multiplied by `scale`. The padding is unchanged.
    ///
    /// # Panics
    /// If there are no images, or no neurons, or the shapes do not fit together.
    pub fn dropout(a: &mut [f32], mask: &[bool], images: usize, scale: f32) {
        let is_whole = |len: usize| len.is_multiple_of(images);
        assert!(is_whole(a.len()) && is_whole(mask.len()), "not as many rows as images");
        assert!(mask.len() <= a.len(), "more flags than activations");
        let rows = a.chunks_exact_mut(a.len() / images).zip(mask.chunks_exact(mask.len() / images));
        for (a, mask) in rows {
            for (a, &mask) in a.iter_mut().zip(mask) {
                *a = if mask { *a * scale } else { 0.0 };
            }
        }
    }
}

per_isa! {
    /// The gradient of the pre-activations from `z`, that of the activations `a`, in place: scale ·
    /// z where the neuron fired (`a` > 0), zero elsewhere.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn rectify_gradient(z: &mut [f32], a: &[f32], scale: f32) {
        assert_eq!(z.len(), a.len(), "the lengths differ");
        for (z, &a) in z.iter_mut().zip(a) {
            *z = if a > 0.0 { scale * *z } else { 0.0 };
        }
    }
}

per_isa! {
    /// `out` [n, 10] = a [n, h] · w2ᵀ, with `w2` [10, h]; each logit ascending over neurons.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn logits(a: &[f32], w2: &[f32], h: usize, out: &mut [f32]) {
        assert_eq!(w2.len(), CLASSES * h, "w2 is not [10, h]");
        let n = out.len() / CLASSES;
        assert_eq!((a.len(), out.len()), (n * h, n * CLASSES), "images differ in number");
        let mut by_neuron = vec![[0.0f32; LANES]; h];
        for (c, row) in w2.chunks_exact(h.max(1)).enumerate() {
            for (neuron, &w) in by_neuron.iter_mut().zip(row) {
                neuron[c] = w;
            }
        }
        let (out, _) = out.as_chunks_mut::<CLASSES>();
        for (block, out) in out.chunks_mut(IMAGES).enumerate() {
            let a = &a[block * IMAGES * h..];
            match out.first_chunk_mut() {
                Some(out) => image_logits::<IMAGES>(a, &by_neuron, out),
                None => {
                    for (i, out) in out.iter_mut().enumerate() {
                        image_logits(&a[i * h..], &by_neuron, std::array::from_mut(out));
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn image_logits<const N: usize>(a: &[f32], w2: &[[f32; LANES]], out: &mut [[f32; CLASSES]; N]) {
    let rows: [&[f32]; N] = std::array::from_fn(|i| &a[i * w2.len()..][..w2.len()]);
    let mut sums = [[0.0f32; LANES]; N];
    for (j, w) in w2.iter().enumerate() {
        for i in 0..N {
            sums[i] = add(rows[i][j], w, sums[i]);
        }
    }
    // Without this barrier, LLVM packs the ten lanes that are used at every neuron: twice as slow.
    let sums = std::hint::black_box(sums);
    for (out, sums) in out.iter_mut().zip(&sums) {
        out.copy_from_slice(&sums[..CLASSES]);
    }
}

per_isa! {
    /// The gradient of the outgoing weights: `out` [10, h] = outputsᵀ · a, with `outputs` [n, 10]
    /// the gradient of the logits and `a` [n, h] the activations; each element ascending over
    /// images. h must be a multiple of 8.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn outgoing_gradient(outputs: &[f32], a: &[f32], h: usize, out: &mut [f32]) {
        assert_eq!((h % EIGHT, out.len()), (0, CLASSES * h), "not [10, a multiple of 8]");
        let n = outputs.len() / CLASSES;
        assert_eq!((a.len(), outputs.len()), (n * h, n * CLASSES), "images differ in number");
        let (outputs, _) = outputs.as_chunks::<CLASSES>();
        for j in (0..h).step_by(LANES) {
            if h - j >= LANES {
                outgoing_lanes::<0, LANES>(outputs, a, h, j, out);
                outgoing_lanes::<HALF, LANES>(outputs, a, h, j, out);
            } else {
                outgoing_lanes::<0, EIGHT>(outputs, a, h, j, out);
                outgoing_lanes::<HALF, EIGHT>(outputs, a, h, j, out);
            }
        }
    }
}

/// Half of the classes: their sums fit into AVX2's registers.
const HALF: usize = CLASSES / 2;

#[inline(always)]
fn outgoing_lanes<const FIRST: usize, const L: usize>(
    outputs: &[[f32; CLASSES]],
    a: &[f32],
    h: usize,
    j: usize,
    out: &mut [f32],
) {
    let mut sums = [[0.0f32; L]; HALF];
    for (output, a) in outputs.iter().zip(a.chunks_exact(h)) {
        let Some(a) = a[j..].first_chunk::<L>() else { return };
        for (sums, &output) in sums.iter_mut().zip(&output[FIRST..]) {
            for lane in 0..L {
                sums[lane] = output.mul_add(a[lane], sums[lane]);
            }
        }
    }
    for (c, sums) in sums.iter().enumerate() {
        out[(FIRST + c) * h + j..][..L].copy_from_slice(sums);
    }
}

per_isa! {
    /// The gradient of the pre-activations of the neurons starting at `first`: a panel [n, width] =
    /// scale · outputs · w2 where the neuron fired (`a` > 0), zero elsewhere. `outputs` [n, 10] is
    /// the gradient of the logits, `w2` [10, padded h] the outgoing weights, `a` [n, padded h] the
    /// activations; each element ascending over classes.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn hidden_gradient(
        outputs: &[f32],
        w2: &[f32],
        a: &[f32],
        scale: f32,
        first: usize,
        panel: &mut [f32],
    ) {
        let (h, n) = (w2.len() / CLASSES, outputs.len() / CLASSES);
        let width = panel.len() / n.max(1);
        let lens = (w2.len(), a.len(), outputs.len());
        assert_eq!(lens, (CLASSES * h, n * h, n * CLASSES), "the shapes do not fit together");
        assert_eq!((panel.len(), width % EIGHT), (n * width, 0), "not [n, a multiple of 8]");
        assert!(first + width <= h, "no neurons {first}..{}", first + width);
        let (outputs, _) = outputs.as_chunks::<CLASSES>();
        for j in (0..width).step_by(LANES) {
            let run = NeuronRun { h, first: first + j, width, j };
            if width - j >= LANES {
                run.hidden_gradient::<LANES>(outputs, w2, a, scale, panel);
            } else {
                run.hidden_gradient::<EIGHT>(outputs, w2, a, scale, panel);
            }
        }
    }
}

/// Neighbouring neurons, in matrices of activations and in a panel.
struct NeuronRun {
    /// Columns of the activations.
    h: usize,
    /// The first neuron.
    first: usize,
    /// Columns of the panel.
    width: usize,
    /// The column of the first neuron in the panel.
    j: usize,
}

impl NeuronRun {
    #[inline(always)]
    fn hidden_gradient<const L: usize>(
        &self,
        outputs: &[[f32; CLASSES]],
        w2: &[f32],
        a: &[f32],
        scale: f32,
        panel: &mut [f32],
    ) {
        let &NeuronRun { h, first, width, j } = self;
        // Copied, so that the weights stay in registers for all images: five times as fast.
        let mut w = [[0.0f32; L]; CLASSES];
        for (c, w) in w.iter_mut().enumerate() {
            w.copy_from_slice(&w2[c * h + first..][..L]);
        }
        for ((output, a), out) in
            outputs.iter().zip(a.chunks_exact(h)).zip(panel.chunks_exact_mut(width))
        {
            let mut sums = [0.0f32; L];
            for c in 0..CLASSES {
                sums = add(output[c], &w[c], sums);
            }
            let a = &a[first..][..L];
            let out = &mut out[j..][..L];
            for lane in 0..L {
                out[lane] = if a[lane] > 0.0 { scale * sums[lane] } else { 0.0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::panels::Panels;
    use crate::kernel::test::{bits, on_every_isa};

    /// Numbers with zeros of both signs among them.
    fn numbers(n: usize, salt: usize) -> Vec<f32> {
        let number = |i: usize| match (i + salt) % 17 {
            0 => 0.0,
            1 => -0.0,
            _ => ((i * 71 + salt * 13) % 101) as f32 / 50.0 - 1.0,
        };
        (0..n).map(number).collect()
    }

    #[test]
    fn logits_equal_the_reference_implementation_bit_for_bit() {
        for (n, h) in [(0, 3), (3, 0), (1, 1), (4, 10), (7, 33), (130, 100)] {
            let (a, w2) = (numbers(n * h, 1), numbers(CLASSES * h, 2));
            let reference = |i: usize, c: usize| {
                (0..h).fold(0.0f32, |sum, j| a[i * h + j].mul_add(w2[c * h + j], sum))
            };
            let expected: Vec<f32> =
                (0..n * CLASSES).map(|at| reference(at / CLASSES, at % CLASSES)).collect();
            on_every_isa(|isa| {
                let mut out = vec![f32::NAN; n * CLASSES];
                logits(&a, &w2, h, &mut out);
                assert_eq!(bits(&out), bits(&expected), "{isa:?}, {n} x {h}");
            });
        }
    }

    #[test]
    fn outgoing_gradients_equal_their_reference_implementation_bit_for_bit() {
        for (n, h) in [(0, 16), (1, 8), (5, 40), (129, 64)] {
            let (outputs, a) = (numbers(n * CLASSES, 1), numbers(n * h, 2));
            let reference = |c: usize, j: usize| {
                (0..n).fold(0.0f32, |sum, i| outputs[i * CLASSES + c].mul_add(a[i * h + j], sum))
            };
            let expected: Vec<f32> = (0..CLASSES * h).map(|at| reference(at / h, at % h)).collect();
            on_every_isa(|isa| {
                let mut out = vec![f32::NAN; CLASSES * h];
                outgoing_gradient(&outputs, &a, h, &mut out);
                assert_eq!(bits(&out), bits(&expected), "{isa:?}, {n} x {h}");
            });
        }
    }

    #[test]
    fn hidden_gradients_equal_their_reference_implementation_bit_for_bit() {
        for (n, h) in [(0, 3), (1, 1), (3, 10), (5, 50), (5, 64), (9, 100), (130, 144)] {
            let shape = Panels::zeros(h, n);
            let padded = shape.padded();
            let (outputs, w2, a) =
                (numbers(n * CLASSES, 1), numbers(CLASSES * padded, 2), numbers(n * padded, 3));
            let reference = |i: usize, j: usize| {
                let sum = (0..CLASSES).fold(0.0f32, |sum, c| {
                    outputs[i * CLASSES + c].mul_add(w2[c * padded + j], sum)
                });
                if a[i * padded + j] > 0.0 { 1.5 * sum } else { 0.0 }
            };
            let expected: Vec<f32> = (0..h * n).map(|at| reference(at % n, at / n)).collect();
            on_every_isa(|isa| {
                let mut out = shape.clone();
                out.data_mut().fill(f32::NAN);
                for (first, panel) in out.panels_mut() {
                    hidden_gradient(&outputs, &w2, &a, 1.5, first, panel);
                }
                assert_eq!(bits(&out.unpack()), bits(&expected), "{isa:?}, {n} x {h}");
            });
        }
    }

    #[test]
    fn the_gradient_of_a_neuron_that_did_not_fire_is_zero() {
        on_every_isa(|_| {
            let a = [1.0, 0.0, -0.0, -1.0, f32::NAN].repeat(11);
            let mut z = [3.0, f32::NAN, 5.0, 1.0, 2.0].repeat(11);
            rectify_gradient(&mut z, &a, 0.5);
            assert_eq!(z, [1.5, 0.0, 0.0, 0.0, 0.0].repeat(11));
        });
    }

    #[test]
    fn relu_clears_negative_numbers_and_keeps_nan() {
        on_every_isa(|_| {
            let mut z = [-1.0, 0.0, -0.0, 2.0, f32::NEG_INFINITY, f32::NAN].repeat(11);
            relu(&mut z);
            for z in z.chunks(6) {
                assert_eq!(z[..5], [0.0, 0.0, 0.0, 2.0, 0.0]);
                assert!(z[2].is_sign_positive() && z[5].is_nan());
            }
        });
    }

    #[test]
    fn dropout_scales_the_kept_neurons_and_leaves_the_padding_unchanged() {
        for (n, h, padded) in
            [(1, 1, 1), (2, 2, 3), (3, 10, 16), (5, 64, 64), (7, 100, 104), (2, 250, 256)]
        {
            let (before, mask) =
                (numbers(n * padded, 1), numbers(n * h, 2).into_iter().map(|x| x > -0.3));
            let mask: Vec<bool> = mask.collect();
            let reference = |i: usize, j: usize| match mask[i * h..][..h].get(j) {
                Some(true) => before[i * padded + j] * 1.3,
                Some(false) => 0.0,
                None => before[i * padded + j],
            };
            let expected: Vec<f32> =
                (0..n * padded).map(|at| reference(at / padded, at % padded)).collect();
            on_every_isa(|isa| {
                let mut a = before.clone();
                dropout(&mut a, &mask, n, 1.3);
                assert_eq!(bits(&a), bits(&expected), "{isa:?}, {n} x {h}");
            });
        }
    }
}
