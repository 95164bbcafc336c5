//! Injects faults, for tests: fails or kills a process at its N-th file operation.

use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InjectedFault {
    /// This operation fails as on a full disk.
    Fail(u64),
    /// The process is killed before this operation.
    Kill(u64),
    /// Every file lock fails as on a file system without locks.
    NoLocks,
}

static FAULT: OnceLock<Option<InjectedFault>> = OnceLock::new();
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// Sets the fault of this process, once: `fail:N` fails its N-th file operation as on a full disk,
/// `kill:N` kills the process before that operation, `no-locks` fails every file lock. Any other
/// text sets no fault.
pub fn arm(fault: &str) {
    let (kind, n) = fault.split_once(':').unwrap_or((fault, ""));
    let fault = match (kind, n.parse()) {
        ("fail", Ok(n)) => Some(InjectedFault::Fail(n)),
        ("kill", Ok(n)) => Some(InjectedFault::Kill(n)),
        ("no-locks", _) => Some(InjectedFault::NoLocks),
        _ => None,
    };
    let _ = FAULT.set(fault);
}

/// Counts a file operation. Fails or kills the process if its number is that of the fault.
pub(super) fn before_operation() -> io::Result<()> {
    let n = OPERATIONS.fetch_add(1, Ordering::Relaxed) + 1;
    match FAULT.get().copied().flatten() {
        Some(InjectedFault::Fail(at)) if at == n => Err(Errno::NOSPC.into()),
        Some(InjectedFault::Kill(at)) if at == n => {
            let _ = kill_process(getpid(), Signal::KILL);
            Err(Errno::INTR.into())
        }
        _ => Ok(()),
    }
}

/// Fails if file locks are disabled.
pub(super) fn before_lock() -> io::Result<()> {
    match FAULT.get() {
        Some(Some(InjectedFault::NoLocks)) => Err(Errno::NOLCK.into()),
        _ => Ok(()),
    }
}
