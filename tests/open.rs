//! The stage kinds for any study: `file` brings the project's files in by content, `command` runs any program.

use crate::space::{Space, copy, is_alive, name, nothing, set, wait_until};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

const PIPELINE: &str = "\
stages:
  raw:
    file: { path: data/raw }
  count:
    command:
      run: sh count.sh
      files: [count.sh]
      inputs: { rows: raw }
      outputs: [count.txt]
      env: { LABEL: rows }
      params: { factor: 2 }
      time-limit: 60
      retries: 0
      threads: 1
      memory: 1MiB
  told:
    command: { run: 'cp inputs/count/count.txt told.txt', inputs: { count: count }, outputs: [told.txt] }
";

const COUNT: &str =
    "cat inputs/rows/*.csv | wc -l > count.txt\necho \"$LABEL $REPRO_PARAM_FACTOR\" >> count.txt\n";

fn space() -> Space {
    let space = Space::with(PIPELINE);
    space.write("count.sh", COUNT).write("data/raw/a.csv", "1\n2\n").write("data/raw/b.csv", "3\n");
    space
}

fn run_space() -> Space {
    let space = space();
    assert_eq!(space.ran(&[]), set(["raw", "count", "told"]));
    assert_eq!(space.ran(&[]), nothing());
    space
}

/// Changes a project that has run, and runs it again: what ran, which had been planned.
#[track_caller]
fn after(change: impl Fn(&Space)) -> BTreeSet<String> {
    let space = run_space();
    change(&space);
    let planned = space.pending(&[]);
    let ran = space.ran(&[]);
    assert!(ran.is_subset(&planned), "{ran:?} of {planned:?}");
    assert_eq!(space.ran(&[]), nothing());
    ran
}

/// A project of one command that writes `out.txt`.
fn line(run: &str, more: &str) -> Space {
    Space::with(&format!(
        "stages:\n  c:\n    command:\n      run: |\n        {run}\n      outputs: [out.txt]\n{more}"
    ))
}

/// What the node `c` wrote.
fn out(space: &Space) -> String {
    space.read(space.object(&space.digests()["c"]["out.txt"]))
}

// What invalidates.

#[test]
fn the_bytes_of_a_programs_file_do_and_the_reason_names_it() {
    let space = run_space();
    space.write("count.sh", format!("{COUNT}echo more >> count.txt\n"));
    let why = space.ok(&["why", "count"]).stdout;
    assert!(why.contains("  file count.sh ") && why.contains(" -> "), "{why}");
    assert_eq!(space.ran(&[]), set(["count", "told"]));
}

#[test]
fn a_comment_in_a_programs_file_reruns_it_and_nothing_after_it() {
    assert_eq!(
        after(|space| _ = space.write("count.sh", format!("# counts\n{COUNT}"))),
        set(["count"])
    );
}

#[test]
fn the_command_line_does() {
    assert_eq!(
        after(|space| _ = space.edit("run: sh count.sh", "run: sh ./count.sh")),
        set(["count"])
    );
    let argv = |space: &Space| _ = space.edit("run: sh count.sh", "run: [sh, count.sh]");
    assert_eq!(after(argv), set(["count"]));
}

#[test]
fn a_value_of_its_environment_does() {
    assert_eq!(
        after(|space| _ = space.edit("LABEL: rows", "LABEL: lines")),
        set(["count", "told"])
    );
}

#[test]
fn a_parameter_of_its_own_does() {
    assert_eq!(after(|space| _ = space.edit("factor: 2", "factor: 3")), set(["count", "told"]));
}

#[test]
fn one_more_output_does() {
    let more = |space: &Space| {
        _ = space.edit("outputs: [count.txt]", "outputs: [count.txt, count.sh.log]")
    };
    let space = run_space();
    more(&space);
    assert_eq!(space.pending(&[]), set(["count", "told"]));
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("the command did not write its output `count.sh.log`"), "{failed}");
}

#[test]
fn the_bytes_of_a_file_do_and_the_reason_names_it() {
    let space = run_space();
    space.write("data/raw/a.csv", "1\n2\n4\n");
    let plan = space.ok(&["plan"]).stdout;
    assert!(plan.contains("  stale        raw: file a.csv "), "{plan}");
    assert_eq!(space.ran(&[]), set(["raw", "count", "told"]));
}

