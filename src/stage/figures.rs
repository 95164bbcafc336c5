//! What each figure of the study shows, and the caption that says so.
//!
//! A figure shows every prior, width and method of the run, or its caption names what it leaves
//! out: [`Drawn::new`] compares the lines of the figure with the run, so that no figure states by
//! hand what it holds. How a figure looks is the business of `report::figure`.

use super::captions::{NOTHING, averaged, intervals, not_above_zero, of_wa, sentences};
use super::tables::Mean;
use super::talk::{Published, ordered, title};
use crate::report::axis::Axis;
use crate::report::figure::{Figure, Mark, Panel, Series};
use std::collections::{BTreeMap, BTreeSet};

/// The nets of one width and prior, and the method of the curve between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) hidden: i64,
    pub(super) prior: String,
    pub(super) method: String,
}

/// One epoch of one net's training; NaN where there is no such split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    pub(super) epoch: i64,
    pub(super) train_error: f64,
    pub(super) validation_error: f64,
}

/// A run's numbers, as figures need them.
#[derive(Default)]
pub(super) struct Study {
    /// Empty where the data are not those of the talk.
    pub(super) published: Vec<Published>,
    /// Means at each t, by case, split and quantity; ascending in t.
    pub(super) along: BTreeMap<(Case, String, String), Vec<(f64, Mean)>>,
    /// Means of a metric of whole curves on the test split, by case and metric.
    pub(super) metrics: BTreeMap<(Case, String), Mean>,
    /// The same, pair by pair.
    pub(super) pairs: BTreeMap<(Case, String), Vec<f64>>,
    /// Every epoch of every net, by width and prior.
    pub(super) training: BTreeMap<(i64, String), Vec<Epoch>>,
}

/// A figure with its words.
pub(super) struct Drawn {
    pub(super) title: String,
    pub(super) caption: String,
    pub(super) figure: Figure,
}

/// A line of a figure, and what of the run it shows.
struct Line {
    cases: Vec<Case>,
    /// The mean at each point.
    means: Vec<Mean>,
    /// The line itself, and what belongs to it.
    series: Vec<Series>,
}

impl Line {
    /// Whether it goes along curves between nets, and not over widths or variances.
    fn is_curve(&self) -> bool {
        self.series.iter().all(|series| series.mark == Mark::Curve)
    }
}

/// A panel before its lines are compared with the run.
struct View {
    title: String,
    x: Axis,
    y: Axis,
    lines: Vec<Line>,
}

const ALONG: &str = "t along the curve";
const NEURONS: &str = "hidden neurons";
const MAX_ERROR: &str = "largest test error on the curve, %";

/// The width and the methods that the talk's figures show.
const TALK_NARROW: i64 = 50;
const TALK_WIDE: i64 = 1000;
const TALK_ALONG: [&str; 4] = ["linear", "arc", "linear+ot", "arc+ot"];

/// Pixels between the markers of neighbouring methods at one width.
const APART: f64 = 2.0;

/// Bands of more lines than these hide each other.
const MOST_BANDS: usize = 6;

/// A style with the same colour and another dash, for the second split of the same thing.
const TWIN: usize = 14;

impl Study {
    fn cases(&self) -> impl Iterator<Item = &Case> {
        self.pairs.keys().map(|(case, _)| case)
    }

