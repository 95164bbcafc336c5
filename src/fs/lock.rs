//! File locks. The system releases the locks of a process when the process ends.

use super::open_or_create;
use anyhow::{Context as _, Result};
use rustix::io::Errno;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// The file system does not support file locks, as some network file systems do not.
#[derive(Debug, thiserror::Error)]
#[error("the file system of `{0}` has no file locks")]
pub struct NoLocks(String);

/// Waits for an exclusive lock of the file at `path`, and holds it until the returned handle is
/// dropped. Creates the file if it does not exist.
pub fn lock(path: &Path) -> Result<File> {
    let file = open_or_create(path)?;
    name_missing_locks(path, before_lock().and_then(|()| file.lock()))?;
    Ok(file)
}

/// Locks the file at `path`, shared or exclusively, until the returned handle is dropped. Without
/// `wait`, returns `None` if another process holds a conflicting lock. Creates the file if it does
/// not exist.
pub fn try_lock(path: &Path, shared: bool, wait: bool) -> Result<Option<File>> {
    let file = open_or_create(path)?;
    let attempt = || match if shared { file.try_lock_shared() } else { file.try_lock() } {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) if wait => {
            if shared { file.lock_shared() } else { file.lock() }.map(|()| true)
        }
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    };
    let locked = name_missing_locks(path, before_lock().and_then(|()| attempt()))?;
    Ok(locked.then_some(file))
}

fn before_lock() -> io::Result<()> {
    #[cfg(feature = "fault-injection")]
    super::fault::before_lock()?;
    Ok(())
}

/// Adds the path to an error; [`NoLocks`] if the file system has no locks.
fn name_missing_locks<T>(path: &Path, locked: io::Result<T>) -> Result<T> {
    let has_none = |error: &io::Error| {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        matches!(errno, Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS))
    };
    match locked {
        Err(error) if has_none(&error) => Err(NoLocks(path.display().to_string()).into()),
        locked => locked.with_context(|| format!("cannot lock `{}`", path.display())),
    }
}