#[test]
fn bytes_that_are_counted_alike_stop_at_the_count() {
    assert_eq!(after(|space| _ = space.write("data/raw/a.csv", "8\n9\n")), set(["raw", "count"]));
}

#[test]
fn a_file_more_and_a_file_less_in_a_folder_do() {
    assert_eq!(after(|space| _ = space.write("data/raw/sub/c.txt", "")), set(["raw", "count"]));
    let fewer = |space: &Space| fs::remove_file(space.join("data/raw/b.csv")).unwrap();
    assert_eq!(after(fewer), set(["raw", "count", "told"]));
}

#[test]
fn the_name_of_a_file_in_a_folder_does() {
    let rename = |space: &Space| {
        fs::rename(space.join("data/raw/a.csv"), space.join("data/raw/z.csv")).unwrap()
    };
    assert_eq!(after(rename), set(["raw", "count"]));
}

#[test]
fn an_input_under_another_name_does() {
    let rename = |space: &Space| {
        space.edit("inputs: { rows: raw }", "inputs: { lines: raw }");
        space.write("count.sh", COUNT.replace("inputs/rows", "inputs/lines"));
    };
    assert_eq!(after(rename), set(["count"]));
}

#[test]
fn the_keys_of_known_questions_are_pinned() {
    // If this fails, what users have cached is asked for anew: see `engine::key`.
    let space = run_space();
    let keys = space
        .plan(&[])
        .iter()
        .map(|node| format!("{} {}", name(node), node["key"].as_str().unwrap()))
        .collect::<Vec<_>>();
    insta::assert_snapshot!(keys.join("\n"), @r"
    raw 40737ebd8bcf9885e8a28d8bda5f4685dc4f235f13e16a5d29108c346bd518ea
    count 810da77c20641941845e8262bc0e9e7daf1b6f4f11056cfecb26530b61038dd8
    told f7fb0a3c13acf5b6e0cabf09f6f33df0038ab4836592f5a5a523a72d04582d72
    ");
}

// What does not.

#[test]
fn what_is_asked_of_the_machine_does_not() {
    let unmoved = |from: &str, to: &str| {
        assert_eq!(after(|space| _ = space.edit(from, to)), nothing(), "{to}")
    };
    unmoved("time-limit: 60", "time-limit: 61.5");
    unmoved("retries: 0", "retries: 3");
    unmoved("threads: 1", "threads: 7");
    unmoved("memory: 1MiB", "memory: 2GiB");
}

#[test]
fn touching_a_file_does_not() {
    let touch = |space: &Space| {
        for file in ["count.sh", "data/raw/a.csv"] {
            File::options()
                .append(true)
                .open(space.join(file))
                .unwrap()
                .set_modified(SystemTime::now())
                .unwrap();
        }
    };
    assert_eq!(after(touch), nothing());
}

#[test]
fn writing_the_same_bytes_anew_does_not() {
    assert_eq!(
        after(|space| _ = space.write("data/raw/a.csv", "1\n2\n").write("count.sh", COUNT)),
        nothing()
    );
}

#[test]
fn another_place_of_a_folder_does_not() {
    let rename = |space: &Space| {
        fs::rename(space.join("data/raw"), space.join("data/elsewhere")).unwrap();
        space.edit("path: data/raw", "path: data/elsewhere/");
    };
    assert_eq!(after(rename), nothing());
}

#[test]
fn moving_the_project_does_not() {
    let space = run_space();
    let moved = Space::with(PIPELINE);
    copy(space.path(), moved.path(), false);
    assert_eq!(moved.ran(&[]), nothing());
}

#[test]
fn a_stages_name_does_not() {
    assert_eq!(
        after(
            |space| _ = space.edit("  raw:\n", "  rohdaten:\n").edit("rows: raw", "rows: rohdaten")
        ),
        nothing()
    );
}

#[test]
fn the_callers_environment_does_not() {
    assert_eq!(
        run_space().env("LABEL", "stranger").env("REPRO_PARAM_FACTOR", "9").ran(&[]),
        nothing()
    );
}

// Files.

#[test]
fn a_single_file_goes_by_its_own_name_and_a_list_holds_them_all() {
    let pipeline = "stages:\n  c: { file: { path: [data/out.txt, data/more/] } }\n";
    let space = Space::with(pipeline);
    space.write("data/out.txt", "one").write("data/more/deep/two.txt", "two").ok(&["run"]);
    let outputs = space.digests()["c"].clone();
    assert_eq!(outputs.keys().collect::<Vec<_>>(), ["deep/two.txt", "out.txt"]);
    assert_eq!(space.read(space.object(&outputs["deep/two.txt"])), "two");
}

#[test]
fn a_file_may_lie_outside_of_the_project() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("out.txt"), "far").unwrap();
    let absolute = Space::with(&format!(
        "stages:\n  c: {{ file: {{ path: {}/out.txt }} }}\n",
        elsewhere.path().display()
    ));
    absolute.ok(&["run"]);
    assert_eq!(out(&absolute), "far");
    let name = elsewhere.path().file_name().unwrap().to_str().unwrap();
    let above = Space::with(&format!("stages:\n  c: {{ file: {{ path: ../{name}/out.txt }} }}\n"));
    above.ok(&["run"]);
    assert_eq!(out(&above), "far");
}

