//! What to see in a figure: sentences about the values that it shows.

use super::drawing::{FigureLine, PanelLines};
use crate::stage::rows::{CurveGroup, equal_width};
use crate::study::net::{Hidden, Prior, PriorKind};
use std::collections::{BTreeMap, BTreeSet};

/// A value and what it belongs to.
pub(super) type Value = (f64, String);

/// The largest value of each line along curves, and every value of the other lines.
pub(super) fn peaks(panels: &[PanelLines]) -> Vec<(CurveGroup, f64)> {
    peaks_of(panels.iter().flat_map(|panel| &panel.lines))
}

/// As [`peaks`], of these lines.
pub(super) fn peaks_of<'l>(lines: impl Iterator<Item = &'l FigureLine>) -> Vec<(CurveGroup, f64)> {
    let peaks = |line: &FigureLine| -> Vec<(CurveGroup, f64)> {
        let means = line.means.iter().map(|mean| mean.mean);
        match (line.is_curve(), line.groups.first()) {
            (true, Some(&group)) => {
                means.reduce(f64::max).map(|peak| (group, peak)).into_iter().collect()
            }
            _ => line.groups.iter().copied().zip(means).collect(),
        }
    };
    lines.flat_map(peaks).filter(|(_, value)| value.is_finite()).collect()
}

/// Names method, width and prior.
pub(super) fn place(group: &CurveGroup) -> String {
    format!("{}, h = {}, {}", group.method.title(), group.hidden, prior_phrase(group.prior))
}

pub(super) fn prior_phrase(prior: Prior) -> String {
    match prior {
        Prior::None => "without prior".to_owned(),
        prior => format!("prior {prior}"),
    }
}

/// "`subject` is between the smallest and the largest of `values`".
pub(super) fn spread(subject: &str, unit: &str, values: &[Value]) -> String {
    let value = |x: f64| format!("{}{unit}", number(x));
    let least = values.iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let most = values.iter().max_by(|a, b| a.0.total_cmp(&b.0));
    let (Some((low, lowest)), Some((high, highest))) = (least, most) else {
        return String::new();
    };
    match (values.len(), value(*low) == value(*high)) {
        (1, _) => format!("{subject} is {} ({lowest}).", value(*low)),
        (_, true) => format!("{subject} is {} in every case.", value(*low)),
        _ => format!(
            "{subject} is between {} ({lowest}) and {} ({highest}).",
            value(*low),
            value(*high)
        ),
    }
}

/// Like [`spread`] for values of groups.
pub(super) fn spread_of(subject: &str, unit: &str, values: &[(CurveGroup, f64)]) -> String {
    let values: Vec<Value> = values.iter().map(|(group, x)| (*x, place(group))).collect();
    spread(subject, unit, &values)
}

/// For how many methods and priors the value of the widest nets with one hidden layer is below that
/// of the narrowest.
pub(super) fn by_width(subject: &str, values: &[(CurveGroup, f64)]) -> String {
    let width = |hidden: Hidden| Some((None, hidden.widths.single()?));
    between_ends(subject, values, width, |narrow, wide| {
        format!("at h = {wide} than at h = {narrow}")
    })
}

/// For how many methods and priors the value of the deepest nets is below that of nets of the same
/// width with the fewest hidden layers.
pub(super) fn by_depth(subject: &str, values: &[(CurveGroup, f64)]) -> String {
    let depth = |hidden: Hidden| Some((equal_width(hidden), hidden.widths.depth()));
    let values: Vec<_> =
        values.iter().copied().filter(|(group, _)| equal_width(group.hidden).is_some()).collect();
    between_ends(subject, &values, depth, |shallow, deep| {
        format!("with {deep} hidden layers than with {shallow}")
    })
}

/// For how many families of nets, methods and priors the value at the largest number is below that
/// at the smallest. `number` is the family of a net, beside its biases, and its number.
fn between_ends(
    subject: &str,
    values: &[(CurveGroup, f64)],
    number: impl Fn(Hidden) -> Option<(Option<usize>, usize)>,
    than: impl Fn(usize, usize) -> String,
) -> String {
    let numbers: BTreeSet<usize> =
        values.iter().filter_map(|(group, _)| Some(number(group.hidden)?.1)).collect();
    let (Some(&least), Some(&most)) = (numbers.first(), numbers.last()) else {
        return String::new();
    };
    let at = |wanted: usize| -> BTreeMap<_, f64> {
        let there = values.iter().filter_map(|(group, x)| {
            let CurveGroup { hidden, prior, method } = *group;
            let (family, number) = number(hidden)?;
            (number == wanted).then_some(((hidden.biases, family, prior, method), *x))
        });
        there.collect()
    };
    let (first, last) = (at(least), at(most));
    let both: Vec<bool> =
        first.iter().filter_map(|(key, x)| last.get(key).map(|y| y < x)).collect();
    if least == most || both.is_empty() {
        return String::new();
    }
    let lower = both.iter().filter(|lower| **lower).count();
    let share = share(lower, both.len(), "combination of method and prior");
    format!("{subject} is lower {} for {share}.", than(least, most))
}

