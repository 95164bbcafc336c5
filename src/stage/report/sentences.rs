//! The result of a run in sentences, each computed from its numbers.
//!
//! A sentence says that something is lower or higher only if a test in `conclusions` does. Numbers
//! without a test are given as what they are: means, with their intervals if there are enough
//! pairs.

use super::conclusions::{Conclusion, Conclusions, Outcome};
use super::contrasts::{Change, Effect, Finding, required};
use super::measured::Measured;
use crate::report::markdown::escape;
use crate::stage::rows::{CurveGroup, GroupMean, Metric};
use crate::study::curve::Method;
use crate::study::net::{Hidden, Prior};
use crate::study::stats::{Average, FEWEST, FEWEST_NETS, Interval};

/// The number of priors that a sentence names.
const NAMED: usize = 3;

/// A finding in words: the lead says what was found, the rest gives the numbers. Plain text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sentence {
    pub(super) lead: String,
    pub(super) rest: String,
    /// Details that the first screen omits; may be empty.
    pub(super) more: String,
}

impl Sentence {
    pub(super) fn new(lead: impl Into<String>, rest: String) -> Sentence {
        Sentence { lead: lead.into(), rest, more: String::new() }
    }

    fn with_more(self, more: String) -> Sentence {
        Sentence { more, ..self }
    }

    /// The finding without its details.
    pub(super) fn short(&self) -> String {
        format!("**{}** {}", escape(&self.lead), escape(&self.rest)).trim_end().to_owned()
    }

    /// The finding with its details.
    pub(super) fn whole(&self) -> String {
        format!("{} {}", self.short(), escape(&self.more)).trim_end().to_owned()
    }
}

/// The verdict: a sentence on each subject that the run has numbers for.
pub(super) fn sentences(measured: &Measured, conclusions: &Conclusions) -> Vec<Sentence> {
    let all = [
        pairs(measured, conclusions),
        widths(measured, conclusions),
        depth(measured, conclusions),
        methods(measured, conclusions),
        noise(measured),
        priors(measured, conclusions),
        published(measured),
    ];
    let sentences: Vec<Sentence> = all.into_iter().flatten().collect();
    if sentences.is_empty() {
        return vec![Sentence::new("The run has no curves.", String::new())];
    }
    sentences
}

/// A warning if there are too few pairs for any test.
fn pairs(measured: &Measured, conclusions: &Conclusions) -> Option<Sentence> {
    let Conclusions { methods, bound, widths, depth, priors, informative } = conclusions;
    let all = [methods, bound, widths, depth, priors, informative];
    if all.iter().all(|conclusion| conclusion.outcome != Outcome::TooFewPairs) {
        return None;
    }
    let ([_, most], [_, nets]) = (measured.pairs()?, measured.nets_of_means()?);
    // Others are too few because their values are excluded, which the contrasts say.
    let is_enough = match measured.has_disjoint_pairs() {
        true => most >= FEWEST,
        false => nets >= FEWEST_NETS,
    };
    if is_enough {
        return None;
    }
    let (s, kind) = (if most == 1 { "" } else { "s" }, measured.kind_of_nets());
    let (few, pairs, required) = match measured.has_disjoint_pairs() {
        true => ("pairs", format!("{most} pair{s} of nets"), FEWEST.to_string()),
        false => {
            let pairs = format!("{nets} nets, which are {most} pair{s},");
            ("nets", pairs, format!("{FEWEST_NETS} nets"))
        }
    };
    let article = if kind == "width" { "a" } else { "an" };
    Some(Sentence::new(
        format!("There are too few {few} for a verdict."),
        format!(
            "The run has {pairs} of {article} {kind} and prior; a test requires {required}. The \
             numbers below describe these nets alone."
        ),
    ))
}

/// Hidden layers, the error on a curve, and that of its ends.
type Level<'m> = (Hidden, &'m GroupMean, Option<&'m GroupMean>);

/// The errors on a curve between nets, as `reached`, and those of the nets.
fn reached(
    (method, prior): (Method, Prior),
    levels: &[Level],
    at: impl Fn(Hidden) -> String,
) -> String {
    let on_curve: Vec<String> = levels
        .iter()
        .map(|(hidden, error, _)| format!("{} {}", percent(error), at(*hidden)))
        .collect();
    let mut text = format!(
        "On {} between two nets {}, the test error reaches {}",
        curve_name(method),
        prior_name(prior),
        list(&on_curve)
    );
    let ends = levels.iter().map(|(.., end)| end.map(|end| format!("{} %", value(end))));
    if let Some(ends) = ends.collect::<Option<Vec<_>>>() {
        text += &format!("; the nets have {}", list(&ends));
    }
    text + "."
}

