//! A system clock that jumps back to 1970 or ahead by a century: cached nodes stay cached, edits
//! are detected, and the newest run is the one that began last.

use crate::space::{Space, nothing, set};
use std::fs::File;
use std::time::{Duration, SystemTime};

const PIPELINE: &str = "\
stages:
  words:
    file: { path: words }
  count:
    command: { run: 'wc < inputs/words/words > out', inputs: { words: words }, outputs: [out] }
";

fn run_space() -> Space {
    let space = Space::with(PIPELINE);
    space.write("words", "some\n").ok(&["run"]);
    space
}

/// The beginning of Unix time, and a time in the far future.
fn jumps() -> [SystemTime; 2] {
    let century = Duration::from_secs(100 * 366 * 24 * 3600);
    [SystemTime::UNIX_EPOCH, SystemTime::now() + century]
}

fn set_modified(space: &Space, path: &str, time: SystemTime) {
    File::open(space.join(path)).unwrap().set_modified(time).unwrap();
}

#[test]
fn cached_nodes_stay_cached_for_any_times_of_their_files() {
    for jump in jumps() {
        let space = run_space();
        for path in space.all_paths() {
            File::open(path).unwrap().set_modified(jump).unwrap();
        }
        assert_eq!(space.pending(&[]), nothing());
        assert_eq!(space.ran(&[]), nothing());
        space.ok(&["verify"]);
    }
}

#[test]
fn an_edit_is_detected_for_any_times_before_and_after() {
    for before in jumps() {
        for after in jumps() {
            let space = run_space();
            set_modified(&space, "words", before);
            assert_eq!(space.ran(&[]), nothing());
            space.write("words", "SOME\n");
            set_modified(&space, "words", after);
            assert_eq!(space.ran(&[]), set(["words", "count"]));
        }
    }
}

/// The runs that `repro log` lists, newest first.
fn log(space: &Space) -> Vec<String> {
    let log: serde_json::Value =
        serde_json::from_str(&space.ok(&["log", "--json"]).stdout).unwrap();
    log["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["run"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_newest_run_is_the_one_that_began_last_even_after_the_clock_was_set_back() {
    let space = run_space();
    let first = log(&space).pop().unwrap();
    // Runs of 1970, of the year 2100, of the year 11476, and a file that is not of a run.
    let others = ["95-7", "4102444800-12", "not-a-run", "300000000000-4"];
    for id in others {
        std::fs::copy(
            space.join(format!("cache/v2/runs/{first}.jsonl")),
            space.join(format!("cache/v2/runs/{id}.jsonl")),
        )
        .unwrap();
    }
    space.edit("wc <", "wc -c <").ok(&["run"]);
    space.ok(&["run", "words"]);
    let order = [
        "300000000000-6",
        "300000000000-5",
        "300000000000-4",
        "4102444800-12",
        &first,
        "95-7",
        "not-a-run",
    ];
    assert_eq!(log(&space), order);
    let list = space.ok(&["log"]).stdout;
    assert!(
        list.contains("2100-01-01T00:00:00Z") && list.contains("1970-01-01T00:01:35Z"),
        "{list}"
    );
    assert!(space.ok(&["log", "last"]).stdout.starts_with("run 300000000000-6, ?: "));
    let diff = space.ok(&["diff", "last~2", "last~1"]).stdout;
    assert!(diff.contains("wc -c"), "{diff}");
    // `gc` keeps the records of the two newest runs and the artifacts that they used.
    space.edit("wc -c <", "wc -l <").ok(&["gc", "--delete", "--keep-runs", "2"]);
    assert_eq!(log(&space), order[..2]);
    assert_eq!(space.edit("wc -l <", "wc -c <").ran(&[]), nothing());
}

#[test]
fn runs_that_begin_in_the_same_second_are_recorded_separately() {
    let space = run_space();
    for _ in 0..5 {
        space.ok(&["run"]);
    }
    let runs = log(&space);
    assert_eq!(runs.len(), 6);
    let mut ran = runs.iter().map(|id| space.ok(&["log", id]).stdout.contains("2 ran"));
    assert_eq!(ran.rposition(|ran| ran), Some(5), "only the oldest ran any node");
}
