//! Jobs as child processes of this program, on this machine.
//!
//! A thread per child waits for it and reports over a channel: simpler than polling, and with as many children as cores
//! the threads cost nothing. Each child begins a session of its own, where no terminal's Ctrl-C reaches it, and is to be
//! the subreaper of what it starts, which ends with it (see [`crate::process`]). If the child is killed, this process ends
//! what it leaves behind; if this process is killed, the child goes on to its end; if both are, nothing is left to end
//! the rest. Knows no plan, no store and no stage: a child is told a key and the cache folder.

use super::log::{ERROR, HINT, STDERR, STOPPED, TAKEN, UNAVAILABLE, tail};
use super::{Executor, Job, Outcome, Told};
use crate::engine::key::Key;
use crate::{fs, process};
use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long one that was asked to end is waited for before it is made to.
pub const GRACE: Duration = Duration::from_secs(2);

/// A job that ended, and how.
type Ended = (Key, Outcome);

/// Starts `program exec KEY` for each job.
pub struct Local {
    program: PathBuf,
    /// What it is called in the system's list of processes.
    name: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, PathBuf)>,
    slots: usize,
    jobs: Processes,
    done: (Sender<Ended>, Receiver<Ended>),
}

/// The processes of running jobs.
#[derive(Clone, Default)]
pub struct Processes(Arc<Mutex<BTreeMap<Key, JobProcess>>>);

struct JobProcess {
    /// Not waited for yet, so its id is no other process's.
    pid: Pid,
    began: Instant,
    limit: Option<Duration>,
    /// Since when it has been too late.
    late: Option<Instant>,
}

impl Processes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, JobProcess>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends them all at once, with all they have started.
    pub fn kill(&self) {
        let jobs = self.lock();
        let pids: Vec<Pid> = jobs.values().map(|job| job.pid).collect();
        process::end_trees(&pids);
        process::end_orphans(&pids);
    }

    /// Asks those to end whose time is up, and ends those that were asked long enough ago.
    fn end_late(&self) {
        for job in self.lock().values_mut() {
            let up = job.limit.is_some_and(|limit| job.began.elapsed() >= limit);
            match job.late {
                None if up => {
                    job.late = Some(Instant::now());
                    process::request_end(job.pid);
                }
                Some(since) if since.elapsed() >= GRACE => process::end_trees(&[job.pid]),
                _ => {}
            }
        }
    }

    /// Waits for a job's process, and ends what it left behind. Gives the time limit, if it was that which ended it.
    fn bury(&self, key: Key, child: &mut Child) -> (std::io::Result<ExitStatus>, Option<Duration>) {
        let pid = Pid::from_child(child);
        let ended = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while matches!(ended(), Err(rustix::io::Errno::INTR)) {}
        // Locked until it is waited for: its id is among the known ones as long as it is a child.
        let mut jobs = self.lock();
        let _ = kill_process_group(pid, Signal::KILL);
        let status = child.wait();
        let job = jobs.remove(&key);
        if status.as_ref().is_ok_and(|status| status.signal().is_some()) {
            process::end_orphans(&jobs.values().map(|job| job.pid).collect::<Vec<Pid>>());
        }
        (status, job.filter(|job| job.late.is_some()).and_then(|job| job.limit))
    }
}

impl Local {
    /// With `slots` children at once; each is given `arguments`, then its key, `--threads N` and, where it has one,
    /// `--time-limit SECONDS`, and `environment` besides ours.
    pub fn new(program: PathBuf, arguments: Vec<OsString>, environment: Vec<(String, PathBuf)>, slots: usize) -> Local {
        let name = program.clone();
        Local { program, name, arguments, environment, slots, jobs: Processes::default(), done: channel() }
    }

    /// Its children are called `name`, wherever their program lies.
    pub fn called(self, name: PathBuf) -> Local {
        Local { name, ..self }
    }

