//! Nets with a shared start: after how many shared epochs the curve between them has no barrier.

use super::Report;
use super::full_tables::{folded, hidden_cell};
use super::measured::mean_text;
use super::questions::text;
use super::sentences::{Sentence, curve_name, list, prior_name};
use crate::report::document::{Block, Cell, Column, TableBlock};
use crate::report::table::Align;
use crate::stage::plot::Subject;
use crate::stage::rows::{CurveGroup, GroupMean, Metric, SharedStarts};
use crate::study::curve::Method;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// Below this barrier of the error, in points, two nets are said to be connected.
const POINT: f64 = 1.0;

/// The columns of the table: a metric, its heading, and its decimals.
const METRICS: [(Metric, &str, usize); 3] = [
    (Metric::LossBarrier, "barrier of the loss, nats", 5),
    (Metric::ErrorBarrier, "barrier of the error, points", 3),
    (Metric::MaxError, "largest error, %", 2),
];

/// Empty for a run without nets with a shared start.
pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let starts = &report.shared_starts;
    if starts.is_empty() {
        return Ok(Vec::new());
    }
    let mut blocks = text([connected_from(starts), example(starts)]);
    blocks.extend(report.figures_on(Subject::SharedStart));
    let table = table(report)?;
    blocks.push(folded(table, "means by shared epochs"));
    Ok(blocks)
}

fn groups(starts: &SharedStarts) -> BTreeSet<CurveGroup> {
    starts.keys().map(|(group, _)| *group).collect()
}

/// The method of the sentences: the straight line, or else the first one.
fn reference(starts: &SharedStarts) -> Option<Method> {
    let methods: BTreeSet<Method> = groups(starts).iter().map(|group| group.method).collect();
    let is_linear = |method: &&Method| method.name() == "linear";
    methods.iter().find(is_linear).or(methods.first()).copied()
}

/// From when on the barrier is below a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Connected {
    From(u32),
    /// At none of the measured numbers of epochs, of which this is the largest.
    NotUpTo(u32),
    TooFewTrunks,
}

impl Connected {
    /// The least number of epochs from which on the confidence interval of every mean is below a
    /// point. Equal nets have no barrier, whatever their number.
    fn of(barriers: &BTreeMap<u32, GroupMean>) -> Option<Connected> {
        let last = *barriers.last_key_value()?.0;
        if barriers.values().all(|mean| mean.interval.is_none()) {
            return Some(Connected::TooFewTrunks);
        }
        let is_below = |mean: &GroupMean| mean.interval.is_some_and(|i| i.high < POINT);
        let below = barriers.iter().rev().take_while(|(_, mean)| is_below(mean));
        Some(below.last().map_or(Connected::NotUpTo(last), |(k, _)| Connected::From(*k)))
    }
}

/// From how many shared epochs on the barrier of the error is below a point.
fn connected_from(starts: &SharedStarts) -> Option<Sentence> {
    let method = reference(starts)?;
    let mut places: BTreeMap<Connected, Vec<String>> = BTreeMap::new();
    for group in groups(starts).into_iter().filter(|group| group.method == method) {
        let barriers = starts.get(&(group, Metric::ErrorBarrier));
        if let Some(connected) = barriers.and_then(Connected::of) {
            places.entry(connected).or_default().push(place(group));
        }
    }
    let is_single = places.values().map(Vec::len).sum::<usize>() == 1;
    let curve = curve_name(method);
    let phrase = |(connected, places): (&Connected, &Vec<String>)| {
        let at = if is_single { String::new() } else { format!(" at {}", list(places)) };
        match connected {
            Connected::From(k) => format!("from k = {k} shared epochs on{at}"),
            Connected::NotUpTo(k) => format!("at no number of shared epochs up to {k}{at}"),
            Connected::TooFewTrunks => format!("undecided for want of trunks{at}"),
        }
    };
    if places.keys().all(|connected| *connected == Connected::TooFewTrunks) {
        let lead = "There are too few trunks for a verdict on the shared start.";
        return Some(Sentence::new(lead, String::new()));
    }
    let phrases: Vec<String> = places.iter().map(phrase).collect();
    let lead =
        format!("The barrier of the error on {curve} is below 1 point {}.", phrases.join("; "));
    let rest = "This holds for the 95 % confidence interval of the mean over trunks, at that and \
                every larger measured k.";
    let holds = places.keys().any(|connected| matches!(connected, Connected::From(_)));
    Some(Sentence::new(lead, if holds { rest.to_owned() } else { String::new() }))
}

/// `h = 50, without prior`.
fn place(group: CurveGroup) -> String {
    format!("h = {}, {}", group.hidden, prior_name(group.prior))
}

/// The barrier of the loss and the largest error of one group, at the ends of the axis.
fn example(starts: &SharedStarts) -> Option<Sentence> {
    let method = reference(starts)?;
    let group = groups(starts).into_iter().find(|group| group.method == method)?;
    let values = |metric: Metric, digits: usize, unit: &str| {
        let means = starts.get(&(group, metric))?;
        let (first, last) = (means.first_key_value()?, means.last_key_value()?);
        let at = |(k, mean): (&u32, &GroupMean)| {
            format!("{} {unit} at k = {k}", mean_text(mean, digits))
        };
        Some(if first.0 == last.0 { at(first) } else { format!("{}, {}", at(first), at(last)) })
    };
    let barrier = values(Metric::LossBarrier, 5, "nats")?;
    let error = values(Metric::MaxError, 2, "%")?;
    let lead = format!("With {}, the barrier of the loss is {barrier}.", place(group));
    Some(Sentence::new(lead, format!("The largest error is {error}.")))
}

