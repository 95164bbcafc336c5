//! Whether the priors acted: on the norms of the weights, on the active neurons, and on the
//! correlation of two nets.

use super::Report;
use super::contrasts::{Change, Effect, Finding, SIGNIFICANCE, digits, two_decimals};
use super::full_tables::{folded, hidden_cell};
use super::measured::Measured;
use super::questions::text;
use super::sentences::{Sentence, averaged, list, widths_of};
use crate::report::document::{Block, Cell, Column, TableBlock};
use crate::report::table::Align;
use crate::stage::names::PairName;
use crate::stage::rows::{Metric, has_one_layer, parsed, samples, values_by_pair};
use crate::stage::tables::{METRICS, NETS, numbers, texts};
use crate::study::curve::Method;
use crate::study::net::{Hidden, Prior, Widths};
use crate::study::stats::{Estimate, Interval, NotFinite, Sample, holm};
use anyhow::Result;
use polars::prelude::DataFrame;
use std::collections::{BTreeMap, BTreeSet};

/// The number of priors that a sentence names.
const NAMED: usize = 3;

/// A quantity of each net, by hidden layers, prior and name.
type OfNets = BTreeMap<(Hidden, Prior), BTreeMap<String, f64>>;

/// The correlation of the two nets of each pair, by hidden layers and prior.
type OfPairs = BTreeMap<(Hidden, Prior), BTreeMap<PairName, f64>>;

/// What the priors may act on.
struct Action {
    first_norm: OfNets,
    last_norm: OfNets,
    active: OfNets,
    /// Before the neurons are matched.
    rho: OfPairs,
    /// After it, with the method of the correlation.
    matched: Option<(Method, OfPairs)>,
}

impl Action {
    fn read(report: &Report) -> Result<Action> {
        let metrics = METRICS.read(report.tables.path(METRICS.file)?)?;
        let methods = report.measured.methods();
        let plain = methods.iter().find(|method| method.is_base());
        let aligned =
            methods.iter().find(|m| m.alignment.is_some() && m.adjustment.is_none()).copied();
        let rho = values_by_pair(&metrics, &["rho"])?.remove(0);
        let of_method = |method: Method| -> OfPairs {
            let groups = rho.iter().filter(|(group, _)| group.method == method);
            groups.map(|(group, pairs)| ((group.hidden, group.prior), pairs.clone())).collect()
        };
        Ok(Action {
            first_norm: of_nets(&report.nets, "norm_w1")?,
            last_norm: of_nets(&report.nets, "norm_w2")?,
            active: of_nets(&report.nets, "active_neurons")?,
            rho: plain.map_or(OfPairs::new(), |method| of_method(*method)),
            matched: aligned.map(|method| (method, of_method(method))),
        })
    }
}

/// Whether the priors acted; empty if the run has no prior, or no nets without one.
pub(super) fn blocks(report: &Report) -> Result<Vec<Block>> {
    let priors = report.measured.priors();
    if !priors.contains(&Prior::None) || priors.len() < 2 {
        return Ok(Vec::new());
    }
    let action = Action::read(report)?;
    let heading = Block::Heading {
        level: 3,
        id: "prior-action".to_owned(),
        text: "Did the priors act?".to_owned(),
    };
    let mut blocks = vec![heading];
    blocks.extend(text([
        verdict_on_weights(&report.measured, &action)?,
        verdict_on_curves(report, &action)?,
    ]));
    let table = table(report, &action)?;
    blocks.push(folded(table, &format!("priors and {}s", report.measured.kind_of_nets())));
    Ok(blocks)
}

/// A column of the table of nets, without missing values.
fn of_nets(nets: &DataFrame, column: &str) -> Result<OfNets> {
    let keys = parsed::<Hidden>(nets, "hidden")?.into_iter().zip(parsed::<Prior>(nets, "prior")?);
    let values = texts(nets, "net")?.into_iter().zip(numbers(nets, column)?);
    let mut of_nets = OfNets::new();
    for (key, (net, value)) in keys.zip(values).filter(|(_, (_, value))| !value.is_nan()) {
        of_nets.entry(key).or_default().insert(net, value);
    }
    Ok(of_nets)
}

