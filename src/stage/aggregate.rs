//! `aggregate`: puts the rows of all curves and nets together and averages over pairs.

use super::format;
use super::tables::{
    CURVES, ENDPOINTS, HISTORIES, HISTORY, METRICS, NETS, POINTS, REFITS, SUMMARY, Table, numbers, shown,
};
use crate::engine::stage::{Arity, Changes, Context, Input, Slot, Stage};
use crate::study::stats::{bootstrap, mean};
use anyhow::Result;
use polars::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) struct Aggregate;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {}

const CURVE: &[&str] = &["hidden", "prior", "method", "pair", "split"];

impl Stage for Aggregate {
    const NAME: &'static str = "aggregate";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "curves", arity: Arity::Many, files: &[POINTS.file, METRICS.file, REFITS.file] },
        Slot { name: "nets", arity: Arity::Many, files: &[NETS.file, HISTORY.file] },
    ];
    const OUTPUTS: &'static [&'static str] =
        &[POINTS.file, METRICS.file, REFITS.file, NETS.file, HISTORIES.file, CURVES.file, SUMMARY.file, ENDPOINTS.file];
    type Params = Params;

    /// For the bootstrap.
    fn label(_: &Params) -> Option<String> {
        Some("aggregate".to_owned())
    }

    fn difference(file: &str, cached: &[u8], again: &[u8]) -> String {
        format::difference(file, cached, again)
    }

    fn changes(file: &str, before: &[u8], after: &[u8]) -> Option<Changes> {
        format::changes(file, before, after)
    }

    fn run(Params {}: Params, cx: &Context) -> Result<()> {
        let seed = &cx.seed()?.run;
        let gather = |slot: &str, table: &Table, keys: &[&str]| {
            table.read_all(cx.inputs(slot).iter().map(|input| input.path(table.file)), keys)
        };
        let points = gather("curves", &POINTS, &[CURVE, &["t"]].concat())?;
        let sums = gather("curves", &METRICS, CURVE)?;
        let refits = gather("curves", &REFITS, &["hidden", "prior", "method", "pair", "s"])?;
        let nets = gather("nets", &NETS, &["hidden", "prior", "pair", "end"])?;
        for (table, frame) in [(&POINTS, &points), (&METRICS, &sums), (&REFITS, &refits), (&NETS, &nets)] {
            table.write(frame, &cx.output(table.file))?;
        }
        HISTORIES.write(&histories(cx.inputs("nets"))?, &cx.output(HISTORIES.file))?;

        let points = with_normalised(points, &sums)?;
        let curves = Averages::of(
            &points,
            &["hidden", "prior", "method", "split", "t"],
            &["error", "loss", "normalised"],
            seed,
        )?;
        CURVES.write(&curves.into_frame("quantity")?, &cx.output(CURVES.file))?;
        let metrics = &METRICS.names()[CURVE.len()..];
        let summary = Averages::of(&sums, &["hidden", "prior", "method", "split"], metrics, seed)?;
        SUMMARY.write(&summary.into_frame("metric")?, &cx.output(SUMMARY.file))?;
        let names = NETS.names();
        let described = names.iter().position(|name| *name == "images").map_or(0, |i| i + 1);
        let quantities = &names[described..];
        let endpoints = Averages::of(&nets, &["hidden", "prior"], quantities, seed)?;
        ENDPOINTS.write(&endpoints.into_frame("quantity")?, &cx.output(ENDPOINTS.file))
    }
}

/// The training of all nets, each epoch with the columns that say which net it is of.
fn histories(nets: &[Input]) -> Result<DataFrame> {
    let keys = ["hidden", "prior", "pair", "end"];
    let mut all = DataFrame::empty();
    for input in nets {
        let net = NETS.read(input.path(NETS.file)?)?;
        let mut history = HISTORY.read(input.path(HISTORY.file)?)?;
        for key in keys {
            history.with_column(net.column(key)?.new_from_index(0, history.height()))?;
        }
        let history = history.select(HISTORIES.names())?;
        all = if all.width() == 0 { history } else { all.vstack(&history)? };
    }
    let order = [&keys[..], &["epoch"]].concat();
    Ok(all.sort(order, SortMultipleOptions::default().with_maintain_order(true))?)
}

