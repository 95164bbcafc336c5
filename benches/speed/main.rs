//! `cargo bench`: the speed of kernels, training, curves and stages, compared with the limits of
//! this machine, which are measured in the same run (see `benches/README.md`).
//!
//! The benchmarks of a group are timed in turn, A B C A B C, so that a change in the machine's
//! speed affects all of them; the result is the median. With `--json` each result is one line,
//! which `benches/peers/run.py` reads. Neither criterion nor divan can relate a result to a limit
//! of the same run, or run one benchmark once between those of another program.

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

mod curves;
mod data;
mod kernels;
mod learned;
mod limit;
mod limits;
mod nets;
mod stages;

use anyhow::{Result, bail};
use clap::Parser;
use data::Data;
use limits::{Limits, Traffic};
use std::rc::Rc;

/// Times benchmarks of `repro` and compares them with this machine's limits
#[derive(Parser)]
struct Args {
    /// Run only these benchmarks or groups, such as `train/100` or `kernel`
    benchmarks: Vec<String>,
    /// Number of times each benchmark runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Print one JSON object per line instead of a table
    #[arg(long)]
    json: bool,
    /// List the benchmarks
    #[arg(long)]
    list: bool,
    /// Passed by cargo to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A benchmark.
struct Benchmark {
    name: String,
    cost: Cost,
    /// Runs it once.
    run: Box<dyn FnMut() -> Result<Timing>>,
}

/// The least arithmetic and traffic of a benchmark, per thread.
#[derive(Clone, Copy, Default)]
struct Cost {
    multiply_adds: f64,
    /// Whether they are f64, of which a register holds half as many.
    double: bool,
    /// Whether one factor of most of them is loaded from memory.
    loaded: bool,
    traffic: Option<Traffic>,
    /// Threads that do the same at once; 0 counts as 1.
    threads: usize,
    /// Images that all threads process.
    images: f64,
}

/// The result of one run.
#[derive(Clone, Copy)]
struct Timing {
    seconds: f64,
    /// Another result, by name.
    other: Option<(&'static str, f64)>,
}

impl From<f64> for Timing {
    fn from(seconds: f64) -> Timing {
        Timing { seconds, other: None }
    }
}

/// Benchmarks that are timed in turn.
struct Group {
    /// Their names.
    benchmarks: Vec<String>,
    /// Prepares those that were requested.
    make: fn(&Rc<Data>, &[String]) -> Result<Vec<Benchmark>>,
}

fn groups() -> Vec<Group> {
    let studies = [nets::groups, learned::groups, curves::groups, stages::groups];
    let all = [limits::groups, kernels::groups].into_iter().chain(studies);
    all.flat_map(|groups| groups()).collect()
}

fn main() -> Result<()> {
    let args = Args::parse();
    let is_requested = |benchmark: &String| {
        args.benchmarks.is_empty() || args.benchmarks.iter().any(|name| is_below(benchmark, name))
    };
    let mut chosen = groups();
    chosen.iter_mut().for_each(|group| group.benchmarks.retain(is_requested));
    chosen.retain(|group| !group.benchmarks.is_empty());
    if chosen.is_empty() {
        bail!("no such benchmark; `--list` lists them");
    }
    if args.list {
        chosen.iter().flat_map(|group| &group.benchmarks).for_each(|name| println!("{name}"));
        return Ok(());
    }
    limit::check();
    let data = Rc::new(Data::load()?);
    if !args.json {
        println!("{}\n", data.source);
        println!("{HEADER}\n{}", "|---".repeat(HEADER.matches('|').count() - 1) + "|");
    }
    let mut limits = Limits::default();
    for group in chosen {
        let mut benchmarks = (group.make)(&data, &group.benchmarks)?;
        let mut timings: Vec<Vec<Timing>> = vec![Vec::new(); benchmarks.len()];
        for _ in 0..args.runs.max(1) {
            for (benchmark, timings) in benchmarks.iter_mut().zip(&mut timings) {
                timings.push((benchmark.run)()?);
            }
        }
        for (benchmark, timings) in benchmarks.iter().zip(&timings) {
            let result = Measurement::of(benchmark, timings, &mut limits);
            println!("{}", if args.json { result.json(&data) } else { result.row() });
        }
    }
    Ok(())
}

/// Whether `benchmark` is `group` or below it: `train/100/none` is below `train/100`, not below
/// `train/10`.
fn is_below(benchmark: &str, group: &str) -> bool {
    benchmark.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The result of a benchmark, with the machine's limits.
struct Measurement<'a> {
    name: &'a str,
    seconds: Vec<f64>,
    median: f64,
    other: Option<(&'static str, f64)>,
    images_per_second: Option<f64>,
    /// 10^9 operations per second and thread, a multiply-add counted as two; and the limit.
    arithmetic: Option<[f64; 2]>,
    /// 10^9 bytes per second and thread; and the limit.
    traffic: Option<[f64; 2]>,
    /// The least time for the arithmetic plus that for the traffic, over the time it took.
    share: Option<f64>,
    /// As `share`, if each multiply-add loads one factor.
    loaded_share: Option<f64>,
}

const HEADER: &str = "| benchmark | median | range | GFLOP/s | limit | GB/s | limit \
                      | share of the limit | images/s | other |";

impl<'a> Measurement<'a> {
    fn of(benchmark: &'a Benchmark, timings: &[Timing], limits: &mut Limits) -> Measurement<'a> {
        let cost = benchmark.cost;
        let threads = cost.threads.max(1);
        let mut seconds: Vec<f64> = timings.iter().map(|timing| timing.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let median = (seconds[(seconds.len() - 1) / 2] + seconds[seconds.len() / 2]) / 2.0;
        let arithmetic = (cost.multiply_adds > 0.0).then(|| {
            let peak = limits.peak(threads) / if cost.double { 2.0 } else { 1.0 };
            [2.0 * cost.multiply_adds / median / 1e9, peak / 1e9]
        });
        let traffic = cost.traffic.map(|traffic| {
            [traffic.bytes / median / 1e9, limits.bandwidth(traffic, threads) / 1e9]
        });
        let share = |[reached, limit]: [f64; 2]| reached / limit;
        let loaded_share = cost.loaded.then(|| {
            let arithmetic = 2.0 * cost.multiply_adds / median / limits.loaded(threads);
            arithmetic + traffic.map_or(0.0, share)
        });
        Measurement {
            name: &benchmark.name,
            median,
            other: timings
                .iter()
                .filter_map(|timing| timing.other)
                .max_by(|a, b| a.1.total_cmp(&b.1)),
            images_per_second: (cost.images > 0.0).then(|| cost.images / median),
            share: (arithmetic.is_some() || traffic.is_some())
                .then(|| arithmetic.map_or(0.0, share) + traffic.map_or(0.0, share)),
            loaded_share,
            seconds,
            arithmetic,
            traffic,
        }
    }

    fn row(&self) -> String {
        let rate = |rate: Option<f64>, digits| {
            rate.map_or(String::new(), |rate| format!("{rate:.digits$}"))
        };
        let cells = [
            self.name.to_owned(),
            with_unit(self.median),
            format!(
                "{} to {}",
                with_unit(self.seconds[0]),
                with_unit(self.seconds[self.seconds.len() - 1])
            ),
            rate(self.arithmetic.map(|rate| rate[0]), 1),
            rate(self.arithmetic.map(|rate| rate[1]), 1),
            rate(self.traffic.map(|rate| rate[0]), 1),
            rate(self.traffic.map(|rate| rate[1]), 1),
            self.share.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share)),
            rate(self.images_per_second, 0),
            self.other.map_or(String::new(), |(name, value)| format!("{name} {value:.6}")),
        ];
        format!("| {} |", cells.join(" | "))
    }

    fn json(&self, data: &Data) -> String {
        serde_json::json!({
            "benchmark": self.name, "data": data.source,
            "seconds": self.seconds, "median": self.median,
            "gflops": self.arithmetic, "gbs": self.traffic, "share": self.share,
            "loaded_share": self.loaded_share, "images_per_second": self.images_per_second,
            "other": self.other,
        })
        .to_string()
    }
}

fn with_unit(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", 1e6 * s),
        s if s < 1.0 => format!("{:.2} ms", 1e3 * s),
        s => format!("{s:.2} s"),
    }
}
