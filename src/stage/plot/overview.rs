//! The figure of the report's first screen: is there a path of low error between two nets?

use super::captions::join;
use super::drawing::{
    CaptionedFigure, FigureLine, PanelLines, Texts, axis_of_depth, axis_of_t, marker_shift, styles,
};
use super::figures::{MAX_ERROR, TALK_NARROW};
use super::messages::{number, prior_phrase};
use super::results::Results;
use crate::report::axis::Axis;
use crate::report::figure::{Mark, Series};
use crate::stage::rows::{CurveGroup, Metric, NetFamily, Quantity, has_one_layer};
use crate::study::curve::Method;
use crate::study::data::Split;
use crate::study::net::{Hidden, Prior};

/// The style of the ends: ink, dotted.
const ENDS: usize = 20;

impl Results {
    /// The error along the curve and the largest error by width or depth, for few methods and one
    /// prior.
    pub(super) fn overview(&self) -> CaptionedFigure {
        let priors = self.priors();
        let without = priors.iter().copied().find(|prior| *prior == Prior::None);
        let prior = without.or(priors.first().copied()).unwrap_or_default();
        let title = format!("Test error between two nets, {}", prior_phrase(prior));
        let Some(hidden) = self.nearest_width(TALK_NARROW) else {
            return CaptionedFigure::without_data(&title);
        };
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
        let mut panels = vec![PanelLines {
            title: format!("Along the curve, h = {hidden}"),
            x: axis_of_t(),
            y: Axis::log("test error, %"),
            lines: methods.iter().zip(&styles).map(along).collect(),
        }];
        let family = self.main_family(hidden);
        let against = |family: &NetFamily, (i, (&method, &style)): (usize, (&Method, &usize))| {
            let series = Series {
                label: method.title(),
                facets: vec![("prior", prior.to_string()), ("method", method.name())],
                style,
                mark: Mark::Points,
                shift: marker_shift(i, methods.len()),
                ..Series::default()
            };
            self.line_against(series, Metric::MaxError, |group| {
                let is_shown = group.prior == prior && group.method == method;
                family.number_of(group.hidden).filter(|_| is_shown)
            })
        };
        if let Some(family) = &family {
            let each = methods.iter().zip(&styles).enumerate();
            let mut lines: Vec<FigureLine> = each.map(|each| against(family, each)).collect();
            lines.push(self.line_of_ends(prior, family));
            let numbers = family.numbers();
            let (axis, by) = match family.width {
                None => (Axis::log("hidden neurons").ticks(numbers), "width".to_owned()),
                Some(width) => (axis_of_depth(numbers), format!("depth, width {width}")),
            };
            panels.push(PanelLines {
                title: format!("Largest on the curve, by {by}"),
                x: axis,
                y: Axis::log(MAX_ERROR),
                lines,
            });
        }
        let content = match &family {
            Some(family) => format!(
                "First, test error along the curve between two nets; second, largest test error \
                 on the curve, and the mean error of the two nets. Markers at one {} are shifted \
                 apart.",
                if family.width.is_some() { "depth" } else { "width" }
            ),
            None => "Test error along the curve between two nets. The nets of the run differ in \
                     more than their width or depth, so that there is no axis for them."
                .to_owned(),
        };
        let mut reason =
            "The figure has one method of each kind, chosen by how it is made and not \
                          by its result: the first two plain curves, and the first with WA, with \
                          OT, and with both."
                .to_owned();
        reason += match self.has_general_nets() {
            true => " `tables/summary.csv` has all methods and nets.",
            false => " `error-by-method` and `max-error-by-width` show all.",
        };
        let texts = Texts {
            title,
            message: self.overview_message(hidden, prior, &methods, family.as_ref()),
            content: join([content, self.explained(&methods)]),
            reason,
        };
        CaptionedFigure::new(self, texts, panels.len(), panels)
    }

