//! Links in place of files and folders: a file of the cache or a report that was replaced by a link
//! is written again, never through the link. A folder may be a link.

use crate::space::{Space, copy, name, nothing, set};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// The content of a file outside of the cache.
const OUTSIDE: &str = "outside\n";

/// Replaces a file by a link to `target`.
fn link(path: &Path, target: &Path) {
    let _ = fs::remove_file(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
}

/// The node's key.
fn key(space: &Space, node: &str) -> String {
    space.plan(&[]).iter().find(|planned| name(planned) == node).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn an_object_replaced_by_a_link_is_reported_and_computed_again() {
    let space = Space::run_tiny();
    let expected = space.digests();
    let digest = &expected["tables"]["summary.csv"];
    let object = space.object(digest);
    let copied = space.join("copied");
    fs::copy(&object, &copied).unwrap();
    space.write("outside", OUTSIDE);
    for target in ["outside", "copied", "nowhere", "cache"].map(|target| space.join(target)) {
        for verified in [true, false] {
            link(&object, &target);
            if verified {
                assert!(
                    space.exits(5, &["verify"]).stderr.contains(digest),
                    "{}",
                    target.display()
                );
            }
            assert_eq!(space.ran(&[]), set(["tables"]), "{}", target.display());
            assert!(!is_link(&object));
            assert_eq!(space.digests(), expected);
        }
    }
    assert_eq!(space.read("outside"), OUTSIDE);
    assert_eq!(fs::read(copied).unwrap(), fs::read(object).unwrap());
    assert!(!space.join("nowhere").exists());
    space.ok(&["verify"]);
}

#[test]
fn nothing_is_written_through_a_link_in_place_of_a_cache_file() {
    let space = Space::run_tiny();
    let (key, expected) = (key(&space, "tables"), space.digests());
    let files =
        [format!("entries/{key}.json"), format!("recipes/{key}.json"), format!("logs/{key}")];
    for file in files.map(|file| space.join("cache/v2").join(file)) {
        space.write("outside", OUTSIDE);
        link(&file, &space.join("outside"));
        assert_eq!(space.ran(&["--force", "tables"]), set(["tables"]), "{}", file.display());
        assert_eq!(space.read("outside"), OUTSIDE, "{}", file.display());
        assert!(!is_link(&file), "{}", file.display());
        assert_eq!(space.digests(), expected);
        space.ok(&["verify"]);
    }
}

#[test]
fn an_entry_or_a_recipe_replaced_by_a_link_is_reported_and_does_not_stop_a_run() {
    let space = Space::run_tiny();
    let (key, expected) = (key(&space, "tables"), space.digests());
    for (folder, ran) in [("entries", set(["tables"])), ("recipes", nothing())] {
        space.write("outside", "{}");
        link(&space.join(format!("cache/v2/{folder}/{key}.json")), &space.join("outside"));
        assert!(space.exits(5, &["verify"]).stderr.contains(&key), "{folder}");
        assert_eq!(space.ran(&[]), ran, "{folder}");
        assert_eq!(space.read("outside"), "{}");
        assert_eq!(space.digests(), expected);
        space.ok(&["verify"]);
    }
}

#[test]
fn a_report_replaced_by_a_link_is_restored_and_nothing_is_written_through_the_link() {
    let space = Space::run_tiny();
    space.write("outside", OUTSIDE);
    for file in ["report.md", "report.html", "figures/error-by-method.svg"] {
        let file = space.join("reports/default").join(file);
        let text = space.read(&file);
        link(&file, &space.join("outside"));
        assert_eq!(space.ran(&[]), nothing());
        assert!(!is_link(&file));
        assert_eq!((space.read(&file), space.read("outside")), (text, OUTSIDE.to_owned()));
    }
}

#[test]
fn the_cache_and_its_folders_and_the_reports_may_be_links() {
    const FOLDERS: [&str; 11] = [
        "cache",
        "cache/v2",
        "cache/v2/entries",
        "cache/v2/logs",
        "cache/v2/leases",
        "cache/v2/objects",
        "cache/v2/recipes",
        "cache/v2/runs",
        "cache/v2/tmp",
        "reports",
        "reports/default",
    ];
    let expected = Space::run_tiny().digests();
    for folder in FOLDERS {
        let space = Space::run_tiny();
        let (path, target) = (space.join(folder), space.join("target"));
        fs::create_dir(&target).unwrap();
        copy(&path, &target, true);
        fs::remove_dir_all(&path).unwrap();
        symlink(&target, &path).unwrap();
        assert_eq!(space.ran(&[]), nothing(), "{folder}");
        assert_eq!(space.ran(&["--force", "tables"]), set(["tables"]), "{folder}");
        assert!(is_link(&path), "{folder} stays a link");
        space.ok(&["verify"]);
        space.ok(&["gc", "--delete"]);
        assert_eq!(space.digests(), expected, "{folder}");
    }
}

/// Creates a special file at a path.
type Create = fn(&Path);

/// Files that cannot be read to their end.
const SPECIAL_FILES: [(&str, Create); 2] = [
    ("a FIFO", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
    ("an endless device", |path| symlink("/dev/zero", path).unwrap()),
];

/// Limits each command to a minute and two GB of memory.
const BOUNDED: &[&str] = &["timeout", "60", "prlimit", "--data=2000000000"];

#[test]
fn a_fifo_or_an_endless_device_in_place_of_a_file_neither_blocks_a_command_nor_fills_the_memory() {
    const COMMANDS: [&[&str]; 4] =
        [&["run", "--force", "data"], &["verify"], &["gc", "--delete"], &["log", "last"]];
    let space = Space::run_tiny();
    space.ok(&["lock"]);
    space.ok(&["pin", "data"]);
    let (key, run) = (key(&space, "data"), space.files("runs").into_iter().next().unwrap());
    let object = &space.digests()["data"]["test-images-idx3-ubyte"];
    let pipeline = space.files("pipelines").into_iter().next().unwrap();
    let inside = |path: &Path| path.strip_prefix(space.path()).unwrap().display().to_string();
    let files = [
        "pipeline.yaml".to_owned(),
        "pipeline.lock".to_owned(),
        "reports/default/report.md".to_owned(),
        "cache/v2/entries.index".to_owned(),
        "cache/v2/files.json".to_owned(),
        "cache/v2/lock".to_owned(),
        format!("cache/v2/objects/{object}"),
        format!("cache/v2/entries/{key}.json"),
        format!("cache/v2/recipes/{key}.json"),
        format!("cache/v2/logs/{key}"),
        format!("cache/v2/leases/{key}"),
        format!("cache/v2/fallbacks/{key}"),
        format!("cache/v2/pins/{key}"),
        inside(&run),
        inside(&pipeline),
    ];
    let expected = space.digests();
    for file in &files {
        for (kind, create) in SPECIAL_FILES {
            let copied = Space::tiny().wrapped_in(BOUNDED);
            copy(space.path(), copied.path(), true);
            let path = copied.join(file);
            fs::remove_file(&path).or_else(|_| fs::create_dir_all(path.parent().unwrap())).unwrap();
            create(&path);
            for command in COMMANDS {
                let output = copied.run(command);
                let context =
                    format!("{kind} as {file}: {command:?}: {:?}\n{}", output.code, output.stderr);
                assert!(output.code.is_some_and(|code| code < 100), "{context}");
                let named = output.stderr.contains(path.file_stem().unwrap().to_str().unwrap());
                assert!(output.code == Some(0) || named, "{context}");
            }
            // The user's own files stay; all others are written again.
            if !file.starts_with("pipeline")
                && !file.contains("/pipelines/")
                && !file.ends_with("/lock")
            {
                let run = copied.ok(&["run"]);
                assert_eq!(copied.digests(), expected, "{kind} as {file}: {}", run.stderr);
            }
        }
    }
}
