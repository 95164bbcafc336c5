//! Softmax cross-entropy of ten logits, in f64. Does not know where logits come from.

use super::CLASSES;

/// Cross-entropy of one image's ten logits in nats, and whether the net is wrong about it (ties go to the lowest class).
///
/// # Panics
/// If there are not ten logits, or `label` is above 9.
pub fn cross_entropy(logits: &[f32], label: u8) -> (f64, bool) {
    let softmax = Softmax::of(logits);
    (softmax.loss(label), softmax.best != usize::from(label))
}

/// As [`cross_entropy`], and leaves in `gradient` the derivative of `weight` times the loss by each logit:
/// weight (p - onehot).
pub fn cross_entropy_gradient(logits: &[f32], label: u8, weight: f64, gradient: &mut [f32]) -> (f64, bool) {
    let softmax = Softmax::of(logits);
    for (class, (gradient, exp)) in gradient.iter_mut().zip(softmax.exp).enumerate() {
        let target = if class == usize::from(label) { 1.0 } else { 0.0 };
        *gradient = (weight * (exp / softmax.sum - target)) as f32;
    }
    (softmax.loss(label), softmax.best != usize::from(label))
}

/// exp(logit - largest logit) for each class, so that nothing overflows.
struct Softmax {
    shifted: [f64; CLASSES],
    exp: [f64; CLASSES],
    sum: f64,
    best: usize,
}

impl Softmax {
    fn of(logits: &[f32]) -> Softmax {
        assert_eq!(logits.len(), CLASSES, "not ten logits");
        let best = (1..CLASSES).fold(0, |best, class| if logits[class] > logits[best] { class } else { best });
        let shifted = std::array::from_fn(|class| f64::from(logits[class]) - f64::from(logits[best]));
        let exp = shifted.map(libm::exp);
        Softmax { shifted, exp, sum: exp.iter().sum(), best }
    }

    fn loss(&self, label: u8) -> f64 {
        libm::log(self.sum) - self.shifted[usize::from(label)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_logits_cost_the_logarithm_of_ten_and_tie_to_the_lowest_class() {
        let (loss, wrong) = cross_entropy(&[0.5; 10], 0);
        assert!((loss - std::f64::consts::LN_10).abs() < 1e-15);
        assert!(!wrong);
        assert!(cross_entropy(&[0.5; 10], 1).1);
    }

    #[test]
    fn huge_logits_neither_overflow_nor_vanish() {
        let mut logits = [0.0f32; 10];
        logits[3] = 1e30;
        assert_eq!(cross_entropy(&logits, 3), (0.0, false));
        let (loss, wrong) = cross_entropy(&logits, 4);
        assert!((loss / 1e30 - 1.0).abs() < 1e-6 && wrong);
    }

    #[test]
    fn a_logit_that_is_no_number_makes_the_loss_no_number() {
        for broken in [f32::NAN, f32::INFINITY] {
            for at in 0..10 {
                let mut logits = [0.0; 10];
                logits[at] = broken;
                assert!(!cross_entropy(&logits, 5).0.is_finite(), "{broken} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_gradient_agrees_with_central_differences(
            logits in prop::array::uniform10(-8.0f32..8.0), label in 0u8..10, weight in 0.01f64..2.0,
        ) {
            let mut gradient = [f32::NAN; 10];
            prop_assert_eq!(cross_entropy_gradient(&logits, label, weight, &mut gradient), cross_entropy(&logits, label));
            for class in 0..10 {
                let shifted = |by: f32| {
                    let mut moved = logits;
                    moved[class] += by;
                    (cross_entropy(&moved, label).0, f64::from(moved[class]))
                };
                let ((up, x1), (down, x0)) = (shifted(1e-2), shifted(-1e-2));
                let slope = weight * (up - down) / (x1 - x0);
                prop_assert!((slope - f64::from(gradient[class])).abs() < 1e-4, "{slope} {}", gradient[class]);
            }
        }
    }
}
