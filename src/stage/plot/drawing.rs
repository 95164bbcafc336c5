//! How the study's figures are composed: lines and panels, their styles, and the caption.
//!
//! A figure shows every prior, width and method of the run, or its caption lists what is left out:
//! [`CaptionedFigure::new`] compares the figure's lines with the run.

use super::captions::{NO_DATA, averages, intervals, join, not_above_zero, segments};
use super::results::Results;
use crate::report::axis::Axis;
use crate::report::figure::{Figure, Mark, Panel, Series};
use crate::stage::rows::{CurveGroup, GroupMean, Metric, Quantity, is_plain};
use crate::study::curve::Method;
use crate::study::data::Split;
use crate::study::net::{Hidden, Prior};
use std::collections::BTreeSet;

/// A figure with its title and caption.
pub(super) struct CaptionedFigure {
    pub(super) title: String,
    /// What to see in the figure: one or two sentences.
    pub(super) message: String,
    pub(super) caption: String,
    pub(super) figure: Figure,
}

/// A line of a figure, and the results that it shows.
pub(super) struct FigureLine {
    pub(super) groups: Vec<CurveGroup>,
    /// The mean at each point.
    pub(super) means: Vec<GroupMean>,
    /// The line itself, and series that belong to it.
    pub(super) series: Vec<Series>,
}

/// A point of a line.
pub(super) struct LinePoint {
    pub(super) x: f64,
    /// The curves that it is about, if it is about curves.
    pub(super) group: Option<CurveGroup>,
    pub(super) mean: GroupMean,
    /// The values of all pairs.
    pub(super) values: Vec<f64>,
}

impl FigureLine {
    /// The line of `points` in any order. Where a mean has no interval, each pair is a dot.
    pub(super) fn of_points(series: Series, mut points: Vec<LinePoint>) -> FigureLine {
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let is_single = |point: &&LinePoint| point.mean.interval.is_none() && point.mean.count > 1;
        let single = points.iter().filter(is_single);
        let single = single.flat_map(|point| point.values.iter().map(|value| (point.x, *value)));
        let dots = Series {
            mark: Mark::Dots,
            points: single.collect(),
            note: "single pair".to_owned(),
            ..series.clone()
        };
        let series = Series {
            points: points.iter().map(|point| (point.x, point.mean.mean)).collect(),
            band: points.iter().map(|point| ends(&point.mean)).collect(),
            ..series
        };
        FigureLine {
            groups: points.iter().filter_map(|point| point.group).collect(),
            means: points.into_iter().map(|point| point.mean).collect(),
            series: vec![dots, series],
        }
    }

    /// Whether its points are those of a curve between nets.
    pub(super) fn is_curve(&self) -> bool {
        self.series.iter().all(|series| series.mark == Mark::Curve)
    }
}

/// The lines of a panel.
pub(super) struct PanelLines {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<FigureLine>,
}

/// The texts of a figure.
pub(super) struct Texts {
    pub(super) title: String,
    /// What to see.
    pub(super) message: String,
    /// The beginning of the caption.
    pub(super) content: String,
    /// Why the figure does not show the whole run, if it does not.
    pub(super) reason: String,
}

/// The maximum number of bands in a panel; more would hide each other.
pub(super) const MAX_BANDS: usize = 6;

/// The offset to a style with the same colour and another dash.
pub(super) const DOTTED: usize = 14;

impl Results {
    /// A line of a quantity along a group's curves.
    pub(super) fn line_along(
        &self,
        label: &str,
        style: usize,
        split: Split,
        quantity: Quantity,
        group: CurveGroup,
    ) -> FigureLine {
        let points = self.along.get(&(group, split, quantity)).map_or(&[][..], Vec::as_slice);
        let series = Series {
            label: label.to_owned(),
            facets: facets(group).into(),
            style,
            points: points.iter().map(|(t, mean)| (*t, mean.mean)).collect(),
            band: points.iter().map(|(_, mean)| ends(mean)).collect(),
            ..Series::default()
        };
        FigureLine {
            groups: vec![group],
            means: points.iter().map(|(_, mean)| mean.clone()).collect(),
            series: vec![series],
        }
    }

