//! `repro exec`: a process that runs jobs for an executor.

mod nodes;

use super::args::{Common, ExecArgs};
use super::output::{AlreadyReported, outcome};
use super::session::jobs::Jobs;
use super::session::remote::Use;
use crate::engine::cache::store::Store;
use crate::engine::cache::workspace::Workbench;
use crate::engine::key::Key;
use crate::engine::run::executor::log::ERROR;
use crate::engine::run::executor::slurm::{Folder, task};
use crate::engine::run::executor::{Choice, GRACE, Request, write_outcome};
use crate::engine::run::recompute::RECOMPUTED;
use crate::engine::run::worker::{self, ExecOptions};
use crate::{fs, process, stage};
use anyhow::{Context as _, Result};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{getpid, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdout, stdout};
use std::fs::File;
use std::io::{StdinLock, Write as _, stdin};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

pub(super) fn exec(common: &Common, args: &ExecArgs) -> Result<String> {
    set_name();
    if let (Some(folder), Some(task)) = (&args.submission, args.task) {
        return run_task(common, args, folder, task);
    }
    start_session();
    let _timer = args.time_limit.map(end_after).transpose()?;
    let Some(key) = args.key else { return serve(common, args) };
    let (store, project) = (common.store(), common.project()?);
    // A job may outlive the run that started it.
    let _lock = store.lock_shared(true)?;
    let &ExecArgs { program, threads, force, ref commit, .. } = args;
    let commit = commit.as_ref();
    let project = Some(project.as_path());
    let options = ExecOptions { program, commit, threads, force, sync_later: false, project };
    compute(&store, key, options, args.recompute.as_deref(), &mut store.workbench()?)?;
    Ok(String::new())
}

/// Runs a task of a submission to Slurm. Its jobs run in workers, one after the other.
fn run_task(common: &Common, args: &ExecArgs, folder: &Path, task: usize) -> Result<String> {
    let store = common.store();
    let _lock = store.lock_shared(true)?;
    let program = args.program.map(|program| ["--program".into(), program.to_string().into()]);
    let commit = args.commit.as_ref().map(|commit| ["--commit".into(), commit.to_string().into()]);
    let arguments = program.into_iter().chain(commit).flatten().collect();
    let folder = Folder::of(folder);
    let submission = folder.read()?;
    if let Some(names) = submission.nodes.get(task) {
        let how = Use { required: args.require_remote, writes: args.push };
        nodes::run(common, names, submission.retries, how, arguments)?;
        return Ok(String::new());
    }
    let mut jobs = Jobs::new(common, arguments, Some(1), store.scratch()?, Choice::Local)?;
    task::run(&store, &folder, task, &mut *jobs.executor, &jobs.interrupted)?;
    jobs.executor.close()?;
    Ok(String::new())
}

/// Runs the jobs requested on standard input, one after the other, until the input ends or a job
/// fails. [`Request`] describes the protocol.
fn serve(common: &Common, args: &ExecArgs) -> Result<String> {
    let replies = fcntl_dupfd_cloexec(stdout(), 3).context("cannot keep standard output")?;
    let mut replies = File::from(replies);
    let mut requests = Requests { lines: stdin().lines(), outcome: None };
    let Err(error) = run_jobs(common, args, &mut requests, &mut replies) else {
        return Ok(String::new());
    };
    // The job's workspace has been removed, so there is space for this file even if the disk was
    // full.
    let is_written =
        requests.outcome.is_some_and(|path| write_outcome(&path, &outcome(&error)).is_ok());
    // If the coordinator has ended, this process writes the error to the log instead.
    let is_reported = is_written && replies.write_all(b"!").is_ok();
    Err(if is_reported { error.context(AlreadyReported) } else { error })
}

/// The requests of an executor.
struct Requests {
    lines: std::io::Lines<StdinLock<'static>>,
    /// The file for the outcome of the last job.
    outcome: Option<PathBuf>,
}

impl Requests {
    /// Reads the next request; `None` at the end of the input. Redirects the output of this process
    /// to the log of the job.
    fn next(&mut self) -> Result<Option<Request>> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        let line = line.context("cannot read a request")?;
        let request: Request = serde_json::from_str(&line).context("invalid request")?;
        self.outcome = Some(request.outcome.clone());
        let log = fs::append(&request.log)?;
        dup2_stdout(&log).and_then(|()| dup2_stderr(&log)).context("cannot write to the log")?;
        Ok(Some(request))
    }
}

fn run_jobs(
    common: &Common,
    args: &ExecArgs,
    requests: &mut Requests,
    replies: &mut File,
) -> Result<()> {
    // Read before the first call that can fail, so that a failure is reported as that of a job.
    let mut next = requests.next()?;
    let (store, project) = (common.store(), common.project()?);
    // A job may outlive the run that started it.
    let _lock = store.lock_shared(true)?;
    let mut is_synced = true;
    let mut run = || -> Result<()> {
        let mut workbench = store.workbench()?;
        while let Some(request) = next.take() {
            let _timer = request.time_limit.map(end_after).transpose()?;
            let Request { key, threads, force, shares_process: sync_later, .. } = request;
            let (program, project) = (args.program, Some(project.as_path()));
            let commit = args.commit.as_ref();
            let options = ExecOptions { program, commit, threads, force, sync_later, project };
            compute(&store, key, options, args.recompute.as_deref(), &mut workbench)?;
            is_synced &= !sync_later || args.recompute.is_some();
            if replies.write_all(b"\n").is_err() {
                // The run has ended.
                break;
            }
            next = requests.next()?;
        }
        Ok(())
    };
    let result = run();
    // Synced even if a job failed, because earlier jobs have published their results.
    let synced = if is_synced { Ok(()) } else { store.sync() };
    result.and(synced)
}

/// Computes a recipe and publishes its result. With `recompute`, only writes the outputs below that
/// folder.
fn compute(
    store: &Store,
    key: Key,
    options: ExecOptions,
    recompute: Option<&Path>,
    workbench: &mut Workbench,
) -> Result<()> {
    match recompute {
        Some(folder) => {
            let folder = folder.join(key.to_string()).join(RECOMPUTED);
            worker::exec_recompute(store, stage::KINDS, key, options, &folder, workbench)
        }
        None => worker::exec(store, stage::KINDS, key, options, workbench).map(drop),
    }
}

/// Sets the name of this process in `ps` and `top`, because the path of the program may be
/// `/proc/self/exe`.
#[cfg(target_os = "linux")]
fn set_name() {
    // The name is for display only.
    let _ = rustix::thread::set_name(c"repro");
}

#[cfg(not(target_os = "linux"))]
fn set_name() {}

/// Starts a session without a terminal, so that the terminal sends no signals to this process, and
/// a program that asks for a password fails instead of waiting.
fn start_session() {
    // Fails if this process leads a process group, for example when a shell has started it.
    let _ = setsid();
}

/// Kills this process and its descendants some time after `limit`, unless the returned value is
/// dropped first. Normally the run enforces the time limit; this replaces a run that was killed.
fn end_after(limit: Duration) -> Result<Sender<()>> {
    let (alive, ended) = channel();
    process::start_thread(move || {
        if ended.recv_timeout(limit.saturating_add(2 * GRACE)) == Err(RecvTimeoutError::Timeout) {
            // The same message as that of the run.
            let limit = limit.as_secs_f64();
            let _ =
                writeln!(std::io::stderr(), "{ERROR}the job exceeded its time limit of {limit} s");
            process::kill_trees(&[getpid()]);
        }
    })?;
    Ok(alive)
}
