//! The JSON Schema of pipeline.yaml, and what shells and `man` are told.

use crate::space::{Space, TINY};
use serde_json::{Value as Json, json};
use std::path::Path;

fn project(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn schema() -> Json {
    serde_json::from_str(&project("pipeline.schema.json")).unwrap()
}

fn yaml(text: &str) -> Json {
    let options = serde_yaml::options! { strict_booleans: true };
    serde_yaml::from_str_with_options(text, options).unwrap()
}

/// Where and why `value` breaks `schema`: as much of JSON Schema as ours uses; a word that is not known here is a failure.
/// A checker from the registry would change the features that polars and serde_json are built with, so that tests and
/// releases would be two builds; this one was compared with Python's `jsonschema` on the cases below.
fn broken(root: &Json, schema: &Json, value: &Json, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, rule) in schema.as_object().unwrap() {
        let forms = || {
            rule.as_array()
                .unwrap()
                .iter()
                .filter(|form| broken(root, form, value, at).is_empty())
                .count()
        };
        let size = value.as_object().map(|map| map.len() as u64);
        let holds = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" => true,
            "$ref" => {
                let target = root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap());
                found.extend(broken(
                    root,
                    target.unwrap_or_else(|| panic!("{rule} leads nowhere")),
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
            "anyOf" => forms() > 0,
            "oneOf" => forms() == 1,
            "items" => {
                value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .for_each(|item| found.extend(broken(root, rule, item, at)));
                true
            }
            "required" => value.as_object().is_none_or(|map| {
                rule.as_array().unwrap().iter().all(|name| map.contains_key(name.as_str().unwrap()))
            }),
            "minProperties" => size.is_none_or(|size| size >= rule.as_u64().unwrap()),
            "maxProperties" => size.is_none_or(|size| size <= rule.as_u64().unwrap()),
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(field) = value.get(name) {
                        found.extend(broken(root, rule, field, &format!("{at}/{name}")));
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
                        rule => found.extend(broken(root, rule, field, &format!("{at}/{name}"))),
                    }
                }
                true
            }
            "propertyNames" => {
                assert_eq!(rule, &json!({ "pattern": "^[A-Za-z0-9_-]{1,64}$" }));
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                let name = |name: &String| (1..=64).contains(&name.len()) && name.chars().all(fits);
                value.as_object().is_none_or(|map| map.keys().all(name))
            }
            other => panic!("the schema has a word that this checker does not know: {other}"),
        };
        if !holds {
            found.push(format!("{at}: {word}"));
        }
    }
    found
}

fn breaks(text: &str) -> Vec<String> {
    let schema = schema();
    broken(&schema, &schema, &yaml(text), "")
}

#[test]
fn the_shipped_schema_is_what_the_command_prints_and_the_pipeline_names_it() {
    assert_eq!(project("pipeline.schema.json"), Space::tiny().ok(&["schema"]).stdout);
    assert!(
        project("pipeline.yaml")
            .starts_with("# yaml-language-server: $schema=pipeline.schema.json\n")
    );
}

#[test]
fn the_shipped_pipeline_conforms_and_so_does_one_of_every_form() {
    assert_eq!(breaks(&project("pipeline.yaml")), [""; 0]);
    assert_eq!(breaks(TINY), [""; 0]);
    for stage in [
        "{ train: { data: d, hidden: [10, 50], prior: { normal: { variance: [1, 0.1] } } } }",
        "{ train: { data: d, hidden: 1, optimizer: [{ sgd: { rate: [0.1, 0.01] } }, adam: { }] } }",
        "{ command: { run: [python3, x.py], outputs: [a.csv], params: { n: [1, 2] }, inputs: { x: a, y: [b, c] } } }",
        "{ command: { run: 'sort x', outputs: [y], files: [z], env: { LANG: C }, memory: 2GiB, time-limit: 1.5 } }",
        "{ file: { path: [a, b/] } }",
    ] {
        assert_eq!(breaks(&format!("stages: {{ s: {stage} }}")), [""; 0], "{stage}");
    }
}

#[test]
fn a_misspelt_field_kind_or_value_does_not_conform() {
    let shipped = project("pipeline.yaml");
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
        assert_ne!(breaks(&shipped.replacen(from, to, 1)), [""; 0], "{to}");
    }
    let versioned = |version: &str| {
        breaks(&format!(
            "stages: {{ s: {{ command: {{ run: x, outputs: [y], env: {{ PY: {version} }} }} }} }}"
        ))
    };
    assert_eq!(versioned("'3.10'"), [""; 0]);
    assert_eq!(versioned("3.10"), [""; 0]);
    assert_ne!(versioned("null"), [""; 0], "a stage removes nothing");
    let removing = "stages: { s: { command: { run: x, outputs: [y] } } }\nprofiles: { p: { s: { env: { PY: null }, run: null } } }";
    assert_eq!(breaks(removing), [""; 0]);
    assert_ne!(breaks("stages: { s: { align: { a: x } } }"), [""; 0], "an input is missing");
    assert_ne!(breaks("stages: { s: { align: { a: x, b: y }, train: {} } }"), [""; 0], "two kinds");
    assert_ne!(breaks("stages: { }"), [""; 0], "no stage");
}

