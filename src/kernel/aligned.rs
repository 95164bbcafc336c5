//! Vectors of numbers aligned to cache lines, so that no vector load spans two.

use std::ops::{Deref, DerefMut};

/// A cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct CacheLine([f32; LINE]);

const LINE: usize = 16;

/// A vector of numbers in whole cache lines; the padding of the last line is unspecified.
#[derive(Clone, Debug, Default)]
pub struct Aligned {
    len: usize,
    lines: Vec<CacheLine>,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Aligned {
        Aligned { len, lines: vec![CacheLine([0.0; LINE]); len.div_ceil(LINE)] }
    }

    /// Resizes to `len` numbers with unspecified content.
    pub fn resize(&mut self, len: usize) {
        self.len = len;
        self.lines.resize(len.div_ceil(LINE), CacheLine([0.0; LINE]));
    }
}

impl PartialEq for Aligned {
    fn eq(&self, other: &Aligned) -> bool {
        **self == **other
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is sixteen numbers without padding; `lines` are contiguous and hold at
        // least `len` numbers.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, with a mutable borrow.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_start_at_a_cache_line_and_have_the_requested_length() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let mut numbers = Aligned::zeros(len);
            assert_eq!((numbers.len(), numbers.as_ptr().addr() % 64), (len, 0));
            numbers.fill(3.0);
            assert!(numbers.iter().all(|&x| x == 3.0));
            numbers.resize(2 * len);
            assert_eq!((numbers.len(), &numbers[..len]), (2 * len, &vec![3.0; len][..]));
        }
    }

    #[test]
    fn the_padding_does_not_affect_equality() {
        let (mut used, mut fresh) = (Aligned::zeros(20), Aligned::zeros(17));
        used.fill(3.0);
        used.resize(17);
        fresh.fill(3.0);
        assert_eq!(used, fresh);
    }
}
