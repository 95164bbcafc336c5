//! Hostile names: `..`, slashes, NUL, line breaks, terminal escapes, bidirectional marks, 10,000
//! letters. `repro` refuses or escapes each: it writes no file outside of the cache and the
//! reports, and prints no control character.

use crate::space::{Space, TINY};
use repro::engine::text::escape_control;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// The project's folder in the space, deep enough that a file written above it is found.
const PROJECT: &str = "three/levels/down";

fn hostile_names() -> Vec<String> {
    let names = [
        "..",
        "../x",
        "../../../x",
        "/x/../../x",
        "a/../../x",
        "a\0b",
        "\u{202e}x",
        "\u{1b}[2J",
        "a\nb",
        "a\rb",
        "\u{feff}",
        "",
    ];
    names.iter().map(|name| (*name).to_owned()).chain([long_name()]).collect()
}

fn long_name() -> String {
    "a".repeat(10_000)
}

/// The folder for `export`, from the space.
const EXPORTED: &str = "three/levels/down/reports/exported";

/// All paths but those in the cache and the reports, and the lock.
fn unrelated_paths(space: &Space) -> BTreeSet<PathBuf> {
    let written = ["cache", "reports", "pipeline.lock"].map(|path| space.join(PROJECT).join(path));
    space
        .all_paths()
        .into_iter()
        .filter(|path| !written.iter().any(|folder| path.starts_with(folder)))
        .collect()
}

/// Runs `repro` and checks that it does not panic, print control characters, or write outside of
/// the cache and the reports; returns the exit code.
#[track_caller]
fn run_checked(space: &Space, arguments: &[&str]) -> i32 {
    let before = unrelated_paths(space);
    let output = space.run(&[&["-C", PROJECT], arguments].concat());
    let shown: Vec<String> =
        arguments.iter().map(|argument| argument.chars().take(60).collect()).collect();
    assert!(matches!(output.code, Some(0..=3)), "{shown:?}: {}", output.stderr);
    for text in [&output.stdout, &output.stderr] {
        assert_eq!(escape_control(text, &['\n', '\t']), text.as_str(), "{shown:?}");
        assert!(!text.contains("panicked"), "{shown:?}: {text}");
        assert!(text.len() < 200_000, "{shown:?} prints {} bytes", text.len());
    }
    assert_eq!(unrelated_paths(space), before, "{shown:?}");
    output.code.unwrap_or_default()
}

/// A project with this pipeline and a file `words`.
fn project(pipeline: &Value) -> Space {
    let space = Space::with("");
    space
        .write(&format!("{PROJECT}/pipeline.yaml"), pipeline.to_string())
        .write(&format!("{PROJECT}/words"), "x");
    space
}

/// Adds fields to a JSON object.
fn extend(object: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else { panic!("not an object: {fields}") };
    object.as_object_mut().unwrap().extend(fields);
}

#[test]
fn a_hostile_name_of_a_stage_a_profile_an_input_or_a_parameter_is_refused() {
    for name in hostile_names() {
        let plain = json!({ "command": { "run": "echo x > out", "outputs": ["out"] } });
        let command = |fields: Value| {
            let mut stage = plain.clone();
            extend(&mut stage["command"], fields);
            json!({ "stages": { "a": plain, "c": stage } })
        };
        for pipeline in [
            json!({ "stages": { &name: plain } }),
            json!({ "stages": { "c": plain }, "profiles": { &name: {} } }),
            json!({ "stages": { "c": plain }, "profile": name }),
            json!({ "stages": { "c": { &name: {} } } }),
            command(json!({ &name: 1 })),
            command(json!({ "params": { &name: 1 } })),
            command(json!({ "inputs": { &name: "a" } })),
            command(json!({ "inputs": { "a": name } })),
        ] {
            assert_eq!(run_checked(&project(&pipeline), &["run"]), 2, "{pipeline:.200}");
        }
    }
}

#[test]
fn a_hostile_path_is_refused_or_stays_below_its_folder() {
    for name in hostile_names() {
        // The command creates the output, wherever it is.
        let run = json!(["sh", "-c", "mkdir -p \"$(dirname \"$NAME\")\"; echo x > \"$NAME\""]);
        let command = json!({ "run": run, "outputs": [name], "env": { "NAME": name } });
        let pipeline = json!({ "stages": { "c": { "command": command } } });
        let space = project(&pipeline);
        let escapes_root =
            name.split('/').any(|part| matches!(part, "" | "..")) || name.contains('\0');
        let code = run_checked(&space, &["run"]);
        assert_eq!(code == 2, escapes_root, "{name:.60}");
        if code == 0 {
            run_checked(&space, &["show", "c"]);
            run_checked(&space, &["export", "c", EXPORTED]);
            run_checked(&space, &["verify", "--recompute"]);
        }
        for stage in [
            json!({ "file": { "path": name } }),
            json!({ "file": { "path": ["words", name] } }),
            json!({ "command": { "run": "echo x > out", "outputs": ["out"], "files": [name] } }),
        ] {
            // A `file` stage may read a folder above, but not one that contains the cache.
            assert_eq!(
                run_checked(&project(&json!({ "stages": { "c": stage } })), &["run"]),
                2,
                "{name:.60}"
            );
        }
    }
}

