//! The talk's conclusions, each checked against the run's own numbers, on the test split.
//!
//! A verdict follows from a few contrasts, never from a count of cells nor from a judgement made
//! beforehand. A contrast says how many times as large a metric is after a change as before it: the
//! logarithm of the ratio is averaged within a pair over all that shares its init and shuffles,
//! then over pairs, then over widths. The methods, priors and widths compared are those of the run,
//! and a contrast names what it leaves out.

use super::figures::by_strength;
use super::tables::ends;
use super::talk::{ordered, title};
use crate::study::stats::{
    Estimate, FEWEST, Interval, NotFinite, Sample, holm, noise_of_difference,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A metric on the test split by (width, prior, method, metric), pair by pair.
pub(super) type Pairs = BTreeMap<(i64, String, String, String), BTreeMap<i64, f64>>;

/// What the verdicts are reached from.
pub(super) struct Findings {
    pub(super) pairs: Pairs,
    /// Test images, for the noise of an error.
    pub(super) images: usize,
}

/// A claim and what the run says of it.
#[derive(Debug, PartialEq)]
pub(super) struct Conclusion {
    /// As the talk has it, translated.
    pub(super) claim: &'static str,
    /// A word or two, and the contrasts behind them.
    pub(super) verdict: String,
    /// The numbers, a line each.
    pub(super) evidence: Vec<String>,
}

/// A prior and a method.
type Curve = (String, String);

/// A metric of one curve, and the error on the test images whose noise is in it; both in points.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Level {
    metric: f64,
    error: f64,
}

/// A metric after a change against the same before it.
struct Contrast {
    /// What is compared with what, and by which metric.
    name: String,
    /// The logarithm of how many times as large it is after the change; none of too few pairs.
    log_ratio: Option<Estimate>,
    /// Before and after, averaged over pairs: one for each width that the ratio is pooled over.
    levels: Vec<[Level; 2]>,
    /// The number of pairs of each width with too few of them.
    too_few: BTreeMap<i64, usize>,
    /// What else is not in it, and why.
    left_out: Vec<String>,
}

/// What a contrast shows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Finding {
    Lower,
    Higher,
    Open,
}

impl Finding {
    fn word(self) -> &'static str {
        match self {
            Finding::Lower => "lower",
            Finding::Higher => "higher",
            Finding::Open => "open",
        }
    }
}

/// The largest error on the curve, in %.
const MAX: &str = "max_error";

/// Its excess over the worse end, in points: how isolated the two ends are from each other.
const EXCESS: &str = "excess_error";

/// The mean error by arc length, in %. Over t, the nearly flat second segment of WA would make up
/// half of it.
const MEAN: &str = "mean_error_by_length";

/// The columns that [`Findings`] needs.
pub(super) const COMPARED: [&str; 3] = [MAX, EXCESS, MEAN];

/// The chance of a false finding that a whole family of contrasts may have.
const LEVEL: f64 = 0.05;

impl Findings {
    /// All four of the talk's conclusions, in its order.
    ///
    /// # Errors
    /// If a metric is not finite.
    pub(super) fn conclusions(&self) -> Result<Vec<Conclusion>, NotFinite> {
        Ok(vec![self.better_methods()?, self.width()?, self.prior()?, self.informative_prior()?])
    }

    fn better_methods(&self) -> Result<Conclusion, NotFinite> {
        let (mut family, mut notes) = (Vec::new(), Vec::new());
        let methods = self.methods();
        for method in methods.iter().filter(|method| base(method) != method.as_str()) {
            let base = base(method);
            if !methods.iter().any(|method| method == base) {
                notes.push(format!(
                    "{}: not compared, this run has no {}",
                    title(method),
                    title(base)
                ));
                continue;
            }
            let change =
                |prior: String| [(prior.clone(), base.to_owned()), (prior, method.clone())];
            let changes: Vec<[Curve; 2]> = self.priors().into_iter().map(change).collect();
            for (metric, words) in [(MAX, "largest error"), (MEAN, "mean error by arc length")] {
                let name = format!("{} instead of {}, {words}", title(method), title(base));
                family.push(self.within_pairs(name, metric, &changes)?);
            }
        }
        let claim = "More elaborate methods (WA, OT) find curves with a lower mean error.";
        Ok(self.judge(
            claim,
            &family,
            notes,
            "this run has no method with WA or OT beside the same without",
        ))
    }

