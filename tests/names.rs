//! Names that nobody means well by: with `..`, slashes, NUL, line breaks, what a terminal acts on, marks that turn the
//! direction of writing, ten thousand letters. Each is refused or escape_control: nothing is written outside of the cache and the
//! reports, and nothing that a terminal would act on is said.

use crate::space::{Space, TINY};
use repro::engine::text::escape_control;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Where the project lies in its space: what is written above it is seen.
const PROJECT: &str = "far/below/here";

fn names() -> Vec<String> {
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
    names.iter().map(|name| (*name).to_owned()).chain([letters()]).collect()
}

fn letters() -> String {
    "a".repeat(10_000)
}

/// Where in the space outputs are exported to.
const EXPORTED: &str = "far/below/here/reports/exported";

/// Everything that is neither in the cache nor among the reports, nor the lock.
fn outside(space: &Space) -> BTreeSet<PathBuf> {
    let ours = ["cache", "reports", "pipeline.lock"].map(|folder| space.join(PROJECT).join(folder));
    space
        .all_paths()
        .into_iter()
        .filter(|path| !ours.iter().any(|folder| path.starts_with(folder)))
        .collect()
}

/// Runs the command; gives its exit code, when it has done no harm.
#[track_caller]
fn tried(space: &Space, arguments: &[&str]) -> i32 {
    let before = outside(space);
    let output = space.run(&[&["-C", PROJECT], arguments].concat());
    let shown: Vec<String> =
        arguments.iter().map(|argument| argument.chars().take(60).collect()).collect();
    assert!(matches!(output.code, Some(0..=3)), "{shown:?}: {}", output.stderr);
    for said in [&output.stdout, &output.stderr] {
        assert_eq!(escape_control(said, &['\n', '\t']), said.as_str(), "{shown:?}");
        assert!(!said.contains("panicked"), "{shown:?}: {said}");
        assert!(said.len() < 200_000, "{shown:?} makes many words");
    }
    assert_eq!(outside(space), before, "{shown:?}");
    output.code.unwrap_or_default()
}

/// A project of these stages and profiles, and a file.
fn project(pipeline: &serde_json::Value) -> Space {
    let space = Space::with("");
    space
        .write(&format!("{PROJECT}/pipeline.yaml"), pipeline.to_string())
        .write(&format!("{PROJECT}/words"), "x");
    space
}

#[test]
fn a_hostile_name_of_a_stage_a_profile_an_input_or_a_parameter_is_refused() {
    for name in names() {
        let plain = json!({ "command": { "run": "echo x > out", "outputs": ["out"] } });
        for pipeline in [
            json!({ "stages": { &name: plain } }),
            json!({ "stages": { "c": plain }, "profiles": { &name: {} } }),
            json!({ "stages": { "c": plain }, "profile": name }),
            json!({ "stages": { "c": { &name: {} } } }),
            json!({ "stages": { "c": { "command": { "run": "x", "outputs": ["out"], &name: 1 } } } }),
            json!({ "stages": { "c": { "command": { "run": "x", "outputs": ["out"], "params": { &name: 1 } } } } }),
            json!({ "stages": { "a": plain, "c": { "command": { "run": "x", "outputs": ["out"], "inputs": { &name: "a" } } } } }),
            json!({ "stages": { "c": { "command": { "run": "x", "outputs": ["out"], "inputs": { "a": name } } } } }),
        ] {
            assert_eq!(tried(&project(&pipeline), &["run"]), 2, "{pipeline:.200}");
        }
    }
}

#[test]
fn a_hostile_path_is_refused_or_stays_where_it_belongs() {
    for name in names() {
        // The program does its best to write what it was told to.
        let run = json!(["sh", "-c", "mkdir -p \"$(dirname \"$NAME\")\"; echo x > \"$NAME\""]);
        let pipeline = json!({ "stages": { "c": { "command": { "run": run, "outputs": [name], "env": { "NAME": name } } } } });
        let space = project(&pipeline);
        let escapes_root =
            name.split('/').any(|part| matches!(part, "" | "..")) || name.contains('\0');
        let code = tried(&space, &["run"]);
        assert_eq!(code == 2, escapes_root, "{name:.60}");
        if code == 0 {
            tried(&space, &["show", "c"]);
            tried(&space, &["export", "c", EXPORTED]);
            tried(&space, &["verify", "--recompute"]);
        }
        for stage in [
            json!({ "file": { "path": name } }),
            json!({ "file": { "path": ["words", name] } }),
            json!({ "command": { "run": "echo x > out", "outputs": ["out"], "files": [name] } }),
        ] {
            // The folder above is a file's honest place; but then the cache would hold itself.
            assert_eq!(
                tried(&project(&json!({ "stages": { "c": stage } })), &["run"]),
                2,
                "{name:.60}"
            );
        }
    }
}

