//! Sentences of captions that follow from what a figure shows, so that none is written by hand.

use super::tables::Mean;
use crate::report::axis::Scale;
use crate::report::figure::{Mark, Panel};
use crate::study::stats::Average;

/// Of a figure without any data.
pub(super) const NOTHING: &str = "The run has nothing to show here.";

/// Those that are not empty, with a space between.
pub(super) fn sentences(all: impl IntoIterator<Item = String>) -> String {
    all.into_iter().filter(|sentence| !sentence.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What t means on a curve of two segments.
pub(super) fn of_wa<'a>(mut methods: impl Iterator<Item = &'a str>) -> String {
    if methods.any(|method| method.ends_with("+wa")) {
        "On a curve with WA, W1 moves in the first half of t, and W2 alone, straight, in the second; of its points, which lie \
         closer beside its largest training error, those are shown that all pairs have."
            .to_owned()
    } else {
        String::new()
    }
}

/// Over how many pairs the means are, and of which kind.
pub(super) fn averaged(means: &[&Mean]) -> String {
    let counts = means.iter().map(|mean| mean.count);
    let pairs = match (counts.clone().min(), counts.max()) {
        (None, _) | (_, None) => return NOTHING.to_owned(),
        (_, Some(1)) => return "Of one pair.".to_owned(),
        (Some(least), Some(most)) if least == most => format!("{most} pairs"),
        (Some(least), Some(most)) => format!("{least} to {most} pairs"),
    };
    let geometric = means.iter().filter(|mean| mean.average == Average::Geometric).count();
    let kind = match geometric {
        0 => "",
        n if n == means.len() => ", geometric",
        _ => ", geometric where the pairs differ most",
    };
    format!("Mean over {pairs}{kind}.")
}

/// Which of the means have an interval, and what stands for those that have none.
pub(super) fn intervals(means: &[&Mean], curves: bool, crowded: bool) -> String {
    let with = means.iter().filter(|mean| mean.interval.is_some()).count();
    let dots = means.iter().any(|mean| mean.interval.is_none() && mean.count > 1) && !curves;
    let name = if curves { "bands" } else { "whiskers" };
    let pairs = if dots { "; dots are the single pairs" } else { "" };
    let cut = if curves {
        "cut off at the edge of a panel"
    } else {
        "without a cap where they go on beyond the panel"
    };
    match with {
        0 if means.is_empty() => String::new(),
        0 => format!("No {name}: there are too few pairs for an interval{pairs}."),
        _ if crowded => {
            "The 95 % intervals are not drawn, since so many bands would hide each other; \
                         `curves.csv` of the stage `aggregate` has them."
                .to_owned()
        }
        n if n == means.len() => format!("The {name} are 95 % intervals of the mean, {cut}."),
        _ => format!(
            "The {name} are 95 % intervals of the mean, {cut}, where there are pairs enough for one{pairs}."
        ),
    }
}

/// How many values have no place in `panels`, since an axis is logarithmic, and what stands for
/// them.
pub(super) fn not_above_zero(panels: &[Panel]) -> String {
    let of_log =
        panels.iter().filter(|panel| panel.y.scale == Scale::Log).flat_map(|panel| &panel.series);
    let mut marks: Vec<Mark> = Vec::new();
    for series in of_log {
        marks.extend(series.points.iter().filter(|(_, y)| *y <= 0.0).map(|_| series.mark));
    }
    let values = match marks.len() {
        0 => return String::new(),
        1 => "One value is 0 or less".to_owned(),
        n => format!("{n} values are 0 or less"),
    };
    let shown = if marks.contains(&Mark::Curve) {
        "is a gap in its line"
    } else {
        "stands at its lower end"
    };
    format!("{values}, where the log axis does not reach: each {shown}.")
}
