//! The recipes behind figures and tables: the stages that they depend on, with all parameters.

use crate::engine::key::{Artifact, root};
use crate::engine::stage::{NamedInput, RenamedInput, StageOutline, Upstream};
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// The recipe of the output of `stage`, from the stage back to the data: one line for each stage
/// that it depends on. `node` are parameters of the one node, in place of the stage's values.
pub(super) fn recipe(
    upstream: &Upstream,
    stage: &str,
    node: &[(&str, &str)],
) -> Vec<(String, String)> {
    let mut needed = BTreeSet::from([stage]);
    let mut lines = Vec::new();
    // Inputs come before their users, so the reverse order meets each stage after its users.
    for outline in upstream.stages.iter().rev() {
        if needed.contains(outline.name.as_str()) {
            needed.extend(outline.inputs.values().flatten().map(String::as_str));
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
    let inputs = stage.inputs.iter().map(|(slot, stages)| {
        let renamed = stage.renamed.get(slot).into_iter().flatten();
        let renamed: String = renamed.map(new_names).collect();
        format!("{slot}: {}{renamed}", stages.join(", "))
    });
    parts.extend(params);
    parts.extend(inputs);
    parts.extend(stage.conditions.iter().map(|condition| format!("where {}", text(condition))));
    parts.join("; ")
}

/// ` (nets with net as a)`.
fn new_names(input: &RenamedInput) -> String {
    let names: Vec<String> =
        input.rename.iter().map(|(axis, name)| format!("{axis} as {name}")).collect();
    format!(" ({} with {})", input.stage, names.join(", "))
}

/// A value as in pipeline.yaml.
fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string().replace('"', ""),
    }
}

/// The node in `slot` with this artifact.
pub(super) fn node_of<'u>(
    upstream: &'u Upstream,
    slot: &str,
    artifact: &Artifact,
) -> Option<&'u str> {
    let digest = root([artifact]);
    let is_it = |input: &&NamedInput| input.slot == slot && input.artifact == digest;
    upstream.inputs.iter().find(is_it).map(|input| input.node.as_str())
}

/// The stage of a node and the values in its name: `plot@figure=training` is `plot` with
/// (figure, training).
pub(super) fn stage_and_values(node: &str) -> (&str, Vec<(&str, &str)>) {
    let (stage, values) = node.split_once('@').unwrap_or((node, ""));
    (stage, values.split(',').filter_map(|value| value.split_once('=')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn upstream() -> Upstream {
        let stage = |name: &str, kind: &str, nodes: usize, params: Json, inputs: Json| {
            json!({
                "name": name, "kind": kind, "version": 2, "nodes": nodes, "params": params,
                "inputs": inputs,
            })
        };
        let stages = json!([
            stage("data", "fetch", 1, json!({ "dataset": ["digits"] }), json!({})),
            stage(
                "nets",
                "train",
                8,
                json!({ "hidden": [3, 4], "prior": ["none", { "dropout": 0.5 }] }),
                json!({ "data": ["data"] })
            ),
            stage("other", "command", 1, json!({}), json!({ "data": ["data"] })),
            stage("tables", "aggregate", 1, json!({}), json!({ "nets": ["nets"] })),
            stage(
                "figures",
                "plot",
                2,
                json!({ "figure": ["overview", "training"] }),
                json!({ "data": ["data"], "tables": ["tables"] })
            ),
        ]);
        serde_json::from_value(json!({ "stages": stages, "inputs": [] })).unwrap()
    }

    #[test]
    fn a_recipe_goes_back_to_the_data_through_every_stage_that_it_depends_on() {
        let upstream = upstream();
        let lines = recipe(&upstream, "figures", &[("figure", "training")]);
        let lines: Vec<String> =
            lines.iter().map(|(name, line)| format!("{name}: {line}")).collect();
        assert_eq!(
            lines,
            [
                "figures: plot, version 2; figure=training; data: data; tables: tables",
                "tables: aggregate, version 2; nets: nets",
                "nets: train, version 2, 8 nodes; hidden=[3, 4]; prior=[none, {dropout:0.5}]; \
                 data: data",
                "data: fetch, version 2; dataset=digits",
            ]
        );
        assert_eq!(recipe(&upstream, "unknown", &[]), []);
    }

    #[test]
    fn a_recipe_has_the_new_names_of_axes_and_the_conditions() {
        let curves = json!({
            "name": "curves", "kind": "evaluate", "version": 1, "nodes": 3,
            "params": { "curve": ["linear"] },
            "inputs": { "a": ["nets"], "b": ["nets"] },
            "renamed": {
                "a": [{ "stage": "nets", "rename": { "net": "a" } }],
                "b": [{ "stage": "nets", "rename": { "net": "b" } }],
            },
            "where": ["a < b", { "leave-out": [{ "a": ["1"], "b": ["2", "3"] }] }],
        });
        let upstream = serde_json::from_value(json!({ "stages": [curves], "inputs": [] })).unwrap();
        let lines = recipe(&upstream, "curves", &[]);
        assert_eq!(
            lines[0].1,
            "evaluate, version 1, 3 nodes; curve=linear; a: nets (nets with net as a); \
             b: nets (nets with net as b); where a < b; where {leave-out:[{a:[1],b:[2,3]}]}"
        );
    }

    #[test]
    fn a_node_has_a_stage_and_values() {
        let values = vec![("figure", "training")];
        assert_eq!(stage_and_values("plot@figure=training"), ("plot", values));
        assert_eq!(stage_and_values("tables"), ("tables", vec![]));
    }
}
