//! Contrasts: the ratio of a metric after a change to the metric before it.
//!
//! The logarithm of the ratio is averaged within a pair over everything that shares its init and
//! shuffles, then over pairs, then over widths. Nets are the sample: pairs that share a net are not
//! independent, and `study::stats` leaves out one net after another with all its pairs.

use crate::report::document::{Cell, Column};
use crate::report::table::Align;
use crate::stage::names::PairName;
use crate::stage::rows::{CurveGroup, Metric, PairMetrics, samples};
use crate::study::curve::Method;
use crate::study::net::{Hidden, Prior, Widths};
use crate::study::stats::{
    Estimate, FEWEST, FEWEST_NETS, Interval, NotFinite, Sample, noise_of_difference,
};
use std::collections::{BTreeMap, BTreeSet};

/// The prior and the method of a curve, for all widths.
pub(super) type PriorMethod = (Prior, Method);

/// A metric of one curve, and the test error whose noise it contains; both in points.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Level {
    metric: f64,
    error: f64,
}

/// The change whose effect is tested.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are a few dozen, which are copied freely")]
pub(super) enum Change {
    /// From one method to another.
    Method([Method; 2]),
    /// From one width to another, with one method.
    Width(Method, [Hidden; 2]),
    /// From one number of hidden layers of equal width to another, with one method.
    Depth(Method, [Hidden; 2]),
    /// From one prior to another.
    Prior([Prior; 2]),
}

impl Change {
    /// The method before a change from one method to another.
    pub(super) fn method_before(self) -> Option<Method> {
        match self {
            Change::Method([before, _]) => Some(before),
            Change::Width(..) | Change::Depth(..) | Change::Prior(_) => None,
        }
    }

    /// `Linear + OT vs. Linear`: the state after the change, then the state before it.
    fn title(self) -> String {
        match self {
            Change::Method([from, to]) => format!("{} vs. {}", to.title(), from.title()),
            Change::Width(method, [from, to]) | Change::Depth(method, [from, to]) => {
                format!("{}, h = {to} vs. h = {from}", method.title())
            }
            Change::Prior([from, to]) => format!("{to} vs. {from}"),
        }
    }
}

/// The result of a contrast.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) change: Change,
    pub(super) metric: Metric,
    /// The ratio over all pairs, without regard to their number; `None` if none can be compared.
    pub(super) observed: Option<f64>,
    /// The ratio with its 95 % interval; `None` if there are too few pairs.
    pub(super) ratio: Option<(f64, Interval)>,
    /// The adjusted p value; `None` if the contrast is not tested.
    pub(super) p: Option<f64>,
    pub(super) effect: Effect,
    /// What is excluded, and whether the difference is within the noise; may be empty.
    pub(super) note: String,
}

/// A metric after a change relative to the metric before it.
pub(super) struct Contrast {
    change: Change,
    metric: Metric,
    /// The logarithm of the ratio over all pairs.
    observed: Option<f64>,
    /// The logarithm of the ratio; `None` if there are too few pairs.
    pub(super) log_ratio: Option<Estimate>,
    /// Before and after, averaged over pairs; one for each width in the ratio.
    levels: Vec<[Level; 2]>,
    /// The numbers of pairs and nets of each width that has too few.
    too_few: BTreeMap<Hidden, Design>,
    /// Curves that are excluded.
    excluded: Vec<Excluded>,
    /// The number of combinations that have both curves, and that of all: of width with prior or
    /// method within pairs, of priors between nets.
    combinations: [usize; 2],
}

/// A curve that is excluded from a contrast.
#[derive(Clone, Debug, PartialEq)]
enum Excluded {
    NotInRun(String),
    /// With pairs of 0 or less.
    NotPositive(String),
}

/// The largest number of curves that are not in the run that a note names; of more it has the
/// number.
const NAMED: usize = 4;

/// The effect of a contrast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Effect {
    Lower,
    Higher,
    Inconclusive,
}

