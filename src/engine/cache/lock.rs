//! Who works in a cache: the lock that all share or one has alone, the leases of those that compute,
//! and the folders under `tmp/` that they compute in.
//!
//! Knows no result; `store.rs` has those.

use super::lease::{Claim, EXPIRY, Heart, Leases, TICKET};
use super::process::ProcessId;
use super::store::Store;
use crate::engine::error::Error;
use crate::engine::key::Key;
use crate::fs;
use anyhow::Result;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// After how long without a heartbeat the workspaces of a process of which nothing can be told from
/// here are removed by a run: they cost space only, and a machine that was asleep may come back to
/// them.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Leave to work in the cache, shared or alone, until dropped.
#[derive(Debug)]
pub struct CacheLock {
    /// None where there are no file locks.
    _lock: Option<File>,
    /// Shows other machines that this process lives, and its workspaces with it.
    _heart: Heart,
    scratch: PathBuf,
}

impl Drop for CacheLock {
    fn drop(&mut self) {
        // Ours alone, and empty unless another thread of this process is still at work.
        let _ = fs::remove_if_exists(&self.scratch.join(TICKET));
        let _ = std::fs::remove_dir(&self.scratch);
    }
}

/// A folder under `tmp/`, removed when dropped.
pub struct Workspace {
    folder: TempDir,
}

impl Workspace {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Where the jobs of a process work, one after the other: two folders in one under `tmp/`, that is
/// removed when dropped.
pub struct Workbench {
    workspace: Workspace,
    /// As they were when they were made.
    made: [Option<Metadata>; 2],
}

impl Workbench {
    /// Two empty folders, for the outputs of the next job and for what else it writes. Folders that
    /// the last job left empty, as it found them, are used again: to make and to remove folders
    /// takes most of the time of a job that does little.
    pub fn clear(&mut self) -> Result<[PathBuf; 2]> {
        let folders = ["outputs", "scratch"].map(|name| self.workspace.path().join(name));
        for (folder, made) in folders.iter().zip(&mut self.made) {
            *made = Some(fs::empty_folder(folder, made.as_ref())?);
        }
        Ok(folders)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // The folder's own drop would leave behind what is in read-only folders.
        let _ = fs::remove_folder_if_exists(self.path());
    }
}

impl Store {
    /// Leave to add to the cache, beside others; with `wait`, waits for whoever holds it alone.
    pub fn lock_shared(&self, wait: bool) -> Result<CacheLock> {
        self.hold(true, wait)
    }

    /// Leave to remove from the cache and to move things there; with `wait`, waits until nobody else is at work.
    pub fn lock_exclusive(&self, wait: bool) -> Result<CacheLock> {
        self.hold(false, wait)
    }

    /// Waits for the turn to read, change and write back what other commands do too: the pins, the reports and the lock of
    /// pipeline.yaml. It lasts until what this gives is dropped.
    pub fn turn(&self) -> Result<Option<File>> {
        self.locks.then(|| fs::lock(&self.root.join("turn"))).transpose()
    }

    fn hold(&self, shared: bool, wait: bool) -> Result<CacheLock> {
        let lock = match self.locks {
            true => Some(
                fs::try_lock(&self.root.join("lock"), shared, wait)?
                    .ok_or_else(|| self.in_use())?,
            ),
            false => None,
        };
        let scratch = self.scratch_folder();
        // It shows other machines that a process is at work here. `gc` must go on where a full
        // disk refuses it.
        let _ = self.scratch();
        Ok(CacheLock { _lock: lock, _heart: Heart::of_process(&scratch), scratch })
    }

    fn in_use(&self) -> Error {
        Error::Locked(format!("the cache `{}` is in use", self.root.display()))
    }

    /// Removes what processes that are gone left in `tmp`, and their leases. What cannot be removed is left for the next
    /// run: it harms nothing. What has no owner's name is nobody's.
    pub fn sweep(&self) {
        self.sweep_after(ABANDONED);
    }

