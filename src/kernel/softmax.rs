//! Softmax and cross-entropy, for sixteen interleaved images.
//!
//! Exponentials are computed in f32, of the distance of a logit below the largest one, so that
//! nothing overflows. Their sum, its logarithm and the loss are f64, so that a loss near zero keeps
//! its digits. `exp` and `ln` are implemented here in multiply-adds: the same operations in the
//! same order have the same bits on every machine, and they vectorise.

use super::dense::CLASSES;
use super::per_isa;

/// Interleaved images.
const LANES: usize = 16;

/// Loss and misclassifications, summed over some images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchStats {
    /// Sum of the images' cross-entropies, in nats.
    pub loss: f64,
    /// Misclassified images; of equal logits the lowest class is predicted.
    pub wrong: usize,
}

/// Evaluates `$body` with `$exp` an array of numbers for `$classes` classes, whose length is a
/// constant for ten of them.
macro_rules! by_classes {
    ($classes:expr, $exp:ident => $body:expr) => {
        if $classes == CLASSES {
            let $exp = &mut [[0.0; LANES]; CLASSES];
            $body
        } else {
            let $exp = &mut vec![[0.0; LANES]; $classes][..];
            $body
        }
    };
}
per_isa! {
    /// Adds to `stats` the loss of the `logits` [n, classes] for the `labels` `[n]`, image by
    /// image.
    ///
    /// # Panics
    /// If the lengths do not match, or a label is not below the number of classes.
    pub fn cross_entropy(logits: &[f32], labels: &[u16], stats: &mut BatchStats) {
        let classes = check(logits, labels);
        by_classes!(classes, exp => {
            let logits = logits.chunks(LANES * exp.len());
            for (logits, labels) in logits.zip(labels.chunks(LANES)) {
                Softmax::of(logits, exp).record(logits, labels, stats);
            }
        });
    }
}

per_isa! {
    /// As [`cross_entropy`], and replaces the logits by the derivative of `weight` times the loss
    /// with respect to each of them: weight (p - onehot).
    ///
    /// # Panics
    /// As [`cross_entropy`].
    pub fn cross_entropy_gradient(
        logits: &mut [f32],
        labels: &[u16],
        weight: f64,
        stats: &mut BatchStats,
    ) {
        let classes = check(logits, labels);
        by_classes!(classes, exp => {
            let logits = logits.chunks_mut(LANES * exp.len());
            for (logits, labels) in logits.zip(labels.chunks(LANES)) {
                let softmax = Softmax::of(logits, exp);
                softmax.record(logits, labels, stats);
                softmax.differentiate(logits, labels, weight);
            }
        });
    }
}

/// The number of classes; 10 without images.
fn check(logits: &[f32], labels: &[u16]) -> usize {
    let classes = if labels.is_empty() { CLASSES } else { logits.len() / labels.len() };
    assert!(classes > 0 && logits.len() == classes * labels.len(), "not as many logits per label");
    let is_class = |&label: &u16| usize::from(label) < classes;
    assert!(labels.iter().all(is_class), "a label above {}", classes - 1);
    classes
}

/// The softmax of [`LANES`] images, by class.
struct Softmax<'a> {
    largest: [f32; LANES],
    best: [u32; LANES],
    /// exp(logit - largest) of each class.
    exp: &'a mut [[f32; LANES]],
    /// The sum of the exponentials, ascending over classes.
    sum: [f64; LANES],
}

