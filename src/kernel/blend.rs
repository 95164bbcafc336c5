//! One point of a curve from the hidden layer on: an elementwise combination of pre-activations,
//! then ReLU, then the second layer.
//!
//! There are three forms. [`blend`] writes the hidden layer for products over images, and
//! [`blend_rows`] image by image, for more hidden layers. [`Images::logits`] applies the second
//! layer in the same pass to 32 interleaved images, so that only ten logits per image leave the
//! registers. (With lanes across classes, six lanes of sixteen would be idle.) All points of a
//! curve are evaluated on some neurons before the next neurons, which are thus read from memory
//! once for all points.
//!
//! This file does not depend on the curve that the coefficients come from. `docs/performance.md`
//! has the measurements.

use super::dense::{CLASSES, rectified};
use super::gram::{PANEL, TallMatrix};
use super::per_isa;

/// relu(c0 a + c1 b + shift).
#[inline(always)]
fn neuron(c: [f32; 3], a: f32, b: f32, shift: f32) -> f32 {
    rectified(c[0].mul_add(a, c[1].mul_add(b, shift)))
}

per_isa! {
    /// Overwrites the first `columns` columns of `out`: element (i, j) is `relu(c0 a[i, j] + c1
    /// b[i, j] + c2 m[i])`; `a` and `b` are [n, `columns`], `m` is `[n]`.
    ///
    /// With `c` = [1, 0, 0] that is relu(a) to the bit, and with [0, 1, 0] relu(b), if all inputs
    /// are finite.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn blend(
        c: [f32; 3],
        a: &[f32],
        b: &[f32],
        m: &[f32],
        columns: usize,
        out: &mut TallMatrix,
    ) {
        let (rows, len) = (m.len(), m.len() * columns);
        assert_eq!((a.len(), b.len()), (len, len), "not rows of {columns}");
        assert!(out.rows() == rows && out.columns() >= columns, "the output is too small");
        let out = out.data_mut();
        for (i, &m) in m.iter().enumerate() {
            let (a, b) = (&a[i * columns..][..columns], &b[i * columns..][..columns]);
            let shift = c[2] * m;
            for (panel, (a, b)) in a.chunks(PANEL).zip(b.chunks(PANEL)).enumerate() {
                let out = &mut out[panel * rows + i].0;
                match (a.first_chunk(), b.first_chunk()) {
                    (Some(a), Some(b)) => whole(c, a, b, shift, out),
                    _ => {
                        for ((&a, &b), out) in a.iter().zip(b).zip(out) {
                            *out = neuron(c, a, b, shift);
                        }
                    }
                }
            }
        }
    }
}

per_isa! {
    /// As [`blend`], with `out` [n, `columns`] row by row.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn blend_rows(
        c: [f32; 3],
        a: &[f32],
        b: &[f32],
        m: &[f32],
        columns: usize,
        out: &mut [f32],
    ) {
        let len = m.len() * columns;
        assert_eq!((a.len(), b.len(), out.len()), (len, len, len), "not rows of {columns}");
        for (i, &m) in m.iter().enumerate() {
            let run = i * columns..(i + 1) * columns;
            let (a, b, out) = (&a[run.clone()], &b[run.clone()], &mut out[run]);
            let shift = c[2] * m;
            for ((&a, &b), out) in a.iter().zip(b).zip(out) {
                *out = neuron(c, a, b, shift);
            }
        }
    }
}

#[inline(always)]
fn whole(c: [f32; 3], a: &[f32; PANEL], b: &[f32; PANEL], shift: f32, out: &mut [f32; PANEL]) {
    for lane in 0..PANEL {
        out[lane] = neuron(c, a[lane], b[lane], shift);
    }
}

/// Interleaved images.
const LANES: usize = 32;
/// Numbers in a cache line.
const LINE: usize = 16;

/// The pre-activations of a neuron under two nets, on 32 images, aligned to cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct NeuronPair {
    a: [f32; LANES],
    b: [f32; LANES],
}

/// Pre-activations of up to 32 images under two nets.
#[derive(Clone, Debug)]
pub struct Images {
    /// `[h]`.
    neurons: Vec<NeuronPair>,
    m: [f32; LANES],
}

impl Images {
    /// The largest number of images.
    pub const MOST: usize = LANES;

    /// All zeros, for `h` neurons.
    pub fn zeros(h: usize) -> Images {
        Images {
            neurons: vec![NeuronPair { a: [0.0; LANES], b: [0.0; LANES] }; h],
            m: [0.0; LANES],
        }
    }

