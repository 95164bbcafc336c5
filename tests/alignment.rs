//! What `align` writes for nets of any shape, and what its keys depend on.

use crate::space::{Space, name};
use serde_json::Value;

/// Nets as they were initialised, of several shapes.
const PIPELINE: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 200, test: 20 }
  nets:
    train: { data: data, hidden: [6, 6x5x4], bias: [false, true], net: [1, 2], epochs: 0 }
  matched:
    align: { a: nets@net=1, b: nets@net=2, data: data, cost: [neurons, incoming, activations] }
";

fn alignment(space: &Space, node: &str) -> Value {
    serde_json::from_str(&space.output(node, "alignment.json")).unwrap()
}

#[test]
fn an_alignment_describes_each_hidden_layer_of_a_deep_net() {
    let space = Space::with(PIPELINE);
    space.ok(&["run"]);
    let log = |net: &str| space.ok(&["logs", net]).stdout;
    let layers = log("nets@hidden=6x5x4,bias=false,net=1");
    let starts: Vec<&str> = layers.lines().map(|line| &line[..14]).collect();
    assert_eq!(starts, ["layer 1: norm ", "layer 2: norm ", "layer 3: norm ", "layer 4: norm "]);
    assert!(layers.lines().nth(2).unwrap().ends_with(" of 4 neurons fire"), "{layers}");
    assert_eq!(log("nets@hidden=6,bias=false,net=1"), "", "its norms are in nets.csv");
    for bias in [false, true] {
        for cost in ["neurons", "incoming", "activations"] {
            let node = |hidden: &str| format!("matched@hidden={hidden},bias={bias},cost={cost}");
            let shallow = alignment(&space, &node("6"));
            let fields: Vec<&String> = shallow.as_object().unwrap().keys().collect();
            let expected = [
                "certified_gap",
                "correlation",
                "cost",
                "identity_cost",
                "permutation",
                "total_cost",
            ];
            assert_eq!(fields, expected, "one hidden layer");
            let deep = alignment(&space, &node("6x5x4"));
            let widths: Vec<usize> = deep["permutations"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p.as_array().unwrap().len())
                .collect();
            assert_eq!(widths, [6, 5, 4]);
            assert_eq!(deep["layers"].as_array().unwrap().len(), 3);
            let objective = |when: &str| deep["objective"][when].as_f64().unwrap();
            if cost == "neurons" {
                assert!(objective("after") > objective("before"), "{deep}");
                assert_eq!(deep["restarts"].as_array().unwrap().len(), 4);
                assert_eq!(deep["order"], "random");
            } else {
                assert!(deep.get("restarts").is_none() && deep.get("order").is_none());
            }
        }
    }
}

#[test]
fn order_and_restarts_are_in_the_key_only_where_they_act() {
    let space = Space::with(PIPELINE);
    space.ok(&["run"]);
    let reruns = |fields: &str| {
        let text = PIPELINE.replace("data: data, cost", &format!("data: data, {fields}, cost"));
        space.write("pipeline.yaml", text);
        let plan = space.plan(&[]);
        ["neurons", "incoming", "activations"].map(|cost| {
            plan.iter().any(|node| {
                name(node).contains(&format!("cost={cost}")) && node["state"] != "cached"
            })
        })
    };
    assert_eq!(reruns("order: random, restarts: 4"), [false; 3], "the defaults");
    assert_eq!(reruns("restarts: 2"), [true, false, false]);
    assert_eq!(reruns("order: ascending"), [true, false, false]);
}
