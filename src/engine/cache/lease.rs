//! Who is at work on which question: a lease is a file `leases/<key>` that names its owner, and it comes and goes whole.
//!
//! A lease holds while its process lives; where that cannot be told, on another host say, while its
//! heartbeat (the file's modification time, moved every ten seconds) is younger than ninety by the
//! clock of the disk they share: no host's own clock counts. A lease that holds no longer is taken
//! over by the next process that claims it. The folder of a process in `tmp/` has the same heartbeat.
//!
//! Leases keep two runs from doing the same work twice. That an answer is published whole does not hang on them.
//! All leases of a process are names of one file in its folder of `tmp/`, its *ticket*: to take one and to give it back
//! makes and removes a name, no file, and one heartbeat is that of all. On a disk without hard links each is a file.
//! `docs/protocol.md` has the whole protocol; `tests/protocol.rs` checks it as a model.

use super::process::ProcessId;
use crate::engine::key::Key;
use crate::{fs, process};
use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};

/// The name of a process's ticket, in its folder of `tmp/`.
pub(crate) const TICKET: &str = "lease";

/// How often a lease says that its owner lives.
const BEAT: Duration = Duration::from_secs(10);
/// After how long without a heartbeat a lease no longer holds whose process nothing can be told of.
pub(crate) const EXPIRY: Duration = Duration::from_secs(90);

/// The leases of a cache.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    /// Where they lie.
    pub folder: PathBuf,
    /// Whether its disk has file locks. Without, two processes that take over one lease at once may both compute.
    pub locks: bool,
}

/// What asking for a lease gives.
#[derive(Debug)]
pub enum Claim {
    /// It is ours until dropped.
    Ours(Lease),
    /// Somebody is at work already.
    Theirs(ProcessId),
}

/// How a lease stands.
enum LeaseState {
    /// There is none.
    Absent,
    /// There is one that no longer holds.
    Stale,
    /// Somebody holds it.
    Held(ProcessId),
}

/// A lease that is held. Given back when dropped.
#[derive(Debug)]
pub struct Lease {
    leases: Leases,
    path: PathBuf,
    /// If it is a file of its own; a name of the ticket has that one's.
    _heart: Option<Heart>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A process that was stopped for long may have lost its lease. It has the turn from its look
        // to the removal, or:
        // 1. it reads its own name, and is stopped again for longer than `EXPIRY`;
        // 2. another process takes the lease over, and begins to compute;
        // 3. it goes on and removes that process's lease, so that a third one computes the same.
        let Ok(_turn) = self.leases.turn() else { return };
        let named = fs::read_if_regular(&self.path).ok().flatten();
        if named.and_then(|bytes| serde_json::from_slice(&bytes).ok()).as_ref()
            == Some(ProcessId::this())
        {
            let _ = fs::remove_if_exists(&self.path);
        }
    }
}

impl Leases {
    fn path(&self, key: Key) -> PathBuf {
        self.folder.join(key.to_string())
    }

    /// Who holds the lease of `key`.
    pub(crate) fn holder(&self, key: Key) -> Result<Option<ProcessId>> {
        Ok(match self.look(key)? {
            LeaseState::Held(process) => Some(process),
            LeaseState::Absent | LeaseState::Stale => None,
        })
    }

