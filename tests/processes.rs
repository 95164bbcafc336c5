//! What a stage starts ends with it, wherever it hides and however the stage ends; and which signals end a run.

use crate::space::{Running, Space, is_alive, nothing, set, wait_until};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Ends by nothing but SIGKILL, and says its process id in the file that it is given.
const STUBBORN: &str =
    "trap '' TERM HUP INT QUIT\necho $$ > \"$1.new\"\nmv \"$1.new\" \"$1\"\nexec sleep 1000\n";

/// How a program gets away from its process group or its parent; `RUN` starts the stubborn one.
const ESCAPES: [(&str, &str); 5] = [
    ("in the background", "RUN &"),
    ("setsid", "setsid RUN &"),
    ("timeout", "timeout 1000 RUN &"),
    ("job control", "bash -c 'set -m; RUN & wait' &"),
    ("a daemon", "setsid sh -c 'RUN &' &"),
];

/// A stage that starts a process which escapes as `escape` says, and goes on with `then`.
fn escaping(escape: &str, then: &str, more: &str) -> Space {
    let space = Space::with("");
    let (script, pid) = (space.join("stubborn.sh"), space.join("pid"));
    let start = escape.replace("RUN", &format!("sh {} {}", script.display(), pid.display()));
    let wait = format!("while ! [ -e {} ]; do sleep 0.01; done", pid.display());
    let lines = format!("        {start}\n        {wait}\n        {then}\n");
    let pipeline = format!(
        "stages:\n  c:\n    command:\n      outputs: [out.txt]\n{more}      run: |\n{lines}"
    );
    space.write("stubborn.sh", STUBBORN).write("pipeline.yaml", pipeline);
    space
}

/// Starts a run and waits until the process has escaped.
fn begun(space: &Space) -> Running {
    let run = space.spawn(&["run", "--json"]);
    wait_until("it has begun", || space.join("pid").exists());
    run
}

#[track_caller]
fn is_gone(space: &Space, how: &str) {
    let pid = space.read("pid");
    wait_until(&format!("the process that escaped is gone: {how}"), || !is_alive(pid.trim()));
}

#[test]
fn what_a_stage_has_started_ends_with_it_before_its_outputs_are_taken() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "echo x > out.txt", "");
        assert_eq!(space.ran(&[]), set(["c"]), "{how}");
        assert!(!is_alive(space.read("pid").trim()), "{how}: not a moment later");
    }
}

#[test]
fn what_a_failed_stage_has_started_ends_with_it() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "exit 3", "");
        space.exits(1, &["run"]);
        assert!(!is_alive(space.read("pid").trim()), "{how}");
    }
}

#[test]
fn what_a_stage_has_started_ends_when_the_run_is_interrupted() {
    for (how, escape) in ESCAPES {
        for signals in [&["INT"][..], &["TERM"], &["HUP"], &["INT", "INT"]] {
            let space = escaping(escape, "sleep 1000", "");
            let run = begun(&space);
            for signal in signals {
                run.signal(signal);
                std::thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(run.wait().0, Some(130), "{how} {signals:?}");
            is_gone(&space, how);
        }
    }
}

#[test]
fn what_a_stage_has_started_ends_at_once_when_the_run_is_quit() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "sleep 1000", "");
        let space = space.wrapped_in(&["sh", "-c", "ulimit -c 0; exec \"$@\"", "sh"]);
        let run = begun(&space);
        run.signal("QUIT");
        assert_eq!(run.wait().0, None, "{how}: it dies of the signal");
        assert!(!is_alive(space.read("pid").trim()), "{how}");
    }
}

#[test]
fn what_a_stage_has_started_ends_when_its_time_is_up() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "sleep 1000", "      time-limit: 1\n");
        let failed = space.exits(1, &["run"]).stderr;
        assert!(failed.contains("c: failed: it took longer than 1 s\n"), "{how}: {failed}");
        is_gone(&space, how);
    }
}

#[test]
fn what_a_stage_has_started_ends_with_it_when_the_run_was_killed_and_its_result_counts() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "sleep 1; echo x > out.txt", "");
        begun(&space).orphan_jobs();
        wait_until("the stage ends", || space.pending(&[]).is_empty());
        is_gone(&space, how);
        assert_eq!(space.ran(&[]), nothing(), "{how}");
    }
}