    /// The processes of its jobs, for a signal that must end them at once.
    pub fn processes(&self) -> Processes {
        self.jobs.clone()
    }

    fn spawn(&self, job: &Job) -> Result<Child> {
        fs::create_dir_all(&job.logs)?;
        let (stdout, stderr) = (fs::create(&job.logs.join("stdout"))?, fs::create(&job.logs.join(STDERR))?);
        let mut command = Command::new(&self.program);
        command.arg0(&self.name);
        command.args(&self.arguments).arg(job.key.to_string()).args(["--threads", &job.threads.to_string()]);
        command.args(job.again.then_some("--again"));
        command.args(job.time_limit.map(|limit| format!("--time-limit={}", limit.as_secs_f64())));
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        // Locked until it is among the others: who ends them all must not miss one.
        let mut jobs = self.jobs.lock();
        let child = command.spawn().with_context(|| format!("cannot start `{}`", self.name.display()))?;
        let (pid, began) = (Pid::from_child(&child), Instant::now());
        jobs.insert(job.key, JobProcess { pid, began, limit: job.time_limit, late: None });
        Ok(child)
    }
}

impl Executor for Local {
    fn slots(&self) -> usize {
        self.slots
    }

    #[cfg(target_os = "linux")]
    fn memory(&self) -> u64 {
        let system = rustix::system::sysinfo();
        system.totalram.saturating_mul(u64::from(system.mem_unit))
    }

    fn submit(&mut self, job: Job) {
        let (report, jobs) = (self.done.0.clone(), self.processes());
        match self.spawn(&job) {
            Ok(mut child) => {
                _ = std::thread::spawn(move || {
                    let (status, late) = jobs.bury(job.key, &mut child);
                    // One that was done before it could be ended is done.
                    let late = late.filter(|_| !status.as_ref().is_ok_and(ExitStatus::success));
                    let outcome = late.map_or_else(|| outcome(&status, &job.logs), too_late);
                    // Nobody listens any more once the run has been given up.
                    let _ = report.send((job.key, outcome));
                })
            }
            Err(error) => {
                let told = Told { cause: format!("{error:#}"), hint: None };
                let _ = report.send((job.key, Outcome::Failed(told)));
            }
        }
    }

    fn wait(&mut self, patience: Duration) -> Option<(Key, Outcome)> {
        self.jobs.end_late();
        self.done.1.recv_timeout(patience).ok()
    }

    fn kill(&mut self) {
        self.jobs.lock().values().for_each(|job| process::request_end(job.pid));
        let until = Instant::now() + GRACE;
        while !self.jobs.lock().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.jobs.kill();
    }
}

fn too_late(limit: Duration) -> Outcome {
    Outcome::Failed(Told { cause: format!("it took longer than {} s", limit.as_secs_f64()), hint: None })
}

fn outcome(status: &std::io::Result<ExitStatus>, logs: &Path) -> Outcome {
    match status {
        Ok(status) if status.success() => Outcome::Exited,
        Ok(status) if status.code() == Some(i32::from(TAKEN)) => Outcome::Taken,
        Ok(status) if status.code() == Some(i32::from(UNAVAILABLE)) => Outcome::Unavailable(told(logs, *status)),
        Ok(status) if is_stopped(*status) => Outcome::Stopped(told(logs, *status)),
        Ok(status) => Outcome::Failed(told(logs, *status)),
        Err(error) => Outcome::Failed(Told { cause: format!("cannot wait for the process: {error}"), hint: None }),
    }
}

/// Whether it ended because it was asked to.
fn is_stopped(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(STOPPED)) || matches!(status.signal(), Some(1 | 2 | 15))
}

/// What the job itself said last; how it ended, if it said nothing.
fn told(logs: &Path, status: ExitStatus) -> Told {
    let lines = tail(logs, 2);
    let said = |lead: &str| lines.iter().find_map(|line| line.strip_prefix(lead)).map(str::to_owned);
    Told { cause: said(ERROR).unwrap_or_else(|| describe(status)), hint: said(HINT) }
}

