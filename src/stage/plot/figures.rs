//! The contents of each figure of the study.
//!
//! [`FigureName`] lists the figures. `report::figure` defines how figures look.

use super::captions::{NO_DATA, join, not_above_zero, with_hidden};
use super::drawing::{
    CaptionedFigure, DOTTED, FigureLine, MAX_BANDS, PanelLines, Texts, axis_of_depth, axis_of_t,
    columns, figure, marker_shift, prior_title, remove_bands, styles, with_biases,
};
use super::messages::{
    Value, by_depth, by_variance, by_width, extremes, peaks, peaks_of, prior_phrase, spread,
    spread_of,
};
use super::planes::{self, Surface};
use super::results::{Epoch, Results};
use crate::report::axis::Axis;
use crate::report::figure::{Mark, Panel, Series};
use crate::stage::rows::{CurveGroup, Metric, NetFamily, Quantity};
use crate::stage::talk;
use crate::study::curve::Method;
use crate::study::data::Split;
use crate::study::net::{Hidden, Prior, PriorKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A figure of the study, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FigureName {
    /// E(t) and largest error of at most five telling methods, for the report's first screen.
    Overview,
    /// Training and validation error by epoch, for each width and prior.
    Training,
    /// E(t) by method, for each prior.
    ErrorByMethod,
    /// E(t) on training and test images, for each method and prior.
    ErrorBySplit,
    /// Normalised E(t) by prior, for Arc in a narrow net and OT + Arc in a wide one.
    NormalisedErrorByPrior,
    /// E(t) by width, for the methods of the talk's figure and each prior.
    ErrorByWidth,
    /// Largest error against width for each prior, with the published numbers.
    MaxErrorByWidth,
    /// Largest error against the variance of the prior.
    MaxErrorByVariance,
    /// Barrier of the loss against width, for each prior.
    LossBarrierByWidth,
    /// Barrier of the error against width, for each prior.
    ErrorBarrierByWidth,
    /// Largest error, excess and barrier of the loss against the number of hidden layers of equal
    /// width, for each prior.
    MaxErrorByDepth,
    /// Excess error against width for each method, with fitted power laws.
    ExcessByWidth,
    /// Largest error over that on the learned curve against width, for each prior.
    RatioToLearned,
    /// Error, cross-entropy and calibration of ensembles against width, for each prior.
    Ensembles,
    /// Barrier of the loss and largest error between nets with a shared start, against the number
    /// of shared epochs.
    SharedStart,
    /// Loss on planes through three nets, with the curves between them.
    Planes,
    /// Error on planes through three nets, with the curves between them.
    ErrorPlanes,
}

/// What a figure is about: the section of the report that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stage) enum Subject {
    Methods,
    Widths,
    CriticalWidth,
    Bound,
    SharedStart,
    Depth,
    Priors,
    Ensembles,
    Training,
    Planes,
}

impl FigureName {
    /// What the figure is about; `None` for everything.
    pub(super) fn subject(self) -> Option<Subject> {
        match self {
            FigureName::Overview => None,
            FigureName::Training => Some(Subject::Training),
            FigureName::ErrorByMethod | FigureName::ErrorBySplit => Some(Subject::Methods),
            FigureName::NormalisedErrorByPrior | FigureName::MaxErrorByVariance => {
                Some(Subject::Priors)
            }
            FigureName::ErrorByWidth
            | FigureName::MaxErrorByWidth
            | FigureName::LossBarrierByWidth
            | FigureName::ErrorBarrierByWidth => Some(Subject::Widths),
            FigureName::MaxErrorByDepth => Some(Subject::Depth),
            FigureName::ExcessByWidth => Some(Subject::CriticalWidth),
            FigureName::RatioToLearned => Some(Subject::Bound),
            FigureName::Ensembles => Some(Subject::Ensembles),
            FigureName::SharedStart => Some(Subject::SharedStart),
            FigureName::Planes | FigureName::ErrorPlanes => Some(Subject::Planes),
        }
    }

