//! The talk's conclusions, each held against the run's own numbers.
//!
//! A verdict follows from a stated count over cells, never from a judgement made beforehand. Means over pairs on the test
//! split are compared; cells where the difference lies within the noise of the test error count for neither side.

use super::plot::by_strength;
use super::tables::Mean;
use super::talk::title;
use crate::study::stats::binomial_standard_error;
use std::collections::{BTreeMap, BTreeSet};

/// Metrics on the test split by (width, prior, method, metric).
pub(super) struct Findings {
    pub(super) cells: BTreeMap<(i64, String, String, String), Mean>,
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

/// How many cells speak for a claim, against it, or lie within the noise.
#[derive(Default)]
struct Tally {
    with: usize,
    against: usize,
    open: usize,
}

impl Tally {
    fn count(&mut self, difference: f64, noise: f64) {
        match difference {
            d if d > noise => self.with += 1,
            d if d < -noise => self.against += 1,
            _ => self.open += 1,
        }
    }

    fn verdict(&self) -> String {
        let Tally { with, against, open } = self;
        let word = match (with, against) {
            (0, 0) => "not decided",
            (_, 0) => "supported",
            (0, _) => "contradicted",
            (w, a) if *w >= 4 * a => "mostly supported",
            (w, a) if *a >= 4 * w => "mostly contradicted",
            _ => "mixed",
        };
        format!("{word}: {with} comparisons for it, {against} against, {open} within the noise")
    }
}

impl Findings {
    fn mean(&self, hidden: i64, prior: &str, method: &str, metric: &str) -> Option<f64> {
        let key = (hidden, prior.to_owned(), method.to_owned(), metric.to_owned());
        self.cells.get(&key).map(|cell| cell.mean)
    }

    fn widths(&self) -> Vec<i64> {
        self.cells.keys().map(|(hidden, ..)| *hidden).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn priors(&self) -> Vec<String> {
        by_strength(self.cells.keys().map(|(_, prior, ..)| prior.clone()))
    }

    /// Two standard errors of a difference between two errors on the same number of test images.
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
            let (mut sums, mut cells) = ((0.0, 0.0), 0);
            for hidden in self.widths() {
                for prior in self.priors() {
                    let mean = |method| self.mean(hidden, &prior, method, "mean_error");
                    let (Some(new), Some(old)) = (mean(better), mean(base)) else { continue };
                    tally.count(old - new, self.noise(old, new));
                    sums = (sums.0 + old, sums.1 + new);
                    cells += 1;
                }
            }
            if cells > 0 {
                let n = f64::from(cells);
                evidence.push(format!(
                    "{} instead of {}: from a mean error along the curve of {:.2} % to {:.2} %, averaged over {cells} cells",
                    title(better),
                    title(base),
                    sums.0 / n,
                    sums.1 / n,
                ));
            }
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
        for method in ["linear", "arc", "linear+wa", "linear+ot"] {
            let excess: Vec<(i64, f64, f64)> = widths
                .iter()
                .filter_map(|&hidden| {
                    let excess = self.mean(hidden, "none", method, "excess_error")?;
                    Some((hidden, excess, self.mean(hidden, "none", method, "max_error")?))
                })
                .collect();
            for pair in excess.windows(2) {
                tally.count(pair[0].1 - pair[1].1, self.noise(pair[0].2, pair[1].2));
            }
            if let (Some(first), Some(last)) = (excess.first(), excess.last()) {
                evidence.push(format!(
                    "{}: the curve's largest error exceeds its worse end by {:.2} points at h = {}, by {:.2} at h = {}",
                    title(method),
                    first.1,
                    first.0,
                    last.1,
                    last.0
                ));
            }
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
            let mut this = Tally::default();
            for hidden in self.widths() {
                for method in ["linear", "arc"] {
                    let excess = |prior| self.mean(hidden, prior, method, "excess_error");
                    let most = |prior| self.mean(hidden, prior, method, "max_error").unwrap_or(0.0);
                    if let (Some(without), Some(with)) = (excess("none"), excess(prior)) {
                        this.count(without - with, self.noise(most("none"), most(prior)));
                    }
                }
            }
            evidence.push(format!(
                "{prior}: the largest error's excess over the ends is lower than without prior in {} comparisons \
                 (Linear and Arc, each width), higher in {}, within the noise in {}",
                this.with, this.against, this.open
            ));
            tally.with += this.with;
            tally.against += this.against;
            tally.open += this.open;
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
                vec![format!("this run has {} normal priors; the profile `paper` has the whole axis", normal.len())];
            return Conclusion { claim, verdict: "not tested by this run".to_owned(), evidence };
        }
        let mut tally = Tally::default();
        let mut evidence = Vec::new();
        for hidden in self.widths() {
            let line: Vec<(String, f64, f64)> = normal
                .iter()
                .filter_map(|prior| {
                    let barrier = self.mean(hidden, prior, "linear", "excess_error")?;
                    Some((prior.clone(), barrier, self.mean(hidden, prior, "linear", "max_error")?))
                })
                .collect();
            for pair in line.windows(2) {
                tally.count(pair[0].1 - pair[1].1, self.noise(pair[0].2, pair[1].2));
            }
            let steps: Vec<String> = line.iter().map(|(prior, excess, _)| format!("{prior}: {excess:.2}")).collect();
            evidence.push(format!("h = {hidden}, Linear, excess of the largest error in points: {}", steps.join(", ")));
        }
        Conclusion { claim, verdict: tally.verdict(), evidence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(cells: &[(i64, &str, &str, &str, f64)]) -> Findings {
        let mean = |mean| Mean { count: 2, mean, interval: None };
        let cell = |&(h, prior, method, metric, x): &(i64, &str, &str, &str, f64)| {
            ((h, prior.to_owned(), method.to_owned(), metric.to_owned()), mean(x))
        };
        Findings { cells: cells.iter().map(cell).collect(), images: 10_000 }
    }

    #[test]
    fn a_verdict_follows_the_numbers_either_way() {
        let run = |wa: f64| {
            findings(&[(50, "none", "linear", "mean_error", 20.0), (50, "none", "linear+wa", "mean_error", wa)])
                .better_methods()
                .verdict
        };
        assert_eq!(run(5.0), "supported: 1 comparisons for it, 0 against, 0 within the noise");
        assert_eq!(run(35.0), "contradicted: 0 comparisons for it, 1 against, 0 within the noise");
        assert_eq!(run(20.1), "not decided: 0 comparisons for it, 0 against, 1 within the noise");
    }

    #[test]
    fn width_compares_neighbouring_widths() {
        let cells = |wide: f64| {
            findings(&[
                (10, "none", "linear", "excess_error", 40.0),
                (10, "none", "linear", "max_error", 45.0),
                (100, "none", "linear", "excess_error", wide),
                (100, "none", "linear", "max_error", wide + 5.0),
            ])
        };
        assert!(cells(8.0).width().verdict.starts_with("supported"));
        assert!(cells(60.0).width().verdict.starts_with("contradicted"));
        assert_eq!(
            cells(8.0).width().evidence,
            ["Linear: the curve's largest error exceeds its worse end by 40.00 points at h = 10, by 8.00 at h = 100"]
        );
    }

    #[test]
    fn one_variance_tests_nothing_about_informativeness() {
        let one = findings(&[(50, "normal 0.01", "linear", "excess_error", 1.0)]);
        assert_eq!(one.informative_prior().verdict, "not tested by this run");
    }
}
