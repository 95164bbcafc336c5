//! The file locks of a cache. A process that adds results holds a shared lock; a process that
//! removes results holds an exclusive lock.

use super::heartbeat::{HEARTBEAT, Heartbeat};
use super::store::Store;
use crate::engine::error::Error;
use crate::fs;
use anyhow::Result;
use std::fs::File;
use std::path::PathBuf;

/// The lock of the cache, shared or exclusive, until dropped.
#[derive(Debug)]
pub struct CacheLock {
    /// `None` on a disk without file locks.
    _lock: Option<File>,
    /// Lets other machines detect that this process is alive.
    _heartbeat: Heartbeat,
    scratch: PathBuf,
}

impl Drop for CacheLock {
    fn drop(&mut self) {
        // Fails if another thread of this process still uses the folder.
        let _ = fs::remove_if_exists(&self.scratch.join(HEARTBEAT));
        let _ = std::fs::remove_dir(&self.scratch);
    }
}

impl Store {
    /// Locks the cache to add results. With `wait`, waits for a process that removes results.
    pub fn lock_shared(&self, wait: bool) -> Result<CacheLock> {
        self.lock(true, wait)
    }

    /// Locks the cache to remove results. With `wait`, waits for all other processes.
    pub fn lock_exclusive(&self, wait: bool) -> Result<CacheLock> {
        self.lock(false, wait)
    }

    /// Locks the files that commands read, change and write back (pins, reports, lock files), until
    /// the returned file is dropped. Returns `None` on a disk without file locks.
    pub fn lock_update(&self) -> Result<Option<File>> {
        self.locks.then(|| fs::lock(&self.path("update.lock"))).transpose()
    }

    fn lock(&self, shared: bool, wait: bool) -> Result<CacheLock> {
        let in_use =
            || Error::Locked(format!("the cache `{}` is in use", self.local.root.display()));
        let lock = match self.locks {
            true => Some(fs::try_lock(&self.path("lock"), shared, wait)?.ok_or_else(in_use)?),
            false => None,
        };
        let scratch = self.local.scratch_path();
        // The heartbeat is that of the folder. `gc` must work without it, on a full disk.
        let _ = self.scratch();
        Ok(CacheLock { _lock: lock, _heartbeat: Heartbeat::of_process(&scratch), scratch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::TestSpace;
    use std::sync::mpsc::channel;

    #[test]
    fn the_shared_lock_has_many_holders_and_the_exclusive_lock_one() {
        let TestSpace { store, .. } = &TestSpace::new();
        let held = [store.lock_shared(false).unwrap(), store.lock_shared(false).unwrap()];
        let error = store.lock_exclusive(false).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Error::Locked(_))), "{error}");
        assert!(error.to_string().ends_with("is in use"), "{error}");
        drop(held);
        let exclusive = store.lock_exclusive(false).unwrap();
        assert!(store.lock_shared(false).is_err());
        drop(exclusive);
        assert!(store.lock_shared(false).is_ok());
    }

    #[test]
    fn a_waiting_process_gets_the_lock_once_it_is_released() {
        let TestSpace { store, .. } = &TestSpace::new();
        let held = store.lock_exclusive(false).unwrap();
        let (send, started) = channel();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                send.send(()).unwrap();
                store.lock_shared(true).map(drop)
            });
            started.recv().unwrap();
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }
}
