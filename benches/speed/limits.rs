//! The limits of this machine, per core: multiply-adds, and bytes from an array of a given size.
//! The limits of several threads are measured on as many at once.

use super::{Benchmark, Cost, Group, limit};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Bytes that a benchmark moves between the processor and an array.
#[derive(Clone, Copy)]
pub(crate) struct Traffic {
    /// Bytes read plus bytes written.
    pub(crate) bytes: f64,
    /// The size of the array in bytes, which decides the cache that holds it.
    pub(crate) array: usize,
    /// Whether it is written back.
    pub(crate) rewritten: bool,
}

impl Traffic {
    /// An array that is read `times` times.
    pub(crate) fn read(array: usize, times: f64) -> Option<Traffic> {
        Some(Traffic { bytes: times * array as f64, array, rewritten: false })
    }

    /// An array that is read and written `times` times.
    pub(crate) fn rewritten(array: usize, times: f64) -> Option<Traffic> {
        Some(Traffic { bytes: 2.0 * times * array as f64, array, rewritten: true })
    }
}

/// The limits measured so far, by number of threads.
#[derive(Default)]
pub(crate) struct Limits {
    peak: HashMap<usize, f64>,
    loaded: HashMap<usize, f64>,
    bandwidth: HashMap<(usize, bool, usize), f64>,
}

/// A limit is the best of this many tries.
const TRIES: usize = 9;

impl Limits {
    /// f32 operations per second and thread; a multiply-add is two.
    pub(crate) fn peak(&mut self, threads: usize) -> f64 {
        *self.peak.entry(threads).or_insert_with(|| {
            let narrow =
                best_rate(threads, || 2.0 * (limit::CHAINS * ROUNDS) as f64 / multiply_adds());
            let wide = best_rate(threads, || {
                2.0 * (limit::WIDE_CHAINS * ROUNDS) as f64 / multiply_adds_wide()
            });
            narrow.max(wide)
        })
    }

    /// As [`Limits::peak`], if one factor of each multiply-add is loaded from L1.
    pub(crate) fn loaded(&mut self, threads: usize) -> f64 {
        *self
            .loaded
            .entry(threads)
            .or_insert_with(|| best_rate(threads, || 2.0 * LOADED / multiply_adds_loaded()))
    }

    /// Bytes per second and thread to and from such an array, a different one for each thread.
    pub(crate) fn bandwidth(&mut self, traffic: Traffic, threads: usize) -> f64 {
        let Traffic { array, rewritten, .. } = traffic;
        *self.bandwidth.entry((array, rewritten, threads)).or_insert_with(|| {
            let times = if rewritten { 2.0 } else { 1.0 };
            best_rate(threads, || times * array as f64 / pass(array, rewritten))
        })
    }
}

/// The best of several tries, each the mean over the threads.
fn best_rate(threads: usize, rate: impl Fn() -> f64 + Sync) -> f64 {
    let tries =
        (0..TRIES).map(|_| together(threads, |_| rate()).iter().sum::<f64>() / threads as f64);
    tries.fold(0.0, f64::max)
}

/// Calls `run` on each of `threads`, which start at once.
pub(crate) fn together<T: Send>(threads: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(threads);
    let begin = &|thread| {
        start.wait();
        run(thread)
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || begin(thread))).collect();
        handles.into_iter().map(|handle| handle.join().expect("a bench does not panic")).collect()
    })
}

/// Seconds of one call of `run`, averaged over calls that take 10 ms.
pub(crate) fn seconds_each(mut run: impl FnMut()) -> f64 {
    run();
    let mut times = 1u32;
    loop {
        let start = Instant::now();
        (0..times).for_each(|_| run());
        let seconds = start.elapsed().as_secs_f64();
        if seconds >= 0.01 {
            return seconds / f64::from(times);
        }
        times *= 2;
    }
}

/// Multiply-adds of each chain per call.
const ROUNDS: usize = 4096;

fn multiply_adds() -> f64 {
    let mut chains = std::array::from_fn(|i| i as f32);
    seconds_each(|| limit::multiply_adds(ROUNDS, 0.999, 0.1, black_box(&mut chains)))
}

