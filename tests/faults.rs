//! Every file operation of a run, failing or the last of its process: nothing is corrupted, no
//! finished work is lost.
//!
//! As SQLite is tested: the N-th operation fails as on a full disk, or the process dies before it,
//! for N = 1, 2, 3, ... until a run meets no fault; in the process that schedules, and in the jobs.

use crate::space::{Space, nothing};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Two programs, one after the other, and a file of the project.
const SMALL: &str = "\
stages:
  raw:
    file: { path: raw.txt }
  one:
    command: { run: 'cat inputs/raw/raw.txt inputs/raw/raw.txt > out', inputs: { raw: raw }, outputs: [out] }
  two:
    command: { run: 'tr a-z A-Z < inputs/one/out > out', inputs: { one: one }, outputs: [out] }
";

type Digests = BTreeMap<String, BTreeMap<String, String>>;

fn small() -> Space {
    let space = Space::with(SMALL);
    space.write("raw.txt", "some words\n");
    space
}

/// Runs with a fault; whether the run met it. Then verifies, runs again, and compares with an
/// undisturbed run.
fn survives(variable: &str, fault: &str, undisturbed: &Digests) -> bool {
    let space = small();
    let mut struck = space.command(&["run", "--json", "-j", "1"]);
    let output = struck.env(variable, fault).output().unwrap();
    let (code, said) = (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
    let told = String::from_utf8(output.stdout).unwrap();
    let events =
        told.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let finished: BTreeSet<String> = events
        .filter(|event| event["event"] == "finished")
        .map(|event| crate::space::name(&event))
        .collect();
    let cause =
        if fault.starts_with("fail") { "No space left on device" } else { "died of signal 9" };
    if !matches!(code, Some(0) | None) {
        assert!(
            said.contains(cause) || told.contains(cause),
            "{variable}={fault}: the cause is named: {told}{said}"
        );
    }
    let verified = space.run(&["verify"]);
    assert_eq!(verified.code, Some(0), "{variable}={fault}: {said}\n{}", verified.stderr);
    let ran = space.ran(&["-j", "1"]);
    assert_eq!(
        ran.intersection(&finished).count(),
        0,
        "{variable}={fault}: finished work is not redone"
    );
    assert_eq!(&space.digests(), undisturbed, "{variable}={fault}");
    assert_eq!(space.ran(&[]), nothing(), "{variable}={fault}");
    assert_eq!(space.leases(), BTreeSet::new());
    code != Some(0)
}

/// Tries every N until so many in a row have done nothing: some operations may fail and do no harm.
fn every_operation(variable: &str, kind: &str) {
    const HARMLESS: usize = 25;
    let space = small();
    space.ok(&["run"]);
    let undisturbed = space.digests();
    let (mut struck, mut harmless, mut n) = (0, 0, 0);
    while harmless < HARMLESS {
        n += 1;
        match survives(variable, &format!("{kind}:{n}"), &undisturbed) {
            true => (struck, harmless) = (struck + 1, 0),
            false => harmless += 1,
        }
    }
    assert!(struck > 15, "{variable} {kind}: only {struck} of {n} operations did anything");
}

#[test]
fn any_file_operation_of_a_run_may_fail() {
    every_operation("REPRO_FAULT", "fail");
}

#[test]
fn a_run_may_die_before_any_of_its_file_operations() {
    every_operation("REPRO_FAULT", "die");
}

#[test]
fn any_file_operation_of_a_job_may_fail() {
    every_operation("REPRO_FAULT_JOB", "fail");
}

#[test]
fn a_job_may_die_before_any_of_its_file_operations() {
    every_operation("REPRO_FAULT_JOB", "die");
}

#[test]
fn a_run_may_be_killed_at_any_of_three_hundred_moments() {
    const MOMENTS: u32 = 300;
    let space = small();
    let began = Instant::now();
    space.ok(&["run", "--json", "-j", "2"]);
    let (whole, undisturbed) = (began.elapsed(), space.digests());
    let mut killed = 0;
    for moment in 0..MOMENTS {
        let space = small();
        let run = space.spawn(&["run", "--json", "-j", "2"]);
        std::thread::sleep(whole * moment / MOMENTS);
        run.signal("KILL");
        killed += u32::from(run.wait().0.is_none());
        if space.join("cache").exists() {
            space.ok(&["verify"]);
        }
        space.ok(&["run"]);
        assert_eq!(
            space.digests(),
            undisturbed,
            "killed after {moment} parts of {MOMENTS} of {whole:?}"
        );
    }
    assert!(killed > MOMENTS / 3, "only {killed} were killed before their end");
}