    pub(super) fn draw(self, results: &Results) -> CaptionedFigure {
        match self {
            FigureName::Overview => results.overview(),
            FigureName::Training => results.training_figure(),
            FigureName::ErrorByMethod => results.error_by_method(),
            FigureName::ErrorBySplit => results.error_by_split(),
            FigureName::NormalisedErrorByPrior => results.normalised_error_by_prior(),
            FigureName::ErrorByWidth => results.error_by_width(),
            FigureName::MaxErrorByWidth => results.max_error_by_width(),
            FigureName::MaxErrorByVariance => results.max_error_by_variance(),
            FigureName::LossBarrierByWidth => results.loss_barrier_by_width(),
            FigureName::ErrorBarrierByWidth => results.error_barrier_by_width(),
            FigureName::MaxErrorByDepth => results.max_error_by_depth(),
            FigureName::ExcessByWidth => results.excess_by_width(),
            FigureName::RatioToLearned => results.ratio_to_learned(),
            FigureName::Ensembles => results.ensembles_by_width(),
            FigureName::SharedStart => results.barrier_by_shared_epochs(),
            FigureName::Planes => planes::figure_of(&results.planes, Surface::Loss),
            FigureName::ErrorPlanes => planes::figure_of(&results.planes, Surface::Error),
        }
    }
}

pub(super) const MAX_ERROR: &str = "largest test error on the curve, %";

/// The widths of the talk's figures.
pub(super) const TALK_NARROW: usize = 50;
const TALK_WIDE: usize = 1000;

impl Results {
    fn training_figure(&self) -> CaptionedFigure {
        let widths: BTreeSet<Hidden> = self.training.keys().map(|(hidden, _)| *hidden).collect();
        let priors: BTreeSet<Prior> = self.training.keys().map(|(_, prior)| *prior).collect();
        type ErrorOf = fn(&Epoch) -> f64;
        let train: ErrorOf = |epoch| epoch.train_error;
        let validation: ErrorOf = |epoch| epoch.validation_error;
        let splits = [(Split::Train, 0, train), (Split::Validation, DOTTED, validation)];
        let panel = |&prior: &Prior| {
            let mut series = Vec::new();
            for (i, &hidden) in widths.iter().enumerate() {
                for (split, dotted, error) in splits {
                    let epochs = self.training.get(&(hidden, prior)).into_iter().flatten();
                    series.push(Series {
                        label: format!("h = {hidden}, {split}"),
                        facets: vec![("hidden", hidden.to_string()), ("prior", prior.to_string())],
                        style: i + dotted,
                        ..over_nets(epochs.map(|epoch| (epoch.epoch, error(epoch))))
                    });
                }
            }
            series.retain(|series| !series.points.is_empty());
            let (x, y) = (Axis::linear("epoch"), Axis::log("error, %"));
            Panel { title: prior_title(prior), x, y, series, ..Panel::default() }
        };
        let mut panels: Vec<Panel> = priors.iter().map(panel).collect();
        let crowded = panels.iter().any(|panel| panel.series.len() > MAX_BANDS);
        if crowded {
            remove_bands(&mut panels);
        }
        let validated =
            self.training.values().flatten().any(|epoch| epoch.validation_error.is_finite());
        let validation = match validated {
            true => "The validation error, dotted, is measured after each epoch.",
            false => "The run has no validation split.",
        };
        let groups = self.pairs.keys().map(|(group, _)| (group.hidden, group.prior));
        let missing = groups.filter(|net| !self.training.contains_key(net)).count() > 0;
        let shown = match (panels.is_empty(), missing) {
            (true, true) => "The run has no training histories; imported nets have none.",
            (true, false) => NO_DATA,
            (false, true) => "Nets without a history, such as imported ones, are not shown.",
            (false, false) if self.has_general_nets() => {
                "All priors and hidden layers of the run are shown."
            }
            (false, false) => "All priors and widths of the run are shown.",
        };
        let hidden = not_above_zero(&panels);
        let last = |label: &str| {
            let panels = panels.iter().zip(&priors);
            let series = panels.flat_map(|(panel, prior)| {
                panel.series.iter().map(move |series| (series, prior_phrase(*prior)))
            });
            let ends = series.filter_map(|(series, prior)| {
                let (width, split) = series.label.split_once(", ")?;
                let error = series.points.last()?.1;
                (split == label).then(|| (error, format!("{width}, {prior}")))
            });
            ends.collect::<Vec<Value>>()
        };
        let message = [Split::Train, Split::Validation].map(|split| {
            let name = if split == Split::Train { "training" } else { "validation" };
            spread(&format!("The {name} error of the last epoch"), " %", &last(split.name()))
        });
        CaptionedFigure {
            title: format!("Training, by {} and prior", self.kind_of_nets("width")),
            message: join(message),
            caption: join([
                format!(
                    "Error by epoch and {}, one panel per prior: the mean over nets.",
                    self.kind_of_nets("number of hidden neurons")
                ),
                "The training error is the running average over the batches of the epoch, \
                 with dropout active."
                    .to_owned(),
                validation.to_owned(),
                if crowded { "" } else { "Bands show the range over nets." }.to_owned(),
                hidden,
                shown.to_owned(),
            ]),
            figure: figure(columns(panels.len()), panels),
        }
    }

