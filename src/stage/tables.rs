//! The study's tables: their columns, and how they are read and written.
//!
//! Polars parses, concatenates, sorts and joins. It computes no statistic: `study::stats` does, in
//! a fixed order of summation.

use super::names::natural;
use crate::engine::stage::Hinted;
use anyhow::{Context as _, Result, bail};
use polars::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write};
use std::path::Path;
use std::sync::Arc;

/// A CSV file: its name and its columns.
pub(super) struct TableSchema {
    pub(super) file: &'static str,
    /// Identify a row.
    pub(super) keys: &'static [(&'static str, ColumnType)],
    /// Describe a row, but are not averaged.
    pub(super) attributes: &'static [(&'static str, ColumnType)],
    /// Measured or computed.
    pub(super) values: &'static [(&'static str, ColumnType)],
}

/// The type of a column's values.
#[derive(Clone, Copy)]
pub(super) enum ColumnType {
    Text,
    /// A text in natural order, see [`natural`]: hidden layers, a net, a pair of nets.
    Name,
    Whole,
    Number,
}

use ColumnType::{Name, Number, Text, Whole};

/// Error and loss along a curve; one row per curve, split and t. `hidden` are the hidden layers of
/// both nets, such as `50` or `512x256+bias`, and `pair` their names, such as `1:3` for the curve
/// from net 1 to net 3.
pub(super) const POINTS: TableSchema = TableSchema {
    file: "points.csv",
    keys: &[
        ("hidden", Name),
        ("prior", Text),
        ("method", Text),
        ("pair", Name),
        ("split", Text),
        ("t", Number),
    ],
    attributes: &[],
    values: &[("error", Number), ("loss", Number)],
};

