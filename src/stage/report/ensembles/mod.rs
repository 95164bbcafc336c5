//! Ensembles: nets along a curve, and the midpoint of the curve, beside the two nets at its ends,
//! alone and together.

mod equal_cost;

use self::equal_cost::EqualCost;
use super::Report;
use super::contrasts::{Effect, SIGNIFICANCE, digits, p_text};
use super::full_tables::{folded, hidden_cell};
use super::measured::{examples, mean_text};
use super::questions::text;
use super::recipe::{node_of, stage_and_values};
use super::sentences::{Sentence, averaged, capitalised, curve_name, list};
use crate::engine::key::{Artifact, Digest};
use crate::engine::stage::Input;
use crate::report::document::{Block, Cell, Column, Source, TableBlock};
use crate::report::table::Align;
use crate::stage::ensemble::results::{
    ByPair, Ensemble, EnsembleMetric, Ensembles, mean_over_pairs, read_table,
};
use crate::stage::plot::Subject;
use crate::stage::rows::{is_plain, samples};
use crate::stage::tables::ENSEMBLES;
use crate::study::curve::Method;
use crate::study::curve::ensemble::EnsembleKind;
use crate::study::net::{BINS, Hidden, Prior, Widths};
use crate::study::stats::{Estimate, Interval, NotFinite, Sample, holm, noise_of_difference};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};

/// The ensembles of the run.
pub(super) struct MeasuredEnsembles {
    ensembles: Ensembles,
    /// The table of all of them.
    pub(super) csv: Vec<u8>,
    /// Those that contain the table's rows.
    artifacts: Vec<Artifact>,
}

impl MeasuredEnsembles {
    /// The path of the table in the report's folder.
    pub(super) fn path() -> String {
        format!("tables/{}", ENSEMBLES.file)
    }

    /// `None` if the slot is empty.
    pub(super) fn read(inputs: &[Input]) -> Result<Option<MeasuredEnsembles>> {
        let Some(table) = read_table(inputs)? else { return Ok(None) };
        Ok(Some(MeasuredEnsembles {
            ensembles: Ensembles::of_table(&table)?,
            csv: ENSEMBLES.to_bytes(&table)?,
            artifacts: inputs.iter().map(|input| input.artifact.clone()).collect(),
        }))
    }

    fn source(&self, report: &Report) -> Source {
        let upstream = report.params.upstream.iter();
        let nodes = upstream.flat_map(|upstream| {
            self.artifacts.iter().filter_map(|artifact| node_of(upstream, "ensembles", artifact))
        });
        let stages: BTreeSet<&str> = nodes.map(|node| stage_and_values(node).0).collect();
        let mut recipe = Vec::new();
        for line in stages.iter().flat_map(|stage| report.recipe(stage)) {
            if !recipe.contains(&line) {
                recipe.push(line);
            }
        }
        let stages: Vec<&str> = stages.into_iter().collect();
        Source {
            path: MeasuredEnsembles::path(),
            digest: Digest::of(&self.csv).to_string(),
            command: report.params.command(&format!("run {}", stages.join(" "))),
            recipe,
        }
    }
}

/// The figure alone if the run passes no ensembles to the report.
pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let figures = report.figures_on(Subject::Ensembles);
    let Some(measured) = &report.ensembles else { return Ok(figures) };
    let ensembles = &measured.ensembles;
    let contrasts = contrasts(ensembles, report.measured.data.test)?;
    let equal_cost = equal_cost::compare(ensembles, report.measured.data.test)?;
    let [along, soups] = verdicts(ensembles, &contrasts);
    let verdict = equal_cost.as_ref().and_then(EqualCost::verdict);
    let mut blocks = text([along, verdict, soups]);
    blocks.extend(figures);
    let with_source = |table| TableBlock { source: Some(measured.source(report)), ..table };
    blocks.push(Block::Table(with_source(table_of_contrasts(&contrasts, equal_cost.is_some()))));
    if let Some(equal_cost) = &equal_cost {
        blocks.push(Block::Table(with_source(equal_cost.table(ensembles))));
        blocks.push(folded(with_source(equal_cost.table_by_width()), "ratios by width"));
    }
    let means = with_source(table_of_means(ensembles)?);
    blocks.push(folded(means, "ensembles by prior and width"));
    Ok(blocks)
}