#[test]
fn a_link_to_a_file_is_followed_and_one_out_to_a_folder_is_refused() {
    let space = space();
    space.write("elsewhere/c.csv", "5\n");
    symlink("../../elsewhere/c.csv", space.join("data/raw/c.csv")).unwrap();
    space.ok(&["run"]);
    assert_eq!(space.read(space.object(&space.digests()["raw"]["c.csv"])), "5\n");
    space.write("elsewhere/c.csv", "6\n");
    assert_eq!(space.ran(&[]), set(["raw", "count"]));
    symlink("..", space.join("data/raw/loop")).unwrap();
    let refused = space.exits(2, &["plan"]).stderr;
    insta::assert_snapshot!(refused, @r"
    error: pipeline.yaml:2:3: stage `raw`: `data/raw/loop` is a symbolic link to the folder `data`, which the stage does not declare
    hint: declare `data` as well, or put a copy in the place of the link
    ");
}

#[test]
fn what_cannot_be_brought_in_is_refused_with_its_name() {
    #[track_caller]
    fn case(spoil: impl Fn(&Path), said: &str) {
        let space = space();
        spoil(&space.join("data/raw"));
        let refused = space.exits(2, &["run"]).stderr;
        assert!(
            refused.contains(&format!("error: pipeline.yaml:2:3: stage `raw`: {said}")),
            "{refused}"
        );
    }
    case(
        |raw| fs::remove_dir_all(raw).unwrap(),
        "there is no file or folder `data/raw`\nhint: paths begin at",
    );
    case(
        |raw| {
            fs::remove_dir_all(raw).unwrap();
            fs::create_dir_all(raw.join("empty")).unwrap();
        },
        "there is no file in the folder `data/raw`",
    );
    case(
        |raw| symlink("nowhere", raw.join("x")).unwrap(),
        "there is no file or folder `data/raw/x`",
    );
    case(|raw| symlink("x", raw.join("x")).unwrap(), "cannot read `data/raw/x`: ");
    let bad = std::ffi::OsStr::from_bytes(b"\xff.csv");
    case(
        |raw| fs::write(raw.join(bad), "").unwrap(),
        "the name of `data/raw/\u{fffd}.csv` is not UTF-8",
    );
    let fifo =
        |raw: &Path| assert!(Command::new("mkfifo").arg(raw.join("f")).status().unwrap().success());
    case(fifo, "`data/raw/f` is neither a file nor a folder");
}

#[test]
fn the_cache_is_not_brought_into_itself() {
    let space = Space::with("stages:\n  c: { file: { path: . } }\n");
    let refused = space.exits(2, &["run"]).stderr;
    assert!(
        refused.contains("stage `c`: `./cache/v2` is the cache itself\nhint: declare the folders"),
        "{refused}"
    );
}

#[test]
fn two_files_of_one_name_are_refused() {
    let space = Space::with("stages:\n  c: { file: { path: [a/x, b/x] } }\n");
    space.write("a/x", "").write("b/x", "");
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(
        refused.contains("stage `c`: two of its files are called `x`\nhint: rename one"),
        "{refused}"
    );
    let nothing = Space::with("stages:\n  c: { file: {} }\n").exits(2, &["plan"]).stderr;
    assert!(nothing.contains("the field `path` is missing\nhint: write `path: FILE`"), "{nothing}");
}

#[test]
fn a_file_that_is_missing_stops_only_what_hangs_on_it() {
    let space = Space::with(&format!(
        "{PIPELINE}  other:\n    command: {{ run: touch x, outputs: [x] }}\n"
    ));
    assert_eq!(space.ran(&["other"]), set(["other"]));
    space.exits(2, &["run", "told"]);
}

#[test]
fn planning_writes_nothing() {
    let space = space();
    for arguments in [&["plan"][..], &["why", "told"], &["graph"]] {
        space.ok(arguments);
        assert!(!space.join("cache").exists(), "{arguments:?}");
    }
}

#[test]
fn a_file_that_changes_during_the_run_fails_it() {
    let space = space();
    let file = space.join("data/raw/a.csv");
    space.write(
        "count.sh",
        format!("{COUNT}[ -e {0}.bak ] || (cp {0} {0}.bak && echo 9 >> {0})\n", file.display()),
    );
    space.edit("path: data/raw", "path: data/raw/a.csv");
    let failed = space.exits(1, &["run"]).stderr;
    insta::assert_snapshot!(failed.lines().filter(|line| !line.contains(" ran")).collect::<Vec<_>>().join("\n"), @r"
    3 nodes
    error: the file `data/raw/a.csv` changed while the run read it; what was made is of the file as it was
    hint: `repro run` again goes by the file as it is now
    ");
    let log = space.ok(&["log"]).stdout;
    assert!(log.lines().nth(1).unwrap().ends_with("  failed"), "{log}");
    assert_eq!(space.ran(&[]), set(["raw", "count", "told"]));
}

#[test]
fn a_file_that_appears_during_the_run_fails_it_and_one_that_is_only_touched_does_not() {
    let space = space();
    space.write("count.sh", format!("{COUNT}touch {}\n", space.join("data/raw/a.csv").display()));
    space.ok(&["run"]);
    space.write("count.sh", format!("{COUNT}touch {}\n", space.join("data/raw/new").display()));
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("the file `data/raw/new` changed while the run read it"), "{failed}");
}

#[test]
fn a_programs_file_that_changes_before_its_turn_is_not_run() {
    let space = space();
    let late = space.join("late.sh");
    space.write("late.sh", "cp inputs/count/count.txt told.txt\n");
    space.edit("run: 'cp inputs/count/count.txt told.txt',", "run: sh late.sh, files: [late.sh],");
    space.write("count.sh", format!("{COUNT}echo echo hello >> {}\n", late.display()));
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("the file `late.sh` changed while the run read it"), "{failed}");
    assert_eq!(space.pending(&[]), set(["told"]));
}

