//! A failure or a kill at any file operation corrupts nothing and loses no finished work.
//!
//! As in the tests of SQLite, the N-th operation fails as on a full disk, or the process is killed
//! before it, for N = 1, 2, 3, ... until a run has fewer operations; in the scheduling process, and
//! in the jobs.

use crate::space::{Space, nothing};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A file of the project, and two commands, one after the other.
const SMALL: &str = "\
stages:
  raw:
    file: { path: raw.txt }
  one:
    command:
      run: 'cat inputs/raw/raw.txt inputs/raw/raw.txt > out'
      inputs: { raw: raw }
      outputs: [out]
  two:
    command: { run: 'tr a-z A-Z < inputs/one/out > out', inputs: { one: one }, outputs: [out] }
";

type Digests = BTreeMap<String, BTreeMap<String, String>>;

fn small() -> Space {
    let space = Space::with(SMALL);
    space.write("raw.txt", "some words\n");
    space
}

/// Runs with a fault, verifies, runs again, and compares with a run without faults; whether the run
/// met the fault.
fn recovers(variable: &str, fault: &str, expected: &Digests) -> bool {
    let space = small();
    let mut faulty = space.command(&["run", "--json", "-j", "1"]);
    let output = faulty.env(variable, fault).output().unwrap();
    let code = output.status.code();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let events =
        stdout.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let finished: BTreeSet<String> = events
        .filter(|event| event["event"] == "finished")
        .map(|event| crate::space::name(&event))
        .collect();
    let cause =
        if fault.starts_with("fail") { "No space left on device" } else { "died of signal 9" };
    if !matches!(code, Some(0) | None) {
        assert!(
            stderr.contains(cause) || stdout.contains(cause),
            "{variable}={fault}: the cause is named: {stdout}{stderr}"
        );
    }
    let verified = space.run(&["verify"]);
    assert_eq!(verified.code, Some(0), "{variable}={fault}: {stderr}\n{}", verified.stderr);
    let ran = space.ran(&["-j", "1"]);
    assert_eq!(
        ran.intersection(&finished).count(),
        0,
        "{variable}={fault}: finished work is not repeated"
    );
    assert_eq!(&space.digests(), expected, "{variable}={fault}");
    assert_eq!(space.ran(&[]), nothing(), "{variable}={fault}");
    assert_eq!(space.leases(), BTreeSet::new());
    code != Some(0)
}

/// Tries every N until many in a row had no effect: some operations may fail without an effect.
fn every_operation(variable: &str, kind: &str) {
    const IN_A_ROW: usize = 25;
    let space = small();
    space.ok(&["run"]);
    let expected = space.digests();
    let (mut effects, mut without, mut n) = (0, 0, 0);
    while without < IN_A_ROW {
        n += 1;
        match recovers(variable, &format!("{kind}:{n}"), &expected) {
            true => (effects, without) = (effects + 1, 0),
            false => without += 1,
        }
    }
    assert!(effects > 15, "{variable} {kind}: only {effects} of {n} operations had an effect");
}

#[test]
fn any_file_operation_of_a_run_may_fail() {
    every_operation("REPRO_FAULT", "fail");
}

#[test]
fn a_run_may_be_killed_before_any_of_its_file_operations() {
    every_operation("REPRO_FAULT", "kill");
}

#[test]
fn any_file_operation_of_a_job_may_fail() {
    every_operation("REPRO_FAULT_JOB", "fail");
}

#[test]
fn a_job_may_be_killed_before_any_of_its_file_operations() {
    every_operation("REPRO_FAULT_JOB", "kill");
}

#[test]
fn a_run_may_be_killed_at_any_of_three_hundred_moments() {
    const MOMENTS: u32 = 300;
    let space = small();
    let began = Instant::now();
    space.ok(&["run", "--json", "-j", "2"]);
    let (duration, expected) = (began.elapsed(), space.digests());
    let mut killed = 0;
    for moment in 0..MOMENTS {
        let space = small();
        let run = space.spawn(&["run", "--json", "-j", "2"]);
        std::thread::sleep(duration * moment / MOMENTS);
        run.signal("KILL");
        killed += u32::from(run.wait().0.is_none());
        if space.join("cache").exists() {
            space.ok(&["verify"]);
        }
        space.ok(&["run"]);
        assert_eq!(
            space.digests(),
            expected,
            "killed after {moment} parts of {MOMENTS} of {duration:?}"
        );
    }
    assert!(killed > MOMENTS / 3, "only {killed} were killed before their end");
}
