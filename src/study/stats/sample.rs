//! The mean of a few numbers, its confidence interval, and a prediction interval.
//!
//! A number belongs to a net or to a pair of nets, and **the sample consists of nets, not of
//! pairs**: pairs that share a net are not independent. A [`Sample`] stores the nets of each
//! number, and computes the standard error accordingly.

use super::{Interval, student, sum};
use crate::study::registry::named_enum;
use std::collections::{BTreeMap, BTreeSet};

/// The least number of independent numbers for an interval: fewer do not show their spread.
pub const FEWEST: usize = 3;

/// The least number of nets for an interval over pairs that share them.
pub const FEWEST_NETS: usize = 4;

/// Finite numbers with their nets.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<N> {
    values: Vec<f64>,
    nets: Vec<[N; 2]>,
}

/// A number that is infinite or NaN.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("`{value}` is not a finite number")]
pub struct NotFinite {
    /// The index of the number.
    pub index: usize,
    /// Infinite or NaN.
    pub value: f64,
}

/// A mean with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean of all numbers.
    pub mean: f64,
    /// Its standard error.
    pub error: f64,
    /// The degrees of freedom of the standard error.
    pub freedom: f64,
}

named_enum! {
    "average"
    /// The mean that describes a set of numbers.
    pub enum Average {
        /// The sum over the count.
        Arithmetic = "arithmetic",
        /// exp of the mean of the logarithms; its intervals are those of the logarithms, too.
        Geometric = "geometric",
    }
}

/// The mean of a sample with its 95 % intervals; without intervals for too few numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The kind of mean.
    pub average: Average,
    /// The mean.
    pub mean: f64,
    /// The confidence interval of the mean.
    pub interval: Option<Interval>,
    /// The prediction interval for one more net, or for a pair of two more nets.
    pub prediction: Option<Interval>,
    /// The smallest number.
    pub least: f64,
    /// The largest number.
    pub most: f64,
}

impl Average {
    /// Geometric where all numbers are positive and the largest is more than 4 times the smallest.
    pub fn of(values: &[f64]) -> Average {
        let (least, most) = range(values);
        if 0.0 < least && 4.0 * least < most { Average::Geometric } else { Average::Arithmetic }
    }
}

impl Sample<usize> {
    /// Numbers of one net each.
    ///
    /// # Errors
    /// If one of them is not finite.
    pub fn of_nets(values: Vec<f64>) -> Result<Sample<usize>, NotFinite> {
        let nets = (0..values.len()).map(|i| [i, i]).collect();
        Sample::of_pairs(values, nets)
    }
}

impl<N: Ord + Copy> Sample<N> {
    /// Numbers of one pair of nets each: `nets[i]` are the two nets of `values[i]`.
    ///
    /// # Errors
    /// If one of the numbers is not finite.
    ///
    /// # Panics
    /// If `values` and `nets` differ in length.
    pub fn of_pairs(values: Vec<f64>, nets: Vec<[N; 2]>) -> Result<Sample<N>, NotFinite> {
        assert_eq!(values.len(), nets.len(), "values and nets differ in number");
        match values.iter().position(|x| !x.is_finite()) {
            Some(index) => Err(NotFinite { index, value: values[index] }),
            None => Ok(Sample { values, nets }),
        }
    }

    /// The numbers.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The sample size.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Their mean; `None` if there are no numbers.
    pub fn mean(&self) -> Option<f64> {
        mean(&self.values)
    }

    /// The number of distinct nets.
    pub fn count_nets(&self) -> usize {
        self.distinct_nets().len()
    }

    fn distinct_nets(&self) -> BTreeSet<N> {
        self.nets.iter().flatten().copied().collect()
    }

    /// Whether no net belongs to two of the numbers.
    pub fn is_disjoint(&self) -> bool {
        let ends = self.nets.iter().map(|[a, b]| if a == b { 1 } else { 2 });
        self.count_nets() == ends.sum::<usize>()
    }

