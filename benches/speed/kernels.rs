//! The kernels one by one, at the sizes of the study.

use super::data::{Data, net, noise, sparse};
use super::limits::{Traffic, seconds_each};
use super::{Benchmark, Cost, Group, Timing};
use anyhow::{Context as _, Result};
use repro::kernel::blend::blend;
use repro::kernel::cholesky::Cholesky;
use repro::kernel::dense::logits;
use repro::kernel::gram::{Products, SparseColumns, TallMatrix};
use repro::kernel::panels::Panels;
use repro::kernel::product::project;
use repro::kernel::softmax::{BatchStats, cross_entropy};
use repro::kernel::sparse::Sparse;
use repro::kernel::update::{Moments, Update, descend};
use repro::study::data::PIXELS;
use repro::study::net::{CLASSES, INPUTS};
use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

/// Images of a training step.
const BATCH: usize = 128;
/// Images of a block of the Gram matrix.
const BLOCK: usize = 1024;
/// Neurons where no width is named.
const WIDE: usize = 2000;
/// Bytes of a weight or an activation.
const F32: usize = size_of::<f32>();

pub(crate) fn groups() -> Vec<Group> {
    let group = |benchmarks: &[&str]| Group {
        benchmarks: benchmarks.iter().map(|benchmark| format!("kernel/{benchmark}")).collect(),
        make: |data, names| names.iter().map(|name| make(data, name)).collect(),
    };
    vec![
        group(&["project/100", "project/500", "project/2000"]),
        group(&["descend/100", "descend/500", "descend/2000"]),
        group(&["gram", "cholesky"]),
        group(&["logits", "cross-entropy", "blend", "from-pixels"]),
    ]
}

/// The seconds of a kernel, and its least cost.
type Timed = (Cost, Box<dyn FnMut() -> f64>);

fn make(data: &Rc<Data>, name: &str) -> Result<Benchmark> {
    let mut parts = name.split('/').skip(1);
    let kernel = parts.next().context("a benchmark's name")?;
    let hidden: usize = parts.next().map_or(Ok(WIDE), str::parse)?;
    let (cost, mut run) = match kernel {
        "project" => projection(data, hidden)?,
        "descend" => descent(data, hidden)?,
        "gram" => gram_matrix(hidden),
        "cholesky" => factorisation(hidden),
        "logits" => second_layer(hidden),
        "cross-entropy" => losses(data),
        "blend" => combination(hidden),
        _ => compaction(data),
    };
    Ok(Benchmark { name: name.to_owned(), cost, run: Box::new(move || Ok(Timing::from(run()))) })
}

/// The first images, as a batch.
fn batch(data: &Data) -> Sparse {
    Sparse::from_pixels(&data.train.pixels[..BATCH * PIXELS], PIXELS)
}

/// Multiply-adds of the first layer on the first images.
fn first_layer(data: &Data, hidden: usize) -> f64 {
    let non_zeros = data.train.pixels[..BATCH * PIXELS].iter().filter(|&&pixel| pixel != 0).count();
    (non_zeros * hidden) as f64
}

fn projection(data: &Data, hidden: usize) -> Result<Timed> {
    let (x, w) = (batch(data), Panels::pack(net(hidden as u32, "a")?.weights(0), hidden, INPUTS));
    let mut out = vec![0.0; BATCH * hidden];
    let cost = Cost {
        multiply_adds: first_layer(data, hidden),
        traffic: Traffic::read(hidden * INPUTS * F32, 1.0),
        images: BATCH as f64,
        ..Cost::default()
    };
    Ok((cost, Box::new(move || seconds_each(|| project(&x, 0..BATCH, &w, black_box(&mut out))))))
}

fn descent(data: &Data, hidden: usize) -> Result<Timed> {
    let mut pixels = Sparse::empty();
    batch(data).transpose(&(0..BATCH as u32).collect::<Vec<_>>(), &mut pixels);
    let mut gradient = Panels::pack(&noise(hidden * BATCH, "gradient"), hidden, BATCH);
    let mut w = Panels::pack(net(hidden as u32, "a")?.weights(0), hidden, INPUTS);
    let mut moments = Moments::zeros(w.data().len());
    let update = Update::Momentum { rate: 1e-6, momentum: 0.9, decay: 0.0, shrink: 0.0 };
    let cost = Cost {
        multiply_adds: first_layer(data, hidden),
        traffic: Traffic::rewritten(2 * hidden * INPUTS * F32, 1.0),
        images: BATCH as f64,
        ..Cost::default()
    };
    let mut step = move || {
        for ((_, gradient), weights) in gradient.panels_mut().zip(moments.panels(black_box(&mut w)))
        {
            descend(update, &pixels, gradient, weights);
        }
    };
    Ok((cost, Box::new(move || seconds_each(&mut step))))
}

