//! The talk's conclusions and one on depth, each tested with the run's own numbers on the test
//! split.
//!
//! A verdict follows from a few contrasts between the methods, priors and widths of the run.

use super::contrasts::{Change, Contrast, Effect, Finding, PriorMethod, required};
use crate::stage::rows::{Metric, NetFamily, PairMetrics, hiddens, priors};
use crate::stage::talk;
use crate::study::curve::Method;
use crate::study::net::{Hidden, Prior, PriorKind};
use crate::study::stats::{NotFinite, holm};
use std::collections::BTreeSet;

/// The relative difference up to which the variances of two priors count as the same.
const MATCHED: f64 = 0.05;

/// The numbers that the conclusions are tested with.
pub(super) struct Tests {
    pub(super) pairs: PairMetrics,
    /// The number of test images, for the noise of an error.
    pub(super) images: usize,
}

/// The result of the contrasts of a claim, which predicts each of them to be lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is no contrast.
    NotTested,
    /// No contrast has enough pairs.
    TooFewPairs,
    /// None is lower or higher.
    Inconclusive,
    /// All are lower.
    Lower,
    /// All are higher.
    Higher,
    /// Some are lower, none is higher.
    PartlyLower,
    /// Some are higher, none is lower.
    PartlyHigher,
    /// Some are lower, some are higher.
    Mixed,
}

/// A claim and the verdict on it.
#[derive(Debug, PartialEq)]
pub(super) struct Conclusion {
    /// The talk's claim, translated, or a hypothesis of this study.
    pub(super) claim: &'static str,
    /// Whether the claim is the talk's.
    pub(super) of_talk: bool,
    pub(super) outcome: Outcome,
    /// The verdict, with the number of contrasts behind it.
    pub(super) verdict: String,
    /// The contrasts that the verdict follows from.
    pub(super) tested: Vec<Finding>,
    /// Contrasts beside them, without a test.
    pub(super) described: Vec<Finding>,
    /// What is not compared.
    pub(super) notes: Vec<String>,
}

/// The talk's four conclusions, one on learned curves, and one on depth.
#[derive(Debug, PartialEq)]
pub(super) struct Conclusions {
    pub(super) methods: Conclusion,
    pub(super) bound: Conclusion,
    pub(super) widths: Conclusion,
    pub(super) depth: Conclusion,
    pub(super) priors: Conclusion,
    pub(super) informative: Conclusion,
}

impl Tests {
    /// All conclusions.
    ///
    /// # Errors
    /// If a metric is not finite.
    pub(super) fn conclusions(&self) -> Result<Conclusions, NotFinite> {
        Ok(Conclusions {
            methods: self.better_methods()?,
            bound: self.bound()?,
            widths: self.width()?,
            depth: self.depth()?,
            priors: self.prior()?,
            informative: self.informative_prior()?,
        })
    }

    fn better_methods(&self) -> Result<Conclusion, NotFinite> {
        let (mut family, mut notes) = (Vec::new(), Vec::new());
        let methods = self.methods();
        for &method in methods.iter().filter(|method| !method.is_base()) {
            let base = method.base();
            let (title, base_title) = (method.title(), base.title());
            if !methods.contains(&base) {
                notes.push(format!("{title}: not compared, the run has no {base_title}"));
                continue;
            }
            let changes: Vec<[PriorMethod; 2]> =
                self.priors().into_iter().map(|prior| [(prior, base), (prior, method)]).collect();
            for metric in [Metric::MaxError, Metric::MeanErrorByLength] {
                let change = Change::Method([base, method]);
                family.push(self.within_pairs(change, metric, &changes)?);
            }
        }
        let claim = match methods.iter().any(|method| method.repair) {
            false => "More elaborate methods (WA, OT) find curves with a lower mean error.",
            true => "More elaborate methods (WA, OT, REPAIR) find curves with a lower mean error.",
        };
        let missing = "the run has no method with WA or OT together with its base curve";
        Ok(Conclusion { notes, ..self.judge(claim, &family, missing) })
    }

