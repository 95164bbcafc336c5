//! Syncs results to disk, and detects results that did not reach the disk.
//!
//! A file that is written and renamed is visible to all processes at once, but reaches the disk up
//! to half a minute later. If the machine loses power before that, an object may keep its name and
//! size, but lose its bytes. Therefore:
//!
//! - The result of a long job ([`SyncPolicy::for_job`](super::local::SyncPolicy::for_job)) is
//!   synced before it is published.
//! - A process syncs the results of all its short jobs at once, before it ends. Until then its
//!   heartbeat file (see `lease.rs`) is in its folder under `tmp/`.
//! - A heartbeat file from before a reboot of its machine, or without a recent heartbeat, means
//!   that the last results of its process may not be on disk. [`Store::recover`] breaks the seal of
//!   every object that changed since shortly before the last heartbeat: each lookup hashes such an
//!   object, as after an edit. Entries contain a checksum, and recipes have their checksum in their
//!   name, so their damage is always detected.
//!
//! `kill -9` loses nothing: the system still writes the data of a dead process to disk.

use super::heartbeat::{EXPIRY, HEARTBEAT};
use super::process::ProcessId;
use super::store::Store;
use crate::engine::key::Digest;
use crate::fs;
use anyhow::Result;
use std::path::Path;
use std::time::SystemTime;

/// Whether the results of a process are on disk.
enum Durability {
    /// The results are on disk, or the process is alive and will sync them.
    Synced,
    /// The process is dead, and the system has not lost power since.
    Pending,
    /// The system may have lost power before it wrote them.
    Unknown,
}

impl Store {
    /// Syncs all results that were published so far to disk.
    pub fn sync(&self) -> Result<()> {
        fs::sync_disk(&self.local.root)
    }

    /// Breaks the seals of objects that may not have reached the disk. Commands call this before
    /// their first lookup.
    pub fn recover(&self) -> Result<()> {
        let tmp = self.path("tmp");
        for name in fs::list(&tmp)? {
            let folder = tmp.join(&name);
            if let Some(process) = ProcessId::from_tag(&name)
                && matches!(self.durability(&process, &folder)?, Durability::Unknown)
            {
                self.break_seals(&folder.join(HEARTBEAT))?;
            }
        }
        Ok(())
    }

    /// Syncs the results of a dead process, or breaks their seals, before its folder is removed.
    pub(super) fn secure_results(&self, process: &ProcessId, folder: &Path) -> Result<()> {
        match self.durability(process, folder)? {
            Durability::Synced => Ok(()),
            Durability::Pending => self.sync(),
            Durability::Unknown => self.break_seals(&folder.join(HEARTBEAT)),
        }
    }

    fn durability(&self, process: &ProcessId, folder: &Path) -> Result<Durability> {
        let heartbeat = folder.join(HEARTBEAT);
        Ok(match process.is_alive() {
            _ if fs::metadata_if_exists(&heartbeat)?.is_none() => Durability::Synced,
            Some(true) => Durability::Synced,
            Some(false) => Durability::Pending,
            None if process.is_of_earlier_boot() => Durability::Unknown,
            None if self.leases().is_beating(&heartbeat, EXPIRY)? => Durability::Synced,
            None => Durability::Unknown,
        })
    }

    /// Breaks the seals of all objects that changed since shortly before the last heartbeat.
    fn break_seals(&self, heartbeat: &Path) -> Result<()> {
        let Some(meta) = fs::metadata_if_exists(heartbeat)? else { return Ok(()) };
        let since = match (meta.modified(), self.witness().settling()) {
            (Ok(beat), Some(settling)) => beat.checked_sub(settling),
            _ => None,
        };
        for digest in self.all_objects()? {
            self.break_seal(digest, since.unwrap_or(SystemTime::UNIX_EPOCH))?;
        }
        // The next loss of power must not restore the seals.
        self.sync()?;
        // If the file cannot be removed, for example because it is another user's, the next command
        // repeats this.
        let _ = fs::remove_if_exists(heartbeat);
        Ok(())
    }