    fn error_by_method(&self) -> CaptionedFigure {
        let Some(hidden) = self.nearest_width(TALK_NARROW) else {
            return CaptionedFigure::without_data("Error along the curve by method");
        };
        let methods = self.methods();
        let line = |prior: Prior, method: Method, style: usize| {
            let group = CurveGroup { hidden, prior, method };
            self.line_along(&method.title(), style, Split::Test, Quantity::Error, group)
        };
        let panel = |&prior: &Prior| PanelLines {
            title: prior_title(prior),
            x: axis_of_t(),
            y: Axis::log("test error, %"),
            lines: methods
                .iter()
                .zip(styles(&methods))
                .map(|(&method, style)| line(prior, method, style))
                .collect(),
        };
        let panels: Vec<PanelLines> = self.priors().iter().map(panel).collect();
        let peaks = peaks(&panels);
        let texts = Texts {
            title: format!("Error along the curve by method, h = {hidden}"),
            message: join([spread_of("The peak of a mean curve", " %", &peaks), extremes(&peaks)]),
            content: format!(
                "Test error along the curve between two nets with {}, one panel per prior. With \
                 OT, the curve ends at the permuted net, which computes the same function.",
                with_hidden(hidden)
            ),
            reason: format!(
                "The figure is for the width nearest to the talk's h = 50; {}.",
                self.all_nets_are_in("`max-error-by-width` shows all widths")
            ),
        };
        CaptionedFigure::new(self, texts, columns(panels.len()), panels)
    }

    fn error_by_split(&self) -> CaptionedFigure {
        let Some(hidden) = self.nearest_width(TALK_NARROW) else {
            return CaptionedFigure::without_data(
                "Error along the curve on training and test images",
            );
        };
        let priors = self.priors();
        let panel = |&method: &Method| PanelLines {
            title: method.title(),
            x: axis_of_t(),
            y: Axis::log("error, %"),
            lines: priors
                .iter()
                .enumerate()
                .flat_map(|(i, &prior)| {
                    [(Split::Test, 0), (Split::Train, DOTTED)].map(|(split, dotted)| {
                        self.line_along(
                            &format!("{prior}, {split}"),
                            i + dotted,
                            split,
                            Quantity::Error,
                            CurveGroup { hidden, prior, method },
                        )
                    })
                })
                .collect(),
        };
        let panels: Vec<PanelLines> = self.methods().iter().map(panel).collect();
        let gaps = self.methods().into_iter().flat_map(|method| {
            let group = move |prior: Prior| CurveGroup { hidden, prior, method };
            priors.iter().filter_map(move |&prior| {
                let [test, train] = [Split::Test, Split::Train]
                    .map(|split| self.peak(group(prior), split, Quantity::Error));
                Some((group(prior), test? - train?))
            })
        });
        let gap = "The peak on test images minus the peak on training images";
        let texts = Texts {
            title: format!("Error along the curve on training and test images, h = {hidden}"),
            message: spread_of(gap, " points", &gaps.collect::<Vec<_>>()),
            content: format!(
                "Error along the curve between two nets with {} on the training images (dotted) \
                 and on the test images, by prior, one panel per method.",
                with_hidden(hidden)
            ),
            reason: format!(
                "The figure is for the width nearest to the talk's h = 50; `tables/summary.csv` \
                 covers all {} on both splits.",
                self.kind_of_nets("widths")
            ),
        };
        CaptionedFigure::new(self, texts, columns(panels.len()), panels)
    }

