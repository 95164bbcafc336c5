//! Leases: a file `leases/<key>` names the process that computes the key.
//!
//! A lease is held while its process is alive. If that is unknown (for example, on another host),
//! the lease is held while its heartbeat is younger than ninety seconds (see `heartbeat.rs`).
//! The next process that claims a stale lease takes it over. The folder of a process in `tmp/` has
//! the same heartbeat.
//!
//! Leases prevent two runs from computing the same key. The integrity of results does not depend on
//! leases. All leases of a process are hard links to its *heartbeat file* in `tmp/`: claiming a
//! lease creates a link, releasing it removes the link, and all leases share one heartbeat. On a
//! disk without hard links, each lease is a separate file.
//!
//! `docs/protocol.md` describes the protocol; `tests/protocol.rs` checks it as a model.

use super::heartbeat::{EXPIRY, HEARTBEAT, Heartbeat, Heartbeats, beat};
use super::process::ProcessId;
use super::store::Store;
use crate::engine::key::Key;
use crate::fs;
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The leases of a cache.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    folder: PathBuf,
    /// Whether the disk has file locks. Without locks, two processes that take over one lease at
    /// the same moment may both compute.
    locks: bool,
    heartbeats: Arc<Heartbeats>,
}

/// The outcome of claiming a lease.
#[derive(Debug)]
pub enum Claim {
    /// This process holds the lease until it is dropped.
    Acquired(Lease),
    /// Another process, or another thread, holds the lease.
    Held(ProcessId),
}

/// The state of a lease.
enum LeaseState {
    /// The file does not exist.
    Absent,
    /// The file exists, but its process is dead.
    Stale,
    /// A process holds the lease.
    Held(ProcessId),
}

/// A lease of this process. Released when dropped.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    path: PathBuf,
    /// Set if the lease is a separate file, not a link to the heartbeat file.
    _heartbeat: Option<Heartbeat>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A process that was stopped for long may have lost its lease. It must lock removals while
        // it reads and removes the lease. Otherwise:
        // 1. it reads its own identity, and is stopped again for longer than `EXPIRY`;
        // 2. another process takes the lease over, and starts to compute;
        // 3. it resumes and removes that process's lease, and a third one computes the same.
        let Ok(_removal) = self.leases.lock_removal() else { return };
        let holder = fs::read_if_regular(&self.path).ok().flatten();
        let holder = holder.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if holder.as_ref() == Some(ProcessId::this()) {
            let _ = fs::remove_if_exists(&self.path);
        }
    }
}

impl Store {
    /// Claims the lease of `key` for this process.
    pub fn claim(&self, key: Key) -> Result<Claim> {
        self.leases().claim(key, &self.scratch()?)
    }

    /// The process that holds the lease of `key`.
    pub fn lease_holder(&self, key: Key) -> Result<Option<ProcessId>> {
        self.leases().holder(key)
    }

    /// A watch of leases.
    pub fn watch_leases(&self) -> LeaseWatch {
        LeaseWatch { leases: self.leases(), holders: BTreeMap::new() }
    }

    /// Whether a process that used this cache is alive, as far as this process can know.
    pub fn is_alive(&self, process: &ProcessId) -> bool {
        let folder = self.path("tmp").join(process.tag());
        let by_heartbeat = || self.leases().is_beating(&folder, EXPIRY).unwrap_or(false);
        process.is_alive().unwrap_or_else(by_heartbeat)
    }

    /// Another process that uses the cache: it holds a lease, or it may be alive and its folder in
    /// `tmp/` has a heartbeat. The file lock may not reach the host of such a process.
    pub fn active_process(&self) -> Result<Option<ProcessId>> {
        for key in self.leases().keys()? {
            if let Some(process) = self.lease_holder(key)? {
                return Ok(Some(process));
            }
        }
        let tmp = self.path("tmp");
        for name in fs::list(&tmp)? {
            if let Some(process) = ProcessId::from_tag(&name)
                && process.is_alive().is_none()
                && self.leases().is_beating(&tmp.join(&name), EXPIRY)?
            {
                return Ok(Some(process));
            }
        }
        Ok(None)
    }

    pub(super) fn leases(&self) -> Leases {
        let heartbeats = Arc::clone(&self.heartbeats);
        Leases { folder: self.path("leases"), locks: self.locks, heartbeats }
    }
}

impl Leases {
    fn path(&self, key: Key) -> PathBuf {
        self.folder.join(key.to_string())
    }