    fn break_seal(&self, digest: Digest, since: SystemTime) -> Result<()> {
        let path = self.object(digest);
        match fs::metadata_if_exists(&path)? {
            Some(meta) if meta.is_file() && fs::changed_at(&meta) >= since => {}
            _ => return Ok(()),
        }
        match fs::touch(&path) {
            // The times of another user's object cannot be set, so it is hashed now, not at the
            // lookup.
            Err(_) if self.is_intact(digest)? => Ok(()),
            touched => touched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::local::SyncPolicy;
    use super::super::store::Lookup;
    use super::*;
    use crate::engine::key::Key;
    use crate::engine::testing::{TestSpace, overwrite, publish};
    use std::path::PathBuf;
    use std::time::Duration;

    /// A result whose object has lost its bytes, but not its name, size and time; and the path of
    /// the object.
    fn hollow(space: &TestSpace) -> (Key, PathBuf) {
        let (key, entry) = publish(&space.store, "k", b"bytes");
        let path = space.store.object(entry.outputs["out"].digest);
        let sealed = std::fs::metadata(&path).unwrap().modified().unwrap();
        overwrite(&path, b"\0\0\0\0\0");
        fs::seal(&path, sealed).unwrap();
        (key, path)
    }

    /// Writes the heartbeat file of `process`, with its last heartbeat at `beat`.
    fn heartbeat(space: &TestSpace, process: &ProcessId, beat: SystemTime) -> PathBuf {
        let file = space.store.path("tmp").join(process.tag()).join(HEARTBEAT);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        for path in [&file, file.parent().unwrap()] {
            std::fs::File::open(path).unwrap().set_modified(beat).unwrap();
        }
        file
    }

    fn rebooted() -> ProcessId {
        ProcessId { boot: "earlier".into(), ..ProcessId::this().clone() }
    }

    #[test]
    fn results_published_shortly_before_a_loss_of_power_are_hashed_before_they_are_used() {
        let space = TestSpace::new();
        let (intact, _) = publish(&space.store, "intact", b"others");
        let (key, path) = hollow(&space);
        assert!(matches!(space.store.lookup(key).unwrap(), Lookup::Hit(_)), "the seal is whole");
        let file = heartbeat(&space, &rebooted(), SystemTime::now());
        space.store.recover().unwrap();
        assert_eq!(space.store.lookup(key).unwrap(), Lookup::Damaged("out".into()));
        assert!(matches!(space.store.lookup(intact).unwrap(), Lookup::Hit(_)));
        assert!(!file.exists(), "one recovery is enough");
        publish(&space.store, "k", b"bytes");
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
        assert!(matches!(space.store.lookup(key).unwrap(), Lookup::Hit(_)));
    }

    #[test]
    fn older_results_are_not_hashed() {
        let space = TestSpace::new();
        let (key, _) = hollow(&space);
        // Makes the results a day older than the heartbeat.
        heartbeat(&space, &rebooted(), SystemTime::now() + Duration::from_secs(24 * 3600));
        space.store.recover().unwrap();
        assert!(matches!(space.store.lookup(key).unwrap(), Lookup::Hit(_)));
    }

    #[test]
    fn seals_are_broken_after_a_reboot_or_without_a_heartbeat() {
        let (this, now) = (ProcessId::this(), SystemTime::now());
        let far = ProcessId { host: "far".into(), machine: "another".into(), ..this.clone() };
        let dead = ProcessId { pid: u32::MAX, ..this.clone() };
        for (process, beat, broken) in [
            (this.clone(), now, false),
            (dead, now, false),
            (rebooted(), now, true),
            (far.clone(), now, false),
            (far, now - 2 * EXPIRY, true),
        ] {
            let space = TestSpace::new();
            let (key, _) = hollow(&space);
            let file = heartbeat(&space, &process, beat);
            space.store.recover().unwrap();
            let is_hit = matches!(space.store.lookup(key).unwrap(), Lookup::Hit(_));
            assert_eq!((is_hit, file.exists()), (!broken, !broken), "{process}");
        }
    }

    #[test]
    fn a_sweep_breaks_seals_before_it_removes_the_heartbeat_file() {
        let dead = ProcessId { pid: u32::MAX, ..ProcessId::this().clone() };
        for (process, broken) in [(rebooted(), true), (dead, false)] {
            let space = TestSpace::new();
            let (key, _) = hollow(&space);
            let file = heartbeat(&space, &process, SystemTime::now() - 2 * EXPIRY);
            space.store.sweep_all();
            assert!(!file.parent().unwrap().exists());
            let is_damaged = matches!(space.store.lookup(key).unwrap(), Lookup::Damaged(_));
            assert_eq!(is_damaged, broken, "{process}");
        }
    }

    #[test]
    fn the_result_of_a_long_job_is_synced_at_once() {
        use SyncPolicy::{Deferred, Immediate};
        let policies = [0.0, 0.999, 1.0, f64::INFINITY].map(SyncPolicy::for_job);
        assert_eq!(policies, [Deferred, Deferred, Immediate, Immediate]);
    }
}