    fn normalised_error_by_prior(&self) -> CaptionedFigure {
        let panel = |method: Method, hidden: Hidden| PanelLines {
            title: format!("{}, h = {hidden}", method.title()),
            x: axis_of_t(),
            y: Axis::linear("normalised test error"),
            lines: self
                .priors()
                .into_iter()
                .enumerate()
                .map(|(i, prior)| {
                    self.line_along(
                        &prior.to_string(),
                        i,
                        Split::Test,
                        Quantity::NormalisedError,
                        CurveGroup { hidden, prior, method },
                    )
                })
                .collect(),
        };
        let mut widths: Vec<Hidden> =
            [TALK_NARROW, TALK_WIDE].into_iter().filter_map(|h| self.nearest_width(h)).collect();
        widths.dedup();
        let methods = self.methods().into_iter();
        let panels: Vec<PanelLines> = methods
            .flat_map(|method| widths.iter().map(move |&hidden| (method, hidden)))
            .map(|(method, hidden)| panel(method, hidden))
            .collect();
        let texts = Texts {
            title: "Normalised error along the curve by prior".to_owned(),
            message: spread_of("The peak of a mean curve", "", &peaks(&panels)),
            content: "Normalised test error (E(t) - E_end) / (E_lin_max - E_end) by prior, where \
                      E_end is the mean error of the two ends and E_lin_max the largest error on \
                      the straight line of the same pair, width and prior: 1 is the peak of that \
                      line. The talk shows Arc at h = 50 and Arc + OT at h = 1000."
                .to_owned(),
            reason: format!(
                "The figure is for the widths nearest to the talk's; {}.",
                self.all_nets_are_in("`max-error-by-width` shows all widths")
            ),
        };
        let columns = if widths.len() == 2 { 4 } else { columns(panels.len()) };
        CaptionedFigure::new(self, texts, columns, panels)
    }

    fn error_by_width(&self) -> CaptionedFigure {
        let methods = self.methods_of(&talk::methods_along());
        let panel = |prior: Prior, method: Method| PanelLines {
            title: format!("{}, {prior}", method.title()),
            x: axis_of_t(),
            y: Axis::log("test error, %"),
            lines: self
                .hiddens()
                .into_iter()
                .enumerate()
                .map(|(i, hidden)| {
                    self.line_along(
                        &format!("h = {hidden}"),
                        i,
                        Split::Test,
                        Quantity::Error,
                        CurveGroup { hidden, prior, method },
                    )
                })
                .collect(),
        };
        let priors = self.priors();
        let panels: Vec<PanelLines> = priors
            .iter()
            .flat_map(|&prior| methods.iter().map(move |&method| (prior, method)))
            .map(|(prior, method)| panel(prior, method))
            .collect();
        let peaks = peaks(&panels);
        let peak = "The peak of a mean curve";
        let texts = Texts {
            title: format!("Error along the curve by {}", self.kind_of_nets("width")),
            message: join([
                spread_of(peak, " %", &peaks),
                by_width("The peak", &peaks),
                by_depth("The peak", &peaks),
            ]),
            content: format!(
                "Test error along the curve by {}, one panel per prior and method.",
                self.kind_of_nets("number of hidden neurons")
            ),
            reason: format!(
                "The figure shows the methods of the talk's figure; {}.",
                match NetFamily::by_width(self.hiddens()).is_empty() {
                    true => "`tables/summary.csv` has all methods",
                    false => "`max-error-by-width` shows all methods",
                }
            ),
        };
        CaptionedFigure::new(self, texts, methods.len(), panels)
    }

