//! The report's tables and lists of results, as Markdown.

use crate::report::markdown::escape;
use crate::report::table::{Align, Table};
use crate::stage::rows::{
    CurveGroup, GroupMean, Metric, MetricSummary, Summaries, means, parsed, priors, widths,
};
use crate::stage::tables::{numbers, texts, wholes};
use crate::stage::talk::{self, Published};
use crate::study::curve::Method;
use crate::study::net::Prior;
use crate::study::stats::{Average, Interval, noise_of_difference};
use anyhow::Result;
use polars::prelude::DataFrame;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A final validation loss above the lowest by this factor indicates overfitting.
const OVERFIT: f64 = 1.05;

/// The training of one net by epoch; NaN without a validation split.
#[derive(Default)]
struct Training {
    train_error: Vec<f64>,
    validation_loss: Vec<f64>,
}

impl Training {
    fn is_overfit(&self) -> bool {
        let lowest = self.validation_loss.iter().copied().fold(f64::INFINITY, f64::min);
        self.validation_loss.last().is_some_and(|last| *last > OVERFIT * lowest)
    }
}

/// A list of priors with the training of their nets; `histories` is sorted by net and epoch.
pub(super) fn training(histories: &DataFrame) -> Result<String> {
    let (hidden, prior) = (wholes(histories, "hidden")?, parsed::<Prior>(histories, "prior")?);
    let (pair, end) = (wholes(histories, "pair")?, texts(histories, "end")?);
    let (error, loss) =
        (numbers(histories, "train_error")?, numbers(histories, "validation_loss")?);
    let mut priors: BTreeMap<Prior, BTreeMap<(i64, i64, &str), Training>> = BTreeMap::new();
    for i in 0..histories.height() {
        let nets = priors.entry(prior[i]).or_default();
        let net = nets.entry((hidden[i], pair[i], &end[i])).or_default();
        net.train_error.push(error[i]);
        net.validation_loss.push(loss[i]);
    }
    let mut text = String::new();
    for (prior, nets) in &priors {
        let first = range(nets.values().filter_map(|net| net.train_error.first()));
        let last = range(nets.values().filter_map(|net| net.train_error.last()));
        let is_validated = |net: &&Training| net.validation_loss.iter().all(|x| x.is_finite());
        let validated = nets.values().filter(is_validated).count();
        let overfit = nets.values().filter(|net| net.is_overfit()).count();
        write!(
            text,
            "- Prior {}, {} net{}: training error {first} in the first epoch and {last} in the \
             last",
            escape(&prior.to_string()),
            nets.len(),
            if nets.len() == 1 { "" } else { "s" }
        )?;
        if validated > 0 {
            write!(
                text,
                "; the final validation loss of {overfit} of {validated} is more than {:.0} % \
                 above its minimum",
                100.0 * (OVERFIT - 1.0)
            )?;
        }
        writeln!(text, ".")?;
    }
    Ok(text)
}

/// `1.20 to 3.40 %`.
fn range<'a>(values: impl Iterator<Item = &'a f64>) -> String {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (x.min(low), x.max(high)));
    if low == high { format!("{low:.2} %") } else { format!("{low:.2} to {high:.2} %") }
}

/// The quantities of the table of endpoints: name, heading, decimals.
const ENDPOINT_QUANTITIES: [(&str, &str, usize); 7] = [
    ("test_error", "test error, %", 2),
    ("validation_error", "validation error, %", 2),
    ("train_error", "training error, %", 2),
    ("train_loss", "training loss, nats", 4),
    ("norm_w1", "norm of W1", 2),
    ("norm_w2", "norm of W2", 2),
    ("active_neurons", "active neurons", 1),
];

/// The table of endpoints: width and prior by quantity.
pub(super) fn endpoints(frame: &DataFrame) -> Result<String> {
    let (hidden, prior) = (wholes(frame, "hidden")?, parsed::<Prior>(frame, "prior")?);
    let (quantity, values) = (texts(frame, "quantity")?, means(frame)?);
    let means: BTreeMap<(Prior, i64, &str), &GroupMean> = (0..values.len())
        .map(|i| ((prior[i], hidden[i], quantity[i].as_str()), &values[i]))
        .collect();
    let present = ENDPOINT_QUANTITIES
        .into_iter()
        .filter(|(quantity, ..)| means.keys().any(|(.., measured)| measured == quantity));
    let quantities: Vec<(&str, &str, usize)> = present.collect();
    let mut columns = vec![("hidden".to_owned(), Align::Right), ("prior".to_owned(), Align::Left)];
    columns.extend(quantities.iter().map(|(_, heading, _)| ((*heading).to_owned(), Align::Right)));
    let nets: BTreeSet<(Prior, i64)> =
        means.keys().map(|(prior, hidden, _)| (*prior, *hidden)).collect();
    let row = |&(prior, hidden): &(Prior, i64)| {
        let cell = |&(quantity, _, digits): &(&str, &str, usize)| {
            means
                .get(&(prior, hidden, quantity))
                .map_or(String::new(), |mean| mean_text(mean, digits))
        };
        let names = [hidden.to_string(), prior.to_string()];
        names.into_iter().chain(quantities.iter().map(cell)).collect()
    };
    Ok(Table { columns, rows: nets.iter().map(row).collect() }.to_markdown())
}

