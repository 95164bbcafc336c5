//! The folders of processes under `tmp/`, and their removal after a process has died.

use super::heartbeat::EXPIRY;
use super::process::ProcessId;
use super::store::Store;
use crate::fs;
use anyhow::Result;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The age of a heartbeat at which a run removes the workspaces of a process that may be alive.
/// Workspaces only cost disk space, and a machine that was suspended may continue to use its own.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A folder under `tmp/`, removed when dropped.
pub struct Workspace {
    folder: TempDir,
}

impl Workspace {
    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // `TempDir` does not remove the content of read-only folders.
        let _ = fs::remove_folder_if_exists(self.path());
    }
}

/// A workspace that the jobs of a process use one after the other.
pub struct Workbench {
    workspace: Workspace,
    /// The metadata of the two folders when they were created.
    created: [Option<Metadata>; 2],
}

impl Workbench {
    /// Returns two empty folders, for the outputs and the temporary files of the next job. Reuses
    /// folders that the last job left empty, since creating and removing folders takes most of the
    /// time of a short job.
    pub fn clear(&mut self) -> Result<[PathBuf; 2]> {
        let folders = ["outputs", "scratch"].map(|name| self.workspace.path().join(name));
        for (folder, created) in folders.iter().zip(&mut self.created) {
            *created = Some(fs::empty_folder(folder, created.as_ref())?);
        }
        Ok(folders)
    }
}

impl Store {
    /// This process's folder under `tmp/`, on the cache's disk.
    pub fn scratch(&self) -> Result<PathBuf> {
        self.local.scratch()
    }

    /// A new, empty workspace.
    pub fn workspace(&self) -> Result<Workspace> {
        Ok(Workspace { folder: fs::temporary_folder(&self.scratch()?)? })
    }

    /// A workspace for the jobs of this process.
    pub fn workbench(&self) -> Result<Workbench> {
        Ok(Workbench { workspace: self.workspace()?, created: [None, None] })
    }

    /// Removes the leases and the folders under `tmp/` of dead processes. A file that cannot be
    /// removed is left for the next run.
    pub fn sweep(&self) {
        self.sweep_after(ABANDONED);
    }

    /// Like [`Store::sweep`], under the exclusive lock: a process without a heartbeat counts as
    /// dead as soon as its leases expire.
    pub fn sweep_all(&self) {
        self.sweep_after(EXPIRY);
    }

    /// Removes the files of a process that may be alive if its last heartbeat is older than
    /// `expiry`.
    fn sweep_after(&self, expiry: Duration) {
        let leases = self.leases();
        for key in leases.keys().unwrap_or_default() {
            let _ = leases.break_stale(key);
        }
        let tmp = self.path("tmp");
        for name in fs::entries(&tmp).unwrap_or_default() {
            let path = tmp.join(&name);
            let process = name.to_str().and_then(ProcessId::from_tag);
            let is_beating = || leases.is_beating(&path, expiry).unwrap_or(true);
            if process.as_ref().is_some_and(|id| id.is_alive().unwrap_or_else(is_beating)) {
                continue;
            }
            // The folder shows that the process's last results may not be on disk.
            if process.is_some_and(|process| self.secure_results(&process, &path).is_err()) {
                continue;
            }
            let meta = fs::metadata_if_exists(&path);
            let _ = match meta.is_ok_and(|meta| meta.is_some_and(|meta| meta.is_dir())) {
                true => fs::remove_folder_if_exists(&path),
                false => fs::remove_if_exists(&path),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{TestSpace, recipe};
    use std::fs::File;
    use std::time::SystemTime;

    /// The same cache as another process sees it.
    fn observer(store: &Store) -> Store {
        Store { heartbeats: Default::default(), ..store.clone() }
    }

    #[test]
    fn a_sweep_removes_the_folders_of_dead_processes_only() {
        let TestSpace { store, .. } = &TestSpace::new();
        let tmp = store.path("tmp");
        let dead = tmp.join(ProcessId { pid: u32::MAX, ..ProcessId::this().clone() }.tag());
        fs::create_dir_all(&dead.join("workspace")).unwrap();
        fs::write(&dead.join("workspace/partial"), "an ou").unwrap();
        fs::write(&tmp.join("stray"), "{").unwrap();
        let outside = store.path("kept");
        fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, tmp.join("link")).unwrap();
        let workspace = store.workspace().unwrap();
        // The same host name, but another machine.
        let far =
            ProcessId { machine: "elsewhere".into(), pid: u32::MAX, ..ProcessId::this().clone() }
                .tag();
        fs::create_dir_all(&tmp.join(&far).join("workspace")).unwrap();
        let mut left = vec![far.clone(), ProcessId::this().tag()];
        left.sort_unstable();
        for sweep in [Store::sweep, Store::sweep_all] {
            sweep(store);
            assert_eq!(fs::list(&tmp).unwrap(), left, "it has a heartbeat");
        }
        assert_eq!(store.active_process().unwrap().map(|process| process.tag()), Some(far.clone()));
        let beat = |ago: Duration| {
            File::open(tmp.join(&far)).unwrap().set_modified(SystemTime::now() - ago).unwrap()
        };
        // A heartbeat that changes is alive, so another observer looks at the old one.
        let later = || observer(store);
        beat(2 * EXPIRY);
        let store = &later();
        assert_eq!(store.active_process().unwrap(), None);
        store.sweep();
        assert_eq!(fs::list(&tmp).unwrap(), left, "its machine may be asleep");
        store.sweep_all();
        assert_eq!(fs::list(&tmp).unwrap(), [ProcessId::this().tag()]);
        fs::create_dir_all(&tmp.join(&far).join("workspace")).unwrap();
        beat(2 * ABANDONED);
        later().sweep();
        assert_eq!(fs::list(&tmp).unwrap(), [ProcessId::this().tag()]);
        assert!(workspace.path().is_dir() && outside.is_dir(), "a link is not followed");
    }

    #[test]
    fn a_process_without_a_scratch_folder_reads_and_sweeps_leases_of_other_hosts() {
        let TestSpace { store, .. } = &TestSpace::new();
        let key = recipe("k").key();
        let far = ProcessId { host: "elsewhere".into(), ..ProcessId::this().clone() };
        let lease = store.path("leases").join(key.to_string());
        fs::write(&lease, serde_json::to_vec(&far).unwrap()).unwrap();
        assert!(!store.local.scratch_path().exists());
        store.sweep();
        assert_eq!(store.lease_holder(key).unwrap(), Some(far));
        let file = File::options().write(true).open(&lease).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let store = &observer(store);
        assert_eq!(store.lease_holder(key).unwrap(), None);
        store.sweep();
        assert!(!lease.exists());
        assert!(!store.local.scratch_path().exists(), "reading creates no folder");
    }

    #[test]
    fn a_workspace_is_empty_and_removed_when_dropped() {
        let TestSpace { store, .. } = &TestSpace::new();
        let workspace = store.workspace().unwrap();
        let path = workspace.path().to_owned();
        assert_eq!(fs::list(&path).unwrap(), [""; 0]);
        drop(workspace);
        assert!(!path.exists());
    }
}