    fn max_error_by_width(&self) -> CaptionedFigure {
        let drawn = self.by_width(
            Metric::MaxError,
            (MAX_ERROR, "The largest error on the curve", " %"),
            "Largest error on the curve by width",
            "Largest test error on the curve by number of hidden neurons, one panel per prior.",
        );
        let mut series = drawn.figure.panels.iter().flat_map(|panel| &panel.series);
        let published = match series.any(|series| series.mark == Mark::Hollow) {
            true => "Hollow markers are the talk's published numbers for MNIST.",
            false => "",
        };
        CaptionedFigure { caption: join([drawn.caption, published.to_owned()]), ..drawn }
    }

    fn loss_barrier_by_width(&self) -> CaptionedFigure {
        self.by_width(
            Metric::LossBarrier,
            ("barrier of the loss, nats", "The barrier of the loss", " nats"),
            "Barrier of the loss by width",
            "Barrier of the test loss by number of hidden neurons, one panel per prior: the \
             largest excess of the loss L(t) on the curve over (1 - t) L_A + t L_B, the straight \
             line between the losses of its ends.",
        )
    }

    fn error_barrier_by_width(&self) -> CaptionedFigure {
        self.by_width(
            Metric::ErrorBarrier,
            ("barrier of the error, points", "The barrier of the error", " points"),
            "Barrier of the error by width",
            "Barrier of the test error by number of hidden neurons, one panel per prior: the \
             largest excess of the error E(t) on the curve over (1 - t) E_A + t E_B, the straight \
             line between the errors of its ends, in percentage points.",
        )
    }

    /// A metric of all methods by width, one panel per prior. The metric has a label, and in
    /// sentences a name and a unit.
    fn by_width(
        &self,
        metric: Metric,
        (label, name, unit): (&str, &str, &str),
        title: &str,
        content: &str,
    ) -> CaptionedFigure {
        let families = NetFamily::by_width(self.hiddens());
        let panel = |prior: Prior, family: &NetFamily| PanelLines {
            title: format!("{}{}", prior_title(prior), with_biases(family.biases)),
            x: Axis::log("hidden neurons").ticks(family.numbers()),
            y: Axis::log(label),
            lines: self.lines_by(prior, metric, family),
        };
        let priors = self.priors();
        let panels: Vec<PanelLines> = families
            .iter()
            .flat_map(|family| priors.iter().map(move |&prior| (prior, family)))
            .map(|(prior, family)| panel(prior, family))
            .collect();
        let values = peaks(&panels);
        let content = match families.is_empty() && !priors.is_empty() {
            true => "The run has no nets with one hidden layer.".to_owned(),
            false => format!("{content} Markers at one width are shifted apart."),
        };
        let texts = Texts {
            title: title.to_owned(),
            message: join([spread_of(name, unit, &values), by_width("It", &values)]),
            content,
            reason: "The axis is for nets with one hidden layer, which differ in width alone."
                .to_owned(),
        };
        CaptionedFigure::new(self, texts, columns(panels.len()), panels)
    }

