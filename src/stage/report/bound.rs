//! The other methods beside the learned curve, which was expected to be a lower bound.

use super::Report;
use super::conclusions::{Conclusion, Outcome};
use super::contrasts::Effect;
use super::full_tables::{folded, hidden_cell};
use super::measured::Measured;
use super::questions::{claim, text};
use super::sentences::{Sentence, curve_name, list, prior_name};
use crate::report::document::{Block, Cell, Column, TableBlock};
use crate::report::table::Align;
use crate::stage::names::PairName;
use crate::stage::plot::Subject;
use crate::stage::rows::{CurveGroup, groups, mean_of_directions, parsed};
use crate::stage::tables::{POINTS, numbers};
use crate::study::curve::Method;
use crate::study::data::Split;
use crate::study::net::{Hidden, Prior};
use anyhow::Result;
use polars::prelude::DataFrame;
use std::collections::{BTreeMap, BTreeSet};

/// The largest training loss of each curve, in nats, by pair: the mean over its directions.
type Losses = BTreeMap<CurveGroup, BTreeMap<PairName, f64>>;

/// A cell of the study: a learned curve beside the other curve with the lowest loss.
struct Comparison {
    hidden: Hidden,
    prior: Prior,
    pairs: usize,
    /// The mean over pairs of the largest training loss, in nats.
    learned: (Method, f64),
    /// The method that is not learned with the lowest mean over the same pairs, and that mean.
    other: (Method, f64),
}

/// The number of combinations that the verdict names.
const NAMED: usize = 3;

impl Comparison {
    fn holds(&self) -> bool {
        self.learned.1 <= self.other.1
    }

    /// The loss on the learned curve over that on the other one.
    fn ratio(&self) -> f64 {
        self.learned.1 / self.other.1
    }
}

/// Empty for a run without learned curves.
pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let measured = &report.measured;
    if !measured.methods().iter().any(|method| method.is_learned()) {
        return Ok(Vec::new());
    }
    let losses = largest_losses(&POINTS.read(report.tables.path(POINTS.file)?)?)?;
    let compared = comparisons(&losses);
    let bound = &report.conclusions.bound;
    let mut blocks = text([verdict_on_errors(measured, bound), verdict_on_losses(&compared)]);
    blocks.extend(report.figures_on(Subject::Bound));
    blocks.extend(claim(report, "bound", bound)?);
    if !compared.is_empty() {
        blocks.push(folded(table(report, &compared)?, "learned and other curves"));
    }
    Ok(blocks)
}

/// The largest loss on the training split of each curve.
fn largest_losses(points: &DataFrame) -> Result<Losses> {
    let (groups, splits) = (groups(points)?, parsed::<Split>(points, "split")?);
    let pairs: Vec<PairName> = parsed(points, "pair")?;
    let mut by_direction: BTreeMap<(CurveGroup, &PairName), f64> = BTreeMap::new();
    let losses = numbers(points, "loss")?.into_iter().enumerate();
    for (i, loss) in losses.filter(|(i, _)| splits[*i] == Split::Train) {
        let largest = by_direction.entry((groups[i], &pairs[i])).or_insert(loss);
        *largest = largest.max(loss);
    }
    let mut directions: BTreeMap<(CurveGroup, PairName), Vec<f64>> = BTreeMap::new();
    for ((group, pair), loss) in by_direction {
        directions.entry((group, pair.undirected())).or_default().push(loss);
    }
    let mut by_pair = Losses::new();
    for ((group, pair), losses) in directions {
        by_pair.entry(group).or_default().insert(pair, mean_of_directions(&losses));
    }
    Ok(by_pair)
}

/// The learned curve with the lowest loss beside the best other one, for all hidden layers and
/// priors, over the pairs of the learned method with the most pairs. A method that lacks one of
/// them is left out.
fn comparisons(losses: &Losses) -> Vec<Comparison> {
    let cells: BTreeSet<(Hidden, Prior)> =
        losses.keys().map(|group| (group.hidden, group.prior)).collect();
    let compare = |(hidden, prior): (Hidden, Prior)| {
        let of_cell = || losses.iter().filter(move |(g, _)| (g.hidden, g.prior) == (hidden, prior));
        let learned: Vec<_> = of_cell().filter(|(group, _)| group.method.is_learned()).collect();
        let most = learned.iter().map(|(_, pairs)| pairs.len()).max()?;
        let (_, pairs) = learned.iter().find(|(_, pairs)| pairs.len() == most)?;
        let on_pairs = |of_pairs: &BTreeMap<PairName, f64>| {
            let values: Option<Vec<f64>> =
                pairs.keys().map(|pair| of_pairs.get(pair).copied()).collect();
            values.map(|values| mean_of_directions(&values))
        };
        let lowest = |is_learned: bool| {
            let means = of_cell().filter(|(group, _)| group.method.is_learned() == is_learned);
            let means = means.filter_map(|(group, of)| Some((group.method, on_pairs(of)?)));
            means.min_by(|a, b| a.1.total_cmp(&b.1))
        };
        let (learned, other) = (lowest(true)?, lowest(false)?);
        Some(Comparison { hidden, prior, pairs: pairs.len(), learned, other })
    };
    cells.into_iter().filter_map(compare).collect()
}