/// The arithmetic mean; `None` if there are no numbers.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (n, sum) = values.fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x));
    (n > 0.0).then(|| sum / n)
}

/// The logarithms of the ratios of a quantity to that of the nets without prior and of the same
/// name, which share their init and shuffles.
fn log_ratios(of_nets: &OfNets, hidden: Hidden, prior: Prior) -> BTreeMap<String, f64> {
    let of = |prior| of_nets.get(&(hidden, prior)).into_iter().flatten();
    let without: BTreeMap<&String, f64> = of(Prior::None).map(|(net, x)| (net, *x)).collect();
    let ratio = |(net, x): (&String, &f64)| {
        let before = without.get(net).filter(|before| **before > 0.0 && *x > 0.0)?;
        Some((net.clone(), libm::log(x / before)))
    };
    of(prior).filter_map(ratio).collect()
}

/// The ratio of the norm of the first layer to that without prior, averaged over nets of the same
/// widths, which share their init, and over widths with equal weights.
fn change_of_norm(
    measured: &Measured,
    action: &Action,
    prior: Prior,
) -> Result<Option<Estimate>, NotFinite> {
    let mut by_widths: BTreeMap<Widths, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    for hidden in measured.hiddens() {
        for (net, ratio) in log_ratios(&action.first_norm, hidden, prior) {
            let of_widths = by_widths.entry(hidden.widths).or_default();
            of_widths.entry(net).or_default().push(ratio);
        }
    }
    let mut estimates = Vec::new();
    for of_nets in by_widths.values() {
        let means = of_nets.values().filter_map(|ratios| mean(ratios.iter().copied())).collect();
        estimates.extend(Sample::of_nets(means)?.estimate());
    }
    Ok(Estimate::pool(&estimates))
}

/// `0.31 (0.30 to 0.32)`, of the estimate of a logarithm.
fn ratio_text(log: &Estimate) -> String {
    let Interval { low, high } = log.interval();
    let [ratio, low, high] = [log.mean, low, high].map(libm::exp);
    let digits = digits(ratio);
    format!("{ratio:.digits$} ({low:.digits$} to {high:.digits$})")
}

/// The change of the norms by each prior.
fn verdict_on_weights(measured: &Measured, action: &Action) -> Result<Option<Sentence>> {
    let mut changes: Vec<(Prior, Estimate)> = Vec::new();
    for prior in measured.priors().into_iter().filter(|prior| *prior != Prior::None) {
        changes.extend(change_of_norm(measured, action, prior)?.map(|change| (prior, change)));
    }
    if changes.is_empty() {
        let lead = "There are too few nets to test whether the priors act on the weights.";
        return Ok(Some(Sentence::new(lead, String::new())));
    }
    let p: Vec<f64> = changes.iter().map(|(_, change)| change.p()).collect();
    let acted = holm(&p).into_iter().filter(|p| *p < SIGNIFICANCE).count();
    let lead = match (acted, changes.len()) {
        (0, _) => "No effect of a prior on the norm of the first layer is detected.",
        (1, 1) => "The prior acts: it changes the norm of the first layer.",
        (n, all) if n == all => "Each prior acts: it changes the norm of the first layer.",
        _ => "Some priors act: they change the norm of the first layer.",
    };
    let all = changes.len();
    if all > NAMED {
        changes.sort_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
        changes = vec![changes[0], changes[all - 1]];
    }
    let each: Vec<String> = changes
        .iter()
        .map(|(prior, change)| format!("{} with {prior}", ratio_text(change)))
        .collect();
    let extremes =
        if all > NAMED { format!(", the least and most of {all}") } else { String::new() };
    let rest = format!(
        "Relative to the same nets without prior, it changes by a factor of {}{extremes}{}.",
        list(&each),
        averaged(&[widths_of(measured)])
    );
    Ok(Some(Sentence::new(lead, rest)))
}

