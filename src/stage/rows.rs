//! The rows of the study's tables as typed values.
//!
//! Names of priors, methods, splits and metrics are parsed here, and only here.

use super::names::PairName;
use super::tables::{SHARED_EPOCHS, numbers, texts, wholes};
use crate::study::curve::Method;
use crate::study::data::Split;
use crate::study::net::{Hidden, Prior};
use crate::study::stats::{Average, Interval, NotFinite, Sample};
use anyhow::{Result, anyhow};
use polars::prelude::DataFrame;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// The curves between the nets with the same hidden layers and prior by one method: one for each
/// pair, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CurveGroup {
    pub(super) hidden: Hidden,
    pub(super) prior: Prior,
    pub(super) method: Method,
}

/// A metric of a whole curve that figures and conclusions use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Metric {
    /// The largest error on the curve, in %.
    MaxError,
    /// Its excess over the worse end, in points: how isolated the two ends are from each other.
    ExcessError,
    /// The mean error by arc length, in %. A mean over t would give half of the weight to the
    /// nearly constant second segment of WA.
    MeanErrorByLength,
    /// The barrier of the loss, in nats.
    LossBarrier,
    /// The barrier of the error, in points.
    ErrorBarrier,
}

impl Metric {
    pub(super) const ALL: [Metric; 5] = [
        Metric::MaxError,
        Metric::ExcessError,
        Metric::MeanErrorByLength,
        Metric::LossBarrier,
        Metric::ErrorBarrier,
    ];

    /// Its column in the table of metrics.
    pub(super) fn column(self) -> &'static str {
        match self {
            Metric::MaxError => "max_error",
            Metric::ExcessError => "excess_error",
            Metric::MeanErrorByLength => "mean_error_by_length",
            Metric::LossBarrier => "barrier_loss",
            Metric::ErrorBarrier => "barrier_error",
        }
    }

    /// Its name in the report.
    pub(super) fn title(self) -> &'static str {
        match self {
            Metric::MaxError => "largest error",
            Metric::ExcessError => "excess error",
            Metric::MeanErrorByLength => "mean error by arc length",
            Metric::LossBarrier => "barrier of the loss",
            Metric::ErrorBarrier => "barrier of the error",
        }
    }
}

/// A quantity along a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quantity {
    /// In %.
    Error,
    /// In nats.
    Loss,
    /// (E(t) - E_end) / (E_lin_max - E_end).
    NormalisedError,
}

impl Quantity {
    pub(super) const ALL: [Quantity; 3] =
        [Quantity::Error, Quantity::Loss, Quantity::NormalisedError];

    /// Its name in the table of curves.
    pub(super) fn name(self) -> &'static str {
        match self {
            Quantity::Error => "error",
            Quantity::Loss => "loss",
            Quantity::NormalisedError => "normalised",
        }
    }
}

impl FromStr for Quantity {
    type Err = String;

    fn from_str(name: &str) -> Result<Quantity, String> {
        let found = Quantity::ALL.into_iter().find(|quantity| quantity.name() == name);
        found.ok_or_else(|| format!("unknown quantity `{name}`"))
    }
}

/// A mean over pairs or nets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GroupMean {
    /// The number of nets.
    pub(super) nets: usize,
    /// The number of values: of pairs, or of nets in the table of endpoints.
    pub(super) count: usize,
    pub(super) average: Average,
    pub(super) mean: f64,
    /// The 95 % confidence interval; `None` if there are too few values.
    pub(super) interval: Option<Interval>,
    /// The smallest and the largest value.
    pub(super) range: (f64, f64),
}

/// A metric of a group of curves: the mean over pairs, and the 95 % prediction interval for a pair
/// of new nets.
pub(super) struct MetricSummary {
    pub(super) mean: GroupMean,
    pub(super) prediction: Option<Interval>,
}

/// Summaries on the test split.
pub(super) type Summaries = BTreeMap<(CurveGroup, Metric), MetricSummary>;

/// Metrics on the test split, by pair: the mean of its two directions, or the one that there is.
pub(super) type PairMetrics = BTreeMap<(CurveGroup, Metric), BTreeMap<PairName, f64>>;

/// Means of metrics on the test split over pairs with a shared start, by the number of epochs that
/// the two nets share.
pub(super) type SharedStarts = BTreeMap<(CurveGroup, Metric), BTreeMap<u32, GroupMean>>;