    fn width(&self) -> Result<Conclusion, NotFinite> {
        let mut family = Vec::new();
        for method in self.methods() {
            let measured = |(hidden, _, of, metric): &(i64, String, String, String)| {
                (*of == method && metric == EXCESS).then_some(*hidden)
            };
            let widths: BTreeSet<i64> = self.pairs.keys().filter_map(measured).collect();
            if let (Some(&narrow), Some(&wide)) = (widths.first(), widths.last())
                && narrow < wide
            {
                family.push(self.between_widths(&method, [narrow, wide])?);
            }
        }
        let claim = "With more neurons the local minima of the loss cease to be isolated.";
        Ok(self.judge(claim, &family, Vec::new(), "this run has no method at two widths"))
    }

    fn prior(&self) -> Result<Conclusion, NotFinite> {
        let (mut family, mut notes) = (Vec::new(), Vec::new());
        let priors = self.priors();
        if priors.iter().any(|prior| prior == "none") {
            for prior in priors.iter().filter(|prior| *prior != "none") {
                let changes = self.for_each_method("none", prior);
                family.push(self.within_pairs(
                    format!("{prior} instead of none, excess"),
                    EXCESS,
                    &changes,
                )?);
                let whole = self.within_pairs(String::new(), MAX, &changes)?.log_ratio;
                let note = |ratio| {
                    format!(
                        "{prior}: the largest error itself, ends included, is {}; unadjusted",
                        times(ratio)
                    )
                };
                notes.extend(whole.map(note));
            }
        }
        let claim = "A prior makes the space smoother and connects the local minima better.";
        Ok(self.judge(claim, &family, notes, "this run has no prior beside none at all"))
    }

    fn informative_prior(&self) -> Result<Conclusion, NotFinite> {
        let mut family = Vec::new();
        // Dropout is no density of the weights: no share of dropped units says more about them than
        // another.
        for kind in ["normal ", "laplace "] {
            let priors: Vec<String> =
                self.priors().into_iter().filter(|prior| prior.starts_with(kind)).collect();
            for step in priors.windows(2) {
                let changes = self.for_each_method(&step[0], &step[1]);
                let name = format!("{} instead of {}, excess", step[1], step[0]);
                family.push(self.within_pairs(name, EXCESS, &changes)?);
            }
        }
        let claim = "The more informative the prior, the smoother the parameter space.";
        let untested = "this run has neither two normal nor two Laplace priors; the profile paper has the whole axis";
        Ok(self.judge(claim, &family, Vec::new(), untested))
    }

    fn widths(&self) -> BTreeSet<i64> {
        self.pairs.keys().map(|(hidden, ..)| *hidden).collect()
    }

    fn priors(&self) -> Vec<String> {
        by_strength(self.pairs.keys().map(|(_, prior, ..)| prior.clone()))
    }

    fn methods(&self) -> Vec<String> {
        ordered(self.pairs.keys().map(|(_, _, method, _)| method.clone()))
    }

    /// One prior in place of another, with each method.
    fn for_each_method(&self, before: &str, after: &str) -> Vec<[Curve; 2]> {
        let change =
            |method: String| [(before.to_owned(), method.clone()), (after.to_owned(), method)];
        self.methods().into_iter().map(change).collect()
    }

    /// `metric` of a curve, pair by pair; empty if the run does not have it.
    fn levels(&self, hidden: i64, (prior, method): &Curve, metric: &str) -> BTreeMap<i64, Level> {
        let values = |metric: &str| {
            self.pairs.get(&(hidden, prior.clone(), method.clone(), metric.to_owned()))
        };
        let (Some(metrics), Some(errors)) =
            (values(metric), values(if metric == EXCESS { MAX } else { metric }))
        else {
            return BTreeMap::new();
        };
        let level = |(pair, metric): (&i64, &f64)| {
            Some((*pair, Level { metric: *metric, error: *errors.get(pair)? }))
        };
        metrics.iter().filter_map(level).collect()
    }