    fn widths(&self) -> Vec<i64> {
        self.cases().map(|case| case.hidden).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn priors(&self) -> Vec<String> {
        by_strength(self.cases().map(|case| case.prior.clone()))
    }

    fn methods(&self) -> Vec<String> {
        ordered(self.cases().map(|case| case.method.clone()))
    }

    /// The width nearest to `wanted`, on a log scale; the study may not have that one.
    fn nearest_width(&self, wanted: i64) -> i64 {
        let distance = |width: i64| libm::fabs(libm::log(width as f64 / wanted as f64));
        self.widths()
            .into_iter()
            .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
            .unwrap_or(wanted)
    }

    /// Those of `wanted` that the run has; if it has none, as many of its own.
    fn methods_of(&self, wanted: &[&str]) -> Vec<String> {
        let methods = self.methods();
        let (there, others): (Vec<_>, Vec<_>) =
            methods.into_iter().partition(|method| wanted.contains(&method.as_str()));
        if there.is_empty() { others.into_iter().take(wanted.len()).collect() } else { there }
    }

    /// A quantity along the curve.
    fn along(&self, label: &str, style: usize, split: &str, quantity: &str, case: Case) -> Line {
        let key = (case, split.to_owned(), quantity.to_owned());
        let points = self.along.get(&key).map_or(&[][..], Vec::as_slice);
        let series = Series {
            label: label.to_owned(),
            style,
            points: points.iter().map(|(t, mean)| (*t, mean.mean)).collect(),
            band: points.iter().map(|(_, mean)| ends(mean)).collect(),
            ..Series::default()
        };
        Line {
            cases: vec![key.0],
            means: points.iter().map(|(_, mean)| mean.clone()).collect(),
            series: vec![series],
        }
    }

    /// A metric of whole curves against `x` of their cases, of those that have one. Where a mean
    /// has no interval, each pair is a dot.
    fn against(&self, look: Series, metric: &str, x: impl Fn(&Case) -> Option<f64>) -> Line {
        let cells = self.metrics.iter().filter(|((_, name), _)| name == metric);
        let mut cells: Vec<(f64, &Case, &Mean)> =
            cells.filter_map(|((case, _), mean)| Some((x(case)?, case, mean))).collect();
        cells.sort_by(|a, b| a.0.total_cmp(&b.0));
        let alone = cells.iter().filter(|(.., mean)| mean.interval.is_none() && mean.count > 1);
        let single = alone.flat_map(|(x, case, _)| {
            let values =
                self.pairs.get(&((*case).clone(), metric.to_owned())).into_iter().flatten();
            values.map(|&y| (*x, y))
        });
        let dots = Series {
            mark: Mark::Dots,
            points: single.collect(),
            label: String::new(),
            ..look.clone()
        };
        let series = Series {
            points: cells.iter().map(|(x, _, mean)| (*x, mean.mean)).collect(),
            band: cells.iter().map(|(.., mean)| ends(mean)).collect(),
            ..look
        };
        Line {
            cases: cells.iter().map(|(_, case, _)| (*case).clone()).collect(),
            means: cells.iter().map(|(.., mean)| (*mean).clone()).collect(),
            series: vec![dots, series],
        }
    }

    /// Training, epoch by epoch.
    pub(super) fn training(&self) -> Drawn {
        let (widths, priors) = (
            self.training.keys().map(|(hidden, _)| *hidden).collect::<BTreeSet<_>>(),
            by_strength(self.training.keys().map(|(_, prior)| prior.clone())),
        );
        let nets = |hidden: i64, prior: &String| {
            self.training.get(&(hidden, prior.clone())).into_iter().flatten()
        };
        type ErrorOf = fn(&Epoch) -> f64;
        let train: ErrorOf = |epoch| epoch.train_error;
        let validation: ErrorOf = |epoch| epoch.validation_error;
        let splits = [("train", 0, train), ("validation", TWIN, validation)];
        let panel = |prior: &String| {
            let mut series = Vec::new();
            for (i, &hidden) in widths.iter().enumerate() {
                for (split, twin, error) in splits {
                    let label = format!("h = {hidden}, {split}");
                    series.push(over_nets(
                        label,
                        i + twin,
                        nets(hidden, prior).map(|e| (e.epoch, error(e))),
                    ));
                }
            }
            series.retain(|series| !series.points.is_empty());
            let (x, y) = (Axis::linear("epoch"), Axis::log("error, %"));
            Panel { title: of_prior(prior), x, y, series, ..Panel::default() }
        };
        let mut panels: Vec<Panel> = priors.iter().map(panel).collect();
        let crowded = panels.iter().any(|panel| panel.series.len() > MOST_BANDS);
        if crowded {
            without_bands(&mut panels);
        }
        let validated =
            self.training.values().flatten().any(|epoch| epoch.validation_error.is_finite());
        let validation = match validated {
            true => "The validation error, dotted, is taken after the epoch.",
            false => "The run has no validation split.",
        };
        let hidden = not_above_zero(&panels);
        Drawn {
            title: "Training, by width and prior".to_owned(),
            caption: sentences([
                "Error by epoch, by number of hidden neurons, a panel for each prior: the mean over the nets. The train \
                 error is that of each batch as training meets it, dropped units included."
                    .to_owned(),
                validation.to_owned(),
                if crowded { "" } else { "The bands go from the lowest to the highest net." }.to_owned(),
                hidden,
                if panels.is_empty() { NOTHING } else { "Shows every prior and width of the run." }.to_owned(),
            ]),
            figure: figure(columns(panels.len()), panels),
        }
    }

    pub(super) fn error_by_method(&self) -> Drawn {
        let hidden = self.nearest_width(TALK_NARROW);
        let methods = self.methods();
        let line = |prior: &String, method: &String, style: usize| {
            self.along(&title(method), style, "test", "error", Case::new(hidden, prior, method))
        };
        let view = |prior: &String| View {
            title: of_prior(prior),
            x: along_axis(),
            y: Axis::log("test error, %"),
            lines: methods
                .iter()
                .zip(styles(&methods))
                .map(|(method, style)| line(prior, method, style))
                .collect(),
        };
        Drawn::new(
            self,
            format!("Error along the curve by method, h = {hidden}"),
            format!(
                "Test error along the curve between two nets of {hidden} hidden neurons, a panel for each prior. After OT \
                 the curve ends at the permuted net, the same function."
            ),
            "It is of one width, the nearest to the talk's h = 50; `max-error-by-width` shows all",
            columns(self.priors().len()),
            self.priors().iter().map(view).collect(),
        )
    }

    /// Each method on both splits, for what a net has learned by heart.
    pub(super) fn error_by_split(&self) -> Drawn {
        let hidden = self.nearest_width(TALK_NARROW);
        let priors = self.priors();
        let view = |method: &String| View {
            title: title(method),
            x: along_axis(),
            y: Axis::log("error, %"),
            lines: priors
                .iter()
                .enumerate()
                .flat_map(|(i, prior)| {
                    [("test", 0), ("train", TWIN)].map(|(split, twin)| {
                        let label = format!("{prior}, {split}");
                        self.along(
                            &label,
                            i + twin,
                            split,
                            "error",
                            Case::new(hidden, prior, method),
                        )
                    })
                })
                .collect(),
        };
        let views: Vec<View> = self.methods().iter().map(view).collect();
        Drawn::new(
            self,
            format!("Error along the curve on train and test images, h = {hidden}"),
            format!(
                "Error along the curve between two nets of {hidden} hidden neurons on the images that the nets were trained \
                 on, dotted, and on the test images, by prior, a panel for each method."
            ),
            "It is of one width, the nearest to the talk's h = 50; `tables/summary.csv` has both splits of all",
            columns(views.len()),
            views,
        )
    }

    pub(super) fn normalised_error_by_prior(&self) -> Drawn {
        let view = |(method, hidden): (&String, i64)| View {
            title: format!("{}, h = {hidden}", title(method)),
            x: along_axis(),
            y: Axis::linear("normalised test error"),
            lines: self
                .priors()
                .iter()
                .enumerate()
                .map(|(i, prior)| {
                    self.along(prior, i, "test", "normalised", Case::new(hidden, prior, method))
                })
                .collect(),
        };
        let widths = [self.nearest_width(TALK_NARROW), self.nearest_width(TALK_WIDE)];
        let methods = self.methods_of(&["arc", "arc+ot"]);
        let mut views: Vec<View> = methods.iter().zip(widths).map(view).collect();
        if let [only] = &methods[..] {
            views.push(view((only, widths[1])));
        }
        Drawn::new(
            self,
            "Normalised error along the curve by prior".to_owned(),
            "Normalised test error (E(t) - E_end) / (E_lin_max - E_end) by prior: E_end is the mean error of the two ends, \
             E_lin_max the largest error on the straight line of the same pair, width and prior."
                .to_owned(),
            "The talk shows Arc at h = 50 and OT + Arc at h = 1000; these are the nearest of this run",
            2,
            views,
        )
    }

    pub(super) fn error_by_width(&self) -> Drawn {
        let methods = self.methods_of(&TALK_ALONG);
        let view = |prior: &String, method: &String| View {
            title: format!("{}, {prior}", title(method)),
            x: along_axis(),
            y: Axis::log("test error, %"),
            lines: self
                .widths()
                .into_iter()
                .enumerate()
                .map(|(i, hidden)| {
                    self.along(
                        &format!("h = {hidden}"),
                        i,
                        "test",
                        "error",
                        Case::new(hidden, prior, method),
                    )
                })
                .collect(),
        };
        let priors = self.priors();
        let views =
            priors.iter().flat_map(|prior| methods.iter().map(move |method| view(prior, method)));
        Drawn::new(
            self,
            "Error along the curve by width".to_owned(),
            "Test error along the curve by number of hidden neurons, a row for each prior and a column for each method."
                .to_owned(),
            "It shows the methods of the talk's figure; `max-error-by-width` shows all",
            methods.len(),
            views.collect(),
        )
    }

    pub(super) fn max_error_by_width(&self) -> Drawn {
        let drawn = self.by_width(
            "Largest error on the curve by width",
            "Largest test error on the curve by number of hidden neurons, a panel for each prior.",
            "max_error",
            MAX_ERROR,
        );
        let hollow = "Hollow markers are the talk's published numbers for MNIST.";
        let some = drawn
            .figure
            .panels
            .iter()
            .flat_map(|panel| &panel.series)
            .any(|s| s.mark == Mark::Hollow);
        Drawn {
            caption: if some {
                sentences([drawn.caption, hollow.to_owned()])
            } else {
                drawn.caption
            },
            ..drawn
        }
    }

    pub(super) fn loss_barrier_by_width(&self) -> Drawn {
        self.by_width(
            "Barrier of the loss by width",
            "Barrier of the test loss by number of hidden neurons, a panel for each prior: the most that the loss L(t) on the \
             curve exceeds (1 - t) L_A + t L_B, the straight line between the losses of its ends.",
            "barrier_loss",
            "barrier of the loss, nats",
        )
    }

    pub(super) fn error_barrier_by_width(&self) -> Drawn {
        self.by_width(
            "Barrier of the error by width",
            "Barrier of the test error by number of hidden neurons, a panel for each prior: the most that the error E(t) on \
             the curve exceeds (1 - t) E_A + t E_B, the straight line between the errors of its ends, in points.",
            "barrier_error",
            "barrier of the error, points",
        )
    }

    /// A metric of whole curves by width, every method in a panel for each prior.
    fn by_width(&self, title_: &str, what: &str, metric: &str, label: &str) -> Drawn {
        let widths: Vec<f64> = self.widths().into_iter().map(|h| h as f64).collect();
        let methods = self.methods();
        let styles = styles(&methods);
        let line = |prior: &String, i: usize| {
            let (method, style) = (&methods[i], styles[i]);
            let shift = APART * (i as f64 - 0.5 * (methods.len() - 1) as f64);
            let look = Series {
                label: title(method),
                style,
                mark: Mark::Points,
                shift,
                ..Series::default()
            };
            let hidden = |case: &Case| {
                (case.prior == *prior && case.method == *method).then_some(case.hidden as f64)
            };
            let mut line = self.against(look.clone(), metric, hidden);
            if metric == "max_error" {
                let cells = self
                    .published
                    .iter()
                    .filter(|cell| cell.prior == *prior && cell.method == *method);
                let points = cells.map(|cell| (cell.hidden as f64, cell.max_error));
                let points: Vec<_> = points.filter(|(hidden, _)| widths.contains(hidden)).collect();
                if !points.is_empty() {
                    line.series.push(Series {
                        label: String::new(),
                        mark: Mark::Hollow,
                        points,
                        ..look
                    });
                }
            }
            line
        };
        let view = |prior: &String| View {
            title: of_prior(prior),
            x: Axis::log(NEURONS).ticks(widths.clone()),
            y: Axis::log(label),
            lines: (0..methods.len()).map(|i| line(prior, i)).collect(),
        };
        let views: Vec<View> = self.priors().iter().map(view).collect();
        let what = format!("{what} Methods stand a little apart, so that none hides another.");
        Drawn::new(self, title_.to_owned(), what, "", columns(views.len()), views)
    }

    pub(super) fn max_error_by_variance(&self) -> Drawn {
        let (mut normal, mut laplace) = (Vec::new(), Vec::new());
        for prior in self.priors() {
            match Variance::of(&prior) {
                Some(Variance::Normal(variance)) => normal.push(variance),
                Some(Variance::Laplace(variance)) => {
                    laplace.push(format!("{prior} at {}", rounded(variance)));
                }
                None => {}
            }
        }
        normal.sort_by(f64::total_cmp);
        let axis = Axis::log("variance of the prior");
        let axis = if normal.is_empty() { axis } else { axis.ticks(normal) };
        let line = |method: &String, i: usize, hidden: i64, of_laplace: bool| {
            let x = |case: &Case| match Variance::of(&case.prior)? {
                Variance::Normal(variance) if !of_laplace => Some(variance),
                Variance::Laplace(variance) if of_laplace => Some(variance),
                _ => None,
            };
            let x =
                |case: &Case| x(case).filter(|_| case.hidden == hidden && case.method == *method);
            let (mark, label) = match of_laplace {
                true => (Mark::Hollow, format!("h = {hidden}, Laplace")),
                false => (Mark::Points, format!("h = {hidden}")),
            };
            let shift = if of_laplace { 5.0 } else { 0.0 };
            self.against(
                Series { label, style: i, mark, shift, ..Series::default() },
                "max_error",
                x,
            )
        };
        let view = |method: &String| View {
            title: title(method),
            x: axis.clone(),
            y: Axis::log(MAX_ERROR),
            lines: self
                .widths()
                .into_iter()
                .enumerate()
                .flat_map(|(i, hidden)| {
                    [false, true].map(|of_laplace| line(method, i, hidden, of_laplace))
                })
                .filter(|line| !line.cases.is_empty())
                .collect(),
        };
        let views: Vec<View> = self.methods().iter().map(view).collect();
        let mut what =
            "Largest test error on the curve by the variance of the normal prior, by number of hidden neurons, a \
                        panel for each method; a smaller variance is a more informative prior."
                .to_owned();
        if !laplace.is_empty() {
            what += &format!(
                " Hollow markers: a Laplace prior of scale b, at the variance 2 b² of the normal prior that it is matched to \
                 ({}), a little to the right.",
                laplace.join(", ")
            );
        }
        Drawn::new(
            self,
            "Largest error on the curve by the prior's variance".to_owned(),
            what,
            "Only a density of the weights has a variance; `max-error-by-width` shows every prior",
            columns(views.len()),
            views,
        )
    }
}

impl Drawn {
    /// `why` is said of what the figure leaves out, if that is anything.
    fn new(
        study: &Study,
        title_: String,
        what: String,
        why: &str,
        columns: usize,
        views: Vec<View>,
    ) -> Drawn {
        let lines: Vec<&Line> = views.iter().flat_map(|view| &view.lines).collect();
        let means: Vec<&Mean> = lines.iter().flat_map(|line| &line.means).collect();
        let curves = lines.iter().all(|line| line.is_curve());
        let crowded = curves && views.iter().any(|view| view.lines.len() > MOST_BANDS);
        let along = lines.iter().filter(|line| line.is_curve()).flat_map(|line| &line.cases);
        let along = along.map(|case| case.method.as_str());
        let words = [what, of_wa(along), averaged(&means), intervals(&means, curves, crowded)];
        let left_out = study.left_out(&lines, why);
        let panel = |View { title, x, y, lines }: View| {
            let series = lines
                .into_iter()
                .flat_map(|line| line.series)
                .filter(|series| !series.points.is_empty());
            Panel { title, x, y, series: series.collect(), ..Panel::default() }
        };
        let mut panels: Vec<Panel> = views.into_iter().map(panel).collect();
        if crowded {
            without_bands(&mut panels);
        }
        let hidden = not_above_zero(&panels);
        let figure = figure(columns, panels);
        Drawn {
            title: title_,
            caption: sentences(words.into_iter().chain([hidden, left_out])),
            figure,
        }
    }
}

impl Study {
    /// What of the run no line shows, and why.
    fn left_out(&self, lines: &[&Line], why: &str) -> String {
        let shown: BTreeSet<&Case> = lines
            .iter()
            .filter(|line| !line.means.is_empty())
            .flat_map(|line| &line.cases)
            .collect();
        let widths =
            self.widths().into_iter().filter(|&h| shown.iter().all(|case| case.hidden != h));
        let priors =
            self.priors().into_iter().filter(|prior| shown.iter().all(|case| case.prior != *prior));
        let methods = self
            .methods()
            .into_iter()
            .filter(|method| shown.iter().all(|case| case.method != *method));
        let axes = [
            ("the width", widths.map(|h| h.to_string()).collect::<Vec<_>>()),
            ("the prior", priors.collect()),
            ("the method", methods.map(|method| title(&method)).collect()),
        ];
        let named: Vec<String> = axes
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(axis, values)| {
                format!("{axis}{} {}", if values.len() == 1 { "" } else { "s" }, values.join(", "))
            })
            .collect();
        if named.is_empty() {
            return "Shows every width, prior and method of the run.".to_owned();
        }
        sentences([
            format!("Left out: {}.", named.join("; ")),
            if why.is_empty() { String::new() } else { format!("{why}.") },
        ])
    }
}

