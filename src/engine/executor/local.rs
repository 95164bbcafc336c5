//! Jobs as child processes of this program, on this machine.
//!
//! A thread per child waits for it and reports over a channel: simpler than polling, and with as many children as cores
//! the threads cost nothing. Knows no plan, no store and no stage: a child is told a key and the cache folder.

use super::log::{ERROR, HINT, STDERR, TAKEN, UNAVAILABLE, tail};
use super::{Executor, Job, Outcome, Told};
use crate::engine::key::Key;
use crate::fs;
use anyhow::{Context as _, Result};
use shared_child::SharedChild;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A job that ended, and how.
type Ended = (Key, Outcome);

/// Starts `program exec KEY` for each job.
pub struct Local {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, PathBuf)>,
    slots: usize,
    running: BTreeMap<Key, Arc<SharedChild>>,
    done: (Sender<Ended>, Receiver<Ended>),
}

impl Local {
    /// With `slots` children at once; each is given `arguments`, then its key and `--threads N`, and `environment` besides
    /// ours.
    pub fn new(program: PathBuf, arguments: Vec<OsString>, environment: Vec<(String, PathBuf)>, slots: usize) -> Local {
        Local { program, arguments, environment, slots, running: BTreeMap::new(), done: channel() }
    }

    fn spawn(&self, job: &Job) -> Result<SharedChild> {
        fs::create_dir_all(&job.logs)?;
        let (stdout, stderr) = (fs::create(&job.logs.join("stdout"))?, fs::create(&job.logs.join(STDERR))?);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(job.key.to_string()).args(["--threads", &job.threads.to_string()]);
        command.args(job.again.then_some("--again"));
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        SharedChild::spawn(&mut command).with_context(|| format!("cannot start `{}`", self.program.display()))
    }
}

impl Executor for Local {
    fn slots(&self) -> usize {
        self.slots
    }

    fn submit(&mut self, job: Job) {
        let report = self.done.0.clone();
        match self.spawn(&job) {
            Ok(child) => {
                let child = Arc::new(child);
                self.running.insert(job.key, Arc::clone(&child));
                std::thread::spawn(move || {
                    let outcome = outcome(&child.wait(), &job.logs);
                    // Nobody listens any more once the run has been given up.
                    let _ = report.send((job.key, outcome));
                });
            }
            Err(error) => {
                let told = Told { cause: format!("{error:#}"), hint: None };
                let _ = report.send((job.key, Outcome::Failed(told)));
            }
        }
    }

    fn wait(&mut self, patience: Duration) -> Option<(Key, Outcome)> {
        let (key, outcome) = self.done.1.recv_timeout(patience).ok()?;
        self.running.remove(&key);
        Some((key, outcome))
    }

    fn kill(&mut self) {
        for child in self.running.values() {
            // One that has just ended by itself cannot be killed, and need not be.
            let _ = child.kill();
        }
    }
}

fn outcome(status: &std::io::Result<ExitStatus>, logs: &Path) -> Outcome {
    match status {
        Ok(status) if status.success() => Outcome::Exited,
        Ok(status) if status.code() == Some(i32::from(TAKEN)) => Outcome::Taken,
        Ok(status) if status.code() == Some(i32::from(UNAVAILABLE)) => Outcome::Unavailable(told(logs, *status)),
        Ok(status) if asked_to_stop(*status) => Outcome::Stopped(told(logs, *status)),
        Ok(status) => Outcome::Failed(told(logs, *status)),
        Err(error) => Outcome::Failed(Told { cause: format!("cannot wait for the process: {error}"), hint: None }),
    }
}

/// Whether it died of SIGHUP, SIGINT or SIGTERM.
fn asked_to_stop(status: ExitStatus) -> bool {
    #[cfg(unix)]
    return matches!(std::os::unix::process::ExitStatusExt::signal(&status), Some(1 | 2 | 15));
    #[cfg(not(unix))]
    false
}

/// What the job itself said last; how it ended, if it said nothing.
fn told(logs: &Path, status: ExitStatus) -> Told {
    let lines = tail(logs, 2);
    let said = |lead: &str| lines.iter().find_map(|line| line.strip_prefix(lead)).map(str::to_owned);
    Told { cause: said(ERROR).unwrap_or_else(|| describe(status)), hint: said(HINT) }
}

fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let guess = if signal == 9 { " (killed; out of memory?)" } else { "" };
        return format!("the process died of signal {signal}{guess}");
    }
    status.code().map_or_else(|| "the process ended without an exit code".into(), |code| format!("exit code {code}"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::engine::key::Recipe;
    use std::num::NonZero;
    use tempfile::TempDir;

    fn key(kind: &str) -> Key {
        let (params, inputs) = (BTreeMap::new(), BTreeMap::new());
        Recipe { kind: kind.into(), version: 1, params, inputs, seed: None }.key()
    }

    /// Runs a shell script in the place of `repro exec`; its `$0` is the job's key.
    fn shell(script: &str, environment: Vec<(String, PathBuf)>) -> Local {
        Local::new("/bin/sh".into(), vec!["-c".into(), script.into()], environment, 2)
    }

    fn submit(local: &mut Local, kind: &str) -> (Key, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let key = key(kind);
        local.submit(Job { key, logs: dir.path().join("logs"), threads: NonZero::new(3).unwrap(), again: false });
        (key, dir)
    }

    fn next(local: &mut Local) -> (Key, Outcome) {
        local.wait(Duration::from_secs(60)).expect("the job ends within a minute")
    }

    fn outcome_of(script: &str) -> Outcome {
        let mut local = shell(script, Vec::new());
        let (key, _dir) = submit(&mut local, "k");
        let (ended, outcome) = next(&mut local);
        assert_eq!(ended, key);
        outcome
    }

    fn told(cause: &str, hint: Option<&str>) -> Told {
        Told { cause: cause.to_owned(), hint: hint.map(str::to_owned) }
    }

    #[test]
    fn a_job_that_ends_with_zero_says_it_is_done() {
        assert_eq!(outcome_of("exit 0"), Outcome::Exited);
    }

    #[test]
    fn a_job_that_fails_is_quoted() {
        let script = "echo so far so good >&2; echo 'error: the disk is full' >&2; echo 'hint: buy one' >&2; exit 7";
        assert_eq!(outcome_of(script), Outcome::Failed(told("the disk is full", Some("buy one"))));
        assert_eq!(outcome_of("echo 'error: no' >&2; exit 1"), Outcome::Failed(told("no", None)));
    }

    #[test]
    fn a_job_that_fails_without_a_word_is_known_by_how_it_ended() {
        assert_eq!(outcome_of("exit 3"), Outcome::Failed(told("exit code 3", None)));
        let killed = "the process died of signal 9 (killed; out of memory?)";
        assert_eq!(outcome_of("kill -9 $$"), Outcome::Failed(told(killed, None)));
        assert_eq!(outcome_of("kill -15 $$"), Outcome::Stopped(told("the process died of signal 15", None)));
    }

    #[test]
    fn a_job_may_leave_its_question_to_another_process() {
        assert_eq!(outcome_of("exit 75"), Outcome::Taken);
    }

    #[test]
    fn a_job_may_say_that_its_answer_cannot_be_had() {
        let script = "echo 'error: no mirror answered' >&2; echo 'hint: pass `--data`' >&2; exit 69";
        assert_eq!(outcome_of(script), Outcome::Unavailable(told("no mirror answered", Some("pass `--data`"))));
    }

    #[test]
    fn a_program_that_cannot_be_started_is_a_failed_job() {
        let mut local = Local::new("/nowhere/repro".into(), Vec::new(), Vec::new(), 1);
        let (key, _dir) = submit(&mut local, "k");
        let (ended, outcome) = next(&mut local);
        assert_eq!(ended, key);
        let Outcome::Failed(Told { cause, hint: None }) = outcome else { panic!("{outcome:?}") };
        assert!(cause.starts_with("cannot start `/nowhere/repro`: "), "{cause}");
    }

    #[test]
    fn a_job_is_told_its_key_and_how_many_threads_it_may_use_and_its_streams_are_kept() {
        let mut local = shell("echo \"$0 $* $EXTRA\"; echo aside >&2", vec![("EXTRA".into(), "given".into())]);
        let (key, dir) = submit(&mut local, "k");
        assert_eq!(next(&mut local).1, Outcome::Exited);
        assert_eq!(fs::read_text(&dir.path().join("logs/stdout")).unwrap(), format!("{key} --threads 3 given\n"));
        assert_eq!(tail(&dir.path().join("logs"), 5), ["aside"]);
    }

    #[test]
    fn killing_ends_every_job() {
        let mut local = shell("exec sleep 1000", Vec::new());
        let jobs = [submit(&mut local, "one"), submit(&mut local, "two")];
        assert_eq!(local.wait(Duration::ZERO), None);
        local.kill();
        let mut ended: Vec<Key> = jobs.iter().map(|_| next(&mut local).0).collect();
        let mut submitted: Vec<Key> = jobs.iter().map(|(key, _)| *key).collect();
        ended.sort_unstable();
        submitted.sort_unstable();
        assert_eq!(ended, submitted);
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines_that_say_something() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(tail(dir.path(), 3), [""; 0], "no log is an empty one");
        fs::write(&dir.path().join(STDERR), b"one\n\ntwo\n \nthr\xffee\n\n").unwrap();
        assert_eq!(tail(dir.path(), 2), ["two", "thr\u{fffd}ee"]);
        assert_eq!(tail(dir.path(), 9).len(), 3);
    }
}
