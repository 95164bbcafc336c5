//! The weighted sum of a few arrays: a point of a curve from its control nets, or pre-activations
//! at that point from those of the control nets.

use super::{add, per_isa};

/// Elements that are summed at once, in registers.
const RUN: usize = 64;

per_isa! {
    /// Overwrites `out`: element i is the sum of `c x[i]` over the `terms` (c, x), in their order,
    /// starting from zero.
    ///
    /// With a single coefficient of 1 and others of 0 that is the element of its array, if all are
    /// finite; a negative zero becomes zero.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn combine(terms: &[(f32, &[f32])], out: &mut [f32]) {
        assert!(terms.iter().all(|(_, x)| x.len() == out.len()), "lengths differ");
        let (runs, rest) = out.as_chunks_mut::<RUN>();
        let whole = RUN * runs.len();
        for (out, at) in runs.iter_mut().zip((0..).step_by(RUN)) {
            let mut sums = [0.0; RUN];
            for &(c, x) in terms {
                let x = x[at..].first_chunk().expect("BUG: an array is shorter than the output");
                sums = add(c, x, sums);
            }
            *out = sums;
        }
        for (out, at) in rest.iter_mut().zip(whole..) {
            *out = terms.iter().fold(0.0, |sum, &(c, x)| c.mul_add(x[at], sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gram::tests::noise;
    use crate::kernel::test::{bits, on_every_isa};

    #[test]
    fn a_sum_has_the_bits_of_the_reference_implementation_on_every_isa() {
        for n in [0, 1, 63, 64, 65, 200] {
            for count in 0..5 {
                let arrays: Vec<Vec<f32>> = (0..count).map(|k| noise(n, 3 + k as u32)).collect();
                let terms: Vec<(f32, &[f32])> =
                    arrays.iter().enumerate().map(|(k, x)| (0.3 - k as f32, &x[..])).collect();
                let reference =
                    |i: usize| terms.iter().fold(0.0f32, |sum, (c, x)| c.mul_add(x[i], sum));
                let expected: Vec<f32> = (0..n).map(reference).collect();
                on_every_isa(|isa| {
                    let mut found = vec![f32::NAN; n];
                    combine(&terms, &mut found);
                    assert_eq!(bits(&found), bits(&expected), "{isa:?}, {n} x {count}");
                });
            }
        }
    }

    #[test]
    fn a_single_coefficient_of_one_selects_its_array() {
        let [x, y, z] = [5, 6, 7].map(|seed| noise(100, seed));
        let mut found = vec![f32::NAN; 100];
        combine(&[(0.0, &x), (1.0, &y), (0.0, &z)], &mut found);
        assert_eq!(found, y);
    }

    #[test]
    #[should_panic(expected = "lengths differ")]
    fn arrays_of_another_length_are_refused() {
        combine(&[(1.0, &[1.0, 2.0])], &mut [0.0]);
    }
}
