//! `plot`: one figure, with its caption.
//!
//! What each figure shows is in `figures`; how figures look is in `report::figure`.

use super::artifact::{DATA_CARD, DataCard, MNIST, read_json, write_json};
use super::figures::{Case, Drawn, Epoch, Study};
use super::tables::{CURVES, HISTORIES, METRICS, SUMMARY, means, numbers, texts, wholes};
use super::talk::published;
use crate::engine::stage::{Arity, Context, Slot, Stage};
use crate::fs;
use anyhow::{Context as _, Result};
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) struct Plot;

/// The figure itself.
pub(super) const SVG: &str = "figure.svg";

/// Its card.
pub(super) const CARD: &str = "figure.json";

/// What the report needs to know of a figure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FigureCard {
    /// Its place among the figures.
    pub(super) order: usize,
    /// The value of `figure` that makes it.
    pub(super) name: String,
    pub(super) title: String,
    pub(super) caption: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    figure: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Name {
    /// Train and validation error by epoch, for each width and prior.
    Training,
    /// E(t) by method, for each prior.
    ErrorByMethod,
    /// E(t) on train and test images, for each method and prior.
    ErrorBySplit,
    /// Normalised E(t) by prior, for Arc in a narrow net and OT + Arc in a wide one.
    NormalisedErrorByPrior,
    /// E(t) by width, for four methods and each prior.
    ErrorByWidth,
    /// Max error against width for each prior, beside the published numbers.
    MaxErrorByWidth,
    /// Max error against the variance of the prior.
    MaxErrorByVariance,
    /// Barrier of the loss against width, for each prior.
    LossBarrierByWidth,
    /// Barrier of the error against width, for each prior.
    ErrorBarrierByWidth,
}

impl Name {
    fn draw(self, study: &Study) -> Drawn {
        match self {
            Name::Training => study.training(),
            Name::ErrorByMethod => study.error_by_method(),
            Name::ErrorBySplit => study.error_by_split(),
            Name::NormalisedErrorByPrior => study.normalised_error_by_prior(),
            Name::ErrorByWidth => study.error_by_width(),
            Name::MaxErrorByWidth => study.max_error_by_width(),
            Name::MaxErrorByVariance => study.max_error_by_variance(),
            Name::LossBarrierByWidth => study.loss_barrier_by_width(),
            Name::ErrorBarrierByWidth => study.error_barrier_by_width(),
        }
    }
}

const TABLES: &[&str] = &[CURVES.file, SUMMARY.file, METRICS.file, HISTORIES.file];

impl Stage for Plot {
    const NAME: &'static str = "plot";
    const VERSION: u32 = 2;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "data", arity: Arity::One, files: &[DATA_CARD] },
        Slot { name: "tables", arity: Arity::One, files: TABLES },
    ];
    const OUTPUTS: &'static [&'static str] = &[SVG, CARD];
    type Params = Params;

    fn run(params: Params, cx: &Context) -> Result<()> {
        let tables = cx.input("tables")?;
        let data: DataCard = read_json(cx.input("data")?.path(DATA_CARD)?)?;
        let mut study =
            Study { published: if data.dataset == MNIST { published() } else { Vec::new() }, ..Study::default() };
        study.add_curves(&CURVES.read(tables.path(CURVES.file)?)?)?;
        study.add_summary(&SUMMARY.read(tables.path(SUMMARY.file)?)?)?;
        study.add_metrics(&METRICS.read(tables.path(METRICS.file)?)?)?;
        study.add_histories(&HISTORIES.read(tables.path(HISTORIES.file)?)?)?;
        let drawn = params.figure.draw(&study);
        let name = serde_json::to_value(params.figure)?.as_str().unwrap_or_default().to_owned();
        let card = FigureCard { order: params.figure as usize, name, title: drawn.title, caption: drawn.caption };
        write_json(&cx.output(CARD), &card)?;
        let svg = drawn.figure.to_svg().with_context(|| format!("cannot draw `{}`", card.name))?;
        fs::write(&cx.output(SVG), svg)
    }
}

/// What the rows of a table of curves are of.
fn cases(frame: &DataFrame) -> Result<Vec<Case>> {
    let (hidden, prior, method) = (wholes(frame, "hidden")?, texts(frame, "prior")?, texts(frame, "method")?);
    let rows = hidden.into_iter().zip(prior).zip(method);
    Ok(rows.map(|((hidden, prior), method)| Case { hidden, prior, method }).collect())
}

impl Study {
    fn add_curves(&mut self, frame: &DataFrame) -> Result<()> {
        let (split, quantity, t) = (texts(frame, "split")?, texts(frame, "quantity")?, numbers(frame, "t")?);
        let rows = cases(frame)?.into_iter().zip(split).zip(quantity).zip(t.into_iter().zip(means(frame)?));
        for (((case, split), quantity), point) in rows {
            self.along.entry((case, split, quantity)).or_default().push(point);
        }
        Ok(())
    }

    fn add_summary(&mut self, frame: &DataFrame) -> Result<()> {
        let (split, metric) = (texts(frame, "split")?, texts(frame, "metric")?);
        let rows = cases(frame)?.into_iter().zip(metric).zip(means(frame)?).zip(split);
        let on_test = rows.filter(|(_, split)| split == "test");
        self.metrics.extend(on_test.map(|((key, mean), _)| (key, mean)));
        Ok(())
    }

    fn add_metrics(&mut self, frame: &DataFrame) -> Result<()> {
        let (cases, split) = (cases(frame)?, texts(frame, "split")?);
        for metric in ["max_error", "barrier_loss", "barrier_error"] {
            let rows = cases.iter().zip(&split).zip(numbers(frame, metric)?);
            for ((case, _), value) in rows.filter(|((_, split), value)| *split == "test" && value.is_finite()) {
                self.pairs.entry((case.clone(), metric.to_owned())).or_default().push(value);
            }
        }
        Ok(())
    }

    fn add_histories(&mut self, frame: &DataFrame) -> Result<()> {
        let nets = wholes(frame, "hidden")?.into_iter().zip(texts(frame, "prior")?);
        let errors = numbers(frame, "train_error")?.into_iter().zip(numbers(frame, "validation_error")?);
        for ((net, epoch), (train_error, validation_error)) in nets.zip(wholes(frame, "epoch")?).zip(errors) {
            self.training.entry(net).or_default().push(Epoch { epoch, train_error, validation_error });
        }
        Ok(())
    }
}