/// For how many methods and widths the value of the smallest variance of the normal prior is below
/// that of the largest.
pub(super) fn by_variance(values: &[(CurveGroup, f64)]) -> String {
    let normal: Vec<(f64, &(CurveGroup, f64))> = values
        .iter()
        .filter(|(group, _)| group.prior.kind() == PriorKind::Normal)
        .filter_map(|value| Some((value.0.prior.variance()?, value)))
        .collect();
    let variances = || normal.iter().map(|(variance, _)| *variance);
    let (Some(small), Some(large)) = (variances().reduce(f64::min), variances().reduce(f64::max))
    else {
        return String::new();
    };
    let at = |wanted: f64| -> BTreeMap<_, f64> {
        let there = normal.iter().filter(|(variance, _)| *variance == wanted);
        there.map(|(_, (group, x))| ((group.hidden, group.method), *x)).collect()
    };
    let (first, last) = (at(large), at(small));
    let both: Vec<bool> =
        first.iter().filter_map(|(key, x)| last.get(key).map(|y| y < x)).collect();
    if small == large || both.is_empty() {
        return String::new();
    }
    let lower = both.iter().filter(|lower| **lower).count();
    let share = share(lower, both.len(), "combination of method and width");
    format!("It is lower at the variance {small} than at {large} for {share}.")
}

/// Which method has the lowest and which the highest value for most priors.
pub(super) fn extremes(values: &[(CurveGroup, f64)]) -> String {
    let mut priors: BTreeMap<Prior, Vec<&(CurveGroup, f64)>> = BTreeMap::new();
    for value in values {
        priors.entry(value.0.prior).or_default().push(value);
    }
    priors.retain(|_, values| values.len() > 1);
    let most_frequent = |titles: Vec<String>| {
        let count = |title: &String| titles.iter().filter(|other| *other == title).count();
        // The first of equally frequent ones.
        let best = titles.iter().rev().max_by_key(|title| count(title))?;
        Some((best.clone(), count(best)))
    };
    let by = |a: &&&(CurveGroup, f64), b: &&&(CurveGroup, f64)| a.1.total_cmp(&b.1);
    let title = |value: &&(CurveGroup, f64)| value.0.method.title();
    let lowest = priors.values().filter_map(|values| values.iter().min_by(by).map(title));
    let highest = priors.values().filter_map(|values| values.iter().max_by(by).map(title));
    let among = |part: usize| match priors.len() {
        1 => String::new(),
        all => format!(" for {}", share(part, all, "prior")),
    };
    match (most_frequent(lowest.collect()), most_frequent(highest.collect())) {
        (Some((low, lows)), Some((high, highs))) => {
            format!("It is lowest on {low}{}, and highest on {high}{}.", among(lows), among(highs))
        }
        _ => String::new(),
    }
}

/// "2 of 3 priors", "all 3 priors" or "the one prior".
pub(super) fn share(part: usize, whole: usize, name: &str) -> String {
    // The plural of "combination of method and prior" is in its first word.
    let (first, rest) = name
        .split_once(' ')
        .map_or((name, String::new()), |(first, rest)| (first, format!(" {rest}")));
    match (part, whole) {
        (1, 1) => format!("the one {name}"),
        _ if part == whole => format!("all {whole} {first}s{rest}"),
        _ => format!("{part} of {whole} {first}s{rest}"),
    }
}