/// Metrics of whole curves; one row per curve and split. Errors in %, losses in nats. `rho` is the
/// correlation of the two nets; for the other columns, see `study::curve::metrics`.
pub(super) const METRICS: TableSchema = TableSchema {
    file: "metrics.csv",
    keys: &[("hidden", Name), ("prior", Text), ("method", Text), ("pair", Name), ("split", Text)],
    attributes: &[],
    values: &[
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

/// Error and loss on a plane through three nets; one row per plane, split and point. `third` is the
/// third net: `pi(B)` for B with its neurons matched to those of A, or `C`.
pub(super) const PLANE: TableSchema = TableSchema {
    file: "plane.csv",
    keys: &[
        ("hidden", Name),
        ("prior", Text),
        ("pair", Name),
        ("third", Text),
        ("split", Text),
        ("x", Number),
        ("y", Number),
    ],
    attributes: &[],
    values: &[("error", Number), ("loss", Number)],
};

/// The three nets of a plane; one row per net. `unit` is |B - A|, the unit of the coordinates.
pub(super) const PLANE_NETS: TableSchema = TableSchema {
    file: "plane-nets.csv",
    keys: &[("hidden", Name), ("prior", Text), ("pair", Name), ("net", Text)],
    attributes: &[],
    values: &[("x", Number), ("y", Number), ("unit", Number)],
};

/// Curves between the nets of a plane; one row per curve, split and t. `x` and `y` are the nearest
/// point of the plane, `distance` is the distance from it; error and loss are those of the curve
/// itself.
pub(super) const PLANE_CURVES: TableSchema = TableSchema {
    file: "plane-curves.csv",
    keys: &[
        ("hidden", Name),
        ("prior", Text),
        ("pair", Name),
        ("curve", Text),
        ("split", Text),
        ("t", Number),
    ],
    attributes: &[],
    values: &[
        ("x", Number),
        ("y", Number),
        ("distance", Number),
        ("error", Number),
        ("loss", Number),
    ],
};

/// The least-squares problems of a refitted curve; one row per problem. `s` is the number of layers
/// that have arrived at B's, plus the position of the one that moves: from 0 to 1 with one hidden
/// layer, to the number of hidden layers in a deeper net.
pub(super) const REFITS: TableSchema = TableSchema {
    file: "refits.csv",
    keys: &[("hidden", Name), ("prior", Text), ("method", Text), ("pair", Name), ("s", Number)],
    attributes: &[("images", Whole)],
    values: &[("rank", Whole), ("ridge", Number), ("residual", Number), ("residual_kept", Number)],
};

/// Nets, their training and their quality; one row per net. The settings of a net that was trained
/// elsewhere are empty.
pub(super) const NETS: TableSchema = TableSchema {
    file: "nets.csv",
    keys: &[("hidden", Name), ("prior", Text), ("net", Name)],
    attributes: &[
        ("seed", Text),
        ("epochs", Whole),
        ("batch", Whole),
        ("optimizer", Text),
        ("init", Text),
        ("engine", Text),
        ("images", Whole),
    ],
    values: &[
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

/// As [`NETS`], for a net that is named by a pair and an end, in the file of the net alone.
pub(super) const ENDS: TableSchema = TableSchema {
    keys: &[("hidden", Name), ("prior", Text), ("pair", Name), ("end", Text)],
    ..NETS
};

/// As [`ENDS`], for an end that shares its first epochs with the other one.
pub(super) const SHARED_ENDS: TableSchema = TableSchema {
    keys: &[
        ("hidden", Name),
        ("prior", Text),
        (SHARED_EPOCHS, Whole),
        ("pair", Name),
        ("end", Text),
    ],
    ..NETS
};

/// The column of the first epochs that both nets of a pair share. The tables of nets and curves
/// without a shared start do not have it.
pub(super) const SHARED_EPOCHS: &str = "shared_epochs";

/// As [`POINTS`], for nets with a shared start.
pub(super) const SHARED_POINTS: TableSchema = TableSchema {
    keys: &[
        ("hidden", Name),
        ("prior", Text),
        (SHARED_EPOCHS, Whole),
        ("method", Text),
        ("pair", Name),
        ("split", Text),
        ("t", Number),
    ],
    ..POINTS
};

/// As [`METRICS`], for nets with a shared start.
pub(super) const SHARED_METRICS: TableSchema = TableSchema {
    keys: &[
        ("hidden", Name),
        ("prior", Text),
        (SHARED_EPOCHS, Whole),
        ("method", Text),
        ("pair", Name),
        ("split", Text),
    ],
    ..METRICS
};

/// As [`REFITS`], for nets with a shared start.
pub(super) const SHARED_REFITS: TableSchema = TableSchema {
    keys: &[
        ("hidden", Name),
        ("prior", Text),
        (SHARED_EPOCHS, Whole),
        ("method", Text),
        ("pair", Name),
        ("s", Number),
    ],
    ..REFITS
};

/// Means of the metrics of nets with a shared start over pairs, of which each has a trunk of its
/// own; one row per hidden layers, prior, method, number of shared epochs, split and metric. The
/// other columns are those of [`SUMMARY`].
pub(super) const SHARED_START: TableSchema = TableSchema {
    file: "shared-start.csv",
    keys: &[
        ("hidden", Name),
        ("prior", Text),
        ("method", Text),
        (SHARED_EPOCHS, Whole),
        ("split", Text),
        ("metric", Text),
    ],
    ..SUMMARY
};

/// The training history of one net; one row per epoch. Train error and loss are running averages
/// over the batches of the epoch.
pub(super) const HISTORY: TableSchema = TableSchema {
    file: "history.csv",
    keys: &[("epoch", Whole)],
    attributes: &[("rate", Number)],
    values: &[
        ("train_error", Number),
        ("train_loss", Number),
        ("validation_error", Number),
        ("validation_loss", Number),
    ],
};

/// The training histories of all nets; one row per net and epoch.
pub(super) const HISTORIES: TableSchema = TableSchema {
    file: "histories.csv",
    keys: &[("hidden", Name), ("prior", Text), ("net", Name), ("epoch", Whole)],
    attributes: HISTORY.attributes,
    values: HISTORY.values,
};

/// Means over pairs along curves; one row per hidden layers, prior, method, split, t and quantity.
/// All points of a line have the same kind of average, so that the line has no step, and only
/// points that all pairs have in common are included. For `nets` and `pairs`, see [`SUMMARY`].
pub(super) const CURVES: TableSchema = TableSchema {
    file: "curves.csv",
    keys: &[
        ("hidden", Name),
        ("prior", Text),
        ("method", Text),
        ("split", Text),
        ("t", Number),
        ("quantity", Text),
    ],
    attributes: &[("nets", Whole), ("pairs", Whole), ("average", Text)],
    values: &[
        ("mean", Number),
        ("low", Number),
        ("high", Number),
        ("least", Number),
        ("most", Number),
    ],
};

/// Means of metrics over pairs; one row per hidden layers, prior, method, split and metric.
///
/// `nets` and `pairs` are the sample sizes: pairs are disjoint if there are two nets for each. The
/// two directions of a pair are one value, their mean.
/// `average` is the kind of `mean`. `low` and `high` are its 95 % confidence interval, `pair_low`
/// and `pair_high` the 95 % prediction interval for a pair of new nets; all are empty if there are
/// too few pairs. `least` and `most` are the range over pairs.
pub(super) const SUMMARY: TableSchema = TableSchema {
    file: "summary.csv",
    keys: &[("hidden", Name), ("prior", Text), ("method", Text), ("split", Text), ("metric", Text)],
    attributes: &[("nets", Whole), ("pairs", Whole), ("average", Text)],
    values: &[
        ("mean", Number),
        ("low", Number),
        ("high", Number),
        ("pair_low", Number),
        ("pair_high", Number),
        ("least", Number),
        ("most", Number),
    ],
};

/// Means over individual nets; one row per hidden layers, prior and quantity.
pub(super) const ENDPOINTS: TableSchema = TableSchema {
    file: "endpoints.csv",
    keys: &[("hidden", Name), ("prior", Text), ("quantity", Text)],
    attributes: &[("nets", Whole), ("average", Text)],
    values: &[
        ("mean", Number),
        ("low", Number),
        ("high", Number),
        ("least", Number),
        ("most", Number),
    ],
};

/// Ensembles from two nets; one row per pair, method, kind (see `study::curve::ensemble`), number
/// of nets at inference (`members`) and split. `trained` is the number of nets that are trained for
/// it, `error` is in %, `loss` in nats, and `ece`, the expected calibration error, in points.
pub(super) const ENSEMBLES: TableSchema = TableSchema {
    file: "ensembles.csv",
    keys: &[
        ("hidden", Name),
        ("prior", Text),
        ("method", Text),
        ("pair", Name),
        ("kind", Text),
        ("members", Whole),
        ("split", Text),
    ],
    attributes: &[("trained", Whole)],
    values: &[("error", Number), ("loss", Number), ("ece", Number)],
};

/// All tables.
pub(super) const TABLES: [&TableSchema; 16] = [
    &POINTS,
    &METRICS,
    &REFITS,
    &NETS,
    &ENDS,
    &HISTORY,
    &HISTORIES,
    &CURVES,
    &SUMMARY,
    &ENDPOINTS,
    &ENSEMBLES,
    &SHARED_POINTS,
    &SHARED_METRICS,
    &SHARED_REFITS,
    &SHARED_ENDS,
    &SHARED_START,
];

impl TableSchema {
    fn columns(&self) -> impl Iterator<Item = (&'static str, ColumnType)> {
        [self.keys, self.attributes, self.values].into_iter().flatten().copied()
    }

    /// The names of all columns.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.columns().map(|(name, _)| name).collect()
    }

    /// The names of the key columns.
    pub(super) fn key_names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|(name, _)| *name).collect()
    }

    /// The names of the value columns.
    pub(super) fn value_names(&self) -> Vec<&'static str> {
        self.values.iter().map(|(name, _)| *name).collect()
    }

    /// Reads a file of this table.
    ///
    /// # Errors
    /// If its columns or types differ, or if it contains a number that is not finite.
    pub(super) fn read(&self, path: &Path) -> Result<DataFrame> {
        let field =
            |(name, kind): (&'static str, ColumnType)| Field::new(name.into(), kind.dtype());
        let schema: Schema = self.columns().map(field).collect();
        let read = || -> Result<DataFrame> {
            let file = File::open(path)?;
            let options =
                CsvReadOptions::default().with_has_header(true).with_schema(Some(Arc::new(schema)));
            let frame =
                options.with_n_threads(Some(1)).into_reader_with_file_handle(file).finish()?;
            self.check_finite(&frame)?;
            Ok(frame)
        };
        read().with_context(|| format!("`{}` is not a table `{}`", path.display(), self.file))
    }

    /// Reads several files and concatenates them, sorted by the keys.
    pub(super) fn read_all<'p>(
        &self,
        paths: impl IntoIterator<Item = Result<&'p Path>>,
    ) -> Result<DataFrame> {
        let mut all: Option<DataFrame> = None;
        for path in paths {
            let frame = self.read(path?)?;
            match &mut all {
                Some(all) => _ = all.vstack_mut_owned(frame)?,
                None => all = Some(frame),
            }
        }
        let mut all = all.with_context(|| format!("BUG: no file `{}`", self.file))?;
        // A frame of a chunk per file is slow to read by row.
        all.rechunk_mut();
        self.sorted(&all)
    }

    /// The rows of `frame` in the order of the keys.
    ///
    /// # Errors
    /// If two rows have the same key.
    pub(super) fn sorted(&self, frame: &DataFrame) -> Result<DataFrame> {
        let sorted = sorted(frame, &self.key_names())?;
        self.check_keys_are_unique(&sorted)?;
        Ok(sorted)
    }

    /// NaN and infinities are not measurements, and must not enter a statistic.
    fn check_finite(&self, frame: &DataFrame) -> Result<()> {
        for (column, _) in self.columns().filter(|(_, kind)| matches!(kind, Number)) {
            let numbers = frame.column(column)?.f64()?;
            if let Some((row, x)) = numbers
                .iter()
                .enumerate()
                .find_map(|(i, x)| Some((i, x.filter(|x| !x.is_finite())?)))
            {
                let key = self.key_of(frame, row)?;
                bail!("line {}: `{column}` of `{key}` is `{x}`, not a finite number", row + 2);
            }
        }
        Ok(())
    }

    /// Rows with equal keys would be averaged as if they were different pairs.
    fn check_keys_are_unique(&self, sorted: &DataFrame) -> Result<()> {
        let keys: Vec<Vec<String>> =
            self.key_names().iter().map(|key| cells(sorted, key)).collect::<Result<_>>()?;
        if let Some(row) =
            (1..sorted.height()).find(|&i| keys.iter().all(|column| column[i] == column[i - 1]))
        {
            let cause = format!(
                "two rows of `{}` have the same key `{}`",
                self.file,
                self.key_of(sorted, row)?
            );
            let hint = "they differ in a parameter that is not a column, such as `epochs`; \
                        aggregate them in separate stages";
            return Err(Hinted::new(cause, hint).into());
        }
        Ok(())
    }

    /// A row's key, as in `hidden=50,prior=none`.
    fn key_of(&self, frame: &DataFrame, row: usize) -> Result<String> {
        let name = |key: &'static str| Ok(format!("{key}={}", cells(frame, key)?[row]));
        Ok(self.key_names().into_iter().map(name).collect::<Result<Vec<String>>>()?.join(","))
    }

    /// Writes `frame` as this table.
    pub(super) fn write(&self, frame: &DataFrame, path: &Path) -> Result<()> {
        self.write_to(frame, &mut crate::fs::create(path)?)
    }

    /// The bytes of the file.
    pub(super) fn to_bytes(&self, frame: &DataFrame) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_to(frame, &mut bytes)?;
        Ok(bytes)
    }

    fn write_to(&self, frame: &DataFrame, target: &mut impl Write) -> Result<()> {
        let mut columns = frame.select(self.names())?;
        CsvWriter::new(target).include_header(true).n_threads(1).finish(&mut columns)?;
        Ok(())
    }
}

