//! The figure of ensembles: error, cross-entropy and calibration against the width.

use super::captions::{NO_DATA, join};
use super::drawing::{
    CaptionedFigure, FigureLine, LinePoint, PanelLines, Texts, axis_of_width, marker_shift,
    prior_title, styles, with_biases,
};
use super::messages::{Value, place, spread};
use super::results::Results;
use crate::report::axis::Axis;
use crate::report::figure::{Mark, Series};
use crate::stage::ensemble::results::{Ensemble, EnsembleMetric, mean_over_pairs};
use crate::stage::rows::{CurveGroup, NetFamily};
use crate::study::curve::ensemble::EnsembleKind;
use crate::study::net::{BINS, Prior};
use std::collections::BTreeMap;

/// The styles of the two nets alone and together: ink, solid and dashed.
const INK: [usize; 2] = [6, 13];

impl Results {
    /// All ensembles by width, one row of panels per prior and one panel per metric.
    pub(super) fn ensembles_by_width(&self) -> CaptionedFigure {
        let families = NetFamily::by_width(self.ensembles.hiddens());
        let mut panels = Vec::new();
        for family in &families {
            for prior in self.ensembles.priors() {
                panels.extend(EnsembleMetric::ALL.map(|metric| PanelLines {
                    title: format!("{}{}", prior_title(prior), with_biases(family.biases)),
                    x: axis_of_width(family.numbers()),
                    y: Axis::log(metric.with_unit()),
                    lines: self.lines_of_ensembles(family, prior, metric),
                }));
            }
        }
        let errors = |kind: EnsembleKind| -> Vec<Value> {
            let of_kind = self.ensembles.all().into_iter().filter(|e| e.kind == kind);
            let of = |ensemble| self.points_of(ensemble, &families, EnsembleMetric::Error);
            let points = of_kind.flat_map(of);
            points.filter_map(|point| Some((point.mean.mean, place(&point.group?)))).collect()
        };
        let is_empty = panels.iter().all(|panel: &PanelLines| panel.lines.is_empty());
        let content = match is_empty {
            true if self.ensembles.is_empty() => NO_DATA.to_owned(),
            true => "The run has no ensembles of nets with one hidden layer.".to_owned(),
            false => format!(
                "Error, cross-entropy and expected calibration error (ECE, {BINS} bins) on the \
                 test images by number of hidden neurons, one row per prior. Black: one of the two \
                 nets, and their ensemble. In colour: the ensemble of nets along the curve, and, \
                 hollow, the net at its midpoint alone. All but the single net cost the training \
                 of two nets, and a learned curve its own. Markers at one width are shifted apart."
            ),
        };
        let texts = Texts {
            title: "Ensembles along the curve by width".to_owned(),
            message: join([
                spread(
                    "The error of an ensemble along the curve",
                    " %",
                    &errors(EnsembleKind::Curve),
                ),
                spread("That of the midpoint", " %", &errors(EnsembleKind::Soup)),
            ]),
            content,
            reason: "The figure is for nets with one hidden layer, where ensembles were measured."
                .to_owned(),
        };
        CaptionedFigure::new(self, texts, EnsembleMetric::ALL.len(), panels)
    }

    /// The points of an ensemble for all priors, by width.
    fn points_of(
        &self,
        ensemble: Ensemble,
        families: &[NetFamily],
        metric: EnsembleMetric,
    ) -> Vec<LinePoint> {
        let priors = self.ensembles.priors();
        let each = families.iter().flat_map(|family| priors.iter().map(move |&p| (family, p)));
        each.flat_map(|(family, prior)| self.points_at(ensemble, family, prior, metric)).collect()
    }

    /// The points of an ensemble, by width.
    fn points_at(
        &self,
        ensemble: Ensemble,
        family: &NetFamily,
        prior: Prior,
        metric: EnsembleMetric,
    ) -> Vec<LinePoint> {
        let point = |&(hidden, width): &(_, usize)| {
            let values = self.ensembles.by_pair((ensemble, hidden, prior), metric)?;
            // The tables hold finite numbers alone.
            let mean = mean_over_pairs(values).ok()??;
            let group = ensemble.method.map(|method| CurveGroup { hidden, prior, method });
            let values = values.values().copied().collect();
            Some(LinePoint { x: width as f64, group, mean, values })
        };
        family.nets.iter().filter_map(point).collect()
    }

    /// A line for each ensemble that the family has.
    fn lines_of_ensembles(
        &self,
        family: &NetFamily,
        prior: Prior,
        metric: EnsembleMetric,
    ) -> Vec<FigureLine> {
        let (all, methods) = (self.ensembles.all(), self.ensembles.methods());
        let style_of: BTreeMap<_, _> = methods.iter().copied().zip(styles(&methods)).collect();
        let line = |(i, &ensemble): (usize, &Ensemble)| {
            let (style, mark) = match ensemble.kind {
                EnsembleKind::Single => (INK[0], Mark::Points),
                EnsembleKind::Independent => (INK[1], Mark::Points),
                EnsembleKind::Curve => (0, Mark::Points),
                EnsembleKind::Soup => (0, Mark::Hollow),
            };
            let style = ensemble.method.and_then(|m| style_of.get(&m).copied()).unwrap_or(style);
            let mut facets = vec![("prior", prior.to_string())];
            facets.extend(ensemble.method.map(|method| ("method", method.name())));
            let series = Series {
                label: ensemble.title(),
                facets,
                style,
                mark,
                shift: marker_shift(i, all.len()),
                ..Series::default()
            };
            FigureLine::of_points(series, self.points_at(ensemble, family, prior, metric))
        };
        let lines = all.iter().enumerate().map(line);
        lines.filter(|line| !line.means.is_empty()).collect()
    }
}
