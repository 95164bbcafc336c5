//! Ensembles of two nets beside one net of the same training cost: a net of twice the width.
//!
//! A net without biases and with one hidden layer of 2h neurons has as many weights as two of h
//! neurons, and its training takes as many multiplications and additions for each image. The nets
//! of two widths are independent, so that the comparison is Welch's. Over several widths it is not
//! a mean of independent ratios: the nets of width 100 are the single nets beside those of 50, and
//! the pairs beside those of 200. Their two parts are therefore added within a pair first.

use super::{Contrast, adjust, mean_of, ratios};
use crate::report::document::{Cell, Column, TableBlock};
use crate::report::table::Align;
use crate::stage::ensemble::results::{ByPair, Ensemble, EnsembleMetric, Ensembles};
use crate::stage::report::contrasts::{Effect, two_decimals};
use crate::stage::report::full_tables::hidden_cell;
use crate::stage::report::measured::examples;
use crate::stage::report::sentences::{Sentence, curve_name, list, prior_name};
use crate::stage::rows::{is_plain, samples};
use crate::study::curve::ensemble::EnsembleKind;
use crate::study::net::{Hidden, Prior};
use crate::study::stats::{Estimate, NotFinite, Sample};
use std::collections::{BTreeMap, BTreeSet};

/// Nets of h and of 2h neurons.
type Double = [Hidden; 2];

/// Ensembles of two nets relative to one net of twice the width.
pub(super) struct EqualCost {
    doubles: Vec<Double>,
    /// The priors that the nets of all of these widths have.
    priors: BTreeSet<Prior>,
    /// Pooled over the widths and priors, three for each ensemble: one for each metric.
    pooled: Vec<Contrast>,
    /// By prior and width, three for each ensemble.
    single: Vec<(Prior, Double, [Contrast; 3])>,
}

/// The comparison at all widths whose double is in the run, with p adjusted by Holm's method for
/// its pooled ratios. `None` if there is no such width.
pub(super) fn compare(
    ensembles: &Ensembles,
    images: usize,
) -> Result<Option<EqualCost>, NotFinite> {
    let Some(one) = one_net(ensembles) else { return Ok(None) };
    let hiddens = ensembles.hiddens();
    let priors_of = |[narrow, wide]: &Double| -> BTreeSet<Prior> {
        let has = |hidden, kind, prior| {
            let all = ensembles.all();
            let mut of_kind = all.iter().filter(|ensemble| ensemble.kind == kind);
            of_kind.any(|&e| ensembles.by_pair((e, hidden, prior), EnsembleMetric::Error).is_some())
        };
        let priors = ensembles.priors().into_iter();
        let both = |&prior: &Prior| {
            has(*narrow, EnsembleKind::Independent, prior)
                && has(*wide, EnsembleKind::Single, prior)
        };
        priors.filter(both).collect()
    };
    let of = |narrow: &Hidden| {
        let twice = |wide: &&Hidden| {
            is_plain(wide) && wide.widths.single() == narrow.widths.single().map(|h| 2 * h)
        };
        let wide = hiddens.iter().find(twice).filter(|_| is_plain(narrow))?;
        Some([*narrow, *wide]).filter(|double| !priors_of(double).is_empty())
    };
    let doubles: Vec<Double> = hiddens.iter().filter_map(of).collect();
    let sets = doubles.iter().map(priors_of);
    let Some(priors) = sets.reduce(|a, b| a.intersection(&b).copied().collect()) else {
        return Ok(None);
    };
    let (mut pooled, mut single) = (Vec::new(), Vec::new());
    for ensemble in ensembles.all().into_iter().filter(has_two_trainings) {
        for metric in EnsembleMetric::ALL {
            let pair = (one, ensemble);
            let contrast = contrast(ensembles, pair, metric, (&doubles, &priors))?;
            pooled.push(Contrast { is_tested: true, ..contrast });
        }
        for double in &doubles {
            for prior in priors_of(double) {
                let of = |metric| {
                    let at = (std::slice::from_ref(double), &BTreeSet::from([prior]));
                    contrast(ensembles, (one, ensemble), metric, at)
                };
                let [error, loss, ece] = EnsembleMetric::ALL.map(of);
                let all = [error?, loss?, ece?];
                if all.iter().all(|contrast| contrast.observed.is_some()) {
                    single.push((prior, *double, all));
                }
            }
        }
    }
    single.sort_by_key(|(prior, double, _)| (*prior, *double));
    adjust(&mut pooled, images);
    Ok(Some(EqualCost { doubles, priors, pooled, single }))
}

