//! The terms of the report, each in one sentence.

use super::Report;
use super::document::SECTIONS;
use super::measured::Measured;
use crate::report::document::{Block, Cell, Column, TableBlock};
use crate::report::table::Align;
use crate::stage::rows::has_one_layer;
use crate::study::curve::align::Cost;
use crate::study::curve::learn::LearnedCurve;
use crate::study::curve::refit::Targets;
use crate::study::curve::repair;
use crate::study::curve::{CURVES, Center, dropout_path};
use crate::study::net::PriorKind;
use anyhow::Result;

/// A term: its name, the words by which the report uses it, and its meaning as plain text.
struct Term {
    name: String,
    words: Vec<String>,
    meaning: String,
}

pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let mut text = String::new();
    for section in SECTIONS.iter().filter(|section| section.id != "glossary") {
        collect(&(section.blocks)(report)?, &mut text);
    }
    let column = |heading: &str| Column::new(heading, Align::Left);
    let used = terms(Nets::of(&report.measured))
        .into_iter()
        .filter(|term| term.words.iter().any(|word| contains_word(&text, word)));
    Ok(vec![Block::Table(TableBlock {
        id: "terms".to_owned(),
        title: "Words and symbols".to_owned(),
        columns: vec![column("term"), column("meaning")],
        rows: used.map(|term| vec![Cell::text(term.name), Cell::text(term.meaning)]).collect(),
        ..TableBlock::default()
    })])
}

/// What the meaning of terms depends on.
#[derive(Clone, Copy)]
struct Nets {
    /// Whether they differ in the width of one hidden layer alone.
    are_plain: bool,
    have_one_layer: bool,
    /// Whether no two pairs share a net.
    are_disjoint: bool,
    /// Whether some were trained elsewhere.
    are_imported: bool,
}

impl Nets {
    fn of(measured: &Measured) -> Nets {
        Nets {
            are_plain: !measured.has_general_nets(),
            have_one_layer: measured.hiddens().iter().all(has_one_layer),
            are_disjoint: measured.has_disjoint_pairs(),
            are_imported: measured.imported > 0,
        }
    }
}

