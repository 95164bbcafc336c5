//! A disk that is full, read-only or unreadable: errors name the path and the cause, no result is
//! published partially, and the next run continues once there is space or permission.

use crate::space::{Space, nothing, set};
use std::fs;
use std::path::Path;

/// A small node, and two nodes that write more than a megabyte: a command and a stage.
const LARGE: &str = "\
stages:
  small:
    command: { run: 'echo x > out', outputs: [out] }
  program:
    command: { run: 'head -c 3000000 /dev/zero > out', inputs: { small: small }, outputs: [out] }
  images:
    fetch: { dataset: digits, train: 3000, test: 10 }
";

/// Mounts the cache on a disk of one megabyte, runs, verifies, enlarges the disk and runs again.
const SMALL_DISK: &[&str] = &[
    "unshare",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    "mkdir cache && mount -t tmpfs -o size=1m none cache && echo mounted || exit
     \"$@\"; echo ended with $?
     \"$1\" verify && ls cache/v2/tmp cache/v2/leases
     mount -o remount,size=64m none cache && echo enlarged && exec \"$@\"",
    "sh",
];

#[test]
fn on_a_full_disk_a_run_names_the_path_and_the_next_run_continues() {
    let space = Space::with(LARGE).wrapped_in(SMALL_DISK);
    let output = space.run(&["run", "--keep-going", "-j", "1"]);
    let Some(stdout) = output.stdout.strip_prefix("mounted\n") else {
        return with_injected_fault();
    };
    assert_eq!(
        stdout,
        "ended with 1\n1 objects, 1 entries, 3 recipes: no damage found\n\
         cache/v2/leases:\nremoval.lock\n\ncache/v2/tmp:\nenlarged\n"
    );
    let (first, second) =
        output.stderr.split_once("3 nodes: 0 cached, 1 ran, 2 failed, 0 skipped").unwrap();
    let failures: Vec<&str> = first.lines().filter(|line| line.contains(": failed: ")).collect();
    let [program, images] = failures[..] else { panic!("{first}") };
    assert!(
        images.contains("images: failed: cannot write `") && images.contains("/cache/v2/tmp/"),
        "{images}"
    );
    assert!(
        images.ends_with("/train-images-idx3-ubyte`: No space left on device (os error 28)"),
        "{images}"
    );
    assert!(
        program.contains("program: failed: the command exited with code 1; the disk of `"),
        "{program}"
    );
    assert!(program.contains("/cache/v2/tmp/") && program.ends_with("` is full"), "{program}");
    assert!(second.contains("3 nodes: 1 cached, 2 ran, 0 failed"), "{second}");
}

/// The same without the permission to mount: each write of a job fails in turn.
fn with_injected_fault() {
    let (mut met, mut n) = (0, 0);
    while met < 5 {
        n += 1;
        let space = Space::with(LARGE);
        let output = space
            .command(&["run", "-j", "1"])
            .env("REPRO_FAULT_JOB", format!("fail:{n}"))
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        if output.status.code() != Some(0) {
            met += 1;
            assert!(
                stderr.contains("cache/v2/") && stderr.contains("`: No space left on device"),
                "{stderr}"
            );
        }
        space.ok(&["verify"]);
        space.ok(&["run"]);
        assert_eq!(space.files("tmp").len(), 0);
    }
}

#[test]
fn a_full_folder_for_temporary_files_has_no_effect() {
    // No file can be created in it.
    let space = Space::tiny().env("TMPDIR", "/dev/full");
    assert_eq!(space.ran(&[]), space.nodes());
    space.ok(&["verify", "--recompute", "--sample", "5"]);
    space.ok(&["export", "tables", "elsewhere"]);
    space.ok(&["gc", "--delete"]);
}

#[test]
fn a_read_only_cache_can_be_inspected_and_a_run_names_the_missing_permission() {
    let space = Space::run_tiny().unprivileged();
    let commands: [&[&str]; 9] = [
        &["plan", "--json"],
        &["why", "tables"],
        &["show", "nets"],
        &["log"],
        &["log", "last"],
        &["graph"],
        &["verify"],
        &["export", "report", "elsewhere"],
        &["diff", "--profiles", "default", "default"],
    ];
    let before = commands.map(|command| space.run(command));
    let cache = space.join("cache");
    let restricted_modes = space.chmod_all(|path| match path {
        path if !path.starts_with(&cache) => 0o700,
        path if path.is_dir() => 0o500,
        _ => 0o400,
    });
    for (command, before) in commands.iter().zip(before) {
        let now = space.run(command);
        assert_eq!(
            (now.code, now.stdout, now.stderr),
            (before.code, before.stdout, before.stderr),
            "{command:?}"
        );
    }
    for change in [&["run"][..], &["run", "--force"], &["gc", "--delete"], &["pin", "report"]] {
        let refused = space.exits(7, change).stderr;
        let is_named = refused.starts_with("error: cannot ") && refused.contains("./cache/v2/");
        assert!(
            is_named && refused.contains("Permission denied (os error 13)"),
            "{change:?}: {refused}"
        );
    }
    drop(restricted_modes);
    assert_eq!(space.ran(&[]), nothing());
}

/// Runs without the permissions for a path, then with them.
fn forbidden(path: &str, mode: u32) {
    const SMALL: &str = "\
stages:
  raw:
    file: { path: words }
  one:
    command: { run: 'cat inputs/raw/* > out', inputs: { raw: raw }, outputs: [out] }
";
    let space = Space::with(SMALL).unprivileged();
    space.write("words/a", "some\n").ok(&["run"]);
    space.write("words/a", "other\n");
    let restricted = space.join(path);
    let restricted_modes = space.chmod_all(|path| if path == restricted { mode } else { 0o700 });
    let failed = space.run(&["run", "-j", "1"]);
    drop(restricted_modes);
    assert!(matches!(failed.code, Some(1 | 2 | 7)), "{path}: {}", failed.stderr);
    let cause =
        failed.stderr.lines().find(|line| line.contains("Permission denied")).unwrap_or_default();
    assert!(cause.contains(path), "{path}: {}", failed.stderr);
    space.ok(&["verify"]);
    assert!(space.ran(&[]).is_subset(&set(["raw", "one"])));
    assert_eq!(space.output("one", "out"), "other\n");
    assert_eq!((space.files("tmp").len(), space.leases().len()), (0, 0), "{path}");
}

#[test]
fn a_run_names_a_path_without_permission_and_continues_once_it_has_it() {
    for folder in ["entries", "logs", "leases", "objects", "recipes", "runs", "tmp"] {
        forbidden(&format!("cache/v2/{folder}"), 0o500);
    }
    for path in ["pipeline.yaml", "words", "words/a", "cache", "cache/v2", "cache/v2/lock"] {
        forbidden(path, 0o000);
    }
}

#[test]
fn a_report_that_cannot_be_written_is_named_and_the_results_are_kept() {
    let space = Space::run_tiny().unprivileged();
    let folder = space.join("reports/default");
    fs::remove_file(folder.join("report.md")).unwrap();
    let restricted_modes =
        space.chmod_all(|path| if path == Path::new(&folder) { 0o500 } else { 0o700 });
    let failed = space.exits(7, &["run"]).stderr;
    drop(restricted_modes);
    assert!(
        failed.contains("cannot write `./reports/default/report.md`: Permission denied"),
        "{failed}"
    );
    assert_eq!(space.ran(&[]), nothing());
    assert!(folder.join("report.md").exists());
}