impl ColumnType {
    fn dtype(self) -> DataType {
        match self {
            Text | Name => DataType::String,
            Whole => DataType::Int64,
            Number => DataType::Float64,
        }
    }
}

/// The columns of names, in natural order in every table.
const NAMES: [&str; 3] = ["hidden", "net", "pair"];

/// The rows of `frame` in the order of these columns, equal ones in their present order. Names are
/// in natural order.
pub(super) fn sorted(frame: &DataFrame, columns: &[&str]) -> Result<DataFrame> {
    let mut ranked = frame.clone();
    let mut by = Vec::new();
    for &column in columns {
        if !NAMES.contains(&column) {
            by.push(column.to_owned());
            continue;
        }
        let names = texts(frame, column)?;
        let mut distinct: Vec<&str> = names.iter().map(String::as_str).collect();
        distinct.sort_unstable_by(|a, b| natural(a, b));
        distinct.dedup();
        let ranks: HashMap<&str, u32> = distinct.into_iter().zip(0..).collect();
        let ranks: Vec<u32> = names.iter().map(|name| ranks[name.as_str()]).collect();
        by.push(format!("rank of {column}"));
        ranked.with_column(Column::new(by[by.len() - 1].as_str().into(), ranks))?;
    }
    let sorted = ranked.sort(by, SortMultipleOptions::default().with_maintain_order(true))?;
    Ok(sorted.select(frame.get_column_names_owned())?)
}

