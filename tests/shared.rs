//! A cache that several people share, and one that lies elsewhere.

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

/// Permissions below a folder, without those of the folder itself.
fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            found.push((path.clone(), meta.permissions().mode() & 0o7777));
            if meta.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

#[test]
fn who_may_read_and_write_the_cache_is_for_the_umask_and_the_folder_to_say() {
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
fn a_second_user_who_may_only_read_can_ask_for_everything_and_is_told_what_is_not_allowed() {
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
fn the_cache_lies_where_the_option_or_the_variable_says() {
    let elsewhere = tempfile::tempdir().unwrap();
    let there = elsewhere.path().join("of the group");
    let space = Space::with(SMALL).env("REPRO_CACHE", there.to_str().unwrap());
    assert_eq!(space.ran(&[]), set(["one", "two"]));
    assert!(!space.join("cache").exists() && there.join("v2/entries").is_dir());
    assert_eq!(space.ran(&[]), nothing());
    space.ok(&["verify"]);
    space.ok(&["gc", "--delete"]);
    assert_eq!(space.ran(&[]), nothing(), "what a project needs is kept wherever its cache is");
    assert_eq!(space.ran(&["--cache", "scratch"]), set(["one", "two"]), "the option goes first");
    assert!(space.join("scratch/v2/entries").is_dir(), "a relative folder is the project's");
    assert_eq!(
        Space::with(SMALL).env("REPRO_CACHE", there.to_str().unwrap()).ran(&[]),
        nothing(),
        "and others share it"
    );
    assert_eq!(Space::with(SMALL).env("REPRO_CACHE", "").ran(&[]), set(["one", "two"]));
}

#[test]
fn a_disk_without_file_locks_is_named_and_can_be_used_all_the_same() {
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
fn the_cache_is_no_part_of_a_repository_or_a_backup_and_what_people_write_there_stays() {
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
    assert_eq!(names, BTreeSet::from(["v2".into()]), "the folder itself is the user's");
}
