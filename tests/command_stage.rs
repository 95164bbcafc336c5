//! The stage kind `command`.

use crate::space::{COUNT, Space, is_alive, nothing, set, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A project of one stage `c` that runs a shell script, which must write `out.txt`.
fn script(run: &str, fields: &str) -> Space {
    Space::with(&format!(
        "stages:\n  c:\n    command:\n      run: |\n        {run}\n      \
         outputs: [out.txt]\n{fields}"
    ))
}

#[test]
fn a_command_sees_only_what_its_stage_declares() {
    let space = Space::counting().env("SECRET", "s").env("LANG", "xx");
    let script = "env | sed 's/=.*//' | sort > count.txt; find . -type f | sort >> count.txt; \
                  echo $HOME $TMPDIR >> count.txt";
    space.write("count.sh", format!("{script}; wc -c >> count.txt\n")).ok(&["run"]);
    let text = space.output("count", "count.txt");
    let lines: Vec<&str> = text.lines().collect();
    let names = ["HOME", "LABEL", "PATH", "PWD", "REPRO_PARAM_FACTOR", "TMPDIR"];
    let files = ["./count.sh", "./count.txt", "./inputs/rows/a.csv", "./inputs/rows/b.csv"];
    assert_eq!(lines[..10], [&names[..], &files[..]].concat());
    let (home, tmp) = lines[10].split_once(' ').unwrap();
    assert!(home == tmp && tmp.starts_with("/tmp/repro-"), "{}", lines[10]);
    assert_eq!(lines[11], "0", "standard input is empty");
}

#[test]
fn the_path_of_tmpdir_is_short_enough_for_a_unix_socket() {
    let script = "import multiprocessing as m, os\nassert not os.listdir(os.environ['TMPDIR'])\n\
        open(os.environ['TMPDIR'] + '/left', 'w')\nos.chmod(os.environ['TMPDIR'], 0o500)\n\
        print(m.Manager().list([1, 2]), file=open('out', 'w'))\n";
    let outer = tempfile::tempdir().unwrap();
    let deep = outer.path().join("x".repeat(100));
    fs::create_dir(&deep).unwrap();
    for tmpdir in ["/tmp", "/nowhere", deep.to_str().unwrap()] {
        let space = Space::with(
            "stages:\n  c: { command: { run: 'python3 $REPRO_PARAM_N.py', params: { n: [a, b] }, \
             files: [a.py, b.py], outputs: [out] } }\n",
        );
        let space = space.env("TMPDIR", tmpdir);
        space.write("a.py", script).write("b.py", format!("{script}# b\n")).ok(&["run", "-j", "1"]);
        assert_eq!(space.ran(&[]).len(), 0);
    }
}

#[test]
fn a_list_runs_a_program_and_a_text_runs_in_a_shell() {
    let space = Space::with(
        "stages:\n  c: { command: { run: [sh, -c, 'echo \"$0\" $1 > out.txt', '*', 2], \
         outputs: [out.txt] } }\n",
    );
    space.ok(&["run"]);
    assert_eq!(space.output("c", "out.txt"), "* 2\n");
    let space = script("echo one |", "");
    space.edit("echo one |", "echo one | tr a-z A-Z > out.txt").ok(&["run"]);
    assert_eq!(space.output("c", "out.txt"), "ONE\n");
}

#[test]
fn a_shell_script_ends_at_the_first_command_that_fails() {
    #[track_caller]
    fn case(lines: &[&str], fields: &str, fails: bool) {
        let run: String = lines.iter().map(|line| format!("        {line}\n")).collect();
        let space = Space::with(&format!(
            "stages:\n  c:\n    command:\n      outputs: [n]\n{fields}      \
             run: |\n{run}        touch n\n"
        ));
        let output = space.run(&["run"]);
        assert_eq!(output.code, Some(i32::from(fails)), "{lines:?} {fields}\n{}", output.stderr);
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
    // Failures that `sh` ignores and bash does not, as README says.
    for lines in [&["cat nosuch | wc -l > n"][..], &["false | true"], &["echo $NOSUCH > n"]] {
        case(lines, "", false);
        case(lines, BASH, true);
    }
    // Failures that both ignore.
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
    let space = script("touch out.txt", "");
    space.ok(&["run"]);
    space.edit("      outputs:", "      shell: sh\n      outputs:");
    assert_eq!(space.ran(&[]), nothing());
    space.edit("shell: sh", "shell: bash");
    assert_eq!(space.ran(&[]), set(["c"]));
}

#[test]
fn a_list_of_inputs_is_gathered_and_a_single_input_adds_its_axes() {
    let space = Space::with(
        "stages:
  a:
    command:
      run: 'echo $REPRO_PARAM_K > a.txt'
      outputs: [a.txt]
      params: { k: [1, 2], text: x }
  b:
    command: { run: 'cat inputs/a/a.txt > b.txt', inputs: { a: a }, outputs: [b.txt] }
  c:
    command:
      run: 'cat inputs/b/*/b.txt | sort > out.txt; ls inputs/b >> out.txt'
      inputs: { b: [b] }
      outputs: [out.txt]
  d:
    command: { run: 'cat inputs/one/0/a.txt > d.txt', inputs: { one: ['a@k=2'] }, outputs: [d.txt] }
",
    );
    let ran = space.ran(&[]);
    assert_eq!(ran, set(["a@k=1", "a@k=2", "b@k=1", "b@k=2", "c", "d"]));
    assert_eq!(space.output("c", "out.txt"), "1\n2\n0\n1\n");
    assert_eq!(
        space.plan(&["a@text=x"]).len(),
        2,
        "a target may name a parameter that is not an axis"
    );
}

#[test]
fn a_command_cannot_change_its_inputs() {
    let space = Space::counting();
    let writes = "for f in inputs/rows/*; do (echo x >> $f) 2> /dev/null; chmod u+w $f; \
                  echo x >> $f; rm -f $f; done";
    space.write("count.sh", format!("{writes}; {COUNT}"));
    space.ok(&["run"]);
    assert_eq!(space.read("data/raw/a.csv"), "1\n2\n");
    let stored = space.digests()["raw"]["a.csv"].clone();
    assert_eq!(space.read(space.object(&stored)), "1\n2\n");
    assert!(space.ok(&["verify"]).stdout.contains("no damage found"));
}

#[test]
fn a_background_process_is_killed_before_it_can_change_an_output() {
    let space = script(
        "(sleep 0.2; echo late >> out.txt; sleep 1000) & echo $! > pid; \
         echo done | tee -a out.txt; cp pid x",
        "",
    );
    space.edit("outputs: [out.txt]", "outputs: [out.txt, x]").ok(&["run"]);
    assert_eq!(space.output("c", "out.txt"), "done\n");
    let pid = space.output("c", "x");
    assert!(!is_alive(pid.trim()), "the process ends with its job");
}

#[test]
fn undeclared_outputs_are_discarded_and_listed_in_the_log() {
    let space = script(
        "echo y > out.txt; mkdir d; echo z > d/stray; ln -s d link; touch \"$(printf '\\377')\"",
        "",
    );
    space.ok(&["run"]);
    assert_eq!(space.digests()["c"].keys().collect::<Vec<_>>(), ["out.txt"]);
    assert_eq!(
        space.ok(&["logs", "c"]).stdout,
        "undeclared outputs: `d/stray`, `link`, `\u{fffd}`\n"
    );
}

#[test]
fn read_only_folders_that_a_command_leaves_are_removed() {
    for (last, code, message) in
        [("touch out.txt", 0, "1 ran, 0 failed"), ("false", 1, "exited with code 1\n")]
    {
        let space = script(&format!("mkdir -p d/e; touch d/e/f; chmod -R a-w d; {last}"), "")
            .unprivileged();
        let stderr = space.exits(code, &["run"]).stderr;
        assert!(stderr.contains(message), "{stderr}");
        assert_eq!(space.files("tmp").len(), 0, "{last}");
    }
}

#[test]
fn a_folder_may_be_an_output() {
    let space = script("mkdir -p d/e; echo 1 > d/a; echo 2 > d/e/b; touch out.txt", "");
    space.edit("outputs: [out.txt]", "outputs: [out.txt, d/]").ok(&["run"]);
    assert_eq!(space.digests()["c"].keys().collect::<Vec<_>>(), ["d/a", "d/e/b", "out.txt"]);
}

#[test]
fn a_failure_is_reported_with_its_cause_and_the_end_of_the_log() {
    #[track_caller]
    fn case(run: &str, message: &str) {
        let failed = script(run, "").exits(1, &["run"]).stderr;
        assert!(failed.contains(message), "{run}:\n{failed}");
    }
    case("echo trouble >&2; exit 3", "c: failed: the command exited with code 3\n    trouble\n");
    case("kill -11 $$", "c: failed: the command was killed by signal 11\n");
    case("kill -9 $$", "c: failed: the command was killed by signal 9 (out of memory?)\n");
    case("nosuchprogram", "exited with code 127: program not found");
    case("true", "c: failed: the command did not write its output `out.txt`\n");
    case(
        "touch uot.txt",
        "c: failed: the command did not write its output `out.txt`, but wrote `uot.txt`\n",
    );
    case(
        "ln -s /etc/hostname out.txt",
        "c: failed: the output `out.txt` is neither a file nor a folder\n",
    );
    case("ln -s /etc etc; touch out.txt; false", "exited with code 1\n");
    let space = script("mkdir d; touch out.txt \"d/$(printf 'a\\377')\"", "");
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
fn an_invalid_command_stage_is_refused_before_anything_runs() {
    #[track_caller]
    fn case(fields: &str, message: &str) {
        let space = Space::with(&format!(
            "stages:\n  a: {{ fetch: {{ dataset: digits }} }}\n  c: {{ command: {{ {fields} }} }}\n"
        ));
        let refused = space.exits(2, &["plan"]).stderr;
        assert!(refused.contains(message), "{fields}:\n{refused}");
        assert!(refused.starts_with("error: pipeline.yaml:3:"), "{refused}");
    }
    case("run: x", "the field `outputs` is missing");
    case(
        "run: x, outputs: [../x]",
        "`../x` in `outputs` is not a path below the project's folder\nhint: name a file below",
    );
    case(
        "run: x, outputs: [x], files: [/etc/passwd]",
        "hint: import files from outside the project with a stage of kind `file`",
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
    case("run: x, outputs: [x], params: { a: { b: 1 } }", "the parameter `a` is not a scalar");
    case(
        "run: x, outputs: [x], env: { PY: ~ }",
        "`env.PY`: expected a text, with quotes if it is `null` or `~`, found nothing\nhint: write",
    );
    case(
        "run: [x], shell: bash, outputs: [x]",
        "`shell` has no effect on a `run` that is a list\nhint: write `run` as a text",
    );
    case(
        "run: x, shell: zsh, outputs: [x]",
        "`shell`: unknown value `zsh`\nhint: known: `sh`, `bash`",
    );
    case(
        "run: x, outputs: [x], time-limit: soon",
        "`time-limit`: expected seconds or a duration above zero such as `90s`, `10m` or `1h30m`, \
         found `soon`",
    );
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
fn a_command_over_its_time_limit_is_killed_with_its_child_processes() {
    let space = script("true", "      time-limit: 0.4\n");
    let pids = space.join("pids");
    space.edit("true", &format!("sleep 1000 & echo $$ $! > {}; sleep 1000", pids.display()));
    let failed = space.exits(1, &["run"]).stderr;
    assert!(failed.contains("c: failed: the job exceeded its time limit of 0.4 s\n"), "{failed}");
    for pid in space.read("pids").split_whitespace() {
        assert!(!is_alive(pid), "{pid}");
    }
    assert_eq!(space.leases(), BTreeSet::new());
}

#[test]
fn the_time_limit_holds_after_the_run_was_killed() {
    let space = script("true", "      time-limit: 2\n");
    let pids = space.join("pids");
    let run = format!("sleep 1000 & echo $$ $! > p; mv p {}; sleep 1000", pids.display());
    space.edit("true", &run);
    let running = space.spawn(&["run", "--json"]);
    wait_until("the command runs", || pids.exists());
    running.orphan_jobs();
    for pid in space.read("pids").split_whitespace() {
        wait_until("the process has ended", || !is_alive(pid));
    }
    space.edit(&run, "touch out.txt");
    assert_eq!(space.ran(&[]), set(["c"]), "no lease blocks the next run");
}

#[test]
fn an_interrupted_run_leaves_no_process() {
    for (signals, trap) in [
        (&["INT"][..], ""),
        (&["TERM"], ""),
        (&["INT", "INT"], "trap '' TERM; "),
        (&["TERM"], "trap '' TERM; "),
    ] {
        let space = script("true", "");
        let pids = space.join("pids");
        space.edit(
            "true",
            &format!(
                "{trap}sleep 1000 & echo $$ $! > p; mv p {}; sleep 1000; sleep 1000",
                pids.display()
            ),
        );
        let run = space.spawn(&["run", "--json"]);
        wait_until("the command runs", || pids.exists());
        let start = Instant::now();
        for signal in signals {
            run.signal(signal);
            std::thread::sleep(Duration::from_millis(150));
        }
        let (code, stderr) = run.wait();
        assert_eq!(code, Some(130), "{stderr}");
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{signals:?} {trap}: {:?}",
            start.elapsed()
        );
        for pid in space.read("pids").split_whitespace() {
            wait_until("the process has ended", || !is_alive(pid));
        }
    }
}

#[test]
fn a_failed_command_is_retried() {
    let space = script("true", "      retries: 2\n");
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

/// Runs two commands with these fields; returns whether they ran at the same time.
fn overlap(fields: &str) -> bool {
    let space = script("true", &format!("      params: {{ k: [1, 2] }}\n{fields}"));
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
fn commands_run_side_by_side_only_if_threads_and_memory_suffice() {
    assert!(overlap(""), "without limits they run at the same time");
    assert!(!overlap("      threads: 2\n"));
    assert!(!overlap("      threads: 64\n"), "more threads than there are");
    assert!(!overlap("      memory: 900TiB\n"));
}

#[test]
#[expect(clippy::print_stdout, reason = "the test's output shows that it was skipped")]
fn the_python_example_adds_figures_to_the_report() {
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
    for method in ["linear", "arc"] {
        let path = format!("extras/draw@method={method}/figure.svg");
        let figure = format!("![Excess test error on the {method} curve, %](<{path}>)");
        assert!(report.contains(&figure), "{report}");
        let drawn = space.read(format!("reports/default/{path}"));
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
