//! Inputs whose axes are renamed, and stages that keep some combinations: what runs, and what the
//! commands print.

use crate::schema::completions;
use crate::space::{Space, name, nothing, set};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

/// Nets, every two of them, and all pairs.
const PAIRS: &str = "\
stages:
  nets:
    command:
      { run: 'echo net $REPRO_PARAM_NET > net', params: { net: [1, 2, 3] }, outputs: [net] }
  pairs:
    command:
      run: 'cat inputs/one/net inputs/two/net > pair'
      inputs:
        one: { stage: nets, rename: { net: a } }
        two: { stage: nets, rename: { net: b } }
      outputs: [pair]
      where: a < b
  all:
    command:
      { run: 'cat inputs/pairs/*/pair > all', inputs: { pairs: [pairs] }, outputs: [all] }
profiles:
  both: { pairs: { where: a != b } }
  ends: { pairs: { where: { leave-out: [{ a: 2 }, { b: 2 }] } } }
";

fn pairs(all: &[[u8; 2]]) -> BTreeSet<String> {
    all.iter().map(|[a, b]| format!("pairs@a={a},b={b}")).collect()
}

/// These pairs and other nodes.
fn pairs_and<const N: usize>(all: &[[u8; 2]], others: [&str; N]) -> BTreeSet<String> {
    &pairs(all) | &set(others)
}

/// The nodes that `repro plan` says will run or may run, and that then run.
#[track_caller]
fn ran(space: &Space, arguments: &[&str]) -> BTreeSet<String> {
    let planned = space.pending(arguments);
    let ran = space.ran(arguments);
    assert!(ran.is_subset(&planned), "{ran:?} of {planned:?}");
    assert_eq!(space.ran(arguments), nothing());
    ran
}

#[test]
fn a_net_added_to_the_list_runs_with_its_pairs_only() {
    let space = Space::with(PAIRS);
    let nets = ["nets@net=1", "nets@net=2", "nets@net=3", "all"];
    assert_eq!(ran(&space, &[]), pairs_and(&[[1, 2], [1, 3], [2, 3]], nets));
    assert_eq!(space.output("pairs@a=1,b=3", "pair"), "net 1\nnet 3\n");
    space.edit("net: [1, 2, 3]", "net: [1, 2, 3, 4]");
    let new = pairs_and(&[[1, 4], [2, 4], [3, 4]], ["nets@net=4", "all"]);
    assert_eq!(ran(&space, &[]), new);
}

#[test]
fn other_conditions_run_the_added_pairs_only() {
    let space = Space::with(PAIRS);
    space.ok(&["run"]);
    space.edit("where: a < b", "where: [a < b, { leave-out: [{ a: 1, b: 2 }] }]");
    assert_eq!(ran(&space, &[]), set(["all"]), "a pair was left out");
    space.edit("where: [a < b, { leave-out: [{ a: 1, b: 2 }] }]", "where: a != b");
    assert_eq!(ran(&space, &[]), pairs_and(&[[2, 1], [3, 1], [3, 2]], ["all"]));
    assert_eq!(ran(&space, &["-S", "pairs.where=a < b"]), nothing(), "the first run had them");
    let same = pairs_and(&[[1, 1], [2, 2], [3, 3]], ["all"]);
    assert_eq!(ran(&space, &["-S", "pairs.where=a <= b"]), same);
}

#[test]
fn a_profile_can_have_other_conditions() {
    let space = Space::with(PAIRS);
    let of = |profile: &str| -> usize {
        let nodes = space.plan(&["--profile", profile]);
        nodes.iter().filter(|node| name(node).starts_with("pairs@")).count()
    };
    assert_eq!(of("both"), 6);
    // Combinations (1, 1), (1, 3), (3, 1) and (3, 3).
    assert_eq!(of("ends"), 4);
}

#[test]
fn new_names_of_axes_run_nothing() {
    let space = Space::with(PAIRS);
    space.ok(&["run"]);
    space.edit("rename: { net: a }", "rename: { net: from }");
    space
        .edit("rename: { net: b }", "rename: { net: to }")
        .edit("where: a < b", "where: from < to");
    assert_eq!(space.pending(&[]), nothing());
    assert!(space.nodes().contains("pairs@from=1,to=3"));
}