fn gram_matrix(columns: usize) -> Timed {
    // Half of them are zero, as in a net that is not trained yet.
    let features: Vec<f32> =
        noise(BLOCK * columns, "features").into_iter().map(|x| x.max(0.0)).collect();
    let (x, mut sum, mut non_zeros) =
        (TallMatrix::pack(&features, columns), Products::gram(columns), SparseColumns::default());
    let cost = Cost {
        multiply_adds: 0.5 * (BLOCK * columns * (columns + 1) / 2) as f64,
        traffic: Traffic::rewritten(columns * columns / 2 * size_of::<f64>(), 1.0),
        images: BLOCK as f64,
        ..Cost::default()
    };
    (cost, Box::new(move || seconds_each(|| black_box(&mut sum).add_gram(&x, &mut non_zeros))))
}

fn factorisation(n: usize) -> Timed {
    // Symmetric and diagonally dominant, hence positive definite.
    let g: Vec<f64> =
        (0..n * n).map(|at| if at / n == at % n { 1.0 } else { 0.5 / n as f64 }).collect();
    let cost = Cost {
        multiply_adds: (n * n * n / 6) as f64,
        double: true,
        traffic: Traffic::rewritten(n * n / 2 * size_of::<f64>(), 1.0),
        ..Cost::default()
    };
    let run = move || {
        let g = g.clone();
        let start = Instant::now();
        black_box(Cholesky::factor(g, n));
        start.elapsed().as_secs_f64()
    };
    (cost, Box::new(run))
}

fn second_layer(hidden: usize) -> Timed {
    let (a, w2) = (noise(BATCH * hidden, "activations"), noise(CLASSES * hidden, "w2"));
    let mut out = vec![0.0; BATCH * CLASSES];
    let cost = Cost {
        multiply_adds: (BATCH * hidden * CLASSES) as f64,
        traffic: Traffic::read(BATCH * hidden * F32, 1.0),
        images: BATCH as f64,
        ..Cost::default()
    };
    (cost, Box::new(move || seconds_each(|| logits(&a, &w2, hidden, black_box(&mut out)))))
}

fn losses(data: &Data) -> Timed {
    let (outputs, labels) =
        (noise(BATCH * CLASSES, "outputs"), data.train.labels[..BATCH].to_vec());
    let cost = Cost { images: BATCH as f64, ..Cost::default() };
    (
        cost,
        Box::new(move || {
            seconds_each(|| cross_entropy(&outputs, &labels, black_box(&mut BatchStats::default())))
        }),
    )
}

fn combination(hidden: usize) -> Timed {
    let [a, b] = ["a", "b"].map(|label| noise(BATCH * hidden, label));
    let (m, mut out) = (noise(BATCH, "m"), TallMatrix::pack(&a, hidden));
    // Two arrays in, one out.
    let traffic = Traffic {
        bytes: (3 * BATCH * hidden * F32) as f64,
        array: 3 * BATCH * hidden * F32,
        rewritten: true,
    };
    let cost = Cost {
        multiply_adds: (2 * BATCH * hidden) as f64,
        traffic: Some(traffic),
        images: BATCH as f64,
        ..Cost::default()
    };
    (
        cost,
        Box::new(move || {
            seconds_each(|| blend([0.5, 0.4, 0.1], &a, &b, &m, hidden, black_box(&mut out)))
        }),
    )
}

fn compaction(data: &Rc<Data>) -> Timed {
    let cost = Cost {
        traffic: Traffic::read(data.train.pixels.len(), 1.0),
        images: data.train.len() as f64,
        ..Cost::default()
    };
    let data = Rc::clone(data);
    (cost, Box::new(move || seconds_each(|| _ = black_box(sparse(&data.train)))))
}
