//! A run after which nothing has changed makes no plan, and has the same output and effects.

use crate::space::{Output, Space, TINY, nothing};
use repro::engine::key::Digest;
use serde_json::Value as Json;
use std::path::PathBuf;

/// A project with a stage that reads a file, and a stage whose outputs are exported.
fn project() -> Space {
    let space = Space::with(&format!(
        "{TINY}  read:\n    \
         command: {{ run: 'cat words > out', files: [words], outputs: [out] }}\n\
         profiles:\n  other: {{}}\n"
    ));
    space.write("words", "some");
    space.ok(&["run"]);
    space
}

fn snapshot(space: &Space) -> PathBuf {
    let folder = std::fs::read_dir(space.join("cache/v2/snapshots")).unwrap();
    folder.map(|entry| entry.unwrap().path()).next().unwrap()
}

/// The events of a run, without its id and its duration.
fn events(output: &Output) -> Vec<Json> {
    let mut events = output.events();
    for event in &mut events {
        for field in ["run", "process", "seconds"] {
            event.as_object_mut().unwrap().remove(field);
        }
    }
    events
}

/// Sets the recorded time of a node in the snapshot, and its checksum.
fn mark(space: &Space, seconds: f64) {
    let path = snapshot(space);
    let text = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = text.split_at("{'checksum':'',".len() + 64);
    let (before, after) = rest.split_once("\"seconds\":").unwrap();
    let rest = format!("{before}\"seconds\":{seconds},{}", after.split_once(',').unwrap().1);
    std::fs::write(&path, format!("{{\"checksum\":\"{}\",{rest}", Digest::of(rest.as_bytes())))
        .unwrap();
}

/// Whether the next run uses the snapshot.
fn uses_snapshot(space: &Space) -> bool {
    mark(space, 1e6);
    let events = space.ok(&["run", "--json"]).events();
    events.iter().any(|event| event["saved_seconds"] == 1e6)
}

#[test]
fn a_run_without_a_plan_has_the_events_and_exports_of_one_with_a_plan() {
    let space = project();
    let quick = space.ok(&["run", "--json"]);
    std::fs::remove_file(snapshot(&space)).unwrap();
    let planned = space.ok(&["run", "--json"]);
    assert_eq!(events(&quick), events(&planned));
    assert_eq!((quick.ran(), quick.cached()), (nothing(), space.nodes()));
    assert!(uses_snapshot(&space), "the first run used it");
    std::fs::remove_dir_all(space.join("reports")).unwrap();
    space.ok(&["run"]);
    assert!(space.join("reports/default").is_dir(), "outputs are exported again");
}

#[test]
fn any_change_leads_to_a_plan() {
    type Change = (&'static str, fn(&Space));
    let changes: [Change; 5] = [
        ("the pipeline file", |space| _ = space.edit("epochs: 2", "epochs: 3")),
        ("a comment in it", |space| _ = space.edit("seed: 0", "seed: 0 # none")),
        ("a declared file", |space| _ = space.write("words", "more")),
        ("an object", |space| {
            let digest = space.digests()["read"]["out"].clone();
            std::fs::remove_file(space.object(&digest)).unwrap();
        }),
        ("an entry", |space| {
            let entries = std::fs::read_dir(space.join("cache/v2/entries")).unwrap();
            std::fs::remove_file(entries.map(|entry| entry.unwrap().path()).min().unwrap())
                .unwrap();
        }),
    ];
    for (what, change) in changes {
        let space = project();
        assert!(uses_snapshot(&space));
        change(&space);
        assert!(!uses_snapshot(&space), "{what} changed");
        assert!(space.pending(&[]).is_empty(), "{what}: the run brought everything up to date");
    }
}

#[test]
fn a_run_with_targets_overrides_or_force_makes_a_plan() {
    let space = project();
    mark(&space, 1e6);
    let uses_snapshot = |arguments: &[&str]| {
        let events = space.ok(&[&["run", "--json"], arguments].concat()).events();
        events.iter().any(|event| event["saved_seconds"] == 1e6)
    };
    let arguments: [&[&str]; 3] = [&["read"], &["-S", "seed=0"], &["--profile", "other"]];
    assert!(!arguments.into_iter().any(uses_snapshot));
    assert!(uses_snapshot(&[]), "the snapshot still exists");
    assert!(!uses_snapshot(&["--force", "read"]));
}

#[test]
fn gc_removes_snapshots() {
    let space = project();
    assert!(snapshot(&space).is_file());
    space.write("words", "other");
    space.ok(&["run"]);
    space.ok(&["gc", "--delete", "--keep-runs", "1"]);
    assert!(!space.join("cache/v2/snapshots").exists());
    assert_eq!(space.ran(&[]), nothing());
}
