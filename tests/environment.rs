//! The environment of a `command`: a project's own programs, and where the user's are looked for.

use crate::space::Space;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// A program in the project's `bin` that says its own name.
fn program(space: &Space, name: &str) {
    space.write(&format!("bin/{name}"), format!("#!/bin/sh\necho own {name}\n"));
    fs::set_permissions(space.join(format!("bin/{name}")), fs::Permissions::from_mode(0o755))
        .unwrap();
}

#[test]
fn a_program_of_the_projects_own_path_runs_as_a_word_a_line_and_an_interpreter() {
    for run in ["[sh, -c, 'own > out']", "own > out", "[env, sh, -c, 'own > out']"] {
        let env = "env: { PATH: '$PROJECT/bin:/usr/bin:/bin' }";
        let space = Space::with(&format!(
            "stages:\n  c: {{ command: {{ run: {run}, outputs: [out], {env} }} }}\n"
        ));
        program(&space, "own");
        space.ok(&["run"]);
        assert_eq!(space.read(space.object(&space.digests()["c"]["out"])), "own own\n", "{run}");
    }
    let space = Space::with(
        "stages:\n  c: { command: { run: [writes], outputs: [out], env: { PATH: '${PROJECT}/bin:/usr/bin:/bin' } } }\n",
    );
    space.write("bin/writes", "#!/bin/sh\necho it > out\n");
    fs::set_permissions(space.join("bin/writes"), fs::Permissions::from_mode(0o755)).unwrap();
    space.ok(&["run"]);
}

#[test]
fn where_the_project_is_does_not_matter_to_the_key() {
    let pipeline = "stages:\n  c: { command: { run: own > out, outputs: [out], env: { PATH: '$PROJECT/bin:/bin' } } }\n";
    let key = || {
        let space = Space::with(pipeline);
        program(&space, "own");
        space.ok(&["run"]);
        space.plan(&[])[0]["key"].clone()
    };
    assert_eq!(key(), key());
}

#[test]
fn a_virtual_environment_of_python_is_used() {
    let space = Space::with(
        "stages:\n  c:\n    command:\n      run: [python3, c.py]\n      files: [c.py]\n      outputs: [out]\n      \
         env: { PATH: '$PROJECT/.venv/bin:/usr/bin:/bin' }\n",
    );
    let venv = ["-m", "venv", "--without-pip", ".venv"];
    assert!(
        Command::new("python3").args(venv).current_dir(space.path()).status().unwrap().success()
    );
    space.write("c.py", "import sys\nopen('out', 'w').write(str(sys.prefix.endswith('.venv')))\n");
    space.ok(&["run"]);
    assert_eq!(space.read(space.object(&space.digests()["c"]["out"])), "True");
}

#[test]
fn a_name_in_path_that_is_not_replaced_is_refused_where_it_is_written() {
    let space = Space::with(
        "stages:\n  c: { command: { run: x, outputs: [x], env: { PATH: '$HOME/bin:/bin' } } }\n",
    );
    let said = space.exits(2, &["plan"]).stderr;
    assert!(said.contains("`$HOME` in `PATH` is not replaced"), "{said}");
    space.edit("PATH: '$HOME/bin:/bin'", "WORD: '$HOME'").ok(&["plan"]);
}

#[test]
fn a_failure_names_the_program_that_the_user_has_elsewhere() {
    for (run, is) in [
        ("[sh, c.sh]", "`sh` is /"),
        ("sh c.sh", "`sh` is /"),
        ("[own]", "`own` is not found; yours is "),
    ] {
        let space = Space::with(&format!(
            "stages:\n  c: {{ command: {{ run: {run}, files: [c.sh], outputs: [out] }} }}\n"
        ));
        space.write("c.sh", "exit 1\n");
        program(&space, "sh");
        program(&space, "own");
        let path = format!("{}:/usr/bin:/bin", space.join("bin").display());
        let said = space.env("PATH", path).exits(1, &["run"]).stderr;
        assert!(said.contains(is), "{run}: {said}");
        let hint = "does not pass on your PATH; `env: { PATH: \"$PROJECT/bin:/usr/local/bin:/usr/bin:/bin\" }` does";
        assert!(said.contains(hint), "{run}: {said}");
    }
    let space = Space::with("stages:\n  c: { command: { run: exit 1, outputs: [out] } }\n");
    let said = space.exits(1, &["run"]).stderr;
    assert!(!said.contains("PATH"), "{said}");
}

#[test]
fn a_script_of_the_project_that_is_not_declared_is_named_with_what_to_write() {
    let space = Space::with("stages:\n  a:\n    command: { run: 'sh train.sh', outputs: [out] }\n");
    space.write("train.sh", "echo x > out\n");
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("`train.sh` is in the project but not in `files`"), "{failed}");
    space.write(
        "pipeline.yaml",
        "stages:\n  a:\n    command: { run: 'sh train.sh', outputs: [out], files: [train.sh] }\n",
    );
    space.ok(&["run"]);
}