/// The error on the reference curve at the narrowest and the widest width, beside that of the ends.
pub(super) fn widths(measured: &Measured, conclusions: &Conclusions) -> Option<Sentence> {
    let (method, prior) = (measured.reference_method()?, measured.reference_prior()?);
    let group = |hidden| CurveGroup { hidden, prior, method };
    let level = |hidden: Hidden| {
        let error = measured.mean(group(hidden), Metric::MaxError)?;
        Some((hidden, error, measured.ends.get(&(hidden, prior))))
    };
    let levels: Vec<Level> = measured.by_width().into_iter().filter_map(level).collect();
    let (narrow, wide) = (*levels.first()?, *levels.last()?);
    let levels = if levels.len() == 1 { vec![narrow] } else { vec![narrow, wide] };
    let mut rest = reached((method, prior), &levels, |hidden| format!("at h = {hidden}"));
    let mut more = String::new();
    let of_method = |finding: &&Finding| match finding.change {
        Change::Width(of, [_, wide]) => of == method && wide.biases == narrow.0.biases,
        _ => false,
    };
    let finding = conclusions.widths.tested.iter().find(of_method);
    if let Some((finding, Change::Width(_, [narrow, wide]))) = finding.map(|f| (f, f.change))
        && let Some(times) = times(finding)
    {
        let times = times.trim_end_matches(',');
        rest += &format!(" The excess over the worse net changes by a factor of {times}.");
        more = format!(
            "The factor is from h = {narrow} to h = {wide}{}.",
            averaged(&[priors_of(measured)])
        );
    }
    let than = format!("at h = {} than at h = {}", wide.0, narrow.0);
    let lead = match conclusions.widths.outcome {
        Outcome::NotTested if levels.len() == 1 && measured.hiddens().len() > 1 => {
            format!("The run has one width of nets with one hidden layer, h = {}.", narrow.0)
        }
        Outcome::NotTested if levels.len() == 1 => {
            format!("The run has one width, h = {}.", narrow.0)
        }
        Outcome::NotTested | Outcome::TooFewPairs => {
            "The effect of the width is not tested.".to_owned()
        }
        Outcome::Inconclusive => "No effect of the width is detected.".to_owned(),
        Outcome::Lower => format!("Minima are less isolated {than}."),
        Outcome::Higher => format!("Minima are more isolated {than}."),
        Outcome::PartlyLower => format!("With some methods, minima are less isolated {than}."),
        Outcome::PartlyHigher => format!("With some methods, minima are more isolated {than}."),
        Outcome::Mixed => "The effect of the width depends on the method.".to_owned(),
    };
    Some(Sentence::new(lead, rest).with_more(more))
}

/// The error on the reference curve between the shallowest and the deepest nets of one width, and
/// with the most elaborate method.
pub(super) fn depth(measured: &Measured, conclusions: &Conclusions) -> Option<Sentence> {
    let (method, prior) = (measured.reference_method()?, measured.reference_prior()?);
    let families = measured.by_depth();
    let family = families.first()?;
    let (width, [shallow, deep]) = (family.width?, family.ends()?);
    let layers = |hidden: Hidden| match hidden.widths.depth() {
        1 => "1 hidden layer".to_owned(),
        depth => format!("{depth} hidden layers"),
    };
    let levels = |method: Method| -> Option<Vec<Level>> {
        let level = |hidden: Hidden| {
            let error = measured.mean(CurveGroup { hidden, prior, method }, Metric::MaxError)?;
            Some((hidden, error, measured.ends.get(&(hidden, prior))))
        };
        [shallow, deep].into_iter().map(level).collect()
    };
    let with = |hidden: Hidden| format!("with {}", layers(hidden));
    let mut rest = reached((method, prior), &levels(method)?, with).replacen(
        "two nets",
        &format!("two nets of width {width}"),
        1,
    );
    let elaborate = measured.most_elaborate(method);
    if elaborate != method
        && let Some(levels) = levels(elaborate)
    {
        let errors: Vec<String> = levels.iter().map(|(_, error, _)| percent(error)).collect();
        rest += &format!(" On {}, it reaches {}.", curve_name(elaborate), list(&errors));
    }
    let change = Change::Depth(method, [shallow, deep]);
    let of = |findings: &[Finding], metric| {
        let finding = findings.iter().find(|f| f.change == change && f.metric == metric);
        finding.cloned()
    };
    let mut more = String::new();
    if let Some(finding) = of(&conclusions.depth.tested, Metric::ExcessError)
        && let Some(times) = times(&finding)
    {
        let times = times.trim_end_matches(',');
        rest += &format!(" The excess over the worse net changes by a factor of {times}");
        let barrier = of(&conclusions.depth.described, Metric::LossBarrier);
        if let Some(ratio) = barrier.and_then(|finding| finding.ratio_text()) {
            rest += &format!(", the barrier of the loss by {ratio}, not tested");
        }
        rest += ".";
        more = format!(
            "The factors are on {} from h = {shallow} to h = {deep}{}.",
            curve_name(method),
            averaged(&[priors_of(measured)])
        );
    }
    let than = match families.len() {
        1 => format!("with {} than with {}", layers(deep), shallow.widths.depth()),
        _ => "with more hidden layers of the same width".to_owned(),
    };
    let lead = match conclusions.depth.outcome {
        Outcome::NotTested => return None,
        Outcome::TooFewPairs => "The effect of the depth is not tested.".to_owned(),
        Outcome::Inconclusive => "No effect of the depth is detected.".to_owned(),
        Outcome::Lower => format!("Minima are less isolated {than}."),
        Outcome::Higher => format!("Minima are more isolated {than}."),
        Outcome::PartlyLower => format!("With some methods, minima are less isolated {than}."),
        Outcome::PartlyHigher => format!("With some methods, minima are more isolated {than}."),
        Outcome::Mixed => "The effect of the depth depends on the method.".to_owned(),
    };
    Some(Sentence::new(lead, rest).with_more(more))
}

