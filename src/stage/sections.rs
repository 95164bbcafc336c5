//! Sections of the report beside its main tables: training, and the barriers of the curves.
//!
//! From tables to Markdown. Where the tables come from, and what computes them alone, the report
//! says.

use super::figures::by_strength;
use super::tables::{Mean, numbers, texts, wholes};
use super::talk::{ordered, title};
use crate::report::markdown::escape;
use crate::report::table::{Align, Table};
use anyhow::Result;
use polars::prelude::DataFrame;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What a metric on the test split is of: width, prior, method and metric.
pub(super) type Key = (i64, String, String, String);

/// A validation loss this many times the lowest of the same net says that training went on too
/// long.
const RISEN: f64 = 1.05;

/// One net's training, epoch by epoch; NaN where there is no validation split.
#[derive(Default)]
struct Training {
    train_error: Vec<f64>,
    validation_loss: Vec<f64>,
}

impl Training {
    fn has_risen(&self) -> bool {
        let lowest = self.validation_loss.iter().copied().fold(f64::INFINITY, f64::min);
        self.validation_loss.last().is_some_and(|last| *last > RISEN * lowest)
    }
}

/// How the nets of each prior trained; `histories` is sorted by net and epoch.
pub(super) fn training(histories: &DataFrame) -> Result<String> {
    let (hidden, prior) = (wholes(histories, "hidden")?, texts(histories, "prior")?);
    let (pair, end) = (wholes(histories, "pair")?, texts(histories, "end")?);
    let (error, loss) =
        (numbers(histories, "train_error")?, numbers(histories, "validation_loss")?);
    let mut priors: BTreeMap<&str, BTreeMap<(i64, i64, &str), Training>> = BTreeMap::new();
    for i in 0..histories.height() {
        let net =
            priors.entry(&prior[i]).or_default().entry((hidden[i], pair[i], &end[i])).or_default();
        net.train_error.push(error[i]);
        net.validation_loss.push(loss[i]);
    }
    let mut text = String::new();
    for prior in by_strength(prior.iter().cloned()) {
        let nets: Vec<&Training> = priors[prior.as_str()].values().collect();
        let first = range(nets.iter().filter_map(|net| net.train_error.first()));
        let last = range(nets.iter().filter_map(|net| net.train_error.last()));
        let validated = nets
            .iter()
            .filter(|net| net.validation_loss.iter().all(|loss| loss.is_finite()))
            .count();
        let risen = nets.iter().filter(|net| net.has_risen()).count();
        write!(
            text,
            "- Prior {}, {} net{}: the train error is {first} in the first epoch and {last} in the last",
            escape(&prior),
            nets.len(),
            if nets.len() == 1 { "" } else { "s" }
        )?;
        if validated > 0 {
            let above = 100.0 * (RISEN - 1.0);
            write!(
                text,
                "; in {risen} of {validated} the last validation loss is more than {above:.0} % above the lowest"
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

/// A table for each prior: the barriers of the loss and of the error, method by width.
pub(super) fn barriers<C>(cells: &BTreeMap<Key, C>, mean: fn(&C) -> &Mean) -> Result<String> {
    let widths: BTreeSet<i64> = cells.keys().map(|(hidden, ..)| *hidden).collect();
    let methods = ordered(cells.keys().map(|(_, _, method, _)| method.clone()));
    let mut text = String::new();
    for prior in by_strength(cells.keys().map(|(_, prior, ..)| prior.clone())) {
        let cell = |method: &String, hidden: i64| {
            let cell = |metric: &str| {
                cells.get(&(hidden, prior.clone(), method.clone(), metric.to_owned()))
            };
            let (loss, error) = (cell("barrier_loss").map(mean), cell("barrier_error").map(mean));
            loss.zip(error).map_or(String::new(), |(loss, error)| {
                format!("{:.3} / {:.2}", loss.mean, error.mean)
            })
        };
        let row = |method: &String| {
            std::iter::once(title(method)).chain(widths.iter().map(|&h| cell(method, h))).collect()
        };
        let mut columns = vec![("method".to_owned(), Align::Left)];
        columns.extend(widths.iter().map(|h| (format!("h = {h}"), Align::Right)));
        let table = Table { columns, rows: methods.iter().map(row).collect() };
        writeln!(text, "### Barriers, prior: {}\n\n{}", escape(&prior), table.to_markdown())?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::stats::Average;
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
        df!(
            "hidden" => vec![10_i64; rows.len()],
            "prior" => rows.iter().map(|row| row.1).collect::<Vec<_>>(),
            "pair" => rows.iter().map(|row| row.0).collect::<Vec<_>>(),
            "end" => vec!["a"; rows.len()],
            "train_error" => rows.iter().map(|row| 10.0 * row.2).map(|x| if x.is_nan() { 5.0 } else { x }).collect::<Vec<_>>(),
            "validation_loss" => loss,
        )
        .unwrap()
    }

    #[test]
    fn the_report_says_of_each_prior_how_far_its_nets_trained_and_which_went_on_too_long() {
        let frame = histories(&[
            ("none", &[2.0, 1.0, 1.2]),
            ("none", &[3.0, 1.0, 0.5]),
            ("dropout 0.5", &[4.0, 2.0]),
        ]);
        assert_eq!(
            training(&frame).unwrap(),
            "- Prior none, 2 nets: the train error is 20.00 to 30.00 % in the first epoch and 5.00 to 12.00 % in the \
             last; in 1 of 2 the last validation loss is more than 5 % above the lowest.\n\
             - Prior dropout 0.5, 1 net: the train error is 40.00 % in the first epoch and 20.00 % in the last; in 0 of \
             1 the last validation loss is more than 5 % above the lowest.\n"
        );
    }

    #[test]
    fn without_a_validation_split_nothing_is_said_of_it() {
        let frame = histories(&[("none", &[f64::NAN, f64::NAN])]);
        let said = training(&frame).unwrap();
        assert_eq!(
            said,
            "- Prior none, 1 net: the train error is 5.00 % in the first epoch and 5.00 % in the last.\n"
        );
    }

    #[test]
    fn a_table_of_barriers_for_each_prior_has_every_method_and_width() {
        let mean = |mean: f64| Mean {
            count: 1,
            average: Average::Arithmetic,
            mean,
            interval: None,
            range: (mean, mean),
        };
        let cell = |hidden: i64, prior: &str, method: &str, metric: &str, x: f64| {
            ((hidden, prior.to_owned(), method.to_owned(), metric.to_owned()), mean(x))
        };
        let cells = BTreeMap::from([
            cell(10, "none", "linear", "barrier_loss", 0.5),
            cell(10, "none", "linear", "barrier_error", 12.0),
            cell(50, "none", "arc", "barrier_loss", 0.25),
            cell(50, "none", "arc", "barrier_error", 3.0),
        ]);
        insta::assert_snapshot!(barriers(&cells, |mean| mean).unwrap(), @r"
        ### Barriers, prior: none

        | method |        h = 10 |       h = 50 |
        | ------ | ------------: | -----------: |
        | Linear | 0.500 / 12.00 |              |
        | Arc    |               | 0.250 / 3.00 |
        ");
    }
}
