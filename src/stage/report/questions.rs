//! The results by subject: a sentence, its figures, and the contrasts behind it.

use super::Report;
use super::conclusions::Conclusion;
use super::contrasts::Finding;
use super::critical_width;
use super::endpoints;
use super::measured::Measured;
use super::prior_action;
use super::sentences::{self, Sentence, capitalised, list, prior_name};
use crate::report::document::{Block, Explorer, TableBlock};
use crate::report::markdown::escape;
use crate::stage::plot::Subject;
use crate::stage::rows::{CurveGroup, Metric};
use crate::stage::tables::METRICS;
use anyhow::Result;
use std::collections::BTreeMap;

pub(super) fn methods(report: &Report) -> Result<Vec<Block>> {
    let measured = &report.measured;
    let mut blocks =
        text([sentences::methods(measured, &report.conclusions), lowest_by_width(measured)]);
    blocks.extend(report.figures_on(Subject::Methods));
    blocks.extend(claim(report, "methods", &report.conclusions.methods)?);
    Ok(blocks)
}

pub(super) fn widths(report: &Report) -> Result<Vec<Block>> {
    let measured = &report.measured;
    let mut blocks =
        text([sentences::widths(measured, &report.conclusions), sentences::noise(measured)]);
    blocks.extend(report.figures_on(Subject::Widths));
    // Its own section requires several widths.
    if critical_width::families(measured).is_empty() {
        blocks.extend(report.figures_on(Subject::CriticalWidth));
    }
    blocks.extend(claim(report, "widths", &report.conclusions.widths)?);
    Ok(blocks)
}

/// Empty if the run has no nets that differ in depth alone.
pub(super) fn depth(report: &Report) -> Result<Vec<Block>> {
    let measured = &report.measured;
    if measured.by_depth().is_empty() {
        return Ok(Vec::new());
    }
    let mut blocks = text([sentences::depth(measured, &report.conclusions), None]);
    blocks.extend(report.figures_on(Subject::Depth));
    blocks.extend(claim(report, "depth", &report.conclusions.depth)?);
    Ok(blocks)
}

pub(super) fn priors(report: &Report) -> Result<Vec<Block>> {
    let mut blocks = text([sentences::priors(&report.measured, &report.conclusions), None]);
    blocks.extend(report.figures_on(Subject::Priors));
    blocks.extend(claim(report, "priors", &report.conclusions.priors)?);
    blocks.extend(claim(report, "informative", &report.conclusions.informative)?);
    blocks.extend(prior_action::blocks(report)?);
    Ok(blocks)
}

pub(super) fn training(report: &Report) -> Result<Vec<Block>> {
    let mut blocks = text([sentences::ends(&report.measured), None]);
    blocks.extend(endpoints::training_blocks(report)?);
    blocks.extend(report.figures_on(Subject::Training));
    blocks.push(Block::Explorer(Explorer::Training));
    blocks.extend(endpoints::tables(report)?);
    Ok(blocks)
}

/// A paragraph of the sentences that there are.
pub(super) fn text<const N: usize>(sentences: [Option<Sentence>; N]) -> Vec<Block> {
    let texts: Vec<String> = sentences.iter().flatten().map(Sentence::whole).collect();
    let paragraph = || Block::Text(format!("{}\n", texts.join("\n\n")));
    (!texts.is_empty()).then(paragraph).into_iter().collect()
}

/// The methods with the lowest mean of the largest error, and at how many widths.
fn lowest_by_width(measured: &Measured) -> Option<Sentence> {
    let prior = measured.reference_prior()?;
    let methods = measured.methods();
    if methods.len() < 2 {
        return None;
    }
    let mut widths_of: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for hidden in measured.hiddens() {
        let error = |index: &usize| {
            let group = CurveGroup { hidden, prior, method: methods[*index] };
            measured.mean(group, Metric::MaxError).map(|mean| mean.mean)
        };
        let measured = (0..methods.len()).filter(|index| error(index).is_some());
        let lowest = measured.min_by(|a, b| {
            let [a, b] = [a, b].map(|index| error(index).unwrap_or(f64::INFINITY));
            a.total_cmp(&b)
        });
        if let Some(lowest) = lowest {
            widths_of.entry(lowest).or_default().push(hidden.to_string());
        }
    }
    let each = widths_of
        .iter()
        .map(|(index, widths)| format!("{} at h = {}", methods[*index].title(), list(widths)));
    let lead = format!("The lowest mean of the largest error {}:", prior_name(prior));
    let rest = format!(
        "{}. This describes the means; the contrasts below are the test.",
        list(&each.collect::<Vec<_>>())
    );
    Some(Sentence { lead, rest, more: String::new() })
}

/// A claim with the verdict on it, and the contrasts behind the verdict.
pub(super) fn claim(report: &Report, id: &str, conclusion: &Conclusion) -> Result<Vec<Block>> {
    let Conclusion { claim, of_talk, verdict, tested, described, notes, .. } = conclusion;
    let whose = if *of_talk { "The talk's claim" } else { "Hypothesis, not of the talk" };
    let mut text =
        format!("{whose}: *{}*\n\n**{}**\n", escape(claim), escape(&capitalised(verdict)));
    for note in notes {
        text += &format!("\n{}.\n", escape(note));
    }
    let mut blocks = vec![Block::Text(text)];
    if !tested.is_empty() {
        blocks.push(Block::Table(TableBlock {
            id: format!("contrasts-{id}"),
            title: "Contrasts of the claim".to_owned(),
            caption:
                "The ratio of the metric after the change to the metric before it; below 1 is \
                      lower. How the ratios are averaged and tested: \
                      [Statistics](#statistics).\n"
                    .to_owned(),
            columns: Finding::columns(),
            rows: tested.iter().chain(described).map(Finding::row).collect(),
            source: Some(report.source(METRICS.file)?),
            facets: Vec::new(),
        }));
    }
    Ok(blocks)
}
