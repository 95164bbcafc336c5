//! Learning the bend of two Bezier curves at once, one thread each, beside training two nets, for
//! one epoch.

use super::data::{Data, net};
use super::limits::together;
use super::{Benchmark, Cost, Group};
use anyhow::{Context as _, Error, Result};
use repro::study::curve::learn::{LearnSettings, LearnedCurve, learn};
use repro::study::data::{Examples, Labelled};
use repro::study::net::{EngineKind, TrainSettings, train};
use std::num::NonZero;
use std::rc::Rc;
use std::time::Instant;

const WIDTHS: [u32; 2] = [500, 2000];
const AT_ONCE: usize = 2;

pub(crate) fn groups() -> Vec<Group> {
    let make =
        |data: &Rc<Data>, names: &[String]| names.iter().map(|name| learning(data, name)).collect();
    let names = |hidden: u32| ["net", "bezier"].map(|what| format!("learn/{hidden}/{what}"));
    WIDTHS.map(|hidden| Group { benchmarks: names(hidden).to_vec(), make }).into()
}

fn learning(data: &Rc<Data>, name: &str) -> Result<Benchmark> {
    let (hidden, what) = name
        .strip_prefix("learn/")
        .and_then(|rest| rest.split_once('/'))
        .context("a benchmark's name")?;
    let hidden: u32 = hidden.parse()?;
    let curve: Option<LearnedCurve> = what.parse().ok();
    let training = TrainSettings {
        epochs: 1.try_into().map_err(Error::msg)?,
        ..TrainSettings::new(hidden.to_string().parse().map_err(Error::msg)?)
    };
    let images = (AT_ONCE * data.train.len()) as f64;
    let examples = Labelled::from(&data.train);
    let none = Labelled::from(&Examples::default());
    let ends = [net(hidden, "a")?, net(hidden, "b")?];
    let run = move || {
        let seconds = together(AT_ONCE, |k| -> Result<f64> {
            let label = format!("bench {k}");
            let start = Instant::now();
            match curve {
                None => {
                    train(&training, "0", label.as_str(), &examples, &none, NonZero::<usize>::MIN)?;
                }
                Some(curve) => {
                    let settings =
                        LearnSettings { curve, fit: training.fit(), engine: EngineKind::Kernel };
                    let [a, b] = &ends;
                    let names = ["0", label.as_str()];
                    learn(&settings, [a, b], names, &examples, &none, NonZero::<usize>::MIN)
                        .map_err(Error::msg)?;
                }
            }
            Ok(start.elapsed().as_secs_f64())
        });
        let rates =
            seconds.into_iter().map(|seconds| seconds.map(|s| 1.0 / s)).sum::<Result<f64>>()?;
        Ok((AT_ONCE as f64 / rates).into())
    };
    let cost = Cost { threads: AT_ONCE, images, ..Cost::default() };
    Ok(Benchmark { name: name.to_owned(), cost, run: Box::new(run) })
}