    /// The same, for whoever holds the cache alone: what no heartbeat has come from for as long as
    /// a lease holds goes too.
    pub fn sweep_all(&self) {
        self.sweep_after(EXPIRY);
    }

    /// A process of which nothing can be told from here counts as gone `expiry` after its last
    /// heartbeat.
    fn sweep_after(&self, expiry: Duration) {
        let leases = self.leases();
        for name in fs::list(&leases.folder).unwrap_or_default() {
            if let Ok(key) = name.parse() {
                let _ = leases.break_stale(key);
            }
        }
        let tmp = self.root.join("tmp");
        for name in fs::entries(&tmp).unwrap_or_default() {
            let path = tmp.join(&name);
            let process = name.to_str().and_then(ProcessId::from_tag);
            let beats = || leases.beats(&path, expiry).unwrap_or(true);
            if process.as_ref().is_some_and(|process| process.is_alive().unwrap_or_else(beats)) {
                continue;
            }
            if process.is_some_and(|process| self.settle(&process, &path).is_err()) {
                continue;
            }
            let is_folder = fs::metadata_if_exists(&path)
                .is_ok_and(|meta| meta.is_some_and(|meta| meta.is_dir()));
            let _ = if is_folder {
                fs::remove_folder_if_exists(&path)
            } else {
                fs::remove_if_exists(&path)
            };
        }
    }

    /// Whether a process lives that is at work here, as far as that can be told.
    pub fn is_alive(&self, process: &ProcessId) -> bool {
        let folder = self.root.join("tmp").join(process.tag());
        process.is_alive().unwrap_or_else(|| self.leases().beats(&folder, EXPIRY).unwrap_or(false))
    }

    fn scratch_folder(&self) -> PathBuf {
        self.root.join("tmp").join(ProcessId::this().tag())
    }

