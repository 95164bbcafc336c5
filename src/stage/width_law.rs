//! How a metric falls with the width of nets with one hidden layer.
//!
//! The value at a width is the mean over pairs, arithmetic at every width, so that a pair with a
//! value of 0 or less counts like any other. A width whose mean is 0 or less has no logarithm: it
//! is left out and listed.

use super::rows::{CurveGroup, Metric, NetFamily, PairMetrics, samples};
use crate::study::curve::Method;
use crate::study::net::{Hidden, Prior};
use crate::study::stats::{Crossing, Estimate, NotFinite, Position, PowerLaw, Sample, crossing};

/// The mean of a metric at one width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct WidthPoint {
    pub(super) hidden: Hidden,
    pub(super) width: f64,
    /// The logarithm of the mean; averaged over the priors, if there are several.
    pub(super) log_mean: Estimate,
}

/// The means of a metric of one method by width, and their power law.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WidthLaw {
    /// Ascending by width.
    pub(super) points: Vec<WidthPoint>,
    /// `None` if there are too few points.
    pub(super) law: Option<PowerLaw>,
    /// The widths, or priors, that are left out, with the reason.
    pub(super) left_out: Vec<String>,
    /// The priors that it is averaged over.
    pub(super) priors: Vec<Prior>,
}

/// `h = 10 (reason)`, or for several `h = 10, 20 and 50 (reason)`.
fn widths_text(hiddens: &[Hidden], reason: &str) -> String {
    let names: Vec<String> = hiddens.iter().map(Hidden::to_string).collect();
    let names = match &names[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    };
    format!("h = {names} ({reason})")
}

impl WidthLaw {
    /// The law of the nets of `family`. Several priors, whose nets share init and shuffles, are
    /// averaged on a log scale; a prior without a positive mean at each of the widths is left out,
    /// since its level would count as an effect of the width.
    ///
    /// # Errors
    /// If a value is not finite.
    pub(super) fn new(
        pairs: &PairMetrics,
        family: &NetFamily,
        (method, priors): (Method, &[Prior]),
        metric: Metric,
    ) -> Result<WidthLaw, NotFinite> {
        let values = |hidden: Hidden, prior: Prior| {
            let values = pairs.get(&(CurveGroup { hidden, prior, method }, metric));
            values.filter(|values| !values.is_empty())
        };
        let is_measured =
            |hidden: Hidden| priors.iter().any(|&prior| values(hidden, prior).is_some());
        let widths: Vec<(Hidden, usize)> =
            family.nets.iter().copied().filter(|(hidden, _)| is_measured(*hidden)).collect();
        let mut left_out = Vec::new();
        let mut kept = Vec::new();
        // Priors with the same gaps are listed together.
        let mut with_gaps: Vec<(Vec<Prior>, String)> = Vec::new();
        for &prior in priors {
            let (mut missing, mut reasons) = (Vec::new(), Vec::new());
            for &(hidden, _) in &widths {
                let Some(values) = values(hidden, prior) else {
                    missing.push(hidden);
                    continue;
                };
                let sample = samples(std::slice::from_ref(values))?.remove(0);
                if sample.log_of_mean().is_none() {
                    reasons.push(widths_text(&[hidden], "mean of 0 or less"));
                }
            }
            let is_complete = missing.is_empty();
            if !is_complete {
                reasons.insert(0, widths_text(&missing, "not in the run"));
            }
            if priors.len() == 1 || reasons.is_empty() {
                kept.push(prior);
            }
            if priors.len() == 1 {
                left_out.extend(reasons);
            } else if !reasons.is_empty() {
                let reasons = reasons.join(", ");
                match with_gaps.iter_mut().find(|(_, same)| !is_complete && *same == reasons) {
                    Some((priors, _)) => priors.push(prior),
                    None => with_gaps.push((vec![prior], reasons)),
                }
            }
        }
        left_out.extend(with_gaps.iter().map(|(priors, reasons)| {
            let priors: Vec<String> = priors.iter().map(Prior::to_string).collect();
            format!("{}: {reasons}", priors.join(", "))
        }));
        let (mut points, mut too_few) = (Vec::new(), Vec::new());
        for (hidden, width) in widths {
            let of_priors = kept.iter().filter_map(|&prior| values(hidden, prior).cloned());
            let samples = samples(&of_priors.collect::<Vec<_>>())?;
            let logs: Vec<Sample<usize>> = samples.iter().filter_map(Sample::log_of_mean).collect();
            let (mean, estimate) = Sample::pooled(&logs);
            if let Some(log_mean) = estimate {
                points.push(WidthPoint { hidden, width: width as f64, log_mean });
            } else if mean.is_some() {
                too_few.push(hidden);
            }
        }
        if !too_few.is_empty() {
            left_out.push(widths_text(&too_few, "too few pairs"));
        }
        let of_widths = points.iter().map(|point| (point.width, point.log_mean));
        let law = PowerLaw::fit(&of_widths.collect::<Vec<_>>());
        Ok(WidthLaw { points, law, left_out, priors: kept })
    }

