//! The lock file: how it is written, what is checked against it, and which ones are refused.

use crate::space::{Output, Space, flip_byte, set};
use repro::engine::key::{Artifact, Digest};
use repro::engine::record::lockfile::Lockfile;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;

/// Two profiles, and one whose data is unavailable here.
const SMALL: &str = "\
profile: once
stages:
  data:
    fetch: { dataset: digits, train: 100, test: 20 }
  nets:
    train: { data: data, hidden: 3, end: [a, b], epochs: 1 }
  curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: linear, points: 3 }
profiles:
  once: {}
  twice: { nets: { epochs: 2 } }
  real: { data: { dataset: mnist, otherwise: digits } }
";

/// A project that has run and is locked.
fn locked() -> Space {
    let space = Space::with(SMALL);
    space.ok(&["run"]);
    space.ok(&["lock"]);
    space
}

const LOCK: &str = "pipeline.lock";

/// The digests of `space`, as artifacts.
fn artifacts(space: &Space) -> BTreeMap<String, Artifact> {
    let parse = |(file, digest): (String, String)| (file, digest.parse::<Digest>().unwrap().into());
    let artifact = |files: BTreeMap<String, String>| files.into_iter().map(parse).collect();
    space.digests().into_iter().map(|(node, files)| (node, artifact(files))).collect()
}

/// A lock file with another digest for one file.
fn with_other(space: &Space, node: &str, file: &str) -> String {
    let mut expected = artifacts(space);
    expected.get_mut(node).unwrap().insert(file.to_owned(), Digest::of(b"something else").into());
    let mut lock = Lockfile::new(LOCK);
    lock.set(Some("once"), expected, BTreeSet::new());
    lock.to_string()
}

