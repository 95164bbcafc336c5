//! `repro export --ro-crate`: the terms that the profile requires, the files, and the validator.

use crate::space::{SMALL, Space};
use repro::engine::key::Digest;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::process::Command;

const METADATA: &str = "ro-crate-metadata.json";

/// Two stages: the first reads a file, and the second has an output with a space in its name.
const TWO: &str = "\
stages:
  one:
    command: { run: 'cat in.txt > out', files: [in.txt], outputs: [out], params: { p: 'a b' } }
  two:
    command: { run: 'cat inputs/one/out > \"a b.csv\"', inputs: { one: one }, outputs: ['a b.csv'] }
";

/// A project of [`TWO`] that has run, with a license.
fn two() -> Space {
    let space = Space::with(TWO);
    space.write("in.txt", "text").write("LICENSE-MIT", "MIT").ok(&["run"]);
    space
}

/// The entities of the crate in `folder`, by identifier.
fn entities(space: &Space, folder: &str) -> BTreeMap<String, Json> {
    let metadata: Json = serde_json::from_str(&space.read(format!("{folder}/{METADATA}"))).unwrap();
    let graph = metadata["@graph"].as_array().unwrap();
    let id = |entity: &Json| entity["@id"].as_str().unwrap().to_owned();
    let found: BTreeMap<_, _> = graph.iter().map(|entity| (id(entity), entity.clone())).collect();
    assert_eq!(found.len(), graph.len(), "identifiers are unique");
    found
}

/// The identifiers that `value` refers to: one, or a list.
fn references(value: &Json) -> BTreeSet<String> {
    let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    all.iter().filter_map(|one| Some(one["@id"].as_str()?.to_owned())).collect()
}

fn is_of(entity: &Json, kind: &str) -> bool {
    entity["@type"] == kind
}

