//! The machine's own limits, for the benches to stand beside: how fast one core multiplies and adds, in registers and with
//! one factor from the first cache, and how fast it reads or rewrites an array. What is near them has little left to gain.
//!
//! Nothing in the program calls these. They are kernels like the others, compiled for every instruction set, so that a
//! limit is that of the set the program runs on. This file does not know a clock: whoever calls it holds one.
//!
//! Measured here (Zen 4 at 3.69 GHz, by a chain of dependent additions beside it): twelve AVX2 registers in flight, six of
//! AVX-512 and 24 of AVX-512 all reach 16.0 multiply-adds a cycle, 118 GFLOP/s, which is what such a core has. The 24 are
//! for cores with two 512-bit units. On Zen 1 (2.94 GHz, AVX2 in halves of 128 bits) twelve registers reach 8.0 multiply-adds
//! a cycle, 47 GFLOP/s, and 7.3 with one factor from the first cache: each multiply-add loads
//! two halves, and two a cycle is all that core can load.

use super::{add, per_isa};

/// Accumulators of [`multiply_adds`]: twelve AVX2 registers, or six of AVX-512.
pub const CHAINS: usize = 96;
/// Accumulators of [`multiply_adds_wide`]: 24 AVX-512 registers; narrower sets have not as many, and spill.
pub const WIDE_CHAINS: usize = 384;
/// Accumulators of [`multiply_adds_loaded`]: a panel of a product is as wide.
pub const LOADED_SUMS: usize = 64;
/// Running sums of [`read`]: eight AVX2 registers.
pub const SUMS: usize = 64;

per_isa! {
    /// `rounds` times `x <- x · factor + term` for each of `chains`, which never leave the registers.
    pub fn multiply_adds(rounds: usize, factor: f32, term: f32, chains: &mut [f32; CHAINS]) {
        *chains = in_registers(rounds, factor, term, *chains);
    }
}

per_isa! {
    /// [`multiply_adds`] with four times as many chains.
    pub fn multiply_adds_wide(rounds: usize, factor: f32, term: f32, chains: &mut [f32; WIDE_CHAINS]) {
        *chains = in_registers(rounds, factor, term, *chains);
    }
}

per_isa! {
    /// `rounds` times `sums <- sums + x[i] · w[i]` for each i in ascending order, with the sums in registers: what a product
    /// of a sparse row and a panel is made of, less finding the row of the panel.
    pub fn multiply_adds_loaded(rounds: usize, x: &[f32], w: &[[f32; LOADED_SUMS]], sums: &mut [f32; LOADED_SUMS]) {
        let mut held = *sums;
        for _ in 0..rounds {
            for (&x, w) in x.iter().zip(w) {
                held = add(x, w, held);
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
    /// Adds every number of `x` to one of `sums`, the i-th to the (i mod 64)-th; what is left after whole 64 is not read.
    pub fn read(x: &[f32], sums: &mut [f32; SUMS]) {
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
    pub fn rewrite(x: &mut [f32], factor: f32) {
        for x in x {
            *x *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gram::tests::noise;
    use crate::kernel::test::on_every_isa;

    fn chains_case<const N: usize>(run: fn(usize, f32, f32, &mut [f32; N])) {
        let start: [f32; N] = std::array::from_fn(|i| i as f32 / 7.0);
        for rounds in [0, 1, 5] {
            let expected = start.map(|x| (0..rounds).fold(x, |x: f32, _| x.mul_add(0.9, 0.3)));
            on_every_isa(|isa| {
                let mut chains = start;
                run(rounds, 0.9, 0.3, &mut chains);
                assert_eq!(chains, expected, "{isa:?}, {rounds} rounds of {N}");
            });
        }
    }

    #[test]
    fn every_chain_takes_every_multiply_add() {
        chains_case(multiply_adds);
        chains_case(multiply_adds_wide);
    }

    #[test]
    fn every_sum_takes_every_loaded_multiply_add() {
        for (rounds, n) in [(0, 3), (1, 0), (2, 5)] {
            let (x, w) = (noise(n, 1), noise(n * LOADED_SUMS, 2));
            let (w, _) = w.as_chunks::<LOADED_SUMS>();
            let sum = |lane: usize| {
                let terms = (0..rounds).flat_map(|_| x.iter().zip(w));
                terms.fold(0.5f32, |sum, (x, w)| x.mul_add(w[lane], sum))
            };
            let expected: [f32; LOADED_SUMS] = std::array::from_fn(sum);
            on_every_isa(|isa| {
                let mut sums = [0.5; LOADED_SUMS];
                multiply_adds_loaded(rounds, &x, w, &mut sums);
                assert_eq!(sums, expected, "{isa:?}, {rounds} rounds of {n}");
            });
        }
    }

    #[test]
    fn every_number_of_whole_chunks_is_read_once() {
        for n in [0, 1, 64, 100, 640] {
            let x = noise(n, 1);
            let whole = n - n % SUMS;
            let expected: [f32; SUMS] = std::array::from_fn(|lane| {
                x[..whole].iter().skip(lane).step_by(SUMS).fold(0.5, |sum, x| sum + x)
            });
            on_every_isa(|isa| {
                let mut sums = [0.5; SUMS];
                read(&x, &mut sums);
                assert_eq!(sums, expected, "{isa:?}, {n}");
            });
        }
    }

    #[test]
    fn every_number_is_rewritten_once() {
        for n in [0, 1, 100, 1000] {
            let x = noise(n, 1);
            let expected: Vec<f32> = x.iter().map(|x| x * 0.7).collect();
            on_every_isa(|isa| {
                let mut rewritten = x.clone();
                rewrite(&mut rewritten, 0.7);
                assert_eq!(rewritten, expected, "{isa:?}, {n}");
            });
        }
    }
}
