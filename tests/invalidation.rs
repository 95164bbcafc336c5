//! Changes that rerun `file` and `command` stages, and changes that do not.

use crate::space::{COUNT, COUNTING, Space, copy, name, nothing, set};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::time::SystemTime;

/// A project of [`Space::counting`] that has run.
fn counted() -> Space {
    let space = Space::counting();
    assert_eq!(space.ran(&[]), set(["raw", "count", "copy"]));
    assert_eq!(space.ran(&[]), nothing());
    space
}

/// Changes a project that has run and runs it again; returns the nodes that ran. Checks that `plan`
/// announced them.
#[track_caller]
fn rerun_after(change: impl Fn(&Space)) -> BTreeSet<String> {
    let space = counted();
    change(&space);
    let planned = space.pending(&[]);
    let ran = space.ran(&[]);
    assert!(ran.is_subset(&planned), "{ran:?} of {planned:?}");
    assert_eq!(space.ran(&[]), nothing());
    ran
}

// Changes that invalidate.

#[test]
fn an_edited_script_reruns_its_stage_and_the_reason_names_it() {
    let space = counted();
    space.write("count.sh", format!("{COUNT}echo more >> count.txt\n"));
    let why = space.ok(&["why", "count"]).stdout;
    assert!(why.contains("  file count.sh ") && why.contains(" -> "), "{why}");
    assert_eq!(space.ran(&[]), set(["count", "copy"]));
}

#[test]
fn a_comment_in_a_script_reruns_its_stage_but_not_its_dependents() {
    assert_eq!(
        rerun_after(|space| _ = space.write("count.sh", format!("# counts\n{COUNT}"))),
        set(["count"])
    );
}

#[test]
fn another_command_line_reruns_the_stage() {
    assert_eq!(
        rerun_after(|space| _ = space.edit("run: sh count.sh", "run: sh ./count.sh")),
        set(["count"])
    );
    let argv = |space: &Space| _ = space.edit("run: sh count.sh", "run: [sh, count.sh]");
    assert_eq!(rerun_after(argv), set(["count"]));
}

#[test]
fn another_environment_value_reruns_the_stage() {
    assert_eq!(
        rerun_after(|space| _ = space.edit("LABEL: rows", "LABEL: lines")),
        set(["count", "copy"])
    );
}

#[test]
fn another_parameter_reruns_the_stage() {
    assert_eq!(
        rerun_after(|space| _ = space.edit("factor: 2", "factor: 3")),
        set(["count", "copy"])
    );
}

#[test]
fn an_added_output_invalidates_the_stage() {
    let space = counted();
    space.edit("outputs: [count.txt]", "outputs: [count.txt, count.sh.log]");
    assert_eq!(space.pending(&[]), set(["count", "copy"]));
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("the command did not write its output `count.sh.log`"), "{failed}");
}

#[test]
fn an_edited_file_reruns_its_dependents_and_the_reason_names_it() {
    let space = counted();
    space.write("data/raw/a.csv", "1\n2\n4\n");
    let plan = space.ok(&["plan"]).stdout;
    assert!(plan.contains("  stale        raw: file a.csv "), "{plan}");
    assert_eq!(space.ran(&[]), set(["raw", "count", "copy"]));
}

#[test]
fn an_unchanged_output_reruns_no_dependents() {
    assert_eq!(
        rerun_after(|space| _ = space.write("data/raw/a.csv", "8\n9\n")),
        set(["raw", "count"])
    );
}

#[test]
fn a_file_added_to_or_removed_from_a_folder_reruns_its_dependents() {
    assert_eq!(
        rerun_after(|space| _ = space.write("data/raw/sub/c.txt", "")),
        set(["raw", "count"])
    );
    let fewer = |space: &Space| fs::remove_file(space.join("data/raw/b.csv")).unwrap();
    assert_eq!(rerun_after(fewer), set(["raw", "count", "copy"]));
}

#[test]
fn a_renamed_file_in_a_folder_reruns_its_dependents() {
    let rename = |space: &Space| {
        fs::rename(space.join("data/raw/a.csv"), space.join("data/raw/z.csv")).unwrap()
    };
    assert_eq!(rerun_after(rename), set(["raw", "count"]));
}

#[test]
fn a_renamed_input_reruns_the_stage() {
    let rename = |space: &Space| {
        space.edit("inputs: { rows: raw }", "inputs: { lines: raw }");
        space.write("count.sh", COUNT.replace("inputs/rows", "inputs/lines"));
    };
    assert_eq!(rerun_after(rename), set(["count"]));
}

#[test]
fn the_keys_of_known_recipes_are_pinned() {
    // A changed key invalidates what users have cached: see `engine::key`.
    let space = counted();
    let keys = space
        .plan(&[])
        .iter()
        .map(|node| format!("{} {}", name(node), node["key"].as_str().unwrap()))
        .collect::<Vec<_>>();
    insta::assert_snapshot!(keys.join("\n"), @r"
    raw 40737ebd8bcf9885e8a28d8bda5f4685dc4f235f13e16a5d29108c346bd518ea
    count 810da77c20641941845e8262bc0e9e7daf1b6f4f11056cfecb26530b61038dd8
    copy 70a3c6bca51c13b14a4c40c6aa7cffa32bc4747e656977b1e6d16583f1f14a6b
    ");
}

// Changes that invalidate nothing.

#[test]
fn resources_and_retries_invalidate_nothing() {
    let case = |from: &str, to: &str| {
        assert_eq!(rerun_after(|space| _ = space.edit(from, to)), nothing(), "{to}")
    };
    case("time-limit: 60", "time-limit: 61.5");
    case("retries: 0", "retries: 3");
    case("threads: 1", "threads: 7");
    case("memory: 1MiB", "memory: 2GiB");
}

#[test]
fn a_touched_file_invalidates_nothing() {
    let touch = |space: &Space| {
        for file in ["count.sh", "data/raw/a.csv"] {
            File::options()
                .append(true)
                .open(space.join(file))
                .unwrap()
                .set_modified(SystemTime::now())
                .unwrap();
        }
    };
    assert_eq!(rerun_after(touch), nothing());
}

#[test]
fn a_file_rewritten_with_the_same_bytes_invalidates_nothing() {
    assert_eq!(
        rerun_after(|space| _ = space.write("data/raw/a.csv", "1\n2\n").write("count.sh", COUNT)),
        nothing()
    );
}

#[test]
fn a_moved_folder_invalidates_nothing() {
    let rename = |space: &Space| {
        fs::rename(space.join("data/raw"), space.join("data/elsewhere")).unwrap();
        space.edit("path: data/raw", "path: data/elsewhere/");
    };
    assert_eq!(rerun_after(rename), nothing());
}

#[test]
fn moving_the_project_invalidates_nothing() {
    let space = counted();
    let moved = Space::with(COUNTING);
    copy(space.path(), moved.path(), false);
    assert_eq!(moved.ran(&[]), nothing());
}

#[test]
fn renaming_a_stage_invalidates_nothing() {
    assert_eq!(
        rerun_after(
            |space| _ = space.edit("  raw:\n", "  rohdaten:\n").edit("rows: raw", "rows: rohdaten")
        ),
        nothing()
    );
}

#[test]
fn the_callers_environment_invalidates_nothing() {
    assert_eq!(
        counted().env("LABEL", "stranger").env("REPRO_PARAM_FACTOR", "9").ran(&[]),
        nothing()
    );
}