/// The paths of all files in a folder, relative to it.
fn files(space: &Space, folder: &str) -> BTreeSet<String> {
    let root = space.join(folder);
    let paths = space.all_paths().into_iter().filter(|path| path.is_file());
    let relative = paths.filter_map(|path| Some(path.strip_prefix(&root).ok()?.to_owned()));
    relative.map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn the_metadata_have_the_terms_that_the_profile_requires() {
    let space = Space::run_tiny();
    space.ok(&["lock"]);
    space.ok(&["export", "--ro-crate", "crate"]);
    let all = entities(&space, "crate");
    let descriptor = &all[METADATA];
    assert_eq!(descriptor["about"], json!({ "@id": "./" }));
    assert_eq!(descriptor["conformsTo"], json!({ "@id": "https://w3id.org/ro/crate/1.1" }));
    let (root, profile) = (&all["./"], "https://w3id.org/ro/wfrun/process/0.5");
    assert_eq!(root["conformsTo"], json!({ "@id": profile }));
    assert!(is_of(&all[profile], "CreativeWork") && is_of(root, "Dataset"));
    for term in ["name", "description", "datePublished", "license"] {
        assert!(root[term].is_string(), "{term}: {root}");
    }
    let parts = references(&root["hasPart"]);
    let actions: Vec<&Json> = all.values().filter(|entity| is_of(entity, "CreateAction")).collect();
    let names: BTreeSet<String> =
        actions.iter().map(|action| action["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, space.nodes(), "one action for each node");
    let ids: BTreeSet<String> =
        actions.iter().map(|action| action["@id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(references(&root["mentions"]), ids);
    for action in actions {
        let instruments = references(&action["instrument"]);
        assert_eq!(instruments.len(), 2, "the stage kind and the program: {action}");
        for id in &instruments {
            assert!(is_of(&all[id], "SoftwareApplication"), "{id}");
            assert!(all[id]["name"].is_string() && all[id]["softwareVersion"].is_string());
        }
        for time in ["startTime", "endTime"] {
            assert!(action[time].as_str().unwrap().ends_with("+00:00"), "{action}");
        }
        for id in references(&action["environment"]) {
            assert!(is_of(&all[&id], "PropertyValue"), "{id}");
        }
        let made = references(&action["result"]);
        assert!(!made.is_empty(), "{action}");
        for id in made.iter().chain(&references(&action["object"])) {
            let entity = &all[id];
            assert_eq!(is_of(entity, "File"), parts.contains(id), "{id}");
            let is_known = ["File", "CreativeWork", "PropertyValue"];
            assert!(is_known.iter().any(|kind| is_of(entity, kind)), "{entity}");
        }
    }
    // What the report reads is what other nodes wrote.
    let written: BTreeSet<String> =
        all.values().flat_map(|entity| references(&entity["result"])).collect();
    let read = references(&all["#report"]["object"]);
    let read = read.iter().filter(|id| !is_of(&all[*id], "PropertyValue"));
    assert!(read.clone().count() > 5);
    assert_eq!(read.filter(|id| !written.contains(*id)).count(), 0);
}

#[test]
fn every_file_in_the_crate_is_described_with_its_digest_and_size() {
    let space = two();
    space.ok(&["lock"]);
    space.ok(&["export", "--ro-crate", "crate", "two", "--all"]);
    let all = entities(&space, "crate");
    let expected = [
        "LICENSE-MIT",
        "files/6b86c2dc61f8dbc6/in.txt",
        "outputs/one/out",
        "outputs/two/a b.csv",
        "pipeline.lock",
        "pipeline.yaml",
        METADATA,
    ];
    let digest = &Digest::of(b"text").to_string()[..16];
    let expected = expected.map(|path| path.replace("6b86c2dc61f8dbc6", digest));
    assert_eq!(files(&space, "crate"), BTreeSet::from(expected));
    for path in files(&space, "crate").iter().filter(|path| *path != METADATA) {
        let entity = &all[&path.replace(' ', "%20")];
        let bytes = fs::read(space.join("crate").join(path)).unwrap();
        assert_eq!(entity["identifier"], format!("blake3:{}", Digest::of(&bytes)));
        assert_eq!(entity["contentSize"], bytes.len().to_string());
    }
    assert_eq!(all["./"]["license"], json!({ "@id": "LICENSE-MIT" }));
    let one = &all["#one"];
    assert_eq!(one["result"], json!({ "@id": "outputs/one/out" }));
    assert!(references(&one["object"]).contains(&format!("files/{digest}/in.txt")));
    assert!(all.values().any(|entity| entity["value"] == "{\"p\":\"a b\"}"));
}

#[test]
fn without_all_upstream_outputs_are_described_and_not_copied() {
    let space = two();
    space.ok(&["export", "--ro-crate", "crate", "two"]);
    assert!(!space.join("crate/outputs/one").exists());
    let all = entities(&space, "crate");
    // `two` copies its input, so that its output in the crate has the content of the input.
    assert_eq!(all["#one"]["result"], json!({ "@id": "outputs/two/a%20b.csv" }));
    space.edit("cat inputs/one/out >", "wc inputs/one/out >").ok(&["run"]);
    space.ok(&["export", "--ro-crate", "other", "two"]);
    let all = entities(&space, "other");
    let id = format!("#blake3-{}", Digest::of(b"text"));
    assert_eq!(all["#one"]["result"], json!({ "@id": id }));
    assert!(references(&all["#two"]["object"]).contains(&id));
    assert_eq!(all[&id]["contentSize"], "4");
}

#[test]
fn the_same_cache_gives_the_same_crate() {
    let space = Space::run_tiny();
    space.ok(&["export", "--ro-crate", "one"]);
    space.ok(&["export", "--ro-crate", "two", "report"]);
    assert_eq!(files(&space, "one"), files(&space, "two"));
    for file in files(&space, "one") {
        let [one, two] = ["one", "two"].map(|folder| fs::read(space.join(folder).join(&file)));
        assert_eq!(one.unwrap(), two.unwrap(), "{file}");
    }
}

#[test]
fn a_folder_with_files_or_a_stale_target_or_no_report_is_refused() {
    let space = two();
    space.write("used/notes.txt", "mine");
    let refused = |arguments: &[&str]| space.exits(2, &[&["export"], arguments].concat()).stderr;
    insta::assert_snapshot!(refused(&["--ro-crate", "used", "two"]), @r"
    error: export: `used` is not empty
    hint: name a folder that does not exist, or remove its files
    ");
    assert_eq!(files(&space, "used"), BTreeSet::from(["notes.txt".to_owned()]));
    insta::assert_snapshot!(refused(&["--ro-crate", "crate"]), @r"
    error: export: the pipeline has no report
    hint: name a stage, stage kind or node: `repro export --ro-crate DIR TARGET`
    ");
    space.edit("cat in.txt", "sort in.txt");
    insta::assert_snapshot!(refused(&["--ro-crate", "crate", "one"]), @r"
    error: export: `one` is not up to date
    hint: run `repro run one` first
    ");
    assert!(!space.join("crate").exists());
    refused(&["--all", "one", "crate"]);
    refused(&["one"]);
    refused(&["--ro-crate", "crate", "one", "folder"]);
}

/// `roc-validator` and `rocrate`, from the Python in `REPRO_PYTHON`, by default `python3`. Without
/// them, the test says so and passes, unless `REPRO_REQUIRE` contains `ro-crate`.
#[test]
fn a_validator_accepts_the_crate() {
    let space = Space::with(SMALL);
    space.ok(&["run"]);
    let python = std::env::var("REPRO_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ro_crate/validate.py");
    let required = std::env::var("REPRO_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|word| word == "ro-crate");
    let validate =
        |folder: &str| Command::new(&python).arg(script).arg(space.join(folder)).output();
    space.ok(&["export", "--ro-crate", "crate", "tables"]);
    let output = match validate("crate") {
        Ok(output) if output.status.code() != Some(77) => output,
        missing => {
            assert!(!is_required, "the validator is missing: {missing:?}");
            // The test runner captures what a test prints, but not this.
            let note = format!("skipped: `{python}` has no `roc-validator` and `rocrate`");
            writeln!(std::io::stderr(), "{note}").unwrap();
            return;
        }
    };
    assert!(output.status.success(), "{output:?}");
    // The validator does look at the actions.
    let metadata = space.read(format!("crate/{METADATA}"));
    space.write(&format!("crate/{METADATA}"), metadata.replace("\"instrument\"", "\"keywords\""));
    let output = validate("crate").unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(printed.contains("The Action MUST have an instrument property"), "{printed}");
}