    /// `changes` that leave init and shuffles as they are: ratios within a pair, averaged over the
    /// changes. The widths share no nets and count the same.
    fn within_pairs(
        &self,
        name: String,
        metric: &str,
        changes: &[[Curve; 2]],
    ) -> Result<Contrast, NotFinite> {
        let mut contrast = Contrast::new(name);
        let mut ratios = Vec::new();
        for hidden in self.widths() {
            let mut logs = Logs::new();
            let mut levels = Vec::new();
            for change in changes {
                let [before, after] =
                    change.each_ref().map(|curve| self.levels(hidden, curve, metric));
                for (curve, levels) in change.iter().zip([&before, &after]) {
                    contrast.leave_out(hidden, curve, levels);
                }
                for (pair, x) in &before {
                    let Some(y) = after.get(pair).filter(|y| x.metric > 0.0 && y.metric > 0.0)
                    else {
                        continue;
                    };
                    logs.entry(*pair).or_default().push(libm::log(y.metric / x.metric));
                    levels.push([*x, *y]);
                }
            }
            if let Some(ratio) = contrast.estimate(hidden, logs)? {
                ratios.push(ratio);
                contrast
                    .levels
                    .push([0, 1].map(|side| Level::mean(levels.iter().map(|level| level[side]))));
            }
        }
        contrast.log_ratio = Estimate::pool(&ratios);
        Ok(contrast)
    }

