//! The figure of the critical width: how the excess error falls with the width.

use super::captions::join;
use super::drawing::{
    CaptionedFigure, FigureLine, PanelLines, Texts, axis_of_width, columns, prior_title,
    with_biases,
};
use super::messages::{Value, by_width, number, peaks, prior_phrase, spread, spread_of};
use super::results::Results;
use crate::report::axis::Axis;
use crate::report::figure::{Mark, ReferenceLine, Series};
use crate::stage::rows::{CurveGroup, Metric, NetFamily};
use crate::stage::width_law::WidthLaw;
use crate::study::curve::Method;
use crate::study::net::Prior;
use crate::study::stats::{Average, Interval};

/// The style of the guide: ink, dotted.
const GUIDE: usize = 20;

/// The exponent of the guide.
const GUIDE_EXPONENT: f64 = 0.5;

/// Pixels between the markers of neighbouring priors at one width, and between those of the first
/// and the last one, at most.
const SHIFTS: [f64; 2] = [4.0, 18.0];

/// The largest number of priors whose markers fit beside the axis of y without more room.
const ROOM: usize = 5;

/// Pixels by which the markers of prior `i` of `priors` are shifted.
fn shift_of(i: usize, priors: usize) -> f64 {
    let gaps = priors.saturating_sub(1) as f64;
    SHIFTS[0].min(SHIFTS[1] / gaps.max(1.0)) * (i as f64 - 0.5 * gaps)
}

impl Results {
    /// The mean excess of all priors by width with fitted power laws, one panel per method.
    pub(super) fn excess_by_width(&self) -> CaptionedFigure {
        let families = NetFamily::by_width(self.hiddens());
        let (methods, priors) = (self.methods(), self.priors());
        let mut exponents: Vec<Value> = Vec::new();
        let mut panels = Vec::new();
        for (family, &method) in families.iter().flat_map(|f| methods.iter().map(move |m| (f, m))) {
            let mut lines: Vec<FigureLine> = Vec::new();
            for (i, &prior) in priors.iter().enumerate() {
                let shift = shift_of(i, priors.len());
                let (line, exponent) = self.line_of_law(family, (method, prior), i, shift);
                exponents.extend(exponent);
                lines.push(line);
            }
            lines.extend(guide(&lines, method));
            panels.push(PanelLines {
                title: format!("{}{}", method.title(), with_biases(family.biases)),
                x: match priors.len() > ROOM {
                    true => axis_of_width(family.numbers()),
                    false => Axis::log("hidden neurons").ticks(family.numbers()),
                },
                y: Axis::log("mean excess error, points"),
                lines,
            });
        }
        let values = peaks(&panels);
        let content = match families.is_empty() && !priors.is_empty() {
            true => "The run has no nets with one hidden layer.".to_owned(),
            false => "Mean excess of the largest test error on the curve over the error of the \
                      worse net by number of hidden neurons, one panel per method, on logarithmic \
                      axes. Lines are fitted power laws, where there are at least three widths; \
                      the dotted guide is proportional to h^(-1/2), the dashed line is 1 point. \
                      Markers at one width are shifted apart."
                .to_owned(),
        };
        let texts = Texts {
            title: "Excess error by width, with power laws".to_owned(),
            message: join([
                spread_of("The mean excess", " points", &values),
                by_width("It", &values),
                spread("The exponent of a fitted law", "", &exponents),
            ]),
            content,
            reason: "The axis is for nets with one hidden layer, which differ in width alone."
                .to_owned(),
        };
        let mut drawn = CaptionedFigure::new(self, texts, columns(panels.len()), panels);
        for panel in drawn.figure.panels.iter_mut().filter(|panel| !panel.series.is_empty()) {
            panel.references.push(ReferenceLine { label: "1 point".to_owned(), y: 1.0 });
        }
        drawn
    }

    /// The means by width of one prior with their law, and its exponent.
    fn line_of_law(
        &self,
        family: &NetFamily,
        (method, prior): (Method, Prior),
        style: usize,
        shift: f64,
    ) -> (FigureLine, Option<Value>) {
        let series = Series {
            label: prior_title(prior),
            facets: vec![("prior", prior.to_string()), ("method", method.name())],
            style,
            mark: Mark::Markers,
            shift,
            ..Series::default()
        };
        let mut line = self.line_against(series.clone(), Metric::ExcessError, |group| {
            let is_shown = group.prior == prior && group.method == method;
            family.number_of(group.hidden).filter(|_| is_shown)
        });
        // The tables hold finite numbers alone.
        let law = WidthLaw::new(&self.pairs, family, (method, &[prior]), Metric::ExcessError).ok();
        let Some(law) = law else { return (line, None) };
        // The law is of arithmetic means, also where the summary has the geometric one.
        for point in &law.points {
            let is_point = |group: &CurveGroup| group.hidden == point.hidden;
            let Some(i) = line.groups.iter().position(is_point) else { continue };
            let Interval { low, high } = point.log_mean.interval();
            let interval = Interval { low: libm::exp(low), high: libm::exp(high) };
            let mean = libm::exp(point.log_mean.mean);
            line.means[i].average = Average::Arithmetic;
            line.means[i].mean = mean;
            line.means[i].interval = Some(interval);
            if let Some(series) = line.series.last_mut() {
                series.points[i].1 = mean;
                series.band[i] = Some((interval.low, interval.high));
            }
        }
        let (Some(fitted), [first, .., last]) = (&law.law, &law.points[..]) else {
            return (line, None);
        };
        let ends = [first.width, last.width].map(|width| (width, fitted.at(width)));
        line.series.push(Series {
            note: "fitted law".to_owned(),
            mark: Mark::Line,
            points: ends.to_vec(),
            shift: 0.0,
            ..series
        });
        let Interval { low, high } = fitted.exponent.interval();
        let interval = format!("{} to {}", number(low), number(high));
        let place = format!("{}, {}; {interval}", method.title(), prior_phrase(prior));
        (line, Some((fitted.exponent.mean, place)))
    }
}

/// A line of slope -1/2 through the middle of the points of a panel.
fn guide(lines: &[FigureLine], method: Method) -> Option<FigureLine> {
    let points = lines.iter().flat_map(|line| line.series.iter()).flat_map(|s| &s.points);
    let logs: Vec<(f64, f64)> =
        points.filter(|(_, y)| *y > 0.0).map(|(x, y)| (libm::log(*x), libm::log(*y))).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| {
        logs.iter().map(of).fold(0.0, |sum, x| sum + x) / logs.len() as f64
    };
    let (x, y) = (mean(|log| log.0), mean(|log| log.1));
    let least = logs.iter().map(|log| log.0).fold(f64::INFINITY, f64::min);
    let most = logs.iter().map(|log| log.0).fold(f64::NEG_INFINITY, f64::max);
    let at = |log: f64| (libm::exp(log), libm::exp(y - GUIDE_EXPONENT * (log - x)));
    let series = Series {
        label: "slope −1/2".to_owned(),
        facets: vec![("method", method.name())],
        style: GUIDE,
        mark: Mark::Line,
        points: vec![at(least), at(most)],
        ..Series::default()
    };
    (least < most).then(|| FigureLine { groups: vec![], means: vec![], series: vec![series] })
}
