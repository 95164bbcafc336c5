//! One step of an optimiser, element by element: a gradient moves a weight and its moments.
//!
//! The same rule is applied to a gradient in memory ([`apply`]) and to one that is never stored
//! ([`descend`]: the product of a transposed batch and the gradient of its pre-activations,
//! consumed row by row from registers).
//!
//! This file does not depend on layers, priors or schedules. `docs/performance.md` has the
//! measurements.

use super::aligned::Aligned;
use super::panels::Panels;
use super::product::{Position, Sink, add_rows, product};
use super::sparse::{Matrix, Sparse, by_entry};
use super::{isa, per_isa};

/// The rule that moves a weight with gradient g. Both rules first add `decay` · w to g; at the end
/// they apply a soft threshold: the weight moves towards zero by the threshold, and stops there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Update {
    /// v <- momentum · v + g; w <- w - rate · v.
    Momentum {
        /// Step size.
        rate: f32,
        /// The fraction of the last velocity that is kept.
        momentum: f32,
        /// See [`Update`].
        decay: f32,
        /// The threshold.
        shrink: f32,
    },
    /// m <- beta1 · m + (1 - beta1) g; v <- beta2 · v + (1 - beta2) g²; w <- w - rate · m / (scale
    /// · sqrt(v) + epsilon).
    Adam {
        /// Step size, over 1 - beta1^t.
        rate: f32,
        /// 1 / sqrt(1 - beta2^t).
        scale: f32,
        /// (beta1, 1 - beta1).
        mean: (f32, f32),
        /// (beta2, 1 - beta2).
        square: (f32, f32),
        /// Keeps the quotient finite.
        epsilon: f32,
        /// See [`Update`].
        decay: f32,
        /// The threshold, times scale · sqrt(v) + epsilon: the threshold of a weight is scaled as
        /// its gradient is.
        shrink: f32,
    },
}

/// What a prior adds to the gradient of a weight w: decay · w + slope · sign(w), with sign(0) = 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalty {
    /// See [`Penalty`].
    pub decay: f32,
    /// See [`Penalty`].
    pub slope: f32,
}

impl Penalty {
    /// The gradient at `w`, with the penalty's added.
    #[inline(always)]
    fn add_to(self, gradient: f32, w: f32) -> f32 {
        let slope = if w == 0.0 { 0.0 } else { self.slope.copysign(w) };
        self.decay.mul_add(w, gradient) + slope
    }
}

/// The optimiser's state of each weight, in the layout of the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    first: Aligned,
    second: Aligned,
}

impl Moments {
    /// The initial state of `weights` weights.
    pub fn zeros(weights: usize) -> Moments {
        Moments { first: Aligned::zeros(weights), second: Aligned::zeros(weights) }
    }

    /// The weights `w` with their state.
    ///
    /// # Panics
    /// If these are the moments of another number of weights.
    pub fn weights<'a>(&'a mut self, w: &'a mut [f32]) -> Weights<'a> {
        assert_eq!(self.first.len(), w.len(), "lengths differ");
        Weights { w, first: &mut self.first, second: &mut self.second }
    }

    /// The panels of `w`, from the left, each with its state.
    ///
    /// # Panics
    /// If these are the moments of another number of weights.
    pub fn panels<'a>(&'a mut self, w: &'a mut Panels) -> impl Iterator<Item = Weights<'a>> {
        assert_eq!(self.first.len(), w.data().len(), "lengths differ");
        let length = w.panel_len();
        let moments = self.first.chunks_mut(length).zip(self.second.chunks_mut(length));
        w.panels_mut().zip(moments).map(|((_, w), (first, second))| Weights { w, first, second })
    }
}

/// Weights and their optimiser state.
pub struct Weights<'a> {
    w: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