    /// The keys that have a lease, held or stale.
    pub(super) fn keys(&self) -> Result<Vec<Key>> {
        Ok(fs::list(&self.folder)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn holder(&self, key: Key) -> Result<Option<ProcessId>> {
        Ok(match self.state(key)? {
            LeaseState::Held(process) => Some(process),
            LeaseState::Absent | LeaseState::Stale => None,
        })
    }

    /// Reads the lease of `key`, once.
    fn state(&self, key: Key) -> Result<LeaseState> {
        let path = self.path(key);
        let Some(meta) = fs::metadata_if_exists(&path)? else { return Ok(LeaseState::Absent) };
        // Leases are written atomically, so any other content or kind of file is not a lease.
        if !meta.is_file() {
            return Ok(LeaseState::Stale);
        }
        let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(LeaseState::Absent) };
        let Ok(process) = serde_json::from_slice::<ProcessId>(&bytes) else {
            return Ok(LeaseState::Stale);
        };
        let is_held = self.is_alive(&process, &path)?;
        Ok(if is_held { LeaseState::Held(process) } else { LeaseState::Stale })
    }

    /// Whether a process with the heartbeat of `path` is alive.
    fn is_alive(&self, process: &ProcessId, path: &Path) -> Result<bool> {
        process.is_alive().map_or_else(|| self.is_beating(path, EXPIRY), Ok)
    }

    /// Claims the lease of `key`. The heartbeat file is in `scratch`, a folder on the same disk
    /// with a heartbeat ([`Heartbeat::of_process`]).
    fn claim(&self, key: Key, scratch: &Path) -> Result<Claim> {
        loop {
            if let Some(lease) = self.create(self.path(key), scratch)? {
                return Ok(Claim::Acquired(lease));
            }
            if let Some(process) = self.holder(key)? {
                return Ok(Claim::Held(process));
            }
            self.break_stale(key)?;
        }
    }

    /// Creates the lease at `path`; `None` if it exists.
    fn create(&self, path: PathBuf, scratch: &Path) -> Result<Option<Lease>> {
        let process = || serde_json::to_vec(ProcessId::this()).context("cannot write a lease");
        let file = scratch.join(HEARTBEAT);
        if fs::metadata_if_exists(&file)?.is_none() {
            fs::write_new(&file, scratch, &process()?)?;
        }
        // The heartbeat must be young when the link is created. If the process is stopped between
        // the two, the lease is older, as if the process had been stopped just afterwards.
        beat(&file);
        let (created, heartbeat) = match fs::link_new(&file, &path) {
            Ok(created) => (created, None),
            Err(_) => {
                let created = fs::write_new(&path, scratch, &process()?)?;
                (created, Some(Heartbeat::of(vec![path.clone()])))
            }
        };
        Ok(created.then(|| Lease { leases: self.clone(), path, _heartbeat: heartbeat }))
    }

    /// Locks the removal of leases, so that no process removes a lease that another one has just
    /// taken over.
    fn lock_removal(&self) -> Result<Option<File>> {
        self.locks.then(|| fs::lock(&self.folder.join("removal.lock"))).transpose()
    }

    /// Removes the lease of `key` if it is stale.
    pub(super) fn break_stale(&self, key: Key) -> Result<()> {
        let _removal = self.lock_removal()?;
        // A lease can be created at any time, but a stale one is replaced only under the lock.
        match self.state(key)? {
            LeaseState::Stale => fs::remove_if_exists(&self.path(key)),
            LeaseState::Absent | LeaseState::Held(_) => Ok(()),
        }
    }

    /// Whether the heartbeat of `path` is younger than `expiry`.
    pub(super) fn is_beating(&self, path: &Path, expiry: Duration) -> Result<bool> {
        // The leases' folder always exists.
        self.heartbeats.is_beating(path, &self.folder, expiry)
    }
}

/// Looks at the leases of several keys again and again.
#[derive(Debug)]
pub struct LeaseWatch {
    leases: Leases,
    /// The inode of each lease that was read, and its process.
    holders: BTreeMap<Key, (u64, ProcessId)>,
}

impl LeaseWatch {
    /// Those of `keys` that have a lease that is held. Lists the folder of leases once, and looks
    /// at one heartbeat of each process. A lease is read again only if it has changed, or if its
    /// process may be dead.
    pub fn held(&mut self, keys: impl IntoIterator<Item = Key>) -> Result<BTreeSet<Key>> {
        let present = fs::inodes(&self.leases.folder)?;
        let mut are_alive: BTreeMap<String, bool> = BTreeMap::new();
        let mut held = BTreeSet::new();
        let known = std::mem::take(&mut self.holders);
        for key in keys {
            // All leases of a process have one inode, that of its heartbeat file.
            let inode = present.get(&*key.to_string());
            if let Some((read, process)) = known.get(&key).filter(|(read, _)| inode == Some(read)) {
                let is_alive = match are_alive.get(&process.tag()) {
                    Some(is_alive) => *is_alive,
                    None => {
                        let is_alive = self.leases.is_alive(process, &self.leases.path(key))?;
                        are_alive.insert(process.tag(), is_alive);
                        is_alive
                    }
                };
                if is_alive {
                    self.holders.insert(key, (*read, process.clone()));
                    held.insert(key);
                    continue;
                }
            }
            // A network disk may list a new lease late.
            let inode = fs::metadata_if_exists(&self.leases.path(key))?.map(|meta| meta.ino());
            if let Some(process) = self.leases.holder(key)? {
                self.holders.extend(inode.map(|inode| (key, (inode, process))));
                held.insert(key);
            }
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::super::heartbeat::INTERVAL;
    use super::*;
    use crate::engine::key::Recipe;
    use rustix::fs::CWD;
    use std::sync::mpsc::channel;
    use std::time::SystemTime;
    use tempfile::TempDir;

    fn key() -> Key {
        let (params, inputs) = (BTreeMap::new(), BTreeMap::new());
        Recipe { kind: "k".into(), version: 1, params, inputs, seed: None }.key()
    }

    fn leases(dir: &TempDir) -> Leases {
        Leases { folder: dir.path().to_owned(), locks: true, heartbeats: Arc::default() }
    }

    fn claim(dir: &TempDir) -> Claim {
        leases(dir).claim(key(), dir.path()).unwrap()
    }

    fn is_acquired(claim: &Claim) -> bool {
        matches!(claim, Claim::Acquired(_))
    }

    /// Writes the lease of `process`.
    fn write_lease(dir: &TempDir, process: &ProcessId) {
        std::fs::write(dir.path().join(key().to_string()), serde_json::to_vec(process).unwrap())
            .unwrap();
    }

    #[test]
    fn a_lease_has_one_holder_until_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(&dir);
        assert_eq!(leases.holder(key()).unwrap(), None);
        let held = claim(&dir);
        assert!(is_acquired(&held));
        assert_eq!(leases.holder(key()).unwrap().as_ref(), Some(ProcessId::this()));
        let Claim::Held(process) = claim(&dir) else { panic!("held twice") };
        assert_eq!(process, *ProcessId::this());
        drop(held);
        assert_eq!(leases.holder(key()).unwrap(), None);
        assert!(is_acquired(&claim(&dir)));
    }

    #[test]
    fn the_lease_of_a_dead_process_is_taken_over() {
        let this = ProcessId::this();
        for dead in [
            ProcessId { started: this.started + 1, ..this.clone() },
            ProcessId { pid: u32::MAX, ..this.clone() },
        ] {
            let dir = tempfile::tempdir().unwrap();
            write_lease(&dir, &dead);
            assert_eq!(leases(&dir).holder(key()).unwrap(), None);
            assert!(is_acquired(&claim(&dir)), "{dead}");
        }
    }

    #[test]
    fn a_lease_of_another_machine_boot_or_container_is_held_while_it_has_a_heartbeat() {
        let this = ProcessId::this();
        for other in [
            ProcessId { host: "elsewhere".into(), ..this.clone() },
            ProcessId { machine: "another of this name".into(), pid: u32::MAX, ..this.clone() },
            ProcessId { boot: "earlier".into(), pid: u32::MAX, ..this.clone() },
            ProcessId { namespace: this.namespace + 1, pid: u32::MAX, ..this.clone() },
        ] {
            let dir = tempfile::tempdir().unwrap();
            write_lease(&dir, &other);
            assert_eq!(leases(&dir).holder(key()).unwrap(), Some(other.clone()));
            let file =
                File::options().write(true).open(dir.path().join(key().to_string())).unwrap();
            for young in
                [SystemTime::now() - EXPIRY + INTERVAL, SystemTime::now() + EXPIRY - INTERVAL]
            {
                file.set_modified(young).unwrap();
                assert_eq!(leases(&dir).holder(key()).unwrap(), Some(other.clone()));
            }
            let a_century = 100 * 366 * 24 * 3600 * Duration::from_secs(1);
            for old in [
                SystemTime::now() - EXPIRY - INTERVAL,
                SystemTime::UNIX_EPOCH,
                SystemTime::now() + a_century,
            ] {
                file.set_modified(old).unwrap();
                assert_eq!(leases(&dir).holder(key()).unwrap(), None);
            }
            assert!(is_acquired(&claim(&dir)));
        }
    }

    #[test]
    fn a_process_that_lost_its_lease_does_not_remove_that_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let held = claim(&dir);
        let other = ProcessId { host: "elsewhere".into(), ..ProcessId::this().clone() };
        write_lease(&dir, &other);
        drop(held);
        assert_eq!(leases(&dir).holder(key()).unwrap(), Some(other));
    }

