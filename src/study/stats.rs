//! Statistics of a few numbers: each sum in f64 in ascending order, each formula with its source.
//!
//! This file does not know what the numbers measure, except where a percentage is asked for.

use super::rng;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The arithmetic mean; `None` of nothing.
pub fn mean(x: &[f64]) -> Option<f64> {
    (!x.is_empty()).then(|| sum(x.iter().copied()) / x.len() as f64)
}

/// The 95 % percentile bootstrap interval of the mean over independent pairs (Efron and Tibshirani, *An Introduction
/// to the Bootstrap*, 1993, chapter 13). Of up to five pairs every resample is taken, so nothing is drawn; of more,
/// 10,000 from the stream of `label` under `seed`.
///
/// `None` for fewer than two pairs: one says nothing about the spread. With a handful of pairs it is too narrow.
pub fn bootstrap(x: &[f64], seed: &str, label: &str) -> Option<Interval> {
    if x.len() < 2 {
        return None;
    }
    let n = u32::try_from(x.len()).ok()?;
    let all = x.len().checked_pow(n).filter(|all| *all <= RESAMPLES);
    let mut means: Vec<f64> = match all {
        // The digits of i to the base n say which pairs the resample takes.
        Some(all) => (0..all).map(|i| sum((0..n).map(|k| x[i / x.len().pow(k) % x.len()])) / f64::from(n)).collect(),
        None => {
            let mut rng = rng::stream(seed, label);
            let mut draw = || sum((0..n).map(|_| x[rng::below(&mut rng, n) as usize])) / f64::from(n);
            (0..RESAMPLES).map(|_| draw()).collect()
        }
    };
    means.sort_unstable_by(f64::total_cmp);
    Some(Interval { low: quantile(&means, 0.025), high: quantile(&means, 0.975) })
}

/// The `p` quantile of `sorted` by linear interpolation between order statistics (Hyndman and Fan, 1996, type 7).
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let at = p * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (at - at.floor()) * (above - below)
}

/// The integral of y over x by the trapezoidal rule; 0 for fewer than two points.
///
/// # Panics
/// If `x` and `y` differ in length.
pub fn trapezoid(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len(), "x and y differ in length");
    sum(x.windows(2).zip(y.windows(2)).map(|(x, y)| (x[1] - x[0]) * (y[0] + y[1]) / 2.0))
}

/// The standard error, in points, of an error of `percent` measured on `n` images: 100 sqrt(p (1 - p) / n), the
/// standard deviation of a binomial proportion.
pub fn binomial_standard_error(percent: f64, n: usize) -> f64 {
    let p = percent / 100.0;
    100.0 * (p * (1.0 - p) / n as f64).sqrt()
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
    fn the_mean_of_a_worked_example() {
        let x = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&x), Some(5.0));
    }

    #[test]
    fn too_few_numbers_have_no_mean_and_no_interval() {
        assert_eq!((mean(&[]), mean(&[3.0])), (None, Some(3.0)));
        assert_eq!((bootstrap(&[], "0", "x"), bootstrap(&[3.0], "0", "x")), (None, None));
    }

    #[test]
    fn quantiles_interpolate_between_order_statistics() {
        let x = [1.0, 2.0, 4.0, 8.0];
        assert_eq!([0.0, 0.5, 0.75, 1.0].map(|p| quantile(&x, p)), [1.0, 3.0, 5.0, 8.0]);
    }

    #[test]
    fn a_bootstrap_is_drawn_from_its_label_and_repeats() {
        let x = [1.0, 2.0, 4.0, 8.0, 9.0, 3.5];
        assert_eq!(bootstrap(&x, "0", "a"), bootstrap(&x, "0", "a"));
        assert_ne!(bootstrap(&x, "0", "a"), bootstrap(&x, "0", "b"));
    }

    #[test]
    fn of_few_pairs_every_resample_is_taken() {
        // The means of (1,1), (1,2), (2,1), (2,2), and quantiles between them.
        let interval = bootstrap(&[1.0, 2.0], "0", "x").expect("two pairs");
        assert!((interval.low - 1.0375).abs() < 1e-12 && (interval.high - 1.9625).abs() < 1e-12);
        assert_eq!(bootstrap(&[1.0, 2.0], "0", "x"), bootstrap(&[1.0, 2.0], "1", "y"), "nothing is drawn");
    }

    #[test]
    fn of_two_three_or_five_pairs_an_interval_covers_about_as_often_as_the_report_says() {
        for (n, percent) in [(2, 48.0), (3, 66.0), (5, 84.0)] {
            let mut rng = rng::stream("0", "small coverage");
            let trials = 4000;
            let covered = (0..trials).filter(|_| {
                let x: Vec<f64> = (0..n).map(|_| rng::normal(&mut rng)).collect();
                bootstrap(&x, "0", "").is_some_and(|i| i.low <= 0.0 && 0.0 <= i.high)
            });
            let covered = 100.0 * covered.count() as f64 / f64::from(trials);
            assert!((covered - percent).abs() < 3.0, "{n} pairs: {covered} %");
        }
    }

    #[test]
    fn intervals_cover_the_true_mean_about_as_often_as_they_say() {
        let mut rng = rng::stream("0", "coverage");
        let trials = 200;
        let covered = (0..trials).filter(|trial| {
            let x: Vec<f64> = (0..20).map(|_| rng::normal(&mut rng)).collect();
            let Interval { low, high } = bootstrap(&x, "0", &format!("coverage/{trial}")).expect("twenty numbers");
            low <= 0.0 && 0.0 <= high
        });
        let covered = covered.count();
        assert!((170..=198).contains(&covered), "{covered} of {trials}");
    }

    #[test]
    fn an_error_of_two_percent_on_ten_thousand_images_is_known_to_0_14_points() {
        assert!((binomial_standard_error(2.0, 10_000) - 0.14).abs() < 1e-12);
        assert_eq!(binomial_standard_error(0.0, 10_000), 0.0);
    }

    proptest! {
        #[test]
        fn the_trapezoidal_rule_is_exact_for_straight_lines(
            mut x in prop::collection::vec(-10.0f64..10.0, 2..20), slope in -3.0f64..3.0, level in -3.0f64..3.0,
        ) {
            x.sort_unstable_by(f64::total_cmp);
            let y: Vec<f64> = x.iter().map(|x| slope * x + level).collect();
            let (first, last) = (x[0], x[x.len() - 1]);
            let exact = (last - first) * (slope * (first + last) / 2.0 + level);
            prop_assert!((trapezoid(&x, &y) - exact).abs() < 1e-9);
        }

        #[test]
        fn an_interval_lies_among_the_numbers_and_holds_no_point_outside(x in prop::collection::vec(-5.0f64..5.0, 2..6)) {
            let Interval { low, high } = bootstrap(&x, "0", "law").expect("two numbers or more");
            let (least, most) = x.iter().fold((f64::MAX, f64::MIN), |(l, m), &x| (l.min(x), m.max(x)));
            prop_assert!(least - 1e-12 <= low && low <= high && high <= most + 1e-12);
        }
    }
}
