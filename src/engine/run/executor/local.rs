//! Jobs in child processes of this program, on this machine.
//!
//! A child reads an [`Order`] from its standard input, runs that job, and says with a byte on its
//! standard output that it is done and takes another; it ends when there is none, or when a job
//! fails. The exit status of the process says how the job failed. To start a process takes longer than
//! many a job; but a job that computes in its process has one of its own, whose memory is then the
//! job's.
//!
//! A thread per job waits for it and reports over a channel: simpler than polling, and with as many jobs as cores
//! the threads cost nothing. Each child begins a session of its own, where no terminal's Ctrl-C reaches it, and is to be
//! the subreaper of what it starts, which ends with it (see [`crate::process`]). If the child is killed, this process ends
//! what it leaves behind; if this process is killed, the child goes on to its end; if both are, nothing is left to end
//! the rest. Knows no plan, no store and no stage: a child is told a key and the cache folder.

use super::log::{STOPPED, TAKEN, UNAVAILABLE, said};
use super::{Executor, Failure, Job, Order, Outcome};
use crate::engine::key::Key;
use crate::engine::text::shorten;
use crate::{fs, process};
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long one that was asked to end is waited for before it is made to.
pub const GRACE: Duration = Duration::from_secs(2);

/// How many characters a cause may have: it is to fit on a screen.
const SCREEN: usize = 1000;

/// A job that ended, and how.
type Ended = (Key, Outcome);

/// Starts `program` with `arguments` for jobs.
pub struct Local {
    program: PathBuf,
    /// What it is called in the system's list of processes.
    name: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, PathBuf)>,
    slots: usize,
    /// Where the logs of its processes are.
    scratch: PathBuf,
    spawned: usize,
    processes: Processes,
    done: (Sender<Ended>, Receiver<Ended>),
}

/// The processes of running jobs, and those that wait for a job.
#[derive(Clone, Default)]
pub struct Processes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    jobs: BTreeMap<Key, JobProcess>,
    idle: Vec<Worker>,
}

struct JobProcess {
    /// Not waited for yet, so its id is no other process's.
    pid: Pid,
    began: Instant,
    limit: Option<Duration>,
    /// Since when it has been too late.
    late: Option<Instant>,
}

/// A process that takes orders.
struct Worker {
    child: Child,
    replies: ChildStdout,
    /// What its streams are written to. A job's log is another name of this file, so that jobs that
    /// write nothing cost no file.
    log: PathBuf,
}

