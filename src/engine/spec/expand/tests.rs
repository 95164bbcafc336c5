//! Tests of whole expansions.

use crate::engine::spec::plan::Plan;
use crate::engine::testing::{ENDS, id, plan};

fn names(yaml: &str) -> Vec<String> {
    plan(yaml).unwrap().nodes.into_iter().map(|node| node.name).collect()
}

fn refusal(yaml: &str) -> (String, Option<String>) {
    let diagnostic = plan(yaml).err().unwrap_or_else(|| panic!("accepted: {yaml}"));
    (diagnostic.to_string(), diagnostic.hint)
}

/// By slot, the names of the nodes in it.
fn inputs<'a>(plan: &'a Plan, name: &str) -> Vec<(&'a str, Vec<&'a str>)> {
    let slots = plan.node(id(plan, name)).inputs.iter();
    slots
        .map(|(slot, ids)| (&**slot, ids.iter().map(|id| plan.node(*id).name.as_str()).collect()))
        .collect()
}

#[test]
fn lists_expand_in_file_order_and_the_last_varies_fastest() {
    assert_eq!(
        names("stages: { s: { source: { width: [2, 1], text: [x, v] } } }"),
        ["s@width=2,text=x", "s@width=2,text=v", "s@width=1,text=x", "s@width=1,text=v"]
    );
}

#[test]
fn a_list_inside_a_mapping_is_a_grid_and_a_single_field_is_not_named() {
    assert_eq!(
        names("stages: { s: { source: { text: x, style: [plain, { framed: { by: [1, 2] } }] } } }"),
        ["s@style=plain", "s@style=framed-1", "s@style=framed-2"]
    );
    assert_eq!(
        names(
            "stages: { s: { source: { \
                 text: x, style: { framed: { by: [1, 2], round: true } } } } }"
        ),
        ["s@style=framed-by-1-round-true", "s@style=framed-by-2-round-true"]
    );
}

#[test]
fn a_list_of_one_value_is_an_axis_and_a_single_value_is_not() {
    assert_eq!(names("stages: { s: { source: { text: x } } }"), ["s"]);
    assert_eq!(names("stages: { s: { source: { text: [x] } } }"), ["s@text=x"]);
}

#[test]
fn axes_of_the_same_name_are_joined_and_fixed_axes_are_not_inherited() {
    let plan = plan(ENDS).unwrap();
    let pairs: Vec<_> = plan.nodes[4..].iter().map(|node| node.name.as_str()).collect();
    assert_eq!(pairs, ["p@width=1", "p@width=2"]);
    assert_eq!(
        inputs(&plan, "p@width=2"),
        [("left", vec!["s@width=2,end=a"]), ("right", vec!["s@width=2,end=b"])]
    );
}

#[test]
fn axes_that_are_not_shared_are_crossed() {
    let yaml = "
stages:
  s: { source: { text: [x, v] } }
  t: { source: { text: z, width: [1, 2] } }
  p: { pair: { left: s, right: t, note: [k, m] } }
";
    assert_eq!(
        names(yaml)[4..],
        [
            "p@text=x,width=1,note=k",
            "p@text=x,width=1,note=m",
            "p@text=x,width=2,note=k",
            "p@text=x,width=2,note=m",
            "p@text=v,width=1,note=k",
            "p@text=v,width=1,note=m",
            "p@text=v,width=2,note=k",
            "p@text=v,width=2,note=m",
        ]
    );
}

#[test]
fn inputs_without_a_common_axis_value_are_an_error() {
    let yaml = "
stages:
  s: { source: { text: x, width: [1, 2] } }
  t: { source: { text: x, width: [3, 4] } }
  p: { pair: { left: s, right: t } }
";
    let (message, hint) = refusal(yaml);
    assert_eq!(message, "test.yaml:5:3: stage `p`: its inputs have no axis values in common");
    assert_eq!(hint.as_deref(), Some("compare the grids of the stages it uses"));
}

#[test]
fn a_slot_for_many_nodes_gathers_each_match_once_and_inherits_no_axis() {
    let plan =
        plan(&format!("{ENDS}  g: {{ gather: {{ all: [p, s@end=a, s@width=1] }} }}")).unwrap();
    let all =
        vec!["p@width=1", "p@width=2", "s@width=1,end=a", "s@width=2,end=a", "s@width=1,end=b"];
    assert_eq!(inputs(&plan, "g"), [("all", all)]);
}

