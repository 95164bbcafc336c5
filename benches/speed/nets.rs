//! Training two nets at once, one thread each, as `repro run` does in two processes.

use super::data::Data;
use super::limits::{Traffic, together};
use super::{Benchmark, Cost, Group};
use anyhow::{Context as _, Result};
use repro::study::data::{Examples, Labelled};
use repro::study::net::{CLASSES, Hidden, INPUTS, Prior, TrainSettings, train};
use std::num::NonZero;
use std::rc::Rc;
use std::time::Instant;

/// Widths, with epochs that take at least a second.
const WIDTHS: [(u32, u32); 6] = [(10, 30), (50, 20), (100, 10), (500, 4), (1000, 2), (2000, 1)];
/// Kinds of priors, with the label of the one that is measured.
const PRIORS: [(&str, &str); 3] =
    [("none", "none"), ("dropout", "dropout 0.5"), ("normal", "normal 0.01")];
const NETS: usize = 2;
/// Nets with several hidden layers, of four epochs each.
const DEEP: [&str; 2] = ["512x512x512", "1000x1000"];

pub(crate) fn groups() -> Vec<Group> {
    let of_priors = |hidden: u32| PRIORS.map(|(kind, _)| format!("train/{hidden}/{kind}")).to_vec();
    let of_biases =
        |hidden| ["", "+bias"].map(|bias| format!("train/{hidden}{bias}/none")).to_vec();
    let names = WIDTHS.into_iter().map(|(hidden, _)| of_priors(hidden));
    let names = names.chain(DEEP.into_iter().map(of_biases));
    let make =
        |data: &Rc<Data>, names: &[String]| names.iter().map(|name| training(data, name)).collect();
    names.map(|benchmarks| Group { benchmarks, make }).collect()
}

fn training(data: &Rc<Data>, name: &str) -> Result<Benchmark> {
    let (hidden, kind) = name
        .strip_prefix("train/")
        .and_then(|rest| rest.split_once('/'))
        .context("a benchmark's name")?;
    let hidden: Hidden = hidden.parse().map_err(anyhow::Error::msg)?;
    let (_, prior) = PRIORS.into_iter().find(|prior| prior.0 == kind).context("a prior")?;
    let prior: Prior = prior.parse().map_err(anyhow::Error::msg)?;
    let single = hidden.widths.single();
    let width = WIDTHS.into_iter().find(|width| Some(width.0 as usize) == single);
    let epochs = width.map_or(4, |(_, epochs)| epochs);
    let settings = TrainSettings {
        prior,
        biases: hidden.biases,
        epochs: epochs.try_into().map_err(anyhow::Error::msg)?,
        ..TrainSettings::new(hidden.widths)
    };

    let images = f64::from(epochs) * data.train.len() as f64;
    let steps = f64::from(epochs) * data.train.len().div_ceil(settings.batch.get() as usize) as f64;
    // Between hidden layers half of each product's factor is zero: three products, halved.
    let widths: Vec<f64> = hidden.widths.iter().map(|width| width as f64).collect();
    let between: f64 = widths.windows(2).map(|pair| 1.5 * pair[0] * pair[1]).sum();
    let weights: usize = INPUTS * hidden.widths.get(0)
        + hidden.widths.iter().zip(hidden.widths.iter().skip(1)).map(|(a, b)| a * b).sum::<usize>();
    let cost = Cost {
        // The first layer in both directions for each non-zero pixel, three products in the last.
        multiply_adds: images
            * (2.0 * widths[0] * data.non_zero_pixels()
                + between
                + 3.0 * widths[widths.len() - 1] * CLASSES as f64),
        traffic: Traffic::rewritten(2 * weights * size_of::<f32>(), steps),
        threads: NETS,
        images: NETS as f64 * images,
        loaded: true,
        double: false,
    };
    let examples = Labelled::from(&data.train);
    let none = Labelled::from(&Examples::default());
    let run = move || {
        let seconds = together(NETS, |net| -> Result<f64> {
            let start = Instant::now();
            train(
                &settings,
                "0",
                format!("bench {net}").as_str(),
                &examples,
                &none,
                NonZero::<usize>::MIN,
            )?;
            Ok(start.elapsed().as_secs_f64())
        });
        // The harmonic mean, so that images / seconds is the sum of the nets' rates.
        let rates =
            seconds.into_iter().map(|seconds| seconds.map(|s| 1.0 / s)).sum::<Result<f64>>()?;
        Ok((NETS as f64 / rates).into())
    };
    Ok(Benchmark { name: name.to_owned(), cost, run: Box::new(run) })
}