#[test]
fn hostile_values_make_nodes_of_hostile_names_that_do_no_harm() {
    let mut values = names();
    values.retain(|value| !value.contains('\0'));
    let command = json!({ "run": "echo \"$REPRO_PARAM_K\" > out", "outputs": ["out"], "params": { "k": values } });
    let space = project(&json!({ "stages": { "c": { "command": command } } }));
    assert_eq!(tried(&space, &["plan", "--check"]), 3);
    for look in [
        &["run"][..],
        &["plan"],
        &["log", "last"],
        &["show", "c"],
        &["graph", "--full"],
        &["lock"],
        &["verify", "--locked"],
        &["verify", "--recompute"],
    ] {
        assert_eq!(tried(&space, look), 0, "{look:?}");
    }
    assert_eq!(tried(&space, &["export", "c", EXPORTED]), 0);
    let exported = std::fs::read_dir(space.join(EXPORTED)).unwrap().count();
    assert_eq!(exported, values.len(), "a folder each");
    for nul in [
        json!({ "run": "a\0" }),
        json!({ "env": { "A": "\0" } }),
        json!({ "params": { "a": "\0" } }),
    ] {
        let mut stage = json!({ "run": "true", "outputs": ["out"] });
        stage.as_object_mut().unwrap().extend(nul.as_object().unwrap().clone());
        assert_eq!(
            tried(&project(&json!({ "stages": { "c": { "command": stage } } })), &["plan"]),
            2
        );
    }
}

#[test]
fn reports_of_hostile_names_lie_among_the_reports() {
    let about = json!(["/../../../../../x", "..", "/x", "\u{202e}x", "a\nb", letters()]);
    let space = project(&json!({}));
    let pipeline =
        TINY.replace("figures: figures }", &format!("figures: figures, about: {about} }}"));
    space.write(&format!("{PROJECT}/pipeline.yaml"), pipeline);
    assert_eq!(tried(&space, &["run"]), 0);
    let folders = std::fs::read_dir(space.join(PROJECT).join("reports/default")).unwrap();
    let whole =
        folders.filter(|folder| folder.as_ref().unwrap().path().join("report.md").exists()).count();
    assert_eq!(whole, 6, "a folder each");
}

#[test]
fn a_hostile_word_on_the_command_line_is_refused() {
    let space = project(
        &json!({ "stages": { "c": { "command": { "run": "echo x > out", "outputs": ["out"] } } } }),
    );
    assert_eq!(tried(&space, &["run"]), 0);
    // The system itself lets no argument have a NUL, and nothing at all is the beginning of every run's id.
    for name in names().iter().filter(|name| !name.contains('\0') && !name.is_empty()) {
        for command in ["run", "plan", "why", "show", "log", "pin", "unpin"] {
            assert_eq!(tried(&space, &[command, "--", name]), 2, "{command}");
        }
        assert_eq!(tried(&space, &["export", "--", name, EXPORTED]), 2);
        assert_eq!(tried(&space, &["plan", "--profile", name]), 2);
        assert_eq!(tried(&space, &["plan", "-S", name]), 2);
        assert_eq!(tried(&space, &["plan", "-S", &format!("c.{name}=1")]), 2);
        assert_eq!(tried(&space, &["plan", &format!("c@{name}=1")]), 2);
        assert_eq!(tried(&space, &["diff", "--", name, "last"]), 2);
    }
}

#[test]
fn a_pipeline_file_with_the_other_ending_is_named() {
    let space = crate::space::Space::with("");
    std::fs::rename(space.join("pipeline.yaml"), space.join("pipeline.yml")).unwrap();
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(
        refused.ends_with("hint: there is `pipeline.yml`: `--pipeline pipeline.yml` names it\n"),
        "{refused}"
    );
}