#[test]
fn a_slot_for_many_nodes_gathers_the_nodes_with_the_values_of_its_own_axes() {
    let plan = plan(&format!("{ENDS}  g: {{ gather: {{ all: [p, s@width=1], width: [1, 2] }} }}"))
        .unwrap();
    let named = ["s@width=1,end=a", "s@width=1,end=b"];
    assert_eq!(inputs(&plan, "g@width=1"), [("all", vec!["p@width=1", named[0], named[1]])]);
    assert_eq!(inputs(&plan, "g@width=2"), [("all", vec!["p@width=2", named[0], named[1]])]);
    let (message, hint) = refusal(&format!("{ENDS}  g: {{ gather: {{ all: p, width: [1, 3] }} }}"));
    assert_eq!(message, "test.yaml:5:23: stage `g`: no instance of `all: p` has `width=3`");
    assert!(hint.is_some_and(|hint| hint.ends_with("compare the grids, or name a value here")));
}

#[test]
fn an_optional_input_may_be_missing_and_a_required_one_may_not() {
    let with = plan("stages: { s: { source: { text: x } }, p: { pair: { left: s } } }").unwrap();
    assert_eq!(inputs(&with, "p"), [("left", vec!["s"])]);
    let (message, hint) =
        refusal("stages: { s: { source: { text: x } }, p: { pair: { right: s } } }");
    assert_eq!(message, "test.yaml:1:44: stage `p`: the input `left` is missing");
    assert_eq!(hint.as_deref(), Some("write `left: s`"));
}

#[test]
fn stages_may_be_in_any_order_and_nodes_come_after_their_inputs() {
    let yaml = "
stages:
  g: { gather: { all: [p, s] } }
  p: { pair: { left: s } }
  s: { source: { text: x } }
";
    assert_eq!(names(yaml), ["s", "p", "g"]);
}

#[test]
fn a_cycle_is_printed_from_stage_to_stage() {
    let yaml = "
stages:
  s: { source: { text: x } }
  a: { pair: { left: s, right: c } }
  b: { pair: { left: a } }
  c: { gather: { all: [s, b] } }
";
    let (message, hint) = refusal(yaml);
    assert_eq!(message, "test.yaml:4:3: cyclic dependency: a -> c -> b -> a");
    assert_eq!(hint.as_deref(), Some("remove one of these inputs"));
    let (message, _) = refusal("stages: { a: { pair: { left: a } } }");
    assert_eq!(message, "test.yaml:1:11: cyclic dependency: a -> a");
}

#[test]
fn an_unresolvable_stage_is_an_error_with_location_and_hint() {
    let case = |stages: &str, message: &str, hint: Option<&str>| {
        let (actual, help) =
            refusal(&format!("stages:\n  s: {{ source: {{ text: x }} }}\n{stages}"));
        assert_eq!((actual.as_str(), help.as_deref()), (message, hint));
    };
    case(
        "  p: { pear: { left: s } }",
        "test.yaml:3:8: stage `p`: unknown stage kind `pear`",
        Some("did you mean `pair`?"),
    );
    case(
        "  p: { pair: { left: t } }",
        "test.yaml:3:22: stage `p`: `left` names no stage: `t`",
        Some("known: `p`, `s`"),
    );
    case(
        "  p: { pair: { left: s@width=2 } }",
        "test.yaml:3:22: stage `p`: no instance matches `left: s@width=2`",
        Some("known: `s`"),
    );
    case(
        "  p: { pair: { left: [s, s] } }",
        "test.yaml:3:22: stage `p`: `left` must name a stage, not a list",
        Some("write `left: STAGE`, or `left: STAGE@axis=value` for some of its instances"),
    );
    case(
        "  g: { gather: { all: [] } }",
        "test.yaml:3:23: stage `g`: `all` is an empty list",
        Some("name at least one stage"),
    );
    case(
        "  p: { pair: { left: s, rihgt: s } }",
        "test.yaml:3:25: stage `p`: unknown field `rihgt`",
        Some("did you mean `right`?"),
    );
    case(
        "  t: { source: { text: x, width: 0 } }",
        "test.yaml:3:3: stage `t`: `width` must not be zero",
        Some("write a number above zero"),
    );
    case(
        "  t: { source: { text: x, style: { framed: { by: [] } } } }",
        "test.yaml:3:34: stage `t`: the grid `style` is empty",
        Some("list at least one value"),
    );
    case(
        "  t: { source: { text: x, width: [1, 2, 1] } }",
        "test.yaml:3:41: stage `t`: `width` lists the value `1` twice",
        Some("remove one"),
    );
    case(
        "  t: { source: { text: [50, '50'] } }",
        "test.yaml:3:29: stage `t`: `text` lists `50` and `\"50\"`, \
             which have the same text in names",
        Some("remove one"),
    );
    case(
        "  t: { source: { text: x, width: [[50, 50]] } }",
        "test.yaml:3:40: stage `t`: `width` lists the value `50` twice",
        Some("remove one; nested lists are flattened"),
    );
    case(
        "  t: { source: { text: x, width: [1, 2] } }\n  \
             p: { pair: { left: t, width: [1, 2] } }",
        "test.yaml:4:25: stage `p`: its inputs already have the axis `width`",
        Some("give one value, not a list"),
    );
}

