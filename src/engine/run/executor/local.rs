//! Jobs in child processes of this program, on this machine.
//!
//! A child ("worker") serves several [`Request`]s, one after the other, because starting a process
//! takes longer than a short job. A stage that computes inside the worker gets a separate worker,
//! so that the peak memory of the process is that of the job.
//!
//! One thread per job waits for the job and reports its end over a channel. This is simpler than
//! polling, and there are only as many jobs as cores.
//!
//! Each worker starts its own session, so that Ctrl-C in the terminal does not reach it, and is the
//! subreaper of the programs that it starts (see [`crate::process`]). If the worker is killed, this
//! process kills its orphaned programs. If this process is killed, the worker finishes its job. If
//! both are killed, the programs continue.
//!
//! Knows no plan, no store and no stage: a worker receives a key and the cache folder.

use super::outcome::{cannot_wait, describe, of_exit, take_outcome};
use super::{Capacity, Executor, Failure, GRACE, Job, KillHandle, Options, Outcome, Request};
use crate::engine::key::Key;
use crate::{fs, process};
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A job that ended, and its outcome.
type Ended = (Key, Outcome);

/// Starts workers for jobs.
pub(super) struct Local {
    options: Options,
    /// The number of workers that have been started.
    started: usize,
    workers: Workers,
    ended: (Sender<Ended>, Receiver<Ended>),
}

/// The busy and idle workers.
#[derive(Clone, Default)]
struct Workers(Arc<Mutex<WorkerTable>>);

#[derive(Default)]
struct WorkerTable {
    busy: BTreeMap<Key, Busy>,
    idle: Vec<Worker>,
}

/// A worker that runs a job.
struct Busy {
    /// The process is not reaped yet, so that the system cannot reuse its id.
    pid: Pid,
    began: Instant,
    limit: Option<Duration>,
    /// The time at which SIGTERM was sent because of the time limit.
    timed_out: Option<Instant>,
}

/// A worker process.
struct Worker {
    child: Child,
    replies: ChildStdout,
    /// The file for its output. The log of a job is a hard link to this file, so that a job without
    /// output needs no new file.
    log: PathBuf,
    /// The file for the outcome of a job that fails, absolute.
    outcome: PathBuf,
}

impl Worker {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a request, as a line. Closes the pipe if the job does not share its process.
    fn send(&mut self, request: &[u8], job: &Job) -> std::io::Result<()> {
        match &mut self.child.stdin {
            Some(stdin) => stdin.write_all(request)?,
            None => return Err(std::io::ErrorKind::BrokenPipe.into()),
        }
        if !job.shares_process {
            self.child.stdin = None;
        }
        Ok(())
    }

    /// Creates the log of the job, and returns the request for it, as a line.
    fn prepare(&self, job: &Job) -> Result<Vec<u8>> {
        fs::remove_if_exists(&job.log)?;
        let log = match fs::link_new(&self.log, &job.log) {
            Ok(true) => &self.log,
            // On a disk without hard links, the log is a separate file.
            _ => fs::append(&job.log).map(|_| &job.log)?,
        };
        let &Job { key, threads, force, shares_process, .. } = job;
        let request = Request {
            key,
            threads,
            force,
            time_limit: job.resources.time_limit,
            shares_process,
            log: absolute(log)?,
            outcome: self.outcome.clone(),
        };
        let mut line = serde_json::to_vec(&request).context("cannot send a job to a worker")?;
        line.push(b'\n');
        Ok(line)
    }