/// One net alone.
fn one_net(ensembles: &Ensembles) -> Option<Ensemble> {
    ensembles.all().into_iter().find(|ensemble| ensemble.kind == EnsembleKind::Single)
}

/// Whether an ensemble costs the training of two nets: a learned curve costs its own on top.
fn has_two_trainings(ensemble: &Ensemble) -> bool {
    ensemble.kind != EnsembleKind::Single && !ensemble.method.is_some_and(|m| m.is_learned())
}

/// The logarithm of the metric of an ensemble over that of one net of twice the width, averaged
/// over `doubles` and priors. A width where the ensemble or the net has too few pairs, or a metric
/// of 0 or less, is left out.
fn contrast(
    ensembles: &Ensembles,
    (one, ensemble): (Ensemble, Ensemble),
    metric: EnsembleMetric,
    (doubles, priors): (&[Double], &BTreeSet<Prior>),
) -> Result<Contrast, NotFinite> {
    let values = |ensemble, hidden, prior| ensembles.by_pair((ensemble, hidden, prior), metric);
    let (mut observed, mut levels, mut left_out) = (Vec::new(), Vec::new(), 0);
    // The logarithms of both sides, by prior; in the ratios of the narrower nets those of the wider
    // ones have the opposite sign.
    let mut compared: Vec<(Double, [Vec<ByPair>; 2])> = Vec::new();
    for &double in doubles {
        let sides: Option<Vec<[&ByPair; 2]>> = priors
            .iter()
            .map(|&p| Some([values(one, double[1], p)?, values(ensemble, double[0], p)?]))
            .collect();
        let Some(sides) = sides.filter(|sides| !sides.is_empty()) else { continue };
        if sides.iter().flatten().any(|side| side.values().any(|x| *x <= 0.0)) {
            left_out += 1;
            continue;
        }
        let logs: [Vec<ByPair>; 2] =
            [0, 1].map(|side| sides.iter().map(|both| logarithms(both[side])).collect());
        let [(before, error_before), (after, error_after)] =
            [Sample::pooled(&samples(&logs[0])?), Sample::pooled(&samples(&logs[1])?)];
        observed.extend(after.zip(before).map(|(after, before)| after - before));
        if error_before.is_some() && error_after.is_some() {
            let level = |side: usize| {
                mean_of(sides.iter().map(|both| mean_of(both[side].values().copied())))
            };
            levels.push([level(0), level(1)]);
            compared.push((double, logs));
        }
    }
    let level = |side: usize| mean_of(levels.iter().map(|level: &[f64; 2]| level[side]));
    Ok(Contrast {
        from: one,
        to: ensemble,
        metric,
        is_tested: false,
        observed: Sample::of_nets(observed)?.mean(),
        log_ratio: pooled(&compared)?,
        levels: [level(0), level(1)],
        left_out,
        p: None,
        effect: Effect::Inconclusive,
    })
}

fn logarithms(values: &ByPair) -> ByPair {
    values.iter().map(|(pair, x)| (pair.clone(), libm::log(*x))).collect()
}

/// The mean log ratio with its error: a sum of independent terms, one for each width.
fn pooled(compared: &[(Double, [Vec<ByPair>; 2])]) -> Result<Option<Estimate>, NotFinite> {
    let mut parts: BTreeMap<Hidden, Vec<(f64, &Vec<ByPair>)>> = BTreeMap::new();
    for ([narrow, wide], [before, after]) in compared {
        parts.entry(*narrow).or_default().push((1.0, after));
        parts.entry(*wide).or_default().push((-1.0, before));
    }
    let mut terms = Vec::new();
    for parts in parts.values() {
        let of_prior = |i: usize| -> ByPair {
            let pairs = parts[0].1[i].keys();
            let sum = |pair| {
                let terms = parts.iter().map(|(sign, logs)| Some(sign * logs[i].get(pair)?));
                terms.sum::<Option<f64>>()
            };
            pairs.filter_map(|pair| Some((pair.clone(), sum(pair)?))).collect()
        };
        let by_prior: Vec<ByPair> = (0..parts[0].1.len()).map(of_prior).collect();
        let (_, Some(term)) = Sample::pooled(&samples(&by_prior)?) else { return Ok(None) };
        terms.push((1.0 / compared.len() as f64, term));
    }
    Ok(Estimate::combine(&terms))
}

