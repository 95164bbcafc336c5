//! The recipes behind figures and tables: the stages that they depend on, with all parameters.

use crate::engine::stage::{StageOutline, Upstream};
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// The recipe of the output of `stage`, from the stage back to the data: one line for each stage
/// that it depends on. `node` are parameters of the one node, in place of the stage's values.
pub(super) fn recipe(
    upstream: &Upstream,
    stage: &str,
    node: &[(&str, &str)],
) -> Vec<(String, String)> {
    let find = |name: &str| upstream.stages.iter().find(|stage| stage.name == name);
    let mut needed = BTreeSet::from([stage]);
    let mut lines = Vec::new();
    // Stages come after their inputs, so that the reverse order meets each one after its users.
    let mut stages: Vec<&StageOutline> = upstream.stages.iter().collect();
    stages.reverse();
    let mut found = true;
    while found {
        found = false;
        for outline in &stages {
            if needed.contains(outline.name.as_str()) {
                for input in outline.inputs.values().flatten() {
                    found |= find(input).is_some_and(|input| needed.insert(&input.name));
                }
            }
        }
    }
    let own = stages.iter().find(|outline| outline.name == stage).copied();
    let others = stages.iter().filter(|outline| outline.name != stage).copied();
    for outline in own.into_iter().chain(others) {
        if needed.contains(outline.name.as_str()) {
            let node = if outline.name == stage { node } else { &[] };
            lines.push((outline.name.clone(), line(outline, node)));
        }
    }
    lines
}

/// `plot, version 4; figure=overview; data=data, tables=tables`.
fn line(stage: &StageOutline, node: &[(&str, &str)]) -> String {
    let nodes = if stage.nodes == 1 || !node.is_empty() {
        String::new()
    } else {
        format!(", {} nodes", stage.nodes)
    };
    let mut parts = vec![format!("{}, version {}{nodes}", stage.kind, stage.version)];
    let fixed = |name: &str| node.iter().find(|(fixed, _)| *fixed == name);
    let params = stage.params.iter().map(|(name, values)| match fixed(name) {
        Some((_, value)) => format!("{name}={value}"),
        None => match &values[..] {
            [value] => format!("{name}={}", text(value)),
            values => {
                let values: Vec<String> = values.iter().map(text).collect();
                format!("{name}=[{}]", values.join(", "))
            }
        },
    });
    let inputs = stage.inputs.iter().map(|(slot, stages)| format!("{slot}: {}", stages.join(", ")));
    parts.extend(params);
    parts.extend(inputs);
    parts.join("; ")
}

/// A value as in pipeline.yaml.
fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string().replace('"', ""),
    }
}

/// The one stage that fills `slot`, if there is one.
pub(super) fn stage_in<'u>(upstream: &'u Upstream, slot: &str) -> Option<&'u str> {
    let node = &upstream.inputs.iter().find(|input| input.slot == slot)?.node;
    Some(node.split_once('@').map_or(node.as_str(), |(stage, _)| stage))
}
