//! The environment of a `command`: `PATH`, programs of the project, and Python environments.

use crate::space::Space;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Writes a shell script to the project's `bin`.
fn write_program(space: &Space, name: &str, script: &str) {
    let path = format!("bin/{name}");
    space.write(&path, format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(space.join(path), fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program in the project's `bin` that prints its name.
fn write_echo(space: &Space, name: &str) {
    write_program(space, name, &format!("echo own {name}"));
}

#[test]
fn a_program_on_the_projects_path_runs_from_a_list_and_from_a_shell_line() {
    for run in ["[sh, -c, 'own > out']", "own > out", "[env, sh, -c, 'own > out']"] {
        let env = "env: { PATH: '$PROJECT/bin:/usr/bin:/bin' }";
        let space = Space::with(&format!(
            "stages:\n  c: {{ command: {{ run: {run}, outputs: [out], {env} }} }}\n"
        ));
        write_echo(&space, "own");
        space.ok(&["run"]);
        assert_eq!(space.output("c", "out"), "own own\n", "{run}");
    }
    let space = Space::with(
        "stages:\n  c: { command: { run: [writes], outputs: [out], \
         env: { PATH: '${PROJECT}/bin:/usr/bin:/bin' } } }\n",
    );
    write_program(&space, "writes", "echo text > out");
    space.ok(&["run"]);
}

#[test]
fn the_folder_of_the_project_is_not_part_of_the_key() {
    let pipeline = "stages:\n  c: { command: { run: own > out, outputs: [out], \
                    env: { PATH: '$PROJECT/bin:/bin' } } }\n";
    let key = || {
        let space = Space::with(pipeline);
        write_echo(&space, "own");
        space.ok(&["run"]);
        space.plan(&[])[0]["key"].clone()
    };
    assert_eq!(key(), key());
}

#[test]
fn a_python_virtual_environment_on_the_path_is_used() {
    let space = Space::with(
        "stages:\n  c:\n    command:\n      run: [python3, c.py]\n      files: [c.py]\n      \
         outputs: [out]\n      env: { PATH: '$PROJECT/.venv/bin:/usr/bin:/bin' }\n",
    );
    let venv = ["-m", "venv", "--without-pip", ".venv"];
    assert!(
        Command::new("python3").args(venv).current_dir(space.path()).status().unwrap().success()
    );
    space.write("c.py", "import sys\nopen('out', 'w').write(str(sys.prefix.endswith('.venv')))\n");
    space.ok(&["run"]);
    assert_eq!(space.output("c", "out"), "True");
}

#[test]
fn an_unknown_variable_in_path_is_refused() {
    let space = Space::with(
        "stages:\n  c: { command: { run: x, outputs: [x], env: { PATH: '$HOME/bin:/bin' } } }\n",
    );
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(refused.contains("`$HOME` is not expanded in `PATH`"), "{refused}");
    space.edit("PATH: '$HOME/bin:/bin'", "WORD: '$HOME'").ok(&["plan"]);
}

#[test]
fn a_failure_names_the_program_that_the_callers_path_would_find() {
    for (run, message) in [
        ("[sh, c.sh]", "so `sh` is `/"),
        ("sh c.sh", "so `sh` is `/"),
        ("[own]", "so `own` is not found; to use `"),
    ] {
        let space = Space::with(&format!(
            "stages:\n  c: {{ command: {{ run: {run}, files: [c.sh], outputs: [out] }} }}\n"
        ));
        space.write("c.sh", "exit 1\n");
        write_echo(&space, "sh");
        write_echo(&space, "own");
        let path = format!("{}:/usr/bin:/bin", space.join("bin").display());
        let stderr = space.env("PATH", path).exits(1, &["run"]).stderr;
        assert!(stderr.contains(message), "{run}: {stderr}");
        let hint = "add `env: { PATH: \"$PROJECT/bin:/usr/local/bin:/usr/bin:/bin\" }`";
        assert!(stderr.contains(hint), "{run}: {stderr}");
    }
    let space = Space::with("stages:\n  c: { command: { run: exit 1, outputs: [out] } }\n");
    let stderr = space.exits(1, &["run"]).stderr;
    assert!(!stderr.contains("PATH"), "{stderr}");
}

#[test]
fn a_failure_names_an_undeclared_script_of_the_project() {
    let space = Space::with("stages:\n  a:\n    command: { run: 'sh train.sh', outputs: [out] }\n");
    space.write("train.sh", "echo x > out\n");
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("`train.sh` is not among them; add `files: [train.sh]`"), "{failed}");
    space.write(
        "pipeline.yaml",
        "stages:\n  a:\n    command: { run: 'sh train.sh', outputs: [out], files: [train.sh] }\n",
    );
    space.ok(&["run"]);
}
