//! The critical width: how the excess falls with the width, and where it is below a threshold.

use super::Report;
use super::contrasts::{SIGNIFICANCE, p_text, two_decimals};
use super::full_tables::folded;
use super::measured::{Measured, examples};
use super::questions::text;
use super::sentences::{Sentence, averaged, capitalised, curve_name, list, prior_name, priors_of};
use crate::report::document::{Block, Cell, Column, TableBlock};
use crate::report::table::Align;
use crate::stage::plot::Subject;
use crate::stage::rows::{Metric, NetFamily};
use crate::stage::tables::METRICS;
use crate::stage::width_law::WidthLaw;
use crate::study::curve::Method;
use crate::study::net::{Hidden, Prior};
use crate::study::stats::{
    Crossing, Estimate, FEWEST_POINTS, Interval, PowerLaw, binomial_standard_error, holm,
};
use anyhow::Result;

/// The exponent of the theory: an average over h independent neurons is off by h^(-1/2).
const THEORY: f64 = 0.5;

/// The threshold that is the same at all widths, in points.
const POINT: f64 = 1.0;

/// The metrics whose law is fitted.
const LAWS: [Metric; 2] = [Metric::ExcessError, Metric::LossBarrier];

/// The nets that differ in width alone, where there are enough widths for a law.
pub(super) fn families(measured: &Measured) -> Vec<NetFamily> {
    let mut families = NetFamily::by_width(measured.hiddens());
    families.retain(|family| family.nets.len() >= FEWEST_POINTS);
    families
}

/// Empty for fewer than three widths.
pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let measured = &report.measured;
    let families = families(measured);
    let Some(family) = families.first() else { return Ok(Vec::new()) };
    let tests = tests(measured, family)?;
    let mut blocks = text([verdict_on_law(measured, &tests), verdict_on_width(measured, family)?]);
    blocks.extend(report.figures_on(Subject::CriticalWidth));
    for family in &families {
        let biases = if family.biases { ", nets with biases" } else { "" };
        let table = laws(report, family, biases)?;
        blocks.push(folded(table, &format!("laws by prior and method{biases}")));
    }
    blocks.push(Block::Table(exponents(report, &tests)?));
    Ok(blocks)
}

/// The exponent of a method, averaged over the priors, beside that of the theory.
struct ExponentTest {
    method: Method,
    metric: Metric,
    law: WidthLaw,
    /// That the exponent differs from the theory's, adjusted for the methods of the metric.
    p: Option<f64>,
}

/// An exponent beside the theory's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Faster,
    Slower,
    Inconclusive,
}

impl ExponentTest {
    fn exponent(&self) -> Option<Estimate> {
        self.law.law.map(|law| law.exponent)
    }

    fn pace(&self) -> Pace {
        match (self.exponent(), self.p) {
            (Some(exponent), Some(p)) if p < SIGNIFICANCE && exponent.mean > THEORY => Pace::Faster,
            (Some(_), Some(p)) if p < SIGNIFICANCE => Pace::Slower,
            _ => Pace::Inconclusive,
        }
    }
}

/// The exponents of all methods, for each metric; adjusted by Holm's method within a metric.
fn tests(measured: &Measured, family: &NetFamily) -> Result<Vec<ExponentTest>> {
    let priors: Vec<Prior> = measured.priors().into_iter().collect();
    let mut tests = Vec::new();
    for metric in LAWS {
        let mut of_metric = Vec::new();
        for method in measured.methods() {
            let law = WidthLaw::new(&measured.tests.pairs, family, (method, &priors), metric)?;
            of_metric.push(ExponentTest { method, metric, law, p: None });
        }
        let p = |test: &ExponentTest| {
            let exponent = test.exponent()?;
            Some(Estimate { mean: exponent.mean - THEORY, ..exponent }.p())
        };
        let fitted = of_metric.iter().filter_map(p);
        let mut adjusted = holm(&fitted.collect::<Vec<_>>()).into_iter();
        for test in &mut of_metric {
            test.p = test.exponent().and_then(|_| adjusted.next());
        }
        tests.extend(of_metric);
    }
    Ok(tests)
}