/// An [`Update`] in the kernels, with its branches resolved before the first weight.
trait Rule {
    /// Moves `W` neighbouring weights by their `gradient`. Each array is an argument of its own:
    /// behind one reference, LLVM assumes that they overlap, and does not vectorise.
    fn apply<const W: usize>(
        &self,
        gradient: [f32; W],
        w: &mut [f32; W],
        first: &mut [f32; W],
        second: &mut [f32; W],
    );
}

/// [`Update::Momentum`] without shrinking: the same bits, with one addition in place of the soft
/// threshold.
struct PlainMomentum {
    rate: f32,
    momentum: f32,
    decay: f32,
}

impl Rule for PlainMomentum {
    #[inline(always)]
    fn apply<const W: usize>(
        &self,
        gradient: [f32; W],
        w: &mut [f32; W],
        first: &mut [f32; W],
        _: &mut [f32; W],
    ) {
        for lane in 0..W {
            let v = self.momentum.mul_add(first[lane], self.decay.mul_add(w[lane], gradient[lane]));
            first[lane] = v;
            // -0 becomes 0, as with a soft threshold of 0.
            w[lane] = self.rate.mul_add(-v, w[lane]) + 0.0;
        }
    }
}

impl Rule for Update {
    #[inline(always)]
    fn apply<const W: usize>(
        &self,
        gradient: [f32; W],
        w: &mut [f32; W],
        first: &mut [f32; W],
        second: &mut [f32; W],
    ) {
        match *self {
            Update::Momentum { rate, momentum, decay, shrink } => {
                for lane in 0..W {
                    let v = momentum.mul_add(first[lane], decay.mul_add(w[lane], gradient[lane]));
                    first[lane] = v;
                    w[lane] = soft_threshold(rate.mul_add(-v, w[lane]), shrink);
                }
            }
            Update::Adam { rate, scale, mean, square, epsilon, decay, shrink } => {
                for lane in 0..W {
                    let g = decay.mul_add(w[lane], gradient[lane]);
                    let m = mean.0.mul_add(first[lane], mean.1 * g);
                    let v = square.0.mul_add(second[lane], square.1 * (g * g));
                    (first[lane], second[lane]) = (m, v);
                    let scale = scale.mul_add(v.sqrt(), epsilon);
                    w[lane] = soft_threshold(w[lane] - rate * m / scale, shrink / scale);
                }
            }
        }
    }
}

/// Evaluates `$body` with `$rule` bound to the [`Rule`] of `$update`.
macro_rules! by_rule {
    ($update:expr, $rule:ident => $body:expr) => {
        match $update {
            Update::Momentum { rate, momentum, decay, shrink: 0.0 } => {
                let $rule = PlainMomentum { rate, momentum, decay };
                $body
            }
            $rule => $body,
        }
    };
}

/// sign(w) max(|w| - t, 0); NaN stays NaN.
#[inline(always)]
fn soft_threshold(w: f32, t: f32) -> f32 {
    if w.abs() <= t { 0.0 } else { w - t.copysign(w) }
}

per_isa! {
    /// Moves the weights `w` by their `gradient`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply(update: Update, gradient: &[f32], w: &mut [f32], moments: &mut Moments) {
        assert_eq!((gradient.len(), moments.first.len()), (w.len(), w.len()), "lengths differ");
        let weights = &mut Weights { w, first: &mut moments.first, second: &mut moments.second };
        by_rule!(update, rule => apply_rule(&rule, gradient, weights));
    }
}