/// A table for each prior, under `heading`: methods by widths.
fn by_prior(
    summaries: &Summaries,
    heading: &str,
    align: Align,
    cell: impl Fn(CurveGroup) -> String,
) -> String {
    let groups: BTreeSet<CurveGroup> = summaries.keys().map(|(group, _)| *group).collect();
    let widths = widths(&groups);
    let methods = talk::in_order(groups.iter().map(|group| group.method));
    let mut text = String::new();
    for prior in priors(&groups) {
        let row = |method: &Method| {
            let method = *method;
            let cells = widths.iter().map(|&hidden| cell(CurveGroup { hidden, prior, method }));
            std::iter::once(method.title()).chain(cells).collect()
        };
        let mut columns = vec![("method".to_owned(), Align::Left)];
        columns.extend(widths.iter().map(|h| (format!("h = {h}"), align)));
        let table = Table { columns, rows: methods.iter().map(row).collect() };
        let prior = escape(&prior.to_string());
        text += &format!("### {heading}: {prior}\n\n{}\n", table.to_markdown());
    }
    text
}

/// The barriers of loss and error.
pub(super) fn barriers(summaries: &Summaries) -> String {
    by_prior(summaries, "Barriers, prior", Align::Right, |group| {
        let mean = |metric| Some(summaries.get(&(group, metric))?.mean.mean);
        let barriers = mean(Metric::LossBarrier).zip(mean(Metric::ErrorBarrier));
        barriers.map_or(String::new(), |(loss, error)| format!("{loss:.3} / {error:.2}"))
    })
}

/// The largest errors, beside the `published` ones.
pub(super) fn max_errors(summaries: &Summaries, published: &[Published], images: usize) -> String {
    by_prior(summaries, "Prior", Align::Left, |group| {
        let number = published.iter().find(|number| number.group() == group);
        let summary = summaries.get(&(group, Metric::MaxError));
        summary.map_or(String::new(), |summary| with_published(summary, number, images))
    })
}

/// The mark of a published number within our prediction interval.
pub(super) const INSIDE: &str = "=";
/// The mark of a published number outside the interval, but within the noise of the test set.
pub(super) const NEAR: &str = "≈";
/// The mark of any other published number.
pub(super) const OUTSIDE: &str = "≠";

/// Our mean and, after a slash, the published number; both are measured on `images` test images.
fn with_published(summary: &MetricSummary, published: Option<&Published>, images: usize) -> String {
    let MetricSummary { mean, prediction } = summary;
    let Some(number) = published.map(|published| published.max_error) else {
        return mean_text(mean, 2);
    };
    let mark = match prediction {
        None => "",
        Some(interval) if interval.contains(number) => INSIDE,
        Some(_) if (mean.mean - number).abs() <= noise_of_difference(mean.mean, number, images) => {
            NEAR
        }
        Some(_) => OUTSIDE,
    };
    format!("{} / {number} {mark}", mean_text(mean, 2)).trim_end().to_owned()
}

/// The number of published numbers within our prediction intervals, and the width of these.
pub(super) fn agreement(summaries: &Summaries, published: &[Published]) -> String {
    let predicted = published.iter().filter_map(|published| {
        let summary = summaries.get(&(published.group(), Metric::MaxError))?;
        Some((published.max_error, summary.mean.mean, summary.prediction?))
    });
    let predicted: Vec<(f64, f64, Interval)> = predicted.collect();
    let mut widths: Vec<f64> =
        predicted.iter().map(|(_, mean, interval)| interval.half_width() / mean).collect();
    widths.sort_by(f64::total_cmp);
    let Some(median) = median(&widths) else { return String::new() };
    let inside =
        predicted.iter().filter(|(number, _, interval)| interval.contains(*number)).count();
    let wide = widths.iter().filter(|width| **width > 0.5).count();
    format!(
        "Of {} numbers with a prediction interval, {inside} are within it; {:.0} are expected to \
         be. The median half-width of these intervals is {:.0} % of our mean; {wide} of them \
         exceed 50 %.",
        predicted.len(),
        0.95 * predicted.len() as f64,
        100.0 * median
    )
}

