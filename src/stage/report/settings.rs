//! The settings of the run, the choices that the sources leave open, and the statistics.

use super::Report;
use super::measured::Measured;
use crate::report::document::{Block, Cell, Column, TableBlock};
use crate::report::markdown::escape;
use crate::report::table::Align;
use crate::stage::names::PairName;
use crate::stage::rows::{has_one_layer, parsed};
use crate::stage::tables::{METRICS, REFITS, present_wholes, texts};
use crate::study::curve::align::Cost;
use crate::study::curve::refit::Targets;
use crate::study::curve::repair;
use crate::study::curve::{Center, CurveKind, Method, dropout_path};
use crate::study::net::{Hidden, Prior};
use crate::study::stats::{FEWEST, FEWEST_NETS};
use anyhow::Result;
use std::collections::BTreeSet;
use std::fmt::Display;

pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    Ok(vec![
        Block::Table(settings(report)?),
        heading("choices", "Choices that the sources leave open"),
        Block::Text(choices(&report.measured)),
        heading("statistics", "Statistics"),
        Block::Text(statistics(report.measured.kind_of_nets())),
    ])
}

fn heading(id: &str, text: &str) -> Block {
    Block::Heading { level: 3, id: id.to_owned(), text: text.to_owned() }
}

fn settings(report: &Report) -> Result<TableBlock> {
    let nets = &report.nets;
    // Nets that were trained elsewhere have no settings.
    let known = |column: &str, values: String| -> Result<String> {
        let unknown = nets.column(column)?.null_count();
        Ok(match (values.is_empty(), unknown) {
            (_, 0) => values,
            (true, _) => "unknown".to_owned(),
            (false, n) => format!("{values}; unknown for {n} of {} nets", nets.height()),
        })
    };
    let numbers = |column| known(column, list(&present_wholes(nets, column)?, ", "));
    let words = |column: &str| {
        let mut values: BTreeSet<String> = texts(nets, column)?.into_iter().collect();
        values.remove("");
        known(column, list(&values, "; "))
    };
    let hiddens: BTreeSet<Hidden> = parsed(nets, "hidden")?.into_iter().collect();
    let names = texts(nets, "net")?;
    // The table is sorted by hidden layers, prior and name.
    let mut distinct: Vec<&str> = Vec::new();
    for name in &names {
        if !distinct.contains(&name.as_str()) {
            distinct.push(name);
        }
    }
    let pairs: BTreeSet<&PairName> =
        report.measured.tests.pairs.values().flat_map(|pairs| pairs.keys()).collect();
    let priors: BTreeSet<Prior> = parsed(nets, "prior")?.into_iter().collect();
    let titles = report.measured.methods().into_iter().map(Method::title);
    let none = || "none".to_owned();
    let overrides = match report.params.overrides.is_empty() {
        true => none(),
        false => report.params.overrides.join("; "),
    };
    let data = &report.measured.data;
    let images =
        format!("{} training, {} validation, {} test", data.train, data.validation, data.test);
    let rows = [
        ("profile", report.params.profile.clone().unwrap_or_else(none)),
        ("overrides", overrides),
        ("dataset", data.dataset.to_string()),
        ("images", images),
        ("image", data.images.to_string()),
        ("seed", words("seed")?),
        (
            if report.measured.has_general_nets() { "hidden layers" } else { "hidden neurons" },
            list(&hiddens, ", "),
        ),
        ("priors", list(&priors, ", ")),
        ("nets", listed_or_counted(&distinct)),
        ("pairs", listed_or_counted(&pairs.into_iter().collect::<Vec<_>>())),
        ("methods", list(titles, ", ")),
        ("epochs", numbers("epochs")?),
        ("batch size", numbers("batch")?),
        ("optimizer", words("optimizer")?),
        ("init", words("init")?),
        ("training engine", words("engine")?),
        ("training images of a net", numbers("images")?),
    ];
    let column = |heading: &str| Column::new(heading, Align::Left);
    Ok(TableBlock {
        id: "settings-of-the-run".to_owned(),
        title: "Settings of the run".to_owned(),
        columns: vec![column("setting"), column("value")],
        rows: rows
            .into_iter()
            .map(|(name, value)| vec![Cell::text(name), Cell::text(value)])
            .collect(),
        ..TableBlock::default()
    })
}

/// At most this many names are listed.
const MOST_NAMES: usize = 20;

fn listed_or_counted<T: Display>(names: &[T]) -> String {
    if names.len() > MOST_NAMES { names.len().to_string() } else { list(names, ", ") }
}

/// The nets of the run as a formula.
fn formula(hiddens: &BTreeSet<Hidden>) -> String {
    let biases: BTreeSet<bool> = hiddens.iter().map(|hidden| hidden.biases).collect();
    let with = biases.contains(&true);
    let formula = match (hiddens.iter().all(has_one_layer), with) {
        (true, false) => "f(x) = W2 relu(W1 x)",
        (true, true) => "f(x) = W2 relu(W1 x + b1) + b2",
        (false, false) => "x -> relu(W x) for each hidden layer, and then the logits W x",
        (false, true) => "x -> relu(W x + b) for each hidden layer, and then the logits W x + b",
    };
    let biases = match (with, biases.len()) {
        (false, _) => ", without biases",
        (true, 1) => "",
        (true, _) => "; b is 0 where the hidden layers are not marked `+bias`",
    };
    format!("Nets are {formula}{biases}.")
}