/// The change of mean error and barrier by each prior, the correlation after matching, and the
/// shape of the density.
fn verdict_on_curves(report: &Report, action: &Action) -> Result<Option<Sentence>> {
    let measured = &report.measured;
    let mut rest = Vec::new();
    let prior_of = |finding: &Finding| match finding.change {
        Change::Prior([_, to]) => Some(to),
        _ => None,
    };
    let described = &report.conclusions.priors.described;
    let each = |metric: Metric| -> Vec<String> {
        let of_metric = described.iter().filter(|finding| finding.metric == metric);
        let mut of_metric: Vec<&Finding> =
            of_metric.filter(|finding| finding.observed.is_some()).collect();
        let ratio = |finding: &&Finding| finding.observed.unwrap_or(f64::NAN);
        if of_metric.len() > NAMED {
            of_metric.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
            of_metric = vec![of_metric[0], of_metric[of_metric.len() - 1]];
        }
        let text = |finding: &&Finding| {
            Some(format!("{} with {}", finding.ratio_text()?, prior_of(finding)?))
        };
        of_metric.iter().filter_map(text).collect()
    };
    let (mean, barrier) = (each(Metric::MeanErrorByLength), each(Metric::LossBarrier));
    if !mean.is_empty() && !barrier.is_empty() {
        let extremes = match described.len() > 3 * NAMED {
            true => ", in each case the least and the most",
            false => "",
        };
        rest.push(format!(
            "The mean error on the curve changes by a factor of {}, and the barrier of the loss by \
             {}{extremes}, not tested.",
            list(&mean),
            list(&barrier)
        ));
    }
    for finding in measured.tests.matched_priors()? {
        let (Change::Prior([normal, laplace]), Some(ratio)) =
            (finding.change, finding.ratio_text())
        else {
            continue;
        };
        let effect = match (finding.ratio, finding.effect) {
            (None, _) => "not tested",
            (_, Effect::Lower) => "lower",
            (_, Effect::Higher) => "higher",
            (_, Effect::Inconclusive) => "inconclusive",
        };
        rest.push(format!(
            "At the same variance of the weights, the excess with {laplace} is {ratio} times that \
             with {normal} ({effect})."
        ));
    }
    let lead = verdict_on_rho(measured, action);
    let is_empty = lead.is_empty() && rest.is_empty();
    Ok((!is_empty).then(|| Sentence::new(lead, rest.join(" "))))
}

/// The mean correlation before and after matching at the widest nets with one hidden layer, or of
/// the last architecture.
fn verdict_on_rho(measured: &Measured, action: &Action) -> String {
    let Some((method, matched)) = &action.matched else { return String::new() };
    let hiddens = measured.hiddens();
    let hidden = measured.by_width().last().copied().or(hiddens.last().copied());
    let of_pairs = |of_pairs: &OfPairs, hidden: Hidden, prior: Prior| {
        mean(of_pairs.get(&(hidden, prior))?.values().copied())
    };
    let Some(hidden) = hidden else { return String::new() };
    let each = measured.priors().into_iter().filter_map(|prior| {
        let (before, after) =
            (of_pairs(&action.rho, hidden, prior)?, of_pairs(matched, hidden, prior)?);
        let name = match prior {
            Prior::None => "without prior".to_owned(),
            prior => format!("with {prior}"),
        };
        Some((after, format!("{} to {} {name}", two_decimals(before), two_decimals(after))))
    });
    let mut each: Vec<(f64, String)> = each.collect();
    if each.is_empty() {
        return String::new();
    }
    let mut extremes = "";
    if each.len() > NAMED + 1 {
        each.sort_by(|a, b| a.0.total_cmp(&b.0));
        each = vec![each[0].clone(), each[each.len() - 1].clone()];
        extremes = ", the lowest and the highest of all priors";
    }
    let texts: Vec<String> = each.into_iter().map(|(_, text)| text).collect();
    format!(
        "At h = {hidden}, the mean correlation of two nets goes by {} from {}{extremes}.",
        method.changes_title(),
        list(&texts)
    )
}

