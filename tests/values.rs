//! Values of pipeline.yaml: a command receives them as written, and a value has the same text in
//! the recipe, the entry, the lock, the environment and JSON output. Lists are grid axes.

use crate::space::{Space, TINY, name, nothing};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use repro::engine::spec::pipeline::Pipeline;
use repro::engine::spec::plan::Plan;
use repro::stage::KINDS;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Scalars that a YAML parser may change.
const SPELLINGS: [&str; 44] = [
    "001",
    "007",
    "0",
    "-0",
    "+5",
    "1_000",
    "2024_01_15",
    "2024-01-15",
    "0x1F",
    "0o17",
    "0b11",
    "12:30:45",
    "58899e0",
    "1e3",
    "1E3",
    "1e+3",
    "1e-7",
    "0.0000001",
    "3.10",
    "3.1",
    "1.0",
    "-0.0",
    "0.10",
    ".5",
    "5.",
    "+.5",
    "1e400",
    "5e-324",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "-9223372036854775809",
    ".inf",
    "-.Inf",
    ".nan",
    "true",
    "True",
    "FALSE",
    "yes",
    "No",
    "on",
    "n",
    "<<",
    "=",
];

/// A stage `c` whose command writes its environment to `env` and its arguments to `args`.
fn printing(arguments: &str, fields: &str) -> String {
    // The variables that are removed hold paths that differ from run to run.
    let script =
        r#"env -u HOME -u TMPDIR -u PWD -u OLDPWD -u _ -0 > env; printf "%s\0" "$@" > args"#;
    format!(
        "stages:\n  c:\n    command:\n      run: [sh, -c, '{script}', sh{arguments}]\n      \
         outputs: [env, args]\n{fields}"
    )
}

/// The texts in an object, each terminated by NUL.
fn texts(space: &Space, digest: &str) -> Vec<String> {
    space.read(space.object(digest)).split_terminator('\0').map(str::to_owned).collect()
}

/// The environment variables of the node `c`.
fn variables(space: &Space) -> BTreeMap<String, String> {
    let texts = texts(space, &space.digests()["c"]["env"]);
    texts
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[test]
fn a_command_receives_values_as_written() {
    let (mut arguments, mut params, mut env) = (String::new(), String::new(), String::new());
    for (i, written) in SPELLINGS.iter().enumerate() {
        write!(arguments, ", {written}").unwrap();
        writeln!(params, "        p{i}: {written}").unwrap();
        writeln!(env, "        E{i}: {written}").unwrap();
    }
    let space =
        Space::with(&printing(&arguments, &format!("      params:\n{params}      env:\n{env}")));
    space.ok(&["run"]);
    assert_eq!(texts(&space, &space.digests()["c"]["args"]), SPELLINGS);
    let variables = variables(&space);
    for (i, written) in SPELLINGS.iter().enumerate() {
        assert_eq!(variables[&format!("REPRO_PARAM_P{i}")], *written);
        assert_eq!(variables[&format!("E{i}")], *written);
    }
}

#[test]
fn a_value_has_one_text_in_name_recipe_and_command_from_the_file_and_from_an_override() {
    let list = SPELLINGS.join(", ");
    let written = Space::with(&printing("", &format!("      params: {{ n: [{list}] }}\n")));
    let set = Space::with(&printing("", ""));
    let set_list = format!("c.params.n=[{list}]");
    written.ok(&["run"]);
    set.ok(&["run", "-S", &set_list]);
    for (space, arguments) in [(&written, &[][..]), (&set, &["-S", &set_list][..])] {
        let plan = space.plan(arguments);
        assert_eq!(plan.len(), SPELLINGS.len());
        for (node, text) in plan.iter().zip(SPELLINGS) {
            assert_eq!(
                (name(node), &node["state"]),
                (format!("c@n={text}"), &Json::from("cached"))
            );
            let shown = space.ok(&[&["show", "--json", &name(node)], arguments].concat()).stdout;
            let shown = serde_json::from_str::<Json>(&shown).unwrap()["nodes"][0].clone();
            let param = &shown["recipe"]["params"]["params"]["n"];
            assert_eq!(
                param.as_str().map_or_else(|| param.to_string(), str::to_owned),
                text,
                "{shown}"
            );
            let digest = shown["entry"]["outputs"]["env"]["digest"].as_str().unwrap();
            assert!(texts(space, digest).contains(&format!("REPRO_PARAM_N={text}")), "{text}");
        }
    }
}

#[test]
fn values_of_environment_and_text_fields_are_named_as_written() {
    let space =
        Space::with(&printing("", "      env: { A: [001, 1.0, 1] }\n      memory: [1_0, 10]\n"));
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(
        refused.contains("`memory`: expected a size such as `512MiB` or `2GiB`, found `1_0`"),
        "{refused}"
    );
    space.edit("      memory: [1_0, 10]\n", "");
    assert_eq!(
        space.ran(&[]),
        ["c@env=A-001", "c@env=A-1.0", "c@env=A-1"].map(str::to_owned).into()
    );
    let report = "
stages:
  data: { fetch: { dataset: digits } }
  nets: { train: { data: data, hidden: 1, end: [a, b] } }
  curves: { evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: arc } }
  tables: { aggregate: { curves: curves, nets: nets } }
  figures: { plot: { data: data, tables: tables, figure: error-by-width } }
  r: { report: { data: data, tables: tables, figures: figures, about: [01, 1.0, 1] } }
";
    let nodes = inputs_of(report, "r", "tables").unwrap();
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["r@about=01", "r@about=1", "r@about=1.0"]);
}

