//! The sentences of captions, derived from the contents of a figure.

use crate::report::axis::Scale;
use crate::report::figure::{Mark, Panel};
use crate::stage::rows::{CurveGroup, GroupMean, has_one_layer};
use crate::study::curve::refit::Targets;
use crate::study::net::Hidden;
use crate::study::stats::{Average, FEWEST, FEWEST_NETS};

/// The caption of a figure without data.
pub(super) const NO_DATA: &str = "The run has no data for this figure.";

/// Joins the sentences that are not empty.
pub(super) fn join(sentences: impl IntoIterator<Item = String>) -> String {
    let sentences = sentences.into_iter().filter(|sentence| !sentence.is_empty());
    sentences.collect::<Vec<_>>().join(" ")
}

/// The meaning of t on curves of several segments, if there are any.
pub(super) fn segments<'g>(groups: impl Iterator<Item = &'g CurveGroup>) -> String {
    let mut refitted =
        groups.filter(|group| group.method.adjustment == Some(Targets::A)).peekable();
    if refitted.peek().is_none() {
        String::new()
    } else if refitted.any(|group| !has_one_layer(&group.hidden)) {
        "With WA, one layer after another moves, from the first to the last, in equal parts of t. \
         While a layer moves, the weights of the next one are refitted at every point; the last \
         layer moves along a straight line. The points of such a curve are denser around its \
         largest training error; only points that all pairs have in common are shown."
            .to_owned()
    } else {
        "With WA, W1 moves in the first half of t, and W2 is refitted at every point; in the \
         second half, W2 alone moves, along a straight line. The points of such a curve are denser \
         around its largest training error; only points that all pairs have in common are shown."
            .to_owned()
    }
}

/// The nets in a sentence, after "with".
pub(super) fn with_hidden(hidden: Hidden) -> String {
    let biases = if hidden.biases { " and biases" } else { "" };
    match hidden.widths.single() {
        Some(width) => format!("{width} hidden neurons{biases}"),
        None => format!("hidden layers of {} neurons{biases}", hidden.widths),
    }
}

/// The number of pairs averaged over, and the kind of average.
pub(super) fn averages(means: &[&GroupMean]) -> String {
    let counts = means.iter().map(|mean| mean.count);
    let pairs = match (counts.clone().min(), counts.max()) {
        (None, _) | (_, None) => return NO_DATA.to_owned(),
        (_, Some(1)) => return "Values of a single pair.".to_owned(),
        (Some(least), Some(most)) if least == most => format!("{most} pairs"),
        (Some(least), Some(most)) => format!("{least} to {most} pairs"),
    };
    let nets = means.iter().map(|mean| mean.nets);
    let pairs = match (nets.clone().min(), nets.max()) {
        (Some(least), Some(most)) if least < most => format!("{pairs} of {least} to {most} nets"),
        (_, most) => format!("{pairs} of {} nets", most.unwrap_or(0)),
    };
    let geometric = means.iter().filter(|mean| mean.average == Average::Geometric).count();
    match geometric {
        0 => format!("Mean over {pairs}."),
        n if n == means.len() => format!("Geometric mean over {pairs}."),
        _ => format!("Mean over {pairs}, geometric where their values differ widely."),
    }
}

/// Explains the confidence intervals of curves, of points or of both, and the marks of means
/// without one.
pub(super) fn intervals(
    means: &[&GroupMean],
    (curves, points): (bool, bool),
    omitted: bool,
) -> String {
    let with = means.iter().filter(|mean| mean.interval.is_some()).count();
    let dots = means.iter().any(|mean| mean.interval.is_none() && mean.count > 1) && points;
    let dots = if dots { " Dots are single pairs." } else { "" };
    let (name, clipped) = match (curves, points) {
        (true, true) => ("Bands and whiskers", "clipped to the panel"),
        (true, false) => ("Bands", "clipped to the panel"),
        _ => ("Whiskers", "without a cap where they extend beyond the panel"),
    };
    match with {
        0 if means.is_empty() => String::new(),
        0 => format!("There are too few pairs for confidence intervals.{dots}"),
        _ if omitted => "The 95 % confidence intervals are omitted, since so many bands would \
                         overlap; `curves.csv` of the stage `aggregate` contains them."
            .to_owned(),
        n if n == means.len() => {
            format!("{name} are 95 % confidence intervals of the mean, {clipped}.")
        }
        _ => format!(
            "{name} are 95 % confidence intervals of the mean, {clipped}; means over fewer than \
             {FEWEST} pairs, or over pairs of fewer than {FEWEST_NETS} nets that share them, have \
             none.{dots}"
        ),
    }
}

/// The number of values that a log axis cannot show, and how they are drawn.
pub(super) fn not_above_zero(panels: &[Panel]) -> String {
    let logarithmic =
        panels.iter().filter(|panel| panel.y.scale == Scale::Log).flat_map(|panel| &panel.series);
    let mut marks: Vec<Mark> = Vec::new();
    for series in logarithmic {
        marks.extend(series.points.iter().filter(|(_, y)| *y <= 0.0).map(|_| series.mark));
    }
    let curve = marks.contains(&Mark::Curve);
    match (marks.len(), curve) {
        (0, _) => String::new(),
        (1, true) => "One value is 0 or less, a gap in its line on the log axis.".to_owned(),
        (1, false) => "One value is 0 or less, drawn at the lower end of the log axis.".to_owned(),
        (n, true) => format!("{n} values are 0 or less, gaps in their lines on the log axis."),
        (n, false) => format!("{n} values are 0 or less, drawn at the lower end of the log axis."),
    }
}
