//! `aggregate`: puts the rows of all curves and nets together and averages over pairs, with
//! intervals that cover.

use super::format;
use super::tables::{
    CURVES, ENDPOINTS, HISTORIES, HISTORY, METRICS, NETS, POINTS, REFITS, SUMMARY, Table, ends,
    numbers, shown, wholes,
};
use crate::engine::stage::{Arity, Changes, Context, Input, Slot, Stage};
use crate::study::stats::{Average, NotFinite, Sample, Summary};
use anyhow::{Context as _, Result};
use polars::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub(super) struct Aggregate;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {}

const CURVE: &[&str] = &["hidden", "prior", "method", "pair", "split"];

impl Stage for Aggregate {
    const NAME: &'static str = "aggregate";
    const VERSION: u32 = 2;
    const SLOTS: &'static [Slot] = &[
        Slot {
            name: "curves",
            arity: Arity::Many,
            files: &[POINTS.file, METRICS.file, REFITS.file],
        },
        Slot { name: "nets", arity: Arity::Many, files: &[NETS.file, HISTORY.file] },
    ];
    const OUTPUTS: &'static [&'static str] = &[
        POINTS.file,
        METRICS.file,
        REFITS.file,
        NETS.file,
        HISTORIES.file,
        CURVES.file,
        SUMMARY.file,
        ENDPOINTS.file,
    ];
    type Params = Params;

    fn difference(file: &str, cached: &[u8], again: &[u8]) -> String {
        format::difference(file, cached, again)
    }

    fn changes(file: &str, before: &[u8], after: &[u8]) -> Option<Changes> {
        format::changes(file, before, after)
    }

    fn run(Params {}: Params, cx: &Context) -> Result<()> {
        let gather = |slot: &str, table: &Table, keys: &[&str]| {
            table.read_all(cx.inputs(slot).iter().map(|input| input.path(table.file)), keys)
        };
        let points = gather("curves", &POINTS, &[CURVE, &["t"]].concat())?;
        let sums = gather("curves", &METRICS, CURVE)?;
        let refits = gather("curves", &REFITS, &["hidden", "prior", "method", "pair", "s"])?;
        let nets = gather("nets", &NETS, &["hidden", "prior", "pair", "end"])?;
        for (table, frame) in
            [(&POINTS, &points), (&METRICS, &sums), (&REFITS, &refits), (&NETS, &nets)]
        {
            table.write(frame, &cx.output(table.file))?;
        }
        HISTORIES.write(&histories(cx.inputs("nets"))?, &cx.output(HISTORIES.file))?;

        let points = with_normalised(points, &sums)?;
        let curve = &["hidden", "prior", "method", "split"];
        let along = Averaged { keys: curve, along: Some("t"), unit: Unit::Pair };
        CURVES.write(
            &along.of(&points, "quantity", &["error", "loss", "normalised"])?,
            &cx.output(CURVES.file),
        )?;
        let whole = Averaged { keys: curve, along: None, unit: Unit::Pair };
        SUMMARY.write(
            &whole.of(&sums, "metric", &METRICS.names()[CURVE.len()..])?,
            &cx.output(SUMMARY.file),
        )?;
        let names = NETS.names();
        let described = names.iter().position(|name| *name == "images").map_or(0, |i| i + 1);
        let nets_alone = Averaged { keys: &["hidden", "prior"], along: None, unit: Unit::Net };
        ENDPOINTS.write(
            &nets_alone.of(&nets, "quantity", &names[described..])?,
            &cx.output(ENDPOINTS.file),
        )
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

/// Adds `normalised` = (E(t) - E_end) / (E_lin_max - E_end): E_end the mean of the curve's two
/// ends, E_lin_max the largest error on the linear curve of the same width, prior, pair and split.
/// Empty where that curve is not there or is flat.
fn with_normalised(points: DataFrame, sums: &DataFrame) -> Result<DataFrame> {
    let is_linear =
        sums.column("method")?.str()?.iter().map(|method| method == Some("linear")).collect();
    let mut linear =
        sums.filter(&is_linear)?.select(["hidden", "prior", "pair", "split", "max_error"])?;
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

/// What one row is measured on.
#[derive(Clone, Copy)]
enum Unit {
    /// A pair of nets, named by the column `pair`.
    Pair,
    /// A net by itself.
    Net,
}

/// Means over the rows that agree in some columns.
struct Averaged<'a> {
    /// The columns that the rows of one curve, or of one kind of net, agree in.
    keys: &'a [&'a str],
    /// The column that goes along the curve, if there is one.
    along: Option<&'a str>,
    unit: Unit,
}

/// One mean.
struct Row {
    /// The first of the rows that it is taken over.
    first: usize,
    quantity: String,
    nets: usize,
    values: usize,
    summary: Summary,
}

