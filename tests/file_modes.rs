//! Executable files and empty folders, in later stages, in the lock file and in exports.

use crate::space::{Space, set};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// One stage builds a program, the next one runs it.
const BUILD: &str = "\
stages:
  build:
    command: { run: sh build.sh, files: [build.sh], outputs: [dist/] }
  use:
    command:
      run: inputs/build/dist/bin/tool > out.txt
      inputs: { build: build }
      outputs: [out.txt]
";

const SCRIPT: &str = "mkdir -p dist/bin dist/plugins/none; echo notes > dist/notes
cp build.sh dist/copy
printf '#!/bin/sh\\nhere=${0%%/bin/tool}; cd $here; find . | sort; [ -x notes ] || echo plain\\n' \
> dist/bin/tool
chmod 700 dist/bin/tool\n";

fn build() -> Space {
    let space = Space::with(BUILD);
    space.write("build.sh", SCRIPT);
    space
}

fn out(space: &Space, node: &str) -> String {
    space.output(node, "out.txt")
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_built_program_runs_in_the_next_stage_with_its_empty_folders() {
    let space = build();
    space.ok(&["run"]);
    let found = ".\n./bin\n./bin/tool\n./copy\n./notes\n./plugins\n./plugins/none\nplain\n";
    assert_eq!(out(&space, "use"), found);
    assert!(space.ran(&[]).is_empty());
    assert!(space.ok(&["verify"]).stdout.contains("no damage found"));
}

#[test]
fn a_file_that_becomes_executable_reruns_its_dependents() {
    let space = build();
    space.ok(&["run"]);
    space.write("build.sh", format!("{SCRIPT}chmod +x dist/notes\n"));
    assert_eq!(space.ran(&[]), set(["build", "use"]));
    assert!(!out(&space, "use").contains("plain"));
    space.write("build.sh", format!("{SCRIPT}chmod +x dist/notes\nrmdir dist/plugins/none\n"));
    assert_eq!(space.ran(&[]), set(["build", "use"]));
    assert!(out(&space, "use").contains("./plugins\n") && !out(&space, "use").contains("none"));
}

#[test]
fn a_declared_file_is_executable_as_in_the_project() {
    let space = Space::with(
        "\
stages:
  raw: { file: { path: raw } }
  own: { command: { run: './tool > out.txt', files: [tool], outputs: [out.txt] } }
  given: { command: { run: 'inputs/raw/tool > out.txt', inputs: { raw: raw }, outputs: [out.txt] } }
",
    );
    space.write("tool", "#!/bin/sh\necho own\n").write("raw/tool", "#!/bin/sh\necho raw\n");
    let failed = space.exits(1, &["run", "-k"]).stderr;
    for node in ["own", "given"] {
        assert!(
            failed.contains(&format!("{node}: failed: the command exited with code 126")),
            "{failed}"
        );
    }
    set_mode(space.join("tool"), 0o755);
    set_mode(space.join("raw/tool"), 0o744);
    let why = space.ok(&["why", "own"]).stdout;
    assert!(why.contains("+x"), "{why}");
    assert_eq!(space.ran(&[]), set(["raw", "own", "given"]));
    assert_eq!([out(&space, "own"), out(&space, "given")], ["own\n", "raw\n"]);
    // Only the owner's permission to execute counts.
    set_mode(space.join("tool"), 0o700);
    set_mode(space.join("raw/tool"), 0o555);
    assert!(space.ran(&[]).is_empty());
}

#[test]
fn empty_folders_are_inputs_and_a_declared_folder_without_a_file_is_refused() {
    let space = Space::with(
        "\
stages:
  raw: { file: { path: raw } }
  own:
    command:
      run: find src inputs | sort > out.txt
      files: [src]
      inputs: { raw: raw }
      outputs: [out.txt]
",
    );
    space.write("raw/file", "").write("src/main", "");
    for folder in ["raw/none", "src/deep/none"] {
        fs::create_dir_all(space.join(folder)).unwrap();
    }
    space.ok(&["run"]);
    let all = [
        "inputs",
        "inputs/raw",
        "inputs/raw/file",
        "inputs/raw/none",
        "src",
        "src/deep",
        "src/deep/none",
        "src/main",
    ];
    assert_eq!(out(&space, "own").lines().collect::<Vec<_>>(), all);
    fs::remove_dir(space.join("src/deep/none")).unwrap();
    assert_eq!(space.ran(&[]), set(["own"]));
    fs::remove_file(space.join("src/main")).unwrap();
    let refused = space.exits(2, &["run"]).stderr;
    assert!(refused.contains("stage `own`: there is no file in the folder `src`"), "{refused}");
}

#[test]
fn an_output_folder_may_be_empty_but_must_exist() {
    let space = Space::with("stages: { c: { command: { run: 'mkdir out', outputs: [out/] } } }");
    space.ok(&["run"]);
    assert!(space.ok(&["show", "c"]).stdout.contains("  output   out/ (empty folder)\n"));
    let failed = space.edit("mkdir out", "true").exits(1, &["run"]).stderr;
    assert!(failed.contains("did not write its output `out/`"), "{failed}");
}

#[test]
fn the_lock_lists_executable_files_and_empty_folders() {
    let space = build();
    space.ok(&["run"]);
    space.ok(&["lock"]);
    let lock = space.read("pipeline.lock");
    let line = lock.lines().find(|line| line.starts_with("build ")).unwrap();
    assert!(line.contains("+x ") && line.contains(" dist/plugins/none/=empty-folder"), "{line}");
    assert_eq!(line.matches("+x").count(), 1, "{line}");
    space.ok(&["run", "--locked"]);
    space.write("build.sh", SCRIPT.replace("chmod 700", ": 700"));
    let differs = space.exits(4, &["run", "--locked"]).stderr;
    assert!(
        differs.contains("`build`, `dist/bin/tool`: expected ") && differs.contains("+x, found "),
        "{differs}"
    );
    space.write("build.sh", SCRIPT.replace("/none;", ";"));
    let differs = space.exits(4, &["run", "--locked"]).stderr;
    assert!(
        differs.contains("`dist/plugins/none/`: expected empty-folder, found no such file"),
        "{differs}"
    );
    assert!(
        differs.contains("`dist/plugins/`: expected no such file, found empty-folder"),
        "{differs}"
    );
}

#[test]
fn export_keeps_executable_files_and_empty_folders() {
    let space = build();
    space.ok(&["run"]);
    for _ in 0..2 {
        space.ok(&["export", "build", "there"]);
        let dist = space.join("there/dist");
        assert_eq!(
            (mode(dist.join("bin/tool")) & 0o700, mode(dist.join("notes")) & 0o111),
            (0o700, 0)
        );
        assert!(dist.join("plugins/none").is_dir());
        // The second export overwrites files with other permissions.
        set_mode(dist.join("bin/tool"), 0o600);
        set_mode(dist.join("notes"), 0o755);
    }
    let shown = space.ok(&["show", "build"]).stdout;
    assert!(
        shown.contains(" bytes, executable)\n")
            && shown.contains("dist/plugins/none/ (empty folder)"),
        "{shown}"
    );
}

#[test]
fn a_recomputation_that_differs_in_a_permission_or_a_folder_is_reported() {
    for (more, message) in [
        ("chmod +x d/f", "the cached file is not executable, the recomputed one is"),
        ("rmdir d/e", "it is cached as an empty folder, and was not written again as one"),
        ("mkdir d/g", "it was written, and is not cached"),
    ] {
        let space = Space::with(
            "stages: { c: { command: { run: 'mkdir -p d/e; touch d/f; MORE', outputs: [d/] } } }",
        );
        let flag = space.join("flag");
        space.edit("MORE", &format!("[ ! -e {} ] || {more}", flag.display())).ok(&["run"]);
        fs::write(flag, "").unwrap();
        let output = space.exits(4, &["verify", "--recompute"]);
        assert!(
            format!("{}{}", output.stdout, output.stderr).contains(message),
            "{more}: {} {}",
            output.stdout,
            output.stderr
        );
    }
}

#[test]
fn a_declared_file_cannot_also_be_an_output() {
    let space = Space::with(
        "stages:\n  c:\n    \
         command: { run: 'echo x >> data/a', files: [data], outputs: [data/] }\n",
    );
    space.write("data/a", "");
    insta::assert_snapshot!(space.exits(2, &["run"]).stderr, @r"
    error: pipeline.yaml:2:3: stage `c`: `data/` is in both `files` and `outputs`
    hint: write to another file
    ");
}