/// The test error of the nets at the narrowest and the widest width.
pub(super) fn ends(measured: &Measured) -> Option<Sentence> {
    let prior = measured.ends.keys().map(|(_, prior)| *prior).min()?;
    let of_prior = measured.ends.iter().filter(|((_, other), _)| *other == prior);
    let ends: Vec<(Hidden, &GroupMean)> = of_prior.map(|((h, _), mean)| (*h, mean)).collect();
    let (narrow, wide) = (ends.first()?, ends.last()?);
    let shown = if narrow.0 == wide.0 { vec![narrow] } else { vec![narrow, wide] };
    let shown = shown.iter().map(|(h, mean)| format!("{} at h = {h}", percent(mean)));
    Some(Sentence::new(
        format!("The nets have a test error of {}.", list(&shown.collect::<Vec<_>>())),
        format!("These are means over the nets {}; the tables below have all.", prior_name(prior)),
    ))
}

/// The change of the largest error by OT, by WA and by both, relative to the same curve without.
pub(super) fn methods(measured: &Measured, conclusions: &Conclusions) -> Option<Sentence> {
    let base = measured.reference_method()?;
    let Conclusion { outcome, tested, .. } = &conclusions.methods;
    if *outcome == Outcome::NotTested {
        return None;
    }
    let compared: Vec<(Method, Method, &Finding)> = tested
        .iter()
        .filter(|finding| finding.metric == Metric::MaxError)
        .filter_map(|finding| match finding.change {
            Change::Method([from, to]) => Some((from, to, finding)),
            _ => None,
        })
        .collect();
    // The first method of each kind, in the talk's order: chosen without a look at the numbers.
    let kinds = [(true, false), (false, true), (true, true)];
    let of_kind = |&(aligned, adjusted): &(bool, bool)| {
        compared.iter().find(|(from, to, _)| {
            *from == base
                && (to.alignment.is_some(), to.adjustment.is_some()) == (aligned, adjusted)
        })
    };
    let changes = kinds.iter().filter_map(of_kind).filter_map(|(_, to, finding)| {
        Some(format!("{} with {}", times(finding)?, to.changes_title()))
    });
    let changes: Vec<String> = changes.collect();
    let [mut rest, mut more] = [String::new(), String::new()];
    if !changes.is_empty() {
        let curve = curve_name(base);
        rest = format!("The largest error changes by a factor of {}.", list(&changes));
        more = format!(
            "The factors are relative to {curve}{}.",
            averaged(&[widths_of(measured), priors_of(measured)])
        );
    }
    let kinds = [
        ("OT", compared.iter().any(|(_, to, _)| to.alignment.is_some())),
        ("REPAIR", compared.iter().any(|(_, to, _)| to.repair)),
        ("WA", compared.iter().any(|(_, to, _)| to.adjustment.is_some())),
    ];
    let names: Vec<&str> = kinds.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    let names = names.join(" or ");
    let lead = match outcome {
        Outcome::NotTested => return None,
        Outcome::TooFewPairs => format!("The effect of {names} is not tested."),
        Outcome::Inconclusive => format!("No effect of {names} is detected."),
        Outcome::Lower => format!("Every method with {names} lowers the error on the curve."),
        Outcome::Higher => format!("Every method with {names} raises the error on the curve."),
        Outcome::PartlyLower => format!("Some methods with {names} lower the error on the curve."),
        Outcome::PartlyHigher => format!("Some methods with {names} raise the error on the curve."),
        Outcome::Mixed => format!("Some methods with {names} lower the error, others raise it."),
    };
    Some(Sentence::new(lead, rest).with_more(more))
}

