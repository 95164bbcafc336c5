//! Compaction of the non-zeros of a row, bytes or numbers, each with its position: images and
//! activations become sparse.
//!
//! Every instruction set writes the same words. AVX-512 has an instruction for it, AVX2 looks a
//! permutation up in a table. `docs/performance.md` has the measurements.

use super::entries::ValueEntry;
#[cfg(target_arch = "x86_64")]
use super::{Isa, isa};

/// Words or entries that a compaction may write beyond those it counts.
pub(super) const SLACK: usize = 16;

/// Writes a word for each non-zero of `row` to the front of `out`, 256 times its position plus the
/// byte, ascending. Returns their number. The rest of `out` becomes unspecified.
///
/// # Panics
/// If `out` is not longer than `row` by [`SLACK`].
pub(super) fn compact(row: &[u8], out: &mut [u32]) -> usize {
    assert!(out.len() >= row.len() + SLACK, "no room for the words of a row");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("popcnt") {
        match isa() {
            // SAFETY: `isa()` returns only sets that the processor was found to have, and so was
            // `popcnt`.
            Isa::Avx512 => return unsafe { avx512(row, out) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2(row, out) },
            Isa::Scalar => {}
        }
    }
    plain(row, 0, out)
}

/// The words of `row`, whose first byte has position `first`.
#[inline(always)]
fn plain(row: &[u8], first: u32, out: &mut [u32]) -> usize {
    let mut end = 0;
    // Branchless: every byte is written to the next slot, which is kept only if the byte is not
    // zero.
    for (eight, first) in row.chunks(8).zip((first..).step_by(8)) {
        if eight == [0; 8] {
            continue;
        }
        for (place, &byte) in (first..).zip(eight) {
            out[end] = place << 8 | u32::from(byte);
            end += usize::from(byte != 0);
        }
    }
    end
}

/// Writes an entry for each non-zero of `row` to the front of `out`, ascending. Returns their
/// number. The rest of `out` becomes unspecified. -0 is a zero, NaN is not.
///
/// # Panics
/// If `out` is not longer than `row` by [`SLACK`].
pub(super) fn compact_values(row: &[f32], out: &mut [ValueEntry]) -> usize {
    assert!(out.len() >= row.len() + SLACK, "no room for the entries of a row");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("popcnt") {
        match isa() {
            // SAFETY: `isa()` returns only sets that the processor was found to have, and so was
            // `popcnt`.
            Isa::Avx512 => return unsafe { avx512_values(row, out) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2_values(row, out) },
            Isa::Scalar => {}
        }
    }
    plain_values(row, 0, out)
}

/// The entries of `row`, whose first number has position `first`.
#[inline(always)]
fn plain_values(row: &[f32], first: u32, out: &mut [ValueEntry]) -> usize {
    let mut end = 0;
    // Branchless, as for bytes.
    for (column, &value) in (first..).zip(row) {
        out[end] = ValueEntry { column, value };
        end += usize::from(value != 0.0);
    }
    end
}

