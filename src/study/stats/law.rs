//! How a mean falls with x: a power law y = C x^(-alpha), and the x at which y falls below a
//! threshold.
//!
//! The points are independent [`Estimate`]s of ln y, one for each x. Both results are combinations
//! of them with known coefficients, so that their standard errors and Satterthwaite's degrees of
//! freedom are those of [`Estimate::combine`]. The law has equal weights: weights by the inverse
//! variances would be estimated from few nets, and the intervals of the exponent with such weights
//! and a normal quantile contain the true one in 79 to 97 % of simulations (all pairs of 4 to 8
//! nets, log-sd 0.5), those with equal weights in 94 % or more.

use super::{Estimate, sum};

/// The least number of points for a power law: a line through two has no deviation.
pub const FEWEST_POINTS: usize = 3;

/// A power law y = C x^(-alpha) through at least [`FEWEST_POINTS`] points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowerLaw {
    /// alpha, positive if y falls. Its interval is for the line that fits the true means best: it
    /// contains the errors of the means, but not a deviation of the true means from the law.
    pub exponent: Estimate,
    /// ln C.
    pub log_factor: f64,
    /// The largest deviation of ln y from the law.
    pub deviation: f64,
}

/// A place on the axis of x among the measured points.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Position {
    /// Before the first point.
    Before,
    /// At this x.
    At(f64),
    /// After the last point.
    After,
}

/// The x from which on y is below a threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crossing {
    /// Where the mean crosses the threshold.
    pub estimate: Position,
    /// The ends of the 95 % interval.
    pub interval: [Position; 2],
}

impl PowerLaw {
    /// The least-squares line of ln y on ln x: -alpha = sum c_i ln y_i with c_i = (ln x_i - m) /
    /// sum (ln x_j - m)^2 and m the mean of ln x (Draper and Smith, *Applied regression analysis*,
    /// section 1.2). `points` are x and the estimate of ln y. `None` if there are too few.
    ///
    /// # Panics
    /// If an x is not positive.
    pub fn fit(points: &[(f64, Estimate)]) -> Option<PowerLaw> {
        assert!(points.iter().all(|(x, _)| *x > 0.0), "x is not positive");
        let n = points.len() as f64;
        let logs: Vec<f64> = points.iter().map(|(x, _)| libm::log(*x)).collect();
        let middle = sum(logs.iter().copied()) / n;
        let squares = sum(logs.iter().map(|x| (x - middle) * (x - middle)));
        if points.len() < FEWEST_POINTS || squares == 0.0 {
            return None;
        }
        let terms = logs.iter().zip(points).map(|(x, (_, y))| ((middle - x) / squares, *y));
        let exponent = Estimate::combine(&terms.collect::<Vec<_>>())?;
        let level = sum(points.iter().map(|(_, y)| y.mean)) / n;
        let log_factor = level + exponent.mean * middle;
        let off = |(x, (_, y)): (&f64, &(f64, Estimate))| {
            libm::fabs(y.mean - (log_factor - exponent.mean * x))
        };
        let deviation = logs.iter().zip(points).map(off).fold(0.0, f64::max);
        Some(PowerLaw { exponent, log_factor, deviation })
    }

    /// y at `x`.
    pub fn at(&self, x: f64) -> f64 {
        libm::exp(self.log_factor - self.exponent.mean * libm::log(x))
    }
}

/// The last x at which y is at least a threshold, with y interpolated on logarithmic axes between
/// neighbouring points. `points` are x, ascending, and the estimate of ln(y / threshold); `None` if
/// there are none.
///
/// The interval inverts that of ln y, as in Fieller's theorem (*Some problems in interval
/// estimation*, 1954): it ends where the lower and where the upper end of the 95 % interval of the
/// interpolated ln y are at the threshold for the last time. It does not assume a power law, nor
/// extrapolate: an end outside of the points is a bound.
pub fn crossing(points: &[(f64, Estimate)]) -> Option<Crossing> {
    let last = |side: f64| last_above(points, side);
    (!points.is_empty())
        .then(|| Crossing { estimate: last(0.0), interval: [last(-1.0), last(1.0)] })
}