/// The width from which on the mean excess is within the noise of the test set, on the reference
/// curve and with the most elaborate method on it. The method is chosen by its kind, not by its
/// errors.
pub(super) fn noise(measured: &Measured) -> Option<Sentence> {
    let (reference, prior) = (measured.reference_method()?, measured.reference_prior()?);
    let excess = |hidden, method| {
        let group = CurveGroup { hidden, prior, method };
        Some((hidden, measured.excess_and_noise(group)?))
    };
    let widths = measured.by_width();
    let of_some = match measured.hiddens().len() == widths.len() {
        true => "",
        false => " of nets with one hidden layer",
    };
    let widest = |method| widths.iter().rev().find_map(|&hidden| excess(hidden, method));
    // From the widest width down, as long as the excess is within the noise.
    let first_within = |method| {
        let measured = widths.iter().rev().filter_map(|&hidden| excess(hidden, method));
        measured.take_while(|(_, (excess, noise))| excess <= noise).last()
    };
    let elaborate = measured.most_elaborate(reference);
    let methods = match elaborate == reference {
        true => vec![reference],
        false => vec![elaborate, reference],
    };
    // Where the excess becomes small, or else how large it is at the widest width.
    let level = |method: &Method| first_within(*method).or(widest(*method));
    let level_text = |method: &Method| {
        let (hidden, (excess, noise)) = level(method)?;
        // The lead names the most elaborate method.
        let on = match *method == elaborate {
            true => String::new(),
            false => format!(" on {}", curve_name(*method)),
        };
        Some(format!("{excess:.2} points at h = {hidden}{on} (noise {noise:.2})"))
    };
    let levels: Vec<String> = methods.iter().map(level_text).collect::<Option<_>>()?;
    let from = |hidden| match widths.last() == Some(&hidden) {
        true => format!("at h = {hidden}"),
        false => format!("from h = {hidden} on"),
    };
    let (first, other) = (first_within(elaborate), first_within(reference));
    let curve = match elaborate == reference {
        true => format!("On {}", curve_name(reference)),
        false => format!("With {}", elaborate.changes_title()),
    };
    let mut lead = match first {
        Some((hidden, _)) => {
            format!(
                "{curve}, the excess error{of_some} is within the noise of the test set {}",
                from(hidden)
            )
        }
        None => format!("{curve}, the excess error{of_some} exceeds the noise of the test set"),
    };
    if elaborate != reference {
        lead += &format!("; on {} alone, ", curve_name(reference));
        lead += &match (first, other) {
            (Some(_), Some((hidden, _))) => from(hidden),
            (Some(_), None) => "at no width".to_owned(),
            (None, Some((hidden, _))) => format!("it is within the noise {}", from(hidden)),
            (None, None) => "too".to_owned(),
        };
    }
    lead += ".";
    let prior = capitalised(&prior_name(prior));
    let rest = format!("{prior}, the mean excess is {}.", list(&levels));
    let more = "The excess is over the worse net; the noise is two standard errors of the \
                difference of two test errors.";
    Some(Sentence::new(lead, rest).with_more(more.to_owned()))
}

/// A prior, its effect on the excess, and on the largest error.
type OfPrior<'f> = (Prior, &'f Finding, Option<&'f Finding>);

/// The change of the excess and of the largest error by each prior.
pub(super) fn priors(measured: &Measured, conclusions: &Conclusions) -> Option<Sentence> {
    let Conclusion { outcome, tested, described, .. } = &conclusions.priors;
    let mut named: Vec<OfPrior> = tested
        .iter()
        .filter_map(|finding| match finding.change {
            Change::Prior([_, to]) => {
                Some((to, finding, described.iter().find(|other| other.change == finding.change)))
            }
            _ => None,
        })
        .filter(|(_, finding, _)| finding.observed.is_some())
        .collect();
    let all = named.len();
    if all > NAMED {
        // The smallest and the largest ratio.
        let ratio = |finding: &Finding| finding.observed.unwrap_or(f64::NAN);
        named.sort_by(|a, b| ratio(a.1).total_cmp(&ratio(b.1)));
        named = vec![named[0], named[all - 1]];
    }
    let each = |text: &dyn Fn(&OfPrior) -> Option<String>| {
        named.iter().map(text).collect::<Option<Vec<_>>>()
    };
    let excess = each(&|(prior, finding, _)| Some(format!("{} with {prior}", times(finding)?)))?;
    let whole = each(&|(_, _, whole)| whole.and_then(|finding| finding.ratio_text()));
    let [mut rest, mut more] = [String::new(), String::new()];
    if !excess.is_empty() {
        let extremes =
            if all > NAMED { format!(", the least and most of {all}") } else { String::new() };
        rest = format!("The excess changes by a factor of {}{extremes}", list(&excess));
        if let Some(whole) = whole {
            rest += &format!(", the largest error itself by {}, not tested", list(&whole));
        }
        rest += ".";
        more = format!(
            "The factors are relative to no prior{}. The excess is over the worse net; the largest \
             error contains the error of the nets, which a prior changes, too.",
            averaged(&[widths_of(measured), methods_of(measured)])
        );
    }
    let lead = match outcome {
        Outcome::NotTested => return None,
        Outcome::TooFewPairs => "The effect of the prior is not tested.".to_owned(),
        Outcome::Inconclusive => "No effect of a prior is detected.".to_owned(),
        Outcome::Lower if all == 1 => "With the prior, minima are less isolated.".to_owned(),
        Outcome::Lower => "With each prior, minima are less isolated.".to_owned(),
        Outcome::Higher if all == 1 => "With the prior, minima are more isolated.".to_owned(),
        Outcome::Higher => "With each prior, minima are more isolated.".to_owned(),
        Outcome::PartlyLower => "With some priors, minima are less isolated.".to_owned(),
        Outcome::PartlyHigher => "With some priors, minima are more isolated.".to_owned(),
        Outcome::Mixed => {
            "With some priors, minima are less isolated, with others more.".to_owned()
        }
    };
    Some(Sentence::new(lead, rest).with_more(more))
}

