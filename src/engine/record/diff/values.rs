//! The values of a parameter in two states: which of them replaced which.

use crate::engine::spec::grid::render;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// The values of a parameter that are only in one of two states.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Replaced<'a> {
    /// A value of the first state, and the one that replaced it.
    pub(super) pairs: Vec<(&'a Json, &'a Json)>,
    /// Values of the first state without a counterpart.
    pub(super) removed: Vec<&'a Json>,
    /// Values of the second state without a counterpart.
    pub(super) added: Vec<&'a Json>,
}

/// Compares the distinct values of a parameter. A value replaces another if both have the same
/// fields and texts and differ in numbers, and if there is no doubt about the pairs:
///
/// - There is one of each, or one of each among those that agree in a field whose values stayed.
/// - There are equally many, and they differ in one number. They are paired by size.
///
/// A value that replaces the only other one may differ in anything.
pub(super) fn compare<'a>(before: &'a [Json], after: &'a [Json]) -> Replaced<'a> {
    let only = |these: &'a [Json], others: &[Json]| -> Vec<&'a Json> {
        these.iter().filter(|value| !others.contains(value)).collect()
    };
    let (removed, added) = (only(before, after), only(after, before));
    if let ([was], [is]) = (&removed[..], &added[..]) {
        return Replaced { pairs: vec![(was, is)], ..Replaced::default() };
    }
    let mut groups: BTreeMap<Shape, [Vec<&Json>; 2]> = BTreeMap::new();
    for (side, values) in [&removed, &added].into_iter().enumerate() {
        for value in values {
            groups.entry(shape(value)).or_default()[side].push(value);
        }
    }
    let mut pairs = Vec::new();
    groups.values().for_each(|[old, new]| pair_alike(old, new, &mut pairs));
    let has = |value: &&Json| pairs.iter().any(|(was, is)| was == value || is == value);
    let lone = |values: &[&'a Json]| values.iter().copied().filter(|v| !has(v)).collect();
    let (removed, added) = (lone(&removed), lone(&added));
    // In the order of the second state.
    pairs.sort_by_key(|(_, is)| after.iter().position(|value| value == *is));
    Replaced { pairs, removed, added }
}

/// The fields of a value and their texts. Numbers are left out.
type Shape = Vec<(String, Option<String>)>;

fn shape(value: &Json) -> Shape {
    let text = |leaf: &Json| if leaf.is_number() { None } else { Some(leaf.to_string()) };
    leaves(value).into_iter().map(|(path, leaf)| (path, text(leaf))).collect()
}

/// Pairs values of one shape.
fn pair_alike<'a>(old: &[&'a Json], new: &[&'a Json], pairs: &mut Vec<(&'a Json, &'a Json)>) {
    if let ([was], [is]) = (old, new) {
        pairs.push((was, is));
        return;
    }
    if old.is_empty() || new.is_empty() {
        return;
    }
    let fields = numbers(old[0]).len();
    // Two values are the same number if their text is.
    let texts = |values: &[&Json], field: usize| -> BTreeSet<String> {
        values.iter().map(|value| numbers(value)[field].to_string()).collect()
    };
    for field in 0..fields {
        let kept = texts(old, field);
        if kept.len() > 1 && kept == texts(new, field) {
            for text in kept {
                let with = |values: &[&'a Json]| -> Vec<&'a Json> {
                    let is = |value: &&&Json| numbers(value)[field].to_string() == text;
                    values.iter().filter(is).copied().collect()
                };
                pair_alike(&with(old), &with(new), pairs);
            }
            return;
        }
    }
    let all = [old, new].concat();
    let varying: Vec<usize> = (0..fields).filter(|field| texts(&all, *field).len() > 1).collect();
    if let ([field], true) = (&varying[..], old.len() == new.len()) {
        let by_size = |values: &[&'a Json]| {
            let mut values = values.to_vec();
            values.sort_by(|a, b| numbers(a)[*field].total_cmp(&numbers(b)[*field]));
            values
        };
        pairs.extend(by_size(old).into_iter().zip(by_size(new)));
    }
}

fn numbers(value: &Json) -> Vec<f64> {
    leaves(value).into_iter().filter_map(|(_, leaf)| leaf.as_f64()).collect()
}

/// The single values in a value, by path, such as `normal.variance`.
fn leaves(value: &Json) -> Vec<(String, &Json)> {
    fn collect<'a>(path: String, value: &'a Json, found: &mut Vec<(String, &'a Json)>) {
        let below =
            |name: &str| if path.is_empty() { name.into() } else { format!("{path}.{name}") };
        match value {
            Json::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(name, value)| collect(below(name), value, found));
            }
            Json::Array(list) if !list.is_empty() => {
                let items = list.iter().enumerate();
                items.for_each(|(i, value)| collect(below(&i.to_string()), value, found));
            }
            value => found.push((path, value)),
        }
    }
    let mut found = Vec::new();
    collect(String::new(), value, &mut found);
    found
}