#[test]
fn what_comes_from_files_may_fill_any_slot_that_it_has_the_files_for() {
    let space = Space::with(
        "stages:\n  raw: { file: { path: nets } }\n  m: { align: { a: raw, b: raw } }\n",
    );
    space.write("nets/other.safetensors", "");
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(
        refused.contains("stage `m`: `a` takes `net.safetensors`, which `raw` does not have"),
        "{refused}"
    );
    space.write("nets/net.safetensors", "");
    assert_eq!(space.pending(&[]), set(["raw", "m"]));
    let space = Space::with(
        "stages:\n  c: { command: { run: x, outputs: [x] } }\n  m: { align: { a: c, b: c } }\n",
    );
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(
        refused.contains("stage `m`: `a` takes `net.safetensors`, which `c` does not make"),
        "{refused}"
    );
}

// Commands.

#[test]
fn a_program_is_given_what_it_declares_and_nothing_else() {
    let space = space().env("SECRET", "s").env("LANG", "xx");
    let script = "env | sed 's/=.*//' | sort > count.txt; find . -type f | sort >> count.txt; echo $HOME $TMPDIR >> count.txt";
    space.write("count.sh", format!("{script}; wc -c >> count.txt\n")).ok(&["run"]);
    let text = space.read(space.object(&space.digests()["count"]["count.txt"]));
    let lines: Vec<&str> = text.lines().collect();
    let names = ["HOME", "LABEL", "PATH", "PWD", "REPRO_PARAM_FACTOR", "TMPDIR"];
    let files = ["./count.sh", "./count.txt", "./inputs/rows/a.csv", "./inputs/rows/b.csv"];
    assert_eq!(lines[..10], [&names[..], &files[..]].concat());
    let (home, tmp) = lines[10].split_once(' ').unwrap();
    assert!(home == tmp && tmp.starts_with("/tmp/repro-"), "{}", lines[10]);
    assert_eq!(lines[11], "0", "and nobody speaks to it");
}

