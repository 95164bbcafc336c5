//! A cache that several users share, and one outside of the project.

use crate::space::{Space, nothing, set};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const SMALL: &str = "\
stages:
  one:
    command: { run: 'umask 077; echo some > out; echo said', outputs: [out] }
  two:
    command: { run: 'cat inputs/one/out > out', inputs: { one: one }, outputs: [out] }
";

/// The permissions of all files and folders below a folder.
fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            found.push((path.clone(), meta.permissions().mode() & 0o7777));
            if meta.is_dir() {
                pending.push(path);
            }
        }
    }
    found
}

#[test]
fn permissions_follow_from_the_umask_and_the_folder() {
    for (umask, starter) in [
        (0o002, ["sh", "-c", "umask 002; exec \"$0\" \"$@\""]),
        (0o027, ["sh", "-c", "umask 027; exec \"$0\" \"$@\""]),
        (0o077, ["sh", "-c", "umask 077; exec \"$0\" \"$@\""]),
    ] {
        let space = Space::with(SMALL).wrapped_in(&starter);
        fs::create_dir(space.join("cache")).unwrap();
        fs::set_permissions(space.join("cache"), fs::Permissions::from_mode(0o2777 & !umask))
            .unwrap();
        space.ok(&["run"]);
        space.ok(&["lock"]);
        space.ok(&["pin", "one"]);
        space.ok(&["run"]);
        let is_object = |path: &Path| path.parent().unwrap().ends_with("objects");
        for (path, mode) in modes(&space.join("cache")) {
            let new = if path.is_dir() {
                0o2777
            } else if is_object(&path) {
                0o444
            } else {
                0o666
            };
            assert_eq!(
                mode,
                new & (0o7000 | !umask),
                "{} under the umask {umask:03o}: {mode:03o}",
                path.display()
            );
        }
        let lock = fs::metadata(space.join("pipeline.lock")).unwrap().mode() & 0o777;
        assert_eq!(lock, 0o666 & !umask);
    }
}

#[test]
fn a_user_without_write_permission_can_inspect_and_a_run_names_the_missing_permission() {
    let space = Space::with(SMALL).unprivileged();
    space.ok(&["run"]);
    let shut = space.chmod_all(|_| 0o555);
    for command in [
        &["plan"][..],
        &["plan", "--check"],
        &["why", "one"],
        &["show", "one"],
        &["log"],
        &["verify"],
    ] {
        space.ok(command);
    }
    let refused = space.exits(7, &["run"]).stderr;
    drop(shut);
    assert!(refused.contains("Permission denied") && refused.contains("cache/v2"), "{refused}");
    assert_eq!(space.ran(&[]), nothing());
}

#[test]
fn an_option_or_a_variable_sets_the_folder_of_the_cache() {
    let outside = tempfile::tempdir().unwrap();
    let cache = outside.path().join("of the group");
    let space = Space::with(SMALL).env("REPRO_CACHE", cache.to_str().unwrap());
    assert_eq!(space.ran(&[]), set(["one", "two"]));
    assert!(!space.join("cache").exists() && cache.join("v2/entries").is_dir());
    assert_eq!(space.ran(&[]), nothing());
    space.ok(&["verify"]);
    space.ok(&["gc", "--delete"]);
    assert_eq!(
        space.ran(&[]),
        nothing(),
        "a project outside of the cache's folder keeps its results"
    );
    assert_eq!(
        space.ran(&["--cache", "scratch"]),
        set(["one", "two"]),
        "the option overrides the variable"
    );
    assert!(space.join("scratch/v2/entries").is_dir(), "a relative path starts at the project");
    assert_eq!(
        Space::with(SMALL).env("REPRO_CACHE", cache.to_str().unwrap()).ran(&[]),
        nothing(),
        "another project shares it"
    );
    assert_eq!(Space::with(SMALL).env("REPRO_CACHE", "").ran(&[]), set(["one", "two"]));
}

#[test]
fn a_disk_without_file_locks_is_an_error_unless_no_lock_is_passed() {
    let space =
        Space::with(SMALL).env("REPRO_FAULT", "no-locks").env("REPRO_FAULT_JOB", "no-locks");
    let refused = space.exits(7, &["run"]).stderr;
    assert!(
        refused.contains("error: the file system of `./cache/v2/lock` has no file locks\n"),
        "{refused}"
    );
    assert!(refused.contains("hint: pass `--no-lock`"), "{refused}");
    assert_eq!(space.ran(&["--no-lock"]), set(["one", "two"]));
    for command in [&["verify"][..], &["lock"], &["gc", "--delete"], &["pin", "one"]] {
        space.ok(&[command, &["--no-lock"]].concat());
    }
    assert_eq!(space.env("REPRO_NO_LOCK", "1").ran(&["--force", "one"]), set(["one"]));
}

#[test]
fn the_cache_is_excluded_from_repositories_and_backups_and_edited_markers_stay() {
    let space = Space::with(SMALL);
    space.ok(&["run"]);
    assert_eq!(space.read("cache/v2/.gitignore"), "*\n");
    assert!(
        space
            .read("cache/v2/CACHEDIR.TAG")
            .starts_with("Signature: 8a477f597d28d172789f06886806bc55")
    );
    space.write("cache/v2/.gitignore", "*\n!runs\n");
    space.ok(&["run", "--force"]);
    assert_eq!(space.read("cache/v2/.gitignore"), "*\n!runs\n");
    let names: BTreeSet<_> = fs::read_dir(space.join("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, BTreeSet::from(["v2".into()]), "the folder above belongs to the user");
}
