//! The files and folders of a project that stages declare: path spelling, ignored files and links.

use crate::space::{Space, nothing, set};
use std::fs;
use std::os::unix::fs::symlink;

/// A project of one command that declares `files` and lists the files that it finds.
fn listing(files: &str) -> Space {
    Space::with(&format!(
        "stages:\n  c:\n    command:\n      run: 'find . -type f -o -type l | sort > out'\n      \
         files: {files}\n      outputs: [out]\n"
    ))
}

fn listed(space: &Space) -> Vec<String> {
    let text = space.output("c", "out");
    text.lines().filter(|line| *line != "./out").map(str::to_owned).collect()
}

fn key(space: &Space) -> String {
    space.plan(&[])[0]["key"].as_str().unwrap().to_owned()
}

#[test]
fn another_spelling_of_a_path_has_the_same_key() {
    let space = listing("[src/draw.sh]");
    space.write("src/draw.sh", "");
    space.ok(&["run"]);
    let plain = key(&space);
    for (before, after) in [("src/draw", "./src/draw"), ("./src/", "src//"), ("src//", "src/./")] {
        space.edit(before, after).edit("outputs: [", "outputs: [./");
        assert_eq!(space.ran(&[]), nothing(), "{after}");
        assert_eq!(key(&space), plain);
        space.edit("outputs: [./", "outputs: [");
    }
}

#[test]
fn a_path_that_differs_in_case_or_unicode_form_or_needs_a_shell_is_refused_with_a_hint() {
    let case = |path: &str, existing: &str, hint: &str| {
        for space in [
            listing(&format!("['{path}']")),
            Space::with(&format!("stages: {{ c: {{ file: {{ path: '{path}' }} }} }}")),
        ] {
            space.write(existing, "");
            // On this file system the two names are one.
            if space.join(path).exists() {
                continue;
            }
            let refused = space.exits(2, &["plan"]).stderr;
            assert!(refused.contains(hint), "{path}: {refused}");
        }
    };
    case(
        "cafe\u{301}.txt",
        "caf\u{e9}.txt",
        "hint: `caf\\u{e9}.txt` exists, in another Unicode form",
    );
    case("caf\u{e9}/a", "cafe\u{301}/a", "hint: `cafe\\u{301}/a` exists, in another Unicode form");
    case(
        "data/Draw.py",
        "Data/draw.py",
        "hint: did you mean `Data/draw.py`? names are case-sensitive",
    );
    case("~/x", "x", "write the path out");
    case("$HOME/x", "x", "write the path out");
    case("nowhere", "x", "hint: paths are relative to the folder of pipeline.yaml");
}

const IGNORED: [&str; 12] = [
    "__pycache__/a.cpython-312.pyc",
    "deep/__pycache__/b.pyc",
    "c.pyc",
    ".DS_Store",
    "deep/Thumbs.db",
    ".a.py.swp",
    "a.py~",
    ".#a.py",
    "#a.py#",
    ".git/HEAD",
    "deep/.ipynb_checkpoints/x.ipynb",
    "only/.mypy_cache/x",
];

#[test]
fn ignored_files_in_declared_folders_invalidate_nothing() {
    let space = listing("[src, own/.DS_Store, own/.git]");
    space
        .write("src/a.py", "")
        .write("src/deep/b.py", "")
        .write("own/.DS_Store", "")
        .write("own/.git", "");
    fs::create_dir_all(space.join("src/only")).unwrap();
    space.ok(&["run"]);
    let before = (key(&space), listed(&space));
    assert_eq!(
        before.1,
        ["./own/.DS_Store", "./own/.git", "./src/a.py", "./src/deep/b.py"],
        "files named in the pipeline are not ignored"
    );
    for file in IGNORED {
        space.write(&format!("src/{file}"), "ignored");
        assert_eq!(space.ran(&[]), nothing(), "{file}");
    }
    assert_eq!((key(&space), listed(&space)), before);
    let space = listing("[src]");
    space.write("src/.git/HEAD", "");
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(
        refused.contains(
            "there is no file in the folder `src`\nhint: all its files are ignored; see the field"
        ),
        "{refused}"
    );
}