/// The choices behind the parts of the run's methods.
fn choices(measured: &Measured) -> String {
    let methods = measured.methods();
    let ends = match measured.imported {
        0 => "The two ends A and B of a pair differ in init, shuffles and dropout masks.",
        n if n == measured.nets => "The nets were trained elsewhere: how they differ is unknown.",
        _ => {
            "The two ends A and B of a pair that was trained here differ in init, shuffles and \
             dropout masks."
        }
    };
    let mut text = format!(
        "{} {ends} Any choice other than the following is part of a method's name.\n\n",
        formula(&measured.hiddens())
    );
    let has_one_layer = measured.hiddens().iter().all(has_one_layer);
    if methods.iter().any(|method| method.curve.uses_center()) {
        text += &format!(
            "- An arc turns about {} (alternatives: {}). The correlation `rho` of the two nets as \
             seen from there is in `tables/{}`.\n",
            escape(Center::default().definition()),
            alternatives("arc", Center::ALL),
            METRICS.file
        );
    }
    if methods.iter().any(|method| matches!(method.curve, CurveKind::DropoutPath)) {
        text += &format!("- {}: {}\n", dropout_path::TITLE, escape(dropout_path::DEFINITION));
    }
    if methods.iter().any(|method| method.curve.is_learned()) {
        text += "- The bends of a learned curve (Bezier, Chain) start on the straight line and are \
                 trained on the training images with the objective of the nets at the point t of \
                 the curve, prior included, at another t for each batch. Other methods train \
                 nothing.\n";
    }
    if methods.iter().any(|method| method.alignment.is_some()) {
        text += &format!(
            "- OT matches neurons by {} (alternatives: {}). The curve ends at the permuted net, \
             which computes the same function.\n",
            escape(Cost::default().definition()),
            alternatives("+ot", Cost::ALL)
        );
    }
    if methods.iter().any(|method| method.repair) {
        text += &format!("- REPAIR: {}\n", escape(repair::DEFINITION));
    }
    if methods.iter().any(|method| method.adjustment.is_some()) {
        let (fits, moves) = match has_one_layer {
            true => ("W2 to logits", "W2 then moves along a straight line to that of B"),
            false => (
                "the weights after a moving layer to what they compute, the last ones to logits",
                "The last layer then moves along a straight line to that of B",
            ),
        };
        text += &format!(
            "- WA fits {fits}: {} (alternatives: {}), by normal equations with a relative \
             ridge of 1e-8 or the next sufficient power of ten. `tables/{}` lists the number of \
             training images, the rank, the ridge and the residual of each fit. {moves}, whereas \
             the authors' Arc + WA rotates about the mean of the {} output rows. The points of the \
             curve are denser around its largest training error.\n",
            escape(Targets::default().definition()),
            alternatives("+wa", Targets::ALL),
            REFITS.file,
            2 * measured.data.images.classes
        );
    }
    text
}

fn statistics(kind: &str) -> String {
    format!(
        "**Nets are the sample.** Every pair of the nets of one {kind} and prior may be joined, \
         but pairs that share a net are not independent. The two directions of a pair are averaged \
         first, and a pair that was joined in one direction counts as it is.\n\n\
         **Intervals** are 95 % confidence intervals of the mean over pairs, or over nets in the \
         tables of endpoints, by Student's t. Where no two pairs share a net, the standard error \
         is that of independent values, with one degree of freedom less than there are values. \
         Otherwise it is the jackknife over nets, each left out with all its pairs (Efron and \
         Stein, 1981), with one degree of freedom less than there are nets. In simulations with \
         normal and skewed effects, 90 to 99.5 % of such intervals contain the true mean. They \
         require at least {FEWEST} values, or {FEWEST_NETS} nets if pairs share them; with fewer, \
         the values are listed. Where the largest value over pairs is more than 4 times the \
         smallest and all are positive, the mean is geometric, is labelled as such, and has the \
         interval of the logarithms. All points of a line in a figure have the same kind of \
         mean.\n\n\
         **Contrasts.** A contrast is the ratio of a metric after a change to the metric before \
         it, with its 95 % interval. Ratios are taken between pairs of the same name, which \
         share init and shuffles, and are averaged on a log scale: within a pair over priors or \
         methods, then over pairs, then over widths with equal weights. Where pairs share nets and \
         a method was measured on some of the pairs alone, each method has the same weight, and \
         the jackknife leaves a net out of all of them. Nets of different widths are independent: \
         their contrast is the ratio of the geometric means over pairs at the widest and the \
         narrowest width, or at the largest and the smallest depth of one width (Welch's test), \
         and a prior with an excess of 0 or less is excluded at both. Degrees of freedom are \
         Satterthwaite's, and p is adjusted by Holm's method for the contrasts of the claim. A \
         contrast is lower or higher if p is below 0.05 and the difference in points, averaged in \
         the same way, exceeds two standard errors of the difference of two test errors; \
         otherwise it is inconclusive.\n\n\
         **Metrics.** The excess error is the largest error on the curve minus the error of the \
         worse end. The mean error is taken by arc length; over t, the second segment of WA, on \
         which the error hardly changes, would contribute half of it. The normalised error is \
         (E(t) - E\\_end) / (E\\_lin\\_max - E\\_end), where E\\_end is the mean error of the two \
         ends and E\\_lin\\_max the largest error on the straight line of the same pair.\n"
    )
}

/// The names of `part` with each choice that is not the default, as in `arc:zero`.
fn alternatives<T: Display + Default + PartialEq>(part: &str, choices: &[T]) -> String {
    let others = choices.iter().filter(|choice| **choice != T::default());
    list(others.map(|choice| format!("`{part}:{choice}`")), ", ")
}

fn list<T: Display>(values: impl IntoIterator<Item = T>, separator: &str) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(separator)
}
