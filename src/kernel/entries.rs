//! Sums over the entries of a sparse row: the inner loop of the products that skip zeros.
//!
//! This loop is bound by loads where few registers hold the sums. A load that waits for its address
//! blocks later ones, so an entry is read three iterations before it is used. `docs/performance.md`
//! has the measurements.

use super::add;
use std::borrow::Borrow;

/// How many entries are read ahead of their use.
const AHEAD: usize = 3;

/// A non-zero of a row.
pub(super) trait SparseEntry: Copy + Default + PartialEq + Sync {
    /// Its column, which is a row of the other factor.
    fn column(self) -> usize;
    /// Its value.
    fn value(self) -> f32;
    /// The same value in another column.
    fn in_column(self, column: u32) -> Self;
}

/// A non-zero in eight bytes: a number of a float image, or an activation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct ValueEntry {
    pub(super) column: u32,
    pub(super) value: f32,
}

impl SparseEntry for ValueEntry {
    #[inline(always)]
    fn column(self) -> usize {
        self.column as usize
    }

    #[inline(always)]
    fn value(self) -> f32 {
        self.value
    }

    #[inline(always)]
    fn in_column(self, column: u32) -> ValueEntry {
        ValueEntry { column, ..self }
    }
}

/// An entry's value and its row of a panel.
type Term<'a, const W: usize> = (f32, &'a [f32; W]);

/// The term that `entry` adds to the sums of its row.
///
/// # Safety
/// The entry's column must be less than the number of the panel's rows.
#[inline(always)]
pub(super) unsafe fn term<E: SparseEntry, P: Borrow<[f32; W]>, const W: usize>(
    entry: E,
    panel: &[P],
) -> Term<'_, W> {
    debug_assert!(entry.column() < panel.len());
    // SAFETY: guaranteed by the caller.
    (entry.value(), unsafe { panel.get_unchecked(entry.column()) }.borrow())
}

/// sums + entries · their rows of a panel, in order.
///
/// # Safety
/// As for [`term`], for each entry.
#[inline(always)]
pub(super) unsafe fn add_entries<E: SparseEntry, P: Borrow<[f32; W]>, const W: usize>(
    entries: &[E],
    panel: &[P],
    mut sums: [f32; W],
) -> [f32; W] {
    let Some((first, rest)) = entries.split_first_chunk::<AHEAD>() else {
        for &entry in entries {
            // SAFETY: guaranteed by the caller.
            let (x, w) = unsafe { term(entry, panel) };
            sums = add(x, w, sums);
        }
        return sums;
    };
    // SAFETY: as above.
    let mut ahead = [unsafe { term(first[0], panel) }; AHEAD];
    for k in 1..AHEAD {
        // SAFETY: as above.
        ahead[k] = unsafe { term(first[k], panel) };
    }
    for &entry in rest {
        let (x, w) = ahead[0];
        for k in 1..AHEAD {
            ahead[k - 1] = ahead[k];
        }
        // SAFETY: as above.
        ahead[AHEAD - 1] = unsafe { term(entry, panel) };
        sums = add(x, w, sums);
    }
    for (x, w) in ahead {
        sums = add(x, w, sums);
    }
    sums
}