/// Nets that differ in one number alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NetFamily {
    pub(super) biases: bool,
    /// The width of every hidden layer, if it is their number that differs.
    pub(super) width: Option<usize>,
    /// The nets with their width, or with their number of hidden layers, ascending.
    pub(super) nets: Vec<(Hidden, usize)>,
}

impl NetFamily {
    /// The nets with one hidden layer, by width: those without biases, then those with them.
    pub(super) fn by_width(hiddens: impl IntoIterator<Item = Hidden>) -> Vec<NetFamily> {
        NetFamily::all(hiddens, |hidden| Some((None, hidden.widths.single()?)))
    }

    /// The nets whose hidden layers have equal widths, by depth, where there are several depths.
    pub(super) fn by_depth(hiddens: impl IntoIterator<Item = Hidden>) -> Vec<NetFamily> {
        let of = |hidden: Hidden| Some((Some(equal_width(hidden)?), hidden.widths.depth()));
        let mut families = NetFamily::all(hiddens, of);
        families.retain(|family| family.nets.len() > 1);
        families
    }

    /// `of` is the family of a net, beside its biases, and its number there.
    fn all(
        hiddens: impl IntoIterator<Item = Hidden>,
        of: impl Fn(Hidden) -> Option<(Option<usize>, usize)>,
    ) -> Vec<NetFamily> {
        let mut all: BTreeMap<(bool, Option<usize>), BTreeMap<usize, Hidden>> = BTreeMap::new();
        for hidden in hiddens {
            if let Some((width, number)) = of(hidden) {
                all.entry((hidden.biases, width)).or_default().insert(number, hidden);
            }
        }
        let family = |((biases, width), nets): ((bool, Option<usize>), BTreeMap<usize, Hidden>)| {
            let nets = nets.into_iter().map(|(number, hidden)| (hidden, number)).collect();
            NetFamily { biases, width, nets }
        };
        all.into_iter().map(family).collect()
    }

    /// The widths or depths.
    pub(super) fn numbers(&self) -> Vec<f64> {
        self.nets.iter().map(|(_, number)| *number as f64).collect()
    }

    /// The number of a net; `None` if it is not one of these.
    pub(super) fn number_of(&self, hidden: Hidden) -> Option<f64> {
        self.nets.iter().find(|(net, _)| *net == hidden).map(|(_, number)| *number as f64)
    }

    /// The nets with the smallest and with the largest number, if those differ.
    pub(super) fn ends(&self) -> Option<[Hidden; 2]> {
        match &self.nets[..] {
            [(first, _), .., (last, _)] => Some([*first, *last]),
            _ => None,
        }
    }
}

/// Whether there is one hidden layer, with or without biases.
pub(super) fn has_one_layer(hidden: &Hidden) -> bool {
    hidden.widths.depth() == 1
}

/// Whether there is one hidden layer, and there are no biases: such nets differ in width alone.
pub(super) fn is_plain(hidden: &Hidden) -> bool {
    has_one_layer(hidden) && !hidden.biases
}

/// The width of the hidden layers, if it is that of all.
pub(super) fn equal_width(hidden: Hidden) -> Option<usize> {
    let first = hidden.widths.get(0);
    hidden.widths.iter().all(|width| width == first).then_some(first)
}

/// The hidden layers of `groups`, in order.
pub(super) fn hiddens<'a>(groups: impl IntoIterator<Item = &'a CurveGroup>) -> BTreeSet<Hidden> {
    groups.into_iter().map(|group| group.hidden).collect()
}

/// The priors of `groups`, in their order.
pub(super) fn priors<'a>(groups: impl IntoIterator<Item = &'a CurveGroup>) -> BTreeSet<Prior> {
    groups.into_iter().map(|group| group.prior).collect()
}

/// Parses a column.
pub(super) fn parsed<T>(frame: &DataFrame, column: &str) -> Result<Vec<T>>
where
    T: FromStr<Err = String> + Clone,
{
    // A table has many rows, but few different names.
    let mut known: BTreeMap<&str, T> = BTreeMap::new();
    let names = texts(frame, column)?;
    let mut values = Vec::with_capacity(names.len());
    for (row, name) in names.iter().enumerate() {
        if !known.contains_key(name.as_str()) {
            let value = name.parse();
            known.insert(name, value.map_err(|e| anyhow!("line {}: `{column}`: {e}", row + 2))?);
        }
        values.push(known[name.as_str()].clone());
    }
    Ok(values)
}

