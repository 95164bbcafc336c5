//! Random streams: ChaCha keyed by BLAKE3(seed, label).
//!
//! A stream depends on its seed and its own label only: not on a counter, the clock, or other
//! streams.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The stream of `label` under `seed`.
pub fn stream(seed: &str, label: &str) -> ChaCha8Rng {
    let mut hash = blake3::Hasher::new_derive_key("repro random stream v1");
    hash.update(&(seed.len() as u64).to_le_bytes());
    hash.update(seed.as_bytes());
    hash.update(label.as_bytes());
    ChaCha8Rng::from_seed(*hash.finalize().as_bytes())
}

/// Uniform in [0, 1), a multiple of 2^-53.
pub fn uniform(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Standard normal, by the polar method (Marsaglia and Bray, 1964); the second of each pair is
/// discarded.
pub fn normal(rng: &mut impl Rng) -> f64 {
    loop {
        let (x, y) = (2.0 * uniform(rng) - 1.0, 2.0 * uniform(rng) - 1.0);
        let r = x * x + y * y;
        if r > 0.0 && r < 1.0 {
            return x * libm::sqrt(-2.0 * libm::log(r) / r);
        }
    }
}

/// Uniform in 0..n without bias, by rejection; `n` > 0.
pub fn below(rng: &mut impl Rng, n: u32) -> u32 {
    let limit = u32::MAX - (u32::MAX % n + 1) % n;
    loop {
        let x = rng.next_u32();
        if x <= limit {
            return x % n;
        }
    }
}

/// Shuffles `items` uniformly (Fisher and Yates).
pub fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i as u32 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_its_seed_and_its_label_only() {
        let first = |seed, label| stream(seed, label).next_u64();
        assert_eq!(first("0", "init"), first("0", "init"));
        assert_ne!(first("0", "init"), first("1", "init"));
        assert_ne!(first("0", "init"), first("0", "shuffle"));
        assert_ne!(
            first("ab", "c"),
            first("a", "bc"),
            "the boundary between seed and label counts"
        );
    }

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        let mut rng = stream("0", "moments");
        let n = 100_000;
        let (mut u, mut g, mut g2) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            u += uniform(&mut rng);
            let x = normal(&mut rng);
            g += x;
            g2 += x * x;
        }
        let n = f64::from(n);
        assert!((u / n - 0.5).abs() < 0.005);
        assert!((g / n).abs() < 0.015);
        assert!((g2 / n - 1.0).abs() < 0.02);
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_below_stays_below() {
        let mut rng = stream("0", "shuffle");
        let mut items: Vec<u32> = (0..1000).collect();
        shuffle(&mut rng, &mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
        assert!((0..1000).all(|_| below(&mut rng, 7) < 7));
        assert_eq!(below(&mut rng, 1), 0);
    }
}
