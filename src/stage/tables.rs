//! The tables of the study: their columns, and reading and writing them with polars.
//!
//! Polars concatenates, sorts, joins and parses. It takes no mean: what reaches an artifact as a number is computed by
//! `study::stats`, in a stated order.

use anyhow::{Context as _, Result, bail};
use polars::prelude::*;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// A CSV file's name and columns.
pub(super) struct Table {
    pub(super) file: &'static str,
    pub(super) columns: &'static [(&'static str, Type)],
}

/// What a column holds.
#[derive(Clone, Copy)]
pub(super) enum Type {
    Text,
    Whole,
    Number,
}

use Type::{Number, Text, Whole};

/// Error and loss at each point of a curve; one row per curve, split and t.
pub(super) const POINTS: Table = Table {
    file: "points.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("method", Text),
        ("pair", Whole),
        ("split", Text),
        ("t", Number),
        ("error", Number),
        ("loss", Number),
    ],
};

/// A curve in a few numbers; one row per curve and split. Errors in %, losses in nats. The mean that
/// methods are compared by is `mean_error_by_length`, see `Metrics`; `rho` is the correlation of the
/// two nets.
pub(super) const METRICS: Table = Table {
    file: "metrics.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("method", Text),
        ("pair", Whole),
        ("split", Text),
        ("max_error", Number),
        ("t_at_max", Number),
        ("excess_error", Number),
        ("mean_error", Number),
        ("mean_error_by_length", Number),
        ("mean_error_first_segment", Number),
        ("length_over_chord", Number),
        ("rho", Number),
        ("barrier_loss", Number),
        ("barrier_error", Number),
        ("error_a", Number),
        ("error_b", Number),
    ],
};

/// How the least-squares problems behind a refitted curve went; one row per problem.
pub(super) const REFITS: Table = Table {
    file: "refits.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("method", Text),
        ("pair", Whole),
        ("s", Number),
        ("images", Whole),
        ("rank", Whole),
        ("ridge", Number),
        ("residual", Number),
        ("residual_kept", Number),
    ],
};

/// A net: how it was trained and how good it is; one row per net.
pub(super) const NETS: Table = Table {
    file: "nets.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("pair", Whole),
        ("end", Text),
        ("seed", Text),
        ("epochs", Whole),
        ("batch", Whole),
        ("optimizer", Text),
        ("init", Text),
        ("engine", Text),
        ("images", Whole),
        ("train_error", Number),
        ("train_loss", Number),
        ("validation_error", Number),
        ("validation_loss", Number),
        ("test_error", Number),
        ("test_loss", Number),
        ("norm_w1", Number),
        ("norm_w2", Number),
        ("active_neurons", Whole),
    ],
};

/// Training, epoch by epoch. Train error and loss are as seen in passing.
pub(super) const HISTORY: Table = Table {
    file: "history.csv",
    columns: &[
        ("epoch", Whole),
        ("rate", Number),
        ("train_error", Number),
        ("train_loss", Number),
        ("validation_error", Number),
        ("validation_loss", Number),
    ],
};

/// Curves averaged over pairs; one row per width, prior, method, split and t.
pub(super) const CURVES: Table = Table {
    file: "curves.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("method", Text),
        ("split", Text),
        ("t", Number),
        ("quantity", Text),
        ("count", Whole),
        ("mean", Number),
        ("low", Number),
        ("high", Number),
    ],
};

/// Metrics averaged over pairs; one row per width, prior, method, split and metric.
pub(super) const SUMMARY: Table = Table {
    file: "summary.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("method", Text),
        ("split", Text),
        ("metric", Text),
        ("count", Whole),
        ("mean", Number),
        ("low", Number),
        ("high", Number),
    ],
};

/// Nets averaged over pairs and ends; one row per width, prior and quantity.
pub(super) const ENDPOINTS: Table = Table {
    file: "endpoints.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("quantity", Text),
        ("count", Whole),
        ("mean", Number),
        ("low", Number),
        ("high", Number),
    ],
};

