//! The tables of the study: their columns, and reading and writing them with polars.
//!
//! Polars concatenates, sorts, joins and parses. It takes no mean: what reaches an artifact as a number is computed by
//! `study::stats`, in a stated order.

use crate::study::stats::{Average, Interval};
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

/// The training of all nets; one row per net and epoch.
pub(super) const HISTORIES: Table = Table {
    file: "histories.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("pair", Whole),
        ("end", Text),
        ("epoch", Whole),
        ("rate", Number),
        ("train_error", Number),
        ("train_loss", Number),
        ("validation_error", Number),
        ("validation_loss", Number),
    ],
};

/// Curves averaged over pairs; one row per width, prior, method, split, t and quantity. One curve takes one kind of average,
/// so that its line has no step, and has the points that all its pairs have.
pub(super) const CURVES: Table = Table {
    file: "curves.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("method", Text),
        ("split", Text),
        ("t", Number),
        ("quantity", Text),
        ("nets", Whole),
        ("pairs", Whole),
        ("average", Text),
        ("mean", Number),
        ("low", Number),
        ("high", Number),
        ("least", Number),
        ("most", Number),
    ],
};

/// Metrics averaged over pairs; one row per width, prior, method, split and metric.
///
/// `nets` and `pairs` count what the row is of: as many nets as two for each pair are disjoint pairs. `average` says which
/// mean `mean` is, `low` and `high` are its 95 % interval and `pair_low` and `pair_high` the 95 % prediction interval for one
/// pair of new nets; both are empty where there are too few. `least` and `most` are the range over pairs.
pub(super) const SUMMARY: Table = Table {
    file: "summary.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("method", Text),
        ("split", Text),
        ("metric", Text),
        ("nets", Whole),
        ("pairs", Whole),
        ("average", Text),
        ("mean", Number),
        ("low", Number),
        ("high", Number),
        ("pair_low", Number),
        ("pair_high", Number),
        ("least", Number),
        ("most", Number),
    ],
};

/// Nets, each a number of its own, averaged over pairs and ends; one row per width, prior and quantity.
pub(super) const ENDPOINTS: Table = Table {
    file: "endpoints.csv",
    columns: &[
        ("hidden", Whole),
        ("prior", Text),
        ("quantity", Text),
        ("nets", Whole),
        ("average", Text),
        ("mean", Number),
        ("low", Number),
        ("high", Number),
        ("least", Number),
        ("most", Number),
    ],
};

