//! The first screen: the result of the run in a few sentences, each computed from its numbers.
//!
//! A sentence says that something is lower or higher only if a test in `conclusions` does. Numbers
//! without a test are given as what they are: means, with their intervals if there are enough pairs.

use super::Report;
use super::conclusions::{Conclusion, Conclusions, Outcome};
use super::contrasts::{Change, Effect, Finding};
use super::measured::Measured;
use super::provenance::root_check;
use crate::report::document::Block;
use crate::report::markdown::escape;
use crate::stage::rows::{CurveGroup, GroupMean, Metric};
use crate::study::curve::Method;
use crate::study::net::Prior;
use crate::study::stats::{Average, FEWEST, Interval};
use anyhow::Result;

/// The number of priors or methods that a sentence names.
const NAMED: usize = 3;

pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let mut blocks = vec![Block::Text(question(report))];
    let sentences = sentences(&report.measured, &report.conclusions);
    let items = sentences.iter().map(|sentence| format!("- {}\n", sentence.markdown()));
    blocks.push(Block::Text(items.collect()));
    blocks.extend(report.overview().map(|figure| Block::Figure(report.figure_block(figure))));
    blocks.push(Block::Facts(facts(report)));
    if let Some(root) = report.params.root {
        blocks.push(Block::Text(format!(
            "Root of all outputs that this report depends on: `{root}`. {} See \
             [Provenance](#provenance).\n",
            root_check(report.params)
        )));
    }
    Ok(blocks)
}

/// The result in one line of plain text, for link previews.
pub(super) fn description(report: &Report) -> String {
    let sentences = sentences(&report.measured, &report.conclusions);
    let leads: Vec<&str> = sentences.iter().map(|sentence| sentence.lead.as_str()).collect();
    leads.join(" ")
}

/// What the run asks, and on which data.
fn question(report: &Report) -> String {
    let data = &report.measured.data;
    let dataset = data.dataset;
    let mut text = format!(
        "Two networks f(x) = W2 relu(W1 x) are trained independently on the same images, `{dataset}`. \
         How low can the test error stay on a curve in parameter space that joins them, and how \
         does this depend on the number of hidden neurons h and on the prior of the parameters?\n"
    );
    if dataset.is_generated() {
        text += &format!(
            "\n**The images are generated (`{dataset}`), not MNIST.** The talk's published numbers \
             are for MNIST and are omitted here. If the pipeline requests MNIST, the dataset was \
             unavailable: set `REPRO_DATA` to a folder with the four files of MNIST, or connect to \
             the network, and run again.\n"
        );
    }
    if report.params.overrides.is_empty() && !report.params.about.is_empty() {
        text += &format!("\n{}\n", escape(&report.params.about));
    }
    text
}

/// A finding in words: the lead says what was found, the rest gives the numbers. Plain text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sentence {
    pub(super) lead: String,
    pub(super) rest: String,
}

impl Sentence {
    fn new(lead: impl Into<String>, rest: String) -> Sentence {
        Sentence { lead: lead.into(), rest }
    }

    pub(super) fn markdown(&self) -> String {
        format!("**{}** {}", escape(&self.lead), escape(&self.rest)).trim_end().to_owned()
    }
}

