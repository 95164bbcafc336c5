//! `repro init`: each template from an empty folder to a result, and files that exist.

use crate::python;
use crate::space::{Space, name, nothing};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A project folder without any file.
fn empty() -> Space {
    let space = Space::with("");
    fs::remove_file(space.join("pipeline.yaml")).unwrap();
    space
}

/// The files in a folder, with their content.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let read = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

/// Runs the commands that `init` printed.
#[track_caller]
fn follow(space: &Space, printed: &str) {
    let (_, commands) = printed.split_once("next:\n").unwrap();
    for command in commands.lines() {
        let words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words[0], "repro", "{command}");
        space.ok(&words[1..]);
    }
}

#[test]
fn init_starts_a_study_that_runs() {
    let space = empty();
    let printed = space.ok(&["init"]).stdout;
    insta::assert_snapshot!(printed, @r"
    wrote .gitignore
    wrote pipeline.yaml
    next:
      repro run
    ");
    follow(&space, &printed);
    let report = space.read("reports/default/report.md");
    for part in ["The images are generated (`digits`), not MNIST.", "![", "dropout 0.5"] {
        assert!(report.contains(part), "`{part}` is not in:\n{report}");
    }
    assert_eq!(space.ran(&[]), nothing());
    let ignored = space.read(".gitignore");
    assert!(ignored.lines().any(|line| line == "cache/"), "{ignored}");
}

#[test]
fn the_study_of_init_uses_mnist_after_one_word_is_changed() {
    let space = empty();
    space.ok(&["init", "--template", "study"]);
    let before = space.plan(&[]);
    space.edit("dataset: digits", "dataset: mnist");
    let after = space.plan(&[]);
    let names = |nodes: &[Json]| nodes.iter().map(name).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    assert_ne!(before[0]["key"], after[0]["key"], "the data are others");
}

#[test]
fn init_starts_a_pipeline_of_programs_that_runs() {
    let space = empty();
    let printed = space.ok(&["init", "--template", "command"]).stdout;
    insta::assert_snapshot!(printed, @r"
    wrote .gitignore
    wrote simulate.sh
    wrote pipeline.yaml
    next:
      repro run
      repro export table results
    ");
    follow(&space, &printed);
    let table = space.read("results/table.csv");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("points,seed,estimate"));
    let rows: Vec<Vec<f64>> =
        lines.map(|line| line.split(',').map(|cell| cell.parse().unwrap()).collect()).collect();
    assert_eq!(rows.len(), 9, "{table}");
    for row in rows.iter().filter(|row| row[0] >= 10_000.0) {
        assert!((row[2] - std::f64::consts::PI).abs() < 0.1, "{table}");
    }
    let script = space.read("simulate.sh").replace("4 * inside", "2 * inside");
    space.write("simulate.sh", script);
    assert_eq!(space.ran(&[]).len(), 10, "every estimate and the table");
}

#[test]
fn init_starts_a_study_of_nets_from_elsewhere_that_runs() {
    let space = empty();
    let printed = space.ok(&["init", "--template", "own-nets"]).stdout;
    insta::assert_snapshot!(printed, @r"
    wrote .gitignore
    wrote train.py
    wrote pipeline.yaml
    next:
      repro run data
      repro export data images
      python3 train.py images
      repro run
    train.py needs PyTorch, NumPy and safetensors. In its place, put your own nets in nets/ and list them in pipeline.yaml.
    ");
    space.edit("dataset: mnist", "dataset: digits, train: 2000, test: 500");
    space.ok(&["run", "data"]);
    space.ok(&["export", "data", "images"]);
    if python::run(&space, "train.py", &["images"]).is_none() {
        python::save_nets(&space, "dataset: digits, train: 2000, test: 500", "128x64", "nets/");
    }
    space.ok(&["run"]);
    let report = space.read("reports/default/report.md");
    assert!(report.contains("128x64+bias"), "{report}");
    let metrics = space.read("reports/default/tables/metrics.csv");
    for pair in ["nets/1:nets/2", "nets/1:nets/3", "nets/2:nets/3"] {
        assert!(metrics.contains(pair), "`{pair}` is not in:\n{metrics}");
    }
    assert_eq!(space.ran(&[]), nothing());
}

#[test]
fn init_writes_nothing_if_a_file_exists() {
    for existing in ["pipeline.yaml", "simulate.sh"] {
        let space = empty();
        space.write(existing, "mine\n");
        let refused = space.exits(2, &["init", "--template", "command"]).stderr;
        let expected = format!(
            "error: ./{existing}: the file exists\nhint: `init` overwrites nothing: move the file, \
             or pass another folder with `-C DIR`\n"
        );
        assert_eq!(refused, expected);
        assert_eq!(files(space.path()), BTreeMap::from([(existing.into(), "mine\n".into())]));
    }
}

#[test]
fn init_does_not_follow_a_link_to_nowhere() {
    let space = empty();
    std::os::unix::fs::symlink("elsewhere", space.join("pipeline.yaml")).unwrap();
    let refused = space.exits(2, &["init"]).stderr;
    assert!(refused.starts_with("error: ./pipeline.yaml: the file exists\n"), "{refused}");
    assert!(!space.join("elsewhere").exists() && !space.join(".gitignore").exists());
}

#[test]
fn init_leaves_nothing_behind_if_a_file_cannot_be_written() {
    let space = empty().unprivileged();
    fs::create_dir(space.join("folder")).unwrap();
    let restored = space.chmod_all(|path| if path.ends_with("folder") { 0o555 } else { 0o777 });
    let failed = space.run(&["-C", "folder", "init"]);
    assert_ne!(failed.code, Some(0), "{}", failed.stdout);
    assert!(failed.stderr.contains("`folder/.gitignore`"), "{}", failed.stderr);
    drop(restored);
    assert!(files(&space.join("folder")).is_empty());
}

#[test]
fn init_keeps_an_existing_gitignore() {
    let space = empty();
    space.write(".gitignore", "mine\n");
    let printed = space.ok(&["init", "--template", "own-nets"]).stdout;
    let expected = "wrote train.py\nwrote pipeline.yaml\n\
                    kept .gitignore: check that it has `cache/` and `images/`\nnext:\n";
    assert!(printed.starts_with(expected), "{printed}");
    assert_eq!(space.read(".gitignore"), "mine\n");
}

#[test]
fn init_creates_the_folder_and_begins_the_next_commands_with_it() {
    let space = empty();
    let arguments = ["-C", "a/new folder", "init", "--json"];
    let printed: Json = serde_json::from_str(&space.ok(&arguments).stdout).unwrap();
    assert_eq!(printed["template"], "study");
    let expected = ["a/new folder/.gitignore", "a/new folder/pipeline.yaml"];
    assert_eq!(printed["files"], serde_json::json!(expected));
    assert_eq!(printed["next"], serde_json::json!(["cd 'a/new folder'", "repro run"]));
    assert_eq!(printed["kept"], serde_json::json!([]));
    space.ok(&["-C", "a/new folder", "plan"]);
}

#[test]
fn init_refuses_options_that_it_does_not_use() {
    let space = empty();
    for arguments in
        [&["-S", "a.b=1"][..], &["--profile", "quick"], &["--refetch"], &["--pipeline", "x"]]
    {
        let refused = space.exits(2, &[&["init"], arguments].concat()).stderr;
        assert!(refused.contains("`init` does not use this option"), "{refused}");
    }
    let refused = space.exits(2, &["init", "--template", "comand"]).stderr;
    assert!(refused.contains("study, command, own-nets"), "{refused}");
    assert!(files(space.path()).is_empty());
}