#[test]
fn what_a_stage_has_started_ends_when_its_time_is_up_though_the_run_was_killed() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "sleep 1000", "      time-limit: 1\n");
        begun(&space).orphan_jobs();
        let pid = space.read("pid");
        wait_until(how, || !is_alive(pid.trim()));
    }
}

#[test]
fn what_a_stage_has_started_ends_when_its_job_is_killed() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "sleep 1000", "");
        let run = begun(&space);
        run.kill_jobs();
        let (code, said) = run.wait();
        assert_eq!(code, Some(1), "{how}: {said}");
        let pid = space.read("pid");
        assert!(!is_alive(pid.trim()), "{how}");
    }
}

#[test]
fn a_process_that_is_left_writing_does_not_fail_the_stage() {
    let write = "i=0; while :; do i=$((i+1)); mkdir -p \"$1/d/$i\"; echo > \"$1/d/$i/f\"; done";
    let start = format!("setsid sh -c '{write}' sh \"$PWD\" &");
    for _ in 0..5 {
        let pipeline = format!(
            "stages:\n  c:\n    command:\n      outputs: [out.txt]\n      run: |\n        {start}\n        sleep 0.1\n        \
             echo x > out.txt\n"
        );
        let space = Space::with(&pipeline);
        space.ok(&["run"]);
        assert_eq!(space.files("tmp").len(), 0);
    }
}

#[test]
fn a_program_that_ends_well_because_it_was_told_to_end_has_no_result() {
    let trap =
        "trap 'echo half > out.txt; exit 0' TERM\n        touch STARTED\n        sleep 1000 & wait";
    for (more, code) in [("", 130), ("      time-limit: 1\n", 1)] {
        let space = Space::with("");
        let started = space.join("started");
        let lines = trap.replace("STARTED", started.to_str().unwrap());
        let pipeline = format!(
            "stages:\n  c:\n    command:\n      outputs: [out.txt]\n{more}      run: |\n        {lines}\n"
        );
        space.write("pipeline.yaml", pipeline);
        let run = space.spawn(&["run", "--json"]);
        wait_until("it has begun", || started.exists());
        if more.is_empty() {
            run.signal("INT");
        }
        assert_eq!(run.wait().0, Some(code));
        assert_eq!(space.pending(&[]), set(["c"]), "half a result is none");
    }
}

// Signals.

/// A stage that takes a second.
fn brief() -> Space {
    let space = Space::with("");
    let begun = space.join("pid");
    space.write(
        "pipeline.yaml",
        format!(
            "stages:\n  c: {{ command: {{ run: 'echo > {}; sleep 1; echo x > out', outputs: [out] }} }}\n",
            begun.display()
        ),
    );
    space
}

#[test]
fn a_signal_that_was_ignored_when_the_run_was_started_stays_ignored() {
    for (signal, starter) in [
        ("HUP", "trap '' HUP; exec \"$@\""),
        ("INT", "trap '' INT; exec \"$@\""),
        ("QUIT", "trap '' QUIT; exec \"$@\""),
        ("TERM", "trap '' TERM; exec \"$@\""),
    ] {
        let space = brief().wrapped_in(&["sh", "-c", starter, "sh"]);
        let run = begun(&space);
        run.signal(signal);
        let (code, said) = run.wait();
        assert_eq!(code, Some(0), "{signal}: {said}");
    }
}