    /// Reads the lease of `key`, once.
    fn look(&self, key: Key) -> Result<LeaseState> {
        let path = self.path(key);
        let Some(meta) = fs::metadata_if_exists(&path)? else { return Ok(LeaseState::Absent) };
        if !meta.is_file() {
            // A lease is written whole, so a link or a FIFO is none.
            return Ok(LeaseState::Stale);
        }
        let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(LeaseState::Absent) };
        // One that cannot be read names nobody: leases are written whole.
        let Ok(process) = serde_json::from_slice::<ProcessId>(&bytes) else {
            return Ok(LeaseState::Stale);
        };
        let holds = match process.is_alive() {
            Some(lives) => lives,
            None => self.beats(&path, EXPIRY)?,
        };
        Ok(if holds { LeaseState::Held(process) } else { LeaseState::Stale })
    }

    /// Takes the lease of `key`, unless somebody holds it. The ticket is in `scratch`, a folder on
    /// the same disk whose heart beats ([`Heart::of_process`]).
    pub(crate) fn claim(&self, key: Key, scratch: &Path) -> Result<Claim> {
        loop {
            if let Some(lease) = self.create(self.path(key), scratch)? {
                return Ok(Claim::Ours(lease));
            }
            if let Some(process) = self.holder(key)? {
                return Ok(Claim::Theirs(process));
            }
            self.break_stale(key)?;
        }
    }

    /// Makes the lease at `path`; `None` if there is one.
    fn create(&self, path: PathBuf, scratch: &Path) -> Result<Option<Lease>> {
        let process = || serde_json::to_vec(ProcessId::this()).context("cannot write a lease");
        let ticket = scratch.join(TICKET);
        if fs::metadata_if_exists(&ticket)?.is_none() {
            fs::write_new(&ticket, scratch, &process()?)?;
        }
        // It must be young when it becomes a lease. A process that is stopped between the two has one
        // that is older, as if it had been stopped just afterwards.
        beat(&ticket);
        let (made, heart) = match fs::link_new(&ticket, &path) {
            Ok(made) => (made, None),
            Err(_) => {
                (fs::write_new(&path, scratch, &process()?)?, Some(Heart::of(vec![path.clone()])))
            }
        };
        Ok(made.then(|| Lease { leases: self.clone(), path, _heart: heart }))
    }

    /// Waits for the turn to remove a lease. Only one process has it, so that none removes what
    /// another has just taken over.
    fn turn(&self) -> Result<Option<File>> {
        self.locks.then(|| fs::lock(&self.folder.join("burial"))).transpose()
    }

    /// Removes a lease that no longer holds.
    pub(crate) fn break_stale(&self, key: Key) -> Result<()> {
        let _turn = self.turn()?;
        // One that is not there may be taken at any moment; one that was seen not to hold any longer is replaced only by
        // whoever has the turn.
        match self.look(key)? {
            LeaseState::Stale => fs::remove_if_exists(&self.path(key)),
            LeaseState::Absent | LeaseState::Held(_) => Ok(()),
        }
    }

    /// Whether the heartbeat of `path` is younger than `expiry`. The time is asked of the leases'
    /// own folder, which is there for sure.
    pub(crate) fn beats(&self, path: &Path, expiry: Duration) -> Result<bool> {
        let last = || -> Result<_> {
            Ok(fs::metadata_if_exists(path)?.and_then(|meta| meta.modified().ok()))
        };
        let now = || {
            let now =
                tempfile::tempfile_in(&self.folder).and_then(|file| file.metadata()?.modified());
            now.with_context(|| format!("cannot ask `{}` for the time", self.folder.display()))
        };
        is_young(last, now, expiry)
    }
}

/// Whether the `last` heartbeat is younger than `expiry`; none is not.
fn is_young(
    last: impl Fn() -> Result<Option<SystemTime>>,
    now: impl Fn() -> Result<SystemTime>,
    expiry: Duration,
) -> Result<bool> {
    let Some(seen) = last()? else { return Ok(false) };
    // One from the far future was left before the clock was set back: its owner's next heartbeat
    // would have brought it to now.
    let now = now()?;
    let apart = now.duration_since(seen).unwrap_or_else(|ahead| ahead.duration());
    // This process may itself have been stopped for long between the two; then there has been
    // another heartbeat.
    Ok(apart < expiry || last()?.is_some_and(|last| last != seen))
}

/// "Now", as whoever keeps the disk has it.
const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

/// Moves the modification time of a file or a folder to now. One that is missed costs nothing; after
/// many, others take its owner for dead, and the work is done twice.
fn beat(path: &Path) {
    let _ = utimensat(CWD, path, &NOW, AtFlags::SYMLINK_NOFOLLOW);
}

