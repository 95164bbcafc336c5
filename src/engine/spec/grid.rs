//! Grids: the values that a parameter takes, their combinations, and how a value reads in a name.
//!
//! Knows YAML values; not what they mean.

use crate::engine::located::{Value, YamlField, YamlNode};
use serde_json::Value as Json;
use std::collections::HashSet;

/// Whether a list stands anywhere in a parameter.
pub(crate) fn is_grid(node: &YamlNode) -> bool {
    match &node.value {
        Value::List(_) => true,
        Value::Map(entries) => entries.iter().any(|entry| is_grid(&entry.value)),
        _ => false,
    }
}

/// The field and the value that a grid has for the second time.
pub(crate) fn repeated<'a>(
    axes: &'a [(&'a YamlField, Vec<YamlNode>)],
) -> Option<(&'a YamlField, &'a YamlNode)> {
    axes.iter().find_map(|(field, values)| {
        let mut seen = HashSet::new();
        values
            .iter()
            .find(|value| !seen.insert(render(&value.to_json())))
            .map(|value| (*field, value))
    })
}

/// How many values a parameter takes; `None` if that overflows.
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

/// The values a parameter takes: a list is any of its items, a mapping any combination of its entries' values.
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

pub(crate) fn combinations<'a>(
    axes: &'a [(&'a YamlField, Vec<YamlNode>)],
) -> Vec<Vec<(&'a YamlField, &'a YamlNode)>> {
    let mut out = vec![Vec::new()];
    for (field, values) in axes {
        let extend =
            |partial: &Vec<_>, value| partial.iter().copied().chain([(*field, value)]).collect();
        out = out
            .iter()
            .flat_map(|partial| values.iter().map(move |value| extend(partial, value)))
            .collect();
    }
    out
}

/// A value as it appears in an instance's name: `50`, `none`, `dropout-0.5`, `normal-0.01` (the only field of a variant
/// needs no name), `sgd-momentum-0.9-rate-0.1`.
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