    /// The learned curve beside every other method, on the pairs that both join.
    fn bound(&self) -> Result<Conclusion, NotFinite> {
        let methods = self.methods();
        let mut family = Vec::new();
        if let Some(bound) = Method::bound(&methods) {
            for method in methods.into_iter().filter(|method| *method != bound) {
                let priors = self.priors().into_iter();
                let changes: Vec<[PriorMethod; 2]> =
                    priors.map(|prior| [(prior, method), (prior, bound)]).collect();
                let change = Change::Method([method, bound]);
                family.push(self.within_pairs(change, Metric::MaxError, &changes)?);
            }
        }
        let claim = "A learned curve has a lower largest error than every other curve.";
        let judged = self.judge(claim, &family, "the run has no learned curve beside another one");
        Ok(Conclusion { of_talk: false, ..judged })
    }

    fn width(&self) -> Result<Conclusion, NotFinite> {
        let mut family = Vec::new();
        for change in self.ends(NetFamily::by_width, Change::Width) {
            let priors = self.priors();
            let metric = Metric::ExcessError;
            family.push(Contrast::between_nets(&self.pairs, priors, change, metric)?);
        }
        let claim = "With more neurons, the local minima of the loss cease to be isolated.";
        Ok(self.judge(claim, &family, "the run has no method at two widths"))
    }

    fn depth(&self) -> Result<Conclusion, NotFinite> {
        let (mut family, mut described) = (Vec::new(), Vec::new());
        for change in self.ends(NetFamily::by_depth, Change::Depth) {
            let contrast =
                |metric| Contrast::between_nets(&self.pairs, self.priors(), change, metric);
            family.push(contrast(Metric::ExcessError)?);
            for metric in [Metric::MaxError, Metric::LossBarrier] {
                described.push(contrast(metric)?.finding(None, self.images));
            }
        }
        let claim = "With more hidden layers of the same width, the local minima of the loss are \
                     less isolated.";
        let missing = "the run has no method at two depths of one width";
        let judged = self.judge(claim, &family, missing);
        Ok(Conclusion { described, of_talk: false, ..judged })
    }

    /// The changes from the first to the last nets of each family with each method.
    fn ends(
        &self,
        families: fn(Vec<Hidden>) -> Vec<NetFamily>,
        change: fn(Method, [Hidden; 2]) -> Change,
    ) -> Vec<Change> {
        let of_method = |method: Method| {
            let measured = self
                .pairs
                .keys()
                .filter(|(group, metric)| group.method == method && *metric == Metric::ExcessError);
            let hiddens = hiddens(measured.map(|(group, _)| group)).into_iter().collect();
            let ends = families(hiddens).into_iter().filter_map(|family| family.ends());
            ends.map(|ends| change(method, ends)).collect::<Vec<_>>()
        };
        self.methods().into_iter().flat_map(of_method).collect()
    }

    fn prior(&self) -> Result<Conclusion, NotFinite> {
        let (mut family, mut described) = (Vec::new(), Vec::new());
        let priors = self.priors();
        if priors.contains(&Prior::None) {
            for prior in priors.into_iter().filter(|prior| *prior != Prior::None) {
                let changes = self.for_each_method(Prior::None, prior);
                let change = Change::Prior([Prior::None, prior]);
                family.push(self.within_pairs(change, Metric::ExcessError, &changes)?);
                for metric in [Metric::MaxError, Metric::MeanErrorByLength, Metric::LossBarrier] {
                    let other = self.within_pairs(change, metric, &changes)?;
                    described.push(other.finding(None, self.images));
                }
            }
        }
        let claim = "A prior makes the parameter space smoother and connects the local minima \
                     better.";
        let missing = "the run does not have nets both with and without a prior";
        Ok(Conclusion { described, ..self.judge(claim, &family, missing) })
    }

    fn informative_prior(&self) -> Result<Conclusion, NotFinite> {
        let mut family = Vec::new();
        for &kind in PriorKind::ALL {
            // Only the variance of a density measures how informative a prior is; the probability
            // of dropout does not.
            let priors: Vec<Prior> = self
                .priors()
                .into_iter()
                .filter(|prior| prior.kind() == kind && prior.variance().is_some())
                .collect();
            for step in priors.windows(2) {
                let changes = self.for_each_method(step[0], step[1]);
                let change = Change::Prior([step[0], step[1]]);
                family.push(self.within_pairs(change, Metric::ExcessError, &changes)?);
            }
        }
        let claim = "The more informative the prior, the smoother the parameter space.";
        let missing = "the run does not have two priors of one kind with different variances; the \
                       profile `paper` does";
        Ok(self.judge(claim, &family, missing))
    }