/// The verdict: one sentence for each question that the run has numbers for.
pub(super) fn sentences(measured: &Measured, conclusions: &Conclusions) -> Vec<Sentence> {
    let all = [
        widths(measured, conclusions),
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

/// The error on the reference curve at the narrowest and the widest width, beside that of the ends.
pub(super) fn widths(measured: &Measured, conclusions: &Conclusions) -> Option<Sentence> {
    let (method, prior) = (measured.reference_method()?, measured.reference_prior()?);
    let group = |hidden| CurveGroup { hidden, prior, method };
    let level = |hidden: i64| {
        let error = measured.mean(group(hidden), Metric::MaxError)?;
        Some((hidden, error, measured.ends.get(&(hidden, prior))))
    };
    let levels: Vec<_> = measured.widths().into_iter().filter_map(level).collect();
    let (narrow, wide) = (levels.first()?, levels.last()?);
    let levels = if levels.len() == 1 { vec![narrow] } else { vec![narrow, wide] };
    let each = |text: &dyn Fn(&(i64, &GroupMean, Option<&GroupMean>)) -> Option<String>| {
        levels.iter().map(|level| text(level)).collect::<Option<Vec<_>>>()
    };
    let reached = each(&|(hidden, error, _)| Some(format!("{} at h = {hidden}", percent(error))))?;
    let mut rest = format!(
        "On {} between two nets {}, the test error reaches {}",
        curve_name(method),
        prior_name(prior),
        list(&reached)
    );
    if let Some(ends) = each(&|(_, _, end)| end.map(percent)) {
        rest += &format!("; the nets themselves have {}", list(&ends));
    }
    rest += ".";
    let of_method =
        |finding: &&Finding| matches!(finding.change, Change::Width(m, _) if m == method);
    let finding = conclusions.widths.tested.iter().find(of_method);
    if let Some((finding, Change::Width(_, [narrow, wide]))) = finding.map(|f| (f, f.change))
        && let Some(times) = times(finding)
    {
        rest += &format!(
            " From h = {narrow} to h = {wide}, the excess over the worse net changes by a factor of \
             {times}{}.",
            averaged(&[priors_of(measured)])
        );
    }
    let lead = match conclusions.widths.outcome {
        Outcome::NotTested if levels.len() == 1 => {
            format!("The run has one width, h = {}.", narrow.0)
        }
        Outcome::NotTested => "The effect of the width is not tested.".to_owned(),
        Outcome::TooFewPairs => too_few("The effect of the width", measured),
        Outcome::Inconclusive => "No effect of the width is detected.".to_owned(),
        Outcome::Lower => "The wider the nets, the less isolated their minima.".to_owned(),
        Outcome::Higher => "The wider the nets, the more isolated their minima.".to_owned(),
        Outcome::PartlyLower => "With some methods, wider nets are less isolated.".to_owned(),
        Outcome::PartlyHigher => "With some methods, wider nets are more isolated.".to_owned(),
        Outcome::Mixed => "The effect of the width depends on the method.".to_owned(),
    };
    Some(Sentence::new(lead, rest))
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
        Some(format!("by {} with {}", times(finding)?, to.changes_title()))
    });
    let changes: Vec<String> = changes.collect();
    let rest = match changes.is_empty() {
        true => String::new(),
        false => format!(
            "Relative to {}, the largest error is multiplied {}{}.",
            curve_name(base),
            list(&changes),
            averaged(&[widths_of(measured), priors_of(measured)])
        ),
    };
    let kinds = [
        ("OT", compared.iter().any(|(_, to, _)| to.alignment.is_some())),
        ("WA", compared.iter().any(|(_, to, _)| to.adjustment.is_some())),
    ];
    let names: Vec<&str> = kinds.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    let names = names.join(" or ");
    let lead = match outcome {
        Outcome::NotTested => return None,
        Outcome::TooFewPairs => too_few(&format!("The effect of {names}"), measured),
        Outcome::Inconclusive => format!("No effect of {names} is detected."),
        Outcome::Lower => format!("Every method with {names} lowers the error on the curve."),
        Outcome::Higher => format!("Every method with {names} raises the error on the curve."),
        Outcome::PartlyLower => format!("Some methods with {names} lower the error on the curve."),
        Outcome::PartlyHigher => format!("Some methods with {names} raise the error on the curve."),
        Outcome::Mixed => format!("Some methods with {names} lower the error, others raise it."),
    };
    Some(Sentence::new(lead, rest))
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
    let widths = measured.widths();
    let widest = |method| widths.iter().rev().find_map(|&hidden| excess(hidden, method));
    // From the widest width down, as long as the excess is within the noise.
    let first_within = |method| {
        let measured = widths.iter().rev().filter_map(|&hidden| excess(hidden, method));
        measured.take_while(|(_, (excess, noise))| excess <= noise).last()
    };
    let on_curve = |method: Method, name: &str| -> Option<String> {
        let curve = curve_name(method);
        Some(match (first_within(method), widest(method)?) {
            (None, (hidden, (excess, noise))) => {
                format!(
                    "On {curve}, {name} is {excess:.2} points at h = {hidden} (noise {noise:.2})."
                )
            }
            (Some((hidden, (excess, noise))), (widest, _)) => {
                let at = if hidden == widest { "at" } else { "from" };
                let on = if hidden == widest { "" } else { " on" };
                format!(
                    "On {curve}, {name} is within the noise {at} h = {hidden}{on} ({excess:.2} \
                     points, noise {noise:.2})."
                )
            }
        })
    };
    let elaborate = measured.most_elaborate(reference);
    let mut rest = on_curve(elaborate, "the mean excess over the worse net")?;
    if elaborate != reference {
        rest += " ";
        rest += &on_curve(reference, "it")?;
    }
    let prior = prior_name(prior);
    let lead = match first_within(elaborate) {
        None => format!("At no width are nets {prior} connected within the noise of the test set."),
        Some((hidden, _)) if Some(hidden) == widest(elaborate).map(|(widest, _)| widest) => {
            format!("At h = {hidden}, nets {prior} are connected within the noise of the test set.")
        }
        Some((hidden, _)) => format!(
            "From h = {hidden} on, nets {prior} are connected within the noise of the test set."
        ),
    };
    Some(Sentence::new(lead, rest))
}