/// Every term, in the order of the glossary.
fn terms(nets: Nets) -> Vec<Term> {
    let term = |name: &str, words: &[&str], meaning: String| Term {
        name: name.to_owned(),
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        meaning,
    };
    let fixed = |name: &str, words: &[&str], meaning: &str| term(name, words, meaning.to_owned());
    let mut terms = vec![
        fixed(
            "A, B",
            &["A", "B", "ends"],
            match nets.are_imported {
                false => {
                    "The two nets of a pair, the ends of a curve: trained independently, so that \
                     init, shuffles and dropout masks differ."
                }
                true => "The two nets of a pair, the ends of a curve.",
            },
        ),
        fixed(
            "h",
            &["h", "hidden"],
            match nets.are_plain {
                true => "The width: the number of hidden neurons of a net.",
                false => {
                    "The hidden layers of a net: the number of neurons of each, such as 512x256 \
                     for two layers, followed by +bias if every layer has biases."
                }
            },
        ),
        fixed(
            "pair",
            &["pair", "pairs"],
            match (nets.are_disjoint, nets.are_plain) {
                (true, true) => {
                    "Two nets of one width and prior; different pairs share no net, so that pairs \
                     are independent."
                }
                (true, false) => {
                    "Two nets with the same hidden layers and prior; different pairs share no net, \
                     so that pairs are independent."
                }
                (false, _) => {
                    "Two nets with the same hidden layers and prior, named by both, such as 1:3; \
                     pairs that share a net are not independent, so that nets are the sample."
                }
            },
        ),
        fixed(
            "isolated",
            &["isolated"],
            "Two minima are isolated from each other by a method if the error on its curve exceeds \
             that of both.",
        ),
        fixed("t", &["t"], "The position on a curve, from 0 at A to 1 at B."),
    ];
    for curve in CURVES {
        terms.push(term(curve.title(), &[curve.title()], curve.definition().to_owned()));
    }
    for curve in LearnedCurve::families() {
        terms.push(term(curve.title(), &[curve.title()], curve.definition().to_owned()));
    }
    terms.push(fixed(dropout_path::TITLE, &[dropout_path::TITLE], dropout_path::DEFINITION));
    let center = Center::default().definition();
    terms.extend([
        term(
            "M",
            &["M"],
            format!(
                "The center of an arc: {center}, unless the name of the curve \
             says otherwise."
            ),
        ),
        fixed(
            "rho",
            &["rho"],
            "The correlation of two nets: the cosine of the angle between A - M and B - M.",
        ),
        term(
            "OT",
            &["OT"],
            format!(
                "Optimal transport: the neurons of B are reordered to match those of A, by {}; the \
                 curve then ends at the permuted net, which computes the same function.",
                Cost::default().definition()
            ),
        ),
        term(
            "OT (incoming)",
            &["OT (incoming)"],
            format!("OT by {}.", Cost::Incoming.definition()),
        ),
        term(
            "OT (activations)",
            &["OT (activations)"],
            format!("OT by {}.", Cost::Activations.definition()),
        ),
        fixed("REPAIR", &["REPAIR"], repair::DEFINITION),
        term(
            "WA",
            &["WA"],
            match nets.have_one_layer {
                true => format!(
                    "Weight adjustment: while W1 moves along the curve, W2 is refitted at every \
                     point to logits, {}; then W2 moves straight to that of B.",
                    Targets::default().definition()
                ),
                false => format!(
                    "Weight adjustment: one layer after another moves along the curve, while the \
                     weights of the next one are refitted at every point to what they compute, {}; \
                     then the last layer moves straight to that of B.",
                    Targets::default().definition()
                ),
            },
        ),
        term(
            "WA (blend)",
            &["WA (blend)"],
            format!("WA with the logits {}, in one segment.", Targets::Blend.definition()),
        ),
    ]);
    for kind in PriorKind::ALL {
        let words = match kind {
            // The word alone is too common.
            PriorKind::None => vec!["no prior", "without prior"],
            kind => vec![kind.name()],
        };
        let name = match kind {
            PriorKind::None => "no prior",
            kind => kind.name(),
        };
        terms.push(term(name, &words, kind.definition().to_owned()));
    }
    terms.extend([
        fixed("error", &["error"], "The share of misclassified images, in %."),
        fixed(
            "largest error",
            &["largest error", "Largest error", "Largest test error"],
            "The largest test error over the points of a curve; a maximum over noisy points is \
             biased upwards.",
        ),
        fixed(
            "excess error",
            &["excess", "excess error"],
            "The largest error on the curve minus the error of the worse end, in points.",
        ),
        fixed("mean error", &["mean error"], "The error averaged along the curve by arc length."),
        fixed(
            "normalised error",
            &["normalised error", "Normalised error"],
            "The error as a share of the rise on the straight line: (E(t) - E_end) / (E_lin_max - \
             E_end).",
        ),
        fixed(
            "barrier",
            &["barrier", "Barrier", "barriers", "Barriers"],
            "The largest excess of the loss L(t), or of the error, over the straight line between \
             its values at the ends, (1 - t) L_A + t L_B.",
        ),
        fixed(
            "nets on the curve",
            &["nets on the curve"],
            "An ensemble of nets at equally spaced t on a curve, both ends included: its \
             probabilities are the mean of theirs.",
        ),
        fixed(
            "midpoint",
            &["midpoint"],
            "The net at t = 1/2 of a curve, used alone; on a straight line its weights are the \
             mean of those of the ends (a soup).",
        ),
        fixed(
            "ECE",
            &["ECE"],
            "The expected calibration error: how far the probabilities of predictions are from the \
             share of correct ones, in points.",
        ),
        fixed("points", &["points"], "Percentage points: the difference of two errors in %."),
        fixed(
            "noise of the test set",
            &["noise"],
            "Two standard errors of the difference of two errors, each measured on the test \
             images.",
        ),
        fixed(
            "95 % interval",
            &["95 % interval", "95 % confidence interval", "95 % confidence intervals"],
            "The confidence interval of a mean: of such intervals, 95 % contain the true mean.",
        ),
        fixed(
            "prediction interval",
            &["prediction interval", "prediction intervals"],
            "Where the value of one more pair of new nets is expected with a probability of 95 %; \
             wider than the confidence interval of the mean.",
        ),
        fixed(
            "contrast",
            &["contrast", "contrasts"],
            "The ratio of a metric after a change to the metric before it, tested against 1.",
        ),
        fixed(
            "p",
            &["p"],
            "The probability of a contrast at least this far from 1 if there is no effect, \
             adjusted by Holm's method for the number of contrasts.",
        ),
        fixed(
            "inconclusive",
            &["inconclusive"],
            "A test found no effect: this is no evidence that there is none.",
        ),
        fixed(
            "digest",
            &["digest", "digests"],
            "The BLAKE3 hash of a file's content: equal digests mean equal bytes.",
        ),
        fixed(
            "root",
            &["root", "Root"],
            "One digest over the digests of all outputs that the report depends on.",
        ),
        fixed(
            "lock file",
            &["lock file"],
            "The file `pipeline.lock` with the expected digest of every output of a profile.",
        ),
    ]);
    terms
}