fn describe(status: ExitStatus) -> String {
    if let Some(signal) = status.signal() {
        let guess = if signal == 9 { " (killed; out of memory?)" } else { "" };
        return format!("the process died of signal {signal}{guess}");
    }
    status.code().map_or_else(|| "the process ended without an exit code".into(), |code| format!("exit code {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::key::Recipe;
    use std::num::NonZero;
    use tempfile::TempDir;

    fn key(kind: &str) -> Key {
        let (params, inputs) = (BTreeMap::new(), BTreeMap::new());
        Recipe { kind: kind.into(), version: 1, params, inputs, seed: None }.key()
    }

    /// Runs a shell script, in a session of its own, in the place of `repro exec`; its `$0` is the job's key.
    fn shell(script: &str, environment: Vec<(String, PathBuf)>) -> Local {
        Local::new("setsid".into(), ["sh", "-c", script].map(OsString::from).into(), environment, 2)
    }

    fn submit(local: &mut Local, kind: &str) -> (Key, TempDir) {
        submit_within(local, kind, None)
    }

    fn submit_within(local: &mut Local, kind: &str, time_limit: Option<Duration>) -> (Key, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (key, logs, threads) = (key(kind), dir.path().join("logs"), NonZero::new(3).unwrap());
        local.submit(Job { key, logs, threads, again: false, time_limit });
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
        assert_eq!(outcome_of("exit 130"), Outcome::Stopped(told("exit code 130", None)));
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

    /// Until there is no process of this id.
    fn await_end(pid: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        let lives = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() {
            assert!(Instant::now() < until, "process {pid} lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_a_job_leaves_behind_ends_with_it() {
        let mut local = shell("sleep 1000 & echo $!", Vec::new());
        let (_, dir) = submit(&mut local, "k");
        assert_eq!(next(&mut local).1, Outcome::Exited);
        await_end(fs::read_text(&dir.path().join("logs/stdout")).unwrap().trim());
    }

    #[test]
    fn a_job_that_takes_too_long_ends_with_all_it_has_started_even_if_it_will_not() {
        let mut local = shell("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000", Vec::new());
        let (_, dir) = submit_within(&mut local, "k", Some(Duration::from_millis(300)));
        let until = Instant::now() + Duration::from_secs(60);
        let outcome = loop {
            assert!(Instant::now() < until, "it goes on");
            if let Some((_, outcome)) = local.wait(Duration::from_millis(50)) {
                break outcome;
            }
        };
        assert_eq!(outcome, Outcome::Failed(told("it took longer than 0.3 s", None)));
        await_end(fs::read_text(&dir.path().join("logs/stdout")).unwrap().trim());
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines_that_say_something() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(tail(dir.path(), 3), [""; 0], "no log is an empty one");
        fs::write(&dir.path().join(STDERR), b"one\n\ntwo\n \nthr\xffee\n\n").unwrap();
        assert_eq!(tail(dir.path(), 2), ["two", "thr\u{fffd}ee"]);
        assert_eq!(tail(dir.path(), 9).len(), 3);
    }

    #[test]
    fn of_a_long_log_only_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let lines: Vec<String> = (0..100_000).map(|line| format!("line {line}")).collect();
        fs::write(&dir.path().join(STDERR), lines.join("\n")).unwrap();
        assert_eq!(tail(dir.path(), 2), lines[99_998..]);
        let all = tail(dir.path(), 100_000);
        let (first, whole) = all.split_first().unwrap();
        assert!(whole.len() > 1000 && whole.len() < 10_000, "{}", whole.len());
        assert_eq!(whole, &lines[100_000 - whole.len()..]);
        assert!(lines[99_999 - whole.len()].ends_with(first.as_str()), "the first may have lost its beginning");
    }
}
