//! Grids: the values of a parameter, their combinations, and the text of a value in a node's name.
//!
//! This module knows YAML values, but not their meaning.

use crate::engine::located::{Value, YamlField, YamlNode};
use serde_json::Value as Json;
use std::collections::HashMap;

/// Whether a parameter contains a list.
pub(crate) fn is_grid(node: &YamlNode) -> bool {
    match &node.value {
        Value::List(_) => true,
        Value::Map(entries) => entries.iter().any(|entry| is_grid(&entry.value)),
        _ => false,
    }
}

/// The first two values of a field that have the same text in names.
pub(crate) fn repeated<'a>(
    axes: &'a [(&'a YamlField, Vec<YamlNode>)],
) -> Option<(&'a YamlField, [&'a YamlNode; 2])> {
    axes.iter().find_map(|(field, values)| {
        let mut by_text = HashMap::new();
        let pair = values.iter().find_map(|value| {
            by_text.insert(render(&value.to_json()), value).map(|first| [first, value])
        });
        pair.map(|pair| (*field, pair))
    })
}

/// The number of values of a parameter; `None` if it overflows.
pub(crate) fn width(node: &YamlNode) -> Option<usize> {
    match &node.value {
        Value::List(items) => {
            items.iter().try_fold(0usize, |sum, item| sum.checked_add(width(item)?))
        }
        Value::Map(entries) => {
            entries.iter().try_fold(1usize, |product, e| product.checked_mul(width(&e.value)?))
        }
        _ => Some(1),
    }
}

/// The values of a parameter: each item of a list, and each combination of the values in a mapping.
pub(crate) fn alternatives(node: &YamlNode) -> Vec<YamlNode> {
    match &node.value {
        Value::List(items) => items.iter().flat_map(alternatives).collect(),
        Value::Map(entries) => {
            let mut maps: Vec<Vec<YamlField>> = vec![Vec::new()];
            for entry in entries {
                let values = alternatives(&entry.value);
                let extend = |map: &Vec<YamlField>, value: &YamlNode| {
                    let entry = YamlField {
                        key: entry.key.clone(),
                        location: entry.location,
                        value: value.clone(),
                    };
                    map.iter().cloned().chain([entry]).collect::<Vec<_>>()
                };
                maps = maps
                    .iter()
                    .flat_map(|map| values.iter().map(move |value| extend(map, value)))
                    .collect();
            }
            maps.into_iter()
                .map(|map| YamlNode { location: node.location, value: Value::Map(map) })
                .collect()
        }
        _ => vec![node.clone()],
    }
}

/// The combination with this index of values on axes with these numbers of values: the index of
/// each value. The last axis varies fastest.
pub(crate) fn combination(widths: &[usize], index: usize) -> Vec<usize> {
    let mut rest = index;
    let mut chosen = vec![0; widths.len()];
    for (chosen, width) in chosen.iter_mut().zip(widths).rev() {
        *chosen = rest % width;
        rest /= width;
    }
    chosen
}

/// The text of a value in a node's name: `50`, `none`, `dropout-0.5`, `normal-0.01` (a single field
/// is not named), `sgd-momentum-0.9-rate-0.1`.
pub(crate) fn render(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Number(n) if n.is_f64() => n.as_f64().unwrap_or(f64::NAN).to_string(),
        Json::Array(items) => items.iter().map(render).collect::<Vec<_>>().join("-"),
        Json::Object(map) => {
            let entry = |(key, value): (&String, &Json)| match value {
                Json::Object(inner) if map.len() == 1 && inner.len() == 1 => {
                    format!("{key}-{}", inner.values().map(render).collect::<String>())
                }
                _ => format!("{key}-{}", render(value)),
            };
            map.iter().map(entry).collect::<Vec<_>>().join("-")
        }
        other => other.to_string(),
    }
}
