//! The JSON Schema of pipeline.yaml, shell completions and man pages.

use crate::space::{Space, TINY};
use serde_json::Value as Json;
use std::path::Path;

fn read_project(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn schema() -> Json {
    serde_json::from_str(&read_project("pipeline.schema.json")).unwrap()
}

/// The names that a field of a stage kind may have as its value, in the order of the schema.
pub(crate) fn names_of(kind: &str, field: &str) -> Vec<String> {
    let schema = schema();
    let values = &schema["$defs"][kind]["properties"][field]["anyOf"][0];
    let name = |variant: &Json| match variant.get("required") {
        Some(names) => names[0].as_str().unwrap().to_owned(),
        None => variant.get("const").unwrap_or(variant).as_str().unwrap().to_owned(),
    };
    let variants = values.get("enum").or_else(|| values.get("oneOf")).unwrap();
    variants.as_array().unwrap().iter().map(name).collect()
}

fn yaml(text: &str) -> Json {
    let options = serde_yaml::options! { strict_booleans: true };
    serde_yaml::from_str_with_options(text, options).unwrap()
}

/// The places at which `value` violates `schema`, each with the keyword. Panics on a keyword that
/// our schema does not use. A validator crate would change the features that polars and serde_json
/// are built with, so that tests and releases would be two builds; this function agrees with
/// Python's `jsonschema` on the cases below.
fn violations(root: &Json, schema: &Json, value: &Json, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, rule) in schema.as_object().unwrap() {
        let matching = || {
            rule.as_array()
                .unwrap()
                .iter()
                .filter(|schema| violations(root, schema, value, at).is_empty())
                .count()
        };
        let size = value.as_object().map(|map| map.len() as u64);
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" => true,
            "$ref" => {
                let target = root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap());
                found.extend(violations(
                    root,
                    target.unwrap_or_else(|| panic!("{rule} is not defined")),
                    value,
                    at,
                ));
                true
            }
            "type" => {
                let is = |name: &Json| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                };
                rule.as_array().map_or_else(|| is(rule), |names| names.iter().any(is))
            }
            "const" => rule == value,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|x| x >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|x| x <= rule.as_f64().unwrap()),
            "anyOf" => matching() > 0,
            "oneOf" => matching() == 1,
            "items" => {
                value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .for_each(|item| found.extend(violations(root, rule, item, at)));
                true
            }
            "required" => value.as_object().is_none_or(|map| {
                rule.as_array().unwrap().iter().all(|name| map.contains_key(name.as_str().unwrap()))
            }),
            "minItems" => {
                value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap())
            }
            "pattern" => value.as_str().is_none_or(|text| matches(rule, text)),
            "minProperties" => size.is_none_or(|size| size >= rule.as_u64().unwrap()),
            "maxProperties" => size.is_none_or(|size| size <= rule.as_u64().unwrap()),
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(field) = value.get(name) {
                        found.extend(violations(root, rule, field, &format!("{at}/{name}")));
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Json::as_object);
                for (name, field) in value.as_object().into_iter().flatten() {
                    if known.is_some_and(|known| known.contains_key(name)) {
                        continue;
                    }
                    match rule {
                        Json::Bool(true) => {}
                        Json::Bool(false) => found.push(format!("{at}/{name}: unknown")),
                        rule => {
                            found.extend(violations(root, rule, field, &format!("{at}/{name}")))
                        }
                    }
                }
                true
            }
            "propertyNames" => {
                let name = |name: &String| matches(&rule["pattern"], name);
                value.as_object().is_none_or(|map| map.keys().all(name))
            }
            other => panic!("unknown keyword in the schema: {other}"),
        };
        if !holds {
            found.push(format!("{at}: {keyword}"));
        }
    }
    found
}

/// Whether a text matches one of the patterns of the schema.
fn matches(pattern: &Json, text: &str) -> bool {
    match pattern.as_str().unwrap() {
        "^[A-Za-z0-9_-]{1,64}$" => {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            (1..=64).contains(&text.len()) && text.chars().all(fits)
        }
        "^[^<>=!]+([<>]=?|[=!]=)[^<>=!]+$" => {
            let sides: Vec<&str> = text.split(['<', '>', '=', '!']).collect();
            let operator: String = text.chars().filter(|c| "<>=!".contains(*c)).collect();
            let is_filled = |side: Option<&&str>| side.is_some_and(|side| !side.is_empty());
            ["<", "<=", ">", ">=", "==", "!="].contains(&&*operator)
                && text.contains(&operator)
                && is_filled(sides.first())
                && is_filled(sides.last())
        }
        "^[0-9]+(x[0-9]+)*$" => text
            .split('x')
            .all(|width| !width.is_empty() && width.bytes().all(|c| c.is_ascii_digit())),
        other => panic!("unknown pattern in the schema: {other}"),
    }
}

fn violations_of(text: &str) -> Vec<String> {
    let schema = schema();
    violations(&schema, &schema, &yaml(text), "")
}

