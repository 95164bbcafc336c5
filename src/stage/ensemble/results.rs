//! The ensembles of a run on the test split, as typed values, for figures and the report.

use crate::engine::stage::Input;
use crate::stage::aggregate::check_directions;
use crate::stage::names::PairName;
use crate::stage::rows::{CurveGroup, GroupMean, groups, mean_of_directions, parsed, samples};
use crate::stage::tables::{ENSEMBLES, numbers, wholes};
use crate::stage::talk;
use crate::study::curve::Method;
use crate::study::curve::ensemble::EnsembleKind;
use crate::study::data::Split;
use crate::study::net::{Hidden, Prior};
use crate::study::stats::{Average, NotFinite};
use anyhow::Result;
use polars::prelude::{DataFrame, UniqueKeepStrategy};
use std::collections::{BTreeMap, BTreeSet};

/// A measured quantity of an ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::stage) enum EnsembleMetric {
    /// In %.
    Error,
    /// In nats.
    Loss,
    /// In points.
    Calibration,
}

impl EnsembleMetric {
    pub(in crate::stage) const ALL: [EnsembleMetric; 3] =
        [EnsembleMetric::Error, EnsembleMetric::Loss, EnsembleMetric::Calibration];

    /// Its column in the table of ensembles.
    fn column(self) -> &'static str {
        match self {
            EnsembleMetric::Error => "error",
            EnsembleMetric::Loss => "loss",
            EnsembleMetric::Calibration => "ece",
        }
    }

    /// Its name in the report.
    pub(in crate::stage) fn title(self) -> &'static str {
        match self {
            EnsembleMetric::Error => "error",
            EnsembleMetric::Loss => "cross-entropy",
            EnsembleMetric::Calibration => "ECE",
        }
    }

    /// Its name with its unit.
    pub(in crate::stage) fn with_unit(self) -> &'static str {
        match self {
            EnsembleMetric::Error => "test error, %",
            EnsembleMetric::Loss => "test cross-entropy, nats",
            EnsembleMetric::Calibration => "ECE on test images, points",
        }
    }
}

/// An ensemble of two nets, whatever their width and prior.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::stage) struct Ensemble {
    pub(in crate::stage) kind: EnsembleKind,
    /// The number of nets at inference.
    pub(in crate::stage) members: u32,
    /// `None` for the nets at the ends, which all methods share.
    pub(in crate::stage) method: Option<Method>,
}

impl Ensemble {
    /// Its name in figures and tables, the title of the method first.
    pub(in crate::stage) fn title(self) -> String {
        let method = self.method.map_or(String::new(), Method::title);
        match self.kind {
            EnsembleKind::Single => "single net".to_owned(),
            EnsembleKind::Independent => "two nets".to_owned(),
            EnsembleKind::Curve => format!("{method}, {} nets on the curve", self.members),
            EnsembleKind::Soup => format!("{method}, midpoint"),
        }
    }
}

/// A metric by pair: the mean of its two directions, or the one that there is.
pub(in crate::stage) type ByPair = BTreeMap<PairName, f64>;

/// The ensembles of a run.
#[derive(Clone, Debug, Default)]
pub(in crate::stage) struct Ensembles {
    values: BTreeMap<(Ensemble, Hidden, Prior), BTreeMap<EnsembleMetric, ByPair>>,
}

/// The table of all ensembles in a slot; `None` if it is empty.
///
/// Nodes that differ in the number of members alone have the same rows for the other kinds.
pub(in crate::stage) fn read_table(inputs: &[Input]) -> Result<Option<DataFrame>> {
    let mut all: Option<DataFrame> = None;
    for input in inputs {
        let frame = ENSEMBLES.read(input.path(ENSEMBLES.file)?)?;
        all = Some(match all {
            Some(all) => all.vstack(&frame)?,
            None => frame,
        });
    }
    let distinct = |mut frame: DataFrame| -> Result<DataFrame> {
        frame.rechunk_mut();
        let frame = frame.unique_stable(None, UniqueKeepStrategy::First, None)?;
        check_directions(&frame)?;
        ENSEMBLES.sorted(&frame)
    };
    all.map(distinct).transpose()
}