#[test]
fn a_program_ignores_no_signal_because_the_run_does() {
    const IGNORING: &[&str] = &["sh", "-c", "trap '' HUP INT QUIT TERM; exec \"$@\"", "sh"];
    let run = "run: 'grep SigIgn /proc/self/status > out', outputs: [out]";
    let space =
        Space::with(&format!("stages: {{ c: {{ command: {{ {run} }} }} }}")).wrapped_in(IGNORING);
    space.ok(&["run"]);
    let told = space.output("c", "out");
    let ignored = u64::from_str_radix(told.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    // HUP, INT, QUIT, PIPE, TERM and CHLD.
    let bits = [1, 2, 3, 13, 15, 17].map(|signal| 1_u64 << (signal - 1));
    assert!(bits.iter().all(|bit| ignored & bit == 0), "{told}");
}

#[test]
fn a_run_that_is_started_by_a_process_that_does_not_wait_for_children_waits_for_its_own() {
    const CARELESS: &[&str] = &["perl", "-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV"];
    let space = brief().wrapped_in(CARELESS);
    assert_eq!(space.ran(&[]), set(["c"]));
}

#[test]
fn the_children_of_a_shell_that_has_become_a_run_are_left_alone() {
    let space = brief();
    let other = space.join("other");
    let shell = format!("sleep 1000 & echo $! > {}; exec \"$@\"", other.display());
    let mut command =
        space.command_for("sh", &["-c", &shell, "sh", env!("CARGO_BIN_EXE_repro"), "run"]);
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let pid = space.read("other");
    assert!(is_alive(pid.trim()));
    Command::new("kill").arg(pid.trim()).status().unwrap();
}

#[test]
fn a_run_ends_by_an_interrupt_while_it_hashes_large_files() {
    let space = Space::with("stages: { big: { file: { path: big } } }");
    // Without a block on the disk; to hash it takes longer than this test.
    std::fs::File::create(space.join("big")).unwrap().set_len(1 << 40).unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        let mut run = space.spawn(&["run", "--json"]);
        run.wait_for(|event| event["event"] == "started");
        std::thread::sleep(Duration::from_millis(200));
        let told = Instant::now();
        run.signal(signal);
        assert_eq!(run.wait().0, None, "it dies of the signal, as any program does");
        assert!(told.elapsed() < Duration::from_secs(5), "{signal}: {:?}", told.elapsed());
    }
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "whoever reads the test's output should know that nothing was tested"
)]
fn a_stage_that_asks_the_terminal_fails_instead_of_stopping_for_ever() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no `script` to make a terminal");
        return;
    }
    let ask = "run: 'read answer < /dev/tty; echo x > out', outputs: [out]";
    let space = Space::with(&format!("stages: {{ c: {{ command: {{ {ask} }} }} }}"));
    let run = format!("{} run", env!("CARGO_BIN_EXE_repro"));
    let mut command = space.command_for("timeout", &["60", "script", "-qec", &run, "/dev/null"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/dev/tty: No such device or address"), "{said}");
}

#[test]
fn the_peak_memory_of_a_command_is_that_of_its_largest_process_and_of_no_command_before_it() {
    let space = Space::with(
        "stages:\n  big: { command: { run: 'sh -c \"python3 big.py; true\"; : > out', files: [big.py], outputs: [out] } }\n  \
         small: { command: { run: ': > out', outputs: [out], inputs: { big: big } } }\n",
    );
    space.write("big.py", "x = b'x' * (300 << 20)\n").ok(&["run", "-j", "1"]);
    let show = |node: &str| -> serde_json::Value {
        serde_json::from_str(&space.ok(&["show", node, "--json"]).stdout).unwrap()
    };
    let mebibytes =
        |node: &str| show(node)["nodes"][0]["entry"]["peak_memory"].as_u64().unwrap() >> 20;
    assert!((300..500).contains(&mebibytes("big")), "{}", mebibytes("big"));
    assert!(mebibytes("small") < 100, "{}", mebibytes("small"));
}

#[test]
fn a_run_in_the_background_of_a_script_works_whatever_streams_it_has() {
    let run = "cd \"$1\"; repro=$2;";
    for (i, line) in [
        "$repro run & wait $!",
        "$repro run <&- & wait $!",
        "$repro run >&- & wait $!",
        "$repro run 2>&- & wait $!",
        "$repro run <&- >&- 2>&- & wait $!",
        "nohup $repro run > nohup.out 2>&1 & wait $!",
        "$repro run --json <&- > events & wait $!",
        "set -m; $repro run <&- & wait $!",
    ]
    .into_iter()
    .enumerate()
    {
        let space = Space::with(
            "stages:\n  a: { command: { run: 'cat > out; echo >&2', outputs: [out] } }\n  \
             b: { command: { run: 'cat inputs/a/out > out', inputs: { a: a }, outputs: [out] } }\n",
        );
        let repro = space.command(&[]).get_program().to_owned();
        let mut script = Command::new("sh");
        script.args(["-c", &format!("{run} {line}"), "sh"]).arg(space.path()).arg(repro);
        let status = script
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0), "{i}: {line}");
        assert_eq!(space.pending(&[]), set([]), "{line}");
        let runs = space.ok(&["log"]).stdout;
        assert!(runs.lines().nth(1).is_some_and(|run| run.ends_with("done")), "{line}: {runs}");
    }
}