#[test]
fn a_unix_socket_fits_into_the_folder_for_temporary_files_wherever_the_project_is() {
    let script = "import multiprocessing as m, os, sys\nassert not os.listdir(os.environ['TMPDIR'])\n\
        open(os.environ['TMPDIR'] + '/left', 'w')\nos.chmod(os.environ['TMPDIR'], 0o500)\n\
        print(m.Manager().list([1, 2]), file=open(sys.argv[1], 'w'))\n";
    let outer = tempfile::tempdir().unwrap();
    let deep = outer.path().join("x".repeat(100));
    fs::create_dir(&deep).unwrap();
    for tmpdir in ["/tmp", "/nowhere", deep.to_str().unwrap()] {
        let space = Space::with(
            "stages:\n  c: { command: { run: 'python3 $REPRO_PARAM_N.py out', params: { n: [a, b] }, \
             files: [a.py, b.py], outputs: [out] } }\n",
        );
        let space = space.env("TMPDIR", tmpdir);
        let script = script.replace("sys.argv[1]", "'out'");
        space
            .write("a.py", &script)
            .write("b.py", format!("{script}# b\n"))
            .ok(&["run", "-j", "1"]);
        assert_eq!(space.ran(&[]).len(), 0);
    }
}

#[test]
fn a_list_is_a_program_with_its_arguments_and_a_line_is_for_the_shell() {
    let space = Space::with(
        "stages:\n  c: { command: { run: [sh, -c, 'echo \"$0\" $1 > out.txt', '*', 2], outputs: [out.txt] } }\n",
    );
    space.ok(&["run"]);
    assert_eq!(out(&space), "* 2\n");
    let space = line("echo one |", "");
    space.edit("echo one |", "echo one | tr a-z A-Z > out.txt").ok(&["run"]);
    assert_eq!(out(&space), "ONE\n");
}

#[test]
fn lines_for_the_shell_end_at_the_first_that_fails() {
    #[track_caller]
    fn case(lines: &[&str], more: &str, fails: bool) {
        let run: String = lines.iter().map(|line| format!("        {line}\n")).collect();
        let space = Space::with(&format!(
            "stages:\n  c:\n    command:\n      outputs: [n]\n{more}      run: |\n{run}        touch n\n"
        ));
        let run = space.run(&["run"]);
        assert_eq!(run.code, Some(i32::from(fails)), "{lines:?} {more}\n{}", run.stderr);
        assert_eq!(space.pending(&[]).is_empty(), !fails, "a failure is not cached");
    }
    const BASH: &str = "      shell: bash\n";
    for lines in [
        &["cat nosuch > n"][..],
        &["false"],
        &["(exit 3)"],
        &["x=$(false)"],
        &["true", "if true; then false; fi"],
        &["for i in 1 2; do false; done"],
        &["f() { false; }", "f"],
        &["nosuchprogram"],
        &["echo x | grep y > n"],
        &["true && false"],
        &["cd nosuch"],
    ] {
        case(lines, "", true);
        case(lines, BASH, true);
    }
    // What README says `sh` does not see.
    for lines in [&["cat nosuch | wc -l > n"][..], &["false | true"], &["echo $NOSUCH > n"]] {
        case(lines, "", false);
        case(lines, BASH, true);
    }
    // What it says neither does.
    for lines in [
        &["if false; then true; fi"][..],
        &["false && true"],
        &["false || true"],
        &["! true"],
        &["echo $(false)"],
    ] {
        case(lines, "", false);
        case(lines, BASH, false);
    }
    case(&["false &", "wait"], "", false);
    case(&["set +e", "false"], "", false);
}

#[test]
fn the_shell_is_part_of_the_key_unless_it_is_the_default_one() {
    let space = line("touch out.txt", "");
    space.ok(&["run"]);
    space.edit("      outputs:", "      shell: sh\n      outputs:");
    assert_eq!(space.ran(&[]), nothing());
    space.edit("shell: sh", "shell: bash");
    assert_eq!(space.ran(&[]), set(["c"]));
}

