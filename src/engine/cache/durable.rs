//! When results reach the disk, and how it is noticed that they have not.
//!
//! A file that is written and renamed is there for every process at once, and on the disk half a
//! minute later. A machine that loses its power before that may keep the name and the size of an
//! object, and none of its bytes. So:
//!
//! - A result that took long ([`Sync::of`](super::store::Sync::of)) is synced before it is published.
//! - Of those that did not, a process syncs all at once, before it ends. Until then its *ticket*
//!   (see `lease.rs`) lies in its folder under `tmp/`, and says so.
//! - A ticket whose machine has been started anew since, or whose heart has stopped, means that its
//!   last results may not have reached the disk. The seal of every object that changed since shortly
//!   before the ticket's last heartbeat is broken: each lookup hashes it, as it does after an edit.
//!   Entries and recipes need no such care: they carry a checksum, or are named by theirs.
//!
//! `kill -9` loses nothing: what a process has written is the system's.

use super::lease::{EXPIRY, TICKET};
use super::process::ProcessId;
use super::store::Store;
use crate::engine::key::Digest;
use crate::fs::{self, Witness};
use anyhow::Result;
use std::path::Path;
use std::time::SystemTime;

/// What has become of the results of a process that left its ticket.
enum Ticket {
    /// The process lives, or has synced them.
    Safe,
    /// They are the system's to write.
    Unsynced,
    /// They may not have reached the disk.
    Doubtful,
}

impl Store {
    /// Hands all results to the disk that were published so far.
    pub fn sync(&self) -> Result<()> {
        fs::sync_disk(&self.root)
    }

    /// Breaks the seals of objects that may not have reached the disk. Commands that look results up
    /// do so first.
    pub fn recover(&self) -> Result<()> {
        let tmp = self.root.join("tmp");
        for name in fs::list(&tmp)? {
            let folder = tmp.join(&name);
            if let Some(process) = ProcessId::from_tag(&name)
                && matches!(self.fate(&process, &folder)?, Ticket::Doubtful)
            {
                self.doubt(&folder.join(TICKET))?;
            }
        }
        Ok(())
    }

    /// Before the folder of a process that is gone is removed: its results are synced, or doubted.
    pub(crate) fn settle(&self, process: &ProcessId, folder: &Path) -> Result<()> {
        match self.fate(process, folder)? {
            Ticket::Safe => Ok(()),
            Ticket::Unsynced => self.sync(),
            Ticket::Doubtful => self.doubt(&folder.join(TICKET)),
        }
    }

    fn fate(&self, process: &ProcessId, folder: &Path) -> Result<Ticket> {
        let ticket = folder.join(TICKET);
        Ok(match process.is_alive() {
            _ if fs::metadata_if_exists(&ticket)?.is_none() => Ticket::Safe,
            Some(true) => Ticket::Safe,
            Some(false) => Ticket::Unsynced,
            None if process.is_of_an_earlier_boot() => Ticket::Doubtful,
            None if self.leases().beats(&ticket, EXPIRY)? => Ticket::Safe,
            None => Ticket::Doubtful,
        })
    }

    /// Breaks the seals of all objects that are not much older than the last heartbeat of `ticket`.
    fn doubt(&self, ticket: &Path) -> Result<()> {
        let Some(meta) = fs::metadata_if_exists(ticket)? else { return Ok(()) };
        let since = match (meta.modified(), Witness::at(&self.root).settling()) {
            (Ok(beat), Some(settling)) => {
                beat.checked_sub(settling).unwrap_or(SystemTime::UNIX_EPOCH)
            }
            _ => SystemTime::UNIX_EPOCH,
        };
        for digest in self.all_objects()? {
            self.break_seal(digest, since)?;
        }
        // Else the next loss of power would take back what was just found out.
        self.sync()?;
        // One that cannot be removed, another user's say, costs the next command the same once more.
        let _ = fs::remove_if_exists(ticket);
        Ok(())
    }

