//! The arithmetic: the only module with SIMD or `unsafe`.
//!
//! Every kernel obeys one rule, so that the bits do not depend on the machine: **one accumulator
//! per output element, ascending over the summed index, fused multiply-add**. Vector lanes and
//! threads run *across* outputs; no sum is ever split. A kernel is written once, in plain Rust over
//! slices and fixed-size arrays with [`f32::mul_add`], and `per_isa!` compiles that body for each
//! instruction set; the set is selected at run time. [`product`] also branches on it, since the
//! number of registers decides how many rows it sums at once. Four have intrinsics in
//! addition, with the same results, because LLVM spills their tiles or does not emit the
//! instruction: [`gram`] for AVX-512, the second layer in [`blend`], the compaction of non-zeros
//! and the transpose of [`panels`] for AVX2 and AVX-512.
//!
//! The tests of each kernel compare it bit for bit with a reference implementation, on every
//! instruction set of the machine; `pipeline.lock` does the same for whole runs. Emulated runs and
//! untested targets, like all measurements, are in `docs/performance.md`.
//!
//! LLVM keeps an array of sums in registers if the array is passed by value. Behind a reference,
//! every addition is a store. Check the assembly, or `cargo bench`, after a change.
//!
//! Kernels operate on slices, images, neurons and classes. They use no other module of this
//! crate. Their public items serve `study`, and `benches/speed`, which measures them one by one;
//! [`per_isa!`](crate::per_isa) is exported for the benchmarks alone.

pub mod aligned;
pub mod blend;
pub mod cholesky;
pub mod combine;
mod compact;
pub mod dense;
pub mod distance;
mod entries;
pub mod gram;
pub mod panels;
pub mod parallel;
pub mod product;
pub mod quadratic;
pub mod softmax;
pub mod sparse;

pub mod update;

pub(crate) use dense::CLASSES;

use std::sync::OnceLock;

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// The baseline of the target, which includes NEON on aarch64.
    Scalar,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, VL, BW and DQ.
    Avx512,
}

impl Isa {
    /// The sets that this processor has, narrowest first.
    pub fn available() -> Vec<Isa> {
        let mut found = vec![Isa::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Isa::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                {
                    found.push(Isa::Avx512);
                }
            }
        }
        found
    }

    /// The value of `REPRO_SIMD` that selects this set.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

/// The instruction set that the kernels run on: the one in `REPRO_SIMD`, or else the widest that
/// this processor has.
///
/// A `REPRO_SIMD` that names no available set is ignored here; [`check_forced_isa`] reports it.
pub fn isa() -> Isa {
    #[cfg(test)]
    if let Some(isa) = test::FORCED.get() {
        return isa;
    }
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let available = Isa::available();
        let widest = available[available.len() - 1];
        let requested = std::env::var("REPRO_SIMD").ok();
        requested
            .and_then(|name| available.into_iter().find(|isa| isa.name() == name))
            .unwrap_or(widest)
    })
}

/// Returns an error if `REPRO_SIMD` is not an instruction set of this processor.
pub fn check_forced_isa() -> Result<(), String> {
    let Ok(requested) = std::env::var("REPRO_SIMD") else { return Ok(()) };
    let names: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    if names.contains(&requested.as_str()) {
        return Ok(());
    }
    Err(format!(
        "`REPRO_SIMD={requested}` is not an instruction set of this machine; it has `{}`",
        names.join("`, `")
    ))
}

/// Defines a kernel: one body, compiled for every [`Isa`] and dispatched by
/// [`isa`]. Exported for the benchmarks, whose machine limits are kernels too.
///
/// The body must be plain Rust without early `return`s out of closures; multiply-adds are written
/// `a.mul_add(b, c)`.
#[macro_export]
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body
            // A function of its own: unoptimised, the frame of a large body takes a megabyte.
            fn scalar($($arg: $ty),*) { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) { body($($arg),*) }
                #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
                fn avx512($($arg: $ty),*) { body($($arg),*) }
                match $crate::kernel::isa() {
                    // SAFETY: `isa()` returns only sets that the processor was found to have.
                    $crate::kernel::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernel::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernel::Isa::Scalar => {}
                }
            }
            scalar($($arg),*)
        }
    };
}
pub(crate) use per_isa;

/// sums + x · w. Passed by value, so that the sums stay in registers.
#[inline(always)]
fn add<const W: usize>(x: f32, w: &[f32; W], mut sums: [f32; W]) -> [f32; W] {
    for lane in 0..W {
        sums[lane] = x.mul_add(w[lane], sums[lane]);
    }
    sums
}

#[cfg(test)]
pub(crate) mod test {
    //! Runs a check once per instruction set of this machine, and compares bit by bit.

    use super::Isa;
    use std::cell::Cell;

    thread_local!(pub(super) static FORCED: Cell<Option<Isa>> = const { Cell::new(None) });

    /// Calls `check` with the kernels of this thread forced to each available instruction set in
    /// turn.
    pub(crate) fn on_every_isa(check: impl Fn(Isa)) {
        for isa in Isa::available() {
            FORCED.set(Some(isa));
            check(isa);
        }
        FORCED.set(None);
    }

    /// Distinguishes -0 from 0.
    pub(crate) fn bits(numbers: &[f32]) -> Vec<u32> {
        numbers.iter().map(|x| x.to_bits()).collect()
    }
}