fn multiply_adds_wide() -> f64 {
    let mut chains = std::array::from_fn(|i| i as f32);
    seconds_each(|| limit::multiply_adds_wide(ROUNDS, 0.999, 0.1, black_box(&mut chains)))
}

/// Rows of [`multiply_adds_loaded`]: 16 KiB, half of L1 on most processors.
const ROWS: usize = 64;
/// Multiply-adds of a call.
const LOADED: f64 = (limit::LOADED_SUMS * ROWS * (ROUNDS / ROWS)) as f64;

fn multiply_adds_loaded() -> f64 {
    let x = [0.01; ROWS];
    let memory = vec![0.5; limit::LOADED_SUMS * ROWS + LINE / size_of::<f32>()];
    let first = memory.as_ptr().align_offset(LINE);
    let (w, _) = memory[first..][..limit::LOADED_SUMS * ROWS].as_chunks();
    let mut sums = [0.0; limit::LOADED_SUMS];
    seconds_each(|| {
        limit::multiply_adds_loaded(ROUNDS / ROWS, &x, black_box(w), black_box(&mut sums))
    })
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Seconds of one pass over an array of `bytes`.
fn pass(bytes: usize, rewritten: bool) -> f64 {
    let mut memory = vec![1.0; (bytes + LINE) / size_of::<f32>()];
    // Aligned to a cache line, since a load that spans two is slower.
    let first = memory.as_ptr().align_offset(LINE);
    let array = &mut memory[first..][..bytes / size_of::<f32>()];
    let mut sums = [0.0; limit::SUMS];
    // The factor 1.0 keeps the numbers as they are: subnormal ones would be slower.
    seconds_each(|| match rewritten {
        true => limit::rewrite(black_box(&mut *array), 1.0),
        false => limit::read(array, black_box(&mut sums)),
    })
}

/// W1 and its velocity at h = 80, at h = 2000, and more than any cache holds.
const ARRAYS: [(&str, usize); 3] =
    [("512-KiB", 512 << 10), ("12-MiB", 12 << 20), ("256-MiB", 256 << 20)];

/// The limits themselves, as benchmarks.
pub(crate) fn groups() -> Vec<Group> {
    let passes = ["read", "rewrite"]
        .iter()
        .flat_map(|pass| ARRAYS.map(|(name, _)| format!("limit/{pass}/{name}")));
    let benchmarks =
        ["limit/multiply-adds", "limit/multiply-adds-wide", "limit/multiply-adds-loaded"]
            .map(str::to_owned)
            .into_iter()
            .chain(passes);
    vec![Group {
        benchmarks: benchmarks.collect(),
        make: |_, names| Ok(names.iter().map(|name| make(name)).collect()),
    }]
}

fn make(name: &str) -> Benchmark {
    let array = ARRAYS.iter().find(|(array, _)| name.ends_with(array)).map_or(0, |array| array.1);
    let chains =
        |chains: usize| Cost { multiply_adds: (chains * ROUNDS) as f64, ..Cost::default() };
    let (cost, mut run): (Cost, Box<dyn FnMut() -> f64>) = match name.split('/').nth(1) {
        Some("multiply-adds") => (chains(limit::CHAINS), Box::new(multiply_adds)),
        Some("multiply-adds-wide") => (chains(limit::WIDE_CHAINS), Box::new(multiply_adds_wide)),
        Some("multiply-adds-loaded") => {
            (Cost { multiply_adds: LOADED, ..Cost::default() }, Box::new(multiply_adds_loaded))
        }
        Some("read") => {
            let cost = Cost { traffic: Traffic::read(array, 1.0), ..Cost::default() };
            (cost, Box::new(move || pass(array, false)))
        }
        _ => {
            let cost = Cost { traffic: Traffic::rewritten(array, 1.0), ..Cost::default() };
            (cost, Box::new(move || pass(array, true)))
        }
    };
    Benchmark { name: name.to_owned(), cost, run: Box::new(move || Ok(run().into())) }
}