#[test]
fn every_shell_and_man_are_told_of_every_command() {
    let space = Space::tiny();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = space.ok(&["completions", shell]).stdout;
        assert!(script.contains("REPRO_COMPLETE"), "{shell} asks `repro` itself: {script}");
    }
    let page = space.ok(&["man"]).stdout;
    assert!(page.contains(".TH repro 1") && page.contains("Exit codes"), "{page}");
    let written = space.ok(&["man", "pages"]).stdout;
    assert!(written.lines().all(|path| space.join(path).is_file()));
    assert!(space.read("pages/repro-verify.1").contains("recompute"));
    assert!(!space.join("pages/repro-exec.1").exists(), "what only `run` uses is no command");
}

/// What Tab offers for the last of these words.
fn offered(space: &Space, words: &[&str]) -> Vec<String> {
    let mut asked = space.command(&[&["--", "repro"], words].concat());
    asked.env("REPRO_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let output = asked.env("_CLAP_IFS", "\n").output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn tab_offers_commands_options_stages_nodes_and_profiles() {
    let space = Space::tiny();
    assert!(offered(&space, &["ver"]).contains(&"verify".to_owned()));
    assert!(offered(&space, &["verify", "--reco"]).contains(&"--recompute".to_owned()));
    assert_eq!(offered(&space, &["run", "net"]), ["nets", "nets@"]);
    let nodes = offered(&space, &["why", "nets@"]);
    assert!(nodes.len() > 1 && nodes.iter().all(|node| node.starts_with("nets@")), "{nodes:?}");
    assert!(space.nodes().is_superset(&nodes.into_iter().collect()));
    space.write(
        "profiles.yaml",
        "stages: { a: { file: { path: x } } }\nprofiles: { fast: {}, full: {} }\n",
    );
    let profiles = offered(&space, &["--pipeline", "profiles.yaml", "run", "--profile", "f"]);
    assert_eq!(profiles, ["fast", "full"]);
    assert_eq!(
        offered(space.write("pipeline.yaml", "a: ["), &["run", "net"]),
        [""; 0],
        "nor is it an error"
    );
    assert!(!space.join("cache").exists(), "nothing is written");
}

#[test]
fn bash_is_offered_whole_names_whatever_it_takes_for_the_ends_of_words() {
    let space = Space::tiny();
    let nodes: Vec<String> =
        space.nodes().into_iter().filter(|name| name.starts_with("nets@")).collect();
    let (all, beginning) = (nodes[0].clone(), &nodes[0][..nodes[0].len() - 1]);
    let ask = format!(
        "repro() {{ {} \"$@\"; }}; eval \"$(repro completions bash)\"; COMP_LINE='repro why {beginning}'; \
         COMP_POINT=${{#COMP_LINE}}; _repro; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        env!("CARGO_BIN_EXE_repro")
    );
    let said = std::process::Command::new("bash")
        .args(["-c", &ask])
        .current_dir(space.path())
        .output()
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let word = beginning.rsplit(['@', '=']).next().unwrap();
    let expected = all.strip_prefix(beginning.strip_suffix(word).unwrap()).unwrap();
    assert!(said.lines().any(|line| line == expected), "`{expected}` in: {said}");
}

#[test]
fn what_a_command_does_not_use_is_refused() {
    let space = Space::tiny();
    for (command, option) in
        [("schema", ["-S", "nets.epochs=2"]), ("log", ["--profile", "x"]), ("gc", ["-S", "a.b=1"])]
    {
        let refused = space.exits(2, &[&[command], &option[..]].concat()).stderr;
        assert!(refused.contains(&format!("`{command}` looks at no node")), "{refused}");
    }
}

#[test]
fn the_program_alone_tells_its_commands_but_for_that_of_its_own_use() {
    let told = Space::tiny().exits(2, &[]).stderr;
    assert!(told.contains("verify") && !told.contains("exec"), "{told}");
    let told = Space::tiny().exits(2, &["-q"]).stderr;
    assert_eq!(told, "error: repro: a command is missing\nhint: `repro help` lists them\n");
}
