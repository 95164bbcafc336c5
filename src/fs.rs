//! File operations: errors name the path, and a write is either complete or absent.
//!
//! Only regular files are read, up to the length that they have when they are opened. A FIFO, a
//! socket or a device in place of a file is an error, so that it cannot block the process or fill
//! its memory.
//!
//! With the feature `fault-injection`, a test can make any single operation of a process fail, or
//! kill the process before it (`fs::fault`). File locks and heartbeats are not counted.
//!
//! Knows nothing of caches or stages.

#[cfg(feature = "fault-injection")]
pub mod fault;
mod folder;
mod hash;
mod lock;
mod permissions;
mod read;
mod witness;
mod write;

pub use folder::{
    Tree, create_dir_all, empty_folder, entries, inodes, list, remove_folder_if_exists,
    size_of_tree, temporary_folder, tree,
};
pub use hash::{has_thread_pool, hash};
pub use lock::{NoLocks, lock, try_lock};
pub use permissions::{is_executable, seal, set_executable};
pub use read::{
    changed_at, metadata_if_exists, open, read, read_if_exists, read_if_regular, read_text,
};
pub use witness::{Stat, Witness};
pub use write::{
    append, copy, copy_new, create, create_new, is_full, link, link_new, move_owned,
    open_or_create, remove_if_exists, rename, replace, sync, sync_disk, touch, write, write_atomic,
    write_beside, write_new,
};

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Runs one file operation. The feature `fault-injection` counts these calls.
fn operation<T>(run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(feature = "fault-injection")]
    fault::before_operation()?;
    run()
}

/// Prefixes an error with the operation and the path: "cannot read `path`".
fn at<T>(verb: &str, path: &Path, result: io::Result<T>) -> Result<T> {
    result.with_context(|| format!("cannot {verb} `{}`", path.display()))
}

/// Like [`at`], for an operation on two paths.
fn between<T>(verb: &str, from: &Path, to: &Path, result: io::Result<T>) -> Result<T> {
    result.with_context(|| format!("cannot {verb} `{}` to `{}`", from.display(), to.display()))
}

/// Turns the error that a file does not exist into `None`.
fn if_exists<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