    /// Waits until the job has ended. Returns whether it succeeded and the worker accepts another
    /// one. If not, the worker ends.
    fn await_reply(&mut self) -> bool {
        let mut reply = [0];
        loop {
            match self.replies.read(&mut reply) {
                Ok(n) => return n > 0 && reply == *b"\n" && self.child.stdin.is_some(),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Leaves a non-empty log file to the job, and starts a new one.
    fn release_log(&self, job: &Job) {
        if std::fs::metadata(&job.log).is_ok_and(|meta| meta.len() == 0) {
            let _ = fs::remove_if_exists(&job.log);
        } else {
            let _ = fs::remove_if_exists(&self.log).and_then(|()| fs::append(&self.log));
        }
    }

    /// Ends an idle worker and waits for it. Returns the cause if the worker failed.
    fn dismiss(mut self) -> Option<String> {
        drop(self.child.stdin.take());
        let failure = match self.child.wait() {
            Ok(status) if status.success() => None,
            Ok(status) => Some(describe(status)),
            Err(error) => Some(cannot_wait(&error).cause),
        };
        let reported = take_outcome(&self.outcome);
        let _ = fs::remove_if_exists(&self.log);
        let reported = reported.as_ref().and_then(Outcome::failure);
        failure.map(|cause| reported.map_or(cause, |failure| failure.cause.clone()))
    }
}

/// The absolute path: a worker runs in another folder.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("`{}` has no absolute path", path.display()))
}

impl WorkerTable {
    /// The ids of all workers. Any other child of this process is an orphan of a dead worker.
    fn pids(&self) -> Vec<Pid> {
        self.busy.values().map(|busy| busy.pid).chain(self.idle.iter().map(Worker::pid)).collect()
    }
}

impl Workers {
    fn lock(&self) -> MutexGuard<'_, WorkerTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills all workers at once, with all processes that they have started.
    fn kill(&self) {
        let pids = self.lock().pids();
        process::kill_trees(&pids);
        process::kill_orphans(&pids);
    }

    /// Sends SIGTERM to the workers whose jobs have reached their time limit, and kills them
    /// [`GRACE`] later.
    fn enforce_time_limits(&self) {
        for busy in self.lock().busy.values_mut() {
            let is_over = busy.limit.is_some_and(|limit| busy.began.elapsed() >= limit);
            match busy.timed_out {
                None if is_over => {
                    busy.timed_out = Some(Instant::now());
                    process::terminate(busy.pid);
                }
                Some(since) if since.elapsed() >= GRACE => process::kill_trees(&[busy.pid]),
                _ => {}
            }
        }
    }

    /// Waits until a job has succeeded or its worker has ended.
    fn await_job(&self, job: &Job, mut worker: Worker) -> Outcome {
        if worker.await_reply() {
            worker.release_log(job);
            let mut table = self.lock();
            match table.busy.remove(&job.key) {
                Some(Busy { timed_out: None, .. }) => table.idle.push(worker),
                // SIGTERM was sent already.
                _ => _ = worker.dismiss(),
            }
            return Outcome::Exited;
        }
        let (status, timed_out) = self.reap(job.key, &mut worker.child);
        worker.release_log(job);
        let reported = take_outcome(&worker.outcome);
        let _ = fs::remove_if_exists(&worker.log);
        // The job may have succeeded in spite of the signal.
        match timed_out.filter(|_| !status.as_ref().is_ok_and(ExitStatus::success)) {
            Some(limit) => Outcome::Failed(timeout(limit)),
            None => reported.unwrap_or_else(|| of_exit(&status)),
        }
    }

    /// Waits for a worker to end, and kills its orphans. Returns the time limit if the worker
    /// exceeded it.
    fn reap(&self, key: Key, child: &mut Child) -> (std::io::Result<ExitStatus>, Option<Duration>) {
        let pid = Pid::from_child(child);
        let ended = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        while matches!(ended(), Err(rustix::io::Errno::INTR)) {}
        // Locked until the child is reaped, so that the table has its id as long as the process
        // exists.
        let mut table = self.lock();
        let _ = kill_process_group(pid, Signal::KILL);
        let status = child.wait();
        let busy = table.busy.remove(&key);
        if status.as_ref().is_ok_and(|status| status.signal().is_some()) {
            process::kill_orphans(&table.pids());
        }
        (status, busy.filter(|busy| busy.timed_out.is_some()).and_then(|busy| busy.limit))
    }
}

fn timeout(limit: Duration) -> Failure {
    Failure::new(format!("the job exceeded its time limit of {} s", limit.as_secs_f64()))
}

impl Local {
    pub(super) fn new(options: Options) -> Local {
        Local { options, started: 0, workers: Workers::default(), ended: channel() }
    }

    /// Sends the job to an idle worker or a new one.
    fn begin(&mut self, job: &Job) -> Result<Worker> {
        let workers = self.workers.clone();
        // Locked until the worker is in the table, so that `kill` does not miss it.
        let mut table = workers.lock();
        let worker = loop {
            let idle = if job.shares_process { table.idle.pop() } else { None };
            let is_new = idle.is_none();
            let mut worker = idle.map_or_else(|| self.spawn(), Ok)?;
            let request = worker.prepare(job)?;
            // If an idle worker does not accept the request, it was killed, and is replaced. If a
            // new one does not, its exit status shows the cause.
            if worker.send(&request, job).is_ok() || is_new {
                break worker;
            }
            let _ = worker.dismiss();
        };
        let (pid, limit) = (worker.pid(), job.resources.time_limit);
        table.busy.insert(job.key, Busy { pid, began: Instant::now(), limit, timed_out: None });
        Ok(worker)
    }

    fn spawn(&mut self) -> Result<Worker> {
        self.started += 1;
        let Options { program, name, arguments, environment, scratch, .. } = &self.options;
        let log = scratch.join(format!("log-{}", self.started));
        let outcome = absolute(&scratch.join(format!("outcome-{}.json", self.started)))?;
        let stderr = fs::append(&log)?;
        let mut command = Command::new(program);
        command.arg0(name).args(arguments).envs(environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child =
            command.spawn().with_context(|| format!("cannot start `{}`", name.display()))?;
        let replies = child.stdout.take().context("BUG: its standard output is a pipe")?;
        Ok(Worker { child, replies, log, outcome })
    }

    fn start(&mut self, job: Job) -> Result<()> {
        let (report, workers) = (self.ended.0.clone(), self.workers.clone());
        match self.begin(&job) {
            // If no thread can be started, the worker is in the table and is killed with the
            // others.
            Ok(worker) => process::start_thread(move || {
                let outcome = workers.await_job(&job, worker);
                // There is no receiver after the command has failed.
                let _ = report.send((job.key, outcome));
            }),
            Err(error) if process::limit_hint(&error).is_some() => Err(error),
            Err(error) => {
                let failure = Failure::new(format!("{error:#}"));
                let _ = report.send((job.key, Outcome::Failed(failure)));
                Ok(())
            }
        }
    }
}

impl Executor for Local {
    fn capacity(&self) -> Capacity {
        #[cfg(target_os = "linux")]
        let memory = {
            let system = rustix::system::sysinfo();
            system.totalram.saturating_mul(u64::from(system.mem_unit))
        };
        #[cfg(not(target_os = "linux"))]
        let memory = u64::MAX;
        Capacity { slots: self.options.slots, memory }
    }

    /// A worker that outlives its coordinator holds the lease of its key, which the scheduler sees.
    fn adopt(&mut self, _: &Job) -> Result<bool> {
        Ok(false)
    }

    fn submit(&mut self, jobs: Vec<Job>) -> Result<()> {
        jobs.into_iter().try_for_each(|job| self.start(job))
    }

    fn poll(&mut self, timeout: Duration) -> Result<Vec<Ended>> {
        self.workers.enforce_time_limits();
        let first = self.ended.1.recv_timeout(timeout);
        Ok(first.into_iter().chain(self.ended.1.try_iter()).collect())
    }

    fn cancel(&mut self, keys: &[Key]) {
        let busy = || -> Vec<Pid> {
            let table = self.workers.lock();
            keys.iter().filter_map(|key| table.busy.get(key)).map(|busy| busy.pid).collect()
        };
        busy().into_iter().for_each(process::terminate);
        let until = Instant::now() + GRACE;
        while !busy().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        process::kill_trees(&busy());
        let workers = self.workers.lock().pids();
        process::kill_orphans(&workers);
    }

    /// Idle workers hold the lock of the cache, and sync their results before they end.
    fn close(&mut self) -> Result<()> {
        let idle = std::mem::take(&mut self.workers.lock().idle);
        let failures: Vec<String> = idle.into_iter().filter_map(Worker::dismiss).collect();
        match failures.first() {
            Some(cause) => bail!("a process failed after its last job: {cause}"),
            None => Ok(()),
        }
    }

    fn kill_handle(&self) -> KillHandle {
        let workers = self.workers.clone();
        Box::new(move || workers.kill())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // Errors are ignored here; `close` reports them.
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stage::Resources;
    use crate::engine::testing::recipe;
    use std::ffi::OsString;
    use std::num::NonZero;
    use tempfile::TempDir;

    /// An executor that runs a shell script as its worker.
    struct ShellExecutor {
        local: Local,
        dir: TempDir,
        /// Jobs that have ended, for [`ShellExecutor::next`].
        ended: Vec<Ended>,
    }

    fn shell_executor(program: &str, arguments: &[&str]) -> ShellExecutor {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::new(Options {
            program: program.into(),
            name: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: vec![("FOLDER".into(), dir.path().to_owned())],
            slots: 2,
            scratch: dir.path().to_owned(),
        });
        ShellExecutor { local, dir, ended: Vec::new() }
    }

    /// An executor that runs `script` in its own session, as `repro exec` runs.
    fn shell(script: &str) -> ShellExecutor {
        shell_executor("setsid", &["sh", "-c", script])
    }

    /// An executor whose worker runs `script` for each request, as `repro exec` runs a job.
    fn server(script: &str) -> ShellExecutor {
        shell(&format!("while read request; do {script}; echo; done"))
    }

    /// Shell code that sets the variable `field` to this path of the request.
    fn path_of(field: &str) -> String {
        format!("{field}=$(expr \"$request\" : '.*\"{field}\":\"\\([^\"]*\\)')")
    }

    impl ShellExecutor {
        fn job(&self, kind: &str) -> Job {
            Job {
                key: recipe(kind).key(),
                kind: "",
                expected: None,
                log: self.dir.path().join(kind),
                resources: Resources::default(),
                threads: NonZero::new(3).unwrap(),
                force: false,
                shares_process: false,
            }
        }

        fn submit(&mut self, job: Job) -> Key {
            let key = job.key;
            self.local.submit(vec![job]).unwrap();
            key
        }

        /// Runs one job to its end.
        fn run(&mut self, job: Job) -> Outcome {
            let key = self.submit(job);
            let (ended, outcome) = self.next();
            assert_eq!(ended, key);
            outcome
        }

        fn next(&mut self) -> (Key, Outcome) {
            let until = Instant::now() + Duration::from_secs(60);
            loop {
                if let Some(ended) = self.ended.pop() {
                    return ended;
                }
                assert!(Instant::now() < until, "the job ends within a minute");
                self.ended.extend(self.local.poll(Duration::from_millis(50)).unwrap());
            }
        }

        fn log(&self, kind: &str) -> String {
            fs::read_text(&self.dir.path().join(kind)).unwrap()
        }
    }

    fn outcome_of(script: &str) -> Outcome {
        let mut space = shell(script);
        space.run(space.job("k"))
    }

    fn failed(cause: &str) -> Outcome {
        Outcome::Failed(Failure::new(cause))
    }

    #[test]
    fn a_process_that_exits_with_zero_reports_success() {
        assert_eq!(outcome_of("exit 0"), Outcome::Exited);
    }

    #[test]
    fn a_worker_reports_the_outcome_of_a_failed_job_in_a_file() {
        let disk = Failure { cause: "the disk is full".into(), hint: Some("buy one".into()) };
        for (json, outcome) in [
            (
                r#"{"kind":"failed","cause":"the disk is full","hint":"buy one"}"#,
                Outcome::Failed(disk.clone()),
            ),
            (
                r#"{"kind":"unavailable","cause":"the disk is full","hint":"buy one"}"#,
                Outcome::Unavailable(disk.clone()),
            ),
            (
                r#"{"kind":"interrupted","cause":"it was terminated"}"#,
                Outcome::Interrupted(Failure::new("it was terminated")),
            ),
            (r#"{"kind":"already-running"}"#, Outcome::AlreadyRunning),
        ] {
            let report = format!(
                "read request; {}; echo '{json}' > $outcome; printf !; exit 1",
                path_of("outcome")
            );
            let mut space = shell(&report);
            assert_eq!(space.run(space.job("k")), outcome);
            let files = fs::list(space.dir.path()).unwrap();
            assert!(!files.iter().any(|name| name.starts_with("outcome-")), "{files:?}");
        }
    }

    #[test]
    fn a_process_that_dies_without_an_outcome_is_described_by_its_exit_status() {
        assert_eq!(outcome_of("exit 3"), failed("exit code 3"));
        let killed = "the process died of signal 9 (killed; out of memory?)";
        assert_eq!(outcome_of("kill -9 $$"), failed(killed));
        let ended = Failure::new("the process died of signal 15");
        assert_eq!(outcome_of("kill -15 $$"), Outcome::Interrupted(ended));
    }

    #[test]
    fn an_error_line_in_the_log_is_not_the_outcome() {
        assert_eq!(outcome_of("echo 'error: of the program' >&2; exit 7"), failed("exit code 7"));
    }

    #[test]
    fn a_program_that_cannot_be_started_is_a_failed_job() {
        let mut space = shell_executor("/nowhere/repro", &[]);
        let outcome = space.run(space.job("k"));
        let Outcome::Failed(Failure { cause, hint: None }) = outcome else { panic!("{outcome:?}") };
        assert!(cause.starts_with("cannot start `/nowhere/repro`: "), "{cause}");
    }

    #[test]
    fn a_worker_gets_a_request_and_the_environment_and_its_streams_are_the_log() {
        let mut space = shell("read request; echo \"$request $FOLDER\" >&2");
        let job = space.job("k");
        assert_eq!(space.run(job.clone()), Outcome::Exited);
        let log = space.log("k");
        let (request, folder) = log.trim_end().rsplit_once(' ').unwrap();
        let request: Request = serde_json::from_str(request).unwrap();
        assert_eq!((request.key, request.threads.get()), (job.key, 3));
        assert_eq!((request.force, request.time_limit), (false, None));
        assert!(request.log.is_absolute() && request.outcome.is_absolute());
        assert_eq!(Path::new(folder), space.dir.path());
    }

    #[test]
    fn jobs_that_share_a_process_run_in_one_and_each_other_job_in_its_own() {
        for (shares_process, processes) in [(true, 1), (false, 3)] {
            let mut space = server("echo $$ >> \"$FOLDER/pids\"");
            for kind in ["one", "two", "three"] {
                let job = Job { shares_process, ..space.job(kind) };
                assert_eq!(space.run(job), Outcome::Exited);
            }
            let pids = fs::read_text(&space.dir.path().join("pids")).unwrap();
            let pids: std::collections::BTreeSet<&str> = pids.lines().collect();
            assert_eq!(pids.len(), processes, "{pids:?}");
            drop(space.local);
            pids.into_iter().for_each(await_end);
        }
    }

    #[test]
    fn several_jobs_are_submitted_and_reported_together() {
        let mut space = server("true");
        let jobs = ["one", "two", "three"].map(|kind| space.job(kind));
        let mut keys = jobs.each_ref().map(|job| job.key);
        space.local.submit(jobs.into()).unwrap();
        let mut ended = [(); 3].map(|()| space.next().0);
        keys.sort_unstable();
        ended.sort_unstable();
        assert_eq!(ended, keys);
    }

    #[test]
    fn killing_an_idle_worker_fails_no_job() {
        let mut space = server("true");
        for kind in ["one", "two"] {
            let job = Job { shares_process: true, ..space.job(kind) };
            assert_eq!(space.run(job), Outcome::Exited);
            let pid = space.local.workers.lock().idle[0].pid();
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        }
    }

    #[test]
    fn a_worker_whose_job_fails_is_replaced() {
        let mut space = server("exit 3");
        for kind in ["one", "two"] {
            let job = Job { shares_process: true, ..space.job(kind) };
            assert_eq!(space.run(job), failed("exit code 3"));
        }
        assert!(space.local.workers.lock().idle.is_empty());
    }

    #[test]
    fn a_worker_that_fails_after_its_last_job_fails_the_run() {
        let json = r#"{"kind":"failed","cause":"the disk is full","hint":null}"#;
        let outcome = path_of("outcome");
        for (report, cause) in [
            (format!("{outcome}; echo '{json}' > $outcome"), "the disk is full"),
            ("true".to_owned(), "exit code 7"),
        ] {
            let mut space = shell(&format!("read request; echo; {report}; read next; exit 7"));
            let job = Job { shares_process: true, ..space.job("k") };
            assert_eq!(space.run(job), Outcome::Exited);
            let error = space.local.close().unwrap_err().to_string();
            assert_eq!(error, format!("a process failed after its last job: {cause}"));
        }
    }

    #[test]
    fn a_job_has_a_log_if_it_writes_anything_and_nothing_of_another_job_is_in_it() {
        let mut space = server(&format!(
            "{}; case $request in *'\"force\":true'*) ;; *) echo text >> $log;; esac",
            path_of("log")
        ));
        for (kind, is_silent) in [("one", false), ("two", true), ("three", false), ("four", true)] {
            let job = Job { force: is_silent, shares_process: true, ..space.job(kind) };
            assert_eq!(space.run(job), Outcome::Exited);
        }
        let mut logs = fs::list(space.dir.path()).unwrap();
        logs.retain(|name| !name.starts_with("log-"));
        assert_eq!(logs, ["one", "three"]);
        assert_eq!([space.log("one"), space.log("three")], ["text\n", "text\n"]);
    }

    #[test]
    fn cancelling_ends_the_jobs_of_these_keys_and_no_others() {
        let mut space = shell("exec sleep 1000");
        let [one, two] = ["one", "two"].map(|kind| space.job(kind)).map(|job| space.submit(job));
        assert_eq!(space.local.poll(Duration::ZERO).unwrap(), []);
        space.local.cancel(&[one, recipe("unknown").key()]);
        assert_eq!(space.next().0, one);
        assert_eq!(space.local.poll(Duration::ZERO).unwrap(), []);
        space.local.cancel(&[two]);
        assert_eq!(space.next().0, two);
    }

    #[test]
    fn the_kill_handle_ends_every_job() {
        let mut space = shell("trap '' TERM; exec sleep 1000");
        let kill = space.local.kill_handle();
        let mut keys = ["one", "two"].map(|kind| space.job(kind)).map(|job| space.submit(job));
        kill();
        let mut ended = [(); 2].map(|()| space.next().0);
        keys.sort_unstable();
        ended.sort_unstable();
        assert_eq!(ended, keys);
    }

    /// Waits until no process has this id.
    fn await_end(pid: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        let is_alive = || {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "))
        };
        while is_alive() {
            assert!(Instant::now() < until, "process {pid} is still alive");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn processes_that_a_job_leaves_end_with_it() {
        let mut space = shell("sleep 1000 >&2 & echo $! >&2");
        assert_eq!(space.run(space.job("k")), Outcome::Exited);
        await_end(space.log("k").trim());
    }

    #[test]
    fn a_job_that_reaches_its_time_limit_is_killed_with_all_its_processes() {
        let mut space = shell("trap '' TERM; sleep 1000 & echo $! >&2; wait; sleep 1000");
        let time_limit = Some(Duration::from_millis(300));
        let resources = Resources { time_limit, ..Resources::default() };
        let job = Job { resources, ..space.job("k") };
        assert_eq!(space.run(job), failed("the job exceeded its time limit of 0.3 s"));
        await_end(space.log("k").trim());
    }
}