/// Digests change with every version of a stage; these tests check the text around them.
fn without_digests(text: &str) -> String {
    let shorten = |word: &str| {
        if word.parse::<Digest>().is_ok() { "DIGEST".to_owned() } else { word.to_owned() }
    };
    let line = |line: &str| {
        let words = line.split(' ').map(|word| match word.strip_suffix(',') {
            Some(word) => shorten(word) + ",",
            None => shorten(word),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn printed(output: &Output) -> String {
    without_digests(&format!("{}{}", output.stdout, output.stderr))
}

#[test]
fn a_lock_holds_the_digest_of_every_output_of_every_node() {
    let space = locked();
    let mut lock = Lockfile::new(LOCK);
    lock.set(Some("once"), artifacts(&space), BTreeSet::new());
    lock.set_seed(Some("once"), "0");
    assert_eq!(space.read(LOCK), lock.to_string());
    let mode = std::fs::metadata(space.join(LOCK)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "other users can read it");
}

#[test]
fn outputs_that_match_the_lock_pass_and_the_root_is_printed() {
    let space = locked();
    insta::assert_snapshot!(printed(&space.ok(&["verify", "--locked"])), @r"
    16 objects, 4 entries, 4 recipes: no damage found
    pipeline.lock: 4 nodes match, 0 not up to date; root DIGEST
    ");
    std::fs::remove_dir_all(space.join("cache")).unwrap();
    let stderr = space.ok(&["run", "--locked"]).stderr;
    let root =
        space.read(LOCK).lines().find_map(|line| line.strip_prefix("root: ")).unwrap().to_owned();
    assert!(stderr.contains(&format!("\npipeline.lock: 4 nodes match; root {root}\n")), "{stderr}");
    let output = space.ok(&["run", "--locked", "nets", "--json"]);
    let event = output.events().into_iter().find(|event| event["event"] == "lock-matched").unwrap();
    assert_eq!(
        (&event["nodes"], &event["root"]),
        (&3.into(), &root.into()),
        "only the targets are compared"
    );
    assert_eq!(output.events().last().unwrap()["event"], "ended");
}

#[test]
fn verify_refuses_an_edited_lock_with_and_without_locked() {
    let space = locked();
    space.ok(&["verify"]);
    let node = space.read(LOCK).lines().find(|line| line.starts_with("nets@")).unwrap().to_owned();
    space.write(LOCK, space.read(LOCK).replace(&format!("{node}\n"), ""));
    let refused = space.exits(2, &["verify"]).stderr;
    insta::assert_snapshot!(refused, @r"
    error: pipeline.lock:5:1: the root of [profile once] does not match its lines: a line was removed, added or edited
    hint: restore the file, or run `repro lock --profile once` to lock the cached results
    ");
    assert_eq!(space.exits(2, &["verify", "--locked"]).stderr, refused);
}

#[test]
fn a_report_prints_the_root_of_the_lock_and_stage_names_do_not_change_it() {
    let space = Space::run_tiny();
    space.ok(&["lock"]);
    let root =
        |text: &str| text.lines().find_map(|line| line.strip_prefix("root: ")).unwrap().to_owned();
    let locked = root(&space.read(LOCK));
    assert!(space.read("reports/default/report.md").contains(&format!("depends on: `{locked}`.")));
    assert!(space.read("reports/default/report.html").contains(&locked));
    space
        .edit("  matched-curves:\n", "  other-curves:\n")
        .edit("[curves, matched-curves]", "[curves, other-curves]");
    assert_eq!(space.ran(&[]), set(["report"]), "the report contains the names");
    space.ok(&["lock"]);
    assert_eq!(root(&space.read(LOCK)), locked);
    space.ok(&["run", "-S", "nets.epochs=1"]);
    assert!(!space.read("reports/default/report.md").contains(&locked));
}

#[test]
fn locking_again_changes_nothing_and_another_profile_leaves_the_first_as_it_is() {
    let space = locked();
    let first = space.read(LOCK);
    let locked_again = printed(&space.ok(&["lock"]));
    insta::assert_snapshot!(locked_again, @"pipeline.lock: 4 nodes locked, 0 changed; root DIGEST");
    assert_eq!(space.read(LOCK), first);
    space.ok(&["run", "--profile", "twice"]);
    let json: Json =
        serde_json::from_str(&space.ok(&["lock", "--profile", "twice", "--json"]).stdout).unwrap();
    assert_eq!(
        (&json["profile"], &json["nodes"], &json["changed"]),
        (&"twice".into(), &4.into(), &4.into())
    );
    let both = space.read(LOCK);
    assert!(both.starts_with(&first), "{both}");
    space.ok(&["run", "--locked"]);
    space.ok(&["run", "--locked", "--profile", "twice"]);
}

#[test]
fn a_stale_pipeline_cannot_be_locked() {
    let space = Space::with(SMALL);
    space.ok(&["run", "nets"]);
    insta::assert_snapshot!(printed(&space.exits(3, &["lock"])), @r"
    error: 1 node not up to date
    hint: run `repro run --profile once` to bring them up to date
    ");
    assert!(!space.join(LOCK).exists());
}

#[test]
fn a_differing_output_ends_the_run_with_4_and_stays_cached() {
    let space = locked();
    space.write(LOCK, with_other(&space, "nets@end=b", "net.safetensors"));
    std::fs::remove_dir_all(space.join("cache")).unwrap();
    let output = space.exits(4, &["run", "--locked", "-j", "1", "--json"]);
    insta::assert_snapshot!(without_digests(&output.stderr), @r"
    error: pipeline.lock: 1 output of [profile once] differs:
      `nets@end=b`, `net.safetensors`: expected DIGEST, found DIGEST
    hint: the new outputs are in the cache (see `repro show nets@end=b`); if the change is intended, run `repro lock --profile once`
    ");
    assert!(
        output.stderr.contains(&Digest::of(b"something else").to_string()),
        "{}",
        output.stderr
    );
    assert!(!output.ran().contains("curves"), "its dependents did not start");
    let again = space.ok(&["run", "--json"]);
    assert!(again.cached().contains("nets@end=b"), "it does not run again");
    assert_eq!(
        space.exits(4, &["run", "--locked"]).stderr.lines().last(),
        output.stderr.lines().last()
    );
}

#[test]
fn verify_locked_compares_cached_nodes_and_counts_the_others() {
    let space = locked();
    let true_lock = space.read(LOCK);
    space.write(LOCK, with_other(&space, "curves", "points.csv"));
    insta::assert_snapshot!(printed(&space.exits(4, &["verify", "--locked"])), @r"
    16 objects, 4 entries, 4 recipes: no damage found
    pipeline.lock: 4 nodes compared, 0 not up to date; root DIGEST
    error: pipeline.lock: 1 output of [profile once] differs:
      `curves`, `points.csv`: expected DIGEST, found DIGEST
    hint: the new outputs are in the cache (see `repro show curves`); if the change is intended, run `repro lock --profile once`
    ");
    let json: Json =
        serde_json::from_str(&space.exits(4, &["verify", "--locked", "--json"]).stdout).unwrap();
    let other = Digest::of(b"something else").to_string();
    let difference = &json["locked"]["differences"][0];
    assert_eq!((&difference["node"], &difference["expected"]), (&"curves".into(), &other.into()));
    space.write(LOCK, &true_lock);
    std::fs::remove_dir_all(space.join("cache/v2/entries")).unwrap();
    space.ok(&["run", "nets"]);
    insta::assert_snapshot!(printed(&space.exits(3, &["verify", "--locked"])), @r"
    16 objects, 3 entries, 4 recipes: no damage found
    pipeline.lock: 3 nodes match, 1 not up to date; root DIGEST
    error: 1 node not up to date
    hint: run `repro run --profile once` to bring them up to date
    ");
    space.ok(&["run"]);
    flip_byte(&space.object(&space.digests()["data"]["data.json"]));
    space.exits(5, &["verify", "--locked"]);
}

#[test]
fn a_pipeline_with_other_nodes_than_the_lock_is_refused_before_a_job_starts() {
    let space = locked();
    let before = space.files("runs").len();
    space.edit("end: [a, b]", "end: [a, b], prior: [none, {dropout: 0.5}]");
    insta::assert_snapshot!(printed(&space.exits(2, &["run", "--locked"])), @r"
    error: pipeline.lock:5:1: [profile once] has no entry for `curves@prior=dropout-0.5` (6 nodes missing)
    hint: run `repro lock --profile once` to lock the cached results
    ");
    let with_more = locked();
    let curves = SMALL.find("  curves:").unwrap()..SMALL.find("profiles:").unwrap();
    with_more.edit(&SMALL[curves], "");
    insta::assert_snapshot!(printed(&with_more.exits(2, &["verify", "--locked"])), @r"
    error: pipeline.lock:5:1: [profile once] has `curves`, which is not in the pipeline (1 node too many)
    hint: run `repro lock --profile once` to lock the cached results
    ");
    assert_eq!(space.files("runs").len(), before);
}

#[test]
fn a_missing_or_invalid_lock_is_refused_with_the_command_to_run() {
    let space = Space::with(SMALL);
    insta::assert_snapshot!(printed(&space.exits(2, &["run", "--locked"])), @r"
    error: pipeline.lock: no such file
    hint: run `repro run --profile once`, then `repro lock --profile once` to create it
    ");
    assert!(!space.join("cache").exists());
    let space = locked();
    let twice = space.exits(2, &["run", "--locked", "--profile", "twice"]);
    insta::assert_snapshot!(printed(&twice), @r"
    error: pipeline.lock: there is no section [profile twice]
    hint: run `repro run --profile twice`, then `repro lock --profile twice`
    ");
    let good = space.read(LOCK);
    space.write(LOCK, good.replacen("curves ", "curves x ", 1));
    insta::assert_snapshot!(printed(&space.exits(2, &["run", "--locked"])), @r"
    error: pipeline.lock:7:1: `x` is not `file=digest`
    hint: restore the file, or remove it and lock again
    ");
    space.write(LOCK, good.replace("[profile once]", "<<<<<<< HEAD\n[profile once]"));
    let conflict = printed(&space.exits(2, &["lock"]));
    insta::assert_snapshot!(conflict, @r"
    error: pipeline.lock:4:1: there is an unresolved merge conflict
    hint: keep the lines of either side, then run `repro lock --profile NAME`
    ");
    assert_eq!(printed(&space.exits(2, &["verify", "--locked"])), conflict);
    space.write(LOCK, b"version: 1\n\xff");
    insta::assert_snapshot!(printed(&space.exits(2, &["run", "--locked"])), @r"
    error: pipeline.lock: invalid UTF-8
    hint: restore the file, or remove it and run `repro lock`
    ");
    space.write(LOCK, good.replacen("root: ", "# root: ", 1));
    space.ok(&["lock"]);
    assert_eq!(space.read(LOCK), good, "the missing root is written again");
}

#[test]
fn overrides_are_neither_locked_nor_checked_against_the_lock() {
    let space = locked();
    let before = space.read(LOCK);
    for command in [&["lock"][..], &["run", "--locked"], &["verify", "--locked"]] {
        let refused = printed(&space.exits(2, &[command, &["-S", "nets.epochs=2"]].concat()));
        assert!(refused.ends_with(
            "\
error: -S nets.epochs=2: `pipeline.lock` does not apply to a pipeline with overrides
hint: remove the override, or add a profile that sets the field"
        ));
    }
    assert_eq!(space.read(LOCK), before);
    let refused = space.exits(2, &["run", "--locked", "--dry-run"]).stderr;
    assert!(refused.contains("cannot be used with"), "{refused}");
}

#[test]
fn outputs_of_a_fallback_are_neither_locked_nor_checked_against_the_lock() {
    let space = Space::with(SMALL);
    space.ok(&["run", "--profile", "real"]);
    insta::assert_snapshot!(printed(&space.exits(7, &["lock", "--profile", "real"])), @r"
    error: `pipeline.lock` cannot list the output of a fallback: the data of `data` is unavailable
    hint: run `repro run --profile real --refetch` to try again
    ");
    // As if the lock had been written where the data is available.
    let mut lock = Lockfile::new(LOCK);
    let plan = space.plan(&["--profile", "real"]);
    let artifact: Artifact = [("data.json".to_owned(), Digest::of(b"mnist").into())].into();
    let nodes = plan.iter().map(|node| (crate::space::name(node), artifact.clone())).collect();
    lock.set(Some("real"), nodes, BTreeSet::new());
    space.write(LOCK, lock.to_string());
    let refused = space.exits(7, &["run", "--locked", "--profile", "real"]).stderr;
    assert!(refused.contains("error: the data of `data` is unavailable\n"), "{refused}");
    let real = space.exits(3, &["verify", "--locked", "--profile", "real"]);
    insta::assert_snapshot!(printed(&real), @r"
    16 objects, 4 entries, 5 recipes: no damage found
    pipeline.lock: 0 nodes match, 4 not up to date; root DIGEST
    error: 4 nodes not up to date
    hint: run `repro run --profile real` to bring them up to date
    ");
}

#[test]
fn the_lock_is_beside_the_pipeline_file_and_named_after_it() {
    let space = Space::with("stages: {}");
    space.write("studies/small.yaml", SMALL);
    let small = ["--pipeline", "studies/small.yaml"];
    space.ok(&[&["run"], &small[..]].concat());
    space.ok(&[&["lock"], &small[..]].concat());
    assert!(space.read("studies/small.lock").contains("\n[profile once]\n"));
    space.ok(&[&["run", "--locked"], &small[..]].concat());
}

#[test]
fn profiles_that_are_locked_at_once_are_all_in_the_lock() {
    const PROFILES: usize = 12;
    let profiles: String =
        (0..PROFILES).map(|k| format!("  p{k}: {{ c: {{ params: {{ k: {k} }} }} }}\n")).collect();
    let stage =
        "  c: { command: { run: 'echo $REPRO_PARAM_K > out', outputs: [out], params: { k: 0 } } }";
    let space = Space::with(&format!("stages:\n{stage}\nprofiles:\n{profiles}"));
    let names: Vec<String> = (0..PROFILES).map(|k| format!("p{k}")).collect();
    names.iter().for_each(|name| _ = space.ok(&["run", "--profile", name]));
    for _ in 0..5 {
        let _ = std::fs::remove_file(space.join(LOCK));
        let locking: Vec<_> =
            names.iter().map(|name| space.spawn(&["lock", "--profile", name])).collect();
        locking.into_iter().for_each(|lock| assert_eq!(lock.wait().0, Some(0)));
        let lock = space.read(LOCK);
        assert!(names.iter().all(|name| lock.contains(&format!("[profile {name}]\n"))), "{lock}");
        names.iter().for_each(|name| _ = space.ok(&["verify", "--locked", "--profile", name]));
    }
}

#[test]
fn pipelines_that_differ_in_their_extension_have_separate_locks() {
    let space = Space::with("");
    for (file, lock) in [("small.yaml", "small.lock"), ("small.yml", "small.yml.lock")] {
        let stage = format!(
            "stages: {{ c: {{ command: {{ run: 'echo {file} > out', outputs: [out] }} }} }}"
        );
        space.write(file, stage).ok(&["run", "--pipeline", file]);
        space.ok(&["lock", "--pipeline", file]);
        assert!(space.join(lock).exists(), "{lock}");
    }
    for file in ["small.yaml", "small.yml"] {
        space.ok(&["verify", "--locked", "--pipeline", file]);
    }
}