/// The change of the excess and of the largest error by each prior.
pub(super) fn priors(measured: &Measured, conclusions: &Conclusions) -> Option<Sentence> {
    let Conclusion { outcome, tested, described, .. } = &conclusions.priors;
    let mut named: Vec<(Prior, &Finding, Option<&Finding>)> = tested
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
    let each = |finding: &dyn Fn(&(Prior, &Finding, Option<&Finding>)) -> Option<String>| {
        named.iter().map(|named| finding(named)).collect::<Option<Vec<_>>>()
    };
    let excess = each(&|(prior, finding, _)| Some(format!("by {} with {prior}", times(finding)?)))?;
    let whole = each(&|(_, _, whole)| whole.and_then(|finding| finding.ratio_text()));
    let mut rest = String::new();
    if !excess.is_empty() {
        let extremes =
            if all > NAMED { format!(" ({all} priors; least and most)") } else { String::new() };
        rest = format!(
            "Relative to no prior, the excess over the worse net is multiplied {}{}{extremes}.",
            list(&excess),
            averaged(&[widths_of(measured), methods_of(measured)])
        );
        if let Some(whole) = whole {
            rest += &format!(
                " The largest error itself, which contains the error of the nets, is multiplied by \
                 {}, not tested.",
                list(&whole)
            );
        }
    }
    let lead = match outcome {
        Outcome::NotTested => return None,
        Outcome::TooFewPairs => too_few("The effect of the prior", measured),
        Outcome::Inconclusive => "No effect of a prior is detected.".to_owned(),
        Outcome::Lower if all == 1 => "The prior connects the minima better.".to_owned(),
        Outcome::Lower => "Each prior connects the minima better.".to_owned(),
        Outcome::Higher if all == 1 => "The prior isolates the minima further.".to_owned(),
        Outcome::Higher => "Each prior isolates the minima further.".to_owned(),
        Outcome::PartlyLower => "Some priors connect the minima better.".to_owned(),
        Outcome::PartlyHigher => "Some priors isolate the minima further.".to_owned(),
        Outcome::Mixed => "Some priors connect the minima better, others isolate them.".to_owned(),
    };
    Some(Sentence::new(lead, rest))
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
            format!("A prediction interval requires at least {FEWEST} pairs of one width."),
        ));
    };
    Some(Sentence::new(
        format!(
            "{} of {} published numbers lie in our 95 % prediction intervals; {} are expected to.",
            agreement.inside, agreement.total, agreement.expected
        ),
        format!(
            "The median half-width of these intervals is {:.0} % of our mean, and {} of them exceed \
             50 %. Within a wide interval, agreement is weak evidence: single pairs of nets differ \
             that much.",
            100.0 * agreement.half_width,
            agreement.wide
        ),
    ))
}