impl Averaged<'_> {
    /// Averages `quantities` of `frame`, whose names go into the column `name`; one row per group
    /// and quantity. A missing value drops out, a group without any is left out, and so is a point
    /// of a curve that some of its pairs do not have.
    fn of(&self, frame: &DataFrame, name: &str, quantities: &[&str]) -> Result<DataFrame> {
        let keys: Vec<&str> = self.keys.iter().copied().chain(self.along).collect();
        let sorted = frame
            .sort(keys.iter().copied(), SortMultipleOptions::default().with_maintain_order(true))?;
        let cells: Vec<Vec<String>> =
            keys.iter().map(|key| shown(&sorted, key)).collect::<Result<_>>()?;
        let pair = wholes(&sorted, "pair")?;
        let columns: Vec<Vec<f64>> =
            quantities.iter().map(|q| numbers(&sorted, q)).collect::<Result<_>>()?;
        let mut rows: Vec<Row> = Vec::new();
        for curve in runs(&cells[..self.keys.len()], 0..sorted.height()) {
            let points = runs(&cells, curve);
            for (quantity, column) in quantities.iter().zip(&columns) {
                let samples = points.iter().map(|point| self.sample(point.clone(), column, &pair));
                let samples = samples
                    .collect::<Result<Vec<Sample<_>>, _>>()
                    .with_context(|| format!("`{quantity}`"))?;
                let average = one_for_all(&samples);
                let full = samples.iter().map(Sample::len).max().unwrap_or(0);
                for (point, sample) in
                    points.iter().zip(&samples).filter(|(_, sample)| sample.len() == full)
                {
                    let Some(summary) = sample.summary(average) else { continue };
                    let (nets, values) = (sample.count_nets(), sample.len());
                    rows.push(Row {
                        first: point.start,
                        quantity: (*quantity).to_owned(),
                        nets,
                        values,
                        summary,
                    });
                }
            }
        }
        rows.sort_by_key(|row| row.first);
        into_frame(&sorted.select(self.keys.iter().copied().chain(self.along))?, &rows, name)
    }

    /// The values of `column` in `rows` that are there.
    fn sample(
        &self,
        rows: Range<usize>,
        column: &[f64],
        pair: &[i64],
    ) -> Result<Sample<(i64, char)>, NotFinite> {
        let present: Vec<usize> = rows.filter(|&i| !column[i].is_nan()).collect();
        let nets = |&i: &usize| match self.unit {
            Unit::Pair => ends(pair[i]),
            Unit::Net => [(i as i64, 'a'); 2],
        };
        Sample::of_pairs(
            present.iter().map(|&i| column[i]).collect(),
            present.iter().map(nets).collect(),
        )
    }
}

/// Geometric if it is at one point at least and all numbers of the curve are positive, so that its
/// line has no step.
fn one_for_all<N: Ord + Copy>(samples: &[Sample<N>]) -> Average {
    let positive = samples.iter().flat_map(Sample::values).all(|x| *x > 0.0);
    let geometric = samples.iter().any(|sample| Average::of(sample.values()) == Average::Geometric);
    if positive && geometric { Average::Geometric } else { Average::Arithmetic }
}

