//! Statistics of a few numbers: each sum in f64 in ascending order, each formula with its source.
//!
//! Only [`binomial_standard_error`] and [`noise_of_difference`] expect a unit: percent. A
//! [`Sample`] is finite by construction, so that no statistic is computed from NaN or an infinity.

mod contrast;
mod law;
mod sample;
mod student;

pub use contrast::holm;
pub use law::{Crossing, FEWEST_POINTS, Position, PowerLaw, crossing};
pub use sample::{Average, Estimate, FEWEST, FEWEST_NETS, NotFinite, Sample, Summary};

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    fn around(middle: f64, half: f64) -> Interval {
        Interval { low: middle - half, high: middle + half }
    }

    /// Whether `x` is in it, ends included.
    pub fn contains(self, x: f64) -> bool {
        self.low <= x && x <= self.high
    }

    /// Half its width.
    pub fn half_width(self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// The integral of y over x by the trapezoidal rule; 0 for fewer than two points.
///
/// # Panics
/// If `x` and `y` differ in length.
pub fn trapezoid(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len(), "x and y differ in length");
    sum(x.windows(2).zip(y.windows(2)).map(|(x, y)| (x[1] - x[0]) * (y[0] + y[1]) / 2.0))
}

/// The standard error, in points, of an error of `percent` measured on `n` images: 100 sqrt(p (1 -
/// p) / n), the standard deviation of a binomial proportion.
pub fn binomial_standard_error(percent: f64, n: usize) -> f64 {
    let p = percent / 100.0;
    100.0 * (p * (1.0 - p) / n as f64).sqrt()
}

/// Two standard errors of the difference between errors of `a` and `b` percent, each measured on
/// `n` images of its own: a smaller difference is within the noise of the test set.
pub fn noise_of_difference(a: f64, b: f64, n: usize) -> f64 {
    let [a, b] = [a, b].map(|percent| binomial_standard_error(percent, n));
    2.0 * (a * a + b * b).sqrt()
}

/// The sum, first to last.
fn sum(terms: impl Iterator<Item = f64>) -> f64 {
    terms.fold(0.0, |sum, x| sum + x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_error_of_two_percent_on_ten_thousand_images_has_a_standard_error_of_0_14_points() {
        assert!((binomial_standard_error(2.0, 10_000) - 0.14).abs() < 1e-12);
        assert_eq!(binomial_standard_error(0.0, 10_000), 0.0);
    }

    #[test]
    fn the_noise_of_two_errors_of_two_percent_is_0_4_points() {
        assert!((noise_of_difference(2.0, 2.0, 10_000) - 0.396).abs() < 1e-4);
    }

    proptest! {
        #[test]
        fn the_trapezoidal_rule_is_exact_for_straight_lines(
            mut x in prop::collection::vec(-10.0f64..10.0, 2..20),
            slope in -3.0f64..3.0,
            level in -3.0f64..3.0,
        ) {
            x.sort_unstable_by(f64::total_cmp);
            let y: Vec<f64> = x.iter().map(|x| slope * x + level).collect();
            let (first, last) = (x[0], x[x.len() - 1]);
            let exact = (last - first) * (slope * (first + last) / 2.0 + level);
            prop_assert!((trapezoid(&x, &y) - exact).abs() < 1e-9);
        }
    }
}