/// The published numbers beside our prediction intervals.
pub(super) fn published(measured: &Measured) -> Option<Sentence> {
    let comparable = measured.comparable().len();
    if comparable == 0 {
        return None;
    }
    let Some(agreement) = measured.agreement() else {
        let s = if comparable == 1 { "" } else { "s" };
        return Some(Sentence::new(
            format!(
                "The tables show {comparable} published number{s} beside ours, without a test."
            ),
            format!("A prediction interval requires {}.", required()),
        ));
    };
    Some(Sentence::new(
        format!(
            "{} of {} published numbers lie in our 95 % prediction intervals; {} are expected to.",
            agreement.inside, agreement.total, agreement.expected
        ),
        format!(
            "Their median half-width is {:.0} % of our mean; {} of {} exceed 50 %, where agreement \
             is weak evidence.",
            100.0 * agreement.half_width,
            agreement.wide,
            agreement.total
        ),
    ))
}

/// The mean, without its interval.
fn value(mean: &GroupMean) -> String {
    let digits = if mean.mean < 10.0 { 2 } else { 1 };
    format!("{:.digits$}", mean.mean)
}

/// `62.3 ± 48.4 %`, or the values themselves if there are too few for an interval.
fn percent(mean: &GroupMean) -> String {
    let GroupMean { nets: _, count, average, mean, interval, range: (least, most) } = mean;
    let digits = if *mean < 10.0 { 2 } else { 1 };
    match (interval, average) {
        (Some(interval), Average::Arithmetic) => {
            format!("{mean:.digits$} ± {:.digits$} %", interval.half_width())
        }
        (Some(Interval { low, high }), Average::Geometric) => {
            format!("{mean:.digits$} % (geometric mean, {low:.digits$} to {high:.digits$})")
        }
        (None, _) if *count == 1 => format!("{mean:.digits$} %"),
        (None, _) => {
            let [least, most] = [least, most].map(|x| format!("{x:.digits$}"));
            if least == most { format!("{least} %") } else { format!("{least} to {most} %") }
        }
    }
}

/// `0.36 (0.31 to 0.41)`, with a note if the contrast is not decided.
fn times(finding: &Finding) -> Option<String> {
    let ratio = finding.ratio_text()?;
    Some(match (finding.ratio, finding.effect) {
        (None, _) => format!("{ratio} (no interval)"),
        (Some(_), Effect::Inconclusive) => format!("{ratio}, inconclusive,"),
        (Some(_), _) => ratio,
    })
}

/// `, averaged over the widths and the priors`, with those that the run has more than one of.
pub(super) fn averaged(over: &[Option<&str>]) -> String {
    let over: Vec<String> = over.iter().flatten().map(|&axis| axis.to_owned()).collect();
    if over.is_empty() { String::new() } else { format!(", averaged over the {}", list(&over)) }
}

pub(super) fn widths_of(measured: &Measured) -> Option<&'static str> {
    let name = if measured.has_general_nets() { "architectures" } else { "widths" };
    (measured.hiddens().len() > 1).then_some(name)
}

pub(super) fn priors_of(measured: &Measured) -> Option<&'static str> {
    (measured.priors().len() > 1).then_some("priors")
}

fn methods_of(measured: &Measured) -> Option<&'static str> {
    (measured.methods().len() > 1).then_some("methods")
}

/// The curve in a sentence.
pub(super) fn curve_name(method: Method) -> String {
    match method.name().as_str() {
        "linear" => "the straight line".to_owned(),
        _ => format!("the curve {}", method.title()),
    }
}