    /// The mean with its standard error; `None` for too few numbers or nets.
    ///
    /// If no two numbers share a net: s / sqrt(k) with k - 1 degrees of freedom. Otherwise the
    /// jackknife over nets, each left out with all its pairs (Efron and Stein, *The jackknife
    /// estimate of variance*, 1981), with one degree of freedom less than there are nets.
    pub fn estimate(&self) -> Option<Estimate> {
        let mean = mean(&self.values)?;
        if self.is_disjoint() {
            let k = self.values.len();
            let estimate = || Estimate {
                mean,
                error: (variance(&self.values) / k as f64).sqrt(),
                freedom: (k - 1) as f64,
            };
            return (k >= FEWEST).then(estimate);
        }
        let without = |net: N| self.without(net).mean();
        jackknife(mean, &self.distinct_nets(), without)
    }

    /// The sample whose mean is ln m, the logarithm of this mean m: the number x becomes
    /// ln m + (x - m) / m, so that the standard error is that of ln m by the delta method. A number
    /// of 0 or less is a part of the mean like any other. `None` unless the mean is positive.
    pub fn log_of_mean(&self) -> Option<Sample<N>> {
        let mean = self.mean().filter(|mean| *mean > 0.0)?;
        let values = self.values.iter().map(|x| libm::log(mean) + (x - mean) / mean);
        Some(Sample { values: values.collect(), nets: self.nets.clone() })
    }

    /// The numbers of pairs without `net`.
    fn without(&self, net: N) -> Sample<N> {
        let rest = self.values.iter().zip(&self.nets).filter(|(_, ends)| !ends.contains(&net));
        let (values, nets) = rest.map(|(x, ends)| (*x, *ends)).unzip();
        Sample { values, nets }
    }

    /// The mean over `samples` of the same nets, with its standard error; `None` for each of the
    /// two if there are too few numbers.
    ///
    /// If no two pairs share a net, numbers are averaged within a pair first, so that the pairs
    /// are independent. Otherwise it is the mean of the samples' means: a sample with few of the
    /// pairs has the same weight as one with all. Its error is the jackknife over nets, each left
    /// out of all samples.
    pub fn pooled(samples: &[Sample<N>]) -> (Option<f64>, Option<Estimate>) {
        let mut pairs: BTreeMap<[N; 2], Vec<f64>> = BTreeMap::new();
        for (x, [a, b]) in samples.iter().flat_map(|sample| sample.values.iter().zip(&sample.nets))
        {
            pairs.entry([*a.min(b), *a.max(b)]).or_default().push(*x);
        }
        let of_pairs = Sample {
            values: pairs.values().filter_map(|values| mean(values)).collect(),
            nets: pairs.keys().copied().collect(),
        };
        if of_pairs.is_disjoint() {
            return (of_pairs.mean(), of_pairs.estimate());
        }
        let mean_of_means = |samples: &[Sample<N>]| {
            mean(&samples.iter().filter_map(Sample::mean).collect::<Vec<f64>>())
        };
        let without = |net: N| {
            let rest: Vec<_> = samples.iter().map(|sample| sample.without(net)).collect();
            mean_of_means(&rest)
        };
        let mean = mean_of_means(samples);
        (mean, mean.and_then(|mean| jackknife(mean, &of_pairs.distinct_nets(), without)))
    }

    /// Mean, intervals and range; `None` if there are no numbers.
    ///
    /// # Panics
    /// If the average is geometric and a number is not positive.
    pub fn summary(&self, average: Average) -> Option<Summary> {
        let (least, most) = range(&self.values);
        let (scaled, back): (Sample<N>, fn(f64) -> f64) = match average {
            Average::Arithmetic => (self.clone(), |x| x),
            Average::Geometric => (self.logarithms(), libm::exp),
        };
        let middle = mean(&scaled.values)?;
        let intervals = scaled.estimate().map(|estimate| {
            let t = student::quantile(estimate.freedom);
            [estimate.error, scaled.error_of_prediction(&estimate)].map(|error| {
                let Interval { low, high } = Interval::around(middle, t * error);
                Interval { low: back(low), high: back(high) }
            })
        });
        let [interval, prediction] = [0, 1].map(|which| intervals.map(|both| both[which]));
        Some(Summary { average, mean: back(middle), interval, prediction, least, most })
    }

