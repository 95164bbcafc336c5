//! Output streams: of jobs, shown while they run, quoted when they fail and kept in logs; and of
//! the program, when they cannot be written.

use crate::space::Space;
use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A pipeline of one command, `c`, that runs `lines`.
fn lines(lines: &str) -> Space {
    let space = Space::with(
        "stages:\n  c: { command: { run: [sh, -e, c.sh], files: [c.sh], outputs: [out] } }\n",
    );
    space.write("c.sh", lines);
    space
}

#[test]
fn a_command_whose_output_cannot_be_written_fails() {
    let space = Space::run_tiny();
    let commands: [&[&str]; 22] = [
        &["--help"],
        &["--version"],
        &["help", "run"],
        &["run", "--json"],
        &["plan"],
        &["plan", "--json"],
        &["run", "-n"],
        &["why", "tables"],
        &["show", "tables"],
        &["show", "tables", "--json"],
        &["verify"],
        &["verify", "--json"],
        &["gc"],
        &["pin"],
        &["log"],
        &["log", "last"],
        &["graph"],
        &["schema"],
        &["completions", "bash"],
        &["man"],
        &["verify", "--recompute", "tables"],
        &["logs", "tables", "--json"],
    ];
    for arguments in commands {
        let output = |sink: Stdio| {
            space.command(arguments).stdout(sink).stderr(Stdio::piped()).output().unwrap()
        };
        let full = output(File::options().write(true).open("/dev/full").unwrap().into());
        let printed = String::from_utf8(full.stderr).unwrap();
        assert_eq!(full.status.code(), Some(7), "{arguments:?}: {printed}");
        assert!(
            printed.contains("error: cannot write to standard output: No space left"),
            "{arguments:?}: {printed}"
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = output(writer.into());
        assert_eq!(
            closed.status.code(),
            Some(0),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&closed.stderr)
        );
    }
}

#[test]
fn a_failure_quotes_both_streams_in_the_order_of_writing() {
    let space = lines(
        "echo reason; echo aside >&2; printf '1%%\\r99%%\\rdone\\n'; echo last >&2; exit 3\n",
    );
    let printed = space.exits(1, &["run", "-j", "2"]).stderr;
    let quoted = "c: failed: the command exited with code 3\n    \
                  reason\n    aside\n    done\n    last\n    full log: ";
    assert!(printed.contains(quoted), "{printed}");
}

#[test]
fn a_failure_fits_on_a_screen_however_long_the_log_is() {
    let script = "head -c 100000 /dev/zero | tr '\\0' x; \
                  for i in $(seq 3000); do echo > stray-file-number-$i; done\n";
    let printed = lines(script).exits(1, &["run", "-j", "2"]).stderr;
    assert!(
        printed.contains("did not write its output `out`, but wrote `stray-file-number-1`, "),
        "{printed}"
    );
    assert!(printed.contains(" and 2992 more"), "{printed}");
    assert!(
        printed.len() < 80 * 24 && printed.lines().count() < 24,
        "{} bytes: {printed}",
        printed.len()
    );
    let program = "y".repeat(70_000);
    let space = Space::with(&format!(
        "stages:\n  c: {{ command: {{ run: [{program}], outputs: [out] }} }}\n"
    ));
    let printed = space.exits(1, &["run"]).stderr;
    assert!(printed.len() < 80 * 24, "{} bytes", printed.len());
}

#[test]
fn output_is_shown_while_the_job_runs_with_one_job_at_a_time_or_verbose() {
    for arguments in [&["run", "-v"][..], &["run", "-j", "1"]] {
        let space = lines(
            "echo first; until [ -e $GO ]; do sleep 0.05; done; echo second >&2; \
             printf third; : > out\n",
        );
        let go = space.join("go");
        space.edit("outputs: [out]", &format!("outputs: [out], env: {{ GO: {} }}", go.display()));
        let mut child = space.command(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut printed = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains("c | first\n") {
            assert!(std::io::BufRead::read_line(&mut printed, &mut text).unwrap() > 0, "{text}");
        }
        File::create(go).unwrap();
        std::io::Read::read_to_string(&mut printed, &mut text).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(
            text.contains("c | second\nc | third\n") && text.matches(" | ").count() == 3,
            "{text}"
        );
    }
}

#[test]
fn output_is_printed_once_and_only_if_it_was_requested() {
    let script = "echo once; exit 3\n";
    let printed = lines(script).exits(1, &["run", "-v"]).stderr;
    assert_eq!(
        (printed.matches("once").count(), printed.matches("exited with code 3").count()),
        (1, 1),
        "{printed}"
    );
    let printed = lines("echo once; : > out\n").ok(&["run", "-j", "2"]).stderr;
    assert!(!printed.contains("once"), "{printed}");
    let output = lines("echo once; : > out\n").ok(&["run", "-j", "1", "--json"]);
    assert!(!(output.stderr + &output.stdout).contains("once"));
    let printed = lines("echo once; : > out\n").ok(&["run", "-j", "1", "-q"]).stderr;
    assert_eq!(printed, "");
}

#[test]
fn logs_prints_the_output_of_the_last_run_of_a_node_even_if_its_inputs_have_changed() {
    let space = lines("echo one; echo two >&2; : > out\n");
    assert_eq!(space.ok(&["logs", "c"]).stdout, "", "it has not run yet");
    space.ok(&["run"]);
    assert_eq!(space.ok(&["logs", "c"]).stdout, "one\ntwo\n");
    space.write("c.sh", "echo three; exit 1\n");
    assert_eq!(space.ok(&["logs", "c"]).stdout, "one\ntwo\n");
    space.exits(1, &["run"]);
    let printed = space.ok(&["logs", "c"]).stdout;
    assert_eq!(printed, "three\nerror: the command exited with code 1\n");
    let json: serde_json::Value =
        serde_json::from_str(&space.ok(&["logs", "c", "--json"]).stdout).unwrap();
    assert_eq!(
        (&json["nodes"][0]["lines"][0], &json["nodes"][0]["running"]),
        (&"three".into(), &false.into())
    );
}

#[test]
fn a_node_without_output_has_no_log() {
    let space = lines(": > out\n");
    space.ok(&["run"]);
    assert_eq!(space.files("logs").len(), 0);
    assert_eq!(space.ok(&["logs", "c"]).stdout, "");
}

#[test]
fn logs_follows_a_job_until_it_ends() {
    let space = lines("echo first; until [ -e $GO ]; do sleep 0.05; done; echo last; : > out\n");
    let go = space.join("go");
    space.edit("outputs: [out]", &format!("outputs: [out], env: {{ GO: {} }}", go.display()));
    let mut run = space.command(&["run", "-q"]).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while space.ok(&["logs", "c"]).stdout != "first\n" {
        assert!(Instant::now() < until, "the job writes its first line");
    }
    let mut follow = space.command(&["logs", "-f", "c"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(follow.try_wait().unwrap(), None, "the job still runs");
    File::create(go).unwrap();
    let output = follow.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "first\nlast\n");
    assert!(run.wait().unwrap().success());
}

#[test]
fn only_one_log_can_be_followed() {
    let printed = Space::tiny().exits(2, &["logs", "-f", "nets"]).stderr;
    assert!(
        printed.contains("`nets` selects 8 nodes, expected one\nhint: for example, `nets@"),
        "{printed}"
    );
}
