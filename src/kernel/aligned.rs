//! Numbers whose first lies at the start of a cache line, so that no register's worth of them spans two.
//!
//! A vector of sixteen that spans two lines is loaded as two; over panels that began anywhere, the sparse product took
//! a third longer. Left out: huge pages under them, which made no difference beyond the noise at h = 2000.
//!
//! This file does not know what the numbers are.

use std::ops::{Deref, DerefMut};

/// A cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

const LINE: usize = 16;

/// A vector of numbers, in whole cache lines; what fills the last line means nothing.
#[derive(Clone, Debug, Default)]
pub struct Aligned {
    len: usize,
    lines: Vec<Line>,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Aligned {
        Aligned { len, lines: vec![Line([0.0; LINE]); len.div_ceil(LINE)] }
    }

    /// Makes it `len` long; what its numbers are then means nothing.
    pub fn resize(&mut self, len: usize) {
        self.len = len;
        self.lines.resize(len.div_ceil(LINE), Line([0.0; LINE]));
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
        // SAFETY: a line is sixteen numbers without padding, `lines` are one piece of memory and hold at least `len`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_at_a_cache_line_and_are_as_many_as_asked_for() {
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
    fn what_is_left_behind_the_last_number_makes_no_difference() {
        let (mut used, mut fresh) = (Aligned::zeros(20), Aligned::zeros(17));
        used.fill(3.0);
        used.resize(17);
        fresh.fill(3.0);
        assert_eq!(used, fresh);
    }
}
