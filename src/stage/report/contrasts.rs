//! Contrasts: the ratio of a metric after a change to the metric before it.
//!
//! The logarithm of the ratio is averaged within a pair over everything that shares its init and
//! shuffles, then over pairs, then over widths.

use crate::report::document::{Cell, Column};
use crate::report::table::Align;
use crate::stage::rows::{CurveGroup, Metric, PairMetrics, nets_of};
use crate::study::curve::Method;
use crate::study::net::Prior;
use crate::study::stats::{Estimate, FEWEST, Interval, NotFinite, Sample, noise_of_difference};
use std::collections::BTreeMap;

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
pub(super) enum Change {
    /// From one method to another.
    Method([Method; 2]),
    /// From one width to another, with one method.
    Width(Method, [i64; 2]),
    /// From one prior to another.
    Prior([Prior; 2]),
}

impl Change {
    /// `Linear + OT vs. Linear`: the state after the change, then the state before it.
    fn title(self) -> String {
        match self {
            Change::Method([from, to]) => format!("{} vs. {}", to.title(), from.title()),
            Change::Width(method, [narrow, wide]) => {
                format!("{}, h = {wide} vs. h = {narrow}", method.title())
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
    /// The number of pairs of each width that has too few.
    too_few: BTreeMap<i64, usize>,
    /// Curves that are excluded, with the reason.
    excluded: Vec<String>,
}

/// The effect of a contrast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Effect {
    Lower,
    Higher,
    Inconclusive,
}

impl Effect {
    fn name(self) -> &'static str {
        match self {
            Effect::Lower => "lower",
            Effect::Higher => "higher",
            Effect::Inconclusive => "inconclusive",
        }
    }
}

/// The significance level of a family of contrasts.
const SIGNIFICANCE: f64 = 0.05;

/// A metric of a curve by pair; empty if the run does not have the curve.
fn levels(
    pairs: &PairMetrics,
    hidden: i64,
    (prior, method): PriorMethod,
    metric: Metric,
) -> BTreeMap<i64, Level> {
    let group = CurveGroup { hidden, prior, method };
    let error = if metric == Metric::ExcessError { Metric::MaxError } else { metric };
    let (Some(metrics), Some(errors)) = (pairs.get(&(group, metric)), pairs.get(&(group, error)))
    else {
        return BTreeMap::new();
    };
    let level = |(pair, metric): (&i64, &f64)| {
        Some((*pair, Level { metric: *metric, error: *errors.get(pair)? }))
    };
    metrics.iter().filter_map(level).collect()
}

/// Logarithms by pair.
type Logs = BTreeMap<i64, Vec<f64>>;

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
        }
    }

    /// The contrast of `changes` (before, after) that keep init and shuffles: ratios within a pair,
    /// averaged over the changes. The `widths` share no nets and have equal weights.
    pub(super) fn within_pairs(
        pairs: &PairMetrics,
        widths: impl IntoIterator<Item = i64>,
        (change, metric): (Change, Metric),
        changes: &[[PriorMethod; 2]],
    ) -> Result<Contrast, NotFinite> {
        let mut contrast = Contrast::new(change, metric);
        let (mut observed, mut ratios) = (Vec::new(), Vec::new());
        for hidden in widths {
            let mut logs = Logs::new();
            let mut both = Vec::new();
            for change in changes {
                let [before, after] = change.map(|curve| levels(pairs, hidden, curve, metric));
                for (curve, levels) in change.iter().zip([&before, &after]) {
                    contrast.note_excluded(hidden, *curve, levels);
                }
                for (pair, x) in &before {
                    let Some(y) = after.get(pair).filter(|y| x.metric > 0.0 && y.metric > 0.0)
                    else {
                        continue;
                    };
                    logs.entry(*pair).or_default().push(libm::log(y.metric / x.metric));
                    both.push([*x, *y]);
                }
            }
            let (mean, ratio) = contrast.estimate(hidden, logs)?;
            observed.extend(mean);
            if let Some(ratio) = ratio {
                ratios.push(ratio);
                contrast
                    .levels
                    .push([0, 1].map(|side| Level::mean(both.iter().map(|level| level[side]))));
            }
        }
        contrast.observed = Sample::of_nets(observed)?.mean();
        contrast.log_ratio = Estimate::pool(&ratios);
        Ok(contrast)
    }

    /// The contrast of the excess error at the second of two widths to that at the first. Nets of
    /// different widths are independent: Welch's test on logarithms, averaged over priors within a
    /// pair. A prior with an excess of 0 or less is excluded from both sides.
    pub(super) fn between_widths(
        pairs: &PairMetrics,
        priors: impl IntoIterator<Item = Prior>,
        method: Method,
        widths: [i64; 2],
    ) -> Result<Contrast, NotFinite> {
        let mut contrast = Contrast::new(Change::Width(method, widths), Metric::ExcessError);
        let mut sides = Vec::new();
        for curve in priors.into_iter().map(|prior| (prior, method)) {
            let levels = widths.map(|hidden| levels(pairs, hidden, curve, Metric::ExcessError));
            for (hidden, levels) in widths.iter().zip(&levels) {
                contrast.note_excluded(*hidden, curve, levels);
            }
            let positive =
                |levels: &BTreeMap<i64, Level>| levels.values().all(|level| level.metric > 0.0);
            if levels.iter().all(|levels| !levels.is_empty() && positive(levels)) {
                sides.push(levels);
            }
        }
        let mut estimates = Vec::new();
        for (side, hidden) in widths.into_iter().enumerate() {
            let mut logs = Logs::new();
            for (pair, level) in sides.iter().flat_map(|levels| &levels[side]) {
                logs.entry(*pair).or_default().push(libm::log(level.metric));
            }
            logs.retain(|_, logs| logs.len() == sides.len());
            estimates.push(contrast.estimate(hidden, logs)?);
        }
        if let [(Some(narrow), _), (Some(wide), _)] = estimates[..] {
            contrast.observed = Some(wide - narrow);
        }
        if let [(_, Some(narrow)), (_, Some(wide))] = estimates[..] {
            contrast.log_ratio = Estimate::combine(&[(1.0, wide), (-1.0, narrow)]);
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
        hidden: i64,
        (prior, method): PriorMethod,
        levels: &BTreeMap<i64, Level>,
    ) {
        let curve = format!("{}, {prior}, h = {hidden}", method.title());
        let not_positive: Vec<String> = levels
            .iter()
            .filter(|(_, level)| level.metric <= 0.0)
            .map(|(pair, _)| pair.to_string())
            .collect();
        if levels.is_empty() {
            self.excluded.push(format!("{curve} (not in the run)"));
        } else if !not_positive.is_empty() {
            self.excluded.push(format!("{curve}, pair {} (0 or less)", not_positive.join(" and ")));
        }
    }

    /// The mean over the pairs of one width, alone and with its error. There is no error, but a
    /// note, if there are too few pairs.
    fn estimate(
        &mut self,
        hidden: i64,
        logs: Logs,
    ) -> Result<(Option<f64>, Option<Estimate>), NotFinite> {
        let nets = logs.keys().map(|pair| nets_of(*pair)).collect();
        let means = logs
            .into_values()
            .map(|logs| Sample::of_nets(logs).map(|logs| logs.mean().unwrap_or(0.0)));
        let sample = Sample::of_pairs(means.collect::<Result<_, _>>()?, nets)?;
        let estimate = sample.estimate();
        if estimate.is_none() {
            self.too_few.insert(hidden, sample.len());
        }
        Ok((sample.mean(), estimate))
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
        let too_few = self.too_few.iter().map(|(hidden, pairs)| {
            let s = if *pairs == 1 { "" } else { "s" };
            format!("h = {hidden} ({pairs} pair{s}, at least {FEWEST} are required)")
        });
        let excluded: Vec<String> = self.excluded.iter().cloned().chain(too_few).collect();
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
        let column = |heading: &str, align| Column {
            heading: heading.to_owned(),
            align,
            ..Column::default()
        };
        vec![
            column("comparison", Align::Left),
            column("metric", Align::Left),
            column("ratio", Align::Right),
            column("95 % interval", Align::Left),
            column("p", Align::Right),
            column("effect", Align::Left),
        ]
    }

    /// The row of a table of findings.
    pub(super) fn row(&self) -> Vec<Cell> {
        let text = |text: String| Cell { text, ..Cell::default() };
        let number = |x: Option<f64>, text: fn(f64) -> String| Cell {
            text: x.map_or(String::new(), text),
            value: x,
            ..Cell::default()
        };
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
            Cell { note: self.note.clone(), ..text(self.change.title()) },
            text(self.metric.title().to_owned()),
            number(ratio.or(self.observed), |x| format!("{x:.0$}", digits(x))),
            text(interval.unwrap_or_default()),
            number(self.p, p_text),
            text(effect.to_owned()),
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
fn digits(ratio: f64) -> usize {
    if ratio < 0.1 { 3 } else { 2 }
}

fn p_text(p: f64) -> String {
    if p < 0.001 { format!("{p:.0e}") } else { format!("{p:.3}") }
}
