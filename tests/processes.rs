//! Processes that a stage starts are killed when the stage ends, even if they leave its process
//! group; signals end a run.

use crate::space::{Running, Space, is_alive, nothing, set, wait_until};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Ignores all signals but SIGKILL, and writes its process id to the file in its argument.
const STUBBORN: &str =
    "trap '' TERM HUP INT QUIT\necho $$ > \"$1.new\"\nmv \"$1.new\" \"$1\"\nexec sleep 1000\n";

/// How a process leaves its process group or its parent; `RUN` starts [`STUBBORN`].
const ESCAPES: [(&str, &str); 5] = [
    ("in the background", "RUN &"),
    ("setsid", "setsid RUN &"),
    ("timeout", "timeout 1000 RUN &"),
    ("job control", "bash -c 'set -m; RUN & wait' &"),
    ("a daemon", "setsid sh -c 'RUN &' &"),
];

/// A stage that starts a process by `escape`, and then runs `then`.
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
fn started(space: &Space) -> Running {
    let run = space.spawn(&["run", "--json"]);
    wait_until("the stage starts", || space.join("pid").exists());
    run
}

#[track_caller]
fn wait_until_killed(space: &Space, how: &str) {
    let pid = space.read("pid");
    wait_until(&format!("the process is killed: {how}"), || !is_alive(pid.trim()));
}

#[test]
fn processes_of_a_stage_are_killed_before_its_outputs_are_published() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "echo x > out.txt", "");
        assert_eq!(space.ran(&[]), set(["c"]), "{how}");
        assert!(!is_alive(space.read("pid").trim()), "{how}: killed before the run ends");
    }
}

#[test]
fn processes_of_a_failed_stage_are_killed() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "exit 3", "");
        space.exits(1, &["run"]);
        assert!(!is_alive(space.read("pid").trim()), "{how}");
    }
}

#[test]
fn processes_of_a_stage_are_killed_when_the_run_is_interrupted() {
    for (how, escape) in ESCAPES {
        for signals in [&["INT"][..], &["TERM"], &["HUP"], &["INT", "INT"]] {
            let space = escaping(escape, "sleep 1000", "");
            let run = started(&space);
            for signal in signals {
                run.signal(signal);
                std::thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(run.wait().0, Some(130), "{how} {signals:?}");
            wait_until_killed(&space, how);
        }
    }
}

#[test]
fn processes_of_a_stage_are_killed_at_once_by_sigquit() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "sleep 1000", "");
        let space = space.wrapped_in(&["sh", "-c", "ulimit -c 0; exec \"$@\"", "sh"]);
        let run = started(&space);
        run.signal("QUIT");
        assert_eq!(run.wait().0, None, "{how}: the run dies of the signal");
        assert!(!is_alive(space.read("pid").trim()), "{how}");
    }
}

#[test]
fn processes_of_a_stage_are_killed_at_its_time_limit() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "sleep 1000", "      time-limit: 1\n");
        let failed = space.exits(1, &["run"]).stderr;
        assert!(
            failed.contains("c: failed: the job exceeded its time limit of 1 s\n"),
            "{how}: {failed}"
        );
        wait_until_killed(&space, how);
    }
}

#[test]
fn a_stage_whose_run_was_killed_publishes_its_result_and_its_processes_are_killed() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "sleep 1; echo x > out.txt", "");
        started(&space).orphan_jobs();
        wait_until("the stage ends", || space.pending(&[]).is_empty());
        wait_until_killed(&space, how);
        assert_eq!(space.ran(&[]), nothing(), "{how}");
    }
}

#[test]
fn processes_of_a_stage_whose_run_was_killed_are_killed_at_its_time_limit() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "sleep 1000", "      time-limit: 1\n");
        started(&space).orphan_jobs();
        let pid = space.read("pid");
        wait_until(how, || !is_alive(pid.trim()));
    }
}

#[test]
fn processes_of_a_stage_are_killed_when_its_job_is_killed() {
    for (how, escape) in ESCAPES {
        let space = escaping(escape, "sleep 1000", "");
        let run = started(&space);
        run.kill_jobs();
        let (code, stderr) = run.wait();
        assert_eq!(code, Some(1), "{how}: {stderr}");
        let pid = space.read("pid");
        assert!(!is_alive(pid.trim()), "{how}");
    }
}

#[test]
fn a_process_that_is_still_writing_files_does_not_fail_the_stage() {
    let write = "i=0; while :; do i=$((i+1)); mkdir -p \"$1/d/$i\"; echo > \"$1/d/$i/f\"; done";
    let start = format!("setsid sh -c '{write}' sh \"$PWD\" &");
    for _ in 0..5 {
        let pipeline = format!(
            "stages:\n  c:\n    command:\n      outputs: [out.txt]\n      run: |\n        \
             {start}\n        sleep 0.1\n        echo x > out.txt\n"
        );
        let space = Space::with(&pipeline);
        space.ok(&["run"]);
        assert_eq!(space.files("tmp").len(), 0);
    }
}

