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
        let mut study = Study {
            published: if data.dataset == MNIST { published() } else { Vec::new() },
            ..Study::default()
        };
        study.add_curves(&CURVES.read(tables.path(CURVES.file)?)?)?;
        study.add_summary(&SUMMARY.read(tables.path(SUMMARY.file)?)?)?;
        study.add_metrics(&METRICS.read(tables.path(METRICS.file)?)?)?;
        study.add_histories(&HISTORIES.read(tables.path(HISTORIES.file)?)?)?;
        let drawn = params.figure.draw(&study);
        let name = serde_json::to_value(params.figure)?.as_str().unwrap_or_default().to_owned();
        let card = FigureCard {
            order: params.figure as usize,
            name,
            title: drawn.title,
            caption: drawn.caption,
        };
        write_json(&cx.output(CARD), &card)?;
        let svg = drawn.figure.to_svg().with_context(|| format!("cannot draw `{}`", card.name))?;
        fs::write(&cx.output(SVG), svg)
    }
}

/// What the rows of a table of curves are of.
fn cases(frame: &DataFrame) -> Result<Vec<Case>> {
    let (hidden, prior, method) =
        (wholes(frame, "hidden")?, texts(frame, "prior")?, texts(frame, "method")?);
    let rows = hidden.into_iter().zip(prior).zip(method);
    Ok(rows.map(|((hidden, prior), method)| Case { hidden, prior, method }).collect())
}