impl Effect {
    pub(super) fn name(self) -> &'static str {
        match self {
            Effect::Lower => "lower",
            Effect::Higher => "higher",
            Effect::Inconclusive => "inconclusive",
        }
    }
}

/// The significance level of a family of contrasts.
pub(super) const SIGNIFICANCE: f64 = 0.05;

/// A metric of a curve by pair; empty if the run does not have the curve.
fn levels(
    pairs: &PairMetrics,
    hidden: Hidden,
    (prior, method): PriorMethod,
    metric: Metric,
) -> BTreeMap<PairName, Level> {
    let group = CurveGroup { hidden, prior, method };
    let error = if metric == Metric::ExcessError { Metric::MaxError } else { metric };
    let (Some(metrics), Some(errors)) = (pairs.get(&(group, metric)), pairs.get(&(group, error)))
    else {
        return BTreeMap::new();
    };
    let level = |(pair, metric): (&PairName, &f64)| {
        Some((pair.clone(), Level { metric: *metric, error: *errors.get(pair)? }))
    };
    metrics.iter().filter_map(level).collect()
}

/// Logarithms by pair.
type Logs = BTreeMap<PairName, f64>;

/// The pairs that numbers were measured on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Design {
    pairs: usize,
    nets: usize,
}

impl Design {
    fn of(logs: &[Logs]) -> Design {
        let pairs: BTreeSet<&PairName> = logs.iter().flat_map(BTreeMap::keys).collect();
        let nets: BTreeSet<String> = pairs.iter().flat_map(|pair| pair.nets()).collect();
        Design { pairs: pairs.len(), nets: nets.len() }
    }

    /// Whether no two pairs share a net.
    fn is_disjoint(self) -> bool {
        self.nets == 2 * self.pairs
    }

    /// `2 pairs, at least 3 are required`.
    fn too_few(self) -> String {
        let Design { pairs, nets } = self;
        let s = if pairs == 1 { "" } else { "s" };
        if self.is_disjoint() {
            format!("{pairs} pair{s}, at least {FEWEST} are required")
        } else if nets < FEWEST_NETS {
            format!("{pairs} pair{s} of {nets} nets, at least {FEWEST_NETS} nets are required")
        } else {
            format!("{pairs} pair{s} of {nets} nets, all of which share a net")
        }
    }
}

/// The least numbers of pairs or nets for a contrast.
pub(super) fn required() -> String {
    format!("at least {FEWEST} pairs of one width that share no net, or {FEWEST_NETS} nets")
}

impl Contrast {
    fn new(change: Change, metric: Metric) -> Contrast {
        Contrast {
            change,
            metric,
            observed: None,
            log_ratio: None,
            levels: Vec::new(),
            too_few: BTreeMap::new(),
            excluded: Vec::new(),
            combinations: [0, 0],
        }
    }

