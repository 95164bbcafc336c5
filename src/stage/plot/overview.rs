//! The figure of the report's first screen: is there a path of low error between two nets?

use super::captions::join;
use super::drawing::{CaptionedFigure, FigureLine, PanelLines, Texts, axis_of_t, styles};
use super::figures::{MARKER_SHIFT, MAX_ERROR, TALK_NARROW};
use super::messages::{number, prior_phrase};
use super::results::Results;
use crate::report::axis::Axis;
use crate::report::figure::{Mark, Series};
use crate::stage::rows::{CurveGroup, Metric, Quantity};
use crate::study::curve::Method;
use crate::study::data::Split;
use crate::study::net::Prior;

/// The style of the ends: ink, dotted.
const ENDS: usize = 20;

impl Results {
    /// The error along the curve and the largest error by width, for few methods and one prior.
    pub(super) fn overview(&self) -> CaptionedFigure {
        let hidden = self.nearest_width(TALK_NARROW);
        let priors = self.priors();
        let without = priors.iter().copied().find(|prior| *prior == Prior::None);
        let prior = without.or(priors.first().copied()).unwrap_or_default();
        // The styles of the other figures.
        let all = self.methods();
        let styled: Vec<(Method, usize)> = all.iter().copied().zip(styles(&all)).collect();
        let methods = telling(&all);
        let style = |method| styled.iter().find(|(known, _)| *known == method).map(|(_, s)| *s);
        let styles: Vec<usize> = methods.iter().filter_map(|method| style(*method)).collect();
        let along = |(&method, &style): (&Method, &usize)| {
            let group = CurveGroup { hidden, prior, method };
            self.line_along(&method.title(), style, Split::Test, Quantity::Error, group)
        };
        let against = |(i, (&method, &style)): (usize, (&Method, &usize))| {
            let series = Series {
                label: method.title(),
                facets: vec![("prior", prior.to_string()), ("method", method.name())],
                style,
                mark: Mark::Points,
                shift: MARKER_SHIFT * (i as f64 - 0.5 * (methods.len() - 1) as f64),
                ..Series::default()
            };
            self.line_against(series, Metric::MaxError, |group| {
                let is_shown = group.prior == prior && group.method == method;
                is_shown.then_some(group.hidden as f64)
            })
        };
        let mut by_width: Vec<FigureLine> =
            methods.iter().zip(&styles).enumerate().map(against).collect();
        by_width.push(self.line_of_ends(prior));
        let widths: Vec<f64> = self.widths().into_iter().map(|h| h as f64).collect();
        let panels = vec![
            PanelLines {
                title: format!("Along the curve, h = {hidden}"),
                x: axis_of_t(),
                y: Axis::log("test error, %"),
                lines: methods.iter().zip(&styles).map(along).collect(),
            },
            PanelLines {
                title: "Largest on the curve, by width".to_owned(),
                x: Axis::log("hidden neurons").ticks(widths),
                y: Axis::log(MAX_ERROR),
                lines: by_width,
            },
        ];
        let texts = Texts {
            title: format!("Test error between two nets, {}", prior_phrase(prior)),
            message: self.overview_message(hidden, prior, &methods),
            content: join([
                "First, test error along the curve between two nets; second, largest test error \
                 on the curve, and the mean error of the two nets. Markers at one width are \
                 shifted apart."
                    .to_owned(),
                explained(&methods),
            ]),
            reason: "The figure has one method of each kind, chosen by how it is made and not by \
                     its result: the first two plain curves, and the first with WA, with OT, and \
                     with both. `error-by-method` and `max-error-by-width` show all.",
        };
        CaptionedFigure::new(self, texts, 2, panels)
    }

    /// The mean test error of the ends by width, from the ends of curves without WA, which leave
    /// the nets as they are.
    fn line_of_ends(&self, prior: Prior) -> FigureLine {
        let ends = |hidden| Some((hidden as f64, self.end_error(hidden, prior)?));
        let series = Series {
            label: "the nets themselves".to_owned(),
            facets: vec![("prior", prior.to_string())],
            style: ENDS,
            mark: Mark::Points,
            points: self.widths().into_iter().filter_map(ends).collect(),
            ..Series::default()
        };
        FigureLine { groups: Vec::new(), means: Vec::new(), series: vec![series] }
    }

