//! A run that finds everything as the last one left it makes no plan, and says and does what one that makes it would.

use crate::space::{Output, Space, TINY, nothing};
use repro::engine::key::Digest;
use serde_json::Value as Json;
use std::path::PathBuf;

/// A stage that reads a file of the project, and one whose outputs are laid out for people.
fn project() -> Space {
    let space = Space::with(&format!(
        "{TINY}  read:\n    command: {{ run: 'cat words > out', files: [words], outputs: [out] }}\nprofiles:\n  other: {{}}\n"
    ));
    space.write("words", "some");
    space.ok(&["run"]);
    space
}

fn snapshot(space: &Space) -> PathBuf {
    let folder = std::fs::read_dir(space.join("cache/v2/unchanged")).unwrap();
    folder.map(|entry| entry.unwrap().path()).next().unwrap()
}

/// What a run says, but for its id and the time it takes.
fn told(output: &Output) -> Vec<Json> {
    let mut events = output.events();
    for event in &mut events {
        for field in ["run", "process", "seconds"] {
            event.as_object_mut().unwrap().remove(field);
        }
    }
    events
}

/// Makes the snapshot say that a node took `seconds`; it stays a whole file of its own path.
fn mark(space: &Space, seconds: f64) {
    let path = snapshot(space);
    let text = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = text.split_at("{'checksum':'',".len() + 64);
    let (before, after) = rest.split_once("\"seconds\":").unwrap();
    let rest = format!("{before}\"seconds\":{seconds},{}", after.split_once(',').unwrap().1);
    std::fs::write(&path, format!("{{\"checksum\":\"{}\",{rest}", Digest::of(rest.as_bytes())))
        .unwrap();
}

/// Whether the next run is told from a snapshot so marked.
fn makes_no_plan(space: &Space) -> bool {
    mark(space, 1e6);
    let events = space.ok(&["run", "--json"]).events();
    events.iter().any(|event| event["saved_seconds"] == 1e6)
}

#[test]
fn a_run_that_makes_no_plan_tells_what_one_that_makes_it_does_and_leaves_the_same() {
    let space = project();
    let quick = space.ok(&["run", "--json"]);
    std::fs::remove_file(snapshot(&space)).unwrap();
    let planned = space.ok(&["run", "--json"]);
    assert_eq!(told(&quick), told(&planned));
    assert_eq!((quick.ran(), quick.cached()), (nothing(), space.nodes()));
    assert!(makes_no_plan(&space), "the first was such a run");
    std::fs::remove_dir_all(space.join("reports")).unwrap();
    space.ok(&["run"]);
    assert!(
        space.join("reports/default").is_dir(),
        "what is laid out for people is laid out again"
    );
}

#[test]
fn whatever_has_changed_a_plan_is_made() {
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
        assert!(makes_no_plan(&space));
        change(&space);
        assert!(!makes_no_plan(&space), "{what} changed");
        assert!(space.pending(&[]).is_empty(), "{what}: the run brought everything up to date");
    }
}

#[test]
fn what_is_asked_for_beyond_a_whole_run_is_planned() {
    let space = project();
    mark(&space, 1e6);
    let is_told = |arguments: &[&str]| {
        let events = space.ok(&[&["run", "--json"], arguments].concat()).events();
        events.iter().any(|event| event["saved_seconds"] == 1e6)
    };
    let asked: [&[&str]; 3] = [&["read"], &["-S", "seed=0"], &["--profile", "other"]];
    assert!(!asked.into_iter().any(is_told));
    assert!(is_told(&[]), "the snapshot is still there");
    assert!(!is_told(&["--force", "read"]));
}

#[test]
fn gc_removes_snapshots_which_may_name_what_is_gone() {
    let space = project();
    assert!(snapshot(&space).is_file());
    space.write("words", "other");
    space.ok(&["run"]);
    space.ok(&["gc", "--delete", "--keep-runs", "1"]);
    assert!(!space.join("cache/v2/unchanged").exists());
    assert_eq!(space.ran(&[]), nothing());
}