    /// The contrast of `changes` (before, after) that keep init and shuffles: ratios within a pair,
    /// averaged over the changes. Nets of different widths are independent, and have equal weights;
    /// nets that differ in their biases alone share the init of their weights, and are averaged
    /// like changes.
    pub(super) fn within_pairs(
        pairs: &PairMetrics,
        hiddens: impl IntoIterator<Item = Hidden>,
        (change, metric): (Change, Metric),
        changes: &[[PriorMethod; 2]],
    ) -> Result<Contrast, NotFinite> {
        let mut contrast = Contrast::new(change, metric);
        let (mut observed, mut ratios) = (Vec::new(), Vec::new());
        let mut by_widths: BTreeMap<Widths, Vec<Hidden>> = BTreeMap::new();
        for hidden in hiddens {
            by_widths.entry(hidden.widths).or_default().push(hidden);
        }
        for hiddens in by_widths.values() {
            let (mut logs, mut both) = (Vec::new(), Vec::new());
            for (hidden, change) in
                hiddens.iter().flat_map(|hidden| changes.iter().map(move |c| (*hidden, c)))
            {
                let [before, after] = change.map(|curve| levels(pairs, hidden, curve, metric));
                for (curve, levels) in change.iter().zip([&before, &after]) {
                    contrast.note_excluded(hidden, *curve, levels);
                }
                contrast.count([&before, &after].iter().all(|levels| !levels.is_empty()));
                let (mut logs_of_change, mut both_of_change) = (Logs::new(), Vec::new());
                for (pair, x) in &before {
                    let Some(y) = after.get(pair).filter(|y| x.metric > 0.0 && y.metric > 0.0)
                    else {
                        continue;
                    };
                    logs_of_change.insert(pair.clone(), libm::log(y.metric / x.metric));
                    both_of_change.push([*x, *y]);
                }
                logs.push(logs_of_change);
                both.push(both_of_change);
            }
            let (mean, ratio) = contrast.estimate(hiddens[0], &logs)?;
            observed.extend(mean);
            if let Some(ratio) = ratio {
                ratios.push(ratio);
                // In the same way as the ratios, see `Sample::pooled`.
                let side = |side: usize| match Design::of(&logs).is_disjoint() {
                    true => Level::mean(both.iter().flatten().map(|levels| levels[side])),
                    false => {
                        let present = both.iter().filter(|levels| !levels.is_empty());
                        Level::mean(
                            present.map(|l| Level::mean(l.iter().map(|levels| levels[side]))),
                        )
                    }
                };
                contrast.levels.push([side(0), side(1)]);
            }
        }
        contrast.observed = Sample::of_nets(observed)?.mean();
        contrast.log_ratio = Estimate::pool(&ratios);
        Ok(contrast)
    }

    /// The contrast of a metric of the second of two kinds of nets, of other widths or depth, to
    /// that of the first, with one method. They share no nets: Welch's test on logarithms, averaged
    /// over priors within a pair. A prior with a metric of 0 or less is excluded from both sides.
    pub(super) fn between_nets(
        pairs: &PairMetrics,
        priors: impl IntoIterator<Item = Prior>,
        change: Change,
        metric: Metric,
    ) -> Result<Contrast, NotFinite> {
        let mut contrast = Contrast::new(change, metric);
        let (Change::Width(method, hiddens) | Change::Depth(method, hiddens)) = change else {
            return Ok(contrast);
        };
        let mut sides = Vec::new();
        for curve in priors.into_iter().map(|prior| (prior, method)) {
            let levels = hiddens.map(|hidden| levels(pairs, hidden, curve, metric));
            for (hidden, levels) in hiddens.iter().zip(&levels) {
                contrast.note_excluded(*hidden, curve, levels);
            }
            contrast.count(levels.iter().all(|levels| !levels.is_empty()));
            let positive = |levels: &BTreeMap<PairName, Level>| {
                levels.values().all(|level| level.metric > 0.0)
            };
            if levels.iter().all(|levels| !levels.is_empty() && positive(levels)) {
                sides.push(levels);
            }
        }
        let mut estimates = Vec::new();
        for (side, hidden) in hiddens.into_iter().enumerate() {
            let in_all = |pair: &PairName| sides.iter().all(|l| l[side].contains_key(pair));
            let logs = |levels: &[BTreeMap<PairName, Level>; 2]| -> Logs {
                let levels = levels[side].iter().filter(|(pair, _)| in_all(pair));
                levels.map(|(pair, level)| (pair.clone(), libm::log(level.metric))).collect()
            };
            let logs: Vec<Logs> = sides.iter().map(logs).collect();
            estimates.push(contrast.estimate(hidden, &logs)?);
        }
        if let [(Some(before), _), (Some(after), _)] = estimates[..] {
            contrast.observed = Some(after - before);
        }
        if let [(_, Some(before)), (_, Some(after))] = estimates[..] {
            contrast.log_ratio = Estimate::combine(&[(1.0, after), (-1.0, before)]);
            let level = |side: usize| {
                Level::mean(sides.iter().flat_map(|levels| levels[side].values().copied()))
            };
            contrast.levels.push([level(0), level(1)]);
        }
        Ok(contrast)
    }

