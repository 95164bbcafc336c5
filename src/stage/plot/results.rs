//! The results of a run that figures show, read from the tables of `aggregate`.

use super::planes::PlaneResult;
use crate::engine::stage::Input;
use crate::stage::ensemble::results::{Ensembles, read_table};
use crate::stage::rows::{
    CurveGroup, GroupMean, Metric, Quantity, groups, means, pair_metrics, parsed,
};
use crate::stage::rows::{
    PairMetrics, SharedStarts, Summaries, hiddens, is_plain, priors, shared_starts, summaries,
};
use crate::stage::tables::{CURVES, HISTORIES, METRICS, SHARED_START, SUMMARY, numbers, wholes};
use crate::stage::talk::{self, Published};
use crate::study::curve::Method;
use crate::study::data::Split;
use crate::study::net::{Hidden, Prior};
use anyhow::Result;
use polars::prelude::DataFrame;
use std::collections::BTreeMap;

/// One epoch of the training of a net; NaN without a validation split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epoch {
    pub(super) epoch: i64,
    pub(super) train_error: f64,
    pub(super) validation_error: f64,
}

/// Means along curves: (t, mean), ascending in t.
pub(super) type MeansAlong = BTreeMap<(CurveGroup, Split, Quantity), Vec<(f64, GroupMean)>>;

/// The results of a run.
#[derive(Default)]
pub(super) struct Results {
    /// Empty if the data are not MNIST.
    pub(super) published: Vec<Published>,
    pub(super) along: MeansAlong,
    /// Means of metrics on the test split.
    pub(super) summaries: Summaries,
    /// Metrics on the test split, by pair.
    pub(super) pairs: PairMetrics,
    /// Every epoch of every net, by hidden layers and prior. Imported nets have none.
    pub(super) training: BTreeMap<(Hidden, Prior), Vec<Epoch>>,
    pub(super) ensembles: Ensembles,
    /// Of other nets: those with a shared start.
    pub(super) shared: SharedStarts,
    /// By hidden layers, prior and pair.
    pub(super) planes: Vec<PlaneResult>,
}

impl Results {
    /// The files that [`Results::read`] reads.
    pub(super) const FILES: &[&str] = &[CURVES.file, SUMMARY.file, METRICS.file, HISTORIES.file];

    /// `ensembles` are the artifacts of the stage `ensemble`, if there are any, and `shared` the
    /// means of nets with a shared start.
    pub(super) fn read(
        tables: &Input,
        ensembles: &[Input],
        shared: Option<&Input>,
        is_mnist: bool,
    ) -> Result<Results> {
        let read = |table: &crate::stage::tables::TableSchema| table.read(tables.path(table.file)?);
        let ensembles = read_table(ensembles)?.as_ref().map(Ensembles::of_table).transpose()?;
        let shared = match shared {
            Some(input) => shared_starts(&SHARED_START.read(input.path(SHARED_START.file)?)?)?,
            None => SharedStarts::new(),
        };
        Ok(Results {
            published: talk::published(is_mnist),
            along: along(&read(&CURVES)?)?,
            summaries: summaries(&read(&SUMMARY)?)?,
            pairs: pair_metrics(&read(&METRICS)?)?,
            training: training(&read(&HISTORIES)?)?,
            ensembles: ensembles.unwrap_or_default(),
            shared,
            planes: Vec::new(),
        })
    }

    fn groups(&self) -> impl Iterator<Item = &CurveGroup> {
        self.pairs.keys().map(|(group, _)| group)
    }

    /// The hidden layers of the nets, in order.
    pub(super) fn hiddens(&self) -> Vec<Hidden> {
        hiddens(self.groups()).into_iter().collect()
    }

    /// Whether there is a net with several hidden layers or with biases.
    pub(super) fn has_general_nets(&self) -> bool {
        !self.hiddens().iter().all(is_plain)
    }

    pub(super) fn priors(&self) -> Vec<Prior> {
        priors(self.groups()).into_iter().collect()
    }

    pub(super) fn methods(&self) -> Vec<Method> {
        talk::in_order(self.groups().map(|group| group.method))
    }

    /// The nets whose width is nearest to `wanted` on a log scale, of those with the fewest hidden
    /// layers; `None` if there are no nets. The width of several layers is their geometric mean.
    pub(super) fn nearest_width(&self, wanted: usize) -> Option<Hidden> {
        let distance = |hidden: &Hidden| {
            let logs = hidden.widths.iter().map(|width| libm::log(width as f64));
            let mean = logs.fold(0.0, |sum, x| sum + x) / hidden.widths.depth() as f64;
            libm::fabs(mean - libm::log(wanted as f64))
        };
        self.hiddens().into_iter().min_by(|a, b| {
            let depths = a.widths.depth().cmp(&b.widths.depth());
            depths.then(distance(a).total_cmp(&distance(b)))
        })
    }

    /// The methods of `wanted` that the run has; if it has none, as many of its others.
    pub(super) fn methods_of(&self, wanted: &[Method]) -> Vec<Method> {
        let (found, others): (Vec<_>, Vec<_>) =
            self.methods().into_iter().partition(|method| wanted.contains(method));
        if found.is_empty() { others.into_iter().take(wanted.len()).collect() } else { found }
    }

    /// The largest mean along a group's curves.
    pub(super) fn peak(&self, group: CurveGroup, split: Split, quantity: Quantity) -> Option<f64> {
        let points = self.along.get(&(group, split, quantity))?;
        points.iter().map(|(_, mean)| mean.mean).reduce(f64::max)
    }

    /// The values of a metric, one for each pair.
    pub(super) fn values(&self, group: CurveGroup, metric: Metric) -> impl Iterator<Item = f64> {
        self.pairs.get(&(group, metric)).into_iter().flat_map(|pairs| pairs.values().copied())
    }
}

fn along(frame: &DataFrame) -> Result<MeansAlong> {
    let (splits, quantities) = (parsed(frame, "split")?, parsed(frame, "quantity")?);
    let keys = groups(frame)?.into_iter().zip(splits).zip(quantities);
    let points = numbers(frame, "t")?.into_iter().zip(means(frame)?);
    let mut along = MeansAlong::new();
    for (((group, split), quantity), point) in keys.zip(points) {
        along.entry((group, split, quantity)).or_default().push(point);
    }
    Ok(along)
}

fn training(frame: &DataFrame) -> Result<BTreeMap<(Hidden, Prior), Vec<Epoch>>> {
    let nets = parsed(frame, "hidden")?.into_iter().zip(parsed(frame, "prior")?);
    let errors =
        numbers(frame, "train_error")?.into_iter().zip(numbers(frame, "validation_error")?);
    let mut training = BTreeMap::new();
    for ((net, epoch), (train_error, validation_error)) in
        nets.zip(wholes(frame, "epoch")?).zip(errors)
    {
        let epoch = Epoch { epoch, train_error, validation_error };
        training.entry(net).or_insert_with(Vec::new).push(epoch);
    }
    Ok(training)
}