    /// The nets of the second panel: those that differ from `hidden` in width alone, or in depth
    /// alone if there is but one width.
    fn main_family(&self, hidden: Hidden) -> Option<NetFamily> {
        let of_nets = |families: Vec<NetFamily>| {
            families.into_iter().find(|family| family.number_of(hidden).is_some())
        };
        let widths = of_nets(NetFamily::by_width(self.hiddens()));
        match &widths {
            Some(family) if family.nets.len() > 1 => widths,
            _ => of_nets(NetFamily::by_depth(self.hiddens())).or(widths),
        }
    }

    /// The mean test error of the ends by width or depth, from the ends of curves without WA, which
    /// leave the nets as they are.
    fn line_of_ends(&self, prior: Prior, family: &NetFamily) -> FigureLine {
        let ends = |&(hidden, number): &(Hidden, usize)| {
            Some((number as f64, self.end_error(hidden, prior)?))
        };
        let series = Series {
            label: "the nets themselves".to_owned(),
            facets: vec![("prior", prior.to_string())],
            style: ENDS,
            mark: Mark::Points,
            points: family.nets.iter().filter_map(ends).collect(),
            ..Series::default()
        };
        FigureLine { groups: Vec::new(), means: Vec::new(), series: vec![series] }
    }

    /// The mean test error of the ends of the curves between nets with these hidden layers and this
    /// prior.
    fn end_error(&self, hidden: Hidden, prior: Prior) -> Option<f64> {
        let mut plain = self.methods().into_iter().filter(|method| method.adjustment.is_none());
        plain.find_map(|method| {
            let group = CurveGroup { hidden, prior, method };
            let points = self.along.get(&(group, Split::Test, Quantity::Error))?;
            let ((_, first), (_, last)) = (points.first()?, points.last()?);
            Some(0.5 * (first.mean + last.mean))
        })
    }

    fn overview_message(
        &self,
        hidden: Hidden,
        prior: Prior,
        methods: &[Method],
        family: Option<&NetFamily>,
    ) -> String {
        let largest = |hidden: Hidden, method: Method| {
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
        let nets = family.map_or(&[][..], |family| &family.nets);
        let by_width = match nets {
            [(narrow, _), .., (wide, _)] => {
                let change = |method: Method| {
                    let (from, to) = (largest(*narrow, method)?, largest(*wide, method)?);
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

    /// What the parts of the names of `methods` mean.
    fn explained(&self, methods: &[Method]) -> String {
        let has = |part: fn(&Method) -> bool| methods.iter().any(part);
        let wa = match self.hiddens().iter().all(has_one_layer) {
            true => "With WA, the weights after the hidden layer are refitted.",
            false => "With WA, the weights after each hidden layer are refitted.",
        };
        let parts = [
            (has(|m| m.curve.name() == "linear"), "Linear is the straight line between the nets."),
            (
                has(|m| m.alignment.is_some()),
                "With OT, the neurons of the two nets are matched first.",
            ),
            (
                has(|m| m.repair),
                "With REPAIR, the pre-activations of hidden neurons are rescaled at each point.",
            ),
            (has(|m| m.adjustment.is_some()), wa),
        ];
        join(parts.into_iter().filter(|(has, _)| *has).map(|(_, text)| text.to_owned()))
    }
}

/// At most five of `methods`: the first two plain curves, and the first with WA, with OT, and with
/// both.
fn telling(methods: &[Method]) -> Vec<Method> {
    let kind = |method: &Method| (method.alignment.is_some(), method.adjustment.is_some());
    let kinds = [((false, false), 2), ((false, true), 1), ((true, false), 1), ((true, true), 1)];
    // Rescaled curves only where there are no others.
    let (plain, repaired): (Vec<Method>, Vec<Method>) =
        methods.iter().partition(|method| !method.repair);
    let methods = [plain, repaired].concat();
    let of_kind = |(wanted, most): ((bool, bool), usize)| {
        methods.iter().copied().filter(move |method| kind(method) == wanted).take(most)
    };
    kinds.into_iter().flat_map(of_kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_has_one_method_of_each_kind_and_two_plain_curves() {
        let names = [
            "linear",
            "linear+repair",
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
        assert_eq!(telling(&methods[6..8]).len(), 1);
        assert_eq!(telling(&[]), []);
    }
}