    /// Sets the first `m.len()` images: `a` and `b` are [n, h], `m` is `[n]`. The others become
    /// unspecified.
    ///
    /// # Panics
    /// If the shapes do not fit together, or there are more than [`Images::MOST`].
    pub fn set(&mut self, a: &[f32], b: &[f32], m: &[f32]) {
        let (n, h) = (m.len(), self.neurons.len());
        assert_eq!((a.len(), b.len()), (n * h, n * h), "not [n, {h}]");
        self.m[..n].copy_from_slice(m);
        for (k, pairs) in self.neurons.chunks_mut(LINE).enumerate() {
            for i in 0..n {
                let run = i * h + k * LINE..i * h + k * LINE + pairs.len();
                for (pair, (&a, &b)) in pairs.iter_mut().zip(a[run.clone()].iter().zip(&b[run])) {
                    (pair.a[i], pair.b[i]) = (a, b);
                }
            }
        }
    }

    /// `out` [points, 32, 10]: for each of `points`, relu(c0 a + c1 b + c2 m) · w2ᵀ, with `w2` [h,
    /// 10]; each logit ascending over neurons.
    ///
    /// # Panics
    /// If `out` differs in its number of points, or a `w2` in its number of neurons.
    pub fn logits(&self, points: &[Combination], out: &mut [[[f32; CLASSES]; LANES]]) {
        assert_eq!(points.len(), out.len(), "points and logits differ in number");
        assert!(
            points.iter().all(|(_, w2)| w2.len() == self.neurons.len()),
            "w2 is of another width"
        );
        let mut sums = vec![[[0.0; LANES]; CLASSES]; points.len()];
        let mut hidden = [[0.0; LANES]; AT_ONCE];
        for (k, neurons) in self.neurons.chunks(AT_ONCE).enumerate() {
            for (&(c, w2), sums) in points.iter().zip(&mut sums) {
                let shift = self.m.map(|m| c[2] * m);
                second_layer(
                    c,
                    neurons,
                    &shift,
                    &w2[k * AT_ONCE..][..neurons.len()],
                    &mut hidden,
                    sums,
                );
            }
        }
        for (out, sums) in out.iter_mut().zip(&sums) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = std::array::from_fn(|class| sums[class][i]);
            }
        }
    }
}

/// The coefficients of a point, and its second layer [h, 10].
pub type Combination<'a> = ([f32; 3], &'a [[f32; CLASSES]]);

/// Neurons that are processed at once: they fill most of L1.
const AT_ONCE: usize = 96;

/// Logits by class, [10, 32].
type Logits = [[f32; LANES]; CLASSES];
/// Neurons after ReLU, [96, 32]: a workspace.
type Hidden = [[f32; LANES]; AT_ONCE];

/// `out` += relu(c0 a + c1 b + shift) · w2ᵀ, for at most as many neurons as the workspace `hidden`
/// holds.
fn second_layer(
    c: [f32; 3],
    neurons: &[NeuronPair],
    shift: &[f32; LANES],
    w2: &[[f32; CLASSES]],
    hidden: &mut Hidden,
    out: &mut Logits,
) {
    #[cfg(target_arch = "x86_64")]
    match super::isa() {
        // SAFETY: `isa()` returns only sets that the processor was found to have.
        super::Isa::Avx512 => return unsafe { avx512::second_layer(c, neurons, shift, w2, out) },
        super::Isa::Avx2 => {
            // SAFETY: as above.
            return unsafe { avx2::second_layer(c, neurons, shift, w2, hidden, out) };
        }
        super::Isa::Scalar => {}
    }
    plain(c, neurons, shift, w2, out);
}

