//! Locks of files: they end with the process that holds them, however it ends.

use super::{FAULT, Fault, open_or_create};
use anyhow::{Context as _, Result};
use rustix::io::Errno;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// The file system has no locks: some network file systems do not.
#[derive(Debug, thiserror::Error)]
#[error("the file system of `{0}` has no file locks")]
pub struct NoLocks(String);

/// Waits until no other process holds the file at `path`, which is made if it is not there, and
/// holds it until what this gives is dropped.
pub fn lock(path: &Path) -> Result<File> {
    let file = open_or_create(path)?;
    named(path, is_possible().and_then(|()| file.lock()))?;
    Ok(file)
}

/// Holds the file at `path`, which is made if it is not there, until what this gives is dropped:
/// with others that share it, or alone. `None` if others do not let it, and it is not to wait.
pub fn hold(path: &Path, shared: bool, wait: bool) -> Result<Option<File>> {
    let file = open_or_create(path)?;
    let attempt = || match if shared { file.try_lock_shared() } else { file.try_lock() } {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) if wait => {
            if shared { file.lock_shared() } else { file.lock() }.map(|()| true)
        }
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    };
    let held = named(path, is_possible().and_then(|()| attempt()))?;
    Ok(held.then_some(file))
}

fn is_possible() -> io::Result<()> {
    match FAULT.get() {
        Some(Some(Fault::NoLocks)) => Err(Errno::NOLCK.into()),
        _ => Ok(()),
    }
}

fn named<T>(path: &Path, locked: io::Result<T>) -> Result<T> {
    let has_none = |error: &io::Error| {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        matches!(errno, Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS))
    };
    match locked {
        Err(error) if has_none(&error) => Err(NoLocks(path.display().to_string()).into()),
        locked => locked.with_context(|| format!("cannot lock `{}`", path.display())),
    }
}