/// One ensemble compared to another.
struct Contrast {
    from: Ensemble,
    to: Ensemble,
    metric: EnsembleMetric,
    /// Whether it belongs to the family of tests.
    is_tested: bool,
    /// The logarithm of the ratio over all pairs.
    observed: Option<f64>,
    /// The same with its error; `None` if there are too few pairs.
    log_ratio: Option<Estimate>,
    /// The means of the metric before and after, over pairs, priors and widths.
    levels: [f64; 2],
    /// Pairs without a logarithm.
    left_out: usize,
    p: Option<f64>,
    effect: Effect,
}

/// All comparisons, of all metrics. Three kinds are tested, and their p adjusted together by Holm's
/// method: a curve's ensemble against the two nets, which cost the same training; the midpoint
/// against a single net, which costs the same at inference; and the two nets against a single one.
fn contrasts(ensembles: &Ensembles, images: usize) -> Result<Vec<Contrast>, NotFinite> {
    let all = ensembles.all();
    let ends = |kind| all.iter().copied().find(|ensemble| ensemble.kind == kind);
    let (single, both) = (ends(EnsembleKind::Single), ends(EnsembleKind::Independent));
    let mut pairs = Vec::new();
    for &ensemble in &all {
        match ensemble.kind {
            EnsembleKind::Single => {}
            EnsembleKind::Independent | EnsembleKind::Soup => pairs.push((single, ensemble, true)),
            EnsembleKind::Curve => {
                pairs.extend([(both, ensemble, true), (single, ensemble, false)]);
            }
        }
    }
    let mut contrasts = Vec::new();
    for (from, to, is_tested) in pairs {
        let Some(from) = from else { continue };
        for metric in EnsembleMetric::ALL {
            let contrast = Contrast::new(ensembles, (from, to), metric)?;
            contrasts.push(Contrast { is_tested, ..contrast });
        }
    }
    adjust(&mut contrasts, images);
    Ok(contrasts)
}

/// Adjusts p by Holm's method for the tested ones of a family, and sets their effects.
fn adjust(family: &mut [Contrast], images: usize) {
    let p = |contrast: &Contrast| contrast.log_ratio.filter(|_| contrast.is_tested).map(|x| x.p());
    let mut adjusted = holm(&family.iter().filter_map(p).collect::<Vec<_>>()).into_iter();
    for contrast in family {
        contrast.p = p(contrast).and_then(|_| adjusted.next());
        contrast.effect = contrast.effect(images);
    }
}