/// The last x at which the mean plus `side` half-widths of its interval is at least 0.
fn last_above(points: &[(f64, Estimate)], side: f64) -> Position {
    let is_above = |y: &Estimate| y.mean + side * y.interval().half_width() >= 0.0;
    let Some(last) = points.iter().rposition(|(_, y)| is_above(y)) else {
        return Position::Before;
    };
    let Some((to, below)) = points.get(last + 1) else {
        return Position::After;
    };
    let (from, above) = points[last];
    let between = |w: f64| Estimate::combine(&[(1.0 - w, above), (w, *below)]);
    // 40 halvings: more than the twelve digits of the quantile of Student's t.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        match between(middle).is_some_and(|y| is_above(&y)) {
            true => low = middle,
            false => high = middle,
        }
    }
    let [from, to] = [from, *to].map(libm::log);
    Position::At(libm::exp(from + 0.5 * (low + high) * (to - from)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::rng;
    use crate::study::stats::Sample;

    const WIDTHS: [f64; 6] = [10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0];

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-9, "{found}, not {expected}");
    }

    fn at(position: Position) -> f64 {
        match position {
            Position::At(x) => x,
            other => panic!("{other:?}"),
        }
    }

    fn estimate(mean: f64, error: f64) -> Estimate {
        Estimate { mean, error, freedom: 5.0 }
    }

    /// Points of 30 x^(-0.7), divided by `threshold`.
    fn planted(error: f64, threshold: f64) -> Vec<(f64, Estimate)> {
        let log = |x: f64| libm::log(30.0 / threshold) - 0.7 * libm::log(x);
        WIDTHS.iter().map(|&x| (x, estimate(log(x), error))).collect()
    }

    #[test]
    fn a_planted_law_is_recovered() {
        let law = PowerLaw::fit(&planted(0.1, 1.0)).expect("six points");
        close(law.exponent.mean, 0.7);
        close(libm::exp(law.log_factor), 30.0);
        close(law.at(70.0), 30.0 * libm::pow(70.0, -0.7));
        assert!(law.deviation < 1e-12);
        assert!(law.exponent.interval().contains(0.7));
        // Where 30 x^(-0.7) is 1.
        let crossing = crossing(&planted(0.1, 1.0)).expect("points");
        let exact = libm::pow(30.0, 1.0 / 0.7);
        assert!((at(crossing.estimate) / exact - 1.0).abs() < 1e-9);
        let [low, high] = crossing.interval.map(at);
        assert!(50.0 < low && low < exact && exact < high && high < 500.0, "{low} to {high}");
    }

    /// NumPy 2.4.6 and SciPy 1.17.1:
    /// ```python
    /// x = np.log([10, 50, 200, 1000]); y = np.array([2.5, 1.2, -.3, -1.1])
    /// e = np.array([.2, .1, .3, .15]); f = np.array([5, 5, 2, 3])
    /// c = -np.linalg.pinv(np.stack([np.ones(4), x], 1))[1]; v = (c * e) ** 2
    /// a = -np.polyfit(x, y, 1)[0]; df = v.sum() ** 2 / (v * v / f).sum()
    /// q = t.ppf(.975, df) * v.sum() ** .5
    /// a, v.sum() ** .5, df, a - q, a + q, np.polyfit(x, y, 1)[1]
    /// abs(y - np.polyval(np.polyfit(x, y, 1), x)).max()
    /// def end(side, i):
    ///     def g(w):
    ///         u = np.array([(1 - w) * e[i], w * e[i + 1]]) ** 2
    ///         s = u.sum(); d = s ** 2 / (u * u / f[i:i + 2]).sum()
    ///         return (1 - w) * y[i] + w * y[i + 1] + side * t.ppf(.975, d) * s ** .5
    ///     return np.exp(x[i] + brentq(g, 0, 1, xtol=1e-15) * (x[i + 1] - x[i]))
    /// end(0, 1), end(-1, 1), end(1, 2)
    /// ```
    #[test]
    fn law_and_crossing_agree_with_numpy_and_scipy() {
        let point = |x, mean, error, freedom| (x, Estimate { mean, error, freedom });
        let points = [
            point(10.0, 2.5, 0.2, 5.0),
            point(50.0, 1.2, 0.1, 5.0),
            point(200.0, -0.3, 0.3, 2.0),
            point(1000.0, -1.1, 0.15, 3.0),
        ];
        let law = PowerLaw::fit(&points).expect("four");
        close(law.exponent.mean, 0.806_681_132_373_466_7);
        close(law.exponent.error, 0.053_262_577_864_166_49);
        close(law.exponent.freedom, 9.807_315_526_351_443);
        let interval = law.exponent.interval();
        close(interval.low, 0.687_687_902_793_022_5);
        close(interval.high, 0.925_674_361_953_911);
        close(law.log_factor, 4.289_903_900_405_402);
        close(law.deviation, 0.315_851_247_484_427_2);
        let crossing = crossing(&points).expect("points");
        close(at(crossing.estimate), 151.571_656_651_039_75);
        close(at(crossing.interval[0]), 94.568_923_166_987_36);
        close(at(crossing.interval[1]), 398.471_741_417_079_9);
    }

    #[test]
    fn fewer_than_three_points_have_no_law() {
        let points = planted(0.1, 1.0);
        assert_eq!(PowerLaw::fit(&points[..2]), None);
        assert!(PowerLaw::fit(&points[..3]).is_some());
        assert_eq!(PowerLaw::fit(&[points[0]; 3]), None, "one x");
        assert_eq!((PowerLaw::fit(&[]), crossing(&[])), (None, None));
    }

    #[test]
    fn a_crossing_outside_of_the_points_is_a_bound() {
        let found = |threshold| crossing(&planted(0.1, threshold)).expect("points");
        let above = found(0.01);
        assert_eq!((above.estimate, above.interval), (Position::After, [Position::After; 2]));
        let below = found(100.0);
        assert_eq!((below.estimate, below.interval), (Position::Before, [Position::Before; 2]));
        // Between the last two points, so that the upper end is open.
        let near = found(30.0 * libm::pow(1900.0, -0.7));
        close(at(near.estimate), 1900.0);
        assert!(at(near.interval[0]) < 1900.0 && near.interval[1] == Position::After);
    }

    #[test]
    fn of_several_crossings_the_last_one_counts() {
        let points = [(1.0, 1.0), (2.0, -1.0), (4.0, 1.0), (8.0, -1.0)];
        let points = points.map(|(x, y)| (x, estimate(y, 1e-9)));
        close(at(crossing(&points).expect("points").estimate), libm::sqrt(32.0));
    }

    /// The coverage, in %, of the intervals of exponent and crossing of 200 x^(-0.7) with all pairs
    /// of `n` nets at each width. The logarithm of a pair's number has the standard deviation 0.5
    /// if it is log-normal, or its number 0.3 of the mean; the share `fraction` of the variance is
    /// from the nets.
    fn coverage(n: usize, fraction: f64, is_log_normal: bool) -> [f64; 2] {
        let trials = 1500;
        let mut rng = rng::stream("0", &format!("law/{n}/{fraction}/{is_log_normal}"));
        let pairs: Vec<[usize; 2]> = (0..n).flat_map(|i| (i + 1..n).map(move |j| [i, j])).collect();
        // The mean of a log-normal factor is exp(0.125).
        let scale = |z: f64| if is_log_normal { libm::exp(0.5 * z - 0.125) } else { 1.0 + 0.3 * z };
        let exact = libm::pow(200.0, 1.0 / 0.7);
        // Between points, the interpolated law is the law itself.
        let mut covered = [0; 2];
        for _ in 0..trials {
            let point = |&x: &f64| {
                let effects: Vec<f64> = (0..n).map(|_| rng::normal(&mut rng)).collect();
                let value = |&[i, j]: &[usize; 2]| {
                    let of_nets = (effects[i] + effects[j]) / std::f64::consts::SQRT_2;
                    let noise = rng::normal(&mut rng);
                    let z = fraction.sqrt() * of_nets + (1.0 - fraction).sqrt() * noise;
                    200.0 * libm::pow(x, -0.7) * scale(z)
                };
                let values = pairs.iter().map(value).collect();
                let sample = Sample::of_pairs(values, pairs.clone()).expect("finite");
                (x, sample.log_of_mean().and_then(|s| s.estimate()).expect("positive"))
            };
            let points: Vec<(f64, Estimate)> = WIDTHS.iter().map(point).collect();
            let law = PowerLaw::fit(&points).expect("six");
            covered[0] += usize::from(law.exponent.interval().contains(0.7));
            let [low, high] = crossing(&points).expect("six").interval;
            let exact = Position::At(exact);
            covered[1] += usize::from(low <= exact && exact <= high);
        }
        covered.map(|hits| 100.0 * hits as f64 / f64::from(trials))
    }

    /// Without effects of the nets the jackknife error is too large, and the intervals are wider
    /// than necessary.
    #[test]
    fn intervals_of_exponent_and_crossing_cover_between_90_and_99_5_percent() {
        let mut missed = Vec::new();
        for n in [4, 6, 10] {
            for fraction in [0.0, 0.25, 0.5, 1.0] {
                for is_log_normal in [false, true] {
                    let most = if fraction == 0.0 { 100.0 } else { 99.5 };
                    let found = coverage(n, fraction, is_log_normal);
                    if found.iter().any(|percent| !(90.0..=most).contains(percent)) {
                        let kind = if is_log_normal { "log-normal" } else { "normal" };
                        missed.push(format!("{n} nets, fraction {fraction}, {kind}: {found:?}"));
                    }
                }
            }
        }
        assert!(missed.is_empty(), "{}", missed.join("\n"));
    }
}
