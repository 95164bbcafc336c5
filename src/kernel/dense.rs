//! The second layer and what lies between the layers: small dense matrices.
//!
//! Activations are row-major [n, h], a row for each image. Each loop keeps a few outputs in registers and runs over
//! the summed index in ascending order.
//!
//! In cycles of a Zen 1 core for a neuron of 128 images, of which the multiply-adds, padding and all, are 256, 160 and 160: logits
//! 320, [`outgoing_gradient`] 170, [`hidden_gradient`] 320. Left out: twelve lanes of logits (410, LLVM shuffles them), and
//! two to four images at once for the hidden gradient (285 at best, with relu's mask in a pass of its own). Not tried: lanes
//! across images, as [`super::blend`] has them, for which activations would have to be laid side by side first. It would save
//! the padding of classes, 96 cycles of the logits' 256, which is one hundredth of a step.
//!
//! This file does not know what a loss or an optimiser is.

use super::{add, per_isa};

/// Classes.
pub(super) const CLASSES: usize = 10;
/// Lanes that a run of neurons or the classes are padded to.
const LANES: usize = 16;
/// Lanes of a short run of neurons.
const EIGHT: usize = LANES / 2;
/// Images whose logits are summed side by side, so that they share the loads of the weights.
const IMAGES: usize = 4;

/// relu of one number. NaN stays NaN, so that a diverged net cannot pass for a dead one.
#[inline(always)]
pub(super) fn rectified(z: f32) -> f32 {
    if z <= 0.0 { 0.0 } else { z }
}

per_isa! {
    /// relu: negative numbers become zero, and NaN stays NaN.
    pub fn relu(z: &mut [f32]) {
        for z in z {
            *z = rectified(*z);
        }
    }
}