impl EqualCost {
    /// Two nets together beside one net of twice the width; and the midpoint of the most elaborate
    /// curve, which is chosen by how it is made.
    pub(super) fn verdict(&self) -> Option<Sentence> {
        let of = |kind, method| -> Vec<&Contrast> {
            let is_it = |c: &&Contrast| c.to.kind == kind && c.to.method == method;
            self.pooled.iter().filter(is_it).collect()
        };
        let both = of(EnsembleKind::Independent, None);
        let error = both.iter().find(|contrast| contrast.metric == EnsembleMetric::Error)?;
        let lead = match (error.p, error.effect) {
            (None, _) => "There are too few pairs to compare two nets with one of twice the width.",
            (_, Effect::Lower) => {
                "At equal training cost, two nets together have a lower error than one net of \
                 twice the width."
            }
            (_, Effect::Higher) => {
                "At equal training cost, two nets together have a higher error than one net of \
                 twice the width."
            }
            (_, Effect::Inconclusive) => {
                "At equal training cost, no difference in error between two nets together and one \
                 net of twice the width is detected."
            }
        };
        let (two, over) = (ratios(&both)?, self.of_priors());
        let (at, is_one) = match self.doubles.len() {
            1 => (format!("At h = {}{over}", self.doubles[0][0]), true),
            _ => (format!("Averaged over h = {}{over}", self.widths()), false),
        };
        let mut rest = format!("{at}, the two have {two}, relative to the one net");
        let methods: Vec<_> =
            self.pooled.iter().filter_map(|contrast| contrast.to.method).collect();
        let midpoint = examples(&methods).last().and_then(|&method| {
            let soup = of(EnsembleKind::Soup, Some(method));
            let error = soup.iter().find(|contrast| contrast.metric == EnsembleMetric::Error)?;
            Some(format!(
                "; the midpoint on {} has {} times its error",
                curve_name(method),
                error.ratio_text()?
            ))
        });
        rest += &format!("{}.", midpoint.unwrap_or_default());
        let by_width: Vec<String> = [self.doubles.first()?, self.doubles.last()?]
            .into_iter()
            .filter_map(|double| self.two_nets_at(double))
            .collect();
        if !is_one && self.priors.len() == 1 && by_width.len() == 2 {
            rest += &format!(" The error of the two is {} times that of the one.", list(&by_width));
        }
        Some(Sentence::new(lead, rest))
    }

    /// `1.37 (1.25 to 1.50) at h = 10`: the ratio of the error of two nets.
    fn two_nets_at(&self, double: &Double) -> Option<String> {
        let is_it = |(prior, at, [error, ..]): &&(Prior, Double, [Contrast; 3])| {
            at == double
                && self.priors.contains(prior)
                && error.to.kind == EnsembleKind::Independent
        };
        let (_, [narrow, _], [error, ..]) = self.single.iter().find(is_it)?;
        Some(format!("{} at h = {narrow}", error.ratio_text()?))
    }

    /// `10, 50 and 100`: the narrower nets.
    fn widths(&self) -> String {
        list(&self.doubles.iter().map(|[narrow, _]| narrow.to_string()).collect::<Vec<_>>())
    }

    fn of_priors(&self) -> String {
        match self.priors.first() {
            Some(&prior) if self.priors.len() == 1 => format!(", {}", prior_name(prior)),
            _ => format!(" and {} priors", self.priors.len()),
        }
    }

