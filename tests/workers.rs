//! Worker processes: jobs that share one do not affect each other.

use crate::space::{Space, set};
use std::collections::BTreeSet;
use std::fs;

/// A stage of twenty commands, each of which runs `run`.
fn twenty(run: &str) -> Space {
    let values: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let values = values.join(", ");
    Space::with(&format!(
        "stages:\n  many:\n    command:\n      params: {{ n: [{values}] }}\n      \
         outputs: [out]\n      run: |\n        {run}\n"
    ))
}

/// The outputs of all commands.
fn outputs(space: &Space) -> Vec<String> {
    space.files("objects").iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn commands_share_as_many_workers_as_run_at_once() {
    let space = twenty("echo $PPID $REPRO_PARAM_N > out");
    space.ok(&["run", "-j", "2"]);
    let outputs = outputs(&space);
    let parents: BTreeSet<&str> =
        outputs.iter().map(|text| text.split(' ').next().unwrap()).collect();
    assert_eq!(outputs.len(), 20);
    assert!(parents.len() <= 2, "{parents:?}");
}

#[test]
fn a_quick_command_leaves_a_recipe_an_entry_and_its_outputs_in_the_cache_and_no_other_file() {
    let space = twenty("echo $REPRO_PARAM_N > out");
    space.ok(&["run", "-j", "2"]);
    for folder in ["recipes", "entries", "objects"] {
        assert_eq!(space.files(folder).len(), 20, "{folder}");
    }
    for folder in ["tmp", "logs"] {
        assert_eq!(space.files(folder), BTreeSet::new(), "{folder}");
    }
    assert_eq!(space.leases(), BTreeSet::new());
}

#[test]
fn a_command_does_not_see_the_files_of_another() {
    let leave =
        "ls -A >> out; touch left .hidden; mkdir -p a/b; touch a/b/c; chmod 555 a/b; chmod 711 .";
    let space = twenty(leave);
    space.ok(&["run", "-j", "1"]);
    assert_eq!(space.ran(&[]), BTreeSet::new());
    // All have the same output: each saw only the file that it was writing.
    assert_eq!(outputs(&space), ["out\n"]);
}

#[test]
fn a_command_that_removes_its_folder_fails_no_other() {
    let space = Space::with(
        "stages:\n  a:\n    command: { run: 'rm -r \"$PWD\"', outputs: [out] }\n  \
         b:\n    command: { run: 'ls -A > out', outputs: [out] }\n",
    );
    space.exits(1, &["run", "-j", "1", "--keep-going"]);
    assert_eq!(space.ran(&["b"]), BTreeSet::new(), "it ran before");
}

#[test]
fn an_output_with_another_hard_link_is_copied() {
    let space = Space::with("");
    let other = space.join("other");
    space.write(
        "pipeline.yaml",
        format!(
            "stages:\n  a:\n    command: {{ run: 'echo mine > out; ln out {}', outputs: [out] }}\n",
            other.display()
        ),
    );
    assert_eq!(space.ran(&[]), set(["a"]));
    fs::write(&other, "else").unwrap();
    assert_eq!(outputs(&space), ["mine\n"]);
    space.ok(&["verify"]);
}

#[test]
fn a_command_that_writes_output_has_its_own_log() {
    let space =
        twenty("echo out > out; if [ $REPRO_PARAM_N = 7 ]; then echo seven; echo aside >&2; fi");
    space.ok(&["run", "-j", "2"]);
    let logs: Vec<_> = space.files("logs").into_iter().collect();
    assert_eq!(logs.len(), 1);
    assert_eq!(fs::read_to_string(&logs[0]).unwrap(), "seven\naside\n");
}