impl Table {
    /// The columns' names.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.columns.iter().map(|(name, _)| *name).collect()
    }

    /// Reads a file of this table. Other columns, or cells of another type, are refused.
    pub(super) fn read(&self, path: &Path) -> Result<DataFrame> {
        let schema: Schema = self.columns.iter().map(|(name, kind)| Field::new((*name).into(), kind.dtype())).collect();
        let read = || -> Result<DataFrame> {
            let file = File::open(path)?;
            let options = CsvReadOptions::default().with_has_header(true).with_schema(Some(Arc::new(schema)));
            Ok(options.with_n_threads(Some(1)).into_reader_with_file_handle(file).finish()?)
        };
        read().with_context(|| format!("`{}` is not a table `{}`", path.display(), self.file))
    }

    /// Reads several and puts them under each other, sorted by `keys`.
    pub(super) fn read_all<'p>(
        &self,
        paths: impl IntoIterator<Item = Result<&'p Path>>,
        keys: &[&str],
    ) -> Result<DataFrame> {
        let mut all: Option<DataFrame> = None;
        for path in paths {
            let frame = self.read(path?)?;
            match &mut all {
                Some(all) => _ = all.vstack_mut_owned(frame)?,
                None => all = Some(frame),
            }
        }
        let all = all.context("there is nothing to put together")?;
        let all = all.sort(keys.iter().copied(), SortMultipleOptions::default().with_maintain_order(true))?;
        self.refuse_twins(&all, keys)?;
        Ok(all)
    }

    /// Rows that agree in all of `keys` would be taken for one another, and averaged as if they were pairs.
    fn refuse_twins(&self, sorted: &DataFrame, keys: &[&str]) -> Result<()> {
        let names: Vec<Vec<String>> = keys.iter().map(|key| shown(sorted, key)).collect::<Result<_>>()?;
        if let Some(i) = (1..sorted.height()).find(|&i| names.iter().all(|column| column[i] == column[i - 1])) {
            let row: Vec<String> =
                keys.iter().zip(&names).map(|(key, column)| format!("{key}={}", column[i])).collect();
            bail!(
                "two rows of `{}` are both `{}`: they differ in something that no column tells, such as epochs; aggregate them \
                 apart",
                self.file,
                row.join(",")
            );
        }
        Ok(())
    }

    /// Writes `frame` as this table.
    pub(super) fn write(&self, frame: &DataFrame, path: &Path) -> Result<()> {
        let mut columns = frame.select(self.names())?;
        let mut file = crate::fs::create(path)?;
        CsvWriter::new(&mut file).include_header(true).n_threads(1).finish(&mut columns)?;
        Ok(())
    }
}

impl Type {
    fn dtype(self) -> DataType {
        match self {
            Text => DataType::String,
            Whole => DataType::Int64,
            Number => DataType::Float64,
        }
    }
}

/// A column of texts; a missing one is empty.
pub(super) fn texts(frame: &DataFrame, column: &str) -> Result<Vec<String>> {
    Ok(frame.column(column)?.str()?.iter().map(|x| x.unwrap_or_default().to_owned()).collect())
}

/// A column of numbers, whole or not; a missing one is NaN.
pub(super) fn numbers(frame: &DataFrame, column: &str) -> Result<Vec<f64>> {
    let column = frame.column(column)?.cast(&DataType::Float64)?;
    Ok(column.f64()?.iter().map(|x| x.unwrap_or(f64::NAN)).collect())
}

/// A column of whole numbers.
pub(super) fn wholes(frame: &DataFrame, column: &str) -> Result<Vec<i64>> {
    Ok(frame.column(column)?.i64()?.iter().map(Option::unwrap_or_default).collect())
}

/// A column's cells as text, comparable.
pub(super) fn shown(frame: &DataFrame, column: &str) -> Result<Vec<String>> {
    Ok(match frame.column(column)?.dtype() {
        DataType::String => texts(frame, column)?,
        DataType::Int64 => wholes(frame, column)?.iter().map(i64::to_string).collect(),
        _ => numbers(frame, column)?.iter().map(f64::to_string).collect(),
    })
}

/// A mean over pairs, read back from one of the tables of means.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mean {
    /// How many values it was taken over: pairs, or nets in the table of ends.
    pub(super) count: usize,
    pub(super) mean: f64,
    /// 95 % bootstrap interval; none of fewer than two pairs.
    pub(super) interval: Option<(f64, f64)>,
}

/// The means of a table of means, in its order.
pub(super) fn means(frame: &DataFrame) -> Result<Vec<Mean>> {
    let (count, mean) = (wholes(frame, "count")?, numbers(frame, "mean")?);
    let (low, high) = (numbers(frame, "low")?, numbers(frame, "high")?);
    let rows = count.into_iter().zip(mean).zip(low.into_iter().zip(high));
    let interval = |(low, high): (f64, f64)| (low.is_finite() && high.is_finite()).then_some((low, high));
    Ok(rows.map(|((n, mean), ends)| Mean { count: n as usize, mean, interval: interval(ends) }).collect())
}