/// Norms relative to those without prior, active neurons and correlations, by prior and width.
fn table(report: &Report, action: &Action) -> Result<TableBlock> {
    let measured = &report.measured;
    let mut rows = Vec::new();
    let nets: BTreeSet<(Prior, Hidden)> =
        action.first_norm.keys().map(|(hidden, prior)| (*prior, *hidden)).collect();
    for (prior, hidden) in nets {
        let relative = |of_nets: &OfNets| -> Result<Cell> {
            let ratios = log_ratios(of_nets, hidden, prior);
            let sample = Sample::of_nets(ratios.into_values().collect())?;
            Ok(match (prior, sample.estimate(), sample.mean()) {
                (Prior::None, ..) | (_, _, None) => Cell::default(),
                (_, Some(log), _) => Cell::number(Some(libm::exp(log.mean)), |_| ratio_text(&log)),
                (_, None, Some(log)) => Cell::number(Some(libm::exp(log)), |ratio| {
                    format!("{ratio:.0$}", digits(ratio))
                }),
            })
        };
        let neurons: usize = hidden.widths.iter().sum();
        let active = action.active.get(&(hidden, prior));
        let active = active.and_then(|of_nets| mean(of_nets.values().copied()));
        let active = active.map(|active| 100.0 * active / neurons as f64);
        let correlation = |of_pairs: Option<&OfPairs>| -> Result<Cell> {
            let Some(values) = of_pairs.and_then(|of_pairs| of_pairs.get(&(hidden, prior))) else {
                return Ok(Cell::default());
            };
            let sample = samples(std::slice::from_ref(values))?.remove(0);
            let Some(mean) = sample.mean() else { return Ok(Cell::default()) };
            let half = sample.estimate().map(|estimate| estimate.interval().half_width());
            let half = half.map_or(String::new(), |half| format!(" ± {half:.2}"));
            Ok(Cell::number(Some(mean), |mean| format!("{}{half}", two_decimals(mean))))
        };
        rows.push(vec![
            Cell::text(prior.to_string()),
            hidden_cell(hidden),
            relative(&action.first_norm)?,
            relative(&action.last_norm)?,
            Cell::number(active, |percent| format!("{percent:.1}")),
            correlation(Some(&action.rho))?,
            correlation(action.matched.as_ref().map(|(_, of_pairs)| of_pairs))?,
        ]);
    }
    let layers = match measured.hiddens().iter().all(has_one_layer) {
        true => ["norm of W1", "norm of W2"],
        false => ["norm of the first layer", "norm of the last layer"],
    };
    let after = action.matched.as_ref().map(|(method, _)| method.changes_title());
    Ok(TableBlock {
        id: "prior-action-table".to_owned(),
        title: "What the priors act on".to_owned(),
        caption: format!(
            "Norms are relative to the net of the same name without prior, which shares init and \
             shuffles: the geometric mean of the ratios over nets, with its 95 % interval. \
             Correlations are means over pairs. Dropout is not a density of the weights, and has \
             no variance. `{}` has no share of weights that are exactly 0.\n",
            NETS.file
        ),
        columns: vec![
            Column::of_facet("prior", Align::Left),
            Column::of_facet("hidden", Align::Right),
            Column::new(layers[0], Align::Left),
            Column::new(layers[1], Align::Left),
            Column::new("active neurons, %", Align::Right),
            Column::new("rho", Align::Right),
            Column::new(
                after.map_or("rho, matched".to_owned(), |title| format!("rho + {title}")),
                Align::Right,
            ),
        ],
        rows,
        source: Some(report.source(METRICS.file)?),
        facets: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::report::sentences::tests::run;
    use crate::study::data::Dataset;

    /// The norms of three nets of each width and prior.
    fn norms(values: &[(&str, &str, [f64; 3])]) -> Action {
        let entry = |&(hidden, prior, norms): &(&str, &str, [f64; 3])| {
            let nets = ["1", "2", "3"].map(str::to_owned).into_iter().zip(norms);
            ((hidden.parse().unwrap(), prior.parse().unwrap()), nets.collect())
        };
        let first_norm: OfNets = values.iter().map(entry).collect();
        let rho = OfPairs::new();
        let [last_norm, active] = [(); 2].map(|()| first_norm.clone());
        Action { first_norm, last_norm, active, rho, matched: None }
    }

    fn measured() -> Measured {
        let errors: &[f64] = &[9.0, 10.0, 11.0];
        let cells = [
            ("10", "none", "linear", errors),
            ("10", "dropout 0.5", "linear", errors),
            ("20", "none", "linear", errors),
            ("20", "dropout 0.5", "linear", errors),
        ];
        run(Dataset::Mnist, &cells).0
    }

    #[test]
    fn a_prior_that_halves_the_norm_acts_and_one_that_changes_nothing_is_not_detected() {
        let before = [10.0, 11.0, 12.0];
        let verdict = |after: [f64; 3]| {
            let action = norms(&[
                ("10", "none", before),
                ("10", "dropout 0.5", after),
                ("20", "none", before),
                ("20", "dropout 0.5", after),
            ]);
            verdict_on_weights(&measured(), &action).unwrap().unwrap()
        };
        let acted = verdict([4.9, 5.5, 6.1]);
        assert_eq!(acted.lead, "The prior acts: it changes the norm of the first layer.");
        assert!(acted.rest.contains("by a factor of 0.50 (0.4"), "{}", acted.rest);
        assert!(acted.rest.ends_with("with dropout 0.5, averaged over the widths."), "{acted:?}");
        let not = verdict([10.2, 10.8, 12.1]);
        let lead = "No effect of a prior on the norm of the first layer is detected.";
        assert_eq!(not.lead, lead);
    }

    #[test]
    fn a_number_that_is_rounded_to_zero_has_no_sign() {
        let texts = [-0.004, 0.004, -0.006, 1.5].map(two_decimals);
        assert_eq!(texts, ["0.00", "0.00", "−0.01", "1.50"]);
    }

    #[test]
    fn a_net_without_its_partner_has_no_ratio() {
        let mut action = norms(&[("10", "none", [10.0; 3]), ("10", "dropout 0.5", [5.0; 3])]);
        let nets = action.first_norm.values_mut().next().unwrap();
        nets.remove("2");
        let [hidden, prior] = ["10", "dropout 0.5"];
        let (hidden, prior) = (hidden.parse().unwrap(), prior.parse().unwrap());
        let ratios = log_ratios(&action.first_norm, hidden, prior);
        assert_eq!(ratios.keys().collect::<Vec<_>>(), ["1", "3"]);
    }

    #[test]
    fn the_correlation_is_given_at_the_widest_nets() {
        let pairs = |rho: f64| -> OfPairs {
            let of = |hidden: &str, prior: &str, rho: f64| {
                let pair = "1:2".parse().unwrap();
                ((hidden.parse().unwrap(), prior.parse().unwrap()), [(pair, rho)].into())
            };
            [of("10", "none", 0.9), of("20", "none", rho), of("20", "dropout 0.5", -rho)].into()
        };
        let matched = Some(("linear+ot".parse().unwrap(), pairs(0.5)));
        let action = Action { rho: pairs(0.1), matched, ..norms(&[]) };
        assert_eq!(
            verdict_on_rho(&measured(), &action),
            "At h = 20, the mean correlation of two nets goes by OT from 0.10 to 0.50 without \
             prior and −0.10 to −0.50 with dropout 0.5."
        );
    }
}