#[test]
fn the_shipped_schema_is_the_output_of_the_command() {
    let is_current = read_project("pipeline.schema.json") == Space::tiny().ok(&["schema"]).stdout;
    assert!(is_current, "update it with `repro schema > pipeline.schema.json`");
    assert!(
        read_project("pipeline.yaml")
            .starts_with("# yaml-language-server: $schema=pipeline.schema.json\n")
    );
}

#[test]
fn valid_pipelines_conform_to_the_schema() {
    assert_eq!(violations_of(&read_project("pipeline.yaml")), [""; 0]);
    assert_eq!(violations_of(TINY), [""; 0]);
    for stage in [
        "{ train: { data: d, hidden: [10, 50], prior: { normal: { variance: [1, 0.1] } } } }",
        "{ train: { data: d, hidden: 1, optimizer: [{ sgd: { rate: [0.1, 0.01] } }, adam: { }] } }",
        "{ command: { run: [python3, x.py], outputs: [a.csv], params: { n: [1, 2] }, \
         inputs: { x: a, y: [b, c] } } }",
        "{ command: { run: 'sort x', outputs: [y], files: [z], env: { LANG: C }, memory: 2GiB, \
         time-limit: 1.5 } }",
        "{ file: { path: [a, b/] } }",
        "{ align: { a: { stage: n, rename: { net: a } }, b: { stage: n, rename: { net: b } }, \
         where: a < b } }",
        "{ aggregate: { curves: [c, { stage: d, rename: { a: x } }], nets: { stage: n } } }",
        "{ file: { path: [a, b], where: [{ leave-out: [{ path: a }] }, \
         { keep: [{ path: [b] }] }] } }",
        "{ command: { run: x, outputs: [y], inputs: { n: { stage: s, rename: { net: a } }, \
         m: [s, { stage: s, rename: { net: a } }] } } }",
    ] {
        assert_eq!(violations_of(&format!("stages: {{ s: {stage} }}")), [""; 0], "{stage}");
    }
}

#[test]
fn a_misspelt_kind_field_or_value_violates_the_schema() {
    let shipped = read_project("pipeline.yaml");
    for (from, to) in [
        ("epochs: 30", "epoch: 30"),
        ("    train:\n", "    trian:\n"),
        ("dataset: mnist", "dataset: mnits"),
        ("normal: { variance: 0.01 }", "normal: { varianse: 0.01 }"),
        ("hidden: [10, 50, 100]", "hidden: [10, fifty]"),
        ("nets: { epochs: 20 }", "nets: { epoks: 20 }"),
        ("curve: [linear, arc, rho-arc]", "curve: [linear, arc, rho-ark]"),
        ("seed: 0", "sead: 0"),
        ("data: { otherwise: digits }", "data: { otherwise: digit }"),
    ] {
        assert!(shipped.contains(from), "{from}");
        assert_ne!(violations_of(&shipped.replacen(from, to, 1)), [""; 0], "{to}");
    }
    for (text, error) in [
        ("stages: { s: { align: { a: x } } }", "a missing input"),
        ("stages: { s: { align: { a: x, b: y }, train: {} } }", "two kinds"),
        ("stages: { }", "no stage"),
        ("stages: { s: { align: { a: { rename: { n: a } }, b: x } } }", "an input without stage"),
        ("stages: { s: { align: { a: { stage: n, rename: {} }, b: x } } }", "no new name"),
        ("stages: { s: { align: { a: { stage: n, rename: { n: a<b } }, b: x } } }", "no name"),
        ("stages: { s: { align: { a: { stage: n, renane: { n: a } }, b: x } } }", "misspelt"),
        ("stages: { s: { align: { a: x, b: y, where: a } } }", "no condition"),
        ("stages: { s: { align: { a: x, b: y, where: [] } } }", "no conditions"),
        ("stages: { s: { align: { a: x, b: y, where: { keep: { a: 1 } } } } }", "no list"),
        ("stages: { s: { align: { a: x, b: y, where: { kep: [{ a: 1 }] } } } }", "misspelt"),
    ] {
        assert_ne!(violations_of(text), [""; 0], "{error}");
    }
}

#[test]
fn null_removes_a_field_in_a_profile_but_is_no_value_in_a_stage() {
    let with_variable = |value: &str| {
        violations_of(&format!(
            "stages: {{ s: {{ command: {{ run: x, outputs: [y], env: {{ PY: {value} }} }} }} }}"
        ))
    };
    assert_eq!(with_variable("'3.10'"), [""; 0]);
    assert_eq!(with_variable("3.10"), [""; 0]);
    assert_ne!(with_variable("null"), [""; 0]);
    let removing = "stages: { s: { command: { run: x, outputs: [y] } } }\n\
                    profiles: { p: { s: { env: { PY: null }, run: null } } }";
    assert_eq!(violations_of(removing), [""; 0]);
}