impl<'a> Softmax<'a> {
    /// Of up to [`LANES`] images' `logits` [n, classes], with room for as many classes.
    #[inline(always)]
    fn of(logits: &[f32], exp: &'a mut [[f32; LANES]]) -> Softmax<'a> {
        for (lane, logits) in logits.chunks_exact(exp.len()).enumerate() {
            for (exp, &logit) in exp.iter_mut().zip(logits) {
                exp[lane] = logit;
            }
        }
        let (mut largest, mut best) = (exp[0], [0; LANES]);
        for (class, logits) in (1..).zip(&exp[1..]) {
            for lane in 0..LANES {
                let better = logits[lane] > largest[lane];
                largest[lane] = if better { logits[lane] } else { largest[lane] };
                best[lane] = if better { class } else { best[lane] };
            }
        }
        let mut sum = [0.0; LANES];
        for exp in &mut *exp {
            for lane in 0..LANES {
                exp[lane] = exp_of_negative(exp[lane] - largest[lane]);
                sum[lane] += f64::from(exp[lane]);
            }
        }
        Softmax { largest, best, exp, sum }
    }

    #[inline(always)]
    fn record(&self, logits: &[f32], labels: &[u16], stats: &mut BatchStats) {
        // A loop, since the closure of `map` would be compiled for the baseline instruction set.
        let mut logs = self.sum;
        for x in &mut logs {
            *x = ln(*x);
        }
        let logits = logits.chunks_exact(self.exp.len());
        for (lane, (&label, logits)) in labels.iter().zip(logits).enumerate() {
            stats.loss += logs[lane]
                - (f64::from(logits[usize::from(label)]) - f64::from(self.largest[lane]));
            stats.wrong += usize::from(self.best[lane] != u32::from(label));
        }
    }

    #[inline(always)]
    fn differentiate(self, gradient: &mut [f32], labels: &[u16], weight: f64) {
        let mut scale = self.sum;
        for x in &mut scale {
            *x = weight / *x;
        }
        // The exponential of each image's label, before it is scaled.
        let mut of_label = [0.0; LANES];
        for (lane, &label) in labels.iter().enumerate() {
            of_label[lane] = self.exp[usize::from(label)][lane];
        }
        let scaled = self.exp;
        for scaled in &mut *scaled {
            for lane in 0..LANES {
                scaled[lane] = (f64::from(scaled[lane]) * scale[lane]) as f32;
            }
        }
        let rows = gradient.chunks_exact_mut(scaled.len());
        for (lane, (gradient, &label)) in rows.zip(labels).enumerate() {
            for (gradient, scaled) in gradient.iter_mut().zip(&*scaled) {
                *gradient = scaled[lane];
            }
            gradient[usize::from(label)] =
                f64::from(of_label[lane]).mul_add(scale[lane], -weight) as f32;
        }
    }
}

/// exp(x) for x <= 0, within 2 units in the last place; 0 below -87, where f32 becomes subnormal.
/// NaN stays NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; the polynomial is that of S. Moshier's Cephes, `expf.c`.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    // Added to a small number, it puts the nearest integer into the low bits.
    const ROUND: f32 = (3 << 22) as f32;
    // ln 2 as a number of few bits, so that its product with n is exact, and the remainder.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2[1], n.mul_add(-LN_2[0], x));
    let mut p = 1.987_569_1e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, coefficient);
    }
    let exp_r = (p * r).mul_add(r, r) + 1.0;
    // n + 127, shifted into the exponent of an f32.
    let two_to_n = f32::from_bits((rounded.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < -87.0 { 0.0 } else { exp_r * two_to_n }
}

/// ln(x) for a normal x > 0, within 2 units in the last place. NaN stays NaN.
///
/// x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2); method and polynomial of Sun's fdlibm,
/// `e_log.c`.
#[inline(always)]
fn ln(x: f64) -> f64 {
    const LN_2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];
    const SQRT_HALF: u64 = 0x3fe6_a09e_0000_0000;
    const ONE: u64 = 0x3ff0_0000_0000_0000;
    // With these high bits, the low bits are an integer above 2^52.
    const INTEGER: u64 = 0x4330_0000_0000_0000;
    let bits = x.to_bits().wrapping_add(ONE - SQRT_HALF);
    let k = f64::from_bits(INTEGER | (bits >> 52)) - ((1u64 << 52) + 1023) as f64;
    let f = f64::from_bits((bits & ((1 << 52) - 1)) + SQRT_HALF) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let mut p = 1.479_819_860_511_658_6e-1;
    for coefficient in [
        1.531_383_769_920_937_3e-1,
        1.818_357_216_161_805e-1,
        2.222_219_843_214_978_4e-1,
        2.857_142_874_366_239e-1,
        3.999_999_999_940_942e-1,
        6.666_666_666_666_735e-1,
    ] {
        p = z.mul_add(p, coefficient);
    }
    let half_square = 0.5 * f * f;
    let rest = s.mul_add(z.mul_add(p, half_square), k * LN_2[1]);
    let ln = k.mul_add(LN_2[0], f - (half_square - rest));
    if x.is_nan() { x } else { ln }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gram::tests::noise;
    use crate::kernel::test::on_every_isa;
    use proptest::prelude::*;

    fn stats(logits: &[f32], labels: &[u16]) -> BatchStats {
        let mut stats = BatchStats::default();
        cross_entropy(logits, labels, &mut stats);
        stats
    }

    /// The definition, image by image.
    fn reference(logits: &mut [f32], labels: &[u16], weight: f64, stats: &mut BatchStats) {
        let classes = logits.len() / labels.len().max(1);
        for (logits, &label) in logits.chunks_mut(classes.max(1)).zip(labels) {
            let label = usize::from(label);
            let best = (1..classes)
                .fold(0, |best, class| if logits[class] > logits[best] { class } else { best });
            let exp: Vec<f32> =
                logits.iter().map(|logit| exp_of_negative(logit - logits[best])).collect();
            let sum = exp.iter().fold(0.0, |sum, &exp| sum + f64::from(exp));
            stats.loss += ln(sum) - (f64::from(logits[label]) - f64::from(logits[best]));
            stats.wrong += usize::from(best != label);
            for (class, (logit, &exp)) in logits.iter_mut().zip(&exp).enumerate() {
                let target = if class == label { weight } else { 0.0 };
                *logit = f64::from(exp).mul_add(weight / sum, -target) as f32;
            }
        }
    }

    #[test]
    fn interleaved_images_equal_the_reference_implementation_bit_for_bit() {
        let of_ten = [0, 1, 2, 15, 16, 17, 33, 130, 1000].map(|n| (n, CLASSES));
        let others = [(1, 1), (40, 2), (33, 3), (19, 9), (17, 16), (50, 37), (35, 1000)];
        for (n, classes) in of_ten.into_iter().chain(others) {
            let mut logits: Vec<f32> =
                noise(n * classes, 1).iter().map(|x| 1.0 / (x * x * x)).collect();
            if logits.len() > 200 {
                (logits[7], logits[45], logits[113]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
            }
            let labels: Vec<u16> = (0..n).map(|i| (i * 7 % classes) as u16).collect();
            for skipped in [0, n.min(12)] {
                let (logits, labels) = (&logits[skipped * classes..], &labels[skipped..]);
                let start = BatchStats { loss: 0.25, wrong: 3 };
                let (mut gradient, mut expected) = (logits.to_vec(), start);
                reference(&mut gradient, labels, 0.3, &mut expected);
                let bits = |x: &[f32]| {
                    x.iter().map(|x| if x.is_nan() { 0 } else { x.to_bits() }).collect::<Vec<_>>()
                };
                let loss = |stats: BatchStats| (!stats.loss.is_nan()).then(|| stats.loss.to_bits());
                on_every_isa(|isa| {
                    let (mut recorded, mut found, mut out) = (start, start, logits.to_vec());
                    cross_entropy(logits, labels, &mut recorded);
                    cross_entropy_gradient(&mut out, labels, 0.3, &mut found);
                    assert_eq!(
                        (loss(recorded), recorded.wrong),
                        (loss(expected), expected.wrong),
                        "{isa:?}, {n} x {classes}"
                    );
                    assert_eq!(
                        (loss(found), found.wrong),
                        (loss(expected), expected.wrong),
                        "{isa:?}, {n} x {classes}"
                    );
                    assert_eq!(bits(&out), bits(&gradient), "{isa:?}, {n} x {classes}");
                });
            }
        }
    }

    #[test]
    fn the_exponential_is_within_two_units_in_the_last_place() {
        let ulps = |x: f32| {
            let exact = libm::exp(f64::from(x));
            let unit =
                f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
            (f64::from(exp_of_negative(x)) - exact).abs() / unit
        };
        let last = (-87.0f32).to_bits();
        let every =
            (0x8000_0000..=last).step_by(997).map(f32::from_bits).chain([f32::from_bits(last)]);
        let worst = every.map(ulps).fold(0.0, f64::max);
        assert!(worst <= 2.0, "{worst}");
    }

    #[test]
    fn the_exponential_is_exact_at_zero_and_keeps_nan() {
        assert_eq!([0.0, -0.0].map(exp_of_negative), [1.0, 1.0]);
        assert_eq!([-87.1, -1e9, f32::MIN, f32::NEG_INFINITY].map(exp_of_negative), [0.0; 4]);
        assert!(exp_of_negative(f32::NAN).is_nan() && exp_of_negative(-f32::NAN).is_nan());
    }

    #[test]
    fn the_logarithm_is_within_two_units_in_the_last_place() {
        let wide =
            (0..200_000).map(|i| f64::from_bits(0x0010_0000_0000_0000 + i * 0x29d5_3a1f_9e2d));
        let sums = (0..=900_000)
            .map(|i| 1.0 + f64::from(i) / 1e5)
            .chain((1..52).map(|k| 1.0 + 1.0 / (1u64 << k) as f64));
        for x in wide.chain(sums) {
            let exact = libm::log(x);
            assert!(
                (ln(x) - exact).abs() <= 2.0 * f64::EPSILON * exact.abs(),
                "ln({x}) is {}, not {exact}",
                ln(x)
            );
        }
        assert_eq!(ln(1.0).to_bits(), 0.0f64.to_bits());
        assert!(ln(f64::NAN).is_nan());
    }

    #[test]
    fn equal_logits_have_the_loss_ln_10_and_tie_to_the_lowest_class() {
        let BatchStats { loss, wrong } = stats(&[0.5; 10], &[0]);
        assert!((loss - std::f64::consts::LN_10).abs() < 1e-15);
        assert_eq!(wrong, 0);
        assert_eq!(stats(&[0.5; 10], &[1]).wrong, 1);
    }

    #[test]
    fn huge_logits_neither_overflow_nor_vanish() {
        let mut logits = [0.0f32; 10];
        logits[3] = 1e30;
        assert_eq!(stats(&logits, &[3]), BatchStats { loss: 0.0, wrong: 0 });
        let BatchStats { loss, wrong } = stats(&logits, &[4]);
        assert!((loss / 1e30 - 1.0).abs() < 1e-6 && wrong == 1);
    }

    #[test]
    fn a_logit_that_is_not_finite_makes_the_loss_not_finite() {
        for broken in [f32::NAN, f32::INFINITY] {
            for at in 0..10 {
                let mut logits = [0.0; 10];
                logits[at] = broken;
                assert!(!stats(&logits, &[5]).loss.is_finite(), "{broken} at {at}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "a label above 9")]
    fn a_label_above_nine_is_refused() {
        stats(&[0.0; 20], &[10, 0]);
    }

    proptest! {
        #[test]
        fn the_loss_is_that_of_exact_arithmetic_even_near_zero(
            logits in prop::array::uniform10(-30.0f32..30.0), label in 0u16..10,
        ) {
            let wide = logits.map(f64::from);
            // ln(sum exp(x_c - x_label)) = ln(1 + the others).
            let others = (0..10).filter(|&c| c != usize::from(label));
            let others: f64 = others.map(|c| libm::exp(wide[c] - wide[usize::from(label)])).sum();
            let exact = libm::log1p(others);
            let found = stats(&logits, &[label]).loss;
            prop_assert!((found - exact).abs() <= 1e-6 * exact + 1e-15, "{found} {exact}");
        }

        #[test]
        fn the_gradient_agrees_with_central_differences(
            logits in prop::array::uniform10(-8.0f32..8.0),
            label in 0u16..10,
            weight in 0.01f64..2.0,
        ) {
            let (mut gradient, mut found) = (logits, BatchStats::default());
            cross_entropy_gradient(&mut gradient, &[label], weight, &mut found);
            prop_assert_eq!(found, stats(&logits, &[label]));
            for class in 0..10 {
                let shifted = |by: f32| {
                    let mut moved = logits;
                    moved[class] += by;
                    (stats(&moved, &[label]).loss, f64::from(moved[class]))
                };
                let ((up, x1), (down, x0)) = (shifted(1e-2), shifted(-1e-2));
                let slope = weight * (up - down) / (x1 - x0);
                let found = f64::from(gradient[class]);
                prop_assert!((slope - found).abs() < 1e-4, "{slope} {found}");
            }
        }
    }
}
