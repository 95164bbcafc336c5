//! `repro exec`: the worker's side of a run.

use super::Common;
use crate::engine::cache::store::Store;
use crate::engine::cache::workspace::Workbench;
use crate::engine::key::{Digest, Key};
use crate::engine::run::executor::Order;
use crate::engine::run::executor::local::GRACE;
use crate::engine::run::executor::log::{ERROR, STOPPED, TAKEN, UNAVAILABLE};
use crate::engine::run::recompute::AGAIN;
use crate::engine::run::worker::{self as worker, AlreadyRunning, ExecOptions};
use crate::engine::stage::{Hinted, Unavailable};
use crate::{fs, process, stage};
use anyhow::{Context as _, Result};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{getpid, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdout, stdout};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _, stdin};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

pub(super) fn exec(
    common: &Common,
    key: Key,
    manner: ExecOptions,
    aside: Option<&Path>,
) -> Result<String> {
    let project = project(common)?;
    let manner = ExecOptions { project: Some(&project), ..manner };
    let store = common.store();
    // A job may outlive the run that started it.
    let _hold = store.lock_shared(true)?;
    compute(&store, key, manner, aside, &mut store.workbench()?)?;
    Ok(String::new())
}

/// Runs the jobs that are ordered on standard input, one after the other, until there is none or one fails.
pub(super) fn serve(
    common: &Common,
    program: Option<Digest>,
    aside: Option<&Path>,
) -> Result<String> {
    let replies = fcntl_dupfd_cloexec(stdout(), 3).context("cannot keep standard output")?;
    let (store, project) = (common.store(), project(common)?);
    let _hold = store.lock_shared(true)?;
    let mut is_synced = true;
    let served = take_orders(&store, &project, program, aside, File::from(replies), &mut is_synced);
    // Also what was published before a job that failed.
    let synced = if is_synced { Ok(()) } else { store.sync() };
    served.and(synced).map(|()| String::new())
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
        let order: Order = serde_json::from_str(&order.context("cannot read an order")?)
            .context("this is no order")?;
        let log = fs::append(&order.log)?;
        dup2_stdout(&log).and_then(|()| dup2_stderr(&log)).context("cannot write to the log")?;
        let _ending = order.time_limit.map(end_after).transpose()?;
        let Order { key, threads, again, is_one_of_many, .. } = order;
        let manner =
            ExecOptions { program, threads, again, is_one_of_many, project: Some(project) };
        compute(store, key, manner, aside, &mut workbench).inspect_err(|_| end_line(&order.log))?;
        *is_synced &= !is_one_of_many || aside.is_some();
        if replies.write_all(b"\n").is_err() {
            // The run has ended.
            break;
        }
    }
    Ok(())
}

/// Ends the last line of a log: what comes next begins another.
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

fn project(common: &Common) -> Result<PathBuf> {
    std::path::absolute(&common.directory).context("cannot tell where the project is")
}

/// Publishes the result; or leaves it in `aside/<key>/`, for a comparison.
fn compute(
    store: &Store,
    key: Key,
    manner: ExecOptions,
    aside: Option<&Path>,
    workbench: &mut Workbench,
) -> Result<()> {
    match aside {
        Some(folder) => {
            let folder = folder.join(key.to_string()).join(AGAIN);
            worker::exec_recompute(store, stage::KINDS, key, manner, &folder, workbench)
        }
        None => worker::exec(store, stage::KINDS, key, manner, workbench).map(drop),
    }
}

/// Takes the program's name in the system's list of processes: it was started by another path than its own.
#[cfg(target_os = "linux")]
pub(super) fn take_name() {
    // Without, it is only harder to find there.
    let _ = rustix::thread::set_name(c"repro");
}

#[cfg(not(target_os = "linux"))]
pub(super) fn take_name() {}

/// Leaves the caller's session for one of its own, without a terminal: the terminal's signals go past it, and a program
/// that asks the terminal for a password fails at once instead of stopping for ever.
pub(super) fn begin_session() {
    // The first process of a group cannot: then a shell has started it, to see it run.
    let _ = setsid();
}

/// Reads a number of seconds.
pub(super) fn time_limit(seconds: &str) -> Result<Duration, String> {
    let limit = seconds.parse().map(Duration::try_from_secs_f64);
    limit.ok().and_then(Result::ok).ok_or_else(|| format!("`{seconds}` is no number of seconds"))
}

/// Ends this process, with all it has started, when `limit` is long over, unless what this gives is
/// dropped first. The run that started it does so in time; this is for a process whose run was killed.
pub(super) fn end_after(limit: Duration) -> Result<Sender<()>> {
    let (alive, ended) = channel();
    process::start_thread(move || {
        if ended.recv_timeout(limit.saturating_add(2 * GRACE)) == Err(RecvTimeoutError::Timeout) {
            // What the run would have said, if it still lives.
            let _ =
                writeln!(std::io::stderr(), "{ERROR}it took longer than {} s", limit.as_secs_f64());
            process::end_trees(&[getpid()]);
        }
    })?;
    Ok(alive)
}

/// What would help, if the stage knew.
pub(super) fn hint(error: &anyhow::Error) -> Option<&str> {
    let hint = error.chain().find_map(|cause| {
        let unavailable =
            cause.downcast_ref::<Unavailable>().map(|unavailable| unavailable.hint.as_str());
        unavailable.or_else(|| cause.downcast_ref::<Hinted>().map(|hinted| hinted.hint.as_str()))
    });
    let is_unlocked = error.chain().any(|cause| cause.is::<fs::NoLocks>());
    let no_lock = "pass `--no-lock`, and let `gc` and `verify` run only while nothing else works in the cache";
    hint.or_else(|| process::exhausted(error)).or(is_unlocked.then_some(no_lock))
}

/// For errors that are not among [`crate::engine::error::Error`].
pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    let causes = |test: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(test);
    if causes(|cause| cause.is::<Unavailable>()) {
        UNAVAILABLE
    } else if causes(|cause| cause.is::<AlreadyRunning>()) {
        TAKEN
    } else if causes(|cause| cause.is::<process::Stopped>()) {
        STOPPED
    } else if causes(|cause| cause.is::<std::io::Error>() || cause.is::<fs::NoLocks>()) {
        7
    } else {
        1
    }
}