#[test]
fn names_and_paths_that_look_like_numbers_are_used_as_written() {
    let space = Space::with(
        "\
seed: 0x1F
profile: 007
stages:
  001: { file: { path: 3.10 } }
  1e3:
    command: { run: 'cp inputs/0x1/3.10 1_0', files: [True], inputs: { 0x1: 001 }, outputs: [1_0] }
profiles:
  007: {}
",
    );
    space.write("3.10", "x").write("True", "y");
    space.ok(&["run"]);
    let digests = space.digests();
    assert_eq!(digests["1e3"]["1_0"], digests["001"]["3.10"]);
}

#[test]
fn other_spellings_of_a_number_have_the_same_key() {
    let key = |variance: &str, epochs: &str| {
        let space = Space::with(&format!(
            "stages:\n  data: {{ fetch: {{ dataset: digits, train: 300, test: 100 }} }}\n  \
             nets: {{ train: {{ data: data, hidden: 3, epochs: {epochs}, \
             prior: {{ normal: {{ variance: {variance} }} }} }} }}\n"
        ));
        space.ok(&["run"]);
        space.plan(&[])[1]["key"].clone()
    };
    let plain = key("0.01", "1");
    for (variance, epochs) in [("0.010", "1"), ("1e-2", "+1"), (".01", "0x1"), ("1.0E-2", "1")] {
        assert_eq!(key(variance, epochs), plain, "{variance} {epochs}");
    }
}

/// A finite number or a text, as JSON.
fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        4 => any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("finite", |x| x.is_finite())
            .prop_map(Json::from),
        1 => (1u32..1000, 1u32..1000).prop_map(|(a, b)| Json::from(f64::from(a) / f64::from(b))),
        1 => any::<i64>().prop_map(Json::from),
        1 => any::<u64>().prop_map(Json::from),
        2 => any::<String>().prop_map(|text| Json::from(text.replace('\0', ""))),
    ]
}