per_isa! {
    /// Moves the weights of a bend of a curve by `coefficient` times the gradient at a point of the
    /// curve: the given `gradient` and the `penalty` at that `point`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply_bend(
        update: Update,
        coefficient: f32,
        penalty: Penalty,
        gradient: &[f32],
        point: &[f32],
        weights: &mut Weights,
    ) {
        let n = weights.w.len();
        assert_eq!((gradient.len(), point.len()), (n, n), "lengths differ");
        let scaled = |gradient: f32, point: f32| coefficient * penalty.add_to(gradient, point);
        by_rule!(update, rule => {
            let (runs, rest) = gradient.as_chunks::<RUN>();
            let (points, rest_points) = point.as_chunks::<RUN>();
            for ((gradient, point), at) in runs.iter().zip(points).zip((0..).step_by(RUN)) {
                let mut moved = [0.0; RUN];
                for lane in 0..RUN {
                    moved[lane] = scaled(gradient[lane], point[lane]);
                }
                weights.apply(&rule, moved, at);
            }
            let rest = rest.iter().zip(rest_points).zip(RUN * runs.len()..);
            for ((&gradient, &point), at) in rest {
                weights.apply(&rule, [scaled(gradient, point)], at);
            }
        });
    }
}

/// Weights that are moved at once.
const RUN: usize = 64;

#[inline(always)]
fn apply_rule(rule: &impl Rule, gradient: &[f32], weights: &mut Weights) {
    let (runs, rest) = gradient.as_chunks::<RUN>();
    for (&gradient, at) in runs.iter().zip((0..).step_by(RUN)) {
        weights.apply(rule, gradient, at);
    }
    for (&gradient, at) in rest.iter().zip(RUN * runs.len()..) {
        weights.apply(rule, [gradient], at);
    }
}

impl<'a> Weights<'a> {
    /// The first `n` weights, and the others.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_at(self, n: usize) -> (Weights<'a>, Weights<'a>) {
        let (w, first, second) =
            (self.w.split_at_mut(n), self.first.split_at_mut(n), self.second.split_at_mut(n));
        let weights = |w, first, second| Weights { w, first, second };
        (weights(w.0, first.0, second.0), weights(w.1, first.1, second.1))
    }

    /// The weights alone.
    pub fn values(&self) -> &[f32] {
        self.w
    }

    /// The number of weights.
    pub fn len(&self) -> usize {
        self.w.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.w.is_empty()
    }

    /// Moves `W` weights starting at `at`.
    #[inline(always)]
    fn apply<const W: usize>(&mut self, rule: &impl Rule, gradient: [f32; W], at: usize) {
        let moments = (self.first[at..].first_chunk_mut(), self.second[at..].first_chunk_mut());
        let (Some(w), (Some(first), Some(second))) = (self.w[at..].first_chunk_mut(), moments)
        else {
            panic!("BUG: there are no {W} weights at {at}");
        };
        rule.apply(gradient, w, first, second);
    }
}

per_isa! {
    /// Moves a panel of weights [d, width] by the gradient x · z, with `x` [d, images] the
    /// transposed batch and `z` [images, width] the gradient of its pre-activations. The bits are
    /// those of [`apply`] on the stored product.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn descend(update: Update, x: &Sparse, z: &[f32], weights: Weights) {
        let elements = weights.w.len();
        by_entry!(x, x => {
            by_rule!(update, rule => product(isa(), x, z, elements, &mut Descend { rule, weights }))
        });
    }
}

per_isa! {
    /// Moves biases by their gradient, the sum of the rows of `z` [images, width], ascending.
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn descend_biases(update: Update, z: &[f32], biases: Weights) {
        let mut sums = vec![0.0; biases.w.len()];
        add_rows(z, &mut sums);
        let mut biases = biases;
        by_rule!(update, rule => apply_rule(&rule, &sums, &mut biases));
    }
}

/// Consumes the sums as a gradient.
struct Descend<'a, R> {
    rule: R,
    weights: Weights<'a>,
}