/// The prior in a sentence.
pub(super) fn prior_name(prior: Prior) -> String {
    match prior {
        Prior::None => "without prior".to_owned(),
        prior => format!("with the prior {prior}"),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The text with a capital letter at its start.
pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::stage::artifact::{DataCard, DataName, ImageFormat};
    use crate::stage::report::conclusions::Tests;
    use crate::stage::rows::MetricSummary;
    use crate::stage::talk;
    use crate::study::data::Dataset;
    use crate::study::stats::Sample;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// The curves of one width, prior and method: the largest error of each pair.
    type Curves<'a> = (&'a str, &'a str, &'a str, &'a [f64]);

    /// The test error of all nets, in %.
    const END: f64 = 2.0;

    fn mean_of(values: &[f64]) -> MetricSummary {
        let nets = (0..values.len()).map(|i| [2 * i, 2 * i + 1]).collect();
        let sample = Sample::of_pairs(values.to_vec(), nets).expect("finite");
        let found = sample.summary(Average::of(values)).expect("values");
        let mean = GroupMean {
            nets: 2 * values.len(),
            count: values.len(),
            average: found.average,
            mean: found.mean,
            interval: found.interval,
            range: (found.least, found.most),
        };
        MetricSummary { mean, prediction: found.prediction }
    }

    /// A run on `dataset` with these curves.
    pub(in crate::stage::report) fn run(
        dataset: Dataset,
        curves: &[Curves],
    ) -> (Measured, Conclusions) {
        let images = 10_000;
        let mut measured = Measured {
            data: DataCard {
                dataset: DataName::Known(dataset),
                train: 60_000,
                validation: 0,
                test: images,
                images: ImageFormat::default(),
            },
            nets: 0,
            imported: 0,
            ends: [].into(),
            summaries: [].into(),
            published: talk::published(dataset == Dataset::Mnist),
            tests: Tests { pairs: [].into(), images },
        };
        for &(hidden, prior, method, errors) in curves {
            let (prior, method) = (prior.parse().expect("a prior"), method.parse().expect("one"));
            let hidden = hidden.parse().expect("hidden layers");
            let group = CurveGroup { hidden, prior, method };
            measured.ends.insert((hidden, prior), mean_of(&vec![END; 2 * errors.len()]).mean);
            for metric in Metric::ALL {
                let shift = if metric == Metric::ExcessError { END } else { 0.0 };
                let values: Vec<f64> = errors.iter().map(|error| error - shift).collect();
                measured.summaries.insert((group, metric), mean_of(&values));
                let pairs = (1..).map(|pair: usize| pair.to_string().parse().expect("a pair"));
                let pairs = pairs.zip(values).collect();
                measured.tests.pairs.insert((group, metric), pairs);
            }
        }
        let conclusions = measured.tests.conclusions().expect("finite");
        (measured, conclusions)
    }

    fn texts(dataset: Dataset, curves: &[Curves]) -> Vec<String> {
        let (measured, conclusions) = run(dataset, curves);
        let sentences = sentences(&measured, &conclusions);
        let text = |sentence: Sentence| {
            let Sentence { lead, rest, more } = sentence;
            format!("{lead} {rest} {more}").trim_end().to_owned()
        };
        sentences.into_iter().map(text).collect()
    }

    /// Two widths, two priors, and OT and WA, on which everything has an effect.
    const CLEAR: [Curves; 12] = [
        ("10", "none", "linear", &[40.0, 42.0, 44.0]),
        ("10", "none", "linear+ot", &[20.0, 20.8, 22.4]),
        ("10", "none", "linear+ot+wa", &[10.1, 10.4, 11.1]),
        ("10", "dropout 0.5", "linear", &[20.0, 21.3, 22.0]),
        ("10", "dropout 0.5", "linear+ot", &[10.0, 10.5, 11.2]),
        ("10", "dropout 0.5", "linear+ot+wa", &[5.1, 5.2, 5.6]),
        ("50", "none", "linear", &[8.0, 8.4, 9.0]),
        ("50", "none", "linear+ot", &[4.0, 4.2, 4.4]),
        ("50", "none", "linear+ot+wa", &[2.2, 2.3, 2.25]),
        ("50", "dropout 0.5", "linear", &[5.0, 5.2, 5.6]),
        ("50", "dropout 0.5", "linear+ot", &[3.0, 3.1, 3.15]),
        ("50", "dropout 0.5", "linear+ot+wa", &[2.1, 2.15, 2.12]),
    ];

    #[test]
    fn a_clear_result_is_said_with_its_ratios_and_intervals() {
        insta::assert_snapshot!(texts(Dataset::Digits, &CLEAR).join("\n"), @r"
        Minima are less isolated at h = 50 than at h = 10. On the straight line between two nets without prior, the test error reaches 42.0 ± 5.0 % at h = 10 and 8.47 ± 1.25 % at h = 50; the nets have 2.00 % and 2.00 %. The excess over the worse net changes by a factor of 0.17 (0.14 to 0.20). The factor is from h = 10 to h = 50, averaged over the priors.
        Every method with OT or WA lowers the error on the curve. The largest error changes by a factor of 0.52 (0.51 to 0.53) with OT and 0.29 (0.27 to 0.30) with OT + WA. The factors are relative to the straight line, averaged over the widths and priors.
        With OT + WA, the excess error is within the noise of the test set at h = 50; on the straight line alone, at no width. Without prior, the mean excess is 0.25 points at h = 50 (noise 0.41) and 6.47 points at h = 50 on the straight line (noise 0.62). The excess is over the worse net; the noise is two standard errors of the difference of two test errors.
        With the prior, minima are less isolated. The excess changes by a factor of 0.47 (0.46 to 0.47) with dropout 0.5, the largest error itself by 0.62 (0.61 to 0.62), not tested. The factors are relative to no prior, averaged over the widths and methods. The excess is over the worse net; the largest error contains the error of the nets, which a prior changes, too.
        ");
    }

    #[test]
    fn with_two_pairs_no_sentence_claims_an_effect() {
        let two: Vec<Curves> = CLEAR
            .iter()
            .map(|&(h, prior, method, errors)| (h, prior, method, &errors[..2]))
            .collect();
        insta::assert_snapshot!(texts(Dataset::Mnist, &two).join("\n"), @r"
        There are too few pairs for a verdict. The run has 2 pairs of nets of a width and prior; a test requires 3. The numbers below describe these nets alone.
        The effect of the width is not tested. On the straight line between two nets without prior, the test error reaches 40.0 to 42.0 % at h = 10 and 8.00 to 8.40 % at h = 50; the nets have 2.00 % and 2.00 %. The excess over the worse net changes by a factor of 0.16 (no interval). The factor is from h = 10 to h = 50, averaged over the priors.
        The effect of OT or WA is not tested. The largest error changes by a factor of 0.52 (no interval) with OT and 0.29 (no interval) with OT + WA. The factors are relative to the straight line, averaged over the widths and priors.
        With OT + WA, the excess error is within the noise of the test set at h = 50; on the straight line alone, at no width. Without prior, the mean excess is 0.25 points at h = 50 (noise 0.41) and 6.20 points at h = 50 on the straight line (noise 0.62). The excess is over the worse net; the noise is two standard errors of the difference of two test errors.
        The effect of the prior is not tested. The excess changes by a factor of 0.47 (no interval) with dropout 0.5, the largest error itself by 0.62, not tested. The factors are relative to no prior, averaged over the widths and methods. The excess is over the worse net; the largest error contains the error of the nets, which a prior changes, too.
        The tables show 8 published numbers beside ours, without a test. A prediction interval requires at least 3 pairs of one width that share no net, or 4 nets.
        ");
    }

    #[test]
    fn a_run_of_one_width_method_and_prior_has_its_error_alone() {
        let one = texts(Dataset::Mnist, &[("50", "normal 0.01", "arc", &[21.0])]);
        insta::assert_snapshot!(one.join("\n"), @r"
        The run has one width, h = 50. On the curve Arc between two nets with the prior normal 0.01, the test error reaches 21.0 % at h = 50; the nets have 2.00 %.
        On the curve Arc, the excess error exceeds the noise of the test set. With the prior normal 0.01, the mean excess is 19.00 points at h = 50 (noise 0.86). The excess is over the worse net; the noise is two standard errors of the difference of two test errors.
        ");
    }

    #[test]
    fn depth_has_a_sentence_where_nets_differ_in_depth_alone() {
        let curves: [Curves; 4] = [
            ("50", "none", "linear", &[8.0, 8.4, 9.0]),
            ("50", "none", "linear+ot", &[4.0, 4.2, 4.4]),
            ("50x50x50", "none", "linear", &[40.0, 42.0, 44.0]),
            ("50x50x50", "none", "linear+ot", &[20.0, 20.8, 22.4]),
        ];
        let found = texts(Dataset::Digits, &curves);
        insta::assert_snapshot!(found[1], @r"
        Minima are more isolated with 3 hidden layers than with 1. On the straight line between two nets of width 50 without prior, the test error reaches 8.47 ± 1.25 % with 1 hidden layer and 42.0 ± 5.0 % with 3 hidden layers; the nets have 2.00 % and 2.00 %. On the curve Linear + OT, it reaches 4.20 ± 0.50 % and 21.1 ± 3.0 %. The excess over the worse net changes by a factor of 6.19 (5.29 to 7.25), the barrier of the loss by 4.96 (4.38 to 5.62), not tested. The factors are on the straight line from h = 50 to h = 50x50x50.
        ");
        assert_eq!(texts(Dataset::Digits, &curves[..2]).len(), found.len() - 1);
    }

    #[test]
    fn a_run_without_curves_says_so() {
        assert_eq!(texts(Dataset::Mnist, &[]), ["The run has no curves."]);
    }

    #[test]
    fn published_numbers_are_counted_beside_the_expected_number() {
        // The talk has 45.74 and 24.35 for these; the second is far from ours.
        let curves: [Curves; 2] = [
            ("10", "none", "linear", &[40.0, 45.0, 50.0]),
            ("50", "none", "linear", &[10.0, 10.1, 10.2]),
        ];
        let found = texts(Dataset::Mnist, &curves);
        let last = found.last().expect("a sentence");
        let start = "1 of 2 published numbers lie in our 95 % prediction intervals; 2 are expected";
        assert!(last.starts_with(start), "{last}");
        assert_eq!(texts(Dataset::Digits, &curves).len(), found.len() - 1, "none for digits");
    }

    #[test]
    fn opposite_effects_of_the_same_size_are_not_called_lower() {
        let curves: [Curves; 4] = [
            ("10", "none", "linear", &[20.0, 20.8, 22.4]),
            ("10", "none", "linear+ot", &[40.0, 42.0, 44.0]),
            ("50", "none", "linear", &[40.0, 42.0, 44.0]),
            ("50", "none", "linear+ot", &[80.0, 83.0, 90.0]),
        ];
        let found = texts(Dataset::Digits, &curves).join("\n");
        assert!(found.contains("Minima are more isolated at h = 50 than at h = 10."), "{found}");
        assert!(found.contains("Every method with OT raises the error on the curve."), "{found}");
        assert!(!found.contains("lower"), "{found}");
    }

    /// The numbers in a text; `h = 50` and `95 %` are numbers, too.
    fn numbers(text: &str) -> BTreeSet<String> {
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        text.split(|c| !is_part(c))
            .map(|number| number.trim_matches('.'))
            .filter(|number| !number.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Every number that a sentence may contain, in every form.
    fn known(measured: &Measured, conclusions: &Conclusions) -> BTreeSet<String> {
        let mut known: BTreeSet<String> =
            ["95", "50", "4"].map(str::to_owned).into_iter().chain([FEWEST.to_string()]).collect();
        let mut values: Vec<f64> = Vec::new();
        for mean in measured.summaries.values().map(|summary| &summary.mean) {
            values.extend([mean.mean, mean.range.0, mean.range.1]);
            values.extend(mean.interval.iter().flat_map(|i| [i.low, i.high, i.half_width()]));
            known.insert(mean.count.to_string());
        }
        values.extend(measured.ends.values().flat_map(|mean| {
            [mean.mean, mean.range.0, mean.range.1, mean.interval.map_or(0.0, Interval::half_width)]
        }));
        for group in measured.groups() {
            let CurveGroup { hidden, prior, .. } = group;
            known.extend(numbers(&hidden.to_string()));
            known.insert(hidden.widths.depth().to_string());
            known.extend(numbers(&prior.to_string()));
            values.extend(measured.excess_and_noise(group).map(|(_, noise)| noise));
        }
        let Conclusions { methods, bound, widths, depth, priors, informative } = conclusions;
        for conclusion in [methods, bound, widths, depth, priors, informative] {
            for finding in conclusion.tested.iter().chain(&conclusion.described) {
                values.extend(finding.observed);
                values.extend(finding.ratio.iter().flat_map(|(ratio, i)| [*ratio, i.low, i.high]));
            }
            known.insert(conclusion.tested.len().to_string());
        }
        known.insert(measured.comparable().len().to_string());
        known.extend(measured.agreement().iter().flat_map(|agreement| {
            let counts = [agreement.total, agreement.inside, agreement.expected, agreement.wide];
            let percent = format!("{:.0}", 100.0 * agreement.half_width);
            counts.map(|count| count.to_string()).into_iter().chain([percent])
        }));
        for value in values {
            for digits in 1..=3 {
                known.insert(format!("{value:.digits$}").trim_start_matches('-').to_owned());
            }
        }
        known
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_number_of_any_run_is_one_of_its_means_ratios_or_counts(
            errors in prop::collection::vec(prop::collection::vec(2.01f64..90.0, 5), 12),
            pairs in 1usize..5,
            kept in prop::collection::vec(any::<bool>(), 12),
            dataset in prop::sample::select(Dataset::ALL.to_vec()),
        ) {
            let curves: Vec<Curves> = CLEAR
                .iter()
                .zip(&errors)
                .zip(&kept)
                .filter(|(_, kept)| **kept)
                .map(|((&(h, prior, method, _), errors), _)| (h, prior, method, &errors[..pairs]))
                .collect();
            let (measured, conclusions) = run(dataset, &curves);
            let known = known(&measured, &conclusions);
            let found = sentences(&measured, &conclusions);
            prop_assert!(!found.is_empty() && found.len() <= 7);
            for Sentence { lead, rest, more } in &found {
                let text = format!("{lead} {rest} {more}").trim_end().to_owned();
                let unknown: Vec<_> = numbers(&text).difference(&known).cloned().collect();
                prop_assert!(unknown.is_empty(), "{unknown:?} in {text}");
                prop_assert!(!text.contains("  ") && !text.contains("NaN"), "{text}");
                if pairs < FEWEST {
                    let claims = ["less isolated", "more isolated", "lowers the", "raises the"];
                    prop_assert!(!claims.iter().any(|claim| text.contains(claim)), "{text}");
                }
            }
        }
    }
}