impl Ensembles {
    /// The rows of the table of ensembles that are on the test split.
    ///
    /// The quality of the nets at the ends is taken from the first method that has a pair: those of
    /// the others differ by the rounding of permuted sums alone.
    pub(in crate::stage) fn of_table(frame: &DataFrame) -> Result<Ensembles> {
        let (groups, splits) = (groups(frame)?, parsed::<Split>(frame, "split")?);
        let (pairs, kinds) = (parsed::<PairName>(frame, "pair")?, parsed(frame, "kind")?);
        let members = wholes(frame, "members")?;
        let mut ensembles = Ensembles::default();
        for metric in EnsembleMetric::ALL {
            let values = numbers(frame, metric.column())?;
            let mut directions = BTreeMap::new();
            for i in (0..values.len()).filter(|&i| splits[i] == Split::Test) {
                let key = (groups[i], kinds[i], members[i] as u32, pairs[i].undirected());
                directions.entry(key).or_insert_with(Vec::new).push(values[i]);
            }
            for ((group, kind, members, pair), values) in directions {
                let CurveGroup { hidden, prior, method } = group;
                let method = match kind {
                    EnsembleKind::Single | EnsembleKind::Independent => None,
                    EnsembleKind::Curve | EnsembleKind::Soup => Some(method),
                };
                let key = (Ensemble { kind, members, method }, hidden, prior);
                let by_pair = ensembles.values.entry(key).or_default().entry(metric).or_default();
                by_pair.entry(pair).or_insert_with(|| mean_of_directions(&values));
            }
        }
        Ok(ensembles)
    }

    pub(in crate::stage) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Every ensemble: those of the ends, then by method in the talk's order.
    pub(in crate::stage) fn all(&self) -> Vec<Ensemble> {
        let all: BTreeSet<Ensemble> = self.values.keys().map(|(ensemble, ..)| *ensemble).collect();
        let methods: Vec<Option<Method>> =
            [None].into_iter().chain(self.methods().into_iter().map(Some)).collect();
        let of = |method: &Option<Method>| {
            all.iter().filter(|ensemble| ensemble.method == *method).copied().collect::<Vec<_>>()
        };
        methods.iter().flat_map(of).collect()
    }

    /// The methods of the curves, the talk's first.
    pub(in crate::stage) fn methods(&self) -> Vec<Method> {
        talk::in_order(self.values.keys().filter_map(|(ensemble, ..)| ensemble.method))
    }

    pub(in crate::stage) fn hiddens(&self) -> BTreeSet<Hidden> {
        self.values.keys().map(|(_, hidden, _)| *hidden).collect()
    }

    pub(in crate::stage) fn priors(&self) -> BTreeSet<Prior> {
        self.values.keys().map(|(.., prior)| *prior).collect()
    }

    /// A metric by pair; `None` if the run does not have the ensemble.
    pub(in crate::stage) fn by_pair(
        &self,
        (ensemble, hidden, prior): (Ensemble, Hidden, Prior),
        metric: EnsembleMetric,
    ) -> Option<&ByPair> {
        self.values.get(&(ensemble, hidden, prior))?.get(&metric)
    }
}

/// The mean over pairs with its interval; `None` without pairs.
pub(in crate::stage) fn mean_over_pairs(values: &ByPair) -> Result<Option<GroupMean>, NotFinite> {
    let sample = samples(std::slice::from_ref(values))?.remove(0);
    let Some(summary) = sample.summary(Average::of(sample.values())) else { return Ok(None) };
    Ok(Some(GroupMean {
        nets: sample.count_nets(),
        count: sample.len(),
        average: summary.average,
        mean: summary.mean,
        interval: summary.interval,
        range: (summary.least, summary.most),
    }))
}

#[cfg(test)]
pub(in crate::stage) mod tests {
    use super::*;

