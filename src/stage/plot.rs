//! `plot`: one figure, with its caption.
//!
//! What each figure shows is said here; how figures look is `report::figure`'s business.

use super::artifact::{DATA_CARD, DataCard, MNIST, read_json, write_json};
use super::tables::{CURVES, Mean, SUMMARY, means, numbers, texts, wholes};
use super::talk::{METHODS, Published, ordered, published, title};
use crate::engine::stage::{Arity, Context, Slot, Stage};
use crate::fs;
use crate::report::axis::Axis;
use crate::report::figure::{Figure, Mark, Panel, Series};
use anyhow::{Context as _, Result};
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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
    /// E(t) by method, without prior and with the normal one.
    ErrorByMethod,
    /// Normalised E(t) by prior, for Arc in a narrow net and OT + Arc in a wide one.
    NormalisedErrorByPrior,
    /// E(t) by width, for four methods.
    ErrorByWidth,
    /// Max error against width, beside the published numbers.
    MaxErrorByWidth,
    /// Max error against the variance of the normal prior.
    MaxErrorByVariance,
}

impl Stage for Plot {
    const NAME: &'static str = "plot";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "data", arity: Arity::One, files: &[DATA_CARD] },
        Slot { name: "tables", arity: Arity::One, files: &[CURVES.file, SUMMARY.file] },
    ];
    const OUTPUTS: &'static [&'static str] = &[SVG, CARD];
    type Params = Params;

    fn run(params: Params, cx: &Context) -> Result<()> {
        let tables = cx.input("tables")?;
        let data: DataCard = read_json(cx.input("data")?.path(DATA_CARD)?)?;
        let study = Study {
            published: if data.dataset == MNIST { published() } else { Vec::new() },
            curves: rows(&CURVES.read(tables.path(CURVES.file)?)?, "quantity", true)?,
            summary: rows(&SUMMARY.read(tables.path(SUMMARY.file)?)?, "metric", false)?,
        };
        let drawn = match params.figure {
            Name::ErrorByMethod => study.error_by_method(),
            Name::NormalisedErrorByPrior => study.normalised_error_by_prior(),
            Name::ErrorByWidth => study.error_by_width(),
            Name::MaxErrorByWidth => study.max_error_by_width(),
            Name::MaxErrorByVariance => study.max_error_by_variance(),
        };
        let name = serde_json::to_value(params.figure)?.as_str().unwrap_or_default().to_owned();
        let card = FigureCard { order: params.figure as usize, name, title: drawn.title, caption: drawn.caption };
        write_json(&cx.output(CARD), &card)?;
        let svg = drawn.figure.to_svg().with_context(|| format!("cannot draw `{}`", card.name))?;
        fs::write(&cx.output(SVG), svg)
    }
}

struct Drawn {
    title: String,
    caption: String,
    figure: Figure,
}

/// A mean on the test split.
struct Row {
    hidden: i64,
    prior: String,
    method: String,
    quantity: String,
    /// On the curve; NaN for what belongs to the whole curve.
    t: f64,
    value: Mean,
}

fn rows(frame: &DataFrame, quantity: &str, along: bool) -> Result<Vec<Row>> {
    let (hidden, prior, method) = (wholes(frame, "hidden")?, texts(frame, "prior")?, texts(frame, "method")?);
    let (split, quantity) = (texts(frame, "split")?, texts(frame, quantity)?);
    let t = if along { numbers(frame, "t")? } else { vec![f64::NAN; frame.height()] };
    let values = means(frame)?;
    let row = |i: usize| Row {
        hidden: hidden[i],
        prior: prior[i].clone(),
        method: method[i].clone(),
        quantity: quantity[i].clone(),
        t: t[i],
        value: values[i].clone(),
    };
    Ok((0..frame.height()).filter(|&i| split[i] == "test").map(row).collect())
}

struct Study {
    /// Empty where the data are not those of the talk.
    published: Vec<Published>,
    curves: Vec<Row>,
    summary: Vec<Row>,
}

const ERROR: &str = "test error, %";
const ALONG: &str = "t along the curve";