    /// The excess error with a Laplace prior relative to that with a normal prior of about the same
    /// variance, for each such pair of priors: whether the shape of the density matters.
    ///
    /// # Errors
    /// If a metric is not finite.
    pub(super) fn matched_priors(&self) -> Result<Vec<Finding>, NotFinite> {
        let of_kind = |kind: PriorKind| {
            let priors = self.priors().into_iter().filter(move |prior| prior.kind() == kind);
            priors.filter_map(|prior| Some((prior, prior.variance()?))).collect::<Vec<_>>()
        };
        let mut family = Vec::new();
        for (normal, variance) in of_kind(PriorKind::Normal) {
            for (laplace, other) in of_kind(PriorKind::Laplace) {
                if libm::fabs(other / variance - 1.0) <= MATCHED {
                    let changes = self.for_each_method(normal, laplace);
                    let change = Change::Prior([normal, laplace]);
                    family.push(self.within_pairs(change, Metric::ExcessError, &changes)?);
                }
            }
        }
        Ok(self.judge("", &family, "").tested)
    }

    fn within_pairs(
        &self,
        change: Change,
        metric: Metric,
        changes: &[[PriorMethod; 2]],
    ) -> Result<Contrast, NotFinite> {
        let hiddens = hiddens(self.pairs.keys().map(|(group, _)| group));
        Contrast::within_pairs(&self.pairs, hiddens, (change, metric), changes)
    }

    fn priors(&self) -> BTreeSet<Prior> {
        priors(self.pairs.keys().map(|(group, _)| group))
    }

    fn methods(&self) -> Vec<Method> {
        talk::in_order(self.pairs.keys().map(|(group, _)| group.method))
    }

    /// The change from one prior to another, with each method.
    fn for_each_method(&self, before: Prior, after: Prior) -> Vec<[PriorMethod; 2]> {
        self.methods().into_iter().map(|method| [(before, method), (after, method)]).collect()
    }

