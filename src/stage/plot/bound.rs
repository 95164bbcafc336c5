//! The figure of the other methods beside the learned curve.

use super::captions::join;
use super::drawing::{
    CaptionedFigure, FigureLine, LinePoint, PanelLines, Texts, axis_of_width, columns,
    marker_shift, prior_title, styles, with_biases,
};
use super::messages::{by_width, peaks, spread_of};
use super::results::Results;
use crate::report::axis::Axis;
use crate::report::figure::{Mark, ReferenceLine, Series};
use crate::stage::names::PairName;
use crate::stage::rows::{CurveGroup, GroupMean, Metric, NetFamily, samples};
use crate::study::curve::Method;
use crate::study::net::{Hidden, Prior};
use crate::study::stats::{Average, Interval, Sample};
use std::collections::{BTreeMap, BTreeSet};
use std::slice::from_ref;

impl Results {
    /// The largest error with each method over that on the learned curve of the same pair, by
    /// width, one panel per prior.
    pub(super) fn ratio_to_learned(&self) -> CaptionedFigure {
        let title = "Largest error beside that on the learned curve";
        let methods = self.methods();
        let bound = Method::bound(&methods);
        let families = NetFamily::by_width(self.hiddens());
        let line = |family: &NetFamily, prior: Prior, i: usize, style: usize| {
            let series = Series {
                label: methods[i].title(),
                facets: vec![("prior", prior.to_string()), ("method", methods[i].name())],
                style,
                mark: Mark::Points,
                shift: marker_shift(i, methods.len()),
                ..Series::default()
            };
            let bound = bound?;
            let point = |&(hidden, width): &(Hidden, usize)| {
                let group = CurveGroup { hidden, prior, method: methods[i] };
                self.ratios_at(width as f64, group, bound)
            };
            Some(FigureLine::of_points(series, family.nets.iter().filter_map(point).collect()))
        };
        let panel = |family: &NetFamily, prior: Prior| PanelLines {
            title: format!("{}{}", prior_title(prior), with_biases(family.biases)),
            x: axis_of_width(family.numbers()),
            y: Axis::log("largest error over that on the learned curve"),
            lines: (0..methods.len())
                .zip(styles(&methods))
                .filter(|(i, _)| Some(methods[*i]) != bound)
                .filter_map(|(i, style)| line(family, prior, i, style))
                .collect(),
        };
        let priors = self.priors();
        let panels: Vec<PanelLines> = families
            .iter()
            .flat_map(|family| priors.iter().map(move |&prior| (family, prior)))
            .map(|(family, prior)| panel(family, prior))
            .collect();
        let values = peaks(&panels);
        let texts = Texts {
            title: title.to_owned(),
            message: join([
                spread_of("The mean ratio to the learned curve", "", &values),
                by_width("It", &values),
            ]),
            content: match bound {
                None => "The run has no learned curve.".to_owned(),
                Some(bound) => format!(
                    "Largest test error on the curve over that on the learned curve, {}, of the \
                     same pair, by number of hidden neurons, one panel per prior: geometric mean \
                     over the pairs that both methods join. Below the dashed line, a method has a \
                     lower error than the learned curve. \
                     Markers at one width are shifted apart.",
                    bound.title()
                ),
            },
            reason: "The figure is for nets with one hidden layer that a learned curve joins."
                .to_owned(),
        };
        let mut drawn = CaptionedFigure::new(self, texts, columns(panels.len()), panels);
        for panel in drawn.figure.panels.iter_mut().filter(|panel| !panel.series.is_empty()) {
            panel.references.push(ReferenceLine { label: "learned".to_owned(), y: 1.0 });
        }
        drawn
    }

    /// The ratios of a group's largest errors to those of `bound`, at the width `x`; `None` if the
    /// two join no pair in common.
    fn ratios_at(&self, x: f64, group: CurveGroup, bound: Method) -> Option<LinePoint> {
        let of = |method| self.pairs.get(&(CurveGroup { method, ..group }, Metric::MaxError));
        let (errors, bounds) = (of(group.method)?, of(bound)?);
        let log = |(pair, error): (&PairName, &f64)| {
            let bound = bounds.get(pair).filter(|bound| **bound > 0.0 && *error > 0.0)?;
            Some((pair.clone(), libm::log(error / bound)))
        };
        let logs: BTreeMap<PairName, f64> = errors.iter().filter_map(log).collect();
        let values: Vec<f64> = logs.values().copied().map(libm::exp).collect();
        let nets: BTreeSet<String> = logs.keys().flat_map(PairName::nets).collect();
        // The tables hold finite numbers alone.
        let (mean, estimate) = Sample::pooled(&samples(from_ref(&logs)).ok()?);
        let interval = estimate.map(|estimate| {
            let Interval { low, high } = estimate.interval();
            Interval { low: libm::exp(low), high: libm::exp(high) }
        });
        let range = (
            values.iter().copied().fold(f64::INFINITY, f64::min),
            values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        );
        let mean = GroupMean {
            nets: nets.len(),
            count: values.len(),
            average: Average::Geometric,
            mean: libm::exp(mean?),
            interval,
            range,
        };
        Some(LinePoint { x, group: Some(group), mean, values })
    }
}