/// Whether the excess falls as fast as in theory.
fn verdict_on_law(measured: &Measured, tests: &[ExponentTest]) -> Option<Sentence> {
    let of_excess = || tests.iter().filter(|test| test.metric == Metric::ExcessError);
    let fitted: Vec<&ExponentTest> = of_excess().filter(|test| test.exponent().is_some()).collect();
    let count = |pace| fitted.iter().filter(|test| test.pace() == pace).count();
    let lead = match (count(Pace::Faster), count(Pace::Slower), fitted.len()) {
        (_, _, 0) => {
            let lead = "There are too few pairs or widths for a law.";
            return Some(Sentence::new(lead, String::new()));
        }
        (n, _, all) if n == all => "The excess falls faster than h^(−1/2) with every method.",
        (_, n, all) if n == all => "The excess falls more slowly than h^(−1/2) with every method.",
        (0, 0, _) => "No deviation of the excess from h^(−1/2) is detected.",
        (_, 0, _) => "The excess falls faster than h^(−1/2) with some methods.",
        (0, _, _) => "The excess falls more slowly than h^(−1/2) with some methods.",
        _ => "The excess falls faster than h^(−1/2) with some methods, more slowly with others.",
    };
    let each = examples(&measured.methods()).into_iter().filter_map(|method| {
        let law = fitted.iter().find(|test| test.method == method)?.law.law?;
        Some(format!("{} on {}", exponent_text(&law), curve_name(method)))
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        return Some(Sentence::new(lead, String::new()));
    }
    let deviations = fitted.iter().filter_map(|test| test.law.law.map(|law| law.deviation));
    let rest = format!(
        "The exponent is {}{}; over all methods, a mean is off its law by a factor of up to {:.1}.",
        list(&each),
        over_priors(measured, tests),
        libm::exp(deviations.fold(0.0, f64::max))
    );
    Some(Sentence::new(lead, rest))
}

/// `, averaged over the priors`, or the one prior that all laws are of.
fn over_priors(measured: &Measured, tests: &[ExponentTest]) -> String {
    let mut fitted = tests.iter().filter(|test| test.law.law.is_some()).map(|t| &t.law.priors[..]);
    match fitted.next() {
        Some(&[prior]) if measured.priors().len() > 1 && fitted.all(|of| *of == [prior]) => {
            format!(", {}", prior_name(prior))
        }
        _ => averaged(&[priors_of(measured)]),
    }
}

/// From which width on the excess is below 1 point and below the noise.
fn verdict_on_width(measured: &Measured, family: &NetFamily) -> Result<Option<Sentence>> {
    let Some(prior) = measured.reference_prior() else { return Ok(None) };
    let (mut points, mut noises) = (Vec::new(), Vec::new());
    for method in examples(&measured.methods()) {
        let pairs = &measured.tests.pairs;
        let law = WidthLaw::new(pairs, family, (method, &[prior]), Metric::ExcessError)?;
        let on = |crossing: &Crossing| {
            format!("h = {} on {}", law.crossing_text(crossing), curve_name(method))
                .replace("h = <", "h <")
                .replace("h = >", "h >")
        };
        points.extend(law.crossing(|_| Some(POINT)).as_ref().map(on));
        noises.extend(law.crossing(|hidden| noise(measured, hidden, prior)).as_ref().map(on));
    }
    if points.is_empty() {
        return Ok(None);
    }
    let name = capitalised(&prior_name(prior));
    let lead = format!("{name}, the excess falls below 1 point at {}.", list(&points));
    let errors = family.nets.iter().filter_map(|(hidden, _)| noise(measured, *hidden, prior));
    let (least, most) =
        errors.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (x.min(low), x.max(high)));
    let [least, most] = [least, most].map(|error| format!("{error:.2}"));
    let errors = if least == most { least } else { format!("{least} to {most}") };
    let rest = match noises.is_empty() {
        true => String::new(),
        false => format!(
            "It falls below the standard error of a test error, {errors} points, at {}.",
            list(&noises)
        ),
    };
    Ok(Some(Sentence::new(lead, rest)))
}

/// The standard error of the test error of the nets at the ends, in points.
fn noise(measured: &Measured, hidden: Hidden, prior: Prior) -> Option<f64> {
    let error = measured.ends.get(&(hidden, prior))?.mean;
    Some(binomial_standard_error(error, measured.data.test)).filter(|noise| *noise > 0.0)
}

/// `0.59 (0.55 to 0.63)`.
fn exponent_text(law: &PowerLaw) -> String {
    let Interval { low, high } = law.exponent.interval();
    format!("{} ({} to {})", two_decimals(law.exponent.mean), two_decimals(low), two_decimals(high))
}

