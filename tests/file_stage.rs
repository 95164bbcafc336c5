//! The stage kind `file`, and files of the project that change during a run.

use crate::space::{COUNT, COUNTING, Space, set};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

#[test]
fn a_file_keeps_its_name_and_a_list_of_paths_is_one_artifact() {
    let pipeline = "stages:\n  c: { file: { path: [data/out.txt, data/more/] } }\n";
    let space = Space::with(pipeline);
    space.write("data/out.txt", "one").write("data/more/deep/two.txt", "two").ok(&["run"]);
    let outputs = space.digests()["c"].clone();
    assert_eq!(outputs.keys().collect::<Vec<_>>(), ["deep/two.txt", "out.txt"]);
    assert_eq!(space.read(space.object(&outputs["deep/two.txt"])), "two");
}

#[test]
fn a_file_may_be_outside_of_the_project() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("out.txt"), "far").unwrap();
    let absolute = Space::with(&format!(
        "stages:\n  c: {{ file: {{ path: {}/out.txt }} }}\n",
        outside.path().display()
    ));
    absolute.ok(&["run"]);
    assert_eq!(absolute.output("c", "out.txt"), "far");
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    let above = Space::with(&format!("stages:\n  c: {{ file: {{ path: ../{name}/out.txt }} }}\n"));
    above.ok(&["run"]);
    assert_eq!(above.output("c", "out.txt"), "far");
}