#[test]
fn ignore_replaces_the_default_patterns_and_is_not_part_of_the_key() {
    let space = listing("[src]");
    space
        .write("src/a.py", "")
        .write("src/a.bak", "")
        .write("src/b/a.bak", "")
        .write("src/c.pyc", "");
    space.ok(&["run"]);
    assert_eq!(listed(&space), ["./src/a.bak", "./src/a.py", "./src/b/a.bak"]);
    space.edit("files: [src]", "files: [src]\n      ignore: ['b/*.bak', '*.pyc']").ok(&["run"]);
    assert_eq!(listed(&space), ["./src/a.bak", "./src/a.py"]);
    let selected = key(&space);
    space.edit("'b/*.bak'", "'b'").edit("'b', ", "nothing, 'b/a.*', ");
    assert_eq!(
        (space.ran(&[]), key(&space)),
        (nothing(), selected),
        "the same files, the same key"
    );
    space.edit("[nothing, 'b/a.*', '*.pyc']", "[]").ok(&["run"]);
    assert_eq!(listed(&space), ["./src/a.bak", "./src/a.py", "./src/b/a.bak", "./src/c.pyc"]);
    let two =
        "stages:\n  one: { file: { path: src } }\n  two: { file: { path: src, ignore: [] } }\n";
    space.write("pipeline.yaml", two).ok(&["run"]);
    let has = |stage: &str| space.digests()[stage].contains_key("c.pyc");
    assert_eq!(
        (has("one"), has("two")),
        (false, true),
        "two stages may ignore different files of one folder"
    );
}

#[test]
fn a_link_to_a_declared_file_or_folder_becomes_a_copy() {
    let space = listing("[src, lib]");
    space.write("src/a/x", "1").write("lib/deep/y", "2");
    symlink("a", space.join("src/inside")).unwrap();
    symlink("a/x", space.join("src/file")).unwrap();
    symlink("../lib/deep", space.join("src/beside")).unwrap();
    symlink(space.join("lib"), space.join("src/whole")).unwrap();
    space.edit("-type f -o -type l", "-type f").ok(&["run"]);
    let all =
        ["lib/deep/y", "src/a/x", "src/beside/y", "src/file", "src/inside/x", "src/whole/deep/y"];
    assert_eq!(listed(&space), all.map(|file| format!("./{file}")));
    space.write("lib/deep/y", "3");
    assert_eq!(space.ran(&[]), set(["c"]));
    for (before, after) in [("[src, lib]", "[src]"), ("[src]", "[src, lib/deep]")] {
        let refused = space.edit(before, after).exits(2, &["plan"]).stderr;
        assert!(refused.contains("is a symbolic link to the folder `lib"), "{refused}");
        assert!(refused.contains("hint: declare `lib"), "{refused}");
    }
}

#[test]
fn a_link_may_not_lead_to_a_folder_that_only_another_stage_declares() {
    let two = "stages:\n  a: { file: { path: [src, lib] } }\n  b: { file: { path: src } }\n";
    let other = two
        .replace("[src, lib]", "none")
        .replace("path: src", "path: [src, lib]")
        .replace("none", "src");
    for pipeline in [two, &other] {
        let space = Space::with(pipeline);
        space.write("src/x", "").write("lib/y", "");
        symlink("../lib", space.join("src/lib")).unwrap();
        let refused = space.exits(2, &["plan"]).stderr;
        assert!(refused.contains("`src/lib` is a symbolic link to the folder `lib`"), "{refused}");
    }
}

#[test]
fn a_cycle_of_links_is_refused() {
    let case = |links: &[(&str, &str)]| {
        let space = listing("[src, lib]").wrapped_in(&["timeout", "60"]);
        space.write("src/a/x", "").write("src/b/y", "").write("lib/z", "");
        links.iter().for_each(|(target, link)| symlink(target, space.join(link)).unwrap());
        let refused = space.exits(2, &["plan"]).stderr;
        assert!(refused.contains("is a symbolic link to a folder that contains it"), "{refused}");
    };
    case(&[(".", "src/loop")]);
    case(&[("..", "src/a/loop")]);
    case(&[("../b", "src/a/b"), ("../a", "src/b/a")]);
    case(&[("../lib", "src/lib"), ("../src", "lib/src")]);
}

#[test]
fn a_virtual_environment_that_links_out_of_the_project_is_refused_with_a_hint() {
    let space = listing("[.venv]");
    space
        .write(".venv/pyvenv.cfg", "home = /usr/bin\n")
        .write(".venv/lib/x.py", "")
        .write(".venv/bin/activate", "");
    symlink("lib", space.join(".venv/lib64")).unwrap();
    space.ok(&["run"]);
    symlink("/bin/sh", space.join(".venv/bin/python")).unwrap();
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(refused.contains("`.venv/bin/python` is a symbolic link to `"), "{refused}");
    assert!(
        refused.contains(r#"write `env: { PATH: "$PROJECT/.venv/bin:/usr/bin:/bin" }`"#),
        "{refused}"
    );
}