/// The laws of each prior and method.
fn laws(report: &Report, family: &NetFamily, biases: &str) -> Result<TableBlock> {
    let measured = &report.measured;
    let mut rows = Vec::new();
    for prior in measured.priors() {
        for method in measured.methods() {
            let law =
                |metric| WidthLaw::new(&measured.tests.pairs, family, (method, &[prior]), metric);
            let [excess, barrier] = LAWS.map(law);
            let (excess, barrier) = (excess?, barrier?);
            let is_in_run = |law: &WidthLaw| !law.points.is_empty() || !law.left_out.is_empty();
            if ![&excess, &barrier].into_iter().any(is_in_run) {
                continue;
            }
            let reasons = |law: &WidthLaw, name: &str| match law.left_out.is_empty() {
                true => None,
                false => Some(format!("{name} out: {}", law.left_out.join(", "))),
            };
            let notes: Vec<String> = match excess.left_out == barrier.left_out {
                true => reasons(&excess, "both leave").into_iter().collect(),
                false => [reasons(&excess, "excess leaves"), reasons(&barrier, "barrier leaves")]
                    .into_iter()
                    .flatten()
                    .collect(),
            };
            let crossing = |found: Option<Crossing>| {
                Cell::text(found.map_or(String::new(), |found| excess.crossing_text(&found)))
            };
            rows.push(vec![
                Cell::text(prior.to_string()),
                Cell { note: notes.join("; "), ..Cell::text(method.title()) },
                exponent_cell(&excess),
                deviation_cell(&excess),
                crossing(excess.crossing(|_| Some(POINT))),
                crossing(excess.crossing(|hidden| noise(measured, hidden, prior))),
                exponent_cell(&barrier),
            ]);
        }
    }
    let caption = "The law is C h^(−α), the least-squares line of the logarithms of the means over \
                   pairs on ln h, each width with the same weight. The interval of α contains the \
                   errors of the means (jackknife over nets within a width, widths independent, \
                   Satterthwaite's degrees of freedom), not a deviation from the law; the largest \
                   factor between a mean and its law is beside it. The widths from which on the \
                   mean excess is below 1 point, or below the noise, one standard error of the \
                   test error of the ends, are interpolated between neighbouring widths on \
                   logarithmic axes, without the law; their 95 % intervals end where the interval \
                   of the interpolated mean does (Fieller). Outside of the measured widths there \
                   is a bound, no number.\n";
    Ok(TableBlock {
        id: format!("critical-width-laws{}", if family.biases { "-biases" } else { "" }),
        title: format!("Power laws and critical widths{biases}"),
        caption: caption.to_owned(),
        columns: vec![
            Column::of_facet("prior", Align::Left),
            Column::new("method", Align::Left),
            Column::new("α of the excess", Align::Left),
            Column::new("off the law", Align::Right),
            Column::new("below 1 point from h", Align::Left),
            Column::new("below the noise from h", Align::Left),
            Column::new("α of the barrier of the loss", Align::Left),
        ],
        rows,
        source: Some(report.source(METRICS.file)?),
        facets: Vec::new(),
    })
}

fn exponent_cell(law: &WidthLaw) -> Cell {
    law.law.map_or(Cell::default(), |law| {
        Cell::number(Some(law.exponent.mean), |_| exponent_text(&law))
    })
}

fn deviation_cell(law: &WidthLaw) -> Cell {
    let factor = law.law.map(|law| libm::exp(law.deviation));
    Cell::number(factor, |factor| format!("× {factor:.2}"))
}

