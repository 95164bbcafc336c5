//! `repro exec`: a process that runs jobs for an executor.

use super::args::{Common, ExecArgs};
use crate::engine::cache::lock::Workbench;
use crate::engine::cache::store::Store;
use crate::engine::key::{Digest, Key};
use crate::engine::run::executor::Order;
use crate::engine::run::executor::local::GRACE;
use crate::engine::run::executor::log::ERROR;
use crate::engine::run::recompute::AGAIN;
use crate::engine::run::worker::{self, ExecOptions};
use crate::{fs, process, stage};
use anyhow::{Context as _, Result};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{getpid, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdout, stdout};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _, stdin};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

pub(super) fn exec(common: &Common, args: &ExecArgs) -> Result<String> {
    start_session();
    set_name();
    let _timer = args.time_limit.map(end_after).transpose()?;
    let (store, project) = (common.store(), common.project()?);
    // A job may outlive the run that started it.
    let _lock = store.lock_shared(true)?;
    let aside = args.aside.as_deref();
    match args.key {
        Some(key) => {
            let &ExecArgs { program, threads, again, .. } = args;
            let options = ExecOptions {
                program,
                threads,
                again,
                is_one_of_many: false,
                project: Some(&project),
            };
            compute(&store, key, options, aside, &mut store.workbench()?)?;
        }
        None => serve(&store, &project, args.program, aside)?,
    }
    Ok(String::new())
}

/// Runs the jobs ordered on standard input, one after the other, until the last one or until one
/// fails.
fn serve(
    store: &Store,
    project: &Path,
    program: Option<Digest>,
    aside: Option<&Path>,
) -> Result<()> {
    let replies = fcntl_dupfd_cloexec(stdout(), 3).context("cannot keep standard output")?;
    let mut is_synced = true;
    let served = take_orders(store, project, program, aside, File::from(replies), &mut is_synced);
    // Even if a job failed: earlier jobs have published their outputs.
    let synced = if is_synced { Ok(()) } else { store.sync() };
    served.and(synced)
}

fn take_orders(
    store: &Store,
    project: &Path,
    program: Option<Digest>,
    aside: Option<&Path>,
    mut replies: File,
    is_synced: &mut bool,
) -> Result<()> {
    let mut workbench = store.workbench()?;
    for order in stdin().lines() {
        let order: Order =
            serde_json::from_str(&order.context("cannot read a job from standard input")?)
                .context("invalid job on standard input")?;
        let log = fs::append(&order.log)?;
        dup2_stdout(&log).and_then(|()| dup2_stderr(&log)).context("cannot write to the log")?;
        let _timer = order.time_limit.map(end_after).transpose()?;
        let Order { key, threads, again, is_one_of_many, .. } = order;
        let options =
            ExecOptions { program, threads, again, is_one_of_many, project: Some(project) };
        compute(store, key, options, aside, &mut workbench)
            .inspect_err(|_| end_line(&order.log))?;
        *is_synced &= !is_one_of_many || aside.is_some();
        if replies.write_all(b"\n").is_err() {
            // The run has ended.
            break;
        }
    }
    Ok(())
}

/// Completes the last line of a log, so that the error message starts on a new one.
fn end_line(log: &Path) {
    let last = |mut log: File| -> std::io::Result<u8> {
        let mut last = [b'\n'];
        if log.seek(SeekFrom::End(0))? > 0 {
            log.seek(SeekFrom::End(-1))?;
            log.read_exact(&mut last)?;
        }
        Ok(last[0])
    };
    if File::open(log).and_then(last).is_ok_and(|last| last != b'\n') {
        let _ = std::io::stderr().write_all(b"\n");
    }
}

/// Publishes the outputs; with `aside`, leaves them there for a comparison.
fn compute(
    store: &Store,
    key: Key,
    options: ExecOptions,
    aside: Option<&Path>,
    workbench: &mut Workbench,
) -> Result<()> {
    match aside {
        Some(folder) => {
            let folder = folder.join(key.to_string()).join(AGAIN);
            worker::exec_recompute(store, stage::KINDS, key, options, &folder, workbench)
        }
        None => worker::exec(store, stage::KINDS, key, options, workbench).map(drop),
    }
}

/// Sets the name of this process in `ps` and `top`. It was started through another path.
#[cfg(target_os = "linux")]
fn set_name() {
    // A failure changes nothing else.
    let _ = rustix::thread::set_name(c"repro");
}

#[cfg(not(target_os = "linux"))]
fn set_name() {}

/// Starts a session without a terminal. The terminal then sends no signals to this process, and a
/// program that reads a password from the terminal fails instead of waiting.
fn start_session() {
    // Fails for the leader of a process group, as when a shell starts this program.
    let _ = setsid();
}

/// Ends this process, with all processes below it, some time after `limit`, unless the returned
/// value is dropped first. Normally the run ends a late job; this is for a run that was killed.
fn end_after(limit: Duration) -> Result<Sender<()>> {
    let (alive, ended) = channel();
    process::start_thread(move || {
        if ended.recv_timeout(limit.saturating_add(2 * GRACE)) == Err(RecvTimeoutError::Timeout) {
            // The message of the run, for its log.
            let _ =
                writeln!(std::io::stderr(), "{ERROR}it took longer than {} s", limit.as_secs_f64());
            process::end_trees(&[getpid()]);
        }
    })?;
    Ok(alive)
}