    /// The verdict of a family of contrasts on a claim that predicts each of them to be lower.
    /// `missing` is the reason for an empty family.
    fn judge(&self, claim: &'static str, family: &[Contrast], missing: &str) -> Conclusion {
        let ratios = || family.iter().filter_map(|contrast| contrast.log_ratio);
        let mut adjusted = holm(&ratios().map(|ratio| ratio.p()).collect::<Vec<_>>()).into_iter();
        let finding = |contrast: &Contrast| {
            let p = contrast.log_ratio.and_then(|_| adjusted.next());
            contrast.finding(p, self.images)
        };
        let tested: Vec<Finding> = family.iter().map(finding).collect();
        let count = |effect| tested.iter().filter(|finding| finding.effect == effect).count();
        let (lower, higher) = (count(Effect::Lower), count(Effect::Higher));
        let counts = format!("{lower} of {} contrasts lower, {higher} higher", family.len());
        let outcome = match (lower, higher) {
            _ if family.is_empty() => Outcome::NotTested,
            _ if ratios().next().is_none() => Outcome::TooFewPairs,
            (0, 0) => Outcome::Inconclusive,
            (_, 0) if lower == family.len() => Outcome::Lower,
            (0, _) if higher == family.len() => Outcome::Higher,
            (_, 0) => Outcome::PartlyLower,
            (0, _) => Outcome::PartlyHigher,
            _ => Outcome::Mixed,
        };
        let verdict = match outcome {
            Outcome::NotTested => format!("not tested: {missing}"),
            Outcome::TooFewPairs => {
                format!("inconclusive: a contrast requires {}", required())
            }
            Outcome::Inconclusive => format!("inconclusive: {counts}"),
            Outcome::Lower => format!("supported: {counts}"),
            Outcome::Higher => format!("contradicted: {counts}"),
            Outcome::PartlyLower => format!("partly supported: {counts}"),
            Outcome::PartlyHigher => format!("partly contradicted: {counts}"),
            Outcome::Mixed => format!("mixed: {counts}"),
        };
        Conclusion {
            claim,
            of_talk: true,
            outcome,
            verdict,
            tested,
            described: Vec::new(),
            notes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::rows::CurveGroup;

    fn width(hidden: i64) -> Hidden {
        hidden.to_string().parse().expect("a width")
    }

    /// Tests of (width, prior, method, metric, values by pair).
    fn findings(metrics: &[(i64, &str, &str, Metric, &[f64])]) -> Tests {
        let entry = |&(hidden, prior, method, metric, values): &(i64, &str, &str, _, &[f64])| {
            let (prior, method) = (prior.parse().expect("a prior"), method.parse().expect("one"));
            let group = CurveGroup { hidden: width(hidden), prior, method };
            let pairs = (1..).map(|pair: usize| pair.to_string().parse().expect("a pair"));
            ((group, metric), pairs.zip(values.iter().copied()).collect())
        };
        Tests { pairs: metrics.iter().map(entry).collect(), images: 10_000 }
    }

    /// The findings of a conclusion as lines: the cells of the row, and the note.
    fn lines(conclusion: &Conclusion) -> Vec<String> {
        let line = |finding: &Finding| {
            let row = finding.row();
            let cells = row.iter().map(|cell| cell.text.as_str()).filter(|text| !text.is_empty());
            let notes = Some(row[0].note.as_str()).filter(|note| !note.is_empty());
            cells.chain(notes).collect::<Vec<_>>().join(" | ")
        };
        conclusion.tested.iter().chain(&conclusion.described).map(line).collect()
    }

    const COMPARED: [Metric; 2] = [Metric::MaxError, Metric::MeanErrorByLength];

    /// The conclusion on methods at h = 50 without prior, with the same values for both metrics.
    fn methods(values: &[(&str, &[f64])]) -> Conclusion {
        let metrics: Vec<_> = values
            .iter()
            .flat_map(|(method, values)| COMPARED.map(|m| (50, "none", *method, m, *values)))
            .collect();
        findings(&metrics).better_methods().expect("finite")
    }

    /// Tests of excess errors; the largest errors are 2 points above.
    fn excess(values: &[(i64, &str, &str, &[f64])]) -> Tests {
        let mut found = findings(
            &values
                .iter()
                .map(|&(h, prior, method, values)| (h, prior, method, Metric::ExcessError, values))
                .collect::<Vec<_>>(),
        );
        for ((group, _), pairs) in found.pairs.clone() {
            let errors = pairs.into_iter().map(|(pair, excess)| (pair, excess + 2.0)).collect();
            found.pairs.insert((group, Metric::MaxError), errors);
        }
        found
    }

    #[test]
    fn a_verdict_depends_on_the_direction_of_the_effect() {
        let verdict = |wa| methods(&[("linear", &[20.0, 22.0, 24.0]), ("linear+wa", wa)]).verdict;
        assert_eq!(verdict(&[5.0, 6.0, 6.5]), "supported: 2 of 2 contrasts lower, 0 higher");
        assert_eq!(verdict(&[40.0, 46.0, 48.5]), "contradicted: 0 of 2 contrasts lower, 2 higher");
        assert_eq!(verdict(&[20.3, 21.9, 23.8]), "inconclusive: 0 of 2 contrasts lower, 0 higher");
    }

    /// SciPy 1.17.1, with x[h][prior] the values without OT and y those with:
    /// ```python
    /// r = {h: np.mean([np.log(y[h][p] / x[h][p]) for p in (0, 1)], axis=0) for h in (10, 50)}
    /// V = np.array([v.var(ddof=1) / 3 for v in r.values()])
    /// m = np.mean([v.mean() for v in r.values()])
    /// se, df = V.sum() ** .5 / 2, V.sum() ** 2 / (V * V / 2).sum(); q = t.ppf(.975, df)
    /// np.exp([m, m - q * se, m + q * se]), 2 * 2 * t.sf(abs(m / se), df)
    /// ```
    #[test]
    fn the_ratio_is_pooled_over_priors_pairs_and_widths() {
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
            .flat_map(|&(h, prior, method, x)| COMPARED.map(|m| (h, prior, method, m, x)));
        let found = findings(&both.collect::<Vec<_>>()).better_methods().expect("finite");
        assert_eq!(
            lines(&found),
            [
                "Arc + OT vs. Arc | largest error | 0.36 | 0.32 to 0.41 | 5e-5 | lower",
                "Arc + OT vs. Arc | mean error by arc length | 0.36 | 0.32 to 0.41 | 5e-5 | lower",
            ]
        );
    }

    #[test]
    fn a_large_mean_of_pairs_that_disagree_is_inconclusive() {
        let found = excess(&[
            (10, "none", "linear", &[50.0, 10.0, 14.0]),
            (10, "dropout 0.5", "linear", &[13.5, 13.5, 13.5]),
        ]);
        assert_eq!(
            found.prior().unwrap().verdict,
            "inconclusive: 0 of 1 contrasts lower, 0 higher"
        );
    }

    #[test]
    fn two_pairs_are_inconclusive() {
        let found = methods(&[("linear", &[20.0, 22.0]), ("linear+wa", &[5.0, 6.0])]);
        let verdict = "inconclusive: a contrast requires at least 3 pairs of one width that share \
                       no net, or 4 nets";
        assert_eq!(found.verdict, verdict);
        let line = "Linear + WA vs. Linear | largest error | 0.26 | inconclusive, too few pairs | \
                    excluded: h = 50 (2 pairs, at least 3 are required)";
        assert_eq!(lines(&found)[0], line);
    }

    #[test]
    fn a_consistent_difference_within_the_noise_of_the_test_set_is_inconclusive() {
        let found = methods(&[("linear", &[2.00, 2.01, 2.02]), ("linear+wa", &[1.90, 1.91, 1.92])]);
        assert_eq!(found.verdict, "inconclusive: 0 of 2 contrasts lower, 0 higher");
        let noise = " | inconclusive | a difference of 0.10 points is within the noise of the test \
                     set, 0.39";
        assert!(lines(&found)[0].ends_with(noise), "{}", lines(&found)[0]);
    }

    #[test]
    fn every_method_with_wa_or_ot_is_compared_or_listed() {
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
        let text = lines(&found).join("\n");
        for method in ["Rho-arc + OT vs. Rho-arc", "+ WA vs. Linear |"] {
            assert!(text.contains(method), "{method} in {text}");
        }
        assert_eq!((found.tested.len(), found.notes.len()), (2 * 3, 1));
        assert!(found.notes[0].contains("not compared, the run has no"), "{:?}", found.notes);
    }

    #[test]
    fn the_widest_width_is_compared_with_the_narrowest() {
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
            (alone.verdict.as_str(), alone.tested.len()),
            ("not tested: the run has no method at two widths", 0)
        );
    }

    /// Curves between nets with these hidden layers: the excess of each pair, and errors above it.
    #[expect(clippy::type_complexity, reason = "the columns of a table, used in this module")]
    fn of_nets(nets: &[(&str, &str, &str, &[(&str, f64)])]) -> Tests {
        let mut found = findings(&[]);
        for &(hidden, prior, method, values) in nets {
            let (hidden, prior) = (hidden.parse().expect("layers"), prior.parse().expect("one"));
            let group = CurveGroup { hidden, prior, method: method.parse().expect("a method") };
            let shifts =
                [(Metric::ExcessError, 0.0), (Metric::MaxError, 2.0), (Metric::LossBarrier, 0.0)];
            for (metric, shift) in shifts {
                let shifted =
                    values.iter().map(|(pair, x)| (pair.parse().expect("a pair"), x + shift));
                found.pairs.insert((group, metric), shifted.collect());
            }
        }
        found
    }

    const FOUR_NETS: [&str; 6] = ["1:2", "1:3", "1:4", "2:3", "2:4", "3:4"];

    fn all_pairs(values: [f64; 6]) -> Vec<(&'static str, f64)> {
        FOUR_NETS.into_iter().zip(values).collect()
    }

    #[test]
    fn the_deepest_nets_are_compared_with_the_shallowest_of_the_same_width() {
        let (shallow, deep) = (
            all_pairs([9.0, 9.5, 8.0, 9.0, 8.5, 9.0]),
            all_pairs([30.0, 31.0, 33.0, 29.0, 30.0, 31.0]),
        );
        let found = of_nets(&[
            ("5", "none", "linear", &shallow),
            ("5x5", "none", "linear", &all_pairs([1.0; 6])),
            ("5x5x5", "none", "linear", &deep),
            ("5x4", "none", "linear", &deep),
            ("5x5x5+bias", "none", "linear", &deep),
        ]);
        let conclusions = found.conclusions().unwrap();
        let depth = &conclusions.depth;
        assert_eq!(depth.verdict, "contradicted: 0 of 1 contrasts lower, 1 higher");
        assert!(!depth.of_talk);
        let lines = lines(depth);
        assert!(lines[0].starts_with("Linear, h = 5x5x5 vs. h = 5 | excess error | 3.47 | "));
        assert!(lines[2].contains("barrier of the loss") && lines[2].ends_with("not tested"));
        assert_eq!(conclusions.widths.outcome, Outcome::NotTested, "one width");
    }

    #[test]
    fn pairs_that_share_nets_are_tested_over_nets() {
        let x = all_pairs([20.0, 22.0, 24.0, 21.0, 23.0, 25.0]);
        let y = all_pairs([10.0, 12.0, 11.0, 11.0, 12.0, 13.0]);
        let found = of_nets(&[("50", "none", "linear", &x), ("50", "dropout 0.5", "linear", &y)]);
        let conclusion = found.prior().unwrap();
        assert_eq!(conclusion.verdict, "supported: 1 of 1 contrasts lower, 0 higher");
        let some = |pairs: &[(&'static str, f64)]| -> Vec<(&'static str, f64)> {
            pairs.iter().copied().filter(|(pair, _)| !pair.contains('4')).collect()
        };
        let (x, y) = (some(&x), some(&y));
        let found = of_nets(&[("50", "none", "linear", &x), ("50", "dropout 0.5", "linear", &y)]);
        let line = lines(&found.prior().unwrap()).remove(0);
        let note = "excluded: h = 50 (3 pairs of 3 nets, at least 4 nets are required)";
        assert!(line.ends_with(note), "{line}");
    }

    #[test]
    fn nets_with_and_without_biases_are_averaged_and_not_counted_twice() {
        let [x, y] = [[20.0, 22.0, 24.0], [10.0, 12.0, 11.0]]
            .map(|values| ["1", "2", "3"].into_iter().zip(values).collect::<Vec<_>>());
        let one = [("50", "none", "linear", &x[..]), ("50", "dropout 0.5", "linear", &y[..])];
        let twice = one.map(|(_, prior, method, x)| ("50+bias", prior, method, x));
        let [one, both] =
            [of_nets(&one), of_nets(&[one, twice].concat())].map(|found| found.prior().unwrap());
        assert_eq!(one.tested[0].ratio, both.tested[0].ratio);
        assert_eq!(one.tested[0].p, both.tested[0].p);
    }

    #[test]
    fn an_excess_of_zero_or_less_is_excluded_and_listed() {
        let cells: [(i64, &str, &str, &[f64]); 4] = [
            (10, "none", "linear", &[40.0, 41.0, 44.0, 42.0]),
            (10, "dropout 0.5", "linear", &[20.0, 19.0, 0.0, 21.0]),
            (50, "none", "linear", &[9.0, 8.0, 9.5, 8.5]),
            (50, "dropout 0.5", "linear", &[4.0, 4.1, 4.4, 4.2]),
        ];
        let found = excess(&cells);
        let named = " | excluded: Linear, dropout 0.5, h = 10, pair 3 (0 or less)";
        let (prior, width) = (found.prior().unwrap(), found.width().unwrap());
        assert_eq!((prior.verdict.as_str(), width.verdict.as_str()), {
            let supported = "supported: 1 of 1 contrasts lower, 0 higher";
            (supported, supported)
        });
        for conclusion in [&prior, &width] {
            assert!(lines(conclusion)[0].ends_with(named), "{}", lines(conclusion)[0]);
        }
        // The prior is excluded at both widths.
        let without: Vec<_> = cells.into_iter().filter(|(_, prior, ..)| *prior == "none").collect();
        let line = lines(&excess(&without).width().unwrap()).remove(0);
        assert_eq!(lines(&width)[0], line + named);
    }

    #[test]
    fn a_curve_that_is_missing_at_one_width_is_listed() {
        let found = excess(&[
            (10, "none", "linear", &[40.0, 41.0, 44.0]),
            (10, "dropout 0.5", "linear", &[20.0, 19.0, 21.0]),
            (50, "none", "linear", &[9.0, 8.0, 9.5]),
        ]);
        let line = lines(&found.prior().unwrap()).remove(0);
        let missing = "excluded: Linear, dropout 0.5, h = 50 (not in the run); h = 50 (0 pairs, at \
                       least 3 are required)";
        assert!(line.ends_with(missing), "{line}");
    }

    #[test]
    fn a_grid_with_many_gaps_has_their_number_instead_of_a_list() {
        let x: &[f64] = &[40.0, 41.0, 44.0];
        let y: &[f64] = &[20.0, 19.0, 21.0];
        let full: Vec<(i64, &str, &str, &[f64])> = [10, 20, 50, 100, 200, 500]
            .into_iter()
            .map(|h| (h, "none", "linear", x))
            .chain([(10, "dropout 0.5", "linear", y)])
            .collect();
        let line = lines(&excess(&full).prior().unwrap()).remove(0);
        let gaps = "excluded: 5 of 6 combinations of width and method (not in the run); h = 20 (0 \
                    pairs, at least 3 are required); h = 50 ";
        assert!(line.contains(gaps), "{line}");
    }

    #[test]
    fn priors_are_compared_by_the_excess_error() {
        let mut found = excess(&[
            (50, "none", "linear", &[20.0, 21.0, 22.0]),
            (50, "normal 0.01", "linear", &[10.0, 10.2, 11.1]),
        ]);
        let worse = [("1", 23.0), ("2", 24.0), ("3", 25.5)];
        let worse = worse.map(|(pair, x)| (pair.parse().expect("a pair"), x)).into();
        let prior = PriorKind::Normal.with(Some(0.01)).expect("a variance");
        let group = CurveGroup { hidden: width(50), prior, method: found.methods()[0] };
        found.pairs.insert((group, Metric::MaxError), worse);
        let conclusion = found.prior().unwrap();
        assert!(conclusion.verdict.starts_with("supported"), "{conclusion:?}");
        let line = lines(&conclusion).remove(1);
        assert!(line.starts_with("normal 0.01 vs. none | largest error | 1.05 | "), "{line}");
        assert!(line.ends_with(" | not tested"), "{line}");
    }

    #[test]
    fn a_laplace_prior_is_compared_with_a_normal_one_of_the_same_variance_alone() {
        let cells = [
            (50, "normal 0.1", "linear", &[9.0, 9.1, 9.4][..]),
            (50, "normal 0.01", "linear", &[6.0, 6.2, 6.3]),
            (50, "laplace 0.07", "linear", &[2.0, 2.1, 2.2]),
            (50, "dropout 0.5", "linear", &[1.0, 1.1, 1.2]),
        ];
        let found = excess(&cells).matched_priors().unwrap();
        let changes: Vec<Change> = found.iter().map(|finding| finding.change).collect();
        let prior = |name: &str| name.parse().unwrap();
        assert_eq!(changes, [Change::Prior([prior("normal 0.01"), prior("laplace 0.07")])]);
        assert_eq!(found[0].effect, Effect::Lower);
        assert_eq!(excess(&cells[2..]).matched_priors().unwrap(), []);
    }

    #[test]
    fn priors_of_one_kind_are_compared_with_the_next_more_informative_one() {
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
        let line = lines(&conclusion).remove(1);
        let start = "normal 0.001 vs. normal 0.01 | excess error | 0.50 | ";
        assert!(line.starts_with(start), "{line}");
        assert!(
            excess(&cells[2..]).informative_prior().unwrap().verdict.starts_with("not tested: ")
        );
    }

    #[test]
    fn without_results_no_claim_is_tested() {
        let Conclusions { methods, bound, widths, depth, priors, informative } =
            findings(&[]).conclusions().unwrap();
        for conclusion in [methods, bound, widths, depth, priors, informative] {
            assert!(conclusion.verdict.starts_with("not tested: "), "{conclusion:?}");
        }
    }
}