/// Which methods the learned curve is below, by the contrasts.
fn verdict_on_errors(measured: &Measured, bound: &Conclusion) -> Option<Sentence> {
    let learned = Method::bound(&measured.methods())?;
    let titles = |effect| -> Vec<String> {
        let with = bound.tested.iter().filter(|finding| finding.effect == effect);
        with.filter_map(|finding| Some(finding.change.method_before()?.title())).collect()
    };
    let name = curve_name(learned);
    let (lower, higher) = (titles(Effect::Lower), titles(Effect::Higher));
    let lead = match (bound.outcome, &lower[..], &higher[..]) {
        (Outcome::NotTested | Outcome::TooFewPairs, ..) => {
            format!("There are too few pairs to compare {name} with other methods.")
        }
        (_, [], []) => format!("No difference of {name} from another method is detected."),
        (_, _, []) => format!("The largest error on {name} is lower than with {}.", list(&lower)),
        (_, [], _) => format!("The largest error on {name} is higher than with {}.", list(&higher)),
        _ => format!(
            "The largest error on {name} is lower than with {}, higher than with {}.",
            list(&lower),
            list(&higher)
        ),
    };
    let closest = bound.tested.iter().filter_map(|finding| {
        let before = finding.change.method_before().filter(|method| !method.is_learned())?;
        Some((before, 1.0 / finding.observed?))
    });
    let rest = closest.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(method, factor)| {
        format!(
            "Of the methods that are not learned, {} has the lowest largest error relative to it, \
             {factor:.2} times as high.",
            method.title()
        )
    });
    Some(Sentence::new(lead, rest.unwrap_or_default()))
}

/// Where the learned curve has the lowest training loss, and where not.
fn verdict_on_losses(compared: &[Comparison]) -> Option<Sentence> {
    let mut above: Vec<&Comparison> = compared.iter().filter(|cell| !cell.holds()).collect();
    let (all, holds) = (compared.len(), compared.len() - above.len());
    if all == 0 {
        return None;
    }
    let what = "the largest training loss on the learned curve is at most that on the best other \
                curve";
    if above.is_empty() {
        let lead = match all {
            1 => format!("With these nets, {what}."),
            _ => format!("At each of the {all} combinations of nets and prior, {what}."),
        };
        return Some(Sentence::new(lead, String::new()));
    }
    let lead = format!("At {holds} of {all} combinations of nets and prior, {what}.");
    above.sort_by(|a, b| b.ratio().total_cmp(&a.ratio()));
    let each: Vec<String> = above
        .iter()
        .take(NAMED)
        .map(|cell| {
            let (hidden, prior) = (cell.hidden, prior_name(cell.prior));
            let (method, ratio) = (cell.other.0.title(), cell.ratio());
            format!("h = {hidden} {prior} ({method} is lower by a factor of {ratio:.2})")
        })
        .collect();
    let rest = match above.len() - each.len() {
        0 => format!("It is not at {}.", list(&each)),
        others => {
            format!("It is not at {others} others, which the table lists, and at {}.", list(&each))
        }
    };
    Some(Sentence::new(lead, rest))
}