impl Study {
    fn widths(&self) -> Vec<i64> {
        self.summary.iter().map(|row| row.hidden).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn priors(&self) -> Vec<String> {
        by_strength(self.summary.iter().map(|row| row.prior.clone()))
    }

    fn methods(&self) -> Vec<String> {
        ordered(self.summary.iter().map(|row| row.method.clone()))
    }

    /// The width nearest to `wanted`, on a log scale; the study may not have that one.
    fn nearest_width(&self, wanted: i64) -> i64 {
        let distance = |width: i64| libm::fabs(libm::log(width as f64 / wanted as f64));
        self.widths().into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(wanted)
    }

    /// `quantity` along the curve as a series.
    fn along(&self, label: &str, style: usize, quantity: &str, hidden: i64, prior: &str, method: &str) -> Series {
        let rows = self.curves.iter().filter(|row| {
            row.quantity == quantity && row.hidden == hidden && row.prior == prior && row.method == method
        });
        series(label, style, Mark::Curve, rows.map(|row| (row.t, &row.value)))
    }

    /// A metric of whole curves against something that grows.
    fn against(&self, label: &str, style: usize, keep: impl Fn(&Row) -> Option<f64>) -> Series {
        let mut rows: Vec<(f64, &Mean)> = self
            .summary
            .iter()
            .filter(|row| row.quantity == "max_error")
            .filter_map(|row| Some((keep(row)?, &row.value)))
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        series(label, style, Mark::Points, rows.into_iter())
    }

    fn error_by_method(&self) -> Drawn {
        let hidden = self.nearest_width(50);
        // The talk does not say which; of several, the one that acts without being strong.
        let far = |prior: &str| libm::fabs(libm::log(variance(prior).unwrap_or(f64::INFINITY) / 0.01));
        let normals = self.priors().into_iter().filter(|prior| variance(prior).is_some());
        let normal = normals.min_by(|a, b| far(a).total_cmp(&far(b)));
        let panel = |prior: &String| Panel {
            title: format!("prior: {prior}"),
            x: Axis::linear(ALONG).range(0.0, 1.0),
            y: Axis::log(ERROR),
            series: self
                .methods()
                .iter()
                .map(|method| self.along(&title(method), style(method), "error", hidden, prior, method))
                .collect(),
            ..Panel::default()
        };
        let panels: Vec<Panel> = [Some("none".to_owned()), normal].iter().flatten().map(panel).collect();
        Drawn {
            title: format!("Error along the curve by method, h = {hidden}"),
            caption: format!(
                "Test error along the curve between two nets of {hidden} hidden neurons, mean over pairs; bands are 95 % \
                 bootstrap intervals over pairs, too narrow where there are few. After OT the curve ends at the permuted net, the same function."
            ),
            figure: Figure { title: String::new(), columns: 2, panels },
        }
    }

    fn normalised_error_by_prior(&self) -> Drawn {
        let panel = |method: &str, hidden: i64| Panel {
            title: format!("{}, h = {hidden}", title(method)),
            x: Axis::linear(ALONG).range(0.0, 1.0),
            y: Axis::linear("normalised test error"),
            series: self
                .priors()
                .iter()
                .enumerate()
                .map(|(i, prior)| self.along(prior, i, "normalised", hidden, prior, method))
                .collect(),
            ..Panel::default()
        };
        let (narrow, wide) = (self.nearest_width(50), self.nearest_width(1000));
        Drawn {
            title: "Normalised error along the curve by prior".to_owned(),
            caption: "Normalised test error (E(t) - E_end) / (E_lin_max - E_end) by prior, mean over pairs: E_end is the mean \
                      error of the two ends, E_lin_max the largest error on the straight line of the same pair, width and \
                      prior. The talk shows Arc at h = 50 and OT + Arc at h = 1000; these are the nearest widths of this run."
                .to_owned(),
            figure: Figure { title: String::new(), columns: 2, panels: vec![panel("arc", narrow), panel("arc+ot", wide)] },
        }
    }

    fn error_by_width(&self) -> Drawn {
        let panel = |method: &str| Panel {
            title: title(method),
            x: Axis::linear(ALONG).range(0.0, 1.0),
            y: Axis::log(ERROR),
            series: self
                .widths()
                .into_iter()
                .enumerate()
                .map(|(i, hidden)| self.along(&format!("h = {hidden}"), i, "error", hidden, "none", method))
                .collect(),
            ..Panel::default()
        };
        let panels = ["linear", "arc", "linear+ot", "arc+ot"].map(panel).to_vec();
        Drawn {
            title: "Error along the curve by width".to_owned(),
            caption: "Test error along the curve by number of hidden neurons, without prior, mean over pairs; bands are 95 % \
                      bootstrap intervals over pairs."
                .to_owned(),
            figure: Figure { title: String::new(), columns: 2, panels },
        }
    }

    fn max_error_by_width(&self) -> Drawn {
        let widths: Vec<f64> = self.widths().into_iter().map(|h| h as f64).collect();
        let shown = self.priors().into_iter().filter(|prior| prior == "none" || prior.starts_with("dropout"));
        let panel = |prior: String| {
            let mut series: Vec<Series> = Vec::new();
            for method in self.methods() {
                let ours = |row: &Row| (row.prior == prior && row.method == method).then_some(row.hidden as f64);
                series.push(self.against(&title(&method), style(&method), ours));
                let theirs = self.published.iter().filter(|cell| cell.prior == prior && cell.method == method);
                let points: Vec<(f64, f64)> = theirs
                    .map(|cell| (cell.hidden as f64, cell.max_error))
                    .filter(|(hidden, _)| widths.contains(hidden))
                    .collect();
                if !points.is_empty() {
                    series.push(Series { style: style(&method), mark: Mark::Hollow, points, ..Series::default() });
                }
            }
            Panel {
                title: format!("prior: {prior}"),
                x: Axis::log("hidden neurons").ticks(widths.clone()),
                y: Axis::log("largest test error on the curve, %"),
                series,
                ..Panel::default()
            }
        };
        let panels: Vec<Panel> = shown.map(panel).collect();
        Drawn {
            title: "Largest error on the curve by width".to_owned(),
            caption:
                "Largest test error on the curve by number of hidden neurons, mean over pairs, with 95 % bootstrap \
                      intervals over pairs. Hollow markers: the talk's published numbers for MNIST."
                    .to_owned(),
            figure: Figure { title: String::new(), columns: 2, panels },
        }
    }

    fn max_error_by_variance(&self) -> Drawn {
        let mut ticks: Vec<f64> = self.priors().iter().filter_map(|prior| variance(prior)).collect();
        ticks.sort_by(f64::total_cmp);
        let panel = |method: &str| Panel {
            title: title(method),
            x: Axis::log("variance of the normal prior").ticks(ticks.clone()),
            y: Axis::log("largest test error on the curve, %"),
            series: self
                .widths()
                .into_iter()
                .enumerate()
                .map(|(i, hidden)| {
                    let keep =
                        |row: &Row| variance(&row.prior).filter(|_| row.hidden == hidden && row.method == method);
                    self.against(&format!("h = {hidden}"), i, keep)
                })
                .collect(),
            ..Panel::default()
        };
        let panels = METHODS.map(panel).to_vec();
        Drawn {
            title: "Largest error on the curve by the prior's variance".to_owned(),
            caption:
                "Largest test error on the curve by the variance of the normal prior (a smaller variance is a more \
                      informative prior), mean over pairs, with 95 % bootstrap intervals over pairs."
                    .to_owned(),
            figure: Figure { title: String::new(), columns: 3, panels },
        }
    }
}

fn series<'a>(label: &str, style: usize, mark: Mark, rows: impl Iterator<Item = (f64, &'a Mean)>) -> Series {
    let rows: Vec<(f64, &Mean)> = rows.collect();
    let all = rows.iter().all(|(_, mean)| mean.interval.is_some());
    let band = (all && !rows.is_empty())
        .then(|| rows.iter().filter_map(|(_, mean)| mean.interval.map(|i| (i.low, i.high))).collect());
    Series {
        label: label.to_owned(),
        style,
        mark,
        points: rows.iter().map(|(x, mean)| (*x, mean.mean)).collect(),
        band,
    }
}

