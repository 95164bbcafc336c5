//! `cargo bench`: how fast the kernels, training, curves and stages are, beside the limits of this machine, which are
//! measured in the same run (see `benches/README.md`).
//!
//! The works of a group are timed in turn, A B C A B C, so that a change of the machine's mood meets all of them; what
//! is shown is the median. With `--json` each work is one line, for `benches/peers/run.py` to read. This is no criterion
//! or divan, because they cannot set a number beside a limit of the same run, nor run one work alone, once, between
//! those of another program. This file does not know what a work does.

#![expect(clippy::print_stdout, reason = "a bench tells its results there")]

mod curves;
mod data;
mod kernels;
mod limits;
mod nets;
mod stages;

use anyhow::{Result, bail};
use clap::Parser;
use data::Data;
use limits::{Limits, Traffic};
use std::rc::Rc;

/// Times works of `repro` beside this machine's limits.
#[derive(Parser)]
struct Args {
    /// Only these works, or all below them: `train/100`, `kernel`
    works: Vec<String>,
    /// How often each work is timed
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Tell the works there are
    #[arg(long)]
    list: bool,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Something that is timed.
struct Work {
    name: String,
    cost: Cost,
    /// Does it once.
    run: Box<dyn FnMut() -> Result<Sample>>,
}

/// What a work cannot do without, on each of its threads.
#[derive(Clone, Copy, Default)]
struct Cost {
    multiply_adds: f64,
    /// Whether those are of f64: there half as many fit into a register.
    double: bool,
    /// Whether one factor of most of them has to be loaded.
    loaded: bool,
    traffic: Option<Traffic>,
    /// Threads that do the same work at once; 0 is one.
    threads: usize,
    /// Images it gets through, on all threads.
    images: f64,
}

/// What one run came to.
#[derive(Clone, Copy)]
struct Sample {
    seconds: f64,
    /// Something else that was found, by name.
    found: Option<(&'static str, f64)>,
}

impl From<f64> for Sample {
    fn from(seconds: f64) -> Sample {
        Sample { seconds, found: None }
    }
}

/// Works that are timed in turn.
struct Group {
    /// Their names.
    works: Vec<String>,
    /// Makes those of them that are asked for.
    make: fn(&Rc<Data>, &[String]) -> Result<Vec<Work>>,
}

fn groups() -> Vec<Group> {
    let rooms = [limits::groups, kernels::groups, nets::groups, curves::groups, stages::groups];
    rooms.into_iter().flat_map(|groups| groups()).collect()
}

fn main() -> Result<()> {
    let args = Args::parse();
    let asked = |work: &String| {
        args.works.is_empty() || args.works.iter().any(|asked| is_below(work, asked))
    };
    let mut chosen = groups();
    chosen.iter_mut().for_each(|group| group.works.retain(asked));
    chosen.retain(|group| !group.works.is_empty());
    if chosen.is_empty() {
        bail!("no such work; `--list` tells which there are");
    }
    if args.list {
        chosen.iter().flat_map(|group| &group.works).for_each(|work| println!("{work}"));
        return Ok(());
    }
    let data = Rc::new(Data::load()?);
    if !args.json {
        println!("{}\n", data.source);
        println!("{HEADER}\n{}", "|---".repeat(HEADER.matches('|').count() - 1) + "|");
    }
    let mut limits = Limits::default();
    for group in chosen {
        let mut works = (group.make)(&data, &group.works)?;
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); works.len()];
        for _ in 0..args.runs.max(1) {
            for (work, samples) in works.iter_mut().zip(&mut samples) {
                samples.push((work.run)()?);
            }
        }
        for (work, samples) in works.iter().zip(&samples) {
            let result = Outcome::of(work, samples, &mut limits);
            println!("{}", if args.json { result.json(&data) } else { result.row() });
        }
    }
    Ok(())
}

/// Whether `work` is `asked` or lies below it: `train/100/none` is below `train/100`, not below `train/10`.
fn is_below(work: &str, asked: &str) -> bool {
    work.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a work came to, beside the limits.
struct Outcome<'a> {
    name: &'a str,
    seconds: Vec<f64>,
    median: f64,
    found: Option<(&'static str, f64)>,
    images_per_second: Option<f64>,
    /// Multiply-adds count as two operations, in 10^9 a second and thread; then what the machine can do.
    arithmetic: Option<[f64; 2]>,
    /// In 10^9 bytes a second and thread; then what the machine can do.
    traffic: Option<[f64; 2]>,
    /// The least time for the multiply-adds, plus that for the traffic, over the time it took.
    share: Option<f64>,
    /// As `share`, where multiply-adds load one factor each.
    loaded_share: Option<f64>,
}

const HEADER: &str = "| work | median | least to most | GFLOP/s | at most | GB/s | at most | share of the limit | images/s | besides |";

impl<'a> Outcome<'a> {
    fn of(work: &'a Work, samples: &[Sample], limits: &mut Limits) -> Outcome<'a> {
        let cost = work.cost;
        let threads = cost.threads.max(1);
        let mut seconds: Vec<f64> = samples.iter().map(|sample| sample.seconds).collect();
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
        Outcome {
            name: &work.name,
            median,
            found: samples
                .iter()
                .filter_map(|sample| sample.found)
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
            in_words(self.median),
            format!(
                "{} to {}",
                in_words(self.seconds[0]),
                in_words(self.seconds[self.seconds.len() - 1])
            ),
            rate(self.arithmetic.map(|rate| rate[0]), 1),
            rate(self.arithmetic.map(|rate| rate[1]), 1),
            rate(self.traffic.map(|rate| rate[0]), 1),
            rate(self.traffic.map(|rate| rate[1]), 1),
            self.share.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share)),
            rate(self.images_per_second, 0),
            self.found.map_or(String::new(), |(name, value)| format!("{name} {value:.6}")),
        ];
        format!("| {} |", cells.join(" | "))
    }

    fn json(&self, data: &Data) -> String {
        serde_json::json!({
            "work": self.name, "data": data.source, "seconds": self.seconds, "median": self.median,
            "gflops": self.arithmetic, "gbs": self.traffic, "share": self.share,
            "loaded_share": self.loaded_share, "images_per_second": self.images_per_second, "found": self.found,
        })
        .to_string()
    }
}

fn in_words(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", 1e6 * s),
        s if s < 1.0 => format!("{:.2} ms", 1e3 * s),
        s => format!("{s:.2} s"),
    }
}