/// The exponents of all methods beside the theory's.
fn exponents(report: &Report, tests: &[ExponentTest]) -> Result<TableBlock> {
    let row = |test: &ExponentTest| {
        let pace = match test.pace() {
            _ if test.p.is_none() => "too few pairs or widths",
            Pace::Faster => "faster",
            Pace::Slower => "slower",
            Pace::Inconclusive => "inconclusive",
        };
        let note = match test.law.left_out.is_empty() {
            true => String::new(),
            false => format!("left out: {}", test.law.left_out.join("; ")),
        };
        vec![
            Cell { note, ..Cell::text(test.method.title()) },
            Cell::text(test.metric.title().to_owned()),
            exponent_cell(&test.law),
            deviation_cell(&test.law),
            Cell::number(test.p, p_text),
            Cell::text(pace.to_owned()),
        ]
    };
    Ok(TableBlock {
        id: "critical-width-exponents".to_owned(),
        title: "Exponents beside that of the theory, 1/2".to_owned(),
        caption: format!(
            "The law of the means{}: how fast the metric falls compared to h^(−1/2), the error of \
             an average over h independent neurons. p is for an exponent of 1/2, adjusted by \
             Holm's method for the methods of a metric.\n",
            over_priors(&report.measured, tests).trim_start_matches(',')
        ),
        columns: vec![
            Column::new("method", Align::Left),
            Column::new("metric", Align::Left),
            Column::new("α", Align::Left),
            Column::new("off the law", Align::Right),
            Column::new("p", Align::Right),
            Column::new("beside h^(−1/2)", Align::Left),
        ],
        rows: tests.iter().map(row).collect(),
        source: Some(report.source(METRICS.file)?),
        facets: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::report::sentences::tests::run;
    use crate::study::data::Dataset;

    /// Largest errors between nets of an error of 2 %; the excess is proportional to 1 / h with
    /// both priors, and ten times smaller with OT.
    const CURVES: [(&str, &str, &str, &[f64]); 9] = [
        ("10", "none", "linear", &[16.0, 18.0, 20.0]),
        ("20", "none", "linear", &[9.0, 10.0, 11.0]),
        ("40", "none", "linear", &[5.5, 6.0, 6.5]),
        ("10", "none", "linear+ot", &[3.4, 3.6, 3.8]),
        ("20", "none", "linear+ot", &[2.7, 2.8, 2.9]),
        ("40", "none", "linear+ot", &[2.35, 2.4, 2.45]),
        ("10", "dropout 0.5", "linear", &[16.0, 18.0, 20.0]),
        ("20", "dropout 0.5", "linear", &[9.0, 10.0, 11.0]),
        ("40", "dropout 0.5", "linear", &[5.5, 6.0, 6.5]),
    ];

    #[test]
    fn the_verdict_names_exponents_and_critical_widths() {
        let (measured, _) = run(Dataset::Mnist, &CURVES);
        let family = families(&measured).remove(0);
        let tests = tests(&measured, &family).unwrap();
        let law = verdict_on_law(&measured, &tests).unwrap();
        assert_eq!(law.lead, "The excess falls faster than h^(−1/2) with every method.");
        assert!(law.rest.starts_with("The exponent is 1.00 (0."), "{}", law.rest);
        assert!(law.rest.contains(") on the straight line and 1.00 (0."), "{}", law.rest);
        assert!(law.rest.ends_with("is off its law by a factor of up to 1.0."), "{}", law.rest);
        let width = verdict_on_width(&measured, &family).unwrap().unwrap();
        let start = "Without prior, the excess falls below 1 point at h > 40 on the straight line \
                     and h = 16 (1";
        assert!(width.lead.starts_with(start), "{}", width.lead);
        let noise = "It falls below the standard error of a test error, 0.14 points, at h \
                     > 40 on the straight line and h > 40 on the curve Linear + OT.";
        assert_eq!(width.rest, noise);
    }

    #[test]
    fn laws_of_one_prior_are_not_called_averages_over_priors() {
        let rest = |curves: &[(&str, &str, &str, &[f64])]| {
            let (measured, _) = run(Dataset::Mnist, curves);
            let tests = tests(&measured, &families(&measured).remove(0)).unwrap();
            verdict_on_law(&measured, &tests).unwrap().rest
        };
        let both: Vec<_> = CURVES.into_iter().filter(|(_, _, m, _)| *m == "linear").collect();
        assert!(rest(&both).contains(", averaged over the priors;"), "{}", rest(&both));
        let gap: Vec<_> =
            both.iter().copied().filter(|c| (c.0, c.1) != ("20", "dropout 0.5")).collect();
        assert!(rest(&gap).contains(" on the straight line, without prior;"), "{}", rest(&gap));
    }

    #[test]
    fn a_method_without_enough_widths_has_no_exponent() {
        let (measured, _) = run(Dataset::Mnist, &CURVES[..5]);
        let family = families(&measured).remove(0);
        let tests = tests(&measured, &family).unwrap();
        let fitted = tests.iter().filter(|test| test.p.is_some());
        assert!(fitted.map(|test| test.method.name()).all(|name| name == "linear"));
        let (measured, _) = run(Dataset::Mnist, &CURVES[..2]);
        assert_eq!(families(&measured), [], "two widths");
    }
}