impl Table {
    /// The columns' names.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.columns.iter().map(|(name, _)| *name).collect()
    }

    /// Reads a file of this table. Other columns, cells of another type, and numbers that are not finite are refused.
    pub(super) fn read(&self, path: &Path) -> Result<DataFrame> {
        let schema: Schema = self
            .columns
            .iter()
            .map(|(name, kind)| Field::new((*name).into(), kind.dtype()))
            .collect();
        let read = || -> Result<DataFrame> {
            let file = File::open(path)?;
            let options =
                CsvReadOptions::default().with_has_header(true).with_schema(Some(Arc::new(schema)));
            let frame =
                options.with_n_threads(Some(1)).into_reader_with_file_handle(file).finish()?;
            self.refuse_non_finite(&frame)?;
            Ok(frame)
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
        let all = all
            .sort(keys.iter().copied(), SortMultipleOptions::default().with_maintain_order(true))?;
        self.refuse_twins(&all, keys)?;
        Ok(all)
    }

    /// NaN and infinities are no measurements, and no statistic may be taken of them.
    fn refuse_non_finite(&self, frame: &DataFrame) -> Result<()> {
        for (column, _) in self.columns.iter().filter(|(_, kind)| matches!(kind, Number)) {
            let numbers = frame.column(column)?.f64()?;
            if let Some((row, x)) = numbers
                .iter()
                .enumerate()
                .find_map(|(i, x)| Some((i, x.filter(|x| !x.is_finite())?)))
            {
                let first = self.columns.iter().take_while(|(_, kind)| !matches!(kind, Number));
                let name =
                    |(key, _): &(&str, Type)| Ok(format!("{key}={}", shown(frame, key)?[row]));
                let names = first.map(name).collect::<Result<Vec<String>>>()?.join(",");
                bail!(
                    "line {}: `{column}` of `{names}` is `{x}`, which is no finite number",
                    row + 2
                );
            }
        }
        Ok(())
    }

    /// Rows that agree in all of `keys` would be taken for one another, and averaged as if they were pairs.
    fn refuse_twins(&self, sorted: &DataFrame, keys: &[&str]) -> Result<()> {
        let names: Vec<Vec<String>> =
            keys.iter().map(|key| shown(sorted, key)).collect::<Result<_>>()?;
        if let Some(i) =
            (1..sorted.height()).find(|&i| names.iter().all(|column| column[i] == column[i - 1]))
        {
            let row: Vec<String> = keys
                .iter()
                .zip(&names)
                .map(|(key, column)| format!("{key}={}", column[i]))
                .collect();
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

/// The two nets of a pair. No two pairs share a net: `evaluate` joins the ends of one pair.
pub(super) fn ends(pair: i64) -> [(i64, char); 2] {
    [(pair, 'a'), (pair, 'b')]
}

/// A mean over pairs or nets, read back from one of the tables of means.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mean {
    /// How many values it was taken over: pairs, or nets in the table of ends.
    pub(super) count: usize,
    pub(super) average: Average,
    pub(super) mean: f64,
    /// Its 95 % interval; none of too few values.
    pub(super) interval: Option<Interval>,
    /// The smallest and the largest value: of one or two, the values themselves.
    pub(super) range: (f64, f64),
}

/// The means of a table of means, in its order.
pub(super) fn means(frame: &DataFrame) -> Result<Vec<Mean>> {
    let count = wholes(frame, if frame.column("pairs").is_ok() { "pairs" } else { "nets" })?;
    let average = texts(frame, "average")?;
    let (mean, intervals) = (numbers(frame, "mean")?, intervals(frame, ["low", "high"])?);
    let (least, most) = (numbers(frame, "least")?, numbers(frame, "most")?);
    let row = |i: usize| -> Result<Mean> {
        let average = average[i].parse().map_err(anyhow::Error::msg)?;
        let range = (least[i], most[i]);
        Ok(Mean { count: count[i] as usize, average, mean: mean[i], interval: intervals[i], range })
    };
    (0..frame.height()).map(row).collect()
}

/// The intervals between two columns; none where a cell is empty.
pub(super) fn intervals(
    frame: &DataFrame,
    [low, high]: [&str; 2],
) -> Result<Vec<Option<Interval>>> {
    let ends = numbers(frame, low)?.into_iter().zip(numbers(frame, high)?);
    Ok(ends
        .map(|(low, high)| (!low.is_nan() && !high.is_nan()).then_some(Interval { low, high }))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [&Table; 8] =
        [&POINTS, &METRICS, &REFITS, &NETS, &HISTORY, &CURVES, &SUMMARY, &ENDPOINTS];

    /// A file of two rows: the second with `value` in `column`, all else filled in.
    fn file(table: &Table, column: &str, value: &str) -> tempfile::NamedTempFile {
        let row = |value: &str| {
            let cells = table.columns.iter().map(|(name, kind)| match kind {
                _ if *name == column => value,
                Text => "x",
                Whole => "7",
                Number => "0.5",
            });
            cells.collect::<Vec<_>>().join(",")
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        crate::fs::write(
            file.path(),
            format!("{}\n{}\n{}\n", table.names().join(","), row("0.5"), row(value)),
        )
        .unwrap();
        file
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused_in_every_table_with_its_row() {
        for table in ALL {
            for (column, _) in table.columns.iter().filter(|(_, kind)| matches!(kind, Number)) {
                for (written, shown) in [("NaN", "NaN"), ("inf", "inf"), ("-inf", "-inf")] {
                    let refused = format!(
                        "{:#}",
                        table.read(file(table, column, written).path()).unwrap_err()
                    );
                    let expected = format!("line 3: `{column}` of `");
                    assert!(refused.contains(&expected), "{} `{column}`: {refused}", table.file);
                    assert!(
                        refused.ends_with(&format!("is `{shown}`, which is no finite number")),
                        "{refused}"
                    );
                }
                assert!(
                    table.read(file(table, column, "").path()).is_ok(),
                    "a missing `{column}` is not refused"
                );
            }
        }
        let refused =
            format!("{:#}", METRICS.read(file(&METRICS, "max_error", "NaN").path()).unwrap_err());
        assert!(
            refused.contains("`max_error` of `hidden=7,prior=x,method=x,pair=7,split=x`"),
            "{refused}"
        );
    }

    #[test]
    fn a_mean_is_read_back_with_its_kind_and_its_interval() {
        let means = |text: &str| {
            let path = tempfile::NamedTempFile::new().unwrap();
            let names = ENDPOINTS.names().join(",");
            crate::fs::write(path.path(), format!("{names}\n10,none,test_error,{text}\n")).unwrap();
            means(&ENDPOINTS.read(path.path()).unwrap())
        };
        let read = means("4,geometric,3.0,2.0,5.0,1.0,9.0").unwrap().remove(0);
        let interval = Some(Interval { low: 2.0, high: 5.0 });
        let expected =
            Mean { count: 4, average: Average::Geometric, mean: 3.0, interval, range: (1.0, 9.0) };
        assert_eq!(read, expected);
        assert_eq!(means("2,arithmetic,3.0,,,1.0,5.0").unwrap()[0].interval, None);
        assert!(means("2,median,3.0,,,1.0,5.0").is_err());
    }

    const TABLE: Table =
        Table { file: "t.csv", columns: &[("text", Text), ("whole", Whole), ("number", Number)] };

    fn row() -> impl Strategy<Value = (String, i64, f64)> {
        let number = any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite());
        (
            "[^\0\r]{0,8}",
            any::<i64>(),
            prop_oneof![number, Just(-0.0), Just(2.0 / 13.0), Just(5e-324)],
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_number_survives_its_table(rows in prop::collection::vec(row(), 1..20)) {
            let texts: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
            let whole: Vec<i64> = rows.iter().map(|row| row.1).collect();
            let number: Vec<f64> = rows.iter().map(|row| row.2).collect();
            let frame = df!("text" => &texts, "whole" => &whole, "number" => &number).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(TABLE.file);
            TABLE.write(&frame, &path).unwrap();
            let back = TABLE.read(&path).unwrap();
            prop_assert_eq!(super::texts(&back, "text").unwrap(), texts);
            prop_assert_eq!(wholes(&back, "whole").unwrap(), whole);
            let bits = |numbers: Vec<f64>| numbers.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            prop_assert_eq!(bits(numbers(&back, "number").unwrap()), bits(number));
        }
    }
}