    /// The width from which on the mean is below `threshold`, which may depend on the width; `None`
    /// for fewer than two widths, or if a width has no threshold.
    pub(super) fn crossing(&self, threshold: impl Fn(Hidden) -> Option<f64>) -> Option<Crossing> {
        let ratio = |point: &WidthPoint| {
            let log = libm::log(threshold(point.hidden)?);
            let mean = point.log_mean.mean - log;
            Some((point.width, Estimate { mean, ..point.log_mean }))
        };
        let ratios: Vec<(f64, Estimate)> = self.points.iter().map(ratio).collect::<Option<_>>()?;
        (ratios.len() > 1).then(|| crossing(&ratios)).flatten()
    }

    /// `76 (60 to 97)`; a bound where a position is outside of the widths.
    pub(super) fn crossing_text(&self, found: &Crossing) -> String {
        let width = |point: Option<&WidthPoint>| point.map_or(0.0, |point| point.width);
        let text = |position: Position| match position {
            Position::Before => format!("< {}", width(self.points.first())),
            Position::At(x) => format!("{x:.0}"),
            Position::After => format!("> {}", width(self.points.last())),
        };
        let [low, high] = found.interval.map(text);
        match text(found.estimate) {
            estimate if low == high => estimate,
            estimate => format!("{estimate} ({low} to {high})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRIC: Metric = Metric::ExcessError;

    fn method() -> Method {
        "linear".parse().unwrap()
    }

    /// The excess of three disjoint pairs by width and prior.
    fn pairs(values: &[(&str, &str, [f64; 3])]) -> PairMetrics {
        let entry = |&(hidden, prior, values): &(&str, &str, [f64; 3])| {
            let (hidden, prior) = (hidden.parse().unwrap(), prior.parse().unwrap());
            let pairs = ["1", "2", "3"].map(|pair| pair.parse().unwrap());
            let group = CurveGroup { hidden, prior, method: method() };
            ((group, METRIC), pairs.into_iter().zip(values).collect())
        };
        values.iter().map(entry).collect()
    }

    fn law(pairs: &PairMetrics, priors: &[&str]) -> WidthLaw {
        let hiddens = pairs.keys().map(|(group, _)| group.hidden);
        let family = NetFamily::by_width(hiddens).remove(0);
        let priors: Vec<Prior> = priors.iter().map(|prior| prior.parse().unwrap()).collect();
        WidthLaw::new(pairs, &family, (method(), &priors), METRIC).unwrap()
    }

    #[test]
    fn a_mean_of_zero_or_less_is_left_out_and_listed() {
        let found = law(
            &pairs(&[
                ("10", "none", [18.0, 20.0, 22.0]),
                ("20", "none", [9.0, 10.0, 11.0]),
                ("40", "none", [5.5, -0.5, 10.0]),
                ("80", "none", [0.2, -0.4, 0.1]),
            ]),
            &["none"],
        );
        let widths: Vec<f64> = found.points.iter().map(|point| point.width).collect();
        assert_eq!(widths, [10.0, 20.0, 40.0], "a pair of 0 or less does not exclude its width");
        assert_eq!(found.left_out, ["h = 80 (mean of 0 or less)"]);
        let exponent = found.law.unwrap().exponent;
        assert!((exponent.mean - 1.0).abs() < 1e-12, "{exponent:?}");
    }

    #[test]
    fn priors_are_averaged_and_one_that_lacks_a_width_is_left_out() {
        let both = [
            ("10", "none", [18.0, 20.0, 22.0]),
            ("20", "none", [9.0, 10.0, 11.0]),
            ("40", "none", [4.5, 5.0, 5.5]),
            ("10", "dropout 0.5", [15.0, 16.0, 17.0]),
            ("20", "dropout 0.5", [15.0, 16.0, 17.0]),
            ("40", "dropout 0.5", [15.0, 16.0, 17.0]),
        ];
        let found = law(&pairs(&both), &["none", "dropout 0.5"]);
        assert!((found.law.unwrap().exponent.mean - 0.5).abs() < 1e-12);
        let found = law(&pairs(&both[..5]), &["none", "dropout 0.5"]);
        assert!((found.law.unwrap().exponent.mean - 1.0).abs() < 1e-12);
        assert_eq!(found.left_out, ["dropout 0.5: h = 40 (not in the run)"]);
        assert_eq!(found.priors, [Prior::None]);
        let more = [("10", "normal 0.01", [8.0; 3]), ("10", "normal 0.1", [9.0; 3])];
        let priors = ["none", "dropout 0.5", "normal 0.01", "normal 0.1"];
        let found = law(&pairs(&[&both[..5], &more].concat()), &priors);
        let gaps = "normal 0.01, normal 0.1: h = 20 and 40 (not in the run)";
        assert_eq!(found.left_out, ["dropout 0.5: h = 40 (not in the run)", gaps]);
    }

    #[test]
    fn a_threshold_outside_of_the_widths_is_a_bound() {
        let found = law(
            &pairs(&[
                ("10", "none", [18.0, 20.0, 22.0]),
                ("20", "none", [9.0, 10.0, 11.0]),
                ("40", "none", [4.5, 5.0, 5.5]),
            ]),
            &["none"],
        );
        let text = |threshold: f64| {
            found.crossing_text(&found.crossing(|_| Some(threshold)).expect("three widths"))
        };
        assert_eq!([text(100.0), text(1.0)], ["< 10", "> 40"]);
        assert!(text(7.0).starts_with("29 (") && !text(7.0).contains('>'), "{}", text(7.0));
        assert_eq!(found.crossing(|_| None), None);
    }
}