#[test]
fn a_list_of_inputs_is_gathered_and_a_single_one_lends_its_axes() {
    let space = Space::with(
        "stages:
  a: { command: { run: 'echo $REPRO_PARAM_K > a.txt', outputs: [a.txt], params: { k: [1, 2], text: x } } }
  b: { command: { run: 'cat inputs/a/a.txt > b.txt', inputs: { a: a }, outputs: [b.txt] } }
  c: { command: { run: 'cat inputs/b/*/b.txt | sort > out.txt; ls inputs/b >> out.txt', inputs: { b: [b] }, outputs: [out.txt] } }
  d: { command: { run: 'cat inputs/one/0/a.txt > d.txt', inputs: { one: ['a@k=2'] }, outputs: [d.txt] } }
",
    );
    let ran = space.ran(&[]);
    assert_eq!(ran, set(["a@k=1", "a@k=2", "b@k=1", "b@k=2", "c", "d"]));
    assert_eq!(out(&space), "1\n2\n0\n1\n");
    assert_eq!(space.plan(&["a@text=x"]).len(), 2, "nodes are selected by parameters of their own");
}

#[test]
fn a_program_cannot_write_to_what_it_is_given() {
    let space = space();
    let harm = "for f in inputs/rows/*; do (echo x >> $f) 2> /dev/null; chmod u+w $f; echo x >> $f; rm -f $f; done";
    space.write("count.sh", format!("{harm}; {COUNT}"));
    space.ok(&["run"]);
    assert_eq!(space.read("data/raw/a.csv"), "1\n2\n");
    let stored = space.digests()["raw"]["a.csv"].clone();
    assert_eq!(space.read(space.object(&stored)), "1\n2\n");
    assert!(space.ok(&["verify"]).stdout.contains("no damage found"));
}

#[test]
fn what_outlives_a_program_can_no_longer_change_its_answer() {
    let space = line(
        "(sleep 0.2; echo late >> out.txt; sleep 1000) & echo $! > pid; echo done | tee -a out.txt; cp pid x",
        "",
    );
    space.edit("outputs: [out.txt]", "outputs: [out.txt, x]").ok(&["run"]);
    assert_eq!(out(&space), "done\n");
    let pid = space.read(space.object(&space.digests()["c"]["x"]));
    assert!(!is_alive(pid.trim()), "it ends with its job");
}

#[test]
fn undeclared_files_are_left_out_and_named_in_the_log() {
    let space = line(
        "echo y > out.txt; mkdir d; echo z > d/stray; ln -s d link; touch \"$(printf '\\377')\"",
        "",
    );
    space.ok(&["run"]);
    assert_eq!(space.digests()["c"].keys().collect::<Vec<_>>(), ["out.txt"]);
    assert_eq!(
        space.ok(&["logs", "c"]).stdout,
        "not declared, and left out: `d/stray`, `link`, `\u{fffd}`\n"
    );
}

#[test]
fn a_program_may_leave_read_only_folders_whether_it_ends_well_or_not() {
    for (last, code, said) in
        [("touch out.txt", 0, "1 ran, 0 failed"), ("false", 1, "ended with exit code 1\n")]
    {
        let space =
            line(&format!("mkdir -p d/e; touch d/e/f; chmod -R a-w d; {last}"), "").unprivileged();
        let told = space.exits(code, &["run"]).stderr;
        assert!(told.contains(said), "{told}");
        assert_eq!(space.files("tmp").len(), 0, "{last}");
    }
}

#[test]
fn a_folder_may_be_an_output() {
    let space = line("mkdir -p d/e; echo 1 > d/a; echo 2 > d/e/b; touch out.txt", "");
    space.edit("outputs: [out.txt]", "outputs: [out.txt, d/]").ok(&["run"]);
    assert_eq!(space.digests()["c"].keys().collect::<Vec<_>>(), ["d/a", "d/e/b", "out.txt"]);
}

#[test]
fn how_a_program_failed_is_said_with_the_end_of_its_log() {
    #[track_caller]
    fn case(run: &str, said: &str) {
        let failed = line(run, "").exits(1, &["run"]).stderr;
        assert!(failed.contains(said), "{run}:\n{failed}");
    }
    case(
        "echo trouble >&2; exit 3",
        "c: failed: the command ended with exit code 3\n    trouble\n",
    );
    case("kill -11 $$", "c: failed: the command died of signal 11\n");
    case("kill -9 $$", "c: failed: the command died of signal 9 (killed; out of memory?)\n");
    case("nosuchprogram", "exit code 127, a shell's word for a program not found");
    case("true", "c: failed: the command did not write its output `out.txt`\n");
    case(
        "touch uot.txt",
        "c: failed: the command did not write its output `out.txt`, but `uot.txt`\n",
    );
    case(
        "ln -s /etc/hostname out.txt",
        "c: failed: the output `out.txt` is neither a file nor a folder\n",
    );
    case("ln -s /etc etc; touch out.txt; false", "exit code 1\n");
    let space = line("mkdir d; touch out.txt \"d/$(printf 'a\\377')\"", "");
    let failed =
        space.edit("outputs: [out.txt]", "outputs: [out.txt, d/]").exits(1, &["run"]).stderr;
    assert!(
        failed.contains("c: failed: the output `d/a\u{fffd}` has a name that is not UTF-8\n"),
        "{failed}"
    );
    let space = Space::with("stages:\n  c: { command: { run: [nosuchprogram], outputs: [x] } }\n");
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("c: failed: cannot start `nosuchprogram`: No such file"), "{failed}");
}