    fn logarithms(&self) -> Sample<N> {
        assert!(self.values.iter().all(|x| *x > 0.0), "a number is not positive");
        Sample {
            values: self.values.iter().map(|x| libm::log(*x)).collect(),
            nets: self.nets.clone(),
        }
    }

    /// The standard deviation of the number of new nets from this mean: sqrt(s^2 (K - 1) / K + 2
    /// V), with s^2 the variance of the K numbers and V the squared standard error of their mean.
    /// If they share no net this is s sqrt(1 + 1 / K).
    fn error_of_prediction(&self, estimate: &Estimate) -> f64 {
        let k = self.values.len() as f64;
        (variance(&self.values) * (k - 1.0) / k + 2.0 * estimate.error * estimate.error).sqrt()
    }
}

impl Estimate {
    /// The 95 % interval of the mean.
    pub fn interval(&self) -> Interval {
        Interval::around(self.mean, student::quantile(self.freedom) * self.error)
    }
}

/// The jackknife over nets, with one degree of freedom less than there are nets: `without` is the
/// mean without a net. `None` if there are too few nets, or nothing remains without one of them.
fn jackknife<N: Ord + Copy>(
    mean: f64,
    nets: &BTreeSet<N>,
    without: impl Fn(N) -> Option<f64>,
) -> Option<Estimate> {
    let n = nets.len() as f64;
    let means: Vec<f64> = nets.iter().map(|&net| without(net)).collect::<Option<_>>()?;
    // The variance of the means without one net, times (n - 1)^2 / n.
    let error = (variance(&means) * (n - 1.0) * (n - 1.0) / n).sqrt();
    (nets.len() >= FEWEST_NETS).then_some(Estimate { mean, error, freedom: n - 1.0 })
}

/// The arithmetic mean; `None` if there are no numbers.
fn mean(x: &[f64]) -> Option<f64> {
    (!x.is_empty()).then(|| sum(x.iter().copied()) / x.len() as f64)
}

/// The sample variance, over n - 1; 0 for fewer than two numbers.
fn variance(x: &[f64]) -> f64 {
    let Some(mean) = mean(x).filter(|_| x.len() > 1) else { return 0.0 };
    sum(x.iter().map(|x| (x - mean) * (x - mean))) / (x.len() - 1) as f64
}

