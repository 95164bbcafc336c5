//! The mean of a few numbers, how well it is known, and where one more would lie.
//!
//! A number is of one net or of a pair of nets, and **nets are the sample, pairs are not**: pairs that share a net are not
//! independent. A [`Sample`] knows which nets each of its numbers is of and takes its standard error accordingly. It does
//! not know what the numbers measure.

use super::{Interval, student, sum};
use std::collections::BTreeSet;

/// Independent numbers that it takes for an interval: fewer say too little of their spread.
pub(super) const FEWEST: usize = 3;

/// Nets that it takes for an interval over pairs that share them.
pub(super) const FEWEST_NETS: usize = 4;

/// Finite numbers, each with the nets that it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<N> {
    values: Vec<f64>,
    nets: Vec<[N; 2]>,
}

/// A number that is none.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("`{value}` is not a finite number")]
pub struct NotFinite {
    /// Which of the numbers it is, from 0.
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

/// Which mean describes a set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// The sum over the count.
    Arithmetic,
    /// exp of the mean of the logarithms; its intervals are those of the logarithms, too.
    Geometric,
}

/// The mean of a sample with its 95 % intervals; none where there are too few numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// What `mean` is.
    pub average: Average,
    /// The mean.
    pub mean: f64,
    /// Where the mean of all such nets is.
    pub interval: Option<Interval>,
    /// Where the number of one more net, or of one pair of two more nets, falls.
    pub prediction: Option<Interval>,
    /// The smallest number.
    pub least: f64,
    /// The largest number.
    pub most: f64,
}

impl Average {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Average::Arithmetic => "arithmetic",
            Average::Geometric => "geometric",
        }
    }

    /// The average of that name.
    pub fn named(name: &str) -> Option<Average> {
        [Average::Arithmetic, Average::Geometric].into_iter().find(|average| average.name() == name)
    }

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
    /// Numbers of one pair of nets each: `nets[i]` are the two that `values[i]` is of.
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

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many nets the numbers are of.
    pub fn count_nets(&self) -> usize {
        self.distinct_nets().len()
    }

    fn distinct_nets(&self) -> BTreeSet<N> {
        self.nets.iter().flatten().copied().collect()
    }

    /// Whether no net belongs to two of the numbers.
    fn is_disjoint(&self) -> bool {
        let ends = self.nets.iter().map(|[a, b]| if a == b { 1 } else { 2 });
        self.count_nets() == ends.sum::<usize>()
    }

    /// The mean with its standard error; `None` where there are too few numbers or nets.
    ///
    /// Where no two numbers share a net: s / sqrt(k) with k - 1 degrees of freedom. Else by leaving out each net with all
    /// its pairs (the jackknife; Efron and Stein, *The jackknife estimate of variance*, 1981), with one degree of freedom
    /// less than there are nets.
    pub fn estimate(&self) -> Option<Estimate> {
        let mean = mean(&self.values)?;
        if self.is_disjoint() {
            let k = self.values.len();
            let estimate =
                || Estimate { mean, error: (variance(&self.values) / k as f64).sqrt(), freedom: (k - 1) as f64 };
            return (k >= FEWEST).then(estimate);
        }
        let nets = self.distinct_nets();
        let n = nets.len() as f64;
        let without = |net: N| {
            let rest = self.values.iter().zip(&self.nets).filter(|(_, ends)| !ends.contains(&net));
            self::mean(&rest.map(|(x, _)| *x).collect::<Vec<_>>())
        };
        let means: Vec<f64> = nets.iter().map(|&net| without(net)).collect::<Option<_>>()?;
        // The variance of the means without one net, times (n - 1)^2 / n.
        let error = (variance(&means) * (n - 1.0) * (n - 1.0) / n).sqrt();
        (nets.len() >= FEWEST_NETS).then_some(Estimate { mean, error, freedom: n - 1.0 })
    }

    /// Mean, intervals and range; `None` of nothing.
    ///
    /// # Panics
    /// If the average is geometric and a number is not positive.
    pub fn summary(&self, average: Average) -> Option<Summary> {
        let (least, most) = range(&self.values);
        let (scaled, back): (Sample<N>, fn(f64) -> f64) = match average {
            Average::Arithmetic => (self.clone(), |x| x),
            Average::Geometric => (self.logarithms(), libm::exp),
        };
        let interval = |i: Interval| Interval { low: back(i.low), high: back(i.high) };
        Some(Summary {
            average,
            mean: back(mean(&scaled.values)?),
            interval: scaled.estimate().map(|estimate| interval(estimate.interval())),
            prediction: scaled.prediction().map(interval),
            least,
            most,
        })
    }

    fn logarithms(&self) -> Sample<N> {
        assert!(self.values.iter().all(|x| *x > 0.0), "a number without a logarithm");
        Sample { values: self.values.iter().map(|x| libm::log(*x)).collect(), nets: self.nets.clone() }
    }

    /// Where a number of new nets falls: mean +- t sqrt(s^2 (K - 1) / K + 2 V), with s^2 the variance of the K numbers and V
    /// the squared standard error of their mean. Where they share no net this is t s sqrt(1 + 1 / K).
    fn prediction(&self) -> Option<Interval> {
        let Estimate { mean, error, freedom } = self.estimate()?;
        let k = self.values.len() as f64;
        let spread = (variance(&self.values) * (k - 1.0) / k + 2.0 * error * error).sqrt();
        Some(Interval::around(mean, student::quantile(freedom) * spread))
    }
}

impl Estimate {
    /// The 95 % interval of the mean.
    pub fn interval(&self) -> Interval {
        Interval::around(self.mean, student::quantile(self.freedom) * self.error)
    }
}

/// The arithmetic mean; `None` of nothing.
pub fn mean(x: &[f64]) -> Option<f64> {
    (!x.is_empty()).then(|| sum(x.iter().copied()) / x.len() as f64)
}

/// The variance of what `x` is drawn from: over n - 1; 0 of fewer than two.
fn variance(x: &[f64]) -> f64 {
    let Some(mean) = mean(x).filter(|_| x.len() > 1) else { return 0.0 };
    sum(x.iter().map(|x| (x - mean) * (x - mean))) / (x.len() - 1) as f64
}

/// The smallest and the largest.
fn range(x: &[f64]) -> (f64, f64) {
    x.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &x| (least.min(x), most.max(x)))
}
