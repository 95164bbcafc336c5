//! Sums over the entries of a sparse row: the inner loop of the products that skip zeros.
//!
//! What counts where few registers hold the sums of one row is loading: with additions in place of multiply-adds the first
//! layer's products took 2 to 5 % less. A load that waits for its address keeps later ones from being seen, so an entry is
//! read three before it is used. In cycles of a Zen 1 core for 64 columns, which are eight multiply-adds, of which its
//! registers allow one in 1: 10.5 for rows of a panel in the first cache if their entries are read just before, 8.5 if one or
//! more ahead; 15.2 and 12.5 for rows at random out of 784, in the second cache. (Assembly, without the entries' values; 8.0
//! for one row that needs no entry.) Two or four ahead made no difference beyond the noise.
//!
//! This file does not know what the sparse matrix is, nor in which order its entries lie.

use super::add;
use std::borrow::Borrow;

/// Entries that are read before they are used.
const AHEAD: usize = 3;

/// A non-zero of a row.
pub(super) trait Entry: Copy {
    /// Its column, which is a row of the other factor.
    fn column(self) -> usize;
    /// Its value.
    fn value(self) -> f32;
}

/// An entry's value and its row of a panel.
type Term<'a, const W: usize> = (f32, &'a [f32; W]);

/// What `entry` adds to the sums of its row.
///
/// # Safety
/// Its column must be below the panel's rows.
#[inline(always)]
pub(super) unsafe fn term<E: Entry, P: Borrow<[f32; W]>, const W: usize>(
    entry: E,
    panel: &[P],
) -> Term<'_, W> {
    debug_assert!(entry.column() < panel.len());
    // SAFETY: the caller has seen to it.
    (entry.value(), unsafe { panel.get_unchecked(entry.column()) }.borrow())
}

/// sums + entries · their rows of a panel, one after the other.
///
/// # Safety
/// As for [`term`], for each of them.
#[inline(always)]
pub(super) unsafe fn add_entries<E: Entry, P: Borrow<[f32; W]>, const W: usize>(
    entries: &[E],
    panel: &[P],
    mut sums: [f32; W],
) -> [f32; W] {
    let Some((first, rest)) = entries.split_first_chunk::<AHEAD>() else {
        for &entry in entries {
            // SAFETY: the caller has seen to it.
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
