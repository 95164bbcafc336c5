//! `aggregate`: concatenates the tables of all curves and nets, and averages over pairs, with
//! confidence and prediction intervals.
//!
//! Nets with a shared start have tables of their own, with a column for the number of shared
//! epochs.

use super::compare;
use super::names::PairName;
use super::rows::{Quantity, groups, mean_of_directions, parsed};
use super::tables::{
    CURVES, ENDPOINTS, HISTORIES, HISTORY, METRICS, NETS, POINTS, REFITS, SHARED_ENDS,
    SHARED_EPOCHS, SHARED_METRICS, SHARED_START, SUMMARY, TableSchema, cells, has_shared_epochs,
    numbers, read_net_row, sorted, texts,
};
use crate::engine::stage::pairing::Moves;
use crate::engine::stage::{Arity, Changes, Context, Hinted, Input, Slot, Stage};
use crate::study::curve::Method;
use crate::study::stats::{Average, NotFinite, Sample, Summary};
use anyhow::{Context as _, Result, anyhow};
use polars::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub(super) struct AggregateStage;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Whether the nets have a shared start (`shared_epochs`): the means are by the number of
    /// shared epochs, in `shared-start.csv`, and the sample consists of trunks.
    // Left out where it is false, so that the recipes in reports of other nets keep their bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared_start: bool,
}

/// The columns that identify a group of curves on one split.
const GROUP: &[&str] = &["hidden", "prior", "method", "split"];

/// As [`GROUP`], for nets with a shared start.
const SHARED_GROUP: &[&str] = &["hidden", "prior", "method", SHARED_EPOCHS, "split"];

/// The outputs for nets with a shared start.
const SHARED_OUTPUTS: &[&str] = &[METRICS.file, NETS.file, SHARED_START.file];

impl Stage for AggregateStage {
    const NAME: &'static str = "aggregate";
    const VERSION: u32 = 3;
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

    fn outputs(params: &Params) -> Option<Vec<String>> {
        let outputs = if params.shared_start { SHARED_OUTPUTS } else { Self::OUTPUTS };
        Some(outputs.iter().map(|output| (*output).to_owned()).collect())
    }

    fn difference(file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        compare::difference(file, cached, recomputed)
    }

    fn changes(file: &str, before: &[u8], after: &[u8], known: &Moves) -> Option<Changes> {
        compare::changes(file, before, after, known)
    }

    fn run(Params { shared_start }: Params, cx: &Context) -> Result<()> {
        check_shared_epochs(cx, shared_start)?;
        let concatenated = |slot: &str, table: &TableSchema| -> Result<DataFrame> {
            let files = cx.inputs(slot).iter().map(|input| input.path(table.file));
            let frame = table.read_all(files)?;
            table.write(&frame, &cx.output(table.file))?;
            Ok(frame)
        };
        if shared_start {
            let metrics = concatenated("curves", &SHARED_METRICS)?;
            concatenated("nets", &SHARED_ENDS)?;
            let whole = Averaging { group: SHARED_GROUP, along: None, subject: Subject::Pair };
            let means = whole.means(&metrics, "metric", &METRICS.value_names())?;
            return SHARED_START.write(&means, &cx.output(SHARED_START.file));
        }
        let points = concatenated("curves", &POINTS)?;
        let metrics = concatenated("curves", &METRICS)?;
        check_directions(&metrics)?;
        concatenated("curves", &REFITS)?;
        let (nets, histories) = nets_and_histories(cx.inputs("nets"))?;
        NETS.write(&nets, &cx.output(NETS.file))?;
        HISTORIES.write(&histories, &cx.output(HISTORIES.file))?;

        let points = with_normalised(points, &metrics)?;
        let along = Averaging { group: GROUP, along: Some("t"), subject: Subject::Pair };
        let quantities = Quantity::ALL.map(Quantity::name);
        CURVES.write(&along.means(&points, "quantity", &quantities)?, &cx.output(CURVES.file))?;
        let whole = Averaging { group: GROUP, along: None, subject: Subject::Pair };
        SUMMARY.write(
            &whole.means(&metrics, "metric", &METRICS.value_names())?,
            &cx.output(SUMMARY.file),
        )?;
        let single = Averaging { group: &["hidden", "prior"], along: None, subject: Subject::Net };
        ENDPOINTS.write(
            &single.means(&nets, "quantity", &NETS.value_names())?,
            &cx.output(ENDPOINTS.file),
        )
    }
}

