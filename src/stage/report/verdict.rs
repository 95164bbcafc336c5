//! The first screen: the result of the run in a few sentences, its data and its size.

use super::Report;
use super::sentences::{Sentence, sentences};
use crate::report::document::Block;
use crate::report::markdown::escape;
use crate::stage::rows::has_one_layer;
use crate::study::net::{Hidden, Prior};
use anyhow::Result;

pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let mut blocks = vec![Block::Text(introduction(report))];
    let sentences = sentences(&report.measured, &report.conclusions);
    let items = sentences.iter().map(|sentence| format!("- {}\n", sentence.short()));
    let mut text: String = items.collect();
    let means = report.measured.summaries.values().map(|summary| &summary.mean);
    if means.into_iter().any(|mean| mean.interval.is_some()) {
        text += "\n± and parentheses: [95 % confidence intervals](#statistics).\n";
    }
    if report.params.overrides.is_empty() && !report.params.about.is_empty() {
        text += &format!("\n{}\n", escape(&report.params.about));
    }
    blocks.push(Block::Text(text));
    blocks.extend(report.overview().map(|figure| Block::Figure(report.figure_block(figure))));
    blocks.push(Block::Facts(facts(report)));
    if let Some(root) = report.params.root {
        let check = match report.params.overrides.is_empty() {
            true => format!("`{}` checks it", report.params.command("run --locked")),
            false => "a run with the same overrides has the same root".to_owned(),
        };
        blocks.push(Block::Text(format!(
            "Root of all outputs: `{root}`; {check}. [Provenance](#provenance) says more.\n"
        )));
    }
    Ok(blocks)
}

/// The result in one line of plain text, for link previews.
pub(super) fn description(report: &Report) -> String {
    let sentences = sentences(&report.measured, &report.conclusions);
    let leads = sentences.iter().map(|Sentence { lead, .. }| lead.as_str());
    leads.collect::<Vec<_>>().join(" ")
}

/// What the run measures, and on which data.
fn introduction(report: &Report) -> String {
    let data = &report.measured.data;
    let dataset = &data.dataset;
    let measured = &report.measured;
    let hiddens = measured.hiddens();
    let networks = match (hiddens.iter().all(has_one_layer), hiddens.iter().all(|h| h.biases)) {
        (true, true) if !hiddens.is_empty() => {
            "Two networks with one hidden layer of h neurons and with biases"
        }
        (true, _) => "Two networks with one hidden layer of h neurons",
        (false, _) => "Two feed-forward networks with the hidden layers h",
    };
    let trained = match measured.imported {
        0 => "are trained independently on",
        n if n == measured.nets => "were trained elsewhere, and are measured on",
        _ => "are trained, here or elsewhere, and measured on",
    };
    let mut text = format!(
        "{networks} {trained} `{dataset}`. How low can the test error stay on a curve in parameter \
         space from one to the other, and how does this depend on h and on the prior of the \
         parameters?\n",
        dataset = dataset.to_string().replace('`', "'")
    );
    if dataset.is_generated() {
        text += &format!(
            "\n**The images are generated (`{dataset}`), not MNIST.** The talk's published numbers \
             are for MNIST and are omitted here. If the pipeline requests MNIST, the dataset was \
             unavailable: set `REPRO_DATA` to a folder with the four files of MNIST, or connect to \
             the network, and run again.\n"
        );
    }
    text
}

fn facts(report: &Report) -> Vec<(String, String)> {
    let measured = &report.measured;
    let data = &measured.data;
    let priors: Vec<String> = measured.priors().iter().map(Prior::to_string).collect();
    let range = |counts: Option<[usize; 2]>| match counts {
        None => "0".to_owned(),
        Some([few, many]) if few == many => few.to_string(),
        Some([few, many]) => format!("{few} to {many}"),
    };
    let kind = measured.kind_of_nets();
    let (of_nets, of_pairs) =
        (format!("nets per {kind} and prior"), format!("pairs per {kind} and prior"));
    let mut images = format!("{} training", data.train);
    if data.validation > 0 {
        images += &format!(", {} validation", data.validation);
    }
    images += &format!(", {} test", data.test);
    let widths: Vec<String> = measured.hiddens().iter().map(Hidden::to_string).collect();
    let mut facts = vec![
        ("data", data.dataset.to_string()),
        ("images", images),
        ("nets", measured.nets.to_string()),
        (of_nets.as_str(), range(measured.nets_of_means())),
        (of_pairs.as_str(), range(measured.pairs())),
        ("curves", measured.curves().to_string()),
        (if measured.has_general_nets() { "hidden layers" } else { "widths" }, widths.join(", ")),
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
            "median half-width of these",
            format!("{:.0} % of our mean", 100.0 * agreement.half_width),
        ));
    }
    facts.into_iter().map(|(label, value)| (label.to_owned(), value)).collect()
}
