//! What stages declare of the project, as it lies on people's disks: names, junk and links.

use crate::space::{Space, nothing, set};
use std::fs;
use std::os::unix::fs::symlink;

/// A project of one command that is given `files` and lists what it was given.
fn given(files: &str) -> Space {
    Space::with(&format!(
        "stages:\n  c:\n    command:\n      run: 'find . -type f -o -type l | sort > out'\n      files: {files}\n      outputs: [out]\n"
    ))
}

fn out(space: &Space) -> Vec<String> {
    let text = space.read(space.object(&space.digests()["c"]["out"]));
    text.lines().filter(|line| *line != "./out").map(str::to_owned).collect()
}

fn key(space: &Space) -> String {
    space.plan(&[])[0]["key"].as_str().unwrap().to_owned()
}

#[test]
fn a_path_that_is_not_written_plainly_is_the_plain_path_with_its_key() {
    let space = given("[src/draw.sh]");
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
fn a_name_that_lies_there_in_another_form_or_that_a_shell_would_expand_is_explained() {
    let case = |path: &str, lies: &str, said: &[&str]| {
        for space in [
            given(&format!("['{path}']")),
            Space::with(&format!("stages: {{ c: {{ file: {{ path: '{path}' }} }} }}")),
        ] {
            space.write(lies, "");
            // A disk that takes the two for one.
            if space.join(path).exists() {
                continue;
            }
            let refused = space.exits(2, &["plan"]).stderr;
            said.iter().for_each(|said| assert!(refused.contains(said), "{path}: {refused}"));
        }
    };
    let form = ["another Unicode form", "hint: `caf\\u{e9}.txt` lies there"];
    case("cafe\u{301}.txt", "caf\u{e9}.txt", &form);
    case(
        "caf\u{e9}/a",
        "cafe\u{301}/a",
        &["another Unicode form", "hint: `cafe\\u{301}/a` lies there"],
    );
    case(
        "data/Draw.py",
        "Data/draw.py",
        &["hint: `Data/draw.py` lies there", "differ in case alone"],
    );
    case("~/x", "x", &["no shell expands"]);
    case("$HOME/x", "x", &["no shell expands"]);
    case("nowhere", "x", &["paths begin at the folder of pipeline.yaml"]);
}

const JUNK: [&str; 12] = [
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
fn junk_is_left_out_of_declared_folders_and_makes_nothing_stale() {
    let space = given("[src, own/.DS_Store, own/.git]");
    space
        .write("src/a.py", "")
        .write("src/deep/b.py", "")
        .write("own/.DS_Store", "")
        .write("own/.git", "");
    fs::create_dir_all(space.join("src/only")).unwrap();
    space.ok(&["run"]);
    let before = (key(&space), out(&space));
    assert_eq!(
        before.1,
        ["./own/.DS_Store", "./own/.git", "./src/a.py", "./src/deep/b.py"],
        "those named are there"
    );
    for junk in JUNK {
        space.write(&format!("src/{junk}"), "junk");
        assert_eq!(space.ran(&[]), nothing(), "{junk}");
    }
    assert_eq!((key(&space), out(&space)), before);
    let refused = given("[src]");
    refused.write("src/.git/HEAD", "");
    let said = refused.exits(2, &["plan"]).stderr;
    assert!(
        said.contains(
            "there is no file in the folder `src`\nhint: what is in it is left out; `ignore`"
        ),
        "{said}"
    );
}

#[test]
fn ignore_replaces_the_list_of_what_is_left_out_and_is_in_no_key() {
    let space = given("[src]");
    space
        .write("src/a.py", "")
        .write("src/a.bak", "")
        .write("src/b/a.bak", "")
        .write("src/c.pyc", "");
    space.ok(&["run"]);
    assert_eq!(out(&space), ["./src/a.bak", "./src/a.py", "./src/b/a.bak"]);
    space.edit("files: [src]", "files: [src]\n      ignore: ['b/*.bak', '*.pyc']").ok(&["run"]);
    assert_eq!(out(&space), ["./src/a.bak", "./src/a.py"]);
    let selected = key(&space);
    space.edit("'b/*.bak'", "'b'").edit("'b', ", "nothing, 'b/a.*', ");
    assert_eq!(
        (space.ran(&[]), key(&space)),
        (nothing(), selected),
        "the same files, the same key"
    );
    space.edit("[nothing, 'b/a.*', '*.pyc']", "[]").ok(&["run"]);
    assert_eq!(out(&space), ["./src/a.bak", "./src/a.py", "./src/b/a.bak", "./src/c.pyc"]);
    let two =
        "stages:\n  one: { file: { path: src } }\n  two: { file: { path: src, ignore: [] } }\n";
    space.write("pipeline.yaml", two).ok(&["run"]);
    let has = |stage: &str| space.digests()[stage].contains_key("c.pyc");
    assert_eq!(
        (has("one"), has("two")),
        (false, true),
        "two stages may leave out other things of one folder"
    );
}

#[test]
fn a_link_that_stays_inside_or_leads_to_what_is_declared_is_laid_out_as_a_copy() {
    let space = given("[src, lib]");
    space.write("src/a/x", "1").write("lib/deep/y", "2");
    symlink("a", space.join("src/inside")).unwrap();
    symlink("a/x", space.join("src/file")).unwrap();
    symlink("../lib/deep", space.join("src/beside")).unwrap();
    symlink(space.join("lib"), space.join("src/whole")).unwrap();
    space.edit("-type f -o -type l", "-type f").ok(&["run"]);
    let all =
        ["lib/deep/y", "src/a/x", "src/beside/y", "src/file", "src/inside/x", "src/whole/deep/y"];
    assert_eq!(out(&space), all.map(|file| format!("./{file}")));
    space.write("lib/deep/y", "3");
    assert_eq!(space.ran(&[]), set(["c"]));
    for (before, after) in [("[src, lib]", "[src]"), ("[src]", "[src, lib/deep]")] {
        let refused = space.edit(before, after).exits(2, &["plan"]).stderr;
        assert!(refused.contains("is a symbolic link to the folder `lib"), "{refused}");
        assert!(refused.contains("hint: declare `lib"), "{refused}");
    }
}

#[test]
fn what_one_stage_declares_lets_no_link_of_another_lead_there() {
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
fn links_in_a_circle_end_with_an_error() {
    let ends = |links: &[(&str, &str)]| {
        let space = given("[src, lib]").wrapped_in(&["timeout", "60"]);
        space.write("src/a/x", "").write("src/b/y", "").write("lib/z", "");
        links.iter().for_each(|(target, link)| symlink(target, space.join(link)).unwrap());
        let refused = space.exits(2, &["plan"]).stderr;
        assert!(refused.contains("is a symbolic link to a folder that it lies in"), "{refused}");
    };
    ends(&[(".", "src/loop")]);
    ends(&[("..", "src/a/loop")]);
    ends(&[("../b", "src/a/b"), ("../a", "src/b/a")]);
    ends(&[("../lib", "src/lib"), ("../src", "lib/src")]);
}

#[test]
fn a_virtual_environment_is_refused_with_what_to_write_instead() {
    let space = given("[.venv]");
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