    /// The pooled ratios, a row for each ensemble.
    pub(super) fn table(&self, ensembles: &Ensembles) -> TableBlock {
        let row = |of_metrics: &[Contrast]| {
            let title = format!("{} / one net of width 2h", of_metrics[0].to.title());
            let cells = of_metrics.iter().map(Contrast::cell);
            [Cell::text(title)].into_iter().chain(cells).collect()
        };
        let has_double = |hidden: &Hidden| self.doubles.iter().any(|[narrow, _]| narrow == hidden);
        let missing = ensembles.hiddens().into_iter().filter(|hidden| !has_double(hidden));
        let missing: Vec<String> = missing.map(|hidden| hidden.to_string()).collect();
        let missing = match missing.is_empty() {
            true => String::new(),
            false => format!(" Left out, without such a net in the run: h = {}.", list(&missing)),
        };
        let is_same = |a: &Contrast, b: &Contrast| a.to == b.to;
        TableBlock {
            id: "ensembles-equal-cost".to_owned(),
            title: "Ensembles of two nets relative to one net of twice the width".to_owned(),
            caption: format!(
                "The ratio of a metric on the test images, of an ensemble of two nets with h \
                 hidden neurons to that of one net with 2h, with its 95 % interval, averaged over \
                 h = {}{}. Equal are the number of weights, the prior, the number of epochs, and \
                 with them the multiplications and additions of the training; the matching of \
                 neurons and refits are not counted. Not equal is the cost at inference: that of \
                 the two nets is the same as that of the one, a midpoint costs half, and n nets on \
                 a curve n / 2 times as much. Learned curves are left out, since their training \
                 costs more. The nets of the two widths are independent (Welch's test). p is \
                 adjusted by Holm's method for the ratios of this table; an effect on the error \
                 must also exceed the noise of the test set.{missing}\n",
                self.widths(),
                self.of_priors(),
            ),
            columns: columns([Column::new("ensembles", Align::Left)]),
            rows: self.pooled.chunk_by(is_same).map(row).collect(),
            ..TableBlock::default()
        }
    }

    /// The ratios at each width.
    pub(super) fn table_by_width(&self) -> TableBlock {
        let cell = |contrast: &Contrast| {
            let [before, after] = contrast.levels;
            let levels = match contrast.metric {
                EnsembleMetric::Loss => format!("{after:.4} / {before:.4}"),
                EnsembleMetric::Error | EnsembleMetric::Calibration => {
                    format!("{} / {}", two_decimals(after), two_decimals(before))
                }
            };
            let note =
                if contrast.log_ratio.is_some() { levels } else { "too few pairs".to_owned() };
            Cell { note, ..contrast.cell() }
        };
        let row = |(prior, [narrow, wide], contrasts): &(Prior, Double, [Contrast; 3])| {
            let keys = [
                Cell::text(prior.to_string()),
                hidden_cell(*narrow),
                hidden_cell(*wide),
                Cell::text(contrasts[0].to.title()),
            ];
            keys.into_iter().chain(contrasts.iter().map(cell)).collect()
        };
        TableBlock {
            id: "ensembles-equal-cost-by-width".to_owned(),
            title: "Ensembles of two nets beside one net of twice the width".to_owned(),
            caption: "The ratios at each width with their 95 % intervals, not tested; below them, \
                      the arithmetic means of the ensemble / of the one net, in %, nats and \
                      points.\n"
                .to_owned(),
            columns: columns([
                Column::of_facet("prior", Align::Left),
                Column::new("h", Align::Right),
                Column::new("2h", Align::Right),
                Column::new("ensemble of nets with h", Align::Left),
            ]),
            rows: self.single.iter().map(row).collect(),
            ..TableBlock::default()
        }
    }
}

