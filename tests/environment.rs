//! The environment of a `command`: `$PROJECT` in `env`, and where programs are found.

use crate::space::Space;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Creates a program in the project's `bin` that prints its name.
fn program(space: &Space, name: &str) {
    space.write(&format!("bin/{name}"), format!("#!/bin/sh\necho own {name}\n"));
    fs::set_permissions(space.join(format!("bin/{name}")), fs::Permissions::from_mode(0o755))
        .unwrap();
}

#[test]
fn a_program_in_the_projects_path_is_found_by_commands_scripts_and_interpreters() {
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
        "stages:\n  c: { command: { run: [writes], outputs: [out], \
         env: { PATH: '${PROJECT}/bin:/usr/bin:/bin' } } }\n",
    );
    space.write("bin/writes", "#!/bin/sh\necho it > out\n");
    fs::set_permissions(space.join("bin/writes"), fs::Permissions::from_mode(0o755)).unwrap();
    space.ok(&["run"]);
}

#[test]
fn the_key_does_not_depend_on_the_location_of_the_project() {
    let pipeline = "stages:\n  c: { command: { run: own > out, outputs: [out], \
                    env: { PATH: '$PROJECT/bin:/bin' } } }\n";
    let key = || {
        let space = Space::with(pipeline);
        program(&space, "own");
        space.ok(&["run"]);
        space.plan(&[])[0]["key"].clone()
    };
    assert_eq!(key(), key());
}

#[test]
fn a_python_virtual_environment_is_used() {
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
    assert_eq!(space.read(space.object(&space.digests()["c"]["out"])), "True");
}

#[test]
fn another_variable_in_path_is_an_error_of_the_pipeline() {
    let space = Space::with(
        "stages:\n  c: { command: { run: x, outputs: [x], env: { PATH: '$HOME/bin:/bin' } } }\n",
    );
    let error = space.exits(2, &["plan"]).stderr;
    assert!(error.contains("`$HOME` is not expanded in `PATH`"), "{error}");
    space.edit("PATH: '$HOME/bin:/bin'", "WORD: '$HOME'").ok(&["plan"]);
}

#[test]
fn a_failure_hints_at_a_program_that_only_the_users_path_finds() {
    for (run, is) in [
        ("[sh, c.sh]", "so `sh` is `/"),
        ("sh c.sh", "so `sh` is `/"),
        ("[own]", "so `own` is not found; to use `"),
    ] {
        let space = Space::with(&format!(
            "stages:\n  c: {{ command: {{ run: {run}, files: [c.sh], outputs: [out] }} }}\n"
        ));
        space.write("c.sh", "exit 1\n");
        program(&space, "sh");
        program(&space, "own");
        let path = format!("{}:/usr/bin:/bin", space.join("bin").display());
        let error = space.env("PATH", path).exits(1, &["run"]).stderr;
        assert!(error.contains(is), "{run}: {error}");
        let hint = "add `env: { PATH: \"$PROJECT/bin:/usr/local/bin:/usr/bin:/bin\" }`";
        assert!(error.contains(hint), "{run}: {error}");
    }
    let space = Space::with("stages:\n  c: { command: { run: exit 1, outputs: [out] } }\n");
    let error = space.exits(1, &["run"]).stderr;
    assert!(!error.contains("PATH"), "{error}");
}

#[test]
fn a_failure_hints_at_an_undeclared_script_of_the_project() {
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