    /// The excess at the widest net against that at the narrowest, which share no nets: Welch's
    /// test on logarithms, averaged over priors within a pair. A prior with an excess of 0 or less
    /// is left out of both sides, so that they stay alike.
    fn between_widths(&self, method: &str, widths: [i64; 2]) -> Result<Contrast, NotFinite> {
        let [narrow, wide] = widths;
        let mut contrast =
            Contrast::new(format!("{}, h = {wide} instead of h = {narrow}, excess", title(method)));
        let curves: Vec<Curve> =
            self.priors().into_iter().map(|prior| (prior, method.to_owned())).collect();
        let mut sides = Vec::new();
        for curve in &curves {
            let levels = widths.map(|hidden| self.levels(hidden, curve, EXCESS));
            for (hidden, levels) in widths.iter().zip(&levels) {
                contrast.leave_out(*hidden, curve, levels);
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
        if let [Some(narrow), Some(wide)] = estimates[..] {
            contrast.log_ratio = Estimate::combine(&[(1.0, wide), (-1.0, narrow)]);
            let level = |side: usize| {
                Level::mean(sides.iter().flat_map(|levels| levels[side].values().copied()))
            };
            contrast.levels.push([level(0), level(1)]);
        }
        Ok(contrast)
    }

    /// What a family of contrasts says of a claim that holds if each is lower.
    fn judge(
        &self,
        claim: &'static str,
        family: &[Contrast],
        notes: Vec<String>,
        untested: &str,
    ) -> Conclusion {
        let ratios = || family.iter().filter_map(|contrast| contrast.log_ratio);
        let mut adjusted = holm(&ratios().map(|ratio| ratio.p()).collect::<Vec<_>>()).into_iter();
        let mut evidence = Vec::new();
        let (mut lower, mut higher) = (0, 0);
        for contrast in family {
            let p = contrast.log_ratio.and_then(|_| adjusted.next());
            let (finding, line) = contrast.finding(p, self.images);
            lower += usize::from(finding == Finding::Lower);
            higher += usize::from(finding == Finding::Higher);
            evidence.push(line);
        }
        let counts = format!("{lower} of {} contrasts lower, {higher} higher", family.len());
        let verdict = match (lower, higher) {
            _ if family.is_empty() => format!("not tested: {untested}"),
            _ if ratios().next().is_none() => {
                format!(
                    "not decided: no contrast has a width with {FEWEST} pairs, fewer say too little of their spread"
                )
            }
            (0, 0) => format!("not decided: {counts}"),
            (_, 0) if lower == family.len() => format!("supported: {counts}"),
            (0, _) if higher == family.len() => format!("contradicted: {counts}"),
            (_, 0) => format!("partly supported: {counts}"),
            (0, _) => format!("partly contradicted: {counts}"),
            _ => format!("mixed: {counts}"),
        };
        evidence.extend(notes);
        Conclusion { claim, verdict, evidence }
    }
}

/// Logarithms, pair by pair.
type Logs = BTreeMap<i64, Vec<f64>>;

impl Contrast {
    fn new(name: String) -> Contrast {
        Contrast {
            name,
            log_ratio: None,
            levels: Vec::new(),
            too_few: BTreeMap::new(),
            left_out: Vec::new(),
        }
    }

    /// Names a curve that the run does not have, and the pairs whose metric has no logarithm.
    fn leave_out(&mut self, hidden: i64, (prior, method): &Curve, levels: &BTreeMap<i64, Level>) {
        let curve = format!("{}, {prior}, h = {hidden}", title(method));
        let without: Vec<String> = levels
            .iter()
            .filter(|(_, level)| level.metric <= 0.0)
            .map(|(pair, _)| pair.to_string())
            .collect();
        if levels.is_empty() {
            self.left_out.push(format!("{curve} (not in this run)"));
        } else if !without.is_empty() {
            self.left_out.push(format!("{curve}, pair {} (0 or less)", without.join(" and ")));
        }
    }

    /// The mean over the pairs of one width; notes if they are too few.
    fn estimate(&mut self, hidden: i64, logs: Logs) -> Result<Option<Estimate>, NotFinite> {
        let nets = logs.keys().map(|pair| ends(*pair)).collect();
        let means = logs
            .into_values()
            .map(|logs| Sample::of_nets(logs).map(|logs| logs.mean().unwrap_or(0.0)));
        let sample = Sample::of_pairs(means.collect::<Result<_, _>>()?, nets)?;
        let estimate = sample.estimate();
        if estimate.is_none() {
            self.too_few.insert(hidden, sample.len());
        }
        Ok(estimate)
    }

    /// Before less after in points, and two standard errors of a difference between two errors on
    /// `images` test images, taken for independent.
    fn drop_and_noise(&self, images: usize) -> (f64, f64) {
        let [before, after] =
            [0, 1].map(|side| Level::mean(self.levels.iter().map(|level| level[side])));
        (before.metric - after.metric, noise_of_difference(before.error, after.error, images))
    }

    /// What it shows at the adjusted `p`, and the numbers in words.
    fn finding(&self, p: Option<f64>, images: usize) -> (Finding, String) {
        let mut line = format!("{}: ", self.name);
        let mut finding = Finding::Open;
        if let (Some(ratio), Some(p)) = (&self.log_ratio, p) {
            let (drop, noise) = self.drop_and_noise(images);
            let (sided, word) =
                if ratio.mean < 0.0 { (drop, Finding::Lower) } else { (-drop, Finding::Higher) };
            finding = if p < LEVEL && sided > noise { word } else { Finding::Open };
            _ = write!(line, "{}, p = {}: {}", times(*ratio), shown_p(p), finding.word());
            if p < LEVEL && sided <= noise {
                _ = write!(
                    line,
                    ", {:.2} points are inside the noise of the test set, {noise:.2}",
                    drop.abs()
                );
            }
        } else {
            line += "open, too few pairs";
        }
        let few = self.too_few.iter().map(|(hidden, pairs)| {
            format!(
                "h = {hidden} ({pairs} {}, {FEWEST} are needed)",
                if *pairs == 1 { "pair" } else { "pairs" }
            )
        });
        let left_out: Vec<String> = self.left_out.iter().cloned().chain(few).collect();
        if !left_out.is_empty() {
            _ = write!(line, "; left out: {}", left_out.join("; "));
        }
        (finding, line)
    }
}

impl Level {
    /// Of each of the two; zero of none.
    fn mean(levels: impl Iterator<Item = Level>) -> Level {
        let add = |(n, sum): (f64, Level), x: Level| {
            (n + 1.0, Level { metric: sum.metric + x.metric, error: sum.error + x.error })
        };
        let (n, sum) = levels.fold((0.0, Level { metric: 0.0, error: 0.0 }), add);
        let n = n.max(1.0);
        Level { metric: sum.metric / n, error: sum.error / n }
    }
}

/// A method without what is done to B: `arc:zero` of `arc:zero+ot+wa`.
fn base(method: &str) -> &str {
    method.split_once('+').map_or(method, |(base, _)| base)
}

/// A ratio with its interval, from its logarithm.
fn times(log_ratio: Estimate) -> String {
    let Interval { low, high } = log_ratio.interval();
    let [ratio, low, high] = [log_ratio.mean, low, high].map(libm::exp);
    // Two digits that say something, down to a hundredth.
    let digits = if ratio < 0.1 { 3 } else { 2 };
    format!("times {ratio:.digits$} ({low:.digits$} to {high:.digits$})")
}

fn shown_p(p: f64) -> String {
    if p < 0.001 { format!("{p:.0e}") } else { format!("{p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cells of `[width, prior, method, metric, values pair by pair]`.
    fn findings(cells: &[(i64, &str, &str, &str, &[f64])]) -> Findings {
        let cell = |&(h, prior, method, metric, values): &(i64, &str, &str, &str, &[f64])| {
            let key = (h, prior.to_owned(), method.to_owned(), metric.to_owned());
            (key, (1..).zip(values.iter().copied()).collect())
        };
        Findings { pairs: cells.iter().map(cell).collect(), images: 10_000 }
    }

    /// Cells of methods at h = 50 without prior, with the same values for both metrics that methods
    /// are compared by.
    fn methods(cells: &[(&str, &[f64])]) -> Conclusion {
        let cells: Vec<_> = cells
            .iter()
            .flat_map(|(method, values)| [MAX, MEAN].map(|m| (50, "none", *method, m, *values)))
            .collect();
        findings(&cells).better_methods().expect("finite")
    }

    /// The excess, and the largest error 2 points above it.
    fn excess(cells: &[(i64, &str, &str, &[f64])]) -> Findings {
        let mut found = findings(
            &cells
                .iter()
                .map(|&(h, prior, method, values)| (h, prior, method, EXCESS, values))
                .collect::<Vec<_>>(),
        );
        for ((h, prior, method, _), pairs) in found.pairs.clone() {
            let errors = pairs.into_iter().map(|(pair, excess)| (pair, excess + 2.0)).collect();
            found.pairs.insert((h, prior, method, MAX.to_owned()), errors);
        }
        found
    }

    #[test]
    fn a_verdict_follows_the_numbers_either_way() {
        let verdict = |wa| methods(&[("linear", &[20.0, 22.0, 24.0]), ("linear+wa", wa)]).verdict;
        assert_eq!(verdict(&[5.0, 6.0, 6.5]), "supported: 2 of 2 contrasts lower, 0 higher");
        assert_eq!(verdict(&[40.0, 46.0, 48.5]), "contradicted: 0 of 2 contrasts lower, 2 higher");
        assert_eq!(verdict(&[20.3, 21.9, 23.8]), "not decided: 0 of 2 contrasts lower, 0 higher");
    }

    /// SciPy 1.17.1, with x[h][prior] the values without OT and y those with:
    /// ```python
    /// r = {h: np.mean([np.log(y[h][p] / x[h][p]) for p in (0, 1)], axis=0) for h in (10, 50)}
    /// V = np.array([v.var(ddof=1) / 3 for v in r.values()]); m = np.mean([v.mean() for v in r.values()])
    /// se, df = V.sum() ** .5 / 2, V.sum() ** 2 / (V * V / 2).sum(); q = t.ppf(.975, df)
    /// np.exp([m, m - q * se, m + q * se]), 2 * 2 * t.sf(abs(m / se), df)
    /// ```
    #[test]
    fn one_ratio_is_pooled_over_priors_pairs_and_widths() {
        let values: [(i64, &str, &str, &[f64]); 8] = [
            (10, "none", "arc", &[50.0, 40.0, 60.0]),
            (10, "none", "arc+ot", &[20.0, 18.0, 21.0]),
            (10, "normal 0.01", "arc", &[45.0, 44.0, 61.0]),
            (10, "normal 0.01", "arc+ot", &[19.0, 22.0, 25.0]),
            (50, "none", "arc", &[20.0, 18.0, 16.0]),
            (50, "none", "arc+ot", &[6.0, 5.0, 5.5]),
            (50, "normal 0.01", "arc", &[21.0, 17.0, 16.5]),
            (50, "normal 0.01", "arc+ot", &[6.5, 4.9, 5.6]),
        ];
        let both = values
            .iter()
            .flat_map(|&(h, prior, method, x)| [MAX, MEAN].map(|m| (h, prior, method, m, x)));
        let found = findings(&both.collect::<Vec<_>>()).better_methods().expect("finite");
        assert_eq!(
            found.evidence,
            [
                "Arc + OT instead of Arc, largest error: times 0.36 (0.32 to 0.41), p = 5e-5: lower",
                "Arc + OT instead of Arc, mean error by arc length: times 0.36 (0.32 to 0.41), p = 5e-5: lower",
            ]
        );
    }

    #[test]
    fn pairs_that_disagree_decide_nothing_however_large_their_mean() {
        let found = excess(&[
            (10, "none", "linear", &[50.0, 10.0, 14.0]),
            (10, "dropout 0.5", "linear", &[13.5, 13.5, 13.5]),
        ]);
        assert_eq!(found.prior().unwrap().verdict, "not decided: 0 of 1 contrasts lower, 0 higher");
    }

    #[test]
    fn two_pairs_decide_nothing_and_the_report_says_why() {
        let found = methods(&[("linear", &[20.0, 22.0]), ("linear+wa", &[5.0, 6.0])]);
        let why = "not decided: no contrast has a width with 3 pairs, fewer say too little of their spread";
        assert_eq!(found.verdict, why);
        let line = "Linear + WA instead of Linear, largest error: open, too few pairs; left out: h = 50 (2 pairs, 3 are needed)";
        assert_eq!(found.evidence[0], line);
    }

    #[test]
    fn a_difference_inside_the_noise_of_the_test_set_decides_nothing_however_steady() {
        let found = methods(&[("linear", &[2.00, 2.01, 2.02]), ("linear+wa", &[1.90, 1.91, 1.92])]);
        assert_eq!(found.verdict, "not decided: 0 of 2 contrasts lower, 0 higher");
        let noise = ": open, 0.10 points are inside the noise of the test set, 0.39";
        assert!(found.evidence[0].ends_with(noise), "{}", found.evidence[0]);
    }

    #[test]
    fn every_method_of_the_run_that_has_wa_or_ot_is_compared_or_named() {
        let values: &[f64] = &[5.0, 6.0, 7.0];
        let names = [
            "linear",
            "rho-arc",
            "rho-arc+ot",
            "linear+ot:incoming",
            "linear+ot:incoming+wa",
            "arc:zero+wa",
        ];
        let found = methods(&names.map(|name| (name, values)));
        let lines = found.evidence.join("\n");
        for method in ["Rho-arc + OT instead of Rho-arc", "+ WA instead of Linear,"] {
            assert!(lines.contains(method), "{method} in {lines}");
        }
        assert_eq!(found.evidence.len(), 2 * 3 + 1);
        assert!(found.evidence[6].contains("not compared, this run has no"), "{lines}");
    }

    #[test]
    fn the_narrowest_width_is_compared_with_the_widest_and_it_takes_two() {
        let verdict = |wide: &[f64]| {
            let found = excess(&[
                (10, "none", "linear", &[40.0, 41.0, 44.0]),
                (50, "none", "linear", &[90.0, 10.0, 50.0]),
                (100, "none", "linear", wide),
            ]);
            found.width().unwrap().verdict
        };
        assert_eq!(verdict(&[8.0, 9.0, 8.5]), "supported: 1 of 1 contrasts lower, 0 higher");
        assert_eq!(verdict(&[60.0, 61.0, 63.0]), "contradicted: 0 of 1 contrasts lower, 1 higher");
        let alone = excess(&[(10, "none", "linear", &[40.0, 41.0, 44.0])]).width().unwrap();
        assert_eq!(
            (alone.verdict.as_str(), alone.evidence.len()),
            ("not tested: this run has no method at two widths", 0)
        );
    }

    #[test]
    fn an_excess_of_zero_or_less_is_named_and_left_out() {
        let cells: [(i64, &str, &str, &[f64]); 4] = [
            (10, "none", "linear", &[40.0, 41.0, 44.0, 42.0]),
            (10, "dropout 0.5", "linear", &[20.0, 19.0, 0.0, 21.0]),
            (50, "none", "linear", &[9.0, 8.0, 9.5, 8.5]),
            (50, "dropout 0.5", "linear", &[4.0, 4.1, 4.4, 4.2]),
        ];
        let found = excess(&cells);
        let named = "; left out: Linear, dropout 0.5, h = 10, pair 3 (0 or less)";
        let (prior, width) = (found.prior().unwrap(), found.width().unwrap());
        assert_eq!((prior.verdict.as_str(), width.verdict.as_str()), {
            let supported = "supported: 1 of 1 contrasts lower, 0 higher";
            (supported, supported)
        });
        for conclusion in [&prior, &width] {
            assert!(conclusion.evidence[0].ends_with(named), "{}", conclusion.evidence[0]);
        }
        // Both widths lose the prior, so that they stay alike.
        let without: Vec<_> = cells.into_iter().filter(|(_, prior, ..)| *prior == "none").collect();
        let line = excess(&without).width().unwrap().evidence.remove(0);
        assert_eq!(width.evidence[0], line + named);
    }

    #[test]
    fn a_curve_that_the_run_does_not_have_at_some_width_is_named() {
        let found = excess(&[
            (10, "none", "linear", &[40.0, 41.0, 44.0]),
            (10, "dropout 0.5", "linear", &[20.0, 19.0, 21.0]),
            (50, "none", "linear", &[9.0, 8.0, 9.5]),
        ]);
        let line = found.prior().unwrap().evidence.remove(0);
        let missing = "left out: Linear, dropout 0.5, h = 50 (not in this run); h = 50 (0 pairs, 3 are needed)";
        assert!(line.ends_with(missing), "{line}");
    }

    #[test]
    fn priors_are_compared_by_the_excess_since_their_ends_differ() {
        let mut found = excess(&[
            (50, "none", "linear", &[20.0, 21.0, 22.0]),
            (50, "normal 0.01", "linear", &[10.0, 10.2, 11.1]),
        ]);
        let worse = [(1, 23.0), (2, 24.0), (3, 25.5)].into();
        found.pairs.insert((50, "normal 0.01".into(), "linear".into(), MAX.into()), worse);
        let conclusion = found.prior().unwrap();
        assert!(conclusion.verdict.starts_with("supported"), "{conclusion:?}");
        let note = "normal 0.01: the largest error itself, ends included, is times 1.05";
        assert!(conclusion.evidence[1].starts_with(note), "{conclusion:?}");
    }

    #[test]
    fn neighbours_on_the_axis_of_informativeness_are_compared_and_one_prior_tests_nothing() {
        let cells = [
            (50, "normal 0.1", "linear", &[9.0, 9.1, 9.4][..]),
            (50, "normal 0.01", "linear", &[6.0, 6.2, 6.3]),
            (50, "normal 0.001", "linear", &[3.0, 3.2, 3.1]),
            (50, "laplace 0.07", "linear", &[2.0, 2.1, 2.2]),
            (50, "dropout 0.1", "linear", &[2.0, 2.1, 2.2]),
            (50, "dropout 0.5", "linear", &[1.0, 1.1, 1.2]),
        ];
        let conclusion = excess(&cells).informative_prior().unwrap();
        assert_eq!(conclusion.verdict, "supported: 2 of 2 contrasts lower, 0 higher");
        assert!(
            conclusion.evidence[1]
                .starts_with("normal 0.001 instead of normal 0.01, excess: times 0.50")
        );
        assert!(
            excess(&cells[2..]).informative_prior().unwrap().verdict.starts_with("not tested: ")
        );
    }

    #[test]
    fn an_empty_run_tests_nothing() {
        let conclusions = findings(&[]).conclusions().unwrap();
        assert!(
            conclusions.iter().all(|conclusion| conclusion.verdict.starts_with("not tested: "))
        );
        assert_eq!(conclusions.len(), 4);
    }
}