#[test]
fn a_program_that_exits_with_zero_after_a_signal_has_no_result() {
    let trap =
        "trap 'echo half > out.txt; exit 0' TERM\n        touch STARTED\n        sleep 1000 & wait";
    for (more, code) in [("", 130), ("      time-limit: 1\n", 1)] {
        let space = Space::with("");
        let started = space.join("started");
        let lines = trap.replace("STARTED", started.to_str().unwrap());
        let pipeline = format!(
            "stages:\n  c:\n    command:\n      outputs: [out.txt]\n{more}      \
             run: |\n        {lines}\n"
        );
        space.write("pipeline.yaml", pipeline);
        let run = space.spawn(&["run", "--json"]);
        wait_until("the stage starts", || started.exists());
        if more.is_empty() {
            run.signal("INT");
        }
        assert_eq!(run.wait().0, Some(code));
        assert_eq!(space.pending(&[]), set(["c"]), "a partial result is not published");
    }
}

// Signals.

/// A stage that takes a second.
fn short_stage() -> Space {
    let space = Space::with("");
    let pid = space.join("pid");
    space.write(
        "pipeline.yaml",
        format!(
            "stages:\n  c:\n    command:\n      \
             {{ run: 'echo > {}; sleep 1; echo x > out', outputs: [out] }}\n",
            pid.display()
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
        let space = short_stage().wrapped_in(&["sh", "-c", starter, "sh"]);
        let run = started(&space);
        run.signal(signal);
        let (code, stderr) = run.wait();
        assert_eq!(code, Some(0), "{signal}: {stderr}");
    }
}

#[test]
fn a_program_ignores_no_signal_because_the_run_does() {
    const IGNORING: &[&str] = &["sh", "-c", "trap '' HUP INT QUIT TERM; exec \"$@\"", "sh"];
    let run = "run: 'grep SigIgn /proc/self/status > out', outputs: [out]";
    let space =
        Space::with(&format!("stages: {{ c: {{ command: {{ {run} }} }} }}")).wrapped_in(IGNORING);
    space.ok(&["run"]);
    let status = space.output("c", "out");
    let ignored = u64::from_str_radix(status.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    // HUP, INT, QUIT, PIPE, TERM and CHLD.
    let bits = [1, 2, 3, 13, 15, 17].map(|signal| 1_u64 << (signal - 1));
    assert!(bits.iter().all(|bit| ignored & bit == 0), "{status}");
}

#[test]
fn a_run_whose_parent_ignores_sigchld_waits_for_its_children() {
    const IGNORING: &[&str] = &["perl", "-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV"];
    let space = short_stage().wrapped_in(IGNORING);
    assert_eq!(space.ran(&[]), set(["c"]));
}

#[test]
fn children_of_a_shell_that_was_replaced_by_the_run_are_not_killed() {
    let space = short_stage();
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
fn a_run_can_be_interrupted_while_it_hashes_a_large_file() {
    let space = Space::with("stages: { big: { file: { path: big } } }");
    // A sparse file. To hash it takes longer than this test.
    std::fs::File::create(space.join("big")).unwrap().set_len(1 << 40).unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        let mut run = space.spawn(&["run", "--json"]);
        run.wait_for(|event| event["event"] == "started");
        std::thread::sleep(Duration::from_millis(200));
        let signalled = Instant::now();
        run.signal(signal);
        assert_eq!(
            run.wait().0,
            None,
            "it dies of the signal, as a program without a handler does"
        );
        assert!(
            signalled.elapsed() < Duration::from_secs(5),
            "{signal}: {:?}",
            signalled.elapsed()
        );
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the output of the tests shows that this one was skipped")]
fn a_stage_that_reads_from_the_terminal_fails_instead_of_waiting() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no `script` to make a terminal");
        return;
    }
    let read = "run: 'read answer < /dev/tty; echo x > out', outputs: [out]";
    let space = Space::with(&format!("stages: {{ c: {{ command: {{ {read} }} }} }}"));
    let run = format!("{} run", env!("CARGO_BIN_EXE_repro"));
    let mut command = space.command_for("timeout", &["60", "script", "-qec", &run, "/dev/null"]);
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("/dev/tty: No such device or address"), "{printed}");
}

#[test]
fn the_peak_memory_of_a_command_is_that_of_its_own_largest_process() {
    let space = Space::with(
        "stages:\n  big:\n    command:\n      \
         { run: 'sh -c \"python3 big.py; true\"; : > out', files: [big.py], outputs: [out] }\n  \
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
fn a_run_in_the_background_works_without_standard_streams() {
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