/// The group of curves of each row.
pub(super) fn groups(frame: &DataFrame) -> Result<Vec<CurveGroup>> {
    let priors = parsed(frame, "prior")?;
    let methods = parsed(frame, "method")?;
    let rows = parsed(frame, "hidden")?.into_iter().zip(priors).zip(methods);
    Ok(rows.map(|((hidden, prior), method)| CurveGroup { hidden, prior, method }).collect())
}

/// The mean of each row of a table of means.
pub(super) fn means(frame: &DataFrame) -> Result<Vec<GroupMean>> {
    let nets = wholes(frame, "nets")?;
    let count = wholes(frame, if frame.column("pairs").is_ok() { "pairs" } else { "nets" })?;
    let average: Vec<Average> = parsed(frame, "average")?;
    let (mean, intervals) = (numbers(frame, "mean")?, intervals(frame, ["low", "high"])?);
    let (least, most) = (numbers(frame, "least")?, numbers(frame, "most")?);
    let row = |i: usize| GroupMean {
        nets: nets[i] as usize,
        count: count[i] as usize,
        average: average[i],
        mean: mean[i],
        interval: intervals[i],
        range: (least[i], most[i]),
    };
    Ok((0..frame.height()).map(row).collect())
}

/// The interval between two columns of each row; `None` where a cell is empty.
fn intervals(frame: &DataFrame, [low, high]: [&str; 2]) -> Result<Vec<Option<Interval>>> {
    let ends = numbers(frame, low)?.into_iter().zip(numbers(frame, high)?);
    Ok(ends
        .map(|(low, high)| (!low.is_nan() && !high.is_nan()).then_some(Interval { low, high }))
        .collect())
}

/// The rows of the table of summaries that are on the test split.
pub(super) fn summaries(frame: &DataFrame) -> Result<Summaries> {
    let (groups, splits) = (groups(frame)?, parsed::<Split>(frame, "split")?);
    let (names, means) = (texts(frame, "metric")?, means(frame)?);
    let predictions = intervals(frame, ["pair_low", "pair_high"])?;
    let mut summaries = Summaries::new();
    for (i, mean) in means.into_iter().enumerate().filter(|(i, _)| splits[*i] == Split::Test) {
        // Figures and conclusions do not use every metric.
        if let Some(metric) = Metric::ALL.into_iter().find(|metric| metric.column() == names[i]) {
            let summary = MetricSummary { mean, prediction: predictions[i] };
            summaries.insert((groups[i], metric), summary);
        }
    }
    Ok(summaries)
}

/// The rows of the table of shared starts that are on the test split.
pub(super) fn shared_starts(frame: &DataFrame) -> Result<SharedStarts> {
    let (groups, splits) = (groups(frame)?, parsed::<Split>(frame, "split")?);
    let (names, epochs) = (texts(frame, "metric")?, wholes(frame, SHARED_EPOCHS)?);
    let mut starts = SharedStarts::new();
    for (i, mean) in means(frame)?.into_iter().enumerate() {
        let metric = Metric::ALL.into_iter().find(|metric| metric.column() == names[i]);
        if let Some(metric) = metric.filter(|_| splits[i] == Split::Test) {
            let epochs = u32::try_from(epochs[i])?;
            starts.entry((groups[i], metric)).or_default().insert(epochs, mean);
        }
    }
    Ok(starts)
}

/// The table of metrics on the test split, without missing values.
pub(super) fn pair_metrics(frame: &DataFrame) -> Result<PairMetrics> {
    let columns = values_by_pair(frame, &Metric::ALL.map(Metric::column))?;
    let metrics = Metric::ALL.into_iter().zip(columns).flat_map(|(metric, of_groups)| {
        of_groups.into_iter().map(move |(group, of_pairs)| ((group, metric), of_pairs))
    });
    Ok(metrics.collect())
}

/// Columns of the table of metrics, as [`pair_metrics`].
pub(super) fn values_by_pair(
    frame: &DataFrame,
    columns: &[&str],
) -> Result<Vec<BTreeMap<CurveGroup, BTreeMap<PairName, f64>>>> {
    let (groups, splits) = (groups(frame)?, parsed::<Split>(frame, "split")?);
    let pairs: Vec<PairName> = parsed(frame, "pair")?;
    let by_pair = |column: &&str| {
        let mut directions: BTreeMap<(CurveGroup, PairName), Vec<f64>> = BTreeMap::new();
        let values = numbers(frame, column)?.into_iter().enumerate();
        for (i, value) in values.filter(|(i, x)| splits[*i] == Split::Test && !x.is_nan()) {
            directions.entry((groups[i], pairs[i].undirected())).or_default().push(value);
        }
        let mut by_pair: BTreeMap<CurveGroup, BTreeMap<PairName, f64>> = BTreeMap::new();
        for ((group, pair), values) in directions {
            by_pair.entry(group).or_default().insert(pair, mean_of_directions(&values));
        }
        Ok(by_pair)
    };
    columns.iter().map(by_pair).collect()
}

