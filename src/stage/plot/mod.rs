//! `plot`: one figure of the study, with its caption, as SVG and as part of a page.

mod bound;
mod captions;
mod drawing;
mod ensembles;
mod figures;
mod laws;
mod messages;
mod overview;
mod planes;
mod results;
mod shared_start;

use self::figures::FigureName;
pub(super) use self::figures::Subject;
use self::planes::PlaneResult;
use self::results::Results;
use super::artifact::{DATA_CARD, DataCard, MNIST_FILES, is_mnist, read_json, write_json};
use super::tables::{ENSEMBLES, SHARED_START};
use crate::engine::stage::{Arity, Context, Slot, Stage};
use crate::fs;
use anyhow::{Context as _, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) struct PlotStage;

/// The drawing.
pub(super) const SVG: &str = "figure.svg";

/// The drawing as part of a page.
pub(super) const FRAGMENT: &str = "figure.html";

/// The data of the drawing, for the scripts of a page.
pub(super) const CHART: &str = "chart.json";

/// The file of a [`FigureCard`].
pub(super) const CARD: &str = "figure.json";

/// A figure's metadata, for the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FigureCard {
    /// Its position in the report.
    pub(super) order: usize,
    /// The value of the parameter `figure`.
    pub(super) name: String,
    pub(super) title: String,
    /// What to see in the figure: one or two sentences.
    pub(super) message: String,
    pub(super) caption: String,
}

