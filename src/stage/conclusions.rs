//! The talk's conclusions, each held against the run's own numbers.
//!
//! A verdict follows from a stated count over comparisons, never from a judgement made beforehand. A comparison is of the
//! same pairs on both sides, on the test split; it counts for a side only if the mean difference is larger than the noise of
//! the test error and its interval over pairs excludes zero. One pair decides nothing.

use super::figures::by_strength;
use super::talk::{METHODS, title};
use crate::study::stats::{Sample, binomial_standard_error, mean};
use std::collections::{BTreeMap, BTreeSet};

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
    /// One word and the count behind it.
    pub(super) verdict: String,
    /// The numbers, a line each.
    pub(super) evidence: Vec<String>,
}

/// How many comparisons speak for a claim, against it, or are open.
#[derive(Clone, Copy, Default)]
struct Tally {
    with: usize,
    against: usize,
    open: usize,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.with += other.with;
        self.against += other.against;
        self.open += other.open;
    }

    fn verdict(self) -> String {
        let Tally { with, against, open } = self;
        let word = match (with, against) {
            (0, 0) => "not decided",
            (_, 0) if with >= open => "supported",
            (0, _) if against >= open => "contradicted",
            (_, 0) => "partly supported",
            (0, _) => "partly contradicted",
            (w, a) if w >= 4 * a => "mostly supported",
            (w, a) if a >= 4 * w => "mostly contradicted",
            _ => "mixed",
        };
        format!("{word}: {with} comparisons for it, {against} against, {open} open")
    }

    fn counts(self) -> String {
        format!("lower in {}, higher in {}, open in {}", self.with, self.against, self.open)
    }
}

/// A point of the grid: width, prior, method.
type Cell<'a> = (i64, &'a str, &'a str);

/// The excess of the largest error over the worse end, in points: how isolated the two ends are from each other.
const EXCESS: &str = "excess_error";

impl Findings {
    fn values(&self, (hidden, prior, method): Cell, metric: &str) -> Option<&BTreeMap<i64, f64>> {
        self.pairs.get(&(hidden, prior.to_owned(), method.to_owned(), metric.to_owned()))
    }

    fn mean(&self, cell: Cell, metric: &str) -> Option<f64> {
        mean(&self.values(cell, metric)?.values().copied().collect::<Vec<_>>())
    }

