//! The arithmetic: the only room with SIMD or `unsafe`.
//!
//! Every kernel obeys one rule, so that the bits do not depend on the machine: **one accumulator per output element,
//! ascending over the summed index, fused multiply-add**. Vector lanes and threads run *across* outputs; nothing ever
//! splits a sum. A kernel is written once, in plain Rust over slices and fixed-size arrays with [`f32::mul_add`], and
//! `per_isa!` compiles that one body for each instruction set; which of them runs is chosen when the program runs.
//! [`product`] asks for it once more, since how many sums the registers hold decides what it does side by side.
//! Beside each kernel its tests keep a naive twin, equal bit for bit. Three are written by hand besides, with the same sums in
//! the same order, because LLVM keeps their tiles in memory or has no word for the instruction: [`gram`] for AVX-512, the
//! second layer in [`blend`] and the packing of non-zeros for AVX2 too.
//!
//! Whether LLVM keeps an array in registers hangs on how it is written: sums that go through a function by value stay
//! there, those behind a reference, or handed to another function at the end, are stored at every addition. Look at the
//! assembly after a change, or at `cargo bench`.
//!
//! Held by the tests on every instruction set of the machine that runs them, and by `pipeline.lock`. Once, under
//! qemu-user 7.2, the `ci` profile was run whole on an emulated Haswell (AVX2) and a Nehalem (neither AVX nor FMA): all
//! digests were those of the lock. The tests of this room were run once on an emulated Skylake-X too (Bochs 3.0, mended where
//! it refuses gathers by the upper sixteen registers), when no processor with AVX-512 was at hand. On aarch64 nothing has
//! been run.
//!
//! This room knows numbers in slices, and what they are of: images, neurons, ten classes. It knows no file, no study and no
//! stage.

pub mod aligned;
pub mod blend;
pub mod cholesky;
mod compact;
pub mod dense;
pub mod distance;
mod entries;
pub mod gram;
pub mod limit;
pub mod product;
pub mod softmax;
pub mod sparse;
pub mod threads;
pub mod update;

use std::sync::OnceLock;

/// An instruction set a kernel body is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What the target guarantees (on aarch64 that includes NEON).
    Scalar,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, VL, BW and DQ.
    Avx512,
}

impl Isa {
    /// Those that this processor has, narrowest first.
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

    /// The name by which `REPRO_SIMD` asks for it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

/// The instruction set the kernels run on: the widest that this processor has, or the one `REPRO_SIMD` names.
///
/// A `REPRO_SIMD` that names no available set is ignored here; [`check_forced_isa`] is what tells the user.
pub fn isa() -> Isa {
    #[cfg(test)]
    if let Some(isa) = test::FORCED.get() {
        return isa;
    }
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let available = Isa::available();
        let widest = available[available.len() - 1];
        let asked = std::env::var("REPRO_SIMD").ok();
        asked
            .and_then(|name| available.into_iter().find(|isa| isa.name() == name))
            .unwrap_or(widest)
    })
}

/// Says what is wrong with `REPRO_SIMD`, if it is set to something this processor cannot run.
pub fn check_forced_isa() -> Result<(), String> {
    let Ok(asked) = std::env::var("REPRO_SIMD") else { return Ok(()) };
    let names: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
    if names.contains(&asked.as_str()) {
        return Ok(());
    }
    Err(format!(
        "`REPRO_SIMD={asked}` is not an instruction set of this machine; it has `{}`",
        names.join("`, `")
    ))
}

/// Defines a kernel: one body, compiled for every [`Isa`], dispatched by [`isa`].
///
/// The body must be plain Rust without early `return`s out of closures; multiply-adds are written `a.mul_add(b, c)`.
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) { body($($arg),*) }
                #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
                fn avx512($($arg: $ty),*) { body($($arg),*) }
                match $crate::kernel::isa() {
                    // SAFETY: `isa()` answers only with sets that the processor was found to have.
                    $crate::kernel::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernel::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernel::Isa::Scalar => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use per_isa;

/// sums + x · w. Sums that come and go by value stay in registers; LLVM adds to those behind a reference lane by lane, in
/// memory.
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

    /// Calls `check` with the kernels of this thread forced to each available instruction set in turn.
    pub(crate) fn on_every_isa(check: impl Fn(Isa)) {
        for isa in Isa::available() {
            FORCED.set(Some(isa));
            check(isa);
        }
        FORCED.set(None);
    }

    /// What tells -0 from 0.
    pub(crate) fn bits(numbers: &[f32]) -> Vec<u32> {
        numbers.iter().map(|x| x.to_bits()).collect()
    }
}