/// The same style for a method in every figure: colour by what is done to B, dash by the base curve.
fn style(method: &str) -> usize {
    match METHODS.iter().position(|known| *known == method) {
        Some(i) => i / 2 + 7 * (i % 2),
        None => 3 + method.len() % 3,
    }
}

/// The variance of a normal prior.
fn variance(prior: &str) -> Option<f64> {
    prior.strip_prefix("normal ")?.parse().ok()
}

/// Without prior first, then by kind; within a kind from the least informative to the most.
pub(super) fn by_strength(priors: impl IntoIterator<Item = String>) -> Vec<String> {
    let unique: BTreeSet<String> = priors.into_iter().collect();
    let mut priors: Vec<String> = unique.into_iter().collect();
    let rank = |prior: &str| -> (usize, f64) {
        let (kind, value) = prior.split_once(' ').unwrap_or((prior, "0"));
        let kind = ["none", "normal", "laplace", "dropout"].iter().position(|known| *known == kind).unwrap_or(4);
        let value = value.parse::<f64>().unwrap_or(0.0);
        // A smaller variance or scale says more; so does a larger share of dropped units.
        (kind, if prior.starts_with("dropout") { value } else { -value })
    };
    priors.sort_by(|a, b| {
        let ((a, x), (b, y)) = (rank(a), rank(b));
        a.cmp(&b).then(x.total_cmp(&y))
    });
    priors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priors_stand_from_the_least_informative_to_the_most() {
        let priors =
            ["dropout 0.5", "dropout 0.1", "normal 0.001", "none", "normal 1", "normal 0.01"].map(str::to_owned);
        assert_eq!(
            by_strength(priors),
            ["none", "normal 1", "normal 0.01", "normal 0.001", "dropout 0.1", "dropout 0.5"]
        );
    }

    #[test]
    fn methods_with_the_same_base_share_a_dash_and_all_differ() {
        let styles = METHODS.map(style);
        assert_eq!(styles.iter().collect::<BTreeSet<_>>().len(), METHODS.len());
        assert!(styles.iter().zip(METHODS).all(|(s, m)| (s / 7 == 1) == m.starts_with("arc")));
    }
}