#[test]
fn what_is_declared_wrongly_is_refused_before_anything_runs() {
    #[track_caller]
    fn case(fields: &str, said: &str) {
        let space = Space::with(&format!(
            "stages:\n  a: {{ fetch: {{ dataset: digits }} }}\n  c: {{ command: {{ {fields} }} }}\n"
        ));
        let refused = space.exits(2, &["plan"]).stderr;
        assert!(refused.contains(said), "{fields}:\n{refused}");
        assert!(refused.starts_with("error: pipeline.yaml:3:"), "{refused}");
    }
    case("run: x", "the field `outputs` is missing");
    case(
        "run: x, outputs: [../x]",
        "`../x` in `outputs` is no path below the project\nhint: name a file below",
    );
    case(
        "run: x, outputs: [x], files: [/etc/passwd]",
        "hint: a file from elsewhere comes in by a stage of kind `file`",
    );
    case(
        "run: x, outputs: [x], inputs: a",
        "`inputs` must be a mapping, not `a`\nhint: write `inputs: { name: STAGE }`",
    );
    case(
        "run: x, outputs: [x], inputs: { files: a }",
        "`files` cannot be the name of an input\nhint: a name is",
    );
    case("run: x, outputs: [x], inputs: { ../a: a }", "`../a` cannot be the name of an input");
    case(
        "run: x, outputs: [x], inputs: { a: b }",
        "`a` names no stage: `b`\nhint: known: `a`, `c`",
    );
    case(
        "run: x, outputs: [x], params: { a: { b: 1 } }",
        "the parameter `a` is neither text nor number",
    );
    case(
        "run: x, outputs: [x], env: { PY: ~ }",
        "`env.PY`: expected a text, found nothing\nhint: write a text, or put",
    );
    case(
        "run: [x], shell: bash, outputs: [x]",
        "`shell` is for a text, and `run` is a list\nhint: write `run: |`",
    );
    case(
        "run: x, shell: zsh, outputs: [x]",
        "`shell`: unknown value `zsh`\nhint: known: `sh`, `bash`",
    );
    case("run: x, outputs: [x], time-limit: soon", "`time-limit: soon` is no time");
    case(
        "run: x, outputs: [x], timelimit: 3",
        "unknown field `timelimit`\nhint: did you mean `time-limit`?",
    );
    case(
        "run: x, outputs: [x], files: [nosuch.py]",
        "stage `c`: there is no file or folder `nosuch.py`",
    );
}

#[test]
fn a_program_that_takes_too_long_is_ended_with_all_it_has_started() {
    let space = line("true", "      time-limit: 0.4\n");
    let pids = space.join("pids");
    space.edit("true", &format!("sleep 1000 & echo $$ $! > {}; sleep 1000", pids.display()));
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("c: failed: it took longer than 0.4 s\n"), "{failed}");
    for pid in space.read("pids").split_whitespace() {
        assert!(!is_alive(pid), "{pid}");
    }
    assert_eq!(space.leases(), BTreeSet::new());
}

#[test]
fn a_program_that_takes_too_long_is_ended_even_if_its_run_was_killed() {
    let space = line("true", "      time-limit: 2\n");
    let pids = space.join("pids");
    space
        .edit("true", &format!("sleep 1000 & echo $$ $! > p; mv p {}; sleep 1000", pids.display()));
    let run = space.spawn(&["run", "--json"]);
    wait_until("it runs", || pids.exists());
    run.orphan_jobs();
    for pid in space.read("pids").split_whitespace() {
        wait_until("it is gone", || !is_alive(pid));
    }
    space.edit(
        &format!("sleep 1000 & echo $$ $! > p; mv p {}; sleep 1000", pids.display()),
        "touch out.txt",
    );
    assert_eq!(space.ran(&[]), set(["c"]), "and nothing holds the next run up");
}