/// Moves the modification times of files and folders until it is dropped.
#[derive(Debug)]
pub(crate) struct Heart {
    /// Ends the thread when it goes.
    _beating: Sender<()>,
}

impl Heart {
    /// That of a process whose folder in `tmp/` is `scratch`, and of its leases.
    pub(crate) fn of_process(scratch: &Path) -> Heart {
        Heart::of(vec![scratch.to_owned(), scratch.join(TICKET)])
    }

    fn of(paths: Vec<PathBuf>) -> Heart {
        let (beating, ended) = channel();
        // Without a thread there is no heartbeat: on other hosts this process counts as gone before long, and at worst a
        // result is computed twice.
        let _ = process::start_thread(move || {
            while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                paths.iter().for_each(|path| beat(path));
            }
        });
        Heart { _beating: beating }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::key::Recipe;
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use tempfile::TempDir;

    fn key() -> Key {
        let (params, inputs) = (BTreeMap::new(), BTreeMap::new());
        Recipe { kind: "k".into(), version: 1, params, inputs, seed: None }.key()
    }

    fn leases(dir: &TempDir) -> Leases {
        Leases { folder: dir.path().to_owned(), locks: true }
    }

    fn claim(dir: &TempDir) -> Claim {
        leases(dir).claim(key(), dir.path()).unwrap()
    }

    fn is_ours(claim: &Claim) -> bool {
        matches!(claim, Claim::Ours(_))
    }

    fn leave(dir: &TempDir, process: &ProcessId) {
        std::fs::write(dir.path().join(key().to_string()), serde_json::to_vec(process).unwrap())
            .unwrap();
    }