/// Appends the text of the blocks.
fn collect(blocks: &[Block], text: &mut String) {
    let mut push = |part: &str| {
        text.push_str(part);
        text.push('\n');
    };
    for block in blocks {
        match block {
            Block::Heading { text, .. } | Block::Text(text) => push(text),
            Block::Facts(facts) => facts.iter().for_each(|(label, value)| {
                push(label);
                push(value);
            }),
            Block::Figure(figure) => {
                [&figure.title, &figure.message, &figure.caption].into_iter().for_each(|x| push(x));
            }
            Block::Table(table) => {
                push(&table.title);
                push(&table.caption);
                table.columns.iter().for_each(|column| push(&column.heading));
                table.rows.iter().flatten().for_each(|cell| push(&cell.text));
            }
            _ => {}
        }
    }
    for block in blocks {
        if let Block::Details { summary, blocks } = block {
            text.push_str(summary);
            text.push('\n');
            collect(blocks, text);
        }
    }
}

/// Whether `text` contains `word` with no letter or digit beside it.
fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(char::is_alphanumeric)
            && !text[at + word.len()..].starts_with(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_term_has_one_meaning_of_one_sentence() {
        for bits in 0..16 {
            let [are_plain, have_one_layer, are_disjoint, are_imported] =
                [1, 2, 4, 8].map(|bit| bits & bit > 0);
            let terms = terms(Nets { are_plain, have_one_layer, are_disjoint, are_imported });
            let names: BTreeSet<&str> = terms.iter().map(|term| term.name.as_str()).collect();
            assert_eq!(names.len(), terms.len());
            for term in &terms {
                assert!(term.meaning.ends_with('.'), "{}", term.meaning);
                assert!(!term.meaning.contains(". "), "{}: one sentence", term.name);
                assert!(!term.words.is_empty(), "{}", term.name);
            }
        }
    }

    #[test]
    fn words_are_found_in_any_block_and_only_as_whole_words() {
        let table = TableBlock {
            rows: vec![vec![Cell { text: "Linear + OT".to_owned(), ..Cell::default() }]],
            ..TableBlock::default()
        };
        let blocks =
            [Block::Details { summary: "All".to_owned(), blocks: vec![Block::Table(table)] }];
        let mut text = String::new();
        collect(&blocks, &mut text);
        assert!(contains_word(&text, "OT") && contains_word(&text, "All"));
        assert!(!contains_word(&text, "O") && !contains_word(&text, "Arc"));
    }
}
