//! Student's t distribution, for real degrees of freedom.
//!
//! The incomplete beta function is the crate `special`'s, which takes exp and ln from `libm`: the
//! bits are the same on every machine. Its inverse keeps twelve digits up to 10,000 degrees of
//! freedom.

use special::Beta as _;

/// Half the width, in standard errors, of a two-sided 95 % interval: the 0.975 quantile.
///
/// # Panics
/// If `freedom` is not positive and finite.
pub(super) fn quantile(freedom: f64) -> f64 {
    let (p, q) = shape(freedom);
    let x = 0.05_f64.inv_inc_beta(p, q, p.ln_beta(q));
    (freedom * (1.0 - x) / x).sqrt()
}

/// The probability of a value at least as far from zero as `t`.
///
/// # Panics
/// If `freedom` is not positive and finite, or `t` is NaN.
pub(super) fn two_sided_p(t: f64, freedom: f64) -> f64 {
    assert!(!t.is_nan(), "t is NaN");
    let (p, q) = shape(freedom);
    (freedom / (freedom + t * t)).inc_beta(p, q, p.ln_beta(q))
}

/// P(|T| >= t) = I_x(freedom / 2, 1 / 2) with x = freedom / (freedom + t^2) (Abramowitz and Stegun,
/// 26.7.1).
fn shape(freedom: f64) -> (f64, f64) {
    assert!(freedom > 0.0 && freedom.is_finite(), "{freedom} degrees of freedom");
    (freedom / 2.0, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SciPy 1.17.1: `from scipy.stats import t; [t.ppf(0.975, v) for v in (0.5, 1, 1.5, 2, 2.7, 3,
    /// 4.4, 9, 17.3, 100)]`
    #[test]
    fn quantiles_agree_with_scipy_for_integer_and_fractional_degrees_of_freedom() {
        let expected = [
            (0.5, 164.557_673_480_488_18),
            (1.0, 12.706_204_736_174_694),
            (1.5, 6.016_663_104_427_929),
            (2.0, 4.302_652_729_749_462),
            (2.7, 3.392_148_383_173_750_7),
            (3.0, 3.182_446_305_283_707_8),
            (4.4, 2.679_679_485_692_335),
            (9.0, 2.262_157_162_798_205),
            (17.3, 2.107_032_003_753_467_6),
            (100.0, 1.983_971_518_523_551_8),
        ];
        for (freedom, expected) in expected {
            let found = quantile(freedom);
            assert!((found / expected - 1.0).abs() < 1e-11, "{freedom}: {found}");
        }
    }

    /// SciPy 1.17.1: `2 * t.sf(abs(x), v)`
    #[test]
    fn p_values_agree_with_scipy_far_into_the_tail() {
        let expected = [
            (0.0, 3.0, 1.0),
            (0.1, 4.0, 0.925_155_840_939_453_2),
            (1.0, 1.0, 0.5),
            (-2.0, 5.5, 0.096_754_390_231_185_04),
            (10.0, 3.0, 0.002_128_399_058_414_150_3),
            (50.0, 12.3, 1.385_361_722_778_250_7e-15),
        ];
        for (t, freedom, expected) in expected {
            let found = two_sided_p(t, freedom);
            assert!((found / expected - 1.0).abs() < 1e-11, "t = {t}, {freedom}: {found}");
        }
    }

    #[test]
    fn five_percent_are_outside_of_the_quantile() {
        for freedom in [1.0, 2.0, 3.6, 5.0, 29.5] {
            assert!((two_sided_p(quantile(freedom), freedom) - 0.05).abs() < 1e-12);
        }
    }

    /// The bits: the exp or ln of a platform would change the last ones.
    #[test]
    fn quantiles_and_p_values_have_the_same_bits_on_every_machine() {
        let bits = [quantile(2.0), quantile(5.37), two_sided_p(3.3, 2.9)].map(f64::to_bits);
        assert_eq!(
            bits,
            [4_616_530_374_734_988_987, 4_612_852_927_647_151_052, 4_587_083_814_476_874_707]
        );
    }
}