/// Numbers and texts that are easily changed by parsing and printing.
fn edge_cases() -> Vec<Json> {
    let floats = [
        -0.0,
        0.0,
        2.0 / 13.0,
        0.1 + 0.2,
        5e-324,
        f64::MIN_POSITIVE,
        1e308,
        f64::MAX,
        1e16,
        1e15,
        1e-5,
        1e-7,
        1e21,
    ];
    let texts = [
        "",
        " ",
        "null",
        "~",
        "\u{1}\u{1f}\u{7f}\u{80}\u{9f}",
        "\u{2028}\u{2029}\u{85}",
        "\"'\\`$(x)",
        "a\r\n\tb\n",
        "\u{feff}x",
        "\u{1F600}\u{202e}",
        "- a",
        "#x",
        ": ",
        "{}",
        "[]",
        "*a",
        "&a",
        "!x",
        "%",
        "@",
        "|",
        ">",
        "%s\\0",
        "e\u{301}",
        "\u{10ffff}",
    ];
    let integers = [i64::MIN, -1, (1 << 53) + 1, i64::MAX].map(Json::from);
    let integers =
        integers.into_iter().chain([Json::from(u64::MAX), Json::from(i64::MAX as u64 + 1)]);
    integers.chain(floats.map(Json::from)).chain(texts.map(Json::from)).collect()
}

/// A text in double quotes, with every character but letters and digits escaped.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => c.to_string(),
        c => format!("\\U{:08x}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn yaml(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), quoted)
}

/// The text that a command receives.
fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Random values, the same in each run, and the edge cases.
fn sampled(count: usize) -> Vec<Json> {
    let mut runner = TestRunner::deterministic();
    let draw = |_| scalar().new_tree(&mut runner).unwrap().current();
    (0..count).map(draw).chain(edge_cases()).collect()
}

#[test]
fn a_value_survives_recipe_entry_lock_json_and_environment() {
    let values = sampled(400);
    let mut params = String::new();
    values
        .iter()
        .enumerate()
        .for_each(|(i, value)| writeln!(params, "        p{i}: {}", yaml(value)).unwrap());
    let space = Space::with(&printing("", &format!("      params:\n{params}")));
    space.ok(&["run"]);
    assert_eq!(space.ran(&[]), nothing(), "a plan computes the key that was stored");
    let variables = variables(&space);
    let shown: Json = serde_json::from_str(&space.ok(&["show", "--json", "c"]).stdout).unwrap();
    for (i, value) in values.iter().enumerate() {
        assert_eq!(variables.get(&format!("REPRO_PARAM_P{i}")), Some(&text(value)), "{value}");
        let shown = &shown["nodes"][0]["recipe"]["params"]["params"][format!("p{i}")];
        assert_eq!(text(shown), text(value));
    }
    space.ok(&["lock"]);
    space.ok(&["verify", "--locked"]);
    space.ok(&["verify", "--recompute"]);
    space.ok(&["run", "--locked"]);
}

#[test]
fn nodes_of_any_values_are_run_locked_verified_and_recomputed() {
    let mut unique = BTreeSet::new();
    let list: Vec<String> =
        sampled(20).iter().filter(|value| unique.insert(text(value))).map(yaml).collect();
    let space = Space::with("");
    let write = |list: &[String]| {
        space.write(
            "pipeline.yaml",
            printing("", &format!("      params:\n        n: [{}]\n", list.join(", "))),
        )
    };
    write(&list);
    let ran = space.ran(&[]);
    assert_eq!(ran.len(), unique.len(), "one node for each value");
    space.ok(&["lock"]);
    space.ok(&["verify", "--locked"]);
    space.ok(&["verify", "--recompute", "--sample", "5"]);
    assert_eq!(space.ok(&["run", "--locked", "--json"]).ran(), nothing());
    let mut reversed = list;
    reversed.reverse();
    write(&reversed);
    assert_eq!(space.ran(&[]), nothing());
}