fn facts(report: &Report) -> Vec<(String, String)> {
    let measured = &report.measured;
    let data = &measured.data;
    let priors: Vec<String> = measured.priors().iter().map(Prior::to_string).collect();
    let pairs = match measured.pairs() {
        None => "0".to_owned(),
        Some([few, many]) if few == many => few.to_string(),
        Some([few, many]) => format!("{few} to {many}"),
    };
    let mut images = format!("{} training", data.train);
    if data.validation > 0 {
        images += &format!(", {} validation", data.validation);
    }
    images += &format!(", {} test", data.test);
    let widths: Vec<String> = measured.widths().iter().map(i64::to_string).collect();
    let mut facts = vec![
        ("data", data.dataset.to_string()),
        ("images", images),
        ("nets", measured.nets.to_string()),
        ("pairs per width and prior", pairs),
        ("curves", measured.curves().to_string()),
        ("widths", widths.join(", ")),
        ("priors", priors.join(", ")),
        ("methods", measured.methods().len().to_string()),
    ];
    if let Some(agreement) = measured.agreement() {
        let (inside, total, expected) = (agreement.inside, agreement.total, agreement.expected);
        facts.push((
            "published numbers in our 95 % prediction intervals",
            format!("{inside} of {total} ({expected} expected)"),
        ));
        facts.push((
            "median half-width of these intervals",
            format!("{:.0} % of our mean", 100.0 * agreement.half_width),
        ));
    }
    facts.into_iter().map(|(label, value)| (label.to_owned(), value)).collect()
}

/// `62.25 ± 48.39 %`, or the values themselves if there are too few for an interval.
fn percent(mean: &GroupMean) -> String {
    let GroupMean { count, average, mean, interval, range: (least, most) } = mean;
    match (interval, average) {
        (Some(interval), Average::Arithmetic) => {
            format!("{mean:.2} ± {:.2} %", interval.half_width())
        }
        (Some(Interval { low, high }), Average::Geometric) => {
            format!("{mean:.2} % (geometric mean, {low:.2} to {high:.2})")
        }
        (None, _) if *count == 1 => format!("{mean:.2} %"),
        (None, _) => format!("{least:.2} to {most:.2} %"),
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
fn averaged(over: &[Option<&str>]) -> String {
    let over: Vec<String> = over.iter().flatten().map(|&axis| axis.to_owned()).collect();
    if over.is_empty() { String::new() } else { format!(", averaged over the {}", list(&over)) }
}

fn widths_of(measured: &Measured) -> Option<&'static str> {
    (measured.widths().len() > 1).then_some("widths")
}

fn priors_of(measured: &Measured) -> Option<&'static str> {
    (measured.priors().len() > 1).then_some("priors")
}

fn methods_of(measured: &Measured) -> Option<&'static str> {
    (measured.methods().len() > 1).then_some("methods")
}

/// The lead of a sentence whose contrasts have too few pairs.
fn too_few(effect: &str, measured: &Measured) -> String {
    let most = measured.pairs().map_or(0, |[_, most]| most);
    let s = if most == 1 { "" } else { "s" };
    format!(
        "{effect} is not decided: the run has {most} pair{s} of a width, {FEWEST} are required."
    )
}

/// The curve in a sentence.
fn curve_name(method: Method) -> String {
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