impl Contrast {
    /// Ratios within a pair of nets, averaged over the priors, which share init and shuffles, and
    /// over nets that differ in their biases alone. Nets of other widths are independent, and have
    /// equal weights.
    fn new(
        ensembles: &Ensembles,
        (from, to): (Ensemble, Ensemble),
        metric: EnsembleMetric,
    ) -> Result<Contrast, NotFinite> {
        let mut by_widths: BTreeMap<Widths, Vec<Hidden>> = BTreeMap::new();
        for hidden in ensembles.hiddens() {
            by_widths.entry(hidden.widths).or_default().push(hidden);
        }
        let (mut observed, mut ratios, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        let mut left_out = 0;
        for hiddens in by_widths.values() {
            let (mut logs, mut both) = (Vec::new(), Vec::new());
            for (hidden, prior) in
                hiddens.iter().flat_map(|h| ensembles.priors().into_iter().map(|p| (*h, p)))
            {
                let of = |ensemble| ensembles.by_pair((ensemble, hidden, prior), metric);
                let (Some(before), Some(after)) = (of(from), of(to)) else { continue };
                let mut of_pairs = ByPair::new();
                for (pair, y) in after {
                    let Some(x) = before.get(pair) else { continue };
                    if *x > 0.0 && *y > 0.0 {
                        of_pairs.insert(pair.clone(), libm::log(y / x));
                        both.push([*x, *y]);
                    } else {
                        left_out += 1;
                    }
                }
                logs.push(of_pairs);
            }
            let (mean, ratio) = Sample::pooled(&samples(&logs)?);
            observed.extend(mean);
            if let Some(ratio) = ratio {
                ratios.push(ratio);
                levels.push([0, 1].map(|side| mean_of(both.iter().map(|levels| levels[side]))));
            }
        }
        Ok(Contrast {
            from,
            to,
            metric,
            is_tested: false,
            observed: Sample::of_nets(observed)?.mean(),
            log_ratio: Estimate::pool(&ratios),
            levels: [0, 1].map(|side| mean_of(levels.iter().map(|levels| levels[side]))),
            left_out,
            p: None,
            effect: Effect::Inconclusive,
        })
    }

    /// The effect at its p. A difference between errors must also exceed the noise of the test set
    /// of `images`.
    fn effect(&self, images: usize) -> Effect {
        let [before, after] = self.levels;
        let noise = match self.metric {
            EnsembleMetric::Error => noise_of_difference(before, after, images),
            EnsembleMetric::Loss | EnsembleMetric::Calibration => 0.0,
        };
        match (&self.log_ratio, self.p) {
            (Some(ratio), Some(p)) if p < SIGNIFICANCE => match ratio.mean < 0.0 {
                true if before - after > noise => Effect::Lower,
                false if after - before > noise => Effect::Higher,
                _ => Effect::Inconclusive,
            },
            _ => Effect::Inconclusive,
        }
    }

    /// The ratio with its effect and p.
    fn cell(&self) -> Cell {
        let log = self.log_ratio.map(|ratio| ratio.mean).or(self.observed);
        let effect = match (self.log_ratio, self.p, self.effect) {
            (None, ..) => "inconclusive, too few pairs".to_owned(),
            (Some(_), None, _) => "not tested".to_owned(),
            (Some(_), Some(p), effect) => format!("{}, p = {}", effect.name(), p_text(p)),
        };
        let left_out = match self.left_out {
            0 => String::new(),
            n => format!("; left out: {n} ratios to or of 0"),
        };
        let text = self.ratio_text().unwrap_or_default();
        Cell { note: effect + &left_out, ..Cell::number(log.map(libm::exp), |_| text) }
    }

    /// `0.93 (0.90 to 0.96)`, or the observed ratio alone if there are too few pairs.
    fn ratio_text(&self) -> Option<String> {
        let of = |log: f64, digits: usize| format!("{:.digits$}", libm::exp(log));
        Some(match self.log_ratio {
            Some(log) => {
                let (digits, Interval { low, high }) =
                    (digits(libm::exp(log.mean)), log.interval());
                let [mean, low, high] = [log.mean, low, high].map(|x| of(x, digits));
                format!("{mean} ({low} to {high})")
            }
            None => {
                let log = self.observed?;
                of(log, digits(libm::exp(log)))
            }
        })
    }
}

/// The arithmetic mean; 0 without numbers.
fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0.0_f64, 0.0), |(n, sum), x| (n + 1.0, sum + x));
    sum / n.max(1.0)
}

/// The curves' ensembles at equal training cost, and the midpoints beside a single net.
fn verdicts(ensembles: &Ensembles, contrasts: &[Contrast]) -> [Option<Sentence>; 2] {
    if contrasts.iter().all(|contrast| contrast.log_ratio.is_none()) {
        let lead = "There are too few pairs to compare ensembles.";
        return [Some(Sentence::new(lead, String::new())), None];
    }
    let of = |kinds: [EnsembleKind; 2]| -> Vec<&Contrast> {
        let is_it = |c: &&Contrast| [c.from.kind, c.to.kind] == kinds;
        contrasts.iter().filter(is_it).collect()
    };
    let mut along = of([EnsembleKind::Independent, EnsembleKind::Curve]);
    // A learned curve costs its own training on top.
    along.retain(|c| !c.to.method.is_some_and(Method::is_learned));
    let soups = of([EnsembleKind::Single, EnsembleKind::Soup]);
    let both = of([EnsembleKind::Single, EnsembleKind::Independent]);
    let hiddens = ensembles.hiddens();
    let widths = if hiddens.iter().all(is_plain) { "widths" } else { "architectures" };
    let averaged = averaged(&[
        (hiddens.len() > 1).then_some(widths),
        (ensembles.priors().len() > 1).then_some("priors"),
    ]);
    let examples = examples(&ensembles.methods());
    let on_curve = |contrasts: &[&Contrast], subject: fn(u32) -> (String, &'static str)| {
        let each = examples.iter().filter_map(|&method| {
            let of_method = contrasts.iter().filter(|c| c.to.method == Some(method));
            // Of several numbers of members, the largest.
            let most = of_method.clone().map(|c| c.to.members).max()?;
            let of_most: Vec<&Contrast> =
                of_method.filter(|c| c.to.members == most).copied().collect();
            let (subject, verb) = subject(most);
            Some(format!("{subject} on {} {verb} {}", curve_name(method), ratios(&of_most)?))
        });
        each.collect::<Vec<String>>()
    };
    let rest_along = on_curve(&along, |members| (format!("{members} nets"), "have"));
    let along = lead(&along, "an ensemble along", "the two nets together").map(|lead| {
        let rest = format!("Relative to the two nets, {}{averaged}.", rest_along.join("; "));
        let rest = if rest_along.is_empty() { String::new() } else { rest };
        Sentence::new(format!("At equal training cost, {lead}"), rest)
    });
    let mut rest = on_curve(&soups, |_| ("the midpoint".to_owned(), "has"));
    rest.extend(ratios(&both).map(|ratios| format!("the two nets together have {ratios}")));
    let soups = lead(&soups, "the midpoint of", "a single net").map(|lead| {
        let rest = format!(
            "Relative to a single net, which costs half the training, {}{averaged}.",
            rest.join("; ")
        );
        Sentence::new(capitalised(&lead), rest)
    });
    [along, soups]
}