#[test]
fn a_link_to_a_file_is_followed_and_one_to_an_undeclared_folder_is_refused() {
    let space = Space::counting();
    space.write("elsewhere/c.csv", "5\n");
    symlink("../../elsewhere/c.csv", space.join("data/raw/c.csv")).unwrap();
    space.ok(&["run"]);
    assert_eq!(space.output("raw", "c.csv"), "5\n");
    space.write("elsewhere/c.csv", "6\n");
    assert_eq!(space.ran(&[]), set(["raw", "count"]));
    symlink("..", space.join("data/raw/loop")).unwrap();
    let refused = space.exits(2, &["plan"]).stderr;
    insta::assert_snapshot!(refused, @r"
    error: pipeline.yaml:2:3: stage `raw`: `data/raw/loop` is a symbolic link to the folder `data`, which the stage does not declare
    hint: declare `data` as well, or replace the link by a copy
    ");
}

#[test]
fn a_path_that_is_not_a_readable_file_or_folder_is_refused() {
    #[track_caller]
    fn case(change: impl Fn(&Path), message: &str) {
        let space = Space::counting();
        change(&space.join("data/raw"));
        let refused = space.exits(2, &["run"]).stderr;
        assert!(
            refused.contains(&format!("error: pipeline.yaml:2:3: stage `raw`: {message}")),
            "{refused}"
        );
    }
    case(
        |raw| fs::remove_dir_all(raw).unwrap(),
        "there is no file or folder `data/raw`\nhint: paths are relative",
    );
    case(
        |raw| {
            fs::remove_dir_all(raw).unwrap();
            fs::create_dir_all(raw.join("empty")).unwrap();
        },
        "there is no file in the folder `data/raw`",
    );
    case(
        |raw| symlink("nowhere", raw.join("x")).unwrap(),
        "there is no file or folder `data/raw/x`",
    );
    case(|raw| symlink("x", raw.join("x")).unwrap(), "cannot read `data/raw/x`: ");
    let bad = std::ffi::OsStr::from_bytes(b"\xff.csv");
    case(
        |raw| fs::write(raw.join(bad), "").unwrap(),
        "the name of `data/raw/\u{fffd}.csv` is not UTF-8",
    );
    let fifo =
        |raw: &Path| assert!(Command::new("mkfifo").arg(raw.join("f")).status().unwrap().success());
    case(fifo, "`data/raw/f` is neither a file nor a folder");
}

#[test]
fn a_folder_that_contains_the_cache_is_refused() {
    let space = Space::with("stages:\n  c: { file: { path: . } }\n");
    let refused = space.exits(2, &["run"]).stderr;
    assert!(
        refused.contains("stage `c`: `./cache/v2` is the cache itself\nhint: declare the folders"),
        "{refused}"
    );
}

#[test]
fn two_files_of_one_name_are_refused() {
    let space = Space::with("stages:\n  c: { file: { path: [a/x, b/x] } }\n");
    space.write("a/x", "").write("b/x", "");
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(
        refused.contains("stage `c`: two of its files are called `x`\nhint: rename one"),
        "{refused}"
    );
}

#[test]
fn a_file_stage_without_a_path_is_refused() {
    let refused = Space::with("stages:\n  c: { file: {} }\n").exits(2, &["plan"]).stderr;
    assert!(refused.contains("the field `path` is missing\nhint: write `path: FILE`"), "{refused}");
}

#[test]
fn a_missing_file_stops_only_its_dependents() {
    let space = Space::with(&format!(
        "{COUNTING}  other:\n    command: {{ run: touch x, outputs: [x] }}\n"
    ));
    assert_eq!(space.ran(&["other"]), set(["other"]));
    space.exits(2, &["run", "copy"]);
}

#[test]
fn plan_why_and_graph_create_no_cache() {
    let space = Space::counting();
    for arguments in [&["plan"][..], &["why", "copy"], &["graph"]] {
        space.ok(arguments);
        assert!(!space.join("cache").exists(), "{arguments:?}");
    }
}

#[test]
fn a_file_that_changes_during_a_run_fails_the_run() {
    let space = Space::counting();
    let file = space.join("data/raw/a.csv");
    space.write(
        "count.sh",
        format!("{COUNT}[ -e {0}.bak ] || (cp {0} {0}.bak && echo 9 >> {0})\n", file.display()),
    );
    space.edit("path: data/raw", "path: data/raw/a.csv");
    let failed = space.exits(1, &["run"]).stderr;
    let lines: Vec<&str> = failed.lines().filter(|line| !line.contains(" ran")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    3 nodes
    error: the file `data/raw/a.csv` changed during the run; the results are those of the earlier content
    hint: run `repro run` again to use the current content
    ");
    let log = space.ok(&["log"]).stdout;
    assert!(log.lines().nth(1).unwrap().ends_with("  failed"), "{log}");
    assert_eq!(space.ran(&[]), set(["raw", "count", "copy"]));
}

#[test]
fn a_file_added_during_a_run_fails_the_run_but_a_touched_one_does_not() {
    let space = Space::counting();
    space.write("count.sh", format!("{COUNT}touch {}\n", space.join("data/raw/a.csv").display()));
    space.ok(&["run"]);
    space.write("count.sh", format!("{COUNT}touch {}\n", space.join("data/raw/new").display()));
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("the file `data/raw/new` changed during the run"), "{failed}");
}

#[test]
fn a_script_that_changes_before_its_stage_starts_is_not_run() {
    let space = Space::counting();
    let late = space.join("late.sh");
    space.write("late.sh", "cp inputs/count/count.txt copy.txt\n");
    space.edit("run: 'cp inputs/count/count.txt copy.txt',", "run: sh late.sh, files: [late.sh],");
    space.write("count.sh", format!("{COUNT}echo echo hello >> {}\n", late.display()));
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("the file `late.sh` changed during the run"), "{failed}");
    assert_eq!(space.pending(&[]), set(["copy"]));
}

#[test]
fn a_file_stage_fits_any_input_whose_files_it_has() {
    let space = Space::with(
        "stages:\n  raw: { file: { path: nets } }\n  m: { align: { a: raw, b: raw } }\n",
    );
    space.write("nets/other.safetensors", "");
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(
        refused.contains(
            "stage `m`: `a` needs the output `net.safetensors`, which `raw` does not have"
        ),
        "{refused}"
    );
    space.write("nets/net.safetensors", "");
    assert_eq!(space.pending(&[]), set(["raw", "m"]));
    let space = Space::with(
        "stages:\n  c: { command: { run: x, outputs: [x] } }\n  m: { align: { a: c, b: c } }\n",
    );
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(
        refused
            .contains("stage `m`: `a` needs the output `net.safetensors`, which `c` does not have"),
        "{refused}"
    );
}
