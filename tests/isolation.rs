//! A stage reads only what it declares and writes only to its workspace: every node of the shipped
//! `ci` profile and of the general-purpose kinds gives the same bytes in a locked-down project.
//!
//! In such a project, no file can be read and no folder listed or written to, and there are no
//! folders for homes and temporary files. The exceptions are the recipe, the objects that it names,
//! and the four folders for leases, work and publication. New files in these four must be the
//! node's result. Stages that break the rule show that the test detects them.

use crate::space::{RestoreModes, Space, name};
use repro::engine::key::Digest;
use repro::stage::KINDS;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Stages of the kinds that the study does not use.
const GENERAL_PURPOSE: &str = "\
stages:
  words: { file: { path: words } }
  own: { images: { train: own.npz, validation: 100 } }
  theirs: { import: { data: own, file: theirs.safetensors } }
  nets: { train: { data: own, hidden: 4, net: [1, 2, 3], epochs: 1 } }
  bends: { learn: { a: nets@net=1, b: nets@net=2, data: own, curve: bezier, epochs: 1 } }
  together: { ensemble: { a: nets@net=1, b: nets@net=2, data: own, curve: linear } }
  surface: { plane: { a: nets@net=1, b: nets@net=2, c: nets@net=3, data: own, points: 3 } }
  count:
    command:
      run: sh count.sh
      files: [count.sh]
      inputs: { words: words }
      outputs: [counts/]
      params: { by: [-c, -w] }
  all:
    command:
      run: 'cat inputs/counts/*/counts/* > all.txt'
      inputs: { counts: [count] }
      outputs: [all.txt]
";

/// A node that is done.
struct Node {
    name: String,
    kind: String,
    key: String,
    outputs: BTreeSet<String>,
    inputs: BTreeSet<String>,
}

fn json(space: &Space, path: String) -> Json {
    serde_json::from_str(&space.read(path)).unwrap()
}

/// The nodes of the project, all of which are done.
fn nodes(space: &Space, arguments: &[&str]) -> Vec<Node> {
    let digest = |json: &Json| {
        Some(json.as_str()?.trim_end_matches("+x").to_owned()).filter(|text| text.len() == 64)
    };
    let node = |planned: &Json| {
        let key = planned["key"].as_str().unwrap().to_owned();
        let recipe = json(space, format!("cache/v2/recipes/{key}.json"));
        let slots = recipe["inputs"].as_object().into_iter().flat_map(|slots| slots.values());
        let artifacts = slots.flat_map(|artifacts| artifacts.as_array().unwrap());
        let inputs = artifacts
            .flat_map(|files| files.as_object().unwrap().values().filter_map(digest))
            .collect();
        let kind = recipe["kind"].as_str().unwrap().to_owned();
        Node { name: name(planned), kind, outputs: outputs(space, &key), key, inputs }
    };
    space.plan(arguments).iter().map(node).collect()
}

/// The digests in the entry of `key`.
fn outputs(space: &Space, key: &str) -> BTreeSet<String> {
    let entry = json(space, format!("cache/v2/entries/{key}.json"));
    entry["outputs"]
        .as_object()
        .unwrap()
        .values()
        .map(|file| file["digest"].as_str().unwrap().to_owned())
        .collect()
}

/// Locks the project down, except for what the job of `node` needs.
fn lock_down(space: &Space, node: &Node) -> RestoreModes {
    let cache = space.join("cache/v2");
    let writable = ["objects", "entries", "leases", "tmp"].map(|folder| cache.join(folder));
    let recipe = cache.join(format!("recipes/{}.json", node.key));
    let inputs = node.inputs.iter().map(|digest| space.object(digest));
    let readable: BTreeSet<PathBuf> =
        inputs.chain([recipe, cache.join("lock"), cache.join("leases/removal.lock")]).collect();
    space.chmod_all(|path| match path {
        path if writable.iter().any(|folder| folder == path) => 0o300,
        path if path.is_dir() => 0o100,
        path if readable.contains(path) => 0o600,
        _ => 0o000,
    })
}

