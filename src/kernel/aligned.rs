//! Numbers whose first lies at the start of a cache line, so that no register's worth of them spans two.
//!
//! A vector of sixteen that spans two lines is loaded as two; over panels that began anywhere, the sparse product took
//! a third longer. This file does not know what the numbers are.

#[cfg(target_os = "linux")]
use rustix::mm::{Advice, madvise};
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

/// A cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

const LINE: usize = 16;

/// Bytes.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// A vector of numbers, in whole cache lines; what fills the last line is zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aligned {
    len: usize,
    lines: Vec<Line>,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Aligned {
        let mut numbers = Aligned::default();
        numbers.resize(len);
        numbers
    }

    /// Makes it `len` long; what its numbers are then means nothing.
    pub fn resize(&mut self, len: usize) {
        self.len = len;
        let more = len.div_ceil(LINE).saturating_sub(self.lines.len());
        self.lines.reserve_exact(more);
        on_huge_pages(self.lines.spare_capacity_mut());
        self.lines.resize(len.div_ceil(LINE), Line([0.0; LINE]));
    }
}

/// Asks for huge pages under memory that is about to be written for the first time, if there is much of it: a step at
/// h = 2000 walks through 19 MB of weights and velocities, and looking up where its pages are took a sixth of the time.
/// Where they cannot be had, nothing else changes.
fn on_huge_pages(memory: &mut [MaybeUninit<Line>]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4 << 10;
        let start = memory.as_mut_ptr().cast::<u8>();
        let skipped = start.align_offset(PAGE);
        let bytes = size_of_val(memory).saturating_sub(skipped);
        if bytes >= HUGE_PAGE {
            // SAFETY: the range lies within `memory`, which is ours, and is only advised about, not changed.
            _ = unsafe { madvise(start.add(skipped).cast(), bytes, Advice::LinuxHugepage) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
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
}
