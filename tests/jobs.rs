//! Jobs whose inputs disappear, that are killed by a signal, or that run out of memory. The cause
//! is reported, no partial result is published, and the next run continues.

use crate::space::{Output, Space, set};

/// A stage `between`, which runs `run`, after `one` and before `two`, which uses both.
fn between(run: &str, env: &str) -> Space {
    let pipeline = "\
stages:
  one:
    command: { run: 'echo one > out', outputs: [out] }
  between:
    command: { run: 'RUN', inputs: { one: one }, outputs: [out], env: { ENV } }
  two:
    command:
      { run: 'cat inputs/*/out > out', inputs: { one: one, between: between }, outputs: [out] }
";
    Space::with(&pipeline.replace("RUN", run).replace("ENV", env))
}

/// After a run that succeeds, the cache has no damage, and no workspace or lease is left.
#[track_caller]
fn assert_clean(space: &Space) {
    space.ok(&["verify"]);
    assert_eq!((space.leases().len(), space.files("tmp").len()), (0, 0));
}

#[track_caller]
fn assert_printed(output: &Output, text: &str) {
    assert!(output.stderr.contains(text), "`{text}` in:\n{}", output.stderr);
}

#[test]
fn a_program_that_replaces_repro_during_a_run_is_not_used() {
    // As `cargo build` does: the new file takes the name of the old one.
    let replace = "cd \"$PROJECT\"; echo exit 9 > new; chmod +x new; mv new repro";
    let space = between(&format!("echo x > out; ({replace})"), "PROJECT: PLACE");
    let ours = space.join("repro");
    space.edit("PLACE", space.path().to_str().unwrap());
    space.edit("cat inputs/*/out > out'", "cat /proc/$PPID/comm /proc/$PPID/cmdline > out'");
    std::fs::copy(env!("CARGO_BIN_EXE_repro"), &ours).unwrap();
    let ran = space.command_for(ours.to_str().unwrap(), &["run"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(space.read("repro"), "exit 9\n");
    let outputs = space.digests();
    let named = space.read(space.object(&outputs["two"]["out"]));
    assert!(
        named.starts_with(&format!("repro\n{}\0-C\0", ours.display())),
        "the name in `ps`: {named}"
    );
    let shown: serde_json::Value =
        serde_json::from_str(&space.ok(&["show", "two", "--json"]).stdout).unwrap();
    let program = blake3::hash(&std::fs::read(env!("CARGO_BIN_EXE_repro")).unwrap()).to_string();
    assert_eq!(shown["nodes"][0]["entry"]["program"], program.as_str());
}

#[test]
fn an_input_that_disappears_before_its_job_is_reported_and_computed_again() {
    let space = between("rm ../../../../objects/*; echo x > out", "");
    let failed = space.exits(1, &["run"]);
    assert_printed(&failed, "two: failed: the input `one/out` (");
    assert_printed(&failed, ") is missing\n");
    assert_eq!(
        space.edit("rm ../../../../objects/*; ", "").ran(&[]),
        set(["one", "between", "two"])
    );
    assert_clean(&space);
}

#[test]
fn a_project_file_that_disappears_before_its_stage_is_reported() {
    let space = Space::with(
        "\
stages:
  first:
    command: { run: 'rm ../../../../../../words; echo x > out', outputs: [out] }
  words:
    file: { path: words }
",
    );
    space.write("words", "some\n");
    let failed = space.exits(7, &["run", "-j", "1"]);
    assert_printed(&failed, "error: cannot copy `./words` to `");
    assert_printed(&failed, "`: No such file or directory (os error 2)\n");
    assert_eq!(space.write("words", "others\n").ran(&[]), set(["words"]));
    assert_clean(&space);
}

#[test]
fn a_job_that_dies_of_a_signal_is_reported_with_it_and_runs_again() {
    // Repeated: Rust's own handler takes the first SIGSEGV for a stack overflow and resets itself.
    let kill = "while kill -s $SIGNAL $PPID; do sleep 0.01; done";
    for (signal, cause) in [
        ("KILL", "the process died of signal 9 (killed; out of memory?)\n"),
        ("SEGV", "the process died of signal 11\n"),
        ("ABRT", "the process died of signal 6\n"),
    ] {
        let space = between(kill, &format!("SIGNAL: {signal}"));
        let failed = space.exits(1, &["run"]);
        assert_printed(&failed, &format!("between: failed: {cause}"));
        assert_printed(&failed, "two: skipped, `between` failed\n");
        let ran = space.edit(kill, "echo x > out").ran(&[]);
        assert_eq!(ran, set(["between", "two"]), "{signal}: finished work is kept");
        assert_clean(&space);
    }
}

#[test]
fn a_stage_that_runs_out_of_memory_fails_and_runs_again_with_more_memory() {
    const WIDE: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 100, test: 10 }
  narrow:
    train: { data: data, hidden: 3, epochs: 1 }
  wide:
    train: { data: data, hidden: 8000, epochs: 1 }
";
    let limited = Space::with(WIDE).wrapped_in(&[
        "sh",
        "-c",
        "ulimit -v 150000 && RAYON_NUM_THREADS=1 exec \"$@\"",
        "sh",
    ]);
    let failed = limited.exits(1, &["run", "--keep-going", "-j", "1"]);
    assert_printed(&failed, "wide: failed: the process died of signal 6\n");
    assert_printed(&failed, "wide | memory allocation of ");
    limited.ok(&["verify"]);
    let space = limited.wrapped_in(&[]);
    assert_eq!(space.ran(&[]), set(["wide"]));
    assert_clean(&space);
}

#[test]
fn a_job_that_two_stages_need_has_the_looser_limits_of_both() {
    // In this order, the stricter one starts first.
    let duplicates = |strict: &str, loose: &str, run: &str| {
        let stage =
            |fields: &str| format!("{{ command: {{ run: '{run}', outputs: [out], {fields} }} }}");
        Space::with(&format!("stages:\n  a: {}\n  b: {}\n", stage(strict), stage(loose)))
    };
    for loose in ["time-limit: 60", "env: {}"] {
        for jobs in ["1", "2"] {
            let space = duplicates("time-limit: 0.5", loose, "sleep 1; touch out");
            space.ok(&["run", "-j", jobs]);
            let stdout = space.ok(&["verify", "--recompute", "-j", jobs]).stdout;
            assert!(stdout.ends_with("2 of 2 nodes reproduced\n"), "{stdout}");
        }
    }
    for jobs in ["1", "2"] {
        let space = duplicates(
            "retries: 0",
            "retries: 1",
            "[ -e TRIED ] || { touch TRIED; exit 1; }; touch out",
        );
        let tried = space.join("tried").display().to_string();
        space.write("pipeline.yaml", space.read("pipeline.yaml").replace("TRIED", &tried));
        space.ok(&["run", "-j", jobs]);
    }
}

#[test]
fn a_stage_that_later_needs_a_running_job_extends_its_time_limit() {
    let space = Space::with(
        "\
stages:
  early:
    command: { run: 'echo same > out', outputs: [out] }
  late:
    command: { run: 'sleep 0.4; echo same > out', outputs: [out] }
  a:
    command: { run: 'sleep 1.5; touch out', inputs: { i: early }, outputs: [out], time-limit: 1 }
  b:
    command: { run: 'sleep 1.5; touch out', inputs: { i: late }, outputs: [out] }
",
    );
    let ran = space.ok(&["run", "--json", "-j", "4"]);
    assert_eq!(ran.ran(), set(["early", "late", "a", "b"]));
}