/// The smallest and the largest.
fn range(x: &[f64]) -> (f64, f64) {
    x.iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &x| (least.min(x), most.max(x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::rng;
    use proptest::prelude::*;

    fn of_nets(values: &[f64]) -> Sample<usize> {
        Sample::of_nets(values.to_vec()).expect("finite")
    }

    /// All pairs of `n` nets, in order.
    fn all_pairs(n: usize) -> Vec<[usize; 2]> {
        (0..n).flat_map(|i| (i + 1..n).map(move |j| [i, j])).collect()
    }

    /// `k` pairs that share no net.
    fn disjoint_pairs(k: usize) -> Vec<[usize; 2]> {
        (0..k).map(|i| [2 * i, 2 * i + 1]).collect()
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-9 * expected.abs().max(1.0),
            "{found}, not {expected}"
        );
    }

    #[track_caller]
    fn spans(found: Option<Interval>, low: f64, high: f64) {
        let found = found.expect("an interval");
        close(found.low, low);
        close(found.high, high);
    }

    /// SciPy 1.17.1:
    /// ```python
    /// v = np.array([21.4, 25.0, 19.7]); q, s = t.ppf(.975, 2), v.std(ddof=1)
    /// v.mean() + q * s / 3 ** .5, v.mean() + q * s * (1 + 1 / 3) ** .5
    /// ```
    #[test]
    fn three_pairs_have_students_intervals() {
        let sample = Sample::of_pairs(vec![21.4, 25.0, 19.7], disjoint_pairs(3)).expect("finite");
        let found = sample.summary(Average::Arithmetic).expect("three");
        close(found.mean, 22.033_333_333_333_33);
        spans(found.interval, 15.310_844_817_028_39, 28.755_821_849_638_274);
        spans(found.prediction, 8.588_356_300_723_449, 35.478_310_365_943_216);
        assert_eq!((found.least, found.most), (19.7, 25.0));
    }

    /// SciPy 1.17.1: the same with `v = np.log([2, 9, 5])`, and `np.exp` of the result.
    #[test]
    fn numbers_far_apart_have_a_geometric_mean_with_intervals_on_a_log_scale() {
        let sample = of_nets(&[2.0, 9.0, 5.0]);
        assert_eq!(Average::of(sample.values()), Average::Geometric);
        let found = sample.summary(Average::Geometric).expect("three");
        close(found.mean, 4.481_404_746_557_165);
        spans(found.interval, 0.681_795_671_438_887_3, 29.456_022_300_759_393);
        spans(found.prediction, 0.103_727_595_225_564_14, 193.612_784_127_434_88);
    }

    /// SciPy 1.17.1:
    /// ```python
    /// ends = [(0,1), (0,2), (0,3), (1,2), (1,3), (2,3)]; n, K = 4, 6
    /// v = np.array([5., 7., 6., 4., 8., 9.])
    /// th = np.array([np.mean([x for x, e in zip(v, ends) if i not in e]) for i in range(n)])
    /// V = (n - 1) / n * ((th - th.mean()) ** 2).sum(); q = t.ppf(.975, n - 1)
    /// v.mean() + q * V ** .5, v.mean() + q * (v.var(ddof=1) * (K - 1) / K + 2 * V) ** .5
    /// ```
    #[test]
    fn pairs_that_share_nets_have_the_jackknife_error_over_nets() {
        let sample =
            Sample::of_pairs(vec![5.0, 7.0, 6.0, 4.0, 8.0, 9.0], all_pairs(4)).expect("finite");
        let estimate = sample.estimate().expect("four nets");
        assert_eq!((estimate.mean, estimate.freedom, sample.count_nets()), (6.5, 3.0, 4));
        close(estimate.error, 1.322_875_655_532_295_4);
        let found = sample.summary(Average::Arithmetic).expect("six pairs");
        spans(found.interval, 2.290_019_257_701_484, 10.709_980_742_298_516);
        spans(found.prediction, -1.561_499_371_617_499, 14.561_499_371_617_499);
    }

    #[test]
    fn too_few_numbers_or_nets_have_no_interval() {
        assert_eq!(of_nets(&[]).summary(Average::Arithmetic), None);
        for values in [&[3.0][..], &[3.0, 4.0]] {
            let found = of_nets(values).summary(Average::Arithmetic).expect("some");
            assert_eq!((found.interval, found.prediction), (None, None));
        }
        // Three nets and their three pairs; five nets that share one, without which no pair
        // remains.
        let three = Sample::of_pairs(vec![1.0, 2.0, 3.0], all_pairs(3)).expect("finite");
        let star = Sample::of_pairs(vec![1.0, 2.0, 3.0, 4.0], (1..5).map(|i| [0, i]).collect())
            .expect("finite");
        assert_eq!((three.estimate(), star.estimate()), (None, None));
    }

    #[test]
    fn the_average_is_geometric_from_a_factor_of_four_on_where_logarithms_exist() {
        let case =
            |values: &[f64], expected| assert_eq!(Average::of(values), expected, "{values:?}");
        case(&[1.0, 4.0], Average::Arithmetic);
        case(&[1.0, 4.1], Average::Geometric);
        case(&[0.0, 4.1], Average::Arithmetic);
        case(&[-1.0, 4.1], Average::Arithmetic);
        case(&[], Average::Arithmetic);
    }

    #[test]
    fn a_sample_refuses_nan_and_infinities() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let refused = Sample::of_nets(vec![1.0, value, 2.0]).expect_err("refused");
            assert_eq!(
                (refused.index, refused.to_string()),
                (1, format!("`{value}` is not a finite number"))
            );
        }
    }

    /// The coverage, in %, of the interval of the mean and of the prediction interval of a new
    /// pair. A pair's number is 10 + z, or exp(z / 2) if it is log-normal; z is normal with
    /// variance 1, of which `fraction` comes from the effects of the two nets and the rest from
    /// noise of the pair.
    fn coverage(pairs: &[[usize; 2]], fraction: f64, is_log_normal: bool) -> (f64, f64) {
        let trials = 4000;
        let mut rng =
            rng::stream("0", &format!("coverage/{}/{fraction}/{is_log_normal}", pairs.len()));
        let nets = pairs.iter().flatten().max().map_or(0, |most| most + 1);
        let scale = |z: f64| if is_log_normal { libm::exp(0.5 * z) } else { 10.0 + z };
        let (mut in_interval, mut in_prediction) = (0, 0);
        for _ in 0..trials {
            let effects: Vec<f64> = (0..nets + 2).map(|_| rng::normal(&mut rng)).collect();
            let mut value = |i: usize, j: usize| {
                let of_nets = (effects[i] + effects[j]) / std::f64::consts::SQRT_2;
                scale(fraction.sqrt() * of_nets + (1.0 - fraction).sqrt() * rng::normal(&mut rng))
            };
            let values = pairs.iter().map(|&[i, j]| value(i, j)).collect();
            let of_new_nets = value(nets, nets + 1);
            let sample = Sample::of_pairs(values, pairs.to_vec()).expect("finite");
            let average = Average::of(sample.values());
            let truth = match (average, is_log_normal) {
                (Average::Arithmetic, true) => libm::exp(0.125),
                (Average::Geometric, true) => 1.0,
                (_, false) => 10.0,
            };
            let found = sample.summary(average).expect("some");
            in_interval += usize::from(found.interval.is_some_and(|i| i.contains(truth)));
            in_prediction += usize::from(found.prediction.is_some_and(|i| i.contains(of_new_nets)));
        }
        let percent = |hits: usize| 100.0 * hits as f64 / f64::from(trials);
        (percent(in_interval), percent(in_prediction))
    }

    #[test]
    fn intervals_cover_between_90_and_99_5_percent_for_normal_and_log_normal_effects() {
        let mut missed = Vec::new();
        let designs = [4, 6, 10].map(|n| (format!("all pairs of {n} nets"), all_pairs(n)));
        let disjoint = [3, 5].map(|k| (format!("{k} disjoint pairs"), disjoint_pairs(k)));
        for (design, pairs) in designs.iter().chain(&disjoint) {
            for fraction in [0.0, 0.5, 1.0] {
                for is_log_normal in [false, true] {
                    let found = coverage(pairs, fraction, is_log_normal);
                    let is_in_range = |percent| (90.0..=99.5).contains(&percent);
                    if !is_in_range(found.0) || !is_in_range(found.1) {
                        missed.push(format!(
                            "{design}, fraction {fraction}, log-normal {is_log_normal}: {found:?}"
                        ));
                    }
                }
            }
        }
        assert!(missed.is_empty(), "{}", missed.join("\n"));
    }

    /// The coverage, in %, of the interval of the mean over two methods, as in [`coverage`]: the
    /// first has the pairs `all`, the second `some` of them. Their numbers share the effects of the
    /// nets, have noise of their own, and differ in the mean.
    fn coverage_of_methods(all: &[[usize; 2]], some: &[[usize; 2]], fraction: f64) -> f64 {
        let trials = 4000;
        let label = format!("coverage of methods/{}/{}/{fraction}", all.len(), some.len());
        let mut rng = rng::stream("0", &label);
        let nets = all.iter().flatten().max().map_or(0, |most| most + 1);
        let mut covered = 0;
        for _ in 0..trials {
            let effects: Vec<f64> = (0..nets).map(|_| rng::normal(&mut rng)).collect();
            let mut sample = |pairs: &[[usize; 2]], truth: f64| {
                let value = |&[i, j]: &[usize; 2]| {
                    let of_nets = (effects[i] + effects[j]) / std::f64::consts::SQRT_2;
                    let noise = rng::normal(&mut rng);
                    truth + fraction.sqrt() * of_nets + (1.0 - fraction).sqrt() * noise
                };
                Sample::of_pairs(pairs.iter().map(value).collect(), pairs.to_vec()).expect("finite")
            };
            let (_, estimate) = Sample::pooled(&[sample(all, -1.0), sample(some, -3.0)]);
            covered += usize::from(estimate.expect("enough").interval().contains(-2.0));
        }
        100.0 * covered as f64 / f64::from(trials)
    }

    #[test]
    fn intervals_over_methods_with_all_or_some_of_the_pairs_cover_between_90_and_99_5_percent() {
        let (all, three) = (all_pairs(6), disjoint_pairs(3));
        for fraction in [0.0, 0.5, 1.0] {
            for (all, some) in [(&all, &three), (&all, &all), (&three, &three)] {
                let found = coverage_of_methods(all, some, fraction);
                assert!(
                    (90.0..=99.5).contains(&found),
                    "{} and {} pairs, fraction {fraction}: {found}",
                    all.len(),
                    some.len()
                );
            }
        }
    }

    #[test]
    fn a_mean_over_samples_of_the_same_pairs_is_that_of_the_means_within_pairs() {
        let sample = |values: &[f64], pairs| Sample::of_pairs(values.to_vec(), pairs).expect("ok");
        for pairs in [all_pairs(4), disjoint_pairs(6)] {
            let [x, y] = [[5., 7., 6., 4., 8., 9.], [1., 2., 2., 1., 0., 3.]];
            let within: Vec<f64> = x.iter().zip(&y).map(|(x, y)| (x + y) / 2.0).collect();
            let expected = sample(&within, pairs.clone()).estimate().expect("enough");
            let samples = [x, y].map(|values| sample(&values, pairs.clone()));
            let (mean, found) = Sample::pooled(&samples);
            let found = found.expect("enough");
            assert_eq!((mean, found.freedom), (Some(expected.mean), expected.freedom));
            close(found.error, expected.error);
        }
        let (mean, estimate) = Sample::pooled(&[sample(&[1.0, 3.0], disjoint_pairs(2))]);
        assert_eq!((mean, estimate), (Some(2.0), None));
        assert_eq!(Sample::<usize>::pooled(&[]), (None, None));
    }

    #[test]
    fn the_logarithm_of_a_mean_has_the_relative_standard_error_of_the_mean() {
        let values = vec![5.0, 7.0, -0.5, 4.0, 8.0, 9.0];
        let sample = Sample::of_pairs(values, all_pairs(4)).expect("finite");
        let (mean, log) = (sample.estimate(), sample.log_of_mean());
        let (mean, log) = (mean.expect("four nets"), log.expect("a positive mean"));
        let log = log.estimate().expect("four nets");
        close(log.mean, libm::log(mean.mean));
        close(log.error, mean.error / mean.mean);
        assert_eq!(of_nets(&[1.0, -1.0]).log_of_mean(), None);
    }

    proptest! {
        #[test]
        fn an_interval_contains_its_mean_and_a_prediction_contains_the_interval(
            x in prop::collection::vec(0.01f64..5.0, 3..8),
            shift in prop::sample::select(vec![0.0, 5.0]),
        ) {
            let x: Vec<f64> = x.iter().map(|x| x + shift).collect();
            let found = of_nets(&x).summary(Average::of(&x)).expect("some");
            let interval = found.interval.expect("three");
            let prediction = found.prediction.expect("three");
            prop_assert!(interval.contains(found.mean));
            prop_assert!(found.least <= found.mean && found.mean <= found.most);
            prop_assert!(prediction.low <= interval.low && interval.high <= prediction.high);
        }
    }
}