/// The value of a pair: the mean over its directions, or the value of the one that was measured.
pub(super) fn mean_of_directions(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, x| sum + x) / values.len() as f64
}

/// Values by pair as samples, with the nets numbered in the order of the pairs of all of them.
pub(super) fn samples(values: &[BTreeMap<PairName, f64>]) -> Result<Vec<Sample<usize>>, NotFinite> {
    let pairs: BTreeSet<&PairName> = values.iter().flat_map(BTreeMap::keys).collect();
    let mut nets: Vec<String> = Vec::new();
    for net in pairs.iter().flat_map(|pair| pair.nets()) {
        if !nets.contains(&net) {
            nets.push(net);
        }
    }
    let number = |net: String| nets.iter().position(|known| *known == net).unwrap_or_default();
    let sample = |values: &BTreeMap<PairName, f64>| {
        let nets = values.keys().map(|pair| pair.nets().map(number)).collect();
        Sample::of_pairs(values.values().copied().collect(), nets)
    };
    values.iter().map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::tables::{ENDPOINTS, METRICS};

    #[test]
    fn every_metric_is_a_column_of_the_table_of_metrics() {
        let columns = METRICS.value_names();
        assert!(Metric::ALL.iter().all(|metric| columns.contains(&metric.column())));
    }

    #[test]
    fn every_quantity_parses_back_from_its_name() {
        for quantity in Quantity::ALL {
            assert_eq!(quantity.name().parse(), Ok(quantity));
        }
        assert_eq!("norm".parse::<Quantity>(), Err("unknown quantity `norm`".to_owned()));
    }

    fn endpoints(rows: &str) -> DataFrame {
        let path = tempfile::NamedTempFile::new().unwrap();
        let names = ENDPOINTS.names().join(",");
        crate::fs::write(path.path(), format!("{names}\n{rows}\n")).unwrap();
        ENDPOINTS.read(path.path()).unwrap()
    }

    #[test]
    fn a_mean_is_read_with_its_kind_of_average_and_its_interval() {
        let means = |mean: &str| means(&endpoints(&format!("10,none,test_error,{mean}")));
        let read = means("4,geometric,3.0,2.0,5.0,1.0,9.0").unwrap().remove(0);
        let expected = GroupMean {
            nets: 4,
            count: 4,
            average: Average::Geometric,
            mean: 3.0,
            interval: Some(Interval { low: 2.0, high: 5.0 }),
            range: (1.0, 9.0),
        };
        assert_eq!(read, expected);
        assert_eq!(means("2,arithmetic,3.0,,,1.0,5.0").unwrap()[0].interval, None);
        assert!(means("2,median,3.0,,,1.0,5.0").is_err());
    }

    #[test]
    fn the_value_of_a_pair_is_the_mean_of_its_directions() {
        let row = |pair: &str, error: &str| {
            format!("5x5,none,linear+wa,{pair},test,{error},{}", ["1"; 11].join(","))
        };
        let rows = [row("2:1", "4"), row("1:2", "8"), row("3:1", "5"), row("2:3", "")];
        let path = tempfile::NamedTempFile::new().unwrap();
        let text = format!("{}\n{}\n", METRICS.names().join(","), rows.join("\n"));
        crate::fs::write(path.path(), text).unwrap();
        let metrics = pair_metrics(&METRICS.read(path.path()).unwrap()).unwrap();
        let ((group, _), pairs) = metrics.first_key_value().unwrap();
        assert_eq!(group.hidden.to_string(), "5x5");
        let pairs: Vec<_> = pairs.iter().map(|(pair, x)| (pair.to_string(), *x)).collect();
        assert_eq!(pairs, [("1:2".to_owned(), 6.0), ("1:3".to_owned(), 5.0)]);
    }

    #[test]
    fn an_unknown_name_is_an_error_with_its_line() {
        let frame = endpoints(
            "10,none,test_error,1,arithmetic,3,,,3,3\n10,flat,test_error,1,arithmetic,3,,,3,3",
        );
        let error = parsed::<Prior>(&frame, "prior").unwrap_err().to_string();
        assert!(error.starts_with("line 3: `prior`: unknown prior `flat`"), "{error}");
    }
}