impl<R: Rule> Sink for Descend<'_, R> {
    #[inline(always)]
    fn take<const W: usize>(&mut self, position: Position, sums: [f32; W]) {
        self.weights.apply(&self.rule, sums, position.row * W);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::product::project_back;
    use crate::kernel::test::{bits, on_every_isa};

    const SGD: Update = Update::Momentum { rate: 0.5, momentum: 0.5, decay: 0.0, shrink: 0.0 };
    const SMOOTH: Update = Update::Momentum { rate: 0.1, momentum: 0.9, decay: 0.01, shrink: 0.0 };
    const SHRINKING: Update =
        Update::Momentum { rate: 0.1, momentum: 0.9, decay: 0.01, shrink: 0.02 };
    const ADAM: Update = Update::Adam {
        rate: 0.01,
        scale: 1.5,
        mean: (0.9, 0.1),
        square: (0.99, 0.01),
        epsilon: 1e-8,
        decay: 0.25,
        shrink: 0.001,
    };

    /// Applies `update` to one weight repeatedly.
    #[track_caller]
    fn case(update: Update, mut w: f32, gradients: &[f32], expected: &[f32]) {
        let mut moments = Moments::zeros(1);
        for (&g, &expected) in gradients.iter().zip(expected) {
            let mut weights = [w];
            apply(update, &[g], &mut weights, &mut moments);
            w = weights[0];
            assert!((w - expected).abs() <= 1e-6 * expected.abs(), "{w} is not {expected}");
        }
    }

    #[test]
    fn momentum_by_hand() {
        // v = 1, 0.5 + 1, 0.75 - 2; w = 4 - 0.5 v each time.
        case(SGD, 4.0, &[1.0, 1.0, -2.0], &[3.5, 2.75, 3.375]);
    }

    #[test]
    fn decay_adds_to_the_gradient_by_hand() {
        // v = 1 + 0.25 · 4 = 2, then 0.5 · 2 + 0.25 · 3 = 1.75.
        let update = Update::Momentum { rate: 0.5, momentum: 0.5, decay: 0.25, shrink: 0.0 };
        case(update, 4.0, &[1.0, 0.0], &[3.0, 2.125]);
    }

    #[test]
    fn shrinking_stops_at_zero_by_hand() {
        let update = Update::Momentum { rate: 1.0, momentum: 0.0, decay: 0.0, shrink: 0.5 };
        case(update, 2.0, &[0.25, 0.0, 0.5, 0.0, -3.0], &[1.25, 0.75, 0.0, 0.0, 2.5]);
        case(update, -2.0, &[0.0, -1.25, 1.0], &[-1.5, 0.0, -0.5]);
    }

    #[test]
    fn adam_by_hand() {
        // g = 3: m = 0.3, v = 0.09, w = 1 - 0.01 · 0.3 / (1.5 · 0.3) = 1 - 1/150.
        let update = Update::Adam {
            rate: 0.01,
            scale: 1.5,
            mean: (0.9, 0.1),
            square: (0.99, 0.01),
            epsilon: 1e-12,
            decay: 0.0,
            shrink: 0.0,
        };
        case(update, 1.0, &[3.0], &[1.0 - 1.0 / 150.0]);
        // Then g = -1: m = 0.17, v = 0.0991.
        case(
            update,
            1.0,
            &[3.0, -1.0],
            &[1.0 - 1.0 / 150.0, 1.0 - 1.0 / 150.0 - 0.0017 / (1.5 * 0.314_801_5)],
        );
    }

    #[test]
    fn adam_scales_the_threshold_of_a_weight_as_its_gradient_by_hand() {
        // g = 3: v = 0.09, scale 1.5 · 0.3 = 0.45; the step moves 1/150 and the threshold 0.009 /
        // 0.45 = 0.02.
        let adam = |epsilon| Update::Adam {
            rate: 0.01,
            scale: 1.5,
            mean: (0.9, 0.1),
            square: (0.99, 0.01),
            epsilon,
            decay: 0.0,
            shrink: 0.009,
        };
        case(adam(1e-12), 1.0, &[3.0], &[1.0 - 1.0 / 150.0 - 0.02]);
        case(adam(1e-12), -1.0, &[3.0], &[-1.0 - 1.0 / 150.0 + 0.02]);
        // The only scale of a weight without a gradient is epsilon.
        case(adam(0.5), 1.0, &[0.0, 0.0], &[1.0 - 0.018, 1.0 - 0.036]);
        case(adam(1e-12), 1.0, &[0.0], &[0.0]);
    }

    #[test]
    fn a_nan_weight_stays_nan() {
        let mut w = [f32::NAN];
        apply(SGD, &[0.0], &mut w, &mut Moments::zeros(1));
        assert!(w[0].is_nan());
    }

    /// The definition of [`Update`] for one weight and its moments.
    fn reference(update: Update, g: f32, w: &mut f32, first: &mut f32, second: &mut f32) {
        let (moved, shrink) = match update {
            Update::Momentum { rate, momentum, decay, shrink } => {
                *first = momentum.mul_add(*first, decay.mul_add(*w, g));
                (rate.mul_add(-*first, *w), shrink)
            }
            Update::Adam { rate, scale, mean, square, epsilon, decay, shrink } => {
                let g = decay.mul_add(*w, g);
                *first = mean.0.mul_add(*first, mean.1 * g);
                *second = square.0.mul_add(*second, square.1 * (g * g));
                let scale = scale.mul_add(second.sqrt(), epsilon);
                (*w - rate * *first / scale, shrink / scale)
            }
        };
        // A weight within the threshold becomes +0, also from below.
        *w = if moved.abs() <= shrink { 0.0 } else { moved - shrink * moved.signum() };
    }

    /// Numbers with zeros of both signs among them.
    fn numbers(n: usize) -> Vec<f32> {
        let number = |i: usize| (i * 71 % 101) as f32 / 50.0 - 1.0;
        (0..n).map(|i| [0.0, -0.0, number(i), number(i + 1), number(i + 2)][i % 5]).collect()
    }

    #[test]
    fn weights_move_as_by_the_reference_implementation_bit_for_bit_on_every_isa() {
        for n in [0, 1, 63, 64, 65, 1000] {
            for update in [SGD, SMOOTH, SHRINKING, ADAM] {
                let mut expected = [numbers(n), vec![0.0; n], vec![0.0; n]];
                let gradient: Vec<f32> = numbers(n + 2)[2..].to_vec();
                for _ in 0..3 {
                    let [w, first, second] = &mut expected;
                    for (i, &g) in gradient.iter().enumerate() {
                        reference(update, g, &mut w[i], &mut first[i], &mut second[i]);
                    }
                }
                on_every_isa(|isa| {
                    let (mut w, mut moments) = (numbers(n), Moments::zeros(n));
                    for _ in 0..3 {
                        apply(update, &gradient, &mut w, &mut moments);
                    }
                    let found = [&w, &*moments.first, &*moments.second].map(bits);
                    assert_eq!(
                        found,
                        expected.each_ref().map(|x| bits(x)),
                        "{isa:?}, {n}, {update:?}"
                    );
                });
            }
        }
    }

    #[test]
    fn a_bend_moves_as_by_its_share_of_the_gradient_on_every_isa() {
        let penalty = Penalty { decay: 0.02, slope: 0.125 };
        for n in [0, 1, 63, 64, 65, 200] {
            for update in [SGD, SMOOTH, ADAM] {
                let (gradient, point) =
                    (numbers(n + 2)[2..].to_vec(), numbers(n + 1)[1..].to_vec());
                let scaled = |(g, p): (&f32, &f32)| {
                    let sign = if *p == 0.0 { 0.0 } else { p.signum() };
                    0.75 * (0.02f32.mul_add(*p, *g) + 0.125 * sign)
                };
                let scaled: Vec<f32> = gradient.iter().zip(&point).map(scaled).collect();
                on_every_isa(|isa| {
                    let [mut found, mut expected] = [0, 1].map(|_| (numbers(n), Moments::zeros(n)));
                    for _ in 0..3 {
                        let mut weights = found.1.weights(&mut found.0);
                        apply_bend(update, 0.75, penalty, &gradient, &point, &mut weights);
                        apply(update, &scaled, &mut expected.0, &mut expected.1);
                    }
                    assert_eq!(bits(&found.0), bits(&expected.0), "{isa:?}, {n}, {update:?}");
                    assert_eq!(found.1, expected.1, "{isa:?}, {n}, {update:?}");
                });
            }
        }
    }

    #[test]
    fn a_gradient_in_registers_moves_the_weights_as_a_stored_one_on_every_isa() {
        let narrow = [1, 8, 10, 24, 32].map(|h| (5, 30, h));
        let wide = [40, 48, 56, 64, 100, 184, 250].map(|h| (13, 50, h));
        for (images, d, h) in [(1, 1, 1), (3, 784, 64)].into_iter().chain(narrow).chain(wide) {
            let pixels: Vec<u8> = (0..images * d)
                .map(|i| if i % d * 7 % 13 > i % 11 { (i * 37 % 251) as u8 } else { 0 })
                .collect();
            let (batch, mut x) = (Sparse::from_pixels(&pixels, d), Sparse::empty());
            let all: Vec<u32> = (0..images as u32).collect();
            batch.transpose(&all, &mut x);
            let (z, w) = (
                Panels::pack(&numbers(h * images), h, images),
                Panels::pack(&numbers(h * d), h, d),
            );
            for update in [SGD, SMOOTH, SHRINKING, ADAM] {
                let moved = |step: fn(Update, &Sparse, &Panels, &mut Panels, &mut Moments)| {
                    let (mut w, mut moments) = (w.clone(), Moments::zeros(w.data().len()));
                    (0..3).for_each(|_| step(update, &x, &z, &mut w, &mut moments));
                    [bits(w.data()), bits(&moments.first), bits(&moments.second)]
                };
                on_every_isa(|isa| {
                    assert_eq!(
                        moved(fused),
                        moved(stored),
                        "{isa:?}, {images} x {d} x {h}, {update:?}"
                    )
                });
            }
        }
    }

    #[test]
    fn biases_move_by_the_sum_of_the_gradients_rows_on_every_isa() {
        for (images, h) in [(1, 8), (3, 24), (50, 64), (7, 16)] {
            let z = numbers(images * h);
            let sums: Vec<f32> =
                (0..h).map(|j| z[j..].iter().step_by(h).fold(0.0, |sum, z| sum + z)).collect();
            for update in [SGD, SMOOTH, SHRINKING, ADAM] {
                let mut expected = [numbers(h), vec![0.0; h], vec![0.0; h]];
                let [w, first, second] = &mut expected;
                for (i, &g) in sums.iter().enumerate() {
                    reference(update, g, &mut w[i], &mut first[i], &mut second[i]);
                }
                on_every_isa(|isa| {
                    let mut found = [numbers(h), vec![0.0; h], vec![0.0; h]];
                    let [w, first, second] = &mut found;
                    descend_biases(update, &z, Weights { w, first, second });
                    let bits_of = |x: &[Vec<f32>; 3]| x.each_ref().map(|x| bits(x));
                    assert_eq!(bits_of(&found), bits_of(&expected), "{isa:?}, {images} x {h}");
                });
            }
        }
    }

    fn fused(update: Update, x: &Sparse, z: &Panels, w: &mut Panels, moments: &mut Moments) {
        for ((_, z), weights) in z.clone().panels_mut().zip(moments.panels(w)) {
            descend(update, x, z, weights);
        }
    }

    fn stored(update: Update, x: &Sparse, z: &Panels, w: &mut Panels, moments: &mut Moments) {
        let mut gradient = Panels::zeros(w.columns(), w.depth());
        for ((_, z), (_, gradient)) in z.clone().panels_mut().zip(gradient.panels_mut()) {
            project_back(x, z, gradient);
        }
        apply(update, gradient.data(), w.data_mut(), moments);
    }
}