/// How many of the ensembles have a lower or a higher error; `None` without a test.
fn lead(contrasts: &[&Contrast], ensemble: &str, reference: &str) -> Option<String> {
    let errors = contrasts.iter().filter(|c| c.metric == EnsembleMetric::Error && c.p.is_some());
    let effects: Vec<Effect> = errors.map(|contrast| contrast.effect).collect();
    let count = |effect| effects.iter().filter(|found| **found == effect).count();
    let (lower, higher, all) = (count(Effect::Lower), count(Effect::Higher), effects.len());
    let some = |which: &str, effect: &str, rest: &str| {
        format!("{ensemble} {which} has a {effect} error than {reference}{rest}.")
    };
    Some(match (lower, higher) {
        _ if all == 0 => return None,
        (n, _) if n == all => some("every curve", "lower", ""),
        (_, n) if n == all => some("every curve", "higher", ""),
        (0, 0) => format!(
            "no difference in error between {ensemble} a curve and {reference} is detected."
        ),
        (_, 0) => some("some curves", "lower", ""),
        (0, _) => some("some curves", "higher", ""),
        _ => some("some curves", "lower", ", and that of others a higher one"),
    })
}

/// `0.98 (0.97 to 0.99) times the error, ... and ... times the ECE`.
fn ratios(contrasts: &[&Contrast]) -> Option<String> {
    let each = EnsembleMetric::ALL.into_iter().filter_map(|metric| {
        let contrast = contrasts.iter().find(|contrast| contrast.metric == metric)?;
        Some(format!("{} times the {}", contrast.ratio_text()?, metric.title()))
    });
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| list(&each))
}

/// A row for each comparison, with a cell for each metric.
///
/// `is_double` if there are single nets of twice the width, to which another table compares.
fn table_of_contrasts(contrasts: &[Contrast], is_double: bool) -> TableBlock {
    let single = match is_double {
        true => "",
        false => {
            " The run has no net of twice the width of two others, which would cost the same \
             training as both."
        }
    };
    let is_learned = contrasts.iter().any(|c| c.to.method.is_some_and(Method::is_learned));
    let learned = if is_learned { "; on a learned curve, its own on top" } else { "" };
    let row = |of_metrics: &[Contrast]| {
        let comparison = format!("{} / {}", of_metrics[0].to.title(), of_metrics[0].from.title());
        [Cell::text(comparison)].into_iter().chain(of_metrics.iter().map(Contrast::cell)).collect()
    };
    let is_same = |a: &Contrast, b: &Contrast| (a.from, a.to) == (b.from, b.to);
    let metrics = EnsembleMetric::ALL.map(|metric| Column::new(metric.title(), Align::Left));
    TableBlock {
        id: "ensembles-contrasts".to_owned(),
        title: "Ensembles relative to each other".to_owned(),
        caption: format!(
            "The ratio of a metric on the test images, of the first ensemble to that of the \
             second, with its 95 % interval; below 1 is lower. Ratios are averaged within a pair \
             of nets over the priors, over pairs with an error over nets, and over widths with \
             equal weights: [Statistics](#statistics). p is adjusted by Holm's method for all \
             tested ratios of this table; an effect on the error must also exceed the noise of the \
             test set. A curve's ensemble, a midpoint and the two nets cost the training of two \
             nets{learned}; a single net costs half of that.{single} ECE is the expected \
             calibration error: images are divided into {BINS} bins of equal width by the \
             probability of the predicted class; the differences between a bin's share of correct \
             predictions and its mean probability are averaged, weighted by the number of \
             images.\n"
        ),
        columns: [Column::new("ensembles", Align::Left)].into_iter().chain(metrics).collect(),
        rows: contrasts.chunk_by(is_same).map(row).collect(),
        ..TableBlock::default()
    }
}