    /// A line of a metric against `x` of the groups, skipping groups without `x`. Where a mean has
    /// no interval, each pair is a dot.
    pub(super) fn line_against(
        &self,
        series: Series,
        metric: Metric,
        x: impl Fn(CurveGroup) -> Option<f64>,
    ) -> FigureLine {
        let summaries = self.summaries.iter().filter(|((_, of), _)| *of == metric);
        let points = summaries.filter_map(|((group, _), summary)| {
            let values = self.values(*group, metric).collect();
            let mean = summary.mean.clone();
            Some(LinePoint { x: x(*group)?, group: Some(*group), mean, values })
        });
        FigureLine::of_points(series, points.collect())
    }

    /// Lists the parts of the run that no line shows, followed by `reason`.
    fn left_out(&self, lines: &[&FigureLine], reason: &str) -> String {
        let shown: BTreeSet<&CurveGroup> = lines
            .iter()
            .filter(|line| !line.means.is_empty())
            .flat_map(|line| &line.groups)
            .collect();
        let hiddens: Vec<Hidden> = self
            .hiddens()
            .into_iter()
            .filter(|&hidden| shown.iter().all(|group| group.hidden != hidden))
            .collect();
        let widths = match hiddens.iter().all(is_plain) {
            true => ["width", "widths"],
            false => ["hidden layers"; 2],
        };
        let priors =
            self.priors().into_iter().filter(|&p| shown.iter().all(|group| group.prior != p));
        let methods =
            self.methods().into_iter().filter(|&m| shown.iter().all(|group| group.method != m));
        let axes: [([&str; 2], Vec<String>); 3] = [
            (widths, hiddens.iter().map(Hidden::to_string).collect()),
            (["prior", "priors"], priors.map(|prior| prior.to_string()).collect()),
            (["method", "methods"], methods.map(Method::title).collect()),
        ];
        let listed: Vec<String> = axes
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|([one, several], values)| {
                format!("{} {}", if values.len() == 1 { one } else { several }, values.join(", "))
            })
            .collect();
        if listed.is_empty() {
            let widths = if self.has_general_nets() { "hidden layers" } else { "widths" };
            return format!("All {widths}, priors and methods of the run are shown.");
        }
        join([format!("Left out: {}.", listed.join("; ")), reason.to_owned()])
    }
}

impl CaptionedFigure {
    /// The figure of a run without curves.
    pub(super) fn without_data(title: &str) -> CaptionedFigure {
        CaptionedFigure {
            title: title.to_owned(),
            message: String::new(),
            caption: NO_DATA.to_owned(),
            figure: figure(1, Vec::new()),
        }
    }

    /// The figure of `panels` with these texts.
    pub(super) fn new(
        results: &Results,
        texts: Texts,
        columns: usize,
        panels: Vec<PanelLines>,
    ) -> CaptionedFigure {
        let lines: Vec<&FigureLine> = panels.iter().flat_map(|panel| &panel.lines).collect();
        let means: Vec<&GroupMean> = lines.iter().flat_map(|line| &line.means).collect();
        let curves = |panel: &PanelLines| panel.lines.iter().filter(|l| l.is_curve()).count();
        let crowded = panels.iter().any(|panel| curves(panel) > MAX_BANDS);
        let kinds =
            (lines.iter().any(|line| line.is_curve()), lines.iter().any(|line| !line.is_curve()));
        let along = lines.iter().filter(|line| line.is_curve()).flat_map(|line| &line.groups);
        let along = segments(along);
        let sentences = [texts.content, along, averages(&means), intervals(&means, kinds, crowded)];
        let left_out = results.left_out(&lines, &texts.reason);
        let panel = |PanelLines { title, x, y, lines }: PanelLines| {
            let series = lines
                .into_iter()
                .flat_map(|line| line.series)
                .filter(|series| !series.points.is_empty());
            Panel { title, x, y, series: series.collect(), ..Panel::default() }
        };
        let mut panels: Vec<Panel> = panels.into_iter().map(panel).collect();
        if crowded {
            remove_bands(&mut panels);
        }
        let hidden = not_above_zero(&panels);
        CaptionedFigure {
            title: texts.title,
            message: texts.message,
            caption: join(sentences.into_iter().chain([hidden, left_out])),
            figure: figure(columns, panels),
        }
    }
}