    /// Notes a curve that the run does not have, and pairs whose metric has no logarithm.
    fn note_excluded(
        &mut self,
        hidden: Hidden,
        (prior, method): PriorMethod,
        levels: &BTreeMap<PairName, Level>,
    ) {
        let curve = format!("{}, {prior}, h = {hidden}", method.title());
        let not_positive: Vec<String> = levels
            .iter()
            .filter(|(_, level)| level.metric <= 0.0)
            .map(|(pair, _)| pair.to_string())
            .collect();
        if levels.is_empty() {
            self.excluded.push(Excluded::NotInRun(format!("{curve} (not in the run)")));
        } else if !not_positive.is_empty() {
            let pairs = not_positive.join(" and ");
            self.excluded.push(Excluded::NotPositive(format!("{curve}, pair {pairs} (0 or less)")));
        }
    }

    /// Counts a combination.
    fn count(&mut self, is_complete: bool) {
        let [complete, all] = self.combinations;
        self.combinations = [complete + usize::from(is_complete), all + 1];
    }

    /// The excluded curves, with the reason. A grid with many gaps has a number instead of a list
    /// of them.
    fn excluded(&self) -> Vec<String> {
        let is_missing = |curve: &&Excluded| matches!(curve, Excluded::NotInRun(_));
        let is_short = self.excluded.iter().filter(is_missing).count() <= NAMED;
        let name = |curve: &Excluded| match curve {
            Excluded::NotInRun(name) => is_short.then(|| name.clone()),
            Excluded::NotPositive(name) => Some(name.clone()),
        };
        let [complete, all] = self.combinations;
        let gaps = (!is_short).then(|| {
            let axes = match self.change {
                Change::Method(_) => "combinations of width and prior",
                Change::Prior(_) => "combinations of width and method",
                Change::Width(..) | Change::Depth(..) => "priors",
            };
            format!("{} of {all} {axes} (not in the run)", all - complete)
        });
        gaps.into_iter().chain(self.excluded.iter().filter_map(name)).collect()
    }

    /// The mean over the pairs of one width, alone and with its error. There is no error, but a
    /// note, if there are too few pairs or nets.
    fn estimate(
        &mut self,
        hidden: Hidden,
        logs: &[Logs],
    ) -> Result<(Option<f64>, Option<Estimate>), NotFinite> {
        let (mean, estimate) = Sample::pooled(&samples(logs)?);
        if estimate.is_none() {
            self.too_few.insert(hidden, Design::of(logs));
        }
        Ok((mean, estimate))
    }

    /// Before minus after in points, and two standard errors of a difference between two errors
    /// measured independently on `images` test images.
    fn drop_and_noise(&self, images: usize) -> (f64, f64) {
        let [before, after] =
            [0, 1].map(|side| Level::mean(self.levels.iter().map(|level| level[side])));
        (before.metric - after.metric, noise_of_difference(before.error, after.error, images))
    }

