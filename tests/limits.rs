//! Limits on threads, open files or memory: an error names the limit, and nothing panics.

use crate::space::{Output, Space};
use std::process::Command;

/// Runs `repro` under limits set by the shell's `ulimit`.
fn limited(space: &Space, limits: &str, arguments: &[&str]) -> Output {
    let repro = space.command(arguments);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit {limits}; exec \"$@\""), "sh"])
        .arg(repro.get_program())
        .args(repro.get_args());
    shell.current_dir(space.path());
    repro.get_envs().for_each(|(name, value)| match value {
        Some(value) => _ = shell.env(name, value),
        None => _ = shell.env_remove(name),
    });
    let output = shell.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Asserts that a command succeeded or named the limit.
#[track_caller]
fn succeeds_or_names(output: &Output, limits: &str) {
    let stderr = &output.stderr;
    assert!(
        !stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"),
        "{limits}: {stderr}"
    );
    assert!(output.code.is_some(), "{limits}: a signal\n{stderr}");
    let names = ["ulimit", "os error 24", "os error 11", "os error 12"];
    assert!(
        output.code == Some(0) || names.iter().any(|name| stderr.contains(name)),
        "{limits}: {stderr}"
    );
}

#[test]
fn a_limit_on_open_files_is_named() {
    for files in [4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24] {
        let space = Space::with(
            "stages:\n  a: { command: { run: 'echo > out', outputs: [out] } }\n  \
             b: { command: { run: 'cp inputs/a/out out', inputs: { a: a }, outputs: [out] } }\n",
        );
        let limits = format!("-n {files}");
        succeeds_or_names(&limited(&space, &limits, &["run"]), &limits);
        succeeds_or_names(&limited(&space, &limits, &["verify"]), &limits);
    }
}

#[test]
fn a_limit_on_memory_is_named() {
    // The program itself maps 70 MB.
    for kibibytes in [80_000, 100_000, 150_000, 250_000] {
        let space = Space::with(
            "stages:\n  a: { command: { run: 'echo > out', outputs: [out], time-limit: 60 } }\n",
        );
        let limits = format!("-v {kibibytes}");
        succeeds_or_names(&limited(&space, &limits, &["run"]), &limits);
        succeeds_or_names(&limited(&space, &limits, &["verify"]), &limits);
    }
}
