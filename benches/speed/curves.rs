//! Whole curves at h = 2000 on all images, and the assignment of neurons.

use super::data::{Data, net, sparse};
use super::limits::together;
use super::{Benchmark, Cost, Group, Timing};
use anyhow::{Context as _, Error, Result};
use repro::kernel::sparse::Sparse;
use repro::study::curve::assignment::{assign, total};
use repro::study::curve::refit::{RefitSettings, Targets, refit};
use repro::study::curve::{CURVES, Center, Path, curve, grid};
use repro::study::data::{Examples, Labelled};
use repro::study::net::{CLASSES, Net, TrainSettings, evaluate, train};
use std::hint::black_box;
use std::num::NonZero;
use std::rc::Rc;
use std::time::Instant;

const HIDDEN: u32 = 2000;
const POINTS: u32 = 61;
const WA_POINTS: u32 = 21;
/// Points of the first segment other than A itself.
const REFITS: f64 = (WA_POINTS - 1) as f64;

pub(crate) fn groups() -> Vec<Group> {
    let names =
        |benchmarks: &[&str]| benchmarks.iter().map(|&benchmark| benchmark.to_owned()).collect();
    vec![
        Group {
            benchmarks: names(&["curve/two-forward-passes", "curve/linear", "curve/arc"]),
            make: curves,
        },
        Group { benchmarks: names(&["wa"]), make: refits },
        Group {
            benchmarks: names(&["assign/random", "assign/aligned"]),
            make: |_, names| Ok(names.iter().map(|name| assignment(name)).collect()),
        },
    ]
}

fn curves(data: &Rc<Data>, names: &[String]) -> Result<Vec<Benchmark>> {
    between([net(HIDDEN, "a")?, net(HIDDEN, "b")?], data, names)
}

/// Between trained nets: their neurons fire more often, which makes a refit slower.
fn refits(data: &Rc<Data>, names: &[String]) -> Result<Vec<Benchmark>> {
    between(trained(data)?, data, names)
}

fn between(ends: [Net; 2], data: &Rc<Data>, names: &[String]) -> Result<Vec<Benchmark>> {
    let splits =
        Rc::new([&data.train, &data.test].map(|split| (sparse(split), split.labels.clone())));
    let ends = Rc::new(ends);
    let data = Rc::clone(data);
    let benchmark = |name: &String| {
        let (name, splits, ends) = (name.clone(), Rc::clone(&splits), Rc::clone(&ends));
        let method = name.trim_start_matches("curve/").to_owned();
        let cost = cost(&data, &method);
        let run = move || {
            let start = Instant::now();
            match method.as_str() {
                "two-forward-passes" => forward(&splits, &ends),
                "wa" => refitted(&splits, &ends)?,
                curve => closed_form(curve, &splits, &ends)?,
            }
            Ok(start.elapsed().as_secs_f64().into())
        };
        Benchmark { name, cost, run: Box::new(run) }
    };
    Ok(names.iter().map(benchmark).collect())
}

/// The threads of a job that runs alone.
fn threads() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// The first layer of both ends, a combination of two layers per point, and the second layer of
/// each; with WA also half a Gram matrix of the training images per refit, as if no feature were
/// zero, and its factorisation, whose multiply-adds count twice since they are f64.
fn cost(data: &Data, method: &str) -> Cost {
    let images = (data.train.len() + data.test.len()) as f64;
    let (h, classes) = (f64::from(HIDDEN), CLASSES as f64);
    let (both_ends, combination, second) = (2.0 * data.non_zero_pixels() * h, 2.0 * h, classes * h);
    let multiply_adds = match method {
        "two-forward-passes" => images * (both_ends + 2.0 * second),
        "wa" => {
            let points = 2.0 * REFITS + 1.0;
            let normal =
                data.train.len() as f64 * (h + classes) * (h + classes) / 2.0 + h * h * h / 3.0;
            images * (both_ends + REFITS * combination + points * second) + REFITS * normal
        }
        _ => images * (both_ends + f64::from(POINTS) * (combination + second)),
    };
    let threads = threads().get();
    Cost { multiply_adds: multiply_adds / threads as f64, threads, images, ..Cost::default() }
}