    /// The finding at the adjusted `p`; `None` for a contrast that is not tested.
    pub(super) fn finding(&self, p: Option<f64>, images: usize) -> Finding {
        let (mut effect, mut notes) = (Effect::Inconclusive, Vec::new());
        if let (Some(ratio), Some(p)) = (&self.log_ratio, p) {
            let (drop, noise) = self.drop_and_noise(images);
            let (signed, direction) =
                if ratio.mean < 0.0 { (drop, Effect::Lower) } else { (-drop, Effect::Higher) };
            effect = if p < SIGNIFICANCE && signed > noise { direction } else { effect };
            if p < SIGNIFICANCE && signed <= noise {
                notes.push(format!(
                    "a difference of {:.2} points is within the noise of the test set, {noise:.2}",
                    drop.abs()
                ));
            }
        }
        let too_few = self.too_few.iter();
        let too_few =
            too_few.map(|(hidden, design)| format!("h = {hidden} ({})", design.too_few()));
        let excluded: Vec<String> = self.excluded().into_iter().chain(too_few).collect();
        if !excluded.is_empty() {
            notes.push(format!("excluded: {}", excluded.join("; ")));
        }
        let ratio = self.log_ratio.map(|ratio| {
            let Interval { low, high } = ratio.interval();
            (libm::exp(ratio.mean), Interval { low: libm::exp(low), high: libm::exp(high) })
        });
        Finding {
            change: self.change,
            metric: self.metric,
            observed: self.observed.map(libm::exp),
            ratio,
            p: p.filter(|_| ratio.is_some()),
            effect,
            note: notes.join("; "),
        }
    }
}

impl Finding {
    /// `0.36 (0.31 to 0.41)`, or the observed ratio alone if there are too few pairs.
    pub(super) fn ratio_text(&self) -> Option<String> {
        match (self.ratio, self.observed) {
            (Some((ratio, Interval { low, high })), _) => {
                let digits = digits(ratio);
                Some(format!("{ratio:.digits$} ({low:.digits$} to {high:.digits$})"))
            }
            (None, Some(ratio)) => Some(format!("{ratio:.0$}", digits(ratio))),
            (None, None) => None,
        }
    }

    /// The headings of a table of findings.
    pub(super) fn columns() -> Vec<Column> {
        vec![
            Column::new("comparison", Align::Left),
            Column::new("metric", Align::Left),
            Column::new("ratio", Align::Right),
            Column::new("95 % interval", Align::Left),
            Column::new("p", Align::Right),
            Column::new("effect", Align::Left),
        ]
    }

    /// The row of a table of findings.
    pub(super) fn row(&self) -> Vec<Cell> {
        let ratio = self.ratio.map(|(ratio, _)| ratio);
        let interval = self.ratio.map(|(ratio, Interval { low, high })| {
            let digits = digits(ratio);
            format!("{low:.digits$} to {high:.digits$}")
        });
        let effect = match (self.ratio, self.p) {
            (None, _) => "inconclusive, too few pairs",
            (Some(_), None) => "not tested",
            (Some(_), Some(_)) => self.effect.name(),
        };
        vec![
            Cell { note: self.note.clone(), ..Cell::text(self.change.title()) },
            Cell::text(self.metric.title()),
            Cell::number(ratio.or(self.observed), |x| format!("{x:.0$}", digits(x))),
            Cell::text(interval.unwrap_or_default()),
            Cell::number(self.p, p_text),
            Cell::text(effect),
        ]
    }
}

impl Level {
    /// The mean of both values; zero without any.
    fn mean(levels: impl Iterator<Item = Level>) -> Level {
        let add = |(n, sum): (f64, Level), x: Level| {
            (n + 1.0, Level { metric: sum.metric + x.metric, error: sum.error + x.error })
        };
        let (n, sum) = levels.fold((0.0, Level { metric: 0.0, error: 0.0 }), add);
        let n = n.max(1.0);
        Level { metric: sum.metric / n, error: sum.error / n }
    }
}

/// The decimals of a ratio: at least two significant digits down to 0.01.
pub(super) fn digits(ratio: f64) -> usize {
    if ratio < 0.1 { 3 } else { 2 }
}

/// A number with a minus sign, unless it is rounded to zero.
pub(super) fn two_decimals(x: f64) -> String {
    let text = format!("{x:.2}");
    if text == "-0.00" { "0.00".to_owned() } else { text.replace('-', "−") }
}

pub(super) fn p_text(p: f64) -> String {
    if p < 0.001 { format!("{p:.0e}") } else { format!("{p:.3}") }
}