/// For each set of eight lanes, its members in ascending order, padded with zeros.
#[cfg(target_arch = "x86_64")]
static LANES_OF: [[u8; 8]; 256] = {
    let mut lanes_of = [[0; 8]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut end) = (0, 0);
        while lane < 8 {
            if set >> lane & 1 == 1 {
                lanes_of[set][end] = lane;
                end += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    lanes_of
};

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn avx2(row: &[u8], out: &mut [u32]) -> usize {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_cvtsi64_si128, _mm_movemask_epi8, _mm_setzero_si128, _mm256_add_epi32,
        _mm256_cvtepu8_epi32, _mm256_or_si256, _mm256_permutevar8x32_epi32, _mm256_set1_epi32,
        _mm256_setr_epi32, _mm256_slli_epi32, _mm256_storeu_si256,
    };
    let load = |eight: [u8; 8]| _mm_cvtsi64_si128(i64::from_le_bytes(eight));
    let lanes = _mm256_slli_epi32::<8>(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    let (eights, rest) = row.as_chunks::<8>();
    let mut end = 0;
    for (&eight, first) in eights.iter().zip((0..).step_by(8)) {
        if eight == [0; 8] {
            continue;
        }
        let bytes = load(eight);
        let non_zero = !_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_setzero_si128())) as u8;
        let places = _mm256_add_epi32(lanes, _mm256_set1_epi32(first << 8));
        let words = _mm256_or_si256(places, _mm256_cvtepu8_epi32(bytes));
        let order = _mm256_cvtepu8_epi32(load(LANES_OF[usize::from(non_zero)]));
        let out = &mut out[end..][..SLACK];
        // SAFETY: the slice has room for the 8 words that are written, without alignment.
        unsafe {
            _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_permutevar8x32_epi32(words, order))
        };
        end += non_zero.count_ones() as usize;
    }
    end + plain(rest, 8 * eights.len() as u32, &mut out[end..])
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,popcnt")]
fn avx512(row: &[u8], out: &mut [u32]) -> usize {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm_test_epi8_mask, _mm512_add_epi32, _mm512_cvtepu8_epi32,
        _mm512_maskz_compress_epi32, _mm512_or_si512, _mm512_set1_epi32, _mm512_setr_epi32,
        _mm512_slli_epi32, _mm512_storeu_si512,
    };
    let lanes = _mm512_slli_epi32::<8>(_mm512_setr_epi32(
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    ));
    let (sixteens, rest) = row.as_chunks::<16>();
    let mut end = 0;
    for (sixteen, first) in sixteens.iter().zip((0..).step_by(16)) {
        // SAFETY: an array of 16 bytes is read, without alignment.
        let bytes = unsafe { _mm_loadu_si128(sixteen.as_ptr().cast()) };
        let non_zero = _mm_test_epi8_mask(bytes, bytes);
        if non_zero == 0 {
            continue;
        }
        let places = _mm512_add_epi32(lanes, _mm512_set1_epi32(first << 8));
        let words = _mm512_or_si512(places, _mm512_cvtepu8_epi32(bytes));
        let out = &mut out[end..][..SLACK];
        // SAFETY: the slice has room for the 16 words that are written, without alignment.
        unsafe {
            _mm512_storeu_si512(
                out.as_mut_ptr().cast(),
                _mm512_maskz_compress_epi32(non_zero, words),
            )
        };
        end += non_zero.count_ones() as usize;
    }
    end + plain(rest, 16 * sixteens.len() as u32, &mut out[end..])
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn avx2_values(row: &[f32], out: &mut [ValueEntry]) -> usize {
    use std::arch::x86_64::{
        _CMP_NEQ_UQ, _mm_cvtsi64_si128, _mm256_add_epi32, _mm256_castps_si256, _mm256_cmp_ps,
        _mm256_cvtepu8_epi32, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_permute2x128_si256,
        _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_setzero_ps, _mm256_storeu_si256,
        _mm256_unpackhi_epi32, _mm256_unpacklo_epi32,
    };
    let (eights, rest) = row.as_chunks::<8>();
    let mut end = 0;
    for (eight, first) in eights.iter().zip((0..).step_by(8)) {
        // SAFETY: an array of 8 numbers is read, without alignment.
        let values = unsafe { _mm256_loadu_ps(eight.as_ptr()) };
        let kept = _mm256_cmp_ps::<_CMP_NEQ_UQ>(values, _mm256_setzero_ps());
        let non_zero = _mm256_movemask_ps(kept) as u8;
        let order = i64::from_le_bytes(LANES_OF[usize::from(non_zero)]);
        let order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(order));
        let columns = _mm256_add_epi32(order, _mm256_set1_epi32(first));
        let values = _mm256_permutevar8x32_epi32(_mm256_castps_si256(values), order);
        // Pairs 0, 1, 4, 5 and 2, 3, 6, 7.
        let low = _mm256_unpacklo_epi32(columns, values);
        let high = _mm256_unpackhi_epi32(columns, values);
        let out = out[end..][..SLACK].as_mut_ptr();
        // SAFETY: the slice has room for the 8 entries that are written, without alignment; an
        // entry is a column and then a value.
        unsafe {
            _mm256_storeu_si256(out.cast(), _mm256_permute2x128_si256::<0x20>(low, high));
            _mm256_storeu_si256(out.add(4).cast(), _mm256_permute2x128_si256::<0x31>(low, high));
        }
        end += non_zero.count_ones() as usize;
    }
    end + plain_values(rest, 8 * eights.len() as u32, &mut out[end..])
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,popcnt")]
fn avx512_values(row: &[f32], out: &mut [ValueEntry]) -> usize {
    use std::arch::x86_64::{
        _CMP_NEQ_UQ, _mm512_add_epi32, _mm512_castps_si512, _mm512_cmp_ps_mask, _mm512_loadu_ps,
        _mm512_maskz_compress_epi32, _mm512_permutex2var_epi32, _mm512_set1_epi32,
        _mm512_setr_epi32, _mm512_setzero_ps, _mm512_storeu_si512,
    };
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    // Pairs of lane k of one vector and lane k of another.
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    let (sixteens, rest) = row.as_chunks::<16>();
    let mut end = 0;
    for (sixteen, first) in sixteens.iter().zip((0..).step_by(16)) {
        // SAFETY: an array of 16 numbers is read, without alignment.
        let values = unsafe { _mm512_loadu_ps(sixteen.as_ptr()) };
        let non_zero = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(values, _mm512_setzero_ps());
        let columns = _mm512_add_epi32(lanes, _mm512_set1_epi32(first));
        let columns = _mm512_maskz_compress_epi32(non_zero, columns);
        let values = _mm512_maskz_compress_epi32(non_zero, _mm512_castps_si512(values));
        let out = out[end..][..SLACK].as_mut_ptr();
        // SAFETY: the slice has room for the 16 entries that are written, without alignment; an
        // entry is a column and then a value.
        unsafe {
            let pairs = _mm512_permutex2var_epi32(columns, low, values);
            _mm512_storeu_si512(out.cast(), pairs);
            let pairs = _mm512_permutex2var_epi32(columns, high, values);
            _mm512_storeu_si512(out.add(8).cast(), pairs);
        }
        end += non_zero.count_ones() as usize;
    }
    end + plain_values(rest, 16 * sixteens.len() as u32, &mut out[end..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::test::on_every_isa;

    #[test]
    fn the_words_of_a_row_equal_the_reference_implementation() {
        for n in [0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 784, 5000] {
            let patchy =
                |i: usize| if (i * i / 40).is_multiple_of(3) { 0 } else { (i * 37 % 256) as u8 };
            for row in [(0..n).map(patchy).collect(), vec![0; n], vec![255; n]] {
                let kept = row.iter().enumerate().filter(|&(_, &byte)| byte != 0);
                let expected: Vec<u32> =
                    kept.map(|(place, &byte)| 256 * place as u32 + u32::from(byte)).collect();
                on_every_isa(|isa| {
                    let mut out = vec![u32::MAX; n + SLACK];
                    let end = compact(&row, &mut out);
                    assert_eq!(out[..end], expected, "{isa:?}, {n} bytes");
                });
            }
        }
    }

    #[test]
    fn the_entries_of_a_row_of_numbers_equal_the_reference_implementation() {
        for n in [0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 784, 5000] {
            let patchy = |i: usize| match i * i % 7 {
                0 | 2 => [0.0, -0.0][i % 2],
                _ => (i * 37 % 256) as f32 - 100.0,
            };
            for row in [(0..n).map(patchy).collect(), vec![0.0; n], vec![-2.5; n]] {
                let kept = (0..).zip(&row).filter(|&(_, &value)| value != 0.0);
                let expected: Vec<_> =
                    kept.map(|(column, &value)| ValueEntry { column, value }).collect();
                on_every_isa(|isa| {
                    let mut out = vec![ValueEntry { column: 9, value: 9.0 }; n + SLACK];
                    let end = compact_values(&row, &mut out);
                    assert_eq!(out[..end], expected, "{isa:?}, {n} numbers");
                });
            }
        }
    }
}