impl Case {
    fn new(hidden: i64, prior: &str, method: &str) -> Case {
        Case { hidden, prior: prior.to_owned(), method: method.to_owned() }
    }
}

/// The variance of a weight under a prior, for priors that are densities of the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Variance {
    Normal(f64),
    /// 2 b² for the scale b.
    Laplace(f64),
}

impl Variance {
    fn of(prior: &str) -> Option<Variance> {
        let (kind, value) = prior.split_once(' ')?;
        let value: f64 = value.parse().ok()?;
        match kind {
            "normal" => Some(Variance::Normal(value)),
            "laplace" => Some(Variance::Laplace(2.0 * value * value)),
            _ => None,
        }
    }
}

/// The mean over nets by epoch, with a band from the lowest to the highest net.
fn over_nets(label: String, style: usize, errors: impl Iterator<Item = (i64, f64)>) -> Series {
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
        label,
        style,
        points: epochs.iter().map(|(&epoch, errors)| (epoch as f64, mean(errors))).collect(),
        band: epochs.values().map(range).collect(),
        ..Series::default()
    }
}

/// The same style for a method in every figure of a run: colour by what is done to the net at the
/// end, dash by the base curve. What would look like another method takes the next style that is
/// free.
fn styles(methods: &[String]) -> Vec<usize> {
    fn place<'a>(seen: &mut Vec<&'a str>, part: &'a str) -> usize {
        seen.iter().position(|known| *known == part).unwrap_or_else(|| {
            seen.push(part);
            seen.len() - 1
        })
    }
    let (mut bases, mut treatments) = (Vec::new(), Vec::new());
    let mut styles: Vec<usize> = Vec::new();
    for method in methods {
        let (base, treatment) = method.split_once('+').unwrap_or((method, ""));
        let wanted = 7 * place(&mut bases, base) + place(&mut treatments, treatment) % 7;
        let free = (0..28).map(|next| (wanted + next) % 28).find(|style| !styles.contains(style));
        styles.push(free.unwrap_or(wanted));
    }
    styles
}