    /// This process's scratch folder, on the cache's disk.
    pub fn scratch(&self) -> Result<PathBuf> {
        let folder = self.scratch_folder();
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Takes the lease of `key`, unless somebody else is at work on it.
    pub fn claim(&self, key: Key) -> Result<Claim> {
        self.leases().claim(key, &self.scratch()?)
    }

    /// Who is at work on `key`.
    pub fn lease_holder(&self, key: Key) -> Result<Option<ProcessId>> {
        self.leases().holder(key)
    }

    pub(crate) fn leases(&self) -> Leases {
        Leases { folder: self.root.join("leases"), locks: self.locks }
    }

    /// A fresh, empty folder for one attempt.
    pub fn workspace(&self) -> Result<Workspace> {
        let scratch = self.scratch()?;
        Ok(Workspace { folder: fs::temporary_folder(&scratch)? })
    }

    /// Where the jobs of this process work.
    pub fn workbench(&self) -> Result<Workbench> {
        Ok(Workbench { workspace: self.workspace()?, made: [None, None] })
    }

    /// Another process that is at work here: it holds a lease, or the lock cannot show it and its
    /// folder in `tmp` beats.
    pub fn active_process(&self) -> Result<Option<ProcessId>> {
        for name in fs::list(&self.root.join("leases"))? {
            if let Ok(key) = name.parse()
                && let Some(process) = self.lease_holder(key)?
            {
                return Ok(Some(process));
            }
        }
        let tmp = self.root.join("tmp");
        for name in fs::list(&tmp)? {
            if let Some(process) =
                ProcessId::from_tag(&name).filter(|process| process.is_alive().is_none())
                && self.leases().beats(&tmp.join(&name), EXPIRY)?
            {
                return Ok(Some(process));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{TestSpace, recipe};
    use std::sync::mpsc::channel;
    use std::time::SystemTime;

    #[test]
    fn many_may_work_in_the_cache_and_one_alone_may_remove() {
        let TestSpace { store, .. } = &TestSpace::new();
        let held = [store.lock_shared(false).unwrap(), store.lock_shared(false).unwrap()];
        let error = store.lock_exclusive(false).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Error::Locked(_))), "{error}");
        assert!(error.to_string().ends_with("is in use"), "{error}");
        drop(held);
        let alone = store.lock_exclusive(false).unwrap();
        assert!(store.lock_shared(false).is_err());
        drop(alone);
        assert!(store.lock_shared(false).is_ok());
    }

    #[test]
    fn who_waits_for_the_cache_gets_it_when_it_is_free() {
        let TestSpace { store, .. } = &TestSpace::new();
        let held = store.lock_exclusive(false).unwrap();
        let (begins, began) = channel();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                begins.send(()).unwrap();
                store.lock_shared(true).map(drop)
            });
            began.recv().unwrap();
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn what_the_dead_left_is_swept_and_what_the_living_have_is_not() {
        let TestSpace { store, .. } = &TestSpace::new();
        let tmp = store.root.join("tmp");
        let dead = tmp.join(ProcessId { pid: u32::MAX, ..ProcessId::this().clone() }.tag());
        fs::create_dir_all(&dead.join("workspace")).unwrap();
        fs::write(&dead.join("workspace/half"), "an ou").unwrap();
        fs::write(&tmp.join("stray"), "{").unwrap();
        let outside = store.root.join("kept");
        fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, tmp.join("link")).unwrap();
        let workspace = store.workspace().unwrap();
        // Of the same name, but another machine.
        let far =
            ProcessId { machine: "elsewhere".into(), pid: u32::MAX, ..ProcessId::this().clone() }
                .tag();
        fs::create_dir_all(&tmp.join(&far).join("workspace")).unwrap();
        let mut left = vec![far.clone(), ProcessId::this().tag()];
        left.sort_unstable();
        for sweep in [Store::sweep, Store::sweep_all] {
            sweep(store);
            assert_eq!(fs::list(&tmp).unwrap(), left, "its heart beats");
        }
        assert_eq!(store.active_process().unwrap().map(|process| process.tag()), Some(far.clone()));
        let beat = |ago: Duration| {
            File::open(tmp.join(&far)).unwrap().set_modified(SystemTime::now() - ago).unwrap()
        };
        beat(2 * EXPIRY);
        assert_eq!(store.active_process().unwrap(), None);
        store.sweep();
        assert_eq!(fs::list(&tmp).unwrap(), left, "it may only be asleep");
        store.sweep_all();
        assert_eq!(fs::list(&tmp).unwrap(), [ProcessId::this().tag()]);
        fs::create_dir_all(&tmp.join(&far).join("workspace")).unwrap();
        beat(2 * ABANDONED);
        store.sweep();
        assert_eq!(fs::list(&tmp).unwrap(), [ProcessId::this().tag()]);
        assert!(workspace.path().is_dir() && outside.is_dir(), "a link is not followed");
    }

    #[test]
    fn a_lease_of_another_host_can_be_told_and_swept_by_one_that_has_written_nothing_yet() {
        let TestSpace { store, .. } = &TestSpace::new();
        let key = recipe("k").key();
        let far = ProcessId { host: "elsewhere".into(), ..ProcessId::this().clone() };
        let lease = store.leases().folder.join(key.to_string());
        fs::write(&lease, serde_json::to_vec(&far).unwrap()).unwrap();
        assert!(!store.scratch_folder().exists());
        store.sweep();
        assert_eq!(store.lease_holder(key).unwrap(), Some(far));
        File::options()
            .write(true)
            .open(&lease)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(store.lease_holder(key).unwrap(), None);
        store.sweep();
        assert!(!lease.exists());
        assert!(!store.scratch_folder().exists(), "looking makes no folder");
    }

    #[test]
    fn a_workspace_is_empty_and_gone_when_dropped() {
        let TestSpace { store, .. } = &TestSpace::new();
        let workspace = store.workspace().unwrap();
        let path = workspace.path().to_owned();
        assert_eq!(fs::list(&path).unwrap(), [""; 0]);
        drop(workspace);
        assert!(!path.exists());
    }
}