/// The figure of `panels`; a single empty one if there are no data.
pub(super) fn figure(columns: usize, panels: Vec<Panel>) -> Figure {
    if panels.iter().all(|panel| panel.series.is_empty()) {
        return Figure { panels: vec![Panel::default()], ..Figure::default() };
    }
    Figure { title: String::new(), columns, panels }
}

/// The number of columns for a number of panels.
pub(super) fn columns(panels: usize) -> usize {
    match panels {
        0 | 1 => 1,
        2 | 4 => 2,
        _ => 3,
    }
}

pub(super) fn axis_of_t() -> Axis {
    Axis::linear("t along the curve").range(0.0, 1.0)
}

/// The axis of the width of nets, with room for many markers that are shifted apart.
pub(super) fn axis_of_width(numbers: Vec<f64>) -> Axis {
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(0.0, f64::max);
    let room = libm::pow(most / least, 0.1).max(1.2);
    Axis::log("hidden neurons").range(least / room, most * room).ticks(numbers)
}

/// The axis of the number of hidden layers.
pub(super) fn axis_of_depth(numbers: Vec<f64>) -> Axis {
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Axis::linear("hidden layers").range(least - 0.25, most + 0.25).ticks(numbers)
}

pub(super) fn prior_title(prior: Prior) -> String {
    format!("prior: {prior}")
}

/// Follows the title of a panel of nets with biases.
pub(super) fn with_biases(biases: bool) -> &'static str {
    if biases { ", with biases" } else { "" }
}

/// The values that all points of a group's curves share.
fn facets(group: CurveGroup) -> [(&'static str, String); 3] {
    let CurveGroup { hidden, prior, method } = group;
    [("hidden", hidden.to_string()), ("prior", prior.to_string()), ("method", method.name())]
}

/// The ends of a mean's interval.
pub(super) fn ends(mean: &GroupMean) -> Option<(f64, f64)> {
    mean.interval.map(|interval| (interval.low, interval.high))
}

pub(super) fn remove_bands(panels: &mut [Panel]) {
    panels.iter_mut().flat_map(|panel| &mut panel.series).for_each(|series| series.band.clear());
}

/// Pixels by which the marker of line `i` of `lines` is shifted, so that markers at one width do
/// not hide each other.
pub(super) fn marker_shift(i: usize, lines: usize) -> f64 {
    /// Between neighbours.
    const NEIGHBOURS: f64 = 2.0;
    /// Between the first and the last one, at most.
    const ENDS: f64 = 18.0;
    let gaps = lines.saturating_sub(1) as f64;
    NEIGHBOURS.min(ENDS / gaps.max(1.0)) * (i as f64 - 0.5 * gaps)
}

/// A style for each method: the dash shows its base curve, the colour the changes to it.
/// A method whose style is taken gets the next free one.
pub(super) fn styles(methods: &[Method]) -> Vec<usize> {
    fn index<T: PartialEq>(seen: &mut Vec<T>, value: T) -> usize {
        seen.iter().position(|known| *known == value).unwrap_or_else(|| {
            seen.push(value);
            seen.len() - 1
        })
    }
    let (mut bases, mut treatments) = (Vec::new(), Vec::new());
    let mut styles: Vec<usize> = Vec::new();
    for method in methods {
        let base = index(&mut bases, method.base());
        let treatment =
            index(&mut treatments, (method.alignment, method.repair, method.adjustment));
        let wanted = 7 * base + treatment % 7;
        let free = (0..28).map(|next| (wanted + next) % 28).find(|style| !styles.contains(style));
        styles.push(free.unwrap_or(wanted));
    }
    styles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_share_a_dash_by_base_and_a_colour_by_treatment() {
        let names = [
            "linear",
            "arc",
            "linear+ot",
            "arc+ot",
            "rho-arc",
            "linear+ot:incoming+wa",
            "rho-arc+ot",
        ];
        let methods = names.map(|name| name.parse().expect("a method"));
        assert_eq!(styles(&methods), [0, 7, 1, 8, 14, 2, 15]);
    }

    #[test]
    fn no_two_of_28_methods_have_the_same_style() {
        let methods: Vec<Method> = Method::all().collect();
        for methods in methods.windows(28) {
            assert_eq!(styles(methods).into_iter().collect::<BTreeSet<_>>().len(), 28);
        }
    }
}
