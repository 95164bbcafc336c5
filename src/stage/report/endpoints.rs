//! The nets at the ends of the curves: their training and their quality.

use super::Report;
use super::full_tables::hidden_cell;
use super::measured::mean_text;
use crate::report::document::{Block, Cell, Column, TableBlock};
use crate::report::markdown::escape;
use crate::report::table::Align;
use crate::stage::rows::{GroupMean, has_one_layer, means, parsed};
use crate::stage::tables::{ENDPOINTS, numbers, texts};
use crate::study::net::{Hidden, Prior};
use crate::study::stats::binomial_standard_error;
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
fn training(histories: &DataFrame) -> Result<String> {
    let hidden = parsed::<Hidden>(histories, "hidden")?;
    let (prior, name) = (parsed::<Prior>(histories, "prior")?, texts(histories, "net")?);
    let (error, loss) =
        (numbers(histories, "train_error")?, numbers(histories, "validation_loss")?);
    let mut priors: BTreeMap<Prior, BTreeMap<(Hidden, &str), Training>> = BTreeMap::new();
    for i in 0..histories.height() {
        let nets = priors.entry(prior[i]).or_default();
        let net = nets.entry((hidden[i], &name[i])).or_default();
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

/// The training of the nets by prior.
pub(super) fn training_blocks(report: &Report) -> Result<Vec<Block>> {
    let measured = &report.measured;
    let imported = match measured.imported {
        0 => String::new(),
        n if n == measured.nets => "The nets were trained elsewhere: how, is unknown.\n".to_owned(),
        n => format!("Of {} nets, {n} were trained elsewhere: how, is unknown.\n", measured.nets),
    };
    if report.histories.height() == 0 {
        return Ok(Some(Block::Text(imported))
            .filter(|_| measured.imported > 0)
            .into_iter()
            .collect());
    }
    let text = format!(
        "{}{}\nRanges are over nets. The training error is the running average over the batches of \
         the epoch, with dropout active. The validation loss, if there is a validation split, is \
         measured after each epoch.\n",
        training(&report.histories)?,
        if imported.is_empty() { imported } else { format!("\n{imported}") }
    );
    Ok(vec![Block::Text(text)])
}

/// A quantity of the tables of endpoints: name, heading, decimals.
type Quantity = (&'static str, &'static str, usize);

const ERRORS: [Quantity; 4] = [
    ("test_error", "test error, %", 2),
    ("validation_error", "validation error, %", 2),
    ("train_error", "training error, %", 2),
    ("train_loss", "training loss, nats", 4),
];

const WEIGHTS: [Quantity; 3] = [
    ("norm_w1", "norm of W1", 2),
    ("norm_w2", "norm of W2", 2),
    ("active_neurons", "active neurons", 1),
];

/// As [`WEIGHTS`], where there are nets with several hidden layers.
const WEIGHTS_OF_LAYERS: [Quantity; 3] = [
    ("norm_w1", "norm of the first layer", 2),
    ("norm_w2", "norm of the last layer", 2),
    ("active_neurons", "active neurons", 1),
];

/// The tables of endpoints: width and prior by quantity.
pub(super) fn tables(report: &Report) -> Result<Vec<Block>> {
    let images = report.measured.data.test;
    let caption = format!(
        "Mean over the individual nets, ± half the width of its 95 % interval. A test \
         error of 2 % on {images} images has a standard error of {:.2} points.\n",
        binomial_standard_error(2.0, images)
    );
    let weights = match report.measured.hiddens().iter().all(has_one_layer) {
        true => &WEIGHTS[..],
        false => &WEIGHTS_OF_LAYERS,
    };
    let tables = [
        ("endpoints-errors", "Errors of the nets", &ERRORS[..], caption.as_str()),
        ("endpoints-weights", "Weights of the nets", weights, ""),
    ];
    let mut blocks = Vec::new();
    for (id, title, quantities, caption) in tables {
        let (columns, rows) = endpoints(&report.endpoints, quantities)?;
        blocks.push(Block::Table(TableBlock {
            id: id.to_owned(),
            title: title.to_owned(),
            caption: caption.to_owned(),
            columns,
            rows,
            source: Some(report.source(ENDPOINTS.file)?),
            facets: Vec::new(),
        }));
    }
    Ok(blocks)
}

/// Columns and rows of the quantities that were measured.
fn endpoints(frame: &DataFrame, quantities: &[Quantity]) -> Result<(Vec<Column>, Vec<Vec<Cell>>)> {
    let (hidden, prior) = (parsed::<Hidden>(frame, "hidden")?, parsed::<Prior>(frame, "prior")?);
    let (quantity, values) = (texts(frame, "quantity")?, means(frame)?);
    let means: BTreeMap<(Prior, Hidden, &str), &GroupMean> = (0..values.len())
        .map(|i| ((prior[i], hidden[i], quantity[i].as_str()), &values[i]))
        .collect();
    let is_measured = |(quantity, ..): &&Quantity| means.keys().any(|(.., name)| name == quantity);
    let quantities: Vec<&Quantity> = quantities.iter().filter(is_measured).collect();
    let mut columns =
        vec![Column::of_facet("hidden", Align::Right), Column::of_facet("prior", Align::Left)];
    let headings = quantities.iter().map(|(_, heading, _)| *heading);
    columns.extend(headings.map(|heading| Column::new(heading, Align::Right)));
    let nets: BTreeSet<(Prior, Hidden)> =
        means.keys().map(|(prior, hidden, _)| (*prior, *hidden)).collect();
    let row = |&(prior, hidden): &(Prior, Hidden)| {
        let cell = |(quantity, _, digits): &&Quantity| {
            let mean = means.get(&(prior, hidden, *quantity));
            mean.map_or(Cell::default(), |mean| {
                Cell::number(Some(mean.mean), |_| mean_text(mean, *digits))
            })
        };
        let names = [hidden_cell(hidden), Cell::text(prior.to_string())];
        names.into_iter().chain(quantities.iter().map(cell)).collect()
    };
    Ok((columns, nets.iter().map(row).collect()))
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
            "hidden" => vec!["10"; rows.len()],
            "prior" => rows.iter().map(|row| row.1).collect::<Vec<_>>(),
            "net" => rows.iter().map(|row| row.0.to_string()).collect::<Vec<_>>(),
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
}