#[test]
fn a_run_that_is_given_up_leaves_no_program_behind() {
    for (signals, trap) in [
        (&["INT"][..], ""),
        (&["TERM"], ""),
        (&["INT", "INT"], "trap '' TERM; "),
        (&["TERM"], "trap '' TERM; "),
    ] {
        let space = line("true", "");
        let pids = space.join("pids");
        space.edit(
            "true",
            &format!(
                "{trap}sleep 1000 & echo $$ $! > p; mv p {}; sleep 1000; sleep 1000",
                pids.display()
            ),
        );
        let run = space.spawn(&["run", "--json"]);
        wait_until("it runs", || pids.exists());
        let told = Instant::now();
        for signal in signals {
            run.signal(signal);
            std::thread::sleep(Duration::from_millis(150));
        }
        let (code, said) = run.wait();
        assert_eq!(code, Some(130), "{said}");
        assert!(
            told.elapsed() < Duration::from_secs(5),
            "{signals:?} {trap}: {:?}",
            told.elapsed()
        );
        for pid in space.read("pids").split_whitespace() {
            wait_until("it is gone", || !is_alive(pid));
        }
    }
}

#[test]
fn a_stage_may_ask_to_be_tried_again() {
    let space = line("true", "      retries: 2\n");
    let tries = space.join("tries");
    space.edit(
        "true",
        &format!("echo x >> {0}; [ $(wc -l < {0}) = 3 ]; touch out.txt", tries.display()),
    );
    let ran = space.ok(&["run", "--json"]);
    assert_eq!(ran.ran(), set(["c"]));
    assert_eq!(ran.nodes_of("retrying"), set(["c"]));
    assert_eq!(space.read("tries").lines().count(), 3);
}

/// Runs two commands that would run side by side, given `more` fields: whether they did.
fn overlap(more: &str) -> bool {
    let space = line("true", &format!("      params: {{ k: [1, 2] }}\n{more}"));
    let (busy, both) = (space.join("busy"), space.join("both"));
    let run = format!(
        "mkdir {0} || touch {1}; sleep 0.7; rmdir {0} || true; touch out.txt",
        busy.display(),
        both.display()
    );
    space.edit("true", &run).ok(&["run", "-j", "2", "-k"]);
    both.exists()
}

#[test]
fn threads_and_memory_that_are_asked_for_are_kept_free() {
    assert!(overlap(""), "else this test says nothing");
    assert!(!overlap("      threads: 2\n"));
    assert!(!overlap("      threads: 64\n"), "more than there are: alone");
    assert!(!overlap("      memory: 900TiB\n"));
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "whoever reads the test's output should know that nothing was tested"
)]
fn a_python_step_draws_a_figure_into_the_report() {
    if Command::new("/usr/bin/env")
        .args(["-i", "PATH=/usr/local/bin:/usr/bin:/bin", "python3", "-V"])
        .output()
        .is_ok_and(|o| !o.status.success())
    {
        println!("skipped: there is no python3 in /usr/local/bin, /usr/bin or /bin");
        return;
    }
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python-figure");
    let read = |name: &str| fs::read_to_string(example.join(name)).unwrap();
    let space = Space::with(&read("pipeline.yaml"));
    space.write("draw.py", read("draw.py")).ok(&["run"]);
    let report = space.read("reports/default/report.md");
    let html = space.read("reports/default/report.html");
    for (method, file) in
        [("linear", "figure.svg"), ("arc", "figure.svg"), ("linear", "figure-2.svg")]
    {
        assert!(
            report.contains(&format!("![Excess test error on the {method} curve, %](<figures/")),
            "{report}"
        );
        let drawn = space.read(format!("reports/default/figures/{file}"));
        let svg = roxmltree::Document::parse(&drawn).unwrap();
        let dots = svg
            .descendants()
            .filter(|node| node.has_tag_name("circle") || node.tag_name().name() == "circle")
            .count();
        assert_eq!(dots, 9, "three pairs of three widths");
    }
    assert_eq!(html.matches("src=\"data:image/svg+xml;base64,").count(), 2);
    assert_eq!(space.ran(&[]), nothing());
    space.write("draw.py", read("draw.py").replace("#1f77b4", "#d62728"));
    assert_eq!(space.ran(&[]), set(["draw@method=linear", "draw@method=arc", "report"]));
}
