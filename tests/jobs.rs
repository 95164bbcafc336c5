//! What may happen to a job: its inputs go while it waits, a signal ends it, its memory runs out. The cause is named,
//! nothing is half published, and the next run goes on.

use crate::space::{Output, Space, set};

/// `run` stands between `one` and `two`, which needs what both have made.
fn between(run: &str, env: &str) -> Space {
    let pipeline = "\
stages:
  one:
    command: { run: 'echo one > out', outputs: [out] }
  between:
    command: { run: 'RUN', inputs: { one: one }, outputs: [out], env: { ENV } }
  two:
    command: { run: 'cat inputs/*/out > out', inputs: { one: one, between: between }, outputs: [out] }
";
    Space::with(&pipeline.replace("RUN", run).replace("ENV", env))
}

/// What is true after a run that ends well, whatever went before: the cache is sound, and nobody's workspace or lease is left.
#[track_caller]
fn is_clean(space: &Space) {
    space.ok(&["verify"]);
    assert_eq!((space.leases().len(), space.files("tmp").len()), (0, 0));
}

#[track_caller]
fn said(output: &Output, what: &str) {
    assert!(output.stderr.contains(what), "`{what}` in:\n{}", output.stderr);
}

#[test]
fn another_program_that_is_put_in_the_place_of_ours_during_a_run_has_no_part_in_it() {
    // As `cargo build` does it: the new file takes the name of the old one.
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
        "what `ps` shows: {named}"
    );
    let shown: serde_json::Value =
        serde_json::from_str(&space.ok(&["show", "two", "--json"]).stdout).unwrap();
    let program = blake3::hash(&std::fs::read(env!("CARGO_BIN_EXE_repro")).unwrap()).to_string();
    assert_eq!(shown["nodes"][0]["entry"]["program"], program.as_str());
}

#[test]
fn an_input_that_vanishes_while_its_job_waits_is_named_and_made_again() {
    let space = between("rm ../../../../objects/*; echo x > out", "");
    let failed = space.exits(1, &["run"]);
    said(&failed, "two: failed: the input `one/out` (");
    said(&failed, ") is not there\n");
    assert_eq!(
        space.edit("rm ../../../../objects/*; ", "").ran(&[]),
        set(["one", "between", "two"])
    );
    is_clean(&space);
}

#[test]
fn a_file_that_vanishes_while_its_stage_waits_is_named_and_asked_for_again() {
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
    said(&failed, "error: cannot copy `./words` to `");
    said(&failed, "`: No such file or directory (os error 2)\n");
    assert_eq!(space.write("words", "others\n").ran(&[]), set(["words"]));
    is_clean(&space);
}

#[test]
fn a_job_that_a_signal_ends_is_named_with_it_and_runs_again() {
    // Again and again: Rust's own handler takes a first SEGV for a stack that has run over, and stands back.
    let kill = "while kill -s $SIGNAL $PPID; do sleep 0.01; done";
    for (signal, told) in [
        ("KILL", "the process died of signal 9 (killed; out of memory?)\n"),
        ("SEGV", "the process died of signal 11\n"),
        ("ABRT", "the process died of signal 6\n"),
    ] {
        let space = between(kill, &format!("SIGNAL: {signal}"));
        let failed = space.exits(1, &["run"]);
        said(&failed, &format!("between: failed: {told}"));
        said(&failed, "two: skipped, `between` failed\n");
        let ran = space.edit(kill, "echo x > out").ran(&[]);
        assert_eq!(ran, set(["between", "two"]), "{signal}: finished work is kept");
        is_clean(&space);
    }
}

#[test]
fn a_stage_that_runs_out_of_memory_says_so_and_runs_again_where_there_is_more() {
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
    said(&failed, "wide: failed: the process died of signal 6\n");
    said(&failed, "wide | memory allocation of ");
    limited.ok(&["verify"]);
    let space = limited.wrapped_in(&[]);
    assert_eq!(space.ran(&[]), set(["wide"]));
    is_clean(&space);
}

#[test]
fn a_job_that_two_stages_need_is_held_to_the_looser_limits_of_both() {
    // In this order the first that is begun is the stricter one.
    let twins = |strict: &str, loose: &str, run: &str| {
        let stage =
            |fields: &str| format!("{{ command: {{ run: '{run}', outputs: [out], {fields} }} }}");
        Space::with(&format!("stages:\n  a: {}\n  b: {}\n", stage(strict), stage(loose)))
    };
    for loose in ["time-limit: 60", "env: {}"] {
        for jobs in ["1", "2"] {
            let space = twins("time-limit: 0.5", loose, "sleep 1; touch out");
            space.ok(&["run", "-j", jobs]);
            let said = space.ok(&["verify", "--recompute", "-j", jobs]).stdout;
            assert!(said.ends_with("2 of 2 nodes reproduced\n"), "{said}");
        }
    }
    for jobs in ["1", "2"] {
        let space = twins(
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
fn a_stage_that_comes_to_need_a_job_leaves_it_more_time() {
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