    /// Hidden layers, prior, method, pair, kind, members, and the value of every metric.
    pub(in crate::stage) type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, u32, f64);

    /// The ensembles of these rows on the test split.
    pub(in crate::stage) fn ensembles(rows: &[Row]) -> Ensembles {
        Ensembles::of_table(&table(&[rows]).unwrap().unwrap()).unwrap()
    }

    /// The table of these files.
    fn table(files: &[&[Row]]) -> Result<Option<DataFrame>> {
        let folder = tempfile::tempdir()?;
        let mut inputs = Vec::new();
        for (i, rows) in files.iter().enumerate() {
            let row = |&(hidden, prior, method, pair, kind, members, x): &Row| {
                format!("{hidden},{prior},{method},{pair},{kind},{members},test,2,{x},{x},{x}\n")
            };
            let rows: String = rows.iter().map(row).collect();
            let path = folder.path().join(i.to_string());
            crate::fs::write(&path, format!("{}\n{rows}", ENSEMBLES.names().join(",")))?;
            let paths = [(ENSEMBLES.file.to_owned(), path)].into();
            inputs.push(Input::new(Default::default(), paths));
        }
        read_table(&inputs)
    }

    #[test]
    fn an_empty_slot_has_no_table() {
        assert!(table(&[]).unwrap().is_none());
        assert!(Ensembles::default().is_empty());
    }

    #[test]
    fn nodes_with_other_members_repeat_the_other_kinds_and_may_not_contradict_them() {
        let three = ("10", "none", "linear", "1:2", "curve", 3, 4.0);
        let five = ("10", "none", "linear", "1:2", "curve", 5, 3.0);
        let single = ("10", "none", "linear", "1:2", "single", 1, 5.0);
        let all = table(&[&[three, single], &[five, single]]).unwrap().unwrap();
        assert_eq!(all.height(), 3);
        let other = ("10", "none", "linear", "1:2", "single", 1, 5.5);
        let error = table(&[&[three, single], &[five, other]]).unwrap_err().to_string();
        assert!(error.contains("two rows of `ensembles.csv` have the same key"), "{error}");
    }

    #[test]
    fn the_ends_belong_to_no_method_and_directions_are_averaged() {
        let found = ensembles(&[
            ("10", "none", "linear", "1:2", "single", 1, 5.0),
            ("10", "none", "linear+ot", "1:2", "single", 1, 7.0),
            ("10", "none", "linear+ot", "1:3", "single", 1, 6.0),
            ("10", "none", "arc+wa", "1:2", "curve", 5, 2.0),
            ("10", "none", "arc+wa", "2:1", "curve", 5, 4.0),
            ("10", "none", "linear", "1:2", "soup", 1, 9.0),
        ]);
        let titles: Vec<String> = found.all().into_iter().map(Ensemble::title).collect();
        assert_eq!(titles, ["single net", "Linear, midpoint", "Arc + WA, 5 nets on the curve"]);
        let (hidden, prior) = ("10".parse().unwrap(), Prior::None);
        let values = |ensemble: usize| -> Vec<(String, f64)> {
            let key = (found.all()[ensemble], hidden, prior);
            let by_pair = found.by_pair(key, EnsembleMetric::Loss).unwrap();
            by_pair.iter().map(|(pair, x)| (pair.to_string(), *x)).collect()
        };
        assert_eq!(values(0), [("1:2".to_owned(), 5.0), ("1:3".to_owned(), 6.0)]);
        assert_eq!(values(2), [("1:2".to_owned(), 3.0)]);
    }

    #[test]
    fn a_mean_over_pairs_that_share_nets_has_an_interval_over_nets() {
        let pairs = ["1:2", "1:3", "1:4", "2:3", "2:4", "3:4"];
        let values = pairs.iter().zip([5.0, 7.0, 6.0, 4.0, 8.0, 9.0]);
        let values: ByPair = values.map(|(pair, x)| (pair.parse().unwrap(), x)).collect();
        let mean = mean_over_pairs(&values).unwrap().unwrap();
        assert_eq!((mean.nets, mean.count, mean.mean), (4, 6, 6.5));
        let interval = mean.interval.unwrap();
        assert!((interval.low - 2.290_019_257_701_484).abs() < 1e-9, "{interval:?}");
        assert_eq!(mean_over_pairs(&ByPair::new()).unwrap(), None);
    }
}