/// Recomputes a node in the locked-down project; the error says what went wrong.
fn recompute_isolated(space: &Space, node: &Node) -> Result<(), String> {
    let before: BTreeSet<PathBuf> = space.all_paths().into_iter().collect();
    fs::remove_file(space.join(format!("cache/v2/entries/{}.json", node.key))).unwrap();
    node.outputs
        .difference(&node.inputs)
        .for_each(|digest| fs::remove_file(space.object(digest)).unwrap());
    let restore = lock_down(space, node);
    let ended = space.run(&["exec", &node.key]);
    drop(restore);
    if ended.code != Some(0) {
        return Err(format!("{}: {}", node.name, ended.stderr));
    }
    let after: BTreeSet<PathBuf> = space.all_paths().into_iter().collect();
    let strays: Vec<&PathBuf> = after.symmetric_difference(&before).collect();
    if !strays.is_empty() || outputs(space, &node.key) != node.outputs {
        return Err(format!("{}: unexpected files or different bytes: {strays:?}", node.name));
    }
    Ok(())
}

/// A project in which only permissions restrict jobs.
fn unprivileged(pipeline: &str) -> Space {
    Space::with(pipeline).unprivileged().env("HOME", "/nowhere").env("TMPDIR", "/nowhere")
}

#[test]
fn stages_read_only_declared_inputs_and_write_only_to_their_workspace() {
    let study =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline.yaml")).unwrap();
    let mut kinds = BTreeSet::new();
    for (pipeline, arguments) in
        [(study.as_str(), &["--profile", "ci"][..]), (GENERAL_PURPOSE, &[])]
    {
        let space = unprivileged(pipeline);
        space.write("words/a", "one two\n").write("words/b/c", "three\n");
        space.write("own.npz", include_bytes!("../examples/digits-8x8/digits.npz"));
        space.write("theirs.safetensors", crate::golden::net());
        fs::create_dir(space.join("words/empty")).unwrap();
        fs::set_permissions(space.join("words/b/c"), fs::Permissions::from_mode(0o755)).unwrap();
        space.write("count.sh", "mkdir counts; wc $REPRO_PARAM_BY < inputs/words/a > counts/a\n");
        space.ok(&[&["run"], arguments].concat());
        for node in nodes(&space, arguments) {
            assert_eq!(recompute_isolated(&space, &node), Ok(()));
            kinds.insert(node.kind);
        }
        assert!(space.ran(arguments).is_empty(), "everything is cached");
    }
    assert_eq!(
        kinds,
        KINDS.iter().map(|kind| kind.name().to_owned()).collect(),
        "every kind is tested"
    );
}

/// Recomputes the command `run` in the locked-down project, after a normal run.
fn isolated(run: &str) -> Result<(), String> {
    let space = unprivileged("");
    let env =
        format!("{{ PROJECT: '{}', SECRET: '{}' }}", space.path().display(), Digest::of(b"secret"));
    let culprit = format!("c: {{ command: {{ run: '{run}', outputs: [out], env: {env} }} }}");
    space.write(
        "pipeline.yaml",
        format!("stages:\n  other: {{ file: {{ path: secret }} }}\n  {culprit}\n"),
    );
    space.write("secret", "secret").ok(&["run", "-j", "1"]);
    let strays = space.all_paths().into_iter().filter(|path| path.ends_with("stray"));
    strays.for_each(|stray| fs::remove_file(stray).unwrap());
    recompute_isolated(&space, &nodes(&space, &["c"])[0])
}

#[test]
fn a_stage_that_breaks_isolation_is_detected() {
    assert_eq!(isolated("echo x > out"), Ok(()));
    for culprit in [
        "cat ../../../../objects/* > out",
        "cat \"$PROJECT\"/cache/v2/objects/$SECRET > out",
        "cat \"$PROJECT\"/secret > out",
        "ls \"$PROJECT\"/cache/v2/recipes > out",
        "echo x > out; echo x > ../../../../stray",
        "echo x > out; echo x > ../../../../objects/stray",
        "echo x > out; echo x > \"$PROJECT\"/stray",
    ] {
        assert!(isolated(culprit).is_err(), "`{culprit}` is not detected");
    }
}