impl FigureCard {
    /// What the figure is about; `None` for everything.
    pub(super) fn subject(&self) -> Option<Subject> {
        let name: Option<FigureName> = serde_json::from_value(self.name.as_str().into()).ok();
        name.and_then(FigureName::subject)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    figure: FigureName,
}

impl Stage for PlotStage {
    const NAME: &'static str = "plot";
    const VERSION: u32 = 5;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "data", arity: Arity::One, files: MNIST_FILES },
        Slot { name: "tables", arity: Arity::One, files: Results::FILES },
        Slot { name: "ensembles", arity: Arity::Any, files: &[ENSEMBLES.file] },
        // Required for the figure `shared-start` only.
        Slot { name: "shared", arity: Arity::Optional, files: &[SHARED_START.file] },
        Slot { name: "planes", arity: Arity::Any, files: PlaneResult::FILES },
    ];
    const OUTPUTS: &'static [&'static str] = &[SVG, CARD, FRAGMENT, CHART];
    type Params = Params;

    fn run(params: Params, cx: &Context) -> Result<()> {
        let data = cx.input("data")?;
        let card: DataCard = read_json(data.path(DATA_CARD)?)?;
        let is_mnist = is_mnist(data, &card);
        let (ensembles, shared) = (cx.inputs("ensembles"), cx.inputs("shared").first());
        let mut results = Results::read(cx.input("tables")?, ensembles, shared, is_mnist)?;
        results.planes = PlaneResult::read_all(cx.inputs("planes"))?;
        let drawn = params.figure.draw(&results);
        let name = serde_json::to_value(params.figure)?.as_str().unwrap_or_default().to_owned();
        let card = FigureCard {
            order: params.figure as usize,
            name,
            title: drawn.title,
            message: drawn.message,
            caption: drawn.caption,
        };
        let figure = drawn.figure;
        let cannot_draw = || format!("cannot draw `{}`", card.name);
        fs::write(&cx.output(SVG), figure.to_svg().with_context(cannot_draw)?)?;
        fs::write(&cx.output(FRAGMENT), figure.to_html(&card.name).with_context(cannot_draw)?)?;
        fs::write(&cx.output(CHART), serde_json::to_string(&figure.to_chart())?)?;
        write_json(&cx.output(CARD), &card)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figure::{Mark, Panel};
    use crate::stage::ensemble::results::Ensembles;
    use crate::stage::ensemble::results::tests::ensembles;
    use crate::stage::plot::drawing::{CaptionedFigure, MAX_BANDS};
    use crate::stage::plot::messages::prior_phrase;
    use crate::stage::plot::results::Epoch;
    use crate::stage::rows::{CurveGroup, GroupMean, Metric, MetricSummary, Quantity};
    use crate::stage::talk;
    use crate::study::curve::Method;
    use crate::study::curve::ensemble::EnsembleKind;
    use crate::study::data::Split;
    use crate::study::net::{Hidden, Prior, PriorKind};
    use crate::study::stats::{Average, Interval};
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};
    use std::collections::BTreeMap;

    /// Nets of all kinds: three widths, biases, equal widths, and others.
    const NETS: [&str; 9] =
        ["10", "50", "2000", "50+bias", "10x10", "50x50x50", "50x50+bias", "512x256", "10x9+bias"];

    fn hiddens(texts: &[&str]) -> Vec<Hidden> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Every figure of the run's curves, from the schema. Those of planes, and of nets with a
    /// shared start, have tests of their own.
    fn names() -> Vec<FigureName> {
        let schema = serde_json::to_value(schemars::schema_for!(FigureName)).unwrap();
        let variants = schema["oneOf"].as_array().unwrap();
        let names = variants.iter().map(|n| serde_json::from_value(n["const"].clone()).unwrap());
        let others = [Some(Subject::Planes), Some(Subject::SharedStart)];
        names.filter(|name: &FigureName| !others.contains(&name.subject())).collect()
    }

    /// Every kind of prior, at several strengths.
    fn all_priors() -> Vec<Prior> {
        let of_kind = |kind: &PriorKind| match kind.with(None) {
            Ok(prior) => vec![prior],
            Err(_) => [0.5, 0.1, 0.01].map(|x| kind.with(Some(x)).unwrap()).to_vec(),
        };
        PriorKind::ALL.iter().flat_map(of_kind).collect()
    }

    fn method(name: &str) -> Method {
        name.parse().unwrap()
    }

    /// A run whose values fall with the width; three pairs or more have intervals.
    fn run(priors: &[Prior], methods: &[Method], widths: &[&str], pairs: usize) -> Results {
        let published = talk::published(true);
        let mut results = Results { published, ..Results::default() };
        for (hidden, prior) in
            hiddens(widths).into_iter().flat_map(|h| priors.iter().map(move |&prior| (h, prior)))
        {
            let level = 100.0 / hidden.widths.get(0) as f64;
            let epochs = (1..4).map(|epoch| Epoch {
                epoch,
                train_error: level,
                validation_error: 2.0 * level,
            });
            results.training.insert((hidden, prior), epochs.collect());
            for &method in methods {
                let group = CurveGroup { hidden, prior, method };
                let interval = (pairs >= 3).then_some(Interval { low: -level, high: 3.0 * level });
                let mean = GroupMean {
                    nets: 2 * pairs,
                    count: pairs,
                    average: Average::Arithmetic,
                    mean: level,
                    interval,
                    range: (0.5 * level, 1.5 * level),
                };
                for &split in Split::ALL {
                    for quantity in Quantity::ALL {
                        let points = [0.0, 0.5, 1.0].map(|t| (t, mean.clone()));
                        results.along.insert((group, split, quantity), points.into());
                    }
                }
                for metric in Metric::ALL {
                    let values = (1..=pairs)
                        .map(|pair| (pair.to_string().parse().unwrap(), level))
                        .collect();
                    let summary = MetricSummary { mean: mean.clone(), prediction: None };
                    results.pairs.insert((group, metric), values);
                    results.summaries.insert((group, metric), summary);
                }
            }
        }
        results.ensembles = run_of_ensembles(priors, methods, widths, pairs);
        results
    }

    /// Ensembles whose values fall with the width, the same for all pairs.
    fn run_of_ensembles(
        priors: &[Prior],
        methods: &[Method],
        widths: &[&str],
        pairs: usize,
    ) -> Ensembles {
        let priors: Vec<String> = priors.iter().map(Prior::to_string).collect();
        let methods: Vec<String> = methods.iter().map(|method| method.name()).collect();
        let pairs: Vec<String> = (1..=pairs).map(|pair| pair.to_string()).collect();
        let mut rows = Vec::new();
        for &hidden in widths {
            let level = 10.0 / hiddens(&[hidden])[0].widths.get(0) as f64;
            for (prior, method) in priors.iter().flat_map(|p| methods.iter().map(move |m| (p, m))) {
                for (pair, kind) in pairs.iter().flat_map(|pair| {
                    EnsembleKind::ALL.iter().map(move |kind| (pair.as_str(), *kind))
                }) {
                    let members = kind.nets(5);
                    rows.push((
                        hidden,
                        prior.as_str(),
                        method.as_str(),
                        pair,
                        kind.name(),
                        members,
                        level,
                    ));
                }
            }
        }
        ensembles(&rows)
    }

    /// The texts in an SVG.
    fn texts(svg: &str) -> Vec<String> {
        let texts = svg.split("<text ").skip(1).map(|text| text.split_once('>').unwrap().1);
        texts.map(|text| text.split("</text>").next().unwrap().trim().to_owned()).collect()
    }

    /// Whether a panel, an entry of the legend, a tick or the title has this name.
    fn is_shown(value: &str, texts: &[String], title: &str) -> bool {
        let names = texts.iter().map(String::as_str).chain([title]);
        names
            .flat_map(|name| name.split(", "))
            .any(|part| part == value || part == format!("prior: {value}"))
    }

    /// Whether nets are on the axis of the widths or depths of a panel.
    fn is_on_axis(
        name: FigureName,
        hidden: &str,
        drawn: &CaptionedFigure,
        texts: &[String],
    ) -> bool {
        let hidden: Hidden = hidden.parse().unwrap();
        let is_panel_of = |panel: &Panel, by_depth: bool| {
            let is_of = match by_depth {
                true => panel.title.contains(&format!("width {}", hidden.widths.get(0))),
                false => !panel.title.contains("width "),
            };
            let biases = match name {
                // Its nets are those of the title of the first panel.
                FigureName::Overview => drawn.figure.panels[0].title.contains("bias"),
                _ => panel.title.contains("with biases"),
            };
            let axis = if by_depth { "hidden layers" } else { "hidden neurons" };
            is_of && panel.x.label == axis && biases == hidden.biases
        };
        let depth = hidden.widths.depth();
        let equal = hidden.widths.iter().all(|width| width == hidden.widths.get(0));
        let by_width = depth == 1
            && drawn.figure.panels.iter().any(|panel| is_panel_of(panel, false))
            && is_shown(&hidden.widths.to_string(), texts, "");
        let by_depth = equal
            && drawn.figure.panels.iter().any(|panel| is_panel_of(panel, true))
            && is_shown(&depth.to_string(), texts, "");
        by_width || by_depth
    }

    fn is_left_out(value: &str, caption: &str) -> bool {
        let listed = caption.split_once("Left out: ").map_or("", |(_, rest)| rest);
        let end = listed
            .match_indices('.')
            .find(|(at, _)| !listed[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
        let listed = &listed[..end.map_or(listed.len(), |(at, _)| at)];
        let values = listed.split("; ").flat_map(|axis| axis.split(", "));
        let bare = |name: &str| -> String {
            let axes =
                ["widths ", "width ", "hidden layers ", "priors ", "prior ", "methods ", "method "];
            axes.iter().find_map(|axis| name.strip_prefix(axis)).unwrap_or(name).to_owned()
        };
        values.map(bare).any(|name| name == value)
    }

    fn some<T: Clone + std::fmt::Debug + 'static>(all: Vec<T>) -> impl Strategy<Value = Vec<T>> {
        let count = all.len();
        subsequence(all, 1..=count)
    }

    /// Up to ten of all methods.
    fn some_methods() -> impl Strategy<Value = Vec<Method>> {
        prop::collection::btree_set(select(Method::all().collect::<Vec<_>>()), 1..=10)
            .prop_map(|methods| methods.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_figure_shows_or_lists_each_prior_width_and_method_of_the_run(
            priors in some(all_priors()),
            methods in some_methods(),
            widths in some(NETS.to_vec()),
            pairs in 1usize..5,
        ) {
            let results = run(&priors, &methods, &widths, pairs);
            for name in names() {
                let drawn = name.draw(&results);
                let svg = drawn.figure.to_svg().unwrap();
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name:?}");
                // A long title is in several lines.
                let titles = drawn.figure.panels.iter().map(|panel| panel.title.clone());
                let texts: Vec<String> = texts(&svg).into_iter().chain(titles).collect();
                let either = |value: &str, shown: bool| {
                    let context = format!("{name:?}, `{value}`: {}", drawn.caption);
                    prop_assert!(shown != is_left_out(value, &drawn.caption), "{context}");
                    Ok(())
                };
                for &value in &priors {
                    let prior = value;
                    let is_tick = name == FigureName::MaxErrorByVariance
                        && prior.kind() == PriorKind::Normal
                        && prior.variance().is_some_and(|x| is_shown(&x.to_string(), &texts, ""));
                    let in_caption = drawn.caption.contains(&format!("{prior} at "));
                    let prior = prior.to_string();
                    let in_texts = is_shown(&prior, &texts, &drawn.title)
                        || name == FigureName::Overview
                            && drawn.title.ends_with(&prior_phrase(value));
                    either(&prior, in_texts || is_tick || in_caption)?;
                }
                for &width in &widths {
                    let labelled = is_shown(&format!("h = {width}"), &texts, &drawn.title);
                    either(width, labelled || is_on_axis(name, width, &drawn, &texts))?;
                }
                for method in methods.iter().filter(|_| name != FigureName::Training) {
                    either(&method.title(), is_shown(&method.title(), &texts, &drawn.title))?;
                }
            }
        }
    }

    #[test]
    fn a_method_is_shown_relative_to_the_learned_curve_of_the_same_pairs() {
        let methods = ["linear", "linear+ot", "bezier"].map(method);
        let drawn = |pairs| {
            FigureName::RatioToLearned.draw(&run(&[Prior::None], &methods, &["10", "50"], pairs))
        };
        let [panel] = &drawn(3).figure.panels[..] else { panic!("one prior") };
        let labels: Vec<&str> = panel.series.iter().map(|series| series.label.as_str()).collect();
        assert_eq!(labels, ["Linear", "Linear + OT"]);
        assert!(panel.series.iter().all(|s| s.band.len() == 2 && s.band[0].is_some()));
        let [panel] = &drawn(2).figure.panels[..] else { panic!("one prior") };
        assert!(panel.series.iter().any(|series| series.mark == Mark::Dots));
        assert!(panel.series.iter().all(|s| s.band.iter().all(Option::is_none)));
        let without = run(&[Prior::None], &methods[..2], &["10"], 3);
        let caption = FigureName::RatioToLearned.draw(&without).caption;
        assert!(caption.starts_with("The run has no learned curve."), "{caption}");
    }

    #[test]
    fn without_an_interval_the_values_of_the_pairs_are_drawn() {
        let (few, enough) = (
            run(&[Prior::None], &[method("linear")], &["10", "50"], 2),
            run(&[Prior::None], &[method("linear")], &["10", "50"], 3),
        );
        for name in names().into_iter().filter(|name| {
            !matches!(
                name,
                FigureName::Training
                    | FigureName::MaxErrorByVariance
                    | FigureName::MaxErrorByDepth
                    | FigureName::RatioToLearned
            )
        }) {
            let series = |results: &Results| -> Vec<_> {
                let panels = name.draw(results).figure.panels.into_iter();
                panels.flat_map(|panel| panel.series).collect()
            };
            assert!(series(&few).iter().all(|s| s.band.iter().all(Option::is_none)), "{name:?}");
            assert!(series(&enough).iter().any(|s| s.band.iter().any(Option::is_some)), "{name:?}");
            assert!(series(&enough).iter().all(|s| s.mark != Mark::Dots), "{name:?}");
            let caption = name.draw(&few).caption;
            assert!(
                caption.contains("2 pairs") && caption.contains("There are too few pairs"),
                "{caption}"
            );
            let caption = name.draw(&enough).caption;
            assert!(caption.contains(" are 95 % confidence intervals of the mean, "), "{caption}");
        }
        let panels = FigureName::MaxErrorByWidth.draw(&few).figure.panels;
        let dots = panels.into_iter().flat_map(|panel| panel.series);
        let dots = dots.filter(|series| series.mark == Mark::Dots).flat_map(|series| series.points);
        assert_eq!(
            dots.collect::<Vec<_>>(),
            [(10.0, 10.0), (10.0, 10.0), (50.0, 2.0), (50.0, 2.0)]
        );
    }

    #[test]
    fn bands_are_omitted_where_they_would_overlap() {
        let drawn = |count: usize| {
            let methods: Vec<Method> = Method::all().take(count).collect();
            FigureName::ErrorByMethod.draw(&run(&[Prior::None], &methods, &["10"], 3))
        };
        let banded = |drawn: &CaptionedFigure| {
            drawn.figure.panels[0].series.iter().filter(|s| !s.band.is_empty()).count()
        };
        let (few, many) = (drawn(MAX_BANDS), drawn(MAX_BANDS + 1));
        assert_eq!((banded(&few), banded(&many)), (MAX_BANDS, 0));
        let omitted = "The 95 % confidence intervals are omitted";
        assert!(!few.caption.contains(omitted) && many.caption.contains(omitted));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn the_message_of_every_figure_is_sentences_and_its_markup_is_well_formed(
            priors in some(all_priors()),
            methods in some_methods(),
            widths in some(NETS.to_vec()),
            pairs in 1usize..4,
        ) {
            let results = run(&priors, &methods, &widths, pairs);
            for name in names() {
                let drawn = name.draw(&results);
                let fragment = drawn.figure.to_html("name").unwrap();
                prop_assert!(roxmltree::Document::parse(&fragment).is_ok(), "{name:?}");
                let empty = drawn.figure.panels.iter().all(|panel| panel.series.is_empty());
                let message = drawn.message;
                prop_assert!(empty == message.is_empty(), "{name:?}: {message}");
                let sentences = empty || message.ends_with('.') && !message.contains("NaN");
                prop_assert!(sentences && !message.contains("  "), "{name:?}: {message}");
            }
        }
    }

    #[test]
    fn the_facets_of_a_series_are_values_of_the_tables() {
        let methods = ["linear", "linear+ot:incoming+wa"].map(method);
        let results = run(&all_priors(), &methods, &NETS, 3);
        for name in names() {
            let chart = name.draw(&results).figure.to_chart();
            for series in chart.panels.iter().flat_map(|panel| &panel.series) {
                check_facets(name, &series.facets);
            }
        }
    }

    #[track_caller]
    fn check_facets(name: FigureName, facets: &BTreeMap<&str, String>) {
        for (facet, value) in facets {
            let is_known = match *facet {
                "hidden" => NETS.contains(&value.as_str()),
                "prior" => value.parse::<Prior>().is_ok(),
                "method" => value.parse::<Method>().is_ok(),
                _ => false,
            };
            assert!(is_known, "{name:?}: {facet} = {value}");
        }
        assert!(!facets.is_empty(), "{name:?}");
    }

    #[test]
    fn a_figure_without_data_says_so() {
        for name in names() {
            let drawn = name.draw(&Results::default());
            assert_eq!(drawn.message, "", "{name:?}");
            assert_eq!(texts(&drawn.figure.to_svg().unwrap()), ["no data"], "{name:?}");
            let caption = drawn.caption;
            assert!(caption.contains("The run has no data for this figure."), "{caption}");
        }
        let results = run(&[Prior::None], &[method("linear"), method("arc")], &["10"], 2);
        let drawn = FigureName::MaxErrorByVariance.draw(&results);
        assert_eq!(texts(&drawn.figure.to_svg().unwrap()), ["no data"]);
        assert!(is_left_out("none", &drawn.caption), "{}", drawn.caption);
    }

    #[test]
    fn nets_that_differ_in_no_single_number_have_no_axis_and_the_figure_says_so() {
        let caption = |nets: &[&str], name: FigureName| {
            let drawn = name.draw(&run(&[Prior::None], &[method("linear")], nets, 3));
            let marks = drawn.figure.panels.iter().flat_map(|panel| &panel.series);
            (marks.filter(|series| series.mark == Mark::Points).count(), drawn.caption)
        };
        for (nets, name, expected) in [
            (["512x256", "9x8"], FigureName::MaxErrorByWidth, "no nets with one hidden layer."),
            (["512x256", "9x8"], FigureName::MaxErrorByDepth, "no nets of one width with"),
            (["10", "50"], FigureName::MaxErrorByDepth, "no nets of one width with"),
            (["512x256", "9x8"], FigureName::Overview, "there is no axis for them."),
        ] {
            let (points, caption) = caption(&nets, name);
            assert!(points == 0 && caption.contains(expected), "{name:?}: {caption}");
        }
    }

    #[test]
    fn depth_has_a_panel_for_each_metric_width_and_prior() {
        let nets = ["5", "5x5", "5x5x5", "9x9", "9x9x9", "7x6", "8"];
        let drawn = FigureName::MaxErrorByDepth.draw(&run(
            &[Prior::None],
            &[method("linear"), method("linear+ot")],
            &nets,
            3,
        ));
        let panels = &drawn.figure.panels;
        let titles: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
        let [five, nine] = ["prior: none, width 5", "prior: none, width 9"];
        assert_eq!(titles, [five, five, five, nine, nine, nine]);
        assert_eq!(panels[0].x.ticks, Some(vec![1.0, 2.0, 3.0]));
        assert_eq!(panels[3].x.ticks, Some(vec![2.0, 3.0]));
        let left_out = "Left out: hidden layers 7x6, 8.";
        assert!(drawn.caption.contains(left_out), "{}", drawn.caption);
    }

    #[test]
    fn a_training_figure_without_validation_split_says_so() {
        let mut results = run(&[Prior::None], &[method("linear")], &["10"], 1);
        let caption = |results: &Results| FigureName::Training.draw(results).caption;
        let with = caption(&results);
        assert!(with.contains("The validation error, dotted,"), "{with}");
        results.training.values_mut().flatten().for_each(|epoch| epoch.validation_error = f64::NAN);
        let without = caption(&results);
        assert!(without.contains("The run has no validation split."), "{without}");
        assert_eq!(FigureName::Training.draw(&results).figure.panels[0].series.len(), 1);
    }

    #[test]
    fn values_that_a_log_axis_cannot_show_are_counted() {
        let mut results = run(&[Prior::None], &[method("linear"), method("arc")], &["10", "50"], 2);
        results
            .summaries
            .iter_mut()
            .filter(|((group, _), _)| group.hidden.to_string() == "50")
            .for_each(|(_, summary)| summary.mean.mean = 0.0);
        let caption = FigureName::LossBarrierByWidth.draw(&results).caption;
        let zero = "2 values are 0 or less, drawn at the lower end of the log axis.";
        assert!(caption.contains(zero), "{caption}");
    }

    #[test]
    fn the_caption_names_the_kind_of_average() {
        let mut results = run(&[Prior::None], &[method("linear")], &["10", "50"], 3);
        let caption = |results: &Results| FigureName::MaxErrorByWidth.draw(results).caption;
        let shown = caption(&results);
        assert!(shown.contains(" Mean over 3 pairs of 6 nets. "), "{shown}");
        let geometric = |summary: &mut MetricSummary| summary.mean.average = Average::Geometric;
        let narrow =
            results.summaries.iter_mut().filter(|((group, _), _)| group.hidden.to_string() == "10");
        narrow.for_each(|(_, summary)| geometric(summary));
        let shown = caption(&results);
        assert!(shown.contains(" Mean over 3 pairs of 6 nets, geometric where "), "{shown}");
        results.summaries.values_mut().for_each(geometric);
        let shown = caption(&results);
        assert!(shown.contains(" Geometric mean over 3 pairs of 6 nets. "), "{shown}");
    }
}