    fn break_seal(&self, digest: Digest, since: SystemTime) -> Result<()> {
        let path = self.object(digest);
        match fs::metadata_if_exists(&path)? {
            Some(meta) if meta.is_file() && fs::changed_at(&meta) >= since => {}
            _ => return Ok(()),
        }
        match fs::touch(&path) {
            // Another user's, say: its bytes tell now what they would have told later.
            Err(_) if self.is_sound(digest)? => Ok(()),
            touched => touched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::{Lookup, Sync};
    use super::*;
    use crate::engine::testing::{TestSpace, overwrite, publish};
    use std::path::PathBuf;
    use std::time::Duration;

    /// A result whose object has lost its bytes, but not its name, size and time; with what it was.
    fn hollow(bench: &TestSpace) -> (crate::engine::key::Key, PathBuf) {
        let (key, entry) = publish(&bench.store, "k", b"bytes");
        let path = bench.store.object(entry.outputs["out"].digest);
        let sealed = std::fs::metadata(&path).unwrap().modified().unwrap();
        overwrite(&path, b"\0\0\0\0\0");
        fs::seal(&path, sealed).unwrap();
        (key, path)
    }

    /// Leaves the ticket of `owner`, whose heart beat last at `beat`.
    fn leave(bench: &TestSpace, process: &ProcessId, beat: SystemTime) -> PathBuf {
        let ticket = bench.store.root.join("tmp").join(process.tag()).join(TICKET);
        fs::create_dir_all(ticket.parent().unwrap()).unwrap();
        fs::write(&ticket, "").unwrap();
        for path in [&ticket, ticket.parent().unwrap()] {
            std::fs::File::open(path).unwrap().set_modified(beat).unwrap();
        }
        ticket
    }

    fn restarted() -> ProcessId {
        ProcessId { boot: "earlier".into(), ..ProcessId::this().clone() }
    }

    #[test]
    fn what_was_published_shortly_before_a_loss_of_power_is_hashed_before_it_is_used() {
        let bench = TestSpace::new();
        let (sound, _) = publish(&bench.store, "sound", b"others");
        let (key, path) = hollow(&bench);
        assert!(matches!(bench.store.lookup(key).unwrap(), Lookup::Hit(_)), "nothing shows it");
        let ticket = leave(&bench, &restarted(), SystemTime::now());
        bench.store.recover().unwrap();
        assert_eq!(bench.store.lookup(key).unwrap(), Lookup::Damaged("out".into()));
        assert!(matches!(bench.store.lookup(sound).unwrap(), Lookup::Hit(_)));
        assert!(!ticket.exists(), "once is enough");
        publish(&bench.store, "k", b"bytes");
        assert_eq!(fs::read(&path).unwrap(), b"bytes");
        assert!(matches!(bench.store.lookup(key).unwrap(), Lookup::Hit(_)), "it is made anew");
    }

    #[test]
    fn what_had_reached_the_disk_long_before_is_not_hashed() {
        let bench = TestSpace::new();
        let (key, _) = hollow(&bench);
        // As if the results were a day old.
        leave(&bench, &restarted(), SystemTime::now() + Duration::from_secs(24 * 3600));
        bench.store.recover().unwrap();
        assert!(matches!(bench.store.lookup(key).unwrap(), Lookup::Hit(_)));
    }

    #[test]
    fn results_are_in_doubt_if_their_machine_has_been_started_anew_or_its_heart_stands_still() {
        let (this, now) = (ProcessId::this(), SystemTime::now());
        let far = ProcessId { host: "far".into(), machine: "another".into(), ..this.clone() };
        let gone = ProcessId { pid: u32::MAX, ..this.clone() };
        for (process, beat, doubted) in [
            (this.clone(), now, false),
            (gone, now, false),
            (restarted(), now, true),
            (far.clone(), now, false),
            (far, now - 2 * EXPIRY, true),
        ] {
            let bench = TestSpace::new();
            let (key, _) = hollow(&bench);
            let ticket = leave(&bench, &process, beat);
            bench.store.recover().unwrap();
            let is_hit = matches!(bench.store.lookup(key).unwrap(), Lookup::Hit(_));
            assert_eq!((is_hit, ticket.exists()), (!doubted, !doubted), "{process}");
        }
    }

    #[test]
    fn a_sweep_doubts_results_before_it_removes_what_shows_that_they_are_in_doubt() {
        for (process, doubted) in
            [(restarted(), true), (ProcessId { pid: u32::MAX, ..ProcessId::this().clone() }, false)]
        {
            let bench = TestSpace::new();
            let (key, _) = hollow(&bench);
            let ticket = leave(&bench, &process, SystemTime::now() - 2 * EXPIRY);
            bench.store.sweep_all();
            assert!(!ticket.parent().unwrap().exists());
            assert_eq!(
                matches!(bench.store.lookup(key).unwrap(), Lookup::Damaged(_)),
                doubted,
                "{process}"
            );
        }
    }

    #[test]
    fn a_recipe_that_a_loss_of_power_left_empty_is_none_and_is_written_again() {
        let bench = TestSpace::new();
        let (key, _) = publish(&bench.store, "k", b"bytes");
        fs::write(&bench.store.recipe_path(key), "").unwrap();
        assert!(bench.store.recipe(key).unwrap().is_none());
        publish(&bench.store, "k", b"bytes");
        assert!(bench.store.recipe(key).unwrap().is_some());
    }

    #[test]
    fn a_job_that_took_long_is_synced_at_once() {
        assert_eq!(
            [0.0, 0.999, 1.0, f64::INFINITY].map(Sync::of),
            [Sync::Later, Sync::Later, Sync::Now, Sync::Now]
        );
    }
}
