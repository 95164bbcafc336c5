//! The settings of the run, the choices that the sources leave open, and the statistics.

use super::Report;
use crate::report::document::{Block, Cell, Column, TableBlock};
use crate::report::markdown::escape;
use crate::stage::rows::parsed;
use crate::stage::tables::{METRICS, REFITS, texts, wholes};
use crate::study::curve::align::Cost;
use crate::study::curve::refit::Targets;
use crate::study::curve::{Center, Method};
use crate::study::net::Prior;
use crate::study::stats::FEWEST;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fmt::Display;

pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    Ok(vec![
        Block::Table(settings(report)?),
        heading("choices", "Choices that the sources leave open"),
        Block::Text(choices(&report.measured.methods())),
        heading("statistics", "Statistics"),
        Block::Text(statistics()),
    ])
}

fn heading(id: &str, text: &str) -> Block {
    Block::Heading { level: 3, id: id.to_owned(), text: text.to_owned() }
}

fn settings(report: &Report) -> Result<TableBlock> {
    let nets = &report.nets;
    let numbers = |column: &str| -> Result<String> {
        let values: BTreeSet<i64> = wholes(nets, column)?.into_iter().collect();
        Ok(list(&values, ", "))
    };
    let words = |column: &str| -> Result<String> {
        let values: BTreeSet<String> = texts(nets, column)?.into_iter().collect();
        Ok(list(&values, "; "))
    };
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
        ("seed", words("seed")?),
        ("hidden neurons", numbers("hidden")?),
        ("priors", list(&priors, ", ")),
        ("pairs", numbers("pair")?),
        ("methods", list(titles, ", ")),
        ("epochs", numbers("epochs")?),
        ("batch size", numbers("batch")?),
        ("optimizer", words("optimizer")?),
        ("init", words("init")?),
        ("training engine", words("engine")?),
        ("training images of a net", numbers("images")?),
    ];
    let cell = |text: String| Cell { text, ..Cell::default() };
    let column = |heading: &str| Column { heading: heading.to_owned(), ..Column::default() };
    Ok(TableBlock {
        id: "settings-of-the-run".to_owned(),
        title: "Settings of the run".to_owned(),
        columns: vec![column("setting"), column("value")],
        rows: rows
            .into_iter()
            .map(|(name, value)| vec![cell(name.to_owned()), cell(value)])
            .collect(),
        ..TableBlock::default()
    })
}

/// The choices behind the parts of the run's methods.
fn choices(methods: &[Method]) -> String {
    let mut text = "Nets are f(x) = W2 relu(W1 x), without biases. The two ends A and B of a pair \
                    differ in init, shuffles and dropout masks. Any choice other than the \
                    following is part of a method's name.\n\n"
        .to_owned();
    if methods.iter().any(|method| method.curve.uses_center()) {
        text += &format!(
            "- An arc turns about {} (alternatives: {}). The correlation `rho` of the two nets as \
             seen from there is in `tables/{}`.\n",
            escape(Center::default().definition()),
            alternatives("arc", Center::ALL),
            METRICS.file
        );
    }
    if methods.iter().any(|method| method.alignment.is_some()) {
        text += &format!(
            "- OT matches neurons by {} (alternatives: {}). The curve ends at the permuted net, \
             which computes the same function.\n",
            escape(Cost::default().definition()),
            alternatives("+ot", Cost::ALL)
        );
    }
    if methods.iter().any(|method| method.adjustment.is_some()) {
        text += &format!(
            "- WA fits W2 to logits: {} (alternatives: {}), by normal equations with a relative \
             ridge of 1e-8 or the next sufficient power of ten. `tables/{}` lists the number of \
             training images, the rank, the ridge and the residual of each fit. W2 then moves \
             along a straight line to that of B, whereas the authors' Arc + WA rotates about the \
             mean of the 20 output rows. The points of the curve are denser around its largest \
             training error.\n",
            escape(Targets::default().definition()),
            alternatives("+wa", Targets::ALL),
            REFITS.file
        );
    }
    text
}

fn statistics() -> String {
    format!(
        "**Intervals** are 95 % confidence intervals of the mean over pairs, or over nets in the \
         tables of endpoints, by Student's t with one degree of freedom less than there are \
         values; pairs share no nets. In simulations with normal and skewed effects, 90 to 99.5 % \
         of such intervals contain the true mean. They require at least {FEWEST} values; with \
         fewer, the values are listed. Where the largest value over pairs is more than 4 times the \
         smallest and all are positive, the mean is geometric, is labelled as such, and has the \
         interval of the logarithms. All points of a line in a figure have the same kind of \
         mean.\n\n\
         **Contrasts.** A contrast is the ratio of a metric after a change to the metric before \
         it, with its 95 % interval. Ratios are taken between pairs with the same number, which \
         share init and shuffles, and are averaged on a log scale: within a pair over priors or \
         methods, then over pairs, then over widths with equal weights. Nets of different widths \
         are independent: their contrast is the ratio of the geometric means over pairs at the \
         widest and the narrowest width (Welch's test), and a prior with an excess of 0 or less is \
         excluded at both. Degrees of freedom are Satterthwaite's, and p is adjusted by Holm's \
         method for the contrasts of the claim. A contrast is lower or higher if p is below 0.05 \
         and the difference in points, averaged in the same way, exceeds two standard errors of \
         the difference of two test errors; otherwise it is inconclusive.\n\n\
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