    #[test]
    fn a_lease_is_held_by_one_until_it_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(&dir);
        assert_eq!(leases.holder(key()).unwrap(), None);
        let held = claim(&dir);
        assert!(is_ours(&held));
        assert_eq!(leases.holder(key()).unwrap().as_ref(), Some(ProcessId::this()));
        let Claim::Theirs(process) = claim(&dir) else { panic!("held twice") };
        assert_eq!(process, *ProcessId::this());
        drop(held);
        assert_eq!(leases.holder(key()).unwrap(), None);
        assert!(is_ours(&claim(&dir)));
    }

    #[test]
    fn a_lease_of_a_dead_process_is_taken_over() {
        let this = ProcessId::this();
        for dead in [
            ProcessId { started: this.started + 1, ..this.clone() },
            ProcessId { pid: u32::MAX, ..this.clone() },
        ] {
            let dir = tempfile::tempdir().unwrap();
            leave(&dir, &dead);
            assert_eq!(leases(&dir).holder(key()).unwrap(), None);
            assert!(is_ours(&claim(&dir)), "{dead}");
        }
    }

    #[test]
    fn a_lease_of_another_machine_boot_or_container_holds_while_its_heart_beats() {
        let this = ProcessId::this();
        for other in [
            ProcessId { host: "elsewhere".into(), ..this.clone() },
            ProcessId { machine: "another of this name".into(), pid: u32::MAX, ..this.clone() },
            ProcessId { boot: "earlier".into(), pid: u32::MAX, ..this.clone() },
            ProcessId { namespace: this.namespace + 1, pid: u32::MAX, ..this.clone() },
        ] {
            let dir = tempfile::tempdir().unwrap();
            leave(&dir, &other);
            assert_eq!(leases(&dir).holder(key()).unwrap(), Some(other.clone()));
            let file =
                File::options().write(true).open(dir.path().join(key().to_string())).unwrap();
            for young in [SystemTime::now() - EXPIRY + BEAT, SystemTime::now() + EXPIRY - BEAT] {
                file.set_modified(young).unwrap();
                assert_eq!(leases(&dir).holder(key()).unwrap(), Some(other.clone()));
            }
            let a_century = 100 * 366 * 24 * 3600 * Duration::from_secs(1);
            for old in [
                SystemTime::now() - EXPIRY - BEAT,
                SystemTime::UNIX_EPOCH,
                SystemTime::now() + a_century,
            ] {
                file.set_modified(old).unwrap();
                assert_eq!(leases(&dir).holder(key()).unwrap(), None);
            }
            assert!(is_ours(&claim(&dir)));
        }
    }

    #[test]
    fn a_lease_that_was_taken_over_is_not_removed_by_whoever_lost_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = claim(&dir);
        let other = ProcessId { host: "elsewhere".into(), ..ProcessId::this().clone() };
        leave(&dir, &other);
        drop(held);
        assert_eq!(leases(&dir).holder(key()).unwrap(), Some(other));
    }

    #[test]
    fn from_its_look_to_the_removal_nobody_takes_a_lease_over_from_its_late_owner() {
        let dir = tempfile::tempdir().unwrap();
        let held = claim(&dir);
        let turn = leases(&dir).turn().unwrap();
        let (given_back, ended) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                drop(held);
                given_back.send(()).unwrap();
            });
            assert!(
                ended.recv_timeout(Duration::from_millis(300)).is_err(),
                "it waits for the turn"
            );
            let other = ProcessId { host: "elsewhere".into(), ..ProcessId::this().clone() };
            leave(&dir, &other);
            drop(turn);
            ended.recv().unwrap();
            assert_eq!(leases(&dir).holder(key()).unwrap(), Some(other));
        });
    }

    #[test]
    fn a_process_that_is_stopped_while_it_looks_does_not_take_a_heart_that_beats_for_a_still_one() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let young = |first, now, then| {
            let looks = Cell::new(0);
            let last =
                || Ok(Some(at(if looks.replace(looks.get() + 1) == 0 { first } else { then })));
            is_young(last, || Ok(at(now)), EXPIRY).unwrap()
        };
        assert!(
            young(1_000, 1_000 + 2 * EXPIRY.as_secs(), 1_010),
            "stopped before it asked for the time"
        );
        assert!(young(1_000, 1_001, 1_000 + 2 * EXPIRY.as_secs()), "stopped after that");
        assert!(young(1_000, 1_000 - 2 * EXPIRY.as_secs(), 1_001), "or the clock was set back");
        assert!(!young(1_000, 1_000 + 2 * EXPIRY.as_secs(), 1_000), "no heartbeat has moved it");
        assert!(!is_young(|| Ok(None), || Ok(at(0)), EXPIRY).unwrap());
    }

    #[test]
    fn a_lease_that_cannot_be_read_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(key().to_string()), "{").unwrap();
        assert!(is_ours(&claim(&dir)));
    }

    #[test]
    fn what_is_no_file_in_the_place_of_a_lease_is_removed_or_named_and_nobody_waits_for_it() {
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
        for (what, put) in others {
            let dir = tempfile::tempdir().unwrap();
            put(&dir.path().join(key().to_string()));
            assert_eq!(leases(&dir).holder(key()).unwrap(), None, "{what}");
            assert!(is_ours(&claim(&dir)), "{what}");
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(key().to_string());
        std::fs::create_dir(&folder).unwrap();
        let error = leases(&dir).claim(key(), dir.path()).unwrap_err().to_string();
        assert_eq!(error, format!("cannot remove `{}`", folder.display()));
    }

    #[test]
    fn of_many_who_ask_at_once_one_gets_the_lease_even_of_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..300 {
            leave(&dir, &ProcessId { pid: u32::MAX, ..ProcessId::this().clone() });
            let claims: Vec<Claim> = std::thread::scope(|scope| {
                let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| claim(&dir))).collect();
                asking.into_iter().map(|claim| claim.join().unwrap()).collect()
            });
            assert_eq!(claims.iter().filter(|claim| is_ours(claim)).count(), 1);
        }
    }
}
