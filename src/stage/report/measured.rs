//! The numbers of a run that the report's sentences are made of.

use super::conclusions::Tests;
use crate::stage::artifact::DataCard;
use crate::stage::rows::{
    CurveGroup, GroupMean, Metric, MetricSummary, NetFamily, Summaries, hiddens, is_plain, means,
    parsed, priors,
};
use crate::stage::tables::texts;
use crate::stage::talk::{self, Published};
use crate::study::curve::Method;
use crate::study::net::{Hidden, Prior};
use crate::study::stats::{Average, Interval, noise_of_difference};
use anyhow::Result;
use polars::prelude::DataFrame;
use std::collections::{BTreeMap, BTreeSet};

/// The numbers of a run.
pub(super) struct Measured {
    pub(super) data: DataCard,
    /// The number of nets.
    pub(super) nets: usize,
    /// The number of nets that were trained elsewhere.
    pub(super) imported: usize,
    /// The test error of single nets, by hidden layers and prior, in %.
    pub(super) ends: BTreeMap<(Hidden, Prior), GroupMean>,
    pub(super) summaries: Summaries,
    /// The published numbers; empty if the data are not MNIST.
    pub(super) published: Vec<Published>,
    /// The metrics by pair.
    pub(super) tests: Tests,
}

/// How a published number compares to this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// Within the 95 % prediction interval.
    Inside,
    /// Outside, but within the noise of the test set.
    Near,
    /// Outside.
    Outside,
}

impl Mark {
    pub(super) const ALL: [Mark; 3] = [Mark::Inside, Mark::Near, Mark::Outside];

    /// The symbol in a table.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Mark::Inside => "=",
            Mark::Near => "≈",
            Mark::Outside => "≠",
        }
    }
}

/// Published numbers beside our prediction intervals.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Agreement {
    /// The published numbers with a prediction interval.
    pub(super) total: usize,
    /// Those within it.
    pub(super) inside: usize,
    /// The number that is expected to be within it, rounded.
    pub(super) expected: usize,
    /// The median over the intervals of half the width over our mean.
    pub(super) half_width: f64,
    /// The number of intervals whose half-width exceeds half of our mean.
    pub(super) wide: usize,
}

impl Measured {
    /// The curves of the run.
    pub(super) fn groups(&self) -> BTreeSet<CurveGroup> {
        self.summaries.keys().map(|(group, _)| *group).collect()
    }

    /// The hidden layers of the nets at the ends of the run's curves.
    pub(super) fn hiddens(&self) -> BTreeSet<Hidden> {
        hiddens(&self.groups())
    }

    /// Whether there is a net with several hidden layers or with biases.
    pub(super) fn has_general_nets(&self) -> bool {
        !self.hiddens().iter().all(is_plain)
    }

    /// `width`, or `architecture` if the nets differ in more than that.
    pub(super) fn kind_of_nets(&self) -> &'static str {
        if self.has_general_nets() { "architecture" } else { "width" }
    }

    /// The nets with one hidden layer, ascending by width: those without biases, if there are any.
    pub(super) fn by_width(&self) -> Vec<Hidden> {
        let family = NetFamily::by_width(self.hiddens()).into_iter().next();
        family.map_or(Vec::new(), |family| family.nets.into_iter().map(|(net, _)| net).collect())
    }

    /// The nets with hidden layers of equal width, where their number differs.
    pub(super) fn by_depth(&self) -> Vec<NetFamily> {
        NetFamily::by_depth(self.hiddens())
    }

    /// The priors of the run's curves.
    pub(super) fn priors(&self) -> BTreeSet<Prior> {
        priors(&self.groups())
    }

    /// The methods of the run, the talk's first.
    pub(super) fn methods(&self) -> Vec<Method> {
        talk::in_order(self.groups().into_iter().map(|group| group.method))
    }

    /// The mean of a metric over the pairs of a group.
    pub(super) fn mean(&self, group: CurveGroup, metric: Metric) -> Option<&GroupMean> {
        self.summaries.get(&(group, metric)).map(|summary| &summary.mean)
    }

    /// The method that others are compared with, see [`reference()`].
    pub(super) fn reference_method(&self) -> Option<Method> {
        reference(&self.methods())
    }

    /// See [`most_elaborate`].
    pub(super) fn most_elaborate(&self, base: Method) -> Method {
        most_elaborate(&self.methods(), base)
    }

    /// The prior that others are compared with: none, or else the first one.
    pub(super) fn reference_prior(&self) -> Option<Prior> {
        self.priors().first().copied()
    }

    /// The smallest and the largest number of pairs behind a mean; `None` without curves.
    pub(super) fn pairs(&self) -> Option<[usize; 2]> {
        let counts = || self.summaries.values().map(|summary| summary.mean.count);
        Some([counts().min()?, counts().max()?])
    }

    /// The smallest and the largest number of nets behind a mean over pairs; `None` without curves.
    pub(super) fn nets_of_means(&self) -> Option<[usize; 2]> {
        let counts = || self.summaries.values().map(|summary| summary.mean.nets);
        Some([counts().min()?, counts().max()?])
    }

    /// Whether no mean is over pairs that share a net.
    pub(super) fn has_disjoint_pairs(&self) -> bool {
        self.summaries.values().all(|summary| summary.mean.nets == 2 * summary.mean.count)
    }

    /// The number of curves: one for each pair, width, prior and method.
    pub(super) fn curves(&self) -> usize {
        let errors = self.tests.pairs.iter().filter(|((_, metric), _)| *metric == Metric::MaxError);
        errors.map(|(_, pairs)| pairs.len()).sum()
    }

    /// The mean excess of a group, and two standard errors of the difference of the two test errors
    /// that it consists of; both in points.
    pub(super) fn excess_and_noise(&self, group: CurveGroup) -> Option<(f64, f64)> {
        let excess = self.mean(group, Metric::ExcessError)?.mean;
        let error = self.mean(group, Metric::MaxError)?.mean;
        let worse_end = (error - excess).clamp(0.0, 100.0);
        Some((excess, noise_of_difference(error, worse_end, self.data.test)))
    }

    /// The mark of a published number; `None` without a prediction interval.
    pub(super) fn mark(&self, published: &Published) -> Option<Mark> {
        let summary = self.summaries.get(&(published.group(), Metric::MaxError))?;
        mark(summary, published.max_error, self.data.test)
    }

    /// The published numbers for curves of the run.
    pub(super) fn comparable(&self) -> Vec<&Published> {
        let is_measured =
            |number: &&Published| self.mean(number.group(), Metric::MaxError).is_some();
        self.published.iter().filter(is_measured).collect()
    }

    /// The published numbers beside our prediction intervals; `None` if there are none.
    pub(super) fn agreement(&self) -> Option<Agreement> {
        let predicted = self.published.iter().filter_map(|published| {
            let summary = self.summaries.get(&(published.group(), Metric::MaxError))?;
            Some((published.max_error, summary.mean.mean, summary.prediction?))
        });
        let predicted: Vec<(f64, f64, Interval)> = predicted.collect();
        let mut widths: Vec<f64> =
            predicted.iter().map(|(_, mean, interval)| interval.half_width() / mean).collect();
        widths.sort_by(f64::total_cmp);
        Some(Agreement {
            total: predicted.len(),
            inside: predicted.iter().filter(|(x, _, interval)| interval.contains(*x)).count(),
            expected: (0.95 * predicted.len() as f64).round() as usize,
            half_width: median(&widths)?,
            wide: widths.iter().filter(|width| **width > 0.5).count(),
        })
    }
}