/// The figure of `panels`; where they are all empty, one that says so is enough.
fn figure(columns: usize, panels: Vec<Panel>) -> Figure {
    if panels.iter().all(|panel| panel.series.is_empty()) {
        return Figure { panels: vec![Panel::default()], ..Figure::default() };
    }
    Figure { title: String::new(), columns, panels }
}

/// How many panels stand side by side, of `panels`.
fn columns(panels: usize) -> usize {
    match panels {
        0 | 1 => 1,
        2 | 4 => 2,
        _ => 3,
    }
}

fn along_axis() -> Axis {
    Axis::linear(ALONG).range(0.0, 1.0)
}

fn of_prior(prior: &String) -> String {
    format!("prior: {prior}")
}

/// The ends of the interval of a mean that has one.
fn ends(mean: &Mean) -> Option<(f64, f64)> {
    mean.interval.map(|interval| (interval.low, interval.high))
}

/// Takes the bands off every line.
fn without_bands(panels: &mut [Panel]) {
    panels.iter_mut().flat_map(|panel| &mut panel.series).for_each(|series| series.band.clear());
}

/// With three digits that count.
fn rounded(x: f64) -> String {
    let decimals = (2.0 - libm::floor(libm::log10(x))).clamp(0.0, 12.0) as usize;
    let text = format!("{x:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Without prior first, then by kind; within a kind from the least informative to the most.
pub(super) fn by_strength(priors: impl IntoIterator<Item = String>) -> Vec<String> {
    let unique: BTreeSet<String> = priors.into_iter().collect();
    let mut priors: Vec<String> = unique.into_iter().collect();
    let rank = |prior: &str| -> (usize, f64) {
        let (kind, value) = prior.split_once(' ').unwrap_or((prior, "0"));
        let kind = ["none", "normal", "laplace", "dropout"]
            .iter()
            .position(|known| *known == kind)
            .unwrap_or(4);
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
            ["dropout 0.5", "dropout 0.1", "normal 0.001", "none", "normal 1", "normal 0.01"]
                .map(str::to_owned);
        assert_eq!(
            by_strength(priors),
            ["none", "normal 1", "normal 0.01", "normal 0.001", "dropout 0.1", "dropout 0.5"]
        );
    }

    #[test]
    fn methods_with_the_same_base_share_a_dash_and_those_with_the_same_treatment_a_colour() {
        let methods = [
            "linear",
            "arc",
            "linear+ot",
            "arc+ot",
            "rho-arc",
            "linear+ot:incoming+wa",
            "rho-arc+ot",
        ];
        assert_eq!(styles(&methods.map(str::to_owned)), [0, 7, 1, 8, 14, 2, 15]);
    }

    #[test]
    fn no_two_methods_of_a_run_look_the_same_however_many_bases_and_treatments_there_are() {
        let bases = (0..9).map(|i| format!("arc:{i}"));
        let treated = (0..19).map(|i| format!("linear+ot:{i}"));
        let methods: Vec<String> = bases.chain(treated).collect();
        assert_eq!(styles(&methods).into_iter().collect::<BTreeSet<_>>().len(), 28);
    }

    #[test]
    fn laplace_has_the_variance_of_the_normal_prior_that_it_is_matched_to_and_dropout_has_none() {
        let Some(Variance::Laplace(variance)) = Variance::of("laplace 0.07") else {
            panic!("laplace is a density")
        };
        assert!((libm::sqrt(variance / 2.0) - 0.07).abs() < 1e-15);
        assert_eq!(rounded(variance), "0.0098");
        assert_eq!(Variance::of("normal 0.01"), Some(Variance::Normal(0.01)));
        assert_eq!(["none", "dropout 0.5"].map(Variance::of), [None, None]);
    }

    #[test]
    fn the_band_of_training_goes_from_the_lowest_to_the_highest_net_and_of_one_net_there_is_none() {
        let series =
            over_nets(String::new(), 0, [(1, 4.0), (1, 8.0), (2, 3.0), (2, f64::NAN)].into_iter());
        assert_eq!(series.points, [(1.0, 6.0), (2.0, 3.0)]);
        assert_eq!(series.band, [Some((4.0, 8.0)), None]);
    }

    #[test]
    fn numbers_are_rounded_to_three_digits_that_count() {
        assert_eq!(
            [0.0098, 0.123_45, 12.34, 1234.5, 2e-6].map(rounded),
            ["0.0098", "0.123", "12.3", "1234", "0.000002"]
        );
    }
}
