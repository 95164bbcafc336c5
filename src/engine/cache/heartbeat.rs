//! Heartbeats: how a process shows other hosts that it is alive.
//!
//! The heartbeat of a process is the modification time of its files, updated every ten seconds. An
//! observer compares it with what it saw before, by its own monotonic clock: a heartbeat that has
//! changed is alive, and one that has not changed for [`EXPIRY`] is dead. Clocks of hosts are never
//! compared.
//!
//! Only the first look needs the time of the disk, to know the age of a heartbeat: that of a new
//! file. It is read once, and again before a heartbeat counts as dead because of it: the disk's
//! clock may have been set meanwhile. Later looks create no file.

use crate::{fs, process};
use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The name of a process's heartbeat file, in its folder of `tmp/`.
pub(super) const HEARTBEAT: &str = "heartbeat";

/// The interval of heartbeats.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// The age of a heartbeat at which a process that may be alive counts as dead. Longer than an
/// interval and the minute for which NFS may show old times of a file.
pub(super) const EXPIRY: Duration = Duration::from_secs(90);

/// What this process has seen of the heartbeats of others.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(Mutex<Observed>);

#[derive(Debug, Default)]
struct Observed {
    /// The last looks.
    seen: BTreeMap<PathBuf, Look>,
    /// A time of the disk, and when it was read.
    clock: Option<(SystemTime, Instant)>,
}

/// A look at a heartbeat.
#[derive(Clone, Copy, Debug)]
struct Look {
    last: SystemTime,
    /// Its age when it was first seen.
    age: Duration,
    /// When that was.
    at: Instant,
}

impl Look {
    /// A heartbeat that has just changed.
    fn new(last: SystemTime) -> Look {
        Look { last, age: Duration::ZERO, at: Instant::now() }
    }
}

impl Heartbeats {
    /// Whether the heartbeat of `path` is younger than `expiry`; not if there is none. The time of
    /// the disk is that of a new file in `folder`, on the same disk.
    pub(super) fn is_beating(&self, path: &Path, folder: &Path, expiry: Duration) -> Result<bool> {
        let last = || -> Result<_> {
            Ok(fs::metadata_if_exists(path)?.and_then(|meta| meta.modified().ok()))
        };
        let time = || {
            let time = tempfile::tempfile_in(folder).and_then(|file| file.metadata()?.modified());
            time.with_context(|| format!("cannot read the time of `{}`", folder.display()))
        };
        self.is_young(path, last, time, expiry)
    }

