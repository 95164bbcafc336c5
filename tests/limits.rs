//! A machine that allows few threads, files or bytes: an error that names it, and never a panic.

use crate::space::{Output, Space};
use std::process::Command;

/// Runs `repro` under limits of the shell's `ulimit`, as a user whom they bind.
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

/// Ends well, or says which limit it has met.
#[track_caller]
fn is_named(output: &Output, limits: &str) {
    let said = &output.stderr;
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{limits}: {said}");
    assert!(output.code.is_some(), "{limits}: a signal\n{said}");
    let names = ["ulimit", "os error 24", "os error 11", "os error 12"];
    assert!(
        output.code == Some(0) || names.iter().any(|name| said.contains(name)),
        "{limits}: {said}"
    );
}

#[test]
fn too_few_files_are_named_however_few_they_are() {
    for files in [4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24] {
        let space = Space::with(
            "stages:\n  a: { command: { run: 'echo > out', outputs: [out] } }\n  \
             b: { command: { run: 'cp inputs/a/out out', inputs: { a: a }, outputs: [out] } }\n",
        );
        let limits = format!("-n {files}");
        is_named(&limited(&space, &limits, &["run"]), &limits);
        is_named(&limited(&space, &limits, &["verify"]), &limits);
    }
}

#[test]
fn too_little_memory_for_a_thread_is_named() {
    for kibibytes in [70_000, 100_000, 150_000, 250_000] {
        let space = Space::with(
            "stages:\n  a: { command: { run: 'echo > out', outputs: [out], time-limit: 60 } }\n",
        );
        let limits = format!("-v {kibibytes}");
        is_named(&limited(&space, &limits, &["run"]), &limits);
        is_named(&limited(&space, &limits, &["verify"]), &limits);
    }
}
