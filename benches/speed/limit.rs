//! Kernels that measure the limits of the machine: how fast one core multiplies and adds, in
//! registers and with one factor from L1, and how fast it reads or rewrites an array.
//!
//! They are compiled for every instruction set as the kernels of `repro` are, so that a limit is
//! that of the set the program runs on. `limits` times them.

use repro::per_isa;

/// Accumulators of [`multiply_adds`]: twelve AVX2 registers, or six of AVX-512.
pub(crate) const CHAINS: usize = 96;
/// Accumulators of [`multiply_adds_wide`]: 24 AVX-512 registers; narrower sets have fewer, and
/// spill.
pub(crate) const WIDE_CHAINS: usize = 384;
/// Accumulators of [`multiply_adds_loaded`]: the columns of a panel of a product.
pub(crate) const LOADED_SUMS: usize = 64;
/// Running sums of [`read`]: eight AVX2 registers.
pub(crate) const SUMS: usize = 64;

per_isa! {
    /// `rounds` times `x <- x · factor + term` for each of `chains`, all in registers.
    pub(crate) fn multiply_adds(rounds: usize, factor: f32, term: f32, chains: &mut [f32; CHAINS]) {
        *chains = in_registers(rounds, factor, term, *chains);
    }
}

per_isa! {
    /// [`multiply_adds`] with four times as many chains.
    pub(crate) fn multiply_adds_wide(
        rounds: usize,
        factor: f32,
        term: f32,
        chains: &mut [f32; WIDE_CHAINS],
    ) {
        *chains = in_registers(rounds, factor, term, *chains);
    }
}

per_isa! {
    /// `rounds` times `sums <- sums + x[i] · w[i]` for each i in ascending order, with the sums in
    /// registers: the product of a sparse row and a panel, without the lookup of the panel's rows.
    pub(crate) fn multiply_adds_loaded(
        rounds: usize,
        x: &[f32],
        w: &[[f32; LOADED_SUMS]],
        sums: &mut [f32; LOADED_SUMS],
    ) {
        let mut held = *sums;
        for _ in 0..rounds {
            for (&x, w) in x.iter().zip(w) {
                for (sum, w) in held.iter_mut().zip(w) {
                    *sum = x.mul_add(*w, *sum);
                }
            }
        }
        *sums = held;
    }
}

#[inline(always)]
fn in_registers<const N: usize>(
    rounds: usize,
    factor: f32,
    term: f32,
    mut chains: [f32; N],
) -> [f32; N] {
    for _ in 0..rounds {
        for x in &mut chains {
            *x = x.mul_add(factor, term);
        }
    }
    chains
}

per_isa! {
    /// Adds every number of `x` to one of `sums`, the i-th to the (i mod 64)-th; the remainder
    /// after the last whole 64 is not read.
    pub(crate) fn read(x: &[f32], sums: &mut [f32; SUMS]) {
        let mut held = *sums;
        for x in x.as_chunks::<SUMS>().0 {
            for (sum, x) in held.iter_mut().zip(x) {
                *sum += x;
            }
        }
        *sums = held;
    }
}

per_isa! {
    /// Multiplies every number of `x` by `factor`: reads the array once and writes it once.
    pub(crate) fn rewrite(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }
}

/// Checks that the kernels compute what they are timed for.
///
/// # Panics
/// If one does not.
pub(crate) fn check() {
    let (x, y) = (0.9f32.mul_add(2.0, 0.3), |x: f32| 0.9f32.mul_add(x, 0.3));
    let mut chains = [2.0; CHAINS];
    multiply_adds(2, 0.9, 0.3, &mut chains);
    assert_eq!(chains, [y(x); CHAINS]);
    let mut chains = [2.0; WIDE_CHAINS];
    multiply_adds_wide(2, 0.9, 0.3, &mut chains);
    assert_eq!(chains, [y(x); WIDE_CHAINS]);

    let mut sums = [1.0; LOADED_SUMS];
    multiply_adds_loaded(2, &[2.0, 3.0], &[[4.0; LOADED_SUMS], [5.0; LOADED_SUMS]], &mut sums);
    assert_eq!(sums, [1.0 + 2.0 * 23.0; LOADED_SUMS]);

    let mut array = [2.0; 3 * SUMS];
    rewrite(&mut array, 1.5);
    assert_eq!(array, [3.0; 3 * SUMS]);
    let mut sums = [1.0; SUMS];
    read(&array, &mut sums);
    assert_eq!(sums, [10.0; SUMS]);
}