/// Reads the file of one net, which names the net by itself or by its pair and end, as [`NETS`].
pub(super) fn read_net_row(path: &Path) -> Result<DataFrame> {
    if !header(path)?.starts_with(&ENDS.key_names().join(",")) {
        return NETS.read(path);
    }
    let mut frame = ENDS.read(path)?;
    let ends = texts(&frame, "pair")?.into_iter().zip(texts(&frame, "end")?);
    let names: Vec<String> = ends.map(|(pair, end)| format!("{pair}{end}")).collect();
    frame.with_column(Column::new("net".into(), names))?;
    Ok(frame.select(NETS.names())?)
}

/// Whether the file at `path` is a table of nets with a shared start.
pub(super) fn has_shared_epochs(path: &Path) -> Result<bool> {
    Ok(header(path)?.trim_end().split(',').any(|column| column == SHARED_EPOCHS))
}

/// The first line of a file.
fn header(path: &Path) -> Result<String> {
    let mut header = String::new();
    BufReader::new(crate::fs::open(path)?)
        .read_line(&mut header)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(header)
}

/// A column of texts; a missing one is empty.
pub(super) fn texts(frame: &DataFrame, column: &str) -> Result<Vec<String>> {
    Ok(frame.column(column)?.str()?.iter().map(|x| x.unwrap_or_default().to_owned()).collect())
}