    fn max_error_by_depth(&self) -> CaptionedFigure {
        let families = NetFamily::by_depth(self.hiddens());
        let metrics = [
            (Metric::MaxError, MAX_ERROR),
            (Metric::ExcessError, "excess over the worse net, points"),
            (Metric::LossBarrier, "barrier of the loss, nats"),
        ];
        let panel =
            |prior: Prior, family: &NetFamily, (metric, label): (Metric, &str)| PanelLines {
                title: format!(
                    "{}, width {}{}",
                    prior_title(prior),
                    family.width.unwrap_or_default(),
                    with_biases(family.biases)
                ),
                x: axis_of_depth(family.numbers()),
                y: Axis::log(label),
                lines: self.lines_by(prior, metric, family),
            };
        let priors = self.priors();
        let each = families.iter().flat_map(|family| priors.iter().map(move |&p| (p, family)));
        let panels: Vec<PanelLines> = each
            .flat_map(|(prior, family)| metrics.map(|metric| panel(prior, family, metric)))
            .collect();
        let largest = panels.iter().step_by(metrics.len()).map(|panel| &panel.lines);
        let values = peaks_of(largest.flatten());
        let content = match families.is_empty() && !priors.is_empty() {
            true => "The run has no nets of one width with different numbers of hidden layers.",
            false => {
                "Largest test error on the curve, its excess over the worse net, and the barrier \
                 of the test loss, by number of hidden layers of equal width, one row per prior. \
                 Markers at one depth are shifted apart."
            }
        };
        let texts = Texts {
            title: "Largest error, excess and barrier on the curve by depth".to_owned(),
            message: join([
                spread_of("The largest error on the curve", " %", &values),
                by_depth("It", &values),
            ]),
            content: content.to_owned(),
            reason:
                "The axis is for nets with hidden layers of equal width, which differ in depth \
                     alone."
                    .to_owned(),
        };
        CaptionedFigure::new(self, texts, metrics.len(), panels)
    }

    /// A line of a metric for each method against the number of the nets of a family.
    pub(super) fn lines_by(
        &self,
        prior: Prior,
        metric: Metric,
        family: &NetFamily,
    ) -> Vec<FigureLine> {
        let methods = self.methods();
        let line = |(i, (&method, style)): (usize, (&Method, usize))| {
            let series = Series {
                label: method.title(),
                facets: vec![("prior", prior.to_string()), ("method", method.name())],
                style,
                mark: Mark::Points,
                shift: marker_shift(i, methods.len()),
                ..Series::default()
            };
            let mut line = self.line_against(series.clone(), metric, |group| {
                let is_shown = group.prior == prior && group.method == method;
                family.number_of(group.hidden).filter(|_| is_shown)
            });
            let published = self.published.iter().filter(|number| {
                metric == Metric::MaxError && (number.prior, number.method) == (prior, method)
            });
            let points: Vec<(f64, f64)> = published
                .filter_map(|number| Some((family.number_of(number.hidden)?, number.max_error)))
                .collect();
            if !points.is_empty() {
                let (note, mark) = ("published".to_owned(), Mark::Hollow);
                line.series.push(Series { note, mark, points, ..series });
            }
            line
        };
        methods.iter().zip(styles(&methods)).enumerate().map(line).collect()
    }