/// The fields of `field` in which two values differ, with both values as text. If they do not have
/// the same fields, the whole values.
pub(super) fn fields(field: &str, was: &Json, is: &Json) -> Vec<[String; 3]> {
    let (old, new) = (leaves(was), leaves(is));
    let paths = |leaves: &[(String, &Json)]| -> Vec<String> {
        leaves.iter().map(|(path, _)| path.clone()).collect()
    };
    if paths(&old) != paths(&new) {
        return vec![[field.to_owned(), text(was), text(is)]];
    }
    let name = |path: &str| match path {
        "" => field.to_owned(),
        path => format!("{field}.{path}"),
    };
    let both = old.iter().zip(&new).filter(|((_, was), (_, is))| was != is);
    both.map(|((path, was), (_, is))| [name(path), text(was), text(is)]).collect()
}

/// A value as in the names of nodes. Null stands for the default.
pub(super) fn text(value: &Json) -> String {
    if value.is_null() { "(default)".to_owned() } else { render(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn list(value: Json) -> Vec<Json> {
        value.as_array().unwrap().clone()
    }

    /// The pairs, then the values without a counterpart, as text.
    fn compared(before: Json, after: Json) -> (Vec<String>, String) {
        let (before, after) = (list(before), list(after));
        let Replaced { pairs, removed, added } = compare(&before, &after);
        let all = |values: Vec<&Json>| values.into_iter().map(render).collect::<Vec<_>>().join(" ");
        let pairs = pairs.iter().map(|(was, is)| format!("{}>{}", render(was), render(is)));
        (pairs.collect(), format!("{}|{}", all(removed), all(added)))
    }

    #[test]
    fn the_only_value_that_changed_is_paired() {
        let normal = |variance: f64| json!({ "normal": { "variance": variance } });
        let (pairs, rest) = compared(json!(["none", normal(0.01)]), json!(["none", normal(0.005)]));
        assert_eq!((pairs, &rest[..]), (vec!["normal-0.01>normal-0.005".into()], "|"));
        let (pairs, _) = compared(json!([normal(0.01), normal(0.1)]), json!([normal(0.1), "none"]));
        assert_eq!(pairs, ["normal-0.01>none"], "a value that is in both is no replacement");
        assert_eq!(compared(json!([1, 2]), json!([2, 1])), (vec![], "|".into()));
    }

    #[test]
    fn numbers_are_paired_by_size_if_there_are_equally_many() {
        let (pairs, rest) = compared(json!([1, 0.1, 5]), json!([0.2, 2, 5]));
        assert_eq!((pairs, &rest[..]), (vec!["0.1>0.2".to_owned(), "1>2".into()], "|"));
        let (pairs, rest) = compared(json!([0.01]), json!([0.005, 0.02]));
        assert_eq!((pairs.len(), &rest[..]), (0, "0.01|0.005 0.02"));
    }

    #[test]
    fn values_are_paired_with_values_of_the_same_fields() {
        let (pairs, rest) = compared(
            json!([{ "normal": { "variance": 1 } }, { "laplace": { "scale": 2 } }, "a", "b"]),
            json!([{ "laplace": { "scale": 3 } }, "c", "d", { "normal": { "variance": 4 } }]),
        );
        assert_eq!(pairs, ["laplace-2>laplace-3", "normal-1>normal-4"]);
        assert_eq!(rest, "a b|c d", "nothing says which text replaced which");
    }

    #[test]
    fn a_field_whose_values_stayed_pairs_the_others() {
        let sgd = |rate: f64, momentum: f64| json!({ "rate": rate, "momentum": momentum });
        let (pairs, rest) =
            compared(json!([sgd(0.1, 0.9), sgd(0.2, 0.9)]), json!([sgd(0.2, 0.8), sgd(0.1, 0.8)]));
        assert_eq!((pairs.len(), &rest[..]), (2, "|"));
        let (was, is) = (sgd(0.1, 0.9), sgd(0.1, 0.8));
        assert_eq!(fields("sgd", &was, &is), [["sgd.momentum", "0.9", "0.8"].map(str::to_owned)]);
        let (pairs, _) =
            compared(json!([sgd(0.1, 0.9), sgd(0.2, 0.8)]), json!([sgd(0.3, 0.7), sgd(0.4, 0.6)]));
        assert_eq!(pairs, [""; 0], "two numbers moved at once");
    }

    proptest! {
        #[test]
        fn swapping_the_states_swaps_the_pairs(
            old in proptest::collection::btree_set(0u8..8, 0..5),
            new in proptest::collection::btree_set(0u8..8, 0..5),
        ) {
            let values = |set: &BTreeSet<u8>| -> Vec<Json> {
                set.iter().map(|n| json!({ "x": n / 2, "y": n % 2 })).collect()
            };
            let (old, new) = (values(&old), values(&new));
            let text = |(was, is): &(&Json, &Json)| (was.to_string(), is.to_string());
            let there: BTreeSet<_> = compare(&old, &new).pairs.iter().map(text).collect();
            let back: BTreeSet<_> =
                compare(&new, &old).pairs.iter().map(text).map(|(is, was)| (was, is)).collect();
            prop_assert_eq!(there, back);
            prop_assert_eq!(compare(&old, &old), Replaced::default());
        }
    }
}
