//! Barrier and largest error against the number of epochs that two nets share.

use super::captions::{averages, intervals, join};
use super::drawing::{CaptionedFigure, columns, ends, figure, prior_title};
use super::figures::MAX_ERROR;
use super::messages::{number, place};
use super::results::Results;
use crate::report::axis::Axis;
use crate::report::figure::{Mark, Panel, ReferenceLine, Series};
use crate::stage::rows::{CurveGroup, GroupMean, Metric};
use crate::study::net::Prior;
use std::collections::{BTreeMap, BTreeSet};

const TITLE: &str = "Barrier and largest error by shared epochs";

/// The metrics, each with the label of its axis.
const METRICS: [(Metric, &str); 2] =
    [(Metric::LossBarrier, "barrier of the loss, nats"), (Metric::MaxError, MAX_ERROR)];

impl Results {
    pub(super) fn barrier_by_shared_epochs(&self) -> CaptionedFigure {
        let groups: BTreeSet<CurveGroup> = self.shared.keys().map(|(group, _)| *group).collect();
        let priors: BTreeSet<Prior> = groups.iter().map(|group| group.prior).collect();
        if groups.is_empty() {
            return CaptionedFigure::without_data(TITLE);
        }
        let panels: Vec<Panel> = priors
            .iter()
            .flat_map(|&prior| METRICS.map(|metric| self.panel(&groups, prior, metric)))
            .collect();
        let shown = METRICS.iter().flat_map(|(metric, _)| {
            groups.iter().filter_map(|&group| self.shared.get(&(group, *metric)))
        });
        let means: Vec<&GroupMean> = shown.flat_map(BTreeMap::values).collect();
        let references = match panels.iter().any(|panel| !panel.references.is_empty()) {
            true => "Horizontal lines are the means over the run's nets without a shared start.",
            false => "",
        };
        CaptionedFigure {
            title: TITLE.to_owned(),
            message: self.message(&groups).unwrap_or_default(),
            caption: join([
                "Barrier of the test loss, and largest test error on the curve, between two nets \
                 that are one training for their first k epochs: they have the same initial \
                 weights, and until then the same batches and dropout masks. With k = 0, they \
                 share the initial weights alone. One row per prior. Each pair has a trunk of its \
                 own."
                    .to_owned(),
                averages(&means),
                intervals(&means, (false, true), false),
                references.to_owned(),
            ]),
            figure: figure(columns(panels.len()).min(METRICS.len()), panels),
        }
    }

    /// A metric of all curves with a prior.
    fn panel(
        &self,
        groups: &BTreeSet<CurveGroup>,
        prior: Prior,
        (metric, label): (Metric, &str),
    ) -> Panel {
        let of_prior: Vec<CurveGroup> =
            groups.iter().filter(|group| group.prior == prior).copied().collect();
        let epochs = of_prior.iter().filter_map(|group| self.shared.get(&(*group, metric)));
        let most = epochs.filter_map(|means| means.keys().max()).max().copied().unwrap_or(0);
        // k = 0 is beside the axis, not on it.
        let room = 0.04 * f64::from(most.max(1));
        let series = of_prior.iter().enumerate().map(|(style, group)| {
            let CurveGroup { hidden, prior, method } = group;
            let means = self.shared.get(&(*group, metric)).into_iter().flatten();
            Series {
                label: format!("{}, h = {hidden}", method.title()),
                facets: vec![
                    ("hidden", hidden.to_string()),
                    ("prior", prior.to_string()),
                    ("method", method.name()),
                ],
                style,
                mark: Mark::Points,
                points: means.clone().map(|(k, mean)| (f64::from(*k), mean.mean)).collect(),
                band: means.map(|(_, mean)| ends(mean)).collect(),
                ..Series::default()
            }
        });
        // One line for each of several curves would not tell which is whose.
        let references = match &of_prior[..] {
            [group] => self.summaries.get(&(*group, metric)).map(|summary| ReferenceLine {
                label: "no shared start".to_owned(),
                y: summary.mean.mean,
            }),
            _ => None,
        };
        Panel {
            title: prior_title(prior),
            x: Axis::linear("shared epochs k").range(-room, f64::from(most) + room),
            y: Axis::linear(label),
            references: references.into_iter().collect(),
            series: series.filter(|series| !series.points.is_empty()).collect(),
            ..Panel::default()
        }
    }

    /// The barrier of the first curve at both ends of the axis.
    fn message(&self, groups: &BTreeSet<CurveGroup>) -> Option<String> {
        let group = groups.first()?;
        let means = self.shared.get(&(*group, Metric::LossBarrier))?;
        let (first, last) = (means.first_key_value()?, means.last_key_value()?);
        let at = |(k, mean): (&u32, &GroupMean)| format!("{} nats at k = {k}", number(mean.mean));
        let values = match first.0 == last.0 {
            true => at(first),
            false => format!("{} and {}", at(first), at(last)),
        };
        Some(format!("The barrier of the loss is {values} ({}).", place(group)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::stats::{Average, Interval};

    #[test]
    fn each_prior_has_its_barrier_and_error_by_shared_epochs() {
        let mut results = Results::default();
        let mean = |mean: f64| GroupMean {
            nets: 6,
            count: 3,
            average: Average::Arithmetic,
            mean,
            interval: Some(Interval { low: 0.5 * mean, high: 1.5 * mean }),
            range: (0.8 * mean, 1.2 * mean),
        };
        for prior in ["none", "dropout 0.5"] {
            let method = "linear".parse().unwrap();
            let hidden = "50".parse().unwrap();
            let group = CurveGroup { hidden, prior: prior.parse().unwrap(), method };
            for metric in Metric::ALL {
                let by_epochs = [(0, mean(4.0)), (1, mean(1.0)), (10, mean(0.0))];
                results.shared.insert((group, metric), by_epochs.into());
            }
        }
        let drawn = results.barrier_by_shared_epochs();
        assert_eq!((drawn.figure.columns, drawn.figure.panels.len()), (2, 4));
        for panel in &drawn.figure.panels {
            let [series] = &panel.series[..] else { panic!("{panel:?}") };
            assert_eq!(series.points, [(0.0, 4.0), (1.0, 1.0), (10.0, 0.0)]);
            assert_eq!(series.band[0], Some((2.0, 6.0)));
        }
        let message = "The barrier of the loss is 4 nats at k = 0 and 0 nats at k = 10 (Linear, h \
                       = 50, without prior).";
        assert_eq!(drawn.message.replace(".00", ""), message);
        assert!(drawn.caption.contains("Mean over 3 pairs of 6 nets."), "{}", drawn.caption);
        assert!(drawn.figure.to_svg().unwrap().contains("shared epochs k"));
        assert_eq!(
            Results::default().barrier_by_shared_epochs().caption,
            super::super::captions::NO_DATA
        );
    }
}