/// The mean of every ensemble by prior and width.
fn table_of_means(ensembles: &Ensembles) -> Result<TableBlock> {
    let priors = ensembles.priors();
    let hiddens = ensembles.hiddens();
    let nets: Vec<(Prior, Hidden)> =
        priors.iter().flat_map(|prior| hiddens.iter().map(|hidden| (*prior, *hidden))).collect();
    let mut rows = Vec::new();
    for (prior, hidden) in nets {
        for ensemble in ensembles.all() {
            let mean = |metric: EnsembleMetric, digits: usize| -> Result<Option<Cell>> {
                let values = ensembles.by_pair((ensemble, hidden, prior), metric);
                let mean = values.map(mean_over_pairs).transpose()?.flatten();
                Ok(mean.map(|mean| Cell::number(Some(mean.mean), |_| mean_text(&mean, digits))))
            };
            let cells = [
                mean(EnsembleMetric::Error, 2)?,
                mean(EnsembleMetric::Loss, 4)?,
                mean(EnsembleMetric::Calibration, 2)?,
            ];
            let Some(cells) = cells.into_iter().collect::<Option<Vec<Cell>>>() else { continue };
            let (trained, members) = (ensemble.kind.trained(), ensemble.members);
            let is_learned = ensemble.method.is_some_and(Method::is_learned);
            let curve = if is_learned { " and the curve" } else { "" };
            let note = format!("trained: {trained}{curve}, at inference: {members}");
            let keys = [
                Cell::text(prior.to_string()),
                hidden_cell(hidden),
                Cell { note, ..Cell::text(ensemble.title()) },
            ];
            rows.push(keys.into_iter().chain(cells).collect());
        }
    }
    Ok(TableBlock {
        id: "ensembles-means".to_owned(),
        title: "Error, cross-entropy and calibration of ensembles".to_owned(),
        caption:
            "Means over pairs on the test images ± half the width of their 95 % interval over \
                  nets. The probabilities of an ensemble are the mean of its members'. A single \
                  net is the mean over the two of a pair.\n"
                .to_owned(),
        columns: vec![
            Column::of_facet("prior", Align::Left),
            Column::of_facet("hidden", Align::Right),
            Column::new("ensemble", Align::Left),
            Column::new("error, %", Align::Right),
            Column::new("cross-entropy, nats", Align::Right),
            Column::new("ECE, points", Align::Right),
        ],
        rows,
        ..TableBlock::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::ensemble::results::tests::ensembles;

    /// Three disjoint pairs at two widths: the ensemble along the curve has `along` times, and the
    /// midpoint `soup` times the value of a single net, the two nets 0.8 times.
    fn measured(along: f64, soup: f64) -> Ensembles {
        let mut rows = Vec::new();
        let pairs = [("1", 0.99), ("2", 1.0), ("3", 1.01)];
        for (hidden, level) in [("10", 8.0), ("50", 4.0)] {
            for (pair, shift) in pairs {
                // The noise is not the same for all, so that ratios vary.
                let row = |method, kind, members, x: f64| {
                    ("HIDDEN", "none", method, pair, kind, members, x)
                };
                let noise = 1.0 + 0.1 * (shift - 1.0);
                for (_, prior, method, pair, kind, members, x) in [
                    row("linear", "single", 1, level * shift),
                    row("linear", "independent", 2, 0.8 * level * shift * noise),
                    row("linear", "curve", 5, along * level * shift / noise),
                    row("linear", "soup", 1, soup * level * shift / noise),
                ] {
                    rows.push((hidden, prior, method, pair, kind, members, x));
                }
            }
        }
        ensembles(&rows)
    }

    fn sentences(ensembles: &Ensembles) -> [String; 2] {
        let contrasts = contrasts(ensembles, 10_000).unwrap();
        verdicts(ensembles, &contrasts).map(|sentence| sentence.map_or(String::new(), |s| s.lead))
    }

    #[test]
    fn an_ensemble_that_is_better_than_two_nets_is_found_and_a_worse_one_too() {
        let [along, soup] = sentences(&measured(0.6, 3.0));
        let expected = "At equal training cost, an ensemble along every curve has a lower error \
                        than the two nets together.";
        assert_eq!(along, expected);
        assert_eq!(soup, "The midpoint of every curve has a higher error than a single net.");
        let [along, soup] = sentences(&measured(1.5, 0.7));
        assert!(along.contains("every curve has a higher error"), "{along}");
        assert!(soup.contains("every curve has a lower error"), "{soup}");
    }

    #[test]
    fn a_difference_within_the_noise_of_the_test_set_is_not_detected() {
        let [along, _] = sentences(&measured(0.79, 0.7));
        let expected = "At equal training cost, no difference in error between an ensemble along \
                        a curve and the two nets together is detected.";
        assert_eq!(along, expected);
    }

    #[test]
    fn ratios_are_within_pairs_and_tested_over_all_metrics() {
        let contrasts = contrasts(&measured(0.4, 0.7), 10_000).unwrap();
        let titles = contrasts.iter().map(|c| (c.to.title(), c.from.title(), c.is_tested));
        let titles: Vec<_> = titles.step_by(3).collect();
        let title = |to: &str, from: &str, tested| (to.to_owned(), from.to_owned(), tested);
        assert_eq!(
            titles,
            [
                title("two nets", "single net", true),
                title("Linear, 5 nets on the curve", "two nets", true),
                title("Linear, 5 nets on the curve", "single net", false),
                title("Linear, midpoint", "single net", true),
            ]
        );
        let ratio = libm::exp(contrasts[3].log_ratio.unwrap().mean);
        assert!((ratio - 0.5).abs() < 1e-3, "{ratio}");
        assert!(contrasts.iter().all(|contrast| contrast.p.is_some() == contrast.is_tested));
        // Nine tests: the smallest p is multiplied by nine.
        let raw = |c: &Contrast| c.log_ratio.map_or(1.0, |ratio| ratio.p());
        let tested = contrasts.iter().filter(|contrast| contrast.is_tested);
        let least = tested.min_by(|a, b| raw(a).total_cmp(&raw(b))).unwrap();
        assert!((least.p.unwrap() / raw(least) - 9.0).abs() < 1e-9);
    }

    #[test]
    fn two_pairs_are_too_few_for_a_verdict() {
        let found = ensembles(&[
            ("10", "none", "linear", "1", "single", 1, 5.0),
            ("10", "none", "linear", "1", "independent", 2, 4.0),
            ("10", "none", "linear", "2", "single", 1, 5.0),
            ("10", "none", "linear", "2", "independent", 2, 4.0),
        ]);
        assert_eq!(sentences(&found)[0], "There are too few pairs to compare ensembles.");
        let contrasts = contrasts(&found, 100).unwrap();
        assert_eq!(contrasts[0].ratio_text().as_deref(), Some("0.80"));
        let table = table_of_contrasts(&contrasts, false);
        let [text, note] = [&table.rows[0][1].text, &table.rows[0][1].note];
        assert_eq!([text.as_str(), note], ["0.80", "inconclusive, too few pairs"]);
    }

    #[test]
    fn the_table_of_means_has_a_row_for_each_ensemble_of_each_width() {
        let table = table_of_means(&measured(0.6, 3.0)).unwrap();
        assert_eq!(table.rows.len(), 8);
        let texts: Vec<&str> = table.rows[2].iter().map(|cell| cell.text.as_str()).collect();
        assert_eq!(texts[..3], ["none", "10", "Linear, 5 nets on the curve"]);
        assert_eq!(table.rows[2][2].note, "trained: 2, at inference: 5");
        assert!(texts[3].starts_with("4.80 ± "), "{texts:?}");
    }
}
