//! Contrasts: tests whether a combination of independent means differs from zero, and their
//! adjustment for multiple testing.

use super::sample::Estimate;
use super::{student, sum};

impl Estimate {
    /// The combination sum c_i m_i of independent estimates, each with its coefficient c_i; `None`
    /// if there are none.
    ///
    /// Its degrees of freedom are Satterthwaite's (*An approximate distribution of estimates of
    /// variance components*, 1946): V^2 / sum(V_i^2 / f_i) with V_i = c_i^2 SE_i^2 and V their sum.
    /// For two estimates with the coefficients 1 and -1 this is Welch's test.
    pub fn combine(terms: &[(f64, Estimate)]) -> Option<Estimate> {
        let variances = || terms.iter().map(|(c, m)| (c * m.error) * (c * m.error));
        let variance = sum(variances());
        let parts = sum(variances().zip(terms).map(|(v, (_, m))| v * v / m.freedom));
        let freedom = if variance > 0.0 {
            variance * variance / parts
        } else {
            sum(terms.iter().map(|(_, m)| m.freedom))
        };
        let mean = sum(terms.iter().map(|(c, m)| c * m.mean));
        (!terms.is_empty()).then_some(Estimate { mean, error: variance.sqrt(), freedom })
    }

    /// The mean of independent estimates with equal weights; `None` if there are none.
    pub fn pool(estimates: &[Estimate]) -> Option<Estimate> {
        let weight = 1.0 / estimates.len() as f64;
        Estimate::combine(&estimates.iter().map(|&estimate| (weight, estimate)).collect::<Vec<_>>())
    }

    /// The two-sided p value of the hypothesis that the true mean is zero. It is 1 for numbers
    /// without any spread, which do not show how much they vary.
    pub fn p(&self) -> f64 {
        if self.error > 0.0 {
            student::two_sided_p(self.mean / self.error, self.freedom)
        } else {
            1.0
        }
    }
}

/// The p values of one family, adjusted so that the probability of a false finding in the family
/// stays below the level of the tests (Holm, *A simple sequentially rejective multiple test
/// procedure*, 1979).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut ascending: Vec<usize> = (0..p.len()).collect();
    ascending.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0_f64;
    for (rank, &i) in ascending.iter().enumerate() {
        largest = largest.max((p.len() - rank) as f64 * p[i]).min(1.0);
        adjusted[i] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::stats::Sample;

    fn estimate(values: &[f64]) -> Estimate {
        Sample::of_nets(values.to_vec()).expect("finite").estimate().expect("enough")
    }

    fn close(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-10, "{found}, not {expected}");
    }

    /// SciPy 1.17.1: `r = ttest_ind([4.1, 3.9, 4.4, 4.0], [2.2, 3.1, 1.0], equal_var=False); r.df,
    /// r.pvalue`
    #[test]
    fn the_difference_of_two_means_is_welchs_test() {
        let difference = Estimate::combine(&[
            (1.0, estimate(&[4.1, 3.9, 4.4, 4.0])),
            (-1.0, estimate(&[2.2, 3.1, 1.0])),
        ]);
        let difference = difference.expect("two");
        close(difference.mean, 2.0);
        close(difference.freedom, 2.126_704_967_894_559_3);
        close(difference.p(), 0.077_075_740_256_832_07);
    }

    /// NumPy 2 and SciPy 1.17.1:
    /// ```python
    /// x = [[-.8, -.7, -1.1], [-.5, -.2, -.6, -.4], [-.1, .05, -.2]]
    /// V = np.array([np.var(v, ddof=1) / len(v) for v in x]); f = np.array([len(v) - 1 for v in x])
    /// m = np.mean([np.mean(v) for v in x]); se = V.sum() ** .5 / 3
    /// df = V.sum() ** 2 / (V * V / f).sum()
    /// m, se, df, 2 * t.sf(abs(m / se), df)
    /// ```
    #[test]
    fn pooled_estimates_have_equal_weights_and_satterthwaites_degrees_of_freedom() {
        let widths =
            [&[-0.8, -0.7, -1.1][..], &[-0.5, -0.2, -0.6, -0.4], &[-0.1, 0.05, -0.2]].map(estimate);
        let pooled = Estimate::pool(&widths).expect("three");
        close(pooled.mean, -0.458_333_333_333_333_26);
        close(pooled.error, 0.054_786_341_453_655_62);
        close(pooled.freedom, 5.366_944_493_704_556);
        close(pooled.p(), 0.000_281_582_603_554_187_37);
    }

    #[test]
    fn a_single_estimate_pools_to_itself_and_none_to_none() {
        let one = estimate(&[1.0, 2.0, 4.0]);
        assert_eq!((Estimate::pool(&[one]), Estimate::pool(&[])), (Some(one), None));
    }

    #[test]
    fn numbers_without_spread_have_a_p_value_of_one() {
        assert_eq!(estimate(&[0.5, 0.5, 0.5]).p(), 1.0);
        let pooled = Estimate::pool(&[estimate(&[0.0; 3]), estimate(&[0.0; 4])]).expect("two");
        assert_eq!((pooled.p(), pooled.freedom), (1.0, 5.0));
    }

    /// 4 x 0.005, 3 x 0.01, 2 x 0.03, and 1 x 0.04, which must not fall below the one before.
    #[test]
    fn holm_multiplies_by_rank_and_never_decreases() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            close(*found, expected);
        }
        assert_eq!((holm(&[0.7, 0.6]), holm(&[])), (vec![1.0, 1.0], vec![]));
    }
}