impl Worker {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Gives it a job; the last one, if the job does not share its process.
    fn take(&mut self, order: &Order, is_last: bool) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        match &mut self.child.stdin {
            Some(stdin) => stdin.write_all(&line)?,
            None => return Err(std::io::ErrorKind::BrokenPipe.into()),
        }
        if is_last {
            self.child.stdin = None;
        }
        Ok(())
    }

    /// The order for a job, whose log is made.
    fn order(&self, job: &Job) -> Result<Order> {
        fs::remove_if_exists(&job.log)?;
        let log = match fs::link_new(&self.log, &job.log) {
            Ok(true) => &self.log,
            // On a disk without hard links it is a file of its own.
            _ => fs::append(&job.log).map(|_| &job.log)?,
        };
        // Failure by its own name: the process has another folder to work in.
        let log = std::path::absolute(log)
            .with_context(|| format!("`{}` cannot be a log", log.display()))?;
        let &Job { key, threads, again, time_limit, shares_process: is_one_of_many, .. } = job;
        Ok(Order { key, threads, again, time_limit, is_one_of_many, log })
    }

    /// Whether it comes to the end of its job well, and takes another. If not, it ends.
    fn takes_another(&mut self) -> bool {
        let mut reply = [0];
        loop {
            match self.replies.read(&mut reply) {
                Ok(n) => return n > 0 && self.child.stdin.is_some(),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Leaves the log to its job if there is anything in it, and begins another.
    fn leave_log(&self, job: &Job) {
        if std::fs::metadata(&job.log).is_ok_and(|meta| meta.len() == 0) {
            let _ = fs::remove_if_exists(&job.log);
        } else {
            let _ = fs::remove_if_exists(&self.log).and_then(|()| fs::append(&self.log));
        }
    }

    /// Ends it, if it has not ended; gives what it failed of.
    fn dismiss(mut self) -> Option<String> {
        drop(self.child.stdin.take());
        let failure = match self.child.wait() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(failure(&self.log, status).cause),
            Err(error) => Some(format!("cannot wait for the process: {error}")),
        };
        let _ = fs::remove_if_exists(&self.log);
        failure
    }
}

impl State {
    /// The processes that are known here: all others below this one have been left behind.
    fn pids(&self) -> Vec<Pid> {
        self.jobs.values().map(|job| job.pid).chain(self.idle.iter().map(Worker::pid)).collect()
    }
}

impl Processes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends them all at once, with all they have started.
    pub fn kill(&self) {
        let pids = self.lock().pids();
        process::end_trees(&pids);
        process::end_orphans(&pids);
    }

    /// Asks those to end whose time is up, and ends those that were asked long enough ago.
    fn end_late(&self) {
        for job in self.lock().jobs.values_mut() {
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

    /// Waits until a job is done or its process has ended.
    fn finish(&self, job: &Job, mut worker: Worker) -> Outcome {
        if worker.takes_another() {
            worker.leave_log(job);
            let mut state = self.lock();
            match state.jobs.remove(&job.key) {
                Some(JobProcess { late: None, .. }) => state.idle.push(worker),
                // It was asked to end, and will.
                _ => _ = worker.dismiss(),
            }
            return Outcome::Exited;
        }
        let (status, late) = self.bury(job.key, &mut worker.child);
        worker.leave_log(job);
        let _ = fs::remove_if_exists(&worker.log);
        // One that was done before it could be ended is done.
        let late = late.filter(|_| !status.as_ref().is_ok_and(ExitStatus::success));
        late.map_or_else(|| outcome(&status, &job.log), too_late)
    }

    /// Waits for a job's process, and ends what it left behind. Gives the time limit, if it was that which ended it.
    fn bury(&self, key: Key, child: &mut Child) -> (std::io::Result<ExitStatus>, Option<Duration>) {
        let pid = Pid::from_child(child);
        let ended = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while matches!(ended(), Err(rustix::io::Errno::INTR)) {}
        // Locked until it is waited for: its id is among the known ones as long as it is a child.
        let mut state = self.lock();
        let _ = kill_process_group(pid, Signal::KILL);
        let status = child.wait();
        let job = state.jobs.remove(&key);
        if status.as_ref().is_ok_and(|status| status.signal().is_some()) {
            process::end_orphans(&state.pids());
        }
        (status, job.filter(|job| job.late.is_some()).and_then(|job| job.limit))
    }
}

impl Local {
    /// With `slots` children at once, which have `environment` besides ours. Their logs are in `scratch`, on the disk of
    /// the jobs' own.
    pub fn new(
        program: PathBuf,
        arguments: Vec<OsString>,
        environment: Vec<(String, PathBuf)>,
        slots: usize,
        scratch: PathBuf,
    ) -> Local {
        let (name, processes) = (program.clone(), Processes::default());
        Local {
            program,
            name,
            arguments,
            environment,
            slots,
            scratch,
            spawned: 0,
            processes,
            done: channel(),
        }
    }

    /// Its children are called `name`, wherever their program lies.
    pub fn called(mut self, name: PathBuf) -> Local {
        self.name = name;
        self
    }

    /// Its processes, for a signal that must end them at once.
    pub fn processes(&self) -> Processes {
        self.processes.clone()
    }

    /// Ends the processes that wait for a job, and waits until they have handed their results to the disk. Until then they
    /// hold the cache.
    pub fn close(&mut self) -> Result<()> {
        let idle = std::mem::take(&mut self.processes.lock().idle);
        let failures: Vec<String> = idle.into_iter().filter_map(Worker::dismiss).collect();
        match failures.first() {
            Some(cause) => bail!("a process failed after its last job: {cause}"),
            None => Ok(()),
        }
    }

    /// Gives the job to a process: one that waits for one, or a new one.
    fn begin(&mut self, job: &Job) -> Result<Worker> {
        let processes = self.processes();
        // Locked until it is among the others: who ends them all must not miss one.
        let mut state = processes.lock();
        let worker = loop {
            let idle = if job.shares_process { state.idle.pop() } else { None };
            let is_new = idle.is_none();
            let mut worker = idle.map_or_else(|| self.spawn(), Ok)?;
            let order = worker.order(job)?;
            // Of a new one, how it ended says why it took no order; another has been killed meanwhile.
            if worker.take(&order, !job.shares_process).is_ok() || is_new {
                break worker;
            }
            let _ = worker.dismiss();
        };
        let (pid, began) = (worker.pid(), Instant::now());
        state.jobs.insert(job.key, JobProcess { pid, began, limit: job.time_limit, late: None });
        Ok(worker)
    }

    fn spawn(&mut self) -> Result<Worker> {
        self.spawned += 1;
        let log = self.scratch.join(format!("log-{}", self.spawned));
        let stderr = fs::append(&log)?;
        let mut command = Command::new(&self.program);
        command
            .arg0(&self.name)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child =
            command.spawn().with_context(|| format!("cannot start `{}`", self.name.display()))?;
        let replies = child.stdout.take().context("BUG: its standard output is a pipe")?;
        Ok(Worker { child, replies, log })
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

    fn submit(&mut self, job: Job) -> Result<()> {
        let (report, processes) = (self.done.0.clone(), self.processes());
        match self.begin(&job) {
            // If there is no thread, the process is among those that are ended when the command fails.
            Ok(worker) => process::start_thread(move || {
                let outcome = processes.finish(&job, worker);
                // The receiver is gone once the run has been given up.
                let _ = report.send((job.key, outcome));
            }),
            Err(error) if process::exhausted(&error).is_some() => Err(error),
            Err(error) => {
                let failure = Failure { cause: format!("{error:#}"), hint: None };
                let _ = report.send((job.key, Outcome::Failed(failure)));
                Ok(())
            }
        }
    }

    fn wait(&mut self, patience: Duration) -> Option<(Key, Outcome)> {
        self.processes.end_late();
        self.done.1.recv_timeout(patience).ok()
    }

    fn kill(&mut self) {
        self.processes.lock().jobs.values().for_each(|job| process::request_end(job.pid));
        let until = Instant::now() + GRACE;
        while !self.processes.lock().jobs.is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.processes.kill();
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // Where this may fail, it has been called.
        let _ = self.close();
    }
}

fn too_late(limit: Duration) -> Outcome {
    Outcome::Failed(Failure {
        cause: format!("it took longer than {} s", limit.as_secs_f64()),
        hint: None,
    })
}

fn outcome(status: &std::io::Result<ExitStatus>, log: &Path) -> Outcome {
    match status {
        Ok(status) if status.success() => Outcome::Exited,
        Ok(status) if status.code() == Some(i32::from(TAKEN)) => Outcome::AlreadyRunning,
        Ok(status) if status.code() == Some(i32::from(UNAVAILABLE)) => {
            Outcome::Unavailable(failure(log, *status))
        }
        Ok(status) if is_stopped(*status) => Outcome::Stopped(failure(log, *status)),
        Ok(status) => Outcome::Failed(failure(log, *status)),
        Err(error) => Outcome::Failed(Failure {
            cause: format!("cannot wait for the process: {error}"),
            hint: None,
        }),
    }
}

/// Whether it ended because it was asked to.
fn is_stopped(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(STOPPED)) || matches!(status.signal(), Some(1 | 2 | 15))
}

/// What the job itself said last; how it ended, if it said nothing.
fn failure(log: &Path, status: ExitStatus) -> Failure {
    // A process that was killed has not written its cause: the last lines are of its program.
    let (cause, hint) = if status.signal().is_some() { (None, None) } else { said(log) };
    let cause = cause.map(|cause| shorten(&cause, SCREEN).into_owned());
    Failure { cause: cause.unwrap_or_else(|| describe(status)), hint }
}

fn describe(status: ExitStatus) -> String {
    if let Some(signal) = status.signal() {
        let guess = if signal == 9 { " (killed; out of memory?)" } else { "" };
        return format!("the process died of signal {signal}{guess}");
    }
    status.code().map_or_else(
        || "the process ended without an exit code".into(),
        |code| format!("exit code {code}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::log::tail;
    use super::*;
    use crate::engine::key::Recipe;
    use std::num::NonZero;
    use tempfile::TempDir;

    fn key(kind: &str) -> Key {
        let (params, inputs) = (BTreeMap::new(), BTreeMap::new());
        Recipe { kind: kind.into(), version: 1, params, inputs, seed: None }.key()
    }

    /// Runs a shell script, in a session of its own, in the place of `repro exec`; its `$0` is the job's key.
    struct TestSpace {
        local: Local,
        dir: TempDir,
    }

    fn bench(program: &str, arguments: &[&str], environment: Vec<(String, PathBuf)>) -> TestSpace {
        let dir = tempfile::tempdir().unwrap();
        let arguments = arguments.iter().map(OsString::from).collect();
        let local = Local::new(program.into(), arguments, environment, 2, dir.path().to_owned());
        TestSpace { local, dir }
    }

    /// Runs a shell script, in a session of its own, in the place of `repro exec`.
    fn shell(script: &str) -> TestSpace {
        bench("setsid", &["sh", "-c", script], Vec::new())
    }

    impl TestSpace {
        fn submit_job(
            &mut self,
            kind: &str,
            time_limit: Option<Duration>,
            shares_process: bool,
        ) -> Key {
            let (key, log, threads) =
                (key(kind), self.dir.path().join(kind), NonZero::new(3).unwrap());
            self.local
                .submit(Job { key, log, threads, again: false, time_limit, shares_process })
                .unwrap();
            key
        }

        fn submit(&mut self, kind: &str) -> Key {
            self.submit_job(kind, None, false)
        }

        fn next(&mut self) -> (Key, Outcome) {
            self.local.wait(Duration::from_secs(60)).expect("the job ends within a minute")
        }

        fn log(&self, kind: &str) -> String {
            fs::read_text(&self.dir.path().join(kind)).unwrap()
        }
    }

    fn outcome_of(script: &str) -> Outcome {
        let mut bench = shell(script);
        let key = bench.submit("k");
        let (ended, outcome) = bench.next();
        assert_eq!(ended, key);
        outcome
    }

    fn failure(cause: &str, hint: Option<&str>) -> Failure {
        Failure { cause: cause.to_owned(), hint: hint.map(str::to_owned) }
    }

    #[test]
    fn a_job_that_ends_with_zero_says_it_is_done() {
        assert_eq!(outcome_of("exit 0"), Outcome::Exited);
    }

    #[test]
    fn a_job_that_fails_is_quoted() {
        let script = "echo so far so good >&2; echo 'error: the disk is full' >&2; echo 'hint: buy one' >&2; exit 7";
        assert_eq!(
            outcome_of(script),
            Outcome::Failed(failure("the disk is full", Some("buy one")))
        );
        assert_eq!(
            outcome_of("echo 'error: no' >&2; exit 1"),
            Outcome::Failed(failure("no", None))
        );
    }

    #[test]
    fn a_job_that_fails_without_a_word_is_known_by_how_it_ended() {
        assert_eq!(outcome_of("exit 3"), Outcome::Failed(failure("exit code 3", None)));
        let killed = "the process died of signal 9 (killed; out of memory?)";
        assert_eq!(outcome_of("kill -9 $$"), Outcome::Failed(failure(killed, None)));
        assert_eq!(
            outcome_of("kill -15 $$"),
            Outcome::Stopped(failure("the process died of signal 15", None))
        );
        assert_eq!(outcome_of("exit 130"), Outcome::Stopped(failure("exit code 130", None)));
    }

    #[test]
    fn a_job_may_leave_its_question_to_another_process() {
        assert_eq!(outcome_of("exit 75"), Outcome::AlreadyRunning);
    }

    #[test]
    fn a_job_may_say_that_its_answer_cannot_be_had() {
        let script =
            "echo 'error: no mirror answered' >&2; echo 'hint: pass `--data`' >&2; exit 69";
        assert_eq!(
            outcome_of(script),
            Outcome::Unavailable(failure("no mirror answered", Some("pass `--data`")))
        );
    }

    #[test]
    fn a_program_that_cannot_be_started_is_a_failed_job() {
        let mut bench = bench("/nowhere/repro", &[], Vec::new());
        let key = bench.submit("k");
        let (ended, outcome) = bench.next();
        assert_eq!(ended, key);
        let Outcome::Failed(Failure { cause, hint: None }) = outcome else { panic!("{outcome:?}") };
        assert!(cause.starts_with("cannot start `/nowhere/repro`: "), "{cause}");
    }

    #[test]
    fn a_process_is_given_an_order_and_the_environment_and_its_streams_are_the_log() {
        let script = "read order; echo \"$order $EXTRA\" >&2";
        let mut bench =
            bench("setsid", &["sh", "-c", script], vec![("EXTRA".into(), "given".into())]);
        let key = bench.submit("k");
        assert_eq!(bench.next().1, Outcome::Exited);
        let log = bench.log("k");
        let order: Order = serde_json::from_str(log.strip_suffix(" given\n").unwrap()).unwrap();
        assert_eq!(
            (order.key, order.threads.get(), order.again, order.time_limit),
            (key, 3, false, None)
        );
        assert!(order.log.is_absolute());
    }

    /// Runs jobs as `repro exec` does: what it does for an order `$order` is `script`.
    fn server(script: &str) -> TestSpace {
        shell(&format!("while read order; do {script}; echo; done"))
    }

    #[test]
    fn jobs_that_share_a_process_are_run_by_one_and_others_have_one_of_their_own() {
        for (shares, processes) in [(true, 1), (false, 3)] {
            let mut bench = server("echo $$ >> \"$HOME/pids\"");
            bench.local.environment = vec![("HOME".into(), bench.dir.path().to_owned())];
            for kind in ["one", "two", "three"] {
                let key = bench.submit_job(kind, None, shares);
                assert_eq!(bench.next(), (key, Outcome::Exited));
            }
            let pids = fs::read_text(&bench.dir.path().join("pids")).unwrap();
            let pids: std::collections::BTreeSet<&str> = pids.lines().collect();
            assert_eq!(pids.len(), processes, "{pids:?}");
            drop(bench.local);
            pids.into_iter().for_each(await_end);
        }
    }

    #[test]
    fn a_process_that_was_killed_while_it_had_no_job_fails_none() {
        let mut bench = server("true");
        for kind in ["one", "two"] {
            let key = bench.submit_job(kind, None, true);
            assert_eq!(bench.next(), (key, Outcome::Exited));
            let pid = bench.local.processes.lock().idle[0].pid();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        }
    }

    #[test]
    fn a_process_whose_job_fails_is_replaced() {
        let mut bench = server("case $order in *'\"threads\":3'*) exit 3;; esac");
        for kind in ["one", "two"] {
            bench.submit_job(kind, None, true);
            assert_eq!(bench.next().1, Outcome::Failed(failure("exit code 3", None)));
        }
        assert!(bench.local.processes.lock().idle.is_empty());
    }

    #[test]
    fn a_job_has_a_log_if_it_has_written_anything_and_nothing_of_another_is_in_it() {
        let log = "log=$(expr \"$order\" : '.*\"log\":\"\\([^\"]*\\)')";
        let mut bench = server(&format!(
            "{log}; case $order in *'\"again\":true'*) ;; *) echo said >> $log;; esac"
        ));
        let logs = |bench: &TestSpace| {
            let names = fs::list(bench.dir.path()).unwrap();
            names.into_iter().filter(|name| !name.starts_with("log-")).collect::<Vec<_>>()
        };
        for (kind, silent) in [("one", false), ("two", true), ("three", false), ("four", true)] {
            let (key, log) = (key(kind), bench.dir.path().join(kind));
            let (threads, time_limit) = (NonZero::<usize>::MIN, None);
            bench
                .local
                .submit(Job { key, log, threads, again: silent, time_limit, shares_process: true })
                .unwrap();
            assert_eq!(bench.next(), (key, Outcome::Exited));
        }
        assert_eq!(logs(&bench), ["one", "three"]);
        assert_eq!([bench.log("one"), bench.log("three")], ["said\n", "said\n"]);
    }

    #[test]
    fn killing_ends_every_job() {
        let mut bench = shell("exec sleep 1000");
        let mut submitted = ["one", "two"].map(|kind| bench.submit(kind));
        assert_eq!(bench.local.wait(Duration::ZERO), None);
        bench.local.kill();
        let mut ended = [(); 2].map(|()| bench.next().0);
        ended.sort_unstable();
        submitted.sort_unstable();
        assert_eq!(ended, submitted);
    }

    /// Until there is no process of this id.
    fn await_end(pid: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        let lives = || {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
        };
        while lives() {
            assert!(Instant::now() < until, "process {pid} lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_a_job_leaves_behind_ends_with_it() {
        let mut bench = shell("sleep 1000 >&2 & echo $! >&2");
        bench.submit("k");
        assert_eq!(bench.next().1, Outcome::Exited);
        await_end(bench.log("k").trim());
    }

    #[test]
    fn a_job_that_takes_too_long_ends_with_all_it_has_started_even_if_it_will_not() {
        let mut bench = shell("trap '' TERM; sleep 1000 & echo $! >&2; wait; sleep 1000");
        bench.submit_job("k", Some(Duration::from_millis(300)), false);
        let until = Instant::now() + Duration::from_secs(60);
        let outcome = loop {
            assert!(Instant::now() < until, "it goes on");
            if let Some((_, outcome)) = bench.local.wait(Duration::from_millis(50)) {
                break outcome;
            }
        };
        assert_eq!(outcome, Outcome::Failed(failure("it took longer than 0.3 s", None)));
        await_end(bench.log("k").trim());
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines_that_say_something() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(tail(&log, 3), [""; 0], "no log is an empty one");
        fs::write(&log, b"one\n\ntwo\n \nthr\xffee\n\n").unwrap();
        assert_eq!(tail(&log, 2), ["two", "thr\u{fffd}ee"]);
        assert_eq!(tail(&log, 9).len(), 3);
    }

    #[test]
    fn of_a_long_log_only_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let lines: Vec<String> = (0..100_000).map(|line| format!("line {line}")).collect();
        let log = dir.path().join("log");
        fs::write(&log, lines.join("\n")).unwrap();
        assert_eq!(tail(&log, 2), lines[99_998..]);
        let all = tail(&log, 100_000);
        let (first, whole) = all.split_first().unwrap();
        assert!(whole.len() > 1000 && whole.len() < 10_000, "{}", whole.len());
        assert_eq!(whole, &lines[100_000 - whole.len()..]);
        assert!(
            lines[99_999 - whole.len()].ends_with(first.as_str()),
            "the first may have lost its beginning"
        );
    }
}