    /// `widths`, or `hidden layers` if the nets of the run differ in more than the width.
    fn kind_of_nets<'w>(&self, widths: &'w str) -> &'w str {
        if self.has_general_nets() { "hidden layers" } else { widths }
    }

    /// The end of a sentence that says where all nets are: `widths` if they differ in the width
    /// alone.
    fn all_nets_are_in<'w>(&self, widths: &'w str) -> &'w str {
        if self.has_general_nets() { "`tables/summary.csv` has all nets" } else { widths }
    }

    fn max_error_by_variance(&self) -> CaptionedFigure {
        let densities: Vec<(Prior, f64)> = self
            .priors()
            .into_iter()
            .filter_map(|prior| Some((prior, prior.variance()?)))
            .collect();
        let is_normal = |prior: Prior| prior.kind() == PriorKind::Normal;
        let mut ticks: Vec<f64> = densities
            .iter()
            .filter(|(prior, _)| is_normal(*prior))
            .map(|(_, variance)| *variance)
            .collect();
        ticks.sort_by(f64::total_cmp);
        let axis = Axis::log("variance of the prior");
        let axis = if ticks.is_empty() { axis } else { axis.ticks(ticks) };
        let kinds: BTreeSet<PriorKind> = densities.iter().map(|(prior, _)| prior.kind()).collect();
        let line = |method: Method, style: usize, hidden: Hidden, kind: PriorKind| -> FigureLine {
            let (mark, label, shift) = match kind {
                PriorKind::Normal => (Mark::Points, format!("h = {hidden}"), 0.0),
                kind => (Mark::Hollow, format!("h = {hidden}, {kind}"), 5.0),
            };
            let facets = vec![("hidden", hidden.to_string()), ("method", method.name())];
            let series = Series { label, facets, style, mark, shift, ..Series::default() };
            self.line_against(series, Metric::MaxError, |group| {
                let is_shown =
                    group.hidden == hidden && group.method == method && group.prior.kind() == kind;
                group.prior.variance().filter(|_| is_shown)
            })
        };
        let panel = |&method: &Method| PanelLines {
            title: method.title(),
            x: axis.clone(),
            y: Axis::log(MAX_ERROR),
            lines: self
                .hiddens()
                .into_iter()
                .enumerate()
                .flat_map(|(i, hidden)| kinds.iter().map(move |&kind| (i, hidden, kind)))
                .map(|(i, hidden, kind)| line(method, i, hidden, kind))
                .filter(|line| !line.groups.is_empty())
                .collect(),
        };
        let panels: Vec<PanelLines> = self.methods().iter().map(panel).collect();
        let mut content = format!(
            "Largest test error on the curve by the variance of the normal prior and the {}, one \
             panel per method. A smaller variance is a more informative prior.",
            self.kind_of_nets("number of hidden neurons")
        );
        let others: Vec<String> = densities
            .iter()
            .filter(|(prior, _)| !is_normal(*prior))
            .map(|(prior, variance)| format!("{prior} at {}", rounded(*variance)))
            .collect();
        if !others.is_empty() {
            content += &format!(
                " Hollow markers, shifted to the right, are other priors at the variance of their \
                 weights ({}).",
                others.join(", ")
            );
        }
        let values = peaks(&panels);
        let texts = Texts {
            title: "Largest error on the curve by the prior's variance".to_owned(),
            message: join([
                spread_of("The largest error on the curve", " %", &values),
                by_variance(&values),
            ]),
            content,
            reason: format!(
                "The other priors have no variance; {}.",
                self.all_nets_are_in("`max-error-by-width` shows every prior")
            ),
        };
        CaptionedFigure::new(self, texts, columns(panels.len()), panels)
    }
}

/// The mean over nets by epoch; the band is the range over nets.
fn over_nets(errors: impl Iterator<Item = (i64, f64)>) -> Series {
    let mut epochs: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (epoch, error) in errors.filter(|(_, error)| error.is_finite()) {
        epochs.entry(epoch).or_default().push(error);
    }
    let mean = |errors: &Vec<f64>| errors.iter().fold(0.0, |sum, x| sum + x) / errors.len() as f64;
    let range = |errors: &Vec<f64>| {
        let ends = errors
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (x.min(low), x.max(high)));
        (errors.len() > 1).then_some(ends)
    };
    Series {
        points: epochs.iter().map(|(&epoch, errors)| (epoch as f64, mean(errors))).collect(),
        band: epochs.values().map(range).collect(),
        ..Series::default()
    }
}

/// A number with three significant digits.
fn rounded(x: f64) -> String {
    let decimals = (2.0 - libm::floor(libm::log10(x))).clamp(0.0, 12.0) as usize;
    let text = format!("{x:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_band_of_a_training_curve_is_the_range_over_nets() {
        let series = over_nets([(1, 4.0), (1, 8.0), (2, 3.0), (2, f64::NAN)].into_iter());
        assert_eq!(series.points, [(1.0, 6.0), (2.0, 3.0)]);
        assert_eq!(series.band, [Some((4.0, 8.0)), None]);
    }

    #[test]
    fn numbers_are_rounded_to_three_significant_digits() {
        assert_eq!(
            [0.0098, 0.123_45, 12.34, 1234.5, 2e-6].map(rounded),
            ["0.0098", "0.123", "12.3", "1234", "0.000002"]
        );
    }
}