fn table(report: &Report, compared: &[Comparison]) -> Result<TableBlock> {
    let row = |cell: &Comparison| {
        let nats = |loss: f64| Cell::number(Some(loss), |loss| format!("{loss:.4}"));
        vec![
            hidden_cell(cell.hidden),
            Cell::text(cell.prior.to_string()),
            Cell::number(Some(cell.pairs as f64), |pairs| format!("{pairs}")),
            Cell::text(cell.learned.0.title()),
            nats(cell.learned.1),
            Cell::text(cell.other.0.title()),
            nats(cell.other.1),
            Cell::number(Some(cell.ratio()), |ratio| format!("{ratio:.2}")),
        ]
    };
    Ok(TableBlock {
        id: "bound".to_owned(),
        title: "Largest training loss: learned curves and the best others".to_owned(),
        caption: "Means over the pairs that were joined by learned curves, in nats, on the \
                  training images that the curves are measured on. A learned curve minimises the \
                  mean of the training objective along it, not its maximum; with a prior, that \
                  objective is not the loss alone, and with dropout, neurons are dropped in it. \
                  The best other method is chosen by these means, for each combination anew.\n"
            .to_owned(),
        columns: vec![
            Column::of_facet("hidden", Align::Right),
            Column::of_facet("prior", Align::Left),
            Column::new("pairs", Align::Right),
            Column::new("learned", Align::Left),
            Column::new("its loss", Align::Right),
            Column::new("best other", Align::Left),
            Column::new("its loss", Align::Right),
            Column::new("ratio", Align::Right),
        ],
        rows: compared.iter().map(row).collect(),
        source: Some(report.source(POINTS.file)?),
        facets: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::report::sentences::tests::run;
    use crate::study::data::Dataset;

    /// Largest errors of disjoint pairs: the learned curve is below all but one method.
    const CURVES: [(&str, &str, &str, &[f64]); 8] = [
        ("10", "none", "linear", &[40.0, 42.0, 44.0]),
        ("10", "none", "linear+ot", &[20.0, 20.8, 22.4]),
        ("10", "none", "linear+ot:incoming+wa", &[5.0, 5.2, 5.4]),
        ("10", "none", "bezier", &[7.0, 7.2, 7.4]),
        ("50", "none", "linear", &[8.0, 8.4, 9.0]),
        ("50", "none", "linear+ot", &[4.0, 4.2, 4.4]),
        ("50", "none", "linear+ot:incoming+wa", &[2.6, 2.7, 2.8]),
        ("50", "none", "bezier", &[3.4, 3.5, 3.6]),
    ];

    #[test]
    fn the_verdict_names_the_methods_above_and_below_the_learned_curve() {
        let (measured, conclusions) = run(Dataset::Digits, &CURVES);
        let sentence = verdict_on_errors(&measured, &conclusions.bound).unwrap();
        assert_eq!(
            sentence.lead,
            "The largest error on the curve Bezier is lower than with Linear and Linear + OT, \
             higher than with Linear + OT (incoming) + WA."
        );
        assert_eq!(
            sentence.rest,
            "Of the methods that are not learned, Linear + OT (incoming) + WA has the lowest \
             largest error relative to it, 0.75 times as high."
        );
    }

    #[test]
    fn a_run_without_learned_curves_has_no_contrast_with_them() {
        let (_, conclusions) = run(Dataset::Digits, &CURVES[..3]);
        assert_eq!(conclusions.bound.outcome, Outcome::NotTested);
        assert!(conclusions.bound.tested.is_empty());
    }

    /// Losses by pair of a method at h = 10 without prior.
    fn losses(methods: &[(&str, &[(&str, f64)])]) -> Losses {
        let group = |name: &str| CurveGroup {
            hidden: "10".parse().expect("a width"),
            prior: Prior::None,
            method: name.parse().expect("a method"),
        };
        let pair = |&(pair, loss): &(&str, f64)| (pair.parse().expect("a pair"), loss);
        let of = |(name, pairs): &(&str, &[(&str, f64)])| {
            (group(name), pairs.iter().map(pair).collect())
        };
        methods.iter().map(of).collect()
    }

    #[test]
    fn losses_are_compared_on_the_pairs_of_the_learned_curve() {
        let of = losses(&[
            ("bezier", &[("1:2", 0.2), ("3:4", 0.4)]),
            ("linear", &[("1:2", 1.0), ("1:3", 0.0), ("3:4", 2.0)]),
            ("linear+ot", &[("1:2", 0.1)]),
        ]);
        let compared = comparisons(&of);
        let [cell] = &compared[..] else { panic!("one cell") };
        assert_eq!((cell.pairs, cell.other.0.name(), cell.other.1), (2, "linear".into(), 1.5));
        assert!(cell.holds());
        let sentence = verdict_on_losses(&compared).unwrap();
        assert!(
            sentence.lead.starts_with("With these nets, the largest training loss"),
            "{}",
            sentence.lead
        );
    }

    #[test]
    fn a_learned_curve_above_the_best_other_one_is_named() {
        let of = losses(&[
            ("bezier", &[("1:2", 0.3), ("3:4", 0.3)]),
            ("linear+ot", &[("1:2", 0.2), ("3:4", 0.2)]),
        ]);
        let sentence = verdict_on_losses(&comparisons(&of)).unwrap();
        assert!(sentence.lead.starts_with("At 0 of 1 combinations"), "{}", sentence.lead);
        assert_eq!(
            sentence.rest,
            "It is not at h = 10 without prior (Linear + OT is lower by a factor of 1.50)."
        );
    }
}