    /// Whether the `last` heartbeat of `path` is younger than `expiry`. `time` reads the time of
    /// the disk.
    fn is_young(
        &self,
        path: &Path,
        last: impl Fn() -> Result<Option<SystemTime>>,
        time: impl Fn() -> Result<SystemTime>,
        expiry: Duration,
    ) -> Result<bool> {
        let Some(first) = last()? else {
            self.observed().seen.remove(path);
            return Ok(false);
        };
        let known = self.observed().seen.get(path).copied();
        let seen = match known {
            Some(seen) if seen.last == first => seen,
            Some(_) => Look::new(first),
            None => self.first_look(first, time)?,
        };
        self.remember(path, seen);
        if seen.age.saturating_add(seen.at.elapsed()) < expiry {
            return Ok(true);
        }
        // This process may have been stopped between the first call and the look at a clock; a new
        // heartbeat shows that.
        match last()? {
            Some(again) if again != first => {
                self.remember(path, Look::new(again));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// A heartbeat that this process has not seen before.
    fn first_look(&self, last: SystemTime, time: impl Fn() -> Result<SystemTime>) -> Result<Look> {
        let clock = self.observed().clock;
        let age_at = |(time, read): (SystemTime, Instant)| {
            let at = Instant::now();
            let now = time + at.duration_since(read);
            let age = match now.duration_since(last) {
                Ok(age) => age,
                // The process has beaten since the time was read.
                Err(ahead) if ahead.duration() < EXPIRY => Duration::ZERO,
                // A heartbeat in the far future is from before the clock was set back. A live
                // process would have updated it since.
                Err(ahead) => ahead.duration(),
            };
            Look { last, age, at }
        };
        if let Some(seen) = clock.map(age_at).filter(|seen| seen.age < EXPIRY) {
            return Ok(seen);
        }
        let clock = (time()?, Instant::now());
        self.observed().clock = Some(clock);
        Ok(age_at(clock))
    }

    fn remember(&self, path: &Path, seen: Look) {
        self.observed().seen.insert(path.to_owned(), seen);
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The current time, by the clock of the disk.
const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

/// Sets the modification time of a file or a folder to now. A single failure has no effect. After
/// many failures, other processes consider this one dead, and compute its keys again.
pub(super) fn beat(path: &Path) {
    let _ = utimensat(CWD, path, &NOW, AtFlags::SYMLINK_NOFOLLOW);
}

/// Updates the modification times of files and folders until it is dropped.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// Dropping the sender ends the thread.
    _stop: Sender<()>,
}

impl Heartbeat {
    /// The heartbeat of a process, whose folder in `tmp/` is `scratch`, and of its leases.
    pub(super) fn of_process(scratch: &Path) -> Heartbeat {
        Heartbeat::of(vec![scratch.to_owned(), scratch.join(HEARTBEAT)])
    }

    pub(super) fn of(paths: Vec<PathBuf>) -> Heartbeat {
        let (stop, stopped) = channel();
        // Without the thread there is no heartbeat: other hosts then consider this process dead,
        // and at worst compute its keys again.
        let _ = process::start_thread(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                paths.iter().for_each(|path| beat(path));
            }
        });
        Heartbeat { _stop: stop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const PATH: &str = "lease";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Two long intervals without a heartbeat.
    const LONG: u64 = 2 * EXPIRY.as_secs();

    impl Heartbeats {
        /// Whether a heartbeat `last`, seen at the time `now` of the disk, is young.
        fn look(&self, last: u64, now: u64) -> bool {
            self.is_young(Path::new(PATH), || Ok(Some(at(last))), || Ok(at(now)), EXPIRY).unwrap()
        }

        /// The same later, when the disk's time is not needed.
        fn look_again(&self, last: u64) -> bool {
            let time = || panic!("it created a file");
            self.is_young(Path::new(PATH), || Ok(Some(at(last))), time, EXPIRY).unwrap()
        }

        /// Lets time pass, as if the last looks had been earlier.
        fn pass(&self, seconds: u64) {
            let time = Duration::from_secs(seconds);
            let mut observed = self.observed();
            for seen in observed.seen.values_mut() {
                seen.at = seen.at.checked_sub(time).unwrap();
            }
            observed.clock = observed
                .clock
                .map(|(time_then, read)| (time_then, read.checked_sub(time).unwrap()));
        }
    }

    #[test]
    fn the_first_look_uses_the_time_of_the_disk() {
        let case = |last, now| Heartbeats::default().look(last, now);
        assert!(case(1_000, 1_000 + EXPIRY.as_secs() - 1));
        assert!(!case(1_000, 1_000 + EXPIRY.as_secs()));
        assert!(case(1_000 + EXPIRY.as_secs() - 1, 1_000), "the clock was set back a little");
        assert!(!case(1_000 + LONG, 1_000), "no live process has beaten since");
    }

    #[test]
    fn later_looks_create_no_file_and_compare_no_clocks() {
        let beats = Heartbeats::default();
        assert!(beats.look(1_000, 1_050));
        beats.pass(EXPIRY.as_secs() - 51);
        assert!(beats.look_again(1_000), "its age was 50 s at the first look");
        beats.pass(2);
        assert!(!beats.look_again(1_000));
        assert!(!beats.look_again(1_000), "nothing has changed");
        assert!(beats.look_again(1), "it has changed, and the clock of the disk was set back");
        beats.pass(EXPIRY.as_secs() - 1);
        assert!(beats.look_again(1));
        beats.pass(1);
        assert!(!beats.look_again(1));
    }

    #[test]
    fn the_time_of_the_disk_is_read_once_for_many_live_processes() {
        let (beats, reads) = (Heartbeats::default(), Cell::new(0));
        let look = |path: &str, last| {
            let time = || {
                reads.set(reads.get() + 1);
                Ok(at(1_000))
            };
            beats.is_young(Path::new(path), || Ok(Some(at(last))), time, EXPIRY).unwrap()
        };
        assert!((0..100).all(|number| look(&number.to_string(), 1_000 - number % 10)));
        assert_eq!(reads.get(), 1);
        beats.pass(3600);
        assert!(!look("dead", 900), "the time was read an hour ago, and is read again");
        assert_eq!(reads.get(), 2);
        assert!(look("new", 1_000));
        assert_eq!(reads.get(), 2);
    }

    #[test]
    fn a_clock_that_was_set_after_it_was_read_makes_no_live_process_dead() {
        let beats = Heartbeats::default();
        assert!(beats.look(1_000, 1_000));
        for now in [1_000 + 100 * LONG, 1] {
            let other = Path::new("other");
            let young = beats.is_young(other, || Ok(Some(at(now))), || Ok(at(now)), EXPIRY);
            assert!(young.unwrap(), "at {now}");
            beats.observed().seen.remove(other);
        }
    }

    #[test]
    fn a_process_that_was_stopped_while_it_read_a_heartbeat_does_not_miss_the_next_one() {
        let young = |first, now, then| {
            let reads = Cell::new(0);
            let last =
                || Ok(Some(at(if reads.replace(reads.get() + 1) == 0 { first } else { then })));
            Heartbeats::default().is_young(Path::new(PATH), last, || Ok(at(now)), EXPIRY).unwrap()
        };
        assert!(young(1_000, 1_000 + LONG, 1_010), "stopped before it read the time");
        assert!(young(1_000, 1_001, 1_000 + LONG), "stopped after that");
        assert!(young(1_000, 1_000 - LONG, 1_001), "the clock was set back");
        assert!(!young(1_000, 1_000 + LONG, 1_000), "there was no heartbeat");
        // The same at a later look.
        let beats = Heartbeats::default();
        assert!(beats.look(1_000, 1_000));
        beats.pass(LONG);
        let reads = Cell::new(0);
        let last = || Ok(Some(at(1_000 + reads.replace(10))));
        assert!(beats.is_young(Path::new(PATH), last, || panic!(), EXPIRY).unwrap());
    }

    #[test]
    fn without_a_file_there_is_no_heartbeat_and_nothing_to_remember() {
        let beats = Heartbeats::default();
        assert!(beats.look(1_000, 1_000));
        assert!(!beats.is_young(Path::new(PATH), || Ok(None), || Ok(at(0)), EXPIRY).unwrap());
        assert!(beats.observed().seen.is_empty());
    }
}