/// One neuron at a time.
fn plain(
    c: [f32; 3],
    neurons: &[NeuronPair],
    shift: &[f32; LANES],
    w2: &[[f32; CLASSES]],
    out: &mut Logits,
) {
    for (pair, w2) in neurons.iter().zip(w2) {
        let hidden: [f32; LANES] =
            std::array::from_fn(|lane| neuron(c, pair.a[lane], pair.b[lane], shift[lane]));
        for (out, &w) in out.iter_mut().zip(w2) {
            for lane in 0..LANES {
                out[lane] = hidden[lane].mul_add(w, out[lane]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{CLASSES, Hidden, LANES, Logits, NeuronPair};
    use std::arch::x86_64::*;

    const EIGHT: usize = 8;
    /// Images of a tile.
    const IMAGES: usize = 2 * EIGHT;
    /// Classes of a tile.
    const HALF: usize = CLASSES / 2;

    /// Tiles of five classes and sixteen images, ten registers of sums, so that a broadcast weight
    /// serves two multiply-adds. The hidden layer passes through L1.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn second_layer(
        c: [f32; 3],
        neurons: &[NeuronPair],
        shift: &[f32; LANES],
        w2: &[[f32; CLASSES]],
        hidden: &mut Hidden,
        out: &mut Logits,
    ) {
        let hidden = &mut hidden[..neurons.len()];
        for (pair, hidden) in neurons.iter().zip(&mut *hidden) {
            for first in (0..LANES).step_by(EIGHT) {
                let inner =
                    _mm256_fmadd_ps(_mm256_set1_ps(c[1]), load(&pair.b, first), load(shift, first));
                let z = _mm256_fmadd_ps(_mm256_set1_ps(c[0]), load(&pair.a, first), inner);
                let fires = _mm256_cmp_ps::<_CMP_NLE_UQ>(z, _mm256_setzero_ps());
                store(hidden, first, _mm256_and_ps(z, fires));
            }
        }
        for first in (0..LANES).step_by(IMAGES) {
            for class in (0..CLASSES).step_by(HALF) {
                tile(hidden, w2, first, class, out);
            }
        }
    }

    /// Adds the neurons' contribution to the five classes at `class` of the sixteen images at
    /// `first`.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn tile(
        hidden: &[[f32; LANES]],
        w2: &[[f32; CLASSES]],
        first: usize,
        class: usize,
        out: &mut Logits,
    ) {
        let out = &mut out[class..][..HALF];
        let mut sums = [[_mm256_setzero_ps(); 2]; HALF];
        for (sums, out) in sums.iter_mut().zip(&*out) {
            *sums = [load(out, first), load(out, first + EIGHT)];
        }
        for (hidden, w2) in hidden.iter().zip(w2) {
            let hidden = [load(hidden, first), load(hidden, first + EIGHT)];
            for (sums, &w) in sums.iter_mut().zip(&w2[class..]) {
                let w = _mm256_set1_ps(w);
                for (sum, hidden) in sums.iter_mut().zip(hidden) {
                    *sum = _mm256_fmadd_ps(hidden, w, *sum);
                }
            }
        }
        for (out, [low, high]) in out.iter_mut().zip(sums) {
            store(out, first, low);
            store(out, first + EIGHT, high);
        }
    }

    /// The eight numbers at `first`.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(x: &[f32; LANES], first: usize) -> __m256 {
        let x = &x[first..][..EIGHT];
        // SAFETY: the slice has eight numbers.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }

    /// Overwrites the eight numbers at `first`.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn store(x: &mut [f32; LANES], first: usize, eight: __m256) {
        let x = &mut x[first..][..EIGHT];
        // SAFETY: the slice has eight numbers.
        unsafe { _mm256_storeu_ps(x.as_mut_ptr(), eight) };
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{CLASSES, LANES, Logits, NeuronPair};
    use std::arch::x86_64::*;

    /// One tile of ten classes and 32 images, twenty registers of sums.
    #[target_feature(enable = "avx512f,avx512vl")]
    pub(super) fn second_layer(
        c: [f32; 3],
        neurons: &[NeuronPair],
        shift: &[f32; LANES],
        w2: &[[f32; CLASSES]],
        out: &mut Logits,
    ) {
        let load = |x: &[f32; LANES]| {
            // SAFETY: 0..16 and 16..32 are within the 32 numbers of `x`.
            [0, 16].map(|first| unsafe { _mm512_loadu_ps(x.as_ptr().add(first)) })
        };
        let (zero, c0, c1, shift) =
            (_mm512_setzero_ps(), _mm512_set1_ps(c[0]), _mm512_set1_ps(c[1]), load(shift));
        let mut tile = [[zero; 2]; CLASSES];
        for (tile, out) in tile.iter_mut().zip(&*out) {
            *tile = load(out);
        }
        for (pair, w2) in neurons.iter().zip(w2) {
            let (a, b) = (load(&pair.a), load(&pair.b));
            let hidden = [0, 1].map(|half| {
                let z = _mm512_fmadd_ps(c0, a[half], _mm512_fmadd_ps(c1, b[half], shift[half]));
                _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLE_UQ>(z, zero), z)
            });
            for (tile, &w) in tile.iter_mut().zip(w2) {
                let w = _mm512_set1_ps(w);
                for (sum, hidden) in tile.iter_mut().zip(hidden) {
                    *sum = _mm512_fmadd_ps(hidden, w, *sum);
                }
            }
        }
        for (out, tile) in out.iter_mut().zip(tile) {
            for (out, tile) in out.chunks_exact_mut(16).zip(tile) {
                // SAFETY: the chunk has sixteen numbers.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr(), tile) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::dense;
    use crate::kernel::gram::tests::noise;
    use crate::kernel::test::{bits, on_every_isa};

    const C: [f32; 3] = [0.6, -0.3, 0.7];

    /// relu(c0 a + c1 b + c2 m), [n, columns].
    fn reference(c: [f32; 3], a: &[f32], b: &[f32], m: &[f32], columns: usize) -> Vec<f32> {
        let z = |i: usize| c[0].mul_add(a[i], c[1].mul_add(b[i], c[2] * m[i / columns]));
        (0..a.len()).map(z).map(|z| if z > 0.0 { z } else { 0.0 }).collect()
    }

    /// The rows that `blend` writes into an output of NaNs.
    fn blended(
        c: [f32; 3],
        a: &[f32],
        b: &[f32],
        m: &[f32],
        columns: usize,
        wider: usize,
    ) -> Vec<Vec<f32>> {
        let mut out = TallMatrix::new(columns + wider);
        out.set_rows(m.len());
        out.data_mut().iter_mut().for_each(|row| row.0.fill(f32::NAN));
        blend(c, a, b, m, columns, &mut out);
        let rows = m.len();
        let data = out.data_mut();
        (0..rows)
            .map(|i| {
                (0..columns + wider).map(|j| data[j / PANEL * rows + i].0[j % PANEL]).collect()
            })
            .collect()
    }

    #[test]
    fn blend_has_the_bits_of_its_formula_and_leaves_other_columns_alone_on_every_isa() {
        on_every_isa(|isa| {
            for (n, columns) in [(0, 0), (0, 3), (3, 0), (1, 1), (5, 47), (3, 48), (4, 129)] {
                let (a, b, m) = (noise(n * columns, 1), noise(n * columns, 2), noise(n, 3));
                let expected = reference(C, &a, &b, &m, columns);
                let mut rows = vec![f32::NAN; n * columns];
                blend_rows(C, &a, &b, &m, columns, &mut rows);
                assert_eq!(bits(&rows), bits(&expected), "{isa:?} {n} x {columns}");
                for wider in [0, 3] {
                    for (i, row) in blended(C, &a, &b, &m, columns, wider).iter().enumerate() {
                        let expected = &expected[i * columns..][..columns];
                        assert_eq!(
                            bits(&row[..columns]),
                            bits(expected),
                            "{isa:?} {n} x {columns}"
                        );
                        assert!(
                            row[columns..].iter().all(|x| x.is_nan()),
                            "{isa:?} {n} x {columns}"
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn unit_coefficients_give_an_end_to_the_bit() {
        let (a, b, m) = (noise(770, 1), noise(770, 2), noise(7, 3));
        let relu = |x: &[f32]| x.iter().map(|x| x.max(0.0)).collect::<Vec<f32>>();
        assert_eq!(bits(&blended([1.0, 0.0, 0.0], &a, &b, &m, 110, 0).concat()), bits(&relu(&a)));
        assert_eq!(bits(&blended([0.0, 1.0, 0.0], &a, &b, &m, 110, 0).concat()), bits(&relu(&b)));
    }

    #[test]
    fn logits_have_the_bits_of_the_two_layers_in_sequence_on_every_isa() {
        on_every_isa(|isa| {
            for (n, h) in [(32, 1), (1, 7), (31, 65), (0, 3), (32, 0), (17, 96), (30, 201)] {
                let (a, b, m, w2) =
                    (noise(n * h, 1), noise(n * h, 2), noise(n, 3), noise(CLASSES * h, 4));
                let mut expected = vec![f32::NAN; n * CLASSES];
                dense::logits(&reference(C, &a, &b, &m, h), &w2, h, &mut expected);
                let by_neuron: Vec<_> =
                    (0..h).map(|j| std::array::from_fn(|class| w2[class * h + j])).collect();
                let mut images = Images::zeros(h);
                // Previous content.
                images.set(&noise(32 * h, 5), &noise(32 * h, 6), &noise(32, 7));
                images.set(&a, &b, &m);
                let other = vec![[0.5; CLASSES]; h];
                let mut out = [[[f32::NAN; CLASSES]; Images::MOST]; 3];
                images.logits(
                    &[(C, &by_neuron), ([1.0, 0.0, 0.0], &other), (C, &by_neuron)],
                    &mut out,
                );
                for out in [&out[0], &out[2]] {
                    assert_eq!(bits(out[..n].as_flattened()), bits(&expected), "{isa:?} {n} x {h}");
                }
            }
        });
    }

    #[test]
    fn nan_in_the_hidden_layer_gives_nan_logits() {
        on_every_isa(|isa| {
            let mut images = Images::zeros(2);
            images.set(&[f32::NAN, 1.0], &[0.0, 0.0], &[0.0]);
            let mut out = [[[0.0; CLASSES]; Images::MOST]];
            images.logits(&[([1.0, 0.0, 0.0], &[[1.0; CLASSES]; 2])], &mut out);
            assert!(out[0][0].iter().all(|x| x.is_nan()), "{isa:?}");
        });
    }
}