/// A number with three significant digits, but at most six decimals.
pub(super) fn number(x: f64) -> String {
    let magnitude = libm::floor(libm::log10(x.abs().max(1e-9)));
    let decimals = (2.0 - magnitude).clamp(0.0, 6.0) as usize;
    let text = format!("{x:.decimals$}");
    // Rounding may leave a zero with a sign.
    let is_zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if is_zero { "0".to_owned() } else { text.replace('-', "\u{2212}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(method: &str, hidden: impl ToString, prior: &str) -> CurveGroup {
        let hidden = hidden.to_string().parse().unwrap();
        CurveGroup { hidden, prior: prior.parse().unwrap(), method: method.parse().unwrap() }
    }

    #[test]
    fn the_spread_names_both_ends() {
        let values = [
            (group("linear", 50, "none"), 26.43),
            (group("arc", 50, "none"), 19.4),
            (group("linear+ot", 10, "dropout 0.5"), 3.6666),
        ];
        let expected = "The error is between 3.67 % (Linear + OT, h = 10, prior dropout 0.5) and \
                        26.4 % (Linear, h = 50, without prior).";
        assert_eq!(spread_of("The error", " %", &values), expected);
        let expected = "The error is 26.4 % (Linear, h = 50, without prior).";
        assert_eq!(spread_of("The error", " %", &values[..1]), expected);
        assert_eq!(spread_of("The error", " %", &[]), "");
        let equal = [values[0], (values[1].0, 26.43)];
        assert_eq!(spread_of("The error", " %", &equal), "The error is 26.4 % in every case.");
    }

    #[test]
    fn the_widest_nets_are_compared_with_the_narrowest() {
        let values = [
            (group("linear", 10, "none"), 3.0),
            (group("linear", 50, "none"), 2.0),
            (group("arc", 10, "none"), 1.0),
            (group("arc", 50, "none"), 2.0),
            (group("arc", 20, "none"), 9.0),
            (group("rho-arc", 50, "none"), 0.0),
        ];
        let expected = "The error is lower at h = 50 than at h = 10 for 1 of 2 combinations of \
                        method and prior.";
        assert_eq!(by_width("The error", &values), expected);
        assert_eq!(by_width("The error", &values[..1]), "");
        assert_eq!(by_width("The error", &[]), "");
    }

    #[test]
    fn the_deepest_nets_are_compared_with_the_shallowest_of_the_same_width() {
        let values = [
            (group("linear", "5", "none"), 3.0),
            (group("linear", "5x5x5", "none"), 2.0),
            (group("linear", "5x5x5+bias", "none"), 9.0),
            (group("linear", "5x4", "none"), 0.0),
            (group("linear", "4x4x4", "none"), 0.0),
            (group("arc", "5", "none"), 1.0),
            (group("arc", "5x5x5", "none"), 2.0),
        ];
        let expected = "It is lower with 3 hidden layers than with 1 for 1 of 2 combinations of \
                        method and prior.";
        assert_eq!(by_depth("It", &values), expected);
        assert_eq!((by_depth("It", &values[..1]), by_depth("It", &[])), Default::default());
    }

    #[test]
    fn the_smallest_variance_is_compared_with_the_largest() {
        let values = [
            (group("linear", 10, "normal 0.1"), 3.0),
            (group("linear", 10, "normal 0.01"), 2.0),
            (group("linear", 10, "laplace 0.001"), 1.0),
            (group("arc", 10, "normal 0.1"), 3.0),
        ];
        let expected = "It is lower at the variance 0.01 than at 0.1 for the one combination of \
                        method and width.";
        assert_eq!(by_variance(&values), expected);
        assert_eq!((by_variance(&values[..1]), by_variance(&[])), (String::new(), String::new()));
    }

    #[test]
    fn the_lowest_and_the_highest_method_are_those_of_most_priors() {
        let values = [
            (group("linear", 50, "none"), 3.0),
            (group("arc", 50, "none"), 2.0),
            (group("linear", 50, "dropout 0.5"), 3.0),
            (group("arc", 50, "dropout 0.5"), 4.0),
            (group("linear", 50, "normal 0.1"), 5.0),
            (group("arc", 50, "normal 0.1"), 4.0),
        ];
        let expected = "It is lowest on Arc for 2 of 3 priors, and highest on Linear for 2 of 3 \
                        priors.";
        assert_eq!(extremes(&values), expected);
        let expected = "It is lowest on Arc, and highest on Linear.";
        assert_eq!(extremes(&values[..2]), expected);
        assert_eq!((extremes(&values[..1]), extremes(&[])), (String::new(), String::new()));
    }

    #[test]
    fn numbers_have_three_significant_digits() {
        let shown = [1234.0, 123.4, 26.43, 3.666, 0.0123, -0.5, -1e-8].map(number);
        assert_eq!(shown, ["1234", "123", "26.4", "3.67", "0.0123", "−0.500", "0"]);
    }
}