/// Refuses nets and curves with a shared start among others, and others among those.
fn check_shared_epochs(cx: &Context, shared_start: bool) -> Result<()> {
    for (slot, table) in [("curves", METRICS.file), ("nets", NETS.file)] {
        for input in cx.inputs(slot) {
            let found = has_shared_epochs(input.path(table)?)?;
            if found != shared_start {
                let (have, hint) = match found {
                    true => ("have", "aggregate them in a stage with `shared_start: true`"),
                    false => ("do not have", "give the nets `shared_epochs`, or remove them here"),
                };
                let cause = format!("some nets of `{slot}` {have} a shared start");
                return Err(Hinted::new(cause, hint).into());
            }
        }
    }
    Ok(())
}

/// Refuses weight-adjusted curves of which some pairs have both directions and others one: the
/// first would be averages over directions, the others not.
pub(super) fn check_directions(curves: &DataFrame) -> Result<()> {
    let pairs: Vec<PairName> = parsed(curves, "pair")?;
    let mut directions = BTreeMap::new();
    for (group, pair) in groups(curves)?.into_iter().zip(&pairs) {
        if group.method.adjustment.is_some() {
            let pairs: &mut BTreeMap<PairName, BTreeSet<&PairName>> =
                directions.entry(group).or_default();
            pairs.entry(pair.undirected()).or_default().insert(pair);
        }
    }
    for (group, pairs) in &directions {
        let of = |count: usize| pairs.iter().find(|(_, directions)| directions.len() == count);
        if let (Some((one, _)), Some((both, _))) = (of(1), of(2)) {
            let cause = format!(
                "`{}` at `hidden={}, prior={}` has both directions of the pair `{both}`, but one \
                 of `{one}`",
                group.method, group.hidden, group.prior
            );
            let hint = "keep one direction of every pair with `where: a < b`, or both with \
                        `where: a != b`";
            return Err(Hinted::new(cause, hint).into());
        }
    }
    Ok(())
}

/// All nets, and their training histories.
fn nets_and_histories(inputs: &[Input]) -> Result<(DataFrame, DataFrame)> {
    let (mut nets, mut histories) = (DataFrame::empty(), DataFrame::empty());
    let append = |all: &mut DataFrame, frame: DataFrame| -> Result<()> {
        *all = if all.width() == 0 { frame } else { all.vstack(&frame)? };
        Ok(())
    };
    for input in inputs {
        let net = read_net_row(input.path(NETS.file)?)?;
        let mut history = HISTORY.read(input.path(HISTORY.file)?)?;
        for key in NETS.key_names() {
            history.with_column(net.column(key)?.new_from_index(0, history.height()))?;
        }
        append(&mut histories, history.select(HISTORIES.names())?)?;
        append(&mut nets, net)?;
    }
    Ok((NETS.sorted(&nets)?, HISTORIES.sorted(&histories)?))
}

/// Adds the column `normalised` = (E(t) - E_end) / (E_lin_max - E_end), with E_end the mean error
/// of the curve's two ends, and E_lin_max the largest error on the linear curve between the same
/// two nets on that split, in either direction. It is empty where that curve is missing or flat.
fn with_normalised(points: DataFrame, metrics: &DataFrame) -> Result<DataFrame> {
    let reference: Method = "linear".parse().map_err(|e| anyhow!("BUG: {e}"))?;
    let methods = parsed::<Method>(metrics, "method")?;
    let is_linear = methods.iter().map(|method| *method == reference).collect();
    let key = ["hidden", "prior", "nets", "split"];
    let points = with_nets_of_pair(points)?;
    let linear = with_nets_of_pair(metrics.filter(&is_linear)?)?;
    let mut linear = linear.select([&key[..], &["max_error"]].concat())?;
    linear.rename("max_error", "linear_max".into())?;
    // The straight line has the same errors in both directions.
    let keys: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
    let linear = linear.unique_stable(Some(keys.as_slice()), UniqueKeepStrategy::First, None)?;
    let curve = METRICS.key_names();
    let ends = metrics.select([&curve[..], &["error_a", "error_b"]].concat())?;
    let joined = points.left_join(&ends, &curve, &curve)?;
    let mut joined = joined.left_join(&linear, key, key)?;
    let (error, most) = (numbers(&joined, "error")?, numbers(&joined, "linear_max")?);
    let (a, b) = (numbers(&joined, "error_a")?, numbers(&joined, "error_b")?);
    let normalised: Vec<Option<f64>> = (0..error.len())
        .map(|i| {
            let end = (a[i] + b[i]) / 2.0;
            Some((error[i] - end) / (most[i] - end)).filter(|x| x.is_finite())
        })
        .collect();
    let name = Quantity::NormalisedError.name();
    joined.with_column(Column::new(name.into(), normalised))?;
    sorted(&joined, &[GROUP, &["t", "pair"]].concat())
}