/// Two nets after a few epochs.
fn trained(data: &Data) -> Result<[Net; 2]> {
    let epochs = 4.try_into().map_err(Error::msg)?;
    let settings = TrainSettings {
        epochs,
        ..TrainSettings::new(HIDDEN.to_string().parse().map_err(Error::msg)?)
    };
    let (examples, none) = (Labelled::from(&data.train), Examples::default());
    let labels = ["a", "b"];
    let mut ends = together(labels.len(), |end| {
        train(&settings, "0", labels[end], &examples, &Labelled::from(&none), NonZero::<usize>::MIN)
            .map(|trained| trained.net)
    });
    let (b, a) = (ends.pop().context("two nets")?, ends.pop().context("two nets")?);
    Ok([a?, b?])
}

/// Training and test images, with their labels.
type Splits = [(Sparse, Vec<u16>); 2];

fn forward(splits: &Splits, ends: &[Net; 2]) {
    together(ends.len(), |end| {
        splits
            .iter()
            .for_each(|(images, labels)| _ = black_box(evaluate(&ends[end], images, labels)));
    });
}

fn closed_form(name: &str, splits: &Splits, [a, b]: &[Net; 2]) -> Result<()> {
    let curve = curve(name).map_err(Error::msg)?;
    let path = Path::new(curve, Center::Neurons, a, b).map_err(Error::msg)?;
    let ts = grid(POINTS);
    splits
        .iter()
        .for_each(|(images, labels)| _ = black_box(path.measure(&ts, images, labels, threads())));
    Ok(())
}

/// The refits on the training images, then the errors of all 41 points on training and test images.
fn refitted(splits: &Splits, [a, b]: &[Net; 2]) -> Result<()> {
    let path = Path::new(CURVES[0], Center::Neurons, a, b).map_err(Error::msg)?;
    let settings = RefitSettings { targets: Targets::A, points: WA_POINTS, refine: 0 };
    let (images, labels) = &splits[0];
    let refitted = refit(path, settings, images, labels, threads()).map_err(Error::msg)?;
    splits
        .iter()
        .for_each(|(images, labels)| _ = black_box(refitted.measure(images, labels, threads())));
    Ok(())
}

/// The total cost is reported too: it must equal that of a peer with the same matrix.
fn assignment(name: &str) -> Benchmark {
    let n = HIDDEN as usize;
    let costs = if name.ends_with("random") { random_costs(n) } else { aligned_costs(n) };
    let run = move || {
        let start = Instant::now();
        let assignment = black_box(assign(&costs, n)?);
        let seconds = start.elapsed().as_secs_f64();
        Ok(Timing { seconds, other: Some(("total cost", total(&costs, &assignment.columns))) })
    };
    Benchmark { name: name.to_owned(), cost: Cost::default(), run: Box::new(run) }
}

/// The i-th output of splitmix64 from state `salt`, in [0, 1). `benches/peers/peer.py` has the same
/// formula to the bit.
fn uniform(salt: u64, i: usize) -> f64 {
    let mut x = salt.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn random_costs(n: usize) -> Vec<f64> {
    (0..n * n).map(|i| uniform(0, i)).collect()
}

/// Coordinates of a point.
const COORDINATES: usize = 16;

/// Squared distances between n points and the same points, slightly moved and reordered.
fn aligned_costs(n: usize) -> Vec<f64> {
    let point = |i: usize, k: usize| uniform(1, i * COORDINATES + k);
    let moved =
        |j: usize, k: usize| point((7 * j + 3) % n, k) + 0.05 * uniform(2, j * COORDINATES + k);
    let a: Vec<f64> =
        (0..n * COORDINATES).map(|at| point(at / COORDINATES, at % COORDINATES)).collect();
    let b: Vec<f64> =
        (0..n * COORDINATES).map(|at| moved(at / COORDINATES, at % COORDINATES)).collect();
    let distance =
        |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + (a - b) * (a - b));
    let rows = a.chunks_exact(COORDINATES);
    rows.flat_map(|a| b.chunks_exact(COORDINATES).map(move |b| distance(a, b))).collect()
}