/// The commands that `repro --help` lists.
fn commands(space: &Space) -> Vec<String> {
    let help = space.ok(&["--help"]).stdout;
    let (_, list) = help.split_once("\nCommands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    // A continued description is indented further.
    let lines = list.lines().filter(|line| !line.starts_with("   "));
    lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

/// The shells that `repro completions --help` lists.
fn shells(space: &Space) -> Vec<String> {
    let help = space.ok(&["completions", "-h"]).stdout;
    let (_, list) = help.split_once("[possible values: ").unwrap();
    list.split_once(']').unwrap().0.split(", ").map(|shell| shell.trim().to_owned()).collect()
}

#[test]
fn the_completions_of_every_shell_call_repro() {
    let space = Space::tiny();
    let shells = shells(&space);
    assert!(shells.contains(&"bash".to_owned()), "{shells:?}");
    for shell in shells {
        let script = space.ok(&["completions", &shell]).stdout;
        assert!(script.contains("REPRO_COMPLETE"), "{shell}: {script}");
    }
}

#[test]
fn every_command_but_the_internal_one_has_a_man_page() {
    let space = Space::tiny();
    let page = space.ok(&["man"]).stdout;
    assert!(page.contains(".TH repro 1") && page.contains("Exit codes"), "{page}");
    let written = space.ok(&["man", "pages"]).stdout;
    assert!(written.lines().all(|path| space.join(path).is_file()));
    let commands = commands(&space);
    assert!(commands.contains(&"verify".to_owned()), "{commands:?}");
    for command in commands.iter().filter(|command| *command != "help") {
        let page = format!("pages/repro-{command}.1");
        assert!(written.lines().any(|path| path == page), "{page}: {written}");
    }
    assert!(space.read("pages/repro-verify.1").contains("recompute"));
    assert!(!space.join("pages/repro-exec.1").exists());
}

/// The completions of the last of these words.
pub(crate) fn completions(space: &Space, words: &[&str]) -> Vec<String> {
    let mut command = space.command(&[&["--", "repro"], words].concat());
    command.env("REPRO_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let output = command.env("_CLAP_IFS", "\n").output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn commands_options_stages_nodes_and_profiles_are_completed() {
    let space = Space::tiny();
    assert!(completions(&space, &["ver"]).contains(&"verify".to_owned()));
    assert!(completions(&space, &["verify", "--reco"]).contains(&"--recompute".to_owned()));
    assert_eq!(completions(&space, &["run", "net"]), ["nets", "nets@"]);
    let nodes = completions(&space, &["why", "nets@"]);
    assert!(nodes.len() > 1 && nodes.iter().all(|node| node.starts_with("nets@")), "{nodes:?}");
    assert!(space.nodes().is_superset(&nodes.into_iter().collect()));
    space.write(
        "profiles.yaml",
        "stages: { a: { file: { path: x } } }\nprofiles: { fast: {}, full: {} }\n",
    );
    let profiles = completions(&space, &["--pipeline", "profiles.yaml", "run", "--profile", "f"]);
    assert_eq!(profiles, ["fast", "full"]);
    assert_eq!(
        completions(space.write("pipeline.yaml", "a: ["), &["run", "net"]),
        [""; 0],
        "no completions, and no error"
    );
    assert!(!space.join("cache").exists(), "completing creates no cache");
}

#[test]
fn bash_completes_names_that_contain_its_word_separators() {
    let space = Space::tiny();
    let nodes: Vec<String> =
        space.nodes().into_iter().filter(|name| name.starts_with("nets@")).collect();
    let (name, typed) = (nodes[0].clone(), &nodes[0][..nodes[0].len() - 1]);
    let script = format!(
        "repro() {{ {} \"$@\"; }}; eval \"$(repro completions bash)\"; \
         COMP_LINE='repro why {typed}'; COMP_POINT=${{#COMP_LINE}}; _repro; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        env!("CARGO_BIN_EXE_repro")
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(space.path())
        .output()
        .unwrap();
    let replies = String::from_utf8(output.stdout).unwrap();
    // bash replaces only the text after the last separator.
    let word = typed.rsplit(['@', '=']).next().unwrap();
    let expected = name.strip_prefix(typed.strip_suffix(word).unwrap()).unwrap();
    assert!(replies.lines().any(|line| line == expected), "`{expected}` in: {replies}");
}

#[test]
fn an_option_that_a_command_does_not_use_is_refused() {
    let space = Space::tiny();
    for (command, option) in
        [("schema", ["-S", "nets.epochs=2"]), ("log", ["--profile", "x"]), ("gc", ["-S", "a.b=1"])]
    {
        let refused = space.exits(2, &[&[command], &option[..]].concat()).stderr;
        assert!(refused.contains(&format!("`{command}` does not use this option")), "{refused}");
    }
}

#[test]
fn without_a_command_the_help_is_printed_without_the_internal_command() {
    let help = Space::tiny().exits(2, &[]).stderr;
    assert!(help.contains("verify") && !help.contains("exec"), "{help}");
    let error = Space::tiny().exits(2, &["-q"]).stderr;
    assert_eq!(
        error,
        "error: repro: no command given\nhint: run `repro help` for a list of commands\n"
    );
}