/// `4`, or `3 to 4`: the number of trunks behind a mean.
fn trunks(starts: &SharedStarts) -> String {
    let counts: BTreeSet<usize> =
        starts.values().flat_map(BTreeMap::values).map(|mean| mean.count).collect();
    match (counts.first(), counts.last()) {
        (Some(least), Some(most)) if least != most => format!("{least} to {most}"),
        (least, _) => least.map_or("none".to_owned(), usize::to_string),
    }
}

fn table(report: &Report) -> Result<TableBlock> {
    let starts = &report.shared_starts;
    let mut rows = Vec::new();
    for group in groups(starts) {
        let of = |metric: Metric| starts.get(&(group, metric));
        let epochs: BTreeSet<u32> = METRICS
            .iter()
            .filter_map(|(metric, ..)| of(*metric))
            .flat_map(BTreeMap::keys)
            .copied()
            .collect();
        for k in epochs {
            let mean = |metric: Metric| of(metric).and_then(|means| means.get(&k));
            let mut row = vec![
                hidden_cell(group.hidden),
                Cell::text(group.prior.to_string()),
                Cell::text(group.method.title()),
                Cell::number(Some(f64::from(k)), |k| k.to_string()),
            ];
            row.extend(METRICS.iter().map(|(metric, _, digits)| {
                let mean = mean(*metric);
                let text = |_| mean.map_or(String::new(), |mean| mean_text(mean, *digits));
                Cell::number(mean.map(|mean| mean.mean), text)
            }));
            rows.push(row);
        }
    }
    let mut columns = vec![
        Column::of_facet("hidden", Align::Right),
        Column::of_facet("prior", Align::Left),
        Column::new("method", Align::Left),
        Column::new("shared epochs k", Align::Right),
    ];
    columns.extend(METRICS.iter().map(|(_, heading, _)| Column::new(*heading, Align::Left)));
    Ok(TableBlock {
        id: "shared-start-means".to_owned(),
        title: "Curves between nets with a shared start".to_owned(),
        caption: format!(
            "Two nets follow one trunk for k epochs, with its initial weights, batches and dropout \
             masks, and then draw their own; velocity and schedule continue. k = 0 shares the \
             initial weights alone. The sample consists of trunks, {} for each mean: each pair has \
             a trunk of its own, and intervals are Student's t over trunks.\n",
            trunks(starts)
        ),
        columns,
        rows,
        source: report.shared_source()?,
        facets: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::stats::{Average, Interval};

    fn mean(mean: f64, half: Option<f64>) -> GroupMean {
        let interval = half.map(|half| Interval { low: mean - half, high: mean + half });
        let average = Average::Arithmetic;
        GroupMean { nets: 8, count: 4, average, mean, interval, range: (mean, mean) }
    }

    /// Hidden layers, prior, and the means with half their intervals by the number of epochs.
    type Means<'a> = (&'a str, &'a str, &'a [(u32, f64, Option<f64>)]);

    /// The same means for every metric.
    fn starts(groups: &[Means]) -> SharedStarts {
        let mut starts = SharedStarts::new();
        for (hidden, prior, means) in groups {
            let (hidden, prior) = (hidden.parse().unwrap(), prior.parse().unwrap());
            let group = CurveGroup { hidden, prior, method: "linear".parse().unwrap() };
            for metric in Metric::ALL {
                let means = means.iter().map(|&(k, x, half)| (k, mean(x, half))).collect();
                starts.insert((group, metric), means);
            }
        }
        starts
    }

    #[test]
    fn the_verdict_names_the_epochs_from_which_on_every_interval_is_below_a_point() {
        let [first, last] = [(0, 9.0, Some(1.0)), (5, 0.1, Some(0.1))];
        let means = [first, (1, 0.5, Some(0.4)), (3, 0.7, Some(0.4)), last];
        let one = ("50", "none", &means[..]);
        let sentence = connected_from(&starts(&[one])).unwrap();
        assert_eq!(
            sentence.lead,
            "The barrier of the error on the straight line is below 1 point from k = 5 shared \
             epochs on."
        );
        assert!(sentence.rest.ends_with("every larger measured k."));
        let two = connected_from(&starts(&[one, ("70", "none", &means[..])])).unwrap();
        let places = " epochs on at h = 50, without prior and h = 70, without prior.";
        assert!(two.lead.ends_with(places), "{}", two.lead);
        let never = ("500", "dropout 0.5", &[(0, 9.0, Some(1.0)), (5, 2.0, Some(0.1))][..]);
        assert_eq!(
            connected_from(&starts(&[one, never])).unwrap().lead,
            "The barrier of the error on the straight line is below 1 point from k = 5 shared \
             epochs on at h = 50, without prior; at no number of shared epochs up to 5 at h = 500, \
             with the prior dropout 0.5."
        );
        let example = example(&starts(&[one])).unwrap();
        assert_eq!(
            example.lead,
            "With h = 50, without prior, the barrier of the loss is 9.00000 ± 1.00000 nats at k = \
             0, 0.10000 ± 0.10000 nats at k = 5."
        );
        assert_eq!(
            example.rest,
            "The largest error is 9.00 ± 1.00 % at k = 0, 0.10 ± 0.10 % at k = 5."
        );
    }

    #[test]
    fn without_intervals_there_is_no_verdict() {
        let few = starts(&[("50", "none", &[(0, 9.0, None), (5, 0.0, None)])]);
        let lead = "There are too few trunks for a verdict on the shared start.";
        assert_eq!(connected_from(&few).unwrap().lead, lead);
        assert_eq!(connected_from(&SharedStarts::new()), None);
    }
}