#[test]
fn the_commands_know_pairs_by_the_new_names() {
    let space = Space::with(PAIRS);
    space.ok(&["run"]);
    let selected = |target: &str| -> BTreeSet<String> {
        let nodes = space.plan(&[target]);
        let names = nodes.iter().map(name);
        names.filter(|name| name.starts_with("pairs")).collect()
    };
    assert_eq!(selected("pairs@a=1,b=2"), pairs(&[[1, 2]]));
    assert_eq!(selected("pairs@b=3"), pairs(&[[1, 3], [2, 3]]));
    assert_eq!(selected("pairs@a=[12],b=3"), pairs(&[[1, 3], [2, 3]]));
    assert_eq!(selected("*@a=1,*"), pairs(&[[1, 2], [1, 3]]));
    let error = space.exits(2, &["plan", "pairs@a=2,b=1"]).stderr;
    insta::assert_snapshot!(error, @r"
    error: target: no node matches `pairs@a=2,b=1`
    hint: did you mean `pairs@a=1,b=2`? `pairs` has the field `where`
    ");
    let error = space.exits(2, &["plan", "pairs@net=1"]).stderr;
    assert!(
        error.starts_with("error: target: `pairs` has no `net`\nhint: known: `a`, `b`, "),
        "{error}"
    );
    assert_eq!(completions(&space, &["why", "pairs@a=1"]), ["pairs@a=1,b=2", "pairs@a=1,b=3"]);
    let shown = space.ok(&["show", "pairs@a=1,b=3"]).stdout;
    assert!(shown.contains("nets@net=1") && shown.contains("nets@net=3"), "{shown}");
    let graph: Json = serde_json::from_str(&space.ok(&["graph", "--json"]).stdout).unwrap();
    assert_eq!(graph["edges"], json!([["nets", "pairs"], ["pairs", "all"]]));
    space.edit("net: [1, 2, 3]", "net: [1, 5, 3]");
    let why = space.ok(&["why", "pairs@a=5,b=3"]).stdout;
    assert!(why.contains("depends on nets@net=5 (param params.net "), "{why}");
    space.ok(&["run"]);
    let diff: Json = serde_json::from_str(&space.ok(&["diff", "--json"]).stdout).unwrap();
    let stages = diff["stages"].as_array().unwrap();
    let of_pairs = stages.iter().find(|stage| stage["stage"] == "pairs").unwrap();
    let counts =
        ["both", "paired", "removed", "added"].map(|name| of_pairs[name].as_u64().unwrap());
    assert_eq!(counts, [3, 2, 0, 0], "pairs with net 2 are compared with those with net 5: {diff}");
}

/// Untrained nets of two widths and numbers of epochs, with the stage that joins them.
fn joined(fields: &str) -> Space {
    Space::with(&format!(
        "\
stages:
  data:
    fetch: {{ dataset: digits, train: 20, test: 10 }}
  nets:
    train: {{ data: data, hidden: [3, 4], net: [1, 2], epochs: [0, 1] }}
  curves:
    evaluate: {{ {fields}, data: data, curve: linear }}
"
    ))
}

#[test]
fn ends_that_are_one_net_or_differ_in_two_axes_are_refused_before_anything_runs() {
    let net = "a: { stage: nets, rename: { net: a } }, b: { stage: nets, rename: { net: b } }";
    let epochs = "a: { stage: nets, rename: { net: a, epochs: e } }, \
                  b: { stage: nets, rename: { net: b, epochs: f } }, where: a < b";
    let hidden = "a: { stage: nets, rename: { net: a, hidden: h } }, \
                  b: { stage: nets, rename: { net: b } }, where: a < b";
    for (fields, message) in [
        (net, "joins `nets@hidden=3,net=1,epochs=0` to itself"),
        (epochs, "which differ in `net` and `epochs`"),
        (hidden, "which differ in `hidden` and `net`"),
    ] {
        let space = joined(fields);
        let stderr = space.exits(2, &["run"]).stderr;
        assert!(stderr.contains(message), "{stderr}");
        assert!(stderr.contains("where"), "the hint names the condition: {stderr}");
        assert!(!space.join("cache/v2/entries").exists(), "nothing ran");
    }
    let space = joined(&format!("{net}, where: a < b"));
    assert_eq!(space.pending(&["curves"]).len(), 1 + 8 + 4);
}