impl Study {
    fn add_curves(&mut self, frame: &DataFrame) -> Result<()> {
        let (split, quantity, t) =
            (texts(frame, "split")?, texts(frame, "quantity")?, numbers(frame, "t")?);
        let rows = cases(frame)?
            .into_iter()
            .zip(split)
            .zip(quantity)
            .zip(t.into_iter().zip(means(frame)?));
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
            for ((case, _), value) in
                rows.filter(|((_, split), value)| *split == "test" && value.is_finite())
            {
                self.pairs.entry((case.clone(), metric.to_owned())).or_default().push(value);
            }
        }
        Ok(())
    }

    fn add_histories(&mut self, frame: &DataFrame) -> Result<()> {
        let nets = wholes(frame, "hidden")?.into_iter().zip(texts(frame, "prior")?);
        let errors =
            numbers(frame, "train_error")?.into_iter().zip(numbers(frame, "validation_error")?);
        for ((net, epoch), (train_error, validation_error)) in
            nets.zip(wholes(frame, "epoch")?).zip(errors)
        {
            self.training.entry(net).or_default().push(Epoch {
                epoch,
                train_error,
                validation_error,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::Mark;
    use crate::stage::tables::Mean;
    use crate::stage::talk::title;
    use crate::study::stats::{Average, Interval};
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    const PRIORS: [&str; 9] = [
        "none",
        "normal 1",
        "normal 0.1",
        "normal 0.01",
        "normal 0.001",
        "laplace 0.07",
        "laplace 0.7",
        "dropout 0.2",
        "dropout 0.5",
    ];
    const METHODS: [&str; 10] = [
        "linear",
        "arc",
        "rho-arc",
        "linear+wa",
        "arc+wa",
        "linear+ot",
        "arc+ot",
        "rho-arc+ot",
        "linear+ot:incoming",
        "linear+ot:incoming+wa",
    ];
    const WIDTHS: [i64; 6] = [10, 50, 100, 500, 1000, 2000];

    /// Every figure there is, by its schema.
    fn names() -> Vec<Name> {
        let schema = serde_json::to_value(schemars::schema_for!(Name)).unwrap();
        let variants = schema["oneOf"].as_array().unwrap();
        variants.iter().map(|name| serde_json::from_value(name["const"].clone()).unwrap()).collect()
    }

    /// A run whose values fall with the width; of three pairs and more it has intervals.
    fn study(priors: &[&str], methods: &[&str], widths: &[i64], pairs: usize) -> Study {
        let mut study = Study { published: published(), ..Study::default() };
        for (hidden, prior) in
            widths.iter().flat_map(|&h| priors.iter().map(move |&prior| (h, prior)))
        {
            let level = 100.0 / hidden as f64;
            let epochs = (1..4).map(|epoch| Epoch {
                epoch,
                train_error: level,
                validation_error: 2.0 * level,
            });
            study.training.insert((hidden, prior.to_owned()), epochs.collect());
            for method in methods {
                let case = Case { hidden, prior: prior.to_owned(), method: (*method).to_owned() };
                let interval = (pairs >= 3).then_some(Interval { low: -level, high: 3.0 * level });
                let mean = Mean {
                    count: pairs,
                    average: Average::Arithmetic,
                    mean: level,
                    interval,
                    range: (0.5 * level, 1.5 * level),
                };
                for split in ["train", "test"] {
                    for quantity in ["error", "normalised"] {
                        let points = [0.0, 0.5, 1.0].map(|t| (t, mean.clone()));
                        study
                            .along
                            .insert((case.clone(), split.into(), quantity.into()), points.into());
                    }
                }
                for metric in ["max_error", "barrier_loss", "barrier_error"] {
                    study.pairs.insert((case.clone(), metric.into()), vec![level; pairs]);
                    study.metrics.insert((case.clone(), metric.into()), mean.clone());
                }
            }
        }
        study
    }

    /// What the SVG reads: the lines of text in it.
    fn words(svg: &str) -> Vec<String> {
        let texts = svg.split("<text ").skip(1).map(|text| text.split_once('>').unwrap().1);
        texts.map(|text| text.split("</text>").next().unwrap().trim().to_owned()).collect()
    }

    /// Whether a panel, an entry of the legend, a tick or the title is named so.
    fn is_shown(value: &str, words: &[String], title: &str) -> bool {
        let names = words.iter().map(String::as_str).chain([title]);
        names
            .flat_map(|name| name.split(", "))
            .any(|part| part == value || part == format!("prior: {value}"))
    }

    fn is_left_out(value: &str, caption: &str) -> bool {
        let named = caption.split_once("Left out: ").map_or("", |(_, rest)| rest);
        let end = named
            .match_indices('.')
            .find(|(at, _)| !named[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
        let named = &named[..end.map_or(named.len(), |(at, _)| at)];
        let values = named.split("; ").flat_map(|axis| axis.split(", "));
        let bare = |name: &str| -> String {
            let heads = [
                "the widths ",
                "the width ",
                "the priors ",
                "the prior ",
                "the methods ",
                "the method ",
            ];
            heads.iter().find_map(|head| name.strip_prefix(head)).unwrap_or(name).to_owned()
        };
        values.map(bare).any(|name| name == value)
    }

    fn some<T: Clone + std::fmt::Debug + 'static>(all: &[T]) -> impl Strategy<Value = Vec<T>> {
        subsequence(all.to_vec(), 1..=all.len())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_figure_shows_each_prior_width_and_method_of_the_run_or_names_what_it_leaves_out(
            priors in some(&PRIORS), methods in some(&METHODS), widths in some(&WIDTHS), pairs in 1usize..5,
        ) {
            let study = study(&priors, &methods, &widths, pairs);
            for name in names() {
                let drawn = name.draw(&study);
                let svg = drawn.figure.to_svg().unwrap();
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name:?}");
                let words = words(&svg);
                let either = |value: &str, shown: bool| {
                    let told = format!("{name:?}, `{value}`: {}", drawn.caption);
                    prop_assert!(shown != is_left_out(value, &drawn.caption), "{told}");
                    Ok(())
                };
                for prior in &priors {
                    let variance = prior.strip_prefix("normal ").filter(|_| name == Name::MaxErrorByVariance);
                    let tick = variance.is_some_and(|variance| is_shown(variance, &words, ""));
                    let named = drawn.caption.contains(&format!("{prior} at "));
                    either(prior, is_shown(prior, &words, &drawn.title) || tick || named)?;
                }
                for width in &widths {
                    let labelled = is_shown(&format!("h = {width}"), &words, &drawn.title);
                    let by_width = [Name::MaxErrorByWidth, Name::LossBarrierByWidth, Name::ErrorBarrierByWidth];
                    let tick = by_width.contains(&name) && is_shown(&width.to_string(), &words, "");
                    either(&width.to_string(), labelled || tick)?;
                }
                for method in methods.iter().filter(|_| name != Name::Training) {
                    either(&title(method), is_shown(&title(method), &words, &drawn.title))?;
                }
            }
        }
    }

    #[test]
    fn where_no_interval_covers_the_values_stand_alone() {
        let (few, enough) = (
            study(&["none"], &["linear"], &[10, 50], 2),
            study(&["none"], &["linear"], &[10, 50], 3),
        );
        for name in names()
            .into_iter()
            .filter(|name| *name != Name::Training && *name != Name::MaxErrorByVariance)
        {
            let series = |study: &Study| -> Vec<_> {
                name.draw(study).figure.panels.into_iter().flat_map(|panel| panel.series).collect()
            };
            assert!(series(&few).iter().all(|s| s.band.iter().all(Option::is_none)), "{name:?}");
            assert!(series(&enough).iter().any(|s| s.band.iter().any(Option::is_some)), "{name:?}");
            assert!(series(&enough).iter().all(|s| s.mark != Mark::Dots), "{name:?}");
            let caption = name.draw(&few).caption;
            assert!(
                caption.contains("2 pairs") && caption.contains("there are too few pairs"),
                "{caption}"
            );
            assert!(
                name.draw(&enough).caption.contains("are 95 % intervals of the mean, "),
                "{caption}"
            );
        }
        let dots = Name::MaxErrorByWidth
            .draw(&few)
            .figure
            .panels
            .into_iter()
            .flat_map(|panel| panel.series);
        let dots = dots.filter(|series| series.mark == Mark::Dots).flat_map(|series| series.points);
        assert_eq!(
            dots.collect::<Vec<_>>(),
            [(10.0, 10.0), (10.0, 10.0), (50.0, 2.0), (50.0, 2.0)]
        );
    }

    #[test]
    fn bands_that_would_hide_each_other_are_left_out_and_the_caption_says_so() {
        let drawn =
            |methods: &[&str]| Name::ErrorByMethod.draw(&study(&["none"], methods, &[10], 3));
        let banded = |drawn: &Drawn| {
            drawn.figure.panels[0].series.iter().filter(|s| !s.band.is_empty()).count()
        };
        let (few, many) = (drawn(&METHODS[..6]), drawn(&METHODS[..7]));
        assert_eq!((banded(&few), banded(&many)), (6, 0));
        assert!(
            !few.caption.contains("not drawn")
                && many.caption.contains("The 95 % intervals are not drawn")
        );
    }

    #[test]
    fn a_figure_with_nothing_to_show_says_so() {
        for name in names() {
            let drawn = name.draw(&Study::default());
            assert_eq!(words(&drawn.figure.to_svg().unwrap()), ["no data"], "{name:?}");
            assert!(
                drawn.caption.contains("The run has nothing to show here."),
                "{}",
                drawn.caption
            );
        }
        let drawn = Name::MaxErrorByVariance.draw(&study(&["none"], &["linear", "arc"], &[10], 2));
        assert_eq!(words(&drawn.figure.to_svg().unwrap()), ["no data"]);
        assert!(is_left_out("none", &drawn.caption), "{}", drawn.caption);
    }

    #[test]
    fn training_without_a_validation_split_says_so() {
        let mut study = study(&["none"], &["linear"], &[10], 1);
        let caption = |study: &Study| Name::Training.draw(study).caption;
        assert!(caption(&study).contains("The validation error, dotted,"), "{}", caption(&study));
        study.training.values_mut().flatten().for_each(|epoch| epoch.validation_error = f64::NAN);
        assert!(
            caption(&study).contains("The run has no validation split."),
            "{}",
            caption(&study)
        );
        assert_eq!(Name::Training.draw(&study).figure.panels[0].series.len(), 1);
    }

    #[test]
    fn values_that_a_log_axis_cannot_show_are_counted() {
        let mut study = study(&["none"], &["linear", "arc"], &[10, 50], 2);
        study
            .metrics
            .iter_mut()
            .filter(|((case, _), _)| case.hidden == 50)
            .for_each(|(_, mean)| mean.mean = 0.0);
        let caption = Name::LossBarrierByWidth.draw(&study).caption;
        assert!(
            caption.contains("2 values are 0 or less, where the log axis does not reach"),
            "{caption}"
        );
    }

    #[test]
    fn a_geometric_mean_is_named_as_such() {
        let mut study = study(&["none"], &["linear"], &[10, 50], 3);
        let caption = |study: &Study| Name::MaxErrorByWidth.draw(study).caption;
        assert!(caption(&study).contains("Mean over 3 pairs. "), "{}", caption(&study));
        let geometric = |(_, mean): (&_, &mut Mean)| mean.average = Average::Geometric;
        study.metrics.iter_mut().take(3).for_each(geometric);
        assert!(
            caption(&study).contains("Mean over 3 pairs, geometric where"),
            "{}",
            caption(&study)
        );
        study.metrics.iter_mut().for_each(geometric);
        assert!(caption(&study).contains("Mean over 3 pairs, geometric. "), "{}", caption(&study));
    }
}