#[test]
fn nodes_named_by_hostile_values_are_run_shown_locked_and_exported() {
    let mut values = hostile_names();
    values.retain(|value| !value.contains('\0'));
    let run = "echo \"$REPRO_PARAM_K\" > out";
    let command = json!({ "run": run, "outputs": ["out"], "params": { "k": values } });
    let space = project(&json!({ "stages": { "c": { "command": command } } }));
    assert_eq!(run_checked(&space, &["plan", "--check"]), 3);
    for arguments in [
        &["run"][..],
        &["plan"],
        &["log", "last"],
        &["show", "c"],
        &["graph", "--full"],
        &["lock"],
        &["verify", "--locked"],
        &["verify", "--recompute"],
    ] {
        assert_eq!(run_checked(&space, arguments), 0, "{arguments:?}");
    }
    assert_eq!(run_checked(&space, &["export", "c", EXPORTED]), 0);
    let exported = std::fs::read_dir(space.join(EXPORTED)).unwrap().count();
    assert_eq!(exported, values.len(), "a folder each");
}

#[test]
fn a_nul_in_a_command_is_refused() {
    for fields in [
        json!({ "run": "a\0" }),
        json!({ "env": { "A": "\0" } }),
        json!({ "params": { "a": "\0" } }),
    ] {
        let mut command = json!({ "run": "true", "outputs": ["out"] });
        extend(&mut command, fields);
        let space = project(&json!({ "stages": { "c": { "command": command } } }));
        assert_eq!(run_checked(&space, &["plan"]), 2);
    }
}

#[test]
fn reports_of_hostile_names_are_written_below_the_reports() {
    let about = json!(["/../../../../../x", "..", "/x", "\u{202e}x", "a\nb", long_name()]);
    let space = project(&json!({}));
    let pipeline =
        TINY.replace("figures: figures }", &format!("figures: figures, about: {about} }}"));
    space.write(&format!("{PROJECT}/pipeline.yaml"), pipeline);
    assert_eq!(run_checked(&space, &["run"]), 0);
    let folders = std::fs::read_dir(space.join(PROJECT).join("reports/default")).unwrap();
    let reports =
        folders.filter(|folder| folder.as_ref().unwrap().path().join("report.md").exists());
    assert_eq!(reports.count(), 6, "a folder each");
}

#[test]
fn a_hostile_argument_is_refused() {
    let space = project(
        &json!({ "stages": { "c": { "command": { "run": "echo x > out", "outputs": ["out"] } } } }),
    );
    assert_eq!(run_checked(&space, &["run"]), 0);
    // An argument cannot contain NUL, and the empty text is a prefix of every run's id.
    for name in hostile_names().iter().filter(|name| !name.contains('\0') && !name.is_empty()) {
        for command in ["run", "plan", "why", "show", "log", "pin", "unpin"] {
            assert_eq!(run_checked(&space, &[command, "--", name]), 2, "{command}");
        }
        assert_eq!(run_checked(&space, &["export", "--", name, EXPORTED]), 2);
        assert_eq!(run_checked(&space, &["plan", "--profile", name]), 2);
        assert_eq!(run_checked(&space, &["plan", "-S", name]), 2);
        assert_eq!(run_checked(&space, &["plan", "-S", &format!("c.{name}=1")]), 2);
        assert_eq!(run_checked(&space, &["plan", &format!("c@{name}=1")]), 2);
        assert_eq!(run_checked(&space, &["diff", "--", name, "last"]), 2);
    }
}

#[test]
fn a_project_or_a_cache_in_a_folder_whose_name_is_not_utf8_is_refused() {
    let space = Space::tiny();
    let bad = space.join(OsStr::from_bytes(b"bad\xff"));
    std::fs::create_dir(&bad).unwrap();
    std::fs::copy(space.join("pipeline.yaml"), bad.join("pipeline.yaml")).unwrap();
    let mut in_folder = space.command(&["run"]);
    in_folder.current_dir(&bad);
    let mut with_cache = space.command(&["run", "--cache"]);
    with_cache.arg(&bad);
    for mut command in [in_folder, with_cache] {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("the path is not valid UTF-8\nhint: "), "{message}");
    }
}