#[test]
fn two_values_for_one_variable_of_a_command_are_refused() {
    let space = Space::with(&printing(
        "",
        "      params: { x: 1 }\n      env:\n        A: 1\n        REPRO_PARAM_X: 9\n",
    ));
    insta::assert_snapshot!(space.exits(2, &["plan"]).stderr, @r"
    error: pipeline.yaml:9:9: stage `c`: `env`: expected `x` in `params`, not its variable, found `REPRO_PARAM_X`
    hint: write `x` in `params`, not its variable
    ");
    let space = Space::with(&printing("", "      params: { a-b: 1, A_b: 2 }\n"));
    insta::assert_snapshot!(space.exits(2, &["plan"]).stderr, @r"
    error: pipeline.yaml:2:3: stage `c`: `A_b` and `a-b` are both `REPRO_PARAM_A_B`
    hint: rename one
    ");
}

#[test]
fn null_for_a_text_is_refused() {
    let refused = Space::with(&printing(", ~", "")).exits(2, &["plan"]).stderr;
    insta::assert_snapshot!(refused, @r#"
    error: pipeline.yaml:4:12: stage `c`: `run`: expected a text, with quotes if it is `null` or `~`, found nothing
    hint: write a text, with quotes if it is `null` or `~`
    "#);
}

#[test]
fn a_profile_or_an_override_sets_single_parameters_and_null_removes_them() {
    let fields = "      params: { x: 1, y: [2, 3] }\n      env: { A: a, B: b }\n\
                  profiles:\n  p: { c: { params: { y: 4, z: 05 }, env: { A: null } } }\n";
    let space = Space::with(&printing("", fields));
    space.ok(&["run", "--profile", "p"]);
    let merged =
        Space::with(&printing("", "      params: { x: 1, y: 4, z: 05 }\n      env: { B: b }\n"));
    merged.ok(&["run"]);
    let key = |space: &Space, arguments: &[&str]| space.plan(arguments)[0]["key"].clone();
    let expected = key(&merged, &[]);
    assert_eq!(key(&space, &["--profile", "p"]), expected);
    assert_eq!(key(&space, &["-S", "c.params={y: 4, z: 05}", "-S", "c.env.A=null"]), expected);
    assert_eq!(
        key(&space, &["-S", "c.params.y=4", "-S", "c.params.z=05", "-S", "c.env={A: null}"]),
        expected
    );
}

#[test]
fn null_restores_the_default_of_a_parameter() {
    let params = |value: &str| {
        let mut pipeline = Pipeline::parse("p.yaml", TINY).unwrap();
        pipeline.apply_override(&format!("nets.epochs={value}")).unwrap();
        let plan = Plan::new(&pipeline, KINDS).unwrap();
        let nets = plan.nodes.iter().filter(|node| node.stage == "nets");
        nets.map(|node| node.resolved.params.clone()).collect::<Vec<_>>()
    };
    assert_eq!(params("null"), params("30"));
    assert_ne!(params("null"), params("29"));
}

/// For each node of a stage, the names of its inputs in `slot`.
fn inputs_of(yaml: &str, stage: &str, slot: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let pipeline = Pipeline::parse("p.yaml", yaml).unwrap();
    let plan = Plan::new(&pipeline, KINDS)
        .map_err(|error| format!("{error}; {}", error.hint.as_deref().unwrap_or_default()))?;
    let of = |node: &repro::engine::spec::plan::PlanNode| {
        let ids = node.inputs.iter().filter(|(name, _)| name == slot).flat_map(|(_, ids)| ids);
        (node.name.clone(), ids.map(|id| plan.node(*id).name.clone()).collect())
    };
    Ok(plan.nodes.iter().filter(|node| node.stage == stage).map(of).collect())
}

const SAMPLES: &str = "
stages:
  raw: { command: { run: x, outputs: [x], params: { sample: [a, b], part: [1, 2] } } }
  cluster: { command: { run: x, outputs: [x], inputs: { raw: raw@part=1 } } }
";

/// The list input `all` of each node of a stage `g` with these fields.
fn gathered(fields: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    inputs_of(
        &format!("{SAMPLES}  g: {{ command: {{ run: x, outputs: [x], {fields} }} }}\n"),
        "g",
        "all[]",
    )
}

fn nodes(nodes: &[(&str, &[&str])]) -> Result<BTreeMap<String, Vec<String>>, String> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Ok(nodes.iter().map(|(node, inputs)| ((*node).to_owned(), names(inputs))).collect())
}

#[test]
fn a_list_of_inputs_gathers_nodes_that_agree_with_the_nodes_other_inputs() {
    let (a, b) = (
        ["raw@sample=a,part=1", "raw@sample=a,part=2"],
        ["raw@sample=b,part=1", "raw@sample=b,part=2"],
    );
    let by_sample = nodes(&[("g@sample=a", &a), ("g@sample=b", &b)]);
    assert_eq!(gathered("inputs: { all: [raw], one: cluster }"), by_sample);
    assert_eq!(gathered("inputs: { one: cluster, all: [raw] }"), by_sample, "in any order");
    let (one_a, one_b) = ([a[0], a[1], "cluster@sample=a"], [b[0], b[1], "cluster@sample=b"]);
    assert_eq!(
        gathered("inputs: { all: [raw, raw@part=1, cluster], one: cluster }"),
        nodes(&[("g@sample=a", &one_a), ("g@sample=b", &one_b)]),
        "from every reference, each instance once"
    );
}

#[test]
fn a_list_of_inputs_gathers_nodes_that_agree_with_the_nodes_own_axes() {
    let one = nodes(&[("g@sample=b", &["raw@sample=b,part=1", "raw@sample=b,part=2"])]);
    assert_eq!(gathered("inputs: { all: [raw] }, params: { sample: [b] }"), one);
    let refused = gathered("inputs: { all: [raw] }, params: { sample: [b, c] }").unwrap_err();
    assert_eq!(
        refused,
        "p.yaml:5:57: stage `g`: no instance of `all: raw` has `sample=c`; \
         the value comes from another input or a list of `g`; compare the grids, \
         or name a value here"
    );
}

#[test]
fn a_list_of_inputs_gathers_all_nodes_if_no_axis_is_shared() {
    let all = [
        "raw@sample=a,part=1",
        "raw@sample=a,part=2",
        "raw@sample=b,part=1",
        "raw@sample=b,part=2",
    ];
    assert_eq!(gathered("inputs: { all: [raw] }"), nodes(&[("g", &all)]));
    assert_eq!(
        gathered("inputs: { all: [raw] }, params: { other: [1, 2] }"),
        nodes(&[("g@other=1", &all), ("g@other=2", &all)])
    );
    assert_eq!(
        gathered("inputs: { all: [raw] }, params: { sample: b }"),
        nodes(&[("g", &all)]),
        "a single value is not an axis"
    );
    let named = ["raw@sample=b,part=1", "raw@sample=b,part=2"];
    assert_eq!(
        gathered("inputs: { all: [raw@sample=b], one: cluster }"),
        nodes(&[("g@sample=a", &named), ("g@sample=b", &named)])
    );
}

#[test]
fn the_tables_and_report_of_the_study_gather_all_curves_nets_and_figures() {
    let yaml =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/pipeline.yaml")).unwrap();
    let all = |stage: &str| -> usize { inputs_of(&yaml, stage, "data").unwrap().len() };
    let of = |stage: &str, slot: &str| inputs_of(&yaml, stage, slot).unwrap()[stage].len();
    let pipeline = Pipeline::parse("pipeline.yaml", &yaml).unwrap();
    let curves = pipeline.stages.iter().filter(|stage| stage.kind == "evaluate");
    assert_eq!(of("tables", "curves"), curves.map(|stage| all(&stage.name)).sum::<usize>());
    assert_eq!(of("tables", "nets"), all("nets"));
    assert_eq!(of("report", "figures"), all("figures"));
}
