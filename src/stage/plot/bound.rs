//! The figure of the learned curve as the bound: how far the other methods are above it.

use super::captions::join;
use super::drawing::{
    CaptionedFigure, FigureLine, PanelLines, Texts, columns, prior_title, styles, with_biases,
};
use super::figures::MARKER_SHIFT;
use super::messages::{by_width, peaks, spread_of};
use super::results::Results;
use crate::report::axis::Axis;
use crate::report::figure::{Mark, ReferenceLine, Series};
use crate::stage::names::PairName;
use crate::stage::rows::{CurveGroup, GroupMean, Metric, NetFamily, samples};
use crate::study::curve::Method;
use crate::study::net::Prior;
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
            let others = methods.len() - 1;
            let series = Series {
                label: methods[i].title(),
                facets: vec![("prior", prior.to_string()), ("method", methods[i].name())],
                style,
                mark: Mark::Points,
                shift: MARKER_SHIFT * (i as f64 - 0.5 * others as f64),
                ..Series::default()
            };
            Some(self.line_of_ratios(family, (prior, methods[i]), bound?, series))
        };
        let panel = |family: &NetFamily, prior: Prior| PanelLines {
            title: format!("{}{}", prior_title(prior), with_biases(family.biases)),
            x: Axis::log("hidden neurons").ticks(family.numbers()),
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

    /// The ratios of a method's largest errors to those of `bound`, by width.
    fn line_of_ratios(
        &self,
        family: &NetFamily,
        (prior, method): (Prior, Method),
        bound: Method,
        series: Series,
    ) -> FigureLine {
        let (mut groups, mut means) = (Vec::new(), Vec::new());
        let (mut points, mut band, mut dots) = (Vec::new(), Vec::new(), Vec::new());
        for (hidden, width) in &family.nets {
            let of = |method| {
                let group = CurveGroup { hidden: *hidden, prior, method };
                self.pairs.get(&(group, Metric::MaxError))
            };
            let (Some(errors), Some(bounds)) = (of(method), of(bound)) else { continue };
            let log = |(pair, error): (&PairName, &f64)| {
                let bound = bounds.get(pair).filter(|bound| **bound > 0.0 && *error > 0.0)?;
                Some((pair.clone(), libm::log(error / bound)))
            };
            let logs: BTreeMap<PairName, f64> = errors.iter().filter_map(log).collect();
            // The tables hold finite numbers alone.
            let Ok(samples) = samples(from_ref(&logs)) else { continue };
            let (Some(mean), estimate) = Sample::pooled(&samples) else { continue };
            let mean = libm::exp(mean);
            let ratios = || logs.values().copied().map(libm::exp);
            let interval = estimate.map(|estimate| {
                let Interval { low, high } = estimate.interval();
                Interval { low: libm::exp(low), high: libm::exp(high) }
            });
            let nets: BTreeSet<String> = logs.keys().flat_map(PairName::nets).collect();
            if interval.is_none() && logs.len() > 1 {
                dots.extend(ratios().map(|ratio| (*width as f64, ratio)));
            }
            groups.push(CurveGroup { hidden: *hidden, prior, method });
            points.push((*width as f64, mean));
            band.push(interval.map(|interval| (interval.low, interval.high)));
            means.push(GroupMean {
                nets: nets.len(),
                count: logs.len(),
                average: Average::Geometric,
                mean,
                interval,
                range: (
                    ratios().fold(f64::INFINITY, f64::min),
                    ratios().fold(f64::NEG_INFINITY, f64::max),
                ),
            });
        }
        let dots = Series {
            mark: Mark::Dots,
            points: dots,
            note: "single pair".to_owned(),
            ..series.clone()
        };
        FigureLine { groups, means, series: vec![dots, Series { points, band, ..series }] }
    }
}