/// A mean with half the width of its interval; a geometric one with the ends of its interval; the
/// values themselves, or their range, without an interval.
fn mean_text(mean: &GroupMean, digits: usize) -> String {
    let GroupMean { count, average, mean, interval, range: (least, most) } = mean;
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

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::*;

    fn histories(nets: &[(&str, &[f64])]) -> DataFrame {
        let rows: Vec<(i64, &str, f64)> = nets
            .iter()
            .enumerate()
            .flat_map(|(pair, (prior, losses))| {
                losses.iter().map(move |&loss| (pair as i64, *prior, loss))
            })
            .collect();
        let loss: Vec<Option<f64>> =
            rows.iter().map(|row| Some(row.2).filter(|x| x.is_finite())).collect();
        let error = rows.iter().map(|row| if row.2.is_nan() { 5.0 } else { 10.0 * row.2 });
        df!(
            "hidden" => vec![10_i64; rows.len()],
            "prior" => rows.iter().map(|row| row.1).collect::<Vec<_>>(),
            "pair" => rows.iter().map(|row| row.0).collect::<Vec<_>>(),
            "end" => vec!["a"; rows.len()],
            "train_error" => error.collect::<Vec<_>>(),
            "validation_loss" => loss,
        )
        .unwrap()
    }

    #[test]
    fn the_training_of_each_prior_is_summarized() {
        let frame = histories(&[
            ("none", &[2.0, 1.0, 1.2]),
            ("none", &[3.0, 1.0, 0.5]),
            ("dropout 0.5", &[4.0, 2.0]),
        ]);
        assert_eq!(
            training(&frame).unwrap(),
            "- Prior none, 2 nets: training error 20.00 to 30.00 % in the first epoch and 5.00 to \
             12.00 % in the last; the final validation loss of 1 of 2 is more than 5 % above its \
             minimum.\n\
             - Prior dropout 0.5, 1 net: training error 40.00 % in the first epoch and 20.00 % in \
             the last; the final validation loss of 0 of 1 is more than 5 % above its minimum.\n"
        );
    }

    #[test]
    fn without_a_validation_split_there_is_no_validation_loss() {
        let frame = histories(&[("none", &[f64::NAN, f64::NAN])]);
        assert_eq!(
            training(&frame).unwrap(),
            "- Prior none, 1 net: training error 5.00 % in the first epoch and 5.00 % in the \
             last.\n"
        );
    }

    fn mean(count: usize, mean: f64, interval: Option<(f64, f64)>) -> GroupMean {
        let interval = interval.map(|(low, high)| Interval { low, high });
        let average = Average::Arithmetic;
        GroupMean { count, average, mean, interval, range: (mean - 1.0, mean + 1.0) }
    }

    #[test]
    fn the_table_of_barriers_of_a_prior_has_every_method_and_width() {
        let summary = |hidden: i64, method: &str, metric: Metric, x: f64| {
            let (prior, method) = (Prior::None, method.parse().expect("a method"));
            let group = CurveGroup { hidden, prior, method };
            ((group, metric), MetricSummary { mean: mean(1, x, None), prediction: None })
        };
        let summaries = Summaries::from([
            summary(10, "linear", Metric::LossBarrier, 0.5),
            summary(10, "linear", Metric::ErrorBarrier, 12.0),
            summary(50, "arc", Metric::LossBarrier, 0.25),
            summary(50, "arc", Metric::ErrorBarrier, 3.0),
        ]);
        insta::assert_snapshot!(barriers(&summaries), @r"
        ### Barriers, prior: none

        | method |        h = 10 |       h = 50 |
        | ------ | ------------: | -----------: |
        | Linear | 0.500 / 12.00 |              |
        | Arc    |               | 0.250 / 3.00 |
        ");
    }

    #[test]
    fn a_published_number_is_marked_by_its_distance_from_the_prediction() {
        let published = Published {
            prior: Prior::None,
            method: "linear".parse().expect("a method"),
            hidden: 50,
            max_error: 20.0,
        };
        let case = |center: f64, prediction: Option<(f64, f64)>, expected: &str| {
            let mean = mean(3, center, Some((center - 1.0, center + 1.0)));
            let prediction = prediction.map(|(low, high)| Interval { low, high });
            let summary = MetricSummary { mean, prediction };
            assert_eq!(with_published(&summary, Some(&published), 10_000), expected);
        };
        case(22.0, Some((19.0, 25.0)), "22.00 ± 1.00 / 20 =");
        case(21.0, Some((20.1, 21.9)), "21.00 ± 1.00 / 20 ≈");
        case(22.0, Some((20.1, 23.9)), "22.00 ± 1.00 / 20 ≠");
        case(22.0, None, "22.00 ± 1.00 / 20");
        let few = MetricSummary { mean: mean(2, 22.0, None), prediction: None };
        assert_eq!(with_published(&few, Some(&published), 10_000), "21.00; 23.00 / 20");
        assert_eq!(with_published(&few, None, 10_000), "21.00; 23.00");
    }

    #[test]
    fn a_mean_without_interval_shows_its_values_and_a_geometric_one_its_kind() {
        assert_eq!(mean_text(&mean(1, 2.0, None), 1), "2.0");
        assert_eq!(mean_text(&mean(2, 2.0, None), 1), "1.0; 3.0");
        assert_eq!(mean_text(&mean(3, 2.0, None), 1), "1.0 to 3.0");
        let geometric = GroupMean { average: Average::Geometric, ..mean(3, 2.0, Some((0.5, 8.0))) };
        assert_eq!(mean_text(&geometric, 1), "2.0 (0.5 to 8.0, geometric)");
    }

    #[test]
    fn the_median_of_an_even_number_of_values_is_between_the_middle_two() {
        assert_eq!(
            [&[][..], &[3.0], &[1.0, 3.0], &[1.0, 3.0, 9.0]].map(median),
            [None, Some(3.0), Some(2.0), Some(3.0)]
        );
    }
}