/// The stretches of `rows` that agree in all of `columns`, which are sorted by them.
fn runs(columns: &[Vec<String>], rows: Range<usize>) -> Vec<Range<usize>> {
    let starts =
        |&i: &usize| i == rows.start || columns.iter().any(|column| column[i] != column[i - 1]);
    let starts: Vec<usize> = rows.clone().filter(starts).collect();
    let ends = starts.iter().skip(1).copied().chain([rows.end]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// The table of `rows`, each beside the `keys` of the first row that it is of.
fn into_frame(keys: &DataFrame, rows: &[Row], name: &str) -> Result<DataFrame> {
    let firsts = rows.iter().map(|row| row.first as IdxSize).collect();
    let mut frame = keys.take(&IdxCa::from_vec("row".into(), firsts))?;
    let whole = |of: fn(&Row) -> usize| rows.iter().map(|row| of(row) as i64).collect::<Vec<_>>();
    let number = |of: fn(&Summary) -> Option<f64>| {
        rows.iter().map(|row| of(&row.summary)).collect::<Vec<_>>()
    };
    for column in [
        Column::new(name.into(), rows.iter().map(|row| row.quantity.as_str()).collect::<Vec<_>>()),
        Column::new("nets".into(), whole(|row| row.nets)),
        Column::new("pairs".into(), whole(|row| row.values)),
        Column::new(
            "average".into(),
            rows.iter().map(|row| row.summary.average.name()).collect::<Vec<_>>(),
        ),
        Column::new("mean".into(), number(|s| Some(s.mean))),
        Column::new("low".into(), number(|s| Some(s.interval?.low))),
        Column::new("high".into(), number(|s| Some(s.interval?.high))),
        Column::new("pair_low".into(), number(|s| Some(s.prediction?.low))),
        Column::new("pair_high".into(), number(|s| Some(s.prediction?.high))),
        Column::new("least".into(), number(|s| Some(s.least))),
        Column::new("most".into(), number(|s| Some(s.most))),
    ] {
        frame.with_column(column)?;
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&str] = &["hidden"];

    /// Rows of (t, pair, error).
    fn frame(rows: &[(f64, i64, f64)]) -> DataFrame {
        let hidden = vec![10_i64; rows.len()];
        let t: Vec<f64> = rows.iter().map(|row| row.0).collect();
        let pair: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let error: Vec<Option<f64>> =
            rows.iter().map(|row| Some(row.2).filter(|x| !x.is_nan())).collect();
        df!("hidden" => hidden, "t" => t, "pair" => pair, "error" => error).unwrap()
    }

    fn along(rows: &[(f64, i64, f64)]) -> DataFrame {
        Averaged { keys: KEYS, along: Some("t"), unit: Unit::Pair }
            .of(&frame(rows), "quantity", &["error"])
            .unwrap()
    }

    fn column(frame: &DataFrame, name: &str) -> Vec<String> {
        shown(frame, name).unwrap()
    }

    #[test]
    fn pairs_count_two_nets_each_and_nets_alone_count_themselves() {
        let rows = frame(&[(0.0, 1, 5.0), (0.0, 2, 6.0), (0.0, 3, 9.0)]);
        let counts = |unit| {
            let found =
                Averaged { keys: KEYS, along: None, unit }.of(&rows, "metric", &["error"]).unwrap();
            [column(&found, "nets").join(","), column(&found, "pairs").join(",")]
        };
        assert_eq!(counts(Unit::Pair), ["6", "3"]);
        assert_eq!(counts(Unit::Net)[0], "3");
    }

    #[test]
    fn three_pairs_have_intervals_and_two_only_their_values() {
        let found = along(&[
            (0.0, 1, 21.4),
            (0.0, 2, 25.0),
            (0.0, 3, 19.7),
            (1.0, 1, 3.0),
            (1.0, 2, 4.0),
            (1.0, 3, 5.0),
        ]);
        assert_eq!(column(&found, "average"), ["arithmetic"; 2]);
        let low = numbers(&found, "low").unwrap();
        assert!((low[0] - 15.310_844_817_028_39).abs() < 1e-9, "{low:?}");
        let two = along(&[(0.0, 1, 21.0), (0.0, 2, 25.0)]);
        assert_eq!(
            [numbers(&two, "low"), numbers(&two, "pair_high")].map(|x| x.unwrap()[0].is_nan()),
            [true; 2]
        );
        assert_eq!(
            ["mean", "least", "most"].map(|name| column(&two, name).join("")),
            ["23", "21", "25"]
        );
    }

    #[test]
    fn a_curve_takes_one_kind_of_average_at_all_its_points() {
        let narrow = [(0.0, 1, 2.0), (0.0, 2, 2.0), (0.0, 3, 2.0)];
        let wide = [(0.5, 1, 4.0), (0.5, 2, 8.0), (0.5, 3, 32.0)];
        let zero = [(1.0, 1, 0.0), (1.0, 2, 1.0), (1.0, 3, 2.0)];
        let found = along(&[narrow, wide].concat());
        assert_eq!(column(&found, "average"), ["geometric"; 2]);
        let means = numbers(&found, "mean").unwrap();
        assert!(
            (means[0] - 2.0).abs() < 1e-12 && (means[1] - 1024_f64.cbrt()).abs() < 1e-9,
            "{means:?}"
        );
        assert_eq!(column(&along(&[narrow, wide, zero].concat()), "average"), ["arithmetic"; 3]);
    }

    #[test]
    fn a_point_that_some_pairs_do_not_have_is_left_out() {
        let both = [(0.0, 1, 2.0), (0.0, 2, 3.0), (1.0, 1, 4.0), (1.0, 2, 5.0)];
        let refined = [(0.5, 2, 9.0), (0.75, 1, f64::NAN), (0.75, 2, 9.0)];
        let found = along(&[&both[..], &refined].concat());
        assert_eq!(column(&found, "t"), ["0", "1"]);
        assert_eq!(column(&found, "pairs"), ["2", "2"]);
    }

    #[test]
    fn no_mean_is_taken_of_an_infinity() {
        let rows = frame(&[(0.0, 1, 5.0), (0.0, 2, f64::INFINITY)]);
        let refused =
            Averaged { keys: KEYS, along: None, unit: Unit::Pair }.of(&rows, "metric", &["error"]);
        assert_eq!(format!("{:#}", refused.unwrap_err()), "`error`: `inf` is not a finite number");
    }
}