/// The first method that is neither aligned nor adjusted, or else the first one.
fn reference(methods: &[Method]) -> Option<Method> {
    methods.iter().find(|method| method.is_base()).or(methods.first()).copied()
}

/// The most elaborate method on the curve of `base`: with alignment and adjustment, or else with
/// alignment, or else with adjustment.
fn most_elaborate(methods: &[Method], base: Method) -> Method {
    let parts = |method: &Method| (method.alignment.is_some(), method.adjustment.is_some());
    let of_base = methods.iter().copied().filter(|method| method.base() == base.base());
    // The last of equal ones is the maximum, so the order is reversed: the first wins.
    of_base.rev().max_by_key(parts).unwrap_or(base)
}

/// The methods that sentences name: the reference and the most elaborate one on its curve, chosen
/// by their kind.
pub(super) fn examples(methods: &[Method]) -> Vec<Method> {
    let Some(reference) = reference(methods) else { return Vec::new() };
    let mut examples = vec![reference, most_elaborate(methods, reference)];
    examples.dedup();
    examples
}

fn mark(summary: &MetricSummary, published: f64, images: usize) -> Option<Mark> {
    let mean = summary.mean.mean;
    Some(match summary.prediction? {
        interval if interval.contains(published) => Mark::Inside,
        _ if (mean - published).abs() <= noise_of_difference(mean, published, images) => Mark::Near,
        _ => Mark::Outside,
    })
}

/// The test errors in the table of endpoints.
pub(super) fn test_errors(endpoints: &DataFrame) -> Result<BTreeMap<(Hidden, Prior), GroupMean>> {
    let (hidden, prior) = (parsed(endpoints, "hidden")?, parsed::<Prior>(endpoints, "prior")?);
    let (quantity, means) = (texts(endpoints, "quantity")?, means(endpoints)?);
    let nets = hidden.into_iter().zip(prior);
    let errors = nets.zip(means).zip(&quantity).filter(|(_, quantity)| *quantity == "test_error");
    Ok(errors.map(|(mean, _)| mean).collect())
}

/// A mean with half the width of its interval; a geometric one with the ends of its interval; the
/// values themselves, or their range, without an interval.
pub(super) fn mean_text(mean: &GroupMean, digits: usize) -> String {
    let GroupMean { nets: _, count, average, mean, interval, range: (least, most) } = mean;
    match (interval, average) {
        (Some(interval), Average::Arithmetic) => {
            format!("{mean:.digits$} ± {:.digits$}", interval.half_width())
        }
        (Some(Interval { low, high }), Average::Geometric) => {
            format!("{mean:.digits$} ({low:.digits$} to {high:.digits$}, geometric)")
        }
        (None, _) if *count == 1 => format!("{mean:.digits$}"),
        (None, _) if *count == 2 => format!("{least:.digits$}; {most:.digits$}"),
        (None, _) => format!("{least:.digits$} to {most:.digits$}"),
    }
}

/// The median of sorted values.
fn median(sorted: &[f64]) -> Option<f64> {
    let (below, above) =
        (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(below + (above - below) / 2.0)
}