/// Columns for keys, then one for each metric.
fn columns<const N: usize>(keys: [Column; N]) -> Vec<Column> {
    let metrics = EnsembleMetric::ALL.map(|metric| Column::new(metric.title(), Align::Left));
    keys.into_iter().chain(metrics).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::ensemble::results::tests::ensembles;

    type Level = (&'static str, f64, [f64; 3]);

    /// Four nets at each width in all pairs: the two nets have `level`, the midpoint twice, a
    /// single net 1.25 times as much, each times the factors of three disjoint pairs.
    fn run(levels: &[Level]) -> Ensembles {
        let mut rows = Vec::new();
        for (hidden, level, factors) in levels {
            for (pair, factor) in ["1:2", "3:4", "5:6"].iter().zip(factors) {
                let x = level * factor;
                rows.push((*hidden, "none", "linear", *pair, "single", 1, 1.25 * x));
                rows.push((*hidden, "none", "linear", *pair, "independent", 2, x));
                rows.push((*hidden, "none", "linear", *pair, "soup", 1, 2.0 * x));
                rows.push((*hidden, "none", "bezier", *pair, "soup", 1, 2.0 * x));
            }
        }
        ensembles(&rows)
    }

    const FACTORS: [f64; 3] = [0.98, 1.0, 1.03];

    fn text_of(cell: &Cell) -> (&str, &str) {
        (&cell.text, &cell.note)
    }

    /// SciPy 1.17.1, with the numbers of `run`:
    /// ```python
    /// a, b = np.log(8 * np.array([.98, 1, 1.03])), np.log(5 * np.array([.97, 1, 1.01]))
    /// r = ttest_ind(a, b, equal_var=False); i = r.confidence_interval()
    /// np.exp([a.mean() - b.mean(), i.low, i.high])
    /// ```
    #[test]
    fn two_nets_are_compared_with_one_of_twice_the_width_by_welchs_test() {
        let found =
            run(&[("10", 8.0, FACTORS), ("20", 4.0, [0.97, 1.0, 1.01]), ("50", 3.0, FACTORS)]);
        let compared = compare(&found, 10_000).unwrap().expect("10 and 20");
        let table = compared.table(&found);
        let titles: Vec<&str> = table.rows.iter().map(|row| row[0].text.as_str()).collect();
        let expected = ["two nets / one net of width 2h", "Linear, midpoint / one net of width 2h"];
        assert_eq!(titles, expected, "a learned curve costs more");
        let log = compared.pooled[0].log_ratio.unwrap();
        let interval = log.interval();
        let found: Vec<f64> =
            [log.mean, interval.low, interval.high].into_iter().map(libm::exp).collect();
        let expected = [1.616_008, 1.532_532, 1.704_029];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
        assert!(
            table.caption.contains("averaged over h = 10, without prior."),
            "{}",
            table.caption
        );
        let left_out = "Left out, without such a net in the run: h = 20 and 50.";
        assert!(table.caption.contains(left_out), "{}", table.caption);
        let by_width = compared.table_by_width();
        assert_eq!(by_width.rows.len(), 2);
        assert_eq!(text_of(&by_width.rows[0][4]), ("1.62 (1.53 to 1.70)", "8.03 / 4.97"));
        let verdict = compared.verdict().unwrap();
        let lead = "At equal training cost, two nets together have a higher error than one net of \
                    twice the width.";
        assert_eq!(verdict.lead, lead);
        let rest = "At h = 10, without prior, the two have 1.62 (1.53 to 1.70) times the error, \
                    1.62 (1.53 to 1.70) times the cross-entropy and 1.62 (1.53 to 1.70) times the \
                    ECE, relative to the one net; the midpoint on the straight line has 3.23 (3.07 \
                    to 3.41) times its error.";
        assert_eq!(verdict.rest, rest);
    }

    #[test]
    fn nets_on_both_sides_of_two_ratios_count_once() {
        let steep = [0.9, 1.0, 1.1];
        let levels = [("10", 8.0, FACTORS), ("20", 4.0, steep), ("40", 2.0, FACTORS)];
        let compared = compare(&run(&levels), 10_000).unwrap().unwrap();
        // The pairs at h = 20 deviate alike alone and together: the mean ratio has none of it.
        let error = |i: usize| compared.single[i].2[0].log_ratio.unwrap().error;
        let pooled = compared.pooled[0].log_ratio.unwrap();
        assert!(pooled.error < 0.5 * error(0), "{pooled:?}");
        assert!((libm::exp(pooled.mean) - 1.6).abs() < 0.01, "{pooled:?}");
        let rest = compared.verdict().unwrap().rest;
        assert!(rest.contains("The error of the two is 1.6"), "{rest}");
        assert!(rest.ends_with(" at h = 20 times that of the one."), "{rest}");
    }

    #[test]
    fn without_a_net_of_twice_the_width_nothing_is_compared() {
        assert!(
            compare(&run(&[("10", 8.0, FACTORS), ("30", 4.0, FACTORS)]), 100).unwrap().is_none()
        );
        assert!(
            compare(&run(&[("10", 8.0, FACTORS), ("20+bias", 4.0, FACTORS)]), 100)
                .unwrap()
                .is_none()
        );
        assert!(compare(&Ensembles::default(), 100).unwrap().is_none());
    }

    #[test]
    fn two_pairs_are_too_few_for_a_test() {
        let mut rows = Vec::new();
        for (hidden, x) in [("10", 4.0), ("20", 3.0)] {
            for pair in ["1:2", "3:4"] {
                rows.push((hidden, "none", "linear", pair, "single", 1, x));
                rows.push((hidden, "none", "linear", pair, "independent", 2, x));
            }
        }
        let compared = compare(&ensembles(&rows), 100).unwrap().unwrap();
        let lead = "There are too few pairs to compare two nets with one of twice the width.";
        assert_eq!(compared.verdict().unwrap().lead, lead);
        let cell = compared.pooled[0].cell();
        assert_eq!(text_of(&cell), ("1.33", "inconclusive, too few pairs"));
    }
}