per_isa! {
    /// Dropout: numbers of `a` [images, padded h] whose flag in `keep` [images, h] is not set become zero, the others
    /// are multiplied by `scale`. The padding stays as it is.
    ///
    /// # Panics
    /// If there are no images, or no neurons, or the shapes do not fit together.
    pub fn drop_out(a: &mut [f32], keep: &[bool], images: usize, scale: f32) {
        assert!(a.len().is_multiple_of(images) && keep.len().is_multiple_of(images), "not as many rows as images");
        assert!(keep.len() <= a.len(), "more flags than activations");
        for (a, keep) in a.chunks_exact_mut(a.len() / images).zip(keep.chunks_exact(keep.len() / images)) {
            for (a, &keep) in a.iter_mut().zip(keep) {
                *a = if keep { *a * scale } else { 0.0 };
            }
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
        assert_eq!((a.len(), out.len()), (n * h, n * CLASSES), "activations and logits are not of the same images");
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
    // An LLVM that sees six lanes thrown away packs what is left of the images together, at each neuron: twice as slow.
    let sums = std::hint::black_box(sums);
    for (out, sums) in out.iter_mut().zip(&sums) {
        out.copy_from_slice(&sums[..CLASSES]);
    }
}

per_isa! {
    /// The gradient of the outgoing weights: `out` [10, h] = outputsᵀ · a, with `outputs` [n, 10] the gradient of the
    /// logits and `a` [n, h] the activations; each element ascending over images. h must be a multiple of 8.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn outgoing_gradient(outputs: &[f32], a: &[f32], h: usize, out: &mut [f32]) {
        assert_eq!((h % EIGHT, out.len()), (0, CLASSES * h), "the output is not [10, a multiple of 8]");
        let n = outputs.len() / CLASSES;
        assert_eq!((a.len(), outputs.len()), (n * h, n * CLASSES), "activations and logits are not of the same images");
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

/// Half of the classes: the sums of as many fit into AVX2's registers.
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
    /// The gradient of the pre-activations of neighbouring neurons, `first` and on: a panel [n, width] = scale · outputs ·
    /// w2 where the neuron fired (`a` > 0), zero elsewhere; `outputs` [n, 10] is the gradient of the logits, `w2` [10,
    /// padded h] the outgoing weights, `a` [n, padded h] the activations; each element ascending over classes.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn hidden_gradient(outputs: &[f32], w2: &[f32], a: &[f32], scale: f32, first: usize, panel: &mut [f32]) {
        let (h, n) = (w2.len() / CLASSES, outputs.len() / CLASSES);
        let width = panel.len() / n.max(1);
        assert_eq!((w2.len(), a.len(), outputs.len()), (CLASSES * h, n * h, n * CLASSES), "shapes do not fit");
        assert_eq!((panel.len(), width % EIGHT), (n * width, 0), "the panel is not [n, a multiple of 8]");
        assert!(first + width <= h, "no neurons {first}..{}", first + width);
        let (outputs, _) = outputs.as_chunks::<CLASSES>();
        for j in (0..width).step_by(LANES) {
            let run = Run { h, first: first + j, width, j };
            if width - j >= LANES {
                run.hidden_gradient::<LANES>(outputs, w2, a, scale, panel);
            } else {
                run.hidden_gradient::<EIGHT>(outputs, w2, a, scale, panel);
            }
        }
    }
}

/// Neighbouring neurons in matrices of activations and of panels.
struct Run {
    /// Columns of the activations.
    h: usize,
    /// The first neuron.
    first: usize,
    /// Columns of the panel.
    width: usize,
    /// The first neuron's column there.
    j: usize,
}

impl Run {
    #[inline(always)]
    fn hidden_gradient<const L: usize>(
        &self,
        outputs: &[[f32; CLASSES]],
        w2: &[f32],
        a: &[f32],
        scale: f32,
        panel: &mut [f32],
    ) {
        let &Run { h, first, width, j } = self;
        // In registers while the images pass; fetched anew for each, this took five times as long.
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
    use crate::kernel::product::Panels;
    use crate::kernel::test::{bits, on_every_isa};

    /// With zeros of both signs among them.
    fn numbers(n: usize, salt: usize) -> Vec<f32> {
        let number = |i: usize| match (i + salt) % 17 {
            0 => 0.0,
            1 => -0.0,
            _ => ((i * 71 + salt * 13) % 101) as f32 / 50.0 - 1.0,
        };
        (0..n).map(number).collect()
    }

    #[test]
    fn logits_equal_their_naive_twin_bit_for_bit() {
        for (n, h) in [(0, 3), (3, 0), (1, 1), (4, 10), (7, 33), (130, 100)] {
            let (a, w2) = (numbers(n * h, 1), numbers(CLASSES * h, 2));
            let twin = |i: usize, c: usize| {
                (0..h).fold(0.0f32, |sum, j| a[i * h + j].mul_add(w2[c * h + j], sum))
            };
            let expected: Vec<f32> =
                (0..n * CLASSES).map(|at| twin(at / CLASSES, at % CLASSES)).collect();
            on_every_isa(|isa| {
                let mut out = vec![f32::NAN; n * CLASSES];
                logits(&a, &w2, h, &mut out);
                assert_eq!(bits(&out), bits(&expected), "{isa:?}, {n} x {h}");
            });
        }
    }

    #[test]
    fn outgoing_gradients_equal_their_naive_twin_bit_for_bit() {
        for (n, h) in [(0, 16), (1, 8), (5, 40), (129, 64)] {
            let (outputs, a) = (numbers(n * CLASSES, 1), numbers(n * h, 2));
            let twin = |c: usize, j: usize| {
                (0..n).fold(0.0f32, |sum, i| outputs[i * CLASSES + c].mul_add(a[i * h + j], sum))
            };
            let expected: Vec<f32> = (0..CLASSES * h).map(|at| twin(at / h, at % h)).collect();
            on_every_isa(|isa| {
                let mut out = vec![f32::NAN; CLASSES * h];
                outgoing_gradient(&outputs, &a, h, &mut out);
                assert_eq!(bits(&out), bits(&expected), "{isa:?}, {n} x {h}");
            });
        }
    }

    #[test]
    fn hidden_gradients_equal_their_naive_twin_bit_for_bit() {
        for (n, h) in [(0, 3), (1, 1), (3, 10), (5, 50), (5, 64), (9, 100), (130, 144)] {
            let shape = Panels::zeros(h, n);
            let padded = shape.padded();
            let (outputs, w2, a) =
                (numbers(n * CLASSES, 1), numbers(CLASSES * padded, 2), numbers(n * padded, 3));
            let twin = |i: usize, j: usize| {
                let sum = (0..CLASSES).fold(0.0f32, |sum, c| {
                    outputs[i * CLASSES + c].mul_add(w2[c * padded + j], sum)
                });
                if a[i * padded + j] > 0.0 { 1.5 * sum } else { 0.0 }
            };
            let expected: Vec<f32> = (0..h * n).map(|at| twin(at % n, at / n)).collect();
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
    fn relu_clears_the_negative_and_keeps_what_is_no_number() {
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
    fn dropout_scales_what_it_keeps_and_leaves_the_padding() {
        for (n, h, padded) in
            [(1, 1, 1), (2, 2, 3), (3, 10, 16), (5, 64, 64), (7, 100, 104), (2, 250, 256)]
        {
            let (before, keep) =
                (numbers(n * padded, 1), numbers(n * h, 2).into_iter().map(|x| x > -0.3));
            let keep: Vec<bool> = keep.collect();
            let twin = |i: usize, j: usize| match keep[i * h..][..h].get(j) {
                Some(true) => before[i * padded + j] * 1.3,
                Some(false) => 0.0,
                None => before[i * padded + j],
            };
            let expected: Vec<f32> =
                (0..n * padded).map(|at| twin(at / padded, at % padded)).collect();
            on_every_isa(|isa| {
                let mut a = before.clone();
                drop_out(&mut a, &keep, n, 1.3);
                assert_eq!(bits(&a), bits(&expected), "{isa:?}, {n} x {h}");
            });
        }
    }
}