    fn widths(&self) -> Vec<i64> {
        self.pairs.keys().map(|(hidden, ..)| *hidden).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn priors(&self) -> Vec<String> {
        by_strength(self.pairs.keys().map(|(_, prior, ..)| prior.clone()))
    }

    /// Whether `metric` is lower in `lower` than in `base`, over the pairs that both have.
    fn compare(&self, base: Cell, lower: Cell, metric: &str) -> Option<Tally> {
        let (before, after) = (self.values(base, metric)?, self.values(lower, metric)?);
        let gains: Vec<f64> = before.iter().filter_map(|(pair, x)| Some(x - after.get(pair)?)).collect();
        let gain = mean(&gains)?;
        let level = |cell| self.mean(cell, if metric == EXCESS { "max_error" } else { metric });
        let noise = self.noise(level(base)?, level(lower)?);
        let interval = Sample::of_nets(gains).ok()?.estimate().map(|gain| gain.interval());
        let sided =
            |side: f64| interval.is_some_and(|i| side * gain > noise && side * i.low > 0.0 && side * i.high > 0.0);
        Some(match (sided(1.0), sided(-1.0)) {
            (true, _) => Tally { with: 1, ..Tally::default() },
            (_, true) => Tally { against: 1, ..Tally::default() },
            _ => Tally { open: 1, ..Tally::default() },
        })
    }

    /// Two standard errors of a difference between two errors on the same number of test images, taken for independent.
    fn noise(&self, a: f64, b: f64) -> f64 {
        let (a, b) = (binomial_standard_error(a, self.images), binomial_standard_error(b, self.images));
        2.0 * (a * a + b * b).sqrt()
    }

    /// All four of the talk's conclusions, in its order.
    pub(super) fn conclusions(&self) -> Vec<Conclusion> {
        vec![self.better_methods(), self.width(), self.prior(), self.informative_prior()]
    }

    fn better_methods(&self) -> Conclusion {
        let mut tally = Tally::default();
        let mut evidence = Vec::new();
        for (better, base) in [("linear+wa", "linear"), ("arc+wa", "arc"), ("linear+ot", "linear"), ("arc+ot", "arc")] {
            let (mut this, mut before, mut after) = (Tally::default(), Vec::new(), Vec::new());
            for hidden in self.widths() {
                for prior in self.priors() {
                    let cells: [Cell; 2] = [(hidden, &prior, base), (hidden, &prior, better)];
                    let Some(compared) = self.compare(cells[0], cells[1], "mean_error") else { continue };
                    this.add(compared);
                    before.extend(self.mean(cells[0], "mean_error"));
                    after.extend(self.mean(cells[1], "mean_error"));
                }
            }
            if let (Some(before), Some(after)) = (mean(&before), mean(&after)) {
                let counts = this.counts();
                evidence.push(format!(
                    "{} instead of {}: the mean error along the curve goes from {before:.2} % to {after:.2} %, averaged over \
                     widths and priors; {counts}",
                    title(better),
                    title(base),
                ));
            }
            tally.add(this);
        }
        Conclusion {
            claim: "More elaborate methods (WA, OT) find curves with a lower mean error.",
            verdict: tally.verdict(),
            evidence,
        }
    }

    fn width(&self) -> Conclusion {
        let mut tally = Tally::default();
        let mut evidence = Vec::new();
        let widths = self.widths();
        for method in METHODS {
            let here: Vec<(i64, f64)> =
                widths.iter().filter_map(|&h| Some((h, self.mean((h, "none", method), EXCESS)?))).collect();
            let [first, .., last] = here[..] else { continue };
            let mut this = Tally::default();
            for step in here.windows(2) {
                let compared = self.compare((step[0].0, "none", method), (step[1].0, "none", method), EXCESS);
                this.add(compared.unwrap_or_default());
            }
            evidence.push(format!(
                "{}: the largest error exceeds the worse end by {:.2} points at h = {}, by {:.2} at h = {}; from one width \
                 to the next it is {}",
                title(method),
                first.1,
                first.0,
                last.1,
                last.0,
                this.counts()
            ));
            tally.add(this);
        }
        Conclusion {
            claim: "With more neurons the local minima of the loss cease to be isolated.",
            verdict: tally.verdict(),
            evidence,
        }
    }

    fn prior(&self) -> Conclusion {
        let mut tally = Tally::default();
        let mut evidence = Vec::new();
        for prior in self.priors().iter().filter(|prior| *prior != "none") {
            let mut lines = Vec::new();
            for method in METHODS {
                let mut this = Tally::default();
                for hidden in self.widths() {
                    let compared = self.compare((hidden, "none", method), (hidden, prior, method), EXCESS);
                    this.add(compared.unwrap_or_default());
                }
                if this.with + this.against + this.open > 0 {
                    lines.push(format!("{} {}/{}/{}", title(method), this.with, this.against, this.open));
                }
                tally.add(this);
            }
            evidence.push(format!(
                "{prior} against none, excess of the largest error over the worse end, widths where it is \
                 lower/higher/open: {}",
                lines.join(", ")
            ));
        }
        Conclusion {
            claim: "A prior makes the space smoother and connects the local minima better.",
            verdict: tally.verdict(),
            evidence,
        }
    }

    fn informative_prior(&self) -> Conclusion {
        let claim = "The more informative the prior, the smoother the parameter space.";
        let normal: Vec<String> = self.priors().into_iter().filter(|prior| prior.starts_with("normal")).collect();
        if normal.len() < 2 {
            let evidence =
                vec!["this run has fewer than two normal priors; the profile paper has the whole axis".to_owned()];
            return Conclusion { claim, verdict: "not tested by this run".to_owned(), evidence };
        }
        let mut tally = Tally::default();
        let mut evidence = Vec::new();
        for hidden in self.widths() {
            for step in normal.windows(2) {
                for method in METHODS {
                    let compared = self.compare((hidden, &step[0], method), (hidden, &step[1], method), EXCESS);
                    tally.add(compared.unwrap_or_default());
                }
            }
            let excess =
                |prior: &String| Some(format!("{prior}: {:.2}", self.mean((hidden, prior, "linear"), EXCESS)?));
            let steps: Vec<String> = normal.iter().filter_map(excess).collect();
            evidence.push(format!("h = {hidden}, Linear, excess of the largest error in points: {}", steps.join(", ")));
        }
        Conclusion { claim, verdict: tally.verdict(), evidence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(cells: &[(i64, &str, &str, &str, [f64; 2])]) -> Findings {
        let cell = |&(h, prior, method, metric, values): &(i64, &str, &str, &str, [f64; 2])| {
            let key = (h, prior.to_owned(), method.to_owned(), metric.to_owned());
            (key, [(1, values[0]), (2, values[1])].into())
        };
        Findings { pairs: cells.iter().map(cell).collect(), images: 10_000 }
    }

    #[test]
    fn a_verdict_follows_the_numbers_either_way() {
        let run = |wa: [f64; 2]| {
            let linear = (50, "none", "linear", "mean_error", [20.0, 22.0]);
            findings(&[linear, (50, "none", "linear+wa", "mean_error", wa)]).better_methods().verdict
        };
        assert_eq!(run([5.0, 6.0]), "supported: 1 comparisons for it, 0 against, 0 open");
        assert_eq!(run([35.0, 33.0]), "contradicted: 0 comparisons for it, 1 against, 0 open");
        assert_eq!(run([20.1, 22.1]), "not decided: 0 comparisons for it, 0 against, 1 open");
    }

    #[test]
    fn pairs_that_disagree_decide_nothing_however_large_their_mean() {
        let linear = (10, "none", "linear", "excess_error", [50.0, 10.0]);
        let dropout = (10, "dropout 0.5", "linear", "excess_error", [13.5, 13.5]);
        let max = |prior| (10, prior, "linear", "max_error", [40.0, 40.0]);
        let verdict = findings(&[linear, dropout, max("none"), max("dropout 0.5")]).prior().verdict;
        assert_eq!(verdict, "not decided: 0 comparisons for it, 0 against, 1 open");
    }

    #[test]
    fn one_pair_decides_nothing() {
        let mut one = findings(&[
            (50, "none", "linear", "mean_error", [20.0, 0.0]),
            (50, "none", "linear+wa", "mean_error", [5.0, 0.0]),
        ]);
        one.pairs.values_mut().for_each(|pairs| pairs.retain(|pair, _| *pair == 1));
        assert!(one.better_methods().verdict.starts_with("not decided"));
    }

    #[test]
    fn width_compares_neighbouring_widths_and_needs_two() {
        let cells = |wide: f64| {
            findings(&[
                (10, "none", "linear", "excess_error", [40.0, 41.0]),
                (10, "none", "linear", "max_error", [45.0, 46.0]),
                (100, "none", "linear", "excess_error", [wide, wide + 1.0]),
                (100, "none", "linear", "max_error", [wide + 5.0, wide + 6.0]),
            ])
        };
        assert!(cells(8.0).width().verdict.starts_with("supported"));
        assert!(cells(60.0).width().verdict.starts_with("contradicted"));
        let mut alone = cells(8.0);
        alone.pairs.retain(|(hidden, ..), _| *hidden == 10);
        assert_eq!(alone.width().evidence, Vec::<String>::new());
    }

    #[test]
    fn one_variance_tests_nothing_about_informativeness() {
        let one = findings(&[(50, "normal 0.01", "linear", "excess_error", [1.0, 2.0])]);
        assert_eq!(one.informative_prior().verdict, "not tested by this run");
    }
}
