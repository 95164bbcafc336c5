//! Training two nets at once, a thread each, as `repro run` trains two in a process each. Does not know how a net is
//! trained.

use super::data::Data;
use super::limits::{Traffic, together};
use super::{Cost, Group, Work};
use anyhow::{Context as _, Result};
use repro::study::data::{Examples, Labelled};
use repro::study::net::{CLASSES, INPUTS, Prior, TrainSettings, train};
use std::num::NonZero;
use std::rc::Rc;
use std::time::Instant;

/// Widths, and epochs that take a second or more.
const WIDTHS: [(u32, u32); 6] = [(10, 30), (50, 20), (100, 10), (500, 4), (1000, 2), (2000, 1)];
const PRIORS: [&str; 3] = ["none", "dropout", "normal"];
const NETS: usize = 2;

pub(crate) fn groups() -> Vec<Group> {
    let works = |hidden: u32| PRIORS.map(|prior| format!("train/{hidden}/{prior}")).to_vec();
    let make =
        |data: &Rc<Data>, names: &[String]| names.iter().map(|name| training(data, name)).collect();
    WIDTHS.into_iter().map(|(hidden, _)| Group { works: works(hidden), make }).collect()
}

fn training(data: &Rc<Data>, name: &str) -> Result<Work> {
    let (hidden, prior) = name
        .strip_prefix("train/")
        .and_then(|rest| rest.split_once('/'))
        .context("a work's name")?;
    let hidden: u32 = hidden.parse()?;
    let prior = match prior {
        "dropout" => Prior::Dropout(0.5.try_into().map_err(anyhow::Error::msg)?),
        "normal" => Prior::Normal { variance: 0.01.try_into().map_err(anyhow::Error::msg)? },
        _ => Prior::None,
    };
    let width = hidden.try_into().map_err(anyhow::Error::msg)?;
    let (_, epochs) = WIDTHS.into_iter().find(|width| width.0 == hidden).context("a width")?;
    let settings = TrainSettings {
        prior,
        epochs: epochs.try_into().map_err(anyhow::Error::msg)?,
        ..TrainSettings::new(width)
    };

    let images = f64::from(epochs) * data.train.len() as f64;
    let steps = f64::from(epochs) * data.train.len().div_ceil(settings.batch.get() as usize) as f64;
    let cost = Cost {
        // Both ways through the first layer for each pixel with ink, three products in the second.
        multiply_adds: images * f64::from(hidden) * (2.0 * data.ink() + 3.0 * CLASSES as f64),
        traffic: Traffic::rewritten(2 * hidden as usize * INPUTS * size_of::<f32>(), steps),
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
                &format!("bench {net}"),
                &examples,
                &none,
                NonZero::<usize>::MIN,
            )?;
            Ok(start.elapsed().as_secs_f64())
        });
        // The harmonic mean, so that images over seconds is the sum of the nets' rates.
        let rates =
            seconds.into_iter().map(|seconds| seconds.map(|s| 1.0 / s)).sum::<Result<f64>>()?;
        Ok((NETS as f64 / rates).into())
    };
    Ok(Work { name: name.to_owned(), cost, run: Box::new(run) })
}