/// Adds `normalised` = (E(t) - E_end) / (E_lin_max - E_end): E_end the mean of the curve's two ends, E_lin_max the largest
/// error on the linear curve of the same width, prior, pair and split. Empty where that curve is not there or is flat.
fn with_normalised(points: DataFrame, sums: &DataFrame) -> Result<DataFrame> {
    let is_linear = sums.column("method")?.str()?.iter().map(|method| method == Some("linear")).collect();
    let mut linear = sums.filter(&is_linear)?.select(["hidden", "prior", "pair", "split", "max_error"])?;
    linear.rename("max_error", "linear_max".into())?;
    let ends = sums.select([CURVE, &["error_a", "error_b"]].concat())?;
    let joined = points.left_join(&ends, CURVE, CURVE)?;
    let keys = ["hidden", "prior", "pair", "split"];
    let mut joined = joined.left_join(&linear, keys, keys)?;
    let (error, most) = (numbers(&joined, "error")?, numbers(&joined, "linear_max")?);
    let (a, b) = (numbers(&joined, "error_a")?, numbers(&joined, "error_b")?);
    let normalised: Vec<Option<f64>> = (0..error.len())
        .map(|i| {
            let end = (a[i] + b[i]) / 2.0;
            Some((error[i] - end) / (most[i] - end)).filter(|x| x.is_finite())
        })
        .collect();
    joined.with_column(Column::new("normalised".into(), normalised))?;
    Ok(joined.sort(
        ["hidden", "prior", "method", "split", "t", "pair"],
        SortMultipleOptions::default().with_maintain_order(true),
    )?)
}

/// Means over the rows that agree in some columns, one row per group and quantity.
struct Averages {
    keys: DataFrame,
    quantity: Vec<String>,
    count: Vec<i64>,
    mean: Vec<Option<f64>>,
    low: Vec<Option<f64>>,
    high: Vec<Option<f64>>,
}

impl Averages {
    /// Averages `quantities` of `frame` over the rows that agree in `keys`. A missing value drops out, a group without any
    /// is left out.
    fn of(frame: &DataFrame, keys: &[&str], quantities: &[&str], seed: &str) -> Result<Averages> {
        let sorted = frame.sort(keys.iter().copied(), SortMultipleOptions::default().with_maintain_order(true))?;
        let names: Vec<Vec<String>> = keys.iter().map(|key| shown(&sorted, key)).collect::<Result<_>>()?;
        let columns: Vec<Vec<f64>> = quantities.iter().map(|q| numbers(&sorted, q)).collect::<Result<_>>()?;
        let same = |i: usize, j: usize| names.iter().all(|column| column[i] == column[j]);
        let mut averages = Averages {
            keys: DataFrame::empty(),
            quantity: Vec::new(),
            count: Vec::new(),
            mean: Vec::new(),
            low: Vec::new(),
            high: Vec::new(),
        };
        let mut first_rows: Vec<IdxSize> = Vec::new();
        let mut start = 0;
        while start < sorted.height() {
            let end = (start..sorted.height()).find(|&i| !same(start, i)).unwrap_or(sorted.height());
            for (quantity, column) in quantities.iter().zip(&columns) {
                let values: Vec<f64> = column[start..end].iter().copied().filter(|x| x.is_finite()).collect();
                let Some(center) = mean(&values) else { continue };
                // One label for all: groups of equal size share their resamples, as a comparison of methods should.
                let interval = bootstrap(&values, seed, "bootstrap over pairs");
                first_rows.push(start as IdxSize);
                averages.quantity.push((*quantity).to_owned());
                averages.count.push(values.len() as i64);
                averages.mean.push(Some(center));
                averages.low.push(interval.map(|i| i.low));
                averages.high.push(interval.map(|i| i.high));
            }
            start = end;
        }
        averages.keys = sorted.select(keys.iter().copied())?.take(&IdxCa::from_vec("row".into(), first_rows))?;
        Ok(averages)
    }

    /// The table, with the quantities' names under `name`.
    fn into_frame(self, name: &str) -> Result<DataFrame> {
        let mut frame = self.keys;
        for column in [
            Column::new(name.into(), self.quantity),
            Column::new("count".into(), self.count),
            Column::new("mean".into(), self.mean),
            Column::new("low".into(), self.low),
            Column::new("high".into(), self.high),
        ] {
            frame.with_column(column)?;
        }
        Ok(frame)
    }
}