    /// The mean test error of the ends of the curves between nets of a width and prior.
    fn end_error(&self, hidden: i64, prior: Prior) -> Option<f64> {
        let mut plain = self.methods().into_iter().filter(|method| method.adjustment.is_none());
        plain.find_map(|method| {
            let group = CurveGroup { hidden, prior, method };
            let points = self.along.get(&(group, Split::Test, Quantity::Error))?;
            let ((_, first), (_, last)) = (points.first()?, points.last()?);
            Some(0.5 * (first.mean + last.mean))
        })
    }

    fn overview_message(&self, hidden: i64, prior: Prior, methods: &[Method]) -> String {
        let largest = |hidden: i64, method: Method| {
            let group = CurveGroup { hidden, prior, method };
            let summary = self.summaries.get(&(group, Metric::MaxError))?;
            Some(summary.mean.mean).filter(|x| x.is_finite())
        };
        let percent = |x: f64| format!("{} %", number(x));
        let present: Vec<(Method, f64)> =
            methods.iter().filter_map(|&m| Some((m, largest(hidden, m)?))).collect();
        let (Some(&(first, error)), Some(&(last, low))) = (present.first(), present.last()) else {
            return String::new();
        };
        let mut phrase = prior_phrase(prior);
        phrase[..1].make_ascii_uppercase();
        let ends = self.end_error(hidden, prior);
        let ends =
            ends.map_or_else(String::new, |x| format!("; the nets themselves have {}", percent(x)));
        let others = match present.len() {
            1 => String::new(),
            _ => format!(", and on {} {}", last.title(), percent(low)),
        };
        let at = format!(
            "{phrase} at h = {hidden}, the largest test error on {} is {}{others}{ends}.",
            first.title(),
            percent(error)
        );
        let widths = self.widths();
        let by_width = match (widths.first(), widths.last()) {
            (Some(&narrow), Some(&wide)) if narrow != wide => {
                let change = |method: Method| {
                    let (from, to) = (largest(narrow, method)?, largest(wide, method)?);
                    Some(format!("{} to {} on {}", percent(from), percent(to), method.title()))
                };
                let mut ends = vec![first, last];
                ends.dedup();
                let changes: Vec<String> = ends.into_iter().filter_map(change).collect();
                match changes.is_empty() {
                    true => String::new(),
                    false => format!(
                        "From h = {narrow} to h = {wide}, it changes from {}.",
                        changes.join(", and from ")
                    ),
                }
            }
            _ => String::new(),
        };
        join([at, by_width])
    }
}

/// At most five of `methods`: the first two plain curves, and the first with WA, with OT, and with
/// both.
fn telling(methods: &[Method]) -> Vec<Method> {
    let kind = |method: &Method| (method.alignment.is_some(), method.adjustment.is_some());
    let kinds = [((false, false), 2), ((false, true), 1), ((true, false), 1), ((true, true), 1)];
    let of_kind = |(wanted, most): ((bool, bool), usize)| {
        methods.iter().copied().filter(move |method| kind(method) == wanted).take(most)
    };
    kinds.into_iter().flat_map(of_kind).collect()
}

/// What the parts of the names of `methods` mean.
fn explained(methods: &[Method]) -> String {
    let has = |part: fn(&Method) -> bool| methods.iter().any(part);
    let parts = [
        (has(|m| m.curve.name() == "linear"), "Linear is the straight line between the nets."),
        (has(|m| m.alignment.is_some()), "With OT, the neurons of the two nets are matched first."),
        (
            has(|m| m.adjustment.is_some()),
            "With WA, the weights after the hidden layer are refitted.",
        ),
    ];
    join(parts.into_iter().filter(|(has, _)| *has).map(|(_, text)| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_has_one_method_of_each_kind_and_two_plain_curves() {
        let names = [
            "linear",
            "arc",
            "linear+wa",
            "arc+wa",
            "linear+ot",
            "arc+ot",
            "linear+ot:incoming",
            "linear+ot:incoming+wa",
            "rho-arc",
        ];
        let methods = names.map(|name| name.parse::<Method>().unwrap());
        let shown: Vec<String> = telling(&methods).into_iter().map(Method::name).collect();
        let expected = ["linear", "arc", "linear+wa", "linear+ot", "linear+ot:incoming+wa"];
        assert_eq!(shown, expected);
        assert_eq!(telling(&methods[5..7]).len(), 1);
        assert_eq!(telling(&[]), []);
    }
}