/// A column of numbers or whole numbers; a missing one is NaN.
pub(super) fn numbers(frame: &DataFrame, column: &str) -> Result<Vec<f64>> {
    let column = frame.column(column)?.cast(&DataType::Float64)?;
    Ok(column.f64()?.iter().map(|x| x.unwrap_or(f64::NAN)).collect())
}

/// A column of whole numbers, without missing ones.
pub(super) fn present_wholes(frame: &DataFrame, column: &str) -> Result<BTreeSet<i64>> {
    Ok(frame.column(column)?.i64()?.iter().flatten().collect())
}

/// A column of whole numbers.
pub(super) fn wholes(frame: &DataFrame, column: &str) -> Result<Vec<i64>> {
    Ok(frame.column(column)?.i64()?.iter().map(Option::unwrap_or_default).collect())
}

/// The cells of a column of any type, as text.
pub(super) fn cells(frame: &DataFrame, column: &str) -> Result<Vec<String>> {
    Ok(match frame.column(column)?.dtype() {
        DataType::String => texts(frame, column)?,
        DataType::Int64 => wholes(frame, column)?.iter().map(i64::to_string).collect(),
        _ => numbers(frame, column)?.iter().map(f64::to_string).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file of two rows, the second with `value` in `column`; every other cell is valid.
    fn file(table: &TableSchema, column: &str, value: &str) -> tempfile::NamedTempFile {
        let row = |value: &str| {
            let cells = table.columns().map(|(name, kind)| match kind {
                _ if name == column => value,
                Text | Name => "x",
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
    fn a_number_that_is_not_finite_is_an_error_in_every_table() {
        for table in TABLES {
            for (column, _) in table.columns().filter(|(_, kind)| matches!(kind, Number)) {
                for (written, shown) in [("NaN", "NaN"), ("inf", "inf"), ("-inf", "-inf")] {
                    let error = format!(
                        "{:#}",
                        table.read(file(table, column, written).path()).unwrap_err()
                    );
                    let start = format!("line 3: `{column}` of `");
                    assert!(error.contains(&start), "{} `{column}`: {error}", table.file);
                    assert!(
                        error.ends_with(&format!("is `{shown}`, not a finite number")),
                        "{error}"
                    );
                }
                assert!(
                    table.read(file(table, column, "").path()).is_ok(),
                    "a missing `{column}` is not an error"
                );
            }
        }
        let error =
            format!("{:#}", METRICS.read(file(&METRICS, "max_error", "NaN").path()).unwrap_err());
        assert!(
            error.contains("`max_error` of `hidden=x,prior=x,method=x,pair=x,split=x`"),
            "{error}"
        );
    }

    #[test]
    fn every_column_of_names_is_in_natural_order() {
        for table in TABLES {
            for (column, kind) in table.columns() {
                assert_eq!(NAMES.contains(&column), matches!(kind, Name), "{}", table.file);
            }
        }
        let hidden = ["512x256", "50+bias", "512", "10", "50", "10"];
        let pair = ["1:2", "1:2", "1:2", "10:1", "1:2", "9:1"];
        let frame = df!("hidden" => hidden, "prior" => ["none"; 6], "pair" => pair).unwrap();
        let found = sorted(&frame, &["prior", "hidden", "pair"]).unwrap();
        let expected = ["10", "10", "50", "50+bias", "512", "512x256"];
        assert_eq!(texts(&found, "hidden").unwrap(), expected);
        assert_eq!(texts(&found, "pair").unwrap()[..2], ["9:1", "10:1"]);
        assert_eq!(found.get_column_names(), frame.get_column_names());
    }

    #[test]
    fn a_net_is_named_by_its_pair_and_end_or_by_its_name() {
        let read = |keys: &str, cells: &str| {
            let rest = &NETS.names()[3..];
            let file = tempfile::NamedTempFile::new().unwrap();
            let text = format!("{keys},{}\n{cells}{}\n", rest.join(","), ",".repeat(rest.len()));
            crate::fs::write(file.path(), text).unwrap();
            let frame = read_net_row(file.path()).unwrap();
            assert_eq!(frame.get_column_names(), NETS.names());
            assert_eq!(present_wholes(&frame, "epochs").unwrap().len(), 0, "empty");
            [texts(&frame, "hidden").unwrap().remove(0), texts(&frame, "net").unwrap().remove(0)]
        };
        assert_eq!(read("hidden,prior,pair,end", "50,none,2,a"), ["50", "2a"]);
        assert_eq!(
            read("hidden,prior,net", "5x4+bias,none,\"runs/a,1\""),
            ["5x4+bias", "runs/a,1"]
        );
    }

    const TABLE: TableSchema = TableSchema {
        file: "t.csv",
        keys: &[("text", Text), ("whole", Whole)],
        attributes: &[],
        values: &[("number", Number)],
    };

    fn row() -> impl Strategy<Value = (String, i64, f64)> {
        let number = any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite());
        (
            "[^\0\r]{0,8}",
            any::<i64>(),
            prop_oneof![number, Just(-0.0), Just(2.0 / 13.0), Just(5e-324)],
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn reading_a_written_table_restores_every_cell(
            rows in prop::collection::vec(row(), 1..20),
        ) {
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
            let bits = |numbers: Vec<f64>| -> Vec<u64> {
                numbers.into_iter().map(f64::to_bits).collect()
            };
            prop_assert_eq!(bits(numbers(&back, "number").unwrap()), bits(number));
        }
    }
}
