use super::*;
use crate::engine::testing::KINDS;
use serde_json::json;

/// A node with parameters, or one whose recipe is not in the cache (`None`).
fn node(name: &str, params: Option<Json>) -> NodeState {
    let known = |params| Known {
        kind: KINDS[0],
        version: 1,
        params: serde_json::from_value(params).unwrap(),
        seed: Some("0".into()),
    };
    NodeState { name: name.into(), recipe: params.map(known), artifact: None }
}

fn state(nodes: Vec<NodeState>) -> State {
    State { name: "state".into(), nodes }
}

/// The pairs of nodes, and the changed fields.
fn compared(before: Vec<NodeState>, after: Vec<NodeState>) -> (Vec<String>, Vec<String>) {
    let (before, after) = (state(before), state(after));
    let (parameters, known) = parameters(&before, &after);
    let scalars = [before.scalars(), after.scalars()];
    let mut found = Vec::new();
    for (_, old, new) in pairs(&before, &after) {
        let (both, _) = pair_nodes(&old, &new, &scalars, &known);
        found.extend(both.iter().map(|(old, new)| format!("{} > {}", old.name, new.name)));
    }
    let text = |field: &FieldDiff| {
        format!("{} {} > {}", field.field, field.before.join(" "), field.after.join(" "))
    };
    let fields = parameters.iter().flat_map(|parameter| &parameter.fields).map(text);
    (found, fields.collect())
}

fn normal(variance: f64) -> Json {
    json!({ "prior": { "normal": { "variance": variance } } })
}

#[test]
fn nodes_are_paired_across_the_replaced_value_also_where_they_inherit_the_axis() {
    let nodes = |variance: f64| {
        let prior = format!("normal-{variance}");
        vec![
            node("nets@prior=none,end=a", Some(json!({ "end": "a" }))),
            node(&format!("nets@prior={prior},end=a"), Some(normal(variance))),
            node("curves@prior=none,curve=arc", Some(json!({ "curve": "arc" }))),
            node(&format!("curves@prior={prior},curve=arc"), Some(json!({ "curve": "arc" }))),
        ]
    };
    let (pairs, fields) = compared(nodes(0.01), nodes(0.005));
    assert_eq!(
        pairs,
        [
            "nets@prior=none,end=a > nets@prior=none,end=a",
            "nets@prior=normal-0.01,end=a > nets@prior=normal-0.005,end=a",
            "curves@prior=none,curve=arc > curves@prior=none,curve=arc",
            "curves@prior=normal-0.01,curve=arc > curves@prior=normal-0.005,curve=arc",
        ]
    );
    assert_eq!(fields, ["nets.prior.normal.variance 0.01 > 0.005"]);
}

#[test]
fn a_value_that_became_an_axis_keeps_its_node() {
    let (pairs, fields) = compared(
        vec![node("s@end=a", Some(json!({ "width": 3 })))],
        vec![
            node("s@width=3,end=a", Some(json!({ "width": 3 }))),
            node("s@width=4,end=a", Some(json!({ "width": 4 }))),
        ],
    );
    assert_eq!(pairs, ["s@end=a > s@width=3,end=a"]);
    assert_eq!(fields, ["s.width  > 4"]);
}

#[test]
fn unequal_numbers_of_values_are_not_paired() {
    let at = |width: u8| node(&format!("s@width={width}"), Some(json!({ "width": width })));
    let (pairs, fields) = compared(vec![at(1), at(9)], vec![at(2), at(3), at(9)]);
    assert_eq!(pairs, ["s@width=9 > s@width=9"]);
    assert_eq!(fields, ["s.width 1 > 2 3"]);
    let (pairs, _) = compared(vec![at(1), at(2)], vec![at(4), at(3)]);
    assert_eq!(pairs, ["s@width=2 > s@width=4", "s@width=1 > s@width=3"], "by size");
}

#[test]
fn nothing_is_said_of_the_parameters_of_nodes_that_are_not_in_the_cache() {
    let known = || node("s@width=1", Some(json!({ "width": 1 })));
    let (pairs, fields) = compared(vec![node("s@width=1", None)], vec![known()]);
    assert_eq!((pairs, fields), (vec!["s@width=1 > s@width=1".to_owned()], vec![]));
}

#[test]
fn a_default_is_known_from_the_name_of_the_node() {
    let (pairs, fields) = compared(
        vec![node("s@text=x", Some(json!({}))), node("s@text=y", Some(json!({ "text": "y" })))],
        vec![node("s@text=x", Some(json!({}))), node("s@text=z", Some(json!({ "text": "z" })))],
    );
    assert_eq!(pairs, ["s@text=x > s@text=x", "s@text=y > s@text=z"]);
    assert_eq!(fields, ["s.text y > z"]);
}

#[test]
fn a_value_that_was_replaced_by_different_ones_in_two_stages_is_no_move() {
    let stage = |name: &str, width: u8| node(name, Some(json!({ "width": width })));
    let (before, after) =
        (state(vec![stage("a", 1), stage("b", 1)]), state(vec![stage("a", 2), stage("b", 3)]));
    assert_eq!(parameters(&before, &after).1, Moves::default());
}

#[test]
fn values_with_commas_and_equals_signs_are_paired_by_name() {
    let name = "s@text=a,b=c,text=d";
    let (pairs, _) = compared(
        vec![node(name, Some(json!({}))), node("s@text=a", Some(json!({})))],
        vec![node(name, Some(json!({})))],
    );
    assert_eq!(pairs, [format!("{name} > {name}")]);
}
