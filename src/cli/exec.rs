//! `repro exec KEY`: the worker's side of a run.

use super::Common;
use crate::engine::exec::{self as worker, Manner, Taken};
use crate::engine::executor::local::GRACE;
use crate::engine::executor::log::{ERROR, STOPPED, TAKEN, UNAVAILABLE};
use crate::engine::key::Key;
use crate::engine::recompute::AGAIN;
use crate::engine::stage::Unavailable;
use crate::{process, stage};
use anyhow::Result;
use rustix::process::{getpid, setsid};
use std::io::Write as _;
use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

pub(super) fn exec(common: &Common, key: Key, manner: Manner) -> Result<String> {
    let store = common.store();
    // A job may outlive the run that started it.
    let _hold = store.share(true)?;
    worker::exec(&store, stage::KINDS, key, manner)?;
    Ok(String::new())
}

/// Answers it into `folder/<key>/`, for a comparison.
pub(super) fn aside(common: &Common, key: Key, threads: NonZero<usize>, folder: &Path) -> Result<String> {
    let folder = folder.join(key.to_string()).join(AGAIN);
    let store = common.store();
    let _hold = store.share(true)?;
    worker::exec_aside(&store, stage::KINDS, key, threads, &folder)?;
    Ok(String::new())
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

/// Ends this process, with all it has started, when `limit` is long over. The run that started it
/// does so in time; this is for a process whose run was killed.
pub(super) fn end_after(limit: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(limit.saturating_add(2 * GRACE));
        // What the run would have said, if it still lives.
        let _ = writeln!(std::io::stderr(), "{ERROR}it took longer than {} s", limit.as_secs_f64());
        process::end_trees(&[getpid()]);
    });
}

/// What would help, if the stage knew.
pub(super) fn hint(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<Unavailable>()).map(|unavailable| unavailable.hint.as_str())
}

/// For errors that are not among [`crate::engine::error::Error`].
pub(super) fn exit_code(error: &anyhow::Error) -> u8 {
    let causes = |test: fn(&(dyn std::error::Error + 'static)) -> bool| error.chain().any(test);
    if causes(|cause| cause.is::<Unavailable>()) {
        UNAVAILABLE
    } else if causes(|cause| cause.is::<Taken>()) {
        TAKEN
    } else if causes(|cause| cause.is::<process::Stopped>()) {
        STOPPED
    } else if causes(|cause| cause.is::<std::io::Error>()) {
        7
    } else {
        1
    }
}