#[test]
fn a_grid_of_a_billion_nodes_is_an_error_before_it_is_expanded() {
    let thousand = (1..=1000).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let (message, hint) = refusal(&format!(
        "stages: {{ s: {{ source: {{ \
             text: x, width: [{thousand}], ratio: [{thousand}], note: [{thousand}] }} }} }}"
    ));
    assert!(message.ends_with("stage `s` expands to more than 200000 nodes"), "{message}");
    assert_eq!(hint.as_deref(), Some("shorten its lists"));
}

#[test]
fn the_limit_applies_to_the_nodes_of_all_stages_together() {
    let list = |n: u32| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let (width, ratio) = (list(400), list(500));
    let (message, _) = refusal(&format!(
        "stages:\n  s: {{ source: {{ text: x }} }}\n  \
             t: {{ source: {{ text: x, width: [{width}], ratio: [{ratio}] }} }}"
    ));
    assert!(
        message.contains("stage `t` expands to 200000 nodes; with it, the plan has more"),
        "{message}"
    );
}

#[test]
fn a_join_of_too_many_nodes_is_an_error_before_it_is_computed() {
    let many = (1..=1001).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let (message, _) = refusal(&format!(
        "stages:\n  s: {{ source: {{ text: x, width: [{many}] }} }}\n  \
             t: {{ source: {{ text: x, ratio: [{many}] }} }}\n  \
             p: {{ pair: {{ left: s, right: t }} }}"
    ));
    assert_eq!(message, "test.yaml:4:3: stage `p` expands to more than 200000 nodes");
}

#[test]
fn a_chain_of_ten_thousand_stages_does_not_overflow_the_stack() {
    let links = (1..10_000).rev().map(|i| format!("  s{i}: {{ pair: {{ left: s{} }} }}\n", i - 1));
    let yaml = format!("stages:\n{}  s0: {{ source: {{ text: x }} }}\n", links.collect::<String>());
    assert_eq!(plan(&yaml).unwrap().nodes.len(), 10_000);
}

#[test]
fn every_kind_can_be_given_resources_and_they_are_not_part_of_the_key() {
    let node = |fields: &str| {
        let yaml = format!("stages: {{ s: {{ source: {{ text: x{fields} }} }} }}");
        plan(&yaml).unwrap().nodes.remove(0)
    };
    let (plain, given) = (node(""), node(", resources: { threads: 2, memory: 1KiB }"));
    assert_eq!(given.name, plain.name);
    assert_eq!(given.resolved.params, plain.resolved.params);
    assert_eq!(given.resolved.resources.threads.map(|n| n.get()), Some(2));
    assert_eq!(given.resolved.resources.memory, 1024);
    let (message, hint) =
        refusal("stages: { s: { source: { text: x, resources: { thread: 2 } } } }");
    assert_eq!(message, "test.yaml:1:48: stage `s`: `resources`: unknown field `thread`");
    assert_eq!(hint.as_deref(), Some("did you mean `threads`?"));
}