    #[test]
    fn a_lease_is_released_under_the_removal_lock() {
        let dir = tempfile::tempdir().unwrap();
        let held = claim(&dir);
        let removal = leases(&dir).lock_removal().unwrap();
        let (send, released) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                drop(held);
                send.send(()).unwrap();
            });
            assert!(
                released.recv_timeout(Duration::from_millis(300)).is_err(),
                "the release waits for the lock"
            );
            let other = ProcessId { host: "elsewhere".into(), ..ProcessId::this().clone() };
            write_lease(&dir, &other);
            drop(removal);
            released.recv().unwrap();
            assert_eq!(leases(&dir).holder(key()).unwrap(), Some(other));
        });
    }

    #[test]
    fn a_watch_reads_a_lease_again_only_if_it_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = LeaseWatch { leases: leases(&dir), holders: BTreeMap::new() };
        let mut is_held = || !watch.held([key()]).unwrap().is_empty();
        assert!(!is_held(), "it is absent");
        let far = ProcessId { host: "elsewhere".into(), ..ProcessId::this().clone() };
        let path = dir.path().join(key().to_string());
        write_lease(&dir, &far);
        assert!(is_held());
        // The same file, with other content and an older heartbeat than the last look.
        std::fs::write(&path, "{").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now()).unwrap();
        assert!(is_held(), "the lease is not read again");
        let other = dir.path().join("other");
        std::fs::write(&other, "{").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(!is_held(), "another file is read");
        let _held = claim(&dir);
        assert!(is_held());
        std::fs::remove_file(&path).unwrap();
        assert!(!is_held());
    }

    #[test]
    fn a_watch_finds_that_a_process_has_died() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = LeaseWatch { leases: leases(&dir), holders: BTreeMap::new() };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        write_lease(&dir, &ProcessId::of(child.id()));
        assert_eq!(watch.held([key()]).unwrap(), BTreeSet::from([key()]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(watch.held([key()]).unwrap(), BTreeSet::new());
    }

    #[test]
    fn a_damaged_lease_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(key().to_string()), "{").unwrap();
        assert!(is_acquired(&claim(&dir)));
    }

    #[test]
    fn a_link_or_a_device_in_place_of_a_lease_is_removed_and_a_folder_is_an_error() {
        use std::os::unix::fs::symlink;
        type Put = fn(&Path);
        let others: [(&str, Put); 4] = [
            ("a dangling link", |path| symlink("nowhere", path).unwrap()),
            ("a link to itself", |path| symlink(path, path).unwrap()),
            ("a device", |path| symlink("/dev/zero", path).unwrap()),
            ("a FIFO", |path| {
                rustix::fs::mkfifoat(CWD, path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap()
            }),
        ];
        for (kind, put) in others {
            let dir = tempfile::tempdir().unwrap();
            put(&dir.path().join(key().to_string()));
            assert_eq!(leases(&dir).holder(key()).unwrap(), None, "{kind}");
            assert!(is_acquired(&claim(&dir)), "{kind}");
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(key().to_string());
        std::fs::create_dir(&folder).unwrap();
        let error = leases(&dir).claim(key(), dir.path()).unwrap_err().to_string();
        assert_eq!(error, format!("cannot remove `{}`", folder.display()));
    }

    #[test]
    fn of_many_claims_at_once_one_acquires_a_stale_lease() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..300 {
            write_lease(&dir, &ProcessId { pid: u32::MAX, ..ProcessId::this().clone() });
            let claims: Vec<Claim> = std::thread::scope(|scope| {
                let claims: Vec<_> = (0..8).map(|_| scope.spawn(|| claim(&dir))).collect();
                claims.into_iter().map(|claim| claim.join().unwrap()).collect()
            });
            assert_eq!(claims.iter().filter(|claim| is_acquired(claim)).count(), 1);
        }
    }
}