/// Adds the column `nets`: the pair of each row without its direction.
fn with_nets_of_pair(mut frame: DataFrame) -> Result<DataFrame> {
    let pairs: Vec<PairName> = parsed(&frame, "pair")?;
    let nets: Vec<String> = pairs.iter().map(|pair| pair.undirected().to_string()).collect();
    frame.with_column(Column::new("nets".into(), nets))?;
    Ok(frame)
}

/// The subject of a row's measurement.
#[derive(Clone, Copy)]
enum Subject {
    /// A pair of nets, in the column `pair`, which may be there in both directions.
    Pair,
    /// A single net, in the column `net`.
    Net,
}

/// How rows are averaged.
struct Averaging<'a> {
    /// The columns that identify a group of curves or of nets.
    group: &'a [&'a str],
    /// The column with the position on the curve, if any.
    along: Option<&'a str>,
    subject: Subject,
}

/// A row of a table of means.
struct MeanRow {
    /// The index of the first averaged row.
    first: usize,
    quantity: String,
    nets: usize,
    values: usize,
    summary: Summary,
}

impl Averaging<'_> {
    /// The means of the columns `quantities` of `frame`; one row per group, point and quantity,
    /// with the quantity in the column `name`. Missing values are skipped. Points of a curve that
    /// not all pairs have, in all their directions, are left out, as are groups without values.
    fn means(&self, frame: &DataFrame, name: &str, quantities: &[&str]) -> Result<DataFrame> {
        let keys: Vec<&str> = self.group.iter().copied().chain(self.along).collect();
        let sorted = sorted(frame, &keys)?;
        let cells: Vec<Vec<String>> =
            keys.iter().map(|key| cells(&sorted, key)).collect::<Result<_>>()?;
        let subjects = self.subjects(&sorted)?;
        let columns: Vec<Vec<f64>> =
            quantities.iter().map(|q| numbers(&sorted, q)).collect::<Result<_>>()?;
        let mut rows: Vec<MeanRow> = Vec::new();
        for curve in runs(&cells[..self.group.len()], 0..sorted.height()) {
            let points = runs(&cells, curve);
            for (quantity, column) in quantities.iter().zip(&columns) {
                let samples = points.iter().map(|point| sample(point.clone(), column, &subjects));
                let samples = samples
                    .collect::<Result<Vec<(usize, Sample<_>)>, _>>()
                    .with_context(|| format!("`{quantity}`"))?;
                let full = samples.iter().map(|(rows, _)| *rows).max().unwrap_or(0);
                let average = common_average(samples.iter().map(|(_, sample)| sample));
                for (point, (_, sample)) in
                    points.iter().zip(&samples).filter(|(_, (rows, _))| *rows == full)
                {
                    let Some(summary) = sample.summary(average) else { continue };
                    let (nets, values) = (sample.count_nets(), sample.len());
                    rows.push(MeanRow {
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
        into_frame(&sorted.select(keys)?, &rows, name)
    }

    /// The pair or the net of each row, by its nets; the same for both directions of a pair.
    fn subjects(&self, frame: &DataFrame) -> Result<Vec<[String; 2]>> {
        Ok(match self.subject {
            Subject::Pair => {
                let pairs: Vec<PairName> = parsed(frame, "pair")?;
                pairs.iter().map(|pair| pair.undirected().nets()).collect()
            }
            Subject::Net => {
                texts(frame, "net")?.into_iter().map(|net| [net.clone(), net]).collect()
            }
        })
    }
}

/// The values of `column` in `rows` without missing ones, one for each subject, and their number
/// of rows.
fn sample<'a>(
    rows: Range<usize>,
    column: &[f64],
    subjects: &'a [[String; 2]],
) -> Result<(usize, Sample<&'a str>), NotFinite> {
    // In the order of the rows, in which numbers are added up.
    let mut values: Vec<(&[String; 2], Vec<f64>)> = Vec::new();
    let present: Vec<usize> = rows.filter(|&i| !column[i].is_nan()).collect();
    for &i in &present {
        match values.iter_mut().find(|(subject, _)| **subject == subjects[i]) {
            Some((_, values)) => values.push(column[i]),
            None => values.push((&subjects[i], vec![column[i]])),
        }
    }
    let nets = values.iter().map(|([a, b], _)| [a.as_str(), b.as_str()]).collect();
    let means = values.iter().map(|(_, values)| mean_of_directions(values)).collect();
    Ok((present.len(), Sample::of_pairs(means, nets)?))
}

/// One kind of average for all points of a curve, so that its line has no step: geometric if that
/// is the choice at any point and all values of the curve are positive.
fn common_average<'s, N: Ord + Copy + 's>(
    samples: impl Iterator<Item = &'s Sample<N>> + Clone,
) -> Average {
    let positive = samples.clone().flat_map(Sample::values).all(|x| *x > 0.0);
    let geometric =
        samples.clone().any(|sample| Average::of(sample.values()) == Average::Geometric);
    if positive && geometric { Average::Geometric } else { Average::Arithmetic }
}

/// The runs of `rows` with equal cells in all of `columns`.
fn runs(columns: &[Vec<String>], rows: Range<usize>) -> Vec<Range<usize>> {
    let starts =
        |&i: &usize| i == rows.start || columns.iter().any(|column| column[i] != column[i - 1]);
    let starts: Vec<usize> = rows.clone().filter(starts).collect();
    let ends = starts.iter().skip(1).copied().chain([rows.end]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// The table of `rows`, with the `keys` of the first row averaged in each.
fn into_frame(keys: &DataFrame, rows: &[MeanRow], name: &str) -> Result<DataFrame> {
    let firsts = rows.iter().map(|row| row.first as IdxSize).collect();
    let mut frame = keys.take(&IdxCa::from_vec("row".into(), firsts))?;
    let whole =
        |of: fn(&MeanRow) -> usize| rows.iter().map(|row| of(row) as i64).collect::<Vec<_>>();
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
        let hidden = vec!["10"; rows.len()];
        let t: Vec<f64> = rows.iter().map(|row| row.0).collect();
        let pair: Vec<String> = rows.iter().map(|row| row.1.to_string()).collect();
        let error: Vec<Option<f64>> =
            rows.iter().map(|row| Some(row.2).filter(|x| !x.is_nan())).collect();
        df!("hidden" => hidden, "t" => t, "pair" => &pair, "net" => &pair, "error" => error)
            .unwrap()
    }

    fn along(rows: &[(f64, i64, f64)]) -> DataFrame {
        Averaging { group: KEYS, along: Some("t"), subject: Subject::Pair }
            .means(&frame(rows), "quantity", &["error"])
            .unwrap()
    }

    fn column(frame: &DataFrame, name: &str) -> Vec<String> {
        cells(frame, name).unwrap()
    }

    #[test]
    fn a_pair_counts_as_two_nets_and_a_net_as_one() {
        let rows = frame(&[(0.0, 1, 5.0), (0.0, 2, 6.0), (0.0, 3, 9.0)]);
        let counts = |subject| {
            let found = Averaging { group: KEYS, along: None, subject }
                .means(&rows, "metric", &["error"])
                .unwrap();
            [column(&found, "nets").join(","), column(&found, "pairs").join(",")]
        };
        assert_eq!(counts(Subject::Pair), ["6", "3"]);
        assert_eq!(counts(Subject::Net)[0], "3");
    }

    /// As in the test of `study::stats` with SciPy: the pairs of four nets, 5, 7, 6, 4, 8 and 9.
    #[test]
    fn pairs_that_share_nets_have_an_interval_over_nets_and_directions_are_one_value() {
        let pairs = ["1:2", "1:3", "4:1", "2:3", "2:4", "3:4"];
        let mut rows: Vec<(&str, f64)> = pairs.into_iter().zip([5., 7., 6., 3., 8., 9.]).collect();
        rows.push(("3:2", 5.0));
        let (pair, error): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let frame = df!("hidden" => ["10"; 7], "pair" => pair, "error" => error).unwrap();
        let averaging = Averaging { group: KEYS, along: None, subject: Subject::Pair };
        let found = averaging.means(&frame, "metric", &["error"]).unwrap();
        let counts = ["nets", "pairs", "mean"].map(|name| column(&found, name).remove(0));
        assert_eq!(counts, ["4", "6", "6.5"]);
        let [low, high] = ["low", "high"].map(|name| numbers(&found, name).unwrap()[0]);
        assert!((low - 2.290_019_257_701_484).abs() < 1e-9, "{low}");
        assert!((high - 10.709_980_742_298_516).abs() < 1e-9, "{high}");
    }

    #[test]
    fn the_straight_line_of_either_direction_normalises_both() {
        let frame = |method: &[&str], pair: &[&str], max: &[f64]| {
            let n = pair.len();
            df!(
                "hidden" => vec!["5"; n], "prior" => vec!["none"; n], "method" => method,
                "pair" => pair, "split" => vec!["test"; n], "max_error" => max,
                "error_a" => vec![1.0; n], "error_b" => vec![3.0; n],
            )
            .unwrap()
        };
        let metrics = frame(
            &["arc", "arc", "linear", "linear"],
            &["1:2", "2:1", "2:1", "1:3"],
            &[0.0, 0.0, 12.0, 7.0],
        );
        let points = df!(
            "hidden" => ["5"; 2], "prior" => ["none"; 2], "method" => ["arc"; 2],
            "pair" => ["1:2", "2:1"], "split" => ["test"; 2], "t" => [0.5; 2],
            "error" => [4.0, 7.0],
        );
        let found = with_normalised(points.unwrap(), &metrics).unwrap();
        assert_eq!(numbers(&found, "normalised").unwrap(), [0.2, 0.5]);
    }

    #[test]
    fn three_pairs_have_an_interval_and_two_have_none() {
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
    fn all_points_of_a_curve_have_the_same_kind_of_average() {
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
    fn a_point_that_some_pairs_lack_is_left_out() {
        let both = [(0.0, 1, 2.0), (0.0, 2, 3.0), (1.0, 1, 4.0), (1.0, 2, 5.0)];
        let refined = [(0.5, 2, 9.0), (0.75, 1, f64::NAN), (0.75, 2, 9.0)];
        let found = along(&[&both[..], &refined].concat());
        assert_eq!(column(&found, "t"), ["0", "1"]);
        assert_eq!(column(&found, "pairs"), ["2", "2"]);
    }

    #[test]
    fn an_infinite_value_is_an_error() {
        let rows = frame(&[(0.0, 1, 5.0), (0.0, 2, f64::INFINITY)]);
        let averaging = Averaging { group: KEYS, along: None, subject: Subject::Pair };
        let error = averaging.means(&rows, "metric", &["error"]).unwrap_err();
        assert_eq!(format!("{error:#}"), "`error`: `inf` is not a finite number");
    }

    #[test]
    fn one_direction_of_some_pairs_and_both_of_others_are_refused_for_adjusted_curves() {
        let check = |method: &str, pairs: &[&str]| {
            let of = |text: &str| vec![text.to_owned(); pairs.len()];
            let names: Vec<String> = pairs.iter().map(|&pair| pair.to_owned()).collect();
            let frame = df!(
                "hidden" => of("10"), "prior" => of("none"), "method" => of(method), "pair" => names
            );
            check_directions(&frame.unwrap()).map_err(|error| error.to_string())
        };
        let mixed = ["1:2", "2:1", "1:3"];
        let message = "`linear+wa` at `hidden=10, prior=none` has both directions of the pair \
                       `1:2`, but one of `1:3`";
        assert_eq!(check("linear+wa", &mixed), Err(message.to_owned()));
        assert_eq!(check("linear", &mixed), Ok(()), "the straight line is symmetric");
        assert_eq!(check("linear+wa", &["1:2", "2:1", "1:3", "3:1"]), Ok(()));
        assert_eq!(check("linear+wa", &["1:2", "1:3"]), Ok(()));
    }
}
